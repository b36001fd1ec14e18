"""Checkpoints of a training that hold tensors, numbers and text only, and say which configuration they are of.

mmengine's own hold objects, and its reader falls back to running what a pickle says. Ours are written as plain data
and read by torch's ``weights_only`` reader alone.
"""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from masa_track.errors import InputError
from masa_track.models.checkpoints import misfit

IDENTITY = "masa_track_identity"  # its key in the checkpoint's meta
BACKBONE = "network.backbone."
HISTORY = 1000  # values of each logged number that are kept, for the running means


def identity_of(config: Mapping[str, Any], backbone_sha256: str) -> dict[str, Any]:
    """What sets one run apart from another: of the configuration what changes its result, and the backbone's sum."""
    loader = config.get("train_dataloader") or {}
    chosen = {
        "model": {k: v for k, v in config["model"].items() if k != "backbone_weights"},  # the sum says it better
        "optim_wrapper": config.get("optim_wrapper"),
        "param_scheduler": config.get("param_scheduler"),
        "batch_size": loader.get("batch_size"),
        "samples": (loader.get("sampler") or {}).get("samples"),
        "seed": (config.get("randomness") or {}).get("seed"),
        "max_epochs": (config.get("train_cfg") or {}).get("max_epochs"),
        "backbone": backbone_sha256,
    }
    return json.loads(json.dumps(chosen, default=str))


def differences(ours: Any, theirs: Any, place: str = "") -> list[str]:
    """Where two nested dicts differ, e.g. ``model.network: 'r50' here, 'nano' there``."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        found = []
        for key in sorted(ours.keys() | theirs.keys()):
            found += differences(ours.get(key), theirs.get(key), f"{place}.{key}" if place else key)
        return found
    return [] if ours == theirs else [f"{place}: {ours!r} here, {theirs!r} there"]


def check_identity(ours: Mapping[str, Any], checkpoint: Mapping[str, Any], path: str | Path) -> None:
    """Raises InputError unless a run of ``ours`` can go on from the checkpoint."""
    theirs = checkpoint.get("meta", {}).get(IDENTITY)
    if theirs is None:
        raise InputError(f"{path} is no checkpoint of tools/train.py: it can be loaded with load_from, not resumed")
    found = differences(dict(ours), theirs)
    if found:
        raise InputError(
            f"{path} is a checkpoint of another configuration ({'; '.join(found[:4])}"
            f"{f'; and {len(found) - 4} more' if len(found) > 4 else ''}): resume with the configuration it was made "
            f"with, which lies beside it, or start a new run in another --work-dir with --cfg-options load_from={path}"
        )


def check_weights(ours: Mapping[str, Tensor], state: Mapping[str, Tensor], path: str | Path) -> dict[str, Tensor]:
    """The checkpoint's weights for a model, the frozen backbone added where the checkpoint leaves it out.

    Raises:
        InputError: if they are of another model.
    """
    filled = {key: value for key, value in ours.items() if key.startswith(BACKBONE)} | dict(state)
    if found := misfit(ours, filled):
        raise InputError(f"{path} is a checkpoint of another model: {found}")
    return filled


def read_training_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint of a training, on the CPU; nothing in it is run.

    Raises:
        InputError: if the file is missing, cut short, or holds anything but plain data with a ``state_dict``.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no such checkpoint: {path}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise InputError(
            f"{path} holds more than plain data ({named[1] if named else 'it is no torch file'}), and such a file is "
            "not opened, as it could run anything"
        ) from error
    except (RuntimeError, EOFError, OSError, zipfile.BadZipFile, ValueError, KeyError) as error:
        raise InputError(f"{path} is not a whole checkpoint ({path.stat().st_size:,} bytes; {error})") from error
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), Mapping):
        raise InputError(f"{path} is no checkpoint of a training: it holds no state_dict")
    return content


def latest_checkpoint(folder: str | Path) -> Path | None:
    """The checkpoint of the latest iteration or epoch, ``iter_N.pth`` or ``epoch_N.pth``, in a work folder, if any.

    Where there are both (Ctrl-C writes an iteration's), it is the one that was written later.
    """
    latest = []
    for kind in ("iter", "epoch"):
        paths = Path(folder).glob(f"{kind}_*.pth")
        found = {int(m[1]): path for path in paths if (m := re.fullmatch(rf"{kind}_(\d+)", path.stem))}
        if found:
            latest.append(found[max(found)])
    return max(latest, key=lambda path: path.stat().st_mtime_ns, default=None)


def _plain(value: Any) -> Any:
    """The same with Python's numbers for numpy's, which the reader would not take; dicts and lists are walked."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        for key in value:
            value[key] = _plain(value[key])
        return value
    return type(value)(map(_plain, value)) if type(value) in (list, tuple) else value


def to_plain(checkpoint: dict[str, Any]) -> None:
    """Replaces the objects in mmengine's checkpoint by plain data, in place."""
    hub = checkpoint["message_hub"]
    scalars = {}
    for key, buffer in hub["log_scalars"].items():
        values, counts = buffer.data
        scalars[key] = {
            "values": torch.tensor(values[-HISTORY:].tolist(), dtype=torch.float64),
            "counts": torch.tensor(counts[-HISTORY:].tolist(), dtype=torch.int64),
        }
    info = {k: v for k, v in hub["runtime_info"].items() if v is None or isinstance(v, bool | int | float | str)}
    resumed = {k: bool(v) for k, v in hub["resumed_keys"].items() if k in scalars or k in info}
    checkpoint["message_hub"] = {"log_scalars": scalars, "runtime_info": info, "resumed_keys": resumed}
    checkpoint["meta"].pop("dataset_meta", None)
    _plain(checkpoint)


def from_plain(checkpoint: dict[str, Any]) -> None:
    """Undoes :func:`to_plain`, as far as mmengine needs it, in place."""
    from mmengine.logging import HistoryBuffer

    checkpoint.get("meta", {}).pop("config", None)  # mmengine would run it as Python
    hub = checkpoint.get("message_hub")
    if hub is not None:
        hub["log_scalars"] = {
            key: HistoryBuffer(value["values"].tolist(), value["counts"].tolist())
            for key, value in hub["log_scalars"].items()
        }
