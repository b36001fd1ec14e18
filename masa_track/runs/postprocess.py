"""Postprocessing of tracks when the video is over: short gaps filled, boxes smoothed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from masa_track.errors import InputError
from masa_track.formats.run import Run


def fill_gaps(
    frames: np.ndarray, ids: np.ndarray, boxes: np.ndarray, longest: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fills the gaps of tracks by linear interpolation of their boxes.

    Args:
        frames: (N,) whole numbers.
        ids: (N,) identities, each at most once in a frame.
        boxes: (N, 4) of any form whose numbers may be interpolated (xyxy, xywh).
        longest: the largest number of missing frames in a gap that is filled.

    Returns:
        ``frames``, ``ids`` and ``boxes`` of N + K rows, sorted by frame, then by identity.

    Raises:
        InputError: for shapes that do not fit, or an identity twice in a frame.
    """
    frames, ids, boxes = _checked(frames, ids, boxes)
    order = np.lexsort((frames, ids))
    frames, ids, boxes = frames[order], ids[order], boxes[order]
    missing = np.where(ids[1:] == ids[:-1], np.diff(frames) - 1, 0)
    starts = np.flatnonzero((missing > 0) & (missing <= longest))
    start = np.repeat(starts, missing[starts])  # (K,) the row before the gap
    first = np.repeat(np.cumsum(missing[starts]) - missing[starts], missing[starts])
    step = np.arange(len(start)) - first + 1
    part = (step / (frames[start + 1] - frames[start]))[:, None] if len(start) else np.zeros((0, 1))
    between = boxes[start] + part * (boxes[start + 1] - boxes[start]) if len(start) else np.zeros((0, 4))
    frames, ids = np.concatenate((frames, frames[start] + step)), np.concatenate((ids, ids[start]))
    boxes = np.concatenate((boxes, between))
    order = np.lexsort((ids, frames))
    return frames[order], ids[order], boxes[order]


def smooth(frames: np.ndarray, ids: np.ndarray, boxes: np.ndarray, width: float) -> np.ndarray:
    """Smooths each track's boxes by lines fitted with Gaussian weights, so that boxes of constant velocity do not lag.

    Args:
        frames: (N,) whole numbers.
        ids: (N,) identities, each at most once in a frame.
        boxes: (N, 4).
        width: standard deviation of the weights in frames, above 0.

    Returns:
        (N, 4) boxes in the order given.

    Raises:
        InputError: for shapes that do not fit, an identity twice in a frame, or a width of 0 or less.

    Source: Cleveland, Robust locally weighted regression, 1979 (a line fitted at each point).
    """
    frames, ids, boxes = _checked(frames, ids, boxes)
    if not width > 0:
        raise InputError(f"width must be above 0 frames, got {width}")
    smoothed = boxes.copy()
    for identity in np.unique(ids).tolist():
        rows = np.flatnonzero(ids == identity)
        rows = rows[np.argsort(frames[rows])]
        times, places = frames[rows].astype(np.float64), boxes[rows]
        for at, row in enumerate(rows.tolist()):
            near = slice(*np.searchsorted(times, [times[at] - 3 * width, times[at] + 3 * width]).tolist())
            offset = times[near] - times[at]
            weight = np.exp(-0.5 * (offset / width) ** 2)
            total, mean = weight.sum(), (weight * offset).sum() / weight.sum()
            spread = (weight * (offset - mean) ** 2).sum()
            middle = weight @ places[near] / total
            if spread > 1e-9:
                slope = (weight * (offset - mean)) @ places[near] / spread
                middle = middle - slope * mean
            smoothed[row] = middle
    return smoothed


def _checked(frames: np.ndarray, ids: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    frames, ids, boxes = np.asarray(frames, np.int64), np.asarray(ids, np.int64), np.asarray(boxes, np.float64)
    if frames.ndim != 1 or ids.shape != frames.shape or boxes.shape != (len(frames), 4):
        raise InputError(
            f"frames and ids must be (N,) and boxes (N, 4), got {frames.shape}, {ids.shape} and {boxes.shape}"
        )
    if len(np.unique(np.stack((frames, ids)), axis=1).T) != len(frames):
        raise InputError("ids must be at most once in a frame each, got one twice")
    return frames, ids, boxes


def postprocess(run: Run, gap_seconds: float = 0.0, smooth_seconds: float = 0.0) -> Run:
    """Fills gaps and smooths boxes; filled boxes are interpolated between those before and after the gap.

    Args:
        run: as read.
        gap_seconds: gaps of at most this duration are filled, in the tracked frames; 0 fills none. A
            filled box has the class and the score of the one before the gap, and no mask.
        smooth_seconds: standard deviation in seconds of the weights with which boxes are averaged; 0 leaves the boxes.
            Masks stay as they are.

    Returns:
        A run of the same frames and identities.
    """
    frames, ids, boxes = run.frames[run.rows], run.ids, run.boxes
    filled, new_ids, new_boxes = fill_gaps(frames, ids, boxes, int(gap_seconds * run.fps + 1e-6))
    tracked = np.isin(filled, run.frames)
    filled, new_ids, new_boxes = filled[tracked], new_ids[tracked], new_boxes[tracked]
    if smooth_seconds > 0:
        new_boxes = smooth(filled, new_ids, new_boxes, smooth_seconds * run.fps)
    # The row that each comes from: of its identity the last that is not later.
    order = np.lexsort((frames, ids))
    span = int(run.frames[-1]) + 1
    _, own = np.unique(np.concatenate((ids, new_ids)), return_inverse=True)
    keys = own[: len(ids)][order] * span + frames[order]
    source = order[np.searchsorted(keys, own[len(ids) :] * span + filled, side="right") - 1]
    masks = run.masks
    if masks:
        measured = filled == frames[source]
        pairs = zip(source.tolist(), measured.tolist(), strict=True)
        masks = tuple(run.masks[i] if kept else None for i, kept in pairs)
    return replace(
        run,
        rows=np.searchsorted(run.frames, filled),
        ids=new_ids,
        classes=run.classes[source],
        boxes=new_boxes,
        scores=run.scores[source],
        masks=masks,
    )
