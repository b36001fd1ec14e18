"""Tracks as boxes over time, and what is measured of them: place, size, order, motion and time.

Coordinates are pixels, x to the right and y down. A place is the centre of a box; what is lower in the picture (larger
y of the lower edge) is nearer to the camera.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

SMOOTHING_SECONDS = 0.3  # of a moving mean over places, before motion is read off


@dataclass(frozen=True)
class Span:
    """Frames from ``first`` to ``last``, both included. ``point``: a moment, as "at frame 50"."""

    first: float
    last: float
    point: bool = False

    @property
    def middle(self) -> float:
        """The frame between both."""
        return (self.first + self.last) / 2


@dataclass(frozen=True)
class Track:
    """One object.

    Attributes:
        identity: its id.
        name: of its class, lower case; empty where it is not known.
        frames: (n,) int64, rising.
        boxes: (n, 4) float64 xyxy pixels.
        camera: (n, 3, 3) from pixels of a fixed frame to pixels of each frame; None: the camera stands, or it is not
            known how it moves.
    """

    identity: int
    name: str
    frames: np.ndarray
    boxes: np.ndarray
    camera: np.ndarray | None = None

    @cached_property
    def centres(self) -> np.ndarray:
        """(n, 2) x, y."""
        return (self.boxes[:, :2] + self.boxes[:, 2:]) / 2

    @cached_property
    def sizes(self) -> np.ndarray:
        """(n, 2) width, height."""
        return self.boxes[:, 2:] - self.boxes[:, :2]

    @cached_property
    def feet(self) -> np.ndarray:
        """(n, 2) middle of the lower edge."""
        return np.column_stack((self.centres[:, 0], self.boxes[:, 3]))

    def path(self, points: np.ndarray) -> np.ndarray:
        """(n, 2) places without the camera's motion: the first point, and all steps against the background added.

        Args:
            points: (n, 2) pixels, e.g. :attr:`centres`.
        """
        if self.camera is None or len(points) < 2:
            return points
        moved = self.camera[1:] @ np.linalg.inv(self.camera[:-1])  # (n - 1, 3, 3), a frame's pixels in the next one's
        expected = np.einsum("nij,nj->ni", moved, np.column_stack((points[:-1], np.ones(len(points) - 1))))
        return points[0] + np.vstack((np.zeros(2), np.cumsum(points[1:] - expected[:, :2] / expected[:, 2:], axis=0)))

    def rows(self, span: Span | None) -> np.ndarray:
        """(m,) places of the frames within the span; None: all."""
        if span is None:
            return np.arange(len(self.frames))
        return np.flatnonzero((self.frames >= span.first) & (self.frames <= span.last))


@dataclass(frozen=True)
class Scene:
    """The tracks of one video.

    Attributes:
        size: (width, height) in pixels.
        fps: frames a second.
        frames: (F,) int64 numbers of the frames that were tracked, rising.
        tracks: in the order of ids.
        nouns: further names of classes that sentences may have, those that no track has.
        called: what messages call one of the tracks.
    """

    size: tuple[int, int]
    fps: float
    frames: np.ndarray
    tracks: list[Track]
    nouns: Sequence[str] = ()
    called: str = "track"

    @property
    def first(self) -> int:
        """Number of the first frame."""
        return int(self.frames[0])

    @property
    def last(self) -> int:
        """Number of the last frame."""
        return int(self.frames[-1])

    @cached_property
    def step(self) -> float:
        """Frames between two that were tracked."""
        return float(np.median(np.diff(self.frames))) if len(self.frames) > 1 else 1.0

    def nearest(self, frame: float) -> int:
        """The tracked frame nearest to a number."""
        return int(self.frames[np.argmin(np.abs(self.frames - frame))])

    def frame_of(self, seconds: float) -> float:
        """Number of the frame at a time since the first."""
        return 1 + seconds * self.fps

    def around(self, span: Span, seconds: float = 0.7) -> Span:
        """The span, widened to both sides, by five tracked frames at least."""
        wider = max(seconds * self.fps, 5 * self.step)
        return Span(span.first - wider, span.last + wider)

    @cached_property
    def class_names(self) -> list[str]:
        """All names of classes, without those that say nothing."""
        return sorted({track.name for track in self.tracks if track.name})


def smoothed(values: np.ndarray, width: int) -> np.ndarray:
    """(n, d) moving mean over ``width`` rows; fewer at the ends."""
    if width < 2 or len(values) < 3:
        return values
    half = min(width // 2, (len(values) - 1) // 2)
    sums = np.vstack((np.zeros(values.shape[1]), np.cumsum(values, axis=0)))
    rows = np.arange(len(values))
    reach = np.minimum(half, np.minimum(rows, len(values) - 1 - rows))  # symmetric, so that ends are not shifted
    return np.asarray((sums[rows + reach + 1] - sums[rows - reach]) / (2 * reach + 1)[:, None])


def places(scene: Scene, track: Track, span: Span | None, points: np.ndarray | None = None) -> np.ndarray:
    """(m, 2) smoothed places within a span, without the camera's motion where it is known."""
    path = track.path(track.centres if points is None else points)
    return smoothed(path, round(SMOOTHING_SECONDS * scene.fps / scene.step))[track.rows(span)]


def net_move(scene: Scene, track: Track, span: Span | None) -> np.ndarray:
    """(2,) pixels from the first to the last place within a span."""
    found = places(scene, track, span)
    return np.asarray(found[-1] - found[0]) if len(found) > 1 else np.zeros(2)


def growth(scene: Scene, track: Track, span: Span | None) -> float:
    """How fast the box grows: change of log height a second. Cut boxes at the picture's border are left out."""
    rows = track.rows(span)
    if len(rows) < 3:
        return 0.0
    width, height = scene.size
    boxes = track.boxes[rows]
    margin = 0.004 * max(scene.size)
    whole = (
        (boxes[:, 0] > margin)
        & (boxes[:, 2] < width - margin)
        & (boxes[:, 1] > margin)
        & (boxes[:, 3] < height - margin)
    )
    if whole.sum() >= 3:
        rows = rows[whole]
    seconds = (track.frames[rows] - track.frames[rows[0]]) / scene.fps
    logs = np.log(np.maximum(track.sizes[rows, 1], 1e-3))
    third = max(1, len(rows) // 3)
    passed = float(seconds[-third:].mean() - seconds[:third].mean())
    return float(logs[-third:].mean() - logs[:third].mean()) / passed if passed > 0 else 0.0


def edges_touched(scene: Scene, box: np.ndarray) -> dict[str, float]:
    """The picture's edges that a box is at, with its distance to each in pixels.

    At an edge: nearer than 6 % of the picture's width or half a box (left, right), 3 % of its height (top, bottom).
    """
    width, height = scene.size
    x = max(0.06 * width, 0.5 * float(box[2] - box[0]))
    y = 0.03 * height
    gaps = {"left": box[0], "right": width - box[2], "top": box[1], "bottom": height - box[3]}
    return {side: float(gap) for side, gap in gaps.items() if gap <= (x if side in ("left", "right") else y)}


def overlap(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(n,) intersections of (n, 4) pairs of boxes, as a share of the smaller box."""
    low, high = np.maximum(first[:, :2], second[:, :2]), np.minimum(first[:, 2:], second[:, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=1)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (first, second)]
    return np.asarray(shared / np.maximum(np.minimum(*areas), 1e-9))


def shared_rows(first: Track, second: Track, span: Span | None) -> tuple[np.ndarray, np.ndarray]:
    """Places in both tracks of the frames within a span that both have."""
    _, one, two = np.intersect1d(first.frames, second.frames, assume_unique=True, return_indices=True)
    if span is None:
        return one, two
    kept = (first.frames[one] >= span.first) & (first.frames[one] <= span.last)
    return one[kept], two[kept]


def turning(scene: Scene, track: Track, span: Span | None) -> tuple[float, int]:
    """How far a track goes one way and then back, in pixels of x: the shorter of both ways. And the row of the turn."""
    x = places(scene, track, span)[:, 0]
    best, place = 0.0, 0
    for values in (x, -x):
        there, back = _there_and_back(values)
        both = np.minimum(there, back)
        if len(both) and both.max() > best:
            best, place = float(both.max()), int(both.argmax())
    return best, place


def _there_and_back(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n,) how far values have fallen by each row, and how far they rise after it."""
    if not len(values):
        return values, values
    return np.maximum.accumulate(values) - values, np.maximum.accumulate(values[::-1])[::-1] - values


def excursion(scene: Scene, track: Track, span: Span | None, sign: float, after_other: bool = False) -> float:
    """The longest way in x to the right (``sign`` 1) or left (-1), in pixels, that is made between two moments.

    Args:
        scene: the tracks.
        track: the track.
        span: when.
        sign: the direction.
        after_other: only as far as the track went in the other direction before.
    """
    there, back = _there_and_back(sign * places(scene, track, span)[:, 0])
    if not len(back):
        return 0.0
    return float((np.minimum(there, back) if after_other else back).max())
