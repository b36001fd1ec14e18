#!/usr/bin/env python3
"""Calibrates the scores of nano's detection head to probabilities that a box has an IoU of .5 or more with an object.

Two numbers are fitted by logistic regression on the boxes that the head finds on the photographs held aside. The order
of boxes stays as it is, and with it what tools/score_proposals.py measures.

    python tools/calibrate_detector.py ../shared/photos/regions.json ../shared/photos/images \\
        runs/nano_detector/model.safetensors --out nano.safetensors
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from scipy.optimize import minimize
from scipy.special import expit, logit
from torchvision.ops import box_iou
from tqdm import tqdm

import masa_track
from masa_track.files import PartFile
from masa_track.training.region_files import read_regions
from masa_track.training.regions import split

KEY = "rpn_head.calibration"
RIGHT = 0.5  # IoU


def fit(logits: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(2,) slope and offset by maximum likelihood.

    Args:
        logits: (N,).
        right: (N,) bool.
    """

    def worse(numbers: np.ndarray) -> float:
        chances = expit(numbers[0] * logits + numbers[1]).clip(1e-9, 1 - 1e-9)
        return float(-np.log(np.where(right, chances, 1 - chances)).mean())

    return np.asarray(minimize(worse, [1.0, 0.0], bounds=[(1e-3, None), (None, None)]).x)


def main() -> None:
    """Fits and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("regions", type=Path, help="COCO json of the photographs' regions")
    parser.add_argument("images", type=Path, help="folder of the photographs")
    parser.add_argument("model", type=Path, help="a .safetensors of nano, with its head")
    parser.add_argument("--out", type=Path, required=True, help="the same with calibrated scores")
    args = parser.parse_args()
    embedder: Any = masa_track.load(args.model, backend="torch")
    if not hasattr(getattr(embedder.network, "rpn_head", None), "calibration"):
        parser.error(f"{args.model} is of {embedder.name}, whose head is not nano's")
    embedder.network.rpn_head.calibration.copy_(torch.tensor([1.0, 0.0]))
    logits, right = [], []
    for entry in tqdm([e for e in split(read_regions(args.regions), "held").images if len(e)], unit="photo"):
        frame = cv2.imread(str(args.images / entry.file_name))
        if frame is None:
            parser.error(f"{args.images / entry.file_name} cannot be decoded")
        boxes, scores = embedder.detect(frame)
        overlaps = box_iou(torch.from_numpy(boxes), torch.as_tensor(entry.boxes, dtype=torch.float32))
        logits.append(logit(scores.astype(float).clip(1e-6, 1 - 1e-6)))
        right.append(overlaps.max(dim=1).values.numpy() >= RIGHT)
    numbers = fit(np.concatenate(logits), np.concatenate(right))
    with safe_open(args.model, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        metadata = dict(file.metadata() or {})
    tensors[KEY] = torch.from_numpy(numbers).to(tensors[KEY].dtype)
    target = PartFile(args.out)
    try:
        target.part.write_bytes(save(tensors, metadata=metadata))
        target.commit()
    except BaseException:
        target.abandon()
        raise
    print(f"slope {numbers[0]:.3f}, offset {numbers[1]:.3f}: {args.out}")


if __name__ == "__main__":
    main()
