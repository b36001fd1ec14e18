"""Ideas of a sentence in other words: motion, places, relations and events, brought to what the grammar reads.

Each entry of a table is one idea: what the grammar reads, and patterns of what people say instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from masa_track.refer.wordings_time import UNITS

# Parts of the patterns.
OTHERS = (
    r"(?:every ?(?:one|body)|all|(?:all (?:of )?)?the (?:others?|rest|remaining (?:people|ones)|crowd|group|majority)|others|most(?: people)?)"
    r"(?: else)?(?: (?:on foot|around|there|in view))?"
)
NOT = r"(?:(?:does|do|did|is|are|was|were|has|have|has been) )?(?:not|never|hardly|barely|scarcely)(?: even| really| ever)?"
GOES = (
    r"(?:(?:is|are|was|were) )?(?:go(?:es|ing)?|walk(?:s|ing)?|mov(?:es?|ing)|head(?:s|ing)?|travel(?:s|l?ing)?|run(?:s|ning)?|rid(?:es?|ing)"
    r"|com(?:es?|ing)|stroll(?:s|ing)?|wander(?:s|ing)?|driv(?:es?|ing)|cycl(?:es?|ing)|swim(?:s|ming)?|fac(?:es?|ing))"
)
STANDS = r"(?:(?:is|are|was|were) )?(?:just )?(?:stand(?:s|ing)?|stay(?:s|ing)?|remain(?:s|ing)?|hang(?:s|ing)?|wait(?:s|ing)?|linger(?:s|ing)?|loiter(?:s|ing)?|keep(?:s|ing)?|dwell(?:s|ing)?)"
HE = r"(?:he|she|it|they)"
THEM = r"(?:this (?:person|one)|him|her|them|it)(?= |$)"
HIS = r"(?:his|her|its|their)"
END = r"(?= ?,|$| and\b| (?:at|in|by|around|during|for|until|throughout|after|before|when|between|from) (?:frames?|the (?:start|end|beginning|first|last|whole)|\d|around|about|throughout)| throughout| halfway| (?:when|once|while) )"
_VERB = r"(?P<verb>leave|enter|appear|come in|exit|arrive)"
_GOES_BY = r"(?:go(?:es|ing)?|walk(?:s|ing)?|com(?:es|ing)|rid(?:es|ing)|pass(?:es|ing)?|mov(?:es|ing)) (?:by|past|along|across|through)"
_HAS_WHAT = (  # "with a bike"
    r"(?:with|has|having|that has|who has) (?P<what>(?:an?|the|another|someone|somebody)(?: (?!of\b)\w+){0,2}?)"
)
_LEAST = r"smallest|lowest|least|minimum|minimal"
_MOST = r"largest|highest|greatest|biggest|maximum|maximal"


def _coordinate(size: str, axis: str) -> str:
    """ "with the smallest x coordinate"."""
    return rf"(?:(?:with|having|has) )?(?:the )?(?:{size}) {axis}(?: (?:coordinate|value|position))?(?= |$)"


_MOTION: tuple[tuple[str, tuple[str, ...]], ...] = (
    # "meets the tall guy head on"
    ("meets {what} and goes the opposite way to {what}", (r"(?:meet(?:s|ing)?|pass(?:es|ing)?|encounter(?:s|ing)?|run(?:s|ning)? into|com(?:es|ing) across|cross(?:es|ing)? paths with) (?P<what>(?:the|a) [^,]+?) (?:head on|face to face|(?:(?:coming|going|walking|who comes|from) )?(?:(?:from|in) )?(?:the )?(?:other way|(?:other|opposite) direction))(?= ?,|$| at| in| around| halfway)",)),
    (
        "turns around",
        (
            rf"(?:{GOES} |paces? |pacing )?(?:back and forth|to and fro|backwards? and forwards?)",
            rf"retrac(?:es?|ing) {HIS} (?:own )?steps",
            rf"{GOES} one way(?: (?:first|at first))?(?: and| ,)?(?: then)? (?:back |goes )?(?:the other(?: way)?|back)",
            rf"(?:has|have|having) (?:a change of heart|second thoughts)(?: and {GOES} back)?",
            rf"(?:turn|spin|swivel|pivot)(?:s|ing|ed)? on {HIS} heels?",
            rf"{GOES} back (?:to )?(?:where|the way|from where) {HE} (?:came|started|entered|had come)(?: from| in)?",
            r"(?:switch|swap|flip|alter)(?:s|es|ing|ped)? (?:direction|course)s?",
        ),
    ),
    (
        "walking against the others",
        (
            rf"(?:{GOES} )?(?:in |into )?(?:the|an?) (?:exact )?(?:other|opposite|wrong|different|reverse|contrary) (?:way|direction)(?: (?:to|from|than|of|as|compared (?:to|with)) (?:that of )?{OTHERS})",
            rf"{GOES} (?:in |into )?(?:the|an?) (?:other|opposite|wrong|different|reverse|contrary) (?:way|direction){END}",
            rf"(?:{GOES} )?(?:against|opposite(?: to)?|contrary to|counter to) {OTHERS}(?: (?:direction|flow|way))?",
            rf"(?:{GOES} )?against the (?:flow|stream|tide|current|crowd|traffic|grain|general direction)",
            rf"{NOT} {GOES} (?:in )?the same (?:way|direction) (?:as|like) {OTHERS}",
            r"(?:bucking|defying) the trend",
        ),
    ),
    (
        "standing still",
        (
            rf"{NOT} (?:mov(?:e|es|ing|ed)|walk(?:s|ing|ed)?|budg(?:es?|ing|ed)|stir(?:s|ring|red)?|go(?:es|ing)?(?= anywhere)|chang(?:es?|ing|ed) (?:place|position|location))"
            rf"(?: (?:at all|an inch|much|from the spot|a bit|a muscle|anywhere|around|about))*{END}",
            rf"{STANDS}(?: (?:around|about|there|still))? (?:in|on|at) (?:the|one)(?: (?:very|exact))?(?: (?:same|one))? (?:spot|place|position|point|location)",
            rf"{STANDS} (?:in place|where {HE} (?:is|was|stands?))",
            r"(?:rooted|glued|nailed) to the spot",
        ),
    ),
    (
        "shifting the farthest to the {side}",
        (
            r"(?:(?:with|makes|making|shows|has|having|covers|covering) )?(?:the )?(?:biggest|largest|greatest|longest|most) (?:(?:overall|net|total) )?(?:shift|move(?:ment)?|displacement|drift|motion|distance|progress|change|way|ground)(?: covered)? (?:to(?:wards?)? )?(?:the )?(?P<side>left|right)(?:wards?)?(?: between (?:entering|appearing|coming in|start|the start) and (?:finishing|leaving|end|the end|exiting))?",
        ),
    ),
    (
        "shifting the least",
        (rf"(?:ends? up |finishes |stops |is |leaves )?(?:the )?(?:closest|nearest) to where {HE} (?:started|began|came in|entered|appeared|first appeared)(?: (?:out|from|in))?",),
    ),
    # The way from the first to the last place, not the farthest point.
    (
        "shifting the farthest to the {side}",
        (
            rf"(?:{GOES}|shift(?:s|ing)?|drift(?:s|ing)?)(?: the)? (?:farthest|furthest|most) (?:over )?to(?:wards?)? the (?P<side>left|right)(?: (?:over|during|throughout|across|in) the (?:whole|entire|full|course of the) (?:video|clip|film|sequence|recording|footage)| overall)?",
            r"(?:gets?|getting)(?: the)? (?:farthest|furthest) towards the (?P<side>left|right)",
        ),
    ),
    (
        "shifting the farthest",
        (
            rf"(?:{GOES}|gets?|getting|makes it|shift(?:s|ing)?|drift(?:s|ing)?)(?: the)? (?:farthest|furthest) (?:across|sideways|horizontally|along)(?: (?:the (?:picture|frame|image|screen|scene|view)))?",
        ),
    ),
    (
        " ",
        (
            rf",? ?(?:(?:counting|counted|measuring|measured|judging|going) )?(?:from|between) (?:where|when|the place where|the point where) {HE} (?:start|begin|enter|appear|come)(?:s|ed)?(?: (?:in|out|off))? (?:to|and) (?:where|when|the place where|the point where) {HE} (?:end|finish|leave|stop|exit|disappear|go)(?:s|es|ed)?(?: (?:up|out))?",
            rf",? ?(?:from|between) {HIS} first (?:appearance|frame|position|place) (?:to|and) {HIS} last(?: (?:appearance|frame|position|place|one))?",
            rf",? ?between {HIS} first and (?:{HIS} )?last (?:appearances?|frames?|positions?|places?)",
        ),
    ),
    ("is", (r"(?:grows|gets|comes) (?:up )?to be(?= (?:the )?\w+est\b)",)),
    ("walking to the {side} {when}", (r"(?:hurries|rushes|heads|goes|walks|runs|wanders|strolls|moves|rides) (?:off|away) (?:to(?:wards)? the )?(?P<side>left|right) (?P<when>between frames \d+ and \d+)",)),
    ("the fastest one", (r"the (?:sprinter|speedster|fast mover|racer)",)),
    (
        "visible only briefly",
        (
            r"(?:that |who |whom )?(?:we |you |i |one )?(?:only |just |barely )*(?:glimpse[sd]?|(?:get|catch)(?:es)? (?:only |just )?a glimpse of)(?: only| just)?(?: for (?:an? )?(?:split )?(?:second|moment|instant|flash))?",
            r"(?:in|for) (?:just |only )?an? (?:split second|flash|blink|heartbeat|blink of an eye)",
            r"(?:the )?blink and you miss (?:him|her|it|them)(?: one)?",
        ),
    ),
    ("the one standing still", (r"(?:the )?loiterer",)),
    ("biggest", (r"(?:huge|enormous|giant|massive)(?= (?:compared|next to|at|in|of|around|,)|$)",)),
    (" ", (rf"(?:compared|in comparison|relative) (?:with|to) {OTHERS}",)),
    ("fastest", (r"in (?:a|the (?:biggest|greatest|most of a|worst)) (?:hurry|rush)",)),
    ("slowest", (rf"tak(?:es|ing) {HIS} time", "least (?:fast|quick)(?:ly)?", r"in no (?:hurry|rush)")),
    (
        r"walking to the {side}",
        (
            rf"(?:end|finish|wind|stop)(?:s|es|ed|ing)? (?:up )?(?:somewhere )?(?:farther |further |more )?(?:to the |on the )?(?P<side>left|right)(?:wards?)? (?:of|than|from) "
            rf"(?:where {HE} (?:started|began|was|were|came|had started|begins?|starts?)(?: (?:out|from|at the (?:start|beginning)))?|{HIS} (?:start|starting (?:point|position|place)|first position)|at the (?:start|beginning))",
            r"whose (?:(?:net|overall|general) )?(?:direction|movement|motion|path) is (?:to |towards )?(?:the )?(?P<side>left|right)(?:wards?)?",
            r"on a (?:path|course|track|route) (?:to|towards?|for) the (?P<side>left|right)",
            r"(?:makes?|making) for the (?P<side>left|right)(?: (?:edge|side|border))?",
            r"shift(?:s|ing|ed)? (?:over )?(?:to )?(?:the )?(?P<side>left|right)(?:wards?)?",
        ),
    ),
)  # fmt: skip

_EVENTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "comes in on the {one} and leaves on the {two}",
        (
            r"\bin (?:from|on|at|via) (?:the )?(?P<one>left|right)(?: (?:side|edge))? ?,?(?: and)?(?: then)? out (?:on|at|to|from|through|via) (?:the )?(?P<two>left|right)(?: (?:side|edge))?",
        ),
    ),
    # An ordinal of arrivals counts those who are there at the start.
    (
        "{nth} one to appear",
        (
            r"(?P<nth>second|third|fourth|fifth|sixth|seventh|\d+(?:nd|rd|th))(?: (?:person|one|man|woman|walker|cyclist))? (?:arrival|to arrive|arriving|to have arrived)(?! (?:\w+ )?(?:on|from|at|in|via|after|before|once)\b(?! (?:frame|the start|the end)))",
        ),
    ),
    (
        "leaves on the {side} and is visible only briefly",
        (
            r"leaves on the (?P<side>left|right)(?: again)? (?:a (?:short|little) (?:time|while|moment) later|a moment later|(?:shortly|soon|not long) after(?:wards)?)(?= ?,|$)",
        ),
    ),
    # "pops out from behind another person": hidden until then
    (
        "appears in the middle of the picture",
        (
            r"(?:com|emerg|appear|step|pop|walk)(?:es|s|ing|ping)?(?: out)? from behind (?:another (?:person|one)|someone(?: else)?|somebody(?: else)?|others|the others)",
        ),
    ),
    (
        "the last one in view",
        (
            rf"(?:is |are |stays |remains )?(?:still )?(?:there|here|left|around|in view|on (?:the )?screen|in the picture|visible) (?:when|after|once) {OTHERS} (?:has|have|had|is|are) (?:already )?(?:gone|left|leaves?|disappeared|walked (?:off|out))",
        ),
    ),
    ("visible the shortest time", (rf"(?:leaves|exits|goes(?: out| off)?|disappears)(?: the)? (?:first|soonest|quickest|fastest|most quickly) after (?:arriving|entering|appearing|coming in|showing up|{HE} (?:arrives|enters|appears|comes in|arrived|entered|appeared|came in))",)),
    ("leaves {nth}", (r"(?:is )?(?:gone|leaves|disappears|vanishes) the (?P<nth>earliest|latest|soonest)",)),
    ("appears {nth}", (r"arrives (?P<nth>second|third|fourth|fifth|sixth|seventh|\d+(?:nd|rd|th))(?! (?:from|on|at)\b)",)),
    ("first one to enter from the {side}", (r"first (?:one|person|man|woman|cyclist|car) in (?:from|on|at|via|through) (?:the )?(?P<side>left|right)",)),
    # "comes in and leaves on the right": both on that side.
    (
        "{enter} on the {side} and {leave} on the {side}",
        (
            r"(?P<enter>com(?:es|ing) in|enter(?:s|ing)?|appear(?:s|ing)?|arriv(?:es|ing)|walk(?:s|ing) in) and (?:then )?(?:also )?(?P<leave>leav(?:es|ing)|exit(?:s|ing)?|goes out|going out|disappear(?:s|ing)?|walk(?:s|ing) out)"
            r"(?: again)? (?:on|at|from|by|through|via) the (?:same )?(?P<side>left|right)(?: hand)?(?: (?:side|edge|border))?",
        ),
    ),
    # "comes in on the right and leaves the same way": on the right.
    (
        "{side}{words} leaves on the {side}",
        (
            rf"(?P<side>left|right)(?P<words>\b.*?(?: and| then| before| ,| but))(?: then)?(?: (?:goes|walks|heads|turns|comes|gets|leav(?:es|ing)|exits?|exiting|disappears|going|walking))(?: (?:straight|right|again|back|off|out|away))*"
            rf" (?:(?:on|by|at|through|via|over|to|from) )?(?:the|that) (?:very )?(?:same )?(?:side|edge|way|border)(?: {HE} (?:came|entered|had come|appeared)(?: (?:in|from))*| again)?",
        ),
    ),
    (r"makes it out", (r"makes? it(?: all the way)? out", r"making it(?: all the way)? out")),
    # "enters on one side and exits on the other"
    (
        "leaves on the opposite side",
        (
            r"(?:enters?|comes? in|walks? in|goes in|arrives?|appears?)(?: (?:on|from|at|via))? (?:at )?one (?:side|edge)(?: of the (?:picture|frame|image|screen))?(?: ,| and| then| and then)+ (?:leaves?|exits?|goes out|walks out|disappears?)(?: (?:on|from|at|via|by|through|to))? (?:at )?the (?:other|opposite)(?: (?:one|side|edge))?",
            r"crosses from (?:one (?:side|edge)|side) to (?:the other|side)(?: side)?|crosses from edge to edge",
        ),
    ),
    (
        "leaves on the same side",
        (
            r"(?:leaves?|exits?|goes (?:back )?out|walks (?:back )?out|goes off|disappears?)(?: again)? (?:on|at|by|via|through|from|over) the same (?:side|edge) (?:as |that |where |on which |from which )*(?:he|she|it|they)(?: had| have)? (?:came|comes|come|entered|enters|enter|appeared|arrived)(?: (?:in|on|from|at))*",
            r"(?:leaves?|exits?|goes (?:back )?out|walks (?:back )?out)(?: again)? where (?:he|she|it|they)(?: had)? (?:came in|entered|appeared)",
            r"(?:enters|comes in|walks in|arrives|appears) and (?:leaves|exits|goes (?:back )?out|walks (?:back )?out)(?: again)? (?:on|at|by|via) the same (?:side|edge)",
        ),
    ),
    ("goes out ", (r"makes it (?=out\b)",)),
    ("is the last to {verb}", (rf"(?:that |who |whom )?(?:nobody|no ?one)(?: else)? {_VERB}s? after {THEM}", rf"{OTHERS} {_VERB}s? before {THEM}")),
    ("is the last to enter", (rf"(?:nobody|no ?one)(?: else)? comes in after {THEM}",)),
    ("is the first to {verb}", (rf"{OTHERS} {_VERB}s? after {THEM}", rf"(?:that |who |whom )?(?:nobody|no ?one)(?: else)? {_VERB}s? before {THEM}")),
)  # fmt: skip

_PLACES: tuple[tuple[str, tuple[str, ...]], ...] = (
    # "everyone else is to the left of this one"
    (
        "farthest {side}",
        (
            rf"{OTHERS} (?:is |are |stands? )?(?:on|to) the (?P<mirror>left|right)(?: side)? of {THEM}",
            rf"(?:with|has|having) {OTHERS} (?:(?:on|to) )?(?:his|her|their|its|the) (?P<mirror>left|right)(?: side)?(?: of {THEM})?",
        ),
    ),
    # "nobody is taller than this person"
    ("{more}st{when}", (rf"(?:nobody|no ?one)(?: else)? is (?P<more>talle|bigge|large|smalle|shorte|close|neare|faste|slowe|farthe|furthe|lowe|highe)r(?P<when>(?: to (?:us|the camera))?(?: at frame \d+)?)(?: than {THEM})?",)),
    # "with two people between him and the right edge"
    ("{nth} from the {side}", (r"(?:with|has|having) (?P<between>one|two|three|four|five|\d) (?:(?:other|more) )?(?:people|persons?|others?|walkers|cyclists) between (?:him|her|them|it|himself|herself) and the (?P<side>left|right)(?: (?:edge|side|border))?",)),
    ("farther away", (r"(?:farther|further) (?:up|down|along|off down) the (?:road|street|path|lane|way)",)),
    ("farthest away", (r"(?:farthest|furthest) (?:up|down|along) the (?:road|street|path|lane|way)", r"way at the (?:back|rear)")),
    ("{side} one of the two", (r"(?P<side>left|right)(?: hand)? half of the (?:pair|couple|two)",)),
    ("of the {count} in view at the end", (r"of the last (?P<group>two|three|four|five)(?: (?:people|persons|ones))?(?: (?:standing|left|remaining|there))?(?= ?$)",)),
    # "reaches the far left"
    (
        "reaches the {side} edge",
        (
            r"(?:reach(?:es|ing)?|gets? (?:all the way )?to|getting to|makes? it (?:all the way )?to|arriv(?:es|ing) at|hits|touches) the (?:far|extreme|very) (?P<side>left|right)(?: (?:hand )?(?:side|edge|end|border))?(?: of the (?:picture|frame|image|screen))?",
        ),
    ),
    ("in view", (r"(?<=\bis )(?:still )?left (?:in|on) (?:the )?(?:picture|view|frame|screen|scene|image|shot)", )),
    ("farthest {side}", (r"(?:(?:standing|walking|is) )?(?:on|at|to) the (?:far )?(?P<side>left|right)(?: hand)?(?: (?:side|end|edge))? of (?:the|this|that) (?:group|line|row|queue|pack|crowd)",)),
    ("leftmost", (_coordinate(_LEAST, "x"),)),
    ("rightmost", (_coordinate(_MOST, "x"),)),
    ("topmost", (_coordinate(_LEAST, "y"),)),
    ("lowest", (_coordinate(_MOST, "y"),)),
    ("nearest to the middle", (r"(?:half ?way |exactly |right |mid ?way )?between the left (?:(?:edge|side) )?and (?:the )?right (?:edge|side|border)s?",)),
    ("earliest seen", (r"(?:has|have|had) (?:already )?been (?:there|here|around|in view|visible|present|in the picture|on screen|in the scene)(?: for)?(?: the)? (?:longest|most)(?: time)?(?= ?,|$| (?:at|by|in|when|around)\b)", r"longest (?:present|serving|standing)(?= (?:\w+ )?(?:at|in|by)\b)")),
    ("last one to enter", (r"(?:latecomer|late arrival)",)),
)  # fmt: skip

_DEPTH: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "coming towards us",
        (
            r"(?:\w+ )?from (?:the )?(?:back|background|distance|far end|depth|far side) (?:in)?to(?:wards?)? (?:the )?(?:front|foreground|near side|camera|us)",
            r"starts? (?:off |out )?(?:far|in the (?:distance|back|background))(?: away| off)? and (?:ends? up|comes?|gets?) (?:near|close|closer|nearer|at the front|in the foreground)(?: to (?:us|the camera))?",
        ),
    ),
    (
        "walking away from us",
        (
            r"(?:\w+ )?from (?:the )?(?:front|foreground|near side|camera) (?:in)?to(?:wards?)? (?:the )?(?:back|background|distance|far side|far end)",
            rf"{GOES} (?:deeper|farther|further) into the (?:scene|picture|image|frame|background|distance)",
        ),
    ),
    (
        "walking away from us",
        (
            rf"{GOES} (?:away|off|out)?(?: from (?:us|the camera))? ?(?:in)?to the (?:background|distance|depth|far distance)",
            rf"(?:(?:with|has|having) )?{HIS} back (?:is )?(?:turned )?(?:to|towards) (?:us|the camera|the viewer)(?:(?: and)? {GOES} (?:away|off)(?: from us)?)?",
        ),
    ),
    ("walking away from us", (r"starts? (?:off |out )?(?:near|close|close by|nearby)(?: to (?:us|the camera))? and (?:ends?|finishes|winds?)(?: up)? (?:far|in the (?:distance|background))(?: (?:away|off|from us))*",)),
    ("at the end of the line", (r"(?:drops?|falls?|lags?) (?:the )?(?:farthest|furthest)? ?(?:back|behind)(?= ?,|$| at| by| in)",)),
    ("walking the farthest", (r"(?:with|has|having|takes|taking|makes|making) the longest (?:path|route|way|walk|trip|distance|trajectory)", r"(?:(?:with|has|having) )?the (?:greatest|largest|biggest|longest) (?:horizontal |overall |net |total )?(?:displacement|distance(?: (?:travelled|traveled|covered|walked))?)(?! (?:from|to|of)\b)",)),
    ("most isolated one", (r"(?:loner|outsider)",)),
    ("coming towards us", (r"(?:(?:ends?|finishes|winds?)(?: up)? |is )?(?:closer|nearer)(?: to (?:us|the camera))?(?: at the end)? than (?:(?:at|in) the (?:start|beginning)|where (?:he|she|it|they) (?:started|began)|when (?:he|she|it|they) (?:entered|started|appeared|came in))",)),
    ("walking away from us", (r"(?:(?:ends?|finishes|winds?)(?: up)? |is )?(?:farther|further)(?: (?:away )?from (?:us|the camera)| away)?(?: at the end)? than (?:(?:at|in) the (?:start|beginning)|where (?:he|she|it|they) (?:started|began)|when (?:he|she|it|they) (?:entered|started|appeared|came in))",)),
    ("coming towards us", (r"(?:head on|facing (?:us|the camera))(?= ?,|$| at| in frame)",)),
    ("at the head of the line", (rf"{GOES} ahead of the (?:pack|group|others|rest|field)|in (?:the )?(?:pole position|first place)",)),
    ("most isolated", (r"(?:with|has|having) (?:the )?most (?:space|room) around (?:him|her|it|them)(?:selves|self)?", rf"(?:being )?far(?: away)? from {OTHERS}", r"all alone|all by (?:himself|herself|itself|themselves)|(?:farthest|furthest) from (?:anyone|anybody)(?: else)?|away from everyone")),
    ("not overlapping each other", (r"(?:that |who |whom )?(?:nobody|no ?one)(?: else)? (?:overlaps|touches)(?: with)?", r"(?:overlap|touch)(?:s|es|ing)?(?: with)? (?:nobody|no ?one|none|nothing)(?: else)?", rf"{NOT} (?:overlap|touch)(?:s|es|ing|ed)?(?: (?:with|by))? (?:any ?one|anybody|any other (?:box|person)|others?|any of the others)(?: else)?")),
    ("in the middle", (r"(?:with|has|having) (?:people|others|somebody|someone)(?: both)? (?:(?:on|to) (?:the|his|her|their) )?left and (?:(?:on|to) (?:the|his|her|their) )?right(?: of (?:him|her|them|it))?",)),
    ("keeps to the {part}", (r"never (?:gets?|goes|comes?|steps?|moves?|leaves?|walks?|strays?)(?: (?:out|away|from|beyond|outside))*(?: of)? (?:the )?(?P<part>(?:left|right|top|bottom)(?: hand)? (?:half|third|quarter|side))",)),
)  # fmt: skip

_RELATIONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    # "who has the biggest gap in front of them", "with the smallest distance to the person behind"
    (
        "{size} gap {where}",
        (
            r"(?:(?:has|have|with|leaves|leaving|keeps|having) )?(?:the )?(?P<size>biggest|largest|widest|greatest|longest|most|smallest|shortest|narrowest|least) (?:gap|(?:empty )?space|distance|room|interval) (?:left )?(?:(?:to|between (?:him|her|it|them)(?:self|selves)? and) )?(?:(?:the|whoever|whatever) )?(?:(?:next|other) )?(?:(?:one|person|walker|man|woman|cyclist|car)s? )?(?:is )?(?:right |just |directly )?(?P<where>in front|ahead|behind)(?: of)?(?: (?:him|her|it|them)(?:self|selves)?)?(?= ?,|$| at| in frame| when)",
        ),
    ),
    # The one with X at its left is right of X.
    (
        "just {side} of {what}",
        (
            r"(?:(?:who|that|which) (?:has|have)|with|having) (?P<what>(?:the|a) [\w ]+?) (?:(?:directly|immediately|right|just|close) )?(?:on|to) (?:his|her|their|its) (?:immediate )?(?P<mirror>left|right)(?: hand)?(?: side)?(?= |$)",
        ),
    ),
    (
        "{count} to the {side} of {what}",
        (
            # "take X, then the next one to the right"
            r"(?:take|start(?:ing)?(?: out)? (?:from|with|at)|begin(?:ning)? (?:from|with|at)|look at|consider) (?P<what>(?:the|whoever) [^,;.]+?)(?: ?[,;.:]+|(?= and\b)|(?= then\b))(?: (?:and|then|next|now))*"
            r"(?: (?:(?:give|show|tell) me|find|pick|take|go|step|move|who is|which is|i want|name))?(?: the)?(?: (?P<count>next|first|second|third|one|two))?(?: (?:one|person|place|step|car|cyclist|people|places|steps))?(?: (?:along|over))?"
            r" (?:to|on) (?:the|his|her|their|its) (?P<side>left|right)(?: of (?:him|her|them|it|that one|that person))?",
            # "going right from X, the next one"
            r"(?:going|looking|moving|counting) (?:to the )?(?P<side>left|right)(?:wards?)? from (?P<what>(?:the|whoever) [^,;.]+?) ?, (?:the )?(?P<count>next|first|second)(?: (?:one|person))?",
        ),
    ),
    # "the car with a bike in front of it"
    ("behind {what}", (rf"{_HAS_WHAT} (?:right |just |directly )?in front(?: of {THEM})?(?= ?,|$| at| in frame)",)),
    ("in front of {what}", (rf"{_HAS_WHAT} (?:right |just |directly )?behind(?: {THEM})?(?= ?,|$| at| in frame)",)),
    ("next to {what}", (rf"{_HAS_WHAT} (?:right |just |directly )?(?:beside|next to|alongside) {THEM}",)),
    # "who lets someone else go past them", "loses a place in the queue"
    ("is overtaken by {what}", (rf"lets? (?P<what>(?:the|an?|another|someone|somebody)(?: \w+){{0,2}}?) (?:go |get |walk |move |come |ride )?(?:past|by|ahead|through|overtake|pass)(?: (?:of )?{THEM})?",)),
    ("is overtaken by someone", (r"(?:loses|gives up|drops|slips|falls)(?: back| down)? (?:a|one) (?:place|position|spot|rank)(?: (?:in|of) the (?:line|queue|row|order|group|pack|procession))?",)),
    ("overtakes someone", (r"(?:moves|goes|gets|climbs|gains|makes up|jumps)(?: up| forward| ahead)? (?:a|one) (?:place|position|spot|rank)(?: (?:in|of) the (?:line|queue|row|order|group|pack|procession))?",)),
    ("passes behind", (rf"{_GOES_BY} (?:just )?behind",)),
    ("passes in front of", (rf"{_GOES_BY} (?:just )?in front of",)),
    ("nearest to", (r"(?:walk(?:s|ing)? |stand(?:s|ing)? |is )?(?:closest|nearest) (?:beside|by|alongside|next to)",)),
    (" ", (r"(?<=\w) ?, (?:and )?(?:(?:going|walking|moving|heading) )?(?:in )?(?:the )?same (?:direction|way)(?= ?$)",)),
    ("the same way as us", (r"the same (?:way|direction) (?:as|that) (?:we|our car|the camera)(?: (?:are|do|is|does))?(?: (?:going|driving|moving|heading|travelling))?(?= ?,|$| at| in)",)),
    ("{passed} by", (r"(?P<passed>covered|hidden|obscured|blocked|overlapped)(?: up)? (?:the )?most by",)),
    ("passed by", (r"(?:met|encountered) by",)),
    ("not {verb} somebody", (r"(?P<verb>overtakes?|passes|meets|covers|hides|follows) (?:nobody|no ?one|none)(?: else)?",)),
    ("{side} of {what}", (r"(?:(?:standing|walking|stands|is) )?(?:in )?between (?P<what>(?:the|whoever) [\w ]*?) and the (?P<side>left|right)(?: hand)? (?:edge|side|border)(?: of the (?:picture|frame|image))?",)),
    ("next to {what}", (r"keep(?:s|ing)? (?P<what>(?:the|him|her) ?[\w ]*?) company",)),
    ("next to", (r"(?:accompan(?:y|ies|ying|ied)(?: by)?|in the company of|together with|(?:walks?|walking|going|goes|is|out) along with|walk(?:s|ing) (?:side by side |together )?with|go(?:es|ing) (?:along )?with)",)),
    ("next to", (r"(?:at|by) the side of|side by side with|(?:draw(?:s|ing)? )?level with|shoulder to shoulder with|flanking",)),
    ("nearest to", (r"(?:closer|nearer) to(?= (?!the camera|us\b|the left|the right|me\b|the lens|the viewer|the (?:top|bottom|edge|middle|centre)))(?! \w+ than)", "(?:with|at) the (?:smallest|shortest|least) distance (?:to|from)", "least far from")),
    ("farthest from", ("least (?:close|near) to", "(?:farthest|furthest) apart from", "farthest to(?= the (?!left|right|top|bottom|back|front|rear))", "most (?:distant|remote|far away) from", "(?:with|at) the (?:greatest|largest|longest) distance (?:to|from)")),
    (r"one immediately {side} of", (r"(?:right hand |left hand )?neighbou?r (?:(?:on|to) the )?(?P<side>left|right)(?: hand)?(?: side)? of", r"(?P<side>left|right)(?: hand)? neighbou?r of")),
    ("the one next to", (r"(?:the )?(?:neighbou?r|companion|partner) of", r"(?:the )?other (?:half|one|member|part) of the (?:pair|couple|two) (?:with|beside|next to)")),
    ("passes", (r"(?:swaps?|changes?|trades?|switch(?:es)?) (?:places|positions) with",)),
    ("overtakes the leader", (r"takes (?:over )?the lead(?: from the leader)?(?! in)",)),
    ("passes", (r"(?:goes|went|going) by(?= (?:the|an?|him|her)\b)",)),
    ("crosses paths with", (r"whose (?:path|way)s? (?:crosses|cross|meets|intersects)(?: with)?(?: (?:that|the path|the one) of)?", r"(?:crosses|crossing|cross|crossed) the (?:path|way) of", r"(?:comes|coming|gets?|getting) face to face with")),
    ("never overtaken by our car", (r"(?:that |who |whom |which )?(?:we|our car|the camera car|the camera) never (?:overtakes?|pass(?:es)?|catch(?:es)?(?: up with| up to)?|reach(?:es)?|gets? (?:past|to)|leaves? behind)",)),
    ("overtakes", (r"catch(?:es)? up (?:with|to) and (?:pass(?:es)?|overtakes?)", r"(?:goes|moves|gets|walks|rides|pulls) (?:past|ahead of|in front of) and (?:overtakes|leads)")),
    ("overtakes {what}", (r"leaves (?P<what>(?:the|him|her) ?[\w ]*?) behind(?! (?:the|a)\b)", r"pass(?:es|ing)? (?P<what>the [\w ]+?) from behind")),
    ("about to leave", (r"(?:closest|nearest|next) to (?:leaving|exiting|going out)",)),
    ("hidden by", (r"(?:com(?:es?|ing)|emerg(?:es?|ing)|appear(?:s|ing)?|step(?:s|ping)?)(?: out)? from behind",)),
    ("next to", (r"keep(?:s|ing)? (?:pace|step|up) with",)),
    ("directly behind", (r"(?:is |comes )?next in line (?:after|behind|to)",)),
    ("hidden by", (r"(?:disappear|vanish|pass|go)(?:s|es|ing|ed)? behind(?= (?:the|an?|him|her|whoever|someone|somebody)\b)", r"in the shadow of", r"(?:can not be|not) seen (?:because of|due to)")),
    ("covers", (r"block(?:s|ing|ed)? (?:the|our|my) view (?:of|on|to)", r"(?:block|hid|obscur|cover)(?:s|es|ing)? (?=(?:the|a) [^,]*? from (?:our |the |my )?(?:view|sight|camera)\b)")),
    ("passes in front of", (r"(?:pass|cross|walk|go|com|step|mov|rid)(?:es|s|e|ing)? (?:in )?between (?:the (?:camera|viewer|lens)|us|me) and",)),
    ("in front of", (r"(?:(?:gets?|getting) )?(?:in )?between (?:the (?:camera|viewer|lens)|us|me) and",)),
    ("at the end of the line", (rf"(?:trail|lag|walk|com)(?:s|es|ing)? behind {OTHERS}", rf"(?:that|who|whom) {OTHERS} (?:is|are|walks?) (?:ahead|in front) of", "the (?:back marker|tail ender)", r"at the tail(?: end)? of (?:the|a) (?:group|line|queue|row|procession|pack|file)")),
    ("the one directly behind", (r"(?:the )?follower of",)),
    ("directly behind", (r"(?:close |right |hot )?(?:on|at) the heels? of",)),
    # "who can't we see at frame 9 because the man is in the way"
    (
        "is hidden by {what}{when}",
        (
            r"(?:(?:can |do |is |are )?(?:not|hardly|barely)(?: be)?|can(?: be)?) ?(?:we |you |i |one |be )?(?:see|seen)(?P<when> (?:at|in|around) [\w ]*?)? (?:because|due to|since|thanks to|owing to|as) (?P<what>(?:the|a) [\w ]+?) (?:is|are|being|stands?|standing) (?:(?:right )?in (?:the|his|her|their) way|in front(?: of (?:him|her|them|it))?)",
        ),
    ),
    ("covers", (r"(?:(?:is|gets|stands|being|standing|getting) )?(?:right )?in the way of",)),
    ("is hidden", (r"(?:is |gets |being )?(?:covered|hidden|swallowed|obscured|blocked|engulfed)(?: up)? (?:by|in|behind) the (?:crowd|group|throng|mass)",)),
    ("crosses the picture", (rf"(?:{GOES}|covers|crosses|spans) (?:across )?(?:the )?(?:whole|full|entire) width(?: of the (?:picture|frame|image|screen|scene|view))?",)),
    # "has people on both sides"
    (
        "in the middle",
        (
            r"(?:who |that )?(?:has|have|with|having) (?:(?:some|any)(?:one|body)|another|people|others|a (?:person|neighbou?r)|one|one person|neighbou?rs) (?:(?:standing|walking|being|else) )?(?:on|to|at) (?:either|both|each) (?:hand )?sides?(?: of (?:him|her|them|it))?",
            r"(?:(?:standing|walking|is|being) )?(?:flanked|surrounded) on both sides",
        ),
    ),
    # "third along, left to right"; "four in from the left"
    ("{nth} from the {side}", (
        r"(?P<nth>\w+(?:st|nd|rd|th|ird)|first|second)(?: (?:one|person|car))?(?: (?:in|along|over|across))? ?,?(?: (?:reading|going|counting|counted|ordered|sorted))?(?: from)? (?P<side>left|right) to (?:left|right)",
        r"(?P<nth>\w+(?:st|nd|rd|th|ird)|first|second)(?: (?:one|person|car))? (?:in|along|over|across|inwards?) (?:starting |counting )?from (?:the )?(?P<side>left|right)",
        r"count(?:ing)? (?P<number>one|two|three|four|five|six|\d+)(?: (?:people|places|along|in))* from (?:the )?(?P<side>left|right)",
        r"(?P<number>one|two|three|four|five|six|seven|eight|nine|\d+)(?: (?:people|places|persons|spots))? (?:in|along|over|across) (?:starting |counting )?from (?:the )?(?P<side>left|right)",
    )),
)  # fmt: skip

_MIRROR = {"left": "right", "right": "left"}


def _read(reading: str) -> Callable[[re.Match[str]], str]:
    """What stands for a match: the reading, with the groups that it names filled in."""

    def read(found: re.Match[str]) -> str:
        groups = {name: value or "" for name, value in found.groupdict().items()}
        if "mirror" in groups:
            groups["side"] = _MIRROR[groups["mirror"]]
        if "between" in groups:
            groups["nth"] = f"{(UNITS.get(groups['between']) or int(groups['between'])) + 1}th"
        if "number" in groups:
            number = groups["number"]
            groups["nth"] = f"{UNITS.get(number) or int(number)}th"
        if "group" in groups:
            groups["count"] = groups["group"]
        elif "count" in groups:
            number = {"next": "first", "one": "first", "two": "second", "": "first"}.get(
                groups["count"], groups["count"]
            )
            groups["count"] = f"the {number} one"
        return reading.format(**groups)

    return read


_ALL = tuple(
    (re.compile(rf"\b{pattern}(?<![a-z](?=[a-z]))"), _read(reading))
    for reading, patterns in (*_MOTION, *_PLACES, *_DEPTH, *_EVENTS, *_RELATIONS)
    for pattern in patterns
)
# "the tallest person's neighbour", "on the leader's heels": the neighbour of the tallest person.
_OWNED = r"neighbou?r|companion|partner|right(?: hand)?(?: side)?|left(?: hand)?(?: side)?|path|way|heels?|side|follower|view|right hand neighbou?r|left hand neighbou?r|right neighbou?r|left neighbou?r"
_POSSESSIVE = re.compile(
    rf"(?P<before>\b(?:on|to|at|by|from|with|in) |\b(?:cross(?:es|ing)?|block(?:s|ing)?) |^)?(?P<who>(?:the|a) (?:(?!(?:to|of|on|at|by|in|is|does|with|from)\b)\w+ )*?\w+)'s? (?P<next>(?:immediate|direct|closest|nearest) )?(?P<what>{_OWNED})(?= |$)"
)


def plain_possessives(plain: str) -> str:
    """ "the tallest person's neighbour": "the neighbour of the tallest person"; before contractions are read."""

    def turned(found: re.Match[str]) -> str:
        just = "immediate " if found["next"] else ""
        return f"{found['before'] or ''}the {just}{found['what']} of {found['who']}"

    return _POSSESSIVE.sub(turned, plain)


def plain_ideas(plain: str) -> str:
    """A sentence in lower case, without contractions, in the wording that the grammar reads.

    Args:
        plain: e.g. ``"the one who never budges"``: ``"the one who standing still"``.
    """
    for pattern, read in _ALL:
        plain = pattern.sub(read, plain)
    return " ".join(plain.split())
