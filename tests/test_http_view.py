"""The view of a run by HTTP: by real requests over sockets."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
import urllib.error
import urllib.request

import cv2
import numpy as np
import pytest

from masa_track.contracts import Frame
from masa_track.errors import InputError
from masa_track.pipeline import http_view
from masa_track.pipeline.http_view import MOST_WATCHERS, HttpView, parse_http

FRAME = Frame(1, 0.0, (64, 48))


def grey(value: int, height: int = 48, width: int = 64) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def get(view: HttpView, path: str, host: str | None = None) -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", view.port, timeout=5)
    try:
        connection.request("GET", path, headers={"Host": host} if host else {})
        answer = connection.getresponse()
        return answer.status, answer.getheader("Content-Type") or "", answer.read()
    finally:
        connection.close()


def watch(view: HttpView, receive_buffer: int | None = None) -> socket.socket:
    """A watcher who has asked for the stream, and has read nothing."""
    connection = socket.socket()
    if receive_buffer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.settimeout(5)
    connection.connect(("127.0.0.1", view.port))
    connection.sendall(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return connection


def read_to(file, end: bytes) -> list[bytes]:
    lines = []
    while (line := file.readline()) and line.strip() != end:
        lines.append(line)
    return lines


def next_picture(file) -> np.ndarray:
    """The next picture of a stream, from behind its boundary to behind the next one."""
    head = dict(line.decode().strip().split(": ") for line in read_to(file, b""))
    assert head["Content-Type"] == "image/jpeg"
    content = file.read(int(head["Content-Length"]))
    assert file.readline() == b"\r\n"
    assert file.readline() == b"--frame\r\n"
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)


def threads() -> int:
    return sum(thread.name.startswith("http") for thread in threading.enumerate())


def wait_until(condition, seconds: float = 3.0) -> bool:
    last = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > last:
            return False
        time.sleep(0.01)
    return True


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("8080", ("127.0.0.1", 8080)),
        ("0.0.0.0:80", ("0.0.0.0", 80)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:8080", ("::1", 8080)),
        (" 65535 ", ("127.0.0.1", 65535)),
    ],
)
def test_addresses(text, address):
    assert parse_http(text) == address


@pytest.mark.parametrize(
    "text", ["", "a", ":8080", "::1:8080", "http://a:8080", "a:b", "a b:1", "[]:80", "-1", "8080:", "[::1]", "1.5", "٣"]
)
def test_other_addresses_are_refused(text):
    with pytest.raises(InputError, match=r"--http must be PORT, HOST:PORT or \[IPV6\]:PORT, such as 8080"):
        parse_http(text)


def test_ports_out_of_range_are_refused():
    with pytest.raises(InputError, match=r"the port of --http must be 0 to 65535 .* got 70000"):
        parse_http("70000")
    for port in (-1, 65536):
        with pytest.raises(InputError, match="the port of --http must be 0 to 65535"):
            HttpView(port)


def test_a_port_in_use_and_a_host_of_others_are_refused():
    with HttpView(0) as view, pytest.raises(InputError, match=rf"--http cannot listen on .* {view.port}: another prog"):
        HttpView(view.port)
    for host in ("192.0.2.1", "a..b"):
        with pytest.raises(InputError, match=f"--http cannot listen on {host}, port 0: .*: name a host or address of"):
            HttpView(0, host)
    assert wait_until(lambda: threads() == 0)


def test_page_status_and_last_frame():
    state = {"frames": 3, "fps": float("nan"), "last error": None, "tracks": {"live": 2}}
    with HttpView(0, status=lambda: state) as view:
        assert view.address == f"http://127.0.0.1:{view.port}/"
        assert get(view, "/frame.jpg")[::2] == (503, b"there is no frame yet\n")
        picture = grey(50)
        view.write(FRAME, grey(200))
        view.write(FRAME, picture)
        picture[:] = 0  # the caller's again
        status, kind, content = get(view, "/frame.jpg?1")
        assert (status, kind) == (200, "image/jpeg")
        assert abs(cv2.imdecode(np.frombuffer(content, np.uint8), 1).astype(int) - 50).max() <= 2
        status, kind, content = get(view, "/status")
        assert (status, kind) == (200, "application/json")
        assert json.loads(content) == {"frames": 3, "fps": None, "last error": None, "tracks": {"live": 2}}
        state["frames"] = 4
        assert json.loads(urllib.request.urlopen(view.address + "status", timeout=5).read())["frames"] == 4
        status, kind, content = get(view, "/")
        assert (status, kind) == (200, "text/html; charset=utf-8")
        assert b'<img src="stream"' in content
        assert get(view, "/etc/passwd")[0] == 404
        request = urllib.request.Request(view.address, data=b"x", method="POST")
        with pytest.raises(urllib.error.HTTPError, match="501"):
            urllib.request.urlopen(request, timeout=5)
    assert threads() == 0


def test_the_stream_is_of_the_newest_frames():
    with HttpView(0) as view, watch(view) as connection, connection.makefile("rb") as file:
        lines = read_to(file, b"--frame")
        assert lines[0].split()[1] == b"200"
        assert b"Content-Type: multipart/x-mixed-replace; boundary=frame\r\n" in lines
        for value in (10, 100, 200):
            view.write(FRAME, grey(value))
            assert abs(next_picture(file).astype(int) - value).max() <= 2


def test_a_picture_is_encoded_once_for_all_and_only_if_somebody_watches(monkeypatch):
    encoded = []
    real = cv2.imencode
    monkeypatch.setattr(http_view.cv2, "imencode", lambda *args: encoded.append(1) or real(*args))
    with HttpView(0) as view:
        for value in range(20):
            view.write(FRAME, grey(value))
        assert encoded == []
        with watch(view) as first, watch(view) as second, first.makefile("rb") as a, second.makefile("rb") as b:
            for file in (a, b):
                read_to(file, b"--frame")
                assert abs(next_picture(file).astype(int) - 19).max() <= 2
        get(view, "/frame.jpg")
        assert encoded == [1]
        view.write(FRAME, grey(7, height=1, width=70_000))  # a side longer than JPEG allows
        content = get(view, "/frame.jpg")[2]
        assert cv2.imdecode(np.frombuffer(content, np.uint8), 1).shape[1] == 4096


def test_a_slow_watcher_misses_frames_and_delays_nobody():
    """It reads nothing while 60 frames of noise come, 200 kB each as JPEG. Then it gets few, and the newest at last."""
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    noise[:24] = 0
    with (
        HttpView(0) as view,
        watch(view, receive_buffer=4096) as slow,
        watch(view) as fast,
        slow.makefile("rb") as slow_file,
        fast.makefile("rb") as fast_file,
    ):
        read_to(fast_file, b"--frame")
        longest = 0.0
        for number in range(1, 61):
            noise[:24] = 4 * number  # tells which frame it is
            begun = time.monotonic()
            view.write(FRAME, noise)
            longest = max(longest, time.monotonic() - begun)
            if number % 20 == 0:
                while abs(float(next_picture(fast_file)[:16].mean()) - 4 * number) > 2:
                    pass
        assert longest < 5  # seconds; a send that waits would take ten
        read_to(slow_file, b"--frame")
        seen = [0.0]
        while seen[-1] < 238:
            seen.append(float(next_picture(slow_file)[:16].mean()))
        assert len(seen) < 20
        assert seen == sorted(seen)


def test_the_number_of_watchers_is_limited():
    with HttpView(0) as view:
        view.write(FRAME, grey(1))
        watchers = [watch(view) for _ in range(MOST_WATCHERS)]
        for watcher in watchers:
            assert watcher.recv(12) == b"HTTP/1.0 200"
        assert get(view, "/stream")[::2] == (503, b"16 watch already\n")
        assert get(view, "/status")[0] == 200
        watchers.pop().close()  # its place is free when the next frames cannot be sent

        def again() -> bool:
            view.write(FRAME, grey(2))
            with watch(view) as watcher:
                return watcher.recv(12) == b"HTTP/1.0 200"

        assert wait_until(again)
        for watcher in watchers:
            watcher.close()


def test_a_watcher_who_leaves_before_the_first_frame_is_noticed(monkeypatch):
    monkeypatch.setattr(http_view, "_REPEAT_SECONDS", 0.05)
    with HttpView(0) as view:
        with watch(view) as watcher:
            assert watcher.recv(12) == b"HTTP/1.0 200"
        assert wait_until(lambda: threads() == 1)  # the server's


@pytest.mark.slow
@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8080", 200),
        ("127.0.0.1", 200),
        ("127.0.0.2:1", 200),
        ("[::1]:8080", 200),
        ("LOCALHOST.", 200),
        ("attacker.example", 403),
        ("attacker.example:8080", 403),
        ("localhost.attacker.example", 403),
        ("127.0.0.1.attacker.example", 403),
        ("192.168.0.7", 403),
        ("localhost@attacker.example", 403),
        ("[::1", 403),
    ],
)
def test_other_host_names_are_refused_on_the_loopback_address(host, status):
    with HttpView(0) as view:
        view.write(FRAME, grey(1))
        for path in ("/", "/status", "/frame.jpg"):
            assert get(view, path, host)[0] == status
        if status == 403:
            assert get(view, "/stream", host)[0] == 403


def test_a_view_for_all_computers_takes_any_host_name():
    with HttpView(0, "0.0.0.0") as view:
        assert get(view, "/status", "camera.example:8080")[0] == 200


@pytest.mark.parametrize("watching", [False, True])
def test_closing_ends_all_threads(watching):
    """Also with watchers: one that reads, one that is stuck in a send, one that has asked for nothing yet."""
    noise = np.random.default_rng(0).integers(0, 256, (1080, 1920, 3), np.uint8)
    view = HttpView(0)
    connections = []
    if watching:
        connections = [watch(view, 4096), watch(view), socket.create_connection(("127.0.0.1", view.port))]
        view.write(FRAME, noise)
        assert wait_until(lambda: threads() == 4)
        time.sleep(0.3)
    view.close()
    assert threads() == 0
    view.close()  # does nothing
    view.write(FRAME, noise)
    for connection in connections:
        connection.close()
    with pytest.raises(OSError):  # noqa: PT011 (refused, or reset)
        socket.create_connection(("127.0.0.1", view.port), timeout=1)
