"""Seconds a frame of every model, of nano by torch and by ONNX Runtime, and of the deformable convolution against
torchvision's, in one process. ``OMP_NUM_THREADS`` sets the threads of all.

The official models' weights are random (time does not depend on them); the frame is 720 x 1280 with 30 boxes. Prints
medians.

    python tools/bench_models.py [--models r50 nano ...] [--repeats 3]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torchvision.ops import deform_conv2d

from masa_track.encoders.embedder import Embedder
from masa_track.encoders.loading import load
from masa_track.encoders.preprocessing import to_input
from masa_track.models.deform_conv import modulated_deform_conv
from masa_track.registry import Preprocessing, build_model, list_models, spec_of


def median_seconds(work: Callable[[], object], repeats: int) -> float:
    """The median of ``repeats`` runs after one that is not counted."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def bench_model(name: str, repeats: int, device: str) -> None:
    """Prints one row of the table."""
    shipped = spec_of(name).is_shipped
    embedder: Any = load(name, device, backend="torch") if shipped else Embedder(build_model(name), name, device)
    frame, boxes = frame_and_boxes()
    image = torch.from_numpy(to_input(frame, Preprocessing.of(embedder.network))[0]).to(embedder.device)
    network = embedder.network
    with torch.inference_mode():
        official = embedder.finds_boxes
        backbone = median_seconds(lambda: network.backbone_maps(image), repeats) if official else float("nan")
        pyramid = median_seconds(lambda: network.pyramid(image), repeats)
        levels = network.pyramid(image)
        scaled = [torch.from_numpy(boxes).float().to(embedder.device)]
        embed = median_seconds(lambda: network.embed(levels, scaled).cpu(), repeats)
        size = [tuple(image.shape[-2:])]
        detect = median_seconds(lambda: network.detect(levels, size), repeats) if official else float("nan")
    millions = sum(p.numel() for p in network.parameters()) / 1e6
    shape = "x".join(map(str, image.shape[-2:]))
    print(
        f"| {name} | {millions:.0f} M | {shape} | {backbone:.2f} | {pyramid - backbone if official else pyramid:.2f} "
        f"| {embed:.2f} | {detect:.2f} | {pyramid + embed:.2f} |",
        flush=True,
    )


def frame_and_boxes() -> tuple[np.ndarray, np.ndarray]:
    """A random frame (720, 1280, 3) uint8 and 30 boxes in it."""
    random = np.random.default_rng(0)
    frame = random.integers(0, 255, (720, 1280, 3), dtype=np.uint8)
    corners = random.uniform(0, (1100, 500), (30, 2))
    return frame, np.concatenate([corners, corners + random.uniform(30, 180, (30, 2))], axis=1)


def bench_backends(name: str, repeats: int, device: str) -> None:
    """Prints a model's times by torch and by ONNX Runtime, frame in, arrays out."""
    frame, boxes = frame_and_boxes()
    times: dict[str, list[float]] = {}
    for backend in ("torch", "onnx"):
        model = load(name, device, backend=backend)
        features = model.encode([frame])[0]
        model.embed_features(features, boxes)
        work: list[Callable[[], object]] = [lambda model=model: model.embed(frame, boxes)]  # type: ignore[misc]
        work += [lambda model=model: model.detect(frame)] if model.finds_boxes else []  # type: ignore[misc]
        times[backend] = [median_seconds(each, repeats) for each in work]
    for what, theirs, ours in zip(("30 embeddings", "own boxes"), *times.values(), strict=False):
        print(f"{name}, {what}: torch {theirs:.3f} s, ONNX Runtime {ours:.3f} s, ratio {theirs / ours:.2f}")


def bench_deform_conv(repeats: int) -> None:
    """Prints the gathered convolution's time beside torchvision's."""
    torch.manual_seed(0)
    x, weight = torch.randn(1, 256, 144, 256), torch.randn(256, 256, 3, 3) * 0.02
    offset, mask = torch.randn(1, 18, 144, 256) * 2, torch.rand(1, 9, 144, 256)
    with torch.inference_mode():
        theirs = median_seconds(lambda: deform_conv2d(x, offset, weight, padding=1, mask=mask), repeats)
        ours = median_seconds(lambda: modulated_deform_conv(x, offset, mask, weight), repeats)
    print(f"deformable convolution, {tuple(x.shape)}: torchvision {theirs:.2f} s, gathered {ours:.2f} s", end="")
    print(f", ratio {theirs / ours:.2f}")


def main() -> None:
    """Reads the command line and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [spec.name for spec in list_models()]
    parser.add_argument("--models", nargs="+", default=names, choices=names)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {args.device}")
    bench_deform_conv(args.repeats)
    for name in args.models:
        if spec_of(name).onnx is not None:
            bench_backends(name, args.repeats, args.device)
    print("| model | parameters | input | backbone s | adapter s | 30 embeddings s | own boxes s | s a frame |")
    print("|---|---|---|---|---|---|---|---|")
    for name in args.models:
        bench_model(name, args.repeats, args.device)


if __name__ == "__main__":
    main()
