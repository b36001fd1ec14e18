"""The loss of a model that finds the instances of a phrase: presence apart from localisation.

L = L_presence + 1{exists} L_local. Whether the phrase is in the picture at all is learned from every picture; where its
instances are, and how good each query is, only from pictures that show some. So queries of a picture without instances
are not pushed down: their scores are multiplied with the presence.

Sources: Carion et al., SAM 3: Segment Anything with Concepts, 2025, for the sum; Carion et al., DETR, ECCV 2020, for
the assignment and the weights of boxes; Lin et al., Focal Loss, ICCV 2017; Milletari et al., V-Net, 3DV 2016, for the
dice loss; Cheng et al., Mask2Former, CVPR 2022, for the weights of masks. SAM 3's own weights are not known to us.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchvision.ops import generalized_box_iou, generalized_box_iou_loss, sigmoid_focal_loss

from masa_track.errors import InputError
from masa_track.training.losses import nothing


@dataclass(frozen=True)
class Predicted:
    """What a model says of a batch of B pictures, Q queries each.

    Attributes:
        presence: (B,) logits, whether the phrase is in the picture.
        scores: (B, Q) logits of local scores.
        boxes: (B, Q, 4) xyxy, 0..1.
        masks: (B, Q, h, w) logits; None: only boxes are learned.
    """

    presence: Tensor
    scores: Tensor
    boxes: Tensor
    masks: Tensor | None = None


@dataclass(frozen=True)
class Instances:
    """The true instances of a phrase in one picture; n = 0: it is not there.

    Attributes:
        boxes: (n, 4) xyxy, 0..1.
        masks: (n, h, w), 0 or 1; None where boxes alone are learned.
    """

    boxes: Tensor
    masks: Tensor | None = None


@dataclass(frozen=True)
class ConceptWeights:
    """Weights of the parts of the loss; those of boxes and scores also choose the query of each instance."""

    presence: float = 1.0
    score: float = 2.0
    box: float = 5.0
    giou: float = 2.0
    mask: float = 5.0
    dice: float = 5.0


def concept_loss(
    predicted: Predicted, truth: Sequence[Instances], weights: ConceptWeights | None = None
) -> dict[str, Tensor]:
    """The loss of a batch.

    - ``presence``: binary cross entropy, the mean over all B pictures.
    - ``score``: sigmoid focal loss (gamma 2, alpha .25) of the queries of pictures with instances, divided by the
      number of instances in the batch.
    - ``box``, ``giou``: L1 distance and 1 - generalised IoU of the query of each instance, the mean over instances.
    - ``mask``, ``dice``: focal loss, the mean over pixels, and ``1 - (2 |A B| + 1) / (|A| + |B| + 1)``, the mean
      over instances.
    - ``total``: their weighted sum.

    Args:
        predicted: of B pictures.
        truth: B.
        weights: of the parts.

    Returns:
        A scalar for each part, and ``total``.

    Raises:
        InputError: the shapes do not fit, or a picture has more instances than queries.
    """
    weights = weights or ConceptWeights()
    _check(predicted, truth)
    exists = torch.tensor([len(one.boxes) > 0 for one in truth], device=predicted.presence.device)
    parts = {"presence": F.binary_cross_entropy_with_logits(predicted.presence, exists.to(predicted.presence.dtype))}
    local: dict[str, list[Tensor]] = {name: [] for name in ("score", "box", "giou", "mask", "dice")}
    for place in torch.nonzero(exists).flatten().tolist():
        for name, value in _local(predicted, place, truth[place], weights).items():
            local[name].append(value)
    count = max(sum(len(one.boxes) for one in truth), 1)
    # Each parameter has a gradient, if of zero, whatever the pictures show.
    zero = nothing(predicted.scores, predicted.boxes, *([] if predicted.masks is None else [predicted.masks]))
    for name, values in local.items():
        parts[name] = torch.stack(values).sum() / count if values else zero
    parts["total"] = zero + sum((getattr(weights, name) * value for name, value in parts.items()), start=zero)
    return parts


def assign_queries(scores: Tensor, boxes: Tensor, true_boxes: Tensor, weights: ConceptWeights) -> tuple[Tensor, Tensor]:
    """The query of each instance: the assignment of the smallest cost.

    The cost is -probability, L1 distance and -generalised IoU, weighted.

    Args:
        scores: (Q,) logits.
        boxes: (Q, 4) xyxy.
        true_boxes: (n, 4) xyxy, n <= Q.
        weights: of ``score``, ``box`` and ``giou``.

    Returns:
        Queries (n,) and instances (n,), int64.
    """
    with torch.no_grad():
        cost = -weights.score * scores.sigmoid()[:, None] + weights.box * torch.cdist(boxes, true_boxes, p=1)
        cost = cost - weights.giou * generalized_box_iou(boxes, true_boxes)
    queries, instances = linear_sum_assignment(cost.float().cpu().numpy())
    return torch.as_tensor(queries, device=boxes.device), torch.as_tensor(instances, device=boxes.device)


def _local(predicted: Predicted, place: int, truth: Instances, weights: ConceptWeights) -> dict[str, Tensor]:
    """The parts of one picture that shows n instances, each summed over them."""
    scores, boxes = predicted.scores[place], predicted.boxes[place]
    queries, instances = assign_queries(scores, boxes, truth.boxes, weights)
    labels = torch.zeros_like(scores)
    labels[queries] = 1
    chosen, true = boxes[queries], truth.boxes[instances]
    parts = {
        "score": sigmoid_focal_loss(scores, labels, reduction="sum"),
        "box": F.l1_loss(chosen, true, reduction="sum"),
        "giou": generalized_box_iou_loss(chosen, true, reduction="sum"),
    }
    if predicted.masks is not None and truth.masks is not None:
        masks, given = predicted.masks[place][queries].flatten(1), truth.masks[instances].flatten(1)
        given = given.to(masks.dtype)
        parts["mask"] = sigmoid_focal_loss(masks, given, reduction="none").mean(dim=1).sum()
        both = masks.sigmoid()
        parts["dice"] = (1 - (2 * (both * given).sum(1) + 1) / (both.sum(1) + given.sum(1) + 1)).sum()
    return parts


def _check(predicted: Predicted, truth: Sequence[Instances]) -> None:
    batch, queries = predicted.scores.shape
    if predicted.presence.shape != (batch,) or predicted.boxes.shape != (batch, queries, 4):
        raise InputError(
            f"presence and boxes must be (B,) and (B, Q, 4) for scores (B, Q) = {(batch, queries)}, "
            f"got {tuple(predicted.presence.shape)} and {tuple(predicted.boxes.shape)}"
        )
    if len(truth) != batch:
        raise InputError(f"truth must have an entry for each of {batch} pictures, got {len(truth)}")
    for one in truth:
        if one.boxes.ndim != 2 or one.boxes.shape[1] != 4 or len(one.boxes) > queries:
            raise InputError(f"true boxes must be (n, 4), n at most {queries} queries, got {tuple(one.boxes.shape)}")
        if predicted.masks is not None and len(one.boxes):
            wanted = (len(one.boxes), *predicted.masks.shape[2:])
            if one.masks is None or tuple(one.masks.shape) != wanted:
                got = "none" if one.masks is None else tuple(one.masks.shape)
                raise InputError(f"true masks must be {wanted}, as those that are predicted, got {got}")
