"""For roboflow's ``trackers``: the encoder of its trackers with appearance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from masa_track.adapters.normalize import l2_normalize

if TYPE_CHECKING:
    from masa_track.contracts import Embeds


class FeatureExtractor:
    """What roboflow's trackers ask for embeddings.

    ``BoTSORTTracker(reid_model=FeatureExtractor(model))`` where the tracker has that argument (its development branch),
    ``DeepSORTTracker(feature_extractor=FeatureExtractor(model))`` in trackers 2.0.

    Args:
        model: e.g. ``masa_track.load("nano")``.
    """

    def __init__(self, model: Embeds) -> None:
        self.model = model

    def extract_features(self, detections: Any, frame: Any) -> np.ndarray:
        """Embeddings (N, D) float32 of length 1; (0, 0) without detections.

        Args:
            detections: ``supervision.Detections``.
            frame: (H, W, 3) BGR uint8. trackers 2.0 gives the two the other way round, which is noticed.
        """
        if isinstance(detections, np.ndarray):
            detections, frame = frame, detections
        if not len(detections):
            return np.zeros((0, 0), np.float32)
        return l2_normalize(self.model.embed(frame, detections.xyxy))
