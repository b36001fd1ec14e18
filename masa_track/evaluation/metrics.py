"""The metrics asked for, of truth and tracks in either form: MOT text, or json with classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from masa_track.errors import InputError, unknown_name
from masa_track.evaluation.coco_vid import ClassVideos, read_class_videos
from masa_track.evaluation.mot import MotRows, read_labelled
from masa_track.evaluation.scores import Evaluation, check_options, pairs_of, read_sequences, score_sequences
from masa_track.evaluation.teta import ClassTracks, TetaResult, score_teta
from masa_track.formats.joining import Numbering

METRICS = ("hota", "clear", "idf1", "teta")


@dataclass(frozen=True)
class Measured:
    """What was asked for.

    Attributes:
        metrics: their names, of :data:`METRICS`.
        evaluation: HOTA, CLEAR and IDF1, if one of them is asked for; classes are ignored.
        teta: TETA, if asked for.
        class_names: by class id; empty for MOT text.
        exhaustive: how TETA took the truth.
        rules: by sequence of text, the rules that were applied (never auto), and how many boxes of tracks they removed.
        last_frames: by sequence, the last frame that has a track (0 without any), and the last with truth.
        boxes_before: by sequence of text, how many boxes of tracks lie before the first frame with truth.
        notes: for the user, on how files were joined.
        classes: the same as ``evaluation`` for each class of the truth, if asked for.
    """

    metrics: tuple[str, ...]
    evaluation: Evaluation | None
    teta: TetaResult | None
    class_names: dict[int, str]
    exhaustive: bool
    last_frames: dict[str, tuple[int, int]] = field(default_factory=dict)
    rules: dict[str, tuple[str, int]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    classes: dict[int, Evaluation] = field(default_factory=dict)
    boxes_before: dict[str, int] = field(default_factory=dict)

    def class_name(self, number: int) -> str:
        """What a class is called."""
        return self.class_names.get(number, f"class {number}")

    def as_dict(self) -> dict[str, Any]:
        """The same as nested dicts, ready for JSON; what was not asked for is left out."""
        result: dict[str, Any] = {} if self.evaluation is None else self.evaluation.as_dict()
        if self.teta is not None:
            result["teta"] = {**self.teta.as_dict(self.class_names), "exhaustive": self.exhaustive}
        if self.classes:
            result["classes"] = {self.class_name(one): scores.as_dict() for one, scores in self.classes.items()}
        if any(rules != "none" for rules, _ in self.rules.values()):
            result["rules"] = {name: rules for name, (rules, _) in self.rules.items()}
        return result


def _with_classes(
    gt: str | Path, tracks: str | Path, sequences: Sequence[str] | None
) -> dict[str, tuple[ClassTracks, ClassTracks]]:
    """Truth and tracks of text by sequence, with the classes of column 8.

    Raises:
        InputError: a file has no classes.
    """
    pairs = {}
    for pair in pairs_of(gt, tracks, "none", sequences):
        both = []
        for argument, path in (("GT", pair.gt), ("TRACKS", pair.tracks)):
            labelled = read_labelled(path, tracks=argument == "TRACKS")
            keep = labelled.flags != 0 if argument == "GT" else np.ones(len(labelled.rows), bool)
            if len(labelled.rows) and (labelled.classes[keep] < 0).any():
                raise InputError(f"--per-class: {argument} must have a class in column 8 of each row, {path} has not")
            rows = labelled.rows.only(keep)
            both.append(replace(_one_class(rows), classes=labelled.classes[keep]))
        pairs[pair.name] = both[0], both[1]
    return pairs


def _by_class(pairs: Mapping[str, tuple[ClassTracks, ClassTracks]], iou: float, stride: int) -> dict[int, Evaluation]:
    """The scores of each class of the truth, in all sequences that have it in truth or tracks."""
    found = {}
    for number in sorted({one for truth, _ in pairs.values() for one in truth.classes.tolist()}):
        of_class = {
            name: (_mot_rows(_of_class(truth, number)), _mot_rows(_of_class(tracks, number)))
            for name, (truth, tracks) in pairs.items()
            if (truth.classes == number).any() or (tracks.classes == number).any()
        }
        found[number] = score_sequences(of_class, iou=iou, stride=stride)
    return found


def _of_class(tracks: ClassTracks, number: int) -> ClassTracks:
    keep = tracks.classes == number
    return ClassTracks(tracks.frames[keep], tracks.ids[keep], tracks.classes[keep], tracks.boxes[keep])


def measure(
    gt: str | Path,
    tracks: str | Path,
    metrics: Sequence[str] = ("hota", "clear", "idf1"),
    stride: int = 1,
    iou: float = 0.5,
    exhaustive: bool | None = None,
    rules: str = "auto",
    sequences: Sequence[str] | None = None,
    per_class: bool = False,
    numbering: Numbering | None = None,
) -> Measured:
    """Scores files of tracks against files of truth.

    Args:
        gt: MOT text, see :func:`~masa_track.evaluation.scores.evaluate`, or COCO-VID or TAO json.
        tracks: in the same form as ``gt``; json: see :func:`~masa_track.evaluation.coco_vid.read_class_videos`.
        metrics: of :data:`METRICS`.
        stride: keep frames 1, 1 + stride, ... of both sides; in json, frame 1 is the first that the truth lists.
        iou: from which IoU CLEAR and IDF1 accept a match.
        exhaustive: whether the truth holds all objects of its classes, for TETA; None: unless it is TAO's.
        rules: for text, what is removed before scoring, see :func:`~masa_track.evaluation.rules.read_ruled`. Json
            names its ignored regions itself.
        sequences: names of those to be scored; None: all of ``gt``.
        per_class: score each class of the truth for itself, too. In text, column 8 of both files is the class, and no
            rules are applied.
        numbering: how the truth numbers the images of a run, see
            :func:`~masa_track.evaluation.run_frames.in_frames_of` for text, and for json
            :func:`~masa_track.formats.joining.join_files`; None: it is found out.

    Raises:
        InputError: an unknown metric, an argument out of range, or a file that is missing or broken.
    """
    check_options(stride, iou)
    for name in metrics:
        if name not in METRICS:
            raise unknown_name("metric", name, METRICS)
    if not metrics:
        raise InputError(f"--metrics must name at least one of {', '.join(METRICS)}")
    applied: dict[str, tuple[str, int]] = {}
    if Path(gt).suffix.lower() == ".json":
        if rules not in ("auto", "none"):
            raise InputError(f"--rules {rules} is for text, but GT is json, which names its ignored regions itself")
        videos = read_class_videos(gt, tracks, sequences, numbering)
    elif per_class:
        if rules not in ("auto", "none"):
            raise InputError(f"--per-class takes all classes, but --rules {rules} scores one: leave one of them out")
        videos = ClassVideos(_with_classes(gt, tracks, sequences), {}, exhaustive=True)
    else:
        ruled = read_sequences(gt, tracks, stride, rules, sequences, numbering)
        applied = {name: (one.rules, one.removed) for name, one in ruled.items()}
        pairs = {name: (_one_class(one.truth), _one_class(one.tracks)) for name, one in ruled.items()}
        videos = ClassVideos(pairs, {}, exhaustive=True)
    kept = {name: (_every(truth, stride), _every(found, stride)) for name, (truth, found) in videos.pairs.items()}
    with_truth = {name: pair for name, pair in kept.items() if len(pair[0])}
    if not with_truth:
        raise InputError(f"GT must have at least one box to score against, but {gt} has none on the scored frames")
    evaluation = teta = None
    if set(metrics) - {"teta"}:
        mot = {
            name: (_mot_rows(truth), _mot_rows(found))
            for name, (truth, found) in (kept if applied else with_truth).items()
        }
        evaluation = score_sequences(mot, iou=iou, stride=stride)
    by_class = _by_class(kept, iou, stride) if per_class and evaluation is not None else {}
    full = videos.exhaustive if exhaustive is None else exhaustive
    if "teta" in metrics:
        teta = score_teta(kept.values(), full)
    ends = {
        name: (int(found.frames.max(initial=0)), int(truth.frames.max())) for name, (truth, found) in with_truth.items()
    }
    before = {
        name: int((found.frames < truth.frames.min()).sum())
        for name, (truth, found) in with_truth.items()
        if Path(gt).suffix.lower() != ".json"
    }
    return Measured(
        tuple(metrics), evaluation, teta, videos.class_names, full, ends, applied, videos.notes, by_class, before
    )


def named_scores(evaluation: Evaluation | None, teta: TetaResult | None, metrics: Sequence[str]) -> dict[str, float]:
    """The scores of all sequences together by name, of the metrics asked for."""
    names = {"hota": ("hota", "det_a", "ass_a", "loc_a"), "clear": ("mota", "switches"), "idf1": ("idf1",)}
    scores = {}
    if evaluation is not None:
        asked = [name for metric in metrics for name in names.get(metric, ())]
        scores = {name: float(getattr(evaluation.combined, name)) for name in asked}
    if teta is not None:
        of = teta.overall
        scores |= {"teta": of.teta, "teta_loc_a": of.loc_a, "teta_assoc_a": of.assoc_a, "teta_cls_a": of.cls_a}
    return scores


def _every(tracks: ClassTracks, stride: int) -> ClassTracks:
    keep = (tracks.frames - 1) % stride == 0
    return ClassTracks(tracks.frames[keep], tracks.ids[keep], tracks.classes[keep], tracks.boxes[keep])


def _one_class(rows: MotRows) -> ClassTracks:
    boxes = np.concatenate((rows.boxes[:, :2], rows.boxes[:, :2] + rows.boxes[:, 2:]), axis=1)
    return ClassTracks(rows.frames, rows.ids, np.ones(len(rows), np.int64), boxes)


def _mot_rows(tracks: ClassTracks) -> MotRows:
    order = np.argsort(tracks.frames, kind="stable")
    boxes = np.concatenate((tracks.boxes[:, :2], tracks.boxes[:, 2:] - tracks.boxes[:, :2]), axis=1)
    boxes[:, 2:] = np.maximum(boxes[:, 2:], 1e-9)  # an empty box overlaps nothing, and must not divide by zero
    return MotRows(tracks.frames[order], tracks.ids[order], boxes[order])
