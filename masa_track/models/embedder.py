"""A model at work: frames and boxes in their own pixels in, embeddings out."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from masa_track.errors import InputError
from masa_track.models.preprocess import check_boxes, check_frame, to_input


class Embedder:
    """A network with its preprocessing, on a device. Made by :func:`masa_track.load`.

    Args:
        network: a module with ``pyramid``, ``embed`` and the input's facts, e.g. :class:`~masa_track.models.nano.Nano`.
        name: what it was loaded as.
        device: where it runs; None takes a GPU if there is one.
    """

    def __init__(self, network: nn.Module, name: str, device: str | torch.device | None = None) -> None:
        self.device = choose_device(device)
        network = network.eval().requires_grad_(False)
        self.network: Any = network.to(self.device, memory_format=torch.channels_last)  # a quarter faster on a CPU
        self.name = name

    @property
    def dimension(self) -> int:
        """D, the numbers in an embedding."""
        return int(self.network.dimension)

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
        scaled = torch.from_numpy(boxes * factors).to(levels[0])
        return self.network.embed(levels, [scaled]).float().cpu().numpy()

    def _pyramid(self, frame: np.ndarray) -> tuple[list[Tensor], np.ndarray]:
        check_frame(frame)
        net = self.network
        image, factors = to_input(frame, net.long_side, net.mean, net.std, net.size_divisor)
        return net.pyramid(image.to(self.device)), factors


def choose_device(device: str | torch.device | None) -> torch.device:
    """The device asked for, or the best there is.

    Raises:
        InputError: for a device that torch does not know or this machine does not have.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device {str(device)!r} cannot be used here ({reason}): cpu always can") from error
    return chosen
