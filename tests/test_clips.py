"""Real clips: what `tools/score_clips.py` measures, held to the figures that untrained features are known to reach."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from masa_track.cli.main import main

# IDF1 with true boxes at stride 10; a motion-only tracker reaches .41, .24 and .18.
FLOORS = {"TUD-Campus": 0.70, "PETS09-S2L1": 0.54, "PETS09-S3-MF1": 0.57}


@pytest.mark.slow
@pytest.mark.shared_data
@pytest.mark.parametrize("name", FLOORS)
def test_true_boxes_at_stride_10(name: str, mot15: Path, tmp_path: Path) -> None:
    clip = mot15 / name
    source = clip / "vtest.avi" if name == "PETS09-S2L1" else clip
    out, scores = tmp_path / "out", tmp_path / "scores.json"
    truth = str(clip / "gt" / "gt.txt")
    assert main(["track", str(source), "--detections", truth, "--stride", "10", "--no-video", "--out", str(out)]) == 0
    assert main(["eval", str(clip), str(out), "--stride", "10", "--json", str(scores)]) == 0
    assert json.loads(scores.read_text())["combined"]["idf1"] >= FLOORS[name]
