"""Checks of whole numbers on the command line: numbers of frames, images, processes."""

from __future__ import annotations

import argparse

from masa_track.errors import InputError

MOST = 2**31 - 1  # the largest number that the libraries below accept


def check_counts(args: argparse.Namespace, *names: str, least: int = 1) -> None:
    """Checks options that are whole numbers, or lists of them; None is allowed.

    Args:
        args: the parsed command line.
        *names: attributes of ``args`` to check, e.g. ``max_frames``.
        least: the smallest number allowed.

    Raises:
        InputError: a number is below ``least`` or above 2,147,483,647.
    """
    for name in names:
        value = getattr(args, name)
        for number in value if isinstance(value, list) else [value]:
            if number is not None and not least <= number <= MOST:
                rule = f"must be {least} or more" if number < least else f"must be {MOST} or less"
                raise InputError(f"--{name.replace('_', '-')} {rule}, got {number}")
