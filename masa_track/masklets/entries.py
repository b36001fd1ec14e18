"""From prompts to points for the network, from its outputs to entries of a memory, and from those to masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from masa_track.contracts import MaskletFrame, Prompt
from masa_track.errors import InputError
from masa_track.masklets.memory import NO_MOTION, Entry, ObjectMemory, OfficialPolicy, has_rival
from masa_track.masklets.sam2 import ABSENT, MASK_LOGIT, Decoded, Maps, Sam2Network
from masa_track.masks import compact_masks, mask_box

_NEGATIVE, _POSITIVE, _FIRST_CORNER, _LAST_CORNER = 0, 1, 2, 3  # labels of points


def network_points(prompt: Prompt, size: tuple[int, int], side: int) -> tuple[np.ndarray, np.ndarray]:
    """The box and points of a prompt for the prompt encoder.

    Args:
        prompt: of :func:`~masa_track.masklets.prompts.check_prompt`.
        size: (width, height) of the picture.
        side: S, of the network's input.

    Returns:
        (P, 2) float32 pixels of the network's input, a box's two corners first; (P,) int64 labels.
    """
    places, labels = np.zeros((0, 2), np.float32), np.zeros(0, np.int64)
    if prompt.box is not None:
        places = np.asarray(prompt.box, np.float32).reshape(2, 2)
        labels = np.array([_FIRST_CORNER, _LAST_CORNER], np.int64)
    if prompt.points is not None and prompt.positive is not None:
        places = np.concatenate([places, prompt.points])
        labels = np.concatenate([labels, np.where(prompt.positive, _POSITIVE, _NEGATIVE)])
    return (places * np.array([side / size[0], side / size[1]], np.float32)).astype(np.float32), labels


def candidate(decoded: Decoded, row: int, index: int) -> Entry:
    """The entry of one candidate of an object; its tensors are copies, so that the others can be freed."""
    mask = decoded.masks[row, index].clone()
    return Entry(
        mask,
        decoded.pointers[row, index].float().clone(),
        float(decoded.scores[row]),
        float(decoded.qualities[row, index]),
        area=int((mask > 0).sum()),
    )


def taken(decoded: Decoded, row: int, policy: OfficialPolicy, memory: ObjectMemory | None) -> Entry:
    """The entry of the candidate that a policy takes.

    Args:
        decoded: of several objects.
        row: of the object.
        policy: chooses.
        memory: of the object; None for a prompt, of which the best candidate is taken.
    """
    qualities = decoded.qualities[row].cpu().numpy()
    best = int(qualities.argmax())
    if not policy.wants_candidates or len(qualities) == 1:
        return candidate(decoded, row, best)
    visible = (decoded.masks[row] > 0).cpu().numpy()
    motion = NO_MOTION
    if memory is not None and float(decoded.scores[row]) > 0:
        boxes = [mask_box(mask) for mask in visible]
        best, motion = policy.choose(memory, qualities, np.array([np.zeros(4) if b is None else b for b in boxes]))
    rival = has_rival(visible[best], np.delete(visible, best, 0))
    return replace(candidate(decoded, row, best), rival=rival, motion=motion)


def entry_of_mask(network: Sam2Network, maps: Maps, mask: Tensor) -> Entry:
    """The entry of a mask that was given.

    Args:
        network: makes its pointer.
        maps: of the frame.
        mask: (H, W) bool, of the picture.
    """
    logits, pointer, _ = network.decode_mask(maps, mask)
    score = MASK_LOGIT if bool(mask.any()) else -MASK_LOGIT
    return Entry(logits, pointer.float().clone(), score, 1.0, area=int((logits > 0).sum()))


def with_mask(entry: Entry, mask: Tensor, network: Sam2Network, maps: Maps) -> Entry:
    """An entry with another mask; the same one if the mask does not differ.

    Args:
        entry: as proposed.
        mask: (H, W) bool, of the picture. An empty one makes the object absent; where the object was absent it is
            like a mask that was prompted; otherwise the logits change where it differs from the entry's mask.
        network: of the session.
        maps: of the frame.
    """
    height, width = mask.shape
    if not bool(mask.any()):
        if entry.score <= 0:
            return entry
        blank, pointer = torch.full_like(entry.mask, ABSENT), network.no_object_pointer.float()
        return replace(entry, mask=blank, pointer=pointer, score=-MASK_LOGIT, memory=None, area=0)
    if entry.score <= 0:
        return entry_of_mask(network, maps, mask)
    shown = picture_logits(entry.mask, (width, height)) > 0
    if bool((shown == mask).all()):
        return entry
    removed, added = (
        F.interpolate(change[None, None].float(), entry.mask.shape, mode="area")[0, 0] > 0.5
        for change in (shown & ~mask, mask & ~shown)
    )
    logits = torch.where(removed, entry.mask.clamp(max=-MASK_LOGIT), entry.mask)
    logits = torch.where(added, logits.clamp(min=MASK_LOGIT), logits)
    return replace(entry, mask=logits, memory=None, area=int((logits > 0).sum()))


def check_logits(logits: np.ndarray, name: str) -> np.ndarray:
    """(h, w) float32 logits, finite.

    Raises:
        InputError: they are of another form; ``name`` is the argument.
    """
    given = np.ascontiguousarray(logits, np.float32)
    if given.ndim != 2 or not given.size or not np.isfinite(given).all():
        raise InputError(f"{name} must be a mask, or (h, w) finite logits, got an array of shape {given.shape}")
    return given


def with_logits(entry: Entry, logits: Tensor) -> Entry:
    """An entry with the given (h, w) logits as its mask; absent where none is above 0.

    Its pointer stays, as officially.

    Args:
        entry: as proposed.
        logits: of any resolution.
    """
    mask = logits
    if mask.shape != entry.mask.shape:
        mask = F.interpolate(mask[None, None], entry.mask.shape, mode="bilinear")[0, 0]
    area = int((mask > 0).sum())
    score = min(entry.score, -MASK_LOGIT) if not area else entry.score if entry.score > 0 else MASK_LOGIT
    return replace(entry, mask=mask, score=score, memory=None, area=area)


def picture_logits(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """(S / 4, S / 4) logits as (H, W), for a picture of ``size`` (width, height)."""
    return F.interpolate(mask[None, None], size[::-1], mode="bilinear")[0, 0]


def shown(
    ids: Sequence[int], entries: Sequence[Entry], size: tuple[int, int], overlap: bool, mask_side: int | None = None
) -> MaskletFrame:
    """Masks in the picture.

    Args:
        ids: of the objects.
        entries: of the same.
        size: (width, height) of the picture.
        overlap: masks may overlap; otherwise each pixel is the object's with the largest logit.
        mask_side: of the logits, which are given as well; None: they are not.
    """
    width, height = size
    logits = None
    if mask_side is not None:
        stacked = [entry.mask.float().cpu().numpy() for entry in entries]
        logits = np.stack(stacked) if stacked else np.zeros((0, mask_side, mask_side), np.float32)
    masks = np.zeros((len(entries), height, width), bool)
    if overlap:
        for row, entry in enumerate(entries):
            masks[row] = (picture_logits(entry.mask, size) > 0).cpu().numpy()
    elif entries:  # one after the other: the logits of all objects at once would take 4 bytes a pixel each
        top = torch.zeros(height, width, device=entries[0].mask.device)
        owner = torch.full((height, width), -1, device=top.device)
        for row, entry in enumerate(entries):
            values = picture_logits(entry.mask, size)
            better = values > top
            top, owner = torch.where(better, values, top), torch.where(better, row, owner)
        owners = owner.cpu().numpy()
        for row in range(len(entries)):
            masks[row] = owners == row
    return MaskletFrame(
        ids=np.array(ids, np.int64),
        masks=compact_masks(masks),
        object_logits=np.array([entry.score for entry in entries], np.float32),
        predicted_iou=np.array([entry.quality for entry in entries], np.float32).clip(0, 1),
        logits=logits,
    )
