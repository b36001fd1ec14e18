"""The public tracker: a detector's boxes and the frame in, the same boxes with identities out."""

from __future__ import annotations

import copy
import logging
from dataclasses import fields
from math import isfinite
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from masa_track.association import (
    PRESETS,
    REFERENCE_PRESETS,
    FusedAssociator,
    TrackGallery,
    open_associator,
)
from masa_track.errors import InputError

if TYPE_CHECKING:
    import supervision as sv
    import torch

    from masa_track.camera import CameraMotion


LOG = logging.getLogger("masa_track")
_WEAK_FRAMES = 10  # the first with boxes; if none of those may start a track, that is said


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
        preset: ``default`` (motion and appearance), ``appearance`` (embeddings alone, a long memory), or the
            reference's ``tao``, ``bdd`` and ``demo``, which count frames and leave timestamps aside.
        device: for the model, e.g. ``cpu`` or ``cuda``; None takes a GPU if there is one.
        camera_motion: estimate how the camera moves from each frame to the next, for the preset ``default``.
        **overrides: options of the preset, :class:`~masa_track.association.FusedOptions` for ``default``, e.g.
            ``memory_seconds=60``, else :class:`~masa_track.association.AssociationOptions`. The one to set for your
            detector is ``init_score_threshold``, the score from which its boxes start tracks.

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
        camera_motion: bool = False,
        **overrides: Any,
    ) -> None:
        overrides = {"first_id": 1, **overrides}
        self._associator = open_associator(preset, **overrides)  # a mistake is named before the model is loaded
        if hasattr(model, "embed"):
            self.model: Embeds = model
        else:
            from masa_track.models import load

            self.model = load(model, device=device)
        if camera_motion and not isinstance(self._associator, FusedAssociator):
            raise InputError(f"camera_motion needs a preset that knows motion, got {preset!r}: take 'default'")
        self._camera: CameraMotion | None = None
        if camera_motion:
            from masa_track.camera import CameraMotion

            self._camera = CameraMotion()
        self._counts_frames = preset in REFERENCE_PRESETS
        self.phrases: dict[str, int] = {}
        self.reset()

    def reset(self) -> None:
        """Forgets everything, for the first frame of another video. Identities count from the first again."""
        self._associator.reset()
        self._frame_index: float = -1
        if self._camera is not None:
            self._camera.reset()
        self._timestamp: float | None = None
        self._best_score, self._weak_frames = 0.0, 0

    def update(
        self, detections: sv.Detections | Any, frame: np.ndarray, timestamp: float | None = None
    ) -> sv.Detections:
        """Tracks one frame.

        Args:
            detections: N boxes, xyxy pixels of the frame, as :class:`supervision.Detections` or as a detector's own
                result (ultralytics, torchvision, transformers, mmdet, inference: see :mod:`masa_track.results`).
                Without a confidence each counts as 1, without a class as 0.
            frame: (H, W, 3) BGR uint8.
            timestamp: seconds since any fixed moment; if given, motion and memory are counted in time, otherwise in
                calls, ``fps`` a second.

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
        if isinstance(self._associator, FusedAssociator):
            size = frame.shape[1], frame.shape[0]
            camera = None if self._camera is None else self._camera.estimate(frame, boxes)
            tracked.tracker_id = self._associator.update(boxes, scores, labels, embeddings, index, size, camera)
        else:
            tracked.tracker_id = self._associator.update(boxes, scores, labels, embeddings, int(index))
        self._frame_index, self._timestamp = index, timestamp
        self._say_if_weak(scores)
        return tracked

    def class_of(self, tracker_id: int) -> int | None:
        """The class that most of a remembered track's detections had, weighed by score; None if it is forgotten.

        Raises:
            InputError: for a preset without votes.
        """
        if not isinstance(self._associator, FusedAssociator):
            raise InputError("class_of needs a preset whose tracks vote on their class: take 'default'")
        return self._associator.class_of(tracker_id)

    def gallery(self) -> TrackGallery:
        """How the tracks in memory looked, to save, to load and to match with another camera's.

        Raises:
            InputError: for a preset without a gallery.
        """
        if not isinstance(self._associator, FusedAssociator):
            raise InputError("gallery needs a preset that keeps one: take 'default'")
        return self._associator.gallery()

    def _say_if_weak(self, scores: np.ndarray) -> None:
        """Says so once, if no detection of the first frames scores enough for a track: the threshold is not theirs."""
        threshold = self._associator.options.init_score_threshold
        if not len(scores) or self._best_score > threshold or self._weak_frames == _WEAK_FRAMES:
            return
        self._best_score = max(self._best_score, float(scores.max()))
        self._weak_frames += self._best_score <= threshold
        if self._weak_frames == _WEAK_FRAMES:
            LOG.warning(
                "no detection of %d frames scores above init_score_threshold = %g, from which tracks start; the best "
                "has %.2f: set it to what your detector's scores mean, e.g. init_score_threshold=%.2f",
                _WEAK_FRAMES,
                threshold,
                self._best_score,
                self._best_score / 2,
            )

    def _next_index(self, timestamp: float | None) -> float:
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
        if isinstance(self._associator, FusedAssociator):
            return timestamp * self._associator.options.fps
        return max(following, round(timestamp * self._associator.options.fps))


def tracker_options() -> list[str]:
    """Names of the options that :class:`MasaTracker` takes as overrides."""
    return [field.name for field in fields(PRESETS["default"])]
