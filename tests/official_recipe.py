"""The deterministic weights, picture and comparisons of ``goldens/README.md``, shared by the model tests."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import box_iou

GOLDENS = Path(__file__).parent / "goldens"
FILES = {
    "r50": "masa_r50",
    "gdino-swinb": "gdino_masa",
    "detic-swinb": "detic_masa",
    "sam-vitb": "sam_vitb_masa",
    "sam-vith": "sam_vith_masa",
}


def recipe_tensor(key: str, shape: tuple[int, ...]) -> Tensor:
    """The deterministic entry of an official key."""
    random = np.random.RandomState(zlib.crc32(key.encode()) & 0xFFFFFFFF)
    x = random.standard_normal(shape).astype(np.float32)
    last = key.rsplit(".", 1)[-1]
    if last == "running_var":
        x = 0.5 + np.abs(x)
    elif last == "running_mean":
        x = 0.1 * x
    elif x.ndim >= 2:
        x = x * np.float32(np.sqrt(2 / np.prod(shape[1:])))
        if any(part in key for part in ("rel_pos", "pos_embed", "position_bias")):
            x = x * np.float32(0.1)
    elif last == "weight":
        x = 1 + 0.1 * x
    else:
        x = 0.1 * x
    return torch.from_numpy(np.asarray(x, dtype=np.float32))


def official_keys(name: str) -> dict[str, tuple[int, ...]]:
    """Shapes by official key."""
    shapes = json.loads((GOLDENS / "keys" / f"{FILES[name]}.json").read_text())
    return {key: tuple(shape) for key, shape in shapes.items()}


def official_state_dict(name: str, prefixes: tuple[str, ...] = ("",)) -> dict[str, Tensor]:
    """The deterministic state dict by official keys that start with one of ``prefixes``; counters are zeros."""
    state = {}
    for key, shape in official_keys(name).items():
        if not key.startswith(prefixes):
            continue
        last = key.rsplit(".", 1)[-1]
        if last == "num_batches_tracked":
            state[key] = torch.tensor(0)
        elif last == "relative_position_index":
            state[key] = torch.zeros(shape, dtype=torch.long)
        else:
            state[key] = recipe_tensor(key, shape)
    return state


def golden(name: str) -> Mapping[str, np.ndarray]:
    """The reference's numbers of a model."""
    with np.load(GOLDENS / f"{FILES[name]}.npz") as file:
        return {key: file[key] for key in file.files}


def golden_image(gold: Mapping[str, np.ndarray]) -> Tensor:
    """The picture of a golden, (1, 3, H, W)."""
    size = (int(gold["height"]), int(gold["width"]))
    noise = np.random.RandomState(int(gold["image_seed"])).standard_normal((1, 3, *size)).astype(np.float32)
    n = torch.from_numpy(noise)
    return n + F.interpolate(16 * F.avg_pool2d(n, 16), size=size, mode="nearest")


def level_errors(kind: str, gold: Mapping[str, np.ndarray], maps: list[Tensor]) -> list[float]:
    """For each level the largest difference of the sample, over the sample's largest magnitude; mean and std too."""
    errors = []
    for index, level in enumerate(maps):
        assert tuple(level.shape) == tuple(gold[f"{kind}{index}_shape"])
        _, c, h, w = level.shape
        step = max(1, c // 8) if kind == "backbone" else 32
        sample = level[0, ::step, :: max(1, h // 6), :: max(1, w // 6)].float().numpy()
        want = gold[f"{kind}{index}_sample"]
        scale = np.abs(want).max()
        differences = [
            np.abs(sample - want).max(),
            abs(float(level.mean()) - gold[f"{kind}{index}_mean"]),
            abs(float(level.std()) - gold[f"{kind}{index}_std"]),
        ]
        errors.append(float(max(differences) / scale))
    assert f"{kind}{len(maps)}_shape" not in gold
    return errors


def same_set(boxes: Tensor, scores: Tensor, want_boxes: np.ndarray, want_scores: np.ndarray) -> tuple[float, float]:
    """Pairs each wanted box with the nearest of ours, no box twice. Returns the worst box and score difference."""
    ours, free = boxes.numpy(), np.ones(len(boxes), bool)
    worst_box = worst_score = 0.0
    for box, score in zip(want_boxes, want_scores, strict=True):
        distance = np.maximum(np.abs(ours - box).max(axis=1), 100 * np.abs(scores.numpy() - score))
        row = int(np.where(free, distance, np.inf).argmin())
        free[row] = False
        worst_box = max(worst_box, float(np.abs(ours[row] - box).max()))
        worst_score = max(worst_score, abs(float(scores[row]) - float(score)))
    return worst_box, worst_score


def explained_by_ties(
    boxes: Tensor,
    scores: Tensor,
    want_boxes: np.ndarray,
    want_scores: np.ndarray,
    iou_threshold: float,
    close: float = 1e-4,
) -> bool:
    """Whether the wanted boxes are an outcome of NMS over ours, where scores nearer than ``close`` may swap.

    Args:
        boxes: (N, 4) ours before NMS.
        scores: (N,).
        want_boxes: (M, 4) the reference's after NMS, best first.
        want_scores: (M,).
        iou_threshold: of the NMS.
        close: what counts as a tie, of scores and of overlaps.
    """
    want = torch.from_numpy(want_boxes)
    difference = (boxes[:, None] - want).abs().amax(dim=2)  # (N, M)
    difference[(scores[:, None] - torch.from_numpy(want_scores)).abs() > 1e-3] = float("inf")
    if difference.min(dim=0).values.max() > 0.1:
        return False  # one of theirs is none of ours
    overlap = box_iou(boxes, want)
    itself = difference <= 0.1
    by_better = torch.from_numpy(want_scores)[None] >= scores[:, None] - close
    hidden = ((overlap > iou_threshold - close) & by_better).any(dim=1) | itself.any(dim=1)
    due = scores > float(want_scores[-1]) + close
    among = box_iou(want, want).fill_diagonal_(0)
    return bool(hidden[due].all()) and float(among.max()) <= iou_threshold + close
