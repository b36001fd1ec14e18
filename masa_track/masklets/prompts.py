"""Prompts: their checks, scribbles, and masks made of them by GrabCut, without a network."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from masa_track.boxes import box_iou
from masa_track.checks import as_floats, check_finite
from masa_track.contracts import Prompt
from masa_track.errors import InputError
from masa_track.masks import as_mask

_BOX_ROUNDS, _POINT_ROUNDS = 1, 3  # of GrabCut; from boxes of DAVIS, J is .63 after one round and .55 after five
_CLICK = 0.008  # radius of what a point certainly covers, in diagonals of the picture
_REACH, _PART = 0.06, 0.5  # a correcting point changes the mask within .06 diagonals, or .5 x sqrt(area of the mask)
_SIZES = (0.06, 0.12, 0.03)  # radii of the discs from which candidates start, where there are points only; best first
_MARGIN = 0.3  # of a box's size: the background around it that is looked at
_TIGHT = 0.6  # IoU of a prompted box and the box around GrabCut's mask from which that mask is preferred


def check_prompt(prompt: Prompt, size: tuple[int, int]) -> Prompt:
    """A prompt with all arrays in one form.

    Args:
        prompt: as the caller gave it.
        size: (width, height) of the picture.

    Returns:
        The prompt with points (P, 2) float32 and positive (P,) bool or both None, box (4,) float32 within the picture
        or None, mask (H, W) bool or None.

    Raises:
        InputError: nothing is prompted, a mask comes with points or a box, shapes do not fit, a point or the box is
            outside the picture, or one point is both positive and negative.
    """
    points, positive = _check_points(prompt, size)
    box = None if prompt.box is None else _check_box(prompt.box, size)
    mask = None if prompt.mask is None else as_mask(prompt.mask, size, "prompt.mask")
    if points is None and box is None and mask is None:
        raise InputError("the prompt is empty: give points, a box or a mask; to remove an object call forget()")
    if mask is not None and (points is not None or box is not None):
        raise InputError("a prompt has a mask, or points and a box, not both: give the mask first, then correct it")
    return Prompt(points, positive, box, mask, prompt.clear)


def _check_points(prompt: Prompt, size: tuple[int, int]) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Points (P, 2) float32 and positive (P,) bool; None where there are no points."""
    points = as_floats("prompt.points", () if prompt.points is None else prompt.points)
    if not points.size:
        points = points.reshape(0, 2)
    if points.ndim != 2 or points.shape[1] != 2:
        raise InputError(f"prompt.points must be (P, 2) x, y in pixels, got {points.shape}")
    given = np.ones(len(points), bool) if prompt.positive is None else np.asarray(prompt.positive)
    if given.shape != (len(points),) or not np.isin(given, (0, 1)).all():
        raise InputError(
            f"prompt.positive must be ({len(points)},) bool, one for each of the points, got {prompt.positive!r:.60}"
        )
    if not len(points):
        return None, None
    positive = given.astype(bool)
    for x, y in points.tolist():
        if not (0 <= x < size[0] and 0 <= y < size[1]):
            raise InputError(
                f"prompt.points must be in the picture of {size[0]} x {size[1]} pixels, got {x:g}, {y:g}: "
                "give pixels of this frame"
            )
    pixels = points.astype(int)
    both = set(map(tuple, pixels[positive].tolist())) & set(map(tuple, pixels[~positive].tolist()))
    if both:
        raise InputError(f"the point {min(both)} is both positive and negative: leave one of them out")
    return points, positive


def _check_box(box: Any, size: tuple[int, int]) -> np.ndarray:
    """(4,) float32 xyxy, cut to the picture."""
    checked = as_floats("prompt.box", box).reshape(-1)
    if checked.shape != (4,):
        raise InputError(f"prompt.box must be (4,) xyxy pixels, got {np.shape(box)}")
    check_finite("prompt.box", checked[None])
    cut = np.clip(checked, 0, np.array([*size, *size], np.float32))
    if cut[2] - cut[0] < 1 or cut[3] - cut[1] < 1:
        raise InputError(
            f"prompt.box must cover a pixel of the picture of {size[0]} x {size[1]}, got {checked.tolist()}: "
            "give x1, y1, x2, y2 with x1 < x2 and y1 < y2"
        )
    return cut


def sample_scribble(vertices: np.ndarray, spacing: float = 8.0) -> np.ndarray:
    """Points along a scribble.

    Args:
        vertices: (V, 2) x, y of a line from vertex to vertex, pixels.
        spacing: pixels between points.

    Returns:
        (P, 2) float32, the first and the last vertex among them.

    Raises:
        InputError: for another shape, no vertex, or a spacing that is not above 0.
    """
    line = as_floats("vertices", vertices)
    if line.ndim != 2 or line.shape[1] != 2 or not len(line):
        raise InputError(f"vertices must be (V, 2) x, y in pixels, at least one, got {line.shape}")
    check_finite("vertices", line)
    if not spacing > 0:
        raise InputError(f"spacing must be above 0 pixels, got {spacing!r}")
    along = np.concatenate(([0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))))
    at = np.linspace(0, along[-1], max(1, int(np.ceil(along[-1] / spacing)) + 1))
    return np.stack([np.interp(at, along, line[:, axis]) for axis in (0, 1)], axis=1).astype(np.float32)


def masks_of_prompt(image: np.ndarray, prompt: Prompt, before: np.ndarray | None) -> list[np.ndarray]:
    """Candidate masks of a prompt without mask.

    Args:
        image: (h, w, 3) uint8 BGR.
        prompt: checked, in pixels of this image.
        before: (h, w) bool, the object's mask in this frame, which points correct; None: there is none.

    Returns:
        (h, w) bool masks, all different, the most likely first. Each holds the positive points and no negative one.
    """
    if prompt.box is not None:
        found = _masks_of_box(image, prompt, prompt.box)
    elif before is not None and before.any():
        found = [_corrected(image, prompt, before)]
    else:
        found = [_mask_of_points(image, prompt, size) for size in _SIZES]
    inside, outside = clicks(prompt, image.shape[:2])
    unique: list[np.ndarray] = []
    for mask in found:
        forced = (mask | inside) & ~outside
        if not any((forced == other).all() for other in unique):
            unique.append(forced)
    return unique


def clicks(prompt: Prompt, shape: tuple[int, ...], radius: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """(h, w) bool pixels within ``radius`` of positive points, and of negative ones; at least the points' own pixels.

    What is near both belongs to the nearer one's kind only in so far as the other does not cover it.
    """
    kinds = np.zeros((2, *shape[:2]), np.uint8)
    if prompt.points is not None and prompt.positive is not None:
        for (x, y), positive in zip(prompt.points.astype(int).tolist(), prompt.positive.tolist(), strict=True):
            cv2.circle(kinds[0 if positive else 1], (x, y), round(radius), 1, -1)
    return (kinds[0] & ~kinds[1] & 1).astype(bool), (kinds[1] & ~kinds[0] & 1).astype(bool)


def _masks_of_box(image: np.ndarray, prompt: Prompt, box: np.ndarray) -> list[np.ndarray]:
    """GrabCut in the box, an ellipse in it, all of it; the ellipse comes first where GrabCut's mask is not as wide."""
    height, width = image.shape[:2]
    x1, y1 = np.floor(box[:2]).astype(int)
    x2, y2 = np.ceil(box[2:]).astype(int)
    y, x = np.mgrid[:height, :width]
    inside = (x >= x1) & (x < x2) & (y >= y1) & (y < y2)
    across, along = (x + 0.5 - (x1 + x2) / 2) / ((x2 - x1) / 2), (y + 0.5 - (y1 + y2) / 2) / ((y2 - y1) / 2)
    shapes = [across**2 + along**2 <= 1, inside]
    labels = np.where(inside, cv2.GC_PR_FGD, cv2.GC_BGD).astype(np.uint8)
    cut = _grabcut(image, labels, prompt, _region(box, image.shape, _MARGIN * (box[2:] - box[:2])), _BOX_ROUNDS)
    if cut is None or not cut.any():
        return shapes
    rows, columns = np.nonzero(cut)
    reached = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], np.float32)
    tight = float(box_iou(reached, np.array([[x1, y1, x2, y2]], np.float32))[0, 0]) >= _TIGHT
    return [cut, *shapes] if tight else [shapes[0], cut, shapes[1]]


def _mask_of_points(image: np.ndarray, prompt: Prompt, size: float) -> np.ndarray:
    """What is like the discs around the positive points and connected with a point."""
    radius = size * float(np.hypot(*image.shape[:2]))
    near, avoided = clicks(prompt, image.shape, radius)
    far, _ = clicks(prompt, image.shape, 2.5 * radius)
    core, _ = clicks(prompt, image.shape)
    if not near.any():
        return core
    labels = np.where(near, cv2.GC_PR_FGD, np.where(far & ~avoided, cv2.GC_PR_BGD, cv2.GC_BGD)).astype(np.uint8)
    rows, columns = np.nonzero(far | avoided)
    around = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], np.float32)
    cut = _grabcut(image, labels, prompt, _region(around, image.shape, np.full(2, radius)))
    return near if cut is None else _touched(cut, core)


def _corrected(image: np.ndarray, prompt: Prompt, before: np.ndarray) -> np.ndarray:
    """The mask with pieces added that hold a positive point, and pieces removed that hold a negative one."""
    radius = max(_REACH * float(np.hypot(*image.shape[:2])), _PART * float(np.sqrt(before.sum())))
    wanted, unwanted = clicks(prompt, image.shape, radius)
    labels = np.where(before, cv2.GC_PR_FGD, cv2.GC_BGD).astype(np.uint8)
    labels[wanted & ~before] = cv2.GC_PR_FGD
    labels[unwanted & before] = cv2.GC_PR_BGD
    rows, columns = np.nonzero(before | wanted | unwanted)
    around = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], np.float32)
    cut = _grabcut(image, labels, prompt, _region(around, image.shape, np.full(2, radius)))
    inside, outside = clicks(prompt, image.shape, _CLICK * float(np.hypot(*image.shape[:2])))
    if cut is None:
        return (before | inside) & ~outside
    added = _touched((cut | inside) & ~before & wanted, inside)
    removed = _touched((~cut | outside) & before & unwanted, outside)
    return (before | added) & ~removed


def _touched(mask: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """The connected pieces of ``mask`` that hold a pixel of ``seeds``."""
    count, pieces = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    kept = np.zeros(count, bool)
    kept[pieces[seeds & mask]] = True
    kept[0] = False
    return np.asarray(kept[pieces])


def _region(box: np.ndarray, shape: tuple[int, ...], margin: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of a box (4,) with a margin (2,) along x and y, at least 8 pixels."""
    margin = np.maximum(margin, 8)
    x1, y1 = np.maximum(np.floor(box[:2] - margin), 0).astype(int)
    x2, y2 = np.ceil(box[2:] + margin).astype(int)
    return slice(y1, min(y2, shape[0])), slice(x1, min(x2, shape[1]))


def _grabcut(
    image: np.ndarray, labels: np.ndarray, prompt: Prompt, region: tuple[slice, slice], rounds: int = _POINT_ROUNDS
) -> np.ndarray | None:
    """The object's pixels by GrabCut (Rother et al., SIGGRAPH 2004), of OpenCV.

    Args:
        image: (h, w, 3) uint8 BGR.
        labels: (h, w) uint8, OpenCV's labels of sure and probable pixels, the points not among them.
        prompt: its points are sure.
        region: rows and columns that are looked at; the rest is background.
        rounds: of fitting colours and cutting.

    Returns:
        (h, w) bool; None if there are no pixels of the object or no pixels of the background.
    """
    inside, outside = clicks(prompt, image.shape, _CLICK * float(np.hypot(*image.shape[:2])))
    part = labels[region].copy()
    part[inside[region]], part[outside[region]] = cv2.GC_FGD, cv2.GC_BGD
    foreground = (part == cv2.GC_FGD) | (part == cv2.GC_PR_FGD)
    if min(foreground.sum(), (~foreground).sum()) < 8:  # five colours of each are modelled
        return None
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)  # its k-means draws from OpenCV's generator: the same prompt gives the same mask
    cv2.grabCut(np.ascontiguousarray(image[region]), part, (0, 0, 1, 1), *models, rounds, cv2.GC_INIT_WITH_MASK)
    mask = np.zeros(image.shape[:2], bool)
    mask[region] = (part == cv2.GC_FGD) | (part == cv2.GC_PR_FGD)
    return mask
