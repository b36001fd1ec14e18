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


def small_configuration(side: int = 128, is_21: bool = True) -> Any:
    """transformers' configuration of the goldens' small network."""
    from transformers import Sam2HieraDetConfig

    from masa_track.masklets.sam2_keys import video_configuration

    backbone = Sam2HieraDetConfig(
        hidden_size=16, embed_dim_per_stage=[16, 32, 64, 128], blocks_per_stage=[1, 2, 3, 2], global_attention_blocks=[4, 5]
    )
    return video_configuration(
        backbone,
        side,
        is_21,
        width=128,
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
def frames(name: str) -> np.ndarray:
    """(T, 3, S, S) float32 normalised frames of a file of goldens."""
    info = goldens(name)[1]
    return recipe().frames(info["frame_seed"], info["frames"], info["size"], info["hide"], info["cut"])
