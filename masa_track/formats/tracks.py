"""The track files of one run, opened and closed together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import supervision as sv

from masa_track.formats.coco_vid import CocoVidWriter
from masa_track.formats.csv import CsvWriter
from masa_track.formats.mot import MotWriter
from masa_track.formats.rows import ClassNames
from masa_track.formats.writer import TrackWriter


class TrackWriters:
    """``tracks.txt``, ``tracks.json`` and ``tracks.csv`` of one run, opened and closed together.

    Results of an earlier run stay in the folder until :meth:`close` puts the new ones over them. As a context manager
    it closes at the end and on Ctrl-C, with the frames done so far, and abandons on any other exception.

    Args:
        folder: an existing folder.
        video_name: the name of the source.
        width: of the video, in pixels.
        height: of the video, in pixels.
        fps: frames per second of the source, where it has them.
        class_names: the names by class id.
        finished: the tracks are finished ones: ``tracks.csv`` marks boxes that were filled in or smoothed.
        online: write ``online.json`` alone, in the form of ``tracks.json``, for tracks that are yet to be finished.
        parts: some tracks are parts of others: ``tracks.csv`` says of which, ``tracks.txt`` leaves them out.

    Raises:
        OSError: a file cannot be opened; none is left behind.
    """

    def __init__(
        self,
        folder: str | Path,
        video_name: str,
        width: int,
        height: int,
        fps: float | None = None,
        class_names: ClassNames = None,
        finished: bool = False,
        online: bool = False,
        parts: bool = False,
    ) -> None:
        folder = Path(folder)
        json = folder / ("online.json" if online else "tracks.json")
        self._closed = False
        self._writers: list[TrackWriter] = []
        try:
            if not online:
                self._writers.append(MotWriter(folder / "tracks.txt"))
            self._json = CocoVidWriter(json, video_name, width, height, fps, class_names)
            self._writers.append(self._json)
            if not online:
                self._writers.append(CsvWriter(folder / "tracks.csv", class_names, finished, parts))
        except BaseException:
            self.abandon()
            raise

    @property
    def paths(self) -> list[Path]:
        """Where the files are after :meth:`close`."""
        return [writer.file.path for writer in self._writers]

    def write(
        self,
        frame_number: int,
        file_name: str,
        detections: sv.Detections,
        time: float | None = None,
        presence: Mapping[str, float] | None = None,
    ) -> None:
        """Adds one processed frame to each file.

        Args:
            frame_number: of the frame in the source, from 1, rising; it may skip.
            file_name: the frame's name, e.g. ``000001.jpg``.
            detections: its rows, in 0-based pixels of the source; those without an identity are not written.
            time: of the frame, in seconds since frame 1; None where it is not known.
            presence: probability that a phrase is in the frame at all, by phrase; for ``tracks.json`` alone.

        Raises:
            OSError: the disk is full, or the like; its ``filename`` is the result's. The files can still be closed:
                each holds whole frames, some of them perhaps this one.
        """
        for writer in self._writers:
            try:
                if writer is self._json:
                    self._json.write(frame_number, file_name, detections, time, presence)
                else:
                    writer.write(frame_number, file_name, detections, time)
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(writer.file.path)) from error

    def write_tentative(self, frame_number: int, detections: sv.Detections) -> None:
        """Adds boxes that tracks had in an earlier frame before they were confirmed; see ``tracks.json``.

        Raises:
            OSError: the disk is full, or the like; its ``filename`` is the result's.
        """
        try:
            self._json.write_tentative(frame_number, detections)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._json.file.path)) from error

    def mark_cut(self, frame_number: int) -> None:
        """The frame of this number is the first after a cut; see ``tracks.json``."""
        self._json.mark_cut(frame_number)

    def close(self) -> dict[Path, OSError]:
        """Completes each file and puts it in its place; one that cannot be completed does not keep the others back.

        Returns:
            Why a file is not there, by its path; an earlier file of that name is as it was.
        """
        faults: dict[Path, OSError] = {}
        if self._closed:
            return faults
        self._closed = True
        for writer in self._writers:
            try:
                writer.close()
            except OSError as error:
                faults[writer.file.path] = error
        return faults

    def abandon(self) -> None:
        """Removes the parts; earlier results are as they were. Does nothing after :meth:`close`."""
        self._closed = True
        for writer in self._writers:
            writer.abandon()

    def __enter__(self) -> TrackWriters:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None or issubclass(kind, KeyboardInterrupt):
            for fault in self.close().values():
                raise fault
        else:
            self.abandon()
