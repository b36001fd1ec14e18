#!/usr/bin/env python3
"""Accuracy and time of detectors on clips with pictures and true boxes, for people, vehicles and animals.

    python tools/score_detector.py CLIPS

CLIPS holds mot15/, mot17_mini/, moving/, bdd_mini/ and davis/; what is missing is left out. A detector is `public`
(det/det.txt of a MOT clip), `own` (the head of the model nano) or nanodet with a rule for its input sizes: `nanodet`
(its own rule), `nanodet:416`, `nanodet:416+640`, `nanodet:416+.75@640-960` (a fraction of the longer side, within
bounds).

AP is the area under the precision envelope over recall, with a match at an IoU of .5 or more. Recall and precision are
those of the boxes that start tracks. A box that matches nothing is left aside where it overlaps what the truth does
not judge for this kind: objects of other kinds, and the ignored regions of MOT17 and camvid. Bicycles are not scored,
as the clips disagree on them. `own` has one class: its boxes are judged for each kind in turn. Times are medians of
ten frames of each size, with decoding, without reading: CPU milliseconds with one thread; wall milliseconds with one
and with two.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from masa_track.association.evidence.options import FusedOptions
from masa_track.boxes import box_iou
from masa_track.detectors.nanodet import COCO_NAMES, GROUPS, NanodetDetector

KINDS = ("people", "vehicles", "animals")
ANY = len(KINDS)  # kind of the boxes of a detector of one class
MATCH = 0.5  # IoU
DAVIS = {"blackswan": 2, "car-shadow": 1, "dog": 2, "drift-straight": 1}  # kind of the object
BDD = {"pedestrian": 0, "rider": 0, "car": 1, "truck": 1, "bus": 1, "train": 1, "motorcycle": 1}
CAMVID = {1: 0, 3: 0, 4: 1}  # class in gt.txt: kind


@dataclass
class Truth:
    """One frame.

    Attributes:
        image: its file, or (video file, frame number from 1).
        boxes: (N, 4) xyxy pixels.
        kinds: (N,) index into KINDS; -1 for what is not judged.
        public: (M, 5) xyxy and score of the public detections; None where there are none.
    """

    image: Path | tuple[Path, int]
    boxes: np.ndarray
    kinds: np.ndarray
    public: np.ndarray | None = None


def mot_clip(folder: Path, kind_of: Callable[[np.ndarray], int]) -> list[Truth]:
    """Frames of a MOT sequence with pictures. ``kind_of`` gives the kind of a row of gt.txt."""
    rows = np.loadtxt(folder / "gt" / "gt.txt", delimiter=",", usecols=range(8), ndmin=2)
    ignored = folder / "gt" / "ignore.txt"
    if ignored.exists():
        extra = np.loadtxt(ignored, delimiter=",", usecols=range(8), ndmin=2)
        extra[:, 7] = -1
        rows = np.concatenate((rows, extra))
    kinds = np.array([kind_of(row) for row in rows])
    public = folder / "det" / "det.txt"
    found = np.loadtxt(public, delimiter=",", usecols=range(7), ndmin=2) if public.exists() else None
    video = next(folder.glob("*.avi"), None)
    frames = []
    for number in np.unique(rows[:, 0]).astype(int):
        own = rows[:, 0] == number
        image: Path | tuple[Path, int] = (video, number) if video else folder / "img1" / f"{number:06}.jpg"
        if isinstance(image, Path) and not image.exists():
            continue
        public_boxes = None
        if found is not None:
            at = found[found[:, 0] == number]
            public_boxes = np.column_stack((corners(at[:, 2:6]), at[:, 6]))
        frames.append(Truth(image, corners(rows[own, 2:6]), kinds[own], public_boxes))
    return frames


def corners(boxes: np.ndarray) -> np.ndarray:
    """Boxes (N, 4) of MOT, left, top (from 1), width, height, as xyxy pixels from 0."""
    start = boxes[:, :2] - 1
    return np.concatenate((start, start + boxes[:, 2:4]), axis=1)


def mot17_kind(row: np.ndarray) -> int:
    """Pedestrians are judged; persons on vehicles, statues, reflections and all that is flagged are not."""
    return 0 if row[7] == 1 and row[6] == 1 else -1


def bdd_clips(folder: Path) -> Iterator[tuple[str, list[Truth]]]:
    """BDD100K's tracking clips."""
    for file in sorted((folder / "labels").glob("*.json")):
        frames = []
        for frame in json.loads(file.read_text()):
            labels = [label for label in frame["labels"] if "box2d" in label]
            boxes = [[label["box2d"][side] for side in ("x1", "y1", "x2", "y2")] for label in labels]
            kinds = [-1 if label["attributes"].get("crowd") else BDD.get(label["category"], -1) for label in labels]
            image = folder / "images" / file.stem / frame["name"]
            frames.append(Truth(image, np.array(boxes, float).reshape(-1, 4), np.array(kinds, int)))
        yield f"bdd {file.stem[:4]}", frames


def davis_clip(folder: Path, kind: int) -> list[Truth]:
    """A clip of DAVIS: the box around its object's mask in each frame."""
    frames = []
    for image in sorted((folder / "images").glob("*.jpg")):
        mask = cv2.imread(str(folder / "masks" / f"{image.stem}.png"))
        if mask is None or not mask.any():
            continue
        rows, columns = (np.flatnonzero(mask.any(axis=axes)) for axes in ((1, 2), (0, 2)))
        box = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        frames.append(Truth(image, np.array([box], float), np.array([kind])))
    return frames


def read_clips(root: Path) -> dict[str, list[Truth]]:
    """All clips with pictures and truth, by name."""
    clips = {
        path.parent.parent.name: mot_clip(path.parent.parent, lambda row: 0) for path in root.glob("mot15/*/gt/gt.txt")
    }
    for path in sorted(root.glob("mot17_mini/*/gt/gt.txt")):
        clips[path.parent.parent.name.removesuffix("-FRCNN")] = mot_clip(path.parent.parent, mot17_kind)
    for path in sorted(root.glob("moving/*/gt/gt.txt")):
        clips[path.parent.parent.name] = mot_clip(path.parent.parent, lambda row: CAMVID.get(int(row[7]), -1))
    clips.update(bdd_clips(root / "bdd_mini" / "bdd100k_test" / "track"))
    for name, kind in DAVIS.items():
        if (root / "davis" / name).is_dir():
            clips[f"davis {name}"] = davis_clip(root / "davis" / name, kind)
    return {name: frames for name, frames in clips.items() if frames}


def read_images(frames: list[Truth]) -> list[np.ndarray]:
    """The pictures of frames, of which those in videos are in one video in rising order."""
    images, capture, position = [], None, 0
    for frame in frames:
        if isinstance(frame.image, Path):
            image = cv2.imread(str(frame.image))
        else:
            video, number = frame.image
            capture = capture or cv2.VideoCapture(str(video))
            while position < number:
                image = capture.read()[1]
                position += 1
        if image is None:
            raise SystemExit(f"{frame.image} cannot be read")
        images.append(image)
    return images


@dataclass
class Tally:
    """Scored boxes of one kind over frames.

    Attributes:
        truths: how many true boxes there are.
        scores: of the judged boxes.
        right: whether each is matched.
    """

    truths: int = 0
    scores: list[float] = field(default_factory=list)
    right: list[bool] = field(default_factory=list)

    def add(self, boxes: np.ndarray, scores: np.ndarray, truth: np.ndarray, others: np.ndarray) -> None:
        """Judges one frame's boxes (N, 4), the best first, against true boxes (M, 4); ``others`` are not judged."""
        self.truths += len(truth)
        order = np.argsort(-scores, kind="stable")
        overlaps = box_iou(boxes[order], truth) if len(truth) else np.zeros((len(boxes), 1))
        aside = box_iou(boxes[order], others) if len(others) else np.zeros((len(boxes), 1))
        for row, score in enumerate(scores[order]):
            column = int(overlaps[row].argmax())
            hit = bool(overlaps[row, column] >= MATCH)
            if not hit and (aside[row].max() >= MATCH or covered(boxes[order][row], others)):
                continue
            self.scores.append(float(score))
            self.right.append(hit)
            if hit:
                overlaps[:, column] = -1

    def summary(self, threshold: float) -> tuple[float, float, float]:
        """AP; recall and precision of the boxes that score above the threshold."""
        if not self.scores:
            return 0.0, 0.0, 0.0
        order = np.argsort(-np.array(self.scores), kind="stable")
        right = np.array(self.right)[order]
        recall, precision = np.cumsum(right) / self.truths, np.cumsum(right) / np.arange(1, len(right) + 1)
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        area = float(np.sum(np.diff(recall, prepend=0) * envelope))
        strong = int(np.count_nonzero(np.array(self.scores) > threshold))
        return area, float(recall[strong - 1]) if strong else 0.0, float(precision[strong - 1]) if strong else 0.0


def covered(box: np.ndarray, others: np.ndarray) -> bool:
    """Whether half of a box lies in one region that is not judged."""
    if not len(others):
        return False
    shared = np.maximum(np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2]), 0).prod(axis=1)
    return bool(shared.max() >= MATCH * max((box[2:] - box[:2]).prod(), 1e-6))


def kind_of_name(name: str) -> int:
    """Index into KINDS of a COCO class; -1 for what is not scored."""
    return next((kind for kind, group in enumerate(KINDS) if name in GROUPS[group] and name != "bicycle"), -1)


COCO_KINDS = np.array([kind_of_name(name) for name in COCO_NAMES])
Boxes = tuple[np.ndarray, np.ndarray, np.ndarray]  # (N, 4) xyxy pixels, (N,) scores, (N,) index into KINDS


def public_boxes(frame: Truth, image: np.ndarray) -> Boxes | None:
    """Those of the clip's file, all of people."""
    if frame.public is None:
        return None
    return frame.public[:, :4], frame.public[:, 4], np.zeros(len(frame.public), int)


def sizes_of(rule: str, longer: int) -> list[int]:
    """``416+.75@640-960`` for a frame of a longer side of 1,280 pixels as ``[416, 960]``."""
    sizes = []
    for part in rule.split("+"):
        size, _, bounds = part.partition("@")
        if bounds:
            low, high = map(int, bounds.split("-"))
            sizes.append(round(float(np.clip(float(size) * longer, low, high)) / 32) * 32)
        else:
            sizes.append(int(size))
    return sizes


def finder(name: str, threads: int | None = None) -> tuple[Callable[[Truth, np.ndarray], Boxes | None], float]:
    """What gives the boxes of a frame, and the score from which they start tracks.

    Args:
        name: see the module.
        threads: of ONNX Runtime or torch; None: as they choose.
    """
    if name == "public":
        return public_boxes, FusedOptions().track_activation_threshold
    if name == "own":
        import torch

        import masa_track
        from masa_track.detectors.own import OwnDetector

        torch.set_num_threads(threads or 2)
        own = OwnDetector(masa_track.load("nano", "cpu"))

        def find_own(frame: Truth, image: np.ndarray) -> Boxes:
            (found,) = own.detect([image])
            return found.xyxy, np.asarray(found.confidence), np.full(len(found), ANY)

        return find_own, own.track_activation_threshold
    detector = NanodetDetector(threads=threads)
    rule = name.partition(":")[2]

    def find(frame: Truth, image: np.ndarray) -> Boxes:
        detector.long_sides = sizes_of(rule, max(image.shape[:2])) if rule else None
        (found,) = detector.detect([image])
        return found.xyxy, np.asarray(found.confidence), COCO_KINDS[found.class_id]

    return find, detector.track_activation_threshold


def score(
    find: Callable[[Truth, np.ndarray], Boxes | None],
    frames: list[Truth],
    images: list[np.ndarray],
    tallies: list[Tally],
) -> bool:
    """Adds a clip's frames to the tallies, one of each kind. False where the clip has no such boxes."""
    judged = np.unique(np.concatenate([frame.kinds for frame in frames]))
    for frame, image in zip(frames, images, strict=True):
        found = find(frame, image)
        if found is None:
            return False
        boxes, scores, kinds = found
        for kind, tally in enumerate(tallies):
            if kind in judged:
                mine = (kinds == kind) | (kinds == ANY)
                tally.add(boxes[mine], scores[mine], frame.boxes[frame.kinds == kind], frame.boxes[frame.kinds != kind])
    return True


def milliseconds(name: str, images: list[np.ndarray], threads: int) -> tuple[float, float]:
    """Medians over the pictures: wall and CPU milliseconds a frame, all threads together."""
    find, _ = finder(name, threads)
    times = []
    for image in [images[0], *images]:
        wall, cpu = time.perf_counter(), time.process_time()
        find(Truth(Path(), np.zeros((0, 4)), np.zeros(0, int)), image)
        times.append((time.perf_counter() - wall, time.process_time() - cpu))
    wall, cpu = np.median(times[1:], axis=0) * 1000
    return float(wall), float(cpu)


def main() -> None:
    """Prints a Markdown table a kind, clips in rows and detectors in columns, and a table of times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, help="folder of the clips")
    parser.add_argument(
        "--detectors", nargs="+", default=["public", "own", "nanodet"], metavar="NAME", help="see above"
    )
    parser.add_argument(
        "--frames", type=int, default=30, help="at most so many of a clip, evenly (default: %(default)s)"
    )
    args = parser.parse_args()
    clips = read_clips(args.clips)
    if not clips:
        parser.error(f"no clip in {args.clips}")
    finders = {name: finder(name) for name in args.detectors}
    cells: dict[tuple[int, str, str], str] = {}
    counts: dict[tuple[int, str], int] = {}
    by_size: dict[tuple[int, int], list[np.ndarray]] = {}
    for clip, every in clips.items():
        frames = every[:: -(-len(every) // args.frames)]
        images = read_images(frames)
        by_size.setdefault(images[0].shape[1::-1], []).extend(images[:10])
        for name, (find, threshold) in finders.items():
            tallies = [Tally() for _ in KINDS]
            if not score(find, frames, images, tallies):
                continue
            for kind, tally in enumerate(tallies):
                if tally.truths:
                    area, recall, precision = tally.summary(threshold)
                    cells[kind, clip, name] = f"{area:.3f} ({recall:.2f}/{precision:.2f})"
                    counts[kind, clip] = tally.truths
    heads = "".join(f" {name} |" for name in args.detectors)
    for kind, title in enumerate(KINDS):
        print(f"\n| {title}: AP (recall/precision) | boxes |{heads}\n|---|---|{'---|' * len(args.detectors)}")
        for clip in clips:
            if (kind, clip) in counts:
                row = "".join(f" {cells.get((kind, clip, name), '')} |" for name in args.detectors)
                print(f"| {clip} | {counts[kind, clip]} |{row}")
        means = [
            [float(cells[key].split()[0]) for key in cells if key[0] == kind and key[2] == n] for n in args.detectors
        ]
        print("| mean AP | |" + "".join(f" {np.mean(m):.3f} |" if m else " |" for m in means))
    timed = [name for name in args.detectors if name != "public"]
    print(
        f"\n| ms a frame: CPU; wall with 1, 2 threads |{''.join(f' {n} |' for n in timed)}\n|---|{'---|' * len(timed)}"
    )
    for size, images in sorted(by_size.items()):
        line = f"| {size[0]} x {size[1]} |"
        for name in timed:
            (one, cpu), (two, _) = (milliseconds(name, images[:10], threads) for threads in (1, 2))
            line += f" {cpu:.0f}; {one:.0f}, {two:.0f} |"
        print(line)


if __name__ == "__main__":
    main()
