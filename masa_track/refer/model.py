"""MTTR: a clip and sentences to sequences of masks, each with the probability that the sentence refers to it.

Source: Botach et al., End-to-End Referring Video Object Segmentation with Multimodal Transformers, CVPR 2022. Rows of a
joined axis of frames and sentences are ``frame * B + sentence``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from masa_track.errors import InputError
from masa_track.refer.fusion import Decoder, Encoder, sine_positions
from masa_track.refer.pixels import KernelHead, PixelDecoder
from masa_track.refer.settings import MttrSettings
from masa_track.refer.text_encoder import TextProjection, build_roberta, encode_text
from masa_track.refer.tokens import PAD
from masa_track.refer.video_encoders import build_video_encoder


@dataclass(frozen=True)
class MttrOutput:
    """What the network says of B sentences in V frames; query n of all frames is one object.

    Attributes:
        masks: (L, V, B, N, h, w) logits of each of the L decoder layers, at a fourth of the clip's size.
        referred: (L, V, B, N, 2) logits: referred, not referred.
        queries: (V, B, N, d) vectors of the last decoder layer.
    """

    masks: Tensor
    referred: Tensor
    queries: Tensor

    @property
    def scores(self) -> Tensor:
        """(V, B, N) probability of the last layer that the sentence refers to the object."""
        return self.referred[-1].softmax(-1)[..., 0]


@dataclass(frozen=True)
class VideoMaps:
    """What the video encoder made of clips; it does not depend on the sentences.

    Attributes:
        maps: three (V, B, C, h, w) at a fourth, an eighth and a sixteenth of the size.
        paddings: three (V, B, h, w) bool, True where a clip was padded.
    """

    maps: tuple[Tensor, ...]
    paddings: tuple[Tensor, ...]

    def of(self, clips: Tensor | Sequence[int]) -> VideoMaps:
        """The maps of some of the clips, in that order, any of them several times."""
        index = torch.as_tensor(clips, device=self.maps[0].device)
        return VideoMaps(tuple(m[:, index] for m in self.maps), tuple(p[:, index] for p in self.paddings))


class Mttr(nn.Module):
    """The network.

    Args:
        settings: sizes.
        frozen_text: RoBERTa gets no gradients and stays in evaluation mode. The authors' code leaves its dropout on.
    """

    def __init__(self, settings: MttrSettings, frozen_text: bool = True) -> None:
        super().__init__()
        s = self.settings = settings
        self.frozen_text = frozen_text
        self.video = build_video_encoder(s)
        self.text = build_roberta(s.text).requires_grad_(not frozen_text)
        self.text_projection = TextProjection(s.text.width, s.width, s.dropout)
        self.video_projection = nn.Conv2d(s.map_channels[2], s.width, 1)
        block = (s.width, s.attention_heads, s.feed_forward, s.dropout)
        self.encoder = Encoder(s.encoder_layers, *block)
        self.decoder = Decoder(s.decoder_layers, *block)
        self.queries = nn.Embedding(s.queries, s.width)
        self.pixels = PixelDecoder(s.width, s.map_channels[:2], s.kernel)
        self.kernels = KernelHead(s.width, s.kernel)
        self.referred = nn.Linear(s.width, 2)
        self.train()

    def train(self, mode: bool = True) -> Mttr:
        """Training or evaluation mode; a frozen text encoder stays in evaluation mode."""
        super().train(mode)
        if self.frozen_text:
            self.text.eval()
        return self

    def encode_video(
        self, videos: Tensor, padding: Tensor | None = None, frames: Sequence[int] | None = None
    ) -> VideoMaps:
        """The maps of clips.

        Args:
            videos: (B, 3, T, H, W), normalised, zeros where padded. A clip's maps depend on the padding: run a clip
                alone where its result matters.
            padding: (T, B, H, W) bool, True where a clip is padded; None: nowhere.
            frames: indices of the frames of interest; None: all. The others count as neighbours in time only.

        Raises:
            InputError: videos of another form, or a frame that is not there.
        """
        if videos.ndim != 5 or videos.shape[1] != 3 or 0 in videos.shape:
            raise InputError(f"videos must be (B, 3, T, H, W), got {tuple(videos.shape)}")
        count, _, time, height, width = videos.shape
        if padding is None:
            padding = torch.zeros((time, count, height, width), dtype=torch.bool, device=videos.device)
        maps = self.video(videos)
        if frames is not None:
            if not len(frames) or min(frames) < 0 or max(frames) >= time:
                raise InputError(f"frames of interest must be of 0 to {time - 1}, got {list(frames)}")
            index = torch.as_tensor(list(frames), device=videos.device)
            maps, padding = [m[index] for m in maps], padding[index]
        paddings = tuple(F.interpolate(padding.float(), size=m.shape[-2:]).bool() for m in maps)
        return VideoMaps(tuple(maps), paddings)

    def encode_words(self, ids: Tensor) -> Tensor:
        """``ids`` (B, S) int64, padded with 1 -> vectors of the words (B, S, d)."""
        projected: Tensor = self.text_projection(encode_text(self.text, ids, self.frozen_text))
        return projected

    def tokens(self, video: VideoMaps, words: Tensor, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The input of the encoder: video tokens, then words.

        Returns:
            Tokens and their positions (V * B, h * w + S, d), and (V * B, h * w + S) bool, True for padding.
        """
        maps, padding = video.maps[2], video.paddings[2]
        frames, count = maps.shape[:2]
        tokens = self.video_projection(maps.flatten(0, 1)).flatten(2).transpose(1, 2)  # (V * B, h * w, d)
        positions = sine_positions(padding.flatten(0, 1), self.settings.width).flatten(1, 2)
        words, no_word = words.repeat(frames, 1, 1), (ids == PAD).repeat(frames, 1)
        return (
            torch.cat((tokens, words), dim=1),
            torch.cat((positions, torch.zeros_like(words, dtype=positions.dtype)), dim=1).to(tokens.dtype),
            torch.cat((padding.reshape(frames * count, -1), no_word), dim=1),
        )

    def segment(self, video: VideoMaps, words: Tensor, ids: Tensor) -> MttrOutput:
        """The masks of all objects for B sentences.

        Args:
            video: maps of B clips, one a sentence; see :meth:`VideoMaps.of`.
            words: of :meth:`encode_words`.
            ids: (B, S) int64.
        """
        frames, count, _, height, width = video.maps[2].shape
        tokens, positions, padding = self.tokens(video, words, ids)
        memory = self.encoder(tokens, positions, padding)
        queries = self.queries.weight.expand(frames * count, -1, -1).to(memory.dtype)
        found = self.decoder(queries, memory, positions, padding)  # (L, V * B, N, d)
        back = memory[:, : height * width].transpose(1, 2).unflatten(2, (height, width))
        pixels = self.pixels(back, video.maps[1].flatten(0, 1), video.maps[0].flatten(0, 1))
        masks = torch.einsum("lrnc,rchw->lrnhw", self.kernels(found), pixels)
        shape = (frames, count)
        return MttrOutput(
            masks.unflatten(1, shape), self.referred(found).unflatten(1, shape), found[-1].unflatten(0, shape)
        )

    def forward(
        self,
        videos: Tensor,
        ids: Tensor,
        padding: Tensor | None = None,
        frames: Sequence[int] | None = None,
        clips: Tensor | Sequence[int] | None = None,
    ) -> MttrOutput:
        """:meth:`encode_video`, :meth:`encode_words` and :meth:`segment`.

        Args:
            videos, padding, frames: as of :meth:`encode_video`.
            ids: (B, S) int64 sentences, padded with 1.
            clips: (B,) the clip of each sentence; None: there is one sentence a clip.
        """
        video = self.encode_video(videos, padding, frames)
        if clips is not None:
            video = video.of(clips)
        elif len(ids) != len(videos):
            raise InputError(f"ids must have {len(videos)} sentences, one for each clip, got {len(ids)}")
        return self.segment(video, self.encode_words(ids), ids)
