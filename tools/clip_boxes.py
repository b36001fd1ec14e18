"""What the benchmark tools share: boxes of clips, their embeddings (kept on disk), perturbed copies, trackers, scores.

Kinds of boxes: ``gt``, the truth; ``det``, the public detections; ``nanodet``, those of the shipped detector, in
``det/nanodet.txt`` with COCO's class from 1 in column 8 (on clips of mot15 only persons); ``mask``, the boxes of the
objects in ``masks/`` of a DAVIS clip. The boxes of a frame are in random order, as true ones come sorted by identity.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, cast

import cv2
import numpy as np
import supervision as sv

from masa_track.association import AppearancePrior, FusedAssociator
from masa_track.contracts import Observation, TrackEvent
from masa_track.errors import InputError
from masa_track.evaluation import MotRows, read_mot
from masa_track.evaluation.scores import sequence_data
from masa_track.npz import read_arrays
from masa_track.registry import spec_of
from masa_track.video.scene_change import Thumbnail, scene_change, thumbnail

KINDS = ("gt", "det", "nanodet")
PEERS = {"ByteTrack": "ByteTrackTracker", "OC-SORT": "OCSORTTracker", "BoT-SORT": "BoTSORTTracker"}
DROP, JITTER = 0.05, 0.01  # of `perturbed`
CACHE = Path("runs/embeddings")
_FILES = {"gt": "gt/gt.txt", "det": "det/det.txt", "nanodet": "det/nanodet.txt", "mask": "masks"}
_PERSON = 1  # COCO's class
_LAYOUT = {"frames": (1, "numbers"), "boxes": (2, "numbers"), "embeddings": (2, "numbers")}
_MASK_FPS = 25.0  # of DAVIS, whose clips do not say


@dataclass(frozen=True)
class ClipBoxes:
    """The boxes of one clip.

    Attributes:
        clip: its folder.
        kind: of the boxes.
        fps: frames a second.
        size: width and height in pixels.
        length: number of frames.
        frames: (K,) int64, from 1, rising.
        boxes: (K, 4) float32 xyxy, 0-based.
        scores: (K,); true ones have score 1.
        labels: (K,) int64, COCO's class from 0; 0 where the kind has no classes.
        names: (K,) int64, true identities; -1 for detections.
        embeddings: (K, D) float16; None where the clip has no pictures, or no model is asked.
    """

    clip: Path
    kind: str
    fps: float
    size: tuple[int, int]
    length: int
    frames: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    names: np.ndarray
    embeddings: np.ndarray | None = None

    def at(self, number: int) -> slice:
        """Where the boxes of a frame are."""
        start, stop = np.searchsorted(self.frames, [number, number + 1])
        return slice(int(start), int(stop))

    def rows(self, keep: np.ndarray) -> ClipBoxes:
        """Some of the boxes: ``keep`` is (K,) bool or positions."""
        named = {name: getattr(self, name)[keep] for name in ("frames", "boxes", "scores", "labels", "names")}
        return replace(self, **named, embeddings=None if self.embeddings is None else self.embeddings[keep])

    def frame(self, number: int, image: np.ndarray | None = None) -> Frame:
        """One frame as the trackers take it."""
        here = self.at(number)
        count = here.stop - here.start
        embeddings = np.ones((count, 1), np.float32)
        if self.embeddings is not None:
            embeddings = self.embeddings[here].astype(np.float32)
        return Frame(number, self.boxes[here], self.scores[here], self.labels[here], embeddings, image)


class Frame(NamedTuple):
    """What a tracker gets: number, boxes (N, 4) xyxy, scores (N,), labels (N,), embeddings (N, D), the picture.

    ``thumbnail`` stands for the picture where only ours is asked, which takes it for changes of the scene.
    """

    number: int
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    embeddings: np.ndarray
    image: np.ndarray | None = None
    thumbnail: Thumbnail | None = None


# Of a picture that does not change.
STILL = Thumbnail(np.zeros((27, 48), np.float32), np.ones((27, 48), bool))
Update = Callable[[Frame], np.ndarray]  # -> (N,) identities, -1 = none


def benchmark_clips(folder: Path, only: Sequence[str] | None = None) -> list[Path]:
    """The clips with truth in mot15/, mot15_gt_only/, moving/ and collage_dev/; ``only`` those of these names.

    Raises:
        InputError: there is none.
    """
    found = [
        p.parent.parent for n in ("mot15", "mot15_gt_only", "moving") for p in sorted(folder.glob(f"{n}/*/gt/gt.txt"))
    ]
    found += [folder / "collage_dev"] * (folder / "collage_dev" / "gt" / "gt.txt").is_file()
    chosen = [clip for clip in found if not only or clip.name in only]
    if not chosen:
        names = ", ".join(clip.name for clip in found) or "none"
        raise InputError(f"CLIPS must be a folder with the benchmark clips asked for, got {folder} with {names}")
    return chosen


def video_of(clip: Path) -> Path | None:
    """Where the pictures of a clip are: a video, the folder itself or its images/; None where there are none."""
    for video in [*clip.glob("*.avi"), *clip.glob("*.mp4")]:
        return video
    if (clip / "img1").is_dir():
        return clip
    return clip / "images" if (clip / "images").is_dir() else None


def frames_of(clip: Path) -> tuple[float, int, tuple[int, int], Iterator[tuple[int, np.ndarray | None]]]:
    """Frame rate, length, size and pictures (None where there are none) of a sequence."""
    from masa_track.video.sources import open_source

    video = video_of(clip)
    if video is None:
        lines = (line.partition("=") for line in (clip / "seqinfo.ini").read_text().splitlines())
        info = {name.strip().lower(): value.strip() for name, _, value in lines}
        size = int(info["imwidth"]), int(info["imheight"])
        length = int(info["seqlength"])
        return float(info["framerate"]), length, size, ((n, None) for n in range(1, length + 1))
    source = open_source(str(video))
    assert source.length is not None
    frames = ((frame.number, frame.image) for frame in source.frames(1, None, lambda number, reason: None))
    fps = _MASK_FPS if video.name == "images" else source.fps
    return fps, source.length, (source.width, source.height), frames


def has_kind(clip: Path, kind: str) -> bool:
    """Whether a clip has boxes of a kind."""
    return (clip / _FILES[kind]).exists()


def xyxy_of(ltwh: np.ndarray) -> np.ndarray:
    """1-based left, top, width, height (N, 4) as 0-based xyxy (N, 4) float32."""
    corner = ltwh[:, :2] - 1
    return np.concatenate((corner, corner + ltwh[:, 2:4]), axis=1).astype(np.float32)


def read_boxes(clip: Path, kind: str) -> ClipBoxes:
    """The boxes of a clip without embeddings, those of a frame in random order (always the same one).

    Raises:
        InputError: the clip has none of this kind.
    """
    if not has_kind(clip, kind):
        raise InputError(f"boxes of kind {kind} need {clip / _FILES[kind]}, which is not there: leave the kind out")
    fps, length, size, _ = frames_of(clip)
    rows = _mask_rows(clip) if kind == "mask" else np.loadtxt(clip / _FILES[kind], delimiter=",", ndmin=2)
    if kind == "gt":
        rows = rows[rows[:, 6] != 0]
    if kind == "nanodet" and clip.parent.name == "mot15":
        rows = rows[rows[:, 7] == _PERSON]
    rng = np.random.default_rng(0)
    numbers = np.unique(rows[:, 0])
    rows = np.concatenate([rng.permutation(rows[rows[:, 0] == number]) for number in numbers])
    count, true = len(rows), kind in ("gt", "mask")
    return ClipBoxes(
        clip,
        kind,
        fps,
        size,
        length,
        rows[:, 0].astype(np.int64),
        xyxy_of(rows[:, 2:6]),
        np.ones(count) if true else rows[:, 6],
        rows[:, 7].astype(np.int64) - 1 if kind == "nanodet" else np.zeros(count, np.int64),
        rows[:, 1].astype(np.int64) if true else np.full(count, -1, np.int64),
    )


def _mask_rows(clip: Path) -> np.ndarray:
    """Rows as of gt.txt of the objects in the masks, each value above 0 being one."""
    rows = []
    for number, path in enumerate(sorted((clip / "masks").glob("*.png")), start=1):
        mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if mask is None:
            raise InputError(f"mask {path} cannot be read as a picture")
        flat = mask if mask.ndim == 2 else mask[..., :3].astype(np.int64) @ [1, 256, 65536]
        for name, value in enumerate(np.unique(flat[flat > 0]).tolist(), start=1):
            x, y, width, height = cv2.boundingRect((flat == value).astype(np.uint8))
            rows.append([number, name, x + 1, y + 1, width, height, 1, 0])
    return np.array(rows, np.float64)


class Looks:
    """Embeddings of boxes by one model, computed once per clip and kind and kept on disk.

    Args:
        name: of the model; ``none``: no embeddings.
        checkpoint: other weights.
        cache: folder with one npz per clip, kind of boxes and model.
    """

    def __init__(self, name: str = "nano", checkpoint: str | None = None, cache: Path = CACHE) -> None:
        self.name, self.checkpoint, self.cache = name, checkpoint, cache
        self._model: Any = None

    @property
    def prior(self) -> AppearancePrior | None:
        """The cosines to expect of the model; without other weights the model itself is not loaded for it."""
        if self.name == "none":
            return None
        if self.checkpoint is None:
            path = spec_of(self.name).prior
            return None if path is None else AppearancePrior.load(path)
        prior: AppearancePrior | None = self._loaded().prior
        return prior

    def file(self, boxes: ClipBoxes) -> Path:
        """Where the embeddings of a clip's boxes are kept; the name has a digest of the weights."""
        weights = spec_of(self.name).local_weights() if self.checkpoint is None else Path(self.checkpoint)
        if weights is None:  # they are fetched now
            weights = Path(self._loaded().checkpoint)
        digest = hashlib.sha256(weights.read_bytes()).hexdigest()[:8]
        return self.cache / f"{boxes.clip.name}.{boxes.kind}.{self.name}-{digest}.npz"

    def of(self, boxes: ClipBoxes) -> ClipBoxes:
        """The same boxes with their embeddings: from the cache, or computed and kept. None without pictures."""
        if self.name == "none" or video_of(boxes.clip) is None:
            return boxes
        file = self.file(boxes)
        if file.is_file():
            kept = read_arrays(file, _LAYOUT, "embeddings")
            same = np.array_equal(kept["frames"], boxes.frames) and np.allclose(kept["boxes"], boxes.boxes, atol=1e-3)
            if same:
                return replace(boxes, embeddings=kept["embeddings"])
        embeddings = self._computed(boxes)
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_name(f"{file.name}.{os.getpid()}.part")
        with open(part, "wb") as out:
            np.savez(out, frames=boxes.frames, boxes=boxes.boxes, embeddings=embeddings)
        part.replace(file)
        return replace(boxes, embeddings=embeddings)

    def _computed(self, boxes: ClipBoxes) -> np.ndarray:
        from tqdm import tqdm

        found = []
        for number, image in tqdm(
            frames_of(boxes.clip)[3], f"embeddings of {boxes.clip.name} {boxes.kind}", leave=False
        ):
            here = boxes.boxes[boxes.at(number)]
            if len(here):
                assert image is not None
                found.append(self._loaded().embed(image, here).astype(np.float16))
        return np.concatenate(found)

    def _loaded(self) -> Any:
        if self._model is None:
            import masa_track

            self._model = masa_track.load(self.name, checkpoint=self.checkpoint)
        return self._model


class Loaded(NamedTuple):
    """How to get the boxes of a clip with embeddings in another process: the arguments of `read_boxes` and `Looks`."""

    clip: Path
    kind: str
    model: str = "none"
    checkpoint: str | None = None
    cache: Path = CACHE

    def get(self) -> ClipBoxes:
        """The boxes; read once in a process."""
        return _loaded(self)


@cache
def _loaded(of: Loaded) -> ClipBoxes:
    return Looks(of.model, of.checkpoint, of.cache).of(read_boxes(of.clip, of.kind))


@cache
def thumbnails(of: Loaded, number: int) -> dict[int, Thumbnail]:
    """By frame, the thumbnails of a clip's pictures with the boxes of a perturbed copy; none without pictures."""
    copy = draw(of.get(), number)
    return {at: thumbnail(image, copy.boxes[copy.at(at)]) for at, image in frames_of(of.clip)[3] if image is not None}


class Shown:
    """A model that gives the embeddings ``now`` (N, D), which are of all boxes of the present frame."""

    def __init__(self) -> None:
        self.now = np.zeros((0, 1), np.float32)

    def embed(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """(N, D)."""
        return self.now


def adapted(library: str, size: tuple[int, int], memory: int = 60, gate: float | None = None) -> Update:
    """A fresh tracker of `bench_adapters.LIBRARIES` that gets the embeddings of the frames.

    Args:
        library: ``deepsort`` or ``ultralytics``.
        size: of the picture.
        memory: frames for which tracks are remembered.
        gate: the largest cosine distance of a match; None: that of `bench_adapters`.

    Raises:
        InputError: the library is not installed.
    """
    import bench_adapters

    model = Shown()
    try:
        step = getattr(bench_adapters, library)(model, bench_adapters.GATE if gate is None else gate, memory)
    except ImportError as error:
        raise InputError(
            f"{library} is not installed ({error}): use the .venv-peers of tests/environments.py"
        ) from error
    picture = np.zeros((size[1], size[0], 3), np.uint8)

    def update(seen: Frame) -> np.ndarray:
        model.now = seen.embeddings
        detections = sv.Detections(seen.boxes, confidence=seen.scores.astype(np.float32), class_id=seen.labels)
        return np.asarray(step(detections, picture))

    return update


def perturbed(boxes: ClipBoxes, rng: np.random.Generator, drop: float = DROP, jitter: float = JITTER) -> ClipBoxes:
    """A copy with other errors of the detector, on which nothing was tuned.

    Args:
        boxes: of a clip; embeddings stay those of the boxes as they were.
        rng: draws the errors.
        drop: part of the boxes that is left out.
        jitter: standard deviation of the normal noise on centre x, centre y, width and height, in box sizes,
            sqrt(width * height).
    """
    kept = boxes.rows(rng.random(len(boxes.boxes)) >= drop)
    corners = kept.boxes.astype(np.float64)
    extent = corners[:, 2:] - corners[:, :2]
    size = np.sqrt(np.maximum(extent.prod(axis=1, keepdims=True), 1e-9))
    noise = rng.normal(0, jitter, (len(corners), 4)) * size
    centre = (corners[:, :2] + corners[:, 2:]) / 2 + noise[:, :2]
    half = np.maximum(extent + noise[:, 2:], 1e-3) / 2
    return replace(kept, boxes=np.concatenate((centre - half, centre + half), axis=1).astype(np.float32))


def draw(boxes: ClipBoxes, number: int) -> ClipBoxes:
    """Perturbed copy ``number``, which is always the same one of a clip and kind; 0 is the boxes as they are."""
    if number == 0:
        return boxes
    seed = hashlib.sha256(f"{boxes.clip.name} {boxes.kind} {number}".encode()).digest()
    return perturbed(boxes, np.random.default_rng(int.from_bytes(seed[:8], "little")))


class Ours:
    """A fresh engine of the preset `default`, used as `MasaTracker` uses it: pictures tell whether the scene changes.

    Args:
        fps: frames a second.
        size: of the picture.
        prior: of the model.
        options: of the engine.

    Attributes:
        events: of all frames so far.
        shown: of each frame, (N, 4) the filtered boxes.
    """

    def __init__(
        self, fps: float, size: tuple[int, int], prior: AppearancePrior | None, options: dict[str, Any]
    ) -> None:
        self.events: list[TrackEvent] = []
        self.shown: list[np.ndarray] = []
        self._associator = FusedAssociator(prior=prior, **{"fps": fps, "first_id": 1, "filter_boxes": True, **options})
        self._size, self._thumbnail = size, cast(Thumbnail | None, None)

    def __call__(self, seen: Frame) -> np.ndarray:
        """(N,) identities, -1 = none."""
        now = seen.thumbnail if seen.image is None else thumbnail(seen.image, seen.boxes)
        change = None if now is None or self._thumbnail is None else scene_change(self._thumbnail, now)
        self._thumbnail = now
        ids, _, events = self._associator.update(
            Observation(
                number=seen.number,
                time=seen.number / self._associator.options.fps,
                size=self._size,
                boxes=seen.boxes,
                scores=seen.scores,
                labels=seen.labels,
                embeddings=seen.embeddings if len(seen.boxes) else None,
                scene_change=change,
            )
        )
        self.events += events
        self.shown.append(self._associator.filtered_boxes(seen.boxes, ids))
        return ids

    def filtered(self, rows: list[tuple[int, np.ndarray, np.ndarray]]) -> list[tuple[int, np.ndarray, np.ndarray]]:
        """Rows (number, identities, boxes) of all frames so far, with filtered boxes."""
        return [(number, ids, shown) for (number, ids, _), shown in zip(rows, self.shown, strict=True)]


def peer(name: str, with_frames: bool) -> Update:
    """A fresh tracker of the `trackers` package.

    Raises:
        InputError: the package is not installed, or too old.
    """
    try:
        import trackers

        kind = getattr(trackers, name)
    except (ImportError, AttributeError) as error:
        raise InputError(f"{name} needs the package trackers 2.6 or newer: pip install '.[bench]' ({error})") from error
    compensates = name == "BoTSORTTracker"
    tracker = kind(**({"enable_cmc": with_frames} if compensates else {}))

    def update(seen: Frame) -> np.ndarray:
        count = len(seen.boxes)
        detections = sv.Detections(seen.boxes, confidence=seen.scores.astype(np.float32), class_id=np.zeros(count, int))
        detections.data["row"] = np.arange(count)
        tracked = tracker.update(detections, seen.image if compensates else None)
        ids = np.full(count, -1)
        if len(tracked) and tracked.tracker_id is not None:
            ids[tracked.data["row"]] = tracked.tracker_id
        return ids

    return update


def installed(wanted: Sequence[str], own: Sequence[str], make: Callable[[str], Any]) -> tuple[str, ...]:
    """The trackers that can run; standard error says which are left out, and why.

    Args:
        wanted: their names.
        own: those of them that need no other library.
        make: makes one of the others by its name; raises InputError where the library is missing.
    """
    found = []
    for name in wanted:
        try:
            if name not in own:
                make(name)
        except InputError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
            continue
        found.append(name)
    return tuple(found)


def tracks_of(rows: list[tuple[int, np.ndarray, np.ndarray]]) -> MotRows:
    """What was tracked as the evaluation takes it: 1-based left, top, width, height."""
    frames = np.concatenate([np.full(int((ids >= 0).sum()), number) for number, ids, _ in rows])
    ids = np.concatenate([ids[ids >= 0] for _, ids, _ in rows])
    boxes = np.concatenate([boxes[ids >= 0] for _, ids, boxes in rows]).astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    boxes[:, :2] += 1
    return MotRows(frames.astype(np.int64), ids.astype(np.int64), boxes)


def truth_of(clip: Path, stride: int) -> MotRows:
    """The truth of a clip on frames 1, 1 + stride, ..."""
    return read_mot(clip / "gt" / "gt.txt", truth=True).every(stride)


def idf1_and_hota(truth: MotRows, tracks: MotRows, hota: bool = True) -> tuple[float, float]:
    """IDF1 and HOTA (NaN where it is not asked for), as `score_sequences` gives them, in a third of its time.

    The difference is MOTA, which py-motmetrics computes and nobody needs here. HOTA takes .16 s for 1,000 frames, IDF1
    .02 s, the engine about 1 s.
    """
    from trackeval.metrics import HOTA, Identity

    data = sequence_data(truth, tracks)
    idf1 = float(Identity({"PRINT_CONFIG": False}).eval_sequence(data)["IDF1"])
    return idf1, float(np.mean(HOTA().eval_sequence(data)["HOTA"])) if hota else float("nan")


def in_processes(jobs: int, work: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    """Each task and what ``work`` makes of it, as they are done; in one process by their order.

    Args:
        jobs: number of processes; in each, OpenCV and the linear algebra use one core.
        work: a function of a module.
        tasks: its arguments.
    """
    if jobs == 1:
        yield from ((task, work(task)) for task in tasks)
        return
    from concurrent.futures import as_completed

    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    import multiprocessing

    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), cv2.setNumThreads, (1,)) as pool:
        waiting = {pool.submit(work, task): task for task in tasks}
        for done in as_completed(waiting):
            yield waiting[done], done.result()
