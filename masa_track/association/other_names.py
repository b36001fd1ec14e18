"""Options as other trackers call them (SORT, DeepSORT, ByteTrack, BoT-SORT, OC-SORT, norfair), and what ours are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import log
from typing import Any

from masa_track.association.evidence.options import FusedOptions
from masa_track.checks import finite_number

_BUFFER_FPS = 30.0  # ByteTrack scales its buffer by frame_rate / 30, so a buffer is so many frames a second
_USUAL_SCORE = 0.9  # a detection score with which `min_hits` is converted


def name_here(name: str, overrides: Mapping[str, Any], options: Any) -> str:
    """What to write instead of an option of another tracker.

    Args:
        name: the option that was given.
        overrides: all options that were given, by name; ``fps`` and ``track_activation_threshold`` matter to some
            values.
        options: the preset's :class:`FusedOptions` or ``AssociationOptions``.

    Returns:
        The message for the user; empty if the name is of no tracker that is known here.
    """
    explain = _NAMES.get(name)
    if explain is None:
        return ""
    fps = overrides.get("fps", overrides.get("frame_rate", options.fps))
    start = overrides.get("track_activation_threshold", options.track_activation_threshold)
    value = overrides[name]
    usable = finite_number(value) and value >= 0 and finite_number(fps) and fps > 0
    given = _Given(float(value) if usable else None, value, float(fps) if usable else options.fps, start)
    text = explain(given, isinstance(options, FusedOptions))
    return f"option {name!r} is another tracker's: {text}"


class _Given:
    """An option's value: as a number (None where it is none of 0 or more) and as it was given, with ``fps`` and the
    score from which tracks start."""

    def __init__(self, number: float | None, raw: Any, fps: float, start: Any) -> None:
        self.number, self.raw, self.fps, self.start = number, raw, fps, start


_Explain = Callable[[_Given, bool], str]


def _memory(frames_a_second: float | None) -> _Explain:
    """For a memory in frames. ``frames_a_second`` None takes the option ``fps``."""

    def explain(given: _Given, fused: bool) -> str:
        if given.number is None:
            return "use memory_seconds, in seconds" if fused else "use memory_frames, in frames"
        if not fused:
            return f"use memory_frames={round(given.number)}"
        fps = frames_a_second or given.fps
        seconds = given.number / fps
        if not seconds:
            return f"use memory_seconds, above 0: one frame is memory_seconds={1 / fps:.4g}"
        return f"use memory_seconds={_decimal(seconds)} ({given.raw} frames at {fps:g} a second)"

    return explain


def _own_memory(given: _Given, fused: bool) -> str:
    """For ``memory_seconds`` where the preset has ``memory_frames``, and the other way round."""
    if fused:
        return _memory(None)(given, True)
    if given.number is None:
        return "use memory_frames, in frames"
    return f"use memory_frames={round(given.number * given.fps)} ({given.raw} seconds at {given.fps:g} frames a second)"


def _hits(given: _Given, fused: bool) -> str:
    """For the number of detections after which a track gets its identity."""
    if not fused:
        return (
            "this preset starts a track with its first detection above track_activation_threshold; there "
            "is no such option"
        )
    if given.number is None:
        return "use confirm_odds, the sum of a track's detection scores, in log-odds, from which it has an identity"
    if given.number <= 1:
        return "use sure_score=0.0: then a track has its identity from its first detection on"
    start = given.start if finite_number(given.start) else FusedOptions.track_activation_threshold
    each = _log_odds(_USUAL_SCORE) + _log_odds(FusedOptions.track_activation_threshold) - _log_odds(float(start))
    odds = (given.number - 0.5) * max(each, 0.1)
    return (
        f"use confirm_odds={odds:.1f}: a track has its identity when the log-odds of its detection scores add up to "
        f"this, here after {round(given.number)} detections of score {_USUAL_SCORE:g}; sooner for higher scores"
    )


def _log_odds(score: float) -> float:
    score = min(max(score, 0.02), 0.98)
    return log(score / (1 - score))


def _decimal(number: float) -> str:
    """At most four significant digits, always with a point: ``1.0``."""
    text = f"{number:.4g}"
    return text if "." in text or "e" in text else f"{text}.0"


def _score(fused_name: str, other_name: str, added: float = 0.0) -> _Explain:
    """For a threshold of detection scores; ``added`` where the other tracker adds so much itself."""

    def explain(given: _Given, fused: bool) -> str:
        name = fused_name if fused else other_name
        if given.number is None:
            return f"use {name}, a detection score in 0..1"
        if given.number > 1:
            return f"use {name}, a detection score in 0..1, got {given.raw!r}"
        return f"use {name}={_decimal(min(given.number + added, 1.0))}"

    return explain


def _byte_track_threshold(given: _Given, fused: bool) -> str:
    start = _score("track_activation_threshold", "track_activation_threshold", 0.1)(given, fused)
    if not fused or given.number is None or given.number > 1:
        return start
    return f"{start} and high_score_threshold={_decimal(given.number)}"


def _overlap(given: _Given, fused: bool) -> str:
    if fused:
        return (
            "there is no limit of IoU here. Motion and appearance are compared as log-odds; use match_odds (default "
            f"{FusedOptions.match_odds:g}; higher: fewer and surer matches)"
        )
    return (
        "this preset compares embeddings, not overlap; use match_score_threshold, a similarity in 0..1 (higher: fewer "
        "and surer matches), and max_distance in pixels"
    )


def _appearance(given: _Given, fused: bool) -> str:
    if fused:
        return (
            "there is no limit of cosine distance here. Appearance is compared as log-odds; use appearance_weight "
            "(default 1; lower: appearance matters less)"
        )
    return "use match_score_threshold, a similarity in 0..1 (higher: fewer and surer matches)"


def _reid(given: _Given, fused: bool) -> str:
    if fused:
        return f"use use_appearance={bool(given.raw)}"
    return "this preset always uses appearance; preset 'default' has use_appearance=False"


def _same(fused_name: str, other_name: str) -> _Explain:
    """For an option that only has another name."""

    def explain(given: _Given, fused: bool) -> str:
        value = _decimal(given.number) if isinstance(given.raw, float) and given.number is not None else repr(given.raw)
        return f"use {fused_name if fused else other_name}={value}"

    return explain


def _say(text: str) -> _Explain:
    return lambda given, fused: text


_CAMERA = _say("use MasaTracker(camera_motion=True), or --camera-motion on the command line, with preset 'default'")
_LOW = _score("object_score_threshold", "object_score_threshold")
_HIGH = _score("high_score_threshold", "track_activation_threshold")
_START = _score("track_activation_threshold", "track_activation_threshold")
_MODEL = _say("use MasaTracker(model), a name or a file of weights, or --model on the command line")
_NONE = _say("the motion model here has no such option; leave it out")

_NAMES: dict[str, _Explain] = {
    # ours, of the other engine
    "memory_frames": _own_memory,
    "memory_seconds": _own_memory,
    # for how long a lost track is remembered
    "max_age": _memory(None),
    "max_time_lost": _memory(None),
    "hit_counter_max": _memory(None),
    "reid_hit_counter_max": _memory(None),
    "track_buffer": _memory(_BUFFER_FPS),
    "lost_track_buffer": _memory(_BUFFER_FPS),
    # when a track is confirmed
    "min_hits": _hits,
    "n_init": _hits,
    "minimum_consecutive_frames": _hits,
    "initialization_delay": _say(
        "in preset 'default' use confirm_odds, the sum of a track's detection scores, in log-odds, from which it has "
        "an identity"
    ),
    # frames a second
    "frame_rate": _same("fps", "fps"),
    # detection scores
    "track_thresh": _byte_track_threshold,
    "track_high_thresh": _HIGH,
    "high_conf_det_threshold": _HIGH,
    "track_low_thresh": _LOW,
    "min_conf": _LOW,
    "min_confidence": _LOW,
    "conf": _START,
    "det_thresh": _START,
    "new_track_thresh": _START,
    # which pairs may match
    "match_thresh": _overlap,
    "minimum_matching_threshold": _overlap,
    "minimum_iou_threshold": _overlap,
    "iou_threshold": _overlap,
    "max_iou_distance": _overlap,
    "distance_threshold": _overlap,
    "proximity_thresh": _overlap,
    "max_cosine_distance": _appearance,
    "appearance_thresh": _appearance,
    "appearance_threshold": _appearance,
    "with_reid": _reid,
    "nn_budget": _same("views", "views"),
    "per_class": _same("class_aware", "class_aware"),
    # the camera, the model
    "gmc_method": _CAMERA,
    "cmc_method": _CAMERA,
    "use_cmc": _CAMERA,
    "enable_cmc": _CAMERA,
    "reid_model": _MODEL,
    "reid_weights": _MODEL,
    "embedder": _MODEL,
    "delta_t": _NONE,
    "inertia": _NONE,
    "fuse_score": _NONE,
}
