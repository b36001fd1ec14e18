"""Video in: a file, a folder or pattern of images, a camera or an address, each read as numbered BGR frames.

What is wrong with a source is found by :func:`open_source`, before any work; what is wrong with one frame is told to
``on_broken`` while reading, and the frames after it keep their numbers.
"""

from __future__ import annotations

import configparser
import glob
import math
import os
import re
import time
from abc import ABC, abstractmethod
from bisect import insort
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from masa_track.errors import InputError

OnBroken = Callable[[int, str], None]

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
DEFAULT_FPS = 30.0  # of a folder of images that says nothing
TIMEOUT_SECONDS = 10.0  # for an address to answer, and then to send each packet
SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "http", "https", "udp", "tcp", "srt")
THREADS = min(4, os.cpu_count() or 1)  # each one holds a frame; and damage at the very end can cost as many frames
MAX_PENDING = 10_000  # packets without a frame, before the oldest is given up: a stream may fail for hours


@dataclass(frozen=True)
class Frame:
    """One picture of a source.

    Attributes:
        number: 1-based position in the source; a stride does not change it.
        image: (H, W, 3) uint8 BGR.
        timestamp: seconds since frame 1.
        file_name: the image file's name, or one made up for a video, ``000001.jpg``.
    """

    number: int
    image: np.ndarray
    timestamp: float
    file_name: str


class Source(ABC):
    """Where frames come from. Made by :func:`open_source`.

    Attributes:
        name: a stem for output files, e.g. ``MOT17-05-FRCNN``.
        width: of every frame, in pixels.
        height: of every frame, in pixels.
        fps: frames per second.
        length: how many frames there are: exact for images, a hint for videos, None for live or unknown.
        last_number: the highest frame number that annotations of it can bear, when that is sure; None otherwise.
            It is above ``length`` where a MOTChallenge folder holds only the first images of its sequence.
        file_names: of all frames, in order; empty for anything but images.
        live: whether frames come when they happen.
    """

    name: str
    width: int
    height: int
    fps: float
    length: int | None = None
    last_number: int | None = None
    file_names: Sequence[str] = ()
    live: bool = False

    def frames(
        self, stride: int = 1, max_frames: int | None = None, on_broken: OnBroken | None = None
    ) -> Iterator[Frame]:
        """Reads from the start. Closing the iterator closes the file or the connection.

        Args:
            stride: gives frames 1, 1 + stride, 1 + 2 * stride, ...
            max_frames: ends after so many frames given; None gives all.
            on_broken: told the number of each frame that cannot be given, and why. Default: they are passed over.

        Raises:
            InputError: stride or max_frames is below 1; or, on reading, the source has gone since it was opened.
        """
        if stride < 1:
            raise InputError(f"stride must be at least 1, got {stride}")
        if max_frames is not None and max_frames < 1:
            raise InputError(f"max_frames must be at least 1, got {max_frames}")
        return self._limited(stride, max_frames, on_broken or (lambda number, reason: None))

    def _limited(self, stride: int, max_frames: int | None, report: OnBroken) -> Iterator[Frame]:
        with closing(self._read(stride, report)) as frames:
            yield from islice(frames, max_frames)

    @abstractmethod
    def _read(self, stride: int, report: OnBroken) -> Any:
        """The generator behind :meth:`frames`."""

    def _size_fault(self, image: np.ndarray) -> str:
        height, width = image.shape[:2]
        if (width, height) == (self.width, self.height):
            return ""
        return f"is {width}x{height}, the video is {self.width}x{self.height}"


def open_source(source: str | os.PathLike[str], fps: float | None = None) -> Source:
    """Opens a source and decodes its first frame.

    Args:
        source: a video file; an image folder, in natural order, where a MOTChallenge sequence folder stands for its
            ``img1``; a glob pattern of images; the index of a camera, ``0``; or an address, ``rtsp://...``.
        fps: frames per second instead of what the source says (an image folder without seqinfo.ini: 30). A video's
            timestamps follow it.

    Raises:
        InputError: it cannot be opened, holds no picture that can be decoded, or fps is not finite and above 0.
    """
    if fps is not None and not (math.isfinite(fps) and fps > 0):
        raise InputError(f"fps must be finite and above 0, got {fps}")
    text = os.fspath(source)
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+)://", text)
    if scheme:
        if scheme[1].lower() not in SCHEMES:
            raise InputError(f"source {_shown(text)!r}: addresses begin with {'://, '.join(SCHEMES)}://")
        return VideoSource(text, fps)
    if re.fullmatch(r"[0-9]+", text):
        return CameraSource(int(text), fps)
    path = Path(text)
    if not text or "\0" in text:
        raise InputError(f"source must name a video, an image folder, a camera or an address, got {text!r}")
    if path.is_dir():
        return _open_folder(path, fps)
    if path.exists():
        if path.suffix.lower() in IMAGE_SUFFIXES:
            return ImageSource(path.stem, [path], fps or DEFAULT_FPS, text)
        return VideoSource(text, fps)
    if glob.has_magic(text):
        return _open_glob(text, fps)
    raise InputError(f"source {text!r}: there is no such file or folder; check the path")


# ---------------------------------------------------------------------------------------------------------------------
# Images


class ImageSource(Source):
    """Image files, one a frame; see :func:`open_source`. The first that can be read sets the size."""

    def __init__(
        self, name: str, paths: Sequence[Path], fps: float, shown: str, last_number: int | None = None
    ) -> None:
        self.name, self.fps = _stem(name), float(fps)
        self._paths = list(paths)
        self.file_names = [path.name for path in self._paths]
        self.length = len(self._paths)
        self.last_number = max(self.length, last_number or 0)
        why = ""
        for path in self._paths:
            try:
                self.height, self.width = _read_image(path).shape[:2]
                return
            except _BrokenImageError as error:
                why = why or f"{path.name} {error}"
        raise InputError(f"source {shown!r}: none of its {self.length} images can be read ({why}); give intact images")

    def _read(self, stride: int, report: OnBroken) -> Any:
        for number in range(1, len(self._paths) + 1, stride):
            path = self._paths[number - 1]
            try:
                image = _read_image(path)
            except _BrokenImageError as error:
                report(number, f"{path.name} {error}")
                continue
            fault = self._size_fault(image)
            if fault:
                report(number, f"{path.name} {fault}")
                continue
            yield Frame(number, image, (number - 1) / self.fps, path.name)
            del image  # not held while the next one is read


class _BrokenImageError(Exception):
    pass


def _read_image(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 BGR, whatever the file's channels and depth."""
    try:
        data = np.fromfile(path, np.uint8)
        with _quiet_opencv():
            image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except OSError as error:
        raise _BrokenImageError(f"cannot be read: {error.strerror}") from error
    except cv2.error as error:
        raise _BrokenImageError(f"cannot be decoded: {error.err}") from error
    if image is None:
        raise _BrokenImageError("cannot be decoded, it is damaged or cut short" if data.size else "is empty (0 bytes)")
    return image


def _open_folder(folder: Path, fps: float | None) -> ImageSource:
    shown = str(folder)
    folder = folder.resolve()
    if folder.name == "img1" and (folder.parent / "seqinfo.ini").is_file():
        folder = folder.parent
    name, images, last_number = folder.name, folder, None
    if (folder / "seqinfo.ini").is_file():
        info = _read_seqinfo(folder / "seqinfo.ini")
        name, images = info.get("name") or name, folder / (info.get("imdir") or "img1")
        fps = fps or _positive(info, "framerate", folder / "seqinfo.ini")
        last_number = int(_positive(info, "seqlength", folder / "seqinfo.ini") or 0)
    elif (folder / "img1").is_dir():
        images = folder / "img1"
    if not images.is_dir():
        raise InputError(f"source {shown!r}: its seqinfo.ini names images in {images}, which is not there")
    files = [path for path in images.iterdir() if not path.name.startswith(".") and path.is_file()]
    paths = sorted((path for path in files if path.suffix.lower() in IMAGE_SUFFIXES), key=_natural)
    if not paths:
        held = f"{len(files)} files but no image" if files else "no file"
        raise InputError(
            f"source {shown!r}: {images} holds {held}; give a folder of {', '.join(sorted(IMAGE_SUFFIXES))} files"
        )
    return ImageSource(name, paths, fps or DEFAULT_FPS, shown, last_number)


def _open_glob(pattern: str, fps: float | None) -> ImageSource:
    found = [Path(path) for path in glob.glob(pattern, recursive=True)]
    paths = sorted((p for p in found if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()), key=_natural)
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
        raise InputError(f"{path} is not a MOTChallenge seqinfo.ini ({error}): mend or remove it") from error


def _positive(info: dict[str, str], key: str, path: Path) -> float | None:
    if key not in info:
        return None
    try:
        value = float(info[key])
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"{path}: {key} must be a number above 0, got {info[key]!r}: mend it")
    return value


def _natural(path: Path) -> list[tuple[bool, int, str]]:
    """A key that puts frame2 before frame10."""
    return [(part.isdigit(), int(part) if part.isdecimal() else 0, part) for part in re.split(r"([0-9]+)", str(path))]


def _stem(text: str) -> str:
    """A file name without surprises."""
    return re.sub(r"[^\w.+-]+", "_", text).strip("._") or "video"


# ---------------------------------------------------------------------------------------------------------------------
# Files and addresses, by PyAV


class VideoSource(Source):
    """A video file or an address; see :func:`open_source`."""

    def __init__(self, text: str, fps: float | None) -> None:
        self._remote = "://" in text
        self._url = text if self._remote else f"file:{text}"  # else a colon in a file's name would be a protocol's
        self._shown = _shown(text)
        self._fps_given = fps is not None
        self.name = _stem(Path(text).stem)
        if self._remote:
            host, _, path = _shown(text).partition("://")[2].removeprefix("***@").partition("?")[0].partition("/")
            self.name = _stem(Path(path).stem or host.partition(":")[0])
        self.width = self.height = 0
        reasons: list[str] = []
        with self._open() as (container, stream):
            self.fps = float(fps or _stream_fps(stream))
            seconds = container.duration / av.time_base if container.duration else 0.0
            self.length = stream.frames or round(seconds * _stream_fps(stream)) or None
            self.live = self._remote and not seconds
            with closing(self._decode(container, stream, 1, lambda number, reason: reasons.append(reason))) as frames:
                first = next(frames, None)
        if first is None:
            why = f" ({reasons[-1]})" if reasons else ""
            raise InputError(f"source {self._shown!r}: no frame of it can be decoded{why}; it is damaged or cut short")
        self.height, self.width = first.image.shape[:2]

    @contextmanager
    def _open(self, threads: int = THREADS) -> Iterator[tuple[Any, Any]]:
        options: dict[str, Any] = {}
        if self._remote:
            options["timeout"] = (TIMEOUT_SECONDS, TIMEOUT_SECONDS)
            if self._url.lower().startswith("rtsp"):
                options["options"] = {"rtsp_transport": "tcp"}  # over udp a busy network tears pictures
        try:
            container: Any = av.open(self._url, **options)
        except (av.error.FFmpegError, OSError) as error:
            why = _reason(error)
            if self._remote:
                raise InputError(f"source {self._shown!r}: the address gives no video ({why}); check it") from error
            if os.path.getsize(self._url[5:]) == 0:
                why = "the file is empty"
            raise InputError(f"source {self._shown!r} is not a video, or not a whole one ({why})") from error
        with container:
            attached = av.stream.Disposition.attached_pic  # an album's cover
            streams = [s for s in container.streams.video if not s.disposition & attached]
            if not streams or container.format.name == "tty":  # tty: FFmpeg draws text files as pictures
                raise InputError(f"source {self._shown!r} holds no video ({container.format.long_name}); give a video")
            stream = streams[0]
            if stream.codec_context is None:
                raise InputError(f"source {self._shown!r} is coded in a way that cannot be decoded here; convert it")
            stream.thread_type = "AUTO"
            stream.codec_context.thread_count = threads
            yield container, stream

    def _read(self, stride: int, report: OnBroken) -> Any:
        with self._open() as (container, stream):
            yield from self._decode(container, stream, stride, report)

    def _decode(self, container: Any, stream: Any, stride: int, report: OnBroken) -> Any:
        numbers = _Numbers(
            # AVI has no pts: what FFmpeg makes up for a file with B-frames is not in the order of showing.
            counting=container.format.name == "avi",
            joined=self.live or container.format.name == "mpegts",
            time_base=float(stream.time_base or 0),
        )
        for number, picture in self._pictures(container, stream, numbers, report):
            if picture.is_corrupt:
                report(number, "is damaged")
            elif (number - 1) % stride == 0:
                image = _upright(picture)
                fault = self._size_fault(image) if self.width else ""
                if fault:
                    report(number, fault)
                    continue
                counted = self._fps_given or numbers.counting
                seconds = (number - 1) / self.fps if counted else numbers.seconds
                yield Frame(number, image, seconds, f"{number:06d}.jpg")
                del image  # not held while the next one is decoded

    def _pictures(self, container: Any, stream: Any, numbers: _Numbers, report: OnBroken) -> Iterator[tuple[int, Any]]:
        packets = container.demux(stream)
        packet: Any = True
        why = "could not be decoded"
        while packet is not None:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError as error:
                report(numbers.last + 1, f"reading ended here: {_reason(error)}")
                packet = None
            if packet is not None:
                if packet.size == 0:  # PyAV's mark of the end, or an empty one, which the decoder takes for that
                    continue
                for number in numbers.sent(packet):
                    report(number, why)
            pictures: list[Any] = []
            try:
                pictures = stream.codec_context.decode(packet)
            except av.error.FFmpegError as error:
                why = f"could not be decoded: {_reason(error)}"
                for number in numbers.failed():
                    report(number, why)
            if packet is None and numbers.waiting and not self._remote:
                pictures += self._tail(numbers, {picture.pts for picture in pictures if picture.pts is not None})
            for picture in pictures:
                lost, own = numbers.received(picture.pts, picture.is_corrupt)
                for number in lost:
                    report(number, why)
                    why = "could not be decoded"
                if own is not None:
                    yield own, picture
        for number in numbers.rest():
            report(number, why)

    def _tail(self, numbers: _Numbers, had: set[int]) -> list[Any]:
        """The last frames again, by one thread: an error at the end costs several threads their good frames too."""
        wanted = {pts for _, pts, _ in numbers.waiting if pts > max(had, default=-math.inf)}
        found: list[Any] = []
        if not wanted:
            return found
        with self._open(threads=1) as (container, stream), suppress(av.error.FFmpegError):
            container.seek(min(wanted), stream=stream)
            for packet in container.demux(stream):
                with suppress(av.error.FFmpegError):
                    found += [
                        p for p in stream.codec_context.decode(packet if packet.size else None) if p.pts in wanted
                    ]
        return found


class _Numbers:
    """Numbers decoded frames by the packets they came from, so that a frame lost in decoding leaves a gap.

    A decoder may hand out frames later than their packets and in another order (B-frames, threads), and may lose one
    without a word. But it hands them out by rising pts: so of all packets sent, the ones with a lower pts than the
    frame that comes out have lost theirs. Without usable pts frames are counted, and a failure counts as one.

    Args:
        counting: whether to count from the start, as pts are no good.
        joined: the video may begin in the middle of a stream. Packets before the first key frame are then differences
            to a picture nobody has, and no frames of this video unless they decode after all.
        time_base: seconds per unit of pts.
    """

    def __init__(self, counting: bool, joined: bool, time_base: float) -> None:
        self.counting = counting
        self.waiting: list[tuple[int, int, bool]] = []  # packets: (epoch, pts, is a frame of the video), sorted
        self.last = 0
        self.seconds = 0.0
        self._time_base = time_base
        self._given_up: deque[int] = deque(maxlen=256)  # the latest pts without a frame
        self._epoch = 0  # of the clock: a live stream may set it back
        self._dts: int | None = None
        self._key_pts: float | None = None if joined else -math.inf
        self._origin: tuple[int, float] | None = None  # epoch, and the pts there of second 0

    def sent(self, packet: Any) -> list[int]:
        """Takes note of a packet; gives the numbers of frames to give up for want of room."""
        if self.counting or packet.is_discard:
            return []
        if packet.pts is None:
            self._count_from_now()
            return []
        if packet.dts is not None:
            if self._dts is not None and (self._dts - packet.dts) * self._time_base > 0.2:  # s; less is jitter
                self._epoch += 1
            self._dts = packet.dts
        if self._key_pts is None and packet.is_keyframe:
            self._key_pts = packet.pts
        ours = self._key_pts is not None and (self._epoch > 0 or packet.pts >= self._key_pts)
        insort(self.waiting, (self._epoch, packet.pts, ours))
        return self._give_up(1) if len(self.waiting) > MAX_PENDING else []

    def received(self, pts: int | None, corrupt: bool) -> tuple[list[int], int | None]:
        """The numbers of the frames lost before this one, and its own (None: not a frame of the video)."""
        place = next((i for i, entry in enumerate(self.waiting) if entry[1] == pts), None)
        if place is None and pts in self._given_up:
            return [], None  # after a lost key frame some come too late; it is reported already
        if self.counting or place is None:
            self._count_from_now()
            return [], self._next()
        lost = self._give_up(place)
        epoch, _, ours = self.waiting[0]
        if corrupt and not ours:
            del self.waiting[0]
            return lost, None
        own = self._give_up(1, received=True)[0]
        assert self._origin is not None
        assert pts is not None
        if epoch > self._origin[0]:  # the clock was set back: go on from the last frame's time
            self._origin = (epoch, pts - self.seconds / self._time_base)
        self.seconds = (pts - self._origin[1]) * self._time_base
        return lost, own

    def failed(self) -> list[int]:
        """The decoder raised: the number of the frame lost by that, where only counting can tell."""
        return [self._next()] if self.counting else []

    def rest(self) -> list[int]:
        """At the end: the numbers of all that never came."""
        return self._give_up(len(self.waiting))

    def _give_up(self, count: int, received: bool = False) -> list[int]:
        gone = [entry for entry in self.waiting[:count] if entry[2] or received]
        if not received:
            self._given_up.extend(pts for _, pts, _ in self.waiting[:count])
        del self.waiting[:count]
        if gone and self._origin is None:
            self._origin = (gone[0][0], float(gone[0][1]))
        return [self._next() for _ in gone]

    def _next(self) -> int:
        self.last += 1
        return self.last

    def _count_from_now(self) -> None:
        self.counting = True
        self.waiting.clear()


def _upright(picture: Any) -> np.ndarray:
    """(H, W, 3) uint8 BGR, turned the way a phone's video says it is to be shown."""
    image = picture.to_ndarray(format="bgr24")
    turns = round(picture.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image


def _stream_fps(stream: Any) -> float:
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate and 0 < rate <= 1000:  # some headers hold the clock's rate, 90000, instead
            return float(rate)
    return DEFAULT_FPS


def _reason(error: BaseException) -> str:
    if isinstance(error, av.error.ExitError | av.error.TimeoutError):
        return f"no answer within {TIMEOUT_SECONDS:g} s"
    return getattr(error, "strerror", None) or str(error)  # str() would hold the address, and so its password


def _shown(text: str) -> str:
    """An address without its password."""
    return re.sub(r"(?<=://)[^/]*@", "***@", text)


# ---------------------------------------------------------------------------------------------------------------------
# Cameras, by OpenCV


class CameraSource(Source):
    """A camera of this machine; see :func:`open_source`. Timestamps are the clock's when a frame arrives."""

    live = True

    def __init__(self, index: int, fps: float | None) -> None:
        self.index = index
        self.name = f"camera{index}"
        with self._open() as capture:
            ok, image = capture.read()
            told = capture.get(cv2.CAP_PROP_FPS)
        if not ok:
            raise InputError(f"source {str(index)!r}: the camera gives no picture; is another program using it?")
        self.height, self.width = image.shape[:2]
        self.fps = float(fps or (told if math.isfinite(told) and told > 0 else DEFAULT_FPS))

    @contextmanager
    def _open(self) -> Iterator[Any]:
        with _quiet_opencv():
            capture = cv2.VideoCapture(self.index)
        try:
            if not capture.isOpened():
                raise InputError(
                    f"source {str(self.index)!r}: there is no camera {self.index}; "
                    f"for a file or folder of that name give ./{self.index}"
                )
            yield capture
        finally:
            capture.release()

    def _read(self, stride: int, report: OnBroken) -> Any:
        with self._open() as capture:
            number, start = 0, 0.0
            while capture.grab():
                number += 1
                start = start or time.monotonic()
                if (number - 1) % stride:
                    continue
                seconds = time.monotonic() - start
                ok, image = capture.retrieve()
                fault = self._size_fault(image) if ok else "could not be decoded"
                if fault:
                    report(number, fault)
                    continue
                yield Frame(number, image, seconds, f"{number:06d}.jpg")
                del image
            report(number + 1, "the camera stopped giving pictures")


@contextmanager
def _quiet_opencv() -> Iterator[None]:
    """Keeps OpenCV from writing to stderr what is reported properly anyway."""
    logging: Any = getattr(cv2.utils, "logging", None)
    if logging is None:
        yield
        return
    before = logging.getLogLevel()
    logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        logging.setLogLevel(before)
