"""Our embeddings in roboflow's trackers 2.0; see ``tests/test_peers_roboflow.py``."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import supervision as sv

from masa_track import load
from masa_track.adapters.roboflow import FeatureExtractor

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import bench_adapters

SHARED = Path(__file__).resolve().parents[3] / "shared"


def test_the_slot() -> None:
    frame = np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)
    boxes = sv.Detections(np.array([[5, 5, 60, 100], [70, 20, 150, 110]], np.float32))
    nano = load("nano", device="cpu")
    extractor = FeatureExtractor(nano)
    features = extractor.extract_features(boxes, frame)
    assert features.dtype == np.float32
    assert np.allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)
    plain = nano.embed(frame, boxes.xyxy)
    assert np.allclose(features, plain / np.linalg.norm(plain, axis=1, keepdims=True), atol=1e-5)
    assert np.array_equal(extractor.extract_features(frame, boxes), features)  # the order of trackers 2.0
    empty = extractor.extract_features(sv.Detections.empty(), frame)
    assert empty.shape == (0, 0)
    assert empty.dtype == np.float32


@pytest.mark.shared_data
def test_gain() -> None:
    clip = SHARED / "clips" / "mot15" / "TUD-Campus"
    without, ours = bench_adapters.both("roboflow", clip, 10, load("nano", device="cpu"))
    assert ours >= without + 0.4, (without, ours)  # tools/bench_adapters.py measured .64
