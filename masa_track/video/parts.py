"""Parts of a video in the making, which can be played after a kill, and the video that is made of them.

The parts of ``video.mp4`` are ``.video-0001.mp4``, ``.video-0002.mp4``, ... beside it: a run writes one, and each time
it is resumed another one.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av

from masa_track.files import PartFile
from masa_track.video.ffmpeg import copied_stream, silence_ffmpeg


def part_path(video: str | Path, number: int) -> Path:
    """Where part ``number``, from 1, of a video is written."""
    video = Path(video)
    return video.with_name(f".{video.stem}-{number:04d}{video.suffix}")


def part_number(part: Path) -> int:
    """The number of a part, from its name."""
    return int(part.stem.rpartition("-")[2])


def parts_of(folder: str | Path, name: str = "video.mp4") -> list[Path]:
    """The parts of a video that are in a folder, in order of their numbers.

    Args:
        folder: of the results.
        name: of the video.
    """
    video = Path(folder) / name
    pattern = re.compile(rf"\.{re.escape(video.stem)}-[0-9]{{4,}}{re.escape(video.suffix)}")
    with suppress(FileNotFoundError):
        found = [path for path in video.parent.iterdir() if pattern.fullmatch(path.name) and not path.is_dir()]
        return sorted(found, key=part_number)
    return []


def part_times(part: str | Path) -> tuple[float, float] | None:
    """Seconds in the video of a part's first and last frame that can be read; None where there is none.

    Raises:
        OSError: the file cannot be read.
    """
    with _opened(part) as packets:
        times = [float(packet.pts * packet.time_base) for packet in packets]
    return (times[0], times[-1]) if times else None


def join_parts(parts: Sequence[Path], out: str | Path) -> int:
    """Makes the video of its parts, without encoding: H.264 in MP4, index first (``+faststart``).

    Each part gives its frames before the first frame of the parts after it, as a resumed run repeats some frames.
    A part that is cut short gives the frames it has; one without a frame, as of a run killed at once, gives none. The
    parts stay.

    Args:
        parts: in order.
        out: the video; an earlier one is replaced when the new one is whole.

    Returns:
        The number of frames. With 0 no video is written.

    Raises:
        OSError: a part cannot be read, the parts differ in size or encoding, or the video cannot be written. An
            earlier video is as it was.
    """
    file = PartFile(out)
    os.close(file.create())
    try:
        frames = _copy(parts, file)
        if frames:
            file.commit()
    except av.FFmpegError as error:
        raise OSError(error.errno, error.strerror, str(file.path)) from error
    finally:
        file.abandon()  # does nothing after commit
    return frames


def _copy(parts: Sequence[Path], file: PartFile) -> int:
    starts = [_start(part) for part in parts]
    readable = [(part, start) for part, start in zip(parts, starts, strict=True) if start is not None]
    if not readable:
        return 0
    frames, target, coding = 0, None, None
    with av.open(str(file.part), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        for place, (part, start) in enumerate(readable):
            end = min((later for _, later in readable[place + 1 :]), default=None)
            if end is not None and start >= end:
                continue
            with _opened(part) as packets:
                first = next(packets)
                if target is None:
                    target, coding = copied_stream(container, first.stream), _coding(first.stream)
                elif _coding(first.stream) != coding:
                    raise OSError(errno.EINVAL, "the parts differ in size or encoding", str(part))
                for packet in chain([first], packets):
                    if end is not None and packet.pts * packet.time_base >= end:
                        break
                    packet.stream = target
                    container.mux(packet)
                    frames += 1
    return frames


@contextmanager
def _opened(part: str | Path) -> Iterator[Iterator[Any]]:
    """The whole packets of a part, which may have been cut short anywhere."""
    silence_ffmpeg()
    try:
        container = av.open(f"file:{part}", format="mp4")
    except (av.error.InvalidDataError, av.error.EOFError):  # cut short before the first frame
        yield iter(())
        return
    with container:
        yield _whole(container)


def _whole(container: Any) -> Iterator[Any]:
    if not container.streams.video:
        return
    with suppress(av.error.InvalidDataError, av.error.EOFError):
        for packet in container.demux(video=0):
            if packet.is_corrupt:
                return
            if packet.size:
                yield packet


def _start(part: Path) -> Fraction | None:
    with _opened(part) as packets:
        packet = next(packets, None)
        return None if packet is None else packet.pts * packet.time_base


def _coding(stream: Any) -> tuple[Any, ...]:
    return stream.codec_context.name, stream.width, stream.height, stream.codec_context.extradata
