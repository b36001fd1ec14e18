"""Detections in: MOTChallenge text, COCO json or npz, read and checked against the video before any work is done."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from masa_track.errors import InputError
from masa_track.io.detection_file import DetectionFile, Rows, Video
from masa_track.io.json_file import MAX_FRAME, is_key, is_number, parse_json, shown, whole
from masa_track.io.npz_detections import read_npz

# Boxes partly outside the picture are normal in truth that completes hidden people: in the MOT15 and MOT17 training
# sets a box reaches 1.37 x the height (ETH-Pedcross2) and 1.25 x the width (MOT17-05), but none lies wholly outside.
MAX_EXTENT = 1.5
MAX_OUTSIDE = 0.02
MAX_NUMBER = 1e38  # what float32 holds, with room to add two of them

MOT_LINE = "frame,id,left,top,width,height,confidence"


def read_detections(path: str | Path, video: Video) -> DetectionFile:
    """Reads a file of detections and checks that they can be this video's.

    MOTChallenge text is ``frame,id,left,top,width,height[,confidence[,class,...]]`` with 1-based frames and pixels:
    ``det.txt``, ``gt.txt`` or a tracker's results. Where the ids are not all -1, rows with confidence 0 are those
    MOTChallenge ignores, and left out. The eighth column is the class only if it is a whole number of at least 1 in
    every row; otherwise (-1, or MOT15's world coordinates) the class is 0.

    COCO json is a bare list of results (``image_id`` is the 1-based frame number, 0-based if any is 0; or the name of
    an image), or a dict of images, annotations and categories. Its images are the video's by ``file_name`` where the
    video is made of images of those names, else by COCO-VID's 0-based ``frame_id``, else by their order. Boxes are
    0-based xywh; crowd annotations are left out.

    An npz has the arrays that :mod:`masa_track.io.npz_detections` lists. Its masks, and ``segmentation`` of COCO json,
    are kept as they are.

    A confidence of exactly -1, or none, becomes 1.

    Args:
        path: the file.
        video: an open source.

    Raises:
        InputError: the file cannot be read or holds no detections, a row of it makes no sense, or its frames or boxes
            are not of this video. The message names the file and the line, or the annotation.
    """
    path = Path(path)
    rows = _read_npz(path, video) if zipfile.is_zipfile(path) else _read_text(path, video)
    _check_rows(path, rows)
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
    )


def _read_text(path: Path, video: Video) -> Rows:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"detections {str(path)!r} cannot be read: {error.strerror}; check the path") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not text: give MOTChallenge text, COCO json or npz") from error
    if "\0" in text:
        raise InputError(f"{path} is not text: give MOTChallenge text, COCO json or npz")
    if not text.strip():
        raise InputError(f"{path} is empty: give MOTChallenge text, COCO json or npz")
    return _read_coco(path, text, video) if text.lstrip()[0] in "[{" else _read_mot(path, text)


def _read_npz(path: Path, video: Video) -> Rows:
    found = read_npz(path)
    frames = found.frames
    ours = {Path(name).stem: number for number, name in enumerate(video.file_names, 1)}
    if found.file_names and ours:
        missing = [name for name in found.file_names if name not in ours]
        if missing:
            raise InputError(
                f"{path}: its images are not this video's: {missing[0]!r} ({len(missing)} of {len(found.file_names)}) "
                "is not among them; give the file made on this video, or all its images"
            )
        frames = np.array([ours[name] for name in found.file_names])[frames - 1]
    xywh = found.boxes.copy()
    xywh[:, 2:] -= xywh[:, :2]
    where = "box {}".format
    return Rows(frames.astype(np.float64), xywh, found.scores, found.labels, where, found.class_names, found.masks)


# ---------------------------------------------------------------------------------------------------------------------
# Checks


def _check_rows(path: Path, rows: Rows) -> None:
    if not len(rows.frames):
        raise InputError(f"{path} holds no detections: nothing could be tracked")

    def refuse(bad: Any, say: Callable[[int], str]) -> None:
        if bad.any():
            i = int(bad.argmax())
            raise InputError(f"{path}, {rows.place(i)}: {say(i)}")

    numbers = np.column_stack((rows.frames, rows.xywh, rows.scores))
    beyond = ~(np.abs(numbers) <= MAX_NUMBER).all(axis=1)
    refuse(beyond, lambda i: "holds NaN or an infinite number; mend or remove it")
    refuse(
        (rows.xywh[:, 2:] <= 0).any(axis=1),
        lambda i: f"width and height must be above 0, got {rows.xywh[i, 2]:g} x {rows.xywh[i, 3]:g}; mend or remove it",
    )
    refuse(
        ~(np.abs(rows.class_ids) <= MAX_FRAME),
        lambda i: f"class must be a whole number of at most {MAX_FRAME}, got {rows.class_ids[i]:g}; fix it",
    )
    refuse(
        (rows.frames < 1) | (rows.frames != np.floor(rows.frames)) | (rows.frames > MAX_FRAME),
        lambda i: f"frames are whole numbers from 1, got {rows.frames[i]:g}; mend it",
    )


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


# ---------------------------------------------------------------------------------------------------------------------
# MOTChallenge


def _read_mot(path: Path, text: str) -> Rows:
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    numbers = np.array([number for number, line in enumerate(lines, 1) if line.strip()])
    try:
        # All at once is five times as fast as a line at a time, but its errors name no line.
        table = np.loadtxt(lines, delimiter=",", comments=None, ndmin=2)
    except ValueError:
        table = _parse_lines(path, lines)
    columns = table.shape[1]
    if columns < 6:
        raise InputError(f"{path}, line {numbers[0]}: {columns} columns, MOTChallenge lines are {MOT_LINE}")
    scores = table[:, 6] if columns > 6 else np.ones(len(table))
    keep = np.ones(len(table), bool)
    if (table[:, 1] != -1).any():
        keep = scores != 0
        if not keep.any():
            raise InputError(f"{path} holds no detections: confidence is 0, to be ignored, in all {len(table)} lines")
    table, scores, numbers = table[keep], scores[keep], numbers[keep]
    classes = np.zeros(len(table))
    if columns > 7 and (table[:, 7] >= 1).all() and (table[:, 7] == np.floor(table[:, 7])).all():
        classes = table[:, 7]
    return Rows(table[:, 0], table[:, 2:6] - [1, 1, 0, 0], scores, classes, lambda i: f"line {numbers[i]}")


def _parse_lines(path: Path, lines: Sequence[str]) -> np.ndarray:
    """(N, 6 to 8) float64: as many columns as every line has."""
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        fields = line.strip().rstrip(",").split(",")
        if len(fields) < 6:
            raise InputError(
                f"{path}, line {number}: {len(fields)} columns, MOTChallenge lines are {MOT_LINE}; got {_short(line)}"
            )
        try:
            rows.append([float(field) for field in fields[:8]])
        except ValueError as error:
            raise InputError(
                f"{path}, line {number}: not numbers: {_short(line)}; MOTChallenge lines are {MOT_LINE}"
            ) from error
    columns = min(map(len, rows))
    return np.array([row[:columns] for row in rows])


def _short(line: str) -> str:
    return repr(line.strip()[:60])


# ---------------------------------------------------------------------------------------------------------------------
# COCO


def _read_coco(path: Path, text: str, video: Video) -> Rows:
    try:
        content = parse_json(text)
    except ValueError as error:
        raise InputError(f"{path} is not whole json ({error}): write it anew") from error
    names: dict[int, str] = {}
    label = ""
    results = content
    if isinstance(content, dict):
        label = "annotations"
        results = content.get("annotations")
        for i, category in enumerate(_dicts(path, content.get("categories", []), "categories")):
            number = whole(category, "id", f"{path}, categories[{i}]", MAX_FRAME)
            names[number] = str(category.get("name", number))
    results = _dicts(path, results, label)
    images = content.get("images") if isinstance(content, dict) else None
    frames_of = _frames_of_images(path, content, video) if images else {}
    by_name = {name: number for number, file in enumerate(video.file_names, 1) for name in (file, Path(file).stem)}

    table: list[tuple[float, ...]] = []
    classes: list[int] = []
    places: list[str] = []
    masks: list[Any] = []
    for i, result in enumerate(results):
        place = f"{label}[{i}]" if label else f"result [{i}]"
        image = result.get("image_id")
        if images:
            frame = frames_of.get(image) if is_key(image) else None
            if frame is None:
                raise InputError(f"{path}, {place}: image_id {shown(image)} is not among its images; mend it")
        elif isinstance(image, str) and image in by_name:
            frame = by_name[image]
        else:
            frame = whole(result, "image_id", f"{path}, {place}", MAX_FRAME)
        if (frame == 0 and images) or result.get("iscrowd"):  # frame 0: another video's
            continue
        box = result.get("bbox")
        if not (isinstance(box, list) and len(box) == 4 and all(is_number(value) for value in box)):
            raise InputError(f"{path}, {place}: bbox must be four numbers x, y, width, height, got {shown(box)}")
        score = result.get("score")
        if score is not None and not is_number(score):
            raise InputError(f"{path}, {place}: score must be a number, got {shown(score)}")
        table.append((frame, *box, 1.0 if score is None else score))
        has_class = "category_id" in result
        classes.append(whole(result, "category_id", f"{path}, {place}", MAX_FRAME) if has_class else 0)
        places.append(place)
        masks.append(result.get("segmentation"))
    array = np.array(table, dtype=np.float64).reshape(-1, 6)
    frames = array[:, 0]
    if not images and (frames == 0).any():
        frames = frames + 1
    masks = masks if any(masks) else []
    return Rows(frames, array[:, 1:5], array[:, 5], np.array(classes, np.float64), places.__getitem__, names, masks)


def _frames_of_images(path: Path, content: dict[str, Any], video: Video) -> dict[int | str, int]:
    """Frame numbers by image id; 0 for the images of other videos in the same file."""
    images = _dicts(path, content["images"], "images")
    ours = images
    for i, image in enumerate(images):
        for key in ("id", "video_id"):
            if not is_key(image.get(key, 0)):
                raise InputError(f"{path}, images[{i}]: {key} must be a number or a text, got {shown(image[key])}")
    videos = sorted({image["video_id"] for image in images if "video_id" in image}, key=str)
    if len(videos) > 1:
        listed_videos = _dicts(path, content.get("videos", []), "videos")
        called = {v["id"]: str(v.get("name")) for v in listed_videos if is_key(v.get("id"))}
        wanted = [v for v in videos if video.name in (called.get(v), PurePosixPath(called.get(v, "")).stem)]
        if len(wanted) != 1:
            listed = ", ".join(called.get(v, str(v)) for v in videos[:5])
            raise InputError(
                f"{path} holds {len(videos)} videos ({listed}{', ...' if len(videos) > 5 else ''}), "
                f"none called {video.name!r}; rename the source, or give a file of this video only"
            )
        ours = [image for image in images if image.get("video_id") == wanted[0]]
    position = {name: number for number, name in enumerate(video.file_names, 1)}
    files = [PurePosixPath(str(image.get("file_name", "")).replace("\\", "/")).name for image in ours]
    frames: dict[int | str, int] = {image.get("id", -1): 0 for image in images}
    holder: dict[int, str] = {}
    by_file = all(name in position for name in files)
    by_frame_id = not by_file and all("frame_id" in image for image in ours)
    for i, (image, name) in enumerate(zip(ours, files, strict=True)):
        identity = image.get("id")
        if not is_key(identity):
            raise InputError(f"{path}, an image {name!r}: id must be a number or a text, got {shown(identity)}")
        frame = i + 1
        if by_file:
            frame = position[name]
        elif by_frame_id:
            frame = whole(image, "frame_id", f"{path}, image {identity}", MAX_FRAME - 1) + 1
            if frame < 1:
                raise InputError(f"{path}, image {identity}: frame_id counts from 0, got {frame - 1}; mend it")
        if frame in holder:
            raise InputError(
                f"{path}: images {holder[frame]} and {identity} are both frame {frame}; give a file of one video only"
            )
        holder[frame] = str(identity)
        frames[identity] = frame
    return frames


def _dicts(path: Path, value: Any, label: str) -> list[dict[str, Any]]:
    what = f"its {label}" if label else "it"
    if not isinstance(value, list):
        raise InputError(f"{path} is not COCO json: {what} must be a list, got {type(value).__name__}")
    for i, entry in enumerate(value):
        if not isinstance(entry, dict):
            raise InputError(f"{path} is not COCO json: {label}[{i}] must be an object, got {shown(entry)}")
    return value
