"""The authors' five models, assembled: backbone, adapter, track head, proposals and class-agnostic boxes.

Children carry the names of the official checkpoints (``backbone``, ``masa_adapter``, ``rpn_head``, ``roi_head``,
``track_head``), so that an official key and ours differ at most in the backbone; see :mod:`official_keys`.

Source: Li et al., Matching Anything by Segmenting Anything, CVPR 2024, and the configurations of its repository.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from masa_track.errors import InputError
from masa_track.models.box_head import BoxHead, RoIHead
from masa_track.models.deform_fusion import DeformFusion
from masa_track.models.dyhead import DyHead
from masa_track.models.fpn import FPN
from masa_track.models.official_keys import LoadReport, translate
from masa_track.models.resnet import CaffeResNet50
from masa_track.models.rpn import RPNHead
from masa_track.models.sam_vit import SamTaps
from masa_track.models.simple_fpn import SimpleFPN
from masa_track.models.swin import SwinB
from masa_track.models.track_head import TrackHead
from masa_track.registry import AUTHORS_PREPROCESSING

MAX_EMBED_BOXES = 512  # regions a pass of the track head: 25 MB of features, 26 MB more a convolution


@dataclass(frozen=True)
class OfficialSpec:
    """What sets the network of one official model apart; :mod:`masa_track.registry` has its other facts.

    Attributes:
        name: the name in this library.
        strides: pixels of the input per pixel of each of the five pyramid levels.
        roi_levels: how many of them boxes are read from.
        box_convs: convolutions of the box head.
        box_fcs: fully connected layers of the box head.
        score_threshold: of the class-agnostic detections.
        max_detections: class-agnostic detections an image.
    """

    name: str
    strides: tuple[int, ...] = (4, 8, 16, 32, 64)
    roi_levels: int = 4
    box_convs: int = 0
    box_fcs: int = 2
    score_threshold: float = 0.02
    max_detections: int = 50


class OfficialMasa(nn.Module):
    """One official model: images in, pyramid, embeddings and boxes out.

    Attributes:
        mean, std, long_side, short_side, size_divisor: of the input; see
            :class:`~masa_track.registry.Preprocessing`.
        dimension: of an embedding.

    Args:
        spec: the model's facts.
        backbone: images (B, 3, H, W) to maps, finest first.
        adapter: two modules, maps to pyramid and pyramid to fused pyramid.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    long_side: int
    short_side: int
    size_divisor: int

    def __init__(self, spec: OfficialSpec, backbone: nn.Module, adapter: Sequence[nn.Module]) -> None:
        super().__init__()
        self.spec = spec
        self.backbone = backbone
        self.masa_adapter = nn.ModuleList(adapter)
        box_strides = spec.strides[: spec.roi_levels]
        self.rpn_head = RPNHead(spec.strides)
        head = BoxHead(spec.box_convs, spec.box_fcs)
        self.roi_head = RoIHead(box_strides, head, spec.score_threshold, spec.max_detections)
        self.track_head = TrackHead(box_strides)
        self.channels = 256  # of every pyramid level
        self.reduction = spec.strides
        self.dimension = 256  # of an embedding
        AUTHORS_PREPROCESSING.set_on(self)

    def backbone_maps(self, images: Tensor) -> list[Tensor]:
        """The backbone's maps of ``images`` (B, 3, H, W), normalised, finest first."""
        return list(self.backbone(images))

    def adapt(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """The pyramid from the backbone's maps, wherever they were computed."""
        levels = list(maps)
        for module in self.masa_adapter:
            levels = module(levels)
        return levels

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """The fused pyramid.

        Args:
            images: (B, 3, H, W) RGB, normalised by the ImageNet mean and deviation, padded with zeros to
                ``size_divisor``.

        Returns:
            Five levels (B, 256, ceil(H / s), ceil(W / s)) for ``s`` in ``spec.strides``.
        """
        return self.adapt(self.backbone_maps(images))

    def embed(self, levels: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """Embeddings of boxes.

        Args:
            levels: from :meth:`pyramid`.
            boxes: one tensor (N_b, 4) an image, xyxy pixels of the images given to :meth:`pyramid`.

        Returns:
            (sum N_b, 256), not normalised, in the order of the boxes.
        """
        if sum(len(b) for b in boxes) <= MAX_EMBED_BOXES or torch.is_grad_enabled():
            return self.track_head(levels, boxes)
        parts = []
        for image, image_boxes in enumerate(boxes):
            own = [level[image : image + 1] for level in levels]
            parts += [self.track_head(own, [part]) for part in image_boxes.split(MAX_EMBED_BOXES)]
        return torch.cat(parts)

    def propose(self, levels: Sequence[Tensor], image_sizes: Sequence[tuple[int, int]]) -> list[tuple[Tensor, Tensor]]:
        """Class-agnostic proposals, boxes (N, 4) and scores (N,) an image; see :meth:`RPNHead.propose`."""
        return self.rpn_head.propose(levels, image_sizes)

    def detect(self, levels: Sequence[Tensor], image_sizes: Sequence[tuple[int, int]]) -> list[tuple[Tensor, Tensor]]:
        """Class-agnostic detections of the model's own head.

        Args:
            levels: from :meth:`pyramid`.
            image_sizes: (height, width) of each picture inside the padded input.

        Returns:
            For each image boxes (N, 4), xyxy pixels of the input, and scores (N,), best first.
        """
        if len(image_sizes) != len(levels[0]):
            raise InputError(f"image_sizes must name one size an image, {len(levels[0])}, got {len(image_sizes)}")
        proposals = [boxes for boxes, _ in self.propose(levels, image_sizes)]
        return self.roi_head.detect(levels, proposals, image_sizes)

    def load_official_state_dict(self, state_dict: Mapping[str, Tensor]) -> LoadReport:
        """Fills the model from an official state dict.

        Args:
            state_dict: tensors by their official keys.

        Returns:
            Which keys were used and which ignored.

        Raises:
            InputError: if keys are missing or of another shape; the message says what the state dict looks like.
        """
        ours, report = translate(self.spec.name, state_dict, self.state_dict())
        self.load_state_dict(ours, strict=False)  # translate has found all but counters
        return report


SWIN_STRIDES = (8, 16, 32, 64, 128)


def r50() -> OfficialMasa:
    """MASA on a ResNet-50, random weights, in evaluation mode."""
    return _with_fusion(OfficialSpec("r50", box_convs=4, box_fcs=1), CaffeResNet50())


def gdino_swinb() -> OfficialMasa:
    """MASA on the Swin-B of Grounding DINO, random weights, in evaluation mode."""
    return _with_fusion(OfficialSpec("gdino-swinb", SWIN_STRIDES, roi_levels=3), SwinB(window=12))


def detic_swinb() -> OfficialMasa:
    """MASA on the Swin-B of Detic, random weights, in evaluation mode."""
    spec = OfficialSpec("detic-swinb", SWIN_STRIDES, roi_levels=3, score_threshold=0.05, max_detections=100)
    return _with_fusion(spec, SwinB(window=7))


def sam_vitb() -> OfficialMasa:
    """MASA on the ViT-B of SAM, random weights, in evaluation mode. Raises InputError without segment-anything."""
    return _on_sam(OfficialSpec("sam-vitb"), SamTaps(768, 12, 12, (2, 5, 8, 11)))


def sam_vith() -> OfficialMasa:
    """MASA on the ViT-H of SAM, random weights, in evaluation mode. Raises InputError without segment-anything."""
    return _on_sam(OfficialSpec("sam-vith"), SamTaps(1280, 32, 16, (7, 15, 23, 31)))


def _with_fusion(spec: OfficialSpec, backbone: CaffeResNet50 | SwinB) -> OfficialMasa:
    return OfficialMasa(spec, backbone, [FPN(backbone.channels), DeformFusion()]).eval()


def _on_sam(spec: OfficialSpec, taps: SamTaps) -> OfficialMasa:
    return OfficialMasa(spec, taps, [SimpleFPN(taps.channels[0]), DyHead()]).eval()
