"""SAM 2 and EdgeTAM by name, from an official file, or from a folder in Hugging Face's form. Nothing is unpickled."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from masa_track.errors import InputError, first_line, unknown_name
from masa_track.masklets.models import MODELS, MaskletModel, find_model
from masa_track.masklets.sam2 import EdgeTamNetwork, Sam2Network
from masa_track.masklets.sam2_keys import SIZE_OF, configuration, identify, to_hub
from masa_track.models.checkpoints import check_finite, download, misfit, read_checkpoint
from masa_track.models.devices import choose_device, choose_dtype
from masa_track.registry import check_installed

_USE = "--masklets path/to/{file}"


def load_network(
    name_or_path: str | Path,
    checkpoint: str | Path | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    side: int | None = None,
    compile_encoder: bool = False,
) -> Sam2Network:
    """Loads a network for :class:`~masa_track.masklets.session.MaskletSession`.

    Args:
        name_or_path: a name of :data:`~masa_track.masklets.models.MODELS` or on Hugging Face
            (``facebook/sam2.1-hiera-tiny``), whose file is downloaded unless it is there; an official ``.pt`` file of
            SAM 2 or 2.1; or a folder with ``config.json`` and ``model.safetensors`` of SAM 2, 2.1 or EdgeTAM.
        checkpoint: a file or folder for a name; it must be of that model.
        device: e.g. ``cpu`` or ``cuda:1``; None takes a GPU if there is one.
        dtype: ``float32`` (None), ``bfloat16`` or ``float16``. Scores, thresholds and the choice of candidates are
            computed in float32.
        side: pixels of the square that pictures are scaled to, a multiple of 32; None: as published, 1024. A smaller
            one is quicker, and other than what the weights were trained with. Official weights only.
        compile_encoder: compile the image encoder by ``torch.compile``.

    Raises:
        InputError: for an unknown name, a missing or broken file, or one of another model; the message says what the
            file looks like, or where to put it.
    """
    check_installed("masklets", purpose="for masklets of SAM 2 or EdgeTAM")
    chosen, number_type = choose_device(device), choose_dtype(dtype)
    if side is not None and (not isinstance(side, int) or side < 64 or side % 32):
        raise InputError(f"side must be a multiple of 32, 64 or more, got {side!r}")
    given = str(name_or_path)
    known = find_model(given)
    wanted = known.name if known is not None else ""
    if known is not None:
        path = Path(checkpoint) if checkpoint is not None else _fetch(known)
    elif checkpoint is not None or not Path(given).exists():
        if checkpoint is None and (Path(given).suffix in (".pt", ".pth", ".safetensors") or Path(given).is_absolute()):
            raise InputError(f"no such checkpoint: {given}")
        raise unknown_name("masklet model", given, MODELS)
    else:
        path = Path(given)
    if path.is_dir():
        name, model = _from_folder(path, wanted, side)
    else:
        name, model = _from_file(path, wanted, side)
    model = model.eval().requires_grad_(False).to(chosen)
    return (EdgeTamNetwork if name == "edgetam" else Sam2Network)(model, name, number_type, compile_encoder)


def _fetch(model: MaskletModel) -> Path:
    """The file, or the folder of the files, of a model: in the Hugging Face cache, or downloaded into it."""
    paths = []
    for file in model.files:
        path = file.local() or download(model.name, file, "masklets", _USE.format(file=file.file))
        paths.append(path)
    return paths[0] if len(paths) == 1 else paths[0].parent


def _from_file(path: Path, wanted: str, side: int | None) -> tuple[str, Any]:
    """The name and the model of an official ``.pt``, which must be that of ``wanted``, unless that is empty."""
    from transformers import Sam2VideoModel

    if path.suffix == ".safetensors":
        raise InputError(f"{path} must come with its config.json: give the folder of both")
    state = read_checkpoint(path)
    name, looks = identify({key: tuple(value.shape) for key, value in state.items()})
    if name is None:
        raise InputError(
            f"{path} is no checkpoint of SAM 2 or 2.1: it looks like {looks}. Known are {', '.join(MODELS)}"
        )
    _check_name(path, wanted, name)
    check_finite(state, path)
    converted = to_hub(state)
    with torch.device("meta"):  # what is about to be overwritten need not be drawn at random first
        expected = Sam2VideoModel(configuration(name)).state_dict()
    if found := misfit(expected, converted):
        raise InputError(f"{path} looks like {name}, but does not fit it: {found}; download it again")
    model = Sam2VideoModel(configuration(name, side or 1024))
    model.load_state_dict({key: value.float() for key, value in converted.items()})
    return name, model


def _check_name(path: Path, wanted: str, name: str) -> None:
    """Raises InputError unless a file of the model ``name`` is that which was asked for; empty for any."""
    if wanted and wanted != name:
        raise InputError(f"{path} does not fit the model {wanted!r}: it looks like {name}; give its file, or that name")


def _from_folder(folder: Path, wanted: str, side: int | None) -> tuple[str, Any]:
    """The name and the model of a folder in Hugging Face's form; ``wanted`` as of :func:`_from_file`."""
    from transformers import EdgeTamVideoModel, Sam2VideoModel

    if side is not None:
        raise InputError(f"side is for official .pt files only: {folder} has its own in config.json")
    classes: dict[str, Any] = {"sam2_video": Sam2VideoModel, "edgetam_video": EdgeTamVideoModel}
    kind, config = folder_kind(folder, classes, "masklets take {kinds} (SAM 2, 2.1 and EdgeTAM)")
    name = "edgetam"
    if kind == "sam2_video":
        backbone = config.vision_config.backbone_config
        size = SIZE_OF.get((backbone.hidden_size, sum(backbone.blocks_per_stage)), "of its own")
        name = f"sam{'2.1' if config.enable_temporal_pos_encoding_for_object_pointers else '2'}-hiera-{size}"
    _check_name(folder, wanted, name)
    return name, read_folder(folder, classes[kind], config)


def folder_kind(folder: Path, kinds: Iterable[str], rule: str) -> tuple[str, Any]:
    """The model type of a folder in Hugging Face's form, and its configuration.

    Args:
        folder: with config.json and model.safetensors.
        kinds: model types that are allowed.
        rule: what is taken, for the message, with ``{kinds}``.

    Raises:
        InputError: a file is missing or broken, or the model is of another type.
    """
    from transformers import AutoConfig

    if not (folder / "model.safetensors").is_file():
        raise InputError(f"{folder} must hold model.safetensors and config.json: pickled weights are not read")
    try:
        kind = str(json.loads((folder / "config.json").read_bytes()).get("model_type"))
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{folder} has no usable config.json ({first_line(error)})") from error
    if kind not in kinds:
        raise InputError(f"{folder} holds a model of type {kind!r}: {rule.format(kinds=' and '.join(kinds))}")
    return kind, AutoConfig.from_pretrained(folder, local_files_only=True)


def read_folder(folder: Path, model_class: Any, config: Any) -> Any:
    """A model of transformers with the weights of a folder in Hugging Face's form, in float32.

    Args:
        folder: with model.safetensors.
        model_class: of transformers.
        config: of :func:`folder_kind`.

    Raises:
        InputError: the file cannot be read, or its tensors are not those of the model, or not finite.
    """
    from safetensors import SafetensorError
    from transformers.utils import logging

    with_bar = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # weights are read in seconds
    try:
        model, report = model_class.from_pretrained(
            folder,
            config=config,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            dtype=torch.float32,
        )
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{folder} cannot be read ({first_line(error)}): download it again") from error
    finally:
        if with_bar:
            logging.enable_progress_bar()
    missing = set(report["missing_keys"])
    for copy in [name for name in missing if name.endswith("shared_image_embedding.positional_embedding")]:
        prefix = copy.removesuffix("shared_image_embedding.positional_embedding")
        source = f"{prefix}prompt_encoder.shared_embedding.positional_embedding"
        if source not in missing:  # transformers keeps the same numbers twice
            model.get_buffer(copy).copy_(model.get_buffer(source))
            missing.remove(copy)
    wrong = sorted({*missing, *report["unexpected_keys"], *(row[0] for row in report["mismatched_keys"])})
    if wrong:
        raise InputError(f"{folder} does not fit its config.json: {len(wrong)} tensors are wrong, e.g. {wrong[0]!r}")
    check_finite(dict(model.state_dict()), folder / "model.safetensors")
    return model
