"""YOLO's labels: a folder of one text file an image, detections in.

A row is ``class x y width height [score] [id]``, the centre and the size as parts of the picture; or ``class x y x y
... [score] [id]``, a polygon; or a box with the points of a pose before score and id. Which of them is found from all
rows of the folder. Names come from ``classes.txt``, ``obj.names`` or ``data.yaml`` in the folder or above it.

Source: docs.ultralytics.com, detection and segmentation datasets, and ``Results.save_txt``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from masa_track.errors import InputError
from masa_track.formats.detection_file import Rows, Video
from masa_track.formats.joining import Label, Numbering, join_images
from masa_track.formats.tables import BadRows, numbered_lines

_NO_LABELS = {"classes.txt", "notes.txt", "train.txt", "val.txt", "test.txt", "readme.txt"}
_FOLDERS = ("labels", "obj_train_data")  # that hold the labels of a folder of Ultralytics and of CVAT
_COCO_POSE = 17 * 3


class _Layout(NamedTuple):
    """The columns of a row after class, centre and size.

    Attributes:
        points: how many values are points of a pose; None: a row of more than 7 values is a polygon.
        scored: whether a score follows.
        tracked: whether an identity is the last value.
    """

    points: int | None
    scored: bool
    tracked: bool


def read_yolo(folder: Path, video: Video, numbering: Numbering, bad: BadRows) -> Rows:
    """The rows of all label files of a folder.

    Raises:
        InputError: it holds no label files, they are not of this video, or a line has another form.
    """
    given, files = folder, _label_files(folder)
    for name in _FOLDERS:
        if not files:
            files, folder = _label_files(given / name), given / name
    if not files:
        folder = given
        raise InputError(
            f"detections '{folder}' cannot be read: the folder holds no .txt files of labels; give a file of "
            "detections, or YOLO's folder of labels"
        )
    joined = join_images([Label(path.name) for path in files], video, numbering, folder)
    found: list[tuple[int, list[float], str]] = []
    for path, frame in zip(files, joined.frames, strict=True):
        for number, line in numbered_lines(path.read_text(encoding="utf-8-sig", errors="replace")):
            place = f"{path.name}, line {number}"
            try:
                values = [float(field) for field in line.split()]
                if len(values) < 5 or not np.isfinite(values).all():
                    raise ValueError
            except ValueError:
                bad.add(place, f"YOLO's rows are class x y width height [score], or polygons: {line.strip()[:60]!r}")
                continue
            if frame:
                found.append((frame, values, place))
    if not found:
        raise InputError(f"{folder} holds no detections: no label file of an image of the source has a row")
    known = _read_yaml(folder)
    layout = _layout(folder, [values for _, values, _ in found], known)
    size = np.array([video.width, video.height], np.float64)
    table: list[list[float]] = []
    masks: list[Any] = []
    for frame, values, _ in found:
        last = values[: -1 if layout.tracked else None]
        score, mask = 1.0, None
        long = layout.points is None and len(last) > 6
        if long and max(last[1:]) <= 1:
            if len(last) % 2 == 0:
                score, last = last[-1], last[:-1]
            points = np.array(last[1:]).reshape(-1, 2) * size
            low, high = points.min(axis=0), points.max(axis=0)
            mask = [points.ravel().tolist()]
        else:
            centre, extent = np.array(values[1:3]) * size, np.array(values[3:5]) * size
            low, high = centre - extent / 2, centre + extent / 2
            if layout.scored and len(last) > 5 and not long:
                score = last[-1]
        table.append([frame, *low, *(high - low), score, values[0]])
        masks.append(mask)
    rows = np.array(table)
    return Rows(
        rows[:, 0],
        rows[:, 1:5],
        rows[:, 5],
        rows[:, 6],
        lambda i: found[i][2],
        _names(folder, known),
        masks if any(masks) else [],
        joined.notes,
    )


def _label_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.txt") if path.name.lower() not in _NO_LABELS and path.is_file())


def _layout(folder: Path, rows: Sequence[Sequence[float]], known: dict[str, Any] | None) -> _Layout:
    """What all rows of a folder have after class, centre and size.

    Raises:
        InputError: the rows may be polygons as well as poses.
    """
    lengths = {len(row) for row in rows}
    long = [row for row in rows if len(row) > 7]
    shape = (known or {}).get("kpt_shape")
    points: int | None = None
    if isinstance(shape, list) and len(shape) == 2 and all(isinstance(one, int) for one in shape):
        points = shape[0] * shape[1]
    elif len(long) == len(rows) and len(lengths) == 1:
        values = len(rows[0]) - 5
        if 0 <= values - _COCO_POSE <= 2:
            points = _COCO_POSE
        elif any(max(row[5:-1]) > 1 for row in rows):  # 2: the point is seen
            points = values // 3 * 3
        elif known is None and len(rows) > 2 and len(rows[0]) > 11:
            raise InputError(
                f"{folder}: each of its {len(rows)} rows has {len(rows[0])} values, which may be polygons, or boxes "
                "with the points of a pose: put a data.yaml beside it, with kpt_shape: [points, values of a point] if "
                "they are poses"
            )
    if points is not None:
        extra = {length - 5 - points for length in lengths}
        if not extra <= {0, 1, 2}:
            raise InputError(f"{folder}: rows must have 5 values and {points} of points, got {sorted(lengths)[:5]}")
        ids = 2 in extra or (1 in extra and _are_ids(row[-1] for row in rows))
        return _Layout(points, 2 in extra or (1 in extra and not ids), ids)
    if long:
        ids = any(row[-1] > 1 for row in long) and _are_ids(row[-1] for row in long)
        return _Layout(None, True, ids)
    if 7 in lengths:  # polygons of three points, unless all rows end with an identity
        ids = lengths == {7} and all(row[-1] == int(row[-1]) for row in rows)
        return _Layout(0 if ids else None, ids or 6 in lengths, ids)
    ids = 6 in lengths and _are_ids(row[-1] for row in rows if len(row) == 6)
    return _Layout(0, 6 in lengths and not ids, ids)


def _are_ids(values: Iterable[float]) -> bool:
    """Whether values are identities, not scores: whole numbers, one of them above 1."""
    found = list(values)
    return any(value > 1 for value in found) and all(value == int(value) for value in found)


def _places(folder: Path) -> tuple[Path, ...]:
    return folder, folder.parent, folder.parent.parent


def _names(folder: Path, known: dict[str, Any] | None) -> dict[int, str]:
    for place in _places(folder):
        for name in ("classes.txt", "obj.names"):
            if (place / name).is_file():
                lines = (place / name).read_text(encoding="utf-8-sig", errors="replace").splitlines()
                return {i: line.strip() for i, line in enumerate(line for line in lines if line.strip())}
    names = (known or {}).get("names")
    if isinstance(names, list):
        return {i: str(name) for i, name in enumerate(names)}
    if isinstance(names, dict):
        return {int(key): str(name) for key, name in names.items() if str(key).isdecimal()}
    return {}


def _read_yaml(folder: Path) -> dict[str, Any] | None:
    """What the data.yaml of the labels holds; None where there is none.

    Raises:
        InputError: it is no yaml.
    """
    for place in _places(folder):
        for name in ("data.yaml", "data.yml", "dataset.yaml"):
            if (place / name).is_file():
                try:
                    content = yaml.safe_load((place / name).read_text(encoding="utf-8-sig", errors="replace"))
                except yaml.YAMLError as error:
                    raise InputError(f"{place / name} is no yaml ({' '.join(str(error).split())}): fix it") from error
                return content if isinstance(content, dict) else {}
    return None
