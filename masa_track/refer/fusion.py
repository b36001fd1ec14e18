"""Attention over the tokens of a frame and the words: encoder, decoder, and the positions of the video tokens.

Source: Botach et al., End-to-End Referring Video Object Segmentation with Multimodal Transformers, CVPR 2022, after
Carion et al., DETR, ECCV 2020.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def sine_positions(padding: Tensor, width: int) -> Tensor:
    """Positions in the unpadded part of each map, from 0 to 2 pi along each axis, as sines and cosines.

    Args:
        padding: (R, h, w) bool, True where a map is padded.
        width: channels; rows take the first half, columns the second.

    Returns:
        (R, h, w, width) float32.
    """
    inside = (~padding).float()
    half = width // 2
    steps = 10000.0 ** (2 * (torch.arange(half, device=padding.device) // 2) / half)
    parts = []
    for axis in (1, 2):
        place = inside.cumsum(axis)
        last = place.narrow(axis, place.shape[axis] - 1, 1)
        angles = (place / (last + 1e-6) * (2 * math.pi))[..., None] / steps  # (R, h, w, half)
        parts.append(torch.stack((angles[..., 0::2].sin(), angles[..., 1::2].cos()), dim=-1).flatten(-2))
    return torch.cat(parts, dim=-1)


class EncoderLayer(nn.Module):
    """Self-attention, then two linear layers, each with a residual and a norm after it.

    Args:
        width: channels.
        heads: of the attention.
        hidden: channels between the linear layers.
        dropout: probability.
    """

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, positions: Tensor, padding: Tensor) -> Tensor:
        """``x``, ``positions`` (R, M, d); ``padding`` (R, M) bool -> (R, M, d)."""
        placed = x + positions
        attended = self.self_attn(placed, placed, x, key_padding_mask=padding, need_weights=False)[0]
        x = self.norm1(x + self.dropout(attended))
        return self.norm2(x + self.dropout(self.linear2(self.dropout(F.relu(self.linear1(x))))))


class DecoderLayer(nn.Module):
    """Self-attention of the queries, attention to the memory, two linear layers; arguments as :class:`EncoderLayer`."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.multihead_attn = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, queries: Tensor, memory: Tensor, keys: Tensor, padding: Tensor) -> Tensor:
        """``x``, ``queries`` (R, N, d); ``memory``, ``keys`` (memory + positions) (R, M, d) -> (R, N, d)."""
        placed = x + queries
        x = self.norm1(x + self.dropout(self.self_attn(placed, placed, x, need_weights=False)[0]))
        attended = self.multihead_attn(x + queries, keys, memory, key_padding_mask=padding, need_weights=False)[0]
        x = self.norm2(x + self.dropout(attended))
        return self.norm3(x + self.dropout(self.linear2(self.dropout(F.relu(self.linear1(x))))))


class Encoder(nn.Module):
    """``layers`` blocks over the video tokens of a frame and the words; other arguments as :class:`EncoderLayer`."""

    def __init__(self, layers: int, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(width, heads, hidden, dropout) for _ in range(layers))
        _xavier(self)

    def forward(self, x: Tensor, positions: Tensor, padding: Tensor) -> Tensor:
        """As :meth:`EncoderLayer.forward`."""
        for layer in self.layers:
            x = layer(x, positions, padding)
        return x


class Decoder(nn.Module):
    """``layers`` blocks, whose results share one norm; other arguments as :class:`DecoderLayer`."""

    def __init__(self, layers: int, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(width, heads, hidden, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        _xavier(self)

    def forward(self, queries: Tensor, memory: Tensor, positions: Tensor, padding: Tensor) -> Tensor:
        """The result of each block.

        Args:
            queries: (R, N, d), the same in each frame; the content starts at zeros.
            memory, positions: (R, M, d) of the encoder.
            padding: (R, M) bool.

        Returns:
            (L, R, N, d).
        """
        x, keys, results = torch.zeros_like(queries), memory + positions, []
        for layer in self.layers:
            x = layer(x, queries, memory, keys, padding)
            results.append(self.norm(x))
        return torch.stack(results)


def _xavier(module: nn.Module) -> None:
    for parameter in module.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
