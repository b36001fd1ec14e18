"""NanoDet-g, the detector that the package ships: COCO's 80 classes by ONNX Runtime. Imports no torch.

Source: RangiLyu, NanoDet, 2020; its heads are those of Li et al., Generalized Focal Loss, NeurIPS 2020. Origin and
licences of the weights: ``masa_track/models/weights/nanodet-g.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import supervision as sv

from masa_track.boxes import suppress
from masa_track.detectors.base import PictureDetector
from masa_track.errors import InputError, unknown_name
from masa_track.onnx_session import choose_provider, open_session

WEIGHTS = Path(__file__).parents[1] / "models" / "weights" / "nanodet-g.onnx"
COCO_NAMES = (
    *("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light"),
    *("fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant"),
    *("bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard"),
    *("sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle"),
    *("wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli"),
    *("carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet"),
    *("tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink"),
    *("refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush"),
)
GROUPS = {"people": COCO_NAMES[:1], "vehicles": COCO_NAMES[1:9], "animals": COCO_NAMES[14:24]}
DEFAULT_CLASSES = tuple(GROUPS)
_STRIDES = (8, 16, 32)  # of the heads' maps
_DIVISOR = 32  # the input's sides are multiples of it, or the pyramid's maps would not fit onto each other
_DISTANCES = np.arange(11, dtype=np.float32)  # in strides, over which each head gives a distribution for each side
_OVERLAP = 0.5  # IoU above which the worse of two boxes is dropped
_MOST_PLACES = 1000  # best places of a pass; more would only slow the suppression down
# The group of each class, by its place in GROUPS; the others have None.
_GROUP_OF = [next((place for place, group in enumerate(GROUPS.values()) if name in group), None) for name in COCO_NAMES]
# Classes that one object is found as by mistake: people, vehicles, animals, all others. For the tracker's class_groups.
CLASS_GROUPS = tuple(
    tuple(label for label, own in enumerate(_GROUP_OF) if own == group) for group in (*range(len(GROUPS)), None)
)
# Boxes of one group suppress each other even across its classes: one vehicle is often found as car and as truck.
_KINDS = np.array([len(GROUPS) + label if group is None else group for label, group in enumerate(_GROUP_OF)])


class NanodetDetector(PictureDetector):
    """People, vehicles, animals, and other things that COCO has names for.

    The frame is scaled to each of some sizes, its aspect ratio kept, and padded with black on the right and below; the
    boxes of all passes are suppressed together. Scores are chances that a box is right: s³ / (s³ + (1 - s)³) of the
    network's score s, a rule that was fitted on clips with true boxes.

    Args:
        classes: names of COCO, or ``people``, ``vehicles``, ``animals``, or ``all`` for the 80.
        threshold: boxes of a lower score are left out.
        long_sides: pixels that the frame's longer side is scaled to, once for each pass; None: :func:`long_sides_for`.
        device: ``cpu`` stays off the GPU. Any other, or None, takes the GPU if the installed ONNX Runtime can use it.
        threads: of ONNX Runtime; None: ``OMP_NUM_THREADS`` if it is set, else one for each core.

    Raises:
        InputError: for an unknown class.
    """

    track_activation_threshold = 0.7

    def __init__(
        self,
        classes: Sequence[str] = DEFAULT_CLASSES,
        threshold: float = 0.1,
        long_sides: Sequence[int] | None = None,
        device: str | None = None,
        threads: int | None = None,
    ) -> None:
        self.class_names = {index: COCO_NAMES[index] for index in class_ids(classes)}
        self.threshold = threshold
        self.long_sides = long_sides
        self._session = open_session(WEIGHTS.read_bytes(), WEIGHTS.name, _usable(device), threads)

    def _find(self, image: np.ndarray) -> sv.Detections:
        height, width = image.shape[:2]
        sizes = long_sides_for(width, height) if self.long_sides is None else self.long_sides
        parts = zip(*(self._one_pass(image, size) for size in sizes), strict=True)
        boxes, scores, labels = (np.concatenate(part) for part in parts)
        rows = suppressed(boxes, scores, labels)
        rows = rows[np.isin(labels[rows], list(self.class_names))]
        return sv.Detections(boxes[rows], confidence=scores[rows], class_id=labels[rows])

    def _one_pass(self, image: np.ndarray, long_side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes (N, 4) float32 xyxy pixels of the image, scores (N,) and classes (N,), overlapping still."""
        height, width = image.shape[:2]
        scale = long_side / max(height, width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        rows, columns = (-(-side // _DIVISOR) * _DIVISOR for side in reversed(size))
        picture = np.zeros((1, rows, columns, 3), np.uint8)
        picture[0, : size[1], : size[0]] = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
        scores, sides = (output[0] for output in self._session.run(["scores", "sides"], {"image": picture}))
        best = scores.max(axis=1)
        places = np.flatnonzero(best >= raw_score(self.threshold))
        places = places[np.argsort(-best[places], kind="stable")][:_MOST_PLACES]
        boxes = _decode(places, sides[places], rows, columns) / np.tile(np.divide(size, (width, height)), 2)
        boxes = np.clip(boxes, 0, [width, height] * 2).astype(np.float32)
        found = (boxes[:, 2:] - boxes[:, :2] >= 1).all(axis=1)
        places = places[found]
        return boxes[found], calibrated(best[places]), scores[places].argmax(axis=1)


def class_ids(names: Sequence[str]) -> list[int]:
    """Numbers of classes, ascending, by names of COCO or of :data:`GROUPS`, or ``all``.

    Raises:
        InputError: for an unknown name, or no name.
    """
    found: set[int] = set()
    for name in names:
        if name != "all" and name not in GROUPS and name not in COCO_NAMES:
            raise unknown_name("class", name, ["all", *GROUPS, *COCO_NAMES])
        group = COCO_NAMES if name == "all" else GROUPS.get(name, (name,))
        found.update(COCO_NAMES.index(member) for member in group)
    if not found:
        raise InputError("classes must name at least one of COCO's classes, got none: try people")
    return sorted(found)


def long_sides_for(width: int, height: int) -> tuple[int, ...]:
    """Pixels that the longer side of a frame is scaled to, a number for each pass.

    The network was trained at 416, where it finds large objects best. Small ones need a second, larger pass. Of some
    20 rules this one has the best mean AP of people, vehicles and animals; see docs/benchmarks/detector.md.
    """
    second = np.clip(2 / 3 * max(width, height), 576, 1280)
    return 416, round(float(second) / _DIVISOR) * _DIVISOR


def suppressed(boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Rows (M,) that remain of N overlapping boxes, best first: a better box of the same kind removes a worse one.

    People are a kind, vehicles and animals are two, and each other class is one of its own.
    """
    apart = 2.0 * boxes.max(initial=1) * _KINDS[labels]  # pixels by which each kind is moved away from the others
    return suppress(boxes + apart[:, None], scores, _OVERLAP, len(boxes))


def calibrated(scores: np.ndarray) -> np.ndarray:
    """The chance that a box of each network score (N,) is right, (N,) float32."""
    cube = scores.astype(np.float64) ** 3
    return np.asarray(cube / (cube + (1 - scores.astype(np.float64)) ** 3), np.float32)


def raw_score(chance: float) -> float:
    """The network score that :func:`calibrated` makes ``chance`` of."""
    root = float(chance) ** (1 / 3)
    return root / (root + (1 - float(chance)) ** (1 / 3))


def _decode(places: np.ndarray, sides: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Boxes (N, 4) xyxy in pixels of a (rows, columns) input.

    Args:
        places: (N,) numbers of cells, counted over the three maps one after the other, row by row.
        sides: (N, 44) logits of the distances of left, top, right and bottom side from the cell's centre.
        rows: of the input.
        columns: of the input.
    """
    counts = [(rows // stride) * (columns // stride) for stride in _STRIDES]
    level = np.searchsorted(np.cumsum(counts), places, side="right")
    stride = np.array(_STRIDES)[level]
    row, column = np.divmod(places - np.cumsum([0, *counts])[level], columns // stride)
    centre = np.column_stack((column, row, column, row)) + 0.5
    weights = sides.reshape(-1, 4, len(_DISTANCES))
    weights = np.exp(weights - weights.max(axis=2, keepdims=True))
    distance = weights @ _DISTANCES / weights.sum(axis=2)
    return np.asarray((centre + distance * [-1, -1, 1, 1]) * stride[:, None])


def _usable(device: str | None) -> str | None:
    """The device, or the CPU where the installed ONNX Runtime cannot use it: the model may run there by torch."""
    try:
        choose_provider(device)
    except InputError:
        return "cpu"
    return device
