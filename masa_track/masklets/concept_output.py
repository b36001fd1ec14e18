"""Frames that wait for the look-ahead, and the masks and boxes that they give."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import supervision as sv

from masa_track.contracts import Frame
from masa_track.masklets.concept_logic import Masklet, Plan
from masa_track.masklets.concept_options import ConceptOptions
from masa_track.masklets.mask_logits import Patch, cropped_masks, owned, scaled_patch
from masa_track.masks import mask_box

PHRASE, PHRASES = "phrase", "phrases"  # in ``data``
PRESENCE, LOCAL_SCORE = "presence", "local_score"
_SAME = 0.7  # IoU of masks of two phrases above which they show one object


@dataclass(frozen=True)
class Shown:
    """A masklet in one frame, as far as it can be said in that frame.

    Attributes:
        identity: of the masklet.
        masklet: its counters, which go on after the frame.
        probability: by which it competes for pixels.
        place: rows and columns of the part of the picture around the mask.
        bits: its pixels there, packed.
        box: (4,) xyxy around the mask, the far edges exclusive.
        local_score: of its detection in this frame; NaN where it has none.
    """

    identity: int
    masklet: Masklet
    probability: float
    place: tuple[slice, slice]
    bits: np.ndarray
    box: np.ndarray
    local_score: float = np.nan

    def patch(self) -> Patch:
        """The mask: 1 on the object, else 0."""
        rows, columns = self.place
        shape = rows.stop - rows.start, columns.stop - columns.start
        bits = np.unpackbits(self.bits, count=shape[0] * shape[1]).reshape(shape)
        return Patch(self.place, bits)


@dataclass
class Waiting:
    """A frame that was not given out.

    Attributes:
        frame: of the source.
        number: as the logic counts.
        size: (width, height) of its picture.
        shown: its masklets, by phrase.
        presence: of each phrase.
        extras: of its result.
        cut: whether it is the first one after a cut.
        ended: identities that end in it.
        again: whether its picture is missing, as the run was resumed after it: the source is to give it again.
    """

    frame: Frame
    number: int
    size: tuple[int, int]
    shown: list[list[Shown]]
    presence: list[float]
    extras: dict[str, Any]
    cut: bool
    ended: list[int]
    again: bool = False


def shown_in(
    plan: Plan,
    masklets: Mapping[int, Masklet],
    size: tuple[int, int],
    local_scores: Mapping[int, float] | None = None,
) -> list[Shown]:
    """The masklets of a plan whose scaled masks are not empty, without those hidden in this frame.

    Args:
        plan: of the frame.
        masklets: the counters by identity.
        size: (width, height) of the picture.
        local_scores: by identity.
    """
    result = []
    for identity, logits in plan.shown.items():
        patch = None if identity in plan.hidden else scaled_patch(logits, size)
        box = None if patch is None else mask_box(patch.logits > 0)
        if patch is None or box is None:
            continue
        rows, columns = patch.place
        box += (columns.start, rows.start, columns.start, rows.start)
        result.append(
            Shown(
                identity,
                masklets[identity],
                plan.probabilities[identity],
                patch.place,
                np.packbits(patch.logits > 0),
                box,
                (local_scores or {}).get(identity, np.nan),
            )
        )
    return result


def visible(shown: Sequence[Shown], number: int, removed: Collection[int], options: ConceptOptions) -> list[Shown]:
    """The masklets of one phrase that a frame gives.

    Args:
        shown: of the frame.
        number: of the frame, as the logic counts.
        removed: identities that were taken back until now.
        options: of the logic.
    """
    return [one for one in shown if one.identity not in removed and _confirmed(one.masklet, number, options)]


def _confirmed(masklet: Masklet, number: int, options: ConceptOptions) -> bool:
    if not options.confirm_frames:
        return True
    sign, latest = (-1 if options.reverse else 1), options.confirm_frames - 1
    return masklet.confirmed is not None and sign * (masklet.confirmed - number) <= latest


def exclusive(kept: Sequence[Shown], size: tuple[int, int]) -> list[Patch]:
    """Masks of one phrase in a picture of ``size`` (width, height) without overlap: 1 on the object, else 0."""
    patches = [one.patch() for one in kept]
    crops = owned(patches, np.array([one.probability for one in kept], np.float32), size)
    return [Patch(patch.place, crop.astype(np.int8)) for patch, crop in zip(patches, crops, strict=True)]


def detections_of(
    phrases: Sequence[str],
    groups: Sequence[Sequence[Shown]],
    presence: Sequence[float],
    size: tuple[int, int],
    identities: Mapping[int, int],
    known: Collection[int] = (),
) -> sv.Detections:
    """The rows of a frame: of each phrase in order, its masklets in order of birth.

    Of two masks of different phrases with an IoU above .7, one is kept, under its phrase: the one whose identity was
    shown before, or else the one with the higher score. ``data["phrases"]`` names both phrases.

    Args:
        phrases: P names.
        groups: the visible masklets of each phrase.
        presence: (P,) of each phrase in this frame.
        size: (width, height).
        identities: the identity of each masklet; those left out have their own number.
        known: identities that were shown before.
    """
    rows: list[tuple[int, Shown, Patch]] = []
    for index, group in enumerate(groups):
        rows += [(index, one, patch) for one, patch in zip(group, exclusive(group, size), strict=True)]
    names = [[phrases[index]] for index, _, _ in rows]
    dropped = set()
    order = [(identities.get(one.identity, one.identity) in known, one.masklet.score) for _, one, _ in rows]
    for worse, better in _doubles(rows, order):
        names[better] += [name for name in names[worse] if name not in names[better]]
        dropped.add(worse)
    rows = [row for place, row in enumerate(rows) if place not in dropped]
    names = [name for place, name in enumerate(names) if place not in dropped]
    data: dict[str, Any] = {
        PHRASE: np.array([phrases[index] for index, _, _ in rows], str),
        PHRASES: np.array([". ".join(name) for name in names], str),
        PRESENCE: np.array([presence[index] for index, _, _ in rows], np.float32),
        LOCAL_SCORE: np.array([one.local_score for _, one, _ in rows], np.float32),
    }
    return sv.Detections(
        xyxy=np.array([one.box for _, one, _ in rows], np.float32).reshape(-1, 4),
        mask=cropped_masks([patch for _, _, patch in rows], size) if rows else None,
        confidence=np.array([one.masklet.score for _, one, _ in rows], np.float32),
        class_id=np.array([index for index, _, _ in rows], np.int64),
        tracker_id=np.array([identities.get(one.identity, one.identity) for _, one, _ in rows], np.int64),
        data=data,
    )


def _doubles(rows: Sequence[tuple[int, Shown, Patch]], order: Sequence[tuple[bool, float]]) -> list[tuple[int, int]]:
    """(worse, better) rows of different phrases that show one object; the better one has the larger ``order``."""
    pairs = []
    for one, (index, _, patch) in enumerate(rows):
        for two in range(one + 1, len(rows)):
            other, _, rival = rows[two]
            if other != index and _patch_iou(patch, rival) > _SAME:
                better = one if order[one] >= order[two] else two
                pairs.append((one + two - better, better))
    return pairs


def _patch_iou(one: Patch, two: Patch) -> float:
    """IoU of two masks."""
    low = [max(a.start, b.start) for a, b in zip(one.place, two.place, strict=True)]
    high = [min(a.stop, b.stop) for a, b in zip(one.place, two.place, strict=True)]
    if high[0] <= low[0] or high[1] <= low[1]:
        return 0.0
    parts = []
    for patch in (one, two):
        first = [side.start for side in patch.place]
        part = tuple(slice(a - at, b - at) for a, b, at in zip(low, high, first, strict=True))
        parts.append(patch.logits[part] > 0)
    shared = int(np.count_nonzero(parts[0] & parts[1]))
    return shared / max(int((one.logits > 0).sum()) + int((two.logits > 0).sum()) - shared, 1)
