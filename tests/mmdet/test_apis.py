"""The functions of the authors' masa.apis: the tracks of tools/test_mot.py, and what is refused."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet.apis import init_detector
from mmengine.config import Config
from mmengine.hub import get_config
from mot_clips import CONFIG, ROOT, clip, options, run_tool

from masa_track.errors import InputError
from masa_track.integrations.mmdet.apis import build_test_pipeline, inference_detector, inference_masa, init_masa

GIVEN = {"model.public_det_path": None, "model.given_dets": True}


def detections(sequence: Path, frame: int) -> tuple[torch.Tensor, torch.Tensor]:
    """As the authors' demo gives them: (N, 5) xyxy pixels from 0 and score, (N,) labels."""
    rows = np.loadtxt(sequence / "det" / "det.txt", delimiter=",", ndmin=2)
    rows = rows[rows[:, 0] == frame]
    low = rows[:, 2:4] - 1
    boxes = np.concatenate((low, low + rows[:, 4:6], rows[:, 6:7]), axis=1)
    return torch.tensor(boxes, dtype=torch.float32), torch.zeros(len(rows), dtype=torch.long)


@pytest.mark.shared_data
@pytest.mark.slow
def test_tracks_are_those_of_the_test_program(clips: Path, tmp_path: Path) -> None:
    sequence, frames = tmp_path / "data" / "TUD-Campus", 6
    clip(clips / "mot15" / "TUD-Campus", sequence, frames)
    assert run_tool(CONFIG, "--work-dir", tmp_path / "work", *options(sequence.parent)) == 0
    expected = np.loadtxt(tmp_path / "work" / "tracks" / "TUD-Campus.txt", delimiter=",")
    model = init_masa(CONFIG, device="cpu", cfg_options=GIVEN)
    pipeline = build_test_pipeline(model.cfg)
    for _ in range(2):  # the second run begins anew at frame 0
        found = []
        for number, path in enumerate(sorted((sequence / "img1").iterdir())):
            boxes, labels = detections(sequence, number + 1)
            result, speed = inference_masa(
                model,
                cv2.imread(str(path)),
                frame_id=number,
                video_len=frames,
                test_pipeline=pipeline,
                det_bboxes=boxes,
                det_labels=labels,
                show_fps=True,
                fps=25,
            )
            assert speed > 0
            tracks = result[0].pred_track_instances
            for identity, box in zip(tracks.instances_id.tolist(), tracks.bboxes.tolist(), strict=True):
                found.append([number + 1, identity + 1, box[0] + 1, box[1] + 1, box[2] - box[0], box[3] - box[1]])
        assert len(found) > 10
        np.testing.assert_allclose(np.array(found), expected[:, :6], atol=2e-3)


def test_text_reaches_the_detector() -> None:
    config = Config.fromfile(str(ROOT / "configs" / "mmdet" / "grounding_dino.py"))
    pipeline = build_test_pipeline(config, with_text=True)
    data = {"img": [np.zeros((40, 60, 3), np.uint8)], "img_id": [1], "frame_id": [0], "text": ["a dog"], "fps": [12.5]}
    packed = pipeline({**data, "custom_entities": [False]})
    known = packed["data_samples"][0].metainfo
    assert (known["text"], known["fps"], known["ori_shape"]) == ("a dog", 12.5, (40, 60))
    assert packed["inputs"].shape[0] == 1
    assert max(packed["inputs"].shape[2:]) == max(known["img_shape"]) > 60


@pytest.mark.parametrize(
    ("load", "dtype"),
    [
        ([{"type": "LoadImageFromFile", "to_float32": True}, {"type": "LoadTrackAnnotations"}], torch.float32),
        ([{"type": "LoadImageFromFile"}, {"type": "LoadTrackAnnotations"}], torch.uint8),
        ([], torch.float32),  # the authors' inference_pipeline
    ],
)
def test_loading_of_the_configuration_decides_on_float(load: list[dict], dtype: torch.dtype) -> None:
    broadcast = {"type": "TransformBroadcaster", "transforms": [*load, {"type": "Resize", "scale": (80, 80)}]}
    config = Config({"inference_pipeline": [broadcast, {"type": "PackTrackInputs"}]})
    packed = build_test_pipeline(config)({"img": [np.zeros((40, 60, 3), np.uint8)], "img_id": [1]})
    assert packed["inputs"].dtype == dtype
    assert packed["data_samples"][0].ori_shape == (40, 60)


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    model = init_masa(CONFIG, device="cpu", cfg_options=GIVEN, palette="coco")
    assert model.dataset_meta["palette"] == "coco"
    assert "person" in model.dataset_meta["classes"]
    picture, boxes, labels = np.zeros((40, 60, 3), np.uint8), torch.zeros(0, 5), torch.zeros(0)

    def refused(match: str, img: object = picture, **given: object) -> None:
        with pytest.raises(InputError, match=match):
            inference_masa(model, img, 0, 1, **given)  # type: ignore[arg-type]

    refused("img must be a uint8 array", img=picture.astype(np.float32), det_bboxes=boxes, det_labels=labels)
    refused("go together", det_bboxes=boxes)
    refused("fp16=True needs a GPU", det_bboxes=boxes, det_labels=labels, fp16=True)
    refused("given_dets=True: every data sample")
    refused("detector_type must be 'mmdet'", det_bboxes=boxes, det_labels=labels, detector_type="yolo-world")
    own = init_masa(CONFIG, device="cpu", cfg_options={"model.public_det_path": None})
    with pytest.raises(InputError, match="given_dets=True; this one finds its boxes itself"):
        inference_masa(own, picture, 0, 1, det_bboxes=boxes, det_labels=labels)
    with pytest.raises(InputError, match="there is no"):
        init_masa(tmp_path / "none.py")
    with pytest.raises(InputError, match="CHECKPOINT is needed"):
        init_masa(ROOT / "configs" / "mmdet" / "mot_r50_own.py", device="cpu")
    with pytest.raises(InputError, match="TransformBroadcaster"):
        build_test_pipeline(Config({"model": {}}))


def test_a_detector_of_mmdet() -> None:
    config = get_config("mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py")
    config.model.backbone.init_cfg = None
    detector = init_detector(config, None, palette="random", device="cpu")
    result = inference_detector(detector, np.zeros((64, 64, 3), np.uint8))
    assert result.pred_instances.bboxes.shape[1] == 4
    with pytest.raises(InputError, match="fp16=True needs a GPU"):
        inference_detector(detector, np.zeros((64, 64, 3), np.uint8), fp16=True)
