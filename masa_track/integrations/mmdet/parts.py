"""The parts of an official configuration's model: which of them are networks of this library, and with what settings.

A part that is one of the authors' becomes ours, with the same parameters under the same names; any other backbone or
neck is mmdet's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mmdet.registry import MODELS
from torch import Tensor, nn

from masa_track.errors import InputError
from masa_track.models import deform_fusion, dyhead, fpn, simple_fpn, track_head
from masa_track.models.official import OfficialMasa, OfficialSpec
from masa_track.models.resnet import CaffeResNet50
from masa_track.training.losses import contrastive_loss

STRIDES = (4, 8, 16, 32, 64)
ROI_STRIDES = (4, 8, 16, 32)


def must_be(part: str, given: Mapping[str, Any], **wanted: Any) -> None:
    """Raises InputError where a part's configuration asks for what ours does not have."""
    for name, value in wanted.items():
        got = given.get(name, value)
        got = list(got) if isinstance(got, tuple) else got
        if got != value:
            raise InputError(f"{part}.{name} must be {value!r}, as in the authors' configurations, got {got!r}")


@MODELS.register_module()
class DeformFusion(deform_fusion.DeformFusion):
    """Our :class:`~masa_track.models.deform_fusion.DeformFusion` by the official keys."""

    def __init__(self, in_channels: int = 256, out_channels: int = 256, num_blocks: int = 3) -> None:
        if in_channels != out_channels:
            raise InputError(f"DeformFusion.out_channels must be in_channels, {in_channels}, got {out_channels}")
        super().__init__(in_channels, num_blocks)


@MODELS.register_module()
class SimpleFPN(simple_fpn.SimpleFPN):
    """Our :class:`~masa_track.models.simple_fpn.SimpleFPN` by the official keys."""

    def __init__(
        self,
        in_channels: Sequence[int] = (768,) * 4,
        out_channels: int = 256,
        num_outs: int = 5,
        use_residual: bool = True,
    ) -> None:
        if len(in_channels) != 4 or len(set(in_channels)) != 1 or not use_residual:
            raise InputError(
                "SimpleFPN takes four maps of the same channels and use_residual=True, got "
                f"in_channels={list(in_channels)}, use_residual={use_residual}"
            )
        super().__init__(in_channels[0], out_channels, num_outs)


@MODELS.register_module()
class MasaTrackHead(track_head.TrackHead):
    """Our :class:`~masa_track.models.track_head.TrackHead` by the official keys.

    Attributes:
        loss_weights: of the two losses: ``track_weight``, ``margin_weight``.
        samples: the largest number of boxes of a view in the losses.
    """

    def __init__(
        self,
        roi_extractor: Mapping[str, Any] | None = None,
        embed_head: Mapping[str, Any] | None = None,
        train_cfg: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> None:
        extractor, head = roi_extractor or {}, embed_head or {}
        must_be("track_head.roi_extractor.roi_layer", extractor.get("roi_layer", {}), output_size=7, sampling_ratio=0)
        must_be("track_head.embed_head", head, num_fcs=1, norm_cfg={"type": "GN", "num_groups": 32})
        super().__init__(extractor.get("featmap_strides", ROI_STRIDES))
        channels = extractor.get("out_channels", 256)
        self.embed_head = track_head.EmbedHead(
            channels, head.get("fc_out_channels", 1024), head.get("embed_channels", 256), head.get("num_convs", 4)
        )
        self.loss_weights = {
            "track_weight": float(head.get("loss_track", {}).get("loss_weight", 0.25)),
            "margin_weight": float(head.get("loss_track_aux", {}).get("loss_weight", 1.0)),
        }
        self.samples = int((train_cfg or {}).get("sampler", {}).get("num", 512))


@MODELS.register_module()
class UnbiasedContrastLoss(nn.Module):
    """Our :func:`~masa_track.training.losses.contrastive_loss` by the official keys, on dot products."""

    def __init__(self, reduction: str = "mean", loss_weight: float = 1.0) -> None:
        super().__init__()
        must_be("UnbiasedContrastLoss", {"reduction": reduction}, reduction="mean")
        self.loss_weight = loss_weight

    def forward(self, key: Tensor, ref: Tensor, targets: Tensor) -> Tensor:
        """The weighted loss of embeddings (P, D) and (R, D), given which are the same, (P, R)."""
        return self.loss_weight * contrastive_loss(key, ref, targets)


def _resnet(config: Mapping[str, Any]) -> nn.Module | None:
    usual = config.get("depth") == 50 and config.get("style") == "caffe" and config.get("num_stages", 4) == 4
    return CaffeResNet50() if usual and tuple(config.get("out_indices", (0, 1, 2, 3))) == (0, 1, 2, 3) else None


def _fpn(config: Mapping[str, Any]) -> nn.Module | None:
    norm = (config.get("norm_cfg") or {}).get("type")
    usual = {"type", "in_channels", "out_channels", "num_outs", "norm_cfg"} >= set(config)
    if not usual or norm not in (None, "BN", "SyncBN"):
        return None
    return fpn.FPN(config["in_channels"], config["out_channels"], config["num_outs"], "bn" if norm else "none")


def _dyhead(config: Mapping[str, Any]) -> nn.Module | None:
    usual = {"type", "in_channels", "out_channels", "num_blocks"} >= set(config)
    same = config["in_channels"] == config["out_channels"]
    return dyhead.DyHead(config["in_channels"], config.get("num_blocks", 6)) if usual and same else None


OURS: dict[str, Callable[[Mapping[str, Any]], nn.Module | None]] = {"ResNet": _resnet, "FPN": _fpn, "DyHead": _dyhead}


def build_part(config: Mapping[str, Any]) -> nn.Module:
    """A backbone or neck: ours where it is the authors', mmdet's otherwise."""
    ours = OURS.get(str(config.get("type")), lambda _: None)(config)
    return MODELS.build(config) if ours is None else ours


def spec_of(
    rpn_head: Mapping[str, Any] | None,
    roi_head: Mapping[str, Any] | None,
    test_cfg: Mapping[str, Any] | None,
    strides: Sequence[int],
) -> OfficialSpec:
    """The facts of an official network from its configuration.

    Raises:
        InputError: they ask for proposals or boxes of another kind than the authors'.
    """
    rcnn = (test_cfg or {}).get("rcnn", {})
    must_be("test_cfg.rcnn.nms", rcnn.get("nms", {}), type="nms", iou_threshold=0.5)
    anchors = (rpn_head or {}).get("anchor_generator", {})
    must_be("rpn_head", rpn_head or {}, type="RPNHead", in_channels=256, feat_channels=256)
    must_be("rpn_head.anchor_generator", anchors, scales=[8], ratios=[0.5, 1.0, 2.0])
    must_be("roi_head", roi_head or {}, type="StandardRoIHead")
    extractor = (roi_head or {}).get("bbox_roi_extractor", {})
    head = (roi_head or {}).get("bbox_head", {})
    must_be("roi_head.bbox_head", head, num_classes=1, reg_class_agnostic=True, fc_out_channels=1024)
    kinds = {"Shared4Conv1FCBBoxHead": (4, 1), "Shared2FCBBoxHead": (0, 2)}
    kind = head.get("type", "Shared2FCBBoxHead")
    if kind not in kinds:
        raise InputError(f"roi_head.bbox_head.type must be one of {', '.join(kinds)}, got {kind!r}")
    levels = tuple(anchors.get("strides", strides))
    return OfficialSpec(
        "mmdet",
        levels,
        roi_levels=len(extractor.get("featmap_strides", levels[:4])),
        box_convs=kinds[kind][0],
        box_fcs=kinds[kind][1],
        score_threshold=float(rcnn.get("score_thr", 0.02)),
        max_detections=int(rcnn.get("max_per_img", 50)),
    )


def assemble(
    backbone: nn.Module,
    adapter: Sequence[Mapping[str, Any]],
    head: Mapping[str, Any],
    rpn_head: Mapping[str, Any] | None,
    roi_head: Mapping[str, Any] | None,
    test_cfg: Mapping[str, Any] | None,
) -> OfficialMasa:
    """The network that an official configuration describes; without ``rpn_head`` and ``roi_head`` it has none."""
    extractor = head.get("roi_extractor", {})
    first = list(extractor.get("featmap_strides", ROI_STRIDES))
    while len(first) < len(STRIDES):
        first.append(first[-1] * 2)
    spec = spec_of(rpn_head, roi_head, test_cfg, first)
    network = OfficialMasa(spec, backbone, [build_part(part) for part in adapter])
    network.track_head = MasaTrackHead(**{key: value for key, value in head.items() if key != "type"})
    rpn = (test_cfg or {}).get("rpn", {})
    network.rpn_head.per_level = int(rpn.get("nms_pre", network.rpn_head.per_level))
    network.rpn_head.max_proposals = int(rpn.get("max_per_img", network.rpn_head.max_proposals))
    nothing: Any = None
    if rpn_head is None:
        network.rpn_head = nothing
    if roi_head is None:
        network.roi_head = nothing
    return network
