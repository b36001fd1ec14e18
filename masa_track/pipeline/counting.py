"""Counting lines and zones: which tracks cross, enter and leave, and how many there are.

The geometry is that of supervision's ``LineZone`` and ``PolygonZone``. What is remembered of the tracks is kept here:
``LineZone`` forgets a track after two frames without it, or, in version 0.27, never.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import supervision as sv
from supervision.geometry.core import Vector

from masa_track.contracts import CountEvent, FrameResult
from masa_track.errors import InputError
from masa_track.files import PartFile
from masa_track.formats.csv import spreadsheet_text
from masa_track.formats.rows import ClassNames, class_ids, class_name, track_ids, tracked_rows
from masa_track.formats.writer import Appender, close_writer, create_part

GRACE_SECONDS = 1.0  # outside of a zone, or not seen, after which a track has left it
MEMORY_SECONDS = 600.0  # not seen, after which a track's side of a line, or its visit to a zone, is forgotten

_NAME = re.compile(r"\w[\w -]{0,39}")
_NUMBER = re.compile(r"[+-]?\d{1,9}(\.\d{1,9})?", re.ASCII)
_ANCHORS = (sv.Position.TOP_LEFT, sv.Position.TOP_RIGHT, sv.Position.BOTTOM_LEFT, sv.Position.BOTTOM_RIGHT)


@dataclass(frozen=True)
class Line:
    """A counting line.

    Attributes:
        name: letters, digits, spaces, ``_`` and ``-``.
        points: its two ends, (x, y) in pixels.
    """

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Zone:
    """A polygon in which tracks are counted.

    Attributes:
        name: letters, digits, spaces, ``_`` and ``-``.
        points: its corners, (x, y) in pixels, in their order around it.
    """

    name: str
    points: tuple[tuple[float, float], ...]


def parse_line(text: str) -> Line:
    """A line of the form ``NAME:x1,y1,x2,y2``.

    Raises:
        InputError: another form, a name of other characters, or two equal points.
    """
    name, points = _named_points(text, "--line", "door:100,200,500,200")
    if len(points) != 2:
        raise InputError(f"--line {name} must have two points, x1,y1,x2,y2, got {len(points)} in {text!r}")
    if points[0] == points[1]:
        raise InputError(f"--line {name} must have a length, but both its points are {_point(points[0])}")
    return Line(name, points)


def parse_zone(text: str) -> Zone:
    """A zone of the form ``NAME:x1,y1,x2,y2,x3,y3,...``.

    Raises:
        InputError: another form, a name of other characters, fewer than three corners, sides that cross, or no area.
    """
    name, points = _named_points(text, "--zone", "yard:0,0,100,0,100,100")
    if len(points) < 3:
        raise InputError(f"--zone {name} must have at least three corners, got {len(points)} in {text!r}")
    if _crossing_sides(points):
        raise InputError(f"--zone {name} has sides that cross: name its corners in their order around it, got {text!r}")
    x, y = np.array(points).T
    if abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) < 2:  # twice the area
        raise InputError(f"--zone {name} must have an area of at least one pixel, got {text!r}")
    return Zone(name, points)


def _named_points(text: str, argument: str, example: str) -> tuple[str, tuple[tuple[float, float], ...]]:
    name, colon, rest = text.partition(":")
    if not colon:
        raise InputError(f"{argument} must be NAME:x1,y1,x2,y2,... such as {example}, got {text!r}")
    if not _NAME.fullmatch(name):
        raise InputError(
            f"the name of {argument} must be 1 to 40 letters, digits, spaces, '_' or '-' and begin with a letter, a "
            f"digit or '_', got {name!r}"
        )
    numbers = [number.strip() for number in rest.split(",")]
    if wrong := [number for number in numbers if not _NUMBER.fullmatch(number)]:
        raise InputError(f"{argument} {name} must have coordinates in pixels such as {example}, got {wrong[0]!r}")
    if len(numbers) % 2:
        raise InputError(f"{argument} {name} must have an x and a y for each point, got {len(numbers)} numbers")
    values = [float(number) for number in numbers]
    return name, tuple(zip(values[::2], values[1::2], strict=True))


def _point(point: tuple[float, float]) -> str:
    return f"({point[0]:g}, {point[1]:g})"


def _crossing_sides(points: Sequence[tuple[float, float]]) -> bool:
    """Whether two sides of a polygon cross each other; touching is no crossing."""

    def side(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> float:
        return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])

    sides = list(zip(points, (*points[1:], points[0]), strict=True))
    return any(
        side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0
        for i, (a, b) in enumerate(sides)
        for c, d in sides[:i]
    )


@dataclass
class _Side:
    """On which side of a line a track was."""

    left: bool
    time: float  # when it was seen there last


@dataclass
class _Visit:
    """The last visit of a track to a zone."""

    inside: bool
    since: float
    time: float  # when it was last seen inside
    number: int  # of that frame
    class_id: int


class _LineCount(sv.LineZone):
    """What is known of one line. Of supervision's class, so that its annotator can draw it."""

    def __init__(self, line: Line) -> None:
        (x1, y1), (x2, y2) = line.points
        super().__init__(sv.Point(x1, y1), sv.Point(x2, y2))
        self.line = line
        self.sides: dict[int, _Side] = {}
        self.totals: dict[int, list[int]] = {}  # class id: [in, out]

    @property
    def in_count(self) -> int:
        """Crossings to the left, of all classes."""
        return sum(into for into, _ in list(self.totals.values()))

    @property
    def out_count(self) -> int:
        """Crossings to the right, of all classes."""
        return sum(out for _, out in list(self.totals.values()))

    def update(self, rows: sv.Detections, number: int, time: float) -> list[CountEvent]:
        events = []
        corners = np.stack([rows.get_anchors_coordinates(anchor) for anchor in _ANCHORS])  # (4, N, 2)
        # all corners are between the perpendiculars at both ends of the line, and on one side of it
        start, end = (_cross(limit, corners) > 0 for limit in self.limits)
        left = _cross(self.vector, corners) < 0
        clear = (start == end).all(axis=0) & (left.all(axis=0) | (~left).all(axis=0))
        identities, classes = track_ids(rows), class_ids(rows)
        for row in np.flatnonzero(clear).tolist():
            identity, is_left = identities[row], bool(left[0, row])
            before = self.sides.get(identity)
            self.sides[identity] = _Side(is_left, time)
            if before is None or before.left == is_left:
                continue
            class_id = int(classes[row])
            self.totals.setdefault(class_id, [0, 0])[0 if is_left else 1] += 1
            kind = "crossed_in" if is_left else "crossed_out"
            events.append(CountEvent(kind, self.line.name, identity, class_id, number, time))  # type: ignore[arg-type]
        return events

    def state(self) -> dict[str, Any]:
        return {
            "points": [list(point) for point in self.line.points],
            "totals": [[class_id, *both] for class_id, both in self.totals.items()],
            "sides": [[identity, side.left, side.time] for identity, side in self.sides.items()],
        }

    def load(self, state: Mapping[str, Any]) -> None:
        self.totals = {int(class_id): [int(into), int(out)] for class_id, into, out in state["totals"]}
        self.sides = {int(identity): _Side(bool(left), float(time)) for identity, left, time in state["sides"]}


def _cross(vector: Vector, points: np.ndarray) -> np.ndarray:
    """Cross products of a vector and those from its start to points (..., 2): negative to its left on the screen."""
    start, end = vector.start, vector.end
    return (end.x - start.x) * (points[..., 1] - start.y) - (end.y - start.y) * (points[..., 0] - start.x)


@dataclass
class _ZoneCount:
    """What is known of one zone."""

    zone: Zone
    polygon: sv.PolygonZone
    visits: dict[int, _Visit] = field(default_factory=dict)  # the last one of each track that is remembered
    entered: int = 0  # visits so far
    visitors: int = 0  # tracks so far
    seconds: float = 0.0  # of all visits that have ended

    @property
    def occupancy(self) -> int:
        """Tracks that are in the zone now."""
        return sum(visit.inside for visit in list(self.visits.values()))  # a copy: other threads ask, too

    @property
    def mean_seconds(self) -> float | None:
        """Mean length of all visits; those that go on count up to when the track was last seen."""
        going_on = sum(visit.time - visit.since for visit in list(self.visits.values()) if visit.inside)
        return (self.seconds + going_on) / self.entered if self.entered else None

    def update(self, rows: sv.Detections, size: tuple[int, int], number: int, time: float) -> list[CountEvent]:
        events = []
        feet = rows.get_anchors_coordinates(sv.Position.BOTTOM_CENTER)  # (N, 2)
        feet = np.clip(feet, 0, [size[0] - 1, size[1] - 1])  # a box may end below the picture
        # as boxes without size: supervision 0.27 cuts boxes at the zone's border, which moves their middle
        inside = self.polygon.trigger(sv.Detections(xyxy=np.hstack([feet, feet])))
        identities, classes = track_ids(rows), class_ids(rows)
        for row in np.flatnonzero(inside).tolist():
            identity, class_id = identities[row], int(classes[row])
            visit = self.visits.get(identity)
            if visit is not None and visit.inside:
                visit.time, visit.number, visit.class_id = time, number, class_id
                continue
            self.visitors += visit is None
            self.entered += 1
            self.visits[identity] = _Visit(True, time, time, number, class_id)
            events.append(CountEvent("entered", self.zone.name, identity, class_id, number, time))
        for identity, visit in self.visits.items():
            if visit.inside and time - visit.time > GRACE_SECONDS:
                visit.inside, seconds = False, visit.time - visit.since
                self.seconds += seconds
                last = (visit.class_id, visit.number, visit.time)
                events.append(CountEvent("left", self.zone.name, identity, *last, seconds))
        return events

    def state(self) -> dict[str, Any]:
        return {
            "points": [list(point) for point in self.zone.points],
            "entered": self.entered,
            "visitors": self.visitors,
            "seconds": self.seconds,
            "visits": [[identity, *asdict(visit).values()] for identity, visit in self.visits.items()],
        }

    def load(self, state: Mapping[str, Any]) -> None:
        self.entered, self.visitors = int(state["entered"]), int(state["visitors"])
        self.seconds = float(state["seconds"])
        self.visits = {
            int(identity): _Visit(bool(inside), float(since), float(time), int(number), int(class_id))
            for identity, inside, since, time, number, class_id in state["visits"]
        }


class Counter:
    """Counts the tracks that cross lines, and those in zones.

    A track crosses a line when all four corners of its box have come from one side of it to the other, between the
    perpendiculars at the line's ends, as in supervision's ``LineZone``. *In* is to the left of the direction from the
    line's first point to its second: upwards for a line that is drawn from left to right.

    A track is in a zone while the middle of its box's lower side is. It has left when that was not so for more than
    one second, so that a track that is lost for a moment, or stands on the border, is counted once. Tracks that have
    not been seen for ten minutes are forgotten; one that is in the zone again after that counts as another visitor.

    Args:
        lines: with different names.
        zones: with different names, which no line has either.
        size: (width, height) of the pictures in pixels.

    Raises:
        InputError: two have one name, or a point is outside of the picture.
    """

    def __init__(self, lines: Sequence[Line], zones: Sequence[Zone], size: tuple[int, int]) -> None:
        names: set[str] = set()
        shapes: list[Line | Zone] = [*lines, *zones]
        for shape in shapes:
            argument = "--line" if isinstance(shape, Line) else "--zone"
            if shape.name in names:
                raise InputError(f"{argument} {shape.name}: another line or zone has this name, give each its own")
            names.add(shape.name)
            for x, y in shape.points:
                if not (0 <= x <= size[0] and 0 <= y <= size[1]):
                    raise InputError(
                        f"{argument} {shape.name} must be inside of the picture of {size[0]} x {size[1]} pixels, but "
                        f"has the point {_point((x, y))}"
                    )
        self.size = size
        self._lines = [_LineCount(line) for line in lines]
        self._zones = [_ZoneCount(zone, sv.PolygonZone(np.rint(zone.points).astype(int))) for zone in zones]

    def update(self, result: FrameResult) -> list[CountEvent]:
        """Counts one frame; call it for each frame in turn, also for those without tracks.

        Args:
            result: rows without an identity are left out.

        Returns:
            What happened, lines first. ``left`` comes one second after a track was last seen in the zone.
        """
        number, time = result.frame.number, result.frame.time
        if any(event.kind == "cut" for event in result.events):  # the picture is of another place: nothing has crossed
            for line in self._lines:
                line.sides.clear()
        rows = tracked_rows(result.detections)
        events = [event for line in self._lines for event in line.update(rows, number, time)]
        events += [event for zone in self._zones for event in zone.update(rows, self.size, number, time)]
        self._forget(time - MEMORY_SECONDS)
        return events

    def _forget(self, before: float) -> None:
        """Forgets the tracks that were last seen before a time, in seconds."""
        for line in self._lines:
            line.sides = {identity: side for identity, side in line.sides.items() if side.time >= before}
        for zone in self._zones:
            zone.visits = {identity: visit for identity, visit in zone.visits.items() if visit.time >= before}

    def draw(self, drawing: np.ndarray) -> None:
        """Draws the lines, the zones and their counts into a picture, (H, W, 3) uint8 BGR."""
        side = min(drawing.shape[:2])
        line_width, text_scale = max(1, round(side / 310)), max(0.38, side / 1600)
        text_width = max(1, round(text_scale * 1.6))
        for zone in self._zones:
            zones = sv.PolygonZoneAnnotator(
                zone.polygon, thickness=line_width, text_scale=text_scale, text_thickness=text_width, text_padding=4
            )
            zones.annotate(drawing, f"{_ascii(zone.zone.name)}: {zone.occupancy}")
        for line in self._lines:
            lines = sv.LineZoneAnnotator(
                thickness=line_width,
                text_thickness=text_width,
                text_scale=text_scale,
                text_padding=4,
                custom_in_text=f"{_ascii(line.line.name)} in",
                custom_out_text=f"{_ascii(line.line.name)} out",
            )
            lines.annotate(drawing, line)

    def summary(self) -> dict[str, Any]:
        """The counts so far, of numbers and text only.

        Returns:
            ``lines``: for each name ``in`` and ``out``, and ``classes`` with both for each class id. ``zones``: for
            each name ``inside`` (tracks now), ``visits``, ``visitors`` (tracks that came at least once) and
            ``mean_seconds`` of a visit, None without any.
        """
        return {
            "lines": {
                line.line.name: {
                    "in": line.in_count,
                    "out": line.out_count,
                    "classes": {
                        class_id: {"in": into, "out": out} for class_id, (into, out) in sorted(line.totals.items())
                    },
                }
                for line in self._lines
            },
            "zones": {
                zone.zone.name: {
                    "inside": zone.occupancy,
                    "visits": zone.entered,
                    "visitors": zone.visitors,
                    "mean_seconds": zone.mean_seconds,
                }
                for zone in self._zones
            },
        }

    def state_dict(self) -> dict[str, Any]:
        """All that changes from frame to frame, as lists, numbers and text that json holds."""
        return {
            "lines": {line.line.name: line.state() for line in self._lines},
            "zones": {zone.zone.name: zone.state() for zone in self._zones},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over the state of a counter with the same lines and zones.

        Raises:
            InputError: the state is of other lines or zones, or damaged; the counter is as it was.
        """
        other = Counter([line.line for line in self._lines], [zone.zone for zone in self._zones], self.size)
        try:
            if _places(state) != _places(other.state_dict()):
                raise InputError("the state is of other counting lines or zones: give the same --line and --zone again")
            for line in other._lines:
                line.load(state["lines"][line.line.name])
            for zone in other._zones:
                zone.load(state["zones"][zone.zone.name])
        except InputError:
            raise
        except (KeyError, TypeError, AttributeError, OverflowError, ValueError) as error:
            raise InputError(f"the state of the counting lines and zones is damaged: {error!r}") from error
        self._lines, self._zones = other._lines, other._zones


def _places(state: Mapping[str, Any]) -> dict[str, dict[str, list[Any]]]:
    """The points of each line and zone of a state."""
    return {kind: {name: part["points"] for name, part in state[kind].items()} for kind in ("lines", "zones")}


def _ascii(name: str) -> str:
    """A name with ``?`` for the letters that OpenCV's font does not have."""
    return name.encode("ascii", "replace").decode()


class CountsWriter:
    """counts.csv, a row for each event of counting lines and zones, as they come.

    The columns are ``frame,time,event,name,id,class_id,class_name,seconds``; ``seconds`` is how long a track that left
    was in the zone, else empty.

    Args:
        path: the file.
        class_names: the names by class id.
    """

    def __init__(self, path: str | Path, class_names: ClassNames = None) -> None:
        self.file = PartFile(path)
        self._class_names = class_names
        self._out = Appender(create_part(self.file))
        try:
            self._append([("frame", "time", "event", "name", "id", "class_id", "class_name", "seconds")])
        except BaseException:
            self.abandon()
            raise

    def write(self, events: Iterable[CountEvent]) -> None:
        """Adds a frame's events.

        Raises:
            OSError: the disk is full, or the like; the file is as it was.
        """
        rows = [
            (
                event.number,
                round(event.time, 4),
                event.kind,
                spreadsheet_text(event.name),
                event.identity,
                event.class_id,
                spreadsheet_text(class_name(event.class_id, self._class_names)),
                round(event.seconds, 4) if event.kind == "left" else "",
            )
            for event in events
        ]
        if rows:
            self._append(rows)

    def _append(self, rows: Iterable[Sequence[object]]) -> None:
        text = io.StringIO(newline="")
        csv.writer(text).writerows(rows)
        self._out.append(text.getvalue())

    def finish(self) -> None:
        """Completes the part, so that only its renaming is left."""
        self._out.close()

    def close(self) -> None:
        """Completes the file and puts it in its place."""
        close_writer(self)  # type: ignore[arg-type]

    def abandon(self) -> None:
        """Stops and removes the part; an earlier file is as it was."""
        with suppress(OSError):
            self._out.close()
        self.file.abandon()
