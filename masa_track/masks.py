"""Masks as COCO's compressed run lengths, by pycocotools, which is only needed for these, and as CompactMask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from masa_track.errors import InputError, missing_extra

if TYPE_CHECKING:
    from supervision.detection.compact_mask import CompactMask

Rle = dict[str, Any]  # {"size": [height, width], "counts": bytes}, as pycocotools takes it


def mask_api(extra: str = "sam") -> Any:
    """pycocotools' mask functions, imported when first needed.

    Args:
        extra: of this package, that holds it.

    Raises:
        InputError: pycocotools is not installed.
    """
    try:
        from pycocotools import mask
    except ImportError as error:
        raise missing_extra("pycocotools", extra, "for masks") from error
    return mask


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """A (H, W) bool mask as COCO RLE: ``{"size": [H, W], "counts": text}``.

    Raises:
        InputError: if pycocotools is not installed.
    """
    encoded = mask_api().encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode("ascii")}


def mask_area(rle: dict[str, Any]) -> int:
    """The number of pixels of a mask of :func:`encode_mask`.

    Raises:
        InputError: if pycocotools is not installed.
    """
    return int(mask_api().area({"size": rle["size"], "counts": rle["counts"].encode("ascii")}))


def is_whole(rle: Rle) -> bool:
    """Whether the runs of a compressed mask fill its picture.

    pycocotools does not ask: of a mask that is cut short it gives whatever was in memory for the rest.
    """
    codes = np.frombuffer(rle["counts"], np.uint8).astype(np.int64) - 48  # six bits a character
    if not len(codes) or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        return False
    last = (codes & 32) == 0  # of the characters of one number, least significant first
    starts = np.flatnonzero(np.concatenate(([True], last[:-1])))
    shifts = 5 * (np.arange(len(codes)) - np.repeat(starts, np.diff([*starts, len(codes)])))
    if shifts.max() > 50:
        return False
    runs = np.add.reduceat((codes & 31) << shifts, starts)
    runs -= np.where(codes[last] & 16, 1 << (shifts[last] + 5), 0)  # negative numbers
    for parity in (1, 2):  # from the fourth on, a run is told by its difference to the last but one
        runs[parity::2] = np.cumsum(runs[parity::2])
    return bool((runs >= 0).all() and runs.sum() == rle["size"][0] * rle["size"][1])


def compressed(segmentation: Any, size: tuple[int, int]) -> Rle:
    """What COCO json or a pickle has as a mask, compressed.

    Args:
        segmentation: polygons, an RLE as COCO has it, compressed or not, or a (H, W) array.
        size: (H, W) of the picture.

    Raises:
        InputError: it is none of these, damaged, or of another size; or pycocotools is not installed.
    """
    api = mask_api()
    try:
        if isinstance(segmentation, np.ndarray) and segmentation.ndim == 2:
            rle = api.encode(np.asfortranarray(segmentation, dtype=np.uint8))
        elif isinstance(segmentation, list):
            _check_polygons(segmentation, size)
            rle = api.merge(api.frPyObjects(segmentation, *size))
        else:
            sides, counts = [int(side) for side in segmentation["size"]], segmentation["counts"]
            if isinstance(counts, list) and sides == list(size):
                if not all(isinstance(run, int) and run >= 0 for run in counts) or sum(counts) != size[0] * size[1]:
                    raise ValueError("the runs do not fill the picture")
                rle = api.frPyObjects({"size": sides, "counts": counts}, *sides)
            else:
                rle = {"size": sides, "counts": counts.encode() if isinstance(counts, str) else counts}
        rle = {"size": [int(side) for side in rle["size"]], "counts": rle["counts"]}
        if rle["size"] == list(size) and not isinstance(rle["counts"], bytes):
            raise TypeError("counts must be text, bytes or a list")
    except (TypeError, KeyError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise InputError(
            f"segmentation must be polygons or an RLE of size and counts, got {segmentation!r:.60}"
        ) from error
    if rle["size"] != list(size):
        raise InputError(
            f"the mask is {rle['size'][1]}x{rle['size'][0]}, its image {size[1]}x{size[0]}; "
            "give the masks made on this image, or fix the size"
        )
    if not is_whole(rle):
        raise InputError("the mask's runs do not fill its image, they are damaged; make it anew")
    return rle


def _check_polygons(polygons: list[Any], size: tuple[int, int]) -> None:
    """Raises ValueError for points far outside: pycocotools takes memory for each pixel along a polygon's sides."""
    most = 3 * max(size)
    for polygon in polygons:
        points = np.array(polygon, np.float64)
        if points.ndim != 1 or len(points) < 6 or len(points) % 2 or not (np.abs(points) <= most).all():
            raise ValueError("a polygon must be x, y of three points or more, near the picture")
    if not polygons:
        raise ValueError("no polygon")


def decode_mask(rle: Rle) -> np.ndarray:
    """A (H, W) bool mask of a whole RLE, see :func:`compressed`."""
    return mask_api().decode(rle).astype(bool)


def as_mask(mask: Any, size: tuple[int, int], name: str = "mask") -> np.ndarray:
    """One mask in any form as a (H, W) bool array.

    Args:
        mask: a (H, W) array of bools or of 0 and 1; supervision's ``CompactMask`` of one mask; or COCO's RLE.
        size: (width, height) that it must have.
        name: of the argument, for messages.

    Raises:
        InputError: another shape, other values, or a damaged RLE.
    """
    shape = size[::-1]
    if isinstance(mask, dict):
        return decode_mask(compressed(mask, shape))
    array = np.asarray(mask)
    if array.shape == (1, *shape):
        array = array[0]
    if array.shape != shape:
        raise InputError(
            f"{name} must be (H, W) = {shape} like the picture, got {array.shape}: give the mask made on this picture"
        )
    if array.dtype != bool and not (array.dtype.kind in "iuf" and np.isin(array, (0, 1)).all()):
        raise InputError(f"{name} must be bool, or 0 and 1, got {array.dtype}: compare it with a threshold first")
    return array.astype(bool)


def mask_box(mask: np.ndarray) -> np.ndarray | None:
    """(4,) xyxy box around a (h, w) bool mask, the far edges exclusive; None where it is empty."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not len(columns):
        return None
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float64)


def compact_masks(masks: np.ndarray) -> CompactMask:
    """(N, H, W) bool masks as supervision's ``CompactMask``, which keeps run lengths of their boxes only."""
    from supervision.detection.compact_mask import CompactMask

    boxes = np.zeros((len(masks), 4), np.float32)  # first and last pixel, which CompactMask includes
    for box, mask in zip(boxes, masks, strict=True):
        around = mask_box(mask)
        if around is not None:
            box[:] = around - (0, 0, 1, 1)
    return CompactMask.from_dense(masks, boxes, masks.shape[1:])
