"""KITTI's tracking labels and results: detections in.

``frame id type truncated occluded alpha left top right bottom height width length x y z rotation [score]``, separated
by blanks; frames and pixels count from 0. Rows of ``DontCare`` are left out.

Source: the readme of KITTI's tracking development kit, 2012.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from masa_track.errors import InputError
from masa_track.formats.detection_file import Rows
from masa_track.formats.tables import BadRows, numbered_lines


def is_kitti(text: str) -> bool:
    """Whether the first line has a type in its third column and KITTI's number of columns."""
    fields = next((line.split() for _, line in numbered_lines(text)), [])
    return len(fields) in (17, 18) and fields[2][:1].isalpha()


def read_kitti(path: Path, text: str, bad: BadRows) -> Rows:
    """The rows; ``frames`` count from 0. Types become classes 0, 1, ... in order of the alphabet.

    Raises:
        InputError: a line has another form, or no row is left.
    """
    table: list[list[float]] = []
    types: list[str] = []
    places: list[int] = []
    for number, line in numbered_lines(text):
        fields = line.split()
        if len(fields) > 2 and fields[2] == "DontCare":
            continue
        try:
            if len(fields) not in (17, 18):
                raise ValueError
            values = [float(fields[0]), *map(float, fields[6:10]), float(fields[17]) if len(fields) == 18 else 1.0]
        except ValueError:
            bad.add(f"line {number}", f"KITTI's lines have 17 or 18 columns, got {line.strip()[:60]!r}")
            continue
        table.append(values)
        types.append(fields[2])
        places.append(number)
    if not table:
        raise InputError(f"{path} holds no detections: it has no row but DontCare")
    rows = np.array(table)
    names = sorted(set(types))
    classes = np.array([names.index(one) for one in types], np.float64)
    xywh = np.hstack((rows[:, 1:3], rows[:, 3:5] - rows[:, 1:3]))
    return Rows(rows[:, 0], xywh, rows[:, 5], classes, lambda i: f"line {places[i]}", dict(enumerate(names)))
