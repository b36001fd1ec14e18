"""BDD100K's labels of `../shared/clips/bdd_mini` in scalabel's format, and tracks with faults of every kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from masa_track.evaluation.bdd import CLASSES
from masa_track.masks import encode_mask

WIDTH, HEIGHT = 1280, 720


def bdd_frames(folder: Path, masks: bool = False) -> list[dict[str, Any]]:
    """Both clips of `bdd100k_test/track`, as BDD100K gives them; with ``masks``, polygons as ``rle``.

    The clips have no crowd and no distractor: in each, one object is made a crowd, one a trailer, and two frames of the
    second clip lose their labels.
    """
    frames = []
    for number, file in enumerate(sorted((folder / "labels").glob("*.json"))):
        for place, frame in enumerate(json.loads(file.read_text())):
            labels = []
            if number == 0 or place not in (1, 4):
                for label in frame["labels"]:
                    kept = {key: label[key] for key in ("id", "category", "box2d", "attributes") if key in label}
                    if masks:
                        kept["rle"] = polygon_mask(label["poly2d"])
                    labels.append(kept)
            names = sorted({label["id"] for label in frame["labels"]})
            for label in labels:
                label["attributes"] = {**label["attributes"], "crowd": label["id"] == names[0]}
                if label["id"] == names[1]:
                    label["category"] = "trailer"
            facts = {key: frame[key] for key in ("name", "videoName", "frameIndex")}
            frames.append({**facts, "labels": labels})
    return frames


def polygon_mask(polygons: list[dict[str, Any]]) -> dict[str, Any]:
    """Polygons of straight lines as RLE."""
    picture = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.fillPoly(picture, [np.round(polygon["vertices"]).astype(np.int32) for polygon in polygons], 1)
    return encode_mask(picture.astype(bool))


def faulty_tracks(truth: list[dict[str, Any]], seed: int, masks: bool = False) -> list[dict[str, Any]]:
    """Tracks of the truth: boxes moved, missed and doubled, identities changed, classes wrong, boxes in crowds."""
    rng = np.random.default_rng(seed)
    frames = []
    for place, frame in enumerate(truth):
        labels: list[dict[str, Any]] = []
        for label in frame["labels"]:
            if rng.random() < 0.15:
                continue
            shift = rng.normal(0, 0.07 * (label["box2d"]["x2"] - label["box2d"]["x1"] + 2), 4)
            box = {
                key: float(label["box2d"][key] + by) for key, by in zip(("x1", "y1", "x2", "y2"), shift, strict=True)
            }
            box["x2"], box["y2"] = max(box["x2"], box["x1"] + 1), max(box["y2"], box["y1"] + 1)
            name = {"trailer": "truck"}.get(label["category"], label["category"])
            if rng.random() < 0.15:
                name = CLASSES[rng.integers(len(CLASSES))]
            identity = int(label["id"]) + (1000 if rng.random() < 0.15 or place % 6 > 3 else 0)
            labels.append({"id": str(identity), "category": name, "score": float(rng.random()), "box2d": box})
            if rng.random() < 0.2:  # a second track beside it, of any class
                moved = {key: value + float(rng.normal(0, 4)) for key, value in box.items()}
                moved["x2"], moved["y2"] = max(moved["x2"], moved["x1"] + 1), max(moved["y2"], moved["y1"] + 1)
                other = {"id": str(identity + 3000), "category": CLASSES[rng.integers(3)], "score": float(rng.random())}
                labels.append({**other, "box2d": moved})
        if not frame["labels"]:
            box = {"x1": 100.0, "y1": 100.0, "x2": 150.0, "y2": 160.0}
            labels.append({"id": "9000", "category": "car", "score": 0.5, "box2d": box})
        unique = list({label["id"]: label for label in labels}.values())
        if masks:
            for label in unique:
                label["rle"] = box_mask(label["box2d"])
        frames.append({**{key: frame[key] for key in ("name", "videoName", "frameIndex")}, "labels": unique})
    return frames


def box_mask(box: dict[str, float]) -> dict[str, Any]:
    """The ellipse in a box as RLE."""
    picture = np.zeros((HEIGHT, WIDTH), np.uint8)
    centre = round((box["x1"] + box["x2"]) / 2), round((box["y1"] + box["y2"]) / 2)
    axes = max(1, round((box["x2"] - box["x1"]) / 2)), max(1, round((box["y2"] - box["y1"]) / 2))
    cv2.ellipse(picture, centre, axes, 0, 0, 360, 1, -1)
    return encode_mask(picture.astype(bool))
