"""The semantic maps of SAM 3 as pictures, one for each phrase and frame."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np

from masa_track.contracts import FrameResult
from masa_track.files import write_bytes

FOLDER, PHRASES = "semantic", "phrases.json"  # in the folder of results; and in that one


class SemanticMaps:
    """Writes ``semantic/000012-0.png``, ...: frame 12, phrase 0. ``semantic/phrases.json`` names the phrases.

    A picture is grey and as large as the frame. 255 x the probability that the pixel is part of what the phrase names.
    Maps of an earlier run are removed before the first frame, also where this run has none.

    Args:
        folder: of the results.
        goes_on: keep the maps that are there: the run goes on with another one.
    """

    def __init__(self, folder: Path, goes_on: bool = False) -> None:
        self.folder = folder / FOLDER
        self._cleared, self._named = goes_on, False

    def write(self, result: FrameResult) -> None:
        """Writes the maps of a frame, where it has some.

        Raises:
            OSError: a file cannot be written; no part of it is left.
        """
        if not self._cleared:
            self._clear()
        maps = result.extras.get("semantic")
        if maps is None:
            return
        files = {}
        if not self._named:
            files[PHRASES] = json.dumps(dict(enumerate(maps)), ensure_ascii=False).encode()
        for phrase, logits in enumerate(maps.values()):
            _, picture = cv2.imencode(".png", _picture(logits, result.frame.size))
            files[f"{result.frame.number:06d}-{phrase}.png"] = picture.tobytes()
        for name, content in files.items():
            try:
                self.folder.mkdir(exist_ok=True)
                write_bytes(self.folder / name, content)
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(self.folder / name)) from error
        self._named = True

    def _clear(self) -> None:
        """Removes maps of an earlier run, and no other files."""
        self._cleared = True
        if (self.folder / PHRASES).is_file():
            for path in (*self.folder.glob("[0-9]*-[0-9]*.png"), self.folder / PHRASES):
                path.unlink(missing_ok=True)
            with suppress(OSError):  # it holds other files
                self.folder.rmdir()


def _picture(logits: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W) uint8, 255 x the probability, of (h, w) logits; ``size``: (width, height)."""
    scaled = cv2.resize(np.asarray(logits, np.float32), size, interpolation=cv2.INTER_LINEAR)
    return np.rint(255 / (1 + np.exp(-np.clip(scaled, -80, 80)))).astype(np.uint8)
