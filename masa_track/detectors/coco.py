"""torchvision's detectors for the 80 COCO classes, by torchvision's names, with torchvision's weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import supervision as sv
import torch

from masa_track.detectors.base import PictureDetector
from masa_track.errors import InputError, first_line
from masa_track.formats.results import to_detections
from masa_track.models.devices import choose_device, mixed_precision

_LOWEST_SCORE = 0.05


def names() -> list[str]:
    """The detectors that the installed torchvision has COCO weights for (persons' keypoints aside)."""
    from torchvision import models

    found = models.list_models(module=models.detection)
    return [name for name in found if not name.startswith("keypoint")]


class CocoDetector(PictureDetector):
    """One of torchvision's detectors.

    Args:
        name: as :func:`names` lists it.
        device: where it runs; None takes a GPU if there is one.
        pretrained: False builds it with random weights (for tests of the plumbing) instead of fetching COCO's.
        precision: see :func:`~masa_track.detectors.open_detector`.

    Raises:
        InputError: if the weights cannot be fetched.
    """

    track_activation_threshold = 0.5

    def __init__(
        self, name: str, device: str | None = None, pretrained: bool = True, precision: str | None = None
    ) -> None:
        from torchvision import models

        weights = models.get_model_weights(name).DEFAULT
        try:
            if pretrained:
                network = models.get_model(name, weights=weights)
            else:
                network = models.get_model(name, weights=None, weights_backbone=None, num_classes=91)
        except Exception as error:  # no network, or a damaged file in the cache
            raise InputError(
                f"the weights of detector {name!r} could not be fetched or read ({first_line(error)}): download "
                f"{weights.url} on another machine and put it into {torch.hub.get_dir()}/checkpoints, or use "
                "--detector motion"
            ) from error
        self.class_names = {
            index: label
            for index, label in enumerate(weights.meta["categories"])
            if label not in ("N/A", "__background__")
        }
        self._device, self._precision = choose_device(device), precision
        mixed_precision(self._device, precision)  # a mistake is named before the first frame
        self._network = network.eval().to(self._device)

    def _find(self, image: np.ndarray) -> sv.Detections:
        return self._find_all([image])[0]

    @torch.inference_mode()
    def _find_all(self, images: Sequence[np.ndarray]) -> list[sv.Detections]:
        pixels = [torch.from_numpy(np.ascontiguousarray(image[..., ::-1])).permute(2, 0, 1) for image in images]  # RGB
        with mixed_precision(self._device, self._precision):
            results = self._network([one.to(self._device).float().div_(255) for one in pixels])  # (3, H, W) each
        found = []
        for output in results:
            result = {key: value.float() if value.is_floating_point() else value for key, value in output.items()}
            kept = result["scores"] > _LOWEST_SCORE
            found.append(
                to_detections(
                    {key: result[key][kept] for key in ("boxes", "labels", "scores", "masks") if key in result}
                )
            )
        return found
