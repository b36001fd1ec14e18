"""tools/train.py: a tiny training from its command line, interrupted and resumed, and what goes wrong."""

from __future__ import annotations

import importlib.util
import os
import pickle
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import HOOKS, DefaultScope
from mmengine.visualization import Visualizer
from safetensors import safe_open
from training_recipe import TinyNetwork, TinyViews

from masa_track.errors import InputError
from masa_track.training.checkpoint import differences, latest_checkpoint, read_training_checkpoint
from masa_track.training.export import load_adapter
from masa_track.training.hooks import training_model
from masa_track.training.order import PhotoSampler

pytestmark = pytest.mark.slow  # most train
ROOT = Path(__file__).resolve().parents[1]
CONFIG = """
_base_ = {schedule!r}
custom_imports = dict(imports=["training_recipe"])
model = dict(type="TrainingModel", network="tiny", samples=32)
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    sampler=dict(type="PhotoSampler"),
    dataset=dict(type="TinyViews", pictures=4, repeats=2),
)
train_cfg = dict(max_epochs=2)
auto_scale_lr = dict(enable=False)
optim_wrapper = dict(optimizer=dict(lr=0.02))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=4),
    dict(type="MultiStepLR", by_epoch=True, begin=0, end=2, milestones=[1], gamma=0.5),
]
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=100))
"""


@HOOKS.register_module()
class BreakHook(Hook):
    """Pulls the plug, sends Ctrl-C, or changes the frozen backbone, in the middle of an iteration."""

    def __init__(self, iteration: int, how: str) -> None:
        self.iteration, self.how = iteration, how

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        if runner.iter == self.iteration:
            if self.how == "plug":
                raise ConnectionError("the plug was pulled")
            if self.how == "thaw":
                next(training_model(runner).network.backbone.parameters()).data[0] += 1e-3
            else:
                os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("train_tool", ROOT / "tools" / "train.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "tiny.py"
    path.write_text(CONFIG.format(schedule=str(ROOT / "configs" / "_base_" / "schedule.py")))
    return path


@pytest.fixture(autouse=True)
def _one_run_after_the_other() -> Iterator[None]:
    """mmengine keeps loggers and message hubs by name for a process's life; a run of its own has none."""
    yield
    _forget()


def _forget() -> None:
    for manager in (MessageHub, MMLogger, Visualizer, DefaultScope):
        manager._instance_dict.clear()


def train(tool: ModuleType, config: Path, work_dir: Path, *more: str) -> int:
    return tool.main([str(config), "--work-dir", str(work_dir), "--device", "cpu", *more])


def state(path: Path) -> dict[str, torch.Tensor]:
    return read_training_checkpoint(path)["state_dict"]


@pytest.fixture(scope="module")
def uninterrupted(tool: ModuleType, config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    assert train(tool, config, folder, "--cfg-options", "default_hooks.checkpoint.interval=1") == 0
    return folder


def test_a_training_leaves_checkpoints_a_log_and_the_adapter(uninterrupted: Path) -> None:
    assert sorted(path.name for path in uninterrupted.glob("*.pth")) == ["iter_6.pth", "iter_7.pth", "iter_8.pth"]
    assert not list(uninterrupted.glob(".*.part"))
    assert len(next(uninterrupted.rglob("vis_data/*scalars.json")).read_text().splitlines()) == 8
    with safe_open(uninterrupted / "adapter.safetensors", framework="pt") as file:
        assert file.metadata()["model"] == "tiny"
    weights = state(uninterrupted / "iter_8.pth")
    network = TinyNetwork()
    network.backbone.load_state_dict(
        {k.removeprefix("network.backbone."): v for k, v in weights.items() if k.startswith("network.backbone.")}
    )
    load_adapter(network, uninterrupted / "adapter.safetensors")
    for key, value in network.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            assert torch.equal(value, weights[f"network.{key}"]), key


def test_checkpoints_are_plain_data(uninterrupted: Path) -> None:
    with torch.serialization.safe_globals([]):
        content = torch.load(uninterrupted / "iter_8.pth", weights_only=True)
    assert {"state_dict", "optimizer", "param_schedulers", "message_hub", "meta"} <= content.keys()
    assert content["state_dict"]["steps"] == 8


@pytest.mark.parametrize(("how", "iteration", "status"), [("plug", 3, None), ("plug", 4, None), ("ctrl-c", 5, 130)])
def test_resumed_is_the_same_as_uninterrupted(
    tool: ModuleType, config: Path, uninterrupted: Path, tmp_path: Path, how: str, iteration: int, status: int | None
) -> None:
    """In the middle of an epoch, and between two (4 iterations an epoch)."""
    broken = config.with_name("broken.py")
    broken.write_text(
        f"_base_ = 'tiny.py'\ncustom_hooks = [dict(type='BreakHook', iteration={iteration}, how={how!r}), "
        "dict(type='ExportHook')]\n"
    )
    interval = ("--cfg-options", f"default_hooks.checkpoint.interval={1 if how == 'plug' else 100}")
    if status is None:
        with pytest.raises(ConnectionError):
            train(tool, broken, tmp_path, *interval)
        last = iteration
    else:
        assert train(tool, broken, tmp_path, *interval) == status
        last = iteration + 1  # the step is finished and saved
    assert latest_checkpoint(tmp_path) == tmp_path / f"iter_{last}.pth"
    assert not (tmp_path / "adapter.safetensors").exists()
    _forget()
    options = ("--cfg-options", "default_hooks.checkpoint.interval=1")
    assert train(tool, config, tmp_path, "--resume", *options) == 0
    ours, theirs = state(tmp_path / "iter_8.pth"), state(uninterrupted / "iter_8.pth")
    assert ours.keys() == theirs.keys()
    for key in ours:
        assert torch.equal(ours[key], theirs[key]), key


def test_resume_without_a_checkpoint_starts_anew(tool: ModuleType, config: Path, tmp_path: Path) -> None:
    options = ("train_cfg.max_epochs=1", "train_dataloader.dataset.repeats=1")
    assert train(tool, config, tmp_path, "--resume", "--cfg-options", *options) == 0
    assert (tmp_path / "adapter.safetensors").exists()


def test_the_configuration_can_ask_to_resume(
    tool: ModuleType, config: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    shutil.copy(uninterrupted / "iter_7.pth", tmp_path)
    resuming = config.with_name("resuming.py")
    resuming.write_text("_base_ = 'tiny.py'\nresume = True\n")
    assert train(tool, resuming, tmp_path, "--cfg-options", "default_hooks.checkpoint.interval=1") == 0
    assert sorted(path.name for path in tmp_path.glob("*.pth")) == ["iter_7.pth", "iter_8.pth"]


def test_a_backbone_that_was_changed_ends_the_training(tool: ModuleType, config: Path, tmp_path: Path) -> None:
    thawed = config.with_name("thawed.py")
    thawed.write_text("_base_ = 'tiny.py'\ncustom_hooks = [dict(type='BreakHook', iteration=1, how='thaw')]\n")
    with pytest.raises(RuntimeError, match="the frozen backbone was changed by training"):
        train(tool, thawed, tmp_path, "--cfg-options", "train_cfg.max_epochs=1")


def test_accumulation_updates_every_second_iteration(tool: ModuleType, config: Path, tmp_path: Path) -> None:
    """Batches of 1, two an update, are two updates for four pictures; checkpoints fall between updates."""
    options = ("--cfg-options", "train_dataloader.batch_size=1", "optim_wrapper.accumulative_counts=2")
    options += ("train_cfg.max_epochs=1", "train_dataloader.dataset.repeats=1", "default_hooks.checkpoint.interval=1")
    assert train(tool, config, tmp_path, *options) == 2  # refused: see the next test
    options = (*options[:-1], "default_hooks.checkpoint.interval=2")
    assert train(tool, config, tmp_path, *options) == 0
    assert sorted(path.name for path in tmp_path.glob("*.pth")) == ["iter_2.pth", "iter_4.pth"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cfg-options", "modell.samples=3"], "unknown key in --cfg-options 'modell': did you mean 'model'?"),
        (["--cfg-options", "model.margin=3"], "unknown key of model 'margin': did you mean 'margin_weight'?"),
        (["--cfg-options", "model.margin_weight=-3"], "margin_weight must be a finite number of at least 0"),
        (["--cfg-options", "model.network=tony"], "unknown model 'tony': did you mean 'tiny'?"),
        (["--cfg-options", "optim_wrapper.accumulative_counts=3"], "must be a multiple of optim_wrapper"),
        (["--cfg-options", "train_dataloader.sampler.samples=99"], "samples an epoch must be 1 to the 8 items"),
        (
            ["--cfg-options", "train_dataloader.batch_size=9", "train_dataloader.drop_last=True"],
            "batch_size 9 is more than the 8 items",
        ),
        (["--resume", "nowhere.pth"], "no such checkpoint to resume from: nowhere.pth"),
        (["--cfg-options", "load_from=nowhere.pth"], "no such checkpoint: nowhere.pth"),
    ],
)
def test_mistakes_are_named_before_any_work(
    tool: ModuleType, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert train(tool, config, tmp_path, *options) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("*.pth"))


def test_a_missing_configuration(tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(tool, tmp_path / "none.py", tmp_path) == 2
    assert "no such configuration" in capsys.readouterr().err
    (tmp_path / "empty.py").write_text("x = 1\n")
    assert train(tool, tmp_path / "empty.py", tmp_path) == 2
    assert "it has no 'model'" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about a machine without a GPU")
def test_amp_needs_a_gpu(tool: ModuleType, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(tool, config, tmp_path, "--amp") == 2
    assert "--amp needs a GPU" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["model.margin_weight=0.5"], "model.margin_weight: 0.5 here, None there"),
        (["optim_wrapper.optimizer.lr=0.5"], "optim_wrapper.optimizer.lr: 0.5 here, 0.02 there"),
        (["randomness.seed=1"], "seed: 1 here, 0 there"),
    ],
)
def test_a_checkpoint_of_another_configuration_is_not_resumed(
    tool: ModuleType,
    config: Path,
    uninterrupted: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    checkpoint = str(uninterrupted / "iter_7.pth")
    assert train(tool, config, tmp_path, "--resume", checkpoint, "--cfg-options", *options) == 2
    error = capsys.readouterr().err
    assert "of another configuration" in error
    assert message in error


def test_weights_of_another_model_are_not_loaded(
    tool: ModuleType, config: Path, uninterrupted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = config.with_name("other.py")
    other.write_text("_base_ = 'tiny.py'\nmodel = dict(network=dict(type='tiny', heads=False, _delete_=True))\n")
    assert train(tool, other, tmp_path, "--cfg-options", f"load_from={uninterrupted / 'iter_7.pth'}") == 2
    assert "is a checkpoint of another model" in capsys.readouterr().err


def test_nothing_in_a_checkpoint_is_run(
    tool: ModuleType, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Attack:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "owned",))

    evil = tmp_path / "evil.pth"
    torch.save({"state_dict": {}, "meta": Attack()}, evil)
    for options in (["--resume", str(evil)], ["--cfg-options", f"load_from={evil}"]):
        _forget()
        assert train(tool, config, tmp_path / "work", *options) == 2
        assert "holds more than plain data" in capsys.readouterr().err
    assert not (tmp_path / "owned").exists()
    with evil.open("rb"):
        torch.load(evil, weights_only=False)  # the attack is a real one
    assert (tmp_path / "owned").exists()


def test_broken_checkpoints_are_named(uninterrupted: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.pth"
    half.write_bytes((uninterrupted / "iter_8.pth").read_bytes()[:5000])
    with pytest.raises(InputError, match="is not a whole checkpoint"):
        read_training_checkpoint(half)
    half.write_bytes(pickle.dumps([1]))
    with pytest.raises(InputError, match=r"half\.pth"):
        read_training_checkpoint(half)
    torch.save({"a": torch.ones(1)}, half)
    with pytest.raises(InputError, match="holds no state_dict"):
        read_training_checkpoint(half)


@pytest.mark.parametrize("later", ["iter_10.pth", "epoch_99.pth"])
def test_the_latest_checkpoint_is_the_one_of_the_largest_number(tmp_path: Path, later: str) -> None:
    """Of the last iteration and the last epoch, the one that was written later."""
    names = ("iter_10.pth", "epoch_99.pth", "iter_9.pth", "epoch_98.pth", ".iter_11.pth.part", "iter_x.pth")
    for seconds, name in enumerate(names):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (seconds, 100 if name == later else seconds))
    assert latest_checkpoint(tmp_path) == tmp_path / later
    assert latest_checkpoint(tmp_path / "none") is None


def test_differences_are_found_in_depth() -> None:
    assert differences({"a": {"b": 1, "c": [1]}}, {"a": {"b": 1, "c": [1]}}) == []
    assert differences({"a": {"b": 1}}, {"a": {"b": 2, "c": 3}}) == ["a.b: 1 here, 2 there", "a.c: None here, 3 there"]


# --- the order of photographs


def test_every_pass_shows_every_item_once() -> None:
    sampler = PhotoSampler(range(7), seed=3, samples=5)
    stream = []
    for epoch in range(7):
        sampler.set_epoch(epoch)
        stream += list(sampler)
    passes = [stream[i : i + 7] for i in range(0, 35, 7)]
    assert all(sorted(one) == list(range(7)) for one in passes)
    assert len({tuple(one) for one in passes}) > 1


def test_skipping_gives_what_is_left_once() -> None:
    sampler = PhotoSampler(range(9), seed=1)
    whole = list(sampler)
    sampler.skip(4)
    assert list(sampler) == whole[4:]
    assert list(sampler) == whole
    assert len(sampler) == 9


def test_processes_share_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = list(PhotoSampler(range(8), seed=2))
    parts = []
    for rank in range(2):
        monkeypatch.setattr("masa_track.training.order.get_dist_info", lambda rank=rank: (rank, 2))
        parts.append(list(PhotoSampler(range(8), seed=2)))
    assert [item for pair in zip(*parts, strict=True) for item in pair] == alone


def test_the_data_set_gets_the_epoch() -> None:
    data = TinyViews()
    PhotoSampler(data).set_epoch(5)
    assert data.epoch == 5
    with pytest.raises(InputError, match="must hold at least one item"):
        PhotoSampler([])


# --- as a program


def test_help_teaches_and_a_missing_mmengine_is_named(config: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "tools" / "train.py")]
    shown = subprocess.run([*command, "--help"], capture_output=True, text=True, env=environment, check=True).stdout
    for word in ("--resume", "--cfg-options", "dist_train.sh", "adapter.safetensors", "Ctrl-C"):
        assert word in shown
    blocked = f"import sys, runpy; sys.modules['mmengine'] = None; sys.argv = ['train.py', {str(config)!r}]; "
    blocked += f"runpy.run_path({str(ROOT / 'tools' / 'train.py')!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True, env=environment)
    assert done.returncode == 2
    assert 'pip install ".[train]"' in done.stderr


@pytest.mark.slow
def test_two_processes_share_the_work(config: Path, tmp_path: Path) -> None:
    """By tools/dist_train.sh, on the CPU: 8 items, 2 processes, batches of 2 are 2 iterations an epoch."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests"), "OMP_NUM_THREADS": "1", "PYTHON": sys.executable}
    command = ["bash", str(ROOT / "tools" / "dist_train.sh"), str(config), "2", "--work-dir", str(tmp_path)]
    command += [
        "--device",
        "cpu",
        "--cfg-options",
        "train_cfg.max_epochs=1",
        "default_hooks.checkpoint.interval=1",
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.glob("*.pth")) == ["iter_1.pth", "iter_2.pth"]
    assert (tmp_path / "adapter.safetensors").exists()


def test_several_processes_without_a_gpu_need_torchrun_or_srun(
    tool: ModuleType, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for name in ("LOCAL_RANK", "SLURM_PROCID", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    assert train(tool, config, tmp_path, "--launcher", "pytorch") == 2
    assert "--launcher pytorch without a GPU works by torchrun only" in capsys.readouterr().err
    assert train(tool, config, tmp_path, "--launcher", "slurm") == 2
    assert "--launcher slurm needs SLURM_PROCID, SLURM_NTASKS, SLURM_NODELIST" in capsys.readouterr().err
    for name, value in (("SLURM_PROCID", "0"), ("SLURM_NTASKS", "1"), ("SLURM_NODELIST", "n1"), ("PATH", "")):
        monkeypatch.setenv(name, value)
    assert train(tool, config, tmp_path, "--launcher", "slurm") == 2
    assert "asks scontrol for the first host" in capsys.readouterr().err
