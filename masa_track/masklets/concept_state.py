"""The state of :class:`masa_track.masklets.concepts.ConceptTracker` as arrays of numbers and text, without pickle."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import numpy as np

from masa_track.contracts import Frame
from masa_track.errors import InputError
from masa_track.masklets.concept_identities import Newborn
from masa_track.masklets.concept_logic import Masklet
from masa_track.masklets.concept_output import Shown, Waiting

_ROW = 12  # numbers of a waiting masklet: identity, probability, local score, place (4), box (4), bytes of its mask


def text(value: Any) -> np.ndarray:
    """A value that JSON takes, as an array of text."""
    return np.array(json.dumps(value, default=lambda number: number.item()))  # of numpy


def value_of(state: Mapping[str, np.ndarray], name: str) -> Any:
    """The value of :func:`text`."""
    return json.loads(str(state[name]))


def part(state: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """The entries that begin with ``name.``, without that."""
    return {key[len(name) + 1 :]: value for key, value in state.items() if key.startswith(f"{name}.")}


def named(name: str, state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The inverse of :func:`part`."""
    return {f"{name}.{key}": value for key, value in state.items()}


@contextmanager
def reading_state() -> Iterator[None]:
    """Errors of a state that is broken or another tracker's are InputErrors."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"state must be one of ConceptTracker.state_dict(), got another one ({type(error).__name__}: {error})"
        ) from error


def masklets_to_array(masklets: Mapping[int, Masklet]) -> np.ndarray:
    """Counters by identity, as text."""
    return text([[identity, {**asdict(one), "shared": list(one.shared.items())}] for identity, one in masklets.items()])


def masklets_of(state: Mapping[str, np.ndarray], name: str) -> dict[int, Masklet]:
    """Counters of :func:`masklets_to_array`."""
    return {
        int(identity): Masklet(**{**fields, "shared": dict(map(tuple, fields["shared"]))})
        for identity, fields in value_of(state, name)
    }


def waiting_to_arrays(waiting: Collection[Waiting]) -> dict[str, np.ndarray]:
    """Frames that were not given out, without their pictures."""
    state: dict[str, np.ndarray] = {}
    frames, rows, bits = [], [], [np.zeros(0, np.uint8)]
    for place, one in enumerate(waiting):
        extras = {name: value for name, value in one.extras.items() if name != "semantic"}
        state |= named(f"semantic.{place}", one.extras.get("semantic", {}))
        frame = one.frame
        about = {"number": frame.number, "time": frame.time, "size": frame.size, "name": frame.name}
        counts = [len(group) for group in one.shown]
        frames.append([about, one.number, one.size, one.presence, extras, one.cut, one.ended, counts])
        for group in one.shown:
            for shown in group:
                edges = [edge for side in shown.place for edge in (side.start, side.stop)]
                numbers = [shown.identity, shown.probability, shown.local_score, *edges, *shown.box, len(shown.bits)]
                rows.append(numbers)
                bits.append(shown.bits)
    return state | {
        "frames": text(frames),
        "rows": np.array(rows, np.float64).reshape(-1, _ROW),
        "bits": np.concatenate(bits),
    }


def waiting_of(state: Mapping[str, np.ndarray], masklets: Mapping[int, Masklet]) -> list[Waiting]:
    """The frames of :func:`waiting_to_arrays`; their pictures are to come again.

    Args:
        state: the arrays.
        masklets: the counters of all masklets that are in these frames.
    """
    rows = iter(np.asarray(state["rows"], np.float64).reshape(-1, _ROW))
    bits, at = np.array(state["bits"], np.uint8), 0

    def shown() -> Shown:
        nonlocal at
        identity, probability, local_score, *numbers = next(rows).tolist()
        top, bottom, left, right = map(int, numbers[:4])
        count = int(numbers[8])
        at += count
        if at > len(bits) or count != -(-(bottom - top) * (right - left) // 8):
            raise ValueError("a mask has other bytes than its box")
        place = slice(top, bottom), slice(left, right)
        own = masklets[int(identity)]
        return Shown(int(identity), own, probability, place, bits[at - count : at], np.array(numbers[4:8]), local_score)

    found = []
    for place, (about, number, size, presence, extras, cut, ended, counts) in enumerate(value_of(state, "frames")):
        frame = Frame(about["number"], about["time"], tuple(about["size"]), about["name"])
        if semantic := part(state, f"semantic.{place}"):
            extras["semantic"] = {name: np.array(value) for name, value in semantic.items()}
        groups = [[shown() for _ in range(count)] for count in counts]
        found.append(Waiting(frame, number, tuple(size), groups, presence, extras, cut, ended, again=True))
    return found


def newborn_to_arrays(newborn: Collection[Newborn]) -> dict[str, np.ndarray]:
    """Masklets whose identity is not decided."""
    about = [[one.masklet, one.label, one.since, one.present, one.frame, len(one.views)] for one in newborn]
    views = [view for one in newborn for view in one.views]
    return {"about": text(about), "views": np.array(views, np.float32).reshape(len(views), -1 if views else 0)}


def newborn_of(state: Mapping[str, np.ndarray]) -> dict[int, Newborn]:
    """Those of :func:`newborn_to_arrays`, by masklet."""
    views, at, found = np.array(state["views"], np.float32), 0, {}
    for masklet, label, since, present, frame, count in value_of(state, "about"):
        found[masklet] = Newborn(masklet, label, since, present, frame, list(views[at : at + count]))
        at += count
    return found


def exemplars_to_arrays(
    carried: Sequence[Sequence[Any]], arrays_of: Callable[[Any], Mapping[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """What the model made of the exemplars of each phrase."""
    state = {"counts": text([len(every) for every in carried])}
    for phrase, every in enumerate(carried):
        for place, one in enumerate(every):
            state |= named(f"{phrase}.{place}", arrays_of(one))
    return state


def exemplars_of(
    state: Mapping[str, np.ndarray], of_arrays: Callable[[Mapping[str, np.ndarray]], Any]
) -> list[list[Any]]:
    """Those of :func:`exemplars_to_arrays`."""
    return [
        [of_arrays(part(state, f"{phrase}.{place}")) for place in range(count)]
        for phrase, count in enumerate(value_of(state, "counts"))
    ]
