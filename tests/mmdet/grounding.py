"""Grounding DINO without its text encoder, which would have to be fetched: one of two layers stands in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from masa_track.integrations.mmdet.masa import detector_config


def tiny_bert(folder: Path) -> None:
    """A text encoder of two layers with random weights and a small vocabulary, in a folder as the hub has it."""
    from transformers import BertConfig, BertModel, BertTokenizer

    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "?", "a", "person", "dog", "cat"]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    small = BertConfig(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    )
    BertModel(small, add_pooling_layer=False).save_pretrained(folder)


def smaller_grounding(name: str, bert: Path) -> Any:
    """mmdet's Grounding DINO configuration with that text encoder."""
    config = detector_config(name)
    config.language_model.name = str(bert)
    return config
