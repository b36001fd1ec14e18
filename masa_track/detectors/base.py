"""What the detectors have in common, so that each only says what it finds in one picture."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from masa_track.encoders.preprocessing import check_images
from masa_track.errors import InputError

if TYPE_CHECKING:
    import supervision as sv

    from masa_track.contracts import Features
    from masa_track.encoders.base import BaseEmbedder


class PictureDetector(ABC):
    """A :class:`masa_track.contracts.Detector` that works on pictures alone. Without state."""

    class_names: Mapping[int, str]
    track_activation_threshold: float
    stateful = False
    warm_up = 0

    @property
    def features_key(self) -> str | None:
        """None: it takes no features."""
        return None

    def detect(self, images: Sequence[np.ndarray], features: Sequence[Features] | None = None) -> list[sv.Detections]:
        """The boxes of pictures.

        Args:
            images: F pictures (H, W, 3) BGR uint8.
            features: left aside.

        Returns:
            F times N detections, xyxy pixels of the picture; with masks if the detector gives them.

        Raises:
            InputError: for a picture of another form.
        """
        check_images(images)
        alike = len({image.shape for image in images}) == 1
        return self._find_all(images) if alike and len(images) > 1 else [self._find(image) for image in images]

    def _find_all(self, images: Sequence[np.ndarray]) -> list[sv.Detections]:
        """The detections of checked pictures of one size; in one pass of the network where a detector can do that."""
        return [self._find(image) for image in images]

    @abstractmethod
    def _find(self, image: np.ndarray) -> sv.Detections:
        """The detections of one checked picture (H, W, 3) BGR uint8."""

    def reset(self) -> None:  # noqa: B027
        """Nothing is kept of a frame."""


class FeatureDetector(ABC):
    """A :class:`masa_track.contracts.Detector` that works on the features of an embedder. Without state.

    Args:
        embedder: encodes the pictures whose features are not given.
    """

    class_names: Mapping[int, str]
    track_activation_threshold: float
    stateful = False
    warm_up = 0

    def __init__(self, embedder: BaseEmbedder) -> None:
        self.embedder = embedder

    @property
    def features_key(self) -> str | None:
        """That of the embedder."""
        return self.embedder.key

    def detect(self, images: Sequence[np.ndarray], features: Sequence[Features] | None = None) -> list[sv.Detections]:
        """The boxes of pictures.

        Args:
            images: F pictures (H, W, 3) BGR uint8.
            features: of the same pictures, by the embedder or another one of the same :attr:`features_key`; None: the
                pictures are encoded.

        Returns:
            F times N detections, xyxy pixels of the picture, best first.

        Raises:
            InputError: for a picture of another form; for features of another model, or not those of the pictures.
        """
        check_images(images)
        if features is None:
            features = self.embedder.encode(images)
        if len(features) != len(images):
            raise InputError(f"features must be one a picture, got {len(features)} for {len(images)} pictures")
        for image, own in zip(images, features, strict=True):
            own.check(self.embedder.key, image)
        return [self._find(own) for own in features]

    @abstractmethod
    def _find(self, features: Features) -> sv.Detections:
        """The detections of one picture, by its checked features."""

    def reset(self) -> None:  # noqa: B027
        """Nothing is kept of a frame."""
