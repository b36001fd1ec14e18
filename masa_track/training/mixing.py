"""What comes into a view from elsewhere: another photograph shining through, pasted regions, objects in front."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from masa_track.training.geometry import Placed, cover, move_region, shifted, warp
from masa_track.training.settings import ViewSettings

MIN_DONOR_AREA = 400.0  # pixels; smaller regions are blots when pasted
MAX_DONOR_SHARE = 0.3  # of their photograph; larger ones are its background
MAX_OCCLUDER = 0.4  # sides, in parts of the view's


@dataclass
class Photo:
    """A photograph with its regions.

    Attributes:
        image: (H, W, 3) uint8 BGR.
        regions: in its pixels.
        cutouts: those of the regions whose shape is known, and not only their box.
    """

    image: np.ndarray
    regions: list[Placed]
    cutouts: list[Placed]


@dataclass
class View:
    """A view under construction.

    Attributes:
        image: (H, W, 3) uint8 BGR.
        instances: what is seen of each.
    """

    image: np.ndarray
    instances: list[Placed]


def see(photo: Photo, matrix: np.ndarray, size: tuple[int, int]) -> View:
    """A photograph and its regions through a homography, (3, 3), into a view of ``size`` (height, width)."""
    moved = (move_region(region, matrix, size) for region in photo.regions)
    return View(warp(photo.image, matrix, size), [instance for instance in moved if instance is not None])


def mix(view: View, other: Photo, matrix: np.ndarray, weight: float) -> None:
    """MixUp: another photograph shines through where it lies in the view; elsewhere nothing is dimmed.

    Args:
        view: changed in place; the other's instances join.
        other: its regions' ids must be new to the view.
        matrix: (3, 3), from that photograph to the view.
        weight: how strongly it shines through, 0 to 1.

    Source: Zhang et al., mixup, ICLR 2018; for boxes as in YOLOX, 2021.
    """
    frame = Placed(-1, 0, 0, np.ones(other.image.shape[:2], np.uint8), 1.0)
    inside = move_region(frame, matrix, view.image.shape[:2])
    if inside is None:
        return
    seen = see(other, matrix, view.image.shape[:2])
    blended = cv2.addWeighted(view.image, 1 - weight, seen.image, weight, 0)
    h, w = inside.mask.shape
    part = slice(inside.y, inside.y + h), slice(inside.x, inside.x + w)
    np.copyto(view.image[part], blended[part], where=inside.mask[..., None] > 0)
    view.instances += seen.instances


def choose_donors(photo: Photo, rng: np.random.Generator, settings: ViewSettings, first_id: int) -> list[Placed]:
    """Some of the photograph's cutouts to be pasted elsewhere, with ids from ``first_id`` on."""
    limit = MAX_DONOR_SHARE * photo.image.shape[0] * photo.image.shape[1]
    fit = [region for region in photo.cutouts if MIN_DONOR_AREA <= region.whole <= limit]
    count = min(len(fit), int(rng.integers(1, settings.paste_count + 1))) if settings.paste_count else 0
    chosen = rng.permutation(len(fit))[:count]
    return [replace(fit[i], id=first_id + k) for k, i in enumerate(chosen)]


def paste(view: View, image: np.ndarray, region: Placed, matrix: np.ndarray) -> None:
    """Pastes a region of another photograph; what it covers is taken from the instances' masks.

    Args:
        view: changed in place.
        image: (H, W, 3) uint8 BGR, the other photograph.
        region: in that photograph's pixels, with an id that is new.
        matrix: (3, 3), from that photograph to the view.

    Source: Ghiasi et al., Simple Copy-Paste, CVPR 2021.
    """
    placed = move_region(region, matrix, view.image.shape[:2])
    if placed is None:
        return
    h, w = region.mask.shape
    patch = image[region.y : region.y + h, region.x : region.x + w]
    local = shifted(matrix, -placed.x, -placed.y) @ shifted(np.eye(3), region.x, region.y)
    _lay(view, placed.x, placed.y, placed.mask, warp(patch, local, placed.mask.shape))
    cover(view.instances, placed.x, placed.y, placed.mask)
    view.instances.append(placed)


def occlude(view: View, texture: np.ndarray, rng: np.random.Generator, settings: ViewSettings) -> None:
    """Puts rectangles and ellipses in front of some instances; they are nobody's, so they only take away.

    Args:
        view: changed in place.
        texture: (H, W, 3) uint8 BGR, the photograph whose parts are seen on them.
        rng: the source of all chance.
        settings: how many, and how large.
    """
    if not view.instances or not settings.occlude_count:
        return
    height, width = view.image.shape[:2]
    for _ in range(int(rng.integers(1, settings.occlude_count + 1))):
        target = view.instances[int(rng.integers(len(view.instances)))]
        th, tw = target.mask.shape
        side, ratio = np.sqrt(rng.uniform(*settings.occlude_share)), np.sqrt(rng.uniform(0.5, 2))
        w = int(np.clip(tw * side * ratio, 2, width * MAX_OCCLUDER))
        h = int(np.clip(th * side / ratio, 2, height * MAX_OCCLUDER))
        x, y = (np.array([target.x, target.y]) + rng.random(2) * (tw, th) - (w / 2, h / 2)).astype(int)
        mask: np.ndarray = np.ones((h, w), np.uint8)
        if rng.random() < 0.5:
            mask = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (w, h))
        x1, y1, x2, y2 = max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)
        if x1 >= x2 or y1 >= y2:
            continue
        mask = mask[y1 - y : y2 - y, x1 - x : x2 - x]
        patch = _window(texture, mask.shape, rng)
        _lay(view, x1, y1, mask, patch)
        cover(view.instances, x1, y1, mask)


def _window(image: np.ndarray, size: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """A random part of an image, enlarged where the image is smaller."""
    h, w = min(size[0], image.shape[0]), min(size[1], image.shape[1])
    y, x = int(rng.integers(image.shape[0] - h + 1)), int(rng.integers(image.shape[1] - w + 1))
    return cv2.resize(image[y : y + h, x : x + w], (size[1], size[0]))


def _lay(view: View, x: int, y: int, mask: np.ndarray, patch: np.ndarray) -> None:
    """Lays a patch over the image; its edge is softened by a pixel, since a sharp one would reveal pasted objects."""
    h, w = mask.shape
    alpha = cv2.blur(mask.astype(np.float32), (3, 3), borderType=cv2.BORDER_REPLICATE)[..., None]
    below = view.image[y : y + h, x : x + w]
    below[:] = np.round(below * (1 - alpha) + patch * alpha).astype(np.uint8)
