"""Windows over a film: linked trajectories, votes, flat memory; a script stands for the network."""

from __future__ import annotations

import gc
import tracemalloc

import numpy as np
import pytest
import torch

from masa_track.errors import InputError
from masa_track.refer.model import Mttr, MttrOutput, VideoMaps
from masa_track.refer.referrer import FilmReferrer, distinct
from masa_track.refer.settings import TINY
from masa_track.refer.synthetic import make_clip
from masa_track.refer.tokens import synthetic_encode
from masa_track.refer.windows import MAX_CHAINS, Chains, Trajectories, WindowOptions, cosine_threshold

SIDE = 32


def square(row: float, column: float, side: int = 8) -> np.ndarray:
    """(SIDE, SIDE) float32 logits of a square."""
    logits = np.full((SIDE, SIDE), -4.0, np.float32)
    logits[int(row) : int(row) + side, int(column) : int(column) + side] = 4.0
    return logits


class Film:
    """Objects with a path, a life and a look, and the windows that a network would make of them."""

    def __init__(self, frames: int) -> None:
        self.frames = frames
        self.paths: list[np.ndarray] = []
        self.lives: list[range] = []
        self.looks: list[np.ndarray] = []
        self.scores: list[float] = []

    def add(self, start: tuple[float, float], end: tuple[float, float], life: range, score: float) -> None:
        self.paths.append(np.linspace(start, end, self.frames))
        self.lives.append(life)
        self.looks.append(np.eye(8, dtype=np.float32)[len(self.looks)])
        self.scores.append(score)

    def window(self, start: int, stop: int, keep: int = 3) -> tuple[Trajectories, list[int]]:
        """The trajectories of a window, the best first, and which object each is."""
        alive = [i for i, life in enumerate(self.lives) if set(range(start, stop)) & set(life)]
        alive = sorted(alive, key=lambda i: -self.scores[i])[:keep]
        logits = np.stack(
            [
                np.stack(
                    [
                        square(*self.paths[i][t]) if t in self.lives[i] else np.full((SIDE, SIDE), -4.0, np.float32)
                        for t in range(start, stop)
                    ]
                )
                for i in alive
            ]
        )
        scores = np.array([[self.scores[i]] * (stop - start) for i in alive], np.float32)
        return Trajectories(start, logits, scores, np.stack([self.looks[i] for i in alive])), alive


def linked(film: Film, options: WindowOptions) -> tuple[Chains, dict[int, set[int]]]:
    """The chains of a film cut into windows, and the identities that each object got."""
    chains, identities = Chains(options), {}
    for start in range(0, film.frames - options.overlap, options.step):
        found, objects = film.window(start, min(start + options.window, film.frames))
        for thing, identity in zip(objects, chains.add(found), strict=True):
            identities.setdefault(thing, set()).add(identity)
        list(chains.give(start + options.step))
    return chains, identities


def test_windows_give_the_identities_of_one_long_window() -> None:
    film = Film(40)
    film.add((2, 2), (20, 20), range(40), 0.9)
    film.add((20, 2), (2, 20), range(40), 0.4)
    long = linked(film, WindowOptions(window=40, overlap=0))[1]
    short = linked(film, WindowOptions(window=8, overlap=4))[1]
    assert short == long == {0: {1}, 1: {2}}


def test_an_object_of_one_window_has_an_identity_of_its_own() -> None:
    film = Film(40)
    film.add((2, 2), (20, 20), range(40), 0.9)
    film.add((20, 20), (20, 2), range(17, 19), 0.5)
    film.looks[1] = np.eye(8, dtype=np.float32)[7]
    chains, identities = linked(film, WindowOptions(window=8, overlap=4))
    assert identities[0] == {1}
    assert identities[1].isdisjoint(identities[0])
    assert chains.ranked()[0].identity == 1


def test_two_objects_whose_scores_swap_at_a_border_keep_their_identities() -> None:
    """The best trajectory of the second window is the other object: masks say so, not the order."""
    film = Film(12)
    film.add((2, 2), (2, 2), range(12), 0.9)
    film.add((20, 20), (20, 20), range(12), 0.5)
    chains = Chains(WindowOptions(window=8, overlap=4))
    assert chains.add(film.window(0, 8)[0]) == [1, 2]
    film.scores = [0.5, 0.9]
    found, objects = film.window(4, 12)
    assert objects == [1, 0]
    assert chains.add(found) == [2, 1]


def test_two_objects_that_swap_places_between_windows_without_shared_frames() -> None:
    """Without overlap appearance alone tells them apart."""
    film = Film(16)
    film.add((2, 2), (20, 20), range(16), 0.9)
    film.add((20, 20), (2, 2), range(16), 0.5)
    assert linked(film, WindowOptions(window=8, overlap=0))[1] == {0: {1}, 1: {2}}


def test_an_object_that_returns_is_known_by_its_looks() -> None:
    film = Film(40)
    film.add((2, 2), (2, 2), [*range(10), *range(28, 40)], 0.9)
    film.add((20, 20), (20, 20), range(40), 0.5)
    with_looks = linked(film, WindowOptions(window=8, overlap=4))[1]
    assert with_looks == {0: {1}, 1: {2}}
    film.looks = [np.full(8, np.nan, np.float32)] * 2
    without = linked(film, WindowOptions(window=8, overlap=4))[1]
    assert len(without[0]) == 2


def test_a_wrong_choice_in_one_window_is_outvoted() -> None:
    film = Film(32)
    film.add((2, 2), (2, 2), range(32), 0.8)
    film.add((20, 20), (20, 20), range(32), 0.3)
    chains = Chains(WindowOptions(window=8, overlap=4))
    for start in range(0, 28, 4):
        film.scores = [0.2, 0.95] if start == 12 else [0.8, 0.3]
        chains.add(film.window(start, start + 8)[0])
        list(chains.give(start + 4))
    ranked = chains.ranked()
    assert [chain.identity for chain in ranked] == [1, 2]
    assert ranked[0].score == pytest.approx((6 * 0.8 + 0.2) / 7, rel=1e-6)


def test_logits_of_shared_frames_are_averaged() -> None:
    chains = Chains(WindowOptions(window=4, overlap=2))
    logits = np.stack([np.stack([square(4, 4)] * 4)])
    chains.add(Trajectories(0, logits, np.full((1, 4), 0.5, np.float32)))
    first = list(chains.give(2))
    chains.add(Trajectories(2, 3 * logits, np.full((1, 4), 0.9, np.float32)))
    later = list(chains.give(6))
    assert [f.frame for f in first] == [0, 1]
    assert [f.frame for f in later] == [2, 3, 4, 5]
    np.testing.assert_allclose(later[0].logits, 2 * logits[0, 0])
    np.testing.assert_allclose(later[2].logits, 3 * logits[0, 0])
    assert later[0].score == pytest.approx(0.7)


def test_chains_that_are_remembered_are_bounded() -> None:
    """An object that looks new in each window does not fill the memory."""
    chains = Chains(WindowOptions(window=4, overlap=2, keep=1))
    draws = np.random.default_rng(0)
    for window in range(300):
        logits = np.stack([np.stack([square(*draws.integers(0, 24, 2), side=3)] * 4)])
        look = draws.normal(size=(1, 64)).astype(np.float32)
        look /= np.linalg.norm(look)
        chains.add(Trajectories(2 * window, logits, draws.uniform(size=(1, 4)).astype(np.float32), look))
        list(chains.give(2 * window + 2))
        assert len(chains.chains) <= MAX_CHAINS + 1
        assert len(chains._pending) <= 4


def test_cosine_threshold_lies_between_both_means() -> None:
    assert cosine_threshold((0.2, 0.1), (0.6, 0.1)) == pytest.approx(0.4)
    assert cosine_threshold((0.2, 0.1), (0.6, 0.3)) == pytest.approx(0.3)


@pytest.mark.parametrize("options", [{"window": 0}, {"window": 4, "overlap": 4}, {"keep": 0}])
def test_options_that_cannot_be(options: dict[str, int]) -> None:
    with pytest.raises(InputError, match="must be"):
        WindowOptions(**options)


def test_queries_on_one_object_count_once() -> None:
    masks = torch.zeros((3, 2, 8, 8), dtype=torch.bool)
    masks[0, :, :4, :4] = masks[1, :, :4, :4] = masks[2, :, 4:, 4:] = True
    masks[1, :, 4, 4] = True
    assert distinct(masks, torch.tensor([0.5, 0.9, 0.1]), 3) == [1, 2]


class Script(Mttr):
    """The tiny network, whose masks are where a film is bright in red (query 0) and green (query 1)."""

    def segment(self, video: VideoMaps, words: torch.Tensor, ids: torch.Tensor) -> MttrOutput:
        frames = video.maps[0].shape[0]
        red, green = (self.clip[0, c, :, 2::4, 2::4] - self.clip[0, 2, :, 2::4, 2::4] for c in (0, 1))
        masks = torch.stack([red, green], dim=1)[None, :, None] - 1.0
        asks_red = bool((ids == synthetic_encode("red")[1]).any())
        logits = torch.tensor([2.0, -2.0] if asks_red else [-2.0, 2.0])
        referred = torch.stack([logits, -logits], dim=-1).expand(1, frames, 1, 2, 2)
        return MttrOutput(masks, referred, torch.zeros(frames, 1, 2, 4))

    def encode_video(self, videos: torch.Tensor, *args: object) -> VideoMaps:
        self.clip = videos
        return super().encode_video(videos)


def film_frames(count: int) -> list[np.ndarray]:
    """BGR frames with a red square that moves right and a green one that moves left."""
    frames = []
    for t in range(count):
        image = np.zeros((64, 64, 3), np.uint8)
        image[8:24, 2 + t : 18 + t, 2] = 255
        image[40:56, 40 - t : 56 - t, 1] = 255
        frames.append(image)
    return frames


def test_a_referrer_on_a_film_in_windows() -> None:
    """Each frame comes once, with masks on the right square; the sentences have different answers."""
    network = Script(TINY)
    referrer = FilmReferrer(
        network,
        synthetic_encode,
        ["the red thing", "the green thing"],
        WindowOptions(window=6, overlap=3, keep=1),
        sides=(64, 64),
        device="cpu",
    )
    frames = film_frames(20)
    found = [mask for frame in frames for mask in referrer.add(frame)]
    found += list(referrer.finish())
    answers = referrer.answers()
    for sentence, channel in ((0, 2), (1, 1)):
        masks = [m for m in found if m.sentence == sentence and m.chain == answers[sentence].chain]
        assert [m.frame for m in masks] == list(range(20))
        for m in masks:
            truth = frames[m.frame][..., channel] > 0
            assert (m.mask & truth).sum() > 0.6 * (m.mask | truth).sum()
    assert answers[0].score > 0.9


def test_a_film_shorter_than_a_window() -> None:
    referrer = FilmReferrer(Script(TINY), synthetic_encode, ["the red thing"], sides=(64, 64), device="cpu")
    for frame in film_frames(3):
        assert not list(referrer.add(frame))
    assert {m.frame for m in referrer.finish()} == {0, 1, 2}


def test_no_object_is_likely_enough() -> None:
    referrer = FilmReferrer(
        Script(TINY), synthetic_encode, ["the red thing"], sides=(64, 64), threshold=0.999, device="cpu"
    )
    list(referrer.add(film_frames(1)[0]))
    list(referrer.finish())
    assert referrer.answers()[0].chain is None
    assert referrer.answers()[0].score > 0.9


def test_frames_and_sentences_that_cannot_be_taken() -> None:
    network = Mttr(TINY)
    for sentences, message in (([], "at least one"), (["  "], "must contain a word"), (["a " * 40], "32 tokens")):
        with pytest.raises(InputError, match=message):
            FilmReferrer(network, synthetic_encode, sentences)
    referrer = FilmReferrer(network, synthetic_encode, ["the red thing"])
    with pytest.raises(InputError, match="holds no frame"):
        list(referrer.finish())
    with pytest.raises(InputError, match="uint8 BGR"):
        list(referrer.add(np.zeros((8, 8), np.uint8)))
    list(referrer.add(np.zeros((64, 64, 3), np.uint8)))
    with pytest.raises(InputError, match="one size"):
        list(referrer.add(np.zeros((64, 80, 3), np.uint8)))


def test_sentences_together_are_answered_as_alone() -> None:
    """Padding of the shorter sentence changes nothing."""
    network, clip = Mttr(TINY), make_clip(3)
    sentences = ["the red thing moving left", "the circle"]

    def run(some: list[str]) -> list[float]:
        referrer = FilmReferrer(network, synthetic_encode, some, WindowOptions(4, 2), sides=(64, 64), device="cpu")
        for image in clip.video:
            list(referrer.add(np.ascontiguousarray(image[..., ::-1])))
        list(referrer.finish())
        return [answer.score for answer in referrer.answers()]

    assert run(sentences) == pytest.approx(run(sentences[:1]) + run(sentences[1:]), abs=1e-6)


@pytest.mark.slow
def test_memory_is_flat_over_3000_frames() -> None:
    """Allocations of Python and numpy after 3,000 frames are those after 500."""
    referrer = FilmReferrer(
        Script(TINY), synthetic_encode, ["the red thing"], WindowOptions(window=12, overlap=6), sides=(32, 32)
    )
    frames = [np.ascontiguousarray(frame[:32, :32]) for frame in film_frames(16)]
    tracemalloc.start()
    sizes = {}
    for number in range(1, 3001):
        for found in referrer.add(frames[number % 16].copy()):
            assert found.mask.shape == (32, 32)
        if number in (500, 3000):
            gc.collect()
            sizes[number] = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert sizes[3000] < sizes[500] + 200_000, sizes
