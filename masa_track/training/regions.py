"""Regions of photographs in memory: light, since masks stay compressed until they are used."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from masa_track.errors import InputError
from masa_track.masks import Rle, mask_api
from masa_track.video.images import IMAGE_SUFFIXES


@dataclass(frozen=True)
class ImageRegions:
    """One photograph and the regions on it.

    Attributes:
        file_name: where it is below the folder of images.
        width: in pixels; 0 where the file does not say, as do plain boxes.
        height: in pixels, or 0.
        ids: (N,) int64, different from each other.
        boxes: (N, 4) float32 xyxy pixels; those of the masks where there are masks.
        masks: N compressed masks, None where a region has only its box.
    """

    file_name: str
    width: int
    height: int
    ids: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64), repr=False)
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4), np.float32), repr=False)
    masks: tuple[Rle | None, ...] = field(default=(), repr=False)

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Regions:
    """Photographs and their regions.

    Attributes:
        path: the file or folder they were read from.
        images: one entry a photograph; some may be without regions.
    """

    path: Path
    images: tuple[ImageRegions, ...] = field(repr=False)

    @property
    def count(self) -> int:
        """The number of regions on all photographs."""
        return sum(map(len, self.images))


def decode_masks(image: ImageRegions, chosen: Sequence[int]) -> list[np.ndarray | None]:
    """The chosen masks of a photograph, each cut out by its box.

    Args:
        image: a photograph's regions.
        chosen: indices into them.

    Returns:
        For each a (y2 - y1, x2 - x1) uint8 of 0 and 1 where (x1, y1, x2, y2) is its box; None where it has no mask.

    Raises:
        InputError: a mask cannot be decoded, or pycocotools is not installed.
    """
    masks: list[np.ndarray | None] = []
    for i in chosen:
        rle = image.masks[i]
        if rle is None:
            masks.append(None)
            continue
        x1, y1, x2, y2 = image.boxes[i].astype(int)
        try:
            masks.append(np.ascontiguousarray(mask_api("train").decode(rle)[y1:y2, x1:x2]))
        except ValueError as error:
            raise InputError(
                f"the mask of region {image.ids[i]} on {image.file_name} cannot be decoded ({error}): make it anew"
            ) from error
    return masks


def image_folder(images: str | Path) -> Regions:
    """The photographs of a folder, sorted by name, as entries without regions.

    Raises:
        InputError: there is no such folder, or it holds no image.
    """
    folder = Path(images)
    if not folder.is_dir():
        raise InputError(f"images must be a folder, and {folder} is none: check the path")
    names = sorted(p.name for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
    if not names:
        raise InputError(f"images: {folder} holds no image; give a folder of {', '.join(sorted(IMAGE_SUFFIXES))} files")
    return Regions(folder, tuple(ImageRegions(name, 0, 0) for name in names))


def split(regions: Regions, part: Literal["train", "held"], every: int = 10) -> Regions:
    """Holds about one photograph in ``every`` aside, chosen by a checksum of its file's name.

    So a photograph that is held aside stays so in another file of regions on the same photographs, whatever its order.

    Args:
        regions: all of them.
        part: ``train`` for those to learn from, ``held`` for the others.
        every: at least 2.

    Raises:
        InputError: ``part`` or ``every`` is none of these.
    """
    if part not in ("train", "held"):
        raise InputError(f"part must be 'train' or 'held', got {part!r}")
    if every < 2:
        raise InputError(f"every must be at least 2, got {every}")

    def aside(image: ImageRegions) -> bool:
        name = PurePosixPath(image.file_name).name
        # Not a CRC: of names that count upwards its remainders by a small number can be all the same.
        return int(hashlib.sha256(name.encode()).hexdigest(), 16) % every == 0

    return replace(regions, images=tuple(image for image in regions.images if aside(image) == (part == "held")))


def check_images(regions: Regions, images: str | Path) -> None:
    """Sees that each photograph is there, before any work; whether it decodes is seen when its turn comes.

    Raises:
        InputError: the folder or some photographs are missing.
    """
    folder = Path(images)
    if not folder.is_dir():
        raise InputError(f"images must be a folder, and {folder} is none: check the path")
    missing = [image.file_name for image in regions.images if not (folder / image.file_name).is_file()]
    if missing:
        raise InputError(
            f"{regions.path} has regions on {missing[0]}, which is not in {folder} ({len(missing)} of its "
            f"{len(regions.images)} images are missing): give the folder they were made on, or remove those entries"
        )
