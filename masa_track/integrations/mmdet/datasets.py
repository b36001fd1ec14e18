"""Videos to be tracked, as mmdet's data sets: COCO-VID or TAO json, or folders as of MOTChallenge and DanceTrack."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from mmdet.datasets import BaseVideoDataset
from mmdet.registry import DATA_SAMPLERS, DATASETS
from mmengine.dist import get_dist_info
from torch.utils.data import Sampler

from masa_track.errors import InputError
from masa_track.formats.json_file import is_finite, parse_json
from masa_track.video.images import ImageSource, open_folder

BDD_CLASSES = ("pedestrian", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")


class _Videos(BaseVideoDataset):
    """What both share.

    Args:
        stride: keep frames 1, 1 + stride, ... of each video.
        skip_videos: names of videos that are left out, as they were done before, with ``-`` for ``/``.
        **options: of mmdet's ``BaseVideoDataset``.
    """

    def __init__(self, stride: int = 1, skip_videos: Sequence[str] = (), **options: Any) -> None:
        if stride < 1:
            raise InputError(f"stride must be 1 or more, got {stride}")
        self.stride, self.skip_videos = stride, set(skip_videos)
        self.video_names: list[str] = []
        options.setdefault("test_mode", True)
        options.setdefault("serialize_data", False)  # mmengine cannot serialize an empty list
        if not options["test_mode"]:
            raise InputError("test_mode must be True: training needs photographs, see MASADataset")
        super().__init__(**options)

    def _keep(self, videos: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The videos that are not skipped, thinned; ``video_names`` are all of them."""
        self.video_names = [video["name"] for video in videos]
        kept = []
        for video in videos:
            if video["name"].replace("/", "-") in self.skip_videos:
                continue
            images = [image for image in video["images"] if image["frame_id"] % self.stride == 0]
            kept.append({**video, "images": images, "video_length": len(images)})
        return kept


@DATASETS.register_module()
class CocoVidDataset(_Videos):
    """Any COCO-VID or TAO json: ``videos``, ``images`` (``video_id``, ``file_name``, ``frame_id``), ``categories``.

    Videos may have ``fps``, and all images of a video a ``timestamp`` in seconds, for presets that count time.

    Classes are those of the file, in the order of their ids, unless ``metainfo`` has others. The pictures are below
    ``data_prefix["img_path"]``. Boxes in the file are left to the metric.
    """

    def load_data_list(self) -> list[dict[str, Any]]:
        """The videos, each with its images in order."""
        content = read_json(self.ann_file)
        categories = sorted(content.get("categories", []), key=lambda one: one["id"])
        names = tuple(one["name"] for one in categories)
        if not self._metainfo.get("classes"):
            self._metainfo["classes"] = names
        unknown = [name for name in self._metainfo["classes"] if name not in names]
        if unknown:
            raise InputError(f"{self.ann_file} has no class {unknown[0]!r}: its classes are {', '.join(names[:10])}")
        videos: dict[Any, dict[str, Any]] = {
            video["id"]: {"video_id": video["id"], "name": str(video.get("name", video["id"])), "images": []}
            for video in content.get("videos", [])
        }
        rates = {video["id"]: video.get("fps") for video in content.get("videos", [])}
        if not videos:
            raise InputError(f"{self.ann_file} must be COCO-VID or TAO json with videos, but has none")
        prefix = Path(self.data_prefix.get("img_path") or self.data_prefix.get("img") or "")
        for number, image in enumerate(content.get("images", [])):
            lacking = [key for key in ("id", "file_name", "height", "width") if key not in image]
            if lacking:
                raise InputError(f"{self.ann_file}, images[{number}] has no {lacking[0]}")
            if image.get("video_id") not in videos:
                raise InputError(f"{self.ann_file}, images[{number}]: video_id {image.get('video_id')!r} is no video's")
            frame = image.get("frame_id", image.get("frame_index"))
            videos[image["video_id"]]["images"].append(
                {
                    "img_id": image["id"],
                    "file_name": image["file_name"],
                    "img_path": str(prefix / image["file_name"]),
                    "height": image["height"],
                    "width": image["width"],
                    "frame_id": frame,
                    "fps": rates[image["video_id"]],
                    "timestamp": image.get("timestamp"),
                    "instances": [],
                }
            )
        for video in videos.values():
            for place, image in enumerate(video["images"]):
                if image["frame_id"] is None:
                    image["frame_id"] = place
            video["images"].sort(key=lambda image: image["frame_id"])
            least = min((image["frame_id"] for image in video["images"]), default=0)
            for image in video["images"]:  # some count from 1, some videos begin in the middle
                image["frame_id"] -= least
            self._check_timestamps(video)
        return self._keep(list(videos.values()))

    def _check_timestamps(self, video: dict[str, Any]) -> None:
        """Raises InputError unless all images of a video have growing seconds, or none has any."""
        times = [image["timestamp"] for image in video["images"]]
        if all(time is None for time in times):
            return
        if not all(is_finite(time) for time in times) or any(b <= a for a, b in pairwise(times)):
            raise InputError(
                f"{self.ann_file}: timestamp must be seconds that grow from image to image of a video, or be left out, "
                f"got {', '.join(map(str, times[:6]))} in {video['name']!r}"
            )


@DATASETS.register_module()
class BDDVideoDataset(CocoVidDataset):
    """BDD100K's tracking set, its labels turned into COCO-VID json (bdd100k's ``to_coco``)."""

    METAINFO = {"classes": BDD_CLASSES}  # noqa: RUF012


@DATASETS.register_module()
class Taov1Dataset(CocoVidDataset):
    """TAO with the classes of LVIS v1, as its json lists them."""


@DATASETS.register_module()
class Taov05Dataset(CocoVidDataset):
    """TAO with the classes of LVIS v0.5, as its json lists them."""


@DATASETS.register_module()
class MotFolderDataset(_Videos):
    """Folders of MOTChallenge and DanceTrack: ``data_root/SEQUENCE/{img1,gt,det,seqinfo.ini}``.

    Args:
        data_root: the folder of sequences, or one sequence.
        sequences: which of them; None: all that have pictures.
        stride, skip_videos: of all video data sets here.
        **options: of mmdet's ``BaseVideoDataset``.
    """

    METAINFO = {"classes": ("pedestrian",)}  # noqa: RUF012

    def __init__(self, data_root: str = "", sequences: Sequence[str] | None = None, **options: Any) -> None:
        self.sequences = sequences
        super().__init__(data_root=data_root, **options)

    def load_data_list(self) -> list[dict[str, Any]]:
        """The sequences, each with its images in order."""
        videos = []
        for number, folder in enumerate(sequence_folders(str(self.data_root), self.sequences), 1):
            source = open_folder(folder, None)
            if not isinstance(source, ImageSource):
                raise InputError(f"{folder} must hold images, but it holds a video: extract its frames into img1")
            images = [
                {
                    "img_id": number * 1_000_000 + place,
                    "file_name": path.name,
                    "img_path": str(path),
                    "height": source.height,
                    "width": source.width,
                    "frame_id": place,
                    "fps": source.fps,
                    "instances": [],
                }
                for place, path in enumerate(source.paths)
            ]
            videos.append({"video_id": number, "name": folder.name, "images": images})
        return self._keep(videos)


@DATA_SAMPLERS.register_module()
class VideoSampler(Sampler[tuple[int, int]]):
    """Frames in order, whole videos dealt to the processes in turn; a process may have none.

    Args:
        dataset: one of the video data sets here.
        seed: not looked at, nothing is left to chance.
    """

    def __init__(self, dataset: _Videos, seed: int | None = None) -> None:
        rank, processes = get_dist_info()
        self.frames = [
            (video, frame)
            for video in range(rank, len(dataset), processes)
            for frame in range(dataset.get_len_per_video(video))
        ]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self.frames)

    def __len__(self) -> int:
        return len(self.frames)


def sequence_folders(root: str, sequences: Sequence[str] | None = None) -> list[Path]:
    """The folders of the sequences in ``root`` that have pictures, or of those named.

    Raises:
        InputError: there is none, or one that is named is not there.
    """
    place = Path(root)
    if not place.is_dir():
        raise InputError(f"data_root must be a folder of MOTChallenge sequences, but there is no {root}")
    if (place / "img1").is_dir() and sequences is None:
        return [place.resolve()]
    found = {folder.name: folder for folder in sorted(place.iterdir()) if (folder / "img1").is_dir()}
    missing = [name for name in sequences or () if name not in found]
    if missing or not found:
        raise InputError(
            f"data_root {root} has no sequence {missing[0] if missing else ''!r} with pictures in img1; "
            f"it has {', '.join(found) or 'none'}"
        )
    return [found[name] for name in (sorted(sequences) if sequences else found)]


def read_json(path: str) -> dict[str, Any]:
    """A json file with an object in it.

    Raises:
        InputError: it cannot be read, or is no such thing.
    """
    try:
        content = parse_json(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"ann_file cannot be read: {path} ({error.strerror})") from error
    except ValueError as error:
        raise InputError(f"ann_file {path} is not whole json: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"ann_file {path} must be COCO-VID or TAO json, got a {type(content).__name__}")
    return content
