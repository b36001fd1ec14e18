"""A referrer looks at the pictures of a run, with the run's tracks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
import supervision as sv

from masa_track.contracts import Frame, Referrer, ReferrerSession
from masa_track.refer.geometry import Scene
from masa_track.video.source import Source


def watch(
    scene: Scene,
    source: Source,
    referrer: Referrer,
    sentences: Sequence[str],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ReferrerSession:
    """Shows a referrer the video in windows that overlap by half; one window is in memory at a time.

    What happens at the border of two windows is so in the middle of another. A window is full where the video is long
    enough; its last one ends with it.

    Args:
        scene: the tracks.
        source: the video that was tracked.
        referrer: the model.
        sentences: given to it unchanged.
        progress: called with the frames that are done, and with all.
    """
    session = referrer.open(sentences)
    apart = max(1, round(referrer.stride_seconds * scene.fps / scene.step))  # in tracked frames
    wanted = scene.frames[::apart].tolist()
    seen = _by_frame(scene, set(wanted))
    window: deque[Frame] = deque(maxlen=referrer.window)
    step = max(1, referrer.window // 2)
    done = fresh = 0  # frames, and those that no window had

    def add() -> None:
        session.add(list(window), [seen[one.number] for one in window])
        progress(done, len(wanted))

    for frame in source.frames(stop=wanted[-1]):
        if frame.number not in seen:
            continue
        window.append(frame)
        done, fresh = done + 1, fresh + 1
        if len(window) == referrer.window and fresh >= step:
            add()
            fresh = 0
    if fresh:
        add()
    return session


def _by_frame(scene: Scene, wanted: set[int]) -> dict[int, sv.Detections]:
    rows: dict[int, list[tuple[int, np.ndarray]]] = {number: [] for number in wanted}
    for track in scene.tracks:
        for number, box in zip(track.frames.tolist(), track.boxes, strict=True):
            if number in rows:
                rows[number].append((track.identity, box))
    return {
        number: sv.Detections(
            np.array([box for _, box in found]).reshape(-1, 4), tracker_id=np.array([i for i, _ in found], int)
        )
        for number, found in rows.items()
    }
