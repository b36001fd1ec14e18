"""The mmdet integration where mmdet is not, or its mmcv has no operators: the error has the command that fixes it."""

from __future__ import annotations

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
    assert said.startswith("masa_track.errors.InputError: mmdet is needed here")
    assert 'run `pip install ".[mmdet]"` in a checkout of masa-track, after its mmcv' in said
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
