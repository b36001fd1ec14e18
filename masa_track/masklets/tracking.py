"""Detections and masklets together: masklets are evidence for identities, and identities prompt masklets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import supervision as sv

from masa_track.association.evidence.mask_overlap import MOST, mask_log_odds
from masa_track.boxes import box_iou
from masa_track.contracts import Features, Frame, FrameResult, MaskletFrame, MaskPropagator, Prompt
from masa_track.errors import InputError
from masa_track.masklets.limits import ObjectLimit
from masa_track.masks import compact_masks, mask_box
from masa_track.tracker import AroundTracker, MasaTracker

OBSERVED_BY = "observed_by"  # in ``data``: "detector" or "masklet"
_NEAR = 0.1  # IoU below which a pair gets no hint, unless another masklet claims the detection
_CLAIMS = 0.5  # IoU from which it does


@dataclass(frozen=True)
class MaskletOptions:
    """When a masklet counts, and when it is lost.

    Attributes:
        alone_seconds: for which a masklet continues a track that the detector no longer shows. In frames in which the
            detector did not run, masklets continue all tracks that it showed when it ran last.
        least_iou: a masklet whose predicted IoU is below is lost.
        most_growth: a masklet whose area is more times that of the last frame with a detection is lost: it has
            swallowed a neighbour or the background.
        most_overlap: of two masks whose IoU is above, the one of the lower confidence is lost.
        use_mask_overlap: where a detection has a mask of its own, the IoU of the masks is evidence, not that of the
            boxes. Off: it made no identity better where it was measured (tools/bench_mask_evidence.py).
        reprompt_iou: a masklet whose box has a lower IoU with the box of its track's detection is prompted anew.
    """

    alone_seconds: float = 0.0
    least_iou: float = 0.5
    most_growth: float = 4.0
    most_overlap: float = 0.7
    reprompt_iou: float = 0.3
    use_mask_overlap: bool = False

    def __post_init__(self) -> None:
        if not (np.isfinite(self.alone_seconds) and self.alone_seconds >= 0):
            raise InputError(f"alone_seconds must be 0 or more seconds, got {self.alone_seconds}")
        for name in ("least_iou", "most_overlap", "reprompt_iou"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} must be a number from 0 to 1, got {getattr(self, name)}")
        if not self.most_growth > 1:
            raise InputError(f"most_growth must be above 1, got {self.most_growth}")


@dataclass(frozen=True)
class _Known:
    """What is known of the track of a masklet: when a detection last showed it, its label, and the mask's area then."""

    seen: float
    label: int
    area: float


class MaskletTracker(AroundTracker):
    """Gives detections identities with the help of masklets; see :class:`masa_track.contracts.IdentitySource`.

    For each frame:

    1. The propagator proposes a mask for each track that has a masklet. A masklet is *lost* if its object logit is
       below 0, its mask is empty, its predicted IoU is too low, it has grown too much, or it overlaps a surer one.
    2. A masklet that is not lost gives each detection near it a hint, in nats, on their being one object:
       ``log(1 - c + c exp(a + b IoU))``, at most 4, where c = sigmoid(object logit) x predicted IoU is the probability
       that the masklet is right, IoU is that of the detection's box and the mask's, and a, b are fitted.
    3. A masklet that no detection overlaps is a row of its own, which may continue its track for ``alone_seconds`` and
       may neither start nor confirm one.
    4. After association, a new identity prompts a masklet with its box (or the detection's mask); a masklet that is
       lost, or far from its track's detection, is prompted anew; an ended identity ends it; after a cut all begin anew.

    Args:
        tracker: gives the identities, by motion, appearance and these hints.
        propagator: carries the masks.
        options: when a masklet counts.
        free_bytes: free memory, see :class:`~masa_track.masklets.limits.ObjectLimit`.
    """

    def __init__(
        self,
        tracker: MasaTracker,
        propagator: MaskPropagator,
        options: MaskletOptions | None = None,
        free_bytes: int | None = None,
    ) -> None:
        fix = "track fewer objects (a higher score that starts a track, fewer classes), or leave masklets out"
        self._limit = ObjectLimit(propagator, "detections", fix, free_bytes)
        super().__init__(tracker)
        self.propagator = propagator
        self.masklet_options = options or MaskletOptions()
        self._known: dict[int, _Known] = {}
        self._ran = -np.inf  # when the detector ran last, seconds
        self._count = 0  # of frames; propagators want consecutive numbers

    def step(
        self, frame: Frame, detections: sv.Detections | None = None, *, features: Features | None = None
    ) -> list[FrameResult]:
        """Tracks one frame.

        Args:
            frame: with its picture.
            detections: N rows; None: the detector did not run, and a track that is not seen is not missing.
            features: of the tracker's model, for the same frame.

        Returns:
            One result. Its rows are the N detections and those of masklets alone, with ``data["observed_by"]``,
            ``detector`` or ``masklet``. Rows with an identity have a mask.

        Raises:
            InputError: as :meth:`MasaTracker.update`, or the memory does not hold the masklets of the frames before;
                neither tracker nor masklets have changed then.
        """
        self._limit.check(len(self._known), (frame.picture.shape[1], frame.picture.shape[0]))
        proposal = self.propagator.propose(replace(frame, number=self._count + 1))  # whatever the stride
        alive = self._alive(proposal)
        rows, evidence, alone = self._evidence(frame, proposal, alive, detections)
        may_start = np.arange(len(rows)) < len(rows) - alone
        (result,) = self.tracker.step(
            frame, rows, features=features, may_start=may_start, detector_ran=detections is not None, **evidence
        )
        found = result.detections
        found.data[OBSERVED_BY] = np.where(may_start, "detector", "masklet")
        self._prompt(result, proposal, alive, may_start)
        self._ran = frame.time if detections is not None else self._ran
        self._count += 1
        return [result]

    def reset(self) -> None:
        """Forgets everything, for another video."""
        self.tracker.reset()
        self.propagator.reset()
        self._known, self._ran, self._count = {}, -np.inf, 0

    def reserve(self, identity: int) -> None:
        """No new track gets an identity up to this one."""
        self.tracker.reserve(identity)

    def state_dict(self) -> dict[str, np.ndarray]:
        """The state of tracker and masklets as arrays of numbers and text."""
        known = np.array([[i, k.seen, k.label, k.area] for i, k in sorted(self._known.items())], np.float64)
        state = {f"tracker.{name}": value for name, value in self.tracker.state_dict().items()}
        state |= {f"propagator.{name}": value for name, value in self.propagator.state_dict().items()}
        return state | {"known": known.reshape(-1, 4), "ran": np.array(self._ran), "count": np.array(self._count)}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Goes on from a state of :meth:`state_dict`.

        Raises:
            InputError: the state does not fit.
        """
        if not {"known", "ran", "count"} <= state.keys():
            raise InputError("state must be that of a tracker with masklets, got one without masklets")
        parts = {
            part: {name[len(part) + 1 :]: value for name, value in state.items() if name.startswith(f"{part}.")}
            for part in ("tracker", "propagator")
        }
        before = self.propagator.state_dict()
        self.propagator.load_state_dict(parts["propagator"])
        try:
            self.tracker.load_state_dict(parts["tracker"])
        except InputError:
            self.propagator.load_state_dict(before)
            raise
        self._ran, self._count = float(state["ran"]), int(state["count"])
        self._known = {int(i): _Known(seen, int(label), area) for i, seen, label, area in state["known"].tolist()}

    def _alive(self, proposal: MaskletFrame) -> np.ndarray:
        """(K,) bool, masklets that are not lost."""
        options, count = self.masklet_options, len(proposal.ids)
        areas = _areas(proposal)
        confidence = proposal.confidence
        alive = (proposal.object_logits >= 0) & (areas > 0) & (proposal.predicted_iou >= options.least_iou)
        for place, identity in enumerate(proposal.ids.tolist()):
            known = self._known.get(identity)
            if known is None or (known.area > 0 and areas[place] > options.most_growth * known.area):
                alive[place] = False
        dense = [np.asarray(proposal.masks[place]).reshape(-1) if alive[place] else None for place in range(count)]
        boxes = mask_boxes(proposal)
        for first, second in zip(*np.nonzero(np.triu(box_iou(boxes, boxes), 1) > 0), strict=True):
            one, other = dense[first], dense[second]
            if one is None or other is None or not (alive[first] and alive[second]):
                continue
            union = np.count_nonzero(one | other)
            if union and np.count_nonzero(one & other) / union > options.most_overlap:
                alive[first if confidence[first] < confidence[second] else second] = False
        return np.asarray(alive)

    def _evidence(
        self, frame: Frame, proposal: MaskletFrame, alive: np.ndarray, detections: sv.Detections | None
    ) -> tuple[sv.Detections, dict[str, list[Any]], int]:
        """The rows to associate, ``hints`` and ``mask_overlaps``, and how many of the last rows are masklets alone."""
        given = sv.Detections.empty() if detections is None else detections
        boxes, confidence = mask_boxes(proposal), proposal.confidence
        overlap = box_iou(np.asarray(given.xyxy, np.float32).reshape(-1, 4), boxes)  # (N, K)
        overlap[:, ~alive] = 0
        by_mask = self._mask_overlap(given, proposal, overlap)
        evidence: dict[str, list[Any]] = {"hints": [], "mask_overlaps": []}
        claimed = overlap.max(axis=1, initial=0) >= _CLAIMS
        for row, place in zip(*np.nonzero(alive[None] & ((overlap >= _NEAR) | claimed[:, None])), strict=True):
            pair, sure = (int(row), int(proposal.ids[place])), float(confidence[place])
            if np.isnan(by_mask[row, place]):
                evidence["hints"].append((*pair, mask_log_odds(float(overlap[row, place]), sure)))
            else:
                evidence["mask_overlaps"].append((*pair, float(by_mask[row, place]), sure))
        alone = []
        for place in np.flatnonzero(alive & (overlap.max(axis=0, initial=0) < self.masklet_options.reprompt_iou)):
            known = self._known[int(proposal.ids[place])]
            unseen = (frame.time if detections is not None else self._ran) - known.seen
            if unseen <= self.masklet_options.alone_seconds:
                alone.append(int(place))
        rows = _with_rows(
            given,
            boxes[alone],
            confidence[alone],
            np.array([self._known[int(i)].label for i in proposal.ids[alone]], np.int64),
        )
        evidence["hints"] += [(len(given) + k, int(proposal.ids[place]), MOST) for k, place in enumerate(alone)]
        return rows, evidence, len(alone)

    def _mask_overlap(self, given: sv.Detections, proposal: MaskletFrame, overlap: np.ndarray) -> np.ndarray:
        """(N, K) IoU of the detections' own masks and the masklets'; NaN in rows without a mask.

        ``overlap`` (N, K) are the IoUs of the boxes: where they are 0, so is that of the masks.
        """
        found = np.full(overlap.shape, np.nan)
        if given.mask is None or not self.masklet_options.use_mask_overlap:
            return found
        carried = {place: np.asarray(proposal.masks[place], bool) for place in np.flatnonzero(overlap.any(axis=0))}
        for row in range(len(given)):
            own = np.asarray(given.mask[row], bool)
            if own.any():
                found[row] = 0
                for place in np.flatnonzero(overlap[row]):
                    union = np.count_nonzero(own | carried[place])
                    found[row, place] = np.count_nonzero(own & carried[place]) / union
        return found

    def _prompt(self, result: FrameResult, proposal: MaskletFrame, alive: np.ndarray, detected: np.ndarray) -> None:
        """Starts, ends and corrects masklets, writes their memory, and puts the masks into the result."""
        found, frame = result.detections, result.frame
        ids = np.full(len(found), -1) if found.tracker_id is None else np.asarray(found.tracker_id)
        place_of = {int(identity): place for place, identity in enumerate(proposal.ids)}
        if any(event.kind == "cut" for event in result.events):
            ended = set(place_of)
        else:
            ended = {event.identity for event in result.events if event.kind == "ended"} & set(place_of)
        for identity in ended:
            self.propagator.forget(identity)
            self._known.pop(identity, None)
            place_of.pop(identity)
        boxes, areas = mask_boxes(proposal), _areas(proposal)
        shape = frame.picture.shape[:2]
        masks = np.zeros((len(found), *shape), bool)
        changed: dict[int, np.ndarray] = {}
        for row in np.flatnonzero(ids >= 0).tolist():
            identity, place = int(ids[row]), place_of.get(int(ids[row]))
            box = np.asarray(found.xyxy[row], np.float32)
            good = place is not None and bool(alive[place])
            if good and detected[row]:
                near = float(box_iou(box[None], boxes[[cast(int, place)]])[0, 0])
                good = near >= self.masklet_options.reprompt_iou
            label = 0 if found.class_id is None else int(found.class_id[row])
            if good:
                masks[row] = proposal.masks[place]
                area = float(areas[cast(int, place)])
            elif detected[row] and _inside(box, shape):
                own = None if found.mask is None else np.asarray(found.mask[row])
                prompt = Prompt(box=box) if own is None or not own.any() else Prompt(mask=own)
                shown = self.propagator.prompt(identity, replace(prompt, clear=place is not None))
                masks[row] = shown.masks[0]
                area = float(np.count_nonzero(masks[row]))
            else:
                continue
            seen = frame.time if detected[row] else self._known[identity].seen
            area = area if detected[row] else self._known[identity].area
            self._known[identity] = _Known(seen, label, area)
            if row < len(detected) and not good:
                changed[identity] = masks[row]
        for identity, place in place_of.items():  # a lost masklet remembers that its object is not visible
            if not alive[place] and identity not in changed:
                changed[identity] = np.zeros(shape, bool)
        self.propagator.commit(changed)
        found.mask = compact_masks(masks) if len(masks) else None


def mask_boxes(proposal: MaskletFrame) -> np.ndarray:
    """(K, 4) float32 xyxy boxes around the masks; zeros around an empty one."""
    boxes = np.zeros((len(proposal.ids), 4), np.float32)
    for box, mask in zip(boxes, proposal.masks, strict=True):
        around = mask_box(mask)
        if around is not None:
            box[:] = around
    return boxes


def _areas(proposal: MaskletFrame) -> np.ndarray:
    """(K,) pixels of the masks."""
    return np.array([np.count_nonzero(mask) for mask in proposal.masks], np.float64)


def _inside(box: np.ndarray, shape: tuple[int, int]) -> bool:
    """Whether a box has a pixel in a picture (H, W)."""
    return bool(box[0] < shape[1] and box[1] < shape[0] and min(box[2:]) > 0 and (box[2:] > box[:2]).all())


def _with_rows(given: sv.Detections, boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray) -> sv.Detections:
    """The detections with further rows at their end; columns of ``data`` are blank there, and masks empty."""
    count, more = len(given), len(boxes)
    own_scores = np.ones(count, np.float32) if given.confidence is None else np.asarray(given.confidence, np.float32)
    own_labels = np.zeros(count, np.int64) if given.class_id is None else np.asarray(given.class_id, np.int64)
    data: dict[str, Any] = {}
    for name, values in (given.data or {}).items():
        column = np.asarray(values)
        if column.shape[:1] == (count,):
            blank: Any = "" if column.dtype.kind in "UO" else np.zeros((), column.dtype)
            data[name] = np.concatenate([column, np.full((more, *column.shape[1:]), blank, column.dtype)])
    mask = given.mask
    if mask is not None and more:
        mask = np.concatenate([np.asarray(mask), np.zeros((more, *np.asarray(mask).shape[1:]), bool)])
    return sv.Detections(
        np.concatenate([np.asarray(given.xyxy, np.float32).reshape(-1, 4), boxes]),
        mask=mask,
        confidence=np.concatenate([own_scores, scores]).astype(np.float32),
        class_id=np.concatenate([own_labels, labels]),
        data=data,
    )
