"""The same scenarios with optical flow and with a scripted propagator, which knows the truth but for stated errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
import supervision as sv
from propagated_scenes import COLOURS, HEIGHT, RADIUS, WIDTH, iou, scene, walk
from test_prompted import box_of, masks_in, point_of, scaled, truth

from masa_track.contracts import Features, Frame, FrameResult, MaskletFrame, Prompt
from masa_track.errors import InputError
from masa_track.masklets.flow import FlowPropagator
from masa_track.masklets.prompt_file import Prompts
from masa_track.masklets.prompted import PromptedTracker
from masa_track.masklets.prompts import check_prompt
from masa_track.masklets.tracking import MaskletTracker
from masa_track.masks import as_mask, compact_masks, mask_box
from masa_track.tracker import MasaTracker

Centres = Callable[[int], dict[int, tuple[float, float]]]


class Scripted:
    """Carries a mask with the thing under it; ``says(number, masks)`` makes errors in what it proposes.

    A prompt is on the thing whose true mask it shares most with. A mask that was given or a point beside things is kept
    as it is until the next frame.
    """

    def __init__(self, centres: Centres, says: Callable[[int, dict[int, np.ndarray]], None] | None = None) -> None:
        self.centres, self.says = centres, says or (lambda number, masks: None)
        self.reset()

    def reset(self) -> None:
        self.things: dict[int, int] = {}
        self.number, self.size, self.prompted = 0, (WIDTH, HEIGHT), list[tuple[int, int]]()

    def truth(self) -> dict[int, np.ndarray]:
        masks = scene(self.number, self.centres(self.number))[1]
        return masks if self.size == (WIDTH, HEIGHT) else {i: scaled(mask) for i, mask in masks.items()}

    def propose(self, frame: Frame, features: Features | None = None) -> MaskletFrame:
        self.number, self.size = frame.number, (frame.picture.shape[1], frame.picture.shape[0])
        true, empty = self.truth(), np.zeros(self.size[::-1], bool)
        self.shown = {i: true.get(thing, empty).copy() for i, thing in self.things.items()}
        self.says(self.number, self.shown)
        return self._frame(sorted(self.shown))

    def _frame(self, ids: list[int]) -> MaskletFrame:
        masks = np.array([self.shown[i] for i in ids]).reshape(-1, *self.size[::-1])
        logits = np.float32([5.0 if mask.any() else -5.0 for mask in masks])
        return MaskletFrame(np.array(ids, np.int64), compact_masks(masks), logits, np.full(len(ids), 0.95, np.float32))

    def prompt(self, identity: int, prompt: Prompt, candidates: bool = False) -> MaskletFrame:
        prompt, true = check_prompt(prompt, self.size), self.truth()
        area = np.zeros(self.size[::-1], bool)
        if prompt.mask is not None:
            area = prompt.mask
        elif prompt.box is not None:
            x1, y1, x2, y2 = prompt.box.astype(int)
            area[y1:y2, x1:x2] = True
        else:
            assert prompt.points is not None
            for (x, y), positive in zip(prompt.points.astype(int), np.asarray(prompt.positive), strict=True):
                area[y, x] = positive
        shared = {thing: (area & mask).sum() for thing, mask in true.items()}
        best = max(shared, key=shared.__getitem__, default=-1)
        self.things[identity] = best if best >= 0 and shared[best] else -1
        self.shown[identity] = area if prompt.mask is not None else true.get(self.things[identity], area & False)
        self.prompted.append((self.number, identity))
        return self._frame([identity])

    def commit(self, masks: Mapping[int, Any] | None = None) -> None:
        for identity, mask in (masks or {}).items():
            self.shown[identity] = as_mask(np.asarray(mask), self.size)

    def forget(self, identity: int) -> None:
        del self.things[identity]
        self.shown.pop(identity, None)

    def memory_bytes(self) -> int:
        return 0


@pytest.fixture(params=["scripted", pytest.param("flow", marks=pytest.mark.slow)])
def carry(request: pytest.FixtureRequest) -> Callable[[Centres], Any]:
    """Makes a propagator for a scene."""
    return Scripted if request.param == "scripted" else lambda centres: FlowPropagator()


def by_hand(carry: Any, prompts: Prompts, centres: Centres = walk, count: int = 8) -> list[dict[int, np.ndarray]]:
    """The masks in each frame."""
    tracker = PromptedTracker(carry(centres), prompts)
    return [masks_in(tracker.step(scene(n, centres(n))[0])[0]) for n in range(1, count + 1)]


def both(number: int = 1, centres: Centres = walk) -> dict[int, Prompt | None]:
    return {i: Prompt(mask=mask) for i, mask in scene(number, centres(number))[1].items()}


def test_a_late_prompt(carry: Any) -> None:
    found = by_hand(carry, {1: {1: Prompt(mask=truth(1)[1])}, 4: {2: Prompt(box=box_of(truth(4)[2]))}})
    assert [sorted(masks) for masks in found] == [[1]] * 3 + [[1, 2]] * 5
    assert iou(found[-1][2], truth(8)[2]) > 0.7


def test_a_correction(carry: Any) -> None:
    """Object 1 is shown where the other one is, and corrected in frame 4."""
    found = by_hand(carry, {1: {1: Prompt(mask=truth(1)[2])}, 4: {1: Prompt(mask=truth(4)[1])}})
    assert iou(found[2][1], truth(3)[2]) > 0.7
    assert iou(found[-1][1], truth(8)[1]) > 0.7


def test_a_removal(carry: Any) -> None:
    found = by_hand(carry, {1: both(), 5: {1: None}})
    assert [sorted(masks) for masks in found] == [[1, 2]] * 4 + [[2]] * 4
    assert iou(found[-1][2], truth(8)[2]) > 0.7


def test_leave_and_return(carry: Any) -> None:
    def centres(number: int) -> dict[int, tuple[float, float]]:
        return {1: (40, 40)} | ({2: (115, 70)} if not 4 <= number <= 7 else {})

    found = by_hand(carry, {1: both(1, centres)}, centres, 12)
    assert all(2 not in masks for masks in found[3:7])
    assert iou(found[-1][2], scene(12, centres(12))[1][2]) > 0.7
    assert iou(found[-1][1], scene(12, centres(12))[1][1]) > 0.7


def test_all_are_lost_and_one_comes_back(carry: Any) -> None:
    def centres(number: int) -> dict[int, tuple[float, float]]:
        here = {1: (40.0, 40.0), 2: (115.0, 70.0)}
        return {} if 4 <= number <= 6 else here if number < 4 else {2: here[2]}

    found = by_hand(carry, {1: both(1, centres)}, centres, 11)
    assert [len(masks) for masks in found[3:6]] == [0, 0, 0]
    assert sorted(found[-1]) == [2]
    assert iou(found[-1][2], scene(11, centres(11))[1][2]) > 0.7


def test_another_picture_size_in_the_middle(carry: Any) -> None:
    tracker = PromptedTracker(carry(walk), {1: both()})
    for number in range(1, 7):
        frame, true = scene(number, walk(number))
        if number >= 4:
            image = cv2.resize(frame.picture, (2 * WIDTH, 2 * HEIGHT), interpolation=cv2.INTER_LINEAR)
            frame = replace(frame, size=(2 * WIDTH, 2 * HEIGHT), image=image)
            true = {i: scaled(mask) for i, mask in true.items()}
        (result,) = tracker.step(frame)
        assert all(iou(mask, true[i]) > 0.7 for i, mask in masks_in(result).items())
        assert len(result.detections) == 2


def test_empty_and_full_masks(carry: Any) -> None:
    empty, full = np.zeros((HEIGHT, WIDTH), bool), np.ones((HEIGHT, WIDTH), bool)
    found = by_hand(carry, {1: {1: Prompt(mask=truth(1)[1])}, 3: {1: Prompt(mask=empty)}}, count=3)
    assert found[2] == {}
    found = by_hand(carry, {1: {1: Prompt(mask=full)}}, count=1)
    assert found[0][1].all()


def test_a_point_outside_of_the_picture(carry: Any) -> None:
    tracker = PromptedTracker(carry(walk), {1: {1: Prompt(np.float32([[500, 5]]))}})
    with pytest.raises(InputError, match=r"prompt\.points must be in the picture"):
        tracker.step(scene(1, walk(1))[0])


def test_contradictory_clicks(carry: Any) -> None:
    """One place both on and beside the object is refused."""
    place = point_of(truth(1)[1]).points
    assert place is not None
    prompts: Prompts = {1: {1: Prompt(np.concatenate([place, place]), np.array([True, False]))}}
    tracker = PromptedTracker(carry(walk), prompts)
    with pytest.raises(InputError, match="both positive and negative"):
        tracker.step(scene(1, walk(1))[0])


def test_two_prompts_on_one_object(carry: Any) -> None:
    mask = truth(1)[1]
    found = by_hand(carry, {1: {1: Prompt(mask=mask), 2: Prompt(mask=mask)}})
    assert not any(len(masks) == 2 and (masks[1] & masks[2]).any() for masks in found[:1])
    assert max(iou(shown, truth(8)[1]) for shown in found[-1].values()) > 0.7


# ---- with detections


class Colours:
    """Embeddings by the colour in the middle of each box."""

    def embed(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        middles = ((boxes[:, :2] + boxes[:, 2:]) / 2).astype(int)
        seen = np.array([frame[np.clip(y, 0, HEIGHT - 1), np.clip(x, 0, WIDTH - 1)] for x, y in middles], np.float32)
        near = np.linalg.norm(seen.reshape(-1, 1, 3) - np.array(list(COLOURS.values()), np.float32), axis=2)
        return np.eye(4, dtype=np.float32)[near.argmin(axis=1)]


def tracked(propagator: Any, centres: Centres, count: int, blind: range = range(0)) -> list[FrameResult]:
    """Each frame with the detections of all things of which half is visible, but in the frames ``blind``."""
    tracker = MaskletTracker(MasaTracker(Colours(), fps=25, sure_score=0.8), propagator)
    results = []
    for number in range(1, count + 1):
        frame, true = scene(number, centres(number))
        boxes = [mask_box(mask) for mask in true.values() if mask.sum() > 0.5 * np.pi * RADIUS**2]
        shown = np.float32([box for box in boxes if box is not None]).reshape(-1, 4)
        given = sv.Detections(
            shown, confidence=np.full(len(shown), 0.9, np.float32), class_id=np.zeros(len(shown), int)
        )
        results += tracker.step(frame, None if number in blind else given)
    return results


def identities(result: FrameResult, centres: Centres) -> dict[int, int]:
    """The identity of each thing whose true mask is covered by a row's mask."""
    true = scene(result.frame.number, centres(result.frame.number))[1]
    masks = masks_in(result)
    best = {thing: max(masks, key=lambda i: iou(masks[i], mask), default=-1) for thing, mask in true.items()}
    return {thing: i for thing, i in best.items() if i >= 0 and iou(masks[i], true[thing]) > 0.5}


def test_two_objects_cross_and_appearance_decides(carry: Any) -> None:
    """The scripted masklets change places while the things cross; the detections' colours put them right."""

    def centres(number: int) -> dict[int, tuple[float, float]]:
        return {1: (30 + 4 * number, 56), 2: (130 - 4 * number, 56)}

    propagator = carry(centres)
    if isinstance(propagator, Scripted):

        def swapped(number: int, masks: dict[int, np.ndarray]) -> None:
            if 14 <= number <= 18 and len(masks) == 2:
                one, other = sorted(masks)
                masks[one], masks[other] = masks[other], masks[one]

        propagator.says = swapped
    results = tracked(propagator, centres, 24)
    before, after = identities(results[5], centres), identities(results[-1], centres)
    assert len(before) == 2
    assert after == before


def test_a_cut_prompts_all_anew(carry: Any) -> None:
    """At frame 8 the things are elsewhere, and each other's neighbours: their colours say which is which."""

    def centres(number: int) -> dict[int, tuple[float, float]]:
        places = [(28.0, 28.0), (130.0, 30.0), (80.0, 85.0)]
        shift = 0 if number < 8 else 1
        return {i + 1: places[(i + shift) % 3] for i in range(3)}

    results = tracked(carry(centres), centres, 12)
    before, after = identities(results[5], centres), identities(results[-1], centres)
    assert len(before) == 3
    assert after == before


def test_a_frame_without_objects(carry: Any) -> None:
    results = tracked(carry(lambda number: {}), lambda number: {}, 3)
    assert [len(result.detections) for result in results] == [0, 0, 0]


def test_an_object_leaves_the_picture_while_the_detector_does_not_run(carry: Any) -> None:
    def centres(number: int) -> dict[int, tuple[float, float]]:
        return {1: (40, 40), 2: (110 + 9 * number, 70)}

    results = tracked(carry(centres), centres, 12, range(4, 13))
    masks = masks_in(results[-1])
    assert len(masks) == 1
    assert iou(next(iter(masks.values())), scene(12, centres(12))[1][1]) > 0.7


def test_a_masklet_that_swallows_its_neighbour(carry: Any) -> None:
    """Both masks grow together: with flow, as they are prompted so; the detections keep two identities."""

    def centres(number: int) -> dict[int, tuple[float, float]]:
        return {1: (55, 56), 2: (95, 56)}

    propagator = carry(centres)
    if isinstance(propagator, Scripted):

        def swallow(number: int, masks: dict[int, np.ndarray]) -> None:
            if number == 6 and len(masks) == 2:
                one, other = sorted(masks)
                masks[one] = masks[one] | masks[other]

        propagator.says = swallow
    results = tracked(propagator, centres, 10)
    assert identities(results[-1], centres) == identities(results[3], centres)
    assert len(identities(results[-1], centres)) == 2
