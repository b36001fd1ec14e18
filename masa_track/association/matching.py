"""Which detection takes which track, from the pairs that are similar enough."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Candidates(NamedTuple):
    """The pairs that may match, sorted by row, then by falling similarity, then by column.

    ``rows``, ``columns`` and ``values`` are (K,); ``starts`` (N + 1,) says where each row's pairs begin and end.
    """

    rows: np.ndarray
    columns: np.ndarray
    values: np.ndarray
    starts: np.ndarray


def sort_candidates(rows: np.ndarray, columns: np.ndarray, values: np.ndarray, row_count: int) -> Candidates:
    """Sorts (K,) pairs for the two assignments below."""
    order = np.lexsort((columns, -values, rows))
    rows = rows[order]
    return Candidates(rows, columns[order], values[order], np.searchsorted(rows, np.arange(row_count + 1)))


def greedy(pairs: Candidates, shared: np.ndarray, takes: np.ndarray) -> np.ndarray:
    """Row by row, each takes its most similar column of those that no earlier row took.

    This is a serial dictatorship, whose only stable outcome deferred acceptance finds, too: every waiting row asks
    for its best column, each column keeps the earliest row that asked, the others go on to their next. All rows ask
    at once, so the Python loop runs over rounds of rejections (a handful), not over detections.

    Args:
        pairs: the candidates; row 0 chooses first.
        shared: (M,) bool, columns that any number of rows may ask for and none takes (backdrops): asking ends there.
        takes: (N,) bool, rows that may take a column.

    Returns:
        (N,) int64, the column each row took, -1 for none.

    Source: Gale and Shapley, 1962; the order of scores as in the authors' trackers.
    """
    nobody = len(takes)
    holder = np.full(len(shared), nobody)
    position = pairs.starts[:-1].copy()
    waiting = np.flatnonzero(takes)
    while True:
        waiting = waiting[position[waiting] < pairs.starts[waiting + 1]]
        wanted = pairs.columns[position[waiting]]
        if shared.any():
            alone = ~shared[wanted]
            waiting, wanted = waiting[alone], wanted[alone]
        if waiting.size == 0:
            break
        before = holder[wanted]
        np.minimum.at(holder, wanted, waiting)
        after = holder[wanted]
        rejected = np.concatenate(
            (waiting[after != waiting], np.unique(before[(before != after) & (before != nobody)]))
        )
        position[rejected] += 1
        waiting = rejected
    taken = np.full(len(takes), -1)
    held = np.flatnonzero(holder < nobody)
    taken[holder[held]] = held
    return taken


def hungarian(pairs: Candidates, shared: np.ndarray, takes: np.ndarray) -> np.ndarray:
    """The assignment with the largest sum of similarities; a row that is nearest to a shared column gets none.

    Args and returns: as :func:`greedy`.

    Source: scipy.optimize.linear_sum_assignment (Crouse, 2016).
    """
    from scipy.optimize import linear_sum_assignment

    taken = np.full(len(takes), -1)
    first = pairs.starts[:-1][np.diff(pairs.starts) > 0]
    free = takes.copy()
    free[pairs.rows[first]] &= ~shared[pairs.columns[first]]
    use = free[pairs.rows] & ~shared[pairs.columns]
    if not use.any():
        return taken
    gain = np.zeros((len(takes), len(shared)))
    gain[pairs.rows[use], pairs.columns[use]] = pairs.values[use]
    rows, columns = linear_sum_assignment(gain, maximize=True)
    real = gain[rows, columns] > 0
    taken[rows[real]] = columns[real]
    return taken


def best_left(pairs: Candidates, taken: np.ndarray, column_count: int) -> tuple[np.ndarray, np.ndarray]:
    """For every row, its most similar column among those nobody took.

    Args:
        pairs: the candidates.
        taken: (N,) int64, what each row took.
        column_count: M.

    Returns:
        ``columns`` (N,) int64 (-1 for none) and ``values`` (N,) float32 (0 for none).
    """
    free = np.ones(column_count, bool)
    free[taken[taken >= 0]] = False
    left = np.flatnonzero(free[pairs.columns])
    rows, first = np.unique(pairs.rows[left], return_index=True)
    columns, values = np.full(len(taken), -1), np.zeros(len(taken), np.float32)
    columns[rows], values[rows] = pairs.columns[left[first]], pairs.values[left[first]]
    return columns, values


def most_evidence(odds: np.ndarray, least: float) -> tuple[np.ndarray, float]:
    """The assignment with the largest sum of log-odds above ``least``.

    Args:
        odds: (N, M) log-odds.
        least: pairs at or below it are none.

    Returns:
        ``taken`` (N,) int64, the column of each row, -1 for none; and the sum of what is above ``least``.

    Source: scipy.optimize.linear_sum_assignment (Crouse, 2016).
    """
    from scipy.optimize import linear_sum_assignment

    taken = np.full(len(odds), -1)
    if odds.size == 0:
        return taken, 0.0
    gain = np.maximum(odds - least, 0)
    rows, columns = linear_sum_assignment(gain, maximize=True)
    real = gain[rows, columns] > 0
    taken[rows[real]] = columns[real]
    return taken, float(gain[rows, columns].sum())
