"""Photographs by folder, glob pattern or list: which, and under which names."""

from __future__ import annotations

import glob
import re
from dataclasses import dataclass
from pathlib import Path

from masa_track.errors import InputError
from masa_track.video.images import IMAGE_SUFFIXES


@dataclass(frozen=True)
class ImageList:
    """Image files.

    Attributes:
        root: the folder that their names are below.
        names: with forward slashes, sorted, each once.
    """

    root: Path
    names: list[str]


def list_images(given: str, most: int | None = None) -> ImageList:
    """Finds images.

    Args:
        given: a folder, searched with all below it; a glob pattern, ``**`` included; one image; or a text file with a
            path a line, absolute or from the text file's folder, where empty lines and those that begin with ``#`` do
            not count.
        most: take the first so many names only.

    Raises:
        InputError: there is no such thing, or no image in it; a list names a file that is not there, or one twice.
    """
    if most is not None and most < 1:
        raise InputError(f"--max-images must be 1 or more, got {most}")
    place = Path(given)
    if place.is_dir():
        root, names = place, _below(place)
        held = "holds no image"
    elif place.is_file() and place.suffix.lower() in IMAGE_SUFFIXES:
        root, names, held = place.parent, [place.name], ""
    elif place.is_file():
        root, names = place.parent, _listed(place)
        held = "names no image"
    elif re.search(r"[*?\[]", given):
        fixed = re.split(r"[*?\[]", given, maxsplit=1)[0]
        root = Path(fixed if fixed.endswith("/") else Path(fixed).parent)
        found = [Path(path) for path in glob.glob(given, recursive=True)]
        names = [path.relative_to(root).as_posix() for path in found if _is_image(path)]
        held = f"matches {len(found)} files, none of them an image; quote it against the shell"
    else:
        raise InputError(f"images {given!r}: there is no such folder, list or image; check the path")
    if not names:
        raise InputError(f"images {given!r} {held}: give {', '.join(sorted(IMAGE_SUFFIXES))} files")
    return ImageList(root.resolve(), sorted(names)[:most])


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()


def _below(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if _is_image(path)]


def _listed(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"images {str(path)!r} is no list of images, a path a line: {error}") from error
    first: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        name = line.strip()
        if not name or name.startswith("#"):
            continue
        if not (path.parent / name).is_file():
            raise InputError(f"{path}, line {number}: there is no file {name[:200]!r} (seen from {path.parent})")
        if name in first:
            raise InputError(f"{path}, line {number}: {name!r} is in line {first[name]} already")
        first[name] = number
    return list(first)
