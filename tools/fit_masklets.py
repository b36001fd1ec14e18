#!/usr/bin/env python3
"""Fits what the overlap of a masklet and a detection says of their being one object, for the hints of `--masklets`.

In each sequence (a MOTChallenge folder with gt/gt.txt), every true box of a frame prompts a masklet. These are carried
on for some frames; then all begin anew. Each pair of a masklet and a true box that overlap is an example: the IoU of
the mask's box and the true box, and whether both are of the same object. Logistic regression gives a and b of
log-odds = a + b IoU, which `masa_track/masklets/tracking.py` holds as _BASE and _SLOPE.

    python tools/fit_masklets.py ../shared/clips/mot15/TUD-Campus ../shared/clips/mot15/PETS09-S2L1 --frames 60
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy.optimize import minimize
from tqdm import tqdm

from masa_track.boxes import box_iou
from masa_track.contracts import MaskPropagator, Prompt
from masa_track.errors import InputError
from masa_track.evaluation import read_mot
from masa_track.masklets.loading import open_propagator
from masa_track.masklets.tracking import mask_boxes
from masa_track.video.sources import open_source


def examples(folder: Path, propagator: MaskPropagator, frames: int, anew: int) -> tuple[np.ndarray, np.ndarray]:
    """IoUs (M,) of overlapping pairs of a masklet and a true box, and (M,) whether they are of one object."""
    source = open_source(folder)
    truth = read_mot(folder / "gt" / "gt.txt", truth=True)
    overlaps: list[np.ndarray] = []
    same: list[np.ndarray] = []
    total = min(frames, source.length or frames)
    for count, frame in enumerate(tqdm(source.frames(1, total), total=total, unit="frame", desc=folder.name)):
        here = truth.frames == frame.number
        ids, boxes = truth.ids[here], truth.boxes[here].astype(np.float32)
        boxes = np.hstack((boxes[:, :2] - 1, boxes[:, :2] - 1 + boxes[:, 2:]))
        if count % anew == 0:
            propagator.reset()
        proposal = propagator.propose(frame)
        if len(proposal.ids) and len(ids):
            visible = np.asarray(proposal.object_logits) >= 0
            iou = box_iou(mask_boxes(proposal), boxes)
            pairs = (iou > 0) & visible[:, None]
            overlaps.append(iou[pairs])
            same.append((proposal.ids[:, None] == ids[None])[pairs])
        if count % anew == 0:
            for identity, box in zip(ids.tolist(), boxes, strict=True):
                try:
                    propagator.prompt(int(identity), Prompt(box=box))
                except InputError:
                    continue  # a box outside of the picture
        propagator.commit()
    return np.concatenate(overlaps), np.concatenate(same)


def fit(overlaps: np.ndarray, same: np.ndarray) -> tuple[float, float]:
    """a and b of log-odds = a + b IoU."""
    signs = np.where(same, 1.0, -1.0)

    def loss(weights: np.ndarray) -> float:
        return float(np.logaddexp(0, -signs * (weights[0] + weights[1] * overlaps)).sum() + 0.01 * (weights**2).sum())

    a, b = minimize(loss, np.zeros(2)).x
    return float(a), float(b)


def main() -> None:
    """Prints a and b of each sequence, and of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sequences", nargs="+", type=Path, help="MOTChallenge folders with gt/gt.txt")
    parser.add_argument("--masklets", default="flow", help="propagator (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=60, help="of each sequence, at most (default: %(default)s)")
    parser.add_argument("--anew", type=int, default=20, help="frames after which all begin anew (default: %(default)s)")
    args = parser.parse_args()
    found = [examples(folder, open_propagator(args.masklets), args.frames, args.anew) for folder in args.sequences]
    for folder, (overlaps, same) in zip(args.sequences, found, strict=True):
        a, b = fit(overlaps, same)
        print(f"{folder.name:20} {len(same):6} pairs, {same.mean():.2f} of one object: a = {a:.2f}, b = {b:.2f}")
    a, b = fit(*(np.concatenate(column) for column in zip(*found, strict=True)))
    print(f"{'all':20} a = {a:.2f}, b = {b:.2f}")


if __name__ == "__main__":
    main()
