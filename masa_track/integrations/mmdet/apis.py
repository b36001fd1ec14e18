"""The functions of the authors' ``masa.apis`` by their names, for notebooks and scripts that were written for them.

Only the import line changes: ``from masa_track.integrations.mmdet.apis import init_masa, inference_masa``.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmcv.transforms import Compose
from mmdet.apis import inference_detector as mmdet_inference
from mmdet.evaluation import get_classes
from mmdet.registry import MODELS
from mmdet.structures import TrackDataSample
from mmengine.config import Config
from mmengine.dataset import default_collate
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.registry import init_default_scope

from masa_track.errors import InputError
from masa_track.integrations.mmdet.boxes import given_boxes
from masa_track.integrations.mmdet.masa import MASA
from masa_track.integrations.mmdet.testing import check_weights, load_weights

__all__ = ["build_test_pipeline", "inference_detector", "inference_masa", "init_masa"]


def init_masa(
    config: str | Path | Config,
    checkpoint: str | None = None,
    palette: str = "none",
    device: str | None = None,
    cfg_options: Mapping[str, Any] | None = None,
) -> MASA:
    """Builds the model of a configuration, with its weights, in evaluation mode.

    Args:
        config: a file (it is Python and is run: use only those that you trust) or a configuration; it is not changed.
        checkpoint: an official .pth, one of mmengine's, or a .safetensors of this library; nothing in it is run. None:
            the weights that the configuration names, or that its network is shipped with.
        palette: kept in ``dataset_meta``; "none" is "random".
        device: e.g. ``cuda:0``; None: a GPU if there is one.
        cfg_options: changes of the configuration, by ``model.tracker.init_score_thr`` and the like.

    Returns:
        The model, with ``cfg`` (the configuration) and ``dataset_meta`` (``classes``: ``model.class_names`` of the
        configuration, else those of COCO; ``palette``).

    Raises:
        InputError: there is no such file or device, or the weights are missing or of another model.
    """
    if isinstance(config, str | Path):
        if not Path(config).is_file():
            raise InputError(f"config must be a file or a Config, but there is no {config}")
        config = Config.fromfile(str(config))
    config = copy.deepcopy(config)
    config.merge_from_dict(dict(cfg_options or {}))
    if str(config.get("model", {}).get("type")).rpartition(".")[2] != "MASA":
        raise InputError(f"model.type of config must be MASA, got {config.get('model', {}).get('type')!r}")
    device = device or ("cuda:0" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(f"device {device!r}: torch sees no GPU; take device='cpu'")
    check_weights(config.model, checkpoint)
    own_format = checkpoint is not None and Path(checkpoint).suffix == ".safetensors"
    if own_format:
        config.model.checkpoint = checkpoint
    init_default_scope(config.get("default_scope", "mmdet"))
    model: MASA = MODELS.build(config.model)
    if hasattr(model, "detector"):
        model.detector = revert_sync_batchnorm(model.detector)
    if checkpoint is not None and not own_format:
        load_weights(model, checkpoint)
    model.cfg = config
    classes = config.model.get("class_names") or get_classes("coco")
    model.dataset_meta = {"classes": list(classes), "palette": "random" if palette == "none" else palette}
    return model.to(device).eval()


def build_test_pipeline(cfg: Config, with_text: bool = False, detector_type: str = "mmdet") -> Compose:
    """The pipeline of a configuration for pictures in memory: its resizing and packing, without labels.

    Pictures are resized as float32, as the authors' function does, unless the pipeline reads them from files as uint8.

    Args:
        cfg: with ``inference_pipeline``, ``test_pipeline`` or ``test_dataloader.dataset.pipeline``.
        with_text: the same in either case: a text is passed on where :func:`inference_masa` is given one.
        detector_type: ``mmdet``; another is refused.
    """
    if detector_type != "mmdet":
        raise InputError(
            f"detector_type must be 'mmdet', got {detector_type!r}: give another detector's boxes to inference_masa as "
            "det_bboxes and det_labels"
        )
    steps = cfg.get("inference_pipeline") or cfg.get("test_pipeline")
    if steps is None and cfg.get("test_dataloader") is not None:
        steps = cfg.test_dataloader.dataset.get("pipeline")
    if not steps or "transforms" not in steps[0]:
        raise InputError(
            "cfg must have an inference_pipeline (or test_pipeline) that begins with a TransformBroadcaster"
        )
    first, last = copy.deepcopy(steps[0]), copy.deepcopy(steps[-1])
    names = [str(step["type"]).rpartition(".")[2] for step in first["transforms"]]
    reads = [s for s, name in zip(first["transforms"], names, strict=True) if name == "LoadImageFromFile"]
    to_float32 = reads[0].get("to_float32", False) if reads else True
    kept_steps = [s for s, name in zip(first["transforms"], names, strict=True) if not name.startswith("Load")]
    first["transforms"] = [{"type": "mmdet.LoadImageFromNDArray", "to_float32": to_float32}, *kept_steps]
    kept = last.get("meta_keys") or ()
    kept = (kept,) if isinstance(kept, str) else tuple(kept)
    last["meta_keys"] = tuple(dict.fromkeys((*kept, "text", "custom_entities", "fps")))
    init_default_scope(cfg.get("default_scope", "mmdet"))
    return Compose([first, last])


def inference_masa(
    model: MASA,
    img: np.ndarray,
    frame_id: int,
    video_len: int,
    test_pipeline: Compose | None = None,
    text_prompt: str | None = None,
    custom_entities: bool = False,
    det_bboxes: Any = None,
    det_labels: Any = None,
    fp16: bool = False,
    detector_type: str = "mmdet",
    show_fps: bool = False,
    fps: float | None = None,
) -> TrackDataSample | tuple[TrackDataSample, float]:
    """Tracks the next frame of a video.

    Args:
        model: of :func:`init_masa`.
        img: (H, W, 3) uint8 BGR.
        frame_id: its number; 0 begins a new video.
        video_len: number of frames; the tracker does not need it.
        test_pipeline: of :func:`build_test_pipeline`; None builds it, for each frame anew.
        text_prompt: for a detector in the model that takes a text, e.g. ``a dog. a cat``.
        custom_entities: passed on; each entry between full stops is taken as a class in either case.
        det_bboxes: (N, 4) xyxy pixels or with scores (N, 5), for a model with ``given_dets=True``.
        det_labels: (N,).
        fp16: half precision, on a GPU.
        detector_type: as of :func:`build_test_pipeline`.
        show_fps: also returns the frames per second of this frame, without reading and drawing.
        fps: of the video, for the preset ``default``, which counts in seconds.

    Returns:
        Its ``[0].pred_track_instances`` has ``bboxes`` (N, 4), ``scores``, ``labels`` and ``instances_id`` (N,).

    Raises:
        InputError: a picture or boxes of another form, or boxes for a model that finds its own.
    """
    if not isinstance(img, np.ndarray) or img.ndim != 3 or img.shape[2] != 3 or img.dtype != np.uint8:
        form = f"{img.dtype} {img.shape}" if isinstance(img, np.ndarray) else type(img).__name__
        raise InputError(f"img must be a uint8 array (H, W, 3) in BGR, got {form}")
    if (det_bboxes is None) != (det_labels is None):
        raise InputError("det_bboxes and det_labels go together: give both or none")
    if det_bboxes is not None and model._boxes is not given_boxes:
        raise InputError("det_bboxes is for a model with given_dets=True; this one finds its boxes itself")
    data: dict[str, Any] = {
        "img": [img],
        "frame_id": [frame_id],
        "ori_shape": [img.shape[:2]],
        "img_id": [frame_id + 1],
        "ori_video_length": [video_len],
    }
    if text_prompt is not None:
        data |= {"text": [text_prompt], "custom_entities": [custom_entities]}
    if fps is not None:
        data["fps"] = [fps]
    pipeline = test_pipeline or build_test_pipeline(model.cfg, detector_type=detector_type)
    batch = default_collate([pipeline(data)])
    if det_bboxes is not None:
        frame = batch["data_samples"][0].video_data_samples[0]
        frame.det_bboxes, frame.det_labels = det_bboxes, det_labels
    start = time.perf_counter()
    with torch.no_grad(), half_precision(model, fp16):
        result = model.test_step(batch)[0]  # its boxes are moved to the CPU, so the GPU is waited for
    return (result, 1 / (time.perf_counter() - start)) if show_fps else result


def inference_detector(
    model: torch.nn.Module,
    imgs: str | np.ndarray | Sequence[str] | Sequence[np.ndarray],
    test_pipeline: Compose | None = None,
    text_prompt: str | None = None,
    custom_entities: bool = False,
    fp16: bool = False,
) -> Any:
    """mmdet's function of this name, with ``fp16`` (half precision, on a GPU)."""
    with half_precision(model, fp16):
        return mmdet_inference(model, imgs, test_pipeline, text_prompt, custom_entities)


def half_precision(model: torch.nn.Module, wanted: bool) -> torch.autocast:
    """A context in which a model on a GPU computes in half precision, if wanted."""
    device = next(model.parameters()).device.type
    if wanted and device == "cpu":
        raise InputError("fp16=True needs a GPU: leave it out on a CPU")
    return torch.autocast(device, enabled=wanted)
