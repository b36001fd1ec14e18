"""SAM 3 as a detector: the instances of phrases and exemplars in each picture, with masks, for MASA's association.

Masklets of SAM 3 need more: :class:`masa_track.masklets.concepts.ConceptTracker`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import supervision as sv

from masa_track.contracts import Exemplar, Frame
from masa_track.detectors.base import PictureDetector
from masa_track.errors import InputError
from masa_track.masklets.concept_exemplars import Exemplars, check_contradictions, checked_exemplar, inside
from masa_track.masklets.concepts import EXEMPLAR
from masa_track.masklets.mask_logits import mask_iou, mask_nms, scaled_mask
from masa_track.masks import compact_masks, mask_box

if TYPE_CHECKING:
    from masa_track.contracts import ConceptModel, Features

LOG = logging.getLogger(__name__)
SCORE, NMS, START = 0.5, 0.1, 0.7  # officially: least score, IoU of masks of a phrase, score that starts a masklet
SAME = 0.7  # IoU of masks of two phrases above which they show one object


class LastEncoded:
    """SAM 3 with the features of the picture that it encoded last, for all who ask about the same picture.

    Args:
        model: SAM 3.
    """

    def __init__(self, model: ConceptModel) -> None:
        self.model = model
        self._last: tuple[np.ndarray, Features] | None = None

    def __call__(self, image: np.ndarray) -> Features:
        """The features of a picture (H, W, 3) BGR uint8."""
        if self._last is None or self._last[0] is not image:
            self._last = image, self.model.encode([image])[0]
        return self._last[1]


class Sam3Detector(PictureDetector):
    """Boxes and masks of what phrases and exemplars name, one class a phrase.

    Each row has in ``data`` its ``phrase``, ``local_score`` and ``presence``; the score is their product. Presence of
    all phrases is in ``metadata["presence"]``. Of two masks of different phrases with an IoU above .7 the one of the
    higher score is kept.

    Args:
        model: finds the instances.
        phrases: what is looked for; empty: exemplars alone.
        exemplars: with their phrase, or None for the first one. They count from their frame on, those with a picture of
            their own in all frames.
        least_score: scores must be above.
        levels: of each phrase; masks of phrases of different levels do not exclude each other, as a thing and its part,
            or two sentences that mean one object; empty: all phrases are of one level.

    Raises:
        InputError: nothing is looked for, or a phrase is too long.
    """

    track_activation_threshold = START

    def __init__(
        self,
        model: ConceptModel,
        phrases: Sequence[str],
        exemplars: Sequence[Exemplar] = (),
        least_score: float = SCORE,
        levels: Sequence[int] = (),
    ) -> None:
        if not phrases and not exemplars:
            raise InputError("SAM 3 looks for phrases or exemplars, got neither: add --text or --exemplar")
        for phrase in phrases:
            model.check_phrase(phrase)
        self.model, self.least_score = model, least_score
        self.phrases: list[str | None] = list(phrases) or [None]
        self._levels = np.array(levels if len(levels) else [0] * len(self.phrases), np.int64)  # (P,)
        self.class_names: Mapping[int, str] = dict(enumerate(list(phrases) or [EXEMPLAR]))
        if not phrases and not any(exemplar.positive for exemplar in exemplars):
            LOG.warning("there are only negative exemplars and no text: nothing says what is looked for")
        given = [checked_exemplar(exemplar, list(self.class_names.values())) for exemplar in exemplars]
        check_contradictions(given)
        self._exemplars = {name: Exemplars() for name in self.class_names.values()}
        for exemplar in given:
            known = self._exemplars[exemplar.phrase or ""]
            if exemplar.image is None:
                known.coming.setdefault(exemplar.frame, []).append(exemplar)
                continue
            features = model.encode([exemplar.image])[0]
            shown = inside([exemplar], features.size, "the exemplar")
            known.carried.append(model.encode_exemplars(features, *shown))

    def _find(self, image: np.ndarray) -> sv.Detections:
        return self.instances(self.model.encode([image])[0])

    def at(self, frame: Frame) -> sv.Detections:
        """The instances in a frame. Frames must come in their order, as exemplars count from their frame on.

        Raises:
            InputError: the frame has no picture, or an exemplar no area inside of it.
        """
        return self.instances(self.model.encode([frame.picture])[0], frame.number)

    def instances(self, features: Features, number: int | None = None) -> sv.Detections:
        """The instances of all phrases in a picture.

        Args:
            features: of the picture, by the model.
            number: of its frame, from which exemplars count; None: it has none, and only those of other pictures count.
        """
        presence, parts = {}, []
        for place, phrase in enumerate(self.phrases):
            name = self.class_names[place]
            known = self._exemplars[name]
            own = None if number is None else known.at(number, features.size)
            if phrase is None and own is None and not known.carried:
                continue  # nothing is shown yet
            boxes, positive = own or (None, None)
            found = self.model.detect(features, phrase, boxes, positive, known.carried, self.least_score)
            if own is not None:
                known.carried.append(self.model.encode_exemplars(features, *own))
            presence[name] = found.presence
            masks = found.logits > 0
            kept = mask_nms(masks, found.scores, NMS)
            kept = kept[masks[kept].any((1, 2))]
            parts.append((place, masks[kept], found.scores[kept], found.local_scores[kept], found.logits[kept]))
        if not parts:
            return sv.Detections.empty()
        classes = np.concatenate([np.full(len(part[1]), part[0], np.int64) for part in parts])
        low, scores, local, logits = (np.concatenate([part[i] for part in parts]) for i in range(1, 5))
        rows = _of_one_phrase(low, scores, classes, self._levels[classes])
        scaled = [scaled_mask(one, features.size) for one in logits[rows]]
        seen = [place for place, mask in enumerate(scaled) if mask.any()]  # small ones can vanish in a small picture
        scaled, rows = [scaled[place] for place in seen], rows[seen]
        names = np.array([self.class_names[place] for place in classes[rows]], str)
        return sv.Detections(
            xyxy=np.array([mask_box(mask) for mask in scaled], np.float32).reshape(-1, 4),
            mask=compact_masks(np.stack(scaled)) if scaled else None,
            confidence=scores[rows],
            class_id=classes[rows],
            data={
                "phrase": names,
                "local_score": local[rows],
                "presence": np.array([presence[name] for name in names], np.float32),
            },
            metadata={"presence": presence},
        )


def _of_one_phrase(masks: np.ndarray, scores: np.ndarray, classes: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Rows left where of two masks of different phrases of a level that show one object the better one is kept."""
    iou = mask_iou(masks, masks)
    kept: list[int] = []
    for row in np.argsort(-scores, kind="stable").tolist():
        if not any(
            classes[other] != classes[row] and levels[other] == levels[row] and iou[row, other] > SAME for other in kept
        ):
            kept.append(row)
    return np.array(sorted(kept), np.int64)
