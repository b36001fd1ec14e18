"""Which rows of a frame go into the results, and what each is called: the same answer for every output."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import supervision as sv

ClassNames = Mapping[int, str] | Sequence[str] | None
# Not allowed in XML 1.0 (https://www.w3.org/TR/xml/#charsets); UTF-8 cannot hold the surrogates either.
_NO_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_DATA = {"class_name": object, "filled": bool, "smoothed": bool, "segmentation": object}  # of a row, that are written
_DATA |= {"parent_id": np.int64, "part": object, "phrase": object}
PART_FIELDS = ("parent_id", "part", "phrase")


def tracked_rows(detections: sv.Detections) -> sv.Detections:
    """The rows that have an identity and a finite box.

    A row without an identity has the id -1 or None. No format can hold a box with a NaN or an infinity.

    Args:
        detections: N rows; extra data are ignored, except those named below.

    Returns:
        The M <= N rows kept, in their order: ``xyxy`` (M, 4) in 0-based pixels, ``tracker_id`` (M,) int64,
        ``confidence``, ``class_id`` and ``mask`` as given or None, and of ``data`` the ``class_name``, the marks
        ``filled`` and ``smoothed``, the ``segmentation`` (masks as run lengths), ``parent_id`` (identity of the thing
        or part that a part belongs to; -1: none), ``part`` (name of the part in it; empty for things) and ``phrase``
        (the phrase that found it), where they were given.
    """
    if detections.tracker_id is None or len(detections) == 0:
        return sv.Detections(xyxy=np.zeros((0, 4), np.float32), tracker_id=np.zeros(0, np.int64))
    ids = np.array([-1 if i is None else int(i) for i in detections.tracker_id], dtype=np.int64)
    keep = (ids >= 0) & np.isfinite(detections.xyxy).all(axis=1)
    mask = detections.mask
    return sv.Detections(
        xyxy=np.asarray(detections.xyxy)[keep],
        mask=mask if mask is None or keep.all() else mask[keep],  # large: copied only where it must be
        confidence=None if detections.confidence is None else np.asarray(detections.confidence)[keep],
        class_id=None if detections.class_id is None else np.asarray(detections.class_id)[keep],
        tracker_id=ids[keep],
        data={
            name: np.asarray(detections.data[name], dtype=kind)[keep]
            for name, kind in _DATA.items()
            if name in (detections.data or {})
        },
    )


def marks(detections: sv.Detections, name: str) -> np.ndarray:
    """(N,) bool, rows that are marked as ``filled`` or ``smoothed``; see :mod:`masa_track.association.offline`."""
    return np.asarray(detections.data.get(name, np.zeros(len(detections))), bool)


def part_rows(detections: sv.Detections) -> np.ndarray:
    """(N,) bool, rows that are parts of things."""
    parts = detections.data.get("part") if detections.data else None
    return np.zeros(len(detections), bool) if parts is None else np.array([bool(name) for name in parts], bool)


def part_fields(detections: sv.Detections) -> list[dict[str, int | str]]:
    """For each row ``parent_id``, ``part`` and ``phrase``, as far as it has them, for json."""
    fields: list[dict[str, int | str]] = [{} for _ in range(len(detections))]
    for name in PART_FIELDS:
        for field, value in zip(fields, (detections.data or {}).get(name, ()), strict=False):
            if name == "parent_id" and value >= 0:
                field[name] = int(value)
            elif name != "parent_id" and value:
                field[name] = plain_text(value)
    return fields


def confidences(detections: sv.Detections) -> np.ndarray:
    """The confidences, (N,) float64: 1 where the detector gives none, 0 for a NaN."""
    if detections.confidence is None:
        return np.ones(len(detections))
    return np.nan_to_num(np.asarray(detections.confidence, dtype=np.float64), nan=0.0, posinf=1.0, neginf=0.0)


def class_ids(detections: sv.Detections) -> np.ndarray:
    """The class ids, (N,) int64: 0 where the detector gives none."""
    if detections.class_id is None:
        return np.zeros(len(detections), np.int64)
    return np.asarray(detections.class_id, dtype=np.int64)


def plain_text(value: object) -> str:
    """A name as text that every format can hold: control characters and lone surrogates become U+FFFD."""
    return _NO_TEXT.sub("\ufffd", str(value))


def class_name(class_id: int, class_names: ClassNames) -> str:
    """What a class is called.

    Args:
        class_id: the class.
        class_names: the names by id, or None where the detector knows none.

    Returns:
        The name, see :func:`plain_text`; ``object`` for the one class of a detector without names, ``class N`` for any
        other unnamed class.
    """
    if class_names is None:
        return "object" if class_id == 0 else f"class {class_id}"
    if isinstance(class_names, Mapping):
        return plain_text(class_names.get(class_id, f"class {class_id}"))
    return plain_text(class_names[class_id]) if 0 <= class_id < len(class_names) else f"class {class_id}"


def row_names(detections: sv.Detections, class_names: ClassNames) -> list[str]:
    """The class name of each row, (N,): the detector's own ``data["class_name"]`` goes before ``class_names``."""
    own = detections.data.get("class_name") if detections.data else None
    if own is not None:
        return [plain_text(name) for name in own]
    return [class_name(int(i), class_names) for i in class_ids(detections)]


def track_ids(rows: sv.Detections) -> list[int]:
    """The identities of the rows as numbers that json takes; empty where there are none."""
    return [] if rows.tracker_id is None else [int(i) for i in rows.tracker_id]
