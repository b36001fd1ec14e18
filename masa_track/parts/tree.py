"""Which thing a part belongs to, and identities of parts that last as long as those of their things."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from masa_track.association import AppearancePrior
from masa_track.association.engine import check_observation
from masa_track.association.evidence.fused import FusedAssociator
from masa_track.boxes import box_iou
from masa_track.contracts import Observation
from masa_track.errors import InputError
from masa_track.parts.hierarchy import Hierarchy

LEAST_SHARE = 0.5
FIRST_PART_ID = 1_000_000
# A thing that becomes partly hidden has another box, which moves its parts in its coordinates; in the picture they
# stay. A part that overlaps its place in the frame before gets up to so many nats for its identity: 29 switches of
# identities became 21 on the films of `tools/bench_parts.py --films 2 --frames 60`; 40 nats gave 27.
CONTINUITY_SECONDS, CONTINUITY_IOU, CONTINUITY_NATS = 0.25, 0.3, 15.0
_SIDE = 1000.0  # a parent's width and height in the coordinates of its parts
# Options of the associator of parts. A part stays in its parent: it does not leave, there is no border, and no cut.
# Its memory is longer than that of things, because a part may have been hidden before its thing was lost.
# Motion in the parent's frame is slow and soon forgotten. With these numbers a part is found again at up to a quarter
# of its parent's size from its last place after one frame, and at up to about a third of it after 10 s. They were
# chosen on scripted boxes, not tuned on videos with parts.
OPTIONS: dict[str, Any] = {
    "track_activation_threshold": 0.3,
    "high_score_threshold": 0.3,
    "sure_score": 0.0,
    "memory_seconds": 120.0,
    "forgetting_seconds": 1e6,
    "motion_memory_seconds": 1e6,
    "missing_odds": 0.0,
    "entry_odds": 0.0,
    "cut_odds": -1e6,
    "motion_speed": 0.7,
    "motion_persistence": 0.1,
    "jump_odds": -20.0,
    "match_odds": -9.0,
    "use_appearance": False,  # by place and size alone, unless embeddings are given and wanted
    "class_aware": True,
}


def assign_parents(
    hierarchy: Hierarchy,
    labels: np.ndarray,
    boxes: np.ndarray,
    masks: np.ndarray | None = None,
    least_share: float = LEAST_SHARE,
) -> np.ndarray:
    """The row of the object that each part belongs to.

    It is of the class that the part's class is a part of, and holds the largest share of the part's pixels (of its box
    where there are no masks); of equal shares, the smaller object's counts.

    Args:
        hierarchy: the classes.
        labels: (N,) classes of things, parts and stuff.
        boxes: (N, 4) xyxy pixels.
        masks: (N, H, W) bool; None: boxes decide.
        least_share: of the part that must be inside of its object, 0..1. The rest may stand out, e.g. where the
            object's mask is poor.

    Returns:
        (N,) int64 rows; -1 for things, for stuff, and for parts without such an object.

    Raises:
        InputError: a label is not one of the hierarchy's.
    """
    count = len(hierarchy.nodes)
    labels = np.asarray(labels, np.int64)
    if ((labels < 0) | (labels >= count)).any():
        raise InputError(f"labels must be classes 0..{count - 1} of the hierarchy, got {labels.tolist()}")
    parents = np.full(len(labels), -1, np.int64)
    wanted = np.array([node.parent for node in hierarchy.nodes])[labels]
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    sizes = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) if masks is None else masks.sum(axis=(1, 2))
    for row in np.flatnonzero(wanted >= 0).tolist():
        parents[row] = holder_of(row, np.flatnonzero(labels == wanted[row]), sizes, boxes, masks, least_share)
    return parents


def holder_of(
    row: int,
    objects: np.ndarray,
    sizes: np.ndarray,
    boxes: np.ndarray,
    masks: np.ndarray | None = None,
    least_share: float = LEAST_SHARE,
) -> int:
    """Which of some objects holds the largest share of a part; see :func:`assign_parents`.

    Args:
        row: of the part.
        objects: (K,) rows of the objects.
        sizes: (N,) pixels of all rows.
        boxes: (N, 4) xyxy pixels.
        masks: (N, H, W) bool; None: boxes decide.
        least_share: of the part that must be inside of its object.

    Returns:
        Its row; -1 for none.
    """
    if masks is None:
        low = np.maximum(boxes[row, :2], boxes[objects, :2])
        high = np.minimum(boxes[row, 2:], boxes[objects, 2:])
        shared = np.maximum(high - low, 0).prod(axis=1)
    else:
        y, x = np.nonzero(masks[row])
        shared = masks[objects[:, None], y, x].sum(axis=1)  # only the pixels of the part are read
    shares = shared / max(float(sizes[row]), 1e-6)
    inside = shares >= least_share
    if not inside.any():
        return -1
    return int(objects[np.lexsort((sizes[objects], -np.where(inside, shares, -1)))[0]])


@dataclass(frozen=True)
class PartIdentities:
    """The rows of a frame in the tree, in the order of the detections.

    Attributes:
        identities: (N,) int64: of things as they were given; of parts their own; -1 for none.
        parent_ids: (N,) int64 identity of the object that a part belongs to; -1 for none.
        parents: (N,) int64 its row; -1 for none.
    """

    identities: np.ndarray
    parent_ids: np.ndarray
    parents: np.ndarray


@dataclass(frozen=True)
class _Shown:
    """The parts of one level in the last frame: its time, and their boxes in the picture, classes, parents and ids."""

    time: float = -np.inf
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    labels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    parent_ids: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    ids: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def hints(self, boxes: np.ndarray, labels: np.ndarray, parent_ids: np.ndarray) -> list[tuple[int, int, float]]:
        """Nats for each part that overlaps one of its parent and class in the last frame, in the picture."""
        overlaps = box_iou(np.asarray(boxes, np.float32), self.boxes)
        alike = (labels[:, None] == self.labels) & (parent_ids[:, None] == self.parent_ids)
        rows, places = np.nonzero(alike & (overlaps > CONTINUITY_IOU))
        nats = CONTINUITY_NATS * (overlaps[rows, places] - CONTINUITY_IOU) / (1 - CONTINUITY_IOU)
        return list(zip(rows.tolist(), self.ids[places].tolist(), nats.tolist(), strict=True))


class PartTracker:
    """Gives parts identities of their own, each below the identity of its thing.

    For each level of the hierarchy, one associator links the parts on boxes in the coordinates of their parents, within
    the same parent and class. So a part that was hidden is found again by its place in its parent, and parts come back
    with their thing. A part without a parent, and a part whose parent has no identity, has none either. A part that
    changes its parent gets another identity; back at the first parent, it has its first one again.

    Place and size decide; with ``use_appearance=True`` also the embeddings of the observation.

    Args:
        hierarchy: the classes.
        first_id: the first identity of parts; choose it above all identities of things.
        least_share: see :func:`assign_parents`.
        prior: cosines to expect of the embeddings, with ``use_appearance=True``; None: learned from the video.
        **overrides: options of :class:`~masa_track.association.evidence.options.FusedOptions` to change.

    Raises:
        InputError: for an option that is unknown or cannot be.
    """

    def __init__(
        self,
        hierarchy: Hierarchy,
        first_id: int = FIRST_PART_ID,
        least_share: float = LEAST_SHARE,
        prior: AppearancePrior | None = None,
        **overrides: Any,
    ) -> None:
        self.hierarchy, self._prior = hierarchy, prior
        self.first_id = first_id
        self.least_share = least_share
        self._level_of = np.array([len(hierarchy.path(label)) - 1 for label in range(len(hierarchy.nodes))])
        self._options = {**OPTIONS, **overrides}
        self._levels = self._new()
        self._shown = [_Shown() for _ in self._levels]

    def _new(self) -> list[FusedAssociator]:
        return [FusedAssociator(prior=self._prior, **self._options) for _ in range(int(self._level_of.max()))]

    def reset(self) -> None:
        """Forgets everything, for another video."""
        self._levels = self._new()
        self._shown = [_Shown() for _ in self._levels]

    def update(
        self, observation: Observation, identities: np.ndarray, masks: np.ndarray | None = None
    ) -> PartIdentities:
        """Identities of the parts in a frame. All or nothing.

        Args:
            observation: things, parts and stuff, with classes of the hierarchy. Groups, hints and pins are not used;
                embeddings of parts (NaN for those without) only with ``use_appearance=True``.
            identities: (N,) int64 of things, -1 where there is none; those of parts are not used.
            masks: (N, H, W) bool, for :func:`assign_parents`.

        Raises:
            InputError: for an observation that cannot be used, whose time is not later than the last one's, or in which
                two things have the same identity.
        """
        seen = check_observation(observation, None, needs_embeddings=False)
        embeddings = seen.embeddings if self._options["use_appearance"] else None
        if self._options["use_appearance"] and embeddings is None and len(seen.boxes):
            raise InputError("embeddings must be given where use_appearance=True, got None")
        parents = assign_parents(self.hierarchy, seen.labels, seen.boxes, masks, self.least_share)
        known = np.where(self._level_of[seen.labels] == 0, identities, -1).astype(np.int64)
        given = known[known >= 0]
        if len(np.unique(given)) < len(given):
            raise InputError(f"each of identities must belong to one thing, got {sorted(given.tolist())}")
        parent_ids = np.full(len(parents), -1, np.int64)
        shown: list[_Shown] = []
        levels = [copy(level) for level in self._levels]  # an update replaces the state of the copy, and changes none
        for depth, level in enumerate(levels, start=1):
            rows = np.flatnonzero((self._level_of[seen.labels] == depth) & (parents >= 0))
            parent_ids[rows] = known[parents[rows]]
            rows = rows[parent_ids[rows] >= 0]
            above = known[(self._level_of[seen.labels] == depth - 1) & (known >= 0)]
            boxes, own = seen.boxes[rows], self._shown[depth - 1]
            fresh = seen.time - own.time <= CONTINUITY_SECONDS
            ids, _, _ = level.update(
                Observation(
                    seen.number,
                    seen.time,
                    None,
                    in_parent(seen.boxes[rows], seen.boxes[parents[rows]]),
                    seen.scores[rows],
                    seen.labels[rows],
                    None if embeddings is None else embeddings[rows],
                    detector_ran=seen.detector_ran,
                    groups=parent_ids[rows],
                    groups_in_view=frozenset(above.tolist()),
                    hints=own.hints(boxes, seen.labels[rows], parent_ids[rows]) if fresh else (),
                )
            )
            kept = ids >= 0
            shown.append(_Shown(seen.time, boxes[kept], seen.labels[rows][kept], parent_ids[rows][kept], ids[kept]))
            known[rows] = np.where(ids >= 0, self.first_id + ids * len(levels) + depth - 1, -1)
        self._levels, self._shown = levels, shown
        return PartIdentities(known, parent_ids, parents)

    def reserve(self, identity: int) -> None:
        """No new part gets an identity up to this one, which is one of a part."""
        for level in self._levels:
            level.reserve((identity - self.first_id) // len(self._levels))

    def state_dict(self) -> dict[str, np.ndarray]:
        """The state as arrays of numbers and text, which need no unpickling."""
        state = {
            f"level{depth}/{name}": value
            for depth, level in enumerate(self._levels, start=1)
            for name, value in level.state_dict().items()
        }
        shown = {
            f"shown{depth}/{name}": np.asarray(value)
            for depth, own in enumerate(self._shown, start=1)
            for name, value in asdict(own).items()
        }
        return state | shown

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Takes over a state of the same hierarchy with the same options.

        Raises:
            InputError: the state does not fit; the tracker is as it was then.
        """
        levels, shown = self._new(), []
        for depth, level in enumerate(levels, start=1):
            start = f"level{depth}/"
            level.load_state_dict({key.removeprefix(start): v for key, v in state.items() if key.startswith(start)})
            try:
                own = {one.name: np.array(state[f"shown{depth}/{one.name}"]) for one in fields(_Shown)}
                shown.append(_Shown(**{**own, "time": own["time"].item()}))
            except (LookupError, ValueError) as error:
                raise InputError(f"state must be that of a PartTracker: {error!r}") from error
        self._levels, self._shown = levels, shown


def in_parent(boxes: np.ndarray, parents: np.ndarray) -> np.ndarray:
    """(N, 4) boxes in the coordinates of (N, 4) parents, whose corners are (0, 0) and (1000, 1000)."""
    size = np.maximum(parents[:, 2:] - parents[:, :2], 1.0)
    return ((boxes - np.tile(parents[:, :2], 2)) / np.tile(size, 2) * _SIDE).astype(np.float32)
