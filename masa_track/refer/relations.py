"""Relations between tracks: beside, behind, between, in the way of, past."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from masa_track.refer.geometry import Scene, Span, net_move, overlap, shared_rows
from masa_track.refer.measures import common_direction

LEAST_OVERLAP = 0.02  # share of the smaller box
# Where no track fits the first relation, the second one is taken.
FALLBACKS = {
    "front": "ahead_in_line",
    "behind": "behind_in_order",
    "behind_in_order": "behind_in_depth",
    "behind_in_line": "behind_in_depth",
    "ahead_in_line": "before_in_depth",
    "overtakes": "gets_ahead",
    "overtaken_by": "falls_behind",
}
_SIDES = {"left_of": (0, -1), "right_of": (0, 1), "top_of": (1, -1), "bottom_of": (1, 1)}


def relation(
    scene: Scene, name: str, place: int, groups: Sequence[Sequence[int]], span: Span | None, some: bool = False
) -> float:
    """How well a track stands in a relation to others; 0: not.

    Args:
        scene: the tracks.
        name: of the relation.
        place: of the track.
        groups: places of those that the relation is to; ``between`` may have two groups.
        span: when; None: at any time.
        some: to any one of them; else to all, unless the relation is one of :data:`TOUCHING`.
    """
    if name == "between" and some and len(groups) == 2:  # "between another cyclist and the car"
        pairs = [([one], [two]) for one in groups[0] for two in groups[1]]
        return max(_between(scene, place, pair, span) for pair in pairs)
    if name == "between":
        return _between(scene, place, groups, span)
    found = [_pair(scene, name, place, other, span) for other in groups[0]]
    return max(found) if some or name in TOUCHING else min(found)


TOUCHING = ("passes", "passes_front", "passes_behind", "covers", "covered_by", "overlaps", "overtakes", "overtaken_by",
             "gets_ahead", "falls_behind")  # fmt: skip
_SWAPPED = {
    "covered_by": "covers",
    "behind": "front",
    "overtaken_by": "overtakes",
    "falls_behind": "gets_ahead",
    "passes_behind": "passes_front",
}


def _pair(scene: Scene, name: str, place: int, other: int, span: Span | None) -> float:
    if name in _SWAPPED:
        return _pair(scene, _SWAPPED[name], other, place, span)
    one, two = scene.tracks[place], scene.tracks[other]
    if name in TOUCHING and span is not None and span.point and name not in ("covers", "overlaps"):
        span = scene.around(span)
    a, b = shared_rows(one, two, span)
    if not len(a):
        return 0.0
    gap = one.centres[a].mean(axis=0) - two.centres[b].mean(axis=0)
    diagonal = float(np.hypot(*scene.size))
    if name in _SIDES:
        axis, sign = _SIDES[name]
        far = sign * gap[axis]
        return float(np.exp(-far / scene.size[axis])) if far > 0 else 0.0
    if name in ("same_way", "other_way"):
        moves = [net_move(scene, track, None if span is None else scene.around(span, 1.0)) for track in (one, two)]
        lengths = [float(np.hypot(*move)) for move in moves]
        if min(lengths) < 0.02 * scene.size[0]:
            return 0.0
        cosine = float(moves[0] @ moves[1]) / (lengths[0] * lengths[1]) * (1 if name == "same_way" else -1)
        return cosine if cosine > 0.5 else 0.0
    if name in ("near", "far_from"):
        far = float(np.hypot(*(one.centres[a] - two.centres[b]).T).mean())
        return float(np.exp(-far / diagonal * 4)) if name == "near" else far + 1e-6
    if name in ("behind_in_line", "behind_in_order", "ahead_in_line"):
        direction = common_direction(scene, span)
        if direction is None:  # "follows him": on the way that both go
            if name == "behind_in_order" or not _pair(scene, "same_way", place, other, span):
                return 0.0
            move = net_move(scene, two, None if span is None else scene.around(span, 1.0))
            direction = move / np.hypot(*move)
        far = float(gap @ direction) * (1 if name == "ahead_in_line" else -1)
        return float(np.exp(-far / diagonal * 4)) if far > 0 else 0.0
    lower = one.boxes[a, 3] - two.boxes[b, 3]  # above 0: the first one is nearer
    if name in ("behind_in_depth", "before_in_depth"):
        beside = np.abs(gap[0]) < (one.sizes[a, 0].mean() + two.sizes[b, 0].mean()) / 2
        far = float(lower.mean()) * (1 if name == "before_in_depth" else -1)
        return float(np.exp(-far / scene.size[1])) if beside and far > 0 else 0.0
    shared = overlap(one.boxes[a], two.boxes[b])
    if name == "overtakes":
        return _overtakes(scene, place, other, span, lower)
    if name == "gets_ahead":  # in the common direction, though not at the same distance from the camera
        direction = None if shared.max() < LEAST_OVERLAP else common_direction(scene, span)
        if direction is None or not _pair(scene, "same_way", place, other, None):
            return 0.0
        along = (one.centres[a] - two.centres[b]) @ direction
        return float(along[-1] - along[0]) if along[0] < 0 < along[-1] else 0.0
    if name in ("covers", "front", "passes_front"):
        shared = np.where(lower > 0, shared, 0)
    most = float(shared.max())
    if most < LEAST_OVERLAP:
        return 0.0
    if name == "passes":
        x = one.centres[a, 0] - two.centres[b, 0]
        return most + float(x.min() < 0 < x.max())
    if span is None or name not in ("covers", "overlaps"):
        return most
    frames = ((scene.frames >= span.first) & (scene.frames <= span.last)).sum()
    return float(shared.sum() / frames if frames <= 11 else shared.mean())  # around a frame: in most of its frames


def first_contact(scene: Scene, place: int, group: Sequence[int], span: Span | None) -> float:
    """Frames from the first of the video to the first in which a track overlaps one of others; infinite without one."""
    frames = []
    for other in group:
        a, b = shared_rows(scene.tracks[place], scene.tracks[other], span)
        shared = overlap(scene.tracks[place].boxes[a], scene.tracks[other].boxes[b])
        frames += [float(scene.tracks[place].frames[row]) for row in a[shared >= LEAST_OVERLAP][:1]]
    return min(frames, default=np.inf) - scene.first


def _overtakes(scene: Scene, place: int, other: int, span: Span | None, lower: np.ndarray) -> float:
    """Both go one way, and the first one, behind at first, is ahead in the end, beside each other in between."""
    one, two = scene.tracks[place], scene.tracks[other]
    moves = [net_move(scene, track, span) for track in (one, two)]
    lengths = [float(np.hypot(*move)) for move in moves]
    least = 0.02 * scene.size[0]
    if min(lengths) < least or float(moves[0] @ moves[1]) < 0.5 * lengths[0] * lengths[1]:
        return 0.0
    a, b = shared_rows(one, two, span)
    along = (one.centres[a] - two.centres[b]) @ (moves[0] / lengths[0])
    if not along[0] < 0 < along[-1]:
        return 0.0
    row = int(np.argmax(along > 0))
    height = float(min(one.sizes[a[row], 1], two.sizes[b[row], 1]))
    if abs(lower[row]) > 0.5 * height:  # they are at different distances from the camera
        return 0.0
    return float(along[-1] - along[0]) / scene.size[0]


def _between(scene: Scene, place: int, groups: Sequence[Sequence[int]], span: Span | None) -> float:
    """By the centre in x: between both groups, or between the outermost of one."""
    x = _x(scene, place, span)
    values = [
        [value for value in (_x(scene, other, span) for other in group) if np.isfinite(value)] for group in groups
    ]
    if not np.isfinite(x) or not all(values):
        return 0.0
    if len(values) == 1:
        if len(values[0]) < 2:
            return 0.0
        low, high = min(values[0]), max(values[0])
    elif max(values[0]) < x:
        low, high = max(values[0]), min(values[1])
    else:
        low, high = max(values[1]), min(values[0])
    return (1 + min(x - low, high - x) / scene.size[0]) if low < x < high else 0.0


def _x(scene: Scene, place: int, span: Span | None) -> float:
    track = scene.tracks[place]
    rows = track.rows(span)
    return float(track.centres[rows, 0].mean()) if len(rows) else np.nan
