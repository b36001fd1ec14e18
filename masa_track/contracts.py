"""The interfaces between the parts of the package. Needs numpy only."""

from __future__ import annotations

from typing import Protocol

import numpy as np


class Embeds(Protocol):
    """What the tracker needs of a model."""

    def embed(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """(N, D) float32 embeddings of (N, 4) xyxy boxes of a (H, W, 3) BGR uint8 frame."""
        ...
