"""A frame as arrays for the record of a run, and back: detections with identities, decisions, the map of stuff."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import supervision as sv

from masa_track.association.engine import Decisions, Outcome
from masa_track.contracts import Decision
from masa_track.formats.panoptic import PanopticMap, Segment, runs_of
from masa_track.masks import encode_mask

_COLUMNS = ("xyxy", "confidence", "class_id", "tracker_id")
_LOG_ODDS, _MARGINS, _RUNNERS, _TENTATIVE, _IDENTITIES = (
    f"decision.{name}" for name in ("log_odds", "margins", "runners_up", "tentative", "identities")
)
_TERM = "decision.term."
_NUMBERS, _LABELS, _RUNS = (f"map.{name}" for name in ("numbers", "labels", "runs"))
_LENGTH, _PLACE = np.dtype("<u4"), np.dtype("<u2")  # of a run of pixels


def detection_arrays(detections: sv.Detections) -> dict[str, np.ndarray]:
    """The rows as arrays: boxes, scores, classes, identities, masks as run lengths, and data that are numbers or text.

    Args:
        detections: N rows; masks as ``mask`` (N, H, W) or as ``data["segmentation"]`` (N,) run lengths.
    """
    arrays = {name: np.asarray(value) for name in _COLUMNS if (value := getattr(detections, name)) is not None}
    count = len(detections)
    for name, values in (detections.data or {}).items():
        if name == "segmentation":
            continue
        column = np.asarray(values)
        if column.dtype.kind == "O" and all(isinstance(one, str) for one in column.flat):
            column = column.astype(str)
        if column.dtype.kind in "biufUS" and column.shape[:1] == (count,):
            arrays[f"data.{name}"] = column
    masks = with_run_lengths(detections).data.get("segmentation")
    if masks is not None and any(mask is not None for mask in masks):
        counts = [b"" if mask is None else mask["counts"].encode("ascii") for mask in masks]
        arrays["mask.counts"] = np.frombuffer(b"".join(counts), np.uint8)
        arrays["mask.ends"] = np.cumsum([len(one) for one in counts])
    return arrays


def with_run_lengths(detections: sv.Detections) -> sv.Detections:
    """Adds ``data["segmentation"]`` (N,), each mask as run lengths; None for an empty one of a row without identity.

    Adds nothing where there are no masks.
    """
    if detections.mask is not None and "segmentation" not in detections.data:
        ids = np.full(len(detections), -1) if detections.tracker_id is None else detections.tracker_id
        masks = np.empty(len(detections), object)
        pairs = zip(detections.mask, ids.tolist(), strict=True)
        masks[:] = [encode_mask(mask) if identity >= 0 or mask.any() else None for mask, identity in pairs]
        detections.data["segmentation"] = masks
    return detections


def detections_of(arrays: Mapping[str, np.ndarray], size: tuple[int, int]) -> sv.Detections:
    """The rows of :func:`detection_arrays`.

    Args:
        arrays: by name.
        size: (width, height) of the picture.
    """
    count = len(arrays["xyxy"])
    data: dict[str, Any] = {name[5:]: values for name, values in arrays.items() if name.startswith("data.")}
    if "mask.ends" in arrays:
        text, ends = arrays["mask.counts"].tobytes(), arrays["mask.ends"].tolist()
        masks = np.empty(count, object)
        for row, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
            if end > start:
                masks[row] = {"size": [size[1], size[0]], "counts": text[start:end].decode("ascii")}
        data["segmentation"] = masks
    columns: dict[str, Any] = {name: arrays[name] for name in _COLUMNS if name in arrays}
    return sv.Detections(**columns, data=data)


def decision_arrays(decisions: Sequence[Decision], ids: np.ndarray | None) -> dict[str, np.ndarray]:
    """The decisions as columns (N,); identities only where they are not those of the rows."""
    if not len(decisions):
        return {}
    of = decisions.columns() if isinstance(decisions, Decisions) else _columns(decisions)
    arrays = {
        _LOG_ODDS: of.log_odds.astype(np.float32),
        _MARGINS: of.margins.astype(np.float32),
        _RUNNERS: of.runners_up.astype(np.int32),
        _TENTATIVE: of.tentative,
    }
    if ids is None or not np.array_equal(of.identities, ids):
        arrays[_IDENTITIES] = of.identities
    return arrays | {_TERM + name: values.astype(np.float32) for name, values in of.terms.items()}


def decisions_of(arrays: Mapping[str, np.ndarray], ids: np.ndarray | None) -> Any:
    """The decisions of :func:`decision_arrays`; empty where there are none."""
    if _LOG_ODDS not in arrays:
        return []
    terms = {name[len(_TERM) :]: values for name, values in arrays.items() if name.startswith(_TERM)}
    identities = arrays[_IDENTITIES] if ids is None or _IDENTITIES in arrays else ids
    outcome = Outcome(identities, arrays[_TENTATIVE], arrays[_LOG_ODDS], terms, arrays[_RUNNERS], arrays[_MARGINS])
    return Decisions(len(arrays[_LOG_ODDS]), lambda: outcome)


def map_arrays(panoptic: PanopticMap) -> dict[str, np.ndarray]:
    """A map as arrays: numbers and classes of its segments, and the runs of pixels along its rows, compressed.

    Args:
        panoptic: its segments are neither crowds nor do they have identities.
    """
    numbers, places, lengths = runs_of(panoptic.numbers)
    runs = zlib.compress(lengths.astype(_LENGTH).tobytes() + places.astype(_PLACE).tobytes())
    labels = [panoptic.segments[number].label if number else -1 for number in numbers.tolist()]
    return {
        _NUMBERS: numbers.astype(np.int32),
        _LABELS: np.array(labels, np.int32),
        _RUNS: np.frombuffer(runs, np.uint8),
    }


def map_of(arrays: Mapping[str, np.ndarray], size: tuple[int, int]) -> PanopticMap | None:
    """The map of :func:`map_arrays`; None where there is none.

    Args:
        arrays: by name.
        size: (width, height) of the picture.

    Raises:
        ValueError: the runs are damaged.
    """
    if _RUNS not in arrays:
        return None
    width, height = size
    unpacker = zlib.decompressobj()
    runs = unpacker.decompress(arrays[_RUNS].tobytes(), width * height * (_LENGTH.itemsize + _PLACE.itemsize) + 1)
    count = len(runs) // (_LENGTH.itemsize + _PLACE.itemsize)
    lengths = np.frombuffer(runs, _LENGTH, count)
    places = np.frombuffer(runs, _PLACE, count, count * _LENGTH.itemsize)
    numbers, labels = arrays[_NUMBERS], arrays[_LABELS].tolist()
    if not unpacker.eof or lengths.sum(dtype=np.int64) != width * height or places.max(initial=0) >= len(numbers):
        raise ValueError(f"the runs of a map do not fill {width}x{height} pixels with its {len(numbers)} segments")
    segments = {number: Segment(label) for number, label in zip(numbers.tolist(), labels, strict=True) if number}
    return PanopticMap(np.repeat(numbers[places], lengths).reshape(height, width), segments)


def _columns(decisions: Sequence[Decision]) -> Outcome:
    names = sorted({name for one in decisions for name in one.terms})
    return Outcome(
        np.array([one.identity for one in decisions], np.int64),
        np.array([one.tentative for one in decisions], bool),
        np.array([one.log_odds for one in decisions]),
        {name: np.array([one.terms.get(name, np.nan) for one in decisions]) for name in names},
        np.array([one.runner_up for one in decisions], np.int64),
        np.array([one.margin for one in decisions]),
    )
