#!/usr/bin/env python3
"""Measures the speed and the memory of SAM 2's masklets: objects in batches against one by one.

The weights are random unless a model is given: speed does not depend on them, masks do, and nothing is said of those.
Each object has full memories (7) and, unless --warm is less than 17, full pointers (16), which cost little. Printed are
the medians of ms a frame, of the image encoder and of all objects, and MB of memory; on a CPU ms of all its cores
together, so that other programs on the computer make no difference.

    python tools/bench_sam2.py --side 512 --counts 1 4 16
    python tools/bench_sam2.py --model sam2.1_hiera_tiny.pt --device cuda --dtype bfloat16 --counts 1 4 16 64
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch
from tqdm import tqdm

from masa_track.contracts import Frame, Prompt
from masa_track.masklets.sam2 import Sam2Network
from masa_track.masklets.session import MaskletSession, SessionOptions
from masa_track.models.devices import choose_device, choose_dtype

FULL = 17  # frames after which memories and pointers are as many as they get


def network(args: argparse.Namespace) -> Sam2Network:
    """The model that was asked for, or SAM 2.1 tiny with random weights."""
    if args.model is not None:
        from masa_track.masklets.weights import load_network

        return load_network(args.model, device=args.device, dtype=args.dtype, side=args.side)
    from transformers import Sam2VideoModel

    from masa_track.masklets.sam2_keys import configuration

    torch.manual_seed(0)
    model = Sam2VideoModel(configuration("sam2.1-hiera-tiny", args.side or 1024)).eval().requires_grad_(False)
    model.mask_decoder.pred_obj_score_head.proj_out.bias.data.fill_(5.0)  # objects are visible
    return Sam2Network(model.to(choose_device(args.device)), "random", choose_dtype(args.dtype))


def seconds(device: torch.device) -> float:
    """Now, once the device has done its work; of a CPU the time that this process has used."""
    if device.type != "cuda":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def measure(
    net: Sam2Network, images: list[np.ndarray], count: int, batch: int, frames: int, warm: int
) -> tuple[float, float]:
    """Median ms of all objects in a frame, without the image encoder, and MB of their memory."""
    session = MaskletSession(net, SessionOptions(batch=batch))
    shared = session.encode(images)
    height, width = images[0].shape[:2]
    corners = np.random.default_rng(0).uniform(0, [width / 2, height / 2], (count, 2))
    taken = []
    for number in range(1, warm + frames + 1):
        frame, features = Frame(number, number / 25, (width, height)), shared[number % len(shared)]
        started = seconds(net.device)
        session.propose(frame, features)
        if number == 1:
            for identity, corner in enumerate(corners):
                session.prompt(identity, Prompt(box=np.concatenate([corner, corner + height / 4])))
        session.commit()
        if number > warm:
            taken.append(1000 * (seconds(net.device) - started))
    return statistics.median(taken), session.memory_bytes() / 1e6


def main(argv: list[str] | None = None) -> None:
    """Prints a line for each number of objects."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="name, file or folder of a model (default: SAM 2.1 tiny with random weights)")
    parser.add_argument("--side", type=int, help="pixels of the network's input (default: the model's, 1024)")
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 4, 16], help="numbers of objects (%(default)s)")
    parser.add_argument("--frames", type=int, default=5, help="that are measured (%(default)s)")
    parser.add_argument("--warm", type=int, default=FULL, help="frames before these (%(default)s)")
    parser.add_argument("--device", help="cpu or cuda (default: the best there is)")
    parser.add_argument("--dtype", default="float32", help="float32, bfloat16 or float16 (%(default)s)")
    args = parser.parse_args(argv)
    net = network(args)
    images = list(np.random.default_rng(1).integers(0, 256, (2, 480, 854, 3), dtype=np.uint8))
    session, encoder = MaskletSession(net), []
    for _ in range(args.frames):
        started = seconds(net.device)
        session.encode(images[:1])
        encoder.append(1000 * (seconds(net.device) - started))
    print(f"{net.name}, {net.side} x {net.side}, {args.dtype}, {net.device}, {torch.get_num_threads()} threads")
    print(f"image encoder: {statistics.median(encoder):.1f} ms a frame")
    print("objects  one by one (ms)  in fours (ms)  all at once (ms)  memory (MB)")
    for count in tqdm(args.counts, desc="objects", leave=False):
        results = [measure(net, images, count, batch, args.frames, args.warm) for batch in (1, 4, count)]
        times = "  ".join(f"{ms:14.1f}" for ms, _ in results)
        print(f"{count:7}  {times}  {results[0][1]:11.1f}")


if __name__ == "__main__":
    main()
