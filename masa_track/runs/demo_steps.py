"""Post-processing of a finished run as by default in the video demo of MASA's authors, step by step.

Its three steps, in this order:

- ``giants``: removes tracks that have a box which covers many other objects, or most of the picture.
- ``boxes``: each box becomes the mean of those of 5 frames.
- ``scores``: each score becomes the mean of the track's.

The last two work on the parts of a track without a gap: boxes of consecutive tracked frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from masa_track.association.offline import moved
from masa_track.errors import InputError, unknown_name
from masa_track.formats.run import Run

STEPS = ("giants", "boxes", "scores")
WINDOW = 5  # tracked frames of which boxes are a mean; shorter parts stay as they are
_GIANT_AREA = 10_000.0  # square pixels from which a box can be a giant
_CONFIDENT = 0.2  # other boxes count above this score
_COVERED = 0.75  # of the other box's area
_FEW, _MANY = 4, 6  # covered boxes: so many remove a box that scores less than all confident ones; more than 6 any box
_MOST_OF_PICTURE = 2 / 3


def parse_steps(text: str) -> tuple[str, ...]:
    """``"boxes,giants"`` as steps in their order; ``"demo"`` for all three.

    Raises:
        InputError: for another name.
    """
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in ("demo", *STEPS):
            raise unknown_name("step in --post", name, ["demo", *STEPS])
    return tuple(step for step in STEPS if "demo" in names or step in names)


def demo_run(run: Run, steps: Sequence[str] = STEPS) -> Run:
    """The run after some of the steps.

    Args:
        run: of online tracks.
        steps: of :data:`STEPS`; they are done in the order of that list.

    Returns:
        A run of the same frames. Averaged boxes are marked as smoothed; masks stay as they are.

    Raises:
        InputError: the run's tracks are finished already.
    """
    if run.filled.any() or run.smoothed.any():
        raise InputError(f"{run.path} holds finished tracks: leave out --post, or add --online")
    if "giants" in steps:
        giants = giant_tracks(run.rows, run.ids, run.boxes, run.scores, run.width * run.height)
        kept = np.flatnonzero(~np.isin(run.ids, giants))
        run = replace(
            run,
            **{name: getattr(run, name)[kept] for name in ("rows", "ids", "classes", "boxes", "scores")},
            **{name: getattr(run, name)[kept] for name in ("filled", "smoothed")},
            masks=tuple(run.masks[row] for row in kept.tolist()) if run.masks else run.masks,
            tree=tuple(run.tree[row] for row in kept.tolist()) if run.tree else (),
        )
    parts = _parts(run.rows, run.ids)
    if "boxes" in steps:
        boxes = np.round(_averaged(run.boxes, parts), 3)  # as tracks.json has them
        run = replace(run, boxes=boxes, smoothed=moved(run.boxes, boxes))
    if "scores" in steps:
        scores = run.scores.copy()
        for part in parts:
            scores[part] = scores[part].mean()
        run = replace(run, scores=scores)
    return run


def giant_tracks(
    rows: np.ndarray, ids: np.ndarray, boxes: np.ndarray, scores: np.ndarray, picture_area: float
) -> np.ndarray:
    """Identities of tracks that have a giant box in any frame.

    A giant has 10,000 square pixels or more, there is another box in its frame that scores more than .2, and one of
    these is true, "covered" being boxes of such scores with more than three quarters of their area inside it: 4 or more
    are covered, and all boxes of such scores have better scores than it; more than 6 are covered; it has more than two
    thirds of the picture's area.

    Args:
        rows: (N,) numbers of frames, rising.
        ids: (N,) identities.
        boxes: (N, 4) xyxy pixels.
        scores: (N,).
        picture_area: square pixels.

    Returns:
        (M,) identities, each once.
    """
    areas = np.maximum(boxes[:, 2:] - boxes[:, :2], 0).prod(axis=1)
    found = []
    for row in np.flatnonzero(areas >= _GIANT_AREA).tolist():
        start, stop = np.searchsorted(rows, [rows[row], rows[row] + 1])
        others = np.arange(start, stop)
        others = others[(others != row) & (scores[others] > _CONFIDENT)]
        if not len(others):
            continue
        low = np.maximum(boxes[row, :2], boxes[others, :2])
        high = np.minimum(boxes[row, 2:], boxes[others, 2:])
        inside = np.maximum(high - low, 0).prod(axis=1)
        covered = np.count_nonzero(inside > _COVERED * areas[others])
        weakest = bool((scores[row] < scores[others]).all())
        if (covered >= _FEW and weakest) or covered > _MANY or areas[row] > _MOST_OF_PICTURE * picture_area:
            found.append(ids[row])
    return np.unique(np.array(found, np.int64))


def _parts(rows: np.ndarray, ids: np.ndarray) -> list[np.ndarray]:
    """Indices of each track's boxes, in one array for each part without a gap, in the order of frames."""
    order = np.lexsort((rows, ids))
    breaks = np.flatnonzero((np.diff(ids[order]) != 0) | (np.diff(rows[order]) != 1)) + 1
    return [part for part in np.split(order, breaks) if len(part)]


def _averaged(boxes: np.ndarray, parts: Sequence[np.ndarray]) -> np.ndarray:
    """Boxes (N, 4), each a mean over the window around it; the first and the last of a part count several times."""
    averaged, half = boxes.copy(), WINDOW // 2
    for part in parts:
        if len(part) >= WINDOW:
            padded = np.pad(boxes[part], ((half, half), (0, 0)), mode="edge")
            averaged[part] = np.lib.stride_tricks.sliding_window_view(padded, WINDOW, axis=0).mean(axis=-1)
    return averaged
