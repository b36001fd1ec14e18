"""The window of --show: refused where there can be none; shown on a virtual display where Xvfb is installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

import cv2
import pytest

from masa_track.errors import InputError
from masa_track.pipeline.window import check_display

CHECK = "from masa_track.pipeline.window import check_display; check_display()"
# Shows up to 400 frames, and says what came of it.
SHOW = """
import sys, time
import cv2, numpy as np
from masa_track.contracts import Frame
from masa_track.pipeline.window import Window

window = Window("masa-track street.mp4")
for number in range(1, 400):
    window.write(Frame(number, number / 25, (1600, 1200)), np.full((1200, 1600, 3), 200, np.uint8))
    if number == 3:
        print(list(cv2.getWindowImageRect(window.name)[2:]), flush=True)
    if number == 5 and sys.argv[1] == "gone":
        cv2.destroyWindow(window.name)
    if window.closed:
        break
    time.sleep(0.02)
print("closed" if window.closed else "open", flush=True)
window.write(Frame(400, 16.0, (1600, 1200)), np.zeros((1200, 1600, 3), np.uint8))
window.close()
window.close()
"""


def with_windows() -> bool:
    return "NONE" not in cv2.getBuildInformation().partition("GUI:")[2].partition("\n")[0]


needs_xvfb = pytest.mark.skipif(
    not (with_windows() and shutil.which("Xvfb") and shutil.which("xdotool")),
    reason="needs an OpenCV with windows, Xvfb and xdotool",
)


@pytest.fixture(scope="module")
def display() -> Iterator[str]:
    reading, writing = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(writing), "-screen", "0", "1920x1080x24"],
        pass_fds=[writing],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(writing)
    with os.fdopen(reading) as file:
        number = file.readline().strip()
    assert number
    yield f":{number}"
    server.terminate()
    server.wait(10)


def test_an_opencv_without_windows_is_refused(monkeypatch):
    build = cv2.getBuildInformation()
    line = build[build.index("  GUI:") :].partition("\n")[0]
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: build.replace(line, line[:33] + "NONE"))
    with pytest.raises(InputError, match=r"--show needs an OpenCV with windows, .* `pip uninstall opencv-python-head"):
        check_display()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="DISPLAY is of X11")
@pytest.mark.skipif(not with_windows(), reason="OpenCV has no windows")
def test_no_display_is_refused(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(InputError, match=r"--show needs a display, but DISPLAY is not set: .* watch by --http PORT"):
        check_display()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="DISPLAY is of X11")
@pytest.mark.skipif(not with_windows(), reason="OpenCV has no windows")
def test_a_display_that_is_not_there_is_refused(monkeypatch):
    """Qt would end this process."""
    monkeypatch.setenv("DISPLAY", ":987")
    with pytest.raises(InputError, match=r"--show cannot open a window \(.+\): check the display, or leave out --show"):
        check_display()


@needs_xvfb
def test_a_display_is_accepted(display, monkeypatch):
    monkeypatch.setenv("DISPLAY", display)
    check_display()


@needs_xvfb
@pytest.mark.slow
@pytest.mark.parametrize("key", ["q", "Escape", "gone"])
def test_a_window_until_a_key_or_its_end(display, key):
    """The window fits the screen; ``q`` and Esc end it, another key does not. A closed one stays closed."""
    environment = {**os.environ, "DISPLAY": display}

    def tool(*words: str) -> str:
        return subprocess.run(["xdotool", *words], env=environment, capture_output=True, text=True).stdout.strip()

    process = subprocess.Popen(
        [sys.executable, "-c", SHOW, key], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    width, height = json.loads(process.stdout.readline())
    assert width <= 1280
    assert height <= 720
    window = tool("search", "--name", "masa-track street.mp4").splitlines()[0]
    tool("key", "--window", window, "a")
    if key != "gone":
        tool("key", "--window", window, key)
    out, errors = process.communicate(timeout=20)
    assert out.strip() == "closed"
    assert process.returncode == 0, errors
