"""`masa-track tune`: searches the options of the preset `default` on videos with truth."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from masa_track.cli.arguments import path, path_text
from masa_track.cli.counts import check_counts
from masa_track.errors import InputError, missing_extra
from masa_track.registry import check_installed

_DESCRIPTION = """\
Searches the options of the preset `default` on sequences with truth, and prints the best ones as --set
arguments for `masa-track track`. Each frame is embedded once; then a trial takes seconds. The command
needs optuna: pip install ".[tune]" in a checkout of masa-track."""

_EPILOG = """\
SEQUENCE is a MOTChallenge folder: img1/*.jpg or one video file, gt/gt.txt, and det/det.txt for --boxes det.

  masa-track tune MOT15/train/TUD-Campus MOT15/train/PETS09-S2L1 --boxes det --trials 100

The options found fit these videos. Keep some videos aside and score them with `masa-track eval`."""


def add_parser(commands: Any) -> None:
    """Adds ``tune`` to the command's subparsers."""
    parser = commands.add_parser(
        "tune",
        help="search the best options on your videos with truth",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("sequences", nargs="+", type=path, metavar="SEQUENCE", help="folder with frames, gt/gt.txt and det/det.txt")
    add(
        "--boxes",
        choices=("det", "gt"),
        default="det",
        help="which boxes to track: detections or truth (default: %(default)s)",
    )
    add(
        "--rules",
        default="auto",
        metavar="NAME",
        help="what a benchmark removes before it scores, as of `masa-track eval --rules` (default: %(default)s)",
    )
    add("--score", choices=("idf1", "hota", "mota"), default="hota", help="metric to maximise (default: %(default)s)")
    add("--trials", type=int, default=50, metavar="N", help="number of settings to try (default: %(default)s)")
    add(
        "--strides",
        type=int,
        nargs="+",
        default=[1],
        metavar="N",
        help="maximise the mean over these frame strides (default: 1)",
    )
    add("--model", default="nano", metavar="NAME", help="model that embeds the boxes (default: %(default)s)")
    add("--checkpoint", type=path_text, metavar="FILE", help="weights to load instead of the model's own")
    add("--device", metavar="NAME", help="cpu, cuda, cuda:1, ... (default: a GPU if there is one)")
    add("--seed", type=int, default=0, help="random seed of the search (default: %(default)s)")
    add("--json", type=path, metavar="FILE", help="also write scores and options to FILE")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs ``tune``. The input is checked before anything is embedded. Returns 0."""
    check_counts(args, "trials", "strides")
    check_counts(args, "seed", least=0)
    if args.json is not None:
        from masa_track.files import check_file, check_overwriting

        check_file(args.json, "--json")
        check_overwriting([("--json", args.json)], _files_read(args))
    from masa_track.evaluation.rules import check_rules
    from masa_track.pipeline.tuning import embed_sequence, search

    check_rules(args.rules)

    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise missing_extra("optuna", "tune") from error
    check_installed("eval", purpose="for tune")
    from masa_track.encoders.loading import load

    for folder in args.sequences:
        for part in ("gt/gt.txt", f"{args.boxes}/{args.boxes}.txt"):
            if not (folder / part).is_file():
                raise InputError(f"SEQUENCE must have {part}, but there is no {folder / part}")
    model = load(args.model, device=args.device, checkpoint=args.checkpoint)
    sequences = [embed_sequence(folder, args.boxes, model, args.rules) for folder in args.sequences]
    for one in sequences:
        if one.ruled is not None and one.ruled.rules != "none":
            print(f"note: {one.name} is scored by the rules of {one.ruled.rules}", file=sys.stderr)
    before, best, options = search(sequences, args.score, args.trials, args.strides, args.seed)
    print(f"{args.score}: {before:.3f} with the preset's options, {best:.3f} with the best of {args.trials} trials")
    print(" ".join(f"--set {name}={value}" for name, value in options.items()) or "the preset's options are the best")
    if args.json is not None:
        import json

        from masa_track.files import write_text

        write_text(args.json, json.dumps({"score": best, "preset_score": before, "options": options}, indent=2) + "\n")
    return 0


def _files_read(args: argparse.Namespace) -> Iterator[tuple[str, Path]]:
    """The files of the sequences and of the model; some may not exist."""
    for folder in args.sequences:
        for place in (folder, folder / "gt", folder / "det", folder / "img1"):
            if place.is_dir():
                yield from (("SEQUENCE", file) for file in place.iterdir())
    for name in ("model", "checkpoint"):
        if getattr(args, name):
            file = Path(getattr(args, name))
            yield from ((f"--{name}", file), (f"--{name}", file.with_suffix(".prior.json")))
