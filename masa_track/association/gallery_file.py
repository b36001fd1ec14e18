"""Galleries on disk, and matching the tracks of two cameras."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from masa_track.association.gallery import unit
from masa_track.association.matching import most_evidence
from masa_track.errors import InputError
from masa_track.npz import read_arrays

_COMMON_TRUST = 5.0  # tracks that must be seen before half of their mean embedding is taken away
_ARRAYS = ("ids", "classes", "counts", "vectors")


@dataclass(frozen=True)
class TrackGallery:
    """The remembered embeddings of the tracks of a run, by which its objects can be recognised in another run.

    Attributes:
        ids: (M,) int64 identities.
        classes: (M,) int64, the class that most detections of each had.
        counts: (M,) int64, how many views of each there are, 1 or more.
        vectors: (M, views, D) float32 of length 1, zeros behind the counts.
    """

    ids: np.ndarray
    classes: np.ndarray
    counts: np.ndarray
    vectors: np.ndarray

    def __post_init__(self) -> None:
        tracks = len(self.ids)
        if self.vectors.ndim != 3 or any(len(getattr(self, name)) != tracks for name in _ARRAYS):
            shapes = ", ".join(f"{name} {getattr(self, name).shape}" for name in _ARRAYS)
            raise InputError(f"a gallery must be ids, classes and counts (M,) and vectors (M, views, D), got {shapes}")
        if tracks and not (self.counts.min() >= 1 and self.counts.max() <= self.vectors.shape[1]):
            raise InputError(f"counts of a gallery must be 1..{self.vectors.shape[1]}, got {self.counts}")
        if not np.isfinite(self.vectors).all():
            raise InputError("vectors of a gallery must be finite numbers")

    def __len__(self) -> int:
        return len(self.ids)

    def save(self, path: str | Path) -> None:
        """Writes an .npz file. It is written under another name and then renamed, so it is never incomplete.

        Raises:
            InputError: the file cannot be written, or its name does not end in .npz.
        """
        path = Path(path)
        if path.suffix != ".npz":
            raise InputError(f"the file of a gallery must end in .npz, got {path}")
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with open(beside, "wb") as file:
                np.savez_compressed(file, **{name: getattr(self, name) for name in _ARRAYS})
            os.replace(beside, path)
        except OSError as error:
            raise InputError(f"gallery {path} cannot be written: {error.strerror}") from error
        finally:
            beside.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | Path) -> TrackGallery:
        """Reads what :meth:`save` wrote; nothing in the file is run as code.

        Raises:
            InputError: there is no such file, or it is no gallery.
        """
        layout = {name: (3 if name == "vectors" else 1, "numbers") for name in _ARRAYS}
        arrays = read_arrays(path, layout, "gallery")
        missing = [name for name in _ARRAYS if name not in arrays]
        if missing:
            raise InputError(f"{path} is no gallery: it has no {', '.join(missing)}")
        return cls(**arrays)


def match_galleries(
    first: TrackGallery, second: TrackGallery, threshold: float = 0.35, margin: float = 0.05, class_aware: bool = False
) -> list[tuple[int, int, float]]:
    """Which tracks of one camera are which of another, by appearance.

    The mean embedding of all tracks of a camera depends on its light and viewpoint. It is subtracted from each track's
    embeddings before the comparison. The assignment with the largest sum of similarities is taken. A pair is left out
    if its similarity is not ``margin`` above that of every other pair of either track: objects of the same appearance
    cannot be distinguished.

    Args:
        first: M tracks.
        second: N tracks.
        threshold: similarity that a pair must exceed: the mean of the largest cosine of two remembered embeddings and
            the cosine of their means.
        margin: difference of cosines by which a pair's similarity must exceed that of the second best pair of either
            track.
        class_aware: True: only tracks of the same class can be a pair.

    Returns:
        (identity in ``first``, identity in ``second``, similarity), the most similar pair first.

    Raises:
        InputError: the embeddings are of different lengths, so of different models.
    """
    if len(first) == 0 or len(second) == 0:
        return []
    if first.vectors.shape[2] != second.vectors.shape[2]:
        raise InputError(
            "galleries must be of one model, "
            f"got embeddings of {first.vectors.shape[2]} and {second.vectors.shape[2]} numbers"
        )
    here, there = _views(first), _views(second)
    similarities = np.empty((len(first), len(second)))
    for row, views in enumerate(here):
        for column, others in enumerate(there):
            nearest = (views @ others.T).max()
            similarities[row, column] = (nearest + unit(views.sum(axis=0)) @ unit(others.sum(axis=0))) / 2
    if class_aware:
        similarities[first.classes[:, None] != second.classes] = -1
    taken, _ = most_evidence(similarities, threshold)
    pairs = []
    for row, column in enumerate(taken.tolist()):
        if column < 0:
            continue
        value = similarities[row, column]
        rivals = np.concatenate((np.delete(similarities[row], column), np.delete(similarities[:, column], row)))
        if not rivals.size or value - rivals.max() >= margin:
            pairs.append((int(first.ids[row]), int(second.ids[column]), float(value)))
    return sorted(pairs, key=lambda pair: -pair[2])


def _views(gallery: TrackGallery) -> list[np.ndarray]:
    """Each track's views (n, D) of length 1 without what all tracks have in common, as far as so few can show it."""
    means = np.array([unit(v[:n].sum(axis=0)) for v, n in zip(gallery.vectors, gallery.counts, strict=True)])
    common = means.sum(axis=0) / (len(means) + _COMMON_TRUST)
    return [unit(v[:n] - common) for v, n in zip(gallery.vectors, gallery.counts, strict=True)]
