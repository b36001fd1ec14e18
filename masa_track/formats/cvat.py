"""Tracks as "CVAT for video 1.1", to be reviewed and corrected in CVAT; and the boxes of CVAT's xml as detections.

A ``track`` has a ``box`` for each tracked frame, a keyframe; CVAT draws the frames between by itself. Where a track
is not seen, a box that is ``outside`` ends it. A box that fills a gap is no keyframe: it is on the line that CVAT draws
by itself. Frames count from 0. Masks are not in this format's tracks. Of a part, ``parent_id``, ``part`` and ``phrase``
are attributes.

Source: https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/ and .../xml_format/, CVAT 2.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from masa_track.errors import InputError
from masa_track.formats.detection_file import Rows, Video
from masa_track.formats.joining import Joined, Label, Numbering, join_images, join_numbers, match_names, numbers_in
from masa_track.formats.keyframes import MOST_FRAMES, Keyframe, boxes_between, turned_box
from masa_track.formats.rows import PART_FIELDS
from masa_track.formats.run import Run

_SHAPES = {"polygon", "polyline", "points", "mask", "ellipse", "cuboid", "skeleton"}
_STEP = re.compile(r"step=([1-9][0-9]{0,5})")


def cvat_xml(run: Run) -> str:
    """The run as the text of an ``annotations.xml``.

    The task needs labels of the same names; a track gets the class that it had most often. Track ids become CVAT's own
    numbers on import; here they are ours.
    """
    root = ET.Element("annotations")
    ET.SubElement(root, "version").text = "1.1"
    size = int(run.frames[-1])
    task = ET.SubElement(ET.SubElement(root, "meta"), "task")
    about = {"name": run.name, "size": size, "mode": "interpolation", "overlap": 0, "flipped": False}
    for key, value in {**about, "start_frame": 0, "stop_frame": size - 1}.items():
        ET.SubElement(task, key).text = str(value)
    labels = ET.SubElement(task, "labels")
    used = {number for _, number, _ in run.tracks()}
    for name in dict.fromkeys(run.class_name(number) for number in sorted(used | set(run.class_names))):
        label = ET.SubElement(labels, "label")
        ET.SubElement(label, "name").text = name
        attributes = ET.SubElement(label, "attributes")
        for attribute in PART_FIELDS if run.tree else ():
            entry = ET.SubElement(attributes, "attribute")
            facts = {"name": attribute, "mutable": "True", "input_type": "text", "default_value": "", "values": ""}
            for key, value in facts.items():
                ET.SubElement(entry, key).text = value
    original = ET.SubElement(task, "original_size")
    ET.SubElement(original, "width").text = str(run.width)
    ET.SubElement(original, "height").text = str(run.height)

    for track_id, number, places in run.tracks():
        track = ET.SubElement(root, "track", id=str(track_id), label=run.class_name(number), source="auto")
        for spell in run.spells(places):
            for place in spell:
                on_line = bool(run.filled[place] and not run.smoothed[place])
                tree = run.tree[place] if run.tree else {}
                _add_box(track, int(run.frames[run.rows[place]]), run.boxes[place], keyframe=not on_line, tree=tree)
            after = int(run.rows[spell[-1]]) + 1
            if after < len(run.frames):  # else the track lasts as long as the run
                _add_box(track, int(run.frames[after]), run.boxes[spell[-1]], outside=True)
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _add_box(
    track: ET.Element,
    frame: int,
    box: np.ndarray,
    outside: bool = False,
    keyframe: bool = True,
    tree: Mapping[str, int | str] = MappingProxyType({}),
) -> None:
    sides = dict(zip(("xtl", "ytl", "xbr", "ybr"), (f"{value:.2f}" for value in box), strict=True))
    state = {"outside": str(int(outside)), "occluded": "0", "keyframe": str(int(keyframe)), "z_order": "0"}
    element = ET.SubElement(track, "box", {"frame": str(frame - 1), **state, **sides})
    for name, value in tree.items():
        ET.SubElement(element, "attribute", name=name).text = str(value)


def read_cvat(path: Path, text: str, video: Video, numbering: Numbering) -> Rows:
    """The boxes of "CVAT for video 1.1" or "CVAT for images 1.1".

    CVAT writes the frame numbers of the video, also in a task of a part of it, or of every n-th frame. A file whose
    numbers are not frames of its task counts them one by one from ``start_frame``. Boxes of a task of another size are
    scaled; the upright box around a rotated one is taken.

    Raises:
        InputError: it is no such xml, is of several tasks, or a box has another form.
    """
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise InputError(f"{path}: an xml of CVAT has no document type: remove it")
    try:
        root = ET.fromstring(text)
    except ET.ParseError as error:
        raise InputError(f"{path} is not whole xml ({error}): write it anew") from error
    if root.tag != "annotations":
        raise InputError(f"{path} must be CVAT's xml of <annotations>, got <{root.tag}>")
    names: dict[str, int] = {}
    for label in root.iter("label"):
        names.setdefault((label.findtext("name") or "").strip(), len(names))
    size = root.find(".//original_size")
    scale = np.ones(2)
    if size is not None:
        scale = _scale(path, size.findtext("width"), size.findtext("height"), video)
    task = _task(path, root)
    start, stop = _whole_text(path, task, "start_frame") or 0, _whole_text(path, task, "stop_frame")
    step = int(found_step[1]) if (found_step := _STEP.search(task.findtext("frame_filter") or "")) else 1
    images = list(root.iter("image"))
    ids = [_frame(path, "image", image, "id") for image in images]
    tracks: list[tuple[str, str, list[Keyframe]]] = []  # place, class, boxes
    for track in root.iter("track"):
        place = f"track {track.get('id')}"
        keyframes = []
        for box in track.iter("box"):
            seen = _attribute(path, place, box, "outside", "0") == 0
            keyframes.append(Keyframe(_frame(path, place, box, "frame"), _sides(path, place, box), seen, seen))
        tracks.append((place, track.get("label") or "", keyframes))
    written = [*ids, *(keyframe.frame for _, _, keyframes in tracks for keyframe in keyframes)]
    counted = any(number < start or (number - start) % step for number in written)
    last = -1 if stop is None else (stop - start) // step if counted else stop
    found: list[tuple[np.ndarray, str, str]] = []  # xyxy, class, place
    frames: list[int] = []
    for place, name, keyframes in tracks:
        for frame, sides in boxes_between(keyframes, last):
            if counted or (frame - start) % step == 0:
                frames.append(frame * step + start if counted else frame)
                found.append((np.array(sides) * [*scale, *scale], name, place))
    if found:
        joined = join_numbers(frames, video, numbering, path, base=0)
        frames = joined.frames
    else:
        ids = [number * step + start for number in ids] if counted else ids
        joined = _joined_images(path, [image.get("name") or "" for image in images], ids, video, numbering)
        for image, number in zip(images, joined.frames, strict=True):
            scale = _scale(path, image.get("width"), image.get("height"), video)
            for box in image.iter("box"):
                place = f"image {image.get('id')}"
                sides = _sides(path, place, box)
                found.append((np.array(sides) * [*scale, *scale], box.get("label") or "", place))
                frames.append(number)
    others = sum(1 for parent in root if parent.tag in ("track", "image") for one in parent if one.tag in _SHAPES)
    notes = joined.notes
    if others:
        notes = (*notes, f"{path}: {others} shapes that are no boxes are left out")
    if not found:
        raise InputError(f"{path} holds no boxes: CVAT's xml of tracks, or of images with boxes, is needed")
    for _, name, _ in found:
        names.setdefault(name, len(names))
    xyxy = np.array([row[0] for row in found], np.float64)
    classes = np.array([names[row[1]] for row in found], np.float64)
    return Rows(
        np.array(frames, np.float64),
        np.hstack((xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2])),
        np.ones(len(found)),
        classes,
        lambda i: found[i][2],
        {number: name for name, number in names.items()},
        notes=notes,
    ).in_video(path)


def _joined_images(path: Path, names: list[str], ids: list[int], video: Video, numbering: Numbering) -> Joined:
    """The frame of each image: by its name and its id, which counts the images of the task from 0."""
    if not ids:
        return Joined([])
    if video.file_names and not numbering.given and match_names(names, video.file_names):
        return join_images([Label(name) for name in names], video, numbering, path)
    of_video = all(re.fullmatch(r"frame_[0-9]{6,}", name) for name in names)
    if of_video or numbering.given or numbers_in(names) is None:
        return join_numbers(ids, video, numbering, path, base=0)
    return join_images([Label(*one) for one in zip(names, ids, strict=True)], video, numbering, path)


def _task(path: Path, root: ET.Element) -> ET.Element:
    """What the file says of its task.

    Raises:
        InputError: it holds several tasks, each of which counts its own frames.
    """
    tasks = [*root.iterfind("./meta/task"), *root.iterfind("./meta/job"), *root.iterfind("./meta/project/tasks/task")]
    if len(tasks) > 1:
        listed = ", ".join((task.findtext("name") or "?").strip() for task in tasks[:5])
        raise InputError(
            f"{path} holds {len(tasks)} tasks of a project ({listed}): export the task of this video alone"
        )
    return tasks[0] if tasks else ET.Element("task")


def _scale(path: Path, width: Any, height: Any, video: Video) -> np.ndarray:
    """(2,) by what x and y are multiplied to be of the video."""
    try:
        size = float(width), float(height)
    except (TypeError, ValueError):
        return np.ones(2)
    if min(size) <= 0:
        return np.ones(2)
    if size == (video.height, video.width) and video.width != video.height:
        raise InputError(
            f"{path}: its pictures are {width}x{height}, the video is {video.width}x{video.height}: turned"
        )
    return np.array([video.width / size[0], video.height / size[1]])


def _sides(path: Path, place: str, box: ET.Element) -> tuple[float, ...]:
    x1, y1, x2, y2 = (_attribute(path, place, box, name) for name in ("xtl", "ytl", "xbr", "ybr"))
    turn = _attribute(path, place, box, "rotation", "0")
    return turned_box((x1, y1, x2, y2), turn, ((x1 + x2) / 2, (y1 + y2) / 2))


def _frame(path: Path, place: str, element: ET.Element, name: str) -> int:
    value = _attribute(path, place, element, name)
    if value != int(value) or not 0 <= value <= MOST_FRAMES:
        raise InputError(f"{path}, {place}: {name} must be a frame number from 0, got {value:g}; fix it")
    return int(value)


def _attribute(path: Path, place: str, element: ET.Element, name: str, default: str = "") -> float:
    text = element.get(name, default)
    try:
        value = float(text)
        if abs(value) <= 2**53:
            return value
    except ValueError:
        pass
    raise InputError(f"{path}, {place}: {name} must be a number, got {text[:60]!r}; fix it")


def _whole_text(path: Path, task: ET.Element, name: str) -> int | None:
    text = task.findtext(name)
    if text is None or not text.strip():
        return None
    if not (text.strip().isdecimal() and len(text.strip()) < 8):
        raise InputError(f"{path}: {name} must be a whole number, got {text[:60]!r}; fix it")
    return int(text)
