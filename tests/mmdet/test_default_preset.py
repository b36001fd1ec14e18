"""The preset ``default`` in mmdet has what it has elsewhere: camera motion, cuts, the frame rate and timestamps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS, MODELS
from mmdet.structures import DetDataSample
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from mot_clips import ROOT, run_tool

from masa_track import MasaTracker
from masa_track.errors import InputError
from masa_track.formats.npz import write_npz
from masa_track.integrations.mmdet.trackers import MasaBaseTracker

SHIFTS = (0, 0, 0, 150, 0, 150, 150, 0)  # of a camera that jerks, over a thing that stands still


@pytest.fixture(autouse=True)
def _scope() -> None:
    init_default_scope("mmdet")


def scenery() -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 255, (60, 100, 3)).astype(np.uint8)
    return cv2.resize(coarse, (800, 480), interpolation=cv2.INTER_CUBIC)


def views() -> list[tuple[np.ndarray, np.ndarray]]:
    """Pictures (240, 480, 3), and the box (1, 4) of the thing."""
    whole, result = scenery(), []
    for shift in SHIFTS:
        boxes = np.array([[200, 80, 240, 140]], np.float32) - [shift, 0, shift, 0]
        result.append((np.ascontiguousarray(whole[100:340, 100 + shift : 580 + shift]), boxes.astype(np.float32)))
    return result


def found(boxes: np.ndarray) -> InstanceData:
    count = len(boxes)
    labels = torch.zeros(count, dtype=torch.long)
    return InstanceData(bboxes=torch.from_numpy(boxes), scores=torch.full((count,), 0.9), labels=labels)


def identities(tracker: MasaBaseTracker, **more: Any) -> list[list[int]]:
    tracker.reset(10.0)
    result = []
    for number, (picture, boxes) in enumerate(views()):
        shown = {"picture": picture} if tracker.uses_picture else {}
        tracked = tracker.track(torch.zeros(1, 4), found(boxes), number, (480, 240), **shown, **more)
        result.append(tracked.instances_id.tolist())
    return result


def test_the_motion_of_the_camera_as_masa_tracker_has_it() -> None:
    """A camera jerks by several widths of a thing: without the camera's motion its identity changes."""
    options = {"use_appearance": False}
    with_camera = MODELS.build({"type": "MasaTaoTracker", "preset": "default", "camera_motion": True, **options})
    without = MODELS.build({"type": "MasaTaoTracker", "preset": "default", **options})
    assert with_camera.uses_picture
    assert not without.uses_picture
    tracker = MasaTracker("nano", "default", camera_motion=True, fps=10.0, first_id=0, **options)
    theirs = []
    for picture, boxes in views():
        rows = np.column_stack((boxes, np.full(1, 0.9)))
        ids = tracker.update(rows, picture, embeddings=np.zeros((1, 4), np.float32)).tracker_id
        theirs.append([identity for identity in ids.tolist() if identity >= 0])
    ours = identities(with_camera)
    assert ours == theirs
    assert len({identity for frame in ours for identity in frame}) == 1
    assert len({identity for frame in identities(without) for identity in frame}) > 1
    with pytest.raises(InputError, match="camera_motion needs a preset that uses motion, got 'tao'"):
        MODELS.build({"type": "MasaTaoTracker", "camera_motion": True})
    with pytest.raises(InputError, match="picture must be given where camera_motion=True"):
        with_camera.track(torch.zeros(1, 4), found(views()[0][1]), 9, (480, 240))


def test_time_is_that_of_the_timestamps() -> None:
    options = {"use_appearance": False, "memory_seconds": 2.0}
    tracker = MODELS.build({"type": "MasaTaoTracker", "preset": "default", **options})
    boxes = views()[0][1]
    for times, same in (((0.0, 0.1, 0.2, 0.3), True), ((0.0, 0.1, 50.0, 50.1), False), ((None,) * 4, True)):
        tracker.reset(10.0)
        ids = [
            set(tracker.track(torch.zeros(1, 4), found(boxes), n, (480, 240), timestamp=t).instances_id.tolist())
            for n, t in enumerate(times)
        ]
        assert ids[1]
        assert (ids[1] == ids[3]) == same


def test_the_model_gives_the_tracker_the_picture_of_the_file_or_of_its_input(tmp_path: Path) -> None:
    config = {"type": "MASA", "network": "nano", "given_dets": True}
    model = MODELS.build({**config, "tracker": {"type": "MasaTaoTracker", "preset": "default"}}).eval()
    assert model.tracker.uses_picture  # a cut is noticed, as by MasaTracker
    assert not MODELS.build({"type": "MasaTaoTracker", "preset": "demo"}).uses_picture
    picture = scenery()[:96, :128]
    cv2.imwrite(str(tmp_path / "0.png"), picture)
    facts = {"ori_shape": (96, 128), "img_shape": (192, 256), "scale_factor": (2.0, 2.0), "video_id": 1}
    image = torch.from_numpy(cv2.resize(picture, (256, 192))[..., ::-1].transpose(2, 0, 1).copy())[None].float()
    before: Any = model.data_preprocessor
    inputs = (image - before.mean) / before.std
    for number, path in ((0, tmp_path / "0.png"), (1, tmp_path / "nowhere.png")):
        sample = DetDataSample(metainfo={**facts, "frame_id": number, "img_path": str(path)})
        sample.det_bboxes, sample.det_labels = torch.tensor([[20.0, 20, 60, 70, 0.9]]), torch.zeros(1)
        with torch.no_grad():
            model.predict(inputs[:, None], [[sample]])
        grey = model.tracker._thumbnail.grey
        whole = cv2.resize(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), (48, 27), interpolation=cv2.INTER_AREA)
        assert np.abs(grey - whole).mean() < (1 if number == 0 else 4)


def videos(folder: Path, times: list[Any] | None) -> Path:
    size = {"width": 128, "height": 96}
    images = [{"id": n, "video_id": 1, "frame_id": n + 1, "file_name": f"v/{n}.png", **size} for n in range(4)]
    for image, time in zip(images, times or [], strict=False):
        image["timestamp"] = time
    box = {"category_id": 1, "track_id": 1, "bbox": [20, 20, 40, 50]}
    truth = {
        "videos": [{"id": 1, "name": "v", "fps": 5}],
        "categories": [{"id": 1, "name": "cat"}],
        "images": images,
        "annotations": [{**box, "id": n, "image_id": n} for n in range(4)],
    }
    (folder / "truth.json").write_text(json.dumps(truth))
    return folder / "truth.json"


def test_timestamps_of_a_file_must_grow(tmp_path: Path) -> None:
    config = {"type": "CocoVidDataset", "pipeline": [], "ann_file": str(tmp_path / "truth.json")}
    videos(tmp_path, [0, 0.5, 1.5, 2])
    images = DATASETS.build(config).get_data_info(0)["images"]
    assert [image["timestamp"] for image in images] == [0, 0.5, 1.5, 2]
    for times in ([0, 1, 1, 2], [0, 1], [0, 1, 2, "3"]):
        videos(tmp_path, times)
        with pytest.raises(InputError, match="timestamp must be seconds that grow from image to image"):
            DATASETS.build(config)


@pytest.mark.slow
def test_a_pipeline_as_the_authors_have_it_passes_frame_rate_and_timestamps_on(tmp_path: Path) -> None:
    (tmp_path / "images" / "v").mkdir(parents=True)
    for number in range(4):
        cv2.imwrite(str(tmp_path / "images" / "v" / f"{number}.png"), scenery()[:96, :128])
    box = np.array([[20, 20, 60, 70]] * 4, float)
    names = [f"{number}.png" for number in range(4)]
    write_npz(tmp_path / "v.npz", np.arange(1, 5), box, np.ones(4), np.zeros(4), names, ["cat"])
    config = f"""
_base_ = {str(ROOT / "configs/mmdet/tao_r50.py")!r}
model = dict(_delete_=True, type="MASA", network="nano", public_det_path={str(tmp_path / "v.npz")!r},
             tracker=dict(type="MasaTaoTracker", preset="default"))
test_pipeline = [
    dict(type="TransformBroadcaster", transforms=[
        dict(type="LoadImageFromFile"), dict(type="Resize", scale=(192, 192), keep_ratio=True),
        dict(type="LoadTrackAnnotations")]),
    dict(type="PackTrackInputs"),
]
test_dataloader = dict(num_workers=0, dataset=dict(ann_file={str(tmp_path / "truth.json")!r},
    data_prefix=dict(img_path={str(tmp_path / "images")!r}), pipeline=test_pipeline))
test_evaluator = dict(metric=["CLEAR"])
"""
    (tmp_path / "config.py").write_text(config)
    switches = {}
    for name, times in (("none", None), ("far", [0, 0.2, 9000, 9000.2])):
        videos(tmp_path, times)
        assert run_tool(tmp_path / "config.py", "--work-dir", tmp_path / name) == 0
        switches[name] = json.loads((tmp_path / name / "tracks" / "scores.json").read_text())["switches"]
    assert switches == {"none": 0, "far": 1}  # after hours an object is another one
