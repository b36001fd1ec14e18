#!/usr/bin/env python3
"""Identities by embeddings of an unknown model: scripted families, with three kinds of prior.

Each family scripts the cosines of different objects, in one frame and over time, and those of an object with
itself. Three scenarios are tracked with it, by the preset `default`:

- newcomers: an object leaves, and another one appears, 1 to 6 seconds later;
- returns: the same, but it is the object that left;
- crossings: of two objects of almost the same motion one hides the other for a second, and passes it or falls back.

0 to 3 other objects stand beside them, by the run. Priors: learned from the video alone (`learned`), fitted on other
scenes of the family by the method of `fit_appearance.py` (`fitted`), and that of the shipped model (`nano`). The table
has the mean IDF1 and the number of runs with an identity error: an identity with two objects, or an object with two
identities.

    python tools/bench_calibration.py --runs 20
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from fit_appearance import fitted_prior

from masa_track.association import AppearancePrior, FusedAssociator
from masa_track.association.gallery import unit
from masa_track.evaluation import MotRows, score_sequences
from masa_track.pipeline.tuning import EmbeddedSequence
from masa_track.registry import spec_of

FPS = 10.0
SIZE = (640, 480)
STRIDES = [1, 3, 10, 30]  # gaps to fit a prior for
Frame = dict[int, np.ndarray]  # (4,) xyxy by object


@dataclass(frozen=True)
class Family:
    """How the embeddings of objects come about.

    Attributes:
        common: squared part that all objects have in common: their cosine, without noise.
        classes: number of classes, 0 for none.
        in_class: squared part that the objects of a class have in common, beside ``common``.
        light: squared part that the boxes of a frame have in common; it changes within some two seconds.
        drift: squared part of an object's embedding that changes within some two seconds.
        noise: length of the noise of each box, relative to the object's embedding.
        freedom: of Student's t, of which the noise is; inf for a normal distribution.
    """

    common: float = 0.3
    classes: int = 0
    in_class: float = 0.0
    light: float = 0.0
    drift: float = 0.0
    noise: float = 0.4
    freedom: float = np.inf


FAMILIES = {
    "common 0": Family(common=0.0),
    "common .3": Family(common=0.3),
    "common .6": Family(common=0.6),
    "common .8": Family(common=0.8),
    "classes .2/.6": Family(common=0.2, classes=3, in_class=0.4),
    "heavy tails": Family(freedom=2.5),
    "heavy tails .6": Family(common=0.6, freedom=2.5),
    "light": Family(light=0.3),
    "drift": Family(drift=0.2),
}


class Looks:
    """Embeddings of one scene; D = ``dimension``, of length 1 or of any length."""

    def __init__(self, family: Family, dimension: int, normalised: bool, seed: int) -> None:
        self.family, self.dimension, self.normalised = family, dimension, normalised
        self.rng = np.random.default_rng(seed)
        self.common = self._direction()
        self.classes = [self._direction() for _ in range(family.classes)]
        self.own: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # directions of an object and of its class
        self.moving: dict[int, tuple[float, np.ndarray]] = {}  # when each was, and directions that change

    def _direction(self) -> np.ndarray:
        return unit(self.rng.normal(size=self.dimension))

    def _changed(self, what: int, now: float) -> np.ndarray:
        """A direction that is another one after some two seconds."""
        before, direction = self.moving.get(what, (-np.inf, np.zeros(self.dimension)))
        kept = np.exp(-(now - before) / 2)
        direction = kept * direction + np.sqrt(1 - kept**2) * self._direction()
        self.moving[what] = now, direction
        return direction

    def embed(self, who: list[int], now: float) -> np.ndarray:
        """(N, D) float32 of the objects of a frame."""
        family, result = self.family, []
        light = self._changed(-1, now)
        for one in who:
            if one not in self.own:
                group = self.classes[int(self.rng.integers(family.classes))] if family.classes else self.common
                self.own[one] = self._direction(), group
            own, group = self.own[one]
            rest = 1 - family.common - family.in_class - family.light - family.drift
            look = np.sqrt(family.common) * self.common + np.sqrt(family.in_class) * group
            look = look + np.sqrt(family.light) * light + np.sqrt(family.drift) * self._changed(one, now)
            look = look + np.sqrt(rest) * own
            length = family.noise
            if np.isfinite(family.freedom):
                length *= np.sqrt(family.freedom / self.rng.chisquare(family.freedom))
            look = unit(look + length * self._direction())
            result.append(look if self.normalised else look * 10 * self.rng.lognormal(0, 0.5))
        return np.array(result, np.float32).reshape(len(who), self.dimension)


def newcomers(rng: np.random.Generator) -> list[Frame]:
    """Object 0 leaves, object 1 appears."""
    return _visits(rng, 1)


def returns(rng: np.random.Generator) -> list[Frame]:
    """Object 0 leaves and comes back."""
    return _visits(rng, 0)


def _visits(rng: np.random.Generator, second: int) -> list[Frame]:
    others, length, gap = _standing(rng), int(rng.integers(30, 60)), int(rng.integers(10, 60))
    frames: list[Frame] = [dict(others) for _ in range(2 * length + gap)]
    for start, who in ((0, 0), (length + gap, second)):
        to_right, inside = rng.random() < 0.5, rng.random() < 0.5
        first = np.array([rng.uniform(150, 490) if inside else 25.0, rng.uniform(80, 180)])
        speed = (610.0 - first[0] if not inside else rng.uniform(-100, 100)) / length
        for k in range(length):
            x = first[0] + speed * k
            frames[start + k][who] = _box(rng, x if to_right else SIZE[0] - x, first[1], 40, 90)
    return [_shaken(rng, frame, others) for frame in frames]


def crossings(rng: np.random.Generator) -> list[Frame]:
    """Objects 0 and 1 go the same way, one a little faster; it hides the other, and passes it or falls back."""
    others, length = _standing(rng), 70
    meet, y, speed = rng.uniform(25, 35), rng.uniform(100, 160), rng.uniform(2, 4)
    more, falls_back = rng.uniform(1.5, 3), rng.random() < 0.5
    frames: list[Frame] = []
    for k in range(length):
        x, apart = 120 + speed * k, more * (k - meet)
        frame = dict(others)
        frame[1] = _box(rng, x - abs(apart) if falls_back else x + apart, y + 4, 40, 90)
        if abs(apart) > 12:
            frame[0] = _box(rng, x, y, 40, 90)
        frames.append(_shaken(rng, frame, others))
    return frames


def _standing(rng: np.random.Generator) -> Frame:
    places = rng.permutation(4)[: rng.integers(0, 4)]
    return {2 + n: np.array([60.0 + 140 * at, 320, 100.0 + 140 * at, 410]) for n, at in enumerate(places.tolist())}


def _box(rng: np.random.Generator, x: float, y: float, width: float, height: float) -> np.ndarray:
    return np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2]) + rng.normal(0, 1, 4)


def _shaken(rng: np.random.Generator, frame: Frame, others: Frame) -> Frame:
    return {who: box + rng.normal(0, 1, 4) if who in others else box for who, box in sorted(frame.items())}


SCENARIOS: dict[str, Callable[[np.random.Generator], list[Frame]]] = {
    "newcomers": newcomers,
    "returns": returns,
    "crossings": crossings,
}


def sequence(scenario: str, looks: Looks, seed: int) -> EmbeddedSequence:
    """A scripted scene with its embeddings."""
    frames, rows = [], []
    for number, frame in enumerate(SCENARIOS[scenario](np.random.default_rng(seed)), start=1):
        boxes = np.array(list(frame.values())).reshape(-1, 4)
        frames.append((number, boxes, np.full(len(boxes), 0.95), looks.embed(list(frame), number / FPS)))
        rows += [(number, who, *box[:2] + 1, *box[2:] - box[:2]) for who, box in frame.items()]
    table = np.array(rows)
    truth = MotRows(table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), table[:, 2:])
    return EmbeddedSequence(scenario, FPS, SIZE, frames, truth)


def tracked(scene: EmbeddedSequence, prior: AppearancePrior | None) -> tuple[float, bool]:
    """IDF1, and whether there was an identity error."""
    associator = FusedAssociator(prior=prior, fps=FPS, first_id=1)
    ids = []
    for number, boxes, scores, embeddings in scene.frames:
        if len(boxes):
            ids.append(associator.update(boxes, scores, np.zeros(len(boxes), int), embeddings, number, SIZE))
        else:
            associator.update(boxes, scores, np.zeros(0, int), np.zeros((0, embeddings.shape[1])), number, SIZE)
    given = np.concatenate(ids)
    kept = given >= 0
    truth = scene.truth
    pairs = set(zip(truth.ids[kept].tolist(), given[kept].tolist(), strict=True))
    wrong = len(pairs) > len({one for one, _ in pairs}) or len(pairs) > len({identity for _, identity in pairs})
    rows = MotRows(truth.frames[kept], given[kept], truth.boxes[kept])
    return score_sequences({"": (truth, rows)}).combined.idf1, wrong


def fitted(family: Family, dimension: int) -> AppearancePrior:
    """The prior of a family, from scenes of all scenarios that are not tracked."""
    scenes = [
        sequence(scenario, Looks(family, dimension, True, 10_000 + n), 10_000 + n)
        for scenario in SCENARIOS
        for n in range(8)
    ]
    return fitted_prior(scenes, STRIDES, None, dimension)


def main() -> None:
    """Prints a Markdown table, a row a family, dimension and scenario."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20, metavar="N", help="of each cell (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="default: %(default)s")
    parser.add_argument("--dimensions", type=int, nargs="+", default=[64, 2096], metavar="D")
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=list(FAMILIES), metavar="NAME")
    args = parser.parse_args()
    nano = AppearancePrior.load(str(spec_of("nano").prior))
    kinds = ("learned", "fitted", "nano")
    print(f"| family | D | scenario | {' | '.join(f'{kind} | errors' for kind in kinds)} |\n|---|---|---|{'---|' * 6}")
    everything: list[np.ndarray] = []
    for name in args.families:
        for dimension in args.dimensions:
            priors = {"learned": None, "fitted": fitted(FAMILIES[name], dimension), "nano": nano}
            for scenario in SCENARIOS:
                seeds = range(args.first, args.first + args.runs)
                results = np.zeros((len(kinds), args.runs, 2))
                for run, seed in enumerate(seeds):
                    scene = sequence(scenario, Looks(FAMILIES[name], dimension, seed % 2 == 0, seed), seed)
                    results[:, run] = [tracked(scene, priors[kind]) for kind in kinds]
                cells = " | ".join(f"{idf1:.3f} | {int(wrong)}" for idf1, wrong in _summary(results))
                print(f"| {name} | {dimension} | {scenario} | {cells} |", flush=True)
                everything.append(results)
    cells = " | ".join(f"{idf1:.3f} | {int(wrong)}" for idf1, wrong in _summary(np.concatenate(everything, axis=1)))
    print(f"| all | | | {cells} |")


def _summary(results: np.ndarray) -> list[tuple[float, float]]:
    """Mean IDF1 and number of runs with an error, of (kinds, runs, 2)."""
    return list(zip(results[:, :, 0].mean(axis=1).tolist(), results[:, :, 1].sum(axis=1).tolist(), strict=True))


if __name__ == "__main__":
    main()
