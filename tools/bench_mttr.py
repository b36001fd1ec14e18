#!/usr/bin/env python3
"""Milliseconds a frame of MTTR at the published size, with random weights: speed does not depend on them.

    python tools/bench_mttr.py
    python tools/bench_mttr.py --size 360 640 --window 12 --sentences 1 3 --device cuda

Prints the median over the repeats for the video encoder alone, the text encoder, and the whole, per frame.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch

from masa_track.models.devices import choose_device
from masa_track.refer.model import Mttr, VideoMaps
from masa_track.refer.settings import MttrSettings


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=(360, 640), metavar=("H", "W"), help="pixels")
    parser.add_argument("--window", type=int, default=12, help="frames (default: %(default)s)")
    parser.add_argument("--sentences", type=int, nargs="+", default=[1, 3], help="in one pass (default: %(default)s)")
    parser.add_argument("--words", type=int, default=10, help="tokens of a sentence (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--threads", type=int, help="of torch on a CPU (default: torch's)")
    parser.add_argument("--device", help="cpu, cuda, ... (default: a GPU if there is one)")
    return parser


def median_ms(work: Callable[[], object], repeats: int, device: torch.device) -> float:
    """The median time of some runs, after one that does not count, in milliseconds.

    On a CPU with one thread it is the time that the CPU worked, which other programs do not change.
    """
    clock = time.process_time if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    times = []
    for _ in range(repeats + 1):
        start = clock()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(1000 * (clock() - start))
    return statistics.median(times[1:])


def segment(network: Mttr, maps: VideoMaps, ids: torch.Tensor) -> None:
    """All that depends on the sentences, one after the other, as the referrer does it."""
    words = network.encode_words(ids)
    for s in range(len(ids)):
        network.segment(maps, words[s : s + 1], ids[s : s + 1])


@torch.inference_mode()
def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table. Returns the exit status."""
    args = make_parser().parse_args(arguments)
    if args.threads:
        torch.set_num_threads(args.threads)
    device = choose_device(args.device)
    network = Mttr(MttrSettings()).eval().to(device)
    videos = torch.randn(1, 3, args.window, *args.size, device=device)
    print(
        f"{args.window} frames of {args.size[0]} x {args.size[1]}, {args.words} tokens a sentence, {device}, "
        f"{torch.get_num_threads()} threads, median of {args.repeats}"
    )
    maps = network.encode_video(videos)
    encoder = median_ms(lambda: network.encode_video(videos), args.repeats, device) / args.window
    print("\n| | ms a frame |\n|---|---|")
    print(f"| video encoder | {encoder:.0f} |")
    for count in args.sentences:
        ids = torch.randint(4, 50000, (count, args.words), device=device)
        text = median_ms(partial(network.encode_words, ids), args.repeats, device)
        rest = median_ms(partial(segment, network, maps, ids), args.repeats, device) / args.window
        print(f"| text encoder, {count} sentence(s), once a film | {text:.0f} (whole) |")
        print(f"| text, transformer and masks, {count} sentence(s) | {rest:.0f} |")
        print(f"| all, {count} sentence(s) | {encoder + rest:.0f} |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
