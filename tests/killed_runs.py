"""Kills runs at random moments, and compares what is left with a run that was not killed. Run by test_resume.py.

python tests/killed_runs.py FOLDER COUNT [SEED] prints what was done to each run, and what was lost.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import supervision as sv

from masa_track.contracts import Frame, FrameResult
from masa_track.pipeline import loop
from masa_track.pipeline.loop import Job, track_video
from masa_track.pipeline.recover import recover
from masa_track.runs.resume import resumed
from masa_track.runs.store import open_store
from masa_track.tracker import MasaTracker
from masa_track.video.sources import open_source

FRAMES = 300
PACE = 0.005  # seconds a frame


class Colours:
    """Embeds a box by the mean colour of its picture."""

    def embed(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """(N, 3) float32."""
        rows = [frame[int(y1) : int(y2), int(x1) : int(x2)].reshape(-1, 3).mean(axis=0) for x1, y1, x2, y2 in boxes]
        return np.array(rows, np.float32).reshape(-1, 3)


def boxes_at(number: int) -> np.ndarray:
    """Boxes (N, 4) of five things that move, hide at times, and are replaced by others."""
    rows = []
    for k in range(5):
        if (number + 37 * k) % 90 < 75:
            x = 15 + 40 * k + 12 * np.sin(number / (7 + k))
            y = 20 + 30 * ((number // 90 + k) % 3)
            rows.append([x, y, x + 18, y + 24])
    return np.array(rows, np.float32).reshape(-1, 4)


def made_images(folder: Path, count: int) -> Path:
    """A folder of pictures of the boxes, each with its number in black and white squares at the lower right."""
    folder.mkdir(parents=True)
    colours = np.random.default_rng(0).integers(40, 255, (5, 3))
    for number in range(1, count + 1):
        picture = np.zeros((160, 230, 3), np.uint8)
        for x1, y1, x2, y2 in boxes_at(number).astype(int):
            picture[y1:y2, x1:x2] = colours[min(4, x1 // 40)]
        for bit in range(9):
            picture[136:, 230 - 24 * (bit + 1) : 230 - 24 * bit] = 255 * (number >> bit & 1)
        cv2.imwrite(str(folder / f"{number:06d}.png"), picture)
    return folder


def number_in(picture: np.ndarray) -> int:
    """The number that is in a picture."""
    return sum(int(picture[142:154, 230 - 24 * bit - 18 : 230 - 24 * bit - 6].mean() > 127) << bit for bit in range(9))


def a_job(folder: Path, images: Path, seen: np.ndarray | None = None, fails: int = 0, **options: object) -> Job:
    """A run over the images. ``seen`` gets the time of each frame; at frame ``fails`` the detector breaks."""
    tracker = options.pop("tracker", None) or MasaTracker(Colours())

    def detect(frame: Frame) -> sv.Detections:
        if frame.number == fails:
            raise RuntimeError("a stage broke")
        if seen is not None:
            time.sleep(PACE)
            seen[frame.number] = time.monotonic()
        boxes = boxes_at(frame.number)
        return sv.Detections(boxes, confidence=np.full(len(boxes), 0.9), class_id=np.zeros(len(boxes), int))

    folder.mkdir(exist_ok=True)
    return Job(open_source(images), detect, {0: "thing"}, tracker, folder, **options)  # type: ignore[arg-type]


def rows_of(folder: Path) -> dict[int, list[tuple[float, ...]]]:
    """The rows of each frame in the record: identity and box."""
    with open_store(folder) as store:
        return {result.frame.number: _rows(result) for result in store.results()}


def _rows(result: FrameResult) -> list[tuple[float, ...]]:
    found, ids = result.detections, result.detections.tracker_id
    assert ids is not None
    return [(float(i), *box) for i, box in zip(ids.tolist(), found.xyxy.tolist(), strict=True)]


def text_rows(folder: Path) -> list[str]:
    """The lines of tracks.txt."""
    return (folder / "tracks.txt").read_text().splitlines()


def forked(function: Callable[[], object]) -> int:
    """Runs a function in a process of its own, whose number is returned. It ends with status 0 or, after an error, 1.

    The process that forks runs no video itself: a copy of an encoder cannot be closed where its threads are not.
    """
    child = os.fork()
    if child == 0:
        status = 1
        try:
            function()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status)
    return child


def wait(child: int) -> int:
    """Waits for a process; its exit status."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def check(folder: Path, root: Path, with_video: bool) -> None:
    """Makes the files of what a kill left, goes on with it, and compares both with the run that was not killed."""
    images, whole = root / "images", root / "whole"
    wanted, lines = rows_of(whole), text_rows(whole)
    kept = rows_of(folder) if (folder / "run.sqlite").exists() else {}
    last = max(kept, default=0)
    assert list(kept) == list(range(1, last + 1)), sorted(kept)[-5:]
    assert all(kept[number] == wanted[number] for number in kept)
    if last:
        recover(folder)
        before = text_rows(folder)
        assert before == lines[: len(before)]
        assert {line.split(",")[0] for line in before} >= {str(last)} or not kept[last]
    job = a_job(folder, images, with_video=with_video)
    if last:
        with open_store(folder) as store:
            job.resumed = resumed(store)
    outcome = track_video(job)
    assert outcome.frames == FRAMES, outcome
    assert rows_of(folder) == wanted
    assert text_rows(folder) == lines
    assert (folder / "tracks.json").read_text() == (whole / "tracks.json").read_text()
    if with_video:
        with av.open(str(folder / "video.mp4")) as video:
            shown = [number_in(frame.to_ndarray(format="bgr24")) for frame in video.decode(video=0)]
        assert shown == list(range(1, FRAMES + 1)), shown


def main() -> None:
    """See the module."""
    root, count, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0
    loop.SNAPSHOT_SECONDS = 0.3  # so that a run of 2 s has several
    rng = random.Random(seed)
    images = made_images(root / "images", FRAMES)
    assert wait(forked(lambda: track_video(a_job(root / "whole", images, with_video=False)))) == 0
    seen = np.memmap(root / "seen", np.float64, "w+", shape=FRAMES + 1)
    worst = 0.0
    for trial in range(count):
        folder, with_video = root / f"{trial}", trial % 4 == 0
        how = rng.choice(["SIGKILL", "SIGKILL", "SIGTERM", "SIGHUP", "exception"])
        fails = rng.randint(2, FRAMES) if how == "exception" else 0
        seen[:] = np.inf

        def run(folder: Path = folder, fails: int = fails, with_video: bool = with_video) -> None:
            sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (until the process ends)
            track_video(a_job(folder, images, seen, fails, with_video=with_video))

        child = forked(run)
        time.sleep(0.05 + rng.random() * FRAMES * PACE * 1.2)
        at = time.monotonic()
        if how != "exception":
            os.kill(child, getattr(signal, how))
        wait(child)
        last = max(rows_of(folder), default=0) if (folder / "run.sqlite").exists() else 0
        due = int(np.flatnonzero(seen[1:] < at - 1.0)[-1] + 1) if (seen[1:] < at - 1.0).any() else 0
        assert how == "exception" or last >= due, (trial, how, last, due)
        if how == "SIGKILL" and last:
            worst = max(worst, at - seen[min(last + 1, FRAMES)])
        done = wait(forked(lambda folder=folder, with_video=with_video: check(folder, root, with_video)))  # type: ignore[misc]
        assert done == 0, (trial, how, last)
        print(f"{trial}: {how} at {at - seen[1]:.2f} s, {last} frames kept, resumed to the same tracks", flush=True)
    print(f"{count} runs; the longest time that a kill lost is {worst:.2f} s")


if __name__ == "__main__":
    main()
