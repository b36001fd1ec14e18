"""The official models against the numbers of the reference (``goldens/README.md``): R50, Grounding DINO, Detic."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from official_recipe import (
    explained_by_ties,
    golden,
    golden_image,
    level_errors,
    official_keys,
    official_state_dict,
    same_set,
)

from masa_track.registry import build_model

PARTS = ("detector.backbone.", "backbone.", "masa_adapter.", "rpn_head.", "roi_head.", "track_head.")


def run_golden(name, dtype=torch.float32):
    """Everything of a golden, computed here: model, golden, image size, maps, levels, embeddings."""
    gold = golden(name)
    model = build_model(name)
    model.load_official_state_dict(official_state_dict(name, PARTS))
    model.to(dtype)
    image = golden_image(gold).to(dtype)
    with torch.no_grad():
        maps = model.backbone_maps(image)
        levels = model.adapt(maps)
        embeddings = model.embed(levels, [torch.from_numpy(gold["boxes"]).to(dtype)]).numpy()
    return model, gold, [tuple(image.shape[-2:])], maps, levels, embeddings


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gdino-swinb", "detic-swinb"])
def test_swin_models_equal_the_reference(name):
    model, gold, sizes, maps, levels, embeddings = run_golden(name)
    assert max(level_errors("backbone", gold, maps)) < 1e-3  # measured: 2e-6
    assert max(level_errors("pyramid", gold, levels)) < 1e-3  # measured: 1e-5
    assert np.abs(embeddings - gold["embeddings"]).max() < 1e-3 * np.abs(gold["embeddings"]).max()  # measured: 9e-6

    with torch.no_grad():
        ((boxes, scores),) = model.propose(levels, sizes)
        worst_box, worst_score = same_set(boxes[:100], scores[:100], gold["proposals"], gold["proposal_scores"])
        assert worst_box < 0.1
        assert worst_score < 1e-3

        ((found, found_scores),) = model.detect(levels, sizes)
        assert len(found) == len(gold["det_bboxes"])
        if name == "gdino-swinb":
            worst_box, worst_score = same_set(found, found_scores, gold["det_bboxes"], gold["det_scores"])
            assert worst_box < 0.1
            assert worst_score < 1e-3
        else:
            # Three slivers at the picture's edge have the same score to eight digits, and which of them hides the
            # others is a matter of rounding: the reference's set must be an NMS of ours but for such ties.
            model.roi_head.iou_threshold, model.roi_head.max_detections = 2.0, 10_000
            ((raw, raw_scores),) = model.detect(levels, sizes)
            assert explained_by_ties(raw, raw_scores, gold["det_bboxes"], gold["det_scores"], 0.5)
            assert not explained_by_ties(raw, raw_scores, gold["det_bboxes"][1:], gold["det_scores"][1:], 0.5)


@pytest.mark.slow
def test_r50_equals_the_reference_as_far_as_float32_can_say():
    """R50's golden is ill-conditioned: with its random weights the pyramid has a deviation of 900 and the offsets
    reach 4,000 pixels, so that a rounding in the backbone moves a sample by hundredths of a pixel on a map that
    changes by hundreds a pixel. It is not our deformable convolution: with the reference's own compiled operator
    (mmcv 2.3.6) in its place and the reference's torch (2.8.0), the worst of 16 embeddings is off by 3.0e-3 of the
    largest on one thread and by 7.4e-3 on two, and so it is with ours, to three digits. So not even the reference
    repeats itself to 1e-3 on another machine. Against exact (float64) arithmetic its numbers are off by 2.3e-3; that
    is what is checked. The same modules meet 1e-5 in the two other models' goldens.
    """
    model, gold, sizes, maps, levels, embeddings = run_golden("r50", torch.float64)
    assert max(level_errors("backbone", gold, maps)) < 1e-5  # measured: 1.7e-6
    errors = level_errors("pyramid", gold, levels)  # measured: 7e-4, 4e-3, 9e-4, 1.3e-4, 8e-7
    assert max(errors) < 6e-3
    assert errors[-1] < 1e-5
    error = np.abs(embeddings - gold["embeddings"]).max(axis=1) / np.abs(gold["embeddings"]).max()
    assert error.max() < 4e-3  # measured: 2.3e-3
    assert np.median(error) < 2e-4  # measured: 7e-5
    assert (error < 1e-3).sum() >= 11  # measured: 12 of 16

    with torch.no_grad():
        ((boxes, scores),) = model.propose(levels, sizes)
        worst_box, worst_score = same_set(boxes, scores, gold["proposals"], gold["proposal_scores"])
        assert worst_box < 3.0  # measured: 1.5
        assert worst_score < 1e-3
        ((boxes, scores),) = model.detect(levels, sizes)
        worst_box, worst_score = same_set(boxes, scores, gold["det_bboxes"], gold["det_scores"])
        assert worst_box < 1.0  # measured: 0.42
        assert worst_score < 2e-2  # measured: 6e-3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["r50", "gdino-swinb", "detic-swinb"])
def test_every_official_key_is_used_or_the_detectors_own(name):
    model = build_model(name)
    state = {key: torch.zeros(shape) for key, shape in official_keys(name).items()}
    report = model.load_official_state_dict(state)
    assert set(report.used) | set(report.ignored) == set(state)
    for key in report.ignored:
        derived = key.endswith("relative_position_index")
        assert derived or (key.startswith("detector.") and not key.startswith("detector.backbone.")), key


@pytest.mark.slow
def test_wrong_stride_is_seen():
    """The parity test can fail: with torchvision's place of the stride the maps differ."""
    gold = golden("r50")
    model = build_model("r50")
    model.load_official_state_dict(official_state_dict("r50", PARTS))
    for stage in (model.backbone.layer2, model.backbone.layer3, model.backbone.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = stage[0].conv2.stride, stage[0].conv1.stride
    with torch.no_grad():
        errors = level_errors("backbone", gold, model.backbone_maps(golden_image(gold)))
    assert errors[0] < 1e-5
    assert min(errors[1:]) > 1e-2
