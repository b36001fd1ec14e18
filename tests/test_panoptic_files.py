"""Panoptic pictures and json: written and read back, forms of other programs, and `eval --metrics panoptic`."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from masa_track.cli.main import main
from masa_track.errors import InputError
from masa_track.formats.panoptic import (
    MOST_NUMBER,
    PanopticWriter,
    Segment,
    read_label_map,
    read_panoptic,
    read_panoptic_picture,
    write_panoptic_picture,
)

CLASSES = {0: "person", 1: "road", 2: "sky"}
ROAD, SKY = 16_000_001, 16_000_002


def a_map(shift: int = 0) -> np.ndarray:
    numbers = np.full((20, 30), SKY, np.int32)
    numbers[10:] = ROAD
    numbers[5:15, 3 + shift : 9 + shift] = 300
    numbers[0, 0] = 0
    return numbers


SEGMENTS = {300: Segment(0, identity=300), ROAD: Segment(1), SKY: Segment(2), 9: Segment(0, identity=9)}


def written(folder: Path, maps: list[np.ndarray], names: dict[int, str] = CLASSES) -> Path:
    folder.mkdir(exist_ok=True)
    writer = PanopticWriter(folder, "clip", (30, 20), names, frozenset({0}))
    for number, one in enumerate(maps, 1):
        writer.write(number, f"img_{number}.jpg", one, SEGMENTS, number / 10)
    writer.close()
    return folder


def test_numbers_of_three_bytes_come_back(tmp_path: Path) -> None:
    numbers = np.array([[0, 1, 255, 256], [65535, 65536, MOST_NUMBER, 16_000_001]], np.int32)
    write_panoptic_picture(tmp_path / "a.png", numbers)
    np.testing.assert_array_equal(read_panoptic_picture(tmp_path / "a.png"), numbers)
    pixel = np.array(Image.open(tmp_path / "a.png"))[0, 3]
    assert pixel.tolist() == [0, 1, 0]  # red is the lowest byte


def test_a_video_comes_back(tmp_path: Path) -> None:
    folder = written(tmp_path / "run", [a_map(0), a_map(2)])
    maps = read_panoptic(folder)
    assert (dict(maps.class_names), maps.things) == (CLASSES, frozenset({0}))
    (frames,) = maps.videos.values()
    assert list(maps.videos) == ["clip"]
    assert [frame.name for frame in frames] == ["img_1", "img_2"]
    np.testing.assert_array_equal(frames[1].numbers(), a_map(2))
    assert frames[0].segments == {number: SEGMENTS[number] for number in (300, ROAD, SKY)}
    info = json.loads((folder / "panoptic.json").read_text())["annotations"][0]["segments_info"]
    person = next(one for one in info if one["id"] == 300)
    assert (person["area"], person["bbox"], person["track_id"]) == (60, [3, 5, 6, 10], 300)


def test_a_second_run_replaces_the_first_and_an_abandoned_one_does_not(tmp_path: Path) -> None:
    written(tmp_path / "run", [a_map()] * 3)
    folder = written(tmp_path / "run", [a_map(1)])
    assert sorted(one.name for one in folder.iterdir()) == ["panoptic", "panoptic.json"]
    assert len(list((folder / "panoptic").iterdir())) == 1
    writer = PanopticWriter(folder, "clip", (30, 20), CLASSES, frozenset({0}))
    writer.write(1, "a.jpg", a_map(5), SEGMENTS)
    writer.abandon()
    np.testing.assert_array_equal(read_panoptic(folder).videos["clip"][0].numbers(), a_map(1))


def test_the_writer_keeps_no_frame_in_memory(tmp_path: Path) -> None:
    writer = PanopticWriter(tmp_path, "clip", (30, 20), CLASSES, frozenset({0}))
    writer.write(1, "a.jpg", a_map(), SEGMENTS)
    tracemalloc.start()
    for number in range(2, 102):
        writer.write(number, "x" * 20_000, a_map(), SEGMENTS)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    writer.close()
    assert held < 200_000  # the names alone have 2,000,000 bytes
    content = json.loads((tmp_path / "panoptic.json").read_text())
    assert [image["id"] for image in content["images"]] == list(range(1, 102))
    assert [one["image_id"] for one in content["annotations"]] == list(range(1, 102))


def test_forms_of_other_data_sets(tmp_path: Path) -> None:
    """COCO: pictures without videos. VIPSeg: an entry a video, with folders of pictures."""
    categories = [{"id": 5, "name": "dog", "isthing": 1}, {"id": 6, "name": "sea", "isthing": 0}]
    info = [{"id": 3, "category_id": 5, "iscrowd": 1}, {"id": 4, "category_id": 6}]
    numbers = np.where(np.arange(12).reshape(3, 4) < 6, 3, 4)
    for place in ("coco/1.png", "vip/v1/1.png"):
        (tmp_path / place).parent.mkdir(parents=True)
        write_panoptic_picture(tmp_path / place, numbers)
    coco = {"images": [{"id": 1, "file_name": "1.jpg"}], "categories": categories}
    coco["annotations"] = [{"image_id": 1, "file_name": "1.png", "segments_info": info}]
    (tmp_path / "coco.json").write_text(json.dumps(coco))
    inner = [{"file_name": "1.png", "segments_info": info}]
    vip = {"categories": categories, "annotations": [{"video_id": "v1", "annotations": inner}]}
    (tmp_path / "vip.json").write_text(json.dumps(vip))
    for name, video in (("coco", "1"), ("vip", "v1")):
        maps = read_panoptic(tmp_path / f"{name}.json")
        assert list(maps.videos) == [video]
        frame = maps.videos[video][0]
        np.testing.assert_array_equal(frame.numbers(), numbers)
        assert frame.segments == {3: Segment(5, True), 4: Segment(6)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("categories"), "annotations and categories"),
        (lambda c: c["annotations"][0].update(file_name="../a.png"), "file_name must be"),
        (lambda c: c["annotations"][0]["segments_info"][0].update(category_id=77), "not in categories"),
        (lambda c: c["annotations"][0]["segments_info"].pop(0), "not in the segments_info"),
        (lambda c: c.update(annotations=[]), "holds no picture"),
        (lambda c: c["annotations"][0]["segments_info"][0].update(id="x"), "id"),
    ],
)
def test_damaged_json_is_refused(tmp_path: Path, change, message: str) -> None:
    folder = written(tmp_path / "run", [a_map()])
    content = json.loads((folder / "panoptic.json").read_text())
    change(content)
    (folder / "panoptic.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        [frames[0].numbers() for frames in read_panoptic(folder).videos.values()]


def test_pictures_of_another_kind_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "grey.png")
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "rgb.png")
    with pytest.raises(InputError, match="must be an RGB picture"):
        read_panoptic_picture(tmp_path / "grey.png")
    with pytest.raises(InputError, match="class numbers"):
        read_label_map(tmp_path / "rgb.png")
    with pytest.raises(InputError, match="cannot be read"):
        read_label_map(tmp_path / "none.png")
    (tmp_path / "p.json").write_text('{"annotations": [], "categories": []}')
    with pytest.raises(InputError, match="needs its pictures"):
        read_panoptic(tmp_path / "p.json")


def test_eval_of_panoptic_maps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Other class numbers and segment numbers, one more class, and a person that is wrong in the second frame."""
    truth = written(tmp_path / "truth", [a_map(0), a_map(2)])
    found = written(tmp_path / "found", [a_map(0), a_map(12)], {**CLASSES, 7: "tree"})
    arguments = ["eval", str(truth), str(found), "--metrics", "panoptic"]
    assert main([*arguments, "--per-class", "--json", str(tmp_path / "s.json")]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[0].split() == ["classes", "PQ", "SQ", "RQ", "VPQ"]
    assert "tree" in captured.err
    scores = json.loads((tmp_path / "s.json").read_text())
    assert scores["classes"]["person"]["pq"] == pytest.approx(0.5)  # 1 match, 1 false positive, 1 miss
    assert scores["pq_2"]["things"]["pq"] == 0
    assert scores["stq"]["aq"] == pytest.approx(60 * 60 / 180 / 120)
    assert main(["eval", str(truth), str(truth), "--metrics", "panoptic"]) == 0
    assert "STQ 100.0" in capsys.readouterr().out
    other = written(tmp_path / "other", [a_map()], {0: "cat", 1: "sea", 2: "sand"})
    assert main(["eval", str(truth), str(other), "--metrics", "panoptic"]) == 2
    assert "class names in common" in capsys.readouterr().err
    short = written(tmp_path / "short", [a_map()])
    assert main(["eval", str(truth), str(short), "--metrics", "panoptic"]) == 2
    assert "has no frame 'img_2'" in capsys.readouterr().err
    assert main([*arguments, "--sequences", "clop"]) == 2
    assert "clip" in capsys.readouterr().err


def test_eval_of_label_maps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """255 in the truth is not scored."""
    for name, value in (("gt", 2), ("found", 3)):
        (tmp_path / name / "a").mkdir(parents=True)
        labels = np.full((4, 4), 1, np.uint8)
        labels[2:] = 2
        labels[3, 3] = value
        labels[0, 0] = 255 if name == "gt" else 2
        Image.fromarray(labels).save(tmp_path / name / "a" / "1.png")
    assert main(["eval", str(tmp_path / "gt"), str(tmp_path / "found"), "--metrics", "panoptic", "--per-class"]) == 0
    out = capsys.readouterr().out
    assert f"{100 * (1 + 7 / 8) / 2:.1f}" in out
    assert ["class_2", "87.5"] in [line.split() for line in out.splitlines()]
    (tmp_path / "found" / "a" / "1.png").unlink()
    assert main(["eval", str(tmp_path / "gt"), str(tmp_path / "found"), "--metrics", "panoptic"]) == 2
    assert "make all frames" in capsys.readouterr().err
