"""The public tracker: a detector's boxes and the frame in, the same boxes with identities out."""

from __future__ import annotations

import copy
import json
import logging
import os
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import inf, isfinite
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from masa_track.association import AppearancePrior, TrackGallery, current_names, open_associator
from masa_track.association.engine import Decisions, no_decisions
from masa_track.checks import check_finite, check_labels, check_scores
from masa_track.contracts import (
    MOST_TENTATIVE,
    Decision,
    Embedder,
    Embeds,
    Features,
    Frame,
    FrameResult,
    Observation,
    TrackEvent,
    TrackView,
)
from masa_track.encoders.base import BaseEmbedder
from masa_track.errors import InputError
from masa_track.registry import POOLS, find_model

if TYPE_CHECKING:
    import supervision as sv
    import torch

    from masa_track.video.camera_motion import CameraMotion
    from masa_track.video.scene_change import Thumbnail


LOG = logging.getLogger("masa_track")
_WEAK_FRAMES = 10  # the first with boxes; if none of those may start a track, that is said
_ODD_GAPS = 3  # consecutive gaps between timestamps that are hardly seconds; then that is said
_LONG_GAP = 8.0  # seconds; milliseconds of a video of 125 or fewer frames a second are further apart
_SHORT_GAP = 0.0009  # seconds; nearer than this are only videos of more than 1,000 frames a second


class _Frames(NamedTuple):
    """What the tracker keeps of the frames so far. It is replaced as a whole, after a frame has succeeded.

    Attributes:
        calls: number of the last frame, counted from 0.
        number: of the last frame, in frames of 1 / ``fps`` seconds.
        timestamp: of the last frame that had one, seconds; None if no frame had one.
        without: frames that had no timestamp, since the last one that had.
        camera: the camera's motion up to the last frame; None where it is not estimated.
        far, near: consecutive gaps between timestamps that were very long, and very short.
        thumbnail: of the last picture; None without one, or where the preset does not ask for it.
    """

    calls: int = -1
    number: float = -1
    timestamp: float | None = None
    without: int = 0
    camera: CameraMotion | None = None
    far: int = 0
    near: int = 0
    thumbnail: Thumbnail | None = None


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
        classes: the classes to track, by number or by name; None tracks all. Names are those in the detections' own
            ``data["class_name"]``, compared without case. Rows of other classes are returned without an identity.
        pool: what an embedding is made of: ``box``, all that is in the box; ``mask``, what is under the detection's
            mask, where it has one. ``mask`` needs a model of :func:`masa_track.load`. None: as the model's
            ``ModelSpec.pool`` has it: ``mask`` for ``nano``, with which it was measured to help.
        **overrides: options of the preset, :class:`~masa_track.association.FusedOptions` for ``default``, e.g.
            ``memory_seconds=60``, else :class:`~masa_track.association.AssociationOptions`. The one to set for your
            detector is ``track_activation_threshold``, the score from which its boxes start tracks.

    Attributes:
        look_ahead: 0: :meth:`step` gives each result at once.
        phrases: class ids by name, where a detector names things instead of numbering them; filled as names come.

    Raises:
        InputError: for an unknown model, preset or option (the nearest name is given), or a value that cannot be.

    Example:
        >>> tracker = MasaTracker()                                    # doctest: +SKIP
        >>> for frame in frames:                                       # doctest: +SKIP
        ...     detections = tracker.update(detector(frame), frame)
        ...     detections.tracker_id                                  # one a row, -1 = not tracked
    """

    look_ahead = 0

    def __init__(
        self,
        model: str | Embeds = "nano",
        preset: str = "default",
        device: str | torch.device | None = None,
        camera_motion: bool = False,
        prior: AppearancePrior | str | os.PathLike[str] | None = None,
        classes: Sequence[int | str] | None = None,
        pool: str | None = None,
        **overrides: Any,
    ) -> None:
        if pool is not None and pool not in POOLS:
            raise InputError(f"pool must be one of {', '.join(POOLS)}, got {pool!r}")
        self._classes = None if classes is None else _checked_classes(classes)
        overrides = {"first_id": 1, **current_names(overrides)}
        self._associator = open_associator(preset, **overrides)  # a mistake is named before the model is loaded
        if prior is not None and not isinstance(prior, AppearancePrior):
            prior = AppearancePrior.load(os.fspath(prior))
        if prior is not None and "motion" not in self._associator.needs:
            raise InputError(f"prior needs a preset that calibrates cosines, got {preset!r}: take 'default'")
        if camera_motion and "motion" not in self._associator.needs:
            raise InputError(f"camera_motion needs a preset that uses motion, got {preset!r}: take 'default'")
        if hasattr(model, "embed"):
            self.model: Embeds = model
        else:
            from masa_track.encoders.loading import load

            self.model = load(model, device=device)
        ours = self.model if isinstance(self.model, BaseEmbedder) else None
        if pool == "mask" and ours is None:
            raise InputError(f"pool='mask' needs a model of masa_track.load, got {type(model).__name__}: take 'box'")
        spec = None if ours is None else find_model(ours.name)
        self._pool = pool or (POOLS[0] if spec is None else spec.pool)
        if prior is not None:
            prior.check(getattr(self.model, "name", None), getattr(self.model, "dimension", None))
        self._associator = open_associator(preset, prior or getattr(self.model, "prior", None), **overrides)
        self._camera_motion = camera_motion
        self._finds_cuts = self._associator.needs == {"motion", "embeddings"}
        self._counts_frames = getattr(self._associator.options, "count_frames", False)
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
        self._decisions: Sequence[Decision] = ()
        self._events: list[TrackEvent] = []
        self._observation: Observation | None = None
        self._numbers: deque[tuple[int, int]] = deque(maxlen=MOST_TENTATIVE)
        self._rows: dict[int, np.ndarray] = {}  # by call, the tracked rows where classes were left out
        self._units_told = False
        self._best_score, self._weak_frames = 0.0, 0

    def update(
        self,
        detections: sv.Detections | Any,
        frame: np.ndarray | None = None,
        timestamp: float | None = None,
        *,
        features: Features | None = None,
        embeddings: np.ndarray | None = None,
        size: tuple[int, int] | None = None,
        return_embeddings: bool = False,
        hints: Sequence[tuple[int, int, float]] = (),
        mask_overlaps: Sequence[tuple[int, int, float, float]] = (),
        may_start: np.ndarray | None = None,
        detector_ran: bool = True,
    ) -> sv.Detections:
        """Tracks one frame. All or nothing: a frame that raises leaves no trace.

        Args:
            detections: N boxes, xyxy pixels of the frame, as :class:`supervision.Detections`, as an array (N, 4),
                (N, 5: score) or (N, 6: score, class), or as a detector's own result (ultralytics, torchvision,
                transformers, mmdet, inference: see :mod:`masa_track.formats.results`). Without scores each counts as
                1, without classes as 0.
            frame: (H, W, 3) BGR uint8. None where no picture is needed: with ``embeddings``, or where the preset does
                not use them (``use_appearance=False``).
            timestamp: seconds since any fixed moment; if given, motion and memory are counted in time, otherwise in
                calls, ``fps`` a second.
            features: of the frame, where the model has encoded it already (``model.encode([frame])[0]``).
            embeddings: (N, D) of the boxes, not normalised; the model is not run.
            size: (width, height) of the picture in pixels, where there is no frame.
            hints: (row, identity, nats) of further evidence: added to the log-odds of the pair.
            mask_overlaps: as :attr:`Observation.mask_overlaps`.
            may_start: (N,) bool, rows that may start or confirm a track; None: all.
            detector_ran: False where the rows are all that something other than the detector saw: then a track that is
                not seen is not missing.
            return_embeddings: put the embeddings of all rows into ``data["embedding"]`` (N, D) float32; NaN in rows of
                classes that are not tracked.

        Returns:
            The same rows in the same order, with ``tracker_id`` (N,) int64; -1 = not tracked. With the option
            ``filter_boxes``, ``data["box"]`` (N, 4) float32 are filtered boxes, which jitter less. The detections given
            are not changed: the object and its ``data`` are new, the arrays are shared.

        Raises:
            InputError: for a frame or boxes of another form, NaN, scores outside 0..1, classes that are not whole
                numbers, a timestamp that is not later than the last, a frame that is missing and needed, or features
                of another model or another size of frame; for detections without names where ``classes`` has names.
        """
        from masa_track.boxes import check_boxes
        from masa_track.encoders.preprocessing import check_frame
        from masa_track.formats.results import EMBEDDING, to_detections, with_identities

        if frame is not None:
            check_frame(frame)
            if size is not None and tuple(size) != (frame.shape[1], frame.shape[0]):
                raise InputError(f"size must be (width, height) of the frame, {frame.shape[1::-1]}, got {size}")
            size = frame.shape[1], frame.shape[0]
        phrases = dict(self.phrases)
        detections = to_detections(detections, phrases)
        boxes = check_boxes(detections.xyxy)
        count = len(boxes)
        scores = np.ones(count, np.float32) if detections.confidence is None else detections.confidence
        labels = np.zeros(count, np.int64) if detections.class_id is None else detections.class_id
        scores, labels = check_scores(scores, count), check_labels(labels, count)
        rows = self._chosen(detections, labels)  # all others are unseen by the associator
        if embeddings is not None and len(rows) < count:
            embeddings = np.asarray(embeddings)
            if embeddings.shape[:1] != (count,):
                raise InputError(f"embeddings must be ({count}, D), one for each of the boxes, got {embeddings.shape}")
            embeddings = embeddings[rows]
        frames = self._next(timestamp)
        seconds = frames.number / self._associator.options.fps if timestamp is None else float(timestamp)
        seen = Observation(frames.calls, seconds, size, boxes[rows], scores[rows], labels[rows])
        named = len(hints) or len(mask_overlaps)
        place_of = {row: place for place, row in enumerate(rows.tolist())} if named else {}
        seen.hints = [(place_of[row], identity, nats) for row, identity, nats in hints if row in place_of]
        seen.mask_overlaps = [(place_of[row], *rest) for row, *rest in mask_overlaps if row in place_of]  # type: ignore[misc]
        seen.may_start = None if may_start is None else np.asarray(may_start, bool)[rows]
        seen.detector_ran = detector_ran
        masks: Any = detections.mask if self._pool == "mask" else None
        own = None if masks is None else [masks[row] for row in rows.tolist()]
        seen.embeddings = self._embedded(seen, frame, features, embeddings, return_embeddings, own)
        camera = copy.copy(frames.camera)
        if camera is not None:
            if frame is None:
                raise InputError("frame must be given where camera_motion=True, got None")
            seen.camera = camera.estimate(frame, boxes)
            frames = frames._replace(camera=camera)
        if self._finds_cuts:
            frames = frames._replace(thumbnail=self._compared(seen, frame))
        before, self._frames = self._frames, frames
        try:
            ids, decisions, events = self._associator.update(seen)
        except BaseException:
            if self._associator.last_frame != frames.calls:  # else Ctrl-C came when the frame was done
                self._frames = before
            raise
        if len(rows) < count:
            kept, ids = ids, np.full(count, -1, np.int64)
            ids[rows] = kept
            decided = decisions if isinstance(decisions, Decisions) else Decisions(0, lambda: no_decisions(0, ()))
            decisions = decided.among(rows, count)
            self._rows[frames.calls] = rows
        self._rows.pop(frames.calls - MOST_TENTATIVE, None)
        self._decisions, self._events, self._observation = decisions, self._in_given_rows(events), seen
        self.phrases.update(phrases)
        self._say_if_weak(seen.scores)
        self._say_if_no_seconds(frames)
        tracked = with_identities(detections, ids)
        if getattr(self._associator.options, "filter_boxes", False):
            tracked.data["box"] = self._associator.filtered_boxes(boxes, ids)
        if return_embeddings:
            found = np.asarray(seen.embeddings, np.float32)
            tracked.data[EMBEDDING] = np.full((count, found.shape[1]), np.nan, np.float32)
            tracked.data[EMBEDDING][rows] = found
        return tracked

    def step(
        self,
        frame: Frame,
        detections: sv.Detections | None = None,
        *,
        features: Features | None = None,
        hints: Sequence[tuple[int, int, float]] = (),
        mask_overlaps: Sequence[tuple[int, int, float, float]] = (),
        may_start: np.ndarray | None = None,
        detector_ran: bool | None = None,
    ) -> list[FrameResult]:
        """Tracks one frame of a source; see :class:`masa_track.contracts.IdentitySource`.

        Args:
            frame: with its picture; its time must be later than that of the frame before.
            detections: as for :meth:`update`; None: the detector did not run.
            features: as for :meth:`update`.
            hints: as for :meth:`update`.
            mask_overlaps: as for :meth:`update`.
            may_start: as for :meth:`update`.
            detector_ran: as for :meth:`update`; None: if there are detections.

        Returns:
            One result, at once. Its events name frames by :attr:`Frame.number`. With the option ``filter_boxes`` its
            boxes are the filtered ones.

        Raises:
            InputError: as :meth:`update`; the frame leaves no trace.
        """
        from masa_track.formats.results import to_detections

        given = to_detections(np.zeros((0, 4), np.float32) if detections is None else detections, self.phrases)
        ran = detections is not None if detector_ran is None else detector_ran
        evidence: dict[str, Any] = {
            "hints": hints,
            "mask_overlaps": mask_overlaps,
            "may_start": may_start,
            "detector_ran": ran,
        }
        tracked = self.update(given, frame.picture, frame.time, features=features, **evidence)
        if "box" in tracked.data and getattr(self.options, "filter_boxes", False):
            tracked.xyxy = np.asarray(tracked.data.pop("box"), np.float32)
        self._numbers.append((self._frames.calls, frame.number))
        number_of = dict(self._numbers) if any(event.earlier for event in self._events) else {}
        events = [
            replace(
                event,
                number=frame.number,
                time=frame.time,
                earlier=tuple((number_of[call], row) for call, row in event.earlier if call in number_of),
            )
            for event in self._events
        ]
        return [FrameResult(frame, tracked, events, self._decisions, observation=self._observation)]

    def finish(self) -> list[FrameResult]:
        """Nothing: each result came with its frame."""
        return []

    @property
    def options(self) -> Any:
        """The preset's options with the overrides."""
        return self._associator.options

    @property
    def tracks(self) -> TrackView:
        """The tracks in memory, also those that are not seen at the moment, with the boxes where they are expected."""
        return self._associator.view()

    @property
    def events(self) -> list[TrackEvent]:
        """What happened to tracks in the last frame."""
        return self._events

    @property
    def decisions(self) -> Sequence[Decision]:
        """Why each row of the last frame has its identity."""
        return self._decisions

    def class_of(self, tracker_id: int) -> int | None:
        """The class that most of a remembered track's detections had, weighted by score; None if it is forgotten.

        Raises:
            InputError: for a preset without votes.
        """
        return self._associator.class_of(tracker_id)

    def gallery(self) -> TrackGallery:
        """The embeddings of the tracks in memory, to save, to load and to match with another camera's.

        Raises:
            InputError: for a preset without a gallery.
        """
        return self._associator.gallery()

    def reserve(self, identity: int) -> None:
        """No new track gets an identity up to this one; of a run, say, that goes on from an earlier state."""
        self._associator.reserve(identity)

    def state_dict(self) -> dict[str, np.ndarray]:
        """The tracker's state as arrays of numbers and text, to go on after the process has ended.

        ``np.savez(file, **tracker.state_dict())`` saves it; ``np.load(file)`` (nothing is unpickled) reads it for
        :meth:`load_state_dict` of a tracker with the same model, preset and options.
        """
        frames = self._frames
        own: dict[str, Any] = {name: getattr(frames, name) for name in ("calls", "number", "without", "far", "near")}
        own |= {"best_score": self._best_score, "weak_frames": self._weak_frames, "units_told": self._units_told}
        own["phrases"] = json.dumps(self.phrases)
        own["numbers"] = np.array(self._numbers, np.int64).reshape(-1, 2)
        pairs = [(call, row) for call, rows in self._rows.items() for row in rows.tolist()]
        own["rows"] = np.array(pairs, np.int64).reshape(-1, 2)
        if frames.timestamp is not None:
            own["timestamp"] = frames.timestamp
        if frames.thumbnail is not None:
            own |= {f"thumbnail.{name}": value for name, value in frames.thumbnail._asdict().items()}
        if frames.camera is not None:
            own |= {f"camera.{name}": value for name, value in frames.camera.state_dict().items()}
        state = {f"tracker.{name}": np.asarray(value) for name, value in own.items()}
        return state | {f"associator.{name}": value for name, value in self._associator.state_dict().items()}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Goes on from a state of :meth:`state_dict`: the next frame gets the identities of the uninterrupted run.

        Raises:
            InputError: the state is of another preset or of other options, or it is damaged. The tracker is as it was
                then.
        """
        own = {name[8:]: value for name, value in state.items() if name.startswith("tracker.")}
        try:
            calls, number, without, far, near = (
                own[name].item() for name in ("calls", "number", "without", "far", "near")
            )
            timestamp = float(own["timestamp"]) if "timestamp" in own else None
            phrases = {str(name): int(number) for name, number in json.loads(own["phrases"].item()).items()}
            numbers, rows = (np.array(own[name], np.int64).reshape(-1, 2) for name in ("numbers", "rows"))
            best, weak, told = (own[name].item() for name in ("best_score", "weak_frames", "units_told"))
            camera = None
            if self._camera_motion:
                from masa_track.video.camera_motion import CameraMotion

                camera = CameraMotion.of_state({n[7:]: v for n, v in own.items() if n.startswith("camera.")})
            picture = None
            if "thumbnail.grey" in own:
                from masa_track.video.scene_change import Thumbnail

                grey, background = own["thumbnail.grey"], own["thumbnail.background"]
                picture = Thumbnail(np.array(grey, np.float32), np.array(background, bool))
        except (LookupError, ValueError, TypeError, AttributeError) as error:
            raise InputError(f"state must be one of state_dict() of a tracker like this one: {error!r}") from error
        self._associator.load_state_dict(
            {name[11:]: value for name, value in state.items() if name.startswith("associator.")}
        )
        self._frames = _Frames(calls, number, timestamp, without, camera, far, near, picture)
        self.phrases = phrases
        self._best_score, self._weak_frames, self._units_told = best, weak, told
        self._decisions, self._events, self._observation = (), [], None
        self._numbers = deque(((call, number) for call, number in numbers.tolist()), maxlen=MOST_TENTATIVE)
        self._rows = {int(call): rows[rows[:, 0] == call, 1] for call in np.unique(rows[:, 0])}

    def _chosen(self, detections: sv.Detections, labels: np.ndarray) -> np.ndarray:
        """The rows, ascending, of the classes that are tracked.

        Raises:
            InputError: the classes are names, and the detections have none.
        """
        from masa_track.formats.results import NAMES

        if self._classes is None or not len(labels):
            return np.arange(len(labels))
        numbers, words = self._classes
        chosen = np.isin(labels, list(numbers))
        if words:
            names = detections.data.get(NAMES)
            if names is None:
                raise InputError(
                    f"classes has the name {min(words)!r}, but the detections have no data[{NAMES!r}]: "
                    "give class numbers"
                )
            chosen |= [str(name).casefold() in words for name in names]
        return np.flatnonzero(chosen)

    def _in_given_rows(self, events: list[TrackEvent]) -> list[TrackEvent]:
        """Events whose earlier rows are those of the given detections, also where classes were left out."""
        if not self._rows:
            return events

        def given(call: int, row: int) -> tuple[int, int]:
            return call, int(self._rows[call][row]) if call in self._rows else row

        return [replace(event, earlier=tuple(given(*place) for place in event.earlier)) for event in events]

    def _compared(self, seen: Observation, frame: np.ndarray | None) -> Thumbnail | None:
        """The picture's thumbnail; how much its background has changed is put into ``seen``."""
        if frame is None:
            return None
        from masa_track.video.scene_change import scene_change, thumbnail

        before, now = self._frames.thumbnail, thumbnail(frame, seen.boxes)
        if before is not None:
            seen.scene_change = scene_change(before, now)
        return now

    def _embedded(
        self,
        seen: Observation,
        frame: np.ndarray | None,
        features: Features | None,
        embeddings: np.ndarray | None,
        all_rows: bool,
        masks: Sequence[Any] | None,
    ) -> np.ndarray | None:
        """(N, D) embeddings, those given or the model's; NaN in rows that nobody wants. None if none are needed."""
        if embeddings is not None:
            return np.asarray(embeddings)
        count = len(seen.boxes)
        wanted = np.ones(count, bool) if all_rows else self._associator.wanted(seen)
        if "embeddings" not in self._associator.needs and not all_rows:
            return None
        if frame is None:
            raise InputError(
                "frame must be given, got None: embeddings=(N, D), or use_appearance=False, do without a picture"
            )
        rows = np.flatnonzero(wanted)
        under = None if masks is None else [np.asarray(masks[row]) for row in rows.tolist()]
        found = np.asarray(embed_boxes(self.model, frame, seen.boxes[rows], features, under), np.float32)
        check_finite("embeddings", found)
        if len(rows) == count:
            return found
        full = np.full((count, found.shape[1]), np.nan, np.float32)
        full[rows] = found
        return full

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
                self._associator.memory_seconds,
                "memory_seconds" if hasattr(self._associator.options, "memory_seconds") else "memory_frames",
            )
        else:
            LOG.warning(
                "%d frames in a row came less than %g s after the one before: timestamps must be seconds. Are these "
                "minutes, or seconds that were divided by 1000?",
                frames.near,
                _SHORT_GAP,
            )

    def _long_gap(self) -> float:
        return min(self._associator.memory_seconds, _LONG_GAP)

    def _next(self, timestamp: float | None) -> _Frames:
        """What will be kept once the frame of this timestamp has succeeded.

        Raises:
            InputError: for a timestamp that is no number of seconds, or not later than the last frame's.
        """
        last = self._frames
        calls, following = last.calls + 1, last.number + 1
        if timestamp is None:
            return last._replace(calls=calls, number=following, without=last.without + 1, far=0, near=0)
        seconds = _seconds(timestamp)
        if last.timestamp is not None and seconds <= last.timestamp:
            raise InputError(
                f"timestamp must be seconds, later than the last ({last.timestamp}), got {timestamp}: "
                "call reset() before another video"
            )
        if self._counts_frames:
            return last._replace(calls=calls, number=following, timestamp=seconds)
        fps = self._associator.options.fps
        if last.without and last.timestamp is None:
            raise InputError(
                f"timestamp must be given for each frame or for none, got {timestamp} after {last.without} frames "
                "without: call reset() before another video"
            )
        gap = inf if last.timestamp is None else seconds - last.timestamp
        index = seconds * fps
        if last.timestamp is not None and index <= last.number:
            raise InputError(
                f"timestamp must be later than the last frame's, got {timestamp} after {last.number / fps:g}: "
                f"{last.without} frames without a timestamp were counted as 1 / {fps:g} s each since {last.timestamp}"
            )
        counted = last.timestamp is not None and not last.without
        return last._replace(
            calls=calls,
            number=index,
            timestamp=seconds,
            without=0,
            far=last.far + 1 if counted and gap > self._long_gap() else 0,
            near=last.near + 1 if counted and gap < _SHORT_GAP else 0,
        )


class AroundTracker:
    """What a tracker around a :class:`MasaTracker` passes on. Its results come with their frames.

    Attributes:
        tracker: gives the identities.
        model: embeds its boxes.
    """

    look_ahead = 0

    def __init__(self, tracker: MasaTracker) -> None:
        self.tracker, self.model = tracker, tracker.model

    @property
    def options(self) -> Any:
        """Those of the tracker."""
        return self.tracker.options

    @property
    def tracks(self) -> TrackView:
        """The tracks in memory."""
        return self.tracker.tracks

    def gallery(self) -> TrackGallery:
        """As :meth:`MasaTracker.gallery`."""
        return self.tracker.gallery()

    def finish(self) -> list[FrameResult]:
        """Nothing: each result came with its frame."""
        return []


def _checked_classes(classes: Sequence[int | str]) -> tuple[frozenset[int], frozenset[str]]:
    """The numbers and the names, these without case.

    Raises:
        InputError: it is no list, or it is empty, or an entry is neither a number nor a name.
    """
    entries = [] if isinstance(classes, str | bytes) or not hasattr(classes, "__iter__") else list(classes)
    whole = [isinstance(one, int | np.integer) and not isinstance(one, bool) for one in entries]
    if not entries or not all(number or isinstance(one, str) for number, one in zip(whole, entries, strict=True)):
        raise InputError(f"classes must be a list of class numbers or names, e.g. ['person', 2], got {classes!r}")
    words = frozenset(str(one).casefold() for number, one in zip(whole, entries, strict=True) if not number)
    return frozenset(int(one) for number, one in zip(whole, entries, strict=True) if number), words


def embed_boxes(
    model: Embeds,
    frame: np.ndarray,
    boxes: np.ndarray,
    features: Features | None,
    masks: Sequence[np.ndarray] | None = None,
) -> np.ndarray:
    """Embeddings (N, D) of boxes (N, 4), by the features of the frame where they are given, and under N masks.

    Raises:
        InputError: the features are of another model or another size of frame.
    """
    more: dict[str, Any] = {} if masks is None else {"masks": masks}
    if features is None:
        return model.embed(frame, boxes, **more)
    if not hasattr(model, "embed_features"):
        raise InputError(f"features need a model with encode and embed_features, {type(model).__name__} has neither")
    embedder = cast(Embedder, model)
    features.check(embedder.key, frame)
    return embedder.embed_features(features, boxes, **more)


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
