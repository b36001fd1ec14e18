"""A data set that is thinned and the metric keep the same frames, whatever number a video's first frame has."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from mmdet.structures import TrackDataSample
from mmengine.structures import InstanceData

from masa_track.integrations.mmdet.datasets import CocoVidDataset
from masa_track.integrations.mmdet.metrics import CocoVidMetric


@pytest.mark.parametrize("first", [0, 1, 7])
def test_perfect_tracks_score_one_with_any_first_frame(first: int, tmp_path: Path) -> None:
    size = {"width": 64, "height": 48}
    content = {
        "videos": [{"id": 1, "name": "clip"}],
        "categories": [{"id": 1, "name": "car"}],
        "images": [
            {"id": 10 + i, "video_id": 1, "frame_id": first + i, "file_name": f"{i}.jpg", **size} for i in range(6)
        ],
        "annotations": [
            {"id": i + 1, "image_id": 10 + i, "track_id": 5, "category_id": 1, "bbox": [i, 2, 20, 20]} for i in range(6)
        ],
    }
    truth = tmp_path / "truth.json"
    truth.write_text(json.dumps(content))
    dataset = CocoVidDataset(ann_file=str(truth), stride=2, pipeline=[])
    metric = CocoVidMetric(str(truth), stride=2, metric=["HOTA", "CLEAR", "Identity", "TETA"])
    metric.dataset_meta = {"classes": ("car",)}
    images = dataset.get_data_info(0)["images"]
    assert [image["img_id"] for image in images] == [10, 12, 14]
    for image in images:
        x = image["img_id"] - 10.0
        found = InstanceData(
            bboxes=np.array([[x, 2, x + 20, 22]]),
            scores=np.ones(1),
            labels=np.zeros(1, int),
            instances_id=np.ones(1, int),
        )
        sample = TrackDataSample(metainfo={**{key: image[key] for key in ("frame_id", "img_id")}, "video_id": 1})
        sample.pred_track_instances = found
        metric.process_image([sample], len(images))
    scores = metric.compute_metrics([])
    assert scores["idf1"] == scores["mota"] == scores["hota"] == scores["teta"] == 1
