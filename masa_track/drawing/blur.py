"""Makes faces, or all objects, unrecognisable in pictures that are stored or shown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import supervision as sv

from masa_track.errors import InputError, unknown_name
from masa_track.formats.rows import ClassNames, class_ids, class_name

KINDS = ("faces", "objects")
OBJECT_BLOCKS = 8  # along the longer side of a box; a head is about one of them
FACE_BLOCKS = 3  # fewer: networks recognise known faces in mosaics (McPherson et al., 2016, arXiv 1609.00408)
SMALLEST_BLOCK = 8  # pixels
MARGIN = 0.05  # of a box's sides, added on each: detectors' boxes are often too small

_HEAD = 0.35  # of a person's box, from above, that holds the head of one who stands or sits
_FACE_MARGIN = 0.25  # of a found face's sides, added on each: the cascades find eyes to mouth
_SMALLEST_FACE = 20  # pixels, of the cascades
_LONGEST_SIDE = 1280  # pixels of the picture in which faces are looked for
_ENLARGED = 160  # pixels to which the heads of small persons are enlarged for the search
_CASCADES = ("haarcascade_frontalface_default.xml", "haarcascade_profileface.xml")  # the latter: faces to the left
_PERSONS = {
    *("person", "people", "pedestrian", "man", "woman", "boy", "girl", "child", "kid", "baby", "rider", "human"),
    *("player", "driver", "worker", "cyclist", "bicyclist", "motorcyclist", "head", "face"),
}
_MAYBE_PERSONS = {"object", "moving", "thing"}  # of class-agnostic detectors


class Blur:
    """Pixelates faces or objects in a copy of a picture. Call it before anything is drawn.

    ``objects`` pixelates each box, with or without an identity, and :data:`MARGIN` around it. What a detector does not
    find stays visible.

    ``faces`` pixelates the upper part of each box of a person (or of a class-agnostic detector), and faces
    that OpenCV's Haar cascades find in the picture and in these boxes. The cascades miss many faces: those that are
    small, turned, covered or in the dark. Where no face may be seen, use ``objects``.

    A block has the mean colour of its pixels, and there are few of them: eight along the longer side of an object,
    three along that of a face, and none is smaller than 8 pixels. The picture cannot be computed back from it, but
    clothes, gait and place can still tell who somebody is. Boxes are pixelated also where there are masks, as a mask
    leaves parts of an object out.

    Args:
        kind: ``faces`` or ``objects``.
        class_names: the names by class id, by which persons are known; None: every box may be a person.

    Raises:
        InputError: another kind; or ``faces`` with an OpenCV that has no cascades, as OpenCV 5.
    """

    def __init__(self, kind: str, class_names: ClassNames = None) -> None:
        if kind not in KINDS:
            raise unknown_name("--blur", kind, KINDS)
        self.kind = kind
        self._class_names = class_names
        self._cascades = _load_cascades() if kind == "faces" else []

    def __call__(self, image: np.ndarray, detections: sv.Detections) -> np.ndarray:
        """The picture with its faces or objects pixelated.

        Args:
            image: (H, W, 3) uint8 BGR; it is not altered.
            detections: N boxes in its pixels. Boxes with a NaN are left out.

        Returns:
            (H, W, 3) uint8 BGR, a new array; outside of the regions it equals the picture.
        """
        blurred = np.ascontiguousarray(image).copy()
        boxes = np.asarray(detections.xyxy, np.float64)
        finite = np.isfinite(boxes).all(axis=1)
        if self.kind == "objects":
            for box in boxes[finite]:
                _pixelate(blurred, _grown(box, MARGIN), OBJECT_BLOCKS)
            return blurred
        heads = upper_parts(boxes[finite & self._maybe_persons(detections)])
        for box in [*heads, *(_grown(face, _FACE_MARGIN) for face in self._faces(image, heads))]:
            _pixelate(blurred, box, FACE_BLOCKS)
        return blurred

    def _maybe_persons(self, detections: sv.Detections) -> np.ndarray:
        """(N,) bool, rows that may be a person."""
        if detections.class_id is None or self._class_names is None:
            return np.ones(len(detections), bool)
        names = [class_name(int(i), self._class_names).lower() for i in class_ids(detections)]
        return np.array([not _PERSONS.isdisjoint(name.split()) or name in _MAYBE_PERSONS for name in names], bool)

    def _faces(self, image: np.ndarray, heads: np.ndarray) -> Iterator[np.ndarray]:
        """Boxes of faces, xyxy pixels: those in the whole picture, and in the heads of persons, enlarged."""
        grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        height, width = grey.shape
        yield from self._search(grey, min(1.0, _LONGEST_SIDE / max(height, width)))
        for head in heads:
            x1, y1, x2, y2 = _inside(_grown(head, _FACE_MARGIN), width, height)
            if x2 > x1 and y2 > y1 and min(x2 - x1, y2 - y1) < _ENLARGED:
                for face in self._search(grey[y1:y2, x1:x2], _ENLARGED / min(x2 - x1, y2 - y1)):
                    yield face + np.array([x1, y1, x1, y1])

    def _search(self, grey: np.ndarray, scale: float) -> Iterator[np.ndarray]:
        """Boxes of faces in a grey picture, xyxy pixels, found at another scale."""
        height, width = grey.shape
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        small = cv2.equalizeHist(cv2.resize(grey, size, interpolation=method))
        ratio = np.array([width / size[0], height / size[1]] * 2)
        for number, cascade in enumerate(self._cascades):
            for mirrored in (False, True)[: 1 + number]:  # a face to the right is one to the left in the mirror
                picture = cv2.flip(small, 1) if mirrored else small
                found = cascade.detectMultiScale(picture, 1.1, 4, minSize=(_SMALLEST_FACE, _SMALLEST_FACE))
                for x, y, w, h in found:
                    left = size[0] - x - w if mirrored else x
                    yield np.array([left, y, left + w, y + h]) * ratio


def upper_parts(boxes: np.ndarray) -> np.ndarray:
    """Where the heads are in boxes of persons, with a margin.

    Args:
        boxes: (N, 4) xyxy pixels.

    Returns:
        (N, 4) xyxy pixels: the upper :data:`MARGIN` + 0.35 of each box; of boxes that are wider than high, all of it,
        for somebody who lies.
    """
    heads = np.array([_grown(box, MARGIN) for box in boxes]).reshape(-1, 4)
    high = heads[:, 3] - heads[:, 1] > heads[:, 2] - heads[:, 0]
    heads[high, 3] = boxes[high, 1] + _HEAD * (boxes[high, 3] - boxes[high, 1])
    return heads


def _load_cascades() -> list:
    """OpenCV's detectors of frontal and of profile faces."""
    folder = Path(getattr(getattr(cv2, "data", None), "haarcascades", ""))
    if not hasattr(cv2, "CascadeClassifier") or not all((folder / name).is_file() for name in _CASCADES):
        raise InputError(
            f"--blur faces needs OpenCV's Haar cascades, which OpenCV {cv2.__version__} does not have: run "
            '`pip install "opencv-python<5"`, or use --blur objects, which hides all that is detected'
        )
    return [cv2.CascadeClassifier(str(folder / name)) for name in _CASCADES]


def _grown(box: np.ndarray, share: float) -> np.ndarray:
    """A box (xyxy) with a share of its sides added on each."""
    x1, y1, x2, y2 = box
    dx, dy = share * (x2 - x1), share * (y2 - y1)
    return np.array([x1 - dx, y1 - dy, x2 + dx, y2 + dy])


def _inside(box: np.ndarray, width: int, height: int) -> tuple[int, int, int, int]:
    """The whole pixels that a box touches, x1, y1, x2, y2, the latter two excluded; empty outside of the picture."""
    low = np.clip(np.floor(box[:2]), 0, [width, height]).astype(int)
    high = np.clip(np.ceil(box[2:]), 0, [width, height]).astype(int)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _pixelate(picture: np.ndarray, box: np.ndarray, blocks: int) -> None:
    """Replaces the pixels of a box by blocks of their mean colour, ``blocks`` along its longer side."""
    x1, y1, x2, y2 = _inside(box, picture.shape[1], picture.shape[0])
    if x2 <= x1 or y2 <= y1:
        return
    # blocks are of the whole box: of one at the picture's border a part is seen, which has no more of them
    side = max(max(box[2] - box[0], box[3] - box[1]) / blocks, SMALLEST_BLOCK)
    count = (max(1, int((x2 - x1) / side)), max(1, int((y2 - y1) / side)))
    means = cv2.resize(picture[y1:y2, x1:x2], count, interpolation=cv2.INTER_AREA)
    picture[y1:y2, x1:x2] = cv2.resize(means, (x2 - x1, y2 - y1), interpolation=cv2.INTER_NEAREST)
