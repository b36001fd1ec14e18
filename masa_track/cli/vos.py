"""`masa-track vos`: masks of a data set of video object segmentation, by its protocol."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from masa_track.cli.arguments import add_device, add_refine_masks, path
from masa_track.cli.counts import check_counts
from masa_track.errors import InputError

if TYPE_CHECKING:
    from masa_track.contracts import MaskPropagator
    from masa_track.formats.davis import VosSequence

_LAYOUTS = ("davis", "mose", "sav", "ytvos")
_SETTINGS = "vos.json"

_DESCRIPTION = """\
Segments the sequences of a data set by the semi-supervised protocol: the first mask of each object is
given, the masks of all other frames are made, and written as PNG files with DAVIS' palette."""

_EPILOG = """\
ROOT has, with --layout
  davis   JPEGImages/480p/NAME/*.jpg and Annotations/480p/NAME/*.png (or another resolution)
  mose    JPEGImages/NAME/*.jpg and Annotations/NAME/*.png
  ytvos   the same
  sav     JPEGImages_24fps/NAME/*.jpg and Annotations_6fps/NAME/OBJECT/*.png
Values of the PNG files are object numbers; in SA-V all that is not 0 is the object of the folder. With davis
and mose the masks of the first frame are used, with the others the first mask of each object.

DIR gets NAME/FRAME.png for each frame (sav: NAME/OBJECT/FRAME.png), and vos.json with the settings. A sequence
is there when it is finished. After Ctrl-C or a kill the same command continues with the others.

With --interactive N, a simulated user clicks instead: once on each object, then after each pass over the
video once where the mask of the object has its largest wrong region, N clicks an object in all. J&F
after each pass is printed and written to DIR/interactive.json; ROOT must have masks of all frames.

examples:
  masa-track vos DAVIS --layout davis --out runs/vos
  masa-track eval DAVIS/Annotations/480p runs/vos --metrics jf
  masa-track vos DAVIS --layout davis --sequences dog,camel --interactive 5 --out runs/clicks

Exit status: 0; 1 for a full disk, too little memory or an internal error; 2 for bad input; 130 if interrupted."""


def add_parser(commands: Any) -> None:
    """Adds ``vos`` to the command's subparsers."""
    parser = commands.add_parser(
        "vos",
        help="masks of a data set of video object segmentation, by its protocol",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("root", type=path, metavar="ROOT", help="folder of the data set")
    add("--layout", required=True, choices=_LAYOUTS, help="how its folders are arranged, see below")
    add("--out", required=True, type=path, metavar="DIR", help="folder for the masks")
    add(
        "--masklets",
        default="flow",
        metavar="NAME",
        help="method that propagates the masks from frame to frame, as for track --masklets (default: %(default)s)",
    )
    add_refine_masks(parser)
    add(
        "--sequences",
        metavar="NAMES",
        help="only these sequences: names separated by commas, or a file with a name on each line (default: all)",
    )
    add("--interactive", type=int, metavar="N", help="simulate a user with N clicks for each object, see below")
    add_device(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs ``vos``. Returns 0, or 130 if interrupted.

    Raises:
        InputError: a folder is not as the layout says, or DIR holds masks of other settings.
        OSError: a mask cannot be written.
    """
    from masa_track.evaluation.pairs import parse_sequences
    from masa_track.files import locked_folder, prepare_folder
    from masa_track.formats.davis import find_sequences
    from masa_track.masklets.loading import check_propagator, open_propagator

    check_counts(args, "interactive")
    check_propagator(args.masklets)
    names = [] if args.sequences is None else parse_sequences(args.sequences)
    sequences = find_sequences(args.root, args.layout, names)
    read = {folder.resolve() for one in sequences for folder in (one.masks, one.images)}
    if any(args.out.resolve() in (folder, *folder.parents) for folder in read):
        raise InputError(f"--out {args.out} holds pictures or masks that are read: name another folder")
    # SA-V has a picture of masks for each object, and its objects overlap: a person and her hand.
    propagator = open_propagator(args.masklets, args.device, overlap=args.layout == "sav", refine=args.refine_masks)
    folder = prepare_folder(args.out)
    with locked_folder(folder):
        settings = {"layout": args.layout, "masklets": args.masklets, "interactive": args.interactive}
        if args.refine_masks:
            settings["refine_masks"] = True
        _check_settings(folder, settings, sequences)
        if args.interactive is not None:
            return _interactive(args, sequences, propagator, folder)
        return _segment(args, sequences, propagator, folder)


def _segment(args: argparse.Namespace, sequences: list[VosSequence], propagator: MaskPropagator, folder: Path) -> int:
    """The semi-supervised protocol."""
    from tqdm import tqdm

    from masa_track.pipeline.vos import Stopped, open_clip, segment_clip
    from masa_track.stop import Stop

    due = [one for one in sequences if not (folder / one.name).is_dir()]
    clips = [open_clip(one, args.layout) for one in due]  # all are checked before any work
    done = len(sequences) - len(due)
    if done:
        print(f"{done} of {len(sequences)} sequences are there already", file=sys.stderr)
    total = sum(len(clip.names) for clip in clips)
    with Stop() as stop, tqdm(total=total, unit="frame", dynamic_ncols=True, disable=not clips) as bar:
        for clip in clips:
            bar.set_description(clip.sequence.name)
            try:
                segment_clip(clip, propagator, folder, lambda: stop.asked, bar.update)
            except Stopped:
                bar.close()
                print(f"interrupted: {done} of {len(sequences)} sequences are there; the same command goes on")
                return 130
            done += 1
    print(f"{len(sequences)} sequences, {total} frames segmented")
    print(f"results   {folder}")
    print(f"score     masa-track eval {sequences[0].masks.parent} {folder} --metrics jf")
    return 0


def _interactive(
    args: argparse.Namespace, sequences: list[VosSequence], propagator: MaskPropagator, folder: Path
) -> int:
    """The interactive protocol."""
    import numpy as np
    from tqdm import tqdm

    from masa_track.files import write_text
    from masa_track.pipeline.vos import Stopped, interactive_rounds, open_clip
    from masa_track.stop import Stop

    results = folder / "interactive.json"
    done: dict[str, list[float]] = json.loads(results.read_text()) if results.is_file() else {}
    clips = [open_clip(one, args.layout) for one in sequences if one.name not in done]
    total = args.interactive * sum(len(clip.names) for clip in clips)
    with Stop() as stop, tqdm(total=total, unit="frame", dynamic_ncols=True, disable=not clips) as bar:
        for clip in clips:
            bar.set_description(clip.sequence.name)
            try:
                rounds = interactive_rounds(clip, propagator, args.interactive, lambda: stop.asked, bar.update)
            except Stopped:
                bar.close()
                print(f"interrupted: {len(done)} of {len(sequences)} sequences are there; the same command goes on")
                return 130
            done[clip.sequence.name] = rounds
            write_text(results, json.dumps(done, indent=2) + "\n")
    names = [one.name for one in sequences]
    mean = np.mean([done[name] for name in names], axis=0).tolist()
    print(_table({**{name: done[name] for name in names}, "ALL": mean}))
    print(f"results   {results}")
    return 0


def _table(rounds: dict[str, list[float]]) -> str:
    """J&F in percent, a row a sequence, a column for each number of clicks."""
    width = max(map(len, (*rounds, "clicks")))
    count = len(next(iter(rounds.values())))
    head = "clicks".ljust(width) + "".join(f"{number:>7}" for number in range(1, count + 1))
    return "\n".join(
        [head, *(name.ljust(width) + "".join(f"{100 * value:>7.1f}" for value in row) for name, row in rounds.items())]
    )


def _check_settings(folder: Path, settings: dict[str, Any], sequences: list[VosSequence]) -> None:
    """Notes the settings in the folder; those of an earlier run must be the same.

    Raises:
        InputError: they differ, the file is damaged, or folders of sequences are there without it.
    """
    from masa_track.files import write_text

    file = folder / _SETTINGS
    if file.is_file():
        try:
            before = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{file} is damaged: remove it, and the masks beside it") from error
        if before != settings:
            raise InputError(f"--out {folder} holds masks made with {before}, now {settings}: name another folder")
    elif there := [one.name for one in sequences if (folder / one.name).exists()]:
        raise InputError(f"--out {folder} holds {there[0]}, which masa-track vos has not made: name another folder")
    else:
        write_text(file, json.dumps(settings) + "\n")
