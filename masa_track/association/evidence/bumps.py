"""A camera that was bumped, or turned between two frames: all objects are elsewhere, by the same offset."""

from __future__ import annotations

import numpy as np

from masa_track.association.evidence import kalman

# Evidence: without it .018 IDF1 less on scenes of glitches, .054 on those of bumps (bench_situations.py --scenes 30
# --first 300), nothing elsewhere. A share of tracks that must agree, and a margin for each track, changed nothing.
# IDF1: off 0/0, half 0/0, double 0/0
FEWEST = 2  # objects that must have moved by the same offset
# IDF1: half 0/0, double 0/0
LONGEST_SECONDS = 1.0  # between the frames
_SAME_SIZE = 0.4  # logarithm; widths and heights of a pair may differ by this
_MOST_PAIRS = 400  # that are compared with each other
# IDF1, _WIDTH: half 0/0, double 0/0
# IDF1, _INLIER: half 0/0, double 0/0
_WIDTH, _INLIER = 0.15, 0.3  # sizes; offsets this near are the same offset
# IDF1: half 0/0, double 0/0
EXPLAINED = 3.0  # nats a track, from which places explain a frame
BETTER = 8.0  # nats by which the shifted places must explain it better


def common_offset(states: np.ndarray, boxes: np.ndarray) -> np.ndarray | None:
    """The offset (2,) in pixels by which the most tracks seem to have moved; None where there is none.

    Args:
        states: (T, 8) where the tracks are expected.
        boxes: (N, 4) xyxy, the detections.
    """
    centres = kalman.to_centres(boxes)
    offsets = centres[:, None, :2] - states[None, :, :2]
    ratios = np.abs(np.log(centres[:, None, 2:] / np.maximum(states[None, :, 2:4], 1)))
    detections, tracks = np.nonzero((ratios < _SAME_SIZE).all(axis=2))
    if len(tracks) < FEWEST:
        return None
    detections, tracks = detections[:_MOST_PAIRS], tracks[:_MOST_PAIRS]
    offsets = offsets[detections, tracks]
    size = float(np.median(kalman.sizes(states)))
    far = np.linalg.norm(offsets[:, None] - offsets, axis=2) / size
    votes = np.exp(-((far / _WIDTH) ** 2) / 2).sum(axis=1)
    best = int(votes.argmax())
    if votes[best] < FEWEST:
        return None
    return np.asarray(np.median(offsets[far[best] < _INLIER], axis=0))
