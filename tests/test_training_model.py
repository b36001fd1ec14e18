"""The training model: what it freezes, what it returns, whom it matches, and every configuration built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.optim import OptimWrapper
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from training_recipe import TinyNetwork, TinyViews, matching_accuracy

from masa_track.errors import InputError
from masa_track.models.checkpoints import checksum
from masa_track.registry import build_model
from masa_track.training.backbone import load_backbone
from masa_track.training.export import export, load_adapter, trained_tensors
from masa_track.training.losses import two_way_loss
from masa_track.training.model import TrainingModel, make_network
from masa_track.training.start import check_accumulation, read_config

pytestmark = pytest.mark.slow  # together they take seconds

CONFIGS = sorted((Path(__file__).resolve().parents[1] / "configs").glob("*.py"))
ALL = {"loss_track", "loss_track_aux", "loss_rpn_cls", "loss_rpn_bbox", "loss_box_cls", "loss_box_bbox"}


def tiny(heads: bool = True, **options: Any) -> TrainingModel:
    torch.manual_seed(0)
    return TrainingModel(TinyNetwork(heads), **{"samples": 64, **options})


def losses(model: TrainingModel, items: Any) -> dict[str, torch.Tensor]:
    return model(**model.data_preprocessor(items, True), mode="loss")


def test_losses_have_their_names_and_reach_all_but_the_backbone() -> None:
    model, data = tiny(), TinyViews()
    result = losses(model, [data[0], data[1]])
    assert set(result) == ALL
    assert all(value.isfinite() and value > 0 for value in result.values())
    sum(result.values()).backward()
    for name, parameter in model.named_parameters():
        if name.startswith("network.backbone."):
            assert parameter.grad is None, name
            assert not parameter.requires_grad, name
        else:
            assert parameter.grad is not None, name
    assert model.network.embed_head.fc_embed.weight.grad.abs().sum() > 0


def test_without_heads_the_regions_are_enough() -> None:
    model = tiny(heads=False)
    result = losses(model, [TinyViews()[0]])
    assert set(result) == {"loss_track", "loss_track_aux"}
    assert result["loss_track"] > 0
    sum(result.values()).backward()  # no box here is large enough for the coarse levels: zeros, for the other processes
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_weights_scale_their_losses_and_zero_distillation_is_left_out() -> None:
    items = [TinyViews()[0]]
    once = losses(tiny(), items)
    twice = losses(tiny(track_weight=0.5, margin_weight=2.0, distillation_weight=2.0), items)
    for name in ALL:
        torch.testing.assert_close(twice[name], 2 * once[name])
    assert set(losses(tiny(distillation_weight=0.0), items)) == {"loss_track", "loss_track_aux"}


def test_random_boxes_replace_the_regions_of_the_track_loss_only() -> None:
    items = [TinyViews()[0], TinyViews()[1]]
    plain, random = losses(tiny(), items), losses(tiny(random_boxes=True), items)
    assert random["loss_track"] > 0
    assert random["loss_track"] != plain["loss_track"]
    assert set(random) == ALL


def test_instances_are_matched_within_an_item_only() -> None:
    """The same numbers in another picture are other things: the loss is the mean of the items', one by one."""
    first, second = TinyViews()[0], TinyViews(seed=1)[1]
    model = tiny(heads=False).eval()  # batch norm must not see the other item
    apart = [losses(model, [item])["loss_track"] for item in (first, second)]
    torch.testing.assert_close(losses(model, [first, second])["loss_track"], sum(apart) / 2, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_an_item_without_regions_is_no_crash() -> None:
    item = TinyViews()[0]
    empty = {"views": [{**v, "boxes": torch.zeros(0, 4), "ids": torch.zeros(0).long()} for v in item["views"]]}
    for items in ([empty], [item, empty], [{"views": [item["views"][0], empty["views"][1]]}]):
        for options in ({}, {"random_boxes": True}, {"heads": False}):
            result = losses(tiny(**options), items)
            assert all(value.isfinite() for value in result.values())
            sum(result.values()).backward()


def test_padding_normalising_and_order() -> None:
    model = tiny()
    first, second = TinyViews()[0], TinyViews()[1]
    second["views"][1]["image"] = second["views"][1]["image"][:, :50, :70]
    got = model.data_preprocessor([first, second], True)
    assert got["inputs"].shape == (4, 3, 96, 96)
    inner = got["inputs"][3, :, :50, :70] * 64 + 127.5  # key views first, then reference views
    torch.testing.assert_close(inner, second["views"][1]["image"].float())
    assert got["inputs"][3, :, 50:].abs().sum() == 0
    assert [sample.size for sample in got["data_samples"]] == [(96, 96), (96, 96), (96, 96), (50, 70)]


def test_mmengine_s_collate_gives_the_same_batch() -> None:
    items = [TinyViews()[0], TinyViews()[1]]
    a, b = (tiny().data_preprocessor(batch, True) for batch in (items, pseudo_collate(items)))
    assert torch.equal(a["inputs"], b["inputs"])
    for x, y in zip(a["data_samples"], b["data_samples"], strict=True):
        assert torch.equal(x.boxes, y.boxes)
        assert torch.equal(x.ids, y.ids)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": torch.zeros(3, 8, 8)}, r"image of view 0 of item 1 must be \(3, H, W\) RGB uint8"),
        ({"ids": torch.tensor([3, 3, 4])}, r"ids of view 0 of item 1 must not repeat, got 3"),
        ({"ids": torch.tensor([3])}, r"beside ids \(N,\), got \(3, 4\) and \(1,\)"),
        ({"boxes": torch.full((3, 4), float("nan"))}, "must be finite"),
    ],
)
def test_bad_views_are_named(change: dict[str, Any], message: str) -> None:
    good = TinyViews()[0]
    boxes = torch.tensor([[0.0, 0, 9, 9], [4, 4, 20, 20], [5, 5, 6, 30]])
    view = {**good["views"][0], "boxes": boxes, "ids": torch.arange(3), **change}
    with pytest.raises(InputError, match=message):
        tiny().data_preprocessor([good, {"views": [view, good["views"][1]]}], True)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(InputError, match="unknown model 'nanno': did you mean 'nano'"):
        TrainingModel("nanno")
    with pytest.raises(InputError, match="margin_weight must be a finite number of at least 0, got -1"):
        tiny(margin_weight=-1)
    with pytest.raises(InputError, match="Linear cannot be trained: it has no backbone, backbone_maps"):
        TrainingModel(nn.Linear(2, 2))
    with pytest.raises(InputError, match="model 'tiny' cannot be built with"):
        make_network({"type": "tiny", "width": 3})
    with pytest.raises(InputError, match="unknown mode 'predict'"):
        tiny()(torch.zeros(2, 3, 64, 64), mode="predict")


@pytest.mark.slow
def test_the_backbone_stays_as_it_is_through_steps() -> None:
    model, data = tiny(), TinyViews()
    before = checksum(model.network.backbone)
    others = {k: v.clone() for k, v in model.state_dict().items() if "backbone" not in k}
    assert not model.network.backbone.training
    assert model.network.masa_adapter.training
    wrapper = OptimWrapper(torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05))
    model.train_step([data[0], data[1]], wrapper)
    assert checksum(model.network.backbone) == before
    assert sum(not torch.equal(v, model.state_dict()[k]) for k, v in others.items()) > len(others) / 2


def test_the_checksum_sees_a_changed_buffer() -> None:
    backbone = TinyNetwork().backbone
    before = checksum(backbone)
    backbone.stages[0][1].running_mean[0] += 1e-3
    assert checksum(backbone) != before


@pytest.mark.slow
def test_loss_falls_and_matching_gets_better() -> None:
    torch.manual_seed(0)
    model, data, held = TrainingModel(TinyNetwork(fusion=False), samples=48), TinyViews(), TinyViews()
    held.set_epoch(998)
    items = [held[i] for i in range(4)]

    def held_losses() -> dict[str, float]:
        model.train()
        model.steps.zero_()  # the same sampling before and after
        with torch.no_grad():
            return {name: value.item() for name, value in losses(model, items).items()}

    before, matched = held_losses(), matching_accuracy(model.network)
    model.train()
    wrapper = OptimWrapper(torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.02, momentum=0.9))
    for step in range(120):
        data.set_epoch(step)
        model.train_step([data[(2 * step + i) % 4] for i in range(2)], wrapper)
    after, better = held_losses(), matching_accuracy(model.network)
    assert after["loss_track"] < 0.75 * before["loss_track"]
    assert after["loss_track_aux"] < 0.9 * before["loss_track_aux"]
    for name in ("loss_rpn_cls", "loss_rpn_bbox", "loss_box_cls"):
        assert after[name] < 0.6 * before[name], name  # not loss_box_bbox: better proposals give it more to learn
    assert better > matched + 0.2


@pytest.mark.parametrize("fusion", [False, True])
def test_mixed_precision_gives_nearly_the_same_losses(fusion: bool) -> None:
    """On the CPU in bfloat16, as --amp does on a GPU; the losses themselves are computed in float32."""
    items = [TinyViews()[0], TinyViews()[1]]
    torch.manual_seed(0)
    model = TrainingModel(TinyNetwork(heads=False, fusion=fusion), samples=64)
    full = losses(model, items)
    model.steps.zero_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = losses(model, items)
    for name, value in full.items():
        assert mixed[name].dtype == torch.float32
        assert mixed[name].item() == pytest.approx(value.item(), rel=0.05)
    sum(mixed.values()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("fusion", [False, True])
def test_mixed_precision_with_heads_is_finite(fusion: bool) -> None:
    """Proposals differ a little, so that their samples, and the losses of these, are not the same."""
    torch.manual_seed(0)
    model = TrainingModel(TinyNetwork(fusion=fusion), samples=64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = losses(model, [TinyViews()[0]])
    assert set(mixed) == ALL
    sum(mixed.values()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


# --- weights in, weights out


@pytest.mark.parametrize("prefix", ["", "backbone.", "detector.backbone."])
def test_backbone_weights_come_by_several_names(prefix: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    other = TinyNetwork()
    path = tmp_path / "weights.safetensors"
    save_file({f"{prefix}{k}": v for k, v in other.backbone.state_dict().items()} | {"head.x": torch.ones(1)}, path)
    model = tiny(backbone_weights=str(path))
    assert checksum(model.network.backbone) == checksum(other.backbone)


def test_sam_s_own_names_are_known() -> None:
    """Only the names: the encoder is built without memory."""
    from masa_track.models.official_keys import our_key

    with torch.device("meta"):
        own = build_model("sam-vitb").state_dict()
    for key in ("patch_embed.proj.weight", "blocks.3.attn.rel_pos_h", "pos_embed", "blocks.11.mlp.lin2.bias"):
        assert our_key(f"detector.backbone.{key}") in own


def test_backbone_weights_that_do_not_fill_it_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    state = TinyNetwork().backbone.state_dict()
    state.pop("stages.0.0.weight")
    save_file(dict(state), path)
    with pytest.raises(InputError, match="do not fill the backbone of TinyNetwork: 1 tensors are missing"):
        load_backbone(TinyNetwork(), path)
    with pytest.raises(InputError, match="no such"):
        load_backbone(TinyNetwork(), tmp_path / "none.safetensors")
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match="not a whole"):
        load_backbone(TinyNetwork(), path)


def test_an_exported_adapter_is_read_back(tmp_path: Path) -> None:
    network = tiny().network
    path = export(network, tmp_path / "adapter.safetensors", "tiny", metadata={"note": "x"})
    with safe_open(path, framework="pt") as file:
        assert file.metadata()["model"] == "tiny"
        assert file.metadata()["note"] == "x"
        assert set(file.keys()) == set(trained_tensors(network))
        assert not any(key.startswith("backbone.") or key.endswith("batches_tracked") for key in file.keys())  # noqa: SIM118
        assert any(key.endswith("running_var") for key in file.keys())  # noqa: SIM118
    torch.manual_seed(5)
    other = TinyNetwork()
    with pytest.raises(InputError, match="trained on another backbone"):
        load_adapter(other, path)
    other.backbone.load_state_dict(network.backbone.state_dict())
    load_adapter(other, path)
    assert all(torch.equal(v, trained_tensors(other)[k]) for k, v in trained_tensors(network).items())
    with pytest.raises(InputError, match="does not fit TinyNetwork"):
        load_adapter(TinyNetwork(heads=False), path)


def test_a_whole_half_export_holds_the_backbone(tmp_path: Path) -> None:
    network = tiny().network
    path = export(network, tmp_path / "model.safetensors", "tiny", backbone=True, half=True)
    with safe_open(path, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        assert file.metadata()["part"] == "whole"
    wanted = {k for k in network.state_dict() if not k.endswith("num_batches_tracked")}
    assert set(tensors) == wanted  # what masa_track.load asks for
    assert all(value.dtype == torch.float16 for value in tensors.values())


def test_what_is_not_finite_is_not_exported(tmp_path: Path) -> None:
    network = tiny().network
    network.embed_head.fc_embed.bias.data[0] = 1e6
    with pytest.raises(InputError, match=r"fc_embed.bias is not finite in half precision"):
        export(network, tmp_path / "x.safetensors", "tiny", half=True)
    assert list(tmp_path.iterdir()) == []


# --- the configurations


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_configuration_is_built(path: Path) -> None:
    """Without memory, on torch's meta device; the weights of the backbones are not here."""
    config = read_config(path, {"model.backbone_weights": None})
    assert check_accumulation(config) >= 1
    options = {key: value for key, value in config.model.items() if key != "type"}
    with torch.device("meta"):
        model = TrainingModel(**options)
    trained = {name.split(".")[1] for name, p in model.named_parameters() if p.requires_grad}
    assert "backbone" not in trained
    assert trained
    if not path.stem.startswith("nano"):
        assert config.auto_scale_lr == {"enable": True, "base_batch_size": 64}
        assert trained == {"masa_adapter", "rpn_head", "roi_head", "track_head"}
        assert config.train_dataloader.sampler.samples == 200_000
        assert config.optim_wrapper.optimizer.lr == 0.08
        assert model.weights == {
            **dict.fromkeys(("margin_weight", "distillation_weight"), 1.0),
            "track_weight": 0.25,
            "pull_weight": 0.0,
        }
    else:
        assert trained == ({"rpn_head"} if path.stem == "nano_detector" else {"adapter", "rpn_head", "track_head"})
        assert config.train_dataloader.dataset.type == "Composites"


def test_there_are_eight_configurations() -> None:
    assert [path.stem for path in CONFIGS] == [
        "detic_swinb", "gdino_swinb", "nano", "nano_detector", "nano_small_gpu", "r50", "sam_vitb", "sam_vith",
    ]  # fmt: skip


@pytest.mark.slow
def test_the_official_r50_takes_a_step() -> None:
    torch.manual_seed(0)
    model = TrainingModel("r50", samples=16)
    item = TinyViews()[0]
    result = losses(model, [item])
    assert set(result) == ALL
    sum(result.values()).backward()
    assert model.network.track_head.embed_head.fc_embed.weight.grad.abs().sum() > 0
    assert model.network.masa_adapter[1].dyhead_blocks[0].spatial_conv_offset.weight.grad.isfinite().all()


@pytest.mark.slow
def test_the_pull_is_nothing_at_the_start_and_grows_with_the_distance() -> None:
    torch.manual_seed(0)
    model = TrainingModel("nano", samples=16, pull_weight=2.0)
    item = TinyViews()[0]
    first = losses(model, [item])
    assert "loss_pull" not in losses(TrainingModel("nano", samples=16), [item])
    assert float(first["loss_pull"].detach()) == pytest.approx(0, abs=1e-4)
    with torch.no_grad():
        for convolution in model.network.adapter.correct:
            convolution.weight.add_(torch.randn_like(convolution.weight))
    far = losses(model, [item])["loss_pull"]
    assert 0.01 < float(far.detach()) < 4
    far.backward()
    assert model.network.adapter.correct[0].weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in model.network.backbone.parameters())
    with pytest.raises(InputError, match="pull_weight must be 0 for OfficialMasa, which has no embed_start"):
        TrainingModel("r50", pull_weight=1.0)


def test_regions_alone_are_compared_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proposal is made; what the loss sees are the embeddings of the regions of both views."""
    torch.manual_seed(0)
    model = TrainingModel("nano", pairs="regions", samples=64)
    monkeypatch.setattr(model.network.rpn_head, "propose", lambda *_: pytest.fail("proposals were made"))
    item = TinyViews()[0]
    inputs = model.data_preprocessor([item], True)
    got = model(**inputs, mode="loss")
    views = inputs["data_samples"]
    levels = model.network.adapt(model.network.backbone_maps(inputs["inputs"]))
    first, second = (model.network.embed(levels, [v.boxes if w is v else v.boxes[:0] for w in views]) for v in views)
    same = views[0].ids[:, None] == views[1].ids[None]
    assert float(got["loss_track"].detach()) == pytest.approx(0.25 * float(two_way_loss(first, second, same)), rel=1e-3)
    with pytest.raises(InputError, match="unknown pairs 'region': did you mean 'regions'"):
        TrainingModel("nano", pairs="region")


def test_one_part_learns_and_the_rest_stays() -> None:
    """Not only weights: the statistics of the norms as well."""
    torch.manual_seed(0)
    model = TrainingModel("nano", learn=["rpn_head"], track_weight=0, margin_weight=0)
    before = {name: checksum(module) for name, module in model.network.named_children()}
    result = losses(model, [TinyViews()[0]])
    assert set(result) == {"loss_rpn_cls", "loss_rpn_bbox"}
    sum(result.values()).backward()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    optimizer.step()
    changed = [name for name, module in model.network.named_children() if checksum(module) != before[name]]
    assert changed == ["rpn_head"]
    with pytest.raises(InputError, match="unknown part to learn 'rpn': did you mean 'rpn_head'"):
        TrainingModel("nano", learn=["rpn"])
