"""From the outputs of a network for things and one for stuff to instances, a panoptic map and parts. Numpy only.

Q are queries of a network, T tokens of the caption, C classes, S names of classes (with synonyms), H x W pixels.

Source: Wang et al., HIPIE, NeurIPS 2023, sections 3.5 to 3.8; the numbers are those of the official evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from masa_track.boxes import suppress
from masa_track.errors import InputError

OTHER_KIND = -9999.0  # logit of a class that a network does not look for
TEMPERATURE = 0.06
NMS_IOU = 0.7
MOST_INSTANCES = 100
SEEN_WEIGHT, UNSEEN_WEIGHT = 0.35, 0.7  # of CLIP, for classes that the network was trained on, and for others
CLIP_EXPONENTS = (0.3, 1.7)  # of class probability and IoU, where the class probability comes from CLIP, too
SCORE_THRESHOLD, OVERLAP_THRESHOLD = 0.25, 0.8  # of segments in the panoptic map
LEAST_PART_PIXELS = 100
COVERED = 0.8  # fraction of a segment under parts from which it has no region of its own
# What a part's name also stands for when parts are looked for by name.
WIDER_NAMES = {"head": ("ear", "eye", "nose", "muzzle", "horn"), "nose": ("muzzle",), "muzzle": ("nose",)}


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), without overflow."""
    small = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1, small) / (1 + small)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def class_logits(
    token_logits: np.ndarray,
    tokens_of: Sequence[Sequence[int]],
    reduce: Literal["max", "mean"] = "max",
    wanted: np.ndarray | None = None,
) -> np.ndarray:
    """The logit of each class from those of its tokens.

    Args:
        token_logits: (Q, T).
        tokens_of: for each class the positions of its tokens, see
            :func:`~masa_track.detectors.phrases.phrase_tokens`.
        reduce: over the tokens of a class.
        wanted: (C,) bool, the classes that the network looks for (things, or stuff); the others get -9999. None: all.

    Returns:
        (Q, C).

    Raises:
        InputError: a class has no tokens, a token is outside of the caption, or ``reduce`` is unknown.
    """
    if reduce not in ("max", "mean"):
        raise InputError(f"reduce must be 'max' or 'mean', got {reduce!r}")
    found = np.full((len(token_logits), len(tokens_of)), OTHER_KIND, token_logits.dtype)
    for label, tokens in enumerate(tokens_of):
        if not tokens or min(tokens) < 0 or max(tokens) >= token_logits.shape[1]:
            raise InputError(
                f"tokens_of must have positions in 0..{token_logits.shape[1] - 1} for each class, got "
                f"{list(tokens)} for class {label}: the caption must contain the class"
            )
        if wanted is None or wanted[label]:
            found[:, label] = getattr(token_logits[:, list(tokens)], reduce)(axis=1)
    return found


def class_probabilities(logits: np.ndarray, temperature: float = TEMPERATURE) -> np.ndarray:
    """Softmax over classes of sigmoid(logit) / temperature, (Q, C).

    Classes of the other kind (logit -9999) take part with a sigmoid of 0, so their probability is small, but not 0.
    """
    return softmax(sigmoid(logits) / temperature)


def clip_probabilities(logits: np.ndarray, labels: Sequence[int]) -> np.ndarray:
    """Class probabilities from CLIP's logits of masks for names. The best synonym of a class counts.

    Args:
        logits: (Q, S) cosine times scale.
        labels: (S,) class of each name; classes are 0 to C - 1.

    Returns:
        (Q, C) softmax over the classes; sigmoid where there is only one class.

    Raises:
        InputError: a class has no name.
    """
    of = np.asarray(labels, np.int64)
    count = int(of.max(initial=-1)) + 1
    if of.shape != (logits.shape[1],) or set(of.tolist()) != set(range(count)):
        raise InputError(f"labels must give each of the {logits.shape[1]} names a class from 0 on, got {of.tolist()}")
    best = np.stack([logits[:, of == label].max(axis=1) for label in range(count)], axis=1)
    return sigmoid(best) if count == 1 else softmax(best)


def seen_classes(names: Sequence[Sequence[str]], trained: Sequence[str]) -> np.ndarray:
    """(C,) bool: classes with a name or a synonym that the network was trained on."""
    known = set(trained)
    return np.array([not known.isdisjoint(own) for own in names], bool)


def combine_with_clip(
    probabilities: np.ndarray,
    clip: np.ndarray,
    seen: np.ndarray,
    seen_weight: float = SEEN_WEIGHT,
    unseen_weight: float = UNSEEN_WEIGHT,
    rule: Literal["product", "sum"] = "product",
) -> np.ndarray:
    """Logarithm of the network's class scores combined with CLIP's: p^(1 - w) p_clip^w, or p (1 - w) + p_clip w.

    Args:
        probabilities: p, (Q, C), see :func:`class_probabilities`.
        clip: p_clip, (Q, C), see :func:`clip_probabilities`.
        seen: (C,) bool, see :func:`seen_classes`.
        seen_weight: w of seen classes, 0..1.
        unseen_weight: w of the others, 0..1.
        rule: ``product`` or ``sum``.

    Returns:
        (Q, C); the scores do not sum to 1. For a panoptic map, take their :func:`softmax`.

    Raises:
        InputError: the shapes differ, a weight is not in 0..1, or ``rule`` is unknown.
    """
    if probabilities.shape != clip.shape or seen.shape != clip.shape[1:]:
        raise InputError(
            f"probabilities and clip must be (Q, C) and seen (C,), got {probabilities.shape}, {clip.shape} and "
            f"{seen.shape}"
        )
    for name, value in (("seen_weight", seen_weight), ("unseen_weight", unseen_weight)):
        if not 0 <= value <= 1:
            raise InputError(f"{name} must be in 0..1, got {value}")
    weights = np.where(seen, seen_weight, unseen_weight)
    if rule == "product":
        combined = probabilities ** (1 - weights) * clip**weights
    elif rule == "sum":
        combined = probabilities * (1 - weights) + clip * weights + 1e-9
    else:
        raise InputError(f"rule must be 'product' or 'sum', got {rule!r}")
    with np.errstate(divide="ignore"):  # a score of 0 is -inf
        return np.asarray(np.log(combined))


def thing_scores(
    probabilities: np.ndarray, iou_logits: np.ndarray, exponents: tuple[float, float] = (1.0, 1.0)
) -> np.ndarray:
    """sqrt(p^a * sigmoid(IoU logit)^b), (Q, C).

    Args:
        probabilities: p, (Q, C): sigmoid of the class logits; or, with CLIP, sigmoid of :func:`combine_with_clip`,
            set to 0 for classes that are no things.
        iou_logits: (Q,) of the IoU that the network expects of its box.
        exponents: a and b; with CLIP :data:`CLIP_EXPONENTS`.
    """
    a, b = exponents
    return np.asarray(np.sqrt(probabilities**a * sigmoid(iou_logits)[:, None] ** b))


def suppress_by_class(boxes: np.ndarray, scores: np.ndarray, iou: float = NMS_IOU) -> np.ndarray:
    """Non-maximum suppression among the queries with the same best class, on the score of that class.

    Args:
        boxes: (Q, 4) xyxy.
        scores: (Q, C).
        iou: above which the worse of two boxes is dropped.

    Returns:
        (K,) int64 rows, best first.
    """
    if not len(boxes):
        return np.zeros(0, np.int64)
    best, labels = scores.max(axis=1), scores.argmax(axis=1)
    rows = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    kept = np.sort(np.concatenate([own[suppress(boxes[own], best[own], iou, len(own))] for own in rows]))
    return kept[np.argsort(-best[kept], kind="stable")]


def best_pairs(scores: np.ndarray, most: int = MOST_INSTANCES) -> tuple[np.ndarray, np.ndarray]:
    """The best (query, class) pairs, best first: one box may be several classes.

    Args:
        scores: (Q, C).
        most: pairs to take.

    Returns:
        Rows (K,) and classes (K,), int64.
    """
    order = np.argsort(-scores, axis=None, kind="stable")[:most]
    rows, labels = np.unravel_index(order, scores.shape)
    return rows, labels


@dataclass(frozen=True)
class Segment:
    """One segment of a panoptic map.

    Attributes:
        number: its value in the map, from 1.
        label: class.
        is_thing: False for stuff, of which there is one segment a class.
        rows: the queries that it was made of; one for a thing.
    """

    number: int
    label: int
    is_thing: bool
    rows: tuple[int, ...]


def merge_panoptic(
    class_scores: np.ndarray,
    masks: np.ndarray,
    is_thing: np.ndarray,
    score_threshold: float = SCORE_THRESHOLD,
    overlap_threshold: float = OVERLAP_THRESHOLD,
) -> tuple[np.ndarray, list[Segment]]:
    """Things and stuff in one map, in which each pixel belongs to one segment or to none.

    A pixel goes to the query with the largest score times mask probability. A query has a segment if it won pixels
    whose number is at least ``overlap_threshold`` times that of its own mask (probability .5 or more); the segment
    consists of the won pixels inside of the mask. Whether things or stuff stand first does not matter.

    Args:
        class_scores: (Q, C); the best class of a query and its score count.
        masks: (Q, H, W) probabilities.
        is_thing: (C,) bool.
        score_threshold: queries with this score or a lower one are left out.
        overlap_threshold: see above.

    Returns:
        (H, W) int32 map, 0 where there is no segment; and the segments in the order of their numbers.

    Raises:
        InputError: the shapes do not fit together.
    """
    if masks.ndim != 3 or class_scores.shape != (len(masks), len(is_thing)):
        raise InputError(
            f"class_scores, masks and is_thing must be (Q, C), (Q, H, W) and (C,), got {class_scores.shape}, "
            f"{masks.shape} and {np.shape(is_thing)}"
        )
    panoptic = np.zeros(masks.shape[1:], np.int32)
    scores = class_scores.max(axis=1, initial=0)
    rows = np.flatnonzero(scores > score_threshold)
    if not len(rows):
        return panoptic, []
    winners = rows[(scores[rows, None, None] * masks[rows]).argmax(axis=0)]  # (H, W)
    found: dict[tuple[int, int], Segment] = {}  # by class, and by query for things
    for row in rows.tolist():
        won, own = winners == row, masks[row] >= 0.5
        pixels = won & own
        if not pixels.any() or won.sum() / own.sum() < overlap_threshold:
            continue
        label = int(class_scores[row].argmax())
        thing = bool(is_thing[label])
        key = (label, row if thing else -1)
        earlier = found.get(key, Segment(len(found) + 1, label, thing, ()))
        found[key] = Segment(earlier.number, label, thing, (*earlier.rows, row))
        panoptic[pixels] = earlier.number
    return panoptic, list(found.values())


def semantic_map(class_scores: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """(C, H, W): for each class the sum over queries of score (Q, C) times mask probability (Q, H, W)."""
    return np.tensordot(class_scores, masks, axes=(0, 0))


@dataclass(frozen=True)
class PartRegion:
    """A part of one object.

    Attributes:
        label: class of the part.
        parent: row of the object.
        mask: (H, W) bool, inside of the object's mask.
    """

    label: int
    parent: int
    mask: np.ndarray


def part_regions(
    part_map: np.ndarray,
    masks: np.ndarray,
    labels: np.ndarray,
    thing_of: Sequence[int],
    least_pixels: int = LEAST_PART_PIXELS,
) -> list[PartRegion]:
    """The parts of each object: where the part map has a part of its class under its mask.

    Args:
        part_map: (H, W) class of the part in each pixel, the argmax of :func:`semantic_map`.
        masks: (N, H, W) bool, of objects; for a panoptic map, ``map == number`` of each segment.
        labels: (N,) classes of the objects.
        thing_of: for each class of the part map the class of the object that it is a part of; -1 for none. It comes
            from the hierarchy, not from the first word of a name, which may have several.
        least_pixels: smaller regions, and those of this size, are left out.

    Returns:
        Class by class, and in the order of the objects.
    """
    found = []
    for label in np.unique(part_map).tolist():
        if not 0 <= label < len(thing_of) or thing_of[label] < 0:
            continue
        for row in np.flatnonzero(np.asarray(labels) == thing_of[label]).tolist():
            mask = (part_map == label) & masks[row].astype(bool)
            if mask.sum() > least_pixels:
                found.append(PartRegion(label, row, mask))
    return found


def uncovered_segments(panoptic: np.ndarray, part_masks: np.ndarray, covered: float = COVERED) -> list[int]:
    """Segments that keep a region of their own beside the parts, because the parts cover less of them than ``covered``.

    Args:
        panoptic: (H, W) map with 0 for none.
        part_masks: (P, H, W) bool.
        covered: fraction of a segment's pixels. Above 1: every segment keeps its region.

    Returns:
        Their numbers, ascending.
    """
    parts = np.asarray(part_masks.any(axis=0))
    return [n for n in np.unique(panoptic).tolist() if n and parts[panoptic == n].mean() < covered]


def vote(masks: np.ndarray, part_scores: np.ndarray) -> np.ndarray:
    """The class of each mask: the one with the largest sum of part scores under it.

    Args:
        masks: (N, H, W), 0..1, e.g. of a segmenter that knows no classes.
        part_scores: (C, H, W): a semantic map, or a part map as one layer a class.

    Returns:
        (N,) int64.
    """
    return np.tensordot(masks, part_scores, axes=((1, 2), (1, 2))).argmax(axis=1)


def masks_at_points(masks: np.ndarray, points: np.ndarray, most: int = 3) -> np.ndarray:
    """The masks that hold most of the points; of those that hold equally many, the smaller ones.

    Args:
        masks: (N, H, W) bool.
        points: (P, 2) x and y, whole pixels; points on one pixel count once.
        most: masks to take.

    Returns:
        (K,) int64 rows of ``masks``, best first.

    Raises:
        InputError: a point is outside of the picture.
    """
    height, width = masks.shape[1:]
    points = np.asarray(points, np.int64).reshape(-1, 2)
    outside = ((points < 0) | (points >= (width, height))).any(axis=1)
    if outside.any():
        raise InputError(
            f"points must be in a picture of {width} x {height} pixels, got {points[outside.argmax()].tolist()}"
        )
    x, y = np.unique(points, axis=0).T
    held = masks[:, y, x].astype(bool).sum(axis=1)
    return np.lexsort((masks.astype(bool).sum(axis=(1, 2)), -held))[:most]


def part_names_match(query: str, name: str) -> bool:
    """Whether a part of this name is meant by a query: it holds the query's words, or is in :data:`WIDER_NAMES`.

    ``hand`` means ``left hand``; ``head`` means ``ear``, but ``ear`` does not mean ``head``.
    """
    return query in name or name in WIDER_NAMES.get(query, ())
