"""The authors' two trackers by their official keys; all work is in :func:`~masa_track.association.open_associator`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
from mmdet.registry import MODELS
from mmengine.structures import InstanceData

from masa_track.association import PRESETS, REFERENCE_PRESETS, current_names, open_associator
from masa_track.contracts import Observation
from masa_track.errors import unknown_name

IGNORED = ("momentums", "num_frames_retain", "init_cfg")  # of mmdet's BaseTracker, which the authors' never used


class _Tracker:
    """What both share.

    Args:
        preset: a whole set of options instead of the official keys' defaults, e.g. ``default``.
        **options: official keys, or options of :class:`~masa_track.association.AssociationOptions`.

    Raises:
        InputError: for an unknown key (the nearest is named), or a value that cannot be.
    """

    base = "tao"
    keys: Mapping[str, str] = {}
    defaults: Mapping[str, Any] = {}
    without_effect: tuple[str, ...] = ()

    def __init__(self, preset: str | None = None, **options: Any) -> None:
        self.preset = preset or self.base
        if self.preset not in PRESETS:
            raise unknown_name("preset", self.preset, PRESETS)
        known = [field.name for field in fields(PRESETS[self.preset])]
        chosen = {} if preset else {self.keys.get(key, key): value for key, value in self.defaults.items()}
        for key, value in current_names(options).items():
            if key in IGNORED or key in self.without_effect:
                continue
            name = self.keys.get(key, key)
            if name not in known:
                raise unknown_name(f"key of {type(self).__name__}", key, [*self.keys, *known])
            chosen[name] = value
        self.options = chosen
        self.reset()

    def reset(self, fps: float | None = None) -> None:
        """Forgets everything, for the first frame of another video.

        Args:
            fps: frames a second of the video, for presets that count time, where the options do not say.
        """
        options = dict(self.options)
        if fps is not None and self.preset not in REFERENCE_PRESETS:
            options.setdefault("fps", float(fps))
        self.associator = open_associator(self.preset, **options)
        self._next_frame = 0

    def track(
        self,
        embeddings: torch.Tensor,
        found: InstanceData,
        frame_id: int | None = None,
        size: tuple[int, int] | None = None,
    ) -> InstanceData:
        """Tracks one frame.

        Args:
            embeddings: (N, D), not normalised, one for each of ``found``.
            found: ``bboxes`` (N, 4) xyxy pixels of the frame, ``labels`` (N,), ``scores`` (N,).
            frame_id: the frame's number, growing; None counts calls.
            size: width and height of the picture.

        Returns:
            The rows that have an identity, in the order given, with ``instances_id``.
        """
        frame = self._next_frame if frame_id is None or frame_id < 0 else int(frame_id)
        self._next_frame = frame + 1
        boxes, scores, labels, embedded = (
            x.detach().cpu().numpy() for x in (found.bboxes, found.scores, found.labels, embeddings)
        )
        seconds = frame / self.associator.options.fps
        seen = Observation(frame, seconds, size, boxes, scores, labels, embedded)
        identities, _, _ = self.associator.update(seen)
        ids = torch.from_numpy(identities).to(found.bboxes.device)
        kept = ids >= 0
        tracked = found[kept]
        tracked.instances_id = ids[kept]
        return tracked


@MODELS.register_module()
class MasaTaoTracker(_Tracker):
    """The authors' tracker for TAO and for any other video. ``with_cats`` has no effect: nor had it there."""

    keys = {  # noqa: RUF012
        "init_score_thr": "track_activation_threshold",
        "obj_score_thr": "object_score_threshold",
        "match_score_thr": "match_score_threshold",
        "memo_tracklet_frames": "memory_frames",
        "memo_momentum": "embedding_momentum",
        "distractor_score_thr": "distractor_score_threshold",
        "distractor_nms_thr": "distractor_iou_threshold",
    }
    defaults = {"init_score_thr": 0.8, "obj_score_thr": 0.5}  # noqa: RUF012
    without_effect = ("with_cats",)


@MODELS.register_module()
class MasaBDDTracker(_Tracker):
    """The authors' tracker for BDD100K."""

    base = "bdd"
    keys = {  # noqa: RUF012
        "init_score_thr": "track_activation_threshold",
        "obj_score_thr": "object_score_threshold",
        "match_score_thr": "match_score_threshold",
        "memo_tracklet_frames": "memory_frames",
        "memo_backdrop_frames": "backdrop_frames",
        "memo_momentum": "embedding_momentum",
        "nms_conf_thr": "nms_confidence_threshold",
        "nms_backdrop_iou_thr": "backdrop_iou_threshold",
        "nms_class_iou_thr": "class_iou_threshold",
        "with_cats": "class_aware",
    }
    defaults = {"init_score_thr": 0.8, "obj_score_thr": 0.5, "match_score_thr": 0.5}  # noqa: RUF012
