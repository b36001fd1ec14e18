"""COCO json: detections in, tracks out in COCO-VID form."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import supervision as sv

from masa_track.errors import InputError
from masa_track.files import PartFile
from masa_track.formats.detection_file import Rows, Video
from masa_track.formats.joining import Label, Numbering, file_part, join_images, join_numbers, match_names
from masa_track.formats.json_file import MAX_FRAME, is_key, is_number, shown, whole
from masa_track.formats.rows import (
    ClassNames,
    class_ids,
    class_name,
    confidences,
    marks,
    part_fields,
    plain_text,
    row_names,
    track_ids,
    tracked_rows,
)
from masa_track.formats.writer import Appender, close_writer, create_part, rounded_time, unnamed_file
from masa_track.masks import encode_mask, mask_area


def read_coco_detections(path: Path, content: Any, video: Video, numbering: Numbering) -> Rows:
    """The rows of a COCO json, a list of results or a whole data set.

    Raises:
        InputError: it is not COCO json, or of another video.
    """
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
    own = _own_images(path, content, video) if images else []
    frames_of, notes = _frames_of_images(path, content, own, video, numbering) if images else ({}, ())
    sizes = _sizes(path, own, video)
    by_name: dict[str, int] = {}
    if not images:
        by_name, notes = _frames_of_names(path, results, video, numbering)

    table: list[tuple[float, ...]] = []
    classes: list[int] = []
    places: list[str] = []
    masks: list[Any] = []
    numbered: list[int] = []  # rows with a frame number alone
    for i, result in enumerate(results):
        place = f"{label}[{i}]" if label else f"result [{i}]"
        image = result.get("image_id", result.get("file_name"))
        if images:
            frame = frames_of.get(image) if is_key(image) else None
            if frame is None:
                raise InputError(f"{path}, {place}: image_id {shown(image)} is not among its images; fix it")
            if frame == 0 or result.get("iscrowd"):  # frame 0: another video's, or not in the source
                continue
        else:
            by = by_name.get(image) if isinstance(image, str) else None
            frame = whole(result, "image_id", f"{path}, {place}", MAX_FRAME) if by is None else by
            if result.get("iscrowd"):
                continue
            if by is None:
                numbered.append(len(table))
        box = result.get("bbox")
        if not (isinstance(box, list) and len(box) == 4 and all(is_number(value) for value in box)):
            raise InputError(f"{path}, {place}: bbox must be four numbers x, y, width, height, got {shown(box)}")
        score = result.get("score")
        if score is not None and not is_number(score):
            raise InputError(f"{path}, {place}: score must be a number, got {shown(score)}")
        mask = result.get("segmentation")
        if image in sizes:
            across, down = sizes[image]
            box = [box[0] * across, box[1] * down, box[2] * across, box[3] * down]
            mask = scaled_polygons(mask, across, down)
        table.append((frame, *box, 1.0 if score is None else score))
        has_class = "category_id" in result
        classes.append(whole(result, "category_id", f"{path}, {place}", MAX_FRAME) if has_class else 0)
        places.append(place)
        masks.append(mask)
    array = np.array(table, dtype=np.float64).reshape(-1, 6)
    if numbered:
        joined = join_numbers(array[numbered, 0].astype(np.int64).tolist(), video, numbering, path, base=None)
        array[numbered, 0] = joined.frames
        notes = (*notes, *joined.notes)
    if sizes:
        (width, height), (across, down) = _size(own, sizes)
        notes = (
            *notes,
            f"{path}: {len(sizes)} of its {len(own)} images are of another size, e.g. {width}x{height}, than the "
            f"video, {video.width}x{video.height}: boxes are scaled by {across:.4g} and {down:.4g}",
        )
    rows = Rows(
        array[:, 0],
        array[:, 1:5],
        array[:, 5],
        np.array(classes, np.float64),
        places.__getitem__,
        names,
        masks if any(masks) else [],
        notes,
    )
    return rows.in_video(path)


def _frames_of_names(
    path: Path, results: list[dict[str, Any]], video: Video, numbering: Numbering
) -> tuple[dict[str, int], tuple[str, ...]]:
    """Frames by the names of images that stand in place of numbers, 0 for those not in the video; and notes on how.

    Empty where they are numbers, also as text.
    """
    ids = [result.get("image_id", result.get("file_name")) for result in results]
    names = list(dict.fromkeys(one for one in ids if isinstance(one, str)))
    if not names or len(names) < len(set(map(str, ids))):
        return {}, ()
    if all(re.fullmatch(r"[0-9]{1,18}", name) for name in names) and not match_names(names, video.file_names):
        return {}, ()
    joined = join_images([Label(name) for name in names], video, numbering, path)
    return dict(zip(names, joined.frames, strict=True)), joined.notes


def _own_images(path: Path, content: dict[str, Any], video: Video) -> list[dict[str, Any]]:
    """The images of this video, where the file holds several."""
    images = _dicts(path, content["images"], "images")
    for i, image in enumerate(images):
        for key in ("id", "video_id"):
            if not is_key(image.get(key, 0)):
                raise InputError(f"{path}, images[{i}]: {key} must be a number or a text, got {shown(image[key])}")
    videos = sorted({image["video_id"] for image in images if "video_id" in image}, key=str)
    if len(videos) <= 1:
        return images
    listed_videos = _dicts(path, content.get("videos", []), "videos")
    called = {v["id"]: str(v.get("name")) for v in listed_videos if is_key(v.get("id"))}
    wanted = [v for v in videos if called.get(v) == video.name]
    asked = video.name.casefold()
    wanted = wanted or [v for v in videos if asked == PurePosixPath(called.get(v, "")).stem.casefold()]
    if len(wanted) != 1:
        listed = ", ".join(called.get(v, str(v)) for v in videos[:5])
        raise InputError(
            f"{path} holds {len(videos)} videos ({listed}{', ...' if len(videos) > 5 else ''}), "
            f"none called {video.name!r}; rename the source, or give a file of this video only"
        )
    return [image for image in images if image.get("video_id") == wanted[0]]


def _frames_of_images(
    path: Path, content: dict[str, Any], own: list[dict[str, Any]], video: Video, numbering: Numbering
) -> tuple[dict[int | str, int], tuple[str, ...]]:
    """Frame numbers by image id, 0 for images that are not of this video or not in it; and notes on how."""
    labels = []
    for image in own:
        identity, name = image.get("id"), file_part(image.get("file_name", ""))
        if not is_key(identity):
            raise InputError(f"{path}, an image {name!r}: id must be a number or a text, got {shown(identity)}")
        frame = None
        for key in ("frame_id", "frame_index"):
            if frame is None and key in image:
                frame = whole(image, key, f"{path}, image {identity}", MAX_FRAME - 1)
                if frame < 0:
                    raise InputError(f"{path}, image {identity}: {key} must be 0 or more, got {frame}; fix it")
        labels.append(Label(str(image.get("file_name", "")), frame))
    joined = join_images(labels, video, numbering, path)
    frames: dict[int | str, int] = {image.get("id", -1): 0 for image in content["images"]}
    holder: dict[int, str] = {}
    for image, frame in zip(own, joined.frames, strict=True):
        if frame and frame in holder:
            raise InputError(
                f"{path}: images {holder[frame]} and {image['id']} are both frame {frame}; give a file of one video "
                "only"
            )
        holder[frame] = str(image["id"])
        frames[image["id"]] = frame
    return frames, joined.notes


def _sizes(path: Path, own: list[dict[str, Any]], video: Video) -> dict[Any, tuple[float, float]]:
    """Of images of another size than the video's: by id, by what x and y are to be multiplied.

    Raises:
        InputError: an image is turned: it is as wide as the video is high.
    """
    factors = {}
    for image in own:
        size: tuple[Any, Any] = _side(image.get("width")), _side(image.get("height"))
        if not all(is_number(side) and 0 < side < MAX_FRAME for side in size) or size == (video.width, video.height):
            continue
        if video.width != video.height and size == (video.height, video.width):
            raise InputError(
                f"{path}, image {image.get('id')}: it is {size[0]}x{size[1]}, and the video {video.width}x"
                f"{video.height}: one of them is turned; give boxes of upright pictures"
            )
        factors[image.get("id")] = video.width / size[0], video.height / size[1]
    return factors


def _side(value: Any) -> Any:
    """A width or height; also one that is written as text."""
    return int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value) else value


def _size(own: list[dict[str, Any]], sizes: dict[Any, tuple[float, float]]) -> tuple[Any, tuple[float, float]]:
    image = next(image for image in own if image.get("id") in sizes)
    return (image["width"], image["height"]), sizes[image["id"]]


def scaled_polygons(mask: Any, across: float, down: float) -> Any:
    """Polygons of a ``segmentation`` with x and y multiplied; run lengths stay as they are."""
    if not (isinstance(mask, list) and all(isinstance(part, list) and all(map(is_number, part)) for part in mask)):
        return mask
    return [[value * (down if i % 2 else across) for i, value in enumerate(part)] for part in mask]


def _dicts(path: Path, value: Any, label: str) -> list[dict[str, Any]]:
    what = f"its {label}" if label else "it"
    if not isinstance(value, list):
        raise InputError(f"{path} is not COCO json: {what} must be a list, got {type(value).__name__}")
    for i, entry in enumerate(value):
        if not isinstance(entry, dict):
            raise InputError(f"{path} is not COCO json: {label}[{i}] must be an object, got {shown(entry)}")
    return value


class CocoVidWriter:
    """COCO-VID JSON: every processed frame is an image; boxes are ``[x, y, width, height]`` in 0-based pixels.

    Where the detections have masks, ``segmentation`` is one as compressed COCO RLE, and ``area`` is the mask's.
    Images go straight into the file and annotations into a nameless spool beside it, joined at the end. A frame that
    cannot be written whole is in neither.
    Boxes that fill a gap have ``"filled": true``, smoothed ones ``"smoothed": true``. Beside the tracks, ``cuts`` lists
    the ``frame_id`` of first frames after a cut, and ``tentative`` has the boxes of tracks before they were confirmed.
    Parts have ``parent_id`` (identity of what they belong to), ``part`` and ``phrase``; see :mod:`masa_track.parts`.
    ``frame_id`` counts from 0, the image's ``id`` is the frame's number from 1, ``category_id`` is the ``class_id``. An
    image's ``time``, where it is known, is in seconds since frame 1; its ``presence``, where there is one, has the
    probability that a phrase is in the frame, by phrase.

    Args:
        path: the file, e.g. ``tracks.json``.
        video_name: the name of the one video.
        width: of the video, in pixels.
        height: of the video, in pixels.
        fps: frames per second of the source, where it has them.
        class_names: the names by class id; those of classes never seen are listed too.
    """

    def __init__(
        self,
        path: str | Path,
        video_name: str,
        width: int,
        height: int,
        fps: float | None = None,
        class_names: ClassNames = None,
    ) -> None:
        from masa_track import __version__

        self.file = PartFile(path)
        self._size = {"width": int(width), "height": int(height)}
        self._class_names = class_names
        known = class_names.items() if isinstance(class_names, Mapping) else enumerate(class_names or ())
        self._categories = {int(i): plain_text(name) for i, name in known}
        self._annotations = 0
        self._last_frame = 0
        self._tentative = 0
        self._cuts: list[int] = []
        self._out = Appender(create_part(self.file))
        try:
            self._spool, self._earlier = (Appender(unnamed_file(self.file.path.parent)) for _ in range(2))
        except BaseException:
            self._out.close()
            self.file.abandon()
            raise
        info = {"description": "tracks in COCO-VID form", "version": "1.0", "contributor": f"masa-track {__version__}"}
        video: dict[str, object] = {"id": 1, "name": video_name, **self._size}
        if fps:
            video["fps"] = float(fps)
        self._head = f'{{"info":{_json(info)},\n"videos":[{_json(video)}],\n"images":['

    def write(
        self,
        frame_number: int,
        file_name: str,
        detections: sv.Detections,
        time: float | None = None,
        presence: Mapping[str, float] | None = None,
    ) -> None:
        """Adds one frame; see :class:`~masa_track.formats.writer.TrackWriter`, and ``TrackWriters`` for ``presence``.

        Raises:
            ValueError: the number is not above that of the frame before, so the image's id would not be its own.
        """
        if frame_number <= self._last_frame:
            raise ValueError(f"frame_number must rise from 1, got {frame_number} after {self._last_frame}")
        image: dict[str, object] = {"id": frame_number, "video_id": 1, "frame_id": frame_number - 1}
        image |= {"file_name": file_name, **self._size}
        if time is not None:
            image["time"] = rounded_time(time)
        if presence:
            image["presence"] = {plain_text(phrase): round(float(value), 4) for phrase, value in presence.items()}
        pieces = self._entries(frame_number, detections, self._annotations)
        before = self._spool.size
        self._spool.append("".join(pieces))
        try:
            self._out.append((self._head + "\n" if self._last_frame == 0 else ",\n") + _json(image))
        except OSError:
            self._spool.cut(before)
            raise
        self._annotations, self._last_frame = self._annotations + len(pieces), frame_number

    def write_tentative(self, frame_number: int, detections: sv.Detections) -> None:
        """Adds boxes that tracks had in an earlier frame, before they were confirmed; they are no annotations.

        Raises:
            OSError: the disk is full, or the like; the boxes are not there then.
        """
        pieces = self._entries(frame_number, detections, self._tentative)
        self._earlier.append("".join(pieces))
        self._tentative += len(pieces)

    def mark_cut(self, frame_number: int) -> None:
        """The frame of this number is the first after a cut."""
        self._cuts.append(frame_number - 1)

    def _entries(self, frame_number: int, detections: sv.Detections, count: int) -> list[str]:
        """The rows as annotations, numbered from ``count`` + 1, each but number 1 with a comma before it."""
        rows = tracked_rows(detections)
        names = row_names(rows, self._class_names)
        filled, smoothed = marks(rows, "filled").tolist(), marks(rows, "smoothed").tolist()
        tree = part_fields(rows)
        masks = rows.data.get("segmentation")
        pieces = []
        boxes = np.asarray(rows.xyxy, dtype=np.float64).tolist()  # (N, 4) 0-based xyxy
        fields = zip(track_ids(rows), class_ids(rows).tolist(), names, boxes, confidences(rows).tolist(), strict=True)
        for row, (track_id, category_id, name, (x1, y1, x2, y2), score) in enumerate(fields):
            self._categories.setdefault(category_id, name)
            count += 1
            annotation: dict[str, object] = {
                "id": count,
                "image_id": frame_number,
                "video_id": 1,
                "category_id": category_id,
                "track_id": track_id,
                "instance_id": track_id,
                "bbox": [round(x1, 3), round(y1, 3), round(x2 - x1, 3), round(y2 - y1, 3)],
                "area": round((x2 - x1) * (y2 - y1), 3),
                "score": round(score, 4),
                "iscrowd": 0,
                **tree[row],
            }
            if filled[row]:
                annotation["filled"] = True
            if smoothed[row]:
                annotation["smoothed"] = True
            if rows.mask is not None:
                annotation["segmentation"] = encode_mask(np.asarray(rows.mask[row]))
                annotation["area"] = int(np.count_nonzero(rows.mask[row]))
            elif masks is not None and masks[row] is not None:
                annotation["segmentation"], annotation["area"] = masks[row], mask_area(masks[row])
            pieces.append(("\n" if count == 1 else ",\n") + _json(annotation))
        return pieces

    def finish(self) -> None:
        """See :class:`~masa_track.formats.writer.TrackWriter`."""
        if not self._categories:
            self._categories = {0: class_name(0, None)}
        categories = [{"id": i, "name": name} for i, name in sorted(self._categories.items())]
        self._out.append((self._head if self._last_frame == 0 else "") + '],\n"annotations":[')
        self._append_spool(self._spool)
        if self._tentative:
            self._out.append('],\n"tentative":[')
            self._append_spool(self._earlier)
        cuts = f'"cuts":{_json(self._cuts)},\n' if self._cuts else ""
        self._out.append(f'],\n{cuts}"categories":{_json(categories)}}}\n')
        self._spool.close()
        self._earlier.close()
        self._out.close()

    def _append_spool(self, spool: Appender) -> None:
        spool.file.seek(0)
        shutil.copyfileobj(spool.file, self._out)

    def close(self) -> None:
        """See :class:`~masa_track.formats.writer.TrackWriter`."""
        close_writer(self)

    def abandon(self) -> None:
        """See :class:`~masa_track.formats.writer.TrackWriter`."""
        for file in (self._spool, self._earlier, self._out):
            with suppress(OSError):
                file.close()
        self.file.abandon()


def _json(value: object) -> str:
    # ASCII only: a file name that is no UTF-8 reaches us with lone surrogates, which only an escape can carry.
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
