"""Where things go: a view is one homography of its photograph, and all that moves, moves by it.

Coordinates are continuous pixels: pixel (i, j) covers [j, j + 1) x [i, i + 1), as boxes have it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from masa_track.training.settings import Range, ViewSettings

PAD = 114  # grey, as the reference pads
HALF = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])  # from OpenCV's coordinates, of pixels' centres, to ours


@dataclass
class Placed:
    """An instance in a view, or a region in its photograph.

    Attributes:
        id: the same in both views.
        x: column of the mask's left edge.
        y: row of the mask's top edge.
        mask: (h, w) uint8 of 0 and 1: the pixels that are seen.
        whole: pixels that would be seen if nothing were cut off or covered.
    """

    id: int
    x: int
    y: int
    mask: np.ndarray
    whole: float


@dataclass(frozen=True)
class Pose:
    """What the two views of a photograph have in common.

    Attributes:
        flip: mirrored left to right.
        place: (2,) in 0..1, which part is seen: this point of the photograph comes to this point of the view.
    """

    flip: bool
    place: np.ndarray


def draw_poses(rng: np.random.Generator, settings: ViewSettings) -> tuple[Pose, Pose]:
    """The poses of both views."""
    flips = rng.random() < settings.flip_both
    apart = rng.random() < settings.flip_one
    place = rng.random(2)
    moved = np.clip(place + rng.uniform(-settings.drift, settings.drift, 2), 0, 1)
    return Pose(flips, place), Pose(flips != apart, moved)


def draw_homography(
    rng: np.random.Generator, settings: ViewSettings, source: tuple[int, int], view: tuple[int, int], pose: Pose
) -> np.ndarray:
    """A random way to see a photograph.

    Args:
        rng: the source of all chance.
        settings: how strongly.
        source: (height, width) of the photograph.
        view: (height, width) of the view.
        pose: what this view shares with the other one.

    Returns:
        (3, 3) float64, from the photograph's pixels to the view's.
    """
    h, w = source
    scale = min(view[0] / h, view[1] / w) * rng.uniform(*settings.zoom)
    stretch = np.sqrt(np.exp(rng.uniform(-1, 1) * np.log(settings.stretch)))
    size = np.array([w * scale * stretch, h * scale / stretch])
    angle = np.radians(rng.uniform(-settings.rotation, settings.rotation))
    slant = np.tan(np.radians(rng.uniform(-settings.shear, settings.shear)))
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32) - 0.5
    shifts = rng.uniform(-settings.perspective, settings.perspective, (4, 2)).astype(np.float32)
    unit = np.array([[1 / w, 0, -0.5], [0, 1 / h, -0.5], [0, 0, 1]])
    bend = cv2.getPerspectiveTransform(corners, corners + shifts) if settings.perspective else np.eye(3)
    sides = np.diag([-size[0] if pose.flip else size[0], size[1], 1])
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    shear = np.array([[1, slant, 0], [0, 1, 0], [0, 0, 1]])
    place = np.array([1 - pose.place[0] if pose.flip else pose.place[0], pose.place[1]])
    centre = (np.array([view[1], view[0]]) - size) * place + size / 2
    return shifted(turn @ shear @ sides @ bend @ unit, *centre)


def draw_patch_homography(
    rng: np.random.Generator, settings: ViewSettings, region: Placed, view: tuple[int, int], sizes: Range
) -> np.ndarray:
    """A random place for one region: anywhere in the view, its area's root drawn from ``sizes`` (parts of the view's).

    Returns:
        (3, 3) float64, from the region's photograph to the view.
    """
    h, w = region.mask.shape
    scale = np.sqrt(view[0] * view[1] / max(region.whole, 1)) * rng.uniform(*sizes)
    angle = np.radians(rng.uniform(-settings.rotation, settings.rotation))
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = np.eye(3)
    matrix[:2, :2] = turn
    matrix[:2, 2] = rng.random(2) * view[::-1] - turn @ [region.x + w / 2, region.y + h / 2]
    return matrix


def shifted(matrix: np.ndarray, x: float, y: float) -> np.ndarray:
    """The homography, followed by a move to the right by x and down by y."""
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]]) @ matrix


def move_points(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (N, 2) x, y through a homography."""
    moved = np.column_stack((points, np.ones(len(points)))) @ matrix.T
    return moved[:, :2] / moved[:, 2:]


def growth(matrix: np.ndarray, x: float, y: float) -> float:
    """By what factor areas grow around a point."""
    depth = float(matrix[2] @ (x, y, 1))
    return float(abs(np.linalg.det(matrix)) / abs(depth) ** 3)


def warp(image: np.ndarray, matrix: np.ndarray, size: tuple[int, int], pad: int = PAD) -> np.ndarray:
    """An image seen through a homography.

    Args:
        image: (H, W, 3) or (H, W) uint8.
        matrix: (3, 3), from the image's pixels to the result's.
        size: (height, width) of the result.
        pad: what is seen beside the image.

    Returns:
        ``size`` and the image's channels, uint8.
    """
    h, w = image.shape[:2]
    scale = np.sqrt(growth(matrix, w / 2, h / 2))
    if scale < 0.7:  # bilinear sampling would skip pixels: averaged down first
        small = max(1, round(w * scale)), max(1, round(h * scale))
        image = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
        matrix = matrix @ np.diag([w / small[0], h / small[1], 1])
    matrix = np.linalg.inv(HALF) @ matrix @ HALF
    border = (pad,) * (image.shape[2] if image.ndim == 3 else 1)
    if abs(matrix[2, 0]) + abs(matrix[2, 1]) < 1e-12:
        affine = matrix[:2] / matrix[2, 2]
        return cv2.warpAffine(image, affine, size[::-1], flags=cv2.INTER_LINEAR, borderValue=border)
    return cv2.warpPerspective(image, matrix, size[::-1], flags=cv2.INTER_LINEAR, borderValue=border)


def move_region(region: Placed, matrix: np.ndarray, size: tuple[int, int]) -> Placed | None:
    """A region seen through a homography; only the part of the view around it is computed.

    Args:
        region: in its photograph.
        matrix: (3, 3), from the photograph to the view.
        size: (height, width) of the view.

    Returns:
        The region in the view; None if none of its pixels is in it.
    """
    h, w = region.mask.shape
    left, top, right, bottom = region.x, region.y, region.x + w, region.y + h
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    moved = move_points(matrix, corners)
    x1, y1 = np.maximum(np.floor(moved.min(axis=0)), 0).astype(int)
    x2, y2 = np.minimum(np.ceil(moved.max(axis=0)), size[::-1]).astype(int)
    if x2 <= x1 or y2 <= y1:
        return None
    local = shifted(matrix, -x1, -y1) @ shifted(np.eye(3), region.x, region.y)
    mask = (warp(region.mask * np.uint8(255), local, (y2 - y1, x2 - x1), pad=0) > 127).view(np.uint8)
    whole = region.whole * growth(matrix, region.x + w / 2, region.y + h / 2)
    return tightened(Placed(region.id, int(x1), int(y1), mask, whole))


def tightened(instance: Placed) -> Placed | None:
    """The same with its mask cut to the pixels that are seen; None if there are none."""
    x, y, w, h = cv2.boundingRect(instance.mask)
    if not w:
        return None
    mask = instance.mask[y : y + h, x : x + w]
    return Placed(instance.id, instance.x + x, instance.y + y, mask, instance.whole)


def cover(instances: Sequence[Placed], x: int, y: int, mask: np.ndarray) -> None:
    """Takes away the pixels that something in front covers.

    Args:
        instances: their masks are replaced where they change.
        x: column of the cover's left edge.
        y: row of its top edge.
        mask: (h, w) uint8 of 0 and 1, the cover.
    """
    h, w = mask.shape
    for instance in instances:
        ih, iw = instance.mask.shape
        x1, y1 = max(x, instance.x), max(y, instance.y)
        x2, y2 = min(x + w, instance.x + iw), min(y + h, instance.y + ih)
        if x1 < x2 and y1 < y2:
            seen = instance.mask.copy()
            part = seen[y1 - instance.y : y2 - instance.y, x1 - instance.x : x2 - instance.x]
            part[mask[y1 - y : y2 - y, x1 - x : x2 - x] > 0] = 0
            instance.mask = seen


def visible(instances: Sequence[Placed], settings: ViewSettings) -> list[Placed]:
    """The instances of which enough is left, cut to what is seen."""
    kept = []
    for instance in instances:
        pixels = int(np.count_nonzero(instance.mask))
        if pixels and pixels >= settings.min_area and pixels >= settings.min_visible * instance.whole:
            tight = tightened(instance)
            assert tight is not None
            kept.append(tight)
    return kept
