"""For BoxMOT: the ``reid_model`` of its trackers with appearance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from masa_track.adapters.normalize import l2_normalize

if TYPE_CHECKING:
    from masa_track.contracts import Embeds


class ReIDModel:
    """What BoxMOT's trackers ask for embeddings: ``BotSort(reid_model=ReIDModel(model))``.

    Args:
        model: e.g. ``masa_track.load("nano")``.
    """

    def __init__(self, model: Embeds) -> None:
        self.model = model

    def get_features(self, boxes: np.ndarray, image: np.ndarray) -> np.ndarray:
        """Embeddings (N, D) float32 of length 1.

        Args:
            boxes: (N, 4) xyxy pixels; more columns are left aside.
            image: (H, W, 3) BGR uint8.
        """
        return l2_normalize(self.model.embed(image, np.asarray(boxes, np.float32)[:, :4]))
