"""Clips with sentences: one item of training, a batch of them, and the synthetic data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from masa_track.errors import InputError, unknown_name
from masa_track.refer.matching import Target
from masa_track.refer.synthetic import KINDS, make_clip, mirrored_sentence
from masa_track.refer.tokens import Encode, token_rows

MEAN = (0.485, 0.456, 0.406)  # RGB in 0..1, of ImageNet
STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class SentenceClip:
    """A clip and sentences about its objects.

    Attributes:
        video: (T, 3, H, W) uint8 RGB.
        masks: (V, n, h, w) bool, of all annotated objects in the frames of interest; ``h`` and ``w`` are those of the
            video, or the video's divided by a whole number.
        sentences: at least one.
        referred: for each sentence the row of ``masks`` that it means.
        visible: (V, n) bool, whether each object is visible; None: in all frames.
        frames: V indices of the frames of interest; None: all.
    """

    video: Tensor
    masks: Tensor
    sentences: list[str]
    referred: list[int]
    visible: Tensor | None = None
    frames: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Batch:
    """Clips on a device, padded to one size.

    Attributes:
        videos: (C, 3, T, H, W) float32, normalised, zeros where padded.
        padding: (T, C, H, W) bool.
        ids: (B, S) int64.
        clips: (B,) int64, the clip of each sentence.
        targets: B.
        frames: of interest, the same in all clips; None: all.
    """

    videos: Tensor
    padding: Tensor
    ids: Tensor
    clips: Tensor
    targets: list[Target]
    frames: tuple[int, ...] | None


def normalised(video: Tensor) -> Tensor:
    """(T, 3, H, W) uint8 RGB -> (3, T, H, W) float32, by ImageNet's mean and standard deviation."""
    mean, std = (torch.tensor(v, device=video.device)[:, None, None] for v in (MEAN, STD))
    return ((video.float() / 255 - mean) / std).transpose(0, 1)


def make_batch(items: Sequence[SentenceClip], encode: Encode, positions: int, device: torch.device) -> Batch:
    """Puts items together; shorter and smaller clips are padded at the end, at the bottom and at the right.

    Args:
        items: at least one, all with the same frames of interest.
        encode: from a sentence to token ids.
        positions: of the text encoder.
        device: of the result.

    Raises:
        InputError: no item, frames of interest that differ, or a sentence that cannot be taken.
    """
    if not items:
        raise InputError("a batch must hold at least one clip, got none")
    if len({item.frames for item in items}) > 1:
        raise InputError("clips of a batch must have the same frames of interest: give one data set one window")
    time, height, width = (max(item.video.shape[axis] for item in items) for axis in (0, 2, 3))
    stride = items[0].video.shape[2] // items[0].masks.shape[2]
    frames = items[0].frames
    videos = torch.zeros((len(items), 3, time, height, width), device=device)
    padding = torch.ones((time, len(items), height, width), dtype=torch.bool, device=device)
    targets, sentences, clips = [], [], []
    for c, item in enumerate(items):
        t, _, h, w = item.video.shape
        videos[c, :, :t, :h, :w] = normalised(item.video.to(device))
        padding[:t, c, :h, :w] = False
        count = time if frames is None else len(frames)
        masks = torch.zeros(
            (count, item.masks.shape[1], -(-height // stride), -(-width // stride)), dtype=torch.bool, device=device
        )
        masks[: len(item.masks), :, : item.masks.shape[2], : item.masks.shape[3]] = item.masks.to(device)
        for sentence, referred in zip(item.sentences, item.referred, strict=True):
            visible = None
            if item.visible is not None or count > len(item.masks):
                visible = torch.zeros(count, dtype=torch.bool, device=device)
                known = True if item.visible is None else item.visible[:, referred].to(device)
                visible[: len(item.masks)] = known
            targets.append(Target(masks, referred, visible))
            sentences.append(sentence)
            clips.append(c)
    ids = token_rows(sentences, encode, positions).to(device)
    return Batch(videos, padding, ids, torch.tensor(clips, device=device), targets, frames)


def flipped(item: SentenceClip) -> SentenceClip:
    """The mirrored clip; the words left and right are exchanged in its sentences."""
    return replace(
        item,
        video=item.video.flip(-1),
        masks=item.masks.flip(-1),
        sentences=[mirrored_sentence(sentence) for sentence in item.sentences],
    )


class FlippedClips:
    """Flips a data set's items with probability one half; which ones depends on seed, epoch and item alone.

    Args:
        seed: of the choice.
        flip: probability.
    """

    def __init__(self, seed: int = 0, flip: float = 0.5) -> None:
        if not 0 <= flip <= 1:
            raise InputError(f"flip must be 0 to 1, got {flip!r}")
        self.seed, self.flip, self.epoch = seed, flip, 0

    def set_epoch(self, epoch: int) -> None:
        """The epoch that the next items are of."""
        self.epoch = epoch

    def maybe_flipped(self, item: SentenceClip, index: int) -> SentenceClip:
        """The item, or its mirror image."""
        draw = np.random.default_rng((self.seed, self.epoch, index)).uniform()
        return flipped(item) if draw < self.flip else item


class SyntheticClips(FlippedClips):
    """Clips of :mod:`synthetic`, each with all of its sentences.

    Args:
        parts: dicts with ``clips``, their number, and arguments of :func:`~masa_track.refer.synthetic.make_clip`; the
            clips of each part have the seeds 0, 1, ...
        mask_stride: masks are taken at every n-th pixel, to save time.
        seed, flip: see :class:`FlippedClips`.

    Raises:
        InputError: no part, or kinds that are not known.
    """

    def __init__(
        self, parts: Sequence[Mapping[str, Any]], mask_stride: int = 2, seed: int = 0, flip: float = 0.5
    ) -> None:
        super().__init__(seed, flip)
        if not parts or any(int(part.get("clips", 0)) < 1 for part in parts):
            raise InputError(f"parts must be dicts with clips of 1 or more, got {parts!r}")
        for part in parts:
            for kind in part.get("kinds", KINDS):
                if kind not in KINDS:
                    raise unknown_name("kind in parts", kind, KINDS)
        self.places = [
            (seed, {k: v for k, v in part.items() if k != "clips"}) for part in parts for seed in range(part["clips"])
        ]
        self.mask_stride = mask_stride

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> SentenceClip:
        seed, options = self.places[index]
        clip = make_clip(seed, **options)
        masks = clip.masks[:, :, :: self.mask_stride, :: self.mask_stride].transpose(1, 0, 2, 3)
        item = SentenceClip(
            torch.from_numpy(clip.video).permute(0, 3, 1, 2),
            torch.from_numpy(np.ascontiguousarray(masks)),
            clip.sentences,
            list(range(len(clip.sentences))),
        )
        return self.maybe_flipped(item, index)
