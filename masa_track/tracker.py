"""The public tracker: a detector's boxes and the frame in, the same boxes with identities out."""

from __future__ import annotations

import copy
import logging
import os
from math import inf, isfinite
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from masa_track.association import (
    REFERENCE_PRESETS,
    AppearancePrior,
    FusedAssociator,
    TrackGallery,
    open_associator,
)
from masa_track.checks import check_labels, check_scores
from masa_track.contracts import Embeds
from masa_track.errors import InputError

if TYPE_CHECKING:
    import supervision as sv
    import torch

    from masa_track.video.camera_motion import CameraMotion


LOG = logging.getLogger("masa_track")
_WEAK_FRAMES = 10  # the first with boxes; if none of those may start a track, that is said
_ODD_GAPS = 3  # consecutive gaps between timestamps that are hardly seconds; then that is said
_LONG_GAP = 8.0  # seconds; milliseconds of a video of 125 or fewer frames a second are further apart
_SHORT_GAP = 0.0009  # seconds; nearer than this are only videos of more than 1,000 frames a second


class _Frames(NamedTuple):
    """What the tracker keeps of the frames so far. It is replaced as a whole, after a frame has succeeded.

    Attributes:
        number: of the last frame, in frames of 1 / ``fps`` seconds.
        timestamp: of the last frame that had one, seconds; None if no frame had one.
        without: frames that had no timestamp, since the last one that had.
        camera: the camera's motion up to the last frame; None where it is not estimated.
        far, near: consecutive gaps between timestamps that were very long, and very short.
    """

    number: float = -1
    timestamp: float | None = None
    without: int = 0
    camera: CameraMotion | None = None
    far: int = 0
    near: int = 0


class MasaTracker:
    """Gives the detections of any detector identities over time.

    Identities count from 1 (``first_id``) in each tracker for itself, so a tracker gives the same ones whatever else
    runs beside it; where those of several trackers meet in one table, give each another ``first_id``.

    Args:
        model: a name or file for :func:`masa_track.load`, or anything with ``embed(frame, boxes)``.
        preset: ``default`` (motion and appearance), ``appearance`` (embeddings alone, a long memory), or the
            reference's ``tao``, ``bdd`` and ``demo``, which count frames and leave timestamps aside.
        device: for the model, e.g. ``cpu`` or ``cuda``; None takes a GPU if there is one.
        prior: the cosines to expect of the model's embeddings, for the preset ``default``: an ``AppearancePrior`` or a
            file by ``tools/fit_appearance.py``. None takes that of the model (``model.prior``); a model without one is
            learned from each video alone.
        camera_motion: estimate how the camera moves from each frame to the next, for the preset ``default``.
        **overrides: options of the preset, :class:`~masa_track.association.FusedOptions` for ``default``, e.g.
            ``memory_seconds=60``, else :class:`~masa_track.association.AssociationOptions`. The one to set for your
            detector is ``track_activation_threshold``, the score from which its boxes start tracks.

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
        prior: AppearancePrior | str | os.PathLike[str] | None = None,
        **overrides: Any,
    ) -> None:
        overrides = {"first_id": 1, **overrides}
        self._associator = open_associator(preset, **overrides)  # a mistake is named before the model is loaded
        if prior is not None and not isinstance(prior, AppearancePrior):
            prior = AppearancePrior.load(os.fspath(prior))
        if prior is not None and not isinstance(self._associator, FusedAssociator):
            raise InputError(f"prior needs a preset that calibrates cosines, got {preset!r}: take 'default'")
        if hasattr(model, "embed"):
            self.model: Embeds = model
        else:
            from masa_track.encoders.loading import load

            self.model = load(model, device=device)
        if isinstance(self._associator, FusedAssociator):
            if prior is not None:
                prior.check(getattr(self.model, "name", None), getattr(self.model, "dimension", None))
            self._associator = FusedAssociator(preset, prior or getattr(self.model, "prior", None), **overrides)
        if camera_motion and not isinstance(self._associator, FusedAssociator):
            raise InputError(f"camera_motion needs a preset that knows motion, got {preset!r}: take 'default'")
        self._camera_motion = camera_motion
        self._counts_frames = preset in REFERENCE_PRESETS
        self.phrases: dict[str, int] = {}
        self.reset()

    def reset(self) -> None:
        """Forgets everything, for the first frame of another video. Identities count from the first again."""
        self._associator.reset()
        camera = None
        if self._camera_motion:
            from masa_track.video.camera_motion import CameraMotion

            camera = CameraMotion()
        self._frames = _Frames(camera=camera)
        self._units_told = False
        self._best_score, self._weak_frames = 0.0, 0

    def update(
        self, detections: sv.Detections | Any, frame: np.ndarray, timestamp: float | None = None
    ) -> sv.Detections:
        """Tracks one frame.

        Args:
            detections: N boxes, xyxy pixels of the frame, as :class:`supervision.Detections` or as a detector's own
                result (ultralytics, torchvision, transformers, mmdet, inference: see
                :mod:`masa_track.formats.results`). Without a confidence each counts as 1, without a class as 0.
            frame: (H, W, 3) BGR uint8.
            timestamp: seconds since any fixed moment; if given, motion and memory are counted in time, otherwise in
                calls, ``fps`` a second.

        Returns:
            The same rows in the same order, with ``tracker_id`` (N,) int64; -1 = not tracked. The detections given
            are not changed: the object and its ``data`` are new, the arrays are shared.

        Raises:
            InputError: for a frame or boxes of another form, NaN, scores outside 0..1, classes that are not whole
                numbers, or a timestamp that is not later than the last. A frame that raises leaves no trace.
        """
        from masa_track.boxes import check_boxes
        from masa_track.encoders.preprocessing import check_frame
        from masa_track.formats.results import to_detections, with_identities

        check_frame(frame)
        phrases = dict(self.phrases)
        detections = to_detections(detections, phrases)
        boxes = check_boxes(detections.xyxy)
        count = len(boxes)
        scores = np.ones(count, np.float32) if detections.confidence is None else detections.confidence
        labels = np.zeros(count, np.int64) if detections.class_id is None else detections.class_id
        scores, labels = check_scores(scores, count), check_labels(labels, count)
        frames = self._next(timestamp)
        embeddings = self.model.embed(frame, boxes)
        size, moved, camera = (frame.shape[1], frame.shape[0]), None, copy.copy(frames.camera)
        if camera is not None:
            moved = camera.estimate(frame, boxes)
            frames = frames._replace(camera=camera)
        before, self._frames = self._frames, frames
        try:
            if isinstance(self._associator, FusedAssociator):
                ids = self._associator.update(boxes, scores, labels, embeddings, frames.number, size, moved)
            else:
                ids = self._associator.update(boxes, scores, labels, embeddings, int(frames.number))
        except BaseException:
            if self._associator.last_frame != frames.number:  # else Ctrl-C came when the frame was done
                self._frames = before
            raise
        self.phrases.update(phrases)
        self._say_if_weak(scores)
        self._say_if_no_seconds(frames)
        return with_identities(detections, ids)

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
        threshold = self._associator.options.track_activation_threshold
        if not len(scores) or self._best_score > threshold or self._weak_frames == _WEAK_FRAMES:
            return
        self._best_score = max(self._best_score, float(scores.max()))
        self._weak_frames += self._best_score <= threshold
        if self._weak_frames == _WEAK_FRAMES:
            LOG.warning(
                "no detection of %d frames scores above track_activation_threshold = %g, from which tracks start; "
                "the best has %.2f: set it to what your detector's scores mean, e.g. track_activation_threshold=%.2f",
                _WEAK_FRAMES,
                threshold,
                self._best_score,
                self._best_score / 2,
            )

    def _say_if_no_seconds(self, frames: _Frames) -> None:
        """Warns once if consecutive timestamps are so far apart, or so near, that they are hardly seconds."""
        if self._units_told or max(frames.far, frames.near) < _ODD_GAPS:
            return
        self._units_told = True
        if frames.far:
            LOG.warning(
                "%d frames in a row came more than %g s after the one before (tracks are remembered for %g s): "
                "timestamps must be seconds. Are these milliseconds? Then divide by 1000. If the frames are truly so "
                "far apart, raise %s",
                frames.far,
                self._long_gap(),
                self._memory(),
                "memory_seconds" if isinstance(self._associator, FusedAssociator) else "memory_frames",
            )
        else:
            LOG.warning(
                "%d frames in a row came less than %g s after the one before: timestamps must be seconds. Are these "
                "minutes, or seconds that were divided by 1000?",
                frames.near,
                _SHORT_GAP,
            )

    def _memory(self) -> float:
        """Seconds for which the preset remembers a track."""
        options = self._associator.options
        if isinstance(self._associator, FusedAssociator):
            return self._associator.options.memory_seconds
        return float(self._associator.options.memory_frames / options.fps)

    def _long_gap(self) -> float:
        return min(self._memory(), _LONG_GAP)

    def _next(self, timestamp: float | None) -> _Frames:
        """What will be kept once the frame of this timestamp has succeeded.

        Raises:
            InputError: for a timestamp that is no number of seconds, or not later than the last frame's.
        """
        last = self._frames
        following = last.number + 1
        if timestamp is None:
            return last._replace(number=following, without=last.without + 1, far=0, near=0)
        seconds = _seconds(timestamp)
        if last.timestamp is not None and seconds <= last.timestamp:
            raise InputError(
                f"timestamp must be seconds, later than the last ({last.timestamp}), got {timestamp}: "
                "call reset() before another video"
            )
        if self._counts_frames:
            return last._replace(number=following, timestamp=seconds)
        fps = self._associator.options.fps
        if last.without and last.timestamp is None:
            raise InputError(
                f"timestamp must be given for each frame or for none, got {timestamp} after {last.without} frames "
                "without: call reset() before another video"
            )
        gap = inf if last.timestamp is None else seconds - last.timestamp
        index = seconds * fps
        if isinstance(self._associator, FusedAssociator):
            if last.timestamp is not None and index <= last.number:
                raise InputError(
                    f"timestamp must be later than the last frame's, got {timestamp} after {last.number / fps:g}: "
                    f"{last.without} frames without a timestamp were counted as 1 / {fps:g} s each since "
                    f"{last.timestamp}"
                )
        else:
            index = max(following, round(index))
        counted = last.timestamp is not None and not last.without
        return last._replace(
            number=index,
            timestamp=seconds,
            without=0,
            far=last.far + 1 if counted and gap > self._long_gap() else 0,
            near=last.near + 1 if counted and gap < _SHORT_GAP else 0,
        )


def _seconds(timestamp: Any) -> float:
    """A timestamp as a finite float."""
    try:
        if isinstance(timestamp, str | bytes | bool):
            raise TypeError
        seconds = float(timestamp)
    except (TypeError, ValueError, OverflowError):
        seconds = inf
    if not isfinite(seconds):
        raise InputError(
            f"timestamp must be seconds, a finite number, got {timestamp!r}: a datetime has timestamp(), a timedelta "
            "total_seconds()"
        )
    return seconds
