"""Opens networks with ONNX Runtime, on the device asked for. Imports no torch."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from masa_track.errors import InputError, first_line

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

# Devices, their execution providers, and the package that brings each where onnxruntime itself does not.
PROVIDERS = {
    "cpu": ("CPUExecutionProvider", "onnxruntime"),
    "cuda": ("CUDAExecutionProvider", "onnxruntime-gpu"),
    "openvino": ("OpenVINOExecutionProvider", "onnxruntime-openvino"),
    "coreml": ("CoreMLExecutionProvider", "onnxruntime on macOS"),
}
# How an entry "location: FILE" is written in an ONNX file; only weights that are kept in another file have one.
_EXTERNAL = b"\x0a\x08location\x12"


def choose_provider(device: str | None) -> tuple[str, dict[str, str]]:
    """The execution provider of a device, and its options.

    Args:
        device: ``cpu``, ``cuda``, ``cuda:1``, ``openvino``, ``openvino:GPU`` or ``coreml``; None takes an NVIDIA GPU if
            the installed ONNX Runtime has its provider.

    Raises:
        InputError: for another device, or one whose provider the installed ONNX Runtime lacks.
    """
    import onnxruntime

    available = onnxruntime.get_available_providers()
    if device is None:
        device = "cuda" if PROVIDERS["cuda"][0] in available else "cpu"
    kind, colon, which = device.partition(":")
    if (
        kind not in PROVIDERS
        or (kind in ("cpu", "coreml") and colon)
        or (kind == "cuda" and colon and not which.isdigit())
    ):
        raise InputError(
            f"device {device!r} cannot be used by ONNX Runtime: known are cpu, cuda, cuda:1, openvino, openvino:GPU "
            "and coreml"
        )
    provider, package = PROVIDERS[kind]
    if provider not in available:
        raise InputError(
            f"device {device!r} cannot be used here: it needs the {provider} of {package}, and the installed ONNX "
            f"Runtime {onnxruntime.__version__} has {', '.join(available)}; cpu always can"
        )
    if not which:
        return provider, {}
    return provider, {"device_id" if kind == "cuda" else "device_type": which}


def open_session(content: bytes, name: str, device: str | None = None, threads: int | None = None) -> InferenceSession:
    """A network, ready to run.

    It uses all cores, or as many threads as the environment variable ``OMP_NUM_THREADS`` says.

    Args:
        content: of an ONNX file.
        name: of the file, for errors.
        device: see :func:`choose_provider`; None goes on with the CPU where no GPU can be started.
        threads: how many to use; None: as above.

    Raises:
        InputError: the file is damaged, keeps its weights in another file, or needs operators that the installed ONNX
            Runtime lacks; or for a device that cannot be used.
    """
    import onnxruntime

    provider, settings = choose_provider(device)
    if _EXTERNAL in content:
        raise InputError(
            f"{name} keeps its weights in another file (external data), which is not read: save it as one file, e.g. "
            "onnx.save(onnx.load(FILE), FILE)"
        )
    options = onnxruntime.SessionOptions()
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    options.intra_op_num_threads = threads or (int(wanted) if wanted.isdigit() else 0)
    options.log_severity_level = 4  # errors are raised as well
    providers: list[Any] = [(provider, settings)]
    if provider != "CPUExecutionProvider":
        providers.append("CPUExecutionProvider")  # for operators that the device lacks
    try:
        session = onnxruntime.InferenceSession(content, options, providers=providers)
    except Exception as error:  # its own types, which have no common base but Exception
        raise InputError(
            f"{name} cannot be opened by ONNX Runtime {onnxruntime.__version__} ({first_line(error)}): if the file is "
            "whole, it needs a newer ONNX Runtime, or must be written with an older opset"
        ) from error
    # It falls back to the CPU with no more than a log line.
    if device is not None and session.get_providers()[0] != provider:
        raise InputError(
            f"device {device!r} cannot be used here: the {provider} could not be started (are its drivers "
            "and libraries installed?); cpu always can"
        )
    return session
