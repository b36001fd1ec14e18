#!/usr/bin/env python3
"""Scores identities with and without the masks of detections: embeddings under them, and their overlap with masklets.

Detections are the true masks of clips with identities, made worse: a tenth is missing, borders are moved by 6 % of the
object's size (standard deviation), boxes by 3 %. The clips: a drive (CamVid), two of six frames (BDD100K), and collages
of single objects of DAVIS on a photograph, which jump every fifth frame, so that only appearance tells them apart.

    python tools/bench_mask_evidence.py ../shared --clips collage camvid --ways box mask
    python tools/bench_mask_evidence.py ../shared --clips bdd camvid --ways box flow flow+mask --strides 3
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import supervision as sv
from tqdm import tqdm

from masa_track.contracts import Frame
from masa_track.encoders.base import BaseEmbedder
from masa_track.encoders.loading import load
from masa_track.evaluation import MotRows, score_sequences
from masa_track.formats.davis import read_index_picture
from masa_track.masklets.flow import FlowPropagator
from masa_track.masklets.tracking import MaskletOptions, MaskletTracker
from masa_track.masks import compact_masks, decode_mask, mask_box
from masa_track.tracker import MasaTracker

FPS, LEAST = 15.0, 40  # frames a second, and pixels of a mask that counts
Masks = dict[int, np.ndarray]  # (H, W) bool by identity


def camvid(shared: Path, seed: int) -> Iterator[tuple[np.ndarray, Masks]]:
    """Pictures and masks of the drive."""
    folder = shared / "clips" / "moving" / "camvid_0016E5"
    for path in sorted((folder / "img1").glob("*.jpg")):
        numbers = read_index_picture(folder / "Annotations" / f"{path.stem}.png")
        yield read(path), {int(i): numbers == i for i in np.unique(numbers) if 0 < i < 255}


def bdd(shared: Path, seed: int) -> Iterator[tuple[np.ndarray, Masks]]:
    """Pictures and masks of one of the clips of BDD100K."""
    root = shared / "clips" / "bdd_mini" / "bdd100k_test" / "track"
    label_files = sorted((root / "labels").glob("*.json"))
    for frame in json.loads(label_files[seed % len(label_files)].read_text()):
        rles = {int(one["id"]): one["rle"] for one in frame["labels"] if one.get("rle")}
        picture = read(root / "images" / frame["videoName"] / frame["name"])
        yield picture, {i: decode_mask({**rle, "counts": rle["counts"].encode()}) for i, rle in rles.items()}


def collage(shared: Path, seed: int) -> Iterator[tuple[np.ndarray, Masks]]:
    """Objects of DAVIS on a photograph."""
    random, (width, height) = np.random.default_rng(seed + 3), (854, 480)
    photos = sorted((shared / "photos" / "images").glob("*.jpg"))
    background = cv2.resize(read(photos[(seed + 3) % len(photos)]), (width, height))
    clips = sorted(path for path in (shared / "clips" / "davis").iterdir() if (path / "masks").is_dir())
    scales = random.uniform(0.25, 0.42, len(clips))
    files = [list(zip(sorted((c / "images").glob("*")), sorted((c / "masks").glob("*")), strict=True)) for c in clips]
    for number in range(60):
        if number % 5 == 0:
            start, speed = random.uniform(0, 1, (len(clips), 2)), random.normal(0, 0.012, (len(clips), 2))
        picture, owner = background.copy(), np.zeros((height, width), int)
        for row, own in enumerate(files):
            image_file, mask_file = own[number % len(own)]
            mask = read(mask_file)[..., 0] > 127
            box = mask_box(mask)
            if box is None:
                continue
            x1, y1, x2, y2 = box.astype(int)
            h = int(scales[row] * height)
            w = min(max(4, int((x2 - x1) * h / (y2 - y1))), width - 2)
            pasted = cv2.resize(read(image_file)[y1:y2, x1:x2], (w, h))
            shape = cv2.resize(mask[y1:y2, x1:x2].astype(np.float32), (w, h)) > 0.5
            place = np.clip(start[row] + speed[row] * (number % 5), 0, 1) * (width - w, height - h)
            x, y = place.astype(int)
            picture[y : y + h, x : x + w][shape] = pasted[shape]
            owner[y : y + h, x : x + w][shape] = row + 1
        yield picture, {k: owner == k for k in range(1, len(clips) + 1)}


CLIPS: dict[str, Callable[[Path, int], Iterator[tuple[np.ndarray, Masks]]]] = {
    "camvid": camvid,
    "bdd": bdd,
    "collage": collage,
}
WAYS = ("box", "mask", "flow", "flow+mask")


def read(path: Path) -> np.ndarray:
    """A (H, W, 3) BGR picture."""
    picture = cv2.imread(str(path))
    if picture is None:
        raise SystemExit(f"{path}: no picture that can be read")
    return np.asarray(picture)


def detected(masks: Masks, random: np.random.Generator) -> sv.Detections:
    """What a detector might make of true masks."""
    boxes, shapes = [], []
    for mask in masks.values():
        if mask.sum() < LEAST or random.random() < 0.1:
            continue
        radius = round(0.06 * float(np.sqrt(mask.sum())) * random.normal())
        kernel = np.ones((2 * abs(radius) + 1, 2 * abs(radius) + 1), np.uint8)
        changed = (cv2.dilate if radius > 0 else cv2.erode)(mask.astype(np.uint8), kernel) > 0
        changed = mask if changed.sum() < LEAST / 2 else changed
        box = mask_box(changed)
        assert box is not None
        boxes.append(box + random.normal(0, 0.03, 4) * np.tile(box[2:] - box[:2], 2))
        shapes.append(changed)
    count = len(boxes)
    return sv.Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        mask=compact_masks(np.array(shapes)) if count else None,
        confidence=np.full(count, 0.9, np.float32),
        class_id=np.zeros(count, int),
    )


def scored(
    frames: Iterator[tuple[np.ndarray, Masks]], way: str, model: BaseEmbedder, stride: int, seed: int
) -> tuple[float, float, int]:
    """IDF1, HOTA and identity switches of a clip tracked in one of the :data:`WAYS`."""
    random = np.random.default_rng(seed)
    tracker: MasaTracker | MaskletTracker = MasaTracker(model, fps=FPS, pool="mask" if way == "mask" else "box")
    if way.startswith("flow"):
        options = MaskletOptions(use_mask_overlap=way == "flow+mask")
        tracker = MaskletTracker(tracker, FlowPropagator(), options)  # type: ignore[arg-type]
    truth: list[list[float]] = []
    tracks: list[list[float]] = []
    for number, (picture, masks) in enumerate(frames, 1):
        detections = detected(masks, random)
        if (number - 1) % stride:
            continue
        for identity, mask in masks.items():
            box = mask_box(mask)
            if box is not None and mask.sum() >= LEAST:
                truth.append([number, identity, box[0] + 1, box[1] + 1, *(box[2:] - box[:2])])
        size = picture.shape[1], picture.shape[0]
        (result,) = tracker.step(Frame(number, number / FPS, size, image=picture), detections)
        for identity, box in zip(np.asarray(result.detections.tracker_id), result.detections.xyxy, strict=True):
            if identity >= 0:
                tracks.append([number, identity, box[0] + 1, box[1] + 1, *(box[2:] - box[:2])])
    given, found = (np.array(rows, np.float64).reshape(-1, 6) for rows in (truth, tracks))
    pair = [MotRows(rows[:, 0].astype(np.int64), rows[:, 1].astype(np.int64), rows[:, 2:]) for rows in (given, found)]
    both = score_sequences({"clip": (pair[0], pair[1])}).combined
    return both.idf1, both.hota, both.switches


def main() -> None:
    """Prints a row for each clip and way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path, help="the folder with clips/ and photos/")
    parser.add_argument("--clips", nargs="+", choices=CLIPS, default=list(CLIPS))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--strides", nargs="+", type=int, default=[1, 5], help="of the frames (default: 1 5)")
    parser.add_argument("--draws", type=int, default=2, help="of detections, and of collages (default: %(default)s)")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    model = load("nano", device="cpu")
    print(f"{'clip':10}{'stride':>8}  {'way':10}{'IDF1':>8}{'HOTA':>8}{'switches':>10}", flush=True)
    for clip in args.clips:
        for stride in args.strides:
            for way in tqdm(args.ways, desc=f"{clip}, stride {stride}", leave=False):
                runs = [scored(CLIPS[clip](args.shared, k), way, model, stride, k) for k in range(args.draws)]
                idf1, hota, switches = np.mean(runs, axis=0)
                print(f"{clip:10}{stride:8}  {way:10}{idf1:8.3f}{hota:8.3f}{switches:10.1f}", flush=True)


if __name__ == "__main__":
    main()
