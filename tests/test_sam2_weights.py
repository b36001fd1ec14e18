"""Weights of SAM 2 and EdgeTAM: official files by their keys, folders of Hugging Face, files of other models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sam2_networks import edgetam_network, goldens, official_keys, official_weights, quick_network, small_configuration

pytest.importorskip("transformers")
import torch
from transformers import Sam2VideoModel

from masa_track.errors import InputError
from masa_track.masklets.loading import check_propagator, open_propagator
from masa_track.masklets.models import MODELS, SIZES
from masa_track.masklets.sam2 import EdgeTamNetwork, Sam2Network
from masa_track.masklets.sam2_keys import configuration, hub_keys, identify, to_hub
from masa_track.masklets.session import MaskletSession
from masa_track.masklets.weights import load_network

TINY = official_keys({"config": "hiera_tiny"})
NEW_IN_21 = ("no_obj_embed_spatial", "obj_ptr_tpos_proj")


def keys_of(size: str, shared: Path) -> dict[str, Any]:
    name = f"keys_sam2.1_hiera_{size.replace('-', '_')}.json"
    return json.loads((shared / "goldens" / "sam2" / name).read_text())


def old(keys: dict[str, Any]) -> dict[str, Any]:
    """The keys of SAM 2 among those of 2.1."""
    return {key: value for key, value in keys.items() if not key.startswith(NEW_IN_21)}


def empty(keys: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Tensors of the right shapes that take no space, in memory or in a file."""
    return {key: torch.zeros(1).expand(shape) for key, (shape, _) in keys.items()}


def write(path: Path, keys: dict[str, Any], **changed: torch.Tensor) -> Path:
    torch.save({"model": {**empty(keys), **changed}}, path)
    return path


@pytest.mark.parametrize("size", ["goldens", "tiny", *(pytest.param(s, marks=pytest.mark.slow) for s in SIZES[1:])])
def test_every_key_and_shape(size: str, request: pytest.FixtureRequest) -> None:
    """By rule, for both versions: the names are those that were noted, the shapes are the configuration's."""
    if size in ("goldens", "tiny"):
        keys = TINY if size == "tiny" else official_keys({"config": "small"})
    else:
        keys = keys_of(size, request.getfixturevalue("shared"))
    for version, some in (("2.1", keys), ("2", old(keys))):
        assert hub_keys(some) == {key: name for key, (_, name) in some.items()}
        name = f"sam{version}-hiera-{size}"
        if size == "goldens":
            config = small_configuration(is_21=version == "2.1")
        else:
            config = configuration(name)
            assert identify({key: tuple(shape) for key, (shape, _) in some.items()}) == (name, name)
        with torch.device("meta"):
            expected = Sam2VideoModel(config).state_dict()
        found = {key: tuple(value.shape) for key, value in to_hub(empty(some)).items()}
        assert found == {key: tuple(value.shape) for key, value in expected.items()}


def test_the_positions_of_the_image_are_those_of_the_prompts() -> None:
    """transformers keeps one table twice; a converted file that left one out would leave it random."""
    state = to_hub(official_weights(goldens("sam2_small")[1]))
    first, second = (f"{p}.positional_embedding" for p in ("prompt_encoder.shared_embedding", "shared_image_embedding"))
    assert torch.equal(state[first], state[second])
    assert state["prompt_encoder.point_embed.weight"].shape == (4, 128)


STRANGERS = {
    "SAM 1": "image_encoder.patch_embed.proj.weight",
    "SAM 3": "detector.backbone.x",
    "official EdgeTAM": "spatial_perceiver.latents",
    "Hugging Face's keys": "vision_encoder.backbone.x",
    "a MASA model": "masa_adapter.0.x",
    "no model known here": "layer4.2.conv3.weight",
}


@pytest.mark.parametrize("words", STRANGERS)
def test_files_of_other_models(words: str, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"model": {STRANGERS[words]: torch.zeros(3)}}, path)
    with pytest.raises(InputError, match=f"looks like .*{words}"):
        load_network(path)


def test_two_versions_are_told_apart(tmp_path: Path) -> None:
    path = write(tmp_path / "sam2.1_hiera_tiny.pt", old(TINY))  # the name of the file does not matter
    with pytest.raises(InputError, match=r"'sam2\.1-hiera-tiny': it looks like sam2-hiera-tiny"):
        load_network("sam2.1-hiera-tiny", checkpoint=path)
    with pytest.raises(InputError, match="'edgetam': it looks like sam2-hiera-tiny"):
        load_network("edgetam", checkpoint=path)
    with pytest.raises(InputError, match="'sam2-hiera-small': it looks like sam2-hiera-tiny"):
        load_network("facebook/sam2-hiera-small", checkpoint=path)


@pytest.mark.slow
def test_incomplete_and_broken_files(tmp_path: Path) -> None:
    lacking = {key: value for key, value in TINY.items() if key != "no_mem_embed"}
    with pytest.raises(InputError, match=r"1 tensors are missing.*no_memory_embedding.*download it again"):
        load_network(write(tmp_path / "lacking.pt", lacking))
    with pytest.raises(InputError, match="1 are of another shape"):
        load_network(write(tmp_path / "shape.pt", TINY, no_mem_embed=torch.zeros(2)))
    with pytest.raises(InputError, match="finite"):
        load_network(write(tmp_path / "nan.pt", TINY, no_mem_embed=torch.full((1, 1, 256), float("nan"))))
    whole = write(tmp_path / "whole.pt", TINY).read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cut\.pt is not a whole torch checkpoint"):
        load_network(tmp_path / "cut.pt")
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match=r"give the folder"):
        load_network(tmp_path / "model.safetensors")


class Dangerous:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("touched"),))


def test_nothing_in_a_file_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": {**empty(TINY), "x": Dangerous()}}, "bad.pt")
    with pytest.raises(InputError):
        load_network("bad.pt")
    assert not Path("touched").exists()


def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network the message says which file, and where to put it."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert len(MODELS) == 9
    for name, file in (
        ("sam2.1-hiera-tiny", r"sam2\.1_hiera_tiny\.pt.*huggingface\.co/facebook/sam2\.1-hiera-tiny"),
        ("facebook/sam2-hiera-base-plus", r"sam2_hiera_base_plus\.pt.*huggingface\.co/facebook/sam2-hiera-base-plus"),
        ("edgetam", r"model\.safetensors.*huggingface\.co/yonigozlan/EdgeTAM-hf"),
    ):
        check_propagator(name)
        with pytest.raises(InputError, match=file + ".*--masklets path/to/"):
            open_propagator(name)
    with pytest.raises(InputError, match=r"did you mean 'sam2\.1-hiera-tiny'"):
        load_network("sam2.1-tiny")
    with pytest.raises(InputError, match=r"did you mean 'sam2\.1-hiera-tiny'"):
        check_propagator("sam2.1-tiny")
    with pytest.raises(InputError, match=r"no such checkpoint: nowhere\.pt"):
        load_network("nowhere.pt")
    with pytest.raises(InputError, match="multiple of 32"):
        load_network("sam2.1-hiera-tiny", side=100)


def test_a_name_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    from masa_track import registry

    find = registry.find_spec
    monkeypatch.setattr(registry, "find_spec", lambda name: None if name == "transformers" else find(name))
    with pytest.raises(InputError, match=r'transformers is needed for --masklets sam2.*"\.\[masklets\]"'):
        check_propagator("sam2.1-hiera-tiny")
    check_propagator("flow")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sam2", "edgetam"])
def test_a_folder_of_hugging_face(kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    network = quick_network() if kind == "sam2" else edgetam_network()
    network.model.save_pretrained(tmp_path)
    capfd.readouterr()
    loaded = load_network(tmp_path, device="cpu")
    assert capfd.readouterr().err == ""  # no progress bar of transformers
    assert type(loaded) is (Sam2Network if kind == "sam2" else EdgeTamNetwork)
    assert loaded.side == network.side
    ours, theirs = network.model.state_dict(), loaded.model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())
    opened = open_propagator(str(tmp_path), "cpu")
    assert isinstance(opened, MaskletSession)
    assert opened.network.key == loaded.key
    with pytest.raises(InputError, match=r"side is for official \.pt files"):
        load_network(tmp_path, side=512)
    with pytest.raises(InputError, match=r"does not fit the model 'sam2\.1-hiera-tiny'"):
        load_network("sam2.1-hiera-tiny", checkpoint=tmp_path)


@pytest.mark.slow
def test_broken_folders(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    with pytest.raises(InputError, match=r"must hold model\.safetensors"):
        load_network(tmp_path)
    quick_network().model.save_pretrained(tmp_path)
    file, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    tensors, settings = load_file(file), json.loads(config.read_text())
    save_file({key: value for key, value in tensors.items() if key != "no_memory_embedding"}, file)
    with pytest.raises(InputError, match="no_memory_embedding"):
        load_network(tmp_path)
    copy = "shared_image_embedding.positional_embedding"
    save_file({key: value for key, value in tensors.items() if key != copy}, file)
    loaded = load_network(tmp_path, device="cpu")
    assert torch.equal(loaded.model.state_dict()[copy], tensors[copy])
    config.write_text(json.dumps({**settings, "model_type": "sam3_video"}))
    with pytest.raises(InputError, match="type 'sam3_video'"):
        load_network(tmp_path)
    config.write_text("{")
    with pytest.raises(InputError, match=r"no usable config\.json"):
        load_network(tmp_path)
    config.write_text(json.dumps(settings))
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(InputError, match="cannot be read"):
        load_network(tmp_path)


@pytest.mark.slow
def test_an_official_file(tmp_path: Path) -> None:
    """Its numbers are where they belong, and it runs; in bfloat16 and on a smaller side as well."""
    info = goldens("sam2.1_hiera_tiny_512")[1]
    state = official_weights(info)
    torch.save({"model": state}, tmp_path / "sam2.1_hiera_tiny.pt")
    network = load_network("sam2.1-hiera-tiny", tmp_path / "sam2.1_hiera_tiny.pt", "cpu", "bfloat16", side=256)
    assert (network.name, network.side, network.dtype) == ("sam2.1-hiera-tiny", 256, torch.bfloat16)
    for key, value in to_hub(state).items():
        assert torch.equal(network.model.state_dict()[key].bfloat16(), value.bfloat16()), key
    with torch.no_grad():
        maps = network.encode(network.prepare(np.zeros((48, 64, 3), np.uint8)))
    assert maps.coarse.shape == (1, 256, 16, 16)
    assert MODELS["sam2.1-hiera-tiny"].licence == "Apache-2.0"
