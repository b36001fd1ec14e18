"""Sentences about a film: frames in, masks of the objects out while it runs, an answer for each sentence at the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from masa_track.contracts import Embeds
from masa_track.errors import InputError
from masa_track.masks import mask_box
from masa_track.models.devices import choose_device
from masa_track.refer.data import normalised
from masa_track.refer.model import Mttr
from masa_track.refer.resizing import DEFAULT_SIDES, Size, clip_tensor, original_masks, resized_size, to_rgb
from masa_track.refer.tokens import Encode, token_rows
from masa_track.refer.windows import Chains, Trajectories, WindowOptions

EMBEDDED_FRAMES = 3  # of a window, in which the looks of an object are taken
SAME_OBJECT = 0.7  # IoU over a window from which two queries show one object


@dataclass(frozen=True)
class ObjectMask:
    """An object that a sentence may mean, in a frame.

    Attributes:
        frame: number of the frame, from 0, as they were added.
        sentence: index of the sentence.
        chain: identity of the object among those of the sentence.
        score: probability that the sentence means it, by this frame.
        mask: (H, W) bool in pixels of the frame.
    """

    frame: int
    sentence: int
    chain: int
    score: float
    mask: np.ndarray


@dataclass(frozen=True)
class FilmAnswer:
    """What a sentence means.

    Attributes:
        sentence: the sentence.
        chain: identity of the object among those of the sentence; None: no object is likely enough.
        score: mean probability over the frames of the best object, also where ``chain`` is None.
        margin: by how much the score of the second object is lower; the whole score where there is none.
    """

    sentence: str
    chain: int | None
    score: float
    margin: float


def distinct(masks: Tensor, scores: Tensor, keep: int) -> list[int]:
    """The best trajectories, without those that lie on a better one: several queries may find one object.

    Args:
        masks: (N, V, h, w) bool.
        scores: (N,).
        keep: the largest number of them.
    """
    kept: list[int] = []
    for query in scores.argsort(descending=True, stable=True).tolist():
        mask = masks[query]
        if all(float((mask & masks[k]).sum()) < SAME_OBJECT * float((mask | masks[k]).sum()) for k in kept):
            kept.append(query)
        if len(kept) == keep:
            break
    return kept


class FilmReferrer:
    """Runs MTTR on windows of a film, each alone and unpadded, and links their objects.

    Sentences share the video encoder. The memory holds one window, and a bounded number of chains.

    Args:
        network: with weights.
        encode: from a sentence to token ids.
        sentences: at least one.
        options: of the windows.
        appearance: a model with ``embed(frame, boxes)``; None: objects that leave and return get new identities.
        sides: pixels of the short and of the longest side that frames are scaled to.
        threshold: mean score from which an object is an answer.
        device: e.g. ``cpu``; None takes a GPU if there is one.

    Raises:
        InputError: a sentence that cannot be taken, or options of another form.
    """

    def __init__(
        self,
        network: Mttr,
        encode: Encode,
        sentences: Sequence[str],
        options: WindowOptions | None = None,
        appearance: Embeds | None = None,
        sides: tuple[int, int] = DEFAULT_SIDES,
        threshold: float = 0.3,
        device: str | torch.device | None = None,
    ) -> None:
        self.device = choose_device(device)
        self.network = network.eval().to(self.device)
        self.sentences = list(sentences)
        self.options = options or WindowOptions()
        self.appearance, self.sides, self.threshold = appearance, sides, threshold
        self._ids = token_rows(self.sentences, encode, network.settings.text.positions).to(self.device)
        with torch.inference_mode():
            self._words = self.network.encode_words(self._ids)
        self._chains = [Chains(self.options) for _ in self.sentences]
        self._images: list[np.ndarray] = []  # BGR, of the frames from self._first on
        self._first = 0  # number of the first frame that is kept
        self._done = 0  # frames that a window has held
        self._size: Size | None = None

    @property
    def count(self) -> int:
        """The number of frames that were added."""
        return self._first + len(self._images)

    def add(self, image: np.ndarray) -> Iterator[ObjectMask]:
        """Takes the next frame; gives the masks of frames that are finished now.

        Args:
            image: (H, W, 3) uint8 BGR, of the same size as those before.

        Raises:
            InputError: a frame of another form or size.
        """
        if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise InputError(f"frame must be (H, W, 3) uint8 BGR, got {getattr(image, 'shape', type(image).__name__)}")
        size = (image.shape[0], image.shape[1])
        if self._size is not None and size != self._size:
            raise InputError(f"frames must have one size, {self._size}, got {size}: start a referrer for each film")
        self._size = size
        self._images.append(image)
        if len(self._images) == self.options.window:
            self._run(self._first)
            yield from self._give(self._first + self.options.step)
            del self._images[: self.options.step]
            self._first += self.options.step

    def finish(self) -> Iterator[ObjectMask]:
        """Gives the masks of the last frames; a film shorter than a window is one window.

        Raises:
            InputError: there was no frame.
        """
        if self.count == 0:
            raise InputError("the film holds no frame: check the source")
        if self._done < self.count:
            self._run(self._first)
        yield from self._give(self.count)

    def answers(self) -> list[FilmAnswer]:
        """The answer of each sentence by the windows so far."""
        found = []
        for sentence, chains in zip(self.sentences, self._chains, strict=True):
            ranked = chains.ranked()
            if not ranked:
                found.append(FilmAnswer(sentence, None, 0.0, 0.0))
                continue
            best = ranked[0]
            second = ranked[1].score if len(ranked) > 1 else 0.0
            chain = best.identity if best.score >= self.threshold else None
            found.append(FilmAnswer(sentence, chain, best.score, best.score - second))
        return found

    @torch.inference_mode()
    def _run(self, start: int) -> None:
        """Runs the network on the frames that are kept, and links what it finds."""
        assert self._size is not None
        self._scaled = resized_size(self._size, *self.sides)
        clip = clip_tensor([to_rgb(image) for image in self._images], self._scaled).to(self.device)
        maps = self.network.encode_video(normalised(clip)[None])
        for number, chains in enumerate(self._chains):
            row = slice(number, number + 1)
            length = int((self._ids[number] != 1).sum())
            output = self.network.segment(maps, self._words[row, :length], self._ids[row, :length])
            scores = output.scores[:, 0].T  # (N, V)
            masks = output.masks[-1, :, 0].transpose(0, 1)  # (N, V, h, w)
            best = distinct(masks > 0, scores.mean(1), self.options.keep)
            logits = masks[best].float().cpu().numpy()
            chains.add(Trajectories(start, logits, scores[best].float().cpu().numpy(), self._looks(logits)))
        self._done = self.count

    def _looks(self, logits: np.ndarray) -> np.ndarray | None:
        """(K, D) mean embeddings of the objects' boxes in some of the frames, as unit vectors; NaN without a box."""
        if self.appearance is None:
            return None
        chosen = np.unique(np.linspace(0, len(self._images) - 1, EMBEDDED_FRAMES).round().astype(int))
        sums: dict[int, Any] = {}
        dimension = 0
        for v in chosen:
            masks = logits[:, v] > 0
            boxes = {k: box for k, mask in enumerate(masks) if (box := mask_box(mask)) is not None}
            if not boxes:
                continue
            height, width = self._images[v].shape[:2]
            scale = np.array([width / masks.shape[2], height / masks.shape[1]] * 2)
            vectors = self.appearance.embed(self._images[v], np.stack(list(boxes.values())) * scale)
            dimension = vectors.shape[1]
            for k, vector in zip(boxes, vectors, strict=True):
                sums[k] = sums.get(k, 0) + vector / max(float(np.linalg.norm(vector)), 1e-12)
        looks = np.full((len(logits), dimension), np.nan, np.float32)
        for k, vector in sums.items():
            looks[k] = vector / max(float(np.linalg.norm(vector)), 1e-12)
        return looks if dimension else None

    def _give(self, before: int) -> Iterator[ObjectMask]:
        assert self._size is not None
        for number, chains in enumerate(self._chains):
            for found in chains.give(before):
                logits = torch.from_numpy(found.logits)[None, None]
                mask = original_masks(logits, self._scaled, self._scaled, self._size)[0, 0].numpy()
                yield ObjectMask(found.frame, number, found.chain, found.score, mask)
