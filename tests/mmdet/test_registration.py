"""Names and keys: all are registered, every configuration is built, the authors' own are taken."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import mmdet.registry as registries
import pytest
import torch
from grounding import smaller_grounding, tiny_bert
from mmdet.registry import DATASETS, METRICS, MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from mot_clips import ROOT
from official_recipe import official_keys

from masa_track.association import AppearancePrior, options_of
from masa_track.errors import InputError
from masa_track.integrations.mmdet import testing
from masa_track.registry import spec_of

CONFIGS = sorted((ROOT / "configs" / "mmdet").glob("*.py"))
NAMES = {
    "MODELS": [
        "MASA",
        "MasaTaoTracker",
        "MasaBDDTracker",
        "MasaTrackHead",
        "DeformFusion",
        "SimpleFPN",
        "SamMasa",
        "GroundingDINOMasa",
        "DeticMasa",
        "UnbiasedContrastLoss",
    ],
    "DATASETS": ["MASADataset", "Taov1Dataset", "BDDVideoDataset", "CocoVidDataset", "MotFolderDataset"],
    "METRICS": ["TaoTETAMetric", "BDDTETAMetric", "CocoVidMetric", "MotFolderMetric"],
    "VISUALIZERS": ["MasaTrackLocalVisualizer"],
}


@pytest.fixture(autouse=True)
def _scope() -> None:
    init_default_scope("mmdet")


def test_all_names_are_registered_by_the_import_of_a_configuration() -> None:
    code = f"""
from mmengine.config import Config
Config.fromfile({str(CONFIGS[0])!r})
import mmdet.registry as r
names = {NAMES!r}
print([n for kind, ns in names.items() for n in ns if getattr(r, kind).get(n) is None])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip().splitlines()[-1] == "[]", done.stdout + done.stderr
    assert all(getattr(registries, kind).get(name) is not None for kind, names in NAMES.items() for name in names)


@pytest.mark.slow
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_is_built(path: Path, tmp_path: Path) -> None:
    config = Config.fromfile(path)
    for key in ("public_det_path",):
        if config.model.get(key) is not None:
            config.model[key] = str(tmp_path)
    if "grounding" in path.stem:
        tiny_bert(tmp_path / "bert")
        config.model.detector = smaller_grounding(config.model.detector, tmp_path / "bert")
    model = MODELS.build(config.model)
    assert type(model).__name__ == "MASA"
    assert len(list(model.parameters())) > 50
    if "test_dataloader" in config:
        with pytest.raises(InputError, match=r"data_root|ann_file"):  # the data are not here
            DATASETS.build(config.test_dataloader.dataset)
        assert testing.metric_class(config.test_evaluator).__name__ == config.test_evaluator.type
        assert METRICS.get(config.test_evaluator.type) is not None


def test_the_authors_tracker_keys() -> None:
    tao = {
        "init_score_thr": 0.0001,
        "obj_score_thr": 0.0001,
        "match_score_thr": 0.5,
        "memo_tracklet_frames": 10,
        "memo_momentum": 0.8,
        "with_cats": False,
        "max_distance": -1,
        "fps": 1,
    }
    tracker = MODELS.build({"type": "MasaTaoTracker", **tao})
    assert tracker.associator.options == options_of("tao", max_distance=-1)
    bdd = {
        "init_score_thr": 0.5,
        "obj_score_thr": 0.3,
        "match_score_thr": 0.6,
        "memo_tracklet_frames": 10,
        "memo_backdrop_frames": 1,
        "memo_momentum": 0.8,
        "nms_conf_thr": 0.5,
        "nms_backdrop_iou_thr": 0.3,
        "nms_class_iou_thr": 0.7,
        "with_cats": False,
        "match_metric": "bisoftmax",
    }
    tracker = MODELS.build({"type": "MasaBDDTracker", **bdd})
    assert tracker.associator.options == options_of("bdd")
    assert MODELS.build({"type": "MasaBDDTracker", **bdd, "with_cats": True}).associator.options.class_aware
    with pytest.raises(InputError, match="did you mean 'memo_momentum'"):
        MODELS.build({"type": "MasaTaoTracker", "memo_momentun": 0.5})


def official_r50() -> dict[str, Any]:
    """MASA-R50's model as the authors' configurations have it."""
    roi = {"type": "RoIAlign", "output_size": 7, "sampling_ratio": 0}
    extractor = {
        "type": "SingleRoIExtractor",
        "roi_layer": roi,
        "out_channels": 256,
        "featmap_strides": [4, 8, 16, 32],
    }
    sync = {"type": "SyncBN", "requires_grad": True}
    coder = {"type": "DeltaXYWHBBoxCoder", "target_means": [0.0] * 4, "target_stds": [1.0] * 4}
    anchors = {"type": "AnchorGenerator", "scales": [8], "ratios": [0.5, 1.0, 2.0], "strides": [4, 8, 16, 32, 64]}
    nms = {"type": "nms", "iou_threshold": 0.5, "class_agnostic": True, "split_thr": 100000}
    box_head = {
        "type": "Shared4Conv1FCBBoxHead",
        "in_channels": 256,
        "fc_out_channels": 1024,
        "roi_feat_size": 7,
        "num_classes": 1,
        "norm_cfg": sync,
        "bbox_coder": {**coder, "target_stds": [0.1, 0.1, 0.2, 0.2]},
        "reg_class_agnostic": True,
    }
    return {
        "type": "MASA",
        "unified_backbone": False,
        "load_public_dets": False,
        "use_masa_backbone": True,
        "given_dets": True,
        "data_preprocessor": {
            "type": "TrackDataPreprocessor",
            "mean": [123.675, 116.28, 103.53],
            "std": [58.395, 57.12, 57.375],
            "bgr_to_rgb": True,
            "pad_mask": True,
            "pad_size_divisor": 32,
        },
        "backbone": {
            "type": "ResNet",
            "depth": 50,
            "num_stages": 4,
            "out_indices": (0, 1, 2, 3),
            "frozen_stages": -1,
            "norm_cfg": sync,
            "norm_eval": True,
            "style": "caffe",
        },
        "masa_adapter": [
            {
                "type": "FPN",
                "in_channels": [256, 512, 1024, 2048],
                "out_channels": 256,
                "norm_cfg": sync,
                "num_outs": 5,
            },
            {"type": "DeformFusion", "in_channels": 256, "out_channels": 256, "num_blocks": 3},
        ],
        "rpn_head": {
            "type": "RPNHead",
            "in_channels": 256,
            "feat_channels": 256,
            "anchor_generator": anchors,
            "bbox_coder": coder,
        },
        "roi_head": {"type": "StandardRoIHead", "bbox_roi_extractor": extractor, "bbox_head": box_head},
        "test_cfg": {
            "rpn": {"nms_pre": 1000, "max_per_img": 1000, "nms": {"type": "nms", "iou_threshold": 0.7}},
            "rcnn": {"score_thr": 0.02, "nms": nms, "max_per_img": 50, "mask_thr_binary": 0.5},
        },
        "track_head": {
            "type": "QuasiDenseTrackHead",
            "roi_extractor": extractor,
            "embed_head": {
                "type": "QuasiDenseEmbedHead",
                "num_convs": 4,
                "num_fcs": 1,
                "embed_channels": 256,
                "norm_cfg": {"type": "GN", "num_groups": 32},
                "loss_track": {"type": "UnbiasedContrastLoss", "loss_weight": 0.25},
                "loss_track_aux": {"type": "MarginL2Loss", "neg_pos_ub": 3, "loss_weight": 0.5},
            },
            "train_cfg": {"sampler": {"type": "CombinedSampler", "num": 256}},
        },
        "tracker": {"type": "MasaTaoTracker", "init_score_thr": 0.1, "obj_score_thr": 0.01},
    }


@pytest.mark.slow
def test_the_authors_model_and_what_it_does_not_take() -> None:
    config = official_r50()
    model = MODELS.build(config)
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    assert shapes == official_keys("r50")
    assert model.trainer.weights["margin_weight"] == 0.5
    assert model.trainer.share.count == 256
    assert MODELS.build({**config, "with_segm": True}).with_segm
    for change, message in (
        ({"given_dets": False, "with_segm": True}, "with_segm=True needs masks"),
        ({"load_public_dets": True}, "needs a public_det_path"),
        ({"load_public_dets": True, "public_det_path": "nowhere"}, "there is no nowhere"),
        ({"network": "nano"}, "leave masa_adapter, track_head, backbone out"),
        ({"backbone": None}, "MASA needs backbone"),
        ({"unified_backbone": True}, "needs a detector"),
    ):
        with pytest.raises(InputError, match=message):
            MODELS.build({**config, **change})
    config["rpn_head"]["anchor_generator"]["scales"] = [4]
    with pytest.raises(InputError, match=r"anchor_generator.scales must be \[8\]"):
        MODELS.build(config)


def test_detections_of_detic_are_not_replaced_by_others_in_silence(tmp_path: Path) -> None:
    backbone = {"type": "ResNet", "depth": 18, "out_indices": (1, 2, 3)}
    adapter = [{"type": "FPN", "in_channels": [128, 256, 512], "out_channels": 256, "num_outs": 5}]
    strides = {"roi_extractor": {"featmap_strides": [8, 16, 32]}, "embed_head": {"num_convs": 1}}
    head = {"rpn_head": {"type": "RPNHead"}, "roi_head": {"type": "StandardRoIHead"}}
    detic = {"type": "DeticMasa", "backbone": backbone, "rpn_head": {"type": "x"}, "roi_head": {"type": "DeticRoIHead"}}
    config = {"type": "MASA", "unified_backbone": True, "masa_adapter": adapter, "track_head": strides, **head}
    with pytest.raises(InputError, match=r"Detic's own detections are not computed here.*public_det_path"):
        MODELS.build({**config, "detector": detic})
    for boxes in ({"given_dets": True}, {"public_det_path": str(tmp_path)}):
        assert MODELS.build({**config, "detector": detic, **boxes})
    assert MODELS.build({**config, "detector": {"type": "DeticMasa", "backbone": backbone}})


def test_given_boxes_are_checked() -> None:
    model = MODELS.build({"type": "MASA", "network": "nano", "given_dets": True}).eval()
    sample = DetDataSample(metainfo={"frame_id": 0, "video_id": 1, "ori_shape": (64, 64), "scale_factor": (1.0, 1.0)})
    image = torch.zeros(1, 1, 3, 64, 64)
    with pytest.raises(InputError, match="every data sample must have det_bboxes"):
        model.predict(image, [[sample]])
    sample.det_bboxes, sample.det_labels = torch.zeros(0, 5), torch.zeros(0)
    ((done,),) = model.predict(image, [[sample]])
    assert isinstance(done.pred_track_instances, InstanceData)
    assert len(done.pred_track_instances) == 0
    with pytest.raises(InputError, match="one video at a time"):
        model.predict(image[0], [[sample]])
    with pytest.raises(InputError, match="there are no boxes to track"):
        MODELS.build({"type": "MASA", "network": "nano"}).eval().predict(image, [[sample]])


def test_the_tracker_takes_the_prior_of_the_network_or_the_one_of_the_configuration(tmp_path: Path) -> None:
    """As MasaTracker: without it the preset `default` would learn what `nano`'s cosines mean from each video."""
    default = {"type": "MasaTaoTracker", "preset": "default"}
    config = {"type": "MASA", "network": "nano", "given_dets": True, "tracker": default}
    nano = AppearancePrior.load(spec_of("nano").prior)

    def prior_of(model: Any) -> AppearancePrior | None:
        return model.tracker.associator._prior

    model = MODELS.build(config)
    assert prior_of(model) == nano
    model.tracker.reset(12.0)
    assert prior_of(model) == nano
    other = replace(nano, different=(0.5, 0.1))
    other.save(tmp_path / "p.json")
    assert prior_of(MODELS.build({**config, "tracker": {**default, "prior": str(tmp_path / "p.json")}})) == other
    weights = tmp_path / "mine.safetensors"
    shutil.copy(spec_of("nano").weights, weights)
    assert prior_of(MODELS.build({**config, "checkpoint": str(weights)})) is None
    torch.save({"state_dict": model.state_dict()}, tmp_path / "trained.pth")
    testing.load_weights(model, tmp_path / "trained.pth")
    assert prior_of(model) is None  # the weights are others now
    replace(nano, dimension=256, model=None).save(tmp_path / "p.json")
    with pytest.raises(InputError, match="one for dimension 256 and a model of dimension 2096"):
        MODELS.build({**config, "tracker": {**default, "prior": str(tmp_path / "p.json")}})
    with pytest.raises(InputError, match="prior needs a preset that calibrates cosines, got 'tao'"):
        MODELS.build({"type": "MasaTaoTracker", "prior": str(tmp_path / "p.json")})


def test_a_file_of_videos_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "videos.json"
    for content, message in (
        ([], "got a list"),
        ({"images": []}, "with videos"),
        ({"videos": [{"id": 1}], "images": [{"id": 1}]}, "no file_name"),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(InputError, match=message):
            DATASETS.build({"type": "CocoVidDataset", "ann_file": str(path), "pipeline": []})
