"""An update of an association engine is all or nothing, wherever it is interrupted."""

from __future__ import annotations

import sys
from copy import deepcopy
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

from masa_track import association
from masa_track.association import Associator, FusedAssociator, open_associator

_FOLDER = str(Path(association.__file__).parent)


def scene(frames: int) -> list[dict[str, Any]]:
    """Objects that walk, appear, are missed by the detector, and disappear; some frames are empty."""
    rng = np.random.default_rng(3)
    looks = rng.normal(size=(9, 16))
    made = []
    for k in range(frames):
        there = np.flatnonzero((np.arange(9) * 3 <= k) & (rng.random(9) > 0.15)) if k % 7 != 5 else np.zeros(0, int)
        corner = np.stack((40 + 70 * there + 2 * k, 60 + 30 * (there % 4)), axis=1)
        made.append(
            {
                "boxes": np.concatenate((corner, corner + np.array([40, 90])), axis=1)
                + rng.normal(0, 1, (len(there), 4)),
                "scores": rng.uniform(0.3, 1, len(there)),
                "labels": there % 3,
                "embeddings": looks[there] + 0.2 * rng.normal(size=(len(there), 16)),
                "frame_index": k,
            }
        )
    return made


def lines_of(associator: Associator | FusedAssociator, frame: dict[str, Any], stop_at: int) -> int:
    """Runs an update, and raises KeyboardInterrupt before line ``stop_at`` of the engine's code; counts the lines."""
    count = 0

    def trace(at: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        if not at.f_code.co_filename.startswith(_FOLDER):
            return None
        if event == "line":
            count += 1
            if count == stop_at:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        associator.update(**frame)
    finally:
        sys.settrace(before)
    return count


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["default", "tao", "bdd", "appearance"])
def test_an_interrupted_update_can_be_repeated(preset: str) -> None:
    """Each frame is interrupted at some lines, then given again: the identities are those of the quiet run."""
    quiet, disturbed = open_associator(preset, fps=10.0), open_associator(preset, fps=10.0)
    for k, frame in enumerate(scene(40)):
        lines = lines_of(deepcopy(disturbed), frame, stop_at=-1)
        for part in (0.1, 0.4, 0.6, 0.8, 0.95):
            with pytest.raises(KeyboardInterrupt):
                lines_of(disturbed, frame, stop_at=max(int(part * lines) - k % 4, 1))
        np.testing.assert_array_equal(disturbed.update(**frame), quiet.update(**frame))


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["default", "tao", "bdd", "appearance"])
def test_every_line_of_an_update_may_be_the_last(preset: str) -> None:
    frames, associator = scene(13), open_associator(preset)
    for frame in frames[:-2]:
        associator.update(**frame)
    quiet = deepcopy(associator)
    lines = lines_of(deepcopy(associator), frames[-2], stop_at=-1)
    expected = [quiet.update(**frame).tolist() for frame in frames[-2:]]
    assert lines > 30
    for stop_at in range(1, lines, 3):  # not the last line: there the frame is done, and only the result is lost
        disturbed = deepcopy(associator)
        with pytest.raises(KeyboardInterrupt):
            lines_of(disturbed, frames[-2], stop_at)
        assert [disturbed.update(**frame).tolist() for frame in frames[-2:]] == expected, stop_at
