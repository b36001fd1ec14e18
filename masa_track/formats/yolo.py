"""YOLO's labels: a folder of one text file an image, detections in.

A row is ``class x y width height [score] [id]``, the centre and the size as parts of the picture, or ``class x y x y
...``, a polygon. Names come from ``classes.txt``, ``obj.names`` or ``data.yaml`` in the folder or above it.

Source: docs.ultralytics.com, detection and segmentation datasets, and ``Results.save_txt``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from masa_track.errors import InputError
from masa_track.formats.detection_file import Rows, Video
from masa_track.formats.joining import Label, Numbering, join_images
from masa_track.formats.tables import BadRows, numbered_lines

_NO_LABELS = {"classes.txt", "notes.txt", "train.txt", "val.txt", "test.txt", "readme.txt"}


def read_yolo(folder: Path, video: Video, numbering: Numbering, bad: BadRows) -> Rows:
    """The rows of all label files of a folder.

    Raises:
        InputError: it holds no label files, they are not of this video, or a line has another form.
    """
    files = sorted(path for path in folder.glob("*.txt") if path.name.lower() not in _NO_LABELS and path.is_file())
    if not files:
        raise InputError(
            f"detections '{folder}' cannot be read: the folder holds no .txt files of labels; give a file of "
            "detections, or YOLO's folder of labels"
        )
    joined = join_images([Label(path.name) for path in files], video, numbering, folder)
    table: list[list[float]] = []
    places: list[str] = []
    masks: list[Any] = []
    size = np.array([video.width, video.height], np.float64)
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
            if frame == 0:
                continue
            score, mask = 1.0, None
            if len(values) >= 7 and len(values) % 2 == 1 and not _is_tracked(values):
                points = np.array(values[1:]).reshape(-1, 2) * size
                low, high = points.min(axis=0), points.max(axis=0)
                mask = [points.ravel().tolist()]
            else:
                centre, extent = np.array(values[1:3]) * size, np.array(values[3:5]) * size
                low, high = centre - extent / 2, centre + extent / 2
                if len(values) in (6, 7) and 0 <= values[5] <= 1:  # more are the points of a pose
                    score = values[5]
            table.append([frame, *low, *(high - low), score, values[0]])
            places.append(place)
            masks.append(mask)
    if not table:
        raise InputError(f"{folder} holds no detections: no label file of an image of the source has a row")
    rows = np.array(table)
    return Rows(
        rows[:, 0],
        rows[:, 1:5],
        rows[:, 5],
        rows[:, 6],
        places.__getitem__,
        _names(folder),
        masks if any(masks) else [],
        joined.notes,
    )


def _is_tracked(values: list[float]) -> bool:
    """Whether seven values are ``class x y width height score id``, not a polygon of three points."""
    return len(values) == 7 and values[6] >= 1 and values[6] == int(values[6])


def _names(folder: Path) -> dict[int, str]:
    for place in (folder, folder.parent, folder.parent.parent):
        for name in ("classes.txt", "obj.names"):
            if (place / name).is_file():
                lines = (place / name).read_text(encoding="utf-8-sig", errors="replace").splitlines()
                return {i: line.strip() for i, line in enumerate(line for line in lines if line.strip())}
        for name in ("data.yaml", "data.yml", "dataset.yaml"):
            if (place / name).is_file():
                return _yaml_names((place / name).read_text(encoding="utf-8-sig", errors="replace"))
    return {}


def _yaml_names(text: str) -> dict[int, str]:
    """The names of a data.yaml: a list in brackets, a list of lines, or numbers with names."""
    found = re.search(r"^names:[ \t]*(\[[^\]]*\]|\{[^}]*\})?[ \t]*\n?((?:[ \t]*(?:-|[0-9]+:)[^\n]*\n?)*)", text, re.M)
    if found is None:
        return {}
    inline, block = found[1] or "", found[2] or ""
    parts = inline[1:-1].split(",") if inline else [line.strip() for line in block.splitlines() if line.strip()]
    names = {}
    for i, part in enumerate(part.strip() for part in parts if part.strip()):
        keyed = re.match(r"([0-9]+):\s*(.*)", part)
        number, name = (int(keyed[1]), keyed[2]) if keyed else (i, part.removeprefix("-").strip())
        names[number] = name.split(" #")[0].strip().strip("'\"")
    return names
