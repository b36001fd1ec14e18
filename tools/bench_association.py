#!/usr/bin/env python3
"""Times the association engine, a frame at a time, beside the trackers of the `trackers` package in one process.

Every tracker gets the same crowd: N boxes that walk a few pixels a frame, with confidences above every tracker's
threshold, so that as many tracks as detections are kept. Ours gets embeddings of 256 numbers as well and matches by
them alone; the others match by motion (BoT-SORT without camera motion and re-identification). What is timed is the
call of `update`, nothing else.

    pip install ".[bench]"
    python tools/bench_association.py
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import supervision as sv

from masa_track.association import Associator, open_associator

DIMENSION = 256
# ms a frame that the authors' MasaTaoTracker took on two cores (docs of the project), and the bound set for ours.
REFERENCE = {24: (1.8, 0.5), 326: (16.7, 3.0), 1051: (58.9, 12.0)}
Frame = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def crowd(count: int, frames: int, seed: int = 0) -> list[Frame]:
    """Frames of ``count`` walking boxes: xyxy (N, 4), confidences (N,), classes (N,), embeddings (N, 256)."""
    rng = np.random.default_rng(seed)
    side = 100 * count**0.5  # the same crowding whatever the count
    corner, size = rng.uniform(0, side, (count, 2)), rng.uniform((30, 60), (60, 120), (count, 2))
    looks = rng.standard_normal((count, DIMENSION)) / 4
    classes = rng.integers(0, 3, count)
    made = []
    for _ in range(frames):
        corner = corner + rng.normal(0, 2, (count, 2))
        boxes = np.concatenate((corner, corner + size), axis=1).astype(np.float32)
        embeddings = (looks + rng.standard_normal((count, DIMENSION)) / 16).astype(np.float32)
        made.append((boxes, rng.uniform(0.7, 1, count).astype(np.float32), classes, embeddings))
    return made


def ours(preset: str, **overrides: Any) -> Callable[[], Callable[[int, Frame], Any]]:
    """Makes a fresh engine; it is called with the frame's number and the frame."""

    def fresh() -> Callable[[int, Frame], Any]:
        associator = Associator(preset, **overrides)
        return lambda index, frame: associator.update(*frame, index)

    return fresh


def peer(name: str) -> Callable[[], Callable[[int, Frame], Any]]:
    """Makes a fresh tracker of the `trackers` package."""

    def fresh() -> Callable[[int, Frame], Any]:
        import trackers

        options = {"enable_cmc": False} if name == "BoTSORTTracker" else {}
        tracker = getattr(trackers, name)(**options)

        def update(index: int, frame: Frame) -> Any:
            boxes, confidences, classes, _ = frame
            return tracker.update(sv.Detections(xyxy=boxes, confidence=confidences, class_id=classes))

        return update

    return fresh


def milliseconds(fresh: Callable[[], Callable[[int, Frame], Any]], frames: list[Frame], warm_up: int) -> float:
    """Median ms a frame after the warm-up."""
    update = fresh()
    times = []
    for index, frame in enumerate(frames):
        start = time.perf_counter()
        update(index, frame)
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times[warm_up:]))


def copy_share(preset: str, frames: list[Frame], warm_up: int) -> float:
    """Part of an update's time that goes into the copy of the state, which makes the update all or nothing."""
    associator, whole, copies = open_associator(preset), [], []
    for index, frame in enumerate(frames):
        start = time.perf_counter()
        associator._state.copy()
        middle = time.perf_counter()
        associator.update(*frame, index)
        copies.append(middle - start)
        whole.append(time.perf_counter() - middle)
    return float(np.median(copies[warm_up:]) / np.median(whole[warm_up:]))


def main() -> None:
    """Prints the table, and the ratios to SORT."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[10, 24, 50, 200, 300, 326, 1000, 1051], metavar="N")
    parser.add_argument("--frames", type=int, default=40, help="frames timed a size (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures, too")
    args = parser.parse_args()
    warm_up = 8
    sides = {
        "tao": ours("tao"),
        "demo": ours("demo"),
        "bdd": ours("bdd"),
        "hungarian": ours("tao", assignment="hungarian"),
        "SORT": peer("SORTTracker"),
        "ByteTrack": peer("ByteTrackTracker"),
        "BoT-SORT": peer("BoTSORTTracker"),
    }
    print(f"ms a frame (median of {args.frames}), N detections against N tracks, {DIMENSION} numbers each")
    print(f"Python {platform.python_version()}, numpy {np.__version__}, {os.cpu_count()} cores, {platform.machine()}\n")
    print(f"{'N':>5}" + "".join(f"{name:>11}" for name in sides) + f"{'SORT / tao':>12}{'bound':>8}{'reference':>11}")
    results = {}
    for count in args.counts:
        frames = crowd(count, args.frames + warm_up)
        row = {name: milliseconds(fresh, frames, warm_up) for name, fresh in sides.items()}
        results[count] = row
        reference, bound = REFERENCE.get(count, ("", ""))
        cells = "".join(f"{value:11.2f}" for value in row.values())
        print(f"{count:5d}{cells}{row['SORT'] / row['tao']:11.1f}x{bound!s:>8}{reference!s:>11}", flush=True)
    presets = ["tao", "bdd", "appearance", "default"]
    print("\npart of an update that goes into the copy of the state, which makes it all or nothing")
    print(f"{'N':>5}" + "".join(f"{name:>12}" for name in presets))
    for count in (10, 50, 200):
        frames = crowd(count, args.frames + warm_up)
        shares = "".join(f"{copy_share(preset, frames, warm_up):12.1%}" for preset in presets)
        print(f"{count:5d}{shares}", flush=True)
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
