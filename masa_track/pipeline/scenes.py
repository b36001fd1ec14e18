"""Runs with things, parts and stuff: their models by the recipe, and the panoptic pictures of a run."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from masa_track.detectors.phrases import is_list
from masa_track.errors import InputError
from masa_track.formats.panoptic import PANOPTIC, PANOPTIC_BY_ROW, PanopticMap, PanopticWriter
from masa_track.masklets.concept_detector import LastEncoded
from masa_track.parts.concepts import ConceptObjects, ConceptStuff
from masa_track.parts.hierarchy import FILE_SUFFIXES, Hierarchy, parse_hierarchy, read_hierarchy
from masa_track.parts.scene import (
    PARTS_BY,
    NamedBoxes,
    SceneDetector,
    SceneTracker,
    object_phrases,
    with_identities,
)
from masa_track.pipeline.recipe import Boxes
from masa_track.registry import check_installed, sam3_place

if TYPE_CHECKING:
    import numpy as np

    from masa_track.contracts import FrameResult
    from masa_track.encoders.base import BaseEmbedder
    from masa_track.parts.scene import PartsBy, StuffFinder
    from masa_track.pipeline.recipe import TrackRecipe
    from masa_track.runs.store import RunInfo
    from masa_track.segmenters.base import Segmenter

TRANSFORMERS = "transformers:"
_MARKS = re.compile(r"[\[\]=]|:\s*(?:\d*\.\d+|\d+)\s*(?:$|[.,\[])")


def hierarchy_of(recipe: TrackRecipe) -> Hierarchy | None:
    """The classes of a recipe whose text has parts, synonyms or thresholds, or that names stuff; else None.

    Raises:
        InputError: text or stuff is not of the form that they must have, or an option needs another one.
    """
    text = recipe.text or ""
    is_file = Path(text.strip()).suffix.lower() in FILE_SUFFIXES
    if not (is_file or recipe.stuff is not None or (not is_list(text) and _MARKS.search(text))):
        if recipe.stuff_model is not None or recipe.clip is not None or recipe.parts_by != PARTS_BY[0]:
            raise InputError(
                '--stuff-model and --clip need --stuff "road, sky", and --parts-by needs parts in --text '
                '"person[head]": add it, or leave them out'
            )
        return None
    if is_file:
        hierarchy = read_hierarchy(text.strip())
        if recipe.stuff is not None:
            hierarchy = Hierarchy((*hierarchy.nodes, *parse_hierarchy(stuff=recipe.stuff).nodes))
    elif is_list(text):
        raise InputError(f"--stuff needs phrases in --text, not the list {text!r}: name things and parts")
    else:
        hierarchy = parse_hierarchy(text, recipe.stuff or "")
    _check(recipe, hierarchy)
    return hierarchy


def _check(recipe: TrackRecipe, hierarchy: Hierarchy) -> None:
    if not hierarchy.labels("thing"):
        raise InputError('--text must name a thing where --stuff is given, e.g. --text person --stuff "road, sky"')
    if recipe.preset != "default":
        raise InputError(f"parts, synonyms and stuff need --preset default, got {recipe.preset}: leave one of them out")
    if recipe.masklets is not None:
        raise InputError("--masklets does not go with parts, synonyms and stuff: use --masks, or leave one out")
    if recipe.sam3 is not None and recipe.identities != "masa":
        raise InputError(
            f"parts, synonyms and stuff need --identities masa, got {recipe.identities}: leave one of them out"
        )
    if recipe.exemplars or recipe.negative_exemplars:
        raise InputError("--exemplar does not go with parts, synonyms and stuff: leave one of them out")
    if recipe.parts_by not in PARTS_BY:
        raise InputError(f"--parts-by must be one of {', '.join(PARTS_BY)}, got {recipe.parts_by!r}")
    if recipe.parts_by != PARTS_BY[0] and (recipe.masks is None or not hierarchy.labels("part")):
        raise InputError(f"--parts-by {recipe.parts_by} needs masks: add --masks, and parts to --text")
    has_stuff = bool(hierarchy.labels("stuff"))
    if has_stuff and recipe.stuff_model is None and recipe.sam3 is None:
        raise InputError(
            "--stuff needs --stuff-model, the model that finds it: a Mask2Former, OneFormer or EoMT, e.g. "
            "facebook/mask2former-swin-tiny-cityscapes-panoptic, or sam3"
        )
    if recipe.clip is not None and (recipe.stuff_model is None or sam3_place(recipe.stuff_model) is not None):
        raise InputError("--clip is for networks of fixed classes, and SAM 3 takes any name: leave it out")
    if not has_stuff and (recipe.stuff_model is not None or recipe.clip is not None):
        raise InputError('--stuff-model and --clip need --stuff, e.g. --stuff "road, sky": add it, or leave them out')
    if has_stuff and recipe.stuff_model is not None:
        check_installed("transformers", purpose="for --stuff-model")


def object_text(hierarchy: Hierarchy) -> str:
    """Things and parts as a text for a detector, whose class i is then the i-th phrase."""
    return ". ".join(phrase.text for phrase in object_phrases(hierarchy)) + "."


def open_segmenter(name: str, device: str | None) -> Segmenter:
    """The segmenter of ``--masks``: ``transformers:MODEL``, or a checkpoint of segment-anything.

    Raises:
        InputError: it cannot be loaded.
    """
    if name.startswith(TRANSFORMERS):
        from masa_track.parts.models import TransformersSegmenter

        return TransformersSegmenter(name.removeprefix(TRANSFORMERS), device)
    from masa_track.segmenters.sam import SamSegmenter

    return SamSegmenter(name, device)


@dataclass
class SceneModels:
    """What a scene is found with.

    Attributes:
        hierarchy: the classes.
        segmenter: masks of things and parts; None for none.
        stuff: finds stuff; None for none.
        parts_by: see :class:`~masa_track.parts.scene.SceneDetector`.
        detector: of things and parts, with segmenter and stuff; None where boxes come from a file.
    """

    hierarchy: Hierarchy
    segmenter: Segmenter | None
    stuff: StuffFinder | None
    parts_by: PartsBy
    detector: SceneDetector | None = None

    def boxes(self, given: Boxes) -> Boxes:
        """The scene's boxes: those of its detector, or a file's, whose classes are called as the phrases."""
        if self.detector is None:
            named = NamedBoxes(self.hierarchy, given.detector, given.class_names)  # type: ignore[arg-type]
            scene = SceneDetector(self.hierarchy, named, self.segmenter, self.stuff, self.parts_by)
            return given._replace(detector=scene.at, class_names=scene.class_names)
        return given._replace(detector=self.detector, class_names=self.detector.class_names)


def open_scene(
    recipe: TrackRecipe,
    hierarchy: Hierarchy,
    model: BaseEmbedder,
    device: str | None,
    segmenter: Segmenter | None,
) -> tuple[SceneModels, Boxes | None]:
    """The models of a scene, and its boxes where they come from a detector.

    Raises:
        InputError: a model cannot be loaded, or knows no name that it must know.
    """
    encoded = None if recipe.sam3 is None else LastEncoded(recipe.load_concepts(device))
    stuff = _open_stuff(recipe, hierarchy, device, encoded)
    models = SceneModels(hierarchy, segmenter, stuff, cast("PartsBy", recipe.parts_by))
    if recipe.detections is not None:
        return models, None
    if encoded is not None:
        objects = ConceptObjects(hierarchy, encoded)
        boxes = Boxes(objects, objects.class_names, objects.track_activation_threshold)
    else:
        boxes = replace(recipe, text=object_text(hierarchy)).open_boxes(model, device)
    detector: Any = boxes.detector
    embeddings = _embeddings(detector, hierarchy)
    models.detector = SceneDetector(hierarchy, detector, segmenter, stuff, models.parts_by, embeddings)
    return models, models.boxes(boxes)


def _open_stuff(
    recipe: TrackRecipe, hierarchy: Hierarchy, device: str | None, encoded: LastEncoded | None
) -> StuffFinder | None:
    """What finds stuff; ``encoded``: SAM 3 of the detector, which serves for stuff, too, where it is the same."""
    if not hierarchy.labels("stuff"):
        return None
    name = recipe.stuff_model or recipe.detector or ""
    if sam3_place(name) is not None:
        if encoded is None or sam3_place(name) != recipe.sam3:
            encoded = LastEncoded(replace(recipe, detector=name, identities="masa").load_concepts(device))
        return ConceptStuff(hierarchy, encoded)
    from masa_track.parts.models import ClipNames, TransformersStuff

    clip = None if recipe.clip is None else ClipNames(recipe.clip, device)
    return TransformersStuff(name, hierarchy, device, clip)


def _embeddings(detector: Any, hierarchy: Hierarchy) -> np.ndarray | None:
    """Of all phrases, by the detector's text encoder; None where it has none that is known."""
    tokenizer = getattr(detector, "tokenizer", getattr(getattr(detector, "processor", None), "tokenizer", None))
    network = getattr(detector, "network", None)
    if tokenizer is None or not hasattr(getattr(network, "model", None), "text_backbone"):
        return None
    from masa_track.parts.models import phrase_embeddings

    return phrase_embeddings(network, tokenizer, [phrase.text for phrase in hierarchy.phrases])


class PanopticSink:
    """``panoptic.json`` and the pictures in ``panoptic/``, of a run with stuff."""

    def __init__(self, folder: Path, info: RunInfo) -> None:
        names = {number: info.class_names.get(number, "") for number in (*info.things, *info.stuff)}
        self.writer = PanopticWriter(folder, info.name, info.size, names, frozenset(info.things))

    def write(self, result: FrameResult) -> None:
        """See :class:`masa_track.pipeline.sinks.Sink`."""
        panoptic = panoptic_of(result)
        if panoptic is None:
            return
        frame = result.frame
        try:
            self.writer.write(frame.number, frame.name, panoptic.numbers, panoptic.segments, frame.time)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.writer.file.path)) from error

    def close(self) -> dict[Path, OSError | None]:
        """See :class:`masa_track.pipeline.sinks.FileSink`."""
        path = self.writer.file.path
        try:
            self.writer.close()
        except OSError as error:
            return {path: error}
        return {path: None}

    def abandon(self) -> None:
        """See :class:`masa_track.pipeline.sinks.FileSink`."""
        with suppress(OSError):
            self.writer.abandon()


def panoptic_of(result: FrameResult) -> PanopticMap | None:
    """The map of things and stuff of a frame, that of the tracker or of the record; None for a frame without one."""
    by_row, ids = result.extras.get(PANOPTIC_BY_ROW), result.detections.tracker_id
    if PANOPTIC in result.extras or by_row is None or ids is None:
        return cast("PanopticMap | None", result.extras.get(PANOPTIC))
    return with_identities(by_row, ids)


def stuff_of(tracker: Any) -> Hierarchy | None:
    """The classes of a tracker of scenes that has stuff; None for others."""
    hierarchy = tracker.hierarchy if isinstance(tracker, SceneTracker) else None
    return hierarchy if hierarchy is not None and hierarchy.labels("stuff") else None
