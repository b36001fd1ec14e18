"""Validation while a configuration for mmdet is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mot_clips import clip, load_tool
from test_training import small_config
from training_data import write_photographs

from masa_track.errors import InputError
from masa_track.integrations.mmdet.training import as_ours
from masa_track.training.checkpoint import read_training_checkpoint
from masa_track.training.hooks import training_model

VALIDATION = """
val_dataloader = dict(
    batch_size=4, num_workers=0, sampler=dict(type="TrackImgSampler"),
    dataset=dict(
        type="MotFolderDataset", data_root={data!r},
        pipeline=[
            dict(type="TransformBroadcaster",
                 transforms=[dict(type="LoadImageFromFile"), dict(type="Resize", scale=(128, 128), keep_ratio=True)]),
            dict(type="PackTrackInputs"),
        ],
    ),
)
val_evaluator = dict(type="MotFolderMetric", outfile_prefix="elsewhere")
val_cfg = dict(type="ValLoop")
train_cfg = dict(max_epochs=2, val_interval=1)
default_hooks = dict(checkpoint=dict(interval=1, by_epoch=True, save_best="idf1"))
custom_hooks = [dict(type="WeightsHook")]
model = dict(public_det_path={data!r}, given_dets=False, rpn_head=None, roi_head=None)
"""


@HOOKS.register_module()
class WeightsHook(Hook):
    """Compares the weights that have tracked with those in training."""

    compared: ClassVar[list[bool]] = []

    def after_val_epoch(self, runner: Any, metrics: Any = None) -> None:
        network = training_model(runner).network
        ours, theirs = network.state_dict(), runner.val_loop.masa.net.state_dict()
        self.compared.append(ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours))


@pytest.fixture
def config(clips: Path, tmp_path: Path) -> Path:
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    write_photographs(photographs, 2)
    clip(clips / "mot15" / "TUD-Campus", tmp_path / "data" / "TUD-Campus", 3)
    return small_config(photographs, tmp_path, VALIDATION.format(data=str(tmp_path / "data")))


def train(config: Path, work: Path, *more: str) -> int:
    return load_tool("train").main([str(config), "--work-dir", str(work), "--device", "cpu", *more])


@pytest.mark.shared_data
@pytest.mark.slow
def test_scores_are_those_of_the_network_in_training(
    config: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    work = tmp_path / "work"
    WeightsHook.compared.clear()
    assert train(config, work) == 0
    assert WeightsHook.compared == [True, True]
    assert "val_evaluator.outfile_prefix='elsewhere' (results are in the work folder's validation)" in caplog.text
    (file,) = work.rglob("vis_data/scalars.json")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    scores = [line for line in lines if "idf1" in line]
    assert len(scores) == 2
    assert all(0 < one["idf1"] <= 1 and 0 < one["hota"] <= 1 for one in scores)
    assert scores[1]["idf1"] == json.loads((work / "validation" / "scores.json").read_text())["idf1"]
    (best,) = work.glob("best_idf1_epoch_*.pth")
    number = 1 + max(range(2), key=lambda epoch: scores[epoch]["idf1"])
    assert best.name == f"best_idf1_epoch_{number}.pth"
    weights, same = (read_training_checkpoint(path)["state_dict"] for path in (best, work / f"epoch_{number}.pth"))
    assert all(torch.equal(weights[key], same[key]) for key in same)


@pytest.mark.shared_data
@pytest.mark.slow
def test_videos_that_are_not_there_are_named_before_the_first_step(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = f"val_dataloader.dataset.data_root={tmp_path / 'nowhere'}"
    assert train(config, tmp_path / "work", "--cfg-options", nowhere) == 2
    said = capsys.readouterr().err
    assert "validation during training (val_dataloader, val_evaluator): data_root must be a folder" in said
    assert "to train without it: --cfg-options val_cfg=None" in said
    assert not list((tmp_path / "work").glob("*.pth"))


@pytest.mark.shared_data
def test_what_validation_needs(config: Path, caplog: pytest.LogCaptureFixture) -> None:
    def changed(**options: Any) -> Config:
        whole = Config.fromfile(config)
        whole.merge_from_dict({key.replace("__", "."): value for key, value in options.items()})
        return as_ours(whole)

    with pytest.raises(InputError, match=r"model.given_dets=True: validation needs boxes"):
        changed(model__given_dets=True, model__public_det_path=None)
    with pytest.raises(InputError, match=r"unknown val_evaluator.type 'MotMetric'"):
        changed(val_evaluator__type="MotMetric")
    with pytest.raises(InputError, match=r"val_cfg.type must be ValLoop, got 'TestLoop'"):
        changed(val_cfg__type="TestLoop")
    caplog.clear()
    ours = changed(val_cfg=None)
    assert ours.val_dataloader is None
    assert ours.val_evaluator is None
    (record,) = caplog.records
    assert "val_dataloader (there is no val_cfg), val_evaluator (there is no val_cfg)" in record.getMessage()
