#!/usr/bin/env python3
"""A tracker behind a camera for a long time: thousands of objects come and go, and nothing may grow.

Detections are synthetic (objects that walk through the picture, each with an embedding of its own, noise, misses, empty
frames); the tracker, its association and the JSON-lines sink are real. Prints a row for each tenth of the run: ms a
frame (median; of the tracker alone), resident memory, live Python objects, tracks remembered, identities given so far.

    python tools/soak.py --frames 20000
    python tools/soak.py --frames 20000 --objects 60 --preset tao --match 0.75

With --rotate the whole run is real, threads, record, track files and report included: it is in parts, of which old ones
are deleted. Then the table has the parts and the megabytes that are on the disk, too.

    python tools/soak.py --rotate 40 --keep 60 --frames 200000 --objects 6 --life 38
"""

from __future__ import annotations

import argparse
import gc
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import supervision as sv

from masa_track import MasaTracker
from masa_track.contracts import Frame
from masa_track.formats.jsonl import JsonLinesWriter
from masa_track.pipeline.job import Job
from masa_track.pipeline.loop import track_video
from masa_track.pipeline.rotation import parts_of_run
from masa_track.video.source import OnBroken, Source

WIDTH, HEIGHT, DIMENSION = 1280, 720, 128


class Street:
    """Objects that walk through the picture, and a model that gives each its embedding.

    Args:
        objects: how many there are at a time, on average.
        life: frames that each stays, on average.
        seed: of all that is random.
        size: (width, height) of the picture in pixels.
    """

    def __init__(self, objects: int, life: int, seed: int, size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
        self._rng = np.random.default_rng(seed)
        self._size = size
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
        places = rng.uniform(0, 1, (new, 2)) * [self._size[0] - 40, self._size[1] - 80]
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


class Camera(Source):
    """A source of black pictures, each with its number in the first pixels; a detector and a model of what is there.

    Args:
        street: what is there.
        size: (width, height) of the pictures.
        frames: how many there are.
        at_end_of: called after a frame with its number.
    """

    name, fps = "street", 25.0

    def __init__(self, street: Street, size: tuple[int, int], frames: int, at_end_of: Callable[[int], None]) -> None:
        (self.width, self.height), self.length = size, frames
        self._street, self._at_end_of = street, at_end_of
        self._there: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}  # of frames on their way

    def _read(self, stride: int, report: OnBroken, start: int) -> Iterator[Frame]:
        for number in range(start, (self.length or 0) + 1, stride):
            boxes, names = self._street.frame()
            self._there[number] = boxes, names, self._street.embed(np.zeros(0), boxes)
            picture = np.zeros((self.height, self.width, 3), np.uint8)
            picture.reshape(-1)[:4] = np.frombuffer(number.to_bytes(4, "little"), np.uint8)
            yield Frame(number, (number - 1) / self.fps, (self.width, self.height), "", picture)
            self._at_end_of(number)

    def find(self, frame: Frame) -> sv.Detections:
        """The boxes of a frame."""
        boxes, names, _ = self._there[frame.number]
        return sv.Detections(xyxy=boxes, confidence=np.full(len(boxes), 0.9), class_id=names % 3)

    def embed(self, picture: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """The embeddings of a picture's boxes, (N, D). It is not asked for again."""
        return self._there.pop(int.from_bytes(picture.reshape(-1)[:4].tobytes(), "little"))[2]


@dataclass
class Parts:
    """What was there after a part of a run in parts.

    Attributes:
        frames: so far.
        milliseconds: a frame, the reading and writing included.
        megabytes: of memory.
        objects: of Python, that are alive.
        identities: the highest so far.
        parts: folders that are there.
        disk_megabytes: in them.
    """

    frames: int
    milliseconds: float
    megabytes: float
    objects: int
    identities: int
    parts: int
    disk_megabytes: float


def soak_parts(
    frames: int, objects: int, life: int, out: Path, rotate: float, keep: float, say: Callable[[Parts], None]
) -> list[Parts]:
    """Tracks a camera into parts, and gives and says what there was after each tenth.

    Args:
        frames: of the camera.
        objects: there at a time, on average.
        life: frames that each stays, on average.
        out: folder of the parts.
        rotate: seconds of the source in a part, of 25 frames each.
        keep: seconds after which a part is deleted.
        say: called with each of the results.
    """
    rows: list[Parts] = []
    begun = time.perf_counter()

    def note(number: int) -> None:
        nonlocal begun
        if number % max(frames // 10, 1):
            return
        gc.collect()
        seconds = time.perf_counter() - begun
        there = parts_of_run(out)
        size = sum(file.stat().st_size for part in there for file in part.iterdir()) / 1e6
        given: Any = tracker
        highest = int(given._associator._state.next_id) - 1
        live = len(gc.get_objects())
        cost = 1000 * seconds / max(frames // 10, 1)
        rows.append(Parts(number, cost, resident_megabytes(), live, highest, len(there), size))
        say(rows[-1])
        begun = time.perf_counter()

    out.mkdir(exist_ok=True)
    size = 640, 360
    camera = Camera(Street(objects, life, 0, size), size, frames, note)
    tracker = MasaTracker(camera)
    job = Job(camera, camera.find, {}, tracker, out, with_video=False, rotate=rotate, keep=keep)
    outcome = track_video(job)
    assert outcome.frames == frames, outcome
    assert not outcome.faults, outcome
    return rows


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
    parser.add_argument("--rotate", type=float, metavar="SECONDS", help="the whole run, in parts of so much time")
    parser.add_argument("--keep", type=float, default=60.0, metavar="SECONDS", help="after which a part is deleted")
    args = parser.parse_args()
    if args.rotate is not None:
        print("| frames | ms a frame | resident MB | live objects | identities | parts | MB on the disk |")
        print("|---|---|---|---|---|---|---|")
        with tempfile.TemporaryDirectory() as folder:
            soak_parts(
                args.frames,
                args.objects,
                args.life,
                Path(folder) / "out",
                args.rotate,
                args.keep,
                lambda now: print(
                    f"| {now.frames:,} | {now.milliseconds:.2f} | {now.megabytes:.1f} | {now.objects:,} "
                    f"| {now.identities:,} | {now.parts} | {now.disk_megabytes:.1f} |",
                    flush=True,
                ),
            )
        return
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
