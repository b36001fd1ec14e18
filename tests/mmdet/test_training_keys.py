"""The authors' training configuration: nothing in it is ignored without a word."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mmdet.registry import DATASETS
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from training_data import write_photographs

from masa_track.errors import InputError
from masa_track.integrations.mmdet.training import as_ours

EXTRACTOR = {
    "type": "SingleRoIExtractor",
    "roi_layer": {"type": "RoIAlign", "output_size": 7, "sampling_ratio": 0},
    "out_channels": 256,
    "featmap_strides": [8, 16, 32],
}


def coder(*stds: float) -> dict[str, Any]:
    return {"type": "DeltaXYWHBBoxCoder", "target_means": [0.0] * 4, "target_stds": list(stds)}


def assigner(positive: float, negative: float, least: float, low: bool) -> dict[str, Any]:
    numbers = {"pos_iou_thr": positive, "neg_iou_thr": negative, "min_pos_iou": least, "match_low_quality": low}
    return {"type": "MaxIoUAssigner", **numbers, "ignore_iof_thr": -1}


def sampler(count: int, share: float, truth: bool) -> dict[str, Any]:
    numbers = {"num": count, "pos_fraction": share, "neg_pos_ub": -1, "add_gt_as_proposals": truth}
    return {"type": "RandomSampler", **numbers}


def published() -> dict[str, Any]:
    """The values of the authors' training of Grounding DINO's adapter, on two sets of photographs."""
    scale = (1024, 1024)
    inner = {
        "type": "MASADataset",
        "ann_file": "boxes.json",
        "data_prefix": {"img": "data/sam/batch0/"},
        "serialize_data": True,
        "pipeline": [{"type": "LoadImageFromFile"}, {"type": "LoadMatchAnnotations"}],
    }
    transforms = [
        {"type": "SeqRandomAffine"},
        {
            "type": "SeqMixUp",
            "img_scale": scale,
            "ratio_range": (0.8, 1.6),
            "pad_val": 114.0,
            "bbox_clip_border": False,
        },
        {"type": "YOLOXHSVRandomAug"},
        {
            "type": "RandomResize",
            "scale": scale,
            "ratio_range": (0.1, 2.0),
            "keep_ratio": True,
            "clip_object_border": False,
        },
        {"type": "RandomCrop", "crop_size": scale, "bbox_clip_border": False},
        {"type": "RandomFlip", "prob": 0.5},
        {"type": "Pad", "size": scale, "pad_val": 114},
        {"type": "FilterMatchAnnotations", "min_gt_bbox_wh": (1, 1), "keep_empty": False},
    ]
    pipeline = [
        {"type": "MixUniformRefFrameSample", "num_ref_imgs": 1, "frame_range": 0, "filter_key_img": False},
        {"type": "MasaTransformBroadcaster", "share_random_params": False, "transforms": transforms},
        {"type": "PackMatchInputs"},
    ]
    loss = {"type": "CrossEntropyLoss", "use_sigmoid": True, "loss_weight": 1.0}
    model = {
        "type": "MASA",
        "freeze_detector": True,
        "unified_backbone": True,
        "load_public_dets": True,
        "benchmark": "tao",
        "public_det_path": "results/public_dets",
        "data_preprocessor": {
            "type": "TrackDataPreprocessor",
            "mean": [123.675, 116.28, 103.53],
            "std": [58.395, 57.12, 57.375],
            "bgr_to_rgb": True,
            "pad_mask": False,
            "pad_size_divisor": 1024,
        },
        "detector": {"type": "DeticMasa", "backbone": {"type": "ResNet", "depth": 18}},
        "masa_adapter": [{"type": "DeformFusion"}],
        "rpn_head": {
            "type": "RPNHead",
            "in_channels": 256,
            "feat_channels": 256,
            "anchor_generator": {
                "type": "AnchorGenerator",
                "scales": [8],
                "ratios": [0.5, 1.0, 2.0],
                "strides": [8, 16, 32, 64, 128],
            },
            "bbox_coder": coder(1.0, 1.0, 1.0, 1.0),
            "loss_cls": loss,
            "loss_bbox": {"type": "SmoothL1Loss", "beta": 1.0 / 9.0, "loss_weight": 1.0},
        },
        "roi_head": {
            "type": "StandardRoIHead",
            "bbox_roi_extractor": EXTRACTOR,
            "bbox_head": {
                "type": "Shared2FCBBoxHead",
                "in_channels": 256,
                "fc_out_channels": 1024,
                "roi_feat_size": 7,
                "num_classes": 1,
                "bbox_coder": coder(0.1, 0.1, 0.2, 0.2),
                "reg_class_agnostic": True,
                "loss_cls": {**loss, "use_sigmoid": False},
                "loss_bbox": {"type": "L1Loss", "loss_weight": 1.0},
            },
        },
        "train_cfg": {
            "rpn": {
                "assigner": assigner(0.7, 0.3, 0.3, True),
                "sampler": sampler(256, 0.5, False),
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
                "assigner": assigner(0.5, 0.5, 0.5, False),
                "sampler": sampler(512, 0.25, True),
                "pos_weight": -1,
                "debug": False,
            },
        },
        "test_cfg": {
            "rpn": {
                "nms_pre": 1000,
                "max_per_img": 1000,
                "nms": {"type": "nms", "iou_threshold": 0.7},
                "min_bbox_size": 0,
            },
            "rcnn": {
                "score_thr": 0.02,
                "nms": {"type": "nms", "iou_threshold": 0.5, "class_agnostic": True, "split_thr": 100000},
                "max_per_img": 50,
                "mask_thr_binary": 0.5,
            },
        },
        "track_head": {
            "type": "MasaTrackHead",
            "roi_extractor": EXTRACTOR,
            "embed_head": {
                "type": "QuasiDenseEmbedHead",
                "num_convs": 4,
                "num_fcs": 1,
                "embed_channels": 256,
                "norm_cfg": {"type": "GN", "num_groups": 32},
                "loss_track": {"type": "UnbiasedContrastLoss", "loss_weight": 0.25},
                "loss_track_aux": {
                    "type": "MarginL2Loss",
                    "neg_pos_ub": 3,
                    "pos_margin": 0,
                    "neg_margin": 0.1,
                    "hard_mining": True,
                    "loss_weight": 1.0,
                },
            },
            "train_cfg": {
                "assigner": assigner(0.7, 0.3, 0.5, False),
                "sampler": {
                    "type": "CombinedSampler",
                    "num": 512,
                    "pos_fraction": 0.5,
                    "neg_pos_ub": 3,
                    "add_gt_as_proposals": True,
                    "pos_sampler": {"type": "InstanceBalancedPosSampler"},
                    "neg_sampler": {"type": "RandomSampler"},
                },
            },
        },
    }
    backends = [{"type": "LocalVisBackend"}]
    return {
        "default_scope": "mmdet",
        "dataset_type": "MASADataset",
        "img_scale": scale,
        "train_pipeline": pipeline,
        "model": model,
        "train_dataloader": {
            "batch_size": 8,
            "sampler": {"type": "DefaultSampler"},
            "dataset": {
                "type": "SeqMultiImageMixDataset",
                "dataset": {
                    "type": "RandomSampleConcatDataset",
                    "sampling_probs": [0.5, 0.5],
                    "fixed_length": 200000,
                    "datasets": [inner, {**inner, "data_prefix": {"img": "data/sam/batch1/"}}],
                },
                "pipeline": pipeline,
            },
        },
        "train_cfg": {"type": "EpochBasedTrainLoop", "max_epochs": 12, "val_interval": 4},
        "optim_wrapper": {"type": "OptimWrapper", "optimizer": {"type": "SGD", "lr": 0.08}},
        "param_scheduler": [],
        "auto_scale_lr": {"enable": False, "base_batch_size": 16},
        "default_hooks": {
            "timer": {"type": "IterTimerHook"},
            "logger": {"type": "LoggerHook", "interval": 50},
            "visualization": {"type": "TrackVisualizationHook", "draw": False},
            "checkpoint": {"type": "CheckpointHook", "interval": 1},
        },
        "custom_hooks": [{"type": "SyncBuffersHook"}],
        "env_cfg": {"cudnn_benchmark": False},
        "vis_backends": backends,
        "visualizer": {"type": "MasaTrackLocalVisualizer", "vis_backends": backends, "name": "visualizer"},
        "log_processor": {"type": "LogProcessor", "window_size": 50, "by_epoch": True},
        "log_level": "INFO",
        "load_from": None,
        "resume": False,
    }


def converted(config: dict[str, Any]) -> Config:
    return as_ours(Config(copy.deepcopy(config)))


def test_the_published_configuration_is_taken_without_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        config = converted(published())
    assert not caplog.records
    data = config.train_dataloader.dataset
    assert data.type == "JoinedViews"
    assert data.sampling_probs == [0.5, 0.5]
    assert data.fixed_length == 200000
    assert [one.images for one in data.datasets] == ["data/sam/batch0", "data/sam/batch1"]
    assert config.train_cfg == {"type": "ResumableLoop", "max_epochs": 12, "val_interval": 4}
    assert config.visualizer.vis_backends == [{"type": "LocalVisBackend"}]
    assert config.sync_bn == "torch"


BUILT = {"detector", "masa_adapter"}  # by mmdet, which raises an error for an unknown key
MMENGINES = {"optim_wrapper", "auto_scale_lr", "env_cfg", "log_processor", "visualizer", "train_dataloader"}


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where a configuration has dicts that are read here."""
    if isinstance(value, dict):
        if path not in ((name,) for name in MMENGINES):
            yield path
        for key, inner in value.items():
            variable = not path and key in ("train_pipeline", "vis_backends")
            if not variable and key not in BUILT | MMENGINES - {"train_dataloader"} and path[:1] != ("default_hooks",):
                yield from places(inner, (*path, key))
    elif isinstance(value, list) and path[0] != "custom_hooks":
        for index, inner in enumerate(value):
            yield from places(inner, (*path, index))


def test_an_unknown_key_anywhere_is_named(caplog: pytest.LogCaptureFixture) -> None:
    found = [path for path in places(published()) if path[-1:] not in (("data_prefix",), ("norm_cfg",))]
    assert len(found) > 60
    assert ("model", "train_cfg", "rpn", "assigner") in found
    for path in found:
        config = copy.deepcopy(published())
        place: Any = config
        for key in path:
            place = place[key]
        place["unheard_of"] = {"type": "X"}
        caplog.clear()
        refused = ""
        try:
            converted(config)
        except InputError as error:
            refused = str(error)
        said = [refused] if refused else [record.getMessage() for record in caplog.records]
        assert len(said) == 1, path
        assert "unheard_of" in said[0], path


def test_other_values_are_named_in_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    config = published()
    config["model"]["rpn_head"]["loss_bbox"] = {"type": "L1Loss", "loss_weight": 2.0}
    config["model"]["train_cfg"]["rcnn"]["sampler"]["num"] = 256
    config["train_dataloader"]["dataset"]["pipeline"][1]["transforms"][5]["prob"] = 0.9
    config["train_dataloader"]["sampler"]["shuffle"] = False
    config["default_hooks"]["visualization"]["draw"] = True
    config["data_root"] = "data/sam"
    converted(config)
    (record,) = caplog.records
    assert record.getMessage().removeprefix("without effect in training: ").split(", ") == [
        "data_root",
        "model.rpn_head.loss_bbox.type",
        "model.rpn_head.loss_bbox.loss_weight",
        "model.train_cfg.rcnn.sampler.num",
        "train_dataloader.dataset.pipeline.RandomFlip.prob",
        "train_dataloader.sampler.shuffle",
        "default_hooks.visualization",
    ]


DATA = "train_dataloader.dataset"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (f"{DATA}.dataset.datasets[0].type", "Taov1Dataset", r"datasets\[0\].type: Taov1Dataset holds videos"),
        (f"{DATA}.dataset.video_sampling_probs", [1.0], "video_sampling_probs must be left out: training is on photo"),
        (f"{DATA}.type", "SeqRandomMultiImageVideoMixDataset", "video_sample_ratio must be 0: training is on photo"),
        (f"{DATA}.dataset.datasets[1].anno_hdf5_path", "a.hdf5", "anno_hdf5_path holds pickles"),
        (
            f"{DATA}.dataset.datasets[1].backend_args",
            {"backend": "HDF5Backend"},
            r"datasets\[1\].backend_args: backend 'HDF5Backend' is not supported, images are read as files",
        ),
        (
            f"{DATA}.dataset.datasets[1].pipeline[0].file_client_args",
            {"backend": "hdf5", "img_db_path": "a.hdf5"},
            r"LoadImageFromFile.file_client_args: backend 'hdf5' is not supported",
        ),
        (f"{DATA}.pipeline[1].transforms[0].type", "SeqMosaic", "SeqMosaic is not in the authors' published pipeline"),
        (f"{DATA}.dataset.type", "ConcatDataset", "unknown train_dataloader.dataset.dataset.type 'ConcatDataset'"),
        ("train_cfg.type", "IterBasedTrainLoop", "train_cfg.type must be one of EpochBasedTrainLoop"),
    ],
)
def test_what_cannot_be_done_is_refused(key: str, value: Any, message: str) -> None:
    config = published()
    place: Any = config
    *path, last = key.replace("[", ".").replace("]", "").split(".")
    for name in path:
        place = place[int(name) if name.isdigit() else name]
    place[last] = value
    with pytest.raises(InputError, match=message):
        converted(config)


def test_copy_paste_is_part_of_the_settings() -> None:
    config = published()
    config["train_dataloader"]["dataset"]["pipeline"][1]["transforms"].insert(7, {"type": "SeqCopyPaste"})
    data = converted(config).train_dataloader.dataset
    assert {one.settings for one in data.datasets} == {"strong"}


def test_two_data_sets_for_mmdets_own_runner(tmp_path: Path) -> None:
    """Of different sizes, so that each item shows which it is of."""
    init_default_scope("mmdet")
    photographs = str(write_photographs(tmp_path, 2))
    one = {"type": "MASADataset", "ann_file": "regions.json", "data_root": photographs, "settings": "mild"}
    joined = {
        "type": "RandomSampleJointVideoConcatDataset",
        "datasets": [{**one, "size": (64, 64)}, {**one, "size": (96, 96)}],
        "img_sampling_probs": [0.75, 0.25],
        "fixed_length": 200,
    }
    data = DATASETS.build(ConfigDict(joined))
    assert len(data) == 200
    drawn = [data.views.draw(index)[0] for index in range(200)]
    assert drawn.count(0) == pytest.approx(150, abs=25)
    for index in (drawn.index(0), drawn.index(1)):
        side = (64, 96)[drawn[index]]
        assert data[index]["inputs"].shape == (2, 3, side, side)
