"""Cameras of this machine in, by OpenCV."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cv2

from masa_track.contracts import Frame
from masa_track.errors import InputError
from masa_track.video.opencv import quiet_opencv
from masa_track.video.source import DEFAULT_FPS, OnBroken, Source


class CameraSource(Source):
    """A camera of this machine; see :func:`masa_track.video.sources.open_source`.

    Timestamps are the clock's when a frame arrives.
    """

    live = True

    def __init__(self, index: int, fps: float | None) -> None:
        self.index = index
        self.name = f"camera{index}"
        with self._open() as capture:
            ok, image = capture.read()
            reported = capture.get(cv2.CAP_PROP_FPS)
        if not ok:
            raise InputError(f"source {str(index)!r}: the camera gives no picture; is another program using it?")
        self.height, self.width = image.shape[:2]
        self.fps = float(fps or (reported if math.isfinite(reported) and reported > 0 else DEFAULT_FPS))

    @contextmanager
    def _open(self) -> Iterator[Any]:
        with quiet_opencv():
            capture = cv2.VideoCapture(self.index)
        try:
            if not capture.isOpened():
                raise InputError(
                    f"source {str(self.index)!r}: there is no camera {self.index}; "
                    f"for a file or folder of that name give ./{self.index}"
                )
            yield capture
        finally:
            capture.release()

    def _read(self, stride: int, report: OnBroken, start: int) -> Any:
        with self._open() as capture:
            number, first = start - 1, 0.0
            while capture.grab():
                number += 1
                first = first or time.monotonic()
                if (number - start) % stride:
                    continue
                seconds = time.monotonic() - first
                ok, image = capture.retrieve()
                fault = self._size_fault(image) if ok else "could not be decoded"
                if fault:
                    report(number, fault)
                    continue
                yield Frame(number, seconds, (image.shape[1], image.shape[0]), f"{number:06d}.jpg", image)
                del image
            report(number + 1, "the camera stopped giving pictures")
