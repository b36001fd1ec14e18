"""From the keys of an official checkpoint to ours, with a report, and a guess at what a state dict is.

Ours differ from the official ones in the backbone only: the unified models keep theirs under ``detector.``, and
Swin's blocks have torchvision's names here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from masa_track.errors import InputError
from masa_track.models.swin import unfold_to_torchvision
from masa_track.registry import told_by

COUNTER = "num_batches_tracked"  # of a batch norm: training's, never needed

# Swin's parts, mmdet's name to torchvision's within a block.
_BLOCK = (
    ("attn.w_msa.", "attn."),
    ("ffn.layers.0.0.", "mlp.0."),
    ("ffn.layers.1.", "mlp.3."),
)
# What a state dict is by a key that it holds, the first that fits; for messages.
_STRANGERS = (
    ("steps", "a checkpoint that tools/train.py goes on from: take the .safetensors that it writes at the end"),
    ("obj_queries.weight", "MTTR, for sentences: masa_track.refer.weights.convert_weights takes it"),
    ("image_encoder.patch_embed.proj.weight", "SAM itself, without MASA's adapter"),
    ("module.image_encoder.patch_embed.proj.weight", "SAM itself, without MASA's adapter"),
    ("backbone.patch_embed.projection.weight", "an mmdet detector on a Swin backbone, without MASA's adapter"),
    ("backbone.patch_embed.proj.weight", "SAM itself, without MASA's adapter"),
    ("model.backbone.conv_encoder.model.embeddings.patch_embeddings.projection.weight", "transformers' Grounding DINO"),
    ("transformer.level_embed", "Grounding DINO's own repository, without MASA's adapter"),
    ("rpn_head.rpn_conv.weight", "an mmdet detector, without MASA's adapter"),
    ("backbone.conv1.weight", "an mmdet model on a ResNet, without MASA's adapter"),
    ("fc.weight", "a torchvision classifier"),
    ("model.0.conv.weight", "a YOLO detector"),
    ("backbone.conv_stem.weight", "nano, this library's own"),
    ("backbone.features.conv_stem.weight", "nano, this library's own"),
)


@dataclass(frozen=True)
class LoadReport:
    """What became of the keys of a checkpoint.

    Attributes:
        used: official keys that filled the model.
        ignored: official keys the model has no place for (the detector's own parts, counters).
        missing: keys of the model that nothing filled; only batch norms' counters can be, after a load.
    """

    used: tuple[str, ...]
    ignored: tuple[str, ...]
    missing: tuple[str, ...] = ()

    def __str__(self) -> str:
        """One line, with the ignored keys by their first two parts."""
        parts: dict[str, int] = {}
        for key in self.ignored:
            group = ".".join(key.split(".")[:2])
            parts[group] = parts.get(group, 0) + 1
        ignored = ", ".join(f"{group} {count}" for group, count in sorted(parts.items()))
        return (
            f"{len(self.used)} tensors used, {len(self.ignored)} ignored{f' ({ignored})' if ignored else ''}, "
            f"{len(self.missing)} missing"
        )


def looks_like(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """What a state dict looks like, in words for a message."""
    spec = told_by(shapes)
    if spec is not None:
        return f"the official {spec.name}"
    for key, words in _STRANGERS:
        if key in shapes:
            return words
    if any(key.startswith("masa_adapter.") for key in shapes):
        return "another model with MASA's adapter"
    first = next(iter(shapes), None)
    return "an empty state dict" if first is None else f"no model known here (its first key is {first!r})"


def our_key(key: str) -> str:
    """Our key for an official key; one we have no place for comes back in a form that matches nothing of ours."""
    if not key.startswith("detector.backbone."):
        return key
    inner = key.removeprefix("detector.backbone.")
    if inner.startswith(("patch_embed.proj.", "blocks.", "pos_embed", "neck.")):
        return f"backbone.encoder.{inner}"  # segment-anything's own names
    return f"backbone.{swin_key(inner)}"


def swin_key(inner: str) -> str:
    """Torchvision's name, below ``SwinB``, for a Swin parameter that mmdet calls ``inner``."""
    parts = inner.split(".")
    if parts[0] == "patch_embed":
        return f"body.0.{0 if parts[1] == 'projection' else 2}.{parts[2]}"
    if parts[0] == "stages" and parts[2] == "blocks":
        rest = ".".join(parts[4:])
        for theirs, ours in _BLOCK:
            rest = rest.replace(theirs, ours)
        return f"body.{2 * int(parts[1]) + 1}.{parts[3]}.{rest}"
    if parts[0] == "stages" and parts[2] == "downsample":
        return f"body.{2 * int(parts[1]) + 2}.{'.'.join(parts[3:])}"
    if parts[0] in ("norm1", "norm2", "norm3"):
        return f"norms.{int(parts[0][-1]) - 1}.{parts[1]}"
    return inner


def translate(
    name: str, state_dict: Mapping[str, Tensor], own: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], LoadReport]:
    """Renames an official state dict and checks that it fills the model.

    Args:
        name: the model's name.
        state_dict: tensors by official key.
        own: the model's own state dict, for its keys and shapes.

    Returns:
        Tensors by our keys, and the report.

    Raises:
        InputError: if a key of the model is missing or has another shape.
    """
    ours: dict[str, Tensor] = {}
    used, ignored = [], []
    for key, value in state_dict.items():
        target = our_key(key)
        if target in own:
            merging = key.startswith("detector.backbone.stages.") and ".downsample." in key
            ours[target] = unfold_to_torchvision(value) if merging else value
            used.append(key)
        else:
            ignored.append(key)
    missing = tuple(key for key in own if key not in ours)
    lacking = [key for key in missing if not key.endswith(COUNTER)]
    misfit = [key for key, value in ours.items() if value.shape != own[key].shape]
    if lacking or misfit:
        shapes = {key: tuple(value.shape) for key, value in state_dict.items()}
        example = (lacking + misfit)[0]
        raise InputError(
            f"these are not the weights of {name!r}: {len(lacking)} tensors are missing and {len(misfit)} of another "
            f"shape, e.g. {example!r}; it looks like {looks_like(shapes)}"
        )
    return ours, LoadReport(tuple(used), tuple(ignored), missing)
