"""What needs other people's packages: each file of ``tests/peers`` in the environment that has them.

The environments (``.venv-peers`` and so on) are made by the first run, which needs a package index, and kept.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from environments import ROOT, environment

FILES = {
    "check_trackers": "peers",
    "check_ultralytics": "peers",
    "check_roboflow": "trackers2",
    "check_inference": "inference",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_in_its_environment(name: str, tmp_path: Path) -> None:
    python = environment(FILES[name])
    data = [] if (ROOT.parent / "shared" / "clips").is_dir() else ["-m", "not shared_data"]
    quiet = {"YOLO_CONFIG_DIR": str(tmp_path), "YOLO_AUTOINSTALL": "false", "YOLO_OFFLINE": "true"}
    done = subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *data, f"tests/peers/{name}.py"],
        cwd=ROOT,
        env={**os.environ, **quiet},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert " skipped" not in done.stdout
