"""What a plain `pip install .` can do: tools/test.sh runs this file in an environment that has no torch."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import supervision as sv

import masa_track
from masa_track.association.presets import PRESETS
from masa_track.cli.demo import demo_clip
from masa_track.cli.export import FORMATS
from masa_track.cli.main import main
from masa_track.errors import InputError
from masa_track.registry import EXTRAS

pytestmark = pytest.mark.skipif(
    find_spec("torch") is not None, reason="needs an environment without torch, which tools/test.sh makes"
)
FRAMES = 5


def command(*arguments: object) -> tuple[int, str, str]:
    """Exit status, output and errors of `masa-track`."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = main([str(argument) for argument in arguments])
    return status, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short demo with the model's own detector."""
    folder = tmp_path_factory.mktemp("demo")
    options = ["--detector", "own", "--max-frames", str(FRAMES), "--out", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "masa_track", "demo", *options], capture_output=True, text=True, cwd=sys.prefix
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def detections(run: Path) -> Path:
    """The demo's boxes as a file of detections."""
    rows = (run / "tracks.txt").read_text().splitlines()
    assert rows
    path = run / "det.txt"
    path.write_text("\n".join(re.sub(r"^(\d+),\d+,", r"\1,-1,", row) for row in rows))
    return path


@pytest.fixture(scope="module")
def nano() -> masa_track.encoders.base.BaseEmbedder:
    return masa_track.load("nano")


def test_the_installed_package_is_tested_and_no_extra_is_there() -> None:
    """Otherwise this file would show nothing."""
    assert Path(masa_track.__file__).is_relative_to(sys.prefix), "this is the checkout, not what pip installed"
    there = {module for modules in EXTRAS.values() for module in modules if find_spec(module) is not None}
    assert there == set()


def test_the_demo_as_it_is_names_what_it_finds(tmp_path: Path) -> None:
    status, _, errors = command("demo", "--max-frames", 25, "--out", tmp_path)
    assert status == 0, errors
    names = {name["name"] for name in json.loads((tmp_path / "tracks.json").read_text())["categories"]}
    assert "car" in names
    rows = (tmp_path / "tracks.csv").read_text()
    assert "car" in rows


def test_the_demo_makes_all_files(run: Path) -> None:
    for name in ("video.mp4", "report.html", "tracks.txt", "tracks.json", "tracks.csv"):
        assert (run / name).stat().st_size > 0, name
    assert len({row.split(",")[1] for row in (run / "tracks.txt").read_text().splitlines()}) >= 3


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_every_preset(preset: str, detections: Path, tmp_path: Path) -> None:
    options = ["--detections", detections, "--preset", preset, "--max-frames", FRAMES, "--no-video"]
    status, _, said = command("track", demo_clip(), *options, "--out", tmp_path)
    assert status == 0, said
    assert (tmp_path / "tracks.txt").read_text()


def test_motion_offline_and_camera_motion(detections: Path, tmp_path: Path) -> None:
    status, _, said = command(
        "track", demo_clip(), "--detector", "motion", "--max-frames", FRAMES, "--out", tmp_path / "motion"
    )
    assert status == 0, said
    options = ["--detections", detections, "--offline", "--camera-motion", "--max-frames", FRAMES]
    status, _, said = command("track", demo_clip(), *options, "--out", tmp_path / "offline")
    assert status == 0, said


@pytest.mark.parametrize("form", [name for name in FORMATS if name not in ("tao-results", "panoptic")])
def test_export(form: str, run: Path, tmp_path: Path) -> None:
    status, _, said = command("export", run, "--format", form, "--out", tmp_path / "out")
    assert status == 0, said
    assert (tmp_path / "out").stat().st_size > 0


def test_embeddings_and_boxes(nano: masa_track.encoders.base.BaseEmbedder) -> None:
    """The numbers of torch on the same picture, see tests/test_onnx.py, which compares all of them."""
    frame = np.indices((90, 160)).sum(0)[..., None].astype(np.uint8) * np.array([1, 2, 3], np.uint8)
    embeddings = nano.embed(frame, np.array([[10, 10, 60, 80], [50, 20, 150, 70]]))
    assert embeddings.shape == (2, nano.dimension)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 8, rtol=1e-5)
    boxes, scores = nano.detect(frame)
    assert len(boxes) == len(scores) > 0
    assert (np.diff(scores) <= 0).all()


def test_a_tracker_and_the_adapters(nano: masa_track.encoders.base.BaseEmbedder) -> None:
    from masa_track.adapters.boxmot import ReIDModel
    from masa_track.adapters.roboflow import FeatureExtractor

    frame = np.random.default_rng(0).integers(0, 255, (90, 160, 3), np.uint8)
    found = sv.Detections(np.array([[10.0, 10, 60, 80]]), confidence=np.array([0.99]), class_id=np.array([0]))
    tracker = masa_track.MasaTracker(nano)
    assert [tracker.update(found, frame).tracker_id.tolist() for _ in range(3)][-1] == [1]
    one, other = ReIDModel(nano).get_features(found.xyxy, frame), FeatureExtractor(nano).extract_features(found, frame)
    np.testing.assert_array_equal(one, other)
    assert np.linalg.norm(one) == pytest.approx(1)


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        ({"name_or_path": "nano-untrained"}, "torch"),
        ({"backend": "torch"}, "torch"),
        ({"dtype": "float16"}, "torch"),
        ({"checkpoint": "mine.safetensors"}, "torch"),
        ({"name_or_path": "r50"}, "torch,hub"),
        ({"name_or_path": "sam-vitb"}, "sam,hub"),
    ],
)
def test_load_names_the_command(arguments: dict[str, str], extra: str) -> None:
    with pytest.raises(InputError, match=rf'pip install "\.\[{extra}\]"'):
        masa_track.load(**arguments)


def test_commands_name_the_command(run: Path, tmp_path: Path) -> None:
    clip, out = demo_clip(), tmp_path / "out"
    (tmp_path / "photos").mkdir()
    sv.cv2_to_pillow(np.zeros((20, 20, 3), np.uint8)).save(tmp_path / "photos" / "a.png")
    cases = {
        "torch": [
            ["track", clip, "--model", "nano-untrained", "--out", out],
            ["track", clip, "--detector", "torchvision:fasterrcnn_resnet50_fpn_v2", "--out", out],
            ["track", clip, "--detector", "fasterrcnn_resnet50_fpn_v2", "--out", out],
            ["convert", tmp_path / "masa_r50.pth"],
        ],
        "onnx": [["convert", tmp_path / "mine.safetensors", tmp_path / "mine.onnx", "--to", "onnx"]],
        "sam": [
            ["track", clip, "--masks", "sam.pth", "--out", out],
            ["proposals", tmp_path / "photos", "--sam", "sam.pth", "--out", tmp_path / "regions.json"],
        ],
        "gdino": [["track", clip, "--model", "gdino-swinb", "--text", "a dog", "--out", out]],
        "transformers": [["track", clip, "--detector", "transformers:any/model", "--out", out]],
        "ultralytics": [["track", clip, "--detector", "ultralytics:yolo11n.pt", "--out", out]],
        "eval": [["eval", run / "tracks.txt", run / "tracks.txt"]],
    }
    for extra, commands in cases.items():
        for given in commands:
            status, _, said = command(*given)
            assert status == 2, (given, said)
            assert f'pip install ".[{extra}]"' in said, (given, said)
            assert "Traceback" not in said


def test_models_says_what_is_missing() -> None:
    listed = json.loads(command("models", "--json")[1])
    install = {model["name"]: model["install"] for model in listed}
    assert install["nano"] is None
    assert install["nano-untrained"] == 'pip install ".[torch]"'
    assert install["sam-vitb"] == 'pip install ".[sam,hub]"'
