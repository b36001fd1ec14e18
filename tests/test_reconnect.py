"""Cameras that hang up, fall silent, come back, perhaps in another size, or stay away, played by an RTSP server."""

from __future__ import annotations

import json
import re
import socketserver
import threading
import time
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from test_rtsp import TICKS, Answers, encode, in_rtp, picture, said

from masa_track.cli.main import main
from masa_track.errors import InputError
from masa_track.video import reconnect, streams
from masa_track.video.sources import open_source


class Camera(socketserver.ThreadingTCPServer):
    """Plays one take after another, one to each connection that asks for pictures; None hangs up at once."""

    daemon_threads = True

    def __init__(self, takes) -> None:
        super().__init__(("127.0.0.1", 0), Plays)
        self.takes, self.connections, self.over = list(takes), 0, threading.Event()
        self.url = f"rtsp://127.0.0.1:{self.server_address[1]}/gate"
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def take(self):
        self.connections += 1
        return self.takes[min(self.connections, len(self.takes)) - 1]


class Plays(Answers):
    server: Camera  # type: ignore[assignment]

    def handle(self):
        self.taken = self.server.take()
        if self.taken is not None:
            super().handle()

    def play(self):
        frames, silent = self.taken
        sequence = 100
        try:
            for i, nals in enumerate(frames):
                packets = in_rtp(nals, sequence, TICKS * i)
                sequence += len(packets)
                self.wfile.write(b"".join(packets))
            if silent:
                self.server.over.wait(20)
        except OSError:
            pass


@pytest.fixture
def camera(monkeypatch):
    monkeypatch.setattr(reconnect, "FIRST_WAIT", 0.2)
    started = []

    def start(*takes):
        started.append(Camera(takes))
        return started[-1]

    yield start
    for server in started:
        server.over.set()
        server.shutdown()
        server.server_close()


def watch(source, **options):
    """([(number, what the picture says, seconds)], [(number, reason)], [notice])"""
    broken: list[tuple[int, str]] = []
    notices: list[str] = []
    source.notice = notices.append
    frames = source.frames(on_broken=lambda number, reason: broken.append((number, reason)), **options)
    return [(frame.number, said(frame.image), frame.time) for frame in frames], broken, notices


@pytest.mark.slow
def test_a_camera_that_drops_and_comes_back(camera):
    take = (encode(30), False)
    # The first connection is open_source's own look; the second drops; two are refused; then it is back.
    server = camera(take, take, None, None, take)
    source = open_source(server.url, reconnect=20)
    got, broken, notices = watch(source, max_frames=50)
    assert server.connections == 5
    assert [says for _, says, _ in got] == [*range(1, 31), *range(1, 21)]
    numbers, seconds = [n for n, *_ in got], [at for *_, at in got]
    assert numbers[:30] == list(range(1, 31))
    # .2 + .4 + .8 s of waiting: 35 frames at 25 a second were missed, on a slow machine more.
    assert numbers[30] >= 30 + 1 + 0.9 * 35
    assert np.diff(numbers[30:]).tolist() == [1] * 19
    assert (np.diff(seconds) > 0).all()
    assert seconds[30] - seconds[29] >= 1.4 - 0.05
    assert (numbers[30] - 31) / 25 == pytest.approx(seconds[30] - seconds[29], abs=0.1), "numbers keep the clock"
    assert broken == []
    assert notices[0] == "after frame 30: the address stopped giving pictures; connecting again for up to 20 s"
    assert notices[1].startswith("connected again after ")
    assert notices[1].endswith("s, 3 attempts")
    assert len(notices) == 2


@pytest.mark.slow
def test_a_camera_that_stalls(camera, monkeypatch):
    monkeypatch.setattr(streams, "TIMEOUT_SECONDS", 1.0)
    silent, take = (encode(25), True), (encode(25), False)
    source = open_source(camera(take, silent, take).url, reconnect=20)
    got, broken, notices = watch(source, max_frames=40, stride=5, start=1003)
    assert [says for _, says, _ in got[:10]] == [1, 6, 11, 16, 21] * 2
    assert [n for n, *_ in got[:5]] == [1003, 1008, 1013, 1018, 1023]
    assert all((n - 1003) % 5 == 0 for n, *_ in got), "a stride keeps its step over the gap"
    assert "no answer within 1 s; connecting again" in notices[0]
    assert broken == []


def smaller(frames: int):
    """What `encode` gives, in another resolution."""
    codec = av.CodecContext.create("libx264", "w")
    codec.width, codec.height, codec.pix_fmt, codec.time_base = 80, 48, "yuv420p", Fraction(1, 25)
    codec.framerate = Fraction(25)
    codec.options = {"g": "12", "bf": "0", "tune": "zerolatency", "slices": "1", "preset": "ultrafast"}
    images = (cv2.resize(picture(n + 1), (80, 48), interpolation=cv2.INTER_AREA) for n in range(frames))
    coded = [p for image in images for p in codec.encode(av.VideoFrame.from_ndarray(image, format="bgr24"))]
    return [[nal for nal in re.split(rb"\0*\0\0\x01", bytes(p)) if nal] for p in coded + codec.encode()]


@pytest.mark.slow
def test_a_camera_that_comes_back_in_another_size(camera):
    take = (encode(25), False)
    source = open_source(camera(take, take, (smaller(25), False), take).url, reconnect=20)
    shapes = []
    notices: list[str] = []
    source.notice = notices.append
    for frame in source.frames(max_frames=60):
        shapes.append(frame.image.shape)
        assert said(frame.image) == (len(shapes) - 1) % 25 + 1, "the picture is the whole picture"
    assert set(shapes) == {(96, 160, 3)}
    scaled = [text for text in notices if "scaled" in text]
    assert len(scaled) == 1, "said once, not for each picture"
    assert scaled[0].endswith("is 80x48, the video is 160x96: scaled from here on")


@pytest.mark.slow
def test_a_camera_that_stays_away(camera):
    take = (encode(25), False)
    source = open_source(camera(take, take, None).url, reconnect=1.5)
    start = time.monotonic()
    got, broken, notices = watch(source)
    assert 1.4 <= time.monotonic() - start < 8
    assert len(got) == 25
    ((number, reason),) = broken
    assert number == 26
    assert reason.startswith("the address stopped giving pictures; ")
    assert reason.endswith(" attempts in 1.5 s to connect again failed")
    assert len(notices) == 1, "said once, not at each attempt"


def test_the_wait_is_bounded(monkeypatch):
    """Without a network: the waits before attempts, of a source that never answers."""
    waits: list[float] = []
    clock = [0.0]
    monkeypatch.setattr(reconnect.time, "monotonic", lambda: clock[0])

    def waited(seconds, stop_asked):
        waits.append(seconds)
        clock[0] += seconds
        return True

    monkeypatch.setattr(reconnect, "_waited", waited)

    class Gone:
        fps = 25.0
        notice = stop_asked = staticmethod(lambda *_: False)

        def connection(self, stride, report):
            raise InputError("source 'rtsp://gone': the address gives no video")

        def why_ended(self):
            return ""

    ends: list[tuple[int, str]] = []
    assert list(reconnect.kept_alive(Gone(), 200.0, 1, lambda *end: ends.append(end))) == []
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30, 30, 30, 19]
    assert ends[0][0] == 1
    assert "10 attempts in 200 s" in ends[0][1]


@pytest.mark.slow
def test_a_user_who_has_waited_enough(camera):
    take = (encode(25), False)
    source = open_source(camera(take, take, None).url, reconnect=1e9)
    asked = time.monotonic() + 2
    source.stop_asked = lambda: time.monotonic() > asked
    got, broken, _ = watch(source)
    assert len(got) == 25
    assert broken == [(26, "the address stopped giving pictures")]
    assert time.monotonic() - asked < 3


@pytest.mark.slow
def test_the_command_tracks_on_and_says_so(camera, tmp_path, capsys):
    take = (encode(25), False)
    server, lines = camera(take, take, None, take), tmp_path / "live.jsonl"
    options = ["--detector", "motion", "--max-frames", "30", "--no-video", "--reconnect", "inf", "--jsonl", str(lines)]
    options += ["--live-latency", "60"]  # the camera sends all frames at once
    assert main(["track", server.url, "--out", str(tmp_path / "out"), *options]) == 0
    shown = capsys.readouterr().err
    assert "gate: after frame 25: the address stopped giving pictures; connecting again\n" in shown
    assert "gate: connected again after " in shown
    frames = [one for one in map(json.loads, lines.read_text().splitlines()) if "tracks" in one]
    assert len(frames) == 30
    assert (np.diff([frame["time"] for frame in frames]) > 0).all()
    assert frames[25]["frame"] > 26
    assert main(["track", server.url, "--out", str(tmp_path / "out"), "--detector", "motion", "--reconnect", "-2"]) == 2
    assert "--reconnect must be 0 or more seconds, got -2" in capsys.readouterr().err


def test_reconnect_below_zero():
    with pytest.raises(InputError, match="reconnect must be 0 or more seconds, got -1"):
        open_source("rtsp://127.0.0.1/x", reconnect=-1)
