"""Which tracks a parsed sentence fits: each term gives the tracks that fit it a strength, ranks put them in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from masa_track.refer import measures, relations
from masa_track.refer.geometry import Scene, Span, growth
from masa_track.refer.phrases import COUNTED, EVENTS, Phrase, Term, When
from masa_track.refer.words import ANY_NOUNS, meanings

SIDE_RANKS = {"left": ("x", -1), "right": ("x", 1), "top": ("y", -1), "bottom": ("y", 1)}  # measure, sign
_MOMENTS = ("at", "around", "start", "end", "middle", "percent", "before_end")
Strengths = dict[int, float]  # by the track's place in the scene; tracks that do not fit are not in it


@dataclass(frozen=True)
class Ranked:
    """A track that fits.

    Attributes:
        place: of the track in the scene.
        score: 0..1, 1 for the best.
    """

    place: int
    score: float


def span_of(scene: Scene, when: When | None) -> Span | None:
    """The frames that a time means; None without a time. Empty (first > last) where the video has no such frame."""
    if when is None or when.kind in ("whole", "running"):
        return None
    first, last = float(scene.first), float(scene.last)
    numbers = [scene.frame_of(value) for value in when.values] if when.seconds else list(when.values)
    spans = {"start": Span(first, first, True), "end": Span(last, last, True)}
    middle = (first + last) / 2
    spans |= {
        "middle": Span(scene.nearest(middle), scene.nearest(middle), True),
        "first_half": Span(first, middle),
        "second_half": Span(middle, last),
    }
    if when.kind in spans:
        return spans[when.kind]
    if when.kind in ("percent", "part"):
        ends = [float(scene.nearest(first + value / 100 * (last - first))) for value in when.values]
        return Span(ends[0], ends[-1], when.kind == "percent")
    if when.kind == "before_end":
        moment = float(scene.nearest(last - when.values[0] * (scene.fps if when.seconds else 1)))
        return Span(moment, moment, True)
    if when.kind == "opening":
        return Span(first, first + when.values[0] * (scene.fps if when.seconds else 1))
    if when.kind == "closing":
        return Span(last - when.values[0] * (scene.fps if when.seconds else 1), last)
    if when.kind == "between":
        return Span(min(numbers), max(numbers))
    if when.kind in ("just_before", "just_after"):
        reach = max(3 * scene.fps, 5 * scene.step)
        start = numbers[0] - (reach if when.kind == "just_before" else 0)
        return Span(start, start + reach)
    if when.kind == "before":
        return Span(first, numbers[0])
    if when.kind == "after":
        return Span(numbers[0], last)
    if not first - scene.step < numbers[0] < last + scene.step:
        return Span(numbers[0], numbers[0] - 1, True)
    near = float(scene.nearest(numbers[0]))
    if when.kind == "around":
        reach = 5 * scene.step
        return Span(near - reach, near + reach)
    return Span(near, near, True)


def time_of(phrase: Phrase) -> When | None:
    """The time that holds for a phrase and what stands in relation to it: the first one of the sentence."""
    if phrase.when is not None:
        return phrase.when
    for term in phrase.terms:
        if term.kind == "visible" and term.when is not None and term.when.kind != "whole" and not term.negated:
            return term.when
        for inner in term.phrases:
            if (found := time_of(inner)) is not None:
                return found
    return None


class Resolver:
    """Resolves phrases over the tracks of a scene.

    Args:
        scene: the tracks.
    """

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self._known: dict[tuple[int, When | None, tuple[int, ...]], list[int]] = {}
        self._times: dict[int, When] = {}

    def of_class(self, noun: str) -> list[int]:
        """Tracks that the noun may mean, by their class. A track whose class is not known may be anything."""
        tracks = self.scene.tracks
        if not noun or noun in ANY_NOUNS:
            return list(range(len(tracks)))
        names = meanings(noun, self.scene.class_names)
        return [place for place, track in enumerate(tracks) if not track.name or track.name in names]

    def span(self, when: When | None) -> Span | None:
        """:func:`span_of`, also of a time that an event makes: empty where it does not happen."""
        if when is None or when.phrase is None:
            return span_of(self.scene, when)
        key = id(when.phrase)
        if key not in self._times:
            never = (self.scene.last + 10 * self.scene.step,)
            self._times[key] = When("at", never)
            for one in self.resolve(when.phrase)[:1]:
                track, event = self.scene.tracks[one.place], when.phrase.terms[-1]
                if when.kind == "during":
                    self._times[key] = When("between", (float(track.frames[0]), float(track.frames[-1])))
                    continue
                frame = measures.event_frame(self.scene, track, event.name, event.side, None, event.rank < 0)
                if frame is not None:
                    later = {"after": 1, "before": -1}.get(when.kind, event.name == "leave")
                    self._times[key] = When(when.kind, (frame + later * self.scene.step,))
        return span_of(self.scene, self._times[key])

    def _own_span(self, term: Term, default: Span | None) -> Span | None:
        """The time of a term; the default where it has none of its own."""
        return default if term.when is None else self.span(term.when)

    def resolve(self, phrase: Phrase, default: When | None = None, without: Iterable[int] = ()) -> list[Ranked]:
        """The tracks that fit a phrase, best first.

        Args:
            phrase: to resolve.
            default: the time that holds where the phrase has none.
            without: tracks that it does not mean.
        """
        when = phrase.when or default
        span = self.span(when)
        own = self.span(phrase.when)
        candidates = [place for place in self.of_class(phrase.noun) if place not in set(without)]
        if own is not None:
            candidates = [place for place in candidates if len(self.scene.tracks[place].rows(own))]
        scores = dict.fromkeys(candidates, 1.0)
        ranks: list[tuple[Term, Strengths]] = []
        for term in phrase.terms:
            if term.kind == "rank":
                ranks.append((term, {}))
                continue
            fits = self.fits(term, list(scores), when, span)
            if term.negated and not (term.rank and term.kind in COUNTED):
                scores = {place: score for place, score in scores.items() if place not in fits}
                continue
            if term.rank and term.kind in COUNTED:
                ranks.append((term, fits))
                if not term.negated:
                    scores = {place: score for place, score in scores.items() if place in fits}
                continue
            best = max(fits.values(), default=1.0) or 1.0
            scores = {place: scores[place] * max(value, 1e-9) / best for place, value in fits.items()}
        if phrase.terms and phrase.terms[-1].name == "first" and abs(phrase.terms[-1].rank) > 1:
            scores = _clearly_moving(phrase.terms[:-1], scores)
        for term, fits in ranks:
            order = self.ranked(term, scores, fits, self._own_span(term, span), phrase.count if phrase.plural else 1)
            if term.negated:  # "not the tallest": any other
                first = max(order, key=order.__getitem__, default=None)
                order = {place: score for place, score in scores.items() if place != first}
            scores = order
        if not scores:
            return []
        top = max(scores.values()) or 1.0
        found = [Ranked(place, score / top) for place, score in scores.items()]
        return sorted(found, key=lambda one: -one.score)

    def ranked(self, term: Term, scores: Strengths, fits: Strengths, span: Span | None, count: int = 1) -> Strengths:
        """Scores after a rank: 1 for the track of that rank, less for the others by their distance in the measure.

        Of ``count`` above 1, "the two leftmost people", there are no others than these.
        """
        places = list(scores)
        if term.kind == "rank":
            if term.phrases:  # "in the middle of the three"
                group = {one.place for phrase in term.phrases for one in self.resolve(phrase, None)}
                places = [place for place in places if place in group]
            values = measures.measure(self.scene, term.name, places, span)
            rank, unit = term.rank, measures.unit_of(self.scene, term.name)
        elif term.kind in EVENTS:
            values = {place: fits[place] for place in places if place in fits}
            rank, unit = -term.rank, 4 * self.scene.step
        else:
            values = {place: fits[place] for place in places if place in fits}
            rank, unit = term.rank, 0.0
        values = {place: value for place, value in values.items() if np.isfinite(value)}
        order = sorted(values, key=lambda place: -values[place])
        index = rank - 1 if rank > 0 else len(order) + rank
        if not 0 <= index < len(order):
            return {}
        chosen = values[order[index]]
        unit = unit or 0.1 * abs(chosen) or 1.0
        result = {place: float(np.exp(-abs(values[place] - chosen) / unit)) for place in order}
        result[order[index]] = 1.0 + 1e-6  # before others of the same value
        if count > 1:
            chosen_ones = order[index : index + count] if rank > 0 else order[max(0, index - count + 1) : index + 1]
            return {place: result[place] for place in chosen_ones}
        return result

    def fits(self, term: Term, candidates: Sequence[int], when: When | None, span: Span | None) -> Strengths:
        """The candidates that fit one term, with strengths above 0; of an event that is ranked, with its frame."""
        if term.kind == "among":
            group = {one.place for phrase in term.phrases for one in self._group(phrase, when)}
            return {place: 1.0 for place in candidates if place in group}
        if term.kind == "class":
            return dict.fromkeys(set(candidates).intersection(self.of_class(term.name)), 1.0)
        if term.kind == "same":
            return dict.fromkeys(set(candidates).intersection(self.references(term.phrases[0], when)), 1.0)
        if term.kind == "relation":
            return self._relation(term, candidates, term.when or when, self._own_span(term, span))
        if term.kind == "compare":
            return self._compare(term, candidates, when, span)
        if term.kind == "ordered":
            return self._ordered(term, candidates, when)
        if term.kind == "event":
            return self._event(term, candidates, when)
        if term.kind == "moves" and term.name == "ahead":
            rates = {
                place: growth(self.scene, self.scene.tracks[place], None) for place in range(len(self.scene.tracks))
            }
            most = max((rates[place] for place in candidates), default=0.0)
            seconds = {
                place: len(self.scene.tracks[place].frames) * self.scene.step / self.scene.fps for place in rates
            }
            return {
                place: 1.0
                for place in candidates
                if rates[place] * seconds[place] < 1  # what comes towards us grows by more than e times
                and (rates[place] <= 0 or rates[place] < 0.5 * most or most < 0.05)
            }
        own = self._own_span(term, span)
        test: Callable[..., float] = measures.TESTS[term.kind]
        found = {place: test(self.scene, self.scene.tracks[place], term, own) for place in candidates}
        found = {place: value for place, value in found.items() if value > 0}
        if term.rank and term.kind in EVENTS:  # "the first to reach the left edge": its frame
            found = {place: measures.reaching_frame(self.scene, self.scene.tracks[place], term, own) for place in found}
        if found or len(self.scene.frames) > 1 or len(candidates) < 2 or term.negated:
            return found
        return self._outermost(term, candidates)

    def _group(self, phrase: Phrase, when: When | None) -> list[Ranked]:
        """ "of the three on the right": the three that are farthest right."""
        found = self.resolve(phrase, when)
        if phrase.count and any(term.kind == "region" for term in phrase.terms):
            return found[: phrase.count]
        return found

    def _outermost(self, term: Term, candidates: Sequence[int]) -> Strengths:
        """In a picture whose objects all are on the other side, "on the right" means the rightmost of several."""
        if (term.kind, term.name) != ("region", "side") or term.side not in SIDE_RANKS:
            return {}
        name, sign = SIDE_RANKS[term.side]
        values = measures.measure(self.scene, name, candidates, None)
        return {max(candidates, key=lambda place: sign * values[place]): 1.0}

    def references(self, phrase: Phrase, when: When | None, without: Iterable[int] = ()) -> list[int]:
        """The tracks that a phrase in a relation means: one, or all in view that fit where it names several."""
        key = (id(phrase), when, tuple(without))
        if key not in self._known:
            found = self.resolve(phrase, when, without)
            if phrase.plural or phrase.other or phrase.some:
                span = self.span(phrase.when or when)
                found = [one for one in found if len(self.scene.tracks[one.place].rows(span))]
            else:
                found = found[:1]
            self._known[key] = [one.place for one in found]
        return self._known[key]

    def _others(self, phrase: Phrase, when: When | None, place: int) -> list[int]:
        """The tracks, other than the candidate itself, that a phrase in a relation of the candidate means."""
        without = (place,) if _needs_candidate(phrase) else ()
        return [other for other in self.references(phrase, when, without) if other != place]

    def _relation(self, term: Term, candidates: Sequence[int], when: When | None, span: Span | None) -> Strengths:
        result: Strengths = {}
        for place in candidates:
            groups = [self._others(phrase, when, place) for phrase in term.phrases]
            if all(groups):
                strength = relations.relation(
                    self.scene, term.name, place, groups, span, any(phrase.some for phrase in term.phrases)
                )
                if strength > 0 and term.rank and term.name in relations.TOUCHING:  # "the first to pass him"
                    strength = 1 / (1 + relations.first_contact(self.scene, place, groups[0], span))
                if strength > 0:
                    result[place] = strength
        if len(result) < max(abs(term.rank), 1) and term.name in relations.FALLBACKS:
            return self._relation(_named(term, relations.FALLBACKS[term.name]), candidates, when, span)
        return result

    def _compare(self, term: Term, candidates: Sequence[int], when: When | None, span: Span | None) -> Strengths:
        result: Strengths = {}
        for place in candidates:
            group = self._others(term.phrases[0], when, place)
            if not group:
                continue
            values = measures.measure(self.scene, term.name, [place, *group], span)
            gaps = [term.rank * (values[place] - values[other]) for other in group]
            if all(gap > 0 for gap in gaps):
                result[place] = float(min(gaps))
        return result

    def _event(self, term: Term, candidates: Sequence[int], when: When | None) -> Strengths:
        tracks, asked = self.scene.tracks, self.span(when)
        if term.name == "appear" and "running" in {time.kind for time in (when, term.when) if time is not None}:
            term = _named(term, "enter")  # what is there in the first frame does not appear while the video runs
        own = self.span(term.when)
        if own is not None and own.first > own.last:
            return {}
        if own is not None and term.when is not None and term.when.kind in _MOMENTS:
            own = self.scene.around(own, 1.5)
        known: dict[int, float] = {}
        for place in candidates:
            frame = measures.event_frame(self.scene, tracks[place], term.name, term.side, asked, term.rank < 0, own)
            if frame is not None:
                known[place] = frame
        if term.rank:
            return known
        if term.name == "passed_by_camera":
            return {place: 1 / max(growth(self.scene, tracks[place], None), 1e-3) for place in known}
        near = None if asked is None or not asked.point or asked.first > asked.last else asked.first
        if own is not None and term.when is not None:  # of several, the one closest to the time that was named
            kind = term.when.kind
            near = own.first if kind == "after" else own.last if kind == "before" else near
            near = own.middle if kind in _MOMENTS else near
        if near is None:
            return dict.fromkeys(known, 1.0)
        reach = 2 * self.scene.fps
        return {place: float(np.exp(-abs(frame - near) / reach)) for place, frame in known.items()}

    def _ordered(self, term: Term, candidates: Sequence[int], when: When | None) -> Strengths:
        result: Strengths = {}
        for place in candidates:
            others = self._others(term.phrases[0], when, place)
            frames = [
                measures.event_frame(
                    self.scene,
                    self.scene.tracks[one],
                    "appear" if term.name == "enter" and one != place else term.name,
                    term.side if one == place else "",
                    None,
                )
                for one in (place, *others)
            ]
            if len(frames) < 2 or any(frame is None for frame in frames):
                continue
            gaps = [term.rank * (float(frames[0] or 0) - float(frame or 0)) for frame in frames[1:]]
            if min(gaps) > 0:
                result[place] = float(np.exp(-min(gaps) / (10 * self.scene.fps)))
        return result


def _needs_candidate(phrase: Phrase) -> bool:
    """Whether what a phrase means depends on the object that it stands in a relation to: "the other two"."""
    return phrase.other or any(_needs_candidate(inner) for term in phrase.terms for inner in term.phrases)


def _clearly_moving(terms: Sequence[Term], scores: Strengths) -> Strengths:
    """ "the second cyclist coming towards us": where others come far faster, those ahead of us do not count."""
    if not any(term.kind == "moves" and term.name in ("towards_camera", "away") for term in terms):
        return scores
    least = 0.3 * max(scores.values(), default=0.0)
    return {place: score for place, score in scores.items() if score >= least}


def _named(term: Term, name: str) -> Term:
    return Term(term.kind, name, term.side, term.rank, term.phrases, term.when, term.negated)
