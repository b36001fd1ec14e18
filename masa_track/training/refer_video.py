"""Training of a small video encoder to name single objects, as Video Swin is trained to name actions of Kinetics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.hooks import Hook
from mmengine.model import BaseDataPreprocessor, BaseModel
from mmengine.registry import HOOKS, MODELS
from torch import Tensor, nn

from masa_track.errors import InputError
from masa_track.refer.data import normalised
from masa_track.refer.settings import settings_from
from masa_track.refer.synthetic import KINDS, VALUES, make_clip
from masa_track.refer.video_encoders import build_video_encoder
from masa_track.refer.weights import save_video_weights
from masa_track.training.hooks import training_model


class SyntheticObjects:
    """Clips of one object each, with the numbers of its colour, shape and motion.

    Args:
        clips: their number; their seeds are ``first_seed``, ``first_seed + 1``, ...
        first_seed: of the first clip.
    """

    def __init__(self, clips: int, first_seed: int = 0) -> None:
        if clips < 1:
            raise InputError(f"clips must be 1 or more, got {clips}")
        self.clips, self.first_seed = clips, first_seed

    def __len__(self) -> int:
        return self.clips

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """(T, 3, H, W) uint8 and (3,) int64."""
        clip = make_clip(self.first_seed + index, count=(1, 1))
        names = [VALUES[kind].index(clip.objects[0][kind]) for kind in KINDS]
        return torch.from_numpy(clip.video).permute(0, 3, 1, 2), torch.tensor(names)


class ObjectPreprocessor(BaseDataPreprocessor):
    """Makes a batch of the items of :class:`SyntheticObjects`."""

    def forward(self, data: Sequence[tuple[Tensor, Tensor]], training: bool = False) -> dict[str, Tensor]:
        """``data``: B items. Returns ``videos`` (B, 3, T, H, W) float32 and ``names`` (B, 3) int64."""
        videos = torch.stack([normalised(video.to(self.device)) for video, _ in data])
        return {"videos": videos, "names": torch.stack([names for _, names in data]).to(self.device)}


@MODELS.register_module()
class VideoTraining(BaseModel):
    """A video encoder and a linear classifier of the largest values of its coarsest map.

    Args:
        network: a name of :data:`~masa_track.refer.settings.PRESETS`, or a dict of fields; its video encoder learns.
    """

    backbone_is_given = False  # checkpoints hold all weights

    def __init__(self, network: str | Mapping[str, Any] = "tiny") -> None:
        super().__init__(ObjectPreprocessor())
        settings = settings_from(network)
        self.video = build_video_encoder(settings)
        self.classes = [len(VALUES[kind]) for kind in KINDS]
        self.classifier = nn.Linear(settings.map_channels[2], sum(self.classes))
        self.frozen = nn.Module()  # training changes everything

    def forward(self, videos: Tensor, names: Tensor, mode: str = "loss") -> dict[str, Tensor]:
        """The cross-entropy of each attribute.

        Args:
            videos: (B, 3, T, H, W), normalised.
            names: (B, 3) int64, the attributes of each clip's object in the order of ``KINDS``.
            mode: mmengine's; not used.
        """
        found = self.classify(videos)
        return {f"loss_{kind}": F.cross_entropy(found[k], names[:, k]) for k, kind in enumerate(KINDS)}

    def classify(self, videos: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, T, H, W) to the logits of each attribute, (B, number of its values)."""
        coarsest = self.video(videos)[2]  # (T, B, C, h, w)
        return self.classifier(coarsest.mean(dim=0).amax(dim=(2, 3))).split(self.classes, dim=1)


@HOOKS.register_module()
class VideoExportHook(Hook):
    """Writes ``video.safetensors`` into the work folder at the end, for ``model.video_weights`` of a training."""

    priority = "VERY_LOW"

    def after_train(self, runner: Any) -> None:
        """Writes the file, in the first process only."""
        if runner.rank == 0:
            path = Path(runner.work_dir) / "video.safetensors"
            save_video_weights(training_model(runner).video, path)
            runner.logger.info(f"wrote {path}")
