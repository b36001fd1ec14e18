#!/usr/bin/env python3
"""Shares of right objects of a network trained on synthetic clips, on clips it has not seen, beside four rules.

    python tools/bench_refer.py runs/refer2/model.safetensors
    python tools/bench_refer.py runs/refer1/model.safetensors --kinds motion

An object is right if the IoU of the selected masks with its own, over the clip, is above 0.5. A sentence needs an
attribute if without its words it fits two objects or more. Intervals: 95%, by drawing clips anew.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from masa_track.errors import InputError
from masa_track.refer.scoring import SentenceScore, score_clips, share
from masa_track.refer.synthetic import KINDS
from masa_track.refer.weights import load_weights

WAYS = ("network", "random", "largest", "colour", "colour + shape")


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path, help="model.safetensors of trainings, e.g. with several seeds")
    parser.add_argument("--first-seed", type=int, default=1_000_000, help="of the clips (default: %(default)s)")
    parser.add_argument("--clips", type=int, default=200, help="(default: %(default)s)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, help="attributes that sentences name (default: all)")
    return parser


def cell(scores: Sequence[SentenceScore], way: str, kind: str | None) -> str:
    """Share and interval as a cell of the table."""
    found, low, high, _ = share(scores, way, None if kind is None else lambda s: kind in s.needs)
    return f"{found:.2f} ({low:.2f}-{high:.2f})"


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the tables. Returns the exit status."""
    args = make_parser().parse_args(arguments)
    torch.set_num_threads(1)
    seeds = range(args.first_seed, args.first_seed + args.clips)
    try:
        for path in args.models:
            network = load_weights(path, "synthetic").network
            scores = score_clips(network, seeds, args.kinds)
            print(f"\n{path}: {args.clips} clips from seed {args.first_seed}, kinds: {' '.join(args.kinds or KINDS)}")
            print(f"\n| sentences | n | {' | '.join(WAYS)} |\n|{'---|' * (len(WAYS) + 2)}")
            for kind in (None, *(args.kinds or KINDS)):
                count = sum(kind is None or kind in s.needs for s in scores)
                cells = " | ".join(cell(scores, way, kind) for way in WAYS)
                print(f"| {'all' if kind is None else f'need {kind}'} | {count} | {cells} |")
            print(f"\nmean IoU {np.mean([s.iou for s in scores]):.2f}")
            for play in ("backwards", "opposite"):
                played = score_clips(network, seeds, args.kinds, play)
                found, low, high, count = share(played, "network", lambda s: "motion" in s.needs and s.moves)
                print(
                    f"{play}, moving objects whose sentence needs motion: {found:.2f} ({low:.2f}-{high:.2f}), n {count}"
                )
    except InputError as error:
        print(f"bench_refer.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
