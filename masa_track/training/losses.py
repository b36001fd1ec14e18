"""The two losses on embeddings of two views of one picture.

Source: Li et al., Matching Anything by Segmenting Anything, CVPR 2024; Pang et al., QDTrack, CVPR 2021 (the margin
loss). Weights, margins and the number of hard negatives are those of MASA's published training configuration.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from masa_track.errors import InputError

NEGATIVE_MARGIN = 0.1  # cosines of different objects below it cost nothing
HARD_NEGATIVES = 3  # a positive pair


def _check(key: Tensor, ref: Tensor, targets: Tensor) -> None:
    if key.ndim != 2 or ref.ndim != 2 or key.shape[1] != ref.shape[1]:
        raise InputError(
            f"embeddings must be (P, D) and (R, D) of one D, got {tuple(key.shape)} and {tuple(ref.shape)}"
        )
    if targets.shape != (len(key), len(ref)):
        raise InputError(f"targets must be (P, R) = {(len(key), len(ref))}, got {tuple(targets.shape)}")


def nothing(*tensors: Tensor) -> Tensor:
    """A loss of zero that hangs on the tensors, so that every parameter behind them has a gradient (of zero).

    Processes that share their gradients wait for all of them, also for those that a step did not need.
    """
    corners = [tensor[(slice(0, 1),) * tensor.ndim].sum() * 0 for tensor in tensors]  # a whole sum may overflow
    return torch.stack(corners).sum()


def contrastive_loss(key: Tensor, ref: Tensor, targets: Tensor, ignored: Tensor | None = None) -> Tensor:
    """Multi-positive contrastive loss on dot products.

    For a key with positives ``P`` and negatives ``N`` among the reference embeddings, and dot products ``s``, the
    mean over ``p`` in ``P`` of ``-log(exp(s_p) / (mean of exp(s_P) + sum of exp(s_N)))``: however many positives a
    key has, together they weigh as one.

    Args:
        key: (P, D) float, not normalised.
        ref: (R, D).
        targets: (P, R), 1 where both are the same instance, else 0.
        ignored: (P, R) bool, pairs that are neither; None for none.

    Returns:
        The mean over the keys that have a positive; 0 if there are none.

    Raises:
        InputError: if the shapes do not fit.
    """
    _check(key, ref, targets)
    has_positive = targets.any(dim=1)
    if not has_positive.any():
        return nothing(key, ref)
    positive = targets[has_positive].to(key.dtype)
    dots = key[has_positive] @ ref.t()  # (P', R)
    counted = dots if ignored is None else dots.masked_fill(ignored[has_positive], float("-inf"))
    count = positive.sum(dim=1, keepdim=True)
    total = (counted - positive * count.log()).logsumexp(dim=1)  # exp(s_p) / |P|, summed, is their mean
    return (total - (dots * positive).sum(dim=1) / count[:, 0]).mean()


def two_way_loss(first: Tensor, second: Tensor, targets: Tensor) -> Tensor:
    """The contrastive loss of two views, both ways, where the other objects of a view are negatives as well.

    A tracker must distinguish similar objects of one picture; a view shows them side by side, in the same light.

    Args:
        first: (P, D) float, not normalised.
        second: (R, D).
        targets: (P, R), 1 where both are the same instance, else 0.

    Returns:
        The mean over the embeddings, of either view, that have a positive in the other; 0 if there are none.

    Raises:
        InputError: if the shapes do not fit.
    """
    _check(first, second, targets)
    total, count = nothing(first, second), 0
    for one, other, same in ((first, second, targets.bool()), (second, first, targets.bool().t())):
        itself = torch.eye(len(one), dtype=torch.bool, device=one.device)
        both = torch.cat([same, torch.zeros_like(itself)], dim=1)
        ignored = torch.cat([torch.zeros_like(same), itself], dim=1)
        some = int(same.any(dim=1).sum())
        total = total + some * contrastive_loss(one, torch.cat([other, one]), both, ignored)
        count += some
    return total / max(1, count)


def margin_loss(
    key: Tensor,
    ref: Tensor,
    targets: Tensor,
    negative_margin: float = NEGATIVE_MARGIN,
    hard_negatives: int = HARD_NEGATIVES,
) -> Tensor:
    """Squared error of cosines: to 1 for positives, to at most the margin for the hardest negatives.

    Args:
        key: (P, D) float.
        ref: (R, D).
        targets: (P, R), 1 where both are the same instance, else 0.
        negative_margin: taken off a negative's cosine before it is clamped to 0..1.
        hard_negatives: so many negative pairs a positive pair are used, those that cost most, wherever they are.

    Returns:
        The mean over the pairs used; 0 without a positive.

    Raises:
        InputError: if the shapes do not fit.
    """
    _check(key, ref, targets)
    same = targets.bool()
    positives = int(same.sum())
    if positives == 0:
        return nothing(key, ref)
    cosines = F.normalize(key, dim=1) @ F.normalize(ref, dim=1).t()
    of_positives = (cosines[same].clamp(0, 1) - 1).square()
    of_negatives = (cosines[~same] - negative_margin).clamp(0, 1).square()
    hardest = of_negatives.topk(min(hard_negatives * positives, len(of_negatives))).values
    return (of_positives.sum() + hardest.sum()) / (positives + len(hardest))
