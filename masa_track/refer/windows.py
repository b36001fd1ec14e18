"""A film of any length in overlapping windows: trajectories of a window are linked to chains, chains gather votes.

MTTR forgets between windows. A trajectory (a query's masks in one window) continues the chain whose masks it overlaps
in the frames that both windows have; where none does, the chain that looks like it. numpy only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linear_sum_assignment

from masa_track.errors import InputError

MAX_CHAINS = 64  # of a sentence that are remembered; those with the fewest votes are forgotten


@dataclass(frozen=True)
class WindowOptions:
    """How a film is cut and linked.

    Attributes:
        window: frames of a window, 8 to 12 for the published weights.
        overlap: frames that two windows share.
        keep: trajectories of a window that are followed, the best first; a wrong choice then costs one window.
        overlap_threshold: IoU of masks, summed over the shared frames, from which a trajectory continues a chain.
        appearance_threshold: cosine of embeddings from which a trajectory continues a chain that it does not overlap;
            :func:`cosine_threshold` derives it from a model's prior.
    """

    window: int = 12
    overlap: int = 6
    keep: int = 3
    overlap_threshold: float = 0.5
    appearance_threshold: float = 0.6

    def __post_init__(self) -> None:
        if self.window < 1 or not 0 <= self.overlap < self.window:
            raise InputError(
                f"window must be 1 frame or more and overlap below it, got {self.window} and {self.overlap}"
            )
        if self.keep < 1:
            raise InputError(f"keep must be 1 trajectory or more, got {self.keep}")

    @property
    def step(self) -> int:
        """Frames from one window to the next."""
        return self.window - self.overlap


def cosine_threshold(different: tuple[float, float], same: tuple[float, float]) -> float:
    """The cosine that is as many standard deviations above that of two objects as below that of one object.

    Args:
        different: mean and standard deviation of the cosine of two objects.
        same: mean and standard deviation of the cosine of an object with itself.
    """
    return (different[0] * same[1] + same[0] * different[1]) / (different[1] + same[1])


@dataclass(frozen=True)
class Trajectories:
    """The best objects of one sentence in one window, the best first.

    Attributes:
        start: the window's first frame.
        logits: (K, V, h, w) float32, of masks.
        scores: (K, V) probability that the sentence means the object.
        embeddings: (K, D) unit vectors of what the objects look like, NaN where there is none; None: not known.
    """

    start: int
    logits: np.ndarray
    scores: np.ndarray
    embeddings: np.ndarray | None = None


@dataclass
class Chain:
    """Trajectories that are one object.

    Attributes:
        identity: from 1.
        votes: sum of the scores of its trajectories' frames; a frame in two windows counts twice.
        frames: number of these scores.
        embedding: (D,) sum of unit vectors; None: not known.
        last: the last frame.
    """

    identity: int
    votes: float = 0.0
    frames: int = 0
    embedding: np.ndarray | None = None
    last: int = -1

    @property
    def score(self) -> float:
        """The mean of the votes."""
        return self.votes / max(1, self.frames)


@dataclass(frozen=True)
class ChainFrame:
    """A chain in a frame.

    Attributes:
        frame: from 0.
        chain: its identity.
        logits: (h, w) float32, the mean over the windows that hold the frame.
        score: probability that the sentence means the object in this frame, the mean over the windows.
    """

    frame: int
    chain: int
    logits: np.ndarray
    score: float


@dataclass
class _Pending:
    logits: np.ndarray
    score: float
    count: int = 1


@dataclass
class Chains:
    """The chains of one sentence.

    Attributes:
        options: of the cutting and linking.
        chains: by identity.
    """

    options: WindowOptions
    chains: dict[int, Chain] = field(default_factory=dict)
    _next: int = 1
    _pending: dict[int, dict[int, _Pending]] = field(default_factory=dict)  # frame -> chain -> sums
    _given: int = 0  # frames before it were given out

    def add(self, found: Trajectories) -> list[int]:
        """Links the trajectories of the next window.

        Returns:
            K identities of chains.
        """
        identities = self._link(found)
        for k, identity in enumerate(identities):
            chain = self.chains.setdefault(identity, Chain(identity))
            chain.votes += float(found.scores[k].sum())
            chain.frames += found.scores.shape[1]
            chain.last = found.start + found.scores.shape[1] - 1
            if found.embeddings is not None and np.isfinite(found.embeddings[k]).all():
                chain.embedding = found.embeddings[k] + (0 if chain.embedding is None else chain.embedding)
            for v in range(found.scores.shape[1]):
                frame = found.start + v
                if frame >= self._given:
                    self._gather(frame, identity, found.logits[k, v], float(found.scores[k, v]))
        self._forget(found.start)
        return identities

    def give(self, before: int) -> Iterator[ChainFrame]:
        """The chains of frames that no later window holds, in order.

        Args:
            before: the first frame that a later window may hold.
        """
        for frame in sorted(number for number in self._pending if number < before):
            for identity, sums in sorted(self._pending.pop(frame).items()):
                yield ChainFrame(frame, identity, sums.logits / sums.count, sums.score / sums.count)
        self._given = max(self._given, before)

    def ranked(self) -> list[Chain]:
        """The chains, the best first: by votes / (frames + window), so that a chain of one window counts half."""
        return sorted(self.chains.values(), key=lambda c: (-c.votes / (c.frames + self.options.window), c.identity))

    def _gather(self, frame: int, identity: int, logits: np.ndarray, score: float) -> None:
        chains = self._pending.setdefault(frame, {})
        if identity in chains:
            sums = chains[identity]
            sums.logits, sums.score, sums.count = sums.logits + logits, sums.score + score, sums.count + 1
        else:
            chains[identity] = _Pending(logits, score)

    def _link(self, found: Trajectories) -> list[int]:
        """Identities of chains for the trajectories of a window: by masks, then by appearance, then new ones."""
        count = len(found.scores)
        shared = [v for v in range(found.scores.shape[1]) if found.start + v in self._pending]
        current = sorted({identity for v in shared for identity in self._pending[found.start + v]})
        overlap = np.zeros((count, len(current)))
        for c, identity in enumerate(current):
            both = [v for v in shared if identity in self._pending[found.start + v]]
            theirs = np.stack([self._pending[found.start + v][identity].logits > 0 for v in both])
            for k in range(count):
                ours = found.logits[k, both] > 0
                overlap[k, c] = (ours & theirs).sum() / max(1, (ours | theirs).sum())
        identities = _assigned(overlap, current, self.options.overlap_threshold, count)
        free = [k for k in range(count) if identities[k] is None]
        # A chain of the shared frames that overlaps nothing is another object: only earlier ones may come back.
        known = [c for c in self.chains.values() if c.embedding is not None and c.identity not in current]
        if free and known and found.embeddings is not None:
            gallery = np.stack([_unit(chain.embedding) for chain in known])
            cosines = np.nan_to_num(found.embeddings[free] @ gallery.T, nan=-1.0)
            names = [chain.identity for chain in known]
            linked = _assigned(cosines, names, self.options.appearance_threshold, len(free))
            for k, returned in zip(free, linked, strict=True):
                identities[k] = returned
        named = []
        for known_as in identities:
            named.append(self._next if known_as is None else known_as)
            self._next += known_as is None
        return named

    def _forget(self, start: int) -> None:
        """Keeps :data:`MAX_CHAINS`; those in the current window stay."""
        old = [chain for chain in self.ranked() if chain.last < start]
        for chain in old[max(0, MAX_CHAINS - (len(self.chains) - len(old))) :]:
            del self.chains[chain.identity]


def _unit(vector: np.ndarray | None) -> np.ndarray:
    assert vector is not None
    unit: np.ndarray = vector / max(float(np.linalg.norm(vector)), 1e-12)
    return unit


def _assigned(values: np.ndarray, names: Sequence[int], threshold: float, count: int) -> list[int | None]:
    """For each row the name of its column, by the best assignment among pairs that reach the threshold."""
    result: list[int | None] = [None] * count
    if values.size:
        allowed = values >= threshold
        for row, column in zip(*linear_sum_assignment(np.where(allowed, values, 0.0), maximize=True), strict=True):
            if allowed[row, column]:
                result[row] = names[column]
    return result
