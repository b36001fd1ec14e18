"""Training data as mmdet packs it: pairs of views of photographs, by :class:`~masa_track.training.dataset.TwoViews`."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import DATASETS
from mmdet.structures import DetDataSample, TrackDataSample
from mmengine.logging import print_log
from mmengine.registry import DATASETS as OUR_DATASETS
from mmengine.structures import InstanceData
from torch import Tensor

from masa_track.errors import InputError, unknown_name
from masa_track.integrations.mmdet.unused import STEPS, unlike
from masa_track.training import order
from masa_track.training.batch import ViewBoxes
from masa_track.training.dataset import TwoViews
from masa_track.training.start import register_datasets

REGISTERED = (order,)  # PhotoSampler, for configurations
MIXED = {"SeqMultiImageMixDataset", "SeqRandomMultiImageVideoMixDataset"}
JOINED = {"RandomSampleConcatDataset", "RandomSampleJointVideoConcatDataset"}
UNREAD = ("filter_cfg", "metainfo", "indices", "return_classes", "caption_prompt")  # of mmdet's data sets
WITHOUT_EFFECT = ("serialize_data", "img_prefix", "test_mode", "lazy_init", "max_refetch")  # on the views
NO_VIDEOS = (
    "training is on photographs; frames can be photographs of a MASADataset, with their boxes in ann_file as COCO json"
)
VIDEO_SETS = {
    "BDDVideoDataset",
    "CocoVidDataset",
    "MotFolderDataset",
    "MOTChallengeDataset",
    "Taov1Dataset",
    "Taov05Dataset",
}
ON_DISK = (None, "local", "disk", "LocalBackend")  # backends that read files


def own_dataset(config: Mapping[str, Any], place: str, unused: list[str]) -> tuple[dict[str, Any], int | None]:
    """A data set of the authors' types as a configuration of this library's.

    Args:
        config: of ``MASADataset``, or of the authors' wrappers that mix pictures or join data sets.
        place: of it, for messages.
        unused: keys that are not read are added to it.

    Returns:
        Of :class:`~masa_track.training.dataset.TwoViews` or :class:`~masa_track.training.joined.JoinedViews`, and the
        items an epoch; None: all.

    Raises:
        InputError: videos, pickles, images that are not files, or another type or key.
    """
    kind, options = str(config["type"]).rpartition(".")[2], {k: v for k, v in config.items() if k != "type"}
    if kind in MIXED:
        if kind != "SeqMultiImageMixDataset" and options.pop("video_sample_ratio", 0.5) != 0:
            raise InputError(f"{place}.video_sample_ratio must be 0: {NO_VIDEOS}")
        options.pop("video_pipeline", None)
        check_pipeline(options.pop("pipeline", ()), f"{place}.pipeline", unused)
        inner = options.pop("dataset")
        unused += [f"{place}.{name}" for name, value in options.items() if name not in WITHOUT_EFFECT and value]
        return own_dataset(inner, f"{place}.dataset", unused)
    if kind in JOINED:
        return _joined(options, place, unused)
    if kind in VIDEO_SETS:
        raise InputError(f"{place}.type: {kind} holds videos; {NO_VIDEOS}")
    if kind != "MASADataset":
        raise unknown_name(f"{place}.type", kind, ("MASADataset", *sorted(MIXED | JOINED)))
    check_backends(options, place)
    check_pipeline(options.pop("pipeline", ()), f"{place}.pipeline", unused)
    unused += [f"{place}.{name}" for name in UNREAD if options.pop(name, None) is not None]
    samples = options.pop("samples", None)
    views = {k: str(v) if isinstance(v, Path) else v for k, v in two_views_options(**options).items()}
    known = inspect.signature(TwoViews).parameters
    for name in views:
        if name not in known:
            raise unknown_name(f"key of {place}", name, [*known, "samples"])
    return {"type": "TwoViews", **views}, samples


def _joined(options: dict[str, Any], place: str, unused: list[str]) -> tuple[dict[str, Any], int | None]:
    """As :func:`own_dataset`, of a wrapper that joins data sets."""
    if options.pop("video_sampling_probs", None):
        raise InputError(f"{place}.video_sampling_probs must be left out: {NO_VIDEOS}")
    parts, length = options.pop("datasets", ()), options.pop("fixed_length", None)
    found = [options.pop(name, None) for name in ("sampling_probs", "img_sampling_probs")]
    shares = found[0] or found[1] or None
    unused += [f"{place}.{name}" for name in options if name not in WITHOUT_EFFECT]
    sets = [own_dataset(part, f"{place}.datasets[{number}]", unused) for number, part in enumerate(parts)]
    if len(sets) == 1:
        return sets[0][0], length or sets[0][1]
    unused += [f"{place}.datasets[{number}].samples" for number, (_, samples) in enumerate(sets) if samples]
    joined = {"datasets": [views for views, _ in sets], "sampling_probs": shares, "fixed_length": length}
    return {"type": "JoinedViews", **joined}, None


def check_backends(options: dict[str, Any], place: str) -> None:
    """Removes the keys that say how images are read; raises InputError unless they are read as files."""
    for name in ("backend_args", "file_client_args"):
        backend = (options.pop(name, None) or {}).get("backend")
        if backend not in ON_DISK:
            raise InputError(
                f"{place}.{name}: backend {backend!r} is not supported, images are read as files: extract them into a "
                "folder, name it by data_prefix.img, and leave the key out"
            )


def check_pipeline(steps: Sequence[Mapping[str, Any]], place: str, unused: list[str]) -> None:
    """Checks that a pipeline is the authors' published one, which ``settings="strong"`` stands for.

    Raises:
        InputError: a step is not of it, or images are not read as files.
    """
    for step in steps:
        kind = str(step["type"]).rpartition(".")[2]
        if kind == "MasaTransformBroadcaster":
            unused += unlike(
                {k: v for k, v in step.items() if k not in ("type", "transforms")},
                {"share_random_params": False},
                place,
            )
            check_pipeline(step.get("transforms", ()), place, unused)
            continue
        if kind not in STEPS:
            raise InputError(
                f"{place}: {kind} is not in the authors' published pipeline, which settings='strong' is built after: "
                "leave it out, or use MASADataset with settings of your own"
            )
        check_backends(dict(step), f"{place}.{kind}")
        unused += unlike({k: v for k, v in step.items() if k != "type"}, STEPS[kind], f"{place}.{kind}")


def two_views_options(
    ann_file: str = "",
    data_root: str = "",
    data_prefix: Mapping[str, str] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """What a data set of mmdet's keys is called by :class:`~masa_track.training.dataset.TwoViews`.

    Raises:
        InputError: the regions are in an hdf5 of pickles.
    """
    if options.pop("anno_hdf5_path", None) is not None:
        raise InputError("anno_hdf5_path holds pickles: give the regions as COCO json in ann_file")
    for name in WITHOUT_EFFECT:
        options.pop(name, None)
    root = Path(data_root)
    folder = (data_prefix or {}).get("img", (data_prefix or {}).get("img_path", ""))
    return {"settings": "strong", "size": (1024, 1024), **options, "regions": root / ann_file, "images": root / folder}


class PackedViews(torch.utils.data.Dataset[dict[str, Any]]):
    """Two views of each photograph, as ``loss`` of :class:`~masa_track.integrations.mmdet.masa.MASA` takes them.

    Args:
        config: see :func:`own_dataset`. A warning names keys that are not read.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        unused: list[str] = []
        options, samples = own_dataset(config, str(config["type"]), unused)
        if unused:
            print_log(f"without effect in training: {', '.join(unused)}", "current", logging.WARNING)
        register_datasets()
        self.views = OUR_DATASETS.build(options)
        if samples is not None and samples > len(self.views):
            self.views.repeats *= -(-samples // len(self.views))
        self.samples = len(self.views) if samples is None else samples
        self.metainfo = {"classes": ("object",)}

    def set_epoch(self, epoch: int) -> None:
        """Items are other views of the same photographs in another epoch."""
        self.views.set_epoch(epoch)

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> dict[str, Any]:
        return pack(self.views[index])


@DATASETS.register_module()
def MASADataset(**options: Any) -> PackedViews:
    """Two views of each photograph.

    Args:
        **options: ``ann_file``, ``data_root``, ``data_prefix``: of the regions, COCO json, and of the photographs'
            folder (``img``). ``pipeline``: the authors'; ours is ``settings``, which is built after it. ``samples``:
            the length of an epoch; None: all photographs times ``repeats``. Others are of
            :class:`~masa_track.training.dataset.TwoViews`: ``size``, ``settings``, ``seed``, ``repeats``, ...
    """
    return PackedViews({"type": "MASADataset", **options})


@DATASETS.register_module()
def RandomSampleConcatDataset(**options: Any) -> PackedViews:
    """The authors' wrapper of data sets, drawn from by ``sampling_probs``; an epoch has ``fixed_length`` items."""
    return PackedViews({"type": "RandomSampleConcatDataset", **options})


@DATASETS.register_module()
def RandomSampleJointVideoConcatDataset(**options: Any) -> PackedViews:
    """The authors' wrapper of data sets of photographs and of videos; here of photographs only."""
    return PackedViews({"type": "RandomSampleJointVideoConcatDataset", **options})


@DATASETS.register_module()
def SeqMultiImageMixDataset(**options: Any) -> PackedViews:
    """The authors' wrapper that augments; their published pipeline is what ``settings="strong"`` is built after."""
    return PackedViews({"type": "SeqMultiImageMixDataset", **options})


@DATASETS.register_module()
def SeqRandomMultiImageVideoMixDataset(**options: Any) -> PackedViews:
    """As ``SeqMultiImageMixDataset``; ``video_sample_ratio`` must be 0."""
    return PackedViews({"type": "SeqRandomMultiImageVideoMixDataset", **options})


def pack(item: Mapping[str, Any]) -> dict[str, Any]:
    """An item of :class:`~masa_track.training.dataset.TwoViews` as mmdet packs it, in BGR."""
    samples = []
    for view in item["views"]:
        count = len(view["boxes"])
        sample = DetDataSample(metainfo={"img_shape": tuple(view["image"].shape[1:])})
        sample.gt_instances = InstanceData(
            bboxes=view["boxes"], labels=torch.zeros(count, dtype=torch.long), instances_ids=view["ids"]
        )
        samples.append(sample)
    track = TrackDataSample(metainfo={"key_frames_inds": [0], "ref_frames_inds": [1]})
    track.video_data_samples = samples
    return {"inputs": torch.stack([view["image"].flip(0) for view in item["views"]]), "data_samples": track}


def view_boxes(
    inputs: Tensor, data_samples: Sequence[TrackDataSample], min_side: float = 1.0
) -> tuple[Tensor, list[ViewBoxes]]:
    """mmdet's batch as :class:`~masa_track.training.model.TrainingModel` takes it: the key views, then the others.

    Args:
        inputs: (N, 2, 3, H, W).
        data_samples: N, each of two views with ``gt_instances`` of ``bboxes`` and ``instances_ids``.
        min_side: regions with a shorter side, in pixels, are left out.

    Returns:
        (2 * N, 3, H, W), and what is known of each.
    """
    images, known = [], []
    for which in ("key_frames_inds", "ref_frames_inds"):
        for item, sample in zip(inputs, data_samples, strict=True):
            index = sample.metainfo[which][0]
            view = sample[index]
            boxes = view.gt_instances.bboxes.to(inputs.device, torch.float32)
            good = (boxes[:, 2:] - boxes[:, :2] >= min_side).all(dim=1)
            ids = view.gt_instances.instances_ids.to(inputs.device)[good]
            images.append(item[index])
            known.append(ViewBoxes(boxes[good], ids, tuple(view.img_shape[:2])))
    return torch.stack(images), known
