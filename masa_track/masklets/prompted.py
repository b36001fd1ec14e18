"""Objects that are prompted by hand: their masks in all frames, with the identities that the prompts give."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import supervision as sv

from masa_track.contracts import Features, Frame, FrameResult, MaskletFrame, MaskPropagator, Prompt, TrackEvent
from masa_track.errors import InputError
from masa_track.masklets.limits import ObjectLimit
from masa_track.masklets.prompt_file import Prompts, first_prompts, most_at_once
from masa_track.masklets.prompts import check_prompt
from masa_track.masks import as_mask, compact_masks, decode_mask, encode_mask, mask_box

if TYPE_CHECKING:
    from masa_track.video.source import Source

CHUNK_BYTES = 2**28  # of pictures that are held while a video is read backwards


class PromptedTracker:
    """Applies prompts in their frames and carries the masks on; see :class:`masa_track.contracts.IdentitySource`.

    A result has a row for each object that is visible: its mask, the box around it, and as its score the probability
    that the mask is right, sigmoid(object logit) x predicted IoU. Masks do not overlap: what is prompted in a frame
    takes its pixels from the others, and a mask that is prompted is shown as it was given.

    Args:
        propagator: carries the masks.
        prompts: by frame and identity.
        on_candidates: is given identity, frame number and all candidate masks of each prompt; None: they are not made.
        one_by_one: the points of a prompt without box are given one after the other, as somebody clicks who sees the
            mask after each.
        free_bytes: free memory, see :class:`~masa_track.masklets.limits.ObjectLimit`.

    Attributes:
        earlier: masks of frames before an object's first prompt, of a pass backwards; None: there was none.
        used: numbers of the frames that came so far and have prompts.
    """

    look_ahead = 0

    def __init__(
        self,
        propagator: MaskPropagator,
        prompts: Prompts,
        on_candidates: Callable[[int, int, MaskletFrame], None] | None = None,
        one_by_one: bool = False,
        free_bytes: int | None = None,
    ) -> None:
        self._limit = ObjectLimit(propagator, "prompts", "segment the others in a further run", free_bytes)
        self._most_at_once = most_at_once(prompts)
        self.propagator, self.prompts = propagator, prompts
        self.earlier: EarlierMasks | None = None
        self._on_candidates, self._one_by_one = on_candidates, one_by_one
        self._first = first_prompts(prompts)
        self._visible: dict[int, bool] = {}  # by object: whether it was in the last frame
        self.used: set[int] = set()
        self._count = 0  # of frames; propagators want consecutive numbers, though a frame may be missing

    def step(
        self, frame: Frame, detections: sv.Detections | None = None, *, features: Features | None = None
    ) -> list[FrameResult]:
        """The objects in one frame.

        Args:
            frame: with its picture.
            detections: are not used.
            features: of the propagator's model, for the same frame.

        Raises:
            InputError: the frame has no picture, a prompt does not fit it, or the memory does not hold all objects
                that are prompted, in later frames too; nothing has changed then.
        """
        size = frame.picture.shape[1], frame.picture.shape[0]
        self._limit.check(self._most_at_once, size)
        due = self.prompts.get(frame.number, {})
        checked = {i: check_prompt(prompt, size) for i, prompt in due.items() if prompt is not None}
        proposal = self.propagator.propose(replace(frame, number=self._count + 1), features)
        confidence = proposal.confidence
        places = enumerate(proposal.ids.tolist())
        found = {i: (np.asarray(proposal.masks[place]), float(confidence[place])) for place, i in places}
        ended = [i for i, prompt in due.items() if prompt is None and i in found]
        for identity in ended:
            self.propagator.forget(identity)
            del found[identity]
        for identity, prompt in checked.items():
            shown = self._prompt(identity, prompt, frame.number)
            mask = prompt.mask if prompt.mask is not None else np.asarray(shown.masks[0])
            found = {i: (other & ~mask, score) for i, (other, score) in found.items() if i != identity}
            found[identity] = mask, float(shown.confidence[0])
        self.propagator.commit()
        self._count += 1
        if due:
            self.used.add(frame.number)
        if self.earlier is not None:
            self._add_earlier(self.earlier.at(frame.number, size), frame.number, found)
        found = {i: (mask, score) for i, (mask, score) in sorted(found.items()) if mask.any()}
        events = self._events(frame, found, ended)
        return [FrameResult(frame, _rows(found, size), events)]

    def finish(self) -> list[FrameResult]:
        """Nothing: each result came with its frame."""
        return []

    def reset(self) -> None:
        """Forgets all objects; the prompts stay."""
        self.propagator.reset()
        self._visible, self.used, self._count = {}, set(), 0

    def unused(self, first: int, last: int) -> dict[int, list[int]]:
        """Of the frames ``first`` to ``last``, those that have prompts but did not come, with their objects."""
        missing = sorted(frame for frame in self.prompts if first <= frame <= last and frame not in self.used)
        return {frame: sorted(self.prompts[frame]) for frame in missing}

    def state_dict(self) -> dict[str, np.ndarray]:
        """The state as arrays of numbers and text."""
        known = np.array([[i, seen] for i, seen in sorted(self._visible.items())], np.int64).reshape(-1, 2)
        state = {f"propagator.{name}": value for name, value in self.propagator.state_dict().items()}
        used = np.array(sorted(self.used), np.int64)
        return state | {"objects": known, "used": used, "count": np.array(self._count)}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Goes on from a state of :meth:`state_dict`.

        Raises:
            InputError: the state does not fit.
        """
        if not {"objects", "used", "count"} <= state.keys():
            raise InputError("state must be one of prompted objects: it has none")
        held = {name[11:]: value for name, value in state.items() if name.startswith("propagator.")}
        self.propagator.load_state_dict(held)
        self._visible = {int(i): bool(seen) for i, seen in np.asarray(state["objects"]).tolist()}
        self.used = {int(frame) for frame in np.asarray(state["used"]).tolist()}
        self._count = int(state["count"])

    def _prompt(self, identity: int, prompt: Prompt, number: int) -> MaskletFrame:
        """The mask of a prompt, as the propagator shows it."""
        if self._one_by_one and prompt.box is None and prompt.points is not None and prompt.positive is not None:
            *before, prompt = (
                Prompt(prompt.points[place, None], prompt.positive[place, None], clear=prompt.clear and not place)
                for place in range(len(prompt.points))
            )
            for one in before:
                self.propagator.prompt(identity, one)
        if self._on_candidates is None:
            return self.propagator.prompt(identity, prompt)
        shown = self.propagator.prompt(identity, prompt, candidates=True)
        self._on_candidates(identity, number, shown)
        return shown

    def _add_earlier(
        self,
        earlier: Iterable[tuple[int, np.ndarray, float]],
        number: int,
        found: dict[int, tuple[np.ndarray, float]],
    ) -> None:
        """Adds the masks of the pass backwards; of two that overlap, the pixels are the more probable one's."""
        for identity, mask, score in earlier:
            if number >= self._first.get(identity, 0) or identity in found:
                continue
            for other, (theirs, their_score) in list(found.items()):
                if their_score >= score:
                    mask = mask & ~theirs
                else:
                    found[other] = theirs & ~mask, their_score
            found[identity] = mask, score

    def _events(self, frame: Frame, found: Mapping[int, Any], ended: list[int]) -> list[TrackEvent]:
        events = []
        for identity in sorted({*self._visible, *found, *ended}):
            kind: Any = None
            now, before = identity in found, self._visible.get(identity)
            if identity in ended:
                kind = "ended" if before is not None else None
                self._visible.pop(identity, None)
            elif now and not before:
                kind = "born" if before is None else "found"
            elif before and not now:
                kind = "lost"
            if identity not in ended and (now or before is not None):
                self._visible[identity] = now
            if kind is not None:
                events.append(TrackEvent(kind, identity, frame.number, frame.time))
        return events


class EarlierMasks:
    """Masks by frame, in a temporary file; in memory are their places alone."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed by close)
        self._places: dict[int, tuple[int, int]] = {}

    def add(self, number: int, detections: sv.Detections) -> None:
        """Keeps the rows of a frame.

        Raises:
            OSError: the disk is full.
        """
        if not len(detections):
            return
        masks: Any = detections.mask
        scores: Any = detections.confidence
        ids: Any = detections.tracker_id
        rows = [
            [int(i), float(score), encode_mask(np.asarray(mask))]
            for i, score, mask in zip(ids, scores, masks, strict=True)
        ]
        text = json.dumps(rows).encode()
        start = self._file.seek(0, 2)
        self._file.write(text)
        self._places[number] = start, len(text)

    def at(self, number: int, size: tuple[int, int]) -> Iterator[tuple[int, np.ndarray, float]]:
        """Identity, (H, W) bool mask and score of each object in a frame.

        Raises:
            InputError: the frame has another size than before.
        """
        if number not in self._places:
            return
        start, length = self._places[number]
        self._file.seek(start)
        for identity, score, rle in json.loads(self._file.read(length)):
            mask = decode_mask({**rle, "counts": rle["counts"].encode("ascii")})
            yield int(identity), as_mask(mask, size), float(score)

    def close(self) -> None:
        """Removes the file."""
        self._file.close()


def masks_before_prompts(
    source: Source,
    propagator: MaskPropagator,
    prompts: Prompts,
    first: int = 1,
    stop_asked: Callable[[], bool] = lambda: False,
    on_frame: Callable[[], None] = lambda: None,
) -> EarlierMasks:
    """Carries each object backwards from its first prompt.

    The propagator takes the frames backwards as if they were another video: their numbers and times count up.

    Args:
        source: a file or images.
        propagator: is reset before and after.
        prompts: by frame and identity; the first one of each object is used.
        first: number of the frame at which to end.
        stop_asked: ends the pass when it is True.
        on_frame: is called after each frame.

    Returns:
        The masks of the frames before the objects' first prompts; to be closed by the caller.

    Raises:
        InputError: a frame cannot be used.
        OSError: the disk is full.
    """
    starts = {i: frame for i, frame in first_prompts(prompts).items() if frame > first}
    last = max(starts.values(), default=first)
    reversed_prompts: Prompts = {}
    for identity, start in starts.items():
        reversed_prompts.setdefault(last - start + 1, {})[identity] = prompts[start][identity]
    masks = EarlierMasks()
    tracker = PromptedTracker(propagator, reversed_prompts)
    tracker.reset()
    try:
        for frame in reversed_frames(source, last, first) if starts else ():
            number = last - frame.number + 1
            (result,) = tracker.step(replace(frame, number=number, time=(number - 1) / source.fps))
            masks.add(frame.number, result.detections)
            on_frame()
            if stop_asked():
                break
    except BaseException:
        masks.close()
        raise
    tracker.reset()
    return masks


def reversed_frames(source: Source, last: int, first: int = 1, chunk_bytes: int = CHUNK_BYTES) -> Iterator[Frame]:
    """The frames ``last`` to ``first`` of a file or of images, backwards.

    They are read forwards in chunks, so that as many pictures are in memory as have ``chunk_bytes``.

    Args:
        source: must not be live.
        last: number of the frame to begin with.
        first: number of the frame to end with.
        chunk_bytes: of pictures; one picture is held at least.
    """
    count = max(1, chunk_bytes // (3 * source.width * source.height))
    while last >= first:
        begin = max(first, last - count + 1)
        held = list(source.frames(start=begin, stop=last))
        while held:
            yield held.pop()
        last = begin - 1


def _rows(found: Mapping[int, tuple[np.ndarray, float]], size: tuple[int, int]) -> sv.Detections:
    """The objects as detections, with boxes around their masks."""
    masks = np.array([mask for mask, _ in found.values()], bool).reshape(-1, size[1], size[0])
    boxes = np.zeros((len(masks), 4), np.float32)
    for box, mask in zip(boxes, masks, strict=True):
        around = mask_box(mask)
        assert around is not None  # only masks with a pixel are found
        box[:] = around
    return sv.Detections(
        boxes,
        mask=compact_masks(masks) if len(masks) else None,
        confidence=np.array([score for _, score in found.values()], np.float32),
        class_id=np.zeros(len(masks), np.int64),
        tracker_id=np.array(list(found), np.int64),
    )
