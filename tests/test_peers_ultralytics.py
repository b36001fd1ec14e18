"""ultralytics, in the environment that has it: ``tests/peers/check_ultralytics.py``.

The environments (``.venv-peers`` and so on) are made by the first run, which needs a package index, and kept.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from environments import check


@pytest.mark.slow
def test_ultralytics(tmp_path: Path) -> None:
    check("check_ultralytics", "peers", tmp_path)
