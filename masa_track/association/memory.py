"""What is remembered of tracks, and of the detections that became none (backdrops)."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import numpy as np

from masa_track.association.gallery import Gallery, unit


class TrackMemory:
    """The tracks that can still be matched, as arrays of one row a track, oldest track first.

    The arrays live in buffers that double when full, so a new track copies nothing.

    Attributes:
        boxes: (M, 4) float32 xyxy, where each was last seen.
        labels: (M,) int64, its class then.
        embeddings: (M, D) float32, the running mean.
        norms: (M,) float32, lengths of the embeddings.
        ids: (M,) int64.
        last_frames: (M,) int64, the frame it was last seen in.
        times: (M,) float64, its time in seconds.
        groups: (M,) int64, a track is only given to detections of its group.
        gallery: with ``views`` above 1, several embeddings of each, row for row; else None.
    """

    _COLUMNS = ("boxes", "labels", "embeddings", "norms", "ids", "last_frames", "times", "groups")

    def __init__(self, dimension: int, views: int = 1) -> None:
        self.dimension = dimension
        self.gallery = Gallery(views, dimension) if views > 1 else None
        self.count = 0
        self._buffers: dict[str, np.ndarray] = {
            "boxes": np.empty((64, 4), np.float32),
            "labels": np.empty(64, np.int64),
            "embeddings": np.empty((64, dimension), np.float32),
            "norms": np.empty(64, np.float32),
            "ids": np.empty(64, np.int64),
            "last_frames": np.empty(64, np.int64),
            "times": np.empty(64, np.float64),
            "groups": np.empty(64, np.int64),
        }

    def __len__(self) -> int:
        return self.count

    def __getattr__(self, name: str) -> np.ndarray:
        if name in TrackMemory._COLUMNS:
            return self._buffers[name][: self.count]
        raise AttributeError(name)

    def copy(self) -> TrackMemory:
        """The same tracks; changes to the copy leave this one as it is."""
        other = TrackMemory.__new__(TrackMemory)
        other.dimension, other.count = self.dimension, self.count
        other.gallery = None if self.gallery is None else self.gallery.copy()
        other._buffers = {}
        for name, buffer in self._buffers.items():
            other._buffers[name] = np.empty_like(buffer)
            other._buffers[name][: self.count] = buffer[: self.count]
        return other

    def add(
        self,
        ids: np.ndarray,
        boxes: np.ndarray,
        labels: np.ndarray,
        embeddings: np.ndarray,
        frame: int,
        time: float = 0.0,
        groups: np.ndarray | int = 0,
    ) -> None:
        """Remembers new tracks. Shapes as the attributes, (K, ...)."""
        start, end = self.count, self.count + len(ids)
        for name, buffer in self._buffers.items():
            if end > len(buffer):
                grown = np.empty((max(end, 2 * len(buffer)), *buffer.shape[1:]), buffer.dtype)
                grown[:start] = buffer[:start]
                self._buffers[name] = grown
        self.count = end
        new = slice(start, end)
        self.ids[new], self.boxes[new], self.labels[new], self.last_frames[new] = ids, boxes, labels, frame
        self.embeddings[new], self.norms[new] = embeddings, lengths(embeddings)
        self.times[new], self.groups[new] = time, groups
        if self.gallery is not None:
            self.gallery.add(unit(embeddings))

    def update(
        self,
        rows: np.ndarray,
        boxes: np.ndarray,
        labels: np.ndarray,
        embeddings: np.ndarray,
        frame: int,
        momentum: float,
        time: float = 0.0,
    ) -> None:
        """Renews the tracks in ``rows`` (K,); an embedding becomes (1 - momentum) * old + momentum * new."""
        if self.gallery is not None:
            self.gallery.renew(rows, unit(embeddings))
            momentum = 1.0
        blended = self.embeddings[rows]
        blended *= np.float32(1 - momentum)
        blended += np.float32(momentum) * embeddings
        self.embeddings[rows], self.norms[rows] = blended, lengths(blended)
        self.boxes[rows], self.labels[rows], self.last_frames[rows], self.times[rows] = boxes, labels, frame, time

    def prune(self, oldest_frame: int) -> None:
        """Forgets the tracks last seen before ``oldest_frame``; the others keep their order."""
        keep = self.last_frames >= oldest_frame
        if keep.all():
            return
        if self.gallery is not None:
            self.gallery.keep(keep)
        kept = int(keep.sum())
        for name in self._COLUMNS:
            self._buffers[name][:kept] = getattr(self, name)[keep]
        self.count = kept

    def state_dict(self) -> dict[str, np.ndarray]:
        """The tracks as arrays."""
        arrays = {name: getattr(self, name).copy() for name in self._COLUMNS}
        gallery = {} if self.gallery is None else self.gallery.state_dict()
        return arrays | {f"gallery.{name}": value for name, value in gallery.items()}

    @classmethod
    def of_state(cls, state: Mapping[str, np.ndarray], views: int) -> TrackMemory:
        """The memory of :meth:`state_dict`; raises LookupError or ValueError where that does not fit."""
        count, dimension = state["embeddings"].shape
        memory = cls(dimension, views)
        memory.count = count
        for name in cls._COLUMNS:
            own = memory._buffers[name]
            memory._buffers[name] = np.array(state[name], own.dtype).reshape(count, *own.shape[1:])
        if memory.gallery is not None:
            memory.gallery = Gallery.of_state({k[8:]: v for k, v in state.items() if k.startswith("gallery.")})
        return memory


class Backdrops:
    """Unmatched detections of the last frames. Others may match them, which keeps those from taking a track.

    Source: Pang et al., QDTrack, CVPR 2021.
    """

    def __init__(self, frames: int) -> None:
        self._frames: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=frames)

    def copy(self) -> Backdrops:
        """The same frames; changes to the copy leave these as they are."""
        other = Backdrops.__new__(Backdrops)
        other._frames = self._frames.copy()
        return other

    def add(self, labels: np.ndarray, embeddings: np.ndarray) -> None:
        """Puts a frame's (K,) labels and (K, D) embeddings in front; the oldest frame falls out."""
        self._frames.appendleft((labels, embeddings))

    def all(self, dimension: int) -> tuple[np.ndarray, np.ndarray]:
        """Labels (B,) and embeddings (B, D) of all frames kept, newest first."""
        kept = [frame for frame in self._frames if len(frame[0])]
        if not kept:
            return np.empty(0, np.int64), np.empty((0, dimension), np.float32)
        return np.concatenate([labels for labels, _ in kept]), np.concatenate([embeddings for _, embeddings in kept])

    def state_dict(self) -> dict[str, np.ndarray]:
        """The frames as arrays: of all detections the age in frames, the label and the embedding."""
        frames = list(self._frames)
        sizes = np.array([len(labels) for labels, _ in frames], np.int64)
        labels, embeddings = self.all(max((e.shape[1] for _, e in frames if len(e)), default=0))
        return {"sizes": sizes, "labels": labels, "embeddings": embeddings}

    @classmethod
    def of_state(cls, state: Mapping[str, np.ndarray], frames: int) -> Backdrops:
        """That of :meth:`state_dict`; raises LookupError or ValueError where that does not fit."""
        backdrops, ends = cls(frames), np.cumsum(state["sizes"])[:-1]
        labels, embeddings = np.array(state["labels"], np.int64), np.array(state["embeddings"], np.float32)
        if len(labels) != len(embeddings) or len(labels) != int(np.sum(state["sizes"])):
            raise ValueError("sizes, labels and embeddings of backdrops have other lengths")
        if len(state["sizes"]):
            pairs = zip(np.split(labels, ends), np.split(embeddings, ends), strict=True)
            backdrops._frames.extend(pairs)
        return backdrops


def lengths(embeddings: np.ndarray) -> np.ndarray:
    """(N,) Euclidean lengths of (N, D) embeddings."""
    return np.sqrt(np.einsum("nd,nd->n", embeddings, embeddings))
