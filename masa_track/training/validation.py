"""Validation during training: labelled videos are tracked with the network as it is, and the tracks are scored."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import supervision as sv
from mmengine.config import Config
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.registry import LOOPS
from mmengine.runner.base_loop import BaseLoop
from torch import nn

from masa_track.encoders.embedder import Embedder
from masa_track.errors import InputError, unknown_name
from masa_track.evaluation import score_sequences
from masa_track.evaluation.metrics import METRICS, measure, named_scores
from masa_track.evaluation.rules import read_ruled
from masa_track.files import prepare_folder, write_text
from masa_track.formats.detections import read_detections
from masa_track.formats.json_file import is_finite, parse_json, shown
from masa_track.formats.mot import MotWriter
from masa_track.registry import check_installed
from masa_track.tracker import MasaTracker
from masa_track.training.hooks import training_model
from masa_track.video.images import read_image
from masa_track.video.sources import open_source

KEYS = ("val_dataloader", "val_evaluator", "val_cfg")
FPS = 30.0  # of json videos that do not say


def set_validation(config: Config) -> None:
    """Lets ``val_dataloader`` alone ask for validation; without a ``truth`` there is none.

    Raises:
        InputError: there are other keys of validation, but not all.
    """
    if "truth" in (config.get("val_dataloader") or {}):
        wanted = config.val_dataloader.truth is not None
        config.val_evaluator = (config.get("val_evaluator") or {}) if wanted else None
        config.val_cfg = (config.get("val_cfg") or {"type": "VideoValidation"}) if wanted else None
        config.val_dataloader = config.val_dataloader if wanted else None
    given = [name for name in KEYS if config.get(name) is not None]
    if given and len(given) < len(KEYS):
        raise InputError(
            f"{' and '.join(given)} ask for validation during training, which needs val_dataloader=dict(truth=VIDEOS)"
        )


@dataclass(frozen=True)
class LabelledVideo:
    """A video to be tracked.

    Attributes:
        name: of it.
        frames: gives number, from 1, picture (H, W, 3) BGR uint8, seconds and detections of each frame, in order.
    """

    name: str
    frames: Callable[[], Iterator[tuple[int, np.ndarray, float, sv.Detections]]]


class MotVideos:
    """Sequences of MOTChallenge.

    Args:
        truth: a folder of sequences with ``gt/gt.txt`` and pictures, or one sequence.
        boxes: what is tracked: ``det`` or ``gt``, of each sequence, or the name of another folder of it that has a text
            of the folder's name.
        stride: frames 1, 1 + stride, ... are tracked and scored.

    Raises:
        InputError: there is no sequence, or a file is missing or broken.
    """

    def __init__(self, truth: Path, boxes: str, stride: int) -> None:
        self.stride = stride
        inside = [truth] if (truth / "gt").is_dir() else sorted(truth.iterdir())
        self.folders = {folder.name: folder for folder in inside if (folder / "gt" / "gt.txt").is_file()}
        if not self.folders:
            raise InputError(f"val_dataloader.truth must hold sequences with gt/gt.txt, but {truth} has none")
        self.videos = [self._video(folder, boxes) for folder in self.folders.values()]

    def _video(self, folder: Path, boxes: str) -> LabelledVideo:
        source = open_source(folder)
        file = read_detections(folder / boxes / f"{boxes}.txt", source)

        def frames() -> Iterator[tuple[int, np.ndarray, float, sv.Detections]]:
            for frame in source.frames(self.stride):
                yield frame.number, frame.picture, frame.time, file.at(frame.number)

        return LabelledVideo(folder.name, frames)

    def score(self, tracks: Mapping[str, list[tuple[int, sv.Detections]]], metrics: Sequence[str], folder: Path) -> Any:
        """The scores by name, of the tracks of each video; ``NAME.txt`` are written."""
        if "teta" in metrics:
            raise InputError("val_evaluator.metrics: teta needs classes, which MOTChallenge's truth does not have")
        pairs = {}
        for name, frames in tracks.items():
            path = folder / f"{name}.txt"
            writer = MotWriter(path)
            for number, found in frames:
                writer.write(number, "", found)
            writer.close()
            ruled = read_ruled(name, self.folders[name] / "gt" / "gt.txt", path)
            pairs[name] = (ruled.truth.every(self.stride), ruled.tracks.every(self.stride))
        return named_scores(score_sequences(pairs, stride=self.stride), None, metrics)


class JsonVideos:
    """COCO-VID or TAO json.

    Args:
        truth: the file.
        images: the folder that its ``file_name`` are below.
        boxes: what is tracked: ``gt``, or a file of COCO results: a list of ``image_id``, ``category_id``, ``bbox`` and
            ``score``.
        stride: as of :class:`MotVideos`; frame 1 is the first that the truth lists.

    Raises:
        InputError: a file cannot be read.
    """

    def __init__(self, truth: Path, images: Path, boxes: str, stride: int) -> None:
        self.path, self.folder, self.stride = truth, images, stride
        content = _json(truth, dict)
        found = content["annotations"] if boxes == "gt" else _json(Path(boxes), list)
        self.boxes: dict[Any, list[dict[str, Any]]] = {}
        for row in found:
            box = row["bbox"]
            if not isinstance(box, list) or len(box) != 4 or not all(map(is_finite, box)):
                raise InputError(f"val_dataloader: bbox must be 4 finite numbers, xywh pixels, got {shown(box)}")
            if not row.get("iscrowd"):
                self.boxes.setdefault(row["image_id"], []).append(row)
        self.images: dict[str, list[dict[str, Any]]] = {}
        self.videos = []
        for video in content["videos"]:
            name = str(video.get("name", video["id"]))
            own = [image for image in content["images"] if image["video_id"] == video["id"]]
            own.sort(key=lambda image: image.get("frame_id", image.get("frame_index", 0)))
            missing = [image["file_name"] for image in own if not (images / image["file_name"]).is_file()]
            if missing:
                raise InputError(f"val_dataloader.images: {images} has no {missing[0]}, which {truth} lists")
            self.images[name] = own
            self.videos.append(self._video(name, own, float(video.get("fps") or FPS)))

    def _video(self, name: str, images: list[dict[str, Any]], fps: float) -> LabelledVideo:
        def frames() -> Iterator[tuple[int, np.ndarray, float, sv.Detections]]:
            for index in range(0, len(images), self.stride):
                image = images[index]
                picture = read_image(self.folder / image["file_name"])
                yield index + 1, picture, index / fps, self._at(image["id"])

        return LabelledVideo(name, frames)

    def _at(self, image: Any) -> sv.Detections:
        rows = self.boxes.get(image, [])
        boxes = np.array([row["bbox"] for row in rows], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        return sv.Detections(
            xyxy=boxes,
            confidence=np.array([row.get("score", 1.0) for row in rows], np.float32),
            class_id=np.array([row["category_id"] for row in rows], int),
        )

    def score(self, tracks: Mapping[str, list[tuple[int, sv.Detections]]], metrics: Sequence[str], folder: Path) -> Any:
        """The scores by name, of the tracks of each video; ``tracks.json`` is written as TAO has results."""
        rows: list[dict[str, Any]] = []
        first = 0
        for name, frames in tracks.items():
            for number, found in frames:
                assert found.tracker_id is not None
                assert found.class_id is not None
                fields = zip(found.tracker_id.tolist(), found.class_id.tolist(), found.xyxy.tolist(), strict=True)
                image = self.images[name][number - 1]
                rows += [
                    {
                        "image_id": image["id"],
                        "video_id": image["video_id"],
                        "track_id": first + track,
                        "category_id": category,
                        "bbox": [x1, y1, x2 - x1, y2 - y1],
                        "score": 1.0,
                    }
                    for track, category, (x1, y1, x2, y2) in fields
                ]
            first = max((row["track_id"] for row in rows), default=0)
        path = folder / "tracks.json"
        write_text(path, json.dumps(rows) + "\n")
        measured = measure(self.path, path, metrics, self.stride)
        return named_scores(measured.evaluation, measured.teta, metrics)


def _json(path: Path, kind: Any) -> Any:
    """What a json file holds: COCO-VID (dict), or COCO results (list)."""
    try:
        content: Any = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"val_dataloader: {path} cannot be read as json ({error})") from error
    keys = ("videos", "images", "annotations") if kind is dict else ()
    if type(content) is kind and all(isinstance(content.get(key), list) for key in keys):
        return content
    what = "COCO-VID or TAO json with videos, images and annotations" if kind is dict else "a list of COCO results"
    raise InputError(f"val_dataloader: {path} must be {what}")


def labelled_videos(
    truth: str, images: str | None = None, boxes: str | None = None, stride: int = 1
) -> MotVideos | JsonVideos:
    """The videos of ``val_dataloader``.

    Args:
        truth: a folder of MOTChallenge sequences, or a COCO-VID or TAO json.
        images: the folder of a json's pictures.
        boxes: see :class:`MotVideos` (``det`` without) and :class:`JsonVideos` (``gt`` without).
        stride: every how many frames.

    Raises:
        InputError: something is missing, or out of its range.
    """
    path = Path(truth)
    if stride < 1:
        raise InputError(f"val_dataloader.stride must be at least 1, got {stride}")
    if path.is_dir():
        return MotVideos(path, boxes or "det", stride)
    if not path.is_file():
        raise InputError(f"val_dataloader.truth must be a folder of sequences or a json file, but there is no {truth}")
    if images is None or not Path(images).is_dir():
        raise InputError(f"val_dataloader.images must be the folder of the pictures of {truth}, got {images}")
    try:
        return JsonVideos(path, Path(images), boxes or "gt", stride)
    except KeyError as error:
        raise InputError(f"val_dataloader: an entry of {truth} or of its boxes has no {error}") from error


def track_videos(
    videos: Sequence[LabelledVideo], network: nn.Module, preset: str
) -> dict[str, list[tuple[int, sv.Detections]]]:
    """The tracks of each video: frame numbers, and the detections that have an identity.

    The network is copied and stays as it is. Nothing is known of its cosines, so there is no prior.
    """
    device = next(network.parameters()).device
    tracker = MasaTracker(Embedder(copy.deepcopy(network), "in training", device), preset)
    tracks = {}
    for video in videos:
        tracker.reset()
        frames = []
        for number, picture, seconds, found in video.frames():
            tracked = tracker.update(found, picture, seconds)
            assert tracked.tracker_id is not None
            kept: Any = tracked[tracked.tracker_id > 0]
            frames.append((number, kept))
        tracks[video.name] = frames
    return tracks


@LOOPS.register_module()
class VideoValidation(BaseLoop):
    """Tracks labelled videos and scores the tracks, in the first process; files are in ``validation``.

    Args:
        runner: of the training.
        dataloader: options of :func:`labelled_videos`.
        evaluator: ``metrics`` (``hota``, ``clear``, ``idf1``; of json also ``teta``) and ``preset`` of the tracker.

    Raises:
        InputError: an option is unknown, or something is missing.
    """

    def __init__(self, runner: Any, dataloader: Mapping[str, Any], evaluator: Mapping[str, Any]) -> None:
        check_installed("eval", purpose="for validation during training")
        for key, given, known in (
            ("val_dataloader", dataloader, ("truth", "images", "boxes", "stride")),
            ("val_evaluator", evaluator, ("metrics", "preset")),
        ):
            for name in given:
                if name not in known:
                    raise unknown_name(f"key of {key}", name, known)
        self.metrics = list(evaluator.get("metrics") or ("hota", "clear", "idf1"))
        for name in self.metrics:
            if name not in METRICS:
                raise unknown_name("val_evaluator.metrics", name, METRICS)
        self.preset = evaluator.get("preset", "default")
        self.videos = labelled_videos(**dataloader)
        network = training_model(runner).network
        for name in ("long_side", "dimension"):
            if not hasattr(network, name):
                raise InputError(f"val_dataloader.truth: {type(network).__name__} cannot track, as it has no {name}")
        super().__init__(runner, self.videos.videos)

    def run(self) -> dict[str, float]:
        """The scores of all videos, by name."""
        self.runner.call_hook("before_val")
        self.runner.call_hook("before_val_epoch")
        scores: list[Any] = [None]
        if is_main_process():
            folder = prepare_folder(Path(self.runner.work_dir) / "validation", "--work-dir")
            tracks = track_videos(self.videos.videos, training_model(self.runner).network, self.preset)
            scores = [self.videos.score(tracks, self.metrics, folder)]
        broadcast_object_list(scores)
        self.runner.call_hook("after_val_epoch", metrics=scores[0])
        self.runner.call_hook("after_val")
        found: dict[str, float] = scores[0]
        return found
