"""The official SAM models against the numbers of the reference (``goldens/README.md``), at 1024 x 1024."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from official_recipe import golden, golden_image, level_errors, official_keys, official_state_dict, same_set

from masa_track.errors import InputError
from masa_track.registry import build_model

pytest.importorskip("segment_anything")
PARTS = ("detector.backbone.", "masa_adapter.", "rpn_head.", "roi_head.", "track_head.")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sam-vitb", pytest.param("sam-vith", marks=pytest.mark.huge)])
def test_sam_models_equal_the_reference(name):
    gold = golden(name)
    model = build_model(name)
    model.load_official_state_dict(official_state_dict(name, PARTS))
    image = golden_image(gold)
    with torch.no_grad():
        maps = model.backbone_maps(image)
        assert max(level_errors("backbone", gold, maps)) < 1e-3  # measured: 1e-6
        levels = model.adapt(maps)
        assert max(level_errors("pyramid", gold, levels)) < 1e-3  # measured: 8e-5
        embeddings = model.embed(levels, [torch.from_numpy(gold["boxes"])]).numpy()
        error = np.abs(embeddings - gold["embeddings"]).max() / np.abs(gold["embeddings"]).max()
        assert error < 1e-3  # measured: 4e-5

        sizes = [tuple(image.shape[-2:])]
        ((boxes, scores),) = model.propose(levels, sizes)
        worst_box, worst_score = same_set(boxes[:100], scores[:100], gold["proposals"], gold["proposal_scores"])
        assert worst_box < 0.1
        assert worst_score < 1e-3
        ((boxes, scores),) = model.detect(levels, sizes)
        assert len(boxes) == len(gold["det_bboxes"])
        worst_box, worst_score = same_set(boxes, scores, gold["det_bboxes"], gold["det_scores"])
        assert worst_box < 0.1
        assert worst_score < 1e-3


def test_every_official_key_is_used_or_sams_own():
    with torch.device("meta"):
        model = build_model("sam-vitb")
    state = {key: torch.zeros(shape, device="meta") for key, shape in official_keys("sam-vitb").items()}
    report = model.load_official_state_dict(state)
    assert set(report.used) | set(report.ignored) == set(state)
    for key in report.ignored:
        assert key.startswith(("detector.backbone.neck.", "detector.prompt_encoder.", "detector.mask_decoder.")), key


def test_another_size_says_how_to_pad():
    with torch.device("meta"):
        model = build_model("sam-vitb")
        with pytest.raises(InputError, match=r"\(B, 3, 1024, 1024\).*\(1, 3, 512, 1024\).*pad with zeros"):
            model.pyramid(torch.zeros(1, 3, 512, 1024))
