"""A finished run, read back from its ``tracks.json``, for other formats to be made of it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import supervision as sv

from masa_track.errors import InputError
from masa_track.formats.json_file import MAX_FRAME, parse_json, whole
from masa_track.formats.rows import plain_text
from masa_track.masks import Rle, compressed, is_whole

FPS = 30.0  # where the run knows none: an image folder without seqinfo.ini


@dataclass(frozen=True)
class Run:
    """The tracks of one video.

    Attributes:
        path: of the ``tracks.json``.
        name: of the video.
        width: in pixels.
        height: in pixels.
        fps: frames a second of the video.
        class_names: by class id.
        frames: (F,) int64, the tracked frames, from 1, rising.
        times: (F,) float64, their seconds since frame 1; (frame - 1) / fps where the file has none. They never fall.
        file_names: of these frames.
        rows: (N,) int64, index into ``frames`` of each box, rising.
        ids: (N,) int64.
        classes: (N,) int64.
        boxes: (N, 4) float64 xyxy, 0-based pixels.
        scores: (N,) float64.
        masks: of each box as COCO's compressed RLE, None where it has none; empty where no box has one.
        filled: (N,) bool, boxes that fill a gap.
        smoothed: (N,) bool, boxes that were smoothed.
        cuts: (C,) int64, first frames after a cut.
        tree: of each box its ``parent_id``, ``part`` and ``phrase``, as far as it has them, see
            :func:`~masa_track.formats.rows.part_fields`; empty where no box has one.
        presence: of each frame, the probability that a phrase is in it, by phrase; empty where no frame has any.
    """

    path: Path
    name: str
    width: int
    height: int
    fps: float
    class_names: dict[int, str]
    frames: np.ndarray
    times: np.ndarray
    file_names: list[str]
    rows: np.ndarray
    ids: np.ndarray
    classes: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    filled: np.ndarray
    smoothed: np.ndarray
    cuts: np.ndarray
    masks: tuple[Rle | None, ...] = ()
    tree: tuple[dict[str, int | str], ...] = ()

    @property
    def parent_ids(self) -> np.ndarray:
        """(N,) int64, the identity of what each box's object is a part of; -1 for things."""
        if not self.tree:
            return np.full(len(self.ids), -1, np.int64)
        return np.array([one.get("parent_id", -1) for one in self.tree], np.int64)

    presence: tuple[Mapping[str, float], ...] = ()

    def tracks(self) -> Iterator[tuple[int, int, np.ndarray]]:
        """Each track's id, most frequent class (the smallest of several) and (n,) boxes' places, in order of ids."""
        order = np.argsort(self.ids, kind="stable")
        ids, starts = np.unique(self.ids[order], return_index=True)
        if not len(ids):
            return
        for track_id, places in zip(ids.tolist(), np.split(order, starts[1:]), strict=True):
            votes = Counter(self.classes[places].tolist())
            yield track_id, min(votes, key=lambda number: (-votes[number], number)), places

    def detections(self, place: int) -> sv.Detections:
        """The boxes of frame ``frames[place]``, as writers take them, with their marks and masks as run lengths."""
        here = slice(*np.searchsorted(self.rows, [place, place + 1]))
        rows = sv.Detections(
            xyxy=self.boxes[here],
            confidence=self.scores[here],
            class_id=self.classes[here],
            tracker_id=self.ids[here],
            data={"filled": self.filled[here], "smoothed": self.smoothed[here]},
        )
        if self.masks and len(rows):
            masks = np.empty(len(rows), object)
            masks[:] = [mask and {**mask, "counts": mask["counts"].decode("ascii")} for mask in self.masks[here]]
            rows.data["segmentation"] = masks
        if self.tree:
            tree = self.tree[here]
            rows.data["parent_id"] = np.array([one.get("parent_id", -1) for one in tree], np.int64)
            rows.data |= {name: np.array([one.get(name, "") for one in tree], object) for name in ("part", "phrase")}
        return rows

    def class_name(self, number: int) -> str:
        """What a class is called."""
        return self.class_names.get(number, f"class {number}")

    def spells(self, places: np.ndarray) -> list[np.ndarray]:
        """A track's boxes in stretches without a gap: it is in each of the tracked frames between first and last."""
        return np.split(places, np.flatnonzero(np.diff(self.rows[places]) > 1) + 1)


def read_run(path: str | Path, online: bool = False, births: bool = False) -> Run:
    """Reads a run.

    Args:
        path: its folder, or its ``tracks.json``.
        online: of a folder, the tracks as they were before they were finished: ``online.json``, where there is one.
        births: with the boxes that tracks had before they were confirmed, which are not in ``annotations``.

    Raises:
        InputError: there is none, or it is not COCO-VID json of one video as ``masa-track track`` writes it.
    """
    path = Path(path)
    file = run_file(path, online)
    if not file.is_file():
        raise InputError(f"RUN must be a folder made by `masa-track track`, or its tracks.json, but there is no {file}")
    try:
        content = parse_json(file.read_text(encoding="utf-8"))
        (video,) = content["videos"]
        images = sorted(content["images"], key=lambda image: image["frame_id"])
        frames = np.array([whole(image, "frame_id", "an image", MAX_FRAME) + 1 for image in images], np.int64)
        place = {image["id"]: i for i, image in enumerate(images)}
        entries = content["annotations"]
        if births:
            entries = entries + [entry for entry in content.get("tentative", ()) if entry["image_id"] in place]
        entries = sorted(entries, key=lambda entry: place[entry["image_id"]])
        fps = float(video.get("fps") or FPS)
        xywh = np.array([entry["bbox"] for entry in entries], np.float64).reshape(-1, 4)
        run = Run(
            path=file,
            name=plain_text(video["name"]),
            width=whole(video, "width", "the video", 2**31),
            height=whole(video, "height", "the video", 2**31),
            fps=fps,
            class_names={whole(one, "id", "a category"): plain_text(one["name"]) for one in content["categories"]},
            frames=frames,
            times=_times(images, frames, fps),
            file_names=[str(image.get("file_name", "")) for image in images],
            rows=np.array([place[entry["image_id"]] for entry in entries], np.int64),
            ids=np.array([whole(entry, "track_id", "an annotation") for entry in entries], np.int64),
            classes=np.array([whole(entry, "category_id", "an annotation") for entry in entries], np.int64),
            boxes=np.round(np.concatenate((xywh[:, :2], xywh[:, :2] + xywh[:, 2:]), axis=1), 3),  # as it was written
            scores=np.array([entry.get("score", 1.0) for entry in entries], np.float64),
            filled=np.array([entry.get("filled", False) is True for entry in entries], bool),
            smoothed=np.array([entry.get("smoothed", False) is True for entry in entries], bool),
            cuts=np.array([int(frame) + 1 for frame in content.get("cuts", ())], np.int64),
            masks=_masks(
                [entry.get("segmentation") for entry in entries], (int(video["height"]), int(video["width"])), file
            ),
            tree=_tree(entries),
            presence=_presence(images),
        )
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{file} is not COCO-VID json of one video, as `masa-track track` writes it ({_said(error)})"
        ) from error
    _check(run)
    return run


def run_file(path: Path, online: bool = False) -> Path:
    """The json of a run's tracks, of its folder or as named; ``online``: before they were finished."""
    if not path.is_dir():
        return path
    return path / ("online.json" if online and (path / "online.json").is_file() else "tracks.json")


def _times(images: list[Any], frames: np.ndarray, fps: float) -> np.ndarray:
    """(F,) seconds of the images; by the frame rate where not all of them have a time."""
    if all(image.get("time") is not None for image in images):
        return np.array([image["time"] for image in images], np.float64)
    return (frames - 1) / fps


def _presence(images: list[Any]) -> tuple[Mapping[str, float], ...]:
    """Of each image; empty where none has any."""
    found = [
        {plain_text(phrase): float(value) for phrase, value in (image.get("presence") or {}).items()}
        for image in images
    ]
    return tuple(found) if any(found) else ()


def _masks(segmentations: list[Any], size: tuple[int, int], file: Path) -> tuple[Rle | None, ...]:
    masks: list[Rle | None] = []
    for i, segmentation in enumerate(segmentations):
        if not segmentation:
            masks.append(None)
            continue
        if not (isinstance(segmentation, dict) and isinstance(segmentation.get("counts"), str)):  # of another program
            masks.append(compressed(segmentation, size))
            continue
        height, width = segmentation["size"]
        rle = {"size": [int(height), int(width)], "counts": segmentation["counts"].encode("ascii")}
        if not is_whole(rle):
            raise InputError(f"{file}, annotations[{i}]: the runs of its segmentation do not fill its size")
        masks.append(rle)
    return tuple(masks) if any(mask is not None for mask in masks) else ()


def _tree(entries: list[Any]) -> tuple[dict[str, int | str], ...]:
    """Of each annotation what it says of the tree of parts; empty where none does."""
    tree: list[dict[str, int | str]] = []
    for entry in entries:
        field: dict[str, int | str] = {}
        if "parent_id" in entry:
            field["parent_id"] = whole(entry, "parent_id", "an annotation")
        tree.append(field | {name: plain_text(entry[name]) for name in ("part", "phrase") if name in entry})
    return tuple(tree) if any(tree) else ()


def _check(run: Run) -> None:
    if not len(run.frames) or (np.diff(run.frames) < 1).any():
        raise InputError(f"{run.path} must hold frames, each once")
    finite = np.isfinite(run.boxes).all() and np.isfinite(run.scores).all() and math.isfinite(run.fps)
    if not (finite and run.fps > 0 and min(run.width, run.height) > 0):
        raise InputError(f"{run.path} must hold finite boxes and scores, and a size and an fps above 0")
    if not np.isfinite(run.times).all() or (np.diff(run.times) < 0).any():
        raise InputError(f"{run.path} must hold finite times of images, in seconds, that never fall")
    for mask in run.masks:
        if mask is not None and mask["size"] != [run.height, run.width]:
            height, width = mask["size"]
            raise InputError(f"{run.path} must hold masks of {run.width}x{run.height}, got one of {width}x{height}")
    if len(np.unique(np.column_stack((run.rows, run.ids)), axis=0)) < len(run.ids):
        raise InputError(f"{run.path} holds a track_id twice in one image")


def _said(error: Any) -> str:
    return f"no {error}" if isinstance(error, KeyError) else str(error)
