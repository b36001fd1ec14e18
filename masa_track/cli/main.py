"""The `masa-track` command: finds the subcommand, runs it, turns a caller's mistake into one line and status 2."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from masa_track import __version__
from masa_track.errors import InputError
from masa_track.io.addresses import masked_in


class _Parser(argparse.ArgumentParser):
    """A parser whose errors quote no password."""

    _given: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._given = sys.argv[1:] if args is None else list(args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        super().error(_without_passwords(message, self._given))


def _without_passwords(message: str, given: Sequence[str]) -> str:
    """The message, with the passwords masked of all arguments and of the values of ``--option=value``."""
    return masked_in(message, [*given, *(text.partition("=")[2] for text in given if text.startswith("-"))])


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command; each subcommand module adds its own part."""
    from masa_track.cli import convert, demo, eval, export, proposals, track, tune

    parser = _Parser(
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
    argv = sys.argv[1:] if argv is None else list(argv)
    args = build_parser().parse_args(argv)
    try:
        return int(args.run(args))
    except InputError as error:
        print(f"masa-track {args.command}: error: {_without_passwords(str(error), argv)}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of a pipe, e.g. `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
