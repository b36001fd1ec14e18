"""What both engines share: an update that is all or nothing, checks of observations, decisions, states as arrays."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple, overload

import numpy as np

from masa_track.association.gallery_file import TrackGallery
from masa_track.checks import as_floats, checked
from masa_track.contracts import MUST_BE_NEW, NO_RUNNER_UP, Decision, Observation, TrackEvent, TrackView
from masa_track.errors import InputError

STATE_VERSION = 2


class Outcome(NamedTuple):
    """The columns of a frame's decisions, one entry per row; see :class:`~masa_track.contracts.Decision`."""

    identities: np.ndarray
    tentative: np.ndarray
    log_odds: np.ndarray
    terms: Mapping[str, np.ndarray]
    runners_up: np.ndarray
    margins: np.ndarray

    def pinned(self, pins: np.ndarray | None) -> Outcome:
        """The same, in place: rows with a pin (N,) had no other choice and need no evidence."""
        if pins is not None:
            self.log_odds[pins != -1], self.margins[pins != -1] = 0.0, np.inf
            self.runners_up[pins != -1] = NO_RUNNER_UP
        return self

    def among(self, order: np.ndarray, count: int) -> Outcome:
        """The columns of ``count`` rows, of which these are the rows ``order`` (N,); the others have no identity."""
        every = no_decisions(count, self.terms)
        for name in ("identities", "tentative", "log_odds", "runners_up", "margins"):
            getattr(every, name)[order] = getattr(self, name)
        for name, values in self.terms.items():
            every.terms[name][order] = values
        return every


def no_decisions(count: int, terms: Iterable[str]) -> Outcome:
    """The columns of N decisions for no identity; ``terms`` are the names of theirs."""
    return Outcome(
        np.full(count, -1),
        np.zeros(count, bool),
        np.zeros(count),
        {name: np.full(count, np.nan) for name in terms},
        np.full(count, NO_RUNNER_UP),
        np.full(count, np.inf),
    )


class Decisions(Sequence[Decision]):
    """A frame's decisions, computed when the first one is read.

    Args:
        count: N.
        compute: gives their columns.
    """

    def __init__(self, count: int, compute: Callable[[], Outcome]) -> None:
        self._count, self._compute = count, compute
        self._outcome: Outcome | None = None

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(self._count))]
        row = range(self._count)[row]
        of = self.columns()
        terms = {name: float(values[row]) for name, values in of.terms.items() if not np.isnan(values[row])}
        return Decision(
            row,
            int(of.identities[row]),
            bool(of.tentative[row]),
            float(of.log_odds[row]),
            terms,
            int(of.runners_up[row]),
            float(of.margins[row]),
        )

    def columns(self) -> Outcome:
        """All decisions at once, as columns."""
        if self._outcome is None:
            self._outcome = self._compute()
        return self._outcome

    def among(self, rows: np.ndarray, count: int) -> Decisions:
        """The decisions of ``count`` rows, of which these are ``rows`` (N,); the others have no identity."""
        return Decisions(count, lambda: self.columns().among(rows, count))


class Engine(ABC):
    """An associator, see :class:`masa_track.contracts.Associator`.

    An update works on a copy of the state, which replaces the state in one assignment at its end: whatever is raised
    before that, KeyboardInterrupt included, the state is that of the frame before.

    A subclass has ``options`` and ``_state``, whose ``copy()`` gives a state that can be changed, and whose
    ``last_time`` and ``last_number`` are those of the last observation (None before the first).
    """

    options: Any
    _state: Any

    @property
    @abstractmethod
    def needs(self) -> frozenset[str]:
        """Which of ``motion``, ``embeddings`` and ``masks`` it uses."""

    @property
    @abstractmethod
    def memory_seconds(self) -> float:
        """For how long a track is remembered after it was last seen."""

    @abstractmethod
    def reset(self) -> None:
        """Forgets everything: the next frame is the first of a new video."""

    @abstractmethod
    def wanted(self, observation: Observation) -> np.ndarray:
        """(N,) bool, rows whose embedding can change the outcome, of this frame or a later one. Changes nothing."""

    @abstractmethod
    def view(self) -> TrackView:
        """The tracks in memory."""

    @abstractmethod
    def _step(self, state: Any, seen: Observation) -> tuple[np.ndarray, Sequence[Decision], list[TrackEvent]]:
        """Identities, decisions and events of a checked observation; changes ``state``."""

    @abstractmethod
    def _dimension(self) -> int | None:
        """D of the embeddings so far; None before the first."""

    @abstractmethod
    def _rename(self, state: Any, old: int, new: int) -> None:
        """Renames a track of ``state``; ``new`` is no track in memory."""

    @abstractmethod
    def _state_arrays(self) -> dict[str, Any]:
        """What :meth:`state_dict` holds beside the options; None for what is not there."""

    @abstractmethod
    def _state_of(self, arrays: Mapping[str, np.ndarray]) -> Any:
        """The state of such arrays; raises LookupError, ValueError or TypeError where they do not fit."""

    @property
    def last_frame(self) -> float | None:
        """The number of the last frame that was tracked; None before the first."""
        return None if self._state.last_number is None else float(self._state.last_number)

    @overload
    def update(self, observation: Observation) -> tuple[np.ndarray, Sequence[Decision], list[TrackEvent]]: ...

    @overload
    def update(
        self,
        observation: np.ndarray,
        scores: np.ndarray,
        labels: np.ndarray,
        embeddings: np.ndarray,
        frame_index: float,
        size: tuple[int, int] | None = None,
        camera: np.ndarray | None = None,
    ) -> np.ndarray: ...

    def update(
        self,
        observation: Any = None,
        scores: Any = None,
        labels: Any = None,
        embeddings: Any = None,
        frame_index: Any = None,
        size: tuple[int, int] | None = None,
        camera: np.ndarray | None = None,
        *,
        boxes: Any = None,
    ) -> Any:
        """Gives the detections of one frame their identities. All or nothing.

        Args:
            observation: what is known of the frame; or, as a short form, its boxes (N, 4) xyxy pixels, with
            scores: (N,) detection scores, 0..1,
            labels: (N,) whole numbers,
            embeddings: (N, D), not normalised, and
            frame_index: the frame's number, in frames of 1 / ``fps`` s; larger than the one before.
            size: width and height of the picture in pixels, in the short form.
            camera: (2, 3) affine, pixels of the last frame to pixels of this one, in the short form.

        Returns:
            Identities (N,) int64 in the order of the boxes, -1 for none; a decision for each row; what happened to
            tracks. In the short form the identities alone.

        Raises:
            InputError: for shapes that do not fit, numbers that are not finite, a frame that does not come later.
        """
        if isinstance(observation, Observation):
            seen = check_observation(observation, self._dimension(), "embeddings" in self.needs)
            self._check_later(seen)
            return self._commit(seen)
        boxes, scores, labels, embeddings = checked(
            observation if boxes is None else boxes, scores, labels, embeddings, self._dimension()
        )
        last = self._state.last_number
        if not np.isfinite(frame_index) or (last is not None and frame_index <= last):
            raise InputError(
                f"frame_index must grow from call to call, got {frame_index} after {last}: "
                "call reset() before another video"
            )
        _check_camera(camera)
        if not len(boxes):
            embeddings = None
        time = float(frame_index) / self.options.fps
        return self._commit(Observation(frame_index, time, size, boxes, scores, labels, embeddings, camera=camera))[0]

    def rename(self, old: int, new: int) -> None:
        """Track ``old`` has identity ``new`` from now on.

        Raises:
            InputError: there is no track ``old``, or ``new`` is negative or another track in memory.
        """
        ids = self.view().ids
        if old < 0 or old not in ids:
            raise InputError(f"old must be a track in memory, got {old}")
        if new < 0 or (new != old and new in ids):
            raise InputError(f"new must be an identity that no track in memory has, got {new}")
        if new != old:
            state = self._state.copy()
            self._rename(state, old, new)
            state.next_id = max(state.next_id, new + 1)
            self._state = state

    def reserve(self, identity: int) -> None:
        """No new track gets an identity up to this one."""
        state = self._state.copy()
        state.next_id = max(state.next_id, identity + 1)
        self._state = state

    def state_dict(self) -> dict[str, np.ndarray]:
        """The state as arrays of numbers and text; they can be saved by ``np.savez`` and read without unpickling."""
        arrays = {**self._header(), **self._state_arrays()}
        return {name: np.asarray(value) for name, value in arrays.items() if value is not None}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Restores a state of :meth:`state_dict`.

        Raises:
            InputError: the state is of another engine, version or of other options, or it is damaged. The engine is as
                it was then.
        """
        for name, own in self._header().items():
            if name not in state:
                raise InputError(f"state must be one of state_dict(), but it has no {name!r}")
            given = state[name].item()
            if given != own:
                raise InputError(f"state must be of the same {name}: {_difference(own, given)}")
        try:
            self._state = self._state_of(state)
        except (LookupError, ValueError, TypeError) as error:
            raise InputError(f"state is damaged: {error}") from error

    def class_of(self, identity: int) -> int | None:
        """The class that most of a remembered track's detections had, weighted by score; None if it is forgotten.

        Raises:
            InputError: the preset has no votes.
        """
        raise InputError("class_of needs a preset whose tracks vote on their class: take 'default'")

    def filtered_boxes(self, boxes: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """Boxes (N, 4) of the last frame with identities (N,), filtered; as given by a preset without a filter."""
        return np.array(boxes, np.float32)

    def gallery(self) -> TrackGallery:
        """The embeddings of the remembered tracks that have an identity.

        Raises:
            InputError: the preset keeps no gallery.
        """
        raise InputError("gallery needs a preset that keeps one: take 'default'")

    def _check_later(self, seen: Observation) -> None:
        last = self._state.last_time
        if last is not None and seen.time <= last:
            raise InputError(
                f"time must be later than that of the observation before, got {seen.time} after {last}: "
                "call reset() before another video"
            )

    def _commit(self, seen: Observation) -> tuple[np.ndarray, Sequence[Decision], list[TrackEvent]]:
        state = self._state.copy()
        result = self._step(state, seen)
        state.last_number, state.last_time = seen.number, seen.time
        self._state = state  # the only place where anything changes
        return result

    def _header(self) -> dict[str, Any]:
        options = json.dumps(asdict(self.options), sort_keys=True)
        return {"engine": type(self).__name__, "version": STATE_VERSION, "options": options}


def check_observation(given: Observation, dimension: int | None, needs_embeddings: bool) -> Observation:
    """The observation with arrays of the types that it promises.

    Args:
        given: the observation.
        dimension: D of the embeddings before; None if there were none.
        needs_embeddings: whether they must be there.

    Raises:
        InputError: names the field, the rule and the value.
    """
    boxes = as_floats("boxes", given.boxes)
    if boxes.size == 0:
        boxes = boxes.reshape(0, 4)
    count = len(boxes) if boxes.ndim else 0
    embeddings = given.embeddings
    if count == 0:
        embeddings = None
    elif embeddings is None and needs_embeddings:
        raise InputError(f"embeddings must be ({count}, D), one for each of the boxes, got none")
    blank = np.zeros((count, dimension or 1), np.float32)
    if embeddings is not None:
        embeddings = as_floats("embeddings", embeddings)
        missing = np.isnan(embeddings).all(axis=1) if embeddings.ndim == 2 else np.zeros(0, bool)
        filled = np.where(missing[:, None], np.float32(0), embeddings) if missing.any() else embeddings
        boxes, scores, labels, filled = checked(boxes, given.scores, given.labels, filled, dimension)
    else:
        boxes, scores, labels, _ = checked(boxes, given.scores, given.labels, blank, None)
    if not np.isfinite(given.time):
        raise InputError(f"time must be finite seconds, got {given.time}")
    _check_camera(given.camera)
    for name, pairs in (
        ("hints", given.hints),
        ("mask_overlaps", given.mask_overlaps),
        ("forbidden", given.forbidden),
    ):
        for pair in pairs:
            if not 0 <= pair[0] < count:
                raise InputError(f"{name} must name rows 0..{count - 1}, got row {pair[0]}")
    return replace(
        given,
        boxes=boxes,
        scores=scores,
        labels=labels,
        embeddings=embeddings,
        may_start=_column("may_start", given.may_start, count, bool),
        groups=_column("groups", given.groups, count, np.int64),
        pins=_checked_pins(given.pins, count),
    )


def _column(name: str, values: Any, count: int, kind: Any) -> np.ndarray | None:
    if values is None:
        return None
    array = np.asarray(values)
    if array.shape != (count,) or array.dtype.kind not in "iub":
        wanted = f"({count},) {np.dtype(kind).name}, one for each of the boxes"
        raise InputError(f"{name} must be {wanted}, got {array.shape} {array.dtype}")
    return array.astype(kind)


def _checked_pins(pins: Any, count: int) -> np.ndarray | None:
    pins = _column("pins", pins, count, np.int64)
    if pins is None or not (pins != -1).any():
        return None
    if pins.min() < MUST_BE_NEW:
        raise InputError(f"pins must be -2, -1 or an identity, got {pins.min()}")
    fixed = pins[pins >= 0]
    if len(np.unique(fixed)) < len(fixed):
        raise InputError(f"pins must give an identity to one row only, got {sorted(fixed.tolist())}")
    return pins


def _check_camera(camera: Any) -> None:
    if camera is not None and (np.shape(camera) != (2, 3) or not np.isfinite(camera).all()):
        raise InputError(f"camera must be a finite (2, 3) affine, got {camera!r}")


def _difference(own: Any, given: Any) -> str:
    """What differs between two headers, options by name."""
    if not (isinstance(own, str) and own.startswith("{")):
        return f"expected {own}, got {given}"
    try:
        mine, other = json.loads(own), json.loads(given)
        names = [name for name in {**mine, **other} if mine.get(name) != other.get(name)]
        return ", ".join(f"{name} is {mine.get(name)!r}, in the state {other.get(name)!r}" for name in names)
    except (ValueError, AttributeError):
        return f"expected {own}, got {given}"


def ids_with_pins(pins: np.ndarray | None, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows that are pinned to a track in memory, and those tracks' rows.

    Args:
        pins: (N,) of the observation, or None.
        ids: (M,) identities in memory.
    """
    if pins is None:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    rows = np.flatnonzero(pins >= 0)
    order = np.argsort(ids, kind="stable")
    place = np.minimum(np.searchsorted(ids[order], pins[rows]), max(len(ids) - 1, 0))
    there = ids[order][place] == pins[rows] if len(ids) else np.zeros(len(rows), bool)
    return rows[there], order[place[there]] if len(ids) else np.zeros(0, np.int64)
