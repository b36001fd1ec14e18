"""A film, weights and sentences to a folder; MTTR as a referrer over tracks. The network is tiny and untrained."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import supervision as sv
import torch

from masa_track.contracts import Frame
from masa_track.errors import InputError
from masa_track.formats.davis import read_index_picture
from masa_track.refer.data import normalised
from masa_track.refer.detected import open_referrer
from masa_track.refer.film import refer_video
from masa_track.refer.model import Mttr, MttrOutput, VideoMaps
from masa_track.refer.select import MttrReferrer
from masa_track.refer.settings import TINY
from masa_track.refer.synthetic import make_clip
from masa_track.refer.tokens import synthetic_encode, token_rows
from masa_track.refer.weights import load_weights, save_weights


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return save_weights(Mttr(TINY), tmp_path_factory.mktemp("weights") / "tiny.safetensors", "synthetic", 4)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("film")
    for t, image in enumerate(make_clip(0, frames=9).video):
        cv2.imwrite(str(folder / f"{t + 1:06d}.png"), image[..., ::-1])
    return folder


def test_answers_and_masks_of_a_film(model: Path, film: Path, tmp_path: Path) -> None:
    answers = refer_video(
        str(film), ["the red thing", "the circle"], model, tmp_path / "out", appearance="none", threshold=0.0
    )
    written = json.loads((tmp_path / "out" / "answers.json").read_text())
    assert written == answers
    assert [a["sentence"] for a in written] == ["the red thing", "the circle"]
    assert all(a["used"] == "mttr" and a["answer"] is not None and 0 <= a["score"] <= 1 for a in written)
    for sentence in ("1", "2"):
        pictures = sorted((tmp_path / "out" / sentence).glob("*.png"))
        assert pictures
        assert {path.stem for path in pictures} <= {f"{n:06d}" for n in range(1, 10)}
        assert read_index_picture(pictures[0]).shape == (64, 64)
    assert not [path for path in (tmp_path / "out").iterdir() if path.name not in ("1", "2", "answers.json")]


def test_frames_are_scaled_as_in_training(model: Path, film: Path, tmp_path: Path) -> None:
    """A small film is not enlarged for weights of synthetic clips."""
    network = load_weights(model).network
    sentences = ["the red thing", "the circle"]
    answers = refer_video(str(film), sentences, model, tmp_path / "out", window=9, appearance="none", threshold=0.0)
    video = torch.from_numpy(make_clip(0, frames=9).video).permute(0, 3, 1, 2)
    with torch.inference_mode():
        ids = token_rows(sentences, synthetic_encode, TINY.text.positions)
        for i, answer in enumerate(answers):
            row = ids[i : i + 1, : int((ids[i] != 1).sum())]
            alone = network(normalised(video)[None], row)
            assert answer["score"] == pytest.approx(float(alone.scores[:, 0].mean(0).max()), abs=1e-5)
    referrer = open_referrer(str(model), "cpu")
    assert isinstance(referrer, MttrReferrer)
    assert referrer.sides == (64, 114)


def test_no_answer_leaves_no_masks(model: Path, film: Path, tmp_path: Path) -> None:
    answers = refer_video(str(film), ["the red thing"], model, tmp_path / "out", appearance="none", threshold=1.0)
    assert answers[0]["answer"] is None
    assert not (tmp_path / "out" / "1").exists()


def test_every_second_frame(model: Path, film: Path, tmp_path: Path) -> None:
    refer_video(str(film), ["the circle"], model, tmp_path / "out", stride=2, appearance="none", threshold=0.0)
    assert {int(path.stem) % 2 for path in (tmp_path / "out" / "1").glob("*.png")} == {1}


@pytest.mark.parametrize(
    ("sentences", "options", "message"),
    [
        ([" "], {}, "must contain a word"),
        ([], {}, "at least one sentence"),
        (["the circle"], {"stride": 0}, "--stride must be 1 or more"),
        (["the circle"], {"window": -3}, "window must be 1"),
        (["红色的东西 " * 40], {}, "32 tokens"),
    ],
)
def test_what_cannot_be_asked(
    model: Path, film: Path, tmp_path: Path, sentences: list[str], options: dict[str, int], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        refer_video(str(film), sentences, model, tmp_path / "out", appearance="none", **options)
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_is_needed(film: Path, tmp_path: Path) -> None:
    path = save_weights(Mttr(TINY), tmp_path / "own.safetensors", "own", 4)
    with pytest.raises(InputError, match=r"tokenizer .* is missing: give tokenizer.json"):
        refer_video(str(film), ["a dog"], path, tmp_path / "out", appearance="none")


class TwoSquares(Mttr):
    """Query 0 is the left half of the picture, query 1 the right half; words say which is meant."""

    def segment(self, video: VideoMaps, words: torch.Tensor, ids: torch.Tensor) -> MttrOutput:
        frames, _, _, height, width = video.maps[0].shape
        masks = torch.full((1, frames, 1, 2, height, width), -1.0)
        masks[..., 0, :, : width // 2] = masks[..., 1, :, width // 2 :] = 1.0
        left = bool((ids == synthetic_encode("left")[1]).any())
        logits = torch.tensor([2.0, -2.0] if left else [-2.0, 2.0])
        referred = torch.stack([logits, -logits], dim=-1).expand(1, frames, 1, 2, 2)
        return MttrOutput(masks, referred, torch.zeros(frames, 1, 2, 4))


def window(ids: list[int], boxes: list[list[float]], count: int = 4) -> tuple[list[Frame], list[sv.Detections]]:
    frames = [Frame(t + 1, t / 6, (64, 64), image=np.zeros((64, 64, 3), np.uint8)) for t in range(count)]
    tracks = sv.Detections(np.array(boxes, np.float32).reshape(-1, 4), tracker_id=np.array(ids, int))
    return frames, [tracks] * count


LEFT, RIGHT = [0.0, 0, 32, 64], [32.0, 0, 64, 64]


def test_tracks_are_selected_by_overlap_and_score() -> None:
    session = MttrReferrer(TwoSquares(TINY), synthetic_encode, window=4, device="cpu").open(
        ["the thing moving left", "the thing moving right"]
    )
    session.add(*window([7, 9], [LEFT, RIGHT]))
    assert session.answer(0)[0] == 7
    assert session.answer(1)[0] == 9
    high, low = torch.tensor([2.0, -2.0]).softmax(0)[0].item(), 0.0
    assert high > 0.9 > low
    probability = 1 / (1 + np.exp(-4.0))
    np.testing.assert_allclose(session.scores()[7], [probability, 1 - probability], atol=1e-6)
    assert session.answer(0)[1] == pytest.approx(2 * probability - 1, abs=1e-6)


def test_a_blink_does_not_win() -> None:
    """Track 8 overlaps better, but lives for one frame of twelve."""
    session = MttrReferrer(TwoSquares(TINY), synthetic_encode, window=12, device="cpu").open(["the thing moving left"])
    frames, tracks = window([7], [[0.0, 0, 32, 48]], 12)
    tracks[3] = sv.Detections(np.array([LEFT, [0, 0, 32, 48]], np.float32), tracker_id=np.array([8, 7]))
    session.add(frames, tracks)
    assert session.answer(0)[0] == 7
    assert session.scores()[8][0] < 0.1


def test_no_track_fits() -> None:
    session = MttrReferrer(TwoSquares(TINY), synthetic_encode, window=4, device="cpu").open(["the thing moving left"])
    assert session.answer(0) == (None, 0.0)
    session.add(*window([9], [RIGHT]))
    assert session.answer(0)[0] is None
    session.add(*window([], []))
    assert set(session.scores()) == {9}


def test_windows_that_cannot_be() -> None:
    session = MttrReferrer(TwoSquares(TINY), synthetic_encode, device="cpu").open(["the thing moving left"])
    frames, tracks = window([9], [RIGHT])
    with pytest.raises(InputError, match="for each of its frames"):
        session.add(frames, tracks[:2])
    with pytest.raises(InputError, match="tracker_id"):
        session.add(frames, [sv.Detections(np.zeros((1, 4), np.float32))] * 4)
    with pytest.raises(InputError, match="at least one sentence"):
        MttrReferrer(TwoSquares(TINY), synthetic_encode, device="cpu").open([])
