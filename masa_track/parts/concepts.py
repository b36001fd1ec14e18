"""SAM 3 as the model of a scene: things, parts and stuff by concept prompts, with its own masks. No torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import cv2
import numpy as np

from masa_track.detectors.base import PictureDetector
from masa_track.masklets.concept_detector import START, LastEncoded, Sam3Detector
from masa_track.parts.scene import object_phrases
from masa_track.parts.tree import holder_of

if TYPE_CHECKING:
    import supervision as sv

    from masa_track.parts.hierarchy import Hierarchy


class ConceptObjects(PictureDetector):
    """Things and parts of a hierarchy, with masks: a detector for :class:`~masa_track.parts.scene.SceneDetector`.

    Each name is one concept prompt. A part is looked for by its own name, "head", in the whole picture, once for all
    things that have such a part. What is found is of the class whose parent's objects hold most of its pixels, as
    :func:`~masa_track.parts.tree.assign_parents` has it; of the first such class if none holds half of them.

    Args:
        hierarchy: the classes; class i of the boxes is the i-th of :func:`~masa_track.parts.scene.object_phrases`.
        encoded: SAM 3, which encodes each picture once.

    Raises:
        InputError: a name is too long.
    """

    track_activation_threshold = START

    def __init__(self, hierarchy: Hierarchy, encoded: LastEncoded) -> None:
        self.hierarchy = hierarchy
        phrases = object_phrases(hierarchy)
        self.class_names = {place: phrase.text for place, phrase in enumerate(phrases)}
        # By name and level, as a thing and a part may have the same name: the classes, and for each its phrase.
        self._classes: list[dict[int, int]] = []
        places: dict[tuple[str, int], int] = {}
        for place, phrase in enumerate(phrases):
            level = len(hierarchy.path(phrase.label)) - 1
            node = hierarchy.nodes[phrase.label]
            name = next(one for one in node.names if phrase.text == one or phrase.text.endswith(f" {one}"))
            if (name, level) not in places:
                places[name, level] = len(self._classes)
                self._classes.append({})
            self._classes[places[name, level]].setdefault(phrase.label, place)
        self._levels = np.array([level for _, level in places], np.int64)  # of each prompt
        prompts = [name for name, _ in places]
        self._encoded = encoded
        self._detector = Sam3Detector(encoded.model, prompts, levels=self._levels.tolist())

    @property
    def threshold(self) -> float:
        """Scores are above it."""
        return self._detector.least_score

    @threshold.setter
    def threshold(self, score: float) -> None:
        self._detector.least_score = score

    def _find(self, image: np.ndarray) -> sv.Detections:
        found = self._detector.instances(self._encoded(image))
        if not len(found):
            return found
        prompts = np.asarray(found.class_id, np.int64)
        labels = np.full(len(found), -1, np.int64)
        masks = np.asarray(found.mask)
        areas = masks.sum(axis=(1, 2))
        for row in np.argsort(self._levels[prompts], kind="stable").tolist():  # parents before their parts
            classes = list(self._classes[prompts[row]])
            parent_of = {label: self.hierarchy.nodes[label].parent for label in classes}
            objects = np.flatnonzero(np.isin(labels, list(parent_of.values()) if len(classes) > 1 else []))
            held_by = holder_of(row, objects, areas, found.xyxy, masks)
            labels[row] = next(
                (label for label in classes if held_by >= 0 and parent_of[label] == labels[held_by]), classes[0]
            )
        found.class_id = np.array([self._classes[p][label] for p, label in zip(prompts, labels, strict=True)], np.int64)
        return found


class ConceptStuff:
    """Stuff by SAM 3's semantic maps, one prompt a name; see :class:`masa_track.parts.scene.StuffFinder`.

    Args:
        hierarchy: has the names.
        encoded: SAM 3, which encodes each picture once.

    Raises:
        InputError: a name is too long.
    """

    def __init__(self, hierarchy: Hierarchy, encoded: LastEncoded) -> None:
        labels = hierarchy.labels("stuff")
        self.names = [(name, place) for place, label in enumerate(labels) for name in hierarchy.nodes[label].names]
        self._count, self._encoded = len(labels), encoded
        for name, _ in self.names:
            encoded.model.check_phrase(name)

    def find(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores (Q, S): the presence of each name in the column of its class; and masks (Q, H, W) float32 in 0..1.

        Args:
            image: (H, W, 3) BGR uint8.
        """
        features = self._encoded(image)
        scores = np.zeros((len(self.names), self._count), np.float32)
        masks = np.zeros((len(self.names), *image.shape[:2]), np.float32)
        for row, (name, place) in enumerate(self.names):
            found = self._encoded.model.detect(features, name, semantic=True)
            logits = cv2.resize(cast(np.ndarray, found.semantic), features.size, interpolation=cv2.INTER_LINEAR)
            scores[row, place] = found.presence
            masks[row] = 1 / (1 + np.exp(-np.clip(logits, -80, 80)))
        return scores, masks
