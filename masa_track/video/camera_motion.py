"""How a camera moved from one frame to the next, from the background's corners."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np

_SIDE = 480  # the longer side is worked on at this size
_CORNERS = 400
_FEWEST = 20  # corners that must agree
_AGREEING = 0.4  # of those that were found again, at least
_EXACT = 1.5  # pixels of the working size, within which a corner agrees


class CameraMotion:
    """Sparse optical flow of corners outside the boxes, and the turn, scale and shift that most of them agree on.

    Where it loses them, the camera having moved far, it starts from the shift that the whole pictures agree on.

    Sources: Shi and Tomasi, Good features to track, 1994; Lucas and Kanade, 1981; RANSAC, Fischler and Bolles, 1981;
    phase correlation, Kuglin and Hines, 1975; the use for tracking as in Aharon et al., BoT-SORT, 2022.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forgets the last frame."""
        self._grey: np.ndarray | None = None
        self._corners: np.ndarray | None = None

    def state_dict(self) -> dict[str, np.ndarray]:
        """The last frame as arrays: its grey picture and its corners."""
        arrays = {"grey": self._grey, "corners": self._corners}
        return {name: value for name, value in arrays.items() if value is not None}

    @classmethod
    def of_state(cls, state: Mapping[str, np.ndarray]) -> CameraMotion:
        """Goes on from :meth:`state_dict`."""
        camera = cls()
        if "grey" in state:
            camera._grey = np.array(state["grey"], np.uint8)
        if "corners" in state:
            camera._corners = np.array(state["corners"], np.float32)
        return camera

    def estimate(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray | None:
        """Takes the next frame.

        Args:
            frame: (H, W, 3) BGR uint8.
            boxes: (N, 4) xyxy pixels of it; what is in them may move by itself.

        Returns:
            (2, 3) affine float64, pixels of the frame before to pixels of this one; None for the first frame, for
            one of another size, and where too few corners agree (a cut, a gap too long, nothing to see).
        """
        scale = min(1.0, _SIDE / max(frame.shape[:2]))
        size = max(1, round(frame.shape[1] * scale)), max(1, round(frame.shape[0] * scale))
        grey = cv2.cvtColor(cv2.resize(frame, size), cv2.COLOR_BGR2GRAY)
        last, corners = self._grey, self._corners
        mask = np.full(grey.shape, 255, np.uint8)
        for x1, y1, x2, y2 in np.clip(np.round(boxes * scale), 0, 1e6).astype(int).tolist():
            mask[y1 : y2 + 1, x1 : x2 + 1] = 0
        self._grey = grey
        self._corners = cv2.goodFeaturesToTrack(grey, _CORNERS, 0.01, 7, mask=mask)
        if last is None or last.shape != grey.shape or corners is None or len(corners) < _FEWEST:
            return None
        affine = _agreed(last, grey, corners, corners)
        if affine is None:  # too far for the flow to find from where they were
            affine = _agreed(last, grey, corners, corners + whole_shift(last, grey)[0].astype(np.float32))
        if affine is None:
            return None
        affine[:, 2] /= scale
        return np.asarray(affine, np.float64)


def whole_shift(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, float]:
    """The shift (x, y) in pixels that two (H, W) grey pictures agree on as a whole, and its reliability, 0..1.

    In pictures one pixel wide or high no shift can be found: (0, 0), reliability 0.
    """
    if min(after.shape) < 2:
        return np.zeros(2), 0.0
    window = cv2.createHanningWindow((after.shape[1], after.shape[0]), cv2.CV_32F)
    shift, sureness = cv2.phaseCorrelate(before.astype(np.float32), after.astype(np.float32), window)
    return np.array(shift), sureness


def _agreed(last: np.ndarray, grey: np.ndarray, corners: np.ndarray, guessed: np.ndarray) -> np.ndarray | None:
    """The (2, 3) affine on which enough of the corners (N, 1, 2) agree, searched around their guessed positions."""
    flow = cv2.OPTFLOW_USE_INITIAL_FLOW
    moved, found, _ = cv2.calcOpticalFlowPyrLK(last, grey, corners, guessed.copy(), flags=flow)
    found = found.ravel() == 1
    if found.sum() < _FEWEST:
        return None
    before, after = corners.reshape(-1, 2)[found], moved.reshape(-1, 2)[found]
    affine, agree = cv2.estimateAffinePartial2D(before, after, ransacReprojThreshold=_EXACT)
    if affine is None or agree.sum() < max(_FEWEST, _AGREEING * len(before)):
        return None
    return np.asarray(affine)
