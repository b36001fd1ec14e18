"""Detectors that `masa-track track` can run itself, by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from masa_track.errors import InputError, missing_extra, unknown_name
from masa_track.registry import OWN, SAM3, check_installed, is_installed

if TYPE_CHECKING:
    from masa_track.contracts import Detector

_LIBRARIES = ("transformers", "ultralytics", "torchvision", "mmdet")
_FORMS = "transformers:MODEL, ultralytics:FILE, torchvision:NAME, mmdet:CONFIG:CHECKPOINT"


def open_detector(
    name: str,
    device: str | None = None,
    text: str | None = None,
    classes: Sequence[str] | None = None,
    precision: str | None = None,
) -> Detector:
    """The detector of that name.

    Args:
        name: ``nanodet``; ``motion``; ``torchvision:NAME`` or just the name of one of torchvision's COCO detectors,
            e.g. ``fasterrcnn_resnet50_fpn_v2``; ``transformers:MODEL``; ``ultralytics:FILE``;
            ``mmdet:CONFIG:CHECKPOINT``.
        device: for a network.
        text: what to look for, for a detector of transformers that takes text: ``"a red car. a dog"``.
        classes: what nanodet looks for, see :class:`~masa_track.detectors.nanodet.NanodetDetector`; None: its default.
        precision: ``bf16`` or ``fp16`` (on a GPU) for detectors by torch; None: float32. nanodet, which runs by ONNX
            Runtime, and ``motion`` have none.

    Raises:
        InputError: for an unknown name, a library that is not installed, or weights that cannot be had.
    """
    library, colon, model = name.partition(":")
    if text is not None and library != "transformers":
        raise InputError(f"--text needs a detector that takes text, e.g. transformers:MODEL, got --detector {name}")
    if colon and not model:
        raise InputError(f"--detector {name} names no model: {_FORMS}")
    if classes is not None and name != "nanodet":
        raise InputError(f"--classes needs --detector nanodet, got {name}: leave one of them out")
    if name == "nanodet":
        from masa_track.detectors.nanodet import DEFAULT_CLASSES, NanodetDetector

        return NanodetDetector(DEFAULT_CLASSES if classes is None else classes, device=device)
    if name == "motion":
        from masa_track.detectors.motion import MotionDetector

        return MotionDetector()
    if library == "transformers" and colon:
        check_installed("transformers", purpose=f"for --detector {name}")
        from masa_track.detectors.huggingface import TransformersDetector

        return TransformersDetector(model, text, device, precision=precision)
    if library == "ultralytics" and colon:
        from masa_track.detectors.yolo import YoloDetector

        return YoloDetector(model, device, precision=precision)
    if library == "mmdet" and colon:
        from masa_track.detectors.mm import MmdetDetector

        config, colon, checkpoint = model.partition(":")
        if not (config and checkpoint):
            raise InputError(f"--detector mmdet:CONFIG:CHECKPOINT needs both files, got {name!r}")
        return MmdetDetector(config, checkpoint, device, precision=precision)
    if library == "torchvision" and colon:
        check_installed("torch", purpose=f"for --detector {name}")
        name = model
    if ":" in name:
        raise unknown_name("detector's library", library, _LIBRARIES)
    known = ["nanodet", "motion", OWN, SAM3, *(f"{each}:..." for each in _LIBRARIES)]
    if not is_installed("torch"):
        lacking = missing_extra("torch", "torch", "for torchvision's detectors")
        raise InputError(f"{unknown_name('detector', name, known)}; {lacking}")
    from masa_track.detectors import coco

    if name in coco.names():
        return coco.CocoDetector(name, device, precision=precision)
    raise unknown_name("detector", name, [*known, *coco.names()])
