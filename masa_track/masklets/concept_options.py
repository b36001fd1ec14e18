"""The options of the tracking of concepts: the official ones of SAM 3, under names that say what they do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from masa_track.errors import InputError


@dataclass(frozen=True)
class ConceptOptions:
    """When masklets are born, matched, shown and removed. The defaults are those of the official video model, but for
    ``end_empty`` and ``end_unmatched``, which it lacks.

    A masklet is *young* for ``hot_start`` frames from its birth on. All IoU are those of masks.

    Attributes:
        least_score: detections have a higher score, presence x local score.
        nms_iou: of two detections with a higher IoU, the one of the lower score is dropped.
        match_iou: a detection matches each masklet with at least this IoU.
        follow_iou: a masklet is *unmatched* in a frame in which no detection has at least this IoU with it.
        birth_score: a detection without match starts a masklet from this score on. If there is no masklet, each
            detection starts one.
        one_to_one: a masklet is unmatched unless its partner in the assignment of the smallest 1 - IoU has
            ``follow_iou``.
        border: part of the picture's side; a detection whose box has its centre closer to the border starts no masklet.
            0: all may. The official option is 0.025.
        most_objects: masklets at most; of too many new ones those with the highest scores are started. None: no limit.
        hot_start: frames for which a masklet is young. A masklet that is removed while it is young is taken out of all
            frames that were not given out.
        unmatched_frames: a young masklet is removed when it was unmatched in so many frames in all. 0: never.
        duplicate_frames: a young masklet is removed when it shared so many detections with one older masklet; several
            detections of one frame count each. 0: never.
        alive_start, alive_most, alive_least: the keep-alive counter of a masklet starts at the first, rises by 1 in a
            frame in which it is matched up to the second, and falls by 1 in one in which it is unmatched down to the
            third.
        hide_unmatched: an unmatched masklet with a keep-alive counter of 0 or less is not shown. False: only the
            removal of young ones counts.
        empty_is_unmatched: the counter also falls where a mask is empty.
        occlusion_iou: of two masklets with at least this IoU, the one that was occluded more recently is emptied, if
            both were occluded before. 0: never.
        hole_area: pixels; smaller holes are filled and smaller pieces are removed. 0: none.
        recondition_frames: in each such frame, the memory takes over the detection's mask for masklets that agree with
            it. 0: never.
        recondition_score: of detections that recondition, at least.
        recondition_iou: of detection and masklet, at least.
        recondition_logit: object logit of the masklet, above.
        mismatch_iou: whenever the boxes of such a pair have a lower IoU, all pairs are reconditioned and shown with the
            detection's mask. 0: never.
        end_empty: a masklet ends when its mask was empty in so many frames in a row; an instance that comes back later
            starts another one. 0: never, as officially, where memory and time grow with each instance that ever was.
        end_unmatched: a masklet ends when it was empty or unmatched in so many frames in a row. 0: never.
        confirm_frames: a masklet is shown once it was matched in so many frames in a row. 0: at once.
        reverse: frames come in falling order.
    """

    least_score: float = 0.5
    nms_iou: float = 0.1
    match_iou: float = 0.1
    follow_iou: float = 0.5
    birth_score: float = 0.7
    one_to_one: bool = False
    border: float = 0.0
    most_objects: int | None = None
    hot_start: int = 15
    unmatched_frames: int = 8
    duplicate_frames: int = 8
    alive_start: int = 30
    alive_most: int = 30
    alive_least: int = -1
    hide_unmatched: bool = False
    empty_is_unmatched: bool = False
    occlusion_iou: float = 0.7
    hole_area: int = 16
    recondition_frames: int = 16
    recondition_score: float = 0.8
    recondition_iou: float = 0.8
    recondition_logit: float = 0.8
    mismatch_iou: float = 0.0
    end_empty: int = 30
    end_unmatched: int = 300
    confirm_frames: int = 0
    reverse: bool = False

    def __post_init__(self) -> None:
        for name in (
            *("least_score", "nms_iou", "match_iou", "follow_iou", "birth_score", "occlusion_iou", "recondition_score"),
            *("recondition_iou", "mismatch_iou"),
        ):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} must be a number from 0 to 1, got {getattr(self, name)}")
        if not 0 <= self.border < 0.5:
            raise InputError(f"border must be 0 or more and below 0.5, got {self.border}")
        if not np.isfinite(self.recondition_logit):
            raise InputError(f"recondition_logit must be a finite number, got {self.recondition_logit}")
        for name in (
            *("hot_start", "unmatched_frames", "duplicate_frames", "hole_area", "recondition_frames"),
            *("end_empty", "end_unmatched", "confirm_frames"),
        ):
            if not (isinstance(getattr(self, name), int) and getattr(self, name) >= 0):
                raise InputError(f"{name} must be a whole number of 0 or more, got {getattr(self, name)}")
        if self.most_objects is not None and not (isinstance(self.most_objects, int) and self.most_objects > 0):
            raise InputError(
                f"most_objects must be a whole number above 0, or None for no limit, got {self.most_objects}"
            )
        if not self.alive_least <= self.alive_start <= self.alive_most:
            raise InputError(
                "alive_start must be from alive_least to alive_most, "
                f"got {self.alive_start}, {self.alive_least} and {self.alive_most}"
            )
