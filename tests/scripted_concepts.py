"""A scripted world for tests of concepts: discs with phrases, a detector and a propagator that know where they are.

A picture's first pixel holds the frame's number, so that the model knows what it is shown.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from masa_track.contracts import ConceptFrame, Features, Frame, MaskletFrame, MaskPropagator, Prompt
from masa_track.errors import InputError
from masa_track.masks import as_mask, compact_masks, mask_box

SIDE = 64  # of the masks' logits
SIZE = (128, 96)
KEY = "script@000000000000/float32"


@dataclass
class Thing:
    """An object of the world.

    Attributes:
        at: its centre (x, y) in pixels by frame number; None: it is not in the picture.
        phrase: by which it is found.
        radius: pixels.
        score: of its detections by frame number, 0..1; None: it is not detected.
        look: (D,) its embedding, or by frame number; embeddings are the same without noise.
    """

    at: Callable[[int], tuple[float, float] | None]
    phrase: str = "ball"
    radius: float = 9.0
    score: Callable[[int], float | None] = lambda _: 0.9
    look: Any = None

    def mask(self, number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
        """(height, width) bool in a picture of that size, which shows the whole of :data:`SIZE`."""
        centre = self.at(number)
        if centre is None:
            return np.zeros(size[::-1], bool)
        y, x = np.mgrid[: size[1], : size[0]] + 0.5
        x, y = x * SIZE[0] / size[0], y * SIZE[1] / size[1]
        return np.asarray((x - centre[0]) ** 2 + (y - centre[1]) ** 2 <= self.radius**2)

    def embedding(self, number: int) -> np.ndarray:
        """(D,) float32."""
        return np.asarray(self.look(number) if callable(self.look) else self.look, np.float32)


@dataclass
class World:
    """Things, and what the scripted model makes of them.

    Attributes:
        things: in the order of detections.
        ghosts: detections without a thing, by frame: (phrase, mask of :data:`SIDE` by side, score).
        presence: of a phrase by frame; 1 where it is not given.
        scenes: first frames of scenes; the background differs from scene to scene.
        fps: frames a second.
        memory: frames without its thing after which a masklet has lost it.
        calls: how often the vision encoder ran.
        asked: arguments of the calls of ``detect``.
    """

    things: Sequence[Thing]
    ghosts: Callable[[int], Sequence[tuple[str, np.ndarray, float]]] = lambda _: ()
    presence: Callable[[str, int], float] = lambda *_: 1.0
    scenes: Sequence[int] = ()
    fps: float = 25.0
    memory: int = 16
    key: str = KEY
    calls: int = 0
    asked: list[dict[str, Any]] = field(default_factory=list)
    _masks: tuple[Any, list[np.ndarray]] = ((0, SIZE), [])

    def masks(self, number: int, size: tuple[int, int]) -> list[np.ndarray]:
        """:meth:`Thing.mask` of all things, computed once for a frame."""
        if self._masks[0] != (number, size):
            self._masks = (number, size), [thing.mask(number, size) for thing in self.things]
        return self._masks[1]

    def frame(self, number: int, zoom: int = 1) -> Frame:
        """Frame ``number``, ``zoom`` times as large as :data:`SIZE`."""
        scene = sum(number >= first for first in self.scenes)
        rng = np.random.default_rng(scene)
        cells = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        image = np.ascontiguousarray(cells.repeat(8 * zoom, axis=0).repeat(8 * zoom, axis=1))
        image[0, 0] = (number % 256, number // 256, 0)
        return Frame(number, number / self.fps, (zoom * SIZE[0], zoom * SIZE[1]), image=image)

    def frames(self, last: int) -> list[Frame]:
        """Frames 1 to ``last``."""
        return [self.frame(number) for number in range(1, last + 1)]

    # The model.

    def check_phrase(self, phrase: str) -> None:
        if len(phrase.split()) > 32:
            raise InputError("phrase must have 32 tokens at most")

    def encode(self, images: Sequence[np.ndarray]) -> list[Features]:
        self.calls += len(images)
        return [Features(KEY, image.shape[1::-1], int(image[0, 0, 0]) + 256 * int(image[0, 0, 1])) for image in images]

    def encode_exemplars(self, features: Features, boxes: np.ndarray, positive: np.ndarray) -> Any:
        return features.data, boxes.tolist(), positive.tolist()

    def exemplars_to_arrays(self, exemplars: Any) -> dict[str, np.ndarray]:
        return {"json": np.array(json.dumps(exemplars))}

    def exemplars_of_arrays(self, arrays: Mapping[str, np.ndarray]) -> Any:
        return tuple(json.loads(str(arrays["json"])))

    def detect(
        self,
        features: Features,
        phrase: str | None,
        boxes: np.ndarray | None = None,
        positive: np.ndarray | None = None,
        carried: Sequence[Any] = (),
        least_score: float = 0.5,
        semantic: bool = False,
    ) -> ConceptFrame:
        number = features.data
        if phrase is None and boxes is None and not carried:
            raise InputError("detect needs a phrase or exemplars, got neither")
        shown = None if boxes is None or positive is None else (boxes.tolist(), positive.tolist())
        self.asked.append({"number": number, "phrase": phrase, "shown": shown, "carried": list(carried)})
        found = []
        for thing, mask in zip(self.things, self.masks(number, (SIDE, SIDE)), strict=True):
            score = thing.score(number)
            if thing.phrase == (phrase or thing.phrase) and score is not None and mask.any():
                found.append((mask, score))
        found += [(mask, score) for name, mask, score in self.ghosts(number) if name == (phrase or name)]
        presence = self.presence(phrase or "", number)
        masks = np.array([mask for mask, _ in found], bool).reshape(-1, SIDE, SIDE)
        local = np.array([score for _, score in found], np.float32)
        scale = np.array([*features.size] * 2, np.float32) / SIDE
        boxes = [mask_box(mask) if mask.any() else np.zeros(4) for mask in masks]
        around = np.array(boxes, np.float32).reshape(-1, 4) * scale
        kept = presence * local > least_score
        return ConceptFrame(
            around[kept],
            (presence * local)[kept].astype(np.float32),
            local[kept],
            np.where(masks[kept], 5, -5).astype(np.float32),
            presence,
            np.where(masks.any(axis=0), 5, -5).astype(np.float32) if semantic else None,
        )

    def propagator(self) -> MaskPropagator:
        return Follower(self)


class Follower:
    """Follows the thing that a prompt shows: exactly, as long as it is in the picture, and a while longer."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.reset()

    def reset(self) -> None:
        self._thing: dict[int, tuple[int, np.ndarray, int]] = {}  # thing, first mask, frame of its last sight
        self._number = -1
        self.prompts: list[tuple[int, int]] = []
        self.committed: dict[int, np.ndarray] = {}

    def propose(self, frame: Frame, features: Features | None = None) -> MaskletFrame:
        assert features is not None
        self._number, self._size = features.data, features.size
        masks, visible = [], []
        there = self.world.masks(self._number, (SIDE, SIDE))
        for identity, (thing, first, last) in sorted(self._thing.items()):
            mask = first if thing < 0 else there[thing]
            lost = self._number - last > self.world.memory or (thing >= 0 and self._cut_since(last))
            mask = np.zeros_like(mask) if lost else mask
            if mask.any():
                self._thing[identity] = thing, first, self._number
            masks.append(mask)
            visible.append(mask.any())
        logits = np.where(np.array(masks, bool).reshape(-1, SIDE, SIDE), 6, -6).astype(np.float32)
        return MaskletFrame(
            np.array(sorted(self._thing), np.int64),
            compact_masks(np.zeros((len(masks), *SIZE[::-1]), bool)),
            np.where(visible, 6, -6).astype(np.float32),
            np.ones(len(masks), np.float32),
            logits,
        )

    def _cut_since(self, last: int) -> bool:
        return any(last < first <= self._number for first in self.world.scenes)

    def prompt(self, identity: int, prompt: Prompt, candidates: bool = False) -> MaskletFrame:
        mask = as_mask(prompt.mask, self._size)
        assert mask.any()
        y, x = (np.arange(SIDE) * side // SIDE for side in self._size[::-1])
        small = mask[np.ix_(y, x)]
        best, most = -1, 0.4
        for thing, other in enumerate(self.world.masks(self._number, (SIDE, SIDE))):
            overlap = np.count_nonzero(small & other) / max(np.count_nonzero(small | other), 1)
            if overlap > most:
                best, most = thing, overlap
        self._thing[identity] = best, small, self._number
        self.prompts.append((self._number, identity))
        return MaskletFrame(np.array([identity]), compact_masks(mask[None]), np.ones(1), np.ones(1))

    def commit(self, masks: Mapping[int, Any] | None = None) -> None:
        for identity, logits in (masks or {}).items():
            assert identity in self._thing
            assert logits.shape == (SIDE, SIDE)
        self.committed = dict(masks or {})

    def forget(self, identity: int) -> None:
        if identity not in self._thing:
            raise InputError(f"identity {identity} is not known")
        del self._thing[identity]

    def memory_bytes(self) -> int:
        return 1000 * len(self._thing)

    def state_dict(self) -> dict[str, np.ndarray]:
        masks = [first for _, first, _ in self._thing.values()]
        numbers = [[identity, thing, last] for identity, (thing, _, last) in self._thing.items()]
        return {
            "numbers": np.array(numbers, np.int64).reshape(-1, 3),
            "masks": np.array(masks, bool).reshape(-1, SIDE, SIDE),
        }

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        self.reset()
        for (identity, thing, last), mask in zip(state["numbers"].tolist(), state["masks"], strict=True):
            self._thing[identity] = thing, mask, last


@dataclass
class Looks:
    """Embeds boxes by the look of the thing in each."""

    world: World
    prior: Any = None
    calls: int = 0

    def embed(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        number = int(frame[0, 0, 0]) + 256 * int(frame[0, 0, 1])
        self.calls += 1
        rows = []
        for box in boxes * SIZE[0] / frame.shape[1]:
            centre = (box[:2] + box[2:]) / 2
            here = [(thing, thing.at(number)) for thing in self.world.things]
            near = [(np.hypot(*(centre - c)), n) for n, (_, c) in enumerate(here) if c is not None]
            rows.append(self.world.things[min(near)[1]].embedding(number))
        return np.array(rows, np.float32)
