"""Borders of masks moved to edges of the picture, for any propagator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from masa_track.contracts import Features, Frame, MaskletFrame, MaskPropagator, Prompt
from masa_track.masklets.cleanup import guided_filter
from masa_track.masks import compact_masks, mask_box

RADIUS = 8  # pixels of the picture: borders move by less
_EPSILON = 1e-4  # variance of colours (0..1) below which a window has no edge


def refined_masks(picture: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Moves the borders of masks to edges of the picture, by a guided filter of each mask.

    A mask gains no pixel of another one, and of two masks that gain the same pixel the first one has it.

    Args:
        picture: (H, W, 3) uint8.
        masks: (N, H, W) bool.

    Returns:
        (N, H, W) bool.
    """
    refined, taken = masks.copy(), np.asarray(masks.any(axis=0))
    for row, mask in enumerate(masks):
        box = mask_box(mask)
        if box is None:
            continue
        left, top, right, bottom = (int(side) for side in box)
        margin = 3 * RADIUS
        near = np.s_[max(top - margin, 0) : bottom + margin, max(left - margin, 0) : right + margin]
        guide, own = picture[near].astype(np.float32) / 255, mask[near]
        inside = guided_filter(guide, own.astype(np.float32), RADIUS, _EPSILON) > 0.5
        refined[row][near] = inside & (own | ~taken[near])
        taken[near] |= inside
    return refined


class RefinedMasks:
    """A propagator whose shown masks are refined by :func:`refined_masks`; what it remembers stays as it is.

    A mask that was given as a prompt is shown as it is given.

    Args:
        propagator: carries the masks.
    """

    def __init__(self, propagator: MaskPropagator) -> None:
        self._inner = propagator
        self._picture: np.ndarray | None = None

    def propose(self, frame: Frame, features: Features | None = None) -> MaskletFrame:
        """The refined masks of all objects; see :meth:`masa_track.contracts.MaskPropagator.propose`."""
        shown = self._inner.propose(frame, features)
        self._picture = frame.picture
        return self._refined(shown)

    def prompt(self, identity: int, prompt: Prompt, candidates: bool = False) -> MaskletFrame:
        """The refined mask of a prompt; see :meth:`masa_track.contracts.MaskPropagator.prompt`."""
        shown = self._inner.prompt(identity, prompt, candidates)
        return shown if prompt.mask is not None else self._refined(shown)

    def _refined(self, shown: MaskletFrame) -> MaskletFrame:
        if not len(shown.ids) or self._picture is None:
            return shown
        masks = np.array([np.asarray(mask, bool) for mask in shown.masks])
        return replace(shown, masks=compact_masks(refined_masks(self._picture, masks)))

    def commit(self, masks: Mapping[int, Any] | None = None) -> None:
        """See :meth:`masa_track.contracts.MaskPropagator.commit`."""
        self._inner.commit(masks)

    def forget(self, identity: int) -> None:
        """See :meth:`masa_track.contracts.MaskPropagator.forget`."""
        self._inner.forget(identity)

    def memory_bytes(self) -> int:
        """Bytes of the memory of all objects."""
        return self._inner.memory_bytes()

    def most_bytes_per_object(self) -> int:
        """The most bytes that one object takes."""
        return self._inner.most_bytes_per_object()

    def free_bytes(self) -> int | None:
        """Free bytes where the memory lies."""
        return self._inner.free_bytes()

    def reset(self) -> None:
        """Forgets everything, for another video."""
        self._inner.reset()
        self._picture = None

    def state_dict(self) -> dict[str, np.ndarray]:
        """The state of the propagator."""
        return self._inner.state_dict()

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Takes over a state of :meth:`state_dict`."""
        self._inner.load_state_dict(state)
