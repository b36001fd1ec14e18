"""From a BGR frame to a network's input: resize with the scale kept, normalise, pad."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from masa_track.association.checks import as_floats
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


def check_boxes(boxes: np.ndarray) -> np.ndarray:
    """``boxes`` as (N, 4) float32.

    Raises:
        InputError: if they are of another shape, not finite, or inverted.
    """
    boxes = as_floats("boxes", boxes)
    if boxes.size == 0:
        return boxes.reshape(0, 4)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise InputError(f"boxes must be (N, 4) xyxy pixels, got {boxes.shape}")
    wrong = ~np.isfinite(boxes).all(axis=1)
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(f"boxes must be finite, got {boxes[row].tolist()} in row {row}: leave that detection out")
    wrong = (boxes[:, 2:] < boxes[:, :2]).any(axis=1)
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(f"boxes must be xyxy with x1 <= x2 and y1 <= y2, got {boxes[row].tolist()} in row {row}")
    return boxes


def to_input(
    frame: np.ndarray,
    long_side: int,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    size_divisor: int,
    short_side: int | None = None,
) -> tuple[Tensor, np.ndarray]:
    """A network's input.

    Args:
        frame: (H, W, 3) BGR uint8.
        long_side: pixels that the longer side is scaled to.
        mean, std: RGB, in 0..255.
        size_divisor: the right and the bottom are padded with zeros (after normalising) up to multiples of it.
        short_side: pixels that the shorter side may have at most; None for any.

    Returns:
        The input (1, 3, H', W') float32, and the (4,) float32 factors that bring xyxy pixels of the frame into it.
    """
    height, width = frame.shape[:2]
    scale = long_side / max(height, width)
    if short_side is not None:
        scale = min(scale, short_side / min(height, width))
    new_width, new_height = max(1, int(width * scale + 0.5)), max(1, int(height * scale + 0.5))
    resized = cv2.resize(frame, (new_width, new_height), interpolation=cv2.INTER_LINEAR)
    padded_size = [-(-side // size_divisor) * size_divisor for side in (new_height, new_width)]
    image = torch.zeros((1, 3, *padded_size)).contiguous(memory_format=torch.channels_last)
    inner = image[0, :, :new_height, :new_width].permute(1, 2, 0)  # (H, W, 3)
    inner.copy_(torch.from_numpy(np.ascontiguousarray(resized[..., ::-1])))
    inner.sub_(torch.tensor(mean)).div_(torch.tensor(std))
    factors = np.array([new_width / width, new_height / height] * 2, np.float32)
    return image, factors
