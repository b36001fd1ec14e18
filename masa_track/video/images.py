"""Images in: a folder, a MOTChallenge sequence, a glob pattern or a single image."""

from __future__ import annotations

import configparser
import glob
import math
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from masa_track.contracts import Frame
from masa_track.errors import InputError
from masa_track.video.opencv import quiet_opencv
from masa_track.video.source import DEFAULT_FPS, OnBroken, Source, file_stem
from masa_track.video.streams import VideoSource

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
VIDEO_SUFFIXES = {".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".ts"}  # searched in a sequence's folder


class ImageSource(Source):
    """Image files, one a frame; see :func:`masa_track.video.sources.open_source`.

    The first that can be read sets the size.
    """

    def __init__(
        self, name: str, paths: Sequence[Path], fps: float, shown: str, last_number: int | None = None
    ) -> None:
        self.name, self.fps = file_stem(name), float(fps)
        self.paths = list(paths)
        self.file_names = [path.name for path in self.paths]
        self.length = len(self.paths)
        self.last_number = max(self.length, last_number or 0)
        why = ""
        for path in self.paths:
            try:
                self.height, self.width = read_image(path).shape[:2]
                return
            except BrokenImageError as error:
                why = why or f"{path.name} {error}"
        raise InputError(f"source {shown!r}: none of its {self.length} images can be read ({why}); give intact images")

    def frames(
        self,
        stride: int = 1,
        max_frames: int | None = None,
        on_broken: OnBroken | None = None,
        start: int = 1,
        stop: int | None = None,
    ) -> Iterator[Frame]:
        """See :meth:`masa_track.video.source.Source.frames`."""
        self._check_start(start, len(self.paths))
        return super().frames(stride, max_frames, on_broken, start, stop)

    def frame_times(self) -> Iterator[float]:
        """See :meth:`masa_track.video.source.Source.frame_times`."""
        return (place / self.fps for place in range(len(self.paths)))

    def _read(self, stride: int, report: OnBroken, start: int) -> Any:
        for number in range(start, len(self.paths) + 1, stride):
            path = self.paths[number - 1]
            try:
                image = read_image(path)
            except BrokenImageError as error:
                report(number, f"{path.name} {error}")
                continue
            fault = self._size_fault(image)
            if fault:
                report(number, f"{path.name} {fault}")
                continue
            yield Frame(number, (number - 1) / self.fps, (self.width, self.height), path.name, image)
            del image  # not held while the next one is read


class BrokenImageError(Exception):
    """An image file cannot be read; the message has the reason."""


def read_image(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 BGR of a file of any number of channels and any depth.

    Only OpenCV 5 refuses a JPEG that is cut short; 4.x (checked with 4.8.1) returns it with the missing part grey and
    reports nothing. Both refuse other formats.

    Raises:
        BrokenImageError: the file cannot be read or decoded.
    """
    try:
        data = np.fromfile(path, np.uint8)
        with quiet_opencv():
            image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except OSError as error:
        raise BrokenImageError(f"cannot be read: {error.strerror}") from error
    except cv2.error as error:
        raise BrokenImageError(f"cannot be decoded: {error.err}") from error
    if image is None:
        depth = _unusual_depth(data)
        if depth:
            raise BrokenImageError(
                f"has {depth} pixels, and nothing says which value is white: save it with 8 or 16 bits a channel"
            )
        raise BrokenImageError("cannot be decoded, it is damaged or cut short" if data.size else "is empty (0 bytes)")
    return image


def _unusual_depth(data: np.ndarray) -> str:
    """The type of an image's pixels, where that is the reason why it is not given as BGR; else empty."""
    try:
        with quiet_opencv():
            image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    except cv2.error:
        return ""
    return "" if image is None or image.dtype in (np.uint8, np.uint16) else image.dtype.name


def open_folder(folder: Path, fps: float | None) -> Source:
    """A folder of images, or of a MOTChallenge sequence; see :func:`masa_track.video.sources.open_source`.

    A sequence may hold a video in place of its images.
    """
    shown = str(folder)
    folder = folder.resolve()
    if folder.name == "img1" and (folder.parent / "seqinfo.ini").is_file():
        folder = folder.parent
    name, images, last_number = folder.name, folder, None
    is_sequence = any((folder / part).exists() for part in ("seqinfo.ini", "gt", "det"))
    if (folder / "seqinfo.ini").is_file():
        info = _read_seqinfo(folder / "seqinfo.ini")
        name, images = info.get("name") or name, folder / (info.get("imdir") or "img1")
        fps = fps or _positive(info, "framerate", folder / "seqinfo.ini")
        last_number = int(_positive(info, "seqlength", folder / "seqinfo.ini") or 0)
    elif (folder / "img1").is_dir():
        images = folder / "img1"
    if is_sequence and not (images.is_dir() and any(_images_in(images))):
        videos = sorted(path for path in folder.iterdir() if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file())
        if len(videos) > 1:
            names = ", ".join(path.name for path in videos)
            raise InputError(f"source {shown!r} holds {len(videos)} videos: give one of them ({names})")
        if videos:
            video = VideoSource(str(videos[0]), fps)
            video.name = file_stem(name)
            return video
    if not images.is_dir():
        raise InputError(f"source {shown!r}: its seqinfo.ini names images in {images}, which is not there")
    paths = sorted(_images_in(images), key=natural_order)
    if not paths:
        files = [path for path in images.iterdir() if not path.name.startswith(".") and path.is_file()]
        held = f"{len(files)} files but no image" if files else "no file"
        raise InputError(
            f"source {shown!r}: {images} holds {held}; give a folder of {', '.join(sorted(IMAGE_SUFFIXES))} files"
        )
    return ImageSource(name, paths, fps or DEFAULT_FPS, shown, last_number)


def _images_in(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file():
            yield path


def open_glob(pattern: str, fps: float | None) -> ImageSource:
    """The images that a glob pattern matches; see :func:`masa_track.video.sources.open_source`."""
    found = [Path(path) for path in glob.glob(pattern, recursive=True)]
    paths = sorted((p for p in found if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()), key=natural_order)
    if not paths:
        held = f"matches {len(found)} files, none of them an image" if found else "matches no file"
        raise InputError(f"source {pattern!r}: the pattern {held}; check it, and quote it against the shell")
    folder = Path(os.path.commonpath([path.resolve().parent for path in paths]))
    return ImageSource(folder.parent.name if folder.name == "img1" else folder.name, paths, fps or DEFAULT_FPS, pattern)


def _read_seqinfo(path: Path) -> dict[str, str]:
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(path.read_text(encoding="utf-8-sig"))
        return dict(parser["Sequence"])
    except (configparser.Error, KeyError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a MOTChallenge seqinfo.ini ({error}): fix or remove it") from error


def _positive(info: dict[str, str], key: str, path: Path) -> float | None:
    if key not in info:
        return None
    try:
        value = float(info[key])
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"{path}: {key} must be a number above 0, got {info[key]!r}: fix it")
    return value


def natural_order(path: Path) -> list[tuple[bool, int, str]]:
    """A key that puts frame2 before frame10."""
    return [(part.isdigit(), int(part) if part.isdecimal() else 0, part) for part in re.split(r"([0-9]+)", str(path))]
