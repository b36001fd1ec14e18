"""What a text detector looks for: phrases between full stops, or a list of class names by name or file. No torch.

``lvis_v1.txt`` holds the names of LVIS v1 in the order of its category ids (Gupta et al., LVIS, CVPR 2019; CC BY 4.0).
TAO has the same classes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from masa_track.detectors.nanodet import COCO_NAMES
from masa_track.errors import InputError

LISTS = ("coco", "lvis", "tao")
FILE_SUFFIXES = (".json", ".txt")
_LVIS = Path(__file__).parent / "lvis_v1.txt"


@dataclass(frozen=True)
class TextPrompt:
    """Class i is called ``names[i]``; the detector looks for ``phrases[i]``, which several classes may share."""

    names: tuple[str, ...]
    phrases: tuple[str, ...]


def read_prompt(text: str) -> TextPrompt:
    """The classes of ``--text``.

    Args:
        text: phrases separated by full stops, each a class; or a list of names: one of :data:`LISTS`, a text file with
            a name on each line, or a json of TAO, LVIS or COCO, whose ``categories`` are taken in the order of their
            ids.

    Raises:
        InputError: there is nothing to look for, or the file cannot be read or has no names.
    """
    place = text.strip()
    if not is_list(text):
        phrases = tuple(split_phrases(text))
        return TextPrompt(phrases, phrases)
    if place.lower() in LISTS:
        return of_names(COCO_NAMES if place.lower() == "coco" else _LVIS.read_text(encoding="utf-8").splitlines())
    return of_names(_names_of(Path(place)))


def is_list(text: str) -> bool:
    """Whether a text stands for a list of names: one of :data:`LISTS`, or a file by its suffix."""
    return text.strip().lower() in LISTS or Path(text.strip()).suffix.lower() in FILE_SUFFIXES


def of_names(names: Sequence[str]) -> TextPrompt:
    """Class names as data sets write them: ``bow_(weapon)`` is looked for as ``bow``.

    Source: Grounding DINO's evaluation on LVIS, in mmdet, cleans names in this way.
    """
    return TextPrompt(tuple(names), tuple(_cleaned(name) for name in names))


def _cleaned(name: str) -> str:
    plain = name.replace("_", " ").lower()
    return " ".join(re.sub(r"\([^)]*\)", "", plain).split()) or " ".join(plain.split())


def split_phrases(text: str) -> list[str]:
    """The phrases of a prompt, lower case, in order, each once.

    Raises:
        InputError: if there is none.
    """
    phrases = list(dict.fromkeys(" ".join(part.split()).lower() for part in text.split(".")))
    phrases = [phrase for phrase in phrases if phrase]
    if not phrases:
        raise InputError(f'text must name something, e.g. "a yellow minion. a dog", got {text!r}')
    return phrases


def caption_groups(phrases: Sequence[str], lengths: Sequence[int], max_tokens: int) -> list[tuple[int, int]]:
    """Phrases in as few captions as hold them in their order; one caption where all fit.

    Args:
        phrases: lower case, without full stops; may repeat.
        lengths: tokens of each phrase, without the full stop behind it and without special tokens.
        max_tokens: of a caption, with full stops and a special token at both ends.

    Returns:
        For each caption the first phrase and the one behind the last.

    Raises:
        InputError: a phrase is too long for a caption.
    """
    groups: list[tuple[int, int]] = []
    start, used = 0, 2
    for index, length in enumerate(lengths):
        if length + 3 > max_tokens:
            raise InputError(
                f"a phrase of text must have at most {max_tokens - 3} tokens, got {phrases[index][:60]!r}..."
            )
        if used + length + 1 > max_tokens:
            groups.append((start, index))
            start, used = index, 2
        used += length + 1
    return [*groups, (start, len(lengths))]


def phrase_tokens(phrases: Sequence[str], offsets: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Which tokens of the caption ``"a. b."`` belong to which phrase, by their places: names may occur in names.

    Args:
        phrases: of the caption, in its order.
        offsets: (T, 2) first character of each token and the one behind its last; equal for special tokens.

    Returns:
        For each phrase the positions of its tokens.
    """
    tokens_of, start = [], 0
    for phrase in phrases:
        end = start + len(phrase)
        tokens_of.append([i for i, (a, b) in enumerate(offsets) if b > a and a >= start and b <= end])
        start = end + len(". ")
    return tokens_of


def _names_of(path: Path) -> list[str]:
    try:
        content = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"--text {path} cannot be read as a list of names ({error}): give phrases or a file"
        ) from error
    if path.suffix.lower() == ".txt":
        names = [line.strip() for line in content.splitlines() if line.strip()]
    else:
        try:
            categories = json.loads(content)["categories"]
            names = [str(one["name"]) for one in sorted(categories, key=lambda one: int(one["id"]))]
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise InputError(
                f"--text {path} must be json of TAO, LVIS or COCO: categories, each with id and name ({error!r})"
            ) from error
    if not names or not all(name.strip() for name in names):
        raise InputError(f"--text {path} must have a name for each class, got {len(names)} names, or an empty one")
    return names
