"""Embeddings as the other trackers want them: only their direction."""

from __future__ import annotations

import numpy as np


def l2_normalize(embeddings: np.ndarray) -> np.ndarray:
    """(N, D) float32, each row of length 1; a row of zeros points nowhere, and is given a direction of its own."""
    rows = np.array(embeddings, np.float32)
    rows[~rows.any(axis=1), :1] = 1
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
