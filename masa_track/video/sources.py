"""Video in: a file, a folder or pattern of images, a camera or an address, each read as numbered BGR frames.

Faults of a source are found by :func:`open_source`, before any work. A fault of one frame is passed to ``on_broken``
while reading, and the frames after it keep their numbers.
"""

from __future__ import annotations

import glob
import math
import os
import re
from pathlib import Path

from masa_track.errors import InputError
from masa_track.video.addresses import SCHEMES, masked
from masa_track.video.cameras import CameraSource
from masa_track.video.images import IMAGE_SUFFIXES, ImageSource, is_numbered, open_folder, open_glob, open_numbered
from masa_track.video.source import AS_IT_IS, OnBroken, Reading, Source
from masa_track.video.streams import VideoSource

__all__ = ["OnBroken", "Source", "open_source"]


def open_source(
    source: str | os.PathLike[str],
    fps: float | None = None,
    reconnect: float = 0.0,
    reading: Reading = AS_IT_IS,
) -> Source:
    """Opens a source and decodes its first frame.

    Args:
        source: a video file; an image folder, in natural order, where a MOTChallenge sequence folder stands for its
            ``img1``, or for the one video in it; a glob or printf pattern of images, ``shots/*.png``,
            ``shots/%06d.png``; an image, also one of several pages or an animation; the index of a camera, ``0``; or
            an address, ``rtsp://...``.
        fps: frames per second instead of what the source says (an image folder without seqinfo.ini: 30). A video's
            timestamps follow it.
        reconnect: seconds for which to try to reconnect when a live address stops sending frames; 0 ends there. Other
            sources ignore it. ``notice`` of the source is called on each event.
        reading: which stream, range of values and so on.

    Raises:
        InputError: it cannot be opened, holds no picture that can be decoded, fps is not finite and above 0, or
            reconnect is below 0.
    """
    if fps is not None and not (math.isfinite(fps) and fps > 0):
        raise InputError(f"fps must be finite and above 0, got {fps}")
    if not reconnect >= 0:
        raise InputError(f"reconnect must be 0 or more seconds, got {reconnect}")
    text = os.fspath(source)
    if not text or "\0" in text:
        raise InputError(f"source must name a video, an image folder, a camera or an address, got {text!r}")
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+)://", text)
    if scheme:
        if scheme[1].lower() not in SCHEMES:
            raise InputError(f"source {masked(text)!r}: addresses begin with {'://, '.join(SCHEMES)}://")
        return VideoSource(text, fps, reconnect, reading)
    if re.fullmatch(r"[0-9]+", text):
        return CameraSource(int(text), fps)
    path = Path(text)
    if path.is_dir():
        return open_folder(path, fps, reading)
    if path.exists():
        if path.suffix.lower() in IMAGE_SUFFIXES:
            return ImageSource(path.stem, [path], fps, text, reading=reading)
        if path.suffix.lower() in (".heic", ".heif"):  # a grid of tiles, of which FFmpeg would give one
            raise InputError(f"source {text!r}: HEIC pictures are not read: convert them to JPEG or PNG")
        return VideoSource(text, fps, reading=reading)
    if is_numbered(text):
        return open_numbered(text, fps, reading)
    if glob.has_magic(text):
        return open_glob(text, fps, reading)
    hint = "check the path"
    if re.match(rf"(?:{'|'.join(SCHEMES)})\b\W", text, re.IGNORECASE) or masked(text) != text:
        hint = "an address needs a scheme and two slashes: rtsp://user:password@host/path"
    raise InputError(f"source {masked(text)!r}: there is no such file or folder; {hint}")
