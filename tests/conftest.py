"""What several tests need: where the shared clips are, and a small video made of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of clips, photographs and goldens beside the repository."""
    if not (SHARED / "clips").is_dir():
        pytest.skip("needs the clips of ../shared, which are not there")
    return SHARED


@pytest.fixture(scope="session")
def mot15(shared: Path) -> Path:
    return shared / "clips" / "mot15"


@pytest.fixture(scope="session")
def sam3_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small SAM 3 of random weights, in Hugging Face's form. Tests do not change it."""
    pytest.importorskip("transformers")
    from sam3_networks import save_folder

    return save_folder(tmp_path_factory.mktemp("sam3"))


@pytest.fixture(autouse=True)
def usual_priority() -> Iterator[None]:
    """No test leaves real-time priority behind, as some encoders do: what follows it would stop for good."""
    yield
    if hasattr(os, "sched_getscheduler"):
        assert os.sched_getscheduler(0) in (os.SCHED_OTHER, os.SCHED_BATCH, os.SCHED_IDLE)
