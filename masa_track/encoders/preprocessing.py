"""From a frame to a network's input: checks, scaling, normalisation, padding. Needs numpy and OpenCV only."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from masa_track.errors import InputError
from masa_track.registry import Preprocessing


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


def to_input(frame: np.ndarray, preprocessing: Preprocessing) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """A network's input.

    Args:
        frame: (H, W, 3) BGR uint8.
        preprocessing: sizes and statistics.

    Returns:
        The input (1, 3, H', W') float32, channels last in memory; the (4,) float32 factors that bring xyxy pixels of
        the frame into it; and (height, width) of the picture inside it, pixels.
    """
    height, width = frame.shape[:2]
    scale = preprocessing.long_side / max(height, width)
    if preprocessing.short_side is not None:
        scale = min(scale, preprocessing.short_side / min(height, width))
    new_width, new_height = max(1, int(width * scale + 0.5)), max(1, int(height * scale + 0.5))
    resized = cv2.resize(frame, (new_width, new_height), interpolation=cv2.INTER_LINEAR)
    divisor = preprocessing.size_divisor
    padded = [-(-side // divisor) * divisor for side in (new_height, new_width)]
    image = np.zeros((1, *padded, 3), np.float32)
    inner = image[0, :new_height, :new_width]
    np.subtract(resized[..., ::-1], np.array(preprocessing.mean, np.float32), out=inner)
    inner /= np.array(preprocessing.std, np.float32)
    factors = np.array([new_width / width, new_height / height] * 2, np.float32)
    return image.transpose(0, 3, 1, 2), factors, (new_height, new_width)


def within_reach(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Boxes (N, 4) cut where they reach more than a picture beyond the picture: RoIAlign samples all they cover.

    Args:
        boxes: xyxy pixels.
        size: (width, height) of the picture.
    """
    side = np.array([*size, *size], np.float32)
    return boxes.clip(-side, 2 * side)
