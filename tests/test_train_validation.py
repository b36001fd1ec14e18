"""Validation during training: labelled videos, tracked with the network as it is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer
from training_recipe import TinyNetwork, picture

from masa_track.errors import InputError
from masa_track.evaluation import evaluate
from masa_track.training.checkpoint import read_training_checkpoint
from masa_track.training.start import make_runner, read_config
from masa_track.training.validation import labelled_videos, set_validation, track_videos

ROOT = Path(__file__).resolve().parents[1]
FRAMES = 8
CONFIG = """
_base_ = [{bases!r} + "/masa.py", {bases!r} + "/schedule.py"]
custom_imports = dict(imports=["training_recipe"])
model = dict(network="tiny", samples=32)
train_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type="PhotoSampler"), dataset=dict(type="TinyViews", pictures=4)
)
val_dataloader = dict(truth={truth!r})
train_cfg = dict(max_epochs=2, val_interval=1)
auto_scale_lr = dict(enable=False)
param_scheduler = []
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=2, save_best="idf1"))
"""


@pytest.fixture(autouse=True)
def _one_run_after_the_other() -> Iterator[None]:
    """mmengine keeps loggers and message hubs by name for a process's life; a run of its own has none."""
    yield
    for manager in (MessageHub, MMLogger, Visualizer, DefaultScope):
        manager._instance_dict.clear()


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """Two sequences of things that stand still; det.txt lacks the second thing in half of the frames."""
    for seed, name in enumerate(("a", "b")):
        folder = tmp_path / "videos" / name
        image, boxes = picture(seed)
        rows: dict[str, list[str]] = {"gt": [], "det": []}
        (folder / "img1").mkdir(parents=True)
        for number in range(1, FRAMES + 1):
            cv2.imwrite(str(folder / "img1" / f"{number:06d}.png"), image)
            for thing, (x1, y1, x2, y2) in enumerate(boxes.tolist(), 1):
                box = f"{x1 + 1},{y1 + 1},{x2 - x1},{y2 - y1}"
                rows["gt"].append(f"{number},{thing},{box},1,-1,-1,-1")
                if thing != 2 or number % 2:
                    rows["det"].append(f"{number},-1,{box},0.9,-1,-1,-1")
        for kind, lines in rows.items():
            (folder / kind).mkdir()
            (folder / kind / f"{kind}.txt").write_text("\n".join(lines) + "\n")
    return tmp_path / "videos"


@pytest.fixture
def as_json(videos: Path, tmp_path: Path) -> Path:
    """The same truth as COCO-VID json, with two classes; pictures below ``videos``."""
    content: dict[str, Any] = {"videos": [], "images": [], "annotations": [], "categories": []}
    content["categories"] = [{"id": 3, "name": "odd"}, {"id": 7, "name": "even"}]
    for video, name in enumerate(("a", "b"), 1):
        content["videos"].append({"id": video, "name": name, "fps": 10})
        _, boxes = picture(video - 1)
        for frame in range(FRAMES):
            image = len(content["images"]) + 1
            path = f"{name}/img1/{frame + 1:06d}.png"
            size = {"width": 128, "height": 128}
            content["images"].append({"id": image, "video_id": video, "frame_id": frame, "file_name": path, **size})
            for thing, (x1, y1, x2, y2) in enumerate(boxes.tolist(), 1):
                box = [x1, y1, x2 - x1, y2 - y1]
                row = {"id": len(content["annotations"]) + 1, "image_id": image, "bbox": box, "area": box[2] * box[3]}
                content["annotations"].append({**row, "track_id": thing, "category_id": 3 if thing % 2 else 7})
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.slow
def test_a_training_is_scored_after_each_epoch(videos: Path, tmp_path: Path) -> None:
    path = tmp_path / "tiny.py"
    path.write_text(CONFIG.format(bases=str(ROOT / "configs" / "_base_"), truth=str(videos)))
    work = tmp_path / "work"
    make_runner(read_config(path), work).train()
    (file,) = work.rglob("vis_data/scalars.json")
    scores = [one for line in file.read_text().splitlines() if "idf1" in (one := json.loads(line))]
    assert len(scores) == 2
    assert 0.5 < scores[1]["idf1"] < 1  # boxes are missing
    expected = evaluate(videos, work / "validation").combined
    for name in ("idf1", "hota", "mota", "ass_a"):
        assert scores[1][name] == pytest.approx(getattr(expected, name)), name
    best = 1 + max(range(2), key=lambda epoch: scores[epoch]["idf1"])
    assert [one.name for one in work.glob("best_*")] == [f"best_idf1_iter_{2 * best}.pth"]

    state = read_training_checkpoint(work / "iter_4.pth")["state_dict"]
    network = TinyNetwork()
    network.load_state_dict({key.removeprefix("network."): v for key, v in state.items() if key != "steps"})
    data = labelled_videos(str(videos))
    shutil.copytree(work / "validation", tmp_path / "before")
    data.score(track_videos(data.videos, network, "default"), ["idf1"], work / "validation")
    for name in ("a.txt", "b.txt"):
        assert (work / "validation" / name).read_text() == (tmp_path / "before" / name).read_text()


@pytest.mark.slow
def test_the_network_stays_as_it_is(videos: Path) -> None:
    network = TinyNetwork(fusion=False).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    tracks = track_videos(labelled_videos(str(videos / "a")).videos, network, "demo")
    assert list(tracks) == ["a"]
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize("stride", [1, 2])
def test_json_with_true_boxes_scores_one(as_json: Path, videos: Path, tmp_path: Path, stride: int) -> None:
    torch.manual_seed(0)
    data = labelled_videos(str(as_json), str(videos), stride=stride)
    network = TinyNetwork(fusion=False)
    tracks = track_videos(data.videos, network, "demo")
    assert [number for number, _ in tracks["a"]] == list(range(1, FRAMES + 1, stride))
    scores = data.score(tracks, ["idf1", "teta"], tmp_path)
    assert scores["idf1"] == scores["teta"] == scores["teta_cls_a"] == 1
    rows = json.loads((tmp_path / "tracks.json").read_text())
    of_video = [{row["track_id"] for row in rows if row["video_id"] == video} for video in (1, 2)]
    assert not of_video[0] & of_video[1]

    results = [{key: row[key] for key in ("image_id", "bbox", "category_id")} for row in rows if row["track_id"] != 2]
    (tmp_path / "results.json").write_text(json.dumps([{**row, "score": 0.9} for row in results]))
    fewer = labelled_videos(str(as_json), str(videos), str(tmp_path / "results.json"), stride)
    found = fewer.score(track_videos(fewer.videos, network, "demo"), ["idf1"], tmp_path)
    assert found == {"idf1": pytest.approx(2 * 11 / (12 + 11))}


def test_mistakes_are_named(as_json: Path, videos: Path, tmp_path: Path) -> None:
    for options, message in (
        ({"truth": "nowhere"}, "there is no nowhere"),
        ({"truth": str(tmp_path)}, "has none"),
        ({"truth": str(videos), "stride": 0}, "stride must be at least 1, got 0"),
        ({"truth": str(as_json)}, "images must be the folder of the pictures"),
        ({"truth": str(as_json), "images": str(videos), "boxes": str(as_json)}, "must be a list of COCO results"),
        ({"truth": str(as_json), "images": str(tmp_path)}, "has no a/img1/000001.png, which"),
        ({"truth": str(videos), "boxes": "yolo"}, "yolo"),
    ):
        with pytest.raises(InputError, match=message):
            labelled_videos(**options)
    (tmp_path / "results.json").write_text('[{"image_id": 1, "category_id": 3, "bbox": [1, 2, NaN, 4]}]')
    with pytest.raises(InputError, match="bbox must be 4 finite numbers"):
        labelled_videos(str(as_json), str(videos), str(tmp_path / "results.json"))
    as_json.write_text('{"videos": [{"id": 1}], "images": [{"id": 1}], "annotations": []}')
    with pytest.raises(InputError, match="has no 'video_id'"):
        labelled_videos(str(as_json), str(videos))
    data = labelled_videos(str(videos))
    with pytest.raises(InputError, match="teta needs classes"):
        data.score({}, ["teta"], tmp_path)


def test_what_asks_for_validation() -> None:
    config = Config({"val_dataloader": {"truth": "clips"}})
    set_validation(config)
    assert config.val_cfg == {"type": "VideoValidation"}
    assert config.val_evaluator == {}
    config = Config({"val_dataloader": {"truth": None}, "val_evaluator": {"metrics": ["idf1"]}})
    set_validation(config)
    assert all(config[name] is None for name in ("val_dataloader", "val_evaluator", "val_cfg"))
    with pytest.raises(InputError, match="val_evaluator ask for validation"):
        set_validation(Config({"val_evaluator": {"metrics": ["idf1"]}}))
