"""Loads a network with its weights, by a model's name or from a file."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from masa_track.errors import InputError
from masa_track.models.checkpoints import (
    check_finite,
    check_name,
    fetch,
    identify,
    misfit,
    read_checkpoint,
    read_safetensors,
)
from masa_track.models.fuse import fold_batch_norms
from masa_track.models.official_keys import COUNTER, LoadReport, looks_like
from masa_track.registry import WEIGHT_SUFFIXES, ModelSpec, build_model, find_model, spec_of


@dataclass(frozen=True)
class LoadedNetwork:
    """A network with its weights, on the CPU in float32.

    Attributes:
        network: a ``torch.nn.Module``, batch norms folded where the spec says so.
        spec: of its model.
        path: the file of weights.
        are_own_weights: whether they are the spec's, not another file that was given.
        report: what became of the keys of an official checkpoint; None for other files.
    """

    network: Any
    spec: ModelSpec
    path: Path
    are_own_weights: bool
    report: LoadReport | None


def load_network(name_or_path: str | Path, checkpoint: str | Path | None = None, fold: bool = True) -> LoadedNetwork:
    """Loads a network; arguments and errors as of :func:`masa_track.load`. ``fold=False`` keeps batch norms apart."""
    given = str(name_or_path)
    spec = find_model(given)
    if spec is None and Path(given).suffix not in WEIGHT_SUFFIXES and not Path(given).exists():
        spec = spec_of(given)  # raises
    file = checkpoint if checkpoint is not None else given if spec is None else None
    path = fetch(given) if file is None else Path(file)
    options: dict[str, Any] = {}
    if path.suffix == ".safetensors":
        tensors, metadata = read_safetensors(path)
        check_finite(tensors, path)
        spec = spec or find_model(metadata.get("model", ""))
        if spec is None:
            raise InputError(f"{path} does not say which model it is of: its metadata holds no known 'model'")
        options = _options(metadata, path)
    else:
        tensors, metadata = read_checkpoint(path), None
        check_finite(tensors, path)
        if spec is not None and spec.signature:
            check_name(tensors, spec.name, path)
        spec = spec or identify(tensors, path)
    network, report = build_model(spec.name, **options), None
    if metadata is None and spec.signature:
        report = network.load_official_state_dict(tensors)
        logging.getLogger("masa_track").info("%s: %s, %s", path, spec.name, report)
    else:
        _fill(network, tensors, metadata, path, spec)
    if spec.fold and fold:
        fold_batch_norms(network.eval())
    return LoadedNetwork(network, spec, path, file is None, report)


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
    network: nn.Module, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None, path: Path, spec: ModelSpec
) -> None:
    """Puts a file's weights into the network; they must fit exactly. ``metadata`` is None for a .pth."""
    part = spec.part_of
    if part is not None and metadata is not None and metadata.get("model") == part.model:
        tensors = {
            key.replace(part.prefix, part.own_prefix): value
            for key, value in tensors.items()
            if key.startswith(part.prefix)
        }
    wanted = {k: v for k, v in network.state_dict().items() if not k.endswith(COUNTER)}
    tensors = {k: v for k, v in tensors.items() if not k.endswith(COUNTER)}
    if found := misfit(wanted, tensors):
        if metadata is None:
            said = f"it looks like {looks_like({key: tuple(value.shape) for key, value in tensors.items()})}"
        else:
            said = f"it says it is of {metadata.get('model', 'unknown')!r}"
        raise InputError(f"{path} does not fit the model {spec.name!r} ({said}): {found}")
    network.load_state_dict({k: v.float() for k, v in tensors.items()}, strict=False)
