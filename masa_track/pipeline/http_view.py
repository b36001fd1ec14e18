"""The drawn frames and the state of a run by HTTP: a page, an MJPEG stream, the last picture, JSON."""

from __future__ import annotations

import errno
import ipaddress
import json
import math
import re
import select
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from masa_track.errors import InputError, first_line

if TYPE_CHECKING:
    from masa_track.contracts import Frame

LOOPBACK = "127.0.0.1"
MOST_WATCHERS = 16  # of the stream
QUALITY = 80  # of JPEG

_MOST_CONNECTIONS = 64  # at once, of all kinds
_TIMEOUT = 10.0  # seconds after which a connection that takes or gives nothing is closed
_REPEAT_SECONDS = 5.0  # after which a watcher gets the last picture again: so it is known whether it is still there
_SHORTEST_PAUSE = 0.03  # seconds between two pictures of a watcher
_CLOSE_SECONDS = 2.0
_SEND_BUFFER = 256 * 1024  # bytes; the system's own would hold seconds of pictures for a slow watcher
_LARGEST = 4096  # pixels of a side of the pictures served
_BOUNDARY = "frame"
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>masa-track</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>
body{margin:1rem;font:16px/1.4 system-ui,sans-serif;background:#101418;color:#e8eaed}
img{max-width:100%;height:auto;background:#000}td{padding:0 1rem 0 0;vertical-align:top}
</style></head><body><img src="stream" alt="drawn frames"><table id="status"></table><script>
const table=document.getElementById("status");
async function update(){
  try{
    const values=await (await fetch("status")).json();
    table.replaceChildren(...Object.entries(values).map(([name,value])=>{
      const row=document.createElement("tr");
      for(const text of [name,value===null?"":typeof value==="object"?JSON.stringify(value):String(value)]){
        const cell=document.createElement("td");cell.textContent=text;row.append(cell);}
      return row;}));
  }catch(error){table.textContent="The run does not answer: it has ended, or the connection is lost.";}
  setTimeout(update,1000);
}
update();
</script></body></html>
"""


def parse_http(text: str) -> tuple[str, int]:
    """The address of ``--http``.

    Args:
        text: ``PORT``, ``HOST:PORT`` or ``[IPV6]:PORT``. Port 0 takes any that is free.

    Returns:
        The host, which is the loopback address where none is named, and the port.

    Raises:
        InputError: another form, or a port above 65535.
    """
    host, colon, port = text.strip().rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    is_port = re.fullmatch(r"\d{1,5}", port, re.ASCII)
    if not is_port or (colon and not bare) or re.search(r"[\s/@\[\]]", bare) or (":" in bare and bare == host):
        raise InputError(
            f"--http must be PORT, HOST:PORT or [IPV6]:PORT, such as 8080, 0.0.0.0:8080 or [::1]:8080, got {text!r}"
        )
    _check_port(int(port))
    return bare or LOOPBACK, int(port)


def _check_port(port: int) -> None:
    if not 0 <= port <= 65535:
        raise InputError(f"the port of --http must be 0 to 65535 (0: any that is free), got {port}")


class HttpView:
    """Serves drawn frames and the state of a run, from threads of its own.

    ``/`` is a page with both, ``/stream`` the frames as MJPEG, ``/frame.jpg`` the last one, ``/status`` JSON. A picture
    is encoded when somebody watches, once for all, in a watcher's thread: who is slow misses frames, and the run waits
    for nobody. There are no passwords and no encryption. On the loopback address, requests for other host names are
    refused, so that web pages of others cannot read the pictures by a name that they let point here.

    Args:
        port: 0 to 65535; 0 takes any that is free.
        host: name or address to listen on. ``0.0.0.0`` lets all computers of the network watch.
        status: called for each request of the state, from other threads, for names and values that JSON holds.

    Attributes:
        address: of the page.
        port: the one that is used.

    Raises:
        InputError: the port is in use or out of range, or the host is not one of this computer.
    """

    def __init__(self, port: int, host: str = LOOPBACK, status: Callable[[], Mapping[str, Any]] = lambda: {}) -> None:
        _check_port(port)
        self._status = status
        self._changed = threading.Condition()
        self._latest: tuple[int, np.ndarray] | None = None  # count of frames, and the picture
        self._encoding = threading.Lock()
        self._jpeg: tuple[int, bytes] = (0, b"")
        self._watchers = 0
        self.closed = False
        try:
            self._server = _Server(host, port, self)
        except (OSError, UnicodeError) as error:  # a UnicodeError for what can be no host's name
            number = getattr(error, "errno", None)
            if number == errno.EADDRINUSE:
                hint = "another program uses it: name another port, or 0 for any that is free"
            elif number == errno.EACCES:
                hint = "ports below 1024 need the administrator's rights: name a higher one"
            else:
                hint = f"{first_line(error)}: name a host or address of this computer"
            raise InputError(f"--http cannot listen on {host}, port {port}: {hint}") from error
        self.port: int = self._server.server_address[1]
        named = f"[{host}]" if ":" in host else host
        self.address = f"http://{named}:{self.port}/"
        self.only_local = _is_loopback(str(self._server.server_address[0]))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="http", daemon=True)
        self._thread.start()

    def write(self, frame: Frame, drawing: np.ndarray) -> None:
        """Shows a frame to those who watch. It takes no longer when they are slow.

        Args:
            frame: which it is.
            drawing: (H, W, 3) uint8 BGR; it is copied.
        """
        picture = drawing.copy()
        with self._changed:
            self._latest = ((self._latest[0] if self._latest else 0) + 1, picture)
            self._changed.notify_all()

    def close(self) -> None:
        """Ends all connections and threads, within two seconds."""
        with self._changed:
            if self.closed:
                return
            self.closed = True
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()
        self._server.end_connections(_CLOSE_SECONDS)
        self._thread.join(_CLOSE_SECONDS)

    def __enter__(self) -> HttpView:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def status(self) -> str:
        """The state of the run as JSON; numbers that are not finite become null."""
        values = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in self._status().items()
        }
        return json.dumps(values, allow_nan=False)

    def next_jpeg(self, seen: int, seconds: float) -> tuple[int, bytes] | None:
        """The last frame as JPEG, with its number.

        Args:
            seen: number of the frame that the caller has; 0 for none.
            seconds: how long to wait for a newer one. Then the last one is returned again.

        Returns:
            None where there is no frame yet, or the view is closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self.closed or (self._latest and self._latest[0] > seen), seconds)
            latest = self._latest
        if latest is None or self.closed:
            return None
        with self._encoding:  # the first watcher who wants a frame encodes it for all
            number, picture = latest
            if self._jpeg[0] < number:
                scale = min(1.0, _LARGEST / max(picture.shape))
                if scale < 1:
                    size = [max(1, round(side * scale)) for side in picture.shape[1::-1]]
                    picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
                self._jpeg = (number, cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes())
            return self._jpeg

    def enter(self) -> bool:
        """Counts a watcher; False where there are as many as there may be."""
        with self._changed:
            if self._watchers >= MOST_WATCHERS:
                return False
            self._watchers += 1
            return True

    def leave(self) -> None:
        """Counts a watcher who has left."""
        with self._changed:
            self._watchers -= 1


class _Server(ThreadingHTTPServer):
    """A thread for each connection, a bounded number of them, all of which end when the view is closed."""

    daemon_threads = True
    request_queue_size = 32

    def __init__(self, host: str, port: int, view: HttpView) -> None:
        self.view = view
        self._connections: dict[socket.socket, threading.Thread] = {}
        self._lock = threading.Lock()
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        self.address_family = family
        super().__init__(address[:2], _Handler)  # type: ignore[arg-type]

    def server_bind(self) -> None:
        """As HTTPServer's, without its search for the host's name, which can take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = map(str, self.server_address[:2])  # type: ignore[assignment]

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            full = len(self._connections) >= _MOST_CONNECTIONS
            if not full:
                thread = threading.Thread(
                    target=self.process_request_thread, args=(request, client_address), name="http client", daemon=True
                )
                self._connections[request] = thread
                thread.start()
        if full:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._connections.pop(request, None)

    def end_connections(self, seconds: float) -> None:
        """Closes all connections and waits for their threads."""
        with self._lock:
            connections = dict(self._connections)
        for connection in connections:
            with suppress(OSError):  # it may have been closed already
                connection.shutdown(socket.SHUT_RDWR)  # ends a send that waits for a slow watcher
        last = time.monotonic() + seconds
        for thread in connections.values():
            thread.join(max(0.0, last - time.monotonic()))

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # else a watcher has left
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """One request."""

    server: _Server
    server_version = "masa-track"
    sys_version = ""
    timeout = _TIMEOUT

    def setup(self) -> None:
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        super().setup()

    def do_GET(self) -> None:
        view = self.server.view
        path = self.path.partition("?")[0]
        if view.only_local and not _is_local_name(self.headers.get("Host", "localhost")):
            self._send(HTTPStatus.FORBIDDEN, "text/plain", b"this run is served to this computer only\n")
        elif path == "/":
            self._send(HTTPStatus.OK, "text/html; charset=utf-8", _PAGE.encode())
        elif path == "/status":
            self._send(HTTPStatus.OK, "application/json", view.status().encode())
        elif path == "/frame.jpg":
            found = view.next_jpeg(0, 0.0)
            if found is None:
                self._send(HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", b"there is no frame yet\n")
            else:
                self._send(HTTPStatus.OK, "image/jpeg", found[1])
        elif path == "/stream":
            self._stream(view)
        else:
            self._send(HTTPStatus.NOT_FOUND, "text/plain", b"there are /, /stream, /frame.jpg and /status\n")

    do_HEAD = do_GET

    def _stream(self, view: HttpView) -> None:
        if self.command == "HEAD":
            self._start(HTTPStatus.OK, f"multipart/x-mixed-replace; boundary={_BOUNDARY}")
            return
        if not view.enter():
            self._send(HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", f"{MOST_WATCHERS} watch already\n".encode())
            return
        try:
            self._start(HTTPStatus.OK, f"multipart/x-mixed-replace; boundary={_BOUNDARY}")
            self.wfile.write(f"--{_BOUNDARY}\r\n".encode())
            seen = 0
            while not view.closed:
                found = view.next_jpeg(seen, _REPEAT_SECONDS)
                if found is None:
                    if _has_left(self.connection):
                        break
                    continue
                seen, jpeg = found
                head = f"Content-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n".encode()
                # the boundary comes at once: browsers show a picture when they have read it
                self.wfile.write(head + jpeg + f"\r\n--{_BOUNDARY}\r\n".encode())
                time.sleep(_SHORTEST_PAUSE)
        finally:
            view.leave()

    def _start(self, status: HTTPStatus, kind: str, size: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        if self.server.view.only_local:
            self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        if size is not None:
            self.send_header("Content-Length", str(size))
        self.end_headers()

    def _send(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self._start(status, kind, len(content))
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: the terminal is the run's."""


def _has_left(connection: socket.socket) -> bool:
    """Whether the other side has closed a connection; nothing is read from it."""
    readable, _, _ = select.select([connection], [], [], 0)
    return bool(readable) and not connection.recv(1, socket.MSG_PEEK)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _is_local_name(host: str) -> bool:
    """Whether the value of a request's ``Host`` names this computer by the loopback address or ``localhost``."""
    found = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]*)(:\d*)?", host.strip())
    if not found:
        return False
    name = found[1].strip("[]").rstrip(".").lower()
    return name == "localhost" or name.endswith(".localhost") or _is_loopback(name)
