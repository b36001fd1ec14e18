"""The authors' checkpoints: downloaded once, read without running anything in them, identified, and converted.

A ``.pth`` is a pickle. It is only ever read by torch's ``weights_only`` reader, which knows tensors and plain
containers; a training log that mmengine left beside the weights is read as inert placeholders.
"""

from __future__ import annotations

import hashlib
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from masa_track.errors import InputError, first_line, missing_extra
from masa_track.models.official_keys import COUNTER, LoadReport, looks_like
from masa_track.registry import HubFile, ModelSpec, build_model, list_models, spec_of, told_by

HUB_TIMEOUT_SECONDS = 5.0  # for the hub to answer before a download


_FOREIGN = re.compile(r"GLOBAL (\S+)")  # in what torch says of a pickle that names something else than tensors


class _Inert:
    """Stands for any class or function that a pickle names and we do not know; does nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...


def fetch(name: str) -> Path:
    """The file of a model's weights: shipped, in the Hugging Face cache, or downloaded into it.

    Args:
        name: of a registered model.

    Raises:
        InputError: for an unknown name, a model without weights of its own, a file that is neither here nor to be had,
            or one whose SHA-256 is not that of the model's spec.
    """
    spec = spec_of(name)
    path = spec.local_weights()
    if path is None:
        if spec.weights is None:
            raise InputError(f"model {spec.name!r} comes without weights: give its file as checkpoint (--checkpoint)")
        if isinstance(spec.weights, Path):
            raise InputError(f"the weights of {spec.name!r} are missing: there is no {spec.weights}")
        usage = f'masa_track.load("path/to/{spec.weights.file}"), or --checkpoint path/to/{spec.weights.file}'
        path = download(spec.name, spec.weights, "hub", usage)
    if spec.sha256 is not None and sha256(path) != spec.sha256:
        raise InputError(
            f"{path} is not the file of {spec.name!r} that is registered: its SHA-256 is not {spec.sha256}; get the "
            "file again, or give another one as checkpoint"
        )
    return path


def download(name: str, weights: HubFile, extra: str, usage: str) -> Path:
    """Downloads a file into the Hugging Face cache.

    Args:
        name: of the model, for messages.
        weights: the file.
        extra: of this package, that holds huggingface_hub.
        usage: how to give a file that was downloaded by hand.

    Raises:
        InputError: the file is not to be had, or huggingface_hub is not installed.
    """
    check_download(name, weights, extra, usage)
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(hf_hub_download(weights.repository, weights.file))
    except (OSError, HfHubHTTPError) as error:
        raise _not_fetched(name, weights, usage, str(error)) from error


def check_download(name: str, weights: HubFile, extra: str, usage: str) -> None:
    """Asks the hub for a file, without downloading it. Arguments and errors as of :func:`download`."""
    try:
        from huggingface_hub import get_hf_file_metadata, hf_hub_url
    except ImportError as error:
        by_hand = _by_hand(weights, usage)
        raise InputError(f"{missing_extra('huggingface-hub', extra, f'to fetch {name!r}')}; or {by_hand}") from error
    try:
        # Asked once: without a network hf_hub_download would go on trying for 25 s, which tells nobody more.
        get_hf_file_metadata(hf_hub_url(weights.repository, weights.file), timeout=HUB_TIMEOUT_SECONDS)
    except Exception as error:  # of requests, httpx or httpx2, whichever the installed hub uses
        raise _not_fetched(name, weights, usage, str(error) or type(error).__name__) from error


def _by_hand(weights: HubFile, usage: str) -> str:
    """How to download a file by hand."""
    return (
        f"download {weights.file} from https://huggingface.co/{weights.repository} on a machine with a network and "
        f"give its path: {usage}"
    )


def _not_fetched(name: str, weights: HubFile, usage: str, reason: str) -> InputError:
    first = reason.splitlines()[0]
    return InputError(f"{weights.file} of {name!r} could not be fetched ({first}): {_by_hand(weights, usage)}")


def read_checkpoint(path: str | Path, content: Any = None) -> dict[str, Tensor]:
    """The tensors of a ``.pth``, by their own keys.

    Args:
        path: a file made by torch.save: a state dict, or a dict with one under ``state_dict``, ``model`` or
            ``model_state_dict``.
        content: what :func:`read_pickle` gave for it, where that was called before.

    Raises:
        InputError: if the file is missing, cut short, or holds no state dict.
    """
    content = read_pickle(path) if content is None else content
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    tensors = {k: v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, Mapping) else {}
    if not tensors:
        raise InputError(f"{path} holds no state dict, but {_describe(content)}")
    return {str(key).removeprefix("module."): value for key, value in tensors.items()}


def read_safetensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a .safetensors file.

    Raises:
        InputError: if the file is missing or cut short.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no such checkpoint: {path}")
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is not a whole .safetensors file ({first_line(error)}): download it again") from error


def read_pickle(path: str | Path) -> Any:
    """What torch.save wrote into a file: tensors and plain containers; nothing in it is run.

    Raises:
        InputError: if the file is missing or cut short.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no such checkpoint: {path}")
    size = path.stat().st_size
    try:
        return _load(path)
    except Exception as error:  # a damaged pickle raises anything
        foreign = _FOREIGN.search(str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if foreign is not None:
            raise InputError(
                f"{path} is refused: it names {foreign[1]}, and only tensors and plain containers are read; nothing of "
                "it was run. Get a file with the weights alone, from an origin you trust"
            ) from error
        # torch's own message advises to read the file without weights_only: that would run what it says.
        reason = "its pickle is damaged" if isinstance(error, pickle.UnpicklingError) else first_line(error)
        raise InputError(
            f"{path} is not a whole torch checkpoint of weights ({size:,} bytes; {reason}): download it again"
        ) from error


def _load(path: Path) -> Any:
    """Reads a pickle with ``weights_only``, foreign names replaced by :class:`_Inert`."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        unsafe_globals = getattr(torch.serialization, "get_unsafe_globals_in_checkpoint", None)  # since torch 2.6
        if unsafe_globals is None or not zipfile.is_zipfile(path):
            raise
        names = unsafe_globals(path)
        if not names:
            raise error
        with torch.serialization.safe_globals([(_Inert, name) for name in names]):
            return torch.load(path, map_location="cpu", weights_only=True)


def _describe(content: Any) -> str:
    if isinstance(content, Mapping):
        return f"a dict of {', '.join(map(repr, list(content)[:5])) or 'nothing'}"
    return f"a {type(content).__name__}"


def identify(state_dict: Mapping[str, Tensor], path: str | Path) -> ModelSpec:
    """The official model that a state dict is of, by the signatures of the models.

    Raises:
        InputError: if it is of none; the message says what it looks like.
    """
    shapes = {key: tuple(value.shape) for key, value in state_dict.items()}
    spec = told_by(shapes)
    if spec is None:
        raise InputError(
            f"{path} is no official MASA checkpoint: it looks like {looks_like(shapes)}; "
            f"known are {', '.join(sorted(spec.name for spec in list_models() if spec.signature))}"
        )
    return spec


def check_name(state_dict: Mapping[str, Tensor], name: str, path: str | Path) -> None:
    """Raises InputError unless the state dict is of the official model ``name``."""
    found = identify(state_dict, path).name
    if found != name:
        raise InputError(f"{path} is not a checkpoint of {name!r}: it looks like the official {found}")


def convert(path: str | Path, name: str | None = None) -> tuple[dict[str, Tensor], dict[str, str], LoadReport]:
    """What inference needs of an official ``.pth``, under this library's keys.

    Args:
        path: the ``.pth``.
        name: the model it must be of; None accepts any official one.

    Returns:
        Tensors and metadata for a safetensors file, and the report.

    Raises:
        InputError: as :func:`read_checkpoint` and :func:`identify`, or if it is another model than ``name``.
    """
    state = read_checkpoint(path)
    check_finite(state, path)
    if name is not None:
        check_name(state, name, path)
    spec = identify(state, path)
    model = build_model(spec.name)
    report = model.load_official_state_dict(state)
    tensors = {key: value.contiguous() for key, value in model.state_dict().items() if not key.endswith(COUNTER)}
    metadata = {
        "format": "pt",
        "model": spec.name,
        "source": _origin(spec),
        "source_sha256": sha256(Path(path)),
        "license": spec.licence,
    }
    return tensors, metadata, report


def _origin(spec: ModelSpec) -> str:
    """Where the file of a model's weights is from."""
    if isinstance(spec.weights, HubFile):
        return f"https://huggingface.co/{spec.weights.repository}, {spec.weights.file}"
    return spec.source


def misfit(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """How the tensors of a file differ from those that a network has, in names and shapes; empty if they do not.

    Args:
        wanted: the network's tensors by key.
        state: those of the file, by the same keys.
    """
    missing, extra = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    reshaped = sorted(key for key in wanted.keys() & state.keys() if wanted[key].shape != state[key].shape)
    if not (missing or extra or reshaped):
        return ""
    return (
        f"{len(missing)} tensors are missing, {len(extra)} are not known, {len(reshaped)} are of another shape, "
        f"e.g. {(missing + extra + reshaped)[0]!r}"
    )


def check_finite(state_dict: Mapping[str, Tensor], path: str | Path) -> None:
    """Raises InputError if a weight is NaN or infinite: no embedding or box of such a network is of use."""
    for key, value in state_dict.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise InputError(f"{path}: the weights {key!r} hold NaN or infinite numbers: take another checkpoint")


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def checksum(module: nn.Module) -> str:
    """The SHA-256 of a module's parameters and buffers, names and shapes included, in hexadecimal."""
    digest = hashlib.sha256()
    for key, value in sorted(module.state_dict().items()):
        digest.update(f"{key} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
