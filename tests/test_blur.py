"""Pixelated faces and objects: no detail inside, nothing changed outside, and before anything is drawn."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import supervision as sv

from masa_track.drawing.blur import MARGIN, OBJECT_BLOCKS, SMALLEST_BLOCK, Blur, upper_parts
from masa_track.drawing.tracks import TrackDrawer
from masa_track.errors import InputError

HAS_CASCADES = hasattr(cv2, "CascadeClassifier")
needs_cascades = pytest.mark.skipif(not HAS_CASCADES, reason="OpenCV 5 has no Haar cascades")
needs_none = pytest.mark.skipif(HAS_CASCADES, reason="OpenCV has Haar cascades")


def noise(height: int = 240, width: int = 320) -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (height, width, 3), np.uint8)


def rows(*boxes, **more) -> sv.Detections:
    return sv.Detections(xyxy=np.array(boxes, float).reshape(-1, 4), **more)


def region(box, shape, share: float = MARGIN) -> tuple[slice, slice]:
    """The pixels of a box with its margin."""
    x1, y1, x2, y2 = box
    dx, dy = share * (x2 - x1), share * (y2 - y1)
    low = [max(0, int(np.floor(value))) for value in (y1 - dy, x1 - dx)]
    high = [min(side, int(np.ceil(value))) for value, side in zip((y2 + dy, x2 + dx), shape, strict=False)]
    return slice(low[0], high[0]), slice(low[1], high[1])


@pytest.mark.parametrize(
    "box",
    [
        (100, 40, 160, 200),
        (20, 100, 300, 140),
        (-50, -60, 40, 50),
        (290, 200, 400, 500),
        (50.4, 60.6, 61.2, 70.1),
        (9, 9, 12, 17),
    ],
)
def test_no_detail_in_a_box_and_no_change_outside(box):
    image = noise()
    before = image.copy()
    blurred = Blur("objects")(image, rows(box))
    assert (image == before).all()
    place = region(box, image.shape)
    inside = blurred[place]
    wide = max(box[2] - box[0], box[3] - box[1]) * (1 + 2 * MARGIN)
    blocks = int(max(1, wide / max(wide / OBJECT_BLOCKS, SMALLEST_BLOCK)))
    across, down = (len({line.tobytes() for line in np.moveaxis(inside, axis, 0)}) for axis in (1, 0))
    assert across <= blocks  # different columns
    assert down <= blocks
    assert inside.reshape(-1, 3).mean(axis=0) == pytest.approx(before[place].reshape(-1, 3).mean(axis=0), abs=20)
    blurred[place] = before[place]
    assert (blurred == before).all()


def test_boxes_without_pixels_change_nothing():
    image = noise()
    blurred = Blur("objects")(image, rows([400, 10, 500, 60], [20, 20, 20, 20], [-90, -90, -10, -10]))
    assert (blurred == image).all()
    assert blurred is not image
    assert (Blur("objects")(image, sv.Detections.empty()) == image).all()


def test_rows_without_an_identity_are_pixelated_too():
    image, boxes = noise(), ([10, 10, 90, 90], [150, 20, 250, 200])
    blurred = Blur("objects")(image, rows(*boxes, tracker_id=np.array([3, -1])))
    for box in boxes:
        assert (blurred[region(box, image.shape, 0)] != image[region(box, image.shape, 0)]).any(axis=2).mean() > 0.9


def test_labels_are_drawn_over_the_pixels():
    """Blurring comes first: the drawing on the blurred picture has whole lines and letters."""
    image, tracks = noise(), rows([100, 60, 200, 200], tracker_id=np.array([4]), class_id=np.array([0]))
    blurred = Blur("objects")(image, tracks)
    drawing = TrackDrawer(320, 240, 25.0).draw(blurred, tracks)
    changed = (drawing != blurred).any(axis=2)
    assert changed[58:63, 100:200].any(axis=0).all()  # the upper side of the box
    assert (drawing[130:190, 110:190] == blurred[130:190, 110:190]).mean() > 0.9


def test_an_unknown_kind_is_refused():
    with pytest.raises(InputError, match="unknown --blur 'face': did you mean 'faces'"):
        Blur("face")


def test_heads_are_in_the_upper_parts_of_persons():
    boxes = np.array([[100, 100, 160, 300], [0, 0, 100, 50]], float)
    assert upper_parts(boxes) == pytest.approx(np.array([[97, 90, 163, 170], [-5, -2.5, 105, 52.5]]))
    assert upper_parts(np.zeros((0, 4))).shape == (0, 4)


@needs_none
def test_an_opencv_without_cascades_is_refused():
    with pytest.raises(InputError, match=r"--blur faces needs OpenCV's Haar cascades, which OpenCV 5.* --blur objects"):
        Blur("faces")


@needs_cascades
@pytest.mark.parametrize(
    ("class_names", "hidden"),
    [({0: "person", 1: "car"}, [True, False]), ({0: "moving", 1: "a red car"}, [True, False]), (None, [True, True])],
)
def test_heads_of_persons_are_pixelated(class_names, hidden):
    image = np.zeros((240, 320, 3), np.uint8)
    image[::2] = 255  # no face, and detail everywhere
    boxes = [[20, 20, 100, 220], [200, 20, 280, 220]]
    blurred = Blur("faces", class_names)(image, rows(*boxes, class_id=np.array([0, 1])))
    for (x1, y1, x2, _), expected in zip(boxes, hidden, strict=True):
        head = blurred[y1 : y1 + 60, x1:x2]
        assert (
            len(np.unique(head.reshape(-1, 3), axis=0)) < 10 and (np.diff(head, axis=0) != 0).mean() < 0.1
        ) == expected
    assert (blurred[120:] == image[120:]).all()


@needs_cascades
@pytest.mark.shared_data
def test_faces_in_the_picture_are_found(shared):
    """A photograph of a man and a woman, without any box; the flowers behind them stay."""
    image = cv2.imread(str(shared / "photos" / "images" / "bsds_157055.jpg"))
    blurred = Blur("faces")(image, sv.Detections.empty())
    for x, y in ((150, 75), (395, 100)):
        face, before = (picture[y - 15 : y + 15, x - 12 : x + 12].astype(float) for picture in (blurred, image))
        assert (np.abs(np.diff(face, axis=0)) > 0).any(axis=2).mean() < 0.1
        assert (np.abs(np.diff(before, axis=0)) > 0).any(axis=2).mean() > 0.6
    assert (blurred[:, :60] == image[:, :60]).all()
    assert (blurred == image).all(axis=2).mean() > 0.7
