"""A run in parts: after some time a new folder begins, with all of a run's files; old ones are deleted."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from masa_track.pipeline.job import Job, Outcome
from masa_track.pipeline.sinks import Sinks, Snapshot, info_of
from masa_track.pipeline.stages import Broken, Done
from masa_track.runs.store import STORE_NAME, RunStore, open_store, part_of_run, parts_of_run, run_part_number


def last_part(folder: Path) -> Path:
    """The folder that holds the record with which a run goes on: the last part, or the folder itself.

    A part that was killed before it got the state of the tracker is left out, unless there is no other.

    Raises:
        InputError: the record of a part is damaged.
    """
    parts = parts_of_run(folder)
    for part in reversed(parts):
        with open_store(part) as store:
            if store.count() or store.snapshot_before(2**62)[1]:
                return part
    return parts[0] if parts else folder


class PartSinks:
    """The sinks of a run in parts: one :class:`~masa_track.pipeline.sinks.Sinks` after the other.

    A part begins with the state of the tracker, so that a run goes on from its last part alone. Identities go on over
    parts, and so do the frames' numbers and times.

    Args:
        job: what is tracked; ``job.keep`` are the seconds for which parts are kept; ``job.resumed`` is of the last one.
        outcome: counts what was done.

    Raises:
        OSError: a result cannot be opened.
    """

    def __init__(self, job: Job, outcome: Outcome) -> None:
        self._job, self._outcome = job, outcome
        if job.resumed is None:
            self._number = 1 + max((run_part_number(part) for part in parts_of_run(job.folder)), default=0)
        else:
            self._number = run_part_number(job.resumed.path.parent)
        self._sinks = Sinks(self._part(job), outcome)

    @property
    def stopped(self) -> bool:
        """Whether a result cannot be written: no further frame is taken."""
        return self._sinks.stopped

    @property
    def store(self) -> RunStore:
        """The record of the part."""
        return self._sinks.store

    @property
    def folder(self) -> Path:
        """Of the part."""
        return part_of_run(self._job.folder, self._number)

    def say(self, text: str) -> None:
        """Prints a line above the progress bar."""
        self._sinks.say(text)

    def take(self, item: Done | Broken | Snapshot) -> None:
        """As :meth:`Sinks.take`. A part ends at a state of the tracker that says so."""
        self._sinks.take(item)
        if isinstance(item, Snapshot) and item.ends_part and not self._sinks.stopped:
            self._next(item)

    def idle(self) -> None:
        """As :meth:`Sinks.idle`."""
        self._sinks.idle()

    def close(self) -> None:
        """As :meth:`Sinks.close`, for the last part."""
        self._sinks.close()

    def abandon(self) -> None:
        """As :meth:`Sinks.abandon`, for the last part; those before are whole."""
        self._sinks.abandon()

    def _next(self, state: Snapshot) -> None:
        """Ends the part and begins the next one with the same state."""
        lines, known = self._job.lines, len(self._outcome.faults)
        try:
            self._outcome.files = []
            self._sinks.close(whole=True)
            if lines is not None:
                lines.move_to(self.folder / "lines.jsonl")
            if self._outcome.faults[known:]:
                raise OSError(0, self._outcome.faults.pop(), str(self.folder))
            self._number += 1
            self._job = replace(self._job, resumed=None, lines=self._sinks.lines)
            self._sinks = Sinks(self._part(self._job), self._outcome)
            self._sinks.take(state)
            self._outcome.files = []
            _delete_old(self._job.folder, self._job.keep, self.folder)
        except OSError as error:
            self._outcome.cannot_write(state.number, error)
            self._sinks.stopped = True

    def _part(self, job: Job) -> Job:
        """The job of a part, in its own folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        info = replace(job.info or info_of(job))
        return replace(job, folder=self.folder, info=info)


def _delete_old(folder: Path, keep: float | None, present: Path, now: Callable[[], float] = time.time) -> None:
    """Deletes the parts that ended more than ``keep`` seconds ago.

    Raises:
        OSError: one cannot be deleted.
    """
    if keep is None:
        return
    for part in parts_of_run(folder):
        if part != present and now() - (part / STORE_NAME).stat().st_mtime > keep:
            shutil.rmtree(part)
