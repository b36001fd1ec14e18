"""Two processes (gloo, no GPU) share the videos and give, byte for byte, what one process gives."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from mot_clips import CONFIG, ROOT, clip, options, run_tool


@pytest.mark.shared_data
@pytest.mark.slow
def test_two_processes_give_what_one_gives(clips: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    for source, frames in (("mot15/TUD-Campus", 5), ("mot15/PETS09-S3-MF1", 4), ("mot17_mini/MOT17-05-FRCNN", 4)):
        clip(clips / source, data / Path(source).name, frames)
    assert run_tool(CONFIG, "--work-dir", tmp_path / "one", *options(data)) == 0

    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    tool = [str(ROOT / "tools" / "test_mot.py"), str(CONFIG), "--work-dir", str(tmp_path / "two")]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    command = [*torchrun, *tool, "--launcher", "pytorch", *map(str, options(data))]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr

    one, two = tmp_path / "one" / "tracks", tmp_path / "two" / "tracks"
    names = sorted(path.relative_to(one).as_posix() for path in one.rglob("*.*"))
    assert names == sorted(path.relative_to(two).as_posix() for path in two.rglob("*.*"))
    assert len(names) == 3 + 3 + 4  # texts, parts, and run.json, tao_track.json, scores.json, scores.txt
    for name in names:
        assert (two / name).read_bytes() == (one / name).read_bytes(), name
