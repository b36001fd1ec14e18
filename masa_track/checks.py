"""What an associator is given: shapes and numbers, checked."""

from __future__ import annotations

from math import isfinite
from numbers import Real
from typing import Any

import numpy as np

from masa_track.errors import InputError

_ROUNDING = 1e-3  # by which a score may leave 0..1: half floats near 1 are so far apart
# JSON readers keep whole numbers exact up to 2**53: this leaves as many identities again above the first one.
MOST_FIRST_ID = 2**52


def checked(
    boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, embeddings: np.ndarray, dimension: int | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The arguments of ``update`` as float32 and int64 arrays; raises InputError where they do not fit."""
    boxes, embeddings = as_floats("boxes", boxes), as_floats("embeddings", embeddings)
    count = len(boxes) if boxes.ndim else 0
    if count == 0 and boxes.size == 0:
        boxes = boxes.reshape(0, 4)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise InputError(f"boxes must be (N, 4) xyxy pixels, got {boxes.shape}")
    scores, labels = check_scores(scores, count), check_labels(labels, count)
    if count == 0:
        return boxes, scores, labels, embeddings
    if embeddings.ndim != 2 or len(embeddings) != count or embeddings.shape[1] == 0:
        raise InputError(f"embeddings must be ({count}, D), one for each of the boxes, got {embeddings.shape}")
    if dimension is not None and embeddings.shape[1] != dimension:
        raise InputError(
            f"embeddings must be ({count}, {dimension}) as in the frames before, got {embeddings.shape}: "
            "call reset() before using another model"
        )
    for name, array in (("boxes", boxes), ("embeddings", embeddings)):
        check_finite(name, array)
    return boxes, scores, labels, embeddings


def check_scores(scores: Any, count: int) -> np.ndarray:
    """Detection scores as (N,) float32.

    Args:
        scores: one probability, 0..1, for each box.
        count: N.

    Raises:
        InputError: for another shape, for what is no number, and for numbers outside 0..1. The message says what they
            may be instead (percent, 0..255, logits) and how to convert them.
    """
    scores = as_floats("scores", scores)
    if scores.shape != (count,):
        raise InputError(f"scores must be ({count},), one for each of the boxes, got {scores.shape}")
    if not count:
        return scores
    check_finite("scores", scores)
    for row, fix in ((int(scores.argmin()), _of_negative(scores)), (int(scores.argmax()), _of_large(scores))):
        if fix:
            raise InputError(f"scores must be probabilities, 0..1, got {scores[row]:g} in row {row}: {fix}")
    return scores


def score_fix(scores: np.ndarray) -> str:
    """What to do about (N,) scores that are not in 0..1; empty where they are."""
    return (_of_negative(scores) or _of_large(scores)) if len(scores) else ""


def _of_negative(scores: np.ndarray) -> str:
    """What to do about scores below 0; empty where there are none."""
    least = float(scores.min())
    if least >= -_ROUNDING:
        return ""
    if least == -1 and set(scores[scores < 0].tolist()) == {-1.0}:
        return "-1 stands for 'no score' in MOTChallenge text: give 1 instead, or no scores at all"
    return "negative scores may be logits: apply the sigmoid, 1 / (1 + exp(-score)); otherwise scale them to 0..1"


def _of_large(scores: np.ndarray) -> str:
    """What to do about scores above 1; empty where there are none."""
    most = float(scores.max())
    if most <= 1 + _ROUNDING:
        return ""
    if most <= 100:
        return "percent: divide by 100"
    if most <= 255:
        return "0..255: divide by 255"
    return "scale them to 0..1"


def check_labels(labels: Any, count: int) -> np.ndarray:
    """Classes as (N,) int64.

    Args:
        labels: one whole number for each box; floats and bools will do if they are whole.
        count: N.

    Raises:
        InputError: for another shape, and for what is not a whole number that int64 can hold.
    """
    try:
        labels = np.asarray(labels)
    except (TypeError, ValueError) as error:
        raise InputError(f"labels must be ({count},) whole numbers: {error}") from error
    if labels.shape != (count,):
        raise InputError(f"labels must be ({count},), one for each of the boxes, got {labels.shape}")
    if not count:
        return np.empty(0, np.int64)
    kind = labels.dtype.kind
    if kind in "ib":
        return labels.astype(np.int64)
    if kind not in "uf":
        raise InputError(f"labels must be whole numbers, got {labels[:1].tolist()[0]!r} ({labels.dtype}) in row 0")
    if kind == "u":
        whole = labels <= np.iinfo(np.int64).max
    else:
        floats = labels.astype(np.float64)
        whole = (floats == np.round(floats)) & (np.abs(floats) < 2**63)
    if not whole.all():
        row = int(np.flatnonzero(~whole)[0])
        raise InputError(f"labels must be whole numbers of 64 bits, got {labels[row]} in row {row}")
    return labels.astype(np.int64)


def as_floats(name: str, values: Any) -> np.ndarray:
    """Numbers as a float32 array of any shape; what float32 cannot hold becomes infinite.

    Raises:
        InputError: for text, objects and rows of different lengths.
    """
    try:
        array = np.asarray(values)
        if array.dtype.kind in "fiub" or not array.size:
            with np.errstate(over="ignore"):
                return array.astype(np.float32, copy=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} must be an array of numbers, with rows of one length: {error}") from error
    raise InputError(f"{name} must be numbers, got {array.reshape(-1)[:1].tolist()[0]!r} ({array.dtype})")


def threshold_above_1(name: str, value: float) -> str:
    """The message for an option that is a detection score above 1, which no score can exceed."""
    return f"{name} must be at most 1, as scores are, got {value!r}: {_of_large(np.array([value])) or 'give 0..1'}"


def finite_number(value: Any) -> bool:
    """Whether an option's value is a finite number that a float can hold, and no bool."""
    try:
        return isinstance(value, Real) and not isinstance(value, bool) and isfinite(value)
    except OverflowError:  # a whole number of hundreds of digits
        return False


def check_finite(name: str, array: np.ndarray) -> None:
    """Raises InputError for the first row of (N,) or (N, ...) floats that holds NaN or an infinite number."""
    if not np.isfinite(array).all():
        row = int(np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))[0])
        raise InputError(f"{name} must be finite numbers, got {array[row]} in row {row}: leave that detection out")
