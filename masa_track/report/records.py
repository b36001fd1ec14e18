"""What the report remembers of a run: bounded, however long the video and however many its identities."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import cv2
import numpy as np

MAX_TRACKS = 500  # tracks with a record of their own on the page
SLACK = 100  # records above that before the shortest are dropped, so that sorting is rare
RECENT = 30  # frames without a box before a track counts as ended and its record may go
MAX_SEGMENTS = 32  # bars of one track on the timeline
MAX_BINS = 600  # of the curve of live tracks
MAX_PHRASES = 12  # whose presence is shown
MAX_SEEK_TIMES = 2000  # frames whose time in the video is listed
SEEK_TOLERANCE = (
    1e-3  # seconds by which the time of a frame between them may be off; twice that when there are too many
)
SEEN_IDS = 2**23  # ids remembered one by one, a bit each: 1 MB at most
THUMBNAIL = (168, 112)  # the box a crop is fitted into, width x height in pixels
BETTER = 1.2  # a crop replaces the one before only when its score is this much higher
BACKGROUND = 232  # grey around an object that is cut out by its mask
CUT_BY_BORDER = 0.25  # what a crop's score is worth when the frame's border cuts it


@dataclass(slots=True)
class TrackRecord:
    """One identity's story.

    Attributes:
        track_id: its identity.
        name: the class it had most often (Boyer and Moore's majority vote; exact where one class has more than half).
        first_frame: the number in the source, from 1, of the frame in which it appeared.
        first_time: its seconds, or None where the source has no clock.
        last_index: the last processed frame, from 0, with a box.
        last_frame: its number in the source.
        last_time: its seconds, or None.
        boxes: how many boxes it had.
        confidence_sum: of its boxes.
        segments: ``[first frame, last frame]`` of each stretch without a gap; the smallest gaps are closed when there
            are too many.
        closed_gaps: how many gaps were closed.
        thumbnail: its best crop as JPEG, or None.
        thumbnail_score: that crop's area in pixels times the confidence, less where the border cuts it.
        votes: of the majority vote.
        parent: identity of the thing or part that it is a part of; -1: it is a thing.
    """

    track_id: int
    name: str
    first_frame: int
    first_time: float | None
    last_index: int = -1
    last_frame: int = 0
    last_time: float | None = None
    boxes: int = 0
    confidence_sum: float = 0.0
    segments: list[list[int]] = field(default_factory=list)
    closed_gaps: int = 0
    thumbnail: bytes | None = None
    thumbnail_score: float = 0.0
    votes: int = 0
    parent: int = -1

    def extend(self, index: int, frame_number: int, time: float | None, name: str, confidence: float) -> None:
        """Adds a box in the processed frame ``index``."""
        if self.segments and index <= self.last_index + 1:
            self.segments[-1][1] = frame_number
        else:
            self.segments.append([frame_number, frame_number])
            if len(self.segments) > MAX_SEGMENTS:
                self._close_smallest_gap()
        self.last_index, self.last_frame, self.last_time = index, frame_number, time
        self.boxes += 1
        self.confidence_sum += confidence
        if self.votes == 0:
            self.name = name
        self.votes += 1 if name == self.name else -1

    def _close_smallest_gap(self) -> None:
        gaps = [after[0] - before[1] for before, after in zip(self.segments, self.segments[1:], strict=False)]
        place = int(np.argmin(gaps))
        self.segments[place][1] = self.segments.pop(place + 1)[1]
        self.closed_gaps += 1


class SeenIds:
    """Counts different identities in bounded memory: a bit each, up to ``SEEN_IDS``; higher ones count each time.

    Attributes:
        count: how many there were.
    """

    def __init__(self) -> None:
        self.count = 0
        self._bits = bytearray()

    def add(self, track_id: int) -> None:
        """Takes an identity."""
        if not 0 <= track_id < SEEN_IDS:
            self.count += 1
            return
        place, bit = track_id >> 3, 1 << (track_id & 7)
        if place >= len(self._bits):
            self._bits.extend(bytes(place + 1 - len(self._bits)))
        self.count += not self._bits[place] & bit
        self._bits[place] |= bit


class TrackRecords:
    """The records of at most ``MAX_TRACKS`` identities, the longest-lived, and the counts of all.

    A record may only go once its track has ended: no box for ``RECENT`` frames, or, in a crowd, none in this frame.
    Should a forgotten identity return, it is not counted again, but its record begins anew.
    """

    def __init__(self) -> None:
        self.records: dict[int, TrackRecord] = {}
        self._forgotten_lengths: Counter[int] = Counter()
        self._seen = SeenIds()

    @property
    def identities(self) -> int:
        """How many different identities there were."""
        return self._seen.count

    def get(self, track_id: int, name: str, frame_number: int, time: float | None) -> TrackRecord:
        """The record of an identity; a new one when it has none."""
        record = self.records.get(track_id)
        if record is None:
            record = TrackRecord(track_id, name, frame_number, time)
            self.records[track_id] = record
            self._seen.add(track_id)
        return record

    def prune(self, index: int) -> None:
        """Drops the records of the shortest-lived ended tracks when there are too many."""
        if len(self.records) <= MAX_TRACKS + SLACK:
            return
        for unseen in (RECENT, 1):
            ended = [record for record in self.records.values() if index - record.last_index >= unseen]
            ended.sort(key=lambda record: record.boxes)
            for record in ended[: max(0, len(self.records) - MAX_TRACKS)]:
                self._forgotten_lengths[_rounded(record.boxes)] += 1
                del self.records[record.track_id]
            if len(self.records) <= MAX_TRACKS + SLACK:
                return

    def longest(self) -> list[TrackRecord]:
        """The records for the page, at most ``MAX_TRACKS``, by their first appearance."""
        kept = sorted(self.records.values(), key=lambda record: -record.boxes)[:MAX_TRACKS]
        first = {record.track_id: (record.first_frame, record.track_id) for record in kept}

        def place(record: TrackRecord) -> list[tuple[int, int]]:
            """Where it stands: behind what it is a part of, as far as that is kept."""
            path, parent, seen = [first[record.track_id]], record.parent, {record.track_id}
            while parent in first and parent not in seen:
                seen.add(parent)
                path.append(first[parent])
                parent = self.records[parent].parent
            return path[::-1]

        return sorted(kept, key=place)

    def lengths(self) -> tuple[float, float]:
        """The median and the mean number of boxes of all identities; 0 without any."""
        counts = self._forgotten_lengths + Counter(record.boxes for record in self.records.values())
        if not counts:
            return 0.0, 0.0
        lengths = np.array(sorted(counts))
        ends = np.cumsum([counts[int(length)] for length in lengths])
        total = int(ends[-1])
        middle = [lengths[np.searchsorted(ends, rank, side="right")] for rank in ((total - 1) // 2, total // 2)]
        return float(np.mean(middle)), float(np.dot(lengths, np.diff(ends, prepend=0)) / total)


def _rounded(length: int) -> int:
    """The length with its ten leading bits, so that there are few different ones; exact below 1024."""
    shift = max(0, length.bit_length() - 10)
    return length >> shift << shift


@dataclass(slots=True)
class Bin:
    """A stretch of processed frames: its frame numbers, times, numbers of live tracks, sums of presence by phrase."""

    first_frame: int
    last_frame: int
    first_time: float | None
    last_time: float | None
    frames: int
    live_sum: int
    live_max: int
    presence: dict[str, float] = field(default_factory=dict)

    def join(self, after: Bin) -> None:
        """Takes the stretch that follows into this one."""
        self.last_frame, self.last_time = after.last_frame, after.last_time
        self.frames += after.frames
        self.live_sum += after.live_sum
        self.live_max = max(self.live_max, after.live_max)
        for phrase, value in after.presence.items():
            self.presence[phrase] = self.presence.get(phrase, 0.0) + value


class LiveCurve:
    """Live tracks over time in at most ``MAX_BINS`` bins, all but the last of as many frames: doubled when full.

    Of presence, the first ``MAX_PHRASES`` phrases are kept.
    """

    def __init__(self) -> None:
        self.bins: list[Bin] = []
        self.phrases: list[str] = []
        self.frames_per_bin = 1

    def add(
        self, frame_number: int, time: float | None, live: int, presence: Mapping[str, float] | None = None
    ) -> None:
        """Adds a processed frame with ``live`` tracks and the presence of phrases."""
        for phrase in presence or ():
            if len(self.phrases) < MAX_PHRASES and phrase not in self.phrases:
                self.phrases.append(phrase)
        kept = {phrase: float(value) for phrase, value in (presence or {}).items() if phrase in self.phrases}
        one = Bin(frame_number, frame_number, time, time, 1, live, live, kept)
        if self.bins and self.bins[-1].frames < self.frames_per_bin:
            self.bins[-1].join(one)
            return
        if len(self.bins) == MAX_BINS:
            for even, odd in zip(self.bins[::2], self.bins[1::2], strict=True):
                even.join(odd)
            self.bins = self.bins[::2]
            self.frames_per_bin *= 2
        self.bins.append(one)


class SeekTimes:
    """The times of all frames, as few of them as give the others by linear interpolation.

    Each is right within ``tolerance``, which doubles when there would be more than ``MAX_SEEK_TIMES``: a constant frame
    rate needs two, and a pause two more.

    Attributes:
        tolerance: in seconds.
    """

    def __init__(self) -> None:
        self.tolerance = SEEK_TOLERANCE
        self._points: list[tuple[int, float]] = []
        self._last: tuple[int, float] | None = None  # the latest frame, if it is not in the list
        self._slopes = (-np.inf, np.inf)  # seconds per frame of lines from the last point that pass all frames since

    def add(self, frame_number: int, time: float) -> None:
        """Adds a frame, whose number and time are above those before; a time that is not is taken as the same."""
        if not self._points:
            self._points.append((frame_number, time))
            return
        if self._last is not None:
            time = max(time, self._last[1])
            frame, seconds = self._points[-1]
            slope = (time - seconds) / (frame_number - frame)
            if not self._slopes[0] <= slope <= self._slopes[1]:
                self._points.append(self._last)
                self._slopes = -np.inf, np.inf
        frame, seconds = self._points[-1]
        low = (time - self.tolerance - seconds) / (frame_number - frame)
        high = (time + self.tolerance - seconds) / (frame_number - frame)
        self._slopes = max(low, self._slopes[0]), min(high, self._slopes[1])
        self._last = frame_number, time
        while len(self._points) > MAX_SEEK_TIMES:
            self.tolerance *= 2
            points = self.points()
            self._points, self._last, self._slopes = [], None, (-np.inf, np.inf)
            for point in points:
                self.add(*point)

    def points(self) -> list[tuple[int, float]]:
        """Frame numbers and their seconds, both rising; the first and the last frame are there."""
        return self._points if self._last is None else [*self._points, self._last]


def consider_crop(
    record: TrackRecord,
    image: np.ndarray,
    box: tuple[float, float, float, float],
    score: float,
    mask: Callable[[], np.ndarray] | None = None,
) -> bool:
    """Makes the box's crop the record's thumbnail when it is clearly better: larger and surer, not cut by the border.

    Args:
        record: whose thumbnail it may become.
        image: the frame, (H, W, 3) uint8 BGR, without drawings.
        box: xyxy in its 0-based pixels, finite.
        score: the box's confidence.
        mask: gives the object's (H, W) bool mask, which the crop is cut out by; None, or an empty one: the whole crop.

    Returns:
        Whether it became the thumbnail.
    """
    height, width = image.shape[:2]
    x1, y1, x2, y2 = max(box[0], 0.0), max(box[1], 0.0), min(box[2], float(width)), min(box[3], float(height))
    if x2 - x1 < 2 or y2 - y1 < 2:
        return False
    value = (x2 - x1) * (y2 - y1) * max(score, 0.01)
    if box[0] < 2 or box[1] < 2 or box[2] > width - 2 or box[3] > height - 2:
        value *= CUT_BY_BORDER
    if value <= BETTER * record.thumbnail_score:
        return False
    margin = 0.08 * max(x2 - x1, y2 - y1)
    left, top = max(0, int(x1 - margin)), max(0, int(y1 - margin))
    window = np.s_[top : min(height, int(y2 + margin) + 1), left : min(width, int(x2 + margin) + 1)]
    crop = image[window]
    scale = min(THUMBNAIL[0] / crop.shape[1], THUMBNAIL[1] / crop.shape[0], 4.0)
    size = (max(1, round(crop.shape[1] * scale)), max(1, round(crop.shape[0] * scale)))
    small = cv2.resize(crop, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    shape = None if mask is None else mask()[window]
    if shape is not None and shape.any():
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        inside = cv2.resize(shape.astype(np.float32), size, interpolation=how)
        small = np.rint(BACKGROUND + inside[..., None] * (small.astype(np.float32) - BACKGROUND)).astype(np.uint8)
    done, jpeg = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 80])
    if done:
        record.thumbnail, record.thumbnail_score = jpeg.tobytes(), value
    return bool(done)
