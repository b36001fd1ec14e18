"""Identity errors of concepts, with and without appearance, over random scenes with scripted masks and embeddings.

    python tools/bench_concepts.py                     # 50 scenes of each kind
    python tools/bench_concepts.py --options margin=0.5 return_odds=-0.5

No picture and no network is used: the detector and the propagator are those of tests/scripted_concepts.py, which lose
an object that leaves. Embeddings are drawn so that their cosines are those measured for nano (nano.prior.json): of one
object .78 from frame to frame, falling to .47 after 3 s and more; of different objects .20 +- .13; of similar objects
from .45 on, whatever the gap. ``--literal`` reads the figures of the prior as cosines: .58 falling to .27.

Kinds of scenes, 40 s at 5 frames a second, with 4 to 8 objects that are away for 2 to 20 s once or twice:

- ``returns``: different objects;
- ``twins``: pairs of similar objects, both of which leave;
- ``newcomers``: each object is there once, so that nothing returns;
- ``cuts``: different objects, and two cuts, after which all stand elsewhere.

An error is an appearance of an object whose identity is not the one that the object had before: ``new``, a fresh
identity, or ``wrong``, that of another object. The first appearance of an object is only wrong if it gets that of
another one. Intervals: 95 %, of 1,000 bootstrap samples of the scenes.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from importlib.util import module_from_spec, spec_from_file_location
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from masa_track.association import AppearancePrior
from masa_track.masklets.concept_identities import IdentityOptions
from masa_track.masklets.concept_options import ConceptOptions
from masa_track.masklets.concepts import ConceptTracker

ROOT = Path(__file__).resolve().parents[1]
PRIOR = ROOT / "masa_track" / "models" / "weights" / "nano.prior.json"
KINDS = ("returns", "twins", "newcomers", "cuts")
APPEARANCE = ("off", "prior", "learned")  # no embedder; nano's prior; no prior
FPS, FRAMES = 5, 200
DIMENSION = 48  # so that looks of different objects have cosines with a deviation of .13
DIFFERENT, LATE, FIRST, SIMILAR = 0.20, 0.27, 0.58, 0.25  # cosines: the first as such, the others above it
DRIFT_SECONDS = 0.6  # after which the drift of a look has decayed to 1 / e


def scripted() -> Any:
    """The module tests/scripted_concepts.py."""
    path = ROOT / "tests" / "scripted_concepts.py"
    spec = spec_from_file_location("scripted_concepts", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def unit(vector: np.ndarray) -> np.ndarray:
    """(..., D) of length 1."""
    return np.asarray(vector / np.linalg.norm(vector, axis=-1, keepdims=True))


def looks(rng: np.random.Generator, families: list[int], literal: bool) -> np.ndarray:
    """(N, frames, D) embeddings of N objects; those of one family are similar.

    A look is the sum of what all have in common, what is the object's own, what drifts, and what is new in each frame,
    with parts of the squared length that give the cosines.
    """
    count = len(families)
    different, late, first = DIFFERENT, LATE, FIRST
    if literal:
        late, first = LATE - DIFFERENT, FIRST - DIFFERENT

    def direction(*shape: int) -> np.ndarray:
        return unit(rng.normal(0, 1, (*shape, DIMENSION)))

    family = direction(max(families) + 1)[families]
    shared = np.array([families.count(one) > 1 for one in families])[:, None] * min(SIMILAR / late, 0.93)
    own = unit(np.sqrt(shared) * family + np.sqrt(1 - shared) * direction(count))
    keep = np.exp(-1 / FPS / DRIFT_SECONDS)
    drift = np.empty((count, FRAMES, DIMENSION))
    drift[:, 0] = direction(count)
    for t in range(1, FRAMES):
        drift[:, t] = keep * drift[:, t - 1] + np.sqrt(1 - keep**2) * direction(count)
    return np.asarray(
        np.sqrt(different) * direction(1)
        + np.sqrt(late) * own[:, None]
        + np.sqrt(first - late) * unit(drift)
        + np.sqrt(1 - different - first) * direction(count, FRAMES),
        np.float32,
    )


def intervals(rng: np.random.Generator, kind: str) -> list[tuple[int, int]]:
    """(first, last) frames of an object's appearances."""

    def frames(low: float, high: float) -> int:
        return int(FPS * rng.uniform(low, high))

    start = 1 + frames(0, 5)
    if kind == "newcomers":
        start = 1 + frames(0, 34)
        return [(start, min(start + frames(4, 15), FRAMES))]
    found = []
    for _ in range(int(rng.integers(2, 4))):
        end = start + frames(3, 12)
        found.append((start, min(end, FRAMES)))
        start = end + frames(2, 20)
        if start > FRAMES - 3 * FPS:
            break
    return found


def world_of(
    module: Any, rng: np.random.Generator, kind: str, literal: bool
) -> tuple[Any, list[list[tuple[int, int]]]]:
    """A random scene, and the appearances of its objects."""
    count = int(rng.integers(4, 9))
    families = [k // 2 for k in range(count)] if kind == "twins" else list(range(count))
    cuts = sorted(rng.integers(6 * FPS, FRAMES - 6 * FPS, 2).tolist()) if kind == "cuts" else []
    shown = [[(1, FRAMES)] if kind == "cuts" else intervals(rng, kind) for _ in range(count)]
    look = looks(rng, families, literal)
    grid = [(13 + 20 * x, 11 + 18 * y) for x in range(6) for y in range(5)]
    places = rng.permutation(len(grid))  # one for each object and part of the video, so that nothing is covered

    def thing(k: int) -> Any:
        def at(n: int) -> tuple[float, float] | None:
            for part, (first, last) in enumerate(shown[k]):
                if first <= n <= last:
                    stay = part if kind != "cuts" else sum(n >= cut for cut in cuts)
                    x, y = grid[places[stay * count + k]]
                    return x + 2 * np.sin(n / 7 + k), y + 2 * np.cos(n / 9 + k)
            return None

        return module.Thing(at, radius=6.0, look=lambda n: look[k, n - 1])

    things = [thing(k) for k in range(count)]
    world = module.World(things, scenes=cuts, fps=FPS, memory=4)
    if kind == "cuts":
        edges = [1, *cuts, FRAMES + 1]
        shown = [[(a, b - 1) for a, b in pairwise(edges) if b > a] for _ in range(count)]
    return world, shown


def errors_of(world: Any, shown: list[list[tuple[int, int]]], embedder: Any, options: Any) -> Counter[str]:
    """Appearances, returns, and errors in a scene."""
    logic = ConceptOptions(hole_area=0)  # masks have no holes
    tracker = ConceptTracker(world, "ball", options=logic, embedder=embedder, identity_options=options)
    results = [result for number in range(1, FRAMES + 1) for result in tracker.step(world.frame(number))]
    results += tracker.finish()
    owner: dict[int, int] = {}
    identity_of: dict[int, int] = {}
    counted: Counter[str] = Counter()
    order = sorted((first, last, k) for k, parts in enumerate(shown) for first, last in parts)
    for first, last, k in order:
        votes: Counter[int] = Counter()
        for result in results[first - 1 : last]:
            found, centre = result.detections, np.array(world.things[k].at(result.frame.number))
            centres = (found.xyxy[:, :2] + found.xyxy[:, 2:]) / 2
            distance = np.linalg.norm(centres - centre, axis=1) if len(found) else np.array([np.inf])
            if distance.min() < 4:
                votes[int(np.asarray(found.tracker_id)[distance.argmin()])] += 1
        if not votes:
            counted["unseen"] += 1
            continue
        identity = votes.most_common(1)[0][0]
        counted["appearances"] += 1
        counted["returns"] += k in identity_of
        if owner.setdefault(identity, k) != k:
            counted["wrong"] += 1
        elif identity_of.get(k, identity) != identity:
            counted["new"] += 1
        identity_of.setdefault(k, identity)
    return counted


def interval(scenes: list[Counter[str]], name: str) -> str:
    """A sum over scenes, and its 95 % interval, per scene."""
    values = np.array([scene[name] for scene in scenes])
    rng = np.random.default_rng(0)
    means = rng.choice(values, (1000, len(values))).mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return f"{values.mean():.2f} [{low:.2f}, {high:.2f}]"


def main() -> None:
    """Runs the scenes and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=50, help="of each kind")
    parser.add_argument("--seed", type=int, default=0, help="of the first scene")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--appearance", nargs="+", choices=APPEARANCE, default=APPEARANCE)
    parser.add_argument("--literal", action="store_true", help="the prior's figures are cosines")
    parser.add_argument("--options", nargs="*", default=[], metavar="NAME=VALUE", help="of IdentityOptions")
    arguments = parser.parse_args()
    changed = dict(option.split("=", 1) for option in arguments.options)
    defaults = IdentityOptions()
    options = IdentityOptions(**{name: type(getattr(defaults, name))(value) for name, value in changed.items()})
    module, prior = scripted(), AppearancePrior.load(PRIOR)
    print("errors per scene: mean [95 % interval]")
    print("| scenes | appearance | returns | new | wrong | errors |\n|---|---|---|---|---|---|")
    for kind in arguments.kinds:
        for name in arguments.appearance:
            scenes = []
            for seed in range(arguments.seed, arguments.seed + arguments.scenes):
                world, shown = world_of(
                    module, np.random.default_rng([seed, KINDS.index(kind)]), kind, arguments.literal
                )
                embedder = None if name == "off" else module.Looks(world, prior if name == "prior" else None)
                counted = errors_of(world, shown, embedder, options)
                counted["errors"] = counted["new"] + counted["wrong"]
                scenes.append(counted)
            cells = " | ".join(interval(scenes, column) for column in ("returns", "new", "wrong", "errors"))
            print(f"| {kind} | {name} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
