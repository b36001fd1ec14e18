"""Which picture a row of a file belongs to: each file that went wrong for a user, a second one of its kind, refusals.

The pictures of ``cases/files`` are 192x144. Picture i, from 0, has things at x = 10 + 3i and x = 150 - 2i.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import supervision as sv

from masa_track.cli.eval import early_tracks
from masa_track.contracts import Frame, FrameResult
from masa_track.errors import InputError
from masa_track.evaluation.metrics import measure
from masa_track.evaluation.pairs import parse_sequences
from masa_track.formats.detection_file import DetectionFile
from masa_track.formats.detections import read_detections
from masa_track.formats.joining import Numbering, join_classes, match_names, numbers_in
from masa_track.runs.store import RunInfo, create_store

CASES = Path(__file__).parent / "cases" / "files"


def video(length: int = 20, names: Sequence[str] = (), size: tuple[int, int] = (192, 144)) -> Any:
    last = len(names) if names else None
    return SimpleNamespace(
        name="video", width=size[0], height=size[1], length=last or length, last_number=last, file_names=list(names)
    )


def files(numbers: Sequence[int], pattern: str = "{:06d}.jpg") -> list[str]:
    return [pattern.format(number) for number in numbers]


def things(picture: int) -> list[list[float]]:
    return [[10 + 3 * picture, 60, 40 + 3 * picture, 100], [150 - 2 * picture, 110, 180 - 2 * picture, 134]]


def check(found: DetectionFile, pictures: dict[int, int]) -> None:
    """The frames with boxes are those of ``pictures``, and each has the things of its picture."""
    assert set(found.frames.tolist()) == set(pictures)
    for frame, picture in pictures.items():
        assert found.at(frame).xyxy.tolist() == things(picture), f"frame {frame}"


def written(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def coco(images: Sequence[dict[str, Any]], pictures: Sequence[int], scale: float = 1) -> dict[str, Any]:
    rows = []
    for i, picture in enumerate(pictures):
        for x1, y1, x2, y2 in things(picture):
            box = [scale * x1, scale * y1, scale * (x2 - x1), scale * (y2 - y1)]
            rows.append({"id": len(rows) + 1, "image_id": i + 1, "category_id": 1, "bbox": box, "score": 0.9})
    listed = [{"id": i, **image} for i, image in enumerate(images, 1)]
    return {"images": listed, "annotations": rows, "categories": [{"id": 1, "name": "thing"}]}


def mot(rows: Sequence[tuple[int, int]], separator: str = ",") -> str:
    """Lines of (frame, picture)."""
    lines = []
    for frame, picture in rows:
        for x1, y1, x2, y2 in things(picture):
            lines.append(separator.join(map(str, [frame, -1, x1 + 1, y1 + 1, x2 - x1, y2 - y1, 0.9, -1, -1, -1])))
    return "\n".join(lines) + "\n"


# By names


def test_images_in_another_order(tmp_path):
    case = CASES / "coco-images-in-another-order" / "det.json"
    pictures = {i + 1: i for i in range(20)}
    check(read_detections(case, video()), pictures)
    shuffled = np.random.default_rng(3).permutation(20).tolist()
    images = [{"file_name": f"clip/img_{i:03d}.png"} for i in shuffled]
    found = read_detections(written(tmp_path / "d.json", coco(images, shuffled)), video())
    check(found, pictures)
    assert any("count from 0" in note for note in found.notes), "0 is there: the numbers count from 0"


def test_images_since_deleted_are_left_out_and_counted(tmp_path):
    case = CASES / "coco-json-with-images-since-deleted" / "det.json"
    found = read_detections(case, video(names=files(range(6, 21))))
    check(found, {i - 5: i - 1 for i in range(6, 16)})
    assert "5 of its 20 images are not in the source" in " ".join(found.notes)
    kept = [2, 3, 7, 9]
    content = coco([{"file_name": f"{i:06d}.png"} for i in range(12)], range(12))
    found = read_detections(written(tmp_path / "d.json", content), video(names=files(kept, "a_{:06d}.jpg")))
    check(found, dict(enumerate(kept, 1)))


@pytest.mark.parametrize(
    "pattern",
    ["{:06d}.png", "{:06d}.JPG", "data/train/{:06d}.jpg", "C:\\data\\{:06d}.jpg", "{:06d}_jpg.rf.0f{:030d}.jpg"],
)
def test_names_fit_by_stem(tmp_path, pattern):
    numbers = [14, 11, 12]
    content = coco([{"file_name": pattern.format(i, i)} for i in numbers], [i - 11 for i in numbers])
    found = read_detections(written(tmp_path / "d.json", content), video(names=files(range(11, 15))))
    check(found, {i - 10: i - 11 for i in numbers})


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("b/fu\u0308r {}.jpg", "für {}.png"),  # accents in two forms
        ("my%20clip_{}.jpg", "my clip_{}.jpg"),
        ("IMG_{}.JPG", "img_{}.png"),
    ],
)
def test_names_that_are_written_in_another_way(tmp_path, ours, theirs):
    letters = "abcdefgh"  # no numbers that could join them
    images = [{"file_name": ours.format(letters[i])} for i in (2, 0, 5)]
    path = written(tmp_path / "d.json", coco(images, (2, 0, 5)))
    check(read_detections(path, video(names=[theirs.format(one) for one in letters])), {3: 2, 1: 0, 6: 5})


def test_the_number_is_not_in_what_roboflow_adds(tmp_path):
    names = [f"video_mp4-{i + 1:04d}_jpg.rf.{i * 7919 % 97:04d}c0ffee{20 - i}.jpg" for i in range(8)]
    path = written(tmp_path / "d.json", coco([{"file_name": name} for name in names], range(8)))
    check(read_detections(path, video()), {i + 1: i for i in range(8)})


def test_sizes_of_images_as_text(tmp_path):
    images = [{"file_name": f"{i:06d}.jpg", "width": "96", "height": "72"} for i in range(1, 4)]
    path = written(tmp_path / "d.json", coco(images, range(3), scale=0.5))
    found = read_detections(path, video())
    check(found, {i + 1: i for i in range(3)})
    assert "boxes are scaled by 2 and 2" in found.notes[-1]


def test_the_video_of_a_file_by_its_name_in_another_case(tmp_path):
    content = coco(
        [{"file_name": f"{i:03d}.jpg", "video_id": 1 + i // 3, "frame_id": i % 3} for i in range(6)], range(6)
    )
    for name in ("train/Video.mp4", "VIDEO"):
        videos = [{"id": 1, "name": "other"}, {"id": 2, "name": name}]
        path = written(tmp_path / "d.json", {**content, "videos": videos})
        check(read_detections(path, video(names=files(range(3, 6), "{:03d}.jpg"))), {1: 3, 2: 4, 3: 5})


def test_images_of_half_size_are_scaled(tmp_path):
    case = CASES / "coco-images-of-half-size" / "det.json"
    found = read_detections(case, video(names=files(range(1, 13))))
    check(found, {i + 1: i for i in range(12)})
    assert "96x72" in found.notes[-1]
    assert "192x144" in found.notes[-1]
    images = [{"file_name": name, "width": 384, "height": 288} for name in files(range(1, 4))]
    content = coco(images, range(3), scale=2)
    content["annotations"][0]["segmentation"] = [[20, 120, 80, 120, 80, 200]]
    found = read_detections(written(tmp_path / "d.json", content), video(names=files(range(1, 4))))
    check(found, {i + 1: i for i in range(3)})
    assert found.masks_at(1)[0] == [[10, 60, 40, 60, 40, 100]], "polygons are scaled, too"
    for image in content["images"]:
        image |= {"width": 144, "height": 192}
    with pytest.raises(InputError, match="it is 144x192, and the video 192x144: one of them is turned"):
        read_detections(written(tmp_path / "d.json", content), video(names=files(range(1, 4))))


# By numbers


def test_frame_ids_from_1(tmp_path):
    pictures = {i + 1: i for i in range(20)}
    found = read_detections(CASES / "cocovid-frame-id-from-1" / "det.json", video())
    check(found, pictures)
    assert "count from 1" in found.notes[0]
    content = coco([{"frame_index": i + 1} for i in range(20)], range(20))
    check(read_detections(written(tmp_path / "d.json", content), video()), pictures)
    content = coco([{"frame_id": i, "file_name": f"{i + 1:06d}.jpg"} for i in range(4, 9)], range(4, 9))
    check(read_detections(written(tmp_path / "d.json", content), video()), {i + 1: i for i in range(4, 9)})


def test_only_annotated_frames(tmp_path):
    found = read_detections(CASES / "cvat-coco-only-annotated-frames" / "det.json", video(40))
    check(found, {1: 0, 11: 10, 21: 20, 31: 30})
    content = coco([{"file_name": f"frame_{i:06d}.PNG"} for i in (7, 12)], (7, 12))
    check(read_detections(written(tmp_path / "d.json", content), video()), {8: 7, 13: 12})
    content = coco([{"file_name": f"shot{i:04d}.jpg"} for i in (7, 12)], (7, 12))
    path = written(tmp_path / "d.json", content)
    with pytest.raises(InputError, match=r"image 1 is frame 7 of video if .* count from 1, and frame 8 if .*from 0"):
        read_detections(path, video())
    check(read_detections(path, video(), Numbering(base=0)), {8: 7, 13: 12})
    check(read_detections(path, video(12)), {7: 7, 12: 12})  # the 13th frame is not there


def test_the_second_half_of_a_video_is_refused_where_names_and_frame_ids_disagree(tmp_path):
    images = [{"file_name": f"{i + 11:06d}.jpg", "frame_id": i + 1} for i in range(10)]
    path = written(tmp_path / "d.json", coco(images, range(10, 20)))
    with pytest.raises(InputError, match=r"frame 11 of video if the numbers in file names.*frame 1 if frame_id"):
        read_detections(path, video())
    check(read_detections(path, video(), Numbering(base=1)), {i + 1: i for i in range(10, 20)})
    check(read_detections(path, video(names=files(range(11, 21)))), {i + 1: i + 10 for i in range(10)})
    assert read_detections(path, video(10), Numbering(first=11)).frames.tolist()[::2] == list(range(1, 11))


def test_nothing_says_which_frames(tmp_path):
    path = written(tmp_path / "d.json", coco([{"file_name": "left"}, {"file_name": "right"}], (0, 1)))
    with pytest.raises(InputError, match="neither their names nor frame_id show which frames of video they are"):
        read_detections(path, video())
    check(read_detections(path, video(), Numbering(first=1)), {1: 0, 2: 1})
    images = [{"frame_id": 4, "file_name": "a"}, {"frame_id": 4, "file_name": "b"}]
    with pytest.raises(InputError, match="frame_id 4 occurs twice"):
        read_detections(written(tmp_path / "d.json", coco(images, (0, 1))), video())


def test_rows_and_the_numbers_of_images(tmp_path):
    late = video(names=files(range(11, 23)))
    case = CASES / "det-frames-are-file-numbers" / "det.txt"
    with pytest.raises(InputError, match=r"frame 11 is picture 1, 000011.jpg, by the number in its name, and pict"):
        read_detections(case, late)
    check(read_detections(case, late, Numbering(first=11)), {1: 0, 2: 1})
    path = written(tmp_path / "det.txt", mot([(i, i - 11) for i in range(11, 23)]))
    check(read_detections(path, late), {i - 10: i - 11 for i in range(11, 23)})
    path = written(tmp_path / "det.txt", mot([(i, i - 1) for i in range(1, 11)]))
    check(read_detections(path, late), {i: i - 1 for i in range(1, 11)})
    check(read_detections(path, late, Numbering(first=1)), {i: i - 1 for i in range(1, 11)})


@pytest.mark.parametrize(
    "kind", ["images-missing-in-the-middle/det.txt", "results-json-image-id-is-the-file-number/det.json"]
)
def test_images_missing_in_the_middle(kind):
    numbers = [1, 2, 3, 4, *range(7, 15)]
    source = video(names=files(numbers))
    with pytest.raises(InputError, match=r"frame 5 is no picture by the number in its name, and picture 5, 000007.jpg"):
        read_detections(CASES / kind, source)
    found = read_detections(CASES / kind, source, Numbering(first=1))
    check(found, {place: number - 1 for place, number in enumerate(numbers, 1) if number <= 12})
    assert "4 of its 24" in found.notes[0]


def test_a_gap_is_seen_where_rows_go_beyond_the_pictures(tmp_path):
    numbers = [1, 2, 5, 6]
    path = written(tmp_path / "det.txt", mot([(i, i - 1) for i in range(1, 7)]))
    found = read_detections(path, video(names=files(numbers)))
    check(found, {1: 0, 2: 1, 3: 4, 4: 5})
    assert "are those in the names" in found.notes[0]


def test_npz_names_and_numbers(tmp_path):
    boxes = np.array([box for i in range(3) for box in things(i)], np.float64)
    path = tmp_path / "d.npz"
    np.savez(path, boxes=boxes, frames=[1, 1, 2, 2, 3, 3], file_names=["x/12.png", "x/11.png", "x/13.png"])
    found = read_detections(path, video(names=files(range(10, 14))))
    check(found, {3: 0, 2: 1, 4: 2})
    np.savez(path, boxes=boxes, frames=[0, 0, 1, 1, 2, 2])
    with pytest.raises(InputError, match="give --frame-base 0"):
        read_detections(path, video())
    check(read_detections(path, video(), Numbering(base=0)), {1: 0, 2: 1, 3: 2})


def test_options_are_checked(tmp_path):
    with pytest.raises(InputError, match="--frame-base must be 0 or 1, got 2"):
        Numbering(base=2)
    with pytest.raises(InputError, match="exclude each other"):
        Numbering(first=1, base=0)
    with pytest.raises(InputError, match="--first-frame must be a frame number, 0 or more, got -1"):
        Numbering(first=-1)
    path = written(tmp_path / "det.txt", mot([(1, 0)]))
    with pytest.raises(InputError, match="with --first-frame 5 none of its"):
        read_detections(path, video(), Numbering(first=5))


def results(pictures: dict[Any, int], key: str = "image_id") -> list[dict[str, Any]]:
    """A bare list of results, by what stands for the image."""
    return [
        {key: image, "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": 0.5}
        for image, picture in pictures.items()
        for x1, y1, x2, y2 in things(picture)
    ]


def test_results_with_names_of_images(tmp_path):
    path = tmp_path / "d.json"
    names = files(range(11, 15))
    for pattern, key in (("{:06d}", "image_id"), ("data/{:06d}.png", "image_id"), ("{:06d}.jpg", "file_name")):
        content = results({pattern.format(i): i - 11 for i in (12, 14, 11)}, key)
        check(read_detections(written(path, content), video(names=names)), {2: 1, 4: 3, 1: 0})
    content = results({f"frame_{i:05d}": i for i in range(8)})
    check(read_detections(written(path, content), video()), {i + 1: i for i in range(8)})
    content = results({f"{i:06d}": i for i in range(8)})
    check(read_detections(written(path, content), video()), {i + 1: i for i in range(8)})


def test_results_that_begin_late_are_ambiguous(tmp_path):
    path = written(tmp_path / "d.json", results({i: i for i in range(3, 15)}))
    with pytest.raises(InputError, match=r"first frame number, 3, is frame 3 of video if .* 1, and frame 4 if .* 0"):
        read_detections(path, video())
    check(read_detections(path, video(), Numbering(base=0)), {i + 1: i for i in range(3, 15)})
    check(read_detections(path, video(14)), {i: i for i in range(3, 15)})  # there is no frame 15


# Truth and tracks


@pytest.mark.parametrize("kind", ["eval-second-half", "eval-truth-lists-some-frames", "eval-category-ids-differ"])
def test_perfect_tracks_score_1(kind):
    scores = measure(CASES / kind / "gt.json", CASES / kind / "tracks.json", ["hota", "clear", "teta"])
    assert scores.evaluation.combined.hota == pytest.approx(1)
    assert scores.evaluation.combined.mota == 1
    assert scores.teta.overall.teta == pytest.approx(1)
    assert scores.teta.overall.cls_a == 1


def coco_vid(images: Sequence[dict[str, Any]], pictures: Sequence[int], names: dict[int, str]) -> dict[str, Any]:
    content = coco(images, pictures)
    classes = list(names)
    for image in content["images"]:
        image["video_id"] = 1
    for entry in content["annotations"]:
        thing = int(entry["bbox"][1] == 110)
        entry |= {"track_id": thing + 1, "category_id": classes[thing % len(classes)]}
    categories = [{"id": number, "name": name} for number, name in names.items()]
    return {**content, "videos": [{"id": 1, "name": "v"}], "categories": categories}


@pytest.mark.parametrize(
    ("truth", "tracks"),
    [
        # other suffixes and folders; a part of the frames on either side
        ([{"file_name": f"gt/{i:06d}.png", "frame_id": i // 3} for i in (0, 3, 6)], None),
        # no name fits: numbers in names
        ([{"file_name": f"img{i:05d}.jpg"} for i in (2, 4, 7)], "other {:06d}.jpg"),
        # frame_id alone, from 1 and from 0
        ([{"frame_id": i + 1} for i in (0, 4, 7)], ""),
        # and in another order
        ([{"frame_index": i} for i in (7, 0, 4)], ""),
    ],
)
def test_truth_that_lists_some_frames(tmp_path, truth, tracks):
    numbers = [
        int(re.findall(r"\d+", image["file_name"])[-1])
        if "file_name" in image
        else image.get("frame_index", image.get("frame_id", 1) - 1)
        for image in truth
    ]
    gt = written(tmp_path / "gt.json", coco_vid(truth, numbers, {1: "car", 2: "bus"}))
    pattern = "{:06d}.jpg" if tracks is None else tracks
    images = [{**({"file_name": pattern.format(i)} if pattern else {}), "frame_id": i} for i in range(12)]
    found = written(tmp_path / "tracks.json", coco_vid(images, range(12), {0: "Bus ", 7: "car"}))
    content = json.loads(found.read_text())
    for entry in content["annotations"]:
        entry["category_id"] = 7 - entry["category_id"]
    scores = measure(gt, written(found, content), ["hota", "teta"])
    assert scores.evaluation.combined.hota == pytest.approx(1)
    assert scores.evaluation.combined.frames == 3
    assert scores.teta.overall.cls_a == 1


def run_of_a_video(count: int) -> dict[str, Any]:
    """Tracks of a run on a video: names that our source gives its frames."""
    images = [{"file_name": f"{i + 1:06d}.jpg", "frame_id": i} for i in range(count)]
    return coco_vid(images, range(count), {1: "car", 2: "bus"})


@pytest.mark.parametrize(
    ("pattern", "base", "key"),
    [
        ("img_{:04d}.jpg", 0, None),
        ("img_{:04d}.jpg", 0, "frame_id"),
        ("f{}.png", 1, None),
        ("f{}.png", 1, "frame_index"),
    ],
)
@pytest.mark.parametrize("pictures", [range(12), range(0, 12, 2)])
def test_truth_of_images_and_a_run_on_their_video(tmp_path, pattern, base, key, pictures):
    images = [{"file_name": pattern.format(i + base), **({key: i} if key else {})} for i in pictures]
    gt = written(tmp_path / "gt.json", coco_vid(images, pictures, {1: "car", 2: "bus"}))
    scores = measure(gt, written(tmp_path / "t.json", run_of_a_video(12)))
    assert scores.evaluation.combined.hota == pytest.approx(1)
    assert scores.evaluation.combined.frames == len(pictures)


def test_truth_that_begins_late_and_a_run_on_the_video(tmp_path):
    images = [{"file_name": f"img_{i:04d}.jpg"} for i in (4, 6, 8)]
    gt = written(tmp_path / "gt.json", coco_vid(images, (4, 6, 8), {1: "car", 2: "bus"}))
    tracks = written(tmp_path / "t.json", run_of_a_video(12))
    with pytest.raises(InputError, match=r"'img_0004.jpg' of GT is frame 4 .* and frame 5 if .*--frame-base 0 or 1"):
        measure(gt, tracks)
    for numbering in (Numbering(base=0), Numbering(first=0)):
        assert measure(gt, tracks, numbering=numbering).evaluation.combined.hota == pytest.approx(1)
    assert measure(gt, tracks, numbering=Numbering(base=1)).evaluation.combined.hota < 0.9
    assert measure(gt, written(tmp_path / "t.json", run_of_a_video(8))).evaluation.combined.hota < 0.9, (
        "frame 9 is not there"
    )


def test_tracks_on_images_of_another_size(tmp_path):
    content = run_of_a_video(6)
    for image in content["images"]:
        image |= {"width": 192, "height": 144}
    gt = written(tmp_path / "gt.json", content)
    half = json.loads(gt.read_text())
    for image in half["images"]:
        image |= {"width": 96, "height": 72}
    for entry in half["annotations"]:
        entry["bbox"] = [side / 2 for side in entry["bbox"]]
    scores = measure(gt, written(tmp_path / "t.json", half))
    assert scores.evaluation.combined.hota == pytest.approx(1)
    assert "6 images of" in scores.notes[0]
    assert "boxes are scaled, e.g. by 2 and 2" in scores.notes[0]
    for image in half["images"]:
        image |= {"width": 144, "height": 192}
    with pytest.raises(InputError, match="one of them is turned"):
        measure(gt, written(tmp_path / "t.json", half))


def test_files_that_cannot_be_joined(tmp_path):
    gt = coco_vid([{"file_name": f"a{i:03d}.jpg", "frame_id": i - 5} for i in (5, 6, 7)], (5, 6, 7), {1: "car"})
    tracks = coco_vid([{"file_name": f"b{i:03d}.jpg", "frame_id": i} for i in range(9)], range(9), {1: "car"})
    with pytest.raises(InputError, match="the numbers in file names and frame_id assign its images to different"):
        measure(written(tmp_path / "gt.json", gt), written(tmp_path / "t.json", tracks))


def test_classes_are_joined_by_name():
    assert join_classes({1: "car", 2: "bus"}, {0: " Car", 1: "dog", 2: "bus"}) == {0: 1, 1: 3, 2: 2}
    assert join_classes({3: "Traffic light"}, {0: "traffic_light"}) == {0: 3}
    assert join_classes({1: "car"}, {1: "class 1"}) == {}, "no name is shared: ids are the same"


def test_parts_of_names():
    assert match_names(["b/2.jpg", "b/9.jpg"], ["1.jpg", "2.png"]) == [1, None]
    assert match_names(["cam1/1.jpg", "cam2/1.jpg"], ["cam2/1.jpg", "cam1/1.jpg"]) == [1, 0]
    assert match_names(["frame", "frame"], ["frame", "b"]) is None
    assert numbers_in(["MOT17-02_001_1080p.jpg", "MOT17-02_002_1080p.jpg"]) == [1, 2]
    assert numbers_in(["a", "b1"]) is None


def run_on_images(folder: Path, numbers: Sequence[int]) -> Path:
    """What ``track`` leaves of a run on images of these numbers: tracks.txt by places, and the names in the record."""
    folder.mkdir()
    lines = []
    with create_store(folder / "run.sqlite", RunInfo("/x", "x", (192, 144), 25.0, {})) as store:
        for place, number in enumerate(numbers, 1):
            frame = Frame(place, place / 25, (192, 144), f"{number:06d}.jpg")
            store.append(None, FrameResult(frame, sv.Detections.empty()))
            for thing, (x1, y1, x2, y2) in enumerate(things(number)):
                lines.append(f"{place},{thing},{x1 + 1},{y1 + 1},{x2 - x1},{y2 - y1},1,-1,-1,-1\n")
    written(folder / "tracks.txt", "".join(lines))
    return folder


def truth_of(frames: dict[int, int]) -> str:
    return "".join(
        f"{frame},{thing + 1},{x1 + 1},{y1 + 1},{x2 - x1},{y2 - y1},1,-1,-1,-1\n"
        for frame, picture in frames.items()
        for thing, (x1, y1, x2, y2) in enumerate(things(picture))
    )


def test_text_with_a_header_is_scored(tmp_path):
    rows = truth_of({i + 1: i for i in range(6)})
    for header in ("frame,id,bb_left,bb_top,bb_width,bb_height,conf,x,y,z", 'Frame;"Id";X;Y;W;H'):
        gt = written(tmp_path / "gt.txt", f"\n{header}\r\n{rows}")
        assert measure(gt, written(tmp_path / "t.txt", f"{header}\n{rows}")).evaluation.combined.mota == 1
    with pytest.raises(InputError, match="line 1: frame must be a number, got 'frame'"):
        measure(gt, written(tmp_path / "t.txt", f"frame,id,x1,y1,x2,y2\n{rows}"))


def test_tracks_before_the_truth_are_counted(tmp_path):
    gt = written(tmp_path / "gt.txt", truth_of({i + 1: i for i in range(6, 12)}))
    tracks = written(tmp_path / "t.txt", truth_of({i + 1: i for i in range(12)}))
    assert measure(gt, tracks).boxes_before == {tmp_path.name: 12}
    assert measure(gt, gt).boxes_before == {tmp_path.name: 0}
    assert early_tracks({"a": 1200, "b": 0})[0].startswith("note: 1,200 boxes of a are before GT's first frame")


@pytest.mark.parametrize(
    "text",
    ["name\nA\nB 1\n", "Name\r\nA,6\r\n\r\nB 1\r\n", "\ufeff# mine\nA empty 000000 000154\nB 1\n", '"A"\n"B 1"\n'],
)
def test_seqmaps(tmp_path, text):
    assert parse_sequences(str(written(tmp_path / "seqmap.txt", text))) == ["A", "B 1"]


def test_a_run_on_images_that_begin_at_11_is_scored_by_their_names(tmp_path):
    run = run_on_images(tmp_path / "run", range(11, 23))
    gt = written(tmp_path / "gt.txt", truth_of({number: number for number in range(11, 23)}))
    assert measure(gt, run).evaluation.combined.mota == 1
    gt = written(tmp_path / "gt.txt", truth_of({place: place + 10 for place in range(1, 13)}))
    assert measure(gt, run).evaluation.combined.mota == 1, "and by place, where the truth counts places"


def test_a_run_on_images_with_a_gap_is_refused_where_both_fit(tmp_path):
    numbers = [1, 2, 3, 4, *range(7, 15)]
    run = run_on_images(tmp_path / "run", numbers)
    gt = written(tmp_path / "gt.txt", truth_of({number: number for number in numbers if number <= 12}))
    with pytest.raises(InputError, match=r"picture 5 of the run is 000007.jpg, .*--first-frame 1 .*--frame-base 1"):
        measure(gt, run)
    assert measure(gt, run, numbering=Numbering(first=1)).evaluation.combined.loc_a > 0.999
    assert measure(gt, run, numbering=Numbering(base=1)).evaluation.combined.loc_a < 0.95
    gt = written(tmp_path / "gt.txt", truth_of({number: number for number in numbers}))
    assert measure(gt, run).evaluation.combined.mota == 1, "there is no place 14"
