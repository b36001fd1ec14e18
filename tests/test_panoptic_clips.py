"""Masks and classes of real clips as scripted detections: VPQ and STQ are what the identities give, counted plainly."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import supervision as sv

from masa_track import MasaTracker
from masa_track.contracts import Frame
from masa_track.evaluation.panoptic import SegmentedFrame, StqTally, panoptic_quality, shared_pixels
from masa_track.formats.davis import read_index_picture
from masa_track.formats.panoptic import Segment, read_label_map
from masa_track.masks import compressed, decode_mask, mask_box
from masa_track.parts.hierarchy import Hierarchy, parse_hierarchy
from masa_track.parts.scene import PANOPTIC, STUFF_NUMBER, SceneDetector, SceneTracker, thing_classes

CAMVID_STUFF = {"sky": 0, "building": 1, "road": 3, "pavement": 4, "tree": 5}


@dataclass
class Picture:
    """Things by identity with class and mask; stuff by class with mask."""

    things: dict[int, tuple[int, np.ndarray]]
    stuff: dict[int, np.ndarray]


def camvid(folder: Path, count: int) -> tuple[Hierarchy, list[Picture]]:
    tree = parse_hierarchy("pedestrian. cyclist. vehicle", ", ".join(CAMVID_STUFF))
    rows = np.loadtxt(folder / "gt" / "gt.txt", delimiter=",")
    class_of = {int(row[1]): {1: 0, 3: 1, 4: 2}[int(row[7])] for row in rows}
    pictures = []
    for file in sorted((folder / "Annotations").glob("*.png"))[:count]:
        ids, labels = read_index_picture(file), read_label_map(folder / "Semantic" / file.name)
        things = {int(i): (class_of[int(i)], ids == i) for i in np.unique(ids) if i in class_of}
        stuff = {3 + k: (labels == n) & (ids == 0) for k, n in enumerate(CAMVID_STUFF.values())}
        pictures.append(Picture(things, {label: mask for label, mask in stuff.items() if mask.any()}))
    return tree, pictures


def bdd(file: Path) -> tuple[Hierarchy, list[Picture]]:
    """Every fourth pixel; all that is no object is called background."""
    tree = parse_hierarchy("pedestrian. rider. car. truck. bus. train. motorcycle. bicycle", "background")
    names = {node.name: label for label, node in enumerate(tree.nodes)}
    pictures = []
    for frame in json.loads(file.read_text()):
        things: dict[int, tuple[int, np.ndarray]] = {}
        free = np.ones((180, 320), bool)
        for label in frame["labels"]:
            rle = json.loads(label["rle"].replace("'", '"')) if isinstance(label["rle"], str) else label["rle"]
            mask = decode_mask(compressed(rle, (720, 1280)))[::4, ::4] & free
            if label["category"] in names and mask.sum() > 20:
                things[int(label["id"])] = names[label["category"]], mask
                free &= ~mask
        pictures.append(Picture(things, {len(names) - 1: free}))
    return tree, pictures


class Scripted:
    """Gives the things and the stuff of the picture that is due."""

    threshold, track_activation_threshold, features_key = 0.3, 0.35, None
    picture: Picture

    def detect(self, images, features=None) -> list[sv.Detections]:
        rows = list(self.picture.things.values())
        masks = np.array([mask for _, mask in rows], bool).reshape(-1, *images[0].shape[:2])
        boxes = np.array([mask_box(mask) for mask in masks], np.float32).reshape(-1, 4)
        labels = np.array([label for label, _ in rows], np.int64)
        return [sv.Detections(boxes, mask=masks, confidence=np.ones(len(rows), np.float32), class_id=labels)]


class Stuff:
    def __init__(self, detector: Scripted, tree: Hierarchy) -> None:
        self.detector, self.labels = detector, list(tree.labels("stuff"))

    def find(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        own = self.detector.picture.stuff
        scores = np.array([[0.9 * (label == other) for other in self.labels] for label in own], np.float32)
        return scores, np.array(list(own.values()), np.float32)


class Blind:
    """A model that is not asked: motion alone decides."""

    key = "blind"

    def embed(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        raise AssertionError


def truth_of(picture: Picture, size: tuple[int, int]) -> SegmentedFrame:
    numbers, segments = np.zeros(size, np.int32), {}
    for label, mask in picture.stuff.items():
        numbers[mask], segments[STUFF_NUMBER + label] = STUFF_NUMBER + label, Segment(label)
    for identity, (label, mask) in picture.things.items():
        numbers[mask], segments[identity + 1] = identity + 1, Segment(label)
    return SegmentedFrame(numbers, segments)


def run(tree: Hierarchy, pictures: list[Picture], fps: float) -> tuple[list[SegmentedFrame], list[SegmentedFrame]]:
    size = next(iter(pictures[0].stuff.values())).shape
    detector = Scripted()
    scene = SceneDetector(tree, detector, None, Stuff(detector, tree))
    options = {"classes": thing_classes(tree), "use_appearance": False}
    tracker = SceneTracker(MasaTracker(Blind(), fps=fps, **options), tree)  # type: ignore[arg-type]
    image = np.zeros((*size, 3), np.uint8)
    truth, found = [], []
    for number, picture in enumerate(pictures, 1):
        detector.picture = picture
        (rows,) = scene.detect([image])
        (result,) = tracker.step(Frame(number, number / fps, size[::-1], image=image), rows)
        panoptic = result.extras[PANOPTIC]
        truth.append(truth_of(picture, size))
        found.append(SegmentedFrame(panoptic.numbers, panoptic.segments))
    return truth, found


def plain_aq(truth: list[SegmentedFrame], found: list[SegmentedFrame], things: Sequence[int]) -> float:
    """Tube by tube, over whole arrays. A tube is a class with an identity: a track whose class changes is two."""

    def codes(clip: list[SegmentedFrame]) -> np.ndarray:
        maps = np.zeros((len(clip), *clip[0].numbers.shape), np.int64)
        for own, frame in zip(maps, clip, strict=True):
            for number, segment in frame.segments.items():
                if segment.label in things:
                    own[frame.numbers == number] = number * 100 + segment.label + 1
        return maps

    t, p = codes(truth), codes(found)
    values = []
    for g in set(np.unique(t).tolist()) - {0}:
        total = 0.0
        for q in set(np.unique(p[t == g]).tolist()) - {0}:
            total += np.count_nonzero((t == g) & (p == q)) ** 2 / np.count_nonzero((t == g) | (p == q))
        values.append(total / np.count_nonzero(t == g))
    return float(np.mean(values))


def check(tree: Hierarchy, pictures: list[Picture], fps: float, least: float) -> None:
    truth, found = run(tree, pictures, fps)
    shared = [shared_pixels(*pair) for pair in zip(truth, found, strict=True)]
    labels = range(len(tree.nodes))
    stq = StqTally(labels, tree.labels("thing"))
    stq.add(shared)
    result = stq.result()
    assert result.aq == pytest.approx(plain_aq(truth, found, tree.labels("thing")))
    assert result.aq > least
    assert result.stq == pytest.approx(math.sqrt(result.aq * result.sq))
    pq = [panoptic_quality(shared, window).mean(tree.labels("stuff"))[0] for window in (1, 2, 3)]
    assert pq == pytest.approx([1, 1, 1])  # stuff is given as it is
    things = [panoptic_quality(shared, window).mean(tree.labels("thing"))[0] for window in (1, 2, 3)]
    assert things == sorted(things, reverse=True)  # an identity that changes costs more in longer windows
    assert things[0] > 0.95  # frames in which a track is not yet confirmed
    perfect = [shared_pixels(one, one) for one in truth]
    assert panoptic_quality(perfect, 3).mean()[0] == 1
    renamed = [
        shared_pixels(a, half(b, number, len(truth))) for number, (a, b) in enumerate(zip(truth, truth, strict=True))
    ]
    tally = StqTally(labels, tree.labels("thing"))
    tally.add(renamed)
    assert tally.result().sq == 1
    assert tally.result().aq == pytest.approx(
        plain_aq(truth, [half(one, number, len(truth)) for number, one in enumerate(truth)], tree.labels("thing"))
    )


def half(frame: SegmentedFrame, number: int, count: int) -> SegmentedFrame:
    """The same frame; in the second half of the clip all things have other identities."""
    if number < count // 2:
        return frame
    shift = {n: n + 5000 if n < STUFF_NUMBER else n for n in frame.segments}
    is_thing = (frame.numbers > 0) & (frame.numbers < STUFF_NUMBER)
    numbers = np.where(is_thing, frame.numbers + 5000, frame.numbers)
    return SegmentedFrame(numbers, {shift[n]: one for n, one in frame.segments.items()})


@pytest.mark.shared_data
@pytest.mark.slow
def test_camvid(shared: Path) -> None:
    check(*camvid(shared / "clips" / "moving" / "camvid_0016E5", 40), fps=15, least=0.8)


@pytest.mark.shared_data
@pytest.mark.slow
@pytest.mark.parametrize("name", ["00091078-875c1f73", "b1c66a42-6f7d68ca"])
def test_bdd(shared: Path, name: str) -> None:
    check(*bdd(shared / "clips" / "bdd_mini" / "bdd100k_test" / "track" / "labels" / f"{name}.json"), fps=5, least=0.6)
