"""Drawn frames as pictures in a folder."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np

from masa_track.contracts import Frame
from masa_track.errors import InputError

QUALITY = 95  # of JPEG
_LARGEST_JPEG = 65_500  # pixels a side that OpenCV's JPEG takes


class FrameFolder:
    """Writes frames as ``000001.jpg``, ... by their numbers; as PNG where a side has more pixels than JPEG allows.

    Args:
        path: the folder; it must be there when the first frame is written.
        may_hold: whether it may hold files: frames of the same video.

    Raises:
        InputError: something else is in its place, or it holds files: those of two videos would be mixed.
    """

    def __init__(self, path: str | Path, may_hold: bool = False) -> None:
        self.path = Path(path)
        if self.path.exists() and (not self.path.is_dir() or (any(self.path.iterdir()) and not may_hold)):
            raise InputError(f"--save-frames must name a new or an empty folder, got {path}: name another one")

    def write(self, frame: Frame, drawing: np.ndarray) -> None:
        """Writes a drawn frame, (H, W, 3) uint8 BGR.

        Raises:
            OSError: the file cannot be written; no part of it is left.
        """
        suffix = ".jpg" if max(drawing.shape) <= _LARGEST_JPEG else ".png"
        path = self.path / f"{frame.number:06d}{suffix}"
        _, content = cv2.imencode(suffix, drawing, [cv2.IMWRITE_JPEG_QUALITY, QUALITY] if suffix == ".jpg" else [])
        try:
            path.write_bytes(content.tobytes())
        except OSError as error:
            with suppress(OSError):
                path.unlink(missing_ok=True)
            raise OSError(error.errno, error.strerror, str(path)) from error
