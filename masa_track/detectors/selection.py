"""Which of a detector's boxes are tracked: by class, by score, and without duplicates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from masa_track.boxes import suppress
from masa_track.errors import InputError, unknown_name

if TYPE_CHECKING:
    import supervision as sv


@dataclass(frozen=True)
class Selection:
    """Removes boxes before they are tracked: those of other classes, then those of low scores, then duplicates.

    Attributes:
        classes: class ids that remain; None: all.
        min_score: boxes of a lower score are removed.
        nms: IoU above which the box of the lower score is removed, whatever the classes of the two; None: none is.

    Raises:
        InputError: a number is not in 0..1.
    """

    classes: frozenset[int] | None = None
    min_score: float = 0.0
    nms: float | None = None

    def __post_init__(self) -> None:
        for option, value in (("--min-score", self.min_score), ("--nms", self.nms)):
            if value is not None and not 0 <= value <= 1:
                raise InputError(f"{option} must be a number from 0 to 1, got {value:g}")

    def __call__(self, detections: sv.Detections) -> sv.Detections:
        """The remaining rows, in their order. Detections without classes are of class 0, without scores of score 1."""
        count = len(detections)
        if not count:
            return detections
        labels = np.zeros(count, np.int64) if detections.class_id is None else np.asarray(detections.class_id)
        scores = np.ones(count, np.float32) if detections.confidence is None else np.asarray(detections.confidence)
        rows = np.flatnonzero(scores >= self.min_score)
        if self.classes is not None:
            rows = rows[np.isin(labels[rows], list(self.classes))]
        if self.nms is not None:
            boxes = np.asarray(detections.xyxy)[rows]
            rows = np.sort(rows[suppress(boxes, scores[rows], self.nms, len(rows))])
        return detections if len(rows) == count else cast("sv.Detections", detections[rows])


def chosen_classes(names: Sequence[str], class_names: Mapping[int, str]) -> frozenset[int] | None:
    """Class ids by name, checked against a detector's.

    Args:
        names: of classes, compared without case; class numbers; ``people``, ``vehicles`` and ``animals`` for the
            classes of COCO in these groups; or ``all``. A name of the detector goes before a number or a group.
        class_names: the detector's names by class id; empty where it knows none: then only numbers are allowed.

    Returns:
        The ids; None for all classes.

    Raises:
        InputError: the detector has no such class, or no names.
    """
    from masa_track.detectors.nanodet import GROUPS

    ids: dict[str, set[int]] = {}
    for number, name in class_names.items():
        ids.setdefault(name.casefold(), set()).add(number)
    found: set[int] = set()
    every = False
    for name in names:
        members = set().union(*(ids.get(member, set()) for member in GROUPS.get(name, ())))
        if name.casefold() in ids:
            found |= ids[name.casefold()]
        elif members:
            found |= members
        elif name.isdecimal() and (not class_names or int(name) in class_names):
            found.add(int(name))
        elif name == "all":
            every = True
        elif not class_names and not name.isdecimal():
            raise InputError(f"--classes names {name!r}, but the boxes have no class names: give class numbers, e.g. 0")
        else:
            raise unknown_name("class", name, class_names.values())
    return None if every else frozenset(found)
