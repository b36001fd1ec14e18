"""What each source of frames provides: :class:`Source`."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from typing import Any

import numpy as np

from masa_track.contracts import Frame
from masa_track.errors import InputError

OnBroken = Callable[[int, str], None]

DEFAULT_FPS = 30.0  # of a source that says nothing: a folder of images, some cameras and streams


@dataclass(frozen=True)
class Reading:
    """How a source is to be read.

    Attributes:
        stream: which of several video streams of a file, from 0; None: that marked as default, else the largest.
        value_range: values of black and white, of pictures of more than 8 bits; None: found from the first pictures.
        deinterlace: make one picture of interlaced ones: the lines of the second field are interpolated.
    """

    stream: int | None = None
    value_range: tuple[float, float] | None = None
    deinterlace: bool = False

    def __post_init__(self) -> None:
        if self.stream is not None and self.stream < 0:
            raise InputError(f"--stream must be the number of a video stream, from 0, got {self.stream}")


AS_IT_IS = Reading()


class PastTheEnd(InputError):
    """The first frame that is asked for comes after the last frame of the source."""


class Source(ABC):
    """Where frames come from. Made by :func:`masa_track.video.sources.open_source`.

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
        pixel_aspect: width of a pixel, as it is to be shown, by its height.
        remarks: sentences on what was found when the source was opened, for the user.
        cut_short: what is missing at the end, in words; set when reading has come to the end. Empty where nothing is
            known to be missing.
        notice: called with a text on other events, e.g. a broken connection. By default it does nothing.
        stop_asked: called while waiting for a connection; True ends the wait. By default it returns False.
    """

    name: str
    width: int
    height: int
    fps: float
    length: int | None = None
    last_number: int | None = None
    file_names: Sequence[str] = ()
    live: bool = False
    pixel_aspect: Fraction = Fraction(1)
    remarks: Sequence[str] = ()
    cut_short: str = ""
    notice: Callable[[str], None] = staticmethod(lambda text: None)
    stop_asked: Callable[[], bool] = staticmethod(lambda: False)

    def frames(
        self,
        stride: int = 1,
        max_frames: int | None = None,
        on_broken: OnBroken | None = None,
        start: int = 1,
        stop: int | None = None,
    ) -> Iterator[Frame]:
        """Reads the frames in order. Closing the iterator closes the file or the connection.

        Each frame has its picture. ``number`` is its position in the source, from 1, whatever the stride and the start;
        ``time`` is in seconds since frame 1; ``name`` is that of the image file, or ``000001.jpg`` and so on for a
        video. The pictures before ``start`` are not decoded in a folder of images, nor in a video file whose packets
        tell the numbers of its frames.

        Args:
            stride: yields frames start, start + stride, start + 2 * stride, ...
            max_frames: ends after this number of frames; None yields all.
            on_broken: called with the number of each frame from ``start`` to ``stop`` that cannot be read, and the
                reason. None: such frames are skipped without a report.
            start: number of the first frame. A live source gives its next frame this number, and ``time`` counts from
                that frame.
            stop: number of the last frame that may be yielded; None reads to the end.

        Raises:
            InputError: stride, max_frames or start is below 1, stop is below start, or start is above the number of
                frames. For a video the last of these is found on reading; or the source has gone since it was opened.
        """
        if stride < 1:
            raise InputError(f"stride must be at least 1, got {stride}")
        if max_frames is not None and max_frames < 1:
            raise InputError(f"max_frames must be at least 1, got {max_frames}")
        if start < 1:
            raise InputError(f"start must be a frame number, at least 1, got {start}")
        if stop is not None and stop < start:
            raise InputError(f"stop must be at least start, {start}, got {stop}")
        last = math.inf if stop is None else stop

        def report(number: int, reason: str) -> None:
            if on_broken is not None and start <= number <= last:
                on_broken(number, reason)

        return self._limited(stride, max_frames, report, start, last)

    def _limited(
        self, stride: int, max_frames: int | None, report: OnBroken, start: int, last: float
    ) -> Iterator[Frame]:
        with closing(self._read(stride, report, start)) as frames:
            for frame in islice(frames, max_frames):
                number = frame.number
                if number > last:
                    return
                yield frame
                del frame  # not held while the next one is read
                if number + stride > last:
                    return

    @abstractmethod
    def _read(self, stride: int, report: OnBroken, start: int) -> Any:
        """The generator behind :meth:`frames`: frames start, start + stride, ...; reports may be of any frame."""

    def frame_times(self) -> Iterator[float]:
        """Seconds of each frame, as :meth:`frames` gives them when none is lost, without decoding.

        Raises:
            InputError: the source is live; or it has gone since it was opened.
        """
        raise InputError(f"source {self.name} is live: the times of its frames are not known before they arrive")

    def _check_start(self, start: int, length: int) -> None:
        if start > length:
            raise PastTheEnd(f"start must be at most {length}, the number of frames of {self.name}, got {start}")

    def _size_fault(self, image: np.ndarray) -> str:
        height, width = image.shape[:2]
        if (width, height) == (self.width, self.height):
            return ""
        return f"is {width}x{height}, the video is {self.width}x{self.height}"


def file_stem(text: str) -> str:
    """A file name without surprises."""
    return re.sub(r"[^\w.+-]+", "_", text).strip("._") or "video"
