"""Sessions of SAM 2 and EdgeTAM with deterministic weights: prompts, memory, batches, states, policies in the loop.

That the same is computed as by the official code is tested in test_sam2_parity.py; the protocol in test_propagators.py.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest
import supervision as sv
from propagated_scenes import HEIGHT, WIDTH, disc, scene, walk
from sam2_networks import edgetam_network, quick_network, recipe, small_network

pytest.importorskip("transformers")
import torch

from masa_track.contracts import Features, Frame, FrameResult, Prompt
from masa_track.errors import InputError
from masa_track.masklets.sam2 import Maps, Sam2Network
from masa_track.masklets.session import MaskletSession, SessionOptions
from masa_track.masklets.tracking import MaskletTracker
from masa_track.runs.packing import pack, unpack
from masa_track.tracker import MasaTracker

pytestmark = pytest.mark.slow  # together they take seconds

BOX = np.array([14.0, 17, 52, 55])


def session(**options: Any) -> MaskletSession:
    return MaskletSession(quick_network(), SessionOptions(**options))


@functools.cache
def picture(number: int) -> Frame:
    return scene(number, walk(number % 30))[0]


@functools.cache
def features(number: int) -> Features:
    """Of a frame of the walk; the same for all sessions, so that tests encode each frame once."""
    return session().encode([picture(number).picture])[0]


def follow(tracked: MaskletSession, numbers: Iterable[int], **options: Any) -> list[dict[int, np.ndarray]]:
    """Proposes and commits; the logits of all objects in each frame."""
    found = []
    for number in numbers:
        tracked.propose(picture(number), features(number), **options)
        found.append({i: tracked.entry(i).mask.numpy().copy() for i in tracked.ids})
        tracked.commit()
    return found


def started(tracked: MaskletSession, boxes: dict[int, np.ndarray] | None = None, number: int = 1) -> MaskletSession:
    tracked.open(picture(number), features(number))
    for identity, box in (boxes or {1: BOX}).items():
        tracked.prompt(identity, Prompt(box=box))
    tracked.commit()
    return tracked


def boxes_of(count: int) -> dict[int, np.ndarray]:
    """Boxes at different places."""
    corners = np.random.default_rng(3).uniform(0, [WIDTH - 50, HEIGHT - 50], (count, 2))
    return {i + 1: np.concatenate([corner, corner + 30 + i]) for i, corner in enumerate(corners)}


# ---- the image encoder


def test_the_encoder_runs_once_a_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the number of objects, prompts and corrections."""
    calls = []
    encode = Sam2Network.encode

    def counted(self: Sam2Network, pixels: Any) -> Maps:
        calls.append(1)
        return encode(self, pixels)

    monkeypatch.setattr(Sam2Network, "encode", counted)
    tracked = session()
    for number in (1, 2, 3):
        frame = picture(number)
        tracked.propose(frame)
        for identity, box in boxes_of(3).items():
            tracked.prompt(identity, Prompt(box=box, clear=True))
        tracked.prompt(1, Prompt(points=np.array([[40, 40]])), candidates=True)
        tracked.commit()
        tracked.open(frame)
        tracked.prompt(2, Prompt(points=np.array([[50, 50]])))
        tracked.commit()
        assert len(calls) == number
    given = tracked.encode([picture(4).picture])[0]
    tracked.propose(picture(4), given)
    assert len(calls) == 4


def test_features_of_another_model_are_refused() -> None:
    tracked, foreign = session(), MaskletSession(edgetam_network())
    with pytest.raises(InputError, match="not of edgetam@"):
        foreign.open(picture(1), features(1))
    with pytest.raises(InputError, match="no frame is open"):
        tracked.current()


# ---- several objects in one pass


def assert_close(one: dict[int, np.ndarray], other: dict[int, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    scale = max(np.abs(mask[mask > -1024]).max(initial=1) for mask in one.values())
    for identity, mask in one.items():
        np.testing.assert_array_equal(mask == -1024, other[identity] == -1024)  # presence
        assert np.abs(mask - other[identity]).max() <= 1e-5 * scale
        assert ((mask > 0) != (other[identity] > 0)).mean() <= 1e-4


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Several threads add up in another order: over eight frames that made 1.14e-5 of 9e-6 (two threads, float32)."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_batched_objects_equal_one_by_one() -> None:
    """Also with memories of different length, with an object added and with one removed; some come and go."""
    shared = [MaskletSession(small_network()).encode([picture(number).picture])[0] for number in range(1, 9)]
    runs = []
    for batch in (1, 5):
        tracked = MaskletSession(small_network(), SessionOptions(batch=batch))
        found = []
        for number in range(1, 9):
            tracked.propose(picture(number), shared[number - 1])
            if number == 1:
                for identity, box in boxes_of(3).items():
                    tracked.prompt(identity, Prompt(box=box))
            if number == 4:
                tracked.prompt(9, Prompt(mask=disc((110, 70))))
            if number == 6:
                tracked.forget(2)
            found.append({i: tracked.entry(i).mask.numpy() for i in tracked.current().ids.tolist()})
            tracked.commit()
        runs.append(found)
    for one, other in zip(*runs, strict=True):
        assert_close(one, other)


def test_the_order_in_a_batch_does_not_matter() -> None:
    boxes = boxes_of(4)
    plain = follow(started(session(), boxes), range(2, 6))
    reversed_ids = follow(started(session(), {10 - i: box for i, box in boxes.items()}), range(2, 6))
    for one, other in zip(plain, reversed_ids, strict=True):
        assert_close(one, {10 - i: mask for i, mask in other.items()})


def test_an_object_that_is_added_changes_no_other() -> None:
    alone, beside = started(session(batch=1)), started(session(batch=1))
    beside.open(picture(2), features(2))
    beside.prompt(5, Prompt(mask=disc((110, 70))))
    beside.commit()
    for one, other in zip(follow(alone, range(2, 5)), follow(beside, range(2, 5)), strict=True):
        np.testing.assert_array_equal(one[1], other[1])


# ---- bounded memory


@pytest.mark.slow
def test_bounded_memory_gives_the_same_bits() -> None:
    """While there are no more prompts than are kept; 15 pointers and 6 memories are all that a frame needs."""
    runs = []
    for bounded in (False, True):
        tracked = started(session(bounded=bounded))
        found = follow(tracked, range(2, 12))
        for number in (12, 20):
            started(tracked, {1: BOX + number}, number)
            found += follow(tracked, range(number, number + 8))
        runs.append(found + follow(tracked, range(28, 32)))
    for one, other in zip(*runs, strict=True):
        np.testing.assert_array_equal(one[1], other[1])


def test_the_first_and_the_last_prompted_frames_are_kept() -> None:
    tracked = session(max_prompted_frames=3)
    for number in range(1, 11):
        tracked.propose(picture(number), features(number))
        if number % 2:
            tracked.prompt(1, Prompt(box=BOX, clear=True))
        tracked.commit()
        if number == 1:
            tracked.open(picture(1), features(1))
    assert [number for number in range(1, 11) if _is_kept(tracked, number)] == [1]
    tracked = session(max_prompted_frames=3, corrections_are_prompts=True)
    for number in range(1, 11):
        tracked.propose(picture(number), features(number))
        if number % 2:
            tracked.prompt(1, Prompt(box=BOX, clear=True))
        tracked.commit()
    assert [number for number in range(1, 11) if _is_kept(tracked, number)] == [1, 7, 9]
    assert tracked.memory_bytes() <= tracked.most_bytes_per_object()


def _is_kept(tracked: MaskletSession, number: int) -> bool:
    return tracked.is_prompted(1, number)


def test_a_dropped_prompted_frame_counts_as_an_ordinary_one() -> None:
    """It is still a recent frame, as officially those are that are left out of attention."""
    runs = []
    for kept in (2, 8):
        tracked = started(session(max_prompted_frames=kept))
        for number in (2, 3, 4):
            started(tracked, {1: BOX}, number)
        runs.append(tracked)
    numbers = [{n for n in range(1, 5) if run.is_prompted(1, n)} for run in runs]
    assert numbers == [{1, 4}, {1, 2, 3, 4}]
    assert runs[0].entry(1, 2).memory is not None
    assert runs[0].memory_bytes() < runs[1].memory_bytes()  # their masks are not needed


@pytest.mark.slow
def test_memory_is_flat_over_2000_frames() -> None:
    """Objects come and go; the bytes depend on how many there are, and stay within what was said before."""
    tracked = session(max_prompted_frames=3)
    shared = [features(number) for number in range(1, 9)]  # pictures come again: bytes do not depend on them
    seen, most = [], tracked.most_bytes_per_object()
    for number in range(1, 2001):
        frame = Frame(number, number / 25, (WIDTH, HEIGHT))
        tracked.propose(frame, shared[number % 8])
        identity, phase = divmod(number, 40)
        if phase == 1:
            tracked.prompt(identity, Prompt(box=BOX))
        if phase == 20 and identity in tracked.ids:
            tracked.prompt(identity, Prompt(points=np.array([[60, 50]])))
        if phase == 39 and identity - 1 in tracked.ids:
            tracked.forget(identity - 1)
        tracked.commit()
        seen.append(tracked.memory_bytes())
        assert tracked.memory_bytes() <= len(tracked.ids) * most
    assert max(seen[1000:]) <= max(seen[:200])


# ---- prompts


def test_candidates_of_a_click() -> None:
    tracked = session()
    tracked.open(picture(1), features(1))
    shown = tracked.prompt(4, Prompt(points=np.array([[33, 35]])), candidates=True)
    assert shown.ids.tolist() == [4, 4, 4]
    assert (np.diff(shown.predicted_iou) <= 0).all()
    best, masks = tracked.entry(4).pointer.clone(), np.asarray(shown.masks)
    chosen = tracked.choose(4, 2)
    np.testing.assert_array_equal(np.asarray(chosen.masks)[0], masks[2])
    assert not torch.equal(tracked.entry(4).pointer, best)
    tracked.commit()
    np.testing.assert_array_equal(np.asarray(tracked.propose(picture(1), features(1)).masks)[0], masks[2])
    tracked.prompt(5, Prompt(box=BOX))
    for identity, candidate in ((5, 1), (4, 0), (6, 0)):
        with pytest.raises(InputError, match="candidate of object"):
            tracked.choose(identity, candidate)


def test_the_correction_of_a_prompted_frame_stays_prompted() -> None:
    """The official code loses it after a pass; here the frame takes it, its earlier mask fed in."""
    tracked = started(session())
    follow(tracked, range(1, 4))
    before = tracked.entry(1, 1)
    tracked.open(picture(1), features(1))
    tracked.prompt(1, Prompt(points=np.array([[100, 90]]), positive=np.array([False])))
    tracked.commit()
    assert tracked.is_prompted(1, 1)
    after = tracked.entry(1, 1)
    assert not torch.equal(before.mask, after.mask)
    assert not torch.equal(before.memory, after.memory)


def test_clear_forgets_points_and_mask_of_the_frame() -> None:
    point = np.array([[60.0, 50]])
    results = []
    for first in (np.array([[20.0, 20]]), np.array([[120.0, 80]])):
        masks = []
        for clear in (True, False):
            tracked = session()
            tracked.open(picture(1), features(1))
            tracked.prompt(1, Prompt(points=first))
            tracked.prompt(1, Prompt(points=point, clear=clear))
            masks.append(tracked.entry(1).mask)
        results.append(masks)
    assert torch.equal(results[0][0], results[1][0])  # the first click does not count
    assert not torch.equal(results[0][1], results[1][1])


def test_a_box_cannot_follow_points() -> None:
    tracked = session()
    tracked.open(picture(1), features(1))
    tracked.prompt(1, Prompt(points=np.array([[20, 20]])))
    with pytest.raises(InputError, match="clear=True"):
        tracked.prompt(1, Prompt(box=BOX))
    tracked.prompt(1, Prompt(box=BOX, clear=True))


def test_an_old_frame_cannot_be_corrected_in_a_stream() -> None:
    tracked = started(session())
    follow(tracked, range(2, 6))
    tracked.open(picture(4), features(4))
    with pytest.raises(InputError, match="bounded=False"):
        tracked.prompt(1, Prompt(points=np.array([[20, 20]])))
    kept = started(session(bounded=False))
    follow(kept, range(2, 6))
    kept.open(picture(4), features(4))
    kept.prompt(1, Prompt(points=np.array([[20, 20]])))


def test_a_later_prompt_changes_earlier_frames_of_a_second_pass() -> None:
    plain, prompted = started(session(bounded=False)), started(session(bounded=False))
    started(prompted, {1: np.array([90.0, 60, 130, 100])}, 6)
    one, other = (follow(tracked, range(2, 6)) for tracked in (plain, prompted))
    assert any(np.abs(a[1] - b[1]).max() > 0.1 for a, b in zip(one, other, strict=True))


def test_reverse_looks_at_the_frames_behind_the_pass() -> None:
    """Forwards and backwards over mirrored pictures are the same."""
    forwards, backwards = session(), session()
    for tracked, first in ((forwards, 1), (backwards, 9)):
        tracked.open(Frame(first, 0.0, (WIDTH, HEIGHT)), features(1))
        tracked.prompt(1, Prompt(box=BOX))
        tracked.commit()
    for step in range(1, 7):
        masks = []
        for tracked, number, reverse in ((forwards, 1 + step, False), (backwards, 9 - step, True)):
            tracked.propose(Frame(number, 0.0, (WIDTH, HEIGHT)), features(1 + step), reverse=reverse)
            masks.append(tracked.entry(1).mask)
            tracked.commit()
        assert torch.equal(*masks)


# ---- commits


def test_masks_as_proposed_change_nothing() -> None:
    plain, given = (started(session(overlap=True), boxes_of(2)) for _ in range(2))
    for number in (2, 3):
        plain.propose(picture(number), features(number))
        plain.commit()
        shown = given.propose(picture(number), features(number))
        given.commit(dict(zip(shown.ids.tolist(), np.asarray(shown.masks), strict=True)))
    state, other = plain.state_dict(), given.state_dict()
    for name, value in state.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


def test_masks_that_are_given_are_remembered() -> None:
    tracked = started(session())
    shown = tracked.propose(picture(2), features(2))
    mask = np.asarray(shown.masks)[0]
    assert mask.any()
    cut = mask.copy()
    cut[:, : WIDTH // 2] = False
    assert cut.any()
    logits, score = tracked.entry(1).mask, tracked.entry(1).score
    tracked.commit({1: cut})
    kept = tracked.entry(1, 2)
    assert (kept.mask[:, : kept.mask.shape[1] // 2 - 1] <= 0).all()
    right = slice(kept.mask.shape[1] // 2 + 2, None)
    assert torch.equal(kept.mask[:, right], logits[:, right])
    assert kept.score == score
    tracked.propose(picture(3), features(3))
    tracked.commit({1: np.zeros((HEIGHT, WIDTH), bool)})
    absent = tracked.entry(1, 3)
    assert absent.score < 0
    assert torch.equal(absent.pointer, quick_network().no_object_pointer)
    assert absent.area == 0


def test_a_mask_for_an_absent_object_makes_it_visible() -> None:
    tracked = session()
    tracked.open(picture(1), features(1))
    tracked.prompt(1, Prompt(mask=np.zeros((HEIGHT, WIDTH), bool)))
    tracked.commit({1: disc((60, 50))})
    entry = tracked.entry(1, 1)
    assert entry.score > 0
    assert entry.area > 0


# ---- numbers, devices, states


def test_no_inference_tensors_leave() -> None:
    with torch.inference_mode():
        tracked = started(session())
        tracked.propose(picture(2))
        tracked.commit()
    for number in (1, 2):
        entry = tracked.entry(1, number)
        assert not any(t.is_inference() or t.requires_grad for t in (entry.mask, entry.pointer, entry.memory))
    follow(tracked, [3])


@pytest.mark.parametrize("memory", [pytest.param("distractor", marks=pytest.mark.slow), "motion"])
def test_other_policies_go_on_from_a_state(memory: str) -> None:
    original, copy = started(session(memory=memory), boxes_of(2)), session(memory=memory)
    follow(original, range(2, 20))
    copy.load_state_dict(original.state_dict())
    for one, other in zip(follow(original, range(20, 24)), follow(copy, range(20, 24)), strict=True):
        for identity, mask in one.items():
            np.testing.assert_array_equal(mask, other[identity])
    assert original.memory_bytes() <= 2 * original.most_bytes_per_object()


@pytest.mark.slow
def test_a_policy_changes_what_is_seen() -> None:
    official = follow(started(session()), range(2, 20))
    for memory in ("distractor", "motion"):
        other = follow(started(session(memory=memory)), range(2, 20))
        assert any(np.abs(a[1] - b[1]).max() > 1e-3 for a, b in zip(official, other, strict=True)), memory


def test_states_of_other_sessions_are_refused() -> None:
    state = started(session()).state_dict()
    for other in (session(max_prompted_frames=3), session(memory="motion"), MaskletSession(edgetam_network())):
        with pytest.raises(InputError, match="is of a session with"):
            other.load_state_dict(state)
    session(batch=1).load_state_dict(state)  # makes no difference


@pytest.mark.parametrize(
    "options",
    [
        {"max_prompted_frames": 1},
        {"max_prompted_frames": None},
        {"max_attended_prompts": 1},
        {"clip_length": 0},
        {"batch": 0},
        {"memory": "distractors"},
    ],
)
def test_options_outside_their_range(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        SessionOptions(**options)


def test_frames_outside_of_the_clip() -> None:
    with pytest.raises(InputError, match="1 or more"):
        session().open(Frame(0, 0.0, (WIDTH, HEIGHT)), features(1))
    with pytest.raises(InputError, match="1 to 3"):
        session(clip_length=3).open(Frame(4, 0.0, (WIDTH, HEIGHT)), features(1))


def test_another_picture_size_in_the_middle() -> None:
    tracked = started(session())
    big = np.repeat(np.repeat(picture(2).picture, 2, 0), 2, 1)
    shown = tracked.propose(Frame(2, 0.1, (2 * WIDTH, 2 * HEIGHT), image=big))
    assert shown.masks.shape == (1, 2 * HEIGHT, 2 * WIDTH)
    tracked.prompt(1, Prompt(points=np.array([[WIDTH + 50, HEIGHT + 50]])))
    tracked.commit()
    follow(tracked, [3])


@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float16", marks=pytest.mark.slow)])
def test_half_precision(dtype: str) -> None:
    """Masks as in float32 for the most part. Nothing is said of trained weights."""
    exact = quick_network()
    half = Sam2Network(copy.deepcopy(exact.model), "half", getattr(torch, dtype))
    assert half.key.endswith(f"/{dtype}")
    overlaps = []
    runs = [MaskletSession(network) for network in (exact, half)]
    for number in range(1, 5):
        masks = []
        for tracked in runs:
            tracked.propose(picture(number))
            if number == 1:
                tracked.prompt(1, Prompt(box=BOX))
            masks.append(tracked.entry(1).mask > 0)
            assert tracked.entry(1).mask.dtype == tracked.entry(1).pointer.dtype == torch.float32
            tracked.commit()
        overlaps.append(float((masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum().clamp(min=1)))
    assert min(overlaps) > 0.8


def test_positions_are_exact_in_half_precision() -> None:
    """In bfloat16 a click at pixel 701 of 1024 would be at 700, and rotary positions off by a quarter of a radian."""
    exact = quick_network()
    half = Sam2Network(copy.deepcopy(exact.model), "half", torch.bfloat16)
    points = torch.tensor([[[[61.3, 7.7]]]]), torch.ones(1, 1, 1, dtype=torch.int64)
    with torch.no_grad():
        one, other = (network.model.prompt_encoder(*points, None, None)[0] for network in (exact, half))
    assert float((one - other).abs().max()) < 0.01
    one, other = (
        net.rotary_emb(points[0], net.position_ids)[0] for net in (n.model.memory_attention for n in (exact, half))
    )
    assert torch.equal(one, other)


@pytest.mark.slow
@pytest.mark.huge
def test_a_compiled_encoder() -> None:
    exact = quick_network()
    compiled = Sam2Network(copy.deepcopy(exact.model), "compiled", compile_encoder=True)
    with torch.no_grad():
        one, other = (network.encode(network.prepare(picture(1).picture)) for network in (exact, compiled))
    assert torch.allclose(one.coarse, other.coarse, atol=1e-4)


def test_pictures_are_scaled_as_pillow_does() -> None:
    """The official code scales them by Pillow's bicubic filter, then normalises them."""
    from PIL import Image

    image = picture(3).picture
    side = quick_network().side
    scaled = np.asarray(Image.fromarray(image[..., ::-1]).resize((side, side), Image.Resampling.BICUBIC))
    wanted = (scaled / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    found = quick_network().prepare(image)[0].permute(1, 2, 0).numpy()
    assert np.abs(found - wanted).max() <= 1.01 / 255 / 0.224


# ---- with detections


def test_it_goes_with_a_tracker() -> None:
    """Masks of random weights: what a tracker does with them is legal, and a state goes on bit for bit."""
    tracker, copied = (MaskletTracker(MasaTracker(Grey(), fps=25), session(corrections_are_prompts=True)) for _ in "ab")
    for number in range(1, 9):
        result = _step(tracker, number)
        assert sorted(tracker.propagator.ids) == sorted(set(result.detections.tracker_id.tolist()) - {-1})
        assert result.detections.mask.shape == (2, HEIGHT, WIDTH)
    copied.load_state_dict(unpack(pack(tracker.state_dict())))  # as a run stores it
    one, other = (_step(each, 9).detections for each in (tracker, copied))
    np.testing.assert_array_equal(np.asarray(one.mask), np.asarray(other.mask))
    assert one.tracker_id.tolist() == other.tracker_id.tolist()


class Grey:
    """A model that cannot tell objects apart."""

    def embed(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        return np.ones((len(boxes), 4), np.float32)


def _step(tracker: MaskletTracker, number: int) -> FrameResult:
    """A frame with the true boxes of the two discs."""
    boxes = np.float32([[x - 18, y - 18, x + 18, y + 18] for x, y in walk(number).values()])
    found = sv.Detections(boxes, confidence=np.full(2, 0.9, np.float32), class_id=np.zeros(2, int))
    return tracker.step(picture(number), found)[0]


# ---- EdgeTAM


def test_edgetam_equals_transformers() -> None:
    """One object prompted by a box and 8 frames after it, where transformers' own session has no fault."""
    from transformers.models.edgetam_video.modeling_edgetam_video import EdgeTamVideoInferenceSession

    network = edgetam_network()
    network.memory_dtype = torch.float32  # transformers stores them so
    side = network.side
    frames = torch.from_numpy(recipe().frames(5, 9, side))
    theirs = EdgeTamVideoInferenceSession(video_height=side, video_width=side, dtype=torch.float32)
    index, corners = theirs.obj_id_to_idx(1), [60.0, 70.0, 130.0, 140.0]
    points = {"point_coords": torch.tensor([[[corners[:2], corners[2:]]]]), "point_labels": torch.tensor([[[2, 3]]])}
    theirs.add_point_inputs(index, 0, points)
    theirs.obj_with_new_inputs = [1]
    ours = MaskletSession(network)
    without_memory = None
    for t, pixels in enumerate(frames):
        with torch.no_grad():
            wanted = network.model(theirs, frame=pixels, frame_idx=t)
            maps = network.encode(pixels[None])
        given = Features(network.key, (side, side), maps)
        if t == 0:
            ours.open(Frame(1, 0.0, (side, side)), given)
            ours.prompt(1, Prompt(box=np.array(corners)))
            ours.commit()
        ours.propose(Frame(t + 1, t / 25, (side, side)), given)
        entry = ours.entry(1)
        ours.commit()
        mask = wanted.pred_masks[0, 0]
        assert float((entry.mask - mask).abs().max() / mask.abs().max()) < 1e-5
        assert entry.score == pytest.approx(float(wanted.object_score_logits), abs=1e-4)
        with torch.no_grad():
            without_memory = network.decode(maps, network.unconditioned(maps), True).masks[0, 0]
    assert without_memory is not None
    assert float((without_memory - mask).abs().max() / mask.abs().max()) > 0.05  # memory counts
    network.memory_dtype = torch.bfloat16
