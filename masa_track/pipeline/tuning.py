"""The search behind `masa-track tune`: sequences embedded once, tracked and scored many times."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from masa_track.association import AppearancePrior, FusedAssociator, FusedOptions
from masa_track.contracts import Embeds
from masa_track.evaluation import MotRows, score_sequences
from masa_track.evaluation.rules import RuledTruth, read_truth

# What is searched: from, to, and whether in ratios rather than differences.
_RANGES: dict[str, tuple[float, float, bool]] = {
    "track_activation_threshold": (0.1, 0.9, False),
    "high_score_threshold": (0.1, 0.7, False),
    "match_odds": (-2.0, 2.0, False),
    "appearance_weight": (0.3, 1.5, False),
    "motion_speed": (0.5, 5.0, True),
    "motion_persistence": (1.0, 20.0, True),
    "position_noise": (0.02, 0.2, True),
    "extent_noise": (0.04, 0.3, True),
    "motion_memory_seconds": (0.5, 10.0, True),
    "missing_odds": (0.0, 3.0, False),
    "entry_odds": (0.0, 8.0, False),
    "confirm_seconds": (0.0, 0.5, False),
}


@dataclass(frozen=True)
class EmbeddedSequence:
    """A sequence with all that the association needs.

    Attributes:
        name: of the folder.
        fps: frames a second.
        size: width and height.
        frames: number, boxes (N, 4) xyxy, scores (N,) and embeddings (N, D) of each frame.
        truth: its true boxes, those that are scored.
        prior: the cosines to expect of the embeddings; None where they are not known.
        ruled: the truth with the rules of a benchmark, which score tracks; None scores them against ``truth``.
    """

    name: str
    fps: float
    size: tuple[int, int]
    frames: list[tuple[int, np.ndarray, np.ndarray, np.ndarray]]
    truth: MotRows
    prior: AppearancePrior | None = None
    ruled: RuledTruth | None = None


def embed_sequence(folder: Path, kind: str, model: Embeds, rules: str = "auto") -> EmbeddedSequence:
    """Embeds the boxes ``kind``/``kind``.txt of a MOTChallenge folder.

    Args:
        folder: with frames, ``gt/gt.txt`` and the boxes.
        kind: ``det`` or ``gt``.
        model: that embeds them.
        rules: what is removed before scoring, see :func:`~masa_track.evaluation.rules.read_truth`.

    Raises:
        InputError: frames, boxes or truth are missing or broken.
    """
    from masa_track.formats.detections import read_detections
    from masa_track.video.sources import open_source

    gt = folder / "gt" / "gt.txt"
    ruled = read_truth(folder.name, gt, rules)
    source = open_source(folder)
    file = read_detections(str(folder / kind / f"{kind}.txt"), source)
    frames = []
    for frame in source.frames(1, None, lambda number, reason: None):
        found = file.at(frame.number)
        scores = np.ones(len(found)) if found.confidence is None else found.confidence
        frames.append((frame.number, found.xyxy, scores, model.embed(frame.picture, found.xyxy)))
    size, prior = (source.width, source.height), getattr(model, "prior", None)
    nothing = MotRows(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 4)))
    truth = ruled.apply(nothing).truth
    return EmbeddedSequence(folder.name, source.fps, size, frames, truth, prior, ruled)


def score(sequences: list[EmbeddedSequence], measure: str, strides: list[int], options: dict[str, Any]) -> float:
    """The mean over sequences and strides of a measure (``idf1``, ``hota`` or ``mota``) with some options."""
    values = []
    for sequence in sequences:
        for stride in strides:
            truth, tracks = sequence.truth, _track(sequence, stride, options)
            if sequence.ruled is not None:
                after = sequence.ruled.apply(tracks)
                truth, tracks = after.truth, after.tracks
            truth = truth.every(stride)
            if len(truth):
                scored = score_sequences({sequence.name: (truth, tracks)}, stride=stride).combined
                values.append(float(getattr(scored, measure)))
    return float(np.mean(values))


def search(
    sequences: list[EmbeddedSequence], measure: str, trials: int, strides: list[int], seed: int
) -> tuple[float, float, dict[str, float]]:
    """Tries settings (TPE), the preset's own first.

    Returns:
        The preset's score, the best one, and the options that gave it; none where the preset is the best.

    Source: Akiba et al., Optuna, KDD 2019.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    preset = {name: getattr(FusedOptions(), name) for name in _RANGES}
    before = score(sequences, measure, strides, {})
    study.add_trial(
        optuna.trial.create_trial(
            params=preset,
            distributions={
                name: optuna.distributions.FloatDistribution(low, high, log=ratio)
                for name, (low, high, ratio) in _RANGES.items()
            },
            value=before,
        )
    )

    def objective(trial: optuna.Trial) -> float:
        options = {
            name: trial.suggest_float(name, low, high, log=ratio) for name, (low, high, ratio) in _RANGES.items()
        }
        return score(sequences, measure, strides, options)

    study.optimize(objective, n_trials=trials)
    if study.best_value <= before:
        return before, before, {}
    return before, study.best_value, {name: round(value, 4) for name, value in study.best_params.items()}


def _track(sequence: EmbeddedSequence, stride: int, options: dict[str, Any]) -> MotRows:
    """The tracks of every ``stride``-th frame, 1-based left, top, width, height."""
    associator = FusedAssociator(prior=sequence.prior, **{"fps": sequence.fps, "first_id": 1, **options})
    frames, ids, boxes = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros((0, 4))]
    for number, found, scores, embeddings in sequence.frames:
        if (number - 1) % stride == 0:
            given = associator.update(found, scores, np.zeros(len(found), int), embeddings, number, sequence.size)
            kept = given >= 0
            frames.append(np.full(int(kept.sum()), number))
            ids.append(given[kept])
            boxes.append(found[kept])
    rows = np.concatenate(boxes).astype(np.float64)
    rows[:, 2:] -= rows[:, :2]
    rows[:, :2] += 1
    return MotRows(np.concatenate(frames), np.concatenate(ids), rows)
