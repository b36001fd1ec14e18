"""Log-odds of detections and tracks: which pairs are compared, and what speaks for each."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from masa_track.association.evidence import bumps, kalman, returns, speeds, undone_cuts
from masa_track.association.evidence.cuts import least_log_odds_of_one_view
from masa_track.association.evidence.detection_probability import SAME_TIME
from masa_track.association.evidence.memory import FusedMemory
from masa_track.association.evidence.motion import motion_log_odds
from masa_track.association.evidence.options import FusedOptions
from masa_track.association.evidence.state import State, area_of, common_appearance
from masa_track.association.matching import most_evidence

IMPOSSIBLE = -1e9
# IDF1: off +.002/+.004, half -.001/-.010, double +.002/0
CROWD = 10.0  # missing tracks that halve the odds of each: among many, some look similar by chance
# IDF1: off 0/-.008, half 0/0, double -.001/0
_TENTATIVE = 1.5  # nats less for a track without an identity: it may follow a false detection
# IDF1, _UNCLEAR[0]: off -.005, half -.001, double -.005
# IDF1, _UNCLEAR[1]: off -.005, half 0, double 0
_UNCLEAR = (0.5, 0.3)  # coverage from which appearance counts for less, and its least weight
# IDF1: off 0, half 0, double 0
_ELSEWHERE = -5.0  # nats of the place, below which a detection is not where its track should be
# IDF1: off 0, half +.003, double 0
_SAME_AREA = 0.3  # logarithm; a box of another area than its track's shows another part of the object
# IDF1: off 0, half +.003, double 0
_SHORT_GAP = 1.0  # seconds, up to which the area of a track's box is known
# IDF1: off +.002, half +.008, double +.002
_FLOOR = 3.0  # nats, the most that appearance speaks against a pair after no gap; twice as much after _LONG_GAP
# IDF1: half -.001, double 0
_LONG_GAP = 3.0  # seconds
_RECENT_SECONDS = 1.0  # tracks missing for longer are compared only with detections that no recent track explains


class Seen(NamedTuple):
    """The visible detections of a frame, sorted by falling score.

    Attributes:
        number: of the frame.
        rows: (N,) of the observation.
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
        by_mask: (position, identity, nats) of the observation's overlaps of masks.
        entering: (N,) of :func:`~masa_track.association.evidence.motion.entering`.
        same_scene: the background is that of the frame before, so this is no cut to another scene.
        now: seconds.
        passed: seconds since the frame before.
        pause: how much of this was more than usual, seconds; 0 where it was usual.
    """

    number: int
    rows: np.ndarray
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
    by_mask: tuple[tuple[int, int, float], ...]
    forbidden: tuple[tuple[int, int], ...]
    entering: np.ndarray
    same_scene: bool
    now: float
    passed: float
    pause: float

    @property
    def at_border(self) -> np.ndarray:
        """(N,) probability that each box is entering or leaving the picture."""
        return returns.at_border(self.entering)


class Pairs(NamedTuple):
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

    def joined(self, other: Pairs) -> Pairs:
        """The pairs of both, tracks in the memory's order."""
        columns = np.concatenate((self.columns, other.columns))
        order = np.argsort(columns)
        both = (np.concatenate(arrays, axis=1)[:, order] for arrays in zip(self[1:], other[1:], strict=True))
        return Pairs(columns[order], *both)


class Evidence:
    """Adds up what speaks for each pair of detection and track.

    Args:
        options: of the engine.
        noise: of its motion filter.
    """

    def __init__(self, options: FusedOptions, noise: kalman.MotionNoise) -> None:
        self.options, self._noise = options, noise

    def class_groups(self, labels: np.ndarray) -> np.ndarray | None:
        """(N,) the group of each class, whose detections take the group's tracks only; None: any may take any."""
        options = self.options
        if options.class_groups is None:
            return labels if options.class_aware else None
        groups = np.where(labels >= 0, labels + len(options.class_groups), labels)
        for number, classes in enumerate(options.class_groups):
            groups[np.isin(labels, classes)] = number
        return groups

    def considered(self, state: State, seen: Seen, missing: np.ndarray, strong: np.ndarray) -> Pairs:
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
        pairs = self.pairs(state, seen, missing, np.flatnonzero(recent))
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
            or (not seen.same_scene and least_log_odds_of_one_view(worth, len(strong)) < options.cut_odds)
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
        hints = seen.hints + seen.by_mask
        hinted = {identity for _, identity, _ in hints}
        asking |= np.isin(strong, [position for position, _, _ in hints])
        if not asking.any():
            return pairs
        asked = self.pairs(state, _rows_of(seen, strong[asking]), missing, older)
        useful = (asked.odds > options.match_odds).any(axis=0)
        if hinted and state.memory is not None:
            useful |= np.isin(state.memory.ids[older], list(hinted))
        if cut_possible:
            useful |= (asked.appearance_only > options.cut_match_odds).any(axis=0)
        return pairs.joined(self.pairs(state, seen, missing, older[useful])) if useful.any() else pairs

    def old_view_is_back(self, state: State, seen: Seen, strong: np.ndarray) -> bool:
        """Whether the tracks as they were before the last cut explain the detections ``strong`` (S,) better."""
        memory, old = state.memory, state.before_cut
        if memory is None or old is None or not len(strong):
            return False
        kept = np.isin(old.ids, memory.ids)
        if kept.sum() < undone_cuts.FEWEST:
            return False
        columns, boxes = memory.rows_of(old.ids[kept]), seen.boxes[strong]
        if (memory.seen[columns] >= old.at).mean() > undone_cuts.FOUND:
            return False
        before = self.places(state, boxes, old.filters[kept], old.covariances[kept], old.predictions[kept])
        now = self._place(state, boxes, columns)
        now[:, memory.seen[columns] < state.cut_at] = 0
        cosines = memory.gallery.similarities(seen.embeddings[strong], common_appearance(state), columns)
        looks = state.appearance.log_odds(cosines, seen.now - memory.seen[columns])
        worths = [most_evidence(np.maximum(place, self.options.jump_odds) + looks, 0.0)[1] for place in (before, now)]
        return worths[0] - worths[1] > undone_cuts.BETTER

    def bump(self, state: State, seen: Seen, pairs: Pairs, strong: np.ndarray) -> np.ndarray | None:
        """The offset (2,) in pixels by which all objects have moved since the frame before; None where none fits."""
        memory = state.memory
        assert memory is not None
        fresh = (memory.seen >= seen.now - seen.passed - SAME_TIME) & (memory.confirmation == np.inf)
        at = np.flatnonzero(fresh[pairs.columns])
        if len(at) < bumps.FEWEST or len(strong) < bumps.FEWEST or seen.passed > bumps.LONGEST_SECONDS:
            return None
        place = pairs.place[np.ix_(strong, at)]
        if place.max(axis=0).mean() > bumps.EXPLAINED:
            return None
        rows, boxes = pairs.columns[at], seen.boxes[strong]
        offset = bumps.common_offset(memory.states[rows], boxes)
        if offset is None:
            return None
        filters = memory.filters[rows]
        filters[..., :2] += offset
        shifted = self.places(state, boxes, filters, memory.covariances[rows], memory.predictions[rows])
        worth, before = most_evidence(shifted, 0.0)[1], most_evidence(place, 0.0)[1]
        return offset if worth - before > bumps.BETTER else None

    def pairs(self, state: State, seen: Seen, missing: np.ndarray, columns: np.ndarray) -> Pairs:
        """The log-odds of all detections and the tracks in rows ``columns`` (T,) of the memory."""
        options, memory = self.options, state.memory
        assert memory is not None
        forgotten = missing[columns] / options.forgetting_seconds
        place, odds = self._by_motion(state, seen, missing, columns)
        odds = odds - forgotten - np.where(memory.confirmation[columns] < np.inf, _TENTATIVE, 0.0)
        appearance_only = cosines = appearance = np.zeros_like(odds)
        if options.use_appearance:
            gone = missing[columns] > returns.GONE_SECONDS
            cosines = memory.gallery.similarities(seen.embeddings, common_appearance(state), columns)
            appearance, late = self._by_appearance(state, seen, cosines, columns, gone | (place < _ELSEWHERE))
            appearance_only = late - forgotten
            if not options.reidentify:
                appearance[:, gone] = np.minimum(appearance[:, gone], 0)
                appearance_only = np.full_like(odds, IMPOSSIBLE)
            returned = self._returned(state, seen, columns)[:, gone] - forgotten[gone]
            returned = returned - np.log(max(1.0, self._gone(missing).sum()))  # it is one of them
            odds[:, gone] = np.logaddexp(odds[:, gone], returned)
            odds = odds + appearance
        place, odds, appearance_only = self._restricted(memory, seen, columns, place, odds, appearance_only)
        return Pairs(columns, place, odds, appearance_only, appearance, cosines)

    def _by_appearance(
        self, state: State, seen: Seen, cosines: np.ndarray, columns: np.ndarray, unsure: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Log-odds (N, T) of appearance for pairs with these cosines (N, T); and the same in another view, in which an
        object looks as after a long time, whenever it was seen last.

        ``unsure`` (N, T) are pairs that may be other objects of a similar appearance, by where they are.
        """
        options, memory = self.options, state.memory
        assert memory is not None
        gaps = (seen.now - memory.seen)[columns]
        weights = options.appearance_weight * np.clip(1 + _UNCLEAR[0] - seen.covered, _UNCLEAR[1], 1)[:, None]
        known = seen.embedded[:, None] & (memory.gallery.counts[columns] > 0)
        if not known.all():
            weights = weights * known
        most = self._most_appearance(state, memory.classes[columns])
        odds = self._trusted(weights * state.appearance.log_odds(cosines, gaps), memory, seen, gaps, columns)
        odds = np.where(unsure, np.minimum(odds, most), odds)
        late = weights * state.appearance.log_odds(cosines, np.maximum(gaps, options.cut_seconds))
        return odds, np.minimum(late, most)

    def _trusted(
        self, appearance: np.ndarray, memory: FusedMemory, seen: Seen, gaps: np.ndarray, columns: np.ndarray
    ) -> np.ndarray:
        """Log-odds (N, T) of appearance with what speaks against a pair reduced where it may be the box's fault."""
        filters = memory.filters[columns, 0]
        areas = np.maximum((seen.boxes[:, 2:] - seen.boxes[:, :2]).prod(axis=1), 1)
        jump = np.abs(np.log(areas)[:, None] - 2 * np.log(kalman.sizes(filters)[:, 0]))
        whole = np.exp(-np.maximum(jump - _SAME_AREA, 0) / _SAME_AREA)
        appearance = np.where((appearance < 0) & (gaps < _SHORT_GAP), whole * appearance, appearance)
        return np.maximum(appearance, -_FLOOR * (1 + np.minimum(gaps / _LONG_GAP, 1)))

    def _most_appearance(self, state: State, classes: np.ndarray) -> np.ndarray:
        """(T,) the most that appearance can say for tracks of these classes that are not where they should be."""
        alike = [state.alike.get(label, returns.ALIKE) for label in classes.tolist()]
        return returns.most_appearance(np.array(alike, np.float64))

    def _returned(self, state: State, seen: Seen, columns: np.ndarray) -> np.ndarray:
        """Log-odds (N, T) that detections are tracks which left and returned, appearance apart."""
        memory, options = state.memory, self.options
        assert memory is not None
        seconds = seen.now - (seen.now if state.started is None else state.started)
        centres = kalman.to_centres(seen.boxes)
        far = np.linalg.norm(centres[:, None, :2] - memory.places[columns], axis=2) / kalman.sizes(centres)
        odds = returns.log_odds(
            seen.at_border, memory.at_border[columns], far, state.newcomers, seconds, options.return_prior
        )
        return np.where(options.reidentify & (memory.confirmation[columns] == np.inf), odds, IMPOSSIBLE)

    def _by_motion(
        self, state: State, seen: Seen, missing: np.ndarray, columns: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Log-odds (N, T) of where boxes are, beside anything's being there; and of that and how long each track has
        been missing, beside something new."""
        options, memory = self.options, state.memory
        assert memory is not None
        lost, place = missing[columns], self._place(state, seen.boxes, columns)
        place[:, memory.seen[columns] < state.cut_at] = 0
        # A track that has been missing is less likely than something new, most of all where things come in.
        gone = self._gone(missing)
        new = options.missing_odds + options.entry_odds * seen.entering
        new = new + np.log1p(gone.sum() / CROWD)
        odds = motion_term(place, lost, options) - np.outer(new, gone[columns])
        return place, odds + state.detection_probability.log_odds(lost, seen.passed, options.motion_memory_seconds)

    def _place(self, state: State, boxes: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Log-odds (N, T) of where boxes (N, 4) are, beside anything's being there."""
        memory = state.memory
        assert memory is not None
        return self.places(
            state, boxes, memory.filters[columns], memory.covariances[columns], memory.predictions[columns]
        )

    def places(
        self, state: State, boxes: np.ndarray, filters: np.ndarray, covariances: np.ndarray, predictions: np.ndarray
    ) -> np.ndarray:
        """Log-odds (N, T) of where boxes (N, 4) are, for T tracks with these rows of a memory."""
        weights = speeds.weights(predictions, state.predictions)
        odds, area = np.full((len(boxes), len(filters)), -np.inf), area_of(state.extent)
        for one in range(filters.shape[1]):
            rows = np.flatnonzero(weights[:, one] > -np.inf)
            if len(rows):
                states = filters[rows, one]
                distances, variances = kalman.innovations(states, covariances[rows, one], boxes, self._noise)
                own = motion_log_odds(distances, variances, kalman.sizes(states), area) + weights[rows, one]
                odds[:, rows] = np.logaddexp(odds[:, rows], own)
        return odds

    def _restricted(
        self,
        memory: FusedMemory,
        seen: Seen,
        columns: np.ndarray,
        place: np.ndarray,
        odds: np.ndarray,
        appearance_only: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The three log-odds (N, T) with hints and masks added, and very small where a pair must not be."""
        impossible = seen.groups[:, None] != memory.groups[columns]
        if seen.classes is not None:
            of_tracks = self.class_groups(memory.classes[columns])
            impossible = impossible | (seen.classes[:, None] != of_tracks)
        if seen.hints or seen.by_mask:
            odds, appearance_only = odds.copy(), appearance_only.copy()
            for position, identity, more in seen.hints + seen.by_mask:
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
            np.where(impossible, IMPOSSIBLE, place),
            np.where(impossible, IMPOSSIBLE, odds),
            np.where(impossible, IMPOSSIBLE, appearance_only),
        )

    def _gone(self, missing: np.ndarray) -> np.ndarray:
        """(M,) how likely each track has left, by how long it has been missing."""
        return np.asarray(1 - np.exp(-missing / self.options.leaving_seconds))

    def _most_odds(self, state: State, seen: Seen, missing: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """(T,) bounds of the log-odds that tracks ``columns`` (T,) can have with any detection."""
        options, memory = self.options, state.memory
        assert memory is not None
        filters, lost, gone = memory.filters[columns], missing[columns], self._gone(missing)
        variances = kalman.innovation_variances(filters, memory.covariances[columns], self._noise)
        here = np.zeros_like(variances)
        place = motion_log_odds(here, variances, kalman.sizes(filters), area_of(state.extent)).max(axis=1)
        place = np.maximum(place, 0)
        odds = np.logaddexp(place, options.jump_odds) * np.exp(-lost / options.motion_memory_seconds)
        odds -= (options.missing_odds + np.log1p(gone.sum() / CROWD)) * gone[columns]
        odds += state.detection_probability.log_odds(lost, seen.passed, options.motion_memory_seconds)
        looks = options.appearance_weight * options.most_appearance_odds if options.use_appearance else 0.0
        odds = np.logaddexp(odds, max(options.return_prior + returns.SAME_BORDER, returns.INSIDE))
        return odds - lost / options.forgetting_seconds + looks


def motion_term(place: np.ndarray, missing: np.ndarray, options: FusedOptions) -> np.ndarray:
    """Log-odds (..., T) of motion, from those of the place (..., T) and the seconds (T,) that tracks were missing."""
    odds = np.logaddexp(place, options.jump_odds)
    # The longer a track is missing, the more other objects could have come to the place that fits.
    return np.asarray(odds * np.where(odds > 0, np.exp(-missing / options.motion_memory_seconds), 1))


def seconds_missing(memory: FusedMemory, seen: Seen) -> np.ndarray:
    """(M,) seconds in which each track should have been seen, and was not."""
    return np.maximum(seen.now - memory.seen - memory.out_of_view_seconds - seen.passed, 0) + seen.pause


def _rows_of(seen: Seen, rows: np.ndarray) -> Seen:
    """Some of the detections, without hints and forbidden pairs."""
    return seen._replace(
        rows=seen.rows[rows],
        boxes=seen.boxes[rows],
        classes=None if seen.classes is None else seen.classes[rows],
        groups=seen.groups[rows],
        entering=seen.entering[rows],
        embeddings=seen.embeddings[rows],
        embedded=seen.embedded[rows],
        covered=seen.covered[rows],
        pins=None if seen.pins is None else seen.pins[rows],
        hints=(),
        by_mask=(),
        forbidden=(),
    )
