#!/usr/bin/env python3
"""IDF1 with and without compensation of the camera's motion: real clips seen through a window that moves over them.

The clips' cameras stand still, so a moving window makes a camera that moves with exactly known boxes (those of which
half or more is inside, cut at its border). It sweeps to and fro, or shakes. True boxes are the detections; IDF1 with
and without `camera_motion`, by motion alone and with the shipped model, beside BoT-SORT of `trackers` with and without
its own compensation. Some .4 s a frame on two cores, .05 s with `--model none`.

    pip install ".[bench]"
    python tools/bench_camera.py ../shared/clips/mot15/TUD-Campus ../shared/clips/mot15/PETS09-S3-MF1
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from clip_boxes import Frame, frames_of, peer, tracks_of, xyxy_of
from tqdm import tqdm

import masa_track
from masa_track.association import FusedAssociator
from masa_track.errors import InputError
from masa_track.evaluation import MotRows, read_mot, score_sequences
from masa_track.video.camera_motion import CameraMotion

WINDOW = 2 / 3  # of the picture's width and height
# name: pixels a frame of the sweep, standard deviation in pixels of the shaking
PATHS = {"stands": (0.0, 0.0), "sweeps": (8.0, 0.0), "sweeps fast": (20.0, 0.0), "shakes": (0.0, 10.0)}


def corner(number: int, room: np.ndarray, speed: float, shaking: float, rng: np.random.Generator) -> np.ndarray:
    """Where the window's left upper corner is in a frame, (2,) whole pixels; ``room`` (2,) is how far it can go."""
    there = speed * number * np.array([1.0, 0.3])
    swept = np.abs((there + room / 2) % (2 * room) - room) if speed else room / 2
    return np.clip(np.round(swept + rng.normal(0, shaking, 2) if shaking else swept), 0, room).astype(int)


def views(clip: Path, path: str, stride: int) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Number, picture, boxes (N, 4) xyxy, identities (N,) and the window's corner (2,) of each frame it shows."""
    truth, rng = read_mot(clip / "gt" / "gt.txt", truth=True), np.random.default_rng(0)
    _, _, (width, height), frames = frames_of(clip)
    size = np.round(np.array([width, height]) * WINDOW).astype(int)
    for number, image in frames:
        at = corner(number, np.array([width, height]) - size, *PATHS[path], rng)
        if (number - 1) % stride:
            continue
        if image is None:
            raise InputError(f"{clip} has no pictures, in which alone a camera's motion is seen: take another clip")
        rows = truth.in_frame(number)
        whole = xyxy_of(truth.boxes[rows]) - np.tile(at, 2)
        inside = np.clip(whole, 0, np.tile(size, 2))
        kept = area(inside) >= area(whole) / 2
        (x, y), (w, h) = at.tolist(), size.tolist()
        yield number, image[y : y + h, x : x + w].copy(), inside[kept].astype(np.float32), truth.ids[rows][kept], at


def area(boxes: np.ndarray) -> np.ndarray:
    """(N,) pixels²."""
    return np.asarray((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))


def scores(clip: Path, path: str, stride: int, model: Any) -> dict[str, float]:
    """IDF1 of each way to track, by its name."""
    fps = frames_of(clip)[0]
    rng, camera = np.random.default_rng(1), CameraMotion()
    prior = getattr(model, "prior", None)
    ours = {
        f"{how}{and_camera}": (
            FusedAssociator(prior=prior, fps=fps, first_id=1, use_appearance=how == "default"),
            bool(and_camera),
        )
        for how in ("motion alone", "default")
        for and_camera in ("", " + camera")
        if how != "default" or model is not None
    }
    peers = {f"BoT-SORT{' + camera' if follow else ''}": peer("BoTSORTTracker", follow) for follow in (False, True)}
    rows: dict[str, list[tuple[int, np.ndarray, np.ndarray]]] = {name: [] for name in [*ours, *peers]}
    truth = []
    shown = tqdm(views(clip, path, stride), desc=f"{clip.name}, stride {stride}, {path}", unit=" frames", leave=False)
    for number, image, boxes, ids, _ in shown:
        order = rng.permutation(len(boxes))  # true boxes come sorted by identity
        boxes, ids = boxes[order], ids[order]
        truth.append((number, ids, boxes))
        ones, none = np.ones(len(boxes)), np.zeros(len(boxes), np.int64)
        looks = np.ones((len(boxes), 1), np.float32) if model is None else model.embed(image, boxes)
        moved, size = camera.estimate(image, boxes), (image.shape[1], image.shape[0])
        for name, (associator, follow) in ours.items():
            got = associator.update(boxes, ones, none, looks, number, size, moved if follow else None)
            rows[name].append((number, got, boxes))
        for name, update in peers.items():
            rows[name].append((number, update(Frame(number, boxes, ones, none, looks, image)), boxes))
    true: MotRows = tracks_of(truth)
    of = {name: score_sequences({clip.name: (true, tracks_of(each))}, stride=stride) for name, each in rows.items()}
    return {name: score.combined.idf1 for name, score in of.items()}


def main() -> None:
    """Prints a row a clip, path and stride."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, nargs="+", help="folders with gt/gt.txt and frames")
    parser.add_argument("--strides", type=int, nargs="+", default=[1, 5], metavar="N")
    parser.add_argument("--model", default="nano", metavar="NAME", help="default: %(default)s; 'none': motion alone")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    model = None if args.model == "none" else masa_track.load(args.model)
    heads: list[str] = []
    for clip in args.clips:
        for stride in args.strides:
            for path in PATHS:
                got = scores(clip, path, stride, model)
                if not heads:
                    heads = list(got)
                    print(f"| clip | stride | camera | {' | '.join(heads)} |\n|---|---|---|{'---|' * len(heads)}")
                cells = " | ".join(f"{got[head]:.3f}" for head in heads)
                print(f"| {clip.name} | {stride} | {path} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
