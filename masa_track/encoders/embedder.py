"""A model at work: frames and boxes in their own pixels in, embeddings out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from masa_track.association import AppearancePrior
from masa_track.boxes import check_boxes
from masa_track.contracts import Features
from masa_track.encoders.preprocessing import check_images
from masa_track.errors import InputError
from masa_track.models.checkpoints import checksum
from masa_track.models.devices import choose_device, choose_dtype
from masa_track.models.official_keys import LoadReport
from masa_track.registry import OWN, models_with


class Embedder:
    """A network with its preprocessing, on a device. Made by :func:`masa_track.load`.

    Args:
        network: a module with ``backbone_maps``, ``adapt``, ``embed`` and the input's facts, e.g.
            :class:`~masa_track.models.nano.Nano`; one with ``detect`` also finds boxes of its own.
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

    @cached_property
    def key(self) -> str:
        """Says whose features are: name, checksum of the weights, dtype; see :class:`masa_track.contracts.Embedder`.

        Computed when it is first needed; the weights must not be changed after that.
        """
        return f"{self.name}@{checksum(self.network)[:12]}/{str(self.dtype).removeprefix('torch.')}"

    @property
    def dimension(self) -> int:
        """D, the numbers in an embedding."""
        return int(self.network.dimension)

    @property
    def finds_boxes(self) -> bool:
        """Whether :meth:`detect` works: ``nano-untrained`` has no such head."""
        return hasattr(self.network, "detect")

    @torch.inference_mode()
    def encode(self, images: Sequence[np.ndarray]) -> list[Features]:
        """Runs the backbone, once for each picture. All that works on a picture can share its features.

        Pictures of one size go through in one pass, others in passes of their own: padding them alike would change
        their statistics. The maps of one pass stay in memory as long as the features of any of its pictures.

        Args:
            images: F pictures (H, W, 3) BGR uint8.

        Returns:
            The features of each.

        Raises:
            InputError: for a picture of another form.
        """
        check_images(images)
        inputs = [self._input(image) for image in images]
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for index, (image, _) in enumerate(inputs):
            by_shape.setdefault(tuple(image.shape), []).append(index)
        found: dict[int, Features] = {}
        for indices in by_shape.values():
            batch = torch.cat([inputs[i][0] for i in indices]).to(self.device, self.dtype)
            maps = self.network.backbone_maps(batch)
            for row, index in enumerate(indices):
                own = slice(row, row + 1)
                height, width = images[index].shape[:2]
                factors = inputs[index][1]
                inner = (round(height * float(factors[1])), round(width * float(factors[0])))
                encoded = EncodedPicture(batch[own], inner, factors, [level[own] for level in maps])
                found[index] = Features(self.key, (width, height), encoded)
        return [found[index] for index in range(len(images))]

    def encoded(self, features: Features) -> EncodedPicture:
        """What :meth:`encode` keeps of a picture.

        Raises:
            InputError: the features are of another model, other weights or another dtype.
        """
        features.check(self.key)
        return cast(EncodedPicture, features.data)

    @torch.inference_mode()
    def pyramid(self, frame: np.ndarray) -> list[Tensor]:
        """The feature maps of a (H, W, 3) BGR uint8 frame: one (1, C, H', W') a level."""
        return self._levels(self.encoded(self.encode([frame])[0]))

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
        return self.embed_batch([frame], [boxes])[0]

    def embed_batch(self, frames: Sequence[np.ndarray], boxes: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Embeddings of several frames' boxes, frames of one size in one pass of the backbone.

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
        check_images(frames)
        checked = [check_boxes(own) for own in boxes]
        looked_at = [index for index, own in enumerate(checked) if len(own)]
        result = [np.empty((0, self.dimension), np.float32) for _ in frames]
        for index, features in zip(looked_at, self.encode([frames[i] for i in looked_at]), strict=True):
            result[index] = self.embed_features(features, checked[index])
        return result

    @torch.inference_mode()
    def embed_features(self, features: Features, boxes: np.ndarray) -> np.ndarray:
        """Embeddings of boxes of a picture that is encoded.

        Args:
            features: of the picture, by :meth:`encode`.
            boxes: (N, 4) xyxy pixels of the picture; they may reach beyond it.

        Returns:
            (N, D) float32, as :meth:`embed` gives them.

        Raises:
            InputError: for features of another model, other weights or another dtype; for boxes as :meth:`embed`.
        """
        encoded = self.encoded(features)
        boxes = check_boxes(boxes)
        if len(boxes) == 0:
            return np.empty((0, self.dimension), np.float32)
        scaled = within_reach(boxes, features.size) * encoded.factors  # float32 whatever the network computes in
        own = torch.from_numpy(np.asarray(scaled, np.float32)).to(self.device)
        return self.network.embed(self._levels(encoded), [own]).float().cpu().numpy()

    def detect(self, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Class-agnostic boxes of the model's own head: "everything".

        Args:
            frame: (H, W, 3) BGR uint8.

        Returns:
            Boxes (N, 4) float32, xyxy pixels of the frame, and scores (N,) float32 in 0..1, best first.

        Raises:
            InputError: for a frame of another form, or a model without such a head.
        """
        self._check_finds_boxes()
        return self.detect_features(self.encode([frame])[0])

    @torch.inference_mode()
    def detect_features(self, features: Features) -> tuple[np.ndarray, np.ndarray]:
        """Class-agnostic boxes of a picture that is encoded.

        Args:
            features: of the picture, by :meth:`encode`.

        Returns:
            Boxes (N, 4) float32, xyxy pixels of the picture, and scores (N,) float32 in 0..1, best first.

        Raises:
            InputError: for features of another model, other weights or another dtype, or a model without such a head.
        """
        self._check_finds_boxes()
        encoded = self.encoded(features)
        ((boxes, scores),) = self.network.detect(self._levels(encoded), [encoded.size])
        return boxes.float().cpu().numpy() / encoded.factors, scores.float().cpu().numpy()

    def _check_finds_boxes(self) -> None:
        if not self.finds_boxes:
            raise InputError(
                f"the model {self.name!r} finds no boxes itself: load one of {', '.join(models_with(OWN))}"
            )

    def _input(self, frame: np.ndarray) -> tuple[Tensor, np.ndarray]:
        net = self.network
        short_side = getattr(net, "short_side", None)
        return to_input(frame, net.long_side, net.mean, net.std, net.size_divisor, short_side)

    def _levels(self, encoded: EncodedPicture) -> list[Tensor]:
        """The pyramid, made when it is first needed: a text detector that finds nothing needs none."""
        if encoded.levels is None:
            encoded.levels = self.network.adapt(encoded.maps)
        return encoded.levels


@dataclass
class EncodedPicture:
    """A picture after the backbone: ``Features.data`` of an :class:`Embedder`.

    Attributes:
        image: the input (1, 3, H, W), normalised and padded.
        size: (height, width) of the picture inside it, pixels.
        factors: (4,) float32, from xyxy pixels of the picture to the input's.
        maps: of the backbone, finest first.
        levels: the pyramid, once it was asked for.
    """

    image: Tensor
    size: tuple[int, int]
    factors: np.ndarray
    maps: list[Tensor]
    levels: list[Tensor] | None = None


def within_reach(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Boxes (N, 4) cut where they reach more than a picture beyond the picture: RoIAlign samples all they cover.

    Args:
        boxes: xyxy pixels.
        size: (width, height) of the picture.
    """
    side = np.array([*size, *size], np.float32)
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
