"""What several tests need: where the shared clips are, and a small video made of them."""

from __future__ import annotations

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
