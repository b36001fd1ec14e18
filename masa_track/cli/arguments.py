"""Types of arguments and options that several subcommands have."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def path_text(text: str) -> str:
    """A path as text. An empty one, as an unset variable of the shell gives, is refused: for Path it is the folder."""
    if not text:
        raise argparse.ArgumentTypeError("must name a file or folder, got '': is a variable of the shell not set?")
    return text


def path(text: str) -> Path:
    """A path; see :func:`path_text`."""
    return Path(path_text(text))


class Default(str):
    """The default of an option: its type shows that the option was not given on the command line."""


def add_exemplars(group: Any) -> None:
    """Adds ``--exemplar``, ``--negative-exemplar`` and ``--truncate``."""
    group.add_argument(
        "--exemplar",
        action="append",
        default=[],
        metavar="FRAME:x1,y1,x2,y2[@PHRASE]",
        help="with --detector sam3: a box, in pixels of frame FRAME, around an object to find; it applies from that "
        "frame on, to the first phrase unless PHRASE is given; may be given several times, with --text or "
        "without",
    )
    group.add_argument(
        "--negative-exemplar",
        action="append",
        default=[],
        metavar="FRAME:x1,y1,x2,y2[@PHRASE]",
        help="with --detector sam3: a box around an object that is not to be found",
    )
    group.add_argument(
        "--truncate",
        action="store_true",
        help="with --detector sam3: cut phrases after 30 tokens; without this option longer phrases are refused",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Adds ``--device``."""
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, ... (default: a GPU if there is one)")


def add_frame_range(parser: argparse.ArgumentParser) -> None:
    """Adds ``--start`` and ``--end``, which :func:`masa_track.video.times.frame_of` reads."""
    parser.add_argument(
        "--start", metavar="PLACE", help="first frame: its number, 1500, or a time: 12.5s, 1:30, 1:02:03.5"
    )
    parser.add_argument("--end", metavar="PLACE", help="last frame, as --start")


def add_refine_masks(parser: argparse.ArgumentParser, condition: str = "") -> None:
    """Adds ``--refine-masks``; its help begins with ``condition``."""
    parser.add_argument(
        "--refine-masks",
        action="store_true",
        help=f"{condition}move the borders of masks to edges of the picture; useful for coarse masks, not for those of"
        " flow",
    )
