"""`masa-track eval`: scores tracks against the truth and prints a table."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from masa_track.cli.counts import check_counts
from masa_track.errors import InputError

_DESCRIPTION = """\
Scores tracks against the truth: HOTA (DetA: finding, AssA: keeping identities, LocA: placing),
MOTA, IDF1, identity switches (IDSW), false positives (FP) and misses (FN); for things of many
classes TETA (LocA: finding, AssocA: keeping identities, ClsA: naming)."""

_EPILOG = """\
GT and TRACKS are MOTChallenge text or json. Text has a row a box: frame,id,left,top,width,height[,flag,...],
frames counted from 1. They can be
  GT      a text file | a sequence's folder (gt/gt.txt in it) | a folder of sequences (NAME/gt/gt.txt)
  TRACKS  a text file | a folder made by `masa-track track` (tracks.txt in it)
          | for several sequences, a folder with NAME.txt or NAME/tracks.txt

GT as json is COCO-VID or TAO (FILE.json, of one or many videos); TRACKS is then a list of TAO results for
its images, COCO-VID, a folder made by `masa-track track`, or a folder with NAME.json or NAME/tracks.json.
Only frames that GT lists are looked at. TETA is by class; the other metrics do not look at classes.

Rows of GT whose seventh column is 0 are not scored; 1 and -1 are. MOT text has no classes: MOTChallenge's
server also takes away tracks on distractors (MOT16 and later), so its figures can differ from these.
A track where GT has nothing is a false positive, also after GT's last frame. COMBINED sums the counts of
all sequences, it is no mean.

examples:
  masa-track track TUD-Campus/img1 --out runs/campus
  masa-track eval TUD-Campus runs/campus
  masa-track eval bdd_val.json runs/bdd --metrics teta,hota
  masa-track eval MOT17/train my_results --json scores.json
  masa-track eval TUD-Campus/gt/gt.txt tracks.txt --stride 10    # as if the camera took a tenth of the frames"""


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
    parser.add_argument("gt", metavar="GT", help="the truth")
    parser.add_argument("tracks", metavar="TRACKS", help="the tracks to score")
    parser.add_argument(
        "--metrics",
        default="hota,clear,idf1",
        metavar="NAMES",
        help="of hota, clear, idf1, teta, separated by commas (default: %(default)s)",
    )
    parser.add_argument(
        "--exhaustive",
        action=argparse.BooleanOptionalAction,
        help="for TETA: the truth holds every thing of its classes (default: unless it is TAO's)",
    )
    parser.add_argument(
        "--stride", type=int, default=1, metavar="N", help="keep frames 1, 1+N, ... of both (default: %(default)s)"
    )
    parser.add_argument(
        "--iou",
        type=float,
        default=0.5,
        metavar="X",
        help="overlap from which MOTA, IDF1 and the counts accept a match (default: %(default)s)",
    )
    parser.add_argument("--json", metavar="FILE", help="also write the scores, not rounded, to FILE")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Scores, prints and writes. Returns 0.

    Args:
        args: as :func:`add_parser` defines them.

    Raises:
        InputError: see :func:`masa_track.evaluation.metrics.measure`; or FILE cannot be written, told before any work.
    """
    check_counts(args, "stride")
    if args.json is not None:
        _check_json(args.json, args.gt, args.tracks)
    from masa_track.evaluation.metrics import measure
    from masa_track.evaluation.table import format_table, format_teta

    metrics = [name.strip().lower() for name in args.metrics.split(",") if name.strip()]
    measured = measure(args.gt, args.tracks, metrics, args.stride, args.iou, args.exhaustive)
    parts = []
    if measured.evaluation is not None:
        parts.append(format_table(measured.evaluation, metrics))
    if measured.teta is not None:
        parts.append(format_teta(measured.teta, measured.class_names, measured.exhaustive))
    print("\n\n".join(parts))
    if args.json is not None:
        from masa_track.io.files import write_text

        try:
            write_text(args.json, json.dumps(measured.as_dict(), indent=2, allow_nan=False) + "\n")
        except OSError as error:
            raise InputError(f"--json could not be written to {args.json}: {error.strerror or error}") from error
    return 0


def _check_json(file: str, *inputs: str) -> None:
    path = Path(file)
    if not file or path.is_dir():
        raise InputError(f"--json must name a file, got {file!r}" + (", a folder" if file else ""))
    if any(path.exists() and path.samefile(place) for place in inputs if Path(place).exists()):
        raise InputError(f"--json must not be one of the files to score, got {file}")
    if not path.parent.is_dir():
        raise InputError(f"--json must be in a folder that is there, but there is no {path.parent}")
    try:
        # Trying is the only sure test: permission bits mean nothing to root, on /proc or on a read-only mount.
        with tempfile.NamedTemporaryFile(prefix=".masa-track-", dir=path.parent):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"--json must be in a folder that can be written, got {file}: {reason}") from error
