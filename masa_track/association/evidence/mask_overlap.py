"""Log-odds of a detection and a track whose mask is expected: by the IoU of both."""

from __future__ import annotations

import numpy as np

# Log-odds of a pair: _BASE + _SLOPE x IoU, of the masks or of the boxes. Fitted by
# `python tools/fit_masklets.py TUD-Campus PETS09-S2L1 --frames 40` (-3.06, 8.21).
_BASE, _SLOPE = -3.1, 8.2
MOST = 4.0  # nats, the most that a mask says
_SUREST = 0.99


def mask_log_odds(overlap: float, confidence: float) -> float:
    """``log(1 - c + c exp(a + b IoU))``, from -4 to 4 nats.

    Args:
        overlap: IoU of the detection's mask and the expected one, or of their boxes.
        confidence: c, the probability that the expected mask is right, 0..1.
    """
    right = min(max(confidence, 0.0), _SUREST)
    return float(np.clip(np.log(1 - right + right * np.exp(_BASE + _SLOPE * overlap)), -MOST, MOST))
