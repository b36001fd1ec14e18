"""SAM 3 by name or from a folder in Hugging Face's form. Nothing is unpickled. The weights are gated."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from masa_track.errors import InputError, first_line, missing_extra
from masa_track.masklets.sam2_keys import identify
from masa_track.masklets.sam3 import MAX_TOKENS, Sam3Network
from masa_track.masklets.weights import folder_kind, read_folder
from masa_track.models.checkpoints import check_download, download, read_checkpoint
from masa_track.models.devices import choose_device, mixed_precision
from masa_track.registry import HubFile, check_installed

WEIGHTS = "facebook/sam3"
FILES = ("config.json", "tokenizer.json", "model.safetensors")
_USAGE = (
    f"--detector sam3:FOLDER, with {', '.join(FILES)} of https://huggingface.co/{WEIGHTS} in it. The weights are "
    "gated: accept the SAM License on that page. After `hf auth login` they are downloaded when first used (3.4 GB)"
)
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_PICTURES_ALONE = {"sam3": "Sam3Model", "sam3_lite_text": "Sam3LiteTextModel"}
_KINDS = {"sam3_video": "Sam3VideoModel", **_PICTURES_ALONE}


def check_sam3(name: str = "", device: str | None = None) -> None:
    """Finds mistakes before anything is loaded.

    Args:
        name: as of :func:`load_sam3`.
        device: where it is to run.

    Raises:
        InputError: an extra is missing, there is no such folder, a file is given in place of a folder, there is no GPU
            and ``device`` does not say ``cpu``, or the weights are not here and cannot be downloaded.
    """
    check_installed("sam3", purpose="for SAM 3")
    place = Path(name or WEIGHTS)
    if place.is_file():
        raise _no_folder(place)
    if not place.is_dir() and not _REPOSITORY.fullmatch(name or WEIGHTS):
        raise InputError(
            f"no such folder: {name}; SAM 3 is read from a folder with {', '.join(FILES)}, or from {WEIGHTS}"
        )
    lacking = None if place.is_dir() else _lacking(name or WEIGHTS)
    if device is None and choose_device(None).type == "cpu":
        raise InputError(
            "SAM 3 has 860 million parameters: on a CPU a frame takes about a minute and 5 GB of memory (estimated), "
            "so that it runs there only with --device cpu; this machine has no GPU that torch can use"
            + ("" if lacking is None else f". Its weights are not here either; give {_USAGE}")
        )
    if lacking is not None:
        check_download("sam3", lacking, "sam3", _USAGE)  # before anything else is loaded


def load_sam3(
    name: str = "",
    device: str | torch.device | None = None,
    precision: str | None = None,
    truncate: bool = False,
    tracks: bool = True,
) -> Sam3Network:
    """Loads SAM 3.

    Args:
        name: a folder with config.json, tokenizer.json and model.safetensors; or a repository on Hugging Face, whose
            files are downloaded unless they are there. Empty: ``facebook/sam3``.
        device: e.g. ``cuda:1`` or ``cpu``; None: a GPU. A CPU must be asked for.
        precision: ``bf16`` or ``fp16`` (on a GPU) for most that is computed; None: float32.
        truncate: cut phrases that are too long, in place of an error.
        tracks: load the propagator, too.

    Raises:
        InputError: as :func:`check_sam3`; the files cannot be had or read, or are another model's; or the model is for
            pictures alone, and ``tracks`` is set.
    """
    check_sam3(name, None if device is None else str(device))
    chosen = choose_device(device)
    mixed_precision(chosen, precision)  # a mistake is named before anything is loaded
    place = Path(name or WEIGHTS)
    folder = place if place.is_dir() else _fetch(name or WEIGHTS)
    kind, config = folder_kind(folder, _KINDS, "SAM 3 is one of {kinds}")
    if tracks and kind in _PICTURES_ALONE:
        raise InputError(
            f"{folder} holds a model of type {kind!r}, which has no propagator: take one of type 'sam3_video', or "
            "--identities masa, with which MASA tracks what it detects"
        )
    tokenizer = _tokenizer(folder, (config.detector_config if kind == "sam3_video" else config).text_config)
    import transformers

    model_class = getattr(transformers, _KINDS[kind], None)
    if model_class is None:
        raise missing_extra("transformers>=5.24", "sam3", f"for a model of type {kind!r}")
    model = read_folder(folder, model_class, config).eval().requires_grad_(False)
    detector, propagation = model, None
    if kind == "sam3_video":
        detector = model.detector_model
        propagation = (model.tracker_model.to(chosen), model.tracker_neck.to(chosen)) if tracks else None
    return Sam3Network(detector.to(chosen), tokenizer, "sam3", propagation, precision, truncate)


def _lacking(repository: str) -> HubFile | None:
    """The first file of a repository that is not in the Hugging Face cache."""
    return next((one for one in (HubFile(repository, file) for file in FILES) if one.local() is None), None)


def _fetch(repository: str) -> Path:
    """The folder of a repository's files in the Hugging Face cache; they are downloaded unless they are there."""
    for file in FILES:
        wanted = HubFile(repository, file)
        path = wanted.local() or download("sam3", wanted, "sam3", _USAGE)
    return path.parent


def _no_folder(path: Path) -> InputError:
    """The error for a file in place of a folder; it says what the file looks like."""
    looks = ""
    if path.suffix in (".pt", ".pth"):
        keys = {key: tuple(value.shape) for key, value in read_checkpoint(path).items()}
        looks = f", and looks like {identify(keys)[1]}"
    return InputError(
        f"{path} is a file{looks}: SAM 3 is read from a folder with {', '.join(FILES)}, those of "
        f"https://huggingface.co/{WEIGHTS}; official .pt files are not read"
    )


def _tokenizer(folder: Path, text_config: Any) -> Any:
    """The tokenizer of a folder's tokenizer.json.

    Raises:
        InputError: it is missing, broken, or not the text encoder's.
    """
    from transformers import PreTrainedTokenizerFast

    file = folder / "tokenizer.json"
    if not file.is_file():
        raise InputError(f"{folder} must hold {', '.join(FILES)}: tokenizer.json is missing")
    try:
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(file))
        tokens = tokenizer("dog")["input_ids"]
    except Exception as error:  # tokenizers raises Exception itself
        raise InputError(f"{file} cannot be read ({first_line(error)}): download it again") from error
    if len(tokens) < 3 or max(tokens) >= text_config.vocab_size or text_config.max_position_embeddings < MAX_TOKENS:
        raise InputError(
            f"{file} is not that of the text encoder, which knows {text_config.vocab_size} tokens: the tokens of 'dog' "
            f"are {tokens}, with one at each end expected"
        )
    return tokenizer
