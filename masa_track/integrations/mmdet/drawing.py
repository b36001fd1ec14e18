"""Pictures of the tracks, for ``tools/test_mot.py --show-dir``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
from mmdet.registry import HOOKS, VISUALIZERS
from mmdet.visualization import TrackLocalVisualizer
from mmengine.hooks import Hook

from masa_track.drawing.tracks import TrackDrawer
from masa_track.files import prepare_folder
from masa_track.integrations.mmdet.results import FrameTracks
from masa_track.video.images import read_image


@VISUALIZERS.register_module()
class MasaTrackLocalVisualizer(TrackLocalVisualizer):
    """mmdet's, by the name in the authors' configurations; `tools/test_mot.py --show-dir` draws without it."""


@HOOKS.register_module()
class DrawTracksHook(Hook):
    """Writes each tested frame with its tracks, masks included, to ``folder/VIDEO/NAME``.

    Args:
        folder: of the pictures.
        class_names: of the labels.
    """

    def __init__(self, folder: str, class_names: Sequence[str] = ()) -> None:
        self.folder = prepare_folder(folder, "--show-dir")
        self.class_names = dict(enumerate(class_names))
        self._video: Any = None
        self._drawer: TrackDrawer | None = None

    def after_test_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Draws the frames of the step."""
        for track in outputs or ():
            for index in range(len(track)):
                self._draw(track[index])

    def _draw(self, sample: Any) -> None:
        path, tracked = Path(sample.metainfo["img_path"]), sample.pred_track_instances
        image = read_image(path)
        if self._drawer is None or sample.metainfo["video_id"] != self._video:
            self._video = sample.metainfo["video_id"]
            self._drawer = TrackDrawer(image.shape[1], image.shape[0], 30.0, self.class_names)
        fields = (tracked.bboxes, tracked.scores, tracked.labels, tracked.instances_id)
        found = FrameTracks(1, None, None, *(field.cpu().numpy() for field in fields)).detections()
        if "masks" in tracked:
            found.mask = tracked.masks.cpu().numpy()
        video = path.parent.parent if path.parent.name == "img1" else path.parent
        target = self.folder / video.name / path.name
        target.parent.mkdir(exist_ok=True)
        if not cv2.imwrite(str(target), self._drawer.draw(image, found)):
            raise OSError(f"{target} could not be written")
