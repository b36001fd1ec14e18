"""Detections from files: what they become, and what is refused with the line that is wrong."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest

from masa_track.errors import InputError
from masa_track.formats.detections import read_detections
from masa_track.video.sources import open_source


def video(width=640, height=480, length=None, last_number=None, file_names=(), name="clip"):
    return SimpleNamespace(
        name=name, width=width, height=height, length=length, last_number=last_number, file_names=file_names
    )


@pytest.fixture
def written(tmp_path):
    def write(content):
        path = tmp_path / "det"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def test_mot_boxes_become_zero_based_xyxy(written):
    path = written("3,-1,11,21,30,40,0.5,-1,-1,-1\r\n\r\n1,-1,1,1,5.5,6,-1,-1,-1,-1\r\n3,-1,2,2,3,3,95.25,-1,-1,-1\r\n")
    found = read_detections(path, video())
    assert len(found) == 3
    third = found.at(3)
    assert third.xyxy.tolist() == [[10, 20, 40, 60], [1, 1, 4, 4]]
    assert third.confidence.tolist() == [0.5, 95.25], "scores as given, in the order of the file"
    assert third.class_id.tolist() == [0, 0]
    assert (third.xyxy.dtype, third.confidence.dtype, third.class_id.dtype.kind) == (np.float32, np.float32, "i")
    assert found.at(1).xyxy.tolist() == [[0, 0, 5.5, 6]]
    assert found.at(1).confidence.tolist() == [1], "-1 says: not given"
    for number in (0, 2, 4, 10**9):
        empty = found.at(number)
        assert len(empty) == 0
        assert empty.xyxy.shape == (0, 4)
    assert found.class_names == {}


def test_at_gives_copies(written):
    found = read_detections(written("1,-1,1,1,5,5,1"), video())
    found.at(1).xyxy[:] = 99
    assert found.at(1).xyxy.tolist() == [[0, 0, 5, 5]]


def test_rows_of_a_frame_keep_their_order(written):
    rows = [f"{2 - i % 2},-1,{i},1,5,5,1" for i in range(1, 201)]
    found = read_detections(written("\n".join(rows)), video())
    assert found.at(1).xyxy[:, 0].tolist() == list(range(0, 200, 2))


def test_negative_scores_are_scores(written):
    found = read_detections(written("1,-1,1,1,5,5,-0.75\n1,-1,1,1,5,5,-1\n1,-1,1,1,5,5,0\n"), video())
    assert found.at(1).confidence.tolist() == [-0.75, 1, 0]


def test_ignored_rows_of_truth_are_dropped(written):
    found = read_detections(written("1,1,1,1,5,5,1,1,1\n1,2,9,9,5,5,0,7,1\n2,1,1,1,5,5,-1,3,.5\n"), video())
    assert len(found) == 2
    assert found.at(1).xyxy.tolist() == [[0, 0, 5, 5]]
    assert found.at(2).confidence.tolist() == [1]
    assert [found.at(n).class_id.tolist() for n in (1, 2)] == [[1], [3]]
    with pytest.raises(InputError, match=r"det holds no detections: confidence is 0.* all 1 lines"):
        read_detections(written("1,2,9,9,5,5,0,7,1\n"), video())


@pytest.mark.parametrize("eighth", ["-1", "-4.1554", "2.5"])
def test_the_eighth_column_is_a_class_only_if_all_are(written, eighth):
    found = read_detections(written(f"1,9,1,1,5,5,1,3,0,0\n1,8,1,1,5,5,1,{eighth},0,0\n"), video())
    assert found.at(1).class_id.tolist() == [0, 0]


def test_lines_may_differ_in_length(written):
    found = read_detections(written("1,-1,1,1,5,5\n2,-1,1,1,5,5,.5,-1,-1,-1,\n"), video())
    assert [found.at(n).confidence.tolist() for n in (1, 2)] == [[1], [1]]
    found = read_detections(written("1,-1,1,1,5,5,.25\n2,-1,1,1,5,5,.5,-1,-1,-1\n"), video())
    assert [found.at(n).confidence.tolist() for n in (1, 2)] == [[0.25], [0.5]]


GOOD = "1,-1,1,1,5,5,1\n\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "det is empty"),
        (" \n\n", "det is empty"),
        (b"\x89PNG\r\n\x1a\n\x00\xff", "det is not text"),
        (b"1,2,3\x004", "det is not text"),
        (GOOD + "frame,id,x\n", "det, line 3: 3 columns"),
        (GOOD + "a,b,c,d,e,f,g\n", "det, line 3: not numbers: 'a,b,c,d,e,f,g'"),
        ("1 -1 1 1 5\n", "det, line 1: 5 columns"),
        ("1,2,3\n4,5,6\n", "det, line 1: 3 columns"),
        (GOOD + "1,-1,nan,1,5,5,1\n", "det, line 3: holds NaN"),
        (GOOD + "1,-1,1,1,5,inf,1\n", "det, line 3: holds NaN or an infinite number"),
        (GOOD + "1,-1,1,1,5,5,nan\n", "det, line 3: holds NaN"),
        (GOOD + "1,-1,50,50,-5,5,1\n", "det, line 3: width and height must be above 0, got -5 x 5"),
        (GOOD + "1,-1,50,50,5,0,1\n", "det, line 3: width and height must be above 0, got 5 x 0"),
        (GOOD + "0,-1,1,1,5,5,1\n", "det, line 3: frames are whole numbers from 1, got 0"),
        (GOOD + "1.5,-1,1,1,5,5,1\n", "det, line 3: frames are whole numbers from 1, got 1.5"),
        (GOOD + "-2,-1,1,1,5,5,1\n", "det, line 3: frames are whole numbers from 1, got -2"),
        ('{"images": [', "det is not whole json"),
        ("[" * 100_000, "det is not whole json"),
        ([], "det holds no detections"),
        ({}, "its annotations must be a list, got NoneType"),
        ([3], "[0] must be an object, got 3"),
        ([{"bbox": [1, 1, 2, 2]}], "det, result [0]: image_id must be a whole number, got None"),
        ([{"image_id": 1, "bbox": [1, 1, 2]}], "det, result [0]: bbox must be four numbers"),
        ([{"image_id": 1, "bbox": [1, 1, 2, "2"]}], "det, result [0]: bbox must be four numbers"),
        ([{"image_id": 1, "bbox": [1, 1, 2, 2], "score": "high"}], "det, result [0]: score must be a number"),
        (
            [{"image_id": 1, "bbox": [1, 1, 2, 2], "category_id": "cat"}],
            "category_id must be a whole number, got 'cat'",
        ),
        ([{"image_id": 1, "bbox": [1, 1, 0, 2]}], "det, result [0]: width and height must be above 0"),
        ([{"image_id": 1, "bbox": [1, 1, float("nan"), 2]}], "det, result [0]: holds NaN"),
        ([{"image_id": float("nan"), "bbox": [1, 1, 2, 2]}], "image_id must be a whole number"),
        (
            {"images": [{"id": 7, "frame_id": 0}], "annotations": [{"image_id": 8}]},
            "annotations[0]: image_id 8 is not among its images",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(written, content, message):
    with pytest.raises(InputError, match=re.escape(message)):
        read_detections(written(content), video())


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "nowhere.txt", tmp_path):
        with pytest.raises(InputError, match=f"detections '{path}' cannot be read"):
            read_detections(path, video())


def test_frames_of_another_video_are_refused(written):
    late = written("".join(f"{frame},-1,1,1,5,5,1\n" for frame in range(900, 1000)))
    for known in (video(length=71), video(length=71, last_number=71)):
        with pytest.raises(InputError, match=re.escape("its frames run 900..999, the video has 71")):
            read_detections(late, known)
    assert len(read_detections(late, video())) == 100, "a live source has no length"
    some = written("71,-1,1,1,5,5,1\n72,-1,1,1,5,5,1\n")
    assert len(read_detections(some, video(length=71))) == 2, "a video's length is a hint"
    with pytest.raises(InputError, match="det, line 2: frame 72, but the video has 71"):
        read_detections(some, video(length=71, last_number=71))


def test_boxes_of_another_size_are_refused(written):
    rng = np.random.default_rng(0)
    corner = rng.uniform(1, (1700, 900), (400, 2))
    path = written("".join(f"1,-1,{x:.1f},{y:.1f},200,150,1\n" for x, y in corner))
    assert len(read_detections(path, video(1920, 1080))) == 400
    for scale in (1.25, 1.5, 3):
        with pytest.raises(InputError, match=r"line \d+: boxes reach [xy]=\d+.*were they made on another size"):
            read_detections(path, video(int(1920 / scale), int(1080 / scale)))
    with pytest.raises(InputError, match="boxes reach x=1900, but the video is 640 wide"):
        read_detections(written("1,-1,1701,1,200,5,1\n"), video())
    with pytest.raises(InputError, match="are they fractions of the picture"):
        read_detections(written("1,-1,1.2,1.3,.2,.5,1\n"), video())


def test_boxes_partly_outside_are_normal_and_one_wholly_outside_is_no_reason(written):
    rows = ["1,-1,-30,-20,100,100,1", "1,-1,600,400,200,200,1", "1,-1,-50,1,20,20,1"]
    found = read_detections(written("\n".join(rows)), video())
    assert found.at(1).xyxy[0].tolist() == [-31, -21, 69, 79], "not clipped"
    with pytest.raises(InputError, match=re.escape("line 3: 2 of 4 boxes lie outside the picture, 640x480")):
        read_detections(written("\n".join([*rows, "1,-1,-50,1,20,20,1"])), video())


# COCO


def test_coco_results(written):
    results = [
        {"image_id": 2, "category_id": 5, "bbox": [10, 20, 30, 40], "score": 0.5},
        {"image_id": 1, "category_id": 0, "bbox": [1, 2, 3, 4.5]},
        {"image_id": 2, "category_id": 6, "bbox": [0, 0, 3, 4], "score": -1},
    ]
    found = read_detections(written(results), video())
    assert found.at(1).xyxy.tolist() == [[1, 2, 4, 6.5]]
    assert found.at(1).confidence.tolist() == [1]
    assert found.at(2).xyxy.tolist() == [[10, 20, 40, 60], [0, 0, 3, 4]]
    assert found.at(2).class_id.tolist() == [5, 6]
    assert found.at(2).confidence.tolist() == [0.5, 1]
    results[1]["image_id"] = 0
    found = read_detections(written(results), video())
    assert [len(found.at(n)) for n in (1, 2, 3)] == [1, 0, 2], "a 0 says that image ids count from 0"
    results = [{"image_id": name, "bbox": [1, 2, 3, 4]} for name in ("b.jpg", "c")]
    found = read_detections(written(results), video(file_names=["a.jpg", "b.jpg", "c.jpg"]))
    assert [len(found.at(n)) for n in (1, 2, 3)] == [0, 1, 1]


def coco(images, **more):
    return {
        "images": images,
        "annotations": [{"image_id": i["id"], "category_id": 3, "bbox": [i["id"], 0, 5, 5]} for i in images],
        "categories": [{"id": 3, "name": "car"}],
        **more,
    }


def lefts(found, numbers=(1, 2, 3)):
    return [found.at(number).xyxy[:, 0].tolist() for number in numbers]


def test_coco_images_find_their_frames(written):
    names = ["a.jpg", "b.jpg", "c.jpg"]
    by_name = [
        {"id": 10, "file_name": "clip/c.jpg", "frame_id": 0},
        {"id": 20, "file_name": "clip/a.jpg", "frame_id": 1},
    ]
    found = read_detections(written(coco(by_name)), video(file_names=names))
    assert lefts(found) == [[20], [], [10]], "the name counts where the video is made of images"
    assert found.class_names == {3: "car"}
    assert found.at(1).class_id.tolist() == [3]
    by_frame = [{"id": 10, "file_name": "x", "frame_id": 2}, {"id": 20, "file_name": "y", "frame_id": 0}]
    assert lefts(read_detections(written(coco(by_frame)), video())) == [[20], [], [10]]
    by_order = [{"id": 10, "file_name": "x"}, {"id": 20, "file_name": "y"}]
    found = read_detections(written(coco(by_order)), video(length=2))
    assert lefts(found) == [[10], [20], []], "as many images as frames"
    assert "in the order of the file" in found.notes[0]
    for length in (None, 3):
        with pytest.raises(InputError, match="neither their names nor frame_id show which frames"):
            read_detections(written(coco(by_order)), video(length=length))
    by_frame[1]["frame_id"] = 2
    with pytest.raises(InputError, match="frame_id 2 occurs twice"):
        read_detections(written(coco(by_frame)), video())
    by_frame[1]["frame_id"] = -1
    with pytest.raises(InputError, match="image 20: frame_id must be 0 or more, got -1"):
        read_detections(written(coco(by_frame)), video())


def test_coco_of_several_videos(written):
    images = [{"id": 10 * v + f, "video_id": v, "frame_id": f} for v in (1, 2) for f in (0, 1)]
    content = coco(images, videos=[{"id": 1, "name": "left"}, {"id": 2, "name": "sub/right"}])
    assert lefts(read_detections(written(content), video(name="left"))) == [[10], [11], []]
    assert lefts(read_detections(written(content), video(name="right"))) == [[20], [21], []]
    with pytest.raises(InputError, match=r"holds 2 videos \(left, sub/right\), none called 'clip'; rename"):
        read_detections(written(content), video())


def test_coco_crowds_are_left_out(written):
    content = coco([{"id": 1, "frame_id": 0}])
    content["annotations"].append({"image_id": 1, "category_id": 3, "bbox": [9, 9, 99, 99], "iscrowd": 1})
    assert lefts(read_detections(written(content), video())) == [[1], [], []]


# Real files, big files


@pytest.mark.slow
@pytest.mark.shared_data
def test_real_files(shared):
    clips = shared / "clips"
    found = read_detections(clips / "mot15/TUD-Campus/det/det.txt", open_source(clips / "mot15/TUD-Campus"))
    assert len(found) == 321
    assert found.at(1).xyxy[0] == pytest.approx([280.931, 186.466, 360.861, 396.003], abs=1e-3)
    checked = 0
    benchmarks = [folder for name in ("mot15", "mot15_gt_only", "mot17_mini") for folder in (clips / name).iterdir()]
    for path in (
        path
        for folder in sorted(benchmarks)
        for path in (folder / "gt/gt.txt", folder / "det/det.txt")
        if path.is_file()
    ):
        folder = path.parents[1]
        info = dict(re.findall(r"(\w+)\s*=\s*(\S+)", (folder / "seqinfo.ini").read_text()))
        size = int(info["imWidth"]), int(info["imHeight"])
        clip = open_source(folder) if (folder / "img1").is_dir() and any((folder / "img1").iterdir()) else video(*size)
        assert (clip.width, clip.height) == size
        found = read_detections(path, clip)
        rows = np.loadtxt(path, delimiter=",")
        if path.name == "gt.txt":
            rows = rows[rows[:, 6] != 0]
            assert set(found.scores.tolist()) == {1.0}
        assert len(found) == len(rows)
        classes = {0} if "mot15" in str(path) or path.name == "det.txt" else {1}
        assert set(found.class_ids.tolist()) == classes
        checked += 1
    assert checked >= 20


@pytest.mark.slow
def test_many_rows_are_read(written):
    rows = [f"{i // 20 + 1},-1,{i % 500}.25,{i % 300}.5,33.125,44.5,0.98,-1,-1,-1" for i in range(200_000)]
    path = written("\n".join(rows))
    found = read_detections(path, video())
    assert len(found) == 200_000
    assert len(found.at(10_000)) == 20
    rows[150_000] += ",x"
    rows[150_001] = rows[150_001].replace("33.125", "wide")
    with pytest.raises(InputError, match="line 150002: not numbers"):
        read_detections(written("\n".join(rows)), video())
