"""tools/bench_refer.py: films, from their pictures and true boxes to answers. The network is tiny and untrained."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from masa_track.masks import mask_box
from masa_track.refer.model import Mttr
from masa_track.refer.settings import TINY
from masa_track.refer.synthetic import make_clip, make_film
from masa_track.refer.weights import save_weights

TOOLS = Path(__file__).resolve().parents[1] / "tools"


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("bench_refer")


def test_boxes_of_a_film(tool: Any, tmp_path: Path) -> None:
    film = make_film(3, frames=20)
    things = tool.write_film(film, tmp_path / "film")
    rows = np.loadtxt(tmp_path / "film" / "det.txt", delimiter=",")
    assert len(rows) == len(things) > 10
    assert len(list((tmp_path / "film" / "img1").glob("*.png"))) == 20
    for frame, _, x, y, width, height, _ in rows:
        mask = film.masks[things[int(frame), int(x) - 1, int(y) - 1], int(frame) - 1]
        np.testing.assert_array_equal(mask_box(mask), [x - 1, y - 1, x - 1 + width, y - 1 + height])


@pytest.mark.slow
def test_a_film_is_asked(tool: Any, tmp_path: Path) -> None:
    """The grammar alone answers sentences of motion, and right; the random network is right or not."""
    torch.manual_seed(0)
    model = save_weights(Mttr(TINY), tmp_path / "tiny.safetensors", "synthetic", 4)
    film = make_film(1_000_000, frames=14)
    assert film.sentences == ["the thing moving left", "the thing standing still"]
    (tmp_path / "work").mkdir()
    scores, used, tracks = tool.ask_film(model, 0, film, tmp_path / "work")
    assert [s.needs for s in scores] == [{"motion"}, {"motion"}]
    assert [s.right["refer --run"] for s in scores] == [1.0, 1.0]
    assert all(s.right["network"] in (0.0, 1.0) and s.right["random"] == 0.5 for s in scores)
    assert used == {"grammar": 2}
    assert tracks >= 2


@pytest.mark.slow
def test_tables_of_clips(tool: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Played backwards, a sentence of motion fits the object that moved in the opposite direction, if there is one."""
    torch.manual_seed(0)
    model = save_weights(Mttr(TINY), tmp_path / "tiny.safetensors", "synthetic", 4)
    assert tool.main([str(model), "--clips", "12", "--kinds", "motion"]) == 0
    out = capsys.readouterr().out
    opposite = {"left": "right", "right": "left", "up": "down", "down": "up"}
    fits = []
    for seed in range(1_000_000, 1_000_012):
        motions = [one["motion"] for one in make_clip(seed, kinds=("motion",)).objects]
        fits += [opposite[motion] in motions for motion in motions if motion != "still"]
    counts = [int(n) for n in re.findall(r"n (\d+)", out)]
    assert counts == [len(fits), sum(fits), len(fits) - sum(fits), len(fits)]
    assert 0 < sum(fits) < len(fits)
