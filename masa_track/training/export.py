"""What training leaves behind: a .safetensors of the trained parts, or of the whole network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from masa_track.errors import InputError
from masa_track.files import PartFile
from masa_track.models.checkpoints import checksum, misfit, read_safetensors
from masa_track.models.official_keys import COUNTER

BACKBONE = "backbone."


def trained_tensors(network: nn.Module, backbone: bool = False, half: bool = False) -> dict[str, Tensor]:
    """A network's tensors by name, on the CPU, without what only training needs.

    Args:
        network: with a frozen ``backbone``.
        backbone: whether the backbone's are among them.
        half: in half precision.
    """
    kept = {}
    for key, value in network.state_dict().items():
        if key.endswith(COUNTER) or (key.startswith(BACKBONE) and not backbone):
            continue
        value = value.detach().cpu()
        kept[key] = (value.half() if half and value.is_floating_point() else value).contiguous().clone()
    return kept


def export(
    network: nn.Module,
    path: str | Path,
    name: str,
    backbone: bool = False,
    half: bool = False,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Writes the trained parts, whole or not at all.

    Args:
        network: with a frozen ``backbone``.
        path: a .safetensors.
        name: the model's; kept in the metadata.
        backbone: with the backbone, so that :func:`masa_track.load` takes the file as it is; without it the file is
            for :func:`load_adapter`, and says by a checksum which backbone it belongs to.
        half: in half precision.
        metadata: more of it.

    Returns:
        The path.

    Raises:
        InputError: if a tensor is not finite, in the precision asked for.
    """
    tensors = trained_tensors(network, backbone, half)
    for key, value in tensors.items():
        if not torch.isfinite(value).all():
            raise InputError(
                f"{key} is not finite{' in half precision' if half else ''}: there is no use in exporting it"
            )
    said = {
        "format": "pt",
        "model": name,
        "part": "whole" if backbone else "adapter",
        "backbone_sha256": checksum(network.get_submodule("backbone")),
        **(metadata or {}),
    }
    file = PartFile(path)
    try:
        file.part.write_bytes(save(tensors, metadata=said))  # save_file makes a file that only its owner reads
        file.commit()
    except BaseException:
        file.abandon()
        raise
    return file.path


def load_adapter(network: nn.Module, path: str | Path) -> nn.Module:
    """Fills a network's trained parts from a file that :func:`export` wrote without the backbone.

    Args:
        network: with the backbone that the parts were trained on.
        path: the .safetensors.

    Returns:
        The network.

    Raises:
        InputError: if the file is missing or broken, does not fit, or was trained on another backbone.
    """
    tensors, said = read_safetensors(path)
    wanted = trained_tensors(network)
    if found := misfit(wanted, tensors):
        raise InputError(
            f"{path} (of {said.get('model', 'unknown')!r}, {said.get('part', 'unknown')!r}) does not fit "
            f"{type(network).__name__}: {found}"
        )
    if said.get("backbone_sha256") != checksum(network.get_submodule("backbone")):
        raise InputError(f"{path} was trained on another backbone than this network's: load its weights first")
    network.load_state_dict({k: v.to(wanted[k].dtype) for k, v in tensors.items()}, strict=False)
    return network
