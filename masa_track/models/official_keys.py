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


@dataclass(frozen=True)
class LoadReport:
    """What became of the keys of a checkpoint.

    Attributes:
        used: official keys that filled the model.
        ignored: official keys the model has no place for (the detector's own parts, counters).
        missing: keys of the model that nothing filled, under the model's own names; empty after a complete load.
    """

    used: tuple[str, ...]
    ignored: tuple[str, ...]
    missing: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{len(self.used)} tensors used, {len(self.ignored)} ignored, {len(self.missing)} missing"


# Swin's parts, mmdet's name to torchvision's within a block.
_BLOCK = (
    ("attn.w_msa.", "attn."),
    ("ffn.layers.0.0.", "mlp.0."),
    ("ffn.layers.1.", "mlp.3."),
)


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
        if target.endswith("relative_position_index"):
            ignored.append(key)  # derived from the window's size; the two libraries store it in different shapes
        elif target in own:
            ours[target] = unfold_to_torchvision(value) if ".downsample." in key and "stages." in key else value
            used.append(key)
        else:
            ignored.append(key)
    missing = tuple(key for key in own if key not in ours and not key.endswith("relative_position_index"))
    if missing:
        raise InputError(f"not a checkpoint of {name}: {len(missing)} tensors are missing, first {missing[0]}")
    return ours, LoadReport(tuple(used), tuple(ignored))
