"""Live sources: results that keep up with them, runs that go on, and what is shown while they go on."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import supervision as sv
from killed_runs import Colours, a_job, boxes_at, made_images, rows_of
from test_rtsp import TICKS, Answers, Server, encode, in_rtp, said

from masa_track.contracts import Frame, FrameResult
from masa_track.formats.jsonl import JsonLinesWriter
from masa_track.parts.hierarchy import parse_hierarchy
from masa_track.parts.scene import SceneTracker, thing_classes
from masa_track.parts.tree import FIRST_PART_ID
from masa_track.pipeline import loop
from masa_track.pipeline.counting import Counter, Line, Zone
from masa_track.pipeline.job import Job, Outcome
from masa_track.pipeline.loop import track_video
from masa_track.pipeline.queues import Ahead
from masa_track.pipeline.status import status_of
from masa_track.runs import store as stores
from masa_track.runs.resume import resumed
from masa_track.runs.store import open_store
from masa_track.tracker import MasaTracker
from masa_track.video.source import OnBroken, Source
from masa_track.video.sources import open_source


class Live(Source):
    """A camera that gives a frame each 1 / fps seconds, whether anyone takes it or not; its clock begins anew."""

    live = True
    name = "gate"
    width, height = 230, 160

    def __init__(self, count: int, fps: float = 50.0, first: int = 1, late: float = 0.0) -> None:
        self.count, self.fps, self.first, self.late = count, fps, first, late

    def _read(self, stride: int, report: OnBroken, start: int) -> Iterator[Frame]:
        begun = time.monotonic()
        self.sent: dict[int, float] = {}  # when, by the frame's number
        for place in range(0, self.count, stride):
            time.sleep(max(0.0, begun + place / self.fps - time.monotonic()))
            image = np.full((self.height, self.width, 3), 60, np.uint8)
            for x1, y1, x2, y2 in boxes_at(self.first + place).astype(int):
                image[y1:y2, x1:x2] = 40 * min(4, x1 // 40) + 60
            self.sent[start + place] = time.monotonic()
            yield Frame(start + place, self.late + place / self.fps, (self.width, self.height), "", image)


def live_job(folder: Path, source: Source, seconds: float = 0.0, boxes_from: int = 0, **options: Any) -> Job:
    """A run of a camera; its detector takes some time for a frame."""

    def detect(frame: Frame) -> sv.Detections:
        time.sleep(seconds)
        boxes = boxes_at(frame.number + boxes_from)
        return sv.Detections(boxes, confidence=np.full(len(boxes), 0.9), class_id=np.zeros(len(boxes), int))

    folder.mkdir(exist_ok=True)
    tracker = options.pop("tracker", None) or MasaTracker(Colours())
    return Job(source, detect, {0: "thing"}, tracker, folder, with_video=False, **options)


def numbers_of(folder: Path) -> list[int]:
    return list(rows_of(folder))


@pytest.mark.slow
def test_old_items_are_dropped_and_the_newest_is_given() -> None:
    """What waited too long for the one who takes items, and needs time for each; nothing while they keep up."""

    def often(count: int) -> Iterator[int]:
        for number in range(count):
            time.sleep(0.005)
            yield number

    slow = Ahead(often(120), "test", lambda item: 1, latency=0.1, most_items=1000)
    taken = []
    for item in slow:
        taken.append(item)
        time.sleep(0.06)
    assert taken == sorted(taken)
    assert len(taken) + slow.dropped == 120
    assert slow.dropped > 40
    assert taken[-1] >= 118  # the newest is kept
    fast = Ahead(often(40), "test", lambda item: 1, latency=30.0, most_items=1000)
    assert list(fast) == list(range(40))
    assert fast.dropped == 0


def test_a_live_source_is_not_kept_waiting() -> None:
    """Though its queue is full: then all but the newest are dropped."""
    made = []

    def at_once() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number

    ahead = Ahead(at_once(), "test", lambda item: 1, latency=60.0, most_items=4)
    until = time.monotonic() + 10
    while len(made) < 100 and time.monotonic() < until:
        time.sleep(0.01)
    assert len(made) == 100
    rest = list(ahead)
    assert rest[-1] == 99
    assert len(rest) + ahead.dropped == 100


class Lags:
    """Notes for each result how many seconds ago its frame was sent."""

    look_ahead = 0

    def __init__(self, sent_at: Callable[[Frame], float]) -> None:
        self._sent_at = sent_at
        self.seconds: list[float] = []

    def step(self, result: FrameResult) -> list[FrameResult]:
        self.seconds.append(time.monotonic() - self._sent_at(result.frame))
        return [result]

    def finish(self) -> list[FrameResult]:
        return []


@pytest.mark.slow
@pytest.mark.parametrize(("seconds", "batch"), [(0.2, 1), (0.55, 1), (0.1, 3)])
def test_results_keep_up_with_the_source(tmp_path: Path, seconds: float, batch: int) -> None:
    """From the first frames on, also where the detector takes more than half of the latency.

    A pause of the machine may delay single frames, so most of them are compared with the latency: without dropped
    frames, the lag of the last one would be the time of the run.
    """
    source = Live(120, fps=40)
    lags = Lags(lambda frame: source.sent[frame.number])
    outcome = track_video(live_job(tmp_path / "out", source, seconds, batch=batch, live_latency=1.0, stages=[lags]))
    assert len(lags.seconds) == outcome.frames
    assert 0 < np.median(lags.seconds) < 1.0
    assert outcome.longest_lag > 0
    numbers = numbers_of(tmp_path / "out")
    assert numbers == sorted(numbers)
    assert numbers[-1] > 110
    assert outcome.dropped == 120 - len(numbers) > 40
    page = (tmp_path / "out" / "report.html").read_text()
    assert "frames dropped" in page
    assert "longest lag" in page
    assert outcome.interrupted is False


@pytest.mark.slow
def test_nothing_is_dropped_of_a_file_or_by_a_run_that_keeps_up(tmp_path: Path) -> None:
    pictures = made_images(tmp_path / "images", 12)
    job = a_job(tmp_path / "file", pictures, with_video=False, live_latency=0.0)
    find: Any = job.detector
    job.detector = lambda frame: time.sleep(0.02) or find(frame)
    outcome = track_video(job)
    assert (outcome.frames, outcome.dropped, outcome.longest_lag) == (12, 0, 0.0)
    outcome = track_video(live_job(tmp_path / "live", Live(15), live_latency=30.0))
    assert (outcome.frames, outcome.dropped) == (15, 0)
    assert outcome.longest_lag > 0


def test_the_state_of_a_run(tmp_path: Path) -> None:
    """As numbers and text, before it begins, while it goes on, and after it."""
    counter = Counter([Line("middle", ((0, 55), (230, 55)))], [], (230, 160))
    job = live_job(tmp_path / "out", Live(20, fps=100), counter=counter, live_latency=30.0)
    assert status_of(job)["frames"] == 0
    seen: list[dict[str, Any]] = []
    find: Any = job.detector
    job.detector = lambda frame: seen.append(status_of(job)) or find(frame)
    track_video(job)
    seen.append(status_of(job))
    json.dumps(seen)
    frames = [state["frames"] for state in seen]
    assert frames == sorted(frames)
    assert frames[-1] == 20
    last = seen[-1]
    assert (last["source"], last["dropped"], last["skipped"], last["last_error"]) == ("gate", 0, 0, "")
    assert last["tracks"] == sum(row[0] > 0 for row in rows_of(tmp_path / "out")[20])
    assert last["fps"] > 0
    assert last["lag_seconds"] > 0
    assert 20 < last["memory_mb"] < 10_000
    assert set(last["counts"]["lines"]) == {"middle"}


def as_killed(folder: Path, states_to: int) -> None:
    """Makes of a run that ended what a kill leaves whose last state was after a frame."""
    with open_store(folder, write=True) as store:
        store._connection.execute("DELETE FROM snapshots WHERE number > ?", (states_to,))
        store.finish("")


def go_on(job: Job, state_free: bool = False) -> Outcome:
    with open_store(job.folder) as store:
        job.resumed = resumed(store)
    return track_video(job)


@pytest.mark.parametrize(
    "states_to", [20, pytest.param(40, marks=pytest.mark.slow), pytest.param(0, marks=pytest.mark.slow)]
)
def test_a_live_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, states_to: int) -> None:
    """No frame of the record is lost, whatever the last state is: numbers and times go on by the clock on the wall."""
    monkeypatch.setattr(loop, "SNAPSHOT_SECONDS", 0.0)
    monkeypatch.setattr(stores, "COMMIT_SECONDS", 0.0)
    out = tmp_path / "out"
    shapes = [Line("middle", ((0, 55), (230, 55)))], [Zone("left", ((0, 0), (110, 0), (110, 160), (0, 160)))]
    first = live_job(out, Live(40, fps=100), counter=Counter(*shapes, (230, 160)), live_latency=30.0)
    track_video(first)
    before = rows_of(out)
    assert list(before) == list(range(1, 41))
    as_killed(out, states_to)
    paused = 5.0
    with open_store(out, write=True) as store:
        store.info.started -= paused  # the computer was off for so long
        store.finish("")
    second = live_job(out, Live(20, fps=100, first=41), counter=Counter(*shapes, (230, 160)), live_latency=30.0)
    outcome = go_on(second)
    after = rows_of(out)
    assert list(after) == list(range(1, 61))
    assert {number: after[number] for number in before} == before
    assert (outcome.frames, outcome.interrupted) == (60, False)
    with open_store(out) as store:
        times = {result.frame.number: result.frame.time for result in store.results()}
        born = [e.identity for result in store.results() for e in result.events if e.kind == "born"]
        counts = list(store.counts())
    assert paused < times[41] - times[40] + times[40] < paused + 60
    assert all(times[n + 1] > times[n] for n in range(1, 60))
    assert len(born) == len(set(born))
    # What happened between the last state and the kill is counted, too.
    assert second.counter is not None
    summary = second.counter.summary()
    assert summary["zones"]["left"]["visits"] == sum(event.kind == "entered" for event in counts)
    assert summary["lines"]["middle"]["in"] == sum(event.kind == "crossed_in" for event in counts)


@pytest.mark.slow
def test_identities_of_frames_after_the_last_state_are_not_given_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was killed before its first state begins with a new tracker, but with new identities."""
    monkeypatch.setattr(stores, "COMMIT_SECONDS", 0.0)
    out = tmp_path / "out"
    track_video(live_job(out, Live(25, fps=100), live_latency=30.0))
    as_killed(out, 0)
    highest = max(row[0] for rows in rows_of(out).values() for row in rows)
    assert highest >= 3
    assert go_on(live_job(out, Live(25, fps=100), boxes_from=300, live_latency=30.0)).frames == 50
    later = {row[0] for number, rows in rows_of(out).items() for row in rows if number > 25} - {-1}
    assert later
    assert min(later) > highest


@pytest.mark.slow
@pytest.mark.parametrize("states_to", [0, 15])
def test_parts_of_a_live_run_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, states_to: int) -> None:
    """Neither things nor parts get identities of frames after the last state."""
    monkeypatch.setattr(loop, "SNAPSHOT_SECONDS", 0.0)
    monkeypatch.setattr(stores, "COMMIT_SECONDS", 0.0)
    tree, out = parse_hierarchy("thing[head]"), tmp_path / "out"

    def job(source: Live, first: int) -> Job:
        def detect(frame: Frame) -> sv.Detections:
            things = boxes_at(frame.number + first)
            boxes = np.vstack((things, things - [0, 0, 6, 16]))
            labels = np.repeat((0, 1), len(things))
            return sv.Detections(boxes.astype(np.float32), confidence=np.full(len(boxes), 0.9), class_id=labels)

        tracker = SceneTracker(MasaTracker(Colours(), classes=thing_classes(tree)), tree)
        run = live_job(out, source, tracker=tracker, live_latency=30.0)
        run.detector, run.class_names = detect, {0: "thing", 1: "thing head"}
        return run

    track_video(job(Live(25, fps=100), 0))
    as_killed(out, states_to)
    assert go_on(job(Live(25, fps=100), 300)).frames == 50
    ids = {number: {row[0] for row in rows} - {-1} for number, rows in rows_of(out).items()}
    known, before, later = (
        set[int]().union(*(ids[number] for number in ids if first <= number <= last))
        for first, last in ((1, states_to), (1, 25), (26, 50))
    )
    assert bool(known & later) == bool(states_to)
    for parts in (False, True):
        old, new = ([i for i in some if (i >= FIRST_PART_ID) == parts] for some in (before, later - known))
        assert len(old) >= 3
        assert min(new) > max(old)


@pytest.mark.slow
def test_lines_of_a_live_run_go_on(tmp_path: Path) -> None:
    path, out = tmp_path / "live.jsonl", tmp_path / "out"
    with JsonLinesWriter(path) as lines:
        track_video(live_job(out, Live(20, fps=100), lines=lines, live_latency=30.0))
    with JsonLinesWriter(path, append=True) as lines:
        go_on(live_job(out, Live(20, fps=100), lines=lines, live_latency=30.0))
    held = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["frame"] for line in held if "tracks" in line] == list(range(1, 41))


class Paced(Answers):
    """Sends each frame when it is due."""

    def play(self) -> None:
        sequence, begun = 100, time.monotonic()
        server: Any = self.server
        server.sent = {}
        try:
            for place, nals in enumerate(server.frames):
                time.sleep(max(0.0, begun + place / 25 - time.monotonic()))
                packets = in_rtp(nals, sequence, TICKS * place)
                sequence += len(packets)
                server.sent[place + 1] = time.monotonic()
                self.wfile.write(b"".join(packets))
        except OSError:
            pass


@pytest.mark.slow
def test_a_camera_on_the_network_is_kept_up_with(tmp_path: Path) -> None:
    """Measured from when the server has sent a picture: 4 s of an RTSP stream, and a detector of 5 frames a second."""
    server = Server(encode(100), [], silent=False)
    server.RequestHandlerClass = Paced  # type: ignore[assignment]
    try:
        source = open_source(server.url, reconnect=0)
        sent: Any = server
        lags = Lags(lambda frame: sent.sent[said(frame.picture)])
        job = live_job(tmp_path / "out", source, stages=[lags], live_latency=1.0)
        box = sv.Detections(np.array([[20.0, 10, 60, 80]]), confidence=np.array([0.9]), class_id=np.array([0]))
        job.detector = lambda frame: time.sleep(0.2) or box
        outcome = track_video(job)
    finally:
        server.shutdown()
        server.server_close()
    assert outcome.dropped > 40
    assert len(lags.seconds) == outcome.frames >= 10
    assert np.median(lags.seconds) < 1.5  # a decoder holds some frames, too; the first ones wait for the connection
    numbers = numbers_of(tmp_path / "out")
    assert numbers == sorted(numbers)
    assert numbers[-1] >= 80


def walk(folder: Path, count: int) -> Path:
    """A noisy patch that walks to and fro over a background, with its boxes in det.txt beside the folder."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    background = cv2.resize(rng.integers(0, 255, (12, 16, 3)).astype(np.uint8), (160, 120))
    patch = rng.integers(0, 255, (30, 20, 3)).astype(np.uint8)
    rows = []
    for number in range(1, count + 1):
        x = 70 - abs(70 - 2 * (number % 70))
        rows.append(f"{number},-1,{41 + x},41,20,30,0.9,-1,-1,-1\n")
        picture = background.copy()
        picture[40:70, 40 + x : 60 + x] = patch
        cv2.imwrite(str(folder / f"{number:04d}.png"), picture)
    (folder.parent / "det.txt").write_text("".join(rows))
    return folder


@pytest.mark.slow
def test_watching_and_counting_by_the_command(tmp_path: Path) -> None:
    """``--http``, ``--line``, ``--zone``, ``--blur``, ``--start`` and ``--end`` together."""
    pictures, out = walk(tmp_path / "images", 130), tmp_path / "out"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "masa_track", "track", str(pictures), "--out", str(out)),
            *("--detections", str(tmp_path / "det.txt")),
            *("--http", "0", "--line", "door:80,119,80,0", "--zone", "yard:90,0,159,0,159,119,90,119"),
            *("--blur", "objects", "--start", "11", "--end", "3.5s"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    address, states = "", []
    try:
        for line in process.stderr:
            if found := re.search(r"watch at +(http://127\.0\.0\.1:\d+)/?", line):
                address = found[1]
                break
        assert address
        while process.poll() is None:
            try:
                with urllib.request.urlopen(f"{address}/status", timeout=5) as answer:
                    states.append(json.loads(answer.read()))
            except OSError:
                break  # it has ended
            time.sleep(0.05)
        said_out, said_err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, said_err
    assert states
    assert [state["frames"] for state in states] == sorted(state["frames"] for state in states)
    assert {"fps", "tracks", "dropped", "memory_mb", "last_error", "counts", "lag_seconds"} <= set(states[-1])
    assert set(states[-1]["counts"]["lines"]) == {"door"}
    assert "96 frames" in said_out  # 11 to 106, which is at 3.5 s
    with open_store(out) as store:
        numbers = [result.frame.number for result in store.results()]
        counts = list(store.counts())
        pictures_held = list(store.thumbnails())
    assert numbers == list(range(11, 107))
    with open(out / "counts.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["event"], row["name"], int(row["id"])) for row in rows] == [
        (event.kind, event.name, event.identity) for event in counts
    ]
    assert {"crossed_in", "crossed_out", "entered"} <= {row["event"] for row in rows}
    page = (out / "report.html").read_text()
    crossed = {kind: sum(event.kind == kind for event in counts) for kind in ("crossed_in", "crossed_out")}
    assert f"{crossed['crossed_in']} in, {crossed['crossed_out']} out" in page
    assert "zone yard" in page
    assert pictures_held
    for _, _, jpeg in pictures_held:  # of blurred pictures: hardly any contrast from pixel to pixel
        thumbnail = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE).astype(float)
        assert np.abs(np.diff(thumbnail, axis=1)).mean() < 15
