"""Keys of the authors' training configurations that training here does not read: found, so that they can be named.

Where training here does one thing only, a key is named if its value asks for another.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.runner import Runner

ANY = object()  # read, or checked where the model is built

_CODER = {"type": "DeltaXYWHBBoxCoder", "target_means": [0, 0, 0, 0]}
_ROI_LAYER = {"type": "RoIAlign", "output_size": 7, "sampling_ratio": 0}
_EXTRACTOR = {"type": "SingleRoIExtractor", "roi_layer": _ROI_LAYER, "out_channels": ANY, "featmap_strides": ANY}
_SOFTMAX = {"type": "CrossEntropyLoss", "use_sigmoid": False, "loss_weight": 1}


def _assigner(positive: float, negative: float, least: float, low_quality: bool) -> dict[str, Any]:
    return {
        "type": "MaxIoUAssigner",
        "pos_iou_thr": positive,
        "neg_iou_thr": negative,
        "min_pos_iou": least,
        "match_low_quality": low_quality,
        "ignore_iof_thr": -1,
    }


def _sampler(number: int, share: float, truth: bool) -> dict[str, Any]:
    return {
        "type": "RandomSampler",
        "num": number,
        "pos_fraction": share,
        "neg_pos_ub": -1,
        "add_gt_as_proposals": truth,
    }


MODEL = {
    "rpn_head": {
        "type": ANY,
        "in_channels": ANY,
        "feat_channels": ANY,
        "num_classes": 1,
        "anchor_generator": {"type": "AnchorGenerator", "scales": ANY, "ratios": ANY, "strides": ANY},
        "bbox_coder": {**_CODER, "target_stds": [1, 1, 1, 1]},
        "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": True, "loss_weight": 1},
        "loss_bbox": {"type": "SmoothL1Loss", "beta": 1 / 9, "loss_weight": 1},
    },
    "roi_head": {
        "type": ANY,
        "bbox_roi_extractor": _EXTRACTOR,
        "bbox_head": {
            "type": ANY,
            "in_channels": 256,
            "conv_out_channels": 256,
            "fc_out_channels": ANY,
            "roi_feat_size": 7,
            "num_classes": ANY,
            "reg_class_agnostic": ANY,
            "norm_cfg": {"type": "SyncBN", "requires_grad": True},
            "bbox_coder": {**_CODER, "target_stds": [0.1, 0.1, 0.2, 0.2]},
            "loss_cls": _SOFTMAX,
            "loss_bbox": {"type": "L1Loss", "loss_weight": 1},
        },
    },
    "track_head": {
        "type": ANY,
        "roi_extractor": _EXTRACTOR,
        "embed_head": {
            "type": "QuasiDenseEmbedHead",
            "num_convs": ANY,
            "num_fcs": ANY,
            "in_channels": 256,
            "conv_out_channels": 256,
            "fc_out_channels": ANY,
            "embed_channels": ANY,
            "norm_cfg": ANY,
            "loss_track": {"type": "UnbiasedContrastLoss", "loss_weight": ANY},
            "loss_track_aux": {
                "type": "MarginL2Loss",
                "neg_pos_ub": 3,
                "pos_margin": 0,
                "neg_margin": 0.1,
                "hard_mining": True,
                "loss_weight": ANY,
            },
        },
        "train_cfg": {
            "assigner": _assigner(0.7, 0.3, 0.5, False),
            "sampler": {
                "type": "CombinedSampler",
                "num": ANY,
                "pos_fraction": 0.5,
                "neg_pos_ub": 3,
                "add_gt_as_proposals": True,
                "pos_sampler": {"type": "InstanceBalancedPosSampler"},
                "neg_sampler": {"type": "RandomSampler"},
            },
        },
    },
    "train_cfg": {
        "rpn": {
            "assigner": _assigner(0.7, 0.3, 0.3, True),
            "sampler": _sampler(256, 0.5, False),
            "allowed_border": -1,
            "pos_weight": -1,
            "debug": False,
        },
        "rpn_proposal": {
            "nms_pre": 2000,
            "max_per_img": 1000,
            "nms": {"type": "nms", "iou_threshold": 0.7},
            "min_bbox_size": 0,
        },
        "rcnn": {
            "assigner": _assigner(0.5, 0.5, 0.5, False),
            "sampler": _sampler(512, 0.25, True),
            "pos_weight": -1,
            "debug": False,
        },
    },
    "test_cfg": {
        "rpn": {
            "nms_pre": ANY,
            "max_per_img": ANY,
            "nms": {"type": "nms", "iou_threshold": 0.7},
            "min_bbox_size": 0,
        },
        "rcnn": {
            "score_thr": ANY,
            "nms": {"type": ANY, "iou_threshold": ANY, "class_agnostic": True, "split_thr": ANY},
            "max_per_img": ANY,
            "mask_thr_binary": ANY,
        },
    },
    "data_preprocessor": {
        "type": "TrackDataPreprocessor",
        "mean": ANY,
        "std": ANY,
        "bgr_to_rgb": True,
        "rgb_to_bgr": False,
        "pad_size_divisor": ANY,
        "pad_value": 0,
        "pad_mask": ANY,
        "mask_pad_value": ANY,
    },
    "init_cfg": None,
}

_SCALE = (1024, 1024)
STEPS: dict[str, dict[str, Any]] = {  # of the published pipeline, which settings="strong" is built after
    "LoadImageFromFile": {"backend_args": ANY, "file_client_args": ANY},
    "LoadMatchAnnotations": {"with_bbox": True, "with_label": True, "with_mask": ANY},
    "MixUniformRefFrameSample": {"num_ref_imgs": 1, "frame_range": 0, "filter_key_img": False},
    "SeqRandomAffine": {},
    "SeqMixUp": {"img_scale": _SCALE, "ratio_range": (0.8, 1.6), "pad_val": 114, "bbox_clip_border": False},
    "YOLOXHSVRandomAug": {},
    "RandomResize": {"scale": _SCALE, "ratio_range": (0.1, 2), "keep_ratio": True, "clip_object_border": False},
    "RandomCrop": {"crop_size": _SCALE, "bbox_clip_border": False},
    "RandomFlip": {"prob": 0.5},
    "Pad": {"size": _SCALE, "pad_val": 114},
    "SeqCopyPaste": {},
    "FilterMatchAnnotations": {"min_gt_bbox_wh": (1, 1), "keep_empty": False},
    "PackMatchInputs": {},
}

# Of the first level of a configuration: what mmengine's runner takes, or reads from the whole.
READ = {
    *inspect.signature(Runner.__init__).parameters,
    *("custom_imports", "sync_bn", "model_wrapper_cfg", "find_unused_parameters", "compile"),
} - {"self", "cfg", "data_preprocessor"}


def unlike(given: Any, known: Any, place: str) -> list[str]:
    """The keys whose values are not read and differ from what is done, dotted and below ``place``.

    Args:
        given: of a configuration.
        known: what is done, of the same form; ``ANY`` for what is read.
        place: of ``given`` in the configuration.
    """
    if known is ANY or given is None:
        return []
    if isinstance(given, Mapping) and isinstance(known, Mapping):
        return [
            found
            for key, value in given.items()
            if key != "_delete_"
            for found in (unlike(value, known[key], f"{place}.{key}") if key in known else [f"{place}.{key}"])
        ]
    return [] if _plain(given) == _plain(known) else [place]


def unread_variables(config: Mapping[str, Any]) -> list[str]:
    """The keys of the first level that nothing reads; variables that other keys were made of are left out."""
    used: list[Any] = []

    def walk(value: Any) -> None:
        used.append(_plain(value))
        for inner in value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ():
            walk(inner)

    for key in READ & set(config):
        walk(config[key])
    others = [key for key in config if key not in READ and config[key] is not None]
    return [key for key in others if _plain(config[key]) not in used]


def _plain(value: Any) -> Any:
    """The same with plain dicts and lists, to be compared."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(inner) for inner in value]
    return value
