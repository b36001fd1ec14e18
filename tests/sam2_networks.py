"""Networks of SAM 2 and EdgeTAM with deterministic weights, for tests: there are no real ones here."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

FOLDER = Path(os.environ.get("MASA_GOLDENS", Path(__file__).parent / "goldens")) / "sam2"


@functools.cache
def recipe() -> ModuleType:
    """What rebuilds weights, frames and prompts: ``recipe.py`` beside the goldens."""
    spec = importlib.util.spec_from_file_location("sam2_recipe", FOLDER / "recipe.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@functools.cache
def goldens(name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays of a file of goldens, and its ``info``."""
    with np.load(FOLDER / f"{name}.npz") as file:
        arrays = {key: file[key] for key in file.files}
    return arrays, json.loads(str(arrays["info"]))


def official_keys(info: dict[str, Any]) -> dict[str, Any]:
    """{official key: [shape, transformers' key]} of the configuration of a file of goldens."""
    name = "keys_small" if info["config"] == "small" else f"keys_sam2.1_{info['config']}"
    return json.loads((FOLDER / f"{name}.json").read_text())


def official_weights(info: dict[str, Any], changed: dict[str, Any] | None = None) -> dict[str, Any]:
    """An official state dict, as a ``.pt`` file has it."""
    import torch

    overrides = {**info["overrides"], **(changed or {})}
    filled = recipe().filled(official_keys(info), info["weight_suffix"], overrides)
    return {key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in filled.items()}


def small_configuration(side: int = 128, is_21: bool = True, width: int = 128) -> Any:
    """transformers' configuration of the goldens' small network."""
    from transformers import Sam2HieraDetConfig

    from masa_track.masklets.sam2_keys import video_configuration

    backbone = Sam2HieraDetConfig(
        hidden_size=16,
        embed_dim_per_stage=[16, 32, 64, 128],
        blocks_per_stage=[1, 2, 3, 2],
        global_attention_blocks=[4, 5],
    )
    return video_configuration(
        backbone,
        side,
        is_21,
        width=width,
        memory_attention_num_layers=2,
        memory_attention_feed_forward_hidden_size=256,
        memory_fuser_intermediate_dim=512,
    )


def build(info: dict[str, Any], changed: dict[str, Any] | None = None) -> Any:
    """The network of a file of goldens; ``changed`` are a scenario's own weights."""
    pytest.importorskip("transformers")
    from transformers import Sam2VideoModel

    from masa_track.masklets.sam2 import Sam2Network
    from masa_track.masklets.sam2_keys import configuration, to_hub

    if info["config"] == "small":
        config = small_configuration(info["size"])
    else:
        config = configuration("sam2.1-" + info["config"].replace("_", "-"), info["size"])
    model = Sam2VideoModel(config).eval()
    model.load_state_dict(to_hub(official_weights(info, changed)))
    return Sam2Network(model, "goldens")


@functools.cache
def small_network() -> Any:
    """The goldens' small network."""
    return build(goldens("sam2_small")[1])


@functools.cache
def quick_network() -> Any:
    """The same on pictures of 64 x 64 pixels, with higher object scores: most objects are visible."""
    info = goldens("sam2_small")[1]
    return build({**info, "size": 64}, info["scenarios"]["mask_seen"]["weights"])


@functools.cache
def frames(name: str) -> np.ndarray:
    """(T, 3, S, S) float32 normalised frames of a file of goldens."""
    info = goldens(name)[1]
    return recipe().frames(info["frame_seed"], info["frames"], info["size"], info["hide"], info["cut"])


@functools.cache
def edgetam_network() -> Any:
    """EdgeTAM's video parts on a small Hiera, with random weights; its own backbone is timm's."""
    pytest.importorskip("transformers")
    import torch
    from transformers import (
        EdgeTamVideoConfig,
        EdgeTamVideoMaskDecoderConfig,
        EdgeTamVideoModel,
        EdgeTamVideoPromptEncoderConfig,
    )

    from masa_track.masklets.sam2 import EdgeTamNetwork

    side, width = 256, 128  # its resampler has 16 x 16 windows
    config = EdgeTamVideoConfig(
        vision_config=small_configuration(side, width=width).vision_config,
        prompt_encoder_config=EdgeTamVideoPromptEncoderConfig(hidden_size=width, image_size=side),
        mask_decoder_config=EdgeTamVideoMaskDecoderConfig(hidden_size=width, mlp_dim=128, iou_head_hidden_dim=64),
        image_size=side,
        memory_attention_hidden_size=width,
        memory_attention_mlp_hidden_size=128,
        memory_attention_rope_feat_sizes=[side // 16] * 2,
        memory_encoder_hidden_size=width,
        mask_downsampler_embed_dim=width,
        memory_fuser_embed_dim=width,
        memory_fuser_intermediate_dim=128,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = EdgeTamVideoModel(config).eval()
        for name, parameter in model.named_parameters():
            # transformers starts with deviations of .02 and zeros, with which memory would hardly count
            if parameter.ndim >= 2:
                torch.nn.init.normal_(parameter, std=float(np.prod(parameter.shape[1:])) ** -0.5)
            elif name.endswith("scale"):
                torch.nn.init.constant_(parameter, 0.5)
            elif "norm" not in name:
                torch.nn.init.normal_(parameter, std=0.1)
        model.mask_decoder.pred_obj_score_head.proj_out.bias.data.fill_(1.0)
    model.shared_image_embedding.positional_embedding.data.copy_(
        model.prompt_encoder.shared_embedding.positional_embedding.data
    )
    return EdgeTamNetwork(model, "edgetam")
