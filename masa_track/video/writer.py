"""The video writer: frames as H.264 in an MP4 that any browser plays."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import cv2
import numpy as np

from masa_track.files import PartFile
from masa_track.video.ffmpeg import silence_ffmpeg
from masa_track.video.opencv import fitted
from masa_track.video.parts import join_parts, part_number, part_path, parts_of

PRESET = "veryfast"  # x264's own scale; with CRF 23 some 3x faster than its default for a few per cent more bytes
CRF = "23"
# No B-frames: with them a packet's dts lags behind its pts by some frames of any duration, and an MP4 counts its
# length in dts: one that ends with long frames would be cut short by players.
CODER = {"preset": PRESET, "crf": CRF, "bf": "0"}
LARGEST_SIDE = 16_384  # pixels that x264 takes; larger frames are scaled down
# Fragments of one second, without edit lists, at their true times: what is written can be played after a kill, and
# joined with the part of a resumed run.
FRAGMENTS = {
    "movflags": "+empty_moov+default_base_moof+frag_discont+skip_trailer",
    "frag_duration": "1000000",  # microseconds
    "flush_packets": "1",
    "use_editlist": "0",
    "avoid_negative_ts": "disabled",
}
FINEST = 90_000  # ticks a second, at least, in which times of frames are written; MPEG's own clock
SQUARE = Fraction(1)
BT709 = 1  # in av's colour properties


class VideoWriter:
    """An MP4 written beside its place and put there when it is closed.

    Until then ``.video-0001.mp4`` holds it in fragments of a second: after a kill at any time it can be played up to
    the last fragment, which ends before the frames that the encoder still holds. A resumed run writes
    ``.video-0002.mp4`` and so on, and :meth:`close` joins them all; see :func:`masa_track.video.parts.join_parts`.

    H.264, yuv420p, index first (``+faststart``). yuv420p wants even sizes, so an odd one gains a copy of its last
    column or row. Frames with a time are shown at it, so that the video lasts as long as its source; those without
    follow each other by 1 / fps. As a context manager it closes at the end and on Ctrl-C, and abandons on any other
    exception.

    Args:
        path: the file, e.g. ``video.mp4``.
        width: of the frames, in pixels.
        height: of the frames, in pixels.
        fps: frames per second, a fraction or a float such as 29.97.
        first_part: number of the part to write. Parts with lower numbers are of the same run and come before it; those
            from this number on are of another run, and are removed.
        start_time: seconds, by the clock of :meth:`write`, at which the video starts, also where this part starts
            later; None: the time of the first frame written.
        pixel_aspect: width of a pixel, as it is to be shown, by its height.

    Raises:
        ValueError: a size below 1, an fps that is not finite and above 0, or a first_part below 1.
        OSError: the file cannot be opened.
    """

    def __init__(
        self,
        path: str | Path,
        width: int,
        height: int,
        fps: float | Fraction,
        first_part: int = 1,
        start_time: float | None = None,
        pixel_aspect: Fraction = SQUARE,
    ) -> None:
        if width < 1 or height < 1:
            raise ValueError(f"width and height must be at least 1 pixel, got {width} x {height}")
        if not (math.isfinite(fps) and fps > 0):
            raise ValueError(f"fps must be finite and above 0, got {fps}")
        if first_part < 1:
            raise ValueError(f"first_part must be at least 1, got {first_part}")
        self.file = PartFile(path, part_path(path, first_part))
        self._earlier: list[Path] = []  # parts of this run before this one
        scale = min(1.0, LARGEST_SIDE / max(width, height))
        self.width = max(1, int(width * scale))
        self.height = max(1, int(height * scale))
        self.frames = 0
        rate = max(Fraction(fps).limit_denominator(1001), Fraction(1, 1001))  # 1001: NTSC rates stay exact
        self._ticks_per_frame = math.ceil(FINEST / rate)  # a whole number, so that a constant rate stays exact
        self._time_base = 1 / (rate * self._ticks_per_frame)
        self._start = start_time  # seconds, by the clock of the frames, at which the video starts
        self._last = self._step = 0  # ticks: when the last frame is shown, and how long after the one before
        self._closed = self._completed = False
        self._fault: OSError | None = None  # of writing; FFmpeg crashes if more is written after it
        silence_ffmpeg()
        for part in parts_of(self.file.path.parent, self.file.path.name):
            if part_number(part) < first_part:
                self._earlier.append(part)
            else:
                part.unlink()
        os.close(self.file.create())
        try:
            with self._as_os_error():
                self._container = av.open(str(self.file.part), "w", format="mp4", options=FRAGMENTS)
        except BaseException:
            self.file.abandon()
            raise
        try:
            self._stream = self._container.add_stream("libx264", rate=rate, options=CODER)
            self._stream.width = self.width + self.width % 2
            self._stream.height = self.height + self.height % 2
            self._stream.pix_fmt = "yuv420p"
            context: Any = self._stream.codec_context
            context.time_base = self._time_base
            # Untagged, players guess the matrix from the size, and colours shift.
            if pixel_aspect != SQUARE:
                context.sample_aspect_ratio = pixel_aspect
            context.colorspace = context.color_primaries = context.color_trc = BT709
        except BaseException:
            self.abandon()
            raise

    def write(self, frame: np.ndarray, seconds: float | None = None) -> None:
        """Encodes one frame.

        Args:
            frame: (H, W, 3) uint8 BGR. One of another size is scaled to fit, its proportions kept, on black.
            seconds: its time by any clock; the first frame's is the start of the video. None: 1 / fps after the frame
                before it. A time that is not later than that of the frame before is put one tick after it.

        Raises:
            ValueError: it is not such an array, or the time is not finite.
            OSError: the disk is full, or the like. The video cannot be completed then.
        """
        if seconds is not None and not math.isfinite(seconds):
            raise ValueError(f"seconds must be finite, got {seconds}")
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or frame.size == 0:
            raise ValueError(f"frame must be (H, W, 3) uint8 BGR, got {frame.shape} {frame.dtype}")
        if frame.shape[:2] != (self.height, self.width):
            frame = fitted(frame, self.width, self.height)
        if self.height % 2 or self.width % 2:
            frame = cv2.copyMakeBorder(frame, 0, self.height % 2, 0, self.width % 2, cv2.BORDER_REPLICATE)
        if self._fault is not None:
            raise self._fault
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="bgr24")
        picture = picture.reformat(format="yuv420p", dst_colorspace="ITU709")
        picture.pts, picture.time_base = self._ticks(seconds), self._time_base
        with self._as_os_error():
            self._container.mux(self._stream.encode(picture))
        self.frames += 1

    def _ticks(self, seconds: float | None) -> int:
        """When the next frame is shown."""
        ticks = self._last + self._ticks_per_frame if self.frames else 0
        if seconds is not None:
            self._start = seconds if self._start is None else self._start
            earliest = self._last + 1 if self.frames else 0
            ticks = max(earliest, round((seconds - self._start) / self._time_base))
        self._last, self._step = ticks, ticks - self._last if self.frames else self._ticks_per_frame
        return ticks

    def close(self) -> bool:
        """Completes the video of all parts of the run, puts it in its place and removes the parts.

        Without a frame there is none: an earlier one stays. Where there is no room for the copy that has its index
        first, the only part of a run is itself put in place.

        Returns:
            Whether it is there; False also after :meth:`abandon`.

        Raises:
            OSError: this part cannot be completed, and is removed; or the parts cannot be joined, and stay. An earlier
                video is as it was.
        """
        if self._closed:
            return self._completed
        if self.frames == 0 and self._fault is None:
            self.abandon()
        else:
            self._complete_part()
        parts = [*self._earlier, self.file.part] if self.frames else self._earlier
        try:
            self._completed = bool(join_parts(parts, self.file.path))
        except OSError:
            if self._earlier:
                raise
            self.file.commit()
            self._completed = True
        self.file.abandon()
        for part in self._earlier:
            part.unlink(missing_ok=True)
        return self._completed

    def _complete_part(self) -> None:
        try:
            if self._fault is not None:
                raise self._fault
            packets = self._stream.encode(None)
            for packet in packets[-1:]:  # the last frame is shown as long as the one before it
                packet.duration = round(self._step * self._time_base / packet.time_base)
            with self._as_os_error():
                self._container.mux(packets)
                self._container.close()
            self._closed = True
        except BaseException:
            self.abandon()
            raise

    def abandon(self) -> None:
        """Stops and removes this part; an earlier video and the parts before are as they were.

        Does nothing after :meth:`close`.
        """
        if self._closed:
            return
        self._closed = True
        try:
            with suppress(av.FFmpegError, OSError):  # one without a packet, or on a full disk, cannot be completed
                self._container.close()
        finally:
            self.file.abandon()

    @contextmanager
    def _as_os_error(self) -> Iterator[None]:
        """FFmpeg's errors of reading and writing are no OSError in PyAV."""
        try:
            yield
        except av.FFmpegError as error:
            self._fault = OSError(error.errno, error.strerror, str(self.file.path))
            raise self._fault from error

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None or issubclass(kind, KeyboardInterrupt):
            self.close()
        else:
            self.abandon()
