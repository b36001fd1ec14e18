"""OpenCV's log, and a function of OpenCV that several readers and writers use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """Keeps OpenCV from writing to stderr what the caller reports."""
    logging: Any = getattr(cv2.utils, "logging", None)
    if logging is None:
        yield
        return
    before = logging.getLogLevel()
    logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        logging.setLogLevel(before)


def fitted(frame: np.ndarray, width: int, height: int) -> np.ndarray:
    """The frame scaled into ``width`` x ``height``, centred on black; (height, width, 3) uint8."""
    scale = min(width / frame.shape[1], height / frame.shape[0])
    inner_width = min(width, max(1, round(frame.shape[1] * scale)))
    inner_height = min(height, max(1, round(frame.shape[0] * scale)))
    left, top = (width - inner_width) // 2, (height - inner_height) // 2
    canvas = np.zeros((height, width, 3), np.uint8)
    inner = cv2.resize(frame, (inner_width, inner_height), interpolation=cv2.INTER_AREA)
    canvas[top : top + inner_height, left : left + inner_width] = inner
    return canvas
