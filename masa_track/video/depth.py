"""Pictures of more than 8 bits a channel: which values are black and white."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from masa_track.errors import InputError

Range = tuple[float, float]
SAMPLES = 8  # pictures that are looked at
_BITS = (8, 10, 12, 14, 16)
_NARROW = 0.25  # of all values: a picture that uses less, as of a thermal camera, is stretched
_MARGIN = 0.1  # of the values used, added on both sides


def parse_range(text: str) -> Range:
    """``--range LOW,HIGH``.

    Raises:
        InputError: it is not two numbers, the first lower.
    """
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low = high = 0.0
    if not low < high or not np.isfinite([low, high]).all():
        raise InputError(f"--range must be LOW,HIGH, the values of black and white, e.g. 0,4095, got {text!r}")
    return low, high


def find_range(pictures: Sequence[np.ndarray]) -> Range | None:
    """The values of black and white of 16-bit pictures; None where all 16 bits are used.

    Values up to 4095, say, are 12 bits. Where less than a quarter of the bits' values is used, the values used are
    stretched.
    """
    if not pictures:
        return None
    least, most = (int(edge) for edge in (min(p.min() for p in pictures), max(p.max() for p in pictures)))
    top = next(2**bits for bits in _BITS if most < 2**bits)
    if most > least and most - least < _NARROW * top:
        margin = _MARGIN * (most - least)
        return max(0.0, least - margin), most + margin
    return None if top == 2**16 else (0.0, top - 1.0)


def to_8_bits(picture: np.ndarray, scale: Range) -> np.ndarray:
    """The picture as uint8: ``LOW`` becomes 0, ``HIGH`` 255; NaN becomes 0."""
    low, high = scale
    if picture.dtype in (np.uint8, np.uint16):
        values = np.arange(np.iinfo(picture.dtype).max + 1)
        table = np.clip((values - low) * (255 / (high - low)) + 0.5, 0, 255).astype(np.uint8)
        return table[picture]
    scaled = np.nan_to_num((picture.astype(np.float64) - low) * (255 / (high - low)) + 0.5)
    return np.clip(scaled, 0, 255).astype(np.uint8)
