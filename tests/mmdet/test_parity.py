"""MASA in mmdet and masa_track.load, filled with the same numbers: the same embeddings, the same identities."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import supervision as sv
import torch
from mmdet.registry import MODELS, TRANSFORMS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from mmengine.runner.checkpoint import load_checkpoint
from official_recipe import official_state_dict

from masa_track import MasaTracker
from masa_track import load as load_model
from masa_track.integrations.mmdet.boxes import kept_output

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = {"r50": "mot_r50_public.py", "sam-vitb": "mot_sam_vitb_public.py"}
TRACKING = {"preset": "demo", "memory_frames": 5}


@pytest.fixture(scope="module", params=list(CONFIGS))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def checkpoint(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An official-style checkpoint. The offsets are made small: with those of the recipe float32 is not enough."""
    state = official_state_dict(name)
    for key in state:
        if "spatial_conv_offset" in key:
            state[key] = state[key] * 0.01
    path = tmp_path_factory.mktemp("checkpoint") / f"{name}.pth"
    torch.save({"meta": {"epoch": 12}, "state_dict": state}, path)
    return path


@pytest.fixture(scope="module")
def model(name: str) -> Any:
    init_default_scope("mmdet")
    config = Config.fromfile(ROOT / "configs" / "mmdet" / CONFIGS[name])
    options = {**config.model, "public_det_path": None, "given_dets": True}
    return MODELS.build({**options, "tracker": {"type": "MasaTaoTracker", **TRACKING}}).eval()


def frames(count: int, size: tuple[int, int], still: bool) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pictures (H, W, 3) of coloured patches on a background, drifting or still; their boxes in a changing order."""
    rng = np.random.default_rng(3)
    height, width = size
    background = cv2.resize(rng.integers(0, 255, (12, 16, 3)).astype(np.uint8), (width, height))
    patches = [cv2.resize(rng.integers(0, 255, (4, 3, 3)).astype(np.uint8), (60, 80)) for _ in range(4)]
    starts, speeds = rng.uniform(40, min(size) - 120, (4, 2)), rng.uniform(-5, 5, (4, 2)) * (not still)
    result = []
    for index in range(count):
        picture, boxes = background.copy(), []
        for patch, start, speed in zip(patches, starts, speeds, strict=True):
            x, y = np.round(start + index * speed).astype(int)
            picture[y : y + 80, x : x + 60] = patch
            boxes.append((x, y, x + 60, y + 80))
        result.append((picture, np.array(boxes, np.float32)[rng.permutation(4)[: 4 - index % 2]]))
    return result


def packed(picture: np.ndarray, index: int, boxes: np.ndarray) -> Mapping[str, Any]:
    """A frame through the configuration's own pipeline."""
    init_default_scope("mmdet")
    resize = TRANSFORMS.build({"type": "Resize", "scale": (1024, 1024), "keep_ratio": True})
    pack = TRANSFORMS.build({"type": "PackTrackInputs"})
    done = resize({"img": picture, "img_shape": picture.shape[:2], "ori_shape": picture.shape[:2]})
    known = {"img_id": index, "frame_id": index, "video_id": 1, "ori_video_length": 9}
    keys = ("img", "ori_shape", "img_shape", "scale_factor")
    data = pack({**{key: [done[key]] for key in keys}, **{key: [value] for key, value in known.items()}})
    sample = data["data_samples"][0]
    scores = 0.9 - 0.1 * np.arange(len(boxes))
    sample.det_bboxes = torch.from_numpy(np.column_stack([boxes, scores]).astype(np.float32))
    sample.det_labels = torch.zeros(len(boxes), dtype=torch.long)
    return data


def remember_pyramid(network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture that comes again is not computed again."""
    known: dict[bytes, list[torch.Tensor]] = {}
    compute = network.pyramid

    def pyramid(image: torch.Tensor) -> list[torch.Tensor]:
        key = image.numpy().tobytes()
        if key not in known:
            known[key] = compute(image)
        return known[key]

    monkeypatch.setattr(network, "pyramid", pyramid)


@pytest.mark.slow
def test_checkpoint_embeddings_and_identities(
    name: str,
    model: Any,
    checkpoint: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded = load_checkpoint(model, str(checkpoint), map_location="cpu", strict=True)  # strict raises for any key
    said = capsys.readouterr()
    assert "missing" not in said.out + said.err + caplog.text
    assert "unexpected" not in said.out + said.err + caplog.text
    official = loaded["state_dict"]
    assert set(model.state_dict()) == set(official)
    assert all(torch.equal(model.state_dict()[key], value) for key, value in official.items())

    embedder = load_model(name, device="cpu", checkpoint=checkpoint)
    ours = MasaTracker(embedder, **TRACKING)
    # SAM-B takes a pass of 20 s a picture and side: one picture twice, its pyramid remembered.
    sam = name == "sam-vitb"
    remember_pyramid(model.net, monkeypatch)
    identities = []
    for index, (picture, boxes) in enumerate(frames(2, (480, 640) if sam else (240, 320), still=sam)):
        data = model.data_preprocessor(pseudo_collate([packed(picture, index, boxes)]))
        with torch.no_grad(), kept_output(model.track_head) as kept:
            (tracked,) = model.predict(**data)
        embeddings = kept[0].numpy()
        if index == 0 or not sam:
            (features,) = embedder.encode([picture])
        expected = embedder.embed_features(features, boxes)
        scale = np.abs(expected).max()
        assert scale > 0.01
        assert np.abs(embeddings - expected).max() <= 1e-4 * scale

        scores = (0.9 - 0.1 * np.arange(len(boxes))).astype(np.float32)
        given = sv.Detections(boxes, confidence=scores, class_id=np.zeros(len(boxes), int))
        detections = ours.update(given, picture, features=features)
        found = tracked[0].pred_track_instances
        kept = detections.tracker_id >= 0
        assert (found.instances_id.numpy() + 1).tolist() == detections.tracker_id[kept].tolist()
        assert np.array_equal(found.bboxes.numpy(), boxes[kept])
        identities.append(set(found.instances_id.tolist()))
    assert identities[0] & identities[1]  # something was found again
    assert len(identities[0]) > 1
