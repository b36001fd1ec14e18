"""Results: they overwrite nothing that is read, survive full disks and signals, and keep other runs out."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import supervision as sv

import masa_track
from masa_track.cli.main import main
from masa_track.errors import InputError
from masa_track.files import LOCK_NAME, PartFile, check_file, check_overwriting, locked_folder
from masa_track.formats.jsonl import JsonLinesWriter
from masa_track.pipeline.loop import Job, Outcome, track_video
from masa_track.runs.store import open_store
from masa_track.tracker import MasaTracker
from masa_track.video.sources import open_source
from masa_track.video.writer import VideoWriter

RESULTS = {"report.html", "run.sqlite", "tracks.csv", "tracks.json", "tracks.txt", "video.mp4"}
SIZE = 64


def made_images(folder: Path, frames: int = 8, size: int = SIZE) -> Path:
    """Pictures of noise, so that their video is large."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for number in range(1, frames + 1):
        cv2.imwrite(str(folder / f"{number:06d}.png"), rng.integers(0, 255, (size, size, 3), np.uint8))
    return folder


class Plain:
    """A model whose embeddings are those of the boxes' order."""

    def embed(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        return np.eye(8, dtype=np.float32)[: len(boxes)]


def job(images: Path, out: Path, **options: object) -> Job:
    def detect(frame: object) -> sv.Detections:
        boxes = np.array([[4.0, 4, 24, 24], [34, 34, 60, 60]])
        return sv.Detections(xyxy=boxes, confidence=np.full(2, 0.9), class_id=np.zeros(2, int))

    out.mkdir(exist_ok=True)
    return Job(open_source(images), detect, {0: "thing"}, MasaTracker(Plain()), out, **options)  # type: ignore[arg-type]


def frames_in(out: Path) -> dict[str, int]:
    """How many frames each result holds."""
    found = {}
    if (out / "tracks.txt").exists():
        found["tracks.txt"] = len(set(np.loadtxt(out / "tracks.txt", delimiter=",", ndmin=2)[:, 0]))
    if (out / "tracks.json").exists():
        content = json.loads((out / "tracks.json").read_text())
        assert len(content["annotations"]) == 2 * len(content["images"])
        found["tracks.json"] = len(content["images"])
    if (out / "tracks.csv").exists():
        found["tracks.csv"] = (len((out / "tracks.csv").read_text().splitlines()) - 1) // 2
    if (out / "video.mp4").exists():
        with av.open(str(out / "video.mp4")) as container:
            found["video.mp4"] = sum(1 for _ in container.decode(video=0))
    return found


# ---------------------------------------------------------------------------------------------------------------------
# Nothing that is read is overwritten


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what `track` reads, under the names of its results, and the current folder."""
    monkeypatch.chdir(tmp_path)
    made_images(tmp_path / "images", 2)
    with VideoWriter("video.mp4", SIZE, SIZE, 10) as writer:
        writer.write(np.zeros((SIZE, SIZE, 3), np.uint8))
    Path("tracks.txt").write_text("1,-1,5,5,20,20,0.9\n")
    Path("filmed/gt").mkdir(parents=True)
    Path("filmed/video.mp4").write_bytes(Path("video.mp4").read_bytes())
    Path("sequence").mkdir()
    made_images(tmp_path / "sequence/img1", 2)
    Path("sequence/seqinfo.ini").write_text("[Sequence]\n")
    for name in ("w.npz", "weights.pth", "weights.prior.json", "det.txt"):
        Path(name).write_text("1,-1,5,5,20,20,0.9\n")
    Path("prior.json").write_bytes((Path(masa_track.__file__).parent / "models/weights/nano.prior.json").read_bytes())
    Path("hard.txt").hardlink_to("det.txt")
    Path("soft.txt").symlink_to("det.txt")
    Path("folder").mkdir()
    return tmp_path


OVERWRITING = {
    "source": (["video.mp4", "--detector", "motion", "--out", "."], "--out would overwrite SOURCE"),
    "without a video": (["video.mp4", "--no-video", "--out", "."], "--out would overwrite SOURCE"),
    "detections": (["images", "--detections", "tracks.txt", "--out", "."], "--out would overwrite --detections"),
    "source by jsonl": (["video.mp4", "--jsonl", "video.mp4", "--out", "o"], "--jsonl would overwrite SOURCE"),
    "image": (["images", "--jsonl", "images/000002.png", "--out", "o"], "--jsonl would overwrite SOURCE"),
    "of a glob": (["images/*.png", "--jsonl", "images/000002.png", "--out", "o"], "--jsonl would overwrite SOURCE"),
    "same file": (["images", "--detections", "det.txt", "--jsonl", "det.txt", "--out", "o"], "overwrite --detections"),
    "dots": (["images", "--detections", "det.txt", "--jsonl", "folder/../det.txt", "--out", "o"], "same file as det"),
    "hard link": (["images", "--detections", "det.txt", "--jsonl", "hard.txt", "--out", "o"], "same file as det.txt"),
    "symlink": (["images", "--detections", "det.txt", "--jsonl", "soft.txt", "--out", "o"], "same file as det.txt"),
    "two outputs": (["images", "--out", "o", "--jsonl", "o/tracks.txt"], "--jsonl and --out would both write"),
    "two by dots": (["images", "--out", "folder", "--jsonl", "folder/../folder/tracks.txt"], "would both write"),
    "a part": (["images", "--out", "o", "--jsonl", "o/.tracks.txt.part"], "would both write"),
    "checkpoint": (["images", "--checkpoint", "weights.pth", "--jsonl", "weights.pth", "--out", "o"], "--checkpoint"),
    "model": (["images", "--model", "weights.pth", "--jsonl", "weights.pth", "--out", "o"], "would overwrite --model"),
    "prior": (["images", "--prior", "prior.json", "--jsonl", "prior.json", "--out", "o"], "would overwrite --prior"),
    "prior of the weights": (
        ["images", "--model", "weights.pth", "--jsonl", "weights.prior.json", "--out", "o"],
        "would overwrite --model",
    ),
    "video of a folder": (["filmed", "--out", "filmed"], "--out would overwrite SOURCE"),
    "seqinfo": (["sequence/img1", "--jsonl", "sequence/seqinfo.ini", "--out", "o"], "would overwrite SOURCE"),
    "masks": (["images", "--masks", "weights.pth", "--jsonl", "weights.pth", "--out", "o"], "would overwrite --masks"),
    "detector": (
        ["images", "--detector", "ultralytics:weights.pth", "--jsonl", "weights.pth", "--out", "o"],
        "would overwrite --detector",
    ),
    "of two": (["images", "--detector", "mmdet:det.txt:w.npz", "--gallery", "w.npz", "--out", "o"], "--detector"),
}


@pytest.mark.parametrize("case", OVERWRITING)
def test_what_is_read_is_not_overwritten(case: str, inputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, message = OVERWRITING[case]
    before = {path: path.read_bytes() for path in inputs.rglob("*") if path.is_file()}
    assert main(["track", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert {path: path.read_bytes() for path in inputs.rglob("*") if path.is_file()} == before


def test_the_part_of_a_killed_run_is_not_removed_while_it_is_read(tmp_path: Path) -> None:
    part = tmp_path / ".video-0001.mp4"
    part.write_bytes(b"x")
    (tmp_path / "sub").mkdir()
    with pytest.raises(InputError, match=r"--out would overwrite SOURCE: it writes .*\.video-0001\.mp4; give --out"):
        check_overwriting([("--out", tmp_path / "video.mp4")], [("SOURCE", part)])
    check_overwriting([("--out", tmp_path / "videos.mp4")], [("SOURCE", part)])
    check_overwriting([("--out", tmp_path / "sub" / "video.mp4")], [("SOURCE", part)])


def test_other_names_are_no_conflict(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    (tmp_path / "b").write_text("x")
    check_overwriting([("--out", tmp_path / "a"), ("--jsonl", tmp_path / "c")], [("SOURCE", tmp_path / "b")])
    check_overwriting([("--jsonl", "/dev/null"), ("--out", "/dev/null")], [("SOURCE", "/dev/null"), ("S", tmp_path)])


def test_the_checkpoint_is_not_overwritten_by_its_conversion(inputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("x.md").hardlink_to("weights.pth")
    assert main(["convert", "weights.pth", "x.safetensors"]) == 2
    assert "OUT would overwrite MODEL" in capsys.readouterr().err


def test_proposals_and_tune_do_not_overwrite(inputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("list.txt").write_text("images/000001.png\n")
    assert main(["proposals", "list.txt", "--method", "superpixels", "--out", "list.txt"]) == 2
    assert "--out would overwrite IMAGES" in capsys.readouterr().err
    Path("folder/det").mkdir()
    Path("folder/det/det.txt").write_text("1")
    assert main(["tune", "folder", "--json", "folder/det/det.txt"]) == 2
    assert "--json would overwrite SEQUENCE" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--out", "--detections", "--checkpoint", "--masks", "--gallery", "--jsonl"])
def test_an_empty_path_is_refused(option: str, inputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["track", "images", *([] if option == "--out" else ["--out", "o"]), option, ""])
    assert stopped.value.code == 2
    assert f"argument {option}: must name a file or folder, got ''" in capsys.readouterr().err
    assert not Path("o").exists()


def test_places_that_cannot_be_written_are_refused_before_any_work(
    inputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("o/tracks.txt").mkdir(parents=True)
    for arguments, message in (
        (["--out", "o"], "--out o holds tracks.txt, which is not a regular file: remove it"),
        (
            ["--out", "n", "--gallery", "nodir/x.npz"],
            "--gallery must be in a folder that is there, but there is no nodir",
        ),
    ):
        assert main(["track", "images", *arguments]) == 2
        assert message in capsys.readouterr().err
    assert not Path("n").exists()
    with pytest.raises(InputError, match="--json must name a regular file, got /dev/null, a pipe or device"):
        check_file("/dev/null", "--json")  # as root it would be replaced


# ---------------------------------------------------------------------------------------------------------------------
# Two runs, links


def test_a_second_run_in_the_folder_is_refused(tmp_path: Path) -> None:
    said = f"is in use by another run .process {os.getpid()}.: wait"
    with locked_folder(tmp_path), pytest.raises(InputError, match=said), locked_folder(tmp_path):
        pass
    assert os.listdir(tmp_path) == []
    (tmp_path / LOCK_NAME).write_text("1\n")  # left by a run that was killed
    with locked_folder(tmp_path):
        assert (tmp_path / LOCK_NAME).read_text() == f"{os.getpid()}\n"


@pytest.mark.slow
def test_track_is_refused_where_another_run_is_at_work(inputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("o").mkdir()
    Path("live").write_text("of the other run")
    with locked_folder(Path("o")):
        assert main(["track", "images", "--detector", "motion", "--jsonl", "live", "--out", "o"]) == 2
        assert os.listdir("o") == [LOCK_NAME]
    assert f"--out o is in use by another run (process {os.getpid()})" in capsys.readouterr().err
    assert Path("live").read_text() == "of the other run"


def test_a_second_run_leaves_the_jsonl_alone(tmp_path: Path) -> None:
    with JsonLinesWriter(tmp_path / "a") as lines:
        lines.write(1, 0.0, sv.Detections.empty())
        before = (tmp_path / "a").read_bytes()
        with pytest.raises(InputError, match="is being written by another run"):
            JsonLinesWriter(tmp_path / "a")
        assert (tmp_path / "a").read_bytes() == before != b""


def test_a_link_in_the_place_of_a_part_is_not_followed(tmp_path: Path) -> None:
    images, precious = made_images(tmp_path / "images", 2), tmp_path / "precious"
    precious.write_text("x")
    out = tmp_path / "out"
    out.mkdir()
    for name in RESULTS:
        (out / f".{name}.part").symlink_to(precious)
    (out / ".tracks.csv.part").unlink()
    (out / ".tracks.csv.part").hardlink_to(precious)
    assert track_video(job(images, out)).faults == []
    assert precious.read_text() == "x"
    assert {path.name for path in out.iterdir() if not path.is_symlink()} == RESULTS


def test_a_part_that_another_process_made_anew_is_not_renamed(tmp_path: Path) -> None:
    ours, theirs = PartFile(tmp_path / "a"), PartFile(tmp_path / "a")
    os.close(ours.create())
    os.close(theirs.create())
    with pytest.raises(OSError, match="another process writes the same file"):
        ours.commit()
    ours.abandon()
    theirs.commit()
    assert os.listdir(tmp_path) == ["a"]


# ---------------------------------------------------------------------------------------------------------------------
# Full disks


def limited(images: Path, out: Path, size: int, **options: object) -> Outcome:
    """Tracks where no file can be larger than so many bytes."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        return track_video(job(images, out, **options))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.slow
def test_a_full_disk_leaves_whole_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small, large = made_images(tmp_path / "small", 150), made_images(tmp_path / "large", 150, 2 * SIZE)
    first = set()
    for images, size, with_video in ((small, 120_000, True), (small, 120_000, False), (large, 400_000, True)):
        out = tmp_path / f"{size} {with_video}"
        outcome = limited(images, out, size, with_video=with_video)
        assert outcome.faults
        found = frames_in(out)
        assert {file.name for file in outcome.files} - {"report.html", "run.sqlite"} == set(found)
        assert not [name for name in os.listdir(out) if name.endswith(".part")]
        assert all(abs(frames - outcome.frames) <= 1 for frames in found.values()), (size, found, outcome.frames)
        assert {"tracks.txt", "tracks.csv", "tracks.json"} <= set(found)
        with open_store(out) as store:
            kept = [result.frame.number for result in store.results()]
        assert kept == list(range(1, len(kept) + 1))
        assert len(kept) <= outcome.frames + 1
        said = [line for line in capsys.readouterr().err.splitlines() if "masa-track: error" in line]
        assert len(said) == 1
        assert "File too large" in said[0]
        assert not outcome.interrupted or "cannot be written: File too large: raise the limit" in said[0]
        first |= {name for name in RESULTS if f"{name} cannot be written" in said[0]}
    assert first


def test_no_room_for_the_record_is_said_before_any_work(tmp_path: Path) -> None:
    images, out = made_images(tmp_path / "images", 2), tmp_path / "out"
    out.mkdir()
    (out / "tracks.txt").write_text("of an earlier run")
    with pytest.raises(OSError, match=r"File too large.*run\.sqlite"):
        limited(images, out, 9000)
    assert os.listdir(out) == ["tracks.txt"]


def test_only_the_report_does_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = made_images(tmp_path / "images", 3)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.html").mkdir()  # in its place
    outcome = track_video(job(images, tmp_path / "out", with_video=False))
    assert not outcome.interrupted
    assert frames_in(tmp_path / "out") == {"tracks.txt": 3, "tracks.json": 3, "tracks.csv": 3}
    assert "error: not written: report.html (Is a directory)" in capsys.readouterr().err


def test_a_video_that_cannot_be_opened_leaves_no_part(tmp_path: Path) -> None:
    images, out = made_images(tmp_path / "images", 2), tmp_path / "out"
    out.mkdir()
    (out / ".video-0001.mp4").mkdir()
    with pytest.raises(OSError, match=r"\.video-0001\.mp4"):
        track_video(job(images, out))
    assert os.listdir(out) == [".video-0001.mp4"]


def test_without_a_video_none_of_an_earlier_run_stays(tmp_path: Path) -> None:
    images, out = made_images(tmp_path / "images", 2), tmp_path / "out"
    track_video(job(images, out))
    assert set(os.listdir(out)) == RESULTS
    track_video(job(images, out, with_video=False))
    assert set(os.listdir(out)) == RESULTS - {"video.mp4"}


def test_a_video_without_room_for_its_header_is_an_error_and_no_crash(tmp_path: Path) -> None:
    program = """
import resource, sys
import numpy as np
from masa_track.video.writer import VideoWriter
writer, noise = VideoWriter(sys.argv[1], 64, 64, 25), np.random.default_rng(0)
resource.setrlimit(resource.RLIMIT_FSIZE, (16, resource.RLIM_INFINITY))
for step in (lambda: [writer.write(noise.integers(0, 255, (64, 64, 3), np.uint8)) for _ in range(100)], writer.close):
    try:
        step()
    except OSError as error:
        print(error.filename)
"""
    video = tmp_path / "video.mp4"
    done = subprocess.run([sys.executable, "-c", program, str(video)], capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()) == (0, [str(video)] * 2), done.stderr
    assert not any(tmp_path.iterdir())


# ---------------------------------------------------------------------------------------------------------------------
# Readers that leave


def test_a_reader_of_jsonl_that_leaves_does_not_end_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, out, pipe = made_images(tmp_path / "images", 6), tmp_path / "out", tmp_path / "pipe"
    os.mkfifo(pipe)

    def read_and_leave() -> None:
        with open(pipe, "rb"):
            pass

    thread = threading.Thread(target=read_and_leave)
    thread.start()
    with JsonLinesWriter(pipe) as lines:
        thread.join(60)
        outcome = track_video(job(images, out, lines=lines))
    assert outcome.frames == 6
    assert set(frames_in(out).values()) == {6}
    assert outcome.faults == [f"the reader of --jsonl {pipe} left at frame 1"]
    assert f"the reader of --jsonl {pipe} left" in capsys.readouterr().err


class Full(io.TextIOWrapper):
    def __init__(self, encoding: str = "utf-8") -> None:
        super().__init__(open("/dev/full", "wb", buffering=0), encoding=encoding)  # noqa: SIM115


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_standard_output_that_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in ("gt.txt", "t.txt"):
        (tmp_path / file).write_text("1,1,1,1,10,10,1\n")
    monkeypatch.setattr(sys, "stdout", Full())
    arguments = ["eval", str(tmp_path / "gt.txt"), str(tmp_path / "t.txt"), "--json", str(tmp_path / "s.json")]
    assert main(arguments) == 1
    assert "standard output cannot be written: No space left on device" in capsys.readouterr().err
    assert json.loads((tmp_path / "s.json").read_text())["combined"]["hota"] == 1


def run(folder: Path, *arguments: str, shell: str) -> subprocess.CompletedProcess:
    command = f"{sys.executable} -m masa_track {' '.join(arguments)} {shell}"
    return subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.mark.slow
def test_standard_streams_of_every_kind(tmp_path: Path) -> None:
    names = ("gt\u017e.txt", "t.txt")
    for name in names:
        (tmp_path / name).write_text("1,1,1,1,10,10,1\n")
    arguments = ("eval", *names, "--json", "s.json")
    for shell, status in (
        (">/dev/full", 1),
        (">&-", 0),
        ("2>&-", 0),
        (">&- 2>&-", 0),
        ("| true; exit ${PIPESTATUS[0]}", 0),
        ("2>&1 | true; exit ${PIPESTATUS[0]}", 0),
    ):
        done = run(tmp_path, *arguments, shell=shell)
        assert done.returncode == status, (shell, done)
        assert "Traceback" not in done.stderr
        assert "Exception ignored" not in done.stderr
        assert json.loads((tmp_path / "s.json").read_text())["combined"]["hota"] == 1
        (tmp_path / "s.json").unlink()
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "masa_track", *arguments]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


# ---------------------------------------------------------------------------------------------------------------------
# Signals

HANGING = """
import os, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from test_outputs import job
from masa_track.pipeline.loop import track_video
work = job(Path(sys.argv[2]), Path(sys.argv[3]), overlap=False)
detect = work.detector
def slow(frame):
    import time
    if frame.number == 3:
        print("at work", flush=True)
        time.sleep(1)  # the signal comes in the middle of this frame
    return detect(frame)
work.detector = slow
print(track_video(work).frames, flush=True)
"""


@pytest.mark.slow
def test_a_closed_terminal_leaves_whole_files(tmp_path: Path) -> None:
    images, out = made_images(tmp_path / "images", 6), tmp_path / "out"
    command = [sys.executable, "-c", HANGING, str(Path(__file__).parent), str(images), str(out)]
    for ignored, frames in ((False, 3), (True, 6)):  # nohup has the signal ignored
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
        try:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        finally:
            signal.signal(signal.SIGHUP, before)
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n"
        process.send_signal(signal.SIGHUP)
        time.sleep(0.1)
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGHUP)  # a shell sends it too
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert said.strip() == str(frames)
        assert set(frames_in(out).values()) == {frames}
        assert set(os.listdir(out)) == RESULTS
