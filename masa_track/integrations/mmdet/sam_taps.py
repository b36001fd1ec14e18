"""SAM's image encoder as segment-anything has it, neck included, that gives the maps MASA reads instead of its own.

The twin of :class:`~masa_track.models.sam_vit.SamTaps` for those whose checkpoints hold a whole SAM: its parameters
have segment-anything's names. Imports segment-anything.
"""

from __future__ import annotations

from collections.abc import Sequence

from segment_anything.modeling import ImageEncoderViT
from torch import Tensor

from masa_track.models.sam_vit import STRIDE, encoder_options, tapped


class TappedEncoder(ImageEncoderViT):
    """SAM's image encoder, giving the outputs of some of its blocks; see :class:`~masa_track.models.sam_vit.SamTaps`.

    Args:
        dim: width of the encoder.
        depth: its blocks.
        heads: its attention heads.
        taps: blocks whose output is given; they are also the ones with global attention.
    """

    def __init__(self, dim: int, depth: int, heads: int, taps: Sequence[int]) -> None:
        super().__init__(**encoder_options(dim, depth, heads, taps))
        self.taps = tuple(taps)
        self.channels = (dim,) * len(self.taps)
        self.reduction = (STRIDE,) * len(self.taps)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps of ``images`` (B, 3, 1024, 1024), normalised: (B, dim, 64, 64) after each tapped block."""
        return tapped(self, images, self.taps)
