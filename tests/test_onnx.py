"""nano by ONNX Runtime: the numbers of torch, which files are refused, and which backend is taken."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from torchvision.ops import nms

import masa_track
from masa_track.association import AppearancePrior
from masa_track.boxes import suppress
from masa_track.cli.main import main
from masa_track.encoders.base import BaseEmbedder
from masa_track.encoders.embedder import Embedder
from masa_track.encoders.export import SAME, cosines, trace, write_onnx
from masa_track.encoders.onnx_embedder import OnnxEmbedder, part_path
from masa_track.errors import InputError
from masa_track.models import build_model
from masa_track.models.deform_fusion import DeformFusion
from masa_track.models.roi import roi_features
from masa_track.onnx_session import open_session
from masa_track.registry import list_models, register_model, spec_of
from masa_track.training.export import export

pytestmark = pytest.mark.slow  # together they take seconds

SPEC = spec_of("nano")
# (width, height): usual ones, square, thin, tiny, larger than the input, multiples of 64 and one more or less.
SIZES = [
    *(
        (640, 480),
        (1280, 720),
        (1920, 1080),
        (720, 1280),
        (320, 240),
        (800, 450),
        (800, 800),
        (64, 64),
        (65, 63),
        (1, 1),
    ),
    *((1, 300), (300, 1), (37, 500), (500, 90), (416, 416), (1000, 333), (128, 1024), (333, 200), (17, 23), (900, 901)),
]
QUICK = [(320, 240)]


@pytest.fixture(scope="module")
def by_torch() -> BaseEmbedder:
    return masa_track.load("nano", "cpu", backend="torch")


@pytest.fixture(scope="module")
def by_onnx() -> BaseEmbedder:
    return masa_track.load("nano", "cpu", backend="onnx")


def picture(width: int, height: int) -> np.ndarray:
    """Blobs of several scales."""
    rng = np.random.default_rng(width * 7 + height)
    parts = [
        cv2.resize(rng.uniform(0, 255, (n, n, 3)), (width, height), interpolation=cv2.INTER_CUBIC) for n in (4, 15, 40)
    ]
    return np.clip(sum(parts) / 3, 0, 255).astype(np.uint8)


def some_boxes(width: int, height: int) -> np.ndarray:
    """Inside, across the border, far beyond it, the whole picture, and one without area."""
    rng = np.random.default_rng(0)
    corners = rng.uniform(-0.2, 1, (10, 2))
    boxes = np.hstack([corners, corners + rng.uniform(0, 0.8, (10, 2))]) * ([width, height] * 2)
    return np.vstack([boxes, [0, 0, width, height], [2, 2, 2, 2], [5000, 5000, 5010, 5010]]).astype(np.float32)


@pytest.mark.parametrize(
    "size", [*QUICK, *(pytest.param(size, marks=pytest.mark.slow) for size in SIZES if size not in QUICK)]
)
def test_the_numbers_of_torch(size: tuple[int, int], by_torch: BaseEmbedder, by_onnx: BaseEmbedder) -> None:
    frame, boxes = picture(*size), some_boxes(*size)
    theirs, ours = by_torch.embed(frame, boxes), by_onnx.embed(frame, boxes)
    assert ours.dtype == np.float32
    assert cosines(theirs, ours).min() >= SAME
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), np.linalg.norm(theirs, axis=1), rtol=1e-5)
    (boxes, scores), (our_boxes, our_scores) = by_torch.detect(frame), by_onnx.detect(frame)
    assert len(our_boxes) == len(boxes)
    np.testing.assert_allclose(our_scores, scores, atol=1e-3)
    for box, score in zip(boxes, scores, strict=True):  # the order of equal scores is free
        near = (np.abs(our_boxes - box).max(1) <= 0.1) & (np.abs(our_scores - score) <= 1e-3)
        assert near.any(), box


def test_one_backbone_pass_serves_all(by_onnx: BaseEmbedder, monkeypatch: pytest.MonkeyPatch) -> None:
    frame, boxes = picture(320, 240), some_boxes(320, 240)
    (features,) = by_onnx.encode([frame])
    expected = by_onnx.embed(frame, boxes), by_onnx.detect(frame)
    monkeypatch.setattr(by_onnx, "_encoder", None)
    np.testing.assert_array_equal(by_onnx.embed_features(features, boxes), expected[0])
    np.testing.assert_array_equal(by_onnx.detect_features(features)[0], expected[1][0])


def test_features_of_torch_are_refused(by_torch: BaseEmbedder, by_onnx: BaseEmbedder) -> None:
    (features,) = by_torch.encode([picture(64, 64)])
    with pytest.raises(InputError, match=r"features are of the model nano@\w{12}/float32, not of nano@"):
        by_onnx.embed_features(features, some_boxes(64, 64))


def test_facts(by_torch: BaseEmbedder, by_onnx: BaseEmbedder) -> None:
    assert (by_onnx.name, by_onnx.dimension, by_onnx.device) == ("nano", by_torch.dimension, "cpu")
    assert by_onnx.prior == by_torch.prior == AppearancePrior.load(SPEC.prior)
    assert by_onnx.facts.preprocessing == SPEC.preprocessing
    assert by_onnx.facts.source_sha256 == SPEC.sha256


def test_all_weights_that_are_shipped_are_small() -> None:
    folder = SPEC.weights.parent
    assert sum(file.stat().st_size for file in folder.iterdir()) < 25e6
    model = onnx.load(SPEC.onnx)
    large = [tensor for tensor in model.graph.initializer if len(tensor.raw_data) > 1000]
    assert {tensor.data_type for tensor in large} == {TensorProto.FLOAT16}


def test_the_card_lists_the_files() -> None:
    from masa_track.models.checkpoints import sha256

    card = (SPEC.weights.parent / "nano.md").read_text()
    for file in (SPEC.onnx, part_path(SPEC.onnx, "embed"), part_path(SPEC.onnx, "detect"), SPEC.weights):
        assert f"`{file.name}` | {file.stat().st_size:,} | `{sha256(file)}`" in card


@pytest.mark.slow
def test_the_shipped_files_can_be_made_again(tmp_path: Path) -> None:
    """Another torch may write other nodes; the numbers are the same."""
    files = write_onnx(SPEC.weights, tmp_path / "nano.onnx")
    assert [file.name for file in files] == ["nano.onnx", "nano.embed.onnx", "nano.detect.onnx"]
    frame, boxes = picture(320, 240), some_boxes(320, 240)
    again = masa_track.load(files[0], "cpu").embed(frame, boxes)
    np.testing.assert_allclose(again, masa_track.load("nano", "cpu").embed(frame, boxes), atol=1e-4)


# Which backend


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"device": "cpu"}, OnnxEmbedder),
        ({"device": torch.device("cpu")}, OnnxEmbedder),
        ({"device": "cpu", "dtype": "float32"}, OnnxEmbedder),
        ({"device": "cpu", "dtype": "bfloat16"}, Embedder),
        ({"device": "cpu", "backend": "torch"}, Embedder),
        ({"device": "cpu", "checkpoint": SPEC.weights}, Embedder),
        ({"device": "cpu", "checkpoint": SPEC.onnx}, OnnxEmbedder),
        ({"device": "cpu", "name_or_path": "nano-untrained"}, Embedder),
    ],
)
def test_auto(arguments: dict[str, Any], expected: type) -> None:
    assert type(masa_track.load(**arguments)) is expected


def test_auto_takes_the_gpu_that_torch_has(monkeypatch: pytest.MonkeyPatch) -> None:
    from masa_track.encoders.loading import _backend

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert _backend(SPEC.onnx, None, None) == _backend(SPEC.onnx, "cuda:1", None) == "torch"
    assert _backend(SPEC.onnx, "cpu", None) == "onnx"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert _backend(SPEC.onnx, None, None) == "onnx"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backend": "tflite"}, "unknown backend 'tflite'"),
        ({"backend": "onnx", "dtype": "float16"}, "dtype must be float32 for ONNX Runtime, got float16"),
        ({"backend": "onnx", "name_or_path": "nano-untrained"}, r"backend 'onnx' needs an .onnx file.*--to onnx"),
        ({"backend": "onnx", "checkpoint": SPEC.weights}, r"backend 'onnx' needs an .onnx file"),
        ({"backend": "torch", "name_or_path": SPEC.onnx}, "give the weights that it was made from"),
        ({"name_or_path": "nowhere.onnx"}, r"no such checkpoint: nowhere.onnx"),
        ({"name_or_path": "r50", "checkpoint": SPEC.onnx}, "does not fit the model 'r50': it is of 'nano'"),
        ({"name_or_path": part_path(SPEC.onnx, "embed")}, "no model of masa-track.*called NAME.onnx"),
        ({"backend": "onnx", "device": "openvino"}, "needs the OpenVINOExecutionProvider of onnxruntime-openvino, and"),
        ({"backend": "onnx", "device": "coreml"}, "needs the CoreMLExecutionProvider"),
        ({"backend": "onnx", "device": "gpu"}, "device 'gpu' cannot be used by ONNX Runtime: known are cpu, cuda"),
        ({"backend": "onnx", "device": "cuda:x"}, "device 'cuda:x' cannot be used by ONNX Runtime"),
        ({"backend": "onnx", "device": "cpu:1"}, "device 'cpu:1' cannot be used by ONNX Runtime"),
    ],
)
def test_what_cannot_be_is_refused(arguments: dict[str, Any], message: str) -> None:
    missing = [kind for kind in ("openvino", "coreml") if arguments.get("device") == kind]
    if missing and any(kind in name.lower() for name in onnxruntime.get_available_providers() for kind in missing):
        pytest.skip("this ONNX Runtime has the provider")
    with pytest.raises(InputError, match=message):
        masa_track.load(**arguments)


def test_a_provider_that_does_not_start_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime itself goes on by the CPU then."""
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    if torch.cuda.is_available():
        pytest.skip("the GPU may start")
    with pytest.raises(InputError, match=r"device 'cuda' cannot be used here"):
        masa_track.load("nano", "cuda", backend="onnx")
    assert masa_track.load("nano", backend="onnx").device == "cpu"  # no device was asked for


# Which files


def copies(folder: Path, name: str = "mine") -> Path:
    """The shipped files under another name."""
    for part in ("", "embed", "detect"):
        source, target = SPEC.onnx, folder / f"{name}.onnx"
        shutil.copy(part_path(source, part) if part else source, part_path(target, part) if part else target)
    return folder / f"{name}.onnx"


def other_program(folder: Path, opset: int = 17, inputs: Sequence[str] = ("image",)) -> Path:
    """An ONNX file that is whole, but not ours."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3]) for name in (*inputs, "out")]
    weight = helper.make_tensor("w", TensorProto.FLOAT, [1, 3], [1.0, 2.0, 3.0])
    graph = helper.make_graph(
        [helper.make_node("Add", [inputs[0], "w"], ["out"])], "g", values[:-1], values[-1:], [weight]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 8
    path = folder / "other.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def with_facts(path: Path, **changes: Any) -> Path:
    """The file with other facts in its metadata."""
    model = onnx.load(path)
    facts = json.loads(model.metadata_props[0].value)
    helper.set_model_props(model, {"masa_track": json.dumps(facts | changes)})
    onnx.save(model, path)
    return path


def test_files_that_are_refused(tmp_path: Path) -> None:
    def refused(path: Path, message: str) -> None:
        with pytest.raises(InputError, match=message):
            masa_track.load(path, "cpu")

    refused(other_program(tmp_path), r"other.onnx is no model of masa-track: its metadata has no 'masa_track'")
    refused(other_program(tmp_path, opset=99), r"other.onnx cannot be opened by ONNX Runtime .*opset")
    text = tmp_path / "text.onnx"
    text.write_text("hello")
    refused(text, r"text.onnx cannot be opened by ONNX Runtime")
    half = tmp_path / "half.onnx"
    half.write_bytes(SPEC.onnx.read_bytes()[:100_000])
    refused(half, r"half.onnx cannot be opened by ONNX Runtime")
    outside = tmp_path / "outside.onnx"
    onnx.save(onnx.load(SPEC.onnx), outside, save_as_external_data=True, location="outside.bin", size_threshold=100)
    refused(outside, r"keeps its weights in another file \(external data\), which is not read")
    refused(with_facts(copies(tmp_path, "new"), format="2"), "in format 2, and format 1 is read")
    refused(with_facts(copies(tmp_path, "odd"), preprocessing={"mean": 1}), "metadata 'masa_track' is damaged")
    refused(with_facts(copies(tmp_path, "short"), prior={"different": [0, 1]}), "prior")
    lone = tmp_path / "lone.onnx"
    shutil.copy(SPEC.onnx, lone)
    refused(lone, r"needs lone.embed.onnx beside it, and it is not there")
    mixed = copies(tmp_path, "mixed")
    shutil.copy(part_path(SPEC.onnx, "detect"), part_path(mixed, "embed"))
    refused(mixed, r"mixed.embed.onnx is not of the network of .*mixed.onnx")


def test_a_shipped_file_that_was_changed_is_refused(tmp_path: Path) -> None:
    with_facts(path := copies(tmp_path), version="0")
    try:
        register_model(replace(SPEC, onnx=path), replace=True)
        with pytest.raises(InputError, match=r"mine.onnx is not the file of 'nano' that is registered"):
            masa_track.load("nano", "cpu")
        path.unlink()
        with pytest.raises(InputError, match=r"the weights of 'nano' are missing: there is no .*mine.onnx"):
            masa_track.load("nano", "cpu")
    finally:
        register_model(SPEC, replace=True)
    assert spec_of("nano") is SPEC
    assert list_models()[0] is SPEC


def test_the_prior_beside_a_file_counts(tmp_path: Path) -> None:
    path = copies(tmp_path)
    prior = replace(AppearancePrior.load(SPEC.prior), different=(0.25, 0.125))
    prior.save(tmp_path / "mine.prior.json")
    assert masa_track.load(path, "cpu").prior == prior


# Conversion


@pytest.mark.slow
def test_converting_weights_of_a_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A network that was built another way, with float32 weights and a prior of its own."""
    torch.manual_seed(0)
    network = build_model("nano", fusion=False)
    for parameter in network.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 1e-3)
    source, out = tmp_path / "model.safetensors", tmp_path / "mine.onnx"
    export(network.eval(), source, "nano", backbone=True, metadata={"options": '{"fusion": false}'})
    prior = replace(AppearancePrior.load(SPEC.prior), different=(0.25, 0.125))
    prior.save(tmp_path / "model.prior.json")
    assert main(["convert", str(source), str(out), "--to", "onnx"]) == 0
    assert "mine.embed.onnx: " in capsys.readouterr().out
    assert "SHA-256" in (tmp_path / "mine.md").read_text()
    frame, boxes = picture(160, 100), some_boxes(160, 100)
    theirs, ours = masa_track.load(source, "cpu"), masa_track.load(out, "cpu")
    assert cosines(theirs.embed(frame, boxes), ours.embed(frame, boxes)).min() >= SAME
    assert ours.prior == prior
    assert ours.finds_boxes


def test_converting_what_cannot_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*arguments: object) -> str:
        assert main(["convert", *map(str, arguments), "--to", "onnx"]) == 2
        return capsys.readouterr().err

    assert "OUT must end in .onnx, got" in said(SPEC.weights, tmp_path / "mine.safetensors")
    assert "--dtype must be float32 or float16 for --to onnx" in said(SPEC.weights, "--dtype", "bfloat16")
    assert "OUT would overwrite MODEL" in said(SPEC.onnx, SPEC.onnx)
    assert "no such checkpoint" in said(tmp_path / "none.safetensors", tmp_path / "mine.onnx")
    assert "unknown model 'nanno'" in said("nanno", tmp_path / "mine.onnx")
    assert not list(tmp_path.iterdir())


# Parts


def run_traced(module: torch.nn.Module, traced: dict[str, torch.Tensor], given: dict[str, torch.Tensor]) -> list[Any]:
    """What ONNX Runtime computes for other inputs than the traced ones."""
    axes = {name: {axis: f"{name}{axis}" for axis in range(value.ndim)} for name, value in traced.items()}
    model = trace(module, spec_of("r50"), tuple(traced.values()), list(traced), ["out"], axes)
    session = open_session(model.SerializeToString(), "test", "cpu")
    return session.run(None, {name: value.numpy() for name, value in given.items()})


def test_boxes_read_the_level_of_their_size() -> None:
    """Also those whose level no traced box had, and in their order."""

    class Read(torch.nn.Module):
        def forward(self, boxes: torch.Tensor, *levels: torch.Tensor) -> torch.Tensor:
            return roi_features(levels, [boxes], (4, 8, 16, 32))

    generator = torch.Generator().manual_seed(0)

    def inputs(side: int, boxes: list[list[float]]) -> dict[str, torch.Tensor]:
        maps = {f"level{i}": torch.randn(1, 3, side >> i, side >> i, generator=generator) for i in range(4)}
        return {"boxes": torch.tensor(boxes), **maps}

    traced = inputs(32, [[0.0, 0, 20, 20], [5, 5, 30, 40]])
    given = inputs(128, [[0.0, 0, 500, 500], [5, 5, 30, 40], [10, 20, 160, 170], [0, 0, 300, 250], [9, 9, 9, 9]])
    expected = Read()(*given.values()).numpy()
    np.testing.assert_allclose(run_traced(Read(), traced, given)[0], expected, atol=1e-4)


def test_deformable_fusion_of_any_size() -> None:
    class Fuse(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fusion = DeformFusion(16, 1)

        def forward(self, fine: torch.Tensor, coarse: torch.Tensor) -> torch.Tensor:
            return torch.cat([level.flatten(2) for level in self.fusion([fine, coarse])], dim=2)

    torch.manual_seed(0)
    module = Fuse()
    for parameter in module.parameters():
        parameter.data.normal_(0, 0.2)
    traced = {"fine": torch.randn(1, 16, 8, 10), "coarse": torch.randn(1, 16, 4, 5)}
    given = {"fine": torch.randn(1, 16, 11, 14), "coarse": torch.randn(1, 16, 6, 7)}
    with torch.no_grad():
        expected = module(**given).numpy()
    np.testing.assert_allclose(run_traced(module, traced, given)[0], expected, atol=1e-3)


def test_suppression_is_torchvisions() -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 100, (300, 2))
    boxes = np.hstack([corners, corners + rng.uniform(5, 60, (300, 2))]).astype(np.float32)
    scores = rng.permutation(300).astype(np.float32) / 300
    expected = nms(torch.from_numpy(boxes), torch.from_numpy(scores), 0.6).numpy()
    np.testing.assert_array_equal(suppress(boxes, scores, 0.6, 1000), expected)
    np.testing.assert_array_equal(suppress(boxes, scores, 0.6, 7), expected[:7])
    assert suppress(boxes[:0], scores[:0], 0.6, 7).tolist() == []
