"""Weights of MTTR: official checkpoints, safetensors, encoders to start from, and files of something else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import mttr_networks as nets
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from masa_track.errors import InputError
from masa_track.models.checkpoints import convert
from masa_track.refer import weights as module
from masa_track.refer.model import Mttr
from masa_track.refer.official_keys import our_key, our_state
from masa_track.refer.settings import TINY, MttrSettings, settings_from
from masa_track.refer.weights import convert_weights, fill, load_start_weights, load_weights, save_weights, video_state


@pytest.fixture
def small_as_published(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes the goldens' small network for the published one."""
    monkeypatch.setattr(module, "MttrSettings", lambda: nets.SMALL)


def checkpoint(path: Path, **others: object) -> Path:
    """A file as the authors saved theirs."""
    torch.save(
        {"model_state_dict": nets.official_state("small"), "epoch": 3, "optimizer_state_dict": {}, **others}, path
    )
    return path


def same_results(first: Mttr, second: Mttr) -> bool:
    videos, _ = nets.clips(nets.arrays("small.npz")["one.videos"])
    ids = torch.tensor([[0, 7, 9, 2]])
    with torch.inference_mode():
        return torch.equal(first(videos, ids).masks, second(videos, ids).masks)


def test_all_official_keys_of_the_published_network_have_a_place() -> None:
    keys = json.loads(nets.golden_file("keys/mttr_full.json").read_text())
    assert len(keys) == 475
    ours = {our_key(key): tuple(shape) for key, shape in keys.items() if our_key(key)}
    with torch.device("meta"):
        network = Mttr(MttrSettings())
    wanted = {k: tuple(v.shape) for k, v in network.state_dict().items() if "relative_position_index" not in k}
    assert ours == wanted


@pytest.mark.slow
@pytest.mark.usefixtures("small_as_published")
@pytest.mark.parametrize(
    ("others", "name", "trained_on", "window"),
    [
        ({"best_loss": 1.0}, "refer-youtube-vos_window-12.pth.tar", "ytvos", 12),
        ({"best_mAP": 0.4}, "a2d_window-8.pth.tar", "a2d", 8),
        ({}, "weights.pth", "", None),
    ],
)
def test_an_official_checkpoint(
    tmp_path: Path, others: dict[str, float], name: str, trained_on: str, window: int | None
) -> None:
    path = checkpoint(tmp_path / name, **others)
    loaded = load_weights(path)
    assert (loaded.trained_on, loaded.window) == (trained_on, window)
    assert same_results(loaded.network, nets.network("small"))
    converted = convert_weights(path, tmp_path / "mttr.safetensors")
    again = load_weights(tmp_path / "mttr.safetensors")
    assert (again.trained_on, again.window) == (converted.trained_on, converted.window)
    assert same_results(again.network, loaded.network)


@pytest.mark.usefixtures("small_as_published")
def test_a_bare_state_dict(tmp_path: Path) -> None:
    torch.save(nets.official_state("small"), tmp_path / "bare.pth")
    assert same_results(load_weights(tmp_path / "bare.pth").network, nets.network("small"))


@pytest.mark.usefixtures("small_as_published")
def test_a_checkpoint_of_another_data_set(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "a2d.pth", best_mAP=0.4)
    with pytest.raises(InputError, match="was trained on 'a2d'"):
        load_weights(path, "ytvos")
    save_weights(nets.network("small"), tmp_path / "own.safetensors", "synthetic", 4)
    with pytest.raises(InputError, match="was trained on 'synthetic'"):
        load_weights(tmp_path / "own.safetensors", "ytvos")
    with pytest.raises(InputError, match="trained_on"):
        load_weights(path, "a3d")


def test_files_of_something_else(tmp_path: Path) -> None:
    torch.save({"fc.weight": torch.zeros(2, 2)}, tmp_path / "classifier.pth")
    with pytest.raises(InputError, match="no checkpoint of MTTR: it looks like a torchvision classifier"):
        load_weights(tmp_path / "classifier.pth")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors", {"model": "nano"})
    with pytest.raises(InputError, match="its metadata name the model 'nano'"):
        load_weights(tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="no such checkpoint"):
        load_weights(tmp_path / "none.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"123")
    with pytest.raises(InputError, match="not a whole"):
        load_weights(tmp_path / "broken.safetensors")


@pytest.mark.usefixtures("small_as_published")
def test_a_checkpoint_with_other_shapes_or_numbers(tmp_path: Path) -> None:
    state = dict(nets.official_state("small"))
    state["obj_queries.weight"] = torch.zeros(9, 64)
    torch.save(state, tmp_path / "shape.pth")
    with pytest.raises(InputError, match=r"1 are of another shape, e.g. 'queries.weight'"):
        load_weights(tmp_path / "shape.pth")
    state["obj_queries.weight"] = torch.full((7, 64), float("nan"))
    torch.save(state, tmp_path / "nan.pth")
    with pytest.raises(InputError, match="NaN"):
        load_weights(tmp_path / "nan.pth")


class Stranger:
    """Something that a file of weights must not hold."""


def test_a_pickle_is_not_run(tmp_path: Path) -> None:
    torch.save({"model_state_dict": Stranger()}, tmp_path / "evil.pth")
    with pytest.raises(InputError):
        load_weights(tmp_path / "evil.pth")


def swin_state() -> dict[str, Tensor]:
    """A Video Swin over patches of two frames, with the official names and a fourth stage."""
    state = {
        k: v for k, v in nets.official_state("small").items() if k.startswith("backbone.") and v.is_floating_point()
    }
    state = {k.replace("downsamples.0", "layers.0.downsample"): v for k, v in state.items()}
    state = {k.replace("downsamples.1", "layers.1.downsample"): v for k, v in state.items()}
    kernel = state["backbone.patch_embed.proj.weight"]
    state["backbone.patch_embed.proj.weight"] = torch.cat([0.25 * kernel, 0.75 * kernel], dim=2)
    return state | {"backbone.norm.weight": torch.ones(192), "cls_head.weight": torch.zeros(4)}


def test_start_from_video_swin(tmp_path: Path) -> None:
    """The patch kernel over two frames is summed; torchvision's names are taken as well."""
    network, wanted = Mttr(nets.SMALL), nets.network("small")
    torch.save({"state_dict": swin_state()}, tmp_path / "swin.pth")
    load_start_weights(network, None, str(tmp_path / "swin.pth"), None)
    for key, value in wanted.video.state_dict().items():
        torch.testing.assert_close(network.video.state_dict()[key], value)
    torchvision_names = {
        **video_state(swin_state()),
        "norm.weight": torch.ones(192),
        "features.6.0.norm1.weight": torch.ones(1),
    }
    torch.save(torchvision_names, tmp_path / "torchvision.pth")
    network = Mttr(nets.SMALL)
    load_start_weights(network, None, str(tmp_path / "torchvision.pth"), None)
    torch.testing.assert_close(network.video.patch_embed.proj.weight, wanted.video.patch_embed.proj.weight)


def test_start_from_roberta(tmp_path: Path) -> None:
    network, wanted = Mttr(nets.SMALL), nets.network("small")
    state = {f"roberta.{k}": v.clone() for k, v in wanted.text.state_dict().items()}
    state |= {"lm_head.bias": torch.zeros(3), "roberta.embeddings.position_ids": torch.zeros(1, 34, dtype=torch.long)}
    save_file(state, tmp_path / "model.safetensors")
    load_start_weights(network, None, None, str(tmp_path / "model.safetensors"))
    ids = torch.tensor([[0, 4, 2]])
    torch.testing.assert_close(network.text.eval()(ids)[0], wanted.text(ids)[0])


def test_start_from_a_network(tmp_path: Path) -> None:
    save_weights(nets.network("small"), tmp_path / "small.safetensors", "own", 8)
    network = Mttr(nets.SMALL)
    load_start_weights(network, str(tmp_path / "small.safetensors"), None, None)
    assert same_results(network.eval(), nets.network("small"))
    with pytest.raises(InputError, match="with other settings"):
        load_start_weights(Mttr(TINY), str(tmp_path / "small.safetensors"), None, None)
    with pytest.raises(InputError, match="synthetic_video"):
        load_start_weights(Mttr(TINY), None, "swin3d_t", None)
    with pytest.raises(InputError, match="does not fit"):
        fill(network.video, our_state({}), "nothing")


def test_settings_by_name_and_from_json() -> None:
    assert settings_from("tiny") == TINY
    assert settings_from(TINY.as_json()) == TINY
    changed = settings_from({"type": "tiny", "queries": 5, "text": {"layers": 2}})
    assert changed == replace(TINY, queries=5, text=replace(TINY.text, layers=2))
    for wrong in ("tinny", {"type": "tiny", "querys": 5}, {"text": {"layer": 2}}):
        with pytest.raises(InputError, match="network"):
            settings_from(wrong)
    with pytest.raises(InputError, match="multiple of 64"):
        settings_from({"width": 96})


def test_other_commands_say_what_an_mttr_checkpoint_is(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="it looks like MTTR, for sentences"):
        convert(checkpoint(tmp_path / "mttr.pth"))
