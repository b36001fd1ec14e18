"""The boxes of a file, for a video: read and checked before any work."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from masa_track.errors import InputError
from masa_track.pipeline.recipe import Boxes

if TYPE_CHECKING:
    import supervision as sv

    from masa_track.contracts import Frame
    from masa_track.formats.detection_file import DetectionFile
    from masa_track.formats.joining import Numbering
    from masa_track.video.sources import Source


def file_boxes(path: str, source: Source, numbering: Numbering | None = None, skip_bad_rows: bool = False) -> Boxes:
    """The boxes of a file, checked against the source. What the user should know of them is printed.

    Args:
        path: of the file.
        source: what is read.
        numbering: how the file numbers frames; None: it is found out.
        skip_bad_rows: leave out rows that make no sense.

    Raises:
        InputError: the file cannot be read or is of another video, or its scores are not in 0..1.
    """
    from masa_track.checks import score_fix
    from masa_track.formats.detections import read_detections

    file = read_detections(path, source, numbering, skip_bad_rows)
    for note in file.notes:
        print(note, file=sys.stderr)
    if fix := score_fix(file.scores):
        worst = file.scores.min() if file.scores.min() < -1e-3 else file.scores.max()
        raise InputError(f"--detections {path}: scores must be probabilities, 0..1, got {worst:g}: {fix}")
    masks_at = read_masks(file, source) if any(file.masks) else None

    def boxes_at(frame: Frame) -> sv.Detections:
        boxes = file.at(frame.number)
        if masks_at is not None:
            boxes.mask = masks_at(frame.number)
        return boxes

    return Boxes(boxes_at, file.class_names)


def read_masks(file: DetectionFile, source: Source) -> Callable[[int], np.ndarray] | None:
    """The masks of a file of detections, checked; None, after a message, if pycocotools is not installed.

    Returns:
        By frame number, those of the frame's boxes: (N, H, W) bool, all False for a box without a mask.

    Raises:
        InputError: a mask is damaged, or of another size than the video.
    """
    from masa_track.masks import compressed, decode_mask, mask_api

    try:
        mask_api()
    except InputError as error:
        print(f"{file.path}: its masks are left out: {error}", file=sys.stderr)
        return None
    size = source.height, source.width
    whole = []
    for number, mask in zip(file.frames.tolist(), file.masks, strict=True):
        try:
            whole.append(compressed(mask, size) if mask else None)
        except InputError as error:
            raise InputError(f"{file.path}, frame {number}: {error}") from error

    def masks_at(number: int) -> np.ndarray:
        start, stop = np.searchsorted(file.frames, [number, number + 1])
        found = np.zeros((stop - start, *size), bool)
        for row, rle in enumerate(whole[start:stop]):
            if rle is not None:
                found[row] = decode_mask(rle)
        return found

    return masks_at
