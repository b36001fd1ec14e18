"""MOTChallenge text, truth or tracks, as arrays; every broken rule is reported with its file and line."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from masa_track.errors import InputError
from masa_track.formats.tables import fields_of, separator_of

_COLUMNS = "frame,id,left,top,width,height"
_MAX_INT = 2**63 - 1


@dataclass(frozen=True)
class MotRows:
    """The boxes of one sequence, sorted by frame.

    Attributes:
        frames: (N,) int64, counted from 1, rising.
        ids: (N,) int64, 0 or more, each at most once in a frame.
        boxes: (N, 4) float64 left, top, width, height in pixels, as in the file (so 1-based); sizes above 0.
    """

    frames: np.ndarray
    ids: np.ndarray
    boxes: np.ndarray

    def __len__(self) -> int:
        return len(self.frames)

    def every(self, stride: int) -> MotRows:
        """The rows on frames 1, 1 + stride, 1 + 2 * stride, ..."""
        return self.only((self.frames - 1) % stride == 0)

    def only(self, keep: np.ndarray) -> MotRows:
        """The rows where ``keep`` (N,) bool is true."""
        return MotRows(self.frames[keep], self.ids[keep], self.boxes[keep])

    def in_frame(self, frame: int) -> slice:
        """Where the rows of one frame are; an empty slice where it has none."""
        start, stop = np.searchsorted(self.frames, [frame, frame + 1])
        return slice(int(start), int(stop))


def read_mot(path: str | Path, truth: bool = False) -> MotRows:
    """Reads ``frame,id,left,top,width,height[,flag[,...]]`` rows, separated by commas, semicolons, tabs or
    blanks; blank lines are skipped.

    In truth, the seventh column is a flag: rows with 0 are not to be scored and are dropped; 1 and, in PETS09-S3-MF1,
    -1 are kept. In tracks it is a confidence and is ignored. Later columns are always ignored: the eighth is a
    class in MOT16 and later, but a 3D coordinate in MOT15.

    Args:
        path: the file. One of tracks may be empty.
        truth: whether the seventh column is the flag.

    Returns:
        The rows kept.

    Raises:
        InputError: the file cannot be read; a line has too few columns, no number, a NaN, a frame below 1, an id below
            0, a size of 0 or less; an id occurs twice in a frame; or truth has no row left. With file and line.

    Source: Leal-Taixe et al., MOTChallenge 2015, 2015, and Milan et al., MOT16, 2016 (the formats).
    """
    path = Path(path)
    frames: list[int] = []
    ids: list[int] = []
    boxes: list[list[float]] = []
    unique = Unique()
    ignored = 0
    for number, line in text_lines(path):
        with at_line(path, number):
            frame, track_id, box, flag = _row(_fields_of(line))
            if truth and flag == 0:
                ignored += 1
                continue
            check_scored(track_id, box)
            unique.add(frame, track_id, number)
        frames.append(frame)
        ids.append(track_id)
        boxes.append(box)
    if truth and not frames:
        why = f"all {ignored} of its rows are flagged 0 (not to be scored)" if ignored else "the file has no rows"
        raise InputError(f"GT must have at least one row to score against, but in {path} {why}")
    return mot_rows(frames, ids, boxes)[0]


@dataclass(frozen=True)
class LabelledRows:
    """Truth with all that MOT16 and later say of a row, also of rows that are not to be scored.

    Attributes:
        rows: N boxes; rows flagged 0 may have any id and any size.
        flags: (N,) float64, column 7: 0 is not to be scored.
        classes: (N,) int64, column 8; -1 where the row has none.
    """

    rows: MotRows
    flags: np.ndarray
    classes: np.ndarray


def read_labelled(path: str | Path, tracks: bool = False) -> LabelledRows:
    """Reads ``frame,id,left,top,width,height,flag,class[,visibility]`` rows; no row is dropped.

    Args:
        path: the file.
        tracks: whether the seventh column is a confidence, and so all rows are checked.

    Raises:
        InputError: as of :func:`read_mot`, for rows with a flag other than 0.
    """
    path = Path(path)
    frames: list[int] = []
    ids: list[int] = []
    boxes: list[list[float]] = []
    labels: list[tuple[float, float]] = []  # flag, class
    unique = Unique()
    for number, line in text_lines(path):
        with at_line(path, number):
            fields = _fields_of(line)
            frame, track_id, box, flag = _row(fields)
            if flag or tracks:
                check_scored(track_id, box)
                unique.add(frame, track_id, number)
            # MOT15 has a coordinate in this column, which need not be whole: no class.
            value = finite_number("class", fields[7]) if len(fields) > 7 and fields[7].strip() else -1.0
        frames.append(frame)
        ids.append(track_id)
        boxes.append(box)
        labels.append((flag, value if value.is_integer() else -1.0))
    rows, order = mot_rows(frames, ids, boxes)
    flags, classes = np.array(labels, np.float64).reshape(-1, 2)[order].T
    return LabelledRows(rows, flags, classes.astype(np.int64))


def mot_rows(frames: list[int], ids: list[int], boxes: list[list[float]]) -> tuple[MotRows, np.ndarray]:
    """The rows sorted by frame, and their order (N,): rows of a frame keep theirs."""
    order = np.argsort(np.array(frames, np.int64), kind="stable")
    columns = (np.array(frames, np.int64), np.array(ids, np.int64), np.array(boxes, np.float64).reshape(-1, 4))
    return MotRows(*(column[order] for column in columns)), order


class Unique:
    """Refuses an identity that occurs twice in a frame, and names the line of the first."""

    def __init__(self) -> None:
        self._line: dict[tuple[int, int], int] = {}

    def add(self, frame: int, track_id: int, number: int) -> None:
        """Raises InputError if the identity was added for this frame before."""
        before = self._line.setdefault((frame, track_id), number)
        if before != number:
            raise InputError(f"id {track_id} occurs twice in frame {frame} (first on line {before})")


def check_scored(track_id: int, box: list[float]) -> None:
    """Raises InputError unless the id is 0 or more, and width and height are above 0."""
    if track_id < 0:
        raise InputError(f"id must be 0 or more, got {track_id} (detections without identities cannot be scored)")
    if min(box[2:]) <= 0:
        raise InputError(f"width and height must be above 0, got {box[2]:g} and {box[3]:g}")


@contextmanager
def at_line(path: Path, number: int) -> Iterator[None]:
    """Puts the file and the line before the message of an InputError."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}, line {number}: {error}") from None


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, with their numbers from 1; without a header of MOTChallenge's columns.

    Raises:
        InputError: the file cannot be read or is no text.
    """
    header = True
    for number, line in enumerate(_lines(path), start=1):
        if line.strip() and not (header and _is_header(line)):
            yield number, line
        header = header and not line.strip()


def _is_header(line: str) -> bool:
    names = [field.strip('"').lower() for field in _fields_of(line)[:6]]
    sides = {("left", "top", "width", "height"), ("x", "y", "w", "h"), ("x", "y", "width", "height")}
    bare = tuple(re.sub(r"^(bb|bbox)_", "", name) for name in names[2:])
    return names[:1] in (["frame"], ["frame_id"], ["frameid"]) and bare in sides


def _lines(path: Path) -> Iterable[str]:
    try:
        return path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} must be a MOT text file ({_COLUMNS},...), but it is no text") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error


def _fields_of(line: str) -> list[str]:
    return fields_of(line, separator_of(line))


def _row(fields: list[str]) -> tuple[int, int, list[float], float]:
    if len(fields) < 6:
        line = ",".join(fields)
        raise InputError(f"a row must have at least 6 columns ({_COLUMNS}), got {len(fields)}: {_short(line)}")
    frame = whole_number("frame", fields[0])
    if frame < 1:
        raise InputError(f"frames must count from 1, got {frame}")
    track_id = whole_number("id", fields[1])
    names = ("left", "top", "width", "height")
    box = [finite_number(name, field) for name, field in zip(names, fields[2:6], strict=True)]
    flag = finite_number("flag", fields[6]) if len(fields) > 6 and fields[6].strip() else 1.0
    return frame, track_id, box, flag


def finite_number(name: str, field: str) -> float:
    """The number in a field called ``name``; raises InputError if it is none or not finite."""
    try:
        value = float(field)
    except ValueError:
        raise InputError(f"{name} must be a number, got {_short(field)}") from None
    if not math.isfinite(value):
        raise InputError(f"{name} must be finite, got {value}")
    return value


def whole_number(name: str, field: str) -> int:
    """The whole number in a field called ``name``, of 64 bits; raises InputError if it is none."""
    try:
        whole = int(field)  # not through a float: ids from a hash have more than 53 bits
    except ValueError:
        value = finite_number(name, field)
        if not value.is_integer():
            raise InputError(f"{name} must be a whole number, got {_short(field)}") from None
        whole = int(value)
    if abs(whole) > _MAX_INT:
        raise InputError(f"{name} must fit into 64 bits, got {_short(field)}")
    return whole


def _short(text: str) -> str:
    text = text.strip()
    return repr(text if len(text) <= 60 else text[:57] + "...")
