"""Referring expressions of `masa-track detect IMAGE --refer "..."`, for cli/detect.py."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from masa_track.cli.arguments import path
from masa_track.cli.refer import sentences_of_file, table
from masa_track.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import supervision as sv

    from masa_track.contracts import Frame
    from masa_track.pipeline.recipe import Boxes, TrackRecipe
    from masa_track.refer.answers import Answer
    from masa_track.refer.pictures import PictureReferrer

_LONGEST_LABEL = 60  # characters that are drawn of a sentence


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of sentences about pictures."""
    group = parser.add_argument_group("sentences that mean one object of a picture")
    add = group.add_argument
    add(
        "--refer",
        nargs="+",
        action="extend",
        default=[],
        metavar="SENTENCE",
        help='sentences that describe an object, e.g. "the second person from the left"; classes, positions, order and '
        "size are evaluated on the boxes; a detector that takes text, used without --text, gets the sentences as "
        "prompts",
    )
    add(
        "--sentences",
        type=path,
        metavar="FILE",
        help="text file with a sentence on each line, in addition to those of --refer",
    )
    add(
        "--referrer",
        metavar="NAME",
        help="a model for words that the grammar does not understand: grounding-dino, owlv2, transformers:MODEL or "
        "sam3:FOLDER",
    )
    add(
        "--refer-threshold",
        type=float,
        metavar="SCORE",
        help="score below which the answer is none: for --referrer (default: 0.3), or for a detector that gets the "
        "sentences as prompts (default: that of the detector)",
    )


def checked_sentences(args: argparse.Namespace) -> list[str]:
    """The sentences of a command; empty for none.

    Raises:
        InputError: one cannot be used, or an option needs sentences.
    """
    from masa_track.refer.detected import check_referrer
    from masa_track.refer.grammar import parse

    texts = [*args.refer, *sentences_of_file(args.sentences)]
    for text in texts:
        parse(text)
    if args.refer_threshold is not None and not 0 <= args.refer_threshold <= 1:
        raise InputError(f"--refer-threshold must be in 0..1, got {args.refer_threshold}")
    for option, given in (("--referrer", args.referrer), ("--refer-threshold", args.refer_threshold)):
        if given is not None and not texts:
            raise InputError(f'{option} is for sentences: add --refer "...", or leave it out')
    if args.referrer is not None and check_referrer(args.referrer)[0] == "mttr":
        raise InputError(
            f"--referrer {args.referrer} holds MTTR's weights, and MTTR needs a video: name grounding-dino, owlv2, "
            "transformers:MODEL or sam3:FOLDER, or ask `masa-track refer` about the tracks of a video"
        )
    return texts


def looks_for_sentences(recipe: TrackRecipe) -> bool:
    """Whether the detector takes text and has none, so that it looks for the sentences.

    Raises:
        InputError: transformers does not know the model.
    """
    from masa_track.registry import check_installed

    if recipe.text is not None or recipe.detector is None:
        return False
    if recipe.sam3 is not None:
        return not recipe.exemplars
    library, _, model = recipe.detector.partition(":")
    if library != "transformers" or not model:
        return False
    check_installed("transformers", purpose=f"for --detector {recipe.detector}")
    from masa_track.detectors.huggingface import takes_text

    return takes_text(model)


def with_captions(recipe: TrackRecipe, texts: Sequence[str]) -> TrackRecipe:
    """The recipe whose detector looks for the sentences."""
    from masa_track.refer.pictures import captions_of

    return replace(recipe, text=". ".join(captions_of(texts)) + ".")


def caption_boxes(recipe: TrackRecipe, texts: Sequence[str], threshold: float | None, device: str | None) -> Boxes:
    """What the detector finds for each sentence.

    Args:
        recipe: of :func:`with_captions`.
        texts: the sentences.
        threshold: boxes of a lower score are left out; None: the detector's own.
        device: of the detector.

    Raises:
        InputError: the detector cannot be loaded, or cannot take a sentence.
    """
    from masa_track.pipeline.recipe import Boxes
    from masa_track.refer.pictures import CaptionDetector, captions_of

    captions = captions_of(texts)
    found: Any
    if recipe.sam3 is not None:
        from masa_track.masklets.concept_detector import SCORE, Sam3Detector

        least = SCORE if threshold is None else threshold
        model = recipe.load_concepts(device)
        found = Sam3Detector(model, captions, least_score=least, levels=range(len(captions)))
    else:
        detector: Any = recipe.open_boxes(None, device).detector
        if threshold is not None:
            detector.threshold = threshold
        found = CaptionDetector(detector, captions)
    return Boxes(found, found.class_names, found.track_activation_threshold)


def open_asked(args: argparse.Namespace, texts: Sequence[str], boxes: Boxes, captions: bool) -> PictureReferrer | None:
    """Answers the sentences; None without any.

    Args:
        args: of the command.
        texts: the sentences.
        boxes: of the detector.
        captions: the detector looks for the sentences.

    Raises:
        InputError: the referrer cannot be loaded, or cannot take a sentence.
    """
    from masa_track.refer.pictures import PictureReferrer

    if not texts:
        return None
    referrer = None
    if args.referrer is not None:
        from masa_track.refer.detected import open_referrer

        referrer = open_referrer(args.referrer, args.device)
    return PictureReferrer(texts, boxes.class_names, referrer, args.refer_threshold, captions)


def as_reference(image: int, answer: Answer) -> dict[str, Any]:
    """An answer as an entry of ``references``; its ids are those of annotations."""
    given = answer.as_dict()
    return {"image_id": image, "sentence": given.pop("sentence"), "annotation_id": given.pop("answer"), **given}


def answer_tables(references: Sequence[Mapping[str, Any]], names: Mapping[int, str]) -> str:
    """The answers of each picture as a table.

    Args:
        references: of :func:`as_reference`, in the order of the pictures.
        names: of the pictures, by their number.
    """
    lines = []
    for image, name in names.items():
        own = [{**one, "answer": one["annotation_id"]} for one in references if one["image_id"] == image]
        lines += [f"picture {image}, {name}", table(own, "object")]
    return "\n".join(lines)


def draw_answers(frame: Frame, found: sv.Detections, answers: Sequence[Answer], first: int) -> np.ndarray:
    """The picture with the objects that are meant, each with its sentences; other boxes are dashed.

    Args:
        frame: the picture.
        found: its boxes.
        answers: to the sentences.
        first: number of the first box in the answers.
    """
    import numpy as np
    import supervision as sv

    from masa_track.drawing.tracks import TrackDrawer
    from masa_track.formats.rows import plain_text

    meant: dict[int, list[Answer]] = {}
    for answer in answers:
        if answer.answer is not None:
            meant.setdefault(answer.answer - first, []).append(answer)
    rows = np.array(list(meant), np.int64)
    others = np.setdiff1d(np.arange(len(found)), rows)
    boxes = np.asarray(found.xyxy)
    labels = [shorten(" / ".join(one.sentence for one in own), _LONGEST_LABEL) for own in meant.values()]
    shown = sv.Detections(
        xyxy=boxes[rows].reshape(-1, 4),
        mask=None if found.mask is None else np.asarray(found.mask[rows]),
        confidence=np.array([own[0].score for own in meant.values()]),
        class_id=np.zeros(len(rows), np.int64),
        tracker_id=rows,
        data={"class_name": np.array([plain_text(label) for label in labels], object)},
    )
    none = "; ".join(one.sentence for one in answers if one.answer is None)
    corner = shorten(f"no object: {none}", _LONGEST_LABEL) if none else ""
    rest = sv.Detections(boxes[others].reshape(-1, 4), tracker_id=others)
    return TrackDrawer(*frame.size, 1.0, scores=True).draw(frame.picture, shown, rest, corner)
