"""Text files of rows: their separator, their lines, and what becomes of a row that cannot be read."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from masa_track.errors import InputError

_DECIMAL_COMMA = re.compile(r"^(\s*[-+]?[0-9]+),([0-9]+\s*)$")


class BadRows:
    """Refuses a row that makes no sense, or notes and skips it.

    Args:
        path: of the file, for messages.
        skip: whether such rows are skipped.
    """

    def __init__(self, path: Path, skip: bool = False) -> None:
        self.path, self.skip = path, skip
        self._said: list[str] = []

    def add(self, place: str, why: str) -> None:
        """A row at ``place`` makes no sense.

        Raises:
            InputError: unless such rows are skipped.
        """
        if not self.skip:
            raise InputError(f"{self.path}, {place}: {why}")
        self._said.append(f"{place}: {why}")

    @property
    def notes(self) -> tuple[str, ...]:
        """How many rows were skipped, and the first of them."""
        if not self._said:
            return ()
        count = len(self._said)
        return (f"{self.path}: {count} row{'s' * (count > 1)} skipped, the first is {self._said[0]}",)


def separator_of(line: str) -> str | None:
    """What separates the columns of a line: a comma, a semicolon, a tab, or None for blanks."""
    return next((one for one in (";", ",", "\t") if one in line.strip()), None)


def fields_of(line: str, separator: str | None) -> list[str]:
    """The fields of a line; with semicolons, a comma is a decimal point."""
    line = line.strip()
    if separator is None:
        return line.split()
    parts = line.rstrip(separator).split(separator)
    return [part.strip().replace(",", ".") for part in parts] if separator == ";" else [part.strip() for part in parts]


def lines_of(text: str) -> list[str]:
    """All lines, whatever ends them."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def numbered_lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, with their numbers from 1."""
    yield from ((number, line) for number, line in enumerate(lines_of(text), 1) if line.strip())


def has_header(text: str) -> bool:
    """Whether the first line names columns: letters, and a name of a box's side among them."""
    first = next((line for _, line in numbered_lines(text)), "")
    names = {field.strip().strip('"').lower() for field in fields_of(first, separator_of(first))}
    return bool(names & {"x_min", "xmin", "x1", "left", "bb_left", "bbox_left", "xtl"})


def header_rows(text: str) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows under a header, by the names of its columns in lower case, with the numbers of their lines.

    With semicolons, a comma in a number is a decimal point.
    """
    separator = separator_of(next((line for _, line in numbered_lines(text)), "")) or " "
    reader = csv.reader(lines_of(text), delimiter=separator, skipinitialspace=True)
    names: list[str] = []
    for row in reader:
        if not any(field.strip() for field in row):
            continue
        if not names:
            names = [field.strip().lower() for field in row]
        else:
            if separator == ";":
                row = [_DECIMAL_COMMA.sub(r"\1.\2", field) for field in row]
            yield reader.line_num, dict(zip(names, row, strict=False))
