"""Four maps from inside SAM's image encoder: the backbone of the official ``sam-vitb`` and ``sam-vith``.

Source: Kirillov et al., Segment Anything, ICCV 2023; the encoder is segment-anything's own (Apache-2.0), read after
four of its blocks, before its neck.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from masa_track.errors import InputError, missing_extra

IMAGE_SIDE = 1024  # pixels: the encoder's positions are learnt for this square
STRIDE = 16


class SamTaps(nn.Module):
    """SAM's image encoder, giving the outputs of some of its blocks.

    The encoder's neck is dropped: MASA reads before it.

    Args:
        dim: width of the encoder.
        depth: its blocks.
        heads: its attention heads.
        taps: blocks whose output is given; they are also the ones with global attention.

    Raises:
        InputError: if segment-anything is not installed.
    """

    def __init__(self, dim: int, depth: int, heads: int, taps: Sequence[int]) -> None:
        super().__init__()
        try:
            from segment_anything.modeling import ImageEncoderViT
        except ImportError as error:
            raise missing_extra("segment-anything", "sam") from error
        self.encoder = ImageEncoderViT(**encoder_options(dim, depth, heads, taps))
        self.encoder.neck = nn.Identity()
        self.taps = tuple(taps)
        self.channels = (dim,) * len(self.taps)
        self.reduction = (STRIDE,) * len(self.taps)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps of ``images`` (B, 3, 1024, 1024), normalised: (B, dim, 64, 64) after each tapped block.

        Raises:
            InputError: if the images have another size.
        """
        return tapped(self.encoder, images, self.taps)


def encoder_options(dim: int, depth: int, heads: int, taps: Sequence[int]) -> dict[str, Any]:
    """What segment-anything's encoder is built with, as SAM's published sizes are; arguments as of :class:`SamTaps`."""
    return {
        "img_size": IMAGE_SIDE,
        "patch_size": STRIDE,
        "embed_dim": dim,
        "depth": depth,
        "num_heads": heads,
        "norm_layer": partial(nn.LayerNorm, eps=1e-6),
        "use_rel_pos": True,
        "window_size": 14,
        "global_attn_indexes": tuple(taps),
    }


def tapped(encoder: Any, images: Tensor, taps: Sequence[int]) -> list[Tensor]:
    """The outputs of the blocks ``taps`` of segment-anything's encoder; see :meth:`SamTaps.forward`."""
    if images.shape[-2:] != (IMAGE_SIDE, IMAGE_SIDE):
        raise InputError(
            f"images must be (B, 3, {IMAGE_SIDE}, {IMAGE_SIDE}) for a SAM model, got {tuple(images.shape)}: "
            "pad with zeros at the right and the bottom"
        )
    x = encoder.patch_embed(images) + encoder.pos_embed  # (B, 64, 64, dim)
    maps = []
    for index, block in enumerate(encoder.blocks[: taps[-1] + 1]):
        x = block(x)
        if index in taps:
            maps.append(x.permute(0, 3, 1, 2))
    return maps
