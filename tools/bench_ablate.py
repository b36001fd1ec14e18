#!/usr/bin/env python3
"""What each constant of the preset `default` is worth: each one off (where that means anything), halved and doubled.

Constants are the numeric options of `FusedOptions` and the private constants of the evidence modules, in the tables
below. Each change alone is run on perturbed copies of the clips' boxes (see `bench_peers.py`), by motion alone and with
appearance (only clips with pictures); a change of a constant of appearance is left out where appearance is not used.
Each change is also run on random scenes of `bench_situations.py`, for what the clips do not show. The scores of each
clip, kind of boxes, stride and copy, and of each scene, are kept in the file of `--out`; the same command again runs
only what is missing there. A file of another engine is refused.

Prints for each change the mean difference of IDF1 and HOTA over the clips, with its standard error over clips, and the
worst and the best clip; then, for each constant, the values that would be chosen by IDF1 on all clips but one, how
often, and the mean difference that the choice makes on the clip left out; then the mean differences of IDF1 on each
kind of scenes. IDF1 takes a fiftieth of the engine's time, HOTA a sixth (`--no-hota`).

    pip install ".[bench]"
    python tools/bench_ablate.py ../shared/clips --draws 2 --strides 1 5 --boxes det --jobs 2 --out runs/ablate.json
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import importlib
import json
import pkgutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import bench_situations
import numpy as np
from clip_boxes import (
    CACHE,
    KINDS,
    ClipBoxes,
    Loaded,
    Looks,
    Ours,
    benchmark_clips,
    draw,
    has_kind,
    idf1_and_hota,
    in_processes,
    read_boxes,
    thumbnails,
    tracks_of,
    truth_of,
    video_of,
)

import masa_track.association
from masa_track.association import AppearancePrior, FusedOptions, evidence
from masa_track.errors import InputError

MOTION, LOOKS = "motion alone", "with appearance"
SCENES, FIRST_SCENE = "scenes", 500  # the constants were chosen on scenes below, docs/benchmarks shows those from 1,000
BASE = "base"
# (module of association.evidence, constant, value that switches it off or None). NAME[i] is an entry of a tuple or an
# array, CLASS.FIELD a default of a dataclass. What has None is halved and doubled only.
CONSTANTS: tuple[tuple[str, str, float | None], ...] = (
    ("motion", "_FREEDOM", 1e6),
    ("motion", "_ENTRY", None),
    ("kalman", "MotionNoise.growth", None),
    ("kalman", "MotionNoise.growth_persistence", None),
    ("returns", "GONE_SECONDS", None),
    ("returns", "INSIDE", -1e6),
    ("returns", "_MIXED", -1e6),
    ("returns", "SAME_BORDER", 0.0),
    ("returns", "_NEAR", None),
    ("returns", "_USUAL_RATE", None),
    ("returns", "_RATE_TRUST", None),
    ("returns", "_BUSIEST", 0.0),
    ("returns", "_AT_BORDER", None),
    ("returns", "ALIKE", -100.0),
    ("returns", "_LEAST_ALIKE", None),
    ("returns", "_PER_PAIR", 0.0),
    ("returns", "LATE", 0.0),
    ("undone_cuts", "SECONDS", 0.0),
    ("undone_cuts", "BETTER", 1e6),
    ("undone_cuts", "FOUND", 1e6),
    ("undone_cuts", "FEWEST", None),
    ("cuts", "SAME_SCENE", -1.0),
    ("bumps", "FEWEST", 1e6),
    ("bumps", "LONGEST_SECONDS", None),
    ("bumps", "_SAME_SIZE", None),
    ("bumps", "_WIDTH", None),
    ("bumps", "_INLIER", None),
    ("bumps", "EXPLAINED", None),
    ("bumps", "BETTER", None),
    ("fused", "_PAUSE", 1e6),
    ("fused", "_SHORTEST_PAUSE", 0.0),
    ("fused", "_DENSE_SECONDS", 0.0),
    ("fused", "_CLEAN_OVERLAP", 1.0),
    ("fused", "_CLEAN_BORDER", 1.0),
    ("pairs", "_TENTATIVE", 0.0),
    ("pairs", "_ELSEWHERE", -1e6),
    ("pairs", "_SAME_AREA", 1e6),
    ("pairs", "_SHORT_GAP", 0.0),
    ("pairs", "_FLOOR", 1e6),
    ("pairs", "_LONG_GAP", None),
    ("speeds", "FACTORS[1]", None),
    ("speeds", "FACTORS[2]", None),
    ("speeds", "_PRIOR", None),
    ("speeds", "_FREEDOM", 1e6),
    ("speeds", "_TRACK_FORGETS", 1.0),
    ("speeds", "_VIDEO_FORGETS", 1.0),
    ("speeds", "_TRACK", 0.0),
    ("speeds", "_VIDEO", 0.0),
    ("speeds", "_LEAST", None),
    ("fused", "_LEARNING_SECONDS", 0.0),
    ("fused", "_SURE", None),
    ("fused", "_SUREST", None),
    ("cuts", "_LAPSE", 1e6),
    ("cuts", "_ARRIVAL", 0.0),
    ("pairs", "CROWD", 1e9),
    ("pairs", "_UNCLEAR[0]", 1.0),
    ("pairs", "_UNCLEAR[1]", 1.0),
    ("detection_probability", "_REDETECTION", None),
    ("detection_probability", "_RETURNS", None),
    ("detection_probability", "_TRUST", 1e9),
    ("detection_probability", "_FORGET", 1.0),
    ("detection_probability", "_MOST", 0.0),
    ("detection_probability", "_LEAST", 0.0),
    ("detection_probability", "_APART", None),
    ("appearance", "_TRUST", 1e9),
    ("appearance", "_FORGET", 1.0),
    ("appearance", "_SMALLEST_STD", None),
    ("state", "COMMON_TRUST", 1e9),
)
# Options that are off at a value. The others are halved and doubled only.
OFF: dict[str, float] = {
    "object_score_threshold": 0.0,
    "sure_score": 2.0,
    "confirm_odds": -100.0,
    "confirm_seconds": 0.0,
    "second_match_odds": 1e6,
    "forgetting_seconds": 1e6,
    "motion_memory_seconds": 1e6,
    "missing_odds": 0.0,
    "entry_odds": 0.0,
    "jump_odds": -100.0,
    "cut_odds": -1e6,
    "cut_seconds": 0.0,
    "appearance_weight": 0.0,
    "most_appearance_odds": 1e3,
    "clean_overlap": 1.0,
    "views": 1,
    "view_seconds": 0.0,
    "duplicate_iou": 1.0,
    "distractor_iou_threshold": 1.0,
    "motion_persistence": 1e3,
    "return_prior": -1e6,
}
# What does nothing without appearance; `fused._SURE` teaches only cosines.
OF_APPEARANCE = {
    *("cut_odds", "cut_seconds", "cut_match_odds", "appearance_weight", "most_appearance_odds", "clean_overlap"),
    *("views", "view_seconds", "return_prior", "fused._SURE", "fused._DENSE_SECONDS", "fused._CLEAN_OVERLAP"),
    *("fused._CLEAN_BORDER", "pairs._UNCLEAR[0]", "pairs._UNCLEAR[1]", "pairs._ELSEWHERE", "pairs._SAME_AREA"),
    *("pairs._SHORT_GAP", "pairs._FLOOR", "pairs._LONG_GAP", "state.COMMON_TRUST"),
    *("appearance", "cuts", "returns", "undone_cuts"),  # modules
}
FIXED = {"first_id", "fps"}  # options that are no choice
UNIT = {"duplicate_iou", "distractor_iou_threshold", "clean_overlap", "_SUREST", "_REDETECTION", "_FORGET"}
UNIT |= {"_TRACK_FORGETS", "_VIDEO_FORGETS"}
UNIT |= {"track_activation_threshold", "high_score_threshold", "object_score_threshold", "sure_score"}  # in 0..1
# Private numbers that are no choice, or matter only without a prior (tools/bench_calibration.py chose those).
# Those of mask_overlap matter only where detections and tracks have masks, see tools/bench_mask_evidence.py.
NO_CHOICE = {
    *("mask_overlap._BASE", "mask_overlap._SLOPE", "mask_overlap.MOST", "mask_overlap._SUREST"),
    *("cuts._RECOGNISED", "returns._DISTINCT"),
    *("fused._NEVER", "fused._SAME_ASPECT", "pairs.IMPOSSIBLE", "pairs._RECENT_SECONDS"),
    *("bumps._MOST_PAIRS", "fused._INTERVALS", "fused._FEWEST_INTERVALS"),
    *("options.MOST_VIEWS", "kalman._SMALLEST", "detection_probability.SAME_TIME", "detection_probability._RARE"),
    *("detection_probability._LONGEST", "appearance.GAPS", "appearance._WIDE_DIFFERENT", "appearance._WIDE_SAME"),
    *("appearance._SPREAD_TRUST", "appearance._PER_PAIR", "appearance._PER_OBJECT", "appearance._REMEMBERED"),
    *("appearance._KEPT", "appearance._KEPT_STD"),
}


class Change(NamedTuple):
    """One constant at another value.

    Attributes:
        constant: name of the option, or ``module.NAME``; ``base`` for no change.
        how: ``off``, ``half`` or ``double``.
        value: what it is set to, or (of an array) multiplied by.
    """

    constant: str
    how: str
    value: float

    def __str__(self) -> str:
        return self.constant if self.constant == BASE else f"{self.constant} {self.how}"


class Task(NamedTuple):
    """The runs of one change on one clip."""

    change: Change
    mode: str
    clip: Loaded
    runs: tuple[tuple[int, int], ...]  # stride and number of the copy
    prior: AppearancePrior | None
    options: tuple[tuple[str, Any], ...]
    hota: bool


class SceneTask(NamedTuple):
    """The runs of one change on scenes of one kind."""

    change: Change
    kind: str
    numbers: tuple[int, ...]
    options: tuple[tuple[str, Any], ...]


def place_of(module: str, name: str) -> tuple[Any, str, int | None]:
    """The object that has a constant, the attribute, and the entry of it (None: all).

    Raises:
        LookupError: there is none.
    """
    holder: Any = importlib.import_module(f"masa_track.association.evidence.{module}")
    if "." in name:
        owner, name = name.split(".")
        return getattr(holder, owner).__init__.__kwdefaults__, name, None
    name, _, entry = name.partition("[")
    if not hasattr(holder, name):
        raise LookupError(name)
    return holder, name, int(entry[:-1]) if entry else None


def value_of(module: str, name: str) -> Any:
    """The present value of a constant; LookupError: there is none."""
    holder, name, entry = place_of(module, name)
    value = holder[name] if isinstance(holder, dict) else getattr(holder, name)
    return value if entry is None else value[entry]


def modules() -> list[Any]:
    """The modules of association.evidence."""
    names = [each.name for each in pkgutil.iter_modules(evidence.__path__)]
    return [importlib.import_module(f"masa_track.association.evidence.{name}") for name in names]


@contextmanager
def changed(change: Change) -> Iterator[dict[str, Any]]:
    """The constant of a module has another value inside; a public one also where other modules imported it.

    Yields:
        The option that is changed, for the engine; empty where the constant is one of a module.
    """
    module, dot, name = change.constant.partition(".")
    if change.constant == BASE or not dot:
        yield {} if change.constant == BASE else {change.constant: whole(change)}
        return
    holder, name, entry = place_of(module, name)
    old = holder[name] if isinstance(holder, dict) else getattr(holder, name)
    if isinstance(old, np.ndarray):
        new: Any = old * change.value
    elif entry is not None:
        new = type(old)(change.value if place == entry else each for place, each in enumerate(old))
    else:
        new = change.value
    if isinstance(holder, dict):
        holder[name] = new
        try:
            yield {}
        finally:
            holder[name] = old
        return
    users = [holder] if name.startswith("_") else [each for each in modules() if name in vars(each)]
    for each in users:
        setattr(each, name, new)
    try:
        yield {}
    finally:
        for each in users:
            setattr(each, name, old)


def whole(change: Change) -> float | int:
    """The value, as a whole number where the option takes one."""
    kind = next(str(field.type) for field in fields(FusedOptions) if field.name == change.constant)
    return int(change.value) if kind == "int" else change.value


def changes(options: dict[str, Any]) -> list[Change]:
    """All changes, the base first; values that cannot be, or that change nothing, are left out."""
    found = [Change(BASE, "", 0.0)]
    start = FusedOptions(**options)
    for field in fields(FusedOptions):
        if str(field.type) in ("float", "int") and field.name not in FIXED:
            found += variants(field.name, field.name, float(getattr(start, field.name)), OFF.get(field.name))
    for module, name, off in CONSTANTS:
        try:
            value = value_of(module, name)
        except (LookupError, AttributeError):
            print(f"{module}.{name} is not there any more: take it out of CONSTANTS", file=sys.stderr)
            continue
        constant = f"{module}.{name}"
        if isinstance(value, np.ndarray):
            found += [Change(constant, "half", 0.5), Change(constant, "double", 2.0)]
        else:
            found += variants(constant, name, float(value), off)
    return found


def variants(constant: str, name: str, value: float, off: float | None) -> list[Change]:
    """The changes of one constant."""
    doubled = 2 * value
    if name in UNIT:  # what is left to 1 is halved
        doubled = min(doubled, (1 + value) / 2)
    wanted = {"half": value / 2, "double": doubled} | ({} if off is None else {"off": off})
    kind = {field.name: str(field.type) for field in fields(FusedOptions)}.get(constant)
    rounded = {how: float(max(round(each), 1)) if kind == "int" else each for how, each in wanted.items()}
    return [Change(constant, how, each) for how, each in rounded.items() if each != value]


def forgotten() -> list[str]:
    """Numbers of the evidence modules that are in none of the tables."""
    known = {f"{module}.{name.partition('[')[0]}" for module, name, _ in CONSTANTS} | NO_CHOICE
    found = []
    for module in modules():
        short = module.__name__.rpartition(".")[2]
        for node in ast.parse(Path(str(module.__file__)).read_text()).body:
            targets = node.targets if isinstance(node, ast.Assign) else []
            names = [each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)]
            numbers = [f"{short}.{name}" for name in names if name.isupper() and is_number(vars(module)[name])]
            found += [name for name in numbers if name not in known]
    return found


def is_number(value: Any) -> bool:
    """Whether it is a number, or numbers."""
    if isinstance(value, tuple):
        return bool(value) and all(map(is_number, value))
    return isinstance(value, (int, float, np.ndarray)) and not isinstance(value, bool)


def run(task: Task | SceneTask) -> dict[str, dict[str, float]]:
    """IDF1 and HOTA of each run, by its key; of scenes IDF1 alone."""
    if isinstance(task, SceneTask):
        with changed(task.change) as option:
            made = {**dict(task.options), **option}
            return {
                scene_key(task.change, task.kind, number): {
                    "idf1": bench_situations.run(bench_situations.Task(task.kind, number, ("ours",), made))[0]["idf1"]
                }
                for number in task.numbers
            }
    boxes = task.clip.get()
    found = {}
    with changed(task.change) as option:
        for stride, number in task.runs:
            copy = copy_of(task.clip, number)
            appearance = {} if task.mode == LOOKS else {"use_appearance": False}
            update = Ours(boxes.fps, boxes.size, task.prior, {**dict(task.options), **option, **appearance})
            rows = []
            pictures = thumbnails(task.clip, number) if task.mode == LOOKS else {}
            for at in range(1, boxes.length + 1, stride):
                seen = copy.frame(at)._replace(thumbnail=pictures.get(at))
                rows.append((at, update(seen), seen.boxes))
            idf1, hota = idf1_and_hota(truth(boxes.clip, stride), tracks_of(rows), task.hota)
            found[key_of(task.change, task.mode, boxes, stride, number)] = {"idf1": idf1, "hota": hota}
    return found


@cache
def copy_of(clip: Loaded, number: int) -> ClipBoxes:
    """A perturbed copy; made once in a process."""
    return draw(clip.get(), number)


truth = cache(truth_of)


def key_of(change: Change, mode: str, boxes: ClipBoxes | Loaded, stride: int, number: int) -> str:
    """The name of a run in the file."""
    name = boxes.clip.name
    value = "" if change.constant == BASE else f"{change.value:g}"
    return "|".join([change.constant, change.how, value, mode, boxes.kind, str(stride), name, str(number)])


def scene_key(change: Change, kind: str, number: int) -> str:
    """The name of a run on a scene in the file."""
    value = "" if change.constant == BASE else f"{change.value:g}"
    return "|".join([change.constant, change.how, value, SCENES, kind, str(number)])


def engine_digest() -> str:
    """Of the sources that the scores depend on, and of the shipped prior's and the clip tools' too."""
    sources = sorted(Path(masa_track.association.__path__[0]).rglob("*.py"))
    sources += [
        Path(masa_track.__path__[0]) / "boxes.py",
        *(Path(__file__).with_name(f"{name}.py") for name in ("clip_boxes", "bench_situations")),
    ]
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()[:16]


class Results:
    """The scores in a JSON file, written beside its place and renamed.

    Args:
        path: of the file.
        made_of: what all scores in it share; a file that was made of something else is refused.

    Raises:
        InputError: the file is of another engine or other options, or is no such file.
    """

    def __init__(self, path: Path, made_of: dict[str, Any]) -> None:
        self.path, self.made_of = path, json.loads(json.dumps(made_of))
        self.scores: dict[str, dict[str, float]] = {}
        self._written = time.monotonic()
        if path.exists():
            try:
                content = json.loads(path.read_text())
                made, self.scores = content["made_of"], content["scores"]
            except (ValueError, LookupError, TypeError) as error:
                raise InputError(f"--out {path} is no file of this tool: name another one") from error
            different = sorted(name for name in self.made_of if made.get(name) != self.made_of[name])
            if different:
                raise InputError(f"--out {path} was made with another {', '.join(different)}: name another file")

    def add(self, scores: dict[str, dict[str, float]], every: float = 10.0) -> None:
        """Adds scores, and writes the file if the last time is ``every`` seconds ago."""
        self.scores.update(scores)
        if time.monotonic() - self._written >= every:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            part = self.path.with_name(f"{self.path.name}.part")
            part.write_text(json.dumps({"made_of": self.made_of, "scores": self.scores}) + "\n")
            part.replace(self.path)
            self._written = time.monotonic()


def differences(
    scores: dict[str, dict[str, float]], change: Change, mode: str, clips: Sequence[Loaded], runs: Sequence[Any]
) -> dict[str, dict[str, float]]:
    """By score and clip, the mean difference to the base over kinds of boxes, strides and copies.

    Args:
        scores: of all runs.
        change: against the base.
        mode: with or without appearance.
        clips: with each kind of boxes.
        runs: stride and number of the copy.
    """
    found: dict[str, dict[str, list[float]]] = {"idf1": {}, "hota": {}}
    for clip in clips:
        for stride, number in runs_of(clip, runs):
            new, old = (scores.get(key_of(each, mode, clip, stride, number)) for each in (change, Change(BASE, "", 0)))
            if new is not None and old is not None:
                for score, by_clip in found.items():
                    by_clip.setdefault(clip.clip.name, []).append(new[score] - old[score])
    return {score: {clip: float(np.mean(each)) for clip, each in by.items()} for score, by in found.items()}


def runs_of(clip: Loaded, runs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The runs of a clip: the collage is made for every frame only."""
    return sorted({(1 if clip.clip.name == "collage_dev" else stride, number) for stride, number in runs})


def row_of(head: str, by_score: dict[str, dict[str, float]]) -> str:
    """A row of the first table: mean, standard error, worst and best clip of each score."""
    cells = []
    for score in ("idf1", "hota"):
        by_clip = by_score[score]
        values = np.array(list(by_clip.values()))
        if np.isnan(values).any():
            cells += ["", "", ""]
            continue
        worst, best = (choose(by_clip, key=by_clip.__getitem__) for choose in (min, max))
        error = f"±{values.std(ddof=1) / np.sqrt(len(values)):.4f}" if len(values) > 1 else ""
        cells += [f"{values.mean():+.4f}{error}", *(f"{by_clip[name]:+.3f} {name}" for name in (worst, best))]
    return f"| {head} | {' | '.join(cells)} |"


def left_out(by_change: dict[str, dict[str, float]]) -> tuple[dict[str, int], float, float]:
    """Which change of one constant is chosen without each clip, and what the choice makes on that clip.

    Args:
        by_change: IDF1 differences by change and clip; those of the base are all 0.

    Returns:
        How often each change is chosen, and the mean difference on the clips left out, with its standard error.
    """
    clips = list(next(iter(by_change.values())))
    chosen: dict[str, int] = {}
    gains = []
    for clip in clips:
        means = {
            change: float(np.mean([value for name, value in of.items() if name != clip] or [0.0]))
            for change, of in by_change.items()
        }
        best = max(means, key=means.__getitem__)
        chosen[best] = chosen.get(best, 0) + 1
        gains.append(by_change[best][clip])
    error = np.std(gains, ddof=1) / np.sqrt(len(gains)) if len(gains) > 1 else 0.0
    return chosen, float(np.mean(gains)), float(error)


def tables(
    scores: dict[str, dict[str, float]],
    every: Sequence[Change],
    mode: str,
    clips: Sequence[Loaded],
    runs: Sequence[tuple[int, int]],
) -> list[str]:
    """The two tables of a mode, as lines of Markdown."""
    heads = [f"{score}, worst, best".replace(", ", f" | {score} ") for score in ("IDF1", "HOTA")]
    lines = [f"| {mode} | value | {' | '.join(heads)} |", f"|---|---|{'---|' * 6}"]
    by_constant: dict[str, dict[str, dict[str, float]]] = {}
    for change in every:
        if change.constant == BASE:
            continue
        by_score = differences(scores, change, mode, clips, runs)
        if by_score["idf1"]:
            lines.append(row_of(f"{change} | {change.value:g}", by_score))
            of = by_constant.setdefault(change.constant, {BASE: dict.fromkeys(by_score["idf1"], 0.0)})
            of[f"{change.how} ({change.value:g})"] = by_score["idf1"]
    lines += ["", f"| {mode} | chosen without one clip | IDF1 on the clip left out |", "|---|---|---|"]
    for constant, by_change in by_constant.items():
        chosen, gain, error = left_out(by_change)
        names = ", ".join(f"{name} {count}x" for name, count in sorted(chosen.items(), key=lambda each: -each[1]))
        lines.append(f"| {constant} | {names} | {gain:+.4f}±{error:.4f} |")
    return [*lines, ""]


def scene_table(scores: dict[str, dict[str, float]], every: Sequence[Change], count: int) -> list[str]:
    """Mean differences of IDF1 on ``count`` scenes of each kind, as lines of Markdown."""
    kinds = list(bench_situations.KINDS)
    lines = [f"| scenes | value | {' | '.join(kinds)} |", f"|---|---|{'---|' * len(kinds)}"]
    for change in every:
        found = [scene_difference(scores, change, kind, count) for kind in kinds]
        cells = ["" if value is None else f"{value:+.4f}" for value in found]
        if change.constant != BASE and any(cells):
            lines.append(f"| {change} | {change.value:g} | {' | '.join(cells)} |")
    return [*lines, ""]


def brief_table(
    scores: dict[str, dict[str, float]],
    every: Sequence[Change],
    clips: Sequence[Loaded],
    runs: Sequence[tuple[int, int]],
    scenes: int,
) -> list[str]:
    """A row for each constant, a cell for each value: mean differences of IDF1, as lines of Markdown.

    A cell has the value, then the differences on the clips by motion alone and with appearance, then those on the kinds
    of scenes where they are not 0.
    """
    lines = ["| constant | off | half | double |", "|---|---|---|---|"]
    by_constant: dict[str, dict[str, str]] = {}
    for change in every:
        if change.constant == BASE:
            continue
        cells = []
        for mode in (MOTION, LOOKS):
            found = differences(scores, change, mode, clips, runs)["idf1"]
            cells.append(signed(float(np.mean(list(found.values())))) if found else "-")
        by_kind = {kind: scene_difference(scores, change, kind, scenes) for kind in bench_situations.KINDS}
        moved = [
            f"{kind} {signed(value)}" for kind, value in by_kind.items() if value is not None and signed(value) != "0"
        ]
        text = f"{change.value:g}: {' / '.join(cells)}{'; ' if moved else ''}{', '.join(moved)}"
        by_constant.setdefault(change.constant, {})[change.how] = text
    for constant, values in by_constant.items():
        lines.append(f"| `{constant}` | {' | '.join(values.get(how, '') for how in ('off', 'half', 'double'))} |")
    return [*lines, ""]


def signed(value: float) -> str:
    """A difference in three digits, ``0`` where they are 0."""
    return "0" if abs(value) < 0.0005 else f"{value:+.3f}".replace("0.", ".", 1)


def scene_difference(scores: dict[str, dict[str, float]], change: Change, kind: str, count: int) -> float | None:
    """Mean difference of IDF1 on the first ``count`` scenes of a kind; None: none was run."""
    found = []
    for number in range(FIRST_SCENE, FIRST_SCENE + count):
        new, old = (scores.get(scene_key(each, kind, number)) for each in (change, Change(BASE, "", 0)))
        if new is not None and old is not None:
            found.append(new["idf1"] - old["idf1"])
    return float(np.mean(found)) if found else None


def tasks_of(
    every: Sequence[Change],
    modes: Sequence[str],
    clips: Sequence[Loaded],
    runs: Sequence[tuple[int, int]],
    results: Results,
    looks: Looks,
    options: dict[str, Any],
    hota: bool,
) -> list[Task]:
    """What is not in the file yet, the base first."""
    tasks = []
    for change in every:
        for mode in modes:
            if mode == MOTION and {change.constant, change.constant.partition(".")[0]} & OF_APPEARANCE:
                continue
            for clip in clips:
                if mode == LOOKS and video_of(clip.clip) is None:
                    continue
                missing = tuple(
                    each
                    for each in runs_of(clip, runs)
                    if (known := results.scores.get(key_of(change, mode, clip, *each))) is None
                    or (hota and np.isnan(known["hota"]))
                )
                if missing:
                    used = clip if mode == LOOKS else clip._replace(model="none")
                    tasks.append(Task(change, mode, used, missing, looks.prior, tuple(options.items()), hota))
    return tasks


def main() -> None:
    """Runs what is missing, and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, help="folder with mot15/, mot15_gt_only/, moving/ and collage_dev/")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these clips alone")
    parser.add_argument("--constants", nargs="+", metavar="NAME", help="these alone, as they stand in the first column")
    parser.add_argument("--boxes", nargs="+", choices=KINDS, default=list(KINDS), help="default: all")
    parser.add_argument("--strides", type=int, nargs="+", default=[1, 5, 10], metavar="N")
    parser.add_argument("--draws", type=int, default=2, metavar="N", help="perturbed copies (default: %(default)s)")
    parser.add_argument("--modes", nargs="+", choices=(MOTION, LOOKS), default=[MOTION, LOOKS], help="default: both")
    parser.add_argument("--scenes", type=int, default=6, metavar="N", help="of each kind (default: %(default)s)")
    parser.add_argument("--brief", action="store_true", help="print a row for each constant, without worst and best")
    parser.add_argument("--no-hota", action="store_true", help="IDF1 only, a little faster")
    parser.add_argument("--model", default="nano", metavar="NAME", help="default: %(default)s")
    parser.add_argument("--checkpoint", metavar="FILE", help="other weights for the model")
    parser.add_argument("--cache", type=Path, default=CACHE, metavar="DIR", help="of embeddings (default: %(default)s)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="OPTION=VALUE", help="change an option of the base"
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/ablate.json"), metavar="FILE", help="default: %(default)s"
    )
    args = parser.parse_args()
    from tqdm import tqdm

    from masa_track.cli.track import parse_options

    options = parse_options(args.set)
    every = changes(options)
    for name in forgotten():
        print(f"{name} is in no table of this tool: add it to CONSTANTS or NO_CHOICE", file=sys.stderr)
    if args.constants:
        unknown = sorted(set(args.constants) - {change.constant for change in every})
        if unknown:
            raise InputError(f"--constants must be options of FusedOptions or MODULE.NAME, got {', '.join(unknown)}")
        every = [change for change in every if change.constant in (BASE, *args.constants)]
    clips = [
        Loaded(clip, kind, args.model, args.checkpoint, args.cache)
        for clip in benchmark_clips(args.clips, args.only)
        for kind in args.boxes
        if has_kind(clip, kind)
    ]
    looks = Looks(args.model, args.checkpoint, args.cache)
    if LOOKS in args.modes:
        for clip in clips:
            looks.of(read_boxes(clip.clip, clip.kind))  # computed once, before several processes want it
    made_of = {"engine": engine_digest(), "options": options, "model": args.model, "checkpoint": args.checkpoint}
    results = Results(args.out, made_of)
    runs = [(stride, number) for stride in args.strides for number in range(1, args.draws + 1)]
    tasks: list[Task | SceneTask] = [
        *tasks_of(every, args.modes, clips, runs, results, looks, options, not args.no_hota)
    ]
    numbers = range(FIRST_SCENE, FIRST_SCENE + args.scenes)
    for change in every:
        for kind in bench_situations.KINDS:
            missing = tuple(each for each in numbers if scene_key(change, kind, each) not in results.scores)
            if missing:
                tasks.append(SceneTask(change, kind, missing, tuple(options.items())))
    for _, scores in tqdm(in_processes(args.jobs, run, tasks), total=len(tasks), unit=" runs", disable=None):
        results.add(scores)
    results.add({}, every=0)
    if args.brief:
        print("\n".join(brief_table(results.scores, every, clips, runs, args.scenes)))
        return
    for mode in args.modes:
        used = [clip for clip in clips if mode == MOTION or video_of(clip.clip) is not None]
        print("\n".join(tables(results.scores, every, mode, used, runs)))
    if args.scenes:
        print("\n".join(scene_table(results.scores, every, args.scenes)))


if __name__ == "__main__":
    main()
