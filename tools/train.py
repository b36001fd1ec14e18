#!/usr/bin/env python3
"""Trains an adapter on photographs: frozen backbone, two views of each picture, losses of MASA.

    # 1. regions of your photographs, once (SAM, or boxes that you have)
    masa-track proposals photos/ --out regions.json
    # 2. train; data paths and anything else of the configuration can be changed on the command line
    python tools/train.py configs/nano.py --cfg-options train_dataloader.dataset.images=photos \\
        train_dataloader.dataset.regions=regions.json
    # 3. use it
    masa-track track video.mp4 --model work_dirs/nano/model.safetensors

Ctrl-C finishes the step, writes a checkpoint and stops; the same command with --resume goes on to the same result as
without the interruption. Several GPUs: bash tools/dist_train.sh CONFIG 8.
Configurations for mmdet (model type MASA, configs/mmdet/train_r50.py) are run as well, where mmdet is installed.
The learning rate is scaled to the real batch (GPUs x batch_size x accumulation).
"""

from __future__ import annotations

import argparse
import ast
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from masa_track.errors import InputError, missing_extra

LAUNCHERS = ("none", "pytorch", "slurm")

EPILOG = """
in the work folder:
  iter_N.pth           checkpoints, the latest three: tensors, numbers and text only, read without running anything;
                       of an mmdet configuration also what tools/test_mot.py and masa_track.load take
  adapter.safetensors  or model.safetensors, at the end: what was trained, without or with the backbone
  */vis_data/*.json    the losses, a line each logged step; the configuration as it was used lies beside

good to know:
  --cfg-options model.margin_weight=0 | model.random_boxes=True | model.distillation_weight=0    ablations
  --cfg-options train_dataloader.batch_size=2 optim_wrapper.accumulative_counts=16               less memory
  --cfg-options load_from=other/iter_500.pth                          start from the weights of another run
a configuration is Python and is run: use only those that you trust
"""


def option(text: str) -> tuple[str, Any]:
    """A ``key=value`` of the command line; the value as Python would read it, or else as text."""
    key, sign, value = text.partition("=")
    if not key or not sign:
        raise argparse.ArgumentTypeError(f"must be KEY=VALUE, got {text!r}")
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path, help="a configuration, e.g. configs/nano.py")
    parser.add_argument("--work-dir", type=Path, help="for checkpoints and logs (default: work_dirs/CONFIG)")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="CHECKPOINT",
        help="continue from the latest checkpoint of the work folder (anew if there is none), or from the one named",
    )
    parser.add_argument("--amp", action="store_true", help="mixed precision, on a GPU: faster, less memory")
    parser.add_argument(
        "--cfg-options", nargs="+", type=option, default=[], metavar="KEY=VALUE", help="change the configuration"
    )
    parser.add_argument("--launcher", default="none", help=f"of several processes: {', '.join(LAUNCHERS)}")
    parser.add_argument("--device", choices=("cuda", "cpu"), help="default: a GPU if there is one")
    parser.add_argument("--local-rank", "--local_rank", type=int, default=0, help=argparse.SUPPRESS)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains. Returns the exit status: 0, 2 for a mistake of the user's, 130 after Ctrl-C."""
    args = make_parser().parse_args(arguments)
    if args.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before torch is imported; mmengine takes any visible GPU
    try:
        return train(args)
    except InputError as error:
        print(f"train.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("train.py: stopped; go on with --resume", file=sys.stderr)
        return 130


def train(args: argparse.Namespace) -> int:
    """What :func:`main` does with a read command line."""
    if args.launcher not in LAUNCHERS:
        raise InputError(
            f"--launcher must be one of {', '.join(LAUNCHERS)}, got {args.launcher!r}: start by tools/dist_train.sh, "
            "torchrun or srun"
        )
    try:
        from masa_track.training.start import distribute_on_cpu, for_mmdet, make_runner, read_config, use_amp
    except ImportError as error:
        if error.name is None or error.name.startswith("masa_track"):
            raise
        raise missing_extra(f"{error.name}", "train") from error
    import torch

    if args.device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch sees no GPU; take --device cpu")
    config = read_config(args.config, dict(args.cfg_options))
    if for_mmdet(config):
        from masa_track.integrations.mmdet.training import as_ours

        config = as_ours(config)
    config.launcher = args.launcher
    if args.launcher != "none" and not torch.cuda.is_available():
        distribute_on_cpu(args.launcher, config)
    if args.amp:
        use_amp(config)
    work_dir = args.work_dir or config.get("work_dir") or Path("work_dirs") / args.config.stem
    make_runner(config, work_dir, True if args.resume == "auto" else args.resume or False).train()
    return 0


if __name__ == "__main__":
    sys.exit(main())
