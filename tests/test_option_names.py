"""Options that were renamed are still accepted by their old name, with one warning."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from masa_track import MasaTracker
from masa_track.association import any_options_of, open_associator
from masa_track.errors import InputError


class Constant:
    def embed(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        return np.ones((len(boxes), 4), np.float32)


@pytest.mark.parametrize("preset", ["default", "appearance", "tao", "bdd", "demo"])
def test_the_old_name_sets_the_option_and_warns_once(preset: str) -> None:
    for make in (open_associator, lambda name, **options: MasaTracker(Constant(), name, **options)._associator):
        with pytest.warns(FutureWarning, match="init_score_threshold is now called track_activation_threshold") as said:
            associator = make(preset, init_score_threshold=0.25)
        assert associator.options.track_activation_threshold == 0.25
        assert len(said) == 1


def test_the_new_name_does_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_associator("default", track_activation_threshold=0.25).options.track_activation_threshold == 0.25


def test_both_names_are_refused() -> None:
    with pytest.raises(InputError, match="init_score_threshold is the old name of track_activation_threshold"):
        any_options_of("default", init_score_threshold=0.25, track_activation_threshold=0.5)


def test_the_command_line_takes_the_old_name() -> None:
    from masa_track.cli.track import parse_options

    with pytest.warns(FutureWarning, match="track_activation_threshold"):
        assert parse_options(["init_score_threshold=0.25"]) == {"track_activation_threshold": 0.25}
