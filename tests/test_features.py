"""Features: the backbone runs once for a picture, whatever works on it, and nobody works on another's features."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tiny_grounding import TinyMasa, tiny_embedder, tiny_text_detector

import masa_track
from masa_track import MasaTracker
from masa_track.detectors.motion import MotionDetector
from masa_track.detectors.own import OwnDetector
from masa_track.encoders.embedder import Embedder
from masa_track.errors import InputError
from masa_track.pipeline.loop import Job, track_video
from masa_track.video.sources import open_source

BOXES = np.array([[5, 5, 50, 60], [20, 10, 110, 80]], np.float32)


def picture(seed: int, width: int = 120, height: int = 90) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return cv2.resize(rng.integers(0, 255, (9, 12, 3)).astype(np.uint8), (width, height))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures each call of the tiny backbone had."""
    maps, seen = TinyMasa.backbone_maps, []

    def counted(self: TinyMasa, images: torch.Tensor) -> list[torch.Tensor]:
        seen.append(len(images))
        return maps(self, images)

    monkeypatch.setattr(TinyMasa, "backbone_maps", counted)
    return seen


def test_one_pass_for_boxes_text_and_embeddings(calls: list[int]) -> None:
    pytest.importorskip("transformers")
    model = tiny_embedder()
    own, text, frame = OwnDetector(model, 0.0), tiny_text_detector(model), picture(0)
    (features,) = model.encode([frame])
    (found,), (named,) = own.detect([frame], [features]), text.detect([frame], [features])
    embeddings = model.embed_features(features, found.xyxy)
    MasaTracker(model).update(named, frame, features=features)
    assert calls == [1]
    assert np.array_equal(found.xyxy, model.detect(frame)[0])  # the short ways give the same, with a pass each
    assert np.array_equal(embeddings, model.embed(frame, found.xyxy))
    assert np.array_equal(named.xyxy, text.detect([frame])[0].xyxy)
    assert calls == [1] * 4


def test_pictures_of_one_size_share_a_pass(calls: list[int]) -> None:
    model = tiny_embedder()
    images = [picture(0), picture(1, 60, 20), picture(2), picture(3)]
    features = model.encode(images)
    assert sorted(calls) == [1, 3]
    assert [own.size for own in features] == [(120, 90), (60, 20), (120, 90), (120, 90)]
    for image, own in zip(images, features, strict=True):
        np.testing.assert_allclose(model.embed_features(own, BOXES), model.embed(image, BOXES), atol=1e-6)
        np.testing.assert_allclose(model.detect_features(own)[1], model.detect(image)[1], atol=1e-6)
    assert model.encode([]) == []
    with pytest.raises(InputError, match=r"must be a sequence of pictures.*\(90, 120, 3\): pass \[frame\]"):
        model.encode(images[0])  # type: ignore[arg-type]


def test_a_buffer_that_is_filled_again_has_other_features(calls: list[int]) -> None:
    model, buffer = tiny_embedder(), picture(0)
    first = model.embed(buffer, BOXES)
    buffer[:] = picture(1)  # a camera that reuses its buffer
    assert np.abs(model.embed(buffer, BOXES) - first).max() > 1e-3
    assert calls == [1, 1]


def test_the_key_names_the_model_its_weights_and_the_dtype() -> None:
    model = tiny_embedder()
    assert model.key == tiny_embedder().key
    name, rest = model.key.split("@")
    checksum, dtype = rest.split("/")
    assert (name, len(checksum), dtype) == ("gdino-swinb", 12, "float32")
    assert int(checksum, 16) >= 0
    others = [tiny_embedder(seed=1), tiny_embedder(dtype="bfloat16"), Embedder(model.network, "r50", "cpu")]
    assert len({model.key, *(other.key for other in others)}) == 4
    assert masa_track.load("nano", "cpu").key.startswith("nano@")


@pytest.mark.parametrize("of", ["weights", "dtype", "name"])
def test_features_of_another_model_are_refused(of: str, calls: list[int]) -> None:
    model, frame = tiny_embedder(), picture(0)
    others = {"weights": tiny_embedder(seed=1), "dtype": tiny_embedder(dtype="bfloat16")}
    other = others.get(of) or Embedder(tiny_embedder().network, "r50", "cpu")
    (features,) = other.encode([frame])
    said = f"features are of the model {other.key}, not of {model.key}"
    for work in (
        lambda: model.embed_features(features, BOXES),
        lambda: model.embed_features(features, BOXES[:0]),
        lambda: model.detect_features(features),
        lambda: OwnDetector(model).detect([frame], [features]),
        lambda: MasaTracker(model).update([], frame, features=features),
    ):
        with pytest.raises(InputError, match=said):
            work()
    assert calls == [1]


def test_features_of_another_picture_are_refused() -> None:
    model, frame = tiny_embedder(), picture(0)
    (features,) = model.encode([picture(0, 90, 120)])
    said = rf"picture of 90 x 120 pixels \(model {model.key}\), but the picture has 120 x 90"
    with pytest.raises(InputError, match=said):
        OwnDetector(model).detect([frame], [features])
    with pytest.raises(InputError, match=said):
        MasaTracker(model).update([], frame, features=features)
    with pytest.raises(InputError, match="one a picture, got 2 for 1"):
        OwnDetector(model).detect([frame], [features, features])
    replace(features, size=(120, 90)).check(model.key, frame)


def test_a_model_that_only_embeds_takes_no_features() -> None:
    class Plain:
        def embed(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
            return np.ones((len(boxes), 4), np.float32)

    (features,) = tiny_embedder().encode([picture(0)])
    with pytest.raises(InputError, match="need a model with encode and embed_features, Plain has neither"):
        MasaTracker(Plain()).update([], picture(0), features=features)


@pytest.mark.slow
def test_a_run_encodes_each_frame_once(tmp_path: Path, calls: list[int]) -> None:
    pytest.importorskip("transformers")
    for number in range(4):
        cv2.imwrite(str(tmp_path / f"{number}.png"), picture(number))
    source, model = open_source(str(tmp_path / "*.png")), tiny_embedder()

    def run(detector: object, tracked_by: object = model) -> int:
        calls.clear()
        job = Job(source, detector, {}, MasaTracker(tracked_by), tmp_path, with_video=False)  # type: ignore[arg-type]
        assert track_video(job).frames == 4
        return len(calls)

    assert run(OwnDetector(model, 0.0)) == 4
    assert run(tiny_text_detector(model)) == 4
    assert run(OwnDetector(tiny_embedder(), 0.0)) == 4  # another embedder of the same weights
    assert run(OwnDetector(tiny_embedder(seed=1), 0.0)) == 8  # another model
    assert run(MotionDetector()) == 0  # it finds nothing in so few frames, and needs no features
