"""A window with the drawn frames, where there is a display and OpenCV can open windows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import cv2
import numpy as np

from masa_track.errors import InputError

if TYPE_CHECKING:
    from masa_track.contracts import Frame

_INSTEAD = "or leave out --show and watch by --http PORT"
_LARGEST = (1280, 720)  # pixels of the window at first
_STOP_KEYS = {ord("q"), ord("Q"), 27}  # 27: Esc
_TRIAL_SECONDS = 20
# A window is tried in another process: Qt and GTK end the process in which they find no display.
_TRIAL = "import cv2; cv2.namedWindow('masa-track'); cv2.waitKey(1); cv2.destroyAllWindows()"


def check_display() -> None:
    """Checks that a window can be opened, before any work. It takes about half a second.

    Raises:
        InputError: OpenCV has no windows (``opencv-python-headless``), or there is no display that can be used.
    """
    if re.search(r"\bGUI: *NONE\b", cv2.getBuildInformation()):
        raise InputError(
            "--show needs an OpenCV with windows, but this one has none: run `pip uninstall opencv-python-headless` "
            f"and `pip install --force-reinstall opencv-python`, {_INSTEAD}"
        )
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise InputError(f"--show needs a display, but DISPLAY is not set: run it in a desktop's terminal, {_INSTEAD}")
    try:
        trial = subprocess.run(
            [sys.executable, "-c", _TRIAL], stdin=subprocess.DEVNULL, capture_output=True, timeout=_TRIAL_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise InputError(f"--show cannot open a window: the display does not answer; check it, {_INSTEAD}") from error
    if trial.returncode:
        lines = trial.stderr.decode(errors="replace").strip().splitlines()
        reason = lines[0].strip() if lines else f"exit status {trial.returncode}"
        raise InputError(f"--show cannot open a window ({reason}): check the display, {_INSTEAD}")


class Window:
    """Shows drawn frames. It opens with the first one; call all methods from one thread, on macOS from the main one.

    Args:
        name: in the title.

    Attributes:
        closed: the user has asked to stop: by ``q``, Esc, or by closing the window. Frames are not shown any more.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.closed = False
        self._open = False

    def write(self, frame: Frame, drawing: np.ndarray) -> None:
        """Shows a frame and looks for keys.

        Args:
            frame: which it is.
            drawing: (H, W, 3) uint8 BGR; it is copied.
        """
        if self.closed:
            return
        if not self._open:
            height, width = drawing.shape[:2]
            scale = min(1.0, _LARGEST[0] / width, _LARGEST[1] / height)
            cv2.namedWindow(self.name, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
            cv2.resizeWindow(self.name, max(1, round(width * scale)), max(1, round(height * scale)))
            self._open = True
        elif self._is_gone():
            self.closed = True
            return
        cv2.imshow(self.name, drawing)
        self.closed = cv2.waitKey(1) & 0xFF in _STOP_KEYS  # it also lets the window draw itself

    def _is_gone(self) -> bool:
        try:
            return cv2.getWindowProperty(self.name, cv2.WND_PROP_VISIBLE) < 1
        except cv2.error:  # some window systems know no window of this name any more
            return True

    def close(self) -> None:
        """Closes the window."""
        if self._open:
            self._open = False
            with suppress(cv2.error):  # the user may have closed it
                cv2.destroyWindow(self.name)
                cv2.waitKey(1)
