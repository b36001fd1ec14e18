"""The classes that a text names: things, their parts, and stuff.

Grammar of the text: things are separated by full stops, the parts of a thing stand in brackets behind it, separated by
commas, and may have parts themselves. ``=`` adds a synonym, ``:`` a score threshold::

    person:0.4[head[ear], left hand]. car=automobile[wheel]

Stuff (road, sky) is a list separated by commas. The same can be written as a yaml file, see :func:`read_hierarchy`.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np

from masa_track.errors import InputError, first_line, missing_extra, unknown_name

Kind = Literal["thing", "part", "stuff"]
MOST_LEVELS = 32
MOST_PHRASES = 10_000  # with synonyms, the phrases of nested parts multiply
FILE_SUFFIXES = (".yaml", ".yml")
_THRESHOLD = r":\s*(?:\d*\.\d+|\d+)"
# A name with its synonyms and threshold, and the character that ends it. The point of a threshold ends no name.
_PIECE = re.compile(rf"((?:{_THRESHOLD}|[^\[\].,])*)([\[\].,]|$)")
_SCORE = re.compile(r":\s*(\d*\.\d+|\d+)$")
_RESERVED = re.compile(r"[\[\].=]")


@dataclass(frozen=True)
class Node:
    """One class.

    Attributes:
        name: lower case, without the names above it: ``head``.
        kind: ``thing``, ``part`` or ``stuff``.
        parent: number of the class that this is a part of; -1 for things and stuff.
        synonyms: other names of the same class.
        threshold: detections with a lower score are left out, 0..1; None: as for all classes.
    """

    name: str
    kind: Kind
    parent: int = -1
    synonyms: tuple[str, ...] = ()
    threshold: float | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The name and its synonyms."""
        return (self.name, *self.synonyms)


@dataclass(frozen=True)
class Phrase:
    """What a detector looks for.

    Attributes:
        text: ``person head``: the names from the thing down to the part.
        label: number of the class.
    """

    text: str
    label: int


@dataclass(frozen=True)
class Hierarchy:
    """Classes with their numbers: class i is ``nodes[i]``.

    Attributes:
        nodes: things and parts, each class behind the one that it is a part of; then stuff.

    Raises:
        InputError: there is no class; a part is named like a class above it; a name is thing and stuff; two classes
            have the same phrase; there are more than 32 levels or 10,000 phrases.
    """

    nodes: tuple[Node, ...]

    def __post_init__(self) -> None:
        if not self.nodes:
            raise InputError('text must name something, e.g. "person[head, hand]. dog", got no name')
        for label, node in enumerate(self.nodes):
            if not (node.parent == -1 if node.kind != "part" else 0 <= node.parent < label):
                raise InputError(
                    f"parent of class {label} ({node.name!r}) must be -1 for things and stuff, and an earlier class "
                    f"for parts, got {node.parent}"
                )
            above = self.path(label)[:-1]
            if len(above) >= MOST_LEVELS:
                raise InputError(f"text must have at most {MOST_LEVELS} levels of parts, got more at {node.name!r}")
            for name in node.names:
                upper = next((self.nodes[i] for i in above if name in self.nodes[i].names), None)
                if upper is not None:
                    raise InputError(
                        f"a part must not have the name of a class that it belongs to, got {name!r} as a part of "
                        f"{upper.name!r}: give the part another name"
                    )
        self._check_phrases()

    def _check_phrases(self) -> None:
        count = sum(math.prod(len(self.nodes[i].names) for i in self.path(label)) for label in range(len(self.nodes)))
        if count > MOST_PHRASES:
            raise InputError(f"text must have at most {MOST_PHRASES} phrases, got {count}: name fewer synonyms")
        label_of: dict[str, int] = {}
        for phrase in self.phrases:
            first = label_of.setdefault(phrase.text, phrase.label)
            if first == phrase.label:
                continue
            kinds = self.nodes[first].kind, self.nodes[phrase.label].kind
            if set(kinds) == {"thing", "stuff"}:
                raise InputError(
                    f"a name must be a thing or stuff, got {phrase.text!r} as both: take it out of text or of stuff"
                )
            raise InputError(
                f"a phrase must belong to one class, got {phrase.text!r} for {self.title(first)!r} and "
                f"{self.title(phrase.label)!r}: name each class once, with all its parts and synonyms"
            )

    @cached_property
    def phrases(self) -> tuple[Phrase, ...]:
        """What to look for, class by class; the first phrase of a class is its title. A text occurs once."""
        return tuple(
            Phrase(" ".join(names), label)
            for label in range(len(self.nodes))
            for names in product(*(self.nodes[i].names for i in self.path(label)))
        )

    def path(self, label: int) -> tuple[int, ...]:
        """The classes from the thing down to a class, the class included."""
        found = [label]
        while self.nodes[found[-1]].parent >= 0:
            found.append(self.nodes[found[-1]].parent)
        return tuple(reversed(found))

    def title(self, label: int) -> str:
        """The names from the thing down to a class: ``person head``."""
        return " ".join(self.nodes[i].name for i in self.path(label))

    def parts(self, label: int) -> tuple[int, ...]:
        """The classes of the parts of a class, without their own parts."""
        return tuple(i for i, node in enumerate(self.nodes) if node.parent == label)

    def labels(self, kind: Kind) -> tuple[int, ...]:
        """The classes of a kind."""
        return tuple(i for i, node in enumerate(self.nodes) if node.kind == kind)


def parse_hierarchy(text: str = "", stuff: str = "") -> Hierarchy:
    """The classes of ``--text`` and ``--stuff``.

    Args:
        text: things with their parts: ``"person[head, left hand]. car=automobile"``. Without brackets, classes and
            their numbers are those of :func:`~masa_track.detectors.phrases.split_phrases`.
        stuff: names separated by commas: ``"road, sky"``.

    Raises:
        InputError: brackets are not balanced, a name is missing, a threshold is not in 0..1, or the classes are not
            those of a hierarchy (see :class:`Hierarchy`).
    """
    return Hierarchy((*_parse_things(text), *_parse_stuff(stuff)))


def _parse_things(text: str) -> list[Node]:
    nodes: list[Node] = []
    opened: list[tuple[int, int]] = []  # class and column of each bracket that is open
    held = ""  # what stands before a comma outside of brackets, which is part of the name
    closed = False  # the last bracket was closed, and no separator has followed
    for match in _PIECE.finditer(text):
        piece, mark = held + match[1], match[2]
        column = match.start(2) + 1
        held = ""
        if mark == "," and not opened and not closed:
            held = piece + mark
            continue
        if closed:
            if piece.strip() or mark in ("[", "." if opened else ","):
                raise _wrong(text, column, 'a separator must follow "]": "." between things, "," between parts')
        elif piece.strip():
            parent = opened[-1][0] if opened else -1
            nodes.append(_node(piece, "part" if opened else "thing", parent, f"text {text!r}"))
        elif mark == "[" or (opened and mark):
            raise _wrong(text, column, f'a name must stand before "{mark}"')
        closed = mark == "]"
        if mark == "[":
            opened.append((len(nodes) - 1, column))
        elif mark == "]":
            if not opened:
                raise _wrong(text, column, 'a "]" has no "[" before it: remove it')
            opened.pop()
        elif mark == "." and opened:
            raise _wrong(text, column, 'parts are separated by commas: write "," or close the bracket with "]"')
    if opened:
        raise _wrong(text, opened[-1][1], 'a "[" is not closed: add "]"')
    return _without_repeats(nodes)


def _without_repeats(nodes: list[Node]) -> list[Node]:
    """A thing without parts that was named twice in the same way is one class, as in a text without brackets."""
    if any(node.parent >= 0 for node in nodes):
        return nodes
    return list(dict.fromkeys(nodes))


def _parse_stuff(stuff: str) -> list[Node]:
    if not stuff.strip():
        return []
    return [_node(piece, "stuff", -1, f"stuff {stuff!r}") for piece in stuff.split(",")]


def _node(entry: str, kind: Kind, parent: int, where: str) -> Node:
    """A class from ``name=synonym:threshold``."""
    entry = entry.strip()
    match = _SCORE.search(entry)
    if match is None:
        return _checked(entry.split("="), kind, parent, None, where)
    return _checked(entry[: match.start()].split("="), kind, parent, float(match[1]), where)


def _checked(names: Sequence[Any], kind: Kind, parent: int, threshold: Any, where: str) -> Node:
    cleaned = []
    for name in names:
        if not isinstance(name, str):
            raise InputError(f"{where}: a name must be text, got {name!r}: put it in quotes")
        plain = " ".join(name.split()).lower()
        if not plain or _RESERVED.search(plain):
            raise InputError(f"{where}: a name must be words without . [ ] and =, got {name!r}")
        cleaned.append(plain)
    number = isinstance(threshold, int | float) and not isinstance(threshold, bool)
    if threshold is not None and not (number and 0 <= threshold <= 1):
        raise InputError(f"{where}: threshold of {cleaned[0]!r} must be a number in 0..1, got {threshold!r}")
    own, *others = dict.fromkeys(cleaned)
    return Node(own, kind, parent, tuple(others), None if threshold is None else float(threshold))


def _wrong(text: str, column: int, rule: str) -> InputError:
    return InputError(f"text: {rule}; got {text!r}, see column {column}")


def read_hierarchy(path: str | Path) -> Hierarchy:
    """The classes of a yaml file, which needs PyYAML.

    ``things`` and ``stuff`` are each a list of names, or names with what is known of them: null, a list of parts, or
    ``synonyms`` (a list), ``threshold`` (0..1) and ``parts`` (as ``things``)::

        things:
          person: {threshold: 0.4, parts: {head: [ear], left hand: null}}
          car: {synonyms: [automobile], parts: [wheel]}
          dog:
        stuff: [road, sky]

    Raises:
        InputError: the file cannot be read, is not of this form, or its classes are not those of a hierarchy (see
            :class:`Hierarchy`).
    """
    try:
        import yaml
    except ImportError as error:
        raise missing_extra("PyYAML", "parts", f"to read {path}") from error
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        content = yaml.safe_load(text)
        repeated = _repeated_key(yaml.compose(text, Loader=yaml.SafeLoader))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError, ValueError) as error:
        raise InputError(f"text {path} cannot be read as yaml: {first_line(error)}") from error
    where = f"text {path}"
    if repeated is not None:  # yaml would keep the last one and drop the others
        raise InputError(f"{where} must have each key once, got {repeated[0]!r} again in line {repeated[1]}")
    if not isinstance(content, Mapping):
        raise InputError(f"{where} must have things and stuff, got {content!r:.60}")
    for key in content:
        if key not in ("things", "stuff"):
            raise unknown_name(f"key of {where}", str(key), ("things", "stuff"))
    nodes: list[Node] = []
    _add(nodes, content.get("things"), "thing", -1, 1, where)
    _add(nodes, content.get("stuff"), "stuff", -1, 1, where)
    return Hierarchy(tuple(nodes))


def _repeated_key(node: Any) -> tuple[str, int] | None:
    """A key that stands twice in one mapping of a yaml document, and its line."""
    left, done = [node], set()
    while left:
        node = left.pop()
        if id(node) in done or not isinstance(getattr(node, "value", None), list):
            continue
        done.add(id(node))
        if node.id == "sequence":
            left += node.value
            continue
        keys = set()
        for key, value in node.value:
            if key.id == "scalar" and key.value in keys:
                return key.value, key.start_mark.line + 1
            keys.add(key.value if key.id == "scalar" else id(key))
            left.append(value)
    return None


def _add(nodes: list[Node], content: Any, kind: Kind, parent: int, level: int, where: str) -> None:
    """Appends the classes of one level of a yaml file, and of the levels below it."""
    if content is None:
        return
    if level > MOST_LEVELS:
        raise InputError(f"{where} must have at most {MOST_LEVELS} levels of parts, got more")
    if not isinstance(content, list | Mapping):
        raise InputError(f"{where}: classes must be a list of names, or names with their parts, got {content!r:.60}")
    for name in content:
        known = content[name] if isinstance(content, Mapping) else None
        if not isinstance(known, Mapping):
            known = {"parts": known}
        for key in known:
            if key not in ("synonyms", "threshold", "parts"):
                raise unknown_name(f"key of {name!r} in {where}", str(key), ("synonyms", "threshold", "parts"))
        synonyms = known.get("synonyms") or []
        if not isinstance(synonyms, list):
            raise InputError(f"{where}: synonyms of {name!r} must be a list of names, got {synonyms!r:.60}")
        if kind == "stuff" and known.get("parts") is not None:
            raise InputError(f"{where}: stuff has no parts, got parts of {name!r}: name it under things")
        nodes.append(_checked([name, *synonyms], kind, parent, known.get("threshold"), where))
        if len(nodes) > MOST_PHRASES:
            raise InputError(f"{where} must have at most {MOST_PHRASES} classes, got more")
        _add(nodes, known.get("parts"), "part", len(nodes) - 1, level + 1, where)


def warn_of_similar_phrases(hierarchy: Hierarchy, embeddings: np.ndarray, threshold: float = 0.95) -> np.ndarray:
    """Warns of phrases of two classes with nearly the same embedding, with the matrix of their cosine similarities.

    Args:
        hierarchy: the classes.
        embeddings: (P, D) of ``hierarchy.phrases``.
        threshold: cosine from which two phrases count as similar.

    Returns:
        (P, P) cosines.

    Raises:
        InputError: there is not one finite embedding with a length above 0 for each phrase.
    """
    phrases = hierarchy.phrases
    embeddings = np.asarray(embeddings, np.float64)
    lengths = np.linalg.norm(embeddings, axis=-1, keepdims=True)
    if embeddings.ndim != 2 or len(embeddings) != len(phrases) or not (np.isfinite(lengths) & (lengths > 0)).all():
        raise InputError(
            f"embeddings must be ({len(phrases)}, D), finite and not 0, one for each phrase, got {embeddings.shape}"
        )
    unit = embeddings / lengths
    cosines = np.asarray(unit @ unit.T)
    labels = np.array([phrase.label for phrase in phrases])
    close = (cosines >= threshold) & (labels[:, None] != labels)
    rows = np.flatnonzero(close.any(axis=1))
    if len(rows):
        lines = [f"{phrases[i].text}: {' '.join(f'{value:.2f}' for value in cosines[i, rows])}" for i in rows.tolist()]
        warnings.warn(
            "the text encoder gives these phrases nearly the same embedding; their cosine similarities are\n"
            + "\n".join(lines),
            stacklevel=2,
        )
    return cosines
