"""ResNet-50 in "caffe" style on torchvision's blocks: the backbone of the official ``masa_r50``.

Torchvision puts a stage's stride in the 3x3 convolution of its first block, caffe (and so mmdet's
``style="caffe"``) in the 1x1 convolution before it. Parameters and their names are the same, so the official
``backbone.*`` keys load as they are; only the strides are swapped here.

Source: He et al., Deep Residual Learning, CVPR 2016; torchvision (BSD-3-Clause).
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck, ResNet


class CaffeResNet50(nn.Module):
    """The four stages of a ResNet-50 whose stride sits in each stage's first 1x1 convolution."""

    channels = (256, 512, 1024, 2048)
    reduction = (4, 8, 16, 32)

    def __init__(self) -> None:
        super().__init__()
        donor = ResNet(Bottleneck, [3, 4, 6, 3])
        self.conv1, self.bn1 = donor.conv1, donor.bn1
        self.relu, self.maxpool = donor.relu, donor.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = donor.layer1, donor.layer2, donor.layer3, donor.layer4
        for stage in (self.layer2, self.layer3, self.layer4):
            first = cast(Bottleneck, stage[0])
            first.conv1.stride, first.conv2.stride = first.conv2.stride, first.conv1.stride

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps of ``images`` (B, 3, H, W), normalised, at strides 4, 8, 16 and 32, finest first."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        maps = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            maps.append(x)
        return maps
