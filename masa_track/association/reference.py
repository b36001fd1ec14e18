"""The association engine: gives each detection of a frame the identity of a remembered track, or a new one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from masa_track.association.matching import Candidates, best_left, greedy, hungarian, sort_candidates
from masa_track.association.memory import Backdrops, TrackMemory, lengths
from masa_track.association.presets import options_of
from masa_track.association.similarity import Scratch, dot_products, similar_pairs
from masa_track.boxes import hidden_by_better
from masa_track.checks import checked
from masa_track.errors import InputError

_NEVER = 2.0  # an IoU that no two boxes have


@dataclass
class _State:
    """All that changes from frame to frame. An update works on a copy, which replaces the state when it is complete.

    ``memory`` holds the tracks (None before the first detection), ``backdrops`` the unmatched detections, ``next_id``
    the next identity, ``last_frame`` the number of the last frame (None before the first).
    """

    backdrops: Backdrops
    next_id: int
    memory: TrackMemory | None = None
    last_frame: int | None = None

    def copy(self) -> _State:
        """A state whose changes leave this one as it is."""
        return replace(
            self, backdrops=self.backdrops.copy(), memory=None if self.memory is None else self.memory.copy()
        )


class Associator:
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

    def update(
        self,
        boxes: np.ndarray,
        scores: np.ndarray,
        labels: np.ndarray,
        embeddings: np.ndarray,
        frame_index: int,
    ) -> np.ndarray:
        """Gives the detections of one frame their identities.

        Args:
            boxes: (N, 4) xyxy pixels.
            scores: (N,).
            labels: (N,) whole numbers.
            embeddings: (N, D), not normalised.
            frame_index: the frame's number; larger than the one before, gaps are fine.

        Returns:
            (N,) int64 identities in the order of the boxes, -1 for none.

        Raises:
            InputError: for shapes that do not fit, numbers that are not finite, a frame that does not come later.
        """
        before = self._state
        boxes, scores, labels, embeddings = checked(
            boxes, scores, labels, embeddings, None if before.memory is None else before.memory.dimension
        )
        frame = int(frame_index)
        if before.last_frame is not None and frame <= before.last_frame:
            raise InputError(
                f"frame_index must grow from call to call, got {frame} after {before.last_frame}: "
                "call reset() before another video"
            )
        state = before.copy()
        state.last_frame = frame
        result = self._link(state, boxes, scores, labels, embeddings, frame)
        self._state = state  # the only place where anything changes
        return result

    @property
    def last_frame(self) -> float | None:
        """The number of the last frame that was tracked; None before the first."""
        return self._state.last_frame

    @property
    def memory(self) -> TrackMemory | None:
        """The tracks that can still be matched; None before the first detection."""
        return self._state.memory

    def _link(
        self,
        state: _State,
        boxes: np.ndarray,
        scores: np.ndarray,
        labels: np.ndarray,
        embeddings: np.ndarray,
        frame: int,
    ) -> np.ndarray:
        """Identities (N,) of a frame's detections; the tracks are renewed, and new ones begin."""
        count = len(boxes)
        if count == 0:
            if self.options.prune_before_matching:
                state.backdrops.add(labels, embeddings)  # none, but the older ones grow a frame older
            return np.empty(0, np.int64)
        if state.memory is None:
            state.memory = TrackMemory(embeddings.shape[1], self.options.views)
        memory = state.memory
        if self.options.prune_before_matching:
            memory.prune(frame - self.options.memory_frames)

        order = np.argsort(-scores, kind="stable")
        order = order[self._visible(boxes[order], scores[order], labels[order])]
        boxes, scores, labels, embeddings = boxes[order], scores[order], labels[order], embeddings[order]
        taken, ignored = self._match(state, boxes, scores, labels, embeddings, frame)
        ids = np.full(len(boxes), -1)
        matched = np.flatnonzero(taken >= 0)
        ids[matched] = memory.ids[taken[matched]]
        new = np.flatnonzero((taken < 0) & ~ignored & (scores > self.options.track_activation_threshold))
        ids[new] = np.arange(state.next_id, state.next_id + len(new))
        state.next_id += len(new)

        momentum = self.options.embedding_momentum
        memory.update(taken[matched], boxes[matched], labels[matched], embeddings[matched], frame, momentum)
        if new.size:
            memory.add(ids[new], boxes[new], labels[new], embeddings[new], frame)
        if self.options.backdrop_frames:
            rows = self._new_backdrops(np.flatnonzero((ids < 0) & ~ignored), boxes)
            state.backdrops.add(labels[rows], embeddings[rows])
        if not self.options.prune_before_matching:
            memory.prune(frame - self.options.memory_frames + 1)

        result = np.full(count, -1)
        result[order] = ids
        return result

    def _visible(self, boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Positions of the detections (sorted by score) that no better one hides."""
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
        return np.flatnonzero(~hidden)

    def _match(
        self,
        state: _State,
        boxes: np.ndarray,
        scores: np.ndarray,
        labels: np.ndarray,
        embeddings: np.ndarray,
        frame: int,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Row of the track that each detection takes (-1 for none), and which detections are to be left alone."""
        options, memory = self.options, state.memory
        assert memory is not None
        ignored = np.zeros(len(boxes), bool)
        if len(memory) == 0:
            return np.full(len(boxes), -1), ignored
        pairs, shared = self._candidates(memory, state.backdrops, boxes, labels, embeddings, frame)
        assign = greedy if options.assignment == "greedy" else hungarian
        strong = scores > options.object_score_threshold
        taken = assign(pairs, shared, strong)
        if options.nms_confidence_threshold is not None and not strong.all():
            best, value = best_left(pairs, taken, len(shared))
            is_track = (best >= 0) & (best < len(memory))
            ignored = ~strong & is_track & (value > options.nms_confidence_threshold)
        return taken, ignored

    def _candidates(
        self,
        memory: TrackMemory,
        backdrops: Backdrops,
        boxes: np.ndarray,
        labels: np.ndarray,
        embeddings: np.ndarray,
        frame: int,
    ) -> tuple[Candidates, np.ndarray]:
        """The pairs of detection and column that are similar enough; columns are tracks, then backdrops (shared)."""
        options = self.options
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
        return sort_candidates(rows, columns, values, len(boxes)), shared

    def _new_backdrops(self, rows: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Those of the unmatched detections ``rows`` (K,) that no better one overlaps."""
        limits = np.full(len(boxes), _NEVER)
        limits[rows] = self.options.backdrop_iou_threshold
        return rows[~hidden_by_better(boxes, limits)[rows]]


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
