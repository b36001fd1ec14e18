"""The house: what may import what, and how quickly the package is there."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "masa_track"
# Left to right: a room may import from those on its left and from itself.
ROOMS = [
    "errors",
    "npz",
    "association",
    "models",
    "camera",
    "results",
    "tracker",
    "io",
    "adapters",
    "detectors",
    "segmenters",
    "evaluation",
    "training",
    "pipeline",
    "integrations",
    "tuning",
    "cli",
    "__main__",
]
OPTIONAL = [
    *("mmdet", "mmcv", "mmengine", "ultralytics", "transformers", "segment_anything", "pycocotools", "optuna"),
    *("trackers", "boxmot", "deep_sort_realtime", "norfair", "inference"),
]
# Only tools/train.py imports these, and it says what to install.
NEED_MMENGINE = {f"masa_track.training.{name}" for name in ("model", "order", "hooks", "runner", "start")}
NEED_MMDET = "masa_track.integrations.mmdet"  # whose import says what to install
NUMPY_ONLY = {"numpy", "scipy", "masa_track"}


def imports(path: Path) -> list[str]:
    """Dotted names of all that a module imports, wherever it does so."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_leftwards(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    allowed = ROOMS[: ROOMS.index(room) + 1]
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "masa_track" and len(parts) > 1 and parts[1] != "__version__":
            assert parts[1] in allowed, f"{path.name} imports {name}"


@pytest.mark.parametrize("path", sorted((PACKAGE / "association").glob("*.py")), ids=lambda p: p.name)
def test_association_needs_numpy_only(path: Path) -> None:
    for name in imports(path):
        top = name.split(".")[0]
        assert top in NUMPY_ONLY or top in sys.stdlib_module_names, name


def test_the_import_needs_no_torch() -> None:
    """Nothing heavy is imported before it is used."""
    heavy = "('torch', 'numpy', 'cv2', 'supervision', 'timm')"
    code = f"import sys, masa_track; print([m for m in {heavy} if m in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"


@pytest.mark.slow
def test_nothing_optional_is_needed() -> None:
    """Every module is imported in a process where the optional packages cannot be."""
    names = [".".join(("masa_track", *p.relative_to(PACKAGE).with_suffix("").parts)) for p in MODULES]
    names = [name.removesuffix(".__init__") for name in names]
    names.remove("masa_track.__main__")
    assert set(names) >= NEED_MMENGINE
    names = [name for name in names if name not in NEED_MMENGINE and not name.startswith(NEED_MMDET)]
    blocked = f"import sys; sys.modules.update(dict.fromkeys({OPTIONAL!r}))"
    code = f"{blocked}; import importlib; [importlib.import_module(n) for n in {names!r}]"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_public_names() -> None:
    import masa_track

    assert masa_track.MasaTracker.__name__ == "MasaTracker"
    assert callable(masa_track.load)
    with pytest.raises(AttributeError, match="no attribute 'Tracker'"):
        _ = masa_track.Tracker
    assert find_spec("masa_track.cli.main") is not None
