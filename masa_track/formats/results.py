"""The result of one frame of any detector, as ``supervision.Detections`` with the same rows.

Results are recognised by their attributes and keys, so that none of the libraries is imported here. supervision's own
connectors are used where they keep every row and read the result.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
import supervision as sv

from masa_track.checks import as_floats, check_labels
from masa_track.errors import InputError

KNOWN = (
    "supervision.Detections, a result of ultralytics, torchvision, transformers (post-processed), mmdet, detectron2 or "
    "Roboflow's inference, or a list of COCO results"
)
NAMES = "class_name"  # where supervision keeps each row's name in ``data``
EMBEDDING = "embedding"  # where the tracker puts each row's embedding in ``data``
_ROWS = (
    "rows of numbers must be an array of shape (N, 4: x1, y1, x2, y2), (N, 5: and the score) or (N, 6: and the class), "
    "as by np.array(rows, dtype=np.float32).reshape(-1, 6)"
)


def to_detections(result: Any, phrases: dict[str, int] | None = None) -> sv.Detections:
    """The detections of one frame, of any detector.

    Args:
        result: what the detector gave for the frame, in pixels of the frame: see :data:`KNOWN`. A list that holds just
            one result, as most libraries return it for one picture, is accepted as well.
        phrases: class ids by name, for results with names instead of class numbers (Grounding DINO). A name
            that is not in it is added with the next free number. Keep one dict for a whole video.

    Returns:
        The same rows in the same order; ``data["class_name"]`` has the names where the result has them. Without
        scores ``confidence`` is None, without labels ``class_id``.

    Raises:
        InputError: for anything else: several pictures' results, rows of numbers, a result without boxes, or arrays
            whose shapes or values do not fit.
    """
    if isinstance(result, sv.Detections):
        return result
    if isinstance(result, list | tuple):
        return _from_list(result, phrases)
    if hasattr(result, "names") and (hasattr(result, "boxes") or hasattr(result, "obb")):
        return _from_ultralytics(result)
    if hasattr(result, "pred_instances") or hasattr(result, "pred_track_instances"):
        return _from_mmdet(result)
    if hasattr(result, "predictions") or (isinstance(result, Mapping) and "predictions" in result):
        return _from_inference(result)
    if isinstance(result, Mapping):
        if "boxes" in result:
            return _from_dict(result, {} if phrases is None else phrases)
        if "instances" in result:
            return sv.Detections.from_detectron2(result)
        if "segmentation" in result:
            return sv.Detections.from_transformers(dict(result))
        raise InputError(f"detections must be {KNOWN}, got a dict of {', '.join(map(str, result)) or 'nothing'}")
    if hasattr(result, "shape") and len(result.shape) == 2 and result.shape[1] in (4, 5, 6):
        return _from_rows(_array(result))
    got = f"{type(result).__module__}.{type(result).__name__}"
    if hasattr(result, "shape"):
        raise InputError(f"detections must be {KNOWN}, got {got} of shape {tuple(result.shape)}: {_ROWS}")
    raise InputError(f"detections must be {KNOWN}, got {got}")


def with_identities(detections: sv.Detections, identities: np.ndarray) -> sv.Detections:
    """The same rows with ``tracker_id``. The object and its dicts are new; the arrays are those given."""
    tracked = copy.copy(detections)
    tracked.data, tracked.metadata = dict(detections.data), dict(detections.metadata)
    tracked.tracker_id = identities
    return tracked


def _from_rows(rows: np.ndarray) -> sv.Detections:
    """Rows (N, 4), (N, 5) or (N, 6) of x1, y1, x2, y2, score, class."""
    rows = as_floats("detections", rows)
    return sv.Detections(
        xyxy=rows[:, :4],
        confidence=rows[:, 4] if rows.shape[1] > 4 else None,
        class_id=check_labels(rows[:, 5], len(rows)) if rows.shape[1] > 5 else None,
    )


def _from_list(results: Sequence[Any], phrases: dict[str, int] | None) -> sv.Detections:
    """COCO's rows, or the one result of a list."""
    if all(isinstance(row, Mapping) and "bbox" in row for row in results):
        return _from_coco(results)
    if any(isinstance(row, Real) for row in results) or all(_is_row(row) for row in results):
        raise InputError(f"detections must be {KNOWN}, got a list of numbers: {_ROWS}")
    if len(results) == 1:
        return to_detections(results[0], phrases)
    kinds = sorted({type(each).__name__ for each in results})
    raise InputError(
        f"detections must be those of one frame, got {len(results)} results (a list of {', '.join(kinds)}): give them "
        "one by one, each with its frame"
    )


def _is_row(value: Any) -> bool:
    """Whether a value is a row of numbers: a list, or an array or tensor of one axis."""
    if isinstance(value, list | tuple):
        return bool(value) and all(isinstance(number, Real) for number in value)
    return getattr(value, "ndim", None) == 1


def _from_ultralytics(result: Any) -> sv.Detections:
    if all(getattr(result, name, None) is None for name in ("boxes", "obb", "masks")):
        kind = "a classification of the whole picture" if getattr(result, "probs", None) is not None else "no boxes"
        raise InputError(
            f"detections must have boxes, got a result of ultralytics with {kind}: take a model that detects, e.g. "
            "yolo11n.pt instead of yolo11n-cls.pt"
        )
    return sv.Detections.from_ultralytics(result)


def _from_inference(result: Any) -> sv.Detections:
    predictions = result["predictions"] if isinstance(result, Mapping) else result.predictions
    first = next(iter(predictions), None) if predictions else None
    if first is not None and not (hasattr(first, "x") or (isinstance(first, Mapping) and "x" in first)):
        raise InputError(
            "detections must have boxes, got predictions of Roboflow's inference without x, y, width and height: take "
            "a model that detects, not one that classifies"
        )
    return sv.Detections.from_inference(result)


def _from_dict(result: Mapping[str, Any], phrases: dict[str, int]) -> sv.Detections:
    """torchvision's and transformers' dicts, which differ in the masks and in how they give the class."""
    boxes = _boxes(result["boxes"])
    count = len(boxes)
    # Past the warning that transformers gives whoever reads the labels of Grounding DINO.
    labels = dict.get(result, "labels") if isinstance(result, dict) else result.get("labels")
    names = result.get("text_labels")
    if names is None and _are_names(labels):
        names = labels
    data: dict[str, Any] = {}
    if names is not None:
        names = list(names)
        if len(names) != count:
            raise InputError(f"labels must be one for each of the {count} boxes, got {len(names)} names")
        data[NAMES] = np.array(names, dtype=str)
        if labels is None or _are_names(labels):
            labels = [phrases.setdefault(name, max(phrases.values(), default=-1) + 1) for name in names]
    masks = None
    if result.get("masks") is not None:
        masks = _array(result["masks"])
        if masks.ndim < 3 or len(masks) != count or masks.size != count * masks.shape[-1] * masks.shape[-2]:
            raise InputError(f"masks must be (N, H, W) or (N, 1, H, W) for {count} boxes, got {masks.shape}")
        masks = (masks > 0.5).reshape(count, *masks.shape[-2:])  # torchvision's are (N, 1, H, W)
    class_id = None if labels is None else check_labels(_array(labels), count)
    return sv.Detections(
        xyxy=boxes, confidence=_scores(result.get("scores"), count), class_id=class_id, mask=masks, data=data
    )


def _are_names(labels: Any) -> bool:
    return isinstance(labels, list | tuple) and all(isinstance(label, str) for label in labels)


def _from_mmdet(result: Any) -> sv.Detections:
    """A ``DetDataSample``; a tracked one keeps its tracker's ids until :class:`MasaTracker` gives others."""
    found = getattr(result, "pred_track_instances", None)
    if found is None:
        found = result.pred_instances
    boxes = _boxes(found.bboxes)
    count = len(boxes)
    masks = getattr(found, "masks", None)
    if masks is not None:
        masks = masks.to_ndarray() if hasattr(masks, "to_ndarray") else _array(masks)
        masks = masks.astype(bool) if count else None
    ids = getattr(found, "instances_id", None)
    return sv.Detections(
        xyxy=boxes,
        confidence=_scores(found.scores, count),
        class_id=check_labels(_array(found.labels), count),
        mask=masks,
        tracker_id=None if ids is None else _array(ids).astype(np.int64),
    )


def _from_coco(rows: Sequence[Mapping[str, Any]]) -> sv.Detections:
    """Rows of a COCO result file: ``bbox`` is left, top, width, height."""
    images = list(dict.fromkeys(str(row["image_id"]) for row in rows if "image_id" in row))
    if len(images) > 1:
        raise InputError(
            f"detections must be those of one frame, got COCO rows of {len(images)} images (image_id "
            f"{', '.join(images[:3])}{', ...' if len(images) > 3 else ''}): give each frame its own rows"
        )
    for number, row in enumerate(rows):
        _check_coco_row(number, row)
    boxes = as_floats("bbox", [row["bbox"] for row in rows]).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return sv.Detections(
        xyxy=boxes,
        confidence=as_floats("score", [row.get("score", 1.0) for row in rows]),
        class_id=check_labels([row.get("category_id", 0) for row in rows], len(rows)),
    )


def _check_coco_row(number: int, row: Mapping[str, Any]) -> None:
    box, score = row["bbox"], row.get("score", 1.0)
    if not hasattr(box, "__len__") or len(box) != 4 or not all(isinstance(value, Real) for value in box):
        raise InputError(f"bbox must be four numbers (left, top, width, height), got {box!r} in row {number}")
    if not isinstance(score, Real):
        raise InputError(f"score must be a number in 0..1, got {score!r} in row {number}; leave it out for 1")


def _boxes(values: Any) -> np.ndarray:
    """Boxes as (N, 4) floats."""
    boxes = _floats("boxes", values)
    if boxes.size == 0:
        return boxes.reshape(0, 4)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise InputError(f"boxes must be (N, 4) xyxy pixels, got {boxes.shape}")
    return boxes


def _scores(values: Any, count: int) -> np.ndarray | None:
    """Scores as (N,) floats; their range is checked where they are used."""
    if values is None:
        return None
    scores = _floats("scores", values)
    if scores.shape != (count,):
        raise InputError(f"scores must be ({count},), one for each of the boxes, got {scores.shape}")
    return scores


def _floats(name: str, values: Any) -> np.ndarray:
    """Numbers in their own float type, or as float32."""
    if hasattr(values, "detach"):
        values = _array(values)
    if isinstance(values, np.ndarray) and values.dtype.kind == "f":
        return values
    return as_floats(name, values)


def _array(values: Any) -> np.ndarray:
    """A tensor (of any device and float type), or anything like an array, as an array."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.float() if values.is_floating_point() else values
        return np.asarray(values.numpy())
    try:
        return np.asarray(values)
    except ValueError as error:
        raise InputError(f"detections must hold arrays, with rows of one length: {error}") from error
