"""Scores of BDD100K's tracking benchmarks, MOT by boxes and MOTS by masks, as the benchmark computes them.

The benchmark scores files in the format of scalabel: a list of frames, each with ``videoName``, ``frameIndex`` and
``labels``. Its rules differ from those of `masa-track eval` for COCO-VID json:

- HOTA, MOTA and IDF1 are computed for each of the eight classes. AVERAGE is the mean over the classes (a class without
  boxes counts 0 for MOTA, IDF1 and HOTA, and is left out for TETA). OVERALL adds up the counts of the classes.
- MOTA, IDF1 and TETA take boxes with both edge pixels, so a box is ``x2 - x1 + 1`` wide. HOTA takes ``x2 - x1``.
- Boxes that match no truth and lie in a crowd region by more than half are not scored.
- The classes ``other person``, ``other vehicle`` and ``trailer`` are such regions for MOTA and IDF1. For HOTA and TETA
  they are truth of ``pedestrian``, ``car`` and ``truck``.
- All frames are scored, also those without truth.

Source: scalabel (Apache-2.0) and the TETA authors' tool, whose rules these are; TrackEval computes HOTA and
py-motmetrics MOTA and IDF1, as there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from masa_track.boxes import box_iou
from masa_track.errors import InputError, unknown_name
from masa_track.evaluation.table import TETA_COLUMNS
from masa_track.evaluation.teta import ClassTracks, TetaCounts, add_counts, class_scores, count_video, mean_scores
from masa_track.formats.json_file import is_finite, objects, parse_json, shown, whole
from masa_track.masks import Rle, compressed, decode_mask, encode_mask, mask_api
from masa_track.registry import check_installed

CLASSES = ("pedestrian", "rider", "car", "bus", "truck", "train", "motorcycle", "bicycle")  # in the order of TETA
GROUPS = {"human": CLASSES[:2], "vehicle": CLASSES[2:6], "bike": CLASSES[6:]}
RENAMED = {"bike": "bicycle", "caravan": "car", "motor": "motorcycle", "person": "pedestrian", "van": "car"}
DISTRACTORS = {"other person": "pedestrian", "other vehicle": "car", "trailer": "truck"}
METRICS = ("teta", "hota", "clear")
IGNORED = 0.5  # the part of a box in a region from which it is not scored
MATCHED = 0.5  # the IoU from which a box is matched

_EPS = float(np.finfo("float").eps)
_HOTA = ("HOTA", "DetA", "AssA", "DetRe", "DetPr", "AssRe", "AssPr")
_CLEAR = {"MOTA": "mota", "MOTP": "motp", "IDF1": "idf1"}
_COUNTS = {
    "IDSw": "num_switches",
    "FP": "num_false_positives",
    "FN": "num_misses",
    "MT": "mostly_tracked",
    "PT": "partially_tracked",
    "ML": "mostly_lost",
    "FM": "num_fragmentations",
}
_MEANS = ("TETA", "LocA", "AssocA", "ClsA", "HOTA", "DetA", "AssA", "MOTA", "MOTP", "IDF1")

Rows = dict[str, dict[str, float]]  # by class, group, AVERAGE and OVERALL: scores by name, 0 to 100, and counts


@dataclass(frozen=True)
class Labels:
    """The labels of one video.

    Attributes:
        listed: the frames that the file lists.
        frames: (N,) int64.
        ids: (N,) int64, each at most once in a frame.
        classes: (N,) int64, places in :data:`CLASSES`.
        boxes: (N, 4) float64 xyxy pixels.
        crowd: (N,) bool, regions.
        distractor: (N,) bool, of a class that is not scored.
        masks: N masks, or none.
    """

    listed: tuple[int, ...]
    frames: np.ndarray
    ids: np.ndarray
    classes: np.ndarray
    boxes: np.ndarray
    crowd: np.ndarray
    distractor: np.ndarray
    masks: tuple[Rle, ...] = ()

    def where(self, keep: np.ndarray) -> Labels:
        """Only the rows that a mask (N,) keeps."""
        masks = tuple(mask for mask, kept in zip(self.masks, keep.tolist(), strict=True) if kept) if self.masks else ()
        columns = (self.frames, self.ids, self.classes, self.boxes, self.crowd, self.distractor)
        frames, ids, classes, boxes, crowd, distractor = (column[keep] for column in columns)
        return Labels(self.listed, frames, ids, classes, boxes, crowd, distractor, masks)


def read_scalabel(path: str | Path, masks: bool = False) -> dict[str, Labels]:
    """Reads labels in the format of scalabel.

    Args:
        path: a json file (a list of frames, or a dict with ``frames``), or a folder of such files.
        masks: read ``rle`` of each label instead of ``box2d``.

    Returns:
        The labels by the video's name, in order.

    Raises:
        InputError: a file cannot be read, or an entry is not as it must be.
    """
    place = Path(path)
    files = sorted(place.glob("*.json")) if place.is_dir() else [place]
    if not files or not files[0].is_file():
        raise InputError(f"scalabel_gt must be a json file or a folder of json files in scalabel's format, got {path}")
    frames: dict[str, list[tuple[int, list[dict[str, Any]], str]]] = {}
    for file in files:
        try:
            content = parse_json(file.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError) as error:
            raise InputError(f"cannot read {file}: {error}") from error
        listed = content.get("frames") if isinstance(content, dict) else content
        for number, frame in enumerate(objects(listed, f"{file}: frames")):
            entry = f"{file}, frames[{number}]"
            if not isinstance(frame.get("videoName"), str):
                raise InputError(f"{entry}: videoName must be text, got {shown(frame.get('videoName'))}")
            labels = objects(frame.get("labels") or [], f"{entry}: labels")
            frames.setdefault(frame["videoName"], []).append((whole(frame, "frameIndex", entry), labels, entry))
    return {video: _video(sorted(found, key=lambda one: one[0]), masks) for video, found in sorted(frames.items())}


def _video(frames: Sequence[tuple[int, list[dict[str, Any]], str]], masks: bool) -> Labels:
    listed = tuple(number for number, _, _ in frames)
    if len(set(listed)) < len(listed):
        twice = next(number for number in listed if listed.count(number) > 1)
        raise InputError(f"{frames[0][2]}: frameIndex {twice} is in this video twice")
    names = [str(label.get("id")) for _, labels, _ in frames for label in labels]
    if all(name.isdigit() for name in names):
        number_of = {name: int(name) for name in names}
    else:
        number_of = {name: number for number, name in enumerate(sorted(set(names)), 1)}
    rows: list[tuple[int, int, int, list[float], bool, bool]] = []
    found: list[Rle] = []
    seen: set[tuple[int, int]] = set()
    for frame, labels, entry in frames:
        for label in labels:
            name = str(label.get("category"))
            name = RENAMED.get(name, name)
            distractor = name in DISTRACTORS
            name = DISTRACTORS.get(name, name)
            if name not in CLASSES:
                raise InputError(f"{entry}: category {shown(name)} is none of BDD100K's: {', '.join(CLASSES)}")
            if label.get("rle" if masks else "box2d") is None:
                if masks and label.get("poly2d") is not None:
                    raise InputError(f"{entry}: masks must be rle, got poly2d: convert with bdd100k.label.to_rle")
                continue
            box = [0.0] * 4
            if masks:
                size = label["rle"].get("size") if isinstance(label["rle"], Mapping) else None
                if not isinstance(size, list) or len(size) != 2:
                    raise InputError(f"{entry}: rle must have size and counts, got {shown(label['rle'])}")
                found.append(compressed(label["rle"], (int(size[0]), int(size[1]))))
            else:
                box = [label["box2d"].get(key) for key in ("x1", "y1", "x2", "y2")]
                if not all(is_finite(value) for value in box):
                    raise InputError(f"{entry}: box2d must have finite x1, y1, x2, y2, got {shown(label['box2d'])}")
            attributes = label.get("attributes") or {}
            track = number_of[str(label.get("id"))]
            crowd = bool(attributes.get("crowd"))
            if not crowd and (frame, track) in seen:
                raise InputError(f"{entry}: id {label.get('id')} occurs twice in this frame")
            seen.add((frame, track))
            ignored = distractor or bool(attributes.get("ignored"))
            rows.append((frame, track, CLASSES.index(name), box, crowd, ignored))
    numbers, ids, classes = (np.array([row[i] for row in rows], np.int64) for i in range(3))
    boxes = np.array([row[3] for row in rows], np.float64).reshape(-1, 4)
    crowds, distractors = (np.array([row[i] for row in rows], bool) for i in (4, 5))
    return Labels(listed, numbers, ids, classes, boxes, crowds, distractors, tuple(found))


def remove_overlaps(scores: Sequence[float], masks: Sequence[Rle]) -> list[Rle | None]:
    """The masks of one frame without the pixels that a mask of a higher score has; None where no pixel is left.

    Args:
        scores: N; of equal ones, the later mask keeps its pixels, as in the authors' tool.
        masks: N of one picture.
    """
    kept: list[Rle | None] = [None] * len(masks)
    taken: np.ndarray | None = None
    for row in np.argsort(scores, kind="stable")[::-1].tolist():
        mask = decode_mask(masks[row])
        if taken is not None:
            mask &= ~taken
        if mask.any():
            kept[row] = encode_mask(mask)
            taken = mask if taken is None else taken | mask
    return kept


def scalabel_frames(truth: Mapping[str, Any], rows: Iterable[Mapping[str, Any]], masks: bool = False) -> list[Any]:
    """Tracks in the format of scalabel, as BDD100K's server takes them: every frame of the truth is listed.

    Args:
        truth: COCO-VID json: ``videos``, ``images`` (``file_name``, ``frame_id``) and ``categories``.
        rows: TAO results; of masks, with ``segmentation``.
        masks: write ``rle``, without overlaps within a frame; what is covered whole is left out.
    """
    video_of = {video["id"]: str(video.get("name", video["id"])) for video in truth["videos"]}
    name_of = {category["id"]: category["name"] for category in truth["categories"]}
    found: dict[Any, list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["image_id"], []).append(row)
    frames = []
    for image in truth["images"]:
        ours = found.get(image["id"], [])
        kept: Sequence[Rle | None] = [None] * len(ours)
        if masks:
            size = (image["height"], image["width"])
            rles = [compressed(row["segmentation"], size) for row in ours]
            kept = remove_overlaps([row["score"] for row in ours], rles)
        labels = []
        for row, mask in zip(ours, kept, strict=True):
            if masks and mask is None:
                continue
            x, y, width, height = row["bbox"]
            label = {"id": str(row["track_id"]), "category": name_of[row["category_id"]], "score": row["score"]}
            label["box2d"] = {"x1": x, "y1": y, "x2": x + width, "y2": y + height}
            labels.append({**label, "rle": mask} if masks else label)
        facts = {"name": image["file_name"], "videoName": video_of[image["video_id"]], "frameIndex": image["frame_id"]}
        frames.append({**facts, "labels": labels})
    return frames


def score_bdd(
    truth: str | Path, tracks: str | Path, metrics: Sequence[str] = METRICS, masks: bool = False, stride: int = 1
) -> Rows:
    """Scores tracks as the benchmark does.

    Args:
        truth: labels in scalabel's format, see :func:`read_scalabel`.
        tracks: results in the same format, see :func:`scalabel_frames`.
        metrics: of :data:`METRICS`; ``clear`` includes IDF1.
        masks: score masks (MOTS), not boxes.
        stride: keep frames 0, stride, ... of each video, counted from its first.

    Returns:
        Scores (0 to 100) and counts by name, of each class, of each group of classes, AVERAGE and OVERALL.

    Raises:
        InputError: a file is missing or broken, or the tracks have videos or frames that the truth has not.
    """
    for name in metrics:
        if name not in METRICS:
            raise unknown_name("metric", name, METRICS)
    theirs, ours = read_scalabel(truth, masks), read_scalabel(tracks, masks)
    outside = [video for video in ours if video not in theirs]
    if outside:
        raise InputError(f"{truth} has no video {outside[0]!r}, which the tracks have: it must be of the same videos")
    pairs = []
    for video, labels in theirs.items():
        found = ours.get(video)
        if found is None:
            found = labels.where(np.zeros(len(labels.frames), bool))
        missing = sorted(set(found.listed) - set(labels.listed))
        if missing:
            raise InputError(
                f"{truth} has no frameIndex {missing[0]} of video {video} (its first is {labels.listed[0]}): frame_id "
                "in ann_file must be the same"
            )
        pairs.append((_every(labels, stride, labels.listed[0]), _every(found, stride, labels.listed[0])))
    if not any((~labels.crowd).any() for labels, _ in pairs):
        kind = "an rle" if masks else "a box2d"
        raise InputError(f"{truth} must have a label with {kind} to score against, but has none on the scored frames")
    members = {**GROUPS, "OVERALL": CLASSES}
    rows: Rows = {name: {} for name in (*CLASSES, *GROUPS, "AVERAGE", "OVERALL")}
    for name, scorer in (("teta", _teta), ("hota", _hota), ("clear", _clear)):
        if name in metrics:
            for row, scores in scorer(pairs, members).items():
                rows[row] |= scores
    return rows


def summary(rows: Rows) -> dict[str, float]:
    """The scores in one line: ``mTETA``, ``mHOTA``, ... of AVERAGE, the others of OVERALL."""
    means = {f"m{name}": value for name, value in rows["AVERAGE"].items() if name in _MEANS}
    return means | rows["OVERALL"]


def format_bdd(rows: Rows) -> str:
    """The scores as a table: a row a class, a group, AVERAGE and OVERALL."""
    columns = list(rows["OVERALL"])
    lines = [["class", *columns]]
    for name, scores in rows.items():
        cells = [scores.get(column, np.nan) for column in columns]
        texts = [
            "-" if np.isnan(v) else str(int(v)) if c in _COUNTS else f"{v:.1f}"
            for c, v in zip(columns, cells, strict=True)
        ]
        lines.append([name, *texts])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    table = [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    return "\n".join([*table, "", "0 to 100, by BDD100K's rules; AVERAGE is the mean of the classes"])


def _every(labels: Labels, stride: int, first: int) -> Labels:
    kept = labels.where((labels.frames - first) % stride == 0)
    listed = tuple(frame for frame in labels.listed if (frame - first) % stride == 0)
    return Labels(listed, kept.frames, kept.ids, kept.classes, kept.boxes, kept.crowd, kept.distractor, kept.masks)


# --- overlaps ---


def _grown(boxes: np.ndarray) -> np.ndarray:
    return boxes + np.array([0, 0, 1, 1])


def _iou(truth: Labels, found: Labels, rows: np.ndarray, columns: np.ndarray, grown: bool) -> np.ndarray:
    """(n, m) IoU of rows of the truth and of the tracks, of masks where there are masks."""
    if not len(rows) or not len(columns):
        return np.zeros((len(rows), len(columns)))
    if truth.masks:
        theirs, ours = [truth.masks[i] for i in rows], [found.masks[i] for i in columns]
        return np.asarray(mask_api().iou(ours, theirs, [False] * len(theirs))).T
    if grown:
        return box_iou(_grown(truth.boxes[rows]), _grown(found.boxes[columns]))
    return box_iou(truth.boxes[rows], found.boxes[columns])


def _inside(
    truth: Labels, found: Labels, regions: np.ndarray, columns: np.ndarray, grown: bool, union: bool
) -> np.ndarray:
    """(m,) the largest part of each track's box or mask that lies in a region; masks in all regions if ``union``."""
    if not len(regions) or not len(columns):
        return np.zeros(len(columns))
    if truth.masks:
        masks = [truth.masks[i] for i in regions]
        if union:
            masks = [mask_api().merge(masks)]
        return np.asarray(mask_api().iou([found.masks[i] for i in columns], masks, [True] * len(masks))).max(axis=1)
    boxes, areas = found.boxes[columns], truth.boxes[regions]
    if grown:
        boxes, areas = _grown(boxes), _grown(areas)
    low = np.maximum(boxes[:, None, :2], areas[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], areas[None, :, 2:])
    size = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    part = np.maximum(high - low, 0).prod(axis=2) / np.where(size > _EPS, size, np.inf)[:, None]
    return part.max(axis=1)


def _matched(iou: np.ndarray, all_first: bool) -> np.ndarray:
    """(m,) bool, the columns that the assignment matches; ``all_first``: as many as possible, then the largest sum."""
    good = np.zeros(iou.shape[1], bool)
    if iou.size:
        gain = np.where(iou >= MATCHED - _EPS, iou, -10000 if all_first else 0)
        rows, columns = linear_sum_assignment(gain, maximize=True)
        good[columns[gain[rows, columns] > _EPS]] = True
    return good


def _by_frame(labels: Labels) -> dict[int, np.ndarray]:
    """The rows of each frame that has some."""
    if not len(labels.frames):
        return {}
    order = np.argsort(labels.frames, kind="stable")
    numbers, starts = np.unique(labels.frames[order], return_index=True)
    return dict(zip(numbers.tolist(), np.split(order, starts[1:]), strict=True))


_NONE = np.zeros(0, np.int64)


# --- TETA ---


def _teta(pairs: Sequence[tuple[Labels, Labels]], members: Mapping[str, Sequence[str]]) -> Rows:
    total = {number: TetaCounts.zeros() for number in range(len(CLASSES))}
    for truth, found in pairs:
        regions = {frame: rows[truth.crowd[rows]] for frame, rows in _by_frame(truth).items()}
        there, here = _by_frame(truth), _by_frame(found)
        keep = np.ones(len(found.frames), bool)
        for frame, columns in here.items():
            rows = there.get(frame, _NONE)
            rows = rows[~truth.crowd[rows]]
            matched = _matched(_iou(truth, found, rows, columns, True), bool(truth.masks))
            inside = _inside(truth, found, regions.get(frame, _NONE), columns, True, True)
            keep[columns[~matched & (inside > IGNORED + _EPS)]] = False
        scored, tracks = truth.where(~truth.crowd), found.where(keep)

        def overlap(
            rows: np.ndarray, columns: np.ndarray, scored: Labels = scored, tracks: Labels = tracks
        ) -> np.ndarray:
            return _iou(scored, tracks, rows, columns, True)

        true, ours = (ClassTracks(one.frames, one.ids, one.classes, one.boxes) for one in (scored, tracks))
        add_counts(total, count_video(true, ours, exhaustive=True, every_frame=True, overlap=overlap))
    scores = {CLASSES[number]: class_scores(counts) for number, counts in total.items()}
    with_truth = [scores[CLASSES[i]] for i, counts in total.items() if counts.loc_tp[0] + counts.loc_fn[0] > 0]
    scores["AVERAGE"] = mean_scores(with_truth)
    for group, names in members.items():
        scores[group] = class_scores(sum((total[CLASSES.index(name)] for name in names), TetaCounts.zeros()))
    return {
        row: {name: 100 * getattr(one, field) for name, field in TETA_COLUMNS.items()} for row, one in scores.items()
    }


# --- HOTA ---


def _hota(pairs: Sequence[tuple[Labels, Labels]], members: Mapping[str, Sequence[str]]) -> Rows:
    check_installed("eval", purpose="for HOTA")
    from trackeval.metrics import HOTA

    hota = HOTA()
    classes = {}
    for number, name in enumerate(CLASSES):
        videos = {str(i): hota.eval_sequence(_hota_data(*pair, number)) for i, pair in enumerate(pairs)}
        classes[name] = hota.combine_sequences(videos)
    results = {**classes, "AVERAGE": hota.combine_classes_class_averaged(classes)}
    for group, names in members.items():
        results[group] = hota.combine_classes_det_averaged({name: classes[name] for name in names})
    return {row: {name: 100 * float(np.mean(one[name])) for name in _HOTA} for row, one in results.items()}


def _hota_data(truth: Labels, found: Labels, number: int) -> dict[str, Any]:
    """One class of one video as TrackEval's HOTA takes it."""
    there, here = _by_frame(truth), _by_frame(found)
    true_ids, track_ids, similarities = [], [], []
    for frame in sorted({*there, *here}):
        rows, columns = there.get(frame, _NONE), here.get(frame, _NONE)
        regions = rows[truth.crowd[rows]]
        rows = rows[~truth.crowd[rows] & (truth.classes[rows] == number)]
        columns = columns[found.classes[columns] == number]
        iou = _iou(truth, found, rows, columns, False)
        inside = _inside(truth, found, regions, columns, False, True)
        keep = _matched(iou, bool(truth.masks)) | (inside <= IGNORED + _EPS)
        true_ids.append(truth.ids[rows])
        track_ids.append(found.ids[columns[keep]])
        similarities.append(iou[:, keep])
    data: dict[str, Any] = {"similarity_scores": similarities, "num_timesteps": len(similarities)}
    for side, ids in (("gt", true_ids), ("tracker", track_ids)):
        names, places = np.unique(np.concatenate([_NONE, *ids]), return_inverse=True)
        data[f"{side}_ids"] = np.split(places, np.cumsum([len(one) for one in ids])[:-1]) if ids else []
        data[f"num_{side}_ids"], data[f"num_{side}_dets"] = len(names), len(places)
    return data


# --- MOTA and IDF1 ---


def _clear(pairs: Sequence[tuple[Labels, Labels]], members: Mapping[str, Sequence[str]]) -> Rows:
    check_installed("eval", purpose="for MOTA and IDF1")
    import motmetrics

    host = motmetrics.metrics.create()
    wanted = [*_CLEAR.values(), *_COUNTS.values(), "num_detections"]
    done: dict[str, list[Any]] = {name: [] for name in CLASSES}
    # By default motmetrics takes whichever of lapsolver, lap and scipy is installed, and ties would fall differently.
    with motmetrics.lap.set_default_solver("scipy"):
        for truth, found in pairs:
            for number, name in enumerate(CLASSES):
                events = _events(truth, found, number)
                if len(events.events):
                    options = {"metrics": wanted, "return_dataframe": False, "return_cached": True}
                    done[name].append(host.compute(events, **options))

    def scores(parts: list[Any]) -> dict[str, float]:
        if not parts:
            return dict.fromkeys(_CLEAR, np.nan) | dict.fromkeys(_COUNTS, 0)
        overall = host.compute_overall(parts, metrics=wanted, return_dataframe=False)
        seen = [part for part in parts if part["num_detections"]]
        distance = sum(part["motp"] * part["num_detections"] for part in seen)
        motp = 1 - distance / sum(part["num_detections"] for part in seen) if seen else np.nan
        rates = {"MOTA": overall["mota"], "MOTP": motp, "IDF1": overall["idf1"]}
        rates = {name: 100 * float(value) for name, value in rates.items()}
        return rates | {name: float(overall[key]) for name, key in _COUNTS.items()}

    rows = {name: scores(parts) for name, parts in done.items()}
    numbers = {name: np.array([row[name] for row in rows.values()]) for name in (*_CLEAR, *_COUNTS)}
    average = {name: float(np.nan_to_num(numbers[name], nan=0, posinf=0, neginf=0).mean()) for name in _CLEAR}
    average |= {name: float(numbers[name].sum()) for name in _COUNTS}
    rows["AVERAGE"] = average
    for group, names in members.items():
        rows[group] = scores([part for name in names for part in done[name]])
    return rows


def _events(truth: Labels, found: Labels, number: int) -> Any:
    """What py-motmetrics counts of one class of one video."""
    import motmetrics

    events = motmetrics.MOTAccumulator(auto_id=True)
    ignored = truth.crowd | truth.distractor
    there, here = _by_frame(truth), _by_frame(found)
    for frame in sorted({*there, *here}):
        rows, columns = there.get(frame, _NONE), here.get(frame, _NONE)
        regions = rows[ignored[rows]]
        rows = rows[~ignored[rows] & (truth.classes[rows] == number)]
        columns = columns[found.classes[columns] == number]
        distances = 1 - _iou(truth, found, rows, columns, True)
        distances[distances > 1 - MATCHED] = np.nan
        if len(regions) and len(columns):
            matched = np.zeros(len(columns), bool)
            if len(rows):
                left, right = motmetrics.lap.linear_sum_assignment(distances)
                matched[[j for i, j in zip(left, right, strict=True) if np.isfinite(distances[i, j])]] = True
            keep = matched | (_inside(truth, found, regions, columns, True, False) <= IGNORED)
            columns, distances = columns[keep], distances[:, keep]
        if len(rows) or len(columns):
            events.update(truth.ids[rows], found.ids[columns], distances)
    return events
