#!/usr/bin/env python3
"""Parents and identities of parts, on films of pasted persons with true masks of their parts; no network finds them.

Three persons of photographs, cut out by their masks, walk to and fro over a photograph and cover each other. Detections
are the visible masks of persons and parts, with jittered boxes, shifted masks and misses. Identities of persons are
given, so that only parts are measured.

    python tools/bench_parts.py ../shared/photos --films 12 --picture tree.jpg
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment

from masa_track.association.evidence.fused import FusedAssociator
from masa_track.boxes import box_iou
from masa_track.contracts import Observation
from masa_track.drawing.tracks import TrackDrawer
from masa_track.encoders.loading import load
from masa_track.evaluation.parts import PartFrame, PartScores, score_parts
from masa_track.masks import compressed, decode_mask, mask_box
from masa_track.parts.hierarchy import Hierarchy, Node
from masa_track.parts.tree import FIRST_PART_ID, OPTIONS, PartTracker, assign_parents
from masa_track.tracker import embed_boxes

WIDTH, HEIGHT, FPS = 480, 320, 25
_LEAST_PIXELS, _LEAST_SHARE = 60, 0.3  # of a part, to be seen
_PERSON_SHARE = 0.2  # visible, for a person to be seen


@dataclass
class Person:
    """A cut-out: picture, mask, and masks of parts with their classes."""

    picture: np.ndarray
    mask: np.ndarray
    parts: list[tuple[int, np.ndarray]]


@dataclass
class Shot:
    """A frame: picture, the truth, detections with masks, and the true persons' identities of the detections."""

    picture: np.ndarray
    truth: PartFrame
    found: Observation
    masks: np.ndarray
    identities: np.ndarray


def read_persons(folder: Path, height: int) -> tuple[Hierarchy, list[Person]]:
    """The classes, and the persons of all photographs, scaled to a height in pixels."""
    content = json.loads((folder / "parts.json").read_text())
    names = {one["id"]: one["name"] for one in content["categories"]}
    kinds = sorted({names[one["category_id"]] for one in content["annotations"]} - {"whole_person"})
    hierarchy = Hierarchy((Node("person", "thing"), *(Node(name, "part", 0) for name in kinds)))
    label_of = {name: i + 1 for i, name in enumerate(kinds)}
    of_image: dict[int, list[dict]] = {}
    for one in content["annotations"]:
        of_image.setdefault(one["image_id"], []).append(one)
    persons = []
    for image in content["images"]:
        picture = read_picture(folder / "images" / image["file_name"])
        rows = of_image[image["id"]]
        masks = [decode_mask(compressed(row["segmentation"], picture.shape[:2])) for row in rows]
        whole = next(i for i, row in enumerate(rows) if names[row["category_id"]] == "whole_person")
        x1, y1, x2, y2 = around(masks[whole]).astype(int).tolist()
        size = max(1, round((x2 - x1) * height / (y2 - y1))), height

        def small(mask: np.ndarray, box: tuple[int, ...] = (x1, y1, x2, y2), to: tuple[int, int] = size) -> np.ndarray:
            cut = mask[box[1] : box[3], box[0] : box[2]].astype(np.uint8)
            return cv2.resize(cut, to, interpolation=cv2.INTER_AREA if cut.ndim > 2 else cv2.INTER_NEAREST)

        parts = [
            (label_of[names[row["category_id"]]], small(mask).astype(bool))
            for row, mask in zip(rows, masks, strict=True)
            if names[row["category_id"]] != "whole_person"
        ]
        persons.append(Person(small(picture), small(masks[whole]).astype(bool), parts))
    return hierarchy, persons


def read_picture(path: Path) -> np.ndarray:
    """(H, W, 3) BGR."""
    picture = cv2.imread(str(path))
    if picture is None:
        raise SystemExit(f"{path} cannot be read")
    return np.asarray(picture, np.uint8)


def around(mask: np.ndarray) -> np.ndarray:
    """(4,) the box of a mask that is not empty."""
    box = mask_box(mask)
    assert box is not None
    return box


def film(persons: list[Person], background: np.ndarray, frames: int, rng: np.random.Generator) -> list[Shot]:
    """Persons over a background; later ones are in front."""
    centres = rng.uniform(120, WIDTH - 120, len(persons))
    reach, speed, phase = (rng.uniform(a, b, len(persons)) for a, b in ((60, 160), (0.6, 1.4), (0, 6.3)))
    shots = []
    for number in range(frames):
        layers = np.full((HEIGHT, WIDTH), -1)
        picture = background.copy()
        places = []
        for i, person in enumerate(persons):
            height, width = person.mask.shape
            x = int(centres[i] + reach[i] * np.sin(speed[i] * number / FPS * 2 + phase[i]) - width / 2)
            y = HEIGHT - height - 8 + int(3 * np.sin(0.5 * number + i))
            places.append((x, y))
            mask = _pasted(person.mask, x, y)
            layers[mask] = i
            picture[mask] = _pasted(person.picture, x, y)[mask]
        shots.append(_shot(number + 1, picture, persons, places, layers, rng))
    return shots


def _pasted(small: np.ndarray, x: int, y: int) -> np.ndarray:
    """A small array in a picture of zeros, cut at the border."""
    out = np.zeros((HEIGHT, WIDTH, *small.shape[2:]), small.dtype)
    height, width = small.shape[:2]
    left, top, right, bottom = max(x, 0), max(y, 0), min(x + width, WIDTH), min(y + height, HEIGHT)
    if right > left and bottom > top:
        out[top:bottom, left:right] = small[top - y : bottom - y, left - x : right - x]
    return out


def _shot(
    number: int,
    picture: np.ndarray,
    persons: list[Person],
    places: list[tuple[int, int]],
    layers: np.ndarray,
    rng: np.random.Generator,
) -> Shot:
    rows: list[tuple[int, np.ndarray, int, int]] = []  # class, mask, identity, parent
    for i, (person, (x, y)) in enumerate(zip(persons, places, strict=True)):
        seen = layers == i
        if seen.sum() < _PERSON_SHARE * person.mask.sum():
            continue
        rows.append((0, seen, i, -1))
        for k, (label, small) in enumerate(person.parts):
            whole = _pasted(small, x, y)
            own = whole & seen
            if own.sum() >= max(_LEAST_PIXELS, _LEAST_SHARE * small.sum()):
                rows.append((label, own, 100 * (i + 1) + k, i))
    boxes = np.array([around(mask) for _, mask, _, _ in rows], np.float32).reshape(-1, 4)
    labels, ids, parents = (np.array([row[i] for row in rows], np.int64) for i in (0, 2, 3))
    truth = PartFrame(boxes, np.ones(len(rows)), labels, ids, parents, labels > 0)
    kept = (labels == 0) | (rng.random(len(rows)) > 0.1)
    sizes = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    jittered = boxes + rng.normal(0, 0.03, boxes.shape).astype(np.float32) * sizes
    jittered = np.sort(jittered.reshape(-1, 2, 2), axis=1).reshape(-1, 4)
    masks = np.array([np.roll(mask, rng.integers(-2, 3, 2), (0, 1)) for _, mask, _, _ in rows], bool)
    scores = np.where(labels == 0, 0.95, rng.uniform(0.4, 0.95, len(rows))).astype(np.float32)
    found = Observation(number, number / FPS, (WIDTH, HEIGHT), jittered[kept], scores[kept], labels[kept])
    return Shot(picture, truth, found, masks[kept], np.where(labels[kept] == 0, ids[kept], -1))


Method = Callable[[Hierarchy, list[Shot]], list[tuple[np.ndarray, np.ndarray]]]  # identities and parents' identities


def nearest_centre(hierarchy: Hierarchy, shots: list[Shot]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Baseline: the person whose box has the nearest centre; identities by overlap with the frame before."""
    parents = []
    for shot in shots:
        centres = (shot.found.boxes[:, :2] + shot.found.boxes[:, 2:]) / 2
        things = np.flatnonzero(shot.found.labels == 0)
        distances = np.linalg.norm(centres[:, None] - centres[things], axis=2)
        parents.append(np.where(shot.found.labels == 0, -1, things[distances.argmin(axis=1)] if len(things) else -1))
    return _frame_to_frame(shots, parents)


def no_memory(hierarchy: Hierarchy, shots: list[Shot]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Baseline: parents by masks; identities by overlap with the frame before."""
    return _frame_to_frame(shots, [_by_masks(hierarchy, shot) for shot in shots])


def flat(hierarchy: Hierarchy, shots: list[Shot]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Baseline: parents by masks; parts are tracked in the picture, as things are."""
    tracker = FusedAssociator(**{**OPTIONS, "motion_speed": 1.0, "motion_persistence": 1.0})
    results = []
    for shot in shots:
        rows = np.flatnonzero(shot.found.labels > 0)
        given = shot.found
        own = Observation(
            given.number, given.time, given.size, given.boxes[rows], given.scores[rows], given.labels[rows]
        )
        ids = shot.identities.copy()
        found, _, _ = tracker.update(own)
        ids[rows] = np.where(found >= 0, FIRST_PART_ID + found, -1)
        results.append((ids, _parent_ids(shot, _by_masks(hierarchy, shot))))
    return results


def by_boxes(hierarchy: Hierarchy, shots: list[Shot]) -> list[tuple[np.ndarray, np.ndarray]]:
    """PartTracker, parents by boxes."""
    return _tracked(PartTracker(hierarchy), shots, masks=False)


def by_masks(hierarchy: Hierarchy, shots: list[Shot]) -> list[tuple[np.ndarray, np.ndarray]]:
    """PartTracker, parents by masks."""
    return _tracked(PartTracker(hierarchy), shots)


def box_appearance(hierarchy: Hierarchy, shots: list[Shot]) -> list[tuple[np.ndarray, np.ndarray]]:
    """PartTracker with nano's embeddings of the parts' boxes."""
    return _with_appearance(hierarchy, shots, under_masks=False)


def mask_appearance(hierarchy: Hierarchy, shots: list[Shot]) -> list[tuple[np.ndarray, np.ndarray]]:
    """PartTracker with nano's embeddings of what is under the parts' masks."""
    return _with_appearance(hierarchy, shots, under_masks=True)


def _with_appearance(hierarchy: Hierarchy, shots: list[Shot], under_masks: bool) -> list[tuple[np.ndarray, np.ndarray]]:
    model = load("nano", device="cpu")
    tracker = PartTracker(hierarchy, prior=model.prior, use_appearance=True)
    for shot in shots:
        masks = list(shot.masks) if under_masks else None
        shot.found.embeddings = embed_boxes(model, shot.picture, shot.found.boxes, None, masks)
    results = _tracked(tracker, shots)
    for shot in shots:
        shot.found.embeddings = None
    return results


def _by_masks(hierarchy: Hierarchy, shot: Shot) -> np.ndarray:
    return assign_parents(hierarchy, shot.found.labels, shot.found.boxes, shot.masks)


def _parent_ids(shot: Shot, parents: np.ndarray) -> np.ndarray:
    return np.where(parents >= 0, shot.identities[parents], -1)


def _tracked(tracker: PartTracker, shots: list[Shot], masks: bool = True) -> list[tuple[np.ndarray, np.ndarray]]:
    results = []
    for shot in shots:
        found = tracker.update(shot.found, shot.identities, shot.masks if masks else None)
        results.append((found.identities, found.parent_ids))
    return results


def _frame_to_frame(shots: list[Shot], parents: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    results = []
    before: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None  # boxes, classes and identities
    free = FIRST_PART_ID
    for shot, rows in zip(shots, parents, strict=True):
        given, ids = shot.found, shot.identities.copy()
        if before is not None:
            overlaps = box_iou(given.boxes, before[0])
            overlaps[(given.labels[:, None] != before[1]) | (overlaps < 0.3)] = 0
            for a, b in zip(*linear_sum_assignment(-overlaps), strict=True):
                if overlaps[a, b] > 0 and given.labels[a] > 0:
                    ids[a] = before[2][b]
        new = np.flatnonzero((given.labels > 0) & (ids < 0))
        ids[new] = np.arange(free, free + len(new))
        free += len(new)
        before = given.boxes, given.labels, ids
        results.append((ids, _parent_ids(shot, rows)))
    return results


METHODS: dict[str, Method] = {
    "nearest box centre, frame to frame": nearest_centre,
    "masks, frame to frame (no memory)": no_memory,
    "masks, tracked in the picture": flat,
    "PartTracker, boxes": by_boxes,
    "PartTracker, masks": by_masks,
    "PartTracker, masks, appearance of boxes": box_appearance,
    "PartTracker, masks, appearance of masks": mask_appearance,
}


def scored(shots: list[Shot], results: list[tuple[np.ndarray, np.ndarray]]) -> PartScores:
    """The scores of all parts. Parts without identity are no results."""
    found = []
    for shot, (ids, parents) in zip(shots, results, strict=True):
        rows = np.flatnonzero(ids >= 0)
        given = shot.found
        labels = given.labels[rows]
        found.append(PartFrame(given.boxes[rows], given.scores[rows], labels, ids[rows], parents[rows], labels > 0))
    return score_parts([shot.truth for shot in shots], found)[-1]


def draw(path: Path, hierarchy: Hierarchy, shots: list[Shot], results: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """A frame with the tree, twice as large: persons, and the largest of their parts."""
    import supervision as sv

    shot, (ids, parents) = shots[-1], results[-1]
    labels = shot.found.labels
    areas = shot.masks.sum(axis=(1, 2))
    rows = np.flatnonzero((ids >= 0) & ((labels == 0) | (areas > 500)))
    names = {i: hierarchy.title(i) for i in range(len(hierarchy.nodes))}
    part = np.array([hierarchy.nodes[i].name if i else "" for i in labels[rows]], object)
    detections = sv.Detections(
        2 * shot.found.boxes[rows],
        mask=shot.masks[rows].repeat(2, axis=1).repeat(2, axis=2),
        class_id=labels[rows],
        tracker_id=ids[rows],
        data={"parent_id": parents[rows], "part": part},
    )
    picture = cv2.resize(shot.picture, (2 * WIDTH, 2 * HEIGHT), interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(path), TrackDrawer(2 * WIDTH, 2 * HEIGHT, FPS, names).draw(picture, detections))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="folder with parts/ and unlabelled/")
    parser.add_argument("--films", type=int, default=12)
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--persons", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--methods", nargs="*", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--picture", type=Path, help="write a frame with the tree")
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    hierarchy, persons = read_persons(args.photos / "parts", 240)
    backgrounds = sorted((args.photos / "unlabelled").glob("*.jpg"))
    totals = {name: PartScores() for name in args.methods}
    for number in range(args.films):
        chosen = [persons[i] for i in rng.choice(len(persons), args.persons, replace=False)]
        background = read_picture(backgrounds[int(rng.integers(len(backgrounds)))])
        shots = film(chosen, cv2.resize(background, (WIDTH, HEIGHT)), args.frames, rng)
        for name in args.methods:
            results = METHODS[name](hierarchy, shots)
            one, total = scored(shots, results), totals[name]
            for field in ("truths", "matched", "parents_right", "switches", "identities"):
                setattr(total, field, getattr(total, field) + getattr(one, field))
            if args.picture is not None and name == "PartTracker, masks" and number == 0:
                draw(args.picture, hierarchy, shots, results)
    print(f"{args.films} films of {args.frames} frames, {args.persons} persons\n")
    print("| method | parents right | found | identity switches | per 1,000 parts |")
    print("|---|---|---|---|---|")
    for name, one in totals.items():
        rate = 1000 * one.switches / max(one.matched, 1)
        found = f"{100 * one.matched / max(one.truths, 1):.1f} %"
        print(f"| {name} | {100 * one.consistency:.1f} % | {found} | {one.switches:,} | {rate:.1f} |")


if __name__ == "__main__":
    main()
