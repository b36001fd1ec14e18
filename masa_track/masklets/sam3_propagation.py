"""The propagator of SAM 3: the kind of networks that SAM 2 has, on the vision encoder that the detector uses, too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from masa_track.masklets.sam2 import Maps, Sam2Network
from masa_track.masklets.session import MaskletSession, SessionOptions

if TYPE_CHECKING:
    from masa_track.masklets.sam3 import Sam3Network

# As officially, the 4 nearest of the conditioning frames are attended to. A session also keeps the first one.
_OPTIONS = SessionOptions(
    max_prompted_frames=5, max_attended_prompts=4, corrections_are_prompts=True, memory="visible", logits=True
)


@dataclass(frozen=True)
class Sam3Maps(Maps):
    """What propagator and detector need of a picture.

    Attributes:
        vision: output of the vision encoder, for the detector.
    """

    vision: Any


class Sam3PropagationNetwork(Sam2Network):
    """Memory attention, mask decoder and memory encoder of SAM 3. A cell of the coarsest map has 14 pixels.

    Args:
        model: transformers' ``Sam3TrackerVideoModel`` without a vision encoder.
        neck: makes maps of the vision encoder's tokens, ``Sam3VideoModel.tracker_neck``.
        owner: encodes the pictures.
        dtype: of the weights.
    """

    def __init__(self, model: Any, neck: nn.Module, owner: Sam3Network, dtype: torch.dtype) -> None:
        self.neck, self.owner = neck, owner
        super().__init__(model, owner.name, dtype)

    def _neck(self) -> Any:
        return self.neck

    @property
    def key(self) -> str:
        """The owner's: features are for both."""
        return self.owner.key

    def prepare(self, image: np.ndarray) -> Tensor:
        """As the owner does."""
        return self.owner.prepare(image)

    def encode(self, pixels: Tensor) -> Maps:
        """The vision encoder, with the necks of both."""
        return self.maps(self.owner.vision(pixels))

    def maps(self, vision: Any) -> Sam3Maps:
        """The maps of the mask decoder and of memory attention.

        Args:
            vision: output of the vision encoder.
        """
        square = vision.last_hidden_state.reshape(1, self.grid, self.grid, -1).permute(0, 3, 1, 2)
        levels, _ = self.neck(square)
        first, second, coarse = (level.to(self.dtype) for level in levels[:3])
        decoder = self.model.mask_decoder
        return Sam3Maps((decoder.conv_s0(first), decoder.conv_s1(second)), coarse, vision)

    def session(self) -> MaskletSession:
        """A propagator without objects, which chooses as officially what it remembers."""
        return MaskletSession(self, _OPTIONS)
