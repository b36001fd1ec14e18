"""Situations in which users of trackers lose identities: glitches, bumps, belts, returns, halved boxes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pytest

from masa_track import MasaTracker
from masa_track.association import FusedAssociator
from masa_track.contracts import Observation
from masa_track.errors import InputError
from masa_track.video.scene_change import scene_change, thumbnail

pytestmark = pytest.mark.slow  # together they take seconds

Things = Sequence[tuple[Any, Sequence[float]]]  # (who, (centre x, centre y, width, height)) of one frame
SIZE = (640, 480)
RNG = np.random.default_rng


class Looks:
    """Scripted embeddings: ``alike`` is the part that all objects have in common."""

    def __init__(self, alike: float = 0.0, noise: float = 0.3, seed: int = 0) -> None:
        self.rng, self.alike, self.noise, self.own = RNG(seed), alike, noise, dict[Any, np.ndarray]()
        self.common = self.unit()

    def unit(self) -> np.ndarray:
        vector = self.rng.normal(size=64)
        return np.asarray(vector / np.linalg.norm(vector))

    def of(self, who: Any) -> np.ndarray:
        if who not in self.own:
            own = (1 - self.alike) * self.unit() + self.alike * self.common
            self.own[who] = 0.9 * own / np.linalg.norm(own) + 0.4 * self.common
        return np.asarray(self.own[who] + self.noise * self.unit(), np.float32)


def identities(
    scene: Iterable[Things], looks: Looks | None = None, scene_changes: dict[int, float] | None = None, **options: Any
) -> dict[Any, list[int]]:
    """The identities of each thing, in order; the boxes of a frame come in any order and jitter by a pixel."""
    engine, rng = FusedAssociator(use_appearance=looks is not None, **options), RNG(0)
    found: dict[Any, list[int]] = {}
    for number, things in enumerate(scene):
        order = rng.permutation(len(things)).tolist()
        things = [things[i] for i in order]
        middle = np.array([box for _, box in things], np.float64).reshape(-1, 4) + rng.normal(0, 1, (len(things), 4))
        half = np.maximum(middle[:, 2:], 2) / 2
        boxes = np.concatenate((middle[:, :2] - half, middle[:, :2] + half), axis=1).astype(np.float32)
        count = len(things)
        embeddings = None if looks is None or not count else np.array([looks.of(who) for who, _ in things])
        change = None if scene_changes is None else scene_changes.get(number, 0.0)
        scores, labels = np.full(count, 0.9, np.float32), np.zeros(count, np.int64)
        seen = Observation(number, number / 30, SIZE, boxes, scores, labels, embeddings, scene_change=change)
        for (who, _), identity in zip(things, engine.update(seen)[0].tolist(), strict=True):
            mine = found.setdefault(who, [])
            if identity >= 0 and identity not in mine:
                mine.append(identity)
    return found


def numbers_of(found: dict[Any, list[int]]) -> set[int]:
    return {identity for mine in found.values() for identity in mine}


def rows(count: int, width: float = 40.0, height: float = 60.0) -> list[tuple[Any, list[float]]]:
    return [(i, [80 + 60.0 * i, 120 + 20.0 * i, width, height]) for i in range(count)]


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("false_boxes", [1, 2, 4])
@pytest.mark.parametrize("picture", [True, False])
def test_a_glitch_of_the_detector_is_no_cut(frames: int, false_boxes: int, picture: bool) -> None:
    false = [(f"false {i}", [100 + 150.0 * i, 420, 40, 60]) for i in range(false_boxes)]
    scene = [false if 60 <= k < 60 + frames else rows(8) for k in range(100)]
    found = identities(scene, Looks(alike=0.97), {} if picture else None)
    assert all(len(found[i]) == 1 for i in range(8))


def test_a_cut_to_another_scene_is_one() -> None:
    others = [(100 + i, [560 - 60.0 * i, 400 - 30.0 * i, 60, 50]) for i in range(6)]
    scene = [rows(6) if k < 40 else others for k in range(80)]
    found = identities(scene, Looks(), {40: 0.9})
    assert not numbers_of({i: found[i] for i in range(6)}) & numbers_of({100 + i: found[100 + i] for i in range(6)})


@pytest.mark.parametrize("looks", [Looks(alike=0.97), None])
@pytest.mark.parametrize("shift", [(30, 15), (60, -30), (90, 45)])
def test_a_bump_of_the_camera_is_found(looks: Looks | None, shift: tuple[float, float]) -> None:
    places = RNG(1).uniform([60, 80], [480, 380], (8, 2))
    scene = [[(i, [*(places[i] + (np.array(shift) if k >= 40 else 0)), 40, 60]) for i in range(8)] for k in range(80)]
    assert all(len(mine) == 1 for mine in identities(scene, looks).values())


@pytest.mark.parametrize("calls_in_pauses", [True, False])
@pytest.mark.parametrize("speed", [pytest.param(6.0, marks=pytest.mark.slow), 10.0])
def test_products_on_a_belt_are_different_objects(calls_in_pauses: bool, speed: float) -> None:
    engine_looks, scene, steps = Looks(alike=0.97), list[Things](), int(580 / speed)
    for item in range(5):
        scene += [[(item, [30 + speed * k, 240, 60, 60])] for k in range(steps)] + [[]] * 30
    if calls_in_pauses:
        found = identities(scene, engine_looks, {})
        assert len(numbers_of(found)) == 5
        return
    tracker, ids = FusedAssociator(), set()
    for k, things in enumerate(scene):
        for who, (x, y, w, h) in things:
            box = np.array([[x - w / 2, y - h / 2, x + w / 2, y + h / 2]])
            ids |= set(tracker.update(box, np.ones(1), np.zeros(1, int), engine_looks.of(who)[None], k, SIZE).tolist())
    assert len(ids - {-1}) == 5


def returning(seconds: float, who: Any, x: float, others: int = 2) -> list[Things]:
    """``a`` leaves at the right; after some seconds ``who`` comes in at x; others stay in view."""
    stay = [(f"other {i}", [100 + 110.0 * i, 380, 40, 100]) for i in range(others)]
    speed = 3.2 if x < 320 else -3.2
    scene = [[("a", [300 + 3.2 * k, 200, 40, 100]), *stay] for k in range(100)]
    scene += [stay] * int(30 * seconds)
    return scene + [[(who, [x + speed * k, 200, 40, 100]), *stay] for k in range(80)]


@pytest.mark.parametrize(
    "seconds", [1.0, pytest.param(5.0, marks=pytest.mark.slow), pytest.param(15.0, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("x", [20.0, 620.0])
def test_who_left_and_returns_in_company_is_known_again(seconds: float, x: float) -> None:
    assert len(identities(returning(seconds, "a", x), Looks(), {})["a"]) == 1


@pytest.mark.parametrize("x", [20.0, 620.0])
def test_a_newcomer_of_another_appearance_is_new(x: float) -> None:
    found = identities(returning(5.0, "b", x), Looks(), {})
    assert len(found["a"]) == len(found["b"]) == 1
    assert found["a"] != found["b"]


@pytest.mark.parametrize("others", [0, 2])
@pytest.mark.parametrize("scene_changes", [{}, None])
def test_a_newcomer_comes_when_all_tracks_are_long_missing(others: int, scene_changes: dict[int, float] | None) -> None:
    """No track can be compared with it: all have been missing for long, and none looks like it."""
    here = [(i, [100 + 150.0 * i, 200, 40, 100]) for i in range(1 + others)]
    scene: list[Things] = [here] * 40 + [[]] * 150 + [[("new", [320.0, 300, 60, 60])]] * 20
    looks = Looks()
    for i in range(1 + others):
        looks.of(i)
    looks.own["new"] = -looks.own[0]
    found = identities(scene, looks, scene_changes)
    assert len(found["new"]) == 1
    assert found["new"][0] not in numbers_of({i: found[i] for i in range(1 + others)})


@pytest.mark.slow
def test_return_prior_decides_for_one_object_alone() -> None:
    alone = returning(5.0, "a", 20.0, others=0)
    assert len(identities(alone, Looks(), {})["a"]) == 2  # as the products on a belt
    assert len(identities(alone, Looks(), {}, return_prior=-0.5)["a"]) == 1
    assert len(identities(returning(5.0, "a", 20.0), Looks(), {}, return_prior=-20.0)["a"]) == 2
    assert len(identities(returning(5.0, "a", 20.0), Looks(), {}, reidentify=False)["a"]) == 2


def test_a_halved_box_among_alike_objects_keeps_its_place() -> None:
    """Of three things, the box of one is its lower third for a frame, and the embedding that of another."""
    looks = Looks(alike=0.3, noise=0.2)
    places = {0: [200.0, 200, 60, 60], 1: [250.0, 200, 60, 60], 2: [225.0, 250, 60, 60]}
    looks.of(0), looks.of(1), looks.of(2)
    looks.own["half"] = looks.own[1]
    scene: list[Things] = [list(places.items()) for _ in range(60)]
    scene[40] = [("half", [200.0, 222, 60, 20]), *scene[40][1:]]
    found = identities(scene, looks, {})
    assert found["half"] == found[0]
    assert len(numbers_of(found)) == 3


def mice(seed: int) -> Iterable[Things]:
    """Five that run about and hide behind a hut for seconds."""
    rng = RNG(seed)
    place, speed = rng.uniform(50, 430, (5, 2)), rng.normal(0, 3, (5, 2))
    for k in range(900):
        speed = np.clip(0.95 * speed + rng.normal(0, 1.2, (5, 2)), -9, 9)
        place = np.clip(place + speed, 40, 440)
        there = (rng.random(5) < 0.9) & ((place[:, 0] > 200) | (k % 200 < 150))
        yield [(i, [*place[i], 40, 24]) for i in np.flatnonzero(there).tolist()]


@pytest.mark.slow
def test_a_known_number_of_objects() -> None:
    assert len(numbers_of(identities(mice(0)))) > 5
    assert len(numbers_of(identities(mice(0), max_identities=5))) == 5


@pytest.mark.parametrize("number", [0, -1, 2.5, True])
def test_max_identities_must_be_a_number(number: Any) -> None:
    with pytest.raises(InputError, match="max_identities"):
        FusedAssociator(max_identities=number)


def test_filtered_boxes_jitter_less_and_leave_identities() -> None:
    rng, plain, filtered = (
        RNG(0),
        FusedAssociator(use_appearance=False),
        FusedAssociator(use_appearance=False, filter_boxes=True),
    )
    errors = []
    for k in range(120):
        true = np.array([[50 + 2.0 * k, 100, 90 + 2.0 * k, 200], [400 - 1.0 * k, 250, 450 - 1.0 * k, 350]])
        boxes = (true + rng.normal(0, 4, (2, 4))).astype(np.float32)
        rest = np.full(2, 0.95), np.zeros(2, int), np.ones((2, 1)), k, SIZE
        ids = plain.update(boxes, *rest)
        assert filtered.update(boxes, *rest).tolist() == ids.tolist()
        if k == 60:  # a saved state goes on with the filter
            state = filtered.state_dict()
            filtered = FusedAssociator(use_appearance=False, filter_boxes=True)
            filtered.load_state_dict(state)
        if k > 20:
            errors.append((np.abs(boxes - true).mean(), np.abs(filtered.filtered_boxes(boxes, ids) - true).mean()))
    raw, shown = np.mean(errors, axis=0)
    assert shown < 0.8 * raw
    np.testing.assert_array_equal(plain.filtered_boxes(boxes, ids), boxes)


def test_the_trackers_detections_hold_filtered_boxes() -> None:
    tracker = MasaTracker(_Ones(), use_appearance=False, filter_boxes=True)
    for k in range(5):
        tracked = tracker.update(np.array([[10.0 + k, 10, 50, 90, 0.999]]), size=SIZE)
    assert tracked.data["box"].shape == (1, 4)
    assert 0 < np.abs(tracked.data["box"] - tracked.xyxy).max() < 3


class _Ones:
    def embed(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        return np.ones((len(boxes), 4), np.float32)


def test_scene_change_tells_a_cut_from_objects_that_move() -> None:
    rng = RNG(0)
    street = np.kron(rng.integers(0, 255, (12, 16, 3)), np.ones((40, 40, 1))).astype(np.uint8)
    other = np.kron(rng.integers(0, 255, (12, 16, 3)), np.ones((40, 40, 1))).astype(np.uint8)
    with_bus, bus = street.copy(), np.array([[100, 100, 400, 300]])
    with_bus[100:300, 100:400] = 255
    nothing = np.zeros((0, 4))
    assert scene_change(thumbnail(street, nothing), thumbnail(np.roll(street, 2, axis=1), nothing)) < 0.1
    assert scene_change(thumbnail(street, nothing), thumbnail(with_bus, bus)) == pytest.approx(0, abs=1e-6)
    assert scene_change(thumbnail(street, nothing), thumbnail(with_bus, nothing)) > 0.1
    assert scene_change(thumbnail(street, nothing), thumbnail(other, nothing)) > 0.5
    black = np.zeros_like(street)
    assert scene_change(thumbnail(black, nothing), thumbnail(black, nothing)) == pytest.approx(0)


@pytest.mark.parametrize("keep", [45, 60, 61, 63])
def test_a_saved_state_goes_on_through_glitches_and_returns(keep: int) -> None:
    false = [(f"false {i}", [100 + 150.0 * i, 420, 40, 60]) for i in range(2)]
    scene = [false if 60 <= k < 63 else rows(8) for k in range(90)]
    looks, engine = Looks(alike=0.97), FusedAssociator()
    runs: list[list[int]] = [[], []]
    for k, things in enumerate(scene):
        middle = np.array([box for _, box in things])
        boxes = np.concatenate((middle[:, :2] - middle[:, 2:] / 2, middle[:, :2] + middle[:, 2:] / 2), axis=1)
        rest = np.ones(len(things)), np.zeros(len(things), int), np.array([looks.of(who) for who, _ in things]), k
        if k == keep:
            state = engine.state_dict()
            assert all(np.asarray(value).dtype != object for value in state.values())
            again = FusedAssociator()
            again.load_state_dict(state)
        runs[0] += engine.update(boxes, *rest).tolist()
        if k >= keep:
            runs[1] += again.update(boxes, *rest).tolist()
    assert runs[0][-len(runs[1]) :] == runs[1]
