"""tools/bench_camera.py: a real clip seen through a moving window, whose motion is known."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import supervision as sv

from masa_track import MasaTracker
from masa_track.errors import InputError
from masa_track.evaluation import score_sequences
from masa_track.video.camera_motion import CameraMotion

pytestmark = pytest.mark.slow  # together they take seconds

TOOLS = Path(__file__).resolve().parents[1] / "tools"


class Alike:
    """A model that gives all boxes the same embedding."""

    def embed(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        return np.ones((len(boxes), 4), np.float32)


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(TOOLS))  # it imports its neighbour
    return importlib.import_module("bench_camera")


@pytest.mark.shared_data
@pytest.mark.parametrize("path", ["stands", "sweeps fast", "shakes"])
def test_the_window_moves_as_the_camera_is_found_to(tool: Any, mot15: Path, path: str) -> None:
    """On real pictures, in which people walk: the window's corners go where the estimate says."""
    camera, last, moved = CameraMotion(), None, []
    for number, image, boxes, ids, at in tool.views(mot15 / "TUD-Campus", path, 3):
        height, width = image.shape[:2]
        assert (width, height) == (427, 320)
        assert len(boxes) == len(set(ids.tolist())) > 0
        assert (boxes >= 0).all()
        assert (boxes <= [width, height, width, height]).all()
        affine = camera.estimate(image, boxes)
        if last is not None:
            assert affine is not None, number
            corners = np.array([[0, 0], [width, 0], [0, height], [width, height]], np.float64)
            np.testing.assert_allclose(corners @ affine[:, :2].T + affine[:, 2], corners - (at - last), atol=1)
            moved.append(np.abs(at - last).max())
        last = at
    assert len(moved) == 23
    assert (max(moved) > 20) == (path != "stands")


@pytest.mark.shared_data
def test_taking_it_into_account_gains(tool: Any, mot15: Path) -> None:
    """Motion alone, a fast sweep: .98 and .67 when this was written."""
    idf1 = {}
    for follow in (False, True):
        tracker = MasaTracker(Alike(), camera_motion=follow, use_appearance=False, fps=25.0)
        truth, tracks = [], []
        for number, image, boxes, ids, _ in tool.views(mot15 / "TUD-Campus", "sweeps fast", 1):
            order = np.random.default_rng(number).permutation(len(boxes))  # true boxes come sorted by identity
            got = tracker.update(sv.Detections(boxes[order]), image).tracker_id
            truth.append((number, ids, boxes))
            tracks.append((number, got, boxes[order]))
        score = score_sequences({"clip": (tool.tracks_of(truth), tool.tracks_of(tracks))})
        idf1[follow] = score.combined.idf1
    assert idf1[True] > 0.95
    assert idf1[False] < 0.8


@pytest.mark.shared_data
def test_a_clip_without_pictures(tool: Any, shared: Path) -> None:
    with pytest.raises(InputError, match="Venice-2 has no pictures"):
        next(tool.views(shared / "clips" / "mot15_gt_only" / "Venice-2", "stands", 1))
