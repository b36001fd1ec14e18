"""A clip to maps at a fourth, an eighth and a sixteenth of its size, one set per frame, with attention over time.

Source: Liu et al., Video Swin Transformer, CVPR 2022; the blocks are torchvision's.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.video.swin_transformer import SwinTransformer3d

from masa_track.refer.settings import MttrSettings


class VideoSwin(nn.Module):
    """The first three stages of Video Swin with patches of one frame, so that each frame keeps its own maps.

    Args:
        settings: ``embed``, ``depths``, ``heads``, ``window`` and ``drop_path`` are used.
    """

    def __init__(self, settings: MttrSettings) -> None:
        super().__init__()
        whole = SwinTransformer3d(
            patch_size=[1, 4, 4],
            embed_dim=settings.embed,
            depths=list(settings.depths),
            num_heads=list(settings.heads),
            window_size=list(settings.window),
            stochastic_depth_prob=settings.drop_path,
        )
        self.patch_embed = whole.patch_embed
        self.features = whole.features[:5]  # stage, merging, stage, merging, stage

    def forward(self, videos: Tensor) -> list[Tensor]:
        """``videos`` (B, 3, T, H, W), normalised -> three maps (T, B, C, h, w), before merging and without a norm."""
        x = self.patch_embed(videos)  # (B, T, h, w, C)
        maps = []
        for number, part in enumerate(self.features):
            x = part(x)
            if number % 2 == 0:
                maps.append(x.permute(1, 0, 4, 2, 3))
        return maps


class ConvVideo(nn.Module):
    """A small stack of convolutions with the interface of :class:`VideoSwin`, for tests and synthetic data.

    It sees each frame and its differences to the frames before and after, as motion is learnt late without them.

    Args:
        settings: ``conv_widths`` is used.
    """

    def __init__(self, settings: MttrSettings) -> None:
        super().__init__()
        channels = (9, *settings.conv_widths)
        steps = (4, 2, 2)
        self.down = nn.ModuleList(
            nn.Conv3d(a, b, (1, s, s), (1, s, s)) for a, b, s in zip(channels, channels[1:], steps, strict=False)
        )
        self.space = nn.ModuleList(nn.Conv3d(c, c, (1, 3, 3), padding=(0, 1, 1)) for c in settings.conv_widths)
        self.time = nn.ModuleList(nn.Conv3d(c, c, 3, padding=1) for c in settings.conv_widths)
        self.norm = nn.ModuleList(nn.GroupNorm(1, c) for c in settings.conv_widths)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):  # with torch's smaller weights motion was not learnt in 600 steps
                nn.init.kaiming_normal_(module.weight)
                module.bias.data.zero_()  # type: ignore[union-attr]

    def forward(self, videos: Tensor) -> list[Tensor]:
        """As :meth:`VideoSwin.forward`."""
        height, width = videos.shape[-2:]
        change = F.pad(videos.diff(dim=2), (0, 0, 0, 0, 1, 1))  # zeros before the first frame and after the last
        x = torch.cat((videos, change[:, :, :-1], change[:, :, 1:]), dim=1)
        x = F.pad(x, (0, -width % 16, 0, -height % 16))
        maps = []
        for level, (down, space, time, norm) in enumerate(
            zip(self.down, self.space, self.time, self.norm, strict=True)
        ):
            x = down(x)
            x = norm(x + time(F.relu(space(F.relu(x)))))
            stride = 4 << level
            maps.append(x[..., : -(-height // stride), : -(-width // stride)].permute(2, 0, 1, 3, 4))
        return maps


def build_video_encoder(settings: MttrSettings) -> nn.Module:
    """The encoder that ``settings.video`` names, with random weights."""
    return VideoSwin(settings) if settings.video == "swin" else ConvVideo(settings)
