"""Concepts go on from a stored state as if they had not been interrupted."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import supervision as sv
from scripted_concepts import Looks, World
from test_concepts import come_and_go, two_things
from test_resume import TEXTS, go_on, killed, often, same
from test_video_out import read

from masa_track.contracts import Exemplar, FrameResult
from masa_track.errors import InputError
from masa_track.masklets.concept_identities import IdentityOptions
from masa_track.masklets.concept_options import ConceptOptions
from masa_track.masklets.concepts import ConceptTracker
from masa_track.pipeline import loop
from masa_track.pipeline.job import Job
from masa_track.pipeline.loop import track_video
from masa_track.runs.packing import pack, unpack
from masa_track.runs.resume import resumed
from masa_track.runs.store import open_store
from masa_track.video.sources import open_source

__all__ = ["often"]  # a fixture
LAST = 90
SHORT = 44  # frames of the runs that write files


def a_tracker(world: World, appearance: bool = True, look_ahead: int = 14, **options: Any) -> ConceptTracker:
    return ConceptTracker(
        world,
        "ball. cup",
        [Exemplar((5, 5, 40, 40), frame=3, phrase="cup"), Exemplar((5, 5, 40, 40), frame=60, phrase="cup")],
        options=ConceptOptions(hole_area=0, end_empty=8),
        embedder=Looks(world) if appearance else None,
        identity_options=IdentityOptions(memory_seconds=2, most_away=5),
        look_ahead=look_ahead,
        **options,
    )


def busy() -> World:
    """Things that come, go and return, wrong births, and a cut."""
    world = come_and_go()
    world.scenes = [50]
    return world


def told(results: list[FrameResult]) -> list[Any]:
    """All of results but seconds."""
    every = []
    for result in results:
        found = result.detections
        columns = [found.xyxy, found.confidence, found.class_id, found.tracker_id, *found.data.values()]
        masks = None if found.mask is None else np.packbits(np.asarray(found.mask)).tobytes()
        semantic = {name: value.tolist() for name, value in result.extras.get("semantic", {}).items()}
        known = [result.frame.number, result.frame.picture.tobytes(), result.extras["presence"], semantic]
        objects = result.extras["cost"]["objects"], result.extras["cost"]["memory_bytes"]
        every.append([*known, objects, masks, result.events, [np.asarray(one).tolist() for one in columns]])
    return every


def known(tracker: ConceptTracker) -> dict[str, np.ndarray]:
    """The state but for the seconds of waiting frames."""
    return {name: value for name, value in tracker.state_dict().items() if name != "waiting.frames"}


def resumed_at(number: int, arguments: dict[str, Any]) -> tuple[list[FrameResult], dict[str, np.ndarray]]:
    """Results and last state of a run that is killed after a frame and gone on with."""
    world = busy()
    tracker = a_tracker(world, **arguments)
    results = [result for frame in world.frames(number) for result in tracker.step(frame)]
    state = unpack(pack(tracker.state_dict()))
    world.asked.clear()
    before, tracker = tracker, a_tracker(world, **arguments)
    tracker.load_state_dict(state)
    for name in ("_identity", "_before", "_viewed", "_seen", "_removed", "_ending"):
        assert getattr(tracker, name) == getattr(before, name), name
    first = results[-1].frame.number + 1 if results else 1
    for again in range(first, LAST + 1):
        results += tracker.step(world.frame(again))
    assert min(call["number"] for call in world.asked) == number + 1  # frames that come again are not detected again
    state = known(tracker)
    return results + tracker.finish(), state


@pytest.mark.slow
@pytest.mark.parametrize("appearance", [True, False])
def test_an_interrupted_run_goes_on_as_if_it_had_not_been(appearance: bool) -> None:
    """At frames within the look-ahead, just before and after a cut, and of a wrong birth."""
    world, arguments = busy(), {"appearance": appearance, "semantic": appearance}
    tracker = a_tracker(world, **arguments)
    results = [result for frame in world.frames(LAST) for result in tracker.step(frame)]
    last = known(tracker)
    whole = told(results + tracker.finish())
    for number in (5, 49, 51, LAST - 1):
        found, state = resumed_at(number, arguments)
        assert str(told(found)) == str(whole), number  # as text NaN equals NaN
        assert state.keys() == last.keys()
        for name, value in last.items():  # sums of products are rounded otherwise where the gallery is packed anew
            if value.dtype.kind == "f":
                np.testing.assert_allclose(state[name], value, rtol=1e-4, atol=1e-5, err_msg=name)
            else:
                np.testing.assert_array_equal(state[name], value, err_msg=name)
    assert len(whole) == LAST


@pytest.mark.slow
def test_without_look_ahead_no_frame_comes_again() -> None:
    world = busy()
    tracker = a_tracker(world, look_ahead=0)
    whole = told([result for frame in world.frames(LAST) for result in tracker.step(frame)])
    assert str(told(resumed_at(40, {"look_ahead": 0})[0])) == str(whole)


def state_of(world: World, number: int) -> dict[str, np.ndarray]:
    tracker = a_tracker(world)
    for frame in world.frames(number):
        tracker.step(frame)
    return tracker.state_dict()


def test_frames_that_cannot_be_read_again_are_left_out() -> None:
    world = busy()
    tracker = a_tracker(world)
    tracker.load_state_dict(state_of(world, 20))
    with pytest.raises(InputError, match="frame 3 was not used before the run was resumed after frame 20"):
        tracker.step(world.frame(3))
    for number in (7, 8, 10):
        assert tracker.step(world.frame(number)) == []
    assert [result.frame.number for result in tracker.finish()] == [7, 8]
    saved = tracker.state_dict()  # the others are still due
    tracker.load_state_dict(saved)
    results = [result for number in (9, 10, *range(12, 31)) for result in tracker.step(world.frame(number))]
    numbers = [result.frame.number for result in results + tracker.finish()]
    assert numbers == [9, 10, *range(12, 31)]


def test_a_state_that_does_not_fit_changes_nothing() -> None:
    world = busy()
    state = state_of(world, 30)
    tracker = a_tracker(world)
    for frame in world.frames(4):
        tracker.step(frame)
    before = pack(tracker.state_dict())
    others = [
        {},
        {name: value for name, value in state.items() if name != "living"},
        state | {"waiting.bits": state["waiting.bits"][:-1]},
        state | {"masklets": np.array("[]")},
        state | {"instances.ids": np.zeros(1, np.int64)},
        state | {"numbers": np.array("[1")},
        state_of(two_things(3, 4), 2) | {"about": np.array("{}")},
    ]
    for other in others:
        with pytest.raises(InputError, match="state"):
            tracker.load_state_dict(other)
        assert pack(tracker.state_dict()) == before
    with pytest.raises(InputError, match=r"the state is of a tracker with.*ball"):
        ConceptTracker(world, "ball").load_state_dict(state)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("concepts") / "pictures"
    folder.mkdir()
    for frame in busy().frames(SHORT):
        cv2.imwrite(str(folder / f"{frame.number:06d}.png"), frame.picture)
    return folder


def a_job(folder: Path, pictures: Path, **options: Any) -> Job:
    folder.mkdir(exist_ok=True)
    tracker = a_tracker(busy())
    names = dict(enumerate(tracker.phrases))
    source = open_source(str(pictures))
    return Job(source, lambda frame: sv.Detections.empty(), names, tracker, folder, overlap=False, **options)


@pytest.fixture(scope="module")
def whole(pictures: Path) -> Path:
    """The results of a run that was not interrupted."""
    track_video(a_job(pictures.parent / "whole", pictures))
    return pictures.parent / "whole"


def frames_of(folder: Path) -> int:
    return len(read(folder / "video.mp4")[1])


@pytest.mark.slow
@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("at", [8, 30])
def test_a_killed_run_goes_on(at: int, whole: Path, pictures: Path, tmp_path: Path) -> None:
    """Also one that had no result yet, as those of the first frames were still due."""
    left = killed(a_job(tmp_path / "run", pictures, with_video=False), at, tmp_path / "left")
    with open_store(left / "run.sqlite") as store:
        assert resumed(store).last == max(at - 1 - 14, 0)
    go_on(a_job(left, pictures, with_video=False))
    same(left, whole)


@pytest.mark.slow
def test_a_stopped_run_has_all_frames_so_far_and_goes_on(whole: Path, pictures: Path, tmp_path: Path) -> None:
    """The results that are due are written; the state is that before they were asked for."""
    job = a_job(tmp_path, pictures)

    def detect(frame: Any) -> sv.Detections:
        if frame.number == 30:
            os.kill(os.getpid(), signal.SIGINT)
        return sv.Detections.empty()

    job.detector = detect
    assert track_video(job).interrupted
    with open_store(tmp_path / "run.sqlite") as store:
        assert (store.count(), store.snapshot_before(99)[0]) == (30, 16)
    assert frames_of(tmp_path) == 30
    go_on(a_job(tmp_path, pictures))
    same(tmp_path, whole)
    assert frames_of(tmp_path) == SHORT


@pytest.mark.slow
@pytest.mark.usefixtures("often")
def test_a_state_of_a_run_that_ends_goes_with_its_frame(pictures: Path, tmp_path: Path) -> None:
    """No state is kept among the results that come together at the end; then more frames can be added."""
    assert track_video(a_job(tmp_path, pictures, max_frames=25)).frames == 25
    with open_store(tmp_path / "run.sqlite") as store:
        numbers = [n for (n,) in store._connection.execute("SELECT number FROM snapshots ORDER BY number")]
    assert numbers[-2:] == [11, 25]
    assert go_on(a_job(tmp_path, pictures)).frames == SHORT


@pytest.mark.slow
@pytest.mark.usefixtures("often")
def test_large_states_are_kept_more_seldom_or_not_at_all(
    whole: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(loop, "SNAPSHOT_SECONDS", 0.001)
    monkeypatch.setattr(loop, "_USUAL_STATE", 1e-9)
    track_video(a_job(tmp_path / "seldom", pictures))
    monkeypatch.setattr(loop, "_MOST_STATE", 1000)
    track_video(a_job(tmp_path / "never", pictures))
    assert "is not kept" in capsys.readouterr().err
    for folder, count in ((tmp_path / "seldom", 2), (tmp_path / "never", 0)):
        same(folder, whole, TEXTS)
        with open_store(folder / "run.sqlite") as store:
            assert store._connection.execute("SELECT COUNT(*) FROM snapshots").fetchone() == (count,)


def test_a_live_source_is_not_gone_on_with(pictures: Path, tmp_path: Path) -> None:
    track_video(a_job(tmp_path, pictures, max_frames=2, with_video=False))
    job = a_job(tmp_path, pictures)
    job.source.live = True
    with pytest.raises(InputError, match="resume of a live source needs --identities masa: ConceptTracker"):
        go_on(job)
