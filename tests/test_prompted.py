"""Objects that are prompted by hand, followed by optical flow: late prompts, corrections, removal, backwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from propagated_scenes import HEIGHT, WIDTH, iou, scene, walk

from masa_track.contracts import Frame, FrameResult, Prompt
from masa_track.errors import InputError
from masa_track.masklets.flow import FlowPropagator
from masa_track.masklets.prompt_file import Prompts
from masa_track.masklets.prompted import PromptedTracker, masks_before_prompts, reversed_frames
from masa_track.video.sources import open_source


def box_of(mask: np.ndarray) -> np.ndarray:
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return np.float32([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


def point_of(mask: np.ndarray, positive: bool = True) -> Prompt:
    y, x = (int(values.mean()) for values in np.nonzero(mask))
    return Prompt(np.float32([[x, y]]), np.array([positive]))


def masks_in(result: FrameResult) -> dict[int, np.ndarray]:
    rows = result.detections
    assert rows.tracker_id is not None
    masks: Any = () if rows.mask is None else rows.mask
    return {int(i): np.asarray(mask) for i, mask in zip(rows.tracker_id, masks, strict=True)}


def run(prompts: Prompts, count: int = 8, tracker: PromptedTracker | None = None, first: int = 1) -> list[FrameResult]:
    tracker = tracker or PromptedTracker(FlowPropagator(), prompts)
    return [tracker.step(scene(number, walk(number))[0])[0] for number in range(first, count + 1)]


def truth(number: int) -> Mapping[int, np.ndarray]:
    return scene(number, walk(number))[1]


def test_rows_are_the_objects_with_the_ids_that_were_given() -> None:
    results = run({1: {7: Prompt(box=box_of(truth(1)[1])), 3: Prompt(mask=truth(1)[2])}})
    for number, result in enumerate(results, 1):
        rows = result.detections
        masks = masks_in(result)
        assert list(masks) == [3, 7]
        assert iou(masks[7], truth(number)[1]) > 0.8
        assert iou(masks[3], truth(number)[2]) > 0.8
        assert not (masks[3] & masks[7]).any()
        assert np.array_equal(rows.xyxy, [box_of(masks[3]), box_of(masks[7])])
        assert rows.confidence is not None
        assert ((rows.confidence > 0) & (rows.confidence <= 1)).all()
    assert np.array_equal(masks_in(results[0])[3], truth(1)[2]), "a mask is shown as it was given"
    assert [(event.kind, event.identity) for event in results[0].events] == [("born", 3), ("born", 7)]


@pytest.mark.slow
def test_a_late_prompt_starts_its_object_in_its_frame() -> None:
    results = run({1: {1: Prompt(mask=truth(1)[1])}, 4: {2: point_of(truth(4)[2])}})
    assert [sorted(masks_in(result)) for result in results] == [[1]] * 3 + [[1, 2]] * 5
    assert iou(masks_in(results[7])[2], truth(8)[2]) > 0.7
    alone = run({1: {1: Prompt(mask=truth(1)[1])}})
    for number in range(3):
        assert np.array_equal(masks_in(results[number])[1], masks_in(alone[number])[1])


def test_a_correction_holds_from_its_frame_on() -> None:
    """The first mask is of the wrong object; a mask in frame 4 says which one is meant."""
    results = run({1: {1: Prompt(mask=truth(1)[2])}, 4: {1: Prompt(mask=truth(4)[1])}})
    assert iou(masks_in(results[2])[1], truth(3)[2]) > 0.8
    assert iou(masks_in(results[3])[1], truth(4)[1]) == 1
    assert iou(masks_in(results[7])[1], truth(8)[1]) > 0.7


def test_a_negative_point_takes_away_what_does_not_belong() -> None:
    both = truth(1)[1] | truth(1)[2]
    prompts = {1: {1: Prompt(mask=both)}, 3: {1: point_of(truth(3)[2], positive=False)}}
    results = run(prompts, 5)
    assert (masks_in(results[1])[1] & truth(2)[2]).sum() > 300
    y, x = (int(values.mean()) for values in np.nonzero(truth(3)[2]))
    assert not masks_in(results[2])[1][y, x]
    assert iou(masks_in(results[2])[1], truth(3)[1]) > iou(masks_in(results[1])[1], truth(2)[1])


@pytest.mark.slow
def test_a_removed_object_is_gone_and_the_others_stay() -> None:
    prompts = {1: {1: Prompt(mask=truth(1)[1]), 2: Prompt(mask=truth(1)[2])}, 4: {1: None}}
    results = run(prompts)
    assert [sorted(masks_in(result)) for result in results] == [[1, 2]] * 3 + [[2]] * 5
    assert [(event.kind, event.identity) for event in results[3].events] == [("ended", 1)]
    back = run({**prompts, 6: {1: Prompt(mask=truth(6)[1])}})
    assert sorted(masks_in(back[7])) == [1, 2]


def test_two_prompts_on_one_object_share_no_pixel() -> None:
    prompts = {1: {1: Prompt(mask=truth(1)[1])}, 3: {2: Prompt(mask=truth(3)[1])}}
    results = run(prompts)
    assert np.array_equal(masks_in(results[2])[2], truth(3)[1]), "what is prompted takes its pixels"
    for result in results:
        masks = list(masks_in(result).values())
        assert np.sum(masks, axis=0).max() == 1


def test_an_empty_mask_hides_an_object_and_a_full_one_is_followed() -> None:
    empty, full = np.zeros((HEIGHT, WIDTH), bool), np.ones((HEIGHT, WIDTH), bool)
    results = run({1: {1: Prompt(mask=truth(1)[1])}, 3: {1: Prompt(mask=empty)}}, 4)
    assert [1 in masks_in(result) for result in results[:3]] == [True, True, False]
    assert [(event.kind, event.identity) for event in results[2].events] == [("lost", 1)]
    results = run({1: {1: Prompt(mask=full)}}, 3)
    assert masks_in(results[0])[1].all()
    assert masks_in(results[2])[1].mean() > 0.5


@pytest.mark.slow
def test_the_picture_changes_its_size() -> None:
    tracker = PromptedTracker(
        FlowPropagator(), {1: {1: Prompt(mask=truth(1)[1])}, 4: {2: point_of(scaled(truth(4)[2]))}}
    )
    for number in range(1, 7):
        frame, true = scene(number, walk(number))
        if number >= 3:
            image = cv2.resize(frame.picture, (2 * WIDTH, 2 * HEIGHT), interpolation=cv2.INTER_LINEAR)
            frame, true = (
                replace(frame, size=(2 * WIDTH, 2 * HEIGHT), image=image),
                {i: scaled(m) for i, m in true.items()},
            )
        (result,) = tracker.step(frame)
    masks = masks_in(result)
    assert iou(masks[1], true[1]) > 0.7
    assert iou(masks[2], true[2]) > 0.7


def scaled(mask: np.ndarray) -> np.ndarray:
    return np.repeat(np.repeat(mask, 2, axis=0), 2, axis=1)


def test_a_prompt_that_does_not_fit_leaves_everything_as_it_was() -> None:
    prompts = {1: {1: Prompt(mask=truth(1)[1])}, 3: {1: None, 2: Prompt(np.float32([[500, 5]]))}}
    tracker = PromptedTracker(FlowPropagator(), prompts)
    run(prompts, 2, tracker)
    before = tracker.state_dict()
    with pytest.raises(InputError, match=r"prompt\.points must be in the picture"):
        tracker.step(scene(3, walk(3))[0])
    after = tracker.state_dict()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert tracker.unused(1, 3) == {3: [1, 2]}


@pytest.mark.slow
def test_a_state_goes_on_bit_for_bit() -> None:
    prompts = {1: {1: Prompt(mask=truth(1)[1])}, 6: {2: point_of(truth(6)[2])}}
    whole = run(prompts)
    tracker = PromptedTracker(FlowPropagator(), prompts)
    run(prompts, 4, tracker)
    other = PromptedTracker(FlowPropagator(), prompts)
    other.load_state_dict(tracker.state_dict())
    for result, expected in zip(run(prompts, 8, other, 5), whole[4:], strict=True):
        mine, theirs = masks_in(result), masks_in(expected)
        assert mine.keys() == theirs.keys()
        assert all(np.array_equal(mine[i], theirs[i]) for i in mine)
        assert result.events == expected.events
    assert other.unused(1, 8) == {}
    with pytest.raises(InputError, match="must be one of prompted objects"):
        other.load_state_dict({})


def test_propagators_get_consecutive_numbers() -> None:
    """SAM 2 remembers frames by their number; a frame that cannot be read is missing."""
    numbers: list[int] = []

    class Noted(FlowPropagator):
        def propose(self, frame: Frame, features: Any = None) -> Any:
            numbers.append(frame.number)
            return super().propose(frame, features)

    prompts: Prompts = {3: {1: Prompt(mask=truth(3)[1])}}
    tracker = PromptedTracker(Noted(), prompts)
    results = [tracker.step(scene(number, walk(number))[0])[0] for number in (3, 5)]
    other = PromptedTracker(Noted(), prompts)
    other.load_state_dict(tracker.state_dict())
    other.step(scene(6, walk(6))[0])
    assert numbers == [1, 2, 3]
    assert [result.frame.number for result in results] == [3, 5]


def test_points_one_after_the_other_correct_the_mask_before() -> None:
    given: list[Prompt] = []

    class Noted(FlowPropagator):
        def prompt(self, identity: int, prompt: Prompt, candidates: bool = False) -> Any:
            given.append(prompt)
            return super().prompt(identity, prompt, candidates)

    points, positive = np.float32([[33, 35], [121, 76]]), np.array([True, False])
    prompts: Prompts = {1: {1: Prompt(points, positive)}}
    for one_by_one, expected in ((False, [[True, False]]), (True, [[True], [False]])):
        given.clear()
        run(prompts, 1, PromptedTracker(Noted(), prompts, one_by_one=one_by_one))
        assert [np.asarray(one.positive).tolist() for one in given] == expected


def test_candidates_are_handed_out() -> None:
    given: list[tuple[int, int, int]] = []

    def take(identity: int, number: int, candidates: Any) -> None:
        given.append((identity, number, len(candidates.masks)))

    prompts = {2: {1: point_of(truth(2)[1])}}
    tracker = PromptedTracker(FlowPropagator(), prompts, on_candidates=take)
    results = run(prompts, 3, tracker)
    assert [row[:2] for row in given] == [(1, 2)]
    assert given[0][2] > 1
    assert np.array_equal(masks_in(results[1])[1], masks_in(run(prompts, 3)[1])[1]), "the best one is taken"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scene")
    for number in range(1, 11):
        cv2.imwrite(str(folder / f"{number:03d}.png"), scene(number, walk(number))[0].picture)
    return folder


@pytest.mark.parametrize("held", [1, 3, 100])
def test_frames_backwards_with_few_pictures_in_memory(images: Path, held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(images)
    most, read = 0, source.frames

    def counted(*args: Any, **given: Any) -> Any:
        nonlocal most
        most = max(most, given["stop"] - given["start"] + 1)
        return read(*args, **given)

    monkeypatch.setattr(source, "frames", counted)
    frames = list(reversed_frames(source, 9, 2, held * 3 * WIDTH * HEIGHT))
    assert [frame.number for frame in frames] == list(range(9, 1, -1))
    assert most == min(held, 8)
    assert np.array_equal(frames[0].picture, scene(9, walk(9))[0].picture)


@pytest.mark.slow
def test_backwards_from_the_first_prompt_of_each_object(images: Path) -> None:
    prompts: Prompts = {
        4: {1: Prompt(mask=truth(4)[1])},
        8: {2: Prompt(mask=truth(8)[2]), 1: Prompt(mask=truth(8)[1])},
    }
    earlier = masks_before_prompts(open_source(images), FlowPropagator(), prompts)
    tracker = PromptedTracker(FlowPropagator(), prompts)
    tracker.earlier = earlier
    results = run(prompts, 10, tracker)
    forwards = run(prompts, 10)
    earlier.close()
    for number, result in enumerate(results, 1):
        masks = masks_in(result)
        assert sorted(masks) == [1, 2]
        for identity in (1, 2):
            assert iou(masks[identity], truth(number)[identity]) > 0.7, (number, identity)
        assert not (masks[1] & masks[2]).any()
    for number in range(8, 11):
        expected = masks_in(forwards[number - 1])
        assert all(np.array_equal(masks_in(results[number - 1])[i], expected[i]) for i in (1, 2))
    assert [(event.kind, event.identity) for event in results[0].events] == [("born", 1), ("born", 2)]


def test_masks_of_both_passes_share_no_pixel(images: Path) -> None:
    """Two prompts mean one object: one comes forwards to frames that the other one reaches backwards."""
    prompts: Prompts = {1: {1: Prompt(mask=truth(1)[1])}, 6: {2: Prompt(mask=truth(6)[1])}}
    tracker = PromptedTracker(FlowPropagator(), prompts)
    tracker.earlier = masks_before_prompts(open_source(images), FlowPropagator(), prompts)
    for number, result in enumerate(run(prompts, 6, tracker), 1):
        masks = masks_in(result)
        assert np.sum(list(masks.values()), axis=0).max() == 1, number
        assert iou(np.any(list(masks.values()), axis=0), truth(number)[1]) > 0.8


def test_backwards_can_be_stopped_and_ends_at_a_frame(images: Path) -> None:
    prompts: Prompts = {8: {1: Prompt(mask=truth(8)[1])}}
    done: list[int] = []
    earlier = masks_before_prompts(open_source(images), FlowPropagator(), prompts, 5, on_frame=lambda: done.append(1))
    assert len(done) == 4
    assert list(earlier.at(4, (WIDTH, HEIGHT))) == []
    ((identity, mask, score),) = earlier.at(5, (WIDTH, HEIGHT))
    assert identity == 1
    assert iou(mask, truth(5)[1]) > 0.7
    assert 0 < score <= 1
    stopped = masks_before_prompts(open_source(images), FlowPropagator(), prompts, stop_asked=lambda: True)
    assert list(stopped.at(6, (WIDTH, HEIGHT))) == []


def test_frames_of_a_replay_have_no_picture() -> None:
    with pytest.raises(InputError, match="frame 1 has no picture"):
        PromptedTracker(FlowPropagator(), {}).step(Frame(1, 0.0, (WIDTH, HEIGHT)))


@pytest.mark.slow
def test_a_session_of_sam_2_takes_prompts_by_hand(images: Path) -> None:
    """With random weights: what is prompted, and when, is what the tracker passes on."""
    pytest.importorskip("transformers")
    from sam2_networks import quick_network

    from masa_track.masklets.session import MaskletSession

    whole = np.zeros((HEIGHT, WIDTH), bool)
    whole[20:60, 20:80] = True
    prompts: Prompts = {3: {2: Prompt(mask=whole)}, 5: {1: Prompt(box=np.float32([10, 10, 60, 60]))}, 7: {2: None}}
    earlier = masks_before_prompts(open_source(images), MaskletSession(quick_network()), prompts)
    tracker = PromptedTracker(MaskletSession(quick_network()), prompts)
    tracker.earlier = earlier
    results = run(prompts, 8, tracker)
    assert np.array_equal(masks_in(results[2])[2], whole)
    assert all(2 not in masks_in(result) for result in results[6:])
    state = tracker.state_dict()
    other = PromptedTracker(MaskletSession(quick_network()), prompts)
    other.load_state_dict(state)
    one, two = (masks_in(each.step(scene(9, walk(9))[0])[0]) for each in (tracker, other))
    assert one.keys() == two.keys()
    assert all(np.array_equal(one[i], two[i]) for i in one)
