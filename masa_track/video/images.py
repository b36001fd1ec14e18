"""Images in: a folder, a MOTChallenge sequence, a glob or printf pattern, a single image, or a stack of them."""

from __future__ import annotations

import configparser
import glob
import math
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image

from masa_track.contracts import Frame
from masa_track.errors import InputError
from masa_track.video.depth import SAMPLES, Range, find_range, to_8_bits
from masa_track.video.opencv import quiet_opencv
from masa_track.video.source import AS_IT_IS, DEFAULT_FPS, OnBroken, Reading, Source, file_stem
from masa_track.video.streams import VideoSource

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2"}
IMAGE_SUFFIXES |= {".avif"}
UNREAD_SUFFIXES = {".heic", ".heif", ".gif", ".jxl", ".jpf", ".j2k", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".psd"}
UNREAD_SUFFIXES |= {".exr", ".hdr", ".pfm", ".ico", ".tga", ".raw"}  # images that are left out, and named
VIDEO_SUFFIXES = {".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".ts"}  # searched in a sequence's folder
_STACKS = {"TIFF", "PNG", "WEBP", "GIF", "AVIF"}  # formats, as PIL names them, whose files may hold several pictures


class Picture(NamedTuple):
    """A picture in a file.

    Attributes:
        path: of the file.
        name: of the picture.
        page: its place in the file, from 0; None: the file holds this one alone.
    """

    path: Path
    name: str
    page: int | None = None


class ImageSource(Source):
    """Image files, one picture or several in each; see :func:`masa_track.video.sources.open_source`.

    The most frequent size is the source's; pictures of another one are reported and left out. Pages and animations of
    a file are frames of their own, called ``stack-0001.tif`` and so on.
    """

    def __init__(
        self,
        name: str,
        paths: Sequence[Path],
        fps: float | None,
        shown: str,
        last_number: int | None = None,
        reading: Reading = AS_IT_IS,
    ) -> None:
        self.name = file_stem(name)
        self.paths = list(paths)
        self.remarks: list[str] = []
        looked = [look_at(path) for path in self.paths]
        self._pictures = [
            Picture(path, path.name)
            if look.pages == (0,)
            else Picture(path, f"{path.stem}-{page + 1:04d}{path.suffix}", page)
            for path, look in zip(self.paths, looked, strict=True)
            for page in look.pages
        ]
        self._scale = reading.value_range
        self._times: list[float] | None = None
        if len(self.paths) == 1 and len(looked[0].pages) > 1 and fps is None:
            self._times = _animation_times(self.paths[0], looked[0].pages)
        if self._times is not None:
            fps = (len(self._times) - 1) / self._times[-1] if self._times[-1] > 0 else None
        self.fps = float(fps or DEFAULT_FPS)
        self.file_names = [picture.name for picture in self._pictures]
        self.length = len(self._pictures)
        self.last_number = max(self.length, last_number or 0)
        sizes = Counter({size: 0 for size in (look.size for look in looked) if size})
        for look in looked:
            if look.size:
                sizes[look.size] += len(look.pages)
        self._find_size(shown, sizes)
        stacks = [(path, look) for path, look in zip(self.paths, looked, strict=True) if look.claimed > look.held]
        for path, look in stacks[:3]:
            self.remarks.append(
                f"{path.name} says that it holds {look.claimed} pictures, and {look.held} can be read: save it anew "
                "as a TIFF of pages"
            )
        left = [(path, look) for path, look in zip(self.paths, looked, strict=True) if look.held > len(look.pages)]
        for path, look in left[:3]:
            self.remarks.append(
                f"{path.name}: {look.held - len(look.pages)} of its {look.held} pages are left out: they are of "
                "another size than the first, or no part of the animation"
            )
        others = [(size, count) for size, count in sizes.most_common() if size != (self.width, self.height)]
        if others:
            listed = ", ".join(f"{count} of {size[0]}x{size[1]}" for size, count in others[:5])
            self.remarks.append(
                f"{shown}: {sum(count for _, count in others)} of {self.length} images are not of the most frequent "
                f"size, {self.width}x{self.height} ({listed}): they are left out"
            )

    def _find_size(self, shown: str, sizes: Counter[tuple[int, int]]) -> None:
        """Sets width and height by the first picture of the most frequent size that can be read."""
        self._find_scale()
        usual = sizes.most_common(1)[0][0] if sizes else None
        found: tuple[int, int] | None = None
        why = ""
        for picture in self._pictures:
            try:
                height, width = self._image(picture).shape[:2]
            except BrokenImageError as error:
                why = why or f"{picture.name} {error}"
                continue
            found = found or (width, height)
            if usual is None or (width, height) == usual:
                found = (width, height)
                break
        if found is None:
            raise InputError(
                f"source {shown!r}: none of its {self.length} images can be read ({why}); give intact images"
            )
        self.width, self.height = found

    def _find_scale(self) -> None:
        """Looks at some pictures for values that fill a part of 16 bits."""
        if self._scale is not None:
            with suppress(BrokenImageError):
                if self._pictures and _decoded(self._pictures[0]).dtype == np.uint8:
                    self.remarks.append(f"{self.name}: images have 8 bits: --range has no effect on them")
            return
        step = max(1, len(self._pictures) // SAMPLES)
        deep = []
        for picture in self._pictures[::step][:SAMPLES]:
            with suppress(BrokenImageError):
                image = _decoded(picture)
                if image.dtype not in (np.uint8, np.uint16):
                    return
                if image.dtype == np.uint16:
                    deep.append(image)
        self._scale = find_range(deep)
        if self._scale is not None:
            low, high = self._scale
            self.remarks.append(
                f"{self.name}: images have 16 bits: {low:.0f} is black and {high:.0f} is white, by the first pictures; "
                "for others give --range"
            )

    def _image(self, picture: Picture) -> np.ndarray:
        if picture.page is None:
            return read_image(picture.path, self._scale)
        return _in_8_bits(_decoded(picture), self._scale)

    def frames(
        self,
        stride: int = 1,
        max_frames: int | None = None,
        on_broken: OnBroken | None = None,
        start: int = 1,
        stop: int | None = None,
    ) -> Iterator[Frame]:
        """See :meth:`masa_track.video.source.Source.frames`."""
        self._check_start(start, len(self._pictures))
        return super().frames(stride, max_frames, on_broken, start, stop)

    def frame_times(self) -> Iterator[float]:
        """See :meth:`masa_track.video.source.Source.frame_times`."""
        return (self._time(place) for place in range(len(self._pictures)))

    def _time(self, place: int) -> float:
        return place / self.fps if self._times is None else self._times[place]

    def _read(self, stride: int, report: OnBroken, start: int) -> Any:
        for number in range(start, len(self._pictures) + 1, stride):
            picture = self._pictures[number - 1]
            try:
                image = self._image(picture)
            except BrokenImageError as error:
                report(number, f"{picture.name} {error}")
                continue
            fault = self._size_fault(image)
            if fault:
                report(number, f"{picture.name} {fault}")
                continue
            yield Frame(number, self._time(number - 1), (self.width, self.height), picture.name, image)
            del image  # not held while the next one is read


class BrokenImageError(Exception):
    """An image file cannot be read; the message has the reason."""


class Look(NamedTuple):
    """What the head of an image file says.

    Attributes:
        size: width and height as shown, in pixels; None where it cannot be read.
        pages: places in the file, from 0, of the pictures of this size.
        held: number of pictures in the file.
        claimed: number of pictures by the note of ImageJ, which may store them without pages.
    """

    size: tuple[int, int] | None
    pages: tuple[int, ...] = (0,)
    held: int = 1
    claimed: int = 1


def look_at(path: Path) -> Look:
    """Reads the head of an image file. One that cannot be read has no size and one page."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large images, which are read all the same
            with Image.open(path) as image:
                size = image.size
                if image.format in ("JPEG", "WEBP", "TIFF", "PNG") and image.getexif().get(_ORIENTATION, 1) in range(
                    5, 9
                ):
                    size = size[::-1]
                held = getattr(image, "n_frames", 1) if image.format in _STACKS else 1
                pages = tuple(range(held))
                if held > 1 and image.info.get("default_image"):  # of a PNG, for readers without animations
                    pages = pages[1:]
                claimed = 1
                if image.format == "TIFF":
                    note = re.match(
                        r"ImageJ=\S*\s+images=([0-9]{1,7})", str(getattr(image, "tag_v2", {}).get(_DESCRIPTION, ""))
                    )
                    claimed = int(note[1]) if note else 1
                    pages = _same_pages(image, pages)  # others are previews
                return Look(size, pages or (0,), held, claimed)
    except Exception:
        return Look(None)


_ORIENTED = ("JPEG", "WEBP", "TIFF", "PNG")  # formats with EXIF
_ORIENTATION = 0x0112  # the EXIF tag: 5 to 8 exchange width and height


_DESCRIPTION = 0x010E  # TIFF's ImageDescription


def _same_pages(image: Any, pages: tuple[int, ...]) -> tuple[int, ...]:
    """The pages that have the size of the first."""
    size = image.size
    same = []
    for page in pages:
        image.seek(page)
        if image.size == size:
            same.append(page)
    return tuple(same)


def _animation_times(path: Path, pages: Sequence[int]) -> list[float] | None:
    """Seconds of each picture of an animation; None for a stack, which has no times."""
    times = [0.0]
    try:
        with Image.open(path) as image:
            for page in pages:
                image.seek(page)
                image.load()
                times.append(times[-1] + float(image.info.get("duration") or 0) / 1000)
    except (OSError, ValueError, EOFError, AttributeError):
        return None
    return times[:-1] if times[-1] > 0 and all(one < other for one, other in pairwise(times)) else None


def read_image(path: Path, scale: Range | None = None) -> np.ndarray:
    """(H, W, 3) uint8 BGR of a file of any number of channels and any depth.

    Only OpenCV 5 refuses a JPEG that is cut short; 4.x (checked with 4.8.1) returns it with the missing part grey and
    reports nothing. Both refuse other formats.

    Args:
        path: of the file.
        scale: values of black and white where it has more than 8 bits; None: all 16 bits.

    Raises:
        BrokenImageError: the file cannot be read or decoded.
    """
    return _in_8_bits(_decoded(Picture(path, path.name)), scale)


def _in_8_bits(image: np.ndarray, scale: Range | None) -> np.ndarray:
    if image.dtype == np.uint8:
        return image
    if scale is not None:
        return to_8_bits(image, scale)
    if image.dtype == np.uint16:
        return (image >> 8).astype(np.uint8)
    raise BrokenImageError(
        f"has {image.dtype.name} pixels, and nothing says which value is white: give --range LOW,HIGH, or save it with "
        "8 or 16 bits a channel"
    )


def _decoded(picture: Picture) -> np.ndarray:
    """(H, W, 3) BGR in the depth of the file."""
    path = picture.path
    deep = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
    try:
        data = np.fromfile(path, np.uint8)
        image: Any = None
        with quiet_opencv():
            if picture.page is None:
                image = cv2.imdecode(data, deep) if data.size else None
            elif path.suffix.lower() in (".tif", ".tiff"):
                done, pages = cv2.imreadmulti(str(path), start=picture.page, count=1, flags=deep)
                image = pages[0] if done and pages else None
        if image is None and data.size and (picture.page is not None or path.suffix.lower() in (".avif", ".jp2")):
            image = _by_pil(picture)
    except OSError as error:
        raise BrokenImageError(f"cannot be read: {error.strerror or error}") from error
    except cv2.error as error:
        raise BrokenImageError(f"cannot be decoded: {error.err}") from error
    if image is None:
        raise BrokenImageError("cannot be decoded, it is damaged or cut short" if data.size else "is empty (0 bytes)")
    return np.asarray(image)


def _by_pil(picture: Picture) -> np.ndarray | None:
    try:
        with Image.open(picture.path) as image:
            image.seek(picture.page or 0)
            if image.mode in ("F", "I") or image.mode.startswith("I;"):  # PIL would cut off what is above 255
                grey = np.asarray(image)
                if grey.dtype.kind != "f" and grey.min() >= 0 and grey.max() < 2**16:
                    grey = grey.astype(np.uint16)
                return np.repeat(grey[:, :, None], 3, axis=2)
            return np.ascontiguousarray(np.asarray(image.convert("RGB"))[:, :, ::-1])
    except (OSError, ValueError, EOFError, SyntaxError):
        return None


def open_folder(folder: Path, fps: float | None, reading: Reading = AS_IT_IS) -> Source:
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
            video = VideoSource(str(videos[0]), fps, reading=reading)
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
    source = ImageSource(name, paths, fps, shown, last_number, reading)
    others = UNREAD_SUFFIXES | VIDEO_SUFFIXES
    unread = [path.name for path in images.iterdir() if path.suffix.lower() in others and path.is_file()]
    if unread:
        source.remarks.append(
            f"{shown}: {len(unread)} files are left out, as they are not images that are read: "
            f"{', '.join(sorted(unread)[:3])}{', ...' if len(unread) > 3 else ''}"
        )
    return source


def _images_in(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file():
            yield path


def open_glob(pattern: str, fps: float | None, reading: Reading = AS_IT_IS) -> ImageSource:
    """The images that a glob pattern matches; see :func:`masa_track.video.sources.open_source`.

    Brackets in the name of a folder that exists are no wildcards.
    """
    literal = _with_literal_folders(pattern)
    found = [Path(path) for path in glob.glob(literal, recursive=True) or glob.glob(pattern, recursive=True)]
    paths = sorted((p for p in found if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()), key=natural_order)
    if not paths:
        held = f"matches {len(found)} files, none of them an image" if found else "matches no file"
        brackets = "; brackets are wildcards: write [[] for [" if "[" in pattern else ""
        raise InputError(f"source {pattern!r}: the pattern {held}; check it, and quote it against the shell{brackets}")
    return _of_files(paths, fps, pattern, reading)


def _with_literal_folders(pattern: str) -> str:
    """The pattern with wildcards escaped in its first part, as far as that is a folder that exists."""
    parts = Path(pattern).parts
    for count in range(len(parts) - 1, 0, -1):
        folder = Path(*parts[:count])
        if folder.is_dir():
            return str(Path(glob.escape(str(folder)), *parts[count:]))
    return pattern


_NUMBER = re.compile(r"(?<!%)%(0?[0-9]{0,2})d")  # %% is a % of the name


def is_numbered(text: str) -> bool:
    """Whether it is a printf pattern of a file name, as of FFmpeg: ``frames/%06d.png``."""
    name = Path(text).name
    return len(_NUMBER.findall(name)) == 1 and Path(name).suffix.lower() in IMAGE_SUFFIXES


def open_numbered(pattern: str, fps: float | None, reading: Reading = AS_IT_IS) -> ImageSource:
    """The images of a printf pattern, by their numbers; see :func:`masa_track.video.sources.open_source`.

    Raises:
        InputError: there is none.
    """
    path = Path(pattern)
    match = _NUMBER.search(path.name)
    assert match is not None
    width = int(match[1] or 0)
    digits = f"[0-9]{{{width},}}" if match[1].startswith("0") and width else "[0-9]+"
    before, after = (part.replace("%%", "%") for part in (path.name[: match.start()], path.name[match.end() :]))
    name = re.compile(re.escape(before) + f"({digits})" + re.escape(after))
    held = path.parent.iterdir() if path.parent.is_dir() else ()
    found = [(int(number[1]), one) for one in held if (number := name.fullmatch(one.name)) and one.is_file()]
    if not found:
        raise InputError(f"source {pattern!r}: the pattern matches no file; check the folder and the number of digits")
    return _of_files([one for _, one in sorted(found)], fps, pattern, reading)


def _of_files(paths: list[Path], fps: float | None, pattern: str, reading: Reading) -> ImageSource:
    folder = Path(os.path.commonpath([path.resolve().parent for path in paths]))
    name = folder.parent.name if folder.name == "img1" else folder.name
    return ImageSource(name, paths, fps, pattern, reading=reading)


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
