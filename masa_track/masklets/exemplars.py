"""Exemplars on the command line: boxes that show what is looked for, or what is not. No torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from masa_track.contracts import Exemplar
from masa_track.errors import InputError, unknown_name

_FORM = "FRAME:x1,y1,x2,y2 or FRAME:x1,y1,x2,y2@PHRASE"


def parse_exemplar(text: str, positive: bool) -> Exemplar:
    """The exemplar of ``FRAME:x1,y1,x2,y2[@PHRASE]``, pixels of that frame, which counts from 1.

    Raises:
        InputError: the text has another form, or the box has no area.
    """
    option = "--exemplar" if positive else "--negative-exemplar"
    place, _, phrase = text.partition("@")
    frame, _, numbers = place.partition(":")
    try:
        number, box = int(frame), [float(value) for value in numbers.split(",")]
    except ValueError:
        raise InputError(f"{option} must be {_FORM}, got {text!r}") from None
    if number < 1 or len(box) != 4 or not np.isfinite(box).all() or not (box[0] < box[2] and box[1] < box[3]):
        raise InputError(f"{option} must be {_FORM}, frames from 1, x1 < x2 and y1 < y2, got {text!r}")
    return Exemplar(tuple(box), positive, number, " ".join(phrase.split()).lower() or None)


def read_exemplars(positive: Sequence[str], negative: Sequence[str], phrases: Sequence[str]) -> list[Exemplar]:
    """The exemplars of a command, each with its phrase.

    Args:
        positive: of ``--exemplar``.
        negative: of ``--negative-exemplar``.
        phrases: that are looked for; empty: exemplars alone.

    Raises:
        InputError: one has another form, or a phrase that is not looked for.
    """
    found = [parse_exemplar(text, True) for text in positive] + [parse_exemplar(text, False) for text in negative]
    for exemplar in found:
        if exemplar.phrase is not None and exemplar.phrase not in phrases:
            raise unknown_name("phrase of an exemplar (they are those of --text)", exemplar.phrase, phrases)
    return found


def check_frames(exemplars: Sequence[Exemplar], start: int, stop: int | None, stride: int, length: int | None) -> None:
    """Checks that the frames of exemplars are among those that are read.

    Args:
        exemplars: of the command.
        start: number of the first frame.
        stop: number of the last frame; None: the source's last.
        stride: every how many frames.
        length: frames of the source, where it is known.

    Raises:
        InputError: one is not.
    """
    last = min((end for end in (stop, length) if end is not None), default=None)
    for exemplar in exemplars:
        number = exemplar.frame
        if number < start or (number - start) % stride or (last is not None and number > last):
            end = "on" if last is None else f"to {last}"
            every = f", every {stride}th" if stride > 1 else ""
            raise InputError(f"exemplars must be on frames that are read, {start} {end}{every}, got frame {number}")
