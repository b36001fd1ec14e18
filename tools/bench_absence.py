#!/usr/bin/env python3
"""Who gets which identity after an absence: real objects that return, and newcomers in their place.

An object of a real clip is hidden for 1, 3, 10 or 30 seconds, while the others stay ("company"), or all others are
hidden throughout ("alone"). Then it returns, or another object comes that no tracker has seen so far:

- place "same": where the object is by then, the newcomer where it was last;
- place "border": the object left through the nearest border and comes through another one. Its boxes are moved there,
  before and after; the embeddings stay those of the real crops.

The clips are shorter than the absences. So time is stretched: for the length of the absence the video pauses, and all
others stand still with their last boxes (jittered by 1 % of their size) and embeddings. Frames keep coming at the
clip's rate. Ours is told that the scene does not change, as pictures would tell it. Objects: true boxes of mot15/,
moving/ and collage_dev/, and, alone, those of davis/ by their masks. Where a clip has no other object, a newcomer is
from another clip of the same folder.

Two error rates: returners that do not get back their own identity, and newcomers that get any identity that was given
before. The same episodes are used for all trackers, places and absences. Cells are rates with Wilson 95 % intervals.
All trackers remember tracks for 40 seconds. The other trackers, ultralytics' BoT-SORT with re-identification and
deep-sort-realtime, get the same embeddings, with the settings of `bench_adapters.py`; a smaller --gate trades one error
for the other. They need .venv-peers:

    python tests/environments.py
    .venv-peers/bin/python tools/bench_absence.py ../shared/clips --episodes 20 --jobs 2
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from clip_boxes import (
    CACHE,
    JITTER,
    STILL,
    ClipBoxes,
    Frame,
    Loaded,
    Looks,
    Ours,
    Update,
    adapted,
    benchmark_clips,
    in_processes,
    installed,
    read_boxes,
    video_of,
)

from masa_track.association import AppearancePrior
from masa_track.errors import InputError

MEMORY = 40.0  # seconds
BEFORE, AFTER = (2.0, 15), (1.0, 8)  # seconds shown before and after an absence, and frames at least
LEAST = 5  # frames in which the object is seen, before and after
PEERS = {"BoT-SORT ReID": "ultralytics", "DeepSORT": "deepsort"}
PLACES, WHO = ("same", "border"), ("returner", "newcomer")


class Episode(NamedTuple):
    """Which object is hidden, and when.

    Attributes:
        clip: its boxes.
        name: of the object.
        last: number of the frame after which it is hidden.
        other: boxes of the newcomer's clip; None: there is no newcomer.
        other_name: its name there.
        seed: of what is drawn for its films.
    """

    clip: Loaded
    name: int
    last: int
    other: Loaded | None
    other_name: int
    seed: int


class Film(NamedTuple):
    """What a tracker gets.

    Attributes:
        frames: of the film.
        before: (frame's place, row) of the hidden object, while it is there.
        after: the same of who comes after the absence.
        start: place of the first frame after the absence.
        fps: frames a second.
        size: of the picture.
    """

    frames: list[Frame]
    before: list[tuple[int, int]]
    after: list[tuple[int, int]]
    start: int
    fps: float
    size: tuple[int, int]


class Task(NamedTuple):
    """One film of an episode, for some trackers."""

    episode: Episode
    company: bool
    place: str
    who: str
    seconds: float
    trackers: tuple[str, ...]
    prior: AppearancePrior | None
    options: dict[str, Any]
    gate: float | None


def span(of: tuple[float, int], fps: float) -> int:
    """Frames of (seconds, frames at least)."""
    return max(round(of[0] * fps), of[1])


def candidates(boxes: ClipBoxes) -> list[tuple[int, int]]:
    """The (name, last frame) of objects that are seen often enough before and after."""
    before, after = span(BEFORE, boxes.fps), span(AFTER, boxes.fps)
    found = []
    for name in np.unique(boxes.names).tolist():
        numbers = boxes.frames[boxes.names == name]
        for last in numbers.tolist():
            seen = (
                ((numbers > last - before) & (numbers <= last)).sum(),
                ((numbers > last) & (numbers <= last + after)).sum(),
            )
            if min(seen) >= LEAST:
                found.append((name, last))
    return found


def newcomers(boxes: ClipBoxes, but: int | None) -> list[int]:
    """The names of objects that are seen often enough to come instead."""
    names, counts = np.unique(boxes.names, return_counts=True)
    return [name for name, count in zip(names.tolist(), counts, strict=True) if count >= LEAST and name != but]


def episodes(clips: Sequence[Loaded], company: bool, count: int) -> list[Episode]:
    """Random episodes, always the same ones; each clip that fits has the same chance.

    Raises:
        InputError: no clip fits.
    """
    boxes = {clip: read_boxes(clip.clip, clip.kind) for clip in clips}
    fit = {clip: candidates(of) for clip, of in boxes.items() if not company or len(np.unique(of.names)) > 2}
    fit = {clip: found for clip, found in fit.items() if found}
    if not fit:
        raise InputError("CLIPS must have a clip with pictures, and with objects seen before and after an absence")
    made = []
    for number in range(count):
        rng = np.random.default_rng([int(company), number])
        clip = list(fit)[int(rng.integers(len(fit)))]
        name, last = fit[clip][int(rng.integers(len(fit[clip])))]
        others = [(clip, other) for other in newcomers(boxes[clip], name)]
        if not others:
            beside = [each for each in clips if each.clip.parent == clip.clip.parent and each != clip]
            others = [(each, other) for each in beside for other in newcomers(boxes[each], None)]
        other, other_name = others[int(rng.integers(len(others)))] if others else (None, -1)
        made.append(Episode(clip, name, last, other, other_name, number))
    return made


def film(episode: Episode, company: bool, place: str, who: str, seconds: float) -> Film:
    """The frames before, during and after an absence.

    Args:
        episode: of a clip.
        company: whether the other objects are shown.
        place: ``same`` or ``border``.
        who: ``returner`` or ``newcomer`` comes afterwards.
        seconds: of absence.
    """
    boxes, rng = episode.clip.get(), np.random.default_rng(episode.seed)
    width, height = boxes.size
    unseen = episode.other_name if episode.other == episode.clip else None
    others = boxes.rows((boxes.names != episode.name) & (boxes.names != unseen) & company)
    own = boxes.rows(boxes.names == episode.name)
    last = own.boxes[own.at(episode.last)][0].astype(np.float64)
    leave = np.zeros(2)
    exits = np.array([last[0], last[1], width - last[2], height - last[3]])  # distances: left, top, right, bottom
    exit_side = int(exits.argmin())
    if place == "border":
        leave[exit_side % 2] = exits[exit_side] * (-1 if exit_side < 2 else 1)
    comer = own
    if who == "newcomer":
        assert episode.other is not None
        stranger = episode.other.get()
        comer = stranger.rows(stranger.names == episode.other_name)
        latest = max(len(comer.frames) - span(AFTER, boxes.fps), 0)
        comer = comer.rows(np.arange(len(comer.frames)) >= rng.integers(latest + 1))
        scale = height / stranger.size[1]
        comer = ClipBoxes(**{**vars(comer), "boxes": comer.boxes * np.float32(scale)})
    else:
        comer = own.rows(own.frames > episode.last)
    come = np.zeros(2)
    first = comer.boxes[0].astype(np.float64)
    if place == "border":
        side = int(rng.choice([side for side in range(4) if side != exit_side]))
        free = rng.uniform([0, 0], np.maximum([width - (first[2] - first[0]), height - (first[3] - first[1])], 1e-9))
        corner = free
        corner[side % 2] = 0 if side < 2 else (width, height)[side % 2] - (first[2:] - first[:2])[side % 2]
        come = corner - first[:2]
    elif who == "newcomer":
        come = (last[:2] + last[2:] - first[:2] - first[2:]) / 2
    frames: list[Frame] = []
    before, after = [], []

    def show(company_boxes: ClipBoxes, number: int, jitter: float, one: tuple[np.ndarray, np.ndarray] | None) -> int:
        here = company_boxes.at(number)
        around = company_boxes.boxes[here].astype(np.float64)
        if jitter:
            around += (
                rng.normal(0, jitter, around.shape) * np.sqrt((around[:, 2:] - around[:, :2]).prod(axis=1))[:, None]
            )
        assert company_boxes.embeddings is not None
        looks = company_boxes.embeddings[here].astype(np.float32)
        if one is not None:
            around, looks = np.concatenate((around, one[0][None])), np.concatenate((looks, one[1][None]))
        order = rng.permutation(len(around))
        count = len(around)
        ones, zeros = np.ones(count), np.zeros(count, np.int64)
        shown = around[order].astype(np.float32)
        frames.append(Frame(len(frames) + 1, shown, ones, zeros, looks[order], thumbnail=STILL))
        return int(np.flatnonzero(order == count - 1)[0]) if one is not None else -1

    def thing(of: ClipBoxes, row: int, moved: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert of.embeddings is not None
        shifted = np.clip(of.boxes[row] + np.tile(moved, 2), 0, [width, height, width, height])
        shifted[2:] = np.maximum(shifted[2:], shifted[:2] + 1)
        return shifted, of.embeddings[row].astype(np.float32)

    for number in range(max(episode.last - span(BEFORE, boxes.fps) + 1, 1), episode.last + 1):
        rows = np.flatnonzero(own.frames == number)
        row = show(others, number, 0.0, thing(own, int(rows[0]), leave) if len(rows) else None)
        if row >= 0:
            before.append((len(frames) - 1, row))
    for _ in range(round(seconds * boxes.fps)):
        show(others, episode.last, JITTER, None)
    start = len(frames)
    shift = comer.frames[0] - (episode.last + 1) if who == "newcomer" else 0
    for number in range(episode.last + 1, episode.last + span(AFTER, boxes.fps) + 1):
        rows = np.flatnonzero(comer.frames == number + shift)
        row = show(others, number, 0.0, thing(comer, int(rows[0]), come) if len(rows) else None)
        if row >= 0:
            after.append((len(frames) - 1, row))
    return Film(frames, before, after, start, boxes.fps, boxes.size)


def is_wrong(shown: Film, update: Update, who: str) -> bool:
    """Whether the tracker makes the error: the identity that most frames have counts."""
    ids = [update(frame) for frame in shown.frames]
    first, second = (most([int(ids[at][row]) for at, row in rows]) for rows in (shown.before, shown.after))
    if who == "returner":
        return second < 0 or second != first
    return second in set(np.concatenate(ids[: shown.start]).tolist()) - {-1}


def most(ids: Sequence[int]) -> int:
    """The identity that is there most often; -1: none."""
    values, counts = np.unique([identity for identity in ids if identity >= 0], return_counts=True)
    return int(values[counts.argmax()]) if len(values) else -1


def tracker(name: str, of: Film, task: Task) -> Update:
    """A fresh tracker."""
    if name == "ours":
        return Ours(of.fps, of.size, task.prior, {"memory_seconds": MEMORY, **task.options})
    return adapted(PEERS[name], of.size, round(MEMORY * of.fps), task.gate)


def run(task: Task) -> dict[str, bool]:
    """Whether each tracker makes the error."""
    shown = film(task.episode, task.company, task.place, task.who, task.seconds)
    return {name: is_wrong(shown, tracker(name, shown, task), task.who) for name in task.trackers}


def wilson(wrong: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a rate.

    Source: Wilson, Probable inference, the law of succession, and statistical inference, 1927.
    """
    z, rate = 1.96, wrong / count
    middle = (rate + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(rate * (1 - rate) / count + z**2 / (4 * count**2))
    return float(max(middle - half, 0)), float(min(middle + half, 1))


def main() -> None:
    """Prints a row for each company, place, comer and tracker, with a column for each absence."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, help="folder with mot15/, moving/, collage_dev/ and davis/")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these clips alone")
    parser.add_argument("--episodes", type=int, default=20, metavar="N", help="of each cell (default: %(default)s)")
    parser.add_argument("--seconds", type=float, nargs="+", default=[1, 3, 10, 30], metavar="S", help="of absence")
    every = ["ours", *PEERS]
    parser.add_argument("--trackers", nargs="+", choices=every, default=every, metavar="NAME", help="default: all")
    parser.add_argument("--gate", type=float, metavar="X", help="largest cosine distance of a match, of the others")
    parser.add_argument("--model", default="nano", metavar="NAME", help="default: %(default)s")
    parser.add_argument("--checkpoint", metavar="FILE", help="other weights for the model")
    parser.add_argument("--cache", type=Path, default=CACHE, metavar="DIR", help="of embeddings (default: %(default)s)")
    parser.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE", help="change an option of ours")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes (default: %(default)s)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the errors as JSON, too")
    args = parser.parse_args()
    from masa_track.cli.track import parse_options

    looks = Looks(args.model, args.checkpoint, args.cache)
    found = [(clip, "gt") for clip in benchmark_clips(args.clips) if video_of(clip) is not None]
    found += [(path.parent, "mask") for path in sorted(args.clips.glob("davis/*/masks"))]
    found = [(clip, kind) for clip, kind in found if not args.only or clip.name in args.only]
    clips = [Loaded(clip, kind, args.model, args.checkpoint, args.cache) for clip, kind in found]
    for clip in clips:
        looks.of(read_boxes(clip.clip, clip.kind))  # computed once, before several processes want it
    trackers = installed(args.trackers, ("ours",), lambda name: adapted(PEERS[name], (64, 48)))
    options = parse_options(args.set)
    tasks = [
        Task(episode, company, place, who, seconds, trackers, looks.prior, options, args.gate)
        for company in (True, False)
        for episode in episodes(clips, company, args.episodes)
        for place in PLACES
        for who in WHO
        for seconds in args.seconds
        if who == "returner" or episode.other is not None
    ]
    wrong: dict[tuple[bool, str, str, float, str], list[bool]] = {}
    for task, errors in in_processes(args.jobs, run, tasks):
        for name, error in errors.items():
            wrong.setdefault((task.company, task.place, task.who, task.seconds, name), []).append(error)
    print(f"| others | place | error | tracker | {' | '.join(f'{seconds:g} s' for seconds in args.seconds)} |")
    print(f"|---|---|---|---|{'---|' * len(args.seconds)}")
    said = {"returner": "returner loses its identity", "newcomer": "newcomer takes an old one"}
    table = []
    for company, place, who in ((company, place, who) for company in (True, False) for place in PLACES for who in WHO):
        for name in trackers:
            cells = []
            for seconds in args.seconds:
                errors = wrong.get((company, place, who, seconds, name), [])
                if not errors:
                    cells.append("-")
                    continue
                low, high = wilson(sum(errors), len(errors))
                cells.append(f"{np.mean(errors):.2f} [{low:.2f}, {high:.2f}]")
                entry = {"company": company, "place": place, "who": who, "seconds": seconds, "tracker": name}
                table.append({**entry, "errors": sum(errors), "episodes": len(errors)})
            head = f"{'company' if company else 'alone'} | {place} | {said[who]}"
            print(f"| {head} | {name} | {' | '.join(cells)} |")
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
