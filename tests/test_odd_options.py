"""Odd options and weights: each is refused in one line."""

from __future__ import annotations

import os
import pickle
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import masa_track
from masa_track.association import any_options_of
from masa_track.cli.main import main
from masa_track.errors import InputError, first_line, missing_extra
from masa_track.models.checkpoints import read_checkpoint
from masa_track.registry import spec_of

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--max-frames", "9" * 30], "--max-frames must be 2147483647 or less"),
        (["--max-frames", "0"], "--max-frames must be 1 or more, got 0"),
        (["--stride", "9" * 30], "--stride must be 2147483647 or less"),
        (["--set", "views=1000000000"], "views must be at most 1000"),
        (["--set", "views=1000000000", "--preset", "appearance"], "views must be at most 1000"),
        (["--set", f"first_id={2**63 - 1}"], "first_id must be at most 4503599627370496"),
        (["--set", f"first_id={2**63 - 1}", "--preset", "tao"], "first_id must be at most 4503599627370496"),
        (["--set", "x=" + "-" * 5_000], "--set takes OPTION=VALUE of at most 200 characters"),
        (["--set", "views=" + "(" * 150], "views must be a whole number"),
        (["--set", "fps={[]: 1}"], "fps must be a finite number"),
        (["--class-groups", "car;;dog"], '--class-groups must be classes separated by "," and groups'),
        (["--class-groups", "car;cars"], "unknown class in --class-groups 'cars': did you mean 'car'?"),
        (["--class-groups", "0,0"], "class_groups must hold each class once, got 0 more than once"),
        (["--class-groups", "0", "--preset", "tao"], "--class-groups needs --preset default, got tao"),
        (["--device", "meta"], "device 'meta' cannot be used here"),
    ],
)
def test_an_odd_option_is_refused(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import cv2

    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((48, 64, 3), np.uint8))
    assert main(["track", str(tmp_path / "1.png"), "--out", str(tmp_path / "out"), *options]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("loading model")]
    assert message in said[0]
    assert len(said) == 1
    assert len(said) < 400
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "command",
    [
        ["eval", "gt.txt", "tracks.txt", "--stride", "9" * 30],
        ["proposals", "x", "--method", "superpixels", "--out", "y", "--workers", "9" * 30],
        ["proposals", "x", "--method", "superpixels", "--out", "y", "--max-images", "0"],
        ["tune", "x", "--trials", "9" * 30],
        ["tune", "x", "--strides", "1", "0"],
        ["tune", "x", "--seed", "-1"],
    ],
)
def test_counts_of_every_command(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command) == 2
    assert f"{command[-2 if command[-2].startswith('--') else -3]} must be" in capsys.readouterr().err


def test_numpy_numbers_are_whole_numbers_too() -> None:
    assert any_options_of("default", views=np.int64(3)).views == 3


# ---------------------------------------------------------------------------------------------------------------------
# Weights


class Evil:
    def __reduce__(self) -> Any:
        return os.system, ("touch run-by-a-pickle",)


@pytest.mark.parametrize("form", ["zip", "old", "bare"])
def test_a_checkpoint_with_code_is_refused_without_bad_advice(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.pth"
    if form == "bare":
        path.write_bytes(pickle.dumps(Evil(), protocol=2))
    else:
        torch.save({"state_dict": {"a": Evil()}}, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(
        InputError, match=r"evil\.pth is refused: it names posix\.system.*nothing of it was run"
    ) as told:
        read_checkpoint(path)
    assert "weights_only" not in str(told.value)
    assert "download it again" not in str(told.value)
    assert not (tmp_path / "run-by-a-pickle").exists()


def test_a_damaged_checkpoint_never_gives_anything_else(tmp_path: Path) -> None:
    import random

    rng = random.Random(0)
    for zipped in (True, False):
        torch.save({"state_dict": {"a": torch.zeros(8)}}, tmp_path / "x", _use_new_zipfile_serialization=zipped)
        whole = (tmp_path / "x").read_bytes()
        for _ in range(150):
            content = bytearray(whole)
            content[rng.randrange(len(content))] = rng.randrange(256)
            (tmp_path / "x.pth").write_bytes(content)
            with suppress(InputError):
                read_checkpoint(tmp_path / "x.pth")


def test_weights_that_are_no_numbers(tmp_path: Path) -> None:
    tensors = load_file(spec_of("nano").weights)
    key = next(key for key, value in tensors.items() if value.is_floating_point() and value.numel() > 1)
    tensors[key] = torch.full_like(tensors[key], float("nan"))
    save_file(tensors, tmp_path / "nan.safetensors", {"model": "nano"})
    with pytest.raises(InputError, match=r"nan\.safetensors: the weights .* hold NaN or infinite numbers"):
        masa_track.load(tmp_path / "nan.safetensors", device="cpu")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nano", "nano-untrained"])
@pytest.mark.parametrize("dtype", ["float32", pytest.param("float16", marks=pytest.mark.slow), "bfloat16"])
def test_every_shipped_model_in_every_type(name: str, dtype: str) -> None:
    frame = np.random.default_rng(0).integers(0, 255, (96, 128, 3), np.uint8)
    boxes = np.array([[10, 10, 50, 80], [60, 5, 120, 90], [-20, -20, 30, 30]], np.float32)
    model = masa_track.load(name, device="cpu", dtype=dtype)
    found = model.embed(frame, boxes)
    exact = masa_track.load(name, device="cpu").embed(frame, boxes)
    cosines = (found * exact).sum(axis=1) / np.linalg.norm(found, axis=1) / np.linalg.norm(exact, axis=1)
    assert found.dtype == np.float32
    assert cosines.min() > 0.97
    if model.finds_boxes:
        found_boxes, scores = model.detect(frame)
        assert np.isfinite(found_boxes).all()
        assert np.isfinite(scores).all()


def test_a_damaged_transformers_detector(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    from masa_track.detectors import open_detector

    config = transformers.YolosConfig(
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
        image_size=[32, 32],
        patch_size=16,
    )
    transformers.YolosForObjectDetection(config).save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-200])
    with pytest.raises(InputError, match=r"detector 'transformers:.*' cannot be loaded"):
        open_detector(f"transformers:{tmp_path}", "cpu")


# ---------------------------------------------------------------------------------------------------------------------
# Missing packages


def test_masks_without_segment_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import cv2

    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((48, 64, 3), np.uint8))
    monkeypatch.setitem(sys.modules, "segment_anything", None)
    options = ["--masks", "sam.pth", "--detector", "motion", "--out", str(tmp_path / "out")]
    assert main(["track", str(tmp_path / "1.png"), *options]) == 2
    assert 'segment-anything is needed for --masks: run `pip install ".[sam]"` in a checkout' in capsys.readouterr().err


def test_nothing_advises_to_install_the_project_by_name() -> None:
    """Anybody may register that name at an index: what is installed then is theirs."""
    assert 'pip install ".[sam]"` in a checkout of masa-track' in str(missing_extra("segment-anything", "sam"))
    files = [ROOT / "setup.py", *(ROOT / "masa_track").rglob("*.py"), *(ROOT / "tools").glob("*")]
    for path in files:
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            assert "masa-track[" not in text, path
            assert "pip install masa-track" not in text, path


def test_an_error_without_words_has_a_first_line() -> None:
    assert first_line(KeyError()) == "KeyError"
    assert first_line(ValueError("\none\ntwo")) == "one"
