"""``with_segm=True``: masks of a real Mask R-CNN, with random weights, and given ones go with the tracks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmdet.apis import inference_detector
from mmdet.registry import METRICS, MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mot_clips import ROOT, run_tool

from masa_track.errors import InputError
from masa_track.formats.npz import write_npz
from masa_track.integrations.mmdet.masa import detector_config
from masa_track.masks import compressed, decode_mask, encode_mask

HEIGHT, WIDTH, FRAMES = 96, 128, 3
CONFIG = """
_base_ = {base!r}
model = dict(
    _delete_=True, type="MASA", network="nano", with_segm=True, detector={detector}, detector_checkpoint={checkpoint!r},
    tracker=dict(type="MasaTaoTracker", init_score_thr=0.0, obj_score_thr=0.0),
)
test_pipeline = [
    dict(type="TransformBroadcaster",
         transforms=[dict(type="LoadImageFromFile"), dict(type="Resize", scale=(192, 192), keep_ratio=True)]),
    dict(type="PackTrackInputs"),
]
test_dataloader = dict(
    num_workers=0,
    dataset=dict(ann_file={truth!r}, data_prefix=dict(img_path={images!r}), pipeline=test_pipeline),
)
test_evaluator = dict(type="TaoTETAMetric")
"""


@pytest.fixture(autouse=True)
def _scope() -> None:
    init_default_scope("mmdet")


def tiny_mask_rcnn() -> Any:
    """mmdet's Mask R-CNN of two classes on a ResNet-18, that gives the six boxes it is surest of."""
    config = detector_config("mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py")
    config.backbone.update(depth=18, init_cfg=None)
    config.neck.in_channels = [64, 128, 256, 512]
    config.roi_head.bbox_head.num_classes = config.roi_head.mask_head.num_classes = 2
    config.test_cfg.rpn.update(nms_pre=100, max_per_img=20)
    config.test_cfg.rcnn.update(score_thr=0.0, max_per_img=6)
    return config


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a still video's pictures, its truth as COCO-VID json, and the detector's weights."""
    root = tmp_path_factory.mktemp("scene")
    (root / "images" / "v").mkdir(parents=True)
    rng = np.random.default_rng(1)
    picture = cv2.resize(rng.integers(0, 255, (9, 12, 3)).astype(np.uint8), (WIDTH, HEIGHT))
    size = {"width": WIDTH, "height": HEIGHT}
    content: dict[str, Any] = {"videos": [{"id": 1, "name": "v", **size}], "images": [], "annotations": []}
    content["categories"] = [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]
    for number in range(FRAMES):
        cv2.imwrite(str(root / "images" / "v" / f"{number}.png"), picture)
        image = {"id": number, "video_id": 1, "frame_id": number, "file_name": f"v/{number}.png", **size}
        content["images"].append(image)
        thing = {"id": number, "image_id": number, "category_id": 3, "track_id": 1, "bbox": [20, 20, 50, 50]}
        content["annotations"].append({**thing, "area": 2500, "iscrowd": 0})
    (root / "truth.json").write_text(json.dumps(content))
    init_default_scope("mmdet")
    torch.manual_seed(0)
    torch.save(MODELS.build(tiny_mask_rcnn()).state_dict(), root / "mask_rcnn.pth")
    return root


def tool(scene: Path, folder: Path, *options: str) -> list[dict[str, Any]]:
    """The rows that tools/test_mot.py writes."""
    path = folder / "masks.py"
    values = {"truth": str(scene / "truth.json"), "images": str(scene / "images")}
    values |= {"base": str(ROOT / "configs" / "mmdet" / "tao_r50.py"), "checkpoint": str(scene / "mask_rcnn.pth")}
    path.write_text(CONFIG.format(detector=tiny_mask_rcnn().to_dict(), **values))
    arguments = ["--work-dir", folder / "work", "--out", folder / "out.json", "--show-dir", folder / "drawn"]
    assert run_tool(path, *arguments, *(("--cfg-options", *options) if options else ())) == 0
    return json.loads((folder / "out.json").read_text())


@pytest.mark.slow
def test_masks_of_a_detector_are_in_the_results_and_drawn(scene: Path, tmp_path: Path) -> None:
    (tmp_path / "with").mkdir()
    (tmp_path / "without").mkdir()
    rows = tool(scene, tmp_path / "with")
    plain = tool(scene, tmp_path / "without", "model.with_segm=False")
    assert [{k: v for k, v in row.items() if k != "segmentation"} for row in rows] == plain
    assert len(rows) > FRAMES

    detector = MODELS.build(tiny_mask_rcnn())
    detector.load_state_dict(torch.load(scene / "mask_rcnn.pth"))
    resize = {"type": "Resize", "scale": (192, 192), "keep_ratio": True}
    pack = {"type": "PackDetInputs", "meta_keys": ("img_id", "ori_shape", "img_shape", "scale_factor")}
    pipeline = [{"type": "mmdet.LoadImageFromNDArray"}, resize, pack]
    detector.cfg = Config({"test_dataloader": {"dataset": {"pipeline": pipeline}}, "default_scope": "mmdet"})
    picture = cv2.imread(str(scene / "images" / "v" / "0.png"))
    alone = inference_detector(detector.eval(), picture).pred_instances.numpy()
    assert alone.masks.any(axis=(1, 2)).all()
    assert len(np.unique(alone.masks.reshape(len(alone), -1), axis=0)) > 1
    union = np.zeros((HEIGHT, WIDTH), bool)
    for row in rows:
        x, y, w, h = row["bbox"]
        (same,) = np.flatnonzero(np.abs(alone.bboxes - [x, y, x + w, y + h]).max(axis=1) < 0.01)
        mask = decode_mask(compressed(row["segmentation"], (HEIGHT, WIDTH)))
        assert np.array_equal(mask, alone.masks[same])
        union |= mask

    pair = [cv2.imread(str(tmp_path / name / "drawn" / "v" / "1.png")) for name in ("with", "without")]
    differs = (pair[0] != pair[1]).any(axis=2)
    assert differs.sum() > union.sum() / 3  # the rest is below boxes and names
    assert not (differs & ~union).any()


def step(model: Any, **given: Any) -> Any:
    facts = {"frame_id": 0, "video_id": 1, "ori_shape": (48, 64), "img_shape": (96, 128), "scale_factor": (2.0, 2.0)}
    sample = DetDataSample(metainfo={**facts, "img_path": given.pop("img_path", "0.png")})
    for name, value in given.items():
        setattr(sample, name, value)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        ((done,),) = model.predict(torch.randn((1, 1, 3, 96, 128), generator=generator), [[sample]])
    return done


def test_given_masks_go_with_the_rows_that_are_tracked() -> None:
    tracker = {"type": "MasaTaoTracker", "init_score_thr": 0.5, "obj_score_thr": 0.3}
    config = {"type": "MASA", "network": "nano", "given_dets": True, "with_segm": True, "tracker": tracker}
    model = MODELS.build(config).eval()
    boxes = torch.tensor([[5, 5, 20, 30, 0.9], [30, 10, 50, 40, 0.1], [40, 20, 60, 44, 0.8]])
    masks = np.random.default_rng(0).random((3, 48, 64)) < 0.5
    given = {"det_bboxes": boxes, "det_labels": torch.zeros(3)}
    forms = (masks, torch.from_numpy(masks), BitmapMasks(masks, 48, 64), [encode_mask(m) for m in masks], list(masks))
    for form in forms:
        done = step(model, **given, det_masks=form)
        assert np.array_equal(done.pred_instances.masks.numpy(), masks)
        assert done.pred_track_instances.scores.tolist() == pytest.approx([0.9, 0.8])
        assert np.array_equal(done.pred_track_instances.masks.numpy(), masks[[0, 2]])
    empty = step(model, det_bboxes=torch.zeros(0, 5), det_labels=torch.zeros(0))
    assert empty.pred_track_instances.masks.shape == (0, 48, 64)

    with pytest.raises(InputError, match=r"the data sample \(det_masks\) has none: leave with_segm out"):
        step(model, **given)
    with pytest.raises(InputError, match=r"must be \(3, 48, 64\).* got \(2, 48, 64\)"):
        step(model, **given, det_masks=masks[:2])
    with pytest.raises(InputError, match="the mask is 48x64, its image 64x48"):
        step(model, **given, det_masks=[encode_mask(m.T) for m in masks])
    with pytest.raises(InputError, match="with_segm=True needs masks: give MASA a detector"):
        MODELS.build({"type": "MASA", "network": "nano", "with_segm": True})
    done = step(MODELS.build({**config, "with_segm": False}).eval(), **given, det_masks=masks)
    assert "masks" not in done.pred_track_instances


def test_masks_of_files(tmp_path: Path) -> None:
    """As the authors' configuration for BDD100K's segmentation tracking has them: with public detections."""
    folder = tmp_path / "v"
    folder.mkdir()
    cv2.imwrite(str(folder / "0.png"), np.zeros((48, 64, 3), np.uint8))
    tracker = {"type": "MasaBDDTracker", "init_score_thr": 0.5, "obj_score_thr": 0.3, "with_cats": False}
    options = {"type": "MASA", "network": "nano", "load_public_dets": True, "with_segm": True, "benchmark": "bdd"}
    masks = np.random.default_rng(0).random((2, 48, 64)) < 0.5
    rles = [compressed(encode_mask(mask), (48, 64)) for mask in masks]
    boxes = np.array([[5, 5, 20, 30], [40, 20, 60, 44]])
    ones = np.ones(2)
    write_npz(tmp_path / "v.npz", ones, boxes, ones, ones, ["0"], ["cat", "dog"], rles)
    box = {"image_id": 1, "category_id": 1}
    rows = [
        {**box, "bbox": [5, 5, 15, 25], "segmentation": encode_mask(masks[0])},
        {**box, "bbox": [40, 20, 20, 24], "segmentation": [[40, 20, 60, 20, 60, 44]]},
    ]
    (tmp_path / "v.json").write_text(json.dumps(rows))
    for name in ("v.npz", "v.json"):
        model = MODELS.build({**options, "public_det_path": str(tmp_path / name), "tracker": tracker}).eval()
        done = step(model, img_path=str(folder / "0.png"))
        assert len(done.pred_track_instances) == 2
        assert np.array_equal(done.pred_track_instances.masks[0].numpy(), masks[0])
        if name == "v.npz":
            assert np.array_equal(done.pred_track_instances.masks[1].numpy(), masks[1])
        else:
            assert done.pred_track_instances.masks[1].sum() == pytest.approx(20 * 24 / 2, rel=0.1)
    del rows[1]["segmentation"]
    (tmp_path / "v.json").write_text(json.dumps(rows))
    with pytest.raises(InputError, match=r"v.json has none: leave with_segm out"):
        step(MODELS.build({**options, "public_det_path": str(tmp_path / "v.json")}), img_path=str(folder / "0.png"))


def test_scores_by_masks_without_labels_are_refused(scene: Path) -> None:
    metric = {"type": "BDDTETAMetric", "ann_file": str(scene / "truth.json"), "with_mask": True}
    with pytest.raises(InputError, match=r"test_evaluator\.with_mask=False for scores of the boxes"):
        METRICS.build(metric)
    METRICS.build({**metric, "format_only": True})
