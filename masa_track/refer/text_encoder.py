"""A sentence to vectors of its tokens: transformers' RoBERTa, then a projection to the width of the network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from masa_track.refer.settings import TextSettings
from masa_track.refer.tokens import PAD

if TYPE_CHECKING:
    from transformers import RobertaModel


def build_roberta(settings: TextSettings) -> RobertaModel:
    """RoBERTa without its pooler, with random weights; the defaults of ``RobertaConfig`` are not roberta-base."""
    from transformers import RobertaConfig, RobertaModel

    config = RobertaConfig(
        vocab_size=settings.vocabulary,
        hidden_size=settings.width,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        intermediate_size=settings.hidden,
        max_position_embeddings=settings.positions,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        pad_token_id=PAD,
        hidden_dropout_prob=settings.dropout,
        attention_probs_dropout_prob=settings.dropout,
        initializer_range=settings.deviation,
    )
    roberta = RobertaModel(config, add_pooling_layer=False)
    nn.init.normal_(roberta.embeddings.word_embeddings.weight, std=settings.table_deviation)
    return roberta


def encode_text(roberta: RobertaModel, ids: Tensor, frozen: bool) -> Tensor:
    """The vectors of the tokens.

    Args:
        roberta: the encoder.
        ids: (B, S) int64, padded with :data:`~masa_track.refer.tokens.PAD` at the right.
        frozen: without gradients.

    Returns:
        (B, S, C).
    """
    with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
        hidden: Tensor = roberta(input_ids=ids, attention_mask=(ids != PAD).long()).last_hidden_state
    return hidden


class TextProjection(nn.Module):
    """Linear layer, layer norm and dropout.

    Args:
        channels: of the text encoder.
        width: of the network.
        dropout: probability.
    """

    def __init__(self, channels: int, width: int, dropout: float) -> None:
        super().__init__()
        self.fc = nn.Linear(channels, width)
        self.layer_norm = nn.LayerNorm(width, eps=1e-12)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        """``hidden`` (B, S, C) -> (B, S, width)."""
        projected: Tensor = self.dropout(self.layer_norm(self.fc(hidden)))
        return projected
