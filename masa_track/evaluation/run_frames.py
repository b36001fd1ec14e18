"""Tracks of a run on images whose names do not count from 1, in the frame numbers of their truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from masa_track.errors import InputError
from masa_track.evaluation.mot import MotRows, text_lines
from masa_track.formats.joining import Numbering, numbers_in
from masa_track.formats.tables import fields_of, separator_of
from masa_track.runs.store import STORE_NAME, open_store


def in_frames_of(gt: Path, tracks: MotRows, file: Path, numbering: Numbering) -> MotRows:
    """The tracks with the frame numbers of the truth.

    A run counts its images from 1. Truth of a sequence whose images begin at 11 or have gaps counts by the numbers in
    their names. The record beside ``tracks.txt`` has the names.

    Args:
        gt: truth, text with the frame in its first column.
        tracks: of a run, or of another tracker.
        file: where they are from.
        numbering: ``first``: the truth has the numbers in the names, the first of which is this; ``base`` 1: it counts
            the images one by one. None of both: that is found out.

    Raises:
        InputError: the truth could be by names and by places, and these differ.
    """
    record = file.parent / STORE_NAME
    if file.name != "tracks.txt" or not record.is_file() or numbering.base is not None:
        return tracks
    with open_store(record) as store:
        names = store.frame_names()
    numbers = numbers_in(list(names.values()))
    if not numbers or numbers == list(names):
        return tracks
    wanted = _frames(gt)
    if not wanted:
        return tracks
    number_of = dict(zip(names, numbers, strict=True))
    by_name = min(numbers) <= min(wanted) and max(wanted) <= max(numbers)
    by_place = max(wanted) <= max(names)
    if by_name and by_place and numbering.first is None:
        frame = next(place for place, number in number_of.items() if place != number)
        raise InputError(
            f"{file}: picture {frame} of the run is {names[frame]}, so frame {frame} of {gt} may be this picture, or "
            f"the one whose name has {frame}. Give --first-frame {numbers[0]} if GT has the numbers in the names, or "
            "--frame-base 1 if it counts the pictures one by one"
        )
    if not by_name and numbering.first is None:
        return tracks
    shift = 0 if numbering.first is None else numbering.first - numbers[0]
    known = np.isin(tracks.frames, list(number_of))
    kept = tracks.only(known)
    frames = np.array([number_of[frame] + shift for frame in kept.frames.tolist()], np.int64)
    order = np.argsort(frames, kind="stable")
    return MotRows(frames[order], kept.ids[order], kept.boxes[order])


def _frames(gt: Path) -> set[int]:
    """The frames that have truth; those that are no numbers are refused by who reads the rest."""
    first = (fields_of(line, separator_of(line))[0] for _, line in text_lines(gt))
    return {int(field) for field in first if field.isdecimal()}
