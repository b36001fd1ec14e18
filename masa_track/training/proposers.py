"""What finds the class-agnostic regions of one photograph: SAM's automatic masks, or superpixels without weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from masa_track.errors import InputError
from masa_track.masks import encode_mask

Region = dict[str, Any]  # segmentation (RLE), bbox (xywh), area and the scores of a region
Proposer = Callable[[np.ndarray], list[Region]]  # of a (H, W, 3) BGR uint8 picture

_MOST_POINTS = 64  # segment-anything's own, in a pass of the decoder
_MOST_NUMBERS = 2**28  # in the three float32 masks of the points of a pass: 1 GB


@dataclass(frozen=True)
class ProposalSettings:
    """How regions are found.

    Attributes:
        sam: a checkpoint of SAM; None takes superpixels.
        points_per_side: SAM is asked what is at each point of a grid of so many a side.
        least_iou: SAM's own estimate of a mask's quality, from which it is taken.
        least_stability: the same for how little a mask changes with its threshold.
        max_regions: the best so many an image; None takes all of SAM's, and 100 of superpixels'.
        device: where SAM runs; None takes a GPU if there is one.

    Raises:
        InputError: a value that cannot be.
    """

    sam: Path | None = None
    points_per_side: int = 32
    least_iou: float = 0.88
    least_stability: float = 0.95
    max_regions: int | None = None
    device: str | None = None

    def __post_init__(self) -> None:
        for name, value in (("points-per-side", self.points_per_side), ("max-regions", self.max_regions)):
            if value is not None and value < 1:
                raise InputError(f"--{name} must be 1 or more, got {value}")
        for name, share in (("least-iou", self.least_iou), ("least-stability", self.least_stability)):
            if not 0 <= share <= 1:
                raise InputError(f"--{name} must be between 0 and 1, got {share}")

    def recorded(self) -> dict[str, Any]:
        """What the regions depend on, to be told from those of other settings. Reads the whole checkpoint."""
        if self.sam is None:
            return {"method": "superpixels", "max_regions": self.max_regions}
        from masa_track.models.checkpoints import sha256

        return {
            "method": "sam",
            "checkpoint_sha256": sha256(self.sam),
            "points_per_side": self.points_per_side,
            "least_iou": self.least_iou,
            "least_stability": self.least_stability,
            "max_regions": self.max_regions,
        }


def open_proposer(settings: ProposalSettings) -> Proposer:
    """What finds regions by these settings.

    Raises:
        InputError: as :func:`masa_track.segmenters.sam_checkpoint.load_sam`, or without pycocotools.
    """
    return _superpixel_proposer(settings) if settings.sam is None else _sam_proposer(settings)


def _superpixel_proposer(settings: ProposalSettings) -> Proposer:
    from masa_track.training.grouping import MAX_REGIONS, propose_regions

    encode_mask(np.zeros((1, 1), bool))  # pycocotools is missed here, not after the first picture

    def propose(image: np.ndarray) -> list[Region]:
        found = propose_regions(image, settings.max_regions or MAX_REGIONS)
        return [_region(encode_mask(region.mask), score=region.score) for region in found]

    return propose


def _sam_proposer(settings: ProposalSettings) -> Proposer:
    from masa_track.segmenters.sam_checkpoint import load_sam

    assert settings.sam is not None
    sam = load_sam(settings.sam, settings.device)
    from segment_anything import SamAutomaticMaskGenerator

    generator = SamAutomaticMaskGenerator(
        sam,
        points_per_side=settings.points_per_side,
        pred_iou_thresh=settings.least_iou,
        stability_score_thresh=settings.least_stability,
        output_mode="coco_rle",
    )

    def propose(image: np.ndarray) -> list[Region]:
        pixels = max(image.shape[0] * image.shape[1], sam.image_encoder.img_size**2)
        # Masks are made at the picture's size: 64 points on 12 megapixels would take 9 GB.
        generator.points_per_batch = max(1, min(_MOST_POINTS, _MOST_NUMBERS // (3 * pixels)))
        found = generator.generate(np.ascontiguousarray(image[..., ::-1]))
        found.sort(key=lambda mask: -mask["predicted_iou"])  # stable
        regions = [
            _region(
                mask["segmentation"],
                predicted_iou=round(mask["predicted_iou"], 4),
                stability_score=round(mask["stability_score"], 4),
            )
            for mask in found
            if mask["area"]
        ]
        return regions[: settings.max_regions]

    return propose


def _region(segmentation: dict[str, Any], **scores: float) -> Region:
    """``bbox`` is COCO's: it holds the mask's last column and row, which segment-anything's own leaves out."""
    from pycocotools import mask as coco

    box, area = coco.toBbox(segmentation).tolist(), int(coco.area(segmentation))
    return {"segmentation": segmentation, "bbox": box, "area": area, **scores}
