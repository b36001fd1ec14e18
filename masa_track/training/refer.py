"""Training of MTTR on mmengine: what a step computes, the data sets by name, the exported file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_reduce, get_rank
from mmengine.hooks import Hook
from mmengine.model import BaseDataPreprocessor, BaseModel
from mmengine.registry import DATASETS, FUNCTIONS, HOOKS, MODELS
from torch import Tensor, nn

from masa_track.errors import InputError
from masa_track.refer.annotated import A2dSentences, CocoVidSentences, JhmdbSentences, ReferYoutubeVos
from masa_track.refer.data import Batch, SentenceClip, SyntheticClips, make_batch
from masa_track.refer.losses import LossSettings, count_pairs, mttr_losses
from masa_track.refer.model import Mttr
from masa_track.refer.settings import settings_from
from masa_track.refer.tokens import load_tokenizer, synthetic_encode
from masa_track.refer.weights import load_start_weights, save_weights
from masa_track.training.hooks import training_model
from masa_track.training.refer_video import SyntheticObjects


@FUNCTIONS.register_module()
def keep_items(items: list[Any]) -> list[Any]:
    """A batch as the list of its items."""
    return items


class ClipPreprocessor(BaseDataPreprocessor):
    """Makes a :class:`~masa_track.refer.data.Batch` of items.

    Args:
        tokenizer: see :class:`ReferTraining`.
        positions: of the text encoder.
    """

    def __init__(self, tokenizer: str | None, positions: int) -> None:
        super().__init__()
        self.encode = synthetic_encode if tokenizer is None else load_tokenizer(tokenizer)
        self.positions = positions

    def forward(self, data: Sequence[SentenceClip], training: bool = False) -> dict[str, Batch]:
        """``data``: items. Returns ``batch``."""
        return {"batch": make_batch(data, self.encode, self.positions, self.device)}


@MODELS.register_module()
class ReferTraining(BaseModel):
    """MTTR and its losses.

    Args:
        network: a name of :data:`~masa_track.refer.settings.PRESETS`, or a dict of fields with such a name as ``type``.
        tokenizer: file or folder of RoBERTa's tokenizer; None: the words of the synthetic data set.
        weights: an MTTR file to start from, the authors' or ours.
        video_weights: a video encoder to start from: torchvision's ``swin3d_t`` or the authors' of Kinetics-400; for
            the tiny network what ``configs/refer/synthetic_video.py`` trains.
        text_weights: the file of ``roberta-base``, as safetensors.
        frozen_text: RoBERTa does not learn.
        losses: fields of :class:`~masa_track.refer.losses.LossSettings`.
        seed: of dropout. A step's choice depends on it, on the step's number and on the process's rank alone.

    Raises:
        InputError: for unknown settings or weights that do not fit.
    """

    steps: Tensor
    backbone_is_given = False  # checkpoints hold all weights

    def __init__(
        self,
        network: str | Mapping[str, Any] = "mttr",
        tokenizer: str | None = None,
        weights: str | None = None,
        video_weights: str | None = None,
        text_weights: str | None = None,
        frozen_text: bool = True,
        losses: Mapping[str, float] | None = None,
        seed: int = 0,
    ) -> None:
        settings = settings_from(network)
        super().__init__(ClipPreprocessor(tokenizer, settings.text.positions))
        try:
            self.losses = LossSettings(**(losses or {}))
        except TypeError as error:
            raise InputError(f"losses must be fields of LossSettings, got {dict(losses or {})!r}") from error
        self.network = Mttr(settings, frozen_text)
        load_start_weights(self.network, weights, video_weights, text_weights)
        self.seed = seed
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.train()

    @property
    def frozen(self) -> nn.Module:
        """What training must not change."""
        return self.network.text if self.network.frozen_text else nn.Module()

    def forward(self, batch: Batch, mode: str = "loss") -> dict[str, Tensor]:
        """The weighted losses of a batch; training minimises their sum."""
        torch.manual_seed((self.seed << 40) + (get_rank() << 32) + int(self.steps))
        self.steps += 1
        output = self.network(batch.videos, batch.ids, batch.padding, batch.frames, batch.clips)
        pairs = torch.tensor(count_pairs(batch.targets), device=batch.videos.device)
        all_reduce(pairs, "mean")
        with torch.autocast(batch.videos.device.type, enabled=False):
            return mttr_losses(output, batch.targets, self.losses, float(pairs))


@HOOKS.register_module()
class ReferExportHook(Hook):
    """Writes ``model.safetensors`` into the work folder at the end, for ``masa-track refer --model``.

    Args:
        trained_on: name of the data set, kept in the file.
        window: frames of a clip, kept in the file.
    """

    priority = "VERY_LOW"

    def __init__(self, trained_on: str, window: int) -> None:
        self.trained_on, self.window = trained_on, window

    def after_train(self, runner: Any) -> None:
        """Writes the file, in the first process only."""
        if runner.rank == 0:
            path = Path(runner.work_dir) / "model.safetensors"
            save_weights(training_model(runner).network, path, self.trained_on, self.window)
            runner.logger.info(f"wrote {path}")


def register_clips() -> None:
    """Lets configurations name the data sets."""
    for data in (SyntheticClips, SyntheticObjects, A2dSentences, JhmdbSentences, ReferYoutubeVos, CocoVidSentences):
        DATASETS.register_module(name=data.__name__, module=data, force=True)
