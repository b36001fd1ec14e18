"""The options of the preset ``default``, which associates by motion and appearance."""

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
    """The options of one :class:`~masa_track.association.evidence.fused.FusedAssociator`, the preset ``default``.

    Log-odds are in nats (natural logarithm), times in seconds, detection scores and IoUs in 0..1. A "box size" is
    sqrt(width * height) of the box in pixels. For a track, "seconds missing" is the time in which it was not detected,
    minus the last frame interval and the time in which the camera did not see its place.

    The defaults were chosen on the clips of ``tools/bench_peers.py``, those of cuts on ``tools/bench_cuts.py``; expect
    other optima on other videos (``masa-track tune`` searches them).

    Attributes:
        track_activation_threshold: score above which an unmatched detection starts a track.
        high_score_threshold: detections with a score above min(``high_score_threshold``,
            ``track_activation_threshold``) are matched first, by all terms. The others are then matched to the tracks
            that remain, by motion alone.
        object_score_threshold: detections with this score or a lower one are ignored.
        sure_score: a new track whose first detection has this score or a higher one has its identity at once. Any other
            new track is tentative: it must be detected in each following frame until it is confirmed, see
            ``confirm_odds``.
        confirm_odds: nats. A tentative track is confirmed, and gets its identity, when the sum of log(s / (1 - s)) over
            its detection scores s (clipped to .02 .. .98) reaches this. At ``track_activation_threshold`` t other than
            .7, log(.7 / .3) - log(t / (1 - t)) is added to each summand. At t = .7 two detections of score .82 suffice,
            or four of .7; at any t, four of score t.
        confirm_seconds: seconds. After a frame interval longer than this, each new track has its identity at once,
            because its object may be detected only once. The default is no multiple of a usual frame time, at which
            rounding would decide.
        memory_seconds: seconds for which a track is remembered after its last detection.
        fps: frames a second of ``frame_index``.
        match_odds: nats. A detection and a track can be matched if the sum of their terms exceeds this. Higher: fewer
            and more reliable matches.
        second_match_odds: nats. The same for detections of low score, where motion is the only term.
        second_gap_seconds: seconds. A detection of low score can match only a track whose last detection is at most
            this old.
        forgetting_seconds: seconds. A track's log-odds fall by 1 nat for each ``forgetting_seconds`` missing.
        motion_memory_seconds: seconds. Positive log-odds of motion, and those of the detection probability, are
            multiplied by exp(-seconds missing / ``motion_memory_seconds``).
        missing_odds: nats, 0 or more. P * (``missing_odds`` + log(1 + sum of P over all tracks / 10)) is subtracted for
            a track that is missing, where P = 1 - exp(-seconds missing / ``leaving_seconds``) is the probability that
            it has left. Higher: returning objects get new identities more often.
        entry_odds: nats, 0 or more. P * ``entry_odds`` * exp(-d / (.5 box sizes)) is subtracted as well, where d is the
            distance of the detection from the border of the picture: new objects enter there.
        leaving_seconds: seconds, the time constant of P above.
        jump_odds: nats, the least that motion contributes: log of the probability that an object is not where motion
            predicts it (jumps, inaccurate boxes).
        return_prior: nats, log-odds that an object which enters the picture is one that left it elsewhere, where the
            appearance says nothing; 2 more are added where that one left. At the default a returner is recognised where
            several objects of different appearance have been seen, and identical products that pass one by one are
            different objects. At -0.5 a similar appearance suffices, also of the only object that was ever seen: one
            person who leaves at one border and returns at another keeps the identity, but identical products get the
            identity of the one before. At -20 an object never returns through another border.
        reidentify: False: appearance never links a track that has been missing for over .5 s, so an object that left
            gets a new identity; motion still bridges gaps.
        max_identities: the largest number of identities, e.g. 5 for five mice that never leave; None: no limit. When
            they are given, each further detection takes one of them or none.
        cut_odds: nats, log of the prior probability that a frame is the first one after a cut. At a cut, appearance
            alone decides.
        cut_seconds: seconds. Across a cut, cosines are judged as if at least this time had passed since the last
            detection of the track.
        cut_match_odds: nats. It replaces ``match_odds`` across a cut to another view of the same objects; across a cut
            to other objects, -``cut_match_odds`` does.
        use_appearance: False ignores the embeddings and tracks by motion alone.
        appearance_weight: factor of the log-odds of appearance, 0 or more.
        most_appearance_odds: nats. Log-odds of appearance are clipped to +- this, before they are weighted.
        clean_overlap: fraction of a box, 0..1. A detection of which another box covers this fraction or more is not
            added to the remembered embeddings of its track and does not calibrate the cosines.
        views: number of embeddings remembered of each track.
        view_seconds: seconds between two remembered embeddings. Meanwhile a new one replaces the newest.
        duplicate_iou: an unmatched detection starts no track if its IoU with a matched detection, or with an unmatched
            one of higher score, exceeds this.
        distractor_iou_threshold: a detection of low score is ignored if its IoU with one of higher score exceeds this.
        class_aware: True: a detection can match only a track of its own class, and is suppressed only by detections of
            its own class.
        class_groups: groups of classes, e.g. ``((2, 7), (0,))``: as ``class_aware``, but the classes of a group count
            as one. A class that is in none is a group of its own. None: no groups.
        motion_speed: standard deviation of the speed of objects along x and along y, box sizes a second. Each track is
            also filtered with 3 and 9 times this speed; which filter counts is learned from the video.
        motion_persistence: seconds after which a velocity has decayed to 1 / e.
        position_noise: standard deviation of a detection's centre, box sizes.
        extent_noise: standard deviation of a detection's width and of its height, box sizes.
        filter_boxes: True: a second, slower filter follows each track; its boxes jitter less than the detections. They
            are ``filtered_boxes`` of the engine and ``data["box"]`` of the tracker's detections. Identities stay as
            they are.
        first_id: the first identity.
    """

    track_activation_threshold: float = 0.7  # half -.012/-.019, double -.017/-.036 (belt -.004)
    high_score_threshold: float = 0.6  # half -.002/-.024, double +.004/-.005
    object_score_threshold: float = 0.1  # off 0/-.001, half 0/0, double 0/0
    sure_score: float = 0.999  # off 0/0, half -.005/-.013 (belt +.004), double 0/0
    confirm_odds: float = 3.0  # off 0/0, half 0/0, double -.002/+.001 (belt -.004)
    confirm_seconds: float = 0.22  # off -.005/-.013 (belt +.004), half -.003/-.004, double +.002/-.003
    memory_seconds: float = 30.0  # half +.001/0, double -.001/-.004
    fps: float = 30.0
    match_odds: float = -0.25  # half -.002/-.010 (fast -.031), double -.001/-.008
    second_match_odds: float = 3.0  # off -.008/-.040, half -.001/-.007, double -.001/+.001
    second_gap_seconds: float = 1.0  # half 0/-.002, double +.002/+.008
    forgetting_seconds: float = 30.0  # off 0/-.001, half -.001/-.001, double 0/-.004
    motion_memory_seconds: float = 2.0  # off +.002/+.019, half -.001/-.018, double +.002/+.011
    missing_odds: float = 0.5  # off +.001/-.001, half +.002/0, double -.002/-.015
    entry_odds: float = 6.0  # off +.004/-.006, half +.003/-.008, double -.001/-.003
    leaving_seconds: float = 0.5  # half -.001/-.007, double 0/0
    jump_odds: float = -5.0  # off 0/-.007 (fast -.016), half -.001/-.017 (fast +.015), double 0/-.007 (fast -.016)
    return_prior: float = -2.0  # off -.002 (returns -.278), half -.001 (belt -.830), double -.002 (returns -.249)
    reidentify: bool = True
    max_identities: int | None = None
    cut_odds: float = -5.0  # off 0, half -.019, double 0
    cut_seconds: float = 3.0  # off 0, half 0, double 0
    cut_match_odds: float = -2.0  # half 0, double -.025
    use_appearance: bool = True
    appearance_weight: float = 1.0  # off -.035, half -.013, double -.009
    most_appearance_odds: float = 6.0  # off 0, half -.013, double 0
    clean_overlap: float = 0.4  # off -.008, half -.018, double -.008
    views: int = 6  # off -.019, half -.009, double -.003
    view_seconds: float = 0.3  # off 0, half 0, double -.002
    duplicate_iou: float = 0.7  # off 0/0, half 0/0 (similar -.004), double 0/0
    distractor_iou_threshold: float = 0.5  # off 0/0, half 0/-.002, double 0/0
    class_aware: bool = False
    class_groups: tuple[tuple[int, ...], ...] | None = None
    motion_speed: float = 1.4  # half +.012/-.002, double -.022/-.055
    motion_persistence: float = 10.0  # off -.007/-.005, half -.016/-.005, double +.008/+.005
    position_noise: float = 0.07  # half +.003/-.011, double -.022/-.027
    extent_noise: float = 0.12  # half -.011/-.015, double -.002/-.018
    filter_boxes: bool = False
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
            elif name == "max_identities":
                if value is not None:
                    check_whole(name, value, 1, MOST_FIRST_ID)
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
