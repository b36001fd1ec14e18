"""Frames and masks before the network and after it, as published."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from masa_track.refer.matching import resize_logits
from masa_track.refer.model import MttrOutput

Size = tuple[int, int]  # height, width
SIDES = {"a2d": (320, 576), "ytvos": (360, 640)}  # short side, longest side, by data set
DEFAULT_SIDES = SIDES["ytvos"]


def resized_size(size: Size, short: int, longest: int) -> Size:
    """The size to which frames are scaled, their aspect ratio kept.

    Args:
        size: of the frame.
        short: pixels of the shorter side, unless the longer one would have more than ``longest``.
        longest: pixels that the longer side may have.
    """
    least, most = min(size), max(size)
    if most / least * short > longest:
        short = round(longest * least / most)
    if least == short:
        return size
    other = int(short * most / least)
    return (short, other) if size[0] <= size[1] else (other, short)


def resize_frame(image: np.ndarray, size: Size) -> np.ndarray:
    """(H, W, 3) uint8 RGB to a size, by Pillow's bilinear filter, which looks at all pixels when it makes smaller."""
    if image.shape[:2] == size:
        return image
    return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))


def resize_masks(masks: Tensor, size: Size) -> Tensor:
    """(..., H, W) bool to a size, by the nearest pixel."""
    flat = masks.reshape(-1, 1, *masks.shape[-2:]).float()
    return F.interpolate(flat, size=size).reshape(*masks.shape[:-2], *size) > 0.5


def original_masks(logits: Tensor, padded: Size, resized: Size, original: Size) -> Tensor:
    """Masks in the pixels of the video.

    Args:
        logits: (V, N, h, w) of the network.
        padded: size of the network's input.
        resized: size of the clip in it.
        original: size of the video.

    Returns:
        (V, N, H, W) bool. Logits are scaled up before the threshold, and the mask to the original size after it.
    """
    masks = resize_logits(logits, padded)[..., : resized[0], : resized[1]] > 0
    return resize_masks(masks, original)


def all_objects(
    output: MttrOutput, padded: Size, resized: Sequence[Size], original: Sequence[Size]
) -> list[tuple[Tensor, Tensor]]:
    """All objects of one frame of interest, as A2D- and JHMDB-Sentences are scored.

    Args:
        output: of B sentences in one frame.
        padded: size of the network's input.
        resized, original: B sizes, as of :func:`original_masks`.

    Returns:
        For each sentence scores (N,) and masks (N, H, W) bool.
    """
    return [
        (output.scores[0, b], original_masks(output.masks[-1, :1, b], padded, resized[b], original[b])[0])
        for b in range(output.scores.shape[1])
    ]


def chosen_object(
    output: MttrOutput, padded: Size, resized: Sequence[Size], original: Sequence[Size]
) -> list[tuple[int, Tensor, Tensor]]:
    """The object that each sentence means, by the mean of its scores over the frames, as Refer-YouTube-VOS is scored.

    Args:
        output: of B sentences.
        padded, resized, original: as of :func:`all_objects`.

    Returns:
        For each sentence the query; scores (V,) of its frames; and masks (V, H, W) bool, also in frames where the
        object may be gone: there the score is low.
    """
    found = []
    for b, query in enumerate(output.scores.mean(0).argmax(-1).tolist()):
        masks = original_masks(output.masks[-1, :, b, query, None], padded, resized[b], original[b])
        found.append((query, output.scores[:, b, query], masks[:, 0]))
    return found


def to_rgb(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) BGR to RGB or back."""
    return np.ascontiguousarray(image[..., ::-1])


def clip_tensor(images: Sequence[np.ndarray], size: Size) -> Tensor:
    """T frames (H, W, 3) uint8 RGB, each scaled to a size -> (T, 3, h, w) uint8."""
    return torch.from_numpy(np.stack([resize_frame(image, size) for image in images])).permute(0, 3, 1, 2)
