"""Detections of one video as numpy's npz: plain arrays, read without pickle.

=================  ==========  =====================================================================================
array              shape       what it is
=================  ==========  =====================================================================================
``boxes``          (N, 4)      x1, y1, x2, y2 in 0-based pixels
``frames``         (N,)        whole numbers from 1; with ``file_names`` they count these
``scores``         (N,)        optional: 1
``labels``         (N,)        optional, whole numbers: 0
``file_names``     (F,)        optional text: the images, without folder; suffixes are ignored
``class_names``    (C,)        optional text: label i is called ``class_names[i]``
``masks``          (N,)        optional bytes: the counts of COCO's compressed RLE of each box, empty where it has none
``mask_size``      (2,)        with ``masks``: height and width of the pictures
=================  ==========  =====================================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from masa_track.errors import InputError
from masa_track.files import PartFile
from masa_track.formats.json_file import MAX_FRAME
from masa_track.masks import Rle
from masa_track.npz import read_arrays

_LAYOUT = {"boxes": (2, "numbers"), "frames": (1, "numbers"), "scores": (1, "numbers"), "labels": (1, "numbers")}
_LAYOUT |= {"file_names": (1, "text"), "class_names": (1, "text"), "masks": (1, "bytes"), "mask_size": (1, "numbers")}


@dataclass(frozen=True)
class NpzDetections:
    """What is in the file, see the module.

    Attributes:
        frames: (N,) int64.
        boxes: (N, 4) float64 xyxy.
        scores: (N,) float64.
        labels: (N,) int64.
        file_names: of the images, without folder and suffix; empty if not given.
        class_names: by label; empty if not given.
        masks: N times a COCO RLE or None; empty if not given.
    """

    frames: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    file_names: tuple[str, ...]
    class_names: dict[int, str]
    masks: list[Rle | None] = field(default_factory=list)

    def of_image(self, name: str) -> np.ndarray:
        """(n,) the rows of the image of this name, with or without folder and suffix.

        Raises:
            InputError: the file has no such image.
        """
        stem = PurePosixPath(name.replace("\\", "/")).stem
        if stem not in self.file_names:
            raise InputError(f"the detections have no image {name!r}: their file_names begin {self.file_names[:3]}")
        return np.flatnonzero(self.frames == self.file_names.index(stem) + 1)


def read_npz(path: str | Path) -> NpzDetections:
    """Reads the layout above.

    Raises:
        InputError: the file cannot be read, lacks an array, holds another or one of another shape or kind.
    """
    path = Path(path)
    arrays = read_arrays(path, _LAYOUT, "detections")
    for name in ("boxes", "frames"):
        if name not in arrays:
            raise InputError(f"{path}: an npz of detections must have {name}, got {', '.join(arrays) or 'nothing'}")
    count = len(arrays["boxes"])
    arrays.setdefault("scores", np.ones(count))
    arrays.setdefault("labels", np.zeros(count, np.int64))
    if arrays["boxes"].shape[1] != 4:
        raise InputError(f"{path}: boxes must be (N, 4) xyxy, got {arrays['boxes'].shape}")
    for name in ("frames", "scores", "labels"):
        if len(arrays[name]) != count:
            raise InputError(f"{path}: {name} must have a value a box ({count}), got {len(arrays[name])}")
        values = arrays[name].astype(np.float64)
        if name != "scores" and not ((values == np.floor(values)) & (np.abs(values) <= MAX_FRAME)).all():
            raise InputError(f"{path}: {name} must be whole numbers of at most {MAX_FRAME}")
    masks: list[Rle | None] = []
    if "masks" in arrays:
        size = arrays.get("mask_size", np.zeros(0))
        if len(arrays["masks"]) != count or len(size) != 2:
            raise InputError(f"{path}: masks must be one a box ({count}), with mask_size (height, width)")
        if not ((size >= 1) & (size <= MAX_FRAME)).all():
            raise InputError(f"{path}: mask_size must be height and width in pixels, got {size}")
        sides = [int(side) for side in size]
        masks = [{"size": sides, "counts": counts} if counts else None for counts in arrays["masks"].tolist()]
    names = tuple(str(name) for name in arrays.get("file_names", ()))
    if names and count and not 1 <= arrays["frames"].min() <= arrays["frames"].max() <= len(names):
        raise InputError(f"{path}: frames must count the {len(names)} file_names from 1")
    return NpzDetections(
        arrays["frames"].astype(np.int64),
        arrays["boxes"].astype(np.float64),
        arrays["scores"].astype(np.float64),
        arrays["labels"].astype(np.int64),
        tuple(PurePosixPath(name.replace("\\", "/")).stem for name in names),
        {i: str(name) for i, name in enumerate(arrays.get("class_names", ()))},
        masks,
    )


def write_npz(
    path: str | Path,
    frames: np.ndarray,
    boxes: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    file_names: Sequence[str] = (),
    class_names: Sequence[str] = (),
    masks: Sequence[Rle | None] = (),
) -> None:
    """Writes the layout above, whole or not at all; masks are N whole RLEs of one size, or None, or none at all.

    Raises:
        OSError: the file cannot be written.
    """
    arrays = {
        "frames": np.asarray(frames, np.int64),
        "boxes": np.asarray(boxes, np.float32).reshape(-1, 4),
        "scores": np.asarray(scores, np.float32),
        "labels": np.asarray(labels, np.int64),
    }
    if file_names:
        arrays["file_names"] = np.array(file_names, dtype=str)
    if class_names:
        arrays["class_names"] = np.array(class_names, dtype=str)
    sizes = [mask["size"] for mask in masks if mask is not None]
    if sizes:
        arrays["masks"] = np.array([b"" if mask is None else mask["counts"] for mask in masks])
        arrays["mask_size"] = np.array(sizes[0], np.int64)
    file = PartFile(path)
    try:
        with open(file.create(), "wb") as out:
            np.savez_compressed(out, **arrays)  # type: ignore[arg-type]
        file.commit()
    except BaseException:
        file.abandon()
        raise
