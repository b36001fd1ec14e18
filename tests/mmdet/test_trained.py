"""From tools/train.py to tools/test_mot.py with one configuration: what was trained is what tracks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, init_default_scope
from mmengine.runner.checkpoint import load_checkpoint
from mot_clips import clip, load_tool, options, run_tool
from official_recipe import official_keys
from training_data import TRAINING, write_photographs

from masa_track import load as load_model
from masa_track.errors import InputError
from masa_track.integrations.mmdet.testing import load_weights
from masa_track.training.checkpoint import read_training_checkpoint
from masa_track.training.hooks import training_model

TESTING = """
test_pipeline = [
    dict(type="TransformBroadcaster",
         transforms=[dict(type="LoadImageFromFile"), dict(type="Resize", scale=(256, 256), keep_ratio=True)]),
    dict(type="PackTrackInputs"),
]
test_dataloader = dict(
    batch_size=1, num_workers=0, sampler=dict(type="VideoSampler"),
    dataset=dict(type="MotFolderDataset", data_root="", pipeline=test_pipeline),
)
test_evaluator = dict(type="MotFolderMetric")
default_hooks = dict(checkpoint=dict(save_optimizer=False))
custom_hooks = [dict(type="EmbeddingsHook", path={embeddings!r})]
model = dict(
    public_det_path=None,
    track_head=dict(train_cfg=dict(sampler=dict(num=32))),
    test_cfg=dict(rpn=dict(nms_pre=50, max_per_img=50)),
)
"""
SHARED = """
model = dict(
    backbone=None,
    unified_backbone=True,
    detector=dict(type={detector!r}, backbone=dict(type="ResNet", depth=18, out_indices=(0, 1, 2, 3))),
    masa_adapter=[
        dict(type="FPN", in_channels=[64, 128, 256, 512], out_channels=256, num_outs=5),
        dict(type="DeformFusion", num_blocks=1),
    ],
    roi_head=dict(bbox_head=dict(type="Shared2FCBBoxHead")),
    track_head=dict(embed_head=dict(num_convs=1), train_cfg=dict(sampler=dict(num=32))),
    test_cfg=dict(rpn=dict(nms_pre=50, max_per_img=50)),
)
default_hooks = dict(checkpoint=dict(by_epoch=True, interval=1))
"""
BOXES = torch.tensor([[4.0, 6.0, 40.0, 50.0], [20.0, 10.0, 60.0, 44.0]])


def embeddings(network: Any) -> torch.Tensor:
    image = torch.rand((1, 3, 64, 64), generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        return network.eval().embed(network.pyramid(image), [BOXES])


@HOOKS.register_module()
class EmbeddingsHook(Hook):
    """Keeps what the model in training embeds when it has been trained."""

    def __init__(self, path: str) -> None:
        self.path = path

    def after_train(self, runner: Any) -> None:
        torch.save(embeddings(training_model(runner).network), self.path)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photographs(tmp_path_factory.mktemp("photographs"))


def train(config: Path, work: Path, *more: str) -> int:
    return load_tool("train").main([str(config), "--work-dir", str(work), "--device", "cpu", *more])


@pytest.mark.shared_data
@pytest.mark.slow
def test_what_was_trained_is_what_tracks(clips: Path, photographs: Path, tmp_path: Path) -> None:
    """MASA-R50, whole."""
    config, kept = tmp_path / "r50.py", tmp_path / "embeddings.pt"
    config.write_text(TRAINING.format(photographs=str(photographs)) + TESTING.format(embeddings=str(kept)))
    assert train(config, tmp_path / "work") == 0
    checkpoint = tmp_path / "work" / "iter_2.pth"
    trained = torch.load(kept)

    clip(clips / "mot15" / "TUD-Campus", tmp_path / "data" / "TUD-Campus", 3)
    assert run_tool(config, checkpoint, "--work-dir", tmp_path / "test", *options(tmp_path / "data")) == 0
    scores = json.loads((tmp_path / "test" / "tracks" / "scores.json").read_text())
    assert 0 < scores["hota"] <= 1
    assert 0 < scores["det_a"] <= 1

    init_default_scope("mmdet")
    model = MODELS.build(Config.fromfile(config).model)
    state = load_checkpoint(model, str(checkpoint), map_location="cpu", strict=True)["state_dict"]
    assert {key: tuple(value.shape) for key, value in state.items()} == official_keys("r50")
    assert torch.allclose(embeddings(model.net), trained, rtol=1e-5, atol=1e-6)
    assert torch.allclose(embeddings(load_model(checkpoint, "cpu").network), trained, rtol=1e-5, atol=1e-6)
    fresh = MODELS.build(Config.fromfile(config).model)
    assert not torch.allclose(embeddings(fresh.net), trained, rtol=1e-2)


@pytest.mark.slow
def test_a_backbone_shared_with_a_detector(photographs: Path, tmp_path: Path) -> None:
    """Its tensors are called by the detector; the run goes on from an epoch's checkpoint to the same result."""
    config, kept = tmp_path / "shared.py", tmp_path / "embeddings.pt"
    text = TRAINING.format(photographs=str(photographs)) + SHARED.format(detector="DeticMasa")
    text = text.replace("max_epochs=1", "max_epochs=2")
    config.write_text(text + f"custom_hooks = [dict(type='EmbeddingsHook', path={str(kept)!r})]\n")
    init_default_scope("mmdet")
    backbone = MODELS.build(Config.fromfile(config).model).detector.backbone.state_dict()
    torch.save(backbone, tmp_path / "backbone.pth")
    options = ["--cfg-options", f"model.detector.init_cfg={{'checkpoint': {str(tmp_path / 'backbone.pth')!r}}}"]
    assert train(config, tmp_path / "work", *options) == 0
    trained = torch.load(kept)
    state = read_training_checkpoint(tmp_path / "work" / "epoch_2.pth")["state_dict"]
    assert all(torch.equal(state[f"detector.backbone.{key}"], value) for key, value in backbone.items())

    init_default_scope("mmdet")
    model = MODELS.build(Config.fromfile(config).model)
    load_weights(model, tmp_path / "work" / "epoch_2.pth")
    assert torch.allclose(embeddings(model.net), trained, rtol=1e-5, atol=1e-6)
    del state["detector.backbone.conv1.weight"]
    torch.save(state, tmp_path / "part.pth")
    with pytest.raises(InputError, match=r"1 tensors are missing, e.g. 'detector.backbone.conv1.weight'"):
        load_weights(model, tmp_path / "part.pth")

    (tmp_path / "work" / "epoch_2.pth").unlink()
    kept.unlink()
    assert train(config, tmp_path / "work", *options, "--resume") == 0
    assert torch.equal(torch.load(kept), trained)
    first = f"load_from={tmp_path / 'work' / 'epoch_1.pth'}"  # another run, from the weights of this
    assert train(config, tmp_path / "other", *options, first, "optim_wrapper.optimizer.lr=0.0") == 0
    again = read_training_checkpoint(tmp_path / "other" / "epoch_1.pth")["state_dict"]
    before = read_training_checkpoint(tmp_path / "work" / "epoch_1.pth")["state_dict"]
    weight = "track_head.embed_head.fc_embed.weight"
    assert torch.equal(again[weight], before[weight])
