"""Sentences about a single picture: the boxes of a detector are the tracks of a scene of one frame. No torch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from masa_track.boxes import suppress
from masa_track.contracts import Frame, Referrer
from masa_track.detectors.base import PictureDetector
from masa_track.detectors.phrases import TextPrompt
from masa_track.formats.rows import class_ids, confidences, row_names
from masa_track.refer.answers import MODEL_THRESHOLD, NOTHING, Answer, answer, answer_by_scores
from masa_track.refer.detected import LooksForText, caption_of
from masa_track.refer.geometry import Scene, Track
from masa_track.refer.grammar import parse
from masa_track.refer.phrases import Phrase
from masa_track.refer.sources import class_name

if TYPE_CHECKING:
    import supervision as sv

_ARTICLE = re.compile(r"^(?:an?|the) ")
_NMS = 0.7  # IoU above which the weaker of two boxes of a caption is left out, as HIPIE has it for things
_IN_A_PICTURE = ("rank", "region", "relation", "compare", "among", "same", "class", "visible")  # kinds of terms
_NOT_IN_A_PICTURE = {  # names of those terms, and what they ask for
    **dict.fromkeys(("passes", "passes_front", "passes_behind", "overtakes", "overtaken_by", "path"), "motion"),
    **{"speed": "speed", "line": "the direction in which all move", "duration": "a duration"},
    **dict.fromkeys(("first", "last"), "an order in time (an order in the picture is 'from the left')"),
}
_EVENTS = ("event", "ordered", "gone", "starts", "ends", "lingers", "lasts")


class PictureReferrer:
    """Answers sentences about pictures, one picture after the other.

    Args:
        sentences: S sentences.
        class_names: of the detector whose boxes may be meant.
        referrer: a model for what the grammar does not understand; None: none.
        threshold: score of the model below which no box is meant; None: that of runs.
        captions: the boxes are those of a :class:`CaptionDetector` or another detector that looked for
            :func:`captions_of` the sentences: the best box of a caption is the answer.

    Raises:
        InputError: a sentence cannot be used, or the referrer cannot take it.
    """

    def __init__(
        self,
        sentences: Sequence[str],
        class_names: Mapping[int, str],
        referrer: Referrer | None = None,
        threshold: float | None = None,
        captions: bool = False,
    ) -> None:
        for sentence in sentences:
            parse(sentence)
        self.sentences, self.class_names, self.referrer = list(sentences), class_names, referrer
        self.threshold = MODEL_THRESHOLD if threshold is None and not captions else threshold or 0.0
        self._captions = captions_of(sentences) if captions else None
        # Captions are no names of classes: "the person at the start" would be one noun.
        self._nouns = [] if captions else sorted({_noun(name) for name in class_names.values()} - {""})
        if referrer is not None:
            referrer.open(self.sentences)

    def answers(self, frame: Frame, found: sv.Detections, first: int) -> list[Answer]:
        """The answer to each sentence.

        Args:
            frame: the picture.
            found: its N boxes, xyxy pixels.
            first: number of the first box; the others follow. Answers are such numbers.

        Raises:
            InputError: of the referrer.
        """
        names = ["" if self._captions else _noun(name) for name in row_names(found, self.class_names)]
        frames = np.array([frame.number])
        boxes = np.asarray(found.xyxy, np.float64)
        tracks = [Track(first + row, name, frames, boxes[row : row + 1]) for row, name in enumerate(names)]
        scene = Scene(frame.size, 1.0, frames, tracks, self._nouns, "object")
        wants = [video_only(parse(sentence, [*scene.class_names, *scene.nouns]).phrase) for sentence in self.sentences]
        scores = self._scores(frame, found, scene, [not want for want in wants])
        return [
            self._answer(scene, place, want, own) for place, (want, own) in enumerate(zip(wants, scores, strict=True))
        ]

    def _answer(self, scene: Scene, place: int, want: Sequence[str], scores: Mapping[int, float] | None) -> Answer:
        sentence = " ".join(self.sentences[place].split())
        if want:
            note = f"one picture shows no motion and no time, but the sentence asks for {', '.join(want)}: use a video"
            return Answer(sentence, None, 0.0, 0.0, NOTHING, (), note)
        if not scene.tracks:
            return Answer(sentence, None, 0.0, 0.0, NOTHING, (), "the detector found no object in the picture")
        if self._captions is not None:
            return answer_by_scores(scene, sentence, scores or {}, self.threshold)
        return answer(scene, sentence, scores, self.threshold)

    def _scores(
        self, frame: Frame, found: sv.Detections, scene: Scene, possible: Sequence[bool]
    ) -> list[Mapping[int, float] | None]:
        """For each sentence the model's scores by number of the box; None where the grammar answers alone."""
        ids = [track.identity for track in scene.tracks]
        if self._captions is not None:
            classes, own = class_ids(found), confidences(found)
            of_class = [self._captions.index(caption_of(sentence)) for sentence in self.sentences]
            return [{ids[i]: float(own[i]) for i in np.flatnonzero(classes == one).tolist()} for one in of_class]
        result: list[Mapping[int, float] | None] = [None] * len(self.sentences)
        if self.referrer is None or not ids:
            return result
        places = [place for place, wanted in enumerate(possible) if wanted and self._needs_model(scene, place)]
        if places:
            import supervision as sv

            session = self.referrer.open([self.sentences[place] for place in places])
            session.add([frame], [sv.Detections(np.asarray(found.xyxy), tracker_id=np.array(ids))])
            scores = session.scores()
            for column, place in enumerate(places):
                result[place] = {identity: float(values[column]) for identity, values in scores.items()}
        return result

    def _needs_model(self, scene: Scene, place: int) -> bool:
        sentence = parse(self.sentences[place], [*scene.class_names, *scene.nouns])
        return bool(sentence.unparsed) or not sentence.selective


class CaptionDetector(PictureDetector):
    """A detector that takes text, asked for each caption alone. Boxes of caption i have the class i.

    Args:
        detector: see :class:`~masa_track.refer.detected.LooksForText`.
        captions: what it looks for.

    Raises:
        InputError: it cannot take a caption.
    """

    def __init__(self, detector: LooksForText, captions: Sequence[str]) -> None:
        self.detector, self.class_names = detector, dict(enumerate(captions))
        self.track_activation_threshold = float(getattr(detector, "track_activation_threshold", MODEL_THRESHOLD))
        for caption in captions:
            detector.look_for(TextPrompt((caption,), (caption,)))

    def _find(self, image: np.ndarray) -> sv.Detections:
        import supervision as sv

        parts = []
        for number, caption in self.class_names.items():
            self.detector.look_for(TextPrompt((caption,), (caption,)))
            (found,) = self.detector.detect([image])
            scores = confidences(found).astype(np.float32)
            boxes = np.asarray(found.xyxy, np.float32)
            rows = suppress(boxes, scores, _NMS, len(boxes))
            parts.append(
                sv.Detections(boxes[rows], confidence=scores[rows], class_id=np.full(len(rows), number, np.int64))
            )
        return sv.Detections(
            np.concatenate([part.xyxy for part in parts]).reshape(-1, 4),
            confidence=np.concatenate([confidences(part) for part in parts]).astype(np.float32),
            class_id=np.concatenate([class_ids(part) for part in parts]),
        )


def captions_of(sentences: Sequence[str]) -> list[str]:
    """Sentences as captions of a detector, each once."""
    return list(dict.fromkeys(caption_of(sentence) for sentence in sentences))


def video_only(phrase: Phrase) -> list[str]:
    """What a parsed sentence asks for that no single picture shows: motion, events, times; each once.

    Args:
        phrase: of :func:`masa_track.refer.grammar.parse`.
    """
    found = [] if phrase.when is None else ["a time"]
    for term in phrase.terms:
        if term.when is not None and term.kind != "lasts":
            found.append("a time")
        if term.kind not in _IN_A_PICTURE:
            found.append("when something comes, stays or goes" if term.kind in _EVENTS else "motion")
        elif term.name in _NOT_IN_A_PICTURE:
            found.append(_NOT_IN_A_PICTURE[term.name])
        for inner in term.phrases:
            found += video_only(inner)
    return list(dict.fromkeys(found))


def _noun(name: str) -> str:
    """A class name as a noun of the grammar; empty where it says nothing."""
    return _ARTICLE.sub("", class_name(name))
