"""`masa-track verify`: runs a model with its published weights, and compares with results that others have measured."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from masa_track.cli.arguments import add_device, path, path_text
from masa_track.errors import InputError

_DESCRIPTION = """\
Verifies, on your machine, that a model with its published weights gives the results that others have
measured: the checkpoint is downloaded (or given), the model is run on public data, and the scores are
compared. Without NAME, lists what can be verified."""

_EPILOG = """\
r50: the authors' MASA-R50 gives the true boxes of nine sequences of MOT15 identities, with the options of
the authors' demo. Compared are IDF1 and HOTA with those of the authors' program as other people ran it.
DIR is the folder train of MOT15: SEQUENCE/img1/*.jpg and SEQUENCE/gt/gt.txt.

edgetam: J&F of EdgeTAM on DAVIS 2017 val, from the masks of the first frames, with that of its paper.
DIR has JPEGImages/480p/NAME and Annotations/480p/NAME.

sam2.1-hiera-tiny: J&F of SAM 2.1 tiny on SA-V test, with that of its authors' README. DIR is sav_test.

mttr-a2d: precision, IoU and mAP of MTTR on the test split of A2D-Sentences, with those of its authors'
README. DIR has Release and text_annotations. --checkpoint is needed: the authors' file is on their page
alone; tokenizer.json of roberta-base lies beside it.

  masa-track verify
  masa-track verify edgetam --data DAVIS
  masa-track verify r50 --data MOT15/train --report r50.md
  masa-track verify r50 --data MOT15/train --sequences TUD-Campus --checkpoint masa_r50.pth

The report has the scores here and there, their differences, the versions, the device, the SHA-256 of the
checkpoint and the time. Beside FILE.md there is FILE.json with the same, not rounded. Such a json file can
be given by --expected on another machine, so that the two machines are compared.

Exit status: 0 if all compared scores are equal within the tolerance, 1 if not, 2 for bad input."""


def add_parser(commands: Any) -> None:
    """Adds ``verify`` to the command's subparsers."""
    parser = commands.add_parser(
        "verify",
        help="compare a model's results with known ones",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("name", nargs="?", metavar="NAME", help="what to verify; without it, what can be verified is listed")
    add("--data", type=path, metavar="DIR", help="folder of the data")
    add("--checkpoint", type=path_text, metavar="FILE", help="weights in place of the download")
    add("--report", type=path, metavar="FILE", help="also write the report: FILE.md (with FILE.json), or FILE.json")
    add("--sequences", metavar="NAMES", help="run these alone, with commas between (default: all)")
    add("--expected", type=path, metavar="FILE.json", help="compare with an earlier json report")
    add_device(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs ``verify``. Returns 0 for equal results (and for the list), 1 for others.

    Raises:
        InputError: the data, the checkpoint or the place of the report are not usable.
    """
    from masa_track.evaluation.proofs import PROOFS, find_proof, verify

    if args.name is None:
        for proof in PROOFS.values():
            print(f"{proof.name}  model {proof.model} on {proof.data}")
        return 0
    proof = find_proof(args.name)
    if args.data is None:
        raise InputError(f"verify {proof.name} needs --data DIR: {proof.data}")
    reports = report_files(args)
    items = None if args.sequences is None else [name.strip() for name in args.sequences.split(",")]
    outcome = verify(proof, args.data, args.checkpoint, args.expected, items, args.device)
    text = outcome.as_markdown()
    print(text, end="")
    for file in reports:
        from masa_track.files import write_text

        content = json.dumps(outcome.as_dict(), indent=2, allow_nan=False) + "\n" if file.suffix == ".json" else text
        write_text(file, content)
    return 0 if outcome.passed else 1


def report_files(args: argparse.Namespace) -> list[Path]:
    """The files of the report, checked before any work.

    Raises:
        InputError: FILE has another suffix, cannot be written, or would overwrite a file that is read.
    """
    if args.report is None:
        return []
    if args.report.suffix not in (".md", ".json"):
        raise InputError(f"--report must end in .md or .json, got {args.report}")
    from masa_track.files import check_file, check_overwriting

    files = [args.report] if args.report.suffix == ".json" else [args.report, args.report.with_suffix(".json")]
    for file in files:
        check_file(file, "--report")
    check_overwriting([("--report", file) for file in files], _files_read(args))
    return files


def _files_read(args: argparse.Namespace) -> Iterator[tuple[str, Path]]:
    for name in ("checkpoint", "expected"):
        if getattr(args, name) is not None:
            yield f"--{name}", Path(getattr(args, name))
    yield from (("--data", file) for file in args.data.glob("*/gt/gt.txt"))
