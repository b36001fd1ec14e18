#!/usr/bin/env python3
"""Checks and times every model on a GPU against the CPU's float32 numbers.

    python tools/check_gpu.py --out check_gpu.md
    python tools/check_gpu.py --device cpu --models nano --quick --out check_cpu.md    # how it works, without a GPU

For each model, number type and batch size: embeddings of 30 boxes of each picture and the model's own boxes, compared
with those of the CPU; milliseconds and memory. Then a training step of nano as configs/nano.py makes it, in float32
and, on a GPU, in mixed precision. Pictures are generated. The authors' models have random weights from a fixed seed:
their times and their differences between devices are those of the networks, their embeddings mean nothing.

The table is written to --out; the finished cells also to the .json beside it. The same command again runs only the
cells that are not in it, on the same card and versions. No model is begun after 400 seconds, so that a run should end
within eight minutes; with few CPU cores, where the CPU's numbers take longest, run it twice.

It needs torch, torchvision, numpy and safetensors; a cell whose model needs a library that is missing is marked "not
run: needs LIBRARY" (nano: timm; training: mmengine).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor
from torchvision.ops import box_iou

from masa_track import __version__
from masa_track.errors import InputError, first_line
from masa_track.files import write_text
from masa_track.models.devices import choose_device, choose_dtype
from masa_track.models.loading import load_network
from masa_track.registry import EXTRAS, ModelSpec, build_model, list_models, spec_of

ROOT = Path(__file__).resolve().parents[1]
DTYPES = ("float32", "float16", "bfloat16")
BATCHES = (1, 8)
PICTURES = 2  # different ones; a larger batch repeats them, so that the CPU embeds two pictures a model
BUDGET_SECONDS = 400.0  # after which no model is begun
TRAINED = "nano"
HEADS = {
    "models": (
        "model",
        "numbers",
        "batch",
        "cosine distance, largest",
        "mean",
        "own boxes / CPU's",
        "their IoU",
        "ms a picture",
        "memory MB",
    ),
    "training": ("training step", "numbers", "loss", "loss on the CPU", "ms a step", "memory MB"),
}


@dataclass(frozen=True)
class Limits:
    """How much is run.

    Attributes:
        size: (height, width) of the generated pictures, pixels.
        boxes: a picture.
        dtypes, batches: that each model is run with.
        repeats: timed runs of which the median counts.
        training_side: of the square training pictures, pixels.
    """

    size: tuple[int, int] = (720, 1280)
    boxes: int = 30
    dtypes: tuple[str, ...] = DTYPES
    batches: tuple[int, ...] = BATCHES
    repeats: int = 5
    training_side: int = 448


QUICK = Limits((90, 160), 4, ("float32", "bfloat16"), (1, 2), 1, 128)


@dataclass(frozen=True)
class Inputs:
    """Generated pictures as a network takes them.

    Attributes:
        images: (P, 3, H, W) float32, normalised and padded.
        sizes: (height, width) of each picture inside the padding.
        boxes: for each (N, 4) float32 xyxy pixels of the input.
    """

    images: Tensor
    sizes: list[tuple[int, int]]
    boxes: list[Tensor]

    def batch(self, count: int) -> Inputs:
        """``count`` pictures: these, repeated."""
        rows = [index % len(self.images) for index in range(count)]
        images = self.images[rows].contiguous(memory_format=torch.channels_last)
        return Inputs(images, [self.sizes[i] for i in rows], [self.boxes[i] for i in rows])


@dataclass(frozen=True)
class Numbers:
    """What a network gives: embeddings (N, D) of each picture, and its own boxes (M, 4); None without such a head."""

    embeddings: list[Tensor]
    boxes: list[Tensor] | None


def picture(height: int, width: int, generator: torch.Generator) -> Tensor:
    """A picture (3, H, W) in 0..255 with structure from coarse to fine."""
    layers = [torch.rand((1, 3, n, 2 * n), generator=generator) for n in (3, 9, 27, 81)]
    mixed = torch.stack([F.interpolate(x, (height, width), mode="bicubic", align_corners=False)[0] for x in layers])
    return (mixed.mean(dim=0) * 2 - 0.5).clamp(0, 1) * 255


def make_inputs(network: Any, limits: Limits) -> Inputs:
    """Pictures of ``limits.size``, scaled as the network wants them; the same in every run."""
    generator = torch.Generator().manual_seed(0)
    height, width = limits.size
    scale = network.long_side / max(height, width)
    if getattr(network, "short_side", None) is not None:
        scale = min(scale, network.short_side / min(height, width))
    inner = round(height * scale), round(width * scale)
    padded = [-(-side // network.size_divisor) * network.size_divisor for side in inner]
    images = torch.zeros((PICTURES, 3, *padded))
    mean, std = (torch.tensor(values)[:, None, None] for values in (network.mean, network.std))
    boxes = []
    for image in images:
        image[:, : inner[0], : inner[1]] = (picture(*inner, generator) - mean) / std
        sides = torch.tensor([inner[1], inner[0]])
        corners = torch.rand((limits.boxes, 2), generator=generator) * sides * 0.85
        extents = (0.03 + 0.12 * torch.rand((limits.boxes, 2), generator=generator)) * sides
        boxes.append(torch.cat([corners, corners + extents], dim=1))
    return Inputs(images, [inner] * PICTURES, boxes)


def network_of(spec: ModelSpec) -> Any:
    """A model's network on the CPU in evaluation mode: its weights if they are shipped, else random ones by a seed."""
    if spec.is_shipped:
        network = load_network(spec.name).network
    else:
        torch.manual_seed(0)
        network = build_model(spec.name)
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)


@torch.inference_mode()
def run_network(network: Any, inputs: Inputs, device: torch.device, dtype: torch.dtype, detect: bool) -> Numbers:
    """Embeddings and, where asked for, the network's own boxes, on the CPU in float32."""
    levels = network.pyramid(inputs.images.to(device, dtype))
    joined = network.embed(levels, [boxes.to(device) for boxes in inputs.boxes]).float().cpu()
    found = None
    if detect and hasattr(network, "detect"):
        found = [boxes.float().cpu() for boxes, _ in network.detect(levels, inputs.sizes)]
    return Numbers(list(joined.split([len(boxes) for boxes in inputs.boxes])), found)


def compare(found: Numbers, expected: Numbers) -> dict[str, Any]:
    """Differences from the CPU's numbers.

    Args:
        found: of a batch of any size.
        expected: of its pictures, which the batch repeats.

    Returns:
        ``largest`` and ``mean`` cosine distance (None if a number is not finite); with own boxes, ``boxes`` found,
        ``expected_boxes``, and ``iou``, the mean IoU of the CPU's boxes with the nearest one found.
    """
    distances, overlaps, counts = [], [], [0, 0]
    for row, own in enumerate(found.embeddings):
        known = expected.embeddings[row % PICTURES]
        distances.append((1 - F.cosine_similarity(own.double(), known.double())).clamp(min=0))
        if found.boxes is not None and expected.boxes is not None:
            boxes, known_boxes = found.boxes[row], expected.boxes[row % PICTURES]
            counts = [counts[0] + len(boxes), counts[1] + len(known_boxes)]
            if len(boxes) and len(known_boxes):
                overlaps.append(box_iou(known_boxes, boxes).max(dim=1).values)
            else:
                overlaps.append(torch.zeros(len(known_boxes)))
    apart = torch.cat(distances)
    finite = bool(apart.isfinite().all())
    cell: dict[str, Any] = {
        "largest": float(apart.max()) if finite else None,
        "mean": float(apart.mean()) if finite else None,
    }
    if found.boxes is not None:
        near = torch.cat(overlaps) if overlaps else torch.zeros(0)
        cell |= {"boxes": counts[0], "expected_boxes": counts[1], "iou": float(near.mean()) if len(near) else None}
    return cell


def median_ms(work: Callable[[], object], repeats: int, device: torch.device) -> float:
    """The median time of ``repeats`` runs, milliseconds; the GPU is waited for."""
    times = []
    for _ in range(repeats):
        _wait(device)
        start = time.perf_counter()
        work()
        _wait(device)
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _peak_megabytes(device: torch.device) -> float | None:
    return torch.cuda.max_memory_allocated(device) / 1e6 if device.type == "cuda" else None


def _forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


class Table:
    """The cells so far, in a .json that every cell rewrites, and the page that is made of them.

    Args:
        out: the page, .md.
        environment: what the numbers depend on; cells of another one are dropped.

    Raises:
        InputError: the .json is no file of this tool.
    """

    def __init__(self, out: Path, environment: dict[str, str]) -> None:
        self.out, self.environment = out, environment
        self.file = out.with_suffix(".json")
        self.cells: dict[str, dict[str, Any]] = {}
        if not self.file.is_file():
            return
        try:
            earlier = json.loads(self.file.read_text(encoding="utf-8"))
            cells = {key: cell for key, cell in earlier["cells"].items() if cell["status"] == "done"}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{self.file} is no file of this tool: remove it, or give another --out") from error
        if earlier.get("environment") == environment:
            self.cells = cells
            print(f"{len(cells)} cells are in {self.file} already", flush=True)
        else:
            print(f"{self.file} is of another card, version or limits: all cells are run again", flush=True)

    def is_done(self, key: str) -> bool:
        """Whether a cell has its numbers."""
        return self.cells.get(key, {}).get("status") == "done"

    def put(self, key: str, cell: dict[str, Any]) -> None:
        """Keeps a cell, prints a line of it, and writes both files."""
        self.cells[key] = cell
        print(f"{key}: {cell['status']}", flush=True)
        text = json.dumps({"environment": self.environment, "cells": self.cells}, indent=1)
        write_text(self.file, text + "\n")
        write_text(self.out, self.page())

    def page(self) -> str:
        """The results in Markdown."""
        lines = ["# GPU check", "", *(f"- {name}: {value}" for name, value in self.environment.items())]
        lines += ["- `masa-track track --batch`: not checked, the command has no such option yet"]
        for kind, head in HEADS.items():
            cells = [cell for cell in self.cells.values() if cell["kind"] == kind]
            if cells:
                lines += ["", f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
                lines += [f"| {' | '.join(_row(cell, len(head)))} |" for cell in cells]
        return "\n".join(lines) + "\n"


def _row(cell: dict[str, Any], columns: int) -> list[str]:
    """A cell's line of the table."""
    first = [cell["name"], cell["dtype"], *([str(cell["batch"])] if cell["kind"] == "models" else [])]
    if cell["status"] != "done":
        return [*first, cell["status"], *[""] * (columns - len(first) - 1)]
    memory = "-" if cell["memory"] is None else f"{cell['memory']:,.0f}"
    if cell["kind"] == "training":
        return [*first, f"{cell['loss']:.5f}", f"{cell['expected_loss']:.5f}", f"{cell['ms']:.1f}", memory]
    apart = ["not finite"] * 2 if cell["largest"] is None else [f"{cell[name]:.1e}" for name in ("largest", "mean")]
    boxes = ["-", "-"]
    if "boxes" in cell:
        boxes = [f"{cell['boxes']} / {cell['expected_boxes']}", "-" if cell["iou"] is None else f"{cell['iou']:.3f}"]
    return [*first, *apart, *boxes, f"{cell['ms']:.1f}", memory]


def environment_of(device: torch.device, limits: Limits) -> dict[str, str]:
    """What the numbers depend on: card, driver, versions, limits."""
    card, driver = "none", "none"
    if device.type == "cuda":
        card = torch.cuda.get_device_name(device)
        try:
            query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
            driver = subprocess.run(query, capture_output=True, text=True, timeout=30).stdout.split("\n")[0] or "?"
        except (OSError, subprocess.TimeoutExpired):
            driver = "?"
    tf32 = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    return {
        "device": str(device),
        "card": card,
        "driver": driver,
        "torch": f"{torch.__version__}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}",
        "torchvision": torchvision.__version__,
        "masa-track": __version__,
        "TF32 in float32": f"convolutions {tf32[0]}, matrices {tf32[1]}",
        "CPU threads": str(torch.get_num_threads()),
        "pictures": f"{limits.size[1]} x {limits.size[0]}, {limits.boxes} boxes each, median of {limits.repeats} runs",
    }


def lacks(error: Exception, spec: ModelSpec | None = None) -> str | None:
    """The library that is missing, if that is why something failed."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        return error.name.split(".")[0]
    if isinstance(error, InputError) and spec is not None and spec.needs:
        missing = [name for name in EXTRAS[spec.needs] if name not in EXTRAS["torch"] and find_spec(name) is None]
        return " and ".join(missing) or None
    return None


def check_model(spec: ModelSpec, table: Table, device: torch.device, limits: Limits, until: float) -> None:
    """Runs the cells of a model that are not done."""
    wanted: list[tuple[str, dict[str, Any]]] = [
        (f"{spec.name}/{dtype}/{batch}", {"kind": "models", "name": spec.name, "dtype": dtype, "batch": batch})
        for dtype in limits.dtypes
        for batch in limits.batches
    ]
    wanted = [(key, cell) for key, cell in wanted if not table.is_done(key)]
    if not wanted:
        return
    reason = "not run: out of time, give the same command again" if time.monotonic() > until else None
    try:
        if reason is None:
            network = network_of(spec)
            inputs = make_inputs(network, limits)
            expected = run_network(network, inputs, torch.device("cpu"), torch.float32, True)
    except (ImportError, InputError) as error:
        library = lacks(error, spec)
        if library is None:
            raise
        reason = f"not run: needs {library}"
    if reason is not None:
        for key, cell in wanted:
            table.put(key, {**cell, "status": reason})
        return
    for dtype in limits.dtypes:
        placed = None
        for key, cell in wanted:
            if cell["dtype"] != dtype:
                continue
            try:
                if placed is None:  # a copy: what was rounded to another type stays so
                    placed = deepcopy(network).to(device, choose_dtype(dtype))
                numbers, costs = measure(placed, inputs.batch(cell["batch"]), device, choose_dtype(dtype), limits)
                table.put(key, {**cell, "status": "done", **compare(numbers, expected), **costs})
            except RuntimeError as error:  # of torch: out of memory, an operator that does not know the type
                table.put(key, {**cell, "status": f"failed: {first_line(error)[:200]}"})


def measure(
    network: Any, inputs: Inputs, device: torch.device, dtype: torch.dtype, limits: Limits
) -> tuple[Numbers, dict[str, Any]]:
    """The numbers of a batch; and ``ms`` a picture for the embeddings, and ``memory`` in MB for all."""
    _forget_peak(device)
    numbers = run_network(network, inputs, device, dtype, True)
    ms = median_ms(lambda: run_network(network, inputs, device, dtype, False), limits.repeats, device)
    return numbers, {"ms": ms / len(inputs.images), "memory": _peak_megabytes(device)}


def training_items(side: int) -> Iterator[dict[str, Any]]:
    """The two items of a batch of configs/nano.py, on generated pictures: eight squares that move."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(2):
        patches = [picture(side // 6, side // 6, generator).byte() for _ in range(8)]
        views = []
        for _ in range(2):
            image, boxes = picture(side, side, generator).byte(), []
            places = torch.randperm(9, generator=generator)[:8]
            for place, patch in zip(places.tolist(), patches, strict=True):
                y, x = (side // 3 * (place // 3) + side // 12, side // 3 * (place % 3) + side // 12)
                image[:, y : y + patch.shape[1], x : x + patch.shape[2]] = patch
                boxes.append([x, y, x + patch.shape[2], y + patch.shape[1]])
            found = torch.tensor(boxes, dtype=torch.float32)
            views.append({"image": image, "boxes": found, "ids": torch.arange(8), "regions": found[:0]})
        yield {"views": views}


def training_step(device: torch.device, mixed: bool, limits: Limits) -> dict[str, Any]:
    """Two steps of training nano as configs/nano.py makes them: the loss of the first, milliseconds of the second.

    Raises:
        ImportError: mmengine or another library of training is not installed.
    """
    from mmengine.config import Config
    from mmengine.optim import build_optim_wrapper
    from mmengine.registry import MODELS

    from masa_track.training.model import TrainingModel

    config = Config.fromfile(str(ROOT / "configs" / "nano.py"))
    config.model.backbone_weights = TRAINED  # as the shipped model has it; the rest starts as the seed says
    if mixed:
        config.optim_wrapper.type, config.optim_wrapper.loss_scale = "AmpOptimWrapper", "dynamic"
    torch.manual_seed(0)
    model: TrainingModel = MODELS.build(config.model).to(device)
    optimizer = build_optim_wrapper(model, config.optim_wrapper)
    items = list(training_items(limits.training_side))
    _forget_peak(device)
    losses = model.train_step(items, optimizer)
    ms = median_ms(lambda: model.train_step(items, optimizer), 1, device)
    return {"loss": float(losses["loss"].detach()), "ms": ms, "memory": _peak_megabytes(device)}


def check_training(table: Table, device: torch.device, limits: Limits) -> None:
    """Runs the training steps that are not done."""
    kinds = {"float32": False, **({"mixed": True} if device.type == "cuda" else {})}
    for dtype, mixed in kinds.items():
        key = f"training/{TRAINED}/{dtype}"
        cell: dict[str, Any] = {"kind": "training", "name": TRAINED, "dtype": dtype}
        if table.is_done(key):
            continue
        try:
            expected = training_step(torch.device("cpu"), False, limits)["loss"]
            step = training_step(device, mixed, limits)
            table.put(key, {**cell, "status": "done", "expected_loss": expected, **step})
        except ImportError as error:
            library = lacks(error)
            if library is None:
                raise
            table.put(key, {**cell, "status": f"not run: needs {library}"})
        except RuntimeError as error:
            table.put(key, {**cell, "status": f"failed: {first_line(error)[:200]}"})


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [spec.name for spec in sorted(list_models(), key=lambda spec: spec.size or 0)]  # the quick ones first
    parser.add_argument("--models", nargs="+", default=names, choices=names, metavar="NAME", help="default: all")
    parser.add_argument("--device", default="cuda", help="default: %(default)s")
    parser.add_argument("--quick", action="store_true", help="tiny pictures and few cells, to try the script")
    parser.add_argument(
        "--out", type=Path, default=Path("check_gpu.md"), metavar="FILE.md", help="default: %(default)s"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the cells. Returns the exit status: 0, 1 if one failed, 2 for a mistake of the user's."""
    args = make_parser().parse_args(arguments)
    try:
        if args.out.suffix != ".md":
            raise InputError(f"--out must end in .md, got {args.out}")
        device, limits = choose_device(args.device), QUICK if args.quick else Limits()
        table = Table(args.out, environment_of(device, limits))
        until = time.monotonic() + BUDGET_SECONDS
        for name in args.models:
            check_model(spec_of(name), table, device, limits, until)
            if name == TRAINED:
                check_training(table, device, limits)
    except InputError as error:
        print(f"check_gpu.py: error: {error}", file=sys.stderr)
        return 2
    print(table.page(), end="")
    return int(any(cell["status"].startswith("failed") for cell in table.cells.values()))


if __name__ == "__main__":
    sys.exit(main())
