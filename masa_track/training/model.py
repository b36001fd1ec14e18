"""What a step of training computes: two views in, a dict of losses out. On mmengine's ``BaseModel``.

Source: Li et al., Matching Anything by Segmenting Anything, CVPR 2024.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import isfinite
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.dist import get_rank
from mmengine.model import BaseDataPreprocessor, BaseModel
from mmengine.registry import MODELS
from torch import Generator, Tensor, nn

from masa_track.errors import InputError, unknown_name
from masa_track.models.nano_detector import NanoDetector
from masa_track.registry import build_model, resolve
from masa_track.training.backbone import load_backbone
from masa_track.training.batch import ViewBoxes, prepare
from masa_track.training.losses import contrastive_loss, margin_loss, nothing, two_way_loss
from masa_track.training.point_losses import point_losses
from masa_track.training.proposal_losses import box_losses, rpn_losses
from masa_track.training.random_boxes import random_pairs
from masa_track.training.sampling import TRACK_SHARE, pair_targets, quasi_dense

PAIRS = ("quasi-dense", "regions")  # what is compared with what
NEEDED = ("backbone", "backbone_maps", "adapt", "embed", "mean", "std", "size_divisor")  # of a network


def make_network(network: str | Mapping[str, Any] | nn.Module) -> Any:
    """A network by its name, by a dict of ``type`` (a name or ``module:function``) and arguments, or as it is.

    Raises:
        InputError: for an unknown name or argument, or a network that lacks what training needs.
    """
    if isinstance(network, str):
        network = build_model(network)
    elif isinstance(network, Mapping):
        options = dict(network)
        name = str(options.pop("type", None))
        network = resolve(name)(**options) if ":" in name else build_model(name, **options)
    lacking = [name for name in NEEDED if not hasattr(network, name)]
    if lacking:
        raise InputError(f"network {type(network).__name__} cannot be trained: it has no {', '.join(lacking)}")
    return network


class ViewPreprocessor(BaseDataPreprocessor):
    """Normalises and pads a batch of items; see :mod:`batch`.

    Args:
        mean, std: RGB, in 0..255.
        size_divisor: of the padded sides.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float], size_divisor: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32), persistent=False)
        self.size_divisor = size_divisor

    def forward(self, data: Any, training: bool = False) -> dict[str, Any]:
        """``data``: a batch. Returns ``inputs`` (2 * B, 3, H, W) and ``data_samples``, 2 * B :class:`ViewBoxes`."""
        images, views = prepare(data, self.mean, self.std, self.size_divisor)
        return {"inputs": images, "data_samples": views}


@MODELS.register_module()
class TrainingModel(BaseModel):
    """Any network with the interface of :class:`~masa_track.models.official.OfficialMasa`, and its losses.

    The network's ``backbone`` is frozen: no gradient, evaluation mode for good. ``rpn_head`` and ``roi_head`` may be
    missing or None; then their losses are left out, and the track loss uses the regions alone.

    Args:
        network: a model's name, a dict of ``type`` (a name or ``module:function``) and arguments, or a network.
        backbone_weights: see :func:`~masa_track.training.backbone.load_backbone`; None leaves them random.
        track_weight: of the contrastive loss.
        margin_weight: of the margin loss on cosines.
        pull_weight: of one minus the cosine between an embedding and what it was before training, for a network that
            can say so by ``embed_start(maps, boxes)``.
        distillation_weight: of the losses of proposals and boxes; 0 leaves them out, and proposals with them.
        pairs: ``quasi-dense``, as published: regions and proposals of the key view against those of the reference
            view; or ``regions``: the regions of both views, each against all others of both.
        samples: the largest number of boxes of a view in the track losses.
        random_boxes: boxes of chance instead of the regions, in the track losses only: an ablation.
        learn: names of the network's parts that learn, the others stay as they are, statistics of their norms included;
            None for all but the backbone.
        seed: of the sampling. A step's choice depends on it, on the step's number and on the process's rank alone.

    Raises:
        InputError: for an unknown network or part, a weight below 0, or backbone weights that do not fit.
    """

    steps: Tensor

    def __init__(
        self,
        network: str | Mapping[str, Any] | nn.Module,
        backbone_weights: str | None = None,
        track_weight: float = 0.25,
        margin_weight: float = 1.0,
        pull_weight: float = 0.0,
        distillation_weight: float = 1.0,
        pairs: str = PAIRS[0],
        samples: int = TRACK_SHARE.count,
        random_boxes: bool = False,
        learn: Sequence[str] | None = None,
        seed: int = 0,
    ) -> None:
        weights = {
            "track_weight": track_weight,
            "margin_weight": margin_weight,
            "pull_weight": pull_weight,
            "distillation_weight": distillation_weight,
        }
        for name, value in weights.items():
            if not isfinite(value) or value < 0:
                raise InputError(f"{name} must be a finite number of at least 0, got {value!r}")
        if pairs not in PAIRS:
            raise unknown_name("pairs", pairs, PAIRS)
        if samples < 2:
            raise InputError(f"samples must be at least 2, got {samples!r}")
        built = make_network(network)
        if pull_weight and not hasattr(built, "embed_start"):
            raise InputError(f"pull_weight must be 0 for {type(built).__name__}, which has no embed_start")
        super().__init__(ViewPreprocessor(built.mean, built.std, built.size_divisor))
        self.network: Any = built  # what it must have is checked in make_network
        self.weights, self.pairs = weights, pairs
        self.tracks = any(weights[name] for name in ("track_weight", "margin_weight", "pull_weight"))
        self.share = replace(TRACK_SHARE, count=samples)
        self.random_boxes, self.seed = random_boxes, seed
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))  # in checkpoints, so that chance goes on
        self.backbone_is_given = backbone_weights is not None
        if backbone_weights is not None:
            load_backbone(built, backbone_weights)
        parts = [name for name, _ in self.network.named_children() if name != "backbone"]
        for name in learn or ():
            if name not in parts:
                raise unknown_name("part to learn", name, parts)
        self.fixed = ["backbone", *(name for name in parts if learn is not None and name not in learn)]
        for name in self.fixed:
            self.network.get_submodule(name).requires_grad_(False)
        self._backbone_maps: Callable[[Tensor], Sequence[Tensor]] | None = None
        self.train()

    @property
    def frozen(self) -> nn.Module:
        """What training must not change: the backbone."""
        part: nn.Module = self.network.backbone
        return part

    def train(self, mode: bool = True) -> TrainingModel:
        """Training or evaluation mode; what does not learn stays in evaluation mode."""
        super().train(mode)
        for name in self.fixed:
            self.network.get_submodule(name).eval()
        return self

    def forward(
        self, inputs: Tensor, data_samples: Sequence[ViewBoxes] | None = None, mode: str = "loss"
    ) -> dict[str, Tensor] | list[Tensor]:
        """The losses of a batch, or its pyramid.

        Args:
            inputs: (2 * B, 3, H, W), normalised: B key views, then their reference views.
            data_samples: what is known of each view.
            mode: ``loss``, or ``tensor`` for the pyramid's levels.

        Returns:
            ``loss_track``, ``loss_track_aux``, with a ``pull_weight`` ``loss_pull``, and, where the network has the
            heads, ``loss_rpn_cls``, ``loss_rpn_bbox``, ``loss_box_cls``, ``loss_box_bbox``, weighted; training
            minimises their sum.
        """
        if mode not in ("loss", "tensor"):
            raise unknown_name("mode", mode, ("loss", "tensor"))
        if self._backbone_maps is None:  # not before: a checkpoint may have been loaded since this was made
            quicker = getattr(self.network, "frozen_maps", None)
            self._backbone_maps = self.network.backbone_maps if quicker is None else quicker()
        with torch.no_grad():
            maps = self._backbone_maps(inputs)
        levels = self.network.adapt(maps)
        if mode == "tensor":
            return levels
        if data_samples is None or len(data_samples) != len(inputs) or len(inputs) % 2:
            raise InputError(
                f"data_samples must name what is in each of {len(inputs)} views, two an item, got "
                f"{data_samples if data_samples is None else len(data_samples)}"
            )
        generator = Generator().manual_seed((self.seed << 40) + (get_rank() << 32) + int(self.steps))
        self.steps += 1
        losses, proposals = self._distil(levels, data_samples, generator)
        if not self.tracks:
            return losses
        return {**self._track(maps, levels, data_samples, proposals, generator), **losses}

    def _distil(
        self, levels: Sequence[Tensor], views: Sequence[ViewBoxes], generator: Generator
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """The detector's losses on the key views, or on all if it learns alone, and the proposals of all views."""
        head = getattr(self.network, "rpn_head", None)
        weight = self.weights["distillation_weight"]
        if head is None or weight == 0:
            return {}, [view.boxes.new_zeros((0, 4)) for view in views]
        levels = head.inputs(levels)
        keys = len(views) // 2 if self.tracks else len(views)
        proposals = [view.boxes.new_zeros((0, 4)) for view in views]
        if self.pairs == "quasi-dense" or getattr(self.network, "roi_head", None) is not None:
            with torch.no_grad():
                proposals = [boxes for boxes, _ in head.propose(levels, [view.size for view in views])]
            torch.clear_autocast_cache()  # else torch 2.8 takes the weights cast above, which know no gradient
        known = [view.boxes if view.regions is None else view.regions for view in views[:keys]]
        used = [i for i, view in enumerate(views[:keys]) if view.regions is None or len(view.regions)]
        if not used:  # none of these pictures is for the detector
            outputs = head([level[:keys] for level in levels])
            tie = nothing(*(x for pair in outputs for x in pair))
            return {"loss_rpn_cls": tie, "loss_rpn_bbox": tie}, proposals
        key_levels, regions = [level[used] for level in levels], [known[i] for i in used]
        outputs = head(key_levels)
        with torch.autocast(levels[0].device.type, enabled=False):
            sizes = [(level.shape[-2], level.shape[-1]) for level in levels]
            if isinstance(head, NanoDetector):
                scores, deltas = point_losses(outputs, sizes[1:], regions, [views[i].size for i in used])
            else:
                scores, deltas = rpn_losses(outputs, sizes, head.strides, regions, generator)
        losses = {"loss_rpn_cls": weight * scores, "loss_rpn_bbox": weight * deltas}
        boxes = getattr(self.network, "roi_head", None)
        if boxes is not None:
            scores, deltas = box_losses(boxes, key_levels, [proposals[i] for i in used], regions, generator)
            losses |= {"loss_box_cls": weight * scores, "loss_box_bbox": weight * deltas}
        return losses, proposals

    def _track(
        self,
        maps: Sequence[Tensor],
        levels: Sequence[Tensor],
        views: Sequence[ViewBoxes],
        proposals: Sequence[Tensor],
        generator: Generator,
    ) -> dict[str, Tensor]:
        """The losses of the embeddings: each item's key view against its reference view, the mean over items."""
        items = len(views) // 2
        chosen = []
        for item in range(items):
            pair = (item, item + items)
            boxes, ids = [views[i].boxes for i in pair], [views[i].ids for i in pair]
            if self.random_boxes:
                sizes = (views[pair[0]].size, views[pair[1]].size)
                drawn, shared = random_pairs(
                    (boxes[0], boxes[1]), (ids[0], ids[1]), sizes, self.share.count // 4, generator
                )
                boxes, ids = list(drawn), [shared, shared]
            dense = [proposals[i] if self.pairs == "quasi-dense" else proposals[i][:0] for i in pair]
            chosen.append(
                [quasi_dense(b, n, p, generator, self.share) for b, n, p in zip(boxes, ids, dense, strict=True)]
            )
        keys, refs = [key for key, _ in chosen], [ref for _, ref in chosen]
        all_boxes = [key.positives for key in keys] + [ref.boxes for ref in refs]
        joined = self.network.embed(levels, all_boxes).float()
        embeddings = joined.split([len(boxes) for boxes in all_boxes])
        contrast, margin = [], []
        with torch.autocast(levels[0].device.type, enabled=False):
            for key, ref, own, other in zip(keys, refs, embeddings[:items], embeddings[items:], strict=True):
                targets = pair_targets(key, ref)
                if self.pairs == "regions":
                    contrast.append(two_way_loss(own, other, targets))
                else:
                    contrast.append(contrastive_loss(own, other, targets))
                margin.append(margin_loss(own, other, targets))
        tie = nothing(*embeddings, *levels)  # a level that no box is read from
        losses = {
            "loss_track": self.weights["track_weight"] * torch.stack(contrast).mean() + tie,
            "loss_track_aux": self.weights["margin_weight"] * torch.stack(margin).mean(),
        }
        if self.weights["pull_weight"]:
            with torch.no_grad():
                start = self.network.embed_start(maps, all_boxes).float()
            apart = (1 - F.cosine_similarity(joined, start)).sum() / max(1, len(joined))
            losses["loss_pull"] = self.weights["pull_weight"] * apart
        return losses
