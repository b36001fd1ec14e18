"""Validation during a training by tools/train.py: videos are tracked with the network as it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict
from mmengine.registry import LOOPS, DefaultScope
from mmengine.runner import ValLoop, autocast

from masa_track.errors import InputError, unknown_name
from masa_track.integrations.mmdet.testing import one_evaluator, prepare_videos
from masa_track.training.hooks import training_model

KEYS = ("val_dataloader", "val_evaluator", "val_cfg")
WITHOUT = "--cfg-options val_cfg=None"
LOOP_KEYS = ("type", "fp16")


def set_validation(config: Config, model: Mapping[str, Any], unused: list[str]) -> None:
    """Makes a training's configuration validate by :class:`MasaValLoop`, or not at all if one of its keys is None.

    Args:
        config: it is changed.
        model: of the type ``MASA``.
        unused: keys that are not read are added to it.

    Raises:
        InputError: validation is asked for, and cannot be.
    """
    missing = [name for name in KEYS if config.get(name) is None]
    if missing:
        unused += [f"{name} (there is no {missing[0]})" for name in KEYS if name not in missing]
        for name in KEYS:
            config[name] = None
        return
    loop = config.val_cfg
    for name in loop:
        if name not in LOOP_KEYS:
            raise unknown_name("key of val_cfg", name, LOOP_KEYS)
    kind = str(loop.get("type", "ValLoop")).rpartition(".")[2]
    if kind != "ValLoop":
        raise InputError(f"val_cfg.type must be ValLoop, got {kind!r}")
    if model.get("given_dets") and model.get("public_det_path") is None:
        raise InputError(
            "model.given_dets=True: validation needs boxes; give them by model.public_det_path, take those of the "
            f"model's own head or detector by model.given_dets=False, or train without validation: {WITHOUT}"
        )
    evaluator = one_evaluator(config, "val_evaluator")
    folder = str(evaluator.get("outfile_prefix"))
    if evaluator.pop("outfile_prefix", None) is not None:
        unused.append(f"val_evaluator.outfile_prefix={folder!r} (results are in the work folder's validation)")
    config.val_cfg = ConfigDict(type="MasaValLoop", model=dict(model), fp16=bool(loop.get("fp16")))


@LOOPS.register_module()
class MasaValLoop(ValLoop):
    """Tracks and scores videos by a ``MASA`` that shares the weights in training.

    Args:
        runner: of the training.
        dataloader, evaluator: as of tools/test_mot.py; result files are in the work folder's ``validation``.
        model: of the type ``MASA``: its boxes, tracker and test settings are used.
        fp16: computes in half precision where that is possible.

    Raises:
        InputError: videos, boxes or a detector's weights are missing.
    """

    def __init__(
        self, runner: Any, dataloader: Any, evaluator: Any, model: Mapping[str, Any], fp16: bool = False
    ) -> None:
        try:
            prepare_videos(dataloader, evaluator, Path(runner.work_dir) / "validation")
            with DefaultScope.overwrite_default_scope("mmdet"):
                super().__init__(runner, dataloader, evaluator, fp16)
                self.masa: Any = MODELS.build(self._with_boxes(model))
            if self.masa.detector_is_used and not self.masa.detector_is_filled:
                raise InputError("the detector finds the boxes: give its weights by model.detector_checkpoint")
        except InputError as error:
            raise InputError(
                f"validation during training (val_dataloader, val_evaluator): {error}; to train without it: {WITHOUT}"
            ) from error
        network = training_model(runner).network
        self.masa.to(next(network.parameters()).device)

    def _with_boxes(self, model: Mapping[str, Any]) -> dict[str, Any]:
        """The model's configuration with what its boxes need."""
        model = dict(model)
        detector = model.get("detector")
        public = model.get("public_det_path") is not None
        if model.get("class_names") is None:
            model["class_names"] = list(self.dataloader.dataset.metainfo.get("classes") or ())
        if isinstance(detector, Mapping) and model.get("detector_checkpoint") is None and not public:
            model["detector_checkpoint"] = (detector.get("init_cfg") or {}).get("checkpoint")
        return model

    def run(self) -> dict[str, float]:
        """The scores of all videos, by name."""
        network = training_model(self.runner).network
        state = {network.masa_keys[key]: tensor for key, tensor in network.state_dict().items()}
        self.masa.load_state_dict(state, strict=False, assign=True)  # the same memory, nothing is copied
        self.masa.eval()
        with DefaultScope.overwrite_default_scope("mmdet"):
            scores: dict[str, float] = super().run()
        return scores

    def run_iter(self, idx: int, data_batch: Any) -> None:
        """Tracks the next frame."""
        self.runner.call_hook("before_val_iter", batch_idx=idx, data_batch=data_batch)
        with torch.no_grad(), autocast(enabled=self.fp16):
            outputs = self.masa.val_step(data_batch)
        self.evaluator.process(data_samples=outputs, data_batch=data_batch)
        self.runner.call_hook("after_val_iter", batch_idx=idx, data_batch=data_batch, outputs=outputs)
