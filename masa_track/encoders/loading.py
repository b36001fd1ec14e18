"""Loads a model by its name or from a file."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from masa_track.association import AppearancePrior
from masa_track.encoders.embedder import Embedder
from masa_track.errors import InputError, unknown_name
from masa_track.models import nano
from masa_track.models.checkpoints import check_finite, check_name, fetch, identify, read_checkpoint
from masa_track.models.devices import choose_device, choose_dtype
from masa_track.models.fuse import fold_batch_norms
from masa_track.models.official import build_official
from masa_track.models.registry import BUILDERS, build_model

SHIPPED: dict[str, Path] = {"nano": nano.WEIGHTS, "nano-untrained": nano.WEIGHTS}


def load(
    name_or_path: str | Path = "nano",
    device: str | torch.device | None = None,
    checkpoint: str | Path | None = None,
    dtype: str | torch.dtype | None = None,
) -> Embedder:
    """Loads a model, ready to embed.

    The cosines to expect of its embeddings, if known, are its ``prior``: that of ``NAME.prior.json`` beside the weights
    ``NAME.safetensors`` or ``NAME.pth``, by ``tools/fit_appearance.py``. None where there is no such file, or
    where it names another model.

    What became of an official checkpoint's keys is logged (logger ``masa_track``) and kept as ``report``.

    Args:
        name_or_path: ``nano`` (shipped, works offline), ``nano-untrained`` (its backbone alone); an official model,
            ``r50``, ``sam-vitb``, ``sam-vith``, ``gdino-swinb`` or ``detic-swinb``, fetched once; or a file: an
            official .pth, told by its own keys, or a .safetensors that says which model it is of.
        device: e.g. ``cpu`` or ``cuda:1``; None takes a GPU if there is one.
        checkpoint: other weights for a named model, a .safetensors or an official .pth.
        dtype: what it computes in: ``float32`` (also when None), ``float16`` or ``bfloat16``.

    Raises:
        InputError: for an unknown name, a missing or broken file, weights of another model, an unusable device.
    """
    given = str(name_or_path)
    choose_device(device)  # a mistake is named before the weights are read
    choose_dtype(dtype)
    name = given if given in BUILDERS else None
    if name is None and Path(given).suffix not in (".safetensors", ".pth", ".pt") and not Path(given).exists():
        raise unknown_name("model", given, BUILDERS)
    if checkpoint is not None:
        path = Path(checkpoint)
    elif name is None:
        path = Path(given)
    elif name in SHIPPED:
        path = SHIPPED[name]
    else:
        path = fetch(name)
    if path.suffix == ".safetensors":
        tensors, metadata = _read(path)
        check_finite(tensors, path)
        if name is None:
            name = metadata.get("model", "")
        if name not in BUILDERS:
            raise InputError(f"{path} does not say which model it is of: its metadata holds no known 'model'")
        network, report = build_model(name, **_options(metadata, path)), None
        _fill(network, tensors, metadata, path, name)
    else:
        state = read_checkpoint(path)
        check_finite(state, path)
        if name is not None:
            check_name(state, name, path)
        name = identify(state, path)
        official = build_official(name)
        network, report = official, official.load_official_state_dict(state)
        logging.getLogger("masa_track").info("%s: %s, %s", path, name, report)
    if name.startswith("nano"):  # their children run in the order they are listed
        fold_batch_norms(network.eval())
    embedder = Embedder(network, name, device, dtype, report)
    embedder.checkpoint = path
    embedder.prior = _prior(path, embedder)
    return embedder


def _prior(weights: Path, model: Embedder) -> AppearancePrior | None:
    """The prior beside a file of weights; one of another network that is read from the same file does not count."""
    path = weights.with_suffix(".prior.json")
    if not path.is_file():
        return None
    prior = AppearancePrior.load(path)
    if prior.model not in (None, model.name):
        return None
    prior.check(model.name, model.dimension)
    return prior


def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of a .safetensors file."""
    if not path.is_file():
        raise InputError(f"no such checkpoint: {path}")
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is not a whole .safetensors file ({error})") from error


def _options(metadata: dict[str, str], path: Path) -> dict[str, Any]:
    """How the network of a file was built, where training built it another way than by default."""
    try:
        options = json.loads(metadata.get("options", "{}"))
    except ValueError as error:
        raise InputError(f"{path}: its metadata's 'options' are no json ({error})") from error
    if not isinstance(options, dict):
        raise InputError(f"{path}: its metadata's 'options' are no dict, got {options!r}")
    return options


def _fill(
    network: nn.Module, tensors: dict[str, torch.Tensor], metadata: dict[str, str], path: Path, name: str
) -> None:
    """Puts a file's weights into the network; they must fit exactly."""
    if name == "nano-untrained" and metadata.get("model") == "nano":
        features = "backbone.features."
        tensors = {k.replace(features, "backbone."): v for k, v in tensors.items() if k.startswith(features)}
    wanted = {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    missing, extra = sorted(wanted.keys() - tensors.keys()), sorted(tensors.keys() - wanted.keys())
    misfit = sorted(k for k in wanted.keys() & tensors.keys() if wanted[k].shape != tensors[k].shape)
    if missing or extra or misfit:
        other = metadata.get("model", "unknown")
        raise InputError(
            f"{path} does not fit the model {name!r} (it says it is of {other!r}): {len(missing)} tensors are "
            f"missing, {len(extra)} are not known, {len(misfit)} are of another shape, e.g. "
            f"{(missing + extra + misfit)[0]!r}"
        )
    network.load_state_dict({k: v.float() for k, v in tensors.items()}, strict=False)
