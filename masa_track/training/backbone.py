"""The frozen backbone: where its weights come from, and a proof that training has left it alone."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from masa_track.errors import InputError
from masa_track.models.checkpoints import fetch, read_checkpoint, read_safetensors
from masa_track.models.official_keys import COUNTER, our_key
from masa_track.models.swin import unfold_to_torchvision
from masa_track.registry import find_model

PREFIXES = ("detector.backbone.", "backbone.", "image_encoder.", "")  # MASA's, mmdet's and nano's, SAM's, timm's


def load_backbone(network: nn.Module, weights: str | Path) -> None:
    """Fills ``network.backbone``.

    Args:
        network: with a ``backbone``.
        weights: a model's name (``nano``), a .safetensors, or a .pth that is read without running anything in
            it: of SAM, of mmdet's Grounding DINO, Detic or ResNet, of MASA, or of the backbone alone.

    Raises:
        InputError: if the file is missing or broken, or does not hold all of the backbone.
    """
    spec = find_model(str(weights))
    path = Path(weights) if spec is None else fetch(spec.name)
    tensors = read_safetensors(path)[0] if path.suffix == ".safetensors" else read_checkpoint(path)
    own = {f"backbone.{key}": value for key, value in network.get_submodule("backbone").state_dict().items()}
    for prefix in PREFIXES:
        found: dict[str, Tensor] = {}
        for key, value in tensors.items():
            if not key.startswith(prefix):
                continue
            inner = key.removeprefix(prefix)
            target = f"backbone.{inner}" if f"backbone.{inner}" in own else our_key(f"detector.backbone.{inner}")
            if target in own:
                merging = inner.startswith("stages.") and ".downsample." in inner  # mmdet's Swin
                found[target] = unfold_to_torchvision(value) if merging else value
        if found:
            break
    missing = [key for key in own if key not in found and not key.endswith(COUNTER)]
    misfit = [key for key in found if found[key].shape != own[key].shape]
    if missing or misfit:
        raise InputError(
            f"backbone_weights {str(weights)!r} do not fill the backbone of {type(network).__name__}: "
            f"{len(missing)} tensors are missing and {len(misfit)} of another shape, e.g. {(missing + misfit)[0]!r}"
        )
    with torch.no_grad():
        network.load_state_dict(
            {key: value.to(own[key].dtype) for key, value in found.items()}, strict=False
        )  # all are there but counters
