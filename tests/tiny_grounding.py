"""A model of three maps with a text detector on its backbone: small, with random weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

from masa_track.encoders.embedder import Embedder

CHANNELS = (16, 32, 64)
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "a", "red", "car", "dog"]


class TinyMasa(nn.Module):
    """Maps of strides 8, 16 and 32; its own boxes are four fixed shares of the picture."""

    mean = (127.5, 127.5, 127.5)
    std = (127.5, 127.5, 127.5)
    size_divisor = 32
    long_side = 96
    dimension = CHANNELS[0]

    def __init__(self) -> None:
        super().__init__()
        sizes = zip((3, *CHANNELS), CHANNELS, (8, 2, 2), strict=False)
        self.backbone = nn.ModuleList(nn.Conv2d(i, o, stride, stride) for i, o, stride in sizes)

    def backbone_maps(self, images: Tensor) -> list[Tensor]:
        maps = [images]
        for conv in self.backbone:
            maps.append(conv(maps[-1]).relu())
        return maps[1:]

    def adapt(self, maps: Sequence[Tensor]) -> list[Tensor]:
        return [level + 1 for level in maps]

    def embed(self, levels: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        found = roi_align(levels[0].float(), [own.float() for own in boxes], 2, 1 / 8, aligned=True)
        return found.mean(dim=(2, 3)).to(levels[0].dtype)

    def detect(self, levels: Sequence[Tensor], image_sizes: Sequence[tuple[int, int]]) -> list[tuple[Tensor, Tensor]]:
        shares = torch.tensor([[0, 0, 0.5, 0.5], [0.5, 0, 1, 0.5], [0, 0.5, 0.5, 1], [0.2, 0.2, 0.9, 0.9]])
        found = []
        for row, (height, width) in enumerate(image_sizes):
            boxes = shares * torch.tensor([width, height, width, height])
            scores = self.embed([level[row : row + 1] for level in levels], [boxes]).mean(dim=1).sigmoid()
            order = scores.argsort(descending=True)
            found.append((boxes[order], scores[order]))
        return found


def tiny_embedder(seed: int = 0, dtype: str | None = None) -> Embedder:
    """Named as the model that text prompts need."""
    torch.manual_seed(seed)
    return Embedder(TinyMasa(), "gdino-swinb", "cpu", dtype)


def tiny_text_detector(embedder: Embedder) -> Any:
    """Grounding DINO on the embedder's backbone, for the phrases "a red car" and "a dog"; all 20 queries are kept."""
    import transformers

    from masa_track.detectors.grounded import TextDetector

    torch.manual_seed(0)
    swin = transformers.SwinConfig(
        embed_dim=8, depths=[1] * 4, num_heads=[2] * 4, window_size=4, image_size=64, out_indices=[2, 3, 4]
    )
    bert = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    sizes = {"d_model": 32, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "encoder_layers": 1, "decoder_layers": 2}
    sizes |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "num_queries": 20}
    config = transformers.GroundingDinoConfig(backbone_config=swin, text_config=bert, **sizes)
    tokenizer = transformers.BertTokenizerFast(vocab={word: i for i, word in enumerate(WORDS)})
    network = transformers.GroundingDinoForObjectDetection(config)
    return TextDetector(embedder, network, tokenizer, "a red car. a dog", threshold=0.0)
