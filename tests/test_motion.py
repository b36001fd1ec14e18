"""The preset `default`: the motion filter, the gallery, the evidence, and a track's life among all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest

from masa_track import MasaTracker
from masa_track.association import Associator, FusedAssociator, FusedOptions, open_associator, options_of
from masa_track.association.evidence import kalman, pairs, speeds
from masa_track.association.evidence.appearance import AppearancePrior, FittedEvidence, Observed
from masa_track.association.evidence.detection_probability import DetectionProbability
from masa_track.association.gallery import Gallery, unit
from masa_track.association.matching import most_evidence
from masa_track.boxes import coverage
from masa_track.errors import InputError
from masa_track.video.camera_motion import CameraMotion

RNG = np.random.default_rng
LOOKS = unit(RNG(5).normal(size=(40, 64)))  # objects of different appearance
OPTIONS = FusedOptions()
NOISE = kalman.MotionNoise(  # of the preset
    speeds=(OPTIONS.motion_speed, 10.0),
    persistence=OPTIONS.motion_persistence,
    position=OPTIONS.position_noise,
    extent=OPTIONS.extent_noise,
)
NANO = AppearancePrior(
    different=(0.2, 0.13), same=((0.58, 0.14), (0.52, 0.12), (0.43, 0.13), (0.37, 0.14), (0.27, 0.14))
)


def box(x: float, y: float = 100.0, width: float = 30.0, height: float = 60.0) -> list[float]:
    return [x, y, x + width, y + height]


def step(
    associator: FusedAssociator,
    frame: float,
    boxes: list[list[float]],
    looks: list[int],
    scores: list[float] | None = None,
    labels: list[int] | None = None,
    seed: int = 0,
) -> list[int]:
    """One frame of objects at boxes; their embeddings vary a little."""
    count = len(boxes)
    varied = 10 * unit(LOOKS[looks] + 0.05 * RNG(seed + int(frame)).normal(size=(count, 64)))
    ids = associator.update(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores if scores is not None else [1.0] * count),
        np.array(labels if labels is not None else [0] * count),
        varied.astype(np.float32),
        frame,
        size=(640, 480),
    )
    return [int(i) for i in ids]


# --- the motion filter


def textbook(state: np.ndarray, covariance: np.ndarray, seconds: float, speed: float, tau: float) -> tuple:
    """One coordinate's (2,) state and (2, 2) covariance by plain Euler steps of the velocity's equation."""
    steps = 20000
    dt = seconds / steps
    move, noise = np.array([[1, dt], [0, 1 - dt / tau]]), np.diag([0, 2 * speed**2 / tau * dt])
    for _ in range(steps):
        state, covariance = move @ state, move @ covariance @ move.T + noise
    return state, covariance


@pytest.mark.slow
def test_prediction_solves_the_equation() -> None:
    states, covariances = kalman.start(np.array([[0, 0, 30, 60]]), NOISE)
    states[0, :, 4:] = [50, -20, 1, 2]
    covariances[0, :, 1] = [3, 4, 0.1, 0.2]
    size = float(np.sqrt(30 * 60))
    later, grown = kalman.predict(states, covariances, 0.7, NOISE)
    for own, speed_of_filter in enumerate(NOISE.speeds):
        position, extent = (speed_of_filter, NOISE.persistence), (NOISE.growth, NOISE.growth_persistence)
        for k, (speed, tau) in enumerate([position] * 2 + [extent] * 2):
            p, c, v = covariances[0, own, :, k]
            before, after = states[0, own], later[0, own]
            state, of = textbook(
                np.array([before[k], before[4 + k]]), np.array([[p, c], [c, v]]), 0.7, speed * size, tau
            )
            np.testing.assert_allclose([after[k], after[4 + k]], state, rtol=1e-3)
            np.testing.assert_allclose(grown[0, own, :, k], [of[0, 0], of[0, 1], of[1, 1]], rtol=2e-3)


def test_one_long_step_is_many_short_ones() -> None:
    states, covariances = kalman.start(np.array([[0, 0, 30, 60], [5, 5, 9, 9]]), NOISE)
    states[..., 4:6] = 7  # sizes stand still, so the noise is the same all the way
    once = kalman.predict(states, covariances, 1.0, NOISE)
    for _ in range(10):
        states, covariances = kalman.predict(states, covariances, 0.1, NOISE)
    np.testing.assert_allclose(states, once[0], rtol=1e-9)
    np.testing.assert_allclose(covariances, once[1], rtol=1e-9)


def test_the_filter_learns_a_walk() -> None:
    states, covariances = kalman.start(np.array([box(0)]), NOISE)
    for k in range(1, 40):
        states, covariances = kalman.predict(states, covariances, 0.04, NOISE)
        states, covariances = kalman.correct(states, covariances, np.array([box(2.0 * k)]), NOISE)
    np.testing.assert_allclose(states[0, :, 4], 50, rtol=0.1)  # 2 pixels in .04 s
    assert (np.abs(states[0, :, 5]) < 1).all()
    places, crosses, velocities = np.moveaxis(covariances[0], 1, 0)
    assert (places > 0).all()
    assert (places * velocities > crosses**2).all()  # still a covariance


def test_a_moving_camera_is_followed() -> None:
    states, covariances = kalman.start(np.array([box(100)]), NOISE)
    states[0, :, 4:6] = [10, 0]
    turned, _ = kalman.warp(
        states, covariances, np.array([[0.0, -2.0, 5.0], [2.0, 0.0, 7.0]])
    )  # a quarter, twice as big
    np.testing.assert_allclose(turned[0, :, :6], [[-2 * 130 + 5, 2 * 115 + 7, 60, 120, 0, 20]] * 2)


def sprinters(seed: int, frames: int = 240, count: int = 6) -> Iterator[np.ndarray]:
    """(count, 4) boxes of 30 x 70 pixels that run to random places, stop and turn, 8 pixels a frame at most."""
    rng, low, high, half = RNG(seed), [80, 100], [560, 380], np.array([15, 35])
    place, speed = rng.uniform(low, high, (count, 2)), np.zeros((count, 2))
    goal = rng.uniform(low, high, (count, 2))
    for _ in range(frames):
        far = np.linalg.norm(goal - place, axis=1, keepdims=True)
        wanted = (goal - place) / np.maximum(far, 1) * np.minimum(0.15 * far, 8)
        speed += np.clip(wanted - speed, -1.6, 1.6)
        place = place + speed
        there = far[:, 0] < 25
        goal[there] = rng.uniform(low, high, (there.sum(), 2))
        yield np.concatenate((place - half, place + half), axis=1) + rng.normal(0, 1, (count, 4))


def switches_of(scene: Iterable[np.ndarray], seed: int, **options: float) -> int:
    """How often the identity of an object changes; the boxes come in another order in each frame."""
    associator, last, switches = FusedAssociator(use_appearance=False, **options), None, 0
    for k, boxes in enumerate(scene):
        order, count = RNG([seed, k]).permutation(len(boxes)), len(boxes)
        ids, nothing = np.empty(count, int), np.ones((count, 1), np.float32)
        ids[order] = associator.update(boxes[order], np.ones(count), np.zeros(count, int), nothing, k, (640, 480))
        switches += 0 if last is None else int((ids != last).sum())
        last = ids
    return switches


@pytest.mark.slow
def test_the_speed_of_objects_is_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sum(switches_of(sprinters(seed), seed) for seed in range(3)) <= 6
    monkeypatch.setattr(speeds, "_TRACK", 0.0)  # nothing is learned
    monkeypatch.setattr(speeds, "_VIDEO", 0.0)
    assert sum(switches_of(sprinters(seed), seed) for seed in range(3)) > 12


def walkers(seed: int) -> Iterator[np.ndarray]:
    """(12, 4) boxes that cross the picture slowly in lanes which overlap by half a box."""
    rng = RNG(seed)
    x, y, speed = (
        rng.uniform(50, 550, 12),
        100 + 30 * np.arange(12),
        rng.choice([-1, 1], 12) * rng.uniform(0.5, 1.5, 12),
    )
    for _ in range(150):
        x = x + speed
        corner = np.stack((x, y), axis=1) + rng.normal(0, 0.7, (12, 2))
        yield np.concatenate((corner, corner + np.array([25, 60])), axis=1)


@pytest.mark.slow
def test_walkers_are_not_taken_for_sprinters() -> None:
    assert sum(switches_of(walkers(seed), seed) for seed in range(3)) == 0


# --- the gallery and the evidence


def test_similarities_are_those_of_the_slow_way() -> None:
    rng = RNG(0)
    gallery = Gallery(3, 5)
    gallery.add(unit(rng.normal(size=(12, 5))))  # more than the first buffer holds
    for _ in range(5):
        gallery.renew(np.array([0, 2]), unit(rng.normal(size=(2, 5))))
    gallery.renew(np.array([1]), unit(rng.normal(size=(1, 5))))
    gallery.keep(np.arange(12) != 3)
    asked, centre = unit(rng.normal(size=(4, 5))), 0.2 * rng.normal(size=5).astype(np.float32)
    expected = np.empty((4, 11))
    for i in range(4):
        for j in range(11):
            views, one = unit(gallery.vectors[j, : gallery.counts[j]] - centre), unit(asked[i] - centre)
            expected[i, j] = ((views @ one).max() + unit(views.sum(axis=0)) @ one) / 2
    np.testing.assert_allclose(gallery.similarities(asked, centre), expected, atol=1e-5)


def test_a_gallery_keeps_what_differs() -> None:
    gallery = Gallery(3, 64)
    gallery.add(LOOKS[:1])
    for look in (1, 2, 2, 2, 2):  # front, back, then the side again and again
        gallery.renew(np.array([0]), LOOKS[look : look + 1])
    kept = {int((LOOKS @ view).argmax()) for view in gallery.vectors[0]}
    assert kept == {0, 1, 2}


def test_appearance_learns_what_a_video_shows() -> None:
    evidence = FittedEvidence(NANO, most=8.0)
    before = evidence.log_odds(np.array([[0.6]]), np.array([0.1]))[0, 0]
    assert before > 2
    for _ in range(200):  # everything is .6 alike here: .6 says nothing any more
        cosines = RNG(0).normal(0.6, 0.05, (5, 5))
        np.fill_diagonal(cosines, RNG(1).normal(0.9, 0.03, 5))
        tracks = np.arange(5)
        evidence = evidence.learned(Observed(cosines, tracks, np.full(5, True), np.full(5, 0.1), tracks, 0.0))
    assert evidence.log_odds(np.array([[0.6]]), np.array([0.1]))[0, 0] < -2
    assert evidence.log_odds(np.array([[0.9]]), np.array([0.1]))[0, 0] > 2


def test_appearance_says_less_after_a_long_time() -> None:
    evidence = FittedEvidence(NANO, most=8.0)
    soon, late = evidence.log_odds(np.array([[0.2, 0.2]]), np.array([0.04, 5.0]))[0]
    assert soon < late  # a low cosine: at once that is another object, after five seconds it may be the same


def test_most_evidence_and_coverage() -> None:
    taken, worth = most_evidence(np.array([[3.0, 5.0, -1.0], [2.0, 4.5, -2.0], [-9.0, -9.0, -9.0]]), 1.0)
    assert taken.tolist() == [1, 0, -1] or taken.tolist() == [0, 1, -1]
    assert worth == pytest.approx(5.5)
    assert most_evidence(np.zeros((0, 3)), 0.0)[0].shape == (0,)
    np.testing.assert_allclose(coverage(np.array([[0, 0, 10, 10], [5, 0, 25, 10], [50, 0, 60, 10]])), [0.5, 0.25, 0])


# --- a track's life


def test_a_walk_behind_a_tree() -> None:
    """Two objects of the same appearance cross the picture; one is hidden for a second and reappears on its path."""
    associator = FusedAssociator(fps=25)
    for k in range(30):
        assert step(associator, k, [box(100 + 3 * k), box(500 - 3 * k, 300)], [0, 0]) == [0, 1]
    for k in range(30, 55):
        assert step(associator, k, [box(500 - 3 * k, 300)], [0]) == [1]
    assert step(associator, 55, [box(100 + 3 * 55), box(500 - 3 * 55, 300)], [0, 0]) == [0, 1]


def test_objects_of_the_same_appearance_that_cross() -> None:
    """Motion alone tells them apart; appearance knows nothing."""
    associator = FusedAssociator(fps=25)
    for k in range(80):
        ids = step(associator, k, [box(100 + 4 * k), box(420 - 4 * k, 104)], [0, 0], seed=k)
        assert ids == [0, 1], k


@pytest.mark.slow
def test_an_object_that_returns_after_a_long_time_is_recognised_by_appearance() -> None:
    associator = FusedAssociator(fps=25)
    for k in range(20):
        step(associator, k, [box(300 + k), box(100, 300), box(500, 300)], [0, 1, 2])
    for k in range(20, 270):
        step(associator, k, [box(100, 300), box(500, 300)], [1, 2])
    ids = step(associator, 270, [box(150), box(100, 300), box(500, 300), box(400, 20)], [0, 1, 2, 3])
    assert ids == [0, 1, 2, 3]  # ten seconds later, elsewhere; and one that was never seen


def test_memory_ends() -> None:
    associator = FusedAssociator(fps=10, memory_seconds=2)
    assert step(associator, 0, [box(300)], [0]) == [0]
    assert step(associator, 20, [box(300)], [0]) == [0]
    assert step(associator, 41, [box(300)], [0]) == [1]


def test_after_a_cut_appearance_alone_decides() -> None:
    associator = FusedAssociator(fps=25)
    places = [box(100), box(300), box(500)]
    for k in range(25):
        step(associator, k, places, [0, 1, 2])
    moved = [box(210, 300, 60, 120), box(400, 250, 60, 120), box(20, 280, 60, 120)]
    assert step(associator, 26, moved, [0, 1, 2]) == [0, 1, 2]
    assert associator.cuts >= 1


def test_a_cut_to_another_scene_and_back() -> None:
    """Other objects stand elsewhere, and a box of low score where one was before: none takes an identity."""
    associator = FusedAssociator(fps=25)
    first, places = list(range(6)), [box(90 * k, 100) for k in range(6)]
    others = [*(box(80 * k + 40, 250, 45, 90) for k in range(5)), box(12, 112)]
    for k in range(30):
        assert step(associator, k, places, first) == first
    for k in range(30, 60):
        ids = step(associator, k, others, list(range(10, 16)), [1.0] * 5 + [0.4])
        assert ids == [6, 7, 8, 9, 10, -1]
    assert associator.cuts == 1
    elsewhere = [box(90 * k + 30, 300) for k in range(6)]
    for k in range(60, 70):
        assert step(associator, k, elsewhere, first) == first
    assert associator.cuts == 2


def test_a_frame_of_which_the_detector_misses_most_is_no_cut() -> None:
    associator = FusedAssociator(fps=25)
    places = [box(90 * k, 100) for k in range(6)]
    for k in range(30):
        step(associator, k, places, [0] * 6, seed=k)  # only motion can tell them apart
    assert step(associator, 30, places[2:3], [0]) == [2]
    assert step(associator, 31, places, [0] * 6) == list(range(6))
    assert associator.cuts == 0


@pytest.mark.parametrize("every", [1, 10])
def test_frames_may_be_missing(every: int) -> None:
    """The same walk, every frame or every tenth: time is what counts."""
    associator = FusedAssociator(fps=25)
    for k in range(0, 100, every):
        boxes = [box(20 + 2.4 * k, 100), box(600 - 2.4 * k, 220), box(300, 350 - 1.5 * k)]
        assert step(associator, k, boxes, [0, 0, 0], seed=k) == [0, 1, 2]


def test_a_low_score_continues_a_track_and_starts_none() -> None:
    associator = FusedAssociator(fps=25)
    for k in range(10):
        step(associator, k, [box(100 + k)], [0])
    scores = [0.3, 0.3]
    assert step(associator, 10, [box(110), box(400)], [0, 1], scores) == [0, -1]
    assert step(associator, 11, [box(111)], [0], [0.05]) == [-1]
    assert step(associator, 12, [box(112)], [0]) == [0]


def test_what_is_seen_once_gets_no_identity() -> None:
    associator = FusedAssociator(fps=25)
    step(associator, 0, [box(100)], [0])
    assert step(associator, 1, [box(101), box(400)], [0, 1], [1.0, 0.9]) == [0, -1]
    assert step(associator, 2, [box(102)], [0]) == [0]
    assert step(associator, 3, [box(103), box(400)], [0, 1], [1.0, 0.9]) == [0, -1]  # it had been forgotten
    assert step(associator, 4, [box(104), box(400)], [0, 1], [1.0, 0.9])[1] > 0
    assert len(associator.memory) == 2


@pytest.mark.parametrize(
    ("start", "score", "sightings"), [(0.7, 0.95, 2), (0.7, 0.75, 3), (0.3, 0.75, 2), (0.3, 0.32, 4)]
)
def test_an_object_of_low_scores_must_be_detected_more_often(start: float, score: float, sightings: int) -> None:
    """How often depends on the score, beside the one from which tracks start."""
    associator = FusedAssociator(fps=25, track_activation_threshold=start)
    step(associator, 0, [box(400)], [1])
    got = [step(associator, k, [box(400), box(100 + k)], [1, 0], [1.0, score])[1] for k in range(1, 7)]
    assert got == [-1] * (sightings - 1) + [1] * (7 - sightings)


def test_presence_counts_as_by_hand() -> None:
    detection_probability, missing = DetectionProbability(), np.array([0.0, 0.0, 0.2, 5.0])
    seen = np.array([True, True, False, False])
    for _ in range(200):
        detection_probability.learn(missing, seen)
    left = (1 - 0.99**200) / (1 - 0.99)  # of 200 frames, the older the less
    steady = (2 * left + 50 * 0.9) / (2 * left + 50)
    never = 50 * (1 - np.exp(-6 * 0.04)) / (left + 50)
    after = detection_probability.log_odds(missing, 0.04, 2.0)
    weight = np.exp(-1.5 * 0.04 - missing / 2)
    assert after[0] == min(np.log(steady / (1 - steady)) * weight[0], 1)
    np.testing.assert_allclose(after[2], np.log(never / (1 - never)) * weight[2])
    assert (
        np.abs(detection_probability.log_odds(missing, 5.0, 2.0)) < 0.01
    ).all()  # frames far apart say nothing of each other


def test_of_two_the_one_seen_a_moment_ago_is_likelier() -> None:
    associator = FusedAssociator(fps=25, use_appearance=False)
    for k in range(30):
        assert step(associator, k, [box(100), box(118)], [0, 0]) == [0, 1]
    for k in range(30, 34):
        assert step(associator, k, [box(100)], [0]) == [0]
    assert step(associator, 34, [box(109.5)], [0]) == [0]  # a little nearer to the other, which was missing


def test_classes_vote_and_can_bind() -> None:
    associator = FusedAssociator(fps=25)
    for k, label in enumerate([1, 2, 2, 1, 2]):
        assert step(associator, k, [box(100)], [0], labels=[label]) == [0]
    assert associator.class_of(0) == 2
    assert associator.class_of(7) is None
    aware = FusedAssociator(fps=25, class_aware=True)
    for k, label in enumerate([1, 1, 1]):
        step(aware, k, [box(100)], [0], labels=[label])
    assert step(aware, 3, [box(100)], [0], labels=[2]) == [1]
    assert step(aware, 4, [box(100)], [0], labels=[1]) == [0]


def crowd(frame: int, order: np.ndarray) -> tuple[list[list[float]], list[int], list[float]]:
    boxes = [box(40 + 70 * n + 2 * frame * (-1) ** n, 60 + 90 * (n % 4)) for n in range(8)]
    scores = [0.9 - 0.01 * n for n in range(8)]
    return [boxes[n] for n in order], order.tolist(), [scores[n] for n in order]


def test_order_does_not_matter() -> None:
    plain, shuffled = FusedAssociator(fps=25), FusedAssociator(fps=25)
    for k in range(30):
        order = RNG(k).permutation(8)
        embeddings = unit(LOOKS[:8] + 0.1 * RNG(k).normal(size=(8, 64)))
        for associator, rows in ((plain, np.arange(8)), (shuffled, order)):
            boxes, _, scores = crowd(k, rows)
            ids = associator.update(np.array(boxes), np.array(scores), np.zeros(8, int), embeddings[rows], k)
            if associator is plain:
                expected = ids
        np.testing.assert_array_equal(ids, expected[order])


def test_the_scale_of_embeddings_does_not_matter() -> None:
    small, large = FusedAssociator(fps=25), FusedAssociator(fps=25)
    for k in range(20):
        embeddings = unit(LOOKS[:8] + 0.3 * RNG(k).normal(size=(8, 64)))
        boxes, _, scores = crowd(3 * k, np.arange(8))
        both = [
            a.update(np.array(boxes), np.array(scores), np.zeros(8, int), s * embeddings, k)
            for a, s in ((small, 1), (large, 100))
        ]
        np.testing.assert_array_equal(*both)


def test_no_detection_one_detection_and_zeros() -> None:
    associator = FusedAssociator()
    assert step(associator, 0, [], []) == []
    assert step(associator, 1, [box(10)], [0]) == [0]
    assert step(associator, 2, [], []) == []
    assert step(associator, 3, [box(10)], [0]) == [0]
    ids = associator.update(np.array([[5.0, 5, 5, 5]]), np.ones(1), np.zeros(1, int), np.zeros((1, 64)), 4)
    assert ids.tolist() == [1]  # a box without area, an embedding without length
    associator.reset()
    assert step(associator, 0, [box(10)], [0]) == [0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"boxes": np.array([[0, 0, np.nan, 5]])}, "boxes must be finite"),
        ({"boxes": np.zeros((1, 5))}, r"boxes must be \(N, 4\)"),
        ({"embeddings": np.ones((1, 3))}, "call reset"),
        ({"frame_index": 0}, "frame_index must grow"),
        ({"frame_index": np.nan}, "frame_index must grow"),
        ({"camera": np.eye(3)}, r"camera must be a finite \(2, 3\)"),
    ],
)
def test_bad_frames_leave_no_trace(change: dict, message: str) -> None:
    associator = FusedAssociator()
    good = {"boxes": np.array([box(10)]), "scores": np.ones(1), "labels": np.zeros(1, int), "embeddings": LOOKS[:1]}
    associator.update(**good, frame_index=0)
    with pytest.raises(InputError, match=message):
        associator.update(**{**good, "frame_index": 1, **change})
    assert associator.update(**good, frame_index=1).tolist() == [0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"memory_second": 3}, "did you mean 'memory_seconds'"),
        ({"views": 0}, "views must be a whole number of 1 or more"),
        ({"fps": 0}, "fps must be above 0"),
        ({"clean_overlap": 1.5}, r"clean_overlap must be in 0\.\.1"),
        ({"match_odds": float("nan")}, "match_odds must be a finite number"),
        ({"class_aware": 1}, "class_aware must be True or False"),
        ({"view_seconds": -1}, "view_seconds must be 0 or more"),
    ],
)
def test_bad_options(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        FusedAssociator(**options)


def test_each_engine_names_the_other() -> None:
    assert isinstance(open_associator("default"), FusedAssociator)
    assert isinstance(open_associator("tao"), Associator)
    with pytest.raises(InputError, match="use FusedAssociator"):
        options_of("default")
    with pytest.raises(InputError, match="use Associator"):
        FusedAssociator("demo")


# --- what is small, and was wrong


@pytest.mark.parametrize("seed", range(3))
def test_one_object_boxed_twice_is_one_track(seed: int) -> None:
    """Half of the time two boxes of one object, whose scores take turns at being the larger."""
    rng, associator, given = RNG(seed), FusedAssociator(fps=25), set()
    for k in range(60):
        count = 1 + (rng.random() < 0.5)
        boxes = [(np.array(box(60 + 3 * k, 200, 90, 60)) + rng.normal(0, 1.5, 4)).tolist() for _ in range(count)]
        given |= set(step(associator, k, boxes, [0] * count, rng.uniform(0.75, 0.95, count).tolist(), seed=k))
    assert given - {-1} == {0}


def test_a_rider_and_the_motorcycle_are_two_where_classes_count() -> None:
    """Boxes with an IoU of .75 and two classes."""
    rider, motorcycle = box(70, 140, 60, 100), box(67, 148, 66, 104)
    both = FusedAssociator(fps=25, class_aware=True)
    grouped = FusedAssociator(fps=25, class_groups=((0, 3),))
    for k in range(5):
        ids = step(both, k, [rider, motorcycle], [0, 1], [1.0, 0.9999], [0, 3])
        one = step(grouped, k, [rider, motorcycle], [0, 1], [1.0, 0.9999], [0, 3])
    assert ids == [0, 1]
    assert one == [0, -1]


def test_classes_of_a_group_share_tracks() -> None:
    associator = FusedAssociator(fps=25, class_groups=((2, 7), (0,)))
    places, looks = [box(100), box(300), box(500)], [0, 1, 2]
    assert step(associator, 0, places, looks, labels=[2, 0, 5]) == [0, 1, 2]
    assert step(associator, 1, places, looks, labels=[7, 0, 5]) == [0, 1, 2]  # car and truck are one group
    assert step(associator, 2, places, looks, labels=[7, 2, 6]) == [0, 3, 4]  # a person is no car; 5 and 6 are alone


@pytest.mark.parametrize(
    ("groups", "message"),
    [(((1, 2), (2,)), "hold each class once, got 2"), ((1, 2), "groups of class numbers"), ((("car",),), "'car'")],
)
def test_bad_class_groups(groups: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        FusedAssociator(class_groups=groups)


def test_identities_are_numbered_when_they_are_confirmed() -> None:
    """Single false detections use up no number."""
    associator, given = FusedAssociator(fps=25, first_id=1), set()
    for k in range(60):
        boxes, looks, scores = [box(100 + k)], [0], [1.0]
        if k >= 40:
            boxes, looks, scores = [*boxes, box(500, 300)], [0, 1], [1.0, 0.9]
        elif k % 3 == 1:
            boxes, looks, scores = [*boxes, box(40 + (k * 97) % 500, 10, 30, 50)], [0, 2], [1.0, 0.9]
        given |= set(step(associator, k, boxes, looks, scores))
    assert given == {-1, 1, 2}


@pytest.mark.parametrize("size", [(320, 240), (960, 720), (1290, 970)])
def test_another_picture_size_scales_the_tracks(size: tuple[int, int]) -> None:
    """Look-alikes that hardly move, in a stream whose size changes; the aspect ratio stays (within 5%)."""
    associator = FusedAssociator(fps=25, first_id=1)
    for k in range(30):
        now = (640, 480) if k < 15 else size
        factors = np.tile(np.array(now) / (640, 480), 2)
        boxes = np.array([box(40 + 90 * n + k, 100 + 20 * n) for n in range(5)]) * factors
        looks = unit(LOOKS[np.zeros(5, int)] + 0.1 * RNG(k).normal(size=(5, 64)))
        ids = associator.update(boxes, np.ones(5), np.zeros(5, int), looks, k, now)
        assert ids.tolist() == [1, 2, 3, 4, 5], k
    assert associator.cuts == 0


@pytest.mark.parametrize("times", [np.arange(0, 3, 0.2), np.cumsum(np.full(15, 0.2)), 5 * np.arange(15) / 25])
def test_rounding_decides_nothing(times: np.ndarray) -> None:
    """At 25 frames a second and a stride of 5 each gap is .2 s, however it was computed: less than confirm_seconds."""
    associator = FusedAssociator(fps=30)
    for time in times:
        boxes, scores = np.array([box(100), box(300)]), np.array([1.0, 0.9])
        ids = associator.update(boxes, scores, np.zeros(2, int), LOOKS[:2], 30 * time)
        assert ids.tolist() == [0, 1]
    for more in range(3):  # another object at each third frame, seen once
        time = times[-1] + 0.2 * (more + 1)
        boxes = np.array([box(100), box(300), box(500, 20 + 150 * more)])
        ids = associator.update(boxes, np.array([1.0, 0.9, 0.9]), np.zeros(3, int), LOOKS[[0, 1, 5 + more]], 30 * time)
        assert ids.tolist() == [0, 1, -1]


def test_an_empty_frame_ends_tentative_tracks_as_another_frame_does() -> None:
    for others in ([], [box(500)]):
        associator = FusedAssociator(fps=25)
        step(associator, 0, [box(500)], [1])
        assert step(associator, 1, [box(500), box(100)], [1, 0], [1.0, 0.8]) == [0, -1]
        step(associator, 2, others, [1] * len(others))
        assert step(associator, 3, [box(500), box(100)], [1, 0], [1.0, 0.8])[1] == -1
        assert len(associator.memory) == 2


def test_empty_frames_are_misses_of_the_detector() -> None:
    """The detection probability falls, whether or not another object is there to be seen."""
    associator = FusedAssociator(fps=25)
    for k in range(50):
        step(associator, 2 * k, [box(100)], [0])
        if k == 5:
            before = associator._state.detection_probability.redetection_probability()
        step(associator, 2 * k + 1, [], [])
    assert associator._state.detection_probability.redetection_probability() < before - 0.2


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_leaving_out_old_tracks_changes_nothing(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Crowds in which objects vanish, return and are hidden: the same identities as with all pairs."""
    runs = []
    for recent in (pairs._RECENT_SECONDS, np.inf):
        monkeypatch.setattr(pairs, "_RECENT_SECONDS", recent)
        rng, associator, ids = RNG(seed), FusedAssociator(fps=10, use_appearance=seed % 2 == 0), []
        position, there = rng.uniform(0, 600, (40, 2)), rng.random(40) < 0.5
        looks = rng.normal(size=(40, 64))
        for k in range(120):
            there ^= rng.random(40) < 0.03
            position += rng.normal(0, 3, (40, 2))
            seen = np.flatnonzero(there & (rng.random(40) < 0.9))
            boxes = np.concatenate((position[seen], position[seen] + [20, 40]), axis=1)
            embeddings = looks[seen] + 0.5 * rng.normal(size=(len(seen), 64))
            scores = rng.uniform(0.65, 1, len(seen))
            ids.append(associator.update(boxes, scores, np.zeros(len(seen), int), embeddings, k, (640, 640)).tolist())
        runs.append(ids)
    assert runs[0] == runs[1]


@pytest.mark.slow
def test_what_is_remembered_costs_no_comparisons(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pairs compared in a frame, when few and when many tracks are remembered, which left long ago."""
    compared: list[int] = []
    innovations = kalman.innovations

    def counted(states: np.ndarray, covariances: np.ndarray, boxes: np.ndarray, noise: kalman.MotionNoise) -> Any:
        compared.append(len(states) * len(boxes))
        return innovations(states, covariances, boxes, noise)

    monkeypatch.setattr(kalman, "innovations", counted)
    rng, associator, half = RNG(0), FusedAssociator(fps=30), np.array([15, 35])
    looks, position, by_frame = rng.normal(size=(60, 64)), rng.uniform([0, 0], [3840, 2160], (60, 2)), []
    for k in range(200):
        gone = rng.random(60) < 0.03
        position[gone], looks[gone] = (
            rng.uniform([0, 0], [3840, 2160], (gone.sum(), 2)),
            rng.normal(size=(gone.sum(), 64)),
        )
        boxes = np.concatenate((position - half, position + half), axis=1) + rng.normal(0, 1, (60, 4))
        embeddings = looks + 0.3 * rng.normal(size=looks.shape)
        compared.clear()
        associator.update(boxes, np.full(60, 0.9), np.zeros(60, int), embeddings, k, (3840, 2160))
        by_frame.append(sum(compared))
    assert len(associator.memory) > 350
    assert np.mean(by_frame[-50:]) < 1.3 * np.mean(by_frame[30:50])


def test_a_copied_gallery_leaves_the_original_as_it_is() -> None:
    rng, gallery = RNG(0), Gallery(3, 8)
    gallery.add(unit(rng.normal(size=(5, 8))))
    for _ in range(30):
        before, vectors, counts = gallery, gallery.vectors.copy(), gallery.counts.copy()
        gallery = gallery.copy()
        gallery.renew(np.array([0, 2]), unit(rng.normal(size=(2, 8))))
        gallery.replace_newest(np.array([1]), unit(rng.normal(size=(1, 8))))
        gallery.add(unit(rng.normal(size=(2, 8))))
        gallery.keep(rng.permutation(len(gallery)) < 5)
        np.testing.assert_array_equal(before.vectors, vectors)
        np.testing.assert_array_equal(before.counts, counts)
    assert len(gallery._pool) < 60  # rows are used again


# --- the camera


def picture(shift: tuple[int, int]) -> np.ndarray:
    """A picture with large and small patterns, seen by a camera that moved."""
    import cv2

    patterns = [RNG(n).uniform(0, 64, (400 // n + 1, 520 // n + 1, 3)) for n in (4, 10, 25, 60)]
    scene = sum(cv2.resize(pattern, (520, 400)) for pattern in patterns).astype(np.uint8)
    return scene[40 + shift[1] : 340 + shift[1], 60 + shift[0] : 460 + shift[0]].copy()


def test_camera_motion_is_found() -> None:
    camera = CameraMotion()
    assert camera.estimate(picture((0, 0)), np.zeros((0, 4))) is None
    affine = camera.estimate(picture((9, -4)), np.array([[100, 100, 150, 200]]))
    np.testing.assert_allclose(affine, [[1, 0, -9], [0, 1, 4]], atol=0.3)
    assert camera.estimate(RNG(9).integers(0, 255, (300, 400, 3)).astype(np.uint8), np.zeros((0, 4))) is None  # a cut
    assert camera.estimate(np.zeros((50, 50, 3), np.uint8), np.zeros((0, 4))) is None


def test_a_camera_that_moved_far_is_found() -> None:
    camera = CameraMotion()
    camera.estimate(picture((-55, -35)), np.zeros((0, 4)))
    affine = camera.estimate(picture((55, 35)), np.zeros((0, 4)))  # more than a quarter of the picture
    np.testing.assert_allclose(affine, [[1, 0, -110], [0, 1, -70]], atol=0.5)


@pytest.mark.parametrize("who_leaves", ["camera", "thing"])
def test_what_the_camera_turned_away_from_is_not_missing(who_leaves: str) -> None:
    """An object leaves the picture, and seconds later a detection fits: its return, or another object?"""
    associator = FusedAssociator(fps=10.0, first_id=1, use_appearance=False)
    still, turn = np.array([[1.0, 0, 0], [0, 1, 0]]), np.array([[1.0, 0, -300], [0, 1, 0]])

    def see(frame: int, boxes: list[list[float]], camera: np.ndarray) -> list[int]:
        none = np.zeros(len(boxes), np.int64)
        given = np.array(boxes, np.float32).reshape(-1, 4)
        return associator.update(given, none + 1.0, none, np.ones((len(boxes), 1)), frame, (640, 480), camera).tolist()

    for frame in range(20):
        assert see(frame, [box(30), box(400)], still) == [1, 2]
    if who_leaves == "camera":
        assert see(20, [box(100)], turn) == [2]
    for frame in range(21, 60):
        assert see(frame, [box(100 if who_leaves == "camera" else 400)], still) == [2]
    if who_leaves == "camera":
        back = np.array([[1.0, 0, 300], [0, 1, 0]])
        assert see(60, [box(30), box(400)], back) == [1, 2]
    else:
        assert see(60, [box(30), box(400)], still) == [3, 2]


def test_camera_motion_keeps_identities() -> None:
    """Two objects of the same appearance stand; the camera turns by their distance from one frame to the next."""
    import supervision as sv

    class Alike:
        def embed(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
            return np.ones((len(boxes), 8), np.float32)

    found = {}
    for follow in (False, True):
        tracker = MasaTracker(Alike(), camera_motion=follow, fps=25.0)
        for x in (0, 0, 0, 0, 40):
            boxes = np.array([box(150 - x), box(190 - x), box(230 - x)], np.float32)
            ids = tracker.update(sv.Detections(boxes), picture((x, 0))).tracker_id
        found[follow] = ids.tolist()
    assert found[True] == [1, 2, 3]
    assert found[False] != [1, 2, 3]
    with pytest.raises(InputError, match="camera_motion needs"):
        MasaTracker(Alike(), "demo", camera_motion=True)
