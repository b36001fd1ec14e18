"""What every propagator of masks promises (masa_track.contracts.MaskPropagator), run against each of them."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from propagated_scenes import HEIGHT, WIDTH, disc, iou, scene, walk
from sam2_networks import edgetam_network, quick_network

from masa_track.contracts import Frame, MaskletFrame, MaskPropagator, Prompt
from masa_track.errors import InputError
from masa_track.masklets.flow import FlowPropagator


def sam2(network: Callable[[], Any] = quick_network) -> MaskPropagator:
    """With random weights, which are the same in every test."""
    pytest.importorskip("transformers")
    from masa_track.masklets.session import MaskletSession, SessionOptions

    return MaskletSession(network(), SessionOptions(max_prompted_frames=2))


def sam3() -> MaskPropagator:
    pytest.importorskip("transformers")
    from sam3_networks import network

    return network().propagator()


MAKERS: dict[str, Callable[[], MaskPropagator]] = {
    "flow": FlowPropagator,
    "sam2": sam2,
    "edgetam": lambda: sam2(edgetam_network),
    "sam3": sam3,
}
SLOW = {"edgetam", "sam2", "sam3"}
ACCURATE = {"flow"}  # those with a notion of pictures; networks with random weights have none


@pytest.fixture(params=[pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in MAKERS])
def make(request: pytest.FixtureRequest) -> Callable[[], MaskPropagator]:
    return MAKERS[request.param]


@pytest.fixture(params=sorted(ACCURATE))
def make_accurate(request: pytest.FixtureRequest) -> Callable[[], MaskPropagator]:
    return MAKERS[request.param]


def dense(shown: MaskletFrame) -> dict[int, np.ndarray]:
    return dict(zip(shown.ids.tolist(), np.asarray(shown.masks), strict=True))


def equal(first: MaskletFrame, second: MaskletFrame) -> bool:
    return (
        first.ids.tolist() == second.ids.tolist()
        and bool((np.asarray(first.masks) == np.asarray(second.masks)).all())
        and first.object_logits.tolist() == second.object_logits.tolist()
        and first.predicted_iou.tolist() == second.predicted_iou.tolist()
    )


def same_state(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    return set(first) == set(second) and all(np.array_equal(first[name], second[name]) for name in first)


def started(propagator: MaskPropagator, ids: Iterable[int] = (1, 2)) -> MaskPropagator:
    """After frame 1 of the walk, with the true masks of these objects."""
    frame, masks = scene(1, walk(1))
    propagator.propose(frame)
    for identity in ids:
        propagator.prompt(identity, Prompt(mask=masks[identity]))
    propagator.commit()
    return propagator


def follow(propagator: MaskPropagator, numbers: Iterable[int]) -> list[MaskletFrame]:
    shown = []
    for number in numbers:
        shown.append(propagator.propose(scene(number, walk(number))[0]))
        propagator.commit()
    return shown


def test_it_follows_objects(make_accurate: Callable) -> None:
    shown = follow(started(make_accurate()), range(2, 9))
    for number, result in enumerate(shown, 2):
        assert result.ids.tolist() == [1, 2]
        assert (result.object_logits > 0).all()
        masks = dense(result)
        for identity, truth in scene(number, walk(number))[1].items():
            assert iou(masks[identity], truth) > 0.85, (number, identity)
        assert not (masks[1] & masks[2]).any()


def test_shapes_and_kinds(make: Callable) -> None:
    shown = follow(started(make()), [2])[0]
    assert (shown.ids.dtype, shown.ids.shape) == (np.int64, (2,))
    assert (shown.object_logits.dtype, shown.object_logits.shape) == (np.float32, (2,))
    assert (shown.predicted_iou.dtype, shown.predicted_iou.shape) == (np.float32, (2,))
    assert ((shown.predicted_iou >= 0) & (shown.predicted_iou <= 1)).all()
    assert shown.masks.shape == (2, HEIGHT, WIDTH)


def test_a_proposal_changes_nothing(make: Callable) -> None:
    propagator = started(make())
    before = propagator.state_dict()
    frame, masks = scene(2, walk(2))
    first = propagator.propose(frame)
    propagator.prompt(3, Prompt(box=np.array([10, 60, 40, 90])))
    propagator.prompt(1, Prompt(mask=masks[2], clear=True))
    assert same_state(propagator.state_dict(), before)
    propagator.propose(scene(9, walk(9))[0])
    assert equal(propagator.propose(frame), first)  # the prompts and the other frame left nothing
    propagator.commit()
    assert not same_state(propagator.state_dict(), before)


def test_a_commit_needs_a_proposal(make: Callable) -> None:
    propagator = make()
    with pytest.raises(InputError, match="propose"):
        propagator.prompt(1, Prompt(mask=disc((40, 40))))
    with pytest.raises(InputError, match="propose"):
        propagator.commit()
    started(propagator)
    with pytest.raises(InputError, match="propose"):
        propagator.commit()
    with pytest.raises(InputError, match="propose"):
        propagator.prompt(1, Prompt(mask=disc((40, 40))))


def test_forget(make: Callable) -> None:
    propagator = started(make())
    propagator.propose(scene(2, walk(2))[0])
    propagator.forget(1)
    propagator.commit()
    assert propagator.propose(scene(3, walk(3))[0]).ids.tolist() == [2]
    propagator.commit()
    bytes_of_one = propagator.memory_bytes()
    with pytest.raises(InputError, match=r"no object 1"):
        propagator.forget(1)
    propagator.forget(2)
    assert propagator.memory_bytes() < bytes_of_one
    assert [result.ids.tolist() for result in follow(propagator, [4, 5])] == [[], []]
    started(propagator, [1])  # an identity may come again
    assert follow(propagator, [2])[0].ids.tolist() == [1]


def test_forget_a_prompt_that_was_not_committed(make: Callable) -> None:
    propagator = started(make(), [1])
    frame, masks = scene(2, walk(2))
    propagator.propose(frame)
    propagator.prompt(2, Prompt(mask=masks[2]))
    propagator.forget(2)
    propagator.commit()
    assert follow(propagator, [3])[0].ids.tolist() == [1]


def test_empty_frames(make: Callable) -> None:
    propagator = make()
    for result in follow(propagator, [1, 2]):
        assert result.ids.shape == (0,)
        assert result.masks.shape == (0, HEIGHT, WIDTH)
        assert result.object_logits.shape == result.predicted_iou.shape == (0,)
    started(propagator)
    assert follow(propagator, [2])[0].ids.tolist() == [1, 2]


@pytest.mark.slow
def test_the_state_goes_on_as_the_original(make: Callable) -> None:
    original = started(make())
    follow(original, range(2, 5))
    original.propose(scene(5, walk(5))[0])  # not committed: not part of the state
    file = io.BytesIO()
    np.savez(file, **original.state_dict())
    file.seek(0)
    copy = make()
    started(copy, [1])
    copy.propose(scene(2, walk(2))[0])
    with np.load(file, allow_pickle=False) as state:
        copy.load_state_dict(state)
    with pytest.raises(InputError, match="propose"):
        copy.commit()
    for one, other in zip(follow(original, range(5, 8)), follow(copy, range(5, 8)), strict=True):
        assert equal(one, other)
    assert copy.memory_bytes() == original.memory_bytes()


def test_a_state_is_a_copy(make: Callable) -> None:
    propagator = started(make())
    state = propagator.state_dict()
    kept = {name: value.copy() for name, value in state.items()}
    follow(propagator, [2, 3])
    assert same_state(state, kept)
    reloaded = make()
    reloaded.load_state_dict(state)
    for value in state.values():
        value[...] = 0
    assert same_state(reloaded.state_dict(), kept)


def test_a_state_that_does_not_fit(make: Callable) -> None:
    propagator = started(make())
    good = propagator.state_dict()
    broken: list[dict[str, Any]] = [{}, {**good, "version": np.array(99)}, {**good, "ids": np.array(["one"])}]
    broken += [{k: v for k, v in good.items() if k != name} for name in good if name != "ids" and good[name].ndim]
    broken += [{**good, "ids": np.zeros_like(good["ids"])}, {**good, "ids": good["ids"][[0, 0]]}]
    broken += [{**good, name: v[:1]} for name, v in good.items() if name != "ids" and v.ndim and len(v) > 1]
    for state in broken:
        with pytest.raises(InputError):
            propagator.load_state_dict(state)
    assert same_state(propagator.state_dict(), good)


def test_reset(make: Callable) -> None:
    propagator = started(make())
    follow(propagator, [2])
    propagator.reset()
    assert propagator.memory_bytes() == 0
    assert equal(follow(started(propagator), [2])[0], follow(started(make()), [2])[0])


def test_the_order_of_objects_does_not_matter(make: Callable) -> None:
    one, other = started(make(), [1, 2]), started(make(), [2, 1])
    for first, second in zip(follow(one, range(2, 5)), follow(other, range(2, 5)), strict=True):
        assert equal(first, second)


def test_the_numbers_of_objects_do_not_matter(make: Callable) -> None:
    plain, renamed = started(make()), make()
    frame, masks = scene(1, walk(1))
    renamed.propose(frame)
    renamed.prompt(9, Prompt(mask=masks[1]))
    renamed.prompt(5, Prompt(mask=masks[2]))
    renamed.commit()
    for first, second in zip(follow(plain, range(2, 5)), follow(renamed, range(2, 5)), strict=True):
        assert second.ids.tolist() == [5, 9]
        for one, other in ((1, 9), (2, 5)):  # the order in a batch changes a network's last bits
            assert (dense(first)[one] != dense(second)[other]).sum() <= 3


def test_a_prompt_on_a_later_frame(make_accurate: Callable) -> None:
    propagator = started(make_accurate(), [1])
    follow(propagator, [2, 3])
    frame, masks = scene(4, walk(4))
    assert propagator.propose(frame).ids.tolist() == [1]
    shown = propagator.prompt(2, Prompt(mask=masks[2]))
    assert shown.ids.tolist() == [2]
    assert iou(dense(shown)[2], masks[2]) > 0.93
    propagator.commit()
    shown = follow(propagator, range(5, 8))[-1]
    truth = scene(7, walk(7))[1]
    assert all(iou(dense(shown)[identity], truth[identity]) > 0.85 for identity in (1, 2))


def test_a_mask_prompt_corrects(make_accurate: Callable) -> None:
    """A wrong first mask is replaced on a later frame; the object then follows the new one."""
    propagator = make_accurate()
    propagator.propose(scene(1, walk(1))[0])
    propagator.prompt(1, Prompt(mask=disc((80, 90), 12)))
    propagator.commit()
    frame, masks = scene(2, walk(2))
    propagator.propose(frame)
    propagator.prompt(1, Prompt(mask=masks[1]))
    propagator.commit()
    shown = follow(propagator, [3, 4])[-1]
    assert iou(dense(shown)[1], scene(4, walk(4))[1][1]) > 0.8


def test_masks_given_to_commit_are_remembered(make_accurate: Callable) -> None:
    propagator = make_accurate()
    frame, masks = scene(1, walk(1))
    propagator.propose(frame)
    propagator.prompt(1, Prompt(mask=masks[1] | masks[2]))
    propagator.commit({1: masks[1]})
    shown = follow(propagator, [2])[0]
    assert iou(dense(shown)[1], scene(2, walk(2))[1][1]) > 0.85


def test_boxes_and_points(make_accurate: Callable) -> None:
    frame, masks = scene(1, walk(1))
    x, y = walk(1)[1]
    for prompt, least in (
        (Prompt(box=np.array([x - 19, y - 19, x + 19, y + 19])), 0.9),
        (Prompt(box=np.array([x - 19, y - 19, x + 19, y + 19]), points=np.array([[x, y]])), 0.9),
        (Prompt(points=np.array([[x, y]])), 0.6),
        (Prompt(points=np.array([[x - 8, y], [x + 8, y], [125, 78]]), positive=np.array([1, 1, 0])), 0.6),
    ):
        propagator = make_accurate()
        propagator.propose(frame)
        shown = propagator.prompt(1, prompt)
        assert iou(dense(shown)[1], masks[1]) > least, prompt
        assert shown.object_logits[0] > 0


def test_points_correct_a_mask(make_accurate: Callable) -> None:
    """A negative point removes the wrong part; a positive point adds one; the rest of the mask stays."""
    frame, masks = scene(1, walk(1))
    for wrong, point, positive in (
        (masks[1] | disc(walk(1)[2], 14), walk(1)[2], False),
        (masks[1] & (np.arange(WIDTH)[None, :] < walk(1)[1][0] + 4), (walk(1)[1][0] + 11, 35), True),
    ):
        propagator = make_accurate()
        propagator.propose(frame)
        propagator.prompt(1, Prompt(mask=wrong))
        shown = propagator.prompt(1, Prompt(points=np.array([point]), positive=np.array([positive])))
        assert iou(dense(shown)[1], masks[1]) > max(0.9, iou(wrong, masks[1])), positive
        assert dense(shown)[1][int(point[1]), int(point[0])] == positive


def test_candidates(make: Callable) -> None:
    propagator = make()
    frame = scene(1, walk(1))[0]
    propagator.propose(frame)
    several = propagator.prompt(1, Prompt(points=np.array([[33, 35]])), candidates=True)
    assert len(several.ids) > 1
    assert set(several.ids.tolist()) == {1}
    masks = np.asarray(several.masks)
    assert len({mask.tobytes() for mask in masks}) == len(masks)
    again = make()
    again.propose(frame)
    np.testing.assert_array_equal(dense(again.prompt(1, Prompt(points=np.array([[33, 35]]))))[1], masks[0])


def test_an_empty_and_a_full_mask(make: Callable) -> None:
    propagator = make()
    frame = scene(1, walk(1))[0]
    propagator.propose(frame)
    empty = propagator.prompt(1, Prompt(mask=np.zeros((HEIGHT, WIDTH), bool)))
    full = propagator.prompt(2, Prompt(mask=np.ones((HEIGHT, WIDTH), bool)))
    assert empty.object_logits[0] < 0
    assert not dense(empty)[1].any()
    assert full.object_logits[0] > 0
    assert dense(full)[2].all()
    propagator.commit()
    shown = follow(propagator, [2, 3])[-1]
    assert shown.ids.tolist() == [1, 2]
    for logit, mask in zip(shown.object_logits, np.asarray(shown.masks), strict=True):
        assert mask.any() == (logit >= 0)


def test_masks_in_other_forms(make: Callable) -> None:
    """RLE and CompactMask give what the array gives."""
    pytest.importorskip("pycocotools")
    from masa_track.masks import compact_masks, encode_mask

    frame, masks = scene(1, walk(1))
    results = []
    for mask in (masks[1], masks[1].astype(np.uint8), encode_mask(masks[1]), compact_masks(masks[1][None])):
        propagator = make()
        propagator.propose(frame)
        results.append(propagator.prompt(1, Prompt(mask=mask)))
        propagator.commit({1: mask})
    assert all(equal(results[0], other) for other in results[1:])


BAD_PROMPTS = {
    "empty": (Prompt(), "empty"),
    "outside": (Prompt(points=np.array([[WIDTH + 5, 3]])), "165, 3"),
    "nan": (Prompt(points=np.array([[np.nan, 3]])), "nan"),
    "shape": (Prompt(points=np.array([1, 2, 3])), r"\(P, 2\)"),
    "contradiction": (Prompt(points=np.array([[5, 5], [5, 5]]), positive=np.array([True, False])), "both"),
    "count": (Prompt(points=np.array([[5, 5]]), positive=np.array([True, False])), "positive"),
    "box outside": (Prompt(box=np.array([-20, -20, -5, -5])), "box"),
    "box reversed": (Prompt(box=np.array([50, 50, 20, 20])), "box"),
    "mask size": (Prompt(mask=np.ones((5, 5), bool)), r"\(112, 160\)"),
    "mask of probabilities": (Prompt(mask=np.full((HEIGHT, WIDTH), 0.4)), "threshold"),
    "mask and box": (Prompt(mask=disc((40, 40)), box=np.array([5, 5, 9, 9])), "not both"),
}


@pytest.mark.parametrize("name", BAD_PROMPTS)
def test_bad_prompts_change_nothing(make: Callable, name: str) -> None:
    prompt, message = BAD_PROMPTS[name]
    propagator, untouched = started(make()), started(make())
    for each in (propagator, untouched):
        each.propose(scene(2, walk(2))[0])
    with pytest.raises(InputError, match=message):
        propagator.prompt(1, prompt)
    propagator.commit()
    untouched.commit()
    assert same_state(propagator.state_dict(), untouched.state_dict())


def test_a_negative_identity(make: Callable) -> None:
    propagator = make()
    propagator.propose(scene(1, walk(1))[0])
    with pytest.raises(InputError, match="identity"):
        propagator.prompt(-1, Prompt(mask=disc((40, 40))))


def test_bad_frames_and_commits_change_nothing(make: Callable) -> None:
    propagator, untouched = started(make()), started(make())
    before = propagator.state_dict()
    for each in (propagator, untouched):
        each.propose(scene(2, walk(2))[0])
    frame = scene(3, walk(3))[0]
    with pytest.raises(InputError, match="picture"):
        propagator.propose(replace(frame, image=None))
    with pytest.raises(InputError, match="uint8"):
        propagator.propose(replace(frame, image=frame.picture.astype(np.float32)))
    with pytest.raises(InputError, match=r"masks.*identit.*\b7\b"):
        propagator.commit({7: disc((40, 40))})
    with pytest.raises(InputError, match=r"masks\[2\]"):
        propagator.commit({1: disc((40, 40)), 2: np.ones((3, 3), bool)})
    assert same_state(propagator.state_dict(), before)
    propagator.commit()
    untouched.commit()
    assert same_state(propagator.state_dict(), untouched.state_dict())


@pytest.mark.slow
def test_memory_is_bounded(make: Callable) -> None:
    """Objects come and go, prompts come again and again: the bytes depend on the number of objects alone."""
    propagator, seen = started(make()), []
    settled = 20 if make is FlowPropagator else 40  # SAM 2 and 3 keep 15 object pointers of frames without a prompt
    for number in range(2, settled + 14):
        frame, masks = scene(number, {1: (40 + 2 * (number % 5), 35), 2: (110, 78)})
        propagator.propose(frame)
        if number % 3 == 0:
            propagator.prompt(1, Prompt(mask=masks[1]))
        if number % 5 == 0:
            propagator.forget(2)
            propagator.prompt(2, Prompt(mask=masks[2]))
        propagator.commit()
        seen.append(propagator.memory_bytes())
    assert max(seen[settled:]) <= max(seen[:settled])


@pytest.mark.slow
def test_two_propagators_at_once(make: Callable) -> None:
    alone, first, second = started(make()), started(make()), started(make(), [2])
    for number in range(2, 5):
        frame = scene(number, walk(number))[0]
        expected = alone.propose(frame)
        alone.commit()
        shown = first.propose(frame)
        second.propose(scene(30 - number, walk(30 - number))[0])
        first.commit()
        second.commit()
        assert equal(shown, expected)


def test_another_picture_size_in_the_middle(make_accurate: Callable) -> None:
    propagator = started(make_accurate())
    frame, masks = scene(2, walk(2))
    image = cv2.resize(frame.picture, (WIDTH * 3 // 2, HEIGHT * 3 // 2))
    shown = propagator.propose(Frame(2, 0.08, (WIDTH * 3 // 2, HEIGHT * 3 // 2), image=image))
    assert shown.masks.shape == (2, HEIGHT * 3 // 2, WIDTH * 3 // 2)
    truth = cv2.resize(masks[1].astype(np.uint8), (WIDTH * 3 // 2, HEIGHT * 3 // 2)) > 0
    assert iou(dense(shown)[1], truth) > 0.85
    propagator.commit()
    shown = follow(propagator, [3])[0]
    assert iou(dense(shown)[1], scene(3, walk(3))[1][1]) > 0.8


def test_frames_may_go_backwards(make_accurate: Callable) -> None:
    propagator = make_accurate()
    frame, masks = scene(9, walk(9))
    propagator.propose(frame)
    propagator.prompt(1, Prompt(mask=masks[1]))
    propagator.commit()
    shown = follow(propagator, range(8, 3, -1))[-1]
    assert iou(dense(shown)[1], scene(4, walk(4))[1][1]) > 0.85
