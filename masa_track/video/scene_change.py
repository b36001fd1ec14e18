"""How much of the background differs between two frames: small for a camera that moves a little, large across a cut."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

_SIZE = 48, 27  # cells of a picture, width and height
_FEWEST = 0.1  # of the cells that must be outside the boxes; else all cells are compared
_NOISE = 16.0  # variance of a cell's grey value that says nothing: a picture without structure equals any other


class Thumbnail(NamedTuple):
    """A small grey picture.

    Attributes:
        grey: (27, 48) float32, mean grey values of cells, 0..255.
        background: (27, 48) bool, cells outside the boxes.
    """

    grey: np.ndarray
    background: np.ndarray


def thumbnail(image: np.ndarray, boxes: np.ndarray) -> Thumbnail:
    """The thumbnail of a (H, W, 3) BGR uint8 picture with objects in boxes (N, 4), xyxy pixels."""
    grey = cv2.cvtColor(cv2.resize(image, _SIZE, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2GRAY).astype(np.float32)
    background = np.ones(grey.shape, bool)
    cells = np.array([*_SIZE, *_SIZE]) / np.tile(image.shape[1::-1], 2)
    corners = np.clip(np.asarray(boxes, np.float64) * cells, 0, max(_SIZE))
    first, last = np.floor(corners[:, :2]).astype(int).tolist(), np.ceil(corners[:, 2:]).astype(int).tolist()
    for (left, top), (right, bottom) in zip(first, last, strict=True):
        background[top:bottom, left:right] = False
    return Thumbnail(grey, background)


def scene_change(before: Thumbnail, after: Thumbnail) -> float:
    """1 minus the correlation of the backgrounds: 0 for the same scene, about 1 for another one, 2 at most.

    On 13 clips it was at most .12 between successive frames, above .3 for 8 % of frames ten apart (moving cameras), and
    above .3 for 77 of 78 pairs of clips.
    """
    cells = before.background & after.background
    if cells.mean() < _FEWEST:
        cells = np.ones_like(cells)
    one, two = before.grey[cells], after.grey[cells]
    one, two = one - one.mean(), two - two.mean()
    noise = _NOISE * len(one)
    return float(1 - (one @ two + noise) / np.sqrt((one @ one + noise) * (two @ two + noise)))
