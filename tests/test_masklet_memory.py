"""Which frames of an object's memory a frame is compared with, policy by policy. No network is needed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from masa_track.errors import InputError
from masa_track.masklets.memory import (
    NO_MOTION,
    DistractorPolicy,
    Entry,
    MotionPolicy,
    ObjectMemory,
    OfficialPolicy,
    Selection,
    VisiblePolicy,
    attended,
    find_policy,
    has_rival,
)
from masa_track.masks import mask_box


def entry(number: int, **values: Any) -> Entry:
    """An entry whose memory and pointer name its frame."""
    given = {"score": 5.0, "quality": 0.9, "area": 100, "memory": number, "pointer": number, **values}
    return Entry(mask=None, **given)


def memory(prompted: list[int], ordinary: list[int], **values: dict[int, dict[str, Any]]) -> ObjectMemory:
    changed = values.get("changed", {})
    return ObjectMemory(
        prompted={n: entry(n, **changed.get(n, {})) for n in prompted},
        ordinary={n: entry(n, **changed.get(n, {})) for n in ordinary},
    )


def frames(selection: Selection) -> list[tuple[int, int]]:
    """(row of the temporal positions, frame)."""
    return [(row, int(found.memory)) for row, found in selection.memories]


def distances(selection: Selection) -> list[tuple[int, int]]:
    """(distance, frame) of the pointers."""
    return [(distance, int(found.pointer)) for distance, found in selection.pointers]


def test_official_choice() -> None:
    found = OfficialPolicy().select(memory([1], list(range(2, 31))), 31)
    assert frames(found) == [(6, 1), (5, 25), (4, 26), (3, 27), (2, 28), (1, 29), (0, 30)]
    assert distances(found) == [(30, 1), *((d, 31 - d) for d in range(1, 16))]


def test_official_choice_backwards() -> None:
    found = OfficialPolicy().select(memory([30], list(range(10, 30))), 9, reverse=True)
    assert frames(found) == [(6, 30), (5, 15), (4, 14), (3, 13), (2, 12), (1, 11), (0, 10)]
    assert distances(found)[:3] == [(21, 30), (1, 10), (2, 11)]


def test_prompted_frames_of_the_future_give_no_pointers() -> None:
    found = OfficialPolicy().select(memory([1, 20], [2, 3]), 4)
    assert frames(found) == [(6, 1), (6, 20), (1, 2), (0, 3)]
    assert distances(found) == [(3, 1), (1, 3), (2, 2)]


def test_pointers_end_with_the_clip() -> None:
    whole = memory([2], list(range(3, 10)))
    assert [d for d, _ in distances(OfficialPolicy().select(whole, 6, pointers=4, clip_length=9))] == [4, 1, 2, 3]
    backwards = OfficialPolicy().select(memory([12], [9, 10, 11]), 8, True, 9, clip_length=10)
    assert distances(backwards) == [(4, 12), (1, 9), (2, 10)]  # frame 11 is beyond the clip


def test_prompted_frames_that_are_attended_to() -> None:
    prompted = {n: entry(n) for n in (1, 5, 9, 13, 17)}
    near, far = attended(10, prompted, 3)
    assert list(near) == [9, 13, 5]  # the last before, the first after, then the nearest
    assert list(far) == [1, 17]
    assert attended(10, prompted, None) == (prompted, {})
    found = OfficialPolicy().select(memory([1, 5, 9], [2, 3, 4, 6, 7, 8]), 10, most_prompted=2)
    assert frames(found)[:2] == [(6, 9), (6, 5)]
    assert (5, 4) in frames(found)
    found = OfficialPolicy().select(memory([1, 2, 3], [4]), 5, most_prompted=2)
    assert frames(found) == [(6, 3), (6, 2), (3, 1), (0, 4)]  # the one left out counts as a recent frame


def test_dropped_memories_are_passed_over() -> None:
    found = OfficialPolicy().select(memory([1], [4, 5], changed={4: {"memory": None}}), 6)
    assert frames(found) == [(6, 1), (0, 5)]
    assert (2, 4) in distances(found)


def test_distractor_aware_recent_frames() -> None:
    """The last frame, then those of a grid of 5 in which the object was seen; rows by rank in time."""
    tracked = memory([1], list(range(2, 40)), changed={26: {"area": 0}})
    found = DistractorPolicy().select(tracked, 40)
    assert frames(found) == [(6, 1), (5, 11), (4, 16), (3, 21), (2, 31), (1, 36), (0, 39)]
    anchored = memory([1, 21, 30], [n for n in range(2, 40) if n not in (21, 30)])
    found = DistractorPolicy().select(anchored, 40)
    assert frames(found) == [(6, 1), (6, 21), (6, 30), (3, 26), (2, 31), (1, 36), (0, 39)]  # two less


def test_distractor_aware_anchors() -> None:
    policy, tracked = DistractorPolicy(), memory([1], list(range(2, 20)))
    sure = {"rival": True, "quality": 0.9}
    assert policy.becomes_prompted(tracked, 20, entry(20, **sure))
    for other in ({"quality": 0.7}, {"rival": False}, {"area": 130}, {"area": 75}, {"area": 0}):
        assert not policy.becomes_prompted(tracked, 20, entry(20, **{**sure, **other}))
    tracked.prompted[16] = entry(16)
    assert not policy.becomes_prompted(tracked, 20, entry(20, **sure))  # too near to the last anchor
    assert not OfficialPolicy().becomes_prompted(memory([1], [2]), 20, entry(20, **sure))


def test_rivals() -> None:
    chosen, beside, around = (np.zeros((40, 40), bool) for _ in range(3))
    chosen[5:15, 5:15] = True
    beside[5:15, 25:35] = True
    around[5:16, 5:16] = True
    assert has_rival(chosen, np.stack([around, beside]))
    assert not has_rival(chosen, np.stack([around, chosen]))
    assert not has_rival(np.zeros_like(chosen), np.stack([beside, beside]))
    assert mask_box(chosen).tolist() == [5, 5, 15, 15]


def test_motion_aware_recent_frames() -> None:
    """Unsure, absent and badly moved frames are passed over; the last one never."""
    changed: dict[int, dict[str, Any]] = {
        29: {"quality": 0.2},
        27: {"quality": 0.4},
        26: {"score": -1.0},
        25: {"motion": 0.0},
        24: {"motion": NO_MOTION},
    }
    found = MotionPolicy().select(memory([1], list(range(10, 30)), changed=changed), 30)
    assert frames(found) == [(6, 1), (5, 21), (4, 22), (3, 23), (2, 24), (1, 28), (0, 29)]


def test_motion_aware_choice_of_a_candidate() -> None:
    """A box that moves 4 pixels a frame: once it was stable for 15 frames, the candidate that is there is preferred."""
    policy, tracked = MotionPolicy(), ObjectMemory()

    def box(step: float) -> np.ndarray:
        return np.array([10 + 4 * step, 20, 30 + 4 * step, 50.0])

    qualities, boxes = np.array([0.80, 0.85]), np.stack([box(15), box(15) + np.array([30, 0, 30, 0])])
    for step in range(15):
        chosen, motion = policy.choose(tracked, qualities, boxes)
        assert (chosen, motion) == (1, NO_MOTION)
        policy.committed(tracked, entry(step + 1), box(step))
    chosen, motion = policy.choose(tracked, qualities, boxes)
    assert chosen == 0
    assert motion > 0.8
    assert policy.choose(tracked, np.array([0.5, 0.9]), boxes)[0] == 1  # .3 of predicted IoU outweigh it
    policy.committed(tracked, entry(16, quality=0.2), box(15))
    assert policy.choose(tracked, qualities, boxes) == (1, NO_MOTION)  # an unsure mask starts the count anew


def test_an_unknown_policy() -> None:
    with pytest.raises(InputError, match="did you mean 'distractor'"):
        find_policy("distractors")


def test_visible_choice() -> None:
    """Frames in which the object was visible, however long ago, and the last one; the oldest gives no pointer."""
    hidden = {n: {"score": -5.0} for n in range(20, 31)} | {10: {"quality": 0.005}}
    kept = memory([1], list(range(2, 31)), changed=hidden)
    found = VisiblePolicy().select(kept, 31)
    assert frames(found) == [(6, 1), (5, 15), (4, 16), (3, 17), (2, 18), (1, 19), (0, 30)]
    last = [30, *range(19, 10, -1), *range(9, 3, -1)]
    assert distances(found) == [(30, 1), *((rank, n) for rank, n in enumerate(last[:-1], 1))]


def test_visible_choice_of_few_frames() -> None:
    found = VisiblePolicy().select(memory([1], []), 2)
    assert frames(found) == [(6, 1)]  # frame 1 is attended to once
    assert distances(found) == [(1, 1)]
    found = VisiblePolicy().select(memory([1], [2, 3]), 4)
    assert frames(found) == [(6, 1), (1, 2), (0, 3)]
    assert distances(found) == [(3, 1), (1, 3)]
    found = VisiblePolicy().select(memory([9], [8, 7]), 6, reverse=True)
    assert frames(found) == [(6, 9), (1, 8), (0, 7)]


def test_visible_choice_needs_no_more_than_it_says() -> None:
    """The same choice from what is kept, whatever was visible, and no more of it however long the video."""
    rng, policy = np.random.default_rng(0), VisiblePolicy()
    everything, kept = memory([1], []), memory([1], [])
    for number in range(2, 120):
        made = entry(number, score=5.0 if rng.random() < 0.4 + 0.5 * (number < 60) else -5.0)
        everything.ordinary[number] = kept.ordinary[number] = made
        needed = policy.needed(kept.ordinary, number)
        kept.ordinary = {
            n: replace(e, memory=e.memory if needed[n] else None) for n, e in kept.ordinary.items() if n in needed
        }
        one, other = (policy.select(m, number + 1) for m in (everything, kept))
        assert frames(one) == frames(other)
        assert distances(one) == distances(other)
        assert len(kept.ordinary) <= 16
        assert sum(e.memory is not None for e in kept.ordinary.values()) <= 7
