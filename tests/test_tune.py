"""`masa-track tune`: it finds what a bad preset hides, and what it prints can be used."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from masa_track.association import FusedAssociator
from masa_track.cli.main import main
from masa_track.evaluation import MotRows
from masa_track.pipeline.tuning import EmbeddedSequence, embed_sequence, score, search


class Grey:
    def embed(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        return np.ones((len(boxes), 4), np.float32)


def sequence(scores: float) -> EmbeddedSequence:
    """Three that walk, by a detector that gives all its boxes the same score."""
    frames, rows = [], []
    for number in range(1, 41):
        boxes = np.array(
            [[50 * n + 2 * number, 60 * n, 50 * n + 2 * number + 20, 60 * n + 40] for n in range(3)], float
        )
        frames.append((number, boxes, np.full(3, scores), np.ones((3, 4), np.float32)))
        rows += [[number, n, *boxes[n]] for n in range(3)]
    table = np.array(rows)
    xywh = np.concatenate((table[:, 2:4] + 1, table[:, 4:6] - table[:, 2:4]), axis=1)
    truth = MotRows(table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), xywh)
    return EmbeddedSequence("walk", 25.0, (320, 240), frames, truth)


@pytest.mark.slow
def test_the_search_finds_the_detectors_threshold() -> None:
    doubtful = [sequence(0.45)]  # below the preset's threshold for new tracks
    before, best, options = search(doubtful, "idf1", 15, [1], 0)
    assert before == 0
    assert best > 0.9
    assert options["track_activation_threshold"] < 0.45
    assert score(doubtful, "idf1", [1], options) == pytest.approx(best)
    FusedAssociator(**options)


@pytest.mark.slow
def test_a_good_preset_is_left_alone() -> None:
    before, best, options = search([sequence(1.0)], "idf1", 2, [1, 5], 0)
    assert before == best == 1.0
    assert options == {}


def test_a_folder_is_embedded(tmp_path: Path) -> None:
    folder = tmp_path / "walk"
    for part in ("img1", "gt", "det"):
        (folder / part).mkdir(parents=True)
    for number in (1, 2, 3):
        cv2.imwrite(str(folder / "img1" / f"{number:06d}.jpg"), np.zeros((60, 80, 3), np.uint8))
    (folder / "gt" / "gt.txt").write_text("1,1,11,11,20,30,1,1,1\n2,1,11,11,20,30,1,1,1\n3,1,11,11,20,30,1,1,1\n")
    (folder / "det" / "det.txt").write_text("1,-1,11,11,20,30,0.9,-1,-1,-1\n3,-1,11,11,20,30,0.8,-1,-1,-1\n")
    made = embed_sequence(folder, "det", Grey())
    assert [(number, boxes.tolist()) for number, boxes, _, _ in made.frames] == [
        (1, [[10, 10, 30, 40]]),
        (2, []),
        (3, [[10, 10, 30, 40]]),
    ]
    assert made.size == (80, 60)
    assert score([made], "idf1", [2], {"sure_score": 0.5, "confirm_seconds": 0.0}) == 1.0


def test_distractors_are_removed_by_the_rules(tmp_path: Path) -> None:
    """A detector's boxes on a reflection (class 12) are no false positives under the rules of MOT17."""
    folder = tmp_path / "MOT17-02-FRCNN"
    for part in ("img1", "gt", "det"):
        (folder / part).mkdir(parents=True)
    gt, det = [], []
    for number in range(1, 7):
        cv2.imwrite(str(folder / "img1" / f"{number:06d}.jpg"), np.zeros((60, 80, 3), np.uint8))
        gt += [f"{number},1,11,11,20,30,1,1,1", f"{number},2,51,11,20,30,0,12,1"]
        det += [f"{number},-1,11,11,20,30,0.9,-1,-1,-1", f"{number},-1,51,11,20,30,0.9,-1,-1,-1"]
    (folder / "gt" / "gt.txt").write_text("\n".join(gt))
    (folder / "det" / "det.txt").write_text("\n".join(det))
    options = {"sure_score": 0.5, "confirm_seconds": 0.0}
    scores = {rules: score([embed_sequence(folder, "det", Grey(), rules)], "mota", [1], options)
              for rules in ("auto", "mot17", "none")}  # fmt: skip
    assert scores == {"auto": 1.0, "mot17": 1.0, "none": 0.0}


def test_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", str(tmp_path), "--trials", "0"]) == 2
    assert "--trials must be 1 or more, got 0" in capsys.readouterr().err
    assert main(["tune", str(tmp_path), "--json", str(tmp_path / "no" / "x.json")]) == 2
    assert "there is no" in capsys.readouterr().err
    assert main(["tune", str(tmp_path)]) == 2
    assert "SEQUENCE must have gt/gt.txt" in capsys.readouterr().err
    assert main(["tune", str(tmp_path), "--rules", "mot18"]) == 2
    assert "mot17" in capsys.readouterr().err
