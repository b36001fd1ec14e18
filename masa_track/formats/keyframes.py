"""Boxes of tracks given at keyframes, as annotation tools store them: the frames between are interpolated."""

from __future__ import annotations

import math
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


def turned_box(xyxy: Sequence[float], degrees: float, pivot: tuple[float, float]) -> tuple[float, ...]:
    """The upright box around a box that is turned clockwise about a point.

    Args:
        xyxy: the box before it is turned, in pixels.
        degrees: the angle.
        pivot: the point, x and y in pixels.
    """
    if not degrees % 360:
        return tuple(xyxy)
    x1, y1, x2, y2 = xyxy
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    corners = [(x - pivot[0], y - pivot[1]) for x in (x1, x2) for y in (y1, y2)]
    across = [pivot[0] + x * cos - y * sin for x, y in corners]
    down = [pivot[1] + x * sin + y * cos for x, y in corners]
    return min(across), min(down), max(across), max(down)


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
