"""Objects that left and came back: how likely a detection is one of them, and how much a similar appearance says.

An object that has been missing may be back in its place, or at the border of the picture, where it left or elsewhere.
So may a new object. What decides is the appearance: log-odds of cosines compare one object with different objects, as
they are in general. But the objects of a video may all look alike, as products on a belt do. Then a similar appearance
says nothing. How alike they are is seen where several are in the picture at once.
"""

from __future__ import annotations

import numpy as np

# IDF1: half -.019, double -.002
GONE_SECONDS = 0.5  # a track missing for longer may have left the picture

# Chosen on the reported situations, their variants, and tools/bench_absence.py.
# IDF1: off +.003, half -.008, double -.003
INSIDE = -1.25  # nats: it left and returned inside the picture, behind something
# IDF1: off 0, half 0, double 0
_MIXED = -13.5  # it left inside and returned at the border, or the other way round
# IDF1: off -.002 (returns -.249), half -.002, double -.001
SAME_BORDER = 2.0  # nats more, where it returns to the place at the border where it left
# IDF1: half -.002, double -.004 (belt -.208)
_NEAR = 3.0  # sizes from there
# IDF1: half -.002, double +.003
_USUAL_RATE = 0.1  # newcomers a second at the border; where there are more, each is less likely a return
# IDF1: half 0, double +.003
_RATE_TRUST = 5.0  # seconds that this weighs
# IDF1: off +.003, half 0, double 0
_BUSIEST = 3.0  # nats
# IDF1: half -.002, double -.006
_AT_BORDER = 1.4  # factor of `entering`, so that a box half cut by the border counts in full

# IDF1: off 0 (belt -.830), half -.013, double 0 (belt -.830)
ALIKE = float(np.log(0.25 / 0.75))  # log-odds that objects of a class look the same, before two were seen
# IDF1: half 0, double 0
_LEAST_ALIKE = float(np.log(0.002))
_DISTINCT = -1.0  # nats; pairs that differ by less say nothing, as `different` was learned from them, too
# IDF1: off -.006 (returns -.029), half 0, double 0
_PER_PAIR = -2.5  # the most that two objects of different appearance say
# IDF1: off 0, half 0, double 0
LATE = 3.0  # seconds; objects are compared as they look after so long


def at_border(entering: np.ndarray) -> np.ndarray:
    """(N,) probability that boxes enter or leave, by :func:`~masa_track.association.evidence.motion.entering`."""
    return np.minimum(1.0, _AT_BORDER * entering)


def log_odds(
    boxes_at_border: np.ndarray,
    tracks_at_border: np.ndarray,
    far: np.ndarray,
    newcomers: float,
    seconds: float,
    return_prior: float,
) -> np.ndarray:
    """Log-odds (N, T) that N detections are T tracks which left and returned, beside new objects; appearance apart.

    Args:
        boxes_at_border: (N,) of :func:`at_border`.
        tracks_at_border: (T,) the same of each track's last detection.
        far: (N, T) distance of the detection from there, sizes.
        newcomers: how many objects entered at the border so far, those of the first frame apart,
        seconds: in so many seconds.
        return_prior: the option.
    """
    busy = np.clip(np.log((newcomers + 1) / (seconds + _RATE_TRUST) / _USUAL_RATE), 0, _BUSIEST)
    border = return_prior + SAME_BORDER * np.exp(-((far / _NEAR) ** 2) / 2) - busy
    came, left = boxes_at_border[:, None], tracks_at_border
    one_only = came * (1 - left) + (1 - came) * left
    inside = (1 - came) * (1 - left)
    return np.log(came * left * np.exp(border) + inside * np.exp(INSIDE) + one_only * np.exp(_MIXED))


def most_appearance(alike: np.ndarray) -> np.ndarray:
    """(T,) the most that appearance can say for a track whose class is ``alike`` (T,) log-odds: log(1 / P)."""
    return np.log1p(np.exp(-alike))


def learned(alike: dict[int, float], labels: np.ndarray, appearance: np.ndarray) -> dict[int, float]:
    """How alike the objects of each class are, after one more frame.

    The frame with the most distinct objects counts: more frames of the same objects say nothing new.

    Args:
        alike: log-odds by class.
        labels: (K,) of the detections.
        appearance: (K, K) log-odds that two of them look like one object.
    """
    found = dict(alike)
    for label in np.unique(labels).tolist():
        own = np.flatnonzero(labels == label)
        if len(own) < 2 or found.get(label, ALIKE) <= _LEAST_ALIKE:
            continue
        both = (appearance[np.ix_(own, own)] + appearance[np.ix_(own, own)].T) / 2
        pairs = np.maximum(both[np.triu_indices(len(own), 1)], _PER_PAIR)
        pairs = pairs[pairs < _DISTINCT]
        found[label] = max(min(found.get(label, ALIKE), ALIKE + float(pairs.sum())), _LEAST_ALIKE)
    return found
