"""Concepts in scripted videos: what is found, when it is given out, and which identity it has."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scripted_concepts import SIDE, Looks, Thing, World

from masa_track.contracts import Exemplar, FrameResult
from masa_track.errors import InputError
from masa_track.masklets.concept_identities import IdentityOptions
from masa_track.masklets.concept_options import ConceptOptions
from masa_track.masklets.concepts import ConceptTracker
from masa_track.masklets.mask_logits import prompt_mask, scaled_mask


def run(tracker: ConceptTracker, world: World, last: int) -> list[FrameResult]:
    """All results of frames 1 to ``last``."""
    results = [result for frame in world.frames(last) for result in tracker.step(frame)]
    return results + tracker.finish()


def ids(result: FrameResult) -> list[int]:
    assert result.detections.tracker_id is not None
    found = result.detections.tracker_id.tolist()
    assert len(set(found)) == len(found), "two masklets of a frame have one identity"
    return found


def events(results: Sequence[FrameResult], kind: str) -> list[tuple[int, int]]:
    """(frame, identity) of the events of a kind."""
    return [(event.number, event.identity) for result in results for event in result.events if event.kind == kind]


def look(seed: int) -> np.ndarray:
    """(64,) a direction of its own."""
    return np.random.default_rng(seed).normal(0, 1, 64)


def away(first: int, last: int, place: tuple[float, float], later: tuple[float, float] | None = None) -> Any:
    """Where a thing is that is not in the picture in frames ``first`` to ``last``."""
    return lambda n: None if first <= n <= last else ((later or place) if n > last else place)


def two_things(first: int, last: int) -> World:
    """One that stays, and one that is away for a while and comes back elsewhere."""
    there = away(first, last, (30, 70), (90, 75))
    return World([Thing(lambda n: (20 + n / 4, 25), look=look(1)), Thing(there, look=look(2))])


def test_results_come_with_look_ahead_in_order_and_with_masks() -> None:
    world = two_things(100, 120)
    tracker = ConceptTracker(world, "ball", look_ahead=5)
    given = [tracker.step(frame) for frame in world.frames(12)]
    assert [len(results) for results in given] == [0] * 5 + [1] * 7
    results = [result for step in given for result in step] + tracker.finish()
    assert [result.frame.number for result in results] == list(range(1, 13))
    for result in results:
        assert ids(result) == [0, 1]
        found = result.detections
        assert found.mask is not None
        for thing, mask, box in zip(world.things, np.asarray(found.mask), found.xyxy, strict=True):
            true = thing.mask(result.frame.number)
            assert np.count_nonzero(mask & true) / np.count_nonzero(mask | true) > 0.85
            rows, columns = np.nonzero(mask)
            assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_scores_presence_and_phrase_are_in_the_data() -> None:
    things = [Thing(lambda n: (30, 40), score=lambda n: 0.95 if n < 9 else None)]
    world = World(things, presence=lambda _, n: 0.8 if n < 5 else 0.9)
    results = run(ConceptTracker(world, "ball. cup"), world, 12)
    assert [result.extras["presence"] for result in results[3:5]] == [
        {"ball": 0.8, "cup": 0.8},
        {"ball": 0.9, "cup": 0.9},
    ]
    first, fifth, last = (results[n].detections for n in (0, 4, 11))
    assert first.confidence == pytest.approx([0.8 * 0.95])
    assert fifth.confidence == pytest.approx([0.8 * 0.95])  # that of its birth
    assert [found.data["phrase"].tolist() for found in (first, last)] == [["ball"], ["ball"]]
    assert first.data["presence"] == pytest.approx([0.8])
    assert first.data["local_score"] == pytest.approx([0.95])
    assert np.isnan(last.data["local_score"]).all()


def test_the_cost_of_each_frame_is_reported() -> None:
    world = two_things(100, 120)
    cost = run(ConceptTracker(world, "ball"), world, 3)[-1].extras["cost"]
    assert cost["objects"] == 2
    assert cost["memory_bytes"] == 2000
    assert all(cost[stage] >= 0 for stage in ("encode", "detect", "propagate", "associate", "identify"))


@pytest.mark.slow
def test_an_instance_that_is_back_after_5_seconds_has_its_identity_by_its_appearance() -> None:
    world = two_things(40, 165)
    without = run(ConceptTracker(world, "ball"), world, 200)
    assert ids(without[-1]) == [0, 2]
    results = run(ConceptTracker(world, "ball", embedder=Looks(world)), world, 200)
    assert [ids(results[n]) for n in (10, 100, 165, 199)] == [[0, 1], [0], [0, 1], [0, 1]]
    assert events(results, "born") == [(1, 0), (1, 1)]
    assert events(results, "lost") == [(40, 1)]
    assert events(results, "found") == [(166, 1)]
    assert events(results, "ended") == []


def test_an_instance_has_one_masklet() -> None:
    """Its old one is empty, and ends when the new one has its identity."""
    world = two_things(40, 60)
    world.memory = 4
    options = ConceptOptions(end_empty=100)
    results = run(ConceptTracker(world, "ball", options=options, embedder=Looks(world)), world, 90)
    assert ids(results[-1]) == [0, 1]
    assert [results[n].extras["cost"]["objects"] for n in (59, 60, 89)] == [2, 3, 2]
    assert results[-1].extras["cost"]["memory_bytes"] == 2000


def test_views_of_covered_or_badly_detected_masklets_are_not_remembered() -> None:
    """The look of the second one changes while it is half covered, then while its detections are weak."""
    covering = Thing(lambda n: (30 + (60 if 40 <= n < 60 else 0), 30), look=look(1))

    def second(n: int) -> tuple[float, float] | None:
        return None if 85 <= n < 160 else (96, 37) if n < 160 else (40, 70)

    strange = Thing(
        second,
        radius=4,
        score=lambda n: 0.6 if 60 <= n < 85 else 0.9,
        look=lambda n: look(3) if 40 <= n < 85 else look(2),
    )
    world = World([covering, strange])
    options = ConceptOptions(hole_area=0)
    tracker = ConceptTracker(world, "ball", options=options, embedder=Looks(world))
    assert ids(run(tracker, world, 190)[-1]) == [0, 1]
    memory = tracker._instances
    assert memory is not None
    assert memory._gallery is not None
    others = memory._gallery.vectors[1] @ (look(3) / np.linalg.norm(look(3)))
    assert np.abs(others).max() < 0.5


def test_an_instance_that_is_away_longer_than_it_is_remembered_is_new() -> None:
    world = two_things(40, 165)
    options = IdentityOptions(memory_seconds=2)
    results = run(ConceptTracker(world, "ball", embedder=Looks(world), identity_options=options), world, 200)
    assert ids(results[-1]) == [0, 2]
    assert events(results, "ended") == [(40 + 50, 1)]


def test_without_look_ahead_a_return_is_recognised_in_its_first_frame() -> None:
    world = two_things(40, 165)
    results = run(ConceptTracker(world, "ball", embedder=Looks(world), look_ahead=0), world, 170)
    assert [ids(results[n]) for n in (38, 39, 164, 165)] == [[0, 1], [0], [0], [0, 1]]
    assert events(results, "found") == [(166, 1)]


def test_one_that_looks_different_is_new() -> None:
    world = two_things(40, 100)
    world.things[1].look = lambda n: look(2) if n < 50 else look(3)
    results = run(ConceptTracker(world, "ball", embedder=Looks(world)), world, 130)
    assert ids(results[-1]) == [0, 2]


def test_twins_without_a_margin_are_new() -> None:
    left, right = away(40, 100, (30, 70)), away(40, 110, (90, 70))
    twins = [Thing(left, look=look(2)), Thing(right, look=look(2))]
    world = World([Thing(lambda n: (60, 20), look=look(1)), *twins])
    results = run(ConceptTracker(world, "ball", embedder=Looks(world)), world, 140)
    assert ids(results[-1]) == [0, 3, 4]


def test_a_twin_that_is_in_the_picture_beside_it_makes_a_newcomer_new() -> None:
    twins = [Thing(away(40, 100, (30, 70)), look=look(2)), Thing(lambda n: (90, 70), look=look(2))]
    world = World([Thing(lambda n: (60, 20), look=look(1)), *twins])
    results = run(ConceptTracker(world, "ball", embedder=Looks(world)), world, 140)
    assert ids(results[-1]) == [0, 2, 3]


@pytest.mark.slow
def test_of_two_new_ones_that_look_like_one_that_left_none_has_its_identity() -> None:
    left = Thing(lambda n: (30, 70) if n < 40 else None, look=look(2))
    both = [Thing(lambda n, x=x: (x, 70) if n > 100 else None, look=look(2)) for x in (60, 90)]  # type: ignore[misc]
    world = World([Thing(lambda n: (60, 20), look=look(1)), left, *both])
    results = run(ConceptTracker(world, "ball", embedder=Looks(world)), world, 140)
    assert ids(results[-1]) == [0, 2, 3]


@pytest.mark.slow
@pytest.mark.parametrize(("company", "last"), [(1, 2), (4, 4)])
def test_appearance_says_less_where_only_one_instance_was_seen(company: int, last: int) -> None:
    """Whether instances of the phrase look alike is only known where several were in the picture together."""
    things = [Thing(lambda n, k=k: (20 + 25 * k, 20) if n < 200 else None, look=look(k)) for k in range(company)]  # type: ignore[misc]
    returns = Thing(away(60, 120, (30, 70)), look=look(9))
    world = World([*things[1:], returns])
    options = IdentityOptions(return_odds=-2.0)
    results = run(ConceptTracker(world, "ball", embedder=Looks(world), identity_options=options), world, 160)
    assert len({identity for result in results for identity in ids(result)}) == last


@pytest.mark.slow
def test_cosines_of_different_objects_are_learned_from_the_video() -> None:
    """All embeddings have much in common: cosines of .8 are those of different objects here."""

    def alike(seed: int) -> np.ndarray:
        return 2 * look(100) + look(seed)

    things = [Thing(lambda n, k=k: (20 + 25 * k, 20), look=alike(k)) for k in range(4)]  # type: ignore[misc]
    left = Thing(lambda n: (30, 70) if n < 60 else None, look=alike(7))
    new = Thing(lambda n: (90, 70) if n > 120 else None, look=alike(8))
    back = Thing(lambda n: (60, 70) if n > 140 else None, look=alike(7))
    world = World([*things, left, new, back])
    results = run(ConceptTracker(world, "ball", embedder=Looks(world)), world, 180)
    assert ids(results[-1]) == [0, 1, 2, 3, 5, 4]


@pytest.mark.slow
@pytest.mark.parametrize("last", [70, 43])
def test_after_a_cut_identities_are_those_of_their_appearance(last: int) -> None:
    """Also with fewer frames after the cut than the look-ahead, and fewer than new masklets are awaited for."""
    places = [(25, 30), (64, 60), (100, 30)]
    swapped = [places[1], places[2], places[0]]
    things = [
        Thing(lambda n, k=k: places[k] if n < 40 else swapped[k], look=look(k))  # type: ignore[misc]
        for k in range(3)
    ]
    world = World(things, scenes=[40])
    results = run(ConceptTracker(world, "ball", embedder=Looks(world)), world, last)
    assert events(results, "cut") == [(40, -1)]
    for result in results:
        by_identity = dict(zip(ids(result), result.detections.xyxy, strict=True))
        assert sorted(by_identity) == [0, 1, 2]
        for identity, box in by_identity.items():
            centre = places[identity] if result.frame.number < 40 else swapped[identity]
            assert np.abs((box[:2] + box[2:]) / 2 - centre).max() < 2
    assert results[-1].extras["cost"]["memory_bytes"] == 3000  # of the masklets after the cut alone
    without = run(ConceptTracker(world, "ball"), world, last)
    assert ids(without[-1]) == [3, 4, 5]
    assert events(without, "ended") == [(40, 0), (40, 1), (40, 2)]
    assert events(run(ConceptTracker(world, "ball", cut_change=None), world, last), "cut") == []


def test_similar_objects_that_cross_keep_their_identities() -> None:
    one = Thing(lambda n: (10 + 1.2 * n, 48), look=look(1))
    two = Thing(lambda n: (118 - 1.2 * n, 52), look=look(1))
    world = World([one, two])
    for embedder in (None, Looks(world)):
        results = run(ConceptTracker(world, "ball", embedder=embedder), world, 90)
        assert ids(results[-1]) == [0, 1]
        boxes = results[-1].detections.xyxy
        assert np.abs((boxes[0, :2] + boxes[0, 2:]) / 2 - (118, 48)).max() < 3
        assert np.abs((boxes[1, :2] + boxes[1, 2:]) / 2 - (10, 52)).max() < 3


def test_nothing_is_born_while_the_phrase_is_absent() -> None:
    things = [Thing(lambda n: (30, 40)), Thing(lambda n: (90, 40) if n > 10 else None)]
    world = World(things, presence=lambda _, n: 0.1 if 5 <= n <= 40 else 1.0)
    results = run(ConceptTracker(world, "ball", options=ConceptOptions(unmatched_frames=0)), world, 60)
    assert all(ids(result) == [0] for result in results[:40])  # its masklet goes on
    assert ids(results[40]) == [0, 1]
    nobody = World([Thing(lambda n: (30, 40))], presence=lambda *_: 0.4)
    assert all(ids(result) == [] for result in run(ConceptTracker(nobody, "ball"), nobody, 20))


def ghost(first: int, last: int) -> Any:
    """A detection of nothing in frames ``first`` to ``last``."""
    mask = np.zeros((SIDE, SIDE), bool)
    mask[40:52, 40:52] = True
    return lambda n: [("ball", mask, 0.9)] if first <= n <= last else []


def test_a_wrong_birth_is_taken_back_within_the_look_ahead() -> None:
    world = World([Thing(lambda n: (30, 20), look=look(1))], ghosts=ghost(5, 6), memory=100)
    for embedder in (None, Looks(world)):
        results = run(ConceptTracker(world, "ball", embedder=embedder), world, 40)
        assert all(ids(result) == [0] for result in results)
        assert events(results, "born") == [(1, 0)]
        assert events(results, "ended") == []


def test_without_look_ahead_a_wrong_birth_is_shown_until_it_is_removed() -> None:
    world = World([Thing(lambda n: (30, 20))], ghosts=ghost(5, 6), memory=100)
    results = run(ConceptTracker(world, "ball", look_ahead=0), world, 40)
    assert [ids(result) for result in results[3:15]] == [[0], *[[0, 1]] * 9, [0], [0]]
    assert events(results, "ended") == [(14, 1)]


@pytest.mark.parametrize("look_ahead", [3, 14])
def test_an_identity_that_a_wrong_birth_took_can_come_back(look_ahead: int) -> None:
    """The wrong birth looks like the instance that is away."""
    world = World(
        [Thing(lambda n: (20, 20), look=look(1)), Thing(away(30, 80, (100, 20)), look=look(2))],
        ghosts=ghost(50, 53),
        memory=100,
    )
    if look_ahead == 3:  # it returns while the wrong birth has its identity, and is decided when that was removed
        world.things[1].at = away(30, 59, (100, 20))

    class Confused(Looks):
        def embed(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
            found = super().embed(frame, boxes)
            found[(boxes[:, 1] > 50)] = look(2)
            return found

    results = run(ConceptTracker(world, "ball", embedder=Confused(world), look_ahead=look_ahead), world, 130)
    if look_ahead == 14:
        assert all(ids(result) == [0] for result in results[30:80])
    else:
        assert [ids(results[n]) for n in (52, 58, 59)] == [[0, 1], [0], [0, 1]]
    assert ids(results[-1]) == [0, 1]


def test_detections_with_an_empty_mask_or_of_one_pixel() -> None:
    empty, tiny = np.zeros((SIDE, SIDE), bool), np.zeros((SIDE, SIDE), bool)
    tiny[30, 40] = True
    options = ConceptOptions(hole_area=0, unmatched_frames=0)
    for mask, born in ((empty, 0), (tiny, 1)):
        world = World([], ghosts=lambda _, mask=mask: [("ball", mask, 0.9)])  # type: ignore[misc]
        results = run(ConceptTracker(world, "ball", options=options), world, 3)
        assert [result.extras["cost"]["objects"] for result in results] == [born] * 3
    peak = np.full((SIDE, SIDE), -9, np.float32)
    peak[30, 40] = 0.1
    assert not scaled_mask(peak, (128, 96)).any()
    assert np.argwhere(prompt_mask(peak, (128, 96))).tolist() == [[45, 81]]


@pytest.mark.slow
def test_200_objects_keep_their_identities() -> None:
    def thing(k: int) -> Thing:
        return Thing(lambda n: (4 + 6 * (k % 20) + n / 8, 5 + 9 * (k // 20)), radius=2.6)

    world = World([thing(k) for k in range(200)])
    results = run(ConceptTracker(world, "ball", options=ConceptOptions(hole_area=0)), world, 4)
    for result in results:
        assert ids(result) == list(range(200))
        centres = (result.detections.xyxy[:, :2] + result.detections.xyxy[:, 2:]) / 2
        true = np.array([thing.at(result.frame.number) for thing in world.things])
        assert np.abs(centres - true).max() < 2


def test_a_video_shorter_than_the_look_ahead() -> None:
    world = two_things(100, 120)
    for last in (0, 1, 7, 14):
        tracker = ConceptTracker(world, "ball", embedder=Looks(world))
        steps = [tracker.step(frame) for frame in world.frames(last)]
        assert all(not step for step in steps)
        assert [ids(result) for result in tracker.finish()] == [[0, 1]] * last
        assert tracker.finish() == []


def test_an_interrupted_run_gives_the_frames_before() -> None:
    world = two_things(100, 120)
    detect = world.detect

    def interrupted(features: Any, *args: Any, **kwargs: Any) -> Any:
        if features.data == 21:
            raise KeyboardInterrupt
        return detect(features, *args, **kwargs)

    world.detect = interrupted  # type: ignore[method-assign]
    tracker = ConceptTracker(world, "ball", embedder=Looks(world))
    results = [result for frame in world.frames(20) for result in tracker.step(frame)]
    with pytest.raises(KeyboardInterrupt):
        tracker.step(world.frame(21))
    results += tracker.finish()
    assert [result.frame.number for result in results] == list(range(1, 21))
    assert all(ids(result) == [0, 1] for result in results)


def test_phrases_share_the_encoder_and_one_object_of_two_phrases_is_one_row() -> None:
    def car(n: int) -> tuple[float, float]:
        return (40 + n / 2, 40)

    things = [
        Thing(car, "car", score=lambda _: 0.9),
        Thing(car, "red car", score=lambda _: 0.95),
        Thing(lambda n: (100, 80), "dog"),
    ]
    world = World(things)
    results = run(ConceptTracker(world, "car. red car. dog"), world, 20)
    assert world.calls == 20
    for result in results:
        found = result.detections
        assert ids(result) == [1, 2]
        assert found.data["phrase"].tolist() == ["red car", "dog"]
        assert found.data["phrases"].tolist() == ["red car. car", "dog"]
        assert found.class_id is not None
        assert found.class_id.tolist() == [1, 2]


def test_an_object_of_two_phrases_keeps_its_identity_when_the_other_phrase_scores_more() -> None:
    there = away(30, 60, (30, 40), (90, 60))
    things = [
        Thing(there, "car", score=lambda n: 0.9 if n < 30 else 0.97, look=look(1)),
        Thing(there, "red car", score=lambda _: 0.95, look=look(1)),
    ]
    world = World(things)
    results = run(ConceptTracker(world, "car. red car", embedder=Looks(world)), world, 90)
    assert ids(results[0]) == ids(results[-1]) == [1]
    assert results[-1].detections.data["phrase"].tolist() == ["red car"]


def test_an_instance_that_returns_before_it_was_given_out() -> None:
    """It is away for a short time within the first 14 frames; the propagator loses it at once."""
    world = World([Thing(away(6, 8, (30, 40), (90, 60)), look=look(1)), Thing(lambda n: (30, 80), look=look(2))])
    world.memory = 1
    for last in (12, 40):
        results = run(ConceptTracker(world, "ball", embedder=Looks(world)), world, last)
        assert [sorted(ids(result)) for result in results] == [[0, 1] if n < 5 or n > 7 else [1] for n in range(last)]


def test_given_features_are_used() -> None:
    world = two_things(100, 120)
    tracker = ConceptTracker(world, "ball")
    (features,) = world.encode([world.frame(1).picture])
    tracker.step(world.frame(1), features=features)
    assert world.calls == 1
    other = type(features)("nano@0/float32", features.size, features.data)
    tracker.step(world.frame(2), features=other)
    assert world.calls == 2


def test_semantic_maps_on_request() -> None:
    world = two_things(100, 120)
    results = run(ConceptTracker(world, "ball", semantic=True), world, 2)
    assert results[0].extras["semantic"]["ball"].shape == (SIDE, SIDE)
    assert "semantic" not in run(ConceptTracker(world, "ball"), world, 2)[0].extras


def test_exemplars_count_from_their_frame_on() -> None:
    world = World([Thing(lambda n: (30, 40))])
    tracker = ConceptTracker(world, "ball. cup", [Exemplar((10, 20, 60, 70), frame=3, phrase="cup")])
    run(tracker, world, 5)
    asked = {(call["number"], call["phrase"]): (call["shown"], call["carried"]) for call in world.asked}
    shown = ([[10, 20, 60, 70]], [True])
    assert asked[2, "cup"] == (None, [])
    assert asked[3, "cup"] == (shown, [])
    assert asked[4, "cup"] == asked[5, "cup"] == (None, [(3, *shown)])
    assert all(asked[n, "ball"] == (None, []) for n in range(1, 6))
    assert tracker.unused() == []
    tracker.reset()
    world.asked.clear()
    run(tracker, world, 3)
    assert world.asked[-1]["shown"] == shown


def test_exemplars_of_another_picture_and_of_a_running_video() -> None:
    world = World([Thing(lambda n: (30, 40))])
    tracker = ConceptTracker(world, "ball", [Exemplar((1, 2, 30, 40), image=world.frame(77).picture)])
    tracker.step(world.frame(1))
    tracker.add_exemplar(Exemplar((5, 5, 20, 20), positive=False, frame=2))
    tracker.step(world.frame(2))
    tracker.add_exemplar(Exemplar((0, 0, 9, 9), image=world.frame(99).picture))
    tracker.step(world.frame(3))
    other, third = (77, [[1, 2, 30, 40]], [True]), (99, [[0, 0, 9, 9]], [True])
    assert [call["carried"] for call in world.asked] == [
        [other],
        [other],
        [other, (2, [[5, 5, 20, 20]], [False]), third],
    ]
    assert world.asked[1]["shown"] == ([[5, 5, 20, 20]], [False])
    with pytest.raises(InputError, match="after the last frame 3, got 3"):
        tracker.add_exemplar(Exemplar((5, 5, 20, 20), frame=3))


def test_exemplars_without_text() -> None:
    world = World([Thing(lambda n: (30, 40))])
    results = run(ConceptTracker(world, exemplars=[Exemplar((20, 30, 40, 50))]), world, 2)
    assert world.asked[0]["phrase"] is None
    assert results[0].detections.data["phrase"].tolist() == ["exemplar"]


def test_nothing_is_found_before_the_first_exemplar_where_there_is_no_text() -> None:
    world = World([Thing(lambda n: (30, 40))])
    results = run(ConceptTracker(world, exemplars=[Exemplar((20, 30, 40, 50), frame=3)]), world, 5)
    assert [ids(result) for result in results] == [[], [], [0], [0], [0]]
    assert [result.extras["presence"]["exemplar"] for result in results] == [0, 0, 1, 1, 1]


def test_a_negative_exemplar_alone_is_allowed_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    world = World([Thing(lambda n: (30, 40))])
    with caplog.at_level(logging.WARNING):
        ConceptTracker(world, exemplars=[Exemplar((20, 30, 40, 50), positive=False)])
    assert "only negative exemplars" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        ConceptTracker(world, "ball", [Exemplar((20, 30, 40, 50), positive=False)])
    assert caplog.text == ""


def test_exemplars_of_frames_that_do_not_come_are_named(caplog: pytest.LogCaptureFixture) -> None:
    world = World([Thing(lambda n: (30, 40))])
    tracker = ConceptTracker(world, "ball", [Exemplar((1, 2, 30, 40), frame=50)])
    with caplog.at_level(logging.WARNING):
        run(tracker, world, 3)
    assert "frame 50 was not used: the video ended at frame 3" in caplog.text


def test_an_exemplar_outside_the_picture_leaves_no_trace() -> None:
    world = World([Thing(lambda n: (30, 40))])
    tracker = ConceptTracker(world, "ball", [Exemplar((200, 20, 260, 70), frame=2)])
    tracker.step(world.frame(1))
    for _ in range(2):
        with pytest.raises(InputError, match="in the picture of frame 2, which has 128 x 96 pixels"):
            tracker.step(world.frame(2))
    assert [call["number"] for call in world.asked] == [1]
    tracker.step(world.frame(3))
    assert [ids(result) for result in tracker.finish()] == [[0], [0]]


BOX = (10, 20, 60, 70)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "text or exemplars must be given"),
        ({"text": " . "}, "text must be phrases separated by"),
        ({"text": "a dog. a dog"}, "got 'a dog' twice"),
        ({"text": "very " * 33 + "long"}, "32 tokens at most"),
        ({"text": "ball", "exemplars": [Exemplar(BOX, phrase="bell")]}, "phrase of an exemplar"),
        ({"text": "ball", "exemplars": [Exemplar(BOX, frame=0)]}, "frame of an exemplar must be 1 or more"),
        ({"text": "ball", "exemplars": [Exemplar((10, 20, 10, 70))]}, "x1 < x2"),
        ({"text": "ball", "exemplars": [Exemplar((10, np.nan, 10, 70))]}, "must be finite"),
        (
            {
                "text": "ball",
                "exemplars": [Exemplar(BOX, frame=4), Exemplar((10, 20, 61, 70), positive=False, frame=4)],
            },
            "contradict each other.*frame 4.*'ball'",
        ),
        ({"text": "ball", "look_ahead": -1}, "look_ahead must be a whole number"),
        ({"text": "ball", "cut_change": 0.0}, "cut_change must be above 0"),
        ({"text": "ball", "options": ConceptOptions(reverse=True)}, "must not have reverse"),
    ],
)
def test_what_cannot_be_looked_for(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ConceptTracker(World([]), **arguments)


def test_contradicting_exemplars_of_different_frames_are_passed_on() -> None:
    world = World([Thing(lambda n: (30, 40))])
    given = [Exemplar(BOX, frame=1), Exemplar(BOX, positive=False, frame=2)]
    run(ConceptTracker(world, "ball", given), world, 3)
    assert [positive for _, _, positive in world.asked[-1]["carried"]] == [[True], [False]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"match_iou": 1.5}, "match_iou must be a number from 0 to 1"),
        ({"border": 0.5}, "border must be 0 or more"),
        ({"hot_start": -1}, "hot_start must be a whole number"),
        ({"most_objects": 0}, "most_objects must be a whole number above 0"),
        ({"alive_start": 40}, "alive_start must be from alive_least to alive_most"),
        ({"recondition_logit": np.inf}, "recondition_logit must be a finite number"),
    ],
)
def test_options_of_the_logic_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ConceptOptions(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"views": 0}, "views must be a whole number above 0"),
        ({"memory_seconds": 0}, "memory_seconds must be a number above 0"),
        ({"margin": -1}, "margin must be 0 or more nats"),
        ({"return_odds": np.nan}, "return_odds must be a finite number"),
    ],
)
def test_options_of_identities_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        IdentityOptions(**options)


def test_masklets_end_when_they_are_empty_or_unmatched_for_long() -> None:
    gone = Thing(lambda n: (30, 40) if n < 20 else None)
    unseen = Thing(lambda n: (90, 40), score=lambda n: 0.9 if n < 30 else None)
    world = World([gone, unseen])
    tracker = ConceptTracker(world, "ball", options=ConceptOptions(end_empty=10, end_unmatched=25))
    results = run(tracker, world, 60)
    assert events(results, "ended") == [(29, 0), (55, 1)]
    assert ids(results[53]) == [1]
    assert tracker._seen == {}
    objects = {result.frame.number: result.extras["cost"]["objects"] for result in results}
    assert [objects[n] for n in (28, 29, 53, 54)] == [2, 1, 1, 0]
    forever = ConceptTracker(world, "ball", options=ConceptOptions(end_empty=0, end_unmatched=0))
    assert run(forever, world, 60)[-1].extras["cost"]["objects"] == 2


def test_reconditioned_masklets_are_prompted_and_others_are_cleaned() -> None:
    world = World([Thing(lambda n: (30, 40)), Thing(lambda n: (90, 40), score=lambda _: 0.75)])
    tracker = ConceptTracker(world, "ball", options=ConceptOptions(recondition_frames=4))
    run(tracker, world, 10)
    prompts = tracker._propagator.prompts  # type: ignore[attr-defined]
    assert prompts == [(1, 0), (1, 1), (5, 0), (9, 0)]


def come_and_go() -> World:
    """Six places, at each of which a thing is for 60 of 100 frames, each thing twice.

    Beside one of them is a small one in the corner of its box, which cannot be seen well; and there are wrong births.
    """

    def thing(k: int) -> Thing:
        place = (20 + 44 * (k % 3), 22 + 46 * (k // 3))

        def look_of(n: int) -> np.ndarray:
            return look(1000 * k + (n + 16 * k) // 200)

        return Thing(lambda n: place if (n + 16 * k) % 100 < 60 else None, look=look_of)

    spot = np.zeros((SIDE, SIDE), bool)
    spot[28:32, 8:14] = True
    things = [thing(k) for k in range(6)]
    beside = Thing(lambda n: (28, 30) if things[0].at(n) else None, radius=2.5, look=look(1))
    return World([*things, beside], ghosts=lambda n: [("ball", spot, 0.9)] if n % 30 < 2 else [])


def held_by(value: Any, seen: set[int]) -> np.ndarray:
    """(2,) entries of containers, and bytes of arrays and tensors, that a value holds."""
    if id(value) in seen or isinstance(value, World | Looks | str):
        return np.zeros(2)
    seen.add(id(value))
    if isinstance(value, np.ndarray):
        return np.array([0, value.nbytes])
    if hasattr(value, "untyped_storage"):  # a tensor; several may share what they hold
        storage = value.untyped_storage()
        new = storage.data_ptr() not in seen
        seen.add(storage.data_ptr())
        return np.array([0, storage.nbytes() * new])
    if isinstance(value, dict):
        parts: list[Any] = [*value.values()]
    elif isinstance(value, list | tuple | set | deque):
        parts = [*value]
    else:
        slots = [getattr(value, name) for name in getattr(type(value), "__slots__", ())]
        return sum((held_by(one, seen) for one in [*slots, *getattr(value, "__dict__", {}).values()]), np.zeros(2))
    return sum((held_by(one, seen) for one in parts), np.array([len(parts), 0]))


@pytest.mark.slow
@pytest.mark.parametrize("appearance", [True, False])
def test_memory_does_not_grow_with_the_video(appearance: bool) -> None:
    world = come_and_go()
    identity_options = IdentityOptions(memory_seconds=4, most_away=20)
    tracker = ConceptTracker(
        world,
        "ball",
        options=ConceptOptions(hole_area=0),
        embedder=Looks(world) if appearance else None,
        identity_options=identity_options,
    )
    held, results = [], []
    for number in range(1, 2001 if appearance else 1001):
        results += tracker.step(world.frame(number))
        if number % 50 == 0:
            world.asked.clear()
            tracker._propagator.prompts.clear()  # type: ignore[attr-defined]
            held.append(held_by(tracker, set()))
    assert len({identity for result in results for identity in ids(result)}) > (
        50 if appearance else 30
    )  # those who came
    assert (len(events(results, "found")) > 50) == appearance  # those who came again
    assert len(events(results, "ended")) > 20
    assert max(result.extras["cost"]["objects"] for result in results) <= 14
    half = len(held) // 2
    after, before = np.max(held[half:], axis=0), np.max(held[2:half], axis=0)
    assert (after <= 1.02 * before).all()


def test_picture_sizes_may_change() -> None:
    world = two_things(100, 120)
    tracker = ConceptTracker(world, "ball", embedder=Looks(world))
    for number in range(1, 5):
        tracker.step(world.frame(number, zoom=1 + number // 3))
    results = tracker.finish()
    assert [ids(result) for result in results] == [[0, 1]] * 4
    for result in results:
        assert result.detections.mask is not None
        assert result.detections.mask.shape[1:] == result.frame.picture.shape[:2]
    boxes = [result.detections.xyxy[1] for result in results[1:3]]
    assert np.abs(boxes[1] - 2 * boxes[0]).max() <= 4
