"""Weights of SAM 3: folders in Hugging Face's form, gated names, files of other models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sam3_networks import detector_config, filled, network, tokenizer

pytest.importorskip("transformers")
import torch
from safetensors.torch import load_file, save_file

from masa_track.errors import InputError
from masa_track.masklets.sam3_weights import check_sam3, load_sam3

pytestmark = pytest.mark.slow  # transformers' SAM 3 takes seconds to import


@pytest.fixture
def copy(sam3_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sam3_folder, tmp_path / "copy"))


def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)


def found(model: Any) -> np.ndarray:
    return np.asarray(model.detect(model.encode([picture()])[0], "red car", least_score=-1).logits)


def test_a_folder(sam3_folder: Path) -> None:
    model = load_sam3(str(sam3_folder), "cpu")
    np.testing.assert_array_equal(found(model), found(network()))
    assert model.propagator().ids == []
    assert model.key.partition("@")[2] == network().key.partition("@")[2]
    detector = load_sam3(str(sam3_folder), "cpu", tracks=False)
    np.testing.assert_array_equal(found(detector), found(model))
    with pytest.raises(InputError, match=r"no propagator"):
        detector.propagator()
    with pytest.raises(InputError, match=r"at most 30 tokens"):
        model.check_phrase("car " * 40)
    load_sam3(str(sam3_folder), "cpu", truncate=True).check_phrase("car " * 40)


def test_models_for_pictures(tmp_path: Path) -> None:
    from transformers import Sam3LiteTextModel, Sam3Model

    for place, (kind, lite) in enumerate(((Sam3Model, False), (Sam3LiteTextModel, True))):
        folder = tmp_path / str(place)
        filled(kind(detector_config(lite))).save_pretrained(folder)
        tokenizer().save_pretrained(folder)
        assert found(load_sam3(str(folder), "cpu", tracks=False)).shape == (12, 32, 32)
        with pytest.raises(InputError, match=r"no propagator.*--identities masa"):
            load_sam3(str(folder), "cpu")


def test_a_cpu_must_be_asked_for(sam3_folder: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    for call in (check_sam3, load_sam3):
        with pytest.raises(InputError, match=r"860 million parameters.*a frame takes.*--device cpu"):
            call(str(sam3_folder))
    check_sam3(str(sam3_folder), "cpu")


def test_the_weights_are_gated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network the message says how to obtain them."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name in ("", "facebook/sam3"):
        with pytest.raises(InputError, match=r"huggingface\.co/facebook/sam3.*sam3:FOLDER.*SAM License.*hf auth login"):
            load_sam3(name, "cpu")


def test_no_folder(tmp_path: Path) -> None:
    for name in ("nowhere", str(tmp_path / "nowhere"), "a/b/c"):
        with pytest.raises(InputError, match=r"no such folder.*config.json"):
            check_sam3(name, "cpu")
    for keys, looks in (
        (["detector.backbone.x"], "looks like SAM 3"),
        (["image_encoder.patch_embed.x"], "looks like SAM 1"),
        (["layer4.x"], "looks like no model known here"),
    ):
        torch.save({key: torch.zeros(2) for key in keys}, tmp_path / "sam3.pt")
        with pytest.raises(InputError, match=f"{looks}.*read from a folder.*official .pt files are not read"):
            check_sam3(str(tmp_path / "sam3.pt"), "cpu")
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match=r"read from a folder"):
        check_sam3(str(tmp_path / "model.safetensors"), "cpu")


class Dangerous:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("touched"),))


def test_nothing_in_a_file_is_run(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copy)
    torch.save({"x": Dangerous()}, copy / "sam3.pt")
    with pytest.raises(InputError, match=r"sam3.pt is"):
        check_sam3(str(copy / "sam3.pt"), "cpu")
    (copy / "model.safetensors").unlink()
    torch.save({"x": Dangerous()}, copy / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"pickled weights are not read"):
        load_sam3(str(copy), "cpu")
    assert not (copy / "touched").exists()


def test_broken_folders(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    lacking = {key: value for key, value in weights.items() if not key.endswith("no_memory_embedding")}
    for changed, why in (
        (lacking, "1 tensors are wrong.*no_memory_embedding"),
        ({**weights, "more": torch.zeros(1)}, "1 tensors are wrong.*more"),
        ({**weights, next(iter(lacking)): torch.full_like(next(iter(lacking.values())), float("nan"))}, "finite"),
    ):
        save_file(changed, copy / "model.safetensors", {"format": "pt"})
        with pytest.raises(InputError, match=why):
            load_sam3(str(copy), "cpu")
    whole = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(whole[:1000])
    with pytest.raises(InputError, match=r"download it again"):
        load_sam3(str(copy), "cpu")


def test_tokenizers_of_other_models(copy: Path) -> None:
    file = copy / "tokenizer.json"
    content = json.loads(file.read_text())
    for changed in ({**content, "post_processor": None}, content):
        if changed is content:
            content["model"]["vocab"]["dog"] = 5000
        file.write_text(json.dumps(changed))
        with pytest.raises(InputError, match=r"not that of the text encoder, which knows 600 tokens"):
            load_sam3(str(copy), "cpu")
    file.write_text("{")
    with pytest.raises(InputError, match=r"cannot be read"):
        load_sam3(str(copy), "cpu")
    file.unlink()
    with pytest.raises(InputError, match=r"tokenizer.json is missing"):
        load_sam3(str(copy), "cpu")


def test_folders_of_other_models(copy: Path) -> None:
    config = copy / "config.json"
    config.write_text(json.dumps({"model_type": "sam2_video"}))
    with pytest.raises(InputError, match=r"type 'sam2_video': SAM 3 is one of sam3_video and sam3 and sam3_lite_text"):
        load_sam3(str(copy), "cpu")
    config.write_text("no json")
    with pytest.raises(InputError, match=r"no usable config.json"):
        load_sam3(str(copy), "cpu")
