"""Pairs of pictures in which objects have moved from one background to another.

In two views of one photograph an object keeps its background, so a network may learn to recognise it by the background,
which is wrong in a video. Here objects are cut out by their masks and pasted at other places, on another background
or another part of it, each with a slightly different appearance. Several objects of one photograph, often of one kind,
are similar: these are hard negatives.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from masa_track.errors import InputError
from masa_track.training.cutouts import Cutout, cut_out, relight, seen_again
from masa_track.training.dataset import BrokenPhotoError, read_photo
from masa_track.training.photometry import compress
from masa_track.training.region_files import read_regions
from masa_track.training.regions import ImageRegions, Regions, check_images, image_folder, split

LOG = logging.getLogger("masa_track")
FEWEST = 8  # objects in a picture, before some fall off its edge or behind others
HEIGHTS = (36.0, 200.0)  # of a picture's objects, about, pixels
LEAST_SEEN = 0.45  # of an object's pixels, else it is hidden
SAME_BACKGROUND = 0.6  # of the pairs stay on one photograph, on other parts of it
MOST_DRAWS = 100
MOST_REGIONS, RANDOM_BOXES = 16, 6  # boxes in a view of a whole photograph

Seen = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # image, boxes (N, 4), ids (N,), regions (M, 4)


class Composites(Dataset[dict[str, Any]]):
    """Pairs of pictures with pasted objects, and some pairs of mild views of whole photographs.

    An item is that of :class:`~masa_track.training.dataset.TwoViews`; a view also has ``regions`` (M, 4), the boxes
    that a detector shall learn: those of the photograph's regions in whole photographs, none in pasted pictures, whose
    backgrounds hold objects without a region. Boxes are jittered by some hundredths of their sides, as a detector's.

    An item depends on nothing but (seed, epoch, index).

    Args:
        regions: what :func:`read_regions` gives, or a path for it; with masks.
        images: the folder of photographs.
        backgrounds: a folder of more photographs, for backgrounds only.
        size: side of the square pictures, pixels.
        most: the largest number of objects in a picture.
        scene_share: part of the items that are whole photographs.
        flip: probability that both views of a whole photograph are mirrored, for a detector; in a video, an object's
            mirror image is hardly ever seen.
        seed: of all chance.
        samples: items an epoch.
        hold_out_every: every so many photographs are held aside, by :func:`~masa_track.training.regions.split`.

    Raises:
        InputError: nothing can be cut out, images are missing, or an argument is out of its range.
    """

    def __init__(
        self,
        regions: Regions | str | Path,
        images: str | Path,
        backgrounds: str | Path | None = None,
        size: int = 448,
        most: int = 14,
        scene_share: float = 0.3,
        flip: float = 0.0,
        seed: int = 0,
        samples: int = 20_000,
        hold_out_every: int = 10,
    ) -> None:
        if most < FEWEST:
            raise InputError(f"most must be at least {FEWEST}, got {most}")
        if size < 64 or samples < 1 or seed < 0:
            raise InputError(f"size must be 64 or more, samples 1, seed 0, got {size}, {samples}, {seed}")
        if not 0 <= scene_share <= 1:
            raise InputError(f"scene_share must be in 0..1, got {scene_share}")
        if not 0 <= flip <= 1:
            raise InputError(f"flip must be in 0..1, got {flip}")
        if not isinstance(regions, Regions):
            regions = read_regions(regions)
        everything, regions = regions, split(regions, "train", hold_out_every)
        check_images(regions, images)
        aside = {image.file_name for image in everything.images} - {image.file_name for image in regions.images}
        self.folder, self.scenes = Path(images), [image for image in regions.images if len(image)]
        self.things = cut_out(regions, images)
        if not self.things:
            raise InputError(f"{regions.path}: nothing can be cut out; give regions with masks")
        self.backgrounds = [(self.folder, image) for image in regions.images]
        if backgrounds is not None:
            more = Path(backgrounds)
            self.backgrounds += [(more, image) for image in image_folder(more).images if image.file_name not in aside]
        self.size, self.most, self.scene_share, self.flip = size, most, scene_share, flip
        self.seed, self.samples = seed, samples
        self._broken: set[Path] = set()
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()  # workers that live on see it, too

    def set_epoch(self, epoch: int) -> None:
        """Items are others in another epoch; to be called between epochs."""
        self._epoch[0] = epoch

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(f"index must be 0 to {len(self) - 1}, got {index}")
        rng = np.random.default_rng((self.seed, int(self._epoch), index))
        for _ in range(MOST_DRAWS):  # a pair in which too little is seen twice teaches nothing
            pair = self._whole(rng) if rng.random() < self.scene_share else self._pasted(rng)
            if min(len(view[2]) for view in pair) >= 4 and len(np.intersect1d(pair[0][2], pair[1][2])) >= 2:
                return {"views": [_as_tensors(view, rng) for view in pair]}
        raise InputError(
            f"{MOST_DRAWS} pairs in a row show fewer than four objects: give photographs with more or larger regions, "
            f"or a scene_share other than {self.scene_share}"
        )

    def _photo(self, entries: list[tuple[Path, ImageRegions]], rng: np.random.Generator) -> np.ndarray:
        for _ in range(100):
            folder, entry = entries[rng.integers(len(entries))]
            try:
                return read_photo(folder, entry)
            except BrokenPhotoError as error:
                self._say_once(folder / entry.file_name, error)
        raise InputError(f"100 photographs in a row cannot be read, the last in {folder}; give intact images")

    def _say_once(self, path: Path, error: BrokenPhotoError) -> None:
        if path not in self._broken:
            LOG.warning("%s %s; another is taken instead", path, error)
            self._broken.add(path)

    def _pasted(self, rng: np.random.Generator) -> list[Seen]:
        """Two pictures with the same objects at other places."""
        things: list[Cutout] = []
        count = int(rng.integers(FEWEST, self.most + 1))
        for photo in rng.permutation(len(self.things)):  # each once: an object drawn twice would be its own negative
            own = self.things[photo]
            few = min(len(own), int(rng.choice([1, 2, 4])), count - len(things))
            things += [own[i] for i in rng.permutation(len(own))[:few]]
            if len(things) == count:
                break
        count = len(things)
        scene = np.exp(rng.uniform(np.log(HEIGHTS[0]), np.log(HEIGHTS[1])))
        heights = np.clip(scene * np.exp(rng.normal(0, 0.45, count)), 26, 260)
        shared = self._photo(self.backgrounds, rng) if rng.random() < SAME_BACKGROUND else None
        views = []
        for _ in range(2):
            photo = self._photo(self.backgrounds, rng) if shared is None else shared
            image = crop(photo, self.size, rng)
            boxes, ids = paste_all(image, things, heights * np.exp(rng.normal(0, 0.15, count)), rng)
            views.append((film(image, rng), boxes, ids, np.zeros((0, 4), np.float32)))
        return views

    def _whole(self, rng: np.random.Generator) -> list[Seen]:
        """Two mild views of a photograph, its regions and some random boxes of it."""
        entry = self.scenes[rng.integers(len(self.scenes))]
        try:
            photo = read_photo(self.folder, entry)
        except BrokenPhotoError as error:
            self._say_once(self.folder / entry.file_name, error)
            return self._pasted(rng)
        height, width = photo.shape[:2]
        wide = (entry.boxes[:, 2:] - entry.boxes[:, :2]).min(axis=1) >= 12
        regions = entry.boxes[wide].astype(float)
        regions = regions[rng.permutation(len(regions))]
        side, ratio = (
            np.exp(rng.uniform(np.log(24), np.log(140), RANDOM_BOXES)),
            np.exp(rng.uniform(-0.8, 0.5, RANDOM_BOXES)),
        )
        sides = np.stack([side * ratio**0.5, side / ratio**0.5], axis=1)
        corner = rng.random((RANDOM_BOXES, 2)) * np.maximum(1, np.array([width, height]) - sides)
        boxes = np.concatenate([regions[:MOST_REGIONS], np.hstack([corner, corner + sides]), regions[MOST_REGIONS:]])
        zoom = self.size / max(height, width) * np.exp(rng.uniform(-0.1, 0.6))
        middle = rng.uniform(0.3, 0.7, 2) * (width, height)
        used = min(len(regions), MOST_REGIONS) + RANDOM_BOXES  # the others are for the detector alone
        is_region = np.ones(len(boxes), bool)
        is_region[used - RANDOM_BOXES : used] = False
        views = []
        for _ in range(2):
            scale, angle, squeeze = zoom * np.exp(rng.normal(0, 0.2)), np.deg2rad(rng.normal(0, 4)), rng.normal(0, 0.06)
            turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            turn[:, 0] *= np.exp(squeeze)
            shift = self.size / 2 - turn @ (middle + rng.normal(0, 0.05, 2) * (width, height))
            image = cv2.warpAffine(
                photo,
                np.c_[turn, shift],
                (self.size, self.size),
                borderMode=cv2.BORDER_CONSTANT,
                borderValue=(127,) * 3,
            )
            centres = (boxes[:, :2] + boxes[:, 2:]) / 2 @ turn.T + shift
            half = (
                (boxes[:, 2:] - boxes[:, :2]) * scale * (np.exp(squeeze), 1) / 2
            )  # turned by a few degrees only: as large as before
            whole = np.hstack([centres - half, centres + half])
            seen = whole.clip(0, self.size)
            sides = seen[:, 2:] - seen[:, :2]
            share = sides.prod(axis=1) / (whole[:, 2:] - whole[:, :2]).prod(axis=1)
            good = (share > 0.65) & (sides.min(axis=1) > 10)
            ids = np.flatnonzero(good[:used])
            views.append((film(image, rng), seen[ids], ids, seen[good & is_region]))
        turned = self.flip > 0 and rng.random() < self.flip
        return [_mirrored(view) for view in views] if turned else views


def crop(photo: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """A (size, size, 3) part of a photograph, enlarged by chance by up to 1.6 beyond what fills it."""
    height, width = photo.shape[:2]
    zoom = max(size / height, size / width) * np.exp(rng.uniform(0, 0.5))
    large = cv2.resize(photo, (max(size, int(width * zoom)), max(size, int(height * zoom))))
    y, x = rng.integers(large.shape[0] - size + 1), rng.integers(large.shape[1] - size + 1)
    return large[y : y + size, x : x + size].copy()


def paste_all(
    image: np.ndarray, things: list[Cutout], heights: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Pastes objects at random places, the later ones in front of the earlier.

    Args:
        image: (S, S, 3) uint8 BGR, changed in place.
        things: T of them.
        heights: (T,) pixels.
        rng: the source of all chance.

    Returns:
        Boxes (N, 4) float32 xyxy of those that are seen, whole as far as they are in the picture, covered parts
        included, as people draw boxes; and their ids (N,), positions in ``things``.
    """
    size = len(image)
    owner = np.full((size, size), -1)
    boxes: dict[int, list[int]] = {}
    pixels: dict[int, int] = {}
    for number in rng.permutation(len(things)):
        thing = things[number]
        tall, wide = thing.image.shape[:2]
        height = min(heights[number], 0.8 * size * min(1.0, tall / wide))
        now = seen_again(thing, max(height, 12.0), rng)
        solid = now.mask > 127
        rows, columns = np.flatnonzero(solid.any(axis=1)), np.flatnonzero(solid.any(axis=0))
        if not len(rows):
            continue
        x, y = (rng.uniform(0, size, 2) - np.array(solid.shape[::-1]) / 2).astype(int)
        left, top = max(0, -x), max(0, -y)
        right, bottom = min(solid.shape[1], size - x), min(solid.shape[0], size - y)
        inside = solid[top:bottom, left:right] if right > left and bottom > top else solid[:0]
        if inside.sum() < 0.6 * solid.sum():
            continue
        where = slice(y + top, y + bottom), slice(x + left, x + right)
        weight = now.mask[top:bottom, left:right, None].astype(np.float32) / 255
        mixed = image[where] * (1 - weight) + now.image[top:bottom, left:right] * weight
        image[where] = mixed.astype(np.uint8)
        owner[where][inside] = number
        boxes[number] = [x + columns[0], y + rows[0], x + columns[-1] + 1, y + rows[-1] + 1]
        pixels[number] = int(solid.sum())
    seen = np.bincount(owner[owner >= 0], minlength=len(things))
    kept = [number for number in boxes if seen[number] > LEAST_SEEN * pixels[number]]
    found = np.array([boxes[number] for number in kept], np.float32).reshape(-1, 4).clip(0, size)
    return found, np.array(kept, int)


def film(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What a camera does to a picture: light, blur, noise, compression."""
    image = relight(image, rng, 0.1)
    if rng.random() < 0.5:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 1.2))
    if rng.random() < 0.3:
        image = np.clip(image + rng.normal(0, rng.uniform(1, 6), image.shape), 0, 255).astype(np.uint8)
    return compress(image, rng.uniform(25, 90)) if rng.random() < 0.6 else image


def _mirrored(view: Seen) -> Seen:
    image, boxes, ids, regions = view
    side = image.shape[1]
    boxes, regions = (np.stack([side - b[:, 2], b[:, 1], side - b[:, 0], b[:, 3]], axis=1) for b in (boxes, regions))
    return image[:, ::-1], boxes, ids, regions


def _as_tensors(view: Seen, rng: np.random.Generator) -> dict[str, torch.Tensor]:
    image, boxes, ids, regions = view
    sides = boxes[:, 2:] - boxes[:, :2]
    jittered = (boxes + np.hstack([sides, sides]) * rng.normal(0, 0.03, boxes.shape)).clip(0, len(image))
    return {
        "image": torch.from_numpy(np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1))),
        "boxes": torch.from_numpy(jittered.astype(np.float32)),
        "ids": torch.from_numpy(ids.astype(np.int64)),
        "regions": torch.from_numpy(regions.astype(np.float32)),
    }
