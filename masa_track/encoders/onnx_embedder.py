"""A network of ONNX files at work, by ONNX Runtime and numpy. Imports no torch.

A network is three files, which belong together: ``NAME.onnx`` (a picture to feature levels), ``NAME.embed.onnx``
(levels and boxes to embeddings) and, where it finds boxes itself, ``NAME.detect.onnx`` (levels to candidates). What
must be known of them stands in the first one's metadata, as :class:`NetworkFacts`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from masa_track.association import AppearancePrior
from masa_track.boxes import suppress
from masa_track.contracts import Features
from masa_track.encoders.base import BaseEmbedder
from masa_track.encoders.masked import filled, masked_window
from masa_track.encoders.preprocessing import check_images, to_input, within_reach
from masa_track.errors import InputError
from masa_track.onnx_session import open_session
from masa_track.registry import ONNX, Preprocessing

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

FORMAT = "1"  # of the metadata; another number is refused
_KEY = "masa_track"  # of the metadata


class Detection(NamedTuple):
    """How boxes are chosen from the candidates.

    Attributes:
        per_level: candidates kept a level before non-maximum suppression.
        most: boxes kept after it.
        overlap: IoU above which the worse of two boxes is dropped.
    """

    per_level: int
    most: int
    overlap: float


@dataclass(frozen=True)
class NetworkFacts:
    """What is known of a network of ONNX files.

    Attributes:
        model: its name.
        dimension: D, the numbers in an embedding.
        preprocessing: what the pictures go through.
        parts: SHA-256 of the other files, by ``embed`` and ``detect``.
        version: of masa-track that wrote them.
        source_sha256: of the file of weights that they were made from.
        detection: how boxes are chosen; None where the network finds none.
        prior: the cosines to expect, as :class:`~masa_track.association.AppearancePrior` saves them; None: not known.
    """

    model: str
    dimension: int
    preprocessing: Preprocessing
    parts: Mapping[str, str]
    version: str
    source_sha256: str
    detection: Detection | None = None
    prior: Mapping[str, Any] | None = None

    def to_metadata(self) -> dict[str, str]:
        """The ``metadata_props`` of ``NAME.onnx``."""
        return {_KEY: json.dumps({"format": FORMAT, **asdict(self)})}

    @classmethod
    def of_metadata(cls, metadata: Mapping[str, str], file: str) -> NetworkFacts:
        """Reads what :meth:`to_metadata` gave.

        Args:
            metadata: of the file.
            file: its name, for errors.

        Raises:
            InputError: for a file of another program, of another version of the metadata, or with damaged metadata.
        """
        if _KEY not in metadata:
            raise InputError(
                f"{file} is no model of masa-track: its metadata has no {_KEY!r}; make one of your weights by "
                "`masa-track convert FILE.safetensors --to onnx`, and load the file that is called NAME.onnx"
            )
        try:
            facts = json.loads(metadata[_KEY])
            found = facts.pop("format")
            if found != FORMAT:
                raise InputError(
                    f"{file} was written by masa-track {facts.get('version')} in format {found}, and format {FORMAT} "
                    "is read: convert the weights again"
                )
            given = facts["preprocessing"]
            lists = {name: tuple(given[name]) for name in ("mean", "std")}
            facts["preprocessing"] = Preprocessing(**(given | lists))
            facts["detection"] = facts["detection"] and Detection(*facts["detection"])
            return cls(**facts)
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"{file}: its metadata {_KEY!r} is damaged ({error!r}): convert the weights again"
            ) from error


class OnnxEmbedder(BaseEmbedder):
    """A network of ONNX files with its preprocessing, on a device; it computes in float32.

    Made by :func:`masa_track.load`.

    Args:
        path: ``NAME.onnx``; the other files are beside it.
        device: see :func:`~masa_track.onnx_session.choose_provider`.

    Attributes:
        facts: from the file's metadata.

    Raises:
        InputError: a file is missing, damaged or not of this network, or the device cannot be used.
    """

    def __init__(self, path: Path, device: str | None = None) -> None:
        content = _read(path)
        self._device = device
        self._encoder = open_session(content, str(path), device)
        self.device = device or ("cuda" if self._encoder.get_providers()[0].startswith("CUDA") else "cpu")
        self.facts = NetworkFacts.of_metadata(self._encoder.get_modelmeta().custom_metadata_map, str(path))
        self.name = self.facts.model
        self.checkpoint = path
        self._sha256 = hashlib.sha256(content).hexdigest()
        self._parts = {name: _read_part(path, name, digits) for name, digits in self.facts.parts.items()}
        if self.facts.prior is not None:
            self.prior = AppearancePrior.of(self.facts.prior, str(path))
            self.prior.check(self.name, self.dimension)

    @property
    def key(self) -> str:
        """Says whose features are: name, checksum of the file, dtype; see :class:`masa_track.contracts.Embedder`."""
        return f"{self.name}@{self._sha256[:12]}/float32"

    @property
    def dimension(self) -> int:
        """D, the numbers in an embedding."""
        return self.facts.dimension

    @property
    def finds_boxes(self) -> bool:
        """Whether :meth:`detect` works: not every network has such a head in its files."""
        return self.facts.detection is not None

    def encode(self, images: Sequence[np.ndarray]) -> list[Features]:
        """Runs the backbone, once for each picture; see :meth:`BaseEmbedder.encode`."""
        check_images(images)
        return [self._encode(image) for image in images]

    def _encode(self, image: np.ndarray) -> Features:
        picture, factors, inner = to_input(image, self.facts.preprocessing)
        names = [output.name for output in self._encoder.get_outputs()]
        levels = self._encoder.run(names, {"image": np.ascontiguousarray(picture)})
        size = picture.shape[3], picture.shape[2]
        encoded = EncodedLevels(inner, factors, dict(zip(names, levels, strict=True)), size)
        return Features(self.key, (image.shape[1], image.shape[0]), encoded)

    def _embed(self, features: Features, boxes: np.ndarray) -> np.ndarray:
        encoded: EncodedLevels = features.data
        scaled = np.asarray(within_reach(boxes, features.size) * encoded.factors, np.float32)
        (embeddings,) = _run(self._embed_session, {**encoded.levels, "boxes": scaled})
        return np.asarray(embeddings)

    def _embed_masked(self, features: Features, box: np.ndarray, mask: np.ndarray) -> np.ndarray | None:
        encoded: EncodedLevels = features.data
        scaled = within_reach(box[None], features.size)[0] * encoded.factors
        found = masked_window(mask, scaled, encoded.factors, encoded.input)
        if found is None:
            return None
        width = encoded.input[0]
        levels = {
            name: filled(level, *found, width / level.shape[3], lambda weights: weights)
            for name, level in encoded.levels.items()
        }
        own = np.asarray(scaled - np.tile(found[0][:2], 2), np.float32)[None]
        (embeddings,) = _run(self._embed_session, {**levels, "boxes": own})
        return np.asarray(embeddings)[0]

    def _detect(self, features: Features) -> tuple[np.ndarray, np.ndarray]:
        encoded: EncodedLevels = features.data
        outputs = _run(self._detect_session, encoded.levels)
        height, width = encoded.size
        boxes, scores = choose(outputs[::2], outputs[1::2], (width, height), self.facts.detection or Detection(0, 0, 0))
        return boxes / encoded.factors, scores

    @cached_property
    def _embed_session(self) -> InferenceSession:
        return open_session(self._parts["embed"], f"the part 'embed' of {self.checkpoint}", self._device)

    @cached_property
    def _detect_session(self) -> InferenceSession:
        return open_session(self._parts["detect"], f"the part 'detect' of {self.checkpoint}", self._device)


@dataclass
class EncodedLevels:
    """A picture after the backbone: ``Features.data`` of an :class:`OnnxEmbedder`.

    Attributes:
        size: (height, width) of the picture inside the input, pixels.
        factors: (4,) float32, from xyxy pixels of the picture to the input's.
        levels: (1, C, H', W') float32 by the names of the outputs.
        input: (width, height) of the padded input, pixels.
    """

    size: tuple[int, int]
    factors: np.ndarray
    levels: dict[str, np.ndarray]
    input: tuple[int, int]


def choose(
    boxes: Sequence[np.ndarray], scores: Sequence[np.ndarray], size: tuple[int, int], rule: Detection
) -> tuple[np.ndarray, np.ndarray]:
    """The best candidates of all levels that do not overlap.

    Args:
        boxes: for each level (P, 4) float32 xyxy pixels of the input.
        scores: for each level (P,) float32.
        size: (width, height) of the picture inside the input; boxes are clipped to it.
        rule: how many, and how far they may overlap.

    Returns:
        Boxes (N, 4) float32 and scores (N,), best first.
    """
    best = [np.argsort(-level, kind="stable")[: rule.per_level] for level in scores]
    all_boxes = np.concatenate([level[rows] for level, rows in zip(boxes, best, strict=True)])
    all_scores = np.concatenate([level[rows] for level, rows in zip(scores, best, strict=True)])
    all_boxes = all_boxes.clip(0, np.array([*size, *size], np.float32))
    real = (all_boxes[:, 2:] > all_boxes[:, :2]).all(axis=1)
    all_boxes, all_scores = all_boxes[real], all_scores[real]
    rows = suppress(all_boxes, all_scores, rule.overlap, rule.most)
    return all_boxes[rows], all_scores[rows]


def part_path(path: Path, part: str) -> Path:
    """``NAME.embed.onnx`` beside ``NAME.onnx``."""
    return path.with_name(f"{path.stem}.{part}{ONNX}")


def _run(session: InferenceSession, values: Mapping[str, np.ndarray]) -> list[Any]:
    """All outputs; of the values, those that the network takes."""
    return list(session.run(None, {given.name: values[given.name] for given in session.get_inputs()}))


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise InputError(f"no such checkpoint: {path}")
    return path.read_bytes()


def _read_part(path: Path, part: str, digits: str) -> bytes:
    """A file beside ``path``, which must be of the same network."""
    file = part_path(path, part)
    if not file.is_file():
        raise InputError(f"{path} needs {file.name} beside it, and it is not there: keep the files of a model together")
    content = file.read_bytes()
    if hashlib.sha256(content).hexdigest() != digits:
        raise InputError(
            f"{file} is not of the network of {path}: its SHA-256 is another; keep those of one conversion"
        )
    return content
