"""For ultralytics' BoT-SORT, Deep OC-SORT and TrackTrack: our embeddings as the features of a result's boxes.

Only the package's interface is used: ``tracker.update(results, img, feats=...)`` and the model's callbacks. The
settings of the tracker must ask for appearance by ``with_reid: True`` and ``model: auto``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from masa_track.adapters.normalize import l2_normalize

if TYPE_CHECKING:
    from masa_track.contracts import Embeds


def features(model: Embeds, boxes: Any, frame: np.ndarray) -> np.ndarray:
    """``feats`` for ``tracker.update(boxes, frame, feats=...)``: (N, D) float32 of length 1.

    Args:
        model: e.g. ``masa_track.load("nano")``.
        boxes: ``result.boxes`` (or ``.obb``) of ultralytics, of any device.
        frame: (H, W, 3) BGR uint8, ``result.orig_img``.
    """
    xyxy = boxes.xyxy
    xyxy = xyxy.detach().cpu().numpy() if hasattr(xyxy, "detach") else xyxy
    height, width = frame.shape[:2]
    xyxy = np.clip(np.asarray(xyxy, np.float32), 0, [width, height, width, height])
    return l2_normalize(model.embed(frame, xyxy))


def use_embeddings(yolo: Any, model: Embeds) -> None:
    """Makes ``yolo.track(...)`` follow our embeddings. To be called before the first ``track``.

    Args:
        yolo: an ``ultralytics.YOLO``.
        model: e.g. ``masa_track.load("nano")``.
    """

    def add_features(predictor: Any) -> None:
        """Runs before the tracker's own callback, which reads ``feats`` of each result."""
        for result in predictor.results:
            boxes = result.boxes if result.boxes is not None else result.obb
            result.feats = features(model, boxes, result.orig_img)

    callbacks = yolo.callbacks["on_predict_postprocess_end"]
    callbacks.insert(0, add_features)
