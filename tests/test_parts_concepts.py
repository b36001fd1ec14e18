"""SAM 3 as the model of a scene: things, parts and stuff by concept prompts; a scripted model, then random weights."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import supervision as sv
from sam3_networks import moving_squares
from scripted_concepts import SIZE, Thing, World

from masa_track import MasaTracker
from masa_track.cli.main import main
from masa_track.errors import InputError
from masa_track.formats.panoptic import read_panoptic
from masa_track.formats.run import read_run
from masa_track.masklets.concept_detector import LastEncoded
from masa_track.parts.concepts import ConceptObjects, ConceptStuff
from masa_track.parts.hierarchy import Hierarchy, parse_hierarchy
from masa_track.parts.scene import PANOPTIC, STUFF_NUMBER, SceneDetector, SceneTracker, parents_in, thing_classes

TREE = parse_hierarchy("person=human[head]. dog[head, tail]")
PERSON, PERSON_HEAD, DOG, DOG_HEAD, TAIL = range(5)


def at(x: float, y: float, phrase: str, radius: float, speed: float = 0.0, score: float = 0.9) -> Thing:
    return Thing(lambda number: (x + speed * number, y), phrase, radius, lambda _: score)


def zoo(speed: float = 0.0) -> list[Thing]:
    """A person and a dog, each with a head, the dog's tail, and a head that belongs to nobody."""
    return [
        at(30, 50, "person", 22, speed),
        at(30, 40, "head", 8, speed, 0.85),
        at(90, 50, "dog", 20, -speed, 0.8),
        at(84, 45, "head", 7, -speed, 0.75),
        at(104, 52, "tail", 5, -speed, 0.95),
        at(60, 12, "head", 6, 0, 0.7),
    ]


def scene_of(world: World, hierarchy: Hierarchy = TREE) -> SceneDetector:
    encoded = LastEncoded(world)
    stuff = ConceptStuff(hierarchy, encoded) if hierarchy.labels("stuff") else None
    return SceneDetector(hierarchy, ConceptObjects(hierarchy, encoded), stuff=stuff)


def test_one_prompt_a_name_and_parts_of_the_thing_that_holds_them() -> None:
    world = World(zoo())
    found = scene_of(world).find(world.frame(1).picture)
    assert [one["phrase"] for one in world.asked] == ["person", "human", "head", "dog", "tail"]
    assert world.calls == 1
    rows = found.objects
    assert rows.class_id.tolist() == [PERSON, PERSON_HEAD, DOG_HEAD, PERSON_HEAD, DOG, TAIL]
    assert rows.data["phrase"].tolist() == ["person", "person head", "dog head", "person head", "dog", "dog tail"]
    assert rows.data["part"].tolist() == ["", "head", "head", "head", "", "tail"]
    assert parents_in(found, TREE).tolist() == [-1, 0, 4, -1, -1, 4]
    for row, thing in zip((0, 1, 4, 2, 5, 3), world.things, strict=True):
        truth = thing.mask(1, SIZE)
        assert iou(np.asarray(rows.mask[row]), truth) > 0.8
    assert set(rows.metadata["presence"]) == {"person", "human", "head", "dog", "tail"}


def test_parts_of_parts_follow_the_class_of_their_part() -> None:
    tree = parse_hierarchy("person[head[ear]]. dog[head[ear]]")
    world = World([*zoo()[2:4], at(84, 45, "ear", 3)])
    found = scene_of(world, tree).find(world.frame(1).picture)
    assert found.objects.data["phrase"].tolist() == ["dog head", "dog head ear", "dog"]
    assert parents_in(found, tree).tolist() == [2, 0, -1]


def test_a_thing_and_a_part_of_one_name() -> None:
    """A hand is a thing, and a part of a person; both rows have its mask."""
    tree = parse_hierarchy("hand. person[hand]")
    world = World([at(30, 50, "person", 22), at(30, 40, "hand", 8)])
    found = scene_of(world, tree).find(world.frame(1).picture)
    assert sorted(found.objects.data["phrase"].tolist()) == ["hand", "person", "person hand"]
    assert world.calls == 1


def test_a_part_as_large_as_its_thing_stays() -> None:
    """Masks of one level with an IoU above .7 exclude each other, a portrait's head and its person do not."""
    world = World([at(30, 50, "person", 22), at(30, 50, "human", 22, score=0.8), at(30, 50, "head", 21, score=0.7)])
    found = scene_of(world).find(world.frame(1).picture)
    assert found.objects.data["phrase"].tolist() == ["person", "person head"]


def test_thresholds_of_classes() -> None:
    """Those below SAM 3's own let more through, for their class alone."""
    tree = parse_hierarchy("person:0.95[head:0.2]. dog")
    world = World([at(30, 50, "person", 22), at(30, 40, "head", 8, score=0.3), at(90, 50, "dog", 20, score=0.4)])
    assert scene_of(world, tree).find(world.frame(1).picture).objects.data["phrase"].tolist() == ["person head"]
    lower = parse_hierarchy("person[head:0.2]. dog")
    found = scene_of(world, lower).find(world.frame(1).picture)
    assert found.objects.data["phrase"].tolist() == ["person", "person head"]


def test_stuff_by_semantic_maps() -> None:
    """Presence is the score, and synonyms are one class; the picture is encoded once for all."""
    tree = parse_hierarchy("person", stuff="road=street, sky, sea")
    things = [at(30, 50, "person", 22), at(90, 70, "street", 18), at(90, 20, "sky", 18), at(60, 50, "sea", 12)]
    world = World(things, presence=lambda phrase, _: {"street": 0.9, "sky": 0.8, "sea": 0.2}.get(phrase, 1.0))
    detector = scene_of(world, tree)
    (found,) = detector.detect([world.frame(1).picture])
    assert world.calls == 1
    numbers = found.metadata[PANOPTIC].numbers
    assert (numbers[70, 90], numbers[20, 90], numbers[50, 30]) == (STUFF_NUMBER + 1, STUFF_NUMBER + 2, 1)
    assert STUFF_NUMBER + 3 not in numbers  # it is not present
    scores, masks = ConceptStuff(tree, LastEncoded(world)).find(world.frame(2).picture)
    expected = [[1, 0, 0], [0.9, 0, 0], [0, 0.8, 0], [0, 0, 0.2]]  # road, street, sky, sea
    np.testing.assert_allclose(scores, expected, rtol=1e-6)
    assert masks.shape == (4, SIZE[1], SIZE[0])
    truth = things[1].mask(2, SIZE)
    assert iou(masks[1] > 0.5, truth) > 0.8


class Looks:
    """Embeddings that say nothing."""

    name, key, prior = "looks", "looks", None

    def embed(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        return np.ones((len(boxes), 4), np.float32)


def iou(mask: np.ndarray, other: np.ndarray) -> float:
    return float((mask & other).sum() / (mask | other).sum())


def lives(order: Sequence[int]) -> dict[int, list[tuple[int, int]]]:
    """Of each thing of the zoo its identity and its parent's in each frame; SAM 3 finds the things in this order."""
    world = World([zoo(0.5)[place] for place in order])
    detector = scene_of(world)
    tracker = SceneTracker(MasaTracker(Looks(), classes=thing_classes(TREE)), TREE)  # type: ignore[arg-type]
    found: dict[int, list[tuple[int, int]]] = {place: [] for place in order}
    for frame in world.frames(12):
        (result,) = tracker.step(frame, detector.detect([frame.picture])[0])
        rows = result.detections
        for place, thing in zip(order, world.things, strict=True):
            truth = thing.mask(frame.number, SIZE)
            row = int(np.argmax([iou(np.asarray(mask), truth) for mask in rows.mask]))
            found[place].append((int(rows.tracker_id[row]), int(rows.data["parent_id"][row])))
    return found


def test_identities_do_not_depend_on_the_order_of_what_is_found() -> None:
    first = lives(range(6))
    person, head, dog, dog_head, tail, nobodys = (first[place][-1] for place in range(6))
    assert head[1] == person[0] > 0
    assert dog_head[1] == tail[1] == dog[0] > 0
    assert nobodys == (-1, -1)
    assert len({person[0], head[0], dog[0], dog_head[0], tail[0]}) == 5
    other = lives([5, 4, 3, 2, 1, 0])
    for place in range(6):
        assert first[place][-1] == first[place][4], place  # from the fifth frame on
        pairs = {(one[0], two[0]) for one, two in zip(first[place][4:], other[place][4:], strict=True)}
        assert len(pairs) == 1, place  # one identity each; its number may differ
        assert (other[place][-1][1] > 0) == (first[place][-1][1] > 0), place


def test_long_names_are_refused() -> None:
    long = "head " * 40
    with pytest.raises(InputError, match="32 tokens"):
        ConceptObjects(parse_hierarchy(f"person[{long}]"), LastEncoded(World([])))
    with pytest.raises(InputError, match="32 tokens"):
        ConceptStuff(parse_hierarchy("person", stuff=long), LastEncoded(World([])))


WRONG = [
    (["--identities", "both"], "need --identities masa, got both"),
    (["--identities", "sam3"], "need --identities masa, got sam3"),
    (["--masks", "sam.pth"], "makes masks itself"),
    (["--exemplar", "1:1,2,3,4"], "--exemplar does not go with parts"),
    (["--stuff", "road", "--clip", "x"], "--clip is for networks of fixed classes"),
    (["--stuff", "road", "--stuff-model", "sam3", "--clip", "x"], "--clip is for networks of fixed classes"),
    (["--stuff", "road", "--stuff-model", "sam3:nowhere"], "no such folder: nowhere"),
    (["--parts-by", "votes"], "needs masks"),
]


@pytest.mark.parametrize(("options", "message"), WRONG, ids=[message for _, message in WRONG])
def test_options_that_do_not_go_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    """Before anything is loaded or written."""
    source = moving_squares(tmp_path / "film", 1)
    (tmp_path / "sam3").mkdir()
    given = ["track", str(source), "--detector", f"sam3:{tmp_path / 'sam3'}", "--device", "cpu"]
    assert main([*given, "--text", "person[head]", "--out", str(tmp_path / "run"), *options]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("stuff_model", [None, "sam3"])
def test_track_with_random_weights(sam3_folder: Path, tmp_path: Path, stuff_model: str | None) -> None:
    """The same calls as with real weights: forms of files, and parts below things."""
    given = ["track", str(moving_squares(tmp_path / "film", 5)), "--detector", f"sam3:{sam3_folder}", "--device", "cpu"]
    given += ["--text", "dog:0.3[red:0.3]. person:0.3[red:0.3, car:0.3]", "--stuff", "a, red car"]
    given += [] if stuff_model is None else ["--stuff-model", f"sam3:{sam3_folder}"]
    assert main([*given, "--out", str(tmp_path / "run")]) == 0
    run = read_run(tmp_path / "run")
    names = ["dog", "dog red", "person", "person red", "person car", "a", "red car"]
    assert run.class_names == dict(enumerate(names))
    assert len(run.ids)
    assert all(mask is not None for mask in run.masks)
    things = set(run.ids[np.isin(run.classes, [0, 2])].tolist())
    parts = np.isin(run.classes, [1, 3, 4])
    assert things
    assert set(run.parent_ids[parts].tolist()) <= things
    content = json.loads((tmp_path / "run" / "tracks.json").read_text())
    assert all(set(image["presence"]) == {"dog", "red", "person", "car"} for image in content["images"])
    for frame in read_panoptic(tmp_path / "run").videos["film"]:
        assert set(np.unique(frame.numbers()).tolist()) <= {0, *frame.segments}


@pytest.mark.slow
def test_parts_in_pictures_with_random_weights(sam3_folder: Path, tmp_path: Path) -> None:
    """`detect`: each part names its annotation; pictures draw it."""
    source = moving_squares(tmp_path / "film", 2)
    given = [
        "detect",
        str(source),
        "--detector",
        f"sam3:{sam3_folder}",
        "--device",
        "cpu",
        "--out",
        str(tmp_path / "found"),
    ]
    assert main([*given, "--text", "dog:0.3[red:0.3]. person:0.3[red:0.3, car:0.3]"]) == 0
    found = json.loads((tmp_path / "found" / "detections.json").read_text())
    names = {one["id"]: one["name"] for one in found["categories"]}
    assert names == dict(enumerate(["dog", "dog red", "person", "person red", "person car"]))
    by_id = {one["id"]: one for one in found["annotations"]}
    assert any("parent_id" in one for one in found["annotations"])
    for one in found["annotations"]:
        assert one["phrase"] == names[one["category_id"]]
        assert one["segmentation"]["size"] == [96, 128]
        assert ("part" in one) == (" " in one["phrase"])
        if "parent_id" in one:
            parent = by_id[one["parent_id"]]
            assert parent["image_id"] == one["image_id"]
            assert one["phrase"] == f"{parent['phrase']} {one['part']}"
    assert (tmp_path / "found" / "pictures" / "000002.jpg").is_file()


@pytest.mark.slow
def test_stuff_by_sam3_beside_another_detector(sam3_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    import tiny_scene

    network = f"transformers:{tiny_scene.grounding_dino(tmp_path / 'dino')}"
    given = ["track", str(moving_squares(tmp_path / "film", 3)), "--detector", network, "--device", "cpu", "--no-video"]
    given += ["--text", "person:0.01", "--stuff", "red", "--stuff-model", f"sam3:{sam3_folder}"]
    assert main([*given, "--out", str(tmp_path / "run")]) == 0
    maps = read_panoptic(tmp_path / "run")
    assert dict(maps.class_names) == {0: "person", 1: "red"}
    assert len(maps.videos["film"]) == 3


def test_features_of_the_last_picture_alone_are_kept() -> None:
    world = World([])
    encoded = LastEncoded(world)
    first, second = world.frame(1).picture, world.frame(2).picture
    assert [encoded(picture).data for picture in (first, first, second, first)] == [1, 1, 2, 1]
    assert world.calls == 3


def test_detections_without_any_object() -> None:
    world = World([])
    (found,) = scene_of(world).detect([world.frame(1).picture])
    assert isinstance(found, sv.Detections)
    assert len(found) == 0
    assert set(found.metadata["presence"]) == {"person", "human", "head", "dog", "tail"}
