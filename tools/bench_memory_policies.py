#!/usr/bin/env python3
"""Compares the memory policies of SAM 2's session in scripted scenes with an object and a look-alike.

The session is the real one; the network is scripted, so that the policies alone make the difference. Its rules:

- A memory shows as much of each thing as its mask covers, and nothing where the mask is empty.
- Three candidates: the object, the look-alike, and both. The predicted IoU of a thing that can be seen is .55 + .35 x
  its share of the memories that the frame is compared with + noise (standard deviation .06); that of both is .05 less
  than their mean.
- The object score is 5 where the object can be seen. Where only the look-alike can be seen it is 5 with a probability
  of .1 + .8 x the look-alike's share, otherwise -5.

Printed is the share of the frames from the event on in which the mask is right: IoU of .5 or more with the object, or
empty where the object cannot be seen.

    python tools/bench_memory_policies.py --runs 10
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from masa_track.contracts import Frame, Prompt
from masa_track.masklets.memory import POLICIES, Selection
from masa_track.masklets.sam2 import ABSENT, MASK_LOGIT, Decoded
from masa_track.masklets.session import MaskletSession, SessionOptions
from masa_track.masks import as_mask

SIDE = 64  # pixels of masks; pictures have the same size
FRAMES, EVENT, OVER = 100, 30, 60  # frames of a scene; from and to which something happens
_THING = 12  # pixels of each side
_NOISE = 0.06
SCENES = ("crossing", "absence", "neighbour")


def places(scene: str, number: int) -> tuple[tuple[int, int] | None, tuple[int, int]]:
    """Upper left corners x, y of the object (None: it cannot be seen) and of the look-alike in a frame from 1.

    crossing: they walk through each other; the object is behind the look-alike for 6 frames.
    absence: the object is gone for 30 frames and comes back where it was.
    neighbour: the look-alike comes close and stays there.
    """
    if scene == "crossing":
        x = min(max(number - EVENT + 24, 0), 48)
        hidden = abs(x - 24) <= 3
        return None if hidden else (x, 26), (48 - x, 26)
    if scene == "absence":
        return (8, 8) if not EVENT <= number < OVER else None, (40, 40)
    return (20, 26), (max(48 - max(number - EVENT + 10, 0), 34), 26)


def mask_at(place: tuple[int, int] | None) -> np.ndarray:
    """(SIDE, SIDE) bool mask of a thing."""
    mask = np.zeros((SIDE, SIDE), bool)
    if place is not None:
        mask[place[1] : place[1] + _THING, place[0] : place[0] + _THING] = True
    return mask


class ScriptedNetwork:
    """What the session calls of a :class:`~masa_track.masklets.sam2.Sam2Network`, by the rules above.

    Args:
        scene: of :data:`SCENES`.
        seed: of the noise.
    """

    side, name, key, most_pointers = 4 * SIDE, "scripted", "scripted", 16
    device, memory_dtype = torch.device("cpu"), torch.float32
    model = SimpleNamespace(config=SimpleNamespace(multimask_output_for_tracking=True))
    memory_positions, no_object_pointer = torch.zeros(1, 2), torch.zeros(1)
    many_for = range(2)

    def __init__(self, scene: str, seed: int) -> None:
        self.scene, self._random = scene, np.random.default_rng(seed)

    def prepare(self, image: np.ndarray) -> int:
        """The number of a frame is in its first pixel."""
        return int(image[0, 0, 0])

    def encode(self, pixels: int) -> tuple[np.ndarray, np.ndarray]:
        """The masks of both things, what can be seen of them."""
        own, other = (mask_at(place) for place in places(self.scene, pixels))
        return own & ~other, other

    def condition(self, maps: Any, selections: Sequence[Selection], pointers: int) -> Tensor:
        """(N, 2) mean shares of the things in the memories."""
        return torch.stack([torch.stack([e.memory[0] for _, e in each.memories]).mean(0) for each in selections])

    def decode(self, maps: Any, seen: Tensor, many: bool) -> Decoded:
        """The candidates for each object."""
        masks = np.array([maps[0], maps[1], maps[0] | maps[1]])
        qualities, scores = [], []
        for shares in seen.numpy():
            noise = self._random.normal(0, _NOISE, 2)
            own, other = np.where([maps[0].any(), maps[1].any()], 0.55 + 0.35 * shares + noise, 0.0)
            qualities.append([own, other, (own + other) / 2 - 0.05])
            mistaken = self._random.random() < 0.1 + 0.8 * shares[1]
            scores.append(5.0 if maps[0].any() or mistaken else -5.0)
        there = torch.tensor(scores) > 0
        logits = torch.from_numpy(np.where(masks, MASK_LOGIT, -MASK_LOGIT)).float().expand(len(seen), -1, -1, -1)
        return Decoded(
            torch.where(there[:, None, None, None], logits, ABSENT),
            torch.tensor(qualities).float(),
            torch.zeros(len(seen), 3, 1),
            torch.tensor(scores),
        )

    def decode_mask(self, maps: Any, mask: Tensor) -> tuple[Tensor, Tensor, None]:
        """A mask that was given."""
        return torch.where(mask, MASK_LOGIT, -MASK_LOGIT), torch.zeros(1), None

    def memorise(self, maps: Any, masks: Tensor, hard: Tensor, scores: Tensor) -> Tensor:
        """(N, 1, 2) how much of each thing the masks cover."""
        shown = (masks > 0).numpy() & (scores > 0).numpy()[:, None, None]
        covered = [[(mask & thing).sum() / max(thing.sum(), 1) for thing in maps] for mask in shown]
        return torch.tensor(covered)[:, None].float()


def score(policy: str, scene: str, seed: int) -> float:
    """The share of right frames from the event on."""
    session = MaskletSession(ScriptedNetwork(scene, seed), SessionOptions(memory=policy))  # type: ignore[arg-type]
    right = []
    for number in range(1, FRAMES + 1):
        image = np.full((SIDE, SIDE, 3), number, np.uint8)
        own, _ = places(scene, number)
        if number == 1:
            session.open(Frame(1, 0.0, (SIDE, SIDE), image=image))
            session.prompt(1, Prompt(mask=mask_at(own)))
        shown = session.propose(Frame(number, number / 25, (SIDE, SIDE), image=image)) if number > 1 else None
        session.commit()
        if shown is not None and number >= EVENT:
            mask, truth = as_mask(np.asarray(shown.masks[0]), (SIDE, SIDE)), mask_at(own)
            right.append(not mask.any() if own is None else (mask & truth).sum() >= 0.5 * (mask | truth).sum())
    return float(np.mean(right))


def main(argv: list[str] | None = None) -> None:
    """Prints a row for each policy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10, help="of each scene, with other noise (default: %(default)s)")
    args = parser.parse_args(argv)
    print("policy      " + "".join(f"{scene:>12}" for scene in SCENES))
    for policy in tqdm(POLICIES, desc="policies", leave=False):
        means = [np.mean([score(policy, scene, seed) for seed in range(args.runs)]) for scene in SCENES]
        print(f"{policy:12}" + "".join(f"{mean:12.2f}" for mean in means), flush=True)


if __name__ == "__main__":
    main()
