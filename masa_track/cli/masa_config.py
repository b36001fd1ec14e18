"""`masa-track track --masa-config FILE`: model, sizes, tracker and thresholds of a MASA configuration for mmdet.

mmengine parses the file; mmdet is not needed. What is given on the command line goes before the file.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from masa_track.association.authors_keys import AUTHORS_TRACKERS, authors_options
from masa_track.cli.arguments import Default
from masa_track.errors import InputError, first_line, missing_extra, unknown_name
from masa_track.registry import (
    ADAPTER_KEY,
    GROUNDING_DINO,
    RESNET_KEY,
    SWIN_KEY,
    VIT_KEY,
    models_with,
    spec_of,
    told_by,
)

# Keys of the model that say what the official network is, or what a run of `track` has no use for.
_NOT_NEEDED = (
    *("type", "_delete_", "_scope_", "backbone", "masa_adapter", "rpn_head", "roi_head", "track_head", "init_cfg"),
    *("train_cfg", "seed", "freeze_detector", "freeze_masa_backbone", "freeze_masa_adapter"),
    *("freeze_object_prior_distillation", "unified_backbone", "use_masa_backbone", "benchmark", "given_dets"),
    *("load_public_dets", "end_pkl_name"),
)
# What to do instead of a key without a counterpart.
_INSTEAD = {
    "public_det_path": "--detections FILE",
    "with_segm": "--masks CHECKPOINT",
    "detector": "--detector mmdet:CONFIG:CHECKPOINT",
    "detector_checkpoint": "--detector mmdet:CONFIG:CHECKPOINT",
    "load_from": "--checkpoint FILE",
}


@dataclass
class MasaConfig:
    """What a configuration says that `track` can use.

    Attributes:
        path: the file.
        model: of the registry; None where no official model has its parts.
        preset: of the tracker; None where there is no tracker.
        options: of the preset.
        prior: a file for the preset ``default``; None for none.
        camera_motion: whether the preset ``default`` estimates the camera's motion.
        checkpoint: weights that it names; None for none.
        text: what its detector looks for; None for nothing.
        sizes: attributes of the network's preprocessing by name.
        head: of the model's own detection head: ``score_threshold``, ``iou_threshold``, ``max_detections``.
        proposals: of its proposals: ``per_level``, ``max_proposals``, ``iou_threshold``.
        left_out: keys without a counterpart.
    """

    path: str
    model: str | None = None
    preset: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    prior: str | None = None
    camera_motion: bool = False
    checkpoint: str | None = None
    text: str | None = None
    sizes: dict[str, Any] = field(default_factory=dict)
    head: dict[str, float] = field(default_factory=dict)
    proposals: dict[str, float] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    @property
    def network(self) -> dict[str, Any]:
        """Settings for :func:`masa_track.pipeline.network.set_network`, with the file's name."""
        return {
            "file": self.path,
            "of": self.model,
            "input": self.sizes,
            "roi_head": self.head,
            "rpn_head": self.proposals,
        }


def apply_masa_config(args: argparse.Namespace) -> MasaConfig | None:
    """Puts what the configuration says into the arguments that were not given, and names what is left out.

    Args:
        args: of ``track``; changed in place.

    Returns:
        The configuration; None without ``--masa-config``.

    Raises:
        InputError: the file is missing or no MASA configuration, or mmengine is not installed.
    """
    if args.masa_config is None:
        return None
    config = read_masa_config(args.masa_config)
    if isinstance(args.model, Default):
        if config.model is None:
            raise InputError(f"--masa-config {config.path}: no official model has the parts of its model: give --model")
        args.model = config.model
        if args.checkpoint is None:
            args.checkpoint = config.checkpoint
    if config.preset is not None and (isinstance(args.preset, Default) or args.preset == config.preset):
        args.preset = config.preset
        args.set = [f"{name}={value!r}" for name, value in config.options.items()] + args.set  # the last one counts
        args.prior = config.prior if args.prior is None else args.prior
        args.camera_motion = args.camera_motion or config.camera_motion
    if args.detections is args.detector is args.text is None:
        args.text = config.text
    if config.left_out:
        print(
            f"warning: --masa-config {config.path}: these keys have no effect here: {', '.join(config.left_out)}",
            file=sys.stderr,
        )
    return config


def read_masa_config(path: str) -> MasaConfig:
    """Reads a configuration. It is Python and is run: read only those that you trust.

    Raises:
        InputError: the file is missing or no MASA configuration, or mmengine is not installed.
    """
    if not Path(path).is_file():
        raise InputError(f"no such configuration: {path}")
    if find_spec("mmengine") is None:
        raise missing_extra("mmengine", "train", "to read --masa-config")
    from mmengine.config import Config

    try:
        content = Config.fromfile(path, import_custom_modules=False).to_dict()
    except Exception as error:  # the file is a program
        raise InputError(
            f"--masa-config {path} cannot be read ({type(error).__name__}: {first_line(error)}): files that it builds "
            "on (_base_) must lie where it looks for them; those of mmdet need mmdet"
        ) from error
    model = content.get("model")
    if not isinstance(model, Mapping) or str(model.get("type")).rpartition(".")[2] != "MASA":
        raise InputError(f"--masa-config {path} must have model.type MASA, got {_kind(model)!r}")
    return _read(path, content, model)


def _read(path: str, content: Mapping[str, Any], model: Mapping[str, Any]) -> MasaConfig:
    config = MasaConfig(path, _model_of(model), checkpoint=model.get("checkpoint"), text=model.get("text"))
    left_out: dict[str, str] = {}
    for key, value in model.items():
        taken = ("network", "checkpoint", "text", "tracker", "test_cfg", "data_preprocessor")
        if key in (*_NOT_NEEDED, *taken) or value in (None, False):
            continue
        if key == "detector" and model.get("unified_backbone"):
            continue  # the model shares its backbone, which is all that is needed of it
        left_out[f"model.{key}"] = _INSTEAD.get(key, "")
    left_out |= _read_tracker(config, model.get("tracker") or {})
    left_out |= _read_preprocessing(config, model.get("data_preprocessor") or {})
    left_out |= _read_pipeline(config, content)
    left_out |= _read_test_cfg(config, model.get("test_cfg") or {})
    if content.get("load_from"):
        left_out["load_from"] = _INSTEAD["load_from"]
    config.left_out = [f"{key} (use {instead})" if instead else key for key, instead in left_out.items()]
    return config


def _model_of(model: Mapping[str, Any]) -> str | None:
    """The official model with these parts, identified by the shapes of its tensors."""
    if model.get("network") is not None:
        return spec_of(str(model["network"])).name
    detector = model.get("detector") if model.get("unified_backbone") else None
    if "groundingdino" in str(_kind(detector)).lower().replace("_", ""):
        return models_with(GROUNDING_DINO)[0]
    backbone = (detector if isinstance(detector, Mapping) else model).get("backbone") or {}
    adapter: Any = model.get("masa_adapter") or ({},)
    first = adapter if isinstance(adapter, Mapping) else adapter[0]
    channels, window = (first.get("in_channels") or (0,))[0], backbone.get("window_size")
    shapes: dict[str, tuple[int, ...]] = {ADAPTER_KEY: (256, channels, 1, 1)}
    if backbone.get("depth") == 50:
        shapes[RESNET_KEY] = (512, 1024, 1, 1)
    if backbone.get("embed_dim") is not None:
        shapes[VIT_KEY] = (backbone["embed_dim"], 3, 16, 16)
    if window is not None:
        shapes[SWIN_KEY] = ((2 * window - 1) ** 2, 4)
    spec = told_by(shapes)
    return None if spec is None else spec.name


def _kind(part: Any) -> Any:
    return part.get("type") if isinstance(part, Mapping) else part


def _read_tracker(config: MasaConfig, tracker: Mapping[str, Any]) -> dict[str, str]:
    given = dict(tracker)
    kind = str(given.pop("type", None)).rpartition(".")[2]
    if not tracker:
        config.preset = "demo"
        return {}
    if kind not in AUTHORS_TRACKERS:
        raise unknown_name(f"model.tracker.type in {config.path}", kind, AUTHORS_TRACKERS)
    config.prior, config.camera_motion = given.pop("prior", None), bool(given.pop("camera_motion", False))
    config.preset, config.options, unknown = authors_options(kind, given, given.pop("preset", None))
    return {f"model.tracker.{key}": "" for key in unknown if key not in ("_delete_", "_scope_")}


def _read_preprocessing(config: MasaConfig, values: Mapping[str, Any]) -> dict[str, str]:
    for key, name in (("mean", "mean"), ("std", "std"), ("pad_size_divisor", "size_divisor")):
        if values.get(key) is not None:
            config.sizes[name] = tuple(values[key]) if isinstance(values[key], Sequence) else int(values[key])
    return {"model.data_preprocessor.bgr_to_rgb": ""} if values.get("bgr_to_rgb") is False else {}


def _read_pipeline(config: MasaConfig, content: Mapping[str, Any]) -> dict[str, str]:
    """The size that pictures are fitted into: (long side, short side), whichever comes first there."""
    tested = (content.get("test_dataloader") or {}).get("dataset") or {}
    steps = content.get("inference_pipeline") or tested.get("pipeline") or content.get("test_pipeline") or ()
    left_out: dict[str, str] = {}
    for step in (one for outer in steps for one in outer.get("transforms", [outer])):
        kind = str(step.get("type")).rpartition(".")[2]
        if kind == "Resize" and step.get("scale") is not None and step.get("keep_ratio"):
            config.sizes |= {"long_side": max(step["scale"]), "short_side": min(step["scale"])}
        elif not kind.startswith(("Load", "Pack")):
            left_out[f"{kind} of the pipeline"] = ""
    return left_out


def _read_test_cfg(config: MasaConfig, values: Mapping[str, Any]) -> dict[str, str]:
    """Thresholds of the model's own detection head."""
    rcnn, rpn = values.get("rcnn") or {}, values.get("rpn") or {}
    nms, rpn_nms = rcnn.get("nms") or {}, rpn.get("nms") or {}
    for table, names in (
        (config.head, {"score_threshold": rcnn.get("score_thr"), "max_detections": rcnn.get("max_per_img")}),
        (config.head, {"iou_threshold": nms.get("iou_threshold")}),
        (config.proposals, {"per_level": rpn.get("nms_pre"), "max_proposals": rpn.get("max_per_img")}),
        (config.proposals, {"iou_threshold": rpn_nms.get("iou_threshold")}),
    ):
        table.update({name: value for name, value in names.items() if value is not None})
    kinds = {"rcnn": nms, "rpn": rpn_nms}
    left_out = [f"model.test_cfg.{part}.nms.type" for part, one in kinds.items() if one.get("type", "nms") != "nms"]
    if rpn.get("min_bbox_size"):
        left_out.append("model.test_cfg.rpn.min_bbox_size")
    return dict.fromkeys(left_out, "")
