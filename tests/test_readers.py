"""Readers of boxes, each on a file as its tool writes it; rows that make no sense; other separators and classes."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import numpy as np
import pytest
import supervision as sv
from test_joining import CASES, check, files, mot, things, video, written

from masa_track.errors import InputError
from masa_track.formats.cvat import cvat_xml
from masa_track.formats.detections import read_detections
from masa_track.formats.joining import Numbering
from masa_track.formats.label_studio import label_studio_task
from masa_track.formats.run import read_run
from masa_track.formats.tracks import TrackWriters
from masa_track.pipeline.file_boxes import file_boxes

PICTURES = {i + 1: i for i in range(6)}


# Text of rows


@pytest.mark.parametrize("separator", [",", ", ", ";", "; ", "\t", " ", "   "])
def test_separators(tmp_path, separator):
    path = written(tmp_path / "det.txt", mot(list(PICTURES.items()), separator))
    check(read_detections(path, video()), PICTURES)


def test_decimal_commas(tmp_path):
    found = read_detections(written(tmp_path / "det.txt", "1;-1;1,5;1;20,25;30;0,75\n"), video())
    assert found.at(1).xyxy.tolist() == [[0.5, 0, 20.75, 30]]
    assert found.scores.tolist() == [0.75]


def test_blanks():
    check(read_detections(CASES / "detections-with-blanks" / "det.txt", video()), {i + 1: i for i in range(20)})


def test_classes_from_0(tmp_path):
    found = read_detections(CASES / "class-column-from-0" / "det.txt", video())
    assert found.at(1).class_id.tolist() == [0, 1]
    boxmot = "1 1 10 60 30 40 0.91 0 -1\n1 2 150 110 30 24 0.62 2 -1\n2 1 13 60 30 40 0.90 0 -1\n"
    found = read_detections(written(tmp_path / "boxmot.txt", boxmot), video())
    assert found.class_ids.tolist() == [0, 2, 0]
    one = read_detections(written(tmp_path / "one.txt", "1,-1,1,1,5,5,.9,0,-1,-1\n2,-1,1,1,5,5,.9,0,-1,-1\n"), video())
    assert one.class_ids.tolist() == [0, 0]


def test_ua_detrac(tmp_path):
    text = "1,1,11,61,30,40,0.99\n1,2,151,111,30,24,0.3\n2,1,14,61,30,40,0.98\n"
    found = read_detections(written(tmp_path / "MVI_20011_Det.txt", text), video())
    assert found.at(1).xyxy.tolist() == things(0)
    assert found.scores.tolist() == pytest.approx([0.99, 0.3, 0.98])


def test_visdrone(tmp_path):
    text = "1,0,10,60,30,40,1,4,0,0\n1,1,150,110,30,24,1,1,0,2\n1,0,0,0,60,20,0,0,0,0\n2,0,13,60,30,40,1,4,1,1\n"
    found = read_detections(written(tmp_path / "uav.txt", text), video())
    assert found.at(1).xyxy.tolist() == things(0), "pixels from 0; ignored regions are left out"
    assert [found.class_names[i] for i in found.at(1).class_id] == ["car", "pedestrian"]


def test_kitti(tmp_path):
    rows = []
    for i in range(6):
        (one, other) = things(i)
        rows.append(f"{i} 0 Car 0 0 -1.57 {' '.join(map(str, one))} 1.5 1.6 3.9 1.0 1.5 8.4 0.01")
        rows.append(f"{i} 1 Pedestrian 0 1 -1.57 {' '.join(map(str, other))} 1.5 1.6 3.9 1.0 1.5 8.4 0.01 0.5")
        rows.append(f"{i} -1 DontCare -1 -1 -10 1 1 9 9 -1000 -1000 -1000 -10 -1 -1 -1")
    path = written(tmp_path / "0000.txt", "\n".join(rows))
    found = read_detections(path, video())
    check(found, PICTURES)
    assert found.class_names == {0: "Car", 1: "Pedestrian"}
    assert found.scores[:2].tolist() == [1, 0.5]
    check(read_detections(path, video(names=files(range(6), "{:06d}.png"))), PICTURES)
    with pytest.raises(InputError, match="line 4: KITTI's lines have 17 or 18 columns"):
        read_detections(written(path, "\n".join([*rows[:3], "0 1 Car 1"])), video())


def test_npy(tmp_path):
    table = np.array(
        [[f, -1, x1 + 1, y1 + 1, x2 - x1, y2 - y1, 0.5] for f, p in PICTURES.items() for x1, y1, x2, y2 in things(p)]
    )
    np.save(tmp_path / "d.npy", table)
    check(read_detections(tmp_path / "d.npy", video()), PICTURES)
    features = np.random.default_rng(0).normal(size=(len(table), 128))
    np.save(tmp_path / "d.npy", np.hstack((table, -np.ones((len(table), 3)), features)))
    found = read_detections(tmp_path / "d.npy", video())
    check(found, PICTURES)
    assert set(found.class_ids.tolist()) == {0}
    np.save(tmp_path / "d.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(InputError, match="no plain array of numpy"):
        read_detections(tmp_path / "d.npy", video())
    np.save(tmp_path / "d.npy", table[:, :5])
    with pytest.raises(InputError, match="must hold numbers"):
        read_detections(tmp_path / "d.npy", video())


def test_npy_with_nan(tmp_path):
    table = np.array([[f, -1, 11, 61, 30, 40, np.nan if f == 2 else 0.5] for f in (1, 2, 3)])
    np.save(tmp_path / "d.npy", table)
    with pytest.raises(InputError, match="row 1: holds NaN"):
        read_detections(tmp_path / "d.npy", video())
    found = read_detections(tmp_path / "d.npy", video(), skip_bad_rows=True)
    assert found.frames.tolist() == [1, 3]
    assert "1 row skipped, the first is row 1" in found.notes[0]


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: text.replace("\n", "\r\n").encode("utf-8-sig"),
        lambda text: text.replace("\n", "\r").encode(),
        lambda text: text.encode("utf-16"),
        lambda text: gzip.compress(text.encode()),
    ],
)
def test_other_encodings_of_text(tmp_path, encode):
    path = tmp_path / "det.txt"
    path.write_bytes(encode(mot(list(PICTURES.items()))))
    check(read_detections(path, video()), PICTURES)


def test_a_gzip_file_that_is_cut_short(tmp_path):
    path = tmp_path / "det.txt.gz"
    path.write_bytes(gzip.compress(mot(list(PICTURES.items())).encode())[:60])
    with pytest.raises(InputError, match="is not a whole gzip file"):
        read_detections(path, video())


@pytest.mark.parametrize(
    ("name", "end", "visdrone"),
    [
        ("val.txt", "1,4,0,0", True),
        ("uav0000013_00000_v.txt", "0.9,4,-1,-1", True),
        ("boxmot.txt", "0.9,4,-1,-1", False),
        ("uav.txt", "0.9,0,0,0", False),
    ],
)
def test_visdrone_without_occlusion(tmp_path, name, end, visdrone):
    found = read_detections(written(tmp_path / name, f"1,1,10,60,30,40,{end}\n"), video())
    assert found.at(1).xyxy[0].tolist() == ([10, 60, 40, 100] if visdrone else [9, 59, 39, 99])
    assert found.class_names.get(4) == ("car" if visdrone else None)
    assert any("VisDrone" in note for note in found.notes) == visdrone


# Named columns


def sunk(sink: sv.CSVSink | sv.JSONSink, first: int, key: str) -> None:
    with sink:
        for i in range(6):
            boxes = sv.Detections(
                xyxy=np.array(things(i), np.float32),
                confidence=np.array([0.9, 0.4], np.float32),
                class_id=np.array([2, 0]),
                tracker_id=np.array([1, 2]),
                data={"class_name": np.array(["car", "person"])},
            )
            sink.append(boxes, {key: i + first})


@pytest.mark.parametrize(("first", "key"), [(0, "frame_number"), (1, "frame_index"), (0, "frame")])
@pytest.mark.parametrize("kind", ["csv", "json"])
def test_what_supervision_writes(tmp_path, kind, first, key):
    path = tmp_path / f"d.{kind}"
    sunk((sv.CSVSink if kind == "csv" else sv.JSONSink)(str(path)), first, key)
    found = read_detections(path, video())
    check(found, PICTURES)
    assert found.class_names == {2: "car", 0: "person"}
    assert found.at(1).confidence.tolist() == pytest.approx([0.9, 0.4])
    assert f"count from {first}" in found.notes[0]


def test_a_first_frame_without_boxes_is_ambiguous(tmp_path):
    path = tmp_path / "d.csv"
    sunk(sv.CSVSink(str(path)), 3, "frame")
    with pytest.raises(InputError, match="is frame 3 of video if frame_id count from 1, and frame 4 if"):
        read_detections(path, video())
    check(read_detections(path, video(), Numbering(base=0)), {i + 4: i for i in range(6)})


def our_run(folder: Path) -> Path:
    """A run's track files, of frames 3 to 8 with things 0 to 5."""
    writers = TrackWriters(folder, "video", 192, 144, 25.0, {2: "car", 0: "person"})
    for i in range(6):
        rows = sv.Detections(
            xyxy=np.array(things(i), np.float32),
            confidence=np.array([0.9, 0.4], np.float32),
            class_id=np.array([2, 0]),
            tracker_id=np.array([1, 2]),
        )
        writers.write(i + 3, f"{i + 3:06d}.jpg", rows, (i + 2) / 25)
    assert not any(writers.close().values())
    return folder


def test_our_own_files(tmp_path):
    folder = our_run(tmp_path)
    frames = {i + 3: i for i in range(6)}
    for name in ("tracks.csv", "tracks.json", "tracks.txt"):
        found = read_detections(folder / name, video())
        assert set(found.frames.tolist()) == set(frames), name
        assert found.at(4).xyxy.tolist() == pytest.approx(np.array(things(1)), abs=1e-3)
    assert read_detections(folder / "tracks.csv", video()).class_names[2] == "car"


def test_mot_text_with_a_header(tmp_path):
    text = "frame,id,bb_left,bb_top,bb_width,bb_height,conf,x,y,z\n" + mot(list(PICTURES.items()))
    check(read_detections(written(tmp_path / "d.csv", text), video()), PICTURES)
    late = "frame,id,bb_left,bb_top,bb_width,bb_height,conf,x,y,z\n" + mot([(5, 4)])
    check(read_detections(written(tmp_path / "d.csv", late), video()), {5: 4})


def test_other_names_of_columns(tmp_path):
    text = "filename_is_no_frame,frame,xmin,ymin,xmax,ymax,score,class\nx,1,10,60,40,100,0.5,3\nx,0,1,2,3,4,0.5,3\n"
    found = read_detections(written(tmp_path / "d.csv", text), video())
    assert found.at(2).xyxy.tolist() == [[10, 60, 40, 100]]
    text = "frame;left;top;width;height\n1;10;60;30;40\n2;13;60;30;40\n"
    found = read_detections(written(tmp_path / "d.csv", text), video())
    assert found.at(2).xyxy.tolist() == [[13, 60, 43, 100]]
    with pytest.raises(InputError, match=r"rows must have a frame .* and sides .* got the columns x1, y1"):
        read_detections(written(tmp_path / "d.csv", "x1,y1\n1,2\n"), video())
    path = written(tmp_path / "d.csv", "frame,x1,y1,x2,y2\n1,1,1,9,9\n1,1,1,nan,9\n")
    with pytest.raises(InputError, match="line 3: frame, sides, score and class must be numbers"):
        read_detections(path, video())


def test_a_column_without_a_name_is_no_score(tmp_path):
    text = ",frame,x1,y1,x2,y2\n" + "".join(f"{i + 7},1,10,60,{40 + i},100\n" for i in range(3))  # as of pandas
    found = read_detections(written(tmp_path / "d.csv", text), video())
    assert found.scores.tolist() == [1, 1, 1]
    assert found.class_ids.tolist() == [0, 0, 0]
    assert found.class_names == {}


def test_names_of_classes_in_a_column_called_class(tmp_path):
    text = "frame,xmin,ymin,xmax,ymax,confidence,{}\n1,10,60,40,100,0.5,{}\n1,150,110,180,134,0.5,{}\n"
    for columns, rows, names in (
        ("class", ("car", "bus"), {0: "car", 1: "bus"}),
        ("class,name", ("7,car", "2,bus"), {7: "car", 2: "bus"}),
        ("class", ("7", "2"), {}),
    ):
        found = read_detections(written(tmp_path / "d.csv", text.format(columns, *rows)), video())
        assert found.class_names == names
        assert found.class_ids.tolist() == (list(names) or [7, 2])


def test_rows_with_names_and_sizes_of_images(tmp_path):
    text = "filename,width,height,class,xmin,ymin,xmax,ymax\n" + "".join(
        f"img {i + 5}.jpg,96,72,car,{','.join(str(side / 2) for side in box)}\n" for i in (1, 0) for box in things(i)
    )
    found = read_detections(written(tmp_path / "d.csv", text), video(names=files(range(5, 9), "img {}.jpg")))
    check(found, {1: 0, 2: 1})
    assert "4 rows are of images of another size, and scaled" in found.notes[-1]
    turned = text.replace("96,72", "144,192")
    with pytest.raises(InputError, match="line 2: frame, sides, score and class must be numbers"):
        read_detections(written(tmp_path / "d.csv", turned), video(names=files(range(5, 9), "img {}.jpg")))


def test_json_rows_with_left_and_top(tmp_path):
    rows = [
        {"Frame": i, "Left": a, "Top": b, "Width": c - a, "Height": d - b} for i in range(6) for a, b, c, d in things(i)
    ]
    check(read_detections(written(tmp_path / "d.json", rows), video()), PICTURES)


def test_decimal_commas_under_a_header(tmp_path):
    text = "frame;x_min;y_min;x_max;y_max;confidence;class_name\n1;10,5;60;40,25;100;0,75;a,b\n"
    found = read_detections(written(tmp_path / "d.csv", text), video())
    assert found.at(1).xyxy.tolist() == [[10.5, 60, 40.25, 100]]
    assert found.scores.tolist() == [0.75]
    assert found.class_names == {0: "a,b"}


# YOLO


def yolo(folder: Path, names: list[str], extra: str = "") -> Path:
    folder.mkdir(parents=True)
    for i, name in enumerate(names):
        lines = []
        for number, (x1, y1, x2, y2) in enumerate(things(i)):
            box = (x1 + x2) / 2 / 192, (y1 + y2) / 2 / 144, (x2 - x1) / 192, (y2 - y1) / 144
            lines.append(f"{number} {' '.join(f'{value:.8f}' for value in box)}{extra}")
        (folder / name).write_text("\n".join(lines) + "\n")
    return folder


def checked(folder: Path, source: object) -> object:
    found = read_detections(folder, source)
    assert set(found.frames.tolist()) == set(PICTURES)
    for frame, picture in PICTURES.items():
        assert found.at(frame).xyxy == pytest.approx(np.array(things(picture)), abs=1e-3)
        assert found.at(frame).class_id.tolist() == [0, 1]
    return found


def test_yolo_labels_of_a_video(tmp_path):
    """As ``yolo predict --save-txt --save-conf`` writes them."""
    folder = yolo(tmp_path / "labels", [f"video_{i}.txt" for i in range(1, 7)], " 0.5")
    (folder / "classes.txt").write_text("car\nperson\n")
    found = checked(folder, video())
    assert found.class_names == {0: "car", 1: "person"}
    assert set(found.scores.tolist()) == {0.5}


@pytest.mark.parametrize(
    "names",
    [
        "names: [car, 'person']\n",
        "nc: 2\nnames:\n  0: car\n  1: person\ntrain: x\n",
        "names:\n- car\n- person\nnc: 2\n",
    ],
)
def test_yolo_labels_of_images(tmp_path, names):
    folder = yolo(tmp_path / "labels" / "train", [f"{i:06d}.txt" for i in range(11, 17)])
    (tmp_path / "data.yaml").write_text(names)
    found = checked(folder, video(names=files(range(11, 17))))
    assert found.class_names == {0: "car", 1: "person"}


def test_yolo_tracks_and_polygons(tmp_path):
    checked(yolo(tmp_path / "tracks", [f"a_{i}.txt" for i in range(1, 7)], " 0.875 12"), video())
    folder = tmp_path / "polygons"
    folder.mkdir()
    (folder / "000001.txt").write_text("1 0.25 0.25 0.5 0.25 0.5 0.5 0.25 0.5\n")
    found = read_detections(folder, video(names=files([1, 2])))
    assert found.at(1).xyxy.tolist() == [[48, 36, 96, 72]]
    assert found.masks_at(1)[0] == [[48, 36, 96, 36, 96, 72, 48, 72]]
    points = " 0.3 0.3 2" * 17
    (folder / "000002.txt").write_text(f"0 0.5 0.5 0.25 0.5{points}\n")
    found = read_detections(folder, video(names=files([1, 2])))
    assert found.at(2).xyxy.tolist() == [[72, 36, 120, 108]], "a pose"
    assert found.scores.tolist() == [1, 1]
    (folder / "000002.txt").write_text("1 0.25 x 0.5 0.25\n")
    with pytest.raises(InputError, match=r"000002.txt, line 1: YOLO's rows are"):
        read_detections(folder, video(names=files([1, 2])))
    with pytest.raises(InputError, match=r"the folder holds no .txt files of labels"):
        read_detections(tmp_path, video())


BOX, QUAD = "0.25 0.5 0.25 0.5", "0.125 0.25 0.375 0.25 0.375 0.75 0.125 0.75"
POSE = " ".join(["0.3 0.3 2"] * 17)


@pytest.mark.parametrize(
    ("rows", "scores"),
    [
        ([f"0 {BOX} 0.5", f"0 {BOX} 1"], [0.5, 1]),
        ([f"0 {BOX} 1", f"0 {BOX} 2"], [1, 1]),  # identities
        ([f"0 {BOX} 0.5 0", f"0 {BOX} 1 1"], [0.5, 1]),  # an identity of 0
        ([f"0 {QUAD}", f"0 {QUAD} 0.25 0.5"], [1, 1]),
        ([f"0 {QUAD} 0.5", f"0 {QUAD} 0.25 0.5 0.75"], [0.5, 0.75]),
        ([f"0 {QUAD} 0.5 1", f"0 {QUAD} 0.25 0.5 0.75 2"], [0.5, 0.75]),
        ([f"0 {BOX} {POSE}", f"0 {BOX} {POSE}"], [1, 1]),
        ([f"0 {BOX} {POSE} 0.5", f"0 {BOX} {POSE} 0.75"], [0.5, 0.75]),
        ([f"0 {BOX} {POSE.replace('2', '0.9')} 0.5 1", f"0 {BOX} {POSE} 0.75 2"], [0.5, 0.75]),
        ([f"0 {BOX} 0.3 0.3 2 0.4 0.4 1 0.5"] * 3, [0.5] * 3),
    ],
)
def test_yolo_rows_are_known_by_the_folder(tmp_path, rows, scores):
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "video_1.txt").write_text("\r\n".join(rows))
    for folder in (tmp_path / "labels", tmp_path):
        found = read_detections(folder, video())
        assert found.boxes == pytest.approx(np.array([[24, 36, 72, 108]] * len(rows)), abs=0.01)
        assert found.scores.tolist() == scores


def test_yolo_poses_without_a_shape_are_refused(tmp_path):
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "video_1.txt").write_text(f"0 {BOX}{' 0.2 0.5' * 4}\n" * 3)
    with pytest.raises(InputError, match=r"each of its 3 rows has 13 values, .* put a data.yaml .* kpt_shape"):
        read_detections(tmp_path / "labels", video())
    (tmp_path / "data.yaml").write_text("kpt_shape: [4, 2]\nnames: {0: cat}\n")
    found = read_detections(tmp_path / "labels", video())
    assert found.at(1).xyxy.tolist() == [[24, 36, 72, 108]] * 3
    assert found.class_names == {0: "cat"}
    (tmp_path / "data.yaml").write_text("kpt_shape: [6, 3]\n")
    with pytest.raises(InputError, match="rows must have 5 values and 18 of points"):
        read_detections(tmp_path / "labels", video())


@pytest.mark.parametrize(
    "text",
    [
        "names: ['car', \"person, sitting\"]\n",
        "names:\n\n  # classes\n  0: car  # a\n  1: person, sitting\n",
        "names: [\n car,\n 'person, sitting'\n]\nnc: 2\n",
        '"names": {"0": "car", "1": "person, sitting"}\n',
    ],
)
def test_yolo_names_of_yaml(tmp_path, text):
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "video_1.txt").write_text(f"1 {BOX}")
    (tmp_path / "data.yaml").write_text(text)
    assert read_detections(tmp_path / "labels", video()).class_names == {0: "car", 1: "person, sitting"}
    (tmp_path / "data.yaml").write_text("names: [")
    with pytest.raises(InputError, match=r"data\.yaml is no yaml"):
        read_detections(tmp_path / "labels", video())


# Annotation tools


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task>
    <id>7</id><name>street</name><size>20</size><mode>interpolation</mode><overlap>5</overlap>
    <start_frame>{start}</start_frame><stop_frame>{stop}</stop_frame><frame_filter>{step}</frame_filter>
    <labels><label><name>car</name><attributes></attributes></label><label><name>dog</name></label></labels>
    <original_size><width>{width}</width><height>144</height></original_size>
  </task></meta>
  <track id="0" label="car" source="manual">
    <box frame="0" keyframe="1" outside="0" occluded="0" xtl="10" ytl="60" xbr="40" ybr="100" z_order="0"></box>
    <box frame="5" keyframe="1" outside="0" occluded="0" xtl="25" ytl="60" xbr="55" ybr="100" z_order="0"></box>
    <box frame="6" keyframe="1" outside="1" occluded="0" xtl="25" ytl="60" xbr="55" ybr="100" z_order="0"></box>
  </track>
  <track id="1" label="dog" source="manual">
    <box frame="0" keyframe="1" outside="0" occluded="0" xtl="150" ytl="110" xbr="180" ybr="134" z_order="0"></box>
    <box frame="5" keyframe="1" outside="0" occluded="0" xtl="140" ytl="110" xbr="170" ybr="134" z_order="0"></box>
    <box frame="6" keyframe="1" outside="1" occluded="0" xtl="140" ytl="110" xbr="170" ybr="134" z_order="0"></box>
  </track>
</annotations>
"""


def test_cvat_video(tmp_path):
    path = tmp_path / "annotations.xml"
    found = read_detections(written(path, CVAT.format(start=0, stop=19, step="", width=192)), video())
    check(found, PICTURES)
    assert found.class_names == {0: "car", 1: "dog"}
    found = read_detections(written(path, CVAT.format(start=4, stop=19, step="", width=192)), video())
    check(found, {frame + 4: picture for frame, picture in PICTURES.items()})
    found = read_detections(written(path, CVAT.format(start=0, stop=19, step="step=3", width=192)), video())
    assert sorted(set(found.frames.tolist())) == [1, 4, 7, 10, 13, 16]
    found = read_detections(written(path, CVAT.format(start=0, stop=19, step="", width=384)), video())
    assert found.at(1).xyxy[0].tolist() == [5, 60, 20, 100], "scaled"


def cvat_task(frames: list[int], head: str) -> str:
    """As CVAT's exporter writes it: a box in each frame of the task, by the frame's number in the video."""
    boxes = "".join(
        f'<box frame="{frame}" outside="0" keyframe="{int(i % 2 == 0)}" xtl="{10 + 3 * i}" ytl="60" xbr="{40 + 3 * i}" '
        'ybr="100"/>'
        for i, frame in enumerate(frames)
    )
    end = f'<box frame="{2 * frames[-1] - frames[-2]}" outside="1" xtl="1" ytl="1" xbr="2" ybr="2"/>'
    return f'<annotations><meta>{head}</meta><track id="0" label="car">{boxes}{end}</track></annotations>'


@pytest.mark.parametrize(
    "meta", ["<task>{}</task>", "<job>{}</job>", "<project><tasks><task>{}</task></tasks></project>"]
)
def test_cvat_frames_are_those_of_the_video(tmp_path, meta):
    facts = "<start_frame>4</start_frame><stop_frame>19</stop_frame><frame_filter>step=3</frame_filter>"
    text = cvat_task([4, 7, 10], meta.format(facts))
    found = read_detections(written(tmp_path / "a.xml", text), video())
    assert found.frames.tolist() == [5, 8, 11]
    assert found.boxes[:, 0].tolist() == [10, 13, 16]
    counted = cvat_task([0, 1, 2], meta.format(facts))
    assert read_detections(written(tmp_path / "a.xml", counted), video()).frames.tolist() == [5, 8, 11]
    images = '<image id="7" name="frame_000007"><box label="car" xtl="10" ytl="60" xbr="40" ybr="100"/></image>'
    text = f"<annotations><meta>{meta.format(facts)}</meta>{images}</annotations>"
    assert read_detections(written(tmp_path / "a.xml", text), video()).frames.tolist() == [8]


def test_a_project_of_several_cvat_tasks_is_refused(tmp_path):
    two = "<project><tasks><task><name>a</name></task><task><name>b</name></task></tasks></project>"
    with pytest.raises(InputError, match=r"holds 2 tasks of a project \(a, b\): export the task of this video"):
        read_detections(written(tmp_path / "a.xml", cvat_task([0, 1], two)), video())


def test_turned_boxes(tmp_path):
    box = '<box label="car" xtl="80" ytl="60" xbr="120" ybr="80" rotation="{}"/>'
    image = '<annotations><image id="0" name="frame_000000">' + box + "</image></annotations>"
    for turn, sides in ((90, [90, 50, 110, 90]), (180, [80, 60, 120, 80]), (45, [78.787, 48.787, 121.213, 91.213])):
        found = read_detections(written(tmp_path / "a.xml", image.format(turn)), video())
        assert found.boxes[0] == pytest.approx(sides, abs=1e-3), "about the centre"
    place = {"x": 80 / 1.92, "y": 60 / 1.44, "width": 40 / 1.92, "height": 20 / 1.44, "rotation": 90}
    value = {"sequence": [{"frame": 1, "enabled": False, **place}], "videolabels": ["car"]}
    task = {"data": {"video": "v.mp4"}, "annotations": [{"id": 1, "result": [{"id": "a", "value": value}]}]}
    found = read_detections(written(tmp_path / "d.json", task), video())
    assert found.boxes[0] == pytest.approx([60, 60, 80, 100], abs=1e-3), "about the left upper corner"
    assert found.class_names == {0: "car"}


def test_one_annotation_of_a_label_studio_task(tmp_path):
    def annotation(number, x, **facts):
        keyframe = {"frame": 1, "enabled": False, "x": x, "y": 10, "width": 20, "height": 20}
        value = {"sequence": [keyframe], "labels": ["car"]}
        return {"id": number, "result": [{"id": "a", "value": value}], **facts}

    task = {"data": {"video": "/data/upload/1/0a1b2c3d-Video.mp4"}}
    for given, left in (
        ([annotation(1, 10), annotation(2, 50)], 96),
        ([annotation(1, 10, ground_truth=True), annotation(2, 50)], 19.2),
        ([annotation(1, 10), annotation(2, 50, was_cancelled=True)], 19.2),
    ):
        other = {"data": {"video": "other.mp4"}, "annotations": given[:1]}
        path = written(tmp_path / "d.json", [other, {**task, "annotations": given}])
        found = read_detections(path, video())
        assert found.boxes[:, 0].tolist() == pytest.approx([left])
        assert ("of 2 annotations of the task" in "".join(found.notes)) == ("was_cancelled" not in given[1])


def test_cvat_track_that_does_not_end(tmp_path):
    text = CVAT.format(start=0, stop=9, step="", width=192).replace(
        'frame="6" keyframe="1" outside="1"', 'frame="6" outside="0"'
    )
    found = read_detections(written(tmp_path / "a.xml", text), video(10))
    assert sorted(set(found.frames.tolist())) == list(range(1, 11))


def test_cvat_images(tmp_path):
    images = "".join(
        f'<image id="{i}" name="a/{i + 11:06d}.png" width="192" height="144">'
        + "".join(f'<box label="car" xtl="{a}" ytl="{b}" xbr="{c}" ybr="{d}"/>' for a, b, c, d in things(i))
        + "</image>"
        for i in (3, 0, 5)
    )
    path = written(tmp_path / "a.xml", f"<annotations><version>1.1</version>{images}</annotations>")
    check(read_detections(path, video(names=files(range(11, 17)))), {1: 0, 4: 3, 6: 5})
    with pytest.raises(InputError, match="its image 1 is frame 14 of video if the numbers in file names"):
        read_detections(path, video())
    check(read_detections(path, video(), Numbering(base=0)), {1: 0, 4: 3, 6: 5})
    plain = images.replace("a/0000", "cat-").replace(".png", "")
    plain = re.sub(r"cat-(\d)(\d)", lambda found: "cat" + "ab"[int(found[1])] + "xyzuvwrst"[int(found[2])], plain)
    path = written(tmp_path / "a.xml", f"<annotations><version>1.1</version>{plain}</annotations>")
    check(read_detections(path, video()), {1: 0, 4: 3, 6: 5})


def test_shapes_that_are_left_out_are_counted(tmp_path):
    polygon = '<track id="9" label="car"><polygon frame="0" points="1,1;2,2;3,1"/></track></annotations>'
    text = CVAT.format(start=0, stop=19, step="", width=192).replace("</annotations>", polygon)
    found = read_detections(written(tmp_path / "a.xml", text), video())
    check(found, PICTURES)
    assert "1 shapes that are no boxes are left out" in found.notes[-1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<html></html>", "must be CVAT's xml of <annotations>, got <html>"),
        ("<annotations>", "is not whole xml"),
        ("<annotations></annotations>", "holds no boxes"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotations/>', "has no document type"),
        (CVAT.replace('xtl="10"', 'xtl="left"'), "track 0: xtl must be a number, got 'left'"),
        (CVAT.replace('frame="5"', 'frame="-5"'), "track 0: frame must be a frame number from 0, got -5"),
    ],
)
def test_broken_cvat(tmp_path, text, message):
    text = text.format(start=0, stop=19, step="", width=192) if "{start}" in text else text
    with pytest.raises(InputError, match=message):
        read_detections(written(tmp_path / "a.xml", text), video())


def test_what_we_export_is_read(tmp_path):
    run = read_run(our_run(tmp_path))
    frames = {i + 3 for i in range(6)}
    for content in (cvat_xml(run), [label_studio_task(run, "street.mp4")]):
        found = read_detections(written(tmp_path / "export", content), video())
        assert set(found.frames.tolist()) == frames
        assert found.at(4).xyxy == pytest.approx(np.array(things(1)), abs=0.02)
        assert {found.class_names[i] for i in found.class_ids} == {"car", "person"}


def test_label_studio(tmp_path):
    def sequence(xs, y, width, height):
        return [
            {
                "frame": f,
                "enabled": e,
                "rotation": 0,
                "x": x / 1.92,
                "y": y / 1.44,
                "width": width / 1.92,
                "height": height / 1.44,
                "time": f / 25,
            }
            for f, e, x in xs
        ]

    def result(label, keyframes):
        value = {"framesCount": 20, "duration": 0.8, "sequence": keyframes, "labels": [label]}
        return {"id": label, "type": "videorectangle", "from_name": "box", "to_name": "video", "value": value}

    car = result("car", sequence([(1, True, 10), (6, False, 25)], 60, 30, 40))
    dog = result("dog", sequence([(1, True, 150), (6, False, 140)], 110, 30, 24))
    task = {
        "id": 1,
        "data": {"video": "/data/upload/1/video.mp4"},
        "annotations": [{"id": 3, "result": [car, dog]}],
        "predictions": [],
    }
    found = read_detections(written(tmp_path / "d.json", [task]), video())
    assert set(found.frames.tolist()) == set(PICTURES)
    assert found.at(3).xyxy == pytest.approx(np.array(things(2)), abs=1e-3)
    other = {**task, "data": {"video": "other.mp4"}}
    assert len(read_detections(written(tmp_path / "d.json", [other, task]), video())) == 12
    with pytest.raises(InputError, match="holds 2 tasks, 0 of them of video"):
        read_detections(written(tmp_path / "d.json", [other, other]), video())
    car["value"]["sequence"][0]["x"] = "left"
    with pytest.raises(InputError, match="result car: a keyframe must have x, y, width and height in per cent"):
        read_detections(written(tmp_path / "d.json", [task]), video())


# Rows that make no sense


@pytest.mark.parametrize(
    "line",
    [
        "frame,id,left",
        "1,-1,a,1,5,5,.9",
        "1,-1,nan,1,5,5,.9",
        "1,-1,1,1,0,5,.9",
        "0,-1,1,1,5,5,.9",
        "1.5,-1,1,1,5,5,.9",
    ],
)
def test_bad_rows_are_skipped_if_asked(tmp_path, line):
    text = mot(list(PICTURES.items()))
    path = written(tmp_path / "det.txt", f"{text}{line}\n\n{line}\n{mot([(7, 6)])}")
    with pytest.raises(InputError, match=r"det.txt, line 13: "):
        read_detections(path, video())
    found = read_detections(path, video(), skip_bad_rows=True)
    check(found, {i + 1: i for i in range(7)})
    assert "2 rows skipped, the first is line 13: " in found.notes[-1]


def test_nothing_but_bad_rows(tmp_path):
    path = written(tmp_path / "det.txt", "1,-1,1,1,0,5,.9\n2,-1,1,1,0,5,.9\n")
    with pytest.raises(InputError, match="none of its 2 rows makes sense"):
        read_detections(path, video(), skip_bad_rows=True)
    named = json.dumps([{"frame": 1, "x1": 1, "y1": 1, "x2": 9, "y2": 9}, {"frame": 1, "x1": None}])
    found = read_detections(written(tmp_path / "d.json", named), video(), skip_bad_rows=True)
    assert len(found) == 1
    assert "1 row skipped" in found.notes[-1]


def test_scores_in_per_cent_are_refused():
    with pytest.raises(InputError, match=r"scores must be probabilities, 0..1, got 95.27: percent: divide by 100"):
        file_boxes(str(CASES / "scores-in-per-cent" / "det.txt"), video())
