"""Parts in all track files: written, read back, exported, and scored by `eval --metrics parts`."""

from __future__ import annotations

import csv
import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import supervision as sv

from masa_track.cli.main import main
from masa_track.drawing.tracks import TrackDrawer
from masa_track.formats.jsonl import JsonLinesWriter
from masa_track.formats.rows import part_fields
from masa_track.formats.run import read_run
from masa_track.formats.tracks import TrackWriters
from masa_track.report.report import ReportBuilder
from masa_track.runs.postprocess import postprocess
from masa_track.runs.rows import detection_arrays, detections_of

NAMES = {0: "person", 1: "person head", 2: "person hand"}
HEAD, HAND = 1_000_000, 1_000_001


def scene(x: float = 0, hand_parent: int = 7) -> sv.Detections:
    """Two persons, a head of the first, a hand, and a part without identity."""
    boxes = [[x, 10, x + 40, 90], [x + 50, 10, x + 90, 90], [x + 10, 10, x + 20, 20], [x, 50, x + 8, 60], [1, 1, 3, 3]]
    return sv.Detections(
        np.array(boxes, np.float32),
        confidence=np.array([0.9, 0.8, 0.7, 0.6, 0.5], np.float32),
        class_id=np.array([0, 0, 1, 2, 2]),
        tracker_id=np.array([7, 8, HEAD, HAND, -1]),
        data={
            "parent_id": np.array([-1, -1, 7, hand_parent, -1]),
            "part": np.array(["", "", "head", "=hand", "hand"], object),
            "phrase": np.array(["human", "person", "person head", "person hand", "person hand"], object),
        },
    )


def written(folder: Path, scenes: list[sv.Detections], parts: bool = True) -> Path:
    folder.mkdir(exist_ok=True)
    with TrackWriters(folder, "clip", 200, 100, 10.0, NAMES, parts=parts) as writers:
        for number, one in enumerate(scenes, 1):
            writers.write(number, f"{number:06d}.jpg", one, number / 10)
    return folder


def test_track_files_hold_the_tree(tmp_path: Path) -> None:
    folder = written(tmp_path / "run", [scene(0), scene(5)])
    run = read_run(folder)
    for place in range(2):
        back = run.detections(place)
        assert part_fields(back) == part_fields(scene())[:4]
        assert back.data["parent_id"].tolist() == [-1, -1, 7, 7]
    assert run.parent_ids.tolist() == [-1, -1, 7, 7] * 2
    ids = np.loadtxt(folder / "tracks.txt", delimiter=",")[:, 1]
    assert ids.tolist() == [7, 8, 7, 8]  # MOT text is without parts
    with open(folder / "tracks.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["parent_id"] for row in rows[:4]] == ["", "", "7", "7"]
    assert [row["part"] for row in rows[:4]] == ["", "", "head", "'=hand"]
    assert rows[0]["phrase"] == "human"
    plain = written(tmp_path / "plain", [sv.Detections(scene().xyxy[:1], tracker_id=np.array([7]))], parts=False)
    assert "parent_id" not in (plain / "tracks.csv").read_text()
    assert read_run(plain).tree == ()


def test_the_record_and_json_lines_hold_the_tree(tmp_path: Path) -> None:
    back = detections_of(detection_arrays(scene()), (200, 100))
    assert part_fields(back) == part_fields(scene())
    with JsonLinesWriter(tmp_path / "live.jsonl", NAMES) as lines:
        lines.write(1, 0.1, scene())
    tracks = json.loads((tmp_path / "live.jsonl").read_text())["tracks"]
    assert [one.get("parent_id") for one in tracks] == [None, None, 7, 7]
    assert tracks[2]["part"] == "head"


def test_filled_boxes_keep_their_parent(tmp_path: Path) -> None:
    run = read_run(written(tmp_path / "run", [scene(0), scene(2)[:2], scene(4)]))  # type: ignore[list-item]
    done = postprocess(run, gap_seconds=1)
    assert done.filled.sum() == 2
    assert done.parent_ids[done.filled].tolist() == [7, 7]


def test_tao_gives_parents_by_the_numbers_of_its_tracks(tmp_path: Path) -> None:
    folder = written(tmp_path / "run", [scene(0), scene(5, hand_parent=HEAD)])
    assert main(["export", str(folder), "--format", "tao", "--out", str(tmp_path / "tao.json")]) == 0
    content = json.loads((tmp_path / "tao.json").read_text())
    own = {one["id"]: one["own_id"] for one in content["tracks"]}
    parents = {(one["image_id"], own[one["track_id"]]): one.get("parent_id") for one in content["annotations"]}
    assert own[parents[1, HEAD]] == own[parents[1, HAND]] == 7
    assert own[parents[2, HAND]] == HEAD
    assert parents[1, 8] is None
    assert {one.get("part") for one in content["annotations"]} == {None, "head", "=hand"}


def test_cvat_has_parts_as_attributes(tmp_path: Path) -> None:
    folder = written(tmp_path / "run", [scene(0), scene(5)])
    assert main(["export", str(folder), "--format", "cvat", "--out", str(tmp_path / "a.xml")]) == 0
    root = ET.parse(tmp_path / "a.xml").getroot()
    declared = {one.findtext("name") for one in root.iterfind(".//label[name='person head']/attributes/attribute")}
    assert declared == {"parent_id", "part", "phrase"}
    (head,) = root.iterfind(f"track[@id='{HEAD}']")
    boxes = head.findall("box")
    assert [{one.get("name"): one.text for one in box} for box in boxes] == [
        {"parent_id": "7", "part": "head", "phrase": "person head"}
    ] * 2


def test_csv_export_has_the_columns(tmp_path: Path) -> None:
    folder = written(tmp_path / "run", [scene(0)])
    assert main(["export", str(folder), "--format", "csv", "--out", str(tmp_path / "a.csv")]) == 0
    assert (tmp_path / "a.csv").read_text() == (folder / "tracks.csv").read_text()


def test_eval_scores_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The hand has the wrong parent in one of two frames."""
    truth = written(tmp_path / "truth", [scene(0), scene(5)])
    found = written(tmp_path / "found", [scene(0), scene(5, hand_parent=8)])
    arguments = [
        "eval",
        str(truth),
        str(found),
        "--metrics",
        "parts",
        "--per-class",
        "--json",
        str(tmp_path / "s.json"),
    ]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "person_hand" in out
    scores = json.loads((tmp_path / "s.json").read_text())
    assert scores["ap"] == pytest.approx(1)
    assert scores["consistency"] == pytest.approx(3 / 4)
    assert scores["classes"]["person hand"]["consistency"] == pytest.approx(1 / 2)
    things = written(tmp_path / "things", [replace(scene(0), data={})])
    assert main(["eval", str(things), str(found), "--metrics", "parts"]) == 2
    assert "has no parts" in capsys.readouterr().err
    assert main(["eval", str(truth), str(found), "--metrics", "parts,hota"]) == 2
    assert "stands alone" in capsys.readouterr().err
    assert main(["eval", str(truth), str(found), "--metrics", "parts", "--stride", "2"]) == 2


def test_the_drawing_shows_the_tree() -> None:
    """A part has a light shade of its thing's colour, and a line to its middle."""
    picture = np.zeros((100, 200, 3), np.uint8)
    rows = scene(20)
    rows.xyxy[2] = 25, 60, 35, 80
    with_parts = TrackDrawer(200, 100, 10, NAMES).draw(picture, rows)
    things = rows[:2]
    without = TrackDrawer(200, 100, 10, NAMES).draw(picture, things)  # type: ignore[arg-type]
    changed = (with_parts != without).any(axis=2)
    assert changed[60:80, 25].all()  # the left side of the head
    assert changed[52:70, 31:40].any(axis=1).all()  # from its middle (30, 70) to that of its person (40, 50)
    assert not changed[:, 75:].any()
    color, thing = with_parts[62, 25].astype(int), without[85, 20].astype(int)
    assert (color >= thing).all()
    assert (color > thing).any()
    rows.data["parent_id"] = np.array([-1, -1, 999, HEAD, -1])  # its parent is not in this frame
    assert (TrackDrawer(200, 100, 10, NAMES).draw(picture, rows)[62, 25] != color).any()


def test_the_drawing_tints_stuff() -> None:
    picture = np.full((100, 200, 3), 100, np.uint8)
    numbers = np.zeros((100, 200), np.int32)
    numbers[50:] = 16_000_001
    drawn = TrackDrawer(200, 100, 10, NAMES).draw_stuff(picture, numbers, {16_000_001: "road"})
    assert (drawn[:40] == 100).all()
    assert (drawn[60:90, :20] != 100).any(axis=2).all()
    assert (picture == 100).all()


def test_the_report_lists_parts_below_their_things(tmp_path: Path) -> None:
    report = ReportBuilder("clip", "", 200, 100, 10.0, NAMES)
    other = scene(0)
    other.tracker_id = np.array([9, 8, HEAD + 5, HAND + 5, -1])
    other.data["parent_id"] = np.array([-1, -1, 9, 9, -1])
    report.add(1, 0.1, None, scene())
    report.add(2, 0.2, None, other)
    report.write(tmp_path / "report.html", {})
    page = (tmp_path / "report.html").read_text()
    places = [page.index(f'href="#track-{i}"') for i in (7, HEAD, HAND, 8, 9, HEAD + 5, HAND + 5)]
    assert places == sorted(places)
    assert "person head of #7" in page
