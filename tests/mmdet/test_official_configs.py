"""The authors' 25 test configurations, by their paths: what is in them, that they are built, and that they run."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from grounding import smaller_grounding, tiny_bert
from mmdet.registry import METRICS, MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mot_clips import ROOT, run_tool

from masa_track.association import options_of
from masa_track.errors import InputError
from masa_track.evaluation.bdd import score_bdd, summary
from masa_track.formats.npz import write_npz
from masa_track.integrations.mmdet import testing
from masa_track.integrations.mmdet.metrics import SCALABEL_FILE
from masa_track.integrations.mmdet.results import FrameTracks, majority_classes
from masa_track.masks import compressed, encode_mask

MASA = ROOT / "configs" / "masa"
HEIGHT, WIDTH = 96, 128


@dataclass(frozen=True)
class Task:
    """What the authors' files of one benchmark share; facts as of their repository at e302032."""

    boxes: str
    data: str
    truth: str
    preset: str
    scores: dict[str, Any]


TAO_BOXES = "results/public_dets/tao_val_dets/teta_50_internms/"
BDD = "data/bdd/annotations/"
METRIC = {"metric": ["TETA", "HOTA", "CLEAR"]}
TASKS = {
    "detic_dets": Task(
        TAO_BOXES + "detic_tao_val_det/",
        "Taov1Dataset",
        "data/tao/annotations/tao_val_lvis_v1_classes.json",
        "tao",
        {"metric": ["TETA"]},
    ),
    "teter_swinT_dets": Task(
        TAO_BOXES + "teter_swinT_tao_val_internms_50/",
        "Taov05Dataset",
        "data/tao/annotations/tao_val_lvis_v05_classes.json",
        "tao",
        {"metric": ["TETA"]},
    ),
    "open_vocabulary_test": Task(
        TAO_BOXES + "detic_tao_val_det/",
        "Taov1Dataset",
        "data/tao/annotations/tao_val_lvis_v1_classes.json",
        "tao",
        {"metric": ["TETA"], "open_vocabulary": True},
    ),
    "bdd_mot_test": Task(
        "results/public_dets/bdd_mot_yolox_dets/",
        "BDDVideoDataset",
        BDD + "box_track_20/box_track_val_cocofmt.json",
        "bdd",
        {**METRIC, "scalabel_gt": BDD + "scalabel_gt/box_track_20/val/"},
    ),
    "bdd_mots_test": Task(
        "results/public_dets/bdd_mots_val_uninext_dets/",
        "BDDVideoDataset",
        BDD + "seg_track_val_cocofmt.json",
        "bdd",
        {**METRIC, "scalabel_gt": BDD + "scalabel_gt/seg_track_20/val/", "with_mask": True},
    ),
}
FOLDERS = {
    "masa-one": ("r50",),
    "masa-sam": ("sam_vitb", "sam_vith"),
    "masa-gdino": ("gdino",),
    "masa-detic": ("detic",),
}
PADDING = {"r50": 32, "sam_vitb": 1024, "sam_vith": 1024, "gdino": 1024, "detic": 32}
FILES = sorted(MASA.glob("masa-*/*/*.py"))


def facts_of(path: Path) -> tuple[str, Task]:
    """The model and the benchmark that a file's name says."""
    (model,) = (name for name in FOLDERS[path.parts[-3]] if name in path.stem)
    (task,) = (task for name, task in TASKS.items() if path.stem.endswith(name))
    return model, task


@pytest.fixture(autouse=True)
def _scope() -> None:
    init_default_scope("mmdet")


def test_there_are_25() -> None:
    assert len(FILES) == 25
    found = {(model, task.boxes, bool(task.scores.get("open_vocabulary"))) for model, task in map(facts_of, FILES)}
    assert len(found) == 25


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_has_the_authors_settings_and_is_built(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, task = facts_of(path)
    config = testing.read_config(path)
    assert config.model.public_det_path == task.boxes
    assert config.model.data_preprocessor.pad_size_divisor == PADDING[model]
    dataset = config.test_dataloader.dataset
    assert (dataset.type, dataset.ann_file) == (task.data, task.truth)
    scale = dataset.pipeline[0]["transforms"][1]["scale"]
    wide = model == "detic" or (model == "gdino" and task.preset == "bdd")
    assert tuple(scale) == ((1333, 800) if wide else (1024, 1024))
    assert {key: config.test_evaluator[key] for key in task.scores} == task.scores
    assert METRICS.get(config.test_evaluator.type).__name__ == ("BDD" if task.preset == "bdd" else "Tao") + "TETAMetric"

    config.model.public_det_path = str(tmp_path)
    if model == "gdino":
        tiny_bert(tmp_path / "bert")
        config.model.detector = smaller_grounding(config.model.detector, tmp_path / "bert")
    if model in ("gdino", "detic"):
        for name in filter(
            re.compile(r"[^_].*_$").match, dir(torch.nn.init)
        ):  # tensors are not filled, which takes long
            monkeypatch.setattr(torch.nn.init, name, lambda tensor, *_, **__: tensor)
    with torch.device("cpu" if model in ("gdino", "detic") else "meta"):  # SAM-H alone has 2.5 GB of numbers
        built = MODELS.build(config.model)
    assert sum(parameter.numel() for parameter in built.parameters()) > 30e6
    assert built.tracker.associator.options == options_of(task.preset)
    assert built.with_segm == ("with_mask" in task.scores)


class Scene:
    """A still video of two frames as all of the benchmarks have it: pictures, truth, labels and public boxes."""

    def __init__(self, root: Path) -> None:
        self.root, self.images = root, root / "images"
        (self.images / "v").mkdir(parents=True)
        picture = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8)
        for number in (5, 6):
            cv2.imwrite(str(self.images / "v" / f"{number}.png"), picture)
        boxes = np.array([[10, 10, 50, 60], [70, 20, 110, 80]], float)
        masks = np.zeros((2, HEIGHT, WIDTH), bool)
        masks[0, 10:60, 10:50] = masks[1, 20:80, 70:110] = True
        rles = [encode_mask(mask) for mask in masks]
        twice = [compressed(rle, (HEIGHT, WIDTH)) for rle in rles] * 2
        numbers, every = np.repeat([1, 2], 2), np.concatenate([boxes, boxes])
        (root / "boxes").mkdir()
        for kind, names in (("tao", ["cat", "dog"]), ("bdd", ["pedestrian", "car"])):
            labels = np.array([0, 1, 0, 1])
            write_npz(
                root / "boxes" / f"{kind}.npz", numbers, every, np.ones(4), labels, ["5.png", "6.png"], names, twice
            )
            size = {"width": WIDTH, "height": HEIGHT}
            truth: dict[str, Any] = {"videos": [{"id": 1, "name": "v", **size}], "images": [], "annotations": []}
            truth["categories"] = [
                {"id": 3, "name": names[0], "frequency": "f"},
                {"id": 7, "name": names[1], "frequency": "r"},
            ]
            if kind == "bdd":
                others = ["rider", "truck", "bus", "train", "motorcycle", "bicycle"]
                truth["categories"] += [{"id": 10 + i, "name": name} for i, name in enumerate(others)]
            frames = []
            for number in (5, 6):
                image = {"id": number, "video_id": 1, "frame_id": number, "file_name": f"v/{number}.png", **size}
                truth["images"].append(image)
                labels_of_frame = []
                for i, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
                    one = {"image_id": number, "track_id": i + 1, "category_id": (3, 7)[i]}
                    truth["annotations"].append(
                        {**one, "id": len(truth["annotations"]), "bbox": [x1, y1, x2 - x1, y2 - y1], "iscrowd": 0}
                    )
                    box = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
                    labels_of_frame.append({"id": f"00{i}", "category": names[i], "box2d": box, "rle": rles[i]})
                frames.append({"name": f"{number}", "videoName": "v", "frameIndex": number, "labels": labels_of_frame})
            (root / f"{kind}.json").write_text(json.dumps(truth))
        (root / "labels").mkdir()
        (root / "labels" / "v.json").write_text(json.dumps(frames))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return Scene(tmp_path_factory.mktemp("scene"))


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in FILES if "masa-one" in path.parts], ids=lambda path: path.stem)
def test_each_benchmark_runs(path: Path, scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the small network in place of the authors', which other tests run."""
    _, task = facts_of(path)
    config = Config.fromfile(path)
    kept = {key: config.model[key] for key in ("tracker", "load_public_dets", "benchmark")}
    boxes = str(scene.root / "boxes" / f"{task.preset}.npz")
    with_segm = config.model.get("with_segm", False)
    config.model = {"type": "MASA", "network": "nano", "public_det_path": boxes, "with_segm": with_segm, **kept}
    config.test_dataloader.num_workers = 0
    config.test_dataloader.dataset.ann_file = str(scene.root / f"{task.preset}.json")
    config.test_dataloader.dataset.data_prefix.img_path = str(scene.images)
    config.test_dataloader.dataset.pipeline[0]["transforms"][1]["scale"] = (192, 192)
    config.test_evaluator.outfile_prefix = "results/masa_results"
    if task.preset == "bdd":
        config.test_evaluator.scalabel_gt = str(scene.root / "labels")
    config.dump(tmp_path / "config.py")
    assert run_tool(tmp_path / "config.py", "--work-dir", tmp_path) == 0
    assert "test_evaluator.outfile_prefix='results/masa_results' has no effect" in capsys.readouterr().out
    scores = json.loads((tmp_path / "tracks" / "scores.json").read_text())
    table = (tmp_path / "tracks" / "scores.txt").read_text()
    if task.preset == "tao":
        assert scores["teta"] > 0.8
        novel = {"teta_base", "teta_novel", "teta_novel_assoc_a"}
        assert novel <= set(scores) if "open_vocabulary" in task.scores else not novel & set(scores)
        assert ("NOVEL" in table) == ("open_vocabulary" in task.scores)
        assert "hota" not in scores  # not asked for
        return
    assert scores["mTETA"] == scores["HOTA"] == scores["MOTA"] == pytest.approx(100)
    assert scores["mMOTA"] == pytest.approx(25)  # two of eight classes have truth
    frames = json.loads((tmp_path / "tracks" / SCALABEL_FILE).read_text())
    assert [frame["frameIndex"] for frame in frames] == [5, 6]
    assert all(("rle" in label) == ("with_mask" in task.scores) for frame in frames for label in frame["labels"])
    again = score_bdd(scene.root / "labels", tmp_path / "tracks" / SCALABEL_FILE, masks="with_mask" in task.scores)
    assert summary(again) == scores


def frame(number: int, categories: list[int], boxes: list[list[float]], ids: list[int]) -> FrameTracks:
    scores = np.full(len(ids), 0.9)
    return FrameTracks(number, number + 4, 1, np.array(boxes, float), scores, np.array(categories), np.array(ids))


def metric_of(scene: Scene, folder: Path, kind: str = "bdd", **options: Any) -> Any:
    """A metric with tracks in its folder: the first is called a car in one of two frames, the second is right."""
    config = {"type": "BDDTETAMetric" if kind == "bdd" else "TaoTETAMetric", "outfile_prefix": str(folder), **options}
    metric = METRICS.build({"ann_file": str(scene.root / f"{kind}.json"), **config})
    boxes = [[10, 10, 50, 60], [70, 20, 110, 80]]
    metric.files.write("v", [frame(1, [3, 7], boxes, [0, 1]), frame(2, [7, 7], boxes, [0, 1])])
    return metric


def test_a_track_votes_on_its_class(scene: Scene, tmp_path: Path) -> None:
    labels = str(scene.root / "labels")
    plain = metric_of(scene, tmp_path / "a", scalabel_gt=labels, tcc=False).compute_metrics([])
    voted = metric_of(scene, tmp_path / "b", scalabel_gt=labels).compute_metrics([])
    assert plain["mIDF1"] < voted["mIDF1"] == pytest.approx(25)
    assert plain["mTETA"] < voted["mTETA"] == pytest.approx(100)
    assert metric_of(scene, tmp_path / "c").compute_metrics([])["teta"] == 1  # also without the labels
    assert metric_of(scene, tmp_path / "d", tcc=False).compute_metrics([])["teta"] < 1


def test_of_equal_votes_the_lowest_class_wins() -> None:
    rows = [{"track_id": 1, "category_id": number} for number in (7, 3, 7, 3, 9)]
    assert {row["category_id"] for row in majority_classes(rows)} == {3}


def test_base_and_novel_are_the_means_of_their_classes(scene: Scene, tmp_path: Path) -> None:
    metric = metric_of(scene, tmp_path, kind="tao", open_vocabulary=True, metric=["TETA"], tcc=False)
    scores = metric.compute_metrics([])
    assert scores["teta_base_cls_a"] == 0.5
    assert scores["teta_novel_cls_a"] == pytest.approx(2 / 3)
    assert scores["teta"] == pytest.approx((scores["teta_base"] + scores["teta_novel"]) / 2)
    names = [line.split()[0] for line in (tmp_path / "scores.txt").read_text().splitlines() if line]
    assert names[:6] == ["class", "cat", "dog", "BASE", "NOVEL", "OVERALL"]
    with pytest.raises(InputError, match="metric must name TETA"):
        metric_of(scene, tmp_path, kind="tao", open_vocabulary=True, metric=["HOTA"])
    with pytest.raises(InputError, match=r"must have a frequency, f, c or r .* got None for 'rider'"):
        METRICS.build({"type": "TaoTETAMetric", "ann_file": str(scene.root / "bdd.json"), "open_vocabulary": True})


def test_keys_without_effect_are_named_in_a_warning(
    scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metric_of(scene, tmp_path, dataset_type="BDDVideoDataset", collect_device="cpu")
    assert "no effect" not in capsys.readouterr().out
    metric_of(scene, tmp_path, benchmark="MOT17", track_iou_thr=0.7, scalabel_gt=str(scene.root / "labels"))
    said = capsys.readouterr().out
    assert "WARNING - BDDTETAMetric: test_evaluator.benchmark has no effect" in said
    assert "WARNING - BDDTETAMetric: test_evaluator.track_iou_thr=0.7 has no effect" in said


def test_labels_and_masks_must_be_there(scene: Scene, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"there is no .*nowhere: give their place, or test_evaluator.scalabel_gt=None"
    ):
        metric_of(scene, tmp_path, scalabel_gt=str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"give test_evaluator\.scalabel_gt=FOLDER of labels with rle"):
        metric_of(scene, tmp_path, with_mask=True)
    metric = metric_of(scene, tmp_path, with_mask=True, scalabel_gt=str(scene.root / "labels"))
    with pytest.raises(InputError, match=r"needs a mask for each box of the tracks: give model\.with_segm=True"):
        metric.compute_metrics([])


def test_configurations_for_videos_and_of_projects_are_refused(tmp_path: Path) -> None:
    for name in ("masa_r50_plug_and_play", "masa_gdino_swinb_inference", "masa_gdino_swinb_plug_and_play"):
        file = tmp_path / f"{name}.py"
        file.write_text("model = dict(type='MASA', given_dets=True)\ninference_pipeline = [dict(type='Pack')]\n")
        with pytest.raises(InputError, match=r"masa-track track VIDEO --masa-config \S+ --checkpoint CHECKPOINT\.pth"):
            testing.read_config(file)
    for text in (
        "_base_ = ['projects/Detic_new/configs/detic.py']\n",
        "custom_imports = dict(imports=['projects.Detic_new.detic'], allow_failed_imports=False)\n",
    ):
        (tmp_path / "detic.py").write_text(text)
        with pytest.raises(InputError, match=r"take the file of the same name in configs/masa"):
            testing.read_config(tmp_path / "detic.py")
    (tmp_path / "codetr.py").write_text("custom_imports = dict(imports=['projects.CO_DETR.codetr'])\n")
    with pytest.raises(InputError, match=r"save its boxes once where it runs and give the file by public_det_path"):
        MODELS.build({"type": "MASA", "network": "nano", "detector": str(tmp_path / "codetr.py")})
