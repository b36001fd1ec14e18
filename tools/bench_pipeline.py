#!/usr/bin/env python
"""Measures the pipeline: sequential against overlapped, and what the record of a run costs.

    python tools/bench_pipeline.py                       # the demo's clip, shipped detector and model
    python tools/bench_pipeline.py street.mp4 --frames 200 --batch 4

First table: frames a second of the same run with all stages in one thread, and with decoding, detection, association
and writing in threads of their own; both give the same tracks, which is checked. Second table: milliseconds a frame of
association, and of storing its result with and without the decisions (why each box has its identity), as a share of
the association's time.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from masa_track.cli.demo import demo_clip
from masa_track.contracts import Frame, FrameResult
from masa_track.pipeline.job import Outcome
from masa_track.pipeline.loop import track_video
from masa_track.pipeline.recipe import Pipeline, TrackRecipe
from masa_track.runs.store import RunInfo, create_store
from masa_track.tracker import MasaTracker
from masa_track.video.sources import open_source


def run_once(pipeline: Pipeline, source: str, frames: int, stride: int, batch: int, overlap: bool) -> tuple[float, str]:
    """Frames a second of a whole run, and its track file."""
    folder = Path(tempfile.mkdtemp(prefix="masa-track-bench-"))
    try:
        job = pipeline.job(open_source(source), folder, max_frames=frames, stride=stride, batch=batch, overlap=overlap)
        outcome: Outcome = track_video(job)
        return outcome.fps, (folder / "tracks.txt").read_text()
    finally:
        shutil.rmtree(folder)


def crowd(count: int, objects: int, dimension: int = 256) -> Iterator[tuple[Frame, np.ndarray, np.ndarray]]:
    """Frames, boxes (N, 4) and embeddings (N, D) of objects that cross a picture of 1920 x 1080 pixels."""
    rng = np.random.default_rng(0)
    looks = rng.normal(size=(objects, dimension))
    place, speed = rng.uniform((0, 0), (1800, 900), (objects, 2)), rng.normal(0, 6, (objects, 2))
    for number in range(1, count + 1):
        place = (place + speed) % (1800, 900)
        boxes = np.hstack((place, place + np.array([60, 140]))).astype(np.float32)
        embeddings = (looks + 0.3 * rng.normal(size=looks.shape)).astype(np.float32)
        yield Frame(number, number / 25, (1920, 1080), f"{number:06d}.jpg"), boxes, embeddings


class Given:
    """A model whose embeddings are given with the frame."""

    def embed(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Not called."""
        raise AssertionError


def record_cost(count: int, objects: int) -> tuple[float, float, float]:
    """Milliseconds a frame: of association, of storing it with decisions, and without."""
    import supervision as sv

    tracker = MasaTracker(Given())
    info = RunInfo("bench", "bench", (1920, 1080), 25.0, {0: "object"})
    spent: dict[str, list[float]] = {"associate": [], "with": [], "without": []}
    with tempfile.TemporaryDirectory(prefix="masa-track-bench-") as folder:
        stores = {name: create_store(Path(folder) / f"{name}.sqlite", info) for name in ("with", "without")}
        for frame, boxes, embeddings in tqdm(crowd(count, objects), total=count, unit="frame", desc="record"):
            given = sv.Detections(
                boxes, confidence=np.full(len(boxes), 0.9, np.float32), class_id=np.zeros(len(boxes), int)
            )
            begun = time.perf_counter()
            tracked = tracker.update(given, None, frame.time, embeddings=embeddings, size=frame.size)
            spent["associate"].append(time.perf_counter() - begun)
            order = ("with", "without") if frame.number % 2 else ("without", "with")
            for name in order:
                decisions = tracker.decisions if name == "with" else ()
                result = FrameResult(frame, tracked, list(tracker.events), decisions)
                begun = time.perf_counter()
                stores[name].append(None, result)
                spent[name].append(time.perf_counter() - begun)
        for store in stores.values():
            store.close()
    half = count // 5  # the first frames have few tracks
    return tuple(1000 * statistics.mean(values[half:]) for values in spent.values())  # type: ignore[return-value]


def main() -> int:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?", help="a video (default: the demo's clip)")
    parser.add_argument("--frames", type=int, default=60, help="tracked frames of a run (default: %(default)s)")
    parser.add_argument("--stride", type=int, default=2, help="every how many frames (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=1, help="frames that the detector gets at once (default: 1)")
    parser.add_argument("--detector", default="nanodet", help="as for `masa-track track` (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each kind, in turn (default: %(default)s)")
    parser.add_argument("--objects", type=int, default=20, help="objects of the second table (default: %(default)s)")
    args = parser.parse_args()
    source = args.source or str(demo_clip())
    pipeline = TrackRecipe(detector=args.detector).build("cpu")
    speeds: dict[bool, list[float]] = {False: [], True: []}
    tracks = set()
    for _ in range(args.repeats):
        for overlap in (False, True):
            fps, text = run_once(pipeline, source, args.frames, args.stride, args.batch, overlap)
            speeds[overlap].append(fps)
            tracks.add(text)
    if len(tracks) > 1:
        print("the runs gave different tracks", file=sys.stderr)
        return 1
    before, after = (statistics.median(speeds[overlap]) for overlap in (False, True))
    print(f"{'':24}frames a second (median of {args.repeats})")
    print(f"{'one thread':24}{before:.2f}\n{'threads':24}{after:.2f}\n{'ratio':24}{after / before:.2f}\n")
    associate, full, bare = record_cost(1000, args.objects)
    print(f"{'ms a frame':24}{args.objects} objects\n{'association':24}{associate:.3f}")
    print(f"{'record, decisions':24}{full:.3f}\n{'record, no decisions':24}{bare:.3f}")
    print(f"{'decisions cost':24}{(full - bare) / associate:.1%} of the association")
    print(f"{'record costs':24}{full / associate:.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
