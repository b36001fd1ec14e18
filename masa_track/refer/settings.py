"""The sizes of an MTTR network, as numbers that a weights file can keep."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from masa_track.errors import InputError, unknown_name

VIDEO_ENCODERS = ("swin", "conv")


@dataclass(frozen=True)
class TextSettings:
    """Sizes of the RoBERTa encoder; the defaults are ``roberta-base``.

    Attributes:
        vocabulary: number of token ids.
        width: channels of a token.
        layers, heads: of the encoder.
        hidden: channels between the two linear layers of a block.
        positions: of the table; a sentence may have two tokens fewer.
        dropout: probability.
        deviation: standard deviation of random linear layers, for training without weights to start from.
        table_deviation: the same of the table of words. With 0.125 in place of 1 the tiny network had not learnt
            motion after 450 steps: 100 steps at the rate 1e-3 make words alike that are so close.
    """

    vocabulary: int = 50265
    width: int = 768
    layers: int = 12
    heads: int = 12
    hidden: int = 3072
    positions: int = 514
    dropout: float = 0.1
    deviation: float = 0.02
    table_deviation: float = 0.02


@dataclass(frozen=True)
class MttrSettings:
    """Sizes of the network; the defaults are those of the published checkpoints.

    Attributes:
        video: ``swin`` (Video Swin) or ``conv``, a small stack of convolutions for tests.
        embed: channels of the first map of Video Swin; doubled at each stage.
        depths, heads: of the four stages of Video Swin, of which three are used.
        window: frames, rows and columns of an attention window of Video Swin, in patches.
        conv_widths: channels of the three maps of ``conv``.
        text: sizes of the text encoder.
        width: channels that video and text share; a multiple of 64.
        attention_heads: of encoder and decoder.
        feed_forward: channels between the two linear layers of a block of encoder and decoder.
        encoder_layers, decoder_layers: numbers of blocks.
        queries: N, the largest number of objects.
        kernel: channels of pixels and kernels.
        dropout: probability, of encoder and decoder.
        drop_path: largest probability that a block of Video Swin is left out in training.
    """

    video: str = "swin"
    embed: int = 96
    depths: tuple[int, ...] = (2, 2, 6, 2)
    heads: tuple[int, ...] = (3, 6, 12, 24)
    window: tuple[int, ...] = (8, 7, 7)
    conv_widths: tuple[int, ...] = (24, 48, 72)
    text: TextSettings = field(default_factory=TextSettings)
    width: int = 256
    attention_heads: int = 8
    feed_forward: int = 2048
    encoder_layers: int = 3
    decoder_layers: int = 3
    queries: int = 50
    kernel: int = 8
    dropout: float = 0.1
    drop_path: float = 0.1

    def __post_init__(self) -> None:
        if self.video not in VIDEO_ENCODERS:
            raise unknown_name("video", self.video, VIDEO_ENCODERS)
        if self.width % 64 or self.width < 64:
            raise InputError(f"width must be a multiple of 64 (group norm has 8 groups of width / 8), got {self.width}")

    @property
    def map_channels(self) -> tuple[int, ...]:
        """Channels of the maps at a fourth, an eighth and a sixteenth of the size."""
        return tuple(self.embed * 2**stage for stage in range(3)) if self.video == "swin" else self.conv_widths

    def as_json(self) -> str:
        """For the metadata of a weights file; :func:`settings_from` reads it."""
        return json.dumps(asdict(self), sort_keys=True)


# Learns the synthetic data set in minutes on a CPU; the vocabulary is that of `synthetic.WORDS`.
TINY = MttrSettings(
    video="conv",
    text=TextSettings(
        vocabulary=20,
        width=64,
        layers=1,
        heads=4,
        hidden=256,
        positions=34,
        dropout=0.0,
        deviation=0.125,
        table_deviation=1.0,
    ),
    width=64,
    attention_heads=4,
    feed_forward=256,
    encoder_layers=2,
    decoder_layers=2,
    queries=8,
    dropout=0.0,
    drop_path=0.0,
)
PRESETS = {"mttr": MttrSettings(), "tiny": TINY}


def settings_from(value: str | Mapping[str, Any] | MttrSettings) -> MttrSettings:
    """Settings by the name of a preset, from json, or from a dict of fields.

    Args:
        value: a name of :data:`PRESETS`; what :meth:`MttrSettings.as_json` wrote; or a dict of fields, which may have
            ``type``, the preset whose other fields are kept.

    Raises:
        InputError: there is no such preset or field.
    """
    if isinstance(value, MttrSettings):
        return value
    if isinstance(value, str) and not value.startswith("{"):
        if value not in PRESETS:
            raise unknown_name("network", value, PRESETS)
        return PRESETS[value]
    given = dict(json.loads(value) if isinstance(value, str) else value)
    start = settings_from(str(given.pop("type", "mttr")))
    text = given.pop("text", {})
    for name, known in ((given, MttrSettings), (text, TextSettings)):
        for key in name:
            names = [f.name for f in fields(known)]
            if key not in names:
                raise unknown_name("key of network", key, names)
    given = {key: tuple(v) if isinstance(v, list) else v for key, v in given.items()}
    return replace(start, text=replace(start.text, **text), **given)
