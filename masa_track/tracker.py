"""The public tracker: a detector's boxes and the frame in, the same boxes with identities out."""

from __future__ import annotations

import copy
from dataclasses import fields
from math import isfinite
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from masa_track.association import PRESETS, REFERENCE_PRESETS, Associator, options_of
from masa_track.errors import InputError

if TYPE_CHECKING:
    import supervision as sv
    import torch


class Embeds(Protocol):
    """What the tracker needs of a model."""

    def embed(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """(N, D) float32 embeddings of (N, 4) xyxy boxes of a (H, W, 3) BGR uint8 frame."""
        ...


class MasaTracker:
    """Gives the detections of any detector identities over time.

    Identities count from 1 (``first_id``) in each tracker for itself, so a tracker gives the same ones whatever else
    runs beside it; where those of several trackers meet in one table, give each another ``first_id``.

    Args:
        model: a name or file for :func:`masa_track.load`, or anything with ``embed(frame, boxes)``.
        preset: ``default`` and ``appearance`` (embeddings alone, a long memory), or the reference's ``tao``, ``bdd``
            and ``demo``, which count frames and leave timestamps aside.
        device: for the model, e.g. ``cpu`` or ``cuda``; None takes a GPU if there is one.
        **overrides: options of :class:`~masa_track.association.AssociationOptions`, e.g. ``memory_frames=300``.

    Attributes:
        phrases: class ids by name, where a detector names things instead of numbering them; filled as names come.

    Raises:
        InputError: for an unknown model, preset or option (the nearest name is given), or a value that cannot be.

    Example:
        >>> tracker = MasaTracker()                                    # doctest: +SKIP
        >>> for frame in frames:                                       # doctest: +SKIP
        ...     detections = tracker.update(detector(frame), frame)
        ...     detections.tracker_id                                  # one a row, -1 = not tracked
    """

    def __init__(
        self,
        model: str | Embeds = "nano",
        preset: str = "default",
        device: str | torch.device | None = None,
        **overrides: Any,
    ) -> None:
        overrides = {"first_id": 1, **overrides}
        options_of(preset, **overrides)  # a mistake is named before the model is loaded
        if hasattr(model, "embed"):
            self.model: Embeds = model
        else:
            from masa_track.models import load

            self.model = load(model, device=device)
        self._associator = Associator(preset, **overrides)
        self._counts_frames = preset in REFERENCE_PRESETS
        self.phrases: dict[str, int] = {}
        self.reset()

    def reset(self) -> None:
        """Forgets everything, for the first frame of another video. Identities count from the first again."""
        self._associator.reset()
        self._frame_index = -1
        self._timestamp: float | None = None

    def update(
        self, detections: sv.Detections | Any, frame: np.ndarray, timestamp: float | None = None
    ) -> sv.Detections:
        """Tracks one frame.

        Args:
            detections: N boxes, xyxy pixels of the frame, as :class:`supervision.Detections` or as a detector's own
                result (ultralytics, torchvision, transformers, mmdet, inference: see :mod:`masa_track.results`).
                Without a confidence each counts as 1, without a class as 0.
            frame: (H, W, 3) BGR uint8.
            timestamp: seconds since any fixed moment; if given, memory is counted in time (``memory_frames`` frames
                of 1 / ``fps`` s), otherwise in calls.

        Returns:
            The same rows in the same order, with ``tracker_id`` (N,) int64; -1 = not tracked. The detections given
            are not changed.

        Raises:
            InputError: for a frame or boxes of another form, NaN, or a timestamp that is not later than the last.
        """
        from masa_track.models.preprocess import check_boxes, check_frame
        from masa_track.results import to_detections

        check_frame(frame)
        detections = to_detections(detections, self.phrases)
        boxes = check_boxes(detections.xyxy)
        index = self._next_index(timestamp)
        count = len(boxes)
        scores = np.ones(count, np.float32) if detections.confidence is None else detections.confidence
        labels = np.zeros(count, np.int64) if detections.class_id is None else detections.class_id
        embeddings = self.model.embed(frame, boxes)
        tracked = copy.copy(detections)
        tracked.tracker_id = self._associator.update(boxes, scores, labels, embeddings, index)
        self._frame_index, self._timestamp = index, timestamp
        return tracked

    def _next_index(self, timestamp: float | None) -> int:
        """The frame's number for the association, in frames of 1 / fps seconds where there is a timestamp."""
        following = self._frame_index + 1
        if timestamp is None:
            return following
        if not isfinite(timestamp) or (self._timestamp is not None and timestamp <= self._timestamp):
            raise InputError(
                f"timestamp must be seconds, later than the last ({self._timestamp}), got {timestamp}: "
                "call reset() before another video"
            )
        if self._counts_frames:
            return following
        return max(following, round(timestamp * self._associator.options.fps))


def tracker_options() -> list[str]:
    """Names of the options that :class:`MasaTracker` takes as overrides."""
    return [field.name for field in fields(PRESETS["default"])]
