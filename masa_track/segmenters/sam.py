"""Masks by SAM, prompted by boxes.

Source: Kirillov et al., Segment Anything, ICCV 2023.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from masa_track.boxes import check_boxes
from masa_track.encoders.preprocessing import check_frame
from masa_track.segmenters.base import Segmenter
from masa_track.segmenters.sam_checkpoint import load_sam

_MOST_BOXES = 64  # a pass of the decoder: some 25 MB a box with the published 256 channels
_MOST_PIXELS = 2**26  # of the float32 masks of a pass, before they become bool: 256 MB


class SamSegmenter(Segmenter):
    """SAM's mask for each box of a frame. Nothing of a frame is kept for the next.

    Args:
        path: a checkpoint, see :func:`masa_track.segmenters.sam_checkpoint.load_sam`.
        device: e.g. ``cpu`` or ``cuda:1``; None takes a GPU if there is one.

    Raises:
        InputError: as :func:`load_sam`.
    """

    def __init__(self, path: str | Path, device: str | torch.device | None = None) -> None:
        sam = load_sam(path, device)  # says so if segment-anything is missing
        from segment_anything import SamPredictor

        self._predictor = SamPredictor(sam)

    def segment_points(self, frame: np.ndarray, points: np.ndarray) -> np.ndarray:
        """(3 P, H, W) bool masks at (P, 2) points, x and y in pixels of the frame: three of each point.

        Raises:
            InputError: for a frame of another form.
        """
        check_frame(frame)
        height, width = frame.shape[:2]
        found = [np.zeros((0, height, width), bool)]
        predictor = self._predictor
        side = predictor.transform.target_length
        step = max(1, min(_MOST_BOXES, _MOST_PIXELS // max(height * width, side * side)) // 3)
        try:
            if len(points):
                predictor.set_image(np.ascontiguousarray(frame[..., ::-1]))
            for start in range(0, len(points), step):
                own = np.asarray(points[start : start + step], np.float32)
                prompts = torch.as_tensor(predictor.transform.apply_coords(own, (height, width)), dtype=torch.float32)
                masks, _, _ = predictor.predict_torch(
                    point_coords=prompts[:, None].to(predictor.device),
                    point_labels=torch.ones((len(own), 1), dtype=torch.int, device=predictor.device),
                    multimask_output=True,
                )  # (n, 3, H, W) bool
                found.append(masks.flatten(0, 1).cpu().numpy())
        finally:
            predictor.reset_image()
        return np.concatenate(found)

    def segment(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """The masks of boxes.

        Args:
            frame: (H, W, 3) BGR uint8.
            boxes: (N, 4) xyxy pixels of the frame; what reaches beyond it is cut off.

        Returns:
            (N, H, W) bool; empty for a box wholly outside. A mask may reach beyond its box. With no box the network
            is not run.

        Raises:
            InputError: for a frame or boxes of another form, NaN, or inverted boxes.
        """
        check_frame(frame)
        boxes = check_boxes(boxes)
        height, width = frame.shape[:2]
        masks = np.zeros((len(boxes), height, width), bool)
        boxes = boxes.clip(0, np.array([width, height, width, height], np.float32))
        inside = np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(axis=1))
        if not len(inside):
            return masks
        predictor = self._predictor
        side = predictor.transform.target_length
        step = max(1, min(_MOST_BOXES, _MOST_PIXELS // max(height * width, side * side)))
        try:
            predictor.set_image(np.ascontiguousarray(frame[..., ::-1]))
            for start in range(0, len(inside), step):
                rows = inside[start : start + step]
                prompts = predictor.transform.apply_boxes(boxes[rows], (height, width))
                found, _, _ = predictor.predict_torch(
                    point_coords=None,
                    point_labels=None,
                    boxes=torch.as_tensor(prompts, dtype=torch.float32, device=predictor.device),
                    multimask_output=False,  # a box says which thing is meant; SAM's own advice
                )  # (n, 1, H, W) bool
                masks[rows] = found[:, 0].cpu().numpy()
        finally:
            predictor.reset_image()  # frees the maps before the next frame's backbone runs
        return masks
