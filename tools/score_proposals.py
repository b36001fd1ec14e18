#!/usr/bin/env python3
"""Average recall of class-agnostic boxes on the photographs that training holds aside, beside a weight-free proposer.

Average recall at 100 boxes, over IoU .5 to .95, of the regions that people drew; the superpixels of
`masa-track proposals --method superpixels` need no weights.

    python tools/score_proposals.py ../shared/photos/regions.json ../shared/photos/images runs/nano/model.safetensors
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from torchvision.ops import box_iou
from tqdm import tqdm

import masa_track
from masa_track.training.grouping import propose_regions
from masa_track.training.region_files import read_regions
from masa_track.training.regions import split

MOST = 100
THRESHOLDS = np.arange(0.5, 0.96, 0.05)


def superpixels(frame: np.ndarray) -> np.ndarray:
    """Boxes (N, 4) of the weight-free regions, best first."""
    boxes = []
    for region in propose_regions(frame, MOST):
        rows, columns = np.flatnonzero(region.mask.any(axis=1)), np.flatnonzero(region.mask.any(axis=0))
        boxes.append([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    return np.array(boxes, np.float32).reshape(-1, 4)


def best_overlaps(wanted: np.ndarray, found: np.ndarray) -> np.ndarray:
    """(M,) the IoU of each wanted box with the found box that is its own: each found box serves one only."""
    result = np.zeros(len(wanted))
    if not len(found):
        return result
    overlaps = box_iou(torch.from_numpy(wanted), torch.from_numpy(found)).numpy()
    for _ in range(min(overlaps.shape)):
        row, column = np.unravel_index(overlaps.argmax(), overlaps.shape)
        result[row] = max(0.0, overlaps[row, column])
        overlaps[row], overlaps[:, column] = -1, -1
    return result


def main() -> None:
    """Prints a Markdown table, a row a proposer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("regions", type=Path, help="COCO json of the photographs' regions")
    parser.add_argument("images", type=Path, help="folder of the photographs")
    parser.add_argument("models", nargs="*", help="names or files of models with a detection head")
    parser.add_argument("--max-images", type=int, help="only so many")
    args = parser.parse_args()
    entries = [e for e in split(read_regions(args.regions), "held").images if len(e)][: args.max_images]
    proposers: dict[str, Callable[[np.ndarray], np.ndarray]] = {"superpixels": superpixels}
    for name in args.models:
        model = masa_track.load(name)
        proposers[name] = lambda frame, model=model: model.detect(frame)[0]  # type: ignore[misc]
    overlaps: dict[str, list[np.ndarray]] = {name: [] for name in proposers}
    for entry in tqdm(entries, unit="photo"):
        frame = cv2.imread(str(args.images / entry.file_name))
        if frame is None:
            parser.error(f"{args.images / entry.file_name} cannot be decoded")
        for name, propose in proposers.items():
            overlaps[name].append(best_overlaps(entry.boxes, np.asarray(propose(frame)[:MOST], np.float32)))
    print(f"\n{len(entries)} photographs held aside, {sum(len(e) for e in entries)} regions\n")
    print("| proposer | AR at 100 | recall at IoU .5 |\n|---|---|---|")
    for name, parts in overlaps.items():
        values = np.concatenate(parts)
        recalls = [(values >= threshold).mean() for threshold in THRESHOLDS]
        print(f"| {name} | {np.mean(recalls):.3f} | {recalls[0]:.3f} |")


if __name__ == "__main__":
    main()
