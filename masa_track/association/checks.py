"""What an associator is given: shapes and numbers, checked."""

from __future__ import annotations

import numpy as np

from masa_track.errors import InputError


def checked(
    boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, embeddings: np.ndarray, dimension: int | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The arguments of ``update`` as float32 and int64 arrays; raises InputError where they do not fit."""
    boxes, scores = np.asarray(boxes, np.float32), np.asarray(scores, np.float32)
    labels, embeddings = np.asarray(labels), np.asarray(embeddings, np.float32)
    count = len(boxes) if boxes.ndim else 0
    if count == 0 and boxes.size == 0:
        boxes = boxes.reshape(0, 4)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise InputError(f"boxes must be (N, 4) xyxy pixels, got {boxes.shape}")
    for name, array in (("scores", scores), ("labels", labels)):
        if array.shape != (count,):
            raise InputError(f"{name} must be ({count},), one for each of the boxes, got {array.shape}")
    if count == 0:
        return boxes, scores, labels.astype(np.int64), embeddings
    if embeddings.ndim != 2 or len(embeddings) != count or embeddings.shape[1] == 0:
        raise InputError(f"embeddings must be ({count}, D), one for each of the boxes, got {embeddings.shape}")
    if dimension is not None and embeddings.shape[1] != dimension:
        raise InputError(
            f"embeddings must be ({count}, {dimension}) as in the frames before, got {embeddings.shape}: "
            "call reset() before using another model"
        )
    for name, array in (("boxes", boxes), ("scores", scores), ("embeddings", embeddings)):
        if not np.isfinite(array).all():
            row = int(np.flatnonzero(~np.isfinite(array.reshape(count, -1)).all(axis=1))[0])
            raise InputError(f"{name} must be finite numbers, got {array[row]} in row {row}: leave that detection out")
    if labels.dtype.kind not in "iub" and not (labels.dtype.kind == "f" and (labels == np.round(labels)).all()):
        raise InputError(f"labels must be whole numbers, got {labels.dtype}")
    return boxes, scores, labels.astype(np.int64), embeddings
