"""All that changes from frame to frame in the engine of ``default``."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field, fields, replace
from typing import Any, cast

import numpy as np

from masa_track.association.evidence import kalman
from masa_track.association.evidence.appearance import FittedEvidence, LearnedEvidence
from masa_track.association.evidence.detection_probability import DetectionProbability
from masa_track.association.evidence.memory import FusedMemory
from masa_track.association.evidence.speeds import FACTORS
from masa_track.association.evidence.undone_cuts import BeforeCut

# IDF1: off -.015, half -.003, double -.010
COMMON_TRUST = 40.0  # objects that must be seen before half of their mean embedding is taken away
_NUMBERS = (
    *("next_id", "last_number", "last_time", "size", "extent", "cuts", "cut_at"),
    *("embedding_sum", "embedding_count", "predictions"),
    *("newcomers", "started", "intervals"),
)


@dataclass
class State:
    """All that changes from frame to frame. An update works on a copy, which replaces the state when it is complete.

    Attributes:
        memory: the tracks; None before the first detection.
        appearance: what cosines mean in this video.
        detection_probability: how often tracks are detected.
        next_id: the next identity.
        last_number: number of the last frame; None before the first.
        last_time: its time in seconds; None before the first.
        size: (width, height) of the last picture, where it was given.
        extent: (4,) xyxy, the part of the picture where detections have been, at least.
        cuts: number of cuts so far.
        cut_at: time of the last one, seconds.
        embedding_sum: (D,) sum of the first embeddings of all tracks, and
        embedding_count: their number.
        alike: log-odds by class that its objects look the same, see
            :mod:`~masa_track.association.evidence.returns`; classes without an entry have not been seen together.
        newcomers: how many objects entered the picture, after the first frame.
        started: time of the first frame, seconds.
        intervals: (K,) seconds between the last frames, 30 at most.
        before_cut: the tracks before a cut that may be undone; None where there is none.
        predictions: (B,) how well each filter predicts, see :mod:`~masa_track.association.evidence.speeds`.
    """

    appearance: FittedEvidence | LearnedEvidence
    next_id: int
    detection_probability: DetectionProbability = field(default_factory=DetectionProbability)
    memory: FusedMemory | None = None
    last_number: float | None = None
    last_time: float | None = None
    size: tuple[int, int] | None = None
    extent: np.ndarray = field(default_factory=lambda: np.array([np.inf, np.inf, -np.inf, -np.inf]))
    cuts: int = 0
    cut_at: float = -np.inf
    embedding_sum: np.ndarray | None = None
    embedding_count: int = 0
    alike: dict[int, float] = field(default_factory=dict)
    newcomers: float = 0.0
    started: float | None = None
    intervals: np.ndarray = field(default_factory=lambda: np.zeros(0))
    before_cut: BeforeCut | None = None
    predictions: np.ndarray = field(default_factory=lambda: np.zeros(len(FACTORS)))

    def copy(self) -> State:
        """A state whose changes leave this one as it is."""
        memory = None if self.memory is None else self.memory.copy()
        return replace(
            self,
            memory=memory,
            detection_probability=copy(self.detection_probability),
            extent=self.extent.copy(),
        )


def state_arrays(state: State) -> dict[str, Any]:
    """The state as arrays by name; None for what is not there."""
    arrays: dict[str, Any] = {name: getattr(state, name) for name in _NUMBERS}
    parts: dict[str, Mapping[str, Any]] = {
        "appearance": learned_arrays(state.appearance),
        "detection_probability": state.detection_probability.state_dict(),
        "alike": {"labels": np.array(list(state.alike), np.int64), "odds": np.array(list(state.alike.values()))},
        "before_cut": {} if state.before_cut is None else vars(state.before_cut),
        "memory": {} if state.memory is None else state.memory.state_dict(),
    }
    return arrays | {f"{part}.{name}": value for part, of in parts.items() for name, value in of.items()}


def state_of(
    arrays: Mapping[str, np.ndarray], fresh: FittedEvidence | LearnedEvidence, shown: kalman.MotionNoise
) -> State:
    """The state of :func:`state_arrays`.

    Args:
        arrays: by name.
        fresh: the appearance evidence of an engine that has seen nothing.
        shown: of the filter for boxes that are shown.

    Raises:
        LookupError, ValueError, TypeError: where the arrays do not fit.
    """

    def part(name: str) -> dict[str, np.ndarray]:
        length = len(name) + 1
        return {key[length:]: value for key, value in arrays.items() if key.startswith(f"{name}.")}

    memory = part("memory")
    numbers = {name: arrays[name] for name in _NUMBERS if name in arrays}
    return State(
        appearance=learned_of(part("appearance"), fresh),
        detection_probability=DetectionProbability.of_state(part("detection_probability")),
        memory=FusedMemory.of_state(memory, shown) if memory else None,
        next_id=int(arrays["next_id"]),
        last_number=float(numbers["last_number"]) if "last_number" in numbers else None,
        last_time=float(numbers["last_time"]) if "last_time" in numbers else None,
        size=(int(numbers["size"][0]), int(numbers["size"][1])) if "size" in numbers else None,
        extent=np.array(arrays["extent"], np.float64).reshape(4),
        cuts=int(arrays["cuts"]),
        cut_at=float(arrays["cut_at"]),
        embedding_sum=np.array(numbers["embedding_sum"], np.float64) if "embedding_sum" in numbers else None,
        embedding_count=int(arrays["embedding_count"]),
        alike=dict(zip(arrays["alike.labels"].tolist(), arrays["alike.odds"].tolist(), strict=True)),
        newcomers=float(arrays["newcomers"]),
        started=float(numbers["started"]) if "started" in numbers else None,
        intervals=np.array(arrays["intervals"], np.float64),
        before_cut=_before_cut(part("before_cut")),
        predictions=np.array(arrays["predictions"], np.float64).reshape(len(FACTORS)),
    )


def _before_cut(arrays: Mapping[str, np.ndarray]) -> BeforeCut | None:
    if not arrays:
        return None
    ids, count = np.array(arrays["ids"], np.int64), len(arrays["ids"])
    filters = np.array(arrays["filters"], np.float64).reshape(count, len(FACTORS), 8)
    covariances = np.array(arrays["covariances"], np.float64).reshape(count, len(FACTORS), 3, 4)
    predictions = np.array(arrays["predictions"], np.float64).reshape(count, len(FACTORS))
    return BeforeCut(float(arrays["at"]), float(arrays["cut_at"]), ids, filters, covariances, predictions)


def learned_arrays(evidence: FittedEvidence | LearnedEvidence) -> dict[str, np.ndarray]:
    """What was learned of appearance in a video, by name."""
    return {name: getattr(evidence, name) for name in _arrays_of(evidence)}


def learned_of(
    arrays: Mapping[str, np.ndarray], fresh: FittedEvidence | LearnedEvidence
) -> FittedEvidence | LearnedEvidence:
    """The evidence of :func:`learned_arrays`; raises LookupError, ValueError or TypeError where they do not fit.

    Args:
        arrays: by name.
        fresh: the evidence of one that has seen nothing.
    """
    names = _arrays_of(fresh)
    learned = {name: np.array(arrays[name], getattr(fresh, name).dtype) for name in names if name in arrays}
    if learned.keys() != set(names):
        raise LookupError("what was learned of appearance is missing")
    return replace(fresh, **cast(Any, learned))


def _arrays_of(evidence: FittedEvidence | LearnedEvidence) -> list[str]:
    return [each.name for each in fields(evidence) if isinstance(getattr(evidence, each.name), np.ndarray)]


def common_appearance(state: State) -> np.ndarray:
    """(D,) float32: what all objects of this video have in common, the less the fewer have been seen."""
    assert state.embedding_sum is not None
    return np.asarray(state.embedding_sum / (state.embedding_count + COMMON_TRUST), np.float32)


def widen(extent: np.ndarray, boxes: np.ndarray, size: tuple[int, int] | None) -> None:
    """Widens the known part of the picture (4,) xyxy by boxes (N, 4), in place."""
    if size is not None:
        extent[:] = [0.0, 0.0, *size]
    extent[:2] = np.minimum(extent[:2], boxes[:, :2].min(axis=0))
    extent[2:] = np.maximum(extent[2:], boxes[:, 2:].max(axis=0))


def area_of(extent: np.ndarray) -> float:
    """Pixels² of xyxy (4,), 1 at least."""
    return max(float(np.prod(extent[2:] - extent[:2])), 1.0)
