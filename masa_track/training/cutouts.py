"""Objects cut out of photographs by their masks, and variations of their appearance."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from masa_track.training.dataset import BrokenPhotoError, read_photo
from masa_track.training.regions import Regions, decode_masks

LOG = logging.getLogger("masa_track")
MOST_PIXELS = 224  # a cut-out's longer side; some 4,600 of them take 200 MB
LEAST_SIDE, LEAST_LENGTH = 14, 28  # pixels of a region's shorter and longer side
MOST_SHARE = 0.35  # of its photograph: larger regions are its background
LEAST_FILLED = 0.35  # of its box: what is less is a wire or a frame


@dataclass(frozen=True)
class Cutout:
    """An object.

    Attributes:
        image: (h, w, 3) uint8 BGR.
        mask: (h, w) uint8, 0 to 255.
    """

    image: np.ndarray
    mask: np.ndarray


def cut_out(regions: Regions, images: str | Path) -> list[list[Cutout]]:
    """The objects on each photograph that has any, as far as the photograph shows them.

    Regions without a mask are left out, and so is what touches two edges of its photograph: it is cut off.
    """
    library = []
    for entry in regions.images:
        chosen = [i for i in range(len(entry)) if entry.masks[i] is not None]
        if not chosen:
            continue
        try:
            photo = read_photo(Path(images), entry)
        except BrokenPhotoError as error:
            LOG.warning("%s %s; its objects are left out", Path(images) / entry.file_name, error)
            continue
        height, width = photo.shape[:2]
        things = []
        for i, mask in zip(chosen, decode_masks(entry, chosen), strict=True):
            x1, y1, x2, y2 = entry.boxes[i].astype(int)
            sides = (x2 - x1, y2 - y1)
            edges = (x1 <= 1) + (y1 <= 1) + (x2 >= width - 2) + (y2 >= height - 2)
            small = min(sides) < LEAST_SIDE or max(sides) < LEAST_LENGTH
            if mask is None or small or sides[0] * sides[1] > MOST_SHARE * width * height or edges >= 2:
                continue
            if mask.mean() < LEAST_FILLED:
                continue
            scale = min(1.0, MOST_PIXELS / max(sides))
            size = (max(1, round(sides[0] * scale)), max(1, round(sides[1] * scale)))
            things.append(
                Cutout(
                    cv2.resize(photo[y1:y2, x1:x2], size, interpolation=cv2.INTER_AREA),
                    cv2.resize(mask * np.uint8(255), size, interpolation=cv2.INTER_AREA),
                )
            )
        if things:
            library.append(things)
    return library


def seen_again(thing: Cutout, height: float, rng: np.random.Generator) -> Cutout:
    """An object some frames later: a little larger or narrower, tilted, bent (a pose), in a little other light.

    Args:
        thing: as it was cut out.
        height: about how high it shall be, pixels.
        rng: the source of all chance.
    """
    scale = height / thing.image.shape[0]
    width = max(8, int(thing.image.shape[1] * scale * np.exp(rng.normal(0, 0.08))))
    high = max(8, int(thing.image.shape[0] * scale * np.exp(rng.normal(0, 0.05))))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    image = cv2.resize(thing.image, (width, high), interpolation=how)
    mask = cv2.resize(thing.mask, (width, high), interpolation=how)
    rotation = cv2.getRotationMatrix2D((width / 2, high / 2), rng.normal(0, 6), 1)
    cosine, sine = abs(rotation[0, 0]), abs(rotation[0, 1])
    out_width, out_high = int(width * cosine + high * sine) + 4, int(width * sine + high * cosine) + 4
    rotation = rotation + np.array([[0, 0, out_width - width], [0, 0, out_high - high]]) / 2
    knots = rng.normal(0, 1, (4, 3, 2)).astype(np.float32)
    bend = cv2.resize(knots, (out_width, out_high), interpolation=cv2.INTER_CUBIC) * np.float32(0.035)
    y, x = np.mgrid[0:out_high, 0:out_width].astype(np.float32)
    x, y = x + bend[..., 0] * out_width, y + bend[..., 1] * out_high
    back = cv2.invertAffineTransform(rotation).astype(np.float32)
    from_x, from_y = back[0, 0] * x + back[0, 1] * y + back[0, 2], back[1, 0] * x + back[1, 1] * y + back[1, 2]
    image = cv2.remap(image, from_x, from_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    mask = cv2.remap(mask, from_x, from_y, cv2.INTER_LINEAR)
    if rng.random() < 0.15:
        image, mask = image[:, ::-1], mask[:, ::-1]
    return Cutout(relight(image, rng, 0.08), np.ascontiguousarray(mask))


def relight(image: np.ndarray, rng: np.random.Generator, spread: float) -> np.ndarray:
    """Brightness by a factor of deviation ``spread``, and each channel by a little more."""
    gains = np.exp(rng.normal(0, spread)) * np.exp(rng.normal(0, 0.02, 3))
    return np.clip(image.astype(np.float32) * gains, 0, 255).astype(np.uint8)
