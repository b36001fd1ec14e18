"""`masa-track track --detector sam3` and `masa-track detect`, with a small network of random weights."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from sam3_networks import moving_squares

from masa_track.cli.main import main

FRAMES = 8


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return moving_squares(tmp_path_factory.mktemp("source") / "pictures", FRAMES)


def track(source: Path, out: Path, *options: object) -> int:
    return main(["track", str(source), "--out", str(out), "--no-video", "--device", "cpu", *map(str, options)])


def result(out: Path) -> dict[str, Any]:
    return json.loads((out / "tracks.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("identities", ["masa", "sam3", "both"])
def test_track_by_text(identities: str, sam3_folder: Path, source: Path, tmp_path: Path) -> None:
    options = ["--set", "track_activation_threshold=0.3"] if identities == "masa" else ["--set", "birth_score=0.5"]
    arguments = ["--detector", f"sam3:{sam3_folder}", "--text", "red car. dog", "--identities", identities]
    assert track(source, tmp_path / "run", *arguments, *options) == 0
    found = result(tmp_path / "run")
    assert [category["name"] for category in found["categories"]] == ["red car", "dog"]
    assert len(found["images"]) == FRAMES
    for image in found["images"]:
        assert set(image["presence"]) == {"red car", "dog"}
        assert all(0 < value <= 1 for value in image["presence"].values())
    assert found["annotations"]
    assert {annotation["category_id"] for annotation in found["annotations"]} <= {0, 1}
    assert all(annotation["segmentation"]["size"] == [96, 128] for annotation in found["annotations"])
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Presence of red car over time" in page
    assert "Presence of dog over time" in page


@pytest.mark.slow
@pytest.mark.parametrize("identities", ["masa", "both"])
def test_track_by_exemplars(identities: str, sam3_folder: Path, source: Path, tmp_path: Path) -> None:
    """They count from their frame on: before there is no phrase, and nothing is found."""
    arguments = [
        "--detector",
        f"sam3:{sam3_folder}",
        "--exemplar",
        "3:22,20,52,50",
        "--negative-exemplar",
        "4:70,60,98,80",
    ]
    arguments += ["--identities", identities]
    options = ["--set", "track_activation_threshold=0.3"] if identities == "masa" else ["--set", "birth_score=0.5"]
    assert track(source, tmp_path / "run", *arguments, *options) == 0
    found = result(tmp_path / "run")
    assert [category["name"] for category in found["categories"]] == ["exemplar"]
    if identities == "masa":
        assert ["presence" in image for image in found["images"]] == [False] * 2 + [True] * (FRAMES - 2)
    assert "not 4:70,60,98,80" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.slow
def test_recovered_runs_have_presence(sam3_folder: Path, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    arguments = ["--detector", f"sam3:{sam3_folder}", "--text", "dog", "--identities", "masa"]
    assert track(source, out, *arguments) == 0
    before = [image["presence"] for image in result(out)["images"]]
    (out / "tracks.json").unlink()
    assert main(["recover", str(out)]) == 0
    assert [image["presence"] for image in result(out)["images"]] == before
    assert track(source, tmp_path / "finished", *arguments, "--offline") == 0
    assert [image["presence"] for image in result(tmp_path / "finished")["images"]] == before
    assert "Presence of dog over time" in (tmp_path / "finished" / "report.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("identities", ["sam3", "both"])
def test_a_run_is_resumed(identities: str, sam3_folder: Path, source: Path, tmp_path: Path) -> None:
    """With the networks' own memory, and with exemplars before and after the frame from which it goes on."""
    arguments = ["--detector", f"sam3:{sam3_folder}", "--text", "red car", "--identities", identities]
    arguments += ["--exemplar", "2:18,20,48,50", "--negative-exemplar", "7:66,60,92,80", "--set", "birth_score=0.5"]
    assert track(source, tmp_path / "whole", *arguments) == 0
    assert track(source, tmp_path / "run", *arguments, "--max-frames", 5) == 0
    assert len(result(tmp_path / "run")["images"]) == 5
    assert track(source, tmp_path / "run", *arguments, "--resume") == 0
    found, whole = result(tmp_path / "run"), result(tmp_path / "whole")
    assert found["annotations"]
    assert found == whole


@pytest.mark.slow
def test_semantic_maps(sam3_folder: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """One for each phrase and frame; those of an earlier run are removed, and other files are left."""
    out, maps = tmp_path / "run", tmp_path / "run" / "semantic"
    arguments = ["--detector", f"sam3:{sam3_folder}", "--text", "red car. dog"]
    assert track(source, out, *arguments, "--semantic", "--max-frames", 3) == 0
    assert str(maps) in capsys.readouterr().out
    names = {f"{number:06d}-{phrase}.png" for number in (1, 2, 3) for phrase in (0, 1)}
    assert {path.name for path in maps.iterdir()} == names | {"phrases.json"}
    assert json.loads((maps / "phrases.json").read_text()) == {"0": "red car", "1": "dog"}
    pictures = [cv2.imread(str(maps / name), cv2.IMREAD_UNCHANGED) for name in sorted(names)]
    assert all(one.shape == (96, 128) and one.dtype == np.uint8 and np.ptp(one) > 0 for one in pictures)
    assert (pictures[0] != pictures[1]).any()
    (maps / "notes.txt").write_text("mine")
    assert track(source, out, *arguments, "--max-frames", 1) == 0
    assert [path.name for path in maps.iterdir()] == ["notes.txt"]
    (maps / "notes.txt").unlink()
    maps.rmdir()
    maps.write_text("mine")
    assert track(source, out, *arguments, "--semantic") == 2
    assert "which is a file: remove it" in capsys.readouterr().err


@pytest.mark.slow
def test_detect(sam3_folder: Path, source: Path, tmp_path: Path) -> None:
    arguments = [
        "--device",
        "cpu",
        "--detector",
        f"sam3:{sam3_folder}",
        "--text",
        "red car",
        "--exemplar",
        "1:10,20,40,50",
    ]
    assert main(["detect", str(source), "--out", str(tmp_path / "found"), *arguments]) == 0
    found = json.loads((tmp_path / "found" / "detections.json").read_text())
    assert [image["id"] for image in found["images"]] == list(range(1, FRAMES + 1))
    assert [image["file_name"] for image in found["images"]][:1] == ["000001.png"]
    assert all(set(image["presence"]) == {"red car"} for image in found["images"])
    assert found["annotations"]
    assert all(one["segmentation"]["size"] == [96, 128] and one["score"] > 0.5 for one in found["annotations"])
    names = sorted(path.name for path in (tmp_path / "found" / "pictures").iterdir())
    assert names == [f"{number:06d}.jpg" for number in range(1, FRAMES + 1)]
    drawn = cv2.imread(str(tmp_path / "found" / "pictures" / "000001.jpg"))
    assert drawn.shape == (96, 128, 3)
    original = cv2.imread(str(source / "000001.png")).astype(int)
    assert np.abs(drawn.astype(int) - original).max() > 60
    # track reads it back
    detections = ["--detections", str(tmp_path / "found" / "detections.json")]
    assert track(source, tmp_path / "run", *detections, "--set", "track_activation_threshold=0.3") == 0
    assert result(tmp_path / "run")["annotations"]


@pytest.mark.slow
def test_detect_with_other_detectors(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """nanodet is the default; classes and scores are chosen as by track."""
    out = tmp_path / "found"
    (out / "pictures").mkdir(parents=True)
    (out / "pictures" / "000099.jpg").write_bytes(b"of somebody")
    assert main(["detect", str(source), "--out", str(out)]) == 2
    assert "no results of detect" in capsys.readouterr().err
    assert (out / "pictures" / "000099.jpg").exists()
    (out / "detections.json").write_text("{}")  # now it is of an earlier run
    assert main(["detect", str(source), "--out", str(out), "--min-score", "0.05", "--classes", "all"]) == 0
    found = json.loads((out / "detections.json").read_text())
    assert len(found["images"]) == FRAMES
    assert all("presence" not in image for image in found["images"])
    assert all(one["score"] >= 0.05 for one in found["annotations"])
    assert "person" in {category["name"] for category in found["categories"]}
    assert not (out / "pictures" / "000099.jpg").exists()
    assert main(["detect", str(out / "pictures"), "--out", str(out)]) == 2
    assert "replace the pictures of SOURCE" in capsys.readouterr().err
    assert main(["detect", str(source / "000002.png"), "--out", str(tmp_path / "one"), "--no-pictures"]) == 0
    assert not (tmp_path / "one" / "pictures").exists()
    assert len(json.loads((tmp_path / "one" / "detections.json").read_text())["images"]) == 1


WRONG = {
    r"--exemplar needs --detector sam3": ["--detector", "nanodet", "--exemplar", "1:1,2,3,4"],
    r"--truncate needs --detector sam3": ["--truncate"],
    r"--identities needs --detector sam3": ["--identities", "both"],
    r'add --text, e\.g\. --text "a red car", or --exemplar': ["--detector", "sam3"],
    r"--exemplar must be FRAME:x1,y1,x2,y2": ["--detector", "sam3", "--exemplar", "1:4,3,2,1"],
    r"--negative-exemplar must be FRAME": ["--detector", "sam3", "--text", "a dog", "--negative-exemplar", "0:1,2,3,4"],
    r"--exemplar must be FRAME:x1": ["--detector", "sam3", "--exemplar", "1,2,3,4"],
    r"phrase of an exemplar.*known are a dog": [
        "--detector",
        "sam3",
        "--text",
        "a dog",
        "--exemplar",
        "1:1,2,3,4@a cat",
    ],
    r"makes masks itself": ["--detector", "sam3", "--text", "a dog", "--masklets", "flow"],
    r"--nms is for --identities masa": ["--detector", "sam3", "--text", "a dog", "--nms", "0.5"],
    r"option of --identities.*did you mean 'birth_score'": [
        *("--detector", "sam3", "--text", "a dog", "--set", "birth_scores=0.5"),
    ],
    r"--semantic needs --detector sam3": ["--semantic"],
    r"--semantic is for --identities sam3 and both": [
        *("--detector", "sam3", "--text", "a dog", "--identities", "masa", "--semantic"),
    ],
    r"--rotate needs --identities masa": ["--detector", "sam3", "--text", "a dog", "--rotate", "1h"],
    r"--resume with --identities masa needs a run without exemplars": [
        *("--detector", "sam3", "--exemplar", "1:1,2,3,4", "--identities", "masa", "--resume"),
    ],
    r"no such folder: nowhere": ["--detector", "sam3:nowhere", "--text", "a dog"],
    r"exclude each other": ["--detector", "sam3", "--detections", "a.txt"],
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_options(message: str, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Before anything is loaded or written."""
    assert track(source, tmp_path / "run", *WRONG[message]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "run").exists()


def test_a_cpu_must_be_asked_for(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    for command in ("track", "detect"):
        arguments = [command, str(source), "--out", str(tmp_path / "run"), "--detector", "sam3", "--text", "a dog"]
        assert main(arguments) == 2
        assert "only with --device cpu" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("device", [[], ["--device", "cpu"]])
def test_without_weights_the_first_message_says_how_to_obtain_them(
    device: list[str], source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Before a model is loaded, and before there is a folder of results."""
    pytest.importorskip("torch")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for command in ("track", "detect"):
        arguments = [command, str(source), "--out", str(tmp_path / "run"), "--detector", "sam3", "--text", "car"]
        assert main([*arguments, *device]) == 2
        said = capsys.readouterr().err
        assert re.search(
            r"sam3:FOLDER, with config\.json, tokenizer\.json, model\.safetensors of https://\S+/sam3 in", said
        )
        assert "accept the SAM License on that page. After `hf auth login` they are downloaded" in said
        assert "loading" not in said
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_exemplars_on_frames_that_are_not_read(
    sam3_folder: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for frame, options in ((FRAMES + 1, []), (2, ["--start", "3"]), (2, ["--stride", "2"])):
        arguments = ["--detector", f"sam3:{sam3_folder}", "--exemplar", f"{frame}:1,2,30,40", *options]
        assert track(source, tmp_path / "run", *arguments) == 2
        assert f"got frame {frame}" in capsys.readouterr().err


@pytest.mark.slow
def test_long_phrases(sam3_folder: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    arguments = ["--detector", f"sam3:{sam3_folder}", "--text", "red " * 31 + "car", "--identities", "masa"]
    assert track(source, tmp_path / "run", *arguments) == 2
    assert "at most 30 tokens, got 32" in capsys.readouterr().err
    assert track(source, tmp_path / "run", *arguments, "--truncate", "--max-frames", 1) == 0
