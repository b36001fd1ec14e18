"""The keys of the authors' trackers in configurations, and the options that they are here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from masa_track.association.presets import PRESETS, current_names
from masa_track.errors import unknown_name

IGNORED = ("momentums", "num_frames_retain", "init_cfg")  # of mmdet's BaseTracker, which the authors' never used
_SHARED = {
    "init_score_thr": "track_activation_threshold",
    "obj_score_thr": "object_score_threshold",
    "match_score_thr": "match_score_threshold",
    "memo_tracklet_frames": "memory_frames",
    "memo_momentum": "embedding_momentum",
}


@dataclass(frozen=True)
class AuthorsTracker:
    """One of the authors' trackers.

    Attributes:
        preset: whose options hold where no key says another.
        keys: option by key.
        defaults: values of keys that are not given.
        without_effect: keys that had no effect there, nor have here.
    """

    preset: str
    keys: Mapping[str, str]
    defaults: Mapping[str, Any]
    without_effect: tuple[str, ...] = ()


AUTHORS_TRACKERS = {
    "MasaTaoTracker": AuthorsTracker(
        "tao",
        {
            **_SHARED,
            "distractor_score_thr": "distractor_score_threshold",
            "distractor_nms_thr": "distractor_iou_threshold",
        },
        {"init_score_thr": 0.8, "obj_score_thr": 0.5},
        without_effect=("with_cats",),
    ),
    "MasaBDDTracker": AuthorsTracker(
        "bdd",
        {
            **_SHARED,
            "memo_backdrop_frames": "backdrop_frames",
            "nms_conf_thr": "nms_confidence_threshold",
            "nms_backdrop_iou_thr": "backdrop_iou_threshold",
            "nms_class_iou_thr": "class_iou_threshold",
            "with_cats": "class_aware",
        },
        {"init_score_thr": 0.8, "obj_score_thr": 0.5, "match_score_thr": 0.5},
    ),
}


def authors_options(
    tracker: str, given: Mapping[str, Any], preset: str | None = None
) -> tuple[str, dict[str, Any], list[str]]:
    """A tracker's configuration as a preset and its options.

    Args:
        tracker: of :data:`AUTHORS_TRACKERS`.
        given: values by key of the authors, or by option.
        preset: in place of the tracker's own; the defaults of keys then do not hold.

    Returns:
        The preset, the options by name, and the keys that are neither keys nor options.

    Raises:
        InputError: an unknown preset.
    """
    kind = AUTHORS_TRACKERS[tracker]
    name = preset or kind.preset
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS)
    known = [field.name for field in fields(PRESETS[name])]
    options = {} if preset else {kind.keys.get(key, key): value for key, value in kind.defaults.items()}
    unknown = []
    for key, value in current_names(given).items():
        if key in IGNORED or key in kind.without_effect:
            continue
        if kind.keys.get(key, key) in known:
            options[kind.keys.get(key, key)] = value
        else:
            unknown.append(key)
    return name, options, unknown
