"""The options of the engine that uses embeddings alone, and the presets: named sets of options."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import Any

from masa_track.association.evidence.options import MOST_VIEWS, FusedOptions, check_whole
from masa_track.association.other_names import name_here
from masa_track.association.similarity import METRICS
from masa_track.checks import MOST_FIRST_ID, finite_number, threshold_above_1
from masa_track.errors import InputError, unknown_name

ASSIGNMENTS = ("greedy", "hungarian")
DISTRACTOR_NMS = ("inter", "intra")


@dataclass(frozen=True)
class AssociationOptions:
    """The options of one :class:`~masa_track.association.Associator`, for all presets but ``default``.

    Detection scores and IoUs are in 0..1, distances in pixels, times in frames. A threshold of ``None`` disables its
    rule. The defaults here are those of the authors' ``MasaTaoTracker``; :data:`PRESETS` has those of each preset.

    Attributes:
        track_activation_threshold: score above which an unmatched detection starts a track.
        object_score_threshold: score above which a detection can match a track.
        match_score_threshold: similarity by ``match_metric`` above which a detection and a track can match.
        memory_frames: frames for which a track is remembered after its last detection.
        embedding_momentum: weight m of the new embedding in a track's running mean, (1 - m) * old + m * new, 0..1.
        views: number of embeddings remembered of each track: those that differ most, and the newest. With more than 1,
            ``embedding_momentum`` has no effect, and the cosine of a detection and a track is the mean of two: that to
            the nearest remembered embedding, and that to the mean of them.
        match_metric: ``bisoftmax``, ``softmax``, ``cosine`` or ``bisoftmax_cosine`` (mean of bi-softmax and cosine).
        assignment: ``greedy``: in the order of detection scores; ``hungarian``: the largest sum of similarities.
        class_aware: True: a detection can match only a track of its own class.
        max_distance: pixels. The similarity is multiplied by exp(-(d - r) / (100 / ``fps``)) if the distance d of the
            centres exceeds r = ``max_distance`` * exp(6 * gap in frames / ``fps``). None or -1 disables this.
        fps: frames a second; used for ``max_distance`` and ``count_frames=False``.
        distractor_nms: ``inter``: a distractor is suppressed by a box of any class; ``intra``: of its own class.
        distractor_score_threshold: score below which a detection may be a distractor.
        distractor_iou_threshold: a distractor is ignored if its IoU with a detection of higher score exceeds this.
        class_iou_threshold: a detection with a score of ``object_score_threshold`` or more is ignored if its IoU with
            one of higher score exceeds this.
        backdrop_iou_threshold: the same for detections of lower score. An unmatched detection whose IoU with one of
            higher score exceeds it becomes no backdrop.
        backdrop_frames: number of frames for which unmatched detections are kept as backdrops. A detection that matches
            a backdrop takes no track.
        nms_confidence_threshold: similarity. A detection with a score of at most ``object_score_threshold`` becomes
            neither a track nor a backdrop if its best match is a track with a larger similarity than this.
        prune_before_matching: True: tracks older than ``memory_frames`` are deleted before matching. False, as in the
            reference: they are deleted after matching, and not on frames without detections, so that an expired track
            can still match after such a gap. Where every frame has detections, both give the same identities.
        count_frames: True: ``memory_frames`` are counted by frame numbers, as by the authors; False: by time, ``fps`` a
            second.
        first_id: the first identity.
    """

    track_activation_threshold: float = 0.1
    object_score_threshold: float = 0.01
    match_score_threshold: float = 0.5
    memory_frames: int = 10
    embedding_momentum: float = 0.8
    views: int = 1
    match_metric: str = "bisoftmax_cosine"
    assignment: str = "greedy"
    class_aware: bool = False
    max_distance: float | None = None
    fps: float = 30.0
    distractor_nms: str = "inter"
    distractor_score_threshold: float = 0.5
    distractor_iou_threshold: float | None = 0.3
    class_iou_threshold: float | None = None
    backdrop_iou_threshold: float | None = None
    backdrop_frames: int = 0
    nms_confidence_threshold: float | None = None
    prune_before_matching: bool = True
    count_frames: bool = True
    first_id: int = 0

    def __post_init__(self) -> None:
        unit: tuple[str, ...] = (
            "embedding_momentum",
            "distractor_iou_threshold",
            "class_iou_threshold",
            "backdrop_iou_threshold",
        )
        numbers: tuple[str, ...] = (
            "track_activation_threshold",
            "object_score_threshold",
            "match_score_threshold",
            "max_distance",
            "fps",
        )
        numbers += ("distractor_score_threshold", "nms_confidence_threshold", *unit)
        optional = {f.name for f in fields(self) if "None" in str(f.type)}
        for name in numbers:
            value = getattr(self, name)
            if value is None and name in optional:
                continue
            if not finite_number(value):
                raise InputError(
                    f"{name} must be a finite number{' or None' if name in optional else ''}, got {value!r}"
                )
            if name in unit and not 0 <= float(value) <= 1:
                raise InputError(f"{name} must be in 0..1, got {value!r}")
        for name, least, most in (
            ("memory_frames", 0, MOST_FIRST_ID),
            ("backdrop_frames", 0, MOST_FIRST_ID),
            ("first_id", 0, MOST_FIRST_ID),
            ("views", 1, MOST_VIEWS),
        ):
            check_whole(name, getattr(self, name), least, most)
        for name in ("class_aware", "prune_before_matching", "count_frames"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"{name} must be True or False, got {getattr(self, name)!r}")
        for name, known in (("match_metric", METRICS), ("assignment", ASSIGNMENTS), ("distractor_nms", DISTRACTOR_NMS)):
            if getattr(self, name) not in known:
                raise unknown_name(name, getattr(self, name), known)
        for name in ("track_activation_threshold", "object_score_threshold"):
            if getattr(self, name) > 1:
                raise InputError(threshold_above_1(name, getattr(self, name)))
        if self.match_score_threshold < 0:
            raise InputError(f"match_score_threshold must be 0 or more, got {self.match_score_threshold!r}")
        if self.fps <= 0:
            raise InputError(f"fps must be above 0, got {self.fps!r}")
        if self.max_distance is not None and self.max_distance < 0 and self.max_distance != -1:
            raise InputError(
                f"max_distance must be 0 or more pixels, or None or -1 for no gate, got {self.max_distance!r}"
            )
        if self.backdrop_frames and self.views > 1:
            raise InputError(f"views must be 1 where backdrops are kept, got {self.views}: set backdrop_frames=0")
        if self.backdrop_frames and self.backdrop_iou_threshold is None:
            raise InputError("backdrop_frames needs a backdrop_iou_threshold, e.g. 0.3")


# The authors' `MasaTaoTracker` and `MasaBDDTracker` with the settings of their official configs (README of MASA).
_TAO = AssociationOptions(
    track_activation_threshold=1e-4,
    object_score_threshold=1e-4,
    fps=1.0,
    prune_before_matching=False,
)
_DEMO = replace(_TAO, track_activation_threshold=0.1, object_score_threshold=0.01, max_distance=100.0, fps=30.0)
_BDD = AssociationOptions(
    track_activation_threshold=0.5,
    object_score_threshold=0.3,
    match_score_threshold=0.6,
    match_metric="bisoftmax",
    distractor_iou_threshold=None,
    class_iou_threshold=0.7,
    backdrop_iou_threshold=0.3,
    backdrop_frames=1,
    nms_confidence_threshold=0.5,
    prune_before_matching=False,
)
# Embeddings alone, no distance gate, a memory of 1,000 frames (33 s at 30 frames a second). Threshold and views were
# chosen on the dev clips for `nano` (its card has the table): thresholds from .3 to .45 were within .03 IDF1.
_APPEARANCE = AssociationOptions(match_score_threshold=0.4, views=10, memory_frames=1000, count_frames=False)

PRESETS: dict[str, AssociationOptions | FusedOptions] = {
    "tao": _TAO,
    "bdd": _BDD,
    "demo": _DEMO,
    "appearance": _APPEARANCE,
    "default": FusedOptions(),
}
REFERENCE_PRESETS = ("tao", "bdd", "demo")


# Options that had another name before: old name -> name.
RENAMED_OPTIONS = {"init_score_threshold": "track_activation_threshold"}


def current_names(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options by the names that they have now; an old name gives a warning.

    Args:
        options: values by option name.

    Raises:
        InputError: an option is given by its old and by its new name.
    """
    current = dict(options)
    for old, new in RENAMED_OPTIONS.items():
        if old not in current:
            continue
        if new in current:
            raise InputError(f"{old} is the old name of {new}, got both: give {new} only")
        warnings.warn(
            f"the option {old} is now called {new}; the old name will be removed", FutureWarning, stacklevel=2
        )
        current[new] = current.pop(old)
    return current


def any_options_of(preset: str, **overrides: Any) -> AssociationOptions | FusedOptions:
    """The options of a preset, with some of them changed.

    Args:
        preset: a name in :data:`PRESETS`.
        **overrides: fields of the preset's options, :class:`AssociationOptions` or, for ``default``,
            :class:`~masa_track.association.evidence.options.FusedOptions`.

    Raises:
        InputError: for an unknown preset or option, or a value out of range. The message names the nearest known name;
            for an option of another tracker, our option with the converted value.
    """
    overrides = current_names(overrides)
    if preset not in PRESETS:
        raise unknown_name("preset", preset, PRESETS)
    options = PRESETS[preset]
    known = [f.name for f in fields(options)]
    unknown = [name for name in overrides if name not in known]
    others = [text for name in unknown if (text := name_here(name, overrides, options))]
    if others:
        raise InputError("; ".join(others))
    for name in unknown:
        raise (
            unknown_name("option", name, known)
            if get_close_matches(name, known)
            else InputError(f"unknown option {name!r}: known are {', '.join(known)}")
        )
    return replace(options, **overrides)


def options_of(preset: str, **overrides: Any) -> AssociationOptions:
    """The same for a preset of :class:`~masa_track.association.Associator`."""
    options = any_options_of(preset, **overrides)
    if isinstance(options, FusedOptions):
        raise InputError(f"preset {preset!r} uses motion and appearance: use FusedAssociator or open_associator")
    return options


def fused_options_of(preset: str, **overrides: Any) -> FusedOptions:
    """The same for a preset of :class:`~masa_track.association.FusedAssociator`."""
    options = any_options_of(preset, **overrides)
    if not isinstance(options, FusedOptions):
        raise InputError(f"preset {preset!r} uses no motion: use Associator or open_associator")
    return options
