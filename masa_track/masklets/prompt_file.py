"""Prompts as the command line and a file of json give them: read and checked against the video before any work."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from masa_track.contracts import Prompt
from masa_track.errors import InputError, unknown_name
from masa_track.formats.davis import VOID, read_index_picture
from masa_track.formats.json_file import is_finite, objects, parse_json, shown, whole
from masa_track.masklets.prompts import check_prompt, sample_scribble
from masa_track.masks import compressed, decode_mask, encode_mask

Prompts = dict[int, dict[int, Prompt | None]]
"""By frame and identity; None: the object is removed from this frame on."""

FORMS = {
    "box": "ID:FRAME:x1,y1,x2,y2",
    "point": "ID:FRAME:x,y[,-]",
    "scribble": "ID:FRAME:x,y;x,y;...[,-]",
    "mask": "ID:FRAME:FILE.png",
}
_KEYS = ("id", "frame", "box", "point", "points", "positive", "scribble", "mask", "clear", "remove")
_MOST_IDENTITY = 2**31 - 1


@dataclass(frozen=True)
class _Part:
    """One prompt as it was given.

    Attributes:
        place: the argument and its value, or the file and the entry, for messages.
        identity: of the object.
        frame: its number.
        prompt: what it says; None: the object is removed.
    """

    place: str
    identity: int
    frame: int
    prompt: Prompt | None


@dataclass(frozen=True)
class FrameRange:
    """The frames that prompts may be for.

    Attributes:
        first: number of the first one.
        last: number of the last one.
        size: (width, height) of the frames.
    """

    first: int
    last: int
    size: tuple[int, int]


def read_prompts(
    frames: FrameRange,
    boxes: Sequence[str] = (),
    points: Sequence[str] = (),
    scribbles: Sequence[str] = (),
    masks: Sequence[str] = (),
    file: str | Path | None = None,
) -> Prompts:
    """The prompts of a command line.

    Args:
        frames: of the video.
        boxes: values of ``--box``, and so on; see :data:`FORMS`.
        points: a ``-`` at the end marks a point that is not on the object.
        scribbles: lines from vertex to vertex.
        masks: PNG files. Of a picture of several object numbers the pixels with the object's own number are taken,
            otherwise all that are not black.
        file: of ``--prompts``: ``{"prompts": [...]}``; each entry has ``id``, ``frame`` and one or more of ``box``,
            ``point``, ``points``, ``scribble``, ``mask`` (a file, relative to this one, or a COCO RLE), ``remove``.

    Returns:
        The prompts by frame and object. Masks are run lengths.

    Raises:
        InputError: a prompt cannot be read, is outside the video, or contradicts another one of the same object and
            frame. The message names it.
    """
    parts: list[_Part] = []
    for kind, values in (("box", boxes), ("point", points), ("scribble", scribbles), ("mask", masks)):
        parts += [_parsed(kind, value, frames.size) for value in values]
    if file is not None:
        parts += _of_file(Path(file), frames.size)
    prompts = _joined(parts, frames)
    return prompts


def check_prompts(prompts: Prompts) -> None:
    """Checks the order of each object's prompts.

    Raises:
        InputError: there is no prompt; an object's first one shows no pixel of it; or it is removed before.
    """
    if not any(prompt is not None for given in prompts.values() for prompt in given.values()):
        raise InputError("no object is prompted: give --box, --point, --scribble, --mask or --prompts")
    started: set[int] = set()
    for frame in sorted(prompts):
        for identity, prompt in prompts[frame].items():
            if prompt is None:
                if identity not in started:
                    raise InputError(
                        f"object {identity} is removed in frame {frame} but has no prompt before: leave the removal out"
                    )
                started.discard(identity)
            elif identity not in started:
                if prompt.mask is not None and not decode_mask(_rle(prompt.mask)).any():
                    raise InputError(
                        f"the first mask of object {identity}, in frame {frame}, is empty: give a mask with a pixel"
                    )
                if prompt.box is None and prompt.mask is None and not np.any(prompt.positive):
                    raise InputError(
                        f"object {identity} has only negative points in frame {frame}, its first: give a point on "
                        "it, a box or a mask"
                    )
                started.add(identity)


def prompts_to_json(prompts: Prompts) -> list[dict[str, Any]]:
    """The entries of a file of prompts, in one order."""
    entries = []
    for frame in sorted(prompts):
        for identity, prompt in sorted(prompts[frame].items()):
            entry: dict[str, Any] = {"id": identity, "frame": frame}
            if prompt is None:
                entry["remove"] = True
            else:
                if prompt.box is not None:
                    entry["box"] = np.asarray(prompt.box, np.float64).tolist()
                if prompt.points is not None and prompt.positive is not None:
                    entry["points"] = np.asarray(prompt.points, np.float64).tolist()
                    entry["positive"] = np.asarray(prompt.positive).tolist()
                if prompt.mask is not None:
                    entry["mask"] = prompt.mask
                if prompt.clear:
                    entry["clear"] = True
            entries.append(entry)
    return entries


def prompts_from_json(entries: Any, frames: FrameRange, place: str, folder: Path) -> Prompts:
    """The prompts of entries of a file.

    Args:
        entries: a list of objects.
        frames: of the video.
        place: name of the file, for messages.
        folder: to which names of mask files are relative.

    Raises:
        InputError: as :func:`read_prompts`.
    """
    return _joined(_of_entries(entries, frames.size, place, folder), frames)


def with_further(before: Prompts, further: Prompts) -> tuple[Prompts, int | None]:
    """Prompts of a run, and further ones, which replace those for the same object and frame.

    Returns:
        All prompts, and the first frame in which they differ from those before; None where they do not.
    """
    both: Prompts = {frame: dict(given) for frame, given in before.items()}
    for frame, given in further.items():
        both.setdefault(frame, {}).update(given)
    changed = [frame for frame in both if _entries_at(both, frame) != _entries_at(before, frame)]
    return both, min(changed, default=None)


def first_prompts(prompts: Prompts) -> dict[int, int]:
    """The frame of each object's first prompt."""
    first: dict[int, int] = {}
    for frame in sorted(prompts):
        for identity in prompts[frame]:
            first.setdefault(identity, frame)
    return first


def most_at_once(prompts: Prompts) -> int:
    """The most objects that are prompted and not removed at one time."""
    alive: set[int] = set()
    most = 0
    for frame in sorted(prompts):
        for identity, prompt in prompts[frame].items():
            (alive.discard if prompt is None else alive.add)(identity)
        most = max(most, len(alive))
    return most


def _entries_at(prompts: Prompts, frame: int) -> list[dict[str, Any]]:
    return prompts_to_json({frame: prompts[frame]}) if frame in prompts else []


def _parsed(kind: str, text: str, size: tuple[int, int]) -> _Part:
    """One value of ``--box``, ``--point``, ``--scribble`` or ``--mask``."""
    place = f"--{kind} {text}"
    match = re.fullmatch(r"([^:]*):([^:]*):(.*)", text, re.DOTALL)
    if match is None:
        raise InputError(f"{place}: must be {FORMS[kind]}")
    identity, frame = _number(match[1], place, kind, "ID", 0), _number(match[2], place, kind, "FRAME", 1)
    rest = match[3]
    if kind == "mask":
        return _Part(place, identity, frame, Prompt(mask=_mask_file(Path(rest), identity, size, place)))
    if kind == "box":
        values = _numbers(rest, 4, place, kind)
        return _Part(place, identity, frame, _box(values, place, size))
    positive = not rest.endswith(",-")
    rest = rest if positive else rest[:-2]
    if kind == "point":
        vertices = [_numbers(rest, 2, place, kind)]
    else:
        vertices = [_numbers(part, 2, place, kind) for part in rest.split(";")]
    return _Part(place, identity, frame, _points(vertices, positive, kind == "scribble", place, size))


def _number(text: str, place: str, kind: str, name: str, least: int) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", text) or not least <= int(text) <= _MOST_IDENTITY:
        raise InputError(
            f"{place}: {name} must be a whole number of {least} or more, got {text!r}: the form is {FORMS[kind]}"
        )
    return int(text)


def _numbers(text: str, count: int, place: str, kind: str) -> list[float]:
    try:
        values = [float(value) for value in text.split(",")]
    except ValueError:
        values = []
    if len(values) != count or not np.isfinite(values).all():
        raise InputError(f"{place}: must be {FORMS[kind]}, got {text!r} where {count} numbers were expected")
    return values


def _box(values: Sequence[float], place: str, size: tuple[int, int]) -> Prompt:
    return _checked(Prompt(box=np.array(values, np.float32)), place, size)


def _points(
    vertices: Sequence[Sequence[float]], positive: bool, line: bool, place: str, size: tuple[int, int]
) -> Prompt:
    """Points; of a ``line``, those along it."""
    points = np.array(vertices, np.float32).reshape(-1, 2)
    if not len(points):
        raise InputError(f"{place}: must have a point, x, y in pixels")
    prompt = _checked(Prompt(points, np.full(len(points), positive)), place, size)
    if not line:
        return prompt
    sampled = sample_scribble(points)
    return Prompt(sampled, np.full(len(sampled), positive))


def _checked(prompt: Prompt, place: str, size: tuple[int, int]) -> Prompt:
    try:
        return check_prompt(prompt, size)
    except InputError as error:
        raise InputError(f"{place}: {error}") from error


def _mask_file(path: Path, identity: int, size: tuple[int, int], place: str) -> dict[str, Any]:
    """The run lengths of a mask in a PNG."""
    try:
        numbers = read_index_picture(path)
    except InputError as error:
        raise InputError(f"{place}: {error}") from error
    if numbers.shape != size[::-1]:
        raise InputError(
            f"{place}: the mask has {numbers.shape[1]} x {numbers.shape[0]} pixels, the video {size[0]} x {size[1]}: "
            "give a mask made on a frame of this video"
        )
    values = [int(value) for value in np.unique(numbers) if 0 < value < VOID]
    if len(values) > 1 and identity not in values:
        raise InputError(
            f"{place}: the picture has the object numbers {', '.join(map(str, values))}, but not {identity}: give the "
            "object one of them as its ID"
        )
    return encode_mask(numbers == identity if len(values) > 1 else (numbers > 0) & (numbers < VOID))


def _of_file(path: Path, size: tuple[int, int]) -> list[_Part]:
    try:
        held = parse_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"--prompts {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"--prompts {path} is not json: {error}") from error
    if not isinstance(held, dict) or "prompts" not in held:
        raise InputError(f'--prompts {path} must be an object with a list "prompts", got {shown(held)}')
    return _of_entries(held["prompts"], size, f"--prompts {path}", path.parent)


def _of_entries(entries: Any, size: tuple[int, int], place: str, folder: Path) -> list[_Part]:
    parts = []
    for number, entry in enumerate(objects(entries, f"{place}: prompts")):
        parts += _of_entry(entry, size, f"{place}: prompts[{number}]", folder)
    return parts


def _of_entry(entry: Mapping[str, Any], size: tuple[int, int], place: str, folder: Path) -> list[_Part]:
    """The parts of one entry."""
    for key in entry:
        if key not in _KEYS:
            raise unknown_name(f"key in {place}", key, _KEYS)
    identity, frame = whole(entry, "id", place, _MOST_IDENTITY), whole(entry, "frame", place, _MOST_IDENTITY)
    if identity < 0:
        raise InputError(f"{place}: id must be 0 or more, got {identity}")
    found: list[Prompt | None] = []
    positive = entry.get("positive", True)
    for key, line in (("point", False), ("points", False), ("scribble", True)):
        if key in entry:
            vertices = [entry[key]] if key == "point" else entry[key]
            if not isinstance(vertices, list) or not all(_are_numbers(one, 2) for one in vertices):
                raise InputError(f"{place}: {key} must hold x, y in pixels, got {shown(entry[key])}")
            found += _signed(vertices, positive, line, place, size)
    if "box" in entry:
        if not _are_numbers(entry["box"], 4):
            raise InputError(f"{place}: box must be [x1, y1, x2, y2] in pixels, got {shown(entry['box'])}")
        found.append(_box(entry["box"], place, size))
    if "mask" in entry:
        mask = entry["mask"]
        if isinstance(mask, str):
            rle = _mask_file(folder / mask, identity, size, place)
        else:
            try:
                rle = encode_mask(decode_mask(compressed(mask, size[::-1])))
            except InputError as error:
                raise InputError(f"{place}: {error}") from error
        found.append(Prompt(mask=rle))
    for key in ("clear", "remove"):
        if not isinstance(entry.get(key, False), bool):
            raise InputError(f"{place}: {key} must be true or false, got {shown(entry[key])}")
    if entry.get("remove"):
        found.append(None)
    if not found:
        raise InputError(f"{place} has no prompt: give box, points, scribble, mask or remove")
    if entry.get("clear") and found[0] is not None:
        first = found[0]
        found[0] = Prompt(first.points, first.positive, first.box, first.mask, True)
    return [_Part(place, identity, frame, prompt) for prompt in found]


def _are_numbers(value: Any, count: int) -> bool:
    return isinstance(value, list) and len(value) == count and all(is_finite(one) for one in value)


def _signed(vertices: list[Any], positive: Any, line: bool, place: str, size: tuple[int, int]) -> Iterable[Prompt]:
    """Points with one sign for all, or one for each."""
    if isinstance(positive, bool):
        return [_points(vertices, positive, line, place, size)]
    if line or not isinstance(positive, list) or len(positive) != len(vertices):
        raise InputError(f"{place}: positive must be true, false, or one for each of the points, got {shown(positive)}")
    if not all(isinstance(one, bool) for one in positive):
        raise InputError(f"{place}: positive must hold true and false, got {shown(positive)}")
    if not vertices:
        raise InputError(f"{place}: must have a point, x, y in pixels")
    return [_checked(Prompt(np.array(vertices, np.float32), np.array(positive)), place, size)]


def _joined(parts: Sequence[_Part], frames: FrameRange) -> Prompts:
    """The parts of each object and frame as one prompt."""
    groups: dict[tuple[int, int], list[_Part]] = {}
    for part in parts:
        if not frames.first <= part.frame <= frames.last:
            raise InputError(
                f"{part.place}: there is no frame {part.frame} among frames {frames.first} to {frames.last}: frames "
                "count from 1; give one of these, or change --start and --end"
            )
        groups.setdefault((part.frame, part.identity), []).append(part)
    prompts: Prompts = {}
    for (frame, identity), group in sorted(groups.items(), key=lambda item: item[0]):
        prompts.setdefault(frame, {})[identity] = _one(group, frames.size)
    return prompts


def _one(group: Sequence[_Part], size: tuple[int, int]) -> Prompt | None:
    """One prompt of all that was given for an object in a frame."""
    places = " and ".join(dict.fromkeys(part.place for part in group))
    of = f"{places}: object {group[0].identity} in frame {group[0].frame}"
    given = [part.prompt for part in group if part.prompt is not None]
    if len(given) < len(group):
        if given:
            raise InputError(f"{of} is both removed and prompted: leave one of them out")
        return None
    kinds: dict[str, Callable[[Prompt], Any]] = {"boxes": lambda one: one.box, "masks": lambda one: one.mask}
    for name, kind in kinds.items():
        if sum(kind(one) is not None for one in given) > 1:
            raise InputError(f"{of} has several {name}: give one")
    masks = [one.mask for one in given if one.mask is not None]
    if masks and len(given) > 1:
        raise InputError(
            f"{of} has a mask, and points or a box: give the mask alone, and points in another frame to correct it"
        )
    clear = any(one.clear for one in given)
    if masks:
        return Prompt(mask=masks[0], clear=clear)
    points = [np.asarray(one.points) for one in given if one.points is not None]
    positive = [np.asarray(one.positive) for one in given if one.points is not None]
    joined = Prompt(
        np.concatenate(points) if points else None,
        np.concatenate(positive) if points else None,
        next((one.box for one in given if one.box is not None), None),
        clear=clear,
    )
    try:
        return check_prompt(joined, size)
    except InputError as error:
        raise InputError(f"{of}: {error}") from error


def _rle(mask: dict[str, Any]) -> dict[str, Any]:
    """A mask of :func:`~masa_track.masks.encode_mask` as :func:`~masa_track.masks.decode_mask` takes it."""
    return {**mask, "counts": mask["counts"].encode("ascii")}
