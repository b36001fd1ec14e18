"""Roboflow's trackers 2.0 and inference, in the environments that have them: two files of ``tests/peers``.

The environments (``.venv-peers`` and so on) are made by the first run, which needs a package index, and kept.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from environments import check


@pytest.mark.slow
def test_trackers(tmp_path: Path) -> None:
    check("check_roboflow", "trackers2", tmp_path)


@pytest.mark.slow
def test_inference(tmp_path: Path) -> None:
    check("check_inference", "inference", tmp_path)
