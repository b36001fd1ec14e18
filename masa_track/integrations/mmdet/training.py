"""mmdet configurations for tools/train.py: the same model and data, run by the trainer of this library."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from masa_track.errors import InputError, unknown_name
from masa_track.integrations.mmdet.masa import MASA, OFFICIAL_NAMES, frozen_parts
from masa_track.integrations.mmdet.unused import ANY, MODEL, unlike, unread_variables
from masa_track.integrations.mmdet.validation import set_validation
from masa_track.integrations.mmdet.views import own_dataset
from masa_track.training.hooks import training_model

LOG = logging.getLogger("masa_track")
LOOPS = ("EpochBasedTrainLoop", "ResumableLoop")
LOOP_KEYS = ("max_epochs", "val_begin", "val_interval", "dynamic_intervals")
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
        InputError: for other data, unknown keys, or weights that would have to be fetched. One warning names the keys
            that have no effect.
    """
    model = config.model.to_dict()
    known = list(inspect.signature(MASA).parameters)
    for name in model:
        if name not in ("type", *known):
            raise unknown_name("key of model", name, known)
    unused = unread_variables(config)
    unused += [key for name in MODEL if name in model for key in unlike(model[name], MODEL[name], f"model.{name}")]
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
    dataset, samples = own_dataset(loader.dataset.to_dict(), "train_dataloader.dataset", unused)
    loader.dataset = ConfigDict(dataset)
    sampler = loader.get("sampler") or {}
    if sampler.get("type") in (None, "DefaultSampler"):
        unused += unlike(sampler, {"type": ANY, "shuffle": True, "round_up": True}, "train_dataloader.sampler")
        loader.sampler = ConfigDict(type="PhotoSampler", samples=samples)
    config.train_cfg = training_loop(config.train_cfg)
    hooks = config.get("default_hooks") or {}
    unused += [f"default_hooks.{name}" for name, hook in hooks.items() if name not in KEPT_HOOKS and is_active(hook)]
    config.default_hooks = ConfigDict({name: hooks[name] for name in KEPT_HOOKS if name in hooks})
    config.default_hooks.setdefault("checkpoint", ConfigDict(type="CheckpointHook", interval=1))
    custom = config.get("custom_hooks") or []
    kept = [hook for hook in custom if str(hook["type"]).rpartition(".")[2] != "SyncBuffersHook"]
    if len(kept) < len(custom):
        config.setdefault("sync_bn", "torch")  # in every step; the hook would also touch the frozen backbone
    config.custom_hooks = [*kept, ConfigDict(type="MasaKeysHook")]
    set_validation(config, model, unused)
    for name in ("test_dataloader", "test_cfg", "test_evaluator"):
        config[name] = None
    config.pop("data_preprocessor", None)  # mmengine would give it to the model, which has its own
    backends = (config.get("visualizer") or {}).get("vis_backends")  # where the log goes; pictures are not drawn
    config.visualizer = ConfigDict(type="Visualizer", vis_backends=backends) if backends else None
    config.default_scope = "mmengine"
    if unused:
        LOG.warning("without effect in training: %s", ", ".join(unused))
    return config


def training_loop(loop: Mapping[str, Any]) -> ConfigDict:
    """The loop of a configuration, which can be resumed within an epoch.

    Raises:
        InputError: it does not count epochs, or has an unknown key.
    """
    kind = str(loop.get("type", LOOPS[0])).rpartition(".")[2]
    if kind not in LOOPS or loop.get("by_epoch") is False:
        raise InputError(
            f"train_cfg.type must be one of {', '.join(LOOPS)}, got {kind!r}: give max_epochs; "
            "train_dataloader.sampler=dict(type='PhotoSampler', samples=N) sets the items of an epoch"
        )
    for name in loop:
        if name not in ("type", "by_epoch", *LOOP_KEYS):
            raise unknown_name("key of train_cfg", name, LOOP_KEYS)
    return ConfigDict({"max_epochs": 12, **{k: loop[k] for k in LOOP_KEYS if k in loop}, "type": "ResumableLoop"})


def is_active(hook: Mapping[str, Any] | None) -> bool:
    """Whether a hook that is left out would do anything; mmdet's visualization hooks draw only if they are asked to."""
    return hook is not None and not ("Visualization" in str(hook.get("type")) and not hook.get("draw"))


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
