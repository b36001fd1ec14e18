"""Decoded pictures as BGR: upright, with 8 bits, of standard brightness, without lines of two fields."""

from __future__ import annotations

from functools import cache
from typing import Any

import cv2
import numpy as np

from masa_track.video.depth import Range, to_8_bits

PQ, HLG = 16, 18  # transfer characteristics, as FFmpeg numbers them
WHITE = 203.0  # cd/m2 of reference white, ITU-R BT.2408
BT2020 = 9  # colour primaries, as FFmpeg numbers them
# Linear BGR of BT.2020 to that of BT.709, ITU-R BT.2087, equation 5 of annex 2.
_TO_BT709 = np.array([[1.1187, -0.1006, -0.0182], [-0.0083, 1.1329, -0.1246], [-0.0728, -0.5876, 1.6605]], np.float32)


def transfer_of(picture: Any, stream: Any) -> int:
    """How a picture codes light: :data:`PQ`, :data:`HLG` or something else."""
    value = getattr(picture, "color_trc", None)
    return int(value if value in (PQ, HLG) else stream.codec_context.color_trc or 0)


def bgr(picture: Any, transfer: int, scale: Range | None, deinterlace: bool) -> np.ndarray:
    """(H, W, 3) uint8 BGR of a decoded picture, as it is stored: see :func:`upright`.

    Args:
        picture: of PyAV.
        transfer: of :func:`transfer_of`; PQ and HLG are tone-mapped, and colours of BT.2020 become those of BT.709.
        scale: black and white of deep grey, as :func:`grey_16` has it; None: all bits.
        deinterlace: make the lines of the second field of those of the first.
    """
    if scale is not None:
        image = cv2.cvtColor(to_8_bits(grey_16(picture), scale), cv2.COLOR_GRAY2BGR)
    else:
        image = picture.to_ndarray(format="bgr24")
    if transfer in (PQ, HLG):
        image = _standard_range(image, transfer, picture.color_primaries == BT2020)
    if deinterlace and picture.interlaced_frame and len(image) > 2:
        image = image.copy()
        following = np.concatenate((image[2::2], image[-2 + len(image) % 2 :][:1]))[: len(image[1::2])]
        image[1::2] = cv2.addWeighted(image[0::2][: len(image[1::2])], 0.5, following, 0.5, 0)
    return image


def grey_bits(picture: Any) -> int:
    """Bits of a picture of deep grey, 9 to 16; 0 for others."""
    bits = int(picture.format.components[0].bits)
    return bits if picture.format.name.startswith("gray") and 8 < bits <= 16 else 0


def grey_16(picture: Any) -> np.ndarray:
    """(H, W) uint16 of deep grey; fewer bits are shifted to the top of 16."""
    return np.asarray(picture.to_ndarray(format="gray16le"))


def _standard_range(image: np.ndarray, transfer: int, wide: bool) -> np.ndarray:
    """(H, W, 3) uint8 of an HDR image: reference white becomes 255, and what is brighter too."""
    light = _light(transfer)
    if not wide:
        return cv2.LUT(image, np.round(255 * light ** (1 / 2.2)).astype(np.uint8))
    linear = np.clip(cv2.transform(cv2.LUT(image, light), _TO_BT709), 0, 1)
    return np.round(255 * cv2.pow(linear, 1 / 2.2)).astype(np.uint8)


@cache
def _light(transfer: int) -> np.ndarray:
    """(256,) float32: the light of each code, where 1 is reference white and the most."""
    code = np.arange(256) / 255
    if transfer == PQ:  # SMPTE ST 2084
        m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
        root = code ** (1 / m2)
        light = 10_000 / WHITE * (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)
    else:  # ARIB STD-B67, whose reference white has code .75; shown with a gamma of 1.2
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)
        light = (light / ((np.exp((0.75 - c) / a) + b) / 12)) ** 1.2
    return np.minimum(light, 1).astype(np.float32)


def upright(image: np.ndarray, picture: Any) -> np.ndarray:
    """The image turned and mirrored the way the video says it is to be shown."""
    turn = _matrix(picture)
    if turn is None:
        turns = round(picture.rotation / 90) % 4
        return np.ascontiguousarray(np.rot90(image, turns)) if turns else image
    (a, b), (c, d) = turn
    if abs(a) + abs(d) < abs(b) + abs(c):
        image = image.transpose(1, 0, 2)
        a, d = c, b
    image = image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
    return np.ascontiguousarray(image)


def is_turned(picture: Any) -> bool:
    """Whether the picture is shown with its sides exchanged."""
    turn = _matrix(picture)
    if turn is None:
        return round(picture.rotation / 90) % 2 == 1
    return bool(abs(turn[0][0]) + abs(turn[1][1]) < abs(turn[0][1]) + abs(turn[1][0]))


def _matrix(picture: Any) -> np.ndarray | None:
    """(2, 2) of the display matrix: a, b and c, d of x' = ax + cy, y' = bx + dy; None where there is none."""
    data = next((one for one in picture.side_data if getattr(one.type, "name", "") == "DISPLAYMATRIX"), None)
    if data is None:
        return None
    values = np.frombuffer(bytes(data), np.dtype("=i4"))
    if len(values) != 9 or not values[[0, 1, 3, 4]].any():
        return None
    return values[[0, 1, 3, 4]].astype(np.float64).reshape(2, 2)
