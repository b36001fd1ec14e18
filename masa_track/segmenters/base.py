"""What segmenters have in common: masks of the tracked boxes of a frame."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import supervision as sv


class Segmenter(ABC):
    """Masks of a picture by boxes and by points."""

    @abstractmethod
    def segment(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """(N, H, W) bool masks of (N, 4) xyxy boxes in a (H, W, 3) BGR uint8 picture."""

    @abstractmethod
    def segment_points(self, frame: np.ndarray, points: np.ndarray) -> np.ndarray:
        """(3 P, H, W) bool masks at (P, 2) points, x and y in pixels: three of each, of different extent."""

    def add_masks(self, tracked: sv.Detections, frame: np.ndarray) -> sv.Detections:
        """The same rows with ``mask`` (N, H, W) bool, all False where a row has no identity.

        Args:
            tracked: what :meth:`masa_track.MasaTracker.update` gave; it is not changed.
            frame: (H, W, 3) BGR uint8.
        """
        ids = np.full(len(tracked), -1) if tracked.tracker_id is None else np.asarray(tracked.tracker_id)
        rows = np.flatnonzero(ids >= 0)
        result = copy.copy(tracked)
        result.mask = np.zeros((len(tracked), *frame.shape[:2]), bool)
        result.mask[rows] = self.segment(frame, np.asarray(tracked.xyxy)[rows])
        return result
