"""Readers of boxes, each on a file as its tool writes it; rows that make no sense; other separators and classes."""

from __future__ import annotations

import json
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
