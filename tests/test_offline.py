"""The offline pass: its steps alone, all of it on arrays, in a run and in an export."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import supervision as sv

from masa_track.association import FusedAssociator
from masa_track.association.offline import (
    LONG_SECONDS,
    SURE_SCORE,
    fill_gaps,
    finish,
    real_tracks,
    show_births,
    smooth,
    uneven,
)
from masa_track.cli.main import main
from masa_track.contracts import Frame, Observation
from masa_track.drawing.tracks import TrackDrawer
from masa_track.errors import InputError
from masa_track.evaluation import MotRows, read_mot, score_sequences
from masa_track.formats.run import read_run
from masa_track.pipeline.loop import Job, Outcome, track_video
from masa_track.pipeline.sinks import RESULTS as ALL_RESULTS
from masa_track.pipeline.tentative import TentativeRows
from masa_track.runs.demo_steps import STEPS
from masa_track.tracker import MasaTracker
from masa_track.video.sources import Source, open_source

RESULTS = set(ALL_RESULTS) - {"counts.csv", "panoptic.json"}


def walk(frames: list[int], step: float = 2.0) -> np.ndarray:
    return np.array([[step * f, 5, step * f + 10, 25] for f in frames], float)


def test_gaps_are_filled_as_by_hand() -> None:
    seen = [1, 2, 5, 6, 20]
    frames = np.array([*seen, 3, 1])
    ids = np.array([7] * 5 + [8, 8])
    boxes = np.concatenate((walk(seen), walk([3, 1], 0)))
    order = np.random.default_rng(0).permutation(7)
    got_frames, got_ids, got, source, filled = fill_gaps(frames[order], ids[order], boxes[order], 2)
    expected = [(f, 7) for f in (1, 2, 3, 4, 5, 6, 20)] + [(f, 8) for f in (1, 2, 3)]
    assert list(zip(got_frames.tolist(), got_ids.tolist(), strict=True)) == sorted(expected)
    np.testing.assert_allclose(got[got_ids == 7], walk([1, 2, 3, 4, 5, 6, 20]))
    assert sorted(zip(got_frames[filled].tolist(), got_ids[filled].tolist(), strict=True)) == [(2, 8), (3, 7), (4, 7)]
    before = zip(frames[order][source[filled]].tolist(), ids[order][source[filled]].tolist(), strict=True)
    assert sorted(before) == [(1, 8), (2, 7), (2, 7)]
    every_other = fill_gaps(frames, ids, boxes, 2, tracked=np.arange(1, 21, 2))
    assert every_other.frames[every_other.filled].tolist() == [3]


def test_smoothing_leaves_an_even_walk_and_smooths_a_shaky_one() -> None:
    frames, ids = np.arange(60), np.zeros(60, int)
    np.testing.assert_allclose(smooth(frames, ids, walk(range(60)), 3), walk(range(60)), atol=1e-9)
    shaky = walk(range(60)) + np.random.default_rng(0).normal(0, 2, (60, 4))
    calm = smooth(frames, ids, shaky, 3)
    assert np.abs(calm - walk(range(60))).mean() < 0.5 * np.abs(shaky - walk(range(60))).mean()
    order = np.random.default_rng(1).permutation(60)
    np.testing.assert_allclose(smooth(frames[order], ids, shaky[order], 3), calm[order])
    np.testing.assert_allclose(smooth(frames[:1], ids[:1], shaky[:1], 3), shaky[:1])


def test_tracks_do_not_touch_each_other() -> None:
    frames, ids = np.repeat(np.arange(20), 2), np.tile([1, 2], 20)
    boxes = np.where(ids[:, None] == 1, 0.0, 100.0) + walk(frames.tolist())
    np.testing.assert_allclose(smooth(frames, ids, boxes, 2), boxes, atol=1e-9)
    assert len(fill_gaps(frames, ids, boxes, 5).frames) == 40


def test_nothing_and_nonsense() -> None:
    nothing = np.zeros(0, int), np.zeros(0, int), np.zeros((0, 4))
    assert [len(part) for part in fill_gaps(*nothing, 3)] == [0] * 5
    assert smooth(*nothing, 1).shape == (0, 4)
    with pytest.raises(InputError, match="one twice"):
        fill_gaps(np.array([1, 1]), np.array([2, 2]), np.zeros((2, 4)), 3)
    with pytest.raises(InputError, match=r"boxes \(N, 4\), got"):
        smooth(np.zeros(2), np.zeros(2), np.zeros((3, 4)), 1)
    with pytest.raises(InputError, match="width must be above 0"):
        smooth(*nothing, 0)


def slow_smooth(frames: np.ndarray, ids: np.ndarray, boxes: np.ndarray, centre: float, size: float) -> np.ndarray:
    """A line fitted at each box by numpy's own least squares."""
    numbers = np.concatenate((boxes[:, :2] + boxes[:, 2:], boxes[:, 2:] - boxes[:, :2]), axis=1) / 2
    found = numbers.copy()
    for row in range(len(ids)):
        for columns, width in ((slice(0, 2), centre), (slice(2, 4), size)):
            near = np.flatnonzero((ids == ids[row]) & (np.abs(frames - frames[row]) <= 3 * width))
            away = (frames[near] - frames[row]).astype(float)
            degree = min(len(near) - 1, 1)
            lines = np.polyfit(away, numbers[near, columns], degree, w=np.exp(-0.25 * (away / width) ** 2))
            found[row, columns] = lines[-1]
    return np.concatenate((found[:, :2] - found[:, 2:], found[:, :2] + found[:, 2:]), axis=1)


def test_smoothing_is_a_line_fitted_at_each_box() -> None:
    rng = np.random.default_rng(0)
    frames = np.concatenate([rng.choice(60, 25, replace=False) for _ in range(3)])
    ids, boxes = np.repeat([4, 2, 9], 25), rng.normal(0, 3, (75, 4)) + np.array([0, 0, 40, 90])
    for centre, size in ((0.7, 3.2), (4.1, 4.1), (2.3, 9.0)):
        expected = slow_smooth(frames, ids, boxes, centre, size)
        np.testing.assert_allclose(smooth(frames, ids, boxes, centre, size), expected, atol=1e-6)


def test_smoothing_never_turns_a_box_inside_out() -> None:
    sizes = np.array([100, 100, 100, 100, 100, 100, 1, 1.0])
    boxes = np.stack((-sizes, -sizes, sizes, sizes), axis=1)
    done = smooth(np.arange(8), np.zeros(8, int), boxes, 2.0)
    assert (done[:, 2:] > done[:, :2]).all()


def scene() -> tuple[np.ndarray, ...]:
    """Frames, ids, boxes and scores at 10 frames a second: 1 good, 2 short and weak, 3 long and weak, 4 short, good."""
    lengths = {1: 200, 2: 4, 3: 80, 4: 4}
    scores = {1: 0.95, 2: 0.45, 3: 0.5, 4: 0.9}
    ids = np.concatenate([np.full(length, identity) for identity, length in lengths.items()])
    frames = np.concatenate([np.arange(1, length + 1) for length in lengths.values()])
    return frames, ids, walk(frames.tolist()) + 50.0 * ids[:, None], np.array([scores[one] for one in ids.tolist()])


def test_short_tracks_of_low_scores_are_dropped() -> None:
    frames, ids, _, scores = scene()
    kept = real_tracks(frames, ids, scores, 10.0)
    assert set(ids[kept].tolist()) == {1, 3, 4}  # 3 lasts too long to be dropped
    assert frames[ids == 3].max() / 10 > LONG_SECONDS
    assert set(ids[real_tracks(frames, ids, np.ones(len(ids)), 10.0)].tolist()) == {1, 2, 3, 4}  # all scores equal
    sure = np.where(scores < 0.9, SURE_SCORE + 0.01, 0.99)  # the lowest of good scores
    assert real_tracks(frames, ids, sure, 10.0).all()
    assert real_tracks(frames[:0], ids[:0], scores[:0], 10.0).shape == (0,)


def test_finish_marks_its_rows_and_names_their_sources() -> None:
    frames, ids, boxes, scores = scene()
    boxes = boxes + np.random.default_rng(0).normal(0, 0.3, boxes.shape)
    gap = (ids == 1) & ((frames == 10) | (frames == 11))
    rows = np.random.default_rng(1).permutation(np.flatnonzero(~gap))
    frames, ids, boxes, scores = frames[rows], ids[rows], boxes[rows], scores[rows]
    done = finish(frames, ids, boxes, scores, 10.0)
    assert set(done.ids.tolist()) == {1, 3, 4}
    assert list(zip(done.frames, done.ids, strict=True)) == sorted(zip(done.frames, done.ids, strict=True))
    assert [(f, i) for f, i, new in zip(done.frames, done.ids, done.filled, strict=True) if new] == [(10, 1), (11, 1)]
    assert not done.smoothed[done.filled].any()
    assert done.smoothed[~done.filled].all()
    np.testing.assert_array_equal(ids[done.source], done.ids)
    np.testing.assert_array_equal(frames[done.source[~done.filled]], done.frames[~done.filled])
    assert frames[done.source[done.filled]].tolist() == [9, 9]
    plain = finish(frames, ids, boxes, scores, 10.0, model=None, centre_seconds=0, size_seconds=0, fill_seconds=0)
    assert not (plain.filled | plain.smoothed).any()
    np.testing.assert_array_equal(plain.boxes, boxes[plain.source])
    with pytest.raises(InputError, match=r"scores must be \(N,\)"):
        finish(frames, ids, boxes, scores[1:], 10.0)
    with pytest.raises(InputError, match="fps must be above 0"):
        finish(frames, ids, boxes, scores, 0.0)


def test_nothing_is_smoothed_or_filled_across_a_cut() -> None:
    frames = np.array([1, 2, 3, 6, 7, 8])
    boxes = np.where(frames[:, None] < 5, 0.0, 500.0) + walk([0] * 6)
    given = frames, np.ones(6, int), boxes, np.ones(6)
    done = finish(*given, 10.0, cuts=np.array([5]))
    assert done.frames.tolist() == frames.tolist()
    np.testing.assert_allclose(done.boxes, boxes)
    assert len(finish(*given, 10.0).frames) == 8  # where no cut is known


def seen(number: int, boxes: list[float], scores: list[float]) -> Observation:
    corners = np.array([[x, 50, x + 30, 110] for x in boxes], np.float32).reshape(-1, 4)
    return Observation(
        number, number / 10, (400, 200), corners, np.array(scores, np.float32), np.zeros(len(boxes), np.int64)
    )


def test_a_confirmed_track_gets_its_first_boxes() -> None:
    engine = FusedAssociator(fps=10.0, use_appearance=False, first_id=1)
    frames = [seen(number, [250 + 2.0 * number, 20 + 3.0 * number], [0.8, 0.9]) for number in range(5, 11)]
    frames.insert(0, seen(4, [], []))  # no birth is tentative in the first frame
    frames[3] = seen(7, [120, *(value for value in (264.0, 41.0))], [0.75, 0.8, 0.9])  # 120: seen once
    ids, events = [], []
    for one in frames:
        own, _, told = engine.update(one)
        ids.append(own)
        events += told
    assert (ids[1] == -1).all()  # none is sure at once
    shown = show_births(ids, range(4, 11), events)[1:]
    assert [len(set(one.tolist()) - {-1}) for one in shown] == [2] * 6
    for online, one in zip(ids[1:], shown, strict=True):
        np.testing.assert_array_equal(one[online >= 0], online[online >= 0])
    assert shown[2][0] == -1  # never confirmed
    assert shown[0].tolist() == ids[-1].tolist()


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["TUD-Campus", "PETS09-S3-MF1"])
def test_real_clips_with_public_detections_score_higher(name: str, mot15: Path) -> None:
    clip = mot15 / name
    table = np.loadtxt(clip / "det" / "det.txt", delimiter=",")
    fps = {"TUD-Campus": 25.0, "PETS09-S3-MF1": 7.0}[name]
    engine = FusedAssociator(fps=fps, use_appearance=False, first_id=1)
    ids, events, tables = [], [], []
    for number in range(1, int(table[:, 0].max()) + 1):
        rows = table[table[:, 0] == number]
        boxes = np.concatenate((rows[:, 2:4] - 1, rows[:, 2:4] + rows[:, 4:6] - 1), axis=1).astype(np.float32)
        of = Observation(number, number / fps, (640, 480), boxes, rows[:, 6].clip(0, 1), np.zeros(len(rows), np.int64))
        own, _, told = engine.update(of)
        ids.append(own)
        events += told
        tables.append(boxes)
    frames = np.repeat(np.arange(1, len(ids) + 1), [len(one) for one in ids])
    boxes, raw = np.concatenate(tables).astype(float), np.concatenate(ids)
    shown = np.concatenate(show_births(ids, range(1, len(ids) + 1), events))
    rows = shown >= 0
    scores = np.concatenate([table[table[:, 0] == number, 6] for number in range(1, len(ids) + 1)])
    done = finish(frames[rows], shown[rows], boxes[rows], scores[rows], fps, tracked=np.arange(1, len(ids) + 1))
    truth = read_mot(clip / "gt" / "gt.txt", truth=True)

    def scored(frames: np.ndarray, ids: np.ndarray, boxes: np.ndarray) -> tuple[float, float]:
        xywh = np.concatenate((boxes[:, :2] + 1, boxes[:, 2:] - boxes[:, :2]), axis=1)
        scores = score_sequences({name: (truth, MotRows(frames, ids, xywh))}).combined
        return scores.idf1, scores.hota

    online = scored(frames[raw >= 0], raw[raw >= 0], boxes[raw >= 0])
    finished = scored(done.frames, done.ids, done.boxes)
    assert finished[0] > online[0] + 0.01
    assert finished[1] > online[1] + 0.03


WIDTH, HEIGHT, LENGTH = 160, 120, 20


class Grey:
    def embed(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        return np.ones((len(boxes), 4), np.float32)


def things(frame: Frame) -> sv.Detections:
    """From frame 2 on two walkers with shaky boxes, one of which is not detected in frames 9 to 11."""
    if frame.number == 1:
        return sv.Detections.empty()
    boxes = [[10.0 + 2 * frame.number, 10, 40 + 2 * frame.number, 60]]
    if not 9 <= frame.number <= 11:
        boxes.append([120.0 - 2 * frame.number, 65, 145 - 2 * frame.number, 115])
    shake = np.random.default_rng(frame.number).normal(0, 0.5, (len(boxes), 4))
    scores = np.array([0.9, 0.85][: len(boxes)])
    mask = np.zeros((len(boxes), HEIGHT, WIDTH), bool)
    mask[:, 20:50, 30:60] = True
    return sv.Detections(np.array(boxes) + shake, mask=mask, confidence=scores, class_id=np.zeros(len(boxes), int))


def a_job(folder: Path, **options: object) -> Job:
    frames = folder.parent / "frames"
    if not frames.exists():
        frames.mkdir()
        for number in range(1, LENGTH + 1):
            cv2.imwrite(str(frames / f"{number:03d}.png"), np.full((HEIGHT, WIDTH, 3), 5 * number, np.uint8))
    folder.mkdir()
    tracker = MasaTracker(Grey(), use_appearance=False, fps=10.0)
    return Job(open_source(frames, fps=10.0), things, {0: "person"}, tracker, folder, **options)  # type: ignore[arg-type]


def export(*arguments: object) -> int:
    return main(["export", *map(str, arguments)])


@pytest.mark.slow
def test_a_run_is_finished_at_once_or_later_alike(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    online, offline = tmp_path / "online", tmp_path / "offline"
    assert track_video(a_job(online)).identities == 2
    outcome = track_video(a_job(offline, offline=True))
    assert (outcome.identities, outcome.frames, outcome.faults) == (2, LENGTH, [])
    assert {file.name for file in offline.iterdir()} == RESULTS == {file.name for file in outcome.files}
    assert (offline / "online.json").read_bytes() == (online / "tracks.json").read_bytes()
    out = tmp_path / "out"
    for form in ("mot", "csv"):
        own = (offline / f"tracks.{'txt' if form == 'mot' else 'csv'}").read_bytes()
        for source in ([online, "--finish"], [offline, "--online", "--finish"], [offline]):
            assert export(*source, "--format", form, "--out", out) == 0
            assert out.read_bytes() == own
    assert export(offline, "--online", "--format", "mot", "--out", out) == 0
    assert out.read_bytes() == (online / "tracks.txt").read_bytes()
    assert export(online, "--finish", "--format", "tao", "--out", tmp_path / "a.json") == 0
    assert export(offline, "--format", "tao", "--out", tmp_path / "b.json") == 0
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    capsys.readouterr()
    assert export(offline, "--finish", "--format", "mot", "--out", tmp_path / "out") == 2
    assert "holds finished tracks: leave out --finish, or add --online" in capsys.readouterr().err
    assert export(online, "--finish", "--smooth", "--format", "mot", "--out", tmp_path / "out") == 2
    assert "leave out --fill-gaps and --smooth" in capsys.readouterr().err
    (offline / "online.json").unlink()  # the record has the online tracks, too
    for form, own in (("mot", "tracks.txt"), ("csv", "tracks.csv")):
        assert export(offline, "--online", "--format", form, "--out", out) == 0
        assert out.read_bytes() == (online / own).read_bytes()
    for options, name in (([], "a"), (["--finish"], "b")):
        made = [tmp_path / f"{name}{number}.json" for number in (1, 2)]
        assert export(offline, "--online", *options, "--format", "tao", "--out", made[0]) == 0
        assert export(online, *options, "--format", "tao", "--out", made[1]) == 0
        assert made[0].read_bytes() == made[1].read_bytes()
    assert export(offline, "--format", "mot", "--out", out) == 0
    assert out.read_bytes() == (offline / "tracks.txt").read_bytes()
    (offline / "run.sqlite").unlink()
    capsys.readouterr()
    assert export(offline, "--online", "--format", "mot", "--out", tmp_path / "out") == 2
    assert "--online needs the online.json" in capsys.readouterr().err


@pytest.mark.slow
def test_the_authors_post_processing_at_once_or_later_alike(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One object is as tall as the picture, over most of its width, and the walkers are inside it."""

    def with_giant(frame: Frame) -> sv.Detections:
        found = things(frame)
        if not len(found):
            return found
        found.mask, found.confidence = None, found.confidence - 0.003 * frame.number
        giant = sv.Detections(np.array([[1.0, 1, 155, 118]]), confidence=np.array([0.95]), class_id=np.zeros(1, int))
        return sv.Detections.merge([found, giant])

    online, post = tmp_path / "online", tmp_path / "post"
    job = a_job(online)
    job.detector = with_giant
    assert track_video(job).identities == 3
    job = a_job(post, offline=True, post=STEPS)
    job.detector = with_giant
    outcome = track_video(job)
    assert (outcome.identities, outcome.faults) == (2, [])
    assert (post / "online.json").read_bytes() == (online / "tracks.json").read_bytes()
    out = tmp_path / "out"
    for source in ([online, "--post", "demo"], [post, "--online", "--post", "scores,boxes,giants"], [post]):
        assert export(*source, "--format", "mot", "--out", out) == 0
        assert out.read_bytes() == (post / "tracks.txt").read_bytes()
    before, done = read_run(online), read_run(post)
    largest = before.ids[before.boxes[:, 3].argmax()]
    assert set(before.ids) - set(done.ids) == {largest}
    assert not done.filled.any()
    assert done.smoothed.any()
    assert len(np.unique(done.scores)) == 2 + 1  # one walker has two parts
    capsys.readouterr()
    for options in (["--finish"], ["--smooth"]):
        assert export(online, "--post", "demo", *options, "--format", "mot", "--out", tmp_path / "no") == 2
        assert "--post excludes --finish, --fill-gaps and --smooth" in capsys.readouterr().err
    source = [str(tmp_path / "frames"), "--post", "demo", "--out", str(tmp_path / "no")]
    for option, message in (("--offline", "exclude each other"), ("--show-fps", "for tracking without --post")):
        assert main(["track", *source, option]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_a_run_shows_births_and_marks_rows_in_each_format(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    track_video(a_job(folder, offline=True))
    before, done = read_run(folder, online=True), read_run(folder)
    assert before.frames[before.rows].min() > 2
    assert not before.filled.any()
    first = {track: int(done.frames[done.rows[places[0]]]) for track, _, places in done.tracks()}
    assert first == {1: 2, 2: 2}
    filled = [(int(done.frames[done.rows[row]]), int(done.ids[row])) for row in np.flatnonzero(done.filled)]
    assert [frame for frame, _ in filled] == [9, 10, 11]
    (walker,) = {track for _, track in filled}
    assert done.smoothed[~done.filled].all()
    masked = [mask is not None for mask in done.masks]
    assert masked == (~done.filled).tolist()  # filled boxes have no masks, the others keep theirs, births too
    mot = {(int(row[0]), int(row[1])): row[9] for row in np.loadtxt(folder / "tracks.txt", delimiter=",")}
    assert {key for key, state in mot.items() if state == 1} == set(filled)
    assert set(mot.values()) == {1, 2}
    with (folder / "tracks.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(int(row["frame"]), int(row["tracker_id"])) for row in rows if row["filled"] == "1"} == set(filled)
    assert {row["smoothed"] for row in rows if row["filled"] == "0"} == {"1"}
    assert export(folder, "--format", "tao", "--out", tmp_path / "tao.json") == 0
    annotations = json.loads((tmp_path / "tao.json").read_text())["annotations"]
    assert sorted(row["image_id"] for row in annotations if row.get("filled")) == [9, 10, 11]
    assert all(row.get("smoothed") for row in annotations if not row.get("filled"))
    assert export(folder, "--format", "cvat", "--out", tmp_path / "cvat.xml") == 0
    boxes = [box.attrib for box in ET.parse(tmp_path / "cvat.xml").getroot().iter("box")]
    assert [int(box["frame"]) for box in boxes if box["keyframe"] == "0"] == [8, 9, 10]
    assert export(folder, "--format", "labelstudio", "--out", tmp_path / "ls.json") == 0
    (task,) = json.loads((tmp_path / "ls.json").read_text())
    result = {one["id"]: one for one in task["predictions"][0]["result"]}[f"track-{walker}"]
    assert not {step["frame"] for step in result["value"]["sequence"]} & {9, 10, 11}
    assert result["meta"]["text"] == [f"track {walker}", "3 boxes filled", "16 boxes smoothed"]


def test_filled_boxes_are_dashed() -> None:
    box = sv.Detections(np.array([[20.0, 40, 100, 100]]), tracker_id=np.array([1]), data={"filled": np.array([False])})
    blank = np.zeros((HEIGHT, WIDTH, 3), np.uint8)

    def drawn(filled: bool) -> int:
        box.data["filled"] = np.array([filled])
        return int(TrackDrawer(WIDTH, HEIGHT, 10).draw(blank, box)[100, 20:101].any(axis=1).sum())  # its lower side

    assert drawn(False) == 81
    assert 0.35 * 81 < drawn(True) < 0.75 * 81


def test_a_source_that_is_read_once_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "pipe")
    for source in ("0", "rtsp://user:secret@localhost/1", tmp_path / "pipe"):
        assert main(["track", str(source), "--offline", "--out", str(tmp_path / "out")]) == 2
        said = capsys.readouterr().err
        assert "--offline reads the source twice" in said
        assert "export DIR --finish" in said
        assert "secret" not in said
    assert not (tmp_path / "out").exists()


class Interrupted(Source):
    """A source that gets Ctrl-C when it reads frame ``at`` of its reading number ``reading``."""

    def __init__(self, source: Source, reading: int, at: int) -> None:
        self.__dict__.update(source.__dict__)
        self._inner, self._reading, self._at = source, reading, at

    def _read(self, stride: int, report: object, start: int) -> Iterator[Frame]:
        self._reading -= 1
        for frame in self._inner.frames(stride, start=start):
            if self._reading == 0 and frame.number == self._at:
                os.kill(os.getpid(), signal.SIGINT)
            yield frame


@pytest.mark.parametrize(("reading", "tracked"), [(1, 15), (2, LENGTH)])
def test_ctrl_c_in_either_reading_leaves_whole_files(reading: int, tracked: int, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    job = a_job(folder, offline=True, overlap=False)
    job.source = Interrupted(job.source, reading, 15)
    outcome: Outcome = track_video(job)
    assert (outcome.interrupted, outcome.frames, outcome.faults) == (True, tracked, [])
    assert {file.name for file in folder.iterdir()} == RESULTS
    run = read_run(folder)
    assert run.frames.tolist() == list(range(1, tracked + 1))
    assert (np.loadtxt(folder / "tracks.txt", delimiter=",")[:, 0].max(), run.filled.sum()) == (tracked, 3)
    video = cv2.VideoCapture(str(folder / "video.mp4"))
    assert sum(video.read()[0] for _ in range(LENGTH + 1)) == 15


def test_the_help_teaches_it(capsys: pytest.CaptureFixture[str]) -> None:
    for command, words in (
        ("track", ("--offline", "online.json", "tenth column")),
        ("export", ("--finish", "--online")),
    ):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        said = capsys.readouterr().out
        assert all(word in said for word in words)


def test_rows_of_tentative_tracks_are_kept_without_pictures(tmp_path: Path) -> None:
    """They are no annotations, and what is kept of a long run does not grow."""
    folder = tmp_path / "run"
    track_video(a_job(folder))
    content = json.loads((folder / "tracks.json").read_text())
    early = {(row["image_id"], row["track_id"]) for row in content["tentative"]}
    shown = {(row["image_id"], row["track_id"]) for row in content["annotations"]}
    assert early
    assert not early & shown
    assert {track for frame, track in early if frame == 2} == {1, 2}
    assert len(read_run(folder, births=True).ids) == len(early | shown)
    kept = TentativeRows()
    for number in range(1, 1001):
        kept.add(number, sv.Detections(np.zeros((2, 4)), tracker_id=np.array([-1, 3])))
    assert len(kept._frames) == 300
    assert all(len(rows) == 1 for rows, _ in kept._frames.values())


@pytest.mark.slow
@pytest.mark.shared_data
def test_the_tool_that_fits_the_model(shared: Path) -> None:
    tool = Path(__file__).resolve().parents[1] / "tools" / "fit_offline.py"
    options = ["--only", "TUD-Campus", "KITTI-17", "--draws", "1", "--model", "none"]
    done = subprocess.run(
        [sys.executable, str(tool), str(shared / "clips"), *options], capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert [line.split("|")[1].strip() for line in lines if line.startswith("| ")][1:] == [
        "TUD-Campus",
        "TUD-Campus",
        "KITTI-17",
        "mean",
        "worst gain",
    ]
    assert lines[-1].startswith("REAL_TRACKS = RealTracks((")


def test_a_variable_frame_rate_is_followed() -> None:
    """A box that moves evenly in time is on its line, whatever the times of the frames are."""
    rng = np.random.default_rng(4)
    times = np.cumsum(rng.choice([0.02, 0.04, 0.3], 60))
    frames, fps = np.arange(1, 61), 60 / (times[-1] - times[0])
    boxes = walk((100 * times).tolist(), 1.0)
    seen = np.ones(60, bool)
    seen[[20, 21, 22, 40]] = False
    rows = frames[seen], np.full(seen.sum(), 7), boxes[seen], np.full(seen.sum(), 0.9)
    done = finish(*rows, fps, tracked=frames, times=times, fill_seconds=5, model=None)
    assert done.frames.tolist() == frames.tolist()
    np.testing.assert_allclose(done.boxes, boxes, atol=1e-6)
    assert done.frames[done.filled].tolist() == [21, 22, 23, 41]
    by_numbers = finish(*rows, fps, tracked=frames, fill_seconds=5, model=None)
    assert np.abs(by_numbers.boxes - boxes).max() > 1


@pytest.mark.parametrize(("apart", "filled"), [(0.5, True), (3.0, False)])
def test_the_time_of_a_gap_decides(apart: float, filled: bool) -> None:
    times = np.array([0.0, 0.1, 0.1 + apart / 2, 0.1 + apart, 0.2 + apart])
    frames = np.array([1, 2, 4, 5])
    rows = frames, np.full(4, 3), walk(frames.tolist()), np.full(4, 0.9)
    done = finish(*rows, 10.0, tracked=np.arange(1, 6), times=times, fill_seconds=1.0, model=None)
    assert (3 in done.frames.tolist()) == filled


def test_times_that_files_round_are_even() -> None:
    frames = np.arange(1, 200)
    assert uneven(frames, np.round((frames - 1) / 29.97, 3), 29.97) is None
    assert uneven(frames, np.round((frames - 1) / 20, 3), 29.97) is not None
    assert uneven(frames[:0], frames[:0], 25) is None
