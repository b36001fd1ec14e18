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

from masa_track.errors import InputError, unknown_name
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

MAX_EMBED_BOXES = 512  # regions a pass of the track head: 25 MB of features, 26 MB more a convolution


@dataclass(frozen=True)
class OfficialSpec:
    """What sets one official model apart.

    Attributes:
        name: the name in this library.
        file: the checkpoint's name in the authors' Hugging Face repository.
        strides: pixels of the input per pixel of each of the five pyramid levels.
        roi_levels: how many of them boxes are read from.
        box_convs: convolutions of the box head.
        box_fcs: fully connected layers of the box head.
        score_threshold: of the class-agnostic detections.
        max_detections: class-agnostic detections an image.
        resize: (long side, short side) the picture is fitted into, in pixels.
        size_divisor: each side is padded to a multiple of this.
    """

    name: str
    file: str
    strides: tuple[int, ...] = (4, 8, 16, 32, 64)
    roi_levels: int = 4
    box_convs: int = 0
    box_fcs: int = 2
    score_threshold: float = 0.02
    max_detections: int = 50
    resize: tuple[int, int] = (1024, 1024)
    size_divisor: int = 32


SWIN_STRIDES = (8, 16, 32, 64, 128)

OFFICIAL = {
    spec.name: spec
    for spec in (
        OfficialSpec("r50", "masa_r50.pth", box_convs=4, box_fcs=1),
        # The size of its configs for new videos; its benchmark configs fit it into 1024 x 1024 and pad to that.
        OfficialSpec("gdino-swinb", "gdino_masa.pth", SWIN_STRIDES, roi_levels=3, resize=(1333, 800)),
        OfficialSpec(
            "detic-swinb", "detic_masa.pth", SWIN_STRIDES, roi_levels=3, score_threshold=0.05, max_detections=100
        ),
        OfficialSpec("sam-vitb", "sam_vitb_masa.pth", size_divisor=1024),
        OfficialSpec("sam-vith", "sam_vith_masa.pth", size_divisor=1024),
    )
}


class OfficialMasa(nn.Module):
    """One official model: images in, pyramid, embeddings and boxes out.

    Attributes:
        mean, std: of the input, RGB, in 0..255.
        size_divisor: the padded input's sides are multiples of it.
        long_side, short_side: pixels that the picture's sides are fitted into.
        dimension: of an embedding.

    Args:
        spec: the model's facts.
        backbone: images (B, 3, H, W) to maps, finest first.
        adapter: two modules, maps to pyramid and pyramid to fused pyramid.
    """

    mean = (123.675, 116.28, 103.53)
    std = (58.395, 57.12, 57.375)

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
        self.long_side, self.short_side = spec.resize
        self.size_divisor = spec.size_divisor

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
                ``spec.size_divisor``.

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


def build_official(name: str) -> OfficialMasa:
    """One of the authors' models with random weights, in evaluation mode.

    Args:
        name: ``r50``, ``sam-vitb``, ``sam-vith``, ``gdino-swinb`` or ``detic-swinb``.

    Raises:
        InputError: if there is no such model, or its backbone's library is not installed.
    """
    if name not in OFFICIAL:
        raise unknown_name("model", name, OFFICIAL)
    spec = OFFICIAL[name]
    if name.startswith("sam-"):
        taps = SamTaps(768, 12, 12, (2, 5, 8, 11)) if name == "sam-vitb" else SamTaps(1280, 32, 16, (7, 15, 23, 31))
        return OfficialMasa(spec, taps, [SimpleFPN(taps.channels[0]), DyHead()]).eval()
    backbone = CaffeResNet50() if name == "r50" else SwinB(window=12 if name == "gdino-swinb" else 7)
    return OfficialMasa(spec, backbone, [FPN(backbone.channels), DeformFusion()]).eval()
