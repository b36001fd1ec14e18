"""Which things and parts of a run a text describes: cosines of the text's embedding with those of crops."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from masa_track.errors import InputError
from masa_track.files import PartFile
from masa_track.formats.run import Run
from masa_track.npz import read_arrays
from masa_track.video.source import Source

CROPS_NAME = "crops.npz"
_LAYOUT = {"model": (1, "text"), "tracks": (1, "numbers"), "places": (1, "numbers"), "embeddings": (2, "numbers")}
_CONTEXT = 0.1  # of a box's size, around it in a crop
_LEAST_SIDE = 8  # pixels of a crop; smaller boxes show too little


class TextAndPictures(Protocol):
    """Embeds texts and pictures alike; see :class:`masa_track.parts.models.ClipNames`."""

    def text(self, texts: Sequence[str]) -> np.ndarray:
        """(T, D) unit embeddings."""
        ...

    def pictures(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """(P, D) unit embeddings of (H, W, 3) BGR uint8 pictures."""
        ...


@dataclass(frozen=True)
class Found:
    """An identity that a text describes.

    Attributes:
        identity: of a thing or a part.
        similarity: cosine with its best crop.
        place: of that crop's box in the run.
    """

    identity: int
    similarity: float
    place: int


def best_places(run: Run, per_track: int = 3) -> np.ndarray:
    """(P,) int64, ascending: of each identity the boxes to look at, large and sure ones from apart in its life.

    Args:
        run: the tracks.
        per_track: boxes of an identity at most; its boxes are split into so many stretches, and of each the one with
            the largest area times score is taken.
    """
    sizes = np.maximum(run.boxes[:, 2:] - run.boxes[:, :2], 0)
    worth = sizes.prod(axis=1) * np.maximum(run.scores, 1e-3)
    worth[(sizes < _LEAST_SIDE).any(axis=1) | run.filled] = 0
    chosen: list[int] = []
    for _, _, places in run.tracks():
        for stretch in np.array_split(places, min(per_track, len(places))):
            best = int(stretch[worth[stretch].argmax()])
            if worth[best] > 0:
                chosen.append(best)
    return np.array(sorted(chosen), np.int64)


def crop_embeddings(run: Run, source: Source, places: np.ndarray, model: TextAndPictures) -> np.ndarray:
    """(P, D) unit embeddings of the boxes ``places``, cut from the source with a little of what is around.

    Raises:
        InputError: the source is not the run's: it has another size, or no such frame.
    """
    if (source.width, source.height) != (run.width, run.height):
        raise InputError(
            f"the video must be that of the run, of {run.width}x{run.height} pixels, got {source.width}x{source.height}"
        )
    wanted: dict[int, list[int]] = {}
    for row, place in enumerate(places.tolist()):
        wanted.setdefault(int(run.frames[run.rows[place]]), []).append(row)
    found: dict[int, np.ndarray] = {}
    if wanted:
        for frame in source.frames(start=min(wanted), stop=max(wanted)):
            rows = wanted.pop(frame.number, [])
            crops = [_crop(frame.picture, run.boxes[places[row]]) for row in rows]
            for row, vector in zip(rows, model.pictures(crops), strict=True) if rows else ():
                found[row] = vector
            if not wanted:
                break
    if wanted:
        raise InputError(f"the video must be that of the run, but has no frame {min(wanted)}: name the right one")
    return np.array([found[row] for row in range(len(places))], np.float32).reshape(len(places), -1)


def _crop(picture: np.ndarray, box: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    margin = np.tile((box[2:] - box[:2]) * _CONTEXT, 2) * (-1, -1, 1, 1)
    x1, y1, x2, y2 = np.round(box + margin).astype(int).tolist()
    x1, y1 = min(max(x1, 0), width - 1), min(max(y1, 0), height - 1)
    return np.ascontiguousarray(picture[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)])


def rank(run: Run, places: np.ndarray, embeddings: np.ndarray, text: np.ndarray) -> list[Found]:
    """The identities, the most similar first.

    Args:
        run: the tracks.
        places: (P,) boxes of the crops.
        embeddings: (P, D) of the crops.
        text: (D,) of the text.
    """
    cosines = embeddings @ text if len(places) else np.zeros(0)
    best: dict[int, Found] = {}
    for place, cosine in zip(places.tolist(), cosines.tolist(), strict=True):
        identity = int(run.ids[place])
        if identity not in best or cosine > best[identity].similarity:
            best[identity] = Found(identity, float(cosine), place)
    return sorted(best.values(), key=lambda one: (-one.similarity, one.identity))


def save_crops(folder: Path, run: Run, model: str, places: np.ndarray, embeddings: np.ndarray) -> None:
    """Keeps the embeddings in the run's folder, for the next text.

    Raises:
        OSError: the file cannot be written.
    """
    file = PartFile(folder / CROPS_NAME)
    with open(file.create(), "wb") as out:
        np.savez(out, model=np.array([model]), tracks=_stamp(run), places=places, embeddings=embeddings)
    file.commit()


def stored_crops(folder: Path, run: Run, model: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Places and embeddings that were kept, of the same model and the same tracks; None where there are none."""
    path = folder / CROPS_NAME
    if not path.is_file():
        return None
    try:
        held = read_arrays(path, _LAYOUT, "embeddings of crops")
    except InputError:
        return None  # damaged: it is made anew
    if held.keys() != _LAYOUT.keys() or held["model"].tolist() != [model]:
        return None
    places, embeddings = held["places"], held["embeddings"]
    fits = np.array_equal(held["tracks"], _stamp(run)) and len(places) == len(embeddings)
    if not fits or (len(places) and not 0 <= places.min() <= places.max() < len(run.ids)):
        return None
    return places.astype(np.int64), embeddings.astype(np.float32)


def _stamp(run: Run) -> np.ndarray:
    """(3,) bytes and time of change of the tracks' file, and the number of boxes."""
    status = os.stat(run.path)
    return np.array([status.st_size, status.st_mtime_ns, len(run.ids)], np.int64)
