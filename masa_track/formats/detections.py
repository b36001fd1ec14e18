"""Detections in: a file of any known format, read and checked against the video before any work is done."""

from __future__ import annotations

import gzip
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from masa_track.errors import InputError
from masa_track.formats.coco_vid import read_coco_detections
from masa_track.formats.cvat import read_cvat
from masa_track.formats.detection_file import DetectionFile, Rows, Video
from masa_track.formats.joining import Joined, Label, Numbering, join_images, join_numbers
from masa_track.formats.json_file import MAX_FRAME, parse_json
from masa_track.formats.kitti import is_kitti, read_kitti
from masa_track.formats.label_studio import is_label_studio, read_label_studio
from masa_track.formats.mot import MOT_LINE, mot_table, read_mot_detections
from masa_track.formats.named_rows import is_named, read_named
from masa_track.formats.npz import read_npz
from masa_track.formats.tables import BadRows, has_header, header_rows
from masa_track.formats.yolo import read_yolo

# Boxes partly outside the picture are normal in truth that completes hidden people: in the MOT15 and MOT17 training
# sets a box reaches 1.37 x the height (ETH-Pedcross2) and 1.25 x the width (MOT17-05), but none lies wholly outside.
MAX_EXTENT = 1.5
MAX_OUTSIDE = 0.02
MAX_NUMBER = 1e38  # what float32 holds, with room to add two of them


def read_detections(
    path: str | Path, video: Video, numbering: Numbering | None = None, skip_bad_rows: bool = False
) -> DetectionFile:
    """Reads a file of detections and checks that they can be this video's.

    The format is found from the content. docs/concepts/formats.md lists them all.

    MOTChallenge text is ``frame,id,left,top,width,height[,confidence[,class,...]]`` with 1-based frames and pixels:
    ``det.txt``, ``gt.txt`` or a tracker's results. Where the ids are not all -1, rows with confidence 0 are those
    MOTChallenge ignores, and left out. Columns are separated by commas, semicolons, tabs or blanks. The eighth column
    is the class if it is a whole number of at least 1 in every row, or of at least 0 and not all the same; otherwise
    (-1, or MOT15's world coordinates) the class is 0. Text may be compressed by gzip, and in UTF-16.

    COCO json is a bare list of results (``image_id`` is the 1-based frame number, 0-based if any is 0; or the name of
    an image), or a dict of images, annotations and categories. Boxes are 0-based xywh; crowd annotations are left out.
    Boxes of images of another size than the video's are scaled.

    :mod:`masa_track.formats.joining` finds the frame of each row.

    An npz has the arrays that :mod:`masa_track.formats.npz` lists. Its masks, and ``segmentation`` of COCO json,
    are kept as they are.

    A confidence of exactly -1, or none, becomes 1.

    Args:
        path: the file.
        video: an open source.
        numbering: how the file numbers frames; None: it is found out.
        skip_bad_rows: leave out rows that make no sense, and note them, in place of refusing the file.

    Raises:
        InputError: the file cannot be read or holds no detections, a row of it makes no sense, or its frames or boxes
            are not of this video. The message names the file and the line, or the annotation.
    """
    path = Path(path)
    bad = BadRows(path, skip_bad_rows)
    rows = _check_rows(path, _read(path, video, numbering or Numbering(), bad), bad)
    _check_video(path, rows, video)
    order = np.argsort(rows.frames, kind="stable")
    xyxy = rows.xywh.copy()
    xyxy[:, 2:] += xyxy[:, :2]
    return DetectionFile(
        path=path,
        class_names=rows.class_names,
        frames=rows.frames[order].astype(np.int64),
        boxes=xyxy[order].astype(np.float32),
        scores=np.where(rows.scores == -1, 1.0, rows.scores)[order].astype(np.float32),
        class_ids=rows.class_ids[order].astype(np.int64),
        masks=tuple(rows.masks[i] for i in order) if rows.masks else (),
        notes=(*rows.notes, *bad.notes),
    )


def _read(path: Path, video: Video, numbering: Numbering, bad: BadRows) -> Rows:
    if path.is_dir():
        return read_yolo(path, video, numbering, bad)
    if zipfile.is_zipfile(path):
        return _read_npz(path, video, numbering)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"detections {str(path)!r} cannot be read: {error.strerror}; check the path") from error
    if data.startswith(b"\x93NUMPY"):
        return _joined_rows(path, _read_npy(path), video, numbering, bad)
    try:
        if data.startswith(b"\x1f\x8b"):
            data = gzip.decompress(data)
        text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} is not a whole gzip file ({error}): compress it anew") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not text: give MOTChallenge text, COCO json or npz") from error
    if "\0" in text:
        raise InputError(f"{path} is not text: give MOTChallenge text, COCO json or npz")
    if not text.strip():
        raise InputError(f"{path} is empty: give MOTChallenge text, COCO json or npz")
    first = text.lstrip()[0]
    if first in "[{":
        return _read_json(path, text, video, numbering, bad)
    if first == "<":
        return read_cvat(path, text, video, numbering)
    if is_kitti(text):
        return _joined_rows(path, read_kitti(path, text, bad), video, numbering, bad, base=0)
    if has_header(text):
        entries = ((f"line {number}", row) for number, row in header_rows(text))
        return read_named(path, entries, video, numbering, bad)
    return _joined_rows(path, read_mot_detections(path, text, bad), video, numbering, bad)


def _read_json(path: Path, text: str, video: Video, numbering: Numbering, bad: BadRows) -> Rows:
    try:
        content = parse_json(text)
    except ValueError as error:
        raise InputError(f"{path} is not whole json ({error}): write it anew") from error
    if is_named(content):
        entries = ((f"row [{i}]", row if isinstance(row, dict) else {}) for i, row in enumerate(content))
        return read_named(path, entries, video, numbering, bad)
    if is_label_studio(content):
        return read_label_studio(path, content, video, numbering)
    return read_coco_detections(path, content, video, numbering)


def _joined_rows(path: Path, rows: Rows, video: Video, numbering: Numbering, bad: BadRows, base: int = 1) -> Rows:
    """The rows with frames of the video; ``frames`` are whole numbers of the file."""
    valid = (rows.frames == np.floor(rows.frames)) & (np.abs(rows.frames) <= MAX_FRAME)
    if not numbering.given:
        valid &= rows.frames >= base
    if not valid.all() and (not bad.skip or not valid.any()):
        return rows  # they are refused with their line
    for i in np.flatnonzero(~valid).tolist():
        bad.add(rows.place(i), f"frames are whole numbers from {base}, got {rows.frames[i]:g}")
    rows = rows.only(valid)
    joined = join_numbers(rows.frames.astype(np.int64).tolist(), video, numbering, path, base)
    notes = (*rows.notes, *joined.notes)
    return replace(rows, frames=np.array(joined.frames, np.float64), notes=notes).in_video(path)


def _read_npy(path: Path) -> Rows:
    """An array (N, 6 or more) of MOTChallenge's columns; what follows the tenth, as features, is left out."""
    try:
        table = np.load(path, allow_pickle=False)
    except ValueError as error:
        raise InputError(f"{path} is no plain array of numpy: {error}") from error
    if table.ndim != 2 or table.shape[1] < 6 or table.dtype.kind not in "iuf":
        raise InputError(
            f"{path} must hold numbers (N, 6 or more) with the columns {MOT_LINE}, got {table.shape} {table.dtype}"
        )
    return mot_table(path, table.astype(np.float64)[:, :10], lambda i: f"row {i}")


def _read_npz(path: Path, video: Video, numbering: Numbering) -> Rows:
    found = read_npz(path)
    frames = found.frames
    if found.file_names:
        joined = join_images([Label(name) for name in found.file_names], video, numbering, path)
        frames = np.array(joined.frames, np.int64)[frames - 1]
    elif len(frames) and frames.min() >= (0 if numbering.given else 1):
        joined = join_numbers(frames.tolist(), video, numbering, path)
        frames = np.array(joined.frames, np.int64)
    else:
        joined = Joined([])
    xywh = found.boxes.copy()
    xywh[:, 2:] -= xywh[:, :2]
    where = "box {}".format
    columns = frames.astype(np.float64), xywh, found.scores, found.labels
    rows = Rows(*columns, where, found.class_names, found.masks, joined.notes)
    return rows.in_video(path) if joined.frames else rows


# ---------------------------------------------------------------------------------------------------------------------
# Checks


def _check_rows(path: Path, rows: Rows, bad: BadRows) -> Rows:
    """The rows that make sense.

    Raises:
        InputError: a row makes none, and is not to be skipped; or none is left.
    """
    if not len(rows.frames):
        raise InputError(f"{path} holds no detections: nothing could be tracked")

    wrong = np.zeros(len(rows.frames), bool)

    def refuse(these: Any, say: Callable[[int], str]) -> None:
        for i in np.flatnonzero(these & ~wrong).tolist():
            bad.add(rows.place(i), say(i))
        wrong[:] |= these

    numbers = np.column_stack((rows.frames, rows.xywh, rows.scores))
    beyond = ~(np.abs(numbers) <= MAX_NUMBER).all(axis=1)
    refuse(beyond, lambda i: "holds NaN or an infinite number; fix or remove it")
    refuse(
        (rows.xywh[:, 2:] <= 0).any(axis=1),
        lambda i: f"width and height must be above 0, got {rows.xywh[i, 2]:g} x {rows.xywh[i, 3]:g}; fix or remove it",
    )
    refuse(
        ~(np.abs(rows.class_ids) <= MAX_FRAME),
        lambda i: f"class must be a whole number of at most {MAX_FRAME}, got {rows.class_ids[i]:g}; fix it",
    )
    refuse(
        (rows.frames < 1) | (rows.frames != np.floor(rows.frames)) | (rows.frames > MAX_FRAME),
        lambda i: f"frames are whole numbers from 1, got {rows.frames[i]:g}; fix it, or give --frame-base 0",
    )
    if wrong.all():
        raise InputError(f"{path} holds no detections: none of its {len(wrong)} rows makes sense")
    return rows.only(~wrong) if wrong.any() else rows


def _check_video(path: Path, rows: Rows, video: Video) -> None:
    first, last = int(rows.frames.min()), int(rows.frames.max())
    known = video.last_number or video.length
    if known and first > known:
        raise InputError(
            f"{path} has no detections for this video: its frames run {first}..{last}, the video has {known}; "
            "give the file made on this video"
        )
    if video.last_number and last > video.last_number:
        i = int((rows.frames > video.last_number).argmax())
        raise InputError(
            f"{path}, {rows.place(i)}: frame {int(rows.frames[i])}, but the video has {video.last_number}; "
            "give the file made on this video, or all its images"
        )
    low, size = rows.xywh[:, :2], np.array([video.width, video.height])
    high = low + rows.xywh[:, 2:]
    if high.max() <= MAX_EXTENT and rows.xywh[:, 2:].max() <= 1:
        raise InputError(f"{path}: boxes reach {high.max():g} only: are they fractions of the picture? Give pixels")
    outside = ((high <= 0) | (low >= size)).any(axis=1)  # wholly
    for axis, name in enumerate(("wide", "high")):
        i = int(high[:, axis].argmax())
        reach = high[i, axis]
        beyond = (low[:, axis] >= size[axis]).sum()
        if reach > MAX_EXTENT * size[axis] or beyond > max(1, MAX_OUTSIDE * len(low)):
            raise InputError(
                f"{path}, {rows.place(i)}: boxes reach {'xy'[axis]}={reach:g}, but the video is {size[axis]} {name}: "
                "were they made on another size? Give the file made on this video, or scale it"
            )
    if outside.sum() > max(1, MAX_OUTSIDE * len(low)):
        i = int(outside.argmax())
        raise InputError(
            f"{path}, {rows.place(i)}: {outside.sum()} of {len(low)} boxes lie outside the picture, "
            f"{video.width}x{video.height}; they must be pixels from its top left corner"
        )
