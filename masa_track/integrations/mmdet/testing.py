"""From a configuration to scores: what tools/test_mot.py does, for those who call it from Python."""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.dist import barrier, broadcast_object_list, is_distributed, is_main_process
from mmengine.logging import print_log
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

import masa_track
from masa_track.errors import InputError, first_line, unknown_name
from masa_track.files import prepare_folder, write_text
from masa_track.integrations.mmdet import datasets, metrics
from masa_track.integrations.mmdet.masa import MASA
from masa_track.integrations.mmdet.results import TAO_FILE, VideoFiles
from masa_track.integrations.mmdet.trackers import MasaBaseTracker
from masa_track.models.checkpoints import read_checkpoint, sha256
from masa_track.models.official_keys import COUNTER
from masa_track.registry import find_model

TIME_KEYS = ("fps", "timestamp")  # of a video and of a frame, for presets that count time
SHARED_KEYS = ("data_root", "sequences", "ann_file", "stride")  # what data set and metric must agree on

FILLING_KEYS = ("use_postprocess", "postprocess_tracklet_cfg")  # of the metric: they change the tracks that are written


def read_config(path: str | Path, options: Mapping[str, Any] | None = None) -> Config:
    """A configuration of a test with some of its values changed.

    A configuration is Python and is run: read only those that you trust.

    Raises:
        InputError: there is no such file, it is no configuration of a test, or there is no such key to change.
    """
    if not Path(path).is_file():
        raise InputError(f"no such configuration: {path}")
    try:
        config = Config.fromfile(str(path))
    except (ImportError, FileNotFoundError) as error:
        if "projects" not in str(error):
            raise
        raise InputError(
            f"{path} needs the authors' projects folder ({first_line(error)}), which is not part of this library: take "
            "the file of the same name in configs/masa, where the backbones are mmdet's and boxes come from "
            "public_det_path"
        ) from error
    if config.get("inference_pipeline") is not None and config.get("test_dataloader") is None:
        raise InputError(
            f"{path} is a configuration for videos, not of a test: track a video by `masa-track track VIDEO "
            f"--masa-config {path} --checkpoint CHECKPOINT.pth --out FOLDER`"
        )
    for key in options or {}:
        if key.split(".")[0] not in config:
            raise unknown_name("key in --cfg-options", key.split(".")[0], config.keys())
    config.merge_from_dict(dict(options or {}))
    for needed in ("model", "test_dataloader", "test_evaluator"):
        if config.get(needed) is None:
            raise InputError(f"{path} is no configuration of a test: it has no {needed!r}")
    if str(config.model.get("type")).rpartition(".")[2] != "MASA":
        raise InputError(f"model.type must be MASA, got {config.model.get('type')!r} in {path}")
    known = list(inspect.signature(MASA).parameters)
    for name in config.model:
        if name not in ("type", "_delete_", *known):
            raise unknown_name("key of model", name, known)
    return config


def test(
    config: Config, checkpoint: str | None, work_dir: str | Path, out: str | None = None, show_dir: str | None = None
) -> dict[str, float]:
    """Tracks the videos of a configuration that are not done yet, and scores all of them.

    Called by each process, where there are several; they must be joined already.

    Args:
        config: from :func:`read_config`; it is changed.
        checkpoint: an official .pth, one of mmengine's, or a .safetensors of this library; nothing in it is run. None:
            the weights that the configuration names, or that its network is shipped with.
        work_dir: for logs, and the results in ``tracks``.
        out: a file that the tracks of all videos are written to, too: TAO json.
        show_dir: a folder for pictures of the tracks.

    Returns:
        The scores, by name.

    Raises:
        InputError: something in the configuration cannot be, or ``work_dir`` holds results of another run.
    """
    work_dir = prepare_folder(work_dir, "--work-dir")
    if out is not None:
        prepare_folder(Path(out).parent, "the folder of --out")
    check_weights(config.model, checkpoint)
    if checkpoint is not None and Path(checkpoint).suffix == ".safetensors":
        config.model.checkpoint = checkpoint
    evaluator = one_evaluator(config)
    dataset = config.test_dataloader.dataset
    elsewhere = evaluator.get("outfile_prefix")
    prepare_videos(config.test_dataloader, evaluator, work_dir / "tracks")
    files = VideoFiles(evaluator.outfile_prefix)
    settle(files, config, checkpoint)
    with DefaultScope.overwrite_default_scope("mmdet"):
        classes = DATASETS.build(dataset).metainfo.get("classes") or ()
    if config.model.get("class_names") is None:
        config.model.class_names = list(classes)
    dataset.skip_videos = finished(files)
    config.work_dir = str(work_dir)
    config.load_from = None
    unused = ("train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler", "val_dataloader", "val_cfg")
    for name in (*unused, "val_evaluator"):
        config[name] = None  # not needed, and their data may not be there
    config.test_cfg = {"type": "TestLoop"}
    config.setdefault("default_scope", "mmdet")
    if show_dir is not None:
        draw = {"type": "DrawTracksHook", "folder": show_dir, "class_names": list(classes)}
        config.custom_hooks = [*(config.get("custom_hooks") or []), draw]
    runner = Runner.from_cfg(config)
    if checkpoint is not None and Path(checkpoint).suffix != ".safetensors":
        load_weights(runner.model.module if hasattr(runner.model, "module") else runner.model, checkpoint)
    if elsewhere is not None:
        message = (
            f"test_evaluator.outfile_prefix={elsewhere!r} has no effect: results are in {files.folder} (--work-dir)"
        )
        print_log(message, "current", logging.WARNING)
    if dataset.skip_videos:
        print_log(f"{len(dataset.skip_videos)} videos were done before", "current")
    scores = runner.test()
    if out is not None and is_main_process():
        write_text(out, (files.folder / TAO_FILE).read_text(encoding="utf-8"))
    return scores


def prepare_videos(loader: Any, evaluator: Any, folder: Path) -> None:
    """Makes a configuration's loader of videos and its metric fit each other, in place; results go to ``folder``."""
    dataset = loader.dataset
    for key in SHARED_KEYS:
        if (key in dataset and key in inspect.signature(metric_class(evaluator)).parameters) or key == "stride":
            evaluator[key] = dataset.get(key, evaluator.get(key, 1 if key == "stride" else None))
    evaluator.outfile_prefix = str(folder)
    for step in dataset.get("pipeline") or ():  # the authors' pipelines do not ask for them
        if str(step.get("type")).rpartition(".")[2] == "PackTrackInputs":
            step["meta_keys"] = tuple(dict.fromkeys((*(step.get("meta_keys") or ()), *TIME_KEYS)))
    loader.sampler = {"type": "VideoSampler"}
    loader.batch_size = 1


def one_evaluator(config: Config, key: str = "test_evaluator") -> Any:
    """The one metric of a configuration's ``key``."""
    evaluator = config[key]
    if isinstance(evaluator, list) and len(evaluator) == 1:
        evaluator = config[key] = evaluator[0]
    if not isinstance(evaluator, Mapping):
        raise InputError(f"{key} must be one metric, got {len(evaluator)}")
    metric_class(evaluator, key)
    return evaluator


def metric_class(evaluator: Mapping[str, Any], key: str = "test_evaluator") -> type:
    """The class of a metric of ours, by its name."""
    known = {name: value for name, value in vars(metrics).items() if name.endswith("Metric") and name[0] != "_"}
    known.pop("BaseVideoMetric")
    name = str(evaluator.get("type")).rpartition(".")[2]
    if name not in known:
        raise unknown_name(f"{key}.type", name, known)
    return known[name]


def check_weights(model: Mapping[str, Any], checkpoint: str | None) -> None:
    """Raises InputError if the network would be left with random weights, or there are two sets of them."""
    network, own = model.get("network"), model.get("checkpoint")
    if checkpoint is None:
        spec = None if network is None else find_model(network)
        shipped = spec is not None and spec.is_shipped
        if own is None and not shipped and model.get("init_cfg") is None:
            raise InputError("CHECKPOINT is needed: the network of this configuration comes without weights")
        return
    if not Path(checkpoint).is_file():
        raise InputError(f"no such checkpoint: {checkpoint}")
    if Path(checkpoint).suffix == ".safetensors" and network is None:
        raise InputError(f"{checkpoint} goes with model.network=NAME; this configuration's parts take an official .pth")


def load_weights(model: MASA, checkpoint: str | Path) -> None:
    """Fills the model from an official checkpoint, or one of tools/train.py or mmengine; nothing in it is run.

    Raises:
        InputError: it is not of this model. A detector's weights may be missing if they were loaded on their own, or
            if it does not find the boxes and is not the network's backbone.
    """
    result = model.load_state_dict(read_checkpoint(checkpoint), strict=False)
    missing = [key for key in result.missing_keys if not key.endswith(COUNTER)]
    if model.detector_is_filled or not model.detector_is_used:
        shared = set() if model.detector_is_filled else set(model.network_keys().values())
        missing = [key for key in missing if key in shared or not key.startswith("detector.")]
    if missing:
        way_out = (
            "; give the detector's by --cfg-options model.detector_checkpoint=FILE"
            if all(key.startswith("detector.") for key in missing)
            else ""
        )
        raise InputError(
            f"{checkpoint} is not of this model: {len(missing)} tensors are missing, e.g. {missing[0]!r}{way_out}"
        )
    if isinstance(model.tracker, MasaBaseTracker):
        model.tracker.set_model_prior(None)  # that of the weights that the network was built with
    if result.unexpected_keys:
        keys = result.unexpected_keys
        print_log(f"{checkpoint}: {len(keys)} tensors are not of this model, e.g. {keys[0]!r}", "current")


def settle(files: VideoFiles, config: Config, checkpoint: str | None) -> None:
    """Makes sure, in the first process, that results already there are of this run; see ``VideoFiles.check_run``."""
    problem: list[Any] = [None]
    if is_main_process():
        dataset = {k: v for k, v in config.test_dataloader.dataset.to_dict().items() if k != "skip_videos"}
        model = config.model.to_dict()
        facts = {
            "masa_track": masa_track.__version__,
            "model": digest(model),
            "data": digest(dataset),
            "checkpoint": None if checkpoint is None else sha256(Path(checkpoint)),
            "detector_checkpoint": None
            if model.get("detector_checkpoint") is None
            else sha256(Path(model["detector_checkpoint"])),
        }
        filling = {key: config.test_evaluator[key] for key in FILLING_KEYS if config.test_evaluator.get(key)}
        if filling:
            facts["postprocess"] = digest(filling)
        try:
            files.check_run(facts)
        except InputError as error:
            problem = [str(error)]
    if is_distributed():
        broadcast_object_list(problem)
    if problem[0] is not None:
        raise InputError(problem[0])


def digest(value: Any) -> str:
    """A short name for a configuration."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def finished(files: VideoFiles) -> list[str]:
    """The videos that are done, the same for all processes; none writes before all know."""
    found = [sorted(path.stem for path in files.parts.glob("*.json") if not path.name.startswith("."))]
    if is_distributed():
        broadcast_object_list(found)
        barrier()
    return found[0]


REGISTERED = (datasets, metrics)
