"""`masa-track refer`: finds the track that a sentence means."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from masa_track.cli.arguments import path
from masa_track.cli.refer_video import add_options
from masa_track.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from masa_track.refer.geometry import Scene

_DESCRIPTION = """\
With --run, finds the track of a run that a sentence describes. Sentences about position, order, motion, size
and time are evaluated on the tracks, without a model and without the video; see the guide "Find a track by a
sentence". With a VIDEO and --model, MTTR segments the object that a sentence describes."""

_EPILOG = """\
RUN is a folder of `masa-track track` (run.sqlite, tracks.json or tracks.txt in it), a tracks.json, MOT text, or
a sequence of MOTChallenge with gt/gt.txt.

The column `used` says how an answer was found: grammar (it understood the whole sentence), grammar in part
(words were ignored, the note lists them), model, grammar and model, or nothing (the sentence needs a model).
Words of appearance, such as colours and clothes, need a model: --referrer.

examples:
  masa-track refer --run runs/street "the second person from the left at the start"
  masa-track refer --run runs/street "the first to leave" "the fastest car" --json answers.json
  masa-track refer --run runs/street --sentences questions.txt
  masa-track refer --run runs/street "the dog with the red ball" --referrer owlv2 --video street.mp4
  masa-track refer street.mp4 "a dog to the left of the tree" --model mttr.safetensors --out runs/dog

Exit status: 0; 1 if a file cannot be written; 2 for bad input; 130 if interrupted."""


def add_parser(commands: Any) -> None:
    """Adds ``refer`` to the command's subparsers."""
    parser = commands.add_parser(
        "refer",
        help="find the track that a sentence describes",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "texts", nargs="*", metavar="SENTENCE", help='e.g. "the car behind the bus"; without --run, a VIDEO comes first'
    )
    add("--run", type=path, metavar="RUN", dest="tracks", help="the tracks, see below")
    add(
        "--sentences", type=path, metavar="FILE", help="text file with a sentence on each line, in addition to SENTENCE"
    )
    add("--json", type=path, metavar="FILE", help="write a list of {sentence, answer, score, margin, used, ...}")
    add(
        "--referrer",
        metavar="NAME",
        help="a model for words that the grammar does not understand: grounding-dino, owlv2, transformers:MODEL, "
        "sam3:FOLDER or a file of MTTR's weights",
    )
    add("--video", metavar="SOURCE", help="video or images for --referrer (default: the source of the run)")
    add(
        "--threshold",
        type=float,
        default=0.3,
        metavar="X",
        help="score of the referrer below which the answer is none (default: %(default)s)",
    )
    add("--device", metavar="NAME", help="for the referrer: cpu, cuda, ... (default: a GPU if there is one)")
    add_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs ``refer``. Returns 0.

    Raises:
        InputError: no sentence, one that cannot be used, no tracks, an unknown referrer; before any work.
        OSError: the json could not be written.
    """
    from masa_track.files import check_file, check_overwriting, write_text
    from masa_track.refer.answers import answers
    from masa_track.refer.grammar import check_sentence
    from masa_track.refer.sources import read_scene

    texts = [*args.texts, *sentences_of_file(args.sentences)]
    source = None
    if args.tracks is None:
        source, *texts = texts or [None]
        if source is None or args.model is None or args.out is None:
            raise InputError("give --run RUN with sentences, or a VIDEO with sentences, --model FILE and --out DIR")
    elif args.model is not None or args.out is not None:
        raise InputError("--model and --out are for a VIDEO: leave them out; --referrer names a model for --run")
    if not texts:
        raise InputError('give at least one sentence, e.g. "the first to leave", or --sentences FILE')
    for text in texts:
        check_sentence(text)
    if not 0 <= args.threshold <= 1:
        raise InputError(f"--threshold must be in 0..1, got {args.threshold}")
    if args.video is not None and args.referrer is None:
        raise InputError("--video is for --referrer: add one, or leave --video out, as the grammar needs no pictures")
    if args.json is not None:
        check_file(args.json, "--json")
        read = ([("--run", args.tracks)] if args.tracks else []) + (
            [("--sentences", args.sentences)] if args.sentences else []
        )
        check_overwriting([("--json", args.json)], read)
    if source is not None:
        return _segment(args, source, texts)
    scene = read_scene(args.tracks)
    scores = None if args.referrer is None else _scores(args, scene, texts)
    found = [one.as_dict() for one in answers(scene, texts, scores, args.threshold)]
    if args.json is not None:
        write_text(args.json, json.dumps(found, indent=2, allow_nan=False) + "\n")
    print(table(found))
    if scores is None and any(one["used"] in ("nothing", "grammar in part") for one in found):
        print("note: add --referrer for what was not understood", file=sys.stderr)
    return 0


def _segment(args: argparse.Namespace, source: str, texts: Sequence[str]) -> int:
    """Sentences about a video without tracks, by MTTR."""
    from masa_track.files import write_text

    if args.referrer is not None:
        raise InputError("--referrer is for --run; --model is the model of a VIDEO: leave --referrer out")
    from masa_track.refer.film import refer_video

    found = refer_video(
        source,
        texts,
        args.model,
        args.out,
        args.tokenizer,
        args.window,
        args.stride,
        args.appearance,
        args.threshold,
        args.device,
    )
    if args.json is not None:
        write_text(args.json, json.dumps(found, indent=2, allow_nan=False) + "\n")
    print(table(found))
    return 0


def sentences_of_file(file: Path | None) -> list[str]:
    """The sentences of a text, one on each line; blank lines are left out; none for None.

    Raises:
        InputError: it cannot be read, or holds no sentence.
    """
    if file is None:
        return []
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text in UTF-8"
        raise InputError(f"--sentences {file} cannot be read: {reason}") from error
    if not lines:
        raise InputError(f"--sentences {file} holds no sentence: write one on each line")
    return lines


def _scores(args: argparse.Namespace, scene: Scene, texts: Sequence[str]) -> Mapping[int, np.ndarray] | None:
    """The referrer's scores by track; None where the video is gone, so that the grammar answers alone."""
    from masa_track.refer.detected import check_referrer, open_referrer
    from masa_track.refer.sources import video_of
    from masa_track.refer.watching import watch
    from masa_track.video.sources import open_source

    check_referrer(args.referrer)
    name = args.video or video_of(args.tracks)
    if name is None:
        raise InputError("--referrer needs pictures, and the run does not name its video: add --video SOURCE")
    try:
        source = open_source(name)
    except InputError as error:
        if args.video is not None:
            raise
        print(f"note: the video of the run is gone, so the grammar answers alone ({error})", file=sys.stderr)
        return None
    if (source.width, source.height) != scene.size:
        raise InputError(
            f"--video {name} has {source.width}x{source.height} pixels, but the tracks are of "
            f"{scene.size[0]}x{scene.size[1]}: name the video that was tracked"
        )
    referrer = open_referrer(args.referrer, args.device, args.threshold, args.tokenizer)

    def progress(done: int, total: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{done} of {total} frames", end="\n" if done == total else "", file=sys.stderr, flush=True)

    return watch(scene, source, referrer, texts, progress).scores()


def table(found: Sequence[Mapping[str, Any]], called: str = "track") -> str:
    """A row for each answer: its track, score, margin, what was used, sentence; and its note below.

    Args:
        found: answers for json.
        called: what an answer is.
    """
    rows = [(called, "score", "margin", "used", "sentence")]
    for one in found:
        name = "none" if one["answer"] is None else str(one["answer"])
        rows.append((name, f"{one['score']:.2f}", f"{one['margin']:.2f}", one["used"], one["sentence"]))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = []
    for row, one in zip(rows, [{}, *found], strict=True):
        cells = [cell.rjust(width) for cell, width in zip(row[:3], widths[:3], strict=True)]
        lines.append("  ".join((*cells, row[3].ljust(widths[3]), row[4])))
        if one.get("note"):
            lines.append(f"{'':{sum(widths[:3]) + 6}}{one['note']}")
    return "\n".join(lines)
