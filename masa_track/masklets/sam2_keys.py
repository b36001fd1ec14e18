"""SAM 2's official checkpoints: keys in transformers' names, configurations, which model a file holds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

# Official key -> transformers' key; applied in this order.
_RULES: list[tuple[str, Any]] = [
    (
        r"^sam_prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix",
        "prompt_encoder.shared_embedding.positional_embedding",
    ),
    (r"^sam_prompt_encoder\.point_embeddings\.(\d)\.weight", r"prompt_encoder.point_embed.weight[\1]"),
    (r"^sam_prompt_encoder\.mask_downscaling\.0", "prompt_encoder.mask_embed.conv1"),
    (r"^sam_prompt_encoder\.mask_downscaling\.1", "prompt_encoder.mask_embed.layer_norm1"),
    (r"^sam_prompt_encoder\.mask_downscaling\.3", "prompt_encoder.mask_embed.conv2"),
    (r"^sam_prompt_encoder\.mask_downscaling\.4", "prompt_encoder.mask_embed.layer_norm2"),
    (r"^sam_prompt_encoder\.mask_downscaling\.6", "prompt_encoder.mask_embed.conv3"),
    (r"^sam_prompt_encoder", "prompt_encoder"),
    (r"^sam_mask_decoder", "mask_decoder"),
    (r"output_upscaling\.0", "upscale_conv1"),
    (r"output_upscaling\.1", "upscale_layer_norm"),
    (r"output_upscaling\.3", "upscale_conv2"),
    (r"^image_encoder\.trunk\.", "vision_encoder.backbone."),
    (r"^image_encoder\.neck\.convs\.(\d)\.conv", r"vision_encoder.neck.convs.\1"),
    (r"patch_embed\.proj\b", "patch_embed.projection"),
    (r"norm_final_attn", "layer_norm_final_attn"),
    (r"\.norm(\d?)\b", r".layer_norm\1"),
    (r"out_proj\b", "o_proj"),
    (r"memory_encoder\.o_proj", "memory_encoder.projection"),
    (r"pix_feat_proj", "feature_projection"),
    (r"\.fuser\.", ".memory_fuser."),
    (r"dwconv", "depthwise_conv"),
    (r"pwconv", "pointwise_conv"),
    (r"gamma$", "scale"),
    (r"mask_downsampler\.encoder\.12", "mask_downsampler.final_conv"),
    (r"mask_downsampler\.encoder\.(\d+)\.", lambda found: _downsampler(int(found[1]))),
    (r"^maskmem_tpos_enc", "memory_temporal_positional_encoding"),
    (r"^no_mem_embed", "no_memory_embedding"),
    (r"^no_mem_pos_enc", "no_memory_positional_encoding"),
    (r"^no_obj_ptr", "no_object_pointer"),
    (r"^no_obj_embed_spatial", "occlusion_spatial_embedding_parameter"),
    (r"^obj_ptr_tpos_proj", "temporal_positional_encoding_projection_layer"),
    (r"^obj_ptr_proj", "object_pointer_proj"),
]
# Of these the first layer is proj_in, the last proj_out, those between are layers.0, layers.1, ...
_MLP = re.compile(
    r"(.*\b(?:mlp|object_pointer_proj|output_hypernetworks_mlps\.\d|iou_prediction_head|pred_obj_score_head))"
    r"\.layers\.(\d)(\..*)"
)
_ONLY_21 = ("no_obj_embed_spatial", "obj_ptr_tpos_proj.weight", "obj_ptr_tpos_proj.bias")
_PATCHES = "image_encoder.trunk.patch_embed.proj.weight"
_BLOCK = re.compile(r"image_encoder\.trunk\.blocks\.(\d+)\.")
# What a file looks like by a part of its keys; the first that is found counts.
_STRANGERS = (
    ("spatial_perceiver", "an official EdgeTAM checkpoint: give the folder of its Hugging Face version"),
    ("detector.", "SAM 3"),
    ("image_encoder.patch_embed", "SAM 1"),
    ("vision_encoder.backbone", "weights in Hugging Face's keys: give the folder, with its config.json"),
    ("masa_adapter", "a MASA model"),
)
_SIZES: dict[str, dict[str, Any]] = {
    "tiny": {},
    "small": {"blocks_per_stage": [1, 2, 11, 2], "global_attention_blocks": [7, 10, 13]},
    "base-plus": {
        "hidden_size": 112,
        "num_attention_heads": 2,
        "embed_dim_per_stage": [112, 224, 448, 896],
        "num_attention_heads_per_stage": [2, 4, 8, 16],
        "blocks_per_stage": [2, 3, 16, 3],
        "global_attention_blocks": [12, 16, 20],
        "window_positional_embedding_background_size": [14, 14],
    },
    "large": {
        "hidden_size": 144,
        "num_attention_heads": 2,
        "embed_dim_per_stage": [144, 288, 576, 1152],
        "num_attention_heads_per_stage": [2, 4, 8, 16],
        "blocks_per_stage": [2, 6, 36, 4],
        "global_attention_blocks": [23, 33, 43],
        "window_size_per_stage": [8, 4, 16, 8],
    },
}
SIZE_OF = {(96, 12): "tiny", (96, 16): "small", (112, 24): "base-plus", (144, 48): "large"}  # width, blocks


def _downsampler(number: int) -> str:
    return f"mask_downsampler.layers.{number // 3}.{'layer_norm' if number % 3 else 'conv'}."


def hub_keys(keys: Iterable[str]) -> dict[str, str]:
    """{official key: transformers' key}. ``KEY[i]`` is row i of a table."""
    names = {}
    for key in keys:
        name = key
        for pattern, new in _RULES:
            name = re.sub(pattern, new, name)
        names[key] = name
    last: dict[str, int] = {}
    for name in names.values():
        if found := _MLP.match(name):
            last[found[1]] = max(last.get(found[1], 0), int(found[2]))
    for key, name in names.items():
        if found := _MLP.match(name):
            layer = int(found[2])
            place = "proj_in" if layer == 0 else "proj_out" if layer == last[found[1]] else f"layers.{layer - 1}"
            names[key] = f"{found[1]}.{place}{found[3]}"
    return names


def to_hub(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of ``Sam2VideoModel`` from an official one."""
    converted: dict[str, Tensor] = {}
    rows: dict[int, Tensor] = {}
    for key, name in hub_keys(state).items():
        if name.endswith("]"):
            rows[int(name[-2])] = state[key]
        else:
            converted[name] = state[key]
    if rows:
        converted["prompt_encoder.point_embed.weight"] = torch.cat([rows[i] for i in sorted(rows)])
    table = converted.get("prompt_encoder.shared_embedding.positional_embedding")
    if table is not None:  # transformers keeps it twice
        converted["shared_image_embedding.positional_embedding"] = table.clone()
    return converted


def identify(shapes: Mapping[str, tuple[int, ...]]) -> tuple[str | None, str]:
    """Which model an official state dict is of.

    Args:
        shapes: by official key.

    Returns:
        The name, e.g. ``sam2.1-hiera-tiny``, or None; and what it looks like, in words for a message.
    """
    for part, words in _STRANGERS:
        if any(part in key for key in shapes):
            return None, words
    blocks = {int(found[1]) for key in shapes if (found := _BLOCK.match(key))}
    size = SIZE_OF.get((shapes.get(_PATCHES, (0,))[0], len(blocks)))
    if size is None:
        return None, f"no model known here (its first key is {next(iter(shapes), '')!r})"
    version = "2.1" if all(key in shapes for key in _ONLY_21) else "2"
    return f"sam{version}-hiera-{size}", f"sam{version}-hiera-{size}"


def configuration(name: str, side: int = 1024) -> Any:
    """transformers' ``Sam2VideoConfig`` of an official model.

    Args:
        name: ``sam2-hiera-SIZE`` or ``sam2.1-hiera-SIZE``, SIZE one of :data:`~masa_track.masklets.models.SIZES`.
        side: pixels of the square that pictures are scaled to; a multiple of 32. The weights are for 1024.
    """
    from transformers import Sam2HieraDetConfig

    version, size = name.split("-hiera-")
    return video_configuration(Sam2HieraDetConfig(**_SIZES[size]), side, version == "sam2.1")


def video_configuration(backbone: Any, side: int, is_21: bool, width: int = 256, **others: Any) -> Any:
    """A ``Sam2VideoConfig`` of a backbone's configuration.

    Args:
        backbone: ``Sam2HieraDetConfig``; its ``image_size`` is set.
        side: as of :func:`configuration`.
        is_21: SAM 2.1: pointers have temporal positions, and absent objects an embedding of their own.
        width: channels of the coarsest map.
        others: further arguments of ``Sam2VideoConfig``.
    """
    from transformers import (
        Sam2VideoConfig,
        Sam2VideoMaskDecoderConfig,
        Sam2VideoPromptEncoderConfig,
        Sam2VisionConfig,
    )

    backbone.image_size = [side, side]
    vision = Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=backbone.embed_dim_per_stage[::-1],
        fpn_hidden_size=width,
        backbone_feature_sizes=[[side // stride] * 2 for stride in (4, 8, 16)],
    )
    return Sam2VideoConfig(
        vision_config=vision,
        prompt_encoder_config=Sam2VideoPromptEncoderConfig(hidden_size=width, image_size=side),
        mask_decoder_config=Sam2VideoMaskDecoderConfig(hidden_size=width),
        image_size=side,
        memory_attention_hidden_size=width,
        memory_attention_rope_feat_sizes=[side // 16] * 2,
        memory_encoder_hidden_size=width,
        mask_downsampler_embed_dim=width,
        memory_fuser_embed_dim=width,
        enable_occlusion_spatial_embedding=is_21,
        enable_temporal_pos_encoding_for_object_pointers=is_21,
        **others,
    )
