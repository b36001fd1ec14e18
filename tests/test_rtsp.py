"""RTSP from a server of a few lines: H.264 in RTP over the RTSP connection, as cameras send it (RFC 2326 and 6184)."""

from __future__ import annotations

import re
import socketserver
import struct
import threading
import time
from fractions import Fraction

import av
import numpy as np
import pytest

from masa_track.errors import InputError
from masa_track.video import streams
from masa_track.video.sources import open_source

TICKS = 3600  # of RTP's 90 kHz clock from frame to frame: 25 a second
SDP = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"


def picture(number: int) -> np.ndarray:
    """A noisy picture, so that it takes several RTP packets, whose eight upper blocks say its number."""
    image = np.random.default_rng(number).integers(0, 255, (96, 160, 3), np.uint8)
    for bit in range(8):
        image[:48, bit * 20 : bit * 20 + 20] = 255 * (number >> bit & 1)
    return image


def said(image: np.ndarray) -> int:
    return sum(1 << bit for bit in range(8) if image[10:38, bit * 20 + 5 : bit * 20 + 15].mean() > 127)


def encode(count: int, **options: str) -> list[list[bytes]]:
    """The NAL units of each frame."""
    codec = av.CodecContext.create("libx264", "w")
    codec.width, codec.height, codec.pix_fmt, codec.time_base = 160, 96, "yuv420p", Fraction(1, 25)
    codec.framerate = Fraction(25)
    codec.options = {"g": "12", "bf": "0", "tune": "zerolatency", "slices": "1", "preset": "ultrafast", **options}
    images = (av.VideoFrame.from_ndarray(picture(n + 1), format="bgr24") for n in range(count))
    coded = [packet for image in images for packet in codec.encode(image)] + codec.encode()
    return [[nal for nal in re.split(rb"\0*\0\0\x01", bytes(packet)) if nal] for packet in coded]


def in_rtp(nals: list[bytes], sequence: int, ticks: int) -> list[bytes]:
    """One frame as RTP packets in RTSP's frames: a NAL unit in one packet, a long one in several (FU-A)."""
    payloads: list[bytes] = []
    for nal in nals:
        parts = [nal[i : i + 1000] for i in range(1, len(nal), 1000)]
        for i, part in enumerate(parts):
            ends = 0x80 * (i == 0) | 0x40 * (i == len(parts) - 1)
            payloads.append(nal if len(parts) == 1 else bytes([nal[0] & 0xE0 | 28, ends | nal[0] & 31]) + part)
    packets = []
    for i, payload in enumerate(payloads):
        marker = 0x80 * (i == len(payloads) - 1)
        rtp = struct.pack(">BBHII", 0x80, marker | 96, (sequence + i) & 0xFFFF, 500_000 + ticks, 7) + payload
        packets.append(struct.pack(">cBH", b"$", 0, len(rtp)) + rtp)
    return packets


class Server(socketserver.ThreadingTCPServer):
    """Plays its frames to whoever asks, then hangs up, or falls silent and keeps the line."""

    daemon_threads = True

    def __init__(self, frames: list[list[bytes]], times: list[int], silent: bool) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.frames, self.times, self.silent, self.over = frames, times, silent, threading.Event()
        self.url = f"rtsp://127.0.0.1:{self.server_address[1]}/gate?user=1"
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()


class Answers(socketserver.StreamRequestHandler):
    server: Server

    def handle(self):
        self.connection.settimeout(5)
        while line := self.rfile.readline().decode():
            method, headers = line.split()[0], {}
            while (header := self.rfile.readline().decode().strip()) != "":
                headers.update([header.lower().split(": ", 1)])
            body = SDP if method == "DESCRIBE" else ""
            more = {
                "OPTIONS": "Public: DESCRIBE, SETUP, PLAY, TEARDOWN\r\n",
                "DESCRIBE": "Content-Type: application/sdp\r\n",
                "SETUP": "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n",
            }.get(method, "")
            head = f"RTSP/1.0 200 OK\r\nCSeq: {headers['cseq']}\r\nSession: 1\r\nContent-Length: {len(body)}\r\n"
            self.wfile.write(f"{head}{more}\r\n{body}".encode())
            if method == "PLAY":
                return self.play()

    def play(self):
        sequence = 65_500  # runs over soon
        try:
            for nals, ticks in zip(self.server.frames, self.server.times, strict=True):
                packets = in_rtp(nals, sequence, ticks)
                sequence += len(packets)
                self.wfile.write(b"".join(packets))
            if self.server.silent:
                self.server.over.wait(10)
        except OSError:
            pass  # the reader has what it wants


@pytest.fixture
def serve():
    servers = []

    def start(frames, times=None, silent=False):
        servers.append(Server(frames, times or [TICKS * i for i in range(len(frames))], silent))
        return servers[-1]

    yield start
    for server in servers:
        server.over.set()
        server.shutdown()
        server.server_close()


def read(source, **options):
    """([(number, what the picture says, seconds)], [(number, reason)])"""
    broken = []
    frames = source.frames(on_broken=lambda number, reason: broken.append((number, reason)), **options)
    return [(frame.number, said(frame.image), frame.time) for frame in frames], broken


def test_a_camera_that_is_switched_off(serve):
    source = open_source(serve(encode(60)).url)
    assert (source.name, source.width, source.height, source.fps) == ("gate", 160, 96, 25.0)
    assert (source.length, source.live) == (None, True)
    got, broken = read(source)
    assert [(n, says) for n, says, _ in got] == [(n, n) for n in range(1, 61)]
    assert [seconds for _, _, seconds in got] == pytest.approx([i / 25 for i in range(60)], abs=1e-4)
    assert broken == [(61, "the address stopped giving pictures")]
    got, broken = read(source, stride=10, max_frames=3)
    assert [(n, says) for n, says, _ in got] == [(1, 1), (11, 11), (21, 21)]
    assert broken == []
    got, broken = read(source, stride=10, start=1001)
    assert [(n, says) for n, says, _ in got] == [(1001 + 10 * i, 1 + 10 * i) for i in range(6)]
    assert [seconds for _, _, seconds in got] == pytest.approx([i * 10 / 25 for i in range(6)], abs=1e-4)
    assert broken == [(1061, "the address stopped giving pictures")]
    assert [n for n, _, _ in read(source, start=1001, stop=1003)[0]] == [1001, 1002, 1003]


def test_timestamps_are_the_cameras(serve):
    """One that gives fewer pictures at dusk than its stream's header says."""
    times = [TICKS * i if i < 30 else TICKS * (30 + 3 * (i - 30)) for i in range(60)]
    got, _ = read(open_source(serve(encode(60), times).url))
    assert [n for n, _, _ in got] == list(range(1, 61))
    assert [seconds for _, _, seconds in got] == pytest.approx([ticks / 90_000 for ticks in times], abs=1e-4)


def test_key_frames_of_several_slices(serve):
    """The parameters before each slice, as GStreamer sends them: FFmpeg then takes each slice for a frame."""
    frames = []
    for nals in encode(60, slices="3"):
        parameters = [nal for nal in nals if nal[0] & 31 in (7, 8)]
        slices = [nal for nal in nals if nal[0] & 31 in (1, 5)]
        assert len(slices) == 3
        frames.append([nal for part in slices for nal in [*parameters, part]])
    got, broken = read(open_source(serve(frames).url))
    assert [(n, says) for n, says, _ in got] == [(n, n) for n in range(1, 61)]
    assert broken == [(61, "the address stopped giving pictures")]


def test_a_damaged_frame_is_reported(serve):
    frames = encode(60)
    frames[40] = [nal[:8] + bytes(len(nal) - 8) for nal in frames[40]]  # the slice's header stays whole
    got, broken = read(open_source(serve(frames).url))
    assert broken == [(41, "is damaged"), (61, "the address stopped giving pictures")]
    assert [n for n, _, _ in got] == [n for n in range(1, 61) if n != 41]
    assert {n - says for n, says, _ in got if n < 41 or n > 48} == {0}, "whole again from the key frame on"


@pytest.mark.slow
def test_a_camera_that_falls_silent_ends_after_the_timeout(serve, monkeypatch):
    monkeypatch.setattr(streams, "TIMEOUT_SECONDS", 3.0)
    source = open_source(serve(encode(60), silent=True).url)
    start = time.monotonic()
    got, broken = read(source)
    assert 3.0 <= time.monotonic() - start < 6.0, "once the timeout, not twice"
    assert [(n, says) for n, says, _ in got] == [(n, n) for n in range(1, 61)]
    assert broken == [(61, "reading ended here: no answer within 3 s")]


def test_a_server_without_pictures_is_refused(serve):
    with pytest.raises(InputError, match=r"the address gives no video|no frame of it can be decoded"):
        open_source(serve([]).url)
