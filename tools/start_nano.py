#!/usr/bin/env python3
"""Makes what nano-adapter's training starts from: nano's frozen backbone, centred on photographs.

The backbone's maps under the boxes of some hundred pictures give each level's mean and covariance, hence the 1x1
convolutions that centre it. Adapter and heads are random but for what starts at zero, so the file is a whole model: the
centred features, nothing trained.

    pip install ".[train]"
    python tools/start_nano.py ../shared/photos/regions.json ../shared/photos/images \\
        --backgrounds ../shared/photos/unlabelled --out runs/nano/start.safetensors
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torchvision.ops import roi_align
from tqdm import tqdm

from masa_track.models import nano
from masa_track.models.adapted_nano import GRID, AdaptedNano
from masa_track.models.lite0 import CENTRED_CHANNELS, STRIDES
from masa_track.training.batch import prepare
from masa_track.training.composites import Composites
from masa_track.training.export import export


@torch.inference_mode()
def statistics(network: AdaptedNano, pictures: Composites, count: int) -> list[tuple[Tensor, Tensor]]:
    """Mean (C,) and covariance (C, C) of the cells under the boxes, of the maps at strides 8, 16 and 32."""
    sums: list[Tensor] = []
    squares: list[Tensor] = []
    cells = 0
    mean, std = torch.tensor(network.mean), torch.tensor(network.std)
    for index in tqdm(range(count), desc="centring", unit="pair"):
        images, views = prepare([pictures[index]], mean, std, network.size_divisor)
        maps = network.backbone.features(images)[1:]
        boxes = [view.boxes for view in views]
        for level, (x, stride) in enumerate(zip(maps, STRIDES[1:], strict=True)):
            x = roi_align(x, boxes, GRID, 1 / stride, 2, True).double().permute(0, 2, 3, 1).flatten(0, 2)  # (cells, C)
            if len(sums) <= level:
                sums.append(torch.zeros(x.shape[1], dtype=torch.double))
                squares.append(torch.zeros(x.shape[1], x.shape[1], dtype=torch.double))
            sums[level] += x.sum(0)
            squares[level] += x.T @ x
        cells += sum(map(len, boxes)) * GRID[0] * GRID[1]
    means = [s / cells for s in sums]
    return [(m, q / cells - m[:, None] * m) for m, q in zip(means, squares, strict=True)]


def main() -> None:
    """Writes the file and says how large it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("regions", type=Path, help="COCO json of the photographs' regions, with masks")
    parser.add_argument("images", type=Path, help="folder of the photographs")
    parser.add_argument("--backgrounds", type=Path, help="more photographs, for the background")
    parser.add_argument("--out", type=Path, default=Path("runs/nano/start.safetensors"))
    parser.add_argument("--pairs", type=int, default=400, help="pairs of pictures to look at (default: %(default)s)")
    args = parser.parse_args()
    torch.manual_seed(0)
    network = AdaptedNano().eval()
    given = load_file(nano.WEIGHTS)
    network.backbone.features.load_state_dict(
        {key.removeprefix("backbone."): value.float() for key, value in given.items()}, strict=False
    )  # all but the counters of batch norm
    pictures = Composites(args.regions, args.images, backgrounds=args.backgrounds, scene_share=0.0, seed=1)
    for level, (mean, covariance) in enumerate(statistics(network, pictures, args.pairs)):
        network.backbone.fill_center(level, mean, covariance)
    network.backbone.center.half().float()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    export(network, args.out, "nano-adapter", backbone=True, half=True)
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB, {sum(CENTRED_CHANNELS)} channels centred")


if __name__ == "__main__":
    main()
