"""Parts of things: average precision, whether parts have the right parent, and identity switches.

Source of the average precision: Lin et al., Microsoft COCO, ECCV 2014: IoU .5 to .95, 101 points of recall.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from masa_track.boxes import box_iou
from masa_track.errors import InputError
from masa_track.formats.run import Run
from masa_track.masks import Rle, mask_api

IOUS = np.linspace(0.5, 0.95, 10)
_RECALLS = np.linspace(0, 1, 101)
_MOST = 100  # found boxes of a class and a frame that count, as in COCO
_MATCH_IOU = 0.5


@dataclass(frozen=True)
class PartFrame:
    """The rows of a frame, things and parts.

    Attributes:
        boxes: (N, 4) xyxy pixels.
        scores: (N,) 0..1; not used of the truth.
        labels: (N,) classes, the same numbers in truth and results.
        ids: (N,) identities.
        parent_ids: (N,) identity of what a part belongs to; -1 for things and for parts without a parent.
        is_part: (N,) bool.
        masks: N run lengths; None: boxes are compared.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    ids: np.ndarray
    parent_ids: np.ndarray
    is_part: np.ndarray
    masks: Sequence[Rle] | None = None


@dataclass
class PartScores:
    """Scores of one class of parts, or of all.

    Attributes:
        ap: mean over IoU thresholds; of all classes the mean over those that the truth has. NaN without truth.
        ap50: at IoU .5.
        truths: true parts.
        matched: those with a found part of their class and an IoU of .5 or more, assigned one to one.
        parents_right: matched parts whose found parent is matched to the true one, or that rightly have none.
        switches: matched parts whose identity is not that of their match before.
        identities: different true identities.
    """

    ap: float = math.nan
    ap50: float = math.nan
    truths: int = 0
    matched: int = 0
    parents_right: int = 0
    switches: int = 0
    identities: int = 0

    @property
    def consistency(self) -> float:
        """Share of matched parts whose parent is right; NaN without any."""
        return self.parents_right / self.matched if self.matched else math.nan


def score_parts(truth: Sequence[PartFrame], found: Sequence[PartFrame]) -> dict[int, PartScores]:
    """The scores by class of part; class -1 is all parts.

    Args:
        truth: the frames of a video.
        found: as many frames.

    Raises:
        InputError: the counts differ.
    """
    if len(truth) != len(found):
        raise InputError(f"truth and found must have as many frames, got {len(truth)} and {len(found)}")
    labels = sorted({int(n) for one in (*truth, *found) for n in one.labels[one.is_part]})
    every = PartScores()
    scores = {label: PartScores() for label in labels}
    for label in labels:
        curve = average_precisions(truth, found, label)
        scores[label].ap, scores[label].ap50 = float(np.mean(curve)), float(curve[0])
        own = [one.ids[one.is_part & (one.labels == label)] for one in truth]
        scores[label].truths = sum(map(len, own))
        scores[label].identities = len(np.unique(np.concatenate(own)))
    _add_tree(truth, found, scores)
    for one in scores.values():
        for name in ("truths", "matched", "parents_right", "switches", "identities"):
            setattr(every, name, getattr(every, name) + getattr(one, name))
    known = [one for one in scores.values() if one.truths]
    if known:
        every.ap, every.ap50 = (float(np.mean([getattr(one, name) for one in known])) for name in ("ap", "ap50"))
    return {-1: every, **scores}


def _add_tree(truth: Sequence[PartFrame], found: Sequence[PartFrame], scores: dict[int, PartScores]) -> None:
    """Counts right parents and switches of identities."""
    last: dict[int, int] = {}  # identity that a true identity had in its match before
    for true, other in zip(truth, found, strict=True):
        true_row = {int(identity): row for row, identity in enumerate(true.ids)}
        found_row = {int(identity): row for row, identity in enumerate(other.ids)}
        pairs = match_rows(true, other)
        for row, place in pairs.items():
            if not true.is_part[row]:
                continue
            one = scores[int(true.labels[row])]
            one.matched += 1
            parent, guess = true_row.get(int(true.parent_ids[row]), -1), found_row.get(int(other.parent_ids[place]), -1)
            one.parents_right += int(guess < 0 if parent < 0 else guess >= 0 and pairs.get(parent) == guess)
            identity = int(true.ids[row])
            one.switches += int(last.get(identity, int(other.ids[place])) != other.ids[place])
            last[identity] = int(other.ids[place])


def match_rows(true: PartFrame, found: PartFrame) -> dict[int, int]:
    """Rows of the truth and the found rows that they are matched with: of one class, the sum of IoU is largest."""
    overlaps = _overlaps(true, found, np.arange(len(true.ids)), np.arange(len(found.ids)))
    overlaps[(true.labels[:, None] != found.labels) | (overlaps < _MATCH_IOU)] = 0
    rows, places = linear_sum_assignment(-overlaps)
    return {int(r): int(p) for r, p in zip(rows, places, strict=True) if overlaps[r, p] > 0}


def average_precisions(truth: Sequence[PartFrame], found: Sequence[PartFrame], label: int) -> np.ndarray:
    """(10,) average precision of one class of parts at each IoU of :data:`IOUS`; NaN without truth."""
    total = 0
    scores: list[np.ndarray] = []
    hits: list[np.ndarray] = []
    for true, other in zip(truth, found, strict=True):
        rows = np.flatnonzero(true.is_part & (true.labels == label))
        places = np.flatnonzero(other.is_part & (other.labels == label))
        places = places[np.argsort(-other.scores[places], kind="stable")][:_MOST]
        total += len(rows)
        scores.append(other.scores[places])
        hits.append(_hits(_overlaps(true, other, rows, places)))
    if not total:
        return np.full(len(IOUS), np.nan)
    order = np.argsort(-np.concatenate(scores), kind="stable")
    hit = np.concatenate(hits, axis=1)[:, order]  # (10, D)
    right = np.cumsum(hit, axis=1)
    recall = right / total
    precision = right / np.arange(1, hit.shape[1] + 1)
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]  # the best at this recall or a higher one
    values = np.zeros(len(IOUS))
    for i in range(len(IOUS)):
        at = np.searchsorted(recall[i], _RECALLS, side="left")
        values[i] = np.where(at < hit.shape[1], np.append(precision[i], 0)[at.clip(max=hit.shape[1])], 0).mean()
    return values


def _hits(overlaps: np.ndarray) -> np.ndarray:
    """(10, P) bool: whether each found row, best first, takes a true row that no better one took. (R, P) IoU."""
    hits = np.zeros((len(IOUS), overlaps.shape[1]), bool)
    for i, least in enumerate(IOUS):
        free = np.ones(len(overlaps), bool)
        for place in range(overlaps.shape[1] if len(overlaps) else 0):
            values = np.where(free, overlaps[:, place], -1)
            best = len(values) - 1 - int(values[::-1].argmax())  # the last of equal ones, as COCO's code
            if values[best] >= min(least, 1 - 1e-10):
                free[best], hits[i, place] = False, True
    return hits


def _overlaps(true: PartFrame, found: PartFrame, rows: np.ndarray, places: np.ndarray) -> np.ndarray:
    """(R, P) IoU of masks where both have them, else of boxes."""
    if not len(rows) or not len(places):
        return np.zeros((len(rows), len(places)))
    if true.masks is not None and found.masks is not None:
        own, others = [true.masks[i] for i in rows], [found.masks[i] for i in places]
        return np.asarray(mask_api().iou(own, others, [0] * len(others)), np.float64)
    return box_iou(true.boxes[rows], found.boxes[places]).astype(np.float64)


def frames_of(run: Run, numbers: Sequence[int], label_of: dict[str, int]) -> list[PartFrame]:
    """The frames of a run.

    Args:
        run: the tracks.
        numbers: of the frames; one that the run does not have is empty.
        label_of: the number of each class name; names that are not in it are added.
    """
    place_of = {number: place for place, number in enumerate(run.frames.tolist())}
    frames = []
    parent_ids = run.parent_ids
    is_part = np.array([bool(one.get("part")) for one in run.tree] or np.zeros(len(run.ids)), bool)
    for number in numbers:
        here = slice(0, 0)
        if number in place_of:
            here = slice(*np.searchsorted(run.rows, [place_of[number], place_of[number] + 1]).tolist())
        names = [run.class_name(label) for label in run.classes[here].tolist()]
        labels = [label_of.setdefault(name, len(label_of)) for name in names]
        masks = run.masks[here] if run.masks else ()
        whole = len(masks) == len(labels) and all(mask is not None for mask in masks)
        frames.append(
            PartFrame(
                run.boxes[here],
                run.scores[here],
                np.array(labels, np.int64),
                run.ids[here],
                parent_ids[here],
                is_part[here],
                [mask for mask in masks if mask is not None] if whole else None,
            )
        )
    return frames
