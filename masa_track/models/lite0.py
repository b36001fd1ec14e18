"""nano's frozen backbone: EfficientNet-Lite0 with ImageNet weights, and its maps centred.

A classifier's raw features have dead channels and a large common mean, so that any two boxes look alike. Taking the
mean off and weighing the principal components costs one 1x1 convolution a level. It is computed from photographs, not
trained (`tools/start_nano.py`), and frozen like the rest.

Source: `tf_efficientnet_lite0` of timm (Apache-2.0).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from masa_track.models.colour_histograms import ColourBins

CHANNELS = (24, 40, 112, 320)  # of the network's maps at strides 4 to 32
# What is centred: the colours at stride 4, and the maps at strides 8, 16 and 32.
GIVEN_CHANNELS = (ColourBins.channels, *CHANNELS[1:])
CENTRED_CHANNELS = (40, 40, 64, 128)  # principal components kept
# Each principal component is divided by its variance to this power; 0 only rotates, 0.5 makes all equally large. Chosen
# on the dev clips.
POWERS = (0.4, 0.25, 0.25, 0.25)


class CentredLite0(nn.Module):
    """EfficientNet-Lite0's maps, and three of them and the colours centred.

    Attributes:
        features: timm's network.
        colours: soft histograms, stride 4.
        center: a 1x1 convolution for the colours and for each of the strides 8, 16 and 32.
    """

    def __init__(self) -> None:
        super().__init__()
        import timm

        features: Any = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=(1, 2, 3, 4))
        self.features = features
        self.colours = ColourBins()
        self.center = nn.ModuleList(
            nn.Conv2d(given, kept, 1) for given, kept in zip(GIVEN_CHANNELS, CENTRED_CHANNELS, strict=True)
        )

    def given(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Maps of normalised images (B, 3, H, W): four of the network, strides 4 to 32; and the four to be centred."""
        maps = list(self.features(images))
        return maps, [self.colours(images), *maps[1:]]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Eight maps of ``images`` (B, 3, H, W): four as they are, strides 4 to 32; four centred, 4 to 32."""
        maps, given = self.given(images)
        return maps + [center(x) for center, x in zip(self.center, given, strict=True)]

    @torch.no_grad()
    def fill_center(self, level: int, mean: Tensor, covariance: Tensor) -> None:
        """Sets how a level is centred.

        Args:
            level: 0 (the colours) to 3.
            mean: (C,) of the map's channels, over boxes' cells.
            covariance: (C, C).
        """
        variance, axes = torch.linalg.eigh(covariance.double())
        variance = variance.clamp(min=float(variance.max()) * 1e-3)  # dead channels would be all noise
        kept = CENTRED_CHANNELS[level]
        project = (axes[:, -kept:] * variance[-kept:] ** -POWERS[level]).T  # (kept, C)
        convolution: Any = self.center[level]
        convolution.weight.copy_(project[:, :, None, None])
        convolution.bias.copy_(-(project @ mean.double()))
