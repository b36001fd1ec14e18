"""Stored runs for readers: frame by frame over all parts, or as arrays where a format needs whole tracks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from masa_track.contracts import MOST_TENTATIVE, FrameResult, TrackEvent
from masa_track.errors import InputError
from masa_track.formats.rows import class_ids, confidences, part_fields, tracked_rows
from masa_track.formats.run import Run
from masa_track.runs.store import STORE_NAME, RunInfo, open_store, parts_of_run

MOST_ROWS = 5_000_000  # boxes that are read into memory at once, some 600 MB


def records_of(folder: Path) -> list[Path]:
    """The records of a run's folder, one for each part; empty where there is none."""
    parts = parts_of_run(folder)
    return [part / STORE_NAME for part in parts] or [file for file in [folder / STORE_NAME] if file.is_file()]


def stream_run(folder: Path, maps: bool = False) -> tuple[RunInfo, Iterator[FrameResult]]:
    """What a run is of, and its frames with identities, over all parts. One frame is in memory at a time.

    Masks are ``data["segmentation"]``.

    Args:
        folder: of the run.
        maps: with the maps of things and stuff, see :meth:`masa_track.runs.store.RunStore.results`.

    Raises:
        InputError: there is no record, or it is damaged.
    """
    records = records_of(folder)
    if not records:
        raise InputError(f"{folder} holds no {STORE_NAME}: name the folder of a run of `masa-track track`")
    with open_store(records[0]) as first:
        info = first.info
    return info, _frames(records, maps)


def _frames(records: list[Path], maps: bool) -> Iterator[FrameResult]:
    for record in records:
        with open_store(record) as store:
            yield from store.results(maps=maps)


def events_of(folder: Path) -> Iterator[TrackEvent]:
    """What happened to the tracks of a run, over all parts; its frames are not read.

    Raises:
        InputError: the record is damaged.
    """
    for record in records_of(folder):
        with open_store(record) as store:
            yield from store.events()


def run_of_record(folder: Path, births: bool = False) -> Run:
    """A run as arrays, as :func:`masa_track.formats.run.read_run` gives it of ``tracks.json``.

    Args:
        folder: of the run, or of a part of it.
        births: with the boxes that tracks had before they were confirmed.

    Raises:
        InputError: there is no record, it is damaged, or it has more than five million boxes.
    """
    info, frames = stream_run(folder)
    numbers: list[int] = []
    times: list[float] = []
    names: list[str] = []
    columns: list[tuple[np.ndarray, ...]] = []  # place, id, class, box, score of a frame's rows
    masks: list[dict[str, object] | None] = []
    tree: list[dict[str, int | str]] = []
    cuts: list[int] = []
    presence: list[Mapping[str, float]] = []
    total = 0
    rows_before: dict[int, tuple[int, FrameResult]] = {}
    for place, result in enumerate(frames):
        frame = result.frame
        numbers.append(frame.number)
        times.append(frame.time)
        names.append(frame.name)
        presence.append(result.extras.get("presence") or {})
        rows = tracked_rows(result.detections)
        ids = np.zeros(0, np.int64) if rows.tracker_id is None else rows.tracker_id
        columns.append((np.full(len(ids), place), ids, class_ids(rows), np.asarray(rows.xyxy), confidences(rows)))
        masks.extend(rows.data.get("segmentation", [None] * len(ids)))
        tree.extend(part_fields(rows))
        rows_before[frame.number] = place, result
        if len(rows_before) > MOST_TENTATIVE:
            del rows_before[next(iter(rows_before))]
        for event in result.events:
            if event.kind == "cut":
                cuts.append(event.number)
            for number, row in event.earlier if births else ():
                if number in rows_before:
                    earlier, other = rows_before[number]
                    one = other.detections
                    columns.append(
                        (
                            np.array([earlier]),
                            np.array([event.identity]),
                            class_ids(one)[[row]],
                            np.asarray(one.xyxy)[[row]],
                            confidences(one)[[row]],
                        )
                    )
                    masks.append(one.data["segmentation"][row] if "segmentation" in one.data else None)
                    tree.append(part_fields(one)[row])
        total += len(ids)
        if total > MOST_ROWS:
            raise InputError(
                f"{folder} holds more than {MOST_ROWS:,} boxes, too many to be in memory at once: export parts of a "
                "run that was tracked with --rotate one by one, or --format mot or csv, which need no memory"
            )
    if not numbers:
        raise InputError(f"{folder} holds no frame")
    blank = (np.zeros(0, np.int64),) * 3 + (np.zeros((0, 4)), np.zeros(0))
    place_of, ids, classes, boxes, scores = (np.concatenate(each) for each in zip(blank, *columns, strict=True))
    order = np.argsort(place_of, kind="stable")
    boxes = boxes[order].astype(np.float64)
    corner, size = np.round(boxes[:, :2], 3), np.round(boxes[:, 2:] - boxes[:, :2], 3)  # as tracks.json has them
    count = len(order)
    rles = [None if mask is None else {**mask, "counts": str(mask["counts"]).encode("ascii")} for mask in masks]
    return Run(
        path=folder / STORE_NAME,
        name=info.name,
        width=info.size[0],
        height=info.size[1],
        fps=info.fps,
        class_names=info.class_names,
        frames=np.array(numbers, np.int64),
        times=np.round(np.array(times, np.float64), 6),
        file_names=names,
        rows=place_of[order],
        ids=ids[order],
        classes=classes[order],
        boxes=np.round(np.hstack((corner, corner + size)), 3),
        scores=np.round(scores[order], 4),
        filled=np.zeros(count, bool),
        smoothed=np.zeros(count, bool),
        cuts=np.array(cuts, np.int64),
        masks=tuple(rles[i] for i in order) if any(mask is not None for mask in rles) else (),
        tree=tuple(tree[i] for i in order) if any(tree) else (),
        presence=tuple(presence) if any(presence) else (),
    )
