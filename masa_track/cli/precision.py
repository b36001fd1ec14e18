"""`--precision` and `--half`: what networks compute in."""

from __future__ import annotations

import argparse

from masa_track.errors import InputError
from masa_track.registry import check_installed

PRECISIONS = ("fp32", "bf16", "fp16")
_DTYPES = {"bf16": "bfloat16", "fp16": "float16"}


def chosen_dtype(args: argparse.Namespace) -> str | None:
    """The number type for :func:`masa_track.load`; None for its default, float32.

    Args:
        args: with ``precision`` of :data:`PRECISIONS` and ``device``.

    Raises:
        InputError: fp16 on a CPU, where it is slow and where operations lack it; or torch is not installed.
    """
    if args.precision == "fp32":
        return None
    check_installed("torch", purpose=f"for --precision {args.precision}")
    from masa_track.models.devices import choose_device

    device = choose_device(args.device)
    if args.precision == "fp16" and device.type == "cpu":
        raise InputError(
            "--precision fp16 (--half) needs a GPU, but the device is cpu: use --precision bf16, or leave it out"
        )
    return _DTYPES[args.precision]
