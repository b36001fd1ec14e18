"""Whether a frame shows another view than the one before, told from what was found in it."""

from __future__ import annotations

import numpy as np

# Chosen on cuts between real clips, and on clips in some of whose frames most detections were left out.
_LAPSE = 3.0  # all that tracks which are gone at once can say, as a detector may miss a whole frame
_ARRIVAL = 1.5  # what each thing that came at the same time says


def rearranged(appearance_odds: np.ndarray, match_odds: float) -> bool:
    """Whether the same things are seen from somewhere else.

    Args:
        appearance_odds: (K,) log-odds of the pairs that appearance alone makes.
        match_odds: what a pair must be worth; all together must be worth it on average, as in a scene of other
            things each finds someone who is a little alike.
    """
    return len(appearance_odds) > 0 and float(appearance_odds.mean()) > match_odds


def log_odds_of_one_view(worth: float, gone: int, redetection_probability: float, arrived: int) -> float:
    """What speaks for the frame's going on from the one before, beside a scene that has nothing to do with it.

    Args:
        worth: log-odds of all pairs made by motion and appearance.
        gone: tracks seen in the frame before, and not in this one.
        redetection_probability: how likely such a track is seen again.
        arrived: detections without a track.
    """
    return worth - min(-gone * float(np.log1p(-redetection_probability)), _LAPSE) - _ARRIVAL * arrived


def least_log_odds_of_one_view(worth: float, strong: int) -> float:
    """The least that :func:`log_odds_of_one_view` can be for pairs of ``worth`` and ``strong`` detections."""
    return worth - _LAPSE - _ARRIVAL * strong
