"""Whether a packet of VP8, VP9 or AV1 holds a picture that is shown: some hold only a reference for later ones.

Source: RFC 6386, section 9.1 (VP8); the VP9 bitstream specification 0.6, section 6.2 and annex B; the AV1 bitstream
specification 1.0.0, sections 5.3 and 5.9.
"""

from __future__ import annotations

from typing import Any


def shows_picture(packet: Any, codec: str) -> bool:
    """Whether a picture comes of a packet that can be decoded.

    Args:
        packet: of PyAV, not empty.
        codec: FFmpeg's name of the decoder. For others than those of VP8, VP9 and AV1 it is always true.
    """
    if codec in ("vp8", "libvpx"):
        return bool(memoryview(packet)[0] & 0x10)
    if codec in ("vp9", "libvpx-vp9"):
        return _vp9(bytes(packet))
    if codec in ("av1", "libdav1d", "libaom-av1"):
        return _av1(bytes(packet))
    return True


def _vp9(data: bytes) -> bool:
    mark = data[-1]
    frames, width = (mark & 7) + 1, (mark >> 3 & 3) + 1
    size = 2 + frames * width
    if mark & 0xE0 != 0xC0 or size > len(data) or data[-size] != mark:
        return _vp9_frame(data[0])
    start = 0
    for i in range(frames):  # a superframe
        at = len(data) - size + 1 + i * width
        if start < len(data) and _vp9_frame(data[start]):
            return True
        start += int.from_bytes(data[at : at + width], "little")
    return False


def _vp9_frame(head: int) -> bool:
    head <<= 1 if head & 0x30 == 0x30 else 0  # profile 3 has one bit more
    return bool(head & 0x0A)  # show_existing_frame, or show_frame


def _av1(data: bytes) -> bool:
    at, reduced, found = 0, False, False
    while at < len(data):
        head = data[at]
        kind, at = head >> 3 & 15, at + 1 + (head >> 2 & 1)
        length = len(data) - at
        if head & 2:
            length = shift = 0
            while at < len(data):
                byte = data[at]
                length |= (byte & 127) << shift
                at, shift = at + 1, shift + 7
                if not byte & 128 or shift > 56:
                    break
        if at >= len(data):
            break
        if kind == 1:  # sequence header
            reduced = bool(data[at] & 0x08)
        elif kind in (3, 6):  # frame header, frame
            found = True
            if reduced or data[at] & 0x90:  # show_existing_frame, or show_frame
                return True
        at += length
    return not found
