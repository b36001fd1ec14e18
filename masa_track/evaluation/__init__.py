"""Scores of tracks against the truth: HOTA, CLEAR (MOTA) and IDF1, by TrackEval and py-motmetrics, and TETA.

:func:`evaluate` is the door: :mod:`pairs` (which file goes with which), :mod:`mot` (what is in them), :mod:`rules`
(what a benchmark removes first), :mod:`scores` (the two libraries are fed and asked), :mod:`teta` and :mod:`table`
(the result as text). Truth with classes, in json, comes by :mod:`coco_vid`, BDD100K's own labels by
:mod:`bdd`; :func:`measure` takes text or json and any choice of metrics. pandas, motmetrics and trackeval are imported
when scores are first computed, not with this package.
"""

from masa_track.evaluation.metrics import Measured, measure
from masa_track.evaluation.mot import MotRows, read_mot
from masa_track.evaluation.pairs import Pair, find_pairs
from masa_track.evaluation.scores import Evaluation, Scores, evaluate, score_sequences
from masa_track.evaluation.table import format_table
from masa_track.evaluation.teta import ClassTracks, TetaResult, TetaScores, score_teta

__all__ = [
    "ClassTracks",
    "Evaluation",
    "Measured",
    "MotRows",
    "Pair",
    "Scores",
    "TetaResult",
    "TetaScores",
    "evaluate",
    "find_pairs",
    "format_table",
    "measure",
    "read_mot",
    "score_sequences",
    "score_teta",
]
