"""Detections of one video in memory, and what must be known of the video to read them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import supervision as sv

from masa_track.errors import InputError


class Video(Protocol):
    """What must be known of the video; every :class:`masa_track.video.sources.Source` has it.

    Attributes:
        name: selects the video if one COCO file has several.
        width: in pixels.
        height: in pixels.
        length: number of frames, not exact; None if unknown.
        last_number: the highest frame number that detections can have; None if unknown.
        file_names: of its images, frame 1 first; empty if it is not made of images.
    """

    name: str
    width: int
    height: int
    length: int | None
    last_number: int | None
    file_names: Sequence[str]


@dataclass(frozen=True)
class DetectionFile:
    """The detections of one video.

    Attributes:
        path: the file they come from.
        class_names: of the class ids, from COCO categories or npz; empty for MOTChallenge text.
        frames: (N,) int64, 1-based, rising.
        boxes: (N, 4) float32 xyxy, 0-based pixels.
        scores: (N,) float32 as in the file; 1 where it gives none.
        class_ids: (N,) int64.
        masks: N times what the file has as a mask, see :func:`~masa_track.masks.compressed`, or None; empty if it has
            none at all.
        notes: sentences on how rows were joined with frames, for the user.
    """

    path: Path
    class_names: dict[int, str]
    frames: np.ndarray = field(repr=False)
    boxes: np.ndarray = field(repr=False)
    scores: np.ndarray = field(repr=False)
    class_ids: np.ndarray = field(repr=False)
    masks: tuple[Any, ...] = field(default=(), repr=False)
    notes: tuple[str, ...] = field(default=(), repr=False)

    def __len__(self) -> int:
        return len(self.frames)

    def at(self, number: int) -> sv.Detections:
        """The detections of the frame with this 1-based number, in the order of the file; empty if it has none."""
        start, stop = np.searchsorted(self.frames, [number, number + 1])
        return sv.Detections(
            xyxy=self.boxes[start:stop].copy(),
            confidence=self.scores[start:stop].copy(),
            class_id=self.class_ids[start:stop].copy(),
        )

    def masks_at(self, number: int) -> tuple[Any, ...]:
        """The masks of :meth:`at`'s rows."""
        start, stop = np.searchsorted(self.frames, [number, number + 1])
        return self.masks[start:stop]


@dataclass
class Rows:
    """Rows as they stand in a file, and what to call row i in a message."""

    frames: np.ndarray  # (N,) float64, 1-based
    xywh: np.ndarray  # (N, 4) float64, 0-based
    scores: np.ndarray  # (N,) float64
    class_ids: np.ndarray  # (N,) float64, checked to be whole by `read_detections`
    place: Callable[[int], str]
    class_names: dict[int, str] = field(default_factory=dict)
    masks: list[Any] = field(default_factory=list)  # N of them, or none
    notes: tuple[str, ...] = ()  # on how rows were joined with frames

    def in_video(self, path: Path) -> Rows:
        """The rows without those of frame 0, which have no frame in the video.

        Raises:
            InputError: none is left.
        """
        if len(self.frames) and not self.frames.any():
            raise InputError(f"{path} has no detections for this video: none of its rows is of one of the frames")
        return self.only(self.frames != 0)

    def only(self, keep: np.ndarray) -> Rows:
        """The rows where ``keep`` (N,) bool is true."""
        places = np.flatnonzero(keep)
        return replace(
            self,
            frames=self.frames[keep],
            xywh=self.xywh[keep],
            scores=self.scores[keep],
            class_ids=self.class_ids[keep],
            place=lambda i: self.place(int(places[i])),
            masks=[self.masks[i] for i in places] if self.masks else [],
        )
