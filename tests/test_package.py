"""The rooms of the package: what may import what, what needs no torch, and how quickly the package is there."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "masa_track"
# A room may import from those above it and from itself. CONTRIBUTING.md says what each holds.
ROOMS = [
    "errors",
    "files",
    "stop",
    "npz",
    "checks",
    "registry",
    "contracts",
    "boxes",
    "masks",
    "onnx_session",
    "association",
    "video",
    "formats",
    "drawing",
    "runs",
    "models",
    "encoders",
    "detectors",
    "segmenters",
    "tracker",
    "masklets",
    "parts",
    "adapters",
    "evaluation",
    "refer",
    "report",
    "pipeline",
    "training",
    "integrations",
    "cli",
    "__main__",
]
# Rooms that import neither torch nor transformers, and the files of them that do.
TORCH_FREE = [
    *("errors", "files", "stop", "npz", "checks", "registry", "contracts", "boxes", "masks", "onnx_session"),
    *("association", "video", "formats", "drawing", "runs"),
    *("encoders", "detectors", "tracker", "masklets", "parts", "adapters", "evaluation", "refer"),
    *("report", "pipeline", "cli"),
]
TORCH = {"torch", "torchvision", "timm", "transformers", "safetensors"}
TORCH_FILES = {
    *("encoders/embedder.py", "encoders/export.py"),
    *("detectors/coco.py", "detectors/grounded.py", "detectors/huggingface.py", "detectors/mm.py"),
    "parts/models.py",
    *(
        f"refer/{name}.py"
        for name in (
            *("annotated", "data", "film", "fusion", "losses", "matching", "model", "official_keys", "pixels", "proof"),
            *("referrer", "resizing", "scoring", "select", "text_encoder", "tokens", "video_encoders", "weights"),
        )
    ),
    *(f"masklets/{name}.py" for name in ("entries", "sam2", "sam2_keys", "session", "states", "weights")),
    *(f"masklets/{name}.py" for name in ("sam3", "sam3_propagation", "sam3_weights")),
}
# Those that import one of them inside of a function, which only runs where torch is wanted.
TORCH_INSIDE = {"encoders/loading.py", "cli/convert.py"}
# What the numeric core may import beside the standard library and the rooms above it.
CORE_PACKAGES = {
    "association": {"numpy", "scipy"},
    "boxes": {"numpy"},
    "npz": {"numpy"},
    "checks": {"numpy"},
    "contracts": {"numpy", "supervision"},  # supervision for types alone
    "files": set(),
    "stop": set(),
    "errors": set(),
}
OPTIONAL = [
    *("mmdet", "mmcv", "mmengine", "ultralytics", "transformers", "segment_anything", "pycocotools", "optuna"),
    *("trackers", "boxmot", "deep_sort_realtime", "norfair", "inference"),
]
# Only tools/train.py imports these, and it says what to install.
NEED_MMENGINE = {
    f"masa_track.training.{name}"
    for name in ("model", "order", "hooks", "refer", "refer_video", "runner", "start", "joined", "validation")
}
NEED_MMDET = "masa_track.integrations.mmdet"  # whose import says what to install
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")

# Refuses imports of the packages named in `blocked`, whoever asks for them.
BLOCKER = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in blocked:
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocker())
"""


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def dotted(path: Path) -> str:
    name = ".".join(("masa_track", *path.relative_to(PACKAGE).with_suffix("").parts))
    return name.removesuffix(".__init__")


def imports(path: Path) -> list[str]:
    """Dotted names of all that a module imports, wherever it does so."""
    return imported(ast.parse(path.read_text()))


def imported(tree: ast.AST) -> list[str]:
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import: {ast.unparse(node)}"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_each_room_of_the_table_is_there() -> None:
    assert {room_of(path) for path in MODULES} == set(ROOMS)
    assert {PACKAGE / name for name in TORCH_FILES} <= set(MODULES)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_upwards(path: Path) -> None:
    room = room_of(path)
    allowed = ROOMS[: ROOMS.index(room) + 1]
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "masa_track" and len(parts) > 1 and parts[1] != "__version__":
            assert parts[1] in allowed, f"{path.relative_to(PACKAGE)} ({room}) imports {name}"


@pytest.mark.parametrize(
    "path", [path for path in MODULES if room_of(path) in CORE_PACKAGES], ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_the_core_needs_numpy_only(path: Path) -> None:
    allowed = {"masa_track", *CORE_PACKAGES[room_of(path)]}
    for name in imports(path):
        top = name.split(".")[0]
        assert top in allowed or top in sys.stdlib_module_names, name


def test_torch_free_rooms_without_torch() -> None:
    """Their modules are imported in a process that can import neither torch nor transformers."""
    names = [
        dotted(path)
        for path in MODULES
        if room_of(path) in TORCH_FREE and str(path.relative_to(PACKAGE)) not in TORCH_FILES
    ]
    code = (
        f"blocked = {tuple(TORCH)!r}\n{BLOCKER}\nimport importlib\nfor name in {names!r}: importlib.import_module(name)"
    )
    done = run(code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "path", [path for path in MODULES if room_of(path) in TORCH_FREE], ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_torch_free_rooms_import_no_torch_anywhere(path: Path) -> None:
    """Not even inside of a function: what runs without torch must not meet an import of it. Types are no imports."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    found = {name.split(".")[0] for name in imported(tree)} & TORCH
    name = str(path.relative_to(PACKAGE))
    assert bool(found) <= (name in TORCH_FILES | TORCH_INSIDE), found


def test_a_tracker_without_torch() -> None:
    """With a model of the caller's own, MasaTracker works where torch is missing."""
    code = f"""blocked = ("torch", "torchvision", "timm", "transformers")
{BLOCKER}
import numpy as np
import supervision as sv
from masa_track import MasaTracker

class Model:
    def embed(self, frame, boxes):
        return np.ones((len(boxes), 4), np.float32)

tracker = MasaTracker(Model(), camera_motion=True)
boxes = sv.Detections(np.array([[10, 10, 40, 60]], float), confidence=np.array([0.9999]), class_id=np.array([0]))
print([tracker.update(boxes, np.zeros((80, 80, 3), np.uint8)).tracker_id.tolist() for _ in range(2)])
"""
    done = run(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[[1], [1]]"


def test_the_blocker_blocks() -> None:
    done = run(f"blocked = ('torch',)\n{BLOCKER}\nimport masa_track.encoders.embedder")
    assert "ImportError: torch is blocked" in done.stderr


def test_the_import_needs_no_torch() -> None:
    """Nothing heavy is imported before it is used."""
    heavy = "('torch', 'numpy', 'cv2', 'supervision', 'timm')"
    done = run(f"import sys, masa_track; print([m for m in {heavy} if m in sys.modules])")
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.slow
def test_nothing_optional_is_needed() -> None:
    """Every module is imported in a process where the optional packages cannot be."""
    names = [dotted(path) for path in MODULES]
    names.remove("masa_track.__main__")
    assert set(names) >= NEED_MMENGINE
    names = [name for name in names if name not in NEED_MMENGINE and not name.startswith(NEED_MMDET)]
    blocked = f"import sys; sys.modules.update(dict.fromkeys({OPTIONAL!r}))"
    done = run(f"{blocked}; import importlib; [importlib.import_module(n) for n in {names!r}]")
    assert done.returncode == 0, done.stderr


def test_public_names() -> None:
    import masa_track

    assert masa_track.MasaTracker.__name__ == "MasaTracker"
    assert callable(masa_track.load)
    assert {spec.name for spec in masa_track.list_models()} >= {"nano", "r50"}
    assert callable(masa_track.register_model)
    assert masa_track.ModelSpec.__module__ == "masa_track.registry"
    with pytest.raises(AttributeError, match="no attribute 'Tracker'"):
        _ = masa_track.Tracker
    assert find_spec("masa_track.cli.main") is not None
