"""Scores of referring segmentation and detection, against the official numbers and plain loops."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from masa_track.cli.main import main
from masa_track.errors import InputError
from masa_track.evaluation.refer import (
    PRECISION_AT,
    ReferEvaluation,
    Sample,
    average_precisions,
    box_sample,
    evaluate_referring,
    mask_sample,
)
from masa_track.formats.davis import write_index_picture
from masa_track.masks import encode_mask, mask_box

GOLDENS = Path(os.environ.get("MASA_GOLDENS", Path(__file__).parent / "goldens"))


@pytest.fixture(scope="module")
def mttr() -> dict[str, np.ndarray]:
    with np.load(GOLDENS / "mttr" / "metrics.npz") as file:
        return dict(file)


def unpacked(packed: np.ndarray, *shape: int) -> np.ndarray:
    return np.unpackbits(packed, count=int(np.prod(shape))).reshape(shape).astype(bool)


@pytest.fixture(scope="module")
def a2d(mttr: dict[str, np.ndarray]) -> list[Sample]:
    return [
        mask_sample(unpacked(mttr[f"gt{i}"], h, w), list(unpacked(mttr[f"pred{i}"], 5, h, w)), mttr["scores"][i])
        for i, (h, w) in enumerate(mttr["sizes"])
    ]


def test_a2d_against_the_official_numbers(a2d: list[Sample], mttr: dict[str, np.ndarray]) -> None:
    """Among the images are one with equal scores, and two whose truth is empty."""
    evaluation = ReferEvaluation(a2d)
    assert [evaluation.precision(iou) for iou in PRECISION_AT] == mttr["precision_at_k"].tolist()
    assert evaluation.overall_iou == pytest.approx(float(mttr["overall_iou"]), abs=1e-12)
    assert evaluation.mean_iou == pytest.approx(float(mttr["mean_iou"]), abs=1e-9)
    np.testing.assert_allclose(list(average_precisions(a2d).values()), mttr["coco_stats"], atol=1e-12)


def test_jf_against_the_official_numbers(mttr: dict[str, np.ndarray]) -> None:
    samples = []
    for clip in range(4):
        shape = mttr[f"clip{clip}_shape"].tolist()
        truth, found = (unpacked(mttr[f"clip{clip}_{name}"], *shape) for name in ("gt", "pred"))
        for thing in range(shape[1]):
            for frame in range(shape[0]):
                name = f"{clip} {thing}"
                samples.append(mask_sample(truth[frame, thing], [found[frame, thing]], [1.0], name))
    j, f = ReferEvaluation(samples).jf()
    assert (j, f) == pytest.approx((float(mttr["J_mean"]), float(mttr["F_mean"])), abs=1e-9)
    assert ReferEvaluation(samples).as_dict()["jf"] == pytest.approx(float(mttr["JF_mean"]), abs=1e-9)


def test_refcoco_against_hipies_numbers() -> None:
    folder = GOLDENS / "hipie"
    with np.load(folder / "panoptic_metrics_inputs.npz") as file:
        pairs = [np.stack([unpacked(row, 40, 56) for row in file[name]]) for name in ("ref_gt", "ref_pred")]
    official = json.loads((folder / "panoptic_metrics_official.json").read_text())
    hulls = [np.stack([np.asarray(mask_box(mask)) for mask in masks]) for masks in pairs]
    boxes = [box_sample(t, p, [1.0]) for t, p in zip(*hulls, strict=True)]
    masks = [mask_sample(t, [p], [1.0]) for t, p in zip(*pairs, strict=True)]
    for samples, numbers in ((boxes, official["referring_bbox"]), (masks, official["referring_segm"])):
        evaluation = ReferEvaluation(samples)
        np.testing.assert_allclose(evaluation.ious, numbers["ious"], atol=1e-7)
        assert evaluation.overall_iou == pytest.approx(numbers["oIoU"], abs=1e-9)
        assert evaluation.mean_iou == pytest.approx(numbers["mIoU"], abs=1e-7)
        assert [evaluation.precision(iou) for iou in PRECISION_AT] == [numbers[f"P@{iou}"] for iou in PRECISION_AT]


@pytest.mark.slow
def test_ap_against_loops() -> None:
    """COCO's rules one by one: rank, match the first prediction that reaches the IoU, interpolate at 101 recalls."""
    rng = np.random.default_rng(3)
    samples = []
    for _ in range(30):
        truth = np.zeros((60, 60), bool)
        y, x, h, w = rng.integers(0, 20), rng.integers(0, 20), rng.integers(8, 40), rng.integers(8, 40)
        truth[y : y + h, x : x + w] = True
        masks = [np.roll(truth, tuple(rng.integers(-6, 7, 2)), axis=(0, 1)) for _ in range(4)]
        samples.append(mask_sample(truth, masks, rng.random(4).round(2)))
    means = []
    for low, high in ((0, 1e10), (0, 1024), (1024, 9216)):
        values = []
        for iou in np.linspace(0.5, 0.95, 10):
            rows = []
            objects = sum(low <= one.area <= high for one in samples)
            for one in samples:
                taken = False
                for k in sorted(range(4), key=lambda k: -one.scores[k]):
                    value = one.intersections[k] / one.unions[k]
                    area = one.intersections[k] + one.unions[k] - one.area
                    if value >= iou and not taken:
                        taken = True
                        if low <= one.area <= high:
                            rows.append((one.scores[k], True))
                    elif low <= area <= high:
                        rows.append((one.scores[k], False))
            rows.sort(key=lambda row: -row[0])
            hits = np.cumsum([hit for _, hit in rows])
            points = [(hits[i] / objects, hits[i] / (i + 1)) for i in range(len(rows))]
            values.append(
                np.mean([max((p for r, p in points if r >= recall), default=0) for recall in np.linspace(0, 1, 101)])
            )
        means.append(np.mean(values))
    found = average_precisions(samples)
    assert [found["map"], found["map_small"], found["map_medium"]] == pytest.approx(means, abs=1e-9)


def test_sample_without_prediction() -> None:
    truth = np.ones((4, 4), bool)
    evaluation = ReferEvaluation([mask_sample(truth, [], []), mask_sample(truth, [truth], [0.5])])
    assert evaluation.ious.tolist() == [0, 1]
    assert (evaluation.overall_iou, evaluation.precision(0.5)) == (0.5, 0.5)
    assert average_precisions(evaluation.samples)["map"] == pytest.approx(51 / 101)


def test_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As json and as folders, the same masks have the same scores."""
    rng = np.random.default_rng(0)
    masks = [np.kron(rng.random((2, 3, 4)) < 0.6, np.ones((1, 5, 5))).astype(bool) for _ in range(3)]
    truth: dict[str, list[dict[str, object]]] = {"images": [], "annotations": []}
    results = []
    for i, (true, found) in enumerate(masks):
        truth["images"].append({"id": i, "height": 15, "width": 20})
        truth["annotations"].append({"image_id": i, "segmentation": encode_mask(true)})
        results.append({"image_id": i, "segmentation": encode_mask(found), "score": 1.0})
        for folder, mask in (("gt", true), ("found", found)):
            file = tmp_path / folder / "video" / str(i) / "00000.png"
            file.parent.mkdir(parents=True)
            write_index_picture(file, mask.astype(np.uint8))
    (tmp_path / "gt.json").write_text(json.dumps(truth, default=lambda value: value.decode()))
    (tmp_path / "found.json").write_text(json.dumps(results, default=lambda value: value.decode()))
    ours = evaluate_referring(tmp_path / "gt.json", tmp_path / "found.json").as_dict()
    assert ours == evaluate_referring(tmp_path / "gt", tmp_path / "found").as_dict()
    assert ours["mean_iou"] == pytest.approx(np.mean([(a & b).sum() / (a | b).sum() for a, b in masks]), abs=1e-6)
    out = tmp_path / "scores.json"
    assert main(["eval", str(tmp_path / "gt"), str(tmp_path / "found"), "--metrics", "refer", "--json", str(out)]) == 0
    assert json.loads(out.read_text()) == ours
    assert f"mean_iou       {100 * ours['mean_iou']:.1f}" in capsys.readouterr().out


def test_boxes_in_json(tmp_path: Path) -> None:
    (tmp_path / "gt.json").write_text(
        json.dumps({"images": [{"id": 1, "height": 10, "width": 10}],
                    "annotations": [{"image_id": 1, "bbox": [0, 0, 4, 4]}]})
    )  # fmt: skip
    (tmp_path / "found.json").write_text(json.dumps([{"image_id": 1, "bbox": [0, 0, 4, 3], "score": 0.9}]))
    scores = evaluate_referring(tmp_path / "gt.json", tmp_path / "found.json").as_dict()
    assert (scores["mean_iou"], scores["jf"]) == (pytest.approx(0.75), None)


IMAGE, OBJECT = {"id": 1, "height": 2, "width": 2}, {"image_id": 1, "bbox": [0, 0, 1, 1]}


@pytest.mark.parametrize(
    ("truth", "found", "said"),
    [
        ({"images": [], "annotations": []}, [], "has no annotation"),
        ({"images": [IMAGE], "annotations": [OBJECT, OBJECT]}, [], "image 1 has two objects"),
        ({"images": [IMAGE], "annotations": [OBJECT]}, [{"image_id": 2, "bbox": [0, 0, 1, 1]}], "image 2 is not in GT"),
        ([], [], "must be COCO json"),
    ],
)
def test_bad_files(tmp_path: Path, truth: object, found: object, said: str) -> None:
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    (tmp_path / "found.json").write_text(json.dumps(found))
    with pytest.raises(InputError, match=said):
        evaluate_referring(tmp_path / "gt.json", tmp_path / "found.json")


def test_options_that_do_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(tmp_path), str(tmp_path), "--metrics", "refer,jf"]) == 2
    assert "--metrics refer is for masks and stands alone" in capsys.readouterr().err
    assert main(["eval", str(tmp_path), str(tmp_path), "--metrics", "refer"]) == 2
    assert "holds no VIDEO/EXPRESSION/FRAME.png" in capsys.readouterr().err
    assert main(["eval", str(tmp_path), str(tmp_path / "gt.json"), "--metrics", "refer"]) == 2
    assert "needs two json files or two folders" in capsys.readouterr().err
