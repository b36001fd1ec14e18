"""Whether a frame shows another view than the one before, by the detections in it."""

from __future__ import annotations

import numpy as np

# IDF1: off 0, half 0, double 0
SAME_SCENE = 0.3  # change of the background below which the scene is the same, see masa_track.video.scene_change
_RECOGNISED = 2.0  # nats of appearance; see returns.most_appearance for objects that look similar
# Chosen on cuts between real clips, and on clips in some of whose frames most detections were left out.
# IDF1: off 0, half 0, double 0
_LAPSE = 3.0  # nats, the limit for all tracks that vanish in one frame, as a detector may miss a whole frame
# IDF1: off 0, half 0, double 0
_ARRIVAL = 1.5  # nats for each detection without a track


def rearranged(appearance_odds: np.ndarray, match_odds: float, same_scene: bool) -> bool:
    """Whether the same objects are seen from another viewpoint, or are at other places.

    Args:
        appearance_odds: (K,) log-odds of the pairs that appearance alone makes.
        match_odds: nats that the mean of the pairs must exceed. In a scene of other objects each detection has some
            track that is a little similar, so the mean is low.
        same_scene: the background is the same. Then at least one object must be recognised, even among similar ones.
    """
    if not len(appearance_odds) or (same_scene and float(appearance_odds.max()) <= _RECOGNISED):
        return False
    return float(appearance_odds.mean()) > match_odds


def log_odds_of_one_view(worth: float, gone: int, redetection_probability: float, arrived: int) -> float:
    """Log-odds (nats) that the frame continues the one before, against a scene that has nothing to do with it.

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
