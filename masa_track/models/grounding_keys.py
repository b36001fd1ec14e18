"""From the detector's keys in the official ``gdino_masa.pth`` (mmdet's names) to transformers' Grounding DINO.

The backbone is not among them: detector and MASA share one, see :mod:`masa_track.detectors.grounded`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

PREFIX = "detector."
# (mmdet's name, a pattern; transformers' name); the first that fits counts.
_NAMES = (
    (r"level_embed", "model.level_embed"),
    (r"neck\.convs\.(\d)\.conv\.(.*)", r"model.input_proj_vision.\1.0.\2"),
    (r"neck\.convs\.(\d)\.gn\.(.*)", r"model.input_proj_vision.\1.1.\2"),
    (r"neck\.extra_convs\.0\.conv\.(.*)", r"model.input_proj_vision.3.0.\1"),
    (r"neck\.extra_convs\.0\.gn\.(.*)", r"model.input_proj_vision.3.1.\1"),
    (r"text_feat_map\.(.*)", r"model.text_projection.\1"),
    (r"language_model\.language_backbone\.body\.model\.(?!pooler\.)(.*)", r"model.text_backbone.\1"),
    (r"query_embedding\.(.*)", r"model.query_position_embeddings.\1"),
    (r"memory_trans_fc\.(.*)", r"model.enc_output.\1"),
    (r"memory_trans_norm\.(.*)", r"model.enc_output_norm.\1"),
    (r"bbox_head\.reg_branches\.6\.(\d)\.(.*)", r"model.encoder_output_bbox_embed.layers.\1.\2"),
    (r"bbox_head\.reg_branches\.(\d)\.(\d)\.(.*)", r"bbox_embed.\1.layers.\2.\3"),
    (r"encoder\.layers\.(\d)\.(.*)", r"model.encoder.layers.\1.deformable_layer.\2"),
    (
        r"encoder\.text_layers\.(\d)\.norms\.0\.(.*)",
        r"model.encoder.layers.\1.text_enhancer_layer.layer_norm_before.\2",
    ),
    (r"encoder\.text_layers\.(\d)\.norms\.1\.(.*)", r"model.encoder.layers.\1.text_enhancer_layer.layer_norm_after.\2"),
    (r"encoder\.text_layers\.(\d)\.(.*)", r"model.encoder.layers.\1.text_enhancer_layer.\2"),
    (r"encoder\.fusion_layers\.(\d)\.(.*)", r"model.encoder.layers.\1.fusion_layer.\2"),
    (r"decoder\.ref_point_head\.(.*)", r"model.decoder.reference_points_head.\1"),
    (r"decoder\.norm\.(.*)", r"model.decoder.layer_norm.\1"),
    (r"decoder\.(.*)", r"model.decoder.\1"),
)
# Parts of a layer's name, after the above.
_ENCODER_NORMS = {"norms.0.": "self_attn_layer_norm.", "norms.1.": "final_layer_norm."}
_DECODER_NORMS = {
    "norms.0.": "self_attn_layer_norm.",
    "norms.1.": "encoder_attn_text_layer_norm.",
    "norms.2.": "encoder_attn_layer_norm.",
    "norms.3.": "final_layer_norm.",
}
_PARTS = {
    "self_attn.attn.": "self_attn.",
    "cross_attn_text.attn.": "encoder_attn_text.",
    "cross_attn.": "encoder_attn.",
    "ffn.layers.0.0.": "fc1.",
    "ffn.layers.1.": "fc2.",
    "gamma_v": "vision_param",
    "gamma_l": "text_param",
    "layer_norm_v.": "layer_norm_vision.",
    "layer_norm_l.": "layer_norm_text.",
    "attn.v_proj.": "attn.vision_proj.",
    "attn.l_proj.": "attn.text_proj.",
    "attn.values_v_proj.": "attn.values_vision_proj.",
    "attn.values_l_proj.": "attn.values_text_proj.",
    "attn.out_v_proj.": "attn.out_vision_proj.",
    "attn.out_l_proj.": "attn.out_text_proj.",
}
_MLP_LAYER = {"0": "0", "2": "1", "4": "2"}  # linear layers of mmdet's box branch, between its ReLUs


def transformers_key(inner: str) -> str | None:
    """Transformers' key for mmdet's ``inner`` (without ``detector.``), or None where it has no such part.

    A fused attention projection, ``...in_proj_weight``, keeps that ending: :func:`to_transformers` splits it.
    """
    branch = re.fullmatch(r"(bbox_head\.reg_branches\.\d\.)(\d)(\..*)", inner)
    if branch:
        inner = f"{branch[1]}{_MLP_LAYER[branch[2]]}{branch[3]}"
    for pattern, name in _NAMES:
        if re.fullmatch(pattern, inner):
            key = re.sub(f"^{pattern}$", name, inner)
            break
    else:
        return None
    if "deformable_layer" in key or "decoder.layers" in key:
        for theirs, ours in (_ENCODER_NORMS if "deformable_layer" in key else _DECODER_NORMS).items():
            key = key.replace(theirs, ours)
    if ".layers." in key:
        for theirs, ours in _PARTS.items():
            if theirs in key:
                key = key.replace(theirs, ours)
                break
    return key


def to_transformers(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The detector's tensors in an official state dict, by transformers' keys.

    Args:
        state_dict: tensors by official key; those that are not the detector's head are left out.

    Returns:
        Tensors for ``GroundingDinoForObjectDetection`` without its backbone, its box branches not shared.
    """
    result: dict[str, Tensor] = {}
    for official, value in state_dict.items():
        if not official.startswith(PREFIX):
            continue
        key = transformers_key(official.removeprefix(PREFIX))
        if key is None:
            continue
        fused = re.fullmatch(r"(.*)in_proj_(weight|bias)", key)
        if fused:
            for part, tensor in zip(("query", "key", "value"), value.chunk(3), strict=True):
                result[f"{fused[1]}{part}.{fused[2]}"] = tensor
            continue
        result[key] = value
        if key.startswith("bbox_embed."):
            result[f"model.decoder.{key}"] = value
    return result
