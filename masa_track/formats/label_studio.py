"""Tracks as Label Studio's tasks of videos with predictions, to be reviewed and corrected there.

A track is a ``videorectangle`` with a ``sequence`` of keyframes: place and size in per cent of the picture, frames
counted from 1, ``time`` in seconds. A keyframe that is not ``enabled`` is the last before a gap, or of the track. A box
that fills a gap is no keyframe: it is on the line that Label Studio draws by itself. ``meta`` counts them.

Source: https://labelstud.io/tags/videorectangle and https://labelstud.io/guide/predictions, Label Studio 1.
"""

from __future__ import annotations

from typing import Any
from xml.sax.saxutils import quoteattr

from masa_track import __version__
from masa_track.formats.run import Run


def label_studio_task(run: Run, video: str) -> dict[str, Any]:
    """One task with one prediction.

    Args:
        run: the tracks.
        video: where Label Studio finds the video: an address, or ``/data/local-files/?d=...``.
    """
    count = int(run.frames[-1])
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
                        "time": round(frame / run.fps, 6),
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
