"""Where decoding can begin in the middle of a video file: numbers, times and pixels are those of a whole reading."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from masa_track.video.shown import shows_picture

REORDER = 32  # packets: more than any codec here reorders; H.264 and H.265 hold at most 16 pictures
LARGEST_GROUP = 256 * 2**20  # bytes of packets that are held, from one keyframe to the next
# Codecs of which each keyframe, as the container marks it, resets all that later pictures refer to.
RESETTING = {"vp8", "vp9", "av1", "libdav1d", "mjpeg", "mpeg4", "mpeg2video", "prores", "ffv1"}


@dataclass(frozen=True)
class Entry:
    """A keyframe from which decoding begins.

    Attributes:
        packets: from the keyframe on, those read so far. Packets of pictures shown before it are left out.
        frames_before: number of frames before the keyframe.
        first_pts: pts of frame 1.
    """

    packets: list[Any]
    frames_before: int
    first_pts: int


def find_entry(packets: Iterator[Any], stream: Any, start: int, joined: bool) -> Entry | None:
    """The last keyframe from which frame ``start`` can be decoded, found without decoding.

    Frames are numbered by rising pts. So the number of a keyframe is certain if each packet has a pts, the dts rise,
    and the keyframe separates the packets before it from those after it.

    Args:
        packets: of the stream, from the start of the file. Reading goes on after those in :class:`Entry`.
        stream: their stream.
        start: number of a frame, from 1.
        joined: the file may begin in the middle of a stream, as MPEG-TS: it must begin with a keyframe here.

    Returns:
        None where a number is not certain or no keyframe is; then the file is to be decoded from its start.

    Raises:
        av.error.FFmpegError: a packet cannot be read.
    """
    held: list[Any] = []
    size = before = count = 0
    first = highest = dts = None
    for packet in packets:
        if packet.size == 0:
            continue
        if not shows_picture(packet, stream.codec_context.name):
            if before:
                held.append(packet)
            continue
        if packet.pts is None or packet.is_discard or (joined and not count and not packet.is_keyframe):
            return None
        if dts is not None and packet.dts is not None and packet.dts < dts:
            return None
        if first is None or packet.pts < first:
            if first is not None and (joined or count > REORDER):
                return None
            first = packet.pts
        # The frames shown before a keyframe may follow it in the file: up to REORDER of them.
        separates = highest is None or packet.pts > highest
        if separates and count + 1 + REORDER <= start and packet.is_keyframe and _resets(packet, stream):
            held, size, before = [], 0, count
        count += 1
        if before:
            held.append(packet)
            size += packet.size
        if size > LARGEST_GROUP:
            return None
        dts = packet.dts if packet.dts is not None else dts
        highest = packet.pts if highest is None else max(highest, packet.pts)
        if count >= start:
            break
    if not before or first is None:
        return None
    early = [packet.pts is not None and packet.pts < held[0].pts for packet in held]
    return Entry([packet for packet, skip in zip(held, early, strict=True) if not skip], before + sum(early), first)


def _resets(packet: Any, stream: Any) -> bool:
    """Whether no picture shown after this keyframe refers to one before it."""
    codec = stream.codec_context.name
    if codec == "h264":  # 5: IDR. Other keyframes may be points of gradual refresh.
        return _first_picture(packet, stream, 4, lambda head: head & 31, range(1, 6)) == 5
    if codec == "hevc":  # 16 to 21: IRAP
        return _first_picture(packet, stream, 21, lambda head: head >> 1 & 63, range(32)) in range(16, 22)
    return codec in RESETTING


def _first_picture(packet: Any, stream: Any, place: int, type_of: Any, pictures: range) -> int | None:
    """The type of the first NAL unit that holds a part of a picture."""
    data, extra = bytes(packet), stream.codec_context.extradata or b""
    if len(extra) > place and extra[0] == 1:  # each unit follows its length, in MP4 and Matroska
        length, at = (extra[place] & 3) + 1, 0
        while at + length < len(data):
            kind = type_of(data[at + length])
            if kind in pictures:
                return kind
            at += length + int.from_bytes(data[at : at + length], "big")
        return None
    at = data.find(b"\0\0\1")
    while 0 <= at < len(data) - 3:
        kind = type_of(data[at + 3])
        if kind in pictures:
            return kind
        at = data.find(b"\0\0\1", at + 3)
    return None
