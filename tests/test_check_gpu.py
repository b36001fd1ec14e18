"""tools/check_gpu.py on the CPU: what it compares, what it says of missing libraries, and that it can be resumed."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
QUICK = ["--device", "cpu", "--quick"]


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    return importlib.import_module("check_gpu")


def numbers(tool: Any, embeddings: torch.Tensor, boxes: torch.Tensor | None = None) -> Any:
    return tool.Numbers([embeddings] * 2, None if boxes is None else [boxes] * 2)


def test_differences_are_measured(tool: Any) -> None:
    expected = numbers(tool, torch.eye(3), torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 40]]))
    assert tool.compare(expected, expected) == {
        **{"largest": 0.0, "mean": 0.0},
        **{"boxes": 4, "expected_boxes": 4, "iou": 1.0},
    }
    turned = torch.eye(3)
    turned[2] = torch.tensor([0.0, 1, 1])
    found = tool.compare(numbers(tool, turned, torch.tensor([[0.0, 0, 10, 5]])), expected)
    assert found["largest"] == pytest.approx(1 - 0.5**0.5)
    assert found["mean"] == pytest.approx((1 - 0.5**0.5) / 3)
    assert (found["boxes"], found["iou"]) == (2, pytest.approx(0.25))
    assert tool.compare(numbers(tool, torch.full((3, 3), torch.nan)), expected) == {"largest": None, "mean": None}
    nothing = tool.compare(numbers(tool, torch.eye(3), torch.zeros(0, 4)), expected)
    assert (nothing["boxes"], nothing["iou"]) == (0, 0.0)


def test_mistakes_are_named(tool: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tool.main([*QUICK, "--out", str(tmp_path / "a.txt")]) == 2
    assert "--out must end in .md" in capsys.readouterr().err
    (tmp_path / "a.json").write_text("[]")
    assert tool.main([*QUICK, "--out", str(tmp_path / "a.md")]) == 2
    assert "is no file of this tool: remove it" in capsys.readouterr().err
    if not torch.cuda.is_available():
        assert tool.main(["--out", str(tmp_path / "b.md")]) == 2
        assert "device 'cuda' cannot be used here" in capsys.readouterr().err


@pytest.mark.slow
def test_a_failing_cell_and_a_late_one_do_not_stop_the_others(
    tool: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(network: Any, inputs: Any, device: Any, dtype: torch.dtype, limits: Any) -> Any:
        if dtype == torch.bfloat16:
            raise RuntimeError("no kernel for bfloat16\nsecond line")
        return tool.run_network(network, inputs, device, dtype, True), {"ms": 1.0, "memory": None}

    monkeypatch.setattr(tool, "measure", measure)
    table = tool.Table(tmp_path / "a.md", {"card": "none"})
    spec = tool.spec_of("nano-untrained")
    tool.check_model(spec, table, torch.device("cpu"), tool.QUICK, float("inf"))
    assert [cell["status"] for cell in table.cells.values()] == [
        *["done"] * 2,
        *["failed: no kernel for bfloat16"] * 2,
    ]
    again = tool.Table(tmp_path / "a.md", {"card": "none"})
    assert len(again.cells) == 2  # what failed is run again
    tool.check_model(spec, again, torch.device("cpu"), tool.QUICK, float("-inf"))
    assert "| nano-untrained | bfloat16 | 2 | not run: out of time, give the same command again |" in again.page()
    assert not tool.Table(tmp_path / "a.md", {"card": "another"}).cells


@pytest.mark.slow
def test_the_whole_script_on_the_cpu_and_again(tool: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "check.md"
    command = [*QUICK, "--models", "nano", "--out", str(out)]
    assert tool.main(command) == 0
    cells = json.loads(out.with_suffix(".json").read_text())["cells"]
    assert {cell["status"] for cell in cells.values()} == {"done"}
    for batch in (1, 2):
        exact, rounded = cells[f"nano/float32/{batch}"], cells[f"nano/bfloat16/{batch}"]
        assert exact["largest"] < 1e-6
        assert exact["iou"] > 0.999
        assert 1e-6 < rounded["largest"] < 0.05
    assert cells["training/nano/float32"]["loss"] == cells["training/nano/float32"]["expected_loss"] > 0
    capsys.readouterr()
    del cells["nano/float32/2"]
    text = json.loads(out.with_suffix(".json").read_text())
    out.with_suffix(".json").write_text(json.dumps({**text, "cells": cells}))
    assert tool.main(command) == 0
    said = capsys.readouterr().out
    assert "4 cells are in" in said
    assert [line for line in said.splitlines() if line.endswith(": done")] == ["nano/float32/2: done"]
    assert "`masa-track track --batch`: not checked" in out.read_text()


@pytest.mark.slow
def test_missing_libraries_are_named_in_their_cells(tmp_path: Path) -> None:
    """Only torch, torchvision, numpy and safetensors are there: the networks without timm and SAM's encoder run."""
    blocked = ("cv2", "scipy", "supervision", "mmengine", "timm", "segment_anything", "huggingface_hub", "av")
    arguments = [*QUICK, "--models", "nano", "sam-vitb", "--out", str(tmp_path / "a.md")]
    code = f"import sys; sys.modules.update(dict.fromkeys({blocked!r}))\n"
    code += f"import check_gpu; print(check_gpu.main({arguments!r}))"
    path = os.pathsep.join([str(ROOT), str(ROOT / "tools")])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "a.md").read_text()
    assert "| nano | float32 | 1 | not run: needs timm |" in page
    assert "| sam-vitb | bfloat16 | 2 | not run: needs segment_anything |" in page
    assert "| nano | float32 | not run: needs mmengine |" in page
    assert done.stdout.splitlines()[-1] == "0"
