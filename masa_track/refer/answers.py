"""Answers to sentences about tracks: by the grammar, by a model, or by both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from masa_track.refer.geometry import Scene
from masa_track.refer.grammar import check_sentence, parse
from masa_track.refer.phrases import Phrase, Sentence
from masa_track.refer.resolve import Ranked, Resolver, time_of
from masa_track.refer.words import ANY_NOUNS

MODEL_THRESHOLD = 0.3  # a model's score from which a track may be meant
AMBIGUOUS = 0.1  # margin below which the second track is named, too

GRAMMAR, PART, MODEL, BOTH, NOTHING = "grammar", "grammar in part", "model", "grammar and model", "nothing"


@dataclass(frozen=True)
class Answer:
    """Which track a sentence means.

    Attributes:
        sentence: as it was asked.
        answer: a track's id; None: none fits, or what the sentence says could not be understood.
        score: 0..1; 1 where all that the sentence says was checked by the grammar.
        margin: 0..1, the score less that of the next best track; 1 where no other fits.
        used: ``grammar``; ``model``; ``grammar and model``; ``grammar in part``: words that need a model were left
            out; ``nothing``: there is no model for them, and the rest does not select a track.
        also: ids of other tracks that fit: all of them where the sentence puts them in no order ("the car moving
            left"), else those whose score is less by 0.1 or less.
        note: what was left out, and why the answer is none.
    """

    sentence: str
    answer: int | None
    score: float
    margin: float
    used: str
    also: tuple[int, ...] = ()
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For json."""
        return {**asdict(self), "also": list(self.also)}


def answer(
    scene: Scene, text: str, model: Mapping[int, float] | None = None, threshold: float = MODEL_THRESHOLD
) -> Answer:
    """Answers one sentence.

    Args:
        scene: the tracks that may be meant.
        text: the sentence.
        model: a referrer's scores 0..1 of the unchanged sentence by track id; None without a referrer. They decide
            where the grammar did not parse all.
        threshold: score of the model below which no track is meant.

    Raises:
        InputError: see :func:`masa_track.refer.grammar.check_sentence`.
    """
    sentence = parse(text, [*scene.class_names, *scene.nouns])
    ranked = Resolver(scene).resolve(sentence.phrase, time_of(sentence.phrase))
    notes = _notes(scene, sentence)
    if not sentence.unparsed:
        if not sentence.selective and len(ranked) > 1 and model is not None:
            return _by_model(scene, sentence, ranked, model, threshold, notes)
        return _answer(scene, sentence, ranked, GRAMMAR, notes)
    if model is not None:
        return _by_model(scene, sentence, ranked, model, threshold, notes)
    missing = f"not understood without a model: {', '.join(sentence.unparsed)}"
    if sentence.selective and (not ranked or _selects(sentence, ranked)):
        return _answer(scene, sentence, ranked, PART, [missing, *notes])
    fitting = tuple(scene.tracks[one.place].identity for one in ranked) if sentence.selective else ()
    return Answer(sentence.text, None, 0.0, 0.0, NOTHING, fitting, "; ".join([missing, *notes]))


def answer_by_scores(scene: Scene, text: str, scores: Mapping[int, float], threshold: float) -> Answer:
    """Answers one sentence by the scores of a model alone.

    Args:
        scene: the tracks that may be meant.
        text: the sentence.
        scores: 0..1 by track id, of those that the model found for the sentence.
        threshold: score below which no track is meant.

    Raises:
        InputError: see :func:`masa_track.refer.grammar.check_sentence`.
    """
    found = [Ranked(place, 1.0) for place, track in enumerate(scene.tracks) if track.identity in scores]
    return _by_model(scene, Sentence(check_sentence(text), Phrase(), ()), found, scores, threshold, [])


def answers(
    scene: Scene,
    texts: Sequence[str],
    scores: Mapping[int, np.ndarray] | None = None,
    threshold: float = MODEL_THRESHOLD,
) -> list[Answer]:
    """Answers sentences in their order.

    Args:
        scene: the tracks that may be meant.
        texts: S sentences.
        scores: (S,) scores of each track id, as :meth:`masa_track.contracts.ReferrerSession.scores` gives them.
        threshold: see :func:`answer`.

    Raises:
        InputError: see :func:`answer`.
    """
    found = []
    for index, text in enumerate(texts):
        model = None if scores is None else {identity: float(each[index]) for identity, each in scores.items()}
        found.append(answer(scene, text, model, threshold))
    return found


def _selects(sentence: Sentence, ranked: Sequence[Ranked]) -> bool:
    """Whether what was parsed selects one track: a rank or a relation does, or all other tracks are ruled out."""
    return len(ranked) == 1 or _orders(sentence)


def _orders(sentence: Sentence) -> bool:
    """Whether the sentence itself puts the tracks that fit in an order: the second, the nearest to the bus."""
    return any(term.rank or term.kind in ("relation", "compare", "ordered") for term in sentence.phrase.terms)


def _by_model(
    scene: Scene,
    sentence: Sentence,
    ranked: Sequence[Ranked],
    model: Mapping[int, float],
    threshold: float,
    notes: list[str],
) -> Answer:
    """The model's scores, of the tracks that the grammar left."""
    found = []
    for one in ranked:
        own = model.get(scene.tracks[one.place].identity, 0.0)
        found.append(Ranked(one.place, own * (one.score if sentence.selective else 1.0)))
    used = BOTH if sentence.selective else MODEL
    found = sorted(found, key=lambda one: -one.score)
    if found and found[0].score < threshold:
        best = scene.tracks[found[0].place].identity
        note = f"the best {scene.called}, {best}, scores {found[0].score:.2f}, below the threshold {threshold:g}"
        return Answer(sentence.text, None, found[0].score, 0.0, used, (), "; ".join([note, *notes]))
    return _answer(scene, sentence, found, used, notes)


def _answer(scene: Scene, sentence: Sentence, ranked: Sequence[Ranked], used: str, notes: Sequence[str]) -> Answer:
    if not ranked:
        noun, resolver = sentence.phrase.noun, Resolver(scene)
        span = resolver.span(time_of(sentence.phrase))
        called, names = scene.called, ", ".join(scene.class_names)
        why = f"no {called} fits"
        if not resolver.of_class(noun):
            why = f"no {called} is of the class {noun!r}; there are {names}"
        elif span is not None and not any(len(track.rows(span)) for track in scene.tracks):
            why = f"no {called} is in view at that time"
        return Answer(sentence.text, None, 0.0, 0.0, used, (), "; ".join([why, *notes]))
    ids = [scene.tracks[one.place].identity for one in ranked]
    margin = ranked[0].score - ranked[1].score if len(ranked) > 1 else ranked[0].score
    several = used == GRAMMAR and not _orders(sentence)
    also = tuple(ids[i] for i in range(1, len(ids)) if several or ranked[0].score - ranked[i].score < AMBIGUOUS)
    if also:
        notes = [f"{'one other fits' if len(also) == 1 else f'{len(also)} others fit'} about as well: "
                 f"{', '.join(map(str, also[:10]))}", *notes]  # fmt: skip
    return Answer(sentence.text, ids[0], ranked[0].score, max(margin, 0.0), used, also, "; ".join(notes))


def _notes(scene: Scene, sentence: Sentence) -> list[str]:
    notes = []
    if sentence.skipped:
        notes.append(f"left out: {', '.join(sentence.skipped)}")
    noun = sentence.phrase.noun
    if noun and noun not in ANY_NOUNS and not scene.class_names:
        notes.append(f"the classes are not known, so any {scene.called} may be a {noun}")
    return notes
