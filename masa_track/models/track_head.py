"""The track head: one embedding of 256 numbers for every box.

Source: Pang et al., Quasi-Dense Similarity Learning, CVPR 2021 (``QuasiDenseEmbedHead``), as MASA uses it.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from masa_track.models.conv_norm import ConvNorm
from masa_track.models.roi import ROI_SIZE, roi_features


class EmbedHead(nn.Module):
    """Four 3x3 convolutions with group norm, a fully connected layer, and a linear map to the embedding."""

    def __init__(self, channels: int = 256, hidden: int = 1024, embed_dim: int = 256, convs: int = 4) -> None:
        super().__init__()
        self.convs = nn.ModuleList(ConvNorm(channels, channels, 3, "gn", relu=True) for _ in range(convs))
        self.fcs = nn.ModuleList([nn.Linear(channels * ROI_SIZE**2, hidden)])
        self.fc_embed = nn.Linear(hidden, embed_dim)

    def forward(self, features: Tensor) -> Tensor:
        """``features`` (N, C, 7, 7). Returns (N, embed_dim), not normalised."""
        x = features
        for conv in self.convs:
            x = conv(x)
        x = x.flatten(1)  # (N, 256 * 7 * 7)
        for fc in self.fcs:
            x = fc(x).relu()
        return self.fc_embed(x)


class TrackHead(nn.Module):
    """RoIAlign and :class:`EmbedHead`, kept as ``embed_head``.

    Args:
        strides: pixels of the input per pixel of each level that boxes are read from.
    """

    def __init__(self, strides: Sequence[int]) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.embed_head = EmbedHead()

    def forward(self, levels: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """Embeddings of boxes.

        Args:
            levels: pyramid (B, C, H_i, W_i), finest first.
            boxes: B tensors (N_b, 4), xyxy pixels of the input.

        Returns:
            (sum N_b, 256) of the levels' type, not normalised, in the order of the boxes.
        """
        return self.embed_head(roi_features(levels, boxes, self.strides))
