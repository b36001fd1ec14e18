"""The base class of embedders by torch and by ONNX Runtime: frames and boxes in, embeddings out. Needs no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from masa_track.association import AppearancePrior
from masa_track.boxes import check_boxes
from masa_track.contracts import Features
from masa_track.encoders.preprocessing import check_images
from masa_track.errors import InputError
from masa_track.masks import as_mask
from masa_track.registry import OWN, models_with


class BaseEmbedder(ABC):
    """A network with its preprocessing, on a device. Made by :func:`masa_track.load`.

    Attributes:
        name: what it was loaded as.
        device: where it runs.
        checkpoint: the file it was loaded from, where :func:`masa_track.load` made it.
        prior: the cosines to expect of its embeddings; None where they are not known.
    """

    name: str
    device: Any
    checkpoint: Path | None = None
    prior: AppearancePrior | None = None

    @property
    @abstractmethod
    def key(self) -> str:
        """Says whose features are: name, checksum of the weights, dtype; see :class:`masa_track.contracts.Embedder`."""

    @property
    @abstractmethod
    def dimension(self) -> int:
        """D, the numbers in an embedding."""

    @property
    @abstractmethod
    def finds_boxes(self) -> bool:
        """Whether :meth:`detect` works."""

    @abstractmethod
    def encode(self, images: Sequence[np.ndarray]) -> list[Features]:
        """Runs the backbone, once for each picture. All that works on a picture can share its features.

        Args:
            images: F pictures (H, W, 3) BGR uint8.

        Returns:
            The features of each.

        Raises:
            InputError: for a picture of another form.
        """

    def embed(self, frame: np.ndarray, boxes: np.ndarray, masks: Sequence[Any] | None = None) -> np.ndarray:
        """Embeddings of boxes.

        Args:
            frame: (H, W, 3) BGR uint8.
            boxes: (N, 4) xyxy pixels of the frame; they may reach beyond it.
            masks: as for :meth:`embed_features`.

        Returns:
            (N, D) float32, not normalised. With no box, (0, D), and the network is not run.

        Raises:
            InputError: for a frame or boxes of another form, NaN, or inverted boxes.
        """
        if masks is None or not len(boxes):
            return self.embed_batch([frame], [boxes])[0]
        return self.embed_features(self.encode([frame])[0], boxes, masks)

    def embed_batch(self, frames: Sequence[np.ndarray], boxes: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Embeddings of several frames' boxes, frames of one size in one pass of the backbone.

        Args:
            frames: F frames (H, W, 3) BGR uint8.
            boxes: F arrays (N_f, 4), xyxy pixels of their frame.

        Returns:
            F arrays (N_f, D) float32, as :meth:`embed` gives them one by one.

        Raises:
            InputError: as :meth:`embed`, or if there are not as many boxes as frames.
        """
        if len(frames) != len(boxes):
            raise InputError(f"boxes must be one array a frame, got {len(boxes)} for {len(frames)} frames")
        check_images(frames)
        checked = [check_boxes(own) for own in boxes]
        looked_at = [index for index, own in enumerate(checked) if len(own)]
        result = [np.empty((0, self.dimension), np.float32) for _ in frames]
        for index, features in zip(looked_at, self.encode([frames[i] for i in looked_at]), strict=True):
            result[index] = self.embed_features(features, checked[index])
        return result

    def embed_features(self, features: Features, boxes: np.ndarray, masks: Sequence[Any] | None = None) -> np.ndarray:
        """Embeddings of boxes of a picture that is encoded.

        Args:
            features: of the picture, by :meth:`encode`.
            boxes: (N, 4) xyxy pixels of the picture; they may reach beyond it.
            masks: N masks (H, W) bool of the picture, or None: an object is embedded without its surroundings, which
                are replaced in the feature maps by the mean of the features under its mask. Rows whose mask is None or
                empty are embedded as without.

        Returns:
            (N, D) float32, as :meth:`embed` gives them.

        Raises:
            InputError: for features of another model, other weights or another dtype; for boxes as :meth:`embed`.
        """
        features.check(self.key)
        boxes = check_boxes(boxes)
        if len(boxes) == 0:
            return np.empty((0, self.dimension), np.float32)
        if masks is None:
            return self._embed(features, boxes)
        if len(masks) != len(boxes):
            raise InputError(f"masks must be one for each of {len(boxes)} boxes, got {len(masks)}")
        found = np.empty((len(boxes), self.dimension), np.float32)
        plain = []
        for row, mask in enumerate(masks):
            one = None if mask is None else self._embed_masked(features, boxes[row], as_mask(mask, features.size))
            if one is None:
                plain.append(row)
            else:
                found[row] = one
        if plain:
            found[plain] = self._embed(features, boxes[plain])
        return found

    @abstractmethod
    def _embed_masked(self, features: Features, box: np.ndarray, mask: np.ndarray) -> np.ndarray | None:
        """The embedding (D,) of a box (4,) under its mask (H, W) bool; None where the mask is empty there."""

    @abstractmethod
    def _embed(self, features: Features, boxes: np.ndarray) -> np.ndarray:
        """Embeddings (N, D) float32 of boxes (N, 4) that are checked; N is 1 or more."""

    def detect(self, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Class-agnostic boxes of the model's own head: "everything".

        Args:
            frame: (H, W, 3) BGR uint8.

        Returns:
            Boxes (N, 4) float32, xyxy pixels of the frame, and scores (N,) float32 in 0..1, best first.

        Raises:
            InputError: for a frame of another form, or a model without such a head.
        """
        self._check_finds_boxes()
        return self.detect_features(self.encode([frame])[0])

    def detect_features(self, features: Features) -> tuple[np.ndarray, np.ndarray]:
        """Class-agnostic boxes of a picture that is encoded.

        Args:
            features: of the picture, by :meth:`encode`.

        Returns:
            Boxes (N, 4) float32, xyxy pixels of the picture, and scores (N,) float32 in 0..1, best first.

        Raises:
            InputError: for features of another model, other weights or another dtype, or a model without such a head.
        """
        self._check_finds_boxes()
        features.check(self.key)
        return self._detect(features)

    @abstractmethod
    def _detect(self, features: Features) -> tuple[np.ndarray, np.ndarray]:
        """What :meth:`detect_features` returns, of features that are checked."""

    def _check_finds_boxes(self) -> None:
        if not self.finds_boxes:
            raise InputError(
                f"the model {self.name!r} finds no boxes itself: load one of {', '.join(models_with(OWN))}"
            )
