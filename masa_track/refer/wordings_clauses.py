"""Sentences of several clauses: a group in the first and the choice in the second, and questions that only ask "who?"."""

from __future__ import annotations

import re

_COUNT = r"(?:two|three|four|five|six|seven|eight|nine|ten|\d+|several|some)"
_PEOPLE = (
    r"(?:people|persons|pedestrians|walkers|men|women|guys|figures|individuals|cyclists|riders|cars|buses|vehicles|ones|objects|boxes|tracks|bikes|passers by|subjects)"
    r"(?: on foot)?"
)
_NOUN = r"(?:one|person|man|woman|guy|car|bus|cyclist|rider|pedestrian|vehicle|walker|figure|track|individual|subject)"
_BREAK = r" ?(?:[.,;:!?]+|,? - ) ?"
_IT = r"(?:it|them|him|her|that|this|he|she|that one|this one)"
_ASK = r"(?:(?:please )?(?:give|show|tell|find|get)(?: me)?|i (?:mean|want|need|would like|(?:am )?(?:look(?:ing)? for|after|interested in))|(?:find|pick|take|name|identify|choose|select|return|report|locate)(?: me)?|my question is|namely|i e|that is)"

# What a sentence ends with and that asks for nothing new: "Who?", "Which car is it?", "That one, please", "point it out".
_TAIL = re.compile(
    rf"{_BREAK}(?:(?:and|so) )?(?:(?:who|which|what|whom)(?: {_NOUN})?(?: (?:is|was|could|would) (?:it|that|this|he|she|the (?:one|person|exception))(?: be)?)?"
    rf"|that {_NOUN}|that (?:somebody|someone)|(?:please )?{_ASK}(?: {_IT})?|(?:please )?point {_IT} out|please|thanks?(?: you)?|who (?:do i mean|am i (?:after|looking for)|is that)|its id)(?: please)?$"
)
# "someone is covering the man: who is covering him?": the question says the first clause again.
_AGAIN = re.compile(
    rf"^(?P<first>(?:.*\b)?(?:someone|somebody|one {_NOUN})\b.*?){_BREAK}(?:and )?(?:who|which {_NOUN}|what) (?:is|was|are) \w+ing (?:it|them|him|her)$"
)
# "all walk right apart from one", "all but one are standing"
_EXCEPT = re.compile(
    r"^(?P<when>[^,]*, )?(?:every ?(?:one|body)|all(?: of them| (?:the )?people)?|they all)(?: else)?"
    r"(?: (?:but|except(?: for)?|save|bar|apart from) (?P<early>one)(?: (?:person|of them))?)? (?:(?:is|are|was|were) )?(?P<what>.+?)"
    r"(?(early)| ?,? (?:apart from|except(?: for)?|but for|but|save(?: for)?|bar|with the exception of|barring) (?:just |only )?one(?: (?:person|of them|man|woman|individual))?)"
    r"(?P<after> (?:at|in|around) .*)?$"
)
# "there are three at frame 9; which of them leaves first?", "two people remain; I mean the left one"
_THERE = r"(?:there (?:are|were|will be)|only|just|exactly|with|(?:i|we|you)(?: can)? see)"
_GROUP = re.compile(
    rf"^(?P<when>(?:at|in|on|when|around|by|as|after|before|during) [^,;.:]*?(?:, |(?<!the)(?<!first)(?<!last)(?<!of)(?<!these)(?<!those)(?<!other) (?=(?:{_THERE}|{_COUNT} (?:other )?{_PEOPLE}) )))?"
    rf"(?:(?:{_THERE} )+(?P<count>{_COUNT})(?! (?:frames?|seconds?))|(?:when |as |where )?(?P<number>{_COUNT}|both)(?= (?:of (?:the|these) )?(?:other )?{_PEOPLE}\b| (?:closest|nearest|leftmost|rightmost|tallest|walking|standing|going|who|that)\b))(?: of (?:the|these))?"
    rf"(?: (?P<people>(?:other )?{_PEOPLE}))?(?P<what>(?: (?!of\b)[^,;.:?]*)?){_BREAK}(?:and )?(?:then )?(?:{_ASK} )?"
    rf"(?:(?:which|who|what)(?: {_NOUN})?(?: (?:of|out of|among) (?:them|those|these|the)(?: (?:{_COUNT}|people|ones))*)? (?P<asks>.+)"
    rf"|(?:of (?:them|those|these|the {_COUNT}) ?,? )?(?P<one>(?:the|whoever|whichever) .+))$"
)

# "two people meet at frame 9": each other
_EACH_OTHER = re.compile(
    r"^(?: who| that)? (overlap|meet|touch|pass|cross(?: paths)?)(?:ping|ing|ting)?(?: with)?(?= (?:at|around|near|in|by|between|about)\b|$)(?! in front)"
)


# "which person is the tall man hiding at frame 9": the person that the tall man is hiding
_INVERTED = re.compile(
    rf"(?P<start>^|, )(?:who|whom|what|which (?P<noun>{_NOUN}|pedestrian|walker))(?: (?P<when>(?:at|in|around) frame \d+))? (?:is|are|was|does|do|did) (?P<subject>(?:the|an?) [^,]+?)"
    r" (?P<verb>(?:(?:partly|partially|mostly|briefly|currently|just) )?(?:hid(?:e|ing)|cover(?:ing)?|block(?:ing)?|obscur(?:e|ing)|overtak(?:e|ing)|pass(?:ing)?|follow(?:ing)?|meet(?:ing)?|overlap(?:ping)?|touch(?:ing)?))"
    r"(?P<after>(?: up)?(?: from view)?(?:$| ?,| (?:at|in|around|when|between|near|by|halfway|during)\b).*)$"
)


def plain_clauses(plain: str) -> str:
    """A sentence of several clauses as one phrase; another one as it is.

    Args:
        plain: in lower case, e.g. ``"two people remain at the end. i mean the left one"``: ``"of the two people who remain
            at the end, the left one"``.
    """
    plain = re.sub(r"[.,;:!? ]+$", "", plain)
    while (shorter := _TAIL.sub("", plain)) and shorter != plain:
        plain = shorter
    if found := _INVERTED.search(plain):
        doing = "is " if found["verb"].endswith("ing") else ""
        said = f"the {found['noun'] or 'one'} that {found['subject']} {doing}{found['verb']}{found['after']}"
        plain = plain[: found.start()] + found["start"] + (f"{found['when']} , " if found["when"] else "") + said
    if found := _AGAIN.match(plain):
        plain = found["first"]
    if found := _EXCEPT.match(plain):
        return f"{found['when'] or ''}the one who is not {found['what']}{found['after'] or ''}"
    if found := _GROUP.match(plain):
        count = found["count"] or found["number"]
        count = {"several": "", "some": "", "both": "two"}.get(count, count)
        when = found["when"] or ""
        choice = found["one"] or f"the one who {found['asks']}"
        what = _EACH_OTHER.sub(r" who \1 each other", found["what"] or "")
        what = re.sub(r"\bcross(?: paths)? each other", "overlap each other", what)
        what = f" who {what.strip()}" if what.strip() and not what.startswith(" who") else what
        return f"{when}of the {count} {found['people'] or 'ones'}{what} , {choice}"
    return plain
