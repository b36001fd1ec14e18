"""Detections and masklets together: with a propagator that makes the errors it is told to, and with optical flow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import supervision as sv

from masa_track.association.evidence.mask_overlap import mask_log_odds
from masa_track.contracts import Features, Frame, FrameResult, MaskletFrame, Prompt
from masa_track.errors import InputError
from masa_track.masklets.flow import FlowPropagator
from masa_track.masklets.tracking import OBSERVED_BY, MaskletOptions, MaskletTracker
from masa_track.masks import compact_masks, mask_box
from masa_track.tracker import MasaTracker

SIZE = 200, 120  # width, height
FPS = 10.0


class Grey:
    """A model that cannot tell objects apart."""

    def embed(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        return np.ones((len(boxes), 4), np.float32)


class Scripted:
    """Knows where each object is; ``says`` can change what it proposes for a frame.

    An object is the thing that its prompt was on: ``truth(number)`` has boxes by thing.
    """

    def __init__(self, truth: Any, says: Any = None) -> None:
        self.truth, self.says = truth, says or (lambda number, masks, logits, quality: None)
        self.things: dict[int, str] = {}
        self.prompts: list[tuple[int, int]] = []
        self.committed: list[dict[int, np.ndarray]] = []
        self.number = 0
        self.counts: list[int] = []
        self.ids: list[int] = []

    def propose(self, frame: Frame, features: Features | None = None) -> MaskletFrame:
        self.number, self.counts = round(frame.time * FPS), [*self.counts, frame.number]
        self.ids = sorted(self.things)
        boxes = self.truth(frame.number)
        masks = {i: mask_of(boxes[self.things[i]]) if self.things[i] in boxes else mask_of(None) for i in self.ids}
        logits = {i: 5.0 if masks[i].any() else -5.0 for i in self.ids}
        quality = dict.fromkeys(self.ids, 0.95)
        self.says(frame.number, masks, logits, quality)
        return frame_of(self.ids, [masks[i] for i in self.ids], [logits[i] for i in self.ids], list(quality.values()))

    def prompt(self, identity: int, prompt: Prompt, candidates: bool = False) -> MaskletFrame:
        boxes = self.truth(self.number)
        shown = prompt.box if prompt.mask is None else mask_box(prompt.mask)
        near = {name: overlap(np.asarray(shown), box) for name, box in boxes.items()}
        self.things[identity] = max(near, key=near.__getitem__)
        self.prompts.append((self.number, identity))
        return frame_of([identity], [mask_of(boxes[self.things[identity]])], [5.0], [0.95])

    def commit(self, masks: Mapping[int, Any] | None = None) -> None:
        self.committed.append({k: np.asarray(mask) for k, mask in (masks or {}).items()})

    def forget(self, identity: int) -> None:
        del self.things[identity]

    def memory_bytes(self) -> int:
        return 0

    def reset(self) -> None:
        self.things = {}

    def state_dict(self) -> dict[str, np.ndarray]:
        return {"ids": np.array(list(self.things), np.int64), "things": np.array(list(self.things.values()), str)}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        self.things = dict(zip(state["ids"].tolist(), state["things"].tolist(), strict=True))


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    from masa_track.boxes import box_iou

    return float(box_iou(np.float32([one]), np.float32([other]))[0, 0])


def mask_of(box: Any) -> np.ndarray:
    mask = np.zeros(SIZE[::-1], bool)
    if box is not None:
        x1, y1, x2, y2 = (max(int(side), 0) for side in box)
        mask[y1:y2, x1:x2] = True
    return mask


def frame_of(ids: list[int], masks: list[np.ndarray], logits: list[float], quality: list[float]) -> MaskletFrame:
    dense = np.array(masks).reshape(-1, *SIZE[::-1])
    return MaskletFrame(np.array(ids, np.int64), compact_masks(dense), np.float32(logits), np.float32(quality))


def a_frame(number: int, picture: np.ndarray | None = None) -> Frame:
    image = np.zeros((*SIZE[::-1], 3), np.uint8) if picture is None else picture
    return Frame(number, number / FPS, SIZE, f"{number:06d}.png", image)


def found(boxes: Any) -> sv.Detections:
    boxes = np.float32(list(boxes)).reshape(-1, 4)
    return sv.Detections(boxes, confidence=np.full(len(boxes), 0.9, np.float32), class_id=np.zeros(len(boxes), int))


def a_tracker(propagator: Any, **options: Any) -> MaskletTracker:
    return MaskletTracker(MasaTracker(Grey(), fps=FPS), propagator, MaskletOptions(**options))


def ids_at(result: FrameResult, boxes: dict[str, Any]) -> dict[str, int]:
    """The identity of each thing, by the row whose box is nearest to its own."""
    rows = result.detections
    known = {}
    for name, box in boxes.items():
        near = [overlap(box, one) if i >= 0 else 0.0 for one, i in zip(rows.xyxy, rows.tracker_id, strict=True)]
        if near and max(near) > 0.5:
            known[name] = int(rows.tracker_id[int(np.argmax(near))])
    return known


def walk(number: int) -> dict[str, Any]:
    """Two things that walk towards each other, meet at frame 15, and go back to where they came from."""
    x = 4 * (number if number <= 15 else 30 - number)
    return {"a": (20 + x, 40, 40 + x, 80), "b": (160 - x, 40, 180 - x, 80)}


def test_masklets_decide_between_things_that_look_and_move_alike() -> None:
    """They turn round where they meet, while the detector does not run: motion expects each to go on."""

    def run(tracker: Any) -> tuple[dict[str, int], dict[str, int]]:
        results = [
            tracker.step(a_frame(n), None if 10 <= n <= 20 else found(walk(n).values()))[0] for n in range(1, 30)
        ]
        return ids_at(results[8], walk(9)), ids_at(results[-1], walk(29))

    before, after = run(MasaTracker(Grey(), fps=FPS))
    assert after == {"a": before["b"], "b": before["a"]}
    before, after = run(a_tracker(Scripted(walk)))
    assert after == before


def test_masklets_carry_tracks_where_the_detector_does_not_run() -> None:
    tracker, scripted = a_tracker(script := Scripted(walk)), script
    seen = []
    for number in range(1, 14):
        boxes = walk(number)
        every = number <= 4 or number % 3 == 0
        (result,) = tracker.step(a_frame(number), found(boxes.values()) if every else None)
        if number > 4:
            seen.append(ids_at(result, boxes))
            assert (result.detections.data[OBSERVED_BY] == ("detector" if every else "masklet")).all()
            masks = np.asarray(result.detections.mask)
            assert all(mask.sum() == 800 for mask in masks)
    assert all(ids == seen[0] and len(ids) == 2 for ids in seen)
    assert len(scripted.prompts) == 2


def test_a_masklet_alone_neither_starts_nor_goes_on_for_ever() -> None:
    """The detector runs and does not find the thing: the track goes on for ``alone_seconds``, and no new one begins."""

    def rows(alone: float) -> list[int]:
        tracker = a_tracker(Scripted(walk), alone_seconds=alone)
        shown = []
        for number in range(1, 14):
            boxes = list(walk(number).values()) if number <= 5 else []
            (result,) = tracker.step(a_frame(number), found(boxes))
            shown.append(int((result.detections.tracker_id >= 0).sum()))
            assert max(result.detections.tracker_id, default=-1) <= 2
        return shown[5:]

    assert rows(0.0) == [0] * 8
    assert rows(0.35) == [2, 2, 2] + [0] * 5


@pytest.mark.parametrize("fault", ["logit", "quality", "empty", "grown", "swallowed"])
def test_a_lost_masklet_is_no_evidence_and_is_prompted_anew(fault: str) -> None:
    def says(number: int, masks: Any, logits: Any, quality: Any) -> None:
        if number == 10 and len(masks) == 2:
            one, other = sorted(masks)
            if fault == "logit":
                logits[one] = -1.0
            elif fault == "quality":
                quality[one] = 0.2
            elif fault == "empty":
                masks[one] = mask_of(None)
            elif fault == "grown":
                masks[one] = mask_of((0, 0, 200, 120))
            else:
                masks[one], quality[one] = masks[other], 0.6

    def still(number: int) -> dict[str, Any]:
        return {"a": (20, 40, 40, 80), "b": (120, 40, 140, 80)}

    tracker, scripted = a_tracker(script := Scripted(still, says)), script
    results = [tracker.step(a_frame(n), found(still(n).values()))[0] for n in range(1, 13)]
    ids = [ids_at(result, still(0)) for result in results[5:]]
    assert all(own == ids[0] for own in ids)
    assert [number for number, _ in scripted.prompts].count(10) == 1
    shown = np.asarray(results[9].detections.mask)
    assert all((mask == mask_of(box)).all() for mask, box in zip(shown, still(0).values(), strict=True))


def test_a_masklet_that_drifts_to_another_thing_is_prompted_back() -> None:
    """Its mask is elsewhere, surely: the detection keeps its identity by motion, and the masklet is corrected."""

    def says(number: int, masks: Any, logits: Any, quality: Any) -> None:
        if number == 8 and 1 in masks:
            masks[1] = mask_of((100, 10, 120, 50))

    def still(number: int) -> dict[str, Any]:
        return {"a": (20, 40, 40, 80)}

    tracker, scripted = a_tracker(script := Scripted(still, says)), script
    for number in range(1, 12):
        (result,) = tracker.step(a_frame(number), found(still(number).values()))
    assert result.detections.tracker_id.tolist() == [1]
    assert (8, 1) in scripted.prompts


def test_ended_tracks_end_their_masklets_and_a_cut_ends_all() -> None:
    scripted = Scripted(walk)
    tracker = MaskletTracker(MasaTracker(Grey(), fps=FPS, memory_seconds=0.5), scripted)
    for number in range(1, 30):
        tracker.step(a_frame(number), found(walk(number).values() if number < 6 else []))
    assert scripted.things == {}
    assert tracker._known == {}


def test_propagators_get_consecutive_numbers_whatever_the_stride() -> None:
    tracker = a_tracker(scripted := Scripted(walk))
    for number in (1, 4, 7, 10):
        tracker.step(a_frame(number), found(walk(number).values()))
    assert scripted.counts == [1, 2, 3, 4]


def test_frames_without_objects_and_a_thing_outside_the_picture() -> None:
    def outside(number: int) -> dict[str, Any]:
        return {"a": (150 + 10 * number, 40, 180 + 10 * number, 80)}

    tracker = a_tracker(Scripted(outside))
    (result,) = tracker.step(a_frame(1), found([]))
    assert len(result.detections) == 0
    for number in range(2, 12):
        (result,) = tracker.step(a_frame(number), found(outside(number).values()))
        assert len(result.detections) == 1


def test_a_fault_leaves_tracker_and_masklets_as_they_were() -> None:
    def run(broken: bool) -> list[Any]:
        tracker = a_tracker(Scripted(walk))
        rows = []
        for number in range(1, 12):
            if broken and number == 6:
                wrong = found(walk(number).values())
                wrong.confidence = np.array([0.9, 7.0])
                with pytest.raises(InputError, match="scores"):
                    tracker.step(a_frame(number), wrong)
                with pytest.raises(InputError, match="no picture"):
                    tracker.step(Frame(6, 0.6, SIZE), found([]))
            (result,) = tracker.step(a_frame(number), found(walk(number).values()))
            rows.append(result.detections.tracker_id.tolist())
        return rows

    assert run(True) == run(False)


@pytest.mark.parametrize("of", ["scripted", pytest.param("flow", marks=pytest.mark.slow)])
def test_a_state_goes_on_with_the_same_tracks(of: str) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (*SIZE[::-1], 3)).astype(np.uint8)

    def a_new() -> MaskletTracker:
        return a_tracker(Scripted(walk) if of == "scripted" else FlowPropagator())

    def go(tracker: MaskletTracker, numbers: range) -> list[Any]:
        results = [tracker.step(a_frame(n, picture), found(walk(n).values()) if n % 2 else None)[0] for n in numbers]
        return [(r.detections.tracker_id.tolist(), np.asarray(r.detections.mask).sum()) for r in results]

    whole, first, second = a_new(), a_new(), a_new()
    wanted = go(whole, range(1, 13))
    go(first, range(1, 8))
    second.load_state_dict(first.state_dict())
    assert go(second, range(8, 13)) == wanted[7:]
    with pytest.raises(InputError, match="got one without masklets"):
        second.load_state_dict({})
    second.reset()
    assert go(second, range(1, 13)) == wanted


def test_a_hint_grows_with_the_overlap_and_the_confidence() -> None:
    assert mask_log_odds(1.0, 0.95) == pytest.approx(4.0)  # the most
    assert mask_log_odds(0.9, 0.0) == pytest.approx(0.0)
    assert mask_log_odds(0.0, 0.95) < -2
    assert mask_log_odds(0.0, 0.1) > mask_log_odds(0.0, 0.9)
    assert mask_log_odds(0.3, 0.5) == pytest.approx(np.log(0.5 + 0.5 * np.exp(-3.1 + 8.2 * 0.3)))


@pytest.mark.parametrize(
    ("options", "name"),
    [({"alone_seconds": -1}, "alone_seconds"), ({"least_iou": 2}, "least_iou"), ({"most_growth": 1}, "most_growth")],
)
def test_options_out_of_range(options: dict[str, float], name: str) -> None:
    with pytest.raises(InputError, match=name):
        MaskletOptions(**options)
