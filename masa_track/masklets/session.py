"""Masklets of a video by SAM 2 or EdgeTAM: prompts, propagation frame by frame, a memory that does not grow."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from masa_track.contracts import Features, Frame, MaskletFrame, Prompt
from masa_track.encoders.preprocessing import check_frame
from masa_track.errors import InputError
from masa_track.masklets.entries import (
    candidate,
    check_logits,
    entry_of_mask,
    network_points,
    picture_logits,
    shown,
    taken,
    with_logits,
    with_mask,
)
from masa_track.masklets.limits import free_memory
from masa_track.masklets.memory import Entry, ObjectMemory, find_policy
from masa_track.masklets.prompts import check_prompt
from masa_track.masklets.sam2 import CLAMP, Decoded, Maps, Sam2Network
from masa_track.masklets.states import arrays_to_objects, objects_to_arrays
from masa_track.masks import as_mask, mask_box

_Method = TypeVar("_Method", bound=Callable[..., Any])


@dataclass(frozen=True)
class SessionOptions:
    """How a session remembers.

    Attributes:
        bounded: drop what no later frame of the same pass needs. False: keep all, for clips that are propagated over
            several times, in both directions, and corrected in any frame.
        max_prompted_frames: prompted frames that are kept for an object where ``bounded``, 2 or more: the first and the
            last ones. The others become ordinary frames. While there are no more, results are bit for bit those
            without a limit.
        max_attended_prompts: prompted frames that a frame is compared with, 2 or more: the last before it, the first
            from it on, then the nearest. None: all that are kept. Officially ``max_cond_frames_in_attn``.
        clip_length: frames of a clip that is known as a whole; None: a stream. Object pointers of clips of less than
            16 frames are encoded otherwise than those of a stream, as officially.
        corrections_are_prompts: a frame that was corrected after it was propagated over is kept like a prompted frame.
            False, as officially: it stays an ordinary one. The correction of a prompted frame stays prompted in any
            case (the official code loses it).
        overlap: masks that are shown may overlap; otherwise each pixel is the object's with the largest logit.
        memory: which frames are remembered: ``official``, ``distractor``, ``motion`` or ``visible`` (that of SAM 3),
            see :mod:`masa_track.masklets.memory`.
        logits: give the logits of masks, too.
        batch: objects in a pass through the network; None: 4 on a CPU, where more gain nothing, 16 elsewhere.

    Raises:
        InputError: for a value outside its range.
    """

    bounded: bool = True
    max_prompted_frames: int = 8
    max_attended_prompts: int | None = None
    clip_length: int | None = None
    corrections_are_prompts: bool = False
    overlap: bool = False
    memory: str = "official"
    logits: bool = False
    batch: int | None = None

    def __post_init__(self) -> None:
        least = {"max_prompted_frames": 2, "max_attended_prompts": 2, "clip_length": 1, "batch": 1}
        for name, smallest in least.items():
            value = getattr(self, name)
            if value is None and name != "max_prompted_frames":
                continue
            if not isinstance(value, int) or value < smallest:
                raise InputError(f"{name} must be a whole number of {smallest} or more, got {value!r}")
        find_policy(self.memory)


@dataclass
class _Pending:
    """What the commit will write of one object.

    Attributes:
        entry: without a memory, unless it is already the object's.
        prompted: it is kept as a prompted frame.
        hard: the mask is made binary in the memory.
        points: (P, 2) and (P,) of this frame.
        decoded: the candidates of a prompt, (1, K) best first; None where there are none.
    """

    entry: Entry
    prompted: bool = False
    hard: bool = False
    points: tuple[np.ndarray, np.ndarray] | None = None
    decoded: Decoded | None = None


@dataclass
class _Current:
    """The frame that prompts are for."""

    number: int
    size: tuple[int, int]
    maps: Maps
    reverse: bool = False
    propagated: frozenset[int] = frozenset()
    pending: dict[int, _Pending] = field(default_factory=dict)


def _without_gradients(method: _Method) -> _Method:
    """Runs a method without gradients; its tensors are ordinary ones even inside of ``torch.inference_mode``."""

    @functools.wraps(method)
    def run(*args: Any, **kwargs: Any) -> Any:
        with torch.inference_mode(False), torch.no_grad():
            return method(*args, **kwargs)

    return cast(_Method, run)


class MaskletSession:
    """Propagates masks through a video: a :class:`~masa_track.contracts.MaskPropagator`.

    The image encoder runs once for each frame that is opened, whatever the number of objects and prompts. Frame numbers
    count the frames of the video: neighbours differ by 1.

    Args:
        network: SAM 2 or EdgeTAM; several sessions may share it.
        options: how to remember.

    Example:
        >>> session = MaskletSession(load_network("sam2.1-hiera-tiny"))  # doctest: +SKIP
        >>> session.open(frames[0])  # doctest: +SKIP
        >>> session.prompt(7, Prompt(box=np.array([10, 20, 60, 90])))  # doctest: +SKIP
        >>> session.commit()  # doctest: +SKIP
        >>> for masklets in session.propagate(frames[1:]):  # doctest: +SKIP
        ...     print(masklets.ids, masklets.object_logits)
    """

    def __init__(self, network: Sam2Network, options: SessionOptions | None = None) -> None:
        self.network = network
        self.options = options or SessionOptions()
        self._policy = find_policy(self.options.memory)
        self._objects: dict[int, ObjectMemory] = {}
        self._current: _Current | None = None
        self._encoded: tuple[int, np.ndarray | None, Maps] | None = None  # of the frame that was opened last
        most, length = network.most_pointers, self.options.clip_length
        self._pointers = most if length is None else min(length, most)
        self._batch = self.options.batch or (4 if network.device.type == "cpu" else 16)

    @property
    def ids(self) -> list[int]:
        """The objects in memory, ascending."""
        return sorted(self._objects)

    # ---- frames

    @_without_gradients
    def encode(self, images: Sequence[np.ndarray]) -> list[Features]:
        """Runs the image encoder, once for each (H, W, 3) BGR uint8 picture.

        Raises:
            InputError: for a picture of another form.
        """
        for image in images:
            check_frame(image)
        return [
            Features(
                self.network.key, (image.shape[1], image.shape[0]), self.network.encode(self.network.prepare(image))
            )
            for image in images
        ]

    @_without_gradients
    def open(self, frame: Frame, features: Features | None = None) -> None:
        """Makes a frame the one that prompts are for, without propagating anything to it.

        What was prompted or proposed in another frame and not committed is dropped.

        Args:
            frame: its picture may be missing where features are given.
            features: of its picture, by :meth:`encode`.

        Raises:
            InputError: the frame has no picture, or one that cannot be used, or the features are another model's.
        """
        number = frame.number
        if features is None:
            check_frame(frame.picture)
        else:
            features.check(self.network.key, frame.image)
        length = self.options.clip_length
        if number < 1 or (length is not None and number > length):
            rule = "1 or more" if length is None else f"1 to {length}, the clip's frames"
            raise InputError(f"number of a frame must be {rule}, got {number}")
        if features is not None:
            size, maps = features.size, features.data
        else:
            size, known = (frame.picture.shape[1], frame.picture.shape[0]), self._encoded
            if known is not None and known[0] == number and known[1] is frame.image:
                maps = known[2]
            else:
                maps = self._encode(frame.picture)
        current = self._current
        if current is None or current.number != number or current.maps is not maps:
            self._current = _Current(number, size, maps)
        self._encoded = number, frame.image, maps

    def _encode(self, image: np.ndarray) -> Maps:
        return self.network.encode(self.network.prepare(image))

    @_without_gradients
    def propose(self, frame: Frame, features: Features | None = None, *, reverse: bool = False) -> MaskletFrame:
        """The masks of all objects in a frame. The memory does not change before :meth:`commit`.

        Args:
            frame: as of :meth:`open`.
            features: as of :meth:`open`.
            reverse: the pass goes backwards: later frames are the past.

        Returns:
            Masks, of :attr:`ids`. Objects that were prompted in this frame have the mask of the prompt.

        Raises:
            InputError: as :meth:`open`.
        """
        self.open(frame, features)
        current = self._opened()
        pending: dict[int, _Pending] = {}
        todo = []
        for identity in self.ids:
            entry = self._objects[identity].prompted.get(current.number)
            if entry is None:
                todo.append(identity)
            else:
                pending[identity] = _Pending(entry, prompted=True)
        many = bool(self.network.model.config.multimask_output_for_tracking)
        for group in self._groups(todo):
            seen = self._seen(current.maps, [self._objects[i] for i in group], current.number, reverse)
            decoded = self.network.decode(current.maps, seen, many)
            for row, identity in enumerate(group):
                pending[identity] = _Pending(taken(decoded, row, self._policy, self._objects[identity]))
        current.pending, current.reverse = pending, reverse
        current.propagated = frozenset(pending)
        return self.current()

    def propagate(self, frames: Iterable[Frame], *, reverse: bool = False) -> Iterator[MaskletFrame]:
        """Proposes and commits frame by frame.

        Args:
            frames: in the order of the pass.
            reverse: they come backwards.

        Yields:
            The masks of each frame.

        Raises:
            InputError: as :meth:`open`.
        """
        for frame in frames:
            found = self.propose(frame, reverse=reverse)
            self.commit()
            yield found

    @_without_gradients
    def current(self) -> MaskletFrame:
        """The masks that :meth:`commit` would write.

        Raises:
            InputError: no frame is open.
        """
        current = self._opened()
        ids = sorted(current.pending)
        return self._shown(ids, [current.pending[i].entry for i in ids], self.options.overlap)

    # ---- prompts

    @_without_gradients
    def prompt(self, identity: int, prompt: Prompt, candidates: bool = False) -> MaskletFrame:
        """Starts an object in the open frame, or corrects its mask there.

        A frame that was not propagated over for this object is decoded without its memory. Otherwise its memory is
        used, and its earlier mask and points in this frame count as well, unless ``prompt.clear``.

        Args:
            identity: 0 or more.
            prompt: in pixels of the picture. A box reaching out of the picture is cut at its border.
            candidates: return all masks that the decoder made, best first: three for a single click, otherwise one.
                :meth:`choose` takes another one than the first.

        Raises:
            InputError: no frame is open, or the prompt cannot be used; nothing has changed then.
        """
        current = self._opened()
        if isinstance(identity, bool) or not isinstance(identity, (int, np.integer)) or identity < 0:
            raise InputError(f"identity must be a whole number of 0 or more, got {identity!r}")
        identity = int(identity)
        memory = self._objects.get(identity) or ObjectMemory()
        pending, number = current.pending.get(identity), current.number
        propagated = identity in current.propagated or number in memory.direction
        prompted = not propagated or self.options.corrections_are_prompts or number in memory.prompted
        prompt = check_prompt(prompt, current.size)
        if prompt.mask is not None:
            mask = torch.from_numpy(prompt.mask).to(self.network.device)
            made = _Pending(entry_of_mask(self.network, current.maps, mask), prompted, hard=True)
            current.pending[identity] = made
            return self._shown([identity], [made.entry])
        earlier = memory.points.get(number) if pending is None or pending.points is None else pending.points
        before = pending.entry if pending is not None else memory.at(number)
        if prompt.clear:
            earlier = before = None
        points, labels = network_points(prompt, current.size, self.network.side)
        if earlier is not None:
            if prompt.box is not None:
                raise InputError(
                    f"prompt.box must come before the points of object {identity} in frame {number}: set clear=True"
                )
            points, labels = np.concatenate([earlier[0], points]), np.concatenate([earlier[1], labels])
        logits = None
        if before is not None:
            if before.mask is None:
                raise InputError(
                    f"frame {number} cannot be corrected, because its mask was deleted: correct a frame before the "
                    "next one is committed, or open the session with bounded=False"
                )
            logits = before.mask[None, None].clamp(-CLAMP, CLAMP)
        direction = current.reverse if identity in current.propagated else memory.direction.get(number, False)
        if propagated:
            seen = self._seen(current.maps, [memory], number, direction)
        else:
            seen = self.network.unconditioned(current.maps)
        device = self.network.device
        given = torch.from_numpy(points).to(device)[None], torch.from_numpy(labels).to(device)[None]
        decoded = self.network.decode(current.maps, seen, len(labels) in self.network.many_for, given, logits)
        order = decoded.qualities[0].argsort(descending=True, stable=True)
        decoded = Decoded(
            decoded.masks[:, order], decoded.qualities[:, order], decoded.pointers[:, order], decoded.scores
        )
        entry = taken(decoded, 0, self._policy, None)
        current.pending[identity] = _Pending(entry, prompted, True, (points, labels), decoded)
        if not candidates:
            return self._shown([identity], [entry])
        every = [candidate(decoded, 0, k) for k in range(decoded.masks.shape[1])]
        return self._shown([identity] * len(every), every)

    @_without_gradients
    def choose(self, identity: int, index: int) -> MaskletFrame:
        """Takes another candidate of the last prompt than the best.

        Args:
            identity: that was prompted with points or a box in the open frame, and is not committed.
            index: row of what ``prompt(..., candidates=True)`` returned.

        Raises:
            InputError: there is no such candidate.
        """
        pending = self._opened().pending.get(identity)
        decoded = pending.decoded if pending is not None else None
        count = 0 if decoded is None else decoded.masks.shape[1]
        if pending is None or decoded is None or not 0 <= index < count:
            raise InputError(
                f"candidate of object {identity} must be one of the {count} of its last prompt, got {index}"
            )
        pending.entry = candidate(decoded, 0, index)
        return self._shown([identity], [pending.entry])

    @_without_gradients
    def forget(self, identity: int) -> None:
        """Removes an object; the others are as they were.

        Raises:
            InputError: there is no such object.
        """
        pending = self._current.pending if self._current is not None else {}
        if identity not in self._objects and identity not in pending:
            raise InputError(f"there is no object {identity} to forget: known are {self.ids}")
        self._objects.pop(identity, None)
        pending.pop(identity, None)
        if self._current is not None:
            self._current.propagated -= {identity}

    # ---- memory

    @_without_gradients
    def commit(self, masks: Mapping[int, Any] | None = None) -> None:
        """Writes what was proposed and prompted in the open frame to the memory.

        Args:
            masks: by identity, (H, W) bool or RLE, instead of the proposed ones. Logits change only where such a mask
                differs from the proposed one; an empty mask makes the object absent in this frame. Or (h, w) float
                logits of any resolution, which are taken as they are; the object is absent where none is above 0.

        The frame is closed then; :meth:`open` opens it again, for a correction.

        Raises:
            InputError: no frame is open, or a mask cannot be used; the memory is as it was then.
        """
        current = self._opened()
        pending = dict(current.pending)
        for identity, mask in (masks or {}).items():
            if identity not in pending:
                raise InputError(f"masks must have identities of the open frame, {sorted(pending)}, got {identity}")
            if getattr(mask, "dtype", np.dtype(bool)).kind == "f":
                logits = check_logits(mask, f"masks[{identity}]")
                entry = with_logits(pending[identity].entry, torch.from_numpy(logits).to(self.network.device))
                pending[identity] = replace(pending[identity], entry=entry)
                continue
            given = as_mask(mask, current.size, f"masks[{identity}]")
            entry = with_mask(
                pending[identity].entry, torch.from_numpy(given).to(self.network.device), self.network, current.maps
            )
            hard = pending[identity].hard or (pending[identity].entry.score <= 0 < entry.score)
            pending[identity] = replace(pending[identity], entry=entry, hard=hard)
        todo = sorted(i for i, p in pending.items() if p.entry.memory is None)
        for group in self._groups(todo):
            entries = [pending[i].entry for i in group]
            memories = self.network.memorise(
                current.maps,
                torch.stack([entry.mask for entry in entries]),
                torch.tensor([pending[i].hard for i in group], device=self.network.device),
                torch.tensor([entry.score for entry in entries], device=self.network.device),
            )
            for identity, entry, found in zip(group, entries, memories, strict=True):
                pending[identity] = replace(pending[identity], entry=replace(entry, memory=found.clone()))
        objects = dict(self._objects)
        for identity in sorted(pending):
            memory = objects[identity].copy() if identity in objects else ObjectMemory()
            self._write(memory, pending[identity], current, identity in current.propagated)
            objects[identity] = memory
        self._objects, self._current = objects, None

    def _write(self, memory: ObjectMemory, made: _Pending, current: _Current, propagated: bool) -> None:
        """Writes one object's frame to its memory, and drops what is not needed any more."""
        number, entry = current.number, made.entry
        if made.prompted:
            memory.prompted[number] = entry
            memory.ordinary.pop(number, None)
        else:
            memory.ordinary[number] = entry
        if made.points is not None:
            memory.points[number] = made.points
        elif made.hard:
            memory.points.pop(number, None)  # a mask replaces them
        if propagated:
            memory.direction[number] = current.reverse
        if self._policy.wants_candidates:
            box = mask_box((entry.mask > 0).cpu().numpy()) if entry.score > 0 else None
            self._policy.committed(memory, entry, box)
            if not made.prompted and self._policy.becomes_prompted(memory, number, entry):
                memory.prompted[number] = memory.ordinary.pop(number)
        if self.options.bounded:
            self._prune(memory, number)

    def _prune(self, memory: ObjectMemory, number: int) -> None:
        """Drops what no frame after ``number`` needs, and prompted frames beyond the limit."""
        while len(memory.prompted) > self.options.max_prompted_frames:
            oldest = list(memory.prompted)[1]
            memory.ordinary.setdefault(oldest, memory.prompted.pop(oldest))
        needed, kept = self._policy.needed(memory.ordinary, number), {}
        for n, entry in memory.ordinary.items():
            if n in needed:
                kept[n] = replace(
                    entry,
                    mask=entry.mask if n == number else None,
                    memory=entry.memory if needed[n] else None,
                )
        memory.ordinary = kept
        known = {*memory.prompted, *kept}
        memory.direction = {n: backwards for n, backwards in memory.direction.items() if n in known}
        memory.points = {n: points for n, points in memory.points.items() if n in memory.prompted or n == number}

    @_without_gradients
    def logits(self, identity: int, number: int | None = None) -> np.ndarray:
        """(H, W) float32 log-odds of an object's mask in the picture, before overlaps are resolved.

        Args:
            identity: of the object.
            number: of a frame in memory; None: the open one, with what is not committed.

        Raises:
            InputError: there is no such object or frame.
        """
        mask = self.entry(identity, number).mask
        if mask is None:
            raise InputError(f"the mask of object {identity} in frame {number} was deleted: open with bounded=False")
        return picture_logits(mask, self._opened().size).cpu().numpy()

    def entry(self, identity: int, number: int | None = None) -> Entry:
        """What is known of an object in a frame; arguments and errors as of :meth:`logits`. Change nothing in it."""
        found: Entry | None = None
        if number is None or (self._current is not None and number == self._current.number):
            current = self._opened()
            number = current.number
            found = current.pending[identity].entry if identity in current.pending else None
        if found is None and identity in self._objects:
            found = self._objects[identity].at(number)
        if found is None:
            raise InputError(f"there is no object {identity} in frame {number}: known are {self.ids}")
        return found

    def is_prompted(self, identity: int, number: int | None = None) -> bool:
        """Whether a frame is kept as a prompted one; arguments and errors as of :meth:`logits`."""
        self.entry(identity, number)
        current = self._current
        if current is not None and number in (None, current.number):
            if identity in current.pending:
                return current.pending[identity].prompted
            number = current.number
        return number in self._objects[identity].prompted

    def memory_bytes(self) -> int:
        """Bytes of the memory of all objects, on the network's device."""
        tensors = [
            tensor
            for memory in self._objects.values()
            for entry in memory.entries()
            for tensor in (entry.mask, entry.pointer, entry.memory)
            if tensor is not None
        ]
        return sum({t.data_ptr(): t.numel() * t.element_size() for t in tensors}.values())

    def most_bytes_per_object(self) -> int:
        """The most bytes that the memory of one object takes in a bounded session."""
        policy, network = self._policy, self.network
        memory = network.memory_positions.numel() * torch.empty(0, dtype=network.memory_dtype).element_size()
        mask, pointer = network.mask_side**2 * 4, network.no_object_pointer.numel() * 4
        prompted = self.options.max_prompted_frames
        return (
            prompted * (memory + mask + pointer)
            + (policy.memory_frames + 1) * memory
            + (policy.pointer_frames + 1) * pointer
            + mask
        )

    def free_bytes(self) -> int | None:
        """Free memory of the GPU, or of the computer; None where the system does not say it."""
        device = self.network.device
        return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory()

    def reset(self) -> None:
        """Forgets everything, for another video."""
        self._objects, self._current, self._encoded = {}, None, None

    def state_dict(self) -> dict[str, np.ndarray]:
        """The memory as arrays of numbers and text, which need no unpickling. The open frame is not part of it."""
        return {"session": np.array(self._signature()), **objects_to_arrays(self._objects)}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Takes over the memory of a session with the same network and options; the open frame is dropped.

        Raises:
            InputError: the state does not fit; the memory is as it was then.
        """
        signature = str(np.asarray(state.get("session", "")))
        if signature != self._signature():
            raise InputError(f"the state is of a session with {signature or 'nothing'}, not with {self._signature()}")
        network, side = self.network, self.network.mask_side
        shapes = {
            "mask": (side, side),
            "pointer": tuple(network.no_object_pointer.shape),
            "memory": tuple(network.memory_positions.shape),
        }
        self._objects, self._current = arrays_to_objects(state, shapes, network.device), None

    def _signature(self) -> str:
        """What a state must agree in: the network and the options; the batch makes no difference."""
        options = {name: value for name, value in asdict(self.options).items() if name != "batch"}
        return json.dumps({"network": self.network.key, **options}, sort_keys=True)

    # ---- parts

    def _shown(self, ids: list[int], entries: list[Entry], overlap: bool = True) -> MaskletFrame:
        return shown(
            ids, entries, self._opened().size, overlap, self.network.mask_side if self.options.logits else None
        )

    def _opened(self) -> _Current:
        if self._current is None:
            raise InputError("no frame is open: call propose(frame), or open(frame) for prompts alone")
        return self._current

    def _groups(self, ids: list[int]) -> Iterator[list[int]]:
        for start in range(0, len(ids), self._batch):
            yield ids[start : start + self._batch]

    def _seen(self, maps: Maps, memories: list[ObjectMemory], number: int, reverse: bool) -> Tensor:
        """(N, C, S / 16, S / 16), the frame as seen with each object's memory."""
        selections = [
            self._policy.select(
                memory, number, reverse, self._pointers, self.options.clip_length, self.options.max_attended_prompts
            )
            for memory in memories
        ]
        return self.network.condition(maps, selections, self._pointers)
