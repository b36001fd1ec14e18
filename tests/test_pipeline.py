"""The loop over frames: what a fault of a frame, of the setup or of the source does, and what is said at the end."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import supervision as sv

from masa_track.cli.main import main
from masa_track.cli.summary import summary
from masa_track.contracts import Frame
from masa_track.detectors.selection import Selection
from masa_track.errors import InputError
from masa_track.pipeline.loop import Job, Outcome, track_video
from masa_track.tracker import MasaTracker
from masa_track.video.frame_folder import FrameFolder
from masa_track.video.sources import open_source


class Grey:
    def embed(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        return np.ones((len(boxes), 4), np.float32)


class Segmenter:
    """Raises on the frames that its function picks by the number of the call."""

    def __init__(self, fails: Callable[[int], bool]) -> None:
        self.calls, self.fails = 0, fails

    def add_masks(self, tracked: sv.Detections, frame: np.ndarray) -> sv.Detections:
        self.calls += 1
        if self.fails(self.calls):
            raise InputError(f"no mask in call {self.calls}")
        return tracked


def a_box(frame: Frame) -> sv.Detections:
    return sv.Detections(np.array([[2.0, 2, 20, 20]]), confidence=np.array([0.9]), class_id=np.array([0]))


def job(folder: Path, count: int = 14, detect: Callable[[Frame], sv.Detections] = a_box, **options) -> Job:
    frames = folder / "frames"
    frames.mkdir()
    for number in range(1, count + 1):
        cv2.imwrite(str(frames / f"{number:03d}.png"), np.zeros((32, 48, 3), np.uint8))
    return Job(open_source(frames), detect, {}, MasaTracker(Grey()), folder, with_video=False, **options)


@pytest.mark.parametrize("of", ["detector", "segmenter"])
def test_a_frames_fault_is_skipped_and_a_setups_fault_ends_the_run(tmp_path: Path, of: str) -> None:
    """Whoever raises it."""

    def run(name: str, fails: Callable[[int], bool]) -> Outcome:
        folder = tmp_path / name
        folder.mkdir()
        segmenter = Segmenter(fails)
        if of == "segmenter":
            return track_video(job(folder, segmenter=segmenter))
        return track_video(job(folder, detect=lambda frame: segmenter.add_masks(a_box(frame), frame.image)))

    some = run("some", lambda call: call in (1, 5, 14))
    assert (some.frames, some.broken) == (11, 3)
    assert some.broken_listed[0] == "1: no mask in call 1"
    later = run("later", lambda call: call > 9)
    assert (later.frames, later.broken) == (9, 5)
    with pytest.raises(InputError, match=r"^no mask in call 1$"):
        run("all", lambda call: True)
    assert not (tmp_path / "all" / "tracks.txt").exists()


def test_a_video_cut_short_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        noise = np.random.default_rng(0)
        for _ in range(20):
            image = noise.integers(0, 255, (48, 64, 3)).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert main(["track", str(path), "--detector", "motion", "--no-video", "--out", str(tmp_path / "o")]) == 0
    said = capsys.readouterr()
    assert (
        "warning   the video is incomplete: its header announces 20 frames, but the file ends after frame" in said.out
    )
    assert "the file was cut short" in (tmp_path / "o" / "report.html").read_text()
    assert "loading model nano\n" in said.err


@pytest.mark.slow
def test_a_detector_that_finds_nothing_is_noticed_early(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Once, after 50 frames without a box that could start a track."""
    hint = "nothing in {frames} frames; try another detector"

    def said(frames: int, strong_at: int = 0) -> int:
        def boxes(frame: Frame) -> sv.Detections:
            found = a_box(frame)
            found.confidence[:] = 0.9 if frame.number == strong_at else 0.2
            return found

        folder = tmp_path / f"{frames}-{strong_at}"
        folder.mkdir()
        track_video(job(folder, frames, boxes, track_activation_threshold=0.5, hint=hint))
        return capsys.readouterr().err.count("warning: nothing in 50 frames; try another detector")

    assert said(49) == 0
    assert said(120) == 1
    assert said(60, strong_at=50) == 0
    assert said(60, strong_at=51) == 1


def test_boxes_that_are_all_left_out_are_explained(tmp_path: Path) -> None:
    outcome = track_video(job(tmp_path, count=3, select=Selection(min_score=0.95)))
    assert (outcome.boxes, outcome.left_out, outcome.identities) == (0, 3, 0)
    assert "--classes, --min-score or --nms left out all 3 boxes" in summary(outcome, tmp_path)


def test_a_drawn_frame_that_cannot_be_written_ends_the_run(tmp_path: Path) -> None:
    drawn = FrameFolder(tmp_path / "drawn")
    drawn.path.mkdir()

    def detect(frame: Frame) -> sv.Detections:
        if frame.number == 5:
            shutil.rmtree(drawn.path)
        return a_box(frame)

    outcome = track_video(job(tmp_path, detect=detect, frame_folder=drawn, overlap=False))
    assert (outcome.frames, outcome.interrupted) == (4, True)
    assert "stopped at frame 5" in outcome.faults[0]
    assert "000005.jpg cannot be written: No such file" in outcome.faults[0]
    assert (tmp_path / "tracks.txt").exists()


def test_no_identities_are_explained(tmp_path: Path) -> None:
    def said(outcome: Outcome, detector: str | None = "motion") -> str:
        outcome.files = [tmp_path / "tracks.txt"]
        return summary(outcome, tmp_path, 0.5, detector).replace("\n", " ")

    assert "the detector found no box: motion needs a camera that stands still" in said(Outcome(frames=9))
    assert "check that the detections are of this video" in said(Outcome(frames=9), None)
    for none in (Outcome(frames=9), Outcome(frames=9, boxes=3, weak_boxes=3, best_score=0.41)):
        assert f"(the best has {none.best_score:.2f}); try --detector own (any object)" in said(none, "nanodet")
    weak = track_video(job(tmp_path, track_activation_threshold=0.95))
    assert (weak.boxes, weak.weak_boxes, weak.best_score) == (14, 14, 0.9)
    weak.identities = 0
    too_low = "the scores of all 14 boxes are too low: a score above 0.5 starts a track, and the highest is 0.90"
    assert too_low in said(weak)
    assert "try --set track_activation_threshold=0.45" in said(weak)
    assert "1 of 2 boxes have a score above 0.5" in said(Outcome(frames=9, boxes=2, weak_boxes=1))
    assert "warning" not in said(Outcome(frames=9, identities=1))
