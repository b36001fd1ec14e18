"""Tracks of many videos as files: written a video at a time, so that an interrupted run goes on at the next one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import supervision as sv

from masa_track.association.offline import fill_gaps
from masa_track.errors import InputError
from masa_track.files import prepare_folder, write_text
from masa_track.formats.mot import MotWriter

TAO_FILE = "tao_track.json"
RUN_FILE = "run.json"


def file_name(video: str) -> str:
    """A video's name without folders: TAO's are called ``val/YFCC100M/v_25``."""
    return video.replace("/", "-")


class VideoFiles:
    """A folder of ``NAME.txt`` (MOTChallenge) and ``parts/NAME.json`` (a TAO result a row, with the video's own ids).

    The json is the last that is written of a video: where it is there, the video is done.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = prepare_folder(folder, "--work-dir")
        self.parts = prepare_folder(self.folder / "parts", "--work-dir")

    def check_run(self, facts: dict[str, Any]) -> None:
        """Writes down what makes these results, or makes sure that those already there were made by the same.

        Raises:
            InputError: they were made by something else.
        """
        path = self.folder / RUN_FILE
        text = json.dumps(facts, indent=2, sort_keys=True) + "\n"
        if not path.is_file():
            if next(self.parts.glob("*.json"), None) is not None:
                raise InputError(f"{self.folder} holds results without a {RUN_FILE}: give another --work-dir")
            write_text(path, text)
            return
        before = json.loads(path.read_text(encoding="utf-8"))
        other = sorted(key for key in {*before, *facts} if before.get(key) != facts.get(key))
        if other:
            raise InputError(
                f"{self.folder} holds results of another run (it differs in {', '.join(other)}): give another "
                "--work-dir, or remove it"
            )

    def done(self, videos: Iterable[str]) -> list[str]:
        """Those videos that are done."""
        return [name for name in videos if (self.parts / f"{file_name(name)}.json").is_file()]

    def text_of(self, video: str) -> Path:
        """The MOTChallenge text of a video."""
        return self.folder / f"{file_name(video)}.txt"

    def write(self, video: str, frames: Sequence[FrameTracks]) -> None:
        """Writes the files of a video."""
        writer = MotWriter(self.text_of(video))
        try:
            for frame in frames:
                writer.write(frame.number, "", frame.detections())
        except BaseException:
            writer.abandon()
            raise
        writer.close()
        rows = [row for frame in frames for row in frame.rows()]
        write_text(self.parts / f"{file_name(video)}.json", json.dumps(rows) + "\n")

    def join(self, videos: Sequence[str]) -> list[dict[str, Any]]:
        """The rows of all videos, with identities that count on from video to video, from 1.

        Raises:
            InputError: a video is not done.
        """
        joined: list[dict[str, Any]] = []
        first = 1
        for video in videos:
            path = self.parts / f"{file_name(video)}.json"
            if not path.is_file():
                raise InputError(f"{video} has not been tracked: there is no {path}")
            rows = json.loads(path.read_text(encoding="utf-8"))
            joined += [{**row, "track_id": row["track_id"] + first} for row in rows]
            first += max((row["track_id"] for row in rows), default=-1) + 1
        return joined


class FrameTracks:
    """The tracks of one frame.

    Args:
        number: of the frame in its video, from 1.
        image_id, video_id: as the data set calls them.
        boxes: (N, 4) xyxy pixels.
        scores: (N,).
        categories: (N,) whole numbers.
        ids: (N,) identities, from 0.
        masks: N of COCO's RLEs, None for a box without; or None where there are none.
    """

    def __init__(
        self,
        number: int,
        image_id: Any,
        video_id: Any,
        boxes: np.ndarray,
        scores: np.ndarray,
        categories: np.ndarray,
        ids: np.ndarray,
        masks: Sequence[Mapping[str, Any] | None] | None = None,
    ) -> None:
        self.number, self.image_id, self.video_id = number, image_id, video_id
        self.boxes, self.scores, self.categories, self.ids, self.masks = boxes, scores, categories, ids, masks

    def detections(self) -> sv.Detections:
        """As supervision has them; identities count from 1."""
        return sv.Detections(
            xyxy=self.boxes.reshape(-1, 4),
            confidence=self.scores,
            class_id=self.categories.astype(int),
            tracker_id=self.ids.astype(int) + 1,
        )

    def rows(self) -> list[dict[str, Any]]:
        """As TAO has results, with ``segmentation`` where there are masks; identities count from 0."""
        x1, y1, x2, y2 = self.boxes.reshape(-1, 4).astype(np.float64).T
        boxes = np.stack([x1, y1, x2 - x1, y2 - y1], axis=1).round(3).tolist()
        values = zip(boxes, self.scores.tolist(), self.categories.tolist(), self.ids.tolist(), strict=True)
        rows = [
            {
                "image_id": self.image_id,
                "category_id": int(category),
                "bbox": box,
                "score": round(score, 4),
                "track_id": int(track),
                "video_id": self.video_id,
            }
            for box, score, category, track in values
        ]
        if self.masks is None:
            return rows
        pairs = zip(rows, self.masks, strict=True)
        return [row if mask is None else {**row, "segmentation": dict(mask)} for row, mask in pairs]


def fill_tracks(frames: Sequence[FrameTracks], most: int, shortest: int) -> list[FrameTracks]:
    """Fills the gaps of a video's tracks by lines, in the frames given.

    Args:
        frames: of one video.
        most: gaps of at most so many missing frames are filled.
        shortest: only tracks of at least so many boxes are filled.

    Returns:
        The same frames. A filled box has the class and the score of the one before the gap, and no mask.
    """
    counts = [len(frame.ids) for frame in frames]
    if not sum(counts):
        return list(frames)
    numbers = np.repeat([frame.number for frame in frames], counts)
    boxes, scores, categories, ids = (
        np.concatenate([getattr(frame, name) for frame in frames if len(frame.ids)])
        for name in ("boxes", "scores", "categories", "ids")
    )
    masks = [mask for frame in frames for mask in (frame.masks or [None] * len(frame.ids))]
    _, track, lengths = np.unique(ids, return_inverse=True, return_counts=True)
    long = np.flatnonzero(lengths[track] >= shortest)
    done = fill_gaps(numbers[long], ids[long], boxes[long], most, np.array([frame.number for frame in frames]))
    new = np.flatnonzero(done.filled)
    result = []
    for frame in frames:
        own = np.flatnonzero(numbers == frame.number)
        added = new[done.frames[new] == frame.number]
        rows = np.concatenate((own, long[done.source[added]]))
        result.append(
            FrameTracks(
                frame.number,
                frame.image_id,
                frame.video_id,
                np.concatenate((boxes[own], done.boxes[added])),
                scores[rows],
                categories[rows],
                ids[rows],
                None if frame.masks is None else [masks[row] for row in own] + [None] * len(added),
            )
        )
    return result


def majority_classes(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows with the class that most rows of their track have; of equally many, the lowest, as the authors do."""
    votes: dict[int, dict[int, int]] = {}
    for row in rows:
        track = votes.setdefault(row["track_id"], {})
        track[row["category_id"]] = track.get(row["category_id"], 0) + 1
    winner = {track: min(counts, key=lambda category: (-counts[category], category)) for track, counts in votes.items()}
    return [{**row, "category_id": winner[row["track_id"]]} for row in rows]
