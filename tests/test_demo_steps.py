"""The post-processing of the authors' demo on arrays: by hand, and against slow twins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from masa_track.errors import InputError
from masa_track.formats.run import Run
from masa_track.runs.demo_steps import STEPS, demo_run, giant_tracks, parse_steps

SIDE = 400


def a_run(rows: list[int], ids: list[int], boxes: object, scores: list[float], frames: int = 40) -> Run:
    """A run of a picture of 400 x 400 pixels; its rows may be in any order."""
    order = np.argsort(rows, kind="stable")
    count = len(rows)
    return Run(
        path=Path("tracks.json"),
        name="clip",
        width=SIDE,
        height=SIDE,
        fps=10.0,
        class_names={},
        frames=np.arange(1, 3 * frames, 3),  # every third frame was tracked
        times=np.arange(0, 3 * frames, 3) / 10.0,
        file_names=[""] * frames,
        rows=np.array(rows, np.int64)[order],
        ids=np.array(ids, np.int64)[order],
        classes=np.arange(count)[order],
        boxes=np.array(boxes, np.float64).reshape(-1, 4)[order],
        scores=np.array(scores, np.float64)[order],
        masks=(),
        filled=np.zeros(count, bool),
        smoothed=np.zeros(count, bool),
        cuts=np.zeros(0, np.int64),
    )


SMALL = [[10.0 + 20 * i, 10, 20 + 20 * i, 20] for i in range(9)]
LARGE = [0.0, 0, 200, 200]  # covers the nine


@pytest.mark.parametrize(
    ("covered", "score", "box", "others", "giant"),
    [
        (4, 0.3, LARGE, 0.5, True),
        (3, 0.3, LARGE, 0.5, False),  # too few
        (4, 0.6, LARGE, 0.5, False),  # scores more than those it covers
        (6, 0.6, LARGE, 0.5, False),
        (7, 0.6, LARGE, 0.5, True),  # so many that its score has no effect
        (7, 0.1, LARGE, 0.2, False),  # others of low scores do not count
        (4, 0.3, [0, 0, 99, 99], 0.5, False),  # below 10,000 square pixels
        (4, 0.3, [17.4, 0, 217, 200], 0.5, False),  # three quarters of the first are not covered
        (1, 0.9, [0, 0, 330, 330], 0.5, True),  # more than two thirds of the picture
        (0, 0.9, [0, 0, 330, 330], 0.5, False),  # alone in its frame
    ],
)
def test_giants_by_hand(covered: int, score: float, box: list[float], others: float, giant: bool) -> None:
    """A track is removed from all frames for a giant box in one of them."""
    rows = [5] * (covered + 1) + [6]
    ids = [*range(1, covered + 1), 99, 99]
    run = a_run(rows, ids, [*SMALL[:covered], box, [0, 0, 20, 20]], [others] * covered + [score, 0.9])
    assert giant_tracks(run.rows, run.ids, run.boxes, run.scores, SIDE * SIDE).tolist() == ([99] if giant else [])
    done = demo_run(run, ["giants"])
    assert (99 in done.ids) != giant
    assert len(done.ids) == len(done.boxes) == len(done.smoothed) == covered + (0 if giant else 2)
    assert not done.smoothed.any()


def test_boxes_and_scores_are_means_of_parts_without_a_gap() -> None:
    rng = np.random.default_rng(3)
    rows, ids = [], []
    for track, times in ((7, [*range(12), *range(20, 24), *range(30, 35)]), (3, range(4, 12)), (8, [39])):
        rows += list(times)
        ids += [track] * len(list(times))
    low = rng.uniform(0, 90, (len(rows), 2)).round(3)
    run = a_run(rows, ids, np.column_stack((low, low + 9)), rng.uniform(0, 1, len(rows)).tolist())
    done = demo_run(run)
    place = {key: i for i, key in enumerate(zip(run.rows.tolist(), run.ids.tolist(), strict=True))}
    for (row, track), i in place.items():
        first, last = row, row
        while (first - 1, track) in place:
            first -= 1
        while (last + 1, track) in place:
            last += 1
        part = [place[time, track] for time in range(first, last + 1)]
        assert done.scores[i] == pytest.approx(run.scores[part].mean())
        window = [place[min(max(time, first), last), track] for time in range(row - 2, row + 3)]
        expected = run.boxes[window].mean(axis=0) if len(part) >= 5 else run.boxes[i]
        assert np.allclose(done.boxes[i], expected, atol=1e-3)
        assert done.smoothed[i] == (len(part) >= 5)
    assert done.smoothed.sum() == 12 + 5 + 8
    assert (demo_run(run, ["boxes"]).scores == run.scores).all()
    assert (demo_run(run, ["scores"]).boxes == run.boxes).all()
    with pytest.raises(InputError, match="holds finished tracks: leave out --post, or add --online"):
        demo_run(done)


def test_no_boxes_and_names_of_steps() -> None:
    assert len(demo_run(a_run([], [], [], [])).ids) == 0
    assert parse_steps("scores, giants") == ("giants", "scores")
    assert parse_steps("demo") == parse_steps("boxes,demo") == STEPS
    with pytest.raises(InputError, match="unknown step in --post 'gaints': did you mean 'giants'"):
        parse_steps("boxes,gaints")
