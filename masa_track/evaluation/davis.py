"""J, F and J&F of folders of masks, by DAVIS' rules for semi-supervised segmentation.

Source: Pont-Tuset et al., The 2017 DAVIS Challenge on Video Object Segmentation, 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from masa_track.errors import InputError, unknown_name
from masa_track.evaluation.jf import boundary_accuracy, region_similarity
from masa_track.formats.davis import MaskFolder

_RECALL = 0.5  # a frame counts as found above it
_STATISTICS = ("mean", "recall", "decay")


@dataclass(frozen=True)
class ObjectScores:
    """The scores of one object.

    Attributes:
        sequence: its name.
        identity: the object's number.
        j: (T,) region similarity by frame, the first and the last annotated one left out.
        f: (T,) boundary accuracy.
    """

    sequence: str
    identity: int
    j: np.ndarray
    f: np.ndarray


@dataclass(frozen=True)
class MaskEvaluation:
    """The scores of a set: means over its objects.

    Attributes:
        objects: of all sequences.
    """

    objects: list[ObjectScores]

    def statistics(self, measure: str, sequence: str | None = None) -> tuple[float, float, float]:
        """Mean, recall and decay of ``j`` or ``f``, of all objects or of those of one sequence."""
        chosen = [one for one in self.objects if sequence in (None, one.sequence)]
        values = np.array([statistics(getattr(one, measure)) for one in chosen])
        mean, recall, decay = (_mean(column) for column in values.T)
        return mean, recall, decay

    def jf(self, sequence: str | None = None) -> float:
        """J&F: the mean of both means."""
        return (self.statistics("j", sequence)[0] + self.statistics("f", sequence)[0]) / 2

    def as_dict(self) -> dict[str, Any]:
        """All scores, for JSON; None for one that is not defined."""
        names = sorted({one.sequence for one in self.objects})
        return {
            **self._scores(None),
            "sequences": {
                name: {
                    **self._scores(name),
                    "objects": {
                        str(one.identity): {m: _named(statistics(getattr(one, m))) for m in ("j", "f")}
                        for one in self.objects
                        if one.sequence == name
                    },
                }
                for name in names
            },
        }

    def _scores(self, sequence: str | None) -> dict[str, Any]:
        return {"jf": _plain(self.jf(sequence)), **{m: _named(self.statistics(m, sequence)) for m in ("j", "f")}}

    def table(self) -> str:
        """A row a sequence, and one of all where there are several; in percent."""
        names = sorted({one.sequence for one in self.objects})
        head = ["sequence", "J&F", "J", "J_recall", "J_decay", "F", "F_recall", "F_decay", "objects"]
        rows = [head]
        for name in [*names, None] if len(names) > 1 else names:
            values = [self.jf(name), *self.statistics("j", name), *self.statistics("f", name)]
            count = sum(name in (None, one.sequence) for one in self.objects)
            rows.append(["ALL" if name is None else name, *(f"{100 * value:.1f}" for value in values), str(count)])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(
                cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
            )
            for row in rows
        )


def statistics(values: np.ndarray) -> tuple[float, float, float]:
    """Mean, recall (share above 0.5) and decay (mean of the first less that of the last quarter) of (T,) scores.

    Frames that are NaN do not count in means, and are not found. The quarters share their borders, as DAVIS' do.
    """
    values = np.asarray(values, np.float64)
    if not len(values):
        return np.nan, np.nan, np.nan
    borders = np.round(np.linspace(1, len(values), 5) + 1e-10).astype(int) - 1
    quarters = [values[borders[k] : borders[k + 1] + 1] for k in range(4)]
    with np.errstate(invalid="ignore"):
        recall = float(np.mean(values > _RECALL))
    return _mean(values), recall, _mean(quarters[0]) - _mean(quarters[3])


def evaluate_masks(gt: str | Path, masks: str | Path, sequences: Sequence[str] | None = None) -> MaskEvaluation:
    """Scores folders of masks.

    Args:
        gt: the truth, a folder of a sequence (see :class:`~masa_track.formats.davis.MaskFolder`) or of sequences.
        masks: to be scored, a folder of the same form.
        sequences: names of those to be scored; None: all.

    Raises:
        InputError: a sequence or a frame is missing, sizes differ, or there is an object that the truth does not have.
    """
    pairs = sequence_pairs(Path(gt), Path(masks), sequences)
    scores = [one for name, truth, guess in pairs for one in score_sequence(name, truth, guess)]
    if not scores:
        raise InputError(f"GT {gt} has no object in its first picture, so there is nothing to score")
    return MaskEvaluation(scores)


def sequence_pairs(
    gt: Path, masks: Path, sequences: Sequence[str] | None = None
) -> list[tuple[str, MaskFolder, MaskFolder]]:
    """Name, truth and masks of each sequence.

    Raises:
        InputError: there is no sequence, or one of the truth has no masks.
    """
    if not gt.is_dir() or not masks.is_dir():
        raise InputError(f"--metrics jf needs folders of masks, got GT {gt} and TRACKS {masks}")
    if any(gt.glob("*.png")) or (any(gt.glob("*/*.png")) and any(masks.glob("*/*.png")) and _are_objects(gt)):
        return [(gt.resolve().name, MaskFolder(gt), MaskFolder(masks))]
    names = sorted(folder.name for folder in gt.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    if not names:
        raise InputError(f"GT {gt} holds no PNG and no folder of a sequence: check the path")
    for name in sequences or ():
        if name not in names:
            raise unknown_name("sequence in --sequences", name, names)
    names = names if sequences is None else list(sequences)
    missing = [name for name in names if not (masks / name).is_dir()]
    if missing:
        raise InputError(
            f"TRACKS {masks} has no masks of {len(missing)} of {len(names)} sequences: {', '.join(missing[:5])}; "
            "name a folder that has all, or leave these sequences out of GT"
        )
    return [(name, MaskFolder(gt / name), MaskFolder(masks / name)) for name in names]


def _are_objects(folder: Path) -> bool:
    """Whether the folders in it hold one mask a picture, as SA-V has them for objects: numbers of three digits."""
    return all(len(one.name) == 3 and one.name.isdecimal() for one in folder.iterdir() if one.is_dir())


def score_sequence(name: str, truth: MaskFolder, guess: MaskFolder) -> list[ObjectScores]:
    """The scores of each object of one sequence.

    Raises:
        InputError: a frame is missing, sizes differ, or there is an object that the truth does not have.
    """
    objects = truth.objects
    frames: dict[int, list[str]] = {identity: truth.names_of(identity)[1:-1] for identity in objects}
    known = set(guess.names)
    j: dict[int, list[float]] = {identity: [] for identity in objects}
    f: dict[int, list[float]] = {identity: [] for identity in objects}
    for frame in truth.names:
        due = [identity for identity in objects if frame in frames[identity]]
        if not due:
            continue
        if frame not in known:
            raise InputError(f"TRACKS {guess.path} has no {frame}.png, which GT {truth.path} has: make all frames")
        true, found = truth.masks(frame), guess.masks(frame)
        if extra := set(found) - set(objects):
            raise InputError(
                f"TRACKS {guess.path}, {frame}.png: object {min(extra)} is not in the truth, which has {objects}"
            )
        sizes = {mask.shape for mask in (*true.values(), *found.values())}
        if len(sizes) > 1:
            raise InputError(f"TRACKS {guess.path}, {frame}.png must have the size of its truth, got {sorted(sizes)}")
        empty = np.zeros(next(iter(sizes), (1, 1)), bool)
        for identity in due:
            pair = found.get(identity, empty), true.get(identity, empty)
            j[identity].append(region_similarity(*pair))
            f[identity].append(boundary_accuracy(*pair))
    return [ObjectScores(name, identity, np.array(j[identity]), np.array(f[identity])) for identity in objects]


def _mean(values: Sequence[float] | np.ndarray) -> float:
    """Of those that are not NaN; NaN where there is none."""
    known = np.asarray(values, np.float64)
    known = known[~np.isnan(known)]
    return float(known.mean()) if len(known) else float("nan")


def _named(values: Sequence[float]) -> dict[str, float | None]:
    return {name: _plain(value) for name, value in zip(_STATISTICS, values, strict=True)}


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
