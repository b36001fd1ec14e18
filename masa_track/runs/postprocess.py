"""Postprocessing of a finished run: the offline pass, or filled gaps and smoothed boxes alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from masa_track.association.offline import at_clock, fill_gaps, finish, moved, smooth, uneven, whole_frames
from masa_track.errors import InputError
from masa_track.formats.run import Run


def finish_run(run: Run) -> Run:
    """The offline pass, :func:`masa_track.association.offline.finish`, over a run.

    Args:
        run: of online tracks, read with ``births=True``.

    Returns:
        A run of the same frames. A filled box has the class and the score of the one before the gap, and no mask.
        Smoothed boxes keep their masks.

    Raises:
        InputError: the run's tracks are finished already.
    """
    if run.filled.any() or run.smoothed.any():
        raise InputError(f"{run.path} holds finished tracks: leave out --finish, or add --online")
    rows = run.frames[run.rows], run.ids, run.boxes, run.scores
    done = finish(*rows, run.fps, tracked=run.frames, times=run.times, cuts=run.cuts)
    return _changed(run, done.frames, done.boxes, done.source, done.filled, done.smoothed)


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
    clock = uneven(run.frames, run.times, run.fps)
    longest = whole_frames(gap_seconds, run.fps)
    done = fill_gaps(run.frames[run.rows], run.ids, run.boxes, longest, run.frames, clock)
    boxes = done.boxes
    if smooth_seconds > 0:
        times = at_clock(done.frames, run.frames, clock)
        boxes = smooth(done.frames, done.ids, done.boxes, smooth_seconds * run.fps, times=times)
    smoothed = moved(done.boxes, boxes) | run.smoothed[done.source] & ~done.filled
    return _changed(run, done.frames, boxes, done.source, done.filled | run.filled[done.source], smoothed)


def _changed(
    run: Run, frames: np.ndarray, boxes: np.ndarray, source: np.ndarray, filled: np.ndarray, smoothed: np.ndarray
) -> Run:
    """The run with rows made of the rows ``source`` (M,), sorted by frame."""
    masks = run.masks
    if masks:
        pairs = zip(source.tolist(), filled.tolist(), strict=True)
        masks = tuple(None if new else masks[row] for row, new in pairs)
    return replace(
        run,
        rows=np.searchsorted(run.frames, frames),
        ids=run.ids[source],
        classes=run.classes[source],
        boxes=np.round(boxes, 3),  # as tracks.json has them
        scores=run.scores[source],
        masks=masks,
        tree=tuple(run.tree[row] for row in source.tolist()) if run.tree else (),
        filled=filled,
        smoothed=smoothed,
    )
