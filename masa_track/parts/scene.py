"""Things, parts and stuff of a picture behind one interface, and their identities over time. No torch.

A scene is found by up to three models: a detector of things and parts, a segmenter of their masks, and a model of
stuff. :class:`SceneDetector` puts them together as a :class:`masa_track.contracts.Detector`, and :class:`SceneTracker`
gives the result identities.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

import numpy as np

from masa_track.boxes import suppress
from masa_track.contracts import Features, Frame, FrameResult, Observation
from masa_track.errors import InputError
from masa_track.formats.panoptic import PANOPTIC, PANOPTIC_BY_ROW, PanopticMap, Segment
from masa_track.masks import mask_box
from masa_track.parts.hierarchy import Hierarchy, warn_of_similar_phrases
from masa_track.parts.merge import LEAST_PART_PIXELS, masks_at_points, merge_panoptic, vote
from masa_track.parts.tree import PartTracker, assign_parents
from masa_track.tracker import AroundTracker, MasaTracker, embed_boxes

if TYPE_CHECKING:
    import supervision as sv

    from masa_track.contracts import Detector

PartsBy = Literal["boxes", "votes", "points"]
PARTS_BY = ("boxes", "votes", "points")
STUFF_NUMBER = 16_000_000  # a stuff class has this number plus its own in panoptic maps; identities are below
SCORE = 0.3  # least score of a detection whose class has no threshold of its own
_GRID = 8  # points along each side of a thing's box, at which a segmenter is asked for masks of its parts
_NMS = 0.7  # IoU of boxes above which the weaker of two masks of one class of parts is dropped
SEGMENT = "segment"  # in ``data``: number of the row's segment in that map, 0 for none


class BoxSegmenter(Protocol):
    """Masks of a picture by prompts."""

    def segment(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """(N, H, W) bool masks of (N, 4) xyxy boxes in a (H, W, 3) BGR uint8 picture."""
        ...

    def segment_points(self, frame: np.ndarray, points: np.ndarray) -> np.ndarray:
        """(M, H, W) bool masks at (P, 2) points, x and y in pixels: of each point one or several."""
        ...


class StuffFinder(Protocol):
    """Masks of stuff in a picture."""

    def find(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores (Q, S) of the hierarchy's stuff classes, in their order, and masks (Q, H, W) float32 in 0..1."""
        ...


@dataclass
class Scene:
    """What was found in a picture.

    Attributes:
        objects: things and parts: ``class_id`` of the hierarchy, ``confidence``, ``mask`` (N, H, W) bool where there
            is a segmenter, ``data["phrase"]`` and ``data["part"]``.
        panoptic: things, numbered by their row from 1, and stuff; None without a model of stuff.
    """

    objects: sv.Detections
    panoptic: PanopticMap | None = None


class SceneDetector:
    """Things, parts and stuff that a hierarchy names; a :class:`masa_track.contracts.Detector`.

    Args:
        hierarchy: the classes.
        detector: finds things and parts; its class i is the i-th phrase of :func:`object_phrases`. Or a function that
            gives the boxes of a frame, of the same classes, see :class:`NamedBoxes`.
        segmenter: gives their masks; None: boxes alone, or the detector's masks.
        stuff: finds stuff; None: none.
        parts_by: how parts get their masks from the segmenter (HIPIE, section 3.8). ``boxes``: the mask in a part's
            box; ``votes``: masks at a grid of points in each thing take the class with the most part scores under them;
            ``points``: of the masks at five points of a part's box, the one that holds most of them.
        embeddings: of the hierarchy's phrases (P, D), by which a warning of similar ones is given; None: no warning.

    Raises:
        InputError: ``parts_by`` is unknown or needs a segmenter; stuff is named and there is no model of it.
    """

    stateful = False
    warm_up = 0

    def __init__(
        self,
        hierarchy: Hierarchy,
        detector: Detector | Callable[[Frame], sv.Detections],
        segmenter: BoxSegmenter | None = None,
        stuff: StuffFinder | None = None,
        parts_by: PartsBy = "boxes",
        embeddings: np.ndarray | None = None,
    ) -> None:
        if parts_by not in PARTS_BY:
            raise InputError(f"parts_by must be one of {', '.join(PARTS_BY)}, got {parts_by!r}")
        if parts_by != "boxes" and segmenter is None:
            raise InputError(f"parts_by={parts_by!r} needs masks: give a segmenter")
        if hierarchy.labels("stuff") and stuff is None:
            raise InputError("the hierarchy has stuff, but stuff is None: give a model that segments stuff")
        self.hierarchy, self.parts_by = hierarchy, parts_by
        self._detector, self._segmenter, self._stuff = detector, segmenter, stuff
        self._phrases = object_phrases(hierarchy)
        self._label_of = np.array([phrase.label for phrase in self._phrases], np.int64)
        default = getattr(detector, "threshold", SCORE) if hasattr(detector, "detect") else 0.0
        self._thresholds = np.array([default if n.threshold is None else n.threshold for n in hierarchy.nodes])
        if hasattr(detector, "threshold"):  # what a phrase's own threshold lets through must be found first
            detector.threshold = float(self._thresholds[self._label_of].min(initial=1))
        self.class_names = {i: hierarchy.title(i) for i in range(len(hierarchy.nodes))}
        self.track_activation_threshold = float(getattr(detector, "track_activation_threshold", SCORE))
        if embeddings is not None:
            warn_of_similar_phrases(hierarchy, embeddings)

    @property
    def features_key(self) -> str | None:
        """That of the detector."""
        return getattr(self._detector, "features_key", None)

    def reset(self) -> None:
        """Forgets what the detector keeps."""
        if hasattr(self._detector, "reset"):
            self._detector.reset()

    def detect(self, images: Sequence[np.ndarray], features: Sequence[Features] | None = None) -> list[sv.Detections]:
        """Things and parts of pictures; ``metadata["panoptic"]`` holds the map of things and stuff.

        Args:
            images: (H, W, 3) BGR uint8.
            features: of the same pictures, for the detector.

        Raises:
            InputError: of the detector or the segmenter.
        """
        found = cast("Detector", self._detector).detect(images, features)
        return [self._as_rows(self._scene(image, own)) for image, own in zip(images, found, strict=True)]

    def at(self, frame: Frame) -> sv.Detections:
        """As :meth:`detect`, of a frame whose boxes are given."""
        given = cast("Callable[[Frame], sv.Detections]", self._detector)(frame)
        return self._as_rows(self._scene(frame.picture, given))

    def find(self, image: np.ndarray) -> Scene:
        """The scene of one picture (H, W, 3) BGR uint8."""
        (found,) = cast("Detector", self._detector).detect([image])
        return self._scene(image, found)

    def _scene(self, image: np.ndarray, found: sv.Detections) -> Scene:
        numbers = np.zeros(0, np.int64) if found.class_id is None else np.asarray(found.class_id, np.int64)
        scores = np.ones(len(found), np.float32) if found.confidence is None else np.asarray(found.confidence)
        labels = self._label_of[numbers]
        kept = np.flatnonzero(scores >= self._thresholds[labels])
        objects = cast("sv.Detections", copy.copy(found)[kept])
        objects.class_id, objects.confidence = labels[kept], scores[kept].astype(np.float32)
        self._name(objects, [self._phrases[i].text for i in numbers[kept].tolist()])
        if self._segmenter is not None:
            objects = self._with_masks(image, objects, self._segmenter)
        if self._stuff is None:
            return Scene(objects)
        return Scene(objects, self._panoptic(image, objects, self._stuff))

    def _name(self, objects: sv.Detections, phrases: Sequence[str]) -> None:
        nodes = [self.hierarchy.nodes[i] for i in cast(np.ndarray, objects.class_id).tolist()]
        objects.data = {
            "phrase": np.array(phrases, object),
            "part": np.array([node.name if node.kind == "part" else "" for node in nodes], object),
        }

    def _with_masks(self, image: np.ndarray, objects: sv.Detections, segmenter: BoxSegmenter) -> sv.Detections:
        labels = cast(np.ndarray, objects.class_id)
        is_part = np.array([self.hierarchy.nodes[i].kind == "part" for i in labels.tolist()], bool)
        objects.mask = segmenter.segment(image, np.asarray(objects.xyxy, np.float32))
        if self.parts_by == "boxes" or not is_part.any():
            return objects
        if self.parts_by == "points":
            for row in np.flatnonzero(is_part).tolist():
                points = _box_points(objects.xyxy[row], image.shape[:2])
                masks = segmenter.segment_points(image, points)
                if len(masks):
                    objects.mask[row] = masks[masks_at_points(masks, points, 1)[0]]
            return objects
        return self._voted(image, objects, is_part, segmenter)

    def _voted(
        self, image: np.ndarray, objects: sv.Detections, is_part: np.ndarray, segmenter: BoxSegmenter
    ) -> sv.Detections:
        """Things, and in place of the parts the masks at points in things, with the class that they vote for."""
        import supervision as sv

        labels, masks = cast(np.ndarray, objects.class_id), cast(np.ndarray, objects.mask)
        rows = np.flatnonzero(is_part)
        classes = np.unique(labels[rows])
        part_scores = np.zeros((len(classes), *image.shape[:2]), np.float32)
        for row in rows.tolist():
            layer = part_scores[int(np.searchsorted(classes, labels[row]))]
            np.maximum(layer, masks[row] * cast(np.ndarray, objects.confidence)[row], out=layer)
        points = [
            point
            for row in np.flatnonzero(~is_part).tolist()
            for point in _grid_points(objects.xyxy[row], image.shape[:2])
            if masks[row][int(point[1]), int(point[0])]
        ]
        things = cast("sv.Detections", objects[~is_part])
        if not points:
            return things
        proposed = segmenter.segment_points(image, np.array(points, np.float32))
        totals = np.tensordot(proposed.astype(np.float32), part_scores, axes=((1, 2), (1, 2)))  # (M, C)
        areas = np.maximum(proposed.sum(axis=(1, 2)), 1)
        scores = totals.max(axis=1, initial=0) / areas
        voted = classes[vote(proposed, part_scores)] if len(proposed) else np.zeros(0, np.int64)
        good = np.flatnonzero((areas > LEAST_PART_PIXELS) & (scores > 0) & (scores >= self._thresholds[voted] / 2))
        boxes = np.array([mask_box(mask) for mask in proposed[good]], np.float32).reshape(-1, 4)
        kept: list[int] = []
        for label in np.unique(voted[good]).tolist():
            own = np.flatnonzero(voted[good] == label)
            kept += own[suppress(boxes[own], scores[good][own], _NMS, len(own))].tolist()
        rows = good[kept]
        parts = sv.Detections(
            boxes[kept], mask=proposed[rows], confidence=scores[rows].astype(np.float32), class_id=voted[rows]
        )
        self._name(parts, [self.hierarchy.title(label) for label in voted[rows].tolist()])
        return sv.Detections.merge([things, parts]) if len(parts) else things

    def _panoptic(self, image: np.ndarray, objects: sv.Detections, stuff: StuffFinder) -> PanopticMap:
        labels = cast(np.ndarray, objects.class_id)
        things = np.flatnonzero([self.hierarchy.nodes[i].kind == "thing" for i in labels.tolist()])
        stuff_labels = self.hierarchy.labels("stuff")
        stuff_scores, stuff_masks = stuff.find(image)
        height, width = image.shape[:2]
        masked = _box_masks(objects.xyxy, (height, width)) if objects.mask is None else np.asarray(objects.mask)
        own = masked[things]
        scores = np.zeros((len(things) + len(stuff_scores), len(self.hierarchy.nodes)), np.float32)
        scores[np.arange(len(things)), labels[things]] = cast(np.ndarray, objects.confidence)[things]
        scores[len(things) :, list(stuff_labels)] = stuff_scores
        is_thing = np.array([node.kind == "thing" for node in self.hierarchy.nodes])
        masks = np.concatenate([own.astype(np.float32), stuff_masks.astype(np.float32)])
        merged, segments = merge_panoptic(scores, masks, is_thing)
        number_of = np.zeros(len(segments) + 1, np.int32)
        known: dict[int, Segment] = {}
        for one in segments:
            number = int(things[one.rows[0]]) + 1 if one.is_thing else STUFF_NUMBER + one.label
            number_of[one.number], known[number] = number, Segment(one.label)
        return PanopticMap(number_of[merged], known)

    def _as_rows(self, scene: Scene) -> sv.Detections:
        rows = scene.objects
        rows.metadata = dict(rows.metadata)
        if scene.panoptic is not None:
            rows.data[SEGMENT] = np.arange(1, len(rows) + 1)
            rows.metadata[PANOPTIC] = scene.panoptic
        return rows


def object_phrases(hierarchy: Hierarchy) -> list[Any]:
    """The phrases of things and parts, which a detector of objects looks for: its class i is the i-th of them."""
    return [phrase for phrase in hierarchy.phrases if hierarchy.nodes[phrase.label].kind != "stuff"]


class NamedBoxes:
    """Boxes of a file, whose class names are phrases of a hierarchy, as boxes of a detector of its phrases.

    Args:
        hierarchy: the classes.
        boxes_at: the boxes of a frame.
        class_names: of these boxes.

    Raises:
        InputError: none of the names is a phrase.
    """

    def __init__(
        self, hierarchy: Hierarchy, boxes_at: Callable[[Frame], sv.Detections], class_names: Mapping[int, str]
    ) -> None:
        place_of = {phrase.text: place for place, phrase in enumerate(object_phrases(hierarchy))}
        self._place = {n: place_of[name.lower()] for n, name in class_names.items() if name.lower() in place_of}
        if not self._place:
            raise InputError(
                f"class names of the file must be phrases of --text, e.g. {next(iter(place_of), '')!r}, got "
                f"{', '.join(list(class_names.values())[:5]) or 'no names'}"
            )
        self._boxes_at = boxes_at

    def __call__(self, frame: Frame) -> sv.Detections:
        """The boxes whose class is named in the hierarchy."""
        found = self._boxes_at(frame)
        labels = np.zeros(len(found), np.int64) if found.class_id is None else np.asarray(found.class_id)
        rows = np.array([i for i, label in enumerate(labels.tolist()) if label in self._place], np.int64)
        kept = cast("sv.Detections", found[rows])
        kept.class_id = np.array([self._place[label] for label in labels[rows].tolist()], np.int64)
        return kept


class SceneTracker(AroundTracker):
    """Gives things identities by a :class:`~masa_track.MasaTracker`, and parts theirs below them.

    An :class:`masa_track.contracts.IdentitySource`. The detections have classes of the hierarchy. Results have
    ``data["parent_id"]``, and with a map of stuff ``extras["panoptic"]``, in which things have their identities as
    numbers and stuff has one number a class. ``extras["panoptic_by_row"]`` is the same map with things, also those
    without identity, numbered by their row from 1.

    Args:
        tracker: of things; made with ``classes=thing_classes(hierarchy)``, so that it leaves parts aside, and with a
            ``track_activation_threshold`` that is not above those of the hierarchy's things.
        hierarchy: the classes. A thing starts a track with a score above its threshold, a part with its threshold.
        start_score: the threshold of things that have none of their own; None: that of the tracker.
        appearance: use embeddings of parts beside their places.
        **part_options: of :class:`~masa_track.parts.tree.PartTracker`.
    """

    def __init__(
        self,
        tracker: MasaTracker,
        hierarchy: Hierarchy,
        start_score: float | None = None,
        appearance: bool = False,
        **part_options: Any,
    ) -> None:
        super().__init__(tracker)
        self.hierarchy = hierarchy
        self._is_part = np.array([node.kind == "part" for node in hierarchy.nodes])
        self._appearance = appearance
        if hierarchy.labels("stuff") and getattr(tracker.options, "first_id", 1) < 1:
            raise InputError(
                "first_id must be 1 or more where there is stuff, as 0 is no segment in panoptic maps, got 0"
            )
        usual = tracker.options.track_activation_threshold if start_score is None else start_score
        self._start = np.array([usual if node.threshold is None else node.threshold for node in hierarchy.nodes])
        own = [node.threshold for node in hierarchy.nodes if node.kind == "part" and node.threshold is not None]
        part_options.setdefault("track_activation_threshold", min([SCORE, *own]))
        if appearance:
            part_options.setdefault("prior", getattr(tracker.model, "prior", None))
        self.parts = PartTracker(hierarchy, use_appearance=appearance, **part_options) if self._is_part.any() else None

    def step(
        self, frame: Frame, detections: sv.Detections | None = None, *, features: Features | None = None
    ) -> list[FrameResult]:
        """Tracks one frame; see :meth:`masa_track.MasaTracker.step`.

        Raises:
            InputError: as there, or a class is none of the hierarchy; the frame leaves no trace.
        """
        given = None if detections is None else detections.class_id
        if given is not None and len(given) and not 0 <= min(given) <= max(given) < len(self._is_part):
            raise InputError(f"class_id must be 0..{len(self._is_part) - 1} of the hierarchy, got {list(given)}")
        may_start = None
        if detections is not None and detections.confidence is not None and given is not None:
            may_start = np.asarray(detections.confidence) >= self._start[np.asarray(given, np.int64)]
        (result,) = self.tracker.step(frame, detections, features=features, may_start=may_start)
        rows = result.detections
        ids = np.asarray(rows.tracker_id, np.int64)
        rows.data["parent_id"] = np.full(len(rows), -1, np.int64)
        rows.data.setdefault("part", np.full(len(rows), "", object))
        rows.data.setdefault("phrase", np.full(len(rows), "", object))
        if self.parts is not None:
            labels = np.zeros(0, np.int64) if rows.class_id is None else np.asarray(rows.class_id)
            scores = np.ones(len(rows), np.float32) if rows.confidence is None else np.asarray(rows.confidence)
            boxes = np.asarray(rows.xyxy, np.float32).reshape(-1, 4)
            seen = Observation(frame.number, frame.time, frame.size, boxes, scores, labels)
            seen.detector_ran = detections is not None
            masks = None if rows.mask is None else np.asarray(rows.mask)
            if self._appearance:
                seen.embeddings = self._part_embeddings(frame, seen, features)
            found = self.parts.update(seen, ids, masks)
            rows.tracker_id = ids = found.identities
            rows.data["parent_id"] = found.parent_ids
        panoptic = rows.metadata.pop(PANOPTIC, None)
        if panoptic is not None:
            segments = np.asarray(rows.data.pop(SEGMENT, np.zeros(0, np.int64)))
            by_row = _by_row(panoptic, segments)
            result.extras = {**result.extras, PANOPTIC: with_identities(by_row, ids), PANOPTIC_BY_ROW: by_row}
        return [result]

    def _part_embeddings(self, frame: Frame, seen: Observation, features: Features | None) -> np.ndarray:
        """(N, D) embeddings; NaN for what is no part."""
        rows = np.flatnonzero(self._is_part[seen.labels])
        found = np.asarray(embed_boxes(self.model, frame.picture, seen.boxes[rows], features), np.float32)
        embeddings = np.full((len(seen.boxes), found.shape[1]), np.nan, np.float32)
        embeddings[rows] = found
        return embeddings

    def reset(self) -> None:
        """Forgets everything, for another video."""
        self.tracker.reset()
        if self.parts is not None:
            self.parts.reset()

    def reserve(self, identity: int) -> None:
        """No new thing gets an identity up to this one; where it is one of a part, no new part does."""
        if self.parts is not None and identity >= self.parts.first_id:
            self.parts.reserve(identity)
        else:
            self.tracker.reserve(identity)

    def state_dict(self) -> dict[str, np.ndarray]:
        """The state as arrays of numbers and text."""
        state = {f"things.{name}": value for name, value in self.tracker.state_dict().items()}
        parts = {} if self.parts is None else self.parts.state_dict()
        return state | {f"parts.{name}": value for name, value in parts.items()}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Goes on from a state of :meth:`state_dict` of a tracker of the same hierarchy.

        Raises:
            InputError: the state does not fit; the tracker is as it was then.
        """
        own = {k: {n.removeprefix(k): v for n, v in state.items() if n.startswith(k)} for k in ("things.", "parts.")}
        before = None if self.parts is None else self.parts.state_dict()
        if self.parts is not None:
            self.parts.load_state_dict(own["parts."])
        try:
            self.tracker.load_state_dict(own["things."])
        except InputError:
            if self.parts is not None and before is not None:
                self.parts.load_state_dict(before)
            raise


def thing_classes(hierarchy: Hierarchy) -> list[int]:
    """Numbers of the classes that are things."""
    return list(hierarchy.labels("thing"))


def _by_row(panoptic: PanopticMap, segments: np.ndarray) -> PanopticMap:
    """The map of a detector with things numbered by their row from 1; those without a row are no segment.

    Args:
        panoptic: of all that the detector found.
        segments: (N,) number of each row's segment in it, 0 for none.
    """
    known = panoptic.segments
    rows = {number: (row, known[number]) for row, number in enumerate(segments.tolist(), 1) if number in known}
    return panoptic.renumbered(rows | _stuff_in(panoptic))


def with_identities(panoptic: PanopticMap, ids: np.ndarray) -> PanopticMap:
    """The map with identities as numbers of things; those without are no segment.

    Args:
        panoptic: things have the number of their row from 1.
        ids: (N,) identities of the rows; -1 for none.
    """
    things = {
        number: (identity, replace(segment, identity=identity))
        for number, segment in panoptic.segments.items()
        if 0 < number <= len(ids) and (identity := int(ids[number - 1])) > 0
    }
    return panoptic.renumbered(things | _stuff_in(panoptic))


def _stuff_in(panoptic: PanopticMap) -> dict[int, tuple[int, Segment]]:
    """The segments of stuff, with their numbers as they are, by number."""
    return {number: (number, one) for number, one in panoptic.segments.items() if number >= STUFF_NUMBER}


def _box_masks(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(N, H, W) bool, the pixels of boxes."""
    masks = np.zeros((len(boxes), *size), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, np.round(boxes).astype(int).clip(0).tolist(), strict=True):
        mask[y1:y2, x1:x2] = True
    return masks


def _box_points(box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(5, 2) the middle of a box and the middles of its quarters, inside of the picture (H, W)."""
    x1, y1, x2, y2 = np.asarray(box, np.float64).tolist()
    shares = [(0.5, 0.5), (0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75)]
    points = np.array([(x1 + a * (x2 - x1), y1 + b * (y2 - y1)) for a, b in shares])
    return np.asarray(points.clip(0, np.array(size[::-1]) - 1), np.float32)


def _grid_points(box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(64, 2) points in a box, inside of the picture (H, W)."""
    x1, y1, x2, y2 = np.asarray(box, np.float64).tolist()
    steps = (np.arange(_GRID) + 0.5) / _GRID
    points = np.array([(x1 + a * (x2 - x1), y1 + b * (y2 - y1)) for b in steps for a in steps])
    return np.asarray(points.clip(0, np.array(size[::-1]) - 1), np.float32)


def parents_in(scene: Scene, hierarchy: Hierarchy) -> np.ndarray:
    """(N,) int64, row of the thing or part that each row of a scene belongs to; -1 for none."""
    objects = scene.objects
    masks = None if objects.mask is None else np.asarray(objects.mask)
    return assign_parents(hierarchy, np.asarray(objects.class_id), np.asarray(objects.xyxy), masks)
