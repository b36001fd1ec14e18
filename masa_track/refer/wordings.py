"""Other wordings of a sentence, brought to the one that the grammar reads: contractions, numbers, word orders."""

from __future__ import annotations

import re
from collections.abc import Callable

from masa_track.refer.wordings_clauses import plain_clauses
from masa_track.refer.wordings_ideas import plain_ideas, plain_possessives
from masa_track.refer.wordings_time import NTH, UNITS, plain_times
from masa_track.refer.words import FORMS

_SUPERLATIVE = r"nearest|closest|farthest|furthest"
_NOBODY = r"(?:nobody|no ?one|no (?:other )?(?:person|one|cyclist|car|pedestrian|vehicle|bus)|nothing|none)(?: else)?"
_HIM = r"(?:him|her|them|it|himself|herself)(?: at all)?"
_GOES = r"(?:is|that is|are|was|being|to be seen|walks?|walking|stands?|standing|goes|going|moves?|moving|rides?|riding|comes?|coming|follows?|following)"
_WITHOUT = rf"\b(?:(?:that|who|which) )?(?:(?:has|have|having|with|there is) )?{_NOBODY} (?:{_GOES} )*"
_ENDS = r"(?= (?:at|in|on|when|around|by|and)\b| ?,|$)"
_IN_VIEW = r"(?:in|on) (?:view|sight|shot|frame|screen)|(?:in|on) the (?:picture|frame|image|screen|scene|view)|visible|there|present|around"

_JUST = r"(?<!\bthe )(?<!\bextreme )(?<!\bfar )(?<!\bvery )(?<!\bto )(?<!\bon )"  # before "right" that is no side
_ALL_OTHERS = r"(?:everyone|everybody|all|(?:all )?the (?:others|rest))(?: else)?"
_HAS_MOST = r"\b(?:with|who has|that has|has|having) (?:the )?most (?:other )?(?:people|persons|others)"
_ANYONE = "person|one|man|woman|guy|girl|boy|lady|cyclist|pedestrian|car|bus|vehicle|figure"


def _in_between(found: re.Match[str]) -> str:
    """ "walks in between frames 2 and 9" comes in; "leaves in between frames 2 and 9" does not."""
    walks = FORMS.get(found[1], ("", ""))[0] in ("walk", "go", "come", "ride", "run", "move", "head", "get")
    return f"{found[1]} in between " if walks else f"{found[1]} between "


def _placed(found: re.Match[str]) -> str:
    """ "runner up in height", "third in closeness": the second tallest, the third nearest."""
    nth = "second" if found[1].startswith("runner") else found[1].split()[0]
    measure = {"size": "biggest", "height": "tallest", "speed": "fastest", "distance": "farthest"}
    return f"{nth} {measure.get(found[2], 'nearest')}"


_LOOKING = (
    r"(?:considering|restricting|focuss?ing|limiting|looking|counting|concentrating)(?: only| just)?(?: yourself| it)?"
)

_CONTRACTIONS: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r"[\u2018\u2019]", "'"),
    (r"\bcan't\b", "can not"),
    (r"\bwon't\b", "will not"),
    (r"n't\b", " not"),
    (r"\b(who|that|which|what|where|he|she|it|there|one|person|man|woman)'s\b", r"\1 is"),
    (r"'(re|ve|d|ll|m)\b", r" "),
    (r"'s\b", " "),
    (r"\bpassers? ?-? ?by\b", "walker"),
    (r"\bkeep(?:s|ing)? (\w+ing)\b", lambda found: FORMS.get(found[1], (found[1], ""))[0]),
    (
        r"\bnext (?=(?:(?:one|person|man|woman|cyclist|car|bus|pedestrian|vehicle|guy|walker|individual) )?(?:to (?:leave|exit|go|depart|enter|come|appear|arrive|show|step|walk|pop|turn|disappear|vanish|emerge|join|drop|be)|who|that|entering|leaving|appearing|in|out)\b)",
        "first ",
    ),
    (r"\bto be gone\b", "to leave"),
    # "looking only at the right half, ...", "considering only those on the left, ..."
    (rf"^{_LOOKING}(?: to| on| at)(?: only| just)? (?=the (?:left|right|top|bottom|upper|lower)\b)", "in "),
    (rf"^{_LOOKING}(?: to| on| at)?(?: only| just)? (?=the|those|these|people|in)", ""),
    (r"\bincreases in (?:size|height)\b", "grows"),
    (r"\bdecreases in (?:size|height)\b", "shrinks"),
    (r"\b(?:tucked|squeezed|stuck)(?: away| in)? (?=behind\b)", ""),
    (r"\b(?:half|partly|partially) visible (?=behind\b)", ""),
    (r"\b(?:only |just )?(?:half|partly|partially) (?:visible|in view)(?= ?$| ?,| at| in| around)", "hidden"),
    (r"\b(?:that |who |whom )?(?:we|you) (?:can )?(?:only |just )?(?:partly|half|partially) see", "hidden"),
    (r"\b(?:occluder|blocker)\b", "person covering someone"),
    (
        r"\b(?:on |from |at )?(?:the )?(?:screen|camera|stage|frame|picture|image) (left|right)(?= ?$| ?,| at| in)",
        r"on the \1",
    ),
    (r"\bof (?:screen|frame|shot|picture|image|view)(?= ?$| ?,| (?:at|in|on|around)\b)", "of the picture"),
    (
        r"\b(?:hugging|(?:right )?up against|flush with|next to|beside|pressed against) the (left|right|top|bottom)(?: hand)? (?:edge|border|side)(?! of (?!the (?:picture|frame|image)))",
        r"at the \1 edge",
    ),
    (r"\b(?:bail|clear|push|make|nip|take)s (?:out|off)\b(?! (?:of|the)\b)", "leaves"),
    (r"\bto (?:bail|clear|push|make|nip|take) (?:out|off)\b", "to leave"),
    (r"\bsoonest\b", "first"),
    (r"\b(?:looms|features)\b", "is"),
    (
        r"\bmak(?:es|ing) it (?:all the way |right |through )*(?:to|till|until) the (?:very )?(?:end|last frame)\b",
        "is in view at the end",
    ),
    (r"\bleft standing\b", "in view"),
    (r"\bleast tall\b", "shortest"),
    (r"\bleast wide\b", "narrowest"),
    (
        r"\b(?:greatest|highest|largest) in (height|size)\b",
        lambda found: "tallest" if found[1] == "height" else "biggest",
    ),
    (r" and (?:then )?(?:block|hide|cover|obscure|pass|overtake)e?s (?:him|her|them|it)\b(?: from view)?", ""),
    (r"\bgoes (first|last|second|third)(?= ?$)", r"leaves \1"),
    (
        r"\b(?:an?|one) (?:pair|couple)(?: of people)?(?= (?:walking|standing|going|that|who|at|on|in|is|are)\b)",
        "two people",
    ),
    (r"\bout of nowhere\b", ""),
    (r"\b(?:the |in the )?direction opposite (?=to\b)", "in the opposite direction "),
    (
        r" ?,? ?\b(?:when|as) (?:(?:all|everyone|everybody|the|of) )*(?:others?|rest|else) (?:is |are )?(?:go|walk|mov|head|travel|rid|driv)[^,]*",
        " ",
    ),
    (
        r"\b(?:(?:walking|standing|going|moving|riding|walks?|are) )?(?:side by side|next to (?:each other|one another)|beside (?:each other|one another)|together|as a pair|in a pair|as a couple|in pairs|hand in hand)(?= ?$| ?,| (?:at|in|around|between|during) | (?:on|at) the (?:left|right)\b)",
        "closest together",
    ),
    (r"\b(closest|nearest) closest together", r"\1 together"),
    (
        r"\b((?:after|when|before|once|as|until|since|by the time) (?:the|all|everyone|everybody|most)[\w ]*?)(?<! the)(?<! to)(?<! from)(?<! far)(?<! on)(?<! very)(?<!\bexits)(?<!\b(?:goes|runs))(?<!\b(?:walks|moves|heads|turns|rides))(?<!ing) left(?= ?,|$| at frame)",
        r"\1 leaves",
    ),
    (r"\bnext ?, (?=(?:after|once|when|as soon as)\b)", "first "),
    (r"^right (?=(?:at|in) (?:frame|the)\b)", ""),
    (
        r"\bwhose (?:appearance|stay|visit|presence|time)(?: (?:in|on) (?:view|screen|the picture))? (?:is|was|lasts?) (?=the )",
        "with ",
    ),
    (
        r"\bwithout (?:ever )?(?=(?:leaving|stopping|turning|moving|overtaking|overlapping|going|passing|crossing)\b)",
        "and never ",
    ),
    (r"\b(?:the )?one before (?:the )?last\b", "penultimate"),
    (r"(?<=, )left (?=(?:on|at|by|through|via) the\b)", "leaves "),
    (r"\b(overlaps?|touch(?:es)?|overlapping|touching|with) (?:that|the (?:box|one)) of (?=the\b|whoever\b)", r"\1 "),
    (
        r"\b(?:in )?mid[- ]?(?:frame|picture|screen|image)\b(?= ?$| ?,| (?:at|around|near|in|by|between)\b)",
        "in the middle of the picture",
    ),
    (r"\bfad(?:es|ing) (?:out|away)\b", "disappears"),
    (r"\bdead last\b", "last in line"),
    (r"\bstill (?:yet )?(?=to (?:come|enter|appear|leave|arrive|show|exit)\b)", ""),
    (r"\b(?:how|what) about (?=the\b|whoever\b)", ""),
    (r"\bcomparing (?=the\b)", "of "),
    (r"\bturns (?:to the )?(left|right)\b(?! (?:and|then|a?round|about|back|at the)\b)", r"walks \1"),
    (r"(?: and)?(?: then)? carries on\b| doing nothing\b", ""),
    (r"\bat (?:about |around |roughly |exactly )?the same (?:time|moment) (?:as|that|when)\b", "when"),
    (
        r"\bcross(?:es)? (?:paths|each other|one another)(?= ?$| ?,| (?:at|around|near|between|during)\b)",
        "overlap each other",
    ),
    (r"\bseen for the (last|first) time\b", r"\1 seen"),
    (r"\bfirst spotted\b", "first seen"),
    (r"\bmak(?:es|ing) (?:his|her|its|their) first appearance\b", "appears"),
    (r"\b(?:starts|begins|starting|beginning) (?=(?:at|in|around|on) frame \d)", "appearing "),
    (r"\b(?:ends|ending) (?=(?:at|in|around|on) frame \d)", "leaving "),
    (r"\b(?:ends|finishes) (?=(?:first|last)(?: ?$| ?,))", "leaves "),
    (r"^the exception ?: ", ""),
    (r"\bin and out (?=(?:between|during|within)\b)", "enters and leaves again "),
    (r"\bout ahead\b(?! of)", "in front"),
    (r"\bis winning\b", "is in the lead"),
    (r"\b(?:exactly|precisely) (?=(?:at|in|on) )", ""),
    (r"\bround about\b", "around"),
    (r"\bno\.? (?=\d)", "number "),
    # "with the video paused on frame 25": at frame 25
    (
        r"\bwith (?:the |this )?(?:video|clip|film|picture|recording|footage) (?:paused|stopped|frozen|halted|held|standing) (?:at|on|in) ",
        "at ",
    ),
    (r"\bwhen it is (?=frame|\d)", "at "),
    (r"\bre[- ]enter(?:s|ing)\b", "comes back"),
    (r"\bmid(?:most|[- ](?:frame|picture|screen))(?= (?:person|one|man|woman|guy|walker|figure)\b)", "middle"),
    (r"\bhang(?:s|ing)? back\b", "at the end of the line"),
    (r"\b(?:minimum|minimal)(?= (?:x|y|height|size|area|speed|velocity|number|width))", "smallest"),
    (r"\b(?:maximum|maximal)(?= (?:x|y|height|size|area|speed|velocity|number|width))", "largest"),
    (r"\bvelocity\b", "speed"),
    (r"\b(?:teeny tiny|teeny|wee|itty bitty)\b", "tiny"),
    (r"\baveraged over (?:the|all)(?: whole| entire)? \w+", ""),
    (r"\bwhose (?:bounding )?box(?:es)? (?=overlap|touch)", "who "),
    (r"\b(?:peek|peer|look|poke|stick)(?:s|ing)? out(?: from)? (?=behind\b)", ""),
    (
        r"\b(?:way|far|miles) (?:off|away|back|out)(?: in the (?:distance|background))?(?= ?$| ?,| (?:at|in) (?:frame|the (?:start|end|first|last)))",
        "in the background",
    ),
    (r"^besides (?=the\b)", "except "),
    (r"\bneither (\w+) nor (\w+)\b", r"never \1 and never \2"),
    (r"\b(?:goes|gone|went|going) missing\b", "disappears"),
    (r"^(?:only |just |exactly |but )+one (?:of (?:them|these|those|the people) )?(?=\w+s\b|is\b)", "the one who "),
    (
        r"\b(?!.*\b(?:because|due to|since)\b)(?:can )?(?:not|no longer) be seen(?: any ?more| any longer)?(?= (?:at|after|by|in|from|around)\b|$)|\b(?:is|are) (?:not|no longer) seen (?:any ?more|any longer)",
        "is gone",
    ),
    (r"\boverlap(s|ping)?(?: with)?(?= (?:at|in|around|near|by|during) frame|$| ,)", r"overlap\1 each other"),
    (r"\bmost recently arrived\b", "newest"),
    (
        r"\b(?:much|a lot|far|clearly|noticeably|considerably|way|even|slightly|a bit|a little|somewhat|quite a bit) (?=(?:taller|higher|shorter|bigger|larger|smaller|faster|quicker|slower|closer|nearer|wider|thinner|longer)\b)",
        "",
    ),
    (r"\b(\w+) in between (?=frames?\b)", _in_between),
    (r"^(?:and )?which(?: one)? is (?=the )", ""),
    (
        r"\b(?:(?:far|extreme|farthest|furthest) )?(left|right|top|bottom)(?:[ -]?most)? (?=(?:half|third|quarter|fifth)\b)",
        r"\1 ",
    ),
    (
        r"\b(?:the )?(runner[ -]up|(?:second|third|fourth|fifth)(?: place)?) (?:in|for|by) (size|height|closeness|nearness|speed|distance)\b",
        _placed,
    ),
    (r"\brunner[ -]up\b", "second biggest"),
    (
        r"\b(?:the )?last (?:(?:one|man|person|woman) )?(?:standing|left|remaining|to remain)(?= ?$| ?,)",
        "the last one to leave",
    ),
    (r"\b(?:average|mean|overall|net|total) (?=speed|height|size|area|distance|pace)", ""),
    (r"\b(?:up|out) front\b", "at the front"),
    (r"\bfar (?:off|away|back|out) (?=in the (?:background|distance)\b)", ""),
    (r"\b(people|persons|ones|walkers|person|man|men|women) on foot\b", "pedestrians"),
    (r"\bwho on foot\b", "which pedestrian"),
    (r"\b(?:bike|bicycle|cycle) rider", "cyclist"),
    # "one car hides a man": a car
    (rf"(?:^|(?<=, )|(?<= \d )|(?<= \d\d )|(?<= \d\d\d ))one (?=(?:{_ANYONE.replace('|one|', '|')}) \w+s\b)", "a "),
    # "the five left at the end": still in view
    (
        rf"\b({'|'.join(UNITS)}|people|persons|ones|\d) left (?=(?:at|in|on|when|by) (?:the (?:end|last|close|final|very)|frame|\d))",
        r"\1 in view ",
    ),
    (
        r"\b((?:in|of|on) (?:the )?(?:picture|frame|image|view|shot|video|clip)) at (?=\d+\b(?! (?:seconds?|frames?|s|percent)))",
        r"\1 at frame ",
    ),
    (
        r"\b(?:latest|most recent) (?:arrival|newcomer|arriving (?:one|person)) (?=(?:on|from|at|in) the (?:left|right|top|bottom))",
        "last one to enter ",
    ),
    (r"\bdirection of\b", "towards"),
    (r"(\d) ?[-\u2010-\u2015] ?(?=\d)", r"\1 to "),
    (r"~ ?", "around "),
    (r"@", " at "),
    (r"(?<=\w)[-\u2010-\u2015/](?=\w)", " "),
    (r"[-\u2010-\u2015/]", " , "),
    (
        r"\b(who|that|which|whoever|has|have|had|and|but|just|already) left\b(?! (of|side|edge|hand|half|to right))",
        r"\1 leave",
    ),
    (r"\b(cent)er\b", r"\1re"),
    (r"\b(left|right)hand\b", r"\1 hand"),
    (r"\bfor (?:just|only|barely) an? (?:split )?(?:second|moment|instant)(?: or two)?\b", "for only a moment"),
)


def _nth(found: re.Match[str]) -> str:
    number = UNITS.get(found[1]) or int(found[1])
    return f"{number}{({1: 'st', 2: 'nd', 3: 'rd'}).get(number, 'th')}"


_ORDINAL = r"(?:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|last|\d+(?:st|nd|rd|th))"
_SIDE_TO_LINE = {"ahead": "", "front": "", "behind": "last "}


def _counted(found: re.Match[str]) -> str:
    """ "with two people on their left": third from the left."""
    number = (UNITS.get(found["count"]) or int(found["count"])) + 1
    nth = next((name for name, value in NTH.items() if value == number), f"{number}th")
    if found["side"]:
        return f"{nth} from the {found['side']}"
    return f"{nth} {_SIDE_TO_LINE[found['order'].split()[-1]]}in the line"


_ORDERS: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (
        r"^(?:please )?(?:(?:could|can|would|will) you (?:please )?)?(?:(?:(?:help|let) me )?(?:show|find|give|tell|see)(?: me)?|i (?:am )?(?:look|looking|searching|after)(?: for)?|i (?:need|want|wonder)(?: to (?:know|see|find|have))?|need|want|(?:do )?you know|identify|locate|name|return|report|get|spot"
        r"|point (?:out|to|at)|pick(?: out)?|select|highlight|track|mark)?\b(?: (?:me|us))?(?: ?(?:the )?(?:track )?(?:id|identity|number|name|label)(?: number)? of)? ?(?=\w)",
        "",
    ),
    (
        r"\bnumbers (one|two|three|four|five|six|seven|eight|nine|ten|\d+) and (one|two|three|four|five|six|seven|eight|nine|ten|\d+)\b",
        r"number \1 and number \2",
    ),
    (r"(?<!frame )\bnumber (one|two|three|four|five|six|seven|eight|nine|ten|\d+)\b", _nth),
    (rf"\b(?:at |in )?(?:the )?(?:position|place) (?:number )?({'|'.join(UNITS)}|\d+)\b", _nth),
    (
        rf"(?:^|\b(?:starting|counting|counted|if (?:you|we|one) counts?|going|reading) )from (?:the )?(left|right)(?: hand)?(?: side| edge)?"
        rf"( (?:at|in) frame \d+)? ?,? (?:the )?({_ORDINAL})(?: (person|one|man|woman|cyclist|car|pedestrian|vehicle|bus))?",
        r"the \3 \4 from the \1\2",
    ),
    (
        rf"(?:^|\b(?:in|holds|holding|takes|has|occupies) )(?:the )?({_ORDINAL}) (?:place|position)\b(?! (?:from|to|behind|on))",
        r"\1 in the line",
    ),
    (
        rf"\b(?:with|who has|that has|has|having|who have) (?:exactly |only |just )?(?P<count>{'|'.join(UNITS)}|\d+) (?:other |more )?"
        rf"(?:people|persons?|others?|walkers?|cyclists?|pedestrians?|cars?) (?:walking )?(?:(?:on|to) (?:the|his|her|their|its) (?P<side>left|right)"
        rf"(?: side)?(?: of {_HIM})?|(?P<order>ahead|in front|behind)(?: of)?(?: {_HIM})?){_ENDS}",
        _counted,
    ),
    (
        rf"{_HAS_MOST} (?:on|to) (?:the|his|her|their|its) left(?: of {_HIM})?{_ENDS}",
        "farthest right",
    ),
    (
        rf"{_HAS_MOST} (?:on|to) (?:the|his|her|their|its) right(?: of {_HIM})?{_ENDS}",
        "farthest left",
    ),
    (
        rf"{_HAS_MOST} (?:walking )?behind(?: {_HIM})?{_ENDS}",
        "at the head of the line",
    ),
    (
        rf"{_HAS_MOST} (?:walking )?(?:ahead|in front)(?: of)?(?: {_HIM})?{_ENDS}",
        "at the end of the line",
    ),
    (
        rf"\b(?:without anyone|without anybody|with {_NOBODY}|has {_NOBODY}) (?:near(?:by)?|close(?: by)?|next to|around|beside)(?: to)?(?: {_HIM})?{_ENDS}",
        "most isolated",
    ),
    (
        r"\b(?:ends? up|ending up|finish(?:es)?|winds? up|ends?)(?: the (?:video|clip|film|sequence))?(?: as)? (?=(?:the )?(?:farthest|furthest|left ?most|right ?most|nearest|closest|highest|lowest)\b|(?:on|at) the far\b)",
        "at the end ",
    ),
    (
        r"\b(?:starts?|starting|begins?)(?: out| off)?(?: the (?:video|clip|film|sequence))?(?: as)? (?=(?:the )?(?:farthest|furthest|left ?most|right ?most|nearest|closest|highest|lowest)\b|(?:on|at) the far\b)",
        "at the start ",
    ),
    (r"\bnext (?=after\b)", ""),
    (
        r"\b(?:before|sooner than|earlier than) (?:anyone|anybody|everyone|everybody|(?:all )?(?:the )?others|all the rest|the rest|any of the others)(?: else)?(?: does| do)?\b",
        "first",
    ),
    (
        r"\b(?:after|later than) (?:anyone|anybody|everyone|everybody|(?:all )?(?:the )?others|all the rest|the rest)(?: else)?(?: does| do)?\b",
        "last",
    ),
    (
        r"\bfirst (?=(?:to (?:the )?)?(?:left|right) and then\b)|\bfirst (?=and then\b)|\bfirst (?=\w+ing (?:to the )?(?:left|right)\b)|(?<=\bleft )first(?= (?:and|then)\b| ?,)|(?<=\bright )first(?= (?:and|then)\b| ?,)",
        "",
    ),
    (r"\band (?:then )?(?:back )?(?:out|off) (?=(?:on|of|at|through|to)\b)", "and goes out "),
    (r"\b(\w+er) and \1\b", r"\1"),
    (
        r"\bin our direction\b|(?<=heading )our way\b|(?<=coming )our way\b|(?<=heads )our way\b|(?<=comes )our way\b",
        "towards us",
    ),
    (
        rf"(?<!\btowards ){_JUST}\bright (?=(?:after|before)\b)",
        "just ",
    ),
    (r"\bthe (?:pair|couple)\b(?: of)?", "the two"),
    (r"\bthe trio\b(?: of)?", "the three"),
    (r"\bone and only\b", "only"),
    # "unlike all the others": says the same again.
    (r" ?,? ?\b(?:while|whereas|unlike) (?:(?:all|everyone|everybody|the|of) )*(?:others?|rest|else)\b[^,]*", " "),
    (
        rf"{_JUST}\bright (?=(?:at|in|on) the (?:very )?(?:bottom|top|front|back|rear|edge|left|right|middle|centre|corner|head|tail)\b)",
        "",
    ),
    (r"\b(\w+(?:est|most)) but one\b", r"second \1"),
    (r"\b(\w+(?:est|most)) but two\b", r"third \1"),
    (
        rf"\b(?:with|who has|that has|has|having) (?:the )?fewest (?:other )?(?:people|persons|others) (?:on|to) (?:the|his|her|their|its) (left|right)(?: of {_HIM})?{_ENDS}",
        r"farthest \1",
    ),
    (r"\bouter ?most( \w+)? (?:on|to|at) the (left|right)\b", r"farthest \2\1"),
    (r"\bouter ?most (left|right)\b", r"farthest \1"),
    (rf"\b({_ORDINAL}(?: \w+)?) (?:starting|counting|going) (?=from (?:the )?(?:left|right)\b)", r"\1 "),
    (r"\bthe next to (?=\w+most\b)", "the second "),
    (r"\bleast (?:far(?: away)?|distant)\b", "nearest"),
    (r"\bleast (?:near|close)\b", "farthest"),
    (
        rf"\btower(?:s|ing)? (?:above|over) {_ALL_OTHERS}\b",
        "is the tallest",
    ),
    (rf"\b({_ORDINAL}) (?:in|by) height\b", r"\1 tallest"),
    (rf"\b({_ORDINAL}) (?:in|by) (?:size|area)\b", r"\1 biggest"),
    (rf"\b({_ORDINAL}) (?:in|by) speed\b", r"\1 fastest"),
    (r"\bof the (?=(?:greatest|largest|biggest|smallest|least|lowest) (?:height|size|area)\b)", "with the "),
    (r"\b(?:is |was )?gone (?=(?:first|last|second|third)\b)", "leaves "),
    (r"\b(?:that |whom )?we see (?:for )?(?:the )?least\b", "visible the least"),
    (
        r"\bonly ((?:\w+ ){1,4})for an? (?:moment|second|instant|(?:very )?short (?:time|while)|few (?:frames|moments))\b",
        r"\1for only a moment",
    ),
    (r"\b(?:least|smallest|shortest) amount of time\b", "least time"),
    (r"\b(?:most|greatest|largest|longest) amount of time\b", "longest time"),
    (r"\bleast long\b", "the shortest time"),
    (r"\blongest (?:lasting|lived|staying)\b", "longest"),
    (r"\bshortest (?:lasting|lived|staying)\b", "briefest"),
    (r"\bwhose (?:entrance|entry|arrival) (?:is|was|comes|came)\b", "who enters"),
    (r"\bwhose (?:exit|departure) (?:is|was|comes|came)\b", "who leaves"),
    (r"\b(?:is |was )?last seen (?=(?:at|in|around|on|near)\b)", "leaving "),
    (r"\b(?:is |was )?first seen (?=(?:at|in|around|on|near)\b)", "appearing "),
    (r"\b(?:speediest|swiftest)\b", "fastest"),
    (r"\bthe straggler\b", "the one at the end of the line"),
    (r"\blater (?=(?:\w+ )?to (?:leave|exit|go|disappear|vanish|enter|appear|arrive)\b)", "last "),
    (r"\bearlier (?=(?:\w+ )?to (?:leave|exit|go|disappear|vanish|enter|appear|arrive)\b)", "first "),
    (
        r"\bthe one (?=(?:person|man|woman|guy|girl|boy|lady|cyclist|pedestrian|car|bus|vehicle|figure|bike|truck|dog)\b)",
        "the only ",
    ),
    (rf"\b(?:in front|ahead) of {_ALL_OTHERS}\b(?! of)", "in front"),
    (r"\bodd one out\b", "one"),
    (r"\bpace\b", "speed"),
    (r"\b(?:sets?|setting) off\b", "goes"),
    (r"\b(?:makes?|making|bound) for (?=the (?:left|right|top|bottom)\b)", "walking to "),
    (r"\b(left|right)wards? (?=(?:moving|going|heading|walking)\b)", r"\1 "),
    (r"\b(?:nearest|closest) neighbou?r (?:of|to)\b", "one nearest to"),
    (r"\b(?:side by side|in step|along) with\b", "next to"),
    (
        r"\b(?:the )?(?:picture|frame|image|screen) (left|right|top|bottom) (edge|border|side)\b",
        r"the \1 \2 of the picture",
    ),
    (r"\bat the (edge|border|side) on the (left|right)\b", r"at the \2 \1"),
    (r"\b(?:is|are|was|were) left (?=at\b|in the (?:last|final)\b)", "is in view "),
    (r"\bup top\b", "at the top"),
    (r"\b(?:out)?of the (?:lot|bunch)\b", "of all"),
    (
        r"\b(?:outlasts?|outlasting|outstays?) (?:everyone|everybody|all|(?:all )?the others?|the rest)(?: else)?\b",
        "stays the longest",
    ),
    (
        rf"\b({_ORDINAL}(?: \w+)?) (?:in|to come|into (?:the )?(?:picture|frame|view|sight|shot|scene))(?= ?,|$| (?:after|once|when) the\b)",
        r"\1 to appear",
    ),
    (
        rf"\b({_ORDINAL}(?: \w+)?) (?:out of (?:the )?(?:picture|frame|view|sight|shot|scene)|off screen|out|off|(?:is )?gone|to go)(?= ?,|$| (?:before|after|by|around|between)\b| at (?:frame|\d)| (?:on|at|to|through|by) (?:the )?(?:left|right|top|bottom)\b)",
        r"\1 to leave",
    ),
    # "exits last on the left": the last to exit on the left.
    (
        rf"\b(exit(?:s|ing)?|leav(?:es?|ing)|enter(?:s|ing)?|appear(?:s|ing)?|(?:goes|walks|rides|comes) (?:out|off|in)) ({_ORDINAL})"
        r" ((?:on|at|to|from|through|by) (?:the )?(?:left|right|top|bottom)(?: hand)?(?: (?:side|edge|border))?)\b",
        r"\1 \3 \2",
    ),
    (
        rf"\b(second|third|fourth|fifth|sixth|\d+(?:nd|rd|th)) (left|right)(?: most)?(?= (?:{_ANYONE})\b|$| ?,| at\b| in frame\b)",
        r"\1 from the \2",
    ),
    (r"\bmost (left|right)wards?\b", r"\1most"),
    (
        rf"\b({_ANYONE}) towards the (back|rear|front)\b",
        r"\1 at the \2",
    ),
    (r"\b(?:is |are |was )?(?:missing|absent)\b", "is not in view"),
    (r"\bhead(?:s|ing)? (?=the (?:line|queue|row|procession|group)\b)", "leading "),
    (r"\b(?:lags?|lagging|trails?|trailing) behind\b(?! (?:the|him|her|them|all|every))", "at the end of the line"),
    (r"\bthe trailing (\w+)\b", r"the \1 at the end of the line"),
    (r"\bthe (?:front ?runner|leading (?:person|one|man|woman|walker|figure))\b", "the leader"),
    (r"\bwhose head is\b", "who is"),
    (r"\bmost recently\b", "last"),
    (
        r"\b(?:straight|right|just|directly|immediately|next) after (?=the (?:leader|[\w ]*\b(?:line|queue|row|procession|file))\b)",
        "directly behind ",
    ),
    (
        r"\b(?:straight|right|just|directly|immediately) before (?=the (?:leader|[\w ]*\b(?:line|queue|row|procession|file))\b)",
        "directly ahead of ",
    ),
    (
        r"(?:\bon the |^(?:the )?)(left|right)(?: hand)?(?: side)? (?:out )?of (?=the (?:two|three|four|pair|\d))",
        r"\1most of ",
    ),
    (r"\bin (?:the )?order(?= from\b| of\b| at\b|$)", ""),
    (r"\bnext(?! to (?:the|an?|him|her|them|it|each|one|last)\b)(?= ?,? .*\b(?:after|once|when)\b)", "first"),
    (
        r"\b(?:half ?way|midway) (?:along|down|through|in) (?=(?:the|a) (?:line|queue|row|group|procession|column|file)\b)",
        "in the middle of ",
    ),
    (r"\b(to|on) the immediate (left|right) of\b", r"immediately \1 the \2 of"),
    (
        r"\b(?:flanked by|sandwiched between|framed by|enclosed by|surrounded by|half ?way between|midway between)",
        "between",
    ),
    (
        r"\bmak(?:e|es|ing) (?:their|his|her|its) way\b|\bon (?:their|his|her|its|the) way(?= (?:to|out|in|towards?)\b)",
        "walking",
    ),
    (
        r"\b(?:(?:is|are|was|were|has|have|being) )?(?:(?:already|now) )?gone(?= (?:at|by|before|when|around)\b| in frame| ?,|$)",
        "is gone",
    ),
    # "the nearest person to the camera": the person nearest to the camera.
    (
        rf"\b({_SUPERLATIVE}) (?!(?:away|back|off|up|over|down|in)\b)(\w+) (to|from) (?=the\b|a\b|an\b|us\b|me\b|him\b|her\b|our\b)",
        r"\2 \1 \3 ",
    ),
    (r"\b(farthest|furthest) (\w+) (?=(?:left|right)\b)", r"\2 \1 "),
    # "isn't there any more": is gone.
    (rf"\b(?:is|are|was|were) (?:not (?:{_IN_VIEW}) (?:any ?more|any longer)|no longer (?:{_IN_VIEW}))", "is gone"),
    (rf"\b(?:is|are|was|were) not (?:any ?more|any longer) (?:{_IN_VIEW})", "is gone"),
    # "with nobody on their right", "nobody walks ahead of".
    (
        rf"{_WITHOUT}(?:further |any further )?(?:(?:on|to|at) )?(?:(?:the|his|her|their|its) )?(left|right)(?: hand)?(?: side)?"
        rf"(?: of {_HIM})?{_ENDS}",
        r"farthest \1",
    ),
    (
        rf"{_WITHOUT}(?:directly )?(?:ahead(?: of)?|in front(?: of)?|before)(?: {_HIM})?{_ENDS}",
        "at the head of the line",
    ),
    (rf"{_WITHOUT}(?:directly )?(?:behind|after)(?: {_HIM})?{_ENDS}", "at the end of the line"),
    (rf"\b(?:that |who |whom )?{_NOBODY} (?:is )?(?:follows?|following)\b", "at the end of the line"),
    # "third from last", "next to last", "last but two".
    (r"\bnext to last\b|\blast but one\b", "penultimate"),
    (r"\blast but two\b|\bantepenultimate\b", "third last"),
    (
        rf"\b({'|'.join(NTH)}|\d+(?:st|nd|rd|th)) (?:from|to|from the|to the) (?:very )?last\b(?! (?:frame|second|moment))",
        r"\1 last",
    ),
    # "the people who ...: the first one", said as arrivals and departures.
    (
        r"\b(?:most recent(?:ly)?|latest|newest) (?:arrivals?|newcomers?|arrived|to have arrived|to (?:arrive|enter|appear|join|come in|show up)|addition)\b",
        "newest one",
    ),
    (r"\b(arrivals?|newcomers?|entrants?|entrance|entry)\b", "one to enter"),
    (r"\b(departures?|leavers?)\b", "one to leave"),
    (
        r"\b(two|three|four|\d) (?:places|positions|spots|people|persons) (?=(?:(?:to the |on the )?(?:left|right) of|behind|ahead|in front)\b)",
        r"\1 ",
    ),
)


def plain_wording(text: str) -> str:
    """A sentence in lower case and in the wording that the grammar reads.

    Args:
        text: e.g. ``"Half a minute in, who's the nearest person to us?"``.
    """
    plain = plain_possessives(re.sub(r"[?!.]+$", "", text.lower().strip().replace("\u2019", "'")))
    for pattern, by in _CONTRACTIONS:
        plain = re.sub(pattern, by, plain)
    plain = plain_clauses(" ".join(plain.split()))
    plain = plain_ideas(plain_times(" ".join(plain.split())))
    for order, other in _ORDERS:
        plain = re.sub(order, other, plain)
    return " ".join(plain.split())
