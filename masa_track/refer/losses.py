"""What MTTR learns by: masks of matched queries by dice and focal loss, the reference by weighted cross-entropy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from masa_track.refer.matching import Target, match, resize_logits
from masa_track.refer.model import MttrOutput

FOCAL_ALPHA = 0.25


@dataclass(frozen=True)
class LossSettings:
    """Weights of the losses.

    Attributes:
        reference, dice, focal: factors of the three losses.
        other: weight in the cross-entropy of the queries that are not matched to the referred object.
    """

    reference: float = 2.0
    dice: float = 5.0
    focal: float = 2.0
    other: float = 0.1


def mttr_losses(
    output: MttrOutput, targets: Sequence[Target], settings: LossSettings | None = None, pairs: float | None = None
) -> dict[str, Tensor]:
    """The weighted losses of all decoder layers; training minimises their sum.

    Args:
        output: of B sentences in V frames.
        targets: B, with masks of one size.
        settings: weights; None for the published ones.
        pairs: the number of (frame, object) pairs that masks are averaged over; None: those of the batch. Several
            processes pass their mean.

    Returns:
        ``loss_is_referred``, ``loss_dice``, ``loss_sigmoid_focal`` of the last layer, and of the others with the
        suffix ``_0``, ``_1``, ...
    """
    settings = settings or LossSettings()
    count = max(pairs if pairs is not None else count_pairs(targets), 1.0)
    weights = {
        "loss_is_referred": settings.reference,
        "loss_dice": settings.dice,
        "loss_sigmoid_focal": settings.focal,
    }
    losses: dict[str, Tensor] = {}
    layers = len(output.masks)
    for layer in range(layers):
        suffix = "" if layer == layers - 1 else f"_{layer}"
        found = layer_losses(output.masks[layer], output.referred[layer], targets, count, settings.other)
        losses |= {f"{name}{suffix}": weights[name] * value for name, value in found.items()}
    return losses


def count_pairs(targets: Sequence[Target]) -> float:
    """The number of (frame, object) pairs of a batch."""
    return float(sum(t.masks.shape[0] * t.masks.shape[1] for t in targets))


def layer_losses(
    masks: Tensor, referred: Tensor, targets: Sequence[Target], pairs: float, other: float = 0.1
) -> Mapping[str, Tensor]:
    """The unweighted losses of one decoder layer, which has its own matching.

    Args:
        masks: (V, B, N, h, w) logits.
        referred: (V, B, N, 2) logits.
        targets: B.
        pairs: see :func:`mttr_losses`.
        other: see :class:`LossSettings`.
    """
    masks, referred = masks.float(), referred.float()
    frames, count, queries = referred.shape[:3]
    size = (targets[0].masks.shape[-2], targets[0].masks.shape[-1])
    wanted = torch.ones((frames, count, queries), dtype=torch.long, device=masks.device)
    weight = torch.full((frames, count, queries), other, device=masks.device)
    chosen, truths = [], []
    for b, target in enumerate(targets):
        with torch.no_grad():
            upsampled = resize_logits(masks[:, b], size)
        rows, columns = match(upsampled, referred[:, b], target)
        chosen.append(masks[:, b, torch.as_tensor(rows, device=masks.device)])  # (V, n, h, w)
        truths.append(target.masks[:, torch.as_tensor(columns, device=masks.device)].to(masks.dtype))
        (place,) = (columns == target.referred).nonzero()
        for query in rows[place]:  # none where there are more objects than queries
            weight[:, b, query] = 1.0
            wanted[:, b, query] = (~target.is_visible).long()
    found = resize_logits(torch.cat(chosen, dim=1), size).flatten(2)  # (V, pairs, P)
    truth = torch.cat(truths, dim=1).flatten(2)
    entropy = F.cross_entropy(referred.flatten(0, 2), wanted.flatten(), reduction="none")
    return {
        "loss_is_referred": (entropy * weight.flatten()).sum() / (frames * count),
        "loss_dice": dice_loss(found, truth).sum() / pairs,
        "loss_sigmoid_focal": focal_loss(found, truth).sum() / pairs,
    }


def dice_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """One minus the dice overlap of masks (..., P) -> (...)."""
    found = logits.sigmoid()
    return 1 - (2 * (found * truth).sum(-1) + 1) / (found.sum(-1) + truth.sum(-1) + 1)


def focal_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """The mean focal loss (gamma 2) over the pixels of masks (..., P) -> (...)."""
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    wrong = (logits.sigmoid() - truth).abs()
    balance = FOCAL_ALPHA * truth + (1 - FOCAL_ALPHA) * (1 - truth)
    return (balance * wrong**2 * entropy).mean(-1)
