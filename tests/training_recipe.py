"""A tiny network of the official pieces and a few pictures made here, for the tests of training."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from mmengine.registry import DATASETS
from torch import Tensor, nn

from masa_track.models.box_head import BoxHead, RoIHead
from masa_track.models.deform_fusion import DeformFusion
from masa_track.models.fpn import FPN
from masa_track.models.roi import roi_features
from masa_track.models.rpn import RPNHead
from masa_track.models.track_head import EmbedHead
from masa_track.registry import ModelSpec, register_model

STRIDES = (4, 8, 16)
CHANNELS = 32
SIDE = 96


class TinyBackbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        widths = [3, 16, 24, 32]
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(a, b, 5, stride=4 if i == 0 else 2, padding=2, bias=False), nn.BatchNorm2d(b), nn.ReLU()
            )
            for i, (a, b) in enumerate(pairwise(widths))
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


class TinyNetwork(nn.Module):
    """The official interface at a hundredth of the width; ``heads=False`` leaves out proposals and boxes.

    Without ``fusion`` a step takes a quarter of the time.
    """

    mean, std, size_divisor = (127.5,) * 3, (64.0,) * 3, 32
    long_side, dimension = 128, 32  # for tracking

    def __init__(self, heads: bool = True, fusion: bool = True) -> None:
        super().__init__()
        self.backbone = TinyBackbone()
        self.masa_adapter = nn.ModuleList([FPN((16, 24, 32), CHANNELS, levels=3)])
        if fusion:
            self.masa_adapter.append(DeformFusion(CHANNELS, blocks=1))
        self.embed_head = EmbedHead(CHANNELS, hidden=64, embed_dim=32, convs=1)
        self.rpn_head = RPNHead(STRIDES, CHANNELS, per_level=60, max_proposals=60) if heads else None
        self.roi_head = RoIHead(STRIDES, BoxHead(0, 1, CHANNELS, hidden=32)) if heads else None

    def backbone_maps(self, images: Tensor) -> list[Tensor]:
        return self.backbone(images)

    def adapt(self, maps: list[Tensor]) -> list[Tensor]:
        for module in self.masa_adapter:
            maps = module(maps)
        return maps

    def embed(self, levels: list[Tensor], boxes: list[Tensor]) -> Tensor:
        return self.embed_head(roi_features(levels, boxes, STRIDES))


def picture(seed: int, things: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """A photograph (128, 128, 3) uint8 of striped rectangles on noise, and their boxes (things, 4)."""
    rng = np.random.default_rng(seed)
    image = rng.integers(90, 160, (128, 128, 3)).astype(np.uint8)
    boxes = []
    for slot in rng.permutation(9)[:things]:
        x, y = 4 + 42 * (slot % 3), 4 + 42 * (slot // 3)
        w, h = rng.integers(20, 36, 2)
        stripes = (np.add.outer(np.arange(h) * rng.integers(0, 3), np.arange(w) * rng.integers(1, 3)) // 4) % 2
        colours = rng.integers(0, 256, (2, 3))
        image[y : y + h, x : x + w] = colours[stripes]
        boxes.append((x, y, x + w, y + h))
    return image, np.array(boxes, np.float32)


@DATASETS.register_module()
class TinyViews:
    """Two crops of each of a few pictures, a function of (seed, epoch, index)."""

    def __init__(self, pictures: int = 4, repeats: int = 1, seed: int = 0) -> None:
        self.pictures = [picture(100 * seed + i) for i in range(pictures)]
        self.repeats, self.seed, self.epoch = repeats, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.pictures) * self.repeats

    def __getitem__(self, index: int) -> dict[str, Any]:
        image, boxes = self.pictures[index % len(self.pictures)]
        rng = np.random.default_rng((self.seed, self.epoch, index))
        return {"views": [self._view(image, boxes, rng) for _ in range(2)]}

    def _view(self, image: np.ndarray, boxes: np.ndarray, rng: np.random.Generator) -> dict[str, Tensor]:
        x, y = rng.integers(0, 128 - SIDE, 2)
        crop = image[y : y + SIDE, x : x + SIDE].astype(np.float32)
        crop = np.clip(crop * rng.uniform(0.85, 1.15) + rng.normal(0, 6, crop.shape), 0, 255).astype(np.uint8)
        moved = np.clip(boxes - np.array([x, y, x, y], np.float32), 0, SIDE)
        kept = ((moved[:, 2:] - moved[:, :2]) > 10).all(axis=1)
        return {
            "image": torch.from_numpy(crop.transpose(2, 0, 1).copy()),
            "boxes": torch.from_numpy(moved[kept]),
            "ids": torch.from_numpy(np.flatnonzero(kept)),
        }


def matching_accuracy(network: nn.Module, pictures: int = 4, items: int = 32) -> float:
    """The part of the things in both views whose most similar thing of the other view is themselves."""
    right = total = 0
    data = TinyViews(pictures, repeats=items // pictures)
    data.set_epoch(999)  # views that training has not seen
    mean, std = torch.tensor(network.mean)[:, None, None], torch.tensor(network.std)[:, None, None]
    network.eval()
    with torch.no_grad():
        for index in range(items):
            key, ref = data[index]["views"]
            images = torch.stack([(view["image"] - mean) / std for view in (key, ref)])
            levels = network.adapt(network.backbone_maps(images))
            embeddings = network.embed(levels, [key["boxes"], ref["boxes"]])
            a, b = nn.functional.normalize(embeddings, dim=1).split([len(key["ids"]), len(ref["ids"])])
            best = ref["ids"][(a @ b.T).argmax(dim=1)]
            shared = torch.isin(key["ids"], ref["ids"])
            right += int((best == key["ids"])[shared].sum())
            total += int(shared.sum())
    return right / total


register_model(ModelSpec("tiny", f"{__name__}:TinyNetwork"))
