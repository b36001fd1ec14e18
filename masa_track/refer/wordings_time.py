"""Numbers and times of a sentence, brought to the wording that the grammar reads."""

from __future__ import annotations

import re
from collections.abc import Callable

UNITS = {name: number for number, name in enumerate(
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen "
    "nineteen".split(), 1)}  # fmt: skip
_TENS = {name: 10 * n for n, name in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), 2)}
_IN_WORDS = (
    rf"(?:(?:{'|'.join(UNITS)}) hundred(?: and)?(?: |\b))?(?:(?:{'|'.join(_TENS)})(?: (?:{'|'.join(UNITS)}))?"
    rf"|{'|'.join(UNITS)}|hundred)"
)
NTH = {name: n for n, name in enumerate("first second third fourth fifth sixth seventh eighth ninth tenth".split(), 1)}
_PARTS = {"half": 2, "third": 3, "quarter": 4, "fifth": 5, "tenth": 10}
_SHARE = rf"(?P<count>an?|one|two|three|four|\d) (?P<part>{'|'.join(_PARTS)})s?"
_PAST = r"(?= (?:long|in|into|later|before|after|has|have|mark|from|to go|to spare|left|remaining)\b| ?,|$)"  # after "a second", where it is a time
_TENTHS = {name: 10 * n for n, name in enumerate("twentieth thirtieth fortieth fiftieth sixtieth seventieth eightieth ninetieth".split(), 2)} | {name: n for n, name in enumerate(
    "eleventh twelfth thirteenth fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth".split(), 11)}  # fmt: skip
_FILM = r"(?:the|this) (?:whole |entire )?(?:video|clip|film|sequence|footage|recording|movie|shot|tape|action|drive)"
_MOMENT = r"(frames? \d+|\d+(?:\.\d+)? (?:seconds?|frames))"  # a point of time, with its number
_WE = r"(?:(?:we|you|i|it|one|they) )?(?:have |has |are |is |were |was )*(?:finally )?"
_HALF = r"(?:half ?way|midway|half ?time|mid ?way)"

# Times in other words, in the order in which they are replaced.
_TIMES: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    # "frame #40", "f40", "t = 2 s", "frame=40"
    (r"\bframes? ?(?:=|#|no\.?|nr\.?|number) ?(?=\d)", "frame "),
    (r"(?<![\w.])f\.? ?(?=\d+\b)", "frame "),
    (r"\b(?:at )?t ?= ?(?=\d)", "at "),
    (r"\b(?:frame|time) (?:code|index|stamp) (?=\d)", "frame "),
    (r"\b(?:the )?(\d+)(?:st|nd|rd|th) (?:and|to) (?:the )?(\d+)(?:st|nd|rd|th) frames?\b", r"frames \1 and \2"),
    (r"\b(?:the )?(\d+)(?:st|nd|rd|th) frame\b", r"frame \1"),
    (r"\bframes? (\d+) (?:(?:right |all the way |on |up )?(?:through|thru)(?: to)?|till|until|(?:right )?up to|right to|all the way to) (?:frame )?(\d+)", r"frames \1 to \2"),
    (r"\b(?:at |by |around |near )?the (\d+)(?:th|st|nd|rd)? frame mark\b", r"at frame \1"),
    (r"\bto (?:begin|start) with\b", "at the start"),
    (r"\b(half|side|part|third|quarter|corner|edge|middle|centre|left|right) of (?=frame \d)", r"\1 at "),
    # Words that make a time less exact, or no different.
    (r"\bin the (?:region|neighbou?rhood|vicinity|area) of (?=frame|\d)", "around "),
    (
        r"\b(?:some ?where|some ?time|any ?where|any ?time|(?:at|in) (?:some|a|any|one) (?:point|time|moment|stage)(?: in time)?|(?:in|during|over|within) the (?:interval|period|span|stretch|window|range|time)(?: of)?)"
        r" (?:in )?(?=(?:between|from|around|about|near|after|before|during|in (?:the|frames?)|close to|frames?)\b)",
        "",
    ),
    (r"\b(at|in|on|by|to|around) (?:exactly|precisely) (?=frame|\d|the)", r"\1 "),
    (rf"\b{_MOMENT} (?:exactly|precisely|sharp)\b", r"\1"),
    (rf"(?:\b(?:at|in|on) )?\b{_MOMENT} (?:or so|or thereabouts|more or less|approximately|roughly|give or take)\b", r"around \1"),
    # "once frame 40 is past", "with frame 40 behind us", "beyond frame 40"
    (rf"\b(?:once|when|after|as soon as|from when) {_WE}(?:got |get |gone |go |going )?(?:past|beyond|through|passed) {_MOMENT}", r"after \1"),
    (
        rf"\b(?:once|when|after|as soon as|from when) {_MOMENT} (?:has|have|had|is|are|was|were|have been)(?: long)? (?:passed|past|gone by|over|gone|done|elapsed|behind us|been shown|reached)",
        r"after \1",
    ),
    (rf"\b(?:with {_MOMENT} (?:behind us|over|past|gone|done))", r"after \1"),
    (rf"\b(?:beyond|past|following|subsequent to|any ?time after|no earlier than) {_MOMENT}", r"after \1"),
    (rf"\b(?:no later than|ahead of|any ?time before|up until|leading up to|in the run ?up to) {_MOMENT}", r"before \1"),
    (rf"\b(?:once|when|as|by the time|as soon as|the moment) {_WE}(?:at|on|in|get to|got to|reach|reached|hit|come to|arrive at) {_MOMENT}", r"at \1"),
    (rf"\b(?:once|when|as|by the time) {_MOMENT} (?:is|are|has been|comes|gets)(?: (?:being )?(?:shown|reached|up|here|on(?: screen)?|showing|around|playing))", r"at \1"),
    # "pause at frame 40:", "looking at frame 40", "if you stop at frame 40", "with the video at frame 40"
    (
        rf"\b(?:if |when )?(?:(?:you|we|i|one) )?(?:pause[ds]?|freez(?:e|es|ing)|jump(?:ing)?|go(?:ing)?|skip(?:ping)?|looking|look|seek|scrub|scroll|fast forward|stop|rewind|check|turn)"
        rf" (?:it |the (?:video|clip) )?(?:only )?(?:to|at|on) {_MOMENT} ?[:,.;]?(?: and| then)*(?: (?:tell me|take|pick|find|give me|look for|show me))?(?= |$)",
        r"at \1",
    ),
    (rf"^(?:take|consider|use|check|see|open) {_MOMENT} ?[:,.;]? ", r"at \1 , "),
    # The middle of the video.
    (r"\bmid (?:video|clip|film|sequence|footage|recording|way)\b|\bin mid (?:video|clip)\b", "halfway"),
    (rf"\b(?:at |around |by |in |on )*the (?:(?:clip|video|film|sequence|footage) )?(?:{_HALF} (?:mark|point|stage)|mid ?point|middle frame|central frame)(?: (?:frame|of {_FILM}))?(?! of the (?!video))", "at the midpoint of the video"),
    (r"\b(before|after|until|till|by) at the midpoint of the video", r"\1 the midpoint of the video"),
    (rf"\b(?:when|as|once) (?:{_FILM}|it) (?:is|are) (?:half|half ?way) (?:over|through|done|gone|finished)\b|\bhalf ?way (?:in|into|along|in to)(?: {_FILM})?(?= ?,|$)", "at the midpoint of the video"),
    (r"\b(?:before|until|till|by) (?:half ?way|midway|the midpoint of the video|the middle of the (?:video|clip|film))(?: through)?", "in the first half"),
    (r"\b(?:after|past) (?:half ?way|midway|the midpoint of the video|the middle of the (?:video|clip|film))(?: through)?", "in the second half"),
    # Counted from the end: "with ten frames to go", "10 frames before the video ends"
    (r"\bwith (?:only |just )?(\d+) (frames?|seconds?) (?:left|to go|remaining|to spare)(?: in the (?:video|clip))?", r"\1 \2 before the end"),
    (rf"\b(\d+) (frames?|seconds?) (?:before|from when|prior to when|until) (?:{_FILM}|it) (?:ends?|stops?|finishe?s?|closes?|is over)", r"\1 \2 before the end"),
    (r"\b(\d+) (frames?|seconds?) (?:before|from|prior to|short of) the (?:end|close|finish|last frame|final frame)", r"\1 \2 before the end"),
    (rf"\b(\d+) (frames?|seconds?) (?:after|from) (?:the (?:start|beginning|opening)|(?:{_FILM}|it) (?:starts|begins|opens))(?: of {_FILM})?", r"at \1 \2"),
    # Numbers alone are frames: "at 50", "between 20 and 40"
    (r"\b(at|by|until|before|after|in|around|about|near|past|since) (\d+)(?= ?,| ?$| (?:but|not|the|who|which|and)\b)(?! (?:and|to) \d)", r"\1 frame \2"),
    (r"\bbetween (\d+) and (\d+)(?= ?,| ?$| (?:the|who|which|in|on|at|from)\b)|^(\d+) to (\d+)(?= |,)(?! (?:people|persons|ones))", lambda f: f"between frames {f[1] or f[3]} and {f[2] or f[4]}"),
    # "second half: who leaves", "in the opening seconds"
    (r"^(?:the )?(first|second|last|latter) half ?[:,]? (?!of)", r"in the \1 half , "),
    (r"\b(in|during|over|within) the (first|opening|last|final|closing) seconds", r"\1 the \2 3 seconds"),
    (r"\bboth (?:in|at) (frame \d+) and (?:in |at )?(?:frame )?(\d+)", r"at \1 and at frame \2"),
    (r"\b(?:in|at) both (?:frame )?(\d+) and (?:frame )?(\d+)", r"at frame \1 and at frame \2"),
    (r"\b(at|in) frames (\d+) and (\d+)\b", r"in frame \2 and \1 frame \3"),
    (r"\bboth the (first|last) and (?:the )?(first|last) frames?\b", r"both the \1 frame and the \2 frame"),
    (r"\b(at|in) both (the \w+(?: frame)?|frame \d+) and (the \w+(?: frame)?|(?:frame )?\d+)", r"\1 \2 and \1 \3"),
    (r"\b(?:the )?(?:last frame but one|(?:penultimate|second last) frame)", "1 frame before the end"),
    (r"\b(in|during|within|for) the (first|opening|last|final|closing) second\b(?= ?,|$)", r"\1 the \2 1 seconds"),
    (r"\b(in|during|within|for|over) the (first|opening|last|final|closing) (?:few|couple of) (seconds|frames)", r"\1 the \2 3 seconds"),
    # "arrives and leaves again, both between frames 5 and 9": each of them in that time
    (
        r"\b(\w+s(?: in| out)?) and (?:then )?(\w+s(?: out| off)?)(?: again(?: ?,? both)?| ?,? both) (?=(?:(?:between|after|before|in|within|during) .*))(.+)$",
        r"\1 \3 and \2 \3",
    ),
    # "the person passed at frame 9 by the tallest one": passed by that one at frame 9
    (
        r"^([^,]*)\b((?:overtak|hidd|see)en|met|(?:pass|cover|block|hid|follow|overlapp|obscur)ed) ((?:at|in|around|near) frame \d+) (by [^,]+)$",
        r"\3 , \1\2 \4",
    ),
    # "for most of the clip"
    (rf"\b(?:for )?(?:most|much|the (?:bulk|majority|best part)|nearly all|almost all) of (?:{_FILM}|the (?:time|\w+ time))\b", "the longest"),
    # All the time: "in all 600 frames", "in every single frame"
    (r"\b(?:in|for|through|during|across|over) (?:each and every|every(?: single)?|each|all(?: of)?)(?: one)?(?: of)?(?: the)?(?: \d+)? frames?\b|\bfrom (?:beginning|start|first) to (?:end|finish|last)\b|\b(?:the )?(?:whole|entire) time\b|\bnon ?stop\b", "throughout"),
    (r"\bfrom (?:the )?(?:first|start|beginning|opening)(?: frame)?(?: right| all the way)? (?:through )?to (?:the )?(?:last|end|final)(?: frame| one)?\b", "throughout"),
)  # fmt: skip


def _number(words: str) -> int:
    total = 0
    for word in words.split():
        if word == "hundred":
            total = max(total, 1) * 100
        total += UNITS.get(word, 0) + _TENS.get(word, 0)
    return total


def _with_digits(plain: str) -> str:
    """Times and frames in digits, minutes in seconds, and shares of the video in percent."""
    plain = re.sub(r"\bhalf (?:a|an|of a) (?=second|minute)", "0.5 ", plain)
    plain = re.sub(r"\b(?:a couple of|a pair of) (?=seconds|frames)", "2 ", plain)
    plain = re.sub(rf"\b(?:an?|one)(?= second(?: mark)?{_PAST}| minute\b)", "1", plain)
    count = re.compile(rf"\b({_IN_WORDS})(?= (?:seconds?|secs?|minutes?|frames?|more seconds)\b)")
    plain = count.sub(lambda found: str(_number(found[1])) if found[1] != "one" else found[1], plain)
    plain = re.sub(
        rf"\b(frames? (?:number )?)({_IN_WORDS})\b(?: (and|to) ({_IN_WORDS})\b)?",
        lambda f: f"{f[1]}{_number(f[2])}" + (f" {f[3]} {_number(f[4])}" if f[4] else ""),
        plain,
    )
    plain = re.sub(
        rf"\b(?:the )?({'|'.join(NTH)}) (frame|second)(?= |$|,)(?! (?:half|person|one))",
        lambda f: f"{f[2]} {NTH[f[1]]}" if f[1] not in ("first", "second") else f[0],
        plain,
    )
    plain = re.sub(r"\b(?:the )?(\d+)(?:st|nd|rd|th) second\b", r"second \1", plain)

    def seconds(found: re.Match[str]) -> str:
        more = 30 if found["half"] else float(found["seconds"] or 0)
        return f"{60 * float(found['minutes']) + more:g} seconds"

    plain = re.sub(
        r"\b(?P<minutes>\d+(?:\.\d+)?) minutes?(?:(?P<half> and a half)| (?:and )?(?P<seconds>\d+(?:\.\d+)?) seconds?)?\b",
        seconds,
        plain,
    )
    plain = re.sub(
        rf"\b{_SHARE} (?=of the way\b|(?:in|into|through)(?: the (?:video|clip|film|sequence)| ?,|$))",
        lambda found: f"{100 * (UNITS.get(found['count'], 1)) / _PARTS[found['part']]:g} percent ",
        plain,
    )
    return re.sub(r"(\d) ?%", r"\1 percent", plain)


def plain_times(plain: str) -> str:
    """A sentence in lower case with its numbers in digits, and its times in the wording that the grammar reads.

    Args:
        plain: e.g. ``"once frame forty is past, the leftmost person"``: ``"after frame 40, the leftmost person"``.
    """
    plain = re.sub(rf"\b(?:({'|'.join(_TENS)}) )?({'|'.join([*NTH, *_TENTHS])}) frame\b", _nth_frame, plain)
    plain = re.sub(
        rf"\b(?:the )?(?:({'|'.join(UNITS)}) )?hundredth frame\b", lambda f: f"frame {100 * UNITS.get(f[1], 1)}", plain
    )
    plain = _with_digits(plain)
    for pattern, by in _TIMES:
        plain = re.sub(pattern, by, plain)
    return " ".join(plain.split())


def _nth_frame(found: re.Match[str]) -> str:
    """ "twenty fifth frame": "25th frame"; "first frame" as it is."""
    if found[1] is None and found[2] in ("first", "second"):
        return found[0]
    return f"{_TENS.get(found[1], 0) + ({**NTH, **_TENTHS})[found[2]]}th frame"
