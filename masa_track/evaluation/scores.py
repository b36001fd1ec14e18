"""The scores: TrackEval computes HOTA, py-motmetrics MOTA, IDF1 and switches; this file only feeds them.

What benchmarks remove before they score (distractors, ignored regions) is in :mod:`rules`.

TrackEval has a MOTA of its own, which is not asked here. It keeps a pair together from one frame to the next only,
py-motmetrics over any gap; so the two can differ by a few switches where boxes of a crowd overlap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from masa_track.boxes import box_iou_xywh
from masa_track.errors import InputError
from masa_track.evaluation.mot import MotRows
from masa_track.evaluation.pairs import Pair, find_pairs
from masa_track.evaluation.rules import Ruled, check_rules, read_ruled
from masa_track.formats.joining import Numbering
from masa_track.registry import check_installed

_COUNTS = ("num_switches", "num_false_positives", "num_misses")
# What trackeval's own matching allows for rounding, so that both libraries see the same pairs at the threshold.
_EPS = float(np.finfo("float").eps)


@dataclass(frozen=True)
class Scores:
    """How good the tracks of one sequence, or of all together, are.

    Attributes:
        hota: higher order tracking accuracy, 0 to 1: the mean over IoU thresholds .05, .10, ..., .95.
        det_a: its detection part, 0 to 1.
        ass_a: its association part (identities), 0 to 1.
        loc_a: the mean IoU of what was matched, 0 to 1; TrackEval counts 1 for a threshold without a match, and here it
            is 0 if nothing was matched at any.
        mota: 1 - (misses + false positives + switches) / truth boxes; at most 1, and below 0 if there are more errors
            than boxes; 0 without truth, as in TrackEval.
        idf1: F1 of the boxes with the right identity, 0 to 1.
        switches: IDSW, how often a truth's track became another one.
        false_positives: boxes of tracks without truth.
        misses: boxes of the truth without track (false negatives).
        frames: number of scored frames with truth or tracks.
        truth_boxes: boxes of the truth.
        track_boxes: boxes of the tracks.
        truth_ids: identities in the truth.
        track_ids: identities in the tracks.

    Source: Luiten et al., HOTA, IJCV 2021; Bernardin and Stiefelhagen, CLEAR MOT, 2008; Ristani et al., IDF1, 2016.
    """

    hota: float
    det_a: float
    ass_a: float
    loc_a: float
    mota: float
    idf1: float
    switches: int
    false_positives: int
    misses: int
    frames: int
    truth_boxes: int
    track_boxes: int
    truth_ids: int
    track_ids: int


@dataclass(frozen=True)
class Evaluation:
    """The scores of several sequences.

    Attributes:
        sequences: by name.
        combined: of all sequences taken together: counts are summed, so a long sequence weighs more than a short one.
        stride: every how many frames were scored.
        iou: the IoU from which MOTA, IDF1 and the counts accept a match.
    """

    sequences: dict[str, Scores]
    combined: Scores
    stride: int
    iou: float

    def as_dict(self) -> dict[str, Any]:
        """The same as nested dicts of names, whole numbers and floats, ready for JSON."""
        return asdict(self)


def evaluate(gt: str | Path, tracks: str | Path, stride: int = 1, iou: float = 0.5, rules: str = "auto") -> Evaluation:
    """Scores files of tracks against files of truth.

    Example:
        ``evaluate("clips/TUD-Campus", "runs/campus").combined.idf1``

    Args:
        gt: a MOT text file, a sequence's folder with ``gt/gt.txt``, or a folder of such folders.
        tracks: a MOT text file or a folder, see :func:`~masa_track.evaluation.pairs.find_pairs`. An empty file (the
            tracker found nothing) is scored, with zeros.
        stride: keep frames 1, 1 + stride, ... of both sides.
        iou: from which IoU MOTA, IDF1 and the counts accept a match, above 0 and at most 1. HOTA has its
            own thresholds.
        rules: what is removed before scoring, see :func:`~masa_track.evaluation.rules.read_ruled`.

    Returns:
        The scores of each sequence and of all.

    Raises:
        InputError: an argument is out of range, a file is missing or broken (with its line), a sequence has no tracks,
            or truth and tracks share no frame.
    """
    check_options(stride, iou)
    ruled = read_sequences(gt, tracks, stride, rules)
    return score_sequences({name: (one.truth, one.tracks) for name, one in ruled.items()}, iou=iou, stride=stride)


def check_options(stride: int, iou: float) -> None:
    """Raises InputError for a stride or an IoU that is out of range."""
    if stride < 1 or stride != int(stride):
        raise InputError(f"--stride must be a whole number of at least 1, got {stride}")
    if not 0 < iou <= 1:  # also refuses a NaN
        raise InputError(f"--iou must be above 0 and at most 1, got {iou}")


def read_sequences(
    gt: str | Path,
    tracks: str | Path,
    stride: int = 1,
    rules: str = "auto",
    sequences: Sequence[str] | None = None,
    numbering: Numbering | None = None,
) -> dict[str, Ruled]:
    """Truth and tracks of text by the sequence's name; arguments and errors as of :func:`evaluate`.

    ``sequences`` are names of those to be scored; None: all. ``numbering`` is that of :func:`~.rules.read_ruled`.

    Under the rules of KITTI a sequence may have no truth of the class, unless none has.
    """
    check_rules(rules)
    read: dict[str, Ruled] = {}
    of_a_class = rules.startswith("kitti")
    for pair in pairs_of(gt, tracks, rules, sequences):
        ruled = read_ruled(pair.name, pair.gt, pair.tracks, rules, numbering)
        truth, found = ruled.truth, ruled.tracks
        kept = Ruled(truth.every(stride), found.every(stride), ruled.rules, ruled.removed)
        if not len(kept.truth) and not of_a_class:
            raise InputError(
                f"GT must have a row on {_frames(stride)}, but {pair.gt} has {_span(truth)} and none of them"
            )
        shared = not len(truth) or not len(found) or np.intersect1d(kept.truth.frames, kept.tracks.frames).size
        if not shared:
            raise InputError(
                f"GT and TRACKS of {pair.name} must share a frame of {_frames(stride)}: "
                f"frames of TRACKS run {_span(found)}, of GT {_span(truth)}"
            )
        read[pair.name] = kept
    if not any(len(one.truth) for one in read.values()):
        raise InputError(f"GT must have at least one row to score against, but {gt} has none under --rules {rules}")
    return read


def pairs_of(gt: str | Path, tracks: str | Path, rules: str, sequences: Sequence[str] | None = None) -> list[Pair]:
    """The files of each sequence; KITTI and VisDrone have their truth as texts in one folder."""
    return find_pairs(gt, tracks, texts=rules.startswith("kitti") or rules == "visdrone", sequences=sequences)


def score_sequences(sequences: Mapping[str, tuple[MotRows, MotRows]], iou: float = 0.5, stride: int = 1) -> Evaluation:
    """Scores tracks in memory.

    Args:
        sequences: truth and tracks by name; at least one has truth. In those without, all tracks are false positives.
        iou: see :func:`evaluate`.
        stride: what the rows were thinned by already; only written down.

    Returns:
        The scores of each sequence and of all.

    Raises:
        ValueError: no sequence has truth.
    """
    check_installed("eval", purpose="for HOTA, MOTA and IDF1")
    import motmetrics
    from trackeval.metrics import HOTA

    if not any(len(truth) for truth, _ in sequences.values()):
        raise ValueError("sequences must be at least one with truth in it")
    hota = HOTA()
    host = motmetrics.metrics.create()
    wanted = ["mota", "idf1", *_COUNTS]
    data = {name: sequence_data(truth, tracks) for name, (truth, tracks) in sequences.items()}
    hotas = {name: hota.eval_sequence(one) for name, one in data.items()}
    # By default motmetrics takes whichever of lapsolver, lap and scipy is installed, and ties would fall differently.
    with motmetrics.lap.set_default_solver("scipy"):
        # compute and compute_overall are what compute_many calls, which would also set up the root logger.
        clear = {
            name: host.compute(_accumulator(one, iou), metrics=wanted, return_dataframe=False, return_cached=True)
            for name, one in data.items()
        }
    overall = host.compute_overall(list(clear.values()), metrics=wanted, return_dataframe=False)
    scores = {name: _scores(hotas[name], clear[name], [one]) for name, one in data.items()}
    combined = _scores(hota.combine_sequences(hotas), overall, list(data.values()))
    return Evaluation(scores, combined, int(stride), float(iou))


def sequence_data(truth: MotRows, tracks: MotRows) -> dict[str, Any]:
    """One sequence as TrackEval's metric classes take it: a list entry a frame, identities counted from 0.

    Frames with neither truth nor tracks are left out, which no score notices.

    Args:
        truth: N rows.
        tracks: M rows.

    Returns:
        ``gt_ids`` [(n,) int64], ``tracker_ids`` [(m,) int64] and ``similarity_scores`` [(n, m) float64 IoU] by frame;
        ``frames`` (T,) int64, their numbers; and the counts ``num_timesteps``, ``num_gt_ids``, ``num_tracker_ids``,
        ``num_gt_dets``, ``num_tracker_dets``.
    """
    frames = np.union1d(truth.frames, tracks.frames)
    truth_names, truth_ids = np.unique(truth.ids, return_inverse=True)
    track_names, track_ids = np.unique(tracks.ids, return_inverse=True)
    rows = [(truth.in_frame(frame), tracks.in_frame(frame)) for frame in frames.tolist()]
    return {
        "frames": frames,
        "gt_ids": [truth_ids[there] for there, _ in rows],
        "tracker_ids": [track_ids[here] for _, here in rows],
        "similarity_scores": [box_iou_xywh(truth.boxes[there], tracks.boxes[here]) for there, here in rows],
        "num_timesteps": len(frames),
        "num_gt_ids": len(truth_names),
        "num_tracker_ids": len(track_names),
        "num_gt_dets": len(truth),
        "num_tracker_dets": len(tracks),
    }


def _accumulator(data: dict[str, Any], iou: float) -> Any:
    import motmetrics

    accumulator = motmetrics.MOTAccumulator()
    frames = zip(data["frames"].tolist(), data["gt_ids"], data["tracker_ids"], data["similarity_scores"], strict=True)
    for frame, truth_ids, track_ids, similarity in frames:
        distances = np.where(similarity >= iou - _EPS, 1 - similarity, np.nan)  # NaN: never a pair
        accumulator.update(truth_ids, track_ids, distances, frameid=frame)
    return accumulator


def _scores(hota: Mapping[str, Any], clear: Mapping[str, Any], data: list[dict[str, Any]]) -> Scores:
    def count(key: str) -> int:
        return sum(int(one[key]) for one in data)

    any_truth = count("num_gt_dets") > 0
    return Scores(
        hota=float(np.mean(hota["HOTA"])),
        det_a=float(np.mean(hota["DetA"])),
        ass_a=float(np.mean(hota["AssA"])),
        loc_a=float(np.mean(hota["LocA"])) if np.any(hota["HOTA_TP"]) else 0.0,
        mota=float(clear["mota"]) if any_truth else 0.0,
        idf1=float(clear["idf1"]) if any_truth else 0.0,
        switches=int(clear["num_switches"]),
        false_positives=int(clear["num_false_positives"]),
        misses=int(clear["num_misses"]),
        frames=count("num_timesteps"),
        truth_boxes=count("num_gt_dets"),
        track_boxes=count("num_tracker_dets"),
        truth_ids=count("num_gt_ids"),
        track_ids=count("num_tracker_ids"),
    )


def _frames(stride: int) -> str:
    return "any frame" if stride == 1 else f"frames 1, {1 + stride}, {1 + 2 * stride}, ... (--stride {stride})"


def _span(rows: MotRows) -> str:
    return f"{rows.frames[0]}..{rows.frames[-1]}"
