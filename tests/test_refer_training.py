"""Training of MTTR: what has gradients, a short run that learns, resumed to the same numbers, the shipped files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer

from masa_track.errors import InputError
from masa_track.models.checkpoints import checksum
from masa_track.refer.data import SyntheticClips
from masa_track.refer.model import Mttr
from masa_track.refer.scoring import score_clips
from masa_track.refer.settings import TINY
from masa_track.refer.synthetic import KINDS, VALUES, make_clip
from masa_track.refer.video_encoders import build_video_encoder
from masa_track.refer.weights import load_weights, save_video_weights
from masa_track.training.hooks import training_model
from masa_track.training.refer import ReferTraining
from masa_track.training.refer_video import SyntheticObjects
from masa_track.training.start import make_runner, read_config

CONFIGS = Path(__file__).resolve().parents[1] / "configs" / "refer"


@pytest.fixture(autouse=True)
def forget_mmengine() -> Iterator[None]:
    """mmengine keeps loggers and hubs by name for the whole process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    for kind in (MessageHub, MMLogger, DefaultScope, Visualizer):
        kind._instance_dict.clear()


def step(model: ReferTraining, clips: int = 2) -> dict[str, torch.Tensor]:
    """The losses of a batch, after their gradients were computed."""
    data = SyntheticClips([{"clips": clips}])
    losses = model(**model.data_preprocessor([data[i] for i in range(clips)], True))
    torch.stack(list(losses.values())).sum().backward()
    return losses


def test_a_frozen_text_encoder_has_no_gradients_and_no_dropout() -> None:
    model = ReferTraining({"type": "tiny", "text": {"dropout": 0.5}}, frozen_text=True)
    losses = step(model)
    assert {"loss_dice", "loss_dice_0", "loss_sigmoid_focal", "loss_is_referred", "loss_is_referred_0"} <= losses.keys()
    assert not any(p.requires_grad for p in model.network.text.parameters())
    without = [name for name, p in model.network.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    assert not model.network.text.training
    assert model.network.encoder.training
    assert model.frozen is model.network.text


def test_an_open_text_encoder_learns() -> None:
    model = ReferTraining({"type": "tiny"}, frozen_text=False)
    step(model)
    gradients = {name: p.grad for name, p in model.network.text.named_parameters()}
    assert all(g is not None for g in gradients.values())
    words = gradients["embeddings.word_embeddings.weight"].abs().sum(dim=1)
    assert words[4] > 0  # "the", which is in each sentence
    assert float(gradients["encoder.layer.0.attention.self.value.weight"].abs().sum()) > 0
    assert checksum(model.frozen) == checksum(torch.nn.Module())


def test_all_gradients_reach_the_video_encoder() -> None:
    model = ReferTraining({"type": "tiny"}, frozen_text=False)
    step(model)
    assert all(float(p.grad.abs().sum()) > 0 for p in model.network.video.parameters())


def test_chance_of_a_step_depends_on_its_number() -> None:
    """With dropout, a run that is resumed at a step gives what the uninterrupted one gave."""
    model = ReferTraining({"type": "tiny", "dropout": 0.3}, seed=3)
    first, second = (float(sum(step(model).values()).detach()) for _ in range(2))
    assert first != second
    model.steps.fill_(1)
    assert float(sum(step(model).values()).detach()) == second


def test_settings_that_cannot_be() -> None:
    with pytest.raises(InputError, match="fields of LossSettings"):
        ReferTraining({"type": "tiny"}, losses={"refrence": 2.0})
    with pytest.raises(InputError, match="key of network"):
        ReferTraining({"type": "tiny", "query": 2})
    with pytest.raises(InputError, match="tokenizer"):
        ReferTraining({"type": "tiny"}, tokenizer="nowhere")


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.py")), ids=lambda p: p.stem)
def test_shipped_configurations_are_read(path: Path) -> None:
    config = read_config(path)
    if path.stem == "synthetic_video":
        assert config.train_dataloader.sampler.samples == config.train_dataloader.dataset.clips
        return
    assert config.model.type == "ReferTraining"
    assert config.optim_wrapper.clip_grad.max_norm == 0.1
    window = config.custom_hooks[0].window
    data = config.train_dataloader.dataset
    if data.type == "SyntheticClips":
        assert window == 4
        assert config.train_dataloader.sampler.samples <= sum(part.clips for part in data.parts)
    else:
        assert data.window == window
        assert config.optim_wrapper.optimizer.type == "AdamW"


def test_an_unknown_key_of_the_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="frozen_text"):
        read_config(CONFIGS / "synthetic.py", {"model.frozen_txt": True})


def learning_rates(config: Any) -> dict[str, float]:
    """The rate of each parameter, as mmengine's optimizer would have it."""
    from mmengine.optim import build_optim_wrapper

    network = torch.nn.Module()
    network.network = Mttr(TINY, frozen_text=False)
    wrapper = build_optim_wrapper(network, config.optim_wrapper)
    names = {id(p): name for name, p in network.named_parameters()}
    return {names[id(p)]: group["lr"] for group in wrapper.optimizer.param_groups for p in group["params"]}


def test_rates_of_the_published_recipe() -> None:
    rates = learning_rates(read_config(CONFIGS / "a2d_w10.py"))
    for name, rate in rates.items():
        wanted = 1e-5 if name.startswith("network.video.") else 5e-5 if name.startswith("network.text.") else 1e-4
        assert rate == pytest.approx(wanted), name
    assert rates["network.video_projection.weight"] == pytest.approx(1e-4)


SHORT = {
    "train_dataloader.batch_size": 4,
    "train_dataloader.sampler.samples": 480,
    "default_hooks.checkpoint.interval": 60,
    "default_hooks.logger.interval": 10,
    "param_scheduler": [{"type": "LinearLR", "start_factor": 0.1, "by_epoch": False, "begin": 0, "end": 20}],
}


def test_a_video_encoder_starts_from_its_own_training(tmp_path: Path) -> None:
    """The next training starts with the weights that the encoder learned, and refuses those of another size."""
    given = build_video_encoder(TINY)
    save_video_weights(given, tmp_path / "video.safetensors")
    model = ReferTraining("tiny", video_weights=str(tmp_path / "video.safetensors"))
    assert all(torch.equal(a, b) for a, b in zip(given.parameters(), model.network.video.parameters(), strict=True))
    with pytest.raises(InputError, match="does not fit"):
        ReferTraining({"type": "tiny", "conv_widths": (24, 48, 64)}, video_weights=str(tmp_path / "video.safetensors"))
    with pytest.raises(InputError, match="no such checkpoint"):
        ReferTraining("tiny", video_weights=str(tmp_path / "swin3d_t"))


def test_a_clip_of_one_object_has_its_attributes() -> None:
    data = SyntheticObjects(20, first_seed=7)
    for index in (0, 19):
        clip = make_clip(7 + index, count=(1, 1))
        video, names = data[index]
        assert np.array_equal(video.permute(0, 2, 3, 1).numpy(), clip.video)
        assert [VALUES[kind][names[k]] for k, kind in enumerate(KINDS)] == list(clip.objects[0].values())
    with pytest.raises(InputError, match="clips"):
        SyntheticObjects(0)


@pytest.mark.slow
def test_a_video_encoder_learns_colours_and_motion(tmp_path: Path) -> None:
    """In 120 steps, on clips that it has not seen; what it wrote is what it learned."""
    short = {
        "train_dataloader.batch_size": 16,
        "train_dataloader.sampler.samples": 16 * 120,
        "param_scheduler": [{"type": "LinearLR", "start_factor": 0.1, "by_epoch": False, "begin": 0, "end": 20}],
    }
    runner = make_runner(read_config(CONFIGS / "synthetic_video.py", short), tmp_path)
    model = training_model(runner)
    data = SyntheticObjects(100, first_seed=1_000_000)
    batch = model.data_preprocessor([data[i] for i in range(100)])

    def shares() -> list[float]:
        with torch.inference_mode():
            found = model.classify(batch["videos"])
        return [float((f.argmax(1) == batch["names"][:, k]).float().mean()) for k, f in enumerate(found)]

    assert max(shares()) < 0.6
    runner.train()
    colour, _, motion = shares()
    assert colour > 0.9
    assert motion > 0.8
    written = ReferTraining("tiny", video_weights=str(tmp_path / "video.safetensors")).network.video
    assert all(torch.equal(a, b) for a, b in zip(model.video.parameters(), written.parameters(), strict=True))


def mean_iou(network: Mttr) -> float:
    """The mean IoU of the selected masks with those of the sentences' objects, on clips that were not seen."""
    return float(np.mean([s.iou for s in score_clips(network.eval(), range(1_000_000, 1_000_020), ("motion",))]))


@pytest.mark.slow
def test_a_short_training_learns_and_is_resumed_bit_by_bit(tmp_path: Path) -> None:
    """The loss falls, masks get better, and a run that goes on in the middle ends with the same weights."""
    runner = make_runner(read_config(CONFIGS / "synthetic.py", SHORT), tmp_path / "whole")
    before = training_model(runner).network
    start = mean_iou(before)
    runner.train()
    history = runner.message_hub.get_scalar("train/loss").data[0]
    assert history[-20:].mean() < 0.6 * history[:20].mean()
    whole = load_weights(tmp_path / "whole" / "model.safetensors", "synthetic").network
    assert mean_iou(whole) > start + 0.15
    forget = [MessageHub, MMLogger, DefaultScope, Visualizer]
    for kind in forget:
        kind._instance_dict.clear()
    config = read_config(CONFIGS / "synthetic.py", SHORT)
    make_runner(config, tmp_path / "resumed", str(tmp_path / "whole" / "iter_60.pth")).train()
    resumed = load_weights(tmp_path / "resumed" / "model.safetensors").network
    for (name, value), other in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(value, other), name


def test_mixed_precision_gives_nearly_the_same_losses() -> None:
    """As on a GPU with --amp: the network in half precision, the losses in float32."""
    model = ReferTraining({"type": "tiny"}, frozen_text=True)
    whole = {name: float(value.detach()) for name, value in step(model).items()}
    model.zero_grad()
    model.steps.zero_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = step(model)
    for name, value in half.items():
        assert value.dtype == torch.float32
        assert float(value.detach()) == pytest.approx(whole[name], rel=0.1, abs=0.05), name
    assert all(torch.isfinite(p.grad).all() for p in model.network.parameters() if p.grad is not None)
