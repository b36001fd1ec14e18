"""Parts of things: their parents, and identities that last."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from masa_track.contracts import Observation
from masa_track.errors import InputError
from masa_track.parts.hierarchy import parse_hierarchy
from masa_track.parts.tree import FIRST_PART_ID, PartIdentities, PartTracker, assign_parents

PERSON, HEAD, EAR, HAND, DOG, DOG_HEAD = range(6)
HIERARCHY = parse_hierarchy("person[head[ear], hand]. dog[head]")
Row = tuple[int, Sequence[float], int]  # class, box, identity of a thing

# Of a person in 0..1.
PLACES = {"head": (HEAD, (0.35, 0, 0.65, 0.2)), "ear": (EAR, (0.36, 0.08, 0.4, 0.12))}
PLACES |= {"left": (HAND, (0.0, 0.45, 0.15, 0.6)), "right": (HAND, (0.85, 0.45, 1.0, 0.6))}


def person(x: float, y: float, identity: int, parts: str = "head left right", size: float = 100) -> list[Row]:
    """A person of size x 2 size with the named parts."""
    box = np.array([x, y, x + size, y + 2 * size])
    found: list[Row] = [(PERSON, box.tolist(), identity)]
    for name in parts.split():
        label, place = PLACES[name]
        found.append((label, (box[[0, 1, 0, 1]] + np.array(place) * np.tile([size, 2 * size], 2)).tolist(), -1))
    return found


def step(tracker: PartTracker, number: int, rows: list[Row], masks: np.ndarray | None = None) -> PartIdentities:
    boxes = np.array([box for _, box, _ in rows], np.float32).reshape(-1, 4)
    labels = np.array([label for label, _, _ in rows], np.int64)
    seen = Observation(number, number / 25, None, boxes, np.full(len(rows), 0.8, np.float32), labels)
    return tracker.update(seen, np.array([identity for _, _, identity in rows], np.int64), masks)


def test_parts_have_identities_of_their_own_at_three_levels() -> None:
    tracker = PartTracker(HIERARCHY)
    first = step(tracker, 1, person(0, 0, 7, "head ear left right"))
    assert first.parents.tolist() == [-1, 0, 1, 0, 0]
    head = int(first.identities[1])
    assert first.parent_ids.tolist() == [-1, 7, head, 7, 7]
    assert first.identities[0] == 7
    assert min(first.identities[1:]) >= FIRST_PART_ID
    assert len(set(first.identities.tolist())) == 5
    for number in range(2, 20):  # the person moves by a tenth of its width in each frame and grows
        later = step(tracker, number, person(10 * number, 3 * number, 7, "head ear left right", 100 + number))
        assert later.identities.tolist() == first.identities.tolist()


def test_a_hidden_hand_is_found_by_its_place_in_its_parent() -> None:
    """After 10 s in which the person went on; the other hand is seen all the time."""
    tracker = PartTracker(HIERARCHY)
    first = step(tracker, 1, person(0, 0, 7))
    for number in range(2, 250, 3):
        assert step(tracker, number, person(4 * number, 0, 7, "head right")).identities.tolist() == [
            *(7, first.identities[1], first.identities[3])
        ]
    later = step(tracker, 252, person(1008, 0, 7, "right left head"))
    assert later.identities.tolist() == first.identities[[0, 3, 2, 1]].tolist()


def test_parts_return_with_their_thing() -> None:
    """After 20 s without it, at another place; another person's parts in between are new ones."""
    tracker = PartTracker(HIERARCHY)
    first = step(tracker, 1, person(0, 0, 7))
    other = step(tracker, 2, person(500, 0, 8))
    for number in range(3, 500, 10):
        step(tracker, number, person(500, 0, 8) if number % 4 == 3 else [])
    later = step(tracker, 500, [*person(500, 0, 8), *person(900, 100, 7)])
    assert later.identities.tolist() == [*other.identities.tolist(), *first.identities.tolist()]
    assert not set(first.identities.tolist()) & set(other.identities.tolist())


def test_a_part_does_not_grow_old_while_its_thing_is_out_of_view() -> None:
    """After 10 s without the thing, a hand counts as the same at a place where one missing that long would not."""
    for away in ("thing", "hand"):
        tracker = PartTracker(HIERARCHY)
        first = [step(tracker, number, person(0, 0, 7, "left")) for number in range(1, 5)][-1]
        for number in range(5, 250, 2):
            step(tracker, number, [] if away == "thing" else person(0, 0, 7, ""))
        later = step(tracker, 250, [*person(0, 0, 7, ""), (HAND, (40, 90, 55, 120), -1)])
        assert (later.identities[1] == first.identities[1]) == (away == "thing")


def test_a_part_without_a_parent_and_a_parent_without_parts() -> None:
    tracker = PartTracker(HIERARCHY)
    alone = [person(0, 0, 7)[1], *person(500, 0, 8, "")]
    found = step(tracker, 1, alone)
    assert found.identities.tolist() == [-1, 8]
    assert found.parents.tolist() == [-1, -1]
    tentative = step(tracker, 2, person(0, 0, -1))
    assert tentative.parents.tolist() == [-1, 0, 0, 0]
    assert tentative.identities.tolist() == tentative.parent_ids.tolist() == [-1] * 4
    assert step(tracker, 3, []).identities.shape == (0,)


def test_a_part_that_was_given_to_another_parent_returns_to_its_identity() -> None:
    tracker = PartTracker(HIERARCHY)
    both = [*person(0, 0, 7), *person(90, 0, 8, "head")]  # the right hand of 7 is in front of 8
    first = step(tracker, 1, both)
    wrong = [*both[:3], (HAND, (91, 90, 106, 120), -1), *both[4:]]
    moved = step(tracker, 2, wrong)
    assert moved.parents[3] == 4
    assert moved.parent_ids[3] == 8
    assert moved.identities[3] not in first.identities
    assert step(tracker, 3, both).identities.tolist() == first.identities.tolist()


def test_order_of_rows_makes_no_difference() -> None:
    rng = np.random.default_rng(0)
    plain, shuffled = PartTracker(HIERARCHY), PartTracker(HIERARCHY)
    for number in range(1, 20):
        rows = [row for i in range(3) for row in person(150 * i + 4 * number, 0, i, "head ear left right")]
        rows = [(label, np.add(box, rng.normal(0, 0.3, 4)).tolist(), identity) for label, box, identity in rows]
        order = rng.permutation(len(rows))
        expected = step(plain, number, rows)
        found = step(shuffled, number, [rows[i] for i in order])
        if number == 1:
            name = dict(zip(found.identities.tolist(), expected.identities[order].tolist(), strict=True))
        assert [name[i] for i in found.identities.tolist()] == expected.identities[order].tolist()


def test_500_parts() -> None:
    hierarchy = parse_hierarchy("person[hand]")
    tracker = PartTracker(hierarchy)
    rows: list[Row] = []
    for i in range(50):
        rows.append((0, (200 * i, 0, 200 * i + 150, 300), i))
        rows += [(1, (200 * i + 14 * k, 100, 200 * i + 14 * k + 12, 115), -1) for k in range(10)]
    first = step(tracker, 1, rows)
    assert len(set(first.identities.tolist())) == 550
    for number in (2, 3):
        assert step(tracker, number, rows).identities.tolist() == first.identities.tolist()


def test_masks_decide_where_boxes_overlap() -> None:
    """Two persons who hug: the head lies in both boxes, and in the mask of the second."""
    labels = np.array([PERSON, PERSON, HEAD, DOG])
    boxes = np.array([[0, 0, 60, 90], [20, 0, 99, 99], [30, 10, 50, 30], [0, 0, 99, 99]])
    masks = np.zeros((4, 100, 100), bool)
    masks[0, :, :35] = masks[1, :, 35:] = masks[2, 10:30, 30:50] = masks[3] = True
    assert assign_parents(HIERARCHY, labels, boxes).tolist() == [-1, -1, 0, -1]  # both hold it: the smaller box
    assert assign_parents(HIERARCHY, labels, boxes, masks).tolist() == [-1, -1, 1, -1]
    swapped = [1, 0, 2, 3]
    assert assign_parents(HIERARCHY, labels, boxes[swapped]).tolist() == [-1, -1, 1, -1]
    masks[1] = False
    assert assign_parents(HIERARCHY, labels, boxes, masks).tolist() == [-1, -1, -1, -1]  # a quarter is too little
    assert assign_parents(HIERARCHY, labels, boxes, masks, least_share=0.25).tolist() == [-1, -1, 0, -1]
    masks[2] = False  # no pixels
    assert assign_parents(HIERARCHY, labels, boxes, masks).tolist() == [-1, -1, -1, -1]


def interrupted(observation: Observation) -> None:
    raise KeyboardInterrupt


def test_a_refused_frame_leaves_no_trace_and_a_state_goes_on() -> None:
    tracker, rows = PartTracker(HIERARCHY), person(0, 0, 7, "head ear left right")
    first = step(tracker, 1, rows)
    with pytest.raises(InputError, match="time"):
        step(tracker, 1, rows)
    with pytest.raises(InputError, match="must belong to one thing"):
        step(tracker, 2, [*rows, *person(300, 0, 7)])
    with pytest.raises(InputError, match=r"labels must be classes 0\.\.5"):
        step(tracker, 2, [*rows, (6, (0, 0, 9, 9), -1)])
    levels = tracker._levels
    levels[1].update = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        step(tracker, 2, rows)
    del levels[1].update
    other = PartTracker(HIERARCHY)
    other.load_state_dict(tracker.state_dict())
    for one in (tracker, other):
        assert step(one, 2, rows).identities.tolist() == first.identities.tolist()
    with pytest.raises(InputError, match="state must"):
        other.load_state_dict({})
    assert step(other, 3, rows).identities.tolist() == first.identities.tolist()
    other.reset()
    assert step(other, 1, rows).identities.tolist() == first.identities.tolist()
