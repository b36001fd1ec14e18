"""Video files and addresses in, decoded by PyAV."""

from __future__ import annotations

import errno
import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from fractions import Fraction
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np

from masa_track.contracts import Frame
from masa_track.errors import InputError
from masa_track.video.addresses import HIDDEN, masked
from masa_track.video.depth import Range, find_range
from masa_track.video.ffmpeg import silence_ffmpeg
from masa_track.video.frame_numbers import BY_PTS, COUNTED, FrameNumbers, pairing_of
from masa_track.video.keyframes import REORDER, find_entry
from masa_track.video.opencv import fitted
from masa_track.video.pictures import HLG, PQ, WHITE, bgr, grey_16, grey_bits, is_turned, transfer_of, upright
from masa_track.video.reconnect import kept_alive
from masa_track.video.shown import shows_picture
from masa_track.video.source import AS_IT_IS, DEFAULT_FPS, OnBroken, Reading, Source, file_stem

# Decoders that may return pictures in another order than packets came, or one picture of two fields.
REORDERING = {"h264", "hevc", "mpeg4", "mpeg2video", "mpeg1video", "vc1", "wmv3", "vvc"}
REORDERING |= {"msmpeg4v1", "msmpeg4v2", "msmpeg4v3", "h263"}
MOST_FPS_AVI = 20_000  # a rate that the header of an AVI may have
TIMEOUT_SECONDS = 10.0  # for an address to answer, and then to send each packet
THREADS = min(4, os.cpu_count() or 1)  # each one holds a frame; and damage at the very end can cost as many frames


class VideoSource(Source):
    """A video file or an address; see :func:`masa_track.video.sources.open_source`."""

    def __init__(self, text: str, fps: float | None, reconnect: float = 0.0, reading: Reading = AS_IT_IS) -> None:
        self._reconnect, self._how = reconnect, reading
        self._pairing = BY_PTS
        self.stream_index = 0
        self._scale: Range | None = None
        self.remarks: list[str] = []
        self._ended = (0, "")  # after which frame reading ended before its time, and why
        self._remote = "://" in text
        self._url = text if self._remote else f"file:{text}"  # else a colon in a file's name would be a protocol's
        self.paths = [] if self._remote else [Path(text)]
        self._shown = masked(text)
        self._fps_given = fps is not None
        self.name = file_stem(Path(self._shown).stem)
        if self._remote:
            address = self._shown.partition("://")[2].removeprefix(f"{HIDDEN}@")
            host, _, path = address.partition("?")[0].partition("/")
            self.name = file_stem(Path(path).stem or host.partition(":")[0])
        self.width = self.height = 0
        reasons: list[str] = []
        with self._open() as (container, stream):
            rate = of_header = _stream_fps(stream)
            seconds = container.duration / av.time_base if container.duration else 0.0
            self.live = self._remote and not seconds
            if self.paths and self.paths[0].is_file():  # a pipe is not read twice
                self._pairing, rate = self._probed()
            self.fps = float(fps or rate)
            self._rate = rate
            # The header of a file counts packets, and that of an AVI also what stands for dropped frames.
            odd = self._pairing == COUNTED or (container.format.name == "avi" and rate != of_header)
            counted = 0 if odd else stream.frames
            self.length = counted or round(seconds * rate) or None
            with closing(self._decode(container, stream, 1, lambda number, reason: reasons.append(reason))) as frames:
                first = next(frames, None)
        if first is None:
            reasons += [self._ended[1]] if self._ended[1] else []
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
            silence_ffmpeg()
            container: Any = av.open(self._url, **options)
        except (av.error.FFmpegError, OSError) as error:
            why = _reason(error)
            if self._remote:
                # Not "from error": FFmpeg's error quotes the address, and so its password.
                raise InputError(f"source {self._shown!r}: the address gives no video ({why}); check it") from None
            if os.path.getsize(self._url[5:]) == 0:
                why = "the file is empty"
            raise InputError(f"source {self._shown!r} is not a video, or not a whole one ({why})") from error
        with container:
            pictures = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails  # covers
            streams = [s for s in container.streams.video if not s.disposition & pictures]
            if not streams or container.format.name == "tty":  # tty: FFmpeg draws text files as pictures
                raise InputError(f"source {self._shown!r} holds no video ({container.format.long_name}); give a video")
            stream = self._chosen(streams)
            self.stream_index = stream.index
            if stream.codec_context is None:
                raise InputError(f"source {self._shown!r} is coded in a way that cannot be decoded here; convert it")
            stream.thread_type = "AUTO"
            stream.codec_context.thread_count = threads
            yield container, stream

    def _chosen(self, streams: list[Any]) -> Any:
        """The stream that the user names; else, of those marked as default, or of all, the largest."""
        if self._how.stream is not None:
            if self._how.stream >= len(streams):
                raise InputError(
                    f"--stream must be below {len(streams)}, the number of video streams in {self._shown}, got "
                    f"{self._how.stream}"
                )
            return streams[self._how.stream]
        marked = [one for one in streams if one.disposition & av.stream.Disposition.default] or streams
        chosen = max(marked, key=lambda one: (one.width or 0) * (one.height or 0))
        if len(streams) > 1 and not self.width:
            sizes = ", ".join(f"{i}: {one.width}x{one.height}" for i, one in enumerate(streams))
            number = next(i for i, one in enumerate(streams) if one.index == chosen.index)
            self._remark(
                f"{self._shown} has {len(streams)} video streams ({sizes}): stream {number} is read; for another one "
                "give --stream N"
            )
        return chosen

    def _remark(self, text: str) -> None:
        if text not in self.remarks:
            self.remarks.append(text)

    def _probed(self) -> tuple[str, float]:
        """How pictures come of packets, and the frame rate, from the first packets; they are decoded only if needed."""
        shown: list[Any] = []
        pictures: list[Any] = []
        with self._open(threads=1) as (container, stream):
            codec = stream.codec_context
            for packet in _first_packets(container, stream):
                if packet.size and (shown or packet.is_keyframe) and shows_picture(packet, codec.name):
                    shown.append(packet)
                if len(shown) == 2 * REORDER:
                    break
            if container.format.name == "avi":  # its packets have no pts; an empty one stands for a dropped frame
                true = _stream_fps(stream, most=MOST_FPS_AVI)
                return BY_PTS, _measured([packet.dts for packet in shown], stream, true)
            pts = [packet.pts for packet in shown]
            true = _stream_fps(stream, sorted(one for one in pts if one is not None))
            if codec.name not in REORDERING or None in pts or len(pts) < 4:
                return BY_PTS, true
            span = (max(pts) - min(pts)) * float(stream.time_base) * true
            rising = all(one < other for one, other in pairwise(pts))
            usual = 0.7 < (len(pts) - 1) / max(span, 1e-9) < 1.4
            odd = not usual or (rising and codec.has_b_frames) or codec.name.startswith(("mpeg4", "msmpeg4"))
            if "mp4" not in container.format.name:  # whose rate is the mean of the whole file; others guess
                true = _measured(pts, stream, true)
            try:
                for packet in [*shown, None]:
                    pictures += codec.decode(packet)
                    if not odd and pictures and not pictures[0].interlaced_frame:
                        return BY_PTS, true
            except av.error.FFmpegError:
                return BY_PTS, true
        if any(picture.is_corrupt for picture in pictures):
            return BY_PTS, true
        pairing = pairing_of(pts, [picture.pts for picture in pictures])
        if pairing == COUNTED:
            true = _measured([picture.pts for picture in pictures], stream, true)
        return pairing, true

    def _read(self, stride: int, report: OnBroken, start: int) -> Any:
        if self.live and self._reconnect > 0:
            yield from kept_alive(self, self._reconnect, stride, report, start)
            return
        if self.live and start > 1:
            yield from self._renumbered(stride, report, start)
            return
        yield from self.connection(stride, report, start)
        number, why = self._ended
        if why:
            report(number, why)
        if not self.live:
            self._check_start(start, number - 1)

    def _renumbered(self, stride: int, report: OnBroken, start: int) -> Iterator[Frame]:
        """One connection of a live source, whose first frame has the number ``start``."""
        shift = start - 1
        for frame in self.connection(stride, lambda number, reason: report(number + shift, reason)):
            yield replace(frame, number=frame.number + shift, name=f"{frame.number + shift:06d}.jpg")
            del frame  # not held while the next one is decoded
        number, why = self._ended
        if why:
            report(number + shift, why)

    def connection(self, stride: int, report: OnBroken, start: int = 1) -> Iterator[Frame]:
        """The frames start, start + stride, ... of one connection, or of the file, whose first frame is number 1.

        Raises:
            InputError: it cannot be opened.
        """
        self._ended, self.cut_short = (0, ""), ""
        if start > REORDER and not self._remote:
            with self._open() as (container, stream):
                read = self._reading(container, stream)
                if self._skip(read, stream, start):
                    yield from self._decode(container, stream, stride, report, start, read)
                    return
        with self._open() as (container, stream):
            yield from self._decode(container, stream, stride, report, start)

    def _skip(self, read: _Read, stream: Any, start: int) -> bool:
        """Passes over packets that frame ``start`` does not need. False: that is not possible, and packets are lost."""
        entry = None
        if not read.numbers.counting and read.numbers.pairing == BY_PTS:
            with suppress(av.error.FFmpegError):
                entry = find_entry(read.packets, stream, start, read.numbers.joined)
        if entry is None:
            return False
        read.numbers.begin_after(entry.frames_before, entry.first_pts)
        read.packets = chain(entry.packets, read.packets)
        return True

    def frame_times(self) -> Iterator[float]:
        """See :meth:`masa_track.video.source.Source.frame_times`."""
        if self.live:
            return super().frame_times()
        if self._pairing == COUNTED:
            return (frame.time for frame in self.frames())
        return self._frame_times()

    def _frame_times(self) -> Iterator[float]:
        with self._open(threads=1) as (container, stream), suppress(av.error.FFmpegError):
            read = self._reading(container, stream)
            for seconds in read.numbers.times(read.packets):
                yield (read.numbers.last - 1) / self.fps if self._fps_given else seconds

    def why_ended(self) -> str:
        """What ended the last connection before its time; empty if nothing did."""
        return self._ended[1]

    def _reading(self, container: Any, stream: Any) -> _Read:
        packets = container.demux(stream)
        if container.format.name == "rtsp":
            packets = _whole_packets(_until_silent(packets))
        numbers = FrameNumbers(
            # AVI has no pts: what FFmpeg makes up for a file with B-frames is not in the order of showing.
            counting=container.format.name == "avi",
            joined=self.live or container.format.name == "mpegts",
            time_base=float(stream.time_base or 0),
            interval=1 / self.fps,
            pairing=self._pairing,
            codec=stream.codec_context.name,
        )
        return _Read(packets, numbers)

    def _decode(
        self, container: Any, stream: Any, stride: int, report: OnBroken, start: int = 1, read: _Read | None = None
    ) -> Any:
        """The frames start, start + stride, ...; ``read`` says where reading has come to."""
        read = read or self._reading(container, stream)
        numbers = read.numbers
        size: tuple[int, ...] = ()  # of the last picture that had another than the video's
        for number, picture in self._pictures(container, stream, read, report):
            if picture.is_corrupt:
                report(number, "is damaged")
            elif number >= start and (number - start) % stride == 0:
                image = self._image(picture, stream)
                fault = self._size_fault(image) if self.width else ""
                if fault:  # a camera that was set anew, or files that were joined
                    if image.shape != size:
                        self.notice(f"frame {number} {fault}: scaled from here on")
                    size = image.shape
                    image = fitted(image, self.width, self.height)
                seconds = (number - 1) / self.fps if self._fps_given else numbers.seconds
                yield Frame(number, seconds, (image.shape[1], image.shape[0]), f"{number:06d}.jpg", image)
                del image  # not held while the next one is decoded

    def _image(self, picture: Any, stream: Any) -> np.ndarray:
        """(H, W, 3) uint8 BGR, upright."""
        transfer = transfer_of(picture, stream)
        if not self.width:
            self._look_at(picture, stream, transfer)
        return _upright(picture, transfer, self._scale, self._how.deinterlace)

    def _look_at(self, picture: Any, stream: Any, transfer: int) -> None:
        """Takes from the first picture what holds for all of them."""
        if transfer in (PQ, HLG):
            self._remark(
                f"{self._shown} is HDR ({'PQ' if transfer == PQ else 'HLG'}): its pictures are tone-mapped, and white "
                f"is {WHITE:g} cd/m2"
            )
        bits, given = grey_bits(picture), self._how.value_range
        if bits and given is not None:
            low, high = (edge * 2 ** (16 - bits) for edge in given)
            self._scale = low, high
        elif given is not None:
            self._remark(f"{self._shown} is no video of deep grey: --range has no effect")
        elif bits == 16 and (found := find_range([grey_16(picture)])) is not None:
            self._scale = found
            self._remark(
                f"{self._shown} has 16 bits: {found[0]:.0f} is black and {found[1]:.0f} is white; for others give "
                "--range"
            )
        aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
        if aspect and aspect > 0:
            self.pixel_aspect = 1 / Fraction(aspect) if is_turned(picture) else Fraction(aspect)

    def _pictures(self, container: Any, stream: Any, read: _Read, report: OnBroken) -> Iterator[tuple[int, Any]]:
        packets, numbers = read.packets, read.numbers
        packet: Any = True
        why = "could not be decoded"
        ended = ""
        while packet is not None:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError as error:
                ended = f"reading ended here: {_reason(error)}"
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
        # FFmpeg reports a vanished server as the end, so only the length that RTSP announces can distinguish them.
        if container.format.name == "rtsp" and (self.live or numbers.last + self.fps < (self.length or 0)):
            ended = ended or "the address stopped giving pictures"
        self._ended = (numbers.last + 1, ended)
        if not self.live:
            self.cut_short = self._missing(container, stream, read, numbers.last)

    def _missing(self, container: Any, stream: Any, read: _Read, last: int) -> str:
        """What the header announces and the file does not hold; empty where nothing is missing, or nothing is known.

        Only headers that are written with the file are used. MPEG-TS and others have none: FFmpeg reads their length
        from the end of the file.

        Args:
            container: the video, read to its end.
            stream: its stream of pictures.
            read: what was read of it.
            last: the number of the last frame.
        """
        kind, about = set(container.format.name.split(",")), ""
        index = len(getattr(stream, "index_entries", ()))  # of an MP4: all packets; since PyAV 13
        missing = 0
        if "mp4" in kind:
            missing = index - read.count
        elif "avi" in kind and read.last_dts is not None:
            missing = stream.frames - (read.last_dts + 1)  # a chunk each, also for dropped frames
            missing = int(missing * float(stream.time_base) * self._rate + 1e-6)
        elif not kind & {"matroska", "flv", "asf"}:
            return ""
        if not kind & {"mp4", "avi"} or ("mp4" in kind and index > stream.frames):  # or an MP4 of fragments
            seconds = self._seconds_missing(container, stream, read)
            if seconds > 0.5 + 2 / self.fps:  # headers round, and count the last frame's duration or not
                missing, about = max(missing, round(seconds * self.fps)), "about "
        if missing <= 0:
            return ""
        return (
            f"its header announces {about}{last + missing} frames, but the file ends after frame {last}: "
            f"{about}{missing} frames are missing ({missing / self.fps:.1f} s); the file was cut short"
        )

    def _seconds_missing(self, container: Any, stream: Any, read: _Read) -> float:
        """Seconds from the end of what was read to the length in the header; sound may go on after the pictures."""
        length = 0.0
        if stream.duration:
            length = float(stream.duration * stream.time_base)
        elif container.duration:
            length = container.duration / av.time_base
        if length <= read.end:
            return 0.0
        with suppress(InputError, av.error.FFmpegError), self._open() as (again, _):
            again.seek(max(0, int((read.end - 1) * av.time_base)))
            rest = _Read(again.demux(), read.numbers)
            for _ in rest.packets:
                pass
            return length - max(read.end, rest.end)
        return length - read.end

    def _tail(self, numbers: FrameNumbers, had: set[int]) -> list[Any]:
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


class _Read:
    """How much of a video was read.

    Args:
        packets: of the video.
        numbers: of its frames.

    Attributes:
        packets: those still to be read.
        numbers: of the frames read.
        count: number of packets read.
        last_dts: the highest dts, in the stream's time base; None before the first.
        end: seconds at which the last packet ends.
    """

    def __init__(self, packets: Iterator[Any], numbers: FrameNumbers) -> None:
        self.packets: Iterator[Any] = self._noted(packets)
        self.numbers = numbers
        self.count = 0
        self.last_dts: int | None = None
        self.end = 0.0

    def _noted(self, packets: Iterator[Any]) -> Iterator[Any]:
        for packet in packets:
            if packet.size or packet.dts is not None:  # else PyAV's mark of the end
                self.count += 1
                if packet.dts is not None:
                    self.last_dts = packet.dts if self.last_dts is None else max(self.last_dts, packet.dts)
                start = packet.dts if packet.pts is None else packet.pts
                if start is not None and packet.time_base:
                    self.end = max(self.end, float((start + (packet.duration or 0)) * packet.time_base))
            yield packet


def _until_silent(packets: Iterator[Any]) -> Iterator[Any]:
    """The packets up to the first silence of TIMEOUT_SECONDS.

    At a timeout FFmpeg first gives the packet its parser holds, without a word, and then waits as long again.
    """
    while True:
        asked = time.monotonic()
        packet = next(packets, None)
        waited = time.monotonic() - asked
        if packet is None:
            return
        yield packet
        if waited >= TIMEOUT_SECONDS:
            raise av.error.TimeoutError(errno.ETIMEDOUT, "silence")


def _whole_packets(packets: Iterator[Any]) -> Iterator[Any]:
    """Packets by RTSP, one a frame and each with its time. FFmpeg 8 and GStreamer 1.22 were observed to send:

    - The first packet of H.264 and H.265 has no time. FFmpeg starts the clock at it, so it is 0.
    - A key frame of several slices comes as several packets of one time where the server repeats the parameters before
      each slice (``rtph264pay config-interval=-1``); decoded separately, each is a damaged frame.

    This delays each frame by one packet, as only the next packet shows that a frame is complete.
    """
    held: Any = None
    first = True
    fault: av.error.FFmpegError | None = None
    try:
        for packet in packets:
            if first and held is not None:
                first = False
                if held.pts is None and packet.pts is not None and 0 <= packet.pts * packet.time_base <= 1:
                    held.pts = held.dts = 0
            if held is not None and packet.size and packet.pts is not None and packet.pts == held.pts:
                held = _joined(held, packet)
                continue
            if held is not None:
                yield held
            held = packet
    except av.error.FFmpegError as error:
        fault = error
    if held is not None:
        yield held
    if fault is not None:
        raise fault


def _joined(one: Any, other: Any) -> Any:
    whole = av.Packet(bytes(one) + bytes(other))
    whole.pts, whole.dts, whole.time_base, whole.is_keyframe = one.pts, one.dts, one.time_base, one.is_keyframe
    return whole


def _upright(picture: Any, transfer: int, scale: Range | None, deinterlace: bool) -> np.ndarray:
    """(H, W, 3) uint8 BGR, turned and mirrored the way a phone's video says it is to be shown."""
    return upright(bgr(picture, transfer, scale, deinterlace), picture)


def _first_packets(container: Any, stream: Any) -> Iterator[Any]:
    """The packets, up to one that cannot be read."""
    with suppress(av.error.FFmpegError):
        yield from container.demux(stream)


def _stream_fps(stream: Any, pts: Sequence[int] = (), most: float = 1000) -> float:
    """Frames a second.

    Args:
        stream: of the file.
        pts: of its first packets, rising.
        most: the highest rate that is believed without them: a header may hold the clock's rate, 90000.
    """
    steps = [other - one for one, other in pairwise(pts)]
    middle = float(np.median(steps) * stream.time_base) if len(steps) > 2 else 0.0
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate and (0 < rate <= most or (middle and abs(rate * middle - 1) < 0.1)):
            return float(rate)
    return DEFAULT_FPS


def _measured(times: Sequence[int | None], stream: Any, rate: float) -> float:
    """The rate, or the mean rate of these times (pts or dts) where it is far from that."""
    known = [one for one in times if one is not None]
    seconds = (max(known) - min(known)) * float(stream.time_base) if len(known) > 3 else 0.0
    if seconds <= 0 or 0.7 < (len(known) - 1) / (seconds * rate) < 1.4:
        return rate
    return (len(known) - 1) / seconds


def _reason(error: BaseException) -> str:
    if isinstance(error, av.error.ExitError | av.error.TimeoutError):
        return f"no answer within {TIMEOUT_SECONDS:g} s"
    return getattr(error, "strerror", None) or type(error).__name__  # str() would hold the address and its password
