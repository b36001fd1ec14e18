"""Types of arguments that several subcommands have."""

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
    """An option's default, to be told from the same text given on the command line."""


def add_exemplars(group: Any) -> None:
    """Adds ``--exemplar``, ``--negative-exemplar`` and ``--truncate``."""
    group.add_argument(
        "--exemplar",
        action="append",
        default=[],
        metavar="FRAME:x1,y1,x2,y2[@PHRASE]",
        help="with --detector sam3: a box, in pixels of that frame, that shows what to find; it counts from its frame "
        "on, for the first phrase unless one is named; may be given several times, with --text or without",
    )
    group.add_argument(
        "--negative-exemplar",
        action="append",
        default=[],
        metavar="FRAME:x1,y1,x2,y2[@PHRASE]",
        help="with --detector sam3: a box that shows what not to find",
    )
    group.add_argument(
        "--truncate",
        action="store_true",
        help="with --detector sam3: cut phrases of more than 30 tokens, which otherwise are refused",
    )
