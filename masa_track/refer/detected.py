"""Detectors that look for a text as referrers: a track's score is the mean score of the boxes that fit it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from masa_track.boxes import box_iou
from masa_track.contracts import Frame, Referrer, ReferrerSession
from masa_track.detectors.phrases import TextPrompt
from masa_track.errors import InputError, unknown_name
from masa_track.refer.answers import MODEL_THRESHOLD
from masa_track.refer.votes import Votes
from masa_track.registry import check_installed

if TYPE_CHECKING:
    import supervision as sv

    from masa_track.contracts import ConceptModel

DETECTORS = {"grounding-dino": "IDEA-Research/grounding-dino-base", "owlv2": "google/owlv2-base-patch16-ensemble"}
MTTR_SUFFIXES = (".safetensors", ".pth", ".pt", ".tar")
LOWEST_SCORE = 0.02  # boxes that score less are left out
LEAST_IOU = 0.5  # of a detected box with a track's


class LooksForText(Protocol):
    """What a referrer needs of a detector."""

    def look_for(self, prompt: TextPrompt) -> None:
        """Sets what is looked for."""
        ...

    def detect(self, images: Sequence[np.ndarray]) -> list[sv.Detections]:
        """The boxes of (H, W, 3) BGR uint8 pictures."""
        ...


class ConceptText:
    """SAM 3 as a detector of one text at a time; the picture is encoded once for all texts.

    Args:
        model: finds the instances.
    """

    def __init__(self, model: ConceptModel) -> None:
        from masa_track.masklets.concept_detector import LastEncoded

        self.model = model
        self._text = ""
        self._encoded = LastEncoded(model)

    def look_for(self, prompt: TextPrompt) -> None:
        """Sets what is looked for.

        Raises:
            InputError: the model cannot take the text.
        """
        (self._text,) = prompt.phrases
        self.model.check_phrase(self._text)

    def detect(self, images: Sequence[np.ndarray]) -> list[sv.Detections]:
        """The boxes of (H, W, 3) BGR uint8 pictures."""
        import supervision as sv

        results = []
        for image in images:
            found = self.model.detect(self._encoded(image), self._text, least_score=LOWEST_SCORE)
            results.append(sv.Detections(found.boxes.reshape(-1, 4), confidence=found.scores))
        return results


class DetectorReferrer:
    """A detector that takes text, as a :class:`masa_track.contracts.Referrer`.

    Args:
        detector: e.g. a :class:`~masa_track.detectors.huggingface.TransformersDetector`.
        threshold: mean score below which no track is meant.
        stride_seconds: between two frames that are looked at.
    """

    window = 1

    def __init__(self, detector: LooksForText, threshold: float = MODEL_THRESHOLD, stride_seconds: float = 0.5) -> None:
        self.detector, self.threshold, self.stride_seconds = detector, threshold, stride_seconds

    def open(self, sentences: Sequence[str]) -> ReferrerSession:
        """A session for these sentences."""
        return _Session(self.detector, sentences, self.threshold)


class _Session:
    def __init__(self, detector: LooksForText, sentences: Sequence[str], threshold: float) -> None:
        self.detector = detector
        self.prompts = [TextPrompt((text,), (text,)) for text in map(caption_of, sentences)]
        for prompt in self.prompts:
            detector.look_for(prompt)  # a text that it cannot take is named before any work
        self.votes = Votes(len(sentences), threshold)

    def add(self, frames: Sequence[Frame], tracks: Sequence[sv.Detections]) -> None:
        """Adds the scores of all tracks in these frames."""
        for frame, seen in zip(frames, tracks, strict=True):
            if seen.tracker_id is None or not len(seen):
                continue
            scores = np.zeros((len(seen), len(self.prompts)))
            for column, prompt in enumerate(self.prompts):
                self.detector.look_for(prompt)
                found = self.detector.detect([frame.picture])[0]
                if len(found) and found.confidence is not None:
                    fits = box_iou(np.asarray(seen.xyxy, np.float64), np.asarray(found.xyxy, np.float64)) >= LEAST_IOU
                    scores[:, column] = np.where(fits, found.confidence[None], 0).max(axis=1)
            self.votes.add(dict(zip(seen.tracker_id.tolist(), scores, strict=True)))

    def scores(self) -> dict[int, np.ndarray]:
        """(S,) mean score of each track."""
        return self.votes.scores()

    def answer(self, sentence: int) -> tuple[int | None, float]:
        """The track that a sentence means, and its margin."""
        return self.votes.answer(sentence)


def caption_of(sentence: str) -> str:
    """A sentence as one phrase of a detector: lower case, without the marks that end or divide phrases."""
    return " ".join(re.sub(r"[.?!:;=\[\]]+", " ", sentence).lower().split())


def check_referrer(name: str) -> tuple[str, str]:
    """The kind of a referrer, ``mttr``, ``sam3`` or ``transformers``, and its weights.

    Args:
        name: see :func:`open_referrer`.

    Raises:
        InputError: for an unknown name, or a file that is not there.
    """
    library, _, model = name.partition(":")
    if library == "sam3":
        return library, model
    if library == "transformers" and model:
        return library, model
    if name in DETECTORS:
        return "transformers", DETECTORS[name]
    if Path(name).suffix in MTTR_SUFFIXES:
        if not Path(name).is_file():
            raise InputError(f"--referrer {name} does not exist: give a file with weights of MTTR")
        return "mttr", name
    raise unknown_name("referrer", name, [*DETECTORS, "transformers:MODEL", "sam3:FOLDER", "FILE.safetensors"])


def open_referrer(
    name: str, device: str | None = None, threshold: float = MODEL_THRESHOLD, tokenizer: Path | None = None
) -> Referrer:
    """The referrer of a name.

    Args:
        name: ``grounding-dino``, ``owlv2``, ``transformers:MODEL`` for another detector of these kinds,
            ``sam3:FOLDER`` or ``sam3`` for SAM 3, or a file of MTTR's weights.
        device: where it runs.
        threshold: score below which no track is meant.
        tokenizer: of MTTR, its file or folder; None: beside the weights.

    Raises:
        InputError: for an unknown name, a library that is not installed, or weights that cannot be had.
    """
    library, weights = check_referrer(name)
    if library == "mttr":
        return _mttr(Path(weights), device, threshold, tokenizer)
    if library == "sam3":
        from masa_track.masklets.sam3_weights import load_sam3

        # A sentence may be longer than the 30 tokens that SAM 3 takes: the rest of it is left out.
        return DetectorReferrer(ConceptText(load_sam3(weights, device, truncate=True, tracks=False)), threshold)
    check_installed("transformers", purpose=f"for --referrer {name}")
    from masa_track.detectors.huggingface import GROUNDED, QUERIED, TransformersDetector

    detector = TransformersDetector(weights, "object", device, LOWEST_SCORE)
    if detector.kind not in (*GROUNDED, *QUERIED):
        raise InputError(f"referrer {name!r} takes no text: name one of the kinds {', '.join((*GROUNDED, *QUERIED))}")
    return DetectorReferrer(detector, threshold)


def _mttr(weights: Path, device: str | None, threshold: float, tokenizer: Path | None) -> Referrer:
    check_installed("refer", purpose="for MTTR as --referrer")
    from masa_track.refer.film import DEFAULT_WINDOW, open_encode
    from masa_track.refer.resizing import DEFAULT_SIDES, SIDES
    from masa_track.refer.select import MttrReferrer
    from masa_track.refer.weights import load_weights

    loaded = load_weights(weights)
    encode = open_encode(loaded, tokenizer)
    # A2D-Sentences and synthetic clips are windows of neighbouring frames; Refer-YouTube-VOS takes every fifth of 30.
    apart = 0.0 if loaded.trained_on in ("a2d", "synthetic") else 1 / 6
    sides = SIDES.get(loaded.trained_on, DEFAULT_SIDES)
    return MttrReferrer(loaded.network, encode, loaded.window or DEFAULT_WINDOW, apart, threshold, sides, device)
