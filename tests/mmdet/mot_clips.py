"""tools/test_mot.py as the tests run it, and short sequences for it."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "configs" / "mmdet" / "mot_nano_public.py"


def load_tool(name: str = "test_mot") -> ModuleType:
    """A program of tools/ as a module."""
    spec = importlib.util.spec_from_file_location(f"tool_{name}", ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_tool(*arguments: object) -> int:
    """Runs tools/test_mot.py in this process, without a GPU."""
    return load_tool().main([*map(str, arguments), "--device", "cpu"])


def clip(source: Path, target: Path, frames: int) -> None:
    """A MOTChallenge sequence of the first frames of another."""
    (target / "img1").mkdir(parents=True)
    pictures = sorted((source / "img1").iterdir())[:frames]
    for picture in pictures:
        shutil.copy(picture, target / "img1")
    for kind in ("gt", "det"):
        rows = (source / kind / f"{kind}.txt").read_text().splitlines()
        (target / kind).mkdir()
        kept = [row for row in rows if row.strip() and int(float(row.split(",")[0])) <= frames]
        (target / kind / f"{kind}.txt").write_text("\n".join(kept) + "\n")
    info = (source / "seqinfo.ini").read_text().splitlines()
    info = [f"seqLength={frames}" if line.lower().startswith("seqlength") else line for line in info]
    (target / "seqinfo.ini").write_text("\n".join(info) + "\n")


def options(data: Path, detections: object = None) -> list[object]:
    return ["--cfg-options", f"test_dataloader.dataset.data_root={data}", f"model.public_det_path={detections or data}"]
