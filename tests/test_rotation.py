"""A run in parts: each is whole, what is counted goes on over them, and old ones are deleted."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import supervision as sv
from killed_runs import a_job, made_images, number_in
from test_resume import TEXTS, counter, killed
from test_soak import tool
from test_video_out import read

from masa_track.errors import InputError
from masa_track.formats.jsonl import JsonLinesWriter
from masa_track.pipeline import loop, rotation
from masa_track.pipeline.job import Job, Outcome
from masa_track.pipeline.loop import track_video
from masa_track.pipeline.recover import recover
from masa_track.pipeline.rotation import last_part, parts_of_run
from masa_track.pipeline.sinks import Sinks
from masa_track.runs import store as stores
from masa_track.runs.resume import resumed
from masa_track.runs.store import open_store

pytestmark = pytest.mark.slow  # together they take seconds

COUNT = 40
ROTATE = 0.31  # seconds of the source, which has 30 frames a second: 11 frames a part
PARTS = [list(range(1, 12)), list(range(12, 23)), list(range(23, 34)), list(range(34, 41))]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_images(tmp_path_factory.mktemp("pictures") / "images", COUNT)


@pytest.fixture(scope="module")
def whole(images: Path) -> Path:
    """A run in one part."""
    track_video(a_job(images.parent / "whole", images, counter=counter(), with_video=False))
    return images.parent / "whole"


@pytest.fixture(scope="module")
def rotated(images: Path) -> Path:
    """The same in parts."""
    folder = images.parent / "rotated"
    with JsonLinesWriter(folder.with_suffix(".jsonl")) as lines:
        job = a_job(folder, images, counter=counter(), lines=lines, rotate=ROTATE)
        outcome = track_video(job)
    assert (outcome.frames, outcome.interrupted, outcome.faults) == (COUNT, False, [])
    return folder


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "SNAPSHOT_SECONDS", 0.0)
    monkeypatch.setattr(stores, "COMMIT_SECONDS", 0.0)


def go_on(job: Job) -> Outcome:
    with open_store(last_part(job.folder)) as store:
        job.resumed = resumed(store)
    return track_video(job)


def text_of(folder: Path) -> list[str]:
    """The lines of tracks.txt over all parts."""
    return [line for part in parts_of_run(folder) for line in (part / "tracks.txt").read_text().splitlines()]


def frames_of(folder: Path) -> list[list[int]]:
    """The numbers of the frames in each part's record."""
    found = []
    for part in parts_of_run(folder):
        with open_store(part) as store:
            found.append([result.frame.number for result in store.results()])
    return found


def test_each_part_is_whole(rotated: Path) -> None:
    parts = parts_of_run(rotated)
    assert [part.name for part in parts] == [f"part-00000{n}" for n in range(1, 5)]
    assert sorted(path.name for path in rotated.iterdir()) == [part.name for part in parts]
    assert frames_of(rotated) == PARTS
    for part, numbers in zip(parts, PARTS, strict=True):
        names = {path.name for path in part.iterdir()} - {"lines.jsonl"}
        assert names == {"report.html", "run.sqlite", "video.mp4", "counts.csv", *TEXTS}
        assert [number_in(frame) for frame in read(part / "video.mp4")[1]] == numbers
        images = json.loads((part / "tracks.json").read_text())["images"]
        assert [image["frame_id"] + 1 for image in images] == numbers
        assert "line middle" in (part / "report.html").read_text()
        with open_store(part) as store:
            assert store.info.finished == "whole"


def test_identities_counts_and_lines_go_on_over_parts(rotated: Path, whole: Path) -> None:
    parts = parts_of_run(rotated)
    assert text_of(rotated) == (whole / "tracks.txt").read_text().splitlines()
    counts = [line for part in parts for line in (part / "counts.csv").read_text().splitlines()[1:]]
    assert counts == (whole / "counts.csv").read_text().splitlines()[1:]
    assert len(counts) > 2
    frames = []
    for part, numbers in zip(parts, PARTS, strict=True):
        path = part / "lines.jsonl" if part != parts[-1] else rotated.with_suffix(".jsonl")
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        assert {line["frame"] for line in lines} == set(numbers)
        frames += [line["frame"] for line in lines if "tracks" in line]
    assert frames == list(range(1, COUNT + 1))


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize(
    ("at", "states_to"),
    [pytest.param(18, None, marks=pytest.mark.slow), pytest.param(18, 14, marks=pytest.mark.slow), (12, None)],
    ids=["in-a-part", "from-an-earlier-state", "at-the-start-of-a-part"],
)
def test_a_run_goes_on_from_its_last_part(
    images: Path, whole: Path, tmp_path: Path, at: int, states_to: int | None
) -> None:
    """Also where that part has no frame yet."""
    out = killed(a_job(tmp_path / "out", images, counter=counter(), rotate=ROTATE), at, tmp_path / "killed")
    if states_to is not None:
        with open_store(last_part(out), write=True) as store:
            store._connection.execute("DELETE FROM snapshots WHERE number > ?", (states_to,))
    assert [len(numbers) for numbers in frames_of(out)] == [11, at - 12]
    outcome = go_on(a_job(out, images, counter=counter(), rotate=ROTATE))
    assert (outcome.frames, outcome.interrupted, outcome.faults) == (COUNT, False, [])
    assert text_of(out) == (whole / "tracks.txt").read_text().splitlines()
    assert [number for numbers in frames_of(out) for number in numbers] == list(range(1, COUNT + 1))
    shown = [number_in(frame) for part in parts_of_run(out) for frame in read(part / "video.mp4")[1]]
    assert shown == list(range(1, COUNT + 1))


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize(
    "moment",
    ["made", pytest.param("closed", marks=pytest.mark.slow), pytest.param("with-state", marks=pytest.mark.slow)],
)
def test_a_kill_between_two_parts(
    moment: str, images: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the files of one are in their places, before the next has the state of the tracker, and after that."""
    out, copy = tmp_path / "out", tmp_path / "killed"

    def kill() -> None:
        shutil.copytree(out, copy)
        raise KeyboardInterrupt

    take, part_of = Sinks.take, rotation.PartSinks._part
    parts = [0]

    def taking(self: Sinks, item: Any) -> None:
        new = isinstance(item, rotation.Snapshot) and item.ends_part and not self.store.count()
        if new and moment == "made":
            kill()
        take(self, item)
        if new and moment == "with-state":
            kill()

    def next_part(self: Any, job: Job) -> Job:
        parts[0] += 1
        if parts[0] == 2 and moment == "closed":
            kill()
        return part_of(self, job)

    monkeypatch.setattr(Sinks, "take", taking)
    monkeypatch.setattr(rotation.PartSinks, "_part", next_part)
    with pytest.raises(KeyboardInterrupt):
        track_video(a_job(out, images, rotate=ROTATE, overlap=False, with_video=False))
    monkeypatch.undo()
    assert len(parts_of_run(copy)) == (1 if moment == "closed" else 2)
    assert go_on(a_job(copy, images, rotate=ROTATE, with_video=False)).frames == COUNT
    assert text_of(copy) == (whole / "tracks.txt").read_text().splitlines()


@pytest.mark.slow
def test_another_run_begins_another_part(images: Path, tmp_path: Path) -> None:
    for _ in range(2):
        track_video(a_job(tmp_path / "out", images, rotate=ROTATE, max_frames=15, with_video=False))
    assert frames_of(tmp_path / "out") == [PARTS[0], PARTS[1][:4], PARTS[0], PARTS[1][:4]]


@pytest.mark.slow
def test_a_part_is_recovered(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "COMMIT_SECONDS", 0.0)
    out = killed(a_job(tmp_path / "out", images, rotate=ROTATE, with_video=False), 18, tmp_path / "killed")
    assert recover(last_part(out)).frames == 6
    assert len({line.split(",")[0] for line in text_of(out)}) == 17


def test_old_parts_are_deleted_and_nothing_else(tmp_path: Path) -> None:
    old = time.time() - 1000
    for number in (1, 2, 3, 4):
        part = tmp_path / f"part-{number:06d}"
        part.mkdir()
        (part / "run.sqlite").write_text("x")
        (part / "video.mp4").write_text("x")
    for name in ("part-000002", "part-000001", "part-000004"):
        os.utime(tmp_path / name / "run.sqlite", (old, old))
    (tmp_path / "part-000009").mkdir()  # without a record
    for name in ("part-1", "part-000001-copy", "party"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.sqlite").write_text("x")
        os.utime(tmp_path / name / "run.sqlite", (old, old))
    (tmp_path / "part-000007").write_text("a file")
    rotation._delete_old(tmp_path, None, tmp_path / "part-000004")
    assert len(parts_of_run(tmp_path)) == 4
    rotation._delete_old(tmp_path, 2000, tmp_path / "part-000004")
    assert len(parts_of_run(tmp_path)) == 4
    rotation._delete_old(tmp_path, 500, tmp_path / "part-000004")
    assert {path.name for path in tmp_path.iterdir()} == {
        "part-000003",  # younger
        "part-000004",  # in work
        "part-000007",
        "part-000009",
        "part-1",
        "part-000001-copy",
        "party",
    }


@pytest.mark.slow
def test_parts_are_deleted_while_the_run_goes_on(images: Path, tmp_path: Path) -> None:
    outcome = track_video(a_job(tmp_path / "out", images, rotate=ROTATE, keep=0.0, with_video=False))
    assert outcome.frames == COUNT
    assert frames_of(tmp_path / "out") == PARTS[3:]


@pytest.mark.parametrize("overlap", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_part_that_cannot_be_made_ends_the_run(images: Path, tmp_path: Path, overlap: bool) -> None:
    """With one clear line; the parts before are whole, and the run can go on."""
    out = tmp_path / "out"
    job = a_job(out, images, rotate=ROTATE, with_video=False, overlap=overlap)
    (out / "part-000003").write_text("in the way")
    outcome = track_video(job)
    assert (outcome.frames, outcome.interrupted) == (22, True)
    assert len(outcome.faults) == 1
    assert "stopped at frame 22" in outcome.faults[0]
    assert "part-000003 cannot be written" in outcome.faults[0]
    assert frames_of(out) == PARTS[:2]
    assert (out / "part-000002" / "tracks.txt").exists()
    (out / "part-000003").unlink()
    assert go_on(a_job(out, images, rotate=ROTATE, with_video=False)).frames == COUNT


def test_a_part_whose_files_cannot_be_written_ends_the_run(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    close = stores.RunStore.close

    def fails(self: stores.RunStore) -> None:
        close(self)
        if self.path.parent.name == "part-000002":
            raise OSError(28, "No space left on device", str(self.path))

    monkeypatch.setattr(stores.RunStore, "close", fails)
    outcome = track_video(a_job(tmp_path / "out", images, rotate=ROTATE, with_video=False))
    assert (outcome.frames, outcome.interrupted) == (22, True)
    assert len(outcome.faults) == 1
    assert "not written: run.sqlite (No space left on device)" in outcome.faults[0]
    assert len(parts_of_run(tmp_path / "out")) == 2


@pytest.mark.slow
def test_a_damaged_part_is_named(images: Path, tmp_path: Path) -> None:
    track_video(a_job(tmp_path / "out", images, rotate=ROTATE, max_frames=15, with_video=False))
    (tmp_path / "out" / "part-000002" / "run.sqlite").write_text("notes")
    with pytest.raises(InputError, match=r"part-000002/run\.sqlite is not the record of a run"):
        last_part(tmp_path / "out")


@pytest.mark.parametrize(
    "frames",
    [pytest.param(5000, marks=pytest.mark.slow), pytest.param(20_000, marks=[pytest.mark.slow, pytest.mark.huge])],
)
def test_memory_and_files_stay_flat(frames: int, tmp_path: Path) -> None:
    """A run with threads, a record and parts, of which the old ones are deleted; tools/soak.py runs it for longer."""
    rows = tool().soak_parts(frames, 6, 38, out=tmp_path / "out", rotate=8.0, keep=2.0, say=lambda row: None)
    assert [row.frames for row in rows] == list(range(frames // 10, frames + 1, frames // 10))
    settled = rows[2:]
    assert max(row.objects for row in settled) - settled[0].objects < 5000  # some are of frames on their way
    assert settled[-1].megabytes - settled[0].megabytes < 8
    assert rows[-1].identities > frames / 12
    assert max(row.parts for row in settled) < frames / 200 / 2  # of as many that there were
    assert max(row.disk_megabytes for row in settled) < 15


def test_each_part_has_pictures_of_its_tracks(rotated: Path) -> None:
    for part in parts_of_run(rotated):
        with open_store(part) as store:
            pictures = list(store.thumbnails())
        assert pictures
        for _, score, jpeg in pictures:
            assert score > 0
            assert cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).ndim == 3


@pytest.mark.slow
def test_frames_without_boxes_end_parts_too(images: Path, tmp_path: Path) -> None:
    job = a_job(tmp_path / "out", images, rotate=ROTATE, with_video=False)
    job.detector = lambda frame: sv.Detections.empty()
    assert track_video(job).frames == COUNT
    assert frames_of(tmp_path / "out") == PARTS
