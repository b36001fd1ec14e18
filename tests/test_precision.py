"""`--precision` and `--half`: which networks compute in half precision, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from masa_track.cli.main import main
from masa_track.detectors.coco import CocoDetector
from masa_track.errors import InputError
from masa_track.models.devices import mixed_precision

PICTURE = cv2.resize(np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8), (160, 120))


@pytest.fixture
def clip(tmp_path: Path) -> list[str]:
    """The arguments of a run on three frames with a box each."""
    (tmp_path / "frames").mkdir()
    for number in range(1, 4):
        cv2.imwrite(str(tmp_path / "frames" / f"{number}.png"), np.roll(PICTURE, number, axis=1))
    (tmp_path / "det.txt").write_text("".join(f"{n},-1,{21 + n},21,60,60,0.9,-1,-1,-1\n" for n in range(1, 4)))
    boxes = ["--detections", str(tmp_path / "det.txt"), "--device", "cpu", "--no-video"]
    return ["track", str(tmp_path / "frames"), *boxes, "--out", str(tmp_path / "out")]


@pytest.mark.slow
def test_bfloat16_on_a_cpu(clip: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from masa_track.encoders.embedder import Embedder

    dtypes = []
    embed = Embedder._embed
    monkeypatch.setattr(Embedder, "_embed", lambda self, *rest: dtypes.append(self.dtype) or embed(self, *rest))
    assert main([*clip, "--precision", "bf16"]) == 0
    assert set(dtypes) == {torch.bfloat16}
    assert len(json.loads((tmp_path / "out" / "tracks.json").read_text())["annotations"]) == 3
    page = (tmp_path / "out" / "report.html").read_text()
    assert "precision" in page
    assert "bf16" in page


@pytest.mark.parametrize("options", [["--half"], ["--precision", "fp16"]])
def test_float16_needs_a_gpu(options: list[str], clip: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*clip, *options]) == 2
    said = capsys.readouterr().err
    assert "--precision fp16 (--half) needs a GPU, but the device is cpu: use --precision bf16" in said
    assert "loading model" not in said


def test_two_precisions_are_refused(clip: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*clip, "--half", "--precision", "bf16"])
    assert "not allowed with argument" in capsys.readouterr().err


@pytest.mark.slow
def test_a_detector_of_torchvision() -> None:
    torch.manual_seed(0)
    detector = CocoDetector("ssdlite320_mobilenet_v3_large", "cpu", pretrained=False, precision="bf16")
    dtypes = []
    detector._network.head.register_forward_hook(lambda module, inputs, out: dtypes.append(out["cls_logits"].dtype))
    found = detector.detect([PICTURE])[0]
    assert dtypes == [torch.bfloat16]
    assert found.xyxy.dtype == np.float32
    with pytest.raises(InputError, match="precision fp16 needs a GPU"):
        CocoDetector("ssdlite320_mobilenet_v3_large", "cpu", pretrained=False, precision="fp16")


def test_names() -> None:
    with pytest.raises(InputError, match="did you mean 'fp16'"):
        mixed_precision(torch.device("cpu"), "fp8")
    with mixed_precision(torch.device("cpu"), None):
        assert torch.mm(torch.ones(2, 2), torch.ones(2, 2)).dtype == torch.float32
    with mixed_precision(torch.device("cpu"), "bf16"):
        assert torch.mm(torch.ones(2, 2), torch.ones(2, 2)).dtype == torch.bfloat16


def test_ultralytics_has_no_bfloat16() -> None:
    from masa_track.detectors.yolo import YoloDetector

    with pytest.raises(InputError, match="computes in fp32 or fp16, got precision bf16"):
        YoloDetector("yolo11n.pt", "cpu", precision="bf16")
