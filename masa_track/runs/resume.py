"""Going on with a run that ended: what is checked, and from where it goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from masa_track.errors import InputError
from masa_track.runs.store import STORE_NAME, RunInfo, RunStore, open_store
from masa_track.video.parts import part_times, parts_of

_NAMES = {"source": "SOURCE", "first": "--start"}  # of arguments that are not called as the field


@dataclass
class Resumed:
    """A run to go on with.

    Attributes:
        path: of its record.
        info: what it is of.
        last: the last frame that is kept; those after it are tracked again.
        state: of the tracker, and of the sinks, after frame ``state_at``; empty: the run begins anew.
        state_at: that is the last frame, but for a live source; 0 without a state.
    """

    path: Path
    info: RunInfo
    last: int
    state: dict[str, np.ndarray]
    state_at: int

    def part(self, name: str) -> dict[str, np.ndarray]:
        """The state of one part of the run."""
        return {key[len(name) + 1 :]: value for key, value in self.state.items() if key.startswith(f"{name}.")}

    def json(self, name: str) -> Any:
        """A part of the state that is JSON; None if it is not there."""
        return json.loads(self.state[name].item()) if name in self.state else None


def with_names(part: str, state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A part's state with names that start with the part's."""
    return {f"{part}.{name}": value for name, value in state.items()}


def check_folder(folder: Path, resume: bool) -> RunInfo | None:
    """What the folder's record is of; None where there is none. Called before any work.

    Args:
        folder: of the results; it need not exist.
        resume: whether the run is to be gone on with.

    Raises:
        InputError: a run that was killed would be overwritten.
    """
    path = folder / STORE_NAME
    if not path.is_file():
        return None
    try:
        with open_store(path) as store:
            info, frames = store.info, store.count()
    except InputError:
        if resume:
            raise
        return None  # of an earlier version, or no record at all; it is replaced as other results are
    if frames and not info.finished and not resume:
        raise InputError(
            f"--out {folder} holds a run of {frames:,} frames that did not end normally: continue it with --resume, "
            f"make its files with `masa-track recover {folder}`, name another folder, or remove {path}"
        )
    return info


def check_same(before: RunInfo, now: RunInfo) -> None:
    """Checks that a run can go on as another began.

    Raises:
        InputError: the source, the version or an option differs; the message names each.
    """
    if before.version != now.version:
        raise InputError(
            f"--resume: the run was made by masa-track {before.version}, this is {now.version}: its state may differ. "
            "Use that version, or make the files of the frames so far with `masa-track recover`"
        )
    differ = []
    for name in ("source", "first", "stride", "offline", "post"):
        mine, theirs = _plain(getattr(now, name)), _plain(getattr(before, name))
        if mine != theirs:
            differ.append(f"{_NAMES.get(name, f'--{name}')} was {theirs!r}, is {mine!r}")
    for name in sorted({*before.recipe, *now.recipe}):
        mine, theirs = _plain(now.recipe.get(name)), _plain(before.recipe.get(name))
        if mine != theirs:
            differ.append(f"--{name.replace('_', '-')} was {theirs!r}, is {mine!r}")
    if before.model_key != now.model_key:
        differ.append(f"the model was {before.model_key}, is {now.model_key}")
    if tuple(before.size) != tuple(now.size):
        differ.append(f"the frames had {before.size} pixels, have {now.size}")
    if tuple(before.stuff) != tuple(now.stuff):  # a yaml file has changed, or an earlier version kept no maps
        had, has = (", ".join(of.class_names[label] for label in of.stuff) or "none" for of in (before, now))
        differ.append(f"the record has maps of stuff: {had}; this run: {has}")
    if differ:
        raise InputError(f"--resume needs the options of the run that it continues: {'; '.join(differ)}")
    for name, (size, modified) in before.inputs.items():
        if now.inputs.get(name) != [size, modified]:
            got = now.inputs.get(name, [0])[0]
            raise InputError(
                f"--resume: the file of {name} has changed since the run began ({size:,.0f} bytes then, {got:,.0f} "
                "now): track it anew in another folder"
            )


def resumed(store: RunStore, changed_at: int | None = None) -> Resumed:
    """From where a run goes on: its last snapshot; for a live source, whose frames are gone, its last frame.

    A video that a kill cut short ends up to some seconds before the record. Then the run goes on from a snapshot within
    the video, so that no frame is missing there.

    Args:
        store: the record of a run.
        changed_at: number of the first frame that is to be made anew; None: those that are there stay.

    Raises:
        InputError: the record is damaged.
    """
    if store.info.live:
        state_at, state = store.snapshot_before(2**62)
        return Resumed(store.path, store.info, max(state_at, store.last_number()), state, state_at)
    reach = 2**62 if store.info.offline else _reach_of_video(store)
    state_at, state = store.snapshot_before(reach if changed_at is None else min(reach, changed_at - 1))
    return Resumed(store.path, store.info, state_at, state, state_at)


def _reach_of_video(store: RunStore) -> int:
    """The number of the last frame that the video of a run holds; without a video, no limit.

    After a kill it is in parts, or `masa-track recover` has joined them. It ends before the record then.
    """
    folder, first = store.path.parent, store.first_time()
    parts = parts_of(folder) or [video for video in [folder / "video.mp4"] if video.is_file()]
    if not parts or first is None:
        return 2**62
    times = next((times for part in reversed(parts) if (times := part_times(part)) is not None), None)
    return store.first_number() - 1 if times is None else store.last_before(first + times[1])


def _plain(value: Any) -> Any:
    """As it comes back from JSON: tuples as lists."""
    return json.loads(json.dumps(value))
