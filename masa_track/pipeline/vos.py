"""Semi-supervised segmentation of data sets: the first mask of each object is given, the others are made.

Also the interactive protocol, in which a simulated user clicks where the masks are most wrong.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from masa_track.contracts import Frame, MaskPropagator, Prompt
from masa_track.errors import InputError
from masa_track.evaluation.jf import boundary_accuracy, region_similarity
from masa_track.formats.davis import MaskFolder, VosSequence, index_picture, write_index_picture
from masa_track.masklets.prompt_file import Prompts, check_prompts, first_prompts
from masa_track.masklets.prompted import PromptedTracker
from masa_track.video.images import ImageSource, open_folder

_FIRST_FRAME_ONLY = ("davis", "mose")  # the objects of the first picture count; later ones are no prompts


@dataclass
class Clip:
    """A sequence with its given masks.

    Attributes:
        sequence: where it is.
        source: its pictures.
        truth: its masks.
        names: of its frames, without suffix; frame 1 is the first.
        prompts: the first mask of each object.
    """

    sequence: VosSequence
    source: ImageSource
    truth: MaskFolder
    names: list[str]
    prompts: Prompts


class Stopped(Exception):
    """The user has asked to stop."""


def open_clip(sequence: VosSequence, layout: str) -> Clip:
    """Reads the given masks of a sequence.

    Args:
        sequence: where it is.
        layout: with ``davis`` and ``mose`` the objects of the first frame alone are prompted; with the others each
            object in the first frame in which it has a mask.

    Raises:
        InputError: pictures or masks cannot be read or do not fit, or there is no object.
    """
    source = open_folder(sequence.images, None)
    if not isinstance(source, ImageSource):
        raise InputError(f"{sequence.images} must hold the pictures of {sequence.name}, not a video")
    names = [Path(name).stem for name in source.file_names]
    truth = MaskFolder(sequence.masks)
    numbers = {name: number for number, name in enumerate(names, 1)}
    if unknown := [name for name in truth.names if name not in numbers]:
        raise InputError(
            f"{sequence.masks} has masks of {len(unknown)} frames that have no picture in {sequence.images}, "
            f"{unknown[0]} first: masks and pictures must have the same names"
        )
    first_only = layout in _FIRST_FRAME_ONLY
    if first_only and truth.names[0] != names[0]:
        raise InputError(
            f"{sequence.masks} has no {names[0]}.png, the mask of the first frame: --layout {layout} needs it"
        )
    prompts: Prompts = {}
    known: set[int] = set()
    for name in truth.names[:1] if first_only else truth.names:
        for identity, mask in truth.masks(name).items():
            if identity in known or not mask.any():
                continue
            if mask.shape != (source.height, source.width):
                raise InputError(
                    f"{sequence.masks}, {name}.png has {mask.shape[1]} x {mask.shape[0]} pixels, its picture "
                    f"{source.width} x {source.height}: masks and pictures must have one size"
                )
            known.add(identity)
            prompts.setdefault(numbers[name], {})[identity] = Prompt(mask=mask)
    if not known:
        raise InputError(f"{sequence.masks} shows no object: leave the sequence out by --sequences")
    return Clip(sequence, source, truth, names, prompts)


def masks_of(
    clip: Clip,
    propagator: MaskPropagator,
    prompts: Prompts,
    stop_asked: Callable[[], bool] = lambda: False,
    one_by_one: bool = False,
) -> Iterator[tuple[Frame, dict[int, np.ndarray]]]:
    """Each frame of a clip with the masks (H, W) bool of its visible objects.

    Raises:
        InputError: a picture cannot be read.
        Stopped: ``stop_asked`` was True.
    """
    propagator.reset()
    tracker = PromptedTracker(propagator, prompts, one_by_one=one_by_one)

    def refuse(number: int, reason: str) -> None:
        raise InputError(f"{clip.sequence.images}, frame {number}: {reason}: masks are wanted for all frames")

    for frame in clip.source.frames(on_broken=refuse):
        if stop_asked():
            raise Stopped
        (result,) = tracker.step(frame)
        rows: Any = result.detections
        masks = () if rows.mask is None else rows.mask
        yield frame, {int(i): np.asarray(mask) for i, mask in zip(rows.tracker_id, masks, strict=True)}


def segment_clip(
    clip: Clip, propagator: MaskPropagator, out: Path, stop_asked: Callable[[], bool], on_frame: Callable[[], None]
) -> None:
    """Writes the masks of a clip into ``out / NAME``, which appears when all are there.

    Args:
        clip: the sequence.
        propagator: carries the masks; is reset before.
        out: an existing folder.
        stop_asked: ends the work.
        on_frame: is called after each frame.

    Raises:
        InputError: a picture cannot be read.
        OSError: a mask cannot be written.
        Stopped: ``stop_asked`` was True. Nothing of the sequence is left then.
    """
    part, size = out / f".{clip.sequence.name}.part", (clip.source.width, clip.source.height)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    objects = sorted(first_prompts(clip.prompts))
    folders = {i: part / clip.truth.folder_name(i) for i in objects} if clip.truth.per_object else {}
    for folder in folders.values():
        folder.mkdir()
    try:
        for frame, masks in masks_of(clip, propagator, clip.prompts, stop_asked):
            name = f"{clip.names[frame.number - 1]}.png"
            for identity, folder in folders.items():  # as SA-V: a picture for each object
                mask = masks.get(identity, np.zeros(size[::-1], bool))
                write_index_picture(folder / name, mask.astype(np.uint8))
            if not folders:
                write_index_picture(part / name, index_picture(masks, size))
            on_frame()
        part.rename(out / clip.sequence.name)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def interactive_rounds(
    clip: Clip,
    propagator: MaskPropagator,
    clicks: int,
    stop_asked: Callable[[], bool] = lambda: False,
    on_frame: Callable[[], None] = lambda: None,
) -> list[float]:
    """J&F of a clip after 1, 2, ... clicks an object by a simulated user.

    The first click is in the middle of each object, in the frame of its first mask. After each pass over the clip, each
    object gets a click in the annotated frame in which its region of errors is largest: in the middle of that region,
    positive where the mask lacks the object, negative otherwise. Frames before an object's first mask are not scored
    for it.

    Args:
        clip: the sequence, with masks of more frames than the first.
        propagator: carries the masks.
        clicks: of each object, 1 or more.
        stop_asked: ends the work.
        on_frame: is called after each frame of each pass.

    Returns:
        (clicks,) J&F, a mean over objects and annotated frames.

    Raises:
        InputError: a picture cannot be read, or only prompted frames have masks.
        Stopped: ``stop_asked`` was True.
    """
    starts = first_prompts(clip.prompts)
    if len(clip.truth.names) < 2:
        raise InputError(f"{clip.sequence.masks} has a mask of one frame only: --interactive needs the truth of others")
    points: dict[tuple[int, int], list[tuple[float, float, bool]]] = {}
    for identity, number in starts.items():
        given = clip.prompts[number][identity]
        assert given is not None
        points[number, identity] = [(*middle(np.asarray(given.mask)), True)]
    annotated = set(clip.truth.names)
    scores = []
    for _ in range(clicks):
        prompts = _of_points(points)
        check_prompts(prompts)
        values, worst = [], dict[int, tuple[int, int, tuple[float, float, bool]]]()
        for frame, masks in masks_of(clip, propagator, prompts, stop_asked, one_by_one=True):
            on_frame()
            name = clip.names[frame.number - 1]
            if name not in annotated:
                continue
            truth = clip.truth.masks(name)
            empty = np.zeros((clip.source.height, clip.source.width), bool)
            for identity, start in starts.items():
                if frame.number < start or (clip.truth.per_object and identity not in truth):
                    continue
                mask, true = masks.get(identity, empty), truth.get(identity, empty)
                values.append((region_similarity(mask, true) + boundary_accuracy(mask, true)) / 2)
                area, click = largest_error(mask, true)
                taken = [point[:2] for point in points.get((frame.number, identity), ())]
                if click is not None and click[:2] not in taken and area > worst.get(identity, (0,))[0]:
                    worst[identity] = area, frame.number, click
        scores.append(float(np.mean(values)))
        for identity, (_, number, click) in worst.items():
            points.setdefault((number, identity), []).append(click)
    return scores


def largest_error(mask: np.ndarray, truth: np.ndarray) -> tuple[int, tuple[float, float, bool] | None]:
    """The largest connected region in which a mask is wrong.

    Args:
        mask: (H, W) bool.
        truth: (H, W) bool.

    Returns:
        Its area in pixels, and a click in its middle: x, y, and whether it is on the object. 0 and None without errors.
    """
    best: tuple[int, tuple[float, float, bool] | None] = (0, None)
    for wrong, positive in ((truth & ~mask, True), (mask & ~truth, False)):
        _, pieces, stats, _ = cv2.connectedComponentsWithStats(wrong.astype(np.uint8), connectivity=8)
        if len(stats) > 1:
            place = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
            area = int(stats[place, cv2.CC_STAT_AREA])
            if area > best[0]:
                best = area, (*middle(pieces == place), positive)
    return best


def middle(region: np.ndarray) -> tuple[float, float]:
    """x, y of the pixel of a (H, W) bool region that is farthest from its border; the picture's border counts."""
    padded = np.pad(region.astype(np.uint8), 1)
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    y, x = np.unravel_index(int(np.argmax(distance)), region.shape)
    return float(x), float(y)


def _of_points(points: dict[tuple[int, int], list[tuple[float, float, bool]]]) -> Prompts:
    prompts: Prompts = {}
    for (number, identity), given in sorted(points.items()):
        positions = np.array([point[:2] for point in given], np.float32)
        prompts.setdefault(number, {})[identity] = Prompt(positions, np.array([point[2] for point in given]))
    return prompts
