"""The authors' two trackers by their official keys; all work is in :func:`~masa_track.association.open_associator`."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import torch
from mmdet.registry import MODELS
from mmengine.structures import InstanceData

from masa_track.association import (
    PRESETS,
    REFERENCE_PRESETS,
    AppearancePrior,
    FusedOptions,
    open_associator,
)
from masa_track.association.authors_keys import AUTHORS_TRACKERS, authors_options
from masa_track.contracts import Observation
from masa_track.errors import InputError, unknown_name
from masa_track.video.camera_motion import CameraMotion
from masa_track.video.scene_change import Thumbnail, scene_change, thumbnail


class MasaBaseTracker:
    """What both share.

    Args:
        preset: a whole set of options instead of the official keys' defaults, e.g. ``default``.
        prior: the cosines to expect of the model's embeddings, for the preset ``default``: a file by
            ``tools/fit_appearance.py``. None takes that of the model, if it is known.
        camera_motion: estimate how the camera moves from each frame to the next, for the preset ``default``.
        **options: official keys, or options of :class:`~masa_track.association.AssociationOptions`.

    Attributes:
        kind: its name in :data:`~masa_track.association.authors_keys.AUTHORS_TRACKERS`.

    Raises:
        InputError: for an unknown key (the nearest is named), or a value that cannot be.
    """

    kind = "MasaTaoTracker"

    def __init__(
        self,
        preset: str | None = None,
        prior: AppearancePrior | str | None = None,
        camera_motion: bool = False,
        **options: Any,
    ) -> None:
        self.preset, chosen, unknown = authors_options(self.kind, options, preset)
        if prior is not None and not isinstance(PRESETS[self.preset], FusedOptions):
            raise InputError(f"prior needs a preset that calibrates cosines, got {self.preset!r}: take 'default'")
        self.prior = AppearancePrior.load(prior) if isinstance(prior, str) else prior
        self._model_prior: AppearancePrior | None = None
        for key in unknown:
            known = [field.name for field in fields(PRESETS[self.preset])]
            raise unknown_name(f"key of {self.kind}", key, [*AUTHORS_TRACKERS[self.kind].keys, *known])
        self.options, self.camera_motion = chosen, camera_motion
        self.reset()
        if camera_motion and "motion" not in self.associator.needs:
            raise InputError(f"camera_motion needs a preset that uses motion, got {self.preset!r}: take 'default'")

    def reset(self, fps: float | None = None) -> None:
        """Forgets everything, for the first frame of another video.

        Args:
            fps: frames a second of the video, for presets that count time, where the options do not say.
        """
        options = dict(self.options)
        if fps is not None and self.preset not in REFERENCE_PRESETS:
            options.setdefault("fps", float(fps))
        self.associator = open_associator(self.preset, self.prior or self._model_prior, **options)
        self._next_frame = 0
        self._camera = CameraMotion() if self.camera_motion else None
        self._thumbnail: Thumbnail | None = None

    @property
    def uses_picture(self) -> bool:
        """Whether :meth:`track` looks at the picture: for the camera's motion, or to notice a cut of the video."""
        return self.camera_motion or self._notices_cuts

    @property
    def _notices_cuts(self) -> bool:
        return self.associator.needs == {"motion", "embeddings"}

    def set_model_prior(self, prior: AppearancePrior | None) -> None:
        """Sets the prior of the model whose embeddings are tracked, and forgets everything.

        Args:
            prior: None where it is not known. One that the configuration names is preferred.
        """
        self._model_prior = prior
        self.reset()

    def track(
        self,
        embeddings: torch.Tensor,
        found: InstanceData,
        frame_id: int | None = None,
        size: tuple[int, int] | None = None,
        picture: np.ndarray | None = None,
        timestamp: float | None = None,
    ) -> InstanceData:
        """Tracks one frame.

        Args:
            embeddings: (N, D), not normalised, one for each of ``found``.
            found: ``bboxes`` (N, 4) xyxy pixels of the frame, ``labels`` (N,), ``scores`` (N,).
            frame_id: the frame's number, growing; None counts calls.
            size: width and height of the picture.
            picture: (H, W, 3) uint8 BGR, where :attr:`uses_picture`; with ``camera_motion`` it must be given.
            timestamp: seconds, later than that of the frame before; None counts frames of 1 / ``fps`` seconds.

        Returns:
            The rows that have an identity, in the order given, with ``instances_id``.

        Raises:
            InputError: ``camera_motion`` is on and there is no picture.
        """
        frame = self._next_frame if frame_id is None or frame_id < 0 else int(frame_id)
        self._next_frame = frame + 1
        boxes, scores, labels, embedded = (
            x.detach().cpu().numpy() for x in (found.bboxes, found.scores, found.labels, embeddings)
        )
        seconds = frame / self.associator.options.fps if timestamp is None else float(timestamp)
        seen = Observation(frame, seconds, size, boxes, scores, labels, embedded)
        if self._camera is not None:
            if picture is None:
                raise InputError("picture must be given where camera_motion=True, got None")
            seen.camera = self._camera.estimate(picture, boxes)
        if self._notices_cuts and picture is not None:
            before, self._thumbnail = self._thumbnail, thumbnail(picture, boxes)
            if before is not None:
                seen.scene_change = scene_change(before, self._thumbnail)
        identities, _, _ = self.associator.update(seen)
        ids = torch.from_numpy(identities).to(found.bboxes.device)
        kept = ids >= 0
        tracked = found[kept]
        tracked.instances_id = ids[kept]
        return tracked


@MODELS.register_module()
class MasaTaoTracker(MasaBaseTracker):
    """The authors' tracker for TAO and for any other video. ``with_cats`` has no effect: nor had it there."""


@MODELS.register_module()
class MasaBDDTracker(MasaBaseTracker):
    """The authors' tracker for BDD100K."""

    kind = "MasaBDDTracker"
