"""J and F against the official toolkit's numbers, and against plain loops."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import pytest

from masa_track.errors import InputError
from masa_track.evaluation.jf import boundary_accuracy, region_similarity


def test_against_loops() -> None:
    rng = np.random.default_rng(5)
    mask, truth = rng.random((13, 17)) < 0.6, rng.random((13, 17)) < 0.6

    def boundary(values: np.ndarray) -> list[tuple[int, int]]:
        found = []
        for y in range(13):
            for x in range(17):
                near = [(y, x + 1), (y + 1, x), (y + 1, x + 1)]
                if any(v < 13 and u < 17 and values[v, u] != values[y, x] for v, u in near):
                    found.append((y, x))
        return found

    radius = math.ceil(0.008 * math.hypot(13, 17))
    ours, theirs = boundary(mask), boundary(truth)

    def share(points: list[tuple[int, int]], others: list[tuple[int, int]]) -> float:
        hit = [any((y - v) ** 2 + (x - u) ** 2 <= radius**2 for v, u in others) for y, x in points]
        return sum(hit) / len(hit)

    p, r = share(ours, theirs), share(theirs, ours)
    assert boundary_accuracy(mask, truth) == pytest.approx(2 * p * r / (p + r), abs=1e-12)
    both = sum(bool(a and b) for a, b in zip(mask.ravel(), truth.ravel(), strict=True))
    either = sum(bool(a or b) for a, b in zip(mask.ravel(), truth.ravel(), strict=True))
    assert region_similarity(mask, truth) == pytest.approx(both / either, abs=1e-12)


def test_empty_and_full_masks() -> None:
    empty, full, some = np.zeros((9, 9), bool), np.ones((9, 9), bool), np.eye(9, dtype=bool)
    assert (region_similarity(empty, empty), region_similarity(empty, full)) == (1, 0)
    assert (boundary_accuracy(empty, empty), boundary_accuracy(full, full)) == (1, 1)
    assert (boundary_accuracy(empty, some), boundary_accuracy(some, full)) == (0, 0)
    far = np.zeros((90, 90), bool)
    far[80, 80] = True
    other = np.zeros((90, 90), bool)
    other[10, 10] = True
    assert boundary_accuracy(far, other) == 0
    with pytest.raises(InputError, match="one shape"):
        region_similarity(empty, np.zeros((9, 8), bool))


@pytest.mark.shared_data
def test_the_official_numbers(shared: Path) -> None:
    folder = shared / "goldens" / "sam2"
    spec = importlib.util.spec_from_file_location("sam2_recipe", folder / "recipe.py")
    assert spec is not None
    assert spec.loader is not None
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    with np.load(folder / "davis_jf.npz") as goldens:
        for name, about in json.loads(str(goldens["info"])).items():
            if "height" not in about:
                continue
            truth, guess = recipe.masks(*(about[key] for key in ("seed", "count", "objects", "height", "width")))
            for measure, key in ((region_similarity, "J"), (boundary_accuracy, "F")):
                found = [[measure(g, t) for g, t in zip(*pair, strict=True)] for pair in zip(guess, truth, strict=True)]
                np.testing.assert_allclose(found, goldens[f"{name}/{key}"], atol=1e-12, err_msg=f"{name} {key}")
