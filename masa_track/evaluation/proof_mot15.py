"""The proof on MOT15: true boxes are tracked by the model's embeddings, so that only identities can be wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import supervision as sv
from tqdm import tqdm

from masa_track.contracts import Embeds
from masa_track.errors import InputError
from masa_track.evaluation.mot import MotRows, read_mot
from masa_track.evaluation.proofs import COMBINED, Results
from masa_track.evaluation.scores import score_sequences
from masa_track.tracker import MasaTracker
from masa_track.video.sources import open_source

MEASURES = ("idf1", "hota", "ass_a", "switches", "track_ids", "truth_boxes")


def check(data: Path, names: Sequence[str], settings: Mapping[str, Any]) -> None:
    """Raises InputError unless all sequences are there, with pictures in ``NAME/img1`` and with ``NAME/gt/gt.txt``."""
    lacking = [name for name in names if not (data / name / "gt" / "gt.txt").is_file() or not _has_frames(data / name)]
    if lacking:
        raise InputError(
            f"--data {data} must have SEQUENCE/img1 and SEQUENCE/gt/gt.txt for each sequence, but it has no "
            f"{', '.join(lacking)}"
        )


def _has_frames(folder: Path) -> bool:
    try:
        open_source(folder)
    except InputError:
        return False
    return True


def run(model: Embeds, data: Path, names: Sequence[str], settings: Mapping[str, Any]) -> Results:
    """Tracks the true boxes of sequences and scores the tracks.

    Args:
        model: embeds the boxes.
        data: the folder of the sequences.
        names: of the sequences.
        settings: ``preset`` and options of the tracker.

    Returns:
        The :data:`MEASURES` of each sequence, and of all as :data:`~masa_track.evaluation.proofs.COMBINED`.

    Raises:
        InputError: a frame cannot be read, or there are fewer frames than the truth has.
    """
    pairs = {}
    for name in names:
        truth = read_mot(data / name / "gt" / "gt.txt", truth=True)
        pairs[name] = truth, track_truth(model, data / name, truth, settings)
    scored = score_sequences(pairs)
    found = {**scored.sequences, COMBINED: scored.combined}
    return {name: {measure: getattr(scores, measure) for measure in MEASURES} for name, scores in found.items()}


def track_truth(model: Embeds, folder: Path, truth: MotRows, settings: Mapping[str, Any]) -> MotRows:
    """The true boxes of one sequence with the identities that the tracker gives them.

    Args:
        model: embeds the boxes.
        folder: of the sequence.
        truth: its boxes.
        settings: ``preset`` and options of the tracker.
    """
    tracker = MasaTracker(model, **settings)
    source = open_source(folder)
    ids = np.full(len(truth), -1, np.int64)
    last = 0
    for frame in tqdm(source.frames(1, None, _refuse), desc=folder.name, total=source.length, unit="frame"):
        here, last = truth.in_frame(frame.number), frame.number
        boxes = truth.boxes[here].copy()
        boxes[:, :2] -= 1
        boxes[:, 2:] += boxes[:, :2]
        count = len(boxes)
        detections = sv.Detections(
            boxes.astype(np.float32), confidence=np.ones(count, np.float32), class_id=np.zeros(count, int)
        )
        ids[here] = np.asarray(tracker.update(detections, frame.picture).tracker_id)
    if last < truth.frames[-1]:
        raise InputError(f"{folder} has {last} frames, but its truth goes to frame {truth.frames[-1]}: copy all frames")
    kept = ids >= 0
    return MotRows(truth.frames[kept], ids[kept], truth.boxes[kept])


def _refuse(number: int, reason: str) -> None:
    raise InputError(f"frame {number} cannot be read ({reason}): copy the sequence again")
