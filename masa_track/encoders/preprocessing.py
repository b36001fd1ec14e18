"""Checks of frames before they are preprocessed. Needs numpy only."""

from __future__ import annotations

from collections.abc import Sequence

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


def check_images(images: Sequence[np.ndarray]) -> None:
    """Raises InputError unless ``images`` is a sequence of (H, W, 3) uint8 pictures; it may be empty."""
    if isinstance(images, np.ndarray) and images.ndim == 3:
        raise InputError(
            f"images must be a sequence of pictures, got one picture of shape {images.shape}: pass [frame], and take "
            "the first of the results"
        )
    for image in images:
        check_frame(image)
