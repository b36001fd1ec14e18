"""The stages of a run up to identities, each an iterator over the one before: decode, detect, associate, add masks.

Each can run in a thread of its own (:class:`masa_track.pipeline.queues.Ahead`); the results are the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from masa_track.errors import InputError
from masa_track.formats.panoptic import PanopticMap

if TYPE_CHECKING:
    import supervision as sv

    from masa_track.contracts import Detector, Features, Frame, FrameResult, IdentitySource, ResultStage
    from masa_track.pipeline.job import Job
    from masa_track.segmenters.base import Segmenter


@dataclass
class Broken:
    """A frame that is skipped.

    Attributes:
        number: of the frame.
        reason: why.
        fault: the error of the detector, the tracker or a later stage; None where the source is at fault.
    """

    number: int
    reason: str
    fault: InputError | None = None


@dataclass
class Decoded:
    """A frame of the source, when it arrived, and when the detector took it, by ``time.monotonic``."""

    frame: Frame
    arrived: float
    taken: float = 0.0


@dataclass
class Seen:
    """A frame with its boxes.

    Attributes:
        decoded: the frame.
        detections: what the detector found, without what ``Job.select`` removed; None where it did not run.
        left_out: how many boxes that were.
        features: of the frame, where the detector works on those of the model.
        seconds: that the detector took.
    """

    decoded: Decoded
    detections: sv.Detections | None
    left_out: int = 0
    features: Features | None = None
    seconds: float = 0.0


@dataclass
class Done:
    """A frame with identities.

    Attributes:
        result: the frame.
        left_out: boxes that ``Job.select`` removed.
        arrived: when the frame came, by ``time.monotonic``.
        taken: when the detector took it.
        seconds: of detector and tracker.
        settled: whether the tracker has given no result after this one, so that its state goes with this frame.
    """

    result: FrameResult
    left_out: int
    arrived: float
    taken: float
    seconds: float
    settled: bool = True


def decoded(job: Job, start: int, most: int | None, later: float = 0.0) -> Iterator[Decoded | Broken]:
    """The source's frames, and those that cannot be read, in their order.

    Args:
        job: what is tracked.
        start: number of the first frame.
        most: frames; None: all.
        later: seconds that are added to the times of frames.
    """
    broken: list[Broken] = []
    frames = job.source.frames(
        job.stride, most, lambda number, reason: broken.append(Broken(number, reason)), start=start, stop=job.stop
    )
    with closing(cast(Any, frames)):
        for frame in frames:
            yield from broken
            broken.clear()
            yield Decoded(replace(frame, time=frame.time + later) if later else frame, time.monotonic())
            del frame  # not held while the next one is decoded
    yield from broken


def detected(
    frames: Iterator[Decoded | Broken], job: Job, waiting: Callable[[], bool] | None = None
) -> Iterator[Seen | Broken]:
    """The boxes of each frame. ``job.batch`` frames are given to the detector at once.

    Args:
        frames: decoded.
        job: its detector finds the boxes.
        waiting: for a live source: whether the next frame is there; a batch is not waited for then. None: a batch is
            filled.
    """
    batch: list[Decoded] = []
    size = job.batch if hasattr(job.detector, "detect") else 1  # a function takes one frame
    while True:
        try:
            item = next(frames)
        except StopIteration:
            break
        except BaseException:  # the frames before it are done
            yield from _detected_batch(batch, job)
            raise
        if isinstance(item, Broken):
            yield from _detected_batch(batch, job)
            batch = []
            yield item
            continue
        item.taken = time.monotonic()
        if (item.frame.number - job.start) // job.stride % job.detect_every:
            yield from _detected_batch(batch, job)
            batch = []
            yield Seen(item, None)
            continue
        batch.append(item)
        if len(batch) >= size or (waiting is not None and not waiting()):
            yield from _detected_batch(batch, job)
            batch = []
        del item
    yield from _detected_batch(batch, job)


def _detected_batch(batch: list[Decoded], job: Job) -> Iterator[Seen | Broken]:
    if not batch:
        return
    started = time.perf_counter()
    frames = [one.frame for one in batch]
    try:
        found, features = detect(job.detector, frames, getattr(job.tracker, "model", None))
    except InputError as error:
        if len(batch) == 1:
            yield Broken(batch[0].frame.number, str(error), error)
            return
        for one in batch:  # which of them is at fault
            yield from _detected_batch([one], job)
        return
    seconds = (time.perf_counter() - started) / len(batch)
    for one, detections, own in zip(batch, found, features, strict=True):
        given = len(detections)
        try:
            if job.select is not None:
                detections = job.select(detections)
        except InputError as error:
            yield Broken(one.frame.number, str(error), error)
            continue
        yield Seen(one, detections, given - len(detections), own, seconds)


def detect(
    detector: Detector | Callable[[Frame], sv.Detections], frames: Sequence[Frame], model: Any
) -> tuple[list[sv.Detections], Sequence[Features | None]]:
    """The boxes of frames.

    Args:
        detector: finds them, or gives them.
        frames: F frames of the source.
        model: that will embed them.

    Returns:
        F detections; and the frames' features, where the detector works on those of the same model, else None.
    """
    none: list[Features | None] = [None] * len(frames)
    if not hasattr(detector, "detect"):
        return [detector(frame) for frame in frames], none
    detector, features = cast("Detector", detector), None  # for mypy, to which any function may have attributes
    images = [frame.picture for frame in frames]
    if detector.features_key is not None and detector.features_key == getattr(model, "key", None):
        features = model.encode(images)
    return detector.detect(images, features), none if features is None else features


def identified(
    seen: Iterator[Seen | Broken],
    tracker: IdentitySource,
    stages: Sequence[ResultStage] = (),
    ending: Callable[[], bool] = lambda: False,
) -> Iterator[Done | Broken]:
    """The frames with identities, and with what the stages add, in order.

    Args:
        seen: frames with boxes.
        tracker: gives the identities; its results may come late.
        stages: add to the results; theirs may come late, too.
        ending: whether no further frame is to be taken; the results that are due come then.
    """
    # By number of the frames whose results are due: boxes left out, times, seconds of the detector, presence.
    given: dict[int, tuple[int, tuple[float, float], float, Mapping[str, float] | None]] = {}
    begun = 0.0

    def done(results: list[FrameResult | Broken]) -> Iterator[Done | Broken]:
        for place, result in enumerate(results, 1):
            if isinstance(result, Broken):
                given.pop(result.number)
                yield result
                continue
            left_out, (arrived, taken), seconds, presence = given.pop(result.frame.number)
            if presence:
                result.extras = {"presence": presence, **result.extras}
            spent = seconds + time.perf_counter() - begun
            yield Done(result, left_out, arrived, taken, spent, place == len(results))

    for item in seen:
        if isinstance(item, Broken):
            yield item
            if ending():
                break
            continue
        begun = time.perf_counter()
        frame = item.decoded.frame
        presence = None if item.detections is None else item.detections.metadata.get("presence")
        given[frame.number] = item.left_out, (item.decoded.arrived, item.decoded.taken), item.seconds, presence
        try:
            results = tracker.step(frame, item.detections, features=item.features)
        except InputError as error:
            del given[frame.number]
            yield Broken(frame.number, str(error), error)
            if ending():
                break
            continue
        yield from done(_through(stages, results))
        del item, frame, results
        if ending():
            break
    begun = time.perf_counter()
    yield from done(_through(stages, tracker.finish(), at_end=True))


def _through(
    stages: Sequence[ResultStage], results: Sequence[FrameResult | Broken], at_end: bool = False
) -> list[FrameResult | Broken]:
    """The results after all stages, and those that one cannot use. ``at_end`` each stage adds those that are due."""
    for stage in stages:
        later: list[FrameResult | Broken] = []
        for result in results:
            if isinstance(result, Broken):
                later.append(result)
                continue
            try:
                later += stage.step(result)
            except InputError as error:
                later.append(Broken(result.frame.number, str(error), error))
        results = [*later, *stage.finish()] if at_end else later
    return list(results)


class MaskStage:
    """Adds a segmenter's masks to the rows with identities."""

    look_ahead = 0

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter

    def step(self, result: FrameResult) -> list[FrameResult]:
        """The result with masks.

        Raises:
            InputError: of the segmenter.
        """
        result.detections = self._segmenter.add_masks(result.detections, result.frame.picture)
        return [result]

    def finish(self) -> list[FrameResult]:
        """Nothing is late."""
        return []


def item_bytes(item: object) -> int:
    """Bytes of what is handed from stage to stage, roughly: pictures, masks and maps."""
    if isinstance(item, Seen):
        found = item.detections
        return item_bytes(item.decoded) + _mask_bytes(found) + (0 if found is None else _map_bytes(found.metadata))
    if isinstance(item, Done):
        result = item.result
        return _picture_bytes(result.frame) + _mask_bytes(result.detections) + _map_bytes(result.extras)
    return _picture_bytes(item.frame) if isinstance(item, Decoded) else 0


def _picture_bytes(frame: Frame) -> int:
    return 0 if frame.image is None else frame.image.nbytes


def _map_bytes(held: Mapping[str, Any]) -> int:
    return sum(one.numbers.nbytes for one in held.values() if isinstance(one, PanopticMap))


def _mask_bytes(detections: sv.Detections | None) -> int:
    return 0 if detections is None or detections.mask is None else int(getattr(detections.mask, "nbytes", 0))
