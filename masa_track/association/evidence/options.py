"""What the association by motion and appearance can be told."""

from __future__ import annotations

from dataclasses import dataclass, fields
from numbers import Integral
from typing import Any

from masa_track.checks import MOST_FIRST_ID, finite_number, threshold_above_1
from masa_track.errors import InputError

MOST_VIEWS = 1000  # memory grows with tracks x views


def check_whole(name: str, value: Any, least: int, most: int) -> None:
    """Raises InputError unless the option is a whole number of ``least`` to ``most``."""
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < least:
        raise InputError(f"{name} must be a whole number of {least} or more, got {value!r:.60}")
    if int(value) > most:
        raise InputError(f"{name} must be at most {most}, got {value!r:.60}")


@dataclass(frozen=True)
class FusedOptions:
    """The options of one :class:`~masa_track.association.evidence.fused.FusedAssociator`. Odds are natural logarithms.

    Attributes:
        track_activation_threshold: an unmatched detection above it starts a track.
        high_score_threshold: detections above it, or above ``track_activation_threshold``, choose their tracks first;
            the others may take what is left.
        object_score_threshold: a detection must be above it to take a track at all.
        sure_score: a detection from it on starts a track at once; a weaker one must be seen again in the next frames,
            and has no identity until its scores add up to
        confirm_odds: this, in log-odds: two of .82 or more, four of .7 (of whatever ``track_activation_threshold`` is).
        confirm_seconds: at once starts any detection after a gap longer than this, where it may not be seen twice.
        memory_seconds: how long a track is remembered after it was last seen.
        fps: frames a second of ``frame_index``.
        match_odds: a detection takes a track when what speaks for it is more than this.
        second_match_odds: the same for detections of a low score, which only motion speaks for.
        second_gap_seconds: a track unseen for longer is not given to a detection of a low score.
        forgetting_seconds: a track missing for so long is less likely by 1.
        motion_memory_seconds: after missing for so long, that a track's place fits counts 1 / e.
        missing_odds: a track that has been missing is less likely by so much, and by more the more of them there are,
        entry_odds: and by so much more at the border of the picture, where new things come in.
        leaving_seconds: after so long most of what left the picture is gone.
        jump_odds: the logarithm of how often things are not where motion expects them (a jump, a bad box): the least
            that motion can say.
        cut_odds: the logarithm of how often a frame shows another view than the one before, of the same things or of
            others: then appearance alone decides.
        cut_seconds: across a cut things look as different as after so long.
        cut_match_odds: ``match_odds`` across a cut to the same things; across one to others, minus it.
        use_appearance: False leaves the embeddings aside.
        appearance_weight: weight of the appearance's log-odds.
        most_appearance_odds: the most that appearance can say, either way.
        clean_overlap: a detection that another covers by more says little by its appearance, and is not remembered.
        views: embeddings remembered of each track.
        view_seconds: how much time is between them, at least.
        duplicate_iou: an unmatched detection that overlaps a better one by more starts no track.
        distractor_iou_threshold: a detection of a low score that overlaps a better one by more is left out.
        class_aware: a detection may only take a track of its own class, and only hide detections of its own class.
        class_groups: groups of classes, e.g. ``((2, 7), (0,))``: as ``class_aware``, but the classes of a group count
            as one. A class that is in none is a group of its own. None: no groups.
        motion_speed: how fast things move, in sizes (sqrt of the area) of their box a second, one standard deviation.
        motion_persistence: seconds after which a velocity is forgotten.
        position_noise: how exact a detection's centre is, in sizes.
        extent_noise: how exact its width and height are, in sizes.
        first_id: the first identity given.
    """

    track_activation_threshold: float = 0.7
    high_score_threshold: float = 0.6
    object_score_threshold: float = 0.1
    sure_score: float = 0.999
    confirm_odds: float = 3.0
    confirm_seconds: float = 0.2
    memory_seconds: float = 30.0
    fps: float = 30.0
    match_odds: float = -0.25
    second_match_odds: float = 3.0
    second_gap_seconds: float = 1.0
    forgetting_seconds: float = 30.0
    motion_memory_seconds: float = 2.0
    missing_odds: float = 0.5
    entry_odds: float = 6.0
    leaving_seconds: float = 0.5
    jump_odds: float = -5.0
    cut_odds: float = -5.0
    cut_seconds: float = 3.0
    cut_match_odds: float = -2.0
    use_appearance: bool = True
    appearance_weight: float = 1.0
    most_appearance_odds: float = 6.0
    clean_overlap: float = 0.4
    views: int = 6
    view_seconds: float = 0.3
    duplicate_iou: float = 0.7
    distractor_iou_threshold: float = 0.5
    class_aware: bool = False
    class_groups: tuple[tuple[int, ...], ...] | None = None
    motion_speed: float = 1.4
    motion_persistence: float = 10.0
    position_noise: float = 0.07
    extent_noise: float = 0.12
    first_id: int = 0

    def __post_init__(self) -> None:
        above_zero = {"memory_seconds", "fps", "forgetting_seconds", "motion_speed", "motion_persistence"}
        above_zero |= {
            "position_noise",
            "extent_noise",
            "most_appearance_odds",
            "leaving_seconds",
            "motion_memory_seconds",
        }
        unit = {"clean_overlap", "duplicate_iou", "distractor_iou_threshold"}
        for name, kind in ((f.name, str(f.type)) for f in fields(self)):
            value = getattr(self, name)
            if name == "class_groups":
                object.__setattr__(self, name, _checked_groups(value))
            elif kind == "bool":
                if not isinstance(value, bool):
                    raise InputError(f"{name} must be True or False, got {value!r}")
            elif kind == "int":
                least, most = (1, MOST_VIEWS) if name == "views" else (0, MOST_FIRST_ID)
                check_whole(name, value, least, most)
            else:
                if not finite_number(value):
                    raise InputError(f"{name} must be a finite number, got {value!r}")
                if name in above_zero and value <= 0:
                    raise InputError(f"{name} must be above 0, got {value!r}")
                if (
                    name in ("track_activation_threshold", "high_score_threshold", "object_score_threshold")
                    and value > 1
                ):
                    raise InputError(threshold_above_1(name, value))
                if name in unit and not 0 <= float(value) <= 1:
                    raise InputError(f"{name} must be in 0..1, got {value!r}")
        for name in (
            "second_gap_seconds",
            "view_seconds",
            "appearance_weight",
            "confirm_seconds",
            "cut_seconds",
            "missing_odds",
            "entry_odds",
        ):
            if getattr(self, name) < 0:
                raise InputError(f"{name} must be 0 or more, got {getattr(self, name)!r}")


def _checked_groups(groups: Any) -> tuple[tuple[int, ...], ...] | None:
    """``class_groups`` as tuples of whole numbers.

    Raises:
        InputError: if they are not groups of whole numbers, or if a class is in two of them.
    """
    if groups is None:
        return None
    shape = "class_groups must be groups of class numbers, e.g. ((2, 7), (0,))"
    try:
        checked = tuple(tuple(group) for group in groups)
    except TypeError as error:
        raise InputError(f"{shape}, got {groups!r}") from error
    classes = [label for group in checked for label in group]
    if any(isinstance(label, bool) or not isinstance(label, Integral) for label in classes):
        raise InputError(f"{shape}, got {groups!r}")
    twice = sorted({label for label in classes if classes.count(label) > 1})
    if twice:
        raise InputError(f"class_groups must hold each class once, got {twice[0]} more than once")
    return tuple(tuple(int(label) for label in group) for group in checked)
