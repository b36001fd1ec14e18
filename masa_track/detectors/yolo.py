"""ultralytics' detectors (YOLO, RT-DETR, ...), through the package that the user has installed.

ultralytics is under the AGPL; nothing of it is in masa-track. It reads a ``.pt`` by unpickling, which runs what the
file says: open only files whose origin you trust.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import supervision as sv

from masa_track.detectors.base import PictureDetector
from masa_track.errors import InputError, first_line, missing_extra
from masa_track.formats.results import to_detections


class YoloDetector(PictureDetector):
    """A detector of ultralytics.

    Args:
        weights: a file, or a name that ultralytics fetches, e.g. ``yolo11n.pt``.
        device: where it runs; None leaves it to ultralytics.
        threshold: boxes of a lower score are left out.
        precision: ``fp16``, for a GPU; None: float32.

    Raises:
        InputError: without ultralytics, if the file cannot be had or is no detector, or for another precision.
    """

    track_activation_threshold = 0.25  # ultralytics' own, for its pictures and its trackers

    def __init__(
        self, weights: str, device: str | None = None, threshold: float = 0.1, precision: str | None = None
    ) -> None:
        if precision not in (None, "fp16"):
            raise InputError(f"ultralytics computes in fp32 or fp16, got precision {precision}: use one of these")
        try:
            from ultralytics import YOLO
        except ImportError as error:
            raise missing_extra("ultralytics", "ultralytics", "for this detector") from error
        try:
            self.network = YOLO(weights, verbose=False)
        except Exception as error:  # unpickling a damaged file raises anything
            raise InputError(
                f"detector 'ultralytics:{weights}' cannot be loaded ({first_line(error)}): give a file, or a "
                "name that ultralytics can fetch, e.g. yolo11n.pt"
            ) from error
        if self.network.task not in ("detect", "segment", "pose", "obb"):
            raise InputError(f"detector 'ultralytics:{weights}' must find boxes, but its task is {self.network.task!r}")
        self.class_names = {int(index): str(name) for index, name in self.network.names.items()}
        self._options = {"conf": threshold, "verbose": False, **({} if device is None else {"device": device})}
        self._options |= {} if precision is None else {"half": True}

    def _find(self, image: np.ndarray) -> sv.Detections:
        return self._find_all([image])[0]

    def _find_all(self, images: Sequence[np.ndarray]) -> list[sv.Detections]:
        return [to_detections(result) for result in self.network.predict(list(images), **self._options)]
