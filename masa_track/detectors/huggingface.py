"""Detectors of transformers: those of fixed classes (RT-DETR, DETR, ...), and those that look for what a text names.

The weights are read by transformers, from the Hub or from a folder of ``save_pretrained``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import supervision as sv
import torch

from masa_track.detectors.base import PictureDetector
from masa_track.detectors.grounded import TRACK_ACTIVATION_THRESHOLD, merge_groups, text_groups
from masa_track.detectors.phrases import TextPrompt, read_prompt
from masa_track.errors import InputError, first_line, missing_extra
from masa_track.formats.results import to_detections
from masa_track.models.devices import choose_device, mixed_precision

GROUNDED = ("grounding-dino", "mm-grounding-dino")  # a score for each token of the text
QUERIED = ("owlvit", "owlv2")  # a score for each phrase


def takes_text(name: str) -> bool:
    """Whether a model of transformers is a detector that looks for what a text names. Its weights are not loaded.

    Raises:
        InputError: without transformers, or for a model that is not there.
    """
    return _config(name).model_type in (*GROUNDED, *QUERIED)


def _config(name: str) -> Any:
    try:
        import transformers
    except ImportError as error:
        raise missing_extra("transformers", "transformers", "for this detector") from error
    try:
        return transformers.AutoConfig.from_pretrained(name)
    except Exception as error:
        raise _not_loaded(name, error) from error


def _not_loaded(name: str, error: Exception) -> InputError:
    return InputError(
        f"detector 'transformers:{name}' cannot be loaded ({first_line(error)}): give the name of a "
        f"detector on the Hugging Face Hub (fetched once by `hf download {name}`) or a folder"
    )


class TransformersDetector(PictureDetector):
    """A detector of transformers.

    Args:
        name: on the Hugging Face Hub, or a folder.
        text: for a detector that takes text: phrases, separated by full stops, ``"a red car. a dog"``, or a list of
            names, see :func:`~masa_track.detectors.phrases.read_prompt`. Phrase i is class i.
        device: where it runs; None takes a GPU if there is one.
        threshold: boxes of a lower score are left out. None takes .3, and .1 for OWL, whose scores are low.
        precision: see :func:`~masa_track.detectors.open_detector`.

    Raises:
        InputError: without transformers, for a model that is not there or no detector, a text where there must be none,
            or none where there must be one.
    """

    def __init__(
        self,
        name: str,
        text: str | None = None,
        device: str | None = None,
        threshold: float | None = None,
        precision: str | None = None,
    ) -> None:
        config = _config(name)
        self.kind = config.model_type
        by_text = self.kind in (*GROUNDED, *QUERIED)
        if by_text and text is None:
            raise InputError(f'detector {name!r} finds what a text names: add --text, e.g. --text "a car. a dog"')
        if not by_text and text is not None:
            raise InputError(f"detector {name!r} ({self.kind}) takes no text: leave --text out, or take one of the "
                             f"kinds {', '.join((*GROUNDED, *QUERIED))}")  # fmt: skip
        import transformers

        try:
            kind: Any = transformers.AutoModelForObjectDetection
            if by_text:
                kind = transformers.AutoModelForZeroShotObjectDetection
            network = kind.from_pretrained(name)
            reader = transformers.AutoProcessor if by_text else transformers.AutoImageProcessor
            self.processor: Any = reader.from_pretrained(name)
        except Exception as error:  # a damaged file: SafetensorError, which is no ValueError, and what else
            raise _not_loaded(name, error) from error
        self.device, self.precision = choose_device(device), precision
        mixed_precision(self.device, precision)  # a mistake is named before the first frame
        self.network: Any = network.eval().requires_grad_(False).to(self.device)
        self.threshold = threshold if threshold is not None else 0.1 if self.kind in QUERIED else 0.3
        self.track_activation_threshold = (
            TRACK_ACTIVATION_THRESHOLD if self.kind in GROUNDED else 0.2 if self.kind in QUERIED else 0.5
        )
        if text is None:
            self.class_names = {int(index): str(label) for index, label in config.id2label.items()}
            return
        self.look_for(read_prompt(text))

    def look_for(self, prompt: TextPrompt) -> None:
        """Sets the classes of a detector that takes text.

        Raises:
            InputError: a phrase is too long for the model.
        """
        self.phrases, self.class_names = list(prompt.phrases), dict(enumerate(prompt.names))
        if self.kind in GROUNDED:
            self.groups = text_groups(self.processor.tokenizer, self.phrases, self.device)

    def _find(self, image: np.ndarray) -> sv.Detections:
        return self._find_all([image])[0]

    @torch.inference_mode()
    def _find_all(self, images: Sequence[np.ndarray]) -> list[sv.Detections]:
        pictures = [np.ascontiguousarray(image[..., ::-1]) for image in images]  # RGB
        if self.kind in GROUNDED:
            return [self._grounded(picture) for picture in pictures]
        words = {"text": [self.phrases] * len(images)} if self.kind in QUERIED else {}
        inputs = self.processor(images=pictures, return_tensors="pt", **words).to(self.device)
        output = self._run(inputs)
        post = self.processor.post_process_grounded_object_detection if words else None
        post = post or self.processor.post_process_object_detection
        sizes = [picture.shape[:2] for picture in pictures]
        return [to_detections(found) for found in post(output, threshold=self.threshold, target_sizes=sizes)]

    def _grounded(self, picture: np.ndarray) -> sv.Detections:
        """By the scores of each phrase's tokens. transformers' own result may name words of several phrases."""
        image = self.processor.image_processor(images=picture, return_tensors="pt").to(self.device)
        parts = [group.boxes(self._run({**image, **group.encoding}), self.threshold) for group in self.groups]
        boxes, scores, labels = merge_groups(parts)
        height, width = picture.shape[:2]
        boxes = boxes * np.array([width, height, width, height], np.float32)
        return to_detections({"boxes": boxes, "scores": scores, "labels": labels})

    def _run(self, inputs: Any) -> Any:
        with mixed_precision(self.device, self.precision):
            output = self.network(**inputs)
        if self.precision is not None:
            output.logits, output.pred_boxes = output.logits.float(), output.pred_boxes.float()
        return output
