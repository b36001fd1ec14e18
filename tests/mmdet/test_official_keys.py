"""Checkpoints with exactly the official keys and shapes load into mmdet's MASA through mmengine, every tensor of them.

For R50 and SAM-B tests/mmdet/test_parity.py says so, and compares what they compute.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from grounding import tiny_bert
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner.checkpoint import load_checkpoint
from mot_clips import ROOT
from official_recipe import official_keys

from masa_track.integrations.mmdet.masa import detector_config

BASES = ROOT / "configs" / "mmdet" / "_base_"
MODELS_OF = {"gdino-swinb": "masa_gdino.py", "detic-swinb": "masa_detic.py", "sam-vith": "masa_sam_vith.py"}
COUNTERS = ("num_batches_tracked", "relative_position_index")


@pytest.fixture
def _no_filling(monkeypatch: pytest.MonkeyPatch) -> None:
    """SAM-H is 2.5 GB: tensors are made, but not filled, before they are loaded."""
    for name in dir(torch.nn.init):
        if name.endswith("_") and not name.startswith("_"):
            monkeypatch.setattr(torch.nn.init, name, lambda tensor, *_, **__: tensor)


def model_of(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    config = Config.fromfile(BASES / MODELS_OF[name]).model
    if name == "gdino-swinb":  # its text encoder would be fetched: one of the same size, its weights left as they are
        from transformers import BertConfig, BertModel

        tiny_bert(folder / "bert")
        BertConfig().save_pretrained(folder / "bert")
        whole = lambda cls, name, config, **options: cls(config, **options)  # noqa: E731
        monkeypatch.setattr(BertModel, "from_pretrained", classmethod(whole))
        config.detector = detector_config(config.detector)
        config.detector.language_model.name = str(folder / "bert")
    return MODELS.build(config)


@pytest.mark.slow
@pytest.mark.usefixtures("_no_filling")
@pytest.mark.parametrize("name", MODELS_OF)
def test_official_checkpoints_fit(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    init_default_scope("mmdet")
    shapes = official_keys(name)
    values = {key: index % 1000 for index, key in enumerate(shapes, 1)}
    state = {
        key: torch.full((), values[key], dtype=torch.long if key.endswith(COUNTERS) else torch.float32).expand(shape)
        for key, shape in shapes.items()  # one number each, so that the file is small
    }
    torch.save({"meta": {"epoch": 12}, "state_dict": state}, tmp_path / "official.pth")
    model = model_of(name, tmp_path, monkeypatch)
    load_checkpoint(model, str(tmp_path / "official.pth"), map_location="cpu", strict=True)  # raises for any key
    said = capsys.readouterr()
    assert not any(word in said.out + said.err + caplog.text for word in ("missing", "unexpected", "mismatch"))

    filled = model.state_dict()
    others = () if name != "detic-swinb" else {key for key in shapes if key.startswith("detector.")}
    detector = {key for key in others if not key.startswith("detector.backbone.")}
    assert set(filled) == set(shapes) - detector
    for key, value in filled.items():
        assert tuple(value.shape) == shapes[key]
        assert value.flatten()[[0, -1]].tolist() == [values[key]] * 2, key
    state.pop("track_head.embed_head.fc_embed.bias")
    torch.save(state, tmp_path / "official.pth")
    with pytest.raises(RuntimeError, match=r"missing keys in source state_dict: track_head.embed_head.fc_embed.bias"):
        load_checkpoint(model, str(tmp_path / "official.pth"), map_location="cpu", strict=True)
