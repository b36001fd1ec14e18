"""For norfair: detections that carry embeddings, and a distance of them for its re-identification."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from masa_track.adapters.normalize import l2_normalize
from masa_track.errors import InputError
from masa_track.formats.results import to_detections

if TYPE_CHECKING:
    from masa_track.contracts import Embeds


def with_embeddings(model: Embeds, detections: Any, frame: np.ndarray) -> list[Any]:
    """The frame's ``norfair.Detection`` objects, in the order of the rows.

    Args:
        model: e.g. ``masa_track.load("nano")``.
        detections: of the frame; a detector's own result will do.
        frame: (H, W, 3) BGR uint8.

    Returns:
        A detection a row: two points (the box's corners), scores, ``label`` the class, ``data`` the row's number.
    """
    try:
        from norfair import Detection
    except ImportError as error:
        raise InputError("norfair is needed for this: pip install norfair") from error
    found = to_detections(detections)
    boxes = np.asarray(found.xyxy, np.float32)
    scores = np.ones(len(boxes)) if found.confidence is None else found.confidence
    labels = np.zeros(len(boxes), int) if found.class_id is None else found.class_id
    return [
        Detection(box.reshape(2, 2), scores=np.full(2, score), label=int(label), embedding=embedding, data=row)
        for row, (box, score, label, embedding) in enumerate(
            zip(boxes, scores, labels, l2_normalize(model.embed(frame, boxes)), strict=True)
        )
    ]


def embedding_distance(new: Any, old: Any) -> float:
    """How unlike two things of norfair's look, 0 to 2: for ``Tracker(reid_distance_function=)``.

    It will also do as ``Tracker(distance_function=)``, where appearance alone decides.

    Args:
        new: a ``TrackedObject``, or a ``Detection``.
        old: a ``TrackedObject``.

    Returns:
        The least cosine distance between the new one's embedding and each of the old one's past detections
        (``past_detections_length`` of them); 2 where there is none.
    """
    seen = [each.embedding for each in [old.last_detection, *old.past_detections] if each.embedding is not None]
    mine = getattr(new, "last_detection", new).embedding
    if mine is None or not seen:
        return 2.0
    return 1.0 - float(np.max(np.stack(seen) @ mine))
