"""The `masa-track` command: finds the subcommand, runs it, turns a caller's mistake into one line and status 2."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from masa_track import __version__
from masa_track.errors import InputError


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command; each subcommand module adds its own part."""
    from masa_track.cli import convert, demo, eval, export, proposals, track, tune

    parser = argparse.ArgumentParser(
        prog="masa-track",
        description="Makes any detector track anything: give it a video and boxes, get identities.",
        epilog="Start with `masa-track demo`; `masa-track COMMAND --help` explains each command.",
    )
    parser.add_argument("--version", action="version", version=f"masa-track {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in (track, eval, export, demo, convert, proposals, tune):
        module.add_parser(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line. Returns the exit status: 0, 2 for bad input, 130 after Ctrl-C."""
    args = build_parser().parse_args(argv)
    try:
        return int(args.run(args))
    except InputError as error:
        print(f"masa-track {args.command}: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of a pipe, e.g. `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
