"""The stages of a run in threads: the same results as one after the other, and a clean end whatever goes wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import supervision as sv
from killed_runs import Colours, a_job, boxes_at, made_images, number_in, rows_of
from test_video_out import read

from masa_track.cli.demo import demo_clip
from masa_track.contracts import Frame, FrameResult
from masa_track.detectors.motion import MotionDetector
from masa_track.errors import InputError
from masa_track.formats.jsonl import JsonLinesWriter
from masa_track.pipeline import loop, queues, sinks
from masa_track.pipeline.counting import Counter, Line
from masa_track.pipeline.file_boxes import file_boxes
from masa_track.pipeline.job import Job
from masa_track.pipeline.loop import track_video
from masa_track.pipeline.queues import Ahead, Behind
from masa_track.pipeline.sinks import Sinks
from masa_track.tracker import MasaTracker
from masa_track.video.sources import open_source

pytestmark = pytest.mark.slow  # together they take seconds

COUNT = 30
SECONDS = 20.0  # after which a run counts as stuck
FILES = {"report.html", "run.sqlite", "tracks.txt", "tracks.json", "tracks.csv", "video.mp4"}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_images(tmp_path_factory.mktemp("pictures") / "images", COUNT)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A textured patch that walks over a textured background, for real detectors."""
    folder = tmp_path_factory.mktemp("patch")
    rng = np.random.default_rng(0)
    background = cv2.resize(rng.integers(0, 255, (12, 16, 3)).astype(np.uint8), (160, 120))
    patch = rng.integers(0, 255, (30, 20, 3)).astype(np.uint8)
    for number in range(1, 19):
        picture = background.copy()
        picture[40:70, 6 * number : 6 * number + 20] = patch
        cv2.imwrite(str(folder / f"{number:04d}.png"), picture)
    return folder


def ends(run: Callable[[], object]) -> BaseException | object:
    """What a function returns or raises; a failure if it does not end."""
    out: list[Any] = []

    def keep() -> None:
        try:
            out.append(run())
        except BaseException as error:
            out.append(error)

    thread = threading.Thread(target=keep, daemon=True)
    thread.start()
    thread.join(SECONDS)
    assert out, "the run does not end"
    return out[0]


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("masa-track-")}


def open_motion(folder: Path) -> Any:
    return MotionDetector()


def open_function(folder: Path) -> Any:
    """A function that counts its calls: with a batch it must be called once for each frame, too."""
    calls = [0]

    def detect(frame: Frame) -> sv.Detections:
        calls[0] += 1
        boxes = boxes_at(calls[0])
        boxes = boxes[(boxes[:, 2] < 160) & (boxes[:, 3] < 120)]
        if calls[0] == 7:
            raise InputError("this frame has no boxes")
        return sv.Detections(boxes, confidence=np.full(len(boxes), 0.9), class_id=np.zeros(len(boxes), int))

    return detect


def open_file(folder: Path) -> Any:
    text = "".join(f"{n},-1,{6 * n + 1},41,20,30,0.9,-1,-1,-1\n" for n in range(1, 19))
    (folder / "det.txt").write_text(text)
    return file_boxes(str(folder / "det.txt"), open_source(PICTURES[0])).detector


def open_nanodet(folder: Path) -> Any:
    from masa_track.detectors import open_detector

    detector: Any = open_detector("nanodet", "cpu", None, ("all",))
    return detector


def open_own(folder: Path) -> Any:
    from masa_track import load
    from masa_track.detectors.own import OwnDetector

    return OwnDetector(load("nano", device="cpu"))


def open_torchvision(folder: Path) -> Any:
    import torch

    from masa_track.detectors.coco import CocoDetector

    torch.manual_seed(0)
    return CocoDetector("ssdlite320_mobilenet_v3_large", "cpu", pretrained=False)


def open_transformers(folder: Path) -> Any:
    import torch
    from test_detectors_transformers import rt_detr

    from masa_track.detectors import open_detector

    torch.manual_seed(0)
    for part in rt_detr():
        part.save_pretrained(folder)
    return open_detector(f"transformers:{folder}", "cpu", None, None)


PICTURES: list[Path] = []
slow = pytest.mark.slow
KINDS = [
    open_function,
    pytest.param(open_motion, marks=slow),
    pytest.param(open_file, marks=slow),
    pytest.param(open_nanodet, marks=slow),
    pytest.param(open_own, marks=slow),
    pytest.param(open_torchvision, marks=slow),
    pytest.param(open_transformers, marks=slow),
]


@pytest.mark.parametrize("opened", KINDS)
def test_threads_and_batches_change_nothing(
    opened: Callable[[Path], Any], pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For each kind of detector: the bytes of the track files, and what the record holds.

    A network that gets several pictures in one pass rounds in another way.
    """
    monkeypatch.setattr("masa_track.detectors.coco._LOWEST_SCORE", 0.0)  # of random weights
    PICTURES[:] = [pictures]
    (tmp_path / "of").mkdir()
    detector = opened(tmp_path / "of")
    source: Any = demo_clip() if opened is open_nanodet else pictures
    one_pass = opened in (open_torchvision, open_transformers)

    def run(name: str, **options: Any) -> Path:
        out = tmp_path / name
        out.mkdir()
        fresh = opened(tmp_path / "of") if opened is open_function else detector
        model = detector.embedder if opened is open_own else Colours()
        tracker = MasaTracker(model, track_activation_threshold=0.0)
        job = Job(open_source(source), fresh, {}, tracker, out, with_video=False, max_frames=14, **options)
        track_video(job)
        return out

    wanted = run("one", overlap=False)
    rows = rows_of(wanted)
    assert len(rows) >= 13
    assert sum(map(len, rows.values())) > 5
    quick = opened in (open_function, open_own)
    for batch, overlap in ((1, True), (3, True), (4, True), (3, False))[: 2 if quick else 4]:
        found = run(f"{batch}-{overlap}", batch=batch, overlap=overlap)
        if one_pass and batch > 1:
            for number, given in rows_of(found).items():
                np.testing.assert_allclose(given, rows[number], atol=0.01)
            continue
        for name in ("tracks.txt", "tracks.json", "tracks.csv"):
            assert (found / name).read_bytes() == (wanted / name).read_bytes(), (batch, overlap, name)
        assert rows_of(found) == rows


class Fails:
    """Raises in one stage at frame 12."""

    AT = 12

    def __init__(self, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.where, self.patch = where, monkeypatch

    def into(self, job: Job) -> Job:
        """The job with that stage broken; frames come faster than they are written, so that the queues are full."""
        where, at = self.where, self.AT
        self.patch.setattr(loop, "MOST_ITEMS", 4)

        def failing(function: Callable[..., Any], number_of: Callable[..., int]) -> Callable[..., Any]:
            def call(*given: Any, **named: Any) -> Any:
                if number_of(*given) == at:
                    raise RuntimeError(f"{where} broke")
                return function(*given, **named)

            return call

        write = Sinks._write

        def slowly(self: Sinks, done: Any) -> None:
            time.sleep(0.02)
            if where == "sink" and done.result.frame.number == at:
                raise RuntimeError("sink broke")
            write(self, done)

        self.patch.setattr(Sinks, "_write", slowly)
        if where == "decode":
            frames = job.source.frames

            def broken(*given: Any, **named: Any) -> Iterator[Frame]:
                for frame in frames(*given, **named):
                    if frame.number == at:
                        raise RuntimeError("decode broke")
                    yield frame

            job.source.frames = broken  # type: ignore[method-assign, assignment]
        elif where == "detector":
            job.detector = failing(job.detector, lambda frame: frame.number)  # type: ignore[arg-type]
        elif where == "tracker":
            job.tracker.step = failing(job.tracker.step, lambda frame, *_: frame.number)  # type: ignore[method-assign]
        elif where == "segmenter":

            class Segmenter:
                calls = 0

                def add_masks(self, tracked: sv.Detections, frame: np.ndarray) -> sv.Detections:
                    self.calls += 1
                    if self.calls == at:
                        raise RuntimeError("segmenter broke")
                    return tracked

            job.segmenter = Segmenter()  # type: ignore[assignment]
        elif where == "drawing":
            drawer = job.drawer

            def drawer_that_fails() -> Any:
                made, calls = drawer(), [0]
                draw = made.draw

                def fails(*given: Any) -> np.ndarray:
                    calls[0] += 1
                    if calls[0] == at:
                        raise RuntimeError("drawing broke")
                    return draw(*given)

                made.draw = fails  # type: ignore[method-assign]
                return made

            job.drawer = drawer_that_fails  # type: ignore[method-assign]
        return job


@pytest.mark.parametrize("batch", [pytest.param(1, marks=pytest.mark.slow), 3])
@pytest.mark.parametrize("where", ["decode", "detector", "tracker", "segmenter", "drawing", "sink"])
def test_a_fault_in_a_stage_ends_the_run(
    where: str, batch: int, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With full queues, without a deadlock: it is raised, and the frames before it are in whole files."""
    job = Fails(where, monkeypatch).into(a_job(tmp_path / "out", images, batch=batch))
    error = ends(lambda: track_video(job))
    assert isinstance(error, RuntimeError)
    assert str(error) == f"{where} broke"
    assert threads() == set()
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    # A frame that cannot be drawn or written is in some files already; they are whole all the same.
    kept = list(rows_of(tmp_path / "out"))
    assert kept == list(range(1, len(kept) + 1))
    assert len(kept) in ((11, 12) if where == "drawing" else (11,))
    lines = (tmp_path / "out" / "tracks.txt").read_text().splitlines()
    assert {int(line.split(",")[0]) for line in lines} <= set(kept)
    assert len(json.loads((tmp_path / "out" / "tracks.json").read_text())["images"]) == len(kept)
    assert [number_in(frame) for frame in read(tmp_path / "out" / "video.mp4")[1]] == list(range(1, 12))
    assert job.outcome is not None
    assert job.outcome.interrupted


_STOPPED = """
import sys, time
from pathlib import Path
from killed_runs import a_job
from masa_track.pipeline.loop import track_video
from masa_track.pipeline.sinks import Sinks
write = Sinks._write
def slowly(self, done):
    time.sleep(0.03)
    write(self, done)
    print(done.result.frame.number, flush=True)
Sinks._write = slowly
outcome = track_video(a_job(Path(sys.argv[1]), Path(sys.argv[2]), batch=2))
print("ended", outcome.frames, outcome.interrupted, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_with_full_queues_ends_the_run(number: signal.Signals, tmp_path: Path) -> None:
    """All frames that were tracked are written; none is lost, and no thread hangs."""
    pictures, out = made_images(tmp_path / "images", 400), tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-c", _STOPPED, str(out), str(pictures)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == "5":
            process.send_signal(number)
            break
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    last = said.splitlines()[-1].split()
    assert (last[0], last[2]) == ("ended", "True")
    assert 5 <= int(last[1]) < 60
    assert list(rows_of(out)) == list(range(1, int(last[1]) + 1))
    assert {path.name for path in out.iterdir()} == FILES
    assert len(read(out / "video.mp4")[1]) == int(last[1])


class Big:
    """A value of any size."""

    def __init__(self, number: int, size: int, alive: set[int]) -> None:
        self.number, self.size, self._alive = number, size, alive
        alive.add(number)

    def __del__(self) -> None:
        self._alive.discard(self.number)


@pytest.mark.parametrize("size", [25 * 2**20, 2**30])
def test_large_frames_wait_in_little_memory(size: int) -> None:
    """Pictures of 4K: as many as MOST_BYTES hold and one in work; one if it alone is larger. None is held on."""
    alive: set[int] = set()
    most = 0
    fits = max(1, queues.MOST_BYTES // size)
    ahead = Ahead((Big(n, size, alive) for n in range(40)), "test", lambda item: item.size, most_items=1000)
    numbers = []
    written: list[int] = []
    taken = threading.Event()

    def take(item: Big) -> None:
        taken.wait(SECONDS)
        written.append(item.number)

    behind = Behind(take, lambda: None, lambda item: item.size, most_items=1000)
    until = time.monotonic() + SECONDS
    while len(alive) < fits + 1 and time.monotonic() < until:
        time.sleep(0.005)
    time.sleep(0.05)
    assert len(alive) == fits + 1  # and one that was made, and waits
    for item in ahead:
        numbers.append(item.number)
        if len(numbers) == fits:  # more wait for the writer, which is slow, than fit
            taken.set()
        behind.put(item)
        del item
        most = max(most, len(alive))
    behind.close()
    assert numbers == written == list(range(40))
    assert most <= 2 * fits + 4
    assert alive == set()


def test_a_queue_ends_when_its_reader_leaves() -> None:
    """The iterator is closed in its thread, also while it waits for room."""
    closed = threading.Event()

    def endless() -> Iterator[int]:
        try:
            yield from range(10**9)
        finally:
            closed.set()

    ahead = Ahead(endless(), "test", lambda item: 1)
    assert next(ahead) == 0
    ahead.close()
    assert closed.is_set()
    assert threads() == set()


def test_a_writer_that_fails_says_so_once_and_takes_nothing_more() -> None:
    taken: list[int] = []

    def take(item: int) -> None:
        taken.append(item)
        if item == 3:
            raise ValueError("no 3")

    def fill() -> None:
        behind = Behind(take, lambda: None, lambda item: 1, most_items=2)
        try:
            for number in range(100):
                behind.put(number)
        finally:
            behind.close()

    error = ends(fill)
    assert str(error) == "no 3"
    assert taken == [0, 1, 2, 3]
    behind = Behind(take, lambda: None, lambda item: 1)
    behind.put(3)
    with pytest.raises(ValueError, match="no 3"):
        behind.close()


class Late:
    """A stage whose results come three frames late; it cannot use some frames."""

    look_ahead = 3

    def __init__(self, refuses: tuple[int, ...] = ()) -> None:
        self._held: list[FrameResult] = []
        self._refuses = refuses

    def step(self, result: FrameResult) -> list[FrameResult]:
        if result.frame.number in self._refuses:
            raise InputError(f"no {result.frame.number}")
        self._held.append(result)
        if len(self._held) <= self.look_ahead:
            return []
        first = self._held.pop(0)
        first.extras = {**first.extras, "seen": [first.frame.number, *(one.frame.number for one in self._held)]}
        return [first]

    def finish(self) -> list[FrameResult]:
        held, self._held = self._held, []
        return held


class Early:
    """A stage without delay that cannot use some frames, after one with delay."""

    look_ahead = 0

    def __init__(self, refuses: tuple[int, ...] = ()) -> None:
        self._refuses, self.seen = refuses, []  # type: ignore[var-annotated]

    def step(self, result: FrameResult) -> list[FrameResult]:
        if result.frame.number in self._refuses:
            raise InputError(f"no {result.frame.number}")
        self.seen.append(result.extras.get("seen"))
        return [result]

    def finish(self) -> list[FrameResult]:
        return []


@pytest.mark.parametrize("overlap", [True, False])
def test_results_that_come_late_are_all_there_in_order(images: Path, tmp_path: Path, overlap: bool) -> None:
    track_video(a_job(tmp_path / "plain", images, with_video=False))
    early = Early()
    outcome = track_video(a_job(tmp_path / "late", images, stages=[Late(), early], overlap=overlap, with_video=False))
    assert outcome.frames == COUNT
    assert rows_of(tmp_path / "late") == rows_of(tmp_path / "plain")
    for name in ("tracks.txt", "tracks.json", "tracks.csv"):
        assert (tmp_path / "late" / name).read_text() == (tmp_path / "plain" / name).read_text()
    assert early.seen == [[n, n + 1, n + 2, n + 3] for n in range(1, COUNT - 2)] + [None] * 3


@pytest.mark.parametrize("overlap", [True, False])
def test_a_late_result_that_a_later_stage_cannot_use_is_skipped_alone(
    images: Path, tmp_path: Path, overlap: bool
) -> None:
    """Not the frame that is tracked at that time; also among the results that are due at the end."""
    stages = [Late(refuses=(4,)), Early(refuses=(9, 29))]
    outcome = track_video(a_job(tmp_path / "out", images, stages=stages, overlap=overlap, with_video=False))
    assert (outcome.frames, outcome.broken) == (COUNT - 3, 3)
    assert list(rows_of(tmp_path / "out")) == [n for n in range(1, COUNT + 1) if n not in (4, 9, 29)]
    assert outcome.broken_listed == ["4: no 4", "9: no 9", "29: no 29"]


@pytest.mark.parametrize(
    ("sink", "lost"),
    [
        ("RecordSink", {"run.sqlite"}),
        ("TrackFilesSink", {"tracks.txt", "tracks.json", "tracks.csv"}),
        ("VideoSink", {"video.mp4"}),
        ("CountsSink", {"counts.csv"}),
    ],
)
def test_a_sink_that_cannot_be_closed_does_not_lose_the_others(
    sink: str, lost: set[str], images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = getattr(sinks, sink)
    close = kind.close

    def fails(self: Any) -> dict[Path, OSError | None]:
        return {path: OSError(28, "No space left on device", str(path)) for path in close(self)}

    monkeypatch.setattr(kind, "close", fails)
    counter = Counter([Line("a", ((0, 60), (230, 60)))], [], (230, 160))
    outcome = track_video(a_job(tmp_path / "out", images, counter=counter, max_frames=10))
    assert {path.name for path in outcome.files} == (FILES | {"counts.csv"}) - lost
    assert all(path.exists() for path in outcome.files)
    assert len(outcome.faults) == 1
    for name in lost:
        assert f"{name} (No space left on device)" in outcome.faults[0]
    if "tracks.json" not in lost:
        assert len(json.loads((tmp_path / "out" / "tracks.json").read_text())["images"]) == 10


def test_a_reader_that_leaves_does_not_end_the_run(images: Path, tmp_path: Path) -> None:
    """Of a named pipe; also over the parts of a run: it is said once."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with JsonLinesWriter(pipe) as lines:
        job = a_job(tmp_path / "out", images, lines=lines, with_video=False, rotate=0.25)
        find: Any = job.detector

        def detect(frame: Frame) -> sv.Detections:
            if frame.number == 4:
                os.close(reader)
            return find(frame)

        job.detector = detect
        outcome = track_video(job)
    assert outcome.frames == COUNT
    assert not outcome.interrupted
    assert len(outcome.faults) == 1
    assert "the reader of --jsonl" in outcome.faults[0]
