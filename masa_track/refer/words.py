"""Words of sentences about tracks: verbs with their forms, nouns with their classes, numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping


def _words(text: str) -> list[str]:
    return text.split()


# Verbs that are read as the first of their line: "strolls" is read as "walks", "obscured" as "covered".
_SAME_VERBS = """
walk: step stray stroll jog march wander hurry drift skate proceed progress race roll rush sprint swim fly crawl veer
    swerve dash zip saunter amble trot creep tramp whiz whizz zoom squeeze slip sneak glide cruise plod trudge
    shuffle breeze barge hike ramble roam hurtle scurry scamper stagger storm steer coast bolt flit
    float dart scuttle waddle toddle tread navigate advance continue weave stride slide sweep shoot brush
ride: cycle pedal
cover: hide block occlude obscure mask conceal obstruct eclipse shield blot swallow shroud
follow: trail chase tail pursue shadow
leave: exit depart vanish disappear terminate
appear: emerge materialise materialize surface
recede: retreat withdraw
overtake: outpace outrun outstrip outdistance
meet: encounter
stop: pause halt
stay: remain stick survive linger loiter tarry dawdle hover dwell persist
turn: spin whirl swivel pivot
accelerate: quicken
return: reappear
"""
SAME_VERBS = {word: line.split(":")[0].strip() for line in _SAME_VERBS.replace("\n    ", " ").strip().splitlines()
              for word in line.split(":")[1].split()}  # fmt: skip
# All verbs by their base form; regular forms are made of it.
VERBS = [*SAME_VERBS, *_words(
    "walk go move head run ride drive travel come pass cross meet overtake cover follow "
    "lead leave enter arrive appear show pop reverse "
    "change double stay wait hang stand stop rest park return turn "
    "approach near recede face touch overlap bump be keep start begin finish end get make spend last "
    "become grow shrink speed slow cut see have do surround catch reach join sit drop spot find "
    "enlarge accelerate decelerate intersect "
    "shift bring take fill occupy traverse look draw pull seem hesitate"
)]  # fmt: skip
IRREGULAR = {
    "goes": "go", "went": "go", "gone": "go", "ran": "run", "rode": "ride", "ridden": "ride", "drove": "drive",
    "driven": "drive", "came": "come", "left": "left", "met": "meet", "overtook": "overtake", "overtaken": "overtake",
    "hid": "hide", "hidden": "hide", "led": "lead", "shown": "show", "stood": "stand", "hung": "hang", "is": "be",
    "are": "be", "was": "be", "were": "be", "been": "be", "am": "be", "being": "be", "has": "have", "had": "have",
    "having": "have", "does": "do", "did": "do", "done": "do", "doing": "do", "kept": "keep", "got": "get",
    "drew": "draw", "drawn": "draw", "crept": "creep", "slid": "slide", "swept": "sweep", "strode": "stride",
    "outran": "outrun", "wove": "weave",
    "made": "make", "began": "begin", "begun": "begin", "became": "become", "grew": "grow", "grown": "grow",
    "shrank": "shrink", "sped": "speed", "spent": "spend", "cut": "cut", "seen": "see", "saw": "see", "caught": "catch",
    "sat": "sit", "swam": "swim", "flew": "fly", "found": "find", "brought": "bring",
    "travelling": "travel", "travelled": "travel", "took": "take", "taken": "take",
}  # fmt: skip
_PARTICIPLES = {"gone", "ridden", "driven", "overtaken", "hidden", "shown", "seen", "done", "been", "grown", "caught"}

# What a noun may mean. The first name of a group is the noun that the grammar works with.
PERSON = frozenset({"person", "pedestrian", "walker", "people", "human", "rider", "cyclist", "skater", "runner"})
ON_FOOT = frozenset({"person", "pedestrian", "people", "human", "walker", "runner"})
ROADS = frozenset({"car", "bus", "truck", "van", "motorcycle", "tram", "train", "taxi", "vehicle", "trailer",
                   "tricycle", "caravan", "motor", "other vehicle", "lorry", "suv", "pickup"})  # fmt: skip
CYCLES = frozenset({"cyclist", "rider", "bicycle", "bike", "bicyclist", "biker"})
ANIMALS = frozenset({"dog", "cat", "bird", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "animal",
                     "camel", "swan", "fly", "duck", "goose", "pig", "goat", "deer", "monkey"})  # fmt: skip
_NOUNS: dict[str, frozenset[str]] = {
    "person man woman guy boy girl lady gentleman kid child human somebody someone people men women guys children "
    "adult bloke chap fellow lad lass dude individual runner jogger walker passenger subject visitor passer "
    "passerby bystander onlooker wanderer tourist shopper commuter loiterer newcomer gent youngster "
    "teenager character soul body face suspect player agent fella customer guest folk folks citizen spectator "
    "friend stranger latecomer": PERSON,
    "pedestrian": ON_FOOT,
    "cyclist bicyclist biker rider cycler": CYCLES,
    "bicycle bike pushbike": frozenset({"bicycle", "bike", "cyclist", "rider"}),
    "vehicle": ROADS,
    "car automobile auto sedan taxi cab": frozenset({"car", "taxi", "van", "suv"}),
    "bus coach minibus": frozenset({"bus"}),
    "truck lorry": frozenset({"truck", "lorry", "pickup"}),
    "van": frozenset({"van"}),
    "motorcycle motorbike moped scooter motorcyclist": frozenset({"motorcycle", "motor", "motorcyclist", "moped"}),
    "train tram": frozenset({"train", "tram"}),
    "animal": ANIMALS,
    "bird": frozenset({"bird", "swan", "duck", "goose"}),
}
_PLURALS = {"people": "person", "men": "man", "women": "woman", "children": "child", "ladies": "lady", "buses": "bus",
            "lorries": "lorry", "gentlemen": "gentleman", "flies": "fly", "geese": "goose"}  # fmt: skip
NOUNS: Mapping[str, frozenset[str]] = {word: names for words, names in _NOUNS.items() for word in words.split()} | {
    word: frozenset({word}) for word in ANIMALS if word not in ("animal", "bird", "bear", "fly")
}
# Nouns that say nothing of the class.
ANY_NOUNS = frozenset(_words("one ones thing object track trajectory figure target mover box candidate"))
# A man or a woman is a person for the grammar; which of them it is, only pictures tell.
GENDERED = frozenset(_words("man woman boy girl lady gentleman guy men women child kid lad lass"))

ORDINALS = {
    "first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8, "ninth": 9,
    "tenth": 10, "eleventh": 11, "twelfth": 12,
    "thirteenth": 13, "fourteenth": 14, "fifteenth": 15, "sixteenth": 16, "seventeenth": 17, "eighteenth": 18,
    "nineteenth": 19, "twentieth": 20, "last": -1, "final": -1, "penultimate": -2, "earliest": 1, "latest": -1,
}  # fmt: skip
COUNTS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10, "both": 2}

# Words that carry no condition.
FILLERS = frozenset(
    _words(
        "the a an of to in on at from by for as and then also but who is be have do it he she his her its their "
        "they them this that these those there please find show give me select pick track tell highlight point out "
        "i want look would like which what one just only ever again around about while moment long time bit partway "
        "part way through along same very first up so far already still finally get got make start begin keep end "
        "finish become partly partially nearly almost directly straight shortly soon later before after during when "
        "where can could will we us our you your my if any anyone ahead all each every over across single whole "
        "entire picture frame image screen view scene video clip camera position place spot frames side person's "
        "alone himself herself itself themselves walk go move stand come stay remain spend stop see appear most "
        "lone sole particular identify locate name id number group line row feet box bounding located positioned "
        "situated placed height size area speed else direction whose exact exactly smack slap bang dead average "
        "mean overall total net anywhere somewhere sometime always constantly continuously whatsoever actually mind "
        "off say simply basically today whatever"
    )
)

# Where something is, as only the picture tells; of an object that another is compared with, it is left out.
GROUNDS = frozenset(
    _words("pavement sidewalk road street lawn grass path square crossing kerb curb plaza yard ground walkway floor")
)


def verb_forms() -> dict[str, tuple[str, str]]:
    """Base form and form (``base``, ``s``, ``ing``, ``ed``) of each form of a verb."""
    forms: dict[str, tuple[str, str]] = {}
    for base in VERBS:
        forms.setdefault(base, (base, "base"))
        stem = base[:-1] if base.endswith("e") and not base.endswith("ee") else base
        if re.fullmatch(r"[a-z]*[^aeiou][aeiou][bdgmnpt]", base) and base != "exit":
            stem = base + base[-1]
        third = base + "es" if base.endswith(("s", "sh", "ch", "x", "o", "zz")) else base + "s"
        past = base + "ed"
        if base.endswith("y") and base[-2] not in "aeiou":
            third, past = base[:-1] + "ies", base[:-1] + "ied"
        elif stem != base:
            past = stem + "ed"
        forms.setdefault(third, (base, "s"))
        forms.setdefault(stem + "ing", (base, "ing"))
        forms.setdefault(past, (base, "ed"))
    forms |= {"lingering": ("linger", "ing"), "lingers": ("linger", "s"), "entering": ("enter", "ing")}
    for form, base in IRREGULAR.items():
        forms[form] = (base, "ing" if form.endswith("ing") else "ed" if form in _PARTICIPLES else "s")
    forms["left"] = ("left", "none")
    for noun in ("tail", "shadow"):  # "the tail of the line" is no verb, "tailing" is
        del forms[noun]
    return {form: (SAME_VERBS.get(base, base), kind) for form, (base, kind) in forms.items()}


FORMS = verb_forms()


def singular(word: str, known: Iterable[str] = ()) -> tuple[str, bool]:
    """A noun in the singular, and whether it was a plural.

    Args:
        word: in lower case.
        known: class names of the run, as nouns.
    """
    names = {*NOUNS, *ANY_NOUNS, *known}
    if word in _PLURALS:
        return _PLURALS[word], True
    if word == "ones":
        return "one", True
    if word not in names and word.endswith("s") and word[:-1] in names:
        return word[:-1], True
    if word not in names and word.endswith("es") and word[:-2] in names:
        return word[:-2], True
    return word, False


def meanings(noun: str, known: Iterable[str]) -> frozenset[str]:
    """The class names of a run that a noun may mean: by the table, and a class of that name or that ends with it.

    Args:
        noun: singular, lower case.
        known: the run's class names, lower case.
    """
    wanted = NOUNS.get(noun, frozenset()) | {noun}
    own = frozenset(name for name in known if noun in (name, name.rpartition(" ")[2]))
    if own and noun not in ("person", "vehicle", "animal"):
        return own
    return frozenset(name for name in known if name in wanted or name.rpartition(" ")[2] in wanted)
