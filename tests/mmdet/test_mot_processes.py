"""Two processes (gloo, no GPU) share the videos and give, byte for byte, what one process gives."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from mot_clips import CONFIG, ROOT, clip, options, run_tool

TOOL = [sys.executable, str(ROOT / "tools" / "test_mot.py"), str(CONFIG)]
QUIET = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def data(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for source, frames in (("mot15/TUD-Campus", 5), ("mot15/PETS09-S3-MF1", 4), ("mot17_mini/MOT17-05-FRCNN", 4)):
        clip(clips / source, folder / Path(source).name, frames)
    return folder


@pytest.fixture(scope="module")
def one(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("one")
    assert run_tool(CONFIG, "--work-dir", work, *options(data)) == 0
    return work / "tracks"


def is_the_same(one: Path, two: Path) -> None:
    names = sorted(path.relative_to(one).as_posix() for path in one.rglob("*.*"))
    assert names == sorted(path.relative_to(two).as_posix() for path in two.rglob("*.*"))
    assert len(names) == 3 + 3 + 4  # texts, parts, and run.json, tao_track.json, scores.json, scores.txt
    for name in names:
        assert (two / name).read_bytes() == (one / name).read_bytes(), name


@pytest.mark.shared_data
@pytest.mark.slow
def test_two_processes_of_the_script(data: Path, one: Path, tmp_path: Path) -> None:
    script = ["bash", str(ROOT / "tools" / "dist_test.sh"), str(CONFIG), "none", "2"]
    command = [*script, "--work-dir", str(tmp_path), *map(str, options(data))]
    environment = {**QUIET, "PYTHON": sys.executable}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    is_the_same(one, tmp_path / "tracks")


@pytest.mark.shared_data
@pytest.mark.slow
def test_two_tasks_of_slurm(data: Path, one: Path, tmp_path: Path) -> None:
    """With srun's variables, and a scontrol that answers as the cluster's own: a host a line."""
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text('#!/bin/sh\n[ "$*" = "show hostname n[1-2]" ] && printf "127.0.0.1\\nn2\\n"\n')
    scontrol.chmod(0o755)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [*TOOL, "--work-dir", str(tmp_path / "two"), "--launcher", "slurm", *map(str, options(data))]
    path = f"{scontrol.parent}{os.pathsep}{os.environ['PATH']}"
    slurm = {**QUIET, "PATH": path, "MASTER_PORT": port, "SLURM_NTASKS": "2", "SLURM_NODELIST": "n[1-2]"}
    tasks = [
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            env={**slurm, "SLURM_PROCID": str(number), "SLURM_LOCALID": "0"},
        )
        for number in range(2)
    ]
    try:
        said = [task.communicate(timeout=600)[0] for task in tasks]
    finally:
        for task in tasks:
            task.kill()
    assert [task.returncode for task in tasks] == [0, 0], said
    is_the_same(one, tmp_path / "two" / "tracks")
    alone = {key: value for key, value in QUIET.items() if not key.startswith("SLURM_")}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=alone)
    assert done.returncode == 2
    assert "needs SLURM_PROCID, SLURM_NTASKS, SLURM_NODELIST, which srun sets" in done.stderr
