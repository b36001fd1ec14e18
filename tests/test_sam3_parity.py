"""The tracking logic of concepts against the official SAM 3 code's numbers: tests/goldens/sam3."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from masa_track.masklets.concept_logic import ConceptLogic, Instances, Masklet, Plan
from masa_track.masklets.concept_options import ConceptOptions
from masa_track.masklets.concept_output import Shown, detections_of, shown_in, visible
from masa_track.masklets.mask_logits import (
    Patch,
    crowded_out,
    mask_iou,
    mask_nms,
    owned,
    scaled_mask,
    scaled_patch,
    without_specks,
)

FOLDER = Path(os.environ.get("MASA_GOLDENS", Path(__file__).parent / "goldens")) / "sam3"
OFFICIAL: dict[str, Any] = json.loads((FOLDER / "sam3_tracking_official.json").read_text())
FUNCTIONS = np.load(FOLDER / "sam3_functions_official.npz")
MASKS = FUNCTIONS["nms_masks"].astype(np.float32)


def options_of(cfg: dict[str, Any], reverse: bool) -> ConceptOptions:
    """Our options for the official ones."""
    return ConceptOptions(
        least_score=cfg["score_threshold_detection"],
        nms_iou=cfg["det_nms_thresh"],
        match_iou=cfg["assoc_iou_thresh"],
        follow_iou=cfg["trk_assoc_iou_thresh"],
        birth_score=cfg["new_det_thresh"],
        one_to_one=cfg["o2o_matching_masklets_enable"],
        border=0.025 if cfg["suppress_det_close_to_boundary"] else 0.0,
        most_objects=cfg["max_num_objects"] if cfg["max_num_objects"] > 0 else None,
        hot_start=cfg["hotstart_delay"],
        unmatched_frames=cfg["hotstart_unmatch_thresh"],
        duplicate_frames=cfg["hotstart_dup_thresh"],
        alive_start=cfg["init_trk_keep_alive"],
        alive_most=cfg["max_trk_keep_alive"],
        alive_least=cfg["min_trk_keep_alive"],
        hide_unmatched=not cfg["suppress_unmatched_only_within_hotstart"],
        empty_is_unmatched=cfg["decrease_trk_keep_alive_for_empty_masklets"],
        occlusion_iou=cfg["suppress_overlapping_based_on_recent_occlusion_threshold"],
        hole_area=cfg["fill_hole_area"],
        recondition_frames=cfg["recondition_every_nth_frame"],
        mismatch_iou=cfg.get("reconstruction_bbox_iou_thresh", 0.0),
        confirm_frames=cfg["masklet_confirmation_consecutive_det_thresh"] if cfg["masklet_confirmation_enable"] else 0,
        end_empty=0,
        end_unmatched=0,
        reverse=reverse,
    )


class Step(NamedTuple):
    """One frame of a scene: what was decided, the counters after it, and what can be shown."""

    plan: Plan
    masklets: dict[int, Masklet]  # copies, of those that live
    shown: list[Shown]
    pixels: dict[int, int]  # of the masks of detections, by row


class Scene(NamedTuple):
    """A scene as our logic runs it."""

    options: ConceptOptions
    size: tuple[int, int]
    steps: list[Step]


@cache
def run(name: str) -> Scene:
    """Runs a scene: what is born of a detection of source s has the masks and object logits of s."""
    inputs = np.load(FOLDER / "sam3_tracking_inputs.npz")
    meta = json.loads(str(inputs[f"{name}/meta"]))
    side, size = meta["L"], (meta["W"], meta["H"])
    at = {
        key: inputs[f"{name}/{key}"]
        for key in ("det_frame", "det_src", "det_score", "det_box", "det_amp", "trk_logit", "trk_amp")
    }
    found_masks, source_masks = (
        np.unpackbits(inputs[f"{name}/{key}"], axis=-1).reshape(*inputs[f"{name}/{key}"].shape[:-1], side, side) > 0
        for key in ("det_mask", "trk_mask")
    )
    options = options_of(OFFICIAL[name]["cfg"], meta["reverse"])
    logic = ConceptLogic(options)
    source: dict[int, int] = {}
    steps = []
    for planned in OFFICIAL[name]["plan"]:
        number = planned["frame"]
        rows = np.flatnonzero(at["det_frame"] == number)
        logits = np.where(found_masks[rows], 1, -1) * at["det_amp"][rows, None, None]
        found = Instances(at["det_box"][rows], at["det_score"][rows], logits.astype(np.float32))
        ids = list(logic.masklets)
        before = dict(logic.masklets)
        propagated = [
            np.where(source_masks[source[i], number], 1, -1) * (at["trk_amp"][source[i]] + np.float32(i / 1024))
            for i in ids
        ]
        plan = logic.step(
            number,
            found,
            np.array(propagated, np.float32).reshape(-1, side, side),
            np.array([at["trk_logit"][source[i], number] for i in ids], np.float32),
        )
        source |= {identity: int(at["det_src"][rows[n]]) for identity, n in plan.new.items()}
        masklets = {i: replace(m) for i, m in logic.masklets.items()}
        shown = shown_in(plan, before | logic.masklets, size)
        steps.append(Step(plan, masklets, shown, {n: int((found.logits[n] > 0).sum()) for n in range(len(found))}))
    assert source == {int(i): s for i, s in OFFICIAL[name]["source_of_id"].items()}
    return Scene(options, size, steps)


@pytest.mark.parametrize("name", OFFICIAL)
def test_decisions_and_counters_are_the_official_ones(name: str) -> None:
    for step, official in zip(run(name).steps, OFFICIAL[name]["plan"], strict=True):
        plan = step.plan
        assert plan.number == official["frame"]
        assert plan.ids.tolist() == official["ids_before"]
        assert list(plan.new.values()) == official["new_det"]
        assert list(plan.new) == official["new_ids"]
        assert plan.matched == {int(n): ids for n, ids in official["matched"].items() if ids}
        assert plan.pairs == {int(i): n for i, n in official["high_conf"].items()}
        assert plan.unmatched == sorted(official["unmatched"])
        assert plan.removed == sorted(official["removed"])
        assert plan.dropped == official["dropped"]
        assert plan.hidden == sorted(official["suppressed"])
        assert (sorted(plan.pairs) if plan.mismatched else []) == sorted(official["reconditioned_by_box"])
        calls = [[identity, step.pixels[n]] for identity, n in plan.reconditioned.items()]
        assert calls == official["recondition_calls"]
        assert list(step.masklets) == official["ids_after"]
        for identity, masklet in step.masklets.items():
            assert masklet.alive == official["keep_alive"][str(identity)]
            assert masklet.score == pytest.approx(official["scores"][str(identity)], abs=1e-6)
            if str(identity) in official["last_occluded"]:
                assert masklet.occluded == official["last_occluded"][str(identity)]


@pytest.mark.parametrize("name", OFFICIAL)
def test_memory_has_the_official_areas(name: str) -> None:
    for step, official in zip(run(name).steps, OFFICIAL[name]["plan"], strict=True):
        side = 2 * step.plan.memory.shape[-1]
        areas = {
            str(identity): int(scaled_mask(logits, (side, side)).sum())
            for identity, logits in zip(step.plan.ids.tolist(), step.plan.memory, strict=True)
        }
        assert areas == {identity: area for identity, (area, _) in official["memory"].items()}


@pytest.mark.parametrize("name", OFFICIAL)
def test_frames_given_out_are_the_official_ones(name: str) -> None:
    scene = run(name)
    order = [step.plan.number for step in scene.steps]
    width, height = scene.size
    masks = iter(
        np.unpackbits(np.load(FOLDER / "sam3_tracking_inputs.npz")[f"{name}/out_masks"], axis=1)
        .reshape(-1, height, width)
        .astype(bool)
    )
    for given in OFFICIAL[name]["yielded"]:
        place, after = order.index(given["frame"]), order.index(given["after"])
        assert after == min(place + max(scene.options.hot_start - 1, 0), len(order) - 1)
        removed = {identity for step in scene.steps[: after + 1] for identity in step.plan.removed}
        kept = visible(scene.steps[place].shown, given["frame"], removed, scene.options)
        found = detections_of(["x"], [kept], [1.0], scene.size, {})
        assert found.tracker_id is not None
        assert found.confidence is not None
        assert found.tracker_id.tolist() == given["ids"]
        assert found.confidence == pytest.approx(given["probs"], abs=1e-6)
        corners = found.xyxy - (0, 0, 1, 1)  # the official box ends at the last pixel
        boxes = np.hstack((corners[:, :2], corners[:, 2:] - corners[:, :2])) / (width, height, width, height)
        assert boxes == pytest.approx(np.array(given["boxes_xywh"]).reshape(-1, 4), abs=1e-6)
        for row, area in enumerate(given["areas"]):
            assert found.mask is not None
            mask = np.asarray(found.mask[row])
            assert mask.sum() == area
            assert (mask == next(masks)).all()
    assert next(masks, None) is None


@pytest.mark.parametrize("overlap", [0.1, 0.25, 0.5, 0.7])
def test_official_mask_nms(overlap: float) -> None:
    scores = FUNCTIONS["nms_probs"]
    rows = np.flatnonzero(scores > 0.5)
    kept = rows[mask_nms(MASKS[rows] > 0, scores[rows], overlap)]
    assert kept.tolist() == np.flatnonzero(FUNCTIONS[f"nms_keep_{overlap}"]).tolist()


def test_official_mask_iou() -> None:
    assert (mask_iou(MASKS > 0, MASKS > 0) == FUNCTIONS["iou"]).all()


@pytest.mark.parametrize("side", ["even", "odd"])
@pytest.mark.parametrize("area", [4, 16, 64])
def test_official_holes_and_small_pieces(side: str, area: int) -> None:
    for logits, changed in zip(FUNCTIONS[f"fill_{side}_in"], FUNCTIONS[f"fill_{side}_{area}"], strict=True):
        cleaned = without_specks(logits.astype(np.float32), area)
        signs = np.select([cleaned == np.float32(0.1), cleaned == np.float32(-0.1)], [1, -1])
        assert (signs == changed).all()
        assert (cleaned == logits)[changed == 0].all()


def test_official_masks_that_are_crowded_out_of_the_memory() -> None:
    emptied = (FUNCTIONS["shrink_in_area"] > 0) & (FUNCTIONS["shrink_out_area"] == 0)
    assert crowded_out(MASKS[:10], factor=1).tolist() == emptied.tolist()
    assert emptied.any()
    assert not emptied.all()


def test_official_pixels_of_overlapping_masks() -> None:
    height, width = MASKS.shape[1:]
    whole = (slice(0, height), slice(0, width))
    crops = owned([Patch(whole, mask) for mask in MASKS[:10]], FUNCTIONS["objwise_scores"], (width, height))
    official = np.unpackbits(FUNCTIONS["objwise_out"], axis=1).reshape(10, height, width)
    assert (np.array(crops) == official).all()


def plain_iou(one: np.ndarray, two: np.ndarray) -> float:
    pairs = list(zip(one.ravel().tolist(), two.ravel().tolist(), strict=True))
    return sum(a and b for a, b in pairs) / max(sum(a or b for a, b in pairs), 1)


def test_mask_nms_is_the_plain_loop() -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        masks = rng.random((6, 5, 4)) > rng.uniform(0.2, 0.8)
        scores = rng.integers(0, 4, 6) / 4  # ties
        limit = float(rng.choice([0.1, 0.3, 0.5]))
        kept: list[int] = []
        for row in sorted(range(6), key=lambda r: (-scores[r], r)):
            if all(plain_iou(masks[row], masks[better]) <= limit for better in kept):
                kept.append(row)
        assert mask_nms(masks, scores, limit).tolist() == sorted(kept)


def flood(mask: np.ndarray) -> list[list[tuple[int, int]]]:
    """The connected pieces of a mask, by a flood fill over eight neighbours."""
    left = set(zip(*(axis.tolist() for axis in np.nonzero(mask)), strict=True))
    pieces = []
    while left:
        piece = [left.pop()]
        for y, x in piece:
            around = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= around
            piece += around
        pieces.append(piece)
    return pieces


def test_holes_and_small_pieces_are_those_of_a_flood_fill() -> None:
    rng = np.random.default_rng(1)
    for _ in range(30):
        logits = (rng.random((9, 11)) - rng.uniform(0.3, 0.7)).astype(np.float32)
        area = int(rng.integers(1, 9))
        slow = logits.copy()
        for piece in flood(logits <= 0):
            for pixel in piece if len(piece) <= area else ():
                slow[pixel] = 0.1
        mask = slow > 0
        for piece in flood(mask):
            for pixel in piece if len(piece) <= min(area, mask.sum() // 2) else ():
                slow[pixel] = -0.1
        assert (without_specks(logits, area) == slow).all()
    assert without_specks(logits, 0) is logits


@pytest.mark.parametrize("size", [(128, 96), (50, 31), (20, 11), (300, 7)])
def test_scaled_masks_are_those_of_torch(size: tuple[int, int]) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(2)
    for shape in ((64, 64), (17, 23)):
        logits = np.where(rng.random(shape) > 0.8, 1, -1).astype(np.float32) * np.float32(rng.uniform(1, 5))
        logits[:5] = logits[:, -4:] = -1
        scaled = torch.nn.functional.interpolate(torch.from_numpy(logits)[None, None], size=size[::-1], mode="bilinear")
        patch = scaled_patch(logits, size)
        assert patch is not None
        dense = scaled[0, 0].numpy()
        assert np.abs(patch.logits - dense[patch.place]).max() < 1e-5
        differ = scaled_mask(logits, size) != (dense > 0)
        assert (np.abs(dense[differ]) < 1e-6).all()  # where two pixels of opposite sign meet halfway


def test_an_empty_mask_stays_empty_when_scaled() -> None:
    assert scaled_patch(np.full((8, 8), -1, np.float32), (16, 16)) is None
    assert not scaled_mask(np.full((8, 8), -1, np.float32), (16, 16)).any()


def test_crowded_out_is_the_plain_rule() -> None:
    rng = np.random.default_rng(3)
    for _ in range(10):
        logits = rng.normal(-0.5, 1, (5, 6, 7)).astype(np.float32)
        whole = np.array([scaled_patch(mask, (28, 24)) is not None for mask in logits])
        dense = np.full((5, 24, 28), -np.inf, np.float32)
        for row, mask in enumerate(logits):
            patch = scaled_patch(mask, (28, 24))
            if patch is not None:
                dense[row][patch.place] = patch.logits
        expected = []
        for row in range(5):
            area = (dense[row] > 0).sum()
            own = ((dense[row] > 0) & (dense.argmax(axis=0) == row)).sum()
            expected.append(bool(whole[row] and area and own / area < 0.3))
        assert crowded_out(logits).tolist() == expected
