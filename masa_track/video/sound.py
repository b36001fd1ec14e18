"""The sound of a source in the video of its tracks."""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from masa_track.files import PartFile
from masa_track.video.ffmpeg import copied_stream, silence_ffmpeg

COPIED = {"aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"}  # what an MP4 holds and players play; others become AAC
_HEAD = 64  # packets of pictures, among which the first picture is


def add_sound(video: str | Path, source: str | Path, begin: float, stream: int = 0) -> bool:
    """Adds the source's first sound to a video of its pictures, which is written anew without encoding pictures.

    Args:
        video: an MP4; it is as it was if this fails.
        source: a file.
        begin: seconds from the source's frame 1 to the video's first frame.
        stream: which of the source's streams, by FFmpeg's index, the pictures are of.

    Returns:
        False where the source has no sound.

    Raises:
        OSError: a file cannot be read or written.
    """
    silence_ffmpeg()
    try:
        with av.open(f"file:{source}") as heard, av.open(f"file:{video}") as seen:
            if not heard.streams.audio:
                return False
            file = PartFile(video)
            os.close(file.create())
            try:
                shift = _first_picture(source, stream) + begin
                with av.open(str(file.part), "w", format="mp4", options={"movflags": "+faststart"}) as out:
                    _mux(out, seen, heard, shift)
                file.commit()
            finally:
                file.abandon()  # does nothing after commit
    except av.FFmpegError as error:
        raise OSError(error.errno, error.strerror, str(video)) from error
    return True


def _first_picture(source: str | Path, stream: int) -> float:
    """Seconds at which the first picture is shown, by the file's clock."""
    with av.open(f"file:{source}") as container:
        times = []
        for packet in container.demux(container.streams[stream]):
            if packet.pts is not None and packet.size:
                times.append(float(packet.pts * packet.time_base))
            if len(times) == _HEAD:
                break
    return min(times, default=0.0)


def _mux(out: Any, seen: Any, heard: Any, shift: float) -> None:
    pictures, sound = seen.streams.video[0], heard.streams.audio[0]
    target = copied_stream(out, pictures)
    end = float(seen.duration / av.time_base) if seen.duration else float("inf")
    copied = sound.codec_context.name in COPIED
    if copied:
        voice = copied_stream(out, sound)
    else:
        voice = out.add_stream("aac", rate=sound.codec_context.sample_rate, layout=_layout(sound))
    heard_packets = _cut(heard, sound, shift, end) if copied else _encoded(heard, sound, voice, shift, end)
    streams = _timed(seen.demux(pictures), target), _timed(heard_packets, voice)
    for _, _, packet in heapq.merge(*streams, key=lambda entry: entry[:2]):
        out.mux(packet)


def _timed(packets: Iterator[Any], stream: Any) -> Iterator[tuple[float, int, Any]]:
    for packet in packets:
        if packet.size and packet.dts is not None:
            time = float(packet.dts * packet.time_base)
            packet.stream = stream
            yield time, stream.index, packet


def _cut(container: Any, sound: Any, shift: float, end: float) -> Iterator[Any]:
    """The packets of the sound from ``shift`` on, up to ``end`` seconds later, with times from there."""
    ticks = round(Fraction(shift) / sound.time_base)
    for packet in container.demux(sound):
        if packet.pts is None or not packet.size:
            continue
        packet.pts -= ticks
        packet.dts = packet.pts
        if packet.pts >= 0 and float(packet.pts * packet.time_base) < end:
            yield packet


def _encoded(container: Any, sound: Any, voice: Any, shift: float, end: float) -> Iterator[Any]:
    """The same as AAC."""
    resampler = av.AudioResampler("fltp", _layout(sound), voice.codec_context.sample_rate)
    rate = voice.codec_context.sample_rate
    for frame in container.decode(sound):
        time = float(frame.pts * frame.time_base) - shift if frame.pts is not None else 0.0
        if not 0 <= time < end:
            continue
        frame.pts, frame.time_base = round(time * frame.sample_rate), Fraction(1, frame.sample_rate)
        for part in resampler.resample(frame):
            part.time_base = Fraction(1, rate)
            yield from voice.encode(part)
    for part in resampler.resample(None):
        yield from voice.encode(part)
    yield from voice.encode(None)


def _layout(sound: Any) -> str:
    return "mono" if sound.codec_context.channels == 1 else "stereo"
