"""The pure functions of `masa_track.parts` against the numbers of HIPIE's official code (``goldens/hipie``)."""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from masa_track.parts import merge

FOLDER = Path(os.environ.get("MASA_GOLDENS", Path(__file__).parent / "goldens")) / "hipie"
TOLERANCE = 2e-5  # of values of magnitude 1; logits are of magnitude 10


@functools.cache
def golden() -> dict[str, np.ndarray]:
    with np.load(FOLDER / "hipie_functions_official.npz") as file:
        return {key: file[key] for key in file.files}


@functools.cache
def names() -> dict[str, Any]:
    return json.loads(str(golden()["names"]))


def tokens_of() -> list[list[int]]:
    return list(names()["positive_map"].values())


IS_THING = np.array([True, True, True, False, False])


def packed(key: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.unpackbits(golden()[key], axis=1).reshape(-1, *shape).astype(bool)


def seen() -> np.ndarray:
    trained = [name for group in names()["seen"] for name in group.split(",")]
    return merge.seen_classes([group.split(",") for group in names()["test"]], trained)


@pytest.mark.parametrize("reduce", ["max", "mean"])
@pytest.mark.parametrize(("kind", "wanted"), [("None", None), ("FG", IS_THING), ("BG", ~IS_THING)])
def test_class_logits(kind: str, wanted: np.ndarray | None, reduce: Any) -> None:
    expected = golden()[f"class_logits_{kind}_{reduce}"][0]
    found = merge.class_logits(golden()["tokens"][0], tokens_of(), reduce, wanted)
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("weights", [(0.35, 0.7), (0.2, 0.45)])
@pytest.mark.parametrize(("key", "rule"), [("MUL", "product"), ("ADD", "sum")])
def test_clip_ensemble(key: str, rule: Any, weights: tuple[float, float]) -> None:
    assert seen().tolist() == [True, False, False, True, False]  # "sky,heaven" by its synonym
    clip = merge.clip_probabilities(golden()["clip_logits"], range(5))
    found = merge.combine_with_clip(golden()["clip_p"], clip, seen(), *weights, rule)
    expected = golden()[f"clip_{key}_{weights[0]}_{weights[1]}"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("key", ["0.25_0.8", "0.25_0.5", "0.5_0.8", "0.01_0.8", "0.99_0.8"])
def test_panoptic_merge(key: str) -> None:
    score, overlap = map(float, key.split("_"))
    masks = merge.sigmoid(golden()["pano_masks"].astype(np.float32))
    found, segments = merge.merge_panoptic(golden()["pano_cls"], masks, IS_THING, score, overlap)
    info = [[one.number, int(one.is_thing), one.label] for one in segments]
    assert info == golden()[f"pano_{key}_info"].tolist()
    np.testing.assert_array_equal(found, golden()[f"pano_{key}"])


def test_semantic_map() -> None:
    masks = merge.sigmoid(golden()["pano_masks"].astype(np.float32))
    found = merge.semantic_map(golden()["pano_cls"], masks)
    np.testing.assert_allclose(found, golden()["semantic"], rtol=0, atol=TOLERANCE)


def clip_table(count: int) -> np.ndarray:
    """The stand-in for CLIP with which the goldens were made."""
    return (np.random.default_rng([0, count]).normal(size=(count, 5)) * 3).astype(np.float32)


def resized(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    torch = pytest.importorskip("torch")
    given = torch.from_numpy(np.ascontiguousarray(maps))[None]
    return torch.nn.functional.interpolate(given, size=size, mode="bilinear", align_corners=False)[0].numpy()


@pytest.mark.parametrize("mode", ["plain", "clip", "referring"])
def test_a_whole_picture(mode: str) -> None:
    """Scripted outputs of both decoders, from token logits to instances, semantic map and panoptic map."""
    data = golden()
    tokens, centres, logits = data["inf_tok"][0, 10:], data["inf_box"][0, 10:], data["inf_mask"][0, 10:, 0]
    iou_logits = data["inf_iou"][0, 10:, 0]
    boxes = np.concatenate([centres[:, :2] - centres[:, 2:] / 2, centres[:, :2] + centres[:, 2:] / 2], axis=1)
    if mode == "referring":
        things = merge.class_logits(tokens, [[0]])
    else:
        things = merge.class_logits(tokens, tokens_of(), wanted=IS_THING)

    def with_clip(probabilities: np.ndarray) -> np.ndarray:
        clip = merge.clip_probabilities(clip_table(len(probabilities)), range(5))
        return merge.combine_with_clip(probabilities, clip, seen())

    if mode == "clip":
        p = merge.sigmoid(with_clip(merge.class_probabilities(things))) * IS_THING
        scores = merge.thing_scores(p, iou_logits, merge.CLIP_EXPONENTS)
    else:
        scores = merge.thing_scores(merge.sigmoid(things), iou_logits)
    kept = merge.suppress_by_class(boxes, scores)
    rows, labels = merge.best_pairs(scores[kept], 1 if mode == "referring" else 100)
    found = scores[kept][rows, labels]
    expected = data[f"inf_{mode}/scores"]
    np.testing.assert_allclose(found[: len(expected)], expected[: len(found)], rtol=0, atol=TOLERANCE)
    sure = expected > 1e-6  # the order of equal scores is open, and many are 0
    count = int(sure.sum())
    assert labels[:count].tolist() == data[f"inf_{mode}/classes"][sure].tolist()
    rows = kept[rows[:count]]
    sizes = np.array([80, 64, 80, 64], np.float32)
    np.testing.assert_allclose(boxes[rows] * sizes, data[f"inf_{mode}/boxes"][sure], rtol=0, atol=1e-4)
    masks = merge.sigmoid(resized(logits, (64, 80))) > 0.5
    np.testing.assert_array_equal(masks[rows], packed(f"inf_{mode}/masks", (64, 80))[sure])
    if mode == "referring":
        return
    stuff = merge.class_logits(data["inf_stuff_tok"][0], tokens_of(), wanted=~IS_THING)
    p = merge.class_probabilities(np.concatenate([things[kept], stuff]))
    if mode == "clip":
        p = merge.softmax(with_clip(p))
    every = np.concatenate([logits[kept], data["inf_stuff_mask"][0]])
    probabilities = merge.sigmoid(resized(resized(every, (64, 80)), (48, 60)))
    np.testing.assert_allclose(
        merge.semantic_map(p, probabilities), data[f"inf_{mode}/semseg"], rtol=0, atol=5 * TOLERANCE
    )
    panoptic, segments = merge.merge_panoptic(p, probabilities, IS_THING)
    info = [[one.number, int(one.is_thing), one.label] for one in segments]
    assert info == data[f"inf_{mode}/info"].tolist()
    np.testing.assert_array_equal(panoptic, data[f"inf_{mode}/pano"])


def part_names() -> dict[str, Any]:
    return json.loads(str(golden()["parts_names"]))


THINGS = ["person", "dog", "boat", "car"]


def thing_of() -> list[int]:
    """A name without a second word is no part."""
    split = [name.split(" ", 1) for name in part_names()["classes"]]
    return [THINGS.index(words[0]) if len(words) > 1 else -1 for words in split]


def region_names(regions: list[merge.PartRegion]) -> list[str]:
    """As the official code writes them: without the thing; ``body`` is the thing."""
    split = [part_names()["classes"][region.label].split(" ", 1) for region in regions]
    return [words[0] if words[1] == "body" else words[1] for words in split]


def regions_by_panoptic() -> list[merge.PartRegion]:
    labels = np.array([THINGS.index(name) for name in part_names()["merged"][:4]])
    masks = golden()["parts_pan"] == np.arange(1, 5)[:, None, None]
    return merge.part_regions(golden()["parts_map"], masks, labels, thing_of())


def test_parts_of_instances() -> None:
    labels = np.array([THINGS.index(name) for name in part_names()["instance_labels"]])
    found = merge.part_regions(golden()["parts_map"], packed("parts_inst", (64, 88)), labels, thing_of())
    assert region_names(found) == part_names()["by_instance"]
    np.testing.assert_array_equal([one.mask for one in found], packed("parts_by_inst", (64, 88)))


def test_parts_of_panoptic_segments_and_what_is_left_of_those() -> None:
    found = regions_by_panoptic()
    assert region_names(found) == part_names()["by_panoptic"]
    masks = np.array([one.mask for one in found])
    np.testing.assert_array_equal(masks, packed("parts_by_pan", (64, 88)))
    kept = merge.uncovered_segments(golden()["parts_pan"], masks)
    areas = [int((golden()["parts_pan"] == number).sum()) for number in kept]
    assert [*areas, *(int(mask.sum()) for mask in masks)] == golden()["parts_merged_area"].tolist()


def test_votes() -> None:
    """The official code resizes both maps to half their size, which is the mean of 2 x 2 pixels."""

    def halved(labels: np.ndarray) -> np.ndarray:
        layers = (labels == np.arange(labels.max() + 1)[:, None, None]).astype(np.float64)
        return layers.reshape(len(layers), 32, 2, 44, 2).mean(axis=(2, 4))

    masks = halved(golden()["parts_pan"])
    labels = merge.vote(masks, halved(golden()["parts_map"]))
    assert labels.tolist() == golden()["vote_labels"].tolist()
    np.testing.assert_array_equal(labels[masks.argmax(axis=0)], golden()["vote_map"])


def test_masks_by_points() -> None:
    masks = packed("parts_inst", (64, 88))
    found = merge.masks_at_points(masks, golden()["points"], 2)
    np.testing.assert_array_equal(masks[found], packed("points_masks", (64, 88)))


def test_part_names() -> None:
    match = part_names()["match"]
    assert {key: merge.part_names_match(*key.split("|")) for key in match} == match
