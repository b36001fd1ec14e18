"""Assigns the rows of a file to frames of a video: by file names, else by numbers, never by order without a message.

A file gives the frame by a file name, by a number in the name, by ``frame_id`` or ``frame_index``, or by a bare number.
Each of these is a reading. Readings with frames that the video does not have are dropped. If the remaining readings
disagree, the file is refused.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from masa_track.errors import InputError

if TYPE_CHECKING:
    from masa_track.formats.detection_file import Video

FIXES = "give --frame-base 0 or 1 (the number of the first frame), or --first-frame N"


@dataclass(frozen=True)
class Numbering:
    """How a file numbers frames, if the user states it; by default it is estimated from the file.

    Attributes:
        first: the file's number of the source's first frame. For images, numbers in their names count from there.
        base: 0 or 1: the file counts the frames of the source one by one from this number.
    """

    first: int | None = None
    base: int | None = None

    def __post_init__(self) -> None:
        if self.base not in (None, 0, 1):
            raise InputError(f"--frame-base must be 0 or 1, got {self.base}")
        if self.first is not None and self.base is not None:
            raise InputError("--first-frame and --frame-base exclude each other: leave one of them out")
        if self.first is not None and self.first < 0:
            raise InputError(f"--first-frame must be a frame number, 0 or more, got {self.first}")

    @property
    def given(self) -> bool:
        """Whether the user says anything."""
        return self.first is not None or self.base is not None


@dataclass(frozen=True)
class Label:
    """What a file says of one of its images.

    Attributes:
        name: file name, with or without folder; may be empty.
        frame: ``frame_id`` or ``frame_index``; None where it has none.
    """

    name: str = ""
    frame: int | None = None


@dataclass(frozen=True)
class Joined:
    """The result.

    Attributes:
        frames: N times the frame of the video, from 1; 0 where it has none.
        notes: sentences on how they were found, to be shown to the user.
    """

    frames: list[int]
    notes: tuple[str, ...] = ()


Readings = dict[str, list[int]]  # what was read, and the frame of each label


def file_part(name: object) -> str:
    """The last part of a path with slashes or backslashes. Accents are in form NFC, and ``%20`` becomes a space."""
    return PurePosixPath(unicodedata.normalize("NFC", unquote(str(name))).replace("\\", "/")).name


def match_names(names: Sequence[str], targets: Sequence[str]) -> list[int | None] | None:
    """The place of each name among the targets: by file name, by stem, or by stem without an export tool's suffix.

    Args:
        names: N file names.
        targets: M file names.

    Returns:
        N places from 0, None where a name does not fit; None as a whole where no name fits, or names are not distinct.
    """
    best: list[int | None] | None = None
    fits = 0
    for key in (_with_parent, file_part, _stem, _bare_stem):
        keys = [key(name) for name in targets]
        asked = [key(name) for name in names]
        if len(set(keys)) < len(keys) or len(set(asked)) < len(asked):
            continue
        place = {one: i for i, one in enumerate(keys) if one}
        found = [place.get(one) for one in asked]
        count = sum(one is not None for one in found)
        if count > fits:
            best, fits = found, count
    return best


def _with_parent(name: str) -> str:
    return "/".join(PurePosixPath(name.replace("\\", "/")).parts[-2:])


def _stem(name: str) -> str:
    return PurePosixPath(file_part(name)).stem.casefold()


def _bare_stem(name: str) -> str:
    """``000001`` of ``000001_jpg.rf.0123abcd.jpg``, as Roboflow exports an image, and of ``000001.jpg``."""
    return re.sub(r"[._-](jpe?g|png|bmp|webp|tiff?)\.rf\.[0-9a-z]+$", "", _stem(name))


def numbers_in(names: Sequence[str]) -> list[int] | None:
    """The number in each name: the last group of digits that differs from name to name; None where there is none."""
    groups = [re.findall(r"[0-9]+", _bare_stem(name)) for name in names]
    for back in range(1, min(map(len, groups), default=0) + 1):
        column = [int(group[-back]) for group in groups]
        if len(set(column)) == len(column):
            return column
    return None


def join_images(labels: Sequence[Label], video: Video, numbering: Numbering, path: Any) -> Joined:
    """The frame of the video of each image of a file.

    Args:
        labels: of N images.
        video: what is read; its ``file_names`` are those of images, or none.
        numbering: what the user says.
        path: of the file, for messages.

    Raises:
        InputError: nothing says which frames they are, two readings disagree, or all leave the video.
    """
    names = [label.name for label in labels]
    if video.file_names and not numbering.given:
        places = match_names(names, video.file_names)
        if places is not None:
            return _left_out([0 if place is None else place + 1 for place in places], len(labels), "images", path)
    numbers = numbers_in(names) if all(names) else None
    ids = [label.frame for label in labels if label.frame is not None]
    columns = {"the numbers in file names": numbers, "frame_id": ids if len(ids) == len(labels) else None}
    known = {what: column for what, column in columns.items() if column is not None and len(set(column)) == len(column)}
    if len(known) < sum(column is not None for column in columns.values()):
        known = known or _twice(labels, ids, path)
    if numbering.given and known:
        what, column = next(iter(known.items()))
        return _overridden(column, video, numbering, what, path)
    readings: Readings = {}
    for what, column in known.items():
        for base in _bases(column, what, names, known):
            readings[f"{what} count from {base}"] = [number - base + 1 for number in column]
    own = numbers_in(video.file_names) if video.file_names else None
    within = numbers and own and min(own) <= min(numbers) and max(numbers) <= max(own)
    if numbers and own and (within or set(own) <= set(numbers)):
        place = {number: i for i, number in enumerate(own, 1)}
        readings = _within(readings, len(own))
        readings["numbers in file names are those of the source's names"] = [place.get(one, 0) for one in numbers]
    if not known and (numbering.given or len(labels) == video.length):
        first = 0 if numbering.first is None else 1 - numbering.first
        return Joined(
            [i + 1 + max(first, 0) for i in range(len(labels))],
            (f"{path}: its images have neither known names nor numbers: they are taken in the order of the file",),
        )
    if not readings:
        raise InputError(
            f"{path} has {len(labels)} images, and neither their names nor frame_id show which frames of "
            f"{video.name} they are. Give --first-frame 1 if they are the first frames in this order"
        )
    return _resolved(readings, video, path, "images")


def join_numbers(numbers: Sequence[int], video: Video, numbering: Numbering, path: Any, base: int | None = 1) -> Joined:
    """The frame of the video of each row that has a frame number and no name.

    Args:
        numbers: of N rows.
        video: what is read.
        numbering: what the user says.
        path: of the file, for messages.
        base: the number of the first frame in such files; None: 0 where there is a 0, else 1.

    Raises:
        InputError: positions in the source and numbers in the names of its images disagree.
    """
    if numbering.given:
        return _overridden(numbers, video, numbering, "frame numbers", path)
    notes: tuple[str, ...] = ()
    if base is None:
        base = _base_of(numbers, video, path)
        notes = (f"{path}: frame numbers count from {base}",)
    by_position = [number - base + 1 for number in numbers]
    own = numbers_in(video.file_names) if video.file_names else None
    if own is None or own == list(range(base, len(own) + base)):
        return Joined(by_position, notes)
    place = {number: i for i, number in enumerate(own, 1)}
    by_name = [place.get(number, 0) for number in numbers]
    fits_position = min(by_position) >= 1 and max(by_position) <= len(own)
    fits_name = min(own) <= min(numbers) and max(numbers) <= max(own)
    if fits_position and fits_name and by_name != by_position:
        example = next(n for n, one, other in zip(numbers, by_name, by_position, strict=True) if one != other)
        raise InputError(
            f"{path}: frame {example} is {_picture(place.get(example), video)} by the number in its name, and "
            f"{_picture(example - base + 1, video)} by its position in the file. Give --first-frame {own[0]} if the "
            f"file has the numbers in the names, or --frame-base {base} if it counts the images one by one"
        )
    if fits_position or not any(by_name):
        return Joined(by_position, notes)
    done = _left_out(by_name, len(numbers), "rows", path)
    return Joined(done.frames, (f"{path}: frame numbers are those in the names of the images", *done.notes))


def _base_of(numbers: Sequence[int], video: Video, path: Any) -> int:
    """From which number the frames count: the least, if that is 0 or 1; otherwise what the length of the video allows.

    Raises:
        InputError: nothing tells.
    """
    if min(numbers) < 2:
        return 0 if min(numbers) < 1 else 1
    limit = video.last_number or video.length
    if video.file_names or (limit and max(numbers) >= limit):
        return 1
    raise InputError(
        f"{path}: its first frame number, {min(numbers)}, is frame {min(numbers)} of {video.name} if they count from "
        f"1, and frame {min(numbers) + 1} if they count from 0: {FIXES}"
    )


def join_files(
    truth: Sequence[Label], other: Sequence[Label], path: Any, numbering: Numbering | None = None
) -> list[int | None]:
    """The image of the truth of each image of another file of the same video.

    A run on a video calls its frames ``000001.jpg`` and so on. Names of the truth that count from 0 are joined with
    these by the frame that they count.

    Args:
        truth: N images.
        other: M images.
        path: of the other file, for messages.
        numbering: how the names of the truth number the frames of such a run; None: it is found out.

    Returns:
        M places from 0, None where the truth has no such image.

    Raises:
        InputError: two readings disagree.
    """
    places = match_names([one.name for one in other], [one.name for one in truth])
    if places is not None:
        return places
    found: dict[str, list[int | None]] = {}
    numbers = numbers_in([one.name for one in truth])
    columns = [
        ("the numbers in file names", numbers, numbers_in([one.name for one in other])),
        ("frame_id", _frame_ids(truth), _frame_ids(other)),
    ]
    base = _base_in_names(truth, numbers, other, path, numbering or Numbering()) if numbers else None
    for what, theirs, ours in columns:
        if theirs is None or ours is None or not theirs or not ours:
            continue
        lows = [min(theirs), min(ours)]
        bases: list[int | None] = [low if low < 2 else None for low in lows]
        if what != "frame_id":
            bases = [0, 0] if base is None else [base, 1]
        first, second = (base if base is not None else next((b for b in bases if b is not None), 0) for base in bases)
        place = {number - first: i for i, number in enumerate(theirs)}
        one = [place.get(number - second) for number in ours]
        if any(i is not None for i in one):
            found[what] = one
    if len(found) > 1 and len({tuple(one) for one in found.values()}) > 1:
        raise InputError(
            f"{path}: {' and '.join(found)} assign its images to different images of GT, and no file name matches: "
            "give both files the same names, or the same frame_id"
        )
    if found:
        return next(iter(found.values()))
    if all(one.frame is None for one in (*truth, *other)) and len(truth) == len(other):
        return list(range(len(other)))
    return [None] * len(other)


def _base_in_names(
    truth: Sequence[Label], numbers: Sequence[int], other: Sequence[Label], path: Any, numbering: Numbering
) -> int | None:
    """From which number the names of the truth count the frames of a run on a video; None: the other is no such run.

    Raises:
        InputError: nothing tells.
    """
    generated = all(one.frame is not None and one.name == f"{one.frame + 1:06d}.jpg" for one in other)
    if not (other and generated):
        return None
    if numbering.given:
        return numbering.base if numbering.first is None else numbering.first
    ids = _frame_ids(truth)
    steps = {number - frame for number, frame in zip(numbers, ids, strict=True)} if ids and min(ids) == 0 else set()
    if len(steps) == 1 and steps <= {0, 1}:
        return steps.pop()
    if min(numbers) < 2:
        return min(numbers)
    listed = {one.frame for one in other}
    whole = [base for base in (1, 0) if all(number - base in listed for number in numbers)]
    if len(whole) != 2 or ids:
        return whole[0] if whole else 1
    raise InputError(
        f"{path}: {truth[0].name!r} of GT is frame {numbers[0]} of the run if the numbers in its file names count from "
        f"1, and frame {numbers[0] + 1} if they count from 0: give --frame-base 0 or 1"
    )


def join_classes(ours: Mapping[int, str], theirs: Mapping[int, str]) -> dict[int, int]:
    """The class id in ``ours`` of each class of another file, by name; those of an unknown name get ids of their own.

    Where no name is shared, as between names and ``class 1``, ids are taken as the same.
    """
    ids = {_class_key(name): number for number, name in ours.items()}
    joined = {number: ids.get(_class_key(name)) for number, name in theirs.items()}
    if all(number is None for number in joined.values()):
        return {}
    free = max((*ours, *theirs)) + 1
    result = {}
    for number, target in joined.items():
        result[number] = free if target is None else target
        free += target is None
    return result


def _class_key(name: str) -> str:
    """``traffic light`` of ``Traffic_Light``."""
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def _frame_ids(labels: Sequence[Label]) -> list[int] | None:
    ids = [label.frame for label in labels if label.frame is not None]
    return ids if len(ids) == len(labels) and len(set(ids)) == len(ids) else None


def _twice(labels: Sequence[Label], ids: Sequence[int], path: Any) -> dict[str, list[int]]:
    seen: set[int] = set()
    for number in ids:
        if number in seen:
            raise InputError(f"{path}: frame_id {number} occurs twice: give a file of one video only")
        seen.add(number)
    return {}


def _bases(column: list[int], what: str, names: Sequence[str], known: Mapping[str, list[int]]) -> tuple[int, ...]:
    """From which number a column of numbers counts; both where nothing says it."""
    if len(known) == 2:
        named, ids = known.values()
        steps = {one - other for one, other in zip(named, ids, strict=True)}
        if steps in ({1}, {-1}):
            from_one = (what != "frame_id") == (steps == {1})
            return (int(from_one),)
    if min(column) < 2:
        return (min(column),)
    if what != "frame_id" and all(re.fullmatch(r"frame_[0-9]{6}\.PNG", file_part(name)) for name in names):
        return (0,)  # CVAT names the frames of a video so
    return (1, 0)


def _within(readings: Readings, most: float) -> Readings:
    return {what: frames for what, frames in readings.items() if min(frames) >= 1 and max(frames) <= most}


def _resolved(readings: Readings, video: Video, path: Any, what: str) -> Joined:
    limit = video.last_number or video.length
    kept = readings
    if limit:
        by_name = {key: frames for key, frames in readings.items() if 0 in frames}
        kept = _within(readings, limit) | by_name
        if not kept and not video.last_number:  # the length of a video is a hint
            kept = _within(readings, limit * 1.1 + 2)
        if not kept:
            frames = next(iter(readings.values()))
            raise InputError(
                f"{path} has no detections for this video: its {what} are frames {min(frames)}..{max(frames)}, "
                f"the video has {limit}; give the file made on this video, or {FIXES}"
            )
    distinct: dict[tuple[int, ...], str] = {}
    for key, one_reading in kept.items():
        distinct.setdefault(tuple(one_reading), key)
    if len(distinct) > 1:
        (one, first), (other, second) = list(distinct.items())[:2]
        i = next(i for i, pair in enumerate(zip(one, other, strict=True)) if pair[0] != pair[1])
        raise InputError(
            f"{path}: its image {i + 1} is frame {one[i]} of {video.name} if {first}, and frame {other[i]} if "
            f"{second}: {FIXES}"
        )
    ((kept_frames, how),) = distinct.items()
    done = _left_out(list(kept_frames), len(kept_frames), what, path)
    return Joined(done.frames, (f"{path}: {how}", *done.notes))


def _overridden(numbers: Sequence[int], video: Video, numbering: Numbering, what: str, path: Any) -> Joined:
    own = numbers_in(video.file_names) if video.file_names else None
    if numbering.first is not None and own is not None:
        place = {number - own[0]: i for i, number in enumerate(own, 1)}
        frames = [place.get(number - numbering.first, 0) for number in numbers]
    else:
        base = numbering.base if numbering.first is None else numbering.first
        assert base is not None
        frames = [number - base + 1 for number in numbers]
        frames = [frame if frame >= 1 else 0 for frame in frames]
    if not any(frames):
        given = f"--frame-base {numbering.base}" if numbering.first is None else f"--first-frame {numbering.first}"
        raise InputError(f"{path}: with {given} none of its {what} is a frame of {video.name}: give another number")
    return _left_out(frames, len(numbers), "entries", path)


def _left_out(frames: list[int], count: int, what: str, path: Any) -> Joined:
    missing = frames.count(0)
    if not missing:
        return Joined(frames)
    return Joined(frames, (f"{path}: {missing} of its {count} {what} are not in the source: their boxes are left out",))


def _picture(place: int | None, video: Video) -> str:
    return "no picture" if place is None else f"picture {place}, {video.file_names[place - 1]},"
