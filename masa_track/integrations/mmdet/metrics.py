"""The metrics by their official names: they write the tracks of each video, and hand the files to the evaluation."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.evaluation.metrics.base_video_metric import BaseVideoMetric
from mmdet.registry import METRICS
from mmengine.dist import barrier, broadcast_object_list, is_main_process
from mmengine.logging import print_log
from torch import Tensor

from masa_track.errors import InputError, unknown_name
from masa_track.evaluation import TetaResult, TetaScores, format_table, score_sequences
from masa_track.evaluation.bdd import format_bdd, scalabel_frames, score_bdd, summary
from masa_track.evaluation.metrics import named_scores
from masa_track.evaluation.rules import read_ruled
from masa_track.evaluation.teta import mean_scores
from masa_track.files import write_text
from masa_track.integrations.mmdet.datasets import read_json, sequence_folders
from masa_track.integrations.mmdet.results import TAO_FILE, FrameTracks, VideoFiles, fill_tracks, majority_classes
from masa_track.masks import encode_mask

NAMES = {"HOTA": "hota", "CLEAR": "clear", "Identity": "idf1", "IDF1": "idf1", "TETA": "teta"}
AS_HERE = ("dataset_type", "collect_device")  # the classes are ann_file's, and files gather the results: same scores
IGNORED = ("benchmark", "interval_tolerance")  # keys of the authors' without effect here; a warning names them
STEP = {"min_num_frames": 5, "max_num_frames": 20, "use_gsi": False, "smooth_tau": 10}  # of InterpolateTracklets
SCALABEL_FILE = "bdd_track_scalabel_format.json"


class _TrackMetric(BaseVideoMetric):
    """What all share.

    Args:
        metric: of TETA, HOTA, CLEAR and Identity (IDF1).
        outfile_prefix: folder of the results, see :class:`~masa_track.integrations.mmdet.results.VideoFiles`; None: a
            temporary one.
        format_only: only write the results.
        stride: every how many frames the data set gives.
        track_iou_thr: from which IoU CLEAR and IDF1 accept a match.
        tcc: give all boxes of a track the class that most of them have, as the authors do for TAO and BDD100K.
        prefix: before the names of the scores.
        with_mask: only with ``format_only``: masks are written in any case, but scores are of boxes.
        use_postprocess: fill the gaps of each track, as does
            ``postprocess_tracklet_cfg=[dict(type="InterpolateTracklets")]``.
        postprocess_tracklet_cfg: see :func:`gap_filling`. All result files have the filled tracks.
        **unused: other keys of the authors'. What has no effect is said in a warning.
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
            if name not in (*AS_HERE, *IGNORED):
                raise unknown_name(f"key of {type(self).__name__}", name, (*AS_HERE, *IGNORED))
            if name in IGNORED:
                self.warn(f"test_evaluator.{name} has no effect here")
        self.filling = gap_filling(postprocess_tracklet_cfg or ([{}] if use_postprocess else []))
        if with_mask and not format_only:
            raise InputError(
                "with_mask=True asks for scores by the overlap of masks, which only BDDTETAMetric with scalabel_gt "
                "computes: give test_evaluator.scalabel_gt=FOLDER of labels with rle, take "
                "test_evaluator.with_mask=False for scores of the boxes, or test_evaluator.format_only=True; masks are "
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

    def export(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Writes all tracks, given as TAO results, in further formats; there are none here."""

    def warn(self, message: str) -> None:
        """Says what of the configuration has no effect."""
        print_log(f"{type(self).__name__}: {message}", "current", logging.WARNING)

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
                frames = self._frames.pop(video)
                for most, shortest in self.filling:
                    frames = fill_tracks(frames, most, shortest)
                self.files.write(self.video_names()[video], frames)

    def process_video(self, data_samples: Sequence[Any]) -> None:
        """As :meth:`process_image` for all frames of a video."""
        self.process_image(data_samples, len(data_samples))

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Joins the files of all videos, whoever wrote them, and scores them."""
        rows = self.files.join(list(self.video_names().values()))
        joined = self.files.folder / TAO_FILE
        rows = majority_classes(rows) if self.tcc else rows
        write_text(joined, json.dumps(rows) + "\n")
        self.export(rows)
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


def gap_filling(steps: Sequence[Mapping[str, Any]]) -> list[tuple[int, int]]:
    """What mmdet's ``InterpolateTracklets`` of ``postprocess_tracklet_cfg`` ask for.

    Args:
        steps: each with ``max_num_frames`` (20; gaps of fewer frames from box to box are filled), ``min_num_frames``
            (5; tracks of more boxes are filled) and ``use_gsi`` (False).

    Returns:
        Of each step, the largest number of missing frames and the smallest number of boxes of a track.

    Raises:
        InputError: another type or key, a number out of range, or Gaussian smoothing.
    """
    found = []
    for step in steps:
        kind = str(step.get("type", "InterpolateTracklets")).rpartition(".")[2]
        if kind != "InterpolateTracklets":
            raise InputError(
                f"postprocess_tracklet_cfg.type must be InterpolateTracklets, got {kind!r}: leave it out, or process "
                "the tracks of a run by `masa-track export RUN --finish`"
            )
        for name in step:
            if name not in ("type", *STEP):
                raise unknown_name("key of InterpolateTracklets", name, STEP)
        options = {**STEP, **step}
        if options["use_gsi"]:
            raise InputError(
                "InterpolateTracklets.use_gsi=True (Gaussian smoothing) is not supported: leave it out; gaps are then "
                "filled by lines"
            )
        for name in ("min_num_frames", "max_num_frames"):
            if isinstance(options[name], bool) or not isinstance(options[name], int) or options[name] < 0:
                raise InputError(f"InterpolateTracklets.{name} must be a whole number of frames, got {options[name]!r}")
        found.append((max(options["max_num_frames"] - 2, 0), options["min_num_frames"] + 1))
    return found


def _array(field: Any) -> np.ndarray:
    return field.detach().cpu().numpy() if isinstance(field, Tensor) else np.asarray(field)


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
        return named_scores(evaluation, None, self.asked), format_table(evaluation)


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
        content = self._content = read_json(ann_file)
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

    def groups(self, result: TetaResult) -> dict[str, TetaScores]:
        """TETA of groups of classes, by name; there are none here."""
        return {}

    def score(self, joined: Path) -> tuple[dict[str, float], str]:
        """Of the joined file."""
        from masa_track.evaluation.metrics import measure
        from masa_track.evaluation.table import format_teta

        measured = measure(self.ann_file, joined, self.asked, self.stride, self.iou, self.exhaustive)
        scores, tables = {}, []
        if measured.evaluation is not None:
            scores = named_scores(measured.evaluation, None, self.asked)
            tables.append(format_table(measured.evaluation, self.asked))
        if measured.teta is not None:
            groups = self.groups(measured.teta)
            for name, one in {
                "teta": measured.teta.overall,
                **{f"teta_{name}": groups[name] for name in groups},
            }.items():
                scores |= {name: one.teta, f"{name}_loc_a": one.loc_a}
                scores |= {f"{name}_assoc_a": one.assoc_a, f"{name}_cls_a": one.cls_a}
            tables.append(format_teta(measured.teta, measured.class_names, measured.exhaustive, groups))
        return scores, "\n\n".join(tables)


@METRICS.register_module()
class TaoTETAMetric(CocoVidMetric):
    """TETA as TAO asks for it: the truth does not hold all objects, and a track has one class.

    Args:
        ann_file, tcc: see the other metrics.
        open_vocabulary: also give TETA of the base classes, and of the novel ones, whose ``frequency`` in ``ann_file``
            is ``r`` (rare): ``teta_base`` and ``teta_novel``, each the mean of its classes that have truth.
        **options: of all metrics here.
    """

    metrics = ("TETA", "HOTA", "CLEAR", "Identity")
    exhaustive = False

    def __init__(self, ann_file: str, tcc: bool = True, open_vocabulary: bool = False, **options: Any) -> None:
        super().__init__(ann_file, tcc=tcc, **options)
        self._novel: dict[int, bool] = {}
        if not open_vocabulary:
            return
        if "teta" not in self.asked:
            raise InputError("open_vocabulary=True gives TETA of base and novel classes: metric must name TETA")
        for category in self._content.get("categories", []):
            if category.get("frequency") not in ("f", "c", "r"):
                raise InputError(
                    f"open_vocabulary=True: each category of {ann_file} must have a frequency, f, c or r (LVIS), got "
                    f"{category.get('frequency')!r} for {category.get('name')!r}"
                )
            self._novel[category["id"]] = category["frequency"] == "r"

    def groups(self, result: TetaResult) -> dict[str, TetaScores]:
        """TETA of the base and of the novel classes, of those that have classes with truth."""
        if not self._novel:
            return {}
        parts = {
            name: [scores for number, scores in result.classes.items() if self._novel[number] == novel]
            for name, novel in (("base", False), ("novel", True))
        }
        return {name: mean_scores(scores) for name, scores in parts.items() if scores}


@METRICS.register_module()
class BDDTETAMetric(CocoVidMetric):
    """BDD100K's benchmarks: MOT by boxes and, with ``with_mask``, MOTS by masks.

    With ``scalabel_gt`` the scores are those of the benchmark, 0 to 100, see :mod:`masa_track.evaluation.bdd`; without,
    boxes are scored as those of other COCO-VID json, 0 to 1, with the truth taken as exhaustive.

    Args:
        ann_file: the labels as COCO-VID json; its ``frame_id`` must be the labels' ``frameIndex``.
        tcc: give all boxes of a track the class that most of them have.
        scalabel_gt: the labels as BDD100K gives them, a folder of json files or a file; for masks, with ``rle``.
        scalabel_format: write ``bdd_track_scalabel_format.json``, which BDD100K's server takes.
        with_mask: score masks. Where masks of a frame overlap, the one of the highest score keeps the pixels.
        **options: of all metrics here.
    """

    metrics = ("TETA", "HOTA", "CLEAR", "Identity")
    exhaustive = True

    def __init__(
        self,
        ann_file: str,
        tcc: bool = True,
        scalabel_gt: str | None = None,
        scalabel_format: bool = True,
        with_mask: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(ann_file, tcc=tcc, with_mask=with_mask and scalabel_gt is None, **options)
        self.scalabel_gt, self.scalabel_format, self.with_mask = scalabel_gt, scalabel_format, with_mask
        if with_mask and self.filling:
            raise InputError(
                "use_postprocess and postprocess_tracklet_cfg fill gaps with boxes, which have no masks to score by "
                "with_mask=True: leave them out"
            )
        if scalabel_gt is None or self.format_only:
            return
        if not Path(scalabel_gt).exists():
            raise InputError(
                f"scalabel_gt must be BDD100K's labels, but there is no {scalabel_gt}: give their place, or "
                "test_evaluator.scalabel_gt=None to score boxes against ann_file, by other rules"
            )
        if self.iou != 0.5:
            self.warn(f"test_evaluator.track_iou_thr={self.iou} has no effect: BDD100K's rules take 0.5")

    def export(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Writes the file for BDD100K's server."""
        if self.scalabel_format or (self.scalabel_gt is not None and not self.format_only):
            missing = next((row for row in rows if self.with_mask and "segmentation" not in row), None)
            if missing is not None:
                raise InputError("with_mask=True needs a mask for each box of the tracks: give model.with_segm=True")
            frames = scalabel_frames(self._content, rows, self.with_mask)
            write_text(self.files.folder / SCALABEL_FILE, json.dumps(frames) + "\n")

    def score(self, joined: Path) -> tuple[dict[str, float], str]:
        """Of the server's file, where there are labels in its format."""
        if self.scalabel_gt is None:
            return super().score(joined)
        asked = dict.fromkeys("clear" if name == "idf1" else name for name in self.asked)
        file = self.files.folder / SCALABEL_FILE
        rows = score_bdd(self.scalabel_gt, file, list(asked), self.with_mask, self.stride)
        return summary(rows), format_bdd(rows)
