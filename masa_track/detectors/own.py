"""A model's own class-agnostic head as a detector: "track everything"."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from masa_track.detectors.base import FeatureDetector
from masa_track.errors import InputError
from masa_track.registry import OWN, models_with

if TYPE_CHECKING:
    import supervision as sv

    from masa_track.contracts import Features
    from masa_track.encoders.base import BaseEmbedder


class OwnDetector(FeatureDetector):
    """Everything that the model itself takes for a thing, all of one class.

    Detector and embeddings can share the features: a frame then goes through the backbone once.

    Args:
        embedder: ``nano`` or an official model; its weights also are the detector.
        threshold: boxes of a lower score are left out; the reference's configurations have 0.02 to 0.05.

    Raises:
        InputError: for a model without such a head.

    Source: Li et al., Matching Anything by Segmenting Anything, CVPR 2024, figure 3b.
    """

    class_names = {0: "object"}  # noqa: RUF012
    track_activation_threshold = 0.3

    def __init__(self, embedder: BaseEmbedder, threshold: float = 0.15) -> None:
        if not embedder.finds_boxes:
            raise InputError(
                f"the model {embedder.name!r} finds no boxes itself: give --detections or another --detector, or a "
                f"--model that does: {', '.join(models_with(OWN))}"
            )
        super().__init__(embedder)
        self.threshold = threshold

    def _find(self, features: Features) -> sv.Detections:
        import supervision as sv

        boxes, scores = self.embedder.detect_features(features)
        good = scores >= self.threshold
        boxes, scores = boxes[good], scores[good]
        return sv.Detections(xyxy=boxes, confidence=scores, class_id=np.zeros(len(boxes), int))
