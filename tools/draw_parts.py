#!/usr/bin/env python3
"""Draws the picture of docs/concepts/parts.md: two drawn persons whose hands overlap, the tree of their parts, stuff.

python tools/draw_parts.py docs/images/parts.png
"""

from __future__ import annotations

import sys

import cv2
import numpy as np
import supervision as sv

from masa_track.contracts import Observation
from masa_track.drawing.tracks import TrackDrawer
from masa_track.masks import mask_box
from masa_track.parts.hierarchy import parse_hierarchy
from masa_track.parts.tree import PartTracker

WIDTH, HEIGHT = 640, 400
TREE = parse_hierarchy("person[head[hat], hand, shoe]", "grass, sky")
_PERSON, _HEAD, _HAT, _HAND, _SHOE, _GRASS, _SKY = range(7)
# Of a person: class, what it is drawn with (an ellipse: centre, axes), colour. Bodies have the class of the person.
_SHAPES = [
    (_PERSON, (0, 210), (42, 90), (120, 90, 60)),
    (_PERSON, (-20, 310), (14, 60), (80, 60, 40)),
    (_PERSON, (20, 310), (14, 60), (80, 60, 40)),
    (_PERSON, (-62, 200), (40, 10), (120, 90, 60)),
    (_PERSON, (62, 200), (40, 10), (120, 90, 60)),
    (_HEAD, (0, 98), (32, 40), (150, 180, 220)),
    (_HAT, (0, 76), (27, 13), (60, 60, 160)),
    (_HAND, (-106, 200), (16, 13), (150, 180, 220)),
    (_HAND, (106, 200), (16, 13), (150, 180, 220)),
    (_SHOE, (-26, 366), (22, 10), (40, 40, 40)),
    (_SHOE, (26, 366), (22, 10), (40, 40, 40)),
]


def main(path: str) -> None:
    """Draws and writes it."""
    picture = np.full((HEIGHT, WIDTH, 3), (235, 215, 190), np.uint8)
    picture[300:] = (90, 150, 110)
    labels, masks, owners = [], [], []
    for person, x in enumerate((215, 415)):
        whole = np.zeros((HEIGHT, WIDTH), np.uint8)
        for label, (dx, y), axes, color in _SHAPES:
            place = ((x + dx, y), axes, 0, 0, 360)
            cv2.ellipse(picture, *place, color, -1, cv2.LINE_AA)
            cv2.ellipse(whole, *place, 1, -1)
            if label != _PERSON:
                own = np.zeros((HEIGHT, WIDTH), np.uint8)
                cv2.ellipse(own, *place, 1, -1)
                labels.append(label)
                masks.append(own > 0)
                owners.append(-1)
        labels.append(_PERSON)
        masks.append(whole > 0)
        owners.append(person + 1)
    boxes = np.array([mask_box(mask) for mask in masks], np.float32)
    seen = Observation(1, 0.04, (WIDTH, HEIGHT), boxes, np.full(len(boxes), 0.9, np.float32), np.array(labels))
    found = PartTracker(TREE).update(seen, np.array(owners), np.array(masks))
    names = {i: TREE.title(i) for i in range(len(TREE.nodes))}
    part = [TREE.nodes[label].name if TREE.nodes[label].kind == "part" else "" for label in labels]
    rows = sv.Detections(
        boxes,
        mask=np.array(masks),
        class_id=np.array(labels),
        tracker_id=found.identities,
        data={"parent_id": found.parent_ids, "part": np.array(part, object)},
    )
    stuff = np.where(np.arange(HEIGHT)[:, None] < 300, _SKY, _GRASS) * np.ones((1, WIDTH), np.int32)
    stuff[np.any(masks, axis=0)] = 0
    drawer = TrackDrawer(WIDTH, HEIGHT, 25, names)
    tinted = drawer.draw_stuff(picture, stuff, {_SKY: "sky", _GRASS: "grass"})
    cv2.imwrite(path, drawer.draw(tinted, rows))


if __name__ == "__main__":
    main(sys.argv[1])
