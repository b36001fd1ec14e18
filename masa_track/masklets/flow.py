"""Propagates masks by optical flow, colour and motion: no weights, no network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np

from masa_track.contracts import Features, Frame, MaskletFrame, Prompt
from masa_track.encoders.preprocessing import check_frame
from masa_track.errors import InputError
from masa_track.masklets import appearance, motion
from masa_track.masklets.cleanup import exclusive, guided_filter, owned_masks, without_small_pieces
from masa_track.masklets.limits import free_memory
from masa_track.masklets.prompts import check_prompt, masks_of_prompt
from masa_track.masks import as_mask, compact_masks

STATE_VERSION = 1
# Weights of the log-odds of a pixel, chosen on six clips of DAVIS (tools/bench_masklets.py).
_PROMPTED, _RECENT, _MOTION = 0.4, 0.7, 0.7
_SHARPNESS = 0.8  # the sum of the log-odds times this: they are not independent
_DECAY = 0.9  # share of the recent colours that a frame keeps
_RING = 24  # pixels of the working size around the object in which motion is compared
_NEAR = 64  # pixels of the working size around the expected object that are looked at
_GUIDE_RADIUS, _GUIDE_EPSILON = 4, 3e-4
_AREA_RATE = 0.1  # weight of a frame in the reference area
_LEAST_AREA = 0.1  # of the reference area: log-odds 0 of being visible
_FOUND_AREA = 0.25  # of the reference area: an object that was lost must be so large to be found again
_FOUND_COLOUR = 0.7  # mean probability by colour and position that it must reach then
_MOST_PIECES = 3  # that are tried then


@dataclass(frozen=True)
class _Memory:
    """What is remembered of one object; arrays are replaced, never changed.

    Attributes:
        probability: (h, w) float32, of each pixel in the last frame; all 0 where the object was not visible.
        around: (4,) float64, its extent when it was last visible.
        prompted: (2, *SHAPE) float32, mean histograms of the prompted frames, and how many these were.
        recent: (2, *SHAPE) float32, of recent frames, weighted by ``_DECAY`` to the power of their age.
        area: mean area when it was visible, pixels of the working size.
    """

    probability: np.ndarray
    around: np.ndarray
    prompted: np.ndarray
    prompts: int
    recent: np.ndarray
    area: float

    def resized(self, shape: tuple[int, int], factor: np.ndarray) -> _Memory:
        """The same for another working size (h, w), larger by ``factor`` (2,) along x and y."""
        probability = cv2.resize(self.probability, shape[::-1], interpolation=cv2.INTER_LINEAR)
        around = self.around * np.tile(factor, 2)
        return replace(self, probability=probability, around=around, area=float(self.area * factor.prod()))

    def nbytes(self) -> int:
        """Bytes of its arrays."""
        return self.probability.nbytes + self.around.nbytes + self.prompted.nbytes + self.recent.nbytes


@dataclass
class _Proposal:
    """A frame that is not committed.

    Attributes:
        size: (width, height) of the frame.
        image: (h, w, 3) uint8 BGR at the working size; lab: the same as L, a, b.
        memories: those before this frame, at this working size.
        probabilities: (h, w) float32 by identity; those of several objects may overlap.
        logits: of visibility, by identity.
        quality: expected IoU, by identity.
        prompted: identities with a prompt in this frame.
    """

    size: tuple[int, int]
    image: np.ndarray
    lab: np.ndarray
    memories: dict[int, _Memory]
    probabilities: dict[int, np.ndarray] = field(default_factory=dict)
    logits: dict[int, float] = field(default_factory=dict)
    quality: dict[int, float] = field(default_factory=dict)
    prompted: frozenset[int] = frozenset()


class FlowPropagator:
    """Masks of several objects, carried from frame to frame by optical flow and corrected by colour and motion.

    The log-odds of a pixel are the sum of those of the last mask, moved by dense inverse search flow and weighted by
    how far forward and backward flow agree; of the object's colours by position in the prompted and in the recent
    frames against those of its surroundings; and of the pixel's motion, relative to the background's, against that of
    the ring around the object. A guided filter moves borders to edges of the picture. Objects compete for pixels.

    An object whose area falls below a tenth of what it had, or whose colours do not fit, is not visible (log-odds
    below 0, empty mask). It is then searched in the whole picture by its colours.

    Implements :class:`masa_track.contracts.MaskPropagator`. Its memory does not grow with the video.

    Args:
        working_side: the longer side of the pictures that it works on, pixels; smaller pictures stay as they are.

    Raises:
        InputError: ``working_side`` is below 32.
    """

    def __init__(self, working_side: int = 427) -> None:
        if working_side < 32:
            raise InputError(f"working_side must be at least 32 pixels, got {working_side!r}")
        self.working_side = int(working_side)
        self._flow = motion.DenseFlow()
        self.reset()

    def reset(self) -> None:
        """Forgets everything, for another video."""
        self._image: np.ndarray | None = None
        self._memories: dict[int, _Memory] = {}
        self._proposal: _Proposal | None = None

    def propose(self, frame: Frame, features: Features | None = None) -> MaskletFrame:
        """The masks of all objects in a frame; see :meth:`masa_track.contracts.MaskPropagator.propose`.

        Args:
            frame: with its picture.
            features: are not used.
        """
        picture = frame.picture
        check_frame(picture)
        height, width = picture.shape[:2]
        scale = min(1.0, self.working_side / max(height, width))
        shape = max(1, round(height * scale)), max(1, round(width * scale))
        image = cv2.resize(picture, shape[::-1], interpolation=cv2.INTER_AREA)
        proposal = _Proposal((width, height), image, appearance.to_lab(image), self._memories)
        if self._memories and self._image is not None:
            last = self._image
            if last.shape != image.shape:
                factor = np.array(shape[::-1]) / np.array(last.shape[1::-1])
                last = cv2.resize(last, shape[::-1], interpolation=cv2.INTER_AREA)
                proposal.memories = {k: memory.resized(shape, factor) for k, memory in self._memories.items()}
            self._propagate(proposal, last)
        self._proposal = proposal
        return _shown(proposal, sorted(proposal.probabilities))

    def prompt(self, identity: int, prompt: Prompt, candidates: bool = False) -> MaskletFrame:
        """Starts an object, or corrects its mask; see :meth:`masa_track.contracts.MaskPropagator.prompt`.

        A box becomes a mask by GrabCut. Points alone become one by GrabCut from discs of several sizes around them;
        where the object has a mask in this frame, they change what is near and connected to them.
        """
        proposal = self._proposed("prompt")
        if identity < 0:
            raise InputError(f"identity must be 0 or more, got {identity!r}")
        prompt = check_prompt(prompt, proposal.size)
        shape = proposal.image.shape[:2]
        if prompt.mask is not None:
            made = [cv2.resize(prompt.mask.astype(np.float32), shape[::-1], interpolation=cv2.INTER_AREA)]
            qualities = [1.0]
        else:
            before = None if prompt.clear else proposal.probabilities.get(identity)
            scaled = _scaled(prompt, np.array(shape[::-1]) / np.array(proposal.size))
            masks = masks_of_prompt(proposal.image, scaled, None if before is None else before > 0.5)
            made = [mask.astype(np.float32) for mask in masks]
            qualities = [_separability(proposal.lab, probability) for probability in made]
            if prompt.box is None:  # a point alone can mean a part or the whole: the one that stands out is taken
                order = np.argsort(qualities, kind="stable")[::-1]
                made, qualities = [made[k] for k in order], [qualities[k] for k in order]
        best = made[0]
        logit = 10.0 if (best > 0.5).any() else -10.0
        shown = None
        if candidates:
            shown = _frame(
                np.full(len(made), identity), np.array(made), [logit] * len(made), qualities, proposal.size, False
            )
        changed = replace(
            proposal,
            probabilities={**proposal.probabilities, identity: best},
            logits={**proposal.logits, identity: logit},
            quality={**proposal.quality, identity: qualities[0]},
            prompted=proposal.prompted | {identity},
        )
        shown = shown or _shown(changed, [identity])
        self._proposal = changed
        return shown

    def commit(self, masks: Mapping[int, Any] | None = None) -> None:
        """Writes the proposed frame to the memory; see :meth:`masa_track.contracts.MaskPropagator.commit`."""
        proposal = self._proposed("commit")
        ids = sorted(proposal.probabilities)
        probabilities = dict(zip(ids, exclusive(_stacked(proposal, ids)), strict=True))
        visible = {k: proposal.logits[k] >= 0 for k in ids}
        for identity, mask in (masks or {}).items():
            if identity not in probabilities:
                raise InputError(f"masks holds identity {identity}, which was not proposed: known are {ids}")
            given = as_mask(mask, proposal.size, f"masks[{identity}]").astype(np.float32)
            size = proposal.image.shape[1::-1]
            probabilities[identity] = cv2.resize(given, size, interpolation=cv2.INTER_AREA)
            visible[identity] = bool(given.any())
        memories = {
            identity: _updated(
                proposal.memories.get(identity),
                proposal.lab,
                probabilities[identity] if visible[identity] else np.zeros_like(probabilities[identity]),
                identity in proposal.prompted,
            )
            for identity in ids
        }
        self._image, self._memories, self._proposal = proposal.image, memories, None

    def forget(self, identity: int) -> None:
        """Removes an object, from the proposed frame, too.

        Raises:
            InputError: there is no such object.
        """
        proposal = self._proposal
        known = set(self._memories) | set(proposal.probabilities if proposal else ())
        if identity not in known:
            raise InputError(f"there is no object {identity!r}: known are {sorted(known)}")
        self._memories = {k: memory for k, memory in self._memories.items() if k != identity}
        if proposal is not None:
            for values in (proposal.probabilities, proposal.logits, proposal.quality):
                values.pop(identity, None)
            proposal.prompted -= {identity}

    def memory_bytes(self) -> int:
        """Bytes of the memory of all objects and of the last picture: at 480p about 4 million an object."""
        picture = 0 if self._image is None else self._image.nbytes
        return picture + sum(memory.nbytes() for memory in self._memories.values())

    def most_bytes_per_object(self) -> int:
        """The most bytes that one object takes: while a frame is committed, its old memory and its new one."""
        return 2 * max((memory.nbytes() for memory in self._memories.values()), default=0)

    def free_bytes(self) -> int | None:
        """Free memory of the computer; None where the system does not say it."""
        return free_memory()

    def state_dict(self) -> dict[str, np.ndarray]:
        """The memory as arrays of numbers, which need no unpickling. A proposed frame is not part of it."""
        state: dict[str, np.ndarray] = {
            "version": np.array(STATE_VERSION),
            "working_side": np.array(self.working_side),
            "ids": np.array(sorted(self._memories), np.int64),
        }
        if self._image is not None:
            state["image"] = self._image.copy()
        for name in _ARRAYS if self._memories else ():
            state[name] = np.array([getattr(self._memories[k], name) for k in sorted(self._memories)])
        return state

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Takes over the memory of another one with the same ``working_side``; a proposed frame is dropped.

        Raises:
            InputError: the state does not fit; the memory is as it was then.
        """
        self._image, self._memories = _of_state(state, self.working_side)
        self._proposal = None

    def _proposed(self, action: str) -> _Proposal:
        """The proposed frame; raises InputError where there is none."""
        if self._proposal is None:
            raise InputError(f"{action}() needs a proposed frame: call propose(frame) first, once for each commit()")
        return self._proposal

    def _propagate(self, proposal: _Proposal, last: np.ndarray) -> None:
        """Fills in the masks of all remembered objects; ``last`` is the picture before at this working size."""
        grey = [cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) for image in (last, proposal.image)]
        back, consistency = self._flow.between(grey[0], grey[1])
        expected = {k: motion.warped(memory.probability, back) for k, memory in proposal.memories.items()}
        background = 1 - np.max([expected[k] for k in sorted(expected)], axis=0)
        residual = motion.background_residual(back, background)
        guide = proposal.image.astype(np.float32) / 255
        lost = []
        for identity, memory in sorted(proposal.memories.items()):
            if expected[identity].max() > 0.5:
                p = _segmented(memory, proposal.lab, guide, expected[identity], consistency, residual)
                logit = _visibility(memory, proposal.lab, p)
            else:
                p, logit = expected[identity], -1.0
            if logit < 0:
                p = np.zeros_like(p)
                lost.append(identity)
            proposal.probabilities[identity], proposal.logits[identity] = p, logit
        taken = np.sum([proposal.probabilities[k] for k in sorted(proposal.memories)], axis=0)
        for identity in lost:
            found = _found(proposal.memories[identity], proposal.lab, guide, taken)
            if found is not None:
                proposal.probabilities[identity] = found
                proposal.logits[identity] = _visibility(proposal.memories[identity], proposal.lab, found)
        for identity in sorted(proposal.memories):
            proposal.quality[identity] = _expected_iou(proposal.probabilities[identity])


_ARRAYS = ("probability", "around", "prompted", "prompts", "recent", "area")


def _log_odds(probability: np.ndarray) -> np.ndarray:
    """Of probabilities, which are cut to .02 .. .98."""
    clipped = np.clip(probability, 0.02, 0.98)
    return np.asarray(np.log(clipped / (1 - clipped)))


def _segmented(
    memory: _Memory,
    lab: np.ndarray,
    guide: np.ndarray,
    expected: np.ndarray,
    consistency: np.ndarray,
    residual: np.ndarray | None,
) -> np.ndarray:
    """Probability (h, w) float32 that pixels are the object's.

    Args:
        memory: of the object.
        lab: (h, w, 3) uint8 L, a, b.
        guide: (h, w, 3) float32 BGR, 0..1.
        expected: (h, w) float32, the probability before this picture is looked at.
        consistency: (h, w), 0..1, weight of its log-odds.
        residual: (h, w, 2) motion relative to the background's; None: not used.
    """
    rows, columns = np.nonzero(expected > 0.3)
    y1, x1 = max(rows.min() - _NEAR, 0), max(columns.min() - _NEAR, 0)
    near = np.s_[y1 : rows.max() + _NEAR + 1, x1 : columns.max() + _NEAR + 1]
    corner = int(x1), int(y1)
    lab, guide, prior = lab[near], guide[near], expected[near]
    odds = _log_odds(prior) * consistency[near]
    p = prior
    for _ in range(2):  # the second time with the motion and the extent of the first one's mask
        around = appearance.extent(p, corner)
        index = appearance.cells(lab, around if around[2] else memory.around, corner)
        total = odds + _PROMPTED * _log_odds(appearance.posterior(memory.prompted, index))
        total += _RECENT * _log_odds(appearance.posterior(memory.recent, index))
        if residual is not None:
            ring = cv2.blur((p > 0.3).astype(np.float32), (2 * _RING + 1, 2 * _RING + 1)) > 0
            total += _MOTION * _log_odds(motion.motion_posterior(residual[near], p, ring))
        p = 1 / (1 + np.exp(-_SHARPNESS * total)).astype(np.float32)
        p = np.clip(guided_filter(guide, p, _GUIDE_RADIUS, _GUIDE_EPSILON), 0, 1)
    result = np.zeros_like(expected)
    result[near] = without_small_pieces(p, prior > 0.5)
    return result


def _visibility(memory: _Memory, lab: np.ndarray, probability: np.ndarray) -> float:
    """Log-odds that the object is visible: of its area, or of its colours if these say less.

    log(area / (0.1 x reference area)), and 4 times the log-odds of the mean probability by colour and position in the
    mask, prompted or recent, whichever is higher, less 1: of colours never seen before it is -1.
    """
    mask = probability > 0.5
    area = float(mask.sum())
    if not area or not memory.area:
        return -10.0
    colour = _colour_agreement(memory, lab, probability)
    by_area, by_colour = np.log(area / (_LEAST_AREA * memory.area)), 4 * np.log(colour / (1 - colour)) - 1
    return float(np.clip(min(by_area, by_colour), -10, 10))


def _colour_agreement(memory: _Memory, lab: np.ndarray, probability: np.ndarray) -> float:
    """Mean :func:`~appearance.posterior` of the mask, by the prompted or the recent frames; cut to .02 .. .98."""
    mask = probability > 0.5
    index = appearance.cells(lab, appearance.extent(probability), (0, 0))[mask]
    fit = max(float(appearance.posterior(kept, index).mean()) for kept in (memory.prompted, memory.recent))
    return min(max(fit, 0.02), 0.98)


def _found(memory: _Memory, lab: np.ndarray, guide: np.ndarray, taken: np.ndarray) -> np.ndarray | None:
    """Searches an object that is not visible by its colours.

    Args:
        memory: of the object.
        lab: (h, w, 3) uint8 L, a, b.
        guide: (h, w, 3) float32 BGR, 0..1.
        taken: (h, w), probability that a pixel is another object's.

    Returns:
        (h, w) float32 probability; None where nothing fits.
    """
    if not memory.area:
        return None
    likely = cv2.blur(appearance.colour_posterior(memory.prompted, lab) * (1 - np.clip(taken, 0, 1)), (3, 3))
    _, pieces, statistics, _ = cv2.connectedComponentsWithStats((likely > 0.5).astype(np.uint8), connectivity=8)
    area = statistics[1:, cv2.CC_STAT_AREA]
    best, best_fit = None, _FOUND_COLOUR
    for piece in np.argsort(-area, kind="stable")[:_MOST_PIECES]:
        if not _FOUND_AREA * memory.area <= area[piece] <= 4 * memory.area:
            continue
        start = np.where(pieces == piece + 1, 0.7, 0.0).astype(np.float32)
        p = _segmented(memory, lab, guide, start, np.ones_like(start), None) * (1 - np.clip(taken, 0, 1))
        if (p > 0.5).sum() < _FOUND_AREA * memory.area:
            continue
        fit = _colour_agreement(memory, lab, p)
        if fit > best_fit:
            best, best_fit = p, fit
    return best


def _expected_iou(probability: np.ndarray) -> float:
    """Expected intersection over expected union of the mask (> .5) and the object; 0 for an empty mask."""
    mask = probability > 0.5
    if not mask.any():
        return 0.0
    inside = float(probability[mask].sum())
    return inside / float(mask.sum() + probability[~mask].sum())


def _separability(lab: np.ndarray, probability: np.ndarray) -> float:
    """Expected IoU of a new mask and what its own colours by position give; 0 for an empty mask."""
    if not (probability > 0.5).any():
        return 0.0
    index = appearance.cells(lab, appearance.extent(probability))
    made = appearance.posterior(appearance.histograms(index, probability), index)
    union = float(np.maximum(made, probability).sum())
    return float(np.minimum(made, probability).sum()) / union


def _updated(memory: _Memory | None, lab: np.ndarray, probability: np.ndarray, prompted: bool) -> _Memory:
    """The memory of an object after a frame.

    Args:
        memory: before it; None for a new object.
        lab: (h, w, 3) uint8 L, a, b.
        probability: (h, w) float32; all 0 where the object is not visible.
        prompted: it was prompted in this frame.
    """
    around = appearance.extent(probability)
    if not around[2]:  # not visible
        if memory is not None:
            return replace(memory, probability=probability)
        nothing = np.zeros((2, *appearance.SHAPE), np.float32)
        return _Memory(probability, around, nothing, 0, nothing, 0.0)
    new = appearance.histograms(appearance.cells(lab, around), probability)
    area = float((probability > 0.5).sum())
    if memory is None or not memory.prompts:
        return _Memory(probability, around, new, 1, new, area)
    if prompted:
        count = memory.prompts + 1
        mean = memory.prompted + (new - memory.prompted) / count
        return _Memory(probability, around, mean, count, new, area)
    recent = _DECAY * memory.recent + (1 - _DECAY) * new
    return replace(
        memory,
        probability=probability,
        around=around,
        recent=recent,
        area=memory.area + _AREA_RATE * (area - memory.area),
    )


def _scaled(prompt: Prompt, factor: np.ndarray) -> Prompt:
    """A checked prompt without mask in pixels of the working size, larger by ``factor`` (2,) along x and y."""
    points = None if prompt.points is None else (prompt.points * factor).astype(np.float32)
    box = None if prompt.box is None else (prompt.box * np.tile(factor, 2)).astype(np.float32)
    return replace(prompt, points=points, box=box)


def _stacked(proposal: _Proposal, ids: list[int]) -> np.ndarray:
    """(K, h, w) float32 probabilities of these objects."""
    shape = proposal.image.shape[:2]
    return np.array([proposal.probabilities[k] for k in ids], np.float32).reshape(-1, *shape)


def _shown(proposal: _Proposal, ids: list[int]) -> MaskletFrame:
    """The masks of some objects, of a competition among all of them."""
    every = sorted(proposal.probabilities)
    chosen = np.isin(every, ids)
    logits = [proposal.logits[k] for k in ids]
    quality = [proposal.quality[k] for k in ids]
    return _frame(np.array(ids), _stacked(proposal, every), logits, quality, proposal.size, True, chosen)


def _frame(
    ids: np.ndarray,
    probabilities: np.ndarray,
    logits: list[float],
    quality: list[float],
    size: tuple[int, int],
    compete: bool,
    chosen: np.ndarray | None = None,
) -> MaskletFrame:
    """The result for probabilities (K, h, w) at the working size, of which the ``chosen`` (K,) bool are shown."""
    full = np.zeros((len(probabilities), size[1], size[0]), np.float32)
    for k, probability in enumerate(exclusive(probabilities) if compete else probabilities):
        full[k] = cv2.resize(probability, size, interpolation=cv2.INTER_LINEAR)
    masks = owned_masks(full) if compete else full > 0.5
    shown = masks if chosen is None else masks[chosen]
    logits = [logit if mask.any() else min(logit, -1.0) for logit, mask in zip(logits, shown, strict=True)]
    return MaskletFrame(
        ids.astype(np.int64), compact_masks(shown), np.array(logits, np.float32), np.array(quality, np.float32)
    )


def _of_state(state: Mapping[str, np.ndarray], working_side: int) -> tuple[np.ndarray | None, dict[int, _Memory]]:
    """The last picture and the memories of a state; raises InputError where it does not fit."""
    try:
        version, side = int(state["version"]), int(state["working_side"])
        ids = np.asarray(state["ids"], np.int64)
        image = np.array(state["image"], np.uint8) if "image" in state else None
        arrays = {name: np.asarray(state[name]) for name in _ARRAYS} if len(ids) else {}
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"this is no state of a FlowPropagator: {error!r}") from error
    if (version, side) != (STATE_VERSION, working_side):
        raise InputError(
            f"the state is of version {version}, working_side {side}; this propagator has version {STATE_VERSION}, "
            f"working_side {working_side}: make it with the same options"
        )
    if ids.ndim != 1 or len(set(ids.tolist())) < len(ids) or (image is not None and image.shape[2:] != (3,)):
        raise InputError("the state's ids must be different, and its image (h, w, 3): it is damaged")
    if not len(ids):
        return image, {}
    shape = None if image is None else image.shape[:2]
    expected: dict[str, tuple[int, ...]] = {
        **{"probability": (len(ids), *(shape or ())), "around": (len(ids), 4), "prompts": (len(ids),)},
        **{name: (len(ids), 2, *appearance.SHAPE) for name in ("prompted", "recent")},
        "area": (len(ids),),
    }
    for name, wanted in expected.items():
        if shape is None or arrays[name].shape != wanted or arrays[name].dtype.kind not in "iuf":
            raise InputError(f"the state's {name} must be numbers {wanted}, got {arrays[name].shape}: it is damaged")
    memories = {}
    for row, identity in enumerate(ids.tolist()):
        memories[identity] = _Memory(
            arrays["probability"][row].astype(np.float32),
            arrays["around"][row].astype(np.float64),
            arrays["prompted"][row].astype(np.float32),
            int(arrays["prompts"][row]),
            arrays["recent"][row].astype(np.float32),
            float(arrays["area"][row]),
        )
    return image, memories
