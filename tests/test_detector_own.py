"""`--detector own`: the boxes of an official model's own head, tracked; and `--text`'s refusals."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import masa_track
from masa_track import registry
from masa_track.cli.main import main
from masa_track.detectors.own import OwnDetector
from masa_track.errors import InputError


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """R50 with random weights, as a converted file."""
    torch.manual_seed(0)
    network = registry.build_model("r50")
    with torch.no_grad():
        network.roi_head.bbox_head.fc_cls.bias[0] += 0.5
    path = tmp_path_factory.mktemp("weights") / "r50.safetensors"
    tensors = {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    save_file(tensors, path, {"model": "r50"})
    return path


@pytest.fixture(autouse=True)
def _small_input(monkeypatch):
    spec = registry.spec_of("r50")
    small = replace(spec.preprocessing, long_side=128, short_side=128)
    monkeypatch.setitem(registry._MODELS, "r50", replace(spec, preprocessing=small))


@pytest.mark.slow
def test_everything_is_tracked_from_the_command_line(weights, tmp_path):
    frames = tmp_path / "frames"
    frames.mkdir()
    picture = cv2.resize(np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8), (160, 120))
    for index in range(3):
        cv2.imwrite(str(frames / f"{index:03}.png"), picture)
    out = tmp_path / "out"
    options = ["--detector", "own", "--model", str(weights), "--out", str(out), "--no-video", "--device", "cpu"]
    options += ["--preset", "appearance"]  # whose tracks start at low scores
    assert main(["track", str(frames), *options]) == 0
    assert "r50.safetensors" in (out / "report.html").read_text()  # whose weights these are
    rows = np.loadtxt(out / "tracks.txt", delimiter=",", ndmin=2)
    first, second = rows[rows[:, 0] == 1], rows[rows[:, 0] == 2]
    assert len(first) > 3
    np.testing.assert_array_equal(first[:, 2:], second[:, 2:])  # the same picture, the same boxes
    assert set(first[:, 1]) == set(second[:, 1])  # and the same identities
    assert (rows[:, 2:4] >= -1).all()
    assert (rows[:, 2] + rows[:, 4] <= 162).all()


@pytest.mark.slow
def test_threshold_and_class(weights):
    model = masa_track.load(weights, device="cpu")
    frame = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    everything = OwnDetector(model, threshold=0.0).detect([frame])[0]
    assert len(everything) > 3
    assert (everything.class_id == 0).all()
    middle = float(np.median(everything.confidence))
    fewer = OwnDetector(model, threshold=middle).detect([frame])[0]
    assert len(fewer) == (everything.confidence >= middle).sum() < len(everything)
    with pytest.raises(InputError, match=r"'nano-untrained' finds no boxes itself.*--model that does: nano"):
        OwnDetector(masa_track.load("nano-untrained", device="cpu"))


@pytest.mark.slow
def test_command_line_refuses_what_cannot_be(weights, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((20, 30, 3), np.uint8))
    start = ["track", str(tmp_path / "a.png"), "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert main([*start, "--detector", "own", "--model", "nano-untrained"]) == 2
    assert "'nano-untrained' finds no boxes itself" in capsys.readouterr().err
    assert main([*start, "--text", "a dog", "--model", str(weights)]) == 2
    assert "backbone of Grounding DINO, gdino-swinb, got 'r50'" in capsys.readouterr().err
