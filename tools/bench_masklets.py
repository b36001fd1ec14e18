#!/usr/bin/env python3
"""Measures masks propagated by FlowPropagator: J and F of DAVIS on each clip, and ms a frame and object.

Beside it: repeating the first mask, and the plain version, which moves the last mask by optical flow only. Each clip
starts from the true mask of its first frame (--prompt box: from the box around it); the first and the last frame are
left out, as DAVIS does. A clip is a folder with images/*.jpg and masks/*.png (0 and 255), e.g. ../shared/clips/davis.

    python tools/bench_masklets.py ../shared/clips/davis --frames 50
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from masa_track.contracts import Frame, Prompt
from masa_track.evaluation.jf import boundary_accuracy, region_similarity
from masa_track.masklets.flow import FlowPropagator
from masa_track.masklets.motion import DenseFlow, warped


class Repeated:
    """Repeats the first mask."""

    def __init__(self, image: np.ndarray, mask: np.ndarray, prompt: str) -> None:
        self.mask = mask

    def step(self, image: np.ndarray) -> np.ndarray:
        """The mask (H, W) bool of the next picture."""
        return self.mask


class Plain:
    """Moves the last mask by dense inverse search flow at half size and rounds it."""

    def __init__(self, image: np.ndarray, mask: np.ndarray, prompt: str) -> None:
        self.flow, self.grey = DenseFlow(), self._small(image)
        self.mask = cv2.resize(mask.astype(np.float32), self.grey.shape[::-1], interpolation=cv2.INTER_AREA)

    def _small(self, image: np.ndarray) -> np.ndarray:
        return cv2.cvtColor(cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2GRAY)

    def step(self, image: np.ndarray) -> np.ndarray:
        """The mask (H, W) bool of the next picture."""
        grey = self._small(image)
        self.mask = (warped(self.mask, self.flow.between(self.grey, grey)[0]) > 0.5).astype(np.float32)
        self.grey = grey
        return np.asarray(cv2.resize(self.mask, image.shape[1::-1]) > 0.5)


class Flow:
    """FlowPropagator with one object."""

    def __init__(self, image: np.ndarray, mask: np.ndarray, prompt: str) -> None:
        self.propagator, self.number = FlowPropagator(), 0
        rows, columns = np.nonzero(mask)
        box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        self.propagator.propose(self._frame(image))
        self.first = self.propagator.prompt(1, Prompt(mask=mask) if prompt == "mask" else Prompt(box=box))
        self.propagator.commit()

    def _frame(self, image: np.ndarray) -> Frame:
        self.number += 1
        return Frame(self.number, self.number / 25, image.shape[1::-1], image=image)

    def step(self, image: np.ndarray) -> np.ndarray:
        """The mask (H, W) bool of the next picture."""
        shown = self.propagator.propose(self._frame(image))
        self.propagator.commit()
        return np.asarray(shown.masks)[0]


METHODS: dict[str, type[Repeated] | type[Plain] | type[Flow]] = {
    "repeated": Repeated,
    "plain": Plain,
    "flow": Flow,
}


def read_clip(folder: Path, frames: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The first pictures (H, W, 3) BGR and masks (H, W) bool of a clip."""
    images = sorted((folder / "images").glob("*.jpg"))[:frames]
    masks = sorted((folder / "masks").glob("*.png"))[:frames]
    if len(images) < 3 or len(images) != len(masks):
        raise SystemExit(f"{folder}: needs 3 frames or more with a mask each, got {len(images)} and {len(masks)}")
    return [_read(path, cv2.IMREAD_COLOR) for path in images], [
        _read(path, cv2.IMREAD_GRAYSCALE) > 127 for path in masks
    ]


def _read(path: Path, flag: int) -> np.ndarray:
    picture = cv2.imread(str(path), flag)
    if picture is None:
        raise SystemExit(f"{path}: no picture that can be read")
    return np.asarray(picture)


def measure_speed(images: list[np.ndarray], mask: np.ndarray, counts: list[int]) -> None:
    """Prints ms a frame, of all cores together, for several objects: the same mask, so often, side by side."""
    for count in counts:
        propagator, spent = FlowPropagator(), []
        for number, image in enumerate(images, 1):
            start = time.process_time()
            propagator.propose(Frame(number, number / 25, image.shape[1::-1], image=image))
            if number == 1:
                for identity in range(count):
                    shifted = np.roll(mask, 40 * identity, axis=1)
                    propagator.prompt(identity, Prompt(mask=shifted))
            propagator.commit()
            spent.append(1000 * (time.process_time() - start))
        median = float(np.median(spent[1:]))
        print(
            f"{count:3d} objects, {images[0].shape[1]} x {images[0].shape[0]}: {median:6.1f} ms a frame, "
            f"{median / count:5.1f} ms a frame and object, {propagator.memory_bytes() / 1e6:.1f} MB",
            flush=True,
        )


def main() -> None:
    """Prints a table of J and F, and the speed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="a folder of clips")
    parser.add_argument("--clips", nargs="+", help="names of clips (default: all)")
    parser.add_argument("--frames", type=int, default=50, help="of each clip, at most (default: 50)")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--prompt", choices=("mask", "box"), default="mask", help="of the first frame, for flow")
    parser.add_argument("--objects", type=int, nargs="*", default=[], help="measure the speed for so many objects")
    parser.add_argument("--threads", type=int, default=1, help="of OpenCV (default: 1)")
    args = parser.parse_args()
    cv2.setNumThreads(args.threads)
    names = args.clips or sorted(path.name for path in args.root.iterdir() if (path / "masks").is_dir())
    if not names:
        raise SystemExit(f"{args.root}: no folder with images and masks in it")
    scores: dict[str, list[tuple[float, float, float]]] = {name: [] for name in args.methods}
    print(f"{'clip':16s}" + "".join(f"{name + ' J, F':>18s}" for name in args.methods))
    for clip in names:
        images, truth = read_clip(args.root / clip, args.frames)
        for name in args.methods:
            method = METHODS[name](images[0], truth[0], args.prompt)
            j, f, spent = [], [], []
            for image, true in tqdm(list(zip(images, truth, strict=True))[1:], f"{clip} {name}", leave=False):
                start = time.perf_counter()
                mask = method.step(image)
                spent.append(1000 * (time.perf_counter() - start))
                j.append(region_similarity(mask, true))
                f.append(boundary_accuracy(mask, true))
            scores[name].append((float(np.mean(j[:-1])), float(np.mean(f[:-1])), float(np.median(spent))))
        row = "".join(f"{scores[name][-1][0]:12.3f}{scores[name][-1][1]:6.3f}" for name in args.methods)
        print(f"{clip:16s}{row}", flush=True)
    means = {name: np.mean(values, axis=0) for name, values in scores.items()}
    print(f"{'mean':16s}" + "".join(f"{means[name][0]:12.3f}{means[name][1]:6.3f}" for name in args.methods))
    print(f"{'ms a frame':16s}" + "".join(f"{means[name][2]:18.1f}" for name in args.methods))
    if args.objects:
        images, truth = read_clip(args.root / names[0], min(args.frames, 12))
        measure_speed(images, truth[0], args.objects)


if __name__ == "__main__":
    main()
