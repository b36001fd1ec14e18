"""ultralytics' results, detectors and trackers; see ``tests/test_peers_ultralytics.py``."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from ultralytics import YOLO
from ultralytics.utils import YAML
from ultralytics.utils.checks import check_yaml

from masa_track import MasaTracker, load
from masa_track.adapters.ultralytics import use_embeddings
from masa_track.cli.main import main
from masa_track.detectors import open_detector
from masa_track.errors import InputError

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import bench_adapters

SHARED = Path(__file__).resolve().parents[3] / "shared"
RNG = np.random.default_rng(0)
FRAME = cv2.resize(RNG.integers(0, 255, (12, 16, 3)).astype(np.uint8), (320, 240), interpolation=cv2.INTER_CUBIC)


def eager(yolo: YOLO) -> YOLO:
    """Random weights find nothing; this makes every class score near .5, so that something is found."""
    for branch in yolo.model.model[-1].cv3:
        torch.nn.init.zeros_(branch[-1].bias)
    yolo.model.names = {index: f"thing {index}" for index in range(80)}
    return yolo


@pytest.fixture(scope="module", params=["yolo11n", "yolo11n-seg"])
def weights(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as ultralytics saves it, of random weights."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("yolo") / f"{request.param}.pt"
    eager(YOLO(f"{request.param}.yaml")).save(path)
    return path


def test_results_go_into_update(weights: Path) -> None:
    (result,) = YOLO(weights).predict(FRAME, conf=0.1, max_det=10, imgsz=320, verbose=False)
    assert 0 < len(result) <= 10
    tracker = MasaTracker(device="cpu")
    tracked = tracker.update(result, FRAME)
    assert np.array_equal(tracked.xyxy, result.boxes.xyxy.numpy())
    assert np.array_equal(tracked.confidence, result.boxes.conf.numpy())
    assert np.array_equal(tracked.class_id, result.boxes.cls.numpy())
    assert tracked.data["class_name"].tolist() == [result.names[int(c)] for c in result.boxes.cls]
    assert (tracked.mask is not None) == ("seg" in weights.name)
    assert tracked.tracker_id.shape == (len(result),)
    assert len(tracker.update([result[:0]], FRAME)) == 0


def test_detector(weights: Path) -> None:
    detector = open_detector(f"ultralytics:{weights}", "cpu")
    found = detector.detect(FRAME)
    again = YOLO(weights).predict(FRAME, conf=0.1, verbose=False)[0]
    assert len(found) == len(again) > 0
    assert np.allclose(found.xyxy, again.boxes.xyxy.numpy(), atol=1e-3)
    assert detector.class_names[79] == "thing 79"


def test_command(weights: Path, tmp_path: Path) -> None:
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), FRAME)
    arguments = ["--detector", f"ultralytics:{weights}", "--no-video", "--device", "cpu"]
    arguments += ["--preset", "appearance"]  # whose tracks start at low scores, too
    assert main(["track", str(tmp_path / "*.png"), *arguments, "--out", str(tmp_path / "out")]) == 0
    content = json.loads((tmp_path / "out" / "tracks.json").read_text())
    named = {category["id"]: category["name"] for category in content["categories"]}
    detector = open_detector(f"ultralytics:{weights}", "cpu")
    assert content["annotations"]
    assert {named[row["category_id"]] for row in content["annotations"]} <= set(detector.class_names.values())


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.pt' cannot be loaded"):
        open_detector(f"ultralytics:{tmp_path / 'nothing.pt'}")


def test_not_a_detector(tmp_path: Path) -> None:
    path = tmp_path / "cls.pt"
    YOLO("yolo11n-cls.yaml").save(path)
    with pytest.raises(InputError, match="must find boxes, but its task is 'classify'"):
        open_detector(f"ultralytics:{path}")


class Spy:
    """Counts what is embedded."""

    def __init__(self) -> None:
        self.counts: list[int] = []

    def embed(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        self.counts.append(len(boxes))
        return np.tile(np.float32([1, 2, 3, 4]), (len(boxes), 1))


def test_track_takes_our_embeddings(weights: Path, tmp_path: Path) -> None:
    settings = {**YAML.load(check_yaml("botsort.yaml")), "with_reid": True, "model": "auto", "gmc_method": "none"}
    YAML.save(tmp_path / "ours.yaml", settings)
    yolo, spy = YOLO(weights), Spy()
    use_embeddings(yolo, spy)
    for _ in range(2):
        (result,) = yolo.track(
            FRAME, persist=True, tracker=str(tmp_path / "ours.yaml"), conf=0.3, max_det=10, imgsz=320, verbose=False
        )
    assert len(spy.counts) == 2
    assert spy.counts[0] > 0
    assert len(result.boxes.id) > 0
    (tracker,) = yolo.predictor.trackers
    features = [track.smooth_feat for track in tracker.tracked_stracks]
    assert features
    assert all(np.allclose(feature, np.float32([1, 2, 3, 4]) / np.sqrt(30), atol=1e-5) for feature in features)


@pytest.mark.shared_data
def test_gain() -> None:
    clip = SHARED / "clips" / "mot15" / "TUD-Campus"
    without, ours = bench_adapters.both("ultralytics", clip, 10, load("nano", device="cpu"))
    assert ours >= without + 0.2, (without, ours)  # tools/bench_adapters.py measured .40


def test_a_damaged_ultralytics_file(tmp_path: Path) -> None:
    for i, content in enumerate((b"", b"hello", b"PK\x03\x04" + bytes(50), pickle.dumps({"model": 3}))):
        (tmp_path / f"{i}.pt").write_bytes(content)
        with pytest.raises(InputError, match=r"detector 'ultralytics:.*' cannot be loaded"):
            open_detector(f"ultralytics:{tmp_path / f'{i}.pt'}", "cpu")
