"""A network as ONNX files, which :mod:`.onnx_embedder` runs without torch. Needs the extra ``onnx``."""

from __future__ import annotations

import hashlib
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from masa_track import __version__
from masa_track.association import AppearancePrior
from masa_track.encoders.base import BaseEmbedder
from masa_track.encoders.loading import load
from masa_track.encoders.onnx_embedder import Detection, NetworkFacts, OnnxEmbedder, part_path
from masa_track.errors import InputError, first_line
from masa_track.files import write_bytes
from masa_track.models import nano_detector
from masa_track.models.checkpoints import sha256
from masa_track.models.loading import load_network
from masa_track.registry import ONNX, ModelSpec, Preprocessing

OPSET = 17  # the first has GridSample and an aligned RoiAlign at 16; ONNX Runtime 1.13 and later read it
SAME = 0.99999  # least cosine of the embeddings of one box by torch and by ONNX Runtime
_SMALL = 64  # numbers; below that, half precision saves nothing
_TRACED_WITH = (2, 3)  # height and width of the picture that is traced, in size_divisors


class _Encode(nn.Module):
    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.network.pyramid(image))


class _Embed(nn.Module):
    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, boxes: Tensor, *levels: Tensor) -> Tensor:
        return self.network.embed(levels, [boxes])


class _Detect(nn.Module):
    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, *levels: Tensor) -> tuple[Tensor, ...]:
        return tuple(part[0] for pair in self.network.candidates(levels) for part in pair)


def write_onnx(
    name_or_path: str | Path, out: Path | None = None, model: str | None = None, half: bool = False
) -> list[Path]:
    """Writes a model's network as ONNX files, and compares what they compute with torch.

    The prior in ``FILE.prior.json`` beside the weights, or that of the model's own weights, is written into them.

    Args:
        name_or_path: a model's name, or a file of weights.
        out: the file ``NAME.onnx``, beside which the others are written; None: ``MODEL.onnx``.
        model: the model's name, where the file does not say it.
        half: round weights to float16, which halves the files.

    Returns:
        The files.

    Raises:
        InputError: as :func:`masa_track.load`, or the network cannot be written, or ONNX Runtime computes something
            else.
        OSError: a file cannot be written.
    """
    given, checkpoint = (name_or_path, None) if model is None else (model, name_or_path)
    torch_model = load(given, "cpu", checkpoint, backend="torch")
    loaded = load_network(given, checkpoint, fold=False)
    network = loaded.network.half().float() if half else loaded.network
    contents = export_onnx(network, loaded.spec, sha256(loaded.path), torch_model.prior)
    path = out or Path(f"{loaded.spec.name}{ONNX}")
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / path.name
        for part, content in contents.items():
            (part_path(trial, part) if part else trial).write_bytes(content)
        _check_equal(torch_model, OnnxEmbedder(trial, "cpu"), loaded.spec.name, 0.999 if half else SAME)
    files = [part_path(path, part) if part else path for part in contents]
    for file, content in zip(reversed(files), reversed(contents.values()), strict=True):  # NAME.onnx last
        write_bytes(file, content)
    return files


def _check_equal(model: BaseEmbedder, other: BaseEmbedder, name: str, least: float) -> None:
    """Raises InputError unless both embed alike: a picture of another shape than the traced one, random boxes."""
    random = np.random.default_rng(0)
    image = cv2.resize(random.integers(0, 255, (24, 40, 3), np.uint8), (333, 200))
    corners = random.uniform(0, 150, (20, 2))
    boxes = np.hstack([corners, corners + random.uniform(2, 180, (20, 2))])
    try:
        found = other.embed(image, boxes)
    except InputError:
        raise
    except Exception as error:  # of ONNX Runtime, whose types have no common base but Exception
        raise InputError(
            f"{name} cannot be written as ONNX: on another picture than the traced one, ONNX Runtime says "
            f"{first_line(error)}"
        ) from error
    cosine = float(cosines(model.embed(image, boxes), found).min())
    if not cosine >= least:
        raise InputError(
            f"{name} cannot be written as ONNX: ONNX Runtime's embeddings differ from torch's, cosine {cosine:.6f}; "
            "the network may depend on the sizes or the numbers that it was traced with"
        )


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(N,) float64, of the rows of two arrays (N, D)."""
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    return np.asarray((one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1))


def export_onnx(network: Any, spec: ModelSpec, source_sha256: str, prior: AppearancePrior | None) -> dict[str, bytes]:
    """The files of a network.

    Weights that float16 holds exactly are stored in it; ONNX Runtime computes in float32 all the same.

    Args:
        network: on the CPU, in float32, its batch norms not folded: ONNX Runtime folds them, and as they are, weights
            that were float16 still are.
        spec: of its model.
        source_sha256: of the file that the weights are from.
        prior: the cosines to expect, where they are known.

    Returns:
        Contents by part: ``""`` for ``NAME.onnx``, ``embed``, and ``detect`` where the network has ``candidates``.

    Raises:
        InputError: the network has operators that ONNX lacks.
    """
    network = network.eval().requires_grad_(False)
    sides = [n * network.size_divisor for n in _TRACED_WITH]
    image = torch.zeros(1, 3, *sides)
    with torch.no_grad():
        levels = tuple(network.pyramid(image))
    names = [f"level{index}" for index in range(len(levels))]
    boxes = torch.tensor([[0.0, 0.0, sides[1] / 2, sides[0]], [8.0, 8.0, 24.0, 40.0]])
    models = {
        "": trace(_Encode(network), spec, (image,), ["image"], names, {"image": (2, 3)}),
        "embed": trace(
            _Embed(network), spec, (boxes, *levels), ["boxes", *names], ["embeddings"],
            {"boxes": (0,), **dict.fromkeys(names, (2, 3))},
        ),
    }  # fmt: skip
    detection = None
    if hasattr(network, "candidates"):
        outputs = [f"{what}{i}" for i in range(len(nano_detector.STRIDES)) for what in ("boxes", "scores")]
        models["detect"] = trace(_Detect(network), spec, levels, names, outputs, dict.fromkeys(names, (2, 3)))
        detection = Detection(nano_detector.PER_LEVEL, nano_detector.MAX_DETECTIONS, nano_detector.OVERLAP)
    parts = {name: model.SerializeToString(deterministic=True) for name, model in models.items() if name}
    facts = NetworkFacts(
        spec.name,
        int(network.dimension),
        Preprocessing.of(network),
        {name: hashlib.sha256(content).hexdigest() for name, content in parts.items()},
        __version__,
        source_sha256,
        detection,
        None if prior is None else asdict(prior),
    )
    helper.set_model_props(models[""], facts.to_metadata())
    return {"": models[""].SerializeToString(deterministic=True), **parts}


def trace(
    module: nn.Module,
    spec: ModelSpec,
    arguments: tuple[Tensor, ...],
    inputs: Sequence[str],
    outputs: Sequence[str],
    dynamic: Mapping[str, Sequence[int]],
) -> Any:
    """The ``onnx.ModelProto`` of a module; ``dynamic``: for each input, the axes whose sizes may change."""
    axes = {name: {axis: f"{name}_{axis}" for axis in given} for name, given in dynamic.items()}
    try:
        with warnings.catch_warnings(), torch.no_grad(), tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "network.onnx")
            warnings.simplefilter("ignore")  # of the tracer: on what it takes for constant, and its own future
            torch.onnx.export(
                module.eval(),
                arguments,
                file,
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_axes=axes,
                opset_version=OPSET,
                training=torch.onnx.TrainingMode.PRESERVE,  # or batch norms would be folded, and rounded in float16
                dynamo=False,
            )
            model = onnx.load(file)
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
        raise InputError(f"{spec.name} cannot be written as ONNX: {first_line(error)}") from error
    _tidy(model.graph, outputs)
    model.producer_version = ""  # torch's: the same network gives the same file with another version
    onnx.checker.check_model(model)
    return model


def _tidy(graph: Any, outputs: Sequence[str]) -> None:
    """Stores weights in float16 where that is exact; leaves out unused inputs and the long names of steps."""
    used = {name for node in graph.node for name in node.input}
    kept = [given for given in graph.input if given.name in used]
    del graph.input[:]
    graph.input.extend(kept)
    casts = []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < _SMALL:
            continue
        half = values.astype(np.float16)
        if not np.array_equal(half, values):
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(half, f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=onnx.TensorProto.FLOAT))
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([*casts, *nodes])
    fixed = {*outputs, *(given.name for given in graph.input), *(tensor.name for tensor in graph.initializer)}
    short = {
        name: name if name in fixed else f"v{i}" for i, name in enumerate(n for node in nodes for n in node.output)
    }
    for node in graph.node:
        node.name = node.doc_string = ""
        node.input[:] = [short.get(name, name) for name in node.input]
        node.output[:] = [short.get(name, name) for name in node.output]
