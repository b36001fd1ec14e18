"""mmdet's results and detectors, with the real mmdet: official configurations, made small, with random weights.

In the environment of tools/test.sh; see conftest.py.
"""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import mmdet
import numpy as np
import pytest
import torch

from masa_track import MasaTracker
from masa_track.cli.main import main
from masa_track.detectors import open_detector
from masa_track.errors import InputError
from masa_track.formats.results import to_detections

OFFICIAL = Path(mmdet.__file__).parent / ".mim" / "configs"
RNG = np.random.default_rng(0)
FRAME = cv2.resize(RNG.integers(0, 255, (12, 16, 3)).astype(np.uint8), (160, 120), interpolation=cv2.INTER_CUBIC)
CONFIGS = ["retinanet/retinanet_r18_fpn_1x_coco.py", "mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py"]


@pytest.fixture(scope="module", params=CONFIGS, ids=["boxes", "masks"])
def files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A configuration and a checkpoint of random weights, as mmdet writes them."""
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules
    from mmengine.config import Config

    register_all_modules()
    config = Config.fromfile(str(OFFICIAL / request.param))
    config.model.backbone.update(depth=18, init_cfg=None)
    config.model.neck.in_channels = [64, 128, 256, 512]
    test = config.model.test_cfg
    test.get("rcnn", test).update(score_thr=0.0, max_per_img=8)
    for step in config.test_dataloader.dataset.pipeline:
        if step["type"] == "Resize":
            step["scale"] = (160, 120)
    folder = tmp_path_factory.mktemp("mmdet")
    config.dump(str(folder / "config.py"))
    torch.manual_seed(0)
    network = MODELS.build(config.model)
    names = [f"thing {index}" for index in range(80)]
    content = {"state_dict": network.state_dict(), "meta": {"dataset_meta": {"classes": names}}}
    torch.save(content, folder / "weights.pth")
    return str(folder / "config.py"), str(folder / "weights.pth")


def test_results_go_into_update(files: tuple[str, str]) -> None:
    from mmdet.apis import inference_detector, init_detector

    result = inference_detector(init_detector(*files, device="cpu"), FRAME)
    found = result.pred_instances
    assert 0 < len(found) <= 8
    tracked = MasaTracker(device="cpu").update(result, FRAME)
    assert np.array_equal(tracked.xyxy, found.bboxes.numpy())
    assert np.array_equal(tracked.confidence, found.scores.numpy())
    assert np.array_equal(tracked.class_id, found.labels.numpy())
    assert tracked.tracker_id.shape == (len(found),)
    if "masks" in found:
        assert np.array_equal(tracked.mask, found.masks.numpy())
        assert tracked.mask.shape == (len(found), 120, 160)


def test_precisions_that_are_refused(files: tuple[str, str]) -> None:
    for precision, said in (("bf16", "mmdet computes in fp32 or fp16"), ("fp16", "precision fp16 needs a GPU")):
        with pytest.raises(InputError, match=said):
            open_detector(f"mmdet:{files[0]}:{files[1]}", "cpu", precision=precision)


def test_tracked_results_and_other_masks() -> None:
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    masks = np.zeros((2, 120, 160), np.uint8)
    masks[0, 5:20, 5:20] = 1
    found = InstanceData(bboxes=torch.tensor([[5.0, 5, 20, 20], [30, 30, 60, 60]]), scores=torch.tensor([0.9, 0.8]))
    found.labels, found.instances_id = torch.tensor([3, 1]), torch.tensor([7, 9])
    found.masks = BitmapMasks(masks, 120, 160)
    sample = DetDataSample(pred_track_instances=found)
    given = to_detections(sample)
    assert given.tracker_id.tolist() == [7, 9]
    assert given.class_id.tolist() == [3, 1]
    assert np.array_equal(given.mask, masks.astype(bool))
    assert MasaTracker(device="cpu").update(sample, FRAME).tracker_id.tolist() == [1, 2]  # ours
    empty = DetDataSample(pred_instances=found[torch.zeros(2, dtype=torch.bool)])
    assert len(MasaTracker(device="cpu").update(empty, FRAME)) == 0


def test_detector(files: tuple[str, str]) -> None:
    detector = open_detector("mmdet:" + ":".join(files), "cpu")
    assert detector.class_names[79] == "thing 79"
    detector.threshold = 0.0
    found = detector.detect([FRAME])[0]
    assert len(found) > 1
    detector.threshold = middle = float(np.median(found.confidence))
    assert len(detector.detect([FRAME])[0]) == (found.confidence >= middle).sum()


def test_command(files: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from masa_track.detectors.mm import MmdetDetector

    monkeypatch.setattr(MmdetDetector.__init__, "__defaults__", (None, 0.0, None))  # random weights score low
    for number in range(2):
        cv2.imwrite(str(tmp_path / f"{number}.png"), FRAME)
    arguments = ["--detector", "mmdet:" + ":".join(files), "--no-video", "--device", "cpu"]
    arguments += ["--set", "track_activation_threshold=0", "--set", "object_score_threshold=0"]
    assert main(["track", str(tmp_path / "*.png"), *arguments, "--out", str(tmp_path / "out")]) == 0
    content = json.loads((tmp_path / "out" / "tracks.json").read_text())
    assert content["annotations"]
    assert all(row["name"].startswith("thing ") for row in content["categories"])


def test_no_such_file(files: tuple[str, str], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be loaded"):
        open_detector(f"mmdet:{files[0]}:{tmp_path / 'nothing.pth'}")
