"""The memory of concepts with the real networks, small ones: it does not grow with the video."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from sam3_networks import network
from test_concepts import held_by

from masa_track.contracts import ConceptFrame, Features, Frame
from masa_track.masklets.concept_identities import IdentityOptions
from masa_track.masklets.concept_options import ConceptOptions
from masa_track.masklets.concepts import ConceptTracker

pytest.importorskip("transformers")
torch = pytest.importorskip("torch")

SIZE = (64, 48)
SCENES, SCENE_FRAMES = 6, 12  # pictures, each shown for so many frames; then the first one again


def picture(seed: int) -> np.ndarray:
    cells = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.ascontiguousarray(cells.repeat(8, axis=0).repeat(8, axis=1))


class Repeated:
    """The network; what it detects in a picture is computed once, as the same pictures come again and again."""

    def __init__(self, model: Any) -> None:
        self.model, self.key = model, model.key
        self._found: dict[int, ConceptFrame] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def detect(self, features: Features, *arguments: Any) -> ConceptFrame:
        if id(features) not in self._found:
            self._found[id(features)] = self.model.detect(features, *arguments)
        return self._found[id(features)]


class Colours:
    """Embeds a box by the mean and the deviation of its colours."""

    def embed(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        rows = []
        for x1, y1, x2, y2 in np.asarray(boxes, int):
            pixels = frame[y1 : y2 + 1, x1 : x2 + 1].reshape(-1, 3).astype(np.float32)
            rows.append(np.concatenate([pixels.mean(axis=0) - 120, pixels.std(axis=0), [1]]))
        return np.array(rows, np.float32)


@pytest.mark.slow
def test_memory_of_the_networks_does_not_grow_with_the_video() -> None:
    """Session, logic and identities hold as much in frames 500 to 2,000 as in the first 500, by up to 2 %.

    Random weights detect other masks in each picture, so masklets begin and end all the time.
    """
    model, embedder = Repeated(network()), Colours()
    options = ConceptOptions(
        least_score=0.25, birth_score=0.4, hot_start=4, unmatched_frames=0, end_empty=4, end_unmatched=8, hole_area=0
    )
    identities = IdentityOptions(memory_seconds=2, most_away=4)
    tracker = ConceptTracker(
        model,  # type: ignore[arg-type]
        "dog",
        options=options,
        embedder=embedder,
        identity_options=identities,
        cut_change=None,
    )
    pictures = [picture(seed) for seed in range(SCENES)]
    encoded = model.encode(pictures)
    session: Any = tracker._propagator
    outside = {id(model), id(embedder), id(session.network), *map(id, pictures), *map(id, encoded)}
    held, kinds = [], Counter[str]()
    for number in range(1, 2001):
        scene = number // SCENE_FRAMES % SCENES
        results = tracker.step(Frame(number, number / 25, SIZE, image=pictures[scene]), features=encoded[scene])
        kinds.update(event.kind for result in results for event in result.events)
        cost = tracker._waiting[-1].extras["cost"]
        assert cost["memory_bytes"] <= cost["objects"] * session.most_bytes_per_object()
        if number % 5 == 0:
            held.append([*held_by(tracker, set(outside)), cost["memory_bytes"], cost["objects"]])
    assert min(kinds["born"], kinds["lost"], kinds["ended"]) > 50
    first, later = np.max(held[:100], axis=0), np.max(held[100:], axis=0)
    assert first[2] > 0
    assert (later <= 1.02 * first).all(), (first, later)
