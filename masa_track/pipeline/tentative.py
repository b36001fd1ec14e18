"""Boxes without identity of the last frames, until it is known whether they are of tracks that were confirmed later."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import supervision as sv

from masa_track.contracts import MOST_TENTATIVE, TrackEvent
from masa_track.formats.tracks import TrackWriters


class TentativeRows:
    """Keeps the boxes without identity of the last frames: no pictures, and masks as run lengths."""

    def __init__(self) -> None:
        self._frames: dict[int, tuple[np.ndarray, sv.Detections]] = {}  # by number, the oldest first

    def add(self, frame_number: int, tracked: sv.Detections) -> None:
        """Takes a frame that the tracker has taken, with (N,) identities; -1 for none."""
        ids = np.full(len(tracked), -1) if tracked.tracker_id is None else np.asarray(tracked.tracker_id)
        rows = np.flatnonzero(ids < 0)
        kept = sv.Detections(
            xyxy=np.array(tracked.xyxy)[rows],
            confidence=None if tracked.confidence is None else np.asarray(tracked.confidence)[rows],
            class_id=None if tracked.class_id is None else np.asarray(tracked.class_id)[rows],
        )
        if "class_name" in tracked.data:
            kept.data["class_name"] = np.asarray(tracked.data["class_name"], object)[rows]
        if "segmentation" in tracked.data:
            kept.data["segmentation"] = np.asarray(tracked.data["segmentation"], object)[rows]
        self._frames[frame_number] = rows, kept
        if len(self._frames) > MOST_TENTATIVE:
            del self._frames[next(iter(self._frames))]

    def write(self, writers: TrackWriters, events: Sequence[TrackEvent]) -> None:
        """Writes what the events of the last frame say of the frames before: births and cuts.

        Raises:
            OSError: the disk is full, or the like.
        """
        for event in events:
            if event.kind == "cut":
                writers.mark_cut(event.number)
            for number, row in event.earlier:
                if number not in self._frames:
                    continue
                rows, kept = self._frames[number]
                one = kept[np.flatnonzero(rows == row)]
                assert isinstance(one, sv.Detections)
                one.tracker_id = np.full(len(one), event.identity)
                writers.write_tentative(number, one)
