"""Data sets of annotated videos with sentences: A2D- and JHMDB-Sentences, Refer-YouTube-VOS, COCO-VID json.

Each item is one sentence with its clip. Nothing of these data sets is shipped; their folders are as their authors
and MTTR's published them.
"""

from __future__ import annotations

import csv
import json
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch

from masa_track.errors import InputError, missing_extra
from masa_track.formats.davis import read_index_picture
from masa_track.formats.json_file import objects, parse_json, whole
from masa_track.masks import compressed, decode_mask
from masa_track.refer.data import FlippedClips, SentenceClip
from masa_track.refer.resizing import SIDES, clip_tensor, resize_masks, resized_size, to_rgb
from masa_track.refer.tokens import clean_sentence
from masa_track.video.images import BrokenImageError, read_image
from masa_track.video.sources import open_source


class Sample(NamedTuple):
    """One sentence about one object in one window.

    Attributes:
        video: of the data set.
        numbers: the frames of the window, T; any of them several times at the ends of a video.
        instance: the object's id.
        sentence: as it is written in the data set.
    """

    video: str
    numbers: tuple[int, ...]
    instance: int
    sentence: str


class AnnotatedClips(FlippedClips):
    """What the data sets have in common: splits, windows, sizes, flips.

    Args:
        root: the folder of the data set.
        split: one of ``splits``.
        window: T, frames of a clip; None: ``usual_window``.
        sides: pixels of the short and of the longest side; None: ``usual_sides``.
        seed, flip: see :class:`~masa_track.refer.data.FlippedClips`.

    Attributes:
        splits: those with public masks.
        centre_only: the annotated frame in the middle is the only frame of interest.
        usual_window, usual_sides: those of the published figures.
    """

    splits: ClassVar[tuple[str, ...]] = ("train",)
    centre_only: ClassVar[bool] = False
    usual_window: ClassVar[int] = 12
    usual_sides: ClassVar[tuple[int, int]] = SIDES["ytvos"]

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        window: int | None = None,
        sides: tuple[int, int] | None = None,
        seed: int = 0,
        flip: float = 0.5,
    ) -> None:
        super().__init__(seed, flip)
        if split not in self.splits:
            raise InputError(f"split must be {' or '.join(self.splits)}, got {split!r}")
        self.root, self.split = Path(root), split
        self.window = self.usual_window if window is None else window
        if self.window < 1:
            raise InputError(f"window must be 1 frame or more, got {window}")
        short, longest = self.usual_sides if sides is None else sides
        self.sides = (short, longest)  # a list where a configuration says it
        if not self.root.is_dir():
            raise InputError(f"root {self.root} is not a folder: give that of the data set")
        self.samples = list(self._find_samples())
        if not self.samples:
            raise InputError(f"{self.root} has no sentence about an annotated object: check the folder and the split")

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> SentenceClip:
        return self.maybe_flipped(self.clip(self.samples[index]), index)

    def clip(self, sample: Sample) -> SentenceClip:
        """The clip of a sample at the network's size.

        Raises:
            InputError: a file is missing or broken, or the object is in none of the frames of interest.
        """
        images = self._images(sample)
        size = resized_size((images[0].shape[0], images[0].shape[1]), *self.sides)
        frames = (self.window // 2,) if self.centre_only else None
        numbers = sample.numbers if frames is None else [sample.numbers[i] for i in frames]
        found = [self._masks(sample.video, number, images[0].shape[:2]) for number in numbers]
        instances = sorted({key for masks in found for key in masks})
        if sample.instance not in instances:
            raise InputError(
                f"object {sample.instance} of {sample.video} has no mask in the frames {list(numbers)}: leave its "
                "sentence out"
            )
        empty = np.zeros(images[0].shape[:2], bool)
        masks = torch.from_numpy(np.stack([[m.get(key, empty) for key in instances] for m in found]))
        scaled = resize_masks(masks, size)
        visible = None if self.centre_only else masks.flatten(2).any(-1)
        return SentenceClip(
            clip_tensor(images, size),
            scaled,
            [clean_sentence(sample.sentence)],
            [instances.index(sample.instance)],
            visible,
            frames,
        )

    def truth(self, sample: Sample) -> np.ndarray:
        """(H, W) bool mask of a sample's object at the video's size, in the frame in the middle of the window."""
        number = sample.numbers[self.window // 2]
        masks = self._masks(sample.video, number, self._images(sample)[0].shape[:2])
        if sample.instance not in masks:
            raise InputError(f"object {sample.instance} of {sample.video} has no mask in frame {number}")
        return masks[sample.instance]

    @abstractmethod
    def _find_samples(self) -> Iterable[Sample]:
        """All sentences and their windows."""

    @abstractmethod
    def _images(self, sample: Sample) -> list[np.ndarray]:
        """The window's frames, (H, W, 3) uint8 RGB."""

    @abstractmethod
    def _masks(self, video: str, number: int, size: tuple[int, int]) -> Mapping[int, np.ndarray]:
        """The annotated objects of a frame: (H, W) bool by id."""


def centred(number: int, window: int, last: int) -> tuple[int, ...]:
    """The window around an annotated frame; at the ends of a video its first or last frame comes several times.

    Args:
        number: the frame, from 1.
        window: frames.
        last: the video's last frame.
    """
    start = number - window // 2
    return tuple(min(max(n, 1), last) for n in range(start, start + window))


def chunks(names: Sequence[Any], window: int) -> list[tuple[int, ...]]:
    """Consecutive windows over annotated frames, as indices; the last is moved back, or its last frame repeated."""
    count = len(names)
    if count <= window:
        return [tuple(min(i, count - 1) for i in range(window))]
    starts = [*range(0, count - window, window), count - window]
    return [tuple(range(start, start + window)) for start in starts]


class A2dSentences(AnnotatedClips):
    """A2D-Sentences: one frame of interest in the middle of each window.

    The folder holds ``Release/videoset.csv``, ``Release/CLIPS320/*.mp4``, ``text_annotations/a2d_annotation.txt``,
    ``text_annotations/a2d_missed_videos.txt`` and
    ``text_annotations/a2d_annotation_with_instances/VIDEO/FRAME.h5``, which h5py reads.

    The published windows have 8 or 10 frames. Arguments are those of :class:`AnnotatedClips`.
    """

    splits = ("train", "test")
    centre_only = True
    usual_window = 10
    usual_sides = SIDES["a2d"]

    def _find_samples(self) -> Iterable[Sample]:
        missed = {line.strip() for line in _lines(self.root / "text_annotations" / "a2d_missed_videos.txt")}
        lengths = {}
        for row in csv.reader(_lines(self.root / "Release" / "videoset.csv")):
            if len(row) >= 9 and row[0] not in missed and int(row[8]) == (self.split == "test"):
                lengths[row[0]] = int(row[6])
        sentences = defaultdict(list)
        for row in _sentence_rows(self.root / "text_annotations" / "a2d_annotation.txt"):
            sentences[row[0]].append((int(row[1]), ",".join(row[2:])))
        for video in sorted(lengths.keys() & sentences.keys()):
            for path in sorted((self._folder / video).glob("*.h5")):
                present = set(self._instances(path))
                number = int(path.stem)
                for instance, sentence in sentences[video]:
                    if instance in present:
                        yield Sample(video, centred(number, self.window, lengths[video]), instance, sentence)

    @property
    def _folder(self) -> Path:
        return self.root / "text_annotations" / "a2d_annotation_with_instances"

    def _images(self, sample: Sample) -> list[np.ndarray]:
        return _video_frames(self.root / "Release" / "CLIPS320" / f"{sample.video}.mp4", sample.numbers)

    def _instances(self, path: Path) -> list[int]:
        with _hdf5(path) as file:
            return [int(n) for n in np.asarray(file["instance"]).reshape(-1)]

    def _masks(self, video: str, number: int, size: tuple[int, int]) -> Mapping[int, np.ndarray]:
        path = self._folder / video / f"{number:05d}.h5"
        instances = self._instances(path)
        with _hdf5(path) as file:
            masks = np.asarray(file["reMask"])
        if masks.ndim == 2:
            masks = masks[None]
        return {n: mask.T.astype(bool) for n, mask in zip(instances, masks, strict=True)}


class JhmdbSentences(AnnotatedClips):
    """JHMDB-Sentences, for evaluation: every frame of interest is one annotated frame, a person's.

    The folder holds ``Rename_Images/ACTION/VIDEO/*.png``, ``puppet_mask/ACTION/VIDEO/puppet_mask.mat`` and
    ``jhmdb_annotation.txt``, which has a video and a sentence a line.

    Args:
        root: the folder.
        frames: annotated frames of each video, evenly spread. The published figures take three, from a file.
        window, sides: see :class:`AnnotatedClips`.
        seed, flip: see :class:`~masa_track.refer.data.FlippedClips`.
    """

    centre_only = True

    def __init__(
        self,
        root: str | Path,
        frames: int = 3,
        window: int = 10,
        sides: tuple[int, int] = SIDES["a2d"],
        seed: int = 0,
        flip: float = 0.0,
    ) -> None:
        self.frames = frames
        super().__init__(root, "train", window, sides, seed, flip)

    def _find_samples(self) -> Iterable[Sample]:
        folders = {path.name: path for path in self.root.glob("Rename_Images/*/*") if path.is_dir()}
        self.pictures = {name: sorted(path.glob("*.png")) for name, path in folders.items()}
        self.mask_files = {path.parent.name: path for path in self.root.glob("puppet_mask/*/*/puppet_mask.mat")}
        for row in _sentence_rows(self.root / "jhmdb_annotation.txt"):
            video, sentence = row[0], row[-1]
            if not self.pictures.get(video) or video not in self.mask_files:
                continue
            last = len(self.pictures[video])
            for number in sorted({round(n) for n in np.linspace(1, last, self.frames + 2)[1:-1]}):
                yield Sample(video, centred(int(number), self.window, last), 1, sentence)

    def _images(self, sample: Sample) -> list[np.ndarray]:
        return [_picture(self.pictures[sample.video][n - 1]) for n in sample.numbers]

    def _masks(self, video: str, number: int, size: tuple[int, int]) -> Mapping[int, np.ndarray]:
        from scipy.io import loadmat

        masks = loadmat(str(self.mask_files[video]))["part_mask"]  # (H, W, frames)
        return {1: masks[..., min(number, masks.shape[2]) - 1].astype(bool)}


class ReferYoutubeVos(AnnotatedClips):
    """Refer-YouTube-VOS, training split: all frames of a window are of interest.

    The folder holds ``train/JPEGImages/VIDEO/*.jpg``, ``train/Annotations/VIDEO/*.png`` (index pictures) and
    ``meta_expressions/train/meta_expressions.json``.

    The published windows have 12 or 8 frames. Arguments are those of :class:`AnnotatedClips`; the other splits have no
    public masks.
    """

    def _find_samples(self) -> Iterable[Sample]:
        path = self.root / "meta_expressions" / self.split / "meta_expressions.json"
        content = _json(path)
        self.names = {}
        for video, about in sorted(content.get("videos", {}).items()):
            names = self.names[video] = [str(name) for name in about["frames"]]
            present = [set(self._masks(video, i, (0, 0))) for i in range(len(names))]
            for window in chunks(names, self.window):
                seen = set().union(*(present[i] for i in window))
                for _, expression in sorted(about["expressions"].items()):
                    instance = whole(expression, "obj_id", f"{path}, {video}")
                    if instance in seen:
                        yield Sample(video, window, instance, str(expression["exp"]))

    def _images(self, sample: Sample) -> list[np.ndarray]:
        folder = self.root / self.split / "JPEGImages" / sample.video
        return [_picture(folder / f"{self.names[sample.video][n]}.jpg") for n in sample.numbers]

    def _masks(self, video: str, number: int, size: tuple[int, int]) -> Mapping[int, np.ndarray]:
        picture = read_index_picture(
            self.root / self.split / "Annotations" / video / f"{self.names[video][number]}.png"
        )
        return {int(n): picture == n for n in np.unique(picture) if n}


class CocoVidSentences(AnnotatedClips):
    """COCO-VID json of your own, with a ``sentence`` (or a list ``sentences``) for each entry of ``tracks``.

    ``images`` have ``id``, ``video_id``, ``frame_id`` and ``file_name``; ``annotations`` have ``image_id``,
    ``track_id`` or ``instance_id``, and ``segmentation``; where there is none, their ``bbox`` stands for the mask.

    Args:
        root: the folder that ``file_name`` starts at.
        annotations: the json file.
        window: frames of a clip.
        sides: pixels of the short and of the longest side.
        seed, flip: see :class:`~masa_track.refer.data.FlippedClips`.
    """

    def __init__(
        self,
        root: str | Path,
        annotations: str | Path,
        window: int = 12,
        sides: tuple[int, int] = SIDES["ytvos"],
        seed: int = 0,
        flip: float = 0.5,
    ) -> None:
        self.annotations = Path(annotations)
        super().__init__(root, "train", window, sides, seed, flip)

    def _find_samples(self) -> Iterable[Sample]:
        content, place = _json(self.annotations), str(self.annotations)
        images, entries, tracks = (
            objects(content.get(key), f"{place}, {key}") for key in ("images", "annotations", "tracks")
        )
        self.frames: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for image in sorted(images, key=lambda image: whole(image, "frame_id", f"{place}, images")):
            self.frames[str(image.get("video_id"))].append(image)
        self.entries: dict[Any, list[tuple[int, dict[str, Any]]]] = defaultdict(list)
        for entry in entries:
            key = "track_id" if "track_id" in entry else "instance_id"
            self.entries[entry.get("image_id")].append((whole(entry, key, f"{place}, annotations"), entry))
        for track in tracks:
            video = str(track.get("video_id"))
            instance = whole(track, "id", f"{place}, tracks")
            sentences = track.get("sentences", [track["sentence"]] if "sentence" in track else [])
            frames = self.frames.get(video, [])
            for window in chunks(frames, self.window) if frames else ():
                if any(instance == n for i in window for n, _ in self.entries[frames[i].get("id")]):
                    for sentence in sentences:
                        clean_sentence(sentence)
                        yield Sample(video, window, instance, sentence)

    def _images(self, sample: Sample) -> list[np.ndarray]:
        return [_picture(self.root / str(self.frames[sample.video][n]["file_name"])) for n in sample.numbers]

    def _masks(self, video: str, number: int, size: tuple[int, int]) -> Mapping[int, np.ndarray]:
        masks = {}
        for instance, entry in self.entries[self.frames[video][number].get("id")]:
            if entry.get("segmentation"):
                masks[instance] = decode_mask(compressed(entry["segmentation"], size))
            else:
                masks[instance] = _box_mask(entry.get("bbox"), size, f"{self.annotations}, annotations")
        return masks


def _box_mask(box: Any, size: tuple[int, int], place: str) -> np.ndarray:
    """(H, W) bool, True inside of a box (x, y, width, height)."""
    try:
        x, y, width, height = (float(value) for value in box)
    except (TypeError, ValueError) as error:
        raise InputError(f"{place}: bbox must be x, y, width, height, got {box!r:.60}") from error
    mask = np.zeros(size, bool)
    mask[max(0, round(y)) : max(0, round(y + height)), max(0, round(x)) : max(0, round(x + width))] = True
    return mask


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}): give the folder of the whole data set") from error


def _json(path: Path) -> dict[str, Any]:
    try:
        content = parse_json("\n".join(_lines(path)))
    except (ValueError, json.JSONDecodeError) as error:
        raise InputError(f"{path} is not json ({error}): get the file again") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold an object, got a {type(content).__name__}")
    return content


def _sentence_rows(path: Path) -> list[list[str]]:
    """The rows of a file of sentences without its header."""
    rows = [row for row in csv.reader(_lines(path), skipinitialspace=True) if len(row) >= 2]
    return rows[1:] if rows and rows[0][0] == "video_id" else rows


def _hdf5(path: Path) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise missing_extra("h5py", "refer", "for the masks of A2D-Sentences") from error
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error}): get the file again") from error


def _picture(path: Path) -> np.ndarray:
    if not path.is_file():
        raise InputError(f"there is no frame {path}: give the folder of the whole data set")
    try:
        return to_rgb(read_image(path))
    except BrokenImageError as error:
        raise InputError(f"{path} is broken ({error}): get the file again") from error


def _video_frames(path: Path, numbers: Sequence[int]) -> list[np.ndarray]:
    """Frames of a video by their numbers, from 1; beyond its end its last frame."""
    wanted = set(numbers)
    found: dict[int, np.ndarray] = {}
    last = None
    for frame in open_source(path).frames(start=min(wanted), stop=max(wanted)):
        last = frame.picture
        if frame.number in wanted:
            found[frame.number] = to_rgb(last)
    if last is None:
        raise InputError(f"{path} holds no frame: get the file again")
    end = to_rgb(last)
    return [found.get(number, end) for number in numbers]
