"""Masks of detections as evidence for identities: embeddings under them, and their overlap with masklets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import supervision as sv
from test_masklet_tracking import FPS, SIZE, Grey, Scripted, a_frame, mask_of

from masa_track import load
from masa_track.association.evidence.mask_overlap import mask_log_odds
from masa_track.encoders.masked import filled, masked_window
from masa_track.errors import InputError
from masa_track.masklets.tracking import MaskletOptions, MaskletTracker
from masa_track.masks import compact_masks
from masa_track.tracker import MasaTracker

BOX = np.array([[40.0, 30.0, 120.0, 110.0]], np.float32)


def pictures() -> tuple[list[np.ndarray], np.ndarray]:
    """A textured disc on two backgrounds, and its mask."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:160, :200]
    disc = (rows - 70) ** 2 + (columns - 80) ** 2 < 38**2
    texture = np.kron(random.integers(0, 255, (20, 25, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    found = []
    for _ in range(2):
        ground = np.kron(random.integers(0, 255, (10, 13, 3)), np.ones((16, 16, 1))).astype(np.uint8)[:, :200]
        found.append(np.where(disc[..., None], texture, ground))
    return found, disc


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float((one * other).sum() / np.linalg.norm(one) / np.linalg.norm(other))


@pytest.fixture(scope="module", params=["onnx", pytest.param("torch", marks=pytest.mark.slow)])
def model(request: pytest.FixtureRequest) -> Any:
    return load("nano", device="cpu", backend=request.param)


@pytest.mark.slow
def test_an_object_looks_the_same_on_another_background(model: Any) -> None:
    (first, second), disc = pictures()
    by_box = cosine(model.embed(first, BOX)[0], model.embed(second, BOX)[0])
    by_mask = cosine(model.embed(first, BOX, [disc])[0], model.embed(second, BOX, [disc])[0])
    assert 1 - by_mask < 0.3 * (1 - by_box)


@pytest.mark.slow
def test_rows_without_a_mask_are_embedded_as_ever(model: Any) -> None:
    (first, _), disc = pictures()
    boxes = np.concatenate([BOX, BOX + 20, BOX - 10])
    plain = model.embed(first, boxes)
    found = model.embed(first, boxes, [None, disc, np.zeros_like(disc)])
    np.testing.assert_allclose(found[[0, 2]], plain[[0, 2]], atol=1e-5)
    assert cosine(found[1], plain[1]) < 0.999
    whole = model.embed(first, boxes, [np.ones_like(disc)] * 3)
    assert min(cosine(one, other) for one, other in zip(whole, plain, strict=True)) > 0.999
    with pytest.raises(InputError, match="masks must be one for each of 3 boxes, got 1"):
        model.embed(first, boxes, [disc])


@pytest.mark.slow
def test_both_backends_agree_under_a_mask() -> None:
    (first, _), disc = pictures()
    one, other = (load("nano", device="cpu", backend=name).embed(first, BOX, [disc])[0] for name in ("onnx", "torch"))
    assert cosine(one, other) > 0.9999


def test_the_surroundings_are_the_mean_of_the_features_under_the_mask() -> None:
    """Against a plain loop, where a cell of the mask is a position of the level."""
    mask = np.zeros((80, 160), bool)
    mask[16:48, 40:72] = True
    found = masked_window(mask, np.array([40.0, 16, 72, 48]), np.ones(4), (160, 96))
    assert found is not None
    window, covered = found
    assert window.tolist() == [0, 0, 160, 96]
    assert covered.shape == (24, 40)
    np.testing.assert_allclose(covered[5:11, 11:17], 1.0)
    assert abs(covered.sum() - 64) < 1
    level = np.random.default_rng(0).normal(size=(1, 3, 24, 40)).astype(np.float32)
    result = filled(level, window, covered, 4, lambda weights: weights)
    for channel in range(3):
        mean = sum(covered[y, x] * level[0, channel, y, x] for y in range(24) for x in range(40)) / covered.sum()
        assert result[0, channel, 0, 0] == pytest.approx(mean, abs=1e-5)
        assert result[0, channel, 8, 14] == pytest.approx(level[0, channel, 8, 14], abs=1e-5)
    assert masked_window(np.zeros_like(mask), np.array([40.0, 16, 72, 48]), np.ones(4), (160, 96)) is None


@pytest.mark.slow
def test_the_tracker_pools_under_masks() -> None:
    (first, _), disc = pictures()
    model = load("nano", device="cpu")
    given = sv.Detections(BOX, mask=compact_masks(disc[None]), confidence=np.ones(1, np.float32))
    found = {
        pool: MasaTracker(model, pool=pool).update(given, first, return_embeddings=True).data["embedding"]
        for pool in ("box", "mask", None)
    }
    np.testing.assert_allclose(found["mask"], model.embed(first, BOX, [disc]), atol=1e-5)
    np.testing.assert_allclose(found["box"], model.embed(first, BOX), atol=1e-5)
    with pytest.raises(InputError, match="pool must be one of box, mask, got 'roi'"):
        MasaTracker(model, pool="roi")
    with pytest.raises(InputError, match=r"needs a model of masa_track\.load, got Grey"):
        MasaTracker(Grey(), pool="mask")


# ---- overlap with masklets


def crossed(number: int) -> dict[str, Any]:
    """Two things that stand side by side; from frame 8 on their detections' boxes are one and the same."""
    return {"a": (60, 30, 100, 90), "b": (100, 30, 140, 90)}


def run(options: MaskletOptions) -> list[Any]:
    """The results; in frame 8 both detections have the same box, but each its own mask."""
    tracker = MaskletTracker(MasaTracker(Grey(), fps=FPS), Scripted(crossed), options)
    results = []
    for number in range(1, 9):
        boxes = list(crossed(number).values())
        masks = np.array([mask_of(box) for box in boxes])
        shown = np.float32([(60, 30, 140, 90)] * 2 if number == 8 else boxes)
        if number == 8:
            masks = masks[::-1]  # the second thing comes first
            shown[1] += 1  # no duplicate
        detections = sv.Detections(
            shown, mask=masks, confidence=np.float32([0.9, 0.9]), class_id=np.zeros(len(boxes), int)
        )
        results += tracker.step(a_frame(number), detections)
    return results


def test_masks_decide_where_boxes_do_not() -> None:
    results = run(MaskletOptions(use_mask_overlap=True))
    before, after = (results[k].detections.tracker_id.tolist() for k in (6, 7))
    assert after == before[::-1]
    decision = results[7].decisions[0]
    assert decision.terms["mask"] == pytest.approx(mask_log_odds(1.0, 0.95 / (1 + np.exp(-5))), abs=1e-3)
    assert decision.terms["hint"] == 0
    assert sum(decision.terms.values()) == pytest.approx(decision.log_odds)
    without = run(MaskletOptions())[7].decisions[0]
    assert without.terms["mask"] == 0
    assert without.terms["hint"] != 0


def test_detections_without_masks_get_hints_by_boxes() -> None:
    tracker = MaskletTracker(MasaTracker(Grey(), fps=FPS), Scripted(crossed))
    boxes = np.float32(list(crossed(1).values()))
    for number in range(1, 5):
        given = sv.Detections(boxes, confidence=np.float32([0.9, 0.9]), class_id=np.zeros(2, int))
        (result,) = tracker.step(a_frame(number), given)
    assert all(decision.terms["hint"] > 3 and decision.terms["mask"] == 0 for decision in result.decisions)


def test_an_overlap_of_no_row_is_refused() -> None:
    tracker = MasaTracker(Grey(), fps=FPS, use_appearance=False)
    with pytest.raises(InputError, match=r"mask_overlaps must name rows 0\.\.0, got row 3"):
        tracker._associator.update(_observation())
    assert SIZE == (200, 120)


def _observation() -> Any:
    from masa_track.contracts import Observation

    one = np.ones(1, np.float32)
    return Observation(1, 0.0, SIZE, BOX, one, np.zeros(1, np.int64), mask_overlaps=[(3, 1, 0.5, 0.9)])
