"""What a recipe sets on the networks: their number type, the size of the input, thresholds of detections."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from masa_track.encoders.base import BaseEmbedder
from masa_track.errors import InputError, unknown_name
from masa_track.registry import Preprocessing, check_installed

PRECISIONS = ("fp32", "bf16", "fp16")
_DTYPES = {"bf16": "bfloat16", "fp16": "float16"}


def chosen_dtype(precision: str, device: str | None) -> str | None:
    """The number type for :func:`masa_track.load`; None for its default, float32.

    Args:
        precision: of :data:`PRECISIONS`.
        device: see :func:`masa_track.load`.

    Raises:
        InputError: fp16 on a CPU, where it is slow and where operations lack it; or torch is not installed.
    """
    if precision not in PRECISIONS:
        raise unknown_name("precision", precision, PRECISIONS)
    if precision == "fp32":
        return None
    check_installed("torch", purpose=f"for --precision {precision}")
    from masa_track.models.devices import choose_device

    if precision == "fp16" and choose_device(device).type == "cpu":
        raise InputError(
            "--precision fp16 (--half) needs a GPU, but the device is cpu: use --precision bf16, or leave it out"
        )
    return _DTYPES[precision]


def set_network(model: BaseEmbedder, settings: Mapping[str, Any]) -> None:
    """Sets input size and thresholds of a loaded model; if they are of another model, that is logged.

    Args:
        model: that was loaded.
        settings: ``of``, the model that they are for; ``input``, fields of
            :class:`~masa_track.registry.Preprocessing`; ``roi_head`` and ``rpn_head``, attributes of these parts.
    """
    if not settings:
        return
    if not is_for(model, settings):
        logging.getLogger("masa_track").warning(
            "%s is of %s: its sizes and its thresholds of detections have no effect on %s",
            settings.get("file", "the configuration"),
            settings["of"],
            model.name,
        )
        return
    values = settings.get("input", {})
    sizes: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
    network: Any = getattr(model, "network", None)
    if network is None:  # by ONNX Runtime; it takes any size
        onnx: Any = model
        onnx.facts = replace(onnx.facts, preprocessing=replace(onnx.facts.preprocessing, **sizes))
        return
    replace(Preprocessing.of(network), **sizes).set_on(network)
    for part in ("roi_head", "rpn_head"):
        for name, value in settings.get(part, {}).items():
            if hasattr(getattr(network, part, None), name):
                setattr(getattr(network, part), name, value)


def is_for(model: BaseEmbedder, settings: Mapping[str, Any]) -> bool:
    """Whether settings are of the model."""
    return settings.get("of") == model.name
