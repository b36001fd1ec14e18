"""Odd files: damaged, hostile, or of wrong types in any field. Each is read, or refused in one line as InputError."""

from __future__ import annotations

import copy
import csv
import json
import random
import tracemalloc
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import supervision as sv

from masa_track.association import TrackGallery
from masa_track.cli.main import main
from masa_track.errors import InputError
from masa_track.evaluation.coco_vid import read_class_videos
from masa_track.evaluation.mot import read_mot
from masa_track.formats.csv import CsvWriter
from masa_track.formats.cvat import cvat_xml
from masa_track.formats.detections import read_detections
from masa_track.formats.label_studio import label_studio_config
from masa_track.formats.run import read_run
from masa_track.formats.tao import tao_results
from masa_track.formats.tracks import TrackWriters
from masa_track.training.region_files import read_regions

VIDEO = SimpleNamespace(name="clip", width=640, height=480, length=None, last_number=None, file_names=())
# Huge integers are written as text, for Python cannot print those of more than 4,300 digits.
HUGE = {"@400@": "9" * 400, "@5000@": "9" * 5000, "@30@": "1" + "0" * 30, "@19@": "9" * 19, "@64@": str(2**63)}
ODD: list[Any] = [
    *HUGE,
    *(float("nan"), float("inf"), -1, -1e300, 1e300, 1.5, 2**63 - 1),
    *(None, True, "", "\ud800", "\0", "x", [], [[]], [1], {}, {"id": [1]}),
]


def dumped(content: Any) -> str:
    text = json.dumps(content)
    for mark, digits in HUGE.items():
        text = text.replace(f'"{mark}"', digits)
    return text


def places(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each value inside nested dicts and lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*before, key)
        yield from places(inner, (*before, key))


def mutations(content: Any, number: int) -> Iterator[Any]:
    """``content`` with one key less, or another value somewhere."""
    rng = random.Random(0)
    ways = list(places(content))
    for _ in range(number):
        changed = copy.deepcopy(content)
        *way, last = rng.choice(ways)
        inner = changed
        for key in way:
            inner = inner[key]
        if rng.random() < 0.15:
            del inner[last]
        else:
            inner[last] = rng.choice(ODD)
        yield changed


SIZE = {"width": 64, "height": 48}
COCO_VID: dict[str, Any] = {
    "videos": [{"id": 1, "name": "clip", "width": 640, "height": 480, "fps": 25.0}],
    "images": [
        {
            "id": i + 1,
            "video_id": 1,
            "frame_id": i,
            "frame_index": i,
            "file_name": f"{i}.jpg",
            "width": 64,
            "height": 48,
        }
        for i in range(2)
    ],
    "annotations": [
        {"id": i + 1, "image_id": i + 1, "track_id": 3, "category_id": 2, "bbox": [1, 2, 30, 40], "score": 0.5}
        for i in range(2)
    ],
    "categories": [{"id": 2, "name": "car", "merged": [{"id": 4, "name": "bus"}]}],
}
RUN = {key: value for key, value in COCO_VID.items() if key != "merged"}


def read_results(path: Path) -> None:
    truth = path.with_name("truth.json")
    truth.write_text(json.dumps(COCO_VID))
    read_class_videos(truth, path)


def read_truth(path: Path) -> None:
    run = path.with_name("run.json")
    run.write_text(json.dumps(RUN))
    tao_results([read_run(run)], path)


def export_all(path: Path) -> None:
    run = read_run(path)
    ET.fromstring(cvat_xml(run))
    ET.fromstring(label_studio_config([run]))


PLAIN = {"a.jpg": [[1, 2, 30, 40], [5, 5, 9, 9]]}
SA1B = {
    "image": {"file_name": "a.jpg", "width": 64, "height": 48},
    "annotations": [{"id": 1, "bbox": [1, 2, 30, 40], "segmentation": [[1, 2, 30, 2, 30, 40]]}],
}
READERS: dict[str, tuple[Any, Callable[[Path], object]]] = {
    "detections": (COCO_VID, lambda path: read_detections(path, VIDEO)),
    "list of detections": (COCO_VID["annotations"], lambda path: read_detections(path, VIDEO)),
    "eval, truth": (COCO_VID, lambda path: read_class_videos(path, path)),
    "eval, TAO results": (COCO_VID["annotations"], read_results),
    "export": (RUN, export_all),
    "export, TAO's truth": (COCO_VID, read_truth),
    "regions, COCO": (COCO_VID, read_regions),
    "regions, SA-1B": (SA1B, read_regions),
    "regions, boxes": (PLAIN, read_regions),
}


def refusal(read: Callable[[Path], object], path: Path) -> str | None:
    """The one line with which a file is refused; None if it is read. Any other exception goes on."""
    try:
        read(path)
    except InputError as error:
        said = str(error)
    else:
        return None
    assert "\n" not in said
    return said


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", READERS)
def test_json_with_any_wrong_field_is_read_or_refused(kind: str, tmp_path: Path) -> None:
    content, read = READERS[kind]
    path = tmp_path / "odd.json"
    path.write_text(dumped(content))
    read(path)
    refused = 0
    for changed in mutations(content, 200):
        path.write_text(dumped(changed))
        said = refusal(read, path)
        refused += said is not None
        assert len(said or "") < 600 + len(str(path))
    assert refused > 20


@pytest.mark.parametrize("odd", ["9" * 5000, "9" * 400, "1" + "0" * 30, "1e300", "nan", "inf", "-1", "", "x", "\ud8ff"])
def test_mot_text_with_any_odd_number_is_read_or_refused(odd: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.txt"
    for column in range(9):
        fields = ["1", "1", "2", "2", "30", "40", "1", "1", "1"]
        fields[column] = odd
        path.write_text("1,2,1,1,5,5,1,1,1\n" + ",".join(fields) + "\n", errors="surrogatepass")
        for read in (lambda: read_detections(path, VIDEO), lambda: read_mot(path, True)):
            try:
                found = read()
            except InputError:
                continue
            for array in (found.frames, getattr(found, "class_ids", found.frames)):
                assert (array >= 0).all(), "nothing wraps"


@pytest.mark.parametrize("end", ["\r", "\r\n", "\n"])
def test_any_line_end(end: str, tmp_path: Path) -> None:
    path = tmp_path / "det.txt"
    path.write_bytes(end.join(f"{i},7,1,1,5,5,1" for i in range(1, 49)).encode())
    assert len(read_detections(path, VIDEO)) == len(read_mot(path)) == 48
    path.write_bytes(end.join(["1,7,1,1,5,5,1", "", "2,7,x,1,5,5,1"]).encode())
    with pytest.raises(InputError, match="line 3: not numbers"):
        read_detections(path, VIDEO)


def npz(path: Path, **members: bytes) -> Path:
    """A zip of members as they are, compressed."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


def npy(shape: tuple[int, ...], data: bytes, descr: str = "<f8") -> bytes:
    """A header that claims a shape, and any data."""
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


GOOD = npy((1, 4), np.array([[1.0, 2, 30, 40]]).tobytes())
ONE = npy((1,), np.ones(1).tobytes())


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"boxes": b"hello", "frames": ONE}, "no npz of plain arrays"),
        ({"boxes": b"", "frames": ONE}, "no npz of plain arrays"),
        (
            {"boxes": npy((10**12, 4), b""), "frames": ONE},
            r"boxes claims \(1000000000000, 4\) float64, but has 0 bytes",
        ),
        ({"boxes": npy((10**25, 4), b""), "frames": ONE}, "boxes claims"),
        ({"boxes": npy((-1, 4), b""), "frames": ONE}, "boxes claims"),
        ({"boxes": npy((1, 4), b"", "|O"), "frames": ONE}, "Object arrays cannot be loaded"),
        ({"boxes": GOOD, "frames": ONE, "labels": npy((1,), np.array([np.inf]).tobytes())}, "labels must be whole"),
        ({"boxes": GOOD, "frames": ONE, "labels": npy((1,), np.array([1e300]).tobytes())}, "labels must be whole"),
        ({"boxes": GOOD, "frames": ONE, "labels": npy((1,), b"\xff" * 8, "<u8")}, "labels must be whole"),
        ({"boxes": GOOD, "frames": npy((1,), np.array([np.nan]).tobytes())}, "frames must be whole"),
    ],
)
def test_an_odd_npz_is_refused(members: dict[str, bytes], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read_detections(npz(tmp_path / "odd.npz", **members), VIDEO)


def test_a_damaged_npz_is_refused(tmp_path: Path) -> None:
    whole = npz(tmp_path / "whole.npz", boxes=GOOD, frames=ONE).read_bytes()
    assert len(read_detections(tmp_path / "whole.npz", VIDEO)) == 1
    rng = random.Random(0)
    path = tmp_path / "odd.npz"
    for _ in range(200):
        content = bytearray(whole)
        content[rng.randrange(len(content))] = rng.randrange(256)
        path.write_bytes(content)
        refusal(lambda path: read_detections(path, VIDEO), path)


def test_a_bomb_is_refused_before_it_takes_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bombs = {
        "form.npz": {"boxes": npy((4_000_000, 1, 1), bytes(32_000_000)), "frames": ONE},
        "name.npz": {"boxes": GOOD, "frames": ONE, "more": npy((4_000_000,), bytes(32_000_000))},
        "size.npz": {"boxes": npy((1_000_000, 4), bytes(32_000_000)), "frames": ONE},
    }
    monkeypatch.setattr("masa_track.npz.MAX_BYTES", 10_000_000)
    for name, members in bombs.items():
        path = npz(tmp_path / name, **members)
        assert path.stat().st_size < 50_000
        tracemalloc.start()
        with pytest.raises(InputError, match=r"must be 2-dimensional|unknown array|at most 10,000,000 are read"):
            read_detections(path, VIDEO)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
        tracemalloc.stop()
    with pytest.raises(InputError, match="vectors must be 3-dimensional"):
        TrackGallery.load(npz(tmp_path / "gallery.npz", ids=ONE, vectors=GOOD))


# ---------------------------------------------------------------------------------------------------------------------
# Names of classes

NAMES = ["=HYPERLINK(1)", "+1", "-1", "@x", "\tx", "half\ud800", "bell\x07", "a\ufffeb", '<&">', "plain", "two\nlines"]


def run_of_names(folder: Path) -> Path:
    with TrackWriters(folder, "clip\x01", 640, 480, 25.0, NAMES) as writers:
        boxes = np.array([[i, 0, i + 9, 9] for i in range(len(NAMES))], np.float32)
        ids = np.arange(len(NAMES))
        writers.write(1, "1.jpg", sv.Detections(boxes, confidence=np.ones(len(ids)), class_id=ids, tracker_id=ids))
    return folder


def test_no_name_is_a_formula_in_the_csv(tmp_path: Path) -> None:
    run_of_names(tmp_path)
    with open(tmp_path / "tracks.csv", encoding="utf-8", newline="") as file:
        names = [row["class_name"] for row in csv.DictReader(file)]
    assert names[:5] == ["'=HYPERLINK(1)", "'+1", "'-1", "'@x", "'\tx"]
    assert names[5:] == ["half\ufffd", "bell\ufffd", "a\ufffdb", '<&">', "plain", "two\nlines"]
    writer = CsvWriter(tmp_path / "own.csv")
    row = sv.Detections(np.array([[0, 0, 9.0, 9]]), tracker_id=np.array([1]), data={"class_name": np.array(["=1"])})
    writer.write(1, "1.jpg", row)
    writer.close()
    assert ",'=1," in (tmp_path / "own.csv").read_text()


def test_any_name_is_exported_as_whole_files(tmp_path: Path) -> None:
    run = run_of_names(tmp_path)
    for form in ("cvat", "labelstudio", "tao", "csv", "mot"):
        assert main(["export", str(run), "--format", form, "--out", str(tmp_path / form)]) == 0
    found = ET.parse(tmp_path / "cvat").getroot()
    labels = [one.text for one in found.iterfind("meta/task/labels/label/name")]
    assert labels == [
        name.replace("\ud800", "\ufffd").replace("\x07", "\ufffd").replace("\ufffe", "\ufffd") for name in NAMES
    ]
    assert [track.get("label") for track in found.iterfind("track")] == labels
    ET.fromstring(label_studio_config([read_run(run)]))


# ---------------------------------------------------------------------------------------------------------------------
# Masks of a file of detections


def clip_with_masks(folder: Path, masks: list[Any]) -> Path:
    """Three frames with a box each, and a file of detections with these masks."""
    import cv2

    (folder / "frames").mkdir()
    for i in range(1, 4):
        cv2.imwrite(str(folder / "frames" / f"{i:04d}.png"), np.full((48, 64, 3), 90, np.uint8))
    rows = [
        {"image_id": i, "category_id": 0, "bbox": [10, 10, 20, 20], "score": 1.0, "segmentation": mask}
        for i, mask in enumerate(masks, 1)
    ]
    (folder / "det.json").write_text(json.dumps(rows))
    return folder


def track(folder: Path) -> int:
    options = ["--detections", str(folder / "det.json"), "--no-video", "--device", "cpu", "--out", str(folder / "out")]
    return main(["track", str(folder / "frames"), "--model", "nano-untrained", *options])


POLYGON = [[10, 10, 30, 10, 30, 30, 10, 30]]


@pytest.mark.slow
def test_masks_of_a_file_are_carried(tmp_path: Path) -> None:
    from pycocotools import mask as api

    square = np.zeros((48, 64), np.uint8)
    square[12:20, 12:24] = 1
    rle = api.encode(np.asfortranarray(square))
    clip = clip_with_masks(tmp_path, [POLYGON, {"size": rle["size"], "counts": rle["counts"].decode()}, None])
    assert track(clip) == 0
    found = json.loads((clip / "out" / "tracks.json").read_text())["annotations"]
    areas = [int(api.decode({**one["segmentation"]}).sum()) for one in found]
    assert areas == [400, 96, 0]


@pytest.mark.parametrize("mask", [[[]], {"size": [480, 640], "counts": "1"}, {"size": [48, 64], "counts": "1"}, "x"])
def test_a_damaged_mask_is_refused_before_any_work(
    mask: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = clip_with_masks(tmp_path, [POLYGON, mask])
    assert track(clip) == 2
    assert "det.json, frame 2: " in capsys.readouterr().err
    assert not (clip / "out").exists()


@pytest.mark.slow
def test_masks_without_pycocotools_are_left_out_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pycocotools", None)
    clip = clip_with_masks(tmp_path, [POLYGON] * 3)
    assert track(clip) == 0
    said = capsys.readouterr().err
    assert 'det.json: its masks are left out: pycocotools is needed for masks: run `pip install ".[sam]"`' in said
    assert len(json.loads((clip / "out" / "tracks.json").read_text())["annotations"]) == 3


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ((3.2, 95.27), "scores must be probabilities, 0..1, got 95.27: percent: divide by 100"),
        ((3.2, 254), "got 254: 0..255: divide by 255"),
        ((-3.2, 0.9), "got -3.2: negative scores may be logits"),
    ],
)
def test_scores_in_other_units_are_refused_before_any_work(
    scores: tuple[float, float], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import cv2

    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((48, 64, 3), np.uint8))
    file, out = tmp_path / "det.txt", tmp_path / "out"
    file.write_text("".join(f"1,-1,5,5,20,20,{score}\n" for score in scores))
    assert main(["track", str(tmp_path / "1.png"), "--detections", str(file), "--out", str(out)]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()
