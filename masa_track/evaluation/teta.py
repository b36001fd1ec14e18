"""TETA: Track Every Thing Accuracy, which measures localisation, association and classification separately.

MOTA, IDF1 and HOTA of many classes group boxes by the class that the tracker gave, so a van that is tracked correctly
but classified as a bus counts as wrong. TETA groups boxes by position: every predicted box that overlaps a ground truth
box of a class is in the local cluster of this class, also with another class. Predictions outside all clusters are
not counted as errors, because ground truth of many classes is never exhaustive; with ``exhaustive`` they lower ClsA
only.

One video: :func:`count_video`, whose counts add up (over processes, too); :func:`scores_of` makes scores of them;
:func:`score_teta` does both.

Source: Li et al., Tracking Every Thing in the Wild, ECCV 2022. Where the paper leaves a choice (thresholds from 0 in
steps of .05, a cluster's margin of .5, what wrong classes cost in exhaustive truth), it is made as in the authors'
tool, so that figures compare.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from masa_track.boxes import box_iou

THRESHOLDS = np.arange(20) * 0.05  # of localisation and association
FIRST_CLASS_THRESHOLD = 10  # classification is asked from IoU .5 on
CLUSTER_IOU = 0.5  # the cluster's margin, r in the paper
_EPS = float(np.finfo("float").eps)
_FLOATS, _CLASS_FLOATS = len(THRESHOLDS), len(THRESHOLDS) - FIRST_CLASS_THRESHOLD


@dataclass(frozen=True)
class ClassTracks:
    """The boxes of one video, truth or tracks, in any order.

    Attributes:
        frames: (N,) int64, any numbering that truth and tracks share.
        ids: (N,) int64, each at most once in a frame.
        classes: (N,) int64.
        boxes: (N, 4) float64 xyxy, pixels.
    """

    frames: np.ndarray
    ids: np.ndarray
    classes: np.ndarray
    boxes: np.ndarray

    def __post_init__(self) -> None:
        count = len(self.frames)
        shapes = {"frames": (count,), "ids": (count,), "classes": (count,), "boxes": (count, 4)}
        for name, shape in shapes.items():
            if np.shape(getattr(self, name)) != shape:
                raise ValueError(f"{name} must be {shape}, got {np.shape(getattr(self, name))}")
        pairs = np.unique(np.column_stack((self.frames, self.ids)), axis=0) if count else ()
        if len(pairs) != count:
            raise ValueError(f"ids must be at most once in a frame, got {count - len(pairs)} that are there again")

    @classmethod
    def from_frames(cls, frames: Iterable[tuple[int, Any, Any, Any]]) -> ClassTracks:
        """Joins frames given one by one.

        Args:
            frames: of each its number, ids (n,), classes (n,) and boxes (n, 4) xyxy; n may be 0.
        """
        rows = [
            (np.full(len(ids), number), np.asarray(ids), np.asarray(classes), np.reshape(boxes, (-1, 4)))
            for number, ids, classes, boxes in frames
        ]
        empty = (np.zeros(0, np.int64),) * 3 + (np.zeros((0, 4)),)
        numbers, ids, classes, boxes = (np.concatenate(column) for column in zip(empty, *rows, strict=True))
        return cls(numbers.astype(np.int64), ids.astype(np.int64), classes.astype(np.int64), boxes.astype(np.float64))

    def __len__(self) -> int:
        return len(self.frames)


@dataclass
class TetaCounts:
    """What was counted of one class; a float array has a number for each threshold.

    Attributes:
        loc_tp: (20,) true boxes matched.
        loc_fn: (20,) true boxes not matched.
        loc_fp: (20,) boxes in a local cluster and not matched.
        assoc: (20,) sum over the matched boxes of the Jaccard index of their two tracks.
        assoc_re: (20,) sum over the matched boxes of the part of the true track that is matched.
        assoc_pr: (20,) sum over the matched boxes of the part of the found track that is matched.
        cls_tp: (10,) matched boxes of the right class.
        cls_fn: (10,) matched boxes of another class than this.
        cls_fp: (10,) boxes of this class that are matched with another, or, in exhaustive truth, with nothing.
    """

    loc_tp: np.ndarray
    loc_fn: np.ndarray
    loc_fp: np.ndarray
    assoc: np.ndarray
    assoc_re: np.ndarray
    assoc_pr: np.ndarray
    cls_tp: np.ndarray
    cls_fn: np.ndarray
    cls_fp: np.ndarray

    @classmethod
    def zeros(cls) -> TetaCounts:
        """Counts of nothing."""
        names = [field.name for field in fields(cls)]
        return cls(*(np.zeros(_CLASS_FLOATS if name.startswith("cls") else _FLOATS) for name in names))

    def __add__(self, other: TetaCounts) -> TetaCounts:
        return TetaCounts(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))


@dataclass(frozen=True)
class TetaScores:
    """How good the tracks of one class, or the mean class, are; all 0 to 1.

    Attributes:
        teta: the mean of the next three.
        loc_a: localisation accuracy: matched boxes, of those true or in a cluster, the mean over IoU 0, .05, ..., .95.
        assoc_a: association accuracy: how far the tracks of matched boxes are the same, over the same thresholds.
        cls_a: classification accuracy of matched boxes, the mean over IoU .5, .55, ..., .95.
        loc_re: recall of localisation.
        loc_pr: precision of localisation, inside the clusters.
        assoc_re: recall of association.
        assoc_pr: precision of association.
        cls_re: recall of classification.
        cls_pr: precision of classification.
    """

    teta: float
    loc_a: float
    assoc_a: float
    cls_a: float
    loc_re: float
    loc_pr: float
    assoc_re: float
    assoc_pr: float
    cls_re: float
    cls_pr: float


@dataclass(frozen=True)
class TetaResult:
    """TETA of a set of videos.

    Attributes:
        overall: the mean over the classes, each of the same weight.
        classes: by class id, of the classes that have truth.
    """

    overall: TetaScores
    classes: dict[int, TetaScores]

    def as_dict(self, class_names: Mapping[int, str] | None = None) -> dict[str, Any]:
        """The same as nested dicts, ready for JSON; classes by name where it is known."""
        names = class_names or {}
        classes = {str(names.get(number, number)): asdict(scores) for number, scores in self.classes.items()}
        return {"overall": asdict(self.overall), "classes": classes}


def score_teta(videos: Iterable[tuple[ClassTracks, ClassTracks]], exhaustive: bool = False) -> TetaResult:
    """Scores tracks against the truth.

    Example:
        ``score_teta([(truth, tracks)]).overall.assoc_a``

    Args:
        videos: the truth and the tracks of each.
        exhaustive: whether the truth holds all objects of its classes (BDD100K) or not (TAO), see :func:`count_video`.

    Raises:
        ValueError: no video has truth.
    """
    total: dict[int, TetaCounts] = {}
    for truth, tracks in videos:
        add_counts(total, count_video(truth, tracks, exhaustive))
    return scores_of(total)


def add_counts(total: dict[int, TetaCounts], more: Mapping[int, TetaCounts]) -> None:
    """Adds the counts of another video, or of another process's videos, to ``total`` in place."""
    for number, counts in more.items():
        total[number] = total[number] + counts if number in total else counts


def scores_of(counts: Mapping[int, TetaCounts]) -> TetaResult:
    """The scores of the classes that have truth, and their mean.

    Raises:
        ValueError: no class has truth.
    """
    classes = {i: class_scores(one) for i, one in sorted(counts.items()) if one.loc_tp[0] + one.loc_fn[0] > 0}
    if not classes:
        raise ValueError("videos must hold truth in at least one of them")
    return TetaResult(mean_scores(list(classes.values())), classes)


def mean_scores(rows: Sequence[TetaScores]) -> TetaScores:
    """The mean of the scores of classes, at least one, each of the same weight."""
    means = {field.name: float(np.mean([getattr(row, field.name) for row in rows])) for field in fields(TetaScores)}
    return TetaScores(**means)


def class_scores(counts: TetaCounts) -> TetaScores:
    """The scores of one class, or of several whose counts were added up."""
    c = counts

    def part(hits: np.ndarray, *missed: np.ndarray) -> float:
        return float(np.mean(hits / np.maximum(1, hits + sum(missed))))

    tp = np.maximum(1, c.loc_tp)
    loc_a, cls_a = part(c.loc_tp, c.loc_fn, c.loc_fp), part(c.cls_tp, c.cls_fn, c.cls_fp)
    assoc_a = float(np.mean(c.assoc / tp))
    return TetaScores(
        teta=(loc_a + assoc_a + cls_a) / 3,
        loc_a=loc_a,
        assoc_a=assoc_a,
        cls_a=cls_a,
        loc_re=part(c.loc_tp, c.loc_fn),
        loc_pr=part(c.loc_tp, c.loc_fp),
        assoc_re=float(np.mean(c.assoc_re / tp)),
        assoc_pr=float(np.mean(c.assoc_pr / tp)),
        cls_re=part(c.cls_tp, c.cls_fn),
        cls_pr=part(c.cls_tp, c.cls_fp),
    )


def count_video(
    truth: ClassTracks,
    tracks: ClassTracks,
    exhaustive: bool = False,
    every_frame: bool = False,
    overlap: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
) -> dict[int, TetaCounts]:
    """Counts one video, class by class. Frames without any truth are ignored, and the tracks in them as well.

    First all boxes are matched, whatever their class, at IoU .5: a box that is matched with a true box of one class is
    in no cluster of another. Then, for each class: the tracks that are ever in one of its clusters are matched with its
    truth, frame by frame, so that tracks stay together (as in HOTA), and this one matching is held against each of the
    thresholds.

    ``exhaustive`` adds each box of a class that is in none of the class's clusters to its classification's false
    positives. As in the authors' tool, a box of a wrong class on a true box then counts twice, unless its class has no
    cluster in this video and a higher id than the true one: what was counted before is then lost.

    Args:
        truth: of the video.
        tracks: of the same video, with the same frame numbers.
        exhaustive: whether the truth holds all objects of its classes.
        every_frame: count frames without any truth, too, as BDD100K does.
        overlap: gives the IoU (n, m) of rows (n,) of the truth and rows (m,) of the tracks; None: of the boxes.

    Returns:
        The counts by class id, of all classes in the truth or in the tracks.
    """
    scored = np.union1d(truth.frames, tracks.frames) if every_frame else np.unique(truth.frames)
    rows = np.flatnonzero(np.isin(tracks.frames, scored))
    found = ClassTracks(tracks.frames[rows], tracks.ids[rows], tracks.classes[rows], tracks.boxes[rows])

    def iou(these: np.ndarray, those: np.ndarray) -> np.ndarray:
        if overlap is not None:
            return overlap(these, rows[those])
        return box_iou(truth.boxes[these], found.boxes[those])

    by_frame = _by_frame(truth, found, scored, iou)
    assigned = _classes_assigned(truth, found, by_frame)
    counts = {int(i): TetaCounts.zeros() for i in np.union1d(truth.classes, found.classes)}
    for number in counts:
        _count_class(number, counts, truth, found, by_frame, assigned, exhaustive)
    return counts


@dataclass(frozen=True)
class _Frame:
    truth: np.ndarray  # (n,) rows of the truth
    found: np.ndarray  # (m,) rows of the tracks
    iou: np.ndarray  # (n, m)

    def part(self, truth: np.ndarray, found: np.ndarray) -> _Frame:
        """The frame with only the rows that two masks over all rows of the video keep."""
        rows, columns = truth[self.truth], found[self.found]
        return _Frame(self.truth[rows], self.found[columns], self.iou[rows][:, columns])


def _by_frame(
    truth: ClassTracks,
    found: ClassTracks,
    numbers: np.ndarray,
    iou: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> list[_Frame]:
    def rows(tracks: ClassTracks) -> list[np.ndarray]:
        order = np.argsort(tracks.frames, kind="stable")
        return np.split(order, np.searchsorted(tracks.frames[order], numbers[1:]))

    if not len(numbers):
        return []
    pairs = zip(rows(truth), rows(found), strict=True)
    return [_Frame(these, those, iou(these, those)) for these, those in pairs]


def _classes_assigned(truth: ClassTracks, found: ClassTracks, frames: list[_Frame]) -> np.ndarray:
    """(M,) float64: the class of the true box that each box of the tracks is matched with at IoU .5; NaN: of none."""
    assigned = np.full(len(found), np.nan)
    near = np.zeros(len(found), bool)
    for frame in frames:
        near[frame.found] = (frame.iou >= CLUSTER_IOU).any(axis=0)
    parts, matches = _match(np.ones(len(truth), bool), _whole_tracks(found, near), truth, found, frames)
    for part, (rows, columns) in zip(parts, matches, strict=True):
        good = part.iou[rows, columns] >= CLUSTER_IOU - _EPS
        assigned[part.found[columns[good]]] = truth.classes[part.truth[rows[good]]]
    return assigned


def _whole_tracks(found: ClassTracks, some: np.ndarray) -> np.ndarray:
    """(M,) bool: all boxes of the tracks that have one of ``some``."""
    return np.isin(found.ids, found.ids[some])


def _match(
    truth_kept: np.ndarray, found_kept: np.ndarray, truth: ClassTracks, found: ClassTracks, frames: list[_Frame]
) -> tuple[list[_Frame], list[tuple[np.ndarray, np.ndarray]]]:
    """The frames with only the rows kept, and in each the pairs that keep whole tracks together, as in HOTA."""
    parts = [frame.part(truth_kept, found_kept) for frame in frames]
    parts = [part for part in parts if len(part.truth) and len(part.found)]
    truth_names, truth_at = np.unique(truth.ids, return_inverse=True)
    found_names, found_at = np.unique(found.ids, return_inverse=True)
    alike = np.zeros((len(truth_names), len(found_names)))
    for part in parts:
        rest = part.iou.sum(axis=0, keepdims=True) + part.iou.sum(axis=1, keepdims=True) - part.iou
        share = np.divide(part.iou, rest, out=np.zeros_like(part.iou), where=rest > _EPS)
        alike[np.ix_(truth_at[part.truth], found_at[part.found])] += share
    lengths = np.bincount(truth_at[truth_kept], minlength=len(truth_names))[:, None]
    lengths = lengths + np.bincount(found_at[found_kept], minlength=len(found_names))[None]
    alike /= np.maximum(lengths - alike, 1)  # in the kept rows' part it is at least 1
    matches = []
    for part in parts:
        gain = alike[np.ix_(truth_at[part.truth], found_at[part.found])] * part.iou
        matches.append(linear_sum_assignment(gain, maximize=True))
    return parts, matches


def _count_class(
    number: int,
    counts: dict[int, TetaCounts],
    truth: ClassTracks,
    found: ClassTracks,
    frames: list[_Frame],
    assigned: np.ndarray,
    exhaustive: bool,
) -> None:
    ours = truth.classes == number  # (N,)
    near = np.zeros(len(found), bool)
    for frame in frames:
        near[frame.found] = (frame.iou[ours[frame.truth]] >= CLUSTER_IOU).any(axis=0)
    near &= np.isnan(assigned) | (assigned == number)  # (M,) in a cluster of this class
    mine = counts[number]
    outside = (found.classes == number) & ~near
    if not near.any():
        mine.loc_fn += ours.sum()
        if exhaustive:
            mine.cls_fp[:] = outside.sum()
        return
    if exhaustive:
        mine.cls_fp += outside.sum()

    kept = _whole_tracks(found, near)
    parts, matches = _match(ours, kept, truth, found, frames)
    pairs = zip(parts, matches, strict=True)
    table = [(part.truth[rows], part.found[columns], part.iou[rows, columns]) for part, (rows, columns) in pairs]
    true_rows, found_rows, iou = (np.concatenate(column) for column in zip(*table, strict=True))
    passed = iou[None] >= THRESHOLDS[:, None] - _EPS  # (20, P)

    mine.loc_tp += passed.sum(axis=1)
    mine.loc_fn += ours.sum() - passed.sum(axis=1)
    mine.loc_fp += near.sum() - (passed & near[found_rows]).sum(axis=1)
    asked, called = passed[FIRST_CLASS_THRESHOLD:], found.classes[found_rows]
    mine.cls_tp += (asked & (called == number)).sum(axis=1)
    mine.cls_fn += (asked & (called != number)).sum(axis=1)
    for other in np.unique(called[called != number]):
        counts[int(other)].cls_fp += (asked & (called == other)).sum(axis=1)
    _count_association(mine, truth.ids[ours], found.ids[kept], truth.ids[true_rows], found.ids[found_rows], passed)


def _count_association(
    counts: TetaCounts,
    truth_ids: np.ndarray,
    found_ids: np.ndarray,
    matched_truth: np.ndarray,
    matched_found: np.ndarray,
    passed: np.ndarray,
) -> None:
    """Adds the three sums of association: of (P,) matched pairs' ids and the (20, P) thresholds they pass."""
    pairs, at = np.unique(np.column_stack((matched_truth, matched_found)), axis=0, return_inverse=True)
    together = np.stack([np.bincount(at.reshape(-1), weights=row, minlength=len(pairs)) for row in passed])  # (20, U)
    lengths = []
    for ids, wanted in ((truth_ids, pairs[:, 0]), (found_ids, pairs[:, 1])):
        names, sizes = np.unique(ids, return_counts=True)
        lengths.append(sizes[np.searchsorted(names, wanted)])
    true_length, found_length = lengths
    counts.assoc += (together**2 / np.maximum(1, true_length + found_length - together)).sum(axis=1)
    counts.assoc_re += (together**2 / true_length).sum(axis=1)
    counts.assoc_pr += (together**2 / found_length).sum(axis=1)
