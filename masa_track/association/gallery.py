"""Several embeddings of every track, of its appearance at different times, and their similarity to detections.

Some views are kept because an object differs from behind: the mean of front and back resembles neither.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

_SHORTEST = 1e-12


def unit(embeddings: np.ndarray) -> np.ndarray:
    """(..., D) float32 of length 1; zeros stay zeros."""
    embeddings = np.asarray(embeddings, np.float32)
    return embeddings / np.maximum(np.linalg.norm(embeddings, axis=-1, keepdims=True), _SHORTEST)


class Gallery:
    """Up to ``views`` embeddings of each track, one row per track.

    The first view is the newest one; the others are kept as long as they differ.

    The vectors lie in a pool, and each track holds the numbers of its pool rows. A copy shares the pool: it writes only
    to pool rows that the original does not use. So a copy costs little, and changes to it leave the original as it is.
    Of several copies of one original, only the last may be changed.

    Args:
        views: the largest number of views of a track.
        dimension: D, of the embeddings.
    """

    def __init__(self, views: int, dimension: int) -> None:
        self.views, self.dimension = views, dimension
        self._pool = np.zeros((8, dimension), np.float32)
        self._used = np.zeros(8, bool)  # pool rows that this gallery or its original refers to
        self._rows = np.zeros((0, views), np.int64)  # pool rows of each track; only the first `counts` are valid
        self._counts = np.zeros(0, np.int64)
        self._products = np.zeros((0, views, views), np.float32)  # of each two views of a track

    def __len__(self) -> int:
        return len(self._counts)

    @property
    def vectors(self) -> np.ndarray:
        """(M, views, D) float32 of length 1, a copy; zeros where there is no view yet."""
        return self._pool[self._rows] * self._there()[:, :, None]

    @property
    def counts(self) -> np.ndarray:
        """(M,) int64, the number of views of each track."""
        return self._counts

    def copy(self) -> Gallery:
        """A gallery with the same views, whose changes leave this one as it is."""
        other = Gallery.__new__(Gallery)
        other.views, other.dimension, other._pool = self.views, self.dimension, self._pool
        other._rows, other._counts, other._products = self._rows.copy(), self._counts.copy(), self._products.copy()
        other._used = np.zeros(len(self._pool), bool)
        other._used[self._rows[self._there()]] = True
        return other

    def add(self, embeddings: np.ndarray, there: np.ndarray | None = None) -> None:
        """Appends a track for each of (K, D) embeddings of length 1; without a view where (K,) ``there`` is false."""
        count = len(embeddings)
        rows = np.zeros((count, self.views), np.int64)
        rows[:, 0] = self._store(embeddings)
        products = np.zeros((count, self.views, self.views), np.float32)
        products[:, 0, 0] = (embeddings**2).sum(axis=1)
        self._rows = np.concatenate((self._rows, rows))
        counts = np.ones(count, np.int64) if there is None else there.astype(np.int64)
        self._counts = np.concatenate((self._counts, counts))
        self._products = np.concatenate((self._products, products))

    def keep(self, tracks: np.ndarray) -> None:
        """Keeps the tracks where the (M,) mask is true."""
        self._rows, self._counts, self._products = self._rows[tracks], self._counts[tracks], self._products[tracks]

    def renew(self, tracks: np.ndarray, embeddings: np.ndarray) -> None:
        """The newest views of ``tracks`` (K,) become (K, D); the ones before are kept with the others.

        A full row loses the view that is most similar to another one, the coming one included: it adds the least.
        """
        for track, stored, embedding in zip(tracks.tolist(), self._store(embeddings).tolist(), embeddings, strict=True):
            count = int(self._counts[track])
            place = count
            with_views = self._pool[self._rows[track]] @ embedding  # (views,); only the first `count` are valid
            if count < self.views:
                self._counts[track] = count + 1
            else:
                products = self._products[track].copy()
                np.fill_diagonal(products, -np.inf)
                place = int(np.maximum(products.max(axis=1), with_views).argmax())
            if place:  # the newest view until now moves there
                self._move_newest(track, place)
                with_views[place] = with_views[0]
            self._put_newest(track, stored, embedding, with_views)

    def replace_newest(self, tracks: np.ndarray, embeddings: np.ndarray) -> None:
        """The newest views of ``tracks`` (K,) become (K, D), and the ones before are forgotten."""
        for track, stored, embedding in zip(tracks.tolist(), self._store(embeddings).tolist(), embeddings, strict=True):
            self._counts[track] = max(self._counts[track], 1)
            self._put_newest(track, stored, embedding, self._pool[self._rows[track]] @ embedding)

    def state_dict(self) -> dict[str, np.ndarray]:
        """The views as arrays."""
        return {"vectors": self.vectors, "counts": self._counts.copy(), "products": self._products.copy()}

    @classmethod
    def of_state(cls, state: Mapping[str, np.ndarray]) -> Gallery:
        """The gallery of :meth:`state_dict`; raises LookupError or ValueError where that does not fit."""
        tracks, views, dimension = state["vectors"].shape
        if state["counts"].shape != (tracks,) or state["products"].shape != (tracks, views, views):
            raise ValueError("vectors, counts and products of a gallery have other lengths")
        gallery = cls(views, dimension)
        gallery._counts = np.array(state["counts"], np.int64)
        gallery._products = np.array(state["products"], np.float32)
        gallery._rows = np.zeros((tracks, views), np.int64)
        there = gallery._there()
        gallery._rows[there] = gallery._store(np.asarray(state["vectors"], np.float32)[there])
        return gallery

    def similarities(self, embeddings: np.ndarray, centre: np.ndarray, tracks: np.ndarray | None = None) -> np.ndarray:
        """Similarities of detections and tracks.

        Args:
            embeddings: (N, D) of length 1.
            centre: (D,) what all have in common, subtracted before angles are measured.
            tracks: (T,) rows of the tracks to compare with; None: all M.

        Returns:
            (N, T) float32: the mean of the cosine to the nearest view and to the mean direction of all views. Of tracks
            without a view it means nothing.
        """
        if tracks is None:
            tracks = np.arange(len(self))
        there = self._there()[tracks]  # (T, views)
        square = float(centre @ centre)
        # (a - c) . (b - c) from dot products alone: no (T, views, D) array is made.
        pool, rows = self._part_of_pool(tracks, there)
        along = (pool @ centre)[rows]  # (T, views)
        asked_along = embeddings @ centre
        asked_length = np.sqrt(np.maximum((embeddings**2).sum(axis=1) - 2 * asked_along + square, _SHORTEST))
        products = self._products[tracks] - along[:, :, None] - along[:, None] + square  # (T, views, views)
        length = np.sqrt(np.maximum(np.einsum("mvv->mv", products), _SHORTEST))
        cosines = (embeddings @ pool.T)[:, rows] - asked_along[:, None, None] - along + square  # (N, T, views)
        cosines /= asked_length[:, None, None] * length
        cosines *= there
        weights = there / length
        total = np.sqrt(np.maximum(np.einsum("mvw,mv,mw->m", products, weights, weights), _SHORTEST))
        nearest = np.where(there, cosines, -1).max(axis=2)
        return np.asarray((nearest + cosines.sum(axis=2) / total) / 2, np.float32)

    def _there(self) -> np.ndarray:
        """(M, views) bool, which views exist."""
        return np.arange(self.views) < self._counts[:, None]

    def _part_of_pool(self, tracks: np.ndarray, there: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The part of the pool that ``tracks`` (T,) refer to, and their (T, views) rows of it.

        It is a slice where they refer to most of it, else a copy.
        """
        rows = np.where(there, self._rows[tracks], 0)
        end = int(rows.max(initial=0)) + 1
        needed = rows[there]
        if 2 * len(needed) >= end - 1:
            return self._pool[:end], rows
        rows[there] = np.arange(len(needed))
        return self._pool[needed], rows

    def _store(self, embeddings: np.ndarray) -> np.ndarray:
        """Writes (K, D) embeddings to pool rows that are not in use, and returns their numbers (K,)."""
        free = np.flatnonzero(~self._used)
        count = len(embeddings)
        if len(free) < count:
            size = max(2 * len(self._pool), len(self._pool) + count)
            pool, used = np.zeros((size, self.dimension), np.float32), np.zeros(size, bool)
            pool[: len(self._pool)], used[: len(self._pool)] = self._pool, self._used
            self._pool, self._used = pool, used
            free = np.flatnonzero(~used)
        rows = free[:count]
        self._pool[rows] = embeddings
        self._used[rows] = True
        return rows

    def _move_newest(self, track: int, place: int) -> None:
        """View 0 becomes view ``place`` (its own place is free until it gets another)."""
        self._rows[track, place] = self._rows[track, 0]
        own = self._products[track, 0, 0]
        self._products[track, place] = self._products[track, :, place] = self._products[track, 0]
        self._products[track, place, place] = own

    def _put_newest(self, track: int, stored: int, embedding: np.ndarray, with_views: np.ndarray) -> None:
        """View 0 becomes the embedding in pool row ``stored``, whose products with the views are ``with_views``."""
        self._rows[track, 0] = stored
        with_views[0] = embedding @ embedding
        with_views[self._counts[track] :] = 0
        self._products[track, 0] = self._products[track, :, 0] = with_views
