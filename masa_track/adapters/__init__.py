"""Our embeddings in other people's trackers: a thin adapter for the slot that each of them has.

    roboflow    ``extract_features(detections, frame)``
    boxmot      ``reid_model=`` with ``get_features(boxes, image)``
    deepsort    ``update_tracks(..., embeds=)`` of deep-sort-realtime
    norfair     ``Detection(..., embedding=)`` and ``reid_distance_function``
    ultralytics ``update(..., feats=)``, by a callback of the model

Each takes any model with ``embed(frame, boxes)``, e.g. ``masa_track.load("nano")``, and imports its library, if at all,
where it is used.
"""
