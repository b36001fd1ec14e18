"""mmengine's runner with checkpoints that are whole, plain, and resumed in the middle of an epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.dist import master_only
from mmengine.registry import LOOPS, RUNNERS
from mmengine.runner import EpochBasedTrainLoop, Runner

from masa_track.errors import InputError
from masa_track.files import PartFile
from masa_track.models.checkpoints import checksum
from masa_track.training.checkpoint import (
    BACKBONE,
    IDENTITY,
    check_identity,
    check_weights,
    from_plain,
    identity_of,
    latest_checkpoint,
    read_training_checkpoint,
    to_plain,
)
from masa_track.training.hooks import training_model


@LOOPS.register_module()
class ResumableLoop(EpochBasedTrainLoop):
    """Epochs that can be taken up in the middle: photographs already seen are skipped without being read."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.max_iters == 0:
            raise InputError(
                f"train_dataloader.batch_size {self.dataloader.batch_size} is more than the "
                f"{len(self.dataloader.sampler)} items of an epoch: make it smaller, or repeat the photographs"
            )

    def run_epoch(self) -> None:
        """One epoch, or what is left of it."""
        self.runner.call_hook("before_train_epoch")
        self.runner.model.train()
        done = self._iter - self._epoch * len(self.dataloader)
        if done:
            self.dataloader.sampler.skip(done * self.dataloader.batch_size)
        for index, batch in enumerate(self.dataloader, start=done):
            self.run_iter(index, batch)
        self.runner.call_hook("after_train_epoch")
        self._epoch += 1


@RUNNERS.register_module()
class TrainingRunner(Runner):
    """A runner whose checkpoints are of :mod:`checkpoint`. Used through ``from_cfg``, as mmengine's."""

    def _identity(self) -> dict[str, Any]:
        return identity_of(self.cfg, checksum(training_model(self).frozen))

    @master_only
    def save_checkpoint(self, out_dir: str, filename: str, *args: Any, **kwargs: Any) -> None:
        """As mmengine's, beside its place and then renamed: nobody ever sees half a checkpoint."""
        file = PartFile(Path(out_dir) / filename)
        try:
            super().save_checkpoint(out_dir, file.part.name, *args, **kwargs)
            file.commit()
        except BaseException:
            file.abandon()
            raise

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """As mmengine's; a checkpoint about to be written is made plain first, after all hooks have seen it."""
        super().call_hook(fn_name, **kwargs)
        if fn_name == "before_save_checkpoint":
            checkpoint = kwargs["checkpoint"]
            to_plain(checkpoint)
            checkpoint["meta"][IDENTITY] = self._identity()
            if training_model(self).backbone_is_given:  # it is at hand, never changes, and may be gigabytes
                for key in [key for key in checkpoint["state_dict"] if key.startswith(BACKBONE)]:
                    del checkpoint["state_dict"][key]

    def load_checkpoint(self, filename: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Fills the model from a checkpoint; nothing in the file is run.

        Raises:
            InputError: if it is broken, or of another model; on resuming, if it is of another configuration.
        """
        checkpoint = read_training_checkpoint(filename)
        if self._resume:
            check_identity(self._identity(), checkpoint, filename)
        from_plain(checkpoint)
        self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
        model = training_model(self)
        if not self._resume:
            checkpoint["state_dict"]["steps"] = model.steps  # a new run begins at its own beginning
        model.load_state_dict(check_weights(model.state_dict(), checkpoint["state_dict"], filename))
        self._has_loaded = True
        self.logger.info(f"loaded {filename}")
        return checkpoint

    def load_or_resume(self) -> None:
        """Resumes from the latest checkpoint, or the one named, or loads weights, as the configuration says."""
        if self._resume and self._load_from is None and not self._has_loaded:
            found = latest_checkpoint(self.work_dir)
            if found is None:
                self.logger.info(f"nothing to resume in {self.work_dir}: starting anew")
                self._has_loaded = True
            else:
                self.resume(str(found))
        super().load_or_resume()

    def scale_lr(self, optim_wrapper: Any, auto_scale_lr: dict | None = None) -> None:
        """As mmengine's, but a batch is what one update sees: accumulated iterations count."""
        if auto_scale_lr and auto_scale_lr.get("enable"):
            every = getattr(optim_wrapper, "_accumulative_counts", 1)
            auto_scale_lr = {**auto_scale_lr, "base_batch_size": auto_scale_lr["base_batch_size"] / every}
        super().scale_lr(optim_wrapper, auto_scale_lr)
