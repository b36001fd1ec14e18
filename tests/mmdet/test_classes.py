"""tools/test_mot.py on driving scenes of several classes, against COCO-VID json: TETA and the others."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from bdd_coco import CLASSES, bdd_coco
from mot_clips import ROOT, run_tool

from masa_track.evaluation.metrics import measure
from masa_track.formats.npz import write_npz

CONFIG = """
_base_ = {base!r}
model = dict(
    _delete_=True, type="MASA", network="nano", public_det_path={boxes!r},
    tracker=dict(type="MasaTaoTracker", preset="appearance"),
)
test_pipeline = [
    dict(type="TransformBroadcaster",
         transforms=[dict(type="LoadImageFromFile"), dict(type="Resize", scale=(800, 800), keep_ratio=True)]),
    dict(type="PackTrackInputs"),
]
test_dataloader = dict(
    num_workers=0,
    dataset=dict(ann_file={truth!r}, data_prefix=dict(img_path={images!r}), pipeline=test_pipeline),
)
"""


@pytest.fixture(scope="module")
def scenes(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The first frames of both clips as COCO-VID json, and the folder of their pictures."""
    folder = clips / "bdd_mini" / "bdd100k_test" / "track"
    content = bdd_coco(folder)
    content["images"] = [image for image in content["images"] if image["frame_id"] < 4]
    kept = {image["id"] for image in content["images"]}
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] in kept]
    path = tmp_path_factory.mktemp("bdd") / "truth.json"
    path.write_text(json.dumps(content))
    return path, folder / "images"


def write_config(path: Path, base: str, truth: Path, images: Path, boxes: Path) -> Path:
    values = {"base": str(ROOT / "configs" / "mmdet" / base), "truth": str(truth), "images": str(images)}
    path.write_text(CONFIG.format(**values, boxes=str(boxes)))
    return path


@pytest.mark.shared_data
@pytest.mark.slow
def test_true_boxes_of_all_classes(scenes: tuple[Path, Path], tmp_path: Path) -> None:
    truth, images = scenes
    config = write_config(tmp_path / "bdd.py", "bdd_r50.py", truth, images, truth)
    out = tmp_path / "out.json"
    options = ("--cfg-options", "test_evaluator.tcc=False")  # each box keeps its own class
    assert run_tool(config, "--work-dir", tmp_path / "work", "--out", out, *options) == 0
    rows, content = json.loads(out.read_text()), json.loads(truth.read_text())
    assert len({row["category_id"] for row in rows}) >= 3
    assert {row["video_id"] for row in rows} == {1, 2}
    plain = [one for one in content["annotations"] if not one["iscrowd"]]
    # Every box comes back with its class, but for weak doubles that the tracker leaves out (there are none here).
    key = lambda one: (one["image_id"], one["category_id"], *np.round(one["bbox"], 1))  # noqa: E731
    assert sorted(map(key, rows)) == sorted(map(key, plain))

    scores = json.loads((tmp_path / "work" / "tracks" / "scores.json").read_text())
    measured = measure(truth, out, ["hota", "clear", "idf1", "teta"], exhaustive=True)
    assert scores["hota"] == measured.evaluation.combined.hota
    assert scores["idf1"] == measured.evaluation.combined.idf1
    assert scores["teta"] == measured.teta.overall.teta
    assert scores["teta_loc_a"] == pytest.approx(1, abs=0.01)
    assert scores["teta_cls_a"] == 1
    assert 0 < scores["teta_assoc_a"] < 1
    table = (tmp_path / "work" / "tracks" / "scores.txt").read_text()
    assert "pedestrian" in table
    assert "OVERALL" in table


@pytest.mark.shared_data
@pytest.mark.slow
def test_npz_detections_and_one_class_a_track(scenes: tuple[Path, Path], tmp_path: Path) -> None:
    """TAO's metric: a track whose boxes are called a car three times and a bus once is a car throughout."""
    truth, images = scenes
    content = json.loads(truth.read_text())
    boxes = tmp_path / "npz"
    boxes.mkdir()
    names = ["bus", "car"]  # another order than the data set's
    for video in content["videos"]:
        ours = [image for image in content["images"] if image["video_id"] == video["id"]]
        rows = []
        for number, image in enumerate(ours, 1):
            cars = [
                one
                for one in content["annotations"]
                if one["image_id"] == image["id"] and one["category_id"] == CLASSES.index("car") + 1
            ]
            for x, y, w, h in (max(cars, key=lambda one: one["bbox"][2] * one["bbox"][3])["bbox"],):
                rows.append((number, x, y, x + w, y + h, 0.9, 0 if number == 3 else 1))
        table = np.array(rows)
        files = [Path(image["file_name"]).name for image in ours]
        columns = table[:, 0], table[:, 1:5], table[:, 5], table[:, 6]
        write_npz(boxes / f"{video['name']}.npz", *columns, files, names)
    config = write_config(tmp_path / "tao.py", "tao_r50.py", truth, images, boxes)
    assert run_tool(config, "--work-dir", tmp_path / "work") == 0
    rows = json.loads((tmp_path / "work" / "tracks" / "tao_track.json").read_text())
    before = [
        row for path in (tmp_path / "work" / "tracks" / "parts").glob("*.json") for row in json.loads(path.read_text())
    ]
    car, bus = (CLASSES.index(name) + 1 for name in ("car", "bus"))
    assert {row["category_id"] for row in before} == {car, bus}
    assert len(rows) == len(before)
    for track in {row["track_id"] for row in rows}:
        ours = [row["category_id"] for row in rows if row["track_id"] == track]
        assert len(set(ours)) == 1
        if len(ours) > 2:
            assert ours[0] == car
