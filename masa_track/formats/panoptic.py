"""Panoptic maps: a PNG a frame and one json, as COCO has them; and label maps, whose pixels are class numbers.

The number of a pixel's segment is red + 256 green + 65536 blue; 0 is no segment. The json says the class of each
segment. In a video a segment keeps its number: things have their identity, stuff has one number a class.

Source: Kirillov et al., Panoptic Segmentation, CVPR 2019; https://cocodataset.org/#format-data, section 4.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from masa_track.errors import InputError
from masa_track.files import PartFile, write_bytes
from masa_track.formats.json_file import objects, parse_json, whole
from masa_track.formats.rows import plain_text
from masa_track.formats.writer import Appender, close_writer, create_part, rounded_time, unnamed_file

MOST_NUMBER = 256**3 - 1
PANOPTIC = "panoptic"  # in ``metadata`` of detections and ``extras`` of results: the map of a frame
PANOPTIC_BY_ROW = "panoptic_by_row"  # in ``extras``: the same, things numbered by their row from 1, as records keep it
JSON_NAME, FOLDER_NAME = "panoptic.json", "panoptic"


@dataclass(frozen=True)
class Segment:
    """One segment of a picture.

    Attributes:
        label: class number.
        crowd: one region that covers several objects, as ``iscrowd`` of COCO.
        identity: of a thing; -1: none.
    """

    label: int
    crowd: bool = False
    identity: int = -1


@dataclass
class PanopticMap:
    """Things and stuff of a frame: each pixel belongs to one segment or to none.

    Attributes:
        numbers: (H, W) int32, number of the segment, 0 for none.
        segments: by number.
    """

    numbers: np.ndarray
    segments: Mapping[int, Segment]

    def renumbered(self, known: Mapping[int, tuple[int, Segment]]) -> PanopticMap:
        """The map with other numbers and segments, by the number that each has now. Others are no segment."""
        found, places, lengths = runs_of(self.numbers)
        final, segments = np.zeros(len(found), np.int32), {}
        for place, number in enumerate(found.tolist()):
            if number in known:
                final[place], segment = known[number]
                segments[int(final[place])] = segment
        return PanopticMap(np.repeat(final[places], lengths).reshape(self.numbers.shape), segments)


@dataclass(frozen=True)
class PanopticFrame:
    """One picture: its name without suffix, the PNG, and the segments by number."""

    name: str
    picture: Path
    segments: Mapping[int, Segment]

    def numbers(self) -> np.ndarray:
        """(H, W) int32 numbers of the segments.

        Raises:
            InputError: the PNG cannot be read, or has a number that the json does not have.
        """
        numbers = read_panoptic_picture(self.picture)
        for number in np.unique(numbers).tolist():
            if number and number not in self.segments:
                raise InputError(f"{self.picture} has segment {number}, which is not in the segments_info of its json")
        return numbers


@dataclass(frozen=True)
class PanopticMaps:
    """What a json of panoptic maps holds.

    Attributes:
        class_names: by class number.
        things: numbers of the classes that are things.
        videos: frames by the video's name, in their order; a picture that is in no video is a video of its own.
    """

    class_names: Mapping[int, str]
    things: frozenset[int]
    videos: Mapping[str, Sequence[PanopticFrame]]


def read_panoptic_picture(path: str | Path) -> np.ndarray:
    """(H, W) int32 numbers of the segments of a PNG.

    Raises:
        InputError: it cannot be read, or has no colours.
    """
    picture, mode = _opened(path)
    if mode not in ("RGB", "RGBA"):
        raise InputError(f"{path} must be an RGB picture of panoptic segments, got mode {mode}")
    red, green, blue = (picture[..., i].astype(np.int32) for i in range(3))
    return np.asarray(red + 256 * green + 65536 * blue)


def write_panoptic_picture(path: str | Path, numbers: np.ndarray) -> None:
    """Writes (H, W) numbers of segments, 0 to 256**3 - 1, as a PNG.

    Raises:
        OSError: the file cannot be written.
    """
    parts = [(numbers >> shift) & 255 for shift in (0, 8, 16)]
    out = io.BytesIO()
    Image.fromarray(np.stack(parts, axis=2).astype(np.uint8)).save(out, "PNG", compress_level=3)
    write_bytes(path, out.getvalue())


def read_label_map(path: str | Path) -> np.ndarray:
    """(H, W) int32 class numbers of a PNG with a palette, in grey, or of 16 bits.

    Raises:
        InputError: it cannot be read, or has colours.
    """
    picture, mode = _opened(path)
    if mode not in ("P", "L", "1", "I", "I;16"):
        raise InputError(f"{path} must be a PNG whose values are class numbers (palette or grey), got mode {mode}")
    return picture.astype(np.int32)


def _opened(path: str | Path) -> tuple[np.ndarray, str]:
    try:
        with Image.open(path) as picture:
            return np.array(picture), picture.mode
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} cannot be read as a picture of segments: {error}") from error


def read_panoptic(path: str | Path) -> PanopticMaps:
    """The panoptic maps of a json.

    Args:
        path: ``NAME.json`` of COCO, VIPSeg or ``masa-track track --stuff``, with its pictures in the folder ``NAME``
            beside it; or a folder that has ``panoptic.json``.

    Raises:
        InputError: it cannot be read or has another form, or there is no folder of pictures.
    """
    path = Path(path)
    file = path / JSON_NAME if path.is_dir() else path
    try:
        content = parse_json(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"{file} is not json of panoptic maps: {error}") from error
    if not isinstance(content, dict) or not {"annotations", "categories"} <= content.keys():
        raise InputError(f"{file} must be json of panoptic maps with annotations and categories")
    folder = file.with_suffix("")
    if not folder.is_dir():
        raise InputError(f"{file} needs its pictures in the folder {folder}, which is not there")
    names, things = {}, set()
    for i, entry in enumerate(objects(content["categories"], f"{file}: categories")):
        number = whole(entry, "id", f"{file}, categories[{i}]")
        names[number] = plain_text(entry.get("name", f"class {number}"))
        if entry.get("isthing", 1):
            things.add(number)
    videos: dict[str, list[PanopticFrame]] = {}
    images = _images(content, file)
    for i, entry in enumerate(objects(content["annotations"], f"{file}: annotations")):
        place = f"{file}, annotations[{i}]"
        if "annotations" in entry:  # VIPSeg: one a video
            name = plain_text(entry.get("video_id", i))
            for j, one in enumerate(objects(entry["annotations"], f"{place}.annotations")):
                inside = folder / name if (folder / name).is_dir() else folder
                videos.setdefault(name, []).append(_frame(one, inside, names, f"{place}.annotations[{j}]"))
            continue
        frame = _frame(entry, folder, names, place)
        video, file_name = images.get(_key(entry.get("image_id")), ("", ""))
        frame = replace(frame, name=PurePath(file_name).stem or frame.name)
        videos.setdefault(video or frame.name, []).append(frame)
    if not videos:
        raise InputError(f"{file} holds no picture")
    return PanopticMaps(names, frozenset(things), videos)


def _images(content: Mapping[str, Any], file: Path) -> dict[str, tuple[str, str]]:
    """The name of the video of each image (empty where it is of none) and its file name, by the image's id."""
    videos = objects(content.get("videos", []), f"{file}: videos")
    name_of = {_key(one.get("id")): plain_text(one.get("name", one.get("id"))) for one in videos}
    images = objects(content.get("images", []), f"{file}: images")
    return {
        _key(one.get("id")): (name_of.get(_key(one.get("video_id")), ""), str(one.get("file_name") or ""))
        for one in images
    }


def _key(value: Any) -> str:
    return str(value)


def _frame(entry: Mapping[str, Any], folder: Path, names: Mapping[int, str], place: str) -> PanopticFrame:
    file_name = entry.get("file_name")
    path = Path(file_name) if isinstance(file_name, str) else Path("/")
    if not path.name or path.is_absolute() or ".." in path.parts:
        raise InputError(f"{place}: file_name must be the name of a picture in {folder}, got {file_name!r:.80}")
    segments = {}
    for i, one in enumerate(objects(entry.get("segments_info", []), f"{place}: segments_info")):
        here = f"{place}, segments_info[{i}]"
        number, label = whole(one, "id", here, MOST_NUMBER), whole(one, "category_id", here)
        if label not in names:
            raise InputError(f"{here}: category_id {label} is not in categories")
        identity = whole(one, "track_id", here) if "track_id" in one else -1
        segments[number] = Segment(label, bool(one.get("iscrowd", 0)), identity)
    picture = (folder / path).with_suffix(".png")
    return PanopticFrame(picture.stem, picture, segments)


@dataclass
class PanopticWriter:
    """Writes ``panoptic.json`` and the pictures in ``panoptic/`` of one video, frame by frame.

    The pictures lie in ``panoptic.part`` until :meth:`close`, which puts them and the json in their places.

    Attributes:
        folder: an existing folder.
        video_name: the name of the video.
        size: (width, height) of the frames.
        class_names: by class number.
        things: numbers of the classes that are things.

    Raises:
        OSError: a file cannot be opened.
    """

    folder: Path
    video_name: str
    size: tuple[int, int]
    class_names: Mapping[int, str]
    things: frozenset[int]
    _count: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.file = PartFile(self.folder / JSON_NAME)
        self._part = self.folder / f"{FOLDER_NAME}.part"
        shutil.rmtree(self._part, ignore_errors=True)
        self._part.mkdir()
        self._out = Appender(create_part(self.file))
        try:
            self._images = Appender(unnamed_file(self.folder))  # they stand behind all annotations
        except BaseException:
            self._out.close()
            self.file.abandon()
            self._part.rmdir()
            raise
        categories = [
            {"id": int(i), "name": plain_text(name), "isthing": int(i in self.things)}
            for i, name in sorted(self.class_names.items())
        ]
        width, height = self.size
        video = {"id": 1, "name": plain_text(self.video_name), "width": width, "height": height}
        self._out.append(f'{{"videos":[{_json(video)}],\n"categories":{_json(categories)},\n"annotations":[')

    @cached_property
    def paths(self) -> list[Path]:
        """The json and the folder of the pictures."""
        return [self.file.path, self.folder / FOLDER_NAME]

    def write(
        self,
        frame_number: int,
        file_name: str,
        numbers: np.ndarray,
        segments: Mapping[int, Segment],
        time: float | None = None,
    ) -> None:
        """Adds one frame.

        Args:
            frame_number: in the source, from 1, rising.
            file_name: the frame's name, e.g. ``000001.jpg``.
            numbers: (H, W) int32, number of the segment of each pixel, 0 for none.
            segments: by number; those without a pixel are left out.
            time: of the frame, in seconds.

        Raises:
            OSError: a file cannot be written.
        """
        name = f"{frame_number:06d}.png"
        write_panoptic_picture(self._part / name, numbers)
        infos = []
        for number, (area, box) in _areas(numbers).items():
            one = segments[number]
            info: dict[str, Any] = {"id": number, "category_id": one.label, "area": area, "bbox": box}
            identity = {"track_id": one.identity} if one.identity >= 0 else {}
            infos.append({**info, "iscrowd": int(one.crowd), **identity})
        entry = {"image_id": frame_number, "file_name": name, "segments_info": infos}
        image: dict[str, Any] = {
            "id": frame_number,
            "video_id": 1,
            "frame_id": frame_number - 1,
            "file_name": file_name,
        }
        moment = {} if time is None else {"time": rounded_time(time)}
        image |= {"width": self.size[0], "height": self.size[1], **moment}
        before, begin = self._images.size, ",\n" if self._count else "\n"
        self._images.append(begin + _json(image))
        try:
            self._out.append(begin + _json(entry))
        except OSError:
            self._images.cut(before)
            raise
        self._count += 1

    def finish(self) -> None:
        """Completes the json, and puts the pictures in their place."""
        self._out.append('],\n"images":[')
        self._images.file.seek(0)
        shutil.copyfileobj(self._images.file, self._out)
        self._out.append("]}\n")
        self._images.close()
        self._out.close()
        remove_pictures(self.folder)
        self._part.rename(self.folder / FOLDER_NAME)

    def close(self) -> None:
        """Completes all and puts it in its place."""
        close_writer(self)  # type: ignore[arg-type]

    def abandon(self) -> None:
        """Removes what was begun; earlier results are as they were."""
        for file in (self._images, self._out):
            with suppress(OSError):
                file.close()
        self.file.abandon()
        shutil.rmtree(self._part, ignore_errors=True)


def remove_pictures(folder: Path) -> None:
    """Removes the folder of panoptic pictures of an earlier run, and nothing else that may lie in it.

    Raises:
        OSError: it cannot be removed, or holds other files.
    """
    place = folder / FOLDER_NAME
    if place.is_dir():
        for picture in place.glob("*.png"):
            picture.unlink()
        place.rmdir()


def runs_of(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A map (H, W) as runs of equal numbers along its rows. Much faster than ``np.unique`` of all pixels.

    Returns:
        (S,) the numbers, rising; (R,) the place in these of each run's number; (R,) the pixels of each run.
    """
    flat = numbers.ravel()
    starts = np.flatnonzero(np.concatenate(([True], flat[1:] != flat[:-1]))[: len(flat)])
    found, places = np.unique(flat[starts], return_inverse=True)
    return found, places, np.diff(starts, append=len(flat))


def _areas(numbers: np.ndarray) -> dict[int, tuple[int, list[int]]]:
    """Pixels and box (x, y, width, height) of each segment, by number."""
    areas = {}
    for number in runs_of(numbers)[0].tolist():
        if number:
            own = numbers == number
            columns, rows = np.flatnonzero(own.any(axis=0)), np.flatnonzero(own.any(axis=1))
            x, y = int(columns[0]), int(rows[0])
            box = [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y]
            areas[number] = int(np.count_nonzero(own)), box
    return areas


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
