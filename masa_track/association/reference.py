"""The authors' trackers: embeddings alone give each detection the identity of a remembered track, or a new one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from masa_track.association.engine import Decisions, Engine, Outcome, ids_with_pins, no_decisions
from masa_track.association.matching import Candidates, best_left, greedy, hungarian, sort_candidates
from masa_track.association.memory import Backdrops, TrackMemory, lengths
from masa_track.association.presets import options_of
from masa_track.association.similarity import Scratch, dot_products, similar_pairs
from masa_track.boxes import hidden_by_better
from masa_track.contracts import MUST_BE_NEW, NEW_IDENTITY, NO_RUNNER_UP, Decision, Observation, TrackEvent, TrackView
from masa_track.errors import InputError

_NEVER = 2.0  # an IoU that no two boxes have
_LEAST = 1e-6  # similarities that a hint changes are this far from 0 and 1 at least


@dataclass
class _State:
    """All that changes from frame to frame. An update works on a copy, which replaces the state when it is complete.

    ``memory`` holds the tracks (None before the first detection), ``backdrops`` the unmatched detections, ``next_id``
    the next identity, ``last_number`` and ``last_time`` those of the last observation, and ``last_frame`` its number as
    frames are counted here (all None before the first).
    """

    backdrops: Backdrops
    next_id: int
    memory: TrackMemory | None = None
    last_number: float | None = None
    last_time: float | None = None
    last_frame: int | None = None

    def copy(self) -> _State:
        """A state whose changes leave this one as it is."""
        return replace(
            self, backdrops=self.backdrops.copy(), memory=None if self.memory is None else self.memory.copy()
        )


class _Seen(NamedTuple):
    """The visible detections of a frame, sorted by falling score; shapes as in the observation, (N, ...).

    ``pins`` is None where nothing is pinned. ``hints`` and ``forbidden`` have positions among the N instead of rows.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    embeddings: np.ndarray
    groups: np.ndarray
    may_start: np.ndarray
    pins: np.ndarray | None
    hints: list[tuple[int, int, float]]
    forbidden: list[tuple[int, int]]


class Associator(Engine):
    """Links detections over frames by their embeddings. Needs numpy only (scipy for ``assignment="hungarian"``).

    An update is all or nothing: whatever is raised inside it, KeyboardInterrupt included, the state is that of the
    frame before. Identities count from ``first_id`` in every instance for itself; instances share nothing.

    Args:
        preset: ``tao``, ``bdd`` or ``demo`` (the authors' trackers, identity for identity),
            ``appearance`` or ``default``.
        **overrides: options of :class:`~masa_track.association.presets.AssociationOptions` to change.

    Raises:
        InputError: for an unknown preset or option, or a value that cannot be.

    Source: Li et al., Matching Anything by Segmenting Anything, CVPR 2024.
    """

    def __init__(self, preset: str = "tao", **overrides: Any) -> None:
        self.options = options_of(preset, **overrides)
        self.reset()

    def reset(self) -> None:
        """Forgets everything: the next frame is the first of a new video."""
        self._state = _State(Backdrops(self.options.backdrop_frames), self.options.first_id)
        self._scratch = Scratch()

    @property
    def needs(self) -> frozenset[str]:
        """``embeddings``."""
        return frozenset({"embeddings"})

    @property
    def memory_seconds(self) -> float:
        """For how long a track is remembered after it was last seen."""
        return float(self.options.memory_frames / self.options.fps)

    @property
    def memory(self) -> TrackMemory | None:
        """The tracks that can still be matched; None before the first detection."""
        return self._state.memory

    def wanted(self, observation: Observation) -> np.ndarray:
        """(N,) bool, rows that no better one hides; the embeddings of the others are not used. Changes nothing."""
        wanted = np.zeros(len(observation.boxes), bool)
        wanted[self._order(observation)] = True
        return wanted

    def view(self) -> TrackView:
        """The tracks in memory; boxes are where they were last seen."""
        memory, last = self.memory, self._state.last_frame
        if memory is None or last is None:
            memory, last = TrackMemory(1), 0
        confirmed = np.ones(len(memory), bool)
        seen = memory.last_frames
        return TrackView(
            memory.ids, memory.boxes, memory.times, memory.labels, memory.groups, confirmed, np.asarray(seen < last)
        )

    def _dimension(self) -> int | None:
        return None if self.memory is None else self.memory.dimension

    def _check_later(self, seen: Observation) -> None:
        last = self._state.last_number
        if not self.options.count_frames:
            super()._check_later(seen)
        elif last is not None and seen.number <= last:
            raise InputError(
                f"number must be larger than that of the observation before, got {seen.number} after {last}: "
                "call reset() before another video"
            )

    def _step(self, state: _State, seen: Observation) -> tuple[np.ndarray, Sequence[Decision], list[TrackEvent]]:
        frame, last = int(seen.number), state.last_frame
        if not self.options.count_frames:
            frame = max(round(seen.time * self.options.fps), -(2**62) if last is None else last + 1)
        state.last_frame = frame
        count, ids = len(seen.boxes), np.full(len(seen.boxes), -1)
        if state.memory is not None and last is not None:
            self._keep_out_of_view(state.memory, seen, frame - last)
        before = np.zeros(0, np.int64) if state.memory is None else state.memory.ids.copy()
        lost = before[:0] if state.memory is None or last is None else before[state.memory.last_frames < last]
        decisions: Sequence[Decision] = []
        if count == 0:
            if self.options.prune_before_matching:
                state.backdrops.add(np.zeros(0, np.int64), np.zeros((0, 0), np.float32))  # the older ones age
        else:
            if state.memory is None:
                assert seen.embeddings is not None
                state.memory = TrackMemory(seen.embeddings.shape[1], self.options.views)
            if self.options.prune_before_matching:
                state.memory.prune(frame - self.options.memory_frames)
            order = self._order(seen)
            ids[order], decisions = self._link(state, self._visible_of(seen, order), order, count, frame, seen.time)
            if not self.options.prune_before_matching:
                state.memory.prune(frame - self.options.memory_frames + 1)
        after = before if state.memory is None else state.memory.ids
        events = [("born", i) for i in ids[ids >= 0].tolist() if i not in set(before.tolist())]
        events += [("found", i) for i in np.intersect1d(lost, ids).tolist()]
        gone = np.setdiff1d(before, after)
        events += [("lost", i) for i in np.setdiff1d(before, np.concatenate((lost, ids, gone))).tolist()]
        events += [("ended", i) for i in gone.tolist()]
        return ids, decisions, [TrackEvent(kind, i, seen.number, seen.time) for kind, i in events]  # type: ignore[arg-type]

    def _keep_out_of_view(self, memory: TrackMemory, seen: Observation, passed: int) -> None:
        """Tracks that cannot be detected in this frame do not age."""
        hidden = np.full(len(memory), not seen.detector_ran)
        if seen.groups_in_view is not None:
            hidden |= ~np.isin(memory.groups, list(seen.groups_in_view))
        memory.last_frames[hidden] += passed

    def _order(self, seen: Observation) -> np.ndarray:
        """The rows that count, by falling score: those that no better one hides, and pinned ones."""
        order = np.argsort(-seen.scores, kind="stable")
        visible = self._visible(seen.boxes[order], seen.scores[order], seen.labels[order])
        if seen.pins is not None:
            visible |= seen.pins[order] != -1
        return order[visible]

    def _visible_of(self, seen: Observation, order: np.ndarray) -> _Seen:
        """The detections ``order`` (N,) of the observation."""
        assert seen.embeddings is not None
        position = {row: place for place, row in enumerate(order.tolist())} if seen.hints or seen.forbidden else {}
        return _Seen(
            seen.boxes[order],
            seen.scores[order],
            seen.labels[order],
            seen.embeddings[order],
            np.zeros(len(order), np.int64) if seen.groups is None else seen.groups[order],
            np.ones(len(order), bool) if seen.may_start is None else seen.may_start[order],
            None if seen.pins is None else seen.pins[order],
            [(position[row], identity, odds) for row, identity, odds in seen.hints if row in position],
            [(position[row], identity) for row, identity in seen.forbidden if row in position],
        )

    def _link(
        self, state: _State, seen: _Seen, order: np.ndarray, count: int, frame: int, time: float
    ) -> tuple[np.ndarray, Decisions]:
        """Identities (N,) of a frame's visible detections, and all decisions; tracks are renewed and started."""
        memory = state.memory
        assert memory is not None
        embedded = ~np.isnan(seen.embeddings).any(axis=1)
        if not embedded.all():
            seen = seen._replace(embeddings=np.where(embedded[:, None], seen.embeddings, np.float32(0)))
        taken, ignored, pairs, shared = self._match(state, seen, embedded, frame)
        unpinned = taken.copy()
        track_ids = memory.ids.copy()
        pinned, tracks = ids_with_pins(seen.pins, memory.ids)
        taken[pinned] = tracks
        ids = np.full(len(taken), -1)
        matched = np.flatnonzero(taken >= 0)
        ids[matched] = memory.ids[taken[matched]]
        starts = (taken < 0) & ~ignored & (seen.scores > self.options.track_activation_threshold) & seen.may_start
        starts &= embedded
        if seen.pins is not None:
            starts |= (taken < 0) & ((seen.pins == MUST_BE_NEW) | (seen.pins >= 0))
        new = np.flatnonzero(starts)
        born = np.full(len(new), -1) if seen.pins is None else np.maximum(seen.pins[new], -1)
        state.next_id = max(state.next_id, int(born.max(initial=-1)) + 1)
        free = np.flatnonzero(born < 0)
        born[free] = np.arange(state.next_id, state.next_id + len(free))
        state.next_id += len(free)
        ids[new] = born

        momentum, known = self.options.embedding_momentum, matched[embedded[matched]]
        memory.update(
            taken[known], seen.boxes[known], seen.labels[known], seen.embeddings[known], frame, momentum, time
        )
        if new.size:
            memory.add(born, seen.boxes[new], seen.labels[new], seen.embeddings[new], frame, time, seen.groups[new])
        if self.options.backdrop_frames:
            rows = self._new_backdrops(np.flatnonzero((ids < 0) & ~ignored & embedded), seen.boxes)
            state.backdrops.add(seen.labels[rows], seen.embeddings[rows])

        def compute() -> Outcome:
            own = _outcome(ids, unpinned, pairs, shared, track_ids, self.options.match_score_threshold)
            return own.pinned(seen.pins).among(order, count)

        return ids, Decisions(count, compute)

    def _visible(self, boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """(N,) bool, which detections (sorted by score) no better one hides."""
        options = self.options
        hidden = np.zeros(len(boxes), bool)
        if options.distractor_iou_threshold is not None:
            limits = np.where(scores < options.distractor_score_threshold, options.distractor_iou_threshold, _NEVER)
            hidden = hidden_by_better(boxes, limits, labels if options.distractor_nms == "intra" else None)
        if options.class_iou_threshold is not None or options.backdrop_iou_threshold is not None:
            weak, others = options.backdrop_iou_threshold, options.class_iou_threshold
            limits = np.where(
                scores < options.object_score_threshold,
                _NEVER if weak is None else weak,
                _NEVER if others is None else others,
            )
            hidden |= hidden_by_better(boxes, limits)
        return ~hidden

    def _match(
        self, state: _State, seen: _Seen, embedded: np.ndarray, frame: int
    ) -> tuple[np.ndarray, np.ndarray, Candidates | None, np.ndarray]:
        """Row of the track that each detection takes (-1 for none), which detections are to be left alone, the pairs
        that this was chosen from (None without tracks), and which of their columns are backdrops."""
        options, memory = self.options, state.memory
        assert memory is not None
        ignored = np.zeros(len(seen.boxes), bool)
        if len(memory) == 0:
            return np.full(len(seen.boxes), -1), ignored, None, np.zeros(0, bool)
        pairs, shared = self._candidates(memory, state.backdrops, seen, embedded, frame)
        assign = greedy if options.assignment == "greedy" else hungarian
        strong = seen.scores > options.object_score_threshold
        taken = assign(pairs, shared, strong)
        if options.nms_confidence_threshold is not None and not strong.all():
            best, value = best_left(pairs, taken, len(shared))
            is_track = (best >= 0) & (best < len(memory))
            ignored = ~strong & is_track & (value > options.nms_confidence_threshold)
        return taken, ignored, pairs, shared

    def _candidates(
        self,
        memory: TrackMemory,
        backdrops: Backdrops,
        seen: _Seen,
        embedded: np.ndarray,
        frame: int,
    ) -> tuple[Candidates, np.ndarray]:
        """The pairs of detection and column that are similar enough; columns are tracks, then backdrops (shared)."""
        options = self.options
        boxes, labels, embeddings = seen.boxes, seen.labels, seen.embeddings
        backdrop_labels, backdrop_embeddings = backdrops.all(memory.dimension)
        column_labels, columns_embeddings, norms = memory.labels, memory.embeddings, memory.norms
        if len(backdrop_labels):
            column_labels = np.concatenate((column_labels, backdrop_labels))
            columns_embeddings = np.concatenate((columns_embeddings, backdrop_embeddings))
            norms = np.concatenate((norms, lengths(backdrop_embeddings)))
        threshold = options.match_score_threshold
        own = lengths(embeddings)
        if memory.gallery is None:
            products = dot_products(embeddings, columns_embeddings, self._scratch)
        else:
            products = memory.gallery.similarities(embeddings, np.zeros(memory.dimension, np.float32))
            products *= own[:, None] * norms
        rows, columns, values = similar_pairs(options.match_metric, products, own, norms, threshold, self._scratch)
        shared = np.arange(len(column_labels)) >= len(memory)
        # Class and distance can only lower a similarity, so they are asked for the pairs above the threshold alone.
        if options.class_aware:
            same = labels[rows] == column_labels[columns]
            rows, columns, values = rows[same], columns[same], values[same]
        if options.max_distance is not None and options.max_distance != -1:
            near = np.flatnonzero(~shared[columns])
            track = columns[near]
            values[near] *= distance_weights(
                boxes[rows[near]],
                memory.boxes[track],
                np.abs(frame - memory.last_frames[track]),
                options.max_distance,
                options.fps,
            )
            above = values > threshold
            rows, columns, values = rows[above], columns[above], values[above]
        rows, columns, values = self._restricted(memory, seen, embedded, rows, columns, values)
        return sort_candidates(rows, columns, values, len(boxes)), shared

    def _restricted(
        self,
        memory: TrackMemory,
        seen: _Seen,
        embedded: np.ndarray,
        rows: np.ndarray,
        columns: np.ndarray,
        values: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The (K,) pairs that may be, with hints: h nats make of a similarity s one of s e^h / (1 - s + s e^h)."""
        tracks = columns < len(memory)
        ids = np.where(tracks, memory.ids[np.minimum(columns, len(memory) - 1)], -1)
        for position, identity, odds in seen.hints:
            own = (rows == position) & (ids == identity)
            similarity = np.clip(values[own], _LEAST, 1 - _LEAST)
            grown = similarity * np.exp(np.clip(odds, -50, 50))
            values[own] = grown / (1 - similarity + grown)
        groups = memory.groups[np.minimum(columns, len(memory) - 1)]
        may = ~tracks | (groups == seen.groups[rows])
        may &= embedded[rows]
        for position, identity in seen.forbidden:
            may &= ~((rows == position) & (ids == identity))
        if seen.pins is not None:
            may &= (seen.pins[rows] == -1) & ~np.isin(ids, seen.pins[seen.pins >= 0])
        if seen.hints:
            may &= values > self.options.match_score_threshold
        return (rows, columns, values) if may.all() else (rows[may], columns[may], values[may])

    def _new_backdrops(self, rows: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Those of the unmatched detections ``rows`` (K,) that no better one overlaps."""
        limits = np.full(len(boxes), _NEVER)
        limits[rows] = self.options.backdrop_iou_threshold
        return rows[~hidden_by_better(boxes, limits)[rows]]

    def _rename(self, state: _State, old: int, new: int) -> None:
        assert state.memory is not None
        state.memory.ids[state.memory.ids == old] = new

    def _state_arrays(self) -> dict[str, Any]:
        state = self._state
        parts: dict[str, Mapping[str, Any]] = {
            "memory": {} if state.memory is None else state.memory.state_dict(),
            "backdrops": state.backdrops.state_dict(),
        }
        arrays: dict[str, Any] = {
            name: getattr(state, name) for name in ("next_id", "last_number", "last_time", "last_frame")
        }
        return arrays | {f"{part}.{name}": value for part, of in parts.items() for name, value in of.items()}

    def _state_of(self, arrays: Mapping[str, np.ndarray]) -> _State:
        memory = {key[7:]: value for key, value in arrays.items() if key.startswith("memory.")}
        backdrops = {key[10:]: value for key, value in arrays.items() if key.startswith("backdrops.")}
        return _State(
            backdrops=Backdrops.of_state(backdrops, self.options.backdrop_frames),
            next_id=int(arrays["next_id"]),
            memory=TrackMemory.of_state(memory, self.options.views) if memory else None,
            last_number=float(arrays["last_number"]) if "last_number" in arrays else None,
            last_time=float(arrays["last_time"]) if "last_time" in arrays else None,
            last_frame=int(arrays["last_frame"]) if "last_frame" in arrays else None,
        )


def _outcome(
    ids: np.ndarray,
    taken: np.ndarray,
    pairs: Candidates | None,
    shared: np.ndarray,
    track_ids: np.ndarray,
    threshold: float,
) -> Outcome:
    """The columns of the decisions of N visible detections; ``log_odds`` are similarities, 0..1.

    Args:
        ids: (N,) their identities.
        taken: (N,) the tracks that they took, -1 for none.
        pairs: what it was chosen from; None without tracks.
        shared: (M + B,) bool, which of its columns are backdrops.
        track_ids: (M,) identities of the tracks.
        threshold: similarity above which a pair may match.
    """
    outcome = no_decisions(len(ids), ("appearance",))
    outcome.identities[:] = ids
    if pairs is None:
        return outcome
    best, second = best_left(pairs, np.where(taken >= 0, taken, -1), len(shared))
    own = np.zeros(len(ids))
    chosen = taken[pairs.rows] == pairs.columns
    own[pairs.rows[chosen]] = pairs.values[chosen]
    has, rival = taken >= 0, best >= 0
    outcome.log_odds[:] = own
    outcome.terms["appearance"][has] = own[has]
    outcome.margins[:] = np.where(has, own - np.maximum(second, threshold), np.where(rival, threshold - second, np.inf))
    of_rival = np.where(rival & (best < len(track_ids)), np.append(track_ids, -1)[np.minimum(best, len(track_ids))], -1)
    outcome.runners_up[:] = np.where(rival, of_rival, np.where(has, NEW_IDENTITY, NO_RUNNER_UP))
    return outcome


def distance_weights(
    boxes: np.ndarray, others: np.ndarray, gaps: np.ndarray, max_distance: float, fps: float
) -> np.ndarray:
    """The soft distance gate, for pairs: 1 within a radius that grows with the gap, falling beyond it.

    Args:
        boxes: (K, 4) float32 xyxy, one of each pair.
        others: (K, 4) float32 xyxy, the other.
        gaps: (K,) frames between the two.
        max_distance: the radius in pixels without a gap.
        fps: frames a second.

    Returns:
        (K,) float32: 1 where the centres are within r = ``max_distance`` * exp(gap / (fps / 6)), else
        exp(-(distance - r) / (100 / fps)).

    Source: the authors' `MasaTaoTracker`.
    """
    offset = (boxes[:, :2] + boxes[:, 2:]) / 2 - (others[:, :2] + others[:, 2:]) / 2
    distance = np.sqrt((offset**2).sum(axis=1))
    with np.errstate(over="ignore"):  # a long gap gives an infinite radius, which is meant
        radius = max_distance * np.exp(gaps.astype(np.float32) / np.float32(fps / 6))
    return np.exp(-np.maximum(distance - radius, 0) / np.float32(100 / fps))
