"""Numbers of decoded frames, where the decoder loses frames and returns them late and in another order."""

from __future__ import annotations

import math
from bisect import insort
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

from masa_track.video.keyframes import REORDER
from masa_track.video.shown import shows_picture

BY_PTS = "by pts"  # a picture has the pts of its packet
IN_ORDER = "in order"  # as many pictures as packets; the n-th picture is shown at the n-th pts
COUNTED = "counted"  # two packets may be one picture, or one packet two
MAX_PENDING = 10_000  # packets without a frame, before the oldest is given up: a stream may fail for hours


def pairing_of(packets: Sequence[int | None], pictures: Sequence[int | None]) -> str:
    """How the pictures at the start of a file come of its packets.

    A packed B-frame, or an AVI that was remuxed, has the pts of another picture; a field has a packet of its own.

    Args:
        packets: their pts, of those that show a picture.
        pictures: the pts of all that were decoded of them without an error, as they were returned.

    Returns:
        :data:`BY_PTS`, :data:`IN_ORDER` or :data:`COUNTED`.
    """
    known = [pts for pts in pictures if pts is not None]
    rising = all(one < other for one, other in pairwise(known))
    if len(known) == len(pictures) and len(pictures) == len(packets) and set(known) == set(packets):
        return BY_PTS if rising else IN_ORDER
    few = max(3, len(packets) // 10)  # a damaged file loses some pictures
    if abs(len(pictures) - len(packets)) <= few:
        return BY_PTS if rising and len(known) == len(pictures) else IN_ORDER
    return COUNTED


class FrameNumbers:
    """Numbers decoded frames by the packets they came from, so that a frame lost in decoding leaves a gap.

    A decoder may return frames later than their packets and in another order (B-frames, threads), and may lose one
    without an error. But it returns them by rising pts: so all packets sent that have a lower pts than the returned
    frame have lost theirs. Without usable pts frames are counted, and a failure counts as one.

    Where the first packets and pictures show that the pts of packets are not those of pictures, see
    :func:`pairing_of`, pictures are counted instead.

    Args:
        counting: whether to count from the start, as pts are no good.
        joined: the video may begin in the middle of a stream. Packets before the first key frame are then differences
            to a picture that was not received, and no frames of this video unless they decode after all.
        time_base: seconds per unit of pts.
        interval: seconds from one frame to the next where there is no timestamp.
        pairing: how pictures come of packets, of :func:`pairing_of`.
        codec: FFmpeg's name of the decoder; packets of it that show no picture are no frames.

    Attributes:
        last: the highest number given.
        seconds: the time of the last frame received, since the first one. It rises from frame to frame, also where
            the clock is set back.
    """

    def __init__(
        self,
        counting: bool,
        joined: bool,
        time_base: float,
        interval: float,
        pairing: str = BY_PTS,
        codec: str = "",
    ) -> None:
        self.counting = counting
        self.pairing = BY_PTS if counting else pairing
        self.joined = joined
        self.waiting: list[tuple[int, int, bool]] = []  # packets: (epoch, pts, is a frame of the video), sorted
        self.last = 0
        self.seconds = 0.0
        self._codec = codec
        self._time_base = time_base
        self._interval = interval
        self._known: tuple[int, float] | None = None  # the last frame whose time was known: number, seconds
        # dts of packets without a frame, where frames are counted from the start (AVI). Each chunk of an AVI takes one
        # interval, also an empty one, which stands for a dropped frame: the n-th frame is shown at the n-th dts.
        self._slots: deque[int] = deque(maxlen=MAX_PENDING)
        self._first_slot: int | None = None
        self._given_up: deque[int] = deque(maxlen=256)  # the latest pts without a frame
        self._epoch = 0  # of the clock: a live stream may set it back
        self._dts: int | None = None
        self._key_pts: float | None = None if joined else -math.inf
        self._origin: tuple[int, float] | None = None  # epoch, and the pts there of second 0

    def begin_after(self, last: int, first_pts: int) -> None:
        """Begins in the middle: the next frame has number ``last`` + 1, and ``first_pts`` is the pts of frame 1."""
        self.last = last
        self._origin = (0, float(first_pts))
        self._key_pts = -math.inf

    def times(self, packets: Iterable[Any]) -> Iterator[float]:
        """Seconds of each frame if none is lost, without decoding; ``last`` is its number."""
        for packet in packets:
            if packet.size == 0 or not shows_picture(packet, self._codec):
                continue
            if packet.pts is None:
                yield from self._times_waiting(0)
            self.sent(packet)
            if self.counting:
                self.received(None, corrupt=False)
                yield self.seconds
            else:
                yield from self._times_waiting(REORDER)
        yield from self._times_waiting(0)

    def _times_waiting(self, keep: int) -> Iterator[float]:
        while len(self.waiting) > keep:
            _, pts, ours = self.waiting[0]
            _, number = self.received(pts, corrupt=not ours)
            if number is not None:
                yield self.seconds

    def sent(self, packet: Any) -> list[int]:
        """Takes note of a packet; gives the numbers of frames to give up for want of room."""
        if self.counting:
            if packet.dts is not None:
                self._slots.append(packet.dts)
            return []
        if packet.is_discard or self.pairing == COUNTED or not shows_picture(packet, self._codec):
            return []
        if packet.pts is None:
            self._count_from_now()
            return []
        if packet.dts is not None:
            if self._dts is not None and (self._dts - packet.dts) * self._time_base > 0.2:  # s; less is jitter
                self._epoch += 1
            self._dts = packet.dts
        if self._key_pts is None and packet.is_keyframe:
            self._key_pts = packet.pts
        ours = self._key_pts is not None and (self._epoch > 0 or packet.pts >= self._key_pts)
        insort(self.waiting, (self._epoch, packet.pts, ours))
        return self._give_up(1) if len(self.waiting) > MAX_PENDING else []

    def received(self, pts: int | None, corrupt: bool) -> tuple[list[int], int | None]:
        """The numbers of the frames lost before this one, and its own (None: not a frame of the video)."""
        if self.pairing == COUNTED:
            return self._counted(pts)
        if self.pairing == IN_ORDER and self.waiting:
            pts = self.waiting[0][1]
        place = next((i for i, entry in enumerate(self.waiting) if entry[1] == pts), None)
        if place is None and pts in self._given_up:
            return [], None  # after a lost key frame some come too late; it is reported already
        if self.counting or place is None:
            self._count_from_now()
            return [], self._next()
        lost = self._give_up(place)
        epoch, _, ours = self.waiting[0]
        if corrupt and not ours:
            del self.waiting[0]
            return lost, None
        own = self._give_up(1, received=True)[0]
        assert self._origin is not None
        assert pts is not None
        before = None if self._known is None else self.seconds
        if epoch > self._origin[0]:  # the clock was set back: go on one interval after the last frame
            following = 0.0 if before is None else before + self._interval
            self._origin = (epoch, pts - following / self._time_base)
        self.seconds = (pts - self._origin[1]) * self._time_base
        if before is not None and self.seconds <= before:  # two frames of one time, or set back by less than an epoch
            self.seconds = before + min(self._interval, 1e-3)
        self._known = (own, self.seconds)
        return lost, own

    def _counted(self, pts: int | None) -> tuple[list[int], int]:
        """The next number, and the time of the picture where that is after the one before."""
        before = self.seconds if self.last else -self._interval
        self.last += 1
        self.seconds = before + self._interval
        if pts is not None:
            self._origin = (0, pts) if self._origin is None else self._origin
            seconds = (pts - self._origin[1]) * self._time_base
            self.seconds = seconds if seconds > before else self.seconds
        return [], self.last

    def failed(self) -> list[int]:
        """The decoder raised: the number of the frame lost by that, if frames are counted."""
        if self.pairing == COUNTED:
            return [self._counted(None)[1]]
        if self.pairing == IN_ORDER and self.waiting:
            return self._give_up(1)
        return [self._next()] if self.counting else []

    def rest(self) -> list[int]:
        """At the end: the numbers of all that never came."""
        return self._give_up(len(self.waiting))

    def _give_up(self, count: int, received: bool = False) -> list[int]:
        gone = [entry for entry in self.waiting[:count] if entry[2] or received]
        if not received:
            self._given_up.extend(pts for _, pts, _ in self.waiting[:count])
        del self.waiting[:count]
        if gone and self._origin is None:
            self._origin = (gone[0][0], float(gone[0][1]))
        return [self._next() for _ in gone]

    def _next(self) -> int:
        self.last += 1
        if self.counting:
            number, seconds = self._known or (1, 0.0)
            self.seconds = seconds + (self.last - number) * self._interval
            if self._slots:
                slot = self._slots.popleft()
                self._first_slot = slot if self._first_slot is None else self._first_slot
                self.seconds = (slot - self._first_slot) * self._time_base
                self._known = (self.last, self.seconds)
        return self.last

    def _count_from_now(self) -> None:
        if not self.counting:
            self.counting = True
            self.waiting.clear()
            self._slots = deque(maxlen=0)  # the dts of packets sent from now on belong to later frames
