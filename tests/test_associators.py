"""What every associator promises (masa_track.contracts.Associator), run against each of them."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from masa_track.association import AppearancePrior, Associator, FusedAssociator, open_associator
from masa_track.contracts import Observation
from masa_track.errors import InputError

NANO = AppearancePrior(
    different=(0.2, 0.13), same=((0.58, 0.14), (0.52, 0.12), (0.43, 0.13), (0.37, 0.14), (0.27, 0.14))
)
MAKERS: dict[str, Callable[[], Associator | FusedAssociator]] = {
    "default": lambda: open_associator("default", NANO, fps=10.0),
    "learned": lambda: open_associator("default", fps=10.0),
    "motion": lambda: open_associator("default", fps=10.0, use_appearance=False),
    "classes": lambda: open_associator("default", NANO, fps=10.0, class_groups=((0, 1),)),
    "appearance": lambda: open_associator("appearance", fps=10.0),
    "tao": lambda: open_associator("tao"),
    "bdd": lambda: open_associator("bdd"),
    "demo": lambda: open_associator("demo"),
    "hungarian": lambda: open_associator("tao", assignment="hungarian"),
}
RNG = np.random.default_rng


@pytest.fixture(params=list(MAKERS))
def make(request: pytest.FixtureRequest) -> Callable[[], Associator | FusedAssociator]:
    return MAKERS[request.param]


def scene(frames: int, seed: int = 0, count: int = 7) -> list[Observation]:
    """Objects that walk and are missed now and then; some frames are empty, some boxes overlap and score little."""
    rng, made = RNG(seed), []
    looks = rng.normal(size=(count, 24))
    start, speed = rng.uniform(50, 500, (count, 2)), rng.normal(0, 20, (count, 2))
    for k in range(frames):
        there = np.flatnonzero(rng.random(count) < 0.85) if k % 9 != 7 else np.zeros(0, int)
        corner = start[there] + 0.1 * k * speed[there]
        made.append(
            Observation(
                k + 1,
                0.1 * k,
                (640, 480),
                np.concatenate((corner, corner + np.array([40, 90])), axis=1).astype(np.float32),
                rng.uniform(0.5, 0.99, len(there)).astype(np.float32),
                there % 3,
                (looks[there] + 0.3 * rng.normal(size=(len(there), 24))).astype(np.float32),
            )
        )
    return made


def permuted(seen: Observation, order: np.ndarray) -> Observation:
    return replace(
        seen,
        boxes=seen.boxes[order],
        scores=seen.scores[order],
        labels=seen.labels[order],
        embeddings=None if seen.embeddings is None else seen.embeddings[order],
    )


def run(associator: Any, frames: list[Observation]) -> list[list[int]]:
    return [associator.update(seen)[0].tolist() for seen in frames]


def standing(number: int, looks: list[int], **more: Any) -> Observation:
    """Objects that stand apart from each other; object n is at the n-th place and always looks the same."""
    corner = np.array([[20 + 90 * n, 100] for n in looks], np.float32).reshape(-1, 2)
    boxes = np.concatenate((corner, corner + np.array([40, 90], np.float32)), axis=1)
    embeddings = RNG(7).normal(size=(8, 24)).astype(np.float32)[looks].reshape(-1, 24)
    count = len(looks)
    given = {"boxes": boxes, "scores": np.ones(count, np.float32), "labels": np.zeros(count, np.int64)}
    return Observation(number, 0.1 * number, (800, 400), **{**given, "embeddings": embeddings, **more})


def test_rows_may_come_in_any_order(make: Callable) -> None:
    plain, shuffled = make(), make()
    for k, seen in enumerate(scene(30)):
        order = RNG(k).permutation(len(seen.boxes))
        ids, decisions, _ = plain.update(seen)
        others, other_decisions, _ = shuffled.update(permuted(seen, order))
        np.testing.assert_array_equal(others, ids[order])
        for row, place in enumerate(order.tolist()):
            assert other_decisions[row].identity == decisions[place].identity
            assert other_decisions[row].log_odds == pytest.approx(decisions[place].log_odds, abs=1e-4)


def test_empty_frames(make: Callable) -> None:
    associator = make()
    for number in range(1, 4):
        ids, decisions, events = associator.update(standing(number, [], embeddings=None))
        assert ids.shape == (0,)
        assert ids.dtype == np.int64
        assert list(decisions) == []
        assert events == []
    assert len(associator.view().ids) == 0
    first = associator.update(standing(4, [0, 1]))[0]
    assert associator.update(standing(5, []))[0].tolist() == []
    np.testing.assert_array_equal(associator.update(standing(6, [0, 1]))[0], first)


def test_pins_decide(make: Callable) -> None:
    associator = make()
    first = associator.update(standing(1, [0, 1, 2]))[0].tolist()
    assert len(set(first)) == 3
    assert min(first) >= 0
    swapped = np.array([first[1], first[0], -1])
    ids, decisions, _ = associator.update(standing(2, [0, 1, 2], pins=swapped))
    assert ids.tolist() == [first[1], first[0], first[2]]
    assert decisions[0].margin == np.inf
    new = associator.update(standing(3, [0, 1, 2], pins=np.array([-2, -1, -1])))[0].tolist()
    assert new[0] not in first
    assert new[0] >= 0
    forgotten = associator.update(standing(4, [5], pins=np.array([77])))[0]
    assert forgotten.tolist() == [77]
    after = associator.update(standing(5, [5, 6], pins=np.array([-1, -2])))[0].tolist()
    assert after[0] == 77
    assert after[1] > 77  # numbers go on after the largest
    with pytest.raises(InputError, match="pins must give an identity to one row only"):
        associator.update(standing(6, [0, 1], pins=np.array([first[0], first[0]])))


def test_forbidden_pairs_and_hints(make: Callable) -> None:
    associator = make()
    first = associator.update(standing(1, [0, 1]))[0].tolist()
    ids = associator.update(standing(2, [0, 1], forbidden=[(0, first[0])]))[0].tolist()
    assert ids[0] != first[0]
    assert ids[1] == first[1]
    fresh = make()
    first = fresh.update(standing(1, [0, 1]))[0].tolist()
    ids = fresh.update(standing(2, [0, 1], hints=[(0, first[0], -40.0), (1, first[1], 3.0)]))[0].tolist()
    assert ids[0] != first[0]  # 40 nats against it
    assert ids[1] == first[1]


def test_groups_keep_tracks_apart(make: Callable) -> None:
    associator = make()
    first = associator.update(standing(1, [0, 1], groups=np.array([4, 9])))[0].tolist()
    same = associator.update(standing(2, [0, 1], groups=np.array([4, 9])))[0].tolist()
    other = associator.update(standing(3, [0, 1], groups=np.array([9, 9])))[0].tolist()
    assert same == first
    assert other[0] not in first
    assert other[1] == first[1]
    assert sorted(set(associator.view().groups.tolist())) == [4, 9]


def test_rows_that_may_not_start(make: Callable) -> None:
    associator = make()
    assert associator.update(standing(1, [0, 1], may_start=np.array([True, False])))[0].tolist()[1] == -1
    first = associator.update(standing(2, [0, 1]))[0].tolist()
    again = associator.update(standing(3, [0, 1], may_start=np.zeros(2, bool)))[0].tolist()
    assert again == first  # they may continue a track


def test_decisions_explain_the_identities(make: Callable) -> None:
    associator, seen_matches = make(), 0
    for seen in scene(30):
        ids, decisions, _ = associator.update(seen)
        assert len(decisions) == len(ids)
        for row, decision in enumerate(decisions):
            assert decision.row == row
            assert decision.identity == ids[row]
            assert not decision.tentative or decision.identity == -1
            if decision.terms:
                assert sum(decision.terms.values()) == pytest.approx(decision.log_odds, abs=1e-4)
                seen_matches += 1
    assert seen_matches > 50


def test_events_tell_a_tracks_life(make: Callable) -> None:
    associator = make()
    ids, _, events = associator.update(standing(1, [0, 1]))
    assert [(e.kind, e.identity) for e in events] == [("born", i) for i in ids.tolist()]
    assert associator.update(standing(2, [0, 1]))[2] == []
    assert [(e.kind, e.identity, e.number) for e in associator.update(standing(3, [0]))[2]] == [("lost", ids[1], 3)]
    assert associator.view().lost.tolist() == [False, True]
    assert associator.update(standing(4, [0]))[2] == []
    assert [(e.kind, e.identity) for e in associator.update(standing(5, [0, 1]))[2]] == [("found", ids[1])]
    far = int(5 + 10 * associator.memory_seconds * 10 + 2000)
    new = np.array([-2])  # the authors' trackers forget after matching: it must not take an old track
    later = [associator.update(standing(number, [5], pins=new))[2] for number in (far, far + 1)]
    ended = [event.identity for events in later for event in events if event.kind == "ended"]
    assert sorted(ended) == sorted(ids.tolist())


@pytest.mark.parametrize("saved_before", [None, 6])
def test_a_born_track_names_its_earlier_boxes(saved_before: int | None) -> None:
    frames = scene(20)
    engine = open_associator("default", NANO, fps=10.0, confirm_odds=4.0)
    tentative: dict[int, set[tuple[int, int]]] = {}
    named: set[tuple[int, int]] = set()
    for frame in frames:
        if frame.number == saved_before:
            state = engine.state_dict()
            engine = open_associator("default", NANO, fps=10.0, confirm_odds=4.0)
            engine.load_state_dict(state)
        _, decisions, events = engine.update(frame)
        tentative[frame.number] = {(frame.number, d.row) for d in decisions if d.tentative}
        for event in (e for e in events if e.kind == "born"):
            boxes = [frames[number - 1].boxes[row] for number, row in event.earlier]
            assert [number for number, _ in event.earlier] == list(range(frame.number - len(boxes), frame.number))
            assert not named & set(event.earlier)
            named |= set(event.earlier)
            own = frame.boxes[next(d.row for d in decisions if d.identity == event.identity)]
            for back, box in enumerate(reversed(boxes), 1):
                assert np.abs(box - own).max() < 8 * back  # it walks at most 20 pixels a second
    assert len(named) > 5
    assert named <= set().union(*tentative.values())


def test_a_track_can_be_renamed(make: Callable) -> None:
    associator = make()
    first = associator.update(standing(1, [0, 1]))[0].tolist()
    associator.rename(first[0], 50)
    assert associator.update(standing(2, [0, 1]))[0].tolist() == [50, first[1]]
    for old, new, message in ((first[0], 60, "old must be"), (50, first[1], "new must be"), (50, -1, "new must be")):
        with pytest.raises(InputError, match=message):
            associator.rename(old, new)
    assert associator.update(standing(3, [0, 1, 4]))[0].tolist()[:2] == [50, first[1]]
    assert max(associator.view().ids) == 51


@pytest.mark.slow
@pytest.mark.parametrize("cut", [1, 9, 17])
def test_a_saved_state_goes_on(make: Callable, cut: int) -> None:
    """Through a file without pickles, into an engine that has seen another video."""
    frames, whole, first, second = scene(30), make(), make(), make()
    expected = run(whole, frames)
    assert run(first, frames[:cut]) == expected[:cut]
    run(second, scene(5, seed=4))
    file = io.BytesIO()
    np.savez(file, **first.state_dict())
    file.seek(0)
    second.load_state_dict(dict(np.load(file, allow_pickle=False)))
    assert run(second, frames[cut:]) == expected[cut:]
    assert run(first, frames[cut:]) == expected[cut:]  # saving changes nothing


def test_a_state_of_something_else_is_refused(make: Callable) -> None:
    associator = make()
    expected = run(make(), scene(6))
    run(associator, scene(3))
    state = associator.state_dict()
    other = open_associator("default", fps=7.0) if isinstance(associator, Associator) else open_associator("tao")
    with pytest.raises(InputError, match="state must be of the same engine"):
        associator.load_state_dict(other.state_dict())
    with pytest.raises(InputError, match="has no 'engine'"):
        associator.load_state_dict({})
    changed = type(associator)(**{"preset": "default"} if isinstance(associator, FusedAssociator) else {}, first_id=3)
    with pytest.raises(InputError, match=r"state must be of the same options: .*first_id is 0"):
        associator.load_state_dict(changed.state_dict())
    damaged = {name: value for name, value in state.items() if name != "memory.ids"}
    with pytest.raises(InputError, match="state is damaged"):
        associator.load_state_dict(damaged)
    assert run(associator, scene(6)[3:]) == expected[3:]


@pytest.mark.slow
def test_what_nobody_wants_need_not_be_embedded(make: Callable) -> None:
    """Rows that are not wanted are NaN: the same identities as with all rows embedded."""
    whole, sparing, left_out = make(), make(), 0
    for seen in crowded(40):
        wanted = sparing.wanted(replace(seen, embeddings=None))
        assert wanted.dtype == bool
        assert wanted.shape == (len(seen.boxes),)
        np.testing.assert_array_equal(sparing.wanted(seen), wanted)  # pure
        assert seen.embeddings is not None
        sparse = np.where(wanted[:, None], seen.embeddings, np.float32(np.nan))
        left_out += int((~wanted).sum())
        np.testing.assert_array_equal(sparing.update(replace(seen, embeddings=sparse))[0], whole.update(seen)[0])
    assert left_out > 20


def crowded(frames: int) -> list[Observation]:
    """The scene with each object boxed twice, the second time with a low score."""
    made = []
    for seen in scene(frames):
        rng = RNG(seen.number)
        boxes = np.concatenate((seen.boxes, seen.boxes + rng.normal(0, 2, seen.boxes.shape)))
        scores = np.concatenate((seen.scores, 0.4 * seen.scores))
        assert seen.embeddings is not None
        twice = np.concatenate((seen.embeddings, seen.embeddings)), np.concatenate((seen.labels, seen.labels))
        made.append(replace(seen, boxes=boxes, scores=scores, embeddings=twice[0], labels=twice[1]))
    return made


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"time": np.nan}, "time must be finite"),
        ({"boxes": np.zeros((2, 5))}, r"boxes must be \(N, 4\)"),
        ({"scores": np.array([0.5, 40])}, "percent: divide by 100"),
        ({"pins": np.array([1])}, r"pins must be \(2,\) int64"),
        ({"pins": np.array([-3, -1])}, "pins must be -2, -1 or an identity, got -3"),
        ({"may_start": np.array([0.5, 1])}, r"may_start must be \(2,\) bool"),
        ({"groups": np.array(["a", "b"])}, r"groups must be \(2,\) int64"),
        ({"forbidden": [(2, 0)]}, "forbidden must name rows 0..1, got row 2"),
        ({"hints": [(-1, 0, 1.0)]}, "hints must name rows 0..1, got row -1"),
        ({"camera": np.eye(3)}, r"camera must be a finite \(2, 3\)"),
    ],
)
def test_bad_observations_leave_no_trace(make: Callable, change: dict, message: str) -> None:
    associator, plain = make(), make()
    for each in (associator, plain):
        each.update(standing(1, [0, 1]))
    with pytest.raises(InputError, match=message):
        associator.update(replace(standing(2, [0, 1]), **change))
    with pytest.raises(InputError, match=r"(time|number) must be"):
        associator.update(standing(1, [0, 1]))
    np.testing.assert_array_equal(associator.update(standing(2, [0, 1]))[0], plain.update(standing(2, [0, 1]))[0])


@pytest.mark.slow
def test_instances_share_nothing(make: Callable) -> None:
    first, second = make(), make()
    expected = run(make(), scene(20))
    got = []
    for seen, other in zip(scene(20), scene(20, seed=3), strict=True):
        got.append(first.update(seen)[0].tolist())
        second.update(other)
    assert got == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", ["default", "motion", "learned"])
def test_absence_is_no_evidence_where_no_detector_ran(name: str) -> None:
    """Seconds in which only masklets were observed, or in which the group is out of view."""
    for hidden in ({"detector_ran": False}, {"groups_in_view": frozenset({5})}):
        associator = MAKERS[name]()
        for number in range(1, 30):
            first = associator.update(standing(number, [0, 1, 2]))[0].tolist()
        probability = associator._state.detection_probability.redetection_probability()
        last = 40 if name == "motion" else 130  # motion alone knows little after ten seconds
        for number in range(30, last):
            associator.update(standing(number, [], embeddings=None, **hidden))
        assert associator._state.detection_probability.redetection_probability() == probability
        assert associator.update(standing(last, [0, 1, 2]))[0].tolist() == first
