"""`masa-track find`: crops of identities, ranked by a text, with a scripted model and with a tiny one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import supervision as sv
import tiny_scene

from masa_track.cli.main import main
from masa_track.errors import InputError
from masa_track.formats.run import read_run
from masa_track.formats.tracks import TrackWriters
from masa_track.parts.retrieval import best_places, crop_embeddings, rank, save_crops, stored_crops
from masa_track.video.sources import open_source

SHOE = 1_000_000
COLOURS = {"red": (0, 0, 255), "green": (0, 255, 0), "blue": (255, 0, 0)}


class Colours:
    """Texts are colours; a picture is its mean colour."""

    def text(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([COLOURS[text] for text in texts], np.float32) / 255

    def pictures(self, images: Sequence[np.ndarray]) -> np.ndarray:
        means = np.array([image.reshape(-1, 3).mean(axis=0) for image in images], np.float32)
        return means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-6)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """A green person with a red shoe, a blue one, and a speck."""
    (tmp_path / "film").mkdir()
    (tmp_path / "run").mkdir()
    with TrackWriters(tmp_path / "run", "film", 160, 100, 10.0, {0: "person", 1: "person shoe"}, parts=True) as writers:
        for number in range(1, 10):
            x = 10 + 2 * number
            picture = np.full((100, 160, 3), 128, np.uint8)
            boxes = [[x, 10, x + 30, 90], [x, 75, x + 20, 90], [100, 10, 130, 90], [150, 5, 153, 8]]
            for (x1, y1, x2, y2), name in zip(boxes, ("green", "red", "blue", "red"), strict=True):
                picture[y1:y2, x1:x2] = COLOURS[name]
            cv2.imwrite(str(tmp_path / "film" / f"{number:06d}.png"), picture)
            rows = sv.Detections(
                np.array(boxes, np.float32),
                confidence=np.array([0.9, 0.5 + number / 20, 0.9, 0.9], np.float32),
                class_id=np.array([0, 1, 0, 0]),
                tracker_id=np.array([1, SHOE, 2, 3]),
                data={"parent_id": np.array([-1, 1, -1, -1]), "part": np.array(["", "shoe", "", ""], object)},
            )
            writers.write(number, f"{number:06d}.png", rows, number / 10)
    return tmp_path


def test_the_best_crops_of_each_identity(film: Path) -> None:
    run = read_run(film / "run")
    places = best_places(run)
    frames = {i: run.frames[run.rows[places[run.ids[places] == i]]].tolist() for i in (1, SHOE, 2, 3)}
    assert frames[SHOE] == [3, 6, 9]  # the surest of each third
    assert len(frames[1]) == len(frames[2]) == 3
    assert frames[3] == []  # too small


def test_things_and_parts_are_ranked(film: Path) -> None:
    run, source = read_run(film / "run"), open_source(film / "film")
    places = best_places(run)
    embeddings = crop_embeddings(run, source, places, Colours())
    for name, first in (("red", SHOE), ("green", 1), ("blue", 2)):
        found = rank(run, places, embeddings, Colours().text([name])[0])
        assert found[0].identity == first
        assert len(found) == 3
        assert found[0].similarity > found[1].similarity
    other = film / "other"
    other.mkdir()
    cv2.imwrite(str(other / "1.png"), np.zeros((50, 50, 3), np.uint8))
    with pytest.raises(InputError, match="must be that of the run, of 160x100"):
        crop_embeddings(run, open_source(other), places, Colours())
    cv2.imwrite(str(other / "1.png"), np.zeros((100, 160, 3), np.uint8))
    with pytest.raises(InputError, match=r"frame|start"):
        crop_embeddings(run, open_source(other), places, Colours())


def test_embeddings_are_kept_for_the_same_tracks_and_model(film: Path) -> None:
    run = read_run(film / "run")
    places, embeddings = np.array([0, 5]), np.eye(2, 4, dtype=np.float32)
    assert stored_crops(film / "run", run, "a") is None
    save_crops(film / "run", run, "a", places, embeddings)
    held = stored_crops(film / "run", run, "a")
    assert held is not None
    np.testing.assert_array_equal(held[0], places)
    np.testing.assert_array_equal(held[1], embeddings)
    assert stored_crops(film / "run", run, "b") is None
    text = (film / "run" / "tracks.json").read_text()
    (film / "run" / "tracks.json").write_text(text + "\n")
    assert stored_crops(film / "run", run, "a") is None
    (film / "run" / "crops.npz").write_bytes(b"damaged")
    assert stored_crops(film / "run", run, "a") is None


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_the_command_with_a_tiny_model(film: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The second time the embeddings that were kept are taken: the video may be gone."""
    pytest.importorskip("transformers")
    model = getattr(tiny_scene, kind)(film / kind)
    given = ["find", str(film / "run"), "a person", "--model", str(model), "--device", "cpu"]
    assert main(given) == 2
    assert "name it with --video" in capsys.readouterr().err
    assert main([*given, "--video", str(film / "film"), "--json", str(film / "found.json"), "--top", "2"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].split()[:4] == ["rank", "similarity", "id", "class"]
    assert len(out) == 3
    found = json.loads((film / "found.json").read_text())["found"]
    assert {one["id"] for one in found} == {1, SHOE, 2}
    assert next(one for one in found if one["id"] == SHOE)["parent_id"] == 1
    similarities = [one["similarity"] for one in found]
    assert similarities == sorted(similarities, reverse=True)
    assert main([*given, "--top", "2"]) == 0
    assert capsys.readouterr().out.splitlines() == out
    assert main(["find", str(film / "run"), " ", "--model", str(model)]) == 2
    assert main(["find", str(film / "none"), "x", "--model", str(model)]) == 2
