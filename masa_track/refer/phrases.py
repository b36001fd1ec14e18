"""What a sentence about tracks says, as data: noun phrases with their terms and times."""

from __future__ import annotations

from dataclasses import dataclass, field

EVENTS = ("event", "reaches", "reached")  # kinds of terms that are true from a frame on
COUNTED = (*EVENTS, "relation")  # kinds of terms that have an order in time: "the first to leave"


@dataclass(frozen=True)
class When:
    """A time of the video.

    Attributes:
        kind: ``start``, ``end``, ``at``, ``around``, ``between``, ``before``, ``after``, ``middle``, ``first_half`` or
            ``second_half``; ``whole``: all of it; ``running``: all but its first frame; ``opening`` and ``closing``:
            its first and last seconds or frames; ``just_before`` and ``just_after``: 3 s on that side; ``percent``: of
            the way through it; ``part``: from one percentage to another; ``before_end``: that long before the
            last frame.
        values: numbers of frames, seconds, or percentages.
        seconds: whether the values are seconds.
        phrase: "when the bus leaves": the object of the event that makes the time; its last term is the event, or what
            it does for a while (``during``). None: the values are the time.
    """

    kind: str
    values: tuple[float, ...] = ()
    seconds: bool = False
    phrase: Phrase | None = field(default=None, hash=False)


@dataclass
class Term:
    """One condition.

    Attributes:
        kind: ``rank`` (by a measure), ``region``, ``moves``, ``event``, ``relation``, ``visible``, ...: a function of
            :mod:`masa_track.refer.resolve`.
        name: of the measure, region, direction, event or relation.
        side: ``left``, ``right``, ``top`` or ``bottom``; empty where it does not matter.
        rank: of ``rank``: 1 is the largest or first, -1 the last; 0: not ranked.
        phrases: noun phrases that the relation is to.
        when: time of this term alone.
        negated: the object must not fit.
    """

    kind: str
    name: str = ""
    side: str = ""
    rank: int = 0
    phrases: list[Phrase] = field(default_factory=list)
    when: When | None = None
    negated: bool = False


@dataclass
class Phrase:
    """A noun phrase.

    Attributes:
        noun: singular; empty where none says what the object is ("the one", "whoever").
        plural: it names several objects.
        count: how many; 0 where it does not say.
        other: "the other", "the others": any object but the one whose relation the phrase belongs to.
        terms: all must fit, in the order of the sentence.
        when: the time of the phrase.
        some: "a car", "another one", "someone": any one of those that fit.
    """

    noun: str = ""
    plural: bool = False
    count: int = 0
    other: bool = False
    terms: list[Term] = field(default_factory=list)
    when: When | None = None
    some: bool = False


@dataclass(frozen=True)
class Sentence:
    """A parsed sentence.

    Attributes:
        text: as given, whitespace collapsed.
        phrase: what it asks for.
        unparsed: words that no rule took, such as colours and clothes.
        skipped: words without a meaning for the grammar that are no filler either, such as unknown adverbs.
        gendered: a noun such as "man" or "woman" was taken for a person.
        unclear_reference: unparsed words describe another object, to which the object has a relation; or
            no noun was parsed, and one of them may be it.
    """

    text: str
    phrase: Phrase
    unparsed: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    gendered: bool = False
    unclear_reference: bool = False

    @property
    def selective(self) -> bool:
        """Whether what was parsed says more than a noun and a time, and all that it refers to is clear."""
        return bool(self.phrase.terms) and not self.unclear_reference
