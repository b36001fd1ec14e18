"""How often the selected object is the right one, on synthetic clips, beside rules that need no network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from masa_track.refer.data import normalised
from masa_track.refer.matching import resize_logits
from masa_track.refer.model import Mttr
from masa_track.refer.synthetic import Clip, attributes, fits, make_clip, needed_kinds, reversed_sentence
from masa_track.refer.tokens import synthetic_encode, token_rows

RIGHT = 0.5  # IoU over the clip from which the selected object counts as the right one
RESAMPLES = 2000  # of clips, for the intervals


@dataclass(frozen=True)
class SentenceScore:
    """What became of one sentence.

    Attributes:
        clip: number of its clip.
        needs: attributes without whose words it fits several objects.
        moves: its object moves.
        right: by way of selection, 1 if the selected object is the right one, else 0; of a rule that leaves several
            objects the probability that a random one of them is right.
        iou: of the network's masks.
        other_fits: another object fits the sentence in the clip as it is played; only in a clip played backwards.
    """

    clip: int
    needs: frozenset[str]
    moves: bool
    right: Mapping[str, float]
    iou: float
    other_fits: bool = False


def rules(clip: Clip, index: int) -> dict[str, float]:
    """The probability that four rules select the object of a sentence.

    ``random``: any object; ``largest``: that with the most pixels; ``colour`` and ``colour + shape``: a random one of
    those that fit the sentence's words of these kinds.
    """
    named = attributes(clip.sentences[index])
    areas = clip.masks.sum(axis=(1, 2, 3))

    def fitting(kinds: Sequence[str]) -> float:
        asked = {kind: named[kind] for kind in kinds if kind in named}
        fit = [fits(asked, thing) for thing in clip.objects]
        return fit[index] / sum(fit)

    return {
        "random": 1 / len(clip.objects),
        "largest": float(areas.argmax() == index),
        "colour": fitting(("colour",)),
        "colour + shape": fitting(("colour", "shape")),
    }


@torch.inference_mode()
def selected_iou(network: Mttr, video: np.ndarray, masks: np.ndarray, sentences: Sequence[str]) -> np.ndarray:
    """The IoU over a clip of the object that each sentence selects with its own.

    Args:
        network: in evaluation mode.
        video: (T, H, W, 3) uint8 RGB.
        masks: (S, T, H, W) bool, of the sentences' objects.
        sentences: S.

    Returns:
        (S,).
    """
    clip = torch.from_numpy(np.ascontiguousarray(video)).permute(0, 3, 1, 2)
    ids = token_rows(sentences, synthetic_encode, network.settings.text.positions)
    output = network(normalised(clip)[None], ids, clips=[0] * len(sentences))
    chosen = output.scores.mean(0).argmax(-1)  # (S,)
    logits = torch.stack([output.masks[-1, :, s, q] for s, q in enumerate(chosen.tolist())])
    found = (resize_logits(logits, (video.shape[1], video.shape[2])) > 0).numpy()
    return (found & masks).sum((1, 2, 3)) / np.maximum(1, (found | masks).sum((1, 2, 3)))


def score_clips(
    network: Mttr, seeds: Sequence[int], kinds: Sequence[str] | None = None, play: str = "forwards"
) -> list[SentenceScore]:
    """Scores all sentences of the clips of some seeds.

    Args:
        network: in evaluation mode.
        seeds: of the clips.
        kinds: attributes that sentences name; None: all.
        play: ``forwards``; ``backwards``; or ``opposite``: backwards, with opposite directions in the sentences.
    """
    scores = []
    for number, seed in enumerate(seeds):
        clip = make_clip(seed) if kinds is None else make_clip(seed, kinds=kinds)
        order = slice(None) if play == "forwards" else slice(None, None, -1)
        sentences = [reversed_sentence(s) if play == "opposite" else s for s in clip.sentences]
        ious = selected_iou(network, clip.video[order], np.ascontiguousarray(clip.masks[:, order]), sentences)
        for i, (sentence, iou) in enumerate(zip(clip.sentences, ious, strict=True)):
            right = {"network": float(iou > RIGHT), **rules(clip, i)}
            moves = clip.objects[i]["motion"] != "still"
            needs = frozenset(needed_kinds(sentence, clip.objects))
            seen = attributes(reversed_sentence(sentence) if play == "backwards" else sentence)
            other_fits = any(fits(seen, thing) for j, thing in enumerate(clip.objects) if j != i)
            scores.append(SentenceScore(number, needs, moves, right, float(iou), other_fits))
    return scores


def share(
    scores: Sequence[SentenceScore], way: str = "network", wanted: Callable[[SentenceScore], bool] | None = None
) -> tuple[float, float, float, int]:
    """The share of right objects with its 95% interval, by drawing whole clips anew.

    Args:
        scores: of :func:`score_clips`.
        way: ``network`` or a rule.
        wanted: which sentences count; None: all.

    Returns:
        Share, lower and upper end, and number of sentences; NaN for none.
    """
    kept = [s for s in scores if wanted is None or wanted(s)]
    if not kept:
        return float("nan"), float("nan"), float("nan"), 0
    clips = sorted({s.clip for s in kept})
    place = {clip: i for i, clip in enumerate(clips)}
    sums, counts = np.zeros(len(clips)), np.zeros(len(clips))
    for s in kept:
        sums[place[s.clip]] += s.right[way]
        counts[place[s.clip]] += 1
    draws = np.random.default_rng(0).integers(0, len(clips), (RESAMPLES, len(clips)))
    shares = sums[draws].sum(1) / counts[draws].sum(1)
    low, high = np.percentile(shares, [2.5, 97.5])
    return float(sums.sum() / counts.sum()), float(low), float(high), len(kept)
