"""Why each detection has its identity: the decisions of one frame."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from masa_track.association.engine import Outcome, no_decisions
from masa_track.association.evidence.options import FusedOptions
from masa_track.association.evidence.pairs import IMPOSSIBLE, Pairs, Seen, motion_term
from masa_track.contracts import NEW_IDENTITY, NO_RUNNER_UP

_TERMS = ("motion", "appearance", "absence", "hint", "mask")


class Match(NamedTuple):
    """Which tracks the N visible detections take.

    ``taken`` (N,) are rows of the memory, -1 for none; ``cut`` is whether there was one. ``pairs`` are what it was
    chosen from (None without tracks), and ``columns`` (N,) those of ``taken`` there, -1 also for pinned rows.
    ``missing`` (M,) are the seconds in which each track should have been seen, and was not.
    """

    taken: np.ndarray
    cut: bool
    pairs: Pairs | None
    columns: np.ndarray
    missing: np.ndarray


def outcome_of(
    options: FusedOptions, seen: Seen, match: Match, ids: np.ndarray, tentative: np.ndarray, track_ids: np.ndarray
) -> Outcome:
    """The columns of the decisions of N visible detections.

    Args:
        options: of the engine.
        seen: the detections.
        match: what they took.
        ids: (N,) their identities.
        tentative: (N,) bool.
        track_ids: (M,) identities of the tracks that they could take.
    """
    count = len(ids)
    outcome = no_decisions(count, _TERMS)
    outcome.identities[:], outcome.tentative[:] = ids, tentative
    pairs = match.pairs
    if pairs is None or not len(pairs.columns) or not count:
        return outcome
    used = pairs.appearance_only if match.cut else pairs.odds
    own = match.columns >= 0
    rows, columns = np.flatnonzero(own), match.columns[own]
    free = np.ones(len(pairs.columns), bool)
    free[columns] = False
    others = np.where(free, used, -np.inf)
    best = others.argmax(axis=1)
    second, third = others[np.arange(count), best], np.full(count, options.match_odds)
    chosen = np.where(own, used[np.arange(count), match.columns], third)
    rival = np.where(own, np.maximum(second, third), second)
    outcome.log_odds[:] = np.where(own, chosen, 0.0)
    outcome.margins[:] = np.where(np.isfinite(rival) & (rival > IMPOSSIBLE / 2), chosen - rival, np.inf)
    runners = np.where(own & (third >= second), NEW_IDENTITY, track_ids[pairs.columns[best]])
    outcome.runners_up[:] = np.where(np.isfinite(outcome.margins), runners, NO_RUNNER_UP)
    appearance = pairs.appearance_only[rows, columns] if match.cut else pairs.appearance[rows, columns]
    motion = np.zeros(len(rows))
    if not match.cut:
        motion = motion_term(pairs.place[rows, columns], match.missing[pairs.columns[columns]], options)
    own_ids = track_ids[pairs.columns[columns]]
    terms = {"motion": motion, "appearance": appearance}
    for name, given in (("hint", seen.hints), ("mask", seen.by_mask)):
        terms[name] = np.zeros(len(rows))
        for position, identity, odds in given:
            terms[name] += np.where((rows == position) & (own_ids == identity), odds, 0)
    terms["absence"] = used[rows, columns] - sum(terms.values())
    for name, values in terms.items():
        outcome.terms[name][rows] = values
    return outcome.pinned(seen.pins)
