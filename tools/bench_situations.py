#!/usr/bin/env python3
"""Random scenes of situations in which trackers lose identities, with known truth: ours beside other trackers.

Five kinds, each of which has several variants, which take turns over the scenes:

- glitch: similar things that hardly move; one or three frames show false boxes and almost nothing else, or the camera
  is bumped.
- belt: similar products pass one at a time, in any direction; in the pauses trackers get empty results, or are not
  called.
- returns: a thing leaves through a border, and the same one comes back, or a different one comes, through the same or
  another border, while others are in view; or a thing that is alone in the whole video comes back where it left.
- fast: sprints and turns, a dance, bouncing balls; and walkers.
- similar: similar things cross, and one box is halved for a frame, with an embedding of what is left of it.

Embeddings are scripted: a random unit vector for each thing, with a part that all have in common, and noise. Similar
things differ by less than the noise. Ours is told that the background stands still, as pictures would tell it, unless
--no-pictures is given. All trackers get the same boxes in the same random order. The other trackers are
those of `trackers` with their own settings, which use no appearance, and deep-sort-realtime (where it is installed,
e.g. in .venv-peers) with the same embeddings. The table has means over scenes with 95 % bootstrap intervals. ✗ marks
where the best other tracker has a better mean IDF1 than `ours`, beyond the interval of the paired difference.

    pip install ".[bench]"
    python tools/bench_situations.py --scenes 20
"""

from __future__ import annotations

import argparse
import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from clip_boxes import PEERS, STILL, Frame, Ours, Update, adapted, in_processes, installed, peer
from scipy.optimize import linear_sum_assignment

FPS, SIZE = 30.0, (640, 480)
FALSE = -1  # name of a false box
DIMENSION, COMMON = 64, 0.45  # of the scripted embeddings; the part that all things have in common
DISTINCT, SIMILAR = (0.0, 0.55), (0.97, 0.30)  # how similar things are in 0..1, and how noisy their embeddings
OWN = ("ours", "ours, motion alone")
DEEPSORT = "DeepSORT"
DRAWS = 2000  # of the bootstrap
SCORES = ("idf1", "switches", "extra")


@dataclass
class Scene:
    """Frames with the truth of each box.

    Attributes:
        looks: how similar things are, and the noise of embeddings.
        numbers: number of each frame in which trackers are called.
        boxes: [(N, 4) xyxy] of each.
        names: [(N,)] which thing each box is of; -1: of none.
        spoiled: (frame's place, name) of boxes whose embedding shows another thing by half.
    """

    looks: tuple[float, float] = DISTINCT
    numbers: list[int] = field(default_factory=list)
    boxes: list[np.ndarray] = field(default_factory=list)
    names: list[np.ndarray] = field(default_factory=list)
    spoiled: set[tuple[int, int]] = field(default_factory=set)
    clock: int = 0

    def show(self, things: Sequence[tuple[int, np.ndarray]]) -> None:
        """One more frame, with the names and boxes (4,) xyxy in it."""
        self.clock += 1
        self.numbers.append(self.clock)
        self.boxes.append(np.array([box for _, box in things], np.float32).reshape(-1, 4))
        self.names.append(np.array([name for name, _ in things], np.int64))

    def wait(self, frames: int, called: bool) -> None:
        """A pause without boxes, in which trackers get empty results or are not called."""
        for _ in range(frames):
            if called:
                self.show([])
            else:
                self.clock += 1


def box(centre: np.ndarray, size: Sequence[float] | np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(4,) xyxy with errors of a pixel."""
    half = np.asarray(size) / 2
    return np.concatenate((centre - half, centre + half)) + rng.normal(0, 1, 4)


def apart(rng: np.random.Generator, count: int, distance: float, margin: float = 60.0) -> np.ndarray:
    """(count, 2) places in the picture, as far apart as is possible up to ``distance`` pixels."""
    places: list[np.ndarray] = []
    while len(places) < count:
        place = rng.uniform([margin, margin], [SIZE[0] - margin, SIZE[1] - margin])
        if all(np.linalg.norm(place - other) >= distance for other in places):
            places.append(place)
        distance *= 0.995
    return np.array(places).reshape(count, 2)


def glitch(rng: np.random.Generator, variant: str) -> Scene:
    """Similar things; one or three frames of misses with false boxes, or a bump of the camera."""
    scene, count = Scene(SIMILAR), int(rng.integers(4, 11))
    places, size = apart(rng, count, 95), rng.uniform([30, 45], [45, 70])
    speeds, start = rng.normal(0, 0.3, (count, 2)), int(rng.integers(40, 80))
    last = start + (1 if variant == "one frame" else 3)
    shift = rng.uniform(0.3, 1.2) * np.sqrt(size.prod()) * unit(rng.normal(size=2))
    stays = rng.random() < 0.5
    false = rng.uniform([40, 40], [SIZE[0] - 40, SIZE[1] - 40], (int(rng.integers(1, 4)), 2))
    for at in range(120):
        here = places + speeds * at
        if variant == "bump" and start <= at and (stays or at < last):
            here = here + shift
        if variant != "bump" and start <= at < last:
            scene.show([(FALSE, box(centre, size, rng)) for centre in false])
        else:
            scene.show([(name, box(centre, size, rng)) for name, centre in enumerate(here)])
    return scene


def belt(rng: np.random.Generator, variant: str) -> Scene:
    """Similar products, one at a time."""
    scene, side = Scene(SIMILAR), float(rng.uniform(40, 70))
    along, backward = int(rng.integers(2)), bool(rng.integers(2))
    speed, pause = float(rng.uniform(5, 14)), int(rng.integers(5, 60))
    across = float(rng.uniform(100, SIZE[1 - along] - 100))
    for product in range(6):
        way = np.arange(side / 2, SIZE[along] - side / 2, speed)
        for place in way[::-1] if backward else way:
            centre = np.array([place, across] if along == 0 else [across, place])
            scene.show([(product, box(centre, (side, side), rng))])
        scene.wait(pause, variant == "empty results")
    return scene


def returns(rng: np.random.Generator, variant: str) -> Scene:
    """A thing leaves through a border; it, or another one, comes through the same or another border."""
    scene, size = Scene(DISTINCT), np.array([40.0, 100.0])
    leaves, left_at = int(rng.integers(2)), float(rng.uniform(100, 240))
    enters = leaves if variant == "alone" or rng.random() < 0.5 else 1 - leaves  # 0: left border, 1: right border
    entered_at = left_at + rng.normal(0, 20) if variant == "alone" else float(rng.uniform(100, 240))
    count = 0 if variant == "alone" else int(rng.integers(2, 5))
    others = [np.array([place[0], 380 + 20 * number % 40]) for number, place in enumerate(apart(rng, count, 90))]
    speed = rng.uniform(2.5, 4)

    def frame(thing: tuple[int, np.ndarray] | None) -> None:
        company = [(number + 2, box(place + rng.normal(0, 0.5, 2), size, rng)) for number, place in enumerate(others)]
        scene.show(company + ([] if thing is None else [(thing[0], box(thing[1], size, rng))]))

    steps = np.arange(0, 230, speed)
    for gone in steps[::-1]:
        frame((0, np.array([20 + gone if leaves == 0 else SIZE[0] - 20 - gone, left_at])))
    for _ in range(int(rng.integers(30, 300))):
        frame(None)
    name = 1 if variant == "newcomer" else 0
    for come in steps:
        frame((name, np.array([20 + come if enters == 0 else SIZE[0] - 20 - come, entered_at])))
    return scene


def fast(rng: np.random.Generator, variant: str) -> Scene:
    """Things of one look that move fast; walkers do not."""
    scene, count = Scene(SIMILAR), int(rng.integers(4, 8))
    size = np.array([14.0, 14.0] if variant == "balls" else [30.0, 70.0])
    low, high = np.array([60.0, 80.0]), np.array([580.0, 400.0])
    places, goals = rng.uniform(low, high, (count, 2)), rng.uniform(low, high, (count, 2))
    speeds = np.zeros((count, 2))
    if variant == "balls":
        speeds = np.array([rng.uniform(4, 12) * unit(rng.normal(size=2)) for _ in range(count)])
    if variant == "walkers":
        ways = np.stack((rng.choice([-1, 1], count), rng.normal(0, 0.1, count)), axis=1)
        speeds = rng.uniform(0.8, 1.6, (count, 1)) * ways
        places[:, 1] = np.linspace(low[1], high[1], count)
    swing, rate = rng.uniform(40, 110, (count, 2)), rng.uniform(0.06, 0.14, (count, 2))
    phase = rng.uniform(0, 7, (count, 2))
    centres = apart(rng, count, 110, 130)
    for at in range(200):
        if variant == "sprint":
            ahead = goals - places
            far = np.maximum(np.linalg.norm(ahead, axis=1, keepdims=True), 1)
            speeds = speeds + np.clip(ahead / far * np.minimum(0.15 * far, 8) - speeds, -1.6, 1.6)
            arrived = far[:, 0] < 25
            goals[arrived] = rng.uniform(low, high, (int(arrived.sum()), 2))
        places = places + speeds
        if variant == "balls":
            inward = np.sign((low + high) / 2 - places) * np.abs(speeds)
            speeds = np.where((places < low) | (places > high), inward, speeds)
        if variant == "dance":
            places = centres + swing * np.sin(rate * at + phase)
        inside = ((places > size / 2) & (places < np.array(SIZE) - size / 2)).all(axis=1)
        scene.show([(name, box(places[name], size, rng)) for name in np.flatnonzero(inside).tolist()])
    return scene


def similar(rng: np.random.Generator, variant: str) -> Scene:
    """Similar things cross smoothly; now and then a box is halved for a frame while another thing is near."""
    scene, count = Scene(SIMILAR), 3 if variant == "three" else int(rng.integers(4, 7))
    side = rng.uniform([30, 30], [45, 60])
    rate, phase = rng.uniform(0.01, 0.035, (count, 2)), rng.uniform(0, 7, (count, 2))
    swing = rng.uniform(40, 120, (count, 2))
    halved = set(rng.choice(np.arange(30, 170), 10, replace=False).tolist())
    for at in range(200):
        places = np.array(SIZE) / 2 + swing * np.sin(rate * at + phase)
        boxes = [box(place, side, rng) for place in places]
        if at in halved:
            distances = np.linalg.norm(places[:, None] - places, axis=2) + np.diag(np.full(count, np.inf))
            near = int(distances.min(axis=1).argmin())
            edge = int(rng.integers(4))
            boxes[near][edge] = (boxes[near][edge] + boxes[near][(edge + 2) % 4]) / 2
            scene.spoiled.add((at, near))
        scene.show(list(enumerate(boxes)))
    return scene


KINDS: dict[str, tuple[Callable[[np.random.Generator, str], Scene], tuple[str, ...]]] = {
    "glitch": (glitch, ("one frame", "three frames", "bump")),
    "belt": (belt, ("empty results", "no calls")),
    "returns": (returns, ("same thing", "newcomer", "alone")),
    "fast": (fast, ("sprint", "dance", "balls", "walkers")),
    "similar": (similar, ("three", "more")),
}


def unit(vector: np.ndarray) -> np.ndarray:
    """The vector at length 1."""
    return np.asarray(vector / np.linalg.norm(vector))


def make(kind: str, number: int) -> tuple[str, Scene]:
    """Scene ``number`` of a kind, which is always the same one, and its variant."""
    maker, variants = KINDS[kind]
    variant = variants[number % len(variants)]
    return variant, maker(np.random.default_rng([zlib.crc32(kind.encode()), number]), variant)


def frames_of(scene: Scene, rng: np.random.Generator, pictures: bool = True) -> list[tuple[Frame, np.ndarray]]:
    """What trackers get in each frame, with scripted embeddings, in random order, and the names (N,) of the boxes."""
    alike, noise = scene.looks
    common, shared = (unit(rng.normal(size=DIMENSION)) for _ in range(2))
    own: dict[int, np.ndarray] = {}

    def look(name: int) -> np.ndarray:
        if name == FALSE or name not in own:
            new = unit((1 - alike) * unit(rng.normal(size=DIMENSION)) + alike * shared)
            own[name] = unit(np.sqrt(1 - COMMON**2) * new + COMMON * common)
        return own[name]

    given = []
    for place, (number, boxes, names) in enumerate(zip(scene.numbers, scene.boxes, scene.names, strict=True)):
        order = rng.permutation(len(names))
        embeddings = np.zeros((len(names), DIMENSION), np.float32)
        for row, name in enumerate(names[order].tolist()):
            shown = look(name) + noise * unit(rng.normal(size=DIMENSION))
            if (place, name) in scene.spoiled:
                shown = unit(shown) + unit(rng.normal(size=DIMENSION))
            embeddings[row] = unit(shown)
        count = len(names)
        scores, labels = np.full(count, 0.9), np.zeros(count, np.int64)
        seen = Frame(number, boxes[order], scores, labels, embeddings, thumbnail=STILL if pictures else None)
        given.append((seen, names[order]))
    return given


def score(names: Sequence[np.ndarray], ids: Sequence[np.ndarray]) -> dict[str, float]:
    """IDF1, switches, identities beyond the true number, and that number; each box is of the thing it is named after.

    Args:
        names: (N,) true things of each frame's boxes; -1: a false box.
        ids: (N,) identities of them; -1: none.
    """
    true, found = np.concatenate(names), np.concatenate(ids)
    things, given = np.unique(true[true >= 0]), np.unique(found[found >= 0])
    both = (true >= 0) & (found >= 0)
    pairs = np.zeros((len(things), max(len(given), 1)))
    np.add.at(pairs, (np.searchsorted(things, true[both]), np.searchsorted(given, found[both])), 1)
    rows, columns = linear_sum_assignment(-pairs)
    idf1 = 2 * pairs[rows, columns].sum() / ((true >= 0).sum() + (found >= 0).sum())
    switches = sum(int((np.diff(found[both & (true == thing)]) != 0).sum()) for thing in things)
    return {"idf1": float(idf1), "switches": switches, "extra": len(given) - len(things), "things": len(things)}


def other(name: str) -> Update:
    """A tracker of another library; InputError: it is not installed."""
    return adapted("deepsort", SIZE) if name == DEEPSORT else peer(PEERS[name], with_frames=False)


class Task(NamedTuple):
    """One scene, the trackers to try, and options of ours."""

    kind: str
    number: int
    trackers: tuple[str, ...]
    options: dict[str, Any]
    pictures: bool = True


def run(task: Task) -> list[dict[str, Any]]:
    """The scores of each tracker on a scene."""
    variant, scene = make(task.kind, task.number)
    given = frames_of(scene, np.random.default_rng([1, zlib.crc32(task.kind.encode()), task.number]), task.pictures)
    table = []
    for name in task.trackers:
        if name in OWN:
            alone = {} if name == "ours" else {"use_appearance": False}
            update: Update = Ours(FPS, SIZE, None, {**task.options, **alone})
        else:
            update = other(name)
        ids = [update(frame) for frame, _ in given]
        entry = {"kind": task.kind, "variant": variant, "scene": task.number, "tracker": name}
        table.append({**entry, **score([names for _, names in given], ids)})
    return table


def interval(values: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """The 95 % bootstrap interval of the mean of (N,) values."""
    means = values[rng.integers(len(values), size=(DRAWS, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def lines_of(table: Sequence[dict[str, Any]], title: str, trackers: Sequence[str]) -> list[str]:
    """A row of the Markdown table for each tracker, all on the same scenes."""
    rng = np.random.default_rng(0)
    values = {
        name: {of: np.array([entry[of] for entry in table if entry["tracker"] == name], float) for of in SCORES}
        for name in trackers
    }
    others = [name for name in trackers if name not in OWN]
    best = max(others, key=lambda name: values[name]["idf1"].mean()) if others else None
    lost = best is not None and interval(values[best]["idf1"] - values["ours"]["idf1"], rng)[0] > 0
    things = np.mean([entry["things"] for entry in table])
    lines = []
    for name in trackers:
        cells = []
        for of in SCORES:
            low, high = interval(values[name][of], rng)
            digits, more = (3, 0.0) if of == "idf1" else (1, things if of == "extra" else 0.0)
            shown = f"{values[name][of].mean() + more:.{digits}f} [{low + more:.{digits}f}, {high + more:.{digits}f}]"
            cells.append(shown + (f" of {things:.1f}" if of == "extra" else ""))
        mark = f"✗ {best}" if lost and name == "ours" else ""
        lines.append(f"| {title} | {len(values[name]['idf1'])} | {name} | {' | '.join(cells)} | {mark} |")
    return lines


def main() -> None:
    """Prints a block of rows for each kind, and for each of its variants."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS), help="default: all")
    parser.add_argument("--scenes", type=int, default=20, metavar="N", help="of each kind (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="number of the first scene, for other ones")
    every = [*OWN, *PEERS, DEEPSORT]
    parser.add_argument("--trackers", nargs="+", choices=every, default=every, metavar="NAME", help="default: all")
    parser.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE", help="change an option of ours")
    parser.add_argument("--no-pictures", action="store_true", help="ours is not told that the background stands still")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes (default: %(default)s)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the scores of all scenes as JSON, too")
    args = parser.parse_args()
    from masa_track.cli.track import parse_options

    trackers = installed(list(dict.fromkeys(["ours", *args.trackers])), OWN, other)
    numbers = range(args.first, args.first + args.scenes)
    tasks = [
        Task(kind, number, trackers, parse_options(args.set), not args.no_pictures)
        for kind in args.kinds
        for number in numbers
    ]
    done = {(task.kind, task.number): table for task, table in in_processes(args.jobs, run, tasks)}
    table = [entry for task in tasks for entry in done[task.kind, task.number]]
    print("| kind | scenes | tracker | IDF1 | switches | identities | lost |\n|---|---|---|---|---|---|---|")
    for kind in args.kinds:
        of = [entry for entry in table if entry["kind"] == kind]
        print("\n".join(lines_of(of, f"**{kind}**", trackers)))
        for variant in KINDS[kind][1]:
            some = [entry for entry in of if entry["variant"] == variant]
            if some:
                print("\n".join(lines_of(some, f"{kind}: {variant}", trackers)))
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
