"""BDD100K's own labels of `../shared/clips/bdd_mini` as one COCO-VID dict, as `masa-track eval` reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CLASSES = ["pedestrian", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"]


def bdd_coco(folder: Path) -> dict[str, Any]:
    """Both clips of `bdd100k_test/track`; frame ids count from 0 within a clip, classes from 1, track ids are BDD's."""
    content: dict[str, Any] = {
        "videos": [],
        "images": [],
        "annotations": [],
        "categories": [{"id": i, "name": name} for i, name in enumerate(CLASSES, 1)],
    }
    for number, file in enumerate(sorted((folder / "labels").glob("*.json")), 1):
        content["videos"].append({"id": number, "name": file.stem, "width": 1280, "height": 720})
        for index, frame in enumerate(json.loads(file.read_text())):
            image = len(content["images"]) + 1
            content["images"].append(
                {
                    "id": image,
                    "video_id": number,
                    "frame_id": index,
                    "file_name": f"{file.stem}/{frame['name']}",
                    "width": 1280,
                    "height": 720,
                }
            )
            for label in frame["labels"]:
                if label["category"] not in CLASSES or "box2d" not in label:
                    continue
                box = label["box2d"]
                content["annotations"].append(
                    {
                        "id": len(content["annotations"]) + 1,
                        "image_id": image,
                        "video_id": number,
                        "category_id": CLASSES.index(label["category"]) + 1,
                        "instance_id": int(label["id"]),
                        "bbox": [box["x1"], box["y1"], box["x2"] - box["x1"], box["y2"] - box["y1"]],
                        "iscrowd": int(label["attributes"].get("crowd", False)),
                    }
                )
    return content
