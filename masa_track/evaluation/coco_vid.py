"""Truth and tracks with classes from json: COCO-VID or TAO, many videos in one file; every broken rule is reported."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from masa_track.boxes import box_iou
from masa_track.errors import InputError
from masa_track.evaluation.pairs import chosen
from masa_track.evaluation.teta import ClassTracks
from masa_track.formats.joining import Label, Numbering, join_classes, join_files, numbers_in
from masa_track.formats.json_file import MAX_FRAME, is_finite, is_key, objects, parse_json, shown, whole

IGNORED = 0.5  # the part of a box inside a crowd from which it is not scored, as BDD100K and the TETA authors do


@dataclass(frozen=True)
class ClassVideos:
    """Videos to be scored with their classes.

    Attributes:
        pairs: truth and tracks by the video's name; frames count from 1, which is the first frame that the truth lists:
            some files count from 0, some from 1, and some videos begin in the middle.
        class_names: by class id, as the truth has them.
        exhaustive: whether the truth claims to hold all objects of its classes: TAO's lists of classes that are not
            exhaustive say it does not.
        notes: for the user, on how files were joined.
    """

    pairs: dict[str, tuple[ClassTracks, ClassTracks]]
    class_names: dict[int, str]
    exhaustive: bool
    notes: tuple[str, ...] = ()


def read_class_videos(
    gt: str | Path, tracks: str | Path, sequences: Sequence[str] | None = None, numbering: Numbering | None = None
) -> ClassVideos:
    """Reads COCO-VID or TAO json truth, and the tracks of its videos.

    Truth is a dict of videos, images (``video_id`` and ``frame_id`` or ``frame_index``, or none and in order),
    annotations (``image_id``, ``category_id``, ``bbox`` xywh, ``track_id`` or ``instance_id``) and categories.
    Annotations with ``iscrowd`` or ``ignore`` are regions: boxes of tracks that match no truth and lie in them by half
    are not scored. TAO's ``merged`` categories are merged. Frames that the truth does not list are ignored.

    Args:
        gt: the file.
        tracks: TAO results (a list of ``image_id`` of the truth's images, ``category_id``, ``bbox``, ``track_id``),
            COCO-VID json with videos called as the truth's (or one video each), a folder with ``tracks.json`` (what
            ``masa-track track`` writes), or for several videos a folder with ``NAME.json`` or ``NAME/tracks.json``.
            Their images are the truth's by :func:`~masa_track.formats.joining.join_files`, their classes by name.
        sequences: names of the videos to be scored; None: all of ``gt``.
        numbering: how names of the truth's images number the frames of a run on a video; None: it is found out.

    Raises:
        InputError: a file cannot be read or breaks one of these rules, with its entry; or a video has no tracks.
    """
    truth = _File(Path(gt), "GT", numbering=numbering)
    if not truth.videos:
        raise InputError(f"GT must be COCO-VID or TAO json with videos and images, but {gt} has none")
    names = chosen(truth.videos.values(), sequences)
    truth.videos = {video: name for video, name in truth.videos.items() if name in names}
    found = _results(truth, Path(tracks))
    pairs = {}
    for video_id, name in truth.videos.items():
        ours, crowd = truth.rows(video_id)
        theirs = found.get(video_id, ClassTracks.from_frames([]))
        listed = np.isin(theirs.frames, truth.frames(video_id))
        theirs = without_ignored(ours, crowd, _only(theirs, listed))
        before = min(truth.frames(video_id), default=1) - 1
        pairs[name] = (_earlier(ours, before), _earlier(theirs, before))
    return ClassVideos(pairs, truth.class_names, truth.exhaustive, tuple(truth.notes))


def without_ignored(truth: ClassTracks, ignored: ClassTracks, tracks: ClassTracks) -> ClassTracks:
    """The tracks without the boxes that match no truth (at IoU .5) and lie in an ignored region by more than half."""
    keep = np.ones(len(tracks), bool)
    for frame in np.unique(ignored.frames):
        here = np.flatnonzero(tracks.frames == frame)
        boxes, regions = tracks.boxes[here], ignored.boxes[ignored.frames == frame]
        iou = box_iou(truth.boxes[truth.frames == frame], boxes)
        rows, columns = linear_sum_assignment(np.where(iou >= 0.5, iou, 0), maximize=True)
        matched = columns[iou[rows, columns] >= 0.5]
        low = np.maximum(boxes[:, None, :2], regions[None, :, :2])
        high = np.minimum(boxes[:, None, 2:], regions[None, :, 2:])
        area = np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), 1e-9)
        inside = (np.maximum(high - low, 0).prod(axis=2) / area[:, None] > IGNORED).any(axis=1)
        inside[matched] = False
        keep[here[inside]] = False
    return _only(tracks, keep)


def _earlier(tracks: ClassTracks, frames: int) -> ClassTracks:
    """The tracks with frame numbers that are lower by ``frames``."""
    return ClassTracks(tracks.frames - frames, tracks.ids, tracks.classes, tracks.boxes)


def _only(tracks: ClassTracks, keep: np.ndarray) -> ClassTracks:
    return ClassTracks(tracks.frames[keep], tracks.ids[keep], tracks.classes[keep], tracks.boxes[keep])


def _results(truth: _File, place: Path) -> dict[Any, ClassTracks]:
    """The tracks by the truth's video ids; those of no video are refused, so that a wrong file is noticed."""
    if not place.exists():
        raise InputError(f"TRACKS must be a json file or a folder, but there is no {place}")
    if place.is_dir() and not (place / "tracks.json").is_file():
        found = {}
        for video_id, name in truth.videos.items():
            places = (place / f"{name}.json", place / name / "tracks.json")
            file = next((path for path in places if path.is_file()), None)
            if file is None:
                raise InputError(
                    f"TRACKS has nothing for {name} of GT (searched in {place} for tracks.json, {name}.json or "
                    f"{name}/tracks.json; json, as GT is json)"
                )
            found[video_id] = _video_of(truth, video_id, _File(file, "TRACKS"))
        return found
    whole = _File(place / "tracks.json" if place.is_dir() else place, "TRACKS", truth)
    if whole.is_list:
        return {video_id: whole.rows(video_id)[0] for video_id in truth.videos}
    if len(truth.videos) == len(whole.videos) == 1:
        return {video_id: _video_of(truth, video_id, whole) for video_id in truth.videos}
    ids = {name: video_id for video_id, name in whole.videos.items()}
    missing = [name for name in truth.videos.values() if name not in ids]
    if missing:
        raise InputError(f"TRACKS has no video called {missing[0]!r} of GT ({len(missing)} missing) in {whole.path}")
    return {i: _video_of(truth, i, whole, ids[name]) for i, name in truth.videos.items()}


def _video_of(truth: _File, video_id: Any, file: _File, theirs: Any = None) -> ClassTracks:
    """The tracks of a COCO-VID file's video (its only one, if None), in the truth's frame numbers."""
    if file.is_list or (theirs is None and len(file.videos) != 1):
        raise InputError(f"{file.path} must be COCO-VID json of one video, to go with {truth.videos[video_id]!r} of GT")
    theirs = next(iter(file.videos)) if theirs is None else theirs
    rows = file.rows(theirs)[0]
    listed, frames = truth.labels(video_id), truth.frames(video_id)
    joined = join_files(listed, file.labels(theirs), file.path, truth.numbering)
    if listed and len(rows) and not any(place is not None for place in joined):
        truth.notes.append(
            f"note: no image of {file.path} is one of {truth.videos[video_id]!r} of GT, by name or frame_id: all truth "
            "counts as missed"
        )
    number = {
        frame: frames[place] for frame, place in zip(file.frames(theirs), joined, strict=True) if place is not None
    }
    to = np.array([number.get(frame, 0) for frame in rows.frames.tolist()], np.int64)
    classes = join_classes(truth.class_names, file.class_names) if file.class_names else {}
    ids = np.array([classes.get(one, one) for one in rows.classes.tolist()], np.int64)
    unknown = sorted({file.class_names[one] for one, target in classes.items() if target not in truth.class_names})
    if unknown:
        truth.notes.append(f"note: classes of {file.path} that GT does not have: {', '.join(unknown[:5])}")
    keep = to > 0
    factors = _factors(truth, video_id, file, theirs, number)
    scale = np.array([[*factors.get(frame, (1, 1))] * 2 for frame in rows.frames[keep].tolist()]).reshape(-1, 4)
    return ClassTracks(to[keep], rows.ids[keep], ids[keep], rows.boxes[keep] * scale)


def _factors(
    truth: _File, video_id: Any, file: _File, theirs: Any, number: Mapping[int, int]
) -> dict[int, tuple[float, float]]:
    """By frame of the tracks, by what x and y are multiplied where the truth has its image in another size.

    Raises:
        InputError: one of them is turned.
    """
    factors = {}
    for frame, frame_of_truth in number.items():
        wanted, given = truth.sizes.get((video_id, frame_of_truth)), file.sizes.get((theirs, frame))
        if wanted is None or given is None or wanted == given:
            continue
        if wanted == given[::-1]:
            raise InputError(
                f"{file.path}: its images are {given[0]}x{given[1]}, and those of GT {wanted[0]}x{wanted[1]}: one of "
                "them is turned; give boxes of upright pictures"
            )
        factors[frame] = (wanted[0] / given[0], wanted[1] / given[1])
    if factors:
        x, y = next(iter(factors.values()))
        truth.notes.append(
            f"note: {len(factors)} images of {file.path} are of another size than in GT: boxes are scaled, e.g. by "
            f"{x:.4g} and {y:.4g}"
        )
    return factors


@dataclass
class _File:
    """One json file; ``like`` is the truth that a bare list's image ids are of."""

    path: Path
    argument: str
    like: _File | None = None
    videos: dict[Any, str] = field(default_factory=dict)
    class_names: dict[int, str] = field(default_factory=dict)
    exhaustive: bool = True
    is_list: bool = False
    notes: list[str] = field(default_factory=list)
    numbering: Numbering | None = None
    sizes: dict[tuple[Any, int], tuple[Any, Any]] = field(default_factory=dict)  # by video and frame from 1

    def __post_init__(self) -> None:
        try:
            content = parse_json(self.path.read_text(encoding="utf-8-sig"))
        except OSError as error:
            raise InputError(f"cannot read {self.path}: {error.strerror or error}") from error
        except ValueError as error:
            raise InputError(f"{self.argument} must be json (as GT is), but {self.path} is not: {error}") from error
        self.is_list = isinstance(content, list)
        annotations: Any
        if self.is_list and self.like is None:
            raise InputError(
                f"{self.path} is a bare list: {self.argument} must be COCO-VID json with videos and images"
            )
        if not isinstance(content, list | dict):
            raise InputError(f"{self.path} must be COCO-VID or TAO json, got {type(content).__name__}")
        self._merged: dict[Any, Any] = dict(self.like._merged) if self.like else {}
        self._images: dict[Any, tuple[Any, int]] = {}  # (video id, frame from 1) by image id
        self._frames: dict[Any, list[int]] = {}
        self._labels: dict[Any, list[Label]] = {}
        if isinstance(content, dict):
            self._read_head(content)
            annotations, label = content.get("annotations", []), "annotations"
        else:
            assert self.like is not None
            self._images, self.videos = self.like._images, self.like.videos
            annotations, label = content, "result "
        self._rows: dict[Any, dict[bool, list[tuple[int, int, int, list[float]]]]] = {}
        seen: set[tuple[Any, int, int]] = set()
        for i, entry in enumerate(objects(annotations, f"{self.path}: {label.strip()}")):
            self._add(entry, f"{self.path}, {label}[{i}]", seen)

    def rows(self, video_id: Any) -> tuple[ClassTracks, ClassTracks]:
        """The boxes of a video, and its crowd regions."""
        both = self._rows.get(video_id, {})
        return _columns(both.get(False, [])), _columns(both.get(True, []))

    def frames(self, video_id: Any) -> list[int]:
        """The frames listed of a video."""
        return self._frames.get(video_id, [])

    def labels(self, video_id: Any) -> list[Label]:
        """What is said of the images of a video, in the order of :meth:`frames`."""
        return self._labels.get(video_id, [])

    def _read_head(self, content: Mapping[str, Any]) -> None:
        def listed(key: str) -> list[dict[str, Any]]:
            return objects(content.get(key, []), f"{self.path}: {key}")

        for i, category in enumerate(listed("categories")):
            place = f"{self.path}, categories[{i}]"
            number = whole(category, "id", place)
            self.class_names[number] = str(category.get("name"))
            for other in objects(category.get("merged", []), f"{place}: merged"):
                self._merged[whole(other, "id", f"{place}: merged")] = number
        for i, video in enumerate(listed("videos")):
            name = str(video.get("name", video.get("id")))
            if name in self.videos.values():
                raise InputError(f"{self.path}: two videos are called {name!r}")
            self.videos[_key(video, f"{self.path}, videos[{i}]")] = name
            self.exhaustive &= "not_exhaustive_category_ids" not in video
        images = listed("images")
        named = [key for key in ("frame_id", "frame_index") if all(key in image for image in images)]
        key = named[0] if named else ""
        owned: dict[Any, list[tuple[int, dict[str, Any]]]] = {}
        for i, image in enumerate(images):
            owner = image.get("video_id")
            if owner is None and len(self.videos) == 1:
                owner = next(iter(self.videos))
            if not is_key(owner) or owner not in self.videos:
                raise InputError(f"{self.path}, images[{i}]: video_id {shown(owner)} is not among its videos")
            owned.setdefault(owner, []).append((i, image))
        for owner, entries in owned.items():
            names = [str(image.get("file_name", "")) for _, image in entries]
            numbers = None if key else numbers_in(names)
            taken: set[int] = set()
            for count, (i, image) in enumerate(entries):
                place = f"{self.path}, images[{i}]"
                frame = whole(image, key, place, MAX_FRAME) if key else None
                number = frame if frame is not None else numbers[count] if numbers else count
                if number in taken:
                    raise InputError(f"{place}: {key or 'the number'} {number} occurs twice in video {owner!r}")
                taken.add(number)
                self._frames.setdefault(owner, []).append(number + 1)
                self._labels.setdefault(owner, []).append(Label(names[count], frame))
                self._images[_key(image, place)] = (owner, number + 1)
                size: tuple[Any, Any] = image.get("width"), image.get("height")
                if all(is_finite(side) and side > 0 for side in size):
                    self.sizes[owner, number + 1] = size

    def _add(self, entry: Mapping[str, Any], place: str, seen: set[tuple[Any, int, int]]) -> None:
        image = entry.get("image_id")
        if not is_key(image) or image not in self._images:
            raise InputError(f"{place}: image_id {shown(image)} is not among {'GT' if self.is_list else 'its'} images")
        video, frame = self._images[image]
        key = next((key for key in ("track_id", "instance_id") if key in entry), "track_id")
        crowd = bool(entry.get("iscrowd") or entry.get("ignore"))
        track_id = 0 if crowd and key not in entry else whole(entry, key, place)
        box = entry.get("bbox")
        if not isinstance(box, list) or len(box) != 4 or not all(is_finite(value) for value in box):
            raise InputError(f"{place}: bbox must be four finite numbers x, y, width, height, got {shown(box)}")
        if min(box[2:]) < 0:
            raise InputError(f"{place}: width and height must not be below 0, got {box[2]} and {box[3]}")
        if not crowd:
            if (video, frame, track_id) in seen:
                raise InputError(f"{place}: {key} {track_id} occurs twice in image {image!r}")
            seen.add((video, frame, track_id))
        category = whole(entry, "category_id", place)
        x, y, width, height = box
        row = (frame, track_id, self._merged.get(category, category), [x, y, x + width, y + height])
        self._rows.setdefault(video, {}).setdefault(crowd, []).append(row)


def _columns(rows: Iterable[tuple[int, int, int, list[float]]]) -> ClassTracks:
    rows = list(rows)
    frames, ids, classes = (np.array([row[i] for row in rows], np.int64) for i in range(3))
    if len({*zip(frames.tolist(), ids.tolist(), strict=True)}) < len(rows):
        ids = np.arange(len(rows))  # crowds, whose ids mean nothing
    return ClassTracks(frames, ids, classes, np.array([row[3] for row in rows], np.float64).reshape(-1, 4))


def _key(entry: Mapping[str, Any], place: str) -> int | str:
    value: Any = entry.get("id")
    if not is_key(value):
        raise InputError(f"{place}: id must be a number or a text, got {shown(value)}")
    return value
