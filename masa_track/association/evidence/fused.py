"""Association by motion and appearance: a sum of log-odds, each term weighted by its reliability at that moment."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, NamedTuple, cast

import numpy as np

from masa_track.association.engine import Decisions, Engine, Outcome, ids_with_pins
from masa_track.association.evidence import kalman
from masa_track.association.evidence.appearance import (
    AppearancePrior,
    FittedEvidence,
    LearnedEvidence,
    Observed,
    appearance_evidence,
)
from masa_track.association.evidence.cuts import least_log_odds_of_one_view, log_odds_of_one_view, rearranged
from masa_track.association.evidence.detection_probability import SAME_TIME, DetectionProbability
from masa_track.association.evidence.memory import FusedMemory
from masa_track.association.evidence.motion import entering, motion_log_odds
from masa_track.association.evidence.options import FusedOptions
from masa_track.association.gallery import unit
from masa_track.association.gallery_file import TrackGallery
from masa_track.association.matching import most_evidence
from masa_track.association.presets import fused_options_of
from masa_track.boxes import coverage, hidden_by_better
from masa_track.contracts import MUST_BE_NEW, NEW_IDENTITY, NO_RUNNER_UP, Decision, Observation, TrackEvent, TrackView

_NEVER = 2.0  # an IoU that no two boxes have
_IMPOSSIBLE = -1e9
_SURE = 3.0  # log-odds by which motion alone must prefer a pair to teach what appearance looks like
_CROWD = 10.0  # so many missing tracks make each of them half as likely: one of many is alike by chance
COMMON_TRUST = 40.0  # things that must be seen before half of their mean embedding is taken away
_SUREST = 0.98  # no score speaks for more, or for less than 1 - .98
_UNCLEAR = (0.5, 0.3)  # coverage from which appearance counts for less, and its least weight
_RECENT_SECONDS = 1.0  # tracks missing for longer are compared only with detections that no recent track explains
_TIME_TOLERANCE = 1e-3  # seconds; 5 frames of 1/25 s are .2 s whatever their floating-point difference
_SAME_ASPECT = 0.05  # relative difference of aspect ratios up to which another picture size is a mere scaling


@dataclass
class _State:
    """All that changes from frame to frame. An update works on a copy, which replaces the state when it is complete.

    Attributes:
        memory: the tracks; None before the first detection.
        appearance: what cosines mean in this video.
        detection_probability: how often tracks are detected.
        next_id: the next identity.
        last_number: number of the last frame; None before the first.
        last_time: its time in seconds; None before the first.
        size: (width, height) of the last picture, where it was given.
        extent: (4,) xyxy, the part of the picture where detections have been, at least.
        cuts: number of cuts so far.
        cut_at: time of the last one, seconds.
        looks_sum: (D,) sum of the first embeddings of all tracks, and
        looks_count: their number.
    """

    appearance: FittedEvidence | LearnedEvidence
    next_id: int
    detection_probability: DetectionProbability = field(default_factory=DetectionProbability)
    memory: FusedMemory | None = None
    last_number: float | None = None
    last_time: float | None = None
    size: tuple[int, int] | None = None
    extent: np.ndarray = field(default_factory=lambda: np.array([np.inf, np.inf, -np.inf, -np.inf]))
    cuts: int = 0
    cut_at: float = -np.inf
    looks_sum: np.ndarray | None = None
    looks_count: int = 0

    def copy(self) -> _State:
        """A state whose changes leave this one as it is."""
        memory = None if self.memory is None else self.memory.copy()
        return replace(
            self,
            memory=memory,
            detection_probability=copy(self.detection_probability),
            extent=self.extent.copy(),
        )


class _Seen(NamedTuple):
    """The visible detections of a frame, sorted by falling score.

    Attributes:
        boxes, scores, labels: (N, 4), (N,), (N,).
        embeddings: (N, D) of length 1; zeros where there is none.
        embedded: (N,) bool, which have an embedding.
        classes: (N,) the group of each class, whose detections take the group's tracks only; None: any may take any.
        groups: (N,) of the observation; 0 where it has none.
        covered: (N,) the largest part of each box that another one covers, 0..1.
        may_start: (N,) bool.
        pins: (N,) of the observation; None where nothing is pinned.
        fixed: (M,) bool, tracks that are pinned to a row; None where nothing is pinned.
        hints, forbidden: of the observation, with positions among the N instead of rows.
        now: seconds.
        passed: seconds since the frame before.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    embeddings: np.ndarray
    embedded: np.ndarray
    classes: np.ndarray | None
    groups: np.ndarray
    covered: np.ndarray
    may_start: np.ndarray
    pins: np.ndarray | None
    fixed: np.ndarray | None
    hints: tuple[tuple[int, int, float], ...]
    forbidden: tuple[tuple[int, int], ...]
    now: float
    passed: float


class _Pairs(NamedTuple):
    """Log-odds of N detections and T of the tracks.

    Attributes:
        columns: (T,) the tracks' rows in the memory.
        place: (N, T) by motion alone.
        odds: (N, T) the sum of all terms.
        appearance_only: (N, T) the sum without place, as across a cut; zeros where appearance is not used.
        appearance: (N, T) the term of appearance in ``odds``; zeros where it is not used.
        cosines: (N, T); zeros where appearance is not used.
    """

    columns: np.ndarray
    place: np.ndarray
    odds: np.ndarray
    appearance_only: np.ndarray
    appearance: np.ndarray
    cosines: np.ndarray

    def joined(self, other: _Pairs) -> _Pairs:
        """The pairs of both, tracks in the memory's order."""
        columns = np.concatenate((self.columns, other.columns))
        order = np.argsort(columns)
        both = (np.concatenate(arrays, axis=1)[:, order] for arrays in zip(self[1:], other[1:], strict=True))
        return _Pairs(columns[order], *both)


class _Match(NamedTuple):
    """Which tracks the N visible detections take.

    ``taken`` (N,) are rows of the memory, -1 for none; ``cut`` is whether there was one. ``pairs`` are what it was
    chosen from (None without tracks), and ``columns`` (N,) those of ``taken`` there, -1 also for pinned rows.
    ``missing`` (M,) are the seconds in which each track should have been seen, and was not.
    """

    taken: np.ndarray
    cut: bool
    pairs: _Pairs | None
    columns: np.ndarray
    missing: np.ndarray


class FusedAssociator(Engine):
    """Links detections over frames by motion and appearance. Needs numpy and scipy only.

    For each pair of detection and track, log-odds of being the same object are added up: of place and size (a Kalman
    filter in seconds, :mod:`kalman`), of appearance (a gallery of several embeddings, :mod:`gallery`, against the
    distribution of cosines in this video, :mod:`appearance`), and of how long the track has been missing. Motion is
    exact after a short gap and says little after a long one, by its own variance; appearance says little where all
    objects look alike. The assignment with the largest sum is taken. If a frame is better explained by the same objects
    in other places, or by other objects altogether, it is a cut: then appearance alone decides.

    An update is all or nothing: whatever is raised inside it, KeyboardInterrupt included, the state is that of the
    frame before. Identities are numbered when tracks are confirmed, from ``first_id`` in every instance; instances
    share nothing.

    Args:
        preset: ``default``.
        prior: the cosines to expect of the model's embeddings; None to learn them from each video alone.
        **overrides: options of :class:`~masa_track.association.evidence.options.FusedOptions` to change.

    Raises:
        InputError: for an unknown preset or option, or a value that cannot be.
    """

    def __init__(self, preset: str = "default", prior: AppearancePrior | None = None, **overrides: Any) -> None:
        self.options = options = fused_options_of(preset, **overrides)
        self._prior = prior
        self._high = min(options.high_score_threshold, options.track_activation_threshold)
        usual, own = _log_odds(np.array([FusedOptions.track_activation_threshold, options.track_activation_threshold]))
        self._moved = float(usual - own)
        self._noise = kalman.MotionNoise(
            speed=options.motion_speed,
            persistence=options.motion_persistence,
            position=options.position_noise,
            extent=options.extent_noise,
        )
        self.reset()

    def reset(self) -> None:
        """Forgets everything: the next frame is the first of a new video."""
        appearance = appearance_evidence(self._prior, self.options.most_appearance_odds)
        self._state = _State(appearance, self.options.first_id)

    @property
    def memory(self) -> FusedMemory | None:
        """The tracks that can still be matched; None before the first detection."""
        return self._state.memory

    @property
    def cuts(self) -> int:
        """How many cuts there were so far."""
        return self._state.cuts

    @property
    def needs(self) -> frozenset[str]:
        """``motion``, and ``embeddings`` unless ``use_appearance`` is False."""
        return frozenset({"motion", "embeddings"} if self.options.use_appearance else {"motion"})

    @property
    def memory_seconds(self) -> float:
        """For how long a track is remembered after it was last seen."""
        return self.options.memory_seconds

    def wanted(self, observation: Observation) -> np.ndarray:
        """(N,) bool, rows whose embedding can change the outcome, of this frame or a later one. Changes nothing.

        The others are hidden by better ones, score too little, or are weak and covered: weak rows take tracks by motion
        alone, and covered rows add no view to a gallery.
        """
        wanted = np.zeros(len(observation.boxes), bool)
        if self.options.use_appearance and len(wanted):
            order = self._order(observation)
            boxes, scores = observation.boxes[order], observation.scores[order]
            wanted[order] = (scores > self._high) | (coverage(boxes) < self.options.clean_overlap)
        return wanted

    def view(self) -> TrackView:
        """The tracks in memory, tentative ones too; boxes are where motion expects the tracks now."""
        memory, last = self.memory, self._state.last_time
        if memory is None or last is None:
            memory, last = FusedMemory(1, 0), 0.0
        return TrackView(
            memory.ids,
            kalman.to_boxes(memory.states).astype(np.float32),
            memory.seen,
            memory.classes,
            memory.groups,
            memory.confirmation == np.inf,
            memory.seen < last,
        )

    def class_of(self, identity: int) -> int | None:
        """The class that most of a remembered track's detections had, weighed by score; None if it is forgotten."""
        return None if self.memory is None else self.memory.class_of(identity)

    def gallery(self) -> TrackGallery:
        """The embeddings of the remembered tracks that have an identity and an embedding."""
        memory = self.memory
        if memory is None:
            none = np.zeros(0, np.int64)
            return TrackGallery(none, none, none, np.zeros((0, 1, 1), np.float32))
        own = (memory.confirmation == np.inf) & (memory.gallery.counts > 0)
        return TrackGallery(
            memory.ids[own], memory.classes[own], memory.gallery.counts[own], memory.gallery.vectors[own]
        )

    def _dimension(self) -> int | None:
        return None if self.memory is None else self.memory.gallery.dimension or None

    def _step(self, state: _State, seen: Observation) -> tuple[np.ndarray, Sequence[Decision], list[TrackEvent]]:
        passed = np.inf if state.last_time is None else seen.time - state.last_time
        events: list[TrackEvent] = []
        self._move_on(state, seen, passed, events)
        ids, count = np.full(len(seen.boxes), -1), len(seen.boxes)
        dimension = 0 if seen.embeddings is None else seen.embeddings.shape[1]
        if count:
            _widen(state.extent, seen.boxes, seen.size)
            if state.memory is None or (len(state.memory) == 0 and state.memory.gallery.dimension != dimension):
                state.memory = FusedMemory(self.options.views, dimension)
                state.looks_sum = np.zeros(dimension)
        if state.memory is None:
            return ids, [], events
        order = self._order(seen)
        visible = self._visible(state.memory, seen, order, passed)
        ids[order], outcome = self._link(state, visible, seen, events)

        def compute() -> Outcome:
            every, own = _none(count), outcome()
            for name in ("identities", "tentative", "log_odds", "runners_up", "margins"):
                getattr(every, name)[order] = getattr(own, name)
            for name, values in own.terms.items():
                every.terms[name][order] = values
            return every

        return ids, Decisions(count, compute), events

    def _move_on(self, state: _State, seen: Observation, passed: float, events: list[TrackEvent]) -> None:
        """Brings the tracks to the time and the view of this frame."""
        memory = state.memory
        if memory is not None:
            oldest = seen.time - self.options.memory_seconds
            ended = memory.ids[(memory.seen < oldest) & (memory.ids >= 0)]
            events += [TrackEvent("ended", identity, seen.number, seen.time) for identity in ended.tolist()]
            memory.move_on(oldest, passed, self._noise)
            if seen.camera is None and seen.size is not None and state.size is not None and seen.size != state.size:
                factors = np.array(seen.size) / np.array(state.size)
                if abs(factors[0] / factors[1] - 1) <= _SAME_ASPECT:
                    memory.scale(factors)
            memory.apply_camera(seen.camera, state.extent if seen.size is None else np.array([0.0, 0.0, *seen.size]))
            if seen.groups_in_view is not None:
                memory.out_of_view |= ~np.isin(memory.groups, list(seen.groups_in_view))
            if not seen.detector_ran:
                memory.out_of_view[:] = True
            memory.out_of_view_seconds = memory.out_of_view_seconds + np.where(memory.out_of_view, passed, 0)
        state.size = seen.size or state.size

    def _groups(self, labels: np.ndarray) -> np.ndarray | None:
        """(N,) the group of each class, whose detections take the group's tracks only; None: any may take any."""
        options = self.options
        if options.class_groups is None:
            return labels if options.class_aware else None
        groups = np.where(labels >= 0, labels + len(options.class_groups), labels)
        for number, classes in enumerate(options.class_groups):
            groups[np.isin(labels, classes)] = number
        return groups

    def _order(self, seen: Observation) -> np.ndarray:
        """The rows that count, by falling score: those that score enough and that no better one hides; pinned ones."""
        options = self.options
        order = np.argsort(-seen.scores, kind="stable")
        scores, classes = seen.scores[order], self._groups(seen.labels[order])
        if seen.groups is not None:
            groups = seen.groups[order]
            classes = groups if classes is None else np.unique((classes, groups), axis=1, return_inverse=True)[1]
            classes = classes.reshape(len(order))
        limits = np.where(scores < self._high, options.distractor_iou_threshold, _NEVER)
        visible = ~hidden_by_better(seen.boxes[order], limits, classes) & (scores > options.object_score_threshold)
        if seen.pins is not None:
            visible |= seen.pins[order] != -1
        return order[visible]

    def _visible(self, memory: FusedMemory, seen: Observation, order: np.ndarray, passed: float) -> _Seen:
        """The detections ``order`` (N,) of the observation."""
        count, boxes = len(order), seen.boxes[order]
        embedded = np.zeros(count, bool)
        embeddings = np.zeros((count, memory.gallery.dimension), np.float32)
        if seen.embeddings is not None:
            given = seen.embeddings[order]
            embedded = ~np.isnan(given[:, :1]).any(axis=1)
            embeddings = unit(given if embedded.all() else np.where(embedded[:, None], given, np.float32(0)))
        position = {row: place for place, row in enumerate(order.tolist())} if seen.hints or seen.forbidden else {}
        pins, fixed = None, None
        if seen.pins is not None:
            pins, fixed = seen.pins[order], np.zeros(len(memory), bool)
            fixed[ids_with_pins(pins, memory.ids)[1]] = True
        return _Seen(
            boxes,
            seen.scores[order],
            seen.labels[order],
            embeddings,
            embedded,
            self._groups(seen.labels[order]),
            np.zeros(count, np.int64) if seen.groups is None else seen.groups[order],
            coverage(boxes),
            np.ones(count, bool) if seen.may_start is None else seen.may_start[order],
            pins,
            fixed,
            tuple((position[row], identity, odds) for row, identity, odds in seen.hints if row in position),
            tuple((position[row], identity) for row, identity in seen.forbidden if row in position),
            seen.time,
            passed,
        )

    def _link(
        self, state: _State, seen: _Seen, observation: Observation, events: list[TrackEvent]
    ) -> tuple[np.ndarray, Callable[[], Outcome]]:
        """Identities (N,) of a frame's visible detections; the tracks are renewed, and new ones begin."""
        options, memory, now = self.options, state.memory, seen.now
        assert memory is not None

        def tell(kind: Any, identities: np.ndarray) -> None:
            number, time = observation.number, observation.time
            events.extend(TrackEvent(kind, identity, number, time) for identity in identities.tolist())

        match = self._match(state, seen)
        if match.cut:
            tell("cut", np.array([-1]))
        matched = np.flatnonzero(match.taken >= 0)
        rows, scores = match.taken[matched], seen.scores[matched]
        short_gap = seen.passed <= options.confirm_seconds + _TIME_TOLERANCE
        unconfirmed = short_gap & (memory.confirmation < np.inf) & ~memory.out_of_view
        unconfirmed[rows] = False
        known = memory.ids >= 0
        missed = known & (memory.seen >= now - seen.passed - SAME_TIME)  # seen in the frame before
        found = known & ~missed
        missed[rows] = False
        tell("lost", memory.ids[missed])
        tell("found", memory.ids[rows[found[rows]]])
        fixed = np.zeros(len(rows), bool) if seen.pins is None else seen.pins[matched] >= 0
        for anew in (False, True):
            these = fixed | match.cut if anew else ~(fixed | match.cut)
            memory.correct(rows[these], seen.boxes[matched[these]], now, self._noise, anew)
        clean = (seen.covered[matched] < options.clean_overlap) & seen.embedded[matched]
        memory.add_appearance(rows[clean], seen.embeddings[matched[clean]], now, options.view_seconds)
        memory.add_class_votes(rows, seen.labels[matched], scores)
        confirmation = np.where(seen.may_start[matched], self._confirmation(scores), 0.0)
        first_id = state.next_id
        state.next_id = memory.add_confirmation(rows, confirmation, options.confirm_odds, state.next_id)
        ids = np.full(len(match.taken), -1)
        ids[matched] = memory.ids[rows]
        track_ids = memory.ids
        memory.keep(~unconfirmed)  # seen a few times, and not in the very next frame: the detector's mistake

        new, forced = self._newborn(seen, match.taken)
        sure = (seen.scores[new] >= options.sure_score) | (not short_gap) | forced
        confirmation = np.where(sure, np.inf, self._confirmation(seen.scores[new]))
        born = np.full(len(new), -1)
        if seen.pins is not None:
            born = np.maximum(seen.pins[new], -1)
            state.next_id = max(state.next_id, int(born.max(initial=-1)) + 1)
        count = int((sure & (born < 0)).sum())
        born[sure & (born < 0)] = np.arange(state.next_id, state.next_id + count)
        tell("born", np.concatenate((np.arange(first_id, first_id + (memory.ids >= first_id).sum()), born[sure])))
        state.next_id += count
        embedded = seen.embedded[new]
        memory.add(
            born,
            seen.boxes[new],
            seen.embeddings[new],
            seen.labels[new],
            seen.scores[new],
            confirmation,
            seen.groups[new],
            embedded,
            now,
            self._noise,
        )
        ids[new] = born
        if options.use_appearance:
            clear = new[sure & embedded & (seen.covered[new] < options.clean_overlap)]
            first = unit(seen.embeddings[clear] - _common_appearance(state))
            state.appearance = state.appearance.began(first @ first.T)
        state.looks_sum = state.looks_sum + seen.embeddings[new].sum(axis=0, dtype=np.float64)
        state.looks_count += int(embedded.sum())
        tentative = np.zeros(len(ids), bool)
        tentative[matched], tentative[new] = ids[matched] < 0, ids[new] < 0
        return ids, lambda: self._outcome(seen, match, ids, tentative, track_ids)

    def _outcome(
        self, seen: _Seen, match: _Match, ids: np.ndarray, tentative: np.ndarray, track_ids: np.ndarray
    ) -> Outcome:
        """The columns of the decisions of N visible detections.

        Args:
            seen: the detections.
            match: what they took.
            ids: (N,) their identities.
            tentative: (N,) bool.
            track_ids: (M,) identities of the tracks that they could take.
        """
        options, count = self.options, len(ids)
        outcome = _none(count)
        outcome.identities[:], outcome.tentative[:] = ids, tentative
        pairs = match.pairs
        if pairs is None or not len(pairs.columns) or not count:
            return outcome
        used = pairs.appearance_only if match.cut else pairs.odds
        own = match.columns >= 0
        rows, columns = np.flatnonzero(own), match.columns[own]
        free = np.ones(len(pairs.columns), bool)
        free[columns] = False
        others = np.where(free, used, -np.inf)
        best = others.argmax(axis=1)
        second, third = others[np.arange(count), best], np.full(count, options.match_odds)
        chosen = np.where(own, used[np.arange(count), match.columns], third)
        rival = np.where(own, np.maximum(second, third), second)
        outcome.log_odds[:] = np.where(own, chosen, 0.0)
        outcome.margins[:] = np.where(np.isfinite(rival) & (rival > _IMPOSSIBLE / 2), chosen - rival, np.inf)
        runners = np.where(own & (third >= second), NEW_IDENTITY, track_ids[pairs.columns[best]])
        outcome.runners_up[:] = np.where(np.isfinite(outcome.margins), runners, NO_RUNNER_UP)
        appearance = pairs.appearance_only[rows, columns] if match.cut else pairs.appearance[rows, columns]
        motion = np.zeros(len(rows))
        if not match.cut:
            missing = match.missing[pairs.columns[columns]]
            motion = np.logaddexp(pairs.place[rows, columns], options.jump_odds)
            motion *= np.where(motion > 0, np.exp(-missing / options.motion_memory_seconds), 1)
        hints = np.zeros(len(rows))
        for position, identity, odds in seen.hints:
            hints += np.where((rows == position) & (track_ids[pairs.columns[columns]] == identity), odds, 0)
        terms = {"motion": motion, "appearance": appearance, "hint": hints}
        terms["absence"] = used[rows, columns] - sum(terms.values())
        for name, values in terms.items():
            outcome.terms[name][rows] = values
        if seen.pins is not None:
            pinned = seen.pins != -1
            outcome.log_odds[pinned], outcome.margins[pinned] = 0.0, np.inf
            outcome.runners_up[pinned] = NO_RUNNER_UP
        return outcome

    def _match(self, state: _State, seen: _Seen) -> _Match:
        """Which track each detection takes, and whether there was a cut."""
        options, memory = self.options, state.memory
        assert memory is not None
        taken, cut = np.full(len(seen.boxes), -1), False
        if len(memory) == 0:
            return _Match(taken, cut, None, taken, np.zeros(0))
        missing = _missing(memory, seen)
        strong = np.flatnonzero(seen.scores > self._high)
        pairs = self._considered(state, seen, missing, strong)
        taken[strong], worth = most_evidence(pairs.odds[strong], options.match_odds)
        if options.use_appearance:
            by_appearance, appearance_worth = most_evidence(pairs.appearance_only[strong], options.cut_match_odds)
            cut = appearance_worth + options.cut_odds > worth and rearranged(
                pairs.appearance_only[strong, by_appearance][by_appearance >= 0], options.match_odds
            )
            if cut:
                taken[strong] = by_appearance
        if not cut:
            worth += self._match_weak(taken, pairs, strong, (seen.now - memory.seen)[pairs.columns])
            seen_again = np.zeros(len(memory), bool)
            seen_again[pairs.columns[taken[taken >= 0]]] = True
            if seen.fixed is not None:
                seen_again |= seen.fixed
            left = (missing <= SAME_TIME) & (memory.confirmation == np.inf) & ~seen_again & ~memory.out_of_view
            free = taken < 0 if seen.pins is None else (taken < 0) & (seen.pins == -1)
            redetection_probability, arrived = (
                state.detection_probability.redetection_probability(),
                int(free[strong].sum()),
            )
            cut = options.use_appearance and (
                log_odds_of_one_view(worth, int(left.sum()), redetection_probability, arrived) < options.cut_odds
            )
            if cut:
                taken[:] = -1
                others = pairs.appearance_only[strong] - np.log1p(len(memory) / _CROWD)
                taken[strong], _ = most_evidence(others, -options.cut_match_odds)
        if cut:
            state.cuts += 1
            state.cut_at = seen.now
        else:
            observable = seen_again | ~memory.out_of_view
            if observable.any():
                state.detection_probability.learn(missing[observable], seen_again[observable])
            if options.use_appearance:
                self._learn(state, seen, pairs, taken)
        rows = np.where(taken >= 0, pairs.columns[taken] if len(pairs.columns) else -1, -1)
        pinned, tracks = ids_with_pins(seen.pins, memory.ids)
        rows[pinned] = tracks
        return _Match(rows, cut, pairs, taken, missing)

    def _considered(self, state: _State, seen: _Seen, missing: np.ndarray, strong: np.ndarray) -> _Pairs:
        """The pairs of all detections with all tracks that can matter for the assignment.

        These are the tracks seen lately, and of the others those that a detection could take which has no better
        track among the recent ones. The assignment is that of all pairs: a detection is left out only if its recent
        track is worth more than any older one can be, and nobody without a track wants that one.

        Args:
            state: the state.
            seen: the detections.
            missing: (M,) seconds in which each track should have been seen, and was not.
            strong: (S,) detections that choose first.
        """
        options = self.options
        recent = missing <= max(_RECENT_SECONDS, options.second_gap_seconds)
        pairs = self._pairs(state, seen, missing, np.flatnonzero(recent))
        older = np.flatnonzero(~recent)
        if not len(older) or not len(strong):
            return pairs
        odds = pairs.odds[strong]
        got, worth = most_evidence(odds, options.match_odds)
        appearance_worth = len(strong) * (
            options.appearance_weight * options.most_appearance_odds - options.cut_match_odds
        )
        cut_possible = options.use_appearance and (
            appearance_worth + options.cut_odds > worth
            or least_log_odds_of_one_view(worth, len(strong)) < options.cut_odds
        )
        asking = np.ones(len(strong), bool)
        if not cut_possible and odds.size:
            own = np.where(got >= 0, odds[np.arange(len(strong)), got], -np.inf)
            asking = own < self._most_odds(state, seen, missing, older).max()
            count = -1
            while count < asking.sum():  # whose track is wanted by one that asks might have to ask, too
                count = asking.sum()
                wanted = (odds[asking] > options.match_odds).any(axis=0)
                asking |= (got >= 0) & wanted[got]
        hinted = {identity for _, identity, _ in seen.hints}
        asking |= np.isin(strong, [position for position, _, _ in seen.hints])
        if not asking.any():
            return pairs
        asked = self._pairs(state, _rows_of(seen, strong[asking]), missing, older)
        useful = (asked.odds > options.match_odds).any(axis=0)
        if hinted and state.memory is not None:
            useful |= np.isin(state.memory.ids[older], list(hinted))
        if cut_possible:
            useful |= (asked.appearance_only > options.cut_match_odds).any(axis=0)
        return pairs.joined(self._pairs(state, seen, missing, older[useful])) if useful.any() else pairs

    def _pairs(self, state: _State, seen: _Seen, missing: np.ndarray, columns: np.ndarray) -> _Pairs:
        """The log-odds of all detections and the tracks in rows ``columns`` (T,) of the memory."""
        options, memory = self.options, state.memory
        assert memory is not None
        gaps, forgotten = (seen.now - memory.seen)[columns], missing[columns] / options.forgetting_seconds
        place, odds = self._by_motion(state, seen, missing, columns)
        odds = odds - forgotten
        appearance_only = cosines = appearance = np.zeros_like(odds)
        if options.use_appearance:
            cosines = memory.gallery.similarities(seen.embeddings, _common_appearance(state), columns)
            weights = options.appearance_weight * np.clip(1 + _UNCLEAR[0] - seen.covered, _UNCLEAR[1], 1)[:, None]
            known = seen.embedded[:, None] & (memory.gallery.counts[columns] > 0)
            if not known.all():
                weights = weights * known
            appearance = weights * state.appearance.log_odds(cosines, gaps)
            odds = odds + appearance
            # In another view an object looks as after a long time, whenever it was seen last.
            late = np.maximum(gaps, options.cut_seconds)
            appearance_only = -forgotten + weights * state.appearance.log_odds(cosines, late)
        place, odds, appearance_only = self._restricted(memory, seen, columns, place, odds, appearance_only)
        return _Pairs(columns, place, odds, appearance_only, appearance, cosines)

    def _restricted(
        self,
        memory: FusedMemory,
        seen: _Seen,
        columns: np.ndarray,
        place: np.ndarray,
        odds: np.ndarray,
        appearance_only: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The three log-odds (N, T) with hints added, and very small where a pair must not be."""
        impossible = seen.groups[:, None] != memory.groups[columns]
        if seen.classes is not None:
            of_tracks = self._groups(memory.classes[columns])
            impossible = impossible | (seen.classes[:, None] != of_tracks)
        if seen.hints:
            odds, appearance_only = odds.copy(), appearance_only.copy()
            for position, identity, more in seen.hints:
                own = memory.ids[columns] == identity
                odds[position, own] += more
                appearance_only[position, own] += more
        for position, identity in seen.forbidden:
            impossible[position, memory.ids[columns] == identity] = True
        if seen.pins is not None and seen.fixed is not None:
            impossible |= (seen.pins != -1)[:, None] | seen.fixed[columns]
        if not impossible.any():
            return place, odds, appearance_only
        return (
            np.where(impossible, _IMPOSSIBLE, place),
            np.where(impossible, _IMPOSSIBLE, odds),
            np.where(impossible, _IMPOSSIBLE, appearance_only),
        )

    def _by_motion(
        self, state: _State, seen: _Seen, missing: np.ndarray, columns: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Log-odds (N, T) of where boxes are, beside anything's being there; and of that and how long each track has
        been missing, beside something new."""
        options, memory = self.options, state.memory
        assert memory is not None
        states, covariances, lost = memory.states[columns], memory.covariances[columns], missing[columns]
        distances, variances = kalman.innovations(states, covariances, seen.boxes, self._noise)
        place = motion_log_odds(distances, variances, kalman.sizes(states), _area(state.extent))
        place[:, memory.seen[columns] < state.cut_at] = 0
        # A track that has been missing is less likely than something new, most of all where things come in.
        gone = self._gone(missing)
        new = options.missing_odds + options.entry_odds * entering(seen.boxes, state.extent)
        new = new + np.log1p(gone.sum() / _CROWD)
        odds = np.logaddexp(place, options.jump_odds)
        # That a place fits says the less, the more others could have come there.
        odds = odds * np.where(odds > 0, np.exp(-lost / options.motion_memory_seconds), 1)
        odds = odds - np.outer(new, gone[columns])
        return place, odds + state.detection_probability.log_odds(lost, seen.passed, options.motion_memory_seconds)

    def _gone(self, missing: np.ndarray) -> np.ndarray:
        """(M,) how likely each track has left, by how long it has been missing."""
        return np.asarray(1 - np.exp(-missing / self.options.leaving_seconds))

    def _most_odds(self, state: _State, seen: _Seen, missing: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """(T,) bounds of the log-odds that tracks ``columns`` (T,) can have with any detection."""
        options, memory = self.options, state.memory
        assert memory is not None
        states, lost, gone = memory.states[columns], missing[columns], self._gone(missing)
        variances = kalman.innovation_variances(states, memory.covariances[columns], self._noise)
        here = np.zeros((1, len(columns), 4))
        place = np.maximum(motion_log_odds(here, variances, kalman.sizes(states), _area(state.extent))[0], 0)
        odds = np.logaddexp(place, options.jump_odds) * np.exp(-lost / options.motion_memory_seconds)
        odds -= (options.missing_odds + np.log1p(gone.sum() / _CROWD)) * gone[columns]
        odds += state.detection_probability.log_odds(lost, seen.passed, options.motion_memory_seconds)
        looks = options.appearance_weight * options.most_appearance_odds if options.use_appearance else 0.0
        return odds - lost / options.forgetting_seconds + looks

    def _match_weak(self, taken: np.ndarray, pairs: _Pairs, strong: np.ndarray, gaps: np.ndarray) -> float:
        """Detections of a low score take, by motion alone, what is left of the tracks seen lately (into ``taken``).

        Returns:
            The log-odds of those pairs.

        Source: Zhang et al., ByteTrack, ECCV 2022.
        """
        free = gaps <= self.options.second_gap_seconds
        free[taken[taken >= 0]] = False
        is_weak = np.ones(len(taken), bool)
        is_weak[strong] = False
        columns, weak = np.flatnonzero(free), np.flatnonzero(is_weak)
        got, _ = most_evidence(pairs.place[np.ix_(weak, columns)], self.options.second_match_odds)
        weak, columns = weak[got >= 0], columns[got[got >= 0]]
        taken[weak] = columns
        return float(pairs.place[weak, columns].sum())

    def _confirmation(self, scores: np.ndarray) -> np.ndarray:
        """(K,) how much detections of these scores speak for a track's being real: their log-odds, moved to where
        those of a detector are whose tracks start at the preset's score."""
        return _log_odds(scores) + self._moved

    def _newborn(self, seen: _Seen, taken: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positions (K,) of the detections that start a track, and which of them (K,) must, being pinned.

        The others start one where neither a box that took a track nor a better box overlaps them.
        """
        untaken = taken < 0
        order = np.argsort(untaken, kind="stable")  # those that took a track first
        limits = np.where(untaken, self.options.duplicate_iou, _NEVER)
        together = seen.classes
        if seen.groups.any():
            classes = seen.groups if together is None else together
            together = np.unique((seen.groups, classes), axis=1, return_inverse=True)[1].reshape(len(taken))
        hidden = np.empty(len(taken), bool)
        hidden[order] = hidden_by_better(
            seen.boxes[order], limits[order], None if together is None else together[order]
        )
        new = untaken & (seen.scores > self.options.track_activation_threshold) & ~hidden & seen.may_start
        forced = np.zeros(len(taken), bool)
        if seen.pins is not None:
            forced = untaken & ((seen.pins == MUST_BE_NEW) | (seen.pins >= 0))
            new |= forced
        new_rows = np.flatnonzero(new)
        return new_rows, forced[new_rows]

    def _learn(self, state: _State, seen: _Seen, pairs: _Pairs, taken: np.ndarray) -> None:
        """Teaches the appearance's evidence what cosines mean in this video."""
        memory = state.memory
        assert memory is not None
        matched = np.flatnonzero((taken >= 0) & (seen.covered < self.options.clean_overlap) & seen.embedded)
        if not matched.size:
            return
        columns = taken[matched]
        others = pairs.place.copy()
        others[matched, columns] = -np.inf
        second = np.maximum(others[matched].max(axis=1), others[:, columns].max(axis=0))
        own = pairs.place[matched, columns]
        sure = (own > _SURE) & (own - second > _SURE)
        gaps, ids = seen.now - memory.seen[pairs.columns], memory.ids[pairs.columns]
        frame = Observed(pairs.cosines[matched], columns, sure, gaps, ids, seen.now)
        state.appearance = state.appearance.learned(frame)

    def _rename(self, state: _State, old: int, new: int) -> None:
        assert state.memory is not None
        state.memory.ids[state.memory.ids == old] = new

    def _header(self) -> dict[str, Any]:
        prior = None if self._prior is None else asdict(self._prior)
        return {**super()._header(), "prior": json.dumps(prior, sort_keys=True)}

    def _state_arrays(self) -> dict[str, Any]:
        state = self._state
        arrays: dict[str, Any] = {name: getattr(state, name) for name in _NUMBERS}
        parts: dict[str, Mapping[str, Any]] = {
            "appearance": {name: getattr(state.appearance, name) for name in _arrays_of(state.appearance)},
            "detection_probability": state.detection_probability.state_dict(),
            "memory": {} if state.memory is None else state.memory.state_dict(),
        }
        return arrays | {f"{part}.{name}": value for part, of in parts.items() for name, value in of.items()}

    def _state_of(self, arrays: Mapping[str, np.ndarray]) -> _State:
        def part(name: str) -> dict[str, np.ndarray]:
            length = len(name) + 1
            return {key[length:]: value for key, value in arrays.items() if key.startswith(f"{name}.")}

        fresh = appearance_evidence(self._prior, self.options.most_appearance_odds)
        learned = {
            name: np.array(value, getattr(fresh, name).dtype)
            for name, value in part("appearance").items()
            if name in _arrays_of(fresh)
        }
        if learned.keys() != set(_arrays_of(fresh)):
            raise LookupError("what was learned of appearance is missing")
        memory = part("memory")
        numbers = {name: arrays[name] for name in _NUMBERS if name in arrays}
        return _State(
            appearance=replace(fresh, **cast(Any, learned)),
            detection_probability=DetectionProbability.of_state(part("detection_probability")),
            memory=FusedMemory.of_state(memory) if memory else None,
            next_id=int(arrays["next_id"]),
            last_number=float(numbers["last_number"]) if "last_number" in numbers else None,
            last_time=float(numbers["last_time"]) if "last_time" in numbers else None,
            size=(int(numbers["size"][0]), int(numbers["size"][1])) if "size" in numbers else None,
            extent=np.array(arrays["extent"], np.float64).reshape(4),
            cuts=int(arrays["cuts"]),
            cut_at=float(arrays["cut_at"]),
            looks_sum=np.array(numbers["looks_sum"], np.float64) if "looks_sum" in numbers else None,
            looks_count=int(arrays["looks_count"]),
        )


_NUMBERS = (
    *("next_id", "last_number", "last_time", "size", "extent", "cuts", "cut_at"),
    *("looks_sum", "looks_count"),
)


def _arrays_of(evidence: FittedEvidence | LearnedEvidence) -> list[str]:
    return [each.name for each in fields(evidence) if isinstance(getattr(evidence, each.name), np.ndarray)]


def _missing(memory: FusedMemory, seen: _Seen) -> np.ndarray:
    """(M,) seconds in which each track should have been seen, and was not."""
    return np.maximum(seen.now - memory.seen - memory.out_of_view_seconds - seen.passed, 0)


def _rows_of(seen: _Seen, rows: np.ndarray) -> _Seen:
    """Some of the detections, without hints and forbidden pairs."""
    return seen._replace(
        boxes=seen.boxes[rows],
        classes=None if seen.classes is None else seen.classes[rows],
        groups=seen.groups[rows],
        embeddings=seen.embeddings[rows],
        embedded=seen.embedded[rows],
        covered=seen.covered[rows],
        pins=None if seen.pins is None else seen.pins[rows],
        hints=(),
        forbidden=(),
    )


def _none(count: int) -> Outcome:
    """The columns of N decisions for no identity."""
    terms = {name: np.full(count, np.nan) for name in ("motion", "appearance", "absence", "hint")}
    return Outcome(
        np.full(count, -1),
        np.zeros(count, bool),
        np.zeros(count),
        terms,
        np.full(count, NO_RUNNER_UP),
        np.full(count, np.inf),
    )


def _common_appearance(state: _State) -> np.ndarray:
    """(D,) float32: what all objects of this video have in common, the less the fewer have been seen."""
    assert state.looks_sum is not None
    return np.asarray(state.looks_sum / (state.looks_count + COMMON_TRUST), np.float32)


def _widen(extent: np.ndarray, boxes: np.ndarray, size: tuple[int, int] | None) -> None:
    """Widens the known part of the picture (4,) xyxy by boxes (N, 4), in place."""
    if size is not None:
        extent[:] = [0.0, 0.0, *size]
    extent[:2] = np.minimum(extent[:2], boxes[:, :2].min(axis=0))
    extent[2:] = np.maximum(extent[2:], boxes[:, 2:].max(axis=0))


def _area(extent: np.ndarray) -> float:
    """Pixels² of xyxy (4,), 1 at least."""
    return max(float(np.prod(extent[2:] - extent[:2])), 1.0)


def _log_odds(scores: np.ndarray) -> np.ndarray:
    scores = np.clip(scores, 1 - _SUREST, _SUREST)
    return np.asarray(np.log(scores / (1 - scores)))
