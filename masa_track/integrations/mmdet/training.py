"""mmdet configurations for tools/train.py: the same model and data, run by the trainer of this library."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from masa_track.errors import InputError, unknown_name
from masa_track.integrations.mmdet.masa import OFFICIAL_NAMES, frozen_parts
from masa_track.integrations.mmdet.views import two_views_options
from masa_track.training.hooks import training_model

KEPT_HOOKS = ("logger", "checkpoint", "param_scheduler", "timer", "sampler_seed", "runtime_info")
SCOPE = "mmdet"
FREEZE_KEYS = ("freeze_masa_adapter", "freeze_object_prior_distillation")
STEPS = "masa_track_steps"  # in a checkpoint, beside the state dict


def masa_network(config: Mapping[str, Any]) -> Any:
    """The network of a model ``MASA`` by its configuration; it knows by ``masa_keys`` what MASA calls its tensors."""
    model = MODELS.build({**config, "_scope_": SCOPE})
    model.net.masa_keys = model.network_keys()
    return model.net


@HOOKS.register_module()
class MasaKeysHook(Hook):
    """Checkpoints of tools/train.py with the keys of ``MASA``, backbone included, as mmdet's own runner writes them.

    What the detector does not share with the network is not in training, so not in the checkpoint either.
    """

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Renames the tensors; the count of steps, which is none of the model's, goes beside them."""
        state = checkpoint["state_dict"]
        checkpoint[STEPS] = state["steps"]
        keys = training_model(runner).network.masa_keys
        checkpoint["state_dict"] = {theirs: state[f"network.{ours}"] for ours, theirs in keys.items()}

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Undoes it; a detector's tensors that are not the network's are passed over."""
        ours = {theirs: f"network.{ours}" for ours, theirs in training_model(runner).network.masa_keys.items()}
        others = {
            key: value for key, value in checkpoint["state_dict"].items() if key in ours or key[:9] != "detector."
        }
        checkpoint["state_dict"] = {ours.get(key, key): value for key, value in others.items()}
        if STEPS in checkpoint:
            checkpoint["state_dict"]["steps"] = checkpoint.pop(STEPS)


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
        network={"type": f"{__name__}:masa_network", "config": {**model, "given_dets": True, "public_det_path": None}},
        backbone_weights=backbone_weights(model),
        track_weight=losses.get("loss_track", {}).get("loss_weight", 0.25),
        margin_weight=losses.get("loss_track_aux", {}).get("loss_weight", 1.0),
        samples=(head.get("train_cfg") or {}).get("sampler", {}).get("num", 512),
        seed=model.get("seed", 0),
    )
    ours.network.config.load_public_dets = False
    frozen = frozen_parts(*(model.get(key, False) for key in FREEZE_KEYS))
    if frozen:
        named = model.get("network") is not None  # whose parts are known when it is built
        ours.learn = [name for name in OFFICIAL_NAMES if name not in frozen and (named or model.get(name) is not None)]
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
    hooks = [hook for hook in config.get("custom_hooks") or [] if hook["type"] != "SyncBuffersHook"]
    config.custom_hooks = [*hooks, ConfigDict(type="MasaKeysHook")]
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
