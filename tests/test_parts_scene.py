"""Scenes of scripted models: masks, thresholds, panoptic maps, identities over time; and runs with them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import supervision as sv

from masa_track import MasaTracker
from masa_track.cli.main import main
from masa_track.contracts import Frame
from masa_track.errors import InputError
from masa_track.formats.panoptic import Segment, read_panoptic
from masa_track.formats.run import read_run
from masa_track.parts.hierarchy import parse_hierarchy
from masa_track.parts.scene import (
    PANOPTIC,
    STUFF_NUMBER,
    PanopticMap,
    SceneDetector,
    SceneTracker,
    parents_in,
    thing_classes,
)
from masa_track.parts.tree import FIRST_PART_ID
from masa_track.pipeline.recipe import TrackRecipe

TREE = parse_hierarchy("person=human:0.5[head:0.2, hand]", "road, sky")
PERSON, HEAD, HAND, ROAD, SKY = range(5)
SIZE = (100, 160)  # height, width


class Boxes:
    """A detector of phrases: person, human, person head, human head, person hand, human hand."""

    threshold, track_activation_threshold, features_key = 0.3, 0.35, None

    def __init__(self, rows: list[tuple[int, tuple[float, ...], float]]) -> None:
        self.rows = rows

    def detect(self, images, features=None) -> list[sv.Detections]:
        rows = [row for row in self.rows if row[2] >= self.threshold]
        return [
            sv.Detections(
                np.array([box for _, box, _ in rows], np.float32).reshape(-1, 4),
                confidence=np.array([score for _, _, score in rows], np.float32),
                class_id=np.array([phrase for phrase, _, _ in rows], np.int64),
            )
            for _ in images
        ]


def filled(box, size: tuple[int, int] = SIZE) -> np.ndarray:
    mask = np.zeros(size, bool)
    x1, y1, x2, y2 = np.round(box).astype(int).clip(0)
    mask[y1:y2, x1:x2] = True
    return mask


class Masks:
    """The box itself; at a point, three squares around it."""

    def segment(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        return np.array([filled(box) for box in boxes], bool).reshape(-1, *SIZE)

    def segment_points(self, frame: np.ndarray, points: np.ndarray) -> np.ndarray:
        return np.array([filled((x - r, y - r, x + r, y + r)) for x, y in points for r in (3, 7, 40)], bool)


class Stuff:
    """Sky above, road below."""

    def find(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        road, sky = filled((0, 60, 160, 100)), filled((0, 0, 160, 60))
        return np.array([[0.6, 0.1], [0.1, 0.6]], np.float32), np.array([road, sky], np.float32)


ROWS = [
    (0, (10.0, 10.0, 40.0, 90.0), 0.9),
    (1, (90.0, 10.0, 130.0, 90.0), 0.4),  # a human, by its synonym; below the threshold of its class
    (2, (15.0, 10.0, 35.0, 30.0), 0.25),  # below .3, and above the threshold of heads
    (4, (10.0, 50.0, 20.0, 60.0), 0.35),
    (5, (12.0, 70.0, 22.0, 80.0), 0.29),
]
IMAGE = np.zeros((*SIZE, 3), np.uint8)


def test_thresholds_of_phrases_and_names() -> None:
    detector = Boxes(ROWS)
    (found,) = SceneDetector(TREE, detector, stuff=Stuff()).detect([IMAGE])
    assert detector.threshold == pytest.approx(0.2)
    assert found.class_id.tolist() == [PERSON, HEAD, HAND]
    assert found.data["part"].tolist() == ["", "head", "hand"]
    assert found.data["phrase"].tolist() == ["person", "person head", "person hand"]


def test_things_and_stuff_in_one_map() -> None:
    scene = SceneDetector(TREE, Boxes(ROWS), Masks(), Stuff())
    found = scene.find(IMAGE)
    assert isinstance(found.panoptic, PanopticMap)
    numbers = found.panoptic.numbers
    assert (numbers[:60][:, 60:] == STUFF_NUMBER + SKY).all()
    assert (numbers[60:][:, 60:] == STUFF_NUMBER + ROAD).all()
    assert (numbers == 1).sum() == 30 * 80
    assert found.panoptic.segments[1] == Segment(PERSON)
    assert parents_in(found, TREE).tolist() == [-1, 0, 0]


@pytest.mark.parametrize("parts_by", ["boxes", "points", "votes"])
def test_masks_of_parts(parts_by) -> None:
    """By points, the square that holds all five points; by votes, squares that lie under the boxes of parts."""
    scene = SceneDetector(TREE, Boxes(ROWS), Masks(), Stuff(), parts_by)
    objects = scene.find(IMAGE).objects
    areas = objects.mask.sum(axis=(1, 2))
    if parts_by == "votes":
        parts = objects.class_id != PERSON
        assert set(objects.class_id[parts].tolist()) == {HEAD, HAND}
        for label, box in ((HEAD, ROWS[2][1]), (HAND, ROWS[3][1])):
            best = np.flatnonzero(objects.class_id == label)[objects.confidence[objects.class_id == label].argmax()]
            assert (objects.mask[best] & filled(box)).sum() > 0.5 * objects.mask[best].sum()
    elif parts_by == "points":
        assert areas[1] == 14 * 14
        assert areas[2] == 6 * 6
    else:
        assert areas.tolist() == [30 * 80, 400, 100]


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(InputError, match="parts_by must be"):
        SceneDetector(TREE, Boxes([]), Masks(), Stuff(), "guess")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="give a segmenter"):
        SceneDetector(TREE, Boxes([]), None, Stuff(), "votes")
    with pytest.raises(InputError, match="stuff is None: give a model"):
        SceneDetector(TREE, Boxes([]))


def test_similar_phrases_are_said() -> None:
    embeddings = np.ones((len(TREE.phrases), 3))
    with pytest.warns(UserWarning, match="person head"):
        SceneDetector(TREE, Boxes([]), None, Stuff(), embeddings=embeddings)


class Looks:
    """Embeds a box by its mean colour."""

    key = "looks"

    def embed(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        found = np.ones((len(boxes), 4), np.float32)
        for row, (x1, y1, x2, y2) in zip(found, boxes.round().astype(int).clip(0), strict=True):
            row[:3] = frame[y1:y2, x1:x2].reshape(-1, 3).mean(axis=0)
        return found


def tracker() -> SceneTracker:
    return SceneTracker(MasaTracker(Looks(), classes=thing_classes(TREE)), TREE)  # type: ignore[arg-type]


def moved(rows, by: float):
    return [(n, (b[0] + by, b[1], b[2] + by, b[3]), s) for n, b, s in rows]


def frame(number: int) -> Frame:
    return Frame(number, number / 10, SIZE[::-1], image=IMAGE)


def steps(one: SceneTracker, numbers: range, order: Callable[[int], np.ndarray] | None = None):
    results = []
    for number in numbers:
        scene = SceneDetector(TREE, Boxes(moved(ROWS, 2 * number)), Masks(), Stuff())
        (found,) = scene.detect([IMAGE])
        if order is not None:
            metadata = found.metadata
            found = found[order(len(found))]
            found.metadata = metadata
        (result,) = one.step(frame(number), found)
        results.append(result)
    return results


def test_identities_last_and_do_not_depend_on_the_order_of_rows() -> None:
    rng = np.random.default_rng(0)
    plain, mixed = steps(tracker(), range(1, 8)), steps(tracker(), range(1, 8), rng.permutation)
    for one, other in zip(plain, mixed, strict=True):
        ids = dict(zip(one.detections.data["phrase"], one.detections.tracker_id.tolist(), strict=True))
        assert ids == dict(zip(other.detections.data["phrase"], other.detections.tracker_id.tolist(), strict=True))
        np.testing.assert_array_equal(one.extras[PANOPTIC].numbers, other.extras[PANOPTIC].numbers)
    last = plain[-1]
    person, head, hand = last.detections.tracker_id.tolist()
    assert last.detections.data["parent_id"].tolist() == [-1, person, person]
    assert person < FIRST_PART_ID <= min(head, hand)
    assert last.detections.tracker_id.tolist() == plain[-2].detections.tracker_id.tolist()
    assert last.extras[PANOPTIC].segments[person] == Segment(PERSON, identity=person)
    assert (last.extras[PANOPTIC].numbers == person).sum() == 30 * 80
    assert plain[0].extras[PANOPTIC].segments[STUFF_NUMBER + ROAD] == Segment(ROAD)


def test_a_thing_starts_a_track_with_the_threshold_of_its_class() -> None:
    """Persons have one of .2, dogs none: dogs start at .5."""
    tree = parse_hierarchy("person:0.2[head]. dog")
    options = {"classes": thing_classes(tree), "track_activation_threshold": 0.2}
    one = SceneTracker(MasaTracker(Looks(), **options), tree, 0.5)  # type: ignore[arg-type]
    boxes = np.array([[0, 0, 40, 40], [60, 0, 100, 40], [110, 0, 150, 40.0]])
    ids = []
    for number in range(1, 8):
        scores = np.array([0.25, 0.45, 0.6], np.float32)
        found = sv.Detections(boxes, confidence=scores, class_id=np.array([0, 2, 2]))
        ids = one.step(frame(number), found)[0].detections.tracker_id
    assert (ids >= 0).tolist() == [True, False, True]


def test_a_state_goes_on() -> None:
    whole = steps(tracker(), range(1, 9))
    first = tracker()
    steps(first, range(1, 5))
    second = tracker()
    second.load_state_dict(first.state_dict())
    later = steps(second, range(5, 9))
    for one, other in zip(whole[4:], later, strict=True):
        assert one.detections.tracker_id.tolist() == other.detections.tracker_id.tolist()
    with pytest.raises(InputError):
        second.load_state_dict({})
    with pytest.raises(InputError, match=r"class_id must be 0\.\.4"):
        second.step(frame(20), sv.Detections(np.array([[0, 0, 9, 9.0]]), class_id=np.array([5])))


def film(folder: Path, count: int = 8) -> Path:
    folder.mkdir()
    for number in range(1, count + 1):
        picture = np.full((*SIZE, 3), 90, np.uint8)
        x = 10 + 3 * number
        picture[10:90, x : x + 40] = (0, 90, 200)
        picture[10:30, x + 10 : x + 30] = (200, 90, 0)
        cv2.imwrite(str(folder / f"{number:06d}.png"), picture)
    return folder


def boxes_json(path: Path, count: int = 8) -> Path:
    """A person with a head, and a car, with masks."""
    images, annotations = [], []
    for number in range(1, count + 1):
        images.append({"id": number, "file_name": f"{number:06d}.png", "width": SIZE[1], "height": SIZE[0]})
        x = 10 + 3 * number
        for label, (left, top, width, height) in (
            (1, (x, 10, 40, 80)),
            (2, (x + 10, 10, 20, 20)),
            (3, (120, 50, 30, 30)),
        ):
            corners = [left, top, left + width, top, left + width, top + height, left, top + height]
            box = {"bbox": [left, top, width, height], "segmentation": [corners], "score": 0.9}
            annotations.append({"id": len(annotations) + 1, "image_id": number, "category_id": label, **box})
    names = [{"id": 1, "name": "Person"}, {"id": 2, "name": "person head"}, {"id": 3, "name": "car"}]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": names}))
    return path


def test_a_recipe_names_its_classes_by_text_or_by_a_yaml_file(tmp_path: Path) -> None:
    """Plain phrases are as they were: no hierarchy. A colon or a full stop in a name alone makes none."""
    (tmp_path / "classes.yaml").write_text("things:\n  person: {threshold: 0.4, parts: [head]}\nstuff: [road]\n")
    by_file = TrackRecipe(detector=None, text=str(tmp_path / "classes.yaml"), stuff="sky", stuff_model="x")
    expected = parse_hierarchy("person:0.4[head]", "road, sky")
    assert by_file.hierarchy == expected
    assert TrackRecipe(text="person:0.4[head]", stuff="road, sky", stuff_model="x").hierarchy == expected
    assert TrackRecipe.of_dict(by_file.as_dict()) == by_file
    for plain in ("a red car. a dog", "coco", "a sign: stop. a dog", "classes.txt", None):
        assert TrackRecipe(text=plain).hierarchy is None
    for special in ("car=automobile", "dog:0.3", "dog:.3. cat", "person[head]"):
        assert TrackRecipe(text=special).hierarchy == parse_hierarchy(special)
    with pytest.raises(InputError, match="not the list 'coco'"):
        _ = TrackRecipe(text="coco", stuff="road", stuff_model="x").hierarchy


@pytest.mark.slow
def test_track_with_boxes_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, boxes = film(tmp_path / "film"), boxes_json(tmp_path / "boxes.json")
    arguments = ["track", str(source), "--detections", str(boxes), "--text", "person[head]"]
    assert main([*arguments, "--out", str(tmp_path / "run")]) == 0
    run = read_run(tmp_path / "run")
    people = run.ids[run.classes == 0]
    assert len(set(people.tolist())) == 1
    assert set(run.parent_ids[run.classes == 1].tolist()) == set(people.tolist())
    assert 2 not in run.classes  # the car is not in the text
    assert run.class_names == {0: "person", 1: "person head"}
    assert len(np.loadtxt(tmp_path / "run" / "tracks.txt", delimiter=",")) == len(people)
    assert "parent_id" in (tmp_path / "run" / "tracks.csv").read_text().splitlines()[0]
    before = (tmp_path / "run" / "tracks.json").read_text()
    assert main(["recover", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run" / "tracks.json").read_text() == before
    assert main([*arguments[:-1], "cat[head]", "--out", str(tmp_path / "x")]) == 2
    assert "must be phrases of --text" in capsys.readouterr().err
    assert main([*arguments[:-1], "person. dog", "--out", str(tmp_path / "x")]) == 2
    assert "exclude each other" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_that_goes_on_keeps_the_parts(tmp_path: Path) -> None:
    source, boxes = film(tmp_path / "film"), boxes_json(tmp_path / "boxes.json")
    arguments = ["track", str(source), "--detections", str(boxes), "--text", "person[head]", "--no-video"]
    assert main([*arguments, "--out", str(tmp_path / "whole")]) == 0
    assert main([*arguments, "--out", str(tmp_path / "run"), "--max-frames", "5"]) == 0
    assert main([*arguments, "--out", str(tmp_path / "run"), "--resume"]) == 0
    whole, run = (read_run(tmp_path / name) for name in ("whole", "run"))
    np.testing.assert_array_equal(whole.ids, run.ids)
    assert whole.tree == run.tree


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--stuff", "road"], "--stuff needs --stuff-model"),
        (["--stuff-model", "x"], "need --stuff"),
        (["--parts-by", "votes"], "--parts-by votes needs masks"),
        (["--preset", "tao"], "need --preset default"),
        (["--masklets", "flow"], "--masklets does not go"),
        (["--detector", "sam3", "--identities", "masa"], "sam3"),
        (["--text", "person[head"], 'a "\\[" is not closed'),
        (["--text", "person[head]", "--stuff", "person", "--stuff-model", "x"], "a thing or stuff"),
    ],
)
def test_options_that_do_not_go_together(tmp_path: Path, capsys, options: list[str], message: str) -> None:
    source, boxes = film(tmp_path / "film", 1), boxes_json(tmp_path / "boxes.json", 1)
    given = ["track", str(source), "--detections", str(boxes), "--text", "person[head]", "--out", str(tmp_path / "run")]
    assert main([*given, *options]) == 2
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.slow
def test_panoptic_files_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command with a scripted model of stuff; a later run without stuff removes the pictures."""
    from masa_track.parts import models

    monkeypatch.setattr(models, "TransformersStuff", lambda *arguments: Stuff())
    source, boxes = film(tmp_path / "film"), boxes_json(tmp_path / "boxes.json")
    given = ["track", str(source), "--detections", str(boxes), "--text", "person[head]", "--out", str(tmp_path / "run")]
    assert main([*given, "--stuff", "road, sky", "--stuff-model", "scripted"]) == 0
    maps = read_panoptic(tmp_path / "run")
    (frames,) = maps.videos.values()
    assert len(frames) == 8
    assert dict(maps.class_names) == {0: "person", 2: "road", 3: "sky"}
    run = read_run(tmp_path / "run")
    person = int(run.ids[run.classes == 0][-1])
    numbers = frames[-1].numbers()
    assert (numbers == person).sum() == 40 * 80
    assert frames[-1].segments[person] == Segment(0, identity=person)
    assert main(["eval", str(tmp_path / "run"), str(tmp_path / "run"), "--metrics", "panoptic"]) == 0
    stuff = ["--stuff", "road, sky", "--stuff-model", "scripted", "--no-video", "--out"]
    for options in (["--max-frames", "5"], ["--resume"]):
        assert main([*given[:-2], *stuff, str(tmp_path / "parts"), "--rotate", "0.1s", *options]) == 0
    found = {path.name: path.read_bytes() for path in (tmp_path / "parts").glob("part-*/panoptic/*.png")}
    assert found == {path.name: path.read_bytes() for path in (tmp_path / "run" / "panoptic").iterdir()}
    assert main([*given[:-2], *stuff, str(tmp_path / "finished"), "--offline"]) == 0
    assert len(list((tmp_path / "finished" / "panoptic").iterdir())) == 8
    assert main([*given, "--no-video"]) == 0
    assert not (tmp_path / "run" / "panoptic").exists()
    assert not (tmp_path / "run" / "panoptic.json").exists()
