"""What the caller did wrong, said once and in one way: the argument, the rule, the value and the way out."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """A mistake of the caller's. The command line prints its message and exits with status 2."""


def unknown_name(argument: str, value: str, known: Iterable[str]) -> InputError:
    """The error for a name that is not one of ``known``, with the nearest one that is.

    Args:
        argument: what was being named, e.g. ``preset``.
        value: the name given.
        known: the names there are.

    Returns:
        The error, to be raised by the caller.
    """
    names = sorted(known)
    nearest = get_close_matches(str(value), names, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    return InputError(f"unknown {argument} {value!r}: {hint}known are {', '.join(names)}")


def missing_extra(package: str, extra: str, purpose: str = "here") -> InputError:
    """The error for an optional package that is not installed.

    masa-track is on no package index, so the extra is installed from a checkout, never by the project's name.

    Args:
        package: what cannot be imported, e.g. ``segment-anything``.
        extra: of masa-track, which holds it.
        purpose: what it is needed for.

    Returns:
        The error, to be raised by the caller.
    """
    return InputError(f'{package} is needed {purpose}: run `pip install ".[{extra}]"` in a checkout of masa-track')


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, or its type where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
