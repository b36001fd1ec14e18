"""Going on with a run that was stopped or killed: the same results as those of a run that was not."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from killed_runs import Colours, a_job, boxes_at, made_images, number_in, rows_of
from test_video_out import read

from masa_track import __version__
from masa_track.cli.main import main
from masa_track.detectors.motion import MotionDetector
from masa_track.errors import InputError
from masa_track.files import locked_folder
from masa_track.formats.jsonl import JsonLinesWriter
from masa_track.pipeline import loop
from masa_track.pipeline.counting import Counter, Line, Zone
from masa_track.pipeline.job import Job, Outcome
from masa_track.pipeline.loop import track_video
from masa_track.pipeline.recover import recover
from masa_track.runs import store as stores
from masa_track.runs.resume import check_folder, check_same, resumed
from masa_track.runs.store import RunInfo, create_store, open_store
from masa_track.tracker import MasaTracker
from masa_track.video.parts import parts_of
from masa_track.video.sources import open_source

COUNT = 45
TEXTS = ("tracks.txt", "tracks.json", "tracks.csv")
INFO = RunInfo(
    "/videos/street.mp4",
    "street",
    (640, 480),
    25.0,
    {0: "car"},
    recipe={"model": "nano", "options": {"memory_seconds": 10}, "detector": "motion", "classes": None},
    model_key="nano@3f2c9a01b7de/float32",
    inputs={"SOURCE": [1000.0, 7.0], "--detections": [10.0, 7.0]},
    version=__version__,
)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_images(tmp_path_factory.mktemp("pictures") / "images", COUNT)


@pytest.fixture(scope="module")
def whole(images: Path) -> Path:
    """A run that was not interrupted."""
    track_video(a_job(images.parent / "whole", images))
    return images.parent / "whole"


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames are on the disk at once; the state of the tracker is kept after each frame."""
    monkeypatch.setattr(loop, "SNAPSHOT_SECONDS", 0.0)
    monkeypatch.setattr(stores, "COMMIT_SECONDS", 0.0)


def killed(job: Job, at: int, copy: Path, states_to: int | None = None) -> Path:
    """What a kill at frame ``at`` leaves of a run: its folder as it is then, all in one thread.

    With ``states_to`` the states of the tracker after that frame are lost, as if they had been kept more seldom.
    """
    detect: Any = job.detector
    find: Callable[..., Any] = detect.detect if hasattr(detect, "detect") else detect

    def until(given: Any, *more: Any) -> Any:
        until.calls += 1  # type: ignore[attr-defined]
        if until.calls == at:  # type: ignore[attr-defined]
            shutil.copytree(job.folder, copy)
            raise KeyboardInterrupt
        return find(given, *more)

    until.calls = 0  # type: ignore[attr-defined]
    if hasattr(detect, "detect"):
        detect.detect = until
    else:
        job.detector = until
    job.overlap = False
    with pytest.raises(KeyboardInterrupt):
        track_video(job)
    if hasattr(detect, "detect"):
        del detect.detect
    if states_to is not None:
        with open_store(copy, write=True) as store:
            store._connection.execute("DELETE FROM snapshots WHERE number > ?", (states_to,))
    return copy


def go_on(job: Job) -> Outcome:
    with open_store(job.folder) as store:
        job.resumed = resumed(store)
    return track_video(job)


def same(folder: Path, whole: Path, names: tuple[str, ...] = TEXTS) -> None:
    for name in names:
        assert (folder / name).read_text() == (whole / name).read_text(), name


def test_a_folder_with_a_run_that_was_killed_is_not_overwritten(tmp_path: Path) -> None:
    assert check_folder(tmp_path / "new", resume=False) is None
    with create_store(tmp_path / "run.sqlite", INFO) as store:
        store.commit()
        assert check_folder(tmp_path, resume=False) == INFO  # without a frame, nothing is lost
        store._connection.execute("INSERT INTO frames VALUES (1, 0, '', x'')")
    with pytest.raises(InputError, match=r"a run of 1 frames that did not end normally: continue it with --resume, ma"):
        check_folder(tmp_path, resume=False)
    assert check_folder(tmp_path, resume=True) == INFO
    with open_store(tmp_path, write=True) as store:
        store.finish("stopped")
    assert check_folder(tmp_path, resume=False) == replace(INFO, finished="stopped")


def test_a_file_that_is_no_record_is_replaced_but_not_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / "run.sqlite").write_text("notes")
    assert check_folder(tmp_path, resume=False) is None
    with pytest.raises(InputError, match=r"run\.sqlite is not the record of a run"):
        check_folder(tmp_path, resume=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": "/videos/yard.mp4"}, "SOURCE was '/videos/street.mp4', is '/videos/yard.mp4'"),
        ({"first": 9}, "--start was 1, is 9"),
        ({"stride": 2}, "--stride was 1, is 2"),
        ({"offline": True}, "--offline was False, is True"),
        ({"post": ("giants",)}, r"--post was \[\], is \['giants'\]"),
        ({"recipe": {**INFO.recipe, "detector": "own"}}, "--detector was 'motion', is 'own'"),
        ({"recipe": {**INFO.recipe, "classes": ("car",)}}, r"--classes was None, is \['car'\]"),
        ({"recipe": {**INFO.recipe, "min_score": 0.5}}, "--min-score was None, is 0.5"),
        ({"recipe": {**INFO.recipe, "options": {}}}, r"--options was {'memory_seconds': 10}, is {}"),
        ({"model_key": "nano@000000000000/float16"}, "the model was nano@3f2c9a01b7de/float32, is nano@000000000000/"),
        ({"size": (320, 240)}, r"the frames had \(640, 480\) pixels, have \(320, 240\)"),
        (
            {"inputs": {"SOURCE": [999.0, 7.0], "--detections": [10.0, 7.0]}},
            r"file of SOURCE has changed since the run began \(1,000 bytes then, 999 now\)",
        ),
        (
            {"inputs": {"SOURCE": [1000.0, 7.0], "--detections": [10.0, 8.0]}},
            "file of --detections has changed since the run began",
        ),
        (
            {"version": "0.0.1"},
            f"made by masa-track {__version__}, this is 0.0.1: its state may differ",
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_another_run_is_not_gone_on_with(change: dict[str, Any], message: str) -> None:
    check_same(INFO, replace(INFO, started=99.0, facts={"device": "cuda"}, finished="whole"))
    with pytest.raises(InputError, match=message):
        check_same(INFO, replace(INFO, **change))


def test_all_that_differs_is_named_at_once() -> None:
    with pytest.raises(InputError, match=r"--stride was 1, is 3; --detector was 'motion', is 'own'$"):
        check_same(INFO, replace(INFO, stride=3, recipe={**INFO.recipe, "detector": "own"}))


@pytest.mark.parametrize("overlap", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_after_ctrl_c(images: Path, whole: Path, tmp_path: Path, overlap: bool) -> None:
    """No state is lost: the run goes on with the frame after the last, and the results are those of one run."""
    first = a_job(tmp_path / "out", images, overlap=overlap, with_video=False)
    find: Any = first.detector
    first.detector = lambda frame: (signal.raise_signal(signal.SIGINT) if frame.number == 20 else None) or find(frame)
    stopped = track_video(first)
    assert stopped.interrupted
    assert 1 <= stopped.frames < COUNT
    with open_store(tmp_path / "out") as store:
        assert (store.info.finished, store.last_number()) == ("stopped", stopped.frames)
    asked: list[int] = []
    second = a_job(tmp_path / "out", images, overlap=overlap, with_video=False)
    find = second.detector
    second.detector = lambda frame: asked.append(frame.number) or find(frame)
    outcome = go_on(second)
    assert asked[0] == stopped.frames + 1
    assert (outcome.frames, outcome.boxes) == (COUNT, sum(len(boxes_at(n)) for n in range(1, COUNT + 1)))
    assert not outcome.interrupted
    assert outcome.seconds > stopped.seconds
    same(tmp_path / "out", whole)
    assert rows_of(tmp_path / "out") == rows_of(whole)


@pytest.mark.usefixtures("often")
@pytest.mark.slow
@pytest.mark.parametrize(("at", "states_to"), [(1, None), (2, 0), (31, None), (31, 20), (31, 0)])
def test_after_a_kill(images: Path, whole: Path, tmp_path: Path, at: int, states_to: int | None) -> None:
    """At the first frame, before the first state, between states; with the video."""
    out = killed(a_job(tmp_path / "out", images), at, tmp_path / "killed", states_to)
    assert len(rows_of(out)) == at - 1
    asked: list[int] = []
    job = a_job(out, images)
    find: Any = job.detector
    job.detector = lambda frame: asked.append(frame.number) or find(frame)
    outcome = go_on(job)
    assert (outcome.frames, outcome.identities) == (
        COUNT,
        len({row[0] for r in rows_of(out).values() for row in r if row[0] > 0}),
    )
    same(out, whole)
    _, frames, times = read(out / "video.mp4")
    assert [number_in(frame) for frame in frames] == list(range(1, COUNT + 1))
    assert times == pytest.approx([n / 30 for n in range(COUNT)], abs=1e-3)
    assert parts_of(out) == []
    assert {path.name for path in out.iterdir()} == {"report.html", "run.sqlite", "video.mp4", *TEXTS}


def test_a_finished_run_has_nothing_left(images: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    job = a_job(out, images)
    job.detector = lambda frame: pytest.fail(f"frame {frame.number} is tracked again")
    outcome = go_on(job)
    assert (outcome.frames, outcome.interrupted, outcome.faults) == (COUNT, False, [])
    same(out, whole)
    assert [number_in(frame) for frame in read(out / "video.mp4")[1]] == list(range(1, COUNT + 1))
    with open_store(out) as store:
        assert store.info.finished == "whole"


@pytest.mark.parametrize("stride", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_more_frames_are_asked_for(images: Path, tmp_path: Path, stride: int) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    track_video(a_job(whole, images, with_video=False, stride=stride, max_frames=14))
    track_video(a_job(out, images, with_video=False, stride=stride, max_frames=8))
    outcome = go_on(a_job(out, images, with_video=False, stride=stride, max_frames=14))
    assert outcome.frames == 14
    assert list(rows_of(out)) == [1 + stride * n for n in range(14)]
    same(out, whole)
    assert go_on(a_job(out, images, with_video=False, stride=stride, max_frames=14)).frames == 14
    assert go_on(a_job(out, images, with_video=False, stride=stride, max_frames=3)).frames == 14
    same(out, whole)


@pytest.mark.slow
def test_up_to_the_last_frame_that_was_asked_for(images: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    track_video(a_job(whole, images, start=11, stop=40))
    track_video(a_job(out, images, start=11, stop=40, max_frames=12))
    assert go_on(a_job(out, images, start=11, stop=40)).frames == 30
    assert list(rows_of(out)) == list(range(11, 41))
    same(out, whole)
    assert go_on(a_job(out, images, start=11, stop=40)).frames == 30
    assert [number_in(frame) for frame in read(out / "video.mp4")[1]] == list(range(11, 41))


@pytest.mark.usefixtures("often")
@pytest.mark.slow
def test_finished_tracks(images: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    track_video(a_job(whole, images, offline=True))
    out = killed(a_job(tmp_path / "out", images, offline=True), 30, tmp_path / "killed", 20)
    shutil.copytree(out, tmp_path / "recovered")
    outcome = go_on(a_job(out, images, offline=True))
    assert outcome.frames == COUNT
    same(out, whole, (*TEXTS, "online.json"))
    assert len(read(out / "video.mp4")[1]) == COUNT

    outcome = recover(tmp_path / "recovered")
    assert outcome.frames == 29
    assert outcome.interrupted
    track_video(a_job(tmp_path / "short", images, offline=True, max_frames=29))
    same(tmp_path / "recovered", tmp_path / "short", (*TEXTS, "online.json"))


def scene(folder: Path, count: int) -> Path:
    """A textured patch that walks over a textured background."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    background = cv2.resize(rng.integers(0, 255, (12, 16, 3)).astype(np.uint8), (160, 120))
    patch = rng.integers(0, 255, (30, 20, 3)).astype(np.uint8)
    for number in range(1, count + 1):
        picture = background.copy()
        picture[40:70, 2 * number : 2 * number + 20] = patch
        cv2.imwrite(str(folder / f"{number:04d}.png"), picture)
    return folder


@pytest.mark.usefixtures("often")
@pytest.mark.slow
def test_a_detector_with_a_memory_is_shown_what_it_remembers(tmp_path: Path) -> None:
    """The frames before are shown to background subtraction again, so that its boxes are the same."""
    pictures = scene(tmp_path / "scene", 50)

    def job(folder: Path) -> Job:
        folder.mkdir(exist_ok=True)
        source = open_source(pictures)
        return Job(source, MotionDetector(), {0: "moving"}, MasaTracker(Colours()), folder, with_video=False)

    track_video(job(tmp_path / "whole"))
    assert len((tmp_path / "whole" / "tracks.txt").read_text().splitlines()) > 30
    out = killed(job(tmp_path / "out"), 31, tmp_path / "killed", 25)
    assert go_on(job(out)).frames == 50
    same(out, tmp_path / "whole")


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("cut", [0, 25])
@pytest.mark.slow
def test_lines_are_not_written_twice(images: Path, tmp_path: Path, cut: int) -> None:
    """Of tracks and of events; the line in work when the run was killed may be cut."""

    def lines_of(path: Path) -> list[dict[str, Any]]:
        return [json.loads(line) for line in path.read_text().splitlines()]

    whole, part = tmp_path / "whole.jsonl", tmp_path / "part.jsonl"
    with JsonLinesWriter(whole) as lines:
        track_video(a_job(tmp_path / "whole", images, lines=lines, with_video=False))
    with JsonLinesWriter(part) as lines:
        job = a_job(tmp_path / "out", images, lines=lines, with_video=False)
        out = killed(job, 30, tmp_path / "killed", 20)
    if cut:
        part.write_bytes(part.read_bytes()[:-cut])
    with JsonLinesWriter(part, append=True) as lines:
        go_on(a_job(out, images, lines=lines, with_video=False))
    assert any(line.get("event") == "born" for line in lines_of(whole))
    assert lines_of(part) == lines_of(whole)


def counter() -> Counter:
    return Counter(
        [Line("middle", ((0, 55), (230, 55)))], [Zone("left", ((0, 0), (110, 0), (110, 160), (0, 160)))], (230, 160)
    )


@pytest.mark.usefixtures("often")
@pytest.mark.slow
def test_counts_go_on(images: Path, tmp_path: Path) -> None:
    whole = a_job(tmp_path / "whole", images, counter=counter(), with_video=False)
    track_video(whole)
    assert whole.counter is not None
    before = a_job(tmp_path / "out", images, counter=counter(), with_video=False)
    out = killed(before, 36, tmp_path / "killed", 20)
    shutil.copytree(out, tmp_path / "recovered")
    job = a_job(out, images, counter=counter(), with_video=False)
    go_on(job)
    assert job.counter is not None
    assert job.counter.state_dict() == whole.counter.state_dict()
    assert (tmp_path / "whole" / "counts.csv").read_text().count("entered") >= 2
    same(out, tmp_path / "whole", (*TEXTS, "counts.csv"))

    recover(tmp_path / "recovered")
    track_video(a_job(tmp_path / "short", images, counter=counter(), max_frames=35, with_video=False))
    same(tmp_path / "recovered", tmp_path / "short", (*TEXTS, "counts.csv"))


@pytest.mark.usefixtures("often")
def test_broken_frames_are_counted_once(tmp_path: Path) -> None:
    """Those that are read again are not counted again, also at the end of the source."""
    pictures = made_images(tmp_path / "images", 12)
    for number in (3, 6, 12):
        (pictures / f"{number:06d}.png").write_bytes(b"no picture")
    whole = track_video(a_job(tmp_path / "whole", pictures, with_video=False))
    assert (whole.frames, whole.broken) == (9, 3)
    out = killed(a_job(tmp_path / "out", pictures, with_video=False), 7, tmp_path / "killed", 5)
    for _ in range(2):
        outcome = go_on(a_job(out, pictures, with_video=False))
        assert (outcome.frames, outcome.broken) == (9, 3)
        assert [text.split(":")[0] for text in outcome.broken_listed] == ["3", "6", "12"]
    same(out, tmp_path / "whole")


@pytest.mark.usefixtures("often")
@pytest.mark.slow
def test_a_kill_is_recovered(images: Path, whole: Path, tmp_path: Path) -> None:
    """All files of the frames so far; then a new run may replace them, or go on."""
    out = killed(a_job(tmp_path / "out", images), 31, tmp_path / "killed")
    outcome = recover(out)
    assert (outcome.frames, outcome.interrupted, outcome.faults) == (30, True, [])
    assert {path.name for path in outcome.files} == {"report.html", "run.sqlite", *TEXTS} | (
        {"video.mp4"} if (out / "video.mp4").exists() else set()
    )
    track_video(a_job(tmp_path / "short", images, max_frames=30))
    same(out, tmp_path / "short")
    assert check_folder(out, resume=False) is not None
    with open_store(out) as store:  # of frames that the video lacks, there may be states
        assert resumed(store).last <= len(read(out / "video.mp4")[1] if (out / "video.mp4").exists() else [])
    go_on(a_job(out, images))
    same(out, whole)
    assert [number_in(frame) for frame in read(out / "video.mp4")[1]] == list(range(1, COUNT + 1))


def test_nothing_to_recover(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no run\.sqlite"):
        recover(tmp_path)
    create_store(tmp_path / "run.sqlite", INFO).close()
    with pytest.raises(InputError, match=r"run\.sqlite has no frame: there is nothing to make files of"):
        recover(tmp_path)


class OnlySteps:
    """Gives identities, but its state cannot be kept."""

    look_ahead = 0

    def __init__(self) -> None:
        self._tracker = MasaTracker(Colours())
        self.step, self.finish, self.reset = self._tracker.step, self._tracker.finish, self._tracker.reset


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tracker": MasaTracker(Colours(), memory_seconds=3.0)}, "memory_seconds"),
        ({"tracker": MasaTracker(Colours(), "tao")}, "state"),
        ({"tracker": OnlySteps()}, "--resume needs a tracker whose state can be kept: OnlySteps has none"),
        ({"counter": None}, "--resume needs the lines and zones of the run .* it had, this one has none"),
        (
            {"counter": Counter([Line("other", ((0, 5), (230, 5)))], [], (230, 160))},
            "other counting lines or zones: give the same --line and --zone again",
        ),
    ],
)
def test_what_cannot_be_restored_is_refused(
    images: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    """Before any file is touched: the run can be gone on with afterwards."""
    out = tmp_path / "out"
    track_video(a_job(out, images, counter=counter(), max_frames=4))
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(InputError, match=message):
        go_on(a_job(out, images, **{"counter": counter(), **options}))
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.slow
def test_a_run_that_cannot_begin_keeps_the_video(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was renamed, as the first part of the one to come."""
    out = tmp_path / "out"
    track_video(a_job(out, images, max_frames=20))
    video = (out / "video.mp4").read_bytes()

    def fails(*_: object) -> None:
        raise InputError("no")

    monkeypatch.setattr("masa_track.pipeline.sinks.read_record", fails)
    with pytest.raises(InputError, match=r"^no$"):
        go_on(a_job(out, images))
    assert (out / "video.mp4").read_bytes() == video
    assert {path.name for path in out.iterdir()} == {"report.html", "run.sqlite", "video.mp4", *TEXTS}
    monkeypatch.undo()
    assert go_on(a_job(out, images)).frames == COUNT


@pytest.mark.slow
def test_two_runs_into_one_folder(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    out.mkdir()
    arguments = ["track", str(images), "--detector", "motion", "--out", str(out)]
    with locked_folder(out):
        assert main(arguments) == 2
        assert "is in use by another run (process " in capsys.readouterr().err
    track_video(a_job(out, images, max_frames=2))
    with locked_folder(out):
        assert main(["recover", str(out)]) == 2
        assert "is in use by another run (process " in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_is_killed_and_goes_on(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures, out, whole = scene(tmp_path / "scene", 70), tmp_path / "out", tmp_path / "whole"
    arguments = ["track", str(pictures), "--detector", "motion", "--out"]
    assert main([*arguments, str(whole)]) == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "masa_track", *arguments, str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < until:
            if (out / "run.sqlite").exists() and len(rows_of(out)) >= 5:
                break
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait(60)
    kept = len(rows_of(out))
    assert kept >= 5
    if kept < 70:  # it may have been faster
        assert main([*arguments, str(out)]) == 2
        assert "did not end normally: continue it with --resume" in capsys.readouterr().err
    assert main(["recover", str(out)]) == 0
    text = (whole / "tracks.txt").read_text()
    assert text.startswith((out / "tracks.txt").read_text())
    assert f"{kept} frames" in capsys.readouterr().out
    assert main([*arguments, str(out), "--resume", "--stride", "2"]) == 2
    assert "--stride was 1, is 2" in capsys.readouterr().err
    assert main([*arguments, str(out), "--resume", "--rotate", "1h"]) == 2
    assert "was made without --rotate: go on with it in the same way" in capsys.readouterr().err
    assert main([*arguments, str(out), "--resume"]) == 0
    same(out, whole)
    assert len(read(out / "video.mp4")[1]) == 70


@pytest.mark.slow
def test_random_kills(tmp_path: Path) -> None:
    """SIGKILL, SIGTERM, SIGHUP and exceptions at random moments; 100 of them before a release."""
    script = Path(__file__).with_name("killed_runs.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "runs"), "12", str(int(time.time()))],
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "12 runs; the longest time that a kill lost is" in done.stdout
