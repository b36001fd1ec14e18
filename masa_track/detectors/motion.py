"""A detector without weights for fixed cameras: what moves before a background that does not."""

from __future__ import annotations

import cv2
import numpy as np
import supervision as sv

from masa_track.detectors.base import PictureDetector
from masa_track.video.camera_motion import whole_shift

# The picture is worked on at this size, which is enough for boxes and makes the cost independent of the camera.
_WORKING_SIDE = 480
_SMALLEST_AREA = 0.001  # of the picture; smaller patches are noise, leaves, rain
_THINNEST = 4  # pixels of the working size; thinner patches are edges of what stands still
_CUT = 25.0  # mean change of grey levels from one frame to the next; more is another shot, or the light went on
_TOO_MUCH = 0.5  # of the picture moving is another shot, too
_FIRST_FRAMES = 5  # after a start or a cut, in which the background is not known yet
_HISTORY = 100  # frames; each later one counts 1 / 100 of the background
_SHAKE = 5  # pixels square, of the working size: what fits the background somewhere in it has not moved
_SURE = 0.1  # peak of the phase correlation below which a shift is a guess
_FARTHEST = 0.1  # of the shorter side that a camera may be off and still be the same view
_CONTRAST = 20  # grey levels that a moving thing differs by, at least


class MotionDetector(PictureDetector):
    """Boxes of moving things by OpenCV's background subtraction (MOG2). One class, no confidence.

    It needs a camera that stands still. A cut is noticed and the background learned anew. Two things that touch are
    one box, and a thing that stops fades into the background within some 100 frames. Pictures of another size start it
    anew. Earlier frames fade from the background: after ``warm_up`` frames they have 5 % of the weight, and what was
    not seen since then is dropped.

    Source: Zivkovic, Improved adaptive Gaussian mixture model for background subtraction, ICPR 2004.
    """

    class_names = {0: "moving"}  # noqa: RUF012
    track_activation_threshold = 0.5
    stateful = True
    warm_up = 3 * _HISTORY

    def __init__(self) -> None:
        self._size = (0, 0)
        self.reset()

    def reset(self) -> None:
        """Forgets the background, for another video. It is learned in the first frames, in which nothing is found."""
        self._background = cv2.createBackgroundSubtractorMOG2(history=_HISTORY, varThreshold=25, detectShadows=True)
        self._seen = 0
        self._last: np.ndarray | None = None

    def _find(self, image: np.ndarray) -> sv.Detections:
        """Boxes (N, 4) xyxy pixels of what moves."""
        height, width = image.shape[:2]
        if self._size != (width, height):
            self.reset()
            self._size = (width, height)
        scale = min(1.0, _WORKING_SIDE / max(height, width))
        size = max(1, round(width * scale)), max(1, round(height * scale))  # at least a pixel, of a narrow picture too
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        small = cv2.GaussianBlur(small, (5, 5), 0)
        self._notice_cut(small)
        shift = self._shake(small)  # (2,) pixels
        back = np.array([[1, 0, -shift[0]], [0, 1, -shift[1]]])
        small = cv2.warpAffine(small, back, small.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
        mask = self._background.apply(small) == 255  # 127 marks shadows
        self._seen += 1
        if self._seen <= _FIRST_FRAMES:
            return sv.Detections.empty()
        mask &= self._moved(small)
        if mask.mean() > _TOO_MUCH:
            self.reset()
            return sv.Detections.empty()
        patches = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        patches = cv2.dilate(patches, np.ones((13, 9), np.uint8))  # joins head, body and legs of one person
        count, patch_of, stats, _ = cv2.connectedComponentsWithStats(patches)
        areas = np.bincount(patch_of[mask], minlength=count)  # pixels that moved, before they were dilated
        areas[0] = 0  # the first is what is not moving
        margin = np.array([4, 6])  # what dilation added
        sizes = stats[:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]] - 2 * margin
        kept = (areas >= _SMALLEST_AREA * mask.size) & (sizes.min(axis=1) >= _THINNEST)
        stats, sizes = stats[kept], sizes[kept]
        if len(stats) == 0:
            return sv.Detections.empty()
        left_top = stats[:, [cv2.CC_STAT_LEFT, cv2.CC_STAT_TOP]] + margin
        boxes = (np.concatenate((left_top, left_top + sizes), axis=1) + np.tile(shift, 2)) / scale
        boxes = np.clip(boxes, 0, [width, height] * 2).astype(np.float32)
        return sv.Detections(
            xyxy=boxes, confidence=np.ones(len(boxes), np.float32), class_id=np.zeros(len(boxes), np.int64)
        )

    def _notice_cut(self, small: np.ndarray) -> None:
        """Starts anew where the picture is another than the one before."""
        grey = cv2.resize(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), (48, 27), interpolation=cv2.INTER_AREA)
        if self._last is not None and np.abs(grey.astype(np.int16) - self._last).mean() > _CUT:
            self.reset()
        self._last = grey.astype(np.int16)

    def _shake(self, small: np.ndarray) -> np.ndarray:
        """Pixels (x, y) by which the whole picture is off the background: a camera in the wind, or in a hand."""
        if self._seen == 0:
            return np.zeros(2)
        background = cv2.cvtColor(self._background.getBackgroundImage(), cv2.COLOR_BGR2GRAY)
        shift, sureness = whole_shift(background, cv2.cvtColor(small, cv2.COLOR_BGR2GRAY))
        if sureness < _SURE:
            return np.zeros(2)
        if np.abs(shift).max() > _FARTHEST * min(small.shape[:2]):
            self.reset()  # the camera was turned: what was behind is no longer there
            return np.zeros(2)
        return shift

    def _moved(self, small: np.ndarray) -> np.ndarray:
        """(H, W) bool: no pixel of the background nearby is like this one, so it is not the camera that shook."""
        background = self._background.getBackgroundImage()
        near = np.ones((_SHAKE, _SHAKE), np.uint8)
        too_bright = cv2.subtract(small, cv2.dilate(background, near)).max(axis=2) > _CONTRAST
        too_dark = cv2.subtract(cv2.erode(background, near), small).max(axis=2) > _CONTRAST
        return too_bright | too_dark
