"""BoxMOT, deep-sort-realtime and norfair, in the environment that has them: ``tests/peers/check_trackers.py``.

The environments (``.venv-peers`` and so on) are made by the first run, which needs a package index, and kept.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from environments import check


@pytest.mark.slow
def test_trackers(tmp_path: Path) -> None:
    check("check_trackers", "peers", tmp_path)
