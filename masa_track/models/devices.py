"""The device and the number type that a network runs with."""

from __future__ import annotations

import torch

from masa_track.errors import InputError, first_line, unknown_name


def choose_dtype(dtype: str | torch.dtype | None) -> torch.dtype:
    """The type asked for, by itself or by its name; float32 when None.

    Raises:
        InputError: for anything but float32, float16 and bfloat16.
    """
    known = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
    if dtype is None:
        return torch.float32
    if isinstance(dtype, str):
        if dtype not in known:
            raise unknown_name("dtype", dtype, known)
        return known[dtype]
    if dtype not in known.values():
        raise InputError(f"dtype must be float32, float16 or bfloat16, got {dtype}")
    return dtype


def choose_device(device: str | torch.device | None) -> torch.device:
    """The device asked for, or the best there is.

    Raises:
        InputError: for a device that torch does not know or this machine does not have.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen).item()  # "meta" makes tensors, but holds no numbers
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(f"device {str(device)!r} cannot be used here ({first_line(error)}): cpu always can") from error
    return chosen


def mixed_precision(device: torch.device, precision: str | None) -> torch.autocast:
    """A context in which a network of float32 weights computes in ``bf16`` or ``fp16`` where that is safe; None: no.

    Raises:
        InputError: for another name, or fp16 on a CPU.
    """
    known = {"bf16": torch.bfloat16, "fp16": torch.float16}
    if precision is None:
        return torch.autocast(device.type, torch.bfloat16, enabled=False)
    if precision not in known:
        raise unknown_name("precision", precision, known)
    if precision == "fp16" and device.type == "cpu":
        raise InputError("precision fp16 needs a GPU, got cpu: use bf16, or leave it out")
    return torch.autocast(device.type, known[precision])
