"""These tests run the real mmdet, in an environment of its own (tools/test.sh); without it they fail."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parent
SHARED = ROOT.parent / "shared"
sys.path.insert(0, str(TESTS))  # official_recipe and other helpers of the plain tests

import masa_track.integrations.mmdet  # noqa: E402, F401 (fails with the command that installs what is missing)


@pytest.fixture(scope="session")
def clips() -> Path:
    folder = SHARED / "clips"
    if not folder.is_dir():
        pytest.skip("needs the clips of ../shared, which are not there")
    return folder


@pytest.fixture(autouse=True)
def _one_run_after_the_other():
    """mmengine keeps loggers, message hubs and scopes by name for a process's life; a run of its own has none.

    Random weights are the same in whatever order the tests run.
    """
    torch.manual_seed(0)
    yield
    from mmengine.logging import MessageHub, MMLogger
    from mmengine.registry import DefaultScope
    from mmengine.visualization import Visualizer

    for manager in (MessageHub, MMLogger, Visualizer, DefaultScope):
        manager._instance_dict.clear()
