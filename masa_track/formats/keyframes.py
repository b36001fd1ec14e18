"""Boxes of tracks given at keyframes, as annotation tools store them: the frames between are interpolated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

MOST_FRAMES = 10_000_000  # of a video, as annotation tools have them


class Keyframe(NamedTuple):
    """A box at a frame.

    Attributes:
        frame: its number.
        box: xyxy.
        shown: whether the track is seen in this frame, and
        goes_on: in the frames after it.
    """

    frame: int
    box: tuple[float, ...]
    shown: bool
    goes_on: bool


def boxes_between(keyframes: Sequence[Keyframe], last: int) -> Iterator[tuple[int, tuple[float, ...]]]:
    """Frame and box (xyxy) wherever the track is seen; between keyframes it moves on a line.

    Args:
        keyframes: of one track, in any order.
        last: the last frame of the video, up to which a track goes on after its last keyframe.
    """
    ordered = sorted(keyframes)
    for here, after in pairwise(ordered):
        if here.shown:
            yield here.frame, here.box
        for number in range(here.frame + 1, after.frame) if here.goes_on else ():
            part = (number - here.frame) / (after.frame - here.frame)
            other = after.box if after.shown else here.box
            yield number, tuple(a + part * (b - a) for a, b in zip(here.box, other, strict=True))
    if ordered:
        final = ordered[-1]
        for number in range(final.frame, max(last, final.frame) + 1 if final.goes_on else final.frame + 1):
            if final.shown:
                yield number, final.box
