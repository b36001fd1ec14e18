"""The `masa-track` command: runs a subcommand, and turns its errors into one line and an exit status."""

from __future__ import annotations

import argparse
import errno
import io
import os
import platform
import shlex
import sys
import traceback
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from typing import Any, NoReturn

from masa_track import __version__
from masa_track.errors import InputError
from masa_track.video.addresses import masked_in


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


_BAD_PATH = (errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.EACCES, errno.ENAMETOOLONG, errno.ELOOP)


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command; each subcommand module adds its own part."""
    from masa_track.cli import (
        convert,
        demo,
        detect,
        eval,
        export,
        find,
        models,
        proposals,
        recover,
        refer,
        segment,
        track,
        tune,
        verify,
        vos,
    )

    parser = _Parser(
        prog="masa-track",
        description="Gives the boxes of any object detector identities that last over a video.",
        epilog="Start with `masa-track demo`. `masa-track COMMAND --help` explains a command. Exit status: 0; 1 for "
        "a full disk, too little memory, an internal error or a run without a frame; 2 for bad input; 130 if "
        "interrupted.",
    )
    parser.add_argument("--version", action="version", version=f"masa-track {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    first = (track, detect, segment, vos, refer, recover, eval, export, find, demo)
    for module in (*first, models, convert, proposals, tune, verify):
        module.add_parser(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Returns:
        The exit status: 0; 1 for a full disk, too little memory, an internal error and a run without a frame; 2 for
        bad input; 130 if interrupted (Ctrl-C, SIGTERM or SIGHUP).
    """
    _open_standard_streams()
    argv = sys.argv[1:] if argv is None else list(argv)
    args = build_parser().parse_args(argv)
    out, err = _Output(sys.stdout), _Output(sys.stderr)
    with redirect_stdout(out), redirect_stderr(err):
        status = _run(args, argv)
        out.flush()
        if out.error is not None:
            out.discard()
            if not isinstance(out.error, BrokenPipeError):  # else the reader, e.g. `head`, has seen enough
                reason = out.error.strerror or out.error
                print(f"masa-track {args.command}: error: standard output cannot be written: {reason}", file=err)
                status = status or 1
        err.flush()
        if err.error is not None:
            err.discard()
    return status


def _run(args: argparse.Namespace, argv: Sequence[str]) -> int:
    from masa_track.files import fault_of

    try:
        return int(args.run(args))
    except InputError as error:
        return _failed(args, _without_passwords(str(error), argv), 2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except MemoryError as error:
        return _failed(args, f"there is not enough memory ({error}): close other programs", 1)
    except OSError as error:
        if not error.errno:  # not of the system, but of a library that uses the class for its own
            return _internal(argv)
        name = f"{error.filename}: " if error.filename else ""
        return _failed(args, f"{name}{fault_of(error)}", 2 if error.errno in _BAD_PATH else 1)
    except Exception as error:
        if "torch" in sys.modules and isinstance(error, sys.modules["torch"].cuda.OutOfMemoryError):
            said = str(error).split(". ")[0]
            return _failed(args, f"the GPU has not enough memory ({said}): close other programs, or --device cpu", 1)
        return _internal(argv)


def _failed(args: argparse.Namespace, text: str, status: int) -> int:
    print(f"masa-track {args.command}: error: {text}", file=sys.stderr)
    return status


def _internal(argv: Sequence[str]) -> int:
    """Prints an unexpected exception, and how to report it. Returns 1."""
    traceback.print_exc(file=sys.stderr)
    versions = f"masa-track {__version__}, Python {platform.python_version()}, {platform.platform()}"
    for library in ("numpy", "torch", "supervision"):
        if library in sys.modules:
            versions += f", {library} {sys.modules[library].__version__}"
    print(
        f"This is a fault of masa-track, or of a library that it uses. Report it with the lines above, the command "
        f"`masa-track {shlex.join(argv)}` and the versions ({versions}), "
        'as CONTRIBUTING.md says in its section "Reporting a fault".',
        file=sys.stderr,
    )
    return 1


class _Output(io.TextIOBase):
    """Standard output or error. If writing to it fails, the run goes on, and the error is reported at its end.

    Args:
        stream: the stream to write to.

    Attributes:
        error: the first error of the stream; None if there was none.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.error: OSError | None = None
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # for what its encoding, e.g. ASCII, does not have

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except OSError as error:
            self.error = self.error or error
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self.error = self.error or error

    def discard(self) -> None:
        """Discards what is buffered: at exit, Python would try to write it again and print a traceback."""
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


def _open_standard_streams() -> None:
    """Opens standard streams that the caller has closed (``2>&-``) on the null device.

    Otherwise a result file would get the descriptor of the stream.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is not None:
            continue
        try:
            os.fstat(number)
        except OSError:
            while os.open(os.devnull, os.O_RDWR) < number:
                pass
        setattr(sys, name, open(os.devnull, "r" if number == 0 else "w", encoding="utf-8"))  # noqa: SIM115


if __name__ == "__main__":
    sys.exit(main())
