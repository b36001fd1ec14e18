"""Which masklets of one phrase are born, matched, removed, hidden and reconditioned: the tracking logic of SAM 3.

numpy only. Source: Carion et al., SAM 3: Segment Anything with Concepts, 2025, and its official video model, whose
decisions these are, option for option; not its code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linear_sum_assignment

from masa_track.boxes import box_iou
from masa_track.masklets.concept_options import ConceptOptions
from masa_track.masklets.mask_logits import EMPTY, crowded_out, mask_iou, mask_nms, without_specks
from masa_track.masks import mask_box

NEVER = -1  # `Masklet.occluded` of one that never was


@dataclass(frozen=True)
class Instances:
    """The detections of one phrase in one frame.

    Attributes:
        boxes: (N, 4) float32 xyxy, in parts of the picture's sides, 0..1.
        scores: (N,) float32.
        logits: (N, h, w) float32 mask logits.
    """

    boxes: np.ndarray
    scores: np.ndarray
    logits: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    def kept(self, options: ConceptOptions) -> np.ndarray:
        """(M,) rows above the least score, ascending, with masks that are not empty or suppressed by a better one."""
        rows = np.flatnonzero((self.scores > options.least_score) & (self.logits > 0).any(axis=(1, 2)))
        return rows[mask_nms(self.logits[rows] > 0, self.scores[rows], options.nms_iou)]


@dataclass
class Masklet:
    """What is counted of one masklet.

    Attributes:
        first: frame of its birth.
        score: of the detection that started it.
        alive: the keep-alive counter.
        unmatched: frames in which it was unmatched.
        shared: by older masklet, how many detections it shared with that one, several of one frame each.
        occluded: the last frame in which it was empty or emptied; -1: never.
        empty: frames in a row in which its mask was empty, up to the last one.
        alone: frames in a row in which it was empty or unmatched.
        in_a_row: frames in a row in which it was matched.
        confirmed: frame in which it was matched often enough in a row; None: not yet.
    """

    first: int
    score: float
    alive: int
    unmatched: int = 0
    shared: dict[int, int] = field(default_factory=dict)
    occluded: int = NEVER
    empty: int = 0
    alone: int = 0
    in_a_row: int = 1
    confirmed: int | None = None


@dataclass(frozen=True)
class Plan:
    """What one frame decides, of one phrase.

    Attributes:
        number: of the frame.
        ids: (K,) identities before this frame, in order of birth.
        matched: rows of detections to the identities that each matches.
        best: identities to the row of the detection that each has the highest IoU with, and that IoU, where they match.
        pairs: identities to the row of the detection that they agree with.
        new: identities that are born, to the row of their detection.
        dropped: how many new ones the limit left out.
        unmatched: identities that no detection follows.
        removed: identities that are taken back: they should not have been born.
        ended: identities that end here: their instance has gone.
        hidden: identities that are not shown in this frame, by their keep-alive counter.
        reconditioned: identities whose memory takes the mask of a detection, to its row.
        mismatched: whether the boxes of a pair differ, so that all pairs are shown with the detection's mask.
        memory: (K, h, w) float32 logits for the memory.
        shown: identities to (h, w) float32 logits, of those that can be shown in this frame.
        probabilities: identities to the probability by which they compete for pixels.
    """

    number: int
    ids: np.ndarray
    matched: dict[int, list[int]]
    best: dict[int, tuple[int, float]]
    pairs: dict[int, int]
    new: dict[int, int]
    dropped: int
    unmatched: list[int]
    removed: list[int]
    ended: list[int]
    hidden: list[int]
    reconditioned: dict[int, int]
    mismatched: bool
    memory: np.ndarray
    shown: dict[int, np.ndarray]
    probabilities: dict[int, float]


class ConceptLogic:
    """The masklets of one phrase.

    Args:
        options: see :class:`ConceptOptions`.
        next_identity: gives an identity that was never used; None: 0, 1, 2 and so on.

    Attributes:
        masklets: those that live, in order of birth.
    """

    def __init__(self, options: ConceptOptions, next_identity: Callable[[], int] | None = None) -> None:
        self.options = options
        self.masklets: dict[int, Masklet] = {}
        self._count = 0
        self._next = next_identity or self._numbered

    def _numbered(self) -> int:
        self._count += 1
        return self._count - 1

    def step(self, number: int, found: Instances, logits: np.ndarray, object_logits: np.ndarray) -> Plan:
        """Decides one frame.

        Args:
            number: of the frame, from 0 on, one more (in reverse: less) than before.
            found: its N detections, after :meth:`Instances.kept`.
            logits: (K, h, w) float32 propagated masks of ``masklets``, in their order.
            object_logits: (K,) log-odds that each is visible.
        """
        options, ids = self.options, list(self.masklets)
        logits = np.array([without_specks(mask, options.hole_area) for mask in logits], np.float32)
        logits = logits.reshape(len(ids), *found.logits.shape[1:])
        masks = logits > 0
        empty = np.asarray(~masks.any(axis=(1, 2)))
        overlap = mask_iou(found.logits > 0, masks)  # (N, K)
        matches = overlap >= options.match_iou
        unmatched = np.asarray(~empty & ~self._followed(overlap))
        new, dropped = self._new(found, matches, len(ids))
        pairs = self._pairs(found, overlap, set(new))
        matched = np.asarray(matches.any(axis=0))
        self._count_matches(ids, matched, unmatched, empty)
        removed = self._removed(number, ids, matches, unmatched)
        ended = self._ended(ids, empty, unmatched, removed)
        hidden = self._hidden(number, ids, removed)
        reconditioned = {}
        differs = bool(pairs) and options.mismatch_iou > 0 and self._differs(found, masks, pairs)
        if differs or (options.recondition_frames and number % options.recondition_frames == 0):
            reconditioned = {k: n for k, n in pairs.items() if object_logits[k] > options.recondition_logit}
        self._occlude(number, ids, logits, empty)
        memory = logits.copy()
        memory[crowded_out(logits)] = EMPTY
        shown = dict(zip(ids, logits, strict=True))
        probabilities = dict(zip(ids, _sigmoid(object_logits).tolist(), strict=True))
        if differs:
            for k, n in pairs.items():
                shown[ids[k]] = without_specks(found.logits[n], options.hole_area)
        born = {self._next(): n for n in new}
        for identity, n in born.items():
            score = float(found.scores[n])
            self.masklets[identity] = Masklet(number, score, options.alive_start)
            shown[identity] = without_specks(found.logits[n], options.hole_area)
            probabilities[identity] = score
        self._confirm(number, ids, matched, list(born))
        for identity in removed:
            del shown[identity]
        for identity in (*removed, *ended):
            del self.masklets[identity]
        return Plan(
            number,
            np.array(ids, np.int64),
            {n: [ids[k] for k in np.flatnonzero(row)] for n, row in enumerate(matches) if row.any()},
            {
                identity: (int(overlap[:, k].argmax()), float(overlap[:, k].max()))
                for k, identity in enumerate(ids)
                if matches[:, k].any()
            },
            {ids[k]: n for k, n in pairs.items()},
            born,
            dropped,
            [ids[k] for k in np.flatnonzero(unmatched)],
            removed,
            ended,
            hidden,
            {ids[k]: n for k, n in reconditioned.items() if ids[k] in self.masklets},
            differs,
            memory,
            shown,
            probabilities,
        )

    def _followed(self, overlap: np.ndarray) -> np.ndarray:
        """(K,) bool, masklets that a detection follows, of IoU (N, K)."""
        options = self.options
        if not options.one_to_one:
            return np.asarray((overlap >= options.follow_iou).any(axis=0))
        rows, columns = linear_sum_assignment(1 - overlap)
        followed = np.zeros(overlap.shape[1], bool)
        followed[columns] = overlap[rows, columns] >= options.follow_iou
        return followed

    def _new(self, found: Instances, matches: np.ndarray, known: int) -> tuple[list[int], int]:
        """Rows of detections that start a masklet, and how many the limit leaves out."""
        options = self.options
        if known:
            new = np.flatnonzero((found.scores >= options.birth_score) & ~matches.any(axis=1))
        else:
            new = np.arange(len(found))
        if options.border > 0:
            centres = (found.boxes[new, :2] + found.boxes[new, 2:]) / 2
            new = new[((centres >= options.border) & (centres <= 1 - options.border)).all(axis=1)]
        room = len(new) if options.most_objects is None else max(options.most_objects - known, 0)
        if room >= len(new):
            return new.tolist(), 0
        best = new[np.argsort(-found.scores[new], kind="stable")[:room]]
        return best.tolist(), len(new) - room

    def _pairs(self, found: Instances, overlap: np.ndarray, new: set[int]) -> dict[int, int]:
        """Places of masklets to the detection that agrees with each and is certain; of several, the last one."""
        options = self.options
        pairs: dict[int, int] = {}
        if overlap.shape[1]:
            for n, k in enumerate(overlap.argmax(axis=1).tolist()):
                certain = found.scores[n] >= options.recondition_score and overlap[n, k] >= options.recondition_iou
                if certain and n not in new:
                    pairs[k] = n
        return pairs

    def _count_matches(self, ids: list[int], matched: np.ndarray, unmatched: np.ndarray, empty: np.ndarray) -> None:
        options = self.options
        for k, masklet in enumerate(map(self.masklets.__getitem__, ids)):
            if matched[k]:
                masklet.alive = min(masklet.alive + 1, options.alive_most)
            if unmatched[k]:
                masklet.unmatched += 1
                masklet.alive = max(masklet.alive - 1, options.alive_least)
            if empty[k] and options.empty_is_unmatched:
                masklet.alive = max(masklet.alive - 1, options.alive_least)

    def _young(self, number: int, masklet: Masklet) -> bool:
        return abs(number - masklet.first) < self.options.hot_start

    def _removed(self, number: int, ids: list[int], matches: np.ndarray, unmatched: np.ndarray) -> list[int]:
        """Young masklets that were unmatched too often, or shared detections with an older one too often."""
        options, removed = self.options, set()
        for k, identity in enumerate(ids):
            masklet = self.masklets[identity]
            often = options.unmatched_frames and masklet.unmatched >= options.unmatched_frames
            if unmatched[k] and often and self._young(number, masklet):
                removed.add(identity)
        for older, identity in self._sharing(ids, matches):
            masklet = self.masklets[identity]
            if not (options.duplicate_frames and self._young(number, masklet)):
                masklet.shared = {}  # which is not needed any more
                continue
            masklet.shared[older] = masklet.shared.get(older, 0) + 1
            if masklet.shared[older] >= options.duplicate_frames:
                removed.add(identity)
        return [identity for identity in ids if identity in removed]

    def _ended(self, ids: list[int], empty: np.ndarray, unmatched: np.ndarray, removed: list[int]) -> list[int]:
        """Masklets that were empty, or empty or unmatched, in too many frames in a row."""
        options, ended = self.options, []
        for k, identity in enumerate(ids):
            masklet = self.masklets[identity]
            masklet.empty = masklet.empty + 1 if empty[k] else 0
            masklet.alone = masklet.alone + 1 if empty[k] or unmatched[k] else 0
            gone = options.end_empty and masklet.empty >= options.end_empty
            lost = options.end_unmatched and masklet.alone >= options.end_unmatched
            if (gone or lost) and identity not in removed:
                ended.append(identity)
        return ended

    def _sharing(self, ids: list[int], matches: np.ndarray) -> list[tuple[int, int]]:
        """(oldest, other) masklets that match one detection in this frame, once for each such detection."""
        pairs: list[tuple[int, int]] = []
        for row in matches:
            group = [ids[k] for k in np.flatnonzero(row)]
            if len(group) > 1:
                births = [self.masklets[identity].first for identity in group]
                oldest = group[births.index(max(births) if self.options.reverse else min(births))]
                pairs += [(oldest, identity) for identity in group if identity != oldest]
        return pairs

    def _hidden(self, number: int, ids: list[int], removed: list[int]) -> list[int]:
        if not self.options.hide_unmatched:
            return []
        living = (identity for identity in ids if identity not in removed)
        return [i for i in living if self.masklets[i].unmatched and self.masklets[i].alive <= 0]

    def _differs(self, found: Instances, masks: np.ndarray, pairs: dict[int, int]) -> bool:
        """Whether the boxes of a pair differ too much."""
        height, width = masks.shape[1:]
        for k, n in pairs.items():
            box = mask_box(masks[k])  # not empty: a pair overlaps
            assert box is not None
            box[2:] -= 1  # the official box ends at the last pixel
            box /= (width, height, width, height)
            if box_iou(box[None], found.boxes[n][None])[0, 0] < self.options.mismatch_iou:
                return True
        return False

    def _occlude(self, number: int, ids: list[int], logits: np.ndarray, empty: np.ndarray) -> None:
        """Empties logits (K, h, w) of masklets that were occluded more recently than one that they overlap."""
        emptied = empty.copy()
        if self.options.occlusion_iou > 0:
            last = np.array([self.masklets[identity].occluded for identity in ids])
            over = np.triu(mask_iou(logits > 0, logits > 0) >= self.options.occlusion_iou, 1)
            sign = -1 if self.options.reverse else 1
            for one, two in zip(*np.nonzero(over), strict=True):
                if sign * last[one] > sign * last[two] and last[two] > NEVER:
                    emptied[one] = True
                if sign * last[two] > sign * last[one] and last[one] > NEVER:
                    emptied[two] = True
            logits[emptied & ~empty] = EMPTY
        for k in np.flatnonzero(emptied):
            self.masklets[ids[k]].occluded = number

    def _confirm(self, number: int, ids: list[int], matched: np.ndarray, born: list[int]) -> None:
        """Counts frames in a row; a newborn masklet was matched in one."""
        for identity, there in zip(ids, matched, strict=True):
            masklet = self.masklets[identity]
            masklet.in_a_row = masklet.in_a_row + 1 if there else 0
        for identity in (*ids, *born):
            masklet = self.masklets[identity]
            if masklet.confirmed is None and masklet.in_a_row >= self.options.confirm_frames:
                masklet.confirmed = number


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    """float32 probabilities of log-odds."""
    return np.asarray(1 / (1 + np.exp(-np.clip(np.asarray(logits, np.float32), -80, 80))), np.float32)
