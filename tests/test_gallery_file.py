"""Galleries on disk, and the same objects in two cameras."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from masa_track.association import FusedAssociator, TrackGallery, match_galleries
from masa_track.association.gallery import unit
from masa_track.errors import InputError

LOOKS = unit(np.random.default_rng(3).normal(size=(12, 128)))


def gallery(things: list[int], seed: int, light: float = 0.0, first_id: int = 1, classes: int = 0) -> TrackGallery:
    """A camera's tracks of objects; ``light`` is added to all embeddings."""
    rng = np.random.default_rng(seed)
    associator = FusedAssociator(first_id=first_id, fps=10)
    boxes = np.array([[100 * n, 0, 100 * n + 40, 80] for n in range(len(things))], float)
    for frame in range(0, 40, 2):
        seen = LOOKS[things] + light * LOOKS[11] + 0.02 * rng.normal(size=(len(things), 128))
        ids = associator.update(boxes, np.ones(len(things)), np.full(len(things), classes), seen, frame)
        assert ids.tolist() == list(range(first_id, first_id + len(things)))
    return associator.gallery()


def test_a_gallery_comes_back_as_it_was(tmp_path: Path) -> None:
    one = gallery([0, 1, 2], 0, classes=4)
    one.save(tmp_path / "door.npz")
    again = TrackGallery.load(tmp_path / "door.npz")
    for name in ("ids", "classes", "counts", "vectors"):
        np.testing.assert_array_equal(getattr(again, name), getattr(one, name))
    assert again.classes.tolist() == [4, 4, 4]
    assert list(tmp_path.iterdir()) == [tmp_path / "door.npz"]
    assert len(FusedAssociator().gallery()) == 0


@pytest.mark.parametrize("light", [0.0, 1.0])
def test_two_cameras_see_the_same_objects(light: float) -> None:
    first, second = gallery([0, 1, 2, 3, 4], 0), gallery([3, 7, 1, 4, 8], 1, light, first_id=100)
    pairs = match_galleries(first, second)
    assert {(a, b) for a, b, _ in pairs} == {(4, 100), (2, 102), (5, 103)}
    assert [value for _, _, value in pairs] == sorted((value for _, _, value in pairs), reverse=True)
    assert {(b, a) for a, b, _ in match_galleries(second, first)} == {(a, b) for a, b, _ in pairs}


def test_objects_of_the_same_appearance_are_left_out() -> None:
    """Two objects in the second camera have the appearance of the one in the first, so neither is matched."""
    first, second = gallery([0, 1, 2], 0), gallery([0, 0, 2, 5], 1, first_id=100)
    assert {(a, b) for a, b, _ in match_galleries(first, second)} == {(3, 102)}
    assert len(match_galleries(first, second, margin=0)) == 2


def test_classes_and_nothing() -> None:
    first, second = gallery([0, 1], 0, classes=1), gallery([0, 1], 1, classes=2)
    assert len(match_galleries(first, second)) == 2
    assert match_galleries(first, second, class_aware=True) == []
    assert match_galleries(first, FusedAssociator().gallery()) == []


def test_what_is_no_gallery(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        TrackGallery.load(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(InputError, match="cannot be read"):
        TrackGallery.load(tmp_path / "text.npz")
    np.savez(tmp_path / "other.npz", ids=np.zeros(1))
    with pytest.raises(InputError, match="no classes, counts, vectors"):
        TrackGallery.load(tmp_path / "other.npz")
    np.savez(tmp_path / "code.npz", **dict.fromkeys(("ids", "classes", "counts", "vectors"), np.array([print])))
    with pytest.raises(InputError, match="cannot be read"):
        TrackGallery.load(tmp_path / "code.npz")  # pickled objects are not opened
    with pytest.raises(InputError, match=r"must end in \.npz"):
        gallery([0], 0).save(tmp_path / "door.pkl")
    with pytest.raises(InputError, match="counts of a gallery"):
        TrackGallery(np.zeros(1, int), np.zeros(1, int), np.array([3]), np.zeros((1, 2, 4), np.float32))
    other = TrackGallery(np.zeros(1, int), np.zeros(1, int), np.ones(1, int), np.ones((1, 2, 4), np.float32))
    with pytest.raises(InputError, match="128 and 4 numbers"):
        match_galleries(gallery([0], 0), other)
