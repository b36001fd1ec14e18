"""Which query learns which object: Hungarian matching over whole sequences of masks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

REFERRED_COST, DICE_COST = 2.0, 5.0


@dataclass(frozen=True)
class Target:
    """What is true of one sentence in V frames.

    Attributes:
        masks: (V, n, H, W) bool or float, of all annotated objects; all of a batch have one size, padded with False.
        referred: the object that the sentence means, a row of ``masks``.
        visible: (V,) bool, whether that object is visible in each frame; None: it counts as visible in all.
    """

    masks: Tensor
    referred: int
    visible: Tensor | None = None

    @property
    def is_visible(self) -> Tensor:
        """(V,) bool."""
        if self.visible is None:
            return torch.ones(len(self.masks), dtype=torch.bool, device=self.masks.device)
        return self.visible


def resize_logits(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Logits (A, B, h, w) to (A, B, H, W), bilinear."""
    return F.interpolate(masks, size=size, mode="bilinear", align_corners=False)


def matching_cost(masks: Tensor, referred: Tensor, target: Target) -> Tensor:
    """The cost of each query for each object; the lower, the better they fit.

    Args:
        masks: (V, N, H, W) logits at the targets' size.
        referred: (V, N, 2) logits.
        target: of the sentence.

    Returns:
        (N, n) float32.
    """
    truth = target.masks.flatten(2).to(masks.dtype)  # (V, n, P)
    found = masks.sigmoid().flatten(2)  # (V, N, P)
    overlap = found @ truth.transpose(1, 2)  # (V, N, n)
    sums = found.sum(-1)[:, :, None] + truth.sum(-1)[:, None, :]
    dice = ((2 * overlap + 1) / (sums + 1)).mean(0)
    probability = referred.softmax(-1)  # (V, N, 2)
    meant = torch.where(target.is_visible[:, None], probability[..., 0], probability[..., 1]).mean(0)  # (N,)
    reference = probability[..., 1].mean(0)[:, None].repeat(1, truth.shape[1])
    reference[:, target.referred] = meant
    return -REFERRED_COST * reference - DICE_COST * dice


@torch.no_grad()
def match(masks: Tensor, referred: Tensor, target: Target) -> tuple[np.ndarray, np.ndarray]:
    """The queries and the objects that they learn, (n,) each; arguments as of :func:`matching_cost`."""
    rows, columns = linear_sum_assignment(matching_cost(masks, referred, target).cpu().numpy())
    return rows, columns
