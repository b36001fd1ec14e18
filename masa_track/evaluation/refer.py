"""Scores of referring segmentation and detection: precision at IoUs, overall and mean IoU, mAP, J&F.

A sample is one picture and one sentence with the mask or box of one object. Source: Gavrilyuk et al., Actor and Action
Video Segmentation from a Sentence, CVPR 2018 (precision, overall and mean IoU); Lin et al., Microsoft COCO, ECCV 2014
(average precision); Seo et al., URVOS, ECCV 2020 (J&F).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from masa_track.boxes import box_iou
from masa_track.errors import InputError
from masa_track.evaluation.jf import boundary_accuracy, region_similarity
from masa_track.formats.davis import read_index_picture
from masa_track.formats.json_file import parse_json
from masa_track.masks import compressed, decode_mask

PRECISION_AT = (0.5, 0.6, 0.7, 0.8, 0.9)
_EMPTY = 1e-6  # added to intersection and union, so that two empty masks agree
_AP_IOUS = np.linspace(0.5, 0.95, 10)
_RECALLS = np.linspace(0, 1, 101)
_MOST = 100  # predictions of a picture
AREAS = {"": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}


@dataclass(frozen=True)
class Sample:
    """One picture and sentence: the truth, and predictions.

    Attributes:
        area: of the true mask or box, in pixels.
        scores: (N,) of the predictions.
        intersections: (N,) pixels that each shares with the truth.
        unions: (N,).
        j: region similarity of the best prediction; NaN for boxes.
        f: its boundary accuracy; NaN for boxes.
        sentence: to which the sample belongs; J&F is a mean over its samples, then over sentences.
    """

    area: float
    scores: np.ndarray
    intersections: np.ndarray
    unions: np.ndarray
    j: float = np.nan
    f: float = np.nan
    sentence: str = ""

    @property
    def best(self) -> int:
        """The prediction of the highest score, the last one of equal scores; -1 without one."""
        return len(self.scores) - 1 - int(np.argmax(self.scores[::-1])) if len(self.scores) else -1

    @property
    def iou(self) -> float:
        """Of the best prediction; 0 without one."""
        if not len(self.scores):
            return 0.0
        return float((self.intersections[self.best] + _EMPTY) / (self.unions[self.best] + _EMPTY))


@dataclass(frozen=True)
class ReferEvaluation:
    """The scores of all samples."""

    samples: list[Sample]

    @property
    def ious(self) -> np.ndarray:
        """(n,) IoU of each sample's best prediction."""
        return np.array([one.iou for one in self.samples])

    def precision(self, iou: float) -> float:
        """Share of samples whose IoU is above ``iou``."""
        return float(np.mean(self.ious > iou))

    @property
    def overall_iou(self) -> float:
        """Sum of the intersections by that of the unions."""
        found = [(one.intersections[one.best], one.unions[one.best]) if len(one.scores) else (0.0, one.area)
                 for one in self.samples]  # fmt: skip
        inter, union = np.sum(found, axis=0)
        return float(inter / union) if union else 0.0

    @property
    def mean_iou(self) -> float:
        """Mean over samples."""
        return float(self.ious.mean())

    def jf(self) -> tuple[float, float]:
        """Mean J and mean F over sentences; NaN for boxes."""
        by_sentence: dict[str, list[tuple[float, float]]] = {}
        for one in self.samples:
            by_sentence.setdefault(one.sentence, []).append((one.j, one.f))
        j, f = np.mean([np.mean(values, axis=0) for values in by_sentence.values()], axis=0)
        return float(j), float(f)

    def as_dict(self) -> dict[str, Any]:
        """All scores, for json; None for one that is not defined."""
        j, f = self.jf()
        ap = average_precisions(self.samples)
        scores = {f"precision@{iou:g}": self.precision(iou) for iou in PRECISION_AT}
        scores |= {"overall_iou": self.overall_iou, "mean_iou": self.mean_iou, **ap}
        scores |= {"j": j, "f": f, "jf": (j + f) / 2}
        plain = {name: None if not np.isfinite(value) or value < 0 else value for name, value in scores.items()}
        return {"samples": len(self.samples), **plain}

    def table(self) -> str:
        """Names and values below each other, in percent."""
        scores = self.as_dict()
        lines = [f"samples        {scores.pop('samples'):,}"]
        return "\n".join(
            [*lines, *(f"{name:14} {100 * value:.1f}" for name, value in scores.items() if value is not None)]
        )


def mask_sample(truth: np.ndarray, masks: Sequence[np.ndarray], scores: Sequence[float], sentence: str = "") -> Sample:
    """A sample of (H, W) bool masks.

    Raises:
        InputError: the shapes differ.
    """
    for mask in masks:
        if mask.shape != truth.shape:
            raise InputError(f"masks must have the shape of the truth, {truth.shape}, got {mask.shape}")
    inter = np.array([np.count_nonzero(mask & truth) for mask in masks], np.float64)
    union = np.array([np.count_nonzero(mask | truth) for mask in masks], np.float64)
    area = float(np.count_nonzero(truth))
    sample = Sample(area, np.asarray(scores, np.float64), inter, union, sentence=sentence)
    best = masks[sample.best] if len(masks) else np.zeros_like(truth)
    j, f = region_similarity(best, truth), boundary_accuracy(best, truth)
    return Sample(area, sample.scores, inter, union, j, f, sentence)


def box_sample(truth: np.ndarray, boxes: np.ndarray, scores: Sequence[float], sentence: str = "") -> Sample:
    """A sample of boxes: (4,) and (N, 4) xyxy pixels. RefCOCO's box metrics are those of one prediction a sample."""
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    iou = box_iou(boxes, np.asarray(truth, np.float64)[None])[:, 0]
    area = float(np.prod(np.maximum(truth[2:] - truth[:2], 0)))
    areas = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)
    inter = iou * (areas + area) / (1 + iou)
    return Sample(area, np.asarray(scores, np.float64), inter, areas + area - inter, sentence=sentence)


def average_precisions(samples: Sequence[Sample]) -> dict[str, float]:
    """COCO's AP over IoUs .5:.95, AP50, AP75, and AP of small, medium and large objects; -1 without such objects.

    Each sample is a picture with one true object; its predictions, at most 100, are ranked with those of the others.
    """
    table = {area: _precisions(samples, *limits) for area, limits in AREAS.items()}
    result = {"map": _mean(table[""]), "ap50": _mean(table[""][:1]), "ap75": _mean(table[""][5:6])}
    return result | {f"map_{area}": _mean(table[area]) for area in AREAS if area}


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else -1.0


def _precisions(samples: Sequence[Sample], low: float, high: float) -> np.ndarray:
    """(10,) average precision at each IoU, of objects whose area is within the limits; empty without an object."""
    inside = [low <= one.area <= high for one in samples]
    objects = sum(inside)
    if not objects:
        return np.zeros(0)
    scores: list[np.ndarray] = []
    matched: list[np.ndarray] = []  # (10, n) each
    ignored: list[np.ndarray] = []
    for one, counts in zip(samples, inside, strict=True):
        order = np.argsort(-one.scores, kind="mergesort")[:_MOST]
        inter, union = one.intersections[order], one.unions[order]
        ious = np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)
        areas = inter + union - one.area  # of the predictions
        reached = ious[None] >= np.minimum(_AP_IOUS, 1 - 1e-10)[:, None]
        hit = reached & (np.cumsum(reached, axis=1) == 1)  # the first that reaches the IoU has the object
        outside = (areas < low) | (areas > high)
        scores.append(one.scores[order])
        matched.append(hit)
        ignored.append(np.where(hit, not counts, outside[None]))
    order = np.argsort(-np.concatenate(scores), kind="mergesort")
    hits, left_out = np.concatenate(matched, axis=1)[:, order], np.concatenate(ignored, axis=1)[:, order]
    return np.array([_average(hit[~out], objects) for hit, out in zip(hits, left_out, strict=True)])


def _average(hits: np.ndarray, objects: int) -> float:
    """Precision, made to fall, at 101 recalls; ``hits`` (n,) in the order of scores."""
    found = np.cumsum(hits)
    precision = found / np.maximum(np.arange(1, len(hits) + 1), 1)
    falling = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(found / objects, _RECALLS, side="left")
    return (
        float(np.where(places < len(falling), falling[np.minimum(places, len(falling) - 1)], 0).mean())
        if len(hits)
        else 0.0
    )


def evaluate_referring(gt: str | Path, predictions: str | Path) -> ReferEvaluation:
    """Scores files or folders.

    Args:
        gt: COCO json whose annotations are samples: one a picture, or one a picture and ``sentence`` where they have
            it, with ``segmentation`` or ``bbox``; or a folder of Refer-YouTube-VOS: VIDEO/EXPRESSION/FRAME.png, all
            that is not 0 is the object.
        predictions: a list of COCO results: ``image_id``, ``segmentation`` or ``bbox``, ``score``, and ``sentence``
            where GT has it; or ``detections.json`` of `masa-track detect --refer`, whose answers are scored; or a
            folder as GT. Without masks, boxes are compared.

    Raises:
        InputError: they are not of one form, a picture or sentence is missing or unknown, or sizes differ.
    """
    gt, predictions = Path(gt), Path(predictions)
    if gt.is_dir() != predictions.is_dir():
        raise InputError(f"--metrics refer needs two json files or two folders of masks, got {gt} and {predictions}")
    return ReferEvaluation(_of_folders(gt, predictions) if gt.is_dir() else _of_json(gt, predictions))


def _of_folders(gt: Path, predictions: Path) -> list[Sample]:
    samples = []
    for file in sorted(gt.glob("*/*/*.png")):
        name = file.relative_to(gt)
        if not (predictions / name).is_file():
            raise InputError(f"TRACKS {predictions} has no {name}, which GT {gt} has: segment all frames")
        truth, mask = (read_index_picture(folder / name) > 0 for folder in (gt, predictions))
        samples.append(mask_sample(truth, [mask], [1.0], str(name.parent)))
    if not samples:
        raise InputError(f"GT {gt} holds no VIDEO/EXPRESSION/FRAME.png: check the path")
    return samples


def _of_json(gt: Path, predictions: Path) -> list[Sample]:
    try:
        truth, found = (parse_json(file.read_text(encoding="utf-8")) for file in (gt, predictions))
    except OSError as error:
        raise InputError(f"cannot read {error.filename}: {error.strerror}") from error
    try:
        sizes = {image["id"]: (int(image["height"]), int(image["width"])) for image in truth["images"]}
        annotations: dict[tuple[Any, str], Mapping[str, Any]] = {}
        named = any("sentence" in one for one in truth["annotations"])
        for one in truth["annotations"]:
            if _key(one, named) in annotations:
                raise InputError(
                    f"GT {gt}: image {one['image_id']!r} has two objects: give each sentence its own image, or "
                    "each annotation its sentence"
                )
            annotations[_key(one, named)] = one
        results: dict[tuple[Any, str], list[Mapping[str, Any]]] = {key: [] for key in annotations}
        if isinstance(found, dict) and not named:
            raise InputError(f"GT {gt} names no sentence, but TRACKS does: add sentence to each annotation of GT")
        answers = _answers(found) if isinstance(found, dict) else found
        for one in answers:
            key = _key(one, named)
            if key not in results:
                said = f" with the sentence {key[1]!r}" if named else ""
                raise InputError(f"TRACKS {predictions}: image {one['image_id']!r}{said} is not in GT")
            if one.get("bbox") or one.get("segmentation"):
                results[key].append(one)
        has_masks = any("segmentation" in one for one in answers)
        samples = [
            _json_sample(one, results[key], sizes[one["image_id"]], has_masks) for key, one in annotations.items()
        ]
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{gt} must be COCO json, and {predictions} a list of COCO results ({error!r})") from error
    if not samples:
        raise InputError(f"GT {gt} has no annotation, so there is nothing to score")
    return samples


def _key(one: Mapping[str, Any], named: bool) -> tuple[Any, str]:
    """What makes a sample: the image, and its sentence where GT names sentences."""
    return one["image_id"], " ".join(str(one["sentence"]).split()) if named else ""


def _answers(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The references of `masa-track detect` as COCO results; those without an object have no box."""
    if "references" not in found:
        raise InputError("TRACKS holds no references: detect with --refer, or give a list of COCO results")
    objects = {one["id"]: one for one in found["annotations"]}
    results = []
    for one in found["references"]:
        meant = {} if one["annotation_id"] is None else objects[one["annotation_id"]]
        shape = {name: meant[name] for name in ("bbox", "segmentation") if name in meant}
        results.append({"image_id": one["image_id"], "sentence": one["sentence"], "score": one["score"], **shape})
    return results


def _json_sample(
    truth: Mapping[str, Any], found: Sequence[Mapping[str, Any]], size: tuple[int, int], has_masks: bool
) -> Sample:
    scores = [float(one.get("score", 1.0)) for one in found]
    if not np.isfinite(scores).all():
        raise InputError(f"image {truth['image_id']!r}: score must be finite, got {scores}")
    sentence = str(truth["image_id"])
    if truth.get("segmentation") and (has_masks or not truth.get("bbox")):
        masks = [decode_mask(compressed(one["segmentation"], size)) for one in (truth, *found)]
        return mask_sample(masks[0], masks[1:], scores, sentence)
    boxes = np.array([one["bbox"] for one in (truth, *found)], np.float64).reshape(-1, 4)  # xywh
    boxes[:, 2:] += boxes[:, :2]
    return box_sample(boxes[0], boxes[1:], scores, sentence)
