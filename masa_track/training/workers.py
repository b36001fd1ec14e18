"""Photographs through a proposer, in this process or in several; one that gives no picture is a record, too."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import cv2
import torch

from masa_track.errors import InputError
from masa_track.training.proposers import ProposalSettings, Proposer, open_proposer
from masa_track.video.images import BrokenImageError, read_image

_proposer: Proposer | None = None  # of a worker's process


def records(
    root: Path, names: Sequence[str], settings: ProposalSettings, workers: int, stopped: Callable[[], bool]
) -> Iterator[dict[str, Any]]:
    """The record of each image, as soon as it is there.

    Args:
        root: the folder that the names are below.
        names: of the images.
        settings: how regions are found.
        workers: processes, each with a proposer of its own; with 1 it is this one.
        stopped: when true no further image is begun; the records of those in work still come.

    Yields:
        ``image`` (the name), ``width``, ``height`` and ``regions``; or ``image``, ``error`` and ``stamp``.

    Raises:
        InputError: as :func:`open_proposer`, before any image; or a worker was killed.
    """
    proposer = open_proposer(settings)  # with several workers, too: a mistake is named by this process
    if workers == 1:
        for name in names:
            if stopped():
                return
            yield _record(root, name, proposer)
        return
    del proposer
    yield from _from_workers(root, names, settings, workers, stopped)


def stamp(path: Path) -> list[int]:
    """What changes when a file is repaired: its size and time; nothing for one that is not there."""
    try:
        status = path.stat()
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]


def _from_workers(
    root: Path, names: Sequence[str], settings: ProposalSettings, workers: int, stopped: Callable[[], bool]
) -> Iterator[dict[str, Any]]:
    todo = iter(names)
    threads = max(1, torch.get_num_threads() // workers)
    pool = ProcessPoolExecutor(
        min(workers, len(names)), multiprocessing.get_context("spawn"), _start_worker, (settings, threads)
    )
    waiting: set[Future[dict[str, Any]]] = set()
    try:
        while True:
            while len(waiting) < workers and not stopped() and (name := next(todo, None)) is not None:
                waiting.add(pool.submit(_work, root, name))
            if not waiting:
                return
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    except BrokenProcessPool as error:
        raise InputError(
            "a worker was killed, for want of memory perhaps: what was done is kept; go on with fewer --workers"
        ) from error
    except BaseException:
        for child in multiprocessing.active_children():  # a second Ctrl-C does not wait for a slow picture
            child.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker(settings: ProposalSettings, threads: int) -> None:
    """Makes a new process a worker, which ends with its parent, however that ends."""
    global _proposer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent decides
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    _proposer = open_proposer(settings)


def _end_with(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


def _work(root: Path, name: str) -> dict[str, Any]:
    assert _proposer is not None
    return _record(root, name, _proposer)


def _record(root: Path, name: str, proposer: Proposer) -> dict[str, Any]:
    path = root / name
    try:
        image = read_image(path)
    except BrokenImageError as error:
        return {"image": name, "error": str(error), "stamp": stamp(path)}
    height, width = image.shape[:2]
    return {"image": name, "width": width, "height": height, "regions": proposer(image)}
