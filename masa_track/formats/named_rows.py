"""Rows with named columns, as of supervision's CSVSink and JSONSink and of our own ``tracks.csv``: detections in.

Sides are ``x_min, y_min, x_max, y_max`` (or ``xmin``, ``x1``, ...) or ``left, top, width, height``, in 0-based pixels.
``frame``, ``frame_number``, ``frame_index`` or the like is the frame; its base is found out, see :mod:`joining`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from masa_track.errors import InputError
from masa_track.formats.detection_file import Rows, Video
from masa_track.formats.joining import Joined, Label, Numbering, join_images, join_numbers
from masa_track.formats.tables import BadRows

_FRAME = (
    "frame",
    "frame_number",
    "frame_index",
    "frame_id",
    "frame_no",
    "frame_num",
    "frame_idx",
    "frameid",
    "image",
    "file_name",
    "filename",
    "image_name",
    "image_path",
    "path",
)
_CORNERS = (("x_min", "y_min", "x_max", "y_max"), ("xmin", "ymin", "xmax", "ymax"), ("x1", "y1", "x2", "y2"))
_SIZES = (
    ("left", "top", "width", "height"),
    ("bb_left", "bb_top", "bb_width", "bb_height"),
    ("bbox_left", "bbox_top", "bbox_width", "bbox_height"),
)
_FROM_1 = ("bb_left", "bbox_left")  # MOTChallenge's names, whose pixels and frames count from 1
_SCORE = ("confidence", "score", "conf")
_CLASS, _NAME = ("class_id", "category_id", "classid", "class"), ("class_name", "label", "name", "class")


def is_named(rows: Any) -> bool:
    """Whether json is a list of rows with named sides."""
    return (
        isinstance(rows, list)
        and bool(rows)
        and isinstance(rows[0], dict)
        and any(set(sides) <= {str(key).lower() for key in rows[0]} for sides in (*_CORNERS, *_SIZES))
    )


def read_named(
    path: Path, entries: Iterable[tuple[str, Mapping[str, Any]]], video: Video, numbering: Numbering, bad: BadRows
) -> Rows:
    """The rows.

    Args:
        path: of the file, for messages.
        entries: what to call each row in a message, and its values.
        video: what is read.
        numbering: how the file numbers frames.
        bad: takes rows that cannot be read.

    Raises:
        InputError: columns are missing, or a row cannot be read.
    """
    keyed = [(place, {str(key).strip().lower(): value for key, value in row.items()}) for place, row in entries]
    columns = keyed[0][1].keys() if keyed else ()
    frame_key = next((key for key in _FRAME if key in columns), None)
    sides = next((names for names in (*_CORNERS, *_SIZES) if set(names) <= set(columns)), None)
    if frame_key is None or sides is None:
        raise InputError(
            f"{path}: rows must have a frame ({', '.join(_FRAME[:4])}, ...) and sides (x_min, y_min, x_max, y_max or "
            f"left, top, width, height), got the columns {', '.join(list(columns)[:12])}"
        )
    score_key, class_key, name_key = (
        next((key for key in keys if key in columns), "(none)") for keys in (_SCORE, _CLASS, _NAME)
    )
    if class_key == "class" and any(not _is_number(row.get("class")) for _, row in keyed):
        class_key = "(none)"  # they are names
    if name_key == "class" and class_key == "class":
        name_key = "(none)"
    table: list[list[float]] = []
    frames: list[int | str] = []
    places: list[str] = []
    names: dict[int, str] = {}
    by_name: dict[str, int] = {}
    scaled = 0
    for place, row in keyed:
        try:
            frame: int | str = _frame(row[frame_key])
            values = [_number(row.get(key)) for key in sides]
            score = 1.0 if _is_empty(row, score_key) else _number(row[score_key])
            name = "" if _is_empty(row, name_key) else str(row[name_key]).strip().removeprefix("'")
            number = -1 if _is_empty(row, class_key) else int(_number(row[class_key]))
            scale = _scale(row, video) if sides in _CORNERS else (1.0, 1.0)
        except (KeyError, ValueError, TypeError):
            bad.add(place, f"frame, sides, score and class must be numbers, got {str(dict(row))[:100]}")
            continue
        if number < 0:
            number = by_name.setdefault(name, len(by_name)) if name else 0
        if name:
            names.setdefault(number, name)
        if sides[0] in _FROM_1:
            values[:2] = values[0] - 1, values[1] - 1
        size = values[2:] if sides in _SIZES else [values[2] - values[0], values[3] - values[1]]
        if scale != (1.0, 1.0):
            values[:2], size = [values[0] * scale[0], values[1] * scale[1]], [size[0] * scale[0], size[1] * scale[1]]
            scaled += 1
        table.append([*values[:2], *size, score, number])
        frames.append(frame)
        places.append(place)
    array = np.array(table, np.float64).reshape(-1, 6)
    joined = _joined(path, frames, _counts_from_1(columns, frame_key, sides), video, numbering)
    notes = joined.notes
    if scaled:
        notes = (*notes, f"{path}: {scaled} rows are of images of another size, and scaled to the video's")
    rows = Rows(
        np.array(joined.frames, np.float64),
        array[:, :4],
        array[:, 4],
        array[:, 5],
        places.__getitem__,
        names,
        notes=notes,
    )
    return rows.in_video(path)


def _counts_from_1(columns: Iterable[str], frame_key: str, sides: tuple[str, ...]) -> bool:
    """Whether it is our own tracks.csv, which has times, or MOTChallenge's columns with a header."""
    return sides[0] in _FROM_1 or ("time" in columns and frame_key == "frame")


def _joined(path: Path, frames: list[int | str], from_1: bool, video: Video, numbering: Numbering) -> Joined:
    """The frame of the video of each row."""
    if from_1 and all(isinstance(frame, int) for frame in frames):
        numbering = numbering if numbering.given else Numbering(base=1)
        return join_numbers([int(frame) for frame in frames], video, numbering, path)
    known = list(dict.fromkeys(frames))
    labels = [Label(frame) if isinstance(frame, str) else Label(frame=frame) for frame in known]
    if not labels:
        return Joined([])
    joined = join_images(labels, video, numbering, path)
    place = dict(zip(known, joined.frames, strict=True))
    return Joined([place[frame] for frame in frames], joined.notes)


def _frame(value: Any) -> int | str:
    text = str(value).strip()
    try:
        number = float(text)
    except ValueError:
        if text:
            return text  # a file name
        raise
    if number != math.floor(number) or number < 0:
        raise ValueError
    return int(number)


def _is_empty(row: Mapping[str, Any], key: str) -> bool:
    """Whether the row has nothing under a key."""
    return row.get(key) in (None, "", "None", "nan")


def _is_number(value: Any) -> bool:
    try:
        return value in (None, "", "None") or math.isfinite(_number(value))
    except (ValueError, TypeError):
        return False


def _scale(row: Mapping[str, Any], video: Video) -> tuple[float, float]:
    """By what x and y are multiplied: corners may stand with the image's ``width`` and ``height``."""
    if _is_empty(row, "width") or _is_empty(row, "height"):
        return 1.0, 1.0
    width, height = _number(row["width"]), _number(row["height"])
    if min(width, height) <= 0 or (width, height) == (video.height, video.width) != (video.width, video.height):
        raise ValueError
    return video.width / width, video.height / height


def _number(value: Any) -> float:
    if isinstance(value, bool):
        raise TypeError
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number
