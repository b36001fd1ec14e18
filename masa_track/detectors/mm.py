"""mmdet's detectors, through the package that the user has installed. mmdet reads the checkpoint."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import supervision as sv

from masa_track.detectors.base import PictureDetector
from masa_track.errors import InputError, first_line
from masa_track.formats.results import to_detections
from masa_track.models.devices import choose_device, mixed_precision

_NEEDED = "mmdet is needed for this detector: install mmdet (or onedl-mmdetection) and mmcv as their pages say"


class MmdetDetector(PictureDetector):
    """A detector of mmdet.

    Args:
        config: its configuration file.
        checkpoint: its weights; mmdet reads them, and may unpickle what is in them.
        device: where it runs; None takes a GPU if there is one.
        threshold: boxes of a lower score are left out.
        precision: ``fp16``, for a GPU; None: float32. mmcv's suppression takes no bfloat16.

    Raises:
        InputError: without mmdet, or if a file is not there.
    """

    track_activation_threshold = 0.3  # mmdet's own, for its pictures

    def __init__(
        self,
        config: str,
        checkpoint: str,
        device: str | None = None,
        threshold: float = 0.1,
        precision: str | None = None,
    ) -> None:
        try:
            from mmdet.apis import inference_detector, init_detector
        except ImportError as error:
            raise InputError(_NEEDED) from error
        if precision not in (None, "fp16"):
            raise InputError(f"mmdet computes in fp32 or fp16, got precision {precision}: use one of these")
        place = choose_device(device)
        self._place, self._precision = place, precision
        mixed_precision(place, precision)  # a mistake is named before the weights are read
        try:
            self.network = init_detector(config, checkpoint, device=str(place))
        except Exception as error:  # mmengine runs the configuration and unpickles the weights
            raise InputError(
                f"detector 'mmdet:{config}:{checkpoint}' cannot be loaded ({first_line(error)}): give a "
                "configuration and its weights"
            ) from error
        self.class_names = dict(enumerate(self.network.dataset_meta["classes"]))
        self.threshold = threshold
        self._infer = inference_detector

    def _find(self, image: np.ndarray) -> sv.Detections:
        with mixed_precision(self._place, self._precision):
            result = self._infer(self.network, image)
        if self._precision is not None:
            rows = result.pred_instances
            rows.bboxes, rows.scores = rows.bboxes.float(), rows.scores.float()
        found = to_detections(result)
        kept: Any = found[np.asarray(found.confidence) >= self.threshold]
        return cast(sv.Detections, kept)
