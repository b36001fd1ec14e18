"""`masa-track recover`: makes the files of a run that was killed from its record."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from masa_track.cli.arguments import path

_DESCRIPTION = """\
Makes tracks.txt, tracks.json, tracks.csv, report.html and video.mp4 of a run from its record, run.sqlite.
For a run with --stuff it also makes panoptic.json and its pictures. A run writes its record continuously: if it
is killed, at most half a second of frames is missing. The source is not needed."""

_EPILOG = """\
To continue the run instead, repeat its command with --resume.

examples:
  masa-track recover runs/street
  masa-track track rtsp://camera.local/1 --detector motion --out runs/street --resume

Exit status: 0; 1 if a file cannot be written; 2 if there is no record, or the run is at work."""


def add_parser(commands: Any) -> None:
    """Adds ``recover`` to the command's subparsers."""
    parser = commands.add_parser(
        "recover",
        help="make the files of a run that was killed",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=path, metavar="DIR", help="folder of the run, which holds run.sqlite")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs ``recover``. Returns the exit status.

    Raises:
        InputError: there is no record, it is damaged, or another process writes it.
    """
    from masa_track.cli.summary import summary
    from masa_track.files import locked_folder
    from masa_track.pipeline.recover import recover
    from masa_track.runs.store import open_store

    open_store(args.folder).close()  # a mistake is named before the folder is locked
    with locked_folder(args.folder, "DIR"):
        outcome = recover(args.folder)
    if outcome.faults:
        print(f"masa-track: error: {'; '.join(outcome.faults)}", file=sys.stderr)
    print(summary(outcome, args.folder))
    return 1 if outcome.faults else 0
