"""One frame's result of somebody else's detector, as ``supervision.Detections`` with the same rows.

Results are told apart by what they hold, so that none of the libraries is imported here. supervision's own connectors
are used where they keep every row and understand the result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import supervision as sv

from masa_track.errors import InputError

KNOWN = (
    "supervision.Detections, a result of ultralytics, torchvision, transformers (post-processed), mmdet, detectron2 or "
    "Roboflow's inference, or a list of COCO results"
)
NAMES = "class_name"  # where supervision keeps each row's name in ``data``


def to_detections(result: Any, phrases: dict[str, int] | None = None) -> sv.Detections:
    """The detections of one frame, whoever found them.

    Args:
        result: what the detector gave for the frame, in pixels of the frame: see :data:`KNOWN`. A list that holds just
            one result, as most libraries return it for one picture, will do as well.
        phrases: class ids by name, for results that name things instead of numbering them (Grounding DINO). A name
            that is not in it is added with the next free number. Keep one dict for a whole video.

    Returns:
        The same rows in the same order; ``data["class_name"]`` has the names where the result tells them.

    Raises:
        InputError: for anything else.
    """
    if isinstance(result, sv.Detections):
        return result
    if isinstance(result, list | tuple):
        if all(isinstance(row, Mapping) and "bbox" in row for row in result):
            return _from_coco(result)
        if len(result) == 1:
            return to_detections(result[0], phrases)
        raise InputError(f"detections must be those of one frame, got {len(result)} results: give them one by one")
    if hasattr(result, "names") and (hasattr(result, "boxes") or hasattr(result, "obb")):
        return sv.Detections.from_ultralytics(result)
    if hasattr(result, "pred_instances") or hasattr(result, "pred_track_instances"):
        return _from_mmdet(result)
    if hasattr(result, "predictions") or (isinstance(result, Mapping) and "predictions" in result):
        return sv.Detections.from_inference(result)
    if isinstance(result, Mapping):
        if "boxes" in result and "scores" in result:
            return _from_dict(result, {} if phrases is None else phrases)
        if "instances" in result:
            return sv.Detections.from_detectron2(result)
        if "segmentation" in result:
            return sv.Detections.from_transformers(dict(result))
        raise InputError(f"detections must be {KNOWN}, got a dict of {', '.join(map(str, result)) or 'nothing'}")
    raise InputError(f"detections must be {KNOWN}, got {type(result).__module__}.{type(result).__name__}")


def _from_dict(result: Mapping[str, Any], phrases: dict[str, int]) -> sv.Detections:
    """torchvision's and transformers' dicts, which differ in the masks and in how they tell the class."""
    boxes = _array(result["boxes"]).reshape(-1, 4)
    # Past the warning that transformers gives whoever reads the labels of Grounding DINO.
    labels = dict.get(result, "labels") if isinstance(result, dict) else result.get("labels")
    names = result.get("text_labels")
    if labels is None or _are_names(labels):
        names = list(names or labels or [])
        labels = [phrases.setdefault(name, max(phrases.values(), default=-1) + 1) for name in names]
    masks = None
    if result.get("masks") is not None:
        masks = _array(result["masks"]) > 0.5
        masks = masks.reshape(len(boxes), *masks.shape[-2:])  # torchvision's are (N, 1, H, W)
    data: dict[str, Any] = {} if names is None else {NAMES: np.array(names, dtype=str).reshape(len(boxes))}
    class_id = _array(labels).astype(np.int64).reshape(len(boxes))
    return sv.Detections(xyxy=boxes, confidence=_array(result["scores"]), class_id=class_id, mask=masks, data=data)


def _are_names(labels: Any) -> bool:
    return isinstance(labels, list | tuple) and all(isinstance(label, str) for label in labels)


def _from_mmdet(result: Any) -> sv.Detections:
    """A ``DetDataSample``; a tracked one keeps its tracker's ids until :class:`MasaTracker` gives others."""
    found = getattr(result, "pred_track_instances", None)
    if found is None:
        found = result.pred_instances
    count = len(found.bboxes)
    masks = getattr(found, "masks", None)
    if masks is not None:
        masks = masks.to_ndarray() if hasattr(masks, "to_ndarray") else _array(masks)
        masks = masks.astype(bool) if count else None
    ids = getattr(found, "instances_id", None)
    return sv.Detections(
        xyxy=_array(found.bboxes).reshape(-1, 4),
        confidence=_array(found.scores),
        class_id=_array(found.labels).astype(np.int64),
        mask=masks,
        tracker_id=None if ids is None else _array(ids).astype(np.int64),
    )


def _from_coco(rows: Sequence[Mapping[str, Any]]) -> sv.Detections:
    """Rows of a COCO result file: ``bbox`` is left, top, width, height."""
    boxes = np.array([row["bbox"] for row in rows], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return sv.Detections(
        xyxy=boxes,
        confidence=np.array([row.get("score", 1.0) for row in rows], np.float32),
        class_id=np.array([row.get("category_id", 0) for row in rows], np.int64),
    )


def _array(values: Any) -> np.ndarray:
    """A tensor (of any device and float type), or anything like an array, as an array."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.float() if values.is_floating_point() else values
        return np.asarray(values.numpy())
    return np.asarray(values)
