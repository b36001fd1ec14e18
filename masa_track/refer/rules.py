"""The grammar's rules: patterns over words in base form, and the terms that they make. The first that fits is taken."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from masa_track.refer.grammar import Parser
from masa_track.refer.phrases import Phrase, Term, When
from masa_track.refer.rules_time import ENDS_BEFORE, LINE, VIDEO
from masa_track.refer.words import COUNTS

Make = Callable[[Parser, "re.Match[str]"], "Term | None"]


@dataclass(frozen=True)
class Rule:
    """A pattern and what it makes.

    Attributes:
        pattern: over words in base form.
        make: the term; None where the rule does not apply after all.
        verb: only where a verb may stand: as a participle, after "to", or after "who".
    """

    pattern: str
    make: Make
    verb: bool = False


PICTURE = r"the (?:picture|frame|image|screen|view|scene|shot|video|camera view|field of view|photo)"
VIEW = rf"(?:{PICTURE}|view|sight|shot|frame(?! \d)|screen|camera|picture)"
IN_VIEW = rf"(?:(?:in|on|within|inside) {VIEW}|visible|present|there|here|around|about)"
OF_PICTURE = rf"(?: (?:of|in) (?:{PICTURE}|the (?:road|street)))?"
US = r"(?:us|me|the camera|the viewer|the lens|our car|our vehicle|the observer|here)"
GO = r"(?:walk|go|move|head|run|ride|drive|travel|come|pass|speed)"
STAY = r"(?:stay|hang|wait|stand|stop|rest|spend|keep)"
NEARLY = r"(?: (?:nearly|almost|right|all the way|up|straight|over|back|close|directly|just|again|out|off|away|across|along|further|slowly|quickly|more))*"
ADVERB = r"(?:(?:just|directly|right|immediately|close|closely|shortly|slightly|a bit|a little|far|well|straight) )?"
_SIDE = r"(?P<side>left|right|top|bottom|upper|lower)"
EDGE = rf"(?:the |its |his |her )?(?:far |very )?{_SIDE}(?: hand)?(?: (?:side|edge|border|boundary|end|corner|part|half))?{OF_PICTURE}"
_DIRECTION = r"(?P<to>left|right|up|down|top|bottom)(?:wards?)?"
TOWARDS = (
    rf"(?:(?:from )?(?:the )?(?:left|right|top|bottom)(?: hand)?(?: (?:side|edge|border|half|third))?(?: of {PICTURE})? (?:to|towards?)(?: the)? (?P<end>left|right|top|bottom)(?: hand)?"
    rf"|(?:(?:to|towards?|for|over to|off to|in) )?(?:the )?{_DIRECTION})"
    rf"(?: (?:side|edge|border|half|third|direction|hand side))?{OF_PICTURE}"
)
SIDES = {"upper": "top", "lower": "bottom", "up": "top", "down": "bottom"} | {
    "front": "bottom", "back": "top", "rear": "top",
}  # fmt: skip


def side_of(found: re.Match[str], name: str = "side") -> str:
    """The side that a pattern found; empty where there is none."""
    side = found.groupdict().get(name) or ""
    side = re.sub(r"wards?$", "", side)
    return SIDES.get(side, side)


def term(kind: str, name: str = "", rank: int = 0, side: str = "") -> Make:
    """A rule's term without further phrases."""
    return lambda parser, found: Term(kind, name, side or side_of(found), rank)


def _from_or_to(kind: str) -> Make:
    """ "starts on the left", "ends up left"."""
    return lambda parser, found: Term(kind, side=side_of(found) or found["bare"])


def to_phrase(kind: str, name: str, rank: int = 0) -> Make:
    """A term whose noun phrase comes next; the rule does not apply where none does."""

    def make(parser: Parser, found: re.Match[str]) -> Term | None:
        if not parser.rest or parser.token.base in (",", "and"):
            return None
        phrase = parser.noun_phrase(stop=",|and")
        if not _names(parser, phrase):
            return None
        return Term(kind, name, rank=rank, phrases=[phrase])

    return make


def _names(parser: Parser, phrase: Phrase) -> bool:
    """Whether a noun phrase means an object at all."""
    return bool(phrase.noun or phrase.terms or phrase.other or phrase.count or phrase.plural or _is_one(parser))


def _is_one(parser: Parser) -> bool:
    before = parser.tokens[: parser.place]
    return bool(before) and before[-1].base in ("one", "everyone", "everybody", "someone", "him", "her", "them")


def _between(parser: Parser, found: re.Match[str]) -> Term | None:
    first = parser.noun_phrase(stop=",|and")
    phrases = [first]
    if parser.take("and"):
        second = parser.noun_phrase(stop=",|and")
        phrases.append(second)
        if not first.noun and [term.name for term in first.terms] == ["first"]:  # "the first and third from the left"
            shared = next((term for term in second.terms if term.kind == "rank"), first.terms[0])
            sign = 1 if shared.rank > 0 else -1
            first.noun = second.noun
            first.terms = [Term("rank", shared.name, rank=-sign * first.terms[0].rank)]
    else:
        first.plural = True
    return Term("relation", "between", phrases=phrases)


def _moves(parser: Parser, found: re.Match[str]) -> Term:
    side = side_of(found, "end") or side_of(found, "to")
    return Term("moves", side=side)


_EDGES = r"(?:(?:at|from|on|in|by|through|near) )?(?:the|an|a|any|one of the) (?:edges?|borders?|sides?)"
_INSIDE = (
    r"(?:(?:right )?(?:in|from|at) the (?:middle|centre)(?: of the (?:picture|frame|image|screen|view|scene|photo))?(?! of)"
    rf"(?:(?: ,)? (?:rather than|instead of|and not|not) {_EDGES})?|away from {_EDGES})"
)


def _event(name: str) -> Make:
    """An event, at a side or before or after another object's."""

    def make(parser: Parser, found: re.Match[str]) -> Term:
        side = side_of(found)
        if parser.take(_INSIDE):
            side = "inside"
        if not side and (
            corner := parser.take(
                r"(?:from|on|at|to|through|via|by|in|into|near) (?:the )?(?:far |very )?(?P<side>top|upper|bottom|lower) (?P<second>left|right)(?: hand)?(?: (?:side|corner|edge|part))?"
            )
        ):
            side = f"{side_of(corner)} {corner['second']}"
        if not side and (
            where := parser.take(
                rf"(?:again )?(?:from|on|at|to|through|via|over|by|past|in|toward|towards|off|across|beyond|out of|out at|out on|out through|out to|off to|off at|off on|away to|over at) {EDGE}(?! of)"
            )
            or parser.take(
                rf"(?:of )?the {_SIDE}(?: hand)?(?: (?:side|edge|border){OF_PICTURE}| of {PICTURE})(?! of)"
            )  # "goes off the left edge"
            or parser.take(rf"{_SIDE}(?=$| ,| (?:first|last|second)| at (?:frame|the)| and| then)")  # "exits left"
        ):
            side = side_of(where)
        parser.take(ENDS_BEFORE)  # "the last to leave before the video ends": no condition
        before = parser.state()
        if (when := parser.event_time()) is not None:  # "leaves before the bus appears"
            return Term("event", name, side, when=when)
        if later := parser.take(
            rf"{ADVERB}(?P<when>after|before|(?:later|earlier|sooner) than)(?= (?:the|a|all|everyone|him|her|it) )(?! (?:{VIDEO}|the (?:very )?(?:start|begin)))"
        ):
            phrase = parser.noun_phrase(stop=",|and")
            if _names(parser, phrase):
                return Term("ordered", name, side, 1 if later["when"] in ("after", "later than") else -1, [phrase])
            parser.restore(before)
        return Term("event", name, side)

    return make  # fmt: skip


def _from_side(parser: Parser, found: re.Match[str]) -> Term | None:
    """ "second from the left": a rank, where an ordinal stands before it."""
    events = [term for term in parser.phrase.terms if term.kind == "event" and not term.side]
    if not parser.pending and events and found["from"] in _EXTREMES:
        events[-1].side = found["from"]  # "who enters in the end, from the left"
        return Term("visible")
    if not parser.pending:  # "the person from the left"
        return Term("event", "enter", found["from"]) if found["from"] in _OPPOSITE and parser.phrase.noun else None
    return Term("rank", *{"left": ("x", "", -1), "right": ("x", "", 1), "front": ("near", "", 1), "back": ("near", "", -1),
                          "rear": ("near", "", -1), "top": ("y", "", -1), "bottom": ("y", "", 1),
                          "camera": ("near", "", 1)}[found["from"]])  # fmt: skip


def _in_line(parser: Parser, found: re.Match[str]) -> Term | None:
    return Term("rank", "line", rank=1) if parser.pending else Term("visible")


def _extreme(parser: Parser, found: re.Match[str]) -> Term:
    return Term("rank", *_EXTREMES[side_of(found)])


def _nearest_side(parser: Parser, found: re.Match[str]) -> Term | None:
    """ "nearest the left", but not "nearest the left cyclist"."""
    return None if parser.noun_ahead(0) else _extreme(parser, found)


_EXTREMES = {"left": ("x", "", -1), "right": ("x", "", 1), "top": ("y", "", -1), "bottom": ("y", "", 1)}


def _to_side(parser: Parser, found: re.Match[str]) -> Term:
    """ "to the right": a direction after a verb of motion in the words before, else a place."""
    before = parser.tokens[max(0, parser.place - 10) : parser.place]
    return (
        Term("moves", side=side_of(found))
        if any(re.fullmatch(GO, token.base) for token in before)
        else _region(parser, found)
    )


def _except(parser: Parser, found: re.Match[str]) -> Term | None:
    """ "any person but the tallest": not that one."""
    same = to_phrase("same", "")(parser, found)
    if same is None:
        return None
    inner = same.phrases[0]
    parser.phrase.when, inner.when = parser.phrase.when or inner.when, None  # the time of both
    return replace(same, negated=True)


def _attributive(make: Make) -> Make:
    """An adjective: its noun comes next, or after two more adjectives at most ("the left white car")."""

    def before_noun(parser: Parser, found: re.Match[str]) -> Term | None:
        if parser.phrase.noun and not re.match("one(?= |$)", parser.rest):  # "two cars, the left one"
            return None
        for ahead in range(3):
            if parser.noun_ahead(ahead) or parser.count_ahead(ahead):
                return make(parser, found)
            if not parser.adjective_ahead(ahead):
                return None
        return None

    return before_noun


def _after_noun(parser: Parser, found: re.Match[str]) -> Term | None:
    """ "tall guy left": the leftmost; "the last person left" is one who is still there."""
    before = [token.base for token in parser.tokens[: parser.place - 1]]
    if not parser.phrase.noun or before[-1] != parser.phrase.noun or parser.pending or {"only", "still"} & {*before}:
        return None
    return _extreme(parser, found)


def _corner(parser: Parser, found: re.Match[str]) -> Term:
    """ "bottom left person": the one nearest to that corner."""
    return Term("rank", f"{side_of(found)} {found['second']}", rank=1)


_OPPOSITE = {"left": "right", "right": "left"}


def _lasts(parser: Parser, found: re.Match[str]) -> Term:
    """ "for less than 2 seconds"."""
    when = When("at", (float(found["length"]),), found["unit"].startswith("second"))
    return Term("lasts", rank=1 if found["more"] else -1, when=when)


def _by_others(name: str) -> Make:
    """ "hidden at frame 9": by whomever."""
    return lambda parser, found: Term("relation", name, phrases=[Phrase("object", other=True, plural=True)])


def _covered_noun(parser: Parser, found: re.Match[str]) -> Term | None:
    """ "the hidden person": covered by whomever."""
    if parser.phrase.noun or parser.tokens[parser.place - 1].form != "ed" or not parser.noun_ahead(0):
        return None
    return _by_others("covered_by")(parser, found)


def _region(parser: Parser, found: re.Match[str]) -> Term:
    part = found.groupdict().get("part") or "side"
    part = {
        "border": "edge",
        "boundary": "edge",
        "end": "edge",
        "third": "third",
        "half": "half",
        "quarter": "quarter",
        "fifth": "edge",
    }.get(part, "side" if part in ("part", "corner") else part)
    side, second = side_of(found), side_of(found, "second") if "second" in found.groupdict() else ""
    if second:
        return Term("region", "corner", f"{side} {second}")
    return Term("region", part, side)  # fmt: skip


def _part(kind: str) -> Make:
    """ "keeps to the left half": a condition on a part of the picture that is no place at one time."""
    return lambda parser, found: replace(_region(parser, found), kind=kind)


def _compare(parser: Parser, found: re.Match[str]) -> Term | None:
    measure, sign = next(
        value
        for words, value in {
            "^tall|^high": ("height", 1), "^short": ("height", -1), "^big|^large": ("area", 1), "^small": ("area", -1),
            "fast|quick": ("speed", 1), "slow": ("speed", -1), "^clos|^near": ("near", 1), "^far|^fur": ("near", -1),
            "^long": ("duration", 1), "^wid": ("width", 1), "^narrow|^thin": ("width", -1),
        }.items()
        if re.search(words, found["more"])
    )  # fmt: skip
    phrase = parser.noun_phrase(stop=",|and")
    return Term("compare", measure, rank=sign, phrases=[phrase])


def _compare_side(parser: Parser, found: re.Match[str]) -> Term:
    _, _, sign = _EXTREMES[side_of(found)]
    return Term(
        "compare",
        "x" if side_of(found) in ("left", "right") else "y",
        rank=sign,
        phrases=[parser.noun_phrase(stop=",|and")],
    )


def _side_relation(parser: Parser, found: re.Match[str]) -> Term | None:
    """ "left of", and "two to the left of"."""
    return to_phrase("relation", f"{side_of(found)}_of", _count(found))(parser, found)


def _count(found: re.Match[str]) -> int:
    """ "two to the left of": the second by distance; 0 without a number."""
    count = found["count"]
    return 0 if count is None else COUNTS[count] if count in COUNTS else int(count)


def _line_relation(parser: Parser, found: re.Match[str]) -> Term | None:
    """ "two behind the leader"."""
    return to_phrase("relation", "ahead_in_line" if found["ahead"] else "behind_in_line", _count(found))(parser, found)


_SUPERLATIVES = [
    ("left ?most", "x", -1), ("right ?most", "x", 1), ("(?:top|upper) ?most|high(?:est|er)(?: up)?(?! speed| than)|(?:farthest|furthest) up", "y", -1),
    ("(?:bottom|lower) ?most|(?:farthest|furthest) down", "y", 1), ("low(?:est|er)(?: down)?(?! speed| than| left| right)", "near", 1), ("(?:greatest|largest|biggest) height", "height", 1), ("(?:smallest|least|lowest) height", "height", -1), ("biggest|largest|bigger|larger|greatest (?:size|area)", "area", 1), ("smallest|tiniest|littlest|smaller|least (?:area|size|space)", "area", -1),
    ("tallest|taller", "height", 1), ("(?:for )?(?:the )?(?:(?:shortest|briefest) (?:time|while|period|track|duration|stretch|presence|stay|span|appearance|visit|spell|stint|life|lifetime|life ?span)|briefest|most briefly)", "duration", -1),
    ("shortest|shorter", "height", -1), ("widest|wider|broadest|fattest", "width", 1), ("narrowest|thinnest|slimmest|skinniest|narrower|thinner", "width", -1),
    (r"(?:for )?(?:the )?(?:longest|longer)(?: time| track| in view| visible| stretch| presence| stay| period| span| while| appearance| visit| spell| stint| life ?time| life ?span)?", "duration", 1),
    (r"(?:at )?(?:the )?(?:fastest|quickest|faster|quicker|most quickly|(?:highest|greatest|top) speed)", "speed", 1), ("slowest|slower|most slowly|lowest speed", "speed", -1),
    ("(?:front|fore) ?most", "front", 1), ("(?:rear|hind) ?most", "front", -1), ("deepest|remotest", "near", -1), ("earliest seen", "first", -1), ("(?:most|more) (?:distant|remote|far ?away|far off)|(?:farther|further)(?: (?:back|away|off|behind))?(?! (?:to|left|right|up|down|than|on|over|from)(?: |$))|(?:farthest|furthest)(?: away| back| off| (?:into|in) the (?:distance|background))?(?! (?:away|to|left|right|from|over|on)(?: |$))", "near", -1),
    ("fewest frames|least time|smallest number of frames", "duration", -1), (r"most (?:frames|time|screen time)|(?:for )?(?:most|much|nearly all|almost all) of (?:the (?:time|\w+ time)|the (?:video|clip|film|sequence|footage|recording|drive))|(?:for )?(?:the )?(?:largest|greatest|highest) number of frames", "duration", 1),
    ("(?:nearest|closest|nearer|closer)(?! (?:to|the) )", "near", 1), ("middle(?: most)?", "middle", 1), ("(?:most )?central(?:ly)?|centre(?: most)?", "centre", 1),
    (r"(?:for )?(?:only |just )?a (?:few|couple of|handful of) (?:frames|moments)|(?:only |just )(?:very )?briefly|for (?:only |just )?an? (?:very )?(?:short|brief) (?:time|while|moment|period)|for (?:only|just) a (?:moment|bit)", "duration", -1),
    ("(?:most )?isolated|loneliest|most alone", "isolation", 1), ("newest|most recent", "first", 1),
]  # fmt: skip

_ADJECTIVES = {
    "big|large|huge": ("area", 1), "small|little|tiny": ("area", -1), "tall": ("height", 1), "short": ("height", -1),
    "fast|quick": ("speed", 1), "slow": ("speed", -1), "near|close|nearby": ("near", 1), "far|distant|faraway": ("near", -1),
    "wide|broad|fat": ("width", 1), "narrow|thin|slim|skinny": ("width", -1), "foreground": ("near", 1), "background": ("near", -1),
    "later": ("first", 1), "earlier": ("first", -1),
}  # fmt: skip


def _reaches(parser: Parser, found: re.Match[str]) -> Term:
    """ "walks to the left edge" may end close to it, "reaches the left edge" does not."""
    there = re.match("reach|get|make it", found[0]) and not re.search("nearly|almost|close|near", found[0])
    return Term("reaches", "" if there else "nearly", side_of(found))


_MIDDLE = r"(?:in|at|near|through|across) the (?:very )?(?:middle|centre)"

_PARTS = "side|half|edge|border|boundary|third|quarter|fifth|part|end"

PLACES = [
    Rule(r"(?P<size>\w+) gap (?:(?P<ahead>in front|ahead)|behind)", lambda parser, found: Term("rank", "gap_ahead" if found["ahead"] else "gap_behind", rank=-1 if found["size"] in ("smallest", "shortest", "narrowest", "least") else 1)),
    Rule(r"shift the least", term("rank", "any_shift", -1), True),
    Rule(r"shift the farthest(?: to the (?P<side>left|right))?", lambda parser, found: Term("rank", f"{found['side'] or 'any'}_shift", rank=1), True),
    Rule(rf"(?:{GO}|get|reach|come|venture|make it)(?: the)? (?:farthest|furthest)(?: over| across)?(?: to)?(?: the)? (?P<side>left|right)(?: hand)?(?: side)?", lambda parser, found: Term("rank", f"{found['side']}_reach", rank=1), True),
    Rule(r"(?:nearest|closest)(?: to)? (?:the )?(?P<side>top|upper|bottom|lower) (?P<second>left|right)(?: hand)?(?: corner)?", _corner),
    Rule(r"(?:be )?(?:nearest|closest) (?:together|to each other|to one another)", term("rank", "together", 1)),
    Rule(r"(?:walk|stand|be|go|move|sit|ride)(?: all)? (?:alone|by (?:himself|herself|itself|themselves)|on (?:his|her|its|their) own)", term("rank", "isolation", 1), True),
    Rule(r"(?:all )?(?:alone(?=$| ,| at| in| around)|by (?:himself|herself|itself|themselves)|on (?:his|her|its|their) own)", term("rank", "isolation", 1)),
    Rule(rf"(?:stay|keep|live)(?: only)? (?:to|in|on|within|inside|at) (?:the )?{_SIDE}(?: hand)? (?P<part>half|third|quarter|side|part){OF_PICTURE}(?: (?:the whole time|all the time|all along|throughout|always|all through|all the while))?", _part("within")),
    Rule(rf"never leave (?:the )?{_SIDE}(?: hand)? (?P<part>half|third|quarter|side|part){OF_PICTURE}", _part("within")),
    Rule(rf"(?:have )?(?:already )?(?:reach|get (?:in)?to|make it (?:in)?to|arrive (?:in|at|on)) (?:the )?{_SIDE}(?: hand)? (?P<part>half|third|quarter|side|part){OF_PICTURE}", _part("reached")),
    Rule(r"behind(?=$| ,| at frame)", term("rank", "near", -1)),
    Rule(rf"{_SIDE}(?: hand)? (?P<part>half|third|quarter|side)(?=$| ,| at| in)", _region),
    Rule(rf"(?:(?:the )?one )?(?:at|on|in|to|near) the (?:far|very|extreme|outer) {_SIDE}(?: hand)?(?: (?:side|edge|end|border))?{OF_PICTURE}(?! of)", _extreme),
    Rule(rf"(?:far|extreme|very|outer) {_SIDE}(?! of| left| right)", _extreme),
    Rule(r"(?:(?:in|at|on|near) )?(?:the )?(?:far |very )?(?P<side>front|back|rear) (?P<second>left|right)(?: most| hand)?(?: (?:corner|side))?(?! of)", _corner),
    Rule(r"(?:far |very )?(?P<side>top|upper|bottom|lower) (?P<second>left|right)(?: most| hand)?(?: (?:corner|side))?(?! of)", _corner),
    Rule(rf"all the way (?:(?:on|at|over|to) )*(?:the )?{_SIDE}{OF_PICTURE}(?! of)", _extreme),
    Rule(r"(?P<side>left|right)(?=$| ,)", _after_noun),
    Rule(r"(?P<side>left|right|top|upper|bottom|lower)(?: hand)?", _attributive(_extreme)),
    *(Rule(rf"(?:very )?(?:{words})", _attributive(term("rank", *value))) for words, value in _ADJECTIVES.items()),
    Rule(r"(?P<which>later|earlier)(?= of )", lambda parser, found: Term("rank", "first", rank=1 if found["which"] == "later" else -1)),
    Rule(r"(?:at|in) (?:foreground|front)(?= (?:at|in) frame|$| ,)", term("rank", "front", 1)),
    Rule(r"(?:at|in) (?:back|rear|background)(?! of)", term("rank", "near", -1)),
    Rule(rf"on the (?:near|closer) side(?: of the (?:road|street|path|square)|{OF_PICTURE})", term("rank", "near", 1)),
    Rule(rf"(?:on|at) the far (?:side|end)(?: of the (?:road|street|path|square)|{OF_PICTURE})", term("rank", "near", -1)),
    Rule(r"(?:farthest|furthest|most) to(?:wards?)? the (?:rear|back)", term("rank", "front", -1)),
    Rule(r"(?:farthest|furthest|most)(?: to(?:wards?)? the)? (?:front|forward)", term("rank", "front", 1)),
    Rule(r"front(?: most)?(?=$)", term("rank", "front", 1)),
    Rule(r"front(?: most)?", _attributive(term("rank", "front", 1))),
    Rule(r"(?:back|rear)(?: most)?", _attributive(term("rank", "front", -1))),
    Rule(rf"(?:farthest|furthest|most)(?: over)?(?: to| on| towards?)?(?: the)? {_SIDE}(?: (?:side|edge))?{OF_PICTURE}(?! than)", _extreme),
    Rule(rf"(?:farther|further)(?: over)?(?: to| on| towards?)?(?: the)? {_SIDE}(?: (?:side|edge))?{OF_PICTURE}(?! of| than)", _extreme),
    Rule(rf"(?:farther|further|more)(?: over)?(?: to)?(?: the)? {_SIDE}{OF_PICTURE} than", _compare_side),
    Rule(rf"more(?: over)? to(?:wards?)? the {_SIDE}{OF_PICTURE}(?! of| than)", _extreme),
    Rule(rf"(?:nearest|closest) (?:to )?the {_SIDE}(?: hand)?(?: (?:side|edge|border|corner))?{OF_PICTURE}(?! of)", _nearest_side),
    # "the bus that looks tiny at the end"
    *(Rule(rf"(?:look|appear|seem|be) (?:very |so |really |rather )?(?:{words})(?=$| ,| at| in (?:the )?(?:frame|picture|last|first))", term("rank", *value), True) for words, value in _ADJECTIVES.items() if "later" not in words),
    Rule(rf"(?:counted |counting )?from (?:the )?(?P<from>left|right|front|back|rear|top|bottom|camera)(?: hand)?(?: (?:side|edge|border))?{OF_PICTURE}(?! to)", _from_side),
    Rule(rf"(?:(?:nearest|closest|nearer|closer)(?: to)? {US}|(?:right |very |up |quite |really )*(?:close(?: up)? to|near(?: to)?) {US}|(?:at|in) the (?:very )?(?:front|foreground)(?! of(?! {PICTURE})){OF_PICTURE})", term("rank", "near", 1)),
    Rule(rf"(?:(?:farthest|furthest|farther|further|far)(?: away)? from {US}|(?:at|in) the (?:very |far )?(?:back|rear|background|distance)(?! of {LINE}){OF_PICTURE})", term("rank", "near", -1)),
    Rule(rf"(?:(?:at|in) )?(?:the )?(?:very )?(?:front|head) of {LINE}|(?:the )?leader(?: (?:of|in) {LINE})?|(?:in|at) the lead", term("rank", "line", 1)),
    Rule(rf"(?:(?:at|in) )?(?:the )?(?:very )?(?:back|end|rear|tail|tail end|last place) of {LINE}", term("rank", "line", -1)),
    Rule(r"(?:at|in) the (?:very )?tail(?: end)?(?! of)", term("rank", "line", -1)),
    Rule(rf"in {LINE}", _in_line),
    Rule(rf"(?:in|at|near|on) (?:the )?(?:far |very )?(?P<side>top|upper|bottom|lower) (?P<second>left|right)(?: hand)?(?: (?:corner|side|part|quarter|quadrant|area))?{OF_PICTURE}", _region),
    Rule(rf"(?:on|at|in|by|along|near|close to|within|inside|over on) (?:the )?{_SIDE}(?: hand)? ?(?P<part>{_PARTS})?{OF_PICTURE}(?! of)", _region),
    Rule(rf"{_MIDDLE} of {PICTURE}", term("region", "centre")),
    Rule(rf"{_MIDDLE} of {LINE}", term("rank", "middle", 1)),
    Rule(rf"{_MIDDLE} of(?= (?:the|those|these|all))", lambda parser, found: Term("rank", "middle", rank=1, phrases=[parser.noun_phrase()])),
    Rule(_MIDDLE.replace("middle|centre", "middle"), term("rank", "middle", 1)),
    Rule(rf"{_MIDDLE}", term("rank", "centre", 1)),
    Rule(rf"(?:nearest|closest|nearer|closer)(?: to)? the (?:very |exact )?(?:middle|centre){OF_PICTURE}", term("rank", "centre", 1)),
    Rule(r"(?:nearest|closest)(?: to(?= \w)|(?= (?:the|an?|him|her|it|them) ))", to_phrase("relation", "near")),
    Rule(r"(?:farthest|furthest)(?: away)? from(?= \w)", to_phrase("relation", "far_from")),
]  # fmt: skip

RELATIONS = [
    Rule(rf"(?:(?P<count>{'|'.join(COUNTS)}|\d+)(?: along| over| down)? )?{ADVERB}(?:(?:on|to|at) )?(?:the )?{_SIDE}(?: hand)?(?: side)? of(?! {PICTURE})", _side_relation),
    Rule(rf"(?:be )?{ADVERB}(?:next to|beside|besides|close to|near|nearby|alongside|adjacent to|by)(?! the (?:left|right|top|bottom)(?: |$))", to_phrase("relation", "near")),
    Rule(r"neighbou?r of", to_phrase("relation", "near")),
    Rule(r"(?:except(?: for)?|apart from|aside from|other than|excluding|ignoring|disregarding|not counting|leaving out|but)(?= the )", _except),
    Rule(r"(?:in )?between", _between),
    Rule(rf"(?P<count>{'|'.join(COUNTS)}|\d+) (?:directly )?(?:behind|(?P<ahead>ahead of|in front of))", _line_relation),
    Rule(r"(?:directly|just|immediately|right|close|closely|straight) behind", to_phrase("relation", "behind_in_line")),
    Rule(r"behind", to_phrase("relation", "behind")),
    Rule(rf"in front of {US}", term("visible")),
    Rule(rf"ahead of {US}|up ahead|ahead(?! of)|the same way as us|the same way as our car", term("moves", "ahead")),
    Rule(r"(?:directly|just|immediately|right) (?:in front|ahead) of", to_phrase("relation", "ahead_in_line")),
    Rule(r"in front of", to_phrase("relation", "front")),
    Rule(r"in front(?! of)|(?:in|at) the lead", term("rank", "front", 1)),
    Rule(r"ahead of", to_phrase("relation", "ahead_in_line")),
    Rule(rf"{ADVERB}(?:above|over(?! (?:to|on|at|in|there)(?: |$))|higher (?:up )?(?:in {PICTURE} )?than)", to_phrase("relation", "top_of")),
    Rule(rf"{ADVERB}(?:below|under|beneath|underneath|lower (?:down )?(?:in {PICTURE} )?than)", to_phrase("relation", "bottom_of")),
    Rule(r"(?P<more>taller|higher|shorter|bigger|larger|smaller|faster|quicker|slower|closer|nearer|farther|further|longer|wider|narrower|thinner|more slowly|more quickly)"
         r"(?: away)?(?: (?:(?:to|from) )?(?:us|me|the camera|the viewer|the lens))?(?: in (?:the picture|the frame|the image|view|size))? than", _compare),
]  # fmt: skip

_PASS = rf"(?:pass(?: by)?|(?:{GO}|get|make it|push) (?:past|by)|cross(?: (?:paths|path|ways))? with|cross the path of|meet(?: with)?|come across|(?:bump|run|barge) into(?! {VIEW})|brush past|intersect(?: with)?)"
_APPEAR = (
    rf"{GO} into (?:view|sight|shot)|{GO} on(?:to)? {PICTURE}|appear(?! (?:the )?(?:to be )?(?:the )?(?!latest|earliest)\w+est)|(?:show|turn|pop|come|spring)(?: up)"
    rf"|show(?= (?:first|last|at|in|on)|$)|become visible|(?:first )?be (?:first )?see first|make (?:an|his|her|its|their) appearance|be introduce"
)
_ENTER = (
    rf"(?:{GO}|cut|pop|get) (?:in|inside|into {VIEW}|on(?:to)? {VIEW})(?: {VIEW})?(?! (?:the )?(?:left|right|same|opposite|middle|front|line|a line|half|a circle|circles|step|tandem|file)(?: |$))"
    rf"|enter(?: (?:into )?{VIEW})?|arrive(?: (?:in|on|into) {VIEW})?|join(?: in| {VIEW})?|make (?:an|his|her|its|their) (?:entrance|entry)"
)
_LEAVE = (
    rf"leave(?: (?:from )?{VIEW})?|(?:{GO}|drop|cut|get|slide|fade)(?: again)? (?:out|off)(?: again)?(?: (?:of )?{VIEW})?(?: again)?|(?:drop|fade|be lose) from {VIEW}"
    rf"|be (?:out of|off) {VIEW}|make (?:an|his|her|its|their) exit|clear {VIEW}|be last see(?= )|quit {VIEW}"
)

VERBS = [
    Rule(rf"(?:take up|fill|occupy) (?:the )?(?:most|largest|biggest)(?: (?:space|room|area|part|share))?{OF_PICTURE}|cover (?:the )?(?:most|largest|biggest) (?:area|space|room)", term("rank", "area", 1), True),
    Rule(r"(?:take up|fill|occupy|cover) (?:the )?(?:least|smallest) (?:space|room|area|part|share)", term("rank", "area", -1), True),
    Rule(r"(?:be |have )?(?:already )?(?:go|leave)(?= by (?:frame|second|\d|half|then|the (?:end|time|middle|midpoint|last|first|start)))|be (?:already |now )?go(?= at| before| in (?:the )?(?:frame|last|final|end)| after| when| around| once| ,|$)", term("gone"), True),
    Rule(rf"{_PASS} {US}|{GO} (?:past|by)(?! \w)|pass(?=$| ,)|{GO} past(?= (?:at|in|on|first|last))", _event("passed_camera"), True),
    Rule(r"(?:walk|go|ride|run|move|travel|stand) (?:right|just|directly|immediately) in front of", to_phrase("relation", "ahead_in_line"), True),
    Rule(rf"(?:{_PASS}|{GO}|cross) (?:right |just |directly )?in front of", to_phrase("relation", "passes_front"), True),
    Rule(r"(?:pass|cross) (?:right |just |directly )?behind", to_phrase("relation", "passes_behind"), True),
    Rule(_PASS, to_phrase("relation", "passes"), True),
    Rule(r"(?:be )?(?:overtake|pass) by (?:us|our car|our vehicle|the camera)", _event("passed_by_camera"), True),
    Rule(r"(?:be )?overtake by", to_phrase("relation", "overtaken_by"), True),
    Rule(r"(?:be|get)(?: be)? (?:overtake|pass)(?! (?:by|the|an?|all|every)(?: |$))", _by_others("overtaken_by"), True),
    Rule(r"(?:be )?pass by", to_phrase("relation", "passes"), True),
    Rule(r"(?:overtake|catch up with|get ahead of|pull ahead of)", to_phrase("relation", "overtakes"), True),
    Rule(rf"(?:be |get )?(?:partly |partially |half |mostly |completely |fully |briefly )*cover(?: up| out| over)?(?: from {VIEW})? (?:by|behind)", to_phrase("relation", "covered_by"), True),    Rule(r"(?:partly |partially |half |mostly |completely |fully |briefly )*cover(?= \w+)", _covered_noun, True),

    Rule(r"(?:partly |partially |half |mostly |completely |fully |briefly )*cover(?: up| out| over)?(?! (?:the )?(?:most|least|shortest|longest|greatest|largest) (?:ground|distance|path|way))(?: (?:part|half|most|some|all|a part|a bit) of)?", to_phrase("relation", "covers"), True),
    Rule(r"(?:stand |walk |stay |keep )?(?:apart|separate|well away) from (?:the )?(?:others|rest|group|everyone|everybody|all others)(?: else)?", term("rank", "isolation", 1)),
    Rule(rf"touch {EDGE}(?! of)", lambda parser, found: Term("region", "border", side_of(found)), True),
    Rule(rf"(?:start|begin)(?: out| off)? (?:(?:on|at|in|near|from) {EDGE}(?! of)|(?P<bare>left|right)(?= |$))", _from_or_to("starts"), True),
    Rule(rf"(?:end|finish)(?: up)? (?:(?:on|at|in|near) {EDGE}(?! of)|(?P<bare>left|right)(?= |$))", _from_or_to("ends"), True),
    Rule(rf"(?:be |get )?(?:partly |partially |half |mostly |completely |fully |briefly )*cover(?: up| out| over)?(?: from {VIEW})?(?= (?:at|in|around|between|during) |$)", _by_others("covered_by"), True),
    Rule(rf"(?:{GO}|cross)(?: all the way| right| straight| over| across)* from (?:the )?(?P<from>left|right)(?: (?:side|edge|border|half|third))?(?! (?:to|hand|side|edge|border|half|third)(?: |$))", lambda parser, found: Term("moves", side=_OPPOSITE[found["from"]]), True),
    Rule(r"(?:and )?then (?:turn |go |move |walk )?(?:back )?(?:to the )?(?P<to>left|right)(?! of)", lambda parser, found: Term("back", "then", found["to"])),
    Rule(r"(?:be )?overlap by", to_phrase("relation", "overlaps"), True),
    Rule(r"(?:overlap|touch)(?: with)? (?:each other|one another)", _by_others("overlaps"), True),
    Rule(r"(?:overlap|touch)(?: with)?", to_phrase("relation", "overlaps"), True),
    Rule(r"(?:be )?follow by", to_phrase("relation", "ahead_in_line"), True),
    Rule(r"be (?:be )?follow(?= (?:at|in|around|during|between)|$| ,)", _by_others("ahead_in_line"), True),
    Rule(r"follow", to_phrase("relation", "behind_in_line"), True),
    Rule(rf"lead(?: {LINE}| the way| the others| everyone| everybody)?(?: of {LINE})?", term("rank", "line", 1), True),
    Rule(rf"{GO} (?:first|in front|at the front|at the head)(?= of {LINE}|$|,| at| in)(?: of {LINE})?", term("rank", "line", 1), True),
    Rule(rf"{GO}(?: along)? {ADVERB}behind", to_phrase("relation", "behind_in_line"), True),
    Rule(rf"{GO}(?: along)? {ADVERB}ahead of", to_phrase("relation", "ahead_in_line"), True),
    Rule(rf"(?:{GO} (?:at )?|bring up )the (?:very )?(?:(?:rear|back)(?: of {LINE})?|end of {LINE})", term("rank", "line", -1), True),
    # Events.
    Rule(rf"(?:have )?(?:just|only just|recently) (?:{_APPEAR}|{_ENTER})", _event("just_entered"), True),
    Rule(rf"(?:be )?(?:about to|just about to|on the (?:point|verge) of) (?:{_LEAVE})", _event("about_to_leave"), True),
    Rule(rf"return|(?:enter|{GO} in|appear)(?: {VIEW})? (?:twice|again|a second time|two times|more than once)|{GO} back (?:in|(?:in)?to {VIEW})|come back(?! (?:to|towards?|at) )|leave and (?:then )?(?:return|come back|(?:{_APPEAR})(?: again)?)|(?:{_APPEAR}) again|be see again", _event("returns"), True),
    Rule(r"leave on the (?P<which>same|opposite) side", lambda parser, found: Term("sides", "same" if found["which"] == "same" else "other"), True),
    Rule(_APPEAR, _event("appear"), True),
    Rule(_ENTER, _event("enter"), True),
    Rule(_LEAVE, _event("leave"), True),
    # Turning, stopping, staying.
    Rule(r"(?:for )?(?:(?P<more>over|more than|at least|longer than)|less than|under|at most|shorter than|fewer than|not even) (?P<length>\d+(?:\.\d+)?) (?P<unit>frames?|seconds?)(?: long)?", _lasts),
    Rule(rf"(?:turn (?:a?round|back|about)|double back|reverse(?: (?:direction|course))?|change (?:direction|course|{GO} direction)|make a u turn|u turn)(?: and (?:{GO}|head) back(?! (?:to|out)))?", term("turns"), True),
    Rule(rf"{GO} back(?: again)?(?: a (?:bit|little))? {TOWARDS}", lambda parser, found: Term("back", side=side_of(found, "end") or side_of(found, "to")), True),
    Rule(rf"{GO} back(?: again)?(?! towards? {US})", term("turns"), True),
    Rule(rf"{STAY}(?: (?:around|about|round|still|there|out))*(?: for a (?:while|moment|long time)| a while| for some time| some time)*"
         rf" (?:at|near|by|close to|along|around) (?:the )?{_SIDE}(?: hand)? (?:edge|border|side|corner){OF_PICTURE}", term("lingers"), True),
    Rule(rf"(?:{GO}|reach|get|come|approach|near|make it)(?P<nearly>{NEARLY})(?: (?:to|towards?|as far as|close to|near|over to))* the {_SIDE}(?: hand)?(?: (?:edge|border|boundary){OF_PICTURE}| of {PICTURE})(?: by the end)?", _reaches, True),
    Rule(r"(?:stand|be|stay|sit|keep) (?:completely |perfectly |almost |nearly |quite )?(?:still(?! (?:(?:in|on)(?! frame)|there|visible|present|here|around|about|walk|go|move|head|run|ride|come|travel|stand|follow|behind|a)(?: |$))|stationary|motionless|put|in (?:one|the same) (?:place|spot)|where (?:he|she|it) be)|(?:stand|hang) (?:around|about|round|there)|wait|(?:stand|rest)(?=(?: (?:at|in|around|near) (?:frame|second|the (?:start|end|beginning|first|last))[\w .]*)?$)|stationary|motionless|idle|stand(?= person| man| woman| one| guy| pedestrian)|still(?= person| man| woman| car| one)|(?:be )?park|hardly move|barely move", term("still")),
    Rule(rf"(?:stop|hesitate)(?: (?:{GO}|for a (?:while|moment)|and (?:wait|stand)))*(?: in {PICTURE})?|come to a (?:stop|standstill)|slow to a stop|pull up", term("stops"), True),
    Rule(r"(?:speed up|accelerate|get faster|go faster|start to run|start run)", term("accelerates", rank=1), True),
    Rule(r"(?:slow(?: down)?|decelerate|get slower|go slower)", term("accelerates", rank=-1), True),
    # Motion.
    Rule(rf"(?:oncoming|approach(?: {US})?|(?:{GO}|face|head)(?: straight| directly| back)? (?:towards?|at|for|up to) {US}|face {US}|(?:get|grow|become|come|move|draw) (?:bigger|larger|closer|nearer)(?: to {US})?|grow|(?:{GO} )?(?:in )?the (?:other|opposite) (?:way|direction) (?:to|from|of) us)", term("moves", "towards_camera")),
    Rule(rf"(?:recede|shrink|(?:{GO}|head|drive|pull)(?: straight| directly)? away(?: from {US})?(?! (?:to|towards?|on) )|(?:get|grow|become|move) (?:smaller|(?:farther|further)(?! (?:to|left|right|up|down|on|over)(?: |$))(?: away)?)(?! than)(?: from {US})?|(?:{GO}) into the distance)", term("moves", "away")),
    Rule(rf"(?:cross|{GO} (?:all the way |right |straight )?across|traverse|{GO} (?:all the way )?through)(?: the whole| the entire)?(?: (?:{PICTURE}|picture|frame|screen|the (?:road|street|path|lawn|grass|square|pavement|crossing|plaza|field|yard|room|floor|junction|intersection)))?(?: {TOWARDS})?(?! (?:the|a|paths)(?: |$))",
         lambda parser, found: Term("crosses", side=side_of(found, "end") or side_of(found, "to")), True),
    Rule(rf"(?:{GO}|face|veer|be on (?:his|her|its|their) way)(?: in)?(?: the (?:other|opposite) (?:way|direction))?(?: ,)?{NEARLY} {TOWARDS}(?! of)", _moves, True),
    Rule(rf"(?:{GO} )?(?:in )?(?:the )?same (?:way|direction) as", to_phrase("relation", "same_way"), True),
    Rule(rf"{GO}(?: in)? the (?:other|opposite) (?:way|direction) (?:to|from|of|than|as)(?! (?:us|the other|the rest|everyone|all|other)(?: |$))", to_phrase("relation", "other_way"), True),
    Rule(rf"{GO}(?: in)? (?:the|a) (?:other|opposite|different|wrong) (?:way|direction)(?: (?:to|from|than|of) (?:the )?(?:others|other|rest|everyone else|everyone|all others))?|{GO} (?:against|opposite(?: to)?) the (?:flow|stream|others|other|rest)|(?:{GO} )?against the (?:flow|stream|tide|current|crowd)", term("moves", "against"), True),
    Rule(rf"to (?:the )?{_SIDE}(?: hand)? ?(?P<part>side|half|edge|border)?{OF_PICTURE}(?! of)", _to_side),
    Rule(rf"{TOWARDS.replace('(?:from )?', 'from ', 1)}(?! of)", lambda parser, found: Term("moves", side=side_of(found, "end")) if found["end"] else None),
    Rule(rf"(?P<to>left|right) (?:{GO})", lambda parser, found: Term("moves", side=found["to"])),
    Rule(rf"(?:{GO}|cover)(?: the)? (?:farthest|furthest|most(?: ground| distance| of all)?(?! slowly| quickly)|(?:longest|greatest|largest|most) (?:distance|way|path|walk|route|trip))(?! (?:to|left|right|from|over)(?: |$))", term("rank", "path", 1), True),
    Rule(rf"(?:{GO}|cover)(?: the)? (?:least(?: distance| ground| of all)?|(?:shortest|smallest) (?:distance|way|path|walk|route|trip))", term("rank", "path", -1), True),
    Rule(rf"(?:{STAY}|be|last|be see)(?: {IN_VIEW})?(?: for)?(?: the)? (?:shortest|briefest|least(?= time|$| ,| at| in| of))(?: (?:time|while|period))?", term("rank", "duration", -1), True),
    Rule(r"(?:in view|visible|present|on screen)(?: for)?(?: the)? (?:shortest|least)(?: time)?", term("rank", "duration", -1)),
    Rule(rf"(?:(?:only|just) )?(?:{STAY}|be|last|be see|appear)(?: {IN_VIEW})? (?:only |just |very )*briefly", term("rank", "duration", -1), True),
    Rule(r"take (?:the )?(?:longest|most)(?: time)?(?: to(?= ))?", term("rank", "duration", 1), True),
    Rule(r"take (?:the )?(?:shortest|least)(?: time)?(?: to(?= ))?", term("rank", "duration", -1), True),
    Rule(rf"come(?= {ADVERB}(?:before|after) )", _event("appear"), True),
    Rule(rf"come(?= (?:last|later|earlier|sooner)(?: |$))(?! last in {LINE})", _event("appear"), True),
    Rule(r"(?:walk|ride|march|run) last(?= at|$| ,)", term("rank", "line", -1), True),
    Rule(rf"(?:{STAY}|be|last|be see)(?: {IN_VIEW})?(?: for)?(?: the)? (?:longest|most(?= time|$| ,| at| in| of))(?: (?:time|while|period))?", term("rank", "duration", 1), True),
    Rule(rf"(?:{GO}(?: around| about| along)?|be on the move|moving)(?= at| in the|,|$| between| from frame| during| throughout| around)(?! in (?:front|line))", term("moving"), True),
    # In view.
    Rule(rf"(?:be |stay |have )*(?:still |already |also |visible |only )*{IN_VIEW}", term("visible")),
    Rule(rf"{STAY}(?: around| about| behind)?(?= until| till| to the end| from)", term("visible"), True),
]  # fmt: skip

_SUPERLATIVE_RULES = [
    Rule(rf"(?:(?:look|appear|seem|be|get|become|reach|have|{GO}|{STAY}) )?(?:the )?(?:{pattern})(?: (?:of all|of them all|overall))?(?! than)", term("rank", measure, sign))
    for pattern, measure, sign in _SUPERLATIVES
]  # fmt: skip

_FIRST_PLACES = PLACES.index(next(rule for rule in PLACES if rule.make is _in_line)) + 1
RULES = [*PLACES[:_FIRST_PLACES], *RELATIONS[:1], *PLACES[_FIRST_PLACES:], *VERBS, *RELATIONS[1:], *_SUPERLATIVE_RULES]

# After "that the bus ...": what the subject does to the noun before.
TRANSITIVE: list[tuple[str, Term]] = [
    (rf"(?:{_PASS}|{GO} (?:past|by))", Term("relation", "passes")),
    ("overtake", Term("relation", "overtaken_by")),
    (r"(?:partly |partially |half |mostly |briefly )*cover(?: (?:part|half) of)?", Term("relation", "covered_by")),
    (
        r"(?:follow|(?:walk|go|ride|run|drive) (?:directly |just |right )?behind)",
        Term("relation", "ahead_in_line"),
    ),
    (r"(?:overlap|touch)(?: with)?", Term("relation", "overlaps")),
    (r"(?:be )?(?:next to|beside|near|close to)", Term("relation", "near")),
    (r"(?:be |walk |stand )?behind", Term("relation", "front")),
    (r"(?:be |walk |stand )?in front of", Term("relation", "behind")),
]
