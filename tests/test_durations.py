"""Lengths of time of the command line."""

from __future__ import annotations

import pytest

from masa_track.errors import InputError
from masa_track.runs.durations import seconds_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("30m", 1800),
        ("1h", 3600),
        ("7d", 7 * 86400),
        ("1h30m", 5400),
        ("1d2h3m4s", 86400 + 7200 + 180 + 4),
        ("0.5h", 1800),
        ("0h10m", 600),
        ("45", 45),
        ("2.5", 2.5),
        (" 1H ", 3600),
    ],
)
def test_lengths_of_time(text: str, seconds: float) -> None:
    assert seconds_of(text, "--rotate") == seconds


@pytest.mark.parametrize(
    "text", ["", " ", "h", "1w", "30m1h", "1h1h", "1 h", "-1h", "1h-30m", "1e3", "nan", "inf", "1,5h", "½h", "1:30"]
)
def test_other_forms_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"--keep must be a length of time such as .* got .*units are d, h, m and s"):
        seconds_of(text, "--keep")


@pytest.mark.parametrize("text", ["0", "0s", "0h0m", "99999999d", "9" * 400])
def test_lengths_out_of_range_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="--keep must be longer than 0 and at most 100 years"):
        seconds_of(text, "--keep")
