"""What is remembered of one object, and which of it a frame is compared with: the memory policies of SAM 2's session.

numpy and scipy only; the values of an entry may be arrays of any library.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from masa_track.errors import unknown_name
from masa_track.masks import mask_box

PROMPTED = 6  # row of the temporal positions that prompted frames have
NO_MOTION = -1.0
RECENT = 6  # frames whose memories are attended to beside the prompted ones


@dataclass
class Entry:
    """One object in one frame.

    Attributes:
        mask: (s, s) float32 logits, s a quarter of the network's input side; None once it was dropped.
        pointer: (C,) object pointer.
        score: log-odds that the object is visible.
        quality: predicted IoU of the mask, 0..1.
        memory: (L, 64) bfloat16, the encoded mask and picture; None before the commit and once it was dropped.
        area: pixels of the mask, of s x s.
        rival: whether an unchosen candidate reaches out to something beside the mask (distractor-aware policy).
        motion: IoU of the mask's box with the box that motion predicts; :data:`NO_MOTION` where none was predicted.
    """

    mask: Any
    pointer: Any
    score: float
    quality: float
    memory: Any = None
    area: int = 0
    rival: bool = False
    motion: float = NO_MOTION


@dataclass
class ObjectMemory:
    """The entries of one object by frame number.

    Attributes:
        prompted: entries of prompted frames, in the order in which they were given.
        ordinary: the others.
        direction: frames that were propagated over; True: backwards.
        points: points that were given for a frame: (P, 2) network pixels and (P,) labels.
        kalman: of the motion-aware policy: state, covariance and count of stable frames; empty before the first box.
    """

    prompted: dict[int, Entry] = field(default_factory=dict)
    ordinary: dict[int, Entry] = field(default_factory=dict)
    direction: dict[int, bool] = field(default_factory=dict)
    points: dict[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    kalman: tuple[np.ndarray, ...] = ()

    def copy(self) -> ObjectMemory:
        """A copy whose frames can be changed without changing this one's; entries are shared."""
        return ObjectMemory(
            dict(self.prompted), dict(self.ordinary), dict(self.direction), dict(self.points), self.kalman
        )

    def at(self, number: int) -> Entry | None:
        """The entry of a frame."""
        return self.prompted.get(number) or self.ordinary.get(number)

    def entries(self) -> Iterator[Entry]:
        """All entries."""
        yield from self.prompted.values()
        yield from self.ordinary.values()


@dataclass(frozen=True)
class Selection:
    """What a frame is compared with.

    Attributes:
        memories: (row of the temporal positions, entry), in the order of attention.
        pointers: (distance in frames, entry).
    """

    memories: list[tuple[int, Entry]]
    pointers: list[tuple[int, Entry]]


def attended(number: int, prompted: dict[int, Entry], most: int | None) -> tuple[dict[int, Entry], dict[int, Entry]]:
    """The prompted frames that a frame is compared with, and the others.

    Args:
        number: of the frame.
        prompted: entries by frame.
        most: how many are compared with: the last before the frame, the first from it on, then the nearest. None: all.
    """
    if most is None or len(prompted) <= most:
        return prompted, {}
    before = max((n for n in prompted if n < number), default=None)
    after = min((n for n in prompted if n >= number), default=None)
    chosen = [n for n in (before, after) if n is not None][:most]
    chosen += sorted((n for n in prompted if n not in chosen), key=lambda n: abs(n - number))[: most - len(chosen)]
    return {n: prompted[n] for n in chosen}, {n: e for n, e in prompted.items() if n not in chosen}


class OfficialPolicy:
    """As the official code has it: prompted frames, the last 6 others, and object pointers.

    Attributes:
        pointer_frames: frames back from which a pointer can be needed.
        memory_frames: frames back from which an encoded memory can be needed.
        wants_candidates: whether `rival` and the boxes of candidates are used.
        most_anchors: prompted frames and anchors that are attended to; None: all.
    """

    pointer_frames = 15
    memory_frames = RECENT
    wants_candidates = False
    most_anchors: int | None = None

    def select(
        self,
        memory: ObjectMemory,
        number: int,
        reverse: bool = False,
        pointers: int = 16,
        clip_length: int | None = None,
        most_prompted: int | None = None,
    ) -> Selection:
        """Chooses what a frame is compared with.

        Args:
            memory: of the object.
            number: of the frame.
            reverse: the pass goes backwards.
            pointers: 1 more than the largest distance of a pointer.
            clip_length: frames of the clip; None: a stream.
            most_prompted: prompted frames that are attended to, at most ``most_anchors``; None: those.
        """
        sign = -1 if reverse else 1
        limits = [most for most in (most_prompted, self.most_anchors) if most is not None]
        near, far = attended(number, memory.prompted, min(limits, default=None))
        others = {**memory.ordinary, **far}
        memories = [(PROMPTED, entry) for entry in near.values()]
        memories += [
            (row, entry) for row, entry in self.recent(others, memory, number, sign, near) if entry.memory is not None
        ]
        tokens = [((number - n) * sign, entry) for n, entry in near.items() if (number - n) * sign >= 0]
        for distance in range(1, pointers):
            n = number - sign * distance
            if n < 1 or (clip_length is not None and n > clip_length):
                break
            if n in others:
                tokens.append((distance, others[n]))
        return Selection(memories, tokens)

    def recent(
        self, others: dict[int, Entry], memory: ObjectMemory, number: int, sign: int, near: dict[int, Entry]
    ) -> list[tuple[int, Entry]]:
        """(row of the temporal positions, entry) of the frames that are not prompted, oldest first."""
        rows = ((d - 1, others.get(number - sign * d)) for d in range(RECENT, 0, -1))
        return [(row, entry) for row, entry in rows if entry is not None]

    def needed(self, ordinary: dict[int, Entry], number: int) -> dict[int, bool]:
        """The frames that a later frame of the same pass can need.

        Args:
            ordinary: entries of the object by frame.
            number: of the frame that was committed last.

        Returns:
            Whether the encoded memory is needed as well, by frame.
        """
        near = {n: abs(n - number) for n in ordinary}
        return {n: gap <= self.memory_frames for n, gap in near.items() if gap <= self.pointer_frames}

    def choose(self, memory: ObjectMemory, qualities: np.ndarray, boxes: np.ndarray) -> tuple[int, float]:
        """The candidate that is taken, by predicted IoU, and its ``Entry.motion``.

        Args:
            memory: of the object.
            qualities: (K,) predicted IoU.
            boxes: (K, 4) of the candidates, network pixels; empty unless ``wants_candidates``.
        """
        return int(qualities.argmax()), NO_MOTION

    def becomes_prompted(self, memory: ObjectMemory, number: int, entry: Entry) -> bool:
        """Whether a tracked frame is kept like a prompted one."""
        return False

    def committed(self, memory: ObjectMemory, entry: Entry, box: np.ndarray | None) -> None:
        """Updates ``memory`` by a frame that was committed; ``box`` is that of its mask, None where it is empty."""


class DistractorPolicy(OfficialPolicy):
    """Keeps frames with a look-alike beside the object as anchors; recent memories are 5 frames apart.

    Training-free. Source: Videnovic et al., A Distractor-Aware Memory for Visual Object Tracking with SAM2, CVPR 2025.
    """

    pointer_frames = memory_frames = 40
    wants_candidates = True
    grid = 5
    most_anchors = 4

    def recent(
        self, others: dict[int, Entry], memory: ObjectMemory, number: int, sign: int, near: dict[int, Entry]
    ) -> list[tuple[int, Entry]]:
        """The last frame, then older ones on a grid of 5 frames in which the object was seen; rows by rank in time."""
        last = number - sign
        older = [n for n in others if (last - n) * sign > 0 and (n - 1) % self.grid == 0]
        frames = [last, *sorted(older, key=lambda n: (number - n) * sign)]
        kept = [n for n in frames if n in others and n not in memory.prompted and others[n].area > 0]
        kept = kept[: max(0, RECENT - max(0, len(near) - 1))]
        return [(rank, others[n]) for rank, n in reversed(list(enumerate(kept)))]

    def becomes_prompted(self, memory: ObjectMemory, number: int, entry: Entry) -> bool:
        """A sure mask of usual area with a rival, more than 5 frames after the last anchor."""
        areas = [e.area for n, e in sorted(memory.ordinary.items()) if n != number and e.area > 0][-10:]
        usual = np.median(areas) if areas else entry.area
        far = all(abs(number - n) > self.grid for n in memory.prompted)
        return entry.rival and far and entry.quality > 0.8 and entry.area > 0 and 0.8 <= entry.area / usual <= 1.2


class MotionPolicy(OfficialPolicy):
    """Prefers candidates where a Kalman filter expects the object; remembers frames with sure masks only.

    Training-free. Source: Yang et al., SAMURAI: Adapting Segment Anything Model for Zero-Shot Visual Tracking with
    Motion-Aware Memory, 2024.
    """

    pointer_frames = memory_frames = 30
    wants_candidates = True
    weight = 0.25  # of the predicted box in the choice of a candidate
    stable_frames = 15  # after which the predicted box counts
    most_searched = 15

    def recent(
        self, others: dict[int, Entry], memory: ObjectMemory, number: int, sign: int, near: dict[int, Entry]
    ) -> list[tuple[int, Entry]]:
        """The last frame and older ones with sure masks; rows by rank in time."""
        last = number - sign
        frames = sorted((n for n in others if (last - n) * sign >= 0), key=lambda n: (number - n) * sign)
        sure = [n for n in frames if n == last or _is_sure(others[n])][: self.most_searched][:RECENT]
        return [(rank, others[n]) for rank, n in reversed(list(enumerate(sure)))]

    def choose(self, memory: ObjectMemory, qualities: np.ndarray, boxes: np.ndarray) -> tuple[int, float]:
        """By .25 IoU with the predicted box + .75 predicted IoU, once 15 frames were stable."""
        if not memory.kalman or memory.kalman[2] < self.stable_frames:
            return int(qualities.argmax()), NO_MOTION
        state, _ = _predict(*memory.kalman[:2])
        overlap = np.array([_box_iou(_to_box(state[:4]), box) for box in boxes])
        best = int((self.weight * overlap + (1 - self.weight) * qualities).argmax())
        return best, float(overlap[best])

    def committed(self, memory: ObjectMemory, entry: Entry, box: np.ndarray | None) -> None:
        """Feeds the box to the Kalman filter; an unsure mask starts it anew."""
        if box is None or entry.quality <= 0.3:
            memory.kalman = ()
            return
        measured = np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2, (box[2] - box[0]) / (box[3] - box[1]), 0.0])
        measured[3] = box[3] - box[1]
        if not memory.kalman:
            deviations = measured[3] * np.array([2 / 20, 2 / 20, 0, 2 / 20, 10 / 160, 10 / 160, 0, 10 / 160])
            deviations[[2, 6]] = 1e-2, 1e-5
            memory.kalman = (np.concatenate([measured, np.zeros(4)]), np.diag(deviations**2), np.array(1))
            return
        state, covariance = _predict(*memory.kalman[:2])
        noise = np.diag(np.array([state[3] / 20, state[3] / 20, 1e-1, state[3] / 20]) ** 2)
        gain = np.linalg.solve(covariance[:4, :4] + noise, covariance[:4]).T  # (8, 4)
        state = state + gain @ (measured - state[:4])
        covariance = covariance - gain @ covariance[:4]
        memory.kalman = (state, covariance, memory.kalman[2] + 1)


class VisiblePolicy(OfficialPolicy):
    """The official one of SAM 3: frames in which the object was visible, however long ago; the last one in any case.

    The official code takes the mean of :func:`_visibility` over the objects that were born in one frame; here each
    object has its own.
    """

    least = 0.01  # of :func:`_visibility`

    def select(
        self,
        memory: ObjectMemory,
        number: int,
        reverse: bool = False,
        pointers: int = 16,
        clip_length: int | None = None,
        most_prompted: int | None = None,
    ) -> Selection:
        """As the base class, with distances and rows by rank in time."""
        sign = -1 if reverse else 1
        near, far = attended(number, memory.prompted, most_prompted)
        last = number - sign
        before = sorted((n for n in memory.ordinary if (last - n) * sign >= 0), key=lambda n: (number - n) * sign)
        frames = [n for n in before if _visibility(memory.ordinary[n]) > self.least][: pointers - 1]
        if last not in frames:
            frames.insert(0, last)  # it has its row, even where it is a prompted frame that is attended to as such
        others = {**memory.ordinary, **far}
        rows = [(rank, others[n]) for rank, n in enumerate(frames[:RECENT]) if n in others]
        memories = [(PROMPTED, entry) for entry in near.values()]
        memories += [(rank, entry) for rank, entry in reversed(rows) if entry.memory is not None]
        tokens = [((number - n) * sign, entry) for n, entry in near.items() if (number - n) * sign >= 0]
        # Officially, the oldest of these frames gives no pointer.
        tokens += [(rank, others[n]) for rank, n in enumerate(frames[:-1][: pointers - 1], 1) if n in others]
        return Selection(memories, tokens)

    def needed(self, ordinary: dict[int, Entry], number: int) -> dict[int, bool]:
        """The last frame, and the nearest in which the object was visible."""
        frames = sorted((n for n in ordinary if n != number), key=lambda n: abs(n - number))
        visible = [n for n in frames if _visibility(ordinary[n]) > self.least][: self.pointer_frames]
        kept = {n: rank < self.memory_frames for rank, n in enumerate(visible)}
        return {number: True, **kept} if number in ordinary else kept


POLICIES = {
    "official": OfficialPolicy,
    "distractor": DistractorPolicy,
    "motion": MotionPolicy,
    "visible": VisiblePolicy,
}


def find_policy(name: str) -> OfficialPolicy:
    """The memory policy of that name. Raises InputError if there is none."""
    if name not in POLICIES:
        raise unknown_name("memory policy", name, POLICIES)
    return POLICIES[name]()


def has_rival(chosen: np.ndarray, others: np.ndarray) -> bool:
    """Whether an unchosen candidate reaches out to something beside the chosen mask.

    True where the largest piece of an unchosen candidate outside of the chosen mask, united with the mask, has a box
    whose IoU with the mask's box is .7 or less.

    Args:
        chosen: (h, w) bool.
        others: (K, h, w) bool.
    """
    from scipy.ndimage import label

    box = mask_box(chosen)
    if box is None:
        return False
    for other in others:
        pieces, count = label(other & ~chosen)
        if count:
            largest = 1 + int(np.bincount(pieces.ravel())[1:].argmax())
            united = mask_box(chosen | (pieces == largest))
            if united is not None and _box_iou(box, united) <= 0.7:
                return True
    return False


def _box_iou(first: np.ndarray, second: np.ndarray) -> float:
    """IoU of two (4,) xyxy boxes; 0 for boxes without area."""
    sides = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
    common = float(np.prod(np.maximum(sides, 0)))
    total = float(np.prod(first[2:] - first[:2]) + np.prod(second[2:] - second[:2])) - common
    return common / total if total > 0 else 0.0


def _visibility(entry: Entry) -> float:
    """max(0, 2 sigmoid(score) - 1) x quality, 0..1."""
    return max(0.0, float(np.tanh(entry.score / 2))) * entry.quality


def _is_sure(entry: Entry) -> bool:
    """Whether the motion-aware policy remembers a frame."""
    return entry.quality > 0.5 and entry.score > 0 and entry.motion != 0


def _to_box(state: np.ndarray) -> np.ndarray:
    """xyxy of (centre x, centre y, aspect, height)."""
    x, y, aspect, height = state
    return np.array([x - aspect * height / 2, y - height / 2, x + aspect * height / 2, y + height / 2])


def _predict(state: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One frame of constant velocity: (8,) state, (8, 8) covariance."""
    step = np.eye(8) + np.eye(8, k=4)
    position, velocity = state[3] / 20, state[3] / 160
    noise = np.array([position, position, 1e-2, position, velocity, velocity, 1e-5, velocity]) ** 2
    return step @ state, step @ covariance @ step.T + np.diag(noise)
