"""`masa-track eval` of objects of many classes: json in COCO-VID and TAO form, TETA beside the other metrics."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bdd_coco import bdd_coco

from masa_track.cli.main import main
from masa_track.errors import InputError
from masa_track.evaluation import ClassTracks, measure, score_teta
from masa_track.evaluation.coco_vid import read_class_videos, without_ignored

ALL = ("hota", "clear", "idf1", "teta")


def truth_dict() -> dict[str, Any]:
    """Two videos of three frames: two cars and a bus in the first, a car in the second."""
    content: dict[str, Any] = {
        "videos": [{"id": 1, "name": "day"}, {"id": 2, "name": "night"}],
        "images": [],
        "annotations": [],
        "categories": [{"id": 3, "name": "car"}, {"id": 5, "name": "bus"}],
    }
    for video, things in ((1, ((1, 3), (2, 3), (3, 5))), (2, ((4, 3),))):
        for frame in range(3):
            image = 10 * video + frame
            name = f"{video}/{frame:04d}.jpg"
            content["images"].append({"id": image, "video_id": video, "frame_id": frame, "file_name": name})
            for track, category in things:
                box = [100 * track, 10, 40, 20]
                entry = {"image_id": image, "track_id": track, "category_id": category, "bbox": box}
                content["annotations"].append({"id": len(content["annotations"]), **entry})
    return content


def results(truth: dict[str, Any]) -> list[dict[str, Any]]:
    """The truth as TAO results."""
    keys = ("image_id", "track_id", "category_id", "bbox")
    return [{**{key: entry[key] for key in keys}, "score": 0.9} for entry in truth["annotations"]]


def written(folder: Path, name: str, content: object) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def test_tao_results(tmp_path, capsys):
    truth = truth_dict()
    found = results(truth)
    for entry in found:
        if entry["track_id"] == 2:
            entry["category_id"] = 5
        if entry["track_id"] == 4 and entry["image_id"] == 22:
            entry["track_id"] = 7
    gt, tracks = written(tmp_path, "gt.json", truth), written(tmp_path, "tracks.json", found)
    assert (
        main(
            [
                "eval",
                str(gt),
                str(tracks),
                "--metrics",
                "teta,idf1",
                "--no-exhaustive",
                "--json",
                str(tmp_path / "s.json"),
            ]
        )
        == 0
    )
    out = capsys.readouterr().out
    tables = [[line.split() for line in part.splitlines()] for part in out.split("\n\n")]
    assert tables[0][0] == ["sequence", "IDF1", "GT_ids", "ids", "frames"]
    teta = {row[0]: dict(zip(tables[2][0], row, strict=True)) for row in tables[2][1:]}
    assert teta["bus"]["ClsA"] == "0.500"  # 3 right, 3 cars called buses
    scores = json.loads((tmp_path / "s.json").read_text())
    assert scores["teta"]["overall"]["loc_a"] == 1
    # Of 9 boxes of cars 6 are in whole tracks, 2 in two thirds of one, 1 in a third.
    assert scores["teta"]["classes"]["car"]["assoc_a"] == pytest.approx((6 + 2 * 2 / 3 + 1 / 3) / 9)
    assert scores["combined"]["idf1"] == pytest.approx(11 / 12)  # classes are not looked at


def test_exhaustive_is_asked_of_the_truth_and_of_the_user(tmp_path):
    truth = truth_dict()
    extra = {"image_id": 10, "track_id": 50, "category_id": 3, "bbox": [500, 300, 20, 20], "score": 1}
    tracks = written(tmp_path, "tracks.json", [*results(truth), extra])
    full = measure(written(tmp_path, "gt.json", truth), tracks, ALL)
    assert full.exhaustive
    assert full.teta is not None
    assert full.teta.classes[3].cls_a == pytest.approx(9 / 10)
    assert full.evaluation is not None
    assert full.evaluation.combined.false_positives == 1
    for video in truth["videos"]:
        video |= {"neg_category_ids": [], "not_exhaustive_category_ids": []}
    tao = written(tmp_path, "tao.json", truth)
    partly, forced = measure(tao, tracks, ["teta"]), measure(tao, tracks, ["teta"], exhaustive=True)
    assert partly.teta is not None
    assert partly.teta.overall.teta == 1
    assert forced.teta == full.teta


def test_a_folder_a_video_and_frames_by_file_name(tmp_path):
    truth = truth_dict()
    gt = written(tmp_path, "gt.json", truth)
    for video in truth["videos"]:
        one = copy.deepcopy(truth)
        one["videos"] = [{"id": 1, "name": "as the camera called it"}]
        one["images"] = [image for image in one["images"] if image["video_id"] == video["id"]]
        kept = {image["id"] for image in one["images"]}
        one["annotations"] = [entry for entry in one["annotations"] if entry["image_id"] in kept]
        for image in one["images"]:
            image["video_id"] = 1
            image["frame_id"] += 7  # the run began later in the video
        written(tmp_path / "runs" / video["name"], "tracks.json", one)
    assert measure(gt, tmp_path / "runs", ["teta"]).teta.overall.teta == 1
    for image in one["images"]:
        image["file_name"] = "frame"
    written(tmp_path / "runs" / "night", "tracks.json", one)
    assert measure(gt, tmp_path / "runs", ["teta"]).teta.classes[3].loc_re == pytest.approx(6 / 9)


def test_stride_and_frames_that_the_truth_does_not_list(tmp_path):
    truth = truth_dict()
    found = copy.deepcopy(truth)
    found["images"].append({"id": 99, "video_id": 1, "frame_id": 30, "file_name": "1/0030.jpg"})
    found["annotations"].append({"image_id": 99, "track_id": 1, "category_id": 3, "bbox": [0, 0, 5, 5]})
    gt, tracks = written(tmp_path, "gt.json", truth), written(tmp_path, "found.json", found)
    every, second = measure(gt, tracks, ALL), measure(gt, tracks, ALL, stride=2)
    assert (every.evaluation.combined.frames, second.evaluation.combined.frames) == (6, 4)
    assert every.evaluation.combined.mota == second.teta.overall.teta == 1


def test_mot_text_has_one_class(tmp_path):
    rows = "".join(f"{t},{i},{100 * i},10,20,40,1\n" for t in (1, 2, 3) for i in (1, 2))
    (tmp_path / "gt.txt").write_text(rows)
    (tmp_path / "tracks.txt").write_text(rows.replace("3,2,", "3,5,"))
    found = measure(tmp_path / "gt.txt", tmp_path / "tracks.txt", ["teta"])
    assert found.evaluation is None
    assert (found.teta.overall.loc_a, found.teta.overall.cls_a) == (1, 1)
    assert found.teta.overall.assoc_a == pytest.approx((3 + 2 * 2 / 3 + 1 / 3) / 6)


def test_boxes_in_a_crowd_are_not_scored():
    def boxes(*xyxy):
        count = len(xyxy)
        return ClassTracks(np.ones(count), np.arange(count), np.ones(count), np.array(xyxy, float).reshape(-1, 4))

    truth, crowd = boxes([0, 0, 10, 10]), boxes([5, 0, 100, 10])
    # On the truth and in the crowd; half in the crowd; more than half.
    found = boxes([1, 0, 11, 10], [0, 5, 10, 10], [2, 0, 9, 10])
    assert without_ignored(truth, crowd, found).ids.tolist() == [0, 1]
    assert without_ignored(boxes(), crowd, found).ids.tolist() == [1]  # nothing is matched


def test_merged_categories_of_tao(tmp_path):
    truth = truth_dict()
    truth["categories"][0]["merged"] = [{"id": 5, "name": "bus"}]
    gt, tracks = written(tmp_path, "gt.json", truth), written(tmp_path, "tracks.json", results(truth))
    assert set(measure(gt, tracks, ["teta"]).teta.classes) == {3}


@pytest.mark.parametrize("first", [0, 1, 7])
def test_a_stride_counts_from_the_first_frame_that_the_truth_lists(tmp_path, first):
    """As the data sets of mmdet thin a video: some files count frames from 1, some begin in the middle."""
    truth = truth_dict()
    for image in truth["images"]:
        image["frame_id"] += first
    kept = {image["id"] for image in truth["images"] if (image["frame_id"] - first) % 2 == 0}
    found = [row for row in results(truth) if row["image_id"] in kept]
    gt, tracks = written(tmp_path, "gt.json", truth), written(tmp_path, "tracks.json", found)
    measured = measure(gt, tracks, ALL, stride=2)
    assert measured.evaluation.combined.idf1 == measured.teta.overall.teta == 1
    assert measured.evaluation.combined.truth_boxes == len(found) == 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda gt, found: found[0].update(image_id=77), r"result \[0\]: image_id 77 is not among GT images"),
        (lambda gt, found: found[1].update(bbox=[1, 2, 3]), r"result \[1\]: bbox must be four finite numbers"),
        (lambda gt, found: found[1].update(track_id=1), r"result \[1\]: track_id 1 occurs twice in image 10"),
        (lambda gt, found: found[1].pop("track_id"), "track_id must be a whole number, got None"),
        (lambda gt, found: gt["images"][0].update(video_id=9), r"images\[0\]: video_id 9 is not among its videos"),
        (lambda gt, found: gt["images"][1].update(frame_id=0), r"images\[1\]: frame_id 0 occurs twice in video 1"),
        (lambda gt, found: gt["videos"][1].update(name="day"), "two videos are called 'day'"),
        (lambda gt, found: gt.update(videos=[], images=[], annotations=[]), "with videos and images, but .* has none"),
        (lambda gt, found: gt["annotations"].clear(), "GT must have at least one box"),
    ],
)
def test_broken_files_are_refused(tmp_path, change, message):
    truth = truth_dict()
    found = results(truth)
    change(truth, found)
    gt, tracks = written(tmp_path, "gt.json", truth), written(tmp_path, "tracks.json", found)
    with pytest.raises(InputError, match=message):
        measure(gt, tracks, ALL)


def test_wrong_files_are_refused(tmp_path):
    gt = written(tmp_path, "gt.json", truth_dict())
    (tmp_path / "tracks.txt").write_text("1,1,1,1,1,1\n")
    with pytest.raises(InputError, match=r"TRACKS must be json .as GT is., but .*tracks.txt is not"):
        measure(gt, tmp_path / "tracks.txt")
    with pytest.raises(InputError, match="TRACKS has nothing for day of GT"):
        measure(gt, tmp_path)
    with pytest.raises(InputError, match="TRACKS has no video called 'day' of GT"):
        measure(gt, written(tmp_path, "o.json", {**truth_dict(), "videos": [{"id": 1, "name": "x"}, {"id": 2}]}))
    with pytest.raises(InputError, match="unknown metric 'tetra': did you mean 'teta'"):
        measure(gt, gt, ["tetra"])
    with pytest.raises(InputError, match="is a bare list"):
        measure(written(tmp_path, "l.json", []), gt)


@pytest.mark.slow
@pytest.mark.shared_data
def test_bdd_clips_of_several_classes(tmp_path, shared):
    folder = shared / "clips" / "bdd_mini" / "bdd100k_test" / "track"
    truth = bdd_coco(folder)
    gt = written(tmp_path, "gt.json", truth)
    videos = read_class_videos(gt, gt)
    assert len(videos.pairs) == 2
    assert score_teta(videos.pairs.values(), exhaustive=True).overall.teta == 1

    for video in truth["videos"]:
        images = [image for image in truth["images"] if image["video_id"] == video["id"]]
        ids = {image["id"] for image in images}
        boxes = [entry for entry in truth["annotations"] if entry["image_id"] in ids]
        one = written(tmp_path, "boxes.json", {**truth, "videos": [video], "images": images, "annotations": boxes})
        source, out = folder / "images" / video["name"], tmp_path / "runs" / video["name"]
        assert main(["track", str(source), "--detections", str(one), "--out", str(out), "--no-video"]) == 0
    scores = tmp_path / "s.json"
    assert main(["eval", str(gt), str(tmp_path / "runs"), "--metrics", "teta,hota", "--json", str(scores)]) == 0
    found = json.loads(scores.read_text())
    teta = found["teta"]
    assert {"car", "truck"} <= set(teta["classes"])
    assert (teta["overall"]["loc_pr"], teta["overall"]["cls_a"]) == (1, 1)  # true boxes and classes
    assert teta["overall"]["loc_a"] > 0.9
    assert 0.5 < teta["overall"]["assoc_a"] < 1 + 1e-9
    assert found["combined"]["det_a"] > 0.9
