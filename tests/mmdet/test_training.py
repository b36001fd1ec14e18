"""A step through mmdet's runner and one through ours, of one configuration and seed: the same losses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import MODELS as OUR_MODELS
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mot_clips import ROOT, load_tool
from training_data import TRAINING, write_photographs

from masa_track.errors import InputError
from masa_track.integrations.mmdet.training import as_ours
from masa_track.integrations.mmdet.views import view_boxes
from masa_track.training.batch import prepare
from masa_track.training.losses import contrastive_loss

LOSSES = ("loss_track", "loss_track_aux", "loss_rpn_cls", "loss_rpn_bbox", "loss_box_cls", "loss_box_bbox")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photographs(tmp_path_factory.mktemp("photographs"))


@pytest.fixture
def config(photographs: Path, tmp_path: Path) -> Path:
    path = tmp_path / "small.py"
    path.write_text(
        TRAINING.format(photographs=str(photographs))
        + """
model = dict(
    masa_adapter=[
        dict(type="FPN", in_channels=[256, 512, 1024, 2048], out_channels=256, norm_cfg=dict(type="BN"), num_outs=5),
        dict(type="DeformFusion", in_channels=256, out_channels=256, num_blocks=1),
    ],
    roi_head=dict(bbox_head=dict(type="Shared2FCBBoxHead")),
    track_head=dict(embed_head=dict(num_convs=1), train_cfg=dict(sampler=dict(num=32))),
    test_cfg=dict(rpn=dict(nms_pre=50, max_per_img=50)),
)
"""
    )
    return path


def logged(work: Path) -> list[dict[str, float]]:
    (file,) = work.rglob("vis_data/scalars.json")
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.slow
def test_both_runners_give_the_same_losses(config: Path, tmp_path: Path) -> None:
    theirs = Config.fromfile(config)
    theirs.work_dir = str(tmp_path / "theirs")
    runner = Runner.from_cfg(theirs)
    backbone = {key: value.clone() for key, value in runner.model.backbone.state_dict().items()}
    before = runner.model.track_head.embed_head.fc_embed.weight.detach().clone()
    runner.train()
    assert all(torch.equal(value, backbone[key]) for key, value in runner.model.backbone.state_dict().items())
    assert not torch.equal(runner.model.track_head.embed_head.fc_embed.weight, before)

    command = [str(config), "--work-dir", str(tmp_path / "ours"), "--device", "cpu"]
    assert load_tool("train").main(command) == 0
    steps = list(zip(logged(tmp_path / "theirs"), logged(tmp_path / "ours"), strict=True))
    assert len(steps) == 2
    for their, our in steps:
        for name in LOSSES:
            assert our[name] == pytest.approx(their[name], rel=1e-5, abs=1e-7), name
    assert steps[0][0]["loss_track"] > 0
    assert steps[0][0]["loss"] != steps[1][0]["loss"]


SMALL = """
model = dict(
    backbone=dict(_delete_=True, type="ResNet", depth=18, out_indices=(0, 1, 2, 3)),
    masa_adapter=[
        dict(type="FPN", in_channels=[64, 128, 256, 512], out_channels=256, norm_cfg=dict(type="BN"), num_outs=5),
    ],
    roi_head=dict(bbox_head=dict(type="Shared2FCBBoxHead")),
    track_head=dict(embed_head=dict(num_convs=1), train_cfg=dict(sampler=dict(num=32))),
    test_cfg=dict(rpn=dict(nms_pre=50, max_per_img=50)),
)
"""
PARTS = ("backbone", "masa_adapter", "rpn_head", "roi_head", "track_head")


def small_config(photographs: Path, folder: Path, more: str = "") -> Path:
    """A configuration with a ResNet-18, which trains on the photographs in a second."""
    path = folder / "resnet18.py"
    path.write_text(TRAINING.format(photographs=str(photographs)) + SMALL + more)
    return path


@pytest.mark.parametrize("runner", ["mmdet's", "ours"])
@pytest.mark.parametrize(
    ("key", "frozen"),
    [("freeze_masa_adapter", {"masa_adapter"}), ("freeze_object_prior_distillation", {"rpn_head", "roi_head"})],
)
def test_a_frozen_part_does_not_learn(
    photographs: Path, tmp_path: Path, key: str, frozen: set[str], runner: str
) -> None:
    """One step of the optimizer by mmdet's runner or by ours: all other parts but the backbone learn."""
    init_default_scope("mmdet")
    config = Config.fromfile(small_config(photographs, tmp_path))
    config.model[key] = True
    data = DATASETS.build(config.train_dataloader.dataset)
    model: Any
    if runner == "ours":
        model = OUR_MODELS.build(as_ours(config).model)
        losses = model(**model.data_preprocessor([data.views[0], data.views[1]], training=True))
        network = model.network
    else:
        model = MODELS.build(config.model)
        assert not any(p.requires_grad for name in frozen for p in getattr(model, name).parameters())
        model.train()
        losses = model(**model.data_preprocessor(pseudo_collate([data[0], data[1]]), training=True), mode="loss")
        network = model.net
    before = {key: value.clone() for key, value in network.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    sum(losses.values()).backward()
    optimizer.step()
    for name in PARTS:
        part = getattr(network, name)
        changed = [key for key, value in part.state_dict().items() if not torch.equal(value, before[f"{name}.{key}"])]
        if name in frozen | {"backbone"}:
            assert all(parameter.grad is None for parameter in part.parameters()), name
            assert not changed, name
            assert not any(module.training for module in part.modules()), name
        else:
            assert changed, name
    assert losses["loss_rpn_cls"] > 0  # it still teaches the adapter


def test_a_part_that_is_not_there_cannot_be_frozen(photographs: Path, tmp_path: Path) -> None:
    init_default_scope("mmdet")
    config = Config.fromfile(small_config(photographs, tmp_path))
    config.model.update(rpn_head=None, roi_head=None, freeze_object_prior_distillation=True)
    with pytest.raises(InputError, match="freeze_object_prior_distillation=True: this model has no rpn_head"):
        MODELS.build(config.model)
    with pytest.raises(InputError, match="freeze_masa_adapter=True: this model has no masa_adapter"):
        MODELS.build({"type": "MASA", "network": "nano", "freeze_masa_adapter": True})


def test_views_are_packed_as_our_batch_has_them(photographs: Path) -> None:
    init_default_scope("mmdet")
    options = {"ann_file": "regions.json", "data_root": str(photographs), "size": (96, 128), "settings": "mild"}
    data = DATASETS.build({"type": "MASADataset", **options, "samples": 6, "serialize_data": True, "pipeline": []})
    assert len(data) == 6
    items = [data.views[index] for index in (1, 5)]
    preprocessor = MODELS.build(Config.fromfile(ROOT / "configs/mmdet/train_r50.py").model.data_preprocessor)
    batch: dict[str, Any] = preprocessor(pseudo_collate([data[1], data[5]]), training=True)
    images, known = view_boxes(batch["inputs"], batch["data_samples"])
    mean, std = (torch.tensor(preprocessor.__getattr__(name).flatten().tolist()) for name in ("mean", "std"))
    expected, ours = prepare(items, mean, std, 32)
    assert torch.allclose(images, expected, atol=1e-6)
    for one, other in zip(known, ours, strict=True):
        assert torch.equal(one.boxes, other.boxes)
        assert torch.equal(one.ids, other.ids)
        assert one.size == other.size == (96, 128)


def test_the_authors_wrappers_of_data(photographs: Path) -> None:
    init_default_scope("mmdet")
    inner = {
        "type": "MASADataset",
        "ann_file": "regions.json",
        "data_root": str(photographs),
        "data_prefix": {"img": ""},
        "serialize_data": True,
        "pipeline": [{"type": "LoadImageFromFile"}, {"type": "LoadMatchAnnotations"}],
    }
    joined = {"type": "RandomSampleConcatDataset", "sampling_probs": [1], "fixed_length": 10, "datasets": [inner]}
    steps = [{"type": "MasaTransformBroadcaster", "transforms": [{"type": "SeqRandomAffine"}, {"type": "SeqMixUp"}]}]
    data = DATASETS.build({"type": "SeqMultiImageMixDataset", "dataset": joined, "pipeline": steps})
    assert len(data) == 10
    assert data.views.size == (1024, 1024)
    steps[0]["transforms"].append({"type": "Rotate"})
    with pytest.raises(InputError, match="Rotate is not in the authors' published pipeline"):
        DATASETS.build({"type": "SeqMultiImageMixDataset", "dataset": joined, "pipeline": steps})
    with pytest.raises(InputError, match="holds pickles"):
        DATASETS.build({**inner, "anno_hdf5_path": "a.hdf5"})


def test_the_loss_by_its_official_name() -> None:
    init_default_scope("mmdet")
    loss = MODELS.build({"type": "UnbiasedContrastLoss", "loss_weight": 0.25})
    rng = np.random.default_rng(0)
    key, ref = (torch.from_numpy(rng.normal(size=(n, 8)).astype(np.float32)) for n in (5, 7))
    targets = torch.from_numpy(rng.integers(0, 2, (5, 7)))
    assert torch.equal(loss(key, ref, targets), 0.25 * contrastive_loss(key, ref, targets))
