"""`masa-track eval`: scores tracks against the truth and prints a table."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from masa_track.cli.arguments import path_text
from masa_track.cli.counts import check_counts
from masa_track.errors import InputError

_DESCRIPTION = """\
Scores tracks against the truth: HOTA with its parts DetA (detection), AssA (association) and LocA
(localisation), MOTA, IDF1, identity switches (IDSW), false positives (FP) and misses (FN). For objects
of many classes: TETA with its parts LocA (localisation), AssocA (association) and ClsA (classification).
For masks: J, F and J&F as DAVIS defines them. For sentences: the scores of referring segmentation."""

_EPILOG = """\
GT and TRACKS are MOTChallenge text or json. Text has one row for each box:
frame,id,left,top,width,height[,flag,...], with frames counted from 1. They can be
  GT      a text file | a sequence's folder (gt/gt.txt in it) | a folder of sequences (NAME/gt/gt.txt)
  TRACKS  a text file | a folder made by `masa-track track` (tracks.txt in it)
          | for several sequences, a folder with NAME.txt or NAME/tracks.txt, or a tracker's folder of
            TrackEval, with data/NAME.txt

GT as json is COCO-VID or TAO (FILE.json, of one or many videos); TRACKS is then a list of TAO results for
its images, COCO-VID, a folder made by `masa-track track`, or a folder with NAME.json or NAME/tracks.json.
For json, only frames that GT lists are scored. Images of TRACKS are those of GT by file name, else by the
number in the name or by frame_id; classes are the same by name. TETA is by class; the other metrics ignore classes.

Rows of GT whose seventh column is 0 are not scored; those with 1 or -1 are. Benchmarks remove more before
they score. --rules says what:
  mot16, mot17, mot20          tracks on distractors (column 8 of GT), as TrackEval does
  kitti-car, kitti-pedestrian  also DontCare regions and small boxes, as TrackEval does; GT is a text of
                               label_02 or the folder; TRACKS is MOT text or KITTI's
  visdrone                     boxes in ignored regions and on "others"; GT is a text of annotations or the folder
  none                         no more than the rows flagged 0
  auto (default)               mot16, mot17 or mot20 for sequences called MOT16-02 and the like whose GT has
                               classes in column 8; otherwise none
A track box without a true box is a false positive, also after GT's last frame. COMBINED is
computed from the summed counts of all sequences; it is not their mean.

With --metrics jf, GT and TRACKS are folders of masks: NAME.png with a palette or in grey, whose values are
object numbers (or OBJECT/NAME.png, as in SA-V), of one sequence, or of several in folders of their names.
Objects are those of the first picture of GT; its first and last frame are not scored; 255 is background.

With --metrics refer, GT and TRACKS hold what sentences select, each sample a picture and a sentence: precision at
IoU .5 to .9, overall and mean IoU, mAP and J&F. They are COCO json with one annotation an image, or an image and
sentence (segmentation or bbox), and a list of COCO results with scores or detections.json of `masa-track detect
--refer`; or folders VIDEO/EXPRESSION/FRAME.png, as Refer-YouTube-VOS has them.

With --metrics panoptic, GT and TRACKS are json of panoptic maps as of COCO or VIPSeg, with the pictures in the folder
of the same name, or folders with panoptic.json, as of `masa-track track --stuff`: PQ, VPQ over windows of 1 to 4
frames, STQ, mIoU. Folders of PNG without json are label maps, whose values are class numbers (255: none): mIoU.
With --metrics parts, both are tracks.json, or folders with it, whose parts have parent_id: AP of parts, share of parts
whose parent is right, switches of identities. --per-class adds a table of classes.

examples:
  masa-track track TUD-Campus/img1 --out runs/campus
  masa-track eval TUD-Campus runs/campus
  masa-track eval bdd_val.json runs/bdd --metrics teta,hota
  masa-track eval MOT17/train my_results --json scores.json
  masa-track eval DAVIS/Annotations/480p runs/vos --metrics jf
  masa-track eval vipseg_val.json runs/road --metrics panoptic --per-class
  masa-track eval MOT17/train trackers/mine --sequences MOT17-02-FRCNN,MOT17-04-FRCNN
  masa-track eval TUD-Campus/gt/gt.txt tracks.txt --stride 10    # every 10th frame of both"""


def add_parser(commands: Any) -> None:
    """Adds ``eval`` to the command's parser.

    Args:
        commands: what ``ArgumentParser.add_subparsers`` gave.
    """
    parser = commands.add_parser(
        "eval",
        help="score tracks against the truth",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("gt", type=path_text, metavar="GT", help="the truth")
    parser.add_argument("tracks", type=path_text, metavar="TRACKS", help="the tracks to score")
    parser.add_argument(
        "--metrics",
        default="hota,clear,idf1",
        metavar="NAMES",
        help="any of hota, clear, idf1, teta, separated by commas; or jf for masks, refer for what sentences select, "
        "panoptic for panoptic or label maps, parts for parts of things (default: %(default)s)",
    )
    parser.add_argument(
        "--exhaustive",
        action=argparse.BooleanOptionalAction,
        help="for TETA: the truth holds all objects of its classes (default: yes, unless it is TAO's)",
    )
    parser.add_argument(
        "--stride",
        type=int,
        default=1,
        metavar="N",
        help="score frames 1, 1+N, ... of both; in json, frame 1 is the first that GT lists (default: %(default)s)",
    )
    parser.add_argument(
        "--iou",
        type=float,
        default=0.5,
        metavar="X",
        help="IoU from which MOTA, IDF1 and the counts accept a match (default: %(default)s)",
    )
    parser.add_argument(
        "--rules",
        default="auto",
        metavar="NAME",
        help="what a benchmark removes before it scores: auto, none, mot16, mot17, mot20, kitti-car, "
        "kitti-pedestrian or visdrone, see below (default: %(default)s)",
    )
    parser.add_argument(
        "--sequences",
        metavar="NAMES",
        help="score these sequences alone: names with commas between, or a file with a name a line, as TrackEval's "
        "seqmaps (default: all of GT)",
    )
    parser.add_argument(
        "--per-class",
        action="store_true",
        help="also a table of each class; in text, column 8 of GT and TRACKS is the class, and no rules are applied",
    )
    parser.add_argument(
        "--first-frame",
        type=int,
        metavar="N",
        help="TRACKS is a run on images, and GT, text, has the numbers in their names, the first of which is N "
        "(default: it is found out). In json, N is the number in the name of GT's image of the run's first frame",
    )
    parser.add_argument(
        "--frame-base",
        type=int,
        metavar="N",
        help="TRACKS is a run on images, and GT, text, counts them one by one from 1 (default: it is found out). In "
        "json, 0 or 1: from which number the names of GT's images count the frames of a run on a video",
    )
    parser.add_argument("--json", type=path_text, metavar="FILE", help="also write the scores, not rounded, to FILE")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Scores, prints and writes. Returns 0.

    Args:
        args: as :func:`add_parser` defines them.

    Raises:
        InputError: see :func:`masa_track.evaluation.metrics.measure`; or FILE cannot be
            written, which is checked before any work.
        OSError: FILE could not be written after all.
    """
    check_counts(args, "stride")
    from masa_track.evaluation.pairs import parse_sequences

    sequences = None if args.sequences is None else parse_sequences(args.sequences)
    metrics = [name.strip().lower() for name in args.metrics.split(",") if name.strip()]
    if "jf" in metrics or "refer" in metrics:
        return _run_masks(args, metrics, sequences)
    if {"panoptic", "parts"} & set(metrics):
        return _run_segments(args, metrics, sequences)
    if args.json is not None:
        _check_json(args.json, args.gt, args.tracks, args.rules, sequences)
    from masa_track.evaluation.metrics import measure
    from masa_track.evaluation.table import format_classes, format_table, format_teta
    from masa_track.formats.joining import Numbering

    if args.frame_base not in (None, 1) and not args.gt.lower().endswith(".json"):
        raise InputError(f"--frame-base must be 1, as MOT text counts frames from 1, got {args.frame_base}")

    measured = measure(
        args.gt,
        args.tracks,
        metrics,
        args.stride,
        args.iou,
        args.exhaustive,
        args.rules,
        sequences,
        args.per_class,
        Numbering(args.first_frame, args.frame_base),
    )
    parts = []
    if measured.evaluation is not None:
        parts.append(format_table(measured.evaluation, metrics))
    if measured.classes:
        named = {measured.class_name(number): scores for number, scores in measured.classes.items()}
        parts.append(format_classes(named, metrics))
    if measured.teta is not None:
        parts.append(format_teta(measured.teta, measured.class_names, measured.exhaustive))
    print("\n\n".join(parts))
    ends = [*short_tracks(measured.last_frames), *early_tracks(measured.boxes_before)]
    for note in (*measured.notes, *rule_notes(measured.rules), *ends):
        print(note, file=sys.stderr)
    if args.json is not None:
        _write_json(args.json, measured.as_dict())
    return 0


def _run_masks(args: argparse.Namespace, metrics: list[str], sequences: Sequence[str] | None) -> int:
    """Scores folders of masks, or what sentences selected."""
    from masa_track.evaluation.davis import evaluate_masks
    from masa_track.evaluation.refer import evaluate_referring

    kind = "refer" if "refer" in metrics else "jf"
    if metrics != [kind]:
        raise InputError(f"--metrics {kind} is for masks and stands alone, got {args.metrics}: score the others apart")
    if kind == "refer" and sequences is not None:
        raise InputError("--sequences is not for --metrics refer, which scores all of GT: leave it out")
    if args.per_class:
        raise InputError(f"--per-class is not for --metrics {kind}, whose rules are fixed: leave it out")
    _check_fixed(args, kind)
    referring = evaluate_referring(args.gt, args.tracks) if kind == "refer" else None
    evaluation = referring or evaluate_masks(args.gt, args.tracks, sequences)
    print(evaluation.table())
    if args.json is not None:
        _write_json(args.json, evaluation.as_dict())
    return 0


def _check_fixed(args: argparse.Namespace, metric: str) -> None:
    """Refuses options that a metric with fixed rules does not have, and checks the place of the json."""
    from masa_track.files import check_file, check_overwriting

    for option, given in (
        ("--stride", args.stride != 1),
        ("--iou", args.iou != 0.5),
        ("--rules", args.rules != "auto"),
        ("--exhaustive", args.exhaustive is not None),
        ("--first-frame", args.first_frame is not None),
        ("--frame-base", args.frame_base is not None),
    ):
        if given:
            raise InputError(f"{option} is not for --metrics {metric}, whose rules are fixed: leave it out")
    if args.json is not None:
        from masa_track.formats.panoptic import JSON_NAME

        check_file(args.json, "--json")
        read = [(name, Path(place)) for name, place in (("GT", args.gt), ("TRACKS", args.tracks))]
        inside = [(name, place / file) for name, place in read for file in ("tracks.json", JSON_NAME)]
        check_overwriting([("--json", args.json)], [*read, *inside])


def _run_segments(args: argparse.Namespace, metrics: list[str], sequences: Sequence[str] | None) -> int:
    """Scores panoptic maps, label maps or parts."""
    from masa_track.evaluation.segments import PartEvaluation, SegmentScores, evaluate_panoptic, evaluate_parts

    if len(metrics) > 1:
        raise InputError(f"--metrics {metrics[0]} stands alone, got {args.metrics}: score the others apart")
    _check_fixed(args, metrics[0])
    if metrics[0] == "parts":
        if sequences is not None:
            raise InputError("--sequences is not for --metrics parts, which scores one run: leave it out")
        scores: PartEvaluation | SegmentScores = evaluate_parts(args.gt, args.tracks)
    else:
        scores = evaluate_panoptic(args.gt, args.tracks, sequences)
    print(scores.table(args.per_class))
    for note in getattr(scores, "notes", ()):
        print(note, file=sys.stderr)
    if args.json is not None:
        _write_json(args.json, scores.as_dict())
    return 0


def _write_json(file: str, scores: Mapping[str, Any]) -> None:
    """Writes the scores.

    Raises:
        OSError: FILE could not be written.
    """
    from masa_track.files import write_text

    try:
        write_text(file, json.dumps(scores, indent=2, allow_nan=False) + "\n")
    except OSError as error:
        raise OSError(error.errno, error.strerror, file) from error


def rule_notes(applied: Mapping[str, tuple[str, int]]) -> list[str]:
    """A note for each set of rules that was applied.

    Args:
        applied: by sequence, the rules and how many boxes of tracks they removed.
    """
    removed: dict[str, list[int]] = {}
    for rules, count in applied.values():
        removed.setdefault(rules, []).append(count)
    return [
        f"note: scored by the rules of {rules} ({len(counts)} of {len(applied)} sequences): {sum(counts):,} boxes of "
        "tracks were removed first. --rules none scores all boxes"
        for rules, counts in removed.items()
        if rules != "none"
    ]


def short_tracks(last_frames: Mapping[str, tuple[int, int]]) -> list[str]:
    """A note for each sequence whose tracks end before nine tenths of its truth, as after `track --max-frames`.

    Args:
        last_frames: by sequence, the last frame with a track (0 without any) and the last with truth.
    """
    return [
        f"note: tracks of {name} end at frame {found} of {truth}: all truth after it counts as missed. "
        f"If only {found} frames were tracked, shorten GT to them, or track the whole video"
        for name, (found, truth) in last_frames.items()
        if 0 < found < 0.9 * truth
    ]


def early_tracks(boxes_before: Mapping[str, int]) -> list[str]:
    """A note for each sequence with tracks before its truth begins, as where the truth is of the second half.

    Args:
        boxes_before: by sequence, boxes of tracks before the first frame with truth.
    """
    return [
        f"note: {count:,} boxes of {name} are before GT's first frame, and count as false positives. If GT is of a "
        "part of the video, remove the other frames from TRACKS"
        for name, count in boxes_before.items()
        if count
    ]


def _check_json(file: str, gt: str, tracks: str, rules: str, sequences: list[str] | None) -> None:
    from masa_track.files import check_file, check_overwriting

    check_file(file, "--json")
    check_overwriting([("--json", file)], _files_read(Path(gt), Path(tracks), rules, sequences))


def _files_read(gt: Path, tracks: Path, rules: str, sequences: list[str] | None) -> Iterator[tuple[str, Path]]:
    """The files that are scored, also those in folders. Their contents are checked later, when they are read."""
    from masa_track.evaluation.scores import pairs_of

    yield "GT", gt
    yield "TRACKS", tracks
    if gt.suffix.lower() != ".json":
        for pair in pairs_of(gt, tracks, rules, sequences):
            yield from (("GT", pair.gt), ("TRACKS", pair.tracks))
    elif (tracks / "tracks.json").is_file():
        yield "TRACKS", tracks / "tracks.json"
    elif tracks.is_dir():
        with suppress(OSError, ValueError, LookupError, TypeError, RecursionError):
            for name in {str(video["name"]) for video in json.loads(gt.read_bytes())["videos"]}:
                yield from (("TRACKS", tracks / f"{name}.json"), ("TRACKS", tracks / name / "tracks.json"))
