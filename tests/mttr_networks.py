"""The networks and inputs of the goldens of MTTR, rebuilt by the recipe of their README."""

from __future__ import annotations

import json
import os
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from masa_track.refer.model import Mttr
from masa_track.refer.official_keys import our_state
from masa_track.refer.settings import MttrSettings, TextSettings

GOLDENS = Path(os.environ.get("MASA_GOLDENS", Path(__file__).parent / "goldens")) / "mttr"
SHARED = Path(__file__).resolve().parents[2] / "shared" / "goldens" / "mttr"
SMALL = MttrSettings(
    embed=24,
    depths=(2, 2, 2, 2),
    heads=(2, 4, 8, 16),
    window=(4, 3, 3),
    text=TextSettings(vocabulary=100, width=48, layers=2, heads=4, hidden=96, positions=34),
    width=64,
    attention_heads=4,
    feed_forward=96,
    encoder_layers=2,
    decoder_layers=3,
    queries=7,
)
SETTINGS = {"small": SMALL, "full": MttrSettings()}


def golden_file(name: str) -> Path:
    """A file of goldens: in the repository, or where it is large, beside it."""
    return GOLDENS / name if (GOLDENS / name).is_file() else SHARED / name


@cache
def arrays(name: str) -> Any:
    """The arrays of a file of goldens."""
    with np.load(golden_file(name)) as file:
        return {key: file[key] for key in file.files}


@cache
def official_state(size: str) -> dict[str, Tensor]:
    """The deterministic weights of the network ``small`` or ``full``, by official key."""
    state = {}
    for key, shape in json.loads(golden_file(f"keys/mttr_{size}.json").read_text()).items():
        if key.endswith(("relative_position_index", "position_ids")):
            state[key] = torch.zeros(shape, dtype=torch.long)
            continue
        draws = np.random.RandomState(zlib.crc32(key.encode()) & 0xFFFFFFFF)
        x = draws.standard_normal(shape).astype(np.float32)
        if key != "obj_queries.weight" and len(shape) > 1:
            x = x * np.float32(np.sqrt(2 / np.prod(shape[1:])))
            if "position_bias" in key:
                x = x * np.float32(0.1)
        elif len(shape) == 1:
            x = (1 + 0.1 * x if key.endswith("weight") else 0.1 * x).astype(np.float32)
        state[key] = torch.from_numpy(x)
    return state


def network(size: str, frozen_text: bool = True) -> Mttr:
    """The network ``small`` or ``full`` with the goldens' weights, in evaluation mode."""
    built = Mttr(SETTINGS[size], frozen_text)
    report = built.load_state_dict(our_state(official_state(size)), strict=False)
    assert not report.unexpected_keys
    assert all(key.endswith("relative_position_index") for key in report.missing_keys)
    return built.eval()


def clips(rows: np.ndarray) -> tuple[Tensor, Tensor]:
    """The padded clips (B, 3, T, H, W) of rows of seed, T, H, W, and their padding (T, B, H, W)."""
    time, height, width = (int(n) for n in rows[:, 1:].max(axis=0))
    videos = torch.zeros((len(rows), 3, time, height, width))
    padding = torch.ones((time, len(rows), height, width), dtype=torch.bool)
    for b, (seed, t, h, w) in enumerate(rows.tolist()):
        noise = torch.from_numpy(np.random.RandomState(seed).standard_normal((t, 3, h, w)).astype(np.float32))
        clip = noise + F.interpolate(16 * F.avg_pool2d(noise, 16), size=(h, w))
        videos[b, :, :t, :h, :w] = clip.transpose(0, 1)
        padding[:t, b, :h, :w] = False
    return videos, padding


def worst(found: Tensor | np.ndarray, golden: dict[str, np.ndarray], name: str) -> float:
    """The largest difference to an array of the goldens, in parts of its largest magnitude."""
    values = np.asarray(found.detach() if isinstance(found, Tensor) else found)
    if f"{name}__shape" in golden:
        assert list(values.shape) == golden[f"{name}__shape"].tolist(), name
    wanted = golden[name]
    step = int(golden.get(f"{name}__step", 1))
    ours = values.reshape(-1)[::step] if f"{name}__step" in golden else values
    assert ours.shape == wanted.shape, f"{name}: {ours.shape}, {wanted.shape}"
    stats = golden.get(f"{name}__stats")
    scale = float(np.abs(wanted).max()) if stats is None else float(stats[2])
    difference = float(np.abs(ours.astype(np.float64) - wanted).max())
    if stats is not None:
        difference = max(difference, abs(float(values.std(dtype=np.float64)) - float(stats[1])))
    return difference / max(scale, 1e-12)
