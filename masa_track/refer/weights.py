"""Weights of MTTR: the authors' checkpoints, ours as safetensors, and those of the encoders to start training with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import save
from torch import Tensor, nn

from masa_track.errors import InputError, first_line, unknown_name
from masa_track.files import write_bytes
from masa_track.models.checkpoints import (
    check_finite,
    download,
    misfit,
    read_checkpoint,
    read_pickle,
    read_safetensors,
    sha256,
)
from masa_track.models.official_keys import looks_like
from masa_track.refer.model import Mttr
from masa_track.refer.official_keys import our_state
from masa_track.refer.settings import MttrSettings, settings_from
from masa_track.registry import HubFile

TABLE = "relative_position_index"  # made by the network, in no file
PATCHES = "patch_embed.proj.weight"
MTTR_KEYS = ("obj_queries.weight", "is_referred_head.weight", "instance_kernels_head.layers.1.weight")
DATA_SETS = ("a2d", "ytvos", "synthetic", "own")  # what weights may be trained on
ROBERTA = HubFile("FacebookAI/roberta-base", "model.safetensors")
OWN_VIDEO = "configs/refer/synthetic_video.py"
SWIN_NAME, ROBERTA_NAME = "swin3d_t", "roberta-base"


@dataclass(frozen=True)
class MttrWeights:
    """A network with its weights, on the CPU in evaluation mode.

    Attributes:
        network: with the weights.
        trained_on: of :data:`DATA_SETS`; empty where the file does not say.
        window: frames of a clip in training; None where the file does not say.
        path: the file.
    """

    network: Mttr
    trained_on: str
    window: int | None
    path: Path


def load_weights(path: str | Path, trained_on: str | None = None) -> MttrWeights:
    """Loads MTTR from a file; nothing in it is run.

    Args:
        path: a checkpoint of the authors, e.g. ``refer-youtube-vos_window-12.pth.tar``, or a ``.safetensors`` that
            :func:`save_weights` wrote.
        trained_on: the data set that the weights must be of, one of :data:`DATA_SETS`; None: any.

    Raises:
        InputError: the file is missing or broken, of another model, or of another data set.
    """
    path = Path(path)
    if trained_on is not None and trained_on not in DATA_SETS:
        raise unknown_name("trained_on", trained_on, DATA_SETS)
    if path.suffix == ".safetensors":
        state, metadata = read_safetensors(path)
        if metadata.get("model") != "mttr":
            raise InputError(
                f"{path} is not a file of MTTR: its metadata name the model {metadata.get('model', 'unknown')!r}; "
                "convert an official checkpoint, or take the model.safetensors of a training"
            )
        settings = settings_from(metadata["settings"])
        found, window = metadata.get("trained_on", ""), metadata.get("window", "")
        frames = int(window) if window.isdigit() else None
    else:
        state, found = _read_official(path)
        settings, frames = MttrSettings(), _window_in(path.name)
    if trained_on is not None and found and found != trained_on:
        raise InputError(f"{path} was trained on {found!r}, but weights of {trained_on!r} are needed: give their file")
    check_finite(state, path)
    network = Mttr(settings)
    fill(network, state, path)
    return MttrWeights(network.eval().requires_grad_(False), found, frames, path)


def save_weights(network: Mttr, path: str | Path, trained_on: str, window: int | None, source: str = "") -> Path:
    """Writes a network as safetensors, whole or not at all.

    Args:
        network: its weights are written in their own precision.
        path: a .safetensors.
        trained_on: of :data:`DATA_SETS`.
        window: frames of a clip in training; None: not known.
        source: where the weights are from, for the metadata.

    Raises:
        InputError: a weight is NaN or infinite.
    """
    path = Path(path)
    state = {k: v.detach().cpu().contiguous().clone() for k, v in network.state_dict().items() if TABLE not in k}
    check_finite(state, path)
    metadata = {
        "format": "pt",
        "model": "mttr",
        "settings": network.settings.as_json(),
        "trained_on": trained_on,
        "window": "" if window is None else str(window),
        "source": source,
    }
    write_bytes(path, save(state, metadata=metadata))
    return path


def save_video_weights(encoder: nn.Module, path: str | Path) -> None:
    """Writes a video encoder as safetensors, whole or not at all; :func:`load_start_weights` reads it.

    Raises:
        InputError: a weight is NaN or infinite.
    """
    state = {k: v.detach().cpu().contiguous().clone() for k, v in encoder.state_dict().items() if TABLE not in k}
    check_finite(state, Path(path))
    write_bytes(Path(path), save(state, metadata={"format": "pt"}))


def convert_weights(path: str | Path, out: str | Path, window: int | None = None) -> MttrWeights:
    """Turns an official checkpoint into a .safetensors without the state of its training.

    Args:
        path: of the checkpoint.
        out: the .safetensors to write.
        window: frames of a clip in training; None: as its name says (``window-12``), if it does.

    Returns:
        What was converted.

    Raises:
        InputError: as :func:`load_weights`.
    """
    loaded = load_weights(path)
    frames = loaded.window if window is None else window
    save_weights(loaded.network, out, loaded.trained_on, frames, f"{Path(path).name}, SHA-256 {sha256(Path(path))}")
    return loaded


def load_start_weights(network: Mttr, weights: str | None, video: str | None, text: str | None) -> None:
    """Fills a network, or its encoders, before training.

    Args:
        network: to fill.
        weights: a file of MTTR for all; None leaves random weights.
        video: ``swin3d_t`` (torchvision's, downloaded unless it is there), or a file of it or of the authors' Video
            Swin. A patch kernel over two frames is summed over time, so that a still clip gives what it gave. For the
            video encoder ``conv``: what :func:`save_video_weights` wrote.
        text: ``roberta-base`` (downloaded unless it is there) or its ``model.safetensors``.

    Raises:
        InputError: a file is missing, or does not fit.
    """
    if weights is not None:
        loaded = load_weights(weights)
        if loaded.network.settings != network.settings:
            raise InputError(f"weights {weights} are of a network with other settings: give network those settings")
        network.load_state_dict(loaded.network.state_dict())
    if video is not None:
        state, origin = _video_state(video, network.settings.video == "swin")
        fill(network.video, state, origin)
    if text is not None:
        path = Path(text)
        if text == ROBERTA_NAME:
            path = ROBERTA.local() or download(ROBERTA_NAME, ROBERTA, "refer", "text_weights=path/to/model.safetensors")
        state, _ = read_safetensors(path)
        start = "roberta." if any(key.startswith("roberta.") for key in state) else ""
        kept = {k.removeprefix(start): v for k, v in state.items() if k.startswith(start)}
        drop = ("pooler.", "lm_head.", "embeddings.position_ids", "embeddings.token_type_ids")
        fill(network.text, {k: v for k, v in kept.items() if not k.startswith(drop)}, path)


def fill(module: nn.Module, state: Mapping[str, Tensor], origin: str | Path) -> None:
    """Puts weights into a module; they must fit exactly, but for tables that the module makes itself.

    Raises:
        InputError: a tensor is missing, not known, or of another shape.
    """
    wanted = {k: v for k, v in module.state_dict().items() if TABLE not in k}
    if found := misfit(wanted, state):
        raise InputError(f"{origin} does not fit: {found}; get the file again, or one of this model")
    module.load_state_dict({k: v.float() for k, v in state.items()}, strict=False)


def _read_official(path: Path) -> tuple[dict[str, Tensor], str]:
    """The weights of an official checkpoint by our keys, and the data set it was trained on, as far as it says so."""
    content = read_pickle(path)
    state = read_checkpoint(path, content)
    if not all(key in state for key in MTTR_KEYS):
        shapes = {key: tuple(value.shape) for key, value in state.items()}
        raise InputError(f"{path} is no checkpoint of MTTR: it looks like {looks_like(shapes)}")
    told = set(content) if isinstance(content, Mapping) else set()
    trained_on = "a2d" if "best_mAP" in told else "ytvos" if "best_loss" in told else ""
    return our_state(state), trained_on


def _window_in(name: str) -> int | None:
    found = re.search(r"window[-_](\d+)", name)
    return int(found[1]) if found else None


def _video_state(given: str, swin: bool) -> tuple[dict[str, Tensor], str | Path]:
    """Weights for a video encoder, Video Swin or the stack of convolutions, and where they are from."""
    if not swin and given == SWIN_NAME:
        raise InputError(
            f"video weights {given} are for the video encoder 'swin': train weights for 'conv', {OWN_VIDEO}"
        )
    if not swin:
        return read_safetensors(Path(given))[0], given
    if given == SWIN_NAME:
        from torchvision.models.video import Swin3D_T_Weights

        weights = Swin3D_T_Weights.KINETICS400_V1
        try:
            state = weights.get_state_dict(progress=False)
        except OSError as error:
            raise InputError(
                f"{SWIN_NAME} could not be fetched ({first_line(error)}): download {weights.url} on a machine with a "
                "network and give its path as video_weights"
            ) from error
        return video_state(state), SWIN_NAME
    path = Path(given)
    state = read_safetensors(path)[0] if path.suffix == ".safetensors" else read_checkpoint(path)
    return video_state(state), path


def video_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The first three stages of a Video Swin under our keys.

    Args:
        state: with torchvision's keys, or the authors', with or without ``backbone.`` before them.
    """
    found = {}
    for key, value in state.items():
        key = key.removeprefix("backbone.")
        key = re.sub(r"^layers\.(\d+)\.blocks\.", lambda m: f"features.{2 * int(m[1])}.", key)
        key = re.sub(r"^layers\.(\d+)\.downsample\.", lambda m: f"features.{2 * int(m[1]) + 1}.", key)
        key = key.replace(".mlp.fc1.", ".mlp.0.").replace(".mlp.fc2.", ".mlp.3.")
        stage = re.match(r"features\.(\d+)\.", key)
        if TABLE not in key and (key.startswith("patch_embed.") or (stage and int(stage[1]) < 5)):
            found[key] = value
    if PATCHES in found and found[PATCHES].ndim == 5:
        found[PATCHES] = found[PATCHES].sum(dim=2, keepdim=True)
    return found
