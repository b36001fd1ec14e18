"""Sentences about tracks, parsed into relations of place, order, motion, size and time.

A sentence is a noun phrase: a noun, and terms that the object must fit. A term may hold further noun phrases ("left of
*the bus*"). The parser reads from left to right and takes the first rule of :mod:`masa_track.refer.rules` that fits;
words that no rule takes are kept in :attr:`masa_track.refer.phrases.Sentence.unparsed`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

from masa_track.errors import InputError
from masa_track.refer import words
from masa_track.refer.phrases import COUNTED, EVENTS, Phrase, Sentence, Term, When
from masa_track.refer.wordings import plain_wording

MOST_WORDS = 512
MOST_DEPTH = 6
FINITE = ("base", "s", "ed")


def check_sentence(text: str) -> str:
    """The sentence with whitespace collapsed.

    Raises:
        InputError: it is empty, in another alphabet than the Latin one, or longer than 512 words.
    """
    plain = " ".join(text.split())
    if not re.search(r"\w", plain):
        raise InputError(f'a sentence must name an object, e.g. "the car on the left", got {text!r}')
    other = next((c for c in plain if c.isalpha() and not ("a" <= c.lower() <= "z" or "\u00c0" <= c <= "\u024f")), None)
    if other is not None:
        raise InputError(f"a sentence must be English in Latin letters, got {other!r} in {plain[:60]!r}: translate it")
    if (count := len(_TOKEN.findall(plain))) > MOST_WORDS:
        raise InputError(f"a sentence must have at most {MOST_WORDS} words, got {count}: {plain[:40]!r}...: shorten it")
    return plain


_TOKEN = re.compile(
    r"\d+(?::\d+)+(?:\.\d+)?|\d+(?:\.\d+)?(?:st|nd|rd|th)?(?![\w])|[a-z\u00e0-\u024f]+|\d+|,|[^\s\w]", re.I
)


@dataclass(frozen=True)
class Token:
    """A word: its base form, and the form of a verb (``base``, ``s``, ``ing``, ``ed``), a noun or anything else."""

    text: str
    base: str
    form: str = ""
    plural: bool = False


def tokens_of(text: str, class_names: Sequence[str] = ()) -> list[Token]:
    """The words of a sentence in base form."""
    plain = plain_wording(text)
    tokens = []
    names = [name.lower() for name in class_names]
    for word in _TOKEN.findall(plain):
        if word in words.FORMS:
            base, form = words.FORMS[word]
            tokens.append(Token(word, base, "" if form == "none" else form))
            continue
        noun, plural = words.singular(word, names)
        tokens.append(Token(word, noun, plural=plural))
    return tokens


_SOON = "(?:just|right|shortly|immediately|directly|straight|soon|some time|long)"
_CONJUNCTIONS = {
    "at": "(?:just |right |exactly )?(?:as|when)"
    "|(?:at |around |about )?the (?:moment|time|instant|point)(?: when| that)?",
    "after": f"(?:{_SOON} )?after|once|as soon as|since",
    "before": f"(?:{_SOON} )?before|until|till|by the time",
    "during": "while|as long as|whilst",
}
_VIDEO_ITSELF = "the (?:very |whole )?(?:video|clip|film|sequence|footage|recording|movie|shot|start|begin|end)"
_CONJUNCTION = f"(?:{'|'.join(_CONJUNCTIONS.values())})(?= (?:the|an?|someone|somebody|another) )(?! {_VIDEO_ITSELF})"


_OUT_OF = (
    "(?:out of|of|among|amongst|from among)(?: all)?(?= (?:the|those|these"
    "|(?:everyone|everybody) (?:who|that|walk|go|move|head|ride|come|stand|on|still|there)))"
    "|(?:among|amongst)(?= (?:person|all))"
)


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(f"(?:{pattern})(?= |$)")


class Parser:
    """Reads the tokens of one sentence.

    Args:
        tokens: its words.
        class_names: of the run, lower case; they are nouns, also of several words.
    """

    def __init__(self, tokens: Sequence[Token], class_names: Sequence[str] = ()) -> None:
        from masa_track.refer.rules import RULES

        self.rules = RULES
        self.tokens = [token for token in tokens if token.base == "," or token.base[0].isalnum()]
        bases = [token.base for token in self.tokens]
        self.rests = [" ".join(bases[place:]) for place in range(len(bases) + 1)]
        self.place = 0
        self.unparsed: list[str] = []
        self.skipped: list[str] = []
        self.gendered = False
        self.negated = False
        self.failed: set[object] = set()  # places, with the rule, where an attempt failed: none is made twice
        self.depth = 0  # of noun phrases in noun phrases
        self.unclear_reference = False
        self.phrase = Phrase()  # the one that is being read
        self.pending = 0  # an ordinal that has not found what it counts
        names = sorted({name.lower() for name in class_names}, key=len, reverse=True)
        self.class_names = [name for name in names if re.fullmatch(r"[a-z ]+", name)]

    @property
    def rest(self) -> str:
        """What is left to read, in base forms."""
        return self.rests[self.place]

    @property
    def token(self) -> Token:
        """The next word; an empty one at the end."""
        return self.tokens[self.place] if self.place < len(self.tokens) else Token("", "")

    def take(self, pattern: str) -> re.Match[str] | None:
        """Reads words that the pattern matches as a whole; None where it does not."""
        found = _compiled(pattern).match(self.rest)
        if found is None or not found.group():
            return None
        self.place += found.group().count(" ") + 1
        return found

    def when(self) -> When | None:
        """A time, if one comes next."""
        from masa_track.refer.rules_time import TIMES

        for pattern, make in TIMES:
            if (found := self.take(pattern)) is not None:
                return make(found)
        return self.event_time()

    def event_time(self) -> When | None:
        """ "when the bus leaves", "before the first cyclist appears", "while the bus is in view"."""
        before = self.state()
        failed = (before[0], "event time")
        found = None if failed in self.failed else self.take(_CONJUNCTION)
        if found is None:
            return None
        phrase = self.noun_phrase()
        scratch = Phrase()
        while self.take("have|be(?= (?:just|already|finally|now))|do|just|already|finally|then|first"):
            pass
        if self.token.base == "be" and [token.form for token in self.tokens[self.place + 1 : self.place + 2]] == [
            "ing"
        ]:
            self.place += 1  # "while the bus is leaving"
        event = self._term(scratch, True)
        kind = next(kind for kind, words_ in _CONJUNCTIONS.items() if re.fullmatch(words_, found[0]))
        if event is not None and event.kind == "gone":
            event = replace(event, kind="event", name="leave")
        if kind == "during" and event is not None and event.kind == "event":  # "while the bus is leaving"
            kind = "at"
        fits = event is not None and event.kind == ("visible" if kind == "during" else "event") and not event.negated
        if event is None or not fits or event.when is not None:
            self.restore(before)
            self.failed.add(failed)
            return None
        for place, term in enumerate(phrase.terms):
            if (term.kind, term.name) == ("rank", "first"):  # "when the second person leaves"
                event.rank = -term.rank
                if phrase.count > 1 and event.rank == 1:  # "after the first two have left": after the second
                    event.rank, phrase.count, phrase.plural = phrase.count, 0, False
                del phrase.terms[place]
                break
        phrase.terms.append(event)
        return When(kind, phrase=phrase)

    def noun_phrase(self, inner: bool = True, stop: str = ",", clause: bool = False, subject: bool = False) -> Phrase:
        """Reads a noun phrase with all that is said of it.

        Args:
            inner: it stands in a relation of another phrase, which ends it at ``stop`` and at a verb of the other.
            stop: words that end it, as a pattern.
            clause: a finite verb may come next.
            subject: a verb with the phrase as its subject ends it: "that *the one who comes in* walks past".
        """
        outer, self.phrase = self.phrase, Phrase()
        self.depth += 1
        if self.depth > MOST_DEPTH:
            raise InputError(
                f"a sentence must nest at most {MOST_DEPTH} objects, as in 'left of the car behind the bus'"
            )
        phrase = self.phrase
        ordinal = 0  # one that has not found what it counts
        is_nth = False  # the ordinal follows a form of "be": "who is second at frame 9"
        fresh: Term | None = None  # the term read just now, which a time may belong to
        named = False
        headed = False  # its noun, or "one", was read
        if inner and self.token.text in ("a", "an") and self.take("an?") is not None:
            phrase.some = True
        while self.place < len(self.tokens):
            if (
                inner
                and (phrase.noun or named or phrase.terms or ordinal)
                and re.match(f"(?:{stop})(?= |$)", self.rest)
            ):
                break
            token = self.token
            if subject and phrase.terms and token.form in FINITE and self._transitive():
                break
            denied = self.negated and any(self._follows(word) for word in ("not", "never", "longer"))
            if (when := self.when()) is not None:
                if denied:  # "but not at frame 9"
                    phrase.terms.append(Term("visible", when=when, negated=True))
                    self.negated = False
                else:
                    self._timed(phrase, fresh, when)
                continue
            if self.take(_OUT_OF) is not None:
                picks = bool(ordinal) or any(term.kind == "rank" for term in phrase.terms)
                phrase.terms += self._group(bool(ordinal), picks)
                continue
            if named and (passive := self._object_clause()) is not None:
                phrase.terms.append(passive)
                fresh = passive
                ordinal = self._ranked(passive, ordinal) if ordinal and passive.kind == "relation" else ordinal
                continue
            if found := self.take(
                "(?:everyone|everybody|everything)(?: else)?|all (?:the )?others|(?:the )?rest|others|other(?! than)"
                "|another|(?:someone|somebody|anyone) else" + ("|someone|somebody|anybody" if inner else "")
            ):
                phrase.other = True
                phrase.some = found[0].split()[0] in ("another", "someone", "somebody", "anyone", "anybody")
                headed = headed or found[0] not in ("other", "another")
                phrase.plural = phrase.plural or found[0] != "other"
                named = True
                continue
            if token.text == "one" and self.noun_ahead(1) and not headed:  # "one person"
                self.place += 1
                continue
            if self.take(
                r"who|whom|whoever|whomever|that|which|what|whichever|anyone|someone|somebody|anybody|anything|something"
            ):
                named = named or self.tokens[self.place - 1].base not in ("which", "what", "whichever")
                clause = True
                continue
            if self.take(r"with(?= the (?:\w+est|most|least)(?: |$))"):
                continue
            if found := self.take(r"not an? (\w+)(?= |$)"):
                if found[1] in words.NOUNS or found[1] in self.class_names:
                    phrase.terms.append(Term("class", found[1], negated=True))
                    continue
                self.place -= found[0].count(" ")
                self.negated = True
                continue
            if self.take(r"not|never|no longer"):
                self.negated = True
                continue
            verb = token.form in ("ing", "ed") or clause or self._follows("to") or (not inner and not named)
            verb = verb or (not inner and named and token.form in FINITE)  # "a car hides a man"
            verb = verb or (
                bool(phrase.terms) and (self._follows("and") or self._follows("then"))
            )  # "to enter and then leave"
            if (
                inner
                and token.form in FINITE
                and not verb
                and (named or phrase.terms or phrase.count)
                and token.base not in ("park", "face")
            ):
                break
            self.pending = ordinal
            term = self._term(phrase, verb or token.form == "")
            if term is not None:
                fresh = term
                if ordinal and (term.kind in ("rank", *COUNTED) or term.rank):
                    ordinal = self._ranked(term, ordinal)
                continue
            if (
                found := self.take(r"(?:the )?(\d+)(?:st|nd|rd|th)|(?:the )?(" + "|".join(words.ORDINALS) + ")")
            ) is not None:
                is_nth = self.tokens[self.place - 2].base == "be" and self.place > 1
                if found[2] == "first" and clause and self.token.form in FINITE and not phrase.terms:
                    continue  # "who first walks left"
                number = int(found[1]) if found[1] else words.ORDINALS[found[2]]
                if number > 1 and self.take("last(?! (?:frame|second))") is not None:
                    number = -number
                ordinal = (
                    self._ranked_before(phrase, fresh, number) if (clause and named) or not (inner or named) else number
                )
                continue
            if fresh is not None and fresh.kind == "event" and (found := self.take("later|earlier|sooner")):
                self._ranked_before(phrase, fresh, -1 if found[0] == "later" else 1)  # "the car that leaves later"
                continue
            if (found := self.take("|".join(words.COUNTS) + r"|\d+")) is not None:
                phrase.count = words.COUNTS.get(found[0]) or int(found[0])
                phrase.plural = phrase.plural or phrase.count > 1
                continue
            if not headed and self._noun(phrase):
                named = headed = True
                continue
            if named and self._noun(Phrase(), peek=True) and inner and not clause:
                break
            self._skip(token)
            fresh = fresh if token.base in words.FILLERS else None
        if ordinal:
            self._settle(phrase, ordinal, is_nth)
        _count_event_of_group(phrase)
        if any(term.kind == "among" for term in phrase.terms):  # "of the two, the one on the right"
            phrase.terms = [_side_rank(term) for term in phrase.terms]
        moment = all(term.kind in ("rank", "region", "visible", "compare") for term in phrase.terms)
        after = phrase.when if phrase.when is not None and phrase.when.kind == "after" else None
        if moment and after is not None and (after.seconds or after.phrase is not None):
            phrase.when = replace(after, kind="at")  # "after two seconds, the person on the left"
        if self.depth == 1 and not named and not clause and self.unparsed:
            self.unclear_reference = True  # "the skateboarder on the left": the unknown word may be the noun
        self.depth -= 1
        self.phrase = outer
        return phrase

    def _timed(self, phrase: Phrase, fresh: Term | None, when: When) -> None:
        """A time after an event is the event's, any other the phrase's.

        After "the first one to leave" in a relation it is the relation's: "who meets the first to leave at frame 9".
        """
        ranked = fresh is not None and fresh.rank and self.depth > 1 and when.kind not in ("before", "after")
        if (
            fresh is not None
            and not ranked
            and fresh.kind in ("event", "turns", "back", "visible", "lingers", "gone")
            and fresh.when is None
        ):
            fresh.when = when
        elif when.kind == "whole":
            if fresh is None or fresh.kind != "rank":  # "the biggest of the whole video" need not be there throughout
                phrase.terms.append(Term("visible", when=when))
        elif phrase.when is None:
            phrase.when = when
        elif fresh is not None and fresh.kind in ("rank", "region", "relation", "still") and fresh.when is None:
            fresh.when = when  # "leftmost at frame 10 and rightmost at frame 60"
        else:
            phrase.terms.append(Term("visible", when=when))

    def _group(self, counted: bool, picks: bool) -> list[Term]:
        """ "of the three people at the start, ...": the objects to choose from.

        After an ordinal, an event is not theirs: "the last of the three to leave". Of one object nothing is chosen, if
        no rank does so: "who gets in the way of the man" is not understood.
        """
        of = self.tokens[self.place - 1].text
        group = self.noun_phrase(stop=r",|the (?:one|first|last|second|third|\w+est|\w+most)")
        if group.noun and not group.plural and not picks:
            self.unparsed.append(of)
            self.unclear_reference = True
        group.plural = True
        self.take(",")
        events = [term for term in group.terms if counted and term.kind == "event"]
        group.terms = [term for term in group.terms if term not in events]
        return [Term("among", phrases=[group]), *events]

    def _object_clause(self) -> Term | None:
        """ "that the bus overtakes": a relation whose object is the noun before."""
        from masa_track.refer.rules import TRANSITIVE

        before = self.state()
        if before[0] in self.failed:
            return None
        self.take("that|who|whom|which")
        subject = None
        if not self.take("(our|the ego) (car|vehicle|camera|bus|truck|bike)|we|the camera|our own car"):
            if not re.match(r"(the|a|an|another|he|she|all|everyone|everybody)(?= |$)", self.rest):
                self.restore(before)
                return None
            subject = self.noun_phrase(subject=True)
        while self.take("be|have|do|just|then|later|also|keep|get|manage to"):
            pass
        for pattern, term in TRANSITIVE:
            if self.take(pattern):
                if subject is None:
                    return Term("event", "passed_by_camera")
                return replace(term, phrases=[subject])
        self.restore(before)
        self.failed.add(before[0])
        return None

    def _transitive(self) -> bool:
        """Whether a verb comes next whose object may be a noun before, and nothing that would make it another's."""
        from masa_track.refer.rules import TRANSITIVE

        linked = any(self._follows(word) for word in ("who", "that", "which", "and", "then", "to"))
        return not linked and any(re.match(f"(?:{pattern})(?= |$)", self.rest) for pattern, _ in TRANSITIVE)

    def state(self) -> tuple[int, int, int, bool, bool, bool]:
        """What :meth:`restore` needs."""
        return self.place, len(self.unparsed), len(self.skipped), self.unclear_reference, self.gendered, self.negated

    def restore(self, state: tuple[int, int, int, bool, bool, bool]) -> None:
        """Goes back to where an attempt began."""
        self.place, unparsed, skipped, self.unclear_reference, self.gendered, self.negated = state
        del self.unparsed[unparsed:], self.skipped[skipped:]

    def _term(self, phrase: Phrase, verb: bool) -> Term | None:
        for rule in self.rules:
            before = self.state()
            if (rule.verb and not verb) or (before[0], rule.pattern) in self.failed:
                continue
            found = self.take(rule.pattern)
            if found is None:
                continue
            term = rule.make(self, found)
            if term is None:
                self.restore(before)
                self.failed.add((before[0], rule.pattern))
                continue
            for inner in term.phrases:
                if inner.other and not inner.noun:
                    inner.noun = phrase.noun  # "the cyclist left of the other one"
            if self.negated:
                term, self.negated = replace(term, negated=True), False
            if term.name == "then" and phrase.terms and phrase.terms[-1].kind == "moves":
                phrase.terms.pop()  # "left and then right": there and back
            phrase.terms.append(term)
            return term
        return None

    def _ranked(self, term: Term, ordinal: int) -> int:
        """Gives an ordinal to the term that it counts. Returns the ordinal that is left, 0."""
        if term.kind == "rank" and term.rank in (1, -1):
            term.rank = ordinal * term.rank
        elif term.kind in COUNTED:
            term.rank = ordinal
        return 0

    def _ranked_before(self, phrase: Phrase, fresh: Term | None, number: int) -> int:
        """ "who leaves first": the ordinal counts the event before it."""
        if fresh is not None and fresh.kind in COUNTED and not fresh.rank:
            fresh.rank = number
            return 0
        return number

    def _settle(self, phrase: Phrase, ordinal: int, is_nth: bool) -> None:
        """An ordinal without a measure counts an event of the phrase, places in a line, or the order of appearance."""
        for term in phrase.terms:
            if term.kind in EVENTS and not term.rank:
                term.rank = ordinal
                return
        for place, term in enumerate(phrase.terms):
            if (ranked := _side_rank(term)) is not term:  # "the second one on the left"
                last = 1 if ordinal == -1 else ordinal  # "the last one on the left" is the leftmost
                phrase.terms[place] = replace(ranked, rank=last * ranked.rank)
                return
        moment = phrase.when is not None and phrase.when.kind in ("at", "around", "start", "end", "middle", "percent")
        if is_nth and moment and not phrase.terms:  # "who is last but one at frame 90": of the line
            phrase.terms.append(Term("rank", "line", rank=ordinal))
            return
        if any(term.kind == "visible" for term in phrase.terms) and ordinal == -1:
            phrase.terms.append(Term("rank", "last", rank=1))
            return
        phrase.terms.append(Term("rank", "first", rank=-ordinal))

    def _noun(self, phrase: Phrase, peek: bool = False) -> bool:
        before = self.place
        for name in self.class_names:
            if " " in name and self.take(name):
                phrase.noun = name
        token = self.token
        if not phrase.noun and (token.base in words.NOUNS or token.base in self.class_names):
            self.place += 1
            phrase.noun, phrase.plural = token.base, phrase.plural or token.plural
            self.gendered |= not peek and token.base in words.GENDERED
        elif not phrase.noun and token.base in words.ANY_NOUNS:
            self.place += 1
            phrase.plural = phrase.plural or token.plural
            if peek:
                self.place = before
            return True
        if peek:
            self.place = before
        return bool(phrase.noun)

    def noun_ahead(self, ahead: int) -> bool:
        """Whether the word that comes after ``ahead`` others is a noun."""
        before, self.place = self.place, self.place + ahead
        found = self.place < len(self.tokens) and self._noun(Phrase(), peek=True)
        self.place = before
        return found

    def _object_ahead(self) -> bool:
        """Whether an object comes next, to which an unknown word may be a relation: "waving at *the tallest man*"."""
        ahead = int(self.token.base in ("to", "at", "with", "into", "from", "for", "by", "onto", "over"))
        article = self.tokens[self.place + ahead].base if self.place + ahead < len(self.tokens) else ""
        return article in ("the", "a", "an") and (self.noun_ahead(ahead + 1) or self.noun_ahead(ahead + 2))

    def count_ahead(self, ahead: int) -> bool:
        """Whether the word that comes after ``ahead`` others is a count: "the front two"."""
        place = self.place + ahead
        return place < len(self.tokens) and self.tokens[place].base in words.COUNTS

    def adjective_ahead(self, ahead: int) -> bool:
        """Whether the word that comes after ``ahead`` others may be an adjective: no verb, number or small word."""
        token = self.tokens[self.place + ahead] if self.place + ahead < len(self.tokens) else Token(",", ",")
        small = token.base in words.FILLERS or token.base in words.ORDINALS or not token.base.isalpha()
        return not (small or token.form)

    def _follows(self, word: str) -> bool:
        return self.place > 0 and self.tokens[self.place - 1].base == word

    def _skip(self, token: Token) -> None:
        self.place += 1
        if token.base in words.FILLERS or token.base == ",":
            return
        if token.text.endswith("ly"):
            self.skipped.append(token.text)
        else:
            self.unparsed.append(token.text)
            self.unclear_reference |= self.depth > 1 and token.base not in words.GROUNDS
            self.unclear_reference |= self._object_ahead()


def _count_event_of_group(phrase: Phrase) -> None:
    """ "of the two who leave on the right, the later one": the rank counts what the group does."""
    events = [term for among in phrase.terms if among.kind == "among" for term in among.phrases[0].terms]
    events = [term for term in events if term.kind == "event" and not term.rank and not term.negated]
    own = [term for term in phrase.terms if term.kind == "event"]
    for place, term in enumerate(phrase.terms):
        if events and not own and term.kind == "rank" and term.name in ("first", "last"):
            phrase.terms[place] = replace(events[-1], rank=-term.rank)


def _side_rank(term: Term) -> Term:
    """On the left or right, of several: the leftmost or rightmost."""
    if (term.kind, term.name) != ("region", "side") or term.side not in ("left", "right") or term.negated:
        return term
    return Term("rank", "x", rank=1 if term.side == "right" else -1)


def parse(text: str, class_names: Sequence[str] = ()) -> Sentence:
    """Parses a sentence.

    Args:
        text: e.g. ``"the second cyclist from the left at frame 15"``.
        class_names: of the run; they are nouns beside those of the table.

    Raises:
        InputError: see :func:`check_sentence`.
    """
    plain = check_sentence(text)
    parser = Parser(tokens_of(plain, class_names), class_names)
    phrase = parser.noun_phrase(inner=False)
    return Sentence(plain, phrase, tuple(parser.unparsed), tuple(parser.skipped), parser.gendered,
                    parser.unclear_reference)  # fmt: skip
