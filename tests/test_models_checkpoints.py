"""Official checkpoints: read safely, identified, fetched and converted, and the messages where that fails."""

from __future__ import annotations

import pickle
import socket
import time
from collections import OrderedDict

import numpy as np
import pytest
import torch
from official_recipe import official_keys, official_state_dict

import masa_track
from masa_track.cli.main import main
from masa_track.errors import InputError
from masa_track.models.checkpoints import convert, fetch, identify, misfit, read_checkpoint
from masa_track.models.official_keys import looks_like
from masa_track.registry import list_models, spec_of, told_by

pytestmark = pytest.mark.slow  # together they take seconds

FRAME = np.random.default_rng(0).integers(0, 255, (60, 90, 3), dtype=np.uint8)
BOXES = np.array([[5, 5, 40, 50], [30, 10, 85, 55]], np.float32)


class HistoryBuffer:
    """As mmengine leaves one beside the weights: a class that is not there when the file is read."""

    def __init__(self):
        self._log = np.arange(3.0)
        self.mean = np.mean


@pytest.fixture(scope="module")
def r50_state():
    return official_state_dict("r50")


@pytest.fixture(scope="module")
def r50_pth(tmp_path_factory, r50_state):
    path = tmp_path_factory.mktemp("official") / "masa_r50.pth"
    meta = {"epoch": 12, "time": "now", "cfg": "model = dict()"}
    torch.save({"meta": meta, "state_dict": OrderedDict(r50_state)}, path)
    return path


def embed(model):
    """Two embeddings; of a smaller picture than the model takes, for it is the weights that are tested."""
    if model.network.size_divisor == 32:
        model.network.long_side = model.network.short_side = 128
    return model.embed(FRAME, BOXES)


def small(keys):
    """A state dict with tensors that take no memory."""
    return {key: torch.zeros(()).expand(shape) for key, shape in keys.items()}


@pytest.mark.parametrize("name", sorted(spec.name for spec in list_models() if spec.signature))
def test_the_keys_identify_each_official_model(name):
    assert told_by(official_keys(name)) is spec_of(name)
    assert identify(small(official_keys(name)), "file") is spec_of(name)


@pytest.mark.slow
def test_round_trip(r50_pth, tmp_path, monkeypatch, capsys):
    """Loaded by path, by name from the hub's cache, and converted: the same embeddings."""
    by_path = masa_track.load(r50_pth, device="cpu")
    assert by_path.name == "r50"
    assert len(by_path.report.used) == len(official_keys("r50"))
    assert by_path.report.ignored == by_path.report.missing == ()
    want = embed(by_path)
    assert want.shape == (2, 256)
    assert np.abs(want[0] - want[1]).max() > 1e-3
    del by_path

    snapshot = tmp_path / "models--dereksiyuanli--masa" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "masa_r50.pth").symlink_to(r50_pth)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    np.testing.assert_array_equal(embed(masa_track.load("r50", device="cpu")), want)

    out = tmp_path / "mine.safetensors"
    assert main(["convert", str(r50_pth), str(out)]) == 0
    printed = capsys.readouterr().out
    assert "451 tensors used, 0 ignored, 0 missing" in printed
    assert "r50" in out.with_suffix(".md").read_text()
    assert not list(tmp_path.glob(".*.part"))
    np.testing.assert_array_equal(embed(masa_track.load(out, device="cpu")), want)
    np.testing.assert_array_equal(embed(masa_track.load("r50", checkpoint=out, device="cpu")), want)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gdino-swinb", "detic-swinb", "sam-vitb"])
def test_round_trip_of_the_unified(name, tmp_path):
    """All keys, the detector's own too: these are reported as ignored, and not in the converted file."""
    path = tmp_path / spec_of(name).weights.file
    torch.save({"state_dict": official_state_dict(name), "meta": {}}, path)
    model = masa_track.load(name, checkpoint=path, device="cpu")
    assert any(
        key.startswith(("detector.encoder.", "detector.roi_head.", "detector.mask_")) for key in model.report.ignored
    )
    want = embed(model)
    del model
    out = tmp_path / "out.safetensors"
    assert main(["convert", str(path), str(out)]) == 0
    assert out.stat().st_size < path.stat().st_size
    np.testing.assert_array_equal(embed(masa_track.load(out, device="cpu")), want)


def test_training_log_beside_the_weights_is_read_as_nothing(tmp_path):
    path = tmp_path / "with_log.pth"
    torch.save({"state_dict": {"a.weight": torch.ones(2)}, "message_hub": {"loss": HistoryBuffer()}}, path)
    if not hasattr(torch.serialization, "get_unsafe_globals_in_checkpoint"):
        pytest.skip("needs torch 2.6")
    assert list(read_checkpoint(path)) == ["a.weight"]


def test_nothing_in_a_pickle_is_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",))

    path = tmp_path / "evil.pth"
    torch.save({"state_dict": {"a": torch.ones(1)}, "x": Evil()}, path)
    read_checkpoint(path)
    assert not (tmp_path / "ran").exists()
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(InputError, match="not a whole torch checkpoint"):
        read_checkpoint(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.slow
def test_truncated_and_foreign_files(tmp_path, r50_pth):
    whole = r50_pth.read_bytes()
    cut = tmp_path / "cut.pth"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cut\.pth is not a whole torch checkpoint.*bytes.*download it again"):
        masa_track.load(cut)
    cut.write_bytes(b"")
    with pytest.raises(InputError, match="not a whole torch checkpoint"):
        masa_track.load(cut)
    cut.write_text("<html>404</html>")
    with pytest.raises(InputError, match="not a whole torch checkpoint"):
        masa_track.load(cut)
    torch.save([1, 2], cut)
    with pytest.raises(InputError, match="holds no state dict, but a list"):
        masa_track.load(cut)
    torch.save({"epoch": 3}, cut)
    with pytest.raises(InputError, match="holds no state dict, but a dict of 'epoch'"):
        masa_track.load(cut)
    with pytest.raises(InputError, match=r"no such checkpoint: .*nowhere\.pth"):
        masa_track.load(tmp_path / "nowhere.pth")


def test_another_models_file_is_named(r50_pth, tmp_path):
    with pytest.raises(InputError, match=r"masa_r50\.pth is not a checkpoint of 'sam-vitb': .*the official r50"):
        masa_track.load("sam-vitb", checkpoint=r50_pth)
    with pytest.raises(InputError, match="looks like the official r50"):
        convert(r50_pth, "detic-swinb")
    path = tmp_path / "other.pth"
    torch.save({"image_encoder.patch_embed.proj.weight": torch.zeros(1)}, path)
    with pytest.raises(InputError, match=r"no official MASA checkpoint: it looks like SAM itself.*known are detic"):
        masa_track.load(path)


@pytest.mark.slow
def test_incomplete_state_dict_says_what_is_missing(r50_state, tmp_path):
    state = {key: value for key, value in r50_state.items() if key != "track_head.embed_head.fc_embed.bias"}
    path = tmp_path / "less.pth"
    torch.save(state, path)
    with pytest.raises(InputError, match=r"1 tensors are missing.*track_head\.embed_head\.fc_embed\.bias"):
        masa_track.load(path)
    state["track_head.embed_head.fc_embed.bias"] = torch.zeros(7)
    torch.save(state, path)
    with pytest.raises(InputError, match="1 of another shape"):
        masa_track.load(path)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"fc.weight": (1000, 2048)}, "a torchvision classifier"),
        ({"model.0.conv.weight": (1,)}, "a YOLO detector"),
        ({"masa_adapter.0.x": (1,)}, "another model with MASA's adapter"),
        ({"abc": (1,)}, "no model known here \\(its first key is 'abc'\\)"),
        ({}, "an empty state dict"),
    ],
)
def test_strangers_are_described(keys, words):
    with pytest.raises(InputError, match=words):
        identify(small(keys), "file.pth")
    assert looks_like(keys)


def test_offline_error_says_how_to_do_it_by_hand(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"sam_vith_masa\.pth.*huggingface\.co/dereksiyuanli/masa.*give its path"):
        fetch("sam-vith")
    with pytest.raises(InputError, match="did you mean 'sam-vitb'"):
        fetch("sam-vit-b")


def test_a_hub_that_does_not_answer_is_asked_once(tmp_path, monkeypatch):
    """Not for 25 s, as hf_hub_download would."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # nobody listens
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/masa_r50.pth"
        monkeypatch.setattr("huggingface_hub.hf_hub_url", lambda *args: url)
        started = time.monotonic()
        with pytest.raises(InputError, match=r"masa_r50\.pth of 'r50' could not be fetched"):
            fetch("r50")
    assert time.monotonic() - started < 20


@pytest.mark.slow
def test_convert_refuses_another_ending(r50_pth, tmp_path, capsys):
    assert main(["convert", str(r50_pth), str(tmp_path / "out.pth")]) == 2
    assert "must end in .safetensors" in capsys.readouterr().err
    assert main(["convert", str(tmp_path / "none.pth")]) == 2
    assert main(["convert", str(r50_pth), str(tmp_path / "no" / "folder" / "x.safetensors")]) == 2


def test_state_dict_under_other_names(tmp_path):
    torch.save({"model": {"module.a": torch.ones(1)}}, tmp_path / "x.pth")
    assert list(read_checkpoint(tmp_path / "x.pth")) == ["a"]


def test_misfit_counts_missing_unknown_and_reshaped_tensors() -> None:
    ours = {"a": torch.zeros(2), "b": torch.zeros(3), "c": torch.zeros(1)}
    assert misfit(ours, {key: torch.ones_like(value) for key, value in ours.items()}) == ""
    found = misfit(ours, {"b": torch.zeros(4), "c": torch.zeros(1), "d": torch.zeros(1), "e": torch.zeros(1)})
    assert found == "1 tensors are missing, 2 are not known, 1 are of another shape, e.g. 'a'"
    assert misfit({"b": ours["b"]}, {"b": torch.zeros(4)}).endswith("1 are of another shape, e.g. 'b'")
