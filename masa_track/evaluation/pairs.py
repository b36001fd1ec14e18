"""Which tracks file goes with which truth: single files, a sequence's folder, or folders of sequences."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from masa_track.errors import InputError

_TRACKS_PLACES = "NAME.txt, data/NAME.txt, NAME/tracks.txt, NAME/NAME.txt or the only .txt file in NAME/"


@dataclass(frozen=True)
class Pair:
    """One sequence to be scored.

    Attributes:
        name: of the sequence, e.g. ``TUD-Campus``.
        gt: its truth, a MOT text file.
        tracks: the tracks to score, a MOT text file.
    """

    name: str
    gt: Path
    tracks: Path


def parse_sequences(text: str) -> list[str]:
    """Names of sequences: with commas between, or in a file, a seqmap of TrackEval.

    In a file each line begins with a name, up to a comma, or is KITTI's ``NAME empty FIRST LAST``; a first line
    ``name`` is a header, and lines with ``#`` are comments.

    Raises:
        InputError: there is no name, or a name occurs twice.
    """
    names = [name.strip() for name in text.split(",")]
    if Path(text).is_file():
        try:
            lines = Path(text).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"--sequences {text} is no text file of names: {error}") from error
        names = [re.split(r"[,;]|\s+empty\s+[0-9]+\s", line, maxsplit=1)[0].strip(' \t"') for line in lines]
        names = [name for name in names if name and not name.startswith("#")]
        names = names[1:] if [name.lower() for name in names[:1]] == ["name"] else names
    if not names or not all(names):
        raise InputError(f"--sequences must be names with commas between, or a file with a name a line, got {text!r}")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"--sequences has {twice!r} twice")
    return names


def chosen(known: Iterable[str], sequences: Sequence[str] | None) -> set[str]:
    """The names to be scored.

    Args:
        known: all that the truth has.
        sequences: those that are asked for; None: all.

    Raises:
        InputError: the truth lacks one.
    """
    names = set(known)
    if sequences is None:
        return names
    missing = [name for name in sequences if name not in names]
    if missing:
        raise InputError(f"--sequences: GT does not have {_listed(missing)}; it has {_listed(sorted(names))}")
    return set(sequences)


def find_pairs(
    gt: str | Path, tracks: str | Path, texts: bool = False, sequences: Sequence[str] | None = None
) -> list[Pair]:
    """Finds the sequences of ``gt`` and the tracks of each; tracks of other sequences are left alone.

    Args:
        gt: a MOT text file, a sequence's folder with ``gt/gt.txt``, or a folder of such folders.
        tracks: for one sequence a MOT text file or a folder with ``tracks.txt`` (what ``masa-track track`` writes); for
            one or several a folder with ``NAME.txt``, ``NAME/tracks.txt``, ``NAME/NAME.txt`` or one text file in
            ``NAME/``; or, as TrackEval has them, a tracker's folder with ``data/NAME.txt``.
        texts: whether ``gt`` may also be a folder of ``NAME.txt``, as KITTI's ``label_02`` and VisDrone's
            ``annotations`` are.
        sequences: names of those to be scored; None: all of ``gt``.

    Returns:
        The pairs, sorted by name.

    Raises:
        InputError: nothing of the kind is there, a sequence has no tracks (named), or two files could be its tracks.
    """
    truths = _truths(Path(gt), texts)
    truths = {name: truths[name] for name in sorted(chosen(truths, sequences))}
    place = Path(tracks)
    if not place.exists():
        raise InputError(f"TRACKS must be a MOT text file or a folder, but there is no {place}")
    if len(truths) == 1:
        ((name, truth),) = truths.items()
        file = place if place.is_file() else place / "tracks.txt"
        if file.is_file():
            if truth.name == "gt.txt" and truth.resolve().parent.name != "gt":  # in a folder of any name
                name = _video_name(file) or name
            return [Pair(name, truth, file)]
    elif place.is_file():
        names = _listed(list(truths))
        raise InputError(f"TRACKS must be a folder, as GT has {len(truths)} sequences ({names}), but {place} is a file")
    found = {name: _tracks_of(name, place) for name in truths}
    missing = [name for name, file in found.items() if file is None]
    if missing:
        count = f"{len(missing)} of GT's {len(truths)} sequences" if len(truths) > 1 else "GT's sequence"
        places = _TRACKS_PLACES if len(truths) > 1 else f"tracks.txt, {_TRACKS_PLACES}"
        raise InputError(f"TRACKS has nothing for {count}: {_listed(missing)} (searched in {place} for {places})")
    return [Pair(name, truths[name], file) for name, file in found.items() if file is not None]


def _truths(gt: Path, texts: bool) -> dict[str, Path]:
    if gt.is_file():
        return {_name(gt): gt}
    if not gt.exists():
        raise InputError(f"GT must be a MOT text file or a folder, but there is no {gt}")
    for file in (gt / "gt" / "gt.txt", gt / "gt.txt"):
        if file.is_file():
            return {_name(file): file}
    truths = {folder.name: folder / "gt" / "gt.txt" for folder in sorted(gt.iterdir())}
    truths = {name: file for name, file in truths.items() if file.is_file()}
    if not truths and texts:
        truths = {file.stem: file for file in sorted(gt.glob("*.txt")) if file.is_file()}
    if not truths:
        raise InputError(f"GT must be a MOT text file, or a folder with gt/gt.txt or NAME/gt/gt.txt in it, got {gt}")
    return truths


def _name(file: Path) -> str:
    # .../TUD-Campus/gt/gt.txt is called TUD-Campus, also when reached from inside by a relative path.
    if file.name == "gt.txt":
        folder = file.resolve().parent
        name = folder.parent.name if folder.name == "gt" else folder.name
        return name or file.stem
    return file.stem


def _video_name(tracks: Path) -> str:
    """The video's name in the ``tracks.json`` beside a run's ``tracks.txt``; empty if there is none."""
    try:
        with open(tracks.with_suffix(".json"), encoding="utf-8") as file:
            head = file.read(4096)  # the name stands before the images
    except (OSError, UnicodeDecodeError):
        return ""
    found = re.search(r'"videos":\[\{"id":1,"name":("(?:[^"\\]|\\.)*")', head)
    return str(json.loads(found[1])) if found else ""


def _tracks_of(name: str, folder: Path) -> Path | None:
    places = (f"{name}.txt", f"data/{name}.txt", f"{name}/tracks.txt", f"{name}/{name}.txt")
    for file in (folder / place for place in places):
        if file.is_file():
            return file
    inside = sorted(file for file in (folder / name).glob("*.txt") if file.is_file())
    if len(inside) > 1:
        names = _listed([file.name for file in inside])
        raise InputError(f"TRACKS must have one text file for {name}, but {folder / name} has {names}: keep tracks.txt")
    return inside[0] if inside else None


def _listed(names: list[str], limit: int = 20) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
