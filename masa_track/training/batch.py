"""A batch of pairs of views: checked, normalised, padded to one size.

An item is ``{"views": [key, reference]}`` and a view ``{"image": uint8 (3, H, W) RGB, "boxes": float32 (N, 4) xyxy
pixels, "ids": int64 (N,)}``, and ``"regions"`` float32 (M, 4) where a detector shall learn others than ``boxes``; with
none of them it learns nothing from the view. The same instance has the same id in both views; two items' ids have
nothing in common.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from masa_track.errors import InputError


@dataclass(frozen=True)
class ViewBoxes:
    """What is known of one view.

    Attributes:
        boxes: (N, 4) float32 xyxy pixels of the padded input.
        ids: (N,) int64.
        size: (height, width) of the picture inside the padded input.
        regions: (M, 4) what a detector shall find; None for ``boxes``.
    """

    boxes: Tensor
    ids: Tensor
    size: tuple[int, int]
    regions: Tensor | None = None


def items_of(batch: Any) -> list[Mapping[str, Any]]:
    """The items of a batch, be it a list of them or what mmengine's ``pseudo_collate`` makes of that list."""
    if isinstance(batch, Mapping) and "views" in batch:
        views = [
            [{key: view[key][row] for key in view} for row in range(len(view["image"]))] for view in batch["views"]
        ]
        return [{"views": list(pair)} for pair in zip(*views, strict=True)]
    if isinstance(batch, Sequence) and not isinstance(batch, str):
        return list(batch)
    raise InputError(f"batch must be a list of items with 'views', got a {type(batch).__name__}")


def check_view(view: Any, place: str) -> None:
    """Raises InputError unless a view is as this module says; ``place`` names it in the message."""
    if not isinstance(view, Mapping) or not {"image", "boxes", "ids"} <= view.keys():
        raise InputError(f"{place} must be a dict with 'image', 'boxes' and 'ids', got {type(view).__name__}")
    image, boxes, ids = view["image"], view["boxes"], view["ids"]
    if image.ndim != 3 or len(image) != 3 or image.dtype != torch.uint8 or 0 in image.shape:
        raise InputError(f"image of {place} must be (3, H, W) RGB uint8, got {tuple(image.shape)} {image.dtype}")
    if boxes.shape != (len(ids), 4) or ids.ndim != 1:
        raise InputError(
            f"boxes of {place} must be (N, 4) xyxy pixels beside ids (N,), got {tuple(boxes.shape)} and "
            f"{tuple(ids.shape)}"
        )
    if not boxes.isfinite().all():
        raise InputError(f"boxes of {place} must be finite, got {boxes[~boxes.isfinite().all(dim=1)][0].tolist()}")
    if len(ids.unique()) != len(ids):
        values, counts = ids.unique(return_counts=True)
        raise InputError(f"ids of {place} must not repeat, got {int(values[counts > 1][0])} more than once")


def prepare(
    batch: Any, mean: Tensor, std: Tensor, size_divisor: int, min_side: float = 1.0
) -> tuple[Tensor, list[ViewBoxes]]:
    """A network's input for all views of a batch.

    Args:
        batch: see :func:`items_of`.
        mean, std: (3,) RGB in 0..255, on the device of the result.
        size_divisor: both sides are padded with zeros (after normalising), right and bottom, to a multiple of it.
        min_side: regions with a shorter side, in pixels, are left out.

    Returns:
        Images (2 * B, 3, H, W), the key views of the items first, then their reference views, and what is known of
        each.

    Raises:
        InputError: if an item is not as it should be.
    """
    items = items_of(batch)
    if not items:
        raise InputError("batch must hold at least one item, got none")
    ordered = []
    for which in range(2):
        for number, item in enumerate(items):
            pair = item.get("views") if isinstance(item, Mapping) else None
            if not isinstance(pair, Sequence) or len(pair) != 2:
                raise InputError(
                    f"item {number} must hold two views under 'views', got {pair if pair is None else len(pair)}"
                )
            check_view(pair[which], f"view {which} of item {number}")
            ordered.append(pair[which])
    height, width = (
        -(-max(view["image"].shape[axis] for view in ordered) // size_divisor) * size_divisor for axis in (1, 2)
    )
    images = torch.zeros((len(ordered), 3, height, width), device=mean.device)
    known = []
    for image, view in zip(images, ordered, strict=True):
        h, w = view["image"].shape[1:]
        image[:, :h, :w] = (view["image"].to(mean.device) - mean[:, None, None]) / std[:, None, None]
        boxes = view["boxes"].to(mean.device, torch.float32)
        good = (boxes[:, 2:] - boxes[:, :2] >= min_side).all(dim=1)
        regions = view.get("regions")
        regions = None if regions is None else regions.to(mean.device, torch.float32)
        known.append(ViewBoxes(boxes[good], view["ids"].to(mean.device)[good], (h, w), regions))
    return images, known
