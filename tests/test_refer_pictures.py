"""Sentences about single pictures: `masa-track detect IMAGE --refer "..."`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import supervision as sv

from masa_track.boxes import box_iou
from masa_track.cli.detect_refer import draw_answers
from masa_track.cli.main import main
from masa_track.contracts import Frame
from masa_track.detectors.phrases import TextPrompt
from masa_track.errors import InputError
from masa_track.evaluation.refer import evaluate_referring
from masa_track.refer.answers import Answer
from masa_track.refer.detected import DetectorReferrer
from masa_track.refer.pictures import CaptionDetector, PictureReferrer

SIZE = (640, 480)
NAMES = {0: "person", 1: "a dog", 2: "car", 3: "cup"}
# Number 1: a large person on the left; 2: a small one in the middle; 3: a dog right of it; 4: a car; 5: a person who
# stands left of the middle and covers no other person.
BOXES = [(10, 100, 110, 400), (250, 150, 310, 300), (330, 250, 380, 300), (450, 100, 630, 250), (120, 120, 170, 260)]
CLASSES = [0, 0, 1, 2, 0]
RED, BLUE = (0, 0, 255), (255, 0, 0)
FRAME = Frame(3, 0.1, SIZE, "street.jpg", image=np.full((480, 640, 3), 90, np.uint8))


def boxes(rows: Sequence[int] = range(5)) -> sv.Detections:
    return sv.Detections(
        np.array([BOXES[row] for row in rows], np.float32).reshape(-1, 4),
        confidence=np.full(len(rows), 0.9, np.float32),
        class_id=np.array([CLASSES[row] for row in rows], int),
    )


ANSWERS = {
    "the leftmost person": 1,
    "the second person from the left": 5,
    "the third person from the right": 1,
    "the tallest person": 1,
    "the smallest person": 5,
    "the dog": 3,
    "the dog to the right of the person in the middle": 3,
    "the person next to the dog": 2,
    "the man between the car and the woman on the left": 2,
    "the person closest to the camera": 1,
    "the person in the background": 5,
    "the largest object": 1,
    "dog not on the left": 3,
    "the car in the top right corner": 4,
    "the lowest dog": 3,
    "bottom left person": 1,
    "center person": 2,
    "front person": 1,
    "guy in back": 5,
    "top right car": 4,
    "person bottom left": 1,
    "big guy": 1,
    "left dog": 3,
    "the second furthest left person": 5,
    "the smaller of the two leftmost people": 5,
    "any person except the biggest, closest to us": 2,
    "dog in top left corner": None,
    "the cup": None,  # a class of the detector, but none is there
    "the dog on the left": None,
    "the fourth person from the left": None,
    "the dog left of the cup": None,
}


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [4, 2, 0, 3, 1]])
def test_places_order_and_size(order: list[int]) -> None:
    """Numbers begin at 11. Other orders of the boxes give the same objects."""
    referrer = PictureReferrer(list(ANSWERS), NAMES)
    found = referrer.answers(FRAME, boxes(order), 11)
    meant = [None if one.answer is None else order[one.answer - 11] + 1 for one in found]
    assert dict(zip(ANSWERS, meant, strict=True)) == ANSWERS
    assert {one.used for one in found} == {"grammar"}


def test_a_sentence_that_two_objects_fit_names_both() -> None:
    (found,) = PictureReferrer(["the person"], NAMES).answers(FRAME, boxes([1, 4]), 1)
    assert (found.answer, found.also, found.margin) == (1, (2,), 0.0)
    assert "one other fits about as well: 2" in found.note


def test_the_right_one_of_two_on_the_left() -> None:
    """Of several objects "on the right" is the rightmost, also where none is in the right half; of one it is not."""
    referrer = PictureReferrer(["the person on the right", "the person on the left", "the person at the top"], NAMES)
    both = referrer.answers(FRAME, boxes([0, 4]), 1)
    assert [(one.answer, one.also) for one in both] == [(2, ()), (1, (2,)), (2, ())]
    assert [one.answer for one in referrer.answers(FRAME, boxes([0]), 1)] == [None, 1, None]


@pytest.mark.parametrize(
    ("sentence", "asked_for"),
    [
        ("the person moving right", "motion"),
        ("the parked car", "motion"),
        ("the person not walking away", "motion"),
        ("the person who crosses the street", "motion"),
        ("the person who overtakes the car", "motion"),
        ("the first to leave", "when something comes, stays or goes"),
        ("the person who stays at the left edge", "when something comes, stays or goes"),
        ("the person at frame 5", "a time"),
        ("the person on the left at the end", "a time"),
        ("the dog left of the person who comes in from the left", "when something comes, stays or goes"),
        ("the fastest car", "speed"),
        ("the fast car", "speed"),
        ("the leftmost person when the dog appears", "a time"),
        ("the dog that is in view the longest", "a duration"),
        ("the second person", "an order in time"),
        ("the person leading the group", "the direction in which all move"),
    ],
)
def test_motion_and_time_have_no_answer(sentence: str, asked_for: str) -> None:
    """Also with a model, whose scores would select an object."""
    for referrer in (None, DetectorReferrer(Colours())):
        (found,) = PictureReferrer([sentence], NAMES, referrer).answers(FRAME, boxes(), 1)
        assert (found.answer, found.used) == (None, "nothing")
        assert "one picture shows no motion and no time" in found.note
        assert asked_for in found.note


def test_without_a_box() -> None:
    sentences = ["the person", "the red one"]
    for referrer in (None, DetectorReferrer(Colours())):
        found = PictureReferrer(sentences, NAMES, referrer).answers(FRAME, boxes([]), 1)
        assert [(one.answer, one.note) for one in found] == [(None, "the detector found no object in the picture")] * 2


class Colours:
    """Finds the objects of a colour that a text names, with their scores: a detector that takes text."""

    looked_for: list[str]

    def __init__(self) -> None:
        self.looked_for, self.text = [], ""

    def look_for(self, prompt: TextPrompt) -> None:
        (self.text,) = prompt.phrases

    def detect(self, images: Sequence[np.ndarray]) -> list[sv.Detections]:
        self.looked_for.append(self.text)
        scores = {"red": {0: 0.8, 3: 0.5}, "blue": {1: 0.4}, "pale": {0: 0.2}}
        own = next((rows for colour, rows in scores.items() if colour in self.text), {0: 0.9})
        return [sv.Detections(boxes(list(own)).xyxy, confidence=np.array(list(own.values()), np.float32))]


def test_a_model_for_what_the_grammar_does_not_understand() -> None:
    sentences = ["the red car", "The man in blue.", "the leftmost person", "the pale one", "the red one on the right"]
    detector = Colours()
    found = PictureReferrer(sentences, NAMES, DetectorReferrer(detector)).answers(FRAME, boxes(), 1)
    assert [(one.answer, one.used) for one in found] == [
        (4, "model"),  # of the cars
        (2, "model"),
        (1, "grammar"),
        (None, "model"),
        (4, "grammar and model"),
    ]
    assert found[0].score == pytest.approx(0.5)
    assert "the best object, 1, scores 0.20, below the threshold 0.3" in found[3].note
    assert detector.looked_for == ["the red car", "the man in blue", "the pale one", "the red one on the right"]
    low = PictureReferrer(["the pale one"], NAMES, DetectorReferrer(Colours()), 0.1).answers(FRAME, boxes(), 1)
    assert low[0].answer == 1
    (alone,) = PictureReferrer(["the red car"], NAMES).answers(FRAME, boxes(), 1)
    assert (alone.answer, alone.used, alone.note) == (None, "nothing", "not understood without a model: red")


def test_a_detector_looks_for_the_sentences() -> None:
    """Each is a caption of its own; the best box of a caption is the answer, and motion is still refused."""
    sentences = ["the red one.", "the one in blue", "The  red one", "the person at the start"]
    detector = CaptionDetector(Colours(), ["the red one", "the one in blue", "the person at the start"])
    (found,) = detector.detect([FRAME.picture])
    assert found.class_id.tolist() == [0, 0, 1, 2]
    got = PictureReferrer(sentences, detector.class_names, captions=True).answers(FRAME, found, 5)
    assert [one.answer for one in got] == [5, 7, 5, None]
    assert [one.used for one in got] == ["model", "model", "model", "nothing"]
    assert [one.score for one in got[:2]] == [pytest.approx(0.8), pytest.approx(0.4)]
    assert got[0].margin == pytest.approx(0.3)
    strict = PictureReferrer(sentences, detector.class_names, None, 0.5, captions=True).answers(FRAME, found, 5)
    assert [one.answer for one in strict] == [5, None, 5, None]


def test_a_caption_keeps_one_of_two_boxes_of_an_object() -> None:
    class Doubles(Colours):
        def detect(self, images: Sequence[np.ndarray]) -> list[sv.Detections]:
            near = np.array([[10, 10, 50, 90], [11, 10, 50, 90], [12, 30, 50, 90]], np.float32)  # IoU .98 and .71
            return [sv.Detections(near, confidence=np.array([0.5, 0.6, 0.4], np.float32))]

    (found,) = CaptionDetector(Doubles(), ["a dog"]).detect([FRAME.picture])
    np.testing.assert_allclose(found.confidence, [0.6])


def test_the_picture_marks_what_is_meant() -> None:
    sentences = ["the leftmost person", "the tallest person", "the cup"]
    found = PictureReferrer(sentences, NAMES).answers(FRAME, boxes(), 1)
    drawn = draw_answers(FRAME, boxes(), found, 1)
    assert drawn.shape == (480, 640, 3)
    changed = (drawn != FRAME.picture).any(axis=2)
    edge = changed[BOXES[0][1] : BOXES[0][3], BOXES[0][0]]
    assert edge.all()  # the box of the answer is whole
    other = changed[BOXES[3][1] : BOXES[3][3], BOXES[3][0]]
    assert 0.3 < other.mean() < 0.8  # the others are dashed
    assert changed[:15, :60].any()  # the sentence without an object
    without = [Answer("the cup", None, 0.0, 0.0, "grammar")]
    assert draw_answers(FRAME, boxes([]), without, 1)[:15, :60].any()


BUS = "coco_000000000532.jpg"
# Boxes seen by eye in the photograph: two persons, the second one on the left of the first, and two buses.
RIGHT_MAN, LEFT_WOMAN, LARGE_BUS, LEFT_BUS = (
    (266, 233, 314, 390), (121, 253, 172, 368), (81, 132, 554, 386), (1, 169, 94, 369),
)  # fmt: skip
SEEN: dict[str, tuple[int, int, int, int] | None] = {
    "the person on the left": LEFT_WOMAN,
    "the person on the right": RIGHT_MAN,
    "the largest bus": LARGE_BUS,
    "the bus on the left": LEFT_BUS,
    "the smaller bus": LEFT_BUS,
    "the person closest to the camera": RIGHT_MAN,
    "the second person from the left": RIGHT_MAN,
    "the bus to the right of the other bus": LARGE_BUS,
    "the person in front of the larger bus": RIGHT_MAN,
    "bottom left person": LEFT_WOMAN,
    "center person": RIGHT_MAN,
    "front person": RIGHT_MAN,
    "guy in back": LEFT_WOMAN,
    "front bus": LARGE_BUS,
    "small bus": LEFT_BUS,
    "the dog": None,
    "the third bus from the left": None,
    "the person in the top left corner": None,
    "the person walking away": None,
}


@pytest.mark.shared_data
def test_a_photograph(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With nanodet and answers that were checked by eye; the file is scored as RefCOCO's boxes are."""
    questions = tmp_path / "questions.txt"
    questions.write_text("\n".join(list(SEEN)[3:]))
    asked = ["--refer", *list(SEEN)[:3], "--sentences", str(questions), "--min-score", "0.5"]
    assert main(["detect", str(shared / "photos" / "images" / BUS), "--out", str(tmp_path / "found"), *asked]) == 0
    said = capsys.readouterr().out
    file = tmp_path / "found" / "detections.json"
    found = json.loads(file.read_text())
    by_id = {one["id"]: one for one in found["annotations"]}
    assert [one["sentence"] for one in found["references"]] == list(SEEN)
    for one in found["references"]:
        truth = SEEN[one["sentence"]]
        assert (one["annotation_id"] is None) == (truth is None), one
        if truth is not None:
            x, y, width, height = by_id[one["annotation_id"]]["bbox"]
            assert box_iou(np.array([[x, y, x + width, y + height]]), np.array([truth], float)) > 0.85, one
        assert f"  {one['sentence']}\n" in said
    gt = {
        "images": [{"id": 1, "height": 480, "width": 640}],
        "annotations": [
            {"image_id": 1, "sentence": sentence, "bbox": [x1, y1, x2 - x1, y2 - y1]}
            for sentence, (x1, y1, x2, y2) in ((one, box) for one, box in SEEN.items() if box is not None)
        ],
    }
    (tmp_path / "gt.json").write_text(json.dumps(gt))
    found["references"] = [one for one in found["references"] if SEEN[one["sentence"]] is not None]
    file.write_text(json.dumps(found))
    scores = evaluate_referring(tmp_path / "gt.json", file).as_dict()
    assert scores["samples"] == 15
    assert scores["precision@0.5"] == 1
    assert scores["mean_iou"] > 0.9


def referring_files(folder: Path) -> tuple[Path, Path]:
    """Two sentences of one picture: the first answer is right, the second sentence has none."""
    masks = {"segmentation": {"size": [10, 10], "counts": "0"}}
    truth: dict[str, Any] = {
        "images": [{"id": 1, "height": 10, "width": 10}],
        "annotations": [
            {"image_id": 1, "sentence": "the dog", "bbox": [0, 0, 4, 4], **masks},
            {"image_id": 1, "sentence": "the cat", "bbox": [5, 5, 2, 2], **masks},
        ],
    }
    found = {
        "annotations": [{"id": 7, "image_id": 1, "bbox": [0, 0, 4, 3]}],
        "references": [
            {"image_id": 1, "sentence": "the  dog", "annotation_id": 7, "score": 0.9},
            {"image_id": 1, "sentence": "the cat", "annotation_id": None, "score": 0.0},
        ],
    }
    (folder / "gt.json").write_text(json.dumps(truth))
    (folder / "detections.json").write_text(json.dumps(found))
    return folder / "gt.json", folder / "detections.json"


def test_answers_are_evaluated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By their boxes, as they have no masks. A sentence without an answer counts as missed."""
    gt, found = referring_files(tmp_path)
    scores = evaluate_referring(gt, found).as_dict()
    assert scores["samples"] == 2
    assert scores["mean_iou"] == pytest.approx(0.375)
    assert scores["overall_iou"] == pytest.approx(12 / 20)
    assert main(["eval", str(gt), str(found), "--metrics", "refer"]) == 0
    assert "mean_iou       37.5" in capsys.readouterr().out


def test_answers_that_cannot_be_evaluated(tmp_path: Path) -> None:
    gt, found = referring_files(tmp_path)
    content = json.loads(found.read_text())
    content["references"][1]["sentence"] = "the cow"
    found.write_text(json.dumps(content))
    with pytest.raises(InputError, match="image 1 with the sentence 'the cow' is not in GT"):
        evaluate_referring(gt, found)
    del content["references"]
    found.write_text(json.dumps(content))
    with pytest.raises(InputError, match="holds no references: detect with --refer"):
        evaluate_referring(gt, found)
    truth = json.loads(gt.read_text())
    truth["annotations"] = [{"image_id": 1, "bbox": [0, 0, 4, 4]}]
    gt.write_text(json.dumps(truth))
    with pytest.raises(InputError, match="names no sentence, but TRACKS does"):
        evaluate_referring(gt, found)


DOG = ["--refer", "the dog"]
WRONG = [
    (["--refer", ""], "a sentence must name an object"),
    (["--refer", "the dog", "最左边的人"], "Latin letters"),
    (["--refer", "a " * 513], "at most 512 words"),
    (["--refer", "the dog" + " left of the dog" * 7], "at most 6 objects"),
    (["--sentences", "nowhere.txt"], "--sentences nowhere.txt cannot be read"),
    (["--referrer", "owlv2"], "--referrer is for sentences"),
    (["--refer-threshold", "0.2"], "--refer-threshold is for sentences"),
    ([*DOG, "--refer-threshold", "2"], "--refer-threshold must be in 0..1, got 2"),
    ([*DOG, "--referrer", "owlv"], "unknown referrer 'owlv'"),
    ([*DOG, "--referrer", "mttr.pth"], "--referrer mttr.pth does not exist"),
    ([*DOG, "--referrer", "owlv2", "--detector", "sam3"], "looks for the sentences itself"),
]


@pytest.mark.parametrize(("arguments", "said"), WRONG, ids=[said for _, said in WRONG])
def test_mistakes(arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before a model is loaded, and before there is a folder of results."""
    cv2.imwrite(str(tmp_path / "a.png"), FRAME.picture)
    assert main(["detect", str(tmp_path / "a.png"), "--out", str(tmp_path / "out"), *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "loading" not in error
    assert not (tmp_path / "out").exists()


def test_mttr_is_no_referrer_of_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), FRAME.picture)
    (tmp_path / "mttr.pth").touch()
    arguments = ["--out", str(tmp_path / "out"), *DOG, "--referrer", str(tmp_path / "mttr.pth")]
    assert main(["detect", str(tmp_path / "a.png"), *arguments]) == 2
    assert "MTTR needs a video" in capsys.readouterr().err


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures of noise."""
    folder = tmp_path_factory.mktemp("photographs") / "pictures"
    folder.mkdir()
    for number in (1, 2):
        noise = np.random.default_rng(number).integers(0, 255, (48, 64, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), noise)
    return folder


def detected(photographs: Path, out: Path, *arguments: str) -> dict[str, Any]:
    assert main(["detect", str(photographs), "--out", str(out), "--device", "cpu", *arguments]) == 0
    names = sorted(path.name for path in (out / "pictures").iterdir())
    assert names == ["000001.jpg", "000002.jpg"]
    result = json.loads((out / "detections.json").read_text())
    assert all(
        set(one) == {"image_id", "sentence", "annotation_id", "score", "margin", "used", "also", "note"}
        for one in result["references"]
    )
    assert [one["image_id"] for one in result["references"]] == [1, 1, 2, 2]
    return result


def checked_captions(result: dict[str, Any], captions: list[str]) -> None:
    """Each answer is the best annotation of its picture and caption."""
    assert [one["name"] for one in result["categories"]] == captions
    assert any(one["annotation_id"] is not None for one in result["references"])
    for place, one in enumerate(result["references"]):
        own = [a for a in result["annotations"] if (a["image_id"], a["category_id"]) == (one["image_id"], place % 2)]
        best = max(own, key=lambda a: a["score"], default=None)
        assert one["annotation_id"] == (None if best is None else best["id"])
        assert one["used"] == "model"
        if best is not None:
            assert one["score"] == pytest.approx(best["score"], abs=1e-4)


@pytest.mark.slow
def test_a_text_detector_of_random_weights(photographs: Path, tmp_path: Path) -> None:
    """It answers by itself, or as --referrer of another one's boxes."""
    pytest.importorskip("transformers")
    import tiny_scene

    network = f"transformers:{tiny_scene.grounding_dino(tmp_path / 'dino')}"
    sentences = ["--refer", "The person left.", "a dog: a hand"]
    alone = ["--detector", network, *sentences, "--refer-threshold", "0.05"]
    checked_captions(detected(photographs, tmp_path / "alone", *alone), ["the person left", "a dog a hand"])

    named = ["--detector", network, "--text", "person. dog", "--referrer", network, "--refer-threshold", "0.01"]
    result = detected(photographs, tmp_path / "named", *named, "--refer", "the person with a hand", "the largest one")
    assert [one["name"] for one in result["categories"]] == ["person", "dog"]
    assert [one["used"] for one in result["references"][1::2]] == ["grammar"] * 2
    assert {one["used"] for one in result["references"][::2]} <= {"model", "nothing"}


@pytest.mark.slow
def test_sam3_of_random_weights(sam3_folder: Path, photographs: Path, tmp_path: Path) -> None:
    """Sentences are its phrases. Two that mean one object do not exclude each other."""
    arguments = ["--detector", f"sam3:{sam3_folder}", "--refer-threshold", "0.3"]
    result = detected(photographs, tmp_path / "found", *arguments, "--refer", "a red dog", "A red dog?")
    assert [one["name"] for one in result["categories"]] == ["a red dog"]
    first, second = result["references"][:2]
    assert first["annotation_id"] == second["annotation_id"] is not None
    result = detected(photographs, tmp_path / "two", *arguments, "--refer", "a red dog", "dog red a")
    checked_captions(result, ["a red dog", "dog red a"])
    assert all("segmentation" in one for one in result["annotations"])
