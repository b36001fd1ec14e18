"""Photographs with their regions, and a configuration that trains on them in seconds."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
from mot_clips import ROOT
from training_recipe import picture

TRAINING = f"""
_base_ = {str(ROOT / "configs" / "mmdet" / "train_r50.py")!r}
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(_delete_=True, type="PhotoSampler"),
    dataset=dict(
        ann_file="regions.json", data_root={{photographs!r}}, data_prefix=dict(img=""), size=(64, 64),
        settings="mild",
    ),
)
train_cfg = dict(max_epochs=1)
auto_scale_lr = dict(enable=False)
param_scheduler = []
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=100))
env_cfg = dict(cudnn_benchmark=False)
"""


def write_photographs(folder: Path, count: int = 4) -> Path:
    """Pictures and their regions as COCO json."""
    images, annotations = [], []
    for number in range(count):
        image, boxes = picture(number)
        cv2.imwrite(str(folder / f"{number}.png"), image)
        images.append({"id": number, "file_name": f"{number}.png", "width": 128, "height": 128})
        for x1, y1, x2, y2 in boxes.tolist():
            box = [x1, y1, x2 - x1, y2 - y1]
            annotations.append(
                {"id": len(annotations), "image_id": number, "category_id": 1, "bbox": box, "area": box[2] * box[3]}
            )
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "object"}]}
    (folder / "regions.json").write_text(json.dumps(content))
    return folder
