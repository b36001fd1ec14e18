"""Association by motion and appearance: one sum of evidence, in which each counts for what it can know."""

from __future__ import annotations

from typing import Any

import numpy as np

from masa_track.association import kalman
from masa_track.association.boxes import coverage, hidden_by_better
from masa_track.association.checks import checked
from masa_track.association.cuts import log_odds_of_one_view, rearranged
from masa_track.association.evidence import AppearanceEvidence, AppearancePrior, entering, motion_log_odds
from masa_track.association.fused_memory import FusedMemory
from masa_track.association.fused_options import FusedOptions
from masa_track.association.gallery_file import TrackGallery
from masa_track.association.matching import most_evidence
from masa_track.association.presence import SAME_TIME, Presence
from masa_track.association.presets import fused_options_of
from masa_track.errors import InputError

_NEVER = 2.0  # an IoU that no two boxes have
_IMPOSSIBLE = -1e9
_SURE = 3.0  # log-odds by which motion alone must prefer a pair to teach what appearance looks like
_CROWD = 10.0  # so many missing tracks make each of them half as likely: one of many is alike by chance
COMMON_TRUST = 40.0  # things that must be seen before half of their common look is taken away
_SUREST = 0.98  # no score speaks for more, or for less than 1 - .98
_UNCLEAR = (0.5, 0.3)  # coverage from which looks count for less, and the least they count for


class FusedAssociator:
    """Links detections over frames by where they are and how they look. Needs numpy and scipy only.

    For each pair of detection and track, the log-odds of being one thing are added up: by place and size (a Kalman
    filter in seconds, :mod:`kalman`), by looks (a gallery of several embeddings, :mod:`gallery`, against what cosines
    mean in this video, :mod:`evidence`), and by how long the track has been missing. Motion is exact after a short gap
    and says little after a long one, by its own variance; looks are worth little where all look alike, by theirs. The
    assignment with the most evidence is taken. If the frame is better explained by the same things in other places, or
    by other things altogether, it is a cut: looks alone decide, and where things were before says nothing any more.

    Identities count from ``first_id`` in every instance for itself; instances share nothing.

    Args:
        preset: ``default``.
        prior: what cosines are expected before the video has shown it; None for that of the shipped model.
        **overrides: options of :class:`~masa_track.association.fused_options.FusedOptions` to change.

    Raises:
        InputError: for an unknown preset or option, or a value that cannot be.
    """

    def __init__(self, preset: str = "default", prior: AppearancePrior | None = None, **overrides: Any) -> None:
        self.options = options = fused_options_of(preset, **overrides)
        self._prior = prior or AppearancePrior()
        self._high = min(options.high_score_threshold, options.init_score_threshold)
        usual, own = _log_odds(np.array([FusedOptions.init_score_threshold, options.init_score_threshold]))
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
        self.memory: FusedMemory | None = None
        self.cuts = 0
        self._cut_at = -np.inf  # seconds, when the view was last another one
        self._appearance = AppearanceEvidence(self._prior, self.options.most_appearance_odds)
        self._presence = Presence()
        self._next_id = self.options.first_id
        self._last_frame: float | None = None
        self._extent = np.array([np.inf, np.inf, -np.inf, -np.inf])  # xyxy of all that was seen
        self._looks_sum: np.ndarray | None = None
        self._looks_count = 0

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
            size: width and height of the picture; without it, the part of it where boxes have been.
            camera: (2, 3) affine, the pixels of the frame before to those of this one; None for a camera that stands.

        Returns:
            (N,) int64 identities in the order of the boxes, -1 for none.

        Raises:
            InputError: for shapes that do not fit, numbers that are not finite, a frame that does not come later.
        """
        dimension = None if self.memory is None else self.memory.gallery.dimension
        boxes, scores, labels, embeddings = checked(boxes, scores, labels, embeddings, dimension)
        frame = float(frame_index)
        if not np.isfinite(frame) or (self._last_frame is not None and frame <= self._last_frame):
            raise InputError(
                f"frame_index must grow from call to call, got {frame_index} after {self._last_frame}: "
                "call reset() before another video"
            )
        if camera is not None and (np.shape(camera) != (2, 3) or not np.isfinite(camera).all()):
            raise InputError(f"camera must be a finite (2, 3) affine, got {camera!r}")
        now = frame / self.options.fps
        passed = np.inf if self._last_frame is None else (frame - self._last_frame) / self.options.fps
        self._last_frame = frame
        if self.memory is not None:
            self.memory.move_on(now - self.options.memory_seconds, passed, self._noise)
            view = self._extent if size is None else np.array([0.0, 0.0, *size])
            self.memory.turn(camera, view, passed)
        result = np.full(len(boxes), -1)
        if len(boxes) == 0:
            return result
        self._see(boxes, size)
        if self.memory is None:
            self.memory = FusedMemory(self.options.views, embeddings.shape[1])
            self._looks_sum = np.zeros(embeddings.shape[1])
        lengths = np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
        order = np.argsort(-scores, kind="stable")
        order = order[self._visible(boxes[order], scores[order])]
        if order.size:
            result[order] = self._link(
                boxes[order], scores[order], labels[order], (embeddings / lengths)[order], now, passed
            )
        return result

    def class_of(self, identity: int) -> int | None:
        """The class that most of a remembered track's detections had, weighed by score; None if it is forgotten."""
        return None if self.memory is None else self.memory.class_of(identity)

    def gallery(self) -> TrackGallery:
        """How the tracks looked that are remembered and have an identity."""
        memory = self.memory
        if memory is None:
            none = np.zeros(0, np.int64)
            return TrackGallery(none, none, none, np.zeros((0, 1, 1), np.float32))
        own = memory.belief == np.inf
        vectors = memory.gallery.vectors[own].copy()
        return TrackGallery(memory.ids[own], memory.classes()[own], memory.gallery.counts[own], vectors)

    def _see(self, boxes: np.ndarray, size: tuple[int, int] | None) -> None:
        """Widens the known part of the picture."""
        if size is not None:
            self._extent = np.array([0.0, 0.0, *size])
        self._extent[:2] = np.minimum(self._extent[:2], boxes[:, :2].min(axis=0))
        self._extent[2:] = np.maximum(self._extent[2:], boxes[:, 2:].max(axis=0))

    def _visible(self, boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Positions of the detections (sorted by score) that count, and that no better one hides."""
        options = self.options
        limits = np.where(scores < self._high, options.distractor_iou_threshold, _NEVER)
        return np.flatnonzero(~hidden_by_better(boxes, limits) & (scores > options.object_score_threshold))

    def _link(
        self,
        boxes: np.ndarray,
        scores: np.ndarray,
        labels: np.ndarray,
        embeddings: np.ndarray,
        now: float,
        passed: float,
    ) -> np.ndarray:
        """Identities (N,) of a frame's visible detections; the tracks are renewed, and new ones begin."""
        options, memory = self.options, self.memory
        assert memory is not None
        covered = coverage(boxes)
        taken, cut = self._match(boxes, scores, labels, embeddings, covered, now, passed)
        matched = np.flatnonzero(taken >= 0)
        rows = taken[matched]
        hurried = passed <= options.confirm_seconds
        unconfirmed = hurried & (memory.belief < np.inf)
        unconfirmed[rows] = False
        memory.correct(rows, boxes[matched], now, self._noise, anew=cut)
        clean = covered[matched] < options.clean_overlap
        memory.look(rows[clean], embeddings[matched[clean]], now, options.view_seconds)
        memory.vote(rows, labels[matched], scores[matched])
        memory.believe(rows, self._belief(scores[matched]), options.confirm_odds)
        ids = np.full(len(boxes), -1)
        ids[matched] = np.where(memory.belief[rows] == np.inf, memory.ids[rows], -1)
        memory.keep(~unconfirmed)  # seen a few times, and not in the very next frame: the detector's mistake

        new = self._newborn(boxes, scores, taken)
        born = np.arange(self._next_id, self._next_id + len(new))
        self._next_id += len(new)
        sure = (scores[new] >= options.sure_score) | (not hurried)
        belief = np.where(sure, np.inf, self._belief(scores[new]))
        memory.add(born, boxes[new], embeddings[new], labels[new], scores[new], belief, now, self._noise)
        ids[new[sure]] = born[sure]
        self._looks_sum = self._looks_sum + embeddings[new].sum(axis=0, dtype=np.float64)
        self._looks_count += len(new)
        return ids

    def _match(
        self,
        boxes: np.ndarray,
        scores: np.ndarray,
        labels: np.ndarray,
        embeddings: np.ndarray,
        covered: np.ndarray,
        now: float,
        passed: float,
    ) -> tuple[np.ndarray, bool]:
        """Row of the track that each detection takes (-1 for none), and whether there was a cut."""
        options, memory = self.options, self.memory
        assert memory is not None
        taken, cut = np.full(len(boxes), -1), False
        if len(memory) == 0:
            return taken, cut
        gaps = now - memory.seen
        missing = np.maximum(gaps - memory.unseeable - passed, 0)  # seconds in which it should have been seen
        forgotten = missing / options.forgetting_seconds
        place, odds = self._by_motion(boxes, missing, passed)
        odds = odds - forgotten
        other_class = labels[:, None] != memory.classes() if options.class_aware else np.zeros(odds.shape, bool)
        strong = np.flatnonzero(scores > self._high)
        if options.use_appearance:
            cosines = memory.gallery.similarities(embeddings, self._common_look())
            count_for = options.appearance_weight * np.clip(1 + _UNCLEAR[0] - covered, _UNCLEAR[1], 1)[:, None]
            odds = odds + count_for * self._appearance.log_odds(cosines, gaps)
            # In another view a thing looks as after a long time, whenever it was seen last.
            unmoved = -forgotten + count_for * self._appearance.log_odds(cosines, np.maximum(gaps, options.cut_seconds))
            unmoved[other_class] = _IMPOSSIBLE
        odds[other_class] = _IMPOSSIBLE
        taken[strong], worth = most_evidence(odds[strong], options.match_odds)
        if options.use_appearance:
            by_looks, looks_worth = most_evidence(unmoved[strong], options.cut_match_odds)
            cut = looks_worth + options.cut_odds > worth and rearranged(
                unmoved[strong, by_looks][by_looks >= 0], options.match_odds
            )
            if cut:
                taken[strong] = by_looks
        if not cut:
            worth += self._match_weak(taken, np.where(other_class, _IMPOSSIBLE, place), strong, gaps)
            again = np.zeros(len(memory), bool)
            again[taken[taken >= 0]] = True
            left = (missing <= SAME_TIME) & (memory.belief == np.inf) & ~again & ~memory.away
            steady, arrived = self._presence.steady(), int((taken[strong] < 0).sum())
            cut = options.use_appearance and (
                log_odds_of_one_view(worth, int(left.sum()), steady, arrived) < options.cut_odds
            )
            if cut:
                taken[:] = -1
                others = unmoved[strong] - np.log1p(len(memory) / _CROWD)
                taken[strong], _ = most_evidence(others, -options.cut_match_odds)
        if cut:
            self.cuts += 1
            self._cut_at = now
        else:
            told = again | ~memory.away
            self._presence.learn(missing[told], again[told])
            if options.use_appearance:
                self._learn(place, cosines, taken, gaps, covered)
        return taken, cut

    def _by_motion(self, boxes: np.ndarray, missing: np.ndarray, passed: float) -> tuple[np.ndarray, np.ndarray]:
        """Log-odds (N, M) of where boxes are, beside anything's being there; and of that and how long each track has
        been missing, beside something new."""
        options, memory = self.options, self.memory
        assert memory is not None
        distances, variances = kalman.innovations(memory.states, memory.covariances, boxes, self._noise)
        area = max(float(np.prod(self._extent[2:] - self._extent[:2])), 1.0)
        place = motion_log_odds(distances, variances, kalman.sizes(memory.states), area)
        place[:, memory.seen < self._cut_at] = 0
        # A track that has been missing is less likely than something new, most of all where things come in.
        gone = 1 - np.exp(-missing / options.leaving_seconds)
        new = options.missing_odds + options.entry_odds * entering(boxes, self._extent)
        new = new + np.log1p(gone.sum() / _CROWD)
        odds = np.logaddexp(place, options.jump_odds)
        # That a place fits says the less, the more others could have come there.
        odds = odds * np.where(odds > 0, np.exp(-missing / options.motion_memory_seconds), 1) - np.outer(new, gone)
        return place, odds + self._presence.log_odds(missing, passed, options.motion_memory_seconds)

    def _match_weak(self, taken: np.ndarray, place: np.ndarray, strong: np.ndarray, gaps: np.ndarray) -> float:
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
        got, _ = most_evidence(place[np.ix_(weak, columns)], self.options.second_match_odds)
        weak, columns = weak[got >= 0], columns[got[got >= 0]]
        taken[weak] = columns
        return float(place[weak, columns].sum())

    def _belief(self, scores: np.ndarray) -> np.ndarray:
        """(K,) how much detections of these scores speak for a track's being real: their log-odds, moved to where
        those of a detector are whose tracks start at the preset's score."""
        return _log_odds(scores) + self._moved

    def _newborn(self, boxes: np.ndarray, scores: np.ndarray, taken: np.ndarray) -> np.ndarray:
        """Positions of the detections that start a track."""
        limits = np.where(taken >= 0, _NEVER, self.options.duplicate_iou)
        free = (taken < 0) & (scores > self.options.init_score_threshold)
        return np.flatnonzero(free & ~hidden_by_better(boxes, limits))

    def _common_look(self) -> np.ndarray:
        """(D,) float32: what all things of this video have in common, the less the fewer have been seen."""
        assert self._looks_sum is not None
        return (self._looks_sum / (self._looks_count + COMMON_TRUST)).astype(np.float32)

    def _learn(
        self, place: np.ndarray, cosines: np.ndarray, taken: np.ndarray, gaps: np.ndarray, covered: np.ndarray
    ) -> None:
        """Teaches the appearance's evidence what cosines mean in this video."""
        matched = np.flatnonzero((taken >= 0) & (covered < self.options.clean_overlap))
        if not matched.size:
            return
        rows = taken[matched]
        among = cosines[matched][:, rows]
        self._appearance.learn_different(among[~np.eye(len(rows), dtype=bool)])
        others = place.copy()
        others[matched, rows] = -np.inf
        second = np.maximum(others[matched].max(axis=1), others[:, rows].max(axis=0))
        own = place[matched, rows]
        sure = (own > _SURE) & (own - second > _SURE)
        self._appearance.learn_same(among.diagonal()[sure], gaps[rows][sure])


def _log_odds(scores: np.ndarray) -> np.ndarray:
    scores = np.clip(scores, 1 - _SUREST, _SUREST)
    return np.asarray(np.log(scores / (1 - scores)))
