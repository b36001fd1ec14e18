"""Masks as COCO's compressed run lengths, by pycocotools, which is only needed where there are masks."""

from __future__ import annotations

from typing import Any

import numpy as np

from masa_track.errors import InputError


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """A (H, W) bool mask as COCO RLE: ``{"size": [H, W], "counts": text}``.

    Raises:
        InputError: if pycocotools is not installed.
    """
    try:
        from pycocotools import mask as coco
    except ImportError as error:
        raise InputError('pycocotools is needed to write masks: pip install "masa-track[sam]"') from error
    encoded = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode("ascii")}
