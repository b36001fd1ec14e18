"""How a view looks: colours, blur, noise and compression. Nothing moves."""

from __future__ import annotations

import cv2
import numpy as np

from masa_track.training.settings import ViewSettings


def recolour(image: np.ndarray, rng: np.random.Generator, settings: ViewSettings) -> np.ndarray:
    """What happens between a thing and a file of video, in that order: light, lens, sensor, compression.

    Args:
        image: (H, W, 3) uint8 BGR.
        rng: the source of all chance.
        settings: how strongly.

    Returns:
        (H, W, 3) uint8 BGR.
    """
    if settings.hue or settings.saturation or settings.brightness:
        image = jitter(image, rng, settings)
    if rng.random() < settings.blur:
        image = blur(image, rng.uniform(*settings.blur_sigma), rng)
    if rng.random() < settings.noise:
        # Sums in float32: 8-bit arithmetic would cut the noise off at black and white before it is added.
        grain = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(rng.uniform(*settings.noise_sigma))
        image = np.clip(image + grain, 0, 255).astype(np.uint8)
    if rng.random() < settings.jpeg:
        image = compress(image, rng.uniform(*settings.jpeg_quality))
    return image


def jitter(image: np.ndarray, rng: np.random.Generator, settings: ViewSettings) -> np.ndarray:
    """Hue is shifted, saturation and value are multiplied: one table of 256 entries a channel."""
    shift = rng.uniform(-settings.hue, settings.hue) / 2  # OpenCV counts hue in 2 degrees
    gains = 1 + rng.uniform(-1, 1, 2) * (settings.saturation, settings.brightness)
    levels = np.arange(256)
    table = np.stack((np.round(levels + shift) % 180, levels * gains[0], levels * gains[1]), axis=-1)
    table = np.clip(table, 0, 255).astype(np.uint8)[None]  # (1, 256, 3)
    return cv2.cvtColor(cv2.LUT(cv2.cvtColor(image, cv2.COLOR_BGR2HSV), table), cv2.COLOR_HSV2BGR)


def blur(image: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Out of focus, or moved while the shutter was open, by chance one or the other; ``sigma`` in pixels."""
    if rng.random() < 0.5:
        return cv2.GaussianBlur(image, (0, 0), sigma)
    reach = np.sqrt(3) * sigma  # a line from -r to r has the deviation r / sqrt(3)
    side = 2 * int(np.ceil(reach)) + 1
    angle = rng.uniform(0, np.pi)
    step = np.array([np.cos(angle), np.sin(angle)]) * reach
    kernel = np.zeros((side, side), np.float32)
    middle = side // 2
    for t in np.linspace(-1, 1, 4 * side):
        column, row = np.round(middle + t * step).astype(int)
        kernel[row, column] += 1
    return cv2.filter2D(image, -1, kernel / kernel.sum())


def compress(image: np.ndarray, quality: float) -> np.ndarray:
    """To JPEG and back; ``quality`` of 100."""
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(quality)])
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded
