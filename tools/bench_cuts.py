#!/usr/bin/env python3
"""Identities after cuts: real clips one after another, and cut back to where they were left.

`others` plays the first frames of each clip in turn, in several orders: nothing returns, so each identity of the
scene before is wrong. `back` goes from one clip to another and back: all objects should get their identities again.
True boxes, every frame. The table has the IDF1 with the shipped model, that of the trackers of `trackers`, and the
number of identities wrongly given to objects of two clips. Each frame is embedded once, which takes some three minutes
on two cores for the four clips below.

    pip install ".[bench]"
    python tools/bench_cuts.py ../shared/clips/mot15/* ../shared/clips/collage_dev
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import islice, permutations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from clip_boxes import PEERS, Frame, Ours, frames_of, peer, read_boxes, tracks_of
from tqdm import tqdm

import masa_track
from masa_track.association import AppearancePrior
from masa_track.errors import InputError
from masa_track.evaluation import MotRows, score_sequences

FPS = 25.0
OWN = 1000  # identities of clip i are counted from i times this


class Shown(NamedTuple):
    """A frame of a clip: boxes (N, 4) xyxy, true identities (N,), embeddings (N, D), the picture."""

    boxes: np.ndarray
    names: np.ndarray
    embeddings: np.ndarray
    picture: np.ndarray


def scene(clip: Path, number: int, length: int, model: Any) -> list[Shown]:
    """The first frames of a clip."""
    _, total, _, frames = frames_of(clip)
    truth = read_boxes(clip, "gt")
    found: list[Shown] = []
    for at, picture in tqdm(islice(frames, length), desc=clip.name, total=min(length, total), leave=False):
        if picture is None:
            raise InputError(f"{clip}: the clip must have pictures: img1/ or a video")
        here = truth.at(at)
        boxes = truth.boxes[here]
        found.append(Shown(boxes, truth.names[here] + OWN * number, model.embed(picture, boxes), picture))
    return found


def films(scenes: list[list[Shown]]) -> Iterator[tuple[str, list[Shown]]]:
    """Each film, and which kind it is of."""
    for first in range(len(scenes)):
        yield "others", [frame for each in scenes[first:] + scenes[:first] for frame in each]
    for one, other in permutations(scenes, 2):
        half = len(one) // 2
        yield "back", [*one[:half], *other[: len(other) // 2], *one[half:]]


def play(film: list[Shown], name: str, prior: AppearancePrior | None) -> tuple[float, int]:
    """IDF1 of a tracker, and the number of its identities that objects of two clips had."""
    height, width = np.max([frame.picture.shape[:2] for frame in film], axis=0).tolist()
    update = Ours(FPS, (width, height), prior, {}) if name == "ours" else peer(PEERS[name], with_frames=True)
    tracked, true = [], []
    clips: dict[int, set[int]] = {}
    for number, frame in enumerate(film, start=1):
        count = len(frame.boxes)
        labels = np.zeros(count, np.int64)
        ids = update(Frame(number, frame.boxes, np.ones(count), labels, frame.embeddings, frame.picture))
        tracked.append((number, ids, frame.boxes))
        true.append((number, frame.names, frame.boxes))
        for identity, own in zip(ids.tolist(), frame.names.tolist(), strict=True):
            if identity >= 0:
                clips.setdefault(identity, set()).add(own // OWN)
    truth: MotRows = tracks_of(true)
    score = score_sequences({"film": (truth, tracks_of(tracked))}).combined.idf1
    return score, sum(len(of) > 1 for of in clips.values())


def main() -> None:
    """Prints a row for each kind of film."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, nargs="+", help="two or more folders with gt/gt.txt and frames")
    parser.add_argument("--frames", type=int, default=60, metavar="N", help="of each clip (default: %(default)s)")
    parser.add_argument("--model", default="nano", metavar="NAME", help="default: %(default)s")
    args = parser.parse_args()
    if len(args.clips) < 2:
        parser.error(f"clips must be two or more, got {len(args.clips)}: a cut needs something to cut to")
    model = masa_track.load(args.model)
    scenes = [scene(clip, number, args.frames, model) for number, clip in enumerate(args.clips)]
    names = ["ours", *PEERS]
    results: dict[str, list[list[tuple[float, int]]]] = {}
    for kind, film in tqdm(list(films(scenes)), desc="films", leave=False):
        results.setdefault(kind, []).append([play(film, name, model.prior) for name in names])
    print(f"| films | {' | '.join(f'IDF1 {name}' for name in names)} | {' | '.join(f'shared {n}' for n in names)} |")
    print(f"|---|{'---|' * 2 * len(names)}")
    for kind, rows in results.items():
        table = np.array(rows)  # (films, trackers, 2)
        cells = [f"{value:.3f}" for value in table[..., 0].mean(axis=0)]
        cells += [f"{value:.0f}" for value in table[..., 1].sum(axis=0)]
        print(f"| {kind}, {len(rows)} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
