"""What benchmarks remove from truth and tracks before they score: distractors, ignored regions, small boxes.

MOT16, MOT17 and MOT20 as TrackEval's ``MotChallenge2DBox`` does, KITTI as its ``Kitti2DBox``, VisDrone as the text of
its toolkit says (boxes that lie by half or more in ignored regions are removed). The visibility of a row of MOT16 and
later decides nothing in TrackEval, nor here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from masa_track.boxes import box_iou_xywh
from masa_track.errors import InputError, unknown_name
from masa_track.evaluation.mot import (
    LabelledRows,
    MotRows,
    Unique,
    at_line,
    check_scored,
    finite_number,
    mot_rows,
    read_labelled,
    read_mot,
    text_lines,
    whole_number,
)
from masa_track.evaluation.run_frames import in_frames_of
from masa_track.formats.joining import Numbering

RULES = ("auto", "none", "mot16", "mot17", "mot20", "kitti-car", "kitti-pedestrian", "visdrone")
_PEDESTRIAN = 1
_MOT_CLASSES = range(1, 14)
# person on vehicle, static person, distractor, reflection; in MOT20 also non-MOT vehicle
_MOT_DISTRACTORS = {"mot16": (2, 7, 8, 12), "mot17": (2, 7, 8, 12), "mot20": (2, 7, 8, 12, 6)}
_KITTI_DISTRACTOR = {"car": "van", "pedestrian": "person"}
_KITTI_OCCLUSION, _KITTI_TRUNCATION = 2, 0  # more of either is not scored
_KITTI_HEIGHT = 25.0  # px; boxes up to this that match nothing are not scored
_VISDRONE_REGIONS = (0, 11)  # ignored regions, others
_EPS = float(np.finfo("float").eps)  # what TrackEval allows for rounding


@dataclass(frozen=True)
class Ruled:
    """Truth and tracks of a sequence after the rules.

    Attributes:
        truth: the boxes to score against; may be empty under the rules of KITTI.
        tracks: the boxes to score.
        rules: of :data:`RULES`, never auto.
        removed: how many boxes of tracks were removed.
    """

    truth: MotRows
    tracks: MotRows
    rules: str
    removed: int


@dataclass(frozen=True)
class _Truth:
    """Truth with what becomes of its boxes.

    ``rows`` take part in the matching; those with ``scored`` (N,) stay; the boxes of tracks that match one with
    ``distractor`` (N,) are removed. Boxes that match none are removed if more than half of them is in one of
    ``regions``, or if they are at most ``height`` px high.
    """

    rows: MotRows
    scored: np.ndarray
    distractor: np.ndarray
    regions: MotRows | None = None
    height: float = -np.inf


def check_rules(rules: str) -> None:
    """Raises InputError unless the name is of :data:`RULES`."""
    if rules not in RULES:
        raise unknown_name("--rules", rules, RULES)


@dataclass(frozen=True)
class RuledTruth:
    """The truth of a sequence, and the rules by which tracks are scored against it.

    Attributes:
        rules: of :data:`RULES`, never auto.
        apply: from the tracks to truth and tracks after the rules; all boxes count as of the class.
    """

    rules: str
    apply: Callable[[MotRows], Ruled]


def read_ruled(
    name: str, gt: str | Path, tracks: str | Path, rules: str = "auto", numbering: Numbering | None = None
) -> Ruled:
    """Reads truth and tracks of a sequence and removes what the rules remove.

    Args:
        name: of the sequence, see :func:`read_truth`.
        gt: the truth, see :func:`read_truth`.
        tracks: MOT text; for ``kitti-*`` also KITTI's, of which the rows of the class are taken. All boxes of MOT text
            count as of the class.
        rules: of :data:`RULES`.
        numbering: see :func:`~masa_track.evaluation.run_frames.in_frames_of`; None: it is found out.

    Raises:
        InputError: an unknown name, or a file that is missing or breaks a rule, with its line.
    """
    truth = read_truth(name, gt, rules)
    if truth.rules.startswith("kitti"):
        return truth.apply(_kitti_tracks(Path(tracks), truth.rules.partition("-")[2]))
    return truth.apply(in_frames_of(Path(gt), read_mot(tracks), Path(tracks), numbering or Numbering()))


def read_truth(name: str, gt: str | Path, rules: str = "auto") -> RuledTruth:
    """Reads the truth of a sequence.

    Args:
        name: of the sequence. ``auto`` takes the rules of MOT16, MOT17 or MOT20 for ``MOT16-02``, ``MOT17-02-FRCNN``
            and the like if all rows of the truth have a class of theirs (column 8), and ``none`` for all others.
        gt: MOT text; for ``kitti-*`` a text of ``label_02``; for ``visdrone`` a text of ``annotations``.
        rules: of :data:`RULES`; ``none`` drops the rows of the truth that are flagged 0, and nothing of the tracks.

    Raises:
        InputError: an unknown name, or a file that is missing or breaks a rule, with its line.
    """
    check_rules(rules)
    gt = Path(gt)
    kitti = next((_is_kitti(line) for _, line in text_lines(gt)), False)
    if rules.startswith("kitti"):
        if not kitti:
            raise InputError(f"--rules {rules}: GT must be KITTI's text (frame id type truncated ...), but {gt} is not")
        return RuledTruth(rules, partial(_matched, _kitti_truth(gt, rules.partition("-")[2]), rules=rules))
    if kitti:
        raise InputError(f"{gt} is KITTI's text: choose the class by --rules kitti-car or --rules kitti-pedestrian")
    if rules == "none":
        rows = read_mot(gt, truth=True)
        return RuledTruth(rules, lambda tracks: Ruled(rows, tracks, "none", 0))
    if rules == "visdrone":
        return RuledTruth(rules, partial(_visdrone, gt, read_labelled(gt)))
    if rules == "auto":
        benchmark = re.match(r"MOT(16|17|20)-\d", name)
        labelled = read_labelled(gt) if benchmark else None
        if benchmark is None or labelled is None or not np.isin(labelled.classes, _MOT_CLASSES).all():
            return read_truth(name, gt, "none")
        rules = f"mot{benchmark[1]}"
    else:
        labelled = read_labelled(gt)
        wrong = ~np.isin(labelled.classes, _MOT_CLASSES)
        if wrong.any():
            row = int(wrong.argmax())
            where = f"id {labelled.rows.ids[row]} of frame {labelled.rows.frames[row]}"
            raise InputError(
                f"--rules {rules}: all rows of {gt} must have a class of 1 to 13 in column 8, but {where} does not"
            )
    pedestrian = (labelled.classes == _PEDESTRIAN) & (labelled.flags != 0)
    _check_truth(gt, pedestrian, "pedestrian (class 1) with a flag other than 0")
    distractor = np.isin(labelled.classes, _MOT_DISTRACTORS[rules])
    return RuledTruth(rules, partial(_matched, _Truth(labelled.rows, pedestrian, distractor), rules=rules))


def _check_truth(gt: Path, scored: np.ndarray, what: str) -> None:
    if not scored.any():
        raise InputError(f"GT must have at least one row to score against, but {gt} has no {what}")


def _matched(truth: _Truth, tracks: MotRows, rules: str) -> Ruled:
    """Removes boxes of tracks, frame by frame, after an assignment to all boxes of the truth at IoU .5."""
    keep = np.ones(len(tracks), bool)
    for frame in np.unique(tracks.frames).tolist():
        here, there = tracks.in_frame(frame), truth.rows.in_frame(frame)
        boxes = tracks.boxes[here]
        iou = box_iou_xywh(truth.rows.boxes[there], boxes)
        iou[iou < 0.5 - _EPS] = 0
        rows, columns = linear_sum_assignment(iou, maximize=True)
        pairs = iou[rows, columns] > _EPS
        rows, columns = rows[pairs], columns[pairs]
        drop = boxes[:, 3] <= truth.height + _EPS
        if truth.regions is not None:
            regions = truth.regions.boxes[truth.regions.in_frame(frame)]
            drop |= (_overlap(boxes, regions) > (0.5 + _EPS) * boxes[:, 2:].prod(axis=1)[:, None]).any(axis=1)
        drop[columns] = truth.distractor[there][rows]
        keep[here] = ~drop
    return Ruled(truth.rows.only(truth.scored), tracks.only(keep), rules, int((~keep).sum()))


def _overlap(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The common area of every pair, (N, 4) and (M, 4) left, top, width, height to (N, M)."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum((boxes[:, :2] + boxes[:, 2:])[:, None], (others[:, :2] + others[:, 2:])[None])
    return np.maximum(high - low, 0).prod(axis=2)


def _visdrone(gt: Path, truth: LabelledRows, tracks: MotRows) -> Ruled:
    """Removes boxes of truth and tracks that lie by half or more in the union of the ignored regions."""
    region = np.isin(truth.classes, _VISDRONE_REGIONS)
    regions = truth.rows.only(region)
    scored = ~region & (truth.flags != 0)
    scored[scored] &= ~_inside(truth.rows.only(scored), regions)
    _check_truth(gt, scored, "box outside the ignored regions")
    inside = _inside(tracks, regions)
    return Ruled(truth.rows.only(scored), tracks.only(~inside), "visdrone", int(inside.sum()))


def _inside(rows: MotRows, regions: MotRows) -> np.ndarray:
    """(N,) bool: which boxes lie by half or more of their area in the union of their frame's regions."""
    inside = np.zeros(len(rows), bool)
    for frame in np.unique(regions.frames).tolist():
        here = rows.in_frame(frame)
        boxes, others = rows.boxes[here], regions.boxes[regions.in_frame(frame)]
        # The edges of the regions divide the picture into cells, each wholly in a region or in none.
        starts, ends = others[:, :2], others[:, :2] + others[:, 2:]
        x, y = (np.unique(np.concatenate((starts[:, i], ends[:, i]))) for i in range(2))
        in_x = (starts[:, :1] <= x[:-1]) & (x[1:] <= ends[:, :1])  # (R, X): the cell's column is in the region
        in_y = (starts[:, 1:] <= y[:-1]) & (y[1:] <= ends[:, 1:])
        cells = (in_x[:, :, None] & in_y[:, None, :]).any(axis=0).astype(float)  # (X, Y)
        wide, high = (
            np.maximum(
                np.minimum(edge[1:], boxes[:, i, None] + boxes[:, i + 2, None])
                - np.maximum(edge[:-1], boxes[:, i, None]),
                0,
            )
            for i, edge in enumerate((x, y))
        )
        covered = np.einsum("nx,xy,ny->n", wide, cells, high)
        inside[here] = covered >= 0.5 * boxes[:, 2:].prod(axis=1)
    return inside


def _is_kitti(line: str) -> bool:
    fields = line.split()
    return len(fields) >= 10 and fields[2].isidentifier()


@dataclass(frozen=True)
class _Kitti:
    """Rows of KITTI's text in MOT's terms, frames and pixels from 1, with ``kind`` (N,), a word in small letters."""

    rows: MotRows
    kind: np.ndarray
    truncation: np.ndarray
    occlusion: np.ndarray

    def only(self, keep: np.ndarray) -> _Kitti:
        return _Kitti(self.rows.only(keep), self.kind[keep], self.truncation[keep], self.occlusion[keep])


def _read_kitti(path: Path, kinds: tuple[str, ...]) -> _Kitti:
    """The rows of some types (and all of DontCare): ``frame id type truncated occluded alpha x1 y1 x2 y2 ...``."""
    columns: tuple[list, ...] = ([], [], [], [], [], [])
    unique = Unique()
    for number, line in text_lines(path):
        with at_line(path, number):
            fields = line.split()
            if not _is_kitti(line):
                raise InputError(
                    "a row must have at least 10 columns (frame id type truncated occluded alpha x1 y1 x2 y2)"
                )
            kind, region = fields[2].lower(), fields[2].lower() == "dontcare"
            track_id = whole_number("id", fields[1])
            if kind not in kinds or (track_id < 0 and not region):
                continue
            frame = whole_number("frame", fields[0])
            if frame < 0:
                raise InputError(f"frames must count from 0, got {frame}")
            x1, y1, x2, y2 = (
                finite_number(name, field) for name, field in zip(("x1", "y1", "x2", "y2"), fields[6:10], strict=True)
            )
            box = [x1 + 1, y1 + 1, x2 - x1, y2 - y1]
            if not region:
                check_scored(track_id, box)
                unique.add(frame, track_id, number)
            row = (
                frame + 1,
                track_id,
                box,
                kind,
                int(finite_number("truncated", fields[3])),
                int(finite_number("occluded", fields[4])),
            )
        for column, cell in zip(columns, row, strict=True):
            column.append(cell)
    rows, order = mot_rows(*columns[:3])
    return _Kitti(
        rows, *(np.array(column, kind)[order] for column, kind in zip(columns[3:], (object, int, int), strict=True))
    )


def _kitti_truth(path: Path, wanted: str) -> _Truth:
    kinds = (wanted, _KITTI_DISTRACTOR[wanted])
    found = _read_kitti(path, (*kinds, "dontcare"))
    region = found.kind == "dontcare"
    boxes = found.only(~region)
    hidden = (boxes.occlusion > _KITTI_OCCLUSION) | (boxes.truncation > _KITTI_TRUNCATION)
    scored = (boxes.kind == wanted) & ~hidden
    return _Truth(boxes.rows, scored, ~scored, found.only(region).rows, _KITTI_HEIGHT)


def _kitti_tracks(path: Path, wanted: str) -> MotRows:
    if next((_is_kitti(line) for _, line in text_lines(path)), False):
        return _read_kitti(path, (wanted,)).rows
    return read_mot(path)
