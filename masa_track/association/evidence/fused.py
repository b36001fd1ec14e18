"""Association by motion and appearance: a sum of log-odds, each term weighted by its reliability at that moment."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from masa_track.association.engine import Decisions, Engine, Outcome, ids_with_pins
from masa_track.association.evidence import kalman, returns, speeds, undone_cuts
from masa_track.association.evidence.appearance import (
    AppearancePrior,
    Observed,
    appearance_evidence,
)
from masa_track.association.evidence.cuts import SAME_SCENE, log_odds_of_one_view, rearranged
from masa_track.association.evidence.decisions import Match, outcome_of
from masa_track.association.evidence.detection_probability import SAME_TIME
from masa_track.association.evidence.mask_overlap import mask_log_odds
from masa_track.association.evidence.memory import UNUSED, FusedMemory
from masa_track.association.evidence.motion import entering
from masa_track.association.evidence.options import FusedOptions
from masa_track.association.evidence.pairs import CROWD, IMPOSSIBLE, Evidence, Pairs, Seen, seconds_missing
from masa_track.association.evidence.state import State, common_appearance, state_arrays, state_of, widen
from masa_track.association.gallery import unit
from masa_track.association.gallery_file import TrackGallery
from masa_track.association.matching import most_evidence
from masa_track.association.presets import fused_options_of
from masa_track.boxes import coverage, hidden_by_better
from masa_track.contracts import MUST_BE_NEW, Decision, Observation, TrackEvent, TrackView

_NEVER = 2.0  # an IoU that no two boxes have
# IDF1: half -.006, double +.002
_SURE = 3.0  # log-odds by which motion alone must prefer a pair to teach what appearance looks like
# IDF1: half -.151/-.094, double 0/0
_SUREST = 0.98  # no score speaks for more, or for less than 1 - .98
_INTERVALS, _FEWEST_INTERVALS = 30, 5  # the last frame intervals, whose median is the usual one; fewer say nothing
# IDF1: off 0/0, half 0/0, double 0/0
_PAUSE = 3.0  # usual intervals; what is longer is a pause, in which objects may come and go
# IDF1: off 0/0, half 0/0, double 0/0
_SHORTEST_PAUSE = 0.3  # seconds
# IDF1: off -.002/-.004, half -.001/-.004, double 0/0
_LEARNING_SECONDS = 1.0  # frames further apart say little of how fast objects move
# IDF1: off 0, half 0, double +.001
_DENSE_SECONDS = 0.1  # frames nearer than this show each object often, so that only its best views are remembered:
# IDF1, _CLEAN_OVERLAP: off 0, half 0, double 0
# IDF1, _CLEAN_BORDER: off 0, half 0, double 0
_CLEAN_OVERLAP, _CLEAN_BORDER = 0.3, 0.85  # coverage, and nearness to the border, of those
_SAME_ASPECT = 0.05  # relative difference of aspect ratios up to which another picture size is a mere scaling
# Chosen on the public detections of MOT15: the positions of a detector are trusted more than its extents.
_SHOWN = kalman.MotionNoise(speeds=(1.4,), persistence=10.0, growth=0.5, position=0.02, extent=0.15)


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
            speeds=tuple(options.motion_speed * factor for factor in speeds.FACTORS),
            persistence=options.motion_persistence,
            position=options.position_noise,
            extent=options.extent_noise,
        )
        self._shown_noise = _SHOWN if options.filter_boxes else UNUSED
        self._evidence = Evidence(options, self._noise)
        self.reset()

    def reset(self) -> None:
        """Forgets everything: the next frame is the first of a new video."""
        appearance = appearance_evidence(self._prior, self.options.most_appearance_odds)
        self._state = State(appearance, self.options.first_id)

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
            groups = None if observation.groups is None else observation.groups[order]
            wanted[order] = (scores > self._high) | (coverage(boxes, groups) < self.options.clean_overlap)
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

    def filtered_boxes(self, boxes: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """The boxes of the second filter, where the option ``filter_boxes`` is set.

        Args:
            boxes: (N, 4) xyxy pixels of the last frame.
            ids: (N,) their identities, -1 for none.

        Returns:
            (N, 4) float32 xyxy; rows without an identity are the boxes given.
        """
        shown, memory = np.array(boxes, np.float32), self.memory
        if memory is not None and self.options.filter_boxes:
            rows = np.flatnonzero(ids >= 0)
            shown[rows] = kalman.to_boxes(memory.shown[memory.rows_of(ids[rows]), 0])
        return shown

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

    def _step(self, state: State, seen: Observation) -> tuple[np.ndarray, Sequence[Decision], list[TrackEvent]]:
        passed = np.inf if state.last_time is None else seen.time - state.last_time
        events: list[TrackEvent] = []
        self._move_on(state, seen, passed, events)
        ids, count = np.full(len(seen.boxes), -1), len(seen.boxes)
        dimension = 0 if seen.embeddings is None else seen.embeddings.shape[1]
        if count:
            widen(state.extent, seen.boxes, seen.size)
            if state.memory is None or (len(state.memory) == 0 and state.memory.gallery.dimension != dimension):
                state.memory = FusedMemory(self.options.views, dimension, self._shown_noise)
                state.embedding_sum = np.zeros(dimension)
        if state.memory is None:
            return ids, [], events
        if state.started is None:
            state.started = seen.time
        order = self._order(seen)
        visible = self._visible(state, seen, order, passed)
        ids[order], outcome = self._link(state, visible, events)
        if np.isfinite(passed):
            state.intervals = np.append(state.intervals, passed)[-_INTERVALS:]
        return ids, Decisions(count, lambda: outcome().among(order, count)), events

    def _move_on(self, state: State, seen: Observation, passed: float, events: list[TrackEvent]) -> None:
        """Brings the tracks to the time and the view of this frame."""
        memory = state.memory
        if memory is not None:
            oldest = -np.inf if self.options.max_identities else seen.time - self.options.memory_seconds
            ended = memory.ids[(memory.seen < oldest) & (memory.ids >= 0)]
            events += [TrackEvent("ended", identity, seen.number, seen.time) for identity in ended.tolist()]
            memory.move_on(oldest, passed, self._noise)
            old = state.before_cut
            if old is not None:
                expired = seen.time > old.at + undone_cuts.SECONDS
                state.before_cut = old = None if expired else old.moved_on(passed, self._noise)
            if seen.camera is None and seen.size is not None and state.size is not None and seen.size != state.size:
                factors = np.array(seen.size) / np.array(state.size)
                if abs(factors[0] / factors[1] - 1) <= _SAME_ASPECT:
                    memory.scale(factors)
                    state.before_cut = old and old.scaled(factors)
            if old is not None and seen.camera is not None:
                state.before_cut = old.warped(seen.camera)
            memory.apply_camera(seen.camera, state.extent if seen.size is None else np.array([0.0, 0.0, *seen.size]))
            if seen.groups_in_view is not None:
                memory.out_of_view |= ~np.isin(memory.groups, list(seen.groups_in_view))
            if not seen.detector_ran:
                memory.out_of_view[:] = True
            memory.out_of_view_seconds = memory.out_of_view_seconds + np.where(memory.out_of_view, passed, 0)
        state.size = seen.size or state.size

    def _order(self, seen: Observation) -> np.ndarray:
        """The rows that count, by falling score: those that score enough and that no better one hides; pinned ones."""
        options = self.options
        order = np.argsort(-seen.scores, kind="stable")
        scores, classes = seen.scores[order], self._evidence.class_groups(seen.labels[order])
        if seen.groups is not None:
            classes = _joint(classes, seen.groups[order])
        limits = np.where(scores < self._high, options.distractor_iou_threshold, _NEVER)
        visible = ~hidden_by_better(seen.boxes[order], limits, classes) & (scores > options.object_score_threshold)
        if seen.pins is not None:
            visible |= seen.pins[order] != -1
        return order[visible]

    def _visible(self, state: State, seen: Observation, order: np.ndarray, passed: float) -> Seen:
        """The detections ``order`` (N,) of the observation."""
        memory = state.memory
        assert memory is not None
        count, boxes = len(order), seen.boxes[order]
        embedded = np.zeros(count, bool)
        embeddings = np.zeros((count, memory.gallery.dimension), np.float32)
        if seen.embeddings is not None:
            given = seen.embeddings[order]
            embedded = ~np.isnan(given[:, :1]).any(axis=1)
            embeddings = unit(given if embedded.all() else np.where(embedded[:, None], given, np.float32(0)))
        named = seen.hints or seen.mask_overlaps or seen.forbidden
        position = {row: place for place, row in enumerate(order.tolist())} if named else {}
        pins, fixed = None, None
        if seen.pins is not None:
            pins, fixed = seen.pins[order], np.zeros(len(memory), bool)
            fixed[ids_with_pins(pins, memory.ids)[1]] = True
        return Seen(
            seen.number,
            order,
            boxes,
            seen.scores[order],
            seen.labels[order],
            embeddings,
            embedded,
            self._evidence.class_groups(seen.labels[order]),
            np.zeros(count, np.int64) if seen.groups is None else seen.groups[order],
            coverage(boxes, None if seen.groups is None else seen.groups[order]),
            np.ones(count, bool) if seen.may_start is None else seen.may_start[order],
            pins,
            fixed,
            tuple((position[row], identity, odds) for row, identity, odds in seen.hints if row in position),
            tuple(
                (position[row], identity, mask_log_odds(overlap, confidence))
                for row, identity, overlap, confidence in seen.mask_overlaps
                if row in position
            ),
            tuple((position[row], identity) for row, identity in seen.forbidden if row in position),
            entering(boxes, state.extent),
            seen.scene_change is not None and seen.scene_change < SAME_SCENE,
            seen.time,
            passed,
            _pause(state.intervals, passed),
        )

    def _link(self, state: State, seen: Seen, events: list[TrackEvent]) -> tuple[np.ndarray, Callable[[], Outcome]]:
        """Identities (N,) of a frame's visible detections; the tracks are renewed, and new ones begin."""
        options, memory, now = self.options, state.memory, seen.now
        assert memory is not None

        def tell(kind: Any, identities: np.ndarray) -> None:
            events.extend(TrackEvent(kind, identity, seen.number, now) for identity in identities.tolist())

        match = self._match(state, seen)
        replaced = self._complete(state, seen, match)
        if match.cut:
            tell("cut", np.array([-1]))
        matched = np.flatnonzero(match.taken >= 0)
        rows, scores = match.taken[matched], seen.scores[matched]
        short_gap = seen.passed <= options.confirm_seconds
        unconfirmed = short_gap & (memory.confirmation < np.inf) & ~memory.out_of_view
        unconfirmed[rows] = False
        known = memory.ids >= 0
        missed = known & (memory.seen >= now - seen.passed - SAME_TIME)  # seen in the frame before
        found = known & ~missed
        missed[rows] = False
        tell("lost", memory.ids[missed])
        tell("found", memory.ids[rows[found[rows]]])
        fixed = np.zeros(len(rows), bool) if seen.pins is None else seen.pins[matched] >= 0
        if not match.cut and seen.passed <= _LEARNING_SECONDS:
            usual = ~(fixed | replaced[matched])
            self._learn_speeds(state, seen, matched[usual], rows[usual])
        restarted = fixed | replaced[matched] | match.cut
        for anew in (False, True):
            these = restarted if anew else ~restarted
            own = matched[these]
            memory.correct(rows[these], seen.boxes[own], seen.at_border[own], now, self._noise, anew)
        clean = (seen.covered[matched] < options.clean_overlap) & seen.embedded[matched]
        if seen.passed <= _DENSE_SECONDS:  # the next frames will show it better
            clean &= (seen.covered[matched] < _CLEAN_OVERLAP) & (seen.at_border[matched] < _CLEAN_BORDER)
        if options.use_appearance:
            memory.add_appearance(rows[clean], seen.embeddings[matched[clean]], now, options.view_seconds)
        memory.add_class_votes(rows, seen.labels[matched], scores)
        confirmation = np.where(seen.may_start[matched], self._confirmation(scores), 0.0)
        tentative = rows[memory.ids[rows] < 0]
        memory.note_tentative(rows, seen.number, seen.rows[matched])
        state.next_id = memory.add_confirmation(rows, confirmation, options.confirm_odds, state.next_id)
        for row in tentative[memory.ids[tentative] >= 0].tolist():
            earlier = memory.tentative_rows[row][:-1]
            events.append(TrackEvent("born", int(memory.ids[row]), seen.number, now, earlier=earlier))
            memory.tentative_rows[row] = ()
        later = state.last_time is not None
        if later:
            state.newcomers += float(memory.at_border[tentative[memory.ids[tentative] >= 0]].sum())
        ids = np.full(len(match.taken), -1)
        ids[matched] = memory.ids[rows]
        track_ids = memory.ids
        memory.keep(~unconfirmed)  # seen a few times, and not in the very next frame: the detector's mistake

        new, forced = self._newborn(seen, match.taken)
        if options.max_identities is not None:
            free = max(options.max_identities - len(memory), 0)
            kept = forced | (np.cumsum(~forced) <= free)
            new, forced = new[kept], forced[kept]
        sure = (seen.scores[new] >= options.sure_score) | (not short_gap) | forced
        confirmation = np.where(sure, np.inf, self._confirmation(seen.scores[new]))
        born = np.full(len(new), -1)
        if seen.pins is not None:
            born = np.maximum(seen.pins[new], -1)
            state.next_id = max(state.next_id, int(born.max(initial=-1)) + 1)
        count = int((sure & (born < 0)).sum())
        born[sure & (born < 0)] = np.arange(state.next_id, state.next_id + count)
        tell("born", born[sure])
        if later:
            state.newcomers += float(seen.at_border[new[sure]].sum())
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
            seen.at_border[new],
            now,
            self._noise,
        )
        memory.note_tentative(len(memory) - len(new) + np.arange(len(new)), seen.number, seen.rows[new])
        ids[new] = born
        if options.use_appearance:
            clear = new[sure & embedded & (seen.covered[new] < options.clean_overlap)]
            first = unit(seen.embeddings[clear] - common_appearance(state))
            state.appearance = state.appearance.began(first @ first.T)
            self._learn_alike(state, seen.labels[clear], first @ first.T)
        state.embedding_sum = state.embedding_sum + seen.embeddings[new].sum(axis=0, dtype=np.float64)
        state.embedding_count += int(embedded.sum())
        tentative = np.zeros(len(ids), bool)
        tentative[matched], tentative[new] = ids[matched] < 0, ids[new] < 0
        return ids, lambda: outcome_of(options, seen, match, ids, tentative, track_ids)

    def _match(self, state: State, seen: Seen) -> Match:
        """Which track each detection takes, and whether there was a cut."""
        options, memory = self.options, state.memory
        assert memory is not None
        taken, cut = np.full(len(seen.boxes), -1), False
        if len(memory) == 0:
            return Match(taken, cut, None, taken, np.zeros(0))
        missing = seconds_missing(memory, seen)
        strong = np.flatnonzero(seen.scores > self._high)
        if state.before_cut is not None and self._evidence.old_view_is_back(state, seen, strong):
            memory.restore(state.before_cut)
            state.cut_at, state.before_cut = state.before_cut.cut_at, None
            state.cuts -= 1
        pairs = self._evidence.considered(state, seen, missing, strong)
        offset = self._evidence.bump(state, seen, pairs, strong)
        if offset is not None:
            memory.shift(offset)
            pairs = self._evidence.considered(state, seen, missing, strong)
        taken[strong], worth = most_evidence(pairs.odds[strong], options.match_odds)
        if options.use_appearance:
            by_appearance, appearance_worth = most_evidence(pairs.appearance_only[strong], options.cut_match_odds)
            got = by_appearance >= 0
            odds = pairs.appearance_only[strong[got], by_appearance[got]]
            cut = appearance_worth + options.cut_odds > worth and rearranged(odds, options.match_odds, seen.same_scene)
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
            cut = (options.use_appearance and not seen.same_scene) and (
                log_odds_of_one_view(worth, int(left.sum()), redetection_probability, arrived) < options.cut_odds
            )
            if cut:
                taken[:] = -1
                others = pairs.appearance_only[strong] - np.log1p(len(memory) / CROWD)
                taken[strong], _ = most_evidence(others, -options.cut_match_odds)
        if cut:
            state.cuts += 1
            if state.before_cut is None:
                state.before_cut = memory.before_cut(seen.now, state.cut_at)
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
        return Match(rows, cut, pairs, taken, missing)

    def _complete(self, state: State, seen: Seen, match: Match) -> np.ndarray:
        """Where all ``max_identities`` are given, detections that would start a track take the missing ones.

        Returns:
            (N,) bool, the detections that did; ``match.taken`` has their tracks.
        """
        options, memory, replaced = self.options, state.memory, np.zeros(len(match.taken), bool)
        assert memory is not None
        own = memory.confirmation == np.inf
        if options.max_identities is None or own.sum() < options.max_identities:
            return replaced
        missing = own & ~memory.out_of_view
        missing[match.taken[match.taken >= 0]] = False
        new, forced = self._newborn(seen, match.taken)
        new, columns = new[~forced], np.flatnonzero(missing)
        if len(new) and len(columns):
            odds = self._evidence.pairs(state, seen, seconds_missing(memory, seen), columns).odds[new]
            got, _ = most_evidence(odds, IMPOSSIBLE / 2)
            match.taken[new[got >= 0]] = columns[got[got >= 0]]
            replaced[new[got >= 0]] = True
        return replaced

    def _match_weak(self, taken: np.ndarray, pairs: Pairs, strong: np.ndarray, gaps: np.ndarray) -> float:
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

    def _newborn(self, seen: Seen, taken: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positions (K,) of the detections that start a track, and which of them (K,) must, being pinned.

        The others start one where neither a box that took a track nor a better box overlaps them.
        """
        untaken = taken < 0
        order = np.argsort(untaken, kind="stable")  # those that took a track first
        limits = np.where(untaken, self.options.duplicate_iou, _NEVER)
        together = _joint(seen.classes, seen.groups) if seen.groups.any() else seen.classes
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

    def _learn(self, state: State, seen: Seen, pairs: Pairs, taken: np.ndarray) -> None:
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
        strong = seen.scores[matched] > self._high
        rows = matched[strong], columns[strong]
        self._learn_alike(state, seen.labels[rows[0]], pairs.cosines[np.ix_(*rows)])
        frame = Observed(pairs.cosines[matched], columns, sure, gaps, ids, seen.now)
        state.appearance = state.appearance.learned(frame)

    def _learn_alike(self, state: State, labels: np.ndarray, cosines: np.ndarray) -> None:
        """K different objects of classes (K,) have cosines (K, K) in one frame."""
        if len(labels) > 1:
            appearance = state.appearance.log_odds(cosines, np.full(len(labels), returns.LATE))
            state.alike = returns.learned(state.alike, labels, appearance)

    def _learn_speeds(self, state: State, seen: Seen, matched: np.ndarray, rows: np.ndarray) -> None:
        """Detections ``matched`` (K,) of tracks ``rows`` (K,) show how fast the objects of this video move."""
        memory = state.memory
        assert memory is not None
        known = (memory.confirmation[rows] == np.inf) & (memory.seen[rows] >= seen.now - seen.passed - SAME_TIME)
        known &= (seen.scores[matched] > self._high) & (seen.covered[matched] < self.options.clean_overlap)
        rows, boxes = rows[known], seen.boxes[matched[known]]
        filters = memory.filters[rows]
        variances = kalman.innovation_variances(filters, memory.covariances[rows], self._noise)
        distances = (kalman.to_centres(boxes)[:, None] - filters[..., :4]) ** 2 / variances
        new = speeds.predictions(distances, variances)
        memory.predictions, state.predictions = speeds.learned(memory.predictions, state.predictions, rows, new)
        memory.best_filter = speeds.weights(memory.predictions, state.predictions).argmax(axis=1)

    def _rename(self, state: State, old: int, new: int) -> None:
        assert state.memory is not None
        state.memory.ids[state.memory.ids == old] = new

    def _state_arrays(self) -> dict[str, Any]:
        return state_arrays(self._state)

    def _state_of(self, arrays: Mapping[str, np.ndarray]) -> State:
        fresh = appearance_evidence(self._prior, self.options.most_appearance_odds)
        return state_of(arrays, fresh, self._shown_noise)

    def _header(self) -> dict[str, Any]:
        prior = None if self._prior is None else asdict(self._prior)
        return {**super()._header(), "prior": json.dumps(prior, sort_keys=True)}


def _joint(classes: np.ndarray | None, groups: np.ndarray) -> np.ndarray:
    """(N,) numbers that are equal where both the class (None: any) and the group (N,) are."""
    if classes is None:
        return groups
    return np.asarray(np.unique((classes, groups), axis=1, return_inverse=True)[1]).reshape(len(groups))


def _pause(intervals: np.ndarray, passed: float) -> float:
    """How much of the ``passed`` seconds since the frame before was a pause of the video, by the last intervals."""
    if len(intervals) < _FEWEST_INTERVALS:
        return 0.0
    pause = passed - _PAUSE * float(np.median(intervals))
    return pause if pause > _SHORTEST_PAUSE else 0.0


def _log_odds(scores: np.ndarray) -> np.ndarray:
    scores = np.clip(scores, 1 - _SUREST, _SUREST)
    return np.asarray(np.log(scores / (1 - scores)))
