"""Association by motion and appearance: a sum of log-odds, each term weighted by its reliability at that moment."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

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
from masa_track.checks import checked
from masa_track.errors import InputError

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
        last_frame: number of the last frame; None before the first.
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
    last_frame: float | None = None
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

    ``boxes`` (N, 4), ``scores`` (N,), ``labels`` (N,), ``groups`` (N,) or None where any class may take any track,
    ``embeddings`` (N, D) of length 1, ``covered`` (N,) 0..1, ``now`` in seconds, ``passed`` seconds since the frame
    before.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    groups: np.ndarray | None
    embeddings: np.ndarray
    covered: np.ndarray
    now: float
    passed: float


class _Pairs(NamedTuple):
    """Log-odds of N detections and T of the tracks.

    ``columns`` (T,) are the tracks' rows in the memory. ``place`` (N, T) is by motion alone, ``odds`` (N, T) the sum of
    all terms, ``appearance_only`` (N, T) the sum without place, as across a cut; ``cosines`` (N, T). The last two are
    zeros where appearance is not used.
    """

    columns: np.ndarray
    place: np.ndarray
    odds: np.ndarray
    appearance_only: np.ndarray
    cosines: np.ndarray

    def joined(self, other: _Pairs) -> _Pairs:
        """The pairs of both, tracks in the memory's order."""
        columns = np.concatenate((self.columns, other.columns))
        order = np.argsort(columns)
        both = (np.concatenate(arrays, axis=1)[:, order] for arrays in zip(self[1:], other[1:], strict=True))
        return _Pairs(columns[order], *both)


class FusedAssociator:
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
    def last_frame(self) -> float | None:
        """The number of the last frame that was tracked; None before the first."""
        return self._state.last_frame

    @property
    def memory(self) -> FusedMemory | None:
        """The tracks that can still be matched; None before the first detection."""
        return self._state.memory

    @property
    def cuts(self) -> int:
        """How many cuts there were so far."""
        return self._state.cuts

    def update(
        self,
        boxes: np.ndarray,
        scores: np.ndarray,
        labels: np.ndarray,
        embeddings: np.ndarray,
        frame_index: float,
        size: tuple[int, int] | None = None,
        camera: np.ndarray | None = None,
    ) -> np.ndarray:
        """Gives the detections of one frame their identities.

        Args:
            boxes: (N, 4) xyxy pixels.
            scores: (N,).
            labels: (N,) whole numbers.
            embeddings: (N, D), not normalised.
            frame_index: the frame's number, in frames of 1 / ``fps`` s, may be a fraction; larger than the one before.
            size: width and height of the picture; without it, the part of it where boxes have been. If it changes and
                the aspect ratio does not, the tracks are scaled.
            camera: (2, 3) affine, the pixels of the frame before to those of this one; None for a camera that stands.

        Returns:
            (N,) int64 identities in the order of the boxes, -1 for none.

        Raises:
            InputError: for shapes that do not fit, numbers that are not finite, a frame that does not come later.
        """
        before = self._state
        dimension = None if before.memory is None else before.memory.gallery.dimension
        boxes, scores, labels, embeddings = checked(boxes, scores, labels, embeddings, dimension)
        frame = float(frame_index)
        if not np.isfinite(frame) or (before.last_frame is not None and frame <= before.last_frame):
            raise InputError(
                f"frame_index must grow from call to call, got {frame_index} after {before.last_frame}: "
                "call reset() before another video"
            )
        if camera is not None and (np.shape(camera) != (2, 3) or not np.isfinite(camera).all()):
            raise InputError(f"camera must be a finite (2, 3) affine, got {camera!r}")
        now = frame / self.options.fps
        passed = np.inf if before.last_frame is None else (frame - before.last_frame) / self.options.fps
        state = before.copy()
        state.last_frame = frame
        self._move_on(state, now, passed, size, camera)
        result = np.full(len(boxes), -1)
        if len(boxes):
            _widen(state.extent, boxes, size)
        if state.memory is None and len(boxes):
            state.memory = FusedMemory(self.options.views, embeddings.shape[1])
            state.looks_sum = np.zeros(embeddings.shape[1])
        if state.memory is not None:
            groups = self._groups(labels)
            order = np.argsort(-scores, kind="stable")
            order = order[self._visible(boxes[order], scores[order], None if groups is None else groups[order])]
            boxes = boxes[order]
            seen = _Seen(
                boxes,
                scores[order],
                labels[order],
                None if groups is None else groups[order],
                unit(embeddings.reshape(len(embeddings), state.memory.gallery.dimension)[order]),
                coverage(boxes),
                now,
                passed,
            )
            result[order] = self._link(state, seen)
        self._state = state  # the only place where anything changes
        return result

    def class_of(self, identity: int) -> int | None:
        """The class that most of a remembered track's detections had, weighed by score; None if it is forgotten."""
        return None if self.memory is None else self.memory.class_of(identity)

    def gallery(self) -> TrackGallery:
        """The embeddings of the remembered tracks that have an identity."""
        memory = self.memory
        if memory is None:
            none = np.zeros(0, np.int64)
            return TrackGallery(none, none, none, np.zeros((0, 1, 1), np.float32))
        own = memory.confirmation == np.inf
        return TrackGallery(
            memory.ids[own], memory.classes[own], memory.gallery.counts[own], memory.gallery.vectors[own]
        )

    def _move_on(
        self, state: _State, now: float, passed: float, size: tuple[int, int] | None, camera: np.ndarray | None
    ) -> None:
        """Brings the tracks to the time and the view of this frame."""
        memory = state.memory
        if memory is not None:
            memory.move_on(now - self.options.memory_seconds, passed, self._noise)
            if camera is None and size is not None and state.size is not None and size != state.size:
                factors = np.array(size) / np.array(state.size)
                if abs(factors[0] / factors[1] - 1) <= _SAME_ASPECT:
                    memory.scale(factors)
            view = state.extent if size is None else np.array([0.0, 0.0, *size])
            memory.apply_camera(camera, view, passed)
        state.size = size or state.size

    def _groups(self, labels: np.ndarray) -> np.ndarray | None:
        """(N,) the group of each class, whose detections take the group's tracks only; None: any may take any."""
        options = self.options
        if options.class_groups is None:
            return labels if options.class_aware else None
        groups = np.where(labels >= 0, labels + len(options.class_groups), labels)
        for number, classes in enumerate(options.class_groups):
            groups[np.isin(labels, classes)] = number
        return groups

    def _visible(self, boxes: np.ndarray, scores: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
        """Positions of the detections (sorted by score) that count, and that no better one hides."""
        options = self.options
        limits = np.where(scores < self._high, options.distractor_iou_threshold, _NEVER)
        return np.flatnonzero(~hidden_by_better(boxes, limits, groups) & (scores > options.object_score_threshold))

    def _link(self, state: _State, seen: _Seen) -> np.ndarray:
        """Identities (N,) of a frame's visible detections; the tracks are renewed, and new ones begin."""
        options, memory, now = self.options, state.memory, seen.now
        assert memory is not None
        taken, cut = self._match(state, seen)
        matched = np.flatnonzero(taken >= 0)
        rows, scores = taken[matched], seen.scores[matched]
        short_gap = seen.passed <= options.confirm_seconds + _TIME_TOLERANCE
        unconfirmed = short_gap & (memory.confirmation < np.inf)
        unconfirmed[rows] = False
        memory.correct(rows, seen.boxes[matched], now, self._noise, anew=cut)
        clean = seen.covered[matched] < options.clean_overlap
        memory.add_appearance(rows[clean], seen.embeddings[matched[clean]], now, options.view_seconds)
        memory.add_class_votes(rows, seen.labels[matched], scores)
        state.next_id = memory.add_confirmation(rows, self._confirmation(scores), options.confirm_odds, state.next_id)
        ids = np.full(len(taken), -1)
        ids[matched] = memory.ids[rows]
        memory.keep(~unconfirmed)  # seen a few times, and not in the very next frame: the detector's mistake

        new = self._newborn(seen, taken)
        sure = (seen.scores[new] >= options.sure_score) | (not short_gap)
        confirmation = np.where(sure, np.inf, self._confirmation(seen.scores[new]))
        born = np.full(len(new), -1)
        born[sure] = np.arange(state.next_id, state.next_id + sure.sum())
        state.next_id += int(sure.sum())
        memory.add(
            born,
            seen.boxes[new],
            seen.embeddings[new],
            seen.labels[new],
            seen.scores[new],
            confirmation,
            now,
            self._noise,
        )
        ids[new] = born
        if options.use_appearance:
            first = unit(
                seen.embeddings[new[sure & (seen.covered[new] < options.clean_overlap)]] - _common_appearance(state)
            )
            state.appearance = state.appearance.began(first @ first.T)
        state.looks_sum = state.looks_sum + seen.embeddings[new].sum(axis=0, dtype=np.float64)
        state.looks_count += len(new)
        return ids

    def _match(self, state: _State, seen: _Seen) -> tuple[np.ndarray, bool]:
        """Row of the track that each detection takes (-1 for none), and whether there was a cut."""
        options, memory = self.options, state.memory
        assert memory is not None
        taken, cut = np.full(len(seen.boxes), -1), False
        if len(memory) == 0:
            return taken, cut
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
            left = (missing <= SAME_TIME) & (memory.confirmation == np.inf) & ~seen_again & ~memory.out_of_view
            redetection_probability, arrived = (
                state.detection_probability.redetection_probability(),
                int((taken[strong] < 0).sum()),
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
            state.detection_probability.learn(missing[observable], seen_again[observable])
            if options.use_appearance:
                self._learn(state, seen, pairs, taken)
        taken[taken >= 0] = pairs.columns[taken[taken >= 0]]
        return taken, cut

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
        if not asking.any():
            return pairs
        asked = self._pairs(state, _rows_of(seen, strong[asking]), missing, older)
        useful = (asked.odds > options.match_odds).any(axis=0)
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
        appearance_only = cosines = np.zeros_like(odds)
        if options.use_appearance:
            cosines = memory.gallery.similarities(seen.embeddings, _common_appearance(state), columns)
            count_for = options.appearance_weight * np.clip(1 + _UNCLEAR[0] - seen.covered, _UNCLEAR[1], 1)[:, None]
            odds = odds + count_for * state.appearance.log_odds(cosines, gaps)
            # In another view a thing looks as after a long time, whenever it was seen last.
            appearance_only = -forgotten + count_for * state.appearance.log_odds(
                cosines, np.maximum(gaps, options.cut_seconds)
            )
        if seen.groups is not None:
            of_tracks = self._groups(memory.classes[columns])
            other = seen.groups[:, None] != of_tracks
            place, odds, appearance_only = (
                np.where(other, _IMPOSSIBLE, each) for each in (place, odds, appearance_only)
            )
        return _Pairs(columns, place, odds, appearance_only, cosines)

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

    def _newborn(self, seen: _Seen, taken: np.ndarray) -> np.ndarray:
        """Positions of the detections that start a track: no box that took one, and no better box, overlaps them."""
        untaken = taken < 0
        order = np.argsort(untaken, kind="stable")  # those that took a track first
        limits = np.where(untaken, self.options.duplicate_iou, _NEVER)
        groups = None if seen.groups is None else seen.groups[order]
        hidden = np.empty(len(taken), bool)
        hidden[order] = hidden_by_better(seen.boxes[order], limits[order], groups)
        return np.flatnonzero(untaken & (seen.scores > self.options.track_activation_threshold) & ~hidden)

    def _learn(self, state: _State, seen: _Seen, pairs: _Pairs, taken: np.ndarray) -> None:
        """Teaches the appearance's evidence what cosines mean in this video."""
        memory = state.memory
        assert memory is not None
        matched = np.flatnonzero((taken >= 0) & (seen.covered < self.options.clean_overlap))
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


def _missing(memory: FusedMemory, seen: _Seen) -> np.ndarray:
    """(M,) seconds in which each track should have been seen, and was not."""
    return np.maximum(seen.now - memory.seen - memory.out_of_view_seconds - seen.passed, 0)


def _rows_of(seen: _Seen, rows: np.ndarray) -> _Seen:
    """Some of the detections."""
    groups = None if seen.groups is None else seen.groups[rows]
    return seen._replace(
        boxes=seen.boxes[rows], groups=groups, embeddings=seen.embeddings[rows], covered=seen.covered[rows]
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
