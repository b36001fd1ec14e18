"""The offline pass: what can be improved on tracks when the whole video has been tracked.

:func:`finish` runs the steps in order, each of which is a function of its own:

0. :func:`show_births`: a confirmed track gets the boxes that it had while it was tentative.
1. :func:`real_tracks`: false tracks are dropped, by the rank of their scores in the video and by their length.
2. :func:`smooth`: boxes are smoothed by local lines.
3. :func:`fill_gaps`: short gaps are filled by linear interpolation.

Arrays have a row per box. Identities are as the online tracker gave them; none is changed or joined.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from masa_track.contracts import TrackEvent
from masa_track.errors import InputError

CENTRE_SECONDS = 0.2  # standard deviation of the weights that smooth centres
SIZE_SECONDS = 0.6  # the same for widths and heights, which change more slowly
FILL_SECONDS = 1.0  # the longest gap that is filled
_ROUNDED = 0.05  # frames by which times may be off as files round them
_REACH = 3.0  # standard deviations after which a weight counts as 0
# A logistic model of "at least half of the track's boxes are of one true object", fitted by tools/fit_offline.py.
LONG_SECONDS = 5.0  # longer tracks are never dropped
SURE_SCORE = 0.8  # tracks of this mean score are never dropped


class RealTracks(NamedTuple):
    """The odds that a track is real: ``features @ weights + bias`` nats, features as of :func:`track_features`."""

    weights: tuple[float, ...]
    bias: float


# Fitted by tools/fit_offline.py --draws 3. On clips that it was not fitted on, real_tracks tells 76 % of 2,014 tracks
# right and keeps 1,280 of 1,336 real ones; IDF1 +.009 and HOTA +.004 in the mean, no clip worse by more than .001.
REAL_TRACKS = RealTracks((0.20, 3.88, 2.62), 0.88)


class Finished(NamedTuple):
    """Finished tracks, sorted by frame, then by identity.

    Attributes:
        frames: (M,) int64.
        ids: (M,) int64.
        boxes: (M, 4) float64 xyxy.
        source: (M,) int64, the row that was given; of a filled box the last row of its track before the gap.
        filled: (M,) bool, boxes that were not detected.
        smoothed: (M,) bool, detected boxes that were smoothed.
    """

    frames: np.ndarray
    ids: np.ndarray
    boxes: np.ndarray
    source: np.ndarray
    filled: np.ndarray
    smoothed: np.ndarray


def finish(
    frames: np.ndarray,
    ids: np.ndarray,
    boxes: np.ndarray,
    scores: np.ndarray,
    fps: float,
    *,
    tracked: np.ndarray | None = None,
    times: np.ndarray | None = None,
    cuts: np.ndarray | None = None,
    model: RealTracks | None = REAL_TRACKS,
    centre_seconds: float = CENTRE_SECONDS,
    size_seconds: float = SIZE_SECONDS,
    fill_seconds: float = FILL_SECONDS,
) -> Finished:
    """Finishes the tracks of a whole video: drops false ones, smooths boxes, fills gaps.

    Rows that a track had while it was tentative may be among those given, with the identity that it got later:
    :func:`show_births` finds them.

    Args:
        frames: (N,) whole numbers of frames.
        ids: (N,) identities, each at most once in a frame.
        boxes: (N, 4) xyxy pixels.
        scores: (N,) of the detections.
        fps: frames a second that ``frames`` count.
        tracked: (F,) the frames that were tracked, where they are not all: gaps are filled in these alone.
        times: (F,) seconds of the frames in ``tracked``, rising; None: they follow each other by 1 / ``fps``.
        cuts: (C,) first frames of new shots: nothing is smoothed or filled across a cut.
        model: tells real tracks from false ones, which are dropped, see :func:`real_tracks`; None drops none.
        centre_seconds: standard deviation of the weights that smooth centres; with ``size_seconds`` of 0 nothing is
            smoothed.
        size_seconds: the same for widths and heights.
        fill_seconds: the longest gap that is filled; 0 fills none.

    Returns:
        The rows of the finished tracks, with marks.

    Raises:
        InputError: for shapes that do not fit, an identity twice in a frame, or an ``fps`` of 0 or less.

    Example:
        >>> done = finish([1, 2, 4], [7, 7, 7], [[0, 0, 9, 9], [1, 0, 10, 9], [3, 0, 12, 9]], [.9, .9, .9], fps=25)
        >>> done.frames.tolist(), done.filled.tolist()
        ([1, 2, 3, 4], [False, False, True, False])
    """
    frames, ids, boxes = checked_rows(frames, ids, boxes)
    scores = np.asarray(scores, np.float64)
    if scores.shape != frames.shape:
        raise InputError(f"scores must be (N,) as frames, got {scores.shape} and {frames.shape}")
    if not fps > 0:
        raise InputError(f"fps must be above 0, got {fps}")
    clock = None if times is None or tracked is None else uneven(tracked, times, fps)
    kept = np.arange(len(ids))
    if model is not None:
        kept = np.flatnonzero(real_tracks(at_clock(frames, tracked, clock), ids, scores, fps, model))
    source = kept[np.lexsort((ids[kept], frames[kept]))]
    frames, ids, boxes = frames[source], ids[source], boxes[source]
    shots = within_shots(frames, ids, cuts)
    seen = boxes
    if centre_seconds > 0 and size_seconds > 0:
        at = None if clock is None else at_clock(frames, tracked, clock)
        boxes = smooth(frames, shots, boxes, centre_seconds * fps, size_seconds * fps, at)
    smoothed = moved(seen, boxes)
    filled = fill_gaps(frames, shots, boxes, whole_frames(fill_seconds, fps), tracked, clock)
    order = np.lexsort((ids[filled.source], filled.frames))
    rows = filled.source[order]
    added = filled.filled[order]
    return Finished(filled.frames[order], ids[rows], filled.boxes[order], source[rows], added, smoothed[rows] & ~added)


def moved(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """(N,) bool, boxes (N, 4) that differ by more than what files round."""
    return (np.abs(after - before) > 5e-4).any(axis=1)


def uneven(tracked: np.ndarray, times: np.ndarray, fps: float) -> np.ndarray | None:
    """The times of frames in units of 1 / ``fps``, where the frame rate varies; None where it does not.

    Args:
        tracked: (F,) numbers of frames, rising.
        times: (F,) their seconds.
        fps: the mean number of frames a second.
    """
    units = np.asarray(times, np.float64) * fps
    if not len(units):
        return None
    even = np.asarray(tracked, np.float64)
    apart = (units - units[0]) - (even - even[0])
    return units if np.abs(apart).max() > _ROUNDED else None


def at_clock(frames: np.ndarray, tracked: np.ndarray | None, clock: np.ndarray | None) -> np.ndarray:
    """(N,) the times of frames by the clock of :func:`uneven`; without one, the frames themselves."""
    return frames if clock is None or tracked is None else np.interp(frames, tracked, clock)


def whole_frames(seconds: float, fps: float) -> int:
    """The number of whole frames in a time; a time of exactly k frames has k."""
    return int(seconds * fps + 1e-6)


def show_births(ids: list[np.ndarray], numbers: Iterable[int], events: Iterable[TrackEvent]) -> list[np.ndarray]:
    """Gives the rows that tracks had while they were tentative the identities that these tracks got later.

    Args:
        ids: F times (N,) identities of each frame's rows; -1 for none.
        numbers: F numbers of these frames, as the engine counts them.
        events: what happened in these frames; those of kind ``born`` name earlier rows.

    Returns:
        F times (N,) identities, new arrays.
    """
    shown = [np.array(one) for one in ids]
    place = {number: i for i, number in enumerate(numbers)}
    for event in events:
        for number, row in event.earlier:
            if number in place:
                shown[place[number]][row] = event.identity
    return shown


def track_features(
    frames: np.ndarray, ids: np.ndarray, scores: np.ndarray, fps: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What :func:`real_tracks` knows of each track.

    Args:
        frames: (N,) whole numbers.
        ids: (N,) identities.
        scores: (N,).
        fps: frames a second that ``frames`` count.

    Returns:
        (N,) each row's track, an index into the T tracks in order of identities; (T, 3) features: log of the duration
        in seconds, mean and largest rank of its scores among all rows (-.5 to .5, equal scores share their mean rank);
        and (T,) mean scores.
    """
    _, rows, count = np.unique(ids, return_inverse=True, return_counts=True)
    _, same, copies = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(copies) - 0.5 * copies)[same] / max(len(scores), 1) - 0.5
    order = np.argsort(rows, kind="stable")
    starts = np.cumsum(count) - count
    first, last, best = (
        of.reduceat(values[order], starts)
        for of, values in ((np.minimum, frames), (np.maximum, frames), (np.maximum, ranks))
    )
    features = np.log((last - first + 1) / fps), np.bincount(rows, ranks) / count, best
    return rows, np.stack(features, axis=1), np.bincount(rows, scores) / count


def real_tracks(
    frames: np.ndarray, ids: np.ndarray, scores: np.ndarray, fps: float, model: RealTracks = REAL_TRACKS
) -> np.ndarray:
    """Which rows are of tracks that probably follow an object, and not a detector's mistakes.

    A track is dropped if its odds are below 0. As ranks are relative, and the lowest of good scores is no mistake, a
    track stays if it is longer than :data:`LONG_SECONDS` or has a mean score of :data:`SURE_SCORE` or more.

    Args:
        frames: (N,) whole numbers.
        ids: (N,) identities.
        scores: (N,) of the detections; where all are equal, their ranks mean nothing, and no track is dropped.
        fps: frames a second that ``frames`` count.
        model: the odds by the features.

    Returns:
        (N,) bool.
    """
    if not len(scores) or np.ptp(scores) == 0:
        return np.ones(len(scores), bool)
    rows, features, mean_scores = track_features(frames, ids, scores, fps)
    kept = (features[:, 0] > np.log(LONG_SECONDS)) | (mean_scores >= SURE_SCORE)
    return (kept | (features @ model.weights + model.bias > 0))[rows]


def within_shots(frames: np.ndarray, ids: np.ndarray, cuts: np.ndarray | None) -> np.ndarray:
    """(N,) numbers that are equal for rows of the same identity in the same shot; ``cuts`` are (C,) first frames."""
    shots = np.searchsorted(np.unique(np.asarray(() if cuts is None else cuts, np.int64)), frames, side="right")
    return np.unique(np.stack((ids, shots), axis=1), axis=0, return_inverse=True)[1].reshape(-1)


class Filled(NamedTuple):
    """Rows of tracks and of their filled gaps, sorted by frame, then by identity.

    Attributes:
        frames: (M,) int64.
        ids: (M,) int64.
        boxes: (M, 4) float64.
        source: (M,) int64, the row that was given; of a filled one the last of its identity before the gap.
        filled: (M,) bool.
    """

    frames: np.ndarray
    ids: np.ndarray
    boxes: np.ndarray
    source: np.ndarray
    filled: np.ndarray


def fill_gaps(
    frames: np.ndarray,
    ids: np.ndarray,
    boxes: np.ndarray,
    longest: int,
    tracked: np.ndarray | None = None,
    clock: np.ndarray | None = None,
) -> Filled:
    """Fills the gaps of tracks by linear interpolation of their boxes.

    Args:
        frames: (N,) whole numbers.
        ids: (N,) identities, each at most once in a frame.
        boxes: (N, 4) of any form whose numbers may be interpolated (xyxy, xywh).
        longest: the largest number of missing frames in a gap that is filled.
        tracked: (F,) frames in which gaps are filled; None: in all.
        clock: (F,) times of these frames, in mean distances of frames: where the frame rate varies, a gap is as long
            as its time, and a box moves with time. None: the numbers of frames are the times.

    Returns:
        N + K rows.

    Raises:
        InputError: for shapes that do not fit, or an identity twice in a frame.
    """
    frames, ids, boxes = checked_rows(frames, ids, boxes)
    order = np.lexsort((frames, ids))
    in_order, boxes_in_order = frames[order], boxes[order]
    missing = np.where(np.diff(ids[order]) == 0, np.diff(in_order) - 1, 0)
    at = at_clock(in_order, tracked, clock)
    lasts = missing if clock is None else np.append(np.diff(at), 0)[: len(missing)] - 1 - 1e-6
    gaps = np.flatnonzero((missing > 0) & (lasts <= longest))
    start = np.repeat(gaps, missing[gaps])  # (K,) the row before the gap
    first = np.repeat(np.cumsum(missing[gaps]) - missing[gaps], missing[gaps])
    step = np.arange(len(start)) - first + 1
    if tracked is not None:
        there = np.isin(in_order[start] + step, tracked)
        start, step = start[there], step[there]
    end = np.minimum(start + 1, len(order) - 1)
    passed = at_clock(in_order[start] + step, tracked, clock) - at[start]
    part = (passed / np.maximum(at[end] - at[start], 1e-9))[:, None]
    between = boxes_in_order[start] + part * (boxes_in_order[end] - boxes_in_order[start])
    source = np.concatenate((np.arange(len(ids)), order[start]))
    all_frames = np.concatenate((frames, in_order[start] + step))
    filled = np.arange(len(source)) >= len(ids)
    place = np.lexsort((ids[source], all_frames))
    return Filled(
        all_frames[place], ids[source[place]], np.concatenate((boxes, between))[place], source[place], filled[place]
    )


def smooth(
    frames: np.ndarray,
    ids: np.ndarray,
    boxes: np.ndarray,
    width: float,
    size_width: float | None = None,
    times: np.ndarray | None = None,
) -> np.ndarray:
    """Smooths each track's boxes by lines fitted with Gaussian weights, so that boxes of constant velocity do not lag.

    Args:
        frames: (N,) whole numbers.
        ids: (N,) identities, each at most once in a frame.
        boxes: (N, 4) xyxy.
        width: standard deviation in frames of the weights for centres, above 0.
        size_width: the same for widths and heights; None: as ``width``.
        times: (N,) of the rows, in mean distances of frames; None: the numbers of frames.

    Returns:
        (N, 4) boxes in the order given.

    Raises:
        InputError: for shapes that do not fit, an identity twice in a frame, or a width of 0 or less.

    Source: Cleveland, Robust locally weighted regression, 1979 (a line fitted at each point).
    """
    frames, ids, boxes = checked_rows(frames, ids, boxes)
    size_width = width if size_width is None else size_width
    for name, value in (("width", width), ("size_width", size_width)):
        if not value > 0:
            raise InputError(f"{name} must be above 0 frames, got {value}")
    order = np.lexsort((frames, ids))
    of, at = ids[order], (frames if times is None else times)[order]
    sizes = boxes[order, 2:] - boxes[order, :2]
    centres = _local_lines(of, at, boxes[order, :2] + 0.5 * sizes, width)
    halves = _local_lines(of, at, 0.5 * sizes, size_width)
    halves = np.where(halves > 0, halves, 0.5 * sizes)  # a line may fall below 0 where sizes fall quickly
    smoothed = np.empty_like(boxes)
    smoothed[order] = np.concatenate((centres - halves, centres + halves), axis=1)
    return smoothed


def _local_lines(ids: np.ndarray, times: np.ndarray, values: np.ndarray, width: float) -> np.ndarray:
    """(N, D) values at their own times on lines fitted to those of the same identity; rows sorted by identity, time."""
    total, first, second = np.ones(len(ids)), np.zeros(len(ids)), np.zeros(len(ids))  # sums of w, w d, w d^2
    change, moment = np.zeros(values.shape), np.zeros(values.shape)  # sums of w (v - own v), w d (v - own v)
    for apart in range(1, len(ids)):
        passed = times[apart:] - times[:-apart]
        near = np.flatnonzero((ids[apart:] == ids[:-apart]) & (passed <= _REACH * width))
        if not len(near):
            break
        d = passed[near].astype(np.float64)
        w = np.exp(-0.5 * (d / width) ** 2)
        step = values[near + apart] - values[near]
        for here, sign in ((near, 1.0), (near + apart, -1.0)):
            total[here] += w
            first[here] += sign * w * d
            second[here] += w * d**2
            change[here] += sign * w[:, None] * step
            moment[here] += (w * d)[:, None] * step
    spread = total * second - first**2
    line = (second[:, None] * change - first[:, None] * moment) / np.maximum(spread, 1e-9)[:, None]
    return values + np.where((spread > 1e-9)[:, None], line, change / total[:, None])


def checked_rows(frames: np.ndarray, ids: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The arrays as int64, int64 and float64.

    Raises:
        InputError: for shapes that do not fit, or an identity twice in a frame.
    """
    frames, ids, boxes = np.asarray(frames, np.int64), np.asarray(ids, np.int64), np.asarray(boxes, np.float64)
    if frames.ndim != 1 or ids.shape != frames.shape or boxes.shape != (len(frames), 4):
        raise InputError(
            f"frames and ids must be (N,) and boxes (N, 4), got {frames.shape}, {ids.shape} and {boxes.shape}"
        )
    order = np.lexsort((frames, ids))
    if ((np.diff(ids[order]) == 0) & (np.diff(frames[order]) == 0)).any():
        raise InputError("ids must be at most once in a frame each, got one twice")
    return frames, ids, boxes
