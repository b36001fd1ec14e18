"""Counting lines and zones: parsing, crossings as supervision counts them, visits, memory, state, files."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import supervision as sv

from masa_track.contracts import CountEvent, Frame, FrameResult, TrackEvent
from masa_track.errors import InputError
from masa_track.pipeline.counting import Counter, CountsWriter, Line, Zone, parse_line, parse_zone

SIZE = (640, 480)


def result(number: int, boxes, ids, fps: float = 25.0, classes=None, events=()) -> FrameResult:
    rows = sv.Detections(
        xyxy=np.array(boxes, float).reshape(-1, 4),
        tracker_id=np.array(ids, int),
        class_id=np.zeros(len(ids), int) if classes is None else np.array(classes, int),
    )
    return FrameResult(Frame(number, (number - 1) / fps, SIZE), rows, list(events))


def box(x: float, y: float, side: float = 20) -> list[float]:
    """A box by the middle of its lower side."""
    return [x - side / 2, y - side, x + side / 2, y]


def kinds(events: list[CountEvent]) -> list[tuple[str, str, int]]:
    return [(event.kind, event.name, event.identity) for event in events]


def walk(counter: Counter, places, fps: float = 10.0, identity: int = 1) -> list[CountEvent]:
    """One track; a place is (x, y) of its feet, None where it is not seen."""
    events = []
    for number, place in enumerate(places, start=1):
        events += counter.update(result(number, [box(*place)] if place else [], [identity] if place else [], fps))
    return events


def test_lines_and_zones_are_parsed():
    assert parse_line("door:100,200,500,200") == Line("door", ((100, 200), (500, 200)))
    assert parse_line("Tür 2-b: 1.5, 0,3,4").points == ((1.5, 0), (3, 4))
    assert parse_zone("yard:0,0,100,0,100,100") == Zone("yard", ((0, 0), (100, 0), (100, 100)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("100,200,500,200", r"--line must be NAME:x1,y1,x2,y2,\.\.\. such as door:100,200,500,200, got '100,200,500"),
        (":1,2,3,4", "the name of --line must be 1 to 40 letters"),
        ("=a:1,2,3,4", "the name of --line must be .* got '=a'"),
        ("a/b:1,2,3,4", "the name of --line must be .* got 'a/b'"),
        ("a\nb:1,2,3,4", "the name of --line must be"),
        ("a" * 41 + ":1,2,3,4", "the name of --line must be 1 to 40"),
        ("door:1,2,x,4", "--line door must have coordinates in pixels such as .* got 'x'"),
        ("door:1,2,nan,4", "got 'nan'"),
        ("door:1,2,,4", "got ''"),
        ("door:1,2,3", "--line door must have an x and a y for each point, got 3 numbers"),
        ("door:1,2,3,4,5,6", "--line door must have two points, x1,y1,x2,y2, got 3"),
        ("door:1,2", "--line door must have two points"),
        ("door:5,5,5,5", r"--line door must have a length, but both its points are \(5, 5\)"),
    ],
)
def test_wrong_lines_are_refused(text, message):
    with pytest.raises(InputError, match=message):
        parse_line(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("yard:0,0,100,0", "--zone yard must have at least three corners, got 2"),
        ("yard:0,0,100,100,100,0,0,100", "--zone yard has sides that cross: name its corners in their order"),
        ("yard:0,0,50,50,100,100", "--zone yard must have an area of at least one pixel"),
        ("yard", "--zone must be NAME:"),
    ],
)
def test_wrong_zones_are_refused(text, message):
    with pytest.raises(InputError, match=message):
        parse_zone(text)


def test_names_and_places_are_checked_against_each_other_and_the_picture():
    door, yard = parse_line("door:0,0,640,480"), parse_zone("yard:0,0,640,0,640,480")
    Counter([door], [yard], SIZE)  # the border belongs to the picture
    with pytest.raises(InputError, match="--line door: another line or zone has this name"):
        Counter([door, door], [], SIZE)
    with pytest.raises(InputError, match="--zone door: another line or zone has this name"):
        Counter([door], [parse_zone("door:0,0,9,0,9,9")], SIZE)
    with pytest.raises(InputError, match=r"--zone z must be inside of the picture of 640 x 480 pixels, .* \(641, 0\)"):
        Counter([], [parse_zone("z:0,0,641,0,9,9")], SIZE)
    with pytest.raises(InputError, match=r"--line l must be inside .* \(-1, 3\)"):
        Counter([parse_line("l:-1,3,5,5")], [], SIZE)


@pytest.mark.parametrize("text", ["a:100,240,500,240", "a:500,240,100,240", "a:320,50,320,400", "a:200,100,450,380"])
def test_crossings_are_those_of_supervision(text):
    """Thirty tracks walk at random, always seen: both count the same, in the same frames."""
    random = np.random.default_rng(4)
    line = parse_line(text)
    counter = Counter([line], [], SIZE)
    theirs = sv.LineZone(*(sv.Point(*point) for point in line.points))
    places, speeds = random.uniform([0, 0], SIZE, (30, 2)), random.normal(0, 12, (30, 2))
    total = 0
    for number in range(1, 200):
        places = places + speeds
        speeds = np.where((places < 0) | (places > SIZE), -speeds, speeds) + random.normal(0, 1, (30, 2))
        frame = result(number, [box(x, y) for x, y in places], range(30), classes=np.arange(30) % 3)
        events = counter.update(frame)
        into, out = theirs.trigger(frame.detections)
        assert [e.identity for e in events if e.kind == "crossed_in"] == np.flatnonzero(into).tolist()
        assert [e.identity for e in events if e.kind == "crossed_out"] == np.flatnonzero(out).tolist()
        assert all(e.class_id == e.identity % 3 and e.number == number and e.name == "a" for e in events)
        total += len(events)
    assert total > 20
    counts = counter.summary()["lines"]["a"]
    assert (counts["in"], counts["out"]) == (theirs.in_count, theirs.out_count)
    ours = {key: value["in"] for key, value in counts["classes"].items() if value["in"]}
    assert ours == {int(key): n for key, n in theirs.in_count_per_class.items()}


def test_in_is_upwards_for_a_line_from_left_to_right():
    counter = Counter([parse_line("door:0,200,600,200")], [], SIZE)
    events = walk(counter, [(300, 300), (300, 250), (300, 190), (300, 210), (300, 300)])
    assert kinds(events) == [("crossed_in", "door", 1), ("crossed_out", "door", 1)]
    assert [event.number for event in events] == [3, 5]  # when the whole box is on the other side
    assert events[0].time == pytest.approx(0.2)


def test_a_track_that_is_lost_on_the_line_is_counted():
    """Five seconds without it; supervision's class forgets the side after two frames."""
    counter = Counter([parse_line("door:0,200,600,200")], [], SIZE)
    events = walk(counter, [(300, 300), *([None] * 50), (300, 100)])
    assert kinds(events) == [("crossed_in", "door", 1)]


def test_rows_without_an_identity_are_left_out():
    counter = Counter([parse_line("door:0,200,600,200")], [parse_zone("all:0,0,640,0,640,480,0,480")], SIZE)
    assert walk(counter, [(300, 300), (300, 100)], identity=-1) == []
    assert counter.update(FrameResult(Frame(3, 1.0, SIZE), sv.Detections(xyxy=np.array([box(9, 9)])))) == []


def test_nothing_crosses_over_a_cut():
    counter = Counter([parse_line("door:0,200,600,200")], [], SIZE)
    counter.update(result(1, [box(300, 300)], [1]))
    cut = TrackEvent("cut", -1, 2, 0.04)
    assert counter.update(result(2, [box(300, 100)], [1], events=[cut])) == []
    assert kinds(counter.update(result(3, [box(300, 300)], [1]))) == [("crossed_out", "door", 1)]


def test_visits_to_a_zone():
    """At 10 frames a second: in at 0.1 s, last seen inside at 0.3 s; more than one second later it has left."""
    counter = Counter([], [parse_zone("yard:100,100,300,100,300,300,100,300")], SIZE)
    events = walk(counter, [(50, 200), (150, 200), (200, 200), (250, 200), *([(400, 200)] * 12)])
    assert kinds(events) == [("entered", "yard", 1), ("left", "yard", 1)]
    assert [event.number for event in events] == [2, 4]
    assert [event.time for event in events] == pytest.approx([0.1, 0.3])
    assert events[1].seconds == pytest.approx(0.2)
    zone = counter.summary()["zones"]["yard"]
    assert zone == {"inside": 0, "visits": 1, "visitors": 1, "mean_seconds": pytest.approx(0.2)}


@pytest.mark.parametrize("elsewhere", [None, (400, 200)])
def test_a_track_that_is_lost_for_a_moment_has_not_left(elsewhere):
    counter = Counter([], [parse_zone("yard:100,100,300,100,300,300,100,300")], SIZE)
    events = walk(counter, [(200, 200), *([elsewhere] * 9), (200, 200)] * 3)
    assert kinds(events) == [("entered", "yard", 1)]
    assert counter.summary()["zones"]["yard"]["inside"] == 1
    assert counter.summary()["zones"]["yard"]["mean_seconds"] == pytest.approx(3.2)  # so far


def test_a_track_that_comes_back_is_another_visit_of_the_same_visitor():
    counter = Counter([], [parse_zone("yard:100,100,300,100,300,300,100,300")], SIZE)
    events = walk(counter, [(200, 200), *([None] * 12), (200, 200), *([None] * 12)])
    assert kinds(events) == [("entered", "yard", 1), ("left", "yard", 1)] * 2
    zone = counter.summary()["zones"]["yard"]
    assert (zone["visits"], zone["visitors"], zone["inside"]) == (2, 1, 0)


def test_frames_that_are_seconds_apart_do_not_end_a_visit():
    counter = Counter([], [parse_zone("yard:100,100,300,100,300,300,100,300")], SIZE)
    events = walk(counter, [(200, 200)] * 4 + [None], fps=0.2)
    assert kinds(events) == [("entered", "yard", 1), ("left", "yard", 1)]
    assert events[1].seconds == pytest.approx(15)


def test_a_box_that_ends_below_the_picture_is_in_the_zone_at_its_border():
    counter = Counter([], [parse_zone("gate:0,400,639,400,639,479,0,479")], SIZE)
    assert kinds(walk(counter, [(300, 495)])) == [("entered", "gate", 1)]


def test_a_wide_box_beside_a_zone_is_not_in_it():
    counter = Counter([], [parse_zone("yard:0,0,100,0,100,400,0,400")], SIZE)
    assert counter.update(result(1, [[0, 0, 600, 300]], [1])) == []


@pytest.mark.slow
def test_memory_is_bounded():
    """Every track is new; those of the last ten minutes are remembered."""
    counter = Counter([parse_line("door:0,200,600,200")], [parse_zone("all:0,0,640,0,640,480,0,480")], SIZE)
    sizes = []
    for number in range(1, 2001):
        counter.update(result(number, [box(300, 100 + 200 * (number % 2))], [number], fps=0.5))
        if number % 100 == 0:
            sizes.append(len(json.dumps(counter.state_dict())))
    assert max(sizes[10:]) < 1.2 * max(sizes[:4])
    assert counter.summary()["zones"]["all"]["visitors"] == 2000
    lines, zones = counter.state_dict()["lines"]["door"], counter.state_dict()["zones"]["all"]
    assert len(lines["sides"]) == len(zones["visits"]) == 301


def random_frames(count: int) -> list[FrameResult]:
    random = np.random.default_rng(1)
    frames = []
    for number in range(1, count + 1):
        ids = np.flatnonzero(random.random(8) < 0.7)
        frames.append(result(number, [box(*random.uniform([0, 0], SIZE)) for _ in ids], ids, fps=2.0, classes=ids % 2))
    return frames


def test_a_resumed_counter_goes_on_as_the_one_that_saw_all():
    shapes = ([parse_line("a:0,200,600,200")], [parse_zone("z:100,100,500,100,500,400")], SIZE)
    whole, frames = Counter(*shapes), random_frames(80)
    expected = [whole.update(frame) for frame in frames]
    first = Counter(*shapes)
    for frame in frames[:40]:
        first.update(frame)
    second = Counter(*shapes)
    second.load_state_dict(json.loads(json.dumps(first.state_dict(), allow_nan=False)))
    assert [second.update(frame) for frame in frames[40:]] == expected[40:]
    assert second.summary() == whole.summary()
    assert sum(map(len, expected[40:])) > 10


def test_a_state_of_other_lines_or_a_damaged_one_is_refused():
    door = parse_line("door:0,200,600,200")
    counter = Counter([door], [], SIZE)
    walk(counter, [(300, 300), (300, 100)])
    before = counter.state_dict()
    for other in ([parse_line("door:0,201,600,200")], [parse_line("gate:0,200,600,200")], []):
        with pytest.raises(InputError, match="of other counting lines or zones: give the same --line and --zone"):
            counter.load_state_dict(Counter(other, [], SIZE).state_dict())
    damaged = json.loads(json.dumps(before))
    damaged["lines"]["door"]["sides"] = [[1, True]]
    for state in (damaged, {}, {"lines": 3, "zones": {}}):
        with pytest.raises(InputError, match="the state of the counting lines and zones is damaged"):
            counter.load_state_dict(state)
    assert counter.state_dict() == before


def test_the_drawing_shows_lines_zones_and_counts():
    counter = Counter([parse_line("Tür:100,200,500,200")], [parse_zone("yard:100,250,300,250,300,450")], SIZE)
    blank = np.zeros((480, 640, 3), np.uint8)
    first, second = blank.copy(), blank.copy()
    counter.draw(first)
    assert (first[200, 150:250] == 255).all(axis=1).all()  # the line
    assert first[350, 300].all()  # a side of the zone
    assert not first[:100].any()
    walk(counter, [(300, 300), (300, 100), (280, 300)])
    counter.draw(second)
    assert (first != second).any()  # the numbers


def test_the_file_of_events(tmp_path):
    writer = CountsWriter(tmp_path / "counts.csv", {0: "=person"})
    writer.write([])
    writer.write([CountEvent("crossed_in", "door", 7, 0, 12, 0.44)])
    assert not (tmp_path / "counts.csv").exists()
    part = next(Path(tmp_path).glob(".*.part")).read_text()
    assert part.count("\n") == 2  # is there at once
    writer.write([CountEvent("left", "yard", 7, 3, 20, 0.8, 0.36)])
    writer.close()
    rows = list(csv.DictReader((tmp_path / "counts.csv").open(newline="")))
    assert rows[0] == {
        **{"frame": "12", "time": "0.44", "event": "crossed_in", "name": "door", "id": "7", "class_id": "0"},
        **{"class_name": "'=person", "seconds": ""},
    }
    assert (rows[1]["event"], rows[1]["class_name"], rows[1]["seconds"]) == ("left", "class 3", "0.36")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["counts.csv"]


def test_an_abandoned_file_leaves_the_earlier_one(tmp_path):
    (tmp_path / "counts.csv").write_text("earlier")
    writer = CountsWriter(tmp_path / "counts.csv")
    writer.write([CountEvent("entered", "yard", 7, 3, 20, 0.8)])
    writer.abandon()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"counts.csv": "earlier"}
