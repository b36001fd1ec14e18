"""Tracks as Label Studio's tasks of videos with predictions, to be reviewed there; and boxes of its json as detections.

A track is a ``videorectangle`` with a ``sequence`` of keyframes: place and size in per cent of the picture, frames
counted from 1, ``time`` in seconds. A keyframe that is not ``enabled`` is the last before a gap, or of the track. A box
that fills a gap is no keyframe: it is on the line that Label Studio draws by itself. ``meta`` counts them.

Source: https://labelstud.io/tags/videorectangle and https://labelstud.io/guide/predictions, Label Studio 1.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote
from xml.sax.saxutils import quoteattr

import numpy as np

from masa_track import __version__
from masa_track.association.offline import uneven
from masa_track.errors import InputError
from masa_track.formats.detection_file import Rows, Video
from masa_track.formats.joining import Numbering, join_numbers
from masa_track.formats.json_file import is_finite, whole
from masa_track.formats.keyframes import MOST_FRAMES, Keyframe, boxes_between, turned_box
from masa_track.formats.run import Run


def label_studio_task(run: Run, video: str) -> dict[str, Any]:
    """One task with one prediction.

    Args:
        run: the tracks.
        video: where Label Studio finds the video: an address, or ``/data/local-files/?d=...``.
    """
    count = int(run.frames[-1])
    even = uneven(run.frames, run.times, run.fps) is None
    results = []
    for track_id, number, places in run.tracks():
        sequence = []
        for spell in run.spells(places):
            for i, place in enumerate(spell, 1):
                if run.filled[place] and not run.smoothed[place]:
                    continue
                x1, y1, x2, y2 = run.boxes[place].tolist()
                frame = int(run.frames[run.rows[place]])
                sequence.append(
                    {
                        "frame": frame,
                        "enabled": i < len(spell),
                        "rotation": 0,
                        "x": round(100 * x1 / run.width, 4),
                        "y": round(100 * y1 / run.height, 4),
                        "width": round(100 * (x2 - x1) / run.width, 4),
                        "height": round(100 * (y2 - y1) / run.height, 4),
                        "time": round(frame / run.fps if even else float(run.times[run.rows[place]]), 6),
                    }
                )
        filled, smoothed = int(run.filled[places].sum()), int(run.smoothed[places].sum())
        texts = [f"track {track_id}", *([f"{filled} boxes filled"] * (filled > 0))]
        value = {"framesCount": count, "duration": round(count / run.fps, 6), "sequence": sequence}
        results.append(
            {
                "id": f"track-{track_id}",
                "type": "videorectangle",
                "from_name": "box",
                "to_name": "video",
                "score": round(float(run.scores[places].mean()), 4),
                "value": {**value, "labels": [run.class_name(number)]},
                "meta": {"text": [*texts, *([f"{smoothed} boxes smoothed"] * (smoothed > 0))]},
            }
        )
    score = round(float(run.scores.mean()), 4) if len(run.scores) else 0.0
    prediction = {"model_version": f"masa-track {__version__}", "score": score, "result": results}
    return {"data": {"video": video}, "predictions": [prediction]}


def label_studio_config(runs: list[Run]) -> str:
    """The labelling interface that these tasks need, to be pasted into the project's settings."""
    names = dict.fromkeys(run.class_name(number) for run in runs for number in sorted(run.class_names))
    labels = "".join(f"    <Label value={quoteattr(name)}/>\n" for name in names)
    return (
        "<View>\n"
        f'  <Video name="video" value="$video" frameRate="{runs[0].fps:g}"/>\n'
        '  <VideoRectangle name="box" toName="video"/>\n'
        f'  <Labels name="videoLabels" toName="video">\n{labels}  </Labels>\n'
        "</View>\n"
    )


def is_label_studio(content: Any) -> bool:
    """Whether json is Label Studio's: tasks with annotations or predictions."""
    first = content[0] if isinstance(content, list) and content else content
    return isinstance(first, dict) and "data" in first and ("annotations" in first or "predictions" in first)


def read_label_studio(path: Path, content: Any, video: Video, numbering: Numbering) -> Rows:
    """The boxes of a task: its annotations, or else its predictions.

    Frames between keyframes are interpolated, as Label Studio shows them. The upright box around a rotated one is
    taken.

    Raises:
        InputError: no task or several are of this video, or a box has another form.
    """
    task = _task_of(path, content if isinstance(content, list) else [content], video)
    done, notes = _annotations(path, task)
    names: dict[str, int] = {}
    rows: list[tuple[int, tuple[float, ...], int, str]] = []
    others = 0
    for one in done:
        for result in one.get("result") or ():
            if not (isinstance(result, dict) and isinstance(value := result.get("value"), dict)):
                raise InputError(f"{path}: each result of a task must be an object with a value")
            if not isinstance(sequence := value.get("sequence"), list):
                others += 1  # not a box of a video
                continue
            place = f"result {result.get('id')}"
            labels = (value[key] for key in value if key.lower().endswith("labels") and value[key])  # of any name
            label = next(iter(next(labels, ["object"])))
            number = names.setdefault(str(label), len(names))
            last = whole(value, "framesCount", f"{path}, {place}", MOST_FRAMES) if "framesCount" in value else 0
            keyframes = [_keyframe(f"{path}, {place}", entry, video) for entry in sequence]
            rows += [(frame, box, number, place) for frame, box in boxes_between(keyframes, last)]
    if not rows:
        raise InputError(f"{path} holds no boxes of a video: Label Studio's videorectangle results are needed")
    xyxy = np.array([row[1] for row in rows], np.float64)
    joined = join_numbers([row[0] for row in rows], video, numbering, path)
    notes = (*notes, *joined.notes)
    if others:
        notes = (*notes, f"{path}: {others} results that are no boxes of a video are left out")
    return Rows(
        np.array(joined.frames, np.float64),
        np.hstack((xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2])),
        np.ones(len(rows)),
        np.array([row[2] for row in rows], np.float64),
        lambda i: rows[i][3],
        {number: name for name, number in names.items()},
        notes=notes,
    ).in_video(path)


def _task_of(path: Path, tasks: list[Any], video: Video) -> dict[str, Any]:
    if not all(isinstance(task, dict) and isinstance(task.get("data"), dict) for task in tasks):
        raise InputError(f"{path}: each task of Label Studio must be an object with data")
    if len(tasks) == 1:
        return dict(tasks[0])
    named = [task for task in tasks if any(_is_of(video.name, str(one)) for one in task["data"].values())]
    if len(named) != 1:
        raise InputError(f"{path} holds {len(tasks)} tasks, {len(named)} of them of {video.name}: give one task")
    return dict(named[0])


def _is_of(video: str, address: str) -> bool:
    """Whether an address is of the video; Label Studio puts eight digits and a hyphen before the names of uploads."""
    stem = PurePosixPath(unquote(address)).stem.casefold()
    return video.casefold() in (stem, re.sub(r"^[0-9a-f]{8}-", "", stem))


def _annotations(path: Path, task: dict[str, Any]) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """The annotation of a task, or else its prediction; of several, the ground truth or the last; and a note on that.

    Annotations that were cancelled are left out.
    """
    for key in ("annotations", "predictions"):
        given = [one for one in task.get(key) or () if isinstance(one, dict)]
        done = [one for one in given if not one.get("was_cancelled") and one.get("result")]
        if len(done) > 1:
            done = [next((one for one in done if one.get("ground_truth")), done[-1])]
            return done, (f"{path}: of {len(given)} {key} of the task, that with id {done[0].get('id')} is taken",)
        if done:
            return done, ()
    return [], ()


def _keyframe(place: str, entry: Any, video: Video) -> Keyframe:
    if not isinstance(entry, dict) or not all(is_finite(entry.get(key)) for key in ("x", "y", "width", "height")):
        raise InputError(f"{place}: a keyframe must have x, y, width and height in per cent, got {str(entry)[:60]}")
    left, top = entry["x"] * video.width / 100, entry["y"] * video.height / 100
    right, bottom = left + entry["width"] * video.width / 100, top + entry["height"] * video.height / 100
    turn: Any = entry.get("rotation")
    box = turned_box((left, top, right, bottom), turn if is_finite(turn) else 0, (left, top))
    goes_on = entry.get("enabled") is not False
    return Keyframe(whole(entry, "frame", place, MOST_FRAMES), box, True, goes_on)
