"""MTTR as a referrer over tracks: the tracks keep their identities, the network only says which one is meant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from masa_track.boxes import box_iou
from masa_track.contracts import Frame
from masa_track.errors import InputError
from masa_track.masks import mask_box
from masa_track.models.devices import choose_device
from masa_track.refer.data import normalised
from masa_track.refer.model import Mttr
from masa_track.refer.resizing import DEFAULT_SIDES, clip_tensor, resized_size, to_rgb
from masa_track.refer.tokens import Encode, token_rows
from masa_track.refer.votes import Votes

if TYPE_CHECKING:
    import supervision as sv


class MttrReferrer:
    """Scores the tracks of a run for sentences by the masks of MTTR.

    Args:
        network: with weights.
        encode: from a sentence to token ids.
        window: frames that it takes at once.
        stride_seconds: between two of these frames; the weights of Refer-YouTube-VOS saw every fifth frame of 30 a
            second, those of A2D-Sentences every frame.
        threshold: score below which no track is meant.
        sides: pixels of the short and of the longest side that frames are scaled to.
        device: e.g. ``cpu``; None takes a GPU if there is one.
    """

    def __init__(
        self,
        network: Mttr,
        encode: Encode,
        window: int = 12,
        stride_seconds: float = 1 / 6,
        threshold: float = 0.3,
        sides: tuple[int, int] = DEFAULT_SIDES,
        device: str | torch.device | None = None,
    ) -> None:
        self.device = choose_device(device)
        self.network = network.eval().to(self.device)
        self.encode, self.window, self.stride_seconds = encode, window, stride_seconds
        self.threshold, self.sides = threshold, sides

    def open(self, sentences: Sequence[str]) -> MttrSession:
        """A session for these sentences.

        Raises:
            InputError: a sentence cannot be used.
        """
        return MttrSession(self, sentences)


class MttrSession:
    """Votes of windows for the tracks; see :class:`masa_track.contracts.ReferrerSession`."""

    def __init__(self, referrer: MttrReferrer, sentences: Sequence[str]) -> None:
        self.referrer, self.sentences = referrer, list(sentences)
        positions = referrer.network.settings.text.positions
        self._ids = token_rows(self.sentences, referrer.encode, positions).to(referrer.device)
        with torch.inference_mode():
            self._words = referrer.network.encode_words(self._ids)
        self._votes = Votes(len(self.sentences), referrer.threshold, referrer.window)

    @torch.inference_mode()
    def add(self, frames: Sequence[Frame], tracks: Sequence[sv.Detections]) -> None:
        """Adds the votes of a window.

        Args:
            frames: T frames with their pictures.
            tracks: of each frame, with ``tracker_id``.

        Raises:
            InputError: no frame, not as many tracks, or tracks without identities.
        """
        if not frames or len(frames) != len(tracks):
            raise InputError(f"a window must have tracks for each of its frames, got {len(frames)} and {len(tracks)}")
        network = self.referrer.network
        images = [to_rgb(frame.picture) for frame in frames]
        height, width = images[0].shape[:2]
        size = resized_size((height, width), *self.referrer.sides)
        maps = network.encode_video(normalised(clip_tensor(images, size).to(self.referrer.device))[None])
        places = _places(tracks)
        votes = {identity: np.zeros(len(self.sentences)) for identity in places}
        for s in range(len(self.sentences)):
            row, length = slice(s, s + 1), int((self._ids[s] != 1).sum())
            output = network.segment(maps, self._words[row, :length], self._ids[row, :length])
            masks = (output.masks[-1, :, 0] > 0).cpu().numpy()  # (V, N, h, w)
            scale = np.array([width / masks.shape[3], height / masks.shape[2]] * 2)
            boxes = [
                np.stack([np.zeros(4) if (box := mask_box(m)) is None else box * scale for m in frame])
                for frame in masks
            ]
            meant = output.scores[:, 0].mean(0).cpu().numpy()  # (N,)
            for identity, rows in places.items():
                overlaps = [box_iou(tracks[t].xyxy[[i]].astype(float), boxes[t])[0] for t, i in rows]
                votes[identity][s] = float((np.mean(overlaps, axis=0) * meant).max())
        self._votes.add(votes, {identity: len(rows) for identity, rows in places.items()})

    def scores(self) -> Mapping[int, np.ndarray]:
        """(S,) scores in 0..1 by identity.

        The mean over the frames in which the track lives of: overlap of its boxes with those of an object's masks,
        times the probability that the sentence means the object, for the best object of each window. A track that
        lived for fewer frames than a window has less.
        """
        return self._votes.scores()

    def answer(self, sentence: int) -> tuple[int | None, float]:
        """The identity that a sentence means, None below the threshold; and its score less that of the second."""
        return self._votes.answer(sentence)


def _places(tracks: Sequence[sv.Detections]) -> dict[int, list[tuple[int, int]]]:
    """For each identity its (frame, row) in a window."""
    places: dict[int, list[tuple[int, int]]] = {}
    for t, detections in enumerate(tracks):
        if detections.tracker_id is None and len(detections):
            raise InputError("tracks must have tracker_id: give the output of a tracker")
        for row, identity in enumerate(detections.tracker_id if detections.tracker_id is not None else ()):
            places.setdefault(int(identity), []).append((t, row))
    return places
