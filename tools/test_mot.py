#!/usr/bin/env python3
"""Tracks the videos of an mmdet configuration and scores them.

    python tools/test_mot.py configs/mmdet/mot_nano_public.py --cfg-options test_dataloader.dataset.data_root=MOT15
    python tools/test_mot.py configs/mmdet/tao_r50.py masa_r50.pth --cfg-options model.public_det_path=tao_dets
    python tools/test_mot.py configs/masa/masa-one/bdd_test/masa_r50_bdd_mot_test.py masa_r50.pth
    bash tools/dist_test.sh configs/mmdet/bdd_r50.py masa_r50.pth 8

After an interruption the same command continues at the next video. Several processes share the videos and give the
result of one process.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from masa_track.errors import InputError

REFUSED = {  # options of the authors' tools/test.py: what to do instead
    "--show": "no window is opened: take --show-dir DIR, or draw a video by masa-track track",
    "--tta": "augmentation at test time is not supported: give boxes of an augmented detector by model.public_det_path",
}
LAUNCHERS = ("none", "pytorch", "slurm")

EPILOG = """
in the work folder:
  tracks/NAME.txt         a video's tracks, MOTChallenge text
  tracks/tao_track.json   all tracks as TAO results, identities unique over the videos
  tracks/bdd_track_scalabel_format.json  all tracks for BDD100K's server (BDDTETAMetric)
  tracks/scores.txt, scores.json
  tracks/parts/NAME.json  a video that is done; what an interrupted run goes on from

boxes come from model.public_det_path (npz, json, MOT text), model.detector (any of mmdet's) or the model's own head.
a configuration is Python and is run: use only those that you trust
"""


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    from mmengine.config import DictAction

    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path, help="a configuration, e.g. configs/mmdet/mot_nano_public.py")
    parser.add_argument(
        "checkpoint", nargs="?", help="weights: an official .pth, or a .safetensors; none where they are shipped"
    )
    parser.add_argument("--work-dir", type=Path, help="for logs and results (default: work_dirs/CONFIG)")
    parser.add_argument("--out", metavar="FILE", help="write the tracks of all videos to FILE, too: TAO json")
    parser.add_argument(
        "--cfg-options", nargs="+", action=DictAction, default={}, metavar="KEY=VALUE", help="change the configuration"
    )
    parser.add_argument("--launcher", default="none", help=f"of several processes: {', '.join(LAUNCHERS)}")
    parser.add_argument("--show-dir", metavar="DIR", help="draw the tracks into pictures in DIR/VIDEO")
    parser.add_argument("--device", choices=("cuda", "cpu"), help="default: a GPU if there is one")
    for name in REFUSED:
        parser.add_argument(name, action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--local-rank", "--local_rank", type=int, default=0, help=argparse.SUPPRESS)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Tests. Returns the exit status: 0, 2 for a mistake of the user's, 130 after Ctrl-C."""
    try:
        try:
            parser = make_parser()
        except ImportError:
            import masa_track.integrations.mmdet  # noqa: F401 (says what to install)

            raise
        args = parser.parse_args(arguments)
        check(args)
        if args.device == "cpu":
            os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before torch is imported; mmengine takes any visible GPU
        return test(args)
    except InputError as error:
        print(f"test_mot.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("test_mot.py: stopped; the same command goes on at the next video", file=sys.stderr)
        return 130


def check(args: argparse.Namespace) -> None:
    """Raises InputError for what the authors' program takes and this one does not."""
    for name, instead in REFUSED.items():
        if getattr(args, name.strip("-")):
            raise InputError(f"{name}: {instead}")
    if args.launcher not in LAUNCHERS:
        raise InputError(
            f"--launcher must be one of {', '.join(LAUNCHERS)}, got {args.launcher!r}: start by tools/dist_test.sh, "
            "torchrun or srun"
        )
    if args.out is not None and Path(args.out).suffix in (".pkl", ".pickle"):
        raise InputError(
            f"--out writes TAO json, no pickle, got {args.out}: call it {Path(args.out).with_suffix('.json')}"
        )


def test(args: argparse.Namespace) -> int:
    """What :func:`main` does with a read command line."""
    import torch
    from mmengine.dist import init_dist

    from masa_track.integrations.mmdet import testing

    if args.device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch sees no GPU; take --device cpu")
    config = testing.read_config(args.config, args.cfg_options)
    config.launcher = args.launcher
    if args.launcher != "none":
        if torch.cuda.is_available():
            init_dist(args.launcher, **config.get("env_cfg", {}).get("dist_cfg", {"backend": "nccl"}))
        else:
            from masa_track.training.start import distribute_on_cpu

            distribute_on_cpu(args.launcher, config)
    work_dir = args.work_dir or config.get("work_dir") or Path("work_dirs") / args.config.stem
    try:
        testing.test(config, args.checkpoint, work_dir, args.out, args.show_dir)
    finally:
        if args.launcher != "none":
            torch.distributed.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main())
