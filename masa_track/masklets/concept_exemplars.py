"""Exemplars of concepts: which phrase each belongs to, and in which frame it starts to count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from masa_track.boxes import box_iou, check_boxes
from masa_track.contracts import Exemplar
from masa_track.errors import InputError, unknown_name

_SAME_BOX = 0.9  # IoU of boxes of one picture that are meant to be one


def split_phrases(text: str | Sequence[str] | None) -> list[str]:
    """The phrases of a text: ``"a red car. a dog"``, or a list of them.

    Raises:
        InputError: a phrase is empty, or given twice.
    """
    if text is None:
        return []
    parts = text.split(".") if isinstance(text, str) else list(text)
    phrases = [str(part).strip() for part in parts]
    if isinstance(text, str):
        phrases = [phrase for phrase in phrases if phrase]
    if not phrases or not all(phrases):
        raise InputError(f'text must be phrases separated by ".", such as "a red car. a dog", got {text!r:.80}')
    twice = sorted({phrase for phrase in phrases if phrases.count(phrase) > 1})
    if twice:
        raise InputError(f"text must hold each phrase once, got {twice[0]!r} twice: leave one out")
    return phrases


@dataclass
class Exemplars:
    """The exemplars of one phrase.

    Attributes:
        coming: those of frames that were not reached, by frame.
        carried: what the model made of those of earlier frames and other pictures.
        positive: whether there is a positive one.
    """

    coming: dict[int, list[Exemplar]] = field(default_factory=dict)
    carried: list[Any] = field(default_factory=list)
    positive: bool = False

    def at(self, number: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray] | None:
        """(n, 4) boxes in the picture of ``size`` (width, height) and (n,) whether they are positive; None: none.

        Raises:
            InputError: a box is outside the picture.
        """
        due = self.coming.get(number)
        return None if due is None else inside(due, size, f"frame {number}")


def inside(exemplars: Sequence[Exemplar], size: tuple[int, int], where: str) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (n, 4) clipped to a picture of ``size`` (width, height), and (n,) bool, whether each is positive.

    Raises:
        InputError: a box is outside the picture.
    """
    boxes = np.array([one.box for one in exemplars], np.float32)
    clipped = np.clip(boxes, 0, np.array([*size, *size], np.float32))
    outside = (clipped[:, 2:] <= clipped[:, :2]).any(axis=1)
    if outside.any():
        box = boxes[outside.argmax()].tolist()
        raise InputError(
            f"exemplar must be in the picture of {where}, which has {size[0]} x {size[1]} pixels, got {box}: "
            "give x1, y1, x2, y2 in pixels of that picture"
        )
    return clipped, np.array([one.positive for one in exemplars], bool)


def checked_exemplar(exemplar: Exemplar, phrases: Sequence[str]) -> Exemplar:
    """The exemplar with a (4,) float32 box and its phrase.

    Raises:
        InputError: the box has no area or is not finite, the phrase is not looked for, or the frame is below 1.
    """
    box = check_boxes(np.array([exemplar.box], np.float64))[0]
    if not (box[2] > box[0] and box[3] > box[1]):
        raise InputError(f"box of an exemplar must be x1, y1, x2, y2 with x1 < x2 and y1 < y2, got {box.tolist()}")
    if exemplar.image is None and exemplar.frame < 1:
        raise InputError(f"frame of an exemplar must be 1 or more, got {exemplar.frame}: the first frame is 1")
    phrase = phrases[0] if exemplar.phrase is None else exemplar.phrase
    if phrase not in phrases:
        raise unknown_name("phrase of an exemplar", phrase, phrases)
    return replace(exemplar, box=box, phrase=phrase)


def check_contradictions(exemplars: Sequence[Exemplar]) -> None:
    """Raises InputError if one box of a frame is both positive and negative for a phrase."""
    for n, one in enumerate(exemplars):
        for other in exemplars[:n]:
            same = one.image is other.image and (one.image is not None or one.frame == other.frame)
            if same and one.phrase == other.phrase and one.positive != other.positive:
                boxes = np.array([one.box, other.box], np.float32)
                if box_iou(boxes[:1], boxes[1:])[0, 0] >= _SAME_BOX:
                    raise InputError(
                        f"exemplars contradict each other: {boxes[0].tolist()} in frame {one.frame} is positive and "
                        f"negative for {one.phrase!r}: leave one of them out"
                    )
