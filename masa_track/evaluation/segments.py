"""Scores of panoptic maps, label maps and parts, of files: the tables of ``eval --metrics panoptic`` and ``parts``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from masa_track.errors import InputError, unknown_name
from masa_track.evaluation.panoptic import (
    WINDOWS,
    Confusion,
    PanopticTally,
    SegmentedFrame,
    StqResult,
    StqTally,
    panoptic_quality,
    shared_pixels,
)
from masa_track.evaluation.parts import PartScores, frames_of, score_parts
from masa_track.evaluation.table import aligned
from masa_track.formats.panoptic import JSON_NAME, PanopticFrame, PanopticMaps, Segment, read_label_map, read_panoptic
from masa_track.formats.run import read_run

_VOID = 255  # of label maps, the value that data sets give to pixels without a class


@dataclass(frozen=True)
class SegmentScores:
    """Scores of panoptic maps, or of label maps, which have mIoU alone.

    Attributes:
        class_names: by class number, of the truth.
        things: numbers of the classes that are things.
        windows: tallies of VPQ by frames of the window; that of 1 is PQ. Empty for label maps.
        stq: of the videos; None where there are only single pictures.
        confusion: of classes.
        frames: scored.
        notes: for the user.
    """

    class_names: Mapping[int, str]
    things: frozenset[int]
    windows: Mapping[int, PanopticTally]
    stq: StqResult | None
    confusion: Confusion
    frames: int
    notes: tuple[str, ...] = ()

    @property
    def vpq(self) -> float:
        """The mean of PQ over the windows; NaN for single pictures."""
        return float(np.mean([one.mean()[0] for one in self.windows.values()])) if self.stq is not None else math.nan

    def as_dict(self) -> dict[str, Any]:
        """All scores, for JSON; None for one that is not defined."""
        ious = dict(zip(self.confusion.labels, self.confusion.ious().tolist(), strict=True))
        classes = {
            self.class_names[label]: {"iou": _plain(ious[label]), **self._of_class(label)}
            for label in self.confusion.labels
        }
        kinds = {"all": None, "things": self.things, "stuff": set(self.class_names) - self.things}
        quality = {
            f"pq_{window}": {
                kind: dict(zip(("pq", "sq", "rq"), map(_plain, tally.mean(labels)), strict=True))
                for kind, labels in kinds.items()
            }
            for window, tally in self.windows.items()
        }
        stq = {} if self.stq is None else {name: _plain(getattr(self.stq, name)) for name in ("stq", "aq", "sq")}
        scores = {"miou": _plain(self.confusion.mean_iou()), "vpq": _plain(self.vpq), **quality, "stq": stq}
        return {**scores, "frames": self.frames, "classes": classes}

    def _of_class(self, label: int) -> dict[str, Any]:
        counts: dict[str, Any] = {}
        for window, tally in self.windows.items():
            one = tally.of(label)
            key = "pq" if window == 1 else f"pq_{window}"
            counts[key] = one.pq if one.counted else None
            if window == 1:
                counts |= {"sq": one.sq, "rq": one.rq, "tp": one.tp, "fp": one.fp, "fn": one.fn}
        return counts

    def table(self, per_class: bool = False) -> str:
        """The scores in percent: one row for all, things and stuff; with ``per_class`` also a row a class."""
        if not self.windows:
            rows = [["mIoU", "frames"], [_percent(self.confusion.mean_iou()), str(self.frames)]]
        else:
            video = self.stq is not None
            rows = [["classes", "PQ", "SQ", "RQ", *(["VPQ"] if video else [])]]
            kinds = {"all": None, "things": self.things, "stuff": set(self.class_names) - self.things}
            for kind, labels in kinds.items():
                vpq = [float(np.mean([one.mean(labels)[0] for one in self.windows.values()]))] if video else []
                rows.append([kind, *map(_percent, (*self.windows[1].mean(labels), *vpq))])
        parts = ["\n".join(aligned(rows))]
        if self.windows:
            named = {"mIoU": self.confusion.mean_iou()}
            if self.stq is not None:
                named |= {"STQ": self.stq.stq, "AQ": self.stq.aq, "SQ": self.stq.sq}
            facts = [f"{name} {_percent(value)}" for name, value in named.items()]
            if self.stq is not None:
                facts.append(f"VPQ over windows of {', '.join(map(str, self.windows))} frames")
            parts.append(", ".join([*facts, f"{self.frames} frames"]))
        if per_class:
            head = ["class", "IoU", *(["PQ", "SQ", "RQ", "TP", "FP", "FN"] if self.windows else [])]
            rows = [head]
            for label, iou in zip(self.confusion.labels, self.confusion.ious().tolist(), strict=True):
                one = self.windows[1].of(label) if self.windows else None
                if math.isnan(iou) and (one is None or not one.counted):
                    continue
                cells = ["_".join(self.class_names[label].split()), _percent(iou)]
                if one is not None:
                    cells += [*map(_percent, (one.pq, one.sq, one.rq)), *map(str, (one.tp, one.fp, one.fn))]
                rows.append(cells)
            parts.append("\n".join(aligned(rows)))
        return "\n\n".join(parts)


def evaluate_panoptic(
    gt: str | Path, tracks: str | Path, sequences: Sequence[str] | None = None, windows: Sequence[int] = WINDOWS
) -> SegmentScores:
    """Scores panoptic maps, or label maps.

    Args:
        gt: the truth: json of panoptic maps, a folder with ``panoptic.json``, or a folder of label maps, or of folders
            of them.
        tracks: to be scored, of the same kind.
        sequences: names of the videos that are scored; None: all of the truth.
        windows: frames, of VPQ.

    Raises:
        InputError: a file cannot be read or has another form, a frame of the truth is missing, sizes differ, or no
            class has the same name in both.
    """
    gt, tracks = Path(gt), Path(tracks)
    if gt.is_dir() and not (gt / JSON_NAME).is_file():
        return _label_maps(gt, tracks, sequences)
    truth, found = read_panoptic(gt), read_panoptic(tracks)
    number_of = {name: number for number, name in truth.class_names.items()}
    label_of = {label: number_of[name] for label, name in found.class_names.items() if name in number_of}
    if not label_of:
        raise InputError(
            f"TRACKS {tracks} and GT {gt} must have class names in common, got {_listed(found.class_names)} and "
            f"{_listed(truth.class_names)}: rename the categories of one"
        )
    labels = sorted(truth.class_names)
    tallies = {window: PanopticTally() for window in windows}
    stq, count = StqTally(labels, truth.things), 0
    is_video = any(len(frames) > 1 for frames in truth.videos.values())
    for video, frames in _videos(truth, sequences).items():
        pairs = _paired(video, frames, truth, found, tracks)
        shared = [shared_pixels(SegmentedFrame(a.numbers(), a.segments), _relabelled(b, label_of)) for a, b in pairs]
        for window, tally in tallies.items():
            panoptic_quality(shared, window, tally)
        stq.add(shared)
        count += len(shared)
    left = [name for label, name in found.class_names.items() if label not in label_of]
    notes = (f"note: classes of TRACKS that GT does not have count as void: {', '.join(left)}",) if left else ()
    return SegmentScores(
        truth.class_names, truth.things, tallies, stq.result() if is_video else None, stq.confusion, count, notes
    )


def _videos(truth: PanopticMaps, sequences: Sequence[str] | None) -> Mapping[str, Sequence[PanopticFrame]]:
    for name in sequences or ():
        if name not in truth.videos:
            raise unknown_name("sequence in --sequences", name, truth.videos)
    return {name: frames for name, frames in truth.videos.items() if sequences is None or name in sequences}


def _paired(
    video: str, frames: Sequence[PanopticFrame], truth: PanopticMaps, found: PanopticMaps, path: Path
) -> list[tuple[PanopticFrame, PanopticFrame]]:
    """The frames of a true video, each with the found one of its name; or all in their order, if as many."""
    if video in found.videos:
        own = found.videos[video]
    elif len(truth.videos) == len(found.videos) == 1:
        own = next(iter(found.videos.values()))
    else:
        raise InputError(f"TRACKS {path} has no video called {video!r}, which GT has: make all videos")
    by_name = {frame.name: frame for frame in own}
    named = [by_name.get(frame.name) for frame in frames]
    if not any(named) and len(own) == len(frames):
        return list(zip(frames, own, strict=True))
    pairs = []
    for frame, other in zip(frames, named, strict=True):
        if other is None:
            raise InputError(f"TRACKS {path} has no frame {frame.name!r} of {video!r}, which GT has: make all frames")
        pairs.append((frame, other))
    return pairs


def _relabelled(frame: PanopticFrame, label_of: Mapping[int, int]) -> SegmentedFrame:
    """With the class numbers of the truth; segments of other classes are void."""
    numbers = frame.numbers()
    kept = {
        number: Segment(label_of[one.label], one.crowd, one.identity)
        for number, one in frame.segments.items()
        if one.label in label_of
    }
    return SegmentedFrame(np.where(np.isin(numbers, list(kept)), numbers, 0), kept)


def _label_maps(gt: Path, tracks: Path, sequences: Sequence[str] | None) -> SegmentScores:
    pairs = list(_label_files(gt, tracks, sequences))
    maps = [(read_label_map(a), read_label_map(b)) for a, b in pairs]
    labels = sorted({int(n) for truth, _ in maps for n in np.unique(truth)} - {_VOID})
    confusion = Confusion(tuple(labels))
    for (truth, found), (_, place) in zip(maps, pairs, strict=True):
        try:
            confusion.add(truth, found)
        except InputError as error:
            raise InputError(f"{place}: {error}") from error
    return SegmentScores({n: f"class {n}" for n in labels}, frozenset(), {}, None, confusion, len(pairs))


def _label_files(gt: Path, tracks: Path, sequences: Sequence[str] | None) -> Iterator[tuple[Path, Path]]:
    if not tracks.is_dir():
        raise InputError(f"GT {gt} is a folder of label maps, so TRACKS must be one, got {tracks}")
    folders = [Path()] if any(gt.glob("*.png")) else sorted(Path(one.name) for one in gt.iterdir() if one.is_dir())
    for name in sequences or ():
        if Path(name) not in folders:
            raise unknown_name("sequence in --sequences", name, [str(one) for one in folders])
    files = [
        folder / file.name
        for folder in folders
        if sequences is None or str(folder) in sequences
        for file in sorted((gt / folder).glob("*.png"))
    ]
    if not files:
        raise InputError(f"GT {gt} holds neither {JSON_NAME} nor label maps (NAME.png, or SEQUENCE/NAME.png)")
    for file in files:
        if not (tracks / file).is_file():
            raise InputError(f"TRACKS {tracks} has no {file}, which GT {gt} has: make all frames")
        yield gt / file, tracks / file


@dataclass(frozen=True)
class PartEvaluation:
    """Scores of parts: of all, and by class name."""

    every: PartScores
    classes: Mapping[str, PartScores]
    frames: int

    def as_dict(self) -> dict[str, Any]:
        """All scores, for JSON; None for one that is not defined."""
        return {
            **_part_dict(self.every),
            "frames": self.frames,
            "classes": {n: _part_dict(s) for n, s in self.classes.items()},
        }

    def table(self, per_class: bool = False) -> str:
        """A row for all parts; with ``per_class`` also a row a class. AP and consistency in percent."""
        rows = [["part", "AP", "AP50", "parent_right", "matched", "true_boxes", "IDSW", "GT_ids"]]
        for name, one in {"ALL": self.every, **(self.classes if per_class else {})}.items():
            scores = map(_percent, (one.ap, one.ap50, one.consistency))
            counts = map(str, (one.matched, one.truths, one.switches, one.identities))
            rows.append(["_".join(name.split()), *scores, *counts])
        note = f"{self.frames} frames; parent_right: share of matched parts (IoU .5) whose parent is the true one"
        return "\n".join([*aligned(rows), "", note])


def evaluate_parts(gt: str | Path, tracks: str | Path) -> PartEvaluation:
    """Scores the parts of a run.

    Args:
        gt: the truth, in the form of ``tracks.json``: annotations with ``track_id``, and those of parts with ``part``
            and ``parent_id``; or a folder with it. All its frames are scored.
        tracks: a run, or its ``tracks.json``.

    Raises:
        InputError: a file cannot be read, the sizes differ, or the truth has no part.
    """
    truth, run = read_run(gt), read_run(tracks)
    if not any(one.get("part") for one in truth.tree):
        raise InputError(f"GT {gt} has no parts: annotations of parts need the fields part and parent_id")
    if (truth.width, truth.height) != (run.width, run.height):
        raise InputError(
            f"GT and TRACKS must be of one size, got {truth.width}x{truth.height} and {run.width}x{run.height}"
        )
    label_of: dict[str, int] = {}
    numbers = truth.frames.tolist()
    scores = score_parts(frames_of(truth, numbers, label_of), frames_of(run, numbers, label_of))
    name_of = {label: name for name, label in label_of.items()}
    return PartEvaluation(scores[-1], {name_of[n]: s for n, s in scores.items() if n >= 0}, len(numbers))


def _part_dict(one: PartScores) -> dict[str, Any]:
    counts = {name: getattr(one, name) for name in ("truths", "matched", "parents_right", "switches", "identities")}
    return {"ap": _plain(one.ap), "ap50": _plain(one.ap50), "consistency": _plain(one.consistency), **counts}


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.1f}"


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _listed(names: Mapping[int, str]) -> str:
    return ", ".join(list(names.values())[:5])
