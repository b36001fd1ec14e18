"""What cosines mean: a model's prior, its file, and what is learned from a video of a model without one."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import supervision as sv

from masa_track import MasaTracker
from masa_track.association import AppearancePrior, FusedAssociator
from masa_track.association.evidence.appearance import FittedEvidence, LearnedEvidence, Observed
from masa_track.cli.main import main
from masa_track.errors import InputError
from masa_track.registry import spec_of

TOOLS = Path(__file__).resolve().parents[1] / "tools"
NANO = AppearancePrior.load(spec_of("nano").prior)
FRAME = np.zeros((480, 640, 3), np.uint8)


class Alike:
    """A model that gives all boxes the same embedding, with D = 4."""

    dimension = 4

    def embed(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        return np.ones((len(boxes), 4), np.float32)


class AlikeWithPrior(Alike):
    name = "alike"
    prior = NANO


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(TOOLS))  # it imports its neighbour
    return importlib.import_module("bench_calibration")


def evidence_of(tracker: MasaTracker) -> FittedEvidence | LearnedEvidence:
    associator = tracker._associator
    assert isinstance(associator, FusedAssociator)
    return associator._state.appearance


def watched(cosines: np.ndarray, frames: int, noise: float = 0.02, start: int = 0) -> LearnedEvidence:
    """What is learned from objects that stay in view; ``cosines`` (K, K) of detections to tracks."""
    rng, count, evidence = np.random.default_rng(0), len(cosines), LearnedEvidence(6.0)
    tracks = np.arange(start, start + count)
    for k in range(frames):
        seen = cosines + rng.normal(0, noise, cosines.shape)
        sure, gaps = np.full(count, True), np.full(count, 0.1)
        evidence = evidence.learned(Observed(seen, np.arange(count), sure, gaps, tracks, 0.1 * k))
    return evidence


def unrelated(count: int, cosine: float) -> np.ndarray:
    """(count, count) cosines, .93 of an object and itself."""
    return np.full((count, count), cosine) + np.eye(count) * (0.93 - cosine)


def one(evidence: LearnedEvidence, cosine: float, seconds: float) -> float:
    return float(evidence.log_odds(np.array([[cosine]]), np.array([seconds]))[0, 0])


# --- the prior of a model


def test_a_prior_is_saved_and_read(tmp_path: Path) -> None:
    NANO.save(tmp_path / "p.json")
    assert AppearancePrior.load(tmp_path / "p.json") == NANO
    assert (NANO.model, NANO.dimension) == ("nano", 2096)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ("{", "must be a json file"),
        ("[]", "must be an object with"),
        ('{"different": [0, 1]}', "must be an object with"),
        ({"same": [[0.5, 0.1]]}, "must be 5 pairs"),
        ({"same": 7}, "prior .*: "),
        ({"different": [0.2, 0]}, "above 0, got"),
        ({"different": [3, 0.1]}, "must be in -2..2"),
        ({"different": ["a", 0.1]}, "pairs of mean and std, got"),
        ({"different": [float("nan"), 0.1]}, "pairs of mean and std, got"),
        ({"other": 1}, "must be an object with"),
    ],
)
def test_a_broken_prior_is_named(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "p.json"
    if isinstance(content, dict):
        whole = {"different": [0.2, 0.1], "same": [[0.5, 0.1]] * 5, **content}
        content = json.dumps(whole)
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=message):
        AppearancePrior.load(path)


def test_the_tracker_takes_the_prior_of_the_model_or_the_one_given(tmp_path: Path) -> None:
    assert isinstance(evidence_of(MasaTracker(Alike())), LearnedEvidence)
    own = evidence_of(MasaTracker(AlikeWithPrior()))
    assert isinstance(own, FittedEvidence)
    assert own.prior == NANO
    other = replace(NANO, different=(0.5, 0.1), model="alike", dimension=4)
    other.save(tmp_path / "p.json")
    for given in (other, tmp_path / "p.json", str(tmp_path / "p.json")):
        evidence = evidence_of(MasaTracker(AlikeWithPrior(), prior=given))
        assert isinstance(evidence, FittedEvidence)
        assert evidence.prior == other


def test_a_prior_of_another_model_is_refused() -> None:
    with pytest.raises(InputError, match="one for model 'nano' and a model of model 'alike'"):
        MasaTracker(AlikeWithPrior(), prior=NANO)
    with pytest.raises(InputError, match="one for dimension 2096 and a model of dimension 4"):
        MasaTracker(Alike(), prior=NANO)
    with pytest.raises(InputError, match="prior needs a preset that calibrates"):
        MasaTracker(Alike(), "tao", prior=NANO)


@pytest.mark.slow
def test_the_shipped_model_has_a_prior_and_its_backbone_alone_has_none() -> None:
    from masa_track.encoders.loading import load

    nano = load("nano", device="cpu")
    assert nano.prior == NANO
    assert nano.dimension == NANO.dimension
    assert load("nano-untrained", device="cpu").prior is None


def test_track_refuses_a_broken_prior(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import cv2

    cv2.imwrite(str(tmp_path / "1.png"), FRAME)
    (tmp_path / "p.json").write_text("[]")
    arguments = ["--prior", str(tmp_path / "p.json"), "--device", "cpu", "--out", str(tmp_path / "out")]
    assert main(["track", str(tmp_path), *arguments]) == 2
    assert "p.json must be an object with" in capsys.readouterr().err


# --- what is learned without one


def test_before_anything_is_seen_appearance_says_little() -> None:
    wide = LearnedEvidence(6.0)
    for cosine in (0.4, 0.5, 0.6, 0.7, 0.8):
        assert abs(one(wide, cosine, 0.1)) < 2.5


def test_boxes_of_a_frame_show_how_alike_different_objects_are() -> None:
    for cosine in (0.0, 0.3, 0.6, 0.75):
        evidence = watched(unrelated(4, cosine), 40)
        assert one(evidence, cosine, 0.1) < -4
        assert one(evidence, 0.93, 0.1) > 2
        assert one(evidence, cosine, 5.0) < -2


def test_many_frames_of_two_objects_are_one_pair() -> None:
    """However long the two are seen, the next object may be as alike as others of its class are."""
    _, std = watched(unrelated(2, 0.2), 1000).knots()[0][0]
    assert std > 0.09
    _, many = watched(unrelated(8, 0.2), 1000).knots()[0][0]
    assert many < 0.06


def test_classes_make_different_objects_less_certain() -> None:
    groups = np.array([0, 0, 1, 1, 2, 2])
    cosines = np.where(groups[:, None] == groups, 0.6, 0.2)
    np.fill_diagonal(cosines, 0.93)
    mean, std = watched(cosines, 40).knots()[0][0]
    assert 0.2 < mean < 0.4
    assert std > 0.13
    assert one(watched(cosines, 40), 0.6, 3.0) < 0


def test_different_objects_of_other_times_are_learned_from_those_that_left() -> None:
    """Boxes of one frame share the light: .6 alike now, .3 when one of them was seen some seconds ago."""
    evidence, count = watched(unrelated(4, 0.6), 30), 4
    tracks = np.arange(count)
    for k in range(30, 70):  # object 3 is gone
        cosines = unrelated(count, 0.6)[:3]
        cosines[:, 3] = 0.3
        gaps = np.array([0.1, 0.1, 0.1, 0.1 * (k - 29)])
        evidence = evidence.learned(Observed(cosines, np.arange(3), np.full(3, True), gaps, tracks, 0.1 * k))
    low, high = evidence.knots()
    assert low[0, 0] > 0.55
    assert low[4, 0] < 0.52
    assert high[4, 0] > low[4, 0] + 0.2
    for k in range(70, 90):  # object 4 came when 3 was gone: it may be 3, so it shows nothing
        ids, gaps = np.array([3, 4]), np.array([0.1 * (k - 29), 0.1])
        seen = Observed(np.array([[0.93, 0.93]]), np.array([1]), np.array([True]), gaps, ids, 0.1 * k)
        evidence = evidence.learned(seen)
    assert evidence.knots()[0][4, 0] == low[4, 0]


def test_learning_makes_a_new_evidence_and_tentative_tracks_show_nothing() -> None:
    before = watched(unrelated(3, 0.5), 5)
    arrays = {name: getattr(before, name).copy() for name in ("different_sums", "same_sums", "ids", "ages", "since")}
    tracks, sure, gaps = np.arange(3), np.full(3, True), np.full(3, 0.1)
    after = before.learned(Observed(unrelated(3, 0.5), tracks, sure, gaps, tracks, 0.6))
    assert after.different_sums[0, 0] > before.different_sums[0, 0]
    for name, array in arrays.items():
        np.testing.assert_array_equal(getattr(before, name), array)
    assert before.learned(Observed(unrelated(3, 0.5), tracks, sure, gaps, np.full(3, -1), 0.6)) is before


@pytest.mark.slow
def test_a_newcomer_gets_its_own_identity_where_unrelated_cosines_are_high(tool: Any) -> None:
    """Learned from the video and by the prior of another model alike; a returning one mostly keeps its own."""
    wrong = {"newcomers": 0, "returns": 0, "by nano's": 0}
    for seed in range(6):
        for scenario in ("newcomers", "returns"):
            scene = tool.sequence(scenario, tool.Looks(tool.FAMILIES["common .8"], 64, False, seed), seed)
            wrong[scenario] += tool.tracked(scene, None)[1]
            if scenario == "newcomers":
                wrong["by nano's"] += tool.tracked(scene, NANO)[1]
    assert wrong["newcomers"] <= 1
    assert wrong["by nano's"] <= 1
    assert wrong["returns"] <= 3


def test_tracking_goes_on_as_before_after_reset() -> None:
    tracker = MasaTracker(Alike())
    boxes = sv.Detections(xyxy=np.array([[0, 0, 40, 90], [200, 0, 240, 90]], np.float32), confidence=np.full(2, 0.95))
    for _ in range(5):
        tracker.update(boxes, FRAME)
    learned = evidence_of(tracker)
    assert isinstance(learned, LearnedEvidence)
    assert learned.different_sums[0, 0] > 0
    tracker.reset()
    fresh = evidence_of(tracker)
    assert isinstance(fresh, LearnedEvidence)
    assert not fresh.different_sums.any()
