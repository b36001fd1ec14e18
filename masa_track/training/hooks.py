"""What happens around the steps: the proof of the frozen backbone, a clean stop, the exported file."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from types import FrameType
from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS

from masa_track.models.checkpoints import checksum
from masa_track.training.export import export


def training_model(runner: Any) -> Any:
    """The :class:`~masa_track.training.model.TrainingModel` of a runner, out of its wrapper."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


@HOOKS.register_module()
class FrozenBackboneHook(Hook):
    """Fails at the end of a training that has changed the backbone."""

    def before_train(self, runner: Any) -> None:
        """Remembers the backbone's checksum."""
        self.before = checksum(training_model(runner).frozen)

    def after_train(self, runner: Any) -> None:
        """Compares it.

        Raises:
            RuntimeError: if it is another now; the fault is ours or the network's.
        """
        after = checksum(training_model(runner).frozen)
        if after != self.before:
            raise RuntimeError(f"the frozen backbone was changed by training: {self.before[:12]} became {after[:12]}")
        runner.logger.info(f"backbone unchanged, sha256 {after[:12]}")


@HOOKS.register_module()
class ExportHook(Hook):
    """Writes ``adapter.safetensors``, or with the backbone ``model.safetensors``, into the work folder at the end.

    Args:
        backbone: with the backbone, for :func:`masa_track.load`.
        half: in half precision.
    """

    priority = "VERY_LOW"

    def __init__(self, backbone: bool = False, half: bool = False) -> None:
        self.backbone, self.half = backbone, half

    def after_train(self, runner: Any) -> None:
        """Writes the file, in the first process only."""
        if runner.rank != 0:
            return
        network = runner.cfg.model.network
        options = {} if isinstance(network, str) else {key: value for key, value in network.items() if key != "type"}
        name = network if isinstance(network, str) else str(network.get("type"))
        said = {"iterations": str(runner.iter), **({"options": json.dumps(options)} if options else {})}
        path = Path(runner.work_dir) / ("model.safetensors" if self.backbone else "adapter.safetensors")
        export(training_model(runner).network, path, name, self.backbone, self.half, said)
        runner.logger.info(f"wrote {path}")


@HOOKS.register_module()
class StopHook(Hook):
    """Ctrl-C finishes the step (with accumulation: the update), writes a checkpoint and stops; twice stops at once.

    With several processes Ctrl-C stops at once, as they would wait for each other; checkpoints are whole all the same.

    Args:
        every: iterations an update.
    """

    priority = "LOWEST"

    def __init__(self, every: int = 1) -> None:
        self.every, self.asked = every, False
        self.earlier: Any = None

    def before_train(self, runner: Any) -> None:
        """Takes over Ctrl-C."""
        if runner.world_size == 1:
            self.earlier = signal.signal(signal.SIGINT, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Stops if it was asked to.

        Raises:
            KeyboardInterrupt: after the checkpoint is written.
        """
        if self.asked and (runner.iter + 1) % self.every == 0:
            name = f"iter_{runner.iter + 1}.pth"
            runner.save_checkpoint(runner.work_dir, name, by_epoch=False)
            runner.logger.info(f"stopped by Ctrl-C; {name} is written, go on with --resume")
            raise KeyboardInterrupt

    def after_train(self, runner: Any) -> None:
        """Gives Ctrl-C back."""
        if self.earlier is not None:
            signal.signal(signal.SIGINT, self.earlier)
