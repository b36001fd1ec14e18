"""The grammar's rules for times: patterns over words in base form, and the times that they make."""

from __future__ import annotations

import re
from collections.abc import Callable

from masa_track.refer.phrases import When

_DURING = "(?:after|once|while|when|as|since)"
_SOON = "(?:just|right|shortly|soon|immediately|straight)"
VIDEO = r"(?:the|this|our) (?:whole |entire |full )?(?:video|clip|film|sequence|footage|recording|movie|shot|tape|scene|drive|action|playback|segment)"
LINE = r"(?:the |a |this )?(?:line|row|queue|group|pack|column|procession|file|train)"
_ENDS = rf"(?:{VIDEO}|it) (?:have |be )*(?:end|stop|finish|closes?|over|done|run out|cut (?:out|off)|come to (?:an end|a close))"
ENDS_BEFORE = rf"before {_ENDS}"
_N = r"(\d+(?:\.\d+)?)"
_CLOCK = r"(\d+(?::\d+)+(?:\.\d+)?)"


def _time(kind: str, seconds: bool = False) -> Callable[[re.Match[str]], When]:
    return lambda found: When(kind, tuple(float(v) for v in found.groups() if v is not None), seconds)


def _clock(found: re.Match[str]) -> When:
    seconds = 0.0
    for part in found[1].split(":"):
        seconds = 60 * seconds + float(part)
    return When("at", (seconds,), True)


def _part(found: re.Match[str]) -> When:
    """ "in the last third of the clip"."""
    share = 100 / {"third": 3, "quarter": 4}[found["part"]]
    start = {"first": 0.0, "opening": 0.0, "second": share, "middle": share, "last": 100 - share, "final": 100 - share}
    return When("part", (start[found["nth"]], start[found["nth"]] + share))


def _times() -> list[tuple[str, Callable[[re.Match[str]], When]]]:
    still = r"(?:frame|image|shot|picture|still)"
    start = rf"(?:begin|start|(?:very )?(?:first|opening|initial|starting) {still}|outset|opening|kick off|get go)"
    end = rf"(?:end|close|(?:very )?(?:last|final|closing|ending) {still}|finish|ending|conclusion)"
    starts = rf"(?:{VIDEO}|it|things) (?:have |first )*(?:start|begin|opens?|kicks? off|get (?:going|under way))(?: up| off)?"
    found: list[tuple[str, Callable[[re.Match[str]], When]]] = [
        (
            rf"(?:all the way )?from (?:the )?(?:very )?{start}(?: of {VIDEO})? (?:to|until|till|through to|right through to) "
            rf"(?:the )?(?:very )?(?:{end}|last)(?: of {VIDEO})?",
            _time("whole"),
        ),
        (rf"throughout(?: {VIDEO})?|all the time|all along|(?:for |during |in |over |across |of |throughout )?the (?:whole|entire|full) (?:time|video|clip|film|sequence|recording|footage)"
         rf"|in (?:every|each|all) (?:single )?frames?|(?:for|in) all of {VIDEO}|all through {VIDEO}", _time("whole")),
        (rf"(?:right |back )?(?:at|in|from|on|by|since|during) (?:the )?(?:very )?{start}(?: of {VIDEO})?"
         rf"|(?:when|as|where|once|the moment) {starts}|at first|initially|originally|to (?:begin|start) with|in frame one|at t ?= ?0", _time("start")),
        (rf"(?:right )?(?:at|in|by|on|until|till) (?:the )?(?:very )?{end}(?! of {LINE})(?: of {VIDEO})?|(?:when|as|where|once|before|until|till|by the time|the moment) {_ENDS}|finally|in the end", _time("end")),
        (rf"(?:half ?way|midway|half way)(?: through)?(?: {VIDEO})?|(?:in|at|around|about|near) the (?:middle|midpoint|half ?way point|half way point|halfway mark)"
         rf" of {VIDEO}", _time("middle")),
        (rf"{_SOON} after (?:{starts}|the (?:very )?{start}(?: of {VIDEO})?)", lambda found: When("opening", (2.0,), True)),
        (rf"{_SOON} before (?:{_ENDS}|the (?:very )?{end}(?: of {VIDEO})?)", lambda found: When("closing", (2.0,), True)),
        (rf"(?:in |at )?(?:the )?(?:very )?(?:first|opening|initial|starting) {still}(?: of {VIDEO})?", _time("start")),
        (rf"(?:in |at )?(?:the )?(?:very )?(?:last|final|closing|ending) {still}(?: of {VIDEO})?", _time("end")),
        (rf"(?:near|towards?|close to|around) the (?:very )?(?:{end})(?! of {LINE})(?: of {VIDEO})?|in the (?:last|final|closing) moments(?: of {VIDEO})?", lambda found: When("closing", (3.0,), True)),
        (rf"(?:near|close to|around) the (?:very )?(?:{start})(?: of {VIDEO})?|in the (?:first|opening) moments(?: of {VIDEO})?", lambda found: When("opening", (3.0,), True)),
        (rf"early on(?: in {VIDEO})?|early in {VIDEO}", lambda found: When("part", (0.0, 100 / 3))),
        (rf"late(?: on)? in {VIDEO}", lambda found: When("part", (200 / 3, 100.0))),
        (rf"{_DURING} {VIDEO} (?:have |be )*(?:already )?(?:run|under way|playing|roll|go on|in progress)", _time("running")),
        (rf"(?:after|since) (?:{starts}|the (?:very )?{start}(?: of {VIDEO})?)", lambda found: When("part", (0.0, 100.0))),
        (rf"(?:in|during|over|within|throughout) the first half(?: of {VIDEO})?", _time("first_half")),
        (rf"(?:in|during|over|within|throughout) the (?:second|last|latter|final|other) half(?: of {VIDEO})?", _time("second_half")),
        (rf"(?:in|during|over|within|for) the (?P<nth>first|opening|second|middle|last|final) (?P<part>third|quarter)(?: of {VIDEO})?", _part),
        (rf"(?:at |about |around |roughly )*(?:the )?{_N} percent(?: of the way)?(?: (?:in|into|through))?(?: {VIDEO})?", _time("percent")),
        (rf"(?:at )?{_N} frames? (?:before|from) the (?:very )?(?:{end})(?: of {VIDEO})?", _time("before_end")),
        (rf"(?:at )?{_N} seconds? (?:before|from) the (?:very )?(?:{end})(?: of {VIDEO})?", _time("before_end", True)),
    ]  # fmt: skip
    for unit, seconds in ((r"(?:frame|frames)", False), (r"(?:seconds?|s|sec|secs)", True)):
        number = (
            rf"(?:the )?{unit} (?:number |no )?{_N}(?: mark)?"
            if not seconds
            else rf"(?:(?:the )?second {_N}|(?:the )?{_N} {unit}(?: mark)?)"
        )
        both = rf"(?:the )?{unit} {_N} (?:and|to|till|until|through)(?: the)?(?: {unit})? {_N}"
        if seconds:
            both = rf"(?:the )?(?:{unit} )?{_N} (?:and|to|till|until) {_N} {unit}"
        found += [
            (rf"(?:in|during|within|over) the (?:first|opening) {_N} {unit}", _time("opening", seconds)),
            (rf"(?:in|during|within|for|over) the (?:last|final|closing) {_N} {unit}", _time("closing", seconds)),
        ]
        found += [
            (rf"(?:between|from|during|in|over|within|for)? ?{both}", _time("between", seconds)),
            (rf"(?:(?:at|in) )?(?:around|about|near|roughly|approximately|circa|close to|nearly)(?: at| in)? {number}(?: in)?", _time("around", seconds)),
            (rf"(?:just|shortly|right|soon|immediately) before {number}", _time("just_before", seconds)),
            (rf"(?:just|shortly|right|soon|immediately) after {number}", _time("just_after", seconds)),
            (rf"(?:before|until|till|up to|by|prior to|earlier than) {number}", _time("before", seconds)),
            (rf"(?:after|since|past|later than) {number}(?: on| onwards?)?|from {number} (?:on|onwards?|onward)", _time("after", seconds)),
            (rf"(?:(?:at|in|on|from|during) )?{number}(?: (?:into|in to) {VIDEO}| into it| in| later| have (?:pass|elapse|go by))?", _time("at", seconds)),
        ]  # fmt: skip
    found += [
        (rf"(?:at|in|on) the {_N}(?:st|nd|rd|th) frame", _time("at")),
        (rf"(?:at|around|by) {_CLOCK}", _clock),
    ]
    return [(pattern.replace("? ?(?:the", "?(?: )?(?:the"), make) for pattern, make in found]


TIMES = _times()
