"""The longer examples of the pages, run as they are there: each is a file of ``tests/examples``."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import supervision as sv

from masa_track import MasaTracker

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / "tests" / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_readme_or_docs_show_the_example_that_is_tested_once(path: Path) -> None:
    pages = [ROOT / "README.md", *(page for page in (ROOT / "docs").rglob("*.md") if "_build" not in page.parts)]
    blocks = [block for page in pages for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)]
    assert blocks.count(path.read_text()) == 1


def street() -> list[tuple[np.ndarray, sv.Detections]]:
    """Two objects that cross a line at y = 240, one downwards and one upwards, and one of a low score far away."""
    frames = []
    for k in range(20):
        down, up = 100 + 14 * k, 380 - 14 * k
        boxes = np.array([[50, down, 90, down + 30], [250, up, 290, up + 30], [500 - 4 * k, 20, 540 - 4 * k, 60]])
        frame = np.full((480, 640, 3), 90, np.uint8)
        for box, colour in zip(boxes, [(40, 40, 250), (40, 250, 40), (250, 40, 40)], strict=True):
            cv2.rectangle(frame, box[:2].tolist(), box[2:].tolist(), colour, -1)
        frames.append((frame, sv.Detections(boxes.astype(np.float32), confidence=np.array([0.9, 0.9, 0.2]))))
    return frames


@pytest.mark.slow
def test_supervision_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = street()
    writer = cv2.VideoWriter(str(tmp_path / "street.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 25, (640, 480))
    for frame, _ in frames:
        writer.write(frame)
    writer.release()
    monkeypatch.chdir(tmp_path)
    found = iter(detections for _, detections in frames)
    names = {"yolo": lambda frame: next(found)}
    exec(compile((ROOT / "tests/examples/supervision_tools.py").read_text(), "supervision_tools.py", "exec"), names)
    assert (names["line"].in_count, names["line"].out_count) == (1, 1)
    assert sorted(names["smoother"].tracks) == [1, 2]
    assert next(found, None) is None  # the whole video was read


def test_supervision_takes_rows_without_an_identity_for_one_object() -> None:
    """Why the example leaves them out: the two weak boxes become one in the middle between them."""
    boxes = np.array([[0, 0, 20, 20], [100, 100, 120, 120]], np.float32)
    tracked = MasaTracker(Flat()).update(sv.Detections(boxes, confidence=np.array([0.2, 0.2])), frames_of_black())
    assert tracked.tracker_id.tolist() == [-1, -1]
    assert sv.DetectionsSmoother().update_with_detections(tracked).xyxy.tolist() == [[50, 50, 70, 70]]


class Flat:
    """A model that gives all boxes the same embedding."""

    def embed(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        return np.ones((len(boxes), 4), np.float32)


def frames_of_black() -> np.ndarray:
    return np.zeros((120, 160, 3), np.uint8)
