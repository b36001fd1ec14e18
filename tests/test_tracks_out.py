"""Result files: what is in them, and that nobody ever sees half of one."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
import supervision as sv

from masa_track import files
from masa_track.cli.main import main
from masa_track.errors import InputError
from masa_track.files import PartFile, prepare_folder, write_text
from masa_track.formats import coco_vid
from masa_track.formats.coco_vid import CocoVidWriter
from masa_track.formats.csv import CsvWriter
from masa_track.formats.mot import MotWriter
from masa_track.formats.rows import class_name, tracked_rows
from masa_track.formats.run import read_run
from masa_track.formats.tracks import TrackWriters

NAMES = ("tracks.txt", "tracks.json", "tracks.csv")


def frame(ids, boxes=None, scores=None, classes=None, **data) -> sv.Detections:
    boxes = (
        [[10.5 * (i + 1), 20.25, 10.5 * (i + 1) + 30.125, 80.75] for i in range(len(ids))] if boxes is None else boxes
    )
    boxes = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    detections = sv.Detections(
        xyxy=np.nan_to_num(boxes),
        confidence=None if scores is False else np.array(scores or [0.9] * len(ids), dtype=np.float32),
        class_id=None if classes is False else np.array(classes or [0] * len(ids), dtype=int),
        tracker_id=np.array(ids),
        data=data,
    )
    detections.xyxy = boxes  # supervision looks for NaNs when it is made, not afterwards
    return detections


def write_all(folder: Path, frames: list[tuple[int, sv.Detections]], **options) -> None:
    with TrackWriters(folder, "clip.mp4", 640, 480, **options) as writers:
        for number, detections in frames:
            writers.write(number, f"{number:06d}.jpg", detections)


def read_mot(path: Path) -> np.ndarray:
    return np.loadtxt(path, delimiter=",", ndmin=2)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    w, h = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    area = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return w * h / (area[0] + area[1] - w * h)


def test_three_files_tell_the_same_story(tmp_path):
    rng = np.random.default_rng(0)
    frames = []
    for number in (1, 2, 5, 6):
        corner = rng.uniform(0, 400, (3, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(3, 80, (3, 2))], axis=1)
        frames.append((number, frame([7, -1, 3], boxes, scores=[0.5, 0.9, 0.75], classes=[2, 0, 1])))
    write_all(tmp_path, frames, fps=25, class_names={0: "cat", 1: "dog", 2: "bird"})
    assert sorted(os.listdir(tmp_path)) == sorted(NAMES)

    mot = read_mot(tmp_path / "tracks.txt")
    coco = json.loads((tmp_path / "tracks.json").read_text())
    table = list(csv.DictReader((tmp_path / "tracks.csv").open(newline="")))
    wanted = [
        (number, int(d.tracker_id[i]), d.xyxy[i], d.confidence[i], int(d.class_id[i]))
        for number, d in frames
        for i in (0, 2)
    ]
    assert len(mot) == len(coco["annotations"]) == len(table) == len(wanted) == 8
    names = {category["id"]: category["name"] for category in coco["categories"]}
    for row, annotation, line, (number, track_id, box, score, category) in zip(
        mot, coco["annotations"], table, wanted, strict=True
    ):
        x, y, w, h = row[2:6]
        assert (row[0], row[1], row[6]) == (number, track_id, pytest.approx(score, abs=1e-4))
        assert row[7:].tolist() == [-1, -1, -1]
        assert row[2] == pytest.approx(box[0] + 1, abs=1e-3), "left counts from 1"
        assert iou(np.array([x - 1, y - 1, x - 1 + w, y - 1 + h]), box) > 0.999

        x, y, w, h = annotation["bbox"]
        assert x == pytest.approx(box[0], abs=1e-3), "COCO counts from 0"
        assert iou(np.array([x, y, x + w, y + h]), box) > 0.999
        assert annotation["area"] == pytest.approx(w * h, rel=1e-3)
        assert annotation["track_id"] == annotation["instance_id"] == track_id
        assert (annotation["image_id"], annotation["video_id"], annotation["iscrowd"]) == (number, 1, 0)
        assert annotation["category_id"] == category
        assert annotation["score"] == pytest.approx(score, abs=1e-4)

        assert [float(line[k]) for k in ("x_min", "y_min", "x_max", "y_max")] == pytest.approx(box.tolist())
        assert (int(line["frame"]), int(line["tracker_id"]), int(line["class_id"])) == (number, track_id, category)
        assert line["class_name"] == names[category]
    assert coco["videos"] == [{"id": 1, "name": "clip.mp4", "width": 640, "height": 480, "fps": 25.0}]
    assert [(i["id"], i["frame_id"], i["file_name"]) for i in coco["images"]] == [
        (n, n - 1, f"{n:06d}.jpg") for n in (1, 2, 5, 6)
    ]
    assert [a["id"] for a in coco["annotations"]] == list(range(1, 9))
    assert names == {0: "cat", 1: "dog", 2: "bird"}


def test_a_row_without_identity_or_with_a_broken_box_is_not_written(tmp_path):
    ids = np.array([4, None, -1, 5, 6], dtype=object)
    boxes = [[0, 0, 9, 9], [1, 1, 9, 9], [2, 2, 9, 9], [np.nan, 0, 9, 9], [3, 3, np.inf, 9]]
    untracked = frame([1], [[0, 0, 5, 5]])
    untracked.tracker_id = None
    write_all(tmp_path, [(1, frame(ids, boxes)), (2, untracked), (3, sv.Detections.empty())])
    assert read_mot(tmp_path / "tracks.txt")[:, 1].tolist() == [4]
    coco = json.loads((tmp_path / "tracks.json").read_text())
    assert [a["track_id"] for a in coco["annotations"]] == [4]
    assert [i["id"] for i in coco["images"]] == [1, 2, 3]
    assert len(list(csv.DictReader((tmp_path / "tracks.csv").open()))) == 1


@pytest.mark.parametrize("frames", [[], [(1, sv.Detections.empty())]])
def test_nothing_tracked_gives_empty_but_whole_files(tmp_path, frames):
    write_all(tmp_path, frames)
    assert (tmp_path / "tracks.txt").read_text() == ""
    coco = json.loads((tmp_path / "tracks.json").read_text())
    assert (coco["annotations"], len(coco["images"])) == ([], len(frames))
    assert coco["categories"] == [{"id": 0, "name": "object"}]
    header = (tmp_path / "tracks.csv").read_text().strip().split(",")
    assert {"x_min", "y_max", "confidence", "tracker_id", "frame", "class_name"} <= set(header)


def test_an_empty_first_frame_leaves_the_csv_header_whole(tmp_path):
    write_all(tmp_path, [(1, sv.Detections.empty()), (2, frame([1], embedding=np.ones((1, 4))))])
    rows = list(csv.DictReader((tmp_path / "tracks.csv").open()))
    assert rows == [
        {"x_min": "10.5", "y_min": "20.25", "x_max": "40.625", "y_max": "80.75", "class_id": "0", "confidence": "0.9"}
        | {"tracker_id": "1", "class_name": "object", "frame": "2", "time": ""}
    ]


def test_times_of_frames_are_written_and_read(tmp_path):
    """Of frames that come irregularly, one of them without a track."""
    times = {3: 0.1, 4: 0.2000004, 9: 3.5, 12: 3.6}
    with TrackWriters(tmp_path, "clip.mp4", 640, 480, 25) as writers:
        for number, seconds in times.items():
            writers.write(number, f"{number:06d}.jpg", frame([] if number == 9 else [1, 2]), time=seconds)
    table = list(csv.DictReader((tmp_path / "tracks.csv").open()))
    assert [(int(row["frame"]), float(row["time"])) for row in table] == [
        (3, 0.1), (3, 0.1), (4, 0.2), (4, 0.2), (12, 3.6), (12, 3.6)
    ]  # fmt: skip
    images = json.loads((tmp_path / "tracks.json").read_text())["images"]
    assert [(image["id"], image["time"]) for image in images] == [(3, 0.1), (4, 0.2), (9, 3.5), (12, 3.6)]
    assert read_run(tmp_path).times.tolist() == [0.1, 0.2, 3.5, 3.6]
    assert main(["export", str(tmp_path), "--format", "csv", "--out", str(tmp_path / "again.csv")]) == 0
    assert [row["time"] for row in csv.DictReader((tmp_path / "again.csv").open())] == [row["time"] for row in table]


def test_a_run_without_times_has_those_of_its_frame_rate(tmp_path):
    write_all(tmp_path, [(1, frame([1])), (2, frame([1])), (26, frame([1]))], fps=25)
    assert "time" not in json.loads((tmp_path / "tracks.json").read_text())["images"][0]
    assert read_run(tmp_path).times.tolist() == [0, 0.04, 1.0]
    for bad in ([0.0, 0.5, 0.4], [0.0, float("nan"), 1.0], [0, "x", 1], [0, 1, []]):
        content = json.loads((tmp_path / "tracks.json").read_text())
        for image, seconds in zip(content["images"], bad, strict=True):
            image["time"] = seconds
        (tmp_path / "bad.json").write_text(json.dumps(content))
        with pytest.raises(InputError, match=r"bad\.json"):
            read_run(tmp_path / "bad.json")


def test_missing_confidence_and_class(tmp_path):
    write_all(tmp_path, [(1, frame([1, 2], scores=False, classes=False)), (2, frame([3], scores=[np.nan]))])
    assert read_mot(tmp_path / "tracks.txt")[:, 6].tolist() == [1, 1, 0]
    coco = json.loads((tmp_path / "tracks.json").read_text())
    assert [(a["score"], a["category_id"]) for a in coco["annotations"]] == [(1, 0), (1, 0), (0, 0)]
    assert coco["categories"] == [{"id": 0, "name": "object"}]


def test_names_of_classes():
    assert class_name(0, None) == "object"
    assert class_name(3, None) == "class 3"
    assert class_name(1, ["a", "b"]) == "b"
    assert class_name(-1, ["a", "b"]) == "class -1"
    assert class_name(9, {9: "z"}) == "z"
    assert class_name(0, {9: "z"}) == "class 0"


def test_the_detectors_own_class_names_go_first(tmp_path):
    detections = frame([1, -1, 2], classes=[4, 5, 6], class_name=np.array(["zebra", "no", "gnu, blue"]))
    write_all(tmp_path, [(1, detections)])
    assert [row["class_name"] for row in csv.DictReader((tmp_path / "tracks.csv").open())] == ["zebra", "gnu, blue"]
    coco = json.loads((tmp_path / "tracks.json").read_text())
    assert coco["categories"] == [{"id": 4, "name": "zebra"}, {"id": 6, "name": "gnu, blue"}]


def test_texts_of_any_kind_stay_json(tmp_path):
    name = os.fsdecode(b'no utf-8 \xff "quoted" \xc3\xbc.jpg')
    with CocoVidWriterOf(tmp_path) as writer:
        writer.write(1, name, frame([1], class_name=np.array(['a"b\\c\n'])))
    coco = json.loads((tmp_path / "tracks.json").read_text(encoding="utf-8"))
    assert coco["images"][0]["file_name"] == name
    assert coco["categories"][0]["name"] == 'a"b\\c\n'


class CocoVidWriterOf:
    def __init__(self, folder):
        self.writer = CocoVidWriter(folder / "tracks.json", "v", 4, 4)

    def __enter__(self):
        return self.writer

    def __exit__(self, *_):
        self.writer.close()


def test_a_frame_number_that_does_not_rise_is_refused(tmp_path):
    writer = CocoVidWriter(tmp_path / "tracks.json", "v", 4, 4)
    writer.write(3, "a", frame([1]))
    with pytest.raises(ValueError, match="rise from 1, got 3 after 3"):
        writer.write(3, "b", frame([1]))
    writer.abandon()
    assert os.listdir(tmp_path) == []


def test_a_crash_leaves_no_half_file_and_the_earlier_results(tmp_path):
    write_all(tmp_path, [(1, frame([1]))])
    before = {name: (tmp_path / name).read_bytes() for name in NAMES}

    def crash():
        with TrackWriters(tmp_path, "v", 4, 4) as writers:
            writers.write(1, "a", frame([99]))
            assert {name: (tmp_path / name).read_bytes() for name in NAMES} == before, "earlier results stay meanwhile"
            assert sorted(os.listdir(tmp_path)) == sorted([*NAMES, *(f".{name}.part" for name in NAMES)])
            raise RuntimeError("crash")

    with pytest.raises(RuntimeError, match="crash"):
        crash()
    assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)} == before


def test_a_second_run_takes_the_place_of_the_first(tmp_path):
    for name in NAMES:
        (tmp_path / f".{name}.part").write_text("left by a run that was killed")
    write_all(tmp_path, [(1, frame([1, 2, 3]))])
    write_all(tmp_path, [(1, frame([8]))])
    assert sorted(os.listdir(tmp_path)) == sorted(NAMES)
    assert read_mot(tmp_path / "tracks.txt")[:, 1].tolist() == [8]
    assert [a["track_id"] for a in json.loads((tmp_path / "tracks.json").read_text())["annotations"]] == [8]
    assert [row["tracker_id"] for row in csv.DictReader((tmp_path / "tracks.csv").open())] == ["8"]


def test_ctrl_c_keeps_the_frames_done(tmp_path):
    def interrupted():
        with TrackWriters(tmp_path, "v", 4, 4) as writers:
            writers.write(1, "a", frame([1, 2]))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert sorted(os.listdir(tmp_path)) == sorted(NAMES)
    assert len(read_mot(tmp_path / "tracks.txt")) == 2
    assert len(json.loads((tmp_path / "tracks.json").read_text())["annotations"]) == 2


def test_a_file_that_cannot_be_completed_keeps_no_other_back(tmp_path, monkeypatch):
    write_all(tmp_path, [(1, frame([1]))])
    before = {name: (tmp_path / name).read_bytes() for name in NAMES}
    writers = TrackWriters(tmp_path, "v", 4, 4)
    writers.write(1, "a", frame([2]))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(coco_vid.shutil, "copyfileobj", full)
    faults = writers.close()
    assert {path.name: str(error) for path, error in faults.items()} == {
        "tracks.json": "[Errno 28] No space left on device"
    }
    assert sorted(os.listdir(tmp_path)) == sorted(NAMES)
    assert (tmp_path / "tracks.json").read_bytes() == before["tracks.json"]
    assert read_mot(tmp_path / "tracks.txt")[:, 1].tolist() == [2]
    assert [row["tracker_id"] for row in csv.DictReader((tmp_path / "tracks.csv").open())] == ["2"]


def test_closing_twice_and_abandoning_afterwards_change_nothing(tmp_path):
    writers = TrackWriters(tmp_path, "v", 4, 4)
    writers.write(1, "a", frame([2]))
    writers.close()
    writers.close()
    writers.abandon()
    assert [path.name for path in writers.paths] == list(NAMES)
    assert all(path.is_file() for path in writers.paths)


def test_single_writers_close_alone(tmp_path):
    for writer in (MotWriter(tmp_path / "a.txt"), CsvWriter(tmp_path / "a.csv", ["cat"])):
        writer.write(1, "f", frame([5]))
        assert not writer.file.path.exists()
        writer.close()
        assert "5" in writer.file.path.read_text()
    assert sorted(os.listdir(tmp_path)) == ["a.csv", "a.txt"]


def test_opening_where_nothing_can_be_opened_leaves_nothing(tmp_path):
    (tmp_path / ".tracks.csv.part").mkdir()  # in the way of the last one
    with pytest.raises(OSError, match=r"tracks\.csv\.part"):
        TrackWriters(tmp_path, "v", 4, 4)
    assert os.listdir(tmp_path) == [".tracks.csv.part"]


def test_the_input_is_not_altered():
    detections = frame([1, -1, 2], masks=[1, 2, 3])
    before = (detections.xyxy.copy(), detections.tracker_id.copy(), dict(detections.data))
    rows = tracked_rows(detections)
    rows.xyxy[:] = 0
    assert rows.tracker_id.tolist() == [1, 2]
    assert (detections.xyxy == before[0]).all()
    assert (detections.tracker_id == before[1]).all()
    assert detections.data == before[2]


def test_prepare_folder_makes_it_and_leaves_no_trace(tmp_path):
    folder = prepare_folder(tmp_path / "a" / "b")
    assert folder.is_dir()
    assert os.listdir(folder) == []
    (folder / "mine").touch()
    assert prepare_folder(str(folder)) == folder
    assert os.listdir(folder) == ["mine"]


def test_prepare_folder_names_the_fault(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"--out must be a folder, but .*file is a file"):
        prepare_folder(tmp_path / "file")
    with pytest.raises(InputError, match=r"--save must be a folder, but .*/file is a file"):
        prepare_folder(tmp_path / "file" / "below" / "it", argument="--save")
    with pytest.raises(InputError, match="must name a folder, got ''"):
        prepare_folder("")
    (tmp_path / "locked").mkdir()

    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files.tempfile, "NamedTemporaryFile", refuse)
    with pytest.raises(InputError, match=r"can be written, got .*locked: Permission denied"):
        prepare_folder(tmp_path / "locked")


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")
def test_prepare_folder_where_not_even_root_may_write():
    for place in ("/proc/masa-track", "/proc/self"):
        with pytest.raises(InputError, match="can be written, got /proc"):
            prepare_folder(place)


def test_write_text_is_all_or_nothing(tmp_path, monkeypatch):
    write_text(tmp_path / "a", "first \u00fc")
    assert (tmp_path / "a").read_text(encoding="utf-8") == "first \u00fc"

    def fail(self):
        raise OSError("disk")

    monkeypatch.setattr(PartFile, "commit", fail)
    with pytest.raises(OSError, match="disk"):
        write_text(tmp_path / "a", "second")
    assert os.listdir(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text(encoding="utf-8") == "first \u00fc"


def test_presence_stands_with_the_image(tmp_path):
    with TrackWriters(tmp_path, "clip", 64, 48) as writers:
        writers.write(1, "1.jpg", frame([]), None, {"a dog": 0.123456, "cat\x00": 1.0})
        writers.write(2, "2.jpg", frame([1]))
    images = json.loads((tmp_path / "tracks.json").read_text())["images"]
    assert images[0]["presence"] == {"a dog": 0.1235, "cat\ufffd": 1.0}
    assert "presence" not in images[1]
    assert read_run(tmp_path).presence == ({"a dog": 0.1235, "cat\ufffd": 1.0}, {})
