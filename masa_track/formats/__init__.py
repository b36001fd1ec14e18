"""Files of detections and tracks, one file a format.

Detections in: :mod:`detections` finds the format, :mod:`mot`, :mod:`coco_vid` and :mod:`npz` read it, and
:mod:`results` takes the result objects of other detectors. Tracks out: :mod:`mot`, :mod:`coco_vid`,
:mod:`csv` (together: :mod:`tracks`) and :mod:`jsonl`. A finished run (:mod:`run`) becomes :mod:`cvat`,
:mod:`label_studio` or :mod:`tao`.
"""
