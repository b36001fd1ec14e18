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

    The first view is the newest one; the others are kept so long as they differ. Rows live in buffers that double when
    full, so a new track copies nothing.

    Args:
        views: the most of a track.
        dimension: D, of the embeddings.
    """

    def __init__(self, views: int, dimension: int) -> None:
        self.views, self.dimension = views, dimension
        self._length = 0
        self._vectors = np.zeros((8, views, dimension), np.float32)
        self._counts = np.zeros(8, np.int64)
        self._products = np.zeros((8, views, views), np.float32)  # of each two views of a track

    def __len__(self) -> int:
        return self._length

    @property
    def vectors(self) -> np.ndarray:
        """(M, views, D) float32 of length 1; zeros where there is none yet."""
        return self._vectors[: self._length]

    @property
    def counts(self) -> np.ndarray:
        """(M,) int64, how many views there are."""
        return self._counts[: self._length]

    def add(self, embeddings: np.ndarray) -> None:
        """A row for each of (K, D) embeddings of length 1."""
        start, end = self._length, self._length + len(embeddings)
        if end > len(self._counts):
            room = max(end, 2 * len(self._counts)) - len(self._counts)
            for name in ("_vectors", "_counts", "_products"):
                buffer = getattr(self, name)
                setattr(self, name, np.concatenate((buffer, np.zeros((room, *buffer.shape[1:]), buffer.dtype))))
        self._length = end
        self._vectors[start:end] = 0
        self._vectors[start:end, 0] = embeddings
        self._counts[start:end] = 1
        self._products[start:end] = 0
        self._products[start:end, 0, 0] = (embeddings**2).sum(axis=1)

    def keep(self, rows: np.ndarray) -> None:
        """Keeps the rows where the (M,) mask is true."""
        if rows.all():
            return
        kept = int(rows.sum())
        for name in ("_vectors", "_counts", "_products"):
            buffer = getattr(self, name)
            buffer[:kept] = buffer[: self._length][rows]
        self._length = kept

    def renew(self, rows: np.ndarray, embeddings: np.ndarray) -> None:
        """The newest views of ``rows`` (K,) become (K, D); the ones before are kept with the others.

        A full row loses the view that is most like another, the coming one included: what tells the least.
        """
        for row, embedding in zip(rows.tolist(), embeddings, strict=True):
            count = int(self._counts[row])
            place = count
            if count < self.views:
                self._counts[row] = count + 1
            else:
                alike = self._products[row].copy()
                np.fill_diagonal(alike, -np.inf)
                place = int(np.maximum(alike.max(axis=1), self._vectors[row] @ embedding).argmax())
            if place:
                self._put(row, place, self._vectors[row, 0])
            self._put(row, 0, embedding)

    def replace_newest(self, rows: np.ndarray, embeddings: np.ndarray) -> None:
        """The newest views of ``rows`` (K,) become (K, D), and the ones before are forgotten."""
        for row, embedding in zip(rows.tolist(), embeddings, strict=True):
            self._put(row, 0, embedding)

    def _put(self, row: int, place: int, embedding: np.ndarray) -> None:
        self._vectors[row, place] = embedding
        products = self._vectors[row] @ self._vectors[row, place]
        self._products[row, place] = self._products[row, :, place] = products

    def similarities(self, embeddings: np.ndarray, centre: np.ndarray) -> np.ndarray:
        """How alike detections and tracks are.

        Args:
            embeddings: (N, D) of length 1.
            centre: (D,) what all have in common, taken away before angles are measured.

        Returns:
            (N, M) float32: the mean of the cosine to the nearest view and to the mean direction of all views.
        """
        tracks, views = self._length, self.views
        there = np.arange(views) < self.counts[:, None]  # (M, views)
        flat = self.vectors.reshape(tracks * views, -1)
        square = float(centre @ centre)
        # (a - c) . (b - c) from dot products alone: no (M, views, D) array is made.
        along = (flat @ centre).reshape(tracks, views)
        asked_along = embeddings @ centre
        asked_length = np.sqrt(np.maximum((embeddings**2).sum(axis=1) - 2 * asked_along + square, _SHORTEST))
        products = self._products[:tracks] - along[:, :, None] - along[:, None] + square  # (M, views, views)
        length = np.sqrt(np.maximum(np.einsum("mvv->mv", products), _SHORTEST))
        cosines = (embeddings @ flat.T).reshape(-1, tracks, views) - asked_along[:, None, None] - along + square
        cosines /= asked_length[:, None, None] * length
        cosines *= there
        weights = there / length
        total = np.sqrt(np.maximum(np.einsum("mvw,mv,mw->m", products, weights, weights), _SHORTEST))
        nearest = np.where(there, cosines, -1).max(axis=2)
        return np.asarray((nearest + cosines.sum(axis=2) / total) / 2, np.float32)
