"""The command as a user runs it: what `track` and `demo` write, what they refuse, how they end early."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from masa_track.cli.main import main

WIDTH, HEIGHT, FRAMES, THINGS = 160, 120, 24, 3
RESULTS = ["report.html", "run.sqlite", "tracks.csv", "tracks.json", "tracks.txt", "video.mp4"]


def made_clip(folder: Path, frames: int = FRAMES) -> Path:
    """A sequence folder of textured patches that walk and cross, with their true boxes in gt/gt.txt."""
    rng = np.random.default_rng(0)
    patches = [np.kron(rng.integers(0, 255, (n, n, 3)), np.ones((36 // n, 36 // n, 1))) for n in (2, 6, 18)]
    (folder / "img1").mkdir(parents=True)
    (folder / "gt").mkdir()
    rows = []
    for index in range(frames):
        picture = np.full((HEIGHT, WIDTH, 3), 127, np.uint8)
        for thing in range(THINGS):
            step = 4 * (19 - abs(19 - index % 38))  # to and fro
            x, y = (step, 120 - step, 60)[thing], (4, 42, 80)[thing]
            picture[y : y + 36, x : x + 36] = patches[thing][: HEIGHT - y, : WIDTH - x]
            rows.append(f"{index + 1},{thing + 1},{x + 1},{y + 1},36,36,1,-1,-1,-1")
        cv2.imwrite(str(folder / "img1" / f"{index + 1:06d}.png"), picture)
    (folder / "gt" / "gt.txt").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_clip(tmp_path_factory.mktemp("clips") / "walkers")


@pytest.fixture(scope="module")
def video(clip: Path) -> Path:
    """The same as an H.264 file."""
    path = clip.parent / "walkers.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for file in sorted((clip / "img1").iterdir()):
            picture = av.VideoFrame.from_ndarray(cv2.imread(str(file)), format="bgr24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def command(*arguments: object) -> subprocess.Popen:
    """The command in a process of its own, in which SIGHUP is not ignored, even if the tests run under nohup."""
    line = [sys.executable, "-m", "masa_track", *map(str, arguments)]
    return subprocess.Popen(
        line,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )


def rows_of(folder: Path) -> np.ndarray:
    return np.loadtxt(folder / "tracks.txt", delimiter=",", ndmin=2)


@pytest.mark.slow
def test_everything_is_written_and_right(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth, out = clip / "gt" / "gt.txt", tmp_path / "new" / "out"
    assert main(["track", str(clip), "--detections", str(truth), "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert f"{FRAMES} frames, {THINGS} identities" in said.out
    assert str(out / "report.html") in said.out
    assert f"{FRAMES}/{FRAMES}" in said.err  # the progress bar
    assert "tracks=3" in said.err
    assert sorted(os.listdir(out)) == RESULTS

    given, rows = np.loadtxt(truth, delimiter=","), rows_of(out)
    np.testing.assert_allclose(rows[:, [0, 2, 3, 4, 5]], given[:, [0, 2, 3, 4, 5]], atol=1e-2)
    pairs = set(zip(given[:, 1], rows[:, 1], strict=True))
    assert len(pairs) == THINGS  # each thing has one identity, and each identity one thing

    coco = json.loads((out / "tracks.json").read_text())
    assert len(coco["images"]) == FRAMES
    assert len(coco["annotations"]) == len(rows)
    assert coco["images"][3]["file_name"] == "000004.png"
    with open(out / "tracks.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == len(rows)
    with av.open(str(out / "video.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert sum(1 for _ in container.decode(video=0)) == FRAMES
    assert "nano" in (out / "report.html").read_text()

    capsys.readouterr()
    assert main(["eval", str(clip), str(out), "--json", str(tmp_path / "scores.json")]) == 0
    assert json.loads((tmp_path / "scores.json").read_text())["combined"]["idf1"] == 1.0


@pytest.mark.slow
def test_stride_and_max_frames_keep_the_original_numbers(clip: Path, tmp_path: Path) -> None:
    truth = str(clip / "gt" / "gt.txt")
    options = ["--detections", truth, "--out", str(tmp_path), "--stride", "5", "--max-frames", "4", "--no-video"]
    assert main(["track", str(clip), *options]) == 0
    assert sorted(set(rows_of(tmp_path)[:, 0])) == [1, 6, 11, 16]
    images = json.loads((tmp_path / "tracks.json").read_text())["images"]
    assert [image["frame_id"] for image in images] == [0, 5, 10, 15]
    assert "video.mp4" not in os.listdir(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["default", "appearance", "tao", "bdd", "demo"])
def test_every_preset(preset: str, clip: Path, tmp_path: Path) -> None:
    truth = str(clip / "gt" / "gt.txt")
    options = ["--detections", truth, "--preset", preset, "--out", str(tmp_path), "--no-video", "--max-frames", "3"]
    assert main(["track", str(clip), *options]) == 0
    ids = rows_of(tmp_path)[:, 1].reshape(3, THINGS).tolist()
    assert ids == [ids[0]] * 3


@pytest.mark.slow
def test_every_kind_of_source(clip: Path, video: Path, tmp_path: Path) -> None:
    truth = str(clip / "gt" / "gt.txt")
    found = []
    for name, source in {"folder": clip / "img1", "glob": f"{clip}/img1/*.png", "video": video}.items():
        out = tmp_path / name
        options = ["--detections", truth, "--out", str(out), "--no-video", "--max-frames", "5"]
        assert main(["track", str(source), *options]) == 0
        found.append(rows_of(out)[:, :2])
    assert len(found[0]) == 5 * THINGS
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


@pytest.mark.slow
def test_options_reach_the_association(clip: Path, tmp_path: Path) -> None:
    truth = str(clip / "gt" / "gt.txt")
    options = ["--detections", truth, "--set", "first_id=500", "--set", "views=3", "--no-video"]
    assert main(["track", str(clip), *options, "--max-frames", "2", "--out", str(tmp_path)]) == 0
    assert rows_of(tmp_path)[:, 1].min() == 500
    assert "option views" in (tmp_path / "report.html").read_text()


@pytest.mark.slow
def test_motion_detector(clip: Path, tmp_path: Path) -> None:
    assert main(["track", str(clip), "--detector", "motion", "--out", str(tmp_path), "--no-video"]) == 0
    assert len(rows_of(tmp_path)) > 10


@pytest.mark.slow
def test_a_broken_frame_is_reported_and_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = made_clip(tmp_path / "clip", 8)
    (clip / "img1" / "000004.png").write_bytes(b"no picture")
    options = ["--detections", str(clip / "gt" / "gt.txt"), "--out", str(tmp_path / "out")]
    assert main(["track", str(clip), *options]) == 0
    said = capsys.readouterr()
    assert "frame 4 skipped" in said.err
    assert "7 frames, 3 identities" in said.out
    assert "1 frames skipped" in said.out
    assert sorted(set(rows_of(tmp_path / "out")[:, 0])) == [1, 2, 3, 5, 6, 7, 8]
    assert "4: " in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.slow
def test_an_error_in_the_middle_leaves_what_was_done(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A detector that dies takes the night's run with it, but not the night's results."""
    from masa_track.detectors.motion import MotionDetector

    detect, calls = MotionDetector.detect, []

    def dies(self: MotionDetector, *args: object) -> object:
        calls.append(1)
        if len(calls) == 15:
            raise RuntimeError("out of memory")
        return detect(self, *args)

    monkeypatch.setattr(MotionDetector, "detect", dies)
    assert main(["track", str(clip), "--detector", "motion", "--out", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "RuntimeError: out of memory" in said
    assert "This is a fault of masa-track" in said.splitlines()[-1]
    assert "Reporting a fault" in said.splitlines()[-1]
    assert sorted(os.listdir(tmp_path)) == RESULTS
    assert len(json.loads((tmp_path / "tracks.json").read_text())["images"]) == 14
    with av.open(str(tmp_path / "video.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 14


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_leaves_whole_files(number: signal.Signals, tmp_path: Path) -> None:
    clip = made_clip(tmp_path / "long", 300)
    out, lines = tmp_path / "out", tmp_path / "lines.jsonl"
    process = command("track", clip, "--detections", clip / "gt" / "gt.txt", "--out", out, "--jsonl", lines)
    for _ in range(600):
        if lines.exists() and lines.stat().st_size > 0:
            break
        time.sleep(0.1)
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in said
    assert sorted(os.listdir(out)) == RESULTS
    done = len(json.loads((out / "tracks.json").read_text())["images"])
    assert 0 < done < 300
    assert set(rows_of(out)[:, 0]) == set(range(1, done + 1))
    with av.open(str(out / "video.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == done
    assert (out / "report.html").read_text().rstrip().endswith("</html>")


def change(path: Path, **lines: str) -> str:
    """The truth with some lines replaced: line_3="..."."""
    text = path.read_text().splitlines()
    for name, line in lines.items():
        text[int(name.removeprefix("line_")) - 1] = line
    return "\n".join(text) + "\n"


BAD: dict[str, tuple[Callable[[Path], list[str]], str]] = {
    "no such file": (lambda c: ["nowhere.mp4"], "nowhere.mp4.*there is no such file"),
    "not a video": (lambda c: [str(c / "gt" / "gt.txt")], "gt.txt"),
    "no detections file": (lambda c: [str(c), "--detections", "none.txt"], "none.txt.*cannot be read"),
    "model": (lambda c: [str(c), "--model", "nanno"], "unknown model 'nanno': did you mean 'nano'"),
    "preset": (lambda c: [str(c), "--preset", "toa"], "unknown preset 'toa': did you mean 'tao'"),
    "option": (lambda c: [str(c), "--set", "memory_second=3"], "did you mean 'memory_seconds'"),
    "option value": (lambda c: [str(c), "--set", "memory_seconds=long"], "memory_seconds must be a finite number"),
    "no value": (lambda c: [str(c), "--set", "memory_seconds"], "OPTION=VALUE"),
    "detector": (lambda c: [str(c), "--detector", "motoin"], "unknown detector 'motoin': did you mean 'motion'"),
    "stride": (lambda c: [str(c), "--stride", "0"], "--stride must be 1 or more, got 0"),
    "max frames": (lambda c: [str(c), "--max-frames", "-1"], "--max-frames must be 1 or more"),
    "device": (lambda c: [str(c), "--device", "gpu"], "device 'gpu' cannot be used here"),
    "checkpoint": (lambda c: [str(c), "--checkpoint", "w.safetensors"], "no such checkpoint: w.safetensors"),
}


def refused(arguments: list[str], clip: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What the command says when it refuses; asserts that it does, and that nothing is left."""
    if not {"--detections", "--detector"} & set(arguments):
        arguments = [*arguments, "--detections", str(clip / "gt" / "gt.txt")]
    assert main(["track", *arguments, "--out", str(out)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert not out.exists()
    error = said.err.removeprefix(f"loading model {_value_of('--model', arguments)}")
    error = error.removeprefix(f" on {_value_of('--device', arguments)}").removeprefix("\n")
    assert error.startswith("masa-track track: error: ")
    return error


def _value_of(option: str, arguments: list[str]) -> str:
    return arguments[arguments.index(option) + 1] if option in arguments else "nano"


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case: str, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import re

    arguments, message = BAD[case]
    assert re.search(message, refused(arguments(clip), clip, tmp_path / "out", capsys))


BAD_ROWS = {
    "NaN": ("3,1,nan,1,36,36,1,-1,-1,-1", "line 3.*NaN"),
    "inverted": ("3,1,9,9,-36,36,1,-1,-1,-1", "line 3.*width and height must be above 0"),
    "no number": ("3,1,left,1,36,36,1,-1,-1,-1", "line 3"),
    "frame 0": ("0,1,9,9,36,36,1,-1,-1,-1", "line 3.*frame"),
    "too few": ("3,1,9", "line 3"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_bad_rows(case: str, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import re

    row, message = BAD_ROWS[case]
    wrong = tmp_path / "wrong.txt"
    wrong.write_text(change(clip / "gt" / "gt.txt", line_3=row))
    said = refused([str(clip), "--detections", str(wrong)], clip, tmp_path / "out", capsys)
    assert re.search(message, said)
    assert "wrong.txt" in said


def test_boxes_of_another_video(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = np.loadtxt(clip / "gt" / "gt.txt", delimiter=",")
    later, larger = rows.copy(), rows.copy()
    later[:, 0] += 900
    larger[:, 2:6] *= 6
    for changed, message in ((later, "901"), (larger, "160")):
        np.savetxt(tmp_path / "other.txt", changed, delimiter=",", fmt="%g")
        said = refused([str(clip), "--detections", str(tmp_path / "other.txt")], clip, tmp_path / "out", capsys)
        assert message in said


def test_folder_that_cannot_be_written(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("x")
    truth = str(clip / "gt" / "gt.txt")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        assert main(["track", str(clip), "--detections", truth, "--out", str(out)]) == 2
        assert "--out" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "x"


@pytest.mark.slow
def test_the_models_own_boxes(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    options = ["--no-video", "--max-frames", "2", "--detector", "own"]
    assert main(["track", str(clip), "--out", str(out), *options]) == 0
    assert "detector own" in (out / "report.html").read_text()
    assert len(np.loadtxt(out / "tracks.txt", delimiter=",", ndmin=2)) > 0
    assert main(["track", str(clip), "--model", "nano-untrained", "--out", str(tmp_path / "none"), *options]) == 2
    assert "'nano-untrained' finds no boxes itself" in capsys.readouterr().err


@pytest.mark.slow
def test_the_default_detector_names_what_it_finds(tmp_path: Path) -> None:
    """The same picture four times: a man, a cyclist and cars. The names are COCO's in all files and in the report."""
    picture = cv2.imread(str(Path(__file__).parent / "goldens" / "nanodet" / "scene.png"))
    (tmp_path / "frames").mkdir()
    for number in range(4):
        cv2.imwrite(str(tmp_path / "frames" / f"{number}.png"), picture)
    out, options = tmp_path / "out", ["--color-by", "class", "--set", "track_activation_threshold=0.5"]
    assert main(["track", str(tmp_path / "frames"), "--out", str(out), *options]) == 0
    report = (out / "report.html").read_text()
    assert "detector nanodet" in report
    assert "person" in report
    assert "car" in report
    with (out / "tracks.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["class_id"], row["class_name"]) for row in rows} == {("0", "person"), ("2", "car")}
    content = json.loads((out / "tracks.json").read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    assert {names[row["category_id"]] for row in content["annotations"]} == {"person", "car"}
    people = ["--classes", " person", "--no-video", "--out", str(tmp_path / "people")]
    assert main(["track", str(tmp_path / "frames"), *people]) == 0
    with (tmp_path / "people" / "tracks.csv").open() as file:
        assert {row["class_name"] for row in csv.DictReader(file)} == {"person"}


@pytest.mark.slow
def test_nothing_of_cocos_classes(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Patches of noise are none of its classes; `test_pipeline.py` has what is said during a run."""
    command = ["track", str(clip), "--no-video", "--set", "use_appearance=False", "--max-frames", "2"]
    assert main([*command, "--classes", "giraffe", "--out", str(tmp_path / "out")]) == 0
    assert "no box of the detector's classes scores above 0.7" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--classes", "dgo"], "unknown class 'dgo': did you mean 'dog'"),
        (["--classes", ""], "unknown class ''"),
        (["--classes", "dog", "--detector", "motion"], "unknown class 'dog': known are moving"),
        (["--classes", "dog", "--detector", "own"], "unknown class 'dog': known are object"),
        (["--classes", "dog", "--detections", "GT"], "the boxes have no class names: give class numbers"),
        (["--min-score", "1.5"], "--min-score must be a number from 0 to 1, got 1.5"),
        (["--line-width", "0"], "line_width must be 1 to 1000 pixels, got 0"),
        (["--line-width", "40000"], "line_width must be 1 to 1000 pixels, got 40000"),
        (["--save-frames", "SOURCE"], "--save-frames must name a new or an empty folder"),
        (["--show-fps", "--offline"], "--show-fps is for tracking without --offline"),
        (["--nms", "nan"], "--nms must be a number from 0 to 1, got nan"),
    ],
)
def test_options_that_are_refused(
    options: list[str], message: str, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"GT": str(clip / "gt" / "gt.txt"), "SOURCE": str(clip / "img1")}
    options = [places.get(word, word) for word in options]
    assert main(["track", str(clip), "--out", str(tmp_path / "out"), *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_boxes_of_a_file_are_chosen_by_class_score_and_overlap(clip: Path, tmp_path: Path) -> None:
    """Two classes, each box a second time as the other class, and boxes of low scores."""
    boxes = []
    for row in np.loadtxt(clip / "gt" / "gt.txt", delimiter=","):
        kind = 1 if row[1] < 3 else 2
        box = {"image_id": int(row[0]), "bbox": [*(row[2:4] - 1), 36, 36], "category_id": kind, "score": 0.9}
        twin = {**box, "bbox": [*(row[2:4] - 2), 36, 36], "category_id": 3 - kind, "score": 0.8}
        boxes += [box, twin, {**box, "bbox": [*(row[2:4] + 9), 90, 90], "score": 0.2}]
    names = [{"id": 1, "name": "Duck"}, {"id": 2, "name": "goose"}]
    images = [{"id": i, "file_name": f"{i:06d}.png", "width": WIDTH, "height": HEIGHT} for i in range(1, FRAMES + 1)]
    file = tmp_path / "boxes.json"
    file.write_text(json.dumps({"images": images, "categories": names, "annotations": boxes}))
    base = ["track", str(clip), "--detections", str(file), "--no-video", "--set", "use_appearance=False"]

    def rows(*options: str) -> list[tuple[str, float]]:
        folder = tmp_path / "-".join(["out", *options])
        assert main([*base, *options, "--out", str(folder)]) == 0
        with (folder / "tracks.csv").open(newline="") as table:
            return [(row["class_name"], float(row["confidence"])) for row in csv.DictReader(table)]

    assert {name for name, _ in rows("--classes", "duck")} == {"Duck"}
    best = rows("--nms", "0.5", "--min-score", "0.3")
    assert {score for _, score in best} == {0.9}
    assert {name for name, _ in best} == {"Duck", "goose"}
    assert {score for _, score in rows("--min-score", "0.3")} == {0.8, 0.9}
    goose = rows("--classes", "2", "--nms", "0.5", "--min-score", "0.85")
    assert {name for name, _ in goose} == {"goose"}
    assert len(goose) >= FRAMES - 3


@pytest.mark.slow
@pytest.mark.parametrize("options", [["--show-fps", "--stride", "3"], ["--offline", "--stride", "3"]])
def test_drawn_frames_are_saved(options: list[str], clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """By their numbers in the video, with wide lines; the frames a second are in the corner of each."""
    base = ["track", str(clip), "--detections", str(clip / "gt" / "gt.txt"), "--no-video", *options]
    base += ["--set", "use_appearance=False", "--line-width", "8"]
    frames = tmp_path / "new" / "frames"
    assert main([*base, "--save-frames", str(frames), "--out", str(tmp_path / "out")]) == 0
    assert f"frames    {frames}" in capsys.readouterr().out
    assert sorted(os.listdir(frames)) == [f"{number:06d}.jpg" for number in range(1, FRAMES + 1, 3)]
    drawn = cv2.imread(str(frames / "000022.jpg"))
    plain = cv2.imread(str(clip / "img1" / "000022.png"))
    corner = drawn[:14, :40].astype(int)
    assert (corner.max() > 225 and (corner.sum(axis=2) < 90).mean() > 0.5) == ("--show-fps" in options)
    assert (np.abs(drawn.astype(int) - plain).max(axis=2) > 40).mean() > 0.15  # three boxes of 36 pixels a side
    assert main([*base, "--save-frames", str(frames), "--out", str(tmp_path / "out")]) == 2
    assert "must name a new or an empty folder" in capsys.readouterr().err


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["track"], ["eval"], ["demo"]):
        with pytest.raises(SystemExit) as stopped:
            main([*arguments, "--help"])
        assert stopped.value.code == 0
    said = capsys.readouterr().out
    for word in ("examples:", "report.html", "--stride", "Ctrl-C", "masa-track demo"):
        assert word in said


@pytest.mark.slow
def test_demo_on_its_real_clip(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first frames of it; the README's first command runs it whole."""
    out = tmp_path / "demo"
    assert main(["demo", "--max-frames", "30", "--out", str(out)]) == 0
    assert "30 frames" in capsys.readouterr().out
    assert sorted(os.listdir(out)) == RESULTS
    assert len(rows_of(out)) > 5
    with av.open(str(out / "video.mp4")) as container:
        assert (container.streams.video[0].width, container.streams.video[0].height) == (640, 272)


@pytest.mark.slow
def test_classes_of_a_group_become_each_other(tmp_path: Path) -> None:
    """One object that the detector calls a car at first and a truck later; beside it a person."""
    import json

    import cv2

    (tmp_path / "frames").mkdir()
    images, annotations = [], []
    for k in range(12):
        cv2.imwrite(str(tmp_path / "frames" / f"{k:02d}.png"), np.full((120, 160, 3), 90, np.uint8))
        images.append({"id": k, "file_name": f"{k:02d}.png", "width": 160, "height": 120})
        for label, left in ((1 + k // 6, 10 + k), (3, 100)):
            row = {"image_id": k, "category_id": label, "bbox": [left, 30, 40, 50], "score": 0.95}
            annotations.append({"id": len(annotations), **row})
    names = [{"id": 1, "name": "car"}, {"id": 2, "name": "truck"}, {"id": 3, "name": "person"}]
    given = tmp_path / "boxes.json"
    given.write_text(json.dumps({"images": images, "annotations": annotations, "categories": names}))
    found = {}
    for groups in ("car,truck;person", "car;truck;person"):
        out = tmp_path / groups
        command = ["track", str(tmp_path / "frames"), "--detections", str(given), "--out", str(out), "--no-video"]
        assert main([*command, "--class-groups", groups]) == 0
        rows = json.loads((out / "tracks.json").read_text())["annotations"]
        found[groups] = len({row["track_id"] for row in rows})
    assert found == {"car,truck;person": 2, "car;truck;person": 3}


@pytest.mark.slow
def test_filtered_boxes_lost_tracks_and_a_known_number(clip: Path, tmp_path: Path) -> None:
    """The boxes of one thing are missing in the last frames; boxes jitter; three things are two identities at most."""
    rng, lines = np.random.default_rng(0), []
    for line in (clip / "gt" / "gt.txt").read_text().splitlines():
        frame, thing, *box = line.split(",")
        if thing != "3" or int(frame) <= 14:
            places = [float(value) + rng.normal(0, 2) for value in box[:4]]
            lines.append(",".join([frame, "-1", *map(str, places), "0.95", "-1", "-1", "-1"]))
    (tmp_path / "det.txt").write_text("\n".join(lines) + "\n")
    common = ["track", str(clip), "--detections", str(tmp_path / "det.txt"), "--set", "use_appearance=False"]
    runs = {"plain": [], "filtered": ["--filter-boxes"], "lost": ["--show-lost"], "two": ["--max-identities", "2"]}
    for name, options in runs.items():
        assert main([*common, *options, "--out", str(tmp_path / name)]) == 0
    plain, filtered = rows_of(tmp_path / "plain"), rows_of(tmp_path / "filtered")
    np.testing.assert_array_equal(plain[:, :2], filtered[:, :2])
    sizes = [each[each[:, 0] > 8, 4].std() for each in (plain, filtered)]  # the true width is 36 throughout
    assert sizes[1] < 0.8 * sizes[0]
    assert len(np.unique(rows_of(tmp_path / "two")[:, 1])) == 2
    videos = [list(av.open(str(tmp_path / name / "video.mp4")).decode(video=0)) for name in ("plain", "lost")]
    for at, dashed in ((8, False), (17, True)):  # the box of the lost thing is drawn
        one, two = (frames[at].to_ndarray(format="gray").astype(int) for frames in videos)
        assert ((np.abs(one - two) > 25).sum() > 10) == dashed
    for option in ("--filter-boxes", "--show-lost"):
        assert main([*common, "--offline", option, "--out", str(tmp_path / "refused")]) == 2
    assert main([*common, "--max-identities", "0", "--out", str(tmp_path / "refused")]) == 2
    assert not (tmp_path / "refused").exists()
