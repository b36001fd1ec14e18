"""Runs for other tools: each format read back by the tool's own rules, and by its package (the large ones: -m huge)."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import supervision as sv

from masa_track.cli.main import main
from masa_track.evaluation import measure, read_mot
from masa_track.formats.coco_vid import CocoVidWriter

NAMES = {2: "car", 7: 'a <big> "van" & co'}
WIDTH, HEIGHT = 200, 100
# frame: [(id, class, x)]; every other frame is looked at. Track 1 has a gap, and is once called a van; track 9 is there
# twice, each time once; track 4 to the end.
FRAMES = {
    1: [(1, 2, 10), (4, 7, 100)],
    3: [(1, 7, 20), (4, 7, 110)],
    5: [(9, 2, 50), (4, 7, 120)],
    7: [(1, 2, 40), (4, 7, 130)],
    9: [(9, 2, 60), (4, 7, 140)],
    11: [],
    13: [(4, 7, 150)],
}


def box(x: float) -> list[float]:
    return [x, 20.0, x + 30.5, 60.25]


def made_run(folder: Path, name: str = "street", frames: dict = FRAMES) -> Path:
    """A run as `masa-track track` writes it, by its own writer."""
    folder.mkdir(parents=True)
    writer = CocoVidWriter(folder / "tracks.json", name, WIDTH, HEIGHT, 25.0, NAMES)
    for frame, rows in frames.items():
        detections = sv.Detections(
            xyxy=np.array([box(x) for *_, x in rows]).reshape(-1, 4),
            confidence=np.full(len(rows), 0.75),
            class_id=np.array([number for _, number, _ in rows], int),
            tracker_id=np.array([track for track, *_ in rows], int),
        )
        writer.write(frame, f"{frame:06d}.jpg", detections)
    writer.close()
    return folder


def export(*arguments: object) -> int:
    return main(["export", *map(str, arguments)])


def wanted(frames: dict = FRAMES) -> dict[tuple[int, int], list[float]]:
    """{(frame, track): box}"""
    return {(frame, track): box(x) for frame, rows in frames.items() for track, _, x in rows}


def test_cvat_video_xml(tmp_path):
    run, out = made_run(tmp_path / "run"), tmp_path / "a.xml"
    assert export(run, "--format", "cvat", "--out", out) == 0
    root = ET.parse(out).getroot()
    assert (root.tag, root.findtext("version")) == ("annotations", "1.1")
    task = root.find("meta/task")
    assert task is not None
    assert [task.findtext(key) for key in ("size", "mode", "stop_frame", "name")] == [
        "13",
        "interpolation",
        "12",
        "street",
    ]
    assert {label.findtext("name") for label in task.iter("label")} == set(NAMES.values())
    tracks = {int(track.attrib["id"]): track for track in root.iter("track")}
    assert {key: track.attrib["label"] for key, track in tracks.items()} == {1: "car", 4: NAMES[7], 9: "car"}
    found = {}
    for key, track in tracks.items():
        shown: list[float] | None = None
        keyframes = {int(one.attrib["frame"]): one.attrib for one in track}
        assert list(keyframes) == sorted(keyframes)
        for frame in range(13):  # as CVAT plays it: a keyframe holds until the next, and outside hides
            if frame in keyframes:
                entry = keyframes[frame]
                assert {entry["keyframe"], entry["occluded"], entry["z_order"]} == {"1", "0"}
                sides = [float(entry[side]) for side in ("xtl", "ytl", "xbr", "ybr")]
                shown = None if entry["outside"] == "1" else sides
            if shown is not None and frame + 1 in FRAMES:
                found[frame + 1, key] = shown
    assert {key: pytest.approx(value) for key, value in wanted().items()} == found


def test_label_studio_video_json(tmp_path, capsys):
    run, out = made_run(tmp_path / "run"), tmp_path / "a.json"
    assert export(run, "--format", "labelstudio", "--video", "s3://b/street.mp4", "--out", out) == 0
    (task,) = json.loads(out.read_text())
    assert task["data"] == {"video": "s3://b/street.mp4"}
    (prediction,) = task["predictions"]
    found, labels = {}, {}
    for result in prediction["result"]:
        assert (result["type"], result["from_name"], result["to_name"]) == ("videorectangle", "box", "video")
        key = int(result["id"].removeprefix("track-"))
        value = result["value"]
        labels[key] = value["labels"]
        assert (value["framesCount"], value["duration"]) == (13, 13 / 25)
        sequence = {step["frame"]: step for step in value["sequence"]}
        assert list(sequence) == sorted(sequence)
        shown = None
        for frame in range(1, 14):  # as Label Studio plays it: enabled holds until the next keyframe
            if frame in sequence:
                shown = sequence[frame]
                assert shown["time"] == pytest.approx(frame / 25)
                assert shown["rotation"] == 0
            if shown is not None and frame in FRAMES:
                x, y = shown["x"] * WIDTH / 100, shown["y"] * HEIGHT / 100
                size = shown["width"] * WIDTH / 100, shown["height"] * HEIGHT / 100
                found[frame, key] = [x, y, x + size[0], y + size[1]]
            if shown is not None and not shown["enabled"]:
                shown = None
    assert labels == {1: ["car"], 4: [NAMES[7]], 9: ["car"]}
    assert {key: pytest.approx(value) for key, value in wanted().items()} == found
    config = ET.fromstring(capsys.readouterr().out.split("Code):\n\n")[1])
    assert {label.attrib["value"] for label in config.iter("Label")} == set(NAMES.values())
    assert config[0].attrib == {"name": "video", "value": "$video", "frameRate": "25"}


# TAO's fields, as its toolkit's documentation lists them.
TAO_FIELDS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "images": {
        "id": int,
        "video_id": int,
        "file_name": str,
        "license": int,
        "width": int,
        "height": int,
        "frame_index": int,
    },
    "videos": {
        "id": int,
        "name": str,
        "width": int,
        "height": int,
        "neg_category_ids": list,
        "not_exhaustive_category_ids": list,
        "metadata": dict,
    },
    "tracks": {"id": int, "category_id": int, "video_id": int},
    "categories": {"id": int, "name": str, "synset": str},
    "annotations": {"image_id": int, "track_id": int, "bbox": list, "area": (int, float), "category_id": int},
}


def read_by_trackeval(truth: Path, results: Path, place: Path) -> dict[str, Any]:
    """What TrackEval's TAO dataset, the reader of TAO's own benchmark, makes of each video."""
    from trackeval.datasets import TAO

    for folder, file in (("gt", truth), ("trackers/us/data", results)):
        (place / folder).mkdir(parents=True)
        (place / folder / file.name).write_bytes(file.read_bytes())
    config = {"GT_FOLDER": str(place / "gt"), "TRACKERS_FOLDER": str(place / "trackers"), "PRINT_CONFIG": False}
    dataset = TAO({**config, "TRACKERS_TO_EVAL": ["us"]})
    return {name: dataset.get_raw_seq_data("us", name) for name in dataset.seq_list}


def test_tao_json_of_several_runs(tmp_path):
    other = {frame: rows for frame, rows in FRAMES.items() if frame > 4}
    runs = [made_run(tmp_path / "a"), made_run(tmp_path / "b", "square", other)]
    out = tmp_path / "all.json"
    assert export(*runs, "--format", "tao", "--out", out) == 0
    content = json.loads(out.read_text())
    for part, wanted_fields in TAO_FIELDS.items():
        assert content[part]
        for entry in content[part]:
            assert {key: isinstance(entry.get(key), kind) for key, kind in wanted_fields.items()} == dict.fromkeys(
                wanted_fields, True
            )
        ids = [entry["id"] for entry in content[part]]
        assert len(set(ids)) == len(ids)
    of_track = {track["id"]: track for track in content["tracks"]}
    assert len(of_track) == 6  # the same ids in both runs are other things
    images = {image["id"]: image for image in content["images"]}
    for entry in content["annotations"]:
        assert images[entry["image_id"]]["video_id"] == of_track[entry["track_id"]]["video_id"] == entry["video_id"]
        assert entry["category_id"] == of_track[entry["track_id"]]["category_id"]
    boxes = {
        (images[entry["image_id"]]["frame_index"] + 1, of_track[entry["track_id"]]["own_id"]): entry["bbox"]
        for entry in content["annotations"]
        if entry["video_id"] == 1
    }
    assert boxes == {key: [x1, y1, x2 - x1, y2 - y1] for key, (x1, y1, x2, y2) in wanted().items()}

    # The same as results: read by TAO's own benchmark, and by ours, as a perfect tracker.
    results = tmp_path / "results.json"
    assert export(*runs, "--format", "tao-results", "--truth", out, "--out", results) == 0
    rows = json.loads(results.read_text())
    assert set(rows[0]) == {"image_id", "category_id", "bbox", "score", "track_id", "video_id"}
    raw = read_by_trackeval(out, results, tmp_path / "trackeval")
    assert set(raw) == {"street", "square"}
    for data in raw.values():
        assert data["num_timesteps"] > 3
        for similarity in data["similarity_scores"]:
            assert np.array_equal(similarity >= 1 - 1e-9, np.eye(len(similarity), dtype=bool))
    assert len({i for data in raw.values() for ids in data["tracker_ids"] for i in ids.tolist()}) == 6
    assert measure(out, results, ["teta"]).teta.overall.teta == 1


def test_tao_results_are_of_the_listed_images_by_the_truths_names(tmp_path):
    run = made_run(tmp_path / "a")
    assert export(run, "--format", "tao", "--out", tmp_path / "t.json") == 0
    truth = json.loads((tmp_path / "t.json").read_text())
    truth["videos"][0]["name"] = "val/YFCC100M/street"
    truth["images"] = [{**one, "id": one["id"] + 500} for one in truth["images"] if one["frame_index"] in (2, 8)]
    truth["categories"] = [{"id": 31, "name": NAMES[7]}, {"id": 32, "name": "car"}]
    (tmp_path / "t.json").write_text(json.dumps(truth))
    out = tmp_path / "r.json"
    assert export(run, "--format", "tao-results", "--truth", tmp_path / "t.json", "--out", out) == 0
    rows = json.loads(out.read_text())
    assert sorted((row["image_id"], row["category_id"], row["bbox"][0]) for row in rows) == [
        (502, 31, 110),
        (502, 32, 20),
        (505, 31, 140),
        (505, 32, 60),
    ]


def test_mot_and_csv(tmp_path):
    run = made_run(tmp_path / "run")
    assert export(run, "--format", "mot", "--out", tmp_path / "a.txt") == 0
    rows = read_mot(tmp_path / "a.txt")
    found = zip(rows.frames.tolist(), rows.ids.tolist(), rows.boxes.tolist(), strict=True)
    assert {(f, i): [x - 1, y - 1, x - 1 + w, y - 1 + h] for f, i, (x, y, w, h) in found} == wanted()
    assert export(run, "--format", "csv", "--out", tmp_path / "a.csv") == 0
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 1 + len(wanted())


def test_gaps_are_filled_in_the_frames_that_were_tracked(tmp_path, capsys):
    run, out = made_run(tmp_path / "run"), tmp_path / "filled.txt"
    # Track 1 lacks frames 4 to 6 of 25 a second, of which 5 was looked at; track 9 lacks 7 alike, track 4 11.
    assert export(run, "--format", "mot", "--fill-gaps", 3 / 25, "--out", out) == 0
    assert "3 of them filled in" in capsys.readouterr().out
    rows = read_mot(out)
    got = {(f, i): b for f, i, b in zip(rows.frames.tolist(), rows.ids.tolist(), rows.boxes.tolist(), strict=True)}
    expected = {**wanted(), (5, 1): box(30), (7, 9): box(55), (11, 4): box(145)}
    assert got.keys() == expected.keys()
    for key, (x1, y1, x2, y2) in expected.items():
        np.testing.assert_allclose(got[key], [x1 + 1, y1 + 1, x2 - x1, y2 - y1], atol=1e-3)
    assert export(run, "--format", "mot", "--fill-gaps", 2.9 / 25, "--out", out) == 0
    assert len(read_mot(out).ids) == len(wanted())
    # The class and the score of the box before the gap: once the thing was called a van. Last columns: filled, frame,
    # smoothed, time.
    assert export(run, "--format", "csv", "--fill-gaps", 1, "--out", tmp_path / "filled.csv") == 0
    lines = (tmp_path / "filled.csv").read_text().splitlines()
    (row,) = [line for line in lines if line.startswith("30.0,") and line.endswith(",1,5,0,0.16")]
    assert "van" in row
    assert "0.75,1," in row


def test_smoothing_reduces_shaking(tmp_path):
    shaky = {f: [(3, 2, 10 + 2 * f + 4 * (-1) ** f)] for f in range(1, 41)}
    run, out = made_run(tmp_path / "run", frames=shaky), tmp_path / "calm.txt"

    def off(*options: object) -> float:
        assert export(run, "--format", "mot", *options, "--out", out) == 0
        rows = read_mot(out)
        assert rows.frames.tolist() == list(shaky)
        return float(np.abs(rows.boxes[:, 0] - (11 + 2 * rows.frames)).mean())

    assert off("--smooth") < 0.25 * off()
    assert off("--smooth", 0.5) < 0.1 * off()


def test_a_run_without_tracks(tmp_path):
    run = made_run(tmp_path / "run", frames={1: [], 2: []})
    for form in ("cvat", "labelstudio", "tao", "mot", "csv"):
        assert export(run, "--format", form, "--out", tmp_path / form) == 0
    assert not list(ET.parse(tmp_path / "cvat").getroot().iter("track"))
    assert json.loads((tmp_path / "tao").read_text())["tracks"] == []


def test_masks_reach_tao_and_are_said_to_be_left_out_elsewhere(tmp_path, capsys):
    from masa_track.masks import compressed, decode_mask

    masks = np.zeros((3, 2, HEIGHT, WIDTH), bool)
    masks[0, 0, 20:40, 10:30] = masks[0, 1, 50:70, 90:99] = masks[2, 0, 20:41, 14:30] = True
    writer = CocoVidWriter(tmp_path / "tracks.json", "street", WIDTH, HEIGHT, 25.0, NAMES)
    for frame, ids in ((1, [1, 2]), (2, []), (3, [1, 2])):
        rows = sv.Detections(
            xyxy=np.array([box(10 + frame), box(90)])[: len(ids)].reshape(-1, 4),
            mask=masks[frame - 1, : len(ids)],
            class_id=np.full(len(ids), 2),
            tracker_id=np.array(ids, int),
        )
        writer.write(frame, f"{frame:06d}.jpg", rows)
    writer.close()
    out = tmp_path / "tao.json"
    assert export(tmp_path, "--format", "tao", "--fill-gaps", 1, "--out", out) == 0
    rows = json.loads(out.read_text())["annotations"]
    assert len(rows) == 6
    found = {(row["image_id"], row["track_id"]): row for row in rows}
    for frame in (1, 3):
        for track in (1, 2):
            rle = found[frame, track]["segmentation"]
            mask = masks[frame - 1, track - 1]
            np.testing.assert_array_equal(decode_mask(compressed(rle, (HEIGHT, WIDTH))), mask)
            assert found[frame, track]["area"] == mask.sum()
    assert "segmentation" not in found[2, 1]  # filled in: nothing was seen there
    assert "left out" not in capsys.readouterr().out
    results = tmp_path / "results.json"
    assert export(tmp_path, "--format", "tao-results", "--truth", out, "--out", results) == 0
    assert [row["segmentation"] for row in json.loads(results.read_text())] == [
        found[key]["segmentation"] for key in ((1, 1), (3, 1), (1, 2), (3, 2))
    ]
    capsys.readouterr()
    assert export(tmp_path, "--format", "mot", "--out", tmp_path / "a.txt") == 0
    assert "masks are left out: mot has none" in capsys.readouterr().out

    content = json.loads((tmp_path / "tracks.json").read_text())
    content["annotations"][1]["segmentation"]["counts"] = "0"
    (tmp_path / "tracks.json").write_text(json.dumps(content))
    assert export(tmp_path, "--format", "tao", "--out", tmp_path / "b.json") == 2
    assert "annotations[1]: the runs of its segmentation do not fill its size" in capsys.readouterr().err


def test_the_truth_is_not_overwritten(tmp_path, capsys):
    run, truth = made_run(tmp_path / "run"), tmp_path / "t.json"
    assert export(run, "--format", "tao", "--out", truth) == 0
    before = truth.read_bytes()
    (tmp_path / "link.json").hardlink_to(truth)
    for out in (truth, tmp_path / "run" / ".." / "t.json", tmp_path / "link.json"):
        assert export(run, "--format", "tao-results", "--truth", truth, "--out", out) == 2
        assert "--out would overwrite --truth" in capsys.readouterr().err
    assert truth.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none", "--format", "cvat", "--out", "o"], "there is no .*none"),
        (["run", "--format", "tao-results", "--out", "o"], "tao-results and --truth need each other"),
        (["run", "--format", "cvat", "--truth", "t", "--out", "o"], "tao-results and --truth need each other"),
        (["run", "--format", "cvat", "--video", "v", "--out", "o"], "--video is for --format labelstudio"),
        (["run", "run", "--format", "mot", "--out", "o"], "--format mot takes one RUN, got 2"),
        (
            ["run", "--format", "mot", "--fill-gaps", "-1", "--out", "o"],
            "--fill-gaps must be 0 or more seconds, got -1",
        ),
        (["run", "--format", "mot", "--smooth", "nan", "--out", "o"], "--smooth must be 0 or more seconds, got nan"),
        (["run", "--format", "cvat", "--out", "none/o"], "--out must be in a folder that is there"),
        (["run", "--format", "cvat", "--out", "run/tracks.json"], "--out would overwrite RUN"),
        (["broken", "--format", "cvat", "--out", "o"], "broken.tracks.json is not COCO-VID json of one video"),
        (["run", "--format", "tao-results", "--truth", "none", "--out", "o"], "--truth none cannot be read"),
        (
            ["run", "--format", "tao-results", "--truth", "other.json", "--out", "o"],
            "must have one video called 'street'",
        ),
    ],
)
def test_impossible_arguments_are_refused(tmp_path, monkeypatch, capsys, arguments, message):
    import re

    monkeypatch.chdir(tmp_path)
    made_run(Path("run"))
    made_run(Path("other"), "elsewhere")
    Path("broken").mkdir()
    Path("broken/tracks.json").write_text('{"videos": []}')
    assert export("other", "--format", "tao", "--out", "other.json") == 0
    before = sorted(Path().rglob("*"))
    assert export(*arguments) == 2
    assert re.search(f"masa-track export: error: .*{message}", capsys.readouterr().err)
    assert sorted(Path().rglob("*")) == before


@pytest.fixture(scope="module")
def tools() -> SimpleNamespace:
    """A Python that has Datumaro (which reads CVAT) and Label Studio's SDK: 700 MB, made once."""
    folder = Path(__file__).resolve().parents[1] / ".venv-export"
    python = folder / "bin" / "python"
    if not (folder / "done").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", "datumaro", "label-studio-sdk"], check=True)
        (folder / "done").touch()

    def read(*arguments: object) -> Any:
        script = Path(__file__).with_name("export_readers.py")
        done = subprocess.run([str(python), str(script), *map(str, arguments)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return SimpleNamespace(read=read)


@pytest.mark.slow
@pytest.mark.huge
def test_datumaro_reads_the_cvat_xml(tmp_path, tools):
    run, out = made_run(tmp_path / "run"), tmp_path / "a.xml"
    assert export(run, "--format", "cvat", "--out", out) == 0
    shapes = tools.read("datumaro", out)
    seen = {(frame + 1, facts["track_id"]): points for frame, facts, points, _ in shapes if not facts["outside"]}
    assert {key: pytest.approx(value, abs=0.01) for key, value in wanted().items()} == seen
    assert {name for *_, name in shapes} == set(NAMES.values())


@pytest.mark.slow
@pytest.mark.huge
def test_label_studio_takes_the_json(tmp_path, tools, capsys):
    run, out = made_run(tmp_path / "run"), tmp_path / "a.json"
    assert export(run, "--format", "labelstudio", "--out", out) == 0
    (tmp_path / "config.xml").write_text(capsys.readouterr().out.split("Code):\n\n")[1])
    found = tools.read("labelstudio", out, tmp_path / "config.xml")
    assert found["errors"] == []
    assert found["valid"] == [True]
    frames = {
        int(result["id"].removeprefix("track-")): {step["frame"] for step in result["value"]["sequence"]}
        for result in found["results"][0]
    }
    assert frames[4] == set(range(1, 14)) - {10, 11, 12}  # drawn between keyframes, not over the gap
    assert frames[9] == {5, 9}
