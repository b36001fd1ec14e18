"""Similarity of detections and tracks by their embeddings: the pairs above a threshold.

Where N and M are a thousand, time goes into passes over (N, M) numbers that do not fit a core's cache. So the dot
products are made once by BLAS into a buffer that is used again in every frame, and all else happens in blocks of
rows that do fit (`tools/bench_association.py` shows what that gives).
"""

from __future__ import annotations

import numpy as np

# Weights of (softmax over tracks, softmax over detections, cosine) in each metric.
METRICS = {
    "bisoftmax": (0.5, 0.5, 0.0),
    "softmax": (1.0, 0.0, 0.0),
    "cosine": (0.0, 0.0, 1.0),
    "bisoftmax_cosine": (0.25, 0.25, 0.5),
}

# exp() of float32 underflows below about -87. As long as no row's and no column's largest value is further than this
# below the largest of all, one shared exponential gives both softmaxes to float32's own precision (what underflows is
# at most e^-20 of its row's largest), and the second exponential is saved.
_SHARED_EXP_RANGE = 60.0
_BLOCK_NUMBERS = 1 << 15  # numbers in a block: 128 KB of float32, a few of which fit a core's second cache


class Scratch:
    """Float32 buffers that are used again, since fresh megabytes cost more than the sums done in them."""

    def __init__(self) -> None:
        self._flat: dict[str, np.ndarray] = {}

    def take(self, name: str, rows: int, columns: int) -> np.ndarray:
        """An (rows, columns) float32 array of unset numbers, valid until the same name is taken again."""
        need = rows * columns
        flat = self._flat.get(name)
        if flat is None or len(flat) < need or len(flat) > max(1 << 16, 8 * need):
            flat = self._flat[name] = np.empty(need + need // 4, np.float32)
        return flat[:need].reshape(rows, columns)


def dot_products(detections: np.ndarray, tracks: np.ndarray, scratch: Scratch) -> np.ndarray:
    """(N, M) products of (N, D) and (M, D) float32 embeddings, valid until the next call with this ``scratch``."""
    return np.dot(detections, tracks.T, out=scratch.take("products", len(detections), len(tracks)))


def similar_pairs(
    metric: str,
    products: np.ndarray,
    detection_lengths: np.ndarray,
    track_lengths: np.ndarray,
    threshold: float,
    scratch: Scratch,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pairs of detection and track whose similarity exceeds a threshold.

    Args:
        metric: one of :data:`METRICS`. ``softmax`` is over the tracks, ``bisoftmax`` the mean of that and the softmax
            over the detections, both of dot products; ``bisoftmax_cosine`` the mean of bi-softmax and cosine.
        products: (N, M) float32, of the embeddings, which are not normalised; N > 0, M > 0.
        detection_lengths: (N,) float32, the Euclidean lengths of the detections' embeddings.
        track_lengths: (M,) float32.
        threshold: pairs above it are returned.
        scratch: buffers to work in.

    Returns:
        ``rows`` (K,), ``columns`` (K,) int64 and ``values`` (K,) float32.

    Source: Pang et al., QDTrack, CVPR 2021 (bi-softmax); Li et al., MASA, CVPR 2024 (the mean with the cosine).
    """
    count, width = products.shape
    over_tracks, over_detections, over_lengths = METRICS[metric]
    by_row = by_column = None
    if over_tracks or over_detections:
        by_row, row_sums, by_column, column_sums = _exponentials(products, scratch)
        row_weights, column_weights = over_tracks / row_sums[:, None], over_detections / column_sums
    row_scales = over_lengths / np.maximum(detection_lengths, 1e-12)[:, None]
    column_scales = 1 / np.maximum(track_lengths, 1e-12)

    hits, values = [], []
    for block in _blocks(count, width):
        rows = block.stop - block.start
        score, part = scratch.take("score", rows, width), scratch.take("part", rows, width)
        np.multiply(products[block], column_scales, out=score)
        score *= row_scales[block]
        if by_row is not None and by_column is not None:
            score += np.multiply(by_row[block], row_weights[block], out=part)
            if over_detections:
                score += np.multiply(by_column[block], column_weights, out=part)
        hit = np.flatnonzero(score > threshold)
        hits.append(hit + block.start * width)
        values.append(score.ravel()[hit])
    rows_found, columns_found = np.divmod(np.concatenate(hits), width)
    return rows_found, columns_found, np.concatenate(values)


def _blocks(count: int, width: int) -> list[slice]:
    """Slices of (count, width) rows that stay in a core's cache."""
    step = max(1, _BLOCK_NUMBERS // width)
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]


def _exponentials(products: np.ndarray, scratch: Scratch) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The parts of both softmaxes of (N, M) products.

    Returns:
        ``by_row`` (N, M) and ``row_sums`` (N,) whose quotient is the softmax along the rows; ``by_column`` (N, M) and
        ``column_sums`` (M,), likewise. The two (N, M) arrays are one where the range of the products allows.
    """
    count, width = products.shape
    row_tops, column_tops = products.max(axis=1), products.max(axis=0)
    row_sums, column_sums = np.empty(count, np.float32), np.zeros(width, np.float32)
    by_row = by_column = scratch.take("exponentials", count, width)
    top = row_tops.max()
    shared = top - min(row_tops.min(), column_tops.min()) <= _SHARED_EXP_RANGE
    if not shared:
        by_column = scratch.take("exponentials by column", count, width)
    for block in _blocks(count, width):
        part = np.subtract(products[block], top if shared else row_tops[block, None], out=by_row[block])
        _exp(part)
        part.sum(axis=1, out=row_sums[block])
        if not shared:
            part = np.subtract(products[block], column_tops, out=by_column[block])
            _exp(part)
        column_sums += part.sum(axis=0)
    return by_row, row_sums, by_column, column_sums


def _exp(x: np.ndarray) -> None:
    """exp() in place; what would become a denormal number, which are slow, becomes a tiny normal one."""
    np.maximum(x, -80, out=x)
    np.exp(x, out=x)
