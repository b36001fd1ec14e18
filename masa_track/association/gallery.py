"""Several embeddings of every track, as it looked at different times, and how alike a detection is to them.

Some views are kept because a thing looks another way from behind: a mean of front and back looks like neither.
"""

from __future__ import annotations

import numpy as np

_SHORTEST = 1e-12


def unit(embeddings: np.ndarray) -> np.ndarray:
    """(..., D) float32 of length 1; zeros stay zeros."""
    embeddings = np.asarray(embeddings, np.float32)
    return embeddings / np.maximum(np.linalg.norm(embeddings, axis=-1, keepdims=True), _SHORTEST)


class Gallery:
    """Up to ``views`` embeddings a track, one row a track.

    The first view is the newest one; the others are kept so long as they differ.

    Attributes:
        vectors: (M, views, D) float32 of length 1; zeros where there is none yet.
        counts: (M,) int64, how many views there are.
    """

    def __init__(self, views: int, dimension: int) -> None:
        self.views, self.dimension = views, dimension
        self.vectors = np.zeros((0, views, dimension), np.float32)
        self.counts = np.zeros(0, np.int64)

    def __len__(self) -> int:
        return len(self.counts)

    def add(self, embeddings: np.ndarray) -> None:
        """A row for each of (K, D) embeddings of length 1."""
        fresh = np.zeros((len(embeddings), self.views, self.dimension), np.float32)
        fresh[:, 0] = embeddings
        self.vectors = np.concatenate((self.vectors, fresh))
        self.counts = np.concatenate((self.counts, np.ones(len(embeddings), np.int64)))

    def keep(self, rows: np.ndarray) -> None:
        """Keeps the rows where the (M,) mask is true."""
        if not rows.all():
            self.vectors, self.counts = self.vectors[rows], self.counts[rows]

    def renew(self, rows: np.ndarray, embeddings: np.ndarray) -> None:
        """The newest views of ``rows`` (K,) become (K, D); the ones before go to the others.

        A full row loses the view that is most like another: what tells the least.
        """
        for row, embedding in zip(rows.tolist(), embeddings, strict=True):
            count = int(self.counts[row])
            if self.views > 1:
                if count < self.views:
                    place = count
                    self.counts[row] = count + 1
                else:
                    alike = self.vectors[row] @ self.vectors[row].T
                    np.fill_diagonal(alike, -np.inf)
                    place = 1 + int(alike[1:].max(axis=1).argmax())
                self.vectors[row, place] = self.vectors[row, 0]
            self.vectors[row, 0] = embedding

    def replace_newest(self, rows: np.ndarray, embeddings: np.ndarray) -> None:
        """The newest views of ``rows`` (K,) become (K, D), and the ones before are forgotten."""
        self.vectors[rows, 0] = embeddings

    def similarities(self, embeddings: np.ndarray, centre: np.ndarray) -> np.ndarray:
        """How alike detections and tracks are.

        Args:
            embeddings: (N, D) of length 1.
            centre: (D,) what all have in common, taken away before angles are measured.

        Returns:
            (N, M) float32: the mean of the cosine to the nearest view and to the mean of all views.
        """
        count, tracks = len(embeddings), len(self)
        asked = unit(embeddings - centre)
        there = np.arange(self.views) < self.counts[:, None]  # (M, views)
        views = np.where(there[..., None], unit(self.vectors - centre), 0)
        cosines = asked @ views.reshape(tracks * self.views, -1).T
        nearest = np.where(there, cosines.reshape(count, tracks, self.views), -1).max(axis=2)
        return (nearest + asked @ unit(views.sum(axis=1)).T) / 2
