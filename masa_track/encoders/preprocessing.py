"""Checks of a frame before it is preprocessed. Needs numpy only."""

from __future__ import annotations

import numpy as np

from masa_track.errors import InputError


def check_frame(frame: np.ndarray) -> None:
    """Raises InputError unless ``frame`` is a (H, W, 3) uint8 picture of at least one pixel."""
    shape = getattr(frame, "shape", None)
    if not isinstance(frame, np.ndarray) or frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
        got = f"{shape} {getattr(frame, 'dtype', type(frame).__name__)}" if shape is not None else repr(type(frame))
        raise InputError(
            f"frame must be (H, W, 3) BGR uint8, got {got}: grey and four-channel pictures can be converted by "
            "cv2.cvtColor with COLOR_GRAY2BGR or COLOR_BGRA2BGR"
        )
    if 0 in frame.shape:
        raise InputError(f"frame must hold at least one pixel, got {frame.shape}")
