"""nano's frozen backbone: EfficientNet-Lite0 with ImageNet weights, and its maps centred.

A classifier's raw features have dead channels and a large common mean, so that any two boxes look alike. Taking the
mean off and weighing the principal components costs one 1x1 convolution a level. It is computed from photographs, not
trained (`tools/center_nano.py`), and frozen like the rest.

Source: `tf_efficientnet_lite0` of timm (Apache-2.0).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

STRIDES = (4, 8, 16, 32)
CHANNELS = (24, 40, 112, 320)
CENTRED_CHANNELS = (40, 64, 128)  # principal components kept of the maps at strides 8, 16 and 32


class CentredLite0(nn.Module):
    """EfficientNet-Lite0's maps, and three of them centred.

    Attributes:
        features: timm's network.
        center: a 1x1 convolution for each of the strides 8, 16 and 32.
    """

    def __init__(self) -> None:
        super().__init__()
        import timm

        features: Any = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=(1, 2, 3, 4))
        self.features = features
        self.center = nn.ModuleList(
            nn.Conv2d(channels, kept, 1) for channels, kept in zip(CHANNELS[1:], CENTRED_CHANNELS, strict=True)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """Seven maps of ``images`` (B, 3, H, W): four as they are, strides 4 to 32, then three centred, 8 to 32."""
        maps = list(self.features(images))
        return maps + [center(x) for center, x in zip(self.center, maps[1:], strict=True)]

    @torch.no_grad()
    def fill_center(self, level: int, mean: Tensor, covariance: Tensor, power: float = 0.25) -> None:
        """Sets how a level is centred.

        Args:
            level: 0, 1 or 2.
            mean: (C,) of the map's channels, over boxes' cells.
            covariance: (C, C).
            power: each principal component is divided by its variance to this power; 0 only rotates, 0.5 makes all
                equally large. On the dev clips 0.25 and 0.5 were alike and 0 was worse.
        """
        variance, axes = torch.linalg.eigh(covariance.double())
        variance = variance.clamp(min=float(variance.max()) * 1e-3)  # dead channels would be all noise
        kept = CENTRED_CHANNELS[level]
        project = (axes[:, -kept:] * variance[-kept:] ** -power).T  # (kept, C)
        convolution: Any = self.center[level]
        convolution.weight.copy_(project[:, :, None, None])
        convolution.bias.copy_(-(project @ mean.double()))
