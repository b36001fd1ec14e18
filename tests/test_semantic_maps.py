"""Semantic maps as pictures."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import supervision as sv

from masa_track.contracts import Frame, FrameResult
from masa_track.pipeline.semantic_maps import SemanticMaps


def a_result(number: int, maps: dict[str, np.ndarray] | None) -> FrameResult:
    extras = {} if maps is None else {"semantic": maps}
    return FrameResult(Frame(number, 0.0, (64, 48)), sv.Detections.empty(), [], extras=extras)


def test_values_are_probabilities_in_the_frames_size(tmp_path: Path) -> None:
    logits = np.full((12, 16), -3.0, np.float32)
    logits[:, 8:] = 2.0
    SemanticMaps(tmp_path).write(a_result(7, {"dog": logits, "cat": np.full((12, 16), 1000.0, np.float32)}))
    dog = cv2.imread(str(tmp_path / "semantic" / "000007-0.png"), cv2.IMREAD_UNCHANGED)
    assert dog.shape == (48, 64)
    assert (dog[:, :28] == round(255 / (1 + np.exp(3)))).all()
    assert (dog[:, 36:] == round(255 / (1 + np.exp(-2)))).all()
    cat = cv2.imread(str(tmp_path / "semantic" / "000007-1.png"), cv2.IMREAD_UNCHANGED)
    assert (cat == 255).all()


def test_maps_of_an_earlier_run_are_kept_only_where_a_run_goes_on(tmp_path: Path) -> None:
    maps = {"dog": np.zeros((2, 2), np.float32)}
    SemanticMaps(tmp_path).write(a_result(1, maps))
    SemanticMaps(tmp_path, goes_on=True).write(a_result(2, maps))
    names = ["000001-0.png", "000002-0.png", "phrases.json"]
    assert sorted(path.name for path in (tmp_path / "semantic").iterdir()) == names
    SemanticMaps(tmp_path).write(a_result(3, None))
    assert not (tmp_path / "semantic").exists()


def test_without_phrases_json_pictures_are_not_ours(tmp_path: Path) -> None:
    (tmp_path / "semantic").mkdir()
    (tmp_path / "semantic" / "000001-0.png").write_text("mine")
    SemanticMaps(tmp_path).write(a_result(1, None))
    assert (tmp_path / "semantic" / "000001-0.png").read_text() == "mine"


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "semantic").write_text("a file")
    with pytest.raises(OSError, match="exists") as caught:
        SemanticMaps(tmp_path).write(a_result(1, {"dog": np.zeros((2, 2), np.float32)}))
    assert caught.value.filename == str(tmp_path / "semantic" / "phrases.json")
