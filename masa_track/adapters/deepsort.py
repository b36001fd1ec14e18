"""For deep-sort-realtime: detections and embeddings in, the same rows with its identities out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from masa_track.formats.results import to_detections, with_identities

if TYPE_CHECKING:
    import supervision as sv

    from masa_track.contracts import Embeds


def update_tracks(tracker: Any, model: Embeds, detections: Any, frame: np.ndarray) -> sv.Detections:
    """One frame through a ``DeepSort(embedder=None)``.

    Args:
        tracker: a ``deep_sort_realtime.deepsort_tracker.DeepSort``.
        model: e.g. ``masa_track.load("nano")``.
        detections: of the frame; a detector's own result will do.
        frame: (H, W, 3) BGR uint8.

    Returns:
        The same rows in the same order, with ``tracker_id`` (N,) int64; -1 = not tracked, or not confirmed yet.
    """
    found = to_detections(detections)
    boxes = np.asarray(found.xyxy, np.float32)
    rows = np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(axis=1))  # it drops empty boxes, but not their embeddings
    boxes = boxes[rows]
    scores = np.ones(len(rows)) if found.confidence is None else found.confidence[rows]
    labels = np.zeros(len(rows), int) if found.class_id is None else found.class_id[rows]
    ltwh = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    raw = [(box, float(score), int(label)) for box, score, label in zip(ltwh.tolist(), scores, labels, strict=True)]
    tracks = tracker.update_tracks(raw, embeds=list(model.embed(frame, boxes)), others=rows.tolist())
    ids = np.full(len(found), -1, np.int64)
    for track in tracks:
        if track.is_confirmed() and track.time_since_update == 0:
            ids[track.get_det_supplementary()] = int(track.track_id)
    return with_identities(found, ids)
