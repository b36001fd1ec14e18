"""`masa-track refer`: stored runs, files of tracks and bad input; referrers that look at the pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import supervision as sv

from masa_track.cli.main import main
from masa_track.contracts import Features, Frame, FrameResult, Observation
from masa_track.detectors.phrases import TextPrompt
from masa_track.errors import InputError
from masa_track.formats.mot import MotWriter
from masa_track.formats.tracks import TrackWriters
from masa_track.refer.answers import answers
from masa_track.refer.detected import LOWEST_SCORE, ConceptText, DetectorReferrer, open_referrer
from masa_track.refer.sources import read_scene
from masa_track.refer.watching import watch
from masa_track.runs.store import RunInfo, create_store
from masa_track.video.sources import open_source

SIZE = (160, 120)
COUNT = 30
RED, BLUE = (0, 0, 255), (255, 0, 0)


def boxes_at(number: int) -> sv.Detections:
    """Track 7 walks right, track 8 left; 8 is gone after frame 20."""
    rows = [(7, 10 + 4 * number, 20), (8, 110 - 4 * number, 70)]
    rows = [row for row in rows if row[0] == 7 or number <= 20]
    return sv.Detections(
        np.array([(x, y, x + 16, y + 30) for _, x, y in rows], np.float32),
        confidence=np.full(len(rows), 0.9, np.float32),
        class_id=np.zeros(len(rows), int),
        tracker_id=np.array([i for i, *_ in rows]),
    )


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Frames in which 7 is red and 8 blue."""
    folder = tmp_path / "street"
    folder.mkdir()
    for number in range(1, COUNT + 1):
        image = np.full((SIZE[1], SIZE[0], 3), 90, np.uint8)
        seen = boxes_at(number)
        for box, identity in zip(seen.xyxy.astype(int), seen.tracker_id.tolist(), strict=True):
            image[box[1] : box[3], max(box[0], 0) : box[2]] = RED if identity == 7 else BLUE
        cv2.imwrite(str(folder / f"{number:06d}.png"), image)
    return folder


def stored(folder: Path, source: str, camera: np.ndarray | None = None) -> Path:
    """The record of a run."""
    folder.mkdir()
    with create_store(folder / "run.sqlite", RunInfo(source, "street", SIZE, 10.0, {0: "person"})) as store:
        for number in range(1, COUNT + 1):
            seen = boxes_at(number)
            known = Observation(number, number / 10, SIZE, seen.xyxy, seen.confidence, seen.class_id, camera=camera)
            store.append(known, FrameResult(Frame(number, number / 10, SIZE, ""), seen, [], []))
    return folder


def asked(run: Path, *sentences: str, capsys: pytest.CaptureFixture[str], more: Sequence[str] = ()) -> list[object]:
    out = run.parent / "answers.json"
    assert main(["refer", "--run", str(run), *sentences, "--json", str(out), *more]) == 0, capsys.readouterr().err
    return [one["answer"] for one in json.loads(out.read_text())]


SENTENCES = ("the person walking left", "the first to leave", "the one who leaves last", "the leftmost one at the end")
ANSWERS = [8, 8, 8, 7]


def test_a_run_whose_video_is_gone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = stored(tmp_path / "run", str(tmp_path / "gone.mp4"))
    assert asked(run, *SENTENCES, "the dog", capsys=capsys) == [*ANSWERS, None]
    said = capsys.readouterr()
    assert "no track is of the class 'dog'; there are person" in said.out
    assert said.err == ""
    content = json.loads((tmp_path / "answers.json").read_text())[0]
    assert content == {
        "sentence": SENTENCES[0], "answer": 8, "score": 1.0, "margin": 1.0, "used": "grammar", "also": [], "note": "",
    }  # fmt: skip
    assert asked(run, "the red one", capsys=capsys, more=["--referrer", "owlv2"]) == [None]
    assert "the video of the run is gone, so the grammar answers alone" in capsys.readouterr().err


def test_files_of_tracks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same answers of run.sqlite, tracks.json, tracks.txt and a sequence with truth."""
    folder = tmp_path / "run"
    folder.mkdir()
    writers = TrackWriters(folder, "street", *SIZE, fps=10.0, class_names={0: "person"})
    sequence = tmp_path / "sequence" / "gt"
    sequence.mkdir(parents=True)
    truth = MotWriter(sequence / "gt.txt")
    for number in range(1, COUNT + 1):
        writers.write(number, f"{number:06d}.jpg", boxes_at(number))
        truth.write(number, "", boxes_at(number))
    writers.close()
    truth.close()
    (sequence.parent / "seqinfo.ini").write_text("[Sequence]\nimWidth=160\nimHeight=120\nframeRate=10\nseqLength=30\n")
    for path in (folder, folder / "tracks.json", folder / "tracks.txt", sequence.parent):
        assert asked(path, *SENTENCES, capsys=capsys) == ANSWERS, path


def test_classes_of_truth(tmp_path: Path) -> None:
    folder = tmp_path / "street" / "gt"
    folder.mkdir(parents=True)
    rows = [
        "1,1,10,10,5,5,1,3,1",
        "1,2,10,10,5,5,1,4,1",
        "1,3,10,10,5,5,1,4,1",
        "1,4,10,10,5,5,0,9,1",
        "2,1,9,9,5,5,0,3,1",
    ]
    (folder / "gt.txt").write_text("\n".join(rows) + "\n")
    (folder.parent / "classes.txt").write_text("gt.txt: 1 pedestrian, 3 cyclist, 4 vehicle\n")
    (folder / "ids.txt").write_text("2 class 4 a white bus\n")
    scene = read_scene(folder.parent)
    assert [(one.identity, one.name, len(one.frames)) for one in scene.tracks] == [
        (1, "cyclist", 2),  # with the row that is not scored
        (2, "bus", 1),
        (3, "vehicle", 1),
    ]


def test_the_cameras_motion_of_a_run(tmp_path: Path) -> None:
    """The camera follows track 8: in the picture it walks left, against the background it stands."""
    pan = np.array([[1.0, 0, -4], [0, 1, 0]])
    scene = read_scene(stored(tmp_path / "run", "", pan))
    found = answers(scene, ["the person standing still", "the person walking right"])
    assert [one.answer for one in found] == [8, 7]


def test_sentences_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = stored(tmp_path / "run", "")
    file = tmp_path / "questions.txt"
    file.write_text("\ufeffthe first to leave\n\nthe person walking right\n", encoding="utf-8")
    assert asked(run, "the last to leave", capsys=capsys, more=["--sentences", str(file)]) == [8, 8, 7]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["track", "score", "margin", "used", "sentence"]
    assert [line.split()[0] for line in lines[1:]] == ["8", "8", "7"]


def test_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = stored(tmp_path / "run", "")
    empty = tmp_path / "empty"
    empty.mkdir()
    with create_store(empty / "run.sqlite", RunInfo("", "x", SIZE, 10.0, {})) as store:
        store.append(None, FrameResult(Frame(1, 0.1, SIZE, ""), sv.Detections.empty(), [], []))
    (tmp_path / "blank.txt").write_text("\n \n")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "none").mkdir()
    one = ["--run", str(run), "the first to leave"]
    for arguments, message in (
        ([], "give --run RUN with sentences, or a VIDEO"),
        (["street.mp4", "the dog"], "give --run RUN with sentences, or a VIDEO"),
        ([*one, "--model", "x.pth"], "--model and --out are for a VIDEO"),
        (["street.mp4", "the dog", "--model", "x.pth", "--out", "y", "--referrer", "owlv2"], "--referrer is for --run"),
        (["--run", str(run)], "give at least one sentence"),
        (["--run", str(run), ""], "must name an object"),
        (["--run", str(run), "最左边的人"], "Latin letters"),
        (["--run", str(run), "a " * 513], "at most 512 words"),
        (["--run", str(empty), "the dog"], "has no track"),
        (["--run", str(tmp_path / "none"), "the dog"], "holds no run.sqlite"),
        (["--run", str(tmp_path / "nowhere"), "the dog"], "does not exist"),
        (["--run", str(run), "--sentences", str(tmp_path / "blank.txt")], "holds no sentence"),
        (["--run", str(run), "--sentences", str(tmp_path / "binary.txt")], "not text in UTF-8"),
        ([*one, "--threshold", "2"], "--threshold must be in 0..1, got 2"),
        ([*one, "--video", "x.mp4"], "--video is for --referrer"),
        ([*one, "--referrer", "owlv2"], "does not name its video"),
        ([*one, "--json", str(run)], "--json"),
    ):
        assert main(["refer", *arguments]) == 2, arguments
        assert message in capsys.readouterr().err, arguments


class ColourDetector:
    """Finds the pixels of a colour that the text names: a detector that takes text, without a network."""

    colour: tuple[int, int, int] | None = None
    asked = 0

    def look_for(self, prompt: TextPrompt) -> None:
        (text,) = prompt.phrases
        self.colour = RED if "red" in text else BLUE if "blue" in text else None

    def detect(self, images: Sequence[np.ndarray]) -> list[sv.Detections]:
        self.asked += 1
        (image,) = images
        ys, xs = np.nonzero((image == self.colour).all(axis=2)) if self.colour else ([], [])
        if not len(ys):
            return [sv.Detections.empty()]
        box = np.array([[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]], np.float32)
        return [sv.Detections(box, confidence=np.array([0.8], np.float32), class_id=np.array([0]))]


def test_a_detector_as_referrer(tmp_path: Path, pictures: Path) -> None:
    scene = read_scene(stored(tmp_path / "run", str(pictures)))
    detector = ColourDetector()
    steps: list[tuple[int, int]] = []
    sentences = ["the person in red", "the person in blue.", "the person in green", "the person in red moving left"]
    session = watch(
        scene, open_source(str(pictures)), DetectorReferrer(detector), sentences, lambda *now: steps.append(now)
    )
    assert steps[-1] == (6, 6)  # every 0.5 s of 3 s
    assert detector.asked == 6 * len(sentences)
    assert session.answer(0) == (7, pytest.approx(0.8))
    assert session.answer(1) == (8, pytest.approx(0.8))
    assert session.answer(2)[0] is None
    found = answers(scene, sentences, session.scores())
    assert [(one.answer, one.used) for one in found] == [
        (7, "model"),
        (8, "model"),
        (None, "model"),
        (None, "grammar and model"),  # the one in red walks right
    ]


def test_a_video_that_ends_before_its_tracks(tmp_path: Path, pictures: Path) -> None:
    scene = read_scene(stored(tmp_path / "run", ""))
    for number in range(12, COUNT + 1):
        (pictures / f"{number:06d}.png").unlink()
    session = watch(scene, open_source(str(pictures)), DetectorReferrer(ColourDetector()), ["the red one"])
    assert session.answer(0)[0] == 7


class Windows:
    """A referrer that keeps the frames of its windows."""

    window, stride_seconds, threshold = 4, 0.1, 0.3

    def __init__(self) -> None:
        self.seen: list[list[int]] = []

    def open(self, sentences: Sequence[str]) -> Windows:
        return self

    def add(self, frames: Sequence[Frame], tracks: Sequence[sv.Detections]) -> None:
        assert [len(one) for one in tracks] == [len(boxes_at(frame.number)) for frame in frames]
        self.seen.append([frame.number for frame in frames])

    def scores(self) -> dict[int, np.ndarray]:
        return {}

    def answer(self, sentence: int) -> tuple[int | None, float]:
        return None, 0.0


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (9, [[1, 2, 3, 4], [3, 4, 5, 6], [5, 6, 7, 8], [6, 7, 8, 9]]),
        (8, [[1, 2, 3, 4], [3, 4, 5, 6], [5, 6, 7, 8]]),
        (4, [[1, 2, 3, 4]]),
        (3, [[1, 2, 3]]),
    ],
)
def test_windows_overlap_by_half(tmp_path: Path, pictures: Path, count: int, expected: list[list[int]]) -> None:
    """The last window ends with the video; a video shorter than a window is one window."""
    for number in range(count + 1, COUNT + 1):
        (pictures / f"{number:06d}.png").unlink()
    referrer = Windows()
    watch(read_scene(stored(tmp_path / "run", "")), open_source(str(pictures)), referrer, ["the red one"])
    assert referrer.seen == expected


@pytest.mark.parametrize(
    ("name", "said"),
    [("owlv", "unknown referrer 'owlv'"), ("gone.safetensors", "--referrer gone.safetensors does not exist")],
)
def test_unknown_referrers(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, said: str) -> None:
    """They are reported also where the video of the run is gone."""
    with pytest.raises(InputError, match=said):
        open_referrer(name)
    run = stored(tmp_path / "run", str(tmp_path / "gone.mp4"))
    assert main(["refer", "--run", str(run), "the red one", "--referrer", name]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.slow
def test_sam3_as_referrer(sam3_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of weights is read; scores are those of the boxes that overlap a track's, and each picture is encoded
    once for all sentences. The weights are random."""
    referrer = open_referrer(f"sam3:{sam3_folder}", "cpu")
    assert isinstance(referrer, DetectorReferrer)
    detector = referrer.detector
    assert isinstance(detector, ConceptText)
    image = np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8)
    detector.look_for(TextPrompt(("red car",), ("red car",)))
    (found,) = detector.detect([image])
    direct = detector.model.detect(detector.model.encode([image])[0], "red car", least_score=LOWEST_SCORE)
    np.testing.assert_array_equal(found.xyxy, direct.boxes)
    assert len(found)
    encoded = []
    encode = detector.model.encode

    def counted(images: Sequence[np.ndarray]) -> list[Features]:
        encoded.append(len(images))
        return encode(images)

    monkeypatch.setattr(detector.model, "encode", counted)
    session = referrer.open(["red car", "dog " * 40])
    best = int(np.argmax(direct.scores))
    tracks = sv.Detections(found.xyxy[[best]], tracker_id=np.array([5]))
    session.add([Frame(1, 0.0, (160, 120), image=image)], [tracks])
    assert encoded == []  # the picture before is the same one
    session.add([Frame(2, 0.1, (160, 120), image=image.copy())], [tracks])
    assert encoded == [1]
    assert session.scores()[5][0] == pytest.approx(float(direct.scores[best]))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """MTTR, a tiny network without training."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from masa_track.refer.model import Mttr
    from masa_track.refer.settings import TINY
    from masa_track.refer.weights import save_weights

    torch.manual_seed(0)
    return save_weights(Mttr(TINY), tmp_path / "tiny.safetensors", "synthetic", 4)


@pytest.mark.slow
def test_mttr_as_referrer(tmp_path: Path, pictures: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its scores decide what the grammar does not parse."""
    run = stored(tmp_path / "run", str(pictures))
    more = ["--referrer", str(weights), "--threshold", "0", "--device", "cpu"]
    found = asked(run, "the red thing", "the first to leave", capsys=capsys, more=more)
    assert found[0] in (7, 8)
    assert found[1] == 8
    content = json.loads((tmp_path / "answers.json").read_text())
    assert [one["used"] for one in content] == ["model", "grammar"]
    assert 0 < content[0]["score"] < 1


@pytest.mark.slow
def test_a_video_without_tracks(
    tmp_path: Path, pictures: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    options = ["--model", str(weights), "--out", str(out), "--appearance", "none", "--threshold", "0", "--stride", "5"]
    assert main(["refer", str(pictures), "the red thing", *options, "--json", str(tmp_path / "a.json")]) == 0
    assert json.loads((tmp_path / "a.json").read_text()) == json.loads((out / "answers.json").read_text())
    assert "mttr  the red thing" in capsys.readouterr().out
