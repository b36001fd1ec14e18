#!/usr/bin/env python3
"""Measures `--refine-masks`: J and F of DAVIS before and after the borders of masks were moved to edges of the picture.

The masks are those of `flow` from the first mask, and the true masks at an eighth and a sixteenth of the resolution, as
networks with a low resolution have them. A clip is a folder with images/*.jpg and masks/*.png (0 and 255).

    python tools/bench_refined.py ../shared/clips/davis --frames 50
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from bench_masklets import Flow, read_clip
from tqdm import tqdm

from masa_track.evaluation.jf import boundary_accuracy, region_similarity
from masa_track.masklets.refined import refined_masks


def coarse(mask: np.ndarray, factor: int) -> np.ndarray:
    """A (H, W) bool mask at a lower resolution, scaled up as logits are: bilinear."""
    size = tuple(max(1, round(side / factor)) for side in mask.shape[::-1])
    small = np.rint(cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA))
    return np.asarray(cv2.resize(small, mask.shape[::-1], interpolation=cv2.INTER_LINEAR) > 0.5)


def masks_of(
    images: list[np.ndarray], truth: list[np.ndarray], step: int
) -> Iterator[tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]]:
    """Picture, true mask and the masks by their kind, of every ``step``-th frame but the first and the last."""
    flow = Flow(images[0], truth[0], "mask")
    for number, (image, true) in enumerate(zip(images[1:-1], truth[1:-1], strict=True)):
        mask = flow.step(image)
        if number % step == 0:
            yield image, true, {"flow": mask, "true / 8": coarse(true, 8), "true / 16": coarse(true, 16)}


def main() -> None:
    """Prints a row for each kind of masks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="a folder of clips")
    parser.add_argument("--clips", nargs="+", help="names of clips (default: all)")
    parser.add_argument("--frames", type=int, default=50, help="of each clip, at most (default: %(default)s)")
    parser.add_argument("--step", type=int, default=4, help="frames from one that is scored to the next (%(default)s)")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    names = args.clips or sorted(path.name for path in args.root.iterdir() if (path / "masks").is_dir())
    scores: dict[str, list[list[float]]] = {}  # by kind: of each clip J, F, J refined, F refined
    spent = []
    for clip in tqdm(names, leave=False):
        images, truth = read_clip(args.root / clip, args.frames)
        rows: dict[str, list[list[float]]] = {}
        for image, true, masks in masks_of(images, truth, args.step):
            for kind, mask in masks.items():
                begun = time.perf_counter()
                (refined,) = refined_masks(image, mask[None])
                spent.append(1000 * (time.perf_counter() - begun))
                both = [[region_similarity(m, true), boundary_accuracy(m, true)] for m in (mask, refined)]
                rows.setdefault(kind, []).append(both[0] + both[1])
        for kind, values in rows.items():
            scores.setdefault(kind, []).append(np.mean(values, axis=0).tolist())
    print(f"{'masks':12}{'J':>8}{'refined':>10}{'F':>8}{'refined':>10}")
    for kind, clips in scores.items():
        j, f, j_refined, f_refined = np.mean(clips, axis=0)
        print(f"{kind:12}{j:8.3f}{j_refined:10.3f}{f:8.3f}{f_refined:10.3f}")
    print(f"{np.median(spent):.0f} ms for a mask")


if __name__ == "__main__":
    main()
