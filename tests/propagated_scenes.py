"""Pictures with true masks for tests of mask propagators: textured discs that move over a textured background."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np

from masa_track.contracts import Frame

WIDTH, HEIGHT = 160, 112
COLOURS = {1: (40, 60, 210), 2: (200, 120, 30), 3: (60, 190, 60), 4: (190, 60, 180)}  # BGR by identity
RADIUS = 18


def texture(seed: int, size: tuple[int, int] = (WIDTH, HEIGHT)) -> np.ndarray:
    """(height, width, 3) float32 blurred noise with a deviation of 25."""
    noise = np.random.default_rng(seed).normal(0, 1, (size[1], size[0], 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 1.5)
    return np.asarray(25 * smooth / smooth.std())


BACKGROUND = 120 + texture(0)


def disc(centre: tuple[float, float], radius: float = RADIUS) -> np.ndarray:
    """(HEIGHT, WIDTH) bool."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.asarray((x - centre[0]) ** 2 + (y - centre[1]) ** 2 <= radius**2)


def scene(number: int, centres: Mapping[int, tuple[float, float]]) -> tuple[Frame, dict[int, np.ndarray]]:
    """A frame with discs, and the visible part (HEIGHT, WIDTH) bool of each; later identities cover earlier ones."""
    image, masks = BACKGROUND.copy(), {}
    for identity, centre in centres.items():
        mask = disc(centre)
        shift = np.float32([[1, 0, centre[0] - WIDTH / 2], [0, 1, centre[1] - HEIGHT / 2]])
        surface = cv2.warpAffine(texture(identity), shift, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT)
        image[mask] = (np.array(COLOURS[identity], np.float32) + 0.6 * surface)[mask]
        masks = {k: m & ~mask for k, m in masks.items()} | {identity: mask}
    pixels = np.clip(image, 0, 255).astype(np.uint8)
    return Frame(number, number / 25, (WIDTH, HEIGHT), image=pixels), masks


def walk(number: int) -> dict[int, tuple[float, float]]:
    """Centres of two discs that move apart from each other, from frame 1 on."""
    return {1: (30 + 3 * number, 35), 2: (125 - 2 * number, 78)}


def iou(mask: np.ndarray, truth: np.ndarray) -> float:
    """Intersection over union of two bool masks."""
    return float((mask & truth).sum() / max((mask | truth).sum(), 1))
