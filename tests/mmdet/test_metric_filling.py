"""Gap filling by the metrics: the keys of mmdet's post-processing change the tracks that are written and scored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmdet.models.task_modules.tracking import interpolation
from mmdet.structures import TrackDataSample
from mmengine.structures import InstanceData

from masa_track.errors import InputError
from masa_track.integrations.mmdet.metrics import BDDTETAMetric, CocoVidMetric, TaoTETAMetric
from masa_track.integrations.mmdet.results import FrameTracks, fill_tracks

FRAMES = 20
MISSING = {4, 5, 6, 7}


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    """A car that moves by 2 pixels a frame."""
    size = {"width": 96, "height": 48}
    content = {
        "videos": [{"id": 1, "name": "clip"}],
        "categories": [{"id": 3, "name": "car"}],
        "images": [{"id": i, "video_id": 1, "frame_id": i, "file_name": f"{i}.jpg", **size} for i in range(FRAMES)],
        "annotations": [
            {"id": i + 1, "image_id": i, "track_id": 5, "category_id": 3, "bbox": [2 * i, 2, 20, 20], "area": 400}
            for i in range(FRAMES)
        ],
    }
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(content))
    return path


def scores(metric: CocoVidMetric) -> dict[str, float]:
    """Of a tracker that follows the car, but does not see it in four frames."""
    metric.dataset_meta = {"classes": ("car",)}
    for i in range(FRAMES):
        count = 0 if i in MISSING else 1
        found = InstanceData(
            bboxes=np.array([[2.0 * i, 2, 2 * i + 20, 22]])[:count],
            scores=np.ones(count),
            labels=np.zeros(count, int),
            instances_id=np.ones(count, int),
        )
        sample = TrackDataSample(metainfo={"frame_id": i, "img_id": i, "video_id": 1})
        sample.pred_track_instances = found
        metric.process_image([sample], FRAMES)
    return metric.compute_metrics([])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 2 * 16 / 36),
        ({"use_postprocess": True}, 1.0),
        ({"postprocess_tracklet_cfg": [{"type": "InterpolateTracklets"}]}, 1.0),
        ({"postprocess_tracklet_cfg": [{"type": "InterpolateTracklets", "max_num_frames": 6}]}, 1.0),
        ({"postprocess_tracklet_cfg": [{"type": "InterpolateTracklets", "max_num_frames": 5}]}, 2 * 16 / 36),
        ({"postprocess_tracklet_cfg": [{"type": "mmdet.InterpolateTracklets", "min_num_frames": 16}]}, 2 * 16 / 36),
    ],
)
def test_filled_gaps_are_scored(truth: Path, tmp_path: Path, options: dict[str, Any], expected: float) -> None:
    metric = TaoTETAMetric(str(truth), metric=["TETA", "Identity"], outfile_prefix=str(tmp_path / "tracks"), **options)
    found = scores(metric)
    assert found["idf1"] == pytest.approx(expected)
    assert found["teta_loc_a"] == pytest.approx(1.0 if expected == 1 else 0.8)
    rows = json.loads((tmp_path / "tracks" / "tao_track.json").read_text())
    assert len(rows) == len((tmp_path / "tracks" / "clip.txt").read_text().splitlines())
    assert len(rows) == (20 if expected == 1 else 16)


def test_boxes_are_those_of_mmdet(monkeypatch: pytest.MonkeyPatch) -> None:
    """mmdet leaves out tracks of one or two boxes; here they stay."""
    monkeypatch.setattr(interpolation, "HAS_SKIKIT_LEARN", True)  # only Gaussian smoothing needs it
    random = np.random.default_rng(0)
    frames, rows = [], []
    alive = {track: random.random(120) < 0.35 for track in (3, 8, 9)}
    alive[9][20:] = False
    for number in range(1, 121):
        ids = np.array([track for track in alive if alive[track][number - 1]], int)
        boxes = random.random((len(ids), 4)) * 50 + (0, 0, 60, 60)
        n = len(ids)
        frames.append(FrameTracks(number, number, 1, boxes, random.random(n), np.zeros(n, int), ids))
        rows += [(number, track, *box, 1.0) for track, box in zip(ids, boxes, strict=True)]
    for options in ({}, {"max_num_frames": 4}, {"min_num_frames": 40}):
        step = interpolation.InterpolateTracklets(**options)
        theirs = step.forward(np.array(rows))
        theirs = theirs[np.lexsort((theirs[:, 1], theirs[:, 0]))]
        filled = fill_tracks(frames, step.max_num_frames - 2, step.min_num_frames + 1)
        ours = np.array(
            [
                (f.number, i, *box)
                for f in filled
                for i, box in sorted(zip(f.ids, f.boxes, strict=True), key=lambda p: p[0])
            ]
        )
        assert np.allclose(ours, theirs[:, :6])
        assert len(ours) > len(rows) or options == {"min_num_frames": 40}


def test_filled_boxes_have_no_mask() -> None:
    mask = {"size": [4, 4], "counts": "00"}
    box, one = np.array([[0.0, 0, 2, 2]]), np.ones(1)
    none = np.zeros((0, 4)), np.zeros(0), np.zeros(0, int), np.zeros(0, int)
    frames = [
        FrameTracks(1, 10, 1, box, 0.5 * one, np.array([3]), np.array([7]), [mask]),
        FrameTracks(2, 20, 1, *none, []),
        FrameTracks(3, 30, 1, box + 2, 0.9 * one, np.array([4]), np.array([7]), [mask]),
    ]
    rows = [row for frame in fill_tracks(frames, 1, 1) for row in frame.rows()]
    assert ["segmentation" in row for row in rows] == [True, False, True]
    assert rows[1] | {"bbox": None} == {
        "image_id": 20,
        "category_id": 3,
        "bbox": None,
        "score": 0.5,
        "track_id": 7,
        "video_id": 1,
    }
    assert rows[1]["bbox"] == [1, 1, 2, 2]


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"type": "AppearanceFreeLink"}, "must be InterpolateTracklets, got 'AppearanceFreeLink'"),
        ({"type": "InterpolateTracklets", "use_gsi": True}, "use_gsi=True .* is not supported"),
        ({"type": "InterpolateTracklets", "max_frames": 3}, "unknown key of InterpolateTracklets 'max_frames'"),
        ({"type": "InterpolateTracklets", "max_num_frames": 2.5}, "max_num_frames must be a whole number of frames"),
    ],
)
def test_other_postprocessing_is_refused(truth: Path, step: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        CocoVidMetric(str(truth), postprocess_tracklet_cfg=[step])


def test_masks_are_not_scored_with_filled_gaps(truth: Path) -> None:
    with pytest.raises(InputError, match="which have no masks"):
        BDDTETAMetric(str(truth), scalabel_gt=str(truth), with_mask=True, use_postprocess=True)
