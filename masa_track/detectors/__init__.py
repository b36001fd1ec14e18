"""Detectors that `masa-track track` can run itself, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from masa_track.errors import unknown_name

if TYPE_CHECKING:
    import numpy as np
    import supervision as sv


class Detector(Protocol):
    """Boxes of a frame. ``class_names`` gives each class id's name."""

    class_names: dict[int, str]

    def detect(self, frame: np.ndarray) -> sv.Detections:
        """Detections, xyxy pixels, of a (H, W, 3) BGR uint8 frame; frames come in the video's order."""
        ...


def open_detector(name: str, device: str | None = None) -> Detector:
    """The detector of that name.

    Args:
        name: ``motion``, or one of torchvision's COCO detectors, e.g. ``fasterrcnn_resnet50_fpn_v2``.
        device: for a network.

    Raises:
        InputError: for an unknown name, or weights that cannot be fetched.
    """
    from masa_track.detectors import coco
    from masa_track.detectors.motion import MotionDetector

    if name == "motion":
        return MotionDetector()
    if name in coco.names():
        return coco.CocoDetector(name, device)
    raise unknown_name("detector", name, ["motion", "own", *coco.names()])
