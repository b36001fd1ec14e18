"""Loads a model, ready to embed, by its name or from a file."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from masa_track.association import AppearancePrior
from masa_track.encoders.base import BaseEmbedder
from masa_track.errors import InputError, unknown_name
from masa_track.onnx_session import choose_provider
from masa_track.registry import ONNX, WEIGHT_SUFFIXES, ModelSpec, check_installed, find_model, is_installed, spec_of

if TYPE_CHECKING:
    import torch

BACKENDS = ("auto", "onnx", "torch")


def load(
    name_or_path: str | Path = "nano",
    device: str | torch.device | None = None,
    checkpoint: str | Path | None = None,
    dtype: str | torch.dtype | None = None,
    backend: str = "auto",
) -> BaseEmbedder:
    """Loads a model, ready to embed.

    The cosines to expect of its embeddings, if known, are its ``prior``: that of its
    :class:`~masa_track.registry.ModelSpec`, or, where the weights are a file ``FILE.safetensors``, ``FILE.pth`` or
    ``FILE.onnx`` that is given, that of ``FILE.prior.json`` beside it, by ``tools/fit_appearance.py``. None where there
    is no such file, or where it names another model. A file ``FILE.onnx`` also brings the prior that was known when it
    was made.

    What became of an official checkpoint's keys is logged (logger ``masa_track``) and kept as ``report``.

    Two libraries can run a network: ONNX Runtime, which is always installed, and torch, with the extra ``torch``. They
    give the same embeddings, to a cosine of .99999. ``nano`` is shipped for both.

    Args:
        name_or_path: a model that :func:`masa_track.list_models` lists, e.g. ``nano`` (shipped, works offline) or
            ``r50`` (the authors', fetched once); or a file: an official .pth, told by its own keys, a .safetensors
            that says which model it is of, or an .onnx by ``masa-track convert --to onnx``.
        device: for both ``cpu``, ``cuda`` and ``cuda:1``; for ONNX Runtime also ``openvino``, ``openvino:GPU`` and
            ``coreml``; for torch whatever it knows. None takes an NVIDIA GPU if there is one.
        checkpoint: other weights for a named model: a .safetensors or a .pth with the network's tensors, an official
            .pth, or an .onnx.
        dtype: what it computes in: ``float32`` (also when None), ``float16`` or ``bfloat16``; the latter two by torch.
        backend: ``onnx`` or ``torch``; ``auto`` takes torch for weights that are no .onnx file, for another dtype, and,
            where torch is installed, for ``cuda`` and its other devices, and if no device is named but torch has a GPU.
            Else it takes ONNX Runtime, which is faster on a CPU.

    Raises:
        InputError: for an unknown name, a missing or broken file, weights of another model, an unusable device, a
            backend that cannot run these weights, or one that is not installed.
    """
    if backend not in BACKENDS:
        raise unknown_name("backend", backend, BACKENDS)
    onnx, spec = _onnx_file(name_or_path, checkpoint)
    is_shipped = spec is not None and onnx == spec.onnx
    place = None if device is None else str(device)
    if backend == "auto":
        backend = "onnx" if onnx is not None and not is_shipped else _backend(onnx, place, dtype)
    if backend == "torch":
        if onnx is not None and not is_shipped:
            raise InputError(f"{onnx} is for backend='onnx': for torch, give the weights that it was made from")
        return _load_torch(name_or_path, place, checkpoint, dtype)
    if onnx is None:
        what = checkpoint or name_or_path
        raise InputError(
            f"backend 'onnx' needs an .onnx file, got {str(what)!r}: convert weights by "
            "`masa-track convert FILE --to onnx`, or take backend='torch'"
        )
    if not _is_float32(dtype):
        raise InputError(f"dtype must be float32 for ONNX Runtime, got {dtype}: backend='torch' has others")
    choose_provider(place)  # a mistake is named before the weights are read
    return _load_onnx(onnx, spec, place)


def _onnx_file(name_or_path: str | Path, checkpoint: str | Path | None) -> tuple[Path | None, ModelSpec | None]:
    """The .onnx file that is meant, if there is one; and the model that is named, if one is."""
    given = str(name_or_path)
    spec = find_model(given)
    if spec is None and Path(given).suffix not in WEIGHT_SUFFIXES and not Path(given).exists():
        spec_of(given)  # raises
    file = checkpoint if checkpoint is not None else given if spec is None else None
    if file is None:
        return (spec.onnx if spec else None), spec
    return (Path(file) if Path(file).suffix == ONNX else None), spec


def _backend(onnx: Path | None, device: str | None, dtype: str | torch.dtype | None) -> str:
    """What ``auto`` takes for a name or for weights that are no .onnx file."""
    if onnx is None or not _is_float32(dtype):
        return "torch"
    if find_spec("torch") is None or device in ("cpu", "coreml") or (device or "").startswith("openvino"):
        return "onnx"
    if device is not None:
        return "torch"
    import torch

    return "torch" if torch.cuda.is_available() else "onnx"


def _is_float32(dtype: str | torch.dtype | None) -> bool:
    return dtype is None or str(dtype).removeprefix("torch.") == "float32"


def _load_onnx(path: Path, spec: ModelSpec | None, device: str | None) -> BaseEmbedder:
    from masa_track.encoders.onnx_embedder import OnnxEmbedder

    if spec is not None and path == spec.onnx and spec.onnx_sha256 is not None:
        if not path.is_file():
            raise InputError(f"the weights of {spec.name!r} are missing: there is no {path}")
        if hashlib.sha256(path.read_bytes()).hexdigest() != spec.onnx_sha256:
            raise InputError(
                f"{path} is not the file of {spec.name!r} that is registered: its SHA-256 is not {spec.onnx_sha256}; "
                "get the file again, or give another one as checkpoint"
            )
    embedder = OnnxEmbedder(path, device)
    if spec is not None and embedder.name != spec.name:
        raise InputError(f"{path} does not fit the model {spec.name!r}: it is of {embedder.name!r}")
    embedder.prior = _prior_beside(path, embedder) or embedder.prior
    return embedder


def _load_torch(
    name_or_path: str | Path,
    device: str | None,
    checkpoint: str | Path | None,
    dtype: str | torch.dtype | None,
) -> BaseEmbedder:
    _check_libraries(name_or_path, checkpoint, dtype, device)
    from masa_track.encoders.embedder import Embedder
    from masa_track.models.devices import choose_device, choose_dtype
    from masa_track.models.loading import load_network

    choose_device(device)  # a mistake is named before the weights are read
    choose_dtype(dtype)
    loaded = load_network(name_or_path, checkpoint)
    embedder = Embedder(loaded.network, loaded.spec.name, device, dtype, loaded.report)
    embedder.checkpoint = loaded.path
    own = loaded.are_own_weights
    embedder.prior = _own_prior(loaded.spec, embedder) if own else _prior_beside(loaded.path, embedder)
    return embedder


def _check_libraries(
    name_or_path: str | Path, checkpoint: str | Path | None, dtype: str | torch.dtype | None, device: str | None
) -> None:
    """Raises InputError unless torch, and what else the model needs, is installed."""
    spec = find_model(str(name_or_path))
    extras = ["torch"]
    if spec is not None and spec.needs is not None:
        extras = [spec.needs]
    if spec is not None and checkpoint is None and not spec.is_shipped and spec.local_weights() is None:
        extras += ["hub"] if spec.weights is not None and not is_installed("torch") else []
    details = [f"dtype {dtype}"] if not _is_float32(dtype) else []
    details += [f"device {device!r}"] if device not in (None, "cpu") else []
    what = f"the model {str(checkpoint or name_or_path)!r}" + (f" with {' and '.join(details)}" if details else "")
    check_installed(*extras, purpose=f"for {what}")


def _own_prior(spec: ModelSpec, model: BaseEmbedder) -> AppearancePrior | None:
    """The prior of a model's own weights."""
    if spec.prior is None:
        return None
    prior = AppearancePrior.load(spec.prior)
    prior.check(model.name, model.dimension)
    return prior


def _prior_beside(weights: Path, model: BaseEmbedder) -> AppearancePrior | None:
    """The prior beside a file of weights; one of another network that is read from the same file does not count."""
    path = weights.with_suffix(".prior.json")
    if not path.is_file():
        return None
    prior = AppearancePrior.load(path)
    if prior.model not in (None, model.name):
        return None
    prior.check(model.name, model.dimension)
    return prior
