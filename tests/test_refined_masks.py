"""Borders of masks that are moved to edges of the picture."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from propagated_scenes import scene, walk

from masa_track.contracts import Prompt
from masa_track.errors import InputError
from masa_track.evaluation.jf import boundary_accuracy, region_similarity
from masa_track.masklets.flow import FlowPropagator
from masa_track.masklets.loading import open_propagator
from masa_track.masklets.refined import RefinedMasks, refined_masks
from masa_track.pipeline.recipe import TrackRecipe


def coarse(mask: np.ndarray, factor: int) -> np.ndarray:
    """A mask as a network with a low resolution has it."""
    small = cv2.resize(mask.astype(np.float32), None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA)
    return cv2.resize(np.rint(small), mask.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0.5


def disc_picture() -> tuple[np.ndarray, np.ndarray]:
    """A disc on another colour, with noise, and its mask."""
    rows, columns = np.mgrid[:120, :160]
    truth = (rows - 60) ** 2 + (columns - 80) ** 2 < 35**2
    picture = np.where(truth[..., None], (60, 120, 200), (150, 90, 60)).astype(np.float64)
    noise = np.random.default_rng(0).normal(0, 6, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8), truth


def test_borders_move_to_edges() -> None:
    picture, truth = disc_picture()
    given = coarse(truth, 8)
    (refined,) = refined_masks(picture, given[None])
    assert boundary_accuracy(refined, truth) > boundary_accuracy(given, truth) + 0.2
    assert np.count_nonzero(refined ^ truth) < 0.5 * np.count_nonzero(given ^ truth)


def test_masks_stay_apart_and_an_empty_one_stays_empty() -> None:
    """Two halves of a disc of one colour: neither takes pixels of the other."""
    picture, truth = disc_picture()
    left = coarse(truth, 8)
    left[:, 80:] = False
    right = coarse(truth, 8) & ~left
    masks = np.array([left, right, np.zeros_like(left)])
    refined = refined_masks(picture, masks)
    assert refined.sum(axis=0).max() == 1
    assert not (refined[0] & right).any()
    assert not (refined[1] & left).any()
    assert not refined[2].any()
    assert (masks[0] == left).all()  # those given are not changed


def test_the_memory_of_the_propagator_stays_as_it_is() -> None:
    plain, refined = FlowPropagator(), open_propagator("flow", refine=True)
    assert isinstance(refined, RefinedMasks)
    for number in range(1, 4):
        frame, truth = scene(number, walk(number))
        shown = [propagator.propose(frame) for propagator in (plain, refined)]
        if number == 1:
            for propagator in (plain, refined):
                given = propagator.prompt(1, Prompt(mask=truth[1]))
                assert (np.asarray(given.masks[0]) == truth[1]).mean() > 0.99
        else:
            assert np.asarray(shown[1].masks).shape == np.asarray(shown[0].masks).shape
        for propagator in (plain, refined):
            propagator.commit()
    states = plain.state_dict(), refined.state_dict()
    assert all(np.array_equal(value, states[1][name]) for name, value in states[0].items())
    assert refined.memory_bytes() == plain.memory_bytes()
    assert refined.most_bytes_per_object() == plain.most_bytes_per_object()


@pytest.mark.slow
@pytest.mark.shared_data
def test_coarse_masks_of_real_pictures(shared: Path) -> None:
    """The true masks at a sixteenth of the resolution: J grows on each clip."""
    for clip in ("camel", "dog", "blackswan"):
        folder = shared / "clips" / "davis" / clip
        picture = cv2.imread(str(folder / "images" / "00010.jpg"))
        truth = cv2.imread(str(folder / "masks" / "00010.png"), 0) > 127
        given = coarse(truth, 16)
        (refined,) = refined_masks(picture, given[None])
        assert region_similarity(refined, truth) > region_similarity(given, truth)


def test_track_refines_masks_of_masklets_alone() -> None:
    with pytest.raises(InputError, match="--refine-masks needs --masklets"):
        TrackRecipe(refine_masks=True).check()
    TrackRecipe(refine_masks=True, masklets="flow").check()
