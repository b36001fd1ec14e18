"""Association by motion and appearance: one sum of evidence, which trusts each for what it can know."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from masa_track.association import kalman
from masa_track.association.boxes import hidden_by_better
from masa_track.association.checks import checked
from masa_track.association.evidence import AppearanceEvidence, AppearancePrior, motion_log_odds
from masa_track.association.fused_options import FusedOptions
from masa_track.association.gallery import Gallery, unit
from masa_track.errors import InputError

_NEVER = 2.0  # an IoU that no two boxes have
_IMPOSSIBLE = -1e9
_SURE_OF_MOTION = 3.0  # log-odds by which motion alone must prefer a pair to teach what appearance looks like
_MEAN_TRUST = 4.0  # things that must be seen before half of their common look is taken away


@dataclass
class _Tracks:
    """What is remembered: one row a track, oldest first."""

    gallery: Gallery
    ids: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    states: np.ndarray = field(default_factory=lambda: np.zeros((0, 8)))
    covariances: np.ndarray = field(default_factory=lambda: np.zeros((0, 3, 4)))
    seen: np.ndarray = field(default_factory=lambda: np.zeros(0))  # seconds, when last
    viewed: np.ndarray = field(default_factory=lambda: np.zeros(0))  # seconds, when a view was kept last
    hits: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    labels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    _ROWS = ("ids", "states", "covariances", "seen", "viewed", "hits", "labels")

    def keep(self, rows: np.ndarray) -> None:
        if not rows.all():
            self.gallery.keep(rows)
            for name in self._ROWS:
                setattr(self, name, getattr(self, name)[rows])

    def add(self, embeddings: np.ndarray, **values: np.ndarray) -> None:
        self.gallery.add(embeddings)
        for name in self._ROWS:
            setattr(self, name, np.concatenate((getattr(self, name), values[name])))


class FusedAssociator:
    """Links detections over frames by where they are and how they look. Needs numpy and scipy only."""

    def __init__(self, prior: AppearancePrior | None = None, **overrides: Any) -> None:
        self.options = FusedOptions(**overrides)
        self._prior = prior or AppearancePrior()
        self.reset()

    def reset(self) -> None:
        o = self.options
        self._noise = kalman.MotionNoise(
            speed=o.motion_speed, persistence=o.motion_persistence, position=o.position_noise, extent=o.extent_noise
        )
        self._tracks = None
        self._appearance = AppearanceEvidence(self._prior, self.options.most_appearance_odds)
        self._next_id = self.options.first_id
        self._last_frame = None
        self._extent = np.array([np.inf, np.inf, -np.inf, -np.inf])
        self._mean_sum = 0.0
        self._mean_count = 0
        self._cuts = 0

    def update(self, boxes, scores, labels, embeddings, frame_index, camera=None, size=None):
        boxes, scores, labels, embeddings = checked(boxes, scores, labels, embeddings, self._dimension())
        frame = float(frame_index)
        now = frame / self.options.fps
        if self._last_frame is not None and frame <= self._last_frame:
            raise InputError("later")
        seconds = np.inf if self._last_frame is None else (frame - self._last_frame) / self.options.fps
        if self._tracks is not None:
            self._move_on(now, seconds, camera)
        self._last_frame = frame
        result = np.full(len(boxes), -1)
        if len(boxes) == 0:
            return result
        if size is not None:
            self._extent = np.array([0, 0, *size], float)
        self._extent[:2] = np.minimum(self._extent[:2], boxes[:, :2].min(axis=0))
        self._extent[2:] = np.maximum(self._extent[2:], boxes[:, 2:].max(axis=0))
        if self._tracks is None:
            self._tracks = _Tracks(Gallery(self.options.views, embeddings.shape[1]))
        order = np.lexsort((*boxes.T, -scores))
        order = order[self._visible(boxes[order], scores[order])]
        result[order] = self._link(boxes[order], scores[order], labels[order], unit(embeddings[order]), now, seconds)
        return result

    def _dimension(self):
        return None if self._tracks is None else self._tracks.gallery.dimension

    def _visible(self, boxes, scores):
        o = self.options
        limits = np.where(scores < o.high_score_threshold, o.distractor_iou_threshold, _NEVER)
        limits[scores <= o.object_score_threshold] = 0
        return np.flatnonzero(~hidden_by_better(boxes, limits) & (scores > o.object_score_threshold))

    def _move_on(self, now, seconds, camera):
        t = self._tracks
        t.keep(t.seen >= now - self.options.memory_seconds)
        t.states, t.covariances = kalman.predict(t.states, t.covariances, seconds, self._noise)
        if camera is not None:
            t.states, t.covariances = kalman.warp(t.states, t.covariances, camera)

    def _centre(self):
        if not self._mean_count:
            return np.zeros(self._tracks.gallery.dimension, np.float32)
        return (self._mean_sum / (self._mean_count + _MEAN_TRUST)).astype(np.float32)

    def _link(self, boxes, scores, labels, embeddings, now, seconds):
        o, t = self.options, self._tracks
        covered = coverage(boxes)
        taken = np.full(len(boxes), -1)
        gaps = now - t.seen
        if len(t.ids):
            distances, variances = kalman.innovations(t.states, t.covariances, boxes, self._noise)
            area = max(np.prod(self._extent[2:] - self._extent[:2]), 1.0)
            place = motion_log_odds(distances, variances, kalman.sizes(t.states), area)
            lasting = -gaps / o.forgetting_seconds
            motion = np.logaddexp(place + np.log1p(-np.exp(o.jump_odds)), o.jump_odds)
            motion = motion - o.entry_odds * self._entering(boxes)[:, None]
            odds, still = motion + lasting, np.broadcast_to(lasting, motion.shape).copy()
            if o.use_appearance:
                cosines = self._tracks.gallery.similarities(embeddings, self._centre())
                looks = self._appearance.log_odds(cosines, gaps)
                clear = np.clip(1.5 - covered, 0.3, 1)[:, None]
                odds = odds + o.appearance_weight * looks * clear
                long = np.maximum(gaps, o.cut_seconds)
                still = still + o.appearance_weight * self._appearance.log_odds(cosines, long) * clear
            if o.class_aware:
                odds[labels[:, None] != t.labels] = _IMPOSSIBLE
                still[labels[:, None] != t.labels] = _IMPOSSIBLE
            strong = scores > o.high_score_threshold
            taken[strong], worth = assign(odds[strong], o.match_odds)
            if o.use_appearance:
                cut, cut_worth = assign(still[strong], o.cut_match_odds)
                if cut_worth + o.cut_odds > worth:
                    taken[strong] = cut
                    self._cuts += 1
                    rows = cut[cut >= 0]
                    t.states[rows], t.covariances[rows] = kalman.start(boxes[np.flatnonzero(strong)[cut >= 0]], self._noise)
            weak = np.flatnonzero(~strong)
            free = np.ones(len(t.ids), bool)
            free[taken[taken >= 0]] = False
            free &= gaps <= o.second_gap_seconds
            if weak.size and free.any():
                columns = np.flatnonzero(free)
                second = place[np.ix_(weak, columns)]
                got, _ = assign(second, o.second_match_odds)
                taken[weak[got >= 0]] = columns[got[got >= 0]]
            if o.use_appearance:
                self._learn(place, cosines, taken, gaps, covered)
        matched = np.flatnonzero(taken >= 0)
        rows = taken[matched]
        t.states[rows], t.covariances[rows] = kalman.correct(
            t.states[rows], t.covariances[rows], boxes[matched], self._noise
        )
        clean = covered[matched] < o.clean_overlap
        old = now - t.viewed[rows] >= o.view_seconds
        new_view, newest = clean & old, clean & ~old
        t.gallery.renew(rows[new_view], embeddings[matched[new_view]])
        t.viewed[rows[new_view]] = now
        t.gallery.replace_newest(rows[newest], embeddings[matched[newest]])
        t.seen[rows] = now
        t.hits[rows] += 1
        lone = t.hits < self._needed(seconds)
        lone[rows] = False
        new = self._newborn(boxes, scores, taken)
        ids = np.full(len(boxes), -1)
        ids[matched] = np.where(t.hits[rows] >= 2, t.ids[rows], -1)
        t.keep(~lone)
        if new.size:
            ids[new] = np.arange(self._next_id, self._next_id + len(new))
            self._next_id += len(new)
            states, covariances = kalman.start(boxes[new], self._noise)
            if o.flow and len(t.ids):
                lively = np.exp(-(now - t.seen) / 3) * (t.hits > 1)
                size = kalman.sizes(t.states)
                mean = (lively[:, None] * t.states[:, 4:6] / size).sum(axis=0) / (lively.sum() + o.flow)
                states[:, 4:6] = mean * kalman.sizes(states)
            times = np.full(len(new), now)
            hits = np.where((scores[new] >= o.sure_score) | (self._needed(seconds) < 2), 2, 1)
            t.add(embeddings[new], ids=ids[new], states=states, covariances=covariances, seen=times, viewed=times,
                  hits=hits, labels=labels[new])
            ids[new[hits < 2]] = -1
            self._mean_sum = self._mean_sum + embeddings[new].sum(axis=0, dtype=np.float64)
            self._mean_count += len(new)
        return ids

    def _needed(self, seconds):
        return 2 if seconds <= self.options.confirm_seconds else 1

    def _entering(self, boxes):
        low, high = boxes[:, :2] - self._extent[:2], self._extent[2:] - boxes[:, 2:]
        near = np.minimum(low, high).min(axis=1) / np.sqrt(np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), 1))
        return np.exp(-np.maximum(near, 0) / 0.5)

    def _newborn(self, boxes, scores, taken):
        o = self.options
        limits = np.where(taken >= 0, _NEVER, o.duplicate_iou)
        return np.flatnonzero((taken < 0) & (scores > o.init_score_threshold) & ~hidden_by_better(boxes, limits))

    def _learn(self, place, cosines, taken, gaps, covered):
        matched = np.flatnonzero((taken >= 0) & (covered < self.options.clean_overlap))
        if not matched.size:
            return
        rows = taken[matched]
        among = cosines[matched][:, rows]
        off = ~np.eye(len(rows), dtype=bool)
        self._appearance.learn_different(among[off])
        own = place[matched, rows]
        others = place.copy()
        others[matched, rows] = -np.inf
        second = np.maximum(others[matched].max(axis=1), others[:, rows].max(axis=0))
        sure = (own > _SURE_OF_MOTION) & (own - second > _SURE_OF_MOTION)
        self._appearance.learn_same(among.diagonal()[sure], gaps[rows][sure])


def coverage(boxes):
    """(N,) the largest part of each box that one other covers."""
    if len(boxes) < 2:
        return np.zeros(len(boxes))
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = np.maximum(high - low, 0).prod(axis=2)
    np.fill_diagonal(shared, 0)
    area = np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), 1e-6)
    return shared.max(axis=1) / area


def assign(odds, least):
    """(N,) columns of the assignment with the most evidence above ``least``, -1 for none."""
    from scipy.optimize import linear_sum_assignment

    taken = np.full(len(odds), -1)
    if not odds.size:
        return taken, 0.0
    gain = np.maximum(odds - least, 0)
    rows, columns = linear_sum_assignment(gain, maximize=True)
    real = gain[rows, columns] > 0
    taken[rows[real]] = columns[real]
    return taken, float(gain[rows, columns].sum())
