"""The memory of masklets as arrays of numbers and text, which need no unpickling.

Entries are ``ID/prompted/NUMBER/FIELD`` and ``ID/ordinary/NUMBER/FIELD``; bfloat16 is kept as the uint16 of its bits.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from masa_track.errors import InputError
from masa_track.masklets.memory import Entry, ObjectMemory

_VERSION = 1
_TENSORS = ("mask", "pointer", "memory")  # fields of an entry
_KALMAN = ((8,), (8, 8), ())


def objects_to_arrays(objects: Mapping[int, ObjectMemory]) -> dict[str, np.ndarray]:
    """The memories of objects, by identity, as new arrays."""
    state = {"version": np.array(_VERSION), "ids": np.array(list(objects), np.int64)}
    for identity, memory in objects.items():
        for kind, entries in (("prompted", memory.prompted), ("ordinary", memory.ordinary)):
            state[f"{identity}/{kind}"] = np.array(list(entries), np.int64)
            for number, entry in entries.items():
                prefix = f"{identity}/{kind}/{number}"
                tensors = {name: getattr(entry, name) for name in _TENSORS}
                numbers = [entry.score, entry.quality, entry.area, entry.rival, entry.motion]
                numbers += [tensor is not None for tensor in tensors.values()]
                state[f"{prefix}/numbers"] = np.array(numbers, np.float64)
                for name, tensor in tensors.items():
                    if tensor is not None:
                        state[f"{prefix}/{name}"] = _to_array(tensor)
        state[f"{identity}/direction"] = np.array(list(memory.direction.items()), np.int64).reshape(-1, 2)
        state[f"{identity}/points"] = np.array(list(memory.points), np.int64)
        for number, (points, labels) in memory.points.items():
            state[f"{identity}/points/{number}"] = np.column_stack([points, labels]).astype(np.float32)
        state[f"{identity}/kalman"] = np.array(len(memory.kalman))
        for i, values in enumerate(memory.kalman):
            state[f"{identity}/kalman/{i}"] = np.array(values)
    return state


def arrays_to_objects(
    state: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]], device: torch.device
) -> dict[int, ObjectMemory]:
    """The memories of :func:`objects_to_arrays`, as copies.

    Args:
        state: the arrays; others may be among them.
        shapes: of the fields of an entry.
        device: of the tensors.

    Raises:
        InputError: an array is missing, or of another form or version.
    """
    try:
        if int(state["version"]) != _VERSION:
            raise InputError(f"the state is of version {state['version']}, not {_VERSION}")
        objects = {int(identity): _read(state, int(identity), shapes, device) for identity in state["ids"]}
        if len(objects) != len(state["ids"]):
            raise InputError(f"ids of the state must differ, got {state['ids'].tolist()}")
        return objects
    except InputError:
        raise
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"the state is not that of a masklet session ({error})") from error


def _read(
    state: Mapping[str, np.ndarray], identity: int, shapes: Mapping[str, tuple[int, ...]], device: torch.device
) -> ObjectMemory:
    memory = ObjectMemory()
    for kind, entries in (("prompted", memory.prompted), ("ordinary", memory.ordinary)):
        for number in state[f"{identity}/{kind}"]:
            prefix = f"{identity}/{kind}/{number}"
            score, quality, area, rival, motion, *present = (float(x) for x in state[f"{prefix}/numbers"])
            mask, pointer, stored = (
                _to_tensor(state[f"{prefix}/{name}"], f"{prefix}/{name}", shapes[name]).to(device) if there else None
                for name, there in zip(_TENSORS, present, strict=True)
            )
            entries[int(number)] = Entry(mask, pointer, score, quality, stored, int(area), bool(rival), motion)
    memory.direction = {int(number): bool(backwards) for number, backwards in state[f"{identity}/direction"]}
    for number in state[f"{identity}/points"]:
        rows = np.asarray(state[f"{identity}/points/{number}"])
        memory.points[int(number)] = rows[:, :2].astype(np.float32), rows[:, 2].astype(np.int64)
    for i in range(int(state[f"{identity}/kalman"])):
        memory.kalman += (np.array(state[f"{identity}/kalman/{i}"], np.float64).reshape(_KALMAN[i]),)
    return memory


def _to_array(tensor: Tensor) -> np.ndarray:
    """A copy of the tensor's values, or of the bits of bfloat16."""
    tensor = tensor.detach().cpu().contiguous()
    return (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy().copy()


def _to_tensor(array: np.ndarray, key: str, shape: tuple[int, ...]) -> Tensor:
    tensor = torch.from_numpy(np.array(array))
    if tuple(tensor.shape) != shape:
        raise InputError(f"{key} of the state must be {shape}, got {tuple(tensor.shape)}")
    return tensor.view(torch.bfloat16) if tensor.dtype == torch.uint16 else tensor
