"""Identities of parts where persons meet, part and hide, with scripted detections; and what appearance adds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from masa_track.association.evidence.fused import FusedAssociator
from masa_track.boxes import coverage
from masa_track.contracts import Observation
from masa_track.errors import InputError
from masa_track.parts.hierarchy import parse_hierarchy
from masa_track.parts.tree import PartIdentities, PartTracker

PERSON, HEAD, HAND = range(3)
TREE = parse_hierarchy("person[head, hand]")
Row = tuple[int, Sequence[float], int]  # class, box, identity of a thing


def step(
    tracker: PartTracker,
    number: int,
    rows: list[Row],
    masks: np.ndarray | None = None,
    embeddings: np.ndarray | None = None,
) -> PartIdentities:
    boxes = np.array([box for _, box, _ in rows], np.float32).reshape(-1, 4)
    labels = np.array([label for label, _, _ in rows], np.int64)
    scores = np.full(len(rows), 0.8, np.float32)
    seen = Observation(number, number / 25, None, boxes, scores, labels, embeddings)
    return tracker.update(seen, np.array([identity for _, _, identity in rows], np.int64), masks)


def painted(boxes: Sequence[Sequence[float]], size: tuple[int, int] = (200, 300)) -> np.ndarray:
    masks = np.zeros((len(boxes), *size), bool)
    for mask, box in zip(masks, boxes, strict=True):
        x1, y1, x2, y2 = np.round(box).astype(int).clip(0)
        mask[y1:y2, x1:x2] = True
    return masks


def test_two_persons_whose_hands_overlap() -> None:
    """They shake hands: the boxes of both hands lie in both persons' boxes. Masks give each hand its person."""
    tracker = PartTracker(TREE)
    first = None
    for number in range(1, 30):
        reach = min(number, 25)  # the right hand of 7 and the left hand of 8 come closer and cross by a half
        left, right = (0, 0, 100, 200), (110 - reach, 0, 210 - reach, 200)
        hands = [(90, 90, 104, 110), (106 - reach, 90, 120 - reach, 110)]
        masks = painted([left, right, *hands])
        masks[2] &= ~masks[3]  # the hand of 8 is in front
        masks[0] = (masks[0] | masks[2]) & ~masks[3]
        masks[1] = (masks[1] & ~masks[0]) | masks[3]
        rows = [(PERSON, left, 7), (PERSON, right, 8), *((HAND, hand, -1) for hand in hands)]
        found = step(tracker, number, rows, masks)
        first = found if first is None else first
        seen = [0, 1, 3] if not masks[2].any() else [0, 1, 2, 3]
        assert found.identities[seen].tolist() == first.identities[seen].tolist()
        assert found.parent_ids[seen].tolist() == [[-1, -1, 7, 8][row] for row in seen]


def test_a_part_that_is_visible_while_its_thing_is_not() -> None:
    """The person is missed in some frames: the hand has no identity there, and its own one again afterwards."""
    tracker = PartTracker(TREE)
    person, hand = (PERSON, (0, 0, 100, 200), 7), (HAND, (90, 90, 100, 110), -1)
    first = step(tracker, 1, [person, hand])
    for number in range(2, 60):
        rows = [hand] if 10 <= number < 50 else [person, hand]
        found = step(tracker, number, rows)
        if len(rows) == 1:
            assert found.identities.tolist() == found.parent_ids.tolist() == [-1]
        else:
            assert found.identities.tolist() == first.identities.tolist()


def test_a_thing_that_splits() -> None:
    """A box around two persons becomes two: the second head gets another parent and, from then on, one identity."""
    tracker = PartTracker(TREE)
    whole = [(PERSON, (0, 0, 200, 200), 7), (HEAD, (30, 0, 70, 40), -1), (HEAD, (130, 0, 170, 40), -1)]
    before = [step(tracker, number, whole) for number in range(1, 6)][-1]
    apart = [(PERSON, (0, 0, 100, 200), 7), (PERSON, (100, 0, 200, 200), 8), *whole[1:]]
    after = [step(tracker, number, apart) for number in range(6, 20)]
    assert {tuple(one.parent_ids.tolist()) for one in after} == {(-1, -1, 7, 8)}
    last = after[-1].identities[2:].tolist()
    assert last[1] not in before.identities  # another person's head
    assert len(set(last)) == 2
    assert all(one.identities[2:].tolist() == last for one in after[1:])


def test_a_part_given_to_another_parent_by_mistake() -> None:
    """For three frames the hand of 7 is counted to 8; both persons' own parts keep their identities."""
    tracker = PartTracker(TREE)
    rows = [(PERSON, (0, 0, 100, 200), 7), (PERSON, (80, 0, 180, 200), 8), (HAND, (82, 90, 96, 110), -1)]
    rows += [(HEAD, (40, 0, 60, 20), -1), (HEAD, (120, 0, 140, 20), -1)]
    right = painted([box for _, box, _ in rows])
    right[1][:, :100] = False
    wrong = right.copy()
    wrong[0][:, 80:], wrong[1][:, 80:] = False, True
    wrong[1] = painted([rows[1][1]])[0]
    parents = []
    ids = []
    for number in range(1, 12):
        found = step(tracker, number, rows, wrong if 5 <= number < 8 else right)
        parents.append(int(found.parent_ids[2]))
        ids.append(found.identities.tolist())
    assert parents == [7] * 4 + [8] * 3 + [7] * 4
    assert {tuple(one[3:]) for one in ids} == {tuple(ids[0][3:])}
    assert ids[0][2] == ids[-1][2]
    assert {one[2] for one in ids[4:7]}.isdisjoint({ids[0][2]})


LOOKS = np.eye(4, dtype=np.float32)


def crossing(appearance: bool, persons: int = 1) -> bool:
    """The two hands of each person change places while they are hidden; whether each keeps its identity."""
    tracker = PartTracker(TREE, use_appearance=appearance)

    def rows(hands: bool) -> list[Row]:
        found: list[Row] = []
        for one in range(persons):
            x = 300 * one
            found.append((PERSON, (x, 0, x + 200, 200), one))
            if hands:
                found += [(HAND, (x + 40, 90, x + 60, 110), -1), (HAND, (x + 100, 90, x + 120, 110), -1)]
        return found

    before = [step(tracker, number, rows(True), None, LOOKS[[0, 1, 2] * persons]) for number in range(1, 40)][-1]
    for number in range(40, 90):
        step(tracker, number, rows(False), None, LOOKS[[0] * persons])
    after = step(tracker, 90, rows(True), None, LOOKS[[0, 2, 1] * persons])
    swapped = [3 * one + row for one in range(persons) for row in (0, 2, 1)]
    return after.identities.tolist() == before.identities[swapped].tolist()


def test_appearance_tells_hands_that_changed_places() -> None:
    assert crossing(appearance=True)
    assert not crossing(appearance=False)
    with pytest.raises(InputError, match="embeddings must be given where use_appearance=True"):
        step(PartTracker(TREE, use_appearance=True), 1, [(PERSON, (0, 0, 9, 9), 7)])


def test_parts_of_other_things_cover_nothing() -> None:
    """In the coordinates of their things all heads have one place. Appearance would count little there."""
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 5]], np.float32)
    assert coverage(boxes).tolist() == [1, 1, 1]
    assert coverage(boxes, np.array([1, 2, 2])).tolist() == [0, 0.5, 1]
    assert crossing(appearance=True, persons=3)
    one = FusedAssociator(sure_score=0.0, cut_odds=-1e6)
    middle = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [-100, -100, -90, -90], [100, 100, 110, 110]], np.float32)
    for number in range(1, 40):  # their looks change: a view of each is added where nothing covers it
        scores = np.full(4, 0.9, np.float32)
        seen = Observation(number, number / 25, None, middle, scores, np.zeros(4, np.int64))
        seen.embeddings = LOOKS if number < 20 else LOOKS + LOOKS[[1, 0, 3, 2]] / 2
        seen.groups = np.array([1, 2, 3, 4])
        one.update(seen)
    assert min(one.gallery().counts[:2]) > 1


def test_a_person_that_becomes_half_hidden_keeps_its_parts() -> None:
    """Its box shrinks to the visible half at once, so the hands have other places in it, but not in the picture."""
    tracker = PartTracker(TREE)
    hands = [(HAND, (62, 90, 72, 110), -1), (HAND, (84, 90, 94, 110), -1)]
    before = [step(tracker, number, [(PERSON, (0, 0, 100, 200), 7), *hands]) for number in range(1, 20)][-1]
    other = PartTracker(TREE)
    other.load_state_dict(tracker.state_dict())
    for one in (tracker, other):
        after = step(one, 20, [(PERSON, (55, 0, 100, 200), 7), *hands])
        assert after.identities.tolist() == before.identities.tolist()
    late = step(tracker, 40, [(PERSON, (0, 0, 100, 200), 7), *hands])
    assert late.identities[0] == 7
