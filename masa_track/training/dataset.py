"""The door to the training data: pairs of views of photographs, as torch takes them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from masa_track.errors import InputError
from masa_track.training.geometry import Placed
from masa_track.training.mixing import Photo, View
from masa_track.training.region_files import read_regions
from masa_track.training.regions import ImageRegions, Regions, check_images, decode_masks, image_folder
from masa_track.training.settings import ViewSettings, view_settings
from masa_track.training.views import make_views, random_regions
from masa_track.video.opencv import quiet_opencv

LOG = logging.getLogger("masa_track")


class BrokenPhotoError(Exception):
    """A photograph that cannot be used; the message goes on from its name."""


class TwoViews(Dataset[dict[str, Any]]):
    """Two views of each photograph, with boxes and with ids that say what is the same in both.

    An item is ``dict(views=[view, view])``, a view ``dict(image, boxes, ids)``:

    - image: (3, height, width) uint8 RGB.
    - boxes: (N, 4) float32 xyxy pixels of the view; those of the moved masks, not the moved boxes.
    - ids: (N,) int64, different within a view, and the same object has the same id in both. They mean nothing outside
      their item. N can be 0, and an id can be in one view only.

    An item depends on nothing but (seed, epoch, index): not on the number of workers, nor on what was asked before.

    Args:
        regions: what :func:`read_regions` gives, or a path for it, or None: no regions, so ``random_boxes`` are needed.
        images: the folder of photographs.
        size: (height, width) of the views.
        settings: ``mild``, ``strong`` or settings of your own.
        seed: of all chance.
        random_boxes: so many random boxes a photograph join its regions; see :func:`random_regions`.
        repeats: the photographs come so many times in an epoch, each time as other views.
        max_regions: of a photograph with more, so many are drawn; sixty boxes cost some 40 ms an item.

    Raises:
        InputError: nothing could be shown, images are missing, or an argument is out of its range. Photographs without
            regions are left out, with a warning, if there are no random boxes.
    """

    def __init__(
        self,
        regions: Regions | str | Path | None,
        images: str | Path,
        size: tuple[int, int] = (640, 640),
        settings: str | ViewSettings = "mild",
        seed: int = 0,
        random_boxes: int = 0,
        repeats: int = 1,
        max_regions: int = 128,
    ) -> None:
        for name, value, least in (("random_boxes", random_boxes, 0), ("repeats", repeats, 1), ("seed", seed, 0)):
            if value < least:
                raise InputError(f"{name} must be at least {least}, got {value}")
        if len(size) != 2 or min(size) < 16:
            raise InputError(f"size must be (height, width) of at least 16 pixels, got {size}")
        if max_regions < 1:
            raise InputError(f"max_regions must be at least 1, got {max_regions}")
        if regions is None:
            regions = image_folder(images)
        elif not isinstance(regions, Regions):
            regions = read_regions(regions)
        check_images(regions, images)
        kept = [image for image in regions.images if len(image) or random_boxes]
        if not kept:
            raise InputError(
                f"{regions.path}: none of its {len(regions.images)} images has a region; give regions, or random_boxes"
            )
        bare = [image.file_name for image in regions.images if not len(image)]
        if bare and not random_boxes:
            LOG.warning("%s: %d images without regions are left out (%s, ...)", regions.path, len(bare), bare[0])
        self.images, self.folder = kept, Path(images)
        self.size, self.settings = (int(size[0]), int(size[1])), view_settings(settings)
        self.seed, self.random_boxes, self.repeats, self.max_regions = seed, random_boxes, repeats, max_regions
        # In shared memory, so that workers that live through several epochs see the new one, and tell each other
        # which photographs are broken.
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()
        self._broken = torch.zeros(len(kept), dtype=torch.uint8).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Items are other views of the same photographs in another epoch; to be called between epochs."""
        self._epoch[0] = epoch

    def __len__(self) -> int:
        return self.repeats * len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"views": [_as_tensors(view) for view in self.views(index)]}

    def views(self, index: int) -> list[View]:
        """The two views of an item with the masks of their instances, as pictures are drawn of them."""
        if not 0 <= index < len(self):
            raise IndexError(f"index must be 0 to {len(self) - 1}, got {index}")
        rng = np.random.default_rng((self.seed, int(self._epoch), index))
        number = index % len(self.images)
        photo = self._intact_photo(number, rng)

        def load_other() -> Photo | None:
            if len(self.images) < 2:
                return None
            return self._intact_photo((number + 1 + int(rng.integers(len(self.images) - 1))) % len(self.images), rng)

        return make_views(photo, load_other, self.settings, self.size, rng)

    def _intact_photo(self, number: int, rng: np.random.Generator) -> Photo:
        """The photograph of this number, or the next one that can be read, whoever else has tried them before."""
        for step in range(len(self.images)):
            i = (number + step) % len(self.images)
            if self._broken[i]:
                continue
            try:
                image = read_photo(self.folder, self.images[i])
            except BrokenPhotoError as error:
                self._broken[i] = 1
                LOG.warning("%s %s; others are taken instead", self.folder / self.images[i].file_name, error)
                continue
            return self._with_regions(image, self.images[i], rng)
        raise InputError(f"none of the {len(self.images)} images in {self.folder} can be read; give intact images")

    def _with_regions(self, image: np.ndarray, entry: ImageRegions, rng: np.random.Generator) -> Photo:
        chosen = np.arange(len(entry))
        if len(chosen) > self.max_regions:
            chosen = np.sort(rng.permutation(len(entry))[: self.max_regions])
        regions, cutouts = [], []
        limit = np.tile(image.shape[1::-1], 2)
        for k, (i, mask) in enumerate(zip(chosen, decode_masks(entry, chosen.tolist()), strict=True)):
            x1, y1, x2, y2 = np.clip(np.round(entry.boxes[i]), 0, limit).astype(int)
            drawn = mask is not None
            if mask is None:
                mask = np.ones((y2 - y1, x2 - x1), np.uint8)
            regions.append(Placed(k, int(x1), int(y1), mask, float(np.count_nonzero(mask))))
            if drawn:
                cutouts.append(regions[-1])
        taken = entry.boxes[chosen]
        regions += random_regions(self.random_boxes, image.shape[:2], taken, len(regions), rng)
        return Photo(image, regions, cutouts)


def read_photo(folder: Path, entry: ImageRegions) -> np.ndarray:
    """A photograph, (H, W, 3) uint8 BGR, of the size that its regions were made for."""
    try:
        data = np.fromfile(folder / entry.file_name, np.uint8)
        with quiet_opencv():
            image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except OSError as error:
        raise BrokenPhotoError(f"cannot be read: {error.strerror}") from error
    except cv2.error as error:
        raise BrokenPhotoError(f"cannot be decoded: {error.err}") from error
    if image is None:
        raise BrokenPhotoError("cannot be decoded, it is damaged or cut short" if data.size else "is empty (0 bytes)")
    height, width = image.shape[:2]
    if entry.width and entry.height and (width, height) != (entry.width, entry.height):
        raise BrokenPhotoError(f"is {width}x{height}, and its regions were made on {entry.width}x{entry.height}")
    if len(entry) and (entry.boxes[:, 2:] > (width + 1, height + 1)).any():
        raise BrokenPhotoError(f"is {width}x{height}, and a region of it lies outside")
    return image


def _as_tensors(view: View) -> dict[str, torch.Tensor]:
    channels = cv2.split(view.image)[::-1]  # BGR to RGB
    boxes = [(i.x, i.y, i.x + i.mask.shape[1], i.y + i.mask.shape[0]) for i in view.instances]
    return {
        "image": torch.from_numpy(np.stack(channels)),
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "ids": torch.tensor([instance.id for instance in view.instances], dtype=torch.int64),
    }
