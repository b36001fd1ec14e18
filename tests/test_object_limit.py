"""Too many objects for the memory are refused before the second frame, with the number that fits."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from propagated_scenes import HEIGHT, WIDTH, scene, walk
from sam2_networks import quick_network
from test_masklet_tracking import FPS, Grey, a_frame, found

from masa_track.contracts import Frame, Prompt
from masa_track.errors import InputError
from masa_track.masklets.flow import FlowPropagator
from masa_track.masklets.limits import _PIXEL_BYTES, free_memory
from masa_track.masklets.prompt_file import Prompts, most_at_once
from masa_track.masklets.prompted import PromptedTracker
from masa_track.masklets.session import MaskletSession
from masa_track.masklets.tracking import MaskletTracker
from masa_track.tracker import MasaTracker


def boxes(count: int) -> list[tuple[int, int, int, int]]:
    return [(4 + 30 * k, 20, 24 + 30 * k, 60) for k in range(count)]


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (120, 200, 3)).astype(np.uint8)


def bytes_of_one(propagator: Any, size: tuple[int, int]) -> int:
    """As the guide says: the most of the memory, and 10 bytes a pixel."""
    return propagator.most_bytes_per_object() + 10 * size[0] * size[1]


def flow_bytes() -> int:
    propagator = FlowPropagator()
    propagator.propose(a_frame(1, picture()))
    propagator.prompt(1, Prompt(box=np.array([4, 20, 24, 60])))
    propagator.commit()
    return bytes_of_one(propagator, (200, 120))


@pytest.mark.slow
def test_tracks_beyond_the_memory_are_refused_before_the_second_frame() -> None:
    each = flow_bytes()

    def run(free: float) -> MaskletTracker:
        tracker = MaskletTracker(MasaTracker(Grey(), fps=FPS), FlowPropagator(), free_bytes=int(free))
        for number in (1, 2, 3):
            tracker.step(a_frame(number, picture()), found(boxes(4)))
        return tracker

    assert run(4.01 * each / 0.8).tracks
    with pytest.raises(InputError, match="detections must show at most 3 objects at a time, got 4: each") as e:
        run(3.99 * each / 0.8)
    assert "80% of" in str(e.value)
    assert "leave masklets out" in str(e.value)


def test_a_refusal_changes_nothing() -> None:
    tracker = MaskletTracker(MasaTracker(Grey(), fps=FPS), FlowPropagator(), free_bytes=int(2 * flow_bytes()))
    tracker.step(a_frame(1, picture()), found(boxes(4)))
    before = {name: value.copy() for name, value in tracker.state_dict().items()}
    with pytest.raises(InputError, match="at most 1 objects"):
        tracker.step(a_frame(2, picture()), found(boxes(4)))
    after = tracker.state_dict()
    assert all(np.array_equal(value, after[name]) for name, value in before.items())


@pytest.mark.parametrize("of", ["flow", pytest.param("sam2", marks=pytest.mark.slow)])
def test_prompts_of_later_frames_count_before_the_second_frame(of: str) -> None:
    """One object in frame 1, three more in frame 5, of which one takes the place of a removed one."""

    def a_new() -> Any:
        return FlowPropagator() if of == "flow" else MaskletSession(quick_network())

    truth = scene(1, walk(1))[1]
    prompts: Prompts = {1: {1: Prompt(mask=truth[1])}, 5: {1: None}}
    for k, (x, y) in enumerate(((10, 10), (40, 10), (70, 10)), 2):
        prompts[5][k] = Prompt(box=np.array([x, y, x + 20, y + 20]))
    assert most_at_once(prompts) == 3
    propagator = a_new()
    PromptedTracker(propagator, prompts).step(scene(1, walk(1))[0])
    each = bytes_of_one(propagator, (WIDTH, HEIGHT))
    kept = PromptedTracker(a_new(), prompts, free_bytes=int(3.01 * each / 0.8))
    for number in (1, 2):
        kept.step(scene(number, walk(number))[0])
    refused = PromptedTracker(a_new(), prompts, free_bytes=int(2.99 * each / 0.8))
    refused.step(scene(1, walk(1))[0])
    with pytest.raises(InputError, match="prompts must show at most 2 objects at a time, got 3"):
        refused.step(scene(2, walk(2))[0])


@pytest.mark.slow
def test_the_bytes_of_an_object_bound_what_is_taken() -> None:
    """Ten objects against two: the difference in the peak of all arrays."""
    image = np.repeat(np.repeat(np.random.default_rng(0).integers(0, 255, (30, 60, 3), np.uint8), 12, 0), 12, 1)
    size = image.shape[1], image.shape[0]

    def peak(count: int) -> tuple[int, int]:
        propagator = FlowPropagator()
        propagator.propose(Frame(1, 0.0, size, image=image))
        tracemalloc.start()
        try:
            for k in range(count):
                mask = np.zeros(image.shape[:2], bool)
                mask[40:120, 60 * k : 60 * k + 50] = True
                propagator.prompt(k, Prompt(mask=mask))
            propagator.commit()
            propagator.propose(Frame(2, 0.1, size, image=image))
            propagator.commit()
            return tracemalloc.get_traced_memory()[1], bytes_of_one(propagator, size)
        finally:
            tracemalloc.stop()

    (many, each), (few, _) = peak(10), peak(2)
    assert 0.35 * each < (many - few) / 8 <= each
    assert _PIXEL_BYTES == 10  # as in the guide


def test_free_memory_of_this_computer() -> None:
    free = free_memory()
    if free is not None:  # a system that does not say it
        assert 2**20 < free < 2**50
    assert FlowPropagator().free_bytes() is None or FlowPropagator().free_bytes() > 2**20
