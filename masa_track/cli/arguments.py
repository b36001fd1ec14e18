"""Types of arguments that several subcommands have."""

from __future__ import annotations

import argparse
from pathlib import Path


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
