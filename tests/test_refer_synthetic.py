"""The synthetic data set: sentences are true of one object alone, clips are repeatable, rules as baselines."""

from __future__ import annotations

import numpy as np
import pytest

from masa_track.refer.scoring import SentenceScore, rules, share
from masa_track.refer.synthetic import (
    COLOURS,
    MOTIONS,
    WORDS,
    attributes,
    encode,
    make_clip,
    mirrored_sentence,
    needed_kinds,
    reversed_sentence,
)

SEEDS = range(40)


@pytest.mark.parametrize("kinds", [("colour", "shape", "motion"), ("motion",), ("colour", "motion")])
def test_each_sentence_is_true_of_its_object_alone(kinds: tuple[str, ...]) -> None:
    for seed in SEEDS:
        clip = make_clip(seed, kinds=kinds)
        for i, sentence in enumerate(clip.sentences):
            named = attributes(sentence)
            assert named.keys() <= set(kinds)
            assert [all(o[k] == v for k, v in named.items()) for o in clip.objects] == [
                j == i for j in range(len(clip.objects))
            ]


def test_masks_show_what_the_sentences_say() -> None:
    """The colour of the pixels and the path of the middle of the mask."""
    for seed in SEEDS:
        clip = make_clip(seed, count=(1, 1))
        thing, mask = clip.objects[0], clip.masks[0]
        pixels = clip.video[mask].astype(float).mean(axis=0)
        np.testing.assert_allclose(pixels, COLOURS[thing["colour"]], atol=12)
        first, last = (np.argwhere(mask[t]).mean(axis=0) for t in (0, -1))
        travel = (last - first) / 64
        if thing["motion"] == "still":
            assert np.abs(travel).max() < 0.01
        else:
            direction = np.array(MOTIONS[thing["motion"]])
            assert travel @ direction > 0.25
            assert abs(travel @ direction[::-1]) < 0.01


def test_masks_of_a_clip_do_not_overlap() -> None:
    for seed in SEEDS:
        assert make_clip(seed).masks.sum(axis=0).max() == 1


def test_a_seed_is_a_clip() -> None:
    first, again, other = make_clip(5), make_clip(5), make_clip(6)
    np.testing.assert_array_equal(first.video, again.video)
    assert first.sentences == again.sentences
    assert (first.video != other.video).any()


def test_what_a_sentence_needs() -> None:
    objects = [
        {"colour": "red", "shape": "circle", "motion": "left"},
        {"colour": "red", "shape": "square", "motion": "left"},
    ]
    assert needed_kinds("the red circle", objects) == {"shape"}
    assert needed_kinds("the circle moving left", objects) == {"shape"}
    objects[1]["motion"] = "right"
    assert needed_kinds("the circle moving left", objects) == set()
    assert needed_kinds("the red thing moving left", objects) == {"motion"}


def test_words() -> None:
    assert encode("the red zebra") == [0, WORDS.index("the"), WORDS.index("red"), 3, 2]
    assert reversed_sentence("the red thing moving up") == "the red thing moving down"
    assert mirrored_sentence("the thing moving left") == "the thing moving right"
    assert mirrored_sentence("the thing moving up") == "the thing moving up"


def test_rules_on_a_clip() -> None:
    clip = next(
        c
        for c in map(make_clip, range(100))
        if len(c.objects) == 3 and "motion" in needed_kinds(c.sentences[0], c.objects)
    )
    found = rules(clip, 0)
    assert found["random"] == pytest.approx(1 / 3)
    assert 0 < found["colour"] <= 1
    assert found["colour + shape"] < 1  # motion is needed
    assert found["colour + shape"] >= found["colour"]


def test_share_and_its_interval() -> None:
    scores = [
        SentenceScore(i, frozenset({"motion"} if i % 2 else ()), True, {"network": float(i < 30)}, 0.5)
        for i in range(40)
    ]
    found, low, high, count = share(scores)
    assert (found, count) == (0.75, 40)
    assert 0.55 < low < 0.7
    assert 0.8 < high < 0.92
    assert share(scores, wanted=lambda s: "motion" in s.needs)[3] == 20
    assert np.isnan(share([])[0])
