"""Masks of a frame's boxes in one form, whatever form a detector or a file has them in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from masa_track.errors import InputError
from masa_track.masks import compressed, decode_mask


def bool_masks(masks: Any, count: int, size: tuple[int, int], name: str) -> Tensor:
    """Masks (N, H, W) bool of a frame's boxes, on the device that they came on.

    Args:
        masks: a tensor or array of this shape, mmdet's ``BitmapMasks`` or ``PolygonMasks``, or a list of arrays, COCO's
            RLEs or polygons, one a box.
        count: N, of the boxes.
        size: (H, W) of the original picture.
        name: of the masks, for messages.

    Raises:
        InputError: they are of another number or size.
    """
    if hasattr(masks, "to_ndarray"):
        masks = masks.to_ndarray()
    elif isinstance(masks, Sequence):
        masks = np.stack([_one(mask, size) for mask in masks]) if masks else np.zeros((0, *size), bool)
    found = masks if isinstance(masks, Tensor) else torch.from_numpy(np.ascontiguousarray(masks))
    if tuple(found.shape) != (count, *size):
        raise InputError(
            f"{name} must be {(count, *size)}, a mask a box of the original picture, got {tuple(found.shape)}"
        )
    return found.bool()


def _one(mask: Any, size: tuple[int, int]) -> np.ndarray:
    return decode_mask(compressed(mask, size)) if isinstance(mask, Mapping | list) else np.asarray(mask, bool)
