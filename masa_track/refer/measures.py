"""What single tracks are measured by: ranks, regions, motion, events."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from masa_track.refer.geometry import (
    Scene,
    Span,
    Track,
    edges_touched,
    excursion,
    growth,
    net_move,
    places,
    turning,
)
from masa_track.refer.phrases import Term

GROWN = 0.2  # log height: a box that grew by 22 % came nearer
_RATIOS = ("area", "height", "width", "duration", "speed", "path")  # whose differences count relative to the value


def unit_of(scene: Scene, name: str) -> float:
    """A small difference of a measure: scores fall by 1/e over it. 0: a tenth of the value."""
    if name in _RATIOS:
        return 0.0
    if name in ("first", "last"):
        return 4 * scene.step
    return 0.03 * (scene.size[1] if name in ("y", "near") else scene.size[0])


def measure(scene: Scene, name: str, chosen: Sequence[int], span: Span | None) -> dict[int, float]:
    """A measure of tracks; NaN where a track does not have it, e.g. as it is not in view.

    Args:
        scene: the tracks.
        name: ``x``, ``y``, ``near`` (lower edge), ``area``, ``height``, ``width``, ``duration`` (frames), ``speed``,
            ``path`` (pixels), ``first``, ``last`` (frames), ``line`` (place in the direction in which all move),
            ``centre`` (how near to the middle of the picture), ``bottom left`` and the other corners (how near to it),
            ``gap_ahead`` and ``gap_behind`` (to the next one in the direction in which all move),
            ``front`` (the same as ``line``, or ``near`` without one), ``middle`` (how near to the middle of the
            others), ``isolation`` (distance to the nearest other), ``together`` (how near the nearest of
            ``chosen`` is), ``left_reach`` and ``right_reach`` (how far it gets to that side), ``left_shift``,
            ``right_shift`` and ``any_shift`` (how far its last place is to that side of its first one).
        chosen: places of the tracks in the scene.
        span: when; None: over the whole track, where sizes and nearness are the largest ones.
    """
    tracks = scene.tracks
    if name in ("line", "front"):
        found = line_places(scene, chosen, span, 0.6 if name == "line" else 0.65)
        if name == "line" or np.isfinite(list(found.values())).any():
            return found
        name = "near"
    if name in ("gap_ahead", "gap_behind"):
        sign = 1 if name == "gap_ahead" else -1
        along = {place: sign * value for place, value in line_places(scene, range(len(tracks)), span).items()}
        gaps = {place: [other - along[place] for other in along.values() if other > along[place]] for place in chosen}
        return {place: min(ahead, default=np.nan) for place, ahead in gaps.items()}
    if name == "middle":
        x = measure(scene, "x", chosen, span)
        known = [value for value in x.values() if np.isfinite(value)]
        middle = float(np.median(known)) if len(known) > 2 else scene.size[0] / 2
        return {place: -abs(value - middle) for place, value in x.items()}
    if name == "centre":
        middle_of_picture = np.asarray(scene.size) / 2
        return {place: -float(np.hypot(*(_centre(tracks[place], span) - middle_of_picture))) for place in chosen}
    if " " in name:  # a corner
        signs = np.array([1 if side in ("right", "bottom") else -1 for side in reversed(name.split())])
        return {place: float(signs @ (_centre(tracks[place], span) / scene.size) * scene.size[0]) for place in chosen}
    if name == "isolation":
        return {place: _isolation(scene, place, range(len(tracks)), span) for place in chosen}
    if name == "together":
        return {place: -_isolation(scene, place, chosen, span) for place in chosen}
    return {place: _single(scene, tracks[place], name, span) for place in chosen}


def _single(scene: Scene, track: Track, name: str, span: Span | None) -> float:
    if name in ("first", "last"):
        return float(track.frames[0 if name == "first" else -1])
    if name in ("duration", "speed", "path"):
        if span is not None and span.point:
            span = None if name == "duration" else scene.around(span)
        rows = track.rows(span)
        if name == "duration":
            return len(rows) * scene.step
        if len(rows) < 2:
            return np.nan
        way = places(scene, track, span, track.feet)
        length = float(np.hypot(*np.diff(way, axis=0).T).sum())
        return length / float(track.frames[rows[-1]] - track.frames[rows[0]]) if name == "speed" else length
    rows = track.rows(span)
    if not len(rows):
        return np.nan
    if name in ("left_shift", "right_shift", "any_shift"):
        x = float(net_move(scene, track, span)[0])
        return {"left_shift": -x, "right_shift": x}.get(name, abs(x))
    if name in ("left_reach", "right_reach"):
        x = track.centres[rows, 0]
        return float(-x.min() if name == "left_reach" else x.max())
    boxes = track.boxes[rows]
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    values = {
        "x": track.centres[rows, 0],
        "y": track.centres[rows, 1],
        "near": boxes[:, 3],
        "area": width * height,
        "height": height,
        "width": width,
    }[name]
    return float(values.max() if span is None and name not in ("x", "y") else values.mean())


def _isolation(scene: Scene, place: int, others: Sequence[int], span: Span | None) -> float:
    own = _centre(scene.tracks[place], span)
    gaps = [float(np.hypot(*(own - _centre(scene.tracks[other], span)))) for other in others if other != place]
    if not np.isfinite(own).all():
        return np.nan
    return min((gap for gap in gaps if np.isfinite(gap)), default=float(np.hypot(*scene.size)))


def _centre(track: Track, span: Span | None) -> np.ndarray:
    rows = track.rows(span)
    return track.centres[rows].mean(axis=0) if len(rows) else np.full(2, np.nan)


def common_direction(
    scene: Scene, span: Span | None, least: float = 0.6, chosen: Sequence[int] | None = None
) -> np.ndarray | None:
    """(2,) the direction in which the tracks move in a span, of length 1; None if their directions differ too much.

    Args:
        scene: the tracks.
        span: when; None: at any time.
        least: threshold, 0 to 1, of the length of the mean unit vector; it is 0.6 if four of five tracks move in one
            direction and the fifth in the opposite one.
        chosen: places of the tracks that count; None: all.
    """
    wide = None if span is None else scene.around(span, 1.0)
    tracks = scene.tracks if chosen is None else [scene.tracks[place] for place in chosen]
    moves = [net_move(scene, track, wide) for track in tracks if span is None or len(track.rows(span))]
    units = [move / np.hypot(*move) for move in moves if np.hypot(*move) > 0.01 * scene.size[0]]
    if not units:
        return None
    mean = np.mean(units, axis=0)
    if np.hypot(*mean) < least:
        return None
    if abs(mean[0]) >= 0.5:
        return np.array([np.sign(mean[0]), 0.0])
    return np.asarray(mean / np.hypot(*mean))


def line_places(scene: Scene, chosen: Sequence[int], span: Span | None, least: float = 0.6) -> dict[int, float]:
    """Places along the common direction: the leader's is the largest. NaN where there is no such direction."""
    direction = common_direction(scene, span, least)
    if direction is None and 1 < len(chosen) < len(scene.tracks):  # "of those who walk right, the one in front"
        direction = common_direction(scene, span, least, chosen)
    if direction is None:
        return dict.fromkeys(chosen, np.nan)
    return {place: float(_centre(scene.tracks[place], span) @ direction) for place in chosen}


def event_frame(
    scene: Scene,
    track: Track,
    name: str,
    side: str,
    span: Span | None,
    latest: bool = False,
    within: Span | None = None,
) -> float | None:
    """The frame in which something happens to a track; None where it does not.

    ``appear``: its first frame; ``enter``: its first frame, if that is not the video's first, and frames in which it is
    back at a border after a second or more; ``leave``: its last frame, if that is not the video's last, and frames in
    which it is at a border before such a gap; ``passed_camera`` and ``passed_by_camera``: it leaves at a border after
    it has grown; ``just_entered``, ``about_to_leave``: within 1.5 s of the span's frame; ``returns``: it is in view
    again after it was not.

    Args:
        scene: the tracks.
        track: the track.
        name: of the event.
        side: of the picture where it happens; empty: anywhere; ``inside``: not at a border; ``top left``: a corner.
        span: the moment that ``just_entered`` and ``about_to_leave`` are close to.
        latest: the last of several such frames, else the first.
        within: only these frames count.
    """
    frames = track.frames
    if name == "returns":
        gaps = np.flatnonzero(np.diff(frames) > max(3 * scene.step, 0.4 * scene.fps))
        return float(frames[gaps[0] + 1]) if len(gaps) else None
    found = _crossings(scene, track, name)
    if side == "inside":
        found = [row for row in found if not edges_touched(scene, track.boxes[row]) and frames[row] > scene.first]
    elif " " in side:  # a corner: at one of both edges, in that quarter of the picture
        there = Term("region", "corner", side)
        near = [row for row in found if set(side.split()) & edges_touched(scene, track.boxes[row]).keys()]
        found = [row for row in near if _region(scene, track, there, Span(frames[row], frames[row])) > 0]
    elif side:
        found = [row for row in found if side in edges_touched(scene, track.boxes[row])]
        if name == "appear":
            found = [row for row in found if frames[row] > scene.first]
    soon = max(1.5 * scene.fps, 3)
    if span is not None and name == "just_entered":
        found = [row for row in found if span.first - soon <= frames[row] <= span.last]
    if span is not None and name == "about_to_leave":
        found = [row for row in found if span.first <= frames[row] <= span.last + soon]
    if within is not None:
        found = [row for row in found if within.first <= frames[row] <= within.last]
    if not found:
        return None
    row = found[-1 if latest else 0]
    if name in ("passed_camera", "passed_by_camera"):
        seconds = max(float(frames[-1] - frames[0]), 1) / scene.fps
        at_border = edges_touched(scene, track.boxes[row]).keys() & {"left", "right", "bottom"}
        if not at_border or growth(scene, track, None) * seconds < GROWN / 2:
            return None
    return float(frames[row])


def _crossings(scene: Scene, track: Track, name: str) -> list[int]:
    """Rows in which a track comes into the picture, or goes out of it, in order."""
    frames = track.frames
    if name == "appear":
        return [0]
    gaps = np.flatnonzero(np.diff(frames) > max(scene.fps, 3 * scene.step))
    if name in ("enter", "just_entered"):
        rows = [int(gap) + 1 for gap in gaps if edges_touched(scene, track.boxes[gap + 1])]
        return ([0] if frames[0] > scene.first else []) + rows
    rows = [int(gap) for gap in gaps if edges_touched(scene, track.boxes[gap])]
    return rows + ([len(frames) - 1] if frames[-1] < scene.last else [])


Test = Callable[[Scene, Track, Term, "Span | None"], float]


def _wide(scene: Scene, span: Span | None) -> Span | None:
    """At least two seconds: a moment is too short for a motion."""
    short = span is not None and span.first <= span.last and (span.point or span.last - span.first < 2 * scene.fps)
    if span is None or not short:
        return span
    wide = scene.around(span, 1.0)
    early, late = max(scene.first - wide.first, 0.0), max(wide.last - scene.last, 0.0)  # at the ends, on one side only
    return Span(wide.first - late, wide.last + early)


def _least(scene: Scene, track: Track) -> float:
    """Pixels that count as a motion: 2 % of the picture's width, or a quarter of a box; of a small box, 0.6 of it."""
    width = float(np.median(track.sizes[:, 0]))
    return min(max(0.02 * scene.size[0], 0.25 * width), 0.6 * width)


def _visible(scene: Scene, track: Track, term: Term, span: Span | None) -> float:
    if term.when is not None and term.when.kind == "whole":
        edge = 2 * scene.step
        whole = track.frames[0] <= scene.first + edge and track.frames[-1] >= scene.last - edge
        return float(whole and len(track.frames) >= 0.8 * len(scene.frames))
    return float(len(track.rows(span)) > 0)


def _gone(scene: Scene, track: Track, term: Term, span: Span | None) -> float:
    last = float(track.frames[-1])
    if span is None:
        return float(last < scene.last)
    return float(last < (span.first if span.point else span.last))


def _moves(scene: Scene, track: Track, term: Term, span: Span | None) -> float:
    wide = _wide(scene, span)
    name = term.name
    direction = common_direction(scene, span) if name == "against" else None
    if name == "against" and direction is None:  # "the car coming the other way"
        name = "towards_camera"
    if name in ("towards_camera", "away"):
        rows = track.rows(wide)
        if len(rows) < 3:
            return 0.0
        sign = 1 if name == "towards_camera" else -1
        rate = growth(scene, track, wide) * sign
        seconds = float(track.frames[rows[-1]] - track.frames[rows[0]]) / scene.fps
        whole = growth(scene, track, None) * sign
        least = GROWN if span is None or span.point else GROWN / 2  # in a time that is named
        return (
            max(rate, 1e-3) if max(rate * seconds, whole * len(track.frames) * scene.step / scene.fps) > least else 0.0
        )
    x, y = net_move(scene, track, wide)
    if direction is not None:
        far = -float(np.array([x, y]) @ direction)
        return far if far > _least(scene, track) else 0.0
    far = {"left": -x, "right": x, "top": -y, "bottom": y}[term.side]
    return float(far) if far > _least(scene, track) else 0.0


def _region(scene: Scene, track: Track, term: Term, span: Span | None) -> float:
    centre = _centre(track, span)
    if not np.isfinite(centre).all():
        return 0.0
    x, y = centre / scene.size
    if term.name == "centre":
        far = float(np.hypot(x - 0.5, y - 0.5))
        return 1 - far if far < 0.25 else 0.0
    if term.name == "border":
        box = track.boxes[track.rows(span)].mean(axis=0) / (*scene.size, *scene.size)
        gap = {"left": box[0], "right": 1 - box[2], "top": box[1], "bottom": 1 - box[3]}[term.side]
        return float(1 - gap) if gap < 0.02 else 0.0
    depths = {"left": 1 - x, "right": x, "top": 1 - y, "bottom": y}  # 0.5 in the middle, 1 at the edge
    sides = term.side.split()
    least = {"edge": 0.8, "quarter": 0.75, "third": 2 / 3}.get(term.name, 0.5)
    inside = [depths[side] for side in sides]
    if min(inside) >= least:
        return float(np.prod(inside))
    if term.name == "edge":
        rows = track.rows(span)
        touched = edges_touched(scene, track.boxes[rows[len(rows) // 2]])
        return float(np.prod(inside)) if set(sides) <= touched.keys() else 0.0
    return 0.0


def _most_gap(term: Term) -> float:
    """The part of the picture that a term names: the largest share of the picture between a track and the side."""
    whole = 0.15 if term.kind == "reaches" else 0.5
    return {"nearly": 0.25, "quarter": 0.25, "third": 1 / 3}.get(term.name, whole)


def _within(scene: Scene, track: Track, term: Term, span: Span | None) -> float:
    """All of the track is in a part of the picture."""
    gaps = _gaps(scene, track, term.side, span)
    return 1 - float(gaps.max()) if len(gaps) and gaps.max() <= _most_gap(term) else 0.0


def _reaches(scene: Scene, track: Track, term: Term, span: Span | None) -> float:
    """Any frame of the track is in a part of the picture, or at its side."""
    gaps = _gaps(scene, track, term.side, span)
    return 1 - float(gaps.min()) if len(gaps) and gaps.min() <= _most_gap(term) else 0.0


def reaching_frame(scene: Scene, track: Track, term: Term, span: Span | None) -> float:
    """The first frame of a track for which :func:`_reaches` is true."""
    near = _gaps(scene, track, term.side, span) <= _most_gap(term)
    return float(track.frames[track.rows(span)][np.argmax(near)])


def _starts(scene: Scene, track: Track, term: Term, span: Span | None) -> float:
    return _region(scene, track, Term("region", "side", term.side), Span(track.frames[0], track.frames[0]))


def _ends(scene: Scene, track: Track, term: Term, span: Span | None) -> float:
    return _region(scene, track, Term("region", "side", term.side), Span(track.frames[-1], track.frames[-1]))


def _speeds(scene: Scene, track: Track, span: Span | None) -> np.ndarray:
    """(n - 1,) box heights a second."""
    rows = track.rows(span)
    way = places(scene, track, span)
    if len(rows) < 2:
        return np.zeros(0)
    seconds = np.diff(track.frames[rows]) / scene.fps
    return np.asarray(np.hypot(*np.diff(way, axis=0).T) / seconds / np.maximum(track.sizes[rows[1:], 1], 1))


def _still(scene: Scene, track: Track, term: Term, span: Span | None) -> float:
    wide = _wide(scene, span)
    way = places(scene, track, wide)
    if len(way) < 3:
        return 0.0
    reach = float(np.hypot(*np.ptp(way, axis=0))) / float(np.median(track.sizes[:, 1]))
    speed = float(np.median(_speeds(scene, track, wide)))
    return 1 / (0.02 + reach) if reach < 0.5 and speed < 0.15 else 0.0


def _moving(scene: Scene, track: Track, term: Term, span: Span | None) -> float:
    wide = _wide(scene, span)
    way = places(scene, track, wide)
    reach = float(np.hypot(*np.ptp(way, axis=0))) if len(way) > 1 else 0.0
    return float(reach > _least(scene, track) and not _still(scene, track, term, span))


def _stops(scene: Scene, track: Track, term: Term, span: Span | None) -> float:
    speeds = _speeds(scene, track, span)
    second = max(2, round(scene.fps / scene.step))
    if len(speeds) < 2 * second or speeds.max() < 0.25:
        return 0.0
    slow = np.convolve(speeds < 0.1, np.ones(second), "valid")
    return float(slow.max() >= second)


def _accelerates(scene: Scene, track: Track, term: Term, span: Span | None) -> float:
    speeds = _speeds(scene, track, span)
    third = len(speeds) // 3
    if third < 2:
        return 0.0
    ratio = float((speeds[-third:].mean() + 1e-3) / (speeds[:third].mean() + 1e-3)) ** term.rank
    return ratio if ratio > 1.3 else 0.0


def _turns(scene: Scene, track: Track, term: Term, span: Span | None) -> float:
    far, _ = turning(scene, track, _wide(scene, span))
    return far if far > 1.5 * _least(scene, track) else 0.0


def _back(scene: Scene, track: Track, term: Term, span: Span | None) -> float:
    sign = {"right": 1.0, "left": -1.0}.get(term.side)
    if sign is None:
        return 0.0
    far = excursion(scene, track, _wide(scene, span), sign, after_other=True)
    return far if far > _least(scene, track) else 0.0


def _crosses(scene: Scene, track: Track, term: Term, span: Span | None) -> float:
    x, y = net_move(scene, track, _wide(scene, span))
    share = abs(x) / scene.size[0]
    if term.side and {"left": -x, "right": x, "top": -y, "bottom": y}[term.side] <= 0:
        return 0.0
    return float(share) if share > 0.3 or abs(y) / scene.size[1] > 0.5 else 0.0


def _gaps(scene: Scene, track: Track, side: str, span: Span | None) -> np.ndarray:
    """(m,) distances of the centre to a side, as a share of the picture."""
    x, y = (track.centres[track.rows(span)] / scene.size).T
    return np.asarray({"left": x, "right": 1 - x, "top": y, "bottom": 1 - y}[side])


def _lingers(scene: Scene, track: Track, term: Term, span: Span | None) -> float:
    if span is not None and span.point:  # "standing at the left edge at frame 9"
        return _region(scene, track, Term("region", "edge", term.side), span)
    inside = _gaps(scene, track, term.side, span if term.when is not None else None) < 0.1
    longest = run = 0
    for one in inside:
        run = run + 1 if one else 0
        longest = max(longest, run)
    seconds = longest * scene.step / scene.fps
    return seconds if seconds >= 1 else 0.0


def _sides(scene: Scene, track: Track, term: Term, span: Span | None) -> float:
    """Whether it leaves on the side where it came in (``same``), or on the opposite one (``other``)."""
    if track.frames[0] <= scene.first or track.frames[-1] >= scene.last:
        return 0.0
    came, left = (edges_touched(scene, track.boxes[row]).keys() & {"left", "right"} for row in (0, -1))
    return float(bool(came and left) and bool(came & left) == (term.name == "same"))


def _lasts(scene: Scene, track: Track, term: Term, span: Span | None) -> float:
    """Whether it is in view for more than a number of frames or seconds; for less of rank -1."""
    assert term.when is not None  # the rule gives it the length
    limit = term.when.values[0] * (scene.fps if term.when.seconds else 1)
    return float(term.rank * (len(track.frames) * scene.step - limit) > 0)


TESTS: dict[str, Test] = {
    "lasts": _lasts,
    "sides": _sides,
    "visible": _visible,
    "gone": _gone,
    "moves": _moves,
    "region": _region,
    "starts": _starts,
    "ends": _ends,
    "still": _still,
    "moving": _moving,
    "stops": _stops,
    "accelerates": _accelerates,
    "turns": _turns,
    "back": _back,
    "crosses": _crosses,
    "reaches": _reaches,
    "reached": _reaches,
    "within": _within,
    "lingers": _lingers,
}
