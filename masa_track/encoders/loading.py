"""Loads a model, ready to embed, by its name or from a file."""

from __future__ import annotations

from pathlib import Path

import torch

from masa_track.association import AppearancePrior
from masa_track.encoders.embedder import Embedder
from masa_track.models.devices import choose_device, choose_dtype
from masa_track.models.loading import load_network
from masa_track.registry import ModelSpec


def load(
    name_or_path: str | Path = "nano",
    device: str | torch.device | None = None,
    checkpoint: str | Path | None = None,
    dtype: str | torch.dtype | None = None,
) -> Embedder:
    """Loads a model, ready to embed.

    The cosines to expect of its embeddings, if known, are its ``prior``: that of its
    :class:`~masa_track.registry.ModelSpec`, or, where the weights are a file ``FILE.safetensors`` or ``FILE.pth`` that
    is given, that of ``FILE.prior.json`` beside it, by ``tools/fit_appearance.py``. None where there is no such file,
    or where it names another model.

    What became of an official checkpoint's keys is logged (logger ``masa_track``) and kept as ``report``.

    Args:
        name_or_path: a model that :func:`masa_track.list_models` lists, e.g. ``nano`` (shipped, works offline) or
            ``r50`` (the authors', fetched once); or a file: an official .pth, told by its own keys, or a .safetensors
            that says which model it is of.
        device: e.g. ``cpu`` or ``cuda:1``; None takes a GPU if there is one.
        checkpoint: other weights for a named model: a .safetensors or a .pth with the network's tensors, or an
            official .pth.
        dtype: what it computes in: ``float32`` (also when None), ``float16`` or ``bfloat16``.

    Raises:
        InputError: for an unknown name, a missing or broken file, weights of another model, an unusable device.
    """
    choose_device(device)  # a mistake is named before the weights are read
    choose_dtype(dtype)
    loaded = load_network(name_or_path, checkpoint)
    embedder = Embedder(loaded.network, loaded.spec.name, device, dtype, loaded.report)
    embedder.checkpoint = loaded.path
    own = loaded.are_own_weights
    embedder.prior = _own_prior(loaded.spec, embedder) if own else _prior_beside(loaded.path, embedder)
    return embedder


def _own_prior(spec: ModelSpec, model: Embedder) -> AppearancePrior | None:
    """The prior of a model's own weights."""
    if spec.prior is None:
        return None
    prior = AppearancePrior.load(spec.prior)
    prior.check(model.name, model.dimension)
    return prior


def _prior_beside(weights: Path, model: Embedder) -> AppearancePrior | None:
    """The prior beside a file of weights; one of another network that is read from the same file does not count."""
    path = weights.with_suffix(".prior.json")
    if not path.is_file():
        return None
    prior = AppearancePrior.load(path)
    if prior.model not in (None, model.name):
        return None
    prior.check(model.name, model.dimension)
    return prior
