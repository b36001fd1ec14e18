"""A model at work: frames and boxes in their own pixels in, embeddings out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from masa_track.association import AppearancePrior
from masa_track.boxes import check_boxes
from masa_track.encoders.preprocessing import check_frame
from masa_track.errors import InputError
from masa_track.models.devices import choose_device, choose_dtype
from masa_track.models.official_keys import LoadReport


class Embedder:
    """A network with its preprocessing, on a device. Made by :func:`masa_track.load`.

    Args:
        network: a module with ``pyramid``, ``embed`` and the input's facts, e.g. :class:`~masa_track.models.nano.Nano`;
            one with ``detect`` also finds boxes of its own.
        name: what it was loaded as.
        device: where it runs; None takes a GPU if there is one.
        dtype: what it computes in, e.g. ``torch.float16`` on a GPU; embeddings are float32 all the same.
        report: what became of the keys of an official checkpoint, where it was loaded from one.

    Attributes:
        checkpoint: the file it was loaded from, where :func:`masa_track.load` made it.
        prior: the cosines to expect of its embeddings; None where they are not known.
    """

    def __init__(
        self,
        network: nn.Module,
        name: str,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        report: LoadReport | None = None,
    ) -> None:
        self.device, self.dtype = choose_device(device), choose_dtype(dtype)
        placed = cast(Any, network.eval().requires_grad_(False).to(self.device, self.dtype))
        self.network: Any = placed.to(memory_format=torch.channels_last)  # a quarter faster on a CPU
        self.name, self.report = name, report
        self.checkpoint: Path | None = None
        self.prior: AppearancePrior | None = None
        self._last: tuple[bytes, Backbone] | None = None

    @property
    def dimension(self) -> int:
        """D, the numbers in an embedding."""
        return int(self.network.dimension)

    @property
    def finds_boxes(self) -> bool:
        """Whether :meth:`detect` works: ``nano-untrained`` has no such head."""
        return hasattr(self.network, "detect")

    @torch.inference_mode()
    def pyramid(self, frame: np.ndarray) -> list[Tensor]:
        """The feature maps of a (H, W, 3) BGR uint8 frame: one (1, C, H', W') a level."""
        return self._pyramid(frame)[0]

    @torch.inference_mode()
    def embed(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Embeddings of boxes.

        Args:
            frame: (H, W, 3) BGR uint8.
            boxes: (N, 4) xyxy pixels of the frame; they may reach beyond it.

        Returns:
            (N, D) float32, not normalised. With no box, (0, D), and the network is not run.

        Raises:
            InputError: for a frame or boxes of another form, NaN, or inverted boxes.
        """
        check_frame(frame)
        boxes = check_boxes(boxes)
        if len(boxes) == 0:
            return np.empty((0, self.dimension), np.float32)
        levels, factors = self._pyramid(frame)
        return self._embed(levels, [within_reach(boxes, frame) * factors])

    @torch.inference_mode()
    def embed_batch(self, frames: Sequence[np.ndarray], boxes: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Embeddings of several frames' boxes, frames of one size in one pass.

        Frames of other sizes go in passes of their own: padding them alike would change their statistics.

        Args:
            frames: F frames (H, W, 3) BGR uint8.
            boxes: F arrays (N_f, 4), xyxy pixels of their frame.

        Returns:
            F arrays (N_f, D) float32, as :meth:`embed` gives them one by one.

        Raises:
            InputError: as :meth:`embed`, or if there are not as many boxes as frames.
        """
        if len(frames) != len(boxes):
            raise InputError(f"boxes must be one array a frame, got {len(boxes)} for {len(frames)} frames")
        for frame in frames:
            check_frame(frame)
        checked = [within_reach(check_boxes(own), frame) for own, frame in zip(boxes, frames, strict=True)]
        result = [np.empty((0, self.dimension), np.float32) for _ in frames]
        by_shape: dict[tuple[int, ...], list[int]] = {}
        inputs: dict[int, tuple[Tensor, np.ndarray]] = {}
        for index, frame in enumerate(frames):
            if len(checked[index]):
                inputs[index] = self._input(frame)
                by_shape.setdefault(tuple(inputs[index][0].shape), []).append(index)
        for indices in by_shape.values():
            images = torch.cat([inputs[i][0] for i in indices]).to(self.device, self.dtype)
            embeddings = self._embed(self.network.pyramid(images), [checked[i] * inputs[i][1] for i in indices])
            ends = np.cumsum([len(checked[i]) for i in indices])[:-1]
            for index, own in zip(indices, np.split(embeddings, ends), strict=True):
                result[index] = own
        return result

    @torch.inference_mode()
    def detect(self, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Class-agnostic boxes of the model's own head: "everything".

        A call of :meth:`embed` with the same frame right after it does not run the backbone again.

        Args:
            frame: (H, W, 3) BGR uint8.

        Returns:
            Boxes (N, 4) float32, xyxy pixels of the frame, and scores (N,) float32 in 0..1, best first.

        Raises:
            InputError: for a frame of another form, or a model without such a head.
        """
        if not self.finds_boxes:
            raise InputError(
                f"the model {self.name!r} finds no boxes itself: load 'nano' or one of the official models"
            )
        levels, factors = self._pyramid(frame)
        ((boxes, scores),) = self.network.detect(levels, [self.backbone(frame).size])
        return boxes.float().cpu().numpy() / factors, scores.float().cpu().numpy()

    def _embed(self, levels: list[Tensor], boxes: list[np.ndarray]) -> np.ndarray:
        """Embeddings of boxes that are in the input's pixels; boxes stay float32 whatever the network computes in."""
        own = [torch.from_numpy(np.asarray(b, np.float32)).to(self.device) for b in boxes]
        return self.network.embed(levels, own).float().cpu().numpy()

    def _input(self, frame: np.ndarray) -> tuple[Tensor, np.ndarray]:
        net = self.network
        short_side = getattr(net, "short_side", None)
        return to_input(frame, net.long_side, net.mean, net.std, net.size_divisor, short_side)

    def _pyramid(self, frame: np.ndarray) -> tuple[list[Tensor], np.ndarray]:
        """Levels of a frame, and the factors from its pixels to the input's."""
        if self.finds_boxes:
            given = self.backbone(frame)
            if given.levels is None:
                given.levels = self.network.adapt(given.maps)
            return given.levels, given.factors
        check_frame(frame)
        image, factors = self._input(frame)
        return self.network.pyramid(image.to(self.device, self.dtype)), factors

    @torch.inference_mode()
    def backbone(self, frame: np.ndarray) -> Backbone:
        """The backbone's maps of a frame, for models that find boxes themselves. Those of the last frame are kept.

        So :meth:`detect`, a text detector on the same backbone, and :meth:`embed` run it once for a frame. Frames are
        told apart by their content, for cameras reuse their buffer.
        """
        check_frame(frame)
        key = blake2b(np.ascontiguousarray(frame).data, digest_size=16, key=str(frame.shape).encode()).digest()
        if self._last is None or self._last[0] != key:
            self._last = None  # frees the memory before the next maps are made
            image, factors = self._input(frame)
            image = image.to(self.device, self.dtype)
            height, width = frame.shape[:2]
            size = (round(height * float(factors[1])), round(width * float(factors[0])))
            self._last = (key, Backbone(image, size, factors, self.network.backbone_maps(image)))
        return self._last[1]


@dataclass
class Backbone:
    """A frame after the backbone.

    Attributes:
        image: the input (1, 3, H, W), normalised and padded.
        size: (height, width) of the picture inside it, pixels.
        factors: (4,) float32, from xyxy pixels of the frame to the input's.
        maps: of the backbone, finest first.
        levels: the pyramid, once it was asked for.
    """

    image: Tensor
    size: tuple[int, int]
    factors: np.ndarray
    maps: list[Tensor]
    levels: list[Tensor] | None = None


def within_reach(boxes: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Boxes (N, 4) cut where they reach more than a picture beyond the picture: RoIAlign samples all they cover."""
    height, width = frame.shape[:2]
    side = np.array([width, height, width, height], np.float32)
    return boxes.clip(-side, 2 * side)


def to_input(
    frame: np.ndarray,
    long_side: int,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    size_divisor: int,
    short_side: int | None = None,
) -> tuple[Tensor, np.ndarray]:
    """A network's input.

    Args:
        frame: (H, W, 3) BGR uint8.
        long_side: pixels that the longer side is scaled to.
        mean, std: RGB, in 0..255.
        size_divisor: the right and the bottom are padded with zeros (after normalising) up to multiples of it.
        short_side: pixels that the shorter side may have at most; None for any.

    Returns:
        The input (1, 3, H', W') float32, and the (4,) float32 factors that bring xyxy pixels of the frame into it.
    """
    height, width = frame.shape[:2]
    scale = long_side / max(height, width)
    if short_side is not None:
        scale = min(scale, short_side / min(height, width))
    new_width, new_height = max(1, int(width * scale + 0.5)), max(1, int(height * scale + 0.5))
    resized = cv2.resize(frame, (new_width, new_height), interpolation=cv2.INTER_LINEAR)
    padded_size = [-(-side // size_divisor) * size_divisor for side in (new_height, new_width)]
    image = torch.zeros((1, 3, *padded_size)).contiguous(memory_format=torch.channels_last)
    inner = image[0, :, :new_height, :new_width].permute(1, 2, 0)  # (H, W, 3)
    inner.copy_(torch.from_numpy(np.ascontiguousarray(resized[..., ::-1])))
    inner.sub_(torch.tensor(mean)).div_(torch.tensor(std))
    factors = np.array([new_width / width, new_height / height] * 2, np.float32)
    return image, factors
