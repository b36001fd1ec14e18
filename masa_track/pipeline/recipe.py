"""How a video is tracked, in text and numbers alone: :class:`TrackRecipe`. It is stored with a run, and can be sent."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from masa_track.association import REFERENCE_PRESETS, AppearancePrior, any_options_of, current_names
from masa_track.detectors.phrases import read_prompt
from masa_track.detectors.selection import Selection, chosen_classes
from masa_track.errors import InputError, unknown_name
from masa_track.masks import mask_api
from masa_track.pipeline.network import chosen_dtype, is_for, set_network
from masa_track.registry import IDENTITIES, OWN, check_installed, sam3_place

if TYPE_CHECKING:
    from pathlib import Path

    import supervision as sv

    from masa_track.contracts import ConceptModel, Detector, Exemplar, Frame
    from masa_track.encoders.base import BaseEmbedder
    from masa_track.masklets.concept_options import ConceptOptions
    from masa_track.parts.hierarchy import Hierarchy
    from masa_track.pipeline.job import Job
    from masa_track.pipeline.scenes import SceneModels
    from masa_track.segmenters.base import Segmenter
    from masa_track.video.sources import Source


_LISTS = ("classes", "exemplars", "negative_exemplars")  # of texts


class Boxes(NamedTuple):
    """A source of boxes, the names of their classes, and the score above which a box starts a track, if it is known."""

    detector: Detector | Callable[[Frame], sv.Detections]
    class_names: Mapping[int, str]
    track_activation_threshold: float | None = None


@dataclass(frozen=True)
class TrackRecipe:
    """Model, detector, preset and options of a run. Two runs of one recipe give a video the same tracks.

    Attributes:
        model: name or file of the model that embeds the boxes.
        checkpoint: file of weights instead of the model's own.
        precision: what model and detectors by torch compute in, ``fp32``, ``bf16`` or ``fp16``.
        network: settings of the model's network, see :func:`~masa_track.pipeline.network.set_network`.
        preset: how boxes are associated.
        options: of the preset, by name.
        prior: file with the calibration of the model's cosines; None: that of the model.
        camera_motion: estimate the motion of the camera.
        class_groups: classes that may be one object, ``"car,truck;person"``; None: as the detector has it.
        detector: name of the detector; None: boxes come from a file or from ``text`` with the model.
        detections: file of the boxes.
        first_frame: that file's number of the source's first frame; None: it is found out.
        frame_base: the file counts frames from this number, 0 or 1; None: it is found out.
        skip_bad_rows: leave out rows of that file that make no sense.
        stream: which of several video streams of the source; None: the default one.
        value_range: ``LOW,HIGH``, the values of black and white of pictures of 16 bits; None: found.
        deinterlace: make one picture of the two fields of interlaced ones.
        text: phrases to look for.
        exemplars: boxes that show what ``sam3`` looks for, see :func:`~masa_track.masklets.exemplars.parse_exemplar`.
        negative_exemplars: boxes that show what it does not look for.
        identities: whose identities a run with ``sam3`` has: those of ``masa``, of ``sam3``, or of ``both``.
        truncate: cut phrases that are too long for ``sam3``.
        semantic: make the semantic maps of ``sam3``.
        classes: names of the classes that are tracked; None: the detector's default.
        min_score: score below which boxes are left out.
        nms: IoU above which one of two boxes is left out; None: none is.
        stuff: names of stuff, ``"road, sky"``; None: none.
        stuff_model: finds stuff: a model of transformers, or ``sam3``; None: ``detector`` is SAM 3, which finds it.
        clip: compares names of stuff that the model does not know with its masks: CLIP or SigLIP of transformers.
        parts_by: how parts get masks, one of :data:`masa_track.parts.scene.PARTS_BY`.
        masks: checkpoint of a segmenter, or ``transformers:MODEL``; None: no masks.
        masklets: name of a propagator; None: identities without masklets.
        detect_every: the detector runs in every frame of this number, masklets alone in the others.
        pool: ``box`` or ``mask``, what embeddings are made of; None: as :class:`MasaTracker` has it.
        refine_masks: the borders of the masklets' masks are moved to edges of the picture.
    """

    model: str = "nano"
    checkpoint: str | None = None
    precision: str = "fp32"
    network: Mapping[str, Any] = field(default_factory=dict)
    preset: str = "default"
    options: Mapping[str, Any] = field(default_factory=dict)
    prior: str | None = None
    camera_motion: bool = False
    class_groups: str | None = None
    detector: str | None = "nanodet"
    detections: str | None = None
    first_frame: int | None = None
    frame_base: int | None = None
    skip_bad_rows: bool = False
    stream: int | None = None
    value_range: str | None = None
    deinterlace: bool = False
    text: str | None = None
    exemplars: tuple[str, ...] = ()
    negative_exemplars: tuple[str, ...] = ()
    identities: str = "masa"
    truncate: bool = False
    semantic: bool = False
    classes: tuple[str, ...] | None = None
    min_score: float = 0.0
    nms: float | None = None
    stuff: str | None = None
    stuff_model: str | None = None
    clip: str | None = None
    parts_by: str = "boxes"
    masks: str | None = None
    masklets: str | None = None
    detect_every: int = 1
    refine_masks: bool = False
    pool: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The recipe as JSON takes it."""
        held: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return held

    @classmethod
    def of_dict(cls, held: Mapping[str, Any]) -> TrackRecipe:
        """The recipe of :meth:`as_dict`.

        Raises:
            InputError: for an unknown name.
        """
        for name in held:
            if name not in cls.__dataclass_fields__:
                raise unknown_name("entry of the recipe", name, cls.__dataclass_fields__)
        lists = {name: tuple(held[name]) for name in _LISTS if held.get(name) is not None}
        return cls(**{**held, **lists})

    @property
    def sam3(self) -> str | None:
        """Folder or repository of SAM 3, empty for the official one; None: another detector."""
        return sam3_place(self.detector)

    def concepts(self) -> tuple[list[str], list[Exemplar]]:
        """What ``sam3`` looks for: phrases, each once, and exemplars.

        Raises:
            InputError: nothing, or an exemplar of another form or of a phrase that is not looked for.
        """
        from masa_track.masklets.exemplars import read_exemplars

        phrases = [] if self.text is None else list(dict.fromkeys(read_prompt(self.text).phrases))
        exemplars = read_exemplars(self.exemplars, self.negative_exemplars, phrases)
        if not phrases and not exemplars:
            raise InputError(
                '--detector sam3 finds what is named or shown: add --text, e.g. --text "a red car", or --exemplar'
            )
        return phrases, exemplars

    def check(self) -> None:
        """Finds mistakes that can be found before a model is loaded.

        Raises:
            InputError: an option is unknown or has a value that cannot be, options exclude each other, or an extra is
                missing.
        """
        if self.identities == "masa":
            any_options_of(self.preset, **current_names(dict(self.options)))
        if self.preset != "default":
            for option, given in (
                ("--class-groups", self.class_groups is not None),
                ("--prior", self.prior),
                ("--camera-motion", self.camera_motion),
                ("--filter-boxes", self.options.get("filter_boxes")),
                ("--max-identities", self.options.get("max_identities") is not None),
            ):
                if given:
                    raise InputError(f"{option} needs --preset default, got {self.preset}: leave one of them out")
        hierarchy = self.hierarchy
        self._check_concepts()
        if self.masks is not None:
            library = "transformers" if self.masks.startswith("transformers:") else "sam"
            check_installed(library, purpose="for --masks")
            mask_api()  # files hold masks as run lengths
        if self.masklets is not None:
            from masa_track.masklets.loading import check_propagator

            check_propagator(self.masklets)
            mask_api("masklets")  # files hold masks as run lengths
            if self.masks is not None:
                raise InputError("--masks and --masklets both make masks: leave one of them out")
            if self.preset != "default":
                raise InputError(f"--masklets needs --preset default, got {self.preset}: leave one of them out")
        if self.refine_masks and self.masklets is None:
            raise InputError("--refine-masks needs --masklets, whose masks it refines: add it")
        if self.detect_every > 1 and self.masklets is None:
            raise InputError("--detect-every needs --masklets, which carry tracks in the frames between: add it")
        if self.text is not None and hierarchy is None:
            if self.detections is not None:
                raise InputError(
                    "--detections and --text exclude each other: give one, or name parts in --text, e.g. person[head]"
                )
            read_prompt(self.text)
        if self.text is not None and self.detector is None and self.detections is None:
            check_installed("gdino", purpose="for --text")
        if self.prior is not None:
            AppearancePrior.load(self.prior)
        Selection(min_score=self.min_score, nms=self.nms)
        if self.classes is not None and self.detector == "nanodet":
            from masa_track.detectors.nanodet import class_ids

            class_ids(list(self.classes))

    def _check_concepts(self) -> None:
        """Checks the options that are for ``sam3`` alone, and those that it excludes.

        Raises:
            InputError: one is given with another detector, or with an option that it excludes.
        """
        if self.identities not in IDENTITIES:
            raise unknown_name("--identities", self.identities, IDENTITIES)
        if self.sam3 is None:
            for option, given in (
                ("--exemplar", self.exemplars),
                ("--negative-exemplar", self.negative_exemplars),
                ("--truncate", self.truncate),
                ("--semantic", self.semantic),
                ("--identities", self.identities != "masa"),
            ):
                if given:
                    raise InputError(f"{option} needs --detector sam3, got {self.detector}: leave one of them out")
            return
        self.concepts()
        if self.masks is not None or self.masklets is not None:
            raise InputError("--detector sam3 makes masks itself: leave --masks and --masklets out")
        if self.identities == "masa":
            if self.semantic:
                raise InputError("--semantic is for --identities sam3 and both, got masa: leave one of them out")
            return
        concept_options(self.options)
        for option, set_here in (
            ("--preset", self.preset != "default"),
            ("--class-groups", self.class_groups is not None),
            ("--prior", self.prior),
            ("--camera-motion", self.camera_motion),
            ("--classes", self.classes is not None),
            ("--min-score", self.min_score > 0),
            ("--nms", self.nms is not None),
        ):
            if set_here:
                raise InputError(
                    f"{option} is for --identities masa, got {self.identities}: SAM 3 associates what it detects itself"
                )

    def build(self, device: str | None = None) -> Pipeline:
        """Loads the models.

        Args:
            device: ``cpu``, ``cuda``, ...; None: a GPU if there is one.

        Raises:
            InputError: a model or a library cannot be loaded.
        """
        from masa_track.encoders.loading import load

        dtype = chosen_dtype(self.precision, device)
        segmenter, hierarchy = None, self.hierarchy
        if self.masks is not None:
            from masa_track.pipeline.scenes import open_segmenter

            segmenter = open_segmenter(self.masks, device)
        model = load(self.model, device=device, checkpoint=self.checkpoint, dtype=dtype)
        set_network(model, self.network)
        if hierarchy is not None:
            from masa_track.pipeline.scenes import open_scene

            scene, boxes = open_scene(self, hierarchy, model, device, segmenter)
            return Pipeline(self, model, boxes, scene=scene)  # its detector makes the masks
        concepts = None if self.sam3 is None else self.load_concepts(device)
        boxes = None if self.detections is not None or concepts is not None else self.open_boxes(model, device)
        return Pipeline(self, model, boxes, segmenter, concepts)

    @cached_property
    def hierarchy(self) -> Hierarchy | None:
        """Things, parts and stuff, where there are parts, synonyms, thresholds of phrases or stuff; else None.

        Raises:
            InputError: text or stuff is not of the form that they must have, or an option needs another one.
        """
        from masa_track.pipeline.scenes import hierarchy_of

        return hierarchy_of(self)

    def load_concepts(self, device: str | None) -> ConceptModel:
        """SAM 3, with its propagator unless MASA's identities are asked for."""
        from masa_track.masklets.sam3_weights import load_sam3

        precision = None if self.precision == "fp32" else self.precision
        return load_sam3(self.sam3 or "", device, precision, self.truncate, tracks=self.identities != "masa")

    def concept_boxes(self, model: ConceptModel) -> Boxes:
        """What ``sam3`` finds in the frames of one video."""
        from masa_track.masklets.concept_detector import Sam3Detector

        phrases, exemplars = self.concepts()
        found = Sam3Detector(model, phrases, exemplars)
        return Boxes(found.at if exemplars else found, found.class_names, found.track_activation_threshold)

    def open_boxes(self, model: BaseEmbedder | None, device: str | None) -> Boxes:
        """A detector by name, the model's own head, or Grounding DINO on the model's backbone.

        Args:
            model: embeds the boxes; may be None for detectors that do not work on its backbone.
            device: of the detector.

        Raises:
            InputError: the detector or a library cannot be loaded.
        """
        from masa_track.detectors import open_detector

        if self.sam3 is not None:
            return self.concept_boxes(self.load_concepts(device))
        if self.detector is None:
            assert model is not None
            from masa_track.detectors.grounded import open_text_detector

            detector: Detector = open_text_detector(model, self.text or "")
        elif self.detector == OWN:
            assert model is not None
            from masa_track.detectors.own import OwnDetector

            own = self.network.get("roi_head", {}) if is_for(model, self.network) else {}
            detector = OwnDetector(model, own["score_threshold"]) if "score_threshold" in own else OwnDetector(model)
        else:
            classes = self.classes if self.detector == "nanodet" else None
            precision = None if self.precision == "fp32" else self.precision
            detector = open_detector(self.detector, device, self.text, classes, precision)
        return Boxes(detector, detector.class_names, detector.track_activation_threshold)


@dataclass
class Pipeline:
    """A recipe with its models loaded. It tracks one video after the other.

    Attributes:
        recipe: what was built.
        model: embeds the boxes.
        boxes: the detector; None: boxes come from a file.
        segmenter: None for no masks.
        concepts: SAM 3, for a recipe with it.
        scene: finds things, parts and stuff; None for a recipe without them.
    """

    recipe: TrackRecipe
    model: BaseEmbedder
    boxes: Boxes | None
    segmenter: Segmenter | None = None
    concepts: ConceptModel | None = None
    scene: SceneModels | None = None

    def job(self, source: Source, folder: Path, boxes: Boxes | None = None, **options: Any) -> Job:
        """A video to track.

        Args:
            source: the video.
            folder: an existing folder for the results.
            boxes: of a file, where the recipe names one.
            **options: of :class:`~masa_track.pipeline.job.Job`.

        Raises:
            InputError: a class is named that the detector does not have, or an option of the preset has a value that
                cannot be.
        """
        from masa_track.pipeline.job import Job
        from masa_track.tracker import MasaTracker

        recipe, given = self.recipe, boxes or self.boxes
        if self.concepts is not None and recipe.identities != "masa":
            return self._concept_job(self.concepts, source, folder, options)
        if self.concepts is not None:
            given = recipe.concept_boxes(self.concepts)
        if given is None:
            raise InputError(f"boxes must be those of {recipe.detections}, got None")
        if self.scene is not None and boxes is not None:
            given = self.scene.boxes(boxes)
        select = Selection(min_score=recipe.min_score, nms=recipe.nms)
        if recipe.classes is not None and recipe.detector != "nanodet":
            select = replace(select, classes=chosen_classes(list(recipe.classes), given.class_names))
        own = current_names(dict(recipe.options))
        threshold = None if recipe.preset in REFERENCE_PRESETS else given.track_activation_threshold
        if recipe.preset not in REFERENCE_PRESETS:
            own.setdefault("fps", source.fps)  # memory is counted in the source's frames, whatever the stride
        if threshold is not None:
            own.setdefault("track_activation_threshold", threshold)
        start_score = own.get("track_activation_threshold", any_options_of(recipe.preset).track_activation_threshold)
        if recipe.class_groups is not None:
            own["class_groups"] = class_groups(recipe.class_groups, given.class_names)
        elif recipe.detector == "nanodet" and recipe.preset == "default":
            from masa_track.detectors.nanodet import CLASS_GROUPS

            own.setdefault("class_groups", CLASS_GROUPS)
        if self.scene is not None:
            from masa_track.parts.scene import SceneTracker, thing_classes

            nodes = self.scene.hierarchy.nodes
            own["classes"] = thing_classes(self.scene.hierarchy)
            lower = [one.threshold for one in nodes if one.kind == "thing" and one.threshold is not None]
            own["track_activation_threshold"] = min([start_score, *lower])
        tracker: Any = MasaTracker(
            self.model,
            recipe.preset,
            camera_motion=recipe.camera_motion,
            prior=recipe.prior,
            pool=recipe.pool,
            **own,
        )
        if self.scene is not None:
            tracker = SceneTracker(tracker, self.scene.hierarchy, start_score, own.get("use_appearance", True))
            own.pop("classes")
        if recipe.masklets is not None:
            from masa_track.masklets.loading import open_propagator
            from masa_track.masklets.tracking import MaskletTracker

            propagator = open_propagator(recipe.masklets, str(self.model.device), refine=recipe.refine_masks)
            tracker = MaskletTracker(tracker, propagator)
        starts_at = any_options_of(recipe.preset, **own).track_activation_threshold
        return Job(
            source,
            given.detector,
            given.class_names,
            tracker,
            folder,
            segmenter=self.segmenter,
            select=select,
            detect_every=recipe.detect_every,
            track_activation_threshold=starts_at,
            facts=self.facts() | ({} if threshold is None else {"tracks start at": f"score {starts_at}"}),
            **options,
        )

    def _concept_job(self, model: ConceptModel, source: Source, folder: Path, options: dict[str, Any]) -> Job:
        """A video to track with masklets of SAM 3.

        Raises:
            InputError: an option has a value that cannot be.
        """
        import supervision as sv

        from masa_track.masklets.concepts import ConceptTracker
        from masa_track.pipeline.job import Job

        phrases, exemplars = self.recipe.concepts()
        chosen = concept_options(self.recipe.options)
        embedder = self.model if self.recipe.identities == "both" else None
        tracker = ConceptTracker(
            model, phrases or None, exemplars, options=chosen, embedder=embedder, semantic=self.recipe.semantic
        )
        return Job(
            source,
            lambda frame: sv.Detections.empty(),
            dict(enumerate(tracker.phrases)),
            tracker,
            folder,
            track_activation_threshold=chosen.birth_score,
            facts=self.facts(),
            **options,
        )

    def facts(self) -> dict[str, object]:
        """The settings, for the report."""
        recipe, model = self.recipe, self.model
        detector = f"detector {recipe.detector}" if recipe.detector else None
        text = f"text {recipe.text!r}" if recipe.text else None
        facts: dict[str, object] = {
            "model": model.name,
            "checkpoint": recipe.checkpoint or str(model.checkpoint and model.checkpoint.name),
            "MASA configuration": recipe.network.get("file"),
            "precision": None if recipe.precision == "fp32" else recipe.precision,
            "preset": recipe.preset,
            **{f"option {name}": value for name, value in recipe.options.items()},
            "class groups": recipe.class_groups,
            "camera motion": "estimated" if recipe.camera_motion else None,
            "prior": recipe.prior,
            "exemplars": ", ".join((*recipe.exemplars, *(f"not {one}" for one in recipe.negative_exemplars))) or None,
            "identities of": recipe.identities if recipe.sam3 is not None else None,
            "boxes from": ", ".join(one for one in (recipe.detections, detector, text) if one),
            "classes": None if recipe.classes is None else ", ".join(recipe.classes),
            "lowest score": recipe.min_score or None,
            "duplicates removed": None if recipe.nms is None else f"IoU above {recipe.nms}",
            "stuff": recipe.stuff and f"{recipe.stuff!r} by {recipe.stuff_model or recipe.detector}",
            "parts by": recipe.parts_by if self.scene is not None and recipe.masks else None,
            "masks by": recipe.masks,
            "masklets by": recipe.masklets,
            "embeddings of": recipe.pool,
            "masks": "refined" if recipe.refine_masks else None,
            "detector runs": f"every {recipe.detect_every} frames" if recipe.detect_every > 1 else None,
            "device": str(model.device),
        }
        return {name: value for name, value in facts.items() if value is not None}


def concept_options(options: Mapping[str, Any]) -> ConceptOptions:
    """Options of SAM 3's tracking.

    Raises:
        InputError: one is unknown or has a value that cannot be.
    """
    from masa_track.masklets.concept_options import ConceptOptions

    for name in options:
        if name not in ConceptOptions.__dataclass_fields__:
            raise unknown_name("option of --identities sam3 and both", name, ConceptOptions.__dataclass_fields__)
    return ConceptOptions(**options)


def class_groups(text: str, class_names: Mapping[int, str]) -> tuple[tuple[int, ...], ...]:
    """``"car,truck;person"`` as groups of class numbers.

    Args:
        text: groups separated by semicolons, classes by commas, each a name or a number.
        class_names: the detector's names by class number; names are compared without case.

    Raises:
        InputError: for a name that the detector does not have, an empty group, or a class in two groups.
    """
    numbers = {name.casefold(): number for number, name in class_names.items()}
    parts = [[name.strip() for name in part.split(",")] for part in text.split(";")]
    if not all(name for part in parts for name in part):
        raise InputError(f'--class-groups must be classes separated by "," and groups separated by ";", got {text!r}')
    for name in (name for part in parts for name in part):
        if name.casefold() not in numbers and not name.isdecimal():
            raise unknown_name("class in --class-groups", name, class_names.values())
    return tuple(tuple(numbers[n.casefold()] if n.casefold() in numbers else int(n) for n in part) for part in parts)
