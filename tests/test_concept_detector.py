"""SAM 3 as a detector, with a scripted model: phrases, exemplars, doubles, presence."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from scripted_concepts import SIDE, SIZE, Thing, World

from masa_track.contracts import Exemplar
from masa_track.errors import InputError
from masa_track.masklets.concept_detector import Sam3Detector
from masa_track.masklets.exemplars import check_frames, parse_exemplar, read_exemplars

BALL, CUP = Thing(lambda _: (30.0, 40.0)), Thing(lambda _: (90.0, 60.0), "cup", score=lambda _: 0.8)


def test_rows_have_masks_and_what_their_score_is_of() -> None:
    world = World([BALL, CUP], presence=lambda phrase, _: {"ball": 0.9, "cup": 0.75}[phrase])
    detector = Sam3Detector(world, ["ball", "cup"])
    assert detector.class_names == {0: "ball", 1: "cup"}
    found = detector.detect([world.frame(1).picture])[0]
    assert found.class_id.tolist() == [0, 1]
    assert found.data["phrase"].tolist() == ["ball", "cup"]
    np.testing.assert_allclose(found.confidence, [0.81, 0.6], rtol=1e-6)
    np.testing.assert_allclose(found.data["local_score"], [0.9, 0.8], rtol=1e-6)
    np.testing.assert_allclose(found.data["presence"], [0.9, 0.75], rtol=1e-6)
    assert found.metadata["presence"] == {"ball": 0.9, "cup": 0.75}
    for mask, box, thing in zip(found.mask, found.xyxy, world.things, strict=True):
        truth = thing.mask(1, SIZE)
        assert (np.asarray(mask) & truth).sum() > 0.85 * (np.asarray(mask) | truth).sum()
        rows, columns = np.nonzero(np.asarray(mask))
        assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert world.calls == 1  # for both phrases


def test_presence_is_there_where_nothing_is_found() -> None:
    world = World([BALL], presence=lambda *_: 0.2)
    found = Sam3Detector(world, ["ball"]).detect([world.frame(1).picture])[0]
    assert len(found) == 0
    assert found.metadata["presence"] == {"ball": 0.2}


def disc(x: float, radius: float = 9.0) -> np.ndarray:
    return Thing(lambda _: (x, 40.0), radius=radius).mask(1, (SIDE, SIDE))


def test_doubles() -> None:
    """Within a phrase masks above IoU .1, between phrases those above .7: the better one is kept."""
    ghosts = [("ball", disc(32), 0.95), ("ball", disc(60), 0.7), ("cup", disc(60), 0.8), ("cup", disc(67), 0.75)]
    world = World([BALL], ghosts=lambda _: ghosts)
    found = Sam3Detector(world, ["ball", "cup"]).detect([world.frame(1).picture])[0]
    np.testing.assert_allclose(found.confidence, [0.95, 0.8], rtol=1e-6)
    assert found.class_id.tolist() == [0, 1]
    ghosts = [("ball", disc(60), 0.7), ("cup", disc(67), 0.8)]  # they overlap, but are two objects
    world = World([], ghosts=lambda _: ghosts)
    found = Sam3Detector(world, ["ball", "cup"]).detect([world.frame(1).picture])[0]
    np.testing.assert_allclose(found.confidence, [0.7, 0.8], rtol=1e-6)


def test_exemplars_count_from_their_frame_on() -> None:
    world = World([BALL, CUP])
    shown = [Exemplar((20, 30, 40, 50), frame=3), Exemplar((80, 50, 99, 70), False, 3, "cup")]
    detector = Sam3Detector(world, ["ball", "cup"], shown)
    for number in range(1, 5):
        detector.at(world.frame(number))
    asked = {(call["number"], call["phrase"]): call for call in world.asked}
    for phrase, (box, positive) in {"ball": ([20, 30, 40, 50], True), "cup": ([80, 50, 99, 70], False)}.items():
        assert [asked[n, phrase]["shown"] is None for n in range(1, 5)] == [True, True, False, True]
        assert asked[3, phrase]["shown"] == ([box], [positive])
        assert [asked[n, phrase]["carried"] for n in (3, 4)] == [[], [(3, [box], [positive])]]


def test_exemplars_alone() -> None:
    world = World([BALL])
    detector = Sam3Detector(world, [], [Exemplar((20, 30, 40, 50), frame=2)])
    assert [len(detector.at(world.frame(number))) for number in (1, 2, 3)] == [0, 1, 1]
    assert detector.class_names == {0: "exemplar"}
    assert [call["phrase"] for call in world.asked] == [None, None]
    other = Sam3Detector(world, [], [Exemplar((20, 30, 40, 50), image=world.frame(9).picture)])
    assert len(other.detect([world.frame(1).picture])[0]) == 1
    assert world.asked[-1]["carried"] == [(9, [[20, 30, 40, 50]], [True])]


def test_what_cannot_be(caplog: pytest.LogCaptureFixture) -> None:
    world = World([BALL])
    with pytest.raises(InputError, match="neither: add --text or --exemplar"):
        Sam3Detector(world, [])
    with pytest.raises(InputError, match="32 tokens"):
        Sam3Detector(world, ["ball " * 40])
    with pytest.raises(InputError, match="contradict"):
        Sam3Detector(world, [], [Exemplar((20, 30, 40, 50)), Exemplar((20, 30, 40, 50), False)])
    with caplog.at_level(logging.WARNING):
        Sam3Detector(world, [], [Exemplar((20, 30, 40, 50), False)])
    assert "only negative exemplars" in caplog.text
    detector = Sam3Detector(world, [], [Exemplar((200, 30, 240, 50))])
    with pytest.raises(InputError, match="128 x 96 pixels"):
        detector.at(world.frame(1))


def test_exemplars_on_the_command_line() -> None:
    one = parse_exemplar("12:10,20.5,60,90@A red  car", True)
    assert (one.box, one.frame, one.phrase, one.positive) == ((10, 20.5, 60, 90), 12, "a red car", True)
    assert parse_exemplar("1:1,2,3,4", False).phrase is None
    for text in ("1,2,3,4", "0:1,2,3,4", "1:1,2,3", "1:3,2,1,4", "1:1,2,nan,4", "a:1,2,3,4", ""):
        with pytest.raises(InputError, match=r"--exemplar must be FRAME:x1"):
            parse_exemplar(text, True)
    both = read_exemplars(["2:1,2,3,4@cup"], ["1:1,2,3,4"], ["ball", "cup"])
    assert [(e.frame, e.positive, e.phrase) for e in both] == [(2, True, "cup"), (1, False, None)]
    with pytest.raises(InputError, match=r"did you mean 'cup'"):
        read_exemplars(["2:1,2,3,4@cups"], [], ["ball", "cup"])
    check_frames(both, 1, None, 1, 2)
    for start, stop, stride, length in ((2, None, 1, None), (1, 1, 1, None), (1, None, 1, 1), (1, None, 3, None)):
        with pytest.raises(InputError, match="frames that are read"):
            check_frames(both, start, stop, stride, length)
