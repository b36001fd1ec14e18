"""Sizes, frames and masks before and after MTTR, against the numbers of the authors' code."""

from __future__ import annotations

import mttr_networks as nets
import numpy as np
import pytest
import torch

from masa_track.refer.data import normalised
from masa_track.refer.model import MttrOutput
from masa_track.refer.resizing import SIDES, all_objects, chosen_object, clip_tensor, resize_masks, resized_size


@pytest.mark.parametrize("name", [f"{data}{i}" for data in ("a2d", "ytvos") for i in range(5)])
def test_preprocessing(name: str) -> None:
    golden = {k.removeprefix(f"{name}."): v for k, v in nets.arrays("preprocess.npz").items() if k.startswith(name)}
    height, width = golden["orig"].tolist()
    draws = np.random.RandomState(int(golden["seed"]))
    tiles = np.ones((-(-height // 12), -(-width // 16), 1), np.uint8)
    frame = np.kron(draws.randint(0, 256, (12, 16, 3)).astype(np.uint8), tiles)[:height, :width]
    masks = []
    rows, columns = np.mgrid[:height, :width]
    for _ in range(2):
        cy, cx = draws.uniform(0.25, 0.75) * height, draws.uniform(0.25, 0.75) * width
        ry, rx = draws.uniform(0.12, 0.3) * height, draws.uniform(0.12, 0.3) * width
        draws.uniform(-0.04, 0.04, 2)
        masks.append(((rows - cy) / ry) ** 2 + ((columns - cx) / rx) ** 2 <= 1)
    size = resized_size((height, width), *SIDES[name[:-1]])
    assert list(size) == golden["resized"].tolist()
    pixels = normalised(clip_tensor([frame], size))[:, 0]
    assert nets.worst(pixels.contiguous(), golden, "pixels") < 1e-6
    scaled = resize_masks(torch.from_numpy(np.stack(masks)), size).numpy()
    np.testing.assert_array_equal(scaled.sum(axis=2), golden["masks_rows"])
    np.testing.assert_array_equal(scaled.sum(axis=1), golden["masks_cols"])


def output_of(case: str) -> tuple[dict[str, np.ndarray], MttrOutput]:
    golden = {
        k.removeprefix(f"{case}."): v for k, v in nets.arrays("postprocess.npz").items() if k.startswith(f"{case}.")
    }
    masks, referred = (torch.from_numpy(golden[f"pred_{name}"]) for name in ("masks", "is_referred"))
    if case == "a2d":
        masks, referred = masks[None], referred[None]
    return golden, MttrOutput(masks[None], referred[None], torch.empty(0))


def unpacked(golden: dict[str, np.ndarray], name: str) -> np.ndarray:
    shape = golden[f"{name}_shape"].tolist()
    return np.unpackbits(golden[name], count=int(np.prod(shape))).reshape(shape).astype(bool)


def test_postprocessing_of_all_objects() -> None:
    golden, output = output_of("a2d")
    found = all_objects(
        output, tuple(golden["padded"]), list(map(tuple, golden["resized"])), list(map(tuple, golden["orig"]))
    )
    for b, (scores, masks) in enumerate(found):
        np.testing.assert_allclose(scores, golden[f"scores{b}"], rtol=1e-6)
        np.testing.assert_array_equal(masks, unpacked(golden, f"masks{b}"))


def test_postprocessing_of_the_chosen_object() -> None:
    golden, output = output_of("ytvos")
    found = chosen_object(
        output, tuple(golden["padded"]), list(map(tuple, golden["resized"])), list(map(tuple, golden["orig"]))
    )
    np.testing.assert_allclose(output.scores.mean(0), golden["trajectory_scores"], rtol=1e-6)
    assert [query for query, _, _ in found] == golden["chosen"].tolist()
    for b, (query, scores, masks) in enumerate(found):
        np.testing.assert_array_equal(scores, output.scores[:, b, query])
        np.testing.assert_array_equal(masks, unpacked(golden, f"masks{b}"))


def test_the_short_side_stays_where_it_is_right() -> None:
    assert resized_size((360, 500), 360, 640) == (360, 500)
    assert resized_size((500, 360), 360, 640) == (500, 360)
