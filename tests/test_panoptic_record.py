"""The maps of things and stuff in the record of a run: made again, gone on with, in parts, of finished tracks."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import supervision as sv
from test_resume import go_on, killed
from test_rotation import go_on as go_on_in_parts

from masa_track import MasaTracker
from masa_track.cli.main import main
from masa_track.contracts import Frame, FrameResult
from masa_track.errors import InputError
from masa_track.formats.panoptic import (
    PANOPTIC,
    PANOPTIC_BY_ROW,
    PanopticMap,
    Segment,
    read_panoptic,
    read_panoptic_picture,
    runs_of,
)
from masa_track.formats.run import read_run
from masa_track.parts.hierarchy import parse_hierarchy
from masa_track.parts.scene import STUFF_NUMBER, SceneDetector, SceneTracker, thing_classes
from masa_track.pipeline import loop
from masa_track.pipeline.job import Job
from masa_track.pipeline.loop import track_video
from masa_track.pipeline.recover import recover
from masa_track.runs import store as stores
from masa_track.runs.resume import check_same
from masa_track.runs.rows import map_arrays, map_of
from masa_track.runs.store import FORMAT, RunInfo, create_store, open_store, parts_of_run
from masa_track.video.sources import open_source

TREE = parse_hierarchy("person[head]", "road, sky")
PERSON, HEAD, ROAD, SKY = range(4)
WIDTH, HEIGHT = 160, 100
COUNT = 24
STARTS = {"track_activation_threshold": 0.35}
SHORT = (10, 11)  # frames in which a third person is seen, with a low score


def rows_at(number: int) -> list[tuple[int, tuple[int, int, int, int], float]]:
    """Class, box and score of what is there in a frame: two persons, a head, and for two frames another person."""
    x, y = 5 + 2 * number, 130 - 2 * number
    rows = [(PERSON, (x, 10, x + 20, 45), 0.9), (HEAD, (x + 5, 10, x + 15, 20), 0.8)]
    if number > 4:
        rows.append((PERSON, (y, 50, y + 20, 95), 0.65 if number < 8 else 0.9))
    if number in SHORT:
        rows.append((PERSON, (60, 60, 75, 75), 0.65))
    return rows


def made_pictures(folder: Path, count: int = COUNT) -> Path:
    """Pictures of these, before a sky whose lower border moves."""
    folder.mkdir(parents=True)
    for number in range(1, count + 1):
        picture = np.full((HEIGHT, WIDTH, 3), 60, np.uint8)
        picture[: 40 + number % 20] = 200
        for label, (x1, y1, x2, y2), _ in rows_at(number):
            picture[y1:y2, x1:x2, 0] = 30 + 60 * label
        cv2.imwrite(str(folder / f"{number:06d}.png"), picture)
    return folder


class SkyAndRoad:
    def find(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        sky = image[..., 1] > 130
        return np.array([[0.6, 0.1], [0.1, 0.6]], np.float32), np.array([~sky, sky], np.float32)


class Looks:
    key = "looks"

    def embed(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        return np.array([frame[int(y1) : int(y2), int(x1) : int(x2)].mean(axis=(0, 1)) for x1, y1, x2, y2 in boxes])


def a_job(folder: Path, pictures: Path, pace: float = 0.0, **options: Any) -> Job:
    """A run with scripted things, parts and stuff. Masks are those of the boxes."""

    def boxes_at(frame: Frame) -> sv.Detections:
        time.sleep(pace)
        rows = rows_at(frame.number)
        masks = np.zeros((len(rows), HEIGHT, WIDTH), bool)
        for mask, (_, (x1, y1, x2, y2), _) in zip(masks, rows, strict=True):
            mask[y1:y2, x1:x2] = True
        return sv.Detections(
            np.array([box for _, box, _ in rows], np.float32),
            mask=masks,
            confidence=np.array([score for *_, score in rows], np.float32),
            class_id=np.array([label for label, *_ in rows]),
        )

    folder.mkdir(exist_ok=True)
    scene = SceneDetector(TREE, boxes_at, None, SkyAndRoad())
    tracker = SceneTracker(MasaTracker(Looks(), classes=thing_classes(TREE), fps=30.0, **STARTS), TREE)  # type: ignore[arg-type]
    source = open_source(pictures)
    return Job(
        source, scene.at, scene.class_names, tracker, folder, with_video=options.pop("with_video", False), **options
    )


def panoptic_files(folder: Path) -> dict[str, bytes]:
    """The bytes of panoptic.json and of the pictures."""
    files = [folder / "panoptic.json", *(folder / "panoptic").iterdir()]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_pictures(tmp_path_factory.mktemp("pictures") / "film")


@pytest.fixture(scope="module")
def whole(pictures: Path) -> Path:
    """A run that was not interrupted."""
    folder = pictures.parent / "whole"
    assert track_video(a_job(folder, pictures)).faults == []
    return folder


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "SNAPSHOT_SECONDS", 0.0)
    monkeypatch.setattr(stores, "COMMIT_SECONDS", 0.0)


def a_map(seed: int, segments: int, shape: tuple[int, int] = (30, 40)) -> PanopticMap:
    rng = np.random.default_rng(seed)
    labels = {int(number): Segment(int(rng.integers(9))) for number in rng.integers(1, 256**3 - 1, segments)}
    numbers = rng.choice([0, *labels], size=shape).astype(np.int32)
    return PanopticMap(numbers, {number: one for number, one in labels.items() if (numbers == number).any()})


@pytest.mark.parametrize("segments", [0, 1, 7, 400])
def test_a_map_comes_back(segments: int) -> None:
    one = a_map(segments, segments)
    back = map_of(map_arrays(one), (40, 30))
    assert back is not None
    np.testing.assert_array_equal(back.numbers, one.numbers)
    assert back.numbers.dtype == np.int32
    assert back.segments == one.segments
    found, places, lengths = runs_of(one.numbers)
    slow = [int(number) for row in one.numbers for number in row]
    assert [n for n, length in zip(found[places], lengths, strict=True) for _ in range(length)] == slow
    assert found.tolist() == sorted(set(slow))
    assert (found[places][1:] != found[places][:-1]).all()


def test_a_map_is_small() -> None:
    numbers = np.full((720, 1280), STUFF_NUMBER + ROAD, np.int32)
    numbers[:300], numbers[200:500, 300:400], numbers[250:600, 700:900] = STUFF_NUMBER + SKY, 1, 2
    segments = {
        1: Segment(PERSON),
        2: Segment(PERSON),
        STUFF_NUMBER + ROAD: Segment(ROAD),
        STUFF_NUMBER + SKY: Segment(SKY),
    }
    assert sum(array.nbytes for array in map_arrays(PanopticMap(numbers, segments)).values()) < 2000


def too_long(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Runs of a gigabyte, which are not to be unpacked."""
    return {"map.runs": np.frombuffer(zlib.compress(bytes(10**8)), np.uint8)}


@pytest.mark.parametrize(
    "change",
    [
        lambda arrays: {"map.runs": arrays["map.runs"][:-9]},
        lambda arrays: {"map.runs": np.frombuffer(zlib.compress(b""), np.uint8)},
        lambda arrays: {"map.numbers": arrays["map.numbers"][:2]},
        lambda arrays: {"map.labels": arrays["map.labels"][:2]},
        too_long,
    ],
)
def test_a_damaged_map_is_refused(change: Any) -> None:
    arrays = map_arrays(a_map(0, 7))
    with pytest.raises(ValueError, match=r"map|shorter|longer|buffer"):
        map_of(arrays | change(arrays), (40, 30))
    with pytest.raises(ValueError, match="do not fill 41x30"):
        map_of(arrays, (41, 30))


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    by_row = a_map(0, 3)
    info = RunInfo("x", "x", (41, 30), 25.0, {0: "person"})  # another size than that of the map
    rows = sv.Detections(np.zeros((0, 4), np.float32), tracker_id=np.zeros(0, np.int64))
    with create_store(tmp_path / "run.sqlite", info) as store:
        store.append(None, FrameResult(Frame(1, 0.0, (41, 30)), rows, [], [], {PANOPTIC_BY_ROW: by_row}))
        assert PANOPTIC_BY_ROW not in next(store.results()).extras  # maps are read where they are asked for
        with pytest.raises(InputError, match="is damaged"):
            list(store.results(maps=True))


def test_the_record_has_each_row_with_or_without_identity(whole: Path) -> None:
    with open_store(whole) as store:
        assert (store.info.things, store.info.stuff) == ((PERSON,), (ROAD, SKY))
        results = {result.frame.number: result for result in store.results(maps=True)}
    assert list(results) == list(range(1, COUNT + 1))
    by_row = results[SHORT[0]].extras[PANOPTIC_BY_ROW]
    assert results[SHORT[0]].detections.tracker_id[3] == -1  # not confirmed yet
    assert (by_row.numbers == 4).sum() == 15 * 15
    assert by_row.segments[4] == Segment(PERSON)
    assert 2 not in by_row.segments  # a head is no segment
    shown = read_panoptic_picture(whole / "panoptic" / f"{SHORT[0]:06d}.png")
    assert (shown[60:75, 60:75] == 0).all()


@pytest.mark.usefixtures("often")
@pytest.mark.slow
def test_a_kill_is_recovered(pictures: Path, whole: Path, tmp_path: Path) -> None:
    """The files of a run that ended normally come back, and those of the frames before a kill."""
    wanted = panoptic_files(whole)
    again = tmp_path / "again"
    track_video(a_job(again, pictures))
    for name in panoptic_files(again):
        (again / name).unlink()
    outcome = recover(again)
    assert again / "panoptic.json" in outcome.files
    assert panoptic_files(again) == wanted
    out = killed(a_job(tmp_path / "out", pictures), 18, tmp_path / "killed")
    assert not (out / "panoptic.json").exists()
    recover(out)
    track_video(a_job(tmp_path / "short", pictures, max_frames=17))
    assert panoptic_files(out) == panoptic_files(tmp_path / "short")
    assert sorted(path.name for path in out.iterdir() if path.name.endswith(".part")) == []
    go_on(a_job(out, pictures))
    assert panoptic_files(out) == wanted


@pytest.mark.usefixtures("often")
@pytest.mark.slow
@pytest.mark.parametrize(("at", "states_to"), [(2, 0), (18, None), (18, 7)])
def test_a_run_goes_on_after_a_kill(
    pictures: Path, whole: Path, tmp_path: Path, at: int, states_to: int | None
) -> None:
    out = killed(a_job(tmp_path / "out", pictures), at, tmp_path / "killed", states_to)
    outcome = go_on(a_job(out, pictures))
    assert (outcome.frames, outcome.faults) == (COUNT, [])
    assert panoptic_files(out) == panoptic_files(whole)


def paced(folder: str, pictures: str) -> None:
    """A run that takes some seconds, for a process of its own."""
    track_video(a_job(Path(folder), Path(pictures), pace=0.1))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["SIGKILL", "SIGINT"])
def test_a_process_is_stopped_and_the_run_goes_on(pictures: Path, whole: Path, tmp_path: Path, how: str) -> None:
    out = tmp_path / "out"
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_panoptic_record as t; t.paced"
    process = subprocess.Popen(
        [sys.executable, "-c", f"{code}({str(out)!r}, {str(pictures)!r})"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 60
        kept = 0
        while kept < 6 and process.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
            if (out / "run.sqlite").exists():
                with open_store(out) as store:
                    kept = store.count()
        process.send_signal(getattr(signal, how))
        process.wait(60)
    finally:
        process.kill()
        process.wait(60)
    with open_store(out) as store:
        kept = store.count()
    assert 6 <= kept < COUNT
    assert (out / "panoptic.json").exists() == (how == "SIGINT")
    recover(out)
    wanted = panoptic_files(whole)
    pictures_of = {name: content for name, content in panoptic_files(out).items() if name != "panoptic.json"}
    assert pictures_of == {name: wanted[name] for name in (f"panoptic/{n:06d}.png" for n in range(1, kept + 1))}
    assert go_on(a_job(out, pictures)).frames == COUNT
    assert panoptic_files(out) == wanted


@pytest.mark.usefixtures("often")
@pytest.mark.slow
def test_each_part_has_its_maps(pictures: Path, whole: Path, tmp_path: Path) -> None:
    """Over all parts they are those of a run in one part; also of a run that was killed and went on."""
    wanted = {path.name: path.read_bytes() for path in (whole / "panoptic").iterdir()}
    out = tmp_path / "out"
    track_video(a_job(out, pictures, rotate=0.31))
    killed(a_job(tmp_path / "killed", pictures, rotate=0.31), 15, tmp_path / "resumed")
    go_on_in_parts(a_job(tmp_path / "resumed", pictures, rotate=0.31))
    for folder in (out, tmp_path / "resumed"):
        parts = parts_of_run(folder)
        assert len(parts) >= 2
        assert not (folder / "panoptic.json").exists()
        found: dict[str, bytes] = {}
        for part in parts:
            (frames,) = read_panoptic(part).videos.values()
            with open_store(part) as store:
                assert [int(one.name) for one in frames] == [one.frame.number for one in store.results()]
            found |= {path.name: path.read_bytes() for path in (part / "panoptic").iterdir()}
        assert found == wanted
    before = panoptic_files(parts_of_run(out)[1])
    recover(parts_of_run(out)[1])
    assert panoptic_files(parts_of_run(out)[1]) == before


def shown_and_wanted(folder: Path) -> tuple[list[set[int]], list[set[int]]]:
    """The things in each panoptic map, by their pixels, and the unfilled boxes of persons in each frame of the run."""
    run = read_run(folder)
    (frames,) = read_panoptic(folder).videos.values()
    shown, wanted = [], []
    for place, one in enumerate(frames):
        numbers, own = one.numbers(), run.detections(place)
        shown.append({int(n) for n in np.unique(numbers) if 0 < n < STUFF_NUMBER})
        persons = (own.class_id == PERSON) & ~own.data["filled"]
        wanted.append(set(own.tracker_id[persons].tolist()))
        for identity, mask in zip(own.tracker_id[persons].tolist(), own.data["segmentation"][persons], strict=True):
            x1, y1, x2, y2 = next(b for label, b, _ in rows_at(place + 1) if label == PERSON and box_of(mask) == b)
            assert (numbers[y1:y2, x1:x2] == identity).all()
    return shown, wanted


def box_of(mask: dict[str, Any]) -> tuple[int, ...]:
    from masa_track.masks import decode_mask, mask_box

    box = mask_box(decode_mask({**mask, "counts": mask["counts"].encode("ascii")}))
    assert box is not None
    return tuple(int(side) for side in box)


@pytest.mark.usefixtures("often")
@pytest.mark.slow
@pytest.mark.parametrize("post", [(), ("boxes",)])
def test_maps_have_the_identities_of_finished_tracks(pictures: Path, whole: Path, tmp_path: Path, post: tuple) -> None:
    """A track begins with its first box, and a short one is dropped. The stuff is that of the online run."""
    out = tmp_path / "out"
    outcome = track_video(a_job(out, pictures, offline=True, post=post, with_video=True))
    assert outcome.faults == []
    assert out / "panoptic.json" in outcome.files
    shown, wanted = shown_and_wanted(out)
    assert shown == wanted
    online, _ = shown_and_wanted(whole)
    births, weak = ({len(frame) for frame in shown[4:5]}, {len(shown[n - 1]) for n in SHORT})
    assert (births, weak) == (({1}, {2, 3}) if post else ({2}, {2}))  # the tracks are finished, or online
    assert (shown == online) == bool(post)
    for path in (out / "panoptic").iterdir():
        found, before = read_panoptic_picture(path), read_panoptic_picture(whole / "panoptic" / path.name)
        assert ((found >= STUFF_NUMBER) == (before >= STUFF_NUMBER)).all()
    files = panoptic_files(out)
    recover(out)
    assert panoptic_files(out) == files
    again = killed(a_job(tmp_path / "a", pictures, offline=True, post=post), 18, tmp_path / "killed")
    go_on(a_job(again, pictures, offline=True, post=post))
    assert panoptic_files(again) == files


def export(*arguments: object) -> int:
    return main(["export", *map(str, arguments), "--format", "panoptic"])


@pytest.mark.slow
def test_maps_are_exported(pictures: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Those of a run, over all parts, with the identities of online and of finished tracks."""
    track_video(a_job(tmp_path / "parts", pictures, rotate=0.31))
    track_video(a_job(tmp_path / "offline", pictures, offline=True))
    track_video(a_job(tmp_path / "post", pictures, offline=True, post=("boxes",)))
    online, finished = panoptic_files(whole), panoptic_files(tmp_path / "offline")
    assert online != finished
    out = tmp_path / "out"
    for arguments, wanted in (
        ([whole], online),
        ([tmp_path / "parts"], online),
        ([tmp_path / "offline", "--online"], online),
        ([tmp_path / "post"], panoptic_files(tmp_path / "post")),
        ([whole, "--post", "boxes"], panoptic_files(tmp_path / "post")),
        ([tmp_path / "offline"], finished),
        ([whole, "--finish"], finished),
        ([tmp_path / "parts", "--finish"], finished),
        ([tmp_path / "offline", "--online", "--finish"], finished),
    ):
        assert export(*arguments, "--out", out) == 0
        assert panoptic_files(out) == wanted, arguments
    assert f"{COUNT} frames" in capsys.readouterr().out
    for arguments, message in (
        ([whole, "--out", whole], "--out must be another folder"),
        ([whole, "--out", out, "--fill-gaps", "1"], "change boxes, not masks"),
        ([whole, tmp_path / "parts", "--out", out], "takes one RUN"),
        ([out, "--out", tmp_path / "x"], "holds no run.sqlite"),
    ):
        assert export(*arguments) == 2
        assert message in capsys.readouterr().err
    with open_store(whole) as store:
        info = replace(store.info, things=(), stuff=())
    (tmp_path / "plain").mkdir()
    create_store(tmp_path / "plain" / "run.sqlite", info).close()
    assert export(tmp_path / "plain", "--out", out) == 2
    assert "needs maps of stuff" in capsys.readouterr().err
    assert panoptic_files(out) == finished


@pytest.mark.slow
def test_finished_videos_tint_the_stuff(pictures: Path, tmp_path: Path) -> None:
    from test_video_out import read

    for name, offline in (("online", False), ("offline", True)):
        track_video(a_job(tmp_path / name, pictures, offline=offline, with_video=True))
    online, offline = (read(tmp_path / name / "video.mp4")[1][-1].astype(int) for name in ("online", "offline"))
    assert np.abs(online[:30, 110:] - offline[:30, 110:]).max() < 20  # the sky without boxes
    assert np.abs(offline[5:25, 130:150] - 200).mean() > 10


def test_records_of_the_format_before_are_read(tmp_path: Path) -> None:
    """They have no maps; a run with stuff does not go on with them. When they are written, they have the new format."""
    info = RunInfo("/a/film", "film", (WIDTH, HEIGHT), 30.0, {ROAD: "road"}, version="1")
    with create_store(tmp_path / "run.sqlite", info) as store:
        store._connection.execute("DELETE FROM info WHERE name IN ('things', 'stuff')")
        store._connection.execute("PRAGMA user_version = 1")
    with open_store(tmp_path) as store:
        assert (store.info.things, store.info.stuff) == ((), ())
        with pytest.raises(InputError, match="the record has maps of stuff: none; this run: road"):
            check_same(store.info, replace(info, stuff=(ROAD,)))
        check_same(store.info, info)
    with open_store(tmp_path, write=True) as store:
        assert store._connection.execute("PRAGMA user_version").fetchone() == (FORMAT,)
        store.finish("whole")
    assert open_store(tmp_path).info.finished == "whole"


def test_recover_keeps_the_maps_of_a_record_without_them(tmp_path: Path) -> None:
    """Of a run of an earlier version that had ended; a run that was killed has none of its own."""
    rows = sv.Detections(
        np.array([[1, 2, 9, 9.0]]), tracker_id=np.array([1]), class_id=np.array([0]), confidence=np.ones(1)
    )
    for finished in ("whole", ""):
        folder = tmp_path / f"run{finished}"
        (folder / "panoptic").mkdir(parents=True)
        (folder / "panoptic.json").write_text(json.dumps({}))
        info = RunInfo("/a/film", "film", (WIDTH, HEIGHT), 30.0, {0: "person"}, finished=finished)
        with create_store(folder / "run.sqlite", info) as store:
            store.append(None, FrameResult(Frame(1, 0.0, (WIDTH, HEIGHT), "1"), rows, [], []))
        recover(folder)
        assert (folder / "panoptic.json").exists() == bool(finished)


def test_a_tracker_gives_both_maps() -> None:
    tracker = SceneTracker(MasaTracker(Looks(), classes=thing_classes(TREE)), TREE)  # type: ignore[arg-type]
    image = np.full((HEIGHT, WIDTH, 3), 60, np.uint8)
    boxes = sv.Detections(
        np.array([[0, 0, 9, 9], [50, 50, 90, 90]], np.float32), confidence=np.full(2, 0.9), class_id=np.zeros(2, int)
    )
    scene = SceneDetector(TREE, lambda frame: boxes, None, SkyAndRoad())
    for number in (1, 2):
        frame = Frame(number, number / 10, (WIDTH, HEIGHT), image=image)
        found = scene.at(frame)
        metadata = found.metadata
        found = found[[1]]  # type: ignore[assignment]
        found.metadata = metadata
        (result,) = tracker.step(frame, found)
    (identity,) = result.detections.tracker_id.tolist()
    by_row, final = result.extras[PANOPTIC_BY_ROW], result.extras[PANOPTIC]
    assert by_row.segments == {1: Segment(PERSON), STUFF_NUMBER + ROAD: Segment(ROAD)}
    assert final.segments == {
        identity: Segment(PERSON, identity=identity),
        STUFF_NUMBER + ROAD: Segment(ROAD),
    }
    np.testing.assert_array_equal(by_row.numbers == 1, final.numbers == identity)
    assert (final.numbers[:9, :9] == 0).all()  # the box that was left out
