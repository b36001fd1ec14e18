"""From a configuration file to a finished training: what tools/train.py does, for those who call it from Python."""

from __future__ import annotations

import inspect
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DATASETS
from mmengine.runner import Runner

from masa_track.errors import InputError, unknown_name
from masa_track.files import prepare_folder
from masa_track.training import hooks, order  # registers what configurations name
from masa_track.training.model import TrainingModel
from masa_track.training.runner import TrainingRunner
from masa_track.training.validation import set_validation

REGISTERED = (hooks, order)


def read_config(path: str | Path, options: Mapping[str, Any] | None = None) -> Config:
    """A configuration with some of its values changed.

    A configuration is Python and is run: read only those that you trust.

    Args:
        path: the file.
        options: values by dotted keys, e.g. ``{"model.margin_weight": 0.0}``.

    Raises:
        InputError: if there is no such file, or no such key to change.
    """
    if not Path(path).is_file():
        raise InputError(f"no such configuration: {path}")
    config = Config.fromfile(str(path))
    for needed in ("model", "train_dataloader", "train_cfg", "optim_wrapper"):
        if needed not in config:
            raise InputError(f"{path} is no configuration of a training: it has no {needed!r}")
    for key in options or {}:
        parts = key.split(".")
        if parts[0] not in config:
            raise unknown_name("key in --cfg-options", parts[0], config.keys())
    config.merge_from_dict(dict(options or {}))
    if for_mmdet(config):
        return config  # whose keys are other ones
    model: type = TrainingModel
    if config.model.get("type") in ("ReferTraining", "VideoTraining"):
        from masa_track.training import refer, refer_video

        refer.register_clips()
        models = (refer.ReferTraining, refer_video.VideoTraining)
        model = next(m for m in models if m.__name__ == config.model.type)
    known = list(inspect.signature(model).parameters)
    for name in config.model:
        if name not in ("type", *known):
            raise unknown_name("key of model", name, known)
    return config


def for_mmdet(config: Config) -> bool:
    """Whether it is a configuration of the mmdet integration, whose model is ``MASA``."""
    return str(config.model.get("type")).rpartition(".")[2] == "MASA"


def check_accumulation(config: Config) -> int:
    """How many iterations an update takes.

    Raises:
        InputError: if checkpoints would be written between updates, whose gradients are in no checkpoint.
    """
    every = int(config.optim_wrapper.get("accumulative_counts", 1))
    interval = int(config.default_hooks.checkpoint.get("interval", every))
    if every < 1 or interval % every:
        raise InputError(
            "default_hooks.checkpoint.interval must be a multiple of optim_wrapper.accumulative_counts, got "
            f"{interval} and {every}: gradients that are still being gathered are in no checkpoint"
        )
    return every


def use_amp(config: Config) -> None:
    """Turns on mixed precision, in place; InputError where there is no GPU for it."""
    if not torch.cuda.is_available():
        raise InputError("--amp needs a GPU, and torch sees none: leave it out")
    config.optim_wrapper.type = "AmpOptimWrapper"
    config.optim_wrapper.setdefault("loss_scale", "dynamic")


def distribute_on_cpu(launcher: str, config: Config) -> None:
    """Joins the processes of torchrun or of slurm where there is no GPU, which mmengine alone takes for granted.

    Raises:
        InputError: outside torchrun or srun.
    """
    if launcher == "slurm":
        slurm_environment()
    elif launcher != "pytorch" or "LOCAL_RANK" not in os.environ:
        raise InputError(
            f"--launcher {launcher} without a GPU works by torchrun only: torchrun --nproc-per-node 2 tools/train.py "
            "CONFIG --launcher pytorch --device cpu"
        )
    torch.distributed.init_process_group("gloo")
    config.model_wrapper_cfg = {"type": "MMDistributedDataParallel", "broadcast_buffers": False, "device_ids": None}
    config.sync_bn = None  # torch has it for GPUs only


def slurm_environment() -> None:
    """Says in torch's variables which process of srun's this is, as mmengine does; those already set are kept.

    Raises:
        InputError: srun's variables are not there, or scontrol does not name the first host.
    """
    names = ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_NODELIST")
    if any(name not in os.environ for name in names):
        raise InputError(f"--launcher slurm needs {', '.join(names)}, which srun sets: srun -n 2 python tools/...")
    rank, tasks, nodes = (os.environ[name] for name in names)
    if "MASTER_ADDR" not in os.environ:
        try:
            command = ["scontrol", "show", "hostname", nodes]
            hosts = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        except (OSError, subprocess.CalledProcessError) as error:
            raise InputError(f"--launcher slurm asks scontrol for the first host ({error}): set MASTER_ADDR") from error
        if not hosts:
            raise InputError(f"scontrol names no host of SLURM_NODELIST {nodes!r}: set MASTER_ADDR")
        os.environ["MASTER_ADDR"] = hosts[0]
    os.environ.setdefault("MASTER_PORT", "29500")
    os.environ.update(RANK=rank, WORLD_SIZE=tasks, LOCAL_RANK=os.environ.get("SLURM_LOCALID", "0"))


def make_runner(config: Config, work_dir: str | Path, resume: bool | str = False) -> Runner:
    """A runner, ready to ``train()``.

    Args:
        config: from :func:`read_config`; it is changed.
        work_dir: where checkpoints, logs and the exported file go.
        resume: True: from the latest checkpoint in ``work_dir``, if there is one; or a checkpoint's path. False:
            ``config.resume`` and ``config.load_from`` say.

    Raises:
        InputError: if something in the configuration cannot be.
    """
    every = check_accumulation(config)
    config.work_dir = str(prepare_folder(work_dir, "--work-dir"))
    if isinstance(resume, str):
        if not Path(resume).is_file():
            raise InputError(f"no such checkpoint to resume from: {resume}")
        config.load_from = resume
    config.resume = bool(resume or config.get("resume"))
    if resume is True:
        config.load_from = None
    config.custom_hooks = [
        *(config.get("custom_hooks") or []),
        {"type": "FrozenBackboneHook"},
        {"type": "StopHook", "every": every},
    ]
    set_validation(config)
    checkpoint = config.default_hooks.checkpoint
    best = checkpoint.get("save_best")
    if best is not None and checkpoint.get("rule") is None:  # mmengine does not know our scores
        keys = [best] if isinstance(best, str) else best
        checkpoint.rule = ["less" if key.endswith("switches") else "greater" for key in keys]
    register_datasets()
    return TrainingRunner.from_cfg(config)


def register_datasets() -> None:
    """Lets configurations name the data sets."""
    from masa_track.training.composites import Composites
    from masa_track.training.dataset import TwoViews
    from masa_track.training.joined import JoinedViews

    for data in (TwoViews, Composites, JoinedViews):
        DATASETS.register_module(name=data.__name__, module=data, force=True)
