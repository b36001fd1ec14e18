"""Panoptic quality of pictures (PQ) and videos (VPQ), segmentation and tracking quality (STQ), and mean IoU of classes.

Sources: PQ: Kirillov et al., Panoptic Segmentation, CVPR 2019. VPQ: Kim et al., Video Panoptic Segmentation, CVPR 2020.
STQ: Weber et al., STEP, NeurIPS 2021.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from masa_track.errors import InputError
from masa_track.formats.panoptic import Segment

WINDOWS = (1, 2, 3, 4)  # frames, of VPQ
_MOST_IGNORED = 0.5  # of a prediction on void and crowd of its class, from which it is no false positive


@dataclass(frozen=True)
class SegmentedFrame:
    """One frame: (H, W) int numbers of the segments, 0 for void, and the segments by number."""

    numbers: np.ndarray
    segments: Mapping[int, Segment]


@dataclass
class ClassTally:
    """Counts of one class: sum of the IoU of matches, matches, false positives and misses."""

    iou: float = 0.0
    tp: int = 0
    fp: int = 0
    fn: int = 0

    @property
    def counted(self) -> bool:
        """Whether the class occurs."""
        return self.tp + self.fp + self.fn > 0

    @property
    def sq(self) -> float:
        """Segmentation quality: the mean IoU of matches."""
        return self.iou / self.tp if self.tp else 0.0

    @property
    def rq(self) -> float:
        """Recognition quality: F1 of segments."""
        return self.tp / (self.tp + 0.5 * self.fp + 0.5 * self.fn) if self.counted else 0.0

    @property
    def pq(self) -> float:
        """Panoptic quality: SQ times RQ."""
        return self.sq * self.rq


@dataclass
class PanopticTally:
    """Counts of all classes."""

    classes: dict[int, ClassTally] = field(default_factory=dict)

    def of(self, label: int) -> ClassTally:
        """The counts of a class."""
        return self.classes.setdefault(label, ClassTally())

    def mean(self, labels: Iterable[int] | None = None) -> tuple[float, float, float]:
        """PQ, SQ and RQ, the means over those of the classes that occur; NaN without any. None: all classes."""
        wanted = None if labels is None else set(labels)
        used = [one for label, one in self.classes.items() if one.counted and (wanted is None or label in wanted)]
        if not used:
            return math.nan, math.nan, math.nan
        return tuple(float(np.mean([getattr(one, name) for one in used])) for name in ("pq", "sq", "rq"))  # type: ignore


Key = tuple[int, bool, int]  # of a tube: class, crowd, number; void is (-1, False, 0)
_VOID: Key = (-1, False, 0)
Shared = Mapping[tuple[Key, Key], int]  # pixels of pairs of a true and a found tube


def shared_pixels(truth: SegmentedFrame, found: SegmentedFrame) -> Shared:
    """Pixels of each pair of a true and a found segment of a frame, void included: all that the scores need of it.

    Raises:
        InputError: the sizes differ.
    """
    if truth.numbers.shape != found.numbers.shape:
        raise InputError(
            f"pictures of segments must be of one size, got {truth.numbers.shape[::-1]} for the truth and "
            f"{found.numbers.shape[::-1]}"
        )
    pairs = truth.numbers.astype(np.int64) << 32 | found.numbers.astype(np.int64)
    values, counts = np.unique(pairs, return_counts=True)
    shared = {}
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        shared[_key(truth.segments, value >> 32), _key(found.segments, value & 0xFFFFFFFF)] = count
    return shared


def _key(segments: Mapping[int, Segment], number: int) -> Key:
    if not number:
        return _VOID
    if number not in segments:
        raise InputError(f"a picture has segment {number}, which has no class: name it in segments_info")
    return segments[number].label, segments[number].crowd, number


def tally_tubes(shared: Shared, tally: PanopticTally) -> None:
    """Adds the matches of true and found tubes to a tally.

    A pair of one class matches if its IoU is above 1/2, where void under the found tube is not in the union. A crowd is
    neither matched nor missed. A found tube that lies by more than a half on void and on crowds of its class is no
    false positive.

    Args:
        shared: pixels by pair of tubes.
        tally: is added to.
    """
    true_area: dict[Key, int] = {}
    found_area: dict[Key, int] = {}
    for (true, found), pixels in shared.items():
        true_area[true] = true_area.get(true, 0) + pixels
        found_area[found] = found_area.get(found, 0) + pixels
    matched: set[Key] = set()
    met: set[Key] = set()
    for (true, found), pixels in shared.items():
        if true == _VOID or found == _VOID or true[1] or true[0] != found[0]:
            continue
        union = true_area[true] + found_area[found] - pixels - shared.get((_VOID, found), 0)
        if pixels / union > 0.5:
            tally.of(true[0]).iou += pixels / union
            tally.of(true[0]).tp += 1
            matched.add(true)
            met.add(found)
    for true in true_area.keys() - matched:
        if true != _VOID and not true[1]:
            tally.of(true[0]).fn += 1
    for found in found_area.keys() - met:
        if found == _VOID:
            continue
        ignored = shared.get((_VOID, found), 0)
        ignored += sum(shared.get((true, found), 0) for true in true_area if true[1] and true[0] == found[0])
        if ignored / found_area[found] <= _MOST_IGNORED:
            tally.of(found[0]).fp += 1


def panoptic_quality(frames: Sequence[Shared], window: int = 1, tally: PanopticTally | None = None) -> PanopticTally:
    """VPQ of one window: each ``window`` successive frames are one tube a segment; PQ of the frames with 1.

    Args:
        frames: of a video, see :func:`shared_pixels`.
        window: frames, 1 or more. A shorter video has no tube.
        tally: of other videos, to add to.

    Raises:
        InputError: the window is not 1 or more.
    """
    if window < 1:
        raise InputError(f"window must be 1 or more frames, got {window}")
    tally = PanopticTally() if tally is None else tally
    for start in range(len(frames) - window + 1):
        tubes: dict[tuple[Key, Key], int] = {}
        for frame in frames[start : start + window]:
            for pair, pixels in frame.items():
                tubes[pair] = tubes.get(pair, 0) + pixels
        tally_tubes(tubes, tally)
    return tally


@dataclass
class Confusion:
    """Pixels by true and found class, of all frames that were added.

    Attributes:
        labels: the classes that count, ascending; other found classes and void count as found void.
    """

    labels: tuple[int, ...]

    def __post_init__(self) -> None:
        self.pixels = np.zeros((len(self.labels), len(self.labels) + 1), np.int64)  # the last column is found void

    def add(self, truth: np.ndarray, found: np.ndarray) -> None:
        """Adds (H, W) class numbers; pixels whose true class is none of ``labels`` are left out."""
        if truth.shape != found.shape:
            raise InputError(f"maps must be of one size, got {truth.shape[::-1]} for the truth and {found.shape[::-1]}")
        known = np.array(self.labels)
        count = len(known)
        if not count:
            return
        rows = np.searchsorted(known, truth).clip(max=count - 1)
        columns = np.searchsorted(known, found).clip(max=count - 1)
        columns = np.where(known[columns] == found, columns, count)
        counted = known[rows] == truth
        pairs = rows[counted] * (count + 1) + columns[counted]
        self.pixels += np.bincount(pairs, minlength=self.pixels.size).reshape(self.pixels.shape)

    def add_pixels(self, true: int, found: int, pixels: int) -> None:
        """Adds pixels of one true and one found class, as :meth:`add`."""
        if true in self.labels:
            column = self.labels.index(found) if found in self.labels else len(self.labels)
            self.pixels[self.labels.index(true), column] += pixels

    def ious(self) -> np.ndarray:
        """(C,) intersection over union of the classes; NaN for one that is in neither."""
        hits = np.diagonal(self.pixels).astype(np.float64)
        union = self.pixels.sum(axis=1) + self.pixels[:, :-1].sum(axis=0) - hits
        return np.divide(hits, union, out=np.full(len(hits), np.nan), where=union > 0)

    def mean_iou(self, with_void: bool = False) -> float:
        """The mean over classes that occur.

        Args:
            with_void: as STQ has it: found void counts as one further class with an IoU of 0, where it occurs.
        """
        ious = self.ious()
        ious = ious[~np.isnan(ious)]
        count = len(ious) + int(with_void and self.pixels[:, -1].any())
        return float(ious.sum() / count) if count else math.nan

    def frequency_weighted(self) -> float:
        """The mean over classes, weighted by their true pixels."""
        weights = self.pixels.sum(axis=1).astype(np.float64)
        used = weights > 0
        return float((self.ious()[used] * weights[used]).sum() / weights.sum()) if used.any() else math.nan


@dataclass(frozen=True)
class StqResult:
    """STQ and its two parts: association quality of things, and mean IoU of classes. NaN where there is nothing."""

    stq: float
    aq: float
    sq: float


class StqTally:
    """Collects videos for STQ = sqrt(AQ x SQ).

    AQ is the mean over true tubes g of things, crowds left out, of the sum over found tubes p of things of
    |g and p|^2 / |g or p|, over |g|; the class of p is not asked. SQ is the mean IoU of classes over all frames; void
    in the truth is left out, and found void counts as a class.

    Args:
        labels: all classes.
        things: those that are things.
    """

    def __init__(self, labels: Iterable[int], things: Iterable[int]) -> None:
        self._things = frozenset(things)
        self.confusion = Confusion(tuple(sorted(set(labels))))
        self._association: list[float] = []  # of each true tube

    def add(self, frames: Iterable[Shared]) -> None:
        """Adds a video, see :func:`shared_pixels`."""
        true_area: dict[Key, int] = {}
        found_area: dict[Key, int] = {}
        both: dict[tuple[Key, Key], int] = {}
        for frame in frames:
            for (true, other), pixels in frame.items():
                self.confusion.add_pixels(true[0], other[0], pixels)
                if true[1]:  # a crowd
                    continue
                is_true, is_found = true[0] in self._things, other[0] in self._things
                if is_true:
                    true_area[true] = true_area.get(true, 0) + pixels
                if is_found:
                    found_area[other] = found_area.get(other, 0) + pixels
                if is_true and is_found:
                    both[true, other] = both.get((true, other), 0) + pixels
        sums = dict.fromkeys(true_area, 0.0)
        for (true, other), pixels in both.items():
            sums[true] += pixels * pixels / (true_area[true] + found_area[other] - pixels)
        self._association += [total / true_area[true] for true, total in sums.items()]

    def result(self) -> StqResult:
        """The scores of all videos so far."""
        aq = float(np.mean(self._association)) if self._association else math.nan
        sq = self.confusion.mean_iou(with_void=True)
        return StqResult(math.sqrt(aq * sq), aq, sq)
