"""Short gaps filled, boxes smoothed."""

from __future__ import annotations

import numpy as np
import pytest

from masa_track.errors import InputError
from masa_track.association.offline import fill_gaps, smooth


def walk(frames: list[int], step: float = 2.0) -> np.ndarray:
    return np.array([[step * f, 5, step * f + 10, 25] for f in frames], float)


def test_gaps_are_filled_as_by_hand() -> None:
    seen = [1, 2, 5, 6, 20]
    frames = np.array([*seen, 3, 1])
    ids = np.array([7] * 5 + [8, 8])
    boxes = np.concatenate((walk(seen), walk([3, 1], 0)))
    order = np.random.default_rng(0).permutation(7)
    got_frames, got_ids, got, source, filled = fill_gaps(frames[order], ids[order], boxes[order], 2)
    expected = [(f, 7) for f in (1, 2, 3, 4, 5, 6, 20)] + [(f, 8) for f in (1, 2, 3)]
    assert list(zip(got_frames.tolist(), got_ids.tolist(), strict=True)) == sorted(expected)
    np.testing.assert_allclose(got[got_ids == 7], walk([1, 2, 3, 4, 5, 6, 20]))


def test_smoothing_leaves_an_even_walk_and_smooths_a_shaky_one() -> None:
    frames, ids = np.arange(60), np.zeros(60, int)
    np.testing.assert_allclose(smooth(frames, ids, walk(range(60)), 3), walk(range(60)), atol=1e-9)
    shaky = walk(range(60)) + np.random.default_rng(0).normal(0, 2, (60, 4))
    calm = smooth(frames, ids, shaky, 3)
    assert np.abs(calm - walk(range(60))).mean() < 0.5 * np.abs(shaky - walk(range(60))).mean()
    order = np.random.default_rng(1).permutation(60)
    np.testing.assert_allclose(smooth(frames[order], ids, shaky[order], 3), calm[order])
    np.testing.assert_allclose(smooth(frames[:1], ids[:1], shaky[:1], 3), shaky[:1])


def test_tracks_do_not_touch_each_other() -> None:
    frames, ids = np.repeat(np.arange(20), 2), np.tile([1, 2], 20)
    boxes = np.where(ids[:, None] == 1, 0.0, 100.0) + walk(frames.tolist())
    np.testing.assert_allclose(smooth(frames, ids, boxes, 2), boxes, atol=1e-9)
    assert len(fill_gaps(frames, ids, boxes, 5).frames) == 40


def test_nothing_and_nonsense() -> None:
    nothing = np.zeros(0, int), np.zeros(0, int), np.zeros((0, 4))
    assert [len(part) for part in fill_gaps(*nothing, 3)] == [0] * 5
    assert smooth(*nothing, 1).shape == (0, 4)
    with pytest.raises(InputError, match="one twice"):
        fill_gaps(np.array([1, 1]), np.array([2, 2]), np.zeros((2, 4)), 3)
    with pytest.raises(InputError, match=r"boxes \(N, 4\), got"):
        smooth(np.zeros(2), np.zeros(2), np.zeros((3, 4)), 1)
    with pytest.raises(InputError, match="width must be above 0"):
        smooth(*nothing, 0)
