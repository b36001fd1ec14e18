"""Detectors of mmdet, with random weights, feed the tracker: each sees the picture as it would alone."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import cv2
import mmcv
import numpy as np
import pytest
import torch
from grounding import smaller_grounding, tiny_bert
from mmdet.apis import inference_detector
from mmdet.models.layers.transformer.utils import coordinate_to_encoding
from mmdet.registry import MODELS, TRANSFORMS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope

from masa_track.encoders.embedder import Embedder
from masa_track.errors import InputError
from masa_track.integrations.mmdet.detectors import DetectorText, group_size
from masa_track.integrations.mmdet.masa import detector_config, load_detector

DETECTORS = {
    "faster_rcnn": "mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py",
    "rtmdet": "mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py",
    "yolox": "mmdet::yolox/yolox_tiny_8xb8-300e_coco.py",
    "dino": "mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py",
}
RESIZE = {"type": "Resize", "scale": (256, 256), "keep_ratio": True}


@pytest.fixture(autouse=True)
def _scope() -> None:
    init_default_scope("mmdet")


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    rng = np.random.default_rng(1)
    return cv2.resize(rng.integers(0, 255, (9, 12, 3)).astype(np.uint8), (256, 192))


def step(model: Any, picture: np.ndarray, index: int = 0) -> Any:
    """The frame after the model, from a picture as the pipeline gives it."""
    done = TRANSFORMS.build(RESIZE)({"img": picture, "img_shape": picture.shape[:2], "ori_shape": picture.shape[:2]})
    keys = ("img", "ori_shape", "img_shape", "scale_factor")
    known = {"img_id": index, "frame_id": index, "video_id": 1, "ori_video_length": 9, "img_path": "0.jpg"}
    packed = TRANSFORMS.build({"type": "PackTrackInputs"})(
        {**{key: [done[key]] for key in keys}, **{key: [value] for key, value in known.items()}}
    )
    with torch.no_grad():
        (tracked,) = model.test_step(pseudo_collate([packed]))
    return tracked[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", DETECTORS)
def test_boxes_are_those_of_the_detector_alone(name: str, picture: np.ndarray) -> None:
    torch.manual_seed(0)
    tracker = {"type": "MasaTaoTracker", "init_score_thr": 0.0, "obj_score_thr": 0.0}
    model = MODELS.build({"type": "MASA", "network": "nano", "detector": DETECTORS[name], "tracker": tracker}).eval()
    for key, parameter in model.detector.named_parameters():
        if key.endswith("level_embed"):  # DINO's, which is whatever was in memory until it is filled
            torch.nn.init.normal_(parameter)
    for head in model.detector.modules():  # random detectors are unsure of everything: take all they say
        if isinstance(getattr(head, "test_cfg", None), dict) and "score_thr" in head.test_cfg:
            head.test_cfg["score_thr"] = 0.0
    found = step(model, picture)

    alone = copy.deepcopy(model.detector).to(memory_format=torch.contiguous_format)  # as mmdet builds it
    pipeline = [RESIZE, {"type": "PackDetInputs", "meta_keys": ("img_id", "ori_shape", "img_shape", "scale_factor")}]
    load = [{"type": "mmdet.LoadImageFromNDArray"}]
    alone.cfg = Config({"test_dataloader": {"dataset": {"pipeline": [*load, *pipeline]}}, "default_scope": "mmdet"})
    expected = inference_detector(alone, picture).pred_instances
    expected = expected[expected.bboxes.isfinite().all(dim=1)]  # those of a random YOLOX are not
    assert len(expected) > 0
    assert torch.allclose(found.pred_instances.bboxes, expected.bboxes, atol=1e-3, rtol=1e-4)
    assert torch.equal(found.pred_instances.labels, expected.labels)
    assert len(found.pred_track_instances) > 0
    again = step(model, picture, 1)
    shared = set(again.pred_track_instances.instances_id.tolist()) & set(
        found.pred_track_instances.instances_id.tolist()
    )
    assert shared  # a still picture


@pytest.mark.slow
def test_a_shared_backbone_leaves_the_detector_its_boxes(picture: np.ndarray) -> None:
    """mmcv's RoIAlign takes any tensor for a contiguous one: with channels last it reads other places."""
    config = detector_config(DETECTORS["faster_rcnn"])
    config.backbone.update(depth=18, init_cfg=None)
    config.neck.in_channels = [64, 128, 256, 512]
    config.test_cfg.rpn.update(nms_pre=100, max_per_img=20)
    config.test_cfg.rcnn.update(score_thr=0.0, max_per_img=7)
    adapter = [{"type": "FPN", "in_channels": [64, 128, 256, 512], "out_channels": 256, "num_outs": 5}]
    head = {"type": "MasaTrackHead", "embed_head": {"num_convs": 1}}
    before = dict(config.data_preprocessor, type="TrackDataPreprocessor")
    parts = {"masa_adapter": adapter, "track_head": head, "data_preprocessor": before}
    model = MODELS.build({"type": "MASA", "unified_backbone": True, "detector": config, **parts}).eval()
    alone = copy.deepcopy(model.detector).to(memory_format=torch.contiguous_format)
    inputs: list[tuple[torch.Tensor, Any]] = []
    predict = model.detector.predict
    model.detector.predict = lambda image, samples, **options: (
        inputs.append((image.clone(), copy.deepcopy(samples))) or predict(image, samples, **options)
    )
    found = step(model, picture).pred_instances
    image, samples = inputs[0]
    with torch.no_grad():
        (expected,) = alone.predict(image.contiguous(), samples, rescale=True)
    assert torch.allclose(found.bboxes, expected.pred_instances.bboxes, atol=1e-3, rtol=1e-4)
    assert len(found) == 7


@pytest.mark.slow
def test_another_size_for_the_detector(picture: np.ndarray) -> None:
    """Boxes come back in the picture's own pixels, whatever the detector was fed."""
    options = {"type": "MASA", "network": "nano", "detector": DETECTORS["rtmdet"], "detector_scale": (128, 128)}
    model = MODELS.build(options).eval()
    seen: list[tuple[int, ...]] = []
    model.detector.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(tuple(inputs[0].shape)))
    model.detector.bbox_head.test_cfg["score_thr"] = 0.0
    boxes = step(model, picture).pred_instances.bboxes
    assert seen == [(1, 3, *mmcv.imrescale(picture, (128, 128)).shape[:2])]
    assert boxes.max() > 130  # beyond what the detector was fed


@pytest.mark.slow
def test_grounding_dino_takes_the_text_and_can_share_its_backbone(picture: np.ndarray, tmp_path: Path) -> None:
    tiny_bert(tmp_path / "bert")
    config = smaller_grounding(
        "mmdet::grounding_dino/grounding_dino_swin-t_pretrain_obj365_goldg_cap4m.py", tmp_path / "bert"
    )
    config.update(num_queries=20, type="GroundingDINOMasa")
    config.test_cfg.max_per_img = 10
    adapter = [{"type": "FPN", "in_channels": [192, 384, 768], "out_channels": 256, "num_outs": 5}]
    head = {"type": "MasaTrackHead", "roi_extractor": {"featmap_strides": [8, 16, 32]}, "embed_head": {"num_convs": 1}}
    parts = {"masa_adapter": adapter, "track_head": head}
    preprocessor = {
        "type": "TrackDataPreprocessor",
        "mean": [123.675, 116.28, 103.53],
        "std": [58.395, 57.12, 57.375],
        "bgr_to_rgb": True,
        "pad_size_divisor": 32,
    }
    model = MODELS.build(
        {
            "type": "MASA",
            "unified_backbone": True,
            "detector": config,
            "text": "a dog. a person",
            "data_preprocessor": preprocessor,
            "tracker": {"type": "MasaTaoTracker", "init_score_thr": 0.0, "obj_score_thr": 0.0},
            **parts,
        }
    ).eval()
    with torch.no_grad():  # mmdet leaves some parameters as the memory was, which may be NaN
        for parameter in model.parameters():
            parameter.nan_to_num_(0.0, 0.0, 0.0).clamp_(-1, 1)
    runs: list[int] = []
    model.detector.backbone.register_forward_hook(lambda *_: runs.append(1))
    found = step(model, picture)
    assert len(runs) == 1  # for boxes and embeddings together
    assert len(found.pred_instances) == 10
    assert set(found.pred_instances.labels.tolist()) <= {0, 1}
    assert len(found.pred_track_instances) > 0
    assert not any(key.startswith("backbone.") for key in model.state_dict())  # it is the detector's

    # A caption of more than 256 tokens: groups one by one, on the same maps, with classes numbered over all groups.
    # Which phrase of equal ones a box gets is not compared.
    phrases = ["a dog", "a person"] * 50
    runs.clear()
    model._boxes.text = ". ".join(phrases)
    found = step(model, picture).pred_instances
    assert len(runs) == 1
    assert model.detector.test_cfg["chunked_size"] == 84  # 84 * 3 + 2 tokens
    parts_found = []
    for start, end in ((0, 84), (84, 100)):
        model._boxes.text = ". ".join(phrases[start:end])
        parts_found.append(step(model, picture).pred_instances)
        assert model.detector.test_cfg["chunked_size"] == -1
        parts_found[-1].labels += start
    for name in ("bboxes", "scores", "labels"):
        assert torch.equal(found[name], torch.cat([part[name] for part in parts_found]))
    (tmp_path / "names.txt").write_text("dog\nperson_(human)\ncat\n")
    model._boxes.text = str(tmp_path / "names.txt")
    listed = step(model, picture).pred_instances
    model._boxes.text = "dog. person. cat"
    said = step(model, picture).pred_instances
    assert torch.equal(listed.scores, said.scores)
    assert torch.equal(listed.labels, said.labels)


def test_groups_of_a_text() -> None:
    class Words:
        def __call__(self, texts: list[str], add_special_tokens: bool) -> dict[str, list[list[int]]]:
            return {"input_ids": [[0] * len(text.split()) for text in texts]}

    assert group_size(Words(), ["a b", "c"], 7) == -1  # 2 + 3 + 2
    assert group_size(Words(), ["a b", "c"], 6) == 1
    assert group_size(Words(), ["a", "a", "a", "a", "a a a a"], 8) == 2  # 3 would fit at first, but not all groups of 3
    assert group_size(Words(), ["a", "a", "a", "a", "a a a a"], 9) == 3
    with pytest.raises(InputError, match="at most 3 tokens, got 'a a a a'"):
        group_size(Words(), ["a", "a a a a"], 6)


def test_noun_phrases_need_nltk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nltk", None)
    with pytest.raises(InputError, match="custom_entities=False searches noun phrases with nltk"):
        DetectorText(torch.nn.Identity(), custom_entities=False)
    assert DetectorText(torch.nn.Identity()).prepare("a dog. a cat") == {
        "text": "a dog. a cat",
        "custom_entities": True,
    }


def test_the_names_of_lvis_are_mmdets() -> None:
    from mmdet.datasets import LVISV1Dataset

    from masa_track.detectors.phrases import read_prompt

    assert read_prompt("lvis").names == tuple(LVISV1Dataset.METAINFO["classes"])


def test_a_detector_without_its_weights(tmp_path: Path) -> None:
    detector = MODELS.build(detector_config(DETECTORS["rtmdet"]))
    state = detector.state_dict()
    first = next(key for key in state if key.endswith("weight"))
    changed = {key: value + 1 if key == first else value for key, value in state.items()}
    torch.save({"state_dict": changed}, tmp_path / "whole.pth")
    load_detector(detector, str(tmp_path / "whole.pth"))
    assert torch.equal(detector.state_dict()[first], changed[first])
    torch.save({"state_dict": {key: value for key, value in state.items() if key != first}}, tmp_path / "part.pth")
    with pytest.raises(InputError, match="not of this RTMDet: 1 of its tensors are missing"):
        load_detector(detector, str(tmp_path / "part.pth"))
    torch.save({"state_dict": {**state, first: state[first][:1]}}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="1 of its tensors have another shape"):
        load_detector(detector, str(tmp_path / "other.pth"))
    with pytest.raises(InputError, match="must be a file"):
        load_detector(detector, "https://example.org/a.pth")
    with pytest.raises(InputError, match=r"no configuration 'mmdet::nowhere.py'"):
        detector_config("mmdet::nowhere.py")


def test_published_weights_of_dino_keep_their_encoding_of_places(tmp_path: Path) -> None:
    """As published, a place is 4 x 128 numbers; onedl-mmdetection 3.5.1 makes 4 x 256 of it."""
    places = torch.rand(2, 5, 4)
    published = coordinate_to_encoding(places, num_feats=128)
    detector = MODELS.build(detector_config(DETECTORS["dino"]))
    state = dict(detector.state_dict())
    key = "decoder.ref_point_head.layers.0.weight"
    state[key] = torch.randn(256, 512) / 20
    torch.save(state, tmp_path / "dino.pth")
    load_detector(detector, str(tmp_path / "dino.pth"))
    head = detector.decoder.ref_point_head
    expected = head(published)
    assert torch.allclose(head(coordinate_to_encoding(places, num_feats=256)), expected, atol=1e-5)


@pytest.mark.slow
def test_own_boxes_are_those_of_the_embedder(picture: np.ndarray) -> None:
    torch.manual_seed(0)
    adapter = [
        {"type": "FPN", "in_channels": [256, 512, 1024, 2048], "out_channels": 256, "num_outs": 5},
        {"type": "DeformFusion", "num_blocks": 1},
    ]
    model = MODELS.build(
        {
            "type": "MASA",
            "backbone": {"type": "ResNet", "depth": 50, "style": "caffe"},
            "masa_adapter": adapter,
            "rpn_head": {"type": "RPNHead"},
            "roi_head": {"type": "StandardRoIHead", "bbox_head": {"type": "Shared2FCBBoxHead"}},
            "track_head": {"type": "MasaTrackHead", "embed_head": {"num_convs": 1}},
            "test_cfg": {"rpn": {"nms_pre": 50, "max_per_img": 50}, "rcnn": {"score_thr": 0.0, "max_per_img": 7}},
            "tracker": {"type": "MasaTaoTracker", "init_score_thr": 0.0},
        }
    ).eval()
    found = step(model, cv2.resize(picture, (200, 150)))
    model.net.long_side = model.net.short_side = 256
    boxes, scores = Embedder(model.net, "r50", "cpu").detect(cv2.resize(picture, (200, 150)))
    assert len(boxes) == len(found.pred_instances) == 7
    assert np.allclose(found.pred_instances.bboxes.numpy(), boxes, atol=1e-2)
    assert np.allclose(found.pred_instances.scores.numpy(), scores, atol=1e-4)
    assert len(found.pred_track_instances) > 0
