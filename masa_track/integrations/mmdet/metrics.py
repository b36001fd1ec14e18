"""The metrics by their official names: they write the tracks of each video, and hand the files to the evaluation."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.evaluation.metrics.base_video_metric import BaseVideoMetric
from mmdet.registry import METRICS
from mmengine.dist import barrier, broadcast_object_list, is_main_process
from mmengine.logging import print_log
from torch import Tensor

from masa_track.errors import InputError, unknown_name
from masa_track.evaluation import format_table, score_sequences
from masa_track.evaluation.rules import read_ruled
from masa_track.files import write_text
from masa_track.integrations.mmdet.datasets import read_json, sequence_folders
from masa_track.integrations.mmdet.results import TAO_FILE, FrameTracks, VideoFiles, majority_classes
from masa_track.masks import encode_mask

NAMES = {"HOTA": "hota", "CLEAR": "clear", "Identity": "idf1", "IDF1": "idf1", "TETA": "teta"}
OF_METRIC = {"hota": ("hota", "det_a", "ass_a", "loc_a"), "clear": ("mota", "switches"), "idf1": ("idf1",)}
UNUSED = ("dataset_type", "scalabel_gt", "scalabel_format", "benchmark", "interval_tolerance", "collect_device")


class _TrackMetric(BaseVideoMetric):
    """What all share.

    Args:
        metric: of TETA, HOTA, CLEAR and Identity (IDF1).
        outfile_prefix: folder of the results, see :class:`~masa_track.integrations.mmdet.results.VideoFiles`; None: a
            temporary one.
        format_only: only write the results.
        stride: every how many frames the data set gives.
        track_iou_thr: from which IoU CLEAR and IDF1 accept a match.
        tcc: give all boxes of a track the class that most of them have, as the authors do for TAO.
        prefix: before the names of the scores.
        with_mask: only with ``format_only``: masks are written in any case, but scores are of boxes.
        **unused: keys of the authors' that nothing here depends on; post-processing is not taken.
    """

    metrics: tuple[str, ...] = ("HOTA", "CLEAR", "Identity")

    def __init__(
        self,
        metric: str | Sequence[str] | None = None,
        outfile_prefix: str | None = None,
        format_only: bool = False,
        stride: int = 1,
        track_iou_thr: float = 0.5,
        tcc: bool = False,
        prefix: str | None = None,
        with_mask: bool = False,
        use_postprocess: bool = False,
        postprocess_tracklet_cfg: Sequence[Any] = (),
        **unused: Any,
    ) -> None:
        super().__init__(prefix=prefix)
        asked = [metric] if isinstance(metric, str) else list(metric or self.metrics)
        for name in asked:
            if name not in NAMES:
                raise unknown_name("metric", name, NAMES)
        for name in unused:
            if name not in UNUSED:
                raise unknown_name(f"key of {type(self).__name__}", name, UNUSED)
        if use_postprocess or postprocess_tracklet_cfg:
            raise InputError("use_postprocess and postprocess_tracklet_cfg are not taken: leave them out")
        if with_mask and not format_only:
            raise InputError(
                "with_mask=True asks for scores by the overlap of masks, which are not computed here: take "
                "test_evaluator.with_mask=False for those of the boxes, or test_evaluator.format_only=True; masks are "
                "in the results (segmentation) either way"
            )
        self.asked = list(dict.fromkeys(NAMES[name] for name in asked))
        self.format_only, self.stride, self.iou, self.tcc = format_only, stride, track_iou_thr, tcc
        self._temporary = None
        if outfile_prefix is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="masa-track-")
            outfile_prefix = self._temporary.name
        self.files = VideoFiles(outfile_prefix)
        self._frames: dict[Any, list[FrameTracks]] = {}

    def video_names(self) -> dict[Any, str]:
        """The videos' names by their ids, in order."""
        raise NotImplementedError

    def categories(self, labels: np.ndarray) -> np.ndarray:
        """The truth's classes for labels (N,)."""
        return labels

    def score(self, joined: Path) -> tuple[dict[str, float], str]:
        """Scores by name, and as a table, of the files; ``joined`` has all tracks as TAO results."""
        raise NotImplementedError

    def process_image(self, data_samples: Sequence[Any], video_len: int) -> None:
        """Keeps a frame's tracks; the video's last frame writes its files."""
        for sample in data_samples:
            known, tracked = sample.metainfo, sample.pred_track_instances
            fields = (tracked.bboxes, tracked.scores, tracked.labels, tracked.instances_id)
            boxes, scores, labels, ids = (_array(field) for field in fields)
            video = known["video_id"]
            frames = self._frames.setdefault(video, [])
            frame = (int(known["frame_id"]) + 1, known["img_id"], video)
            masks = [encode_mask(_array(mask)) for mask in tracked.masks] if "masks" in tracked else None
            frames.append(FrameTracks(*frame, boxes, scores, self.categories(labels), ids, masks))
            if len(frames) == video_len:
                self.files.write(self.video_names()[video], self._frames.pop(video))

    def process_video(self, data_samples: Sequence[Any]) -> None:
        """As :meth:`process_image` for all frames of a video."""
        self.process_image(data_samples, len(data_samples))

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Joins the files of all videos, whoever wrote them, and scores them."""
        rows = self.files.join(list(self.video_names().values()))
        joined = self.files.folder / TAO_FILE
        write_text(joined, json.dumps(majority_classes(rows) if self.tcc else rows) + "\n")
        if self.format_only:
            return {}
        scores, table = self.score(joined)
        print_log(f"\n{table}", "current")
        write_text(self.files.folder / "scores.txt", table + "\n")
        write_text(self.files.folder / "scores.json", json.dumps(scores, indent=2) + "\n")
        return scores

    def evaluate(self, size: int = 1) -> dict[str, float]:
        """Waits for all processes, scores in the first, and tells the others."""
        barrier()
        metrics: list[Any] = [None]
        if is_main_process():
            before = f"{self.prefix}/" if self.prefix else ""
            metrics = [{before + name: value for name, value in self.compute_metrics([]).items()}]
        broadcast_object_list(metrics)
        return metrics[0]


def _array(field: Any) -> np.ndarray:
    return field.detach().cpu().numpy() if isinstance(field, Tensor) else np.asarray(field)


def _named(evaluation: Any, asked: Sequence[str]) -> dict[str, float]:
    names = [name for metric in asked for name in OF_METRIC.get(metric, ())]
    return {name: float(getattr(evaluation.combined, name)) for name in names}


@METRICS.register_module()
class MotFolderMetric(_TrackMetric):
    """HOTA, CLEAR and IDF1 against ``data_root/SEQUENCE/gt/gt.txt``, as `masa-track eval` computes them.

    Args:
        data_root, sequences: as in :class:`~masa_track.integrations.mmdet.datasets.MotFolderDataset`.
        **options: of all metrics here.
    """

    def __init__(self, data_root: str, sequences: Sequence[str] | None = None, **options: Any) -> None:
        super().__init__(**options)
        if "teta" in self.asked:
            raise InputError("metric TETA needs classes: give the truth as COCO-VID or TAO json, and TaoTETAMetric")
        self.folders = sequence_folders(data_root, sequences)
        missing = [folder.name for folder in self.folders if not (folder / "gt" / "gt.txt").is_file()]
        if missing and not self.format_only:
            raise InputError(f"{missing[0]} has no gt/gt.txt to score against: take format_only=True, or others")

    def video_names(self) -> dict[Any, str]:
        """The sequences, counted from 1."""
        return {number: folder.name for number, folder in enumerate(self.folders, 1)}

    def score(self, joined: Path) -> tuple[dict[str, float], str]:
        """Of the MOTChallenge texts."""
        sequences = {}
        for folder in self.folders:
            ruled = read_ruled(folder.name, folder / "gt" / "gt.txt", self.files.text_of(folder.name))
            sequences[folder.name] = (ruled.truth.every(self.stride), ruled.tracks.every(self.stride))
        evaluation = score_sequences(sequences, self.iou, self.stride)
        return _named(evaluation, self.asked), format_table(evaluation)


@METRICS.register_module()
class CocoVidMetric(_TrackMetric):
    """HOTA, CLEAR, IDF1 and TETA against COCO-VID or TAO json, as `masa-track eval` computes them.

    Args:
        ann_file: the truth.
        exhaustive: whether it holds all objects of its classes; None: unless it is TAO's.
        **options: of all metrics here.
    """

    exhaustive: bool | None = None

    def __init__(self, ann_file: str, exhaustive: bool | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.ann_file = ann_file
        self.exhaustive = type(self).exhaustive if exhaustive is None else exhaustive
        content = read_json(ann_file)
        self._videos = {video["id"]: str(video.get("name", video["id"])) for video in content.get("videos", [])}
        self._category = {category["name"]: category["id"] for category in content.get("categories", [])}

    def video_names(self) -> dict[Any, str]:
        """As the file lists them."""
        return self._videos

    def categories(self, labels: np.ndarray) -> np.ndarray:
        """The file's category ids, by the names of the data set's classes."""
        classes = (self.dataset_meta or {}).get("classes") or list(self._category)
        outside = labels[(labels < 0) | (labels >= len(classes))]
        if len(outside):
            raise InputError(
                f"a box has label {int(outside[0])}, but the data set has {len(classes)} classes: give the detector's "
                "classes in the same order, or public detections with class names"
            )
        return np.array([self._category[classes[label]] for label in labels.tolist()], np.int64)

    def score(self, joined: Path) -> tuple[dict[str, float], str]:
        """Of the joined file."""
        from masa_track.evaluation.metrics import measure
        from masa_track.evaluation.table import format_teta

        measured = measure(self.ann_file, joined, self.asked, self.stride, self.iou, self.exhaustive)
        scores, tables = {}, []
        if measured.evaluation is not None:
            scores = _named(measured.evaluation, self.asked)
            tables.append(format_table(measured.evaluation, self.asked))
        if measured.teta is not None:
            overall = measured.teta.overall
            scores |= {"teta": overall.teta, "teta_loc_a": overall.loc_a}
            scores |= {"teta_assoc_a": overall.assoc_a, "teta_cls_a": overall.cls_a}
            tables.append(format_teta(measured.teta, measured.class_names, measured.exhaustive))
        return scores, "\n\n".join(tables)


@METRICS.register_module()
class TaoTETAMetric(CocoVidMetric):
    """TETA as TAO asks for it: the truth does not hold all objects, and a track has one class."""

    metrics = ("TETA", "HOTA", "CLEAR", "Identity")
    exhaustive = False

    def __init__(self, ann_file: str, tcc: bool = True, **options: Any) -> None:
        super().__init__(ann_file, tcc=tcc, **options)


@METRICS.register_module()
class BDDTETAMetric(CocoVidMetric):
    """TETA as BDD100K asks for it: the truth holds all objects of its classes."""

    metrics = ("TETA", "HOTA", "CLEAR", "Identity")
    exhaustive = True
