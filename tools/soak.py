#!/usr/bin/env python3
"""A tracker behind a camera for a long time: thousands of objects come and go, and nothing may grow.

Detections are synthetic (objects that walk through the picture, each with an embedding of its own, noise, misses, empty
frames); the tracker, its association and the JSON-lines sink are real. Prints a row for each tenth of the run: ms a
frame (median; of the tracker alone), resident memory, live Python objects, tracks remembered, identities given so far.

    python tools/soak.py --frames 20000
    python tools/soak.py --frames 20000 --objects 60 --preset tao --match 0.75
"""

from __future__ import annotations

import argparse
import gc
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import supervision as sv

from masa_track import MasaTracker
from masa_track.formats.jsonl import JsonLinesWriter

WIDTH, HEIGHT, DIMENSION = 1280, 720, 128


class Street:
    """Objects that walk through the picture, and a model that gives each its embedding.

    Args:
        objects: how many there are at a time, on average.
        life: frames that each stays, on average.
        seed: of all that is random.
    """

    def __init__(self, objects: int, life: int, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._objects, self._life = objects, life
        self._embeddings = np.zeros((0, DIMENSION), np.float32)
        self._places = np.zeros((0, 2))
        self._steps = np.zeros((0, 2))
        self._names = np.zeros(0, np.int64)
        self._next = 0
        self._now = self._embeddings  # of the boxes of this frame

    def frame(self) -> tuple[np.ndarray, np.ndarray]:
        """Boxes (N, 4) xyxy and whose they are (N,), of the next frame."""
        rng = self._rng
        stay = rng.random(len(self._names)) > 1 / self._life
        new = rng.poisson(self._objects / self._life)
        self._embeddings = np.concatenate(
            (self._embeddings[stay], rng.normal(size=(new, DIMENSION)).astype(np.float32))
        )
        places = rng.uniform(0, 1, (new, 2)) * [WIDTH - 40, HEIGHT - 80]
        self._places = np.concatenate((self._places[stay] + self._steps[stay], places))
        self._steps = np.concatenate((self._steps[stay], rng.normal(0, 2, (new, 2))))
        self._names = np.concatenate((self._names[stay], np.arange(self._next, self._next + new)))
        self._next += new
        seen = rng.random(len(self._names)) > 0.1
        if rng.random() < 0.02:
            seen[:] = False
        noise = rng.normal(0, 0.3, (int(seen.sum()), DIMENSION)).astype(np.float32)
        self._now = self._embeddings[seen] + noise
        return np.concatenate((self._places[seen], self._places[seen] + [40, 80]), axis=1), self._names[seen]

    def embed(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """What a model would say of the boxes of the last frame: (N, D)."""
        assert len(boxes) == len(self._now)
        return self._now


@dataclass
class Tenth:
    """What a part of the run cost, and what was alive at its end."""

    frames: int
    milliseconds: float
    megabytes: float
    objects: int
    remembered: int
    identities: int


@dataclass
class Soaked:
    """What came of it.

    Attributes:
        tenths: one for each part of the run.
        objects: how many there were.
        reused: identities that were given to a new track though they had been given before, or that came back after
            the tracker had to forget them.
        mixed: identities that two objects have had (confused by appearance, not reused).
    """

    tenths: list[Tenth] = field(default_factory=list)
    objects: int = 0
    reused: int = 0
    mixed: int = 0


def soak(
    frames: int, objects: int, life: int, preset: str, match: float | None, sink: Path, seed: int = 0
) -> Iterator[Soaked]:
    """Runs, and gives the same record after each tenth."""
    street, picture = Street(objects, life, seed), np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    options: Any = {} if match is None else {"match_score_threshold": match}
    tracker = MasaTracker(street, preset, **options)
    associator: Any = tracker._associator
    fps = associator.options.fps
    forgetting = associator.memory_seconds * fps
    result, spent = Soaked(), []
    # The last frame and the first object of each identity. The arrays have a fixed size, so that they are no growth.
    last_seen = np.full(frames * objects, -1, np.int32)
    first_object = np.full(frames * objects, -1, np.int32)
    highest = 0
    mixed = np.zeros(frames * objects, bool)
    with JsonLinesWriter(sink) as lines:
        for number in range(frames):
            boxes, names = street.frame()
            detections = sv.Detections(xyxy=boxes, confidence=np.full(len(boxes), 0.9), class_id=names % 3)
            start = time.perf_counter()
            tracked = tracker.update(detections, picture, number / fps)
            spent.append(time.perf_counter() - start)
            lines.write(number + 1, number / fps, tracked)
            ids = np.zeros(0, np.int64) if tracked.tracker_id is None else tracked.tracker_id
            for track_id, name in zip(ids.tolist(), names.tolist(), strict=True):
                if track_id < 0:
                    continue
                if last_seen[track_id] < 0:
                    result.reused += track_id <= highest
                    first_object[track_id] = name
                elif number - last_seen[track_id] > forgetting + 1:
                    result.reused += 1
                last_seen[track_id] = number
                mixed[track_id] |= first_object[track_id] != name
            highest = max(highest, int(ids.max(initial=0)))
            if (number + 1) % max(frames // 10, 1) == 0:
                gc.collect()
                memory = associator.memory
                remembered = 0 if memory is None else len(memory)
                cost, live = 1000 * float(np.median(spent)), len(gc.get_objects())
                result.tenths.append(Tenth(number + 1, cost, resident_megabytes(), live, remembered, highest))
                result.objects, result.mixed = int(names.max(initial=0)) + 1, int(mixed.sum())
                spent = []
                yield result


def resident_megabytes() -> float:
    """Memory that the process has now; where /proc is not, the most it ever had."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def main() -> None:
    """Prints the table, and what became of the identities."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=20000)
    parser.add_argument("--objects", type=int, default=20, help="in the picture at a time, on average")
    parser.add_argument("--life", type=int, default=80, help="frames that each stays, on average")
    parser.add_argument("--preset", default="default")
    parser.add_argument("--match", type=float, help="the match_score_threshold of a preset that has one")
    args = parser.parse_args()
    print("| frames | ms a frame | resident MB | live objects | tracks remembered | identities |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        sink = Path(folder) / "live.jsonl"
        for result in soak(args.frames, args.objects, args.life, args.preset, args.match, sink):
            now = result.tenths[-1]
            print(
                f"| {now.frames:,} | {now.milliseconds:.2f} | {now.megabytes:.1f} | {now.objects:,} "
                f"| {now.remembered:,} | {now.identities:,} |",
                flush=True,
            )
        print(f"{result.objects:,} objects; identities reused: {result.reused}; shared by two objects: {result.mixed}")


if __name__ == "__main__":
    main()
