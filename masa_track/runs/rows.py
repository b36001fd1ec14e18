"""A frame's rows as arrays for the record of a run, and back: detections with identities, and decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import supervision as sv

from masa_track.association.engine import Decisions, Outcome
from masa_track.contracts import Decision
from masa_track.masks import encode_mask

_COLUMNS = ("xyxy", "confidence", "class_id", "tracker_id")
_LOG_ODDS, _MARGINS, _RUNNERS, _TENTATIVE, _IDENTITIES = (
    f"decision.{name}" for name in ("log_odds", "margins", "runners_up", "tentative", "identities")
)
_TERM = "decision.term."


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
