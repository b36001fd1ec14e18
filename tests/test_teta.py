"""TETA: small cases by hand, random ones against plain loops, a tracker's three kinds of fault kept apart."""

from dataclasses import asdict

import numpy as np
import pytest
from slow_teta import slow_teta

from masa_track.evaluation.teta import (
    ClassTracks,
    TetaScores,
    add_counts,
    count_video,
    score_teta,
    scores_of,
)

CAR, BUS = 3, 5


def box(place: float, size: float = 10.0) -> tuple[float, float, float, float]:
    return (place, 0.0, place + size, 10.0)


def tracks(rows) -> ClassTracks:
    columns = list(zip(*rows, strict=True)) if rows else [(), (), (), ()]
    frames, ids, classes = (np.array(column, np.int64) for column in columns[:3])
    return ClassTracks(frames, ids, classes, np.array(columns[3], np.float64).reshape(-1, 4))


def score(truth, found, **options) -> TetaScores:
    return score_teta([(tracks(truth), tracks(found))], **options).overall


# Two cars and a bus over four frames, far apart.
TRUTH = [(t, i, cls, box(100 * i)) for t in range(1, 5) for i, cls in ((1, CAR), (2, CAR), (3, BUS))]


@pytest.mark.parametrize("exhaustive", [False, True])
def test_perfect_tracks_score_one(exhaustive):
    found = [(t, i + 40, cls, where) for t, i, cls, where in TRUTH]
    assert set(asdict(score(TRUTH, found, exhaustive=exhaustive)).values()) == {1.0}


@pytest.mark.parametrize("exhaustive", [False, True])
def test_no_tracks_score_zero(exhaustive):
    assert set(asdict(score(TRUTH, [], exhaustive=exhaustive)).values()) == {0.0}


def test_a_wrong_class_costs_classification_alone():
    # The second car is called a bus: cars 4 right of 8, buses 4 right and 4 false.
    found = [(t, i, BUS if i == 2 else cls, where) for t, i, cls, where in TRUTH]
    result = score_teta([(tracks(TRUTH), tracks(found))])
    car, bus = result.classes[CAR], result.classes[BUS]
    assert (car.loc_a, car.assoc_a, bus.loc_a, bus.assoc_a) == (1, 1, 1, 1)
    assert (car.cls_a, car.cls_re, car.cls_pr) == (0.5, 0.5, 1)
    assert (bus.cls_a, bus.cls_re, bus.cls_pr) == (0.5, 1, 0.5)
    assert result.overall.teta == pytest.approx((1 + 1 + 0.5) / 3)


def test_swapped_identities_cost_association_alone():
    # The cars swap half way: each of their boxes is in a pair of tracks with 2 of 4 + 4 - 2 together.
    found = [(t, 3 - i if t > 2 and i < 3 else i, cls, where) for t, i, cls, where in TRUTH]
    result = score_teta([(tracks(TRUTH), tracks(found))])
    assert (result.overall.loc_a, result.overall.cls_a) == (1, 1)
    assert result.classes[CAR].assoc_a == pytest.approx(2 / 6)
    assert (result.classes[CAR].assoc_re, result.classes[CAR].assoc_pr) == (0.5, 0.5)
    assert result.classes[BUS].assoc_a == 1


def test_misplaced_boxes_cost_localisation_by_threshold():
    # IoU is 6 / 10 everywhere: 13 of 20 thresholds are passed, and classification is asked at 3 of its 10.
    found = [(t, i, cls, (where[0], 0, where[2] - 4, 10)) for t, i, cls, where in TRUTH]
    result = score(TRUTH, found)
    assert result.loc_a == pytest.approx(13 / 20)
    assert result.assoc_a == pytest.approx(13 / 20)
    assert result.cls_a == pytest.approx(3 / 10)


def test_what_is_in_no_cluster_is_not_held_against_the_tracker():
    perfect = [(t, i, cls, where) for t, i, cls, where in TRUTH]
    elsewhere = [(t, 9, cls, box(900)) for t, cls in ((1, CAR), (2, BUS), (3, 77))]
    beside = [(t, 8, CAR, box(100 + 6)) for t in range(1, 5)]  # IoU 4 / 16 with the first car: in no cluster
    assert set(asdict(score(TRUTH, perfect + elsewhere + beside)).values()) == {1.0}
    # In exhaustive truth it costs classification: cars have 5 false of 13, buses 1 of 5, and what no truth is called
    # costs nobody.
    result = score_teta([(tracks(TRUTH), tracks(perfect + elsewhere + beside))], exhaustive=True)
    assert (result.overall.loc_a, result.overall.assoc_a) == (1, 1)
    assert result.classes[CAR].cls_a == pytest.approx(8 / 13)
    assert result.classes[BUS].cls_a == pytest.approx(4 / 5)


def test_a_second_box_in_a_cluster_is_false():
    # IoU 9 / 11 with the first car, which is taken; association: the other track is never matched.
    found = TRUTH + [(t, 8, CAR, box(101)) for t in range(1, 5)]
    result = score_teta([(tracks(TRUTH), tracks(found))])
    assert result.classes[CAR].loc_a == pytest.approx(8 / 12)
    assert (result.classes[CAR].loc_re, result.classes[CAR].assoc_a, result.classes[CAR].cls_a) == (1, 1, 1)
    assert result.classes[BUS].teta == 1


def test_a_box_of_another_class_in_the_cluster_of_ours_is_not_false():
    # A bus stands before a car (IoU 9 / 11), both are found: the bus's box is matched with the bus.
    truth = [(t, i, cls, box(i)) for t in (1, 2) for i, cls in ((1, CAR), (2, BUS))]
    result = score_teta([(tracks(truth), tracks(truth))])
    assert result.classes[CAR].teta == result.classes[BUS].teta == 1


def test_frames_without_truth_are_not_scored():
    # TAO has truth once a second; the tracks' boxes between count for nothing, also not for their length.
    found = TRUTH + [(t, i, BUS, where) for t, i, _, where in TRUTH for t in (t + 10,)]
    assert score(TRUTH, found, exhaustive=True).teta == 1


def random_video(rng: np.random.Generator):
    truth, found = [], []
    for frame in range(int(rng.integers(1, 6))):
        for i in rng.permutation(4)[: rng.integers(0, 5)]:
            x, y = 12.0 * i + rng.uniform(-4, 4), rng.uniform(0, 6)
            truth.append((frame, int(i), int(i) % 3, (x, y, x + 14, y + 14)))
            if rng.random() < 0.8:
                x, y = x + rng.uniform(-5, 5), y + rng.uniform(-3, 3)
                cls = int(i) % 3 if rng.random() < 0.6 else int(rng.integers(0, 5))
                other = int(i) if rng.random() < 0.7 else int(rng.integers(10, 14))
                if (frame, other) not in {row[:2] for row in found}:
                    found.append((frame, other, cls, (x, y, x + 14, y + 14)))
        for extra in range(int(rng.integers(0, 3))):
            x = rng.uniform(0, 60)
            found.append((frame, 20 + extra, int(rng.integers(0, 5)), (x, 0.0, x + 14, 14.0)))
    return truth, found


@pytest.mark.parametrize("exhaustive", [False, True])
@pytest.mark.parametrize("seed", range(40))
def test_equals_plain_loops(seed, exhaustive):
    rng = np.random.default_rng(seed)
    videos = [random_video(rng) for _ in range(3)]
    if not any(truth for truth, _ in videos):
        videos.append((TRUTH, TRUTH))
    fast = score_teta([(tracks(truth), tracks(found)) for truth, found in videos], exhaustive)
    slow = slow_teta(videos, exhaustive)
    assert asdict(fast.overall) == pytest.approx(slow.pop(None), abs=1e-12)
    assert set(fast.classes) == set(slow)
    for cls, scores in fast.classes.items():
        assert asdict(scores) == pytest.approx(slow[cls], abs=1e-12)


def test_order_of_rows_and_names_of_ids_do_not_matter():
    # All boxes overlap: at threshold 0 pairs that do not are a tie, and their order decides, as in the authors' tool.
    rng = np.random.default_rng(5)
    places = rng.uniform(0, 8, (2, 4, 3))
    truth, found = ([(t, i, i % 2, box(side[t, i])) for t in range(4) for i in range(3)] for side in places)
    other = [(t + 7, 3 * i + 100, cls, where) for t, i, cls, where in found]
    moved = [(t + 7, 9 * i + 2, cls, where) for t, i, cls, where in truth]
    rng.shuffle(moved)
    assert asdict(score(moved, other)) == pytest.approx(asdict(score(truth, found)))
    assert 0.3 < score(truth, found).teta < 0.9


def test_counts_of_processes_add_up():
    rng = np.random.default_rng(3)
    videos = [tuple(map(tracks, random_video(rng))) for _ in range(6)]
    halves: list[dict] = [{}, {}]
    for i, video in enumerate(videos):
        add_counts(halves[i % 2], count_video(*video))
    add_counts(halves[0], halves[1])
    assert asdict(scores_of(halves[0]).overall) == pytest.approx(asdict(score_teta(videos).overall))


def test_joined_frames_are_the_rows():
    joined = ClassTracks.from_frames(
        [(1, [4, 5], [0, 1], [[0, 0, 1, 1], [2, 2, 3, 3]]), (2, [], [], []), (3, [4], [0], [[1, 1, 2, 2]])]
    )
    assert joined.frames.tolist() == [1, 1, 3]
    assert joined.ids.tolist() == [4, 5, 4]
    assert joined.boxes.tolist() == [[0, 0, 1, 1], [2, 2, 3, 3], [1, 1, 2, 2]]
    assert len(ClassTracks.from_frames([])) == 0


def test_what_is_no_tracks_is_refused():
    with pytest.raises(ValueError, match="ids must be at most once in a frame, got 1 that"):
        tracks([(1, 7, 0, box(0)), (1, 7, 0, box(30))])
    with pytest.raises(ValueError, match=r"boxes must be \(1, 4\), got \(1, 5\)"):
        ClassTracks(np.ones(1), np.ones(1), np.ones(1), np.ones((1, 5)))
    with pytest.raises(ValueError, match="must hold truth"):
        score_teta([(tracks([]), tracks(TRUTH))])
