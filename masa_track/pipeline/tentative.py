"""Boxes without identity of the last frames, until it is known whether they are of tracks that were confirmed later."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
import supervision as sv

from masa_track.contracts import TrackEvent
from masa_track.formats.tracks import TrackWriters
from masa_track.masks import encode_mask

_MOST_FRAMES = 300  # a tentative track must be detected in each frame, and is mostly confirmed after two to five


class TentativeRows:
    """Keeps the boxes without identity of the last 300 frames: no pictures, and masks as run lengths."""

    def __init__(self) -> None:
        self._frames: deque[tuple[int, np.ndarray, sv.Detections]] = deque(maxlen=_MOST_FRAMES)

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
        if tracked.mask is not None and len(rows):
            masks = np.empty(len(rows), object)
            masks[:] = [encode_mask(tracked.mask[row]) if tracked.mask[row].any() else None for row in rows.tolist()]
            kept.data["segmentation"] = masks
        self._frames.append((frame_number, rows, kept))

    def write(self, writers: TrackWriters, events: Sequence[TrackEvent], frame_number: int) -> None:
        """Writes what the events of the last frame, number ``frame_number``, say of the frames before: births and cuts.

        Raises:
            OSError: the disk is full, or the like.
        """
        for event in events:
            if event.kind == "cut":
                writers.mark_cut(frame_number)
            for number, row in event.earlier:  # numbers of frames as the tracker counts them
                back = event.number - number + 1
                if back > len(self._frames):
                    continue
                earlier, rows, kept = self._frames[-back]
                one = kept[np.flatnonzero(rows == row)]
                assert isinstance(one, sv.Detections)
                one.tracker_id = np.full(len(one), event.identity)
                writers.write_tentative(earlier, one)
