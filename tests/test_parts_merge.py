"""Class scores, the panoptic map and regions of parts, against slow plain versions and by their rules."""

from __future__ import annotations

import numpy as np
import pytest

from masa_track.errors import InputError
from masa_track.parts import merge


def slow_panoptic(scores: np.ndarray, masks: np.ndarray, is_thing: np.ndarray) -> dict[tuple[int, ...], int]:
    """The rule pixel by pixel: how many pixels each set of queries has, stuff of one class together."""
    count, height, width = masks.shape
    best = [(max(row), int(np.argmax(row))) for row in scores.tolist()]
    won: dict[int, list[tuple[int, int]]] = {}
    for y in range(height):
        for x in range(width):
            _, query = max(
                ((best[q][0] * float(masks[q, y, x]), -q) for q in range(count) if best[q][0] > 0.25), default=(0, 1)
            )
            if query <= 0:
                won.setdefault(-query, []).append((y, x))
    together: dict[tuple[int, int], tuple[list[int], int]] = {}
    for q in range(count):
        own = int((masks[q] >= 0.5).sum())
        inside = [place for place in won.get(q, []) if masks[q][place] >= 0.5]
        if not inside or len(won[q]) < 0.8 * own:
            continue
        key = (best[q][1], q if is_thing[best[q][1]] else -1)
        queries, area = together.get(key, ([], 0))
        together[key] = [*queries, q], area + len(inside)
    return {tuple(queries): area for queries, area in together.values()}


def scene(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """12 rectangles with soft borders and 4 classes, of which two are stuff."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:30, :40]
    masks = np.empty((12, 30, 40))
    for i in range(12):
        cy, cx, h, w = rng.uniform((0, 0, 2, 2), (30, 40, 5, 7))
        masks[i] = merge.sigmoid(2 * np.minimum(h - abs(y - cy), w - abs(x - cx)))
    return merge.softmax(rng.normal(0, 3, (12, 4))), masks, np.array([True, False, True, False])


@pytest.mark.parametrize("seed", range(6))
def test_panoptic_map_as_by_a_plain_loop_in_any_order(seed: int) -> None:
    """Stuff of a class is one segment, and things or stuff first makes no difference but to the numbers."""
    scores, masks, is_thing = scene(seed)
    expected = slow_panoptic(scores, masks, is_thing)
    assert len(expected) > 2
    order = np.random.default_rng(seed).permutation(len(masks))
    for rows in (np.arange(len(masks)), order):
        panoptic, segments = merge.merge_panoptic(scores[rows], masks[rows], is_thing)
        found = {tuple(sorted(rows[list(s.rows)].tolist())): int((panoptic == s.number).sum()) for s in segments}
        assert found == expected
        assert [s.number for s in segments] == list(range(1, len(segments) + 1))


def test_a_pixel_below_half_belongs_to_no_segment() -> None:
    """Also where its query has the best product there, and where nobody else is."""
    masks = np.zeros((1, 1, 10))
    masks[0, 0] = [0.9] * 9 + [0.4]
    panoptic, segments = merge.merge_panoptic(np.array([[0.9, 0.1]]), masks, np.array([True, False]))
    assert panoptic.tolist() == [[1] * 9 + [0]]
    assert segments == [merge.Segment(1, 0, True, (0,))]


def test_nothing_to_merge() -> None:
    panoptic, segments = merge.merge_panoptic(np.zeros((0, 2)), np.zeros((0, 3, 4)), np.array([True, False]))
    assert panoptic.tolist() == [[0] * 4] * 3
    assert segments == []
    assert merge.merge_panoptic(np.array([[0.25, 0]]), np.ones((1, 3, 4)), np.array([True, False]))[1] == []
    assert len(merge.suppress_by_class(np.zeros((0, 4)), np.zeros((0, 2)))) == 0
    assert len(merge.best_pairs(np.zeros((0, 2)))[0]) == 0
    assert merge.clip_probabilities(np.zeros((0, 3)), [0, 1, 1]).shape == (0, 2)
    assert merge.part_regions(np.zeros((3, 4), int), np.zeros((0, 3, 4), bool), np.zeros(0, int), [0]) == []
    assert merge.uncovered_segments(np.ones((3, 4), int), np.zeros((0, 3, 4), bool)) == [1]
    with pytest.raises(InputError, match=r"class_scores, masks and is_thing must be"):
        merge.merge_panoptic(np.zeros((2, 2)), np.zeros((1, 3, 4)), np.array([True, False]))


def test_logits_of_classes_of_the_other_kind() -> None:
    """-9999 takes part in the softmax with a sigmoid of 0, without overflow."""
    found = merge.class_logits(np.array([[1.0, 3.0, -1.0]]), [[0], [1, 2]], "mean", np.array([True, False]))
    assert found.tolist() == [[1.0, -9999.0]]
    with np.errstate(all="raise", under="ignore"):
        p = merge.class_probabilities(found)
    power = np.exp(1 / (1 + np.exp(-1)) / 0.06)
    np.testing.assert_allclose(p, [[power / (power + 1), 1 / (power + 1)]])


@pytest.mark.parametrize("tokens", [[[0], []], [[0], [3]], [[0], [-1]]])
def test_a_class_without_tokens_in_the_caption_is_refused(tokens: list[list[int]]) -> None:
    """A caption that was cut must not give the class another one's tokens."""
    with pytest.raises(InputError, match=r"tokens_of must have positions in 0\.\.2 .* for class 1"):
        merge.class_logits(np.zeros((1, 3)), tokens)


def test_seen_and_unseen_classes_with_synonyms() -> None:
    seen = merge.seen_classes([["sky", "heaven"], ["dog"]], ["heaven", "car"])
    assert seen.tolist() == [True, False]
    clip = merge.clip_probabilities(np.array([[0.0, 2.0, 1.0]]), [0, 0, 1])  # the best of both names of the sky
    np.testing.assert_allclose(clip, merge.softmax(np.array([[2.0, 1.0]])))
    p = np.array([[0.4, 0.6]])
    found = np.exp(merge.combine_with_clip(p, clip, seen))
    np.testing.assert_allclose(found, [[0.4**0.65 * clip[0, 0] ** 0.35, 0.6**0.3 * clip[0, 1] ** 0.7]])
    assert merge.clip_probabilities(np.array([[0.0]]), [0]).tolist() == [[0.5]]  # one class: a sigmoid
    assert np.exp(merge.combine_with_clip(p * 0, clip, seen)).tolist() == [[0, 0]]
    for message, options in [("seen_weight must be in 0..1", {"seen_weight": 1.5}), ("rule must be", {"rule": "max"})]:
        with pytest.raises(InputError, match=message):
            merge.combine_with_clip(p, clip, seen, **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="give each of the 3 names a class"):
        merge.clip_probabilities(np.zeros((1, 3)), [0, 2, 2])


def test_suppression_keeps_boxes_of_other_classes_and_one_box_may_be_two_classes() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 10]], float)
    scores = np.array([[0.5, 0.1], [0.9, 0.7], [0.1, 0.8]])
    kept = merge.suppress_by_class(boxes, scores)
    assert kept.tolist() == [1, 2]  # row 0 is hidden by row 1, of the same class; IoU with row 2 does not count
    rows, labels = merge.best_pairs(scores[kept], 3)
    assert list(zip(kept[rows].tolist(), labels.tolist(), strict=True)) == [(1, 0), (2, 1), (1, 1)]


def test_parts_of_things_whose_name_has_several_words() -> None:
    """Class 0 of the map is a lens of a traffic light (1), class 1 that of a camera (2); class 2 is no part."""
    part_map = np.repeat([[0, 1, 2]], 20, axis=0).repeat(10, axis=1)  # 20 x 30
    masks = np.ones((3, 20, 30), bool)
    masks[1, :, 5:] = False  # 100 pixels of lens: not more than the least
    found = merge.part_regions(part_map, masks, np.array([1, 1, 2]), [1, 2, -1])
    assert [(one.label, one.parent, int(one.mask.sum())) for one in found] == [(0, 0, 200), (1, 2, 200)]


def test_an_object_that_is_all_parts() -> None:
    """It has no region of its own from .8 on, unless that is asked for."""
    panoptic = np.array([[1] * 10 + [2] * 10 + [0]])
    parts = np.zeros((2, 1, 21), bool)
    parts[0, 0, :8] = parts[1, 0, 10:17] = True
    assert merge.uncovered_segments(panoptic, parts) == [2]
    assert merge.uncovered_segments(panoptic, parts, covered=1.1) == [1, 2]


def test_masks_at_points_prefers_the_smaller_mask_and_counts_a_pixel_once() -> None:
    masks = np.zeros((3, 4, 6), bool)
    masks[0] = masks[1, :, :3] = masks[2, 0, 5] = True
    assert merge.masks_at_points(masks, np.array([[1, 1], [2, 3]])).tolist() == [1, 0, 2]
    assert merge.masks_at_points(masks, np.array([[1, 1], [1, 1], [5, 0]]), 2).tolist() == [0, 2]
    with pytest.raises(InputError, match=r"points must be in a picture of 6 x 4 pixels, got \[1, 4\]"):
        merge.masks_at_points(masks, np.array([[1, 1], [1, 4]]))
