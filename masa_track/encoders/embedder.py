"""A torch network at work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from masa_track.contracts import Features
from masa_track.encoders.base import BaseEmbedder
from masa_track.encoders.masked import filled, masked_window
from masa_track.encoders.preprocessing import check_images, to_input, within_reach
from masa_track.models.checkpoints import checksum
from masa_track.models.devices import choose_device, choose_dtype
from masa_track.models.official_keys import LoadReport
from masa_track.registry import Preprocessing


class Embedder(BaseEmbedder):
    """A torch network with its preprocessing, on a device. Made by :func:`masa_track.load`.

    Args:
        network: a module with ``backbone_maps``, ``adapt``, ``embed`` and the input's facts, e.g.
            :class:`~masa_track.models.nano.Nano`; one with ``detect`` also finds boxes of its own.
        name: what it was loaded as.
        device: where it runs; None takes a GPU if there is one.
        dtype: what it computes in, e.g. ``torch.float16`` on a GPU; embeddings are float32 all the same.
        report: what became of the keys of an official checkpoint, where it was loaded from one.
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
        preprocessing = Preprocessing.of(self.network)
        inputs = [to_input(image, preprocessing) for image in images]
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for index, (image, _, _) in enumerate(inputs):
            by_shape.setdefault(image.shape, []).append(index)
        found: dict[int, Features] = {}
        for indices in by_shape.values():
            batch = torch.cat([torch.from_numpy(inputs[i][0]) for i in indices]).to(self.device, self.dtype)
            maps = self.network.backbone_maps(batch)
            for row, index in enumerate(indices):
                own = slice(row, row + 1)
                height, width = images[index].shape[:2]
                _, factors, inner = inputs[index]
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

    @torch.inference_mode()
    def _embed(self, features: Features, boxes: np.ndarray) -> np.ndarray:
        encoded = cast(EncodedPicture, features.data)
        scaled = within_reach(boxes, features.size) * encoded.factors  # float32 whatever the network computes in
        own = torch.from_numpy(np.asarray(scaled, np.float32)).to(self.device)
        return self.network.embed(self._levels(encoded), [own]).float().cpu().numpy()

    @torch.inference_mode()
    def _embed_masked(self, features: Features, box: np.ndarray, mask: np.ndarray) -> np.ndarray | None:
        encoded = cast(EncodedPicture, features.data)
        height, width = encoded.image.shape[2:]
        scaled = within_reach(box[None], features.size)[0] * encoded.factors
        found = masked_window(mask, scaled, encoded.factors, (width, height))
        if found is None:
            return None

        def as_level(weights: np.ndarray) -> Tensor:
            return torch.from_numpy(weights).to(self.device, self.dtype)

        levels = [filled(level, *found, width / level.shape[3], as_level) for level in self._levels(encoded)]
        own = torch.from_numpy(np.asarray(scaled - np.tile(found[0][:2], 2), np.float32)[None]).to(self.device)
        return self.network.embed(levels, [own])[0].float().cpu().numpy()

    @torch.inference_mode()
    def _detect(self, features: Features) -> tuple[np.ndarray, np.ndarray]:
        encoded = cast(EncodedPicture, features.data)
        ((boxes, scores),) = self.network.detect(self._levels(encoded), [encoded.size])
        return boxes.float().cpu().numpy() / encoded.factors, scores.float().cpu().numpy()

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
