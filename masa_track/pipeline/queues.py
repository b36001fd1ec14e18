"""Bounded queues between the threads of a run: an iterator that works ahead, and a writer that works behind."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Generic, TypeVar

T = TypeVar("T")

MOST_ITEMS = 16  # in a queue
MOST_BYTES = 256 * 2**20  # in a queue; a frame of 4K has 25 MB. One item is let in whatever its size
IDLE_SECONDS = 0.5  # without an item, after which a writer may bring what it has onto the disk
_JOIN_SECONDS = 15.0  # an address may be waited for 10 s; the thread ends with the process


class Ahead(Generic[T]):
    """Runs an iterator in a thread, some items ahead of the one who takes them. An error arrives in its place.

    With ``latency`` it never keeps the iterator waiting: when items get too old, all but the newest are dropped.

    Args:
        items: what to run; it is closed in the thread.
        name: of the thread.
        size_of: bytes of an item.
        latency: seconds for which an item may wait; None: it waits for ever, and the iterator with it.
        most_items: in the queue.
        most_bytes: in the queue.

    Attributes:
        dropped: items, so far.
        reserve: seconds that an item needs after it was taken, as far as known; they count as waited, and so does the
            time between the last two takings if it is longer.
    """

    def __init__(
        self,
        items: Iterator[T],
        name: str,
        size_of: Callable[[T], int],
        latency: float | None = None,
        most_items: int = MOST_ITEMS,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._items, self._size_of, self._latency = items, size_of, latency
        self._most_items, self._most_bytes = most_items, most_bytes
        self._queue: deque[tuple[T, int, float]] = deque()
        self._bytes = 0
        self._error: BaseException | None = None
        self._done = self._closed = False
        self.dropped = 0
        self.reserve = 0.0
        self._taken_at: float | None = None  # when the last item was taken
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"masa-track-{name}", daemon=True)
        self._thread.start()

    def __iter__(self) -> Ahead[T]:
        return self

    def __next__(self) -> T:
        busy = 0.0 if self._taken_at is None else time.monotonic() - self._taken_at
        with self._changed:
            while not (self._queue or self._done):
                self._changed.wait(IDLE_SECONDS)  # a limit lets Ctrl-C through
            if self._latency is not None:
                self._drop_old(self._latency - max(self.reserve, busy))
            if self._queue:
                self._taken_at = time.monotonic()
                item, size, _ = self._queue.popleft()
                self._bytes -= size
                self._changed.notify_all()
                return item
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            raise StopIteration

    def waiting(self) -> bool:
        """Whether an item can be had at once."""
        return bool(self._queue)

    def close(self) -> None:
        """Ends the iterator after the item in work, and the thread."""
        with self._changed:
            self._closed = True
            self._queue.clear()
            self._bytes = 0
            self._changed.notify_all()
        if self._thread is not threading.current_thread():
            self._thread.join(_JOIN_SECONDS)

    def _drop_old(self, most_seconds: float) -> None:
        """Drops all but the newest item, if the first has waited too long."""
        if len(self._queue) > 1 and time.monotonic() - self._queue[0][2] > most_seconds:
            while len(self._queue) > 1:
                _, size, _ = self._queue.popleft()
                self._bytes -= size
                self.dropped += 1

    def _full(self, size: int) -> bool:
        return bool(self._queue) and (len(self._queue) >= self._most_items or self._bytes + size > self._most_bytes)

    def _run(self) -> None:
        try:
            for item in self._items:
                size = self._size_of(item)
                with self._changed:
                    if self._latency is None:
                        while not self._closed and self._full(size):
                            self._changed.wait()
                    elif self._full(size):  # a live source cannot wait
                        self._drop_old(-1.0)
                    if self._closed:
                        break
                    self._queue.append((item, size, time.monotonic()))
                    self._bytes += size
                    self._changed.notify_all()
                del item  # not held while the next one is made
        except BaseException as error:
            self._error = error
        finally:
            close = getattr(self._items, "close", None)
            if close is not None:
                with suppress(BaseException):
                    close()
            with self._changed:
                self._done = True
                self._changed.notify_all()


class Behind:
    """Calls a function with one item after the other in a thread.

    After an error nothing more is taken; :meth:`put` and :meth:`close` raise it once.

    Args:
        take: called with each item.
        idle: called when no item has come for half a second.
        size_of: bytes of an item.
        most_items: that wait.
        most_bytes: that wait.
    """

    def __init__(
        self,
        take: Callable[[Any], None],
        idle: Callable[[], None],
        size_of: Callable[[Any], int],
        most_items: int = MOST_ITEMS,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._take, self._idle, self._size_of = take, idle, size_of
        self._most_items, self._most_bytes = most_items, most_bytes
        self._queue: deque[tuple[Any, int]] = deque()
        self._bytes = 0
        self._error: BaseException | None = None
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="masa-track-write", daemon=True)
        self._thread.start()

    def put(self, item: Any) -> None:
        """Hands an item over; waits while too many wait already."""
        size = self._size_of(item)
        with self._changed:
            while self._error is None and self._queue and self._is_full(size):
                self._changed.wait(IDLE_SECONDS)
            self._raise()
            self._queue.append((item, size))
            self._bytes += size
            self._changed.notify_all()

    def close(self) -> None:
        """Waits until all items are done, and ends the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        while self._thread.is_alive():
            self._thread.join(IDLE_SECONDS)  # a limit lets Ctrl-C through
        self._raise()

    def abandon(self) -> None:
        """Ends after the item in work; the others are left out."""
        with self._changed:
            self._closed = True
            self._queue.clear()
            self._changed.notify_all()
        self._thread.join()

    def _is_full(self, size: int) -> bool:
        return len(self._queue) >= self._most_items or self._bytes + size > self._most_bytes

    def _raise(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            self._closed = True
            raise error

    def _run(self) -> None:
        try:
            while True:
                with self._changed:
                    if not self._queue and not self._closed:
                        self._changed.wait(IDLE_SECONDS)
                    if not self._queue and self._closed:
                        return
                    item, size = self._queue.popleft() if self._queue else (None, 0)
                    self._bytes -= size
                    self._changed.notify_all()
                if item is None:
                    self._idle()
                else:
                    self._take(item)
        except BaseException as error:
            with self._changed:
                self._error = error
                self._queue.clear()
                self._changed.notify_all()
