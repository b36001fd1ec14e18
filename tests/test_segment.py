"""`masa-track segment` and `masa-track vos`: whole commands with optical flow on small scenes."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from propagated_scenes import HEIGHT, WIDTH, iou, scene, walk

from masa_track.cli import segment
from masa_track.cli.main import main
from masa_track.evaluation.davis import evaluate_masks
from masa_track.formats.davis import MaskFolder, find_sequences, read_index_picture, write_index_picture
from masa_track.masks import decode_mask
from masa_track.pipeline import vos
from masa_track.runs.store import open_store

pytestmark = pytest.mark.slow  # together they take seconds

COUNT = 8
BOX = "1:1:15,17,51,53"  # of object 1 in frame 1
POINT = "2:4:117,78"  # on object 2 in frame 4


def write_images(folder: Path, count: int = COUNT, first: int = 1) -> Path:
    folder.mkdir(parents=True)
    for number in range(count):
        cv2.imwrite(str(folder / f"{number:05d}.png"), scene(number + first, walk(number + first))[0].picture)
    return folder


def numbers_of(number: int) -> np.ndarray:
    picture = np.zeros((HEIGHT, WIDTH), np.uint8)
    for identity, mask in scene(number, walk(number))[1].items():
        picture[mask] = identity
    return picture


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("scene") / "images")


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The state is kept after each frame."""
    monkeypatch.setattr(segment, "SNAPSHOT_SECONDS", 0.0)


def masks_of(folder: Path) -> dict[int, dict[int, np.ndarray]]:
    """Masks by frame and identity, of tracks.json."""
    held = json.loads((folder / "tracks.json").read_text())
    frames = {image["id"]: int(Path(image["file_name"]).stem) + 1 for image in held["images"]}
    found: dict[int, dict[int, np.ndarray]] = {number: {} for number in frames.values()}
    for row in held["annotations"]:
        rle = row["segmentation"]
        identity = row.get("instance_id", row.get("track_id"))
        found[frames[row["image_id"]]][identity] = decode_mask({**rle, "counts": rle["counts"].encode()})
    return found


def same(first: Path, second: Path) -> bool:
    one, other = masks_of(first), masks_of(second)
    return one.keys() == other.keys() and all(
        one[n].keys() == other[n].keys() and all(np.array_equal(one[n][i], other[n][i]) for i in one[n]) for n in one
    )


def run(images: Path, out: Path, *options: str) -> int:
    return main(["segment", str(images), "--out", str(out), *options])


def test_a_run_has_what_track_makes(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(images, tmp_path / "run", "--box", BOX, "--point", POINT) == 0
    said = capsys.readouterr().out
    assert "8 frames, 2 identities" in said
    names = {file.name for file in (tmp_path / "run").iterdir()}
    assert {"tracks.json", "tracks.txt", "tracks.csv", "video.mp4", "report.html", "run.sqlite"} <= names
    masks = masks_of(tmp_path / "run")
    assert [sorted(masks[number]) for number in range(1, COUNT + 1)] == [[1]] * 3 + [[1, 2]] * 5
    for number in range(1, COUNT + 1):
        for identity, mask in masks[number].items():
            assert iou(mask, scene(number, walk(number))[1][identity]) > 0.7
    with open_store(tmp_path / "run") as store:
        assert [entry["id"] for entry in store.info.recipe["prompts"]] == [1, 2]
        assert store.info.finished == "whole"


def test_reverse_fills_the_frames_before_a_prompt(images: Path, tmp_path: Path) -> None:
    assert run(images, tmp_path / "run", "--point", "2:6:113,78", "--reverse", "--no-video") == 0
    masks = masks_of(tmp_path / "run")
    for number in range(1, COUNT + 1):
        assert iou(masks[number][2], scene(number, walk(number))[1][2]) > 0.7
    assert run(images, tmp_path / "part", "--point", "2:6:113,78", "--reverse", "--no-video", "--start", "4") == 0
    assert sorted(masks_of(tmp_path / "part")) == [4, 5, 6, 7, 8]


def test_candidates_are_written(images: Path, tmp_path: Path) -> None:
    assert run(images, tmp_path / "run", "--point", POINT, "--candidates", "--no-video", "--end", "5") == 0
    written = sorted(file.name for file in (tmp_path / "run" / "candidates").iterdir())
    assert written[0] == "object-2_frame-000004_1.png"
    assert len(written) > 1
    best = read_index_picture(tmp_path / "run" / "candidates" / written[0]) == 1
    assert iou(best, masks_of(tmp_path / "run")[4][2]) > 0.95


@pytest.mark.slow
def test_further_prompts_make_frames_from_the_first_changed_one(
    images: Path, tmp_path: Path, often: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from masa_track.masklets.flow import FlowPropagator

    assert run(images, tmp_path / "run", "--box", BOX) == 0
    proposed: list[int] = []
    propose = FlowPropagator.propose

    def counted(self: Any, frame: Any, features: Any = None) -> Any:
        proposed.append(frame.number)
        return propose(self, frame, features)

    monkeypatch.setattr(FlowPropagator, "propose", counted)
    assert run(images, tmp_path / "run", "--resume", "--point", "2:6:113,78") == 0
    assert proposed == [6, 7, 8]
    assert run(images, tmp_path / "whole", "--box", BOX, "--point", "2:6:113,78") == 0
    assert same(tmp_path / "run", tmp_path / "whole")
    with open_store(tmp_path / "run") as one, open_store(tmp_path / "whole") as other:
        assert one.info.recipe == other.info.recipe, "the record has the further prompts"
        assert one.count() == COUNT
    capture = cv2.VideoCapture(str(tmp_path / "run" / "video.mp4"))
    assert sum(1 for _ in iter(lambda: capture.read()[0], False)) == COUNT
    proposed.clear()
    assert run(images, tmp_path / "run", "--resume", "--box", BOX) == 0
    assert proposed == [], "the same prompts change nothing"


@pytest.mark.slow
def test_a_changed_first_prompt_with_reverse_makes_all_frames(images: Path, tmp_path: Path, often: None) -> None:
    assert run(images, tmp_path / "run", "--box", BOX, "--reverse", "--no-video") == 0
    assert run(images, tmp_path / "run", "--resume", "--point", POINT, "--reverse", "--no-video") == 0
    assert run(images, tmp_path / "whole", "--box", BOX, "--point", POINT, "--reverse", "--no-video") == 0
    assert sorted(masks_of(tmp_path / "run")[1]) == [1, 2]
    assert same(tmp_path / "run", tmp_path / "whole")


def test_what_cannot_go_on(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(images, tmp_path / "run", "--box", BOX, "--no-video", "--end", "3") == 0
    assert run(images, tmp_path / "run", "--resume", "--reverse", "--no-video") == 2
    assert "--reverse was False, is True" in capsys.readouterr().err
    other = write_images(tmp_path / "other", 3)
    assert run(other, tmp_path / "run", "--resume", "--no-video") == 2
    assert "SOURCE was" in capsys.readouterr().err
    with open_store(tmp_path / "run", write=True) as store:
        del store.info.recipe["prompts"]
        store.finish("whole")
    assert run(images, tmp_path / "run", "--resume", "--no-video") == 2
    assert "holds no run of `masa-track segment`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "no object is prompted"),
        (["--box", "1:9:1,1,9,9"], "there is no frame 9 among frames 1 to 8"),
        (["--box", "1:1:1,1,9,9", "--start", "2"], "there is no frame 1 among frames 2 to 8"),
        (["--box", BOX, "--masklets", "flo"], "did you mean 'flow'"),
        (["--point", "1:1:5,5", "--point", "1:1:5,5,-"], "both positive and negative"),
        (["--box", BOX, "--end", "2", "--start", "3"], "--end must not be before --start"),
    ],
)
def test_bad_input_is_refused_before_any_work(
    options: list[str], message: str, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(images, tmp_path / "run", *options) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_stop_in_the_pass_backwards_writes_nothing(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from masa_track.masklets.flow import FlowPropagator

    propose, proposed = FlowPropagator.propose, []

    def interrupted(self: Any, frame: Any, features: Any = None) -> Any:
        proposed.append(frame.number)
        os.kill(os.getpid(), signal.SIGINT)
        return propose(self, frame, features)

    monkeypatch.setattr(FlowPropagator, "propose", interrupted)
    assert run(images, tmp_path / "run", "--point", "2:6:113,78", "--reverse") == 130
    assert len(proposed) == 1
    assert list((tmp_path / "run").iterdir()) == []


def test_a_first_box_that_is_changed_makes_all_anew(images: Path, tmp_path: Path) -> None:
    assert run(images, tmp_path / "run", "--box", "1:1:60,30,90,50", "--end", "4") == 0
    assert run(images, tmp_path / "run", "--box", BOX, "--end", "4", "--resume") == 0
    assert run(images, tmp_path / "whole", "--box", BOX, "--end", "4") == 0
    assert same(tmp_path / "run", tmp_path / "whole")


def test_a_prompted_frame_that_cannot_be_read_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = write_images(tmp_path / "images", 5)
    (images / "00002.png").write_bytes(b"no picture")
    assert run(images, tmp_path / "run", "--box", BOX, "--point", "2:3:119,78", "--no-video") == 1
    assert "frame 3 could not be read: its prompts of object 2 had no effect" in capsys.readouterr().err


# ---- vos


@pytest.fixture(scope="module")
def davis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sequences in DAVIS' folders, with the masks of all frames."""
    root = tmp_path_factory.mktemp("davis")
    for name, first in (("one", 1), ("two", 5)):
        write_images(root / "JPEGImages" / "480p" / name, 5, first)
        masks = root / "Annotations" / "480p" / name
        masks.mkdir(parents=True)
        for number in range(5):
            write_index_picture(masks / f"{number:05d}.png", numbers_of(number + first))
    (root / "flat").mkdir()
    for name in ("JPEGImages", "Annotations"):  # without the folder of the resolution
        (root / "flat" / name).symlink_to(root / name / "480p")
    return root


def vos_of(root: Path, out: Path, *options: str, layout: str = "davis") -> int:
    return main(["vos", str(root), "--layout", layout, "--out", str(out), *options])


def test_vos_writes_all_frames_and_eval_scores_them(
    davis: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert vos_of(davis, tmp_path / "out") == 0
    assert "masa-track eval" in capsys.readouterr().out
    for name, first in (("one", 1), ("two", 5)):
        files = sorted(file.name for file in (tmp_path / "out" / name).iterdir())
        assert files == [f"{number:05d}.png" for number in range(5)]
        shown = read_index_picture(tmp_path / "out" / name / "00000.png")
        assert np.array_equal(shown, numbers_of(first)), "the first masks are as given"
    evaluation = evaluate_masks(davis / "Annotations" / "480p", tmp_path / "out")
    assert len(evaluation.objects) == 4
    assert evaluation.jf() > 0.8


def test_vos_with_refined_masks(davis: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first mask stays as it was given, and a folder made without the option is not gone on with."""
    assert vos_of(davis, tmp_path / "out", "--refine-masks", "--sequences", "one") == 0
    shown = [read_index_picture(tmp_path / "out" / "one" / f"{number:05d}.png") for number in (0, 4)]
    assert np.array_equal(shown[0], numbers_of(1))
    assert (shown[1] == numbers_of(5)).mean() > 0.97
    assert vos_of(davis, tmp_path / "out") == 2
    assert "refine_masks" in capsys.readouterr().err


def test_vos_goes_on_with_the_sequences_that_are_missing(
    davis: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write = vos.write_index_picture
    written: list[Path] = []

    def stop_within_two(path: Path, numbers: np.ndarray) -> None:
        written.append(path)
        if len(written) == 8:
            raise KeyboardInterrupt
        write(path, numbers)

    monkeypatch.setattr(vos, "write_index_picture", stop_within_two)
    assert vos_of(davis, tmp_path / "out") == 130
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["one", "vos.json"]
    assert vos_of(davis, tmp_path / "out") == 0
    assert len(written) == 8 + 5, "one sequence is made again, the other one is not"
    assert "1 of 2 sequences are there already" in capsys.readouterr().err
    assert vos_of(davis, tmp_path / "out", layout="mose") == 2
    (tmp_path / "foreign" / "one").mkdir(parents=True)
    assert vos_of(davis, tmp_path / "foreign") == 2
    assert "which masa-track vos has not made" in capsys.readouterr().err


def test_vos_prompts_later_objects_in_their_first_frame(tmp_path: Path) -> None:
    """YouTube-VOS gives a mask where an object comes in; SA-V has a folder for each object."""
    write_images(tmp_path / "yt" / "JPEGImages" / "a", 5)
    masks = tmp_path / "yt" / "Annotations" / "a"
    masks.mkdir(parents=True)
    first, later = numbers_of(1), numbers_of(3)
    write_index_picture(masks / "00000.png", np.where(first == 1, 1, 0))
    write_index_picture(masks / "00002.png", np.where(later == 2, 2, 0))
    assert vos_of(tmp_path / "yt", tmp_path / "out", layout="ytvos") == 0
    shown = [read_index_picture(tmp_path / "out" / "a" / f"{number:05d}.png") for number in range(5)]
    assert [2 in picture for picture in shown] == [False, False, True, True, True]
    assert iou(shown[4] == 1, numbers_of(5) == 1) > 0.8
    assert iou(shown[4] == 2, numbers_of(5) == 2) > 0.8

    (tmp_path / "yt" / "JPEGImages").rename(tmp_path / "yt" / "JPEGImages_24fps")
    sav = tmp_path / "yt" / "Annotations_6fps" / "a"
    for identity in (1, 2):
        (sav / f"{identity - 1:03d}").mkdir(parents=True)
        for number in (0, 4):
            picture = (numbers_of(number + 1) == identity).astype(np.uint8)
            write_index_picture(sav / f"{identity - 1:03d}" / f"{number:05d}.png", picture)
    assert vos_of(tmp_path / "yt", tmp_path / "sav", layout="sav") == 0
    made = MaskFolder(tmp_path / "sav" / "a")
    assert (made.per_object, made.objects, len(made.names)) == (True, [0, 1], 5)
    assert iou(made.masks("00004")[0], numbers_of(5) == 1) > 0.8


def test_masks_after_the_first_are_no_prompts(davis: Path) -> None:
    """DAVIS and the training sets have masks of all frames."""
    for layout in ("davis", "ytvos"):
        clip = vos.open_clip(find_sequences(davis if layout == "davis" else davis / "flat", layout, ["one"])[0], layout)
        assert {number: sorted(given) for number, given in clip.prompts.items()} == {1: [1, 2]}


def test_vos_refuses_data_that_does_not_fit(davis: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_images(tmp_path / "JPEGImages" / "a", 3)
    masks = tmp_path / "Annotations" / "a"
    masks.mkdir(parents=True)
    write_index_picture(masks / "00001.png", numbers_of(2))
    assert vos_of(tmp_path, tmp_path / "out", layout="mose") == 2
    assert "has no 00000.png, the mask of the first frame" in capsys.readouterr().err
    write_index_picture(masks / "00000.png", np.ones((4, 4), np.uint8))
    assert vos_of(tmp_path, tmp_path / "out", layout="mose") == 2
    assert "00000.png has 4 x 4 pixels, its picture 160 x 112" in capsys.readouterr().err
    write_index_picture(masks / "00000.png", np.zeros((HEIGHT, WIDTH), np.uint8))
    assert vos_of(tmp_path, tmp_path / "out", layout="mose") == 2
    assert "shows no object" in capsys.readouterr().err
    write_index_picture(masks / "00009.png", numbers_of(1))
    assert vos_of(tmp_path, tmp_path / "out", layout="mose") == 2
    assert "has masks of 1 frames that have no picture" in capsys.readouterr().err
    assert vos_of(davis, davis / "Annotations") == 2
    assert "holds pictures or masks that are read" in capsys.readouterr().err


def test_interactive_clicks_raise_the_score(davis: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert vos_of(davis, tmp_path / "out", "--interactive", "3", "--sequences", "one") == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["clicks", "1", "2", "3"]
    scores = json.loads((tmp_path / "out" / "interactive.json").read_text())["one"]
    assert len(scores) == 3
    assert scores[-1] > 0.7
    assert max(scores[1:]) >= scores[0]


def test_the_click_is_in_the_middle_of_the_largest_error() -> None:
    truth, mask = np.zeros((30, 40), bool), np.zeros((30, 40), bool)
    truth[5:16, 5:16] = True
    mask[5:16, 5:8] = True  # lacks 8 columns
    mask[20:25, 30:35] = True  # 25 pixels too many
    area, click = vos.largest_error(mask, truth)
    assert area == 88
    assert click is not None
    assert (11 <= click[0] <= 12, 8 <= click[1] <= 12, click[2]) == (True, True, True)
    mask[5:16, 5:16] = True
    assert vos.largest_error(mask, truth) == (25, (32.0, 22.0, False))
    assert vos.largest_error(truth, truth) == (0, None)
