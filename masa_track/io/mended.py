"""A finished run with its short gaps filled and its boxes smoothed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from masa_track.association.offline import fill_gaps, smooth
from masa_track.io.runs import Run


def mended(run: Run, gap_seconds: float = 0.0, smooth_seconds: float = 0.0) -> Run:
    """Fills and smooths; what tracks went through unseen comes from the boxes before and after.

    Args:
        run: as read.
        gap_seconds: a gap that lacks so much or less is filled, in the frames that were looked at; 0 fills none. A
            filled box has the class and the score of the one before the gap, and no mask.
        smooth_seconds: each box becomes an average over some of so many seconds to both sides; 0 leaves the boxes.
            Masks stay as they are.

    Returns:
        A run of the same frames and identities.
    """
    frames, ids, boxes = run.frames[run.rows], run.ids, run.boxes
    filled, new_ids, new_boxes = fill_gaps(frames, ids, boxes, int(gap_seconds * run.fps + 1e-6))
    looked_at = np.isin(filled, run.frames)
    filled, new_ids, new_boxes = filled[looked_at], new_ids[looked_at], new_boxes[looked_at]
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
