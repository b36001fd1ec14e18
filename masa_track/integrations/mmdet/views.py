"""Training data as mmdet packs it: pairs of views of photographs, by :class:`~masa_track.training.dataset.TwoViews`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import DATASETS
from mmdet.structures import DetDataSample, TrackDataSample
from mmengine.structures import InstanceData
from torch import Tensor

from masa_track.errors import InputError
from masa_track.training import order
from masa_track.training.batch import ViewBoxes
from masa_track.training.dataset import TwoViews

REGISTERED = (order,)  # PhotoSampler, for configurations
PUBLISHED = ("SeqRandomAffine", "SeqMixUp", "YOLOXHSVRandomAug", "RandomResize", "RandomCrop", "RandomFlip", "Pad")


def two_views_options(
    ann_file: str = "",
    data_root: str = "",
    data_prefix: Mapping[str, str] | None = None,
    pipeline: Sequence[Mapping[str, Any]] = (),
    **options: Any,
) -> dict[str, Any]:
    """What a data set of mmdet's keys is called by :class:`~masa_track.training.dataset.TwoViews`.

    Raises:
        InputError: the regions are in an hdf5 of pickles.
    """
    if options.pop("anno_hdf5_path", None) is not None:
        raise InputError("anno_hdf5_path holds pickles: give the regions as COCO json in ann_file")
    for name in ("serialize_data", "img_prefix", "filter_cfg", "test_mode", "metainfo", "backend_args", "lazy_init"):
        options.pop(name, None)
    root = Path(data_root)
    folder = (data_prefix or {}).get("img", (data_prefix or {}).get("img_path", ""))
    return {"settings": "strong", "size": (1024, 1024), **options, "regions": root / ann_file, "images": root / folder}


@DATASETS.register_module()
class MASADataset(torch.utils.data.Dataset[dict[str, Any]]):
    """Two views of each photograph, as ``loss`` of :class:`~masa_track.integrations.mmdet.masa.MASA` takes them.

    Args:
        ann_file, data_root, data_prefix: of the regions, COCO json, and of the photographs' folder (``img``).
        pipeline: what the authors do to a photograph; ours is ``settings``, which is built after it.
        samples: the length of an epoch, at most all photographs times ``repeats``; None is that.
        **options: of :class:`~masa_track.training.dataset.TwoViews`: ``size``, ``settings``, ``seed``, ``repeats``, ...
    """

    def __init__(self, samples: int | None = None, **options: Any) -> None:
        self.views = TwoViews(**two_views_options(**options))
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
def RandomSampleConcatDataset(
    datasets: Sequence[Mapping[str, Any]], fixed_length: int | None = None, **_: Any
) -> MASADataset:
    """The authors' wrapper of several data sets, here of one: the first, with epochs of ``fixed_length``."""
    if len(datasets) != 1:
        raise InputError(f"datasets must be one, got {len(datasets)}: join their json files")
    return DATASETS.build({**datasets[0], "samples": fixed_length})


@DATASETS.register_module()
def SeqMultiImageMixDataset(
    dataset: Mapping[str, Any], pipeline: Sequence[Mapping[str, Any]] = (), **_: Any
) -> MASADataset:
    """The authors' wrapper that augments; their published pipeline is what ``settings="strong"`` is built after."""
    for step in pipeline:
        inner = [part["type"] for part in step.get("transforms", ())]
        if "img_scale" in str(step) or inner:
            unknown = [name for name in inner if name not in (*PUBLISHED, "FilterMatchAnnotations", "SeqCopyPaste")]
            if unknown:
                raise InputError(f"pipeline: {unknown[0]} is not in the authors' published pipeline: use MASADataset")
    return DATASETS.build(dataset)


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
