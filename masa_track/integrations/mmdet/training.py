"""mmdet configurations for tools/train.py: the same model and data, run by the trainer of this library."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict

from masa_track.errors import InputError, unknown_name
from masa_track.integrations.mmdet.views import two_views_options
from masa_track.models.registry import BUILDERS

KEPT_HOOKS = ("logger", "checkpoint", "param_scheduler", "timer", "sampler_seed", "runtime_info")
SCOPE = "mmdet"


def masa_network(config: Mapping[str, Any]) -> Any:
    """The network of a model ``MASA`` by its configuration."""
    return MODELS.build({**config, "_scope_": SCOPE}).net


BUILDERS["mmdet"] = masa_network  # by TrainingModel's network=dict(type="mmdet", config=...)


def as_ours(config: Config) -> Config:
    """A configuration of model ``MASA`` and data ``MASADataset`` as tools/train.py runs it.

    Raises:
        InputError: for other data, or weights that would have to be fetched.
    """
    model = config.model.to_dict()
    head = model.get("track_head") or {}
    losses = head.get("embed_head", {})
    ours = ConfigDict(
        type="TrainingModel",
        network={"type": "mmdet", "config": {**model, "given_dets": True, "public_det_path": None}},
        backbone_weights=backbone_weights(model),
        track_weight=losses.get("loss_track", {}).get("loss_weight", 0.25),
        margin_weight=losses.get("loss_track_aux", {}).get("loss_weight", 1.0),
        samples=(head.get("train_cfg") or {}).get("sampler", {}).get("num", 512),
        seed=model.get("seed", 0),
    )
    ours.network.config.load_public_dets = False
    config.model = ours
    loader = config.train_dataloader
    dataset, samples = plain_dataset(loader.dataset.to_dict())
    loader.dataset = ConfigDict(type="TwoViews", **dataset)
    if (loader.get("sampler") or {}).get("type") in (None, "DefaultSampler"):
        loader.sampler = ConfigDict(type="PhotoSampler", samples=samples)
    loop = config.train_cfg
    config.train_cfg = ConfigDict(type="ResumableLoop", max_epochs=loop.get("max_epochs", 12))
    hooks = config.get("default_hooks") or {}
    config.default_hooks = ConfigDict({name: hooks[name] for name in KEPT_HOOKS if name in hooks})
    config.default_hooks.setdefault("checkpoint", ConfigDict(type="CheckpointHook", interval=1))
    config.custom_hooks = [hook for hook in config.get("custom_hooks") or [] if hook["type"] != "SyncBuffersHook"]
    for name in ("val_dataloader", "val_cfg", "val_evaluator", "test_dataloader", "test_cfg", "test_evaluator"):
        config[name] = None
    config.pop("visualizer", None)
    config.default_scope = "mmengine"
    return config


def backbone_weights(model: Mapping[str, Any]) -> str | None:
    """The file that the configuration fills the frozen backbone from; None leaves it random.

    Raises:
        InputError: it names something else than a file that is there.
    """
    detector = model.get("detector")
    sources = [detector if isinstance(detector, Mapping) else {}, model.get("backbone") or {}]
    for source in sources:
        path = (source.get("init_cfg") or {}).get("checkpoint")
        if path is not None:
            if not Path(path).is_file():
                raise InputError(
                    f"init_cfg.checkpoint of the backbone or detector must be a file, got {path}: download it, give "
                    "its path by --cfg-options"
                )
            return str(path)
    return None


def plain_dataset(dataset: Mapping[str, Any], samples: int | None = None) -> tuple[dict[str, Any], int | None]:
    """The options of :class:`~masa_track.training.dataset.TwoViews`, and items an epoch, out of mmdet's wrappers."""
    kind, options = str(dataset["type"]).rpartition(".")[2], {k: v for k, v in dataset.items() if k != "type"}
    if kind == "SeqMultiImageMixDataset":
        return plain_dataset(options["dataset"], samples)
    if kind == "RandomSampleConcatDataset":
        if len(options["datasets"]) != 1:
            raise InputError(f"datasets must be one, got {len(options['datasets'])}: join their json files")
        return plain_dataset(options["datasets"][0], options.get("fixed_length"))
    if kind != "MASADataset":
        known = ("MASADataset", "RandomSampleConcatDataset", "SeqMultiImageMixDataset")
        raise unknown_name("train_dataloader.dataset.type", kind, known)
    samples = options.pop("samples", samples)
    return {key: str(v) if isinstance(v, Path) else v for key, v in two_views_options(**options).items()}, samples
