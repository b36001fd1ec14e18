"""The mmdet integration where mmdet is not, or its mmcv has no operators: the error has the command that fixes it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

INTEGRATION = "masa_track.integrations.mmdet"


def import_error(code: str, folder: Path | None = None) -> str:
    """The last line that a process says which imports the integration after ``code``."""
    path = f"import sys; sys.path.insert(0, {str(folder)!r}); " if folder else ""
    done = subprocess.run(
        [sys.executable, "-c", f"{path}import sys; {code}; import {INTEGRATION}"], capture_output=True, text=True
    )
    assert done.returncode == 1
    return done.stderr.strip().splitlines()[-1]


def package(folder: Path, name: str, text: str) -> None:
    """A package of one file."""
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(text)


def test_without_mmcv() -> None:
    said = import_error("sys.modules['mmcv'] = None")
    assert said.startswith("masa_track.errors.InputError: mmdet and its mmcv are needed here")
    assert 'onedl-mmcv==2.3.6 && pip install ".[mmdet]"` in a checkout of masa-track' in said
    assert "pip install --no-build-isolation onedl-mmcv==2.3.6" in said


def test_with_an_mmcv_that_was_built_without_its_operators(tmp_path: Path) -> None:
    package(tmp_path, "mmcv", "__version__ = '2.3.6'")
    (tmp_path / "mmcv" / "ops.py").write_text("from mmcv import _ext")  # as mmcv's own fails
    said = import_error("pass", tmp_path)
    assert "mmcv 2.3.6 was installed without its operators" in said
    assert "pip install --force-reinstall --no-deps --no-cache-dir --no-build-isolation onedl-mmcv==2.3.6" in said


@pytest.mark.parametrize("fault", ["raise ImportError('no such thing')", "assert False, 'MMCV==2.3.6 is incompatible'"])
def test_without_mmdet_or_with_one_for_another_mmcv(fault: str, tmp_path: Path) -> None:
    package(tmp_path, "mmcv", "__version__ = '2.3.6'")
    (tmp_path / "mmcv" / "ops.py").write_text("")
    package(tmp_path, "mmdet", fault)
    said = import_error("pass", tmp_path)
    assert 'pip install ".[mmdet]"' in said
    assert "no such thing" in said or "incompatible" in said


ROOT = Path(__file__).resolve().parents[1]
ONE_COMMAND = 'onedl-mmcv==2.3.6 && pip install ".[mmdet]"` in a checkout of masa-track'


def run_program(name: str, *arguments: object, without: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """A program of tools/ in a process in which some packages cannot be imported."""
    path = str(ROOT / "tools" / name)
    blocked = "; ".join(f"sys.modules[{package!r}] = None" for package in ("mmcv", "mmdet", *without))
    code = f"import sys, runpy; {blocked}; sys.argv[1:1] = []; runpy.run_path({path!r}, run_name='__main__')"
    return subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, cwd=ROOT)


@pytest.mark.parametrize(
    ("name", "config", "without"),
    [
        pytest.param("test_mot.py", "mot_nano_public.py", (), marks=pytest.mark.slow),
        ("test_mot.py", "mot_nano_public.py", ("mmengine",)),
        pytest.param("train.py", "train_r50.py", (), marks=pytest.mark.slow),
    ],
)
def test_the_programs_say_the_one_command_that_installs_mmdet(name: str, config: str, without: tuple[str, ...]) -> None:
    done = run_program(name, ROOT / "configs" / "mmdet" / config, without=without)
    assert done.returncode == 2
    assert done.stderr.startswith(f"{name}: mmdet and its mmcv are needed here")
    assert ONE_COMMAND in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "instead"),
    [
        (["--show"], "--show-dir DIR"),
        (["--tta"], "augmentation at test time is not supported"),
        (
            ["--launcher", "mpi"],
            "--launcher must be one of none, pytorch, slurm, got 'mpi': start by tools/dist_test.sh",
        ),
        (["--out", "dets.pkl"], "--out writes TAO json, no pickle, got dets.pkl: call it dets.json"),
    ],
)
def test_what_the_authors_program_takes_and_ours_does_not(options: list[str], instead: str) -> None:
    done = run_program("test_mot.py", ROOT / "configs" / "mmdet" / "mot_nano_public.py", *options)
    assert done.returncode == 2
    assert instead in done.stderr


def test_training_by_mpi_is_refused() -> None:
    done = run_program("train.py", "none.py", "--launcher", "mpi")
    assert done.returncode == 2
    assert "--launcher must be one of none, pytorch, slurm, got 'mpi': start by tools/dist_train.sh" in done.stderr


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("dist_test.sh", ["c.py", "none"], "usage: bash tools/dist_test.sh CONFIG CHECKPOINT GPUS"),
        ("dist_test.sh", ["c.py", "none", "--work-dir"], "GPUS must be a number of processes, got '--work-dir'"),
        ("dist_train.sh", ["c.py"], "usage: bash tools/dist_train.sh CONFIG GPUS"),
        ("dist_train.sh", ["c.py", "0"], "GPUS must be a number of processes, got '0'"),
    ],
)
def test_wrong_use_of_the_scripts(name: str, arguments: list[str], message: str) -> None:
    done = subprocess.run(["bash", str(ROOT / "tools" / name), *arguments], capture_output=True, text=True)
    assert done.returncode == 2
    assert message in done.stderr


@pytest.mark.parametrize(
    ("name", "arguments", "nodes", "expected"),
    [
        ("dist_test.sh", "c.py r50.pth 8 --out o.json", {}, "--standalone --nproc-per-node 8 test_mot.py c.py r50.pth"),
        ("dist_test.sh", "c.py none 2 --out o.json", {}, "--standalone --nproc-per-node 2 test_mot.py c.py"),
        (
            "dist_train.sh",
            "c.py 4 --out o.json",
            {"NNODES": "2", "NODE_RANK": "1", "MASTER_ADDR": "head"},
            "--nnodes 2 --node-rank 1 --master-addr head --master-port 29500 --nproc-per-node 4 train.py c.py",
        ),
    ],
)
def test_what_the_scripts_start(
    name: str, arguments: str, nodes: dict[str, str], expected: str, tmp_path: Path
) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$@"\n')
    python.chmod(0o755)
    command = ["bash", str(ROOT / "tools" / name), *arguments.split()]
    environment = {"PATH": os.environ["PATH"], "PYTHON": str(python), **nodes}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    expected = f"-m torch.distributed.run {expected} --launcher pytorch --out o.json\n"
    assert done.stdout.replace(f"{ROOT / 'tools'}/", "") == expected
