"""The benchmark tools: perturbed copies, cached embeddings, scenes, episodes of absence, changes of constants."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from masa_track.errors import InputError
from masa_track.evaluation import score_sequences
from masa_track.parts.hierarchy import parse_hierarchy

TOOLS = Path(__file__).resolve().parents[1] / "tools"


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a tool by its name."""
    monkeypatch.syspath_prepend(str(TOOLS))  # they import each other
    return importlib.import_module


def clip_boxes_of(tool: Any, frames: int, things: int, size: float = 50.0) -> Any:
    """Things in a row that stand still; embedding k is the k-th unit vector."""
    numbers, names = np.repeat(np.arange(1, frames + 1), things), np.tile(np.arange(things), frames)
    left = 20.0 + 100 * names
    boxes = np.stack((left, np.full(len(left), 200.0), left + size, np.full(len(left), 200 + size)), axis=1)
    count = len(names)
    return tool("clip_boxes").ClipBoxes(
        Path("clip"),
        "gt",
        25.0,
        (640, 480),
        frames,
        numbers,
        boxes.astype(np.float32),
        np.ones(count),
        np.zeros(count, np.int64),
        names,
        np.eye(8, dtype=np.float16)[names],
    )


def write_clip(folder: Path, frames: int = 12) -> Path:
    """A sequence without pictures: two things that walk, true and detected."""
    clip = folder / "mot15_gt_only" / "walk"
    rows = [
        f"{frame},{name},{50 * name + 3 * frame},{40 + 60 * name},30,60,1,1,1"
        for frame in range(1, frames + 1)
        for name in (1, 2)
    ]
    for kind in ("gt", "det"):
        (clip / kind).mkdir(parents=True)
        (clip / kind / f"{kind}.txt").write_text("\n".join(rows) + "\n")
    text = f"[Sequence]\nframeRate=10\nseqLength={frames}\nimWidth=320\nimHeight=240\n"
    (clip / "seqinfo.ini").write_text(text)
    return clip


def test_perturbed_copies_have_the_stated_errors(tool: Any) -> None:
    """Of 30,000 boxes: the part left out, and the deviation of centre and extent in box sizes."""
    boxes = clip_boxes_of(tool, 6000, 5)
    copy = tool("clip_boxes").draw(boxes, 1)
    assert 1 - len(copy.boxes) / len(boxes.boxes) == pytest.approx(0.05, abs=0.005)
    exact = np.stack((45.0 + 100 * copy.names, np.full(len(copy.names), 225.0)), axis=1)
    centre, extent = (copy.boxes[:, :2] + copy.boxes[:, 2:]) / 2, copy.boxes[:, 2:] - copy.boxes[:, :2]
    errors = np.concatenate((centre - exact, extent - 50), axis=1) / 50
    np.testing.assert_allclose(errors.std(axis=0), 0.01, rtol=0.03)
    np.testing.assert_allclose(errors.mean(axis=0), 0, atol=0.0003)
    assert abs(np.corrcoef(errors.T) - np.eye(4)).max() < 0.03
    np.testing.assert_array_equal(copy.embeddings.argmax(axis=1), copy.names)
    again, other = tool("clip_boxes").draw(boxes, 1), tool("clip_boxes").draw(boxes, 2)
    np.testing.assert_array_equal(copy.boxes, again.boxes)
    assert copy.boxes.shape != other.boxes.shape or not np.allclose(copy.boxes, other.boxes)
    assert tool("clip_boxes").draw(boxes, 0) is boxes


def test_boxes_of_a_clip_come_in_random_order_with_their_names(tool: Any, tmp_path: Path) -> None:
    boxes = tool("clip_boxes").read_boxes(write_clip(tmp_path, 40), "gt")
    assert (boxes.fps, boxes.size, boxes.length) == (10.0, (320, 240), 40)
    np.testing.assert_allclose(boxes.boxes[:, 1], 40 + 60 * boxes.names - 1)
    first = boxes.names[::2]
    assert 5 < (first == 1).sum() < 35
    with pytest.raises(InputError, match="nanodet"):
        tool("clip_boxes").read_boxes(boxes.clip, "nanodet")


@pytest.mark.shared_data
def test_shipped_detections_are_of_persons_alone(tool: Any, mot15: Path) -> None:
    boxes = tool("clip_boxes").read_boxes(mot15 / "TUD-Campus", "nanodet")
    assert len(boxes.boxes) == 894
    assert set(boxes.labels.tolist()) == {0}


@pytest.mark.shared_data
def test_embeddings_are_computed_once(tool: Any, mot15: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And again where the kept ones are of other boxes."""
    module = tool("clip_boxes")
    asked = []

    class Model:
        def embed(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
            asked.append(len(boxes))
            return np.asarray(boxes, np.float32)

    monkeypatch.setattr(module.Looks, "_loaded", lambda self: Model())
    boxes = module.read_boxes(mot15 / "TUD-Campus", "gt")
    looks = module.Looks("nano", None, tmp_path)
    for _ in range(2):
        np.testing.assert_allclose(looks.of(boxes).embeddings, boxes.boxes, atol=0.5)
        assert sum(asked) == 359
    assert [path.name for path in tmp_path.iterdir()] == [looks.file(boxes).name]
    looks.of(boxes.rows(np.arange(10)))
    assert sum(asked) == 369
    assert module.Looks("none").of(boxes).embeddings is None


def test_quick_scores_are_those_of_the_evaluation(tool: Any, tmp_path: Path) -> None:
    module = tool("clip_boxes")
    clip = write_clip(tmp_path, 30)
    boxes, rng = module.draw(module.read_boxes(clip, "gt"), 3), np.random.default_rng(0)
    rows = []
    for number in range(1, 31):
        seen = boxes.frame(number)
        rows.append((number, rng.integers(-1, 3, 1) + 4 * np.arange(len(seen.boxes)), seen.boxes))
    truth, tracks = module.truth_of(clip, 1), module.tracks_of(rows)
    full = score_sequences({"walk": (truth, tracks)}).combined
    assert 0 < full.idf1 < 0.9
    assert module.idf1_and_hota(truth, tracks) == pytest.approx((full.idf1, full.hota))
    assert np.isnan(module.idf1_and_hota(truth, tracks, hota=False)[1])


def test_table_of_peers(tool: Any) -> None:
    """Means and deviations over copies, the mark where we lose, and the lead over the best peer's mean."""
    peers = tool("bench_peers")
    scores = {"ours": (0.5, 0.7), "ByteTrack": (0.6, 0.7), "OC-SORT": (0.1, 0.1), "BoT-SORT": (0.2, 0.2)}
    scores["ours filtered"] = (0.4, 0.4)
    entries = [
        {"clip": clip, "boxes": "det", "stride": 5, "draw": number, "tracker": name, "idf1": value, "hota": 0.3}
        for clip in ("a", "b")
        for name, both in scores.items()
        for number, value in enumerate(both, start=1)
    ]
    (line,) = peers.mean_rows(entries, peers.trackers_of(False))
    cells = [cell.strip() for cell in line.split("|")[1:-1]]
    assert cells[:6] == ["mean of 2", "det", "5", "✗", "0.600±0.141", "**0.650**±0.071"]
    assert cells[-1].startswith("IDF1 -0.050±0.071 over ByteTrack; HOTA +0.000±0.000")
    exact = [entry for entry in entries if entry["draw"] == 2]
    cells = [cell.strip() for cell in peers.mean_rows(exact, peers.trackers_of(False))[0].split("|")[1:-1]]
    assert cells[3:6] == ["", "**0.700**", "**0.700**"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["glitch", "belt", "returns", "fast", "similar"])
def test_a_scene_of_each_kind(tool: Any, kind: str) -> None:
    """Scenes are the same again, their truth is right where it is known, and a tracker runs on them."""
    situations = tool("bench_situations")
    variants = situations.KINDS[kind][1]
    for number, variant in enumerate(variants):
        name, scene = situations.make(kind, number)
        assert name == variant
        again = situations.make(kind, number)[1]
        assert all(np.array_equal(one, other) for one, other in zip(scene.boxes, again.boxes, strict=True))
        things = set(np.concatenate(scene.names).tolist()) - {situations.FALSE}
        if kind == "belt":
            assert things == set(range(6))
            assert max(len(names) for names in scene.names) == 1
        if kind == "returns":
            assert (1 in things, 0 in things) == (variant == "newcomer", True)
        if kind == "glitch":
            assert any((names == situations.FALSE).any() for names in scene.names) == (variant != "bump")
        assert (np.diff(scene.numbers) > 0).all()
        assert (max(np.diff(scene.numbers)) > 1) == (variant == "no calls")
    task = situations.Task(kind, 0, ("ours, motion alone",), {})
    (entry,) = situations.run(task)
    assert 0 < entry["idf1"] <= 1
    assert len(situations.lines_of([{**entry, "tracker": "ours"}], kind, ["ours"])) == 1


def test_scripted_embeddings_tell_distinct_things_apart_and_not_similar_ones(tool: Any) -> None:
    situations = tool("bench_situations")
    gaps = {}
    for kind, number in (("returns", 0), ("similar", 0)):
        given = situations.frames_of(situations.make(kind, number)[1], np.random.default_rng(0))
        looks = np.concatenate([frame.embeddings for frame, _ in given[:20]])
        names = np.concatenate([names for _, names in given[:20]])
        cosines, same = looks @ looks.T, names[:, None] == names
        np.fill_diagonal(same, False)
        others = names[:, None] != names
        gaps[kind] = (cosines[same].mean() - cosines[others].mean()) / cosines[others].std()
    assert gaps["returns"] > 3
    assert gaps["similar"] < 1


def test_score_of_a_scene(tool: Any) -> None:
    """Two things; the second changes its identity once, and a false box has one of its own."""
    situations = tool("bench_situations")
    names = [np.array([0, 1]), np.array([1, 0]), np.array([0, 1, -1])]
    ids = [np.array([5, 6]), np.array([6, 5]), np.array([5, 7, 8])]
    found = situations.score(names, ids)
    assert found == {"idf1": pytest.approx(2 * 5 / (6 + 7)), "switches": 1, "extra": 2, "things": 2}


def test_a_kind_is_lost_only_beyond_the_interval(tool: Any) -> None:
    situations = tool("bench_situations")

    def lines(better: list[float]) -> str:
        table = [
            {"scene": scene, "tracker": name, "idf1": 0.5 + more, "switches": 0, "extra": 1, "things": 3}
            for scene, gain in enumerate(better)
            for name, more in (("ours", 0.0), ("ByteTrack", gain))
        ]
        return "\n".join(situations.lines_of(table, "kind", ["ours", "ByteTrack"]))

    clear, unclear = lines([0.1, 0.2, 0.1, 0.15, 0.1]), lines([0.3, -0.2, 0.1, -0.15, 0.0])
    assert "✗ ByteTrack" in clear
    assert "✗" not in unclear
    assert "0.500 [0.500, 0.500]" in clear
    assert "4.0 [4.0, 4.0] of 3.0" in clear


def test_an_absence(tool: Any) -> None:
    """Of one of four things that stand: who is shown when, where, and which identities are errors."""
    absence, boxes = tool("bench_absence"), clip_boxes_of(tool, 120, 4)

    class Given:
        clip = Path("clip")

        def get(self) -> Any:
            return boxes

    given = Given()
    episode = absence.Episode(given, 1, 60, given, 2, 0)
    for who, look in (("returner", 1), ("newcomer", 2)):
        for place in ("same", "border"):
            shown = absence.film(episode, True, place, who, 3.0)
            assert len(shown.frames) == 50 + 75 + 25
            assert shown.start == 125
            kinds = [set(frame.embeddings.argmax(axis=1).tolist()) for frame in shown.frames]
            around = {0, 3}  # the newcomer is hidden in both films
            assert all(each == around | {1} for each in kinds[:50])
            assert all(each == around for each in kinds[50:125])
            assert all(each == around | {look} for each in kinds[125:])
            (at, row), (last, own) = shown.after[0], shown.before[-1]
            came, left = shown.frames[at].boxes[row], shown.frames[last].boxes[own]
            touching = [np.isclose([box[0], box[1], 640 - box[2], 480 - box[3]], 0, atol=0.01) for box in (came, left)]
            if place == "same":
                np.testing.assert_allclose(came, [120, 200, 170, 250], atol=0.01)
            else:
                assert touching[0].any()
                assert touching[1].any()
                assert not (touching[0] & touching[1]).any()

    shown = absence.film(episode, True, "same", "returner", 1.0)
    by_look = lambda frame: frame.embeddings.argmax(axis=1)  # noqa: E731
    times = iter(range(1000))

    def forgets(frame: Any) -> np.ndarray:  # a new identity after the absence
        return by_look(frame) + (100 if next(times) >= shown.start else 0)

    assert not absence.is_wrong(shown, by_look, "returner")
    assert absence.is_wrong(shown, forgets, "returner")
    came = absence.film(episode, True, "same", "newcomer", 1.0)
    assert not absence.is_wrong(came, by_look, "newcomer")
    assert absence.is_wrong(came, lambda frame: np.minimum(by_look(frame), 1), "newcomer")
    alone = absence.film(episode, False, "same", "returner", 1.0)
    assert max(len(frame.boxes) for frame in alone.frames) == 1
    assert absence.wilson(0, 20) == pytest.approx((0, 0.161), abs=0.001)


@pytest.mark.parametrize(
    "constant", ["motion._FREEDOM", "pairs._UNCLEAR[1]", "kalman.MotionNoise.growth", "pairs.CROWD"]
)
def test_a_constant_is_changed_wherever_it_is_used_and_then_restored(tool: Any, constant: str) -> None:
    ablate = tool("bench_ablate")
    module, _, name = constant.partition(".")
    before = ablate.value_of(module, name)
    with ablate.changed(ablate.Change(constant, "half", before / 2)) as option:
        assert option == {}
        assert ablate.value_of(module, name) == before / 2
        if constant == "kalman.MotionNoise.growth":
            kalman = importlib.import_module("masa_track.association.evidence.kalman")
            noise = kalman.MotionNoise(speeds=(1.0,), persistence=1.0, position=1.0, extent=1.0)
            assert noise.growth == before / 2
        if constant == "pairs.CROWD":
            assert vars(importlib.import_module("masa_track.association.evidence.fused"))["CROWD"] == before / 2
    assert ablate.value_of(module, name) == before


def test_the_tables_of_constants_are_complete(tool: Any) -> None:
    """All that is named is there, and all numbers of the evidence modules are named."""
    ablate = tool("bench_ablate")
    for module, name, _ in ablate.CONSTANTS:
        ablate.value_of(module, name)
    assert ablate.forgotten() == []
    for change in ablate.changes({}):
        if "." not in change.constant and change.constant != ablate.BASE:
            with ablate.changed(change) as option:
                ablate.FusedOptions(**option)


def test_ablation_resumes_and_refuses_other_engines(tool: Any, tmp_path: Path) -> None:
    ablate, boxes = tool("bench_ablate"), tool("clip_boxes")
    clip = boxes.Loaded(write_clip(tmp_path), "det")
    every = [change for change in ablate.changes({}) if change.constant in (ablate.BASE, "views", "motion_speed")]
    looks, out = boxes.Looks("none"), tmp_path / "out.json"
    arguments = every, [ablate.MOTION], [clip], [(1, 1), (2, 1)]
    results = ablate.Results(out, {"engine": "a"})
    tasks = ablate.tasks_of(*arguments, results, looks, {}, True)
    assert [str(task.change) for task in tasks] == ["base", "motion_speed half", "motion_speed double"]  # not `views`
    for task in tasks[:2]:
        results.add(ablate.run(task), every=0)
    again = ablate.Results(out, {"engine": "a"})
    (left,) = ablate.tasks_of(*arguments, again, looks, {}, True)
    assert str(left.change) == "motion_speed double"
    again.add(ablate.run(left), every=0)
    lines = ablate.tables(again.scores, every, ablate.MOTION, [clip], arguments[3])
    assert lines[2].startswith("| motion_speed half | 0.7 | +0.0000 | +0.000 walk |")
    with pytest.raises(InputError, match="another engine"):
        ablate.Results(out, {"engine": "b"})
    out.write_text(json.dumps([]))
    with pytest.raises(InputError, match="no file of this tool"):
        ablate.Results(out, {"engine": "a"})


def test_ours_is_told_of_changes_of_the_scene(tool: Any) -> None:
    """As `MasaTracker` does: the same frames with pictures that change, that stand still, and without pictures."""
    module = tool("clip_boxes")
    boxes, rng = clip_boxes_of(tool, 3, 2), np.random.default_rng(0)
    told = []
    for kind in ("changes", "still", "none"):
        update = module.Ours(25.0, (640, 480), None, {})
        engine = update._associator
        seen, ask = [], engine.update
        engine.update = lambda observation, seen=seen, ask=ask: (
            seen.append(observation.scene_change),
            ask(observation),
        )[1]
        for number in (1, 2, 3):
            image = rng.integers(0, 255, (27, 48, 3), np.uint8) if kind == "changes" else None
            frame = boxes.frame(number, image)
            update(frame._replace(thumbnail=module.STILL) if kind == "still" else frame)
        told.append(seen)
    assert told[0][0] is None
    assert min(told[0][1:]) > 0.5
    assert told[1] == [None, 0.0, 0.0]
    assert told[2] == [None] * 3


def test_choice_that_leaves_out_a_clip(tool: Any) -> None:
    """Three clips; `half` gains on one of them only, so without that one the base is chosen."""
    gains = {"base": dict.fromkeys("abc", 0.0), "half": {"a": 0.3, "b": -0.1, "c": -0.1}}
    chosen, gain, _ = tool("bench_ablate").left_out(gains)
    assert chosen == {"base": 1, "half": 2}
    assert gain == pytest.approx((0 - 0.1 - 0.1) / 3)


@pytest.mark.slow
def test_speed_of_sam2(tool: Any, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("transformers")
    tool("bench_sam2").main(["--side", "64", "--counts", "1", "2", "--frames", "1", "--device", "cpu"])
    lines = capsys.readouterr().out.splitlines()
    assert "random, 64 x 64, float32, cpu" in lines[0]
    assert [line.split()[0] for line in lines[3:]] == ["1", "2"]
    assert all(float(value) >= 0 for line in lines[3:] for value in line.split())


def test_memory_policies_in_scripted_scenes(tool: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """After a crossing the official policy follows the look-alike; the distractor-aware one keeps the object."""
    module = tool("bench_memory_policies")
    assert module.score("official", "crossing", 0) < 0.5
    assert module.score("distractor", "crossing", 0) > 0.9
    assert module.score("official", "neighbour", 0) == 1.0
    own, other = module.places("absence", module.EVENT)
    assert own is None
    assert other == (40, 40)


def test_looks_of_concepts_have_the_measured_cosines(tool: Any) -> None:
    bench = tool("bench_concepts")
    rng = np.random.default_rng(0)
    different, similar, soon, late = [], [], [], []
    for _ in range(20):
        vectors = bench.unit(bench.looks(rng, [0, 0, 1, 2], literal=False))
        cosines = np.einsum("itd,jtd->ijt", vectors, vectors)
        different += cosines[2, 3, ::20].tolist() + cosines[0, 2, ::20].tolist()
        similar += cosines[0, 1, ::20].tolist()
        soon += (vectors[:, :-1] * vectors[:, 1:]).sum(axis=-1).ravel().tolist()
        late += (vectors[:, :-50] * vectors[:, 50:]).sum(axis=-1).ravel().tolist()
    assert np.mean(different) == pytest.approx(0.2, abs=0.04)
    assert np.std(different) == pytest.approx(0.13, abs=0.02)
    assert np.mean(similar) == pytest.approx(0.45, abs=0.05)
    assert 0.6 < np.mean(soon) < 0.78
    assert np.mean(late) == pytest.approx(0.47, abs=0.04)


@pytest.mark.slow
def test_appearance_mends_returns_of_concepts(tool: Any) -> None:
    bench = tool("bench_concepts")
    module = bench.scripted()
    counted = {}
    for appearance in (False, True):
        world, shown = bench.world_of(module, np.random.default_rng([3, 0]), "returns", False)
        embedder = module.Looks(world) if appearance else None
        counted[appearance] = bench.errors_of(world, shown, embedder, bench.IdentityOptions())
    assert counted[False]["appearances"] == sum(len(parts) for parts in shown)
    assert counted[False]["new"] == counted[False]["returns"] > 2
    assert counted[True]["new"] + counted[True]["wrong"] < counted[False]["new"] / 2


@pytest.mark.slow
def test_parts_of_pasted_persons(tool: Any, tmp_path: Path) -> None:
    """Two drawn persons who pass each other: a memory keeps identities that overlap alone loses."""
    bench = tool("bench_parts")
    tree = parse_hierarchy("person[head, shoe]")
    mask = np.ones((200, 80), bool)
    head, shoe = np.zeros_like(mask), np.zeros_like(mask)
    head[:50, 20:60], shoe[170:, 10:50] = True, True
    persons = [
        bench.Person(np.full((200, 80, 3), 60 * k + 60, np.uint8), mask, [(1, head), (2, shoe)]) for k in range(2)
    ]
    rng = np.random.default_rng(0)
    shots = bench.film(persons, np.zeros((bench.HEIGHT, bench.WIDTH, 3), np.uint8), 40, rng)
    scores = {}
    for name in ("masks, frame to frame (no memory)", "PartTracker, masks"):
        results = bench.METHODS[name](tree, shots)
        scores[name] = bench.scored(shots, results)
    tracked = scores["PartTracker, masks"]
    assert tracked.consistency > 0.95
    assert tracked.switches < scores["masks, frame to frame (no memory)"].switches / 4
    bench.draw(tmp_path / "tree.png", tree, shots, results)
    tool("draw_parts").main(str(tmp_path / "parts.png"))
    for name in ("tree.png", "parts.png"):
        assert cv2.imread(str(tmp_path / name)) is not None
