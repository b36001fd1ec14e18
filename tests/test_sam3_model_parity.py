"""SAM 3's image model against the official code, with the goldens' small network and weights by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sam3_networks import FOLDER, PHRASES, SIDE, image_model

from masa_track.contracts import ConceptFrame, Features

pytest.importorskip("transformers")
torch = pytest.importorskip("torch")

TOLERANCE = 2e-4  # of the largest magnitude
# centre x, centre y, width, height of 0..1; whether it shows an instance
A, B, C = ((0.3, 0.35, 0.25, 0.3), True), ((0.7, 0.6, 0.2, 0.35), False), ((0.55, 0.2, 0.4, 0.1), True)
CASES: dict[str, tuple[str | None, list[Any]]] = {
    "text": ("phrase", []),
    "text_long": ("long", []),
    "positive": (None, [A]),
    "pos_neg": (None, [A, B]),
    "negative": (None, [B]),
    "text_pos": ("phrase", [A]),
    "text_pos_neg": ("phrase", [A, C, B]),
}
CARRIED: dict[str, tuple[str | None, list[Any]]] = {
    "visual_pos": (None, [A]),
    "text_pos_neg": ("phrase", [A, B]),
}


def goldens(name: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / f"sam3_{name}_official.npz") as file:
        return {key: file[key] for key in file.files}


def features(network: Any, picture: np.ndarray) -> Features:
    """Of a normalised (3, S, S) picture."""
    return Features(network.key, (SIDE, SIDE), network.vision(torch.from_numpy(picture)[None]))


def exemplars(given: list[Any]) -> dict[str, Any]:
    if not given:
        return {}
    places = np.array([place for place, _ in given])
    boxes = np.concatenate([places[:, :2] - places[:, 2:] / 2, places[:, :2] + places[:, 2:] / 2], 1) * SIDE
    return {"boxes": boxes, "positive": np.array([shown for _, shown in given])}


def largest_differences(golden: dict[str, np.ndarray], case: str, found: ConceptFrame) -> dict[str, float]:
    """Of each output, in units of its largest magnitude."""

    def logit(p: Any) -> np.ndarray:
        p = np.asarray(p, np.float64)
        return np.log(p / (1 - p))

    outputs = {
        "pred_logits": logit(found.local_scores),
        "presence_logit": logit(found.presence),
        "pred_boxes": found.boxes / SIDE,
        "pred_masks": found.logits,
        "semantic": found.semantic,
    }
    differences = {}
    for name, values in outputs.items():
        expected = golden[f"{case}/{name}"].astype(np.float64)
        if name == "pred_boxes":
            expected = expected.clip(0, 1)
        differences[name] = float(np.abs(np.reshape(values, expected.shape) - expected).max() / np.abs(expected).max())
    return differences


@pytest.mark.parametrize("case", CASES)
def test_image_model(case: str) -> None:
    golden, network = goldens("image"), image_model()
    phrase, given = CASES[case]
    found = network.detect(
        features(network, golden["image"]),
        None if phrase is None else PHRASES[phrase],
        **exemplars(given),
        least_score=-1,
        semantic=True,
    )
    differences = largest_differences(golden, case, found)
    assert max(differences.values()) < TOLERANCE, differences


@pytest.mark.parametrize("case", CARRIED)
def test_exemplars_of_another_picture(case: str) -> None:
    golden, network = goldens("carried_exemplar"), image_model()
    phrase, given = CARRIED[case]
    first = features(network, goldens("image")["image"])
    tokens = network.encode_exemplars(first, **exemplars(given))
    found = network.detect(
        features(network, golden["image_b"]),
        None if phrase is None else PHRASES[phrase],
        carried=[tokens],
        least_score=-1,
        semantic=True,
    )
    differences = largest_differences(golden, case, found)
    assert max(differences.values()) < TOLERANCE, differences
