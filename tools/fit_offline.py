#!/usr/bin/env python3
"""Fits the model of real tracks of the offline pass, and says what each step of the pass brings.

The tracks are those of the preset `default` on the public detections (det/det.txt) of the clips in mot15/ and
mot15_gt_only/, and on det/nanodet.txt where there is one. Each draw drops 5 % of the boxes and moves centres and sizes
by a normal error of 1 % of the size, as options that were chosen on the exact files fit these too well. Clips without
pictures are tracked by motion alone. A track is real if at least half of its boxes match truth (IoU .5, one to one in
each frame). All figures are of clips that the model was not fitted on: for each clip it is fitted on the others.

    python tools/fit_offline.py ../shared/clips --draws 3

Prints the gains as Markdown, then the constants for masa_track/association/offline.py.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bench_peers import frames_of
from scipy.optimize import linear_sum_assignment, minimize

import masa_track
from masa_track.association import FusedAssociator
from masa_track.association.offline import (
    CENTRE_SECONDS,
    FILL_SECONDS,
    REAL_TRACKS,
    SIZE_SECONDS,
    RealTracks,
    finish,
    real_tracks,
    show_births,
    track_features,
)
from masa_track.boxes import box_iou_xywh
from masa_track.contracts import Observation
from masa_track.evaluation import MotRows, read_mot, score_sequences

KINDS = ("det", "nanodet")
OFF: dict[str, Any] = {"births": False, "model": None, "centre_seconds": 0, "size_seconds": 0, "fill_seconds": 0}
STEPS: dict[str, dict[str, Any]] = {  # "model" is replaced by the one that was fitted on the other clips
    "raw": {},
    "births": {"births": True},
    "real tracks": {"model": REAL_TRACKS},
    "smooth": {"centre_seconds": CENTRE_SECONDS, "size_seconds": SIZE_SECONDS},
    "fill": {"fill_seconds": FILL_SECONDS},
}
STEPS["all"] = {name: value for step in STEPS.values() for name, value in step.items()}


@dataclass
class Boxes:
    """A frame's boxes: (N, 4) xyxy, (N,) scores and (N, D) embeddings; None without a picture."""

    boxes: np.ndarray
    scores: np.ndarray
    embeddings: np.ndarray | None


@dataclass
class Tracks:
    """The tracks of one draw of a clip, a row per box; ``shown`` (N,) are those that the online tracker showed."""

    clip: Path
    kind: str
    fps: float
    frames: np.ndarray
    ids: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    shown: np.ndarray
    tracked: np.ndarray
    cuts: np.ndarray
    truth: MotRows


def read_boxes(clip: Path, kind: str, model: Any) -> tuple[float, tuple[int, int], list[Boxes]]:
    """Frame rate, size, and each frame's boxes, with embeddings where there are pictures and a model."""
    table = np.loadtxt(clip / "det" / f"{kind}.txt", delimiter=",", ndmin=2)
    fps, _, size, frames = frames_of(clip)
    found = []
    for number, picture in frames:
        rows = table[table[:, 0] == number]
        corner = rows[:, 2:4] - 1
        boxes = np.concatenate((corner, corner + rows[:, 4:6]), axis=1).astype(np.float32)
        embeddings = None if model is None or picture is None else model.embed(picture, boxes)
        found.append(Boxes(boxes, np.clip(rows[:, 6], 0, 1), embeddings))
    return fps, size, found


def perturbed(frames: list[Boxes], draw: int) -> Iterator[Boxes]:
    """Each frame's boxes with 5 % of them dropped and a normal error of 1 % of the size."""
    rng = np.random.default_rng(draw)
    for one in frames:
        kept = rng.permutation(np.flatnonzero(rng.random(len(one.boxes)) >= 0.05))
        boxes = one.boxes[kept].astype(np.float64)
        sizes = boxes[:, 2:] - boxes[:, :2]
        centres = boxes[:, :2] + 0.5 * sizes + 0.01 * sizes * rng.standard_normal(sizes.shape)
        halves = 0.5 * sizes * (1 + 0.01 * rng.standard_normal(sizes.shape))
        boxes = np.concatenate((centres - halves, centres + halves), axis=1).astype(np.float32)
        yield Boxes(boxes, one.scores[kept], None if one.embeddings is None else one.embeddings[kept])


def track(
    clip: Path, kind: str, fps: float, size: tuple[int, int], frames: list[Boxes], draw: int, model: Any
) -> Tracks:
    """The engine's tracks of one draw of the boxes."""
    use = any(one.embeddings is not None for one in frames)
    engine = FusedAssociator(
        prior=getattr(model, "prior", None) if use else None, fps=fps, first_id=1, use_appearance=use
    )
    drawn, ids, events = list(perturbed(frames, draw)), [], []
    for number, one in enumerate(drawn, 1):
        seen = Observation(
            number, number / fps, size, one.boxes, one.scores, np.zeros(len(one.boxes), np.int64), one.embeddings
        )
        own, _, told = engine.update(seen)
        ids.append(own)
        events += told
    shown = np.concatenate(ids) >= 0
    every = np.concatenate(show_births(ids, range(1, len(ids) + 1), events))
    numbers = np.repeat(np.arange(1, len(drawn) + 1), [len(one.boxes) for one in drawn])
    rows = every >= 0
    boxes, scores = np.concatenate([one.boxes for one in drawn]), np.concatenate([one.scores for one in drawn])
    cuts = np.array([event.number for event in events if event.kind == "cut"], np.int64)
    return Tracks(
        clip,
        kind,
        fps,
        numbers[rows],
        every[rows],
        boxes[rows].astype(np.float64),
        scores[rows],
        shown[rows],
        np.arange(1, len(drawn) + 1),
        cuts,
        read_mot(clip / "gt" / "gt.txt", truth=True),
    )


def mot_rows(frames: np.ndarray, ids: np.ndarray, boxes: np.ndarray) -> MotRows:
    """Rows as the evaluation takes them: 1-based left, top, width, height."""
    return MotRows(frames, ids, np.concatenate((boxes[:, :2] + 1, boxes[:, 2:] - boxes[:, :2]), axis=1))


def labels_of(tracks: Tracks) -> tuple[np.ndarray, np.ndarray]:
    """(T, F) features of the tracks, and (T,) bool whether each is real."""
    matched = np.zeros(len(tracks.ids), bool)
    ours = mot_rows(tracks.frames, tracks.ids, tracks.boxes)
    for frame in np.unique(tracks.frames).tolist():
        here, there = ours.in_frame(frame), tracks.truth.in_frame(frame)
        overlap = box_iou_xywh(ours.boxes[here], tracks.truth.boxes[there])
        rows, columns = linear_sum_assignment(-np.where(overlap >= 0.5, overlap, 0.0))
        matched[here.start + rows[overlap[rows, columns] >= 0.5]] = True
    rows, features, _ = track_features(tracks.frames, tracks.ids, tracks.scores, tracks.fps)
    return features, np.bincount(rows, matched) >= 0.5 * np.bincount(rows)


def fit(features: np.ndarray, real: np.ndarray) -> RealTracks:
    """A logistic model of (T,) bool by (T, F) features; a penalty of half the squared weights keeps them small."""

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        odds = features @ weights[:-1] + weights[-1]
        error = 1 / (1 + np.exp(-odds)) - real
        value = np.sum(np.logaddexp(0, odds) - real * odds) + 0.5 * np.sum(weights[:-1] ** 2)
        return float(value), np.append(features.T @ error + weights[:-1], error.sum())

    found = minimize(loss, np.zeros(features.shape[1] + 1), jac=True, method="L-BFGS-B").x.tolist()
    return RealTracks(tuple(found[:-1]), found[-1])


def scores_of(tracks: Tracks, births: bool, **steps: Any) -> tuple[float, float]:
    """IDF1 and HOTA after some steps of the pass."""
    rows = np.ones(len(tracks.ids), bool) if births else tracks.shown
    of = tracks.frames[rows], tracks.ids[rows], tracks.boxes[rows], tracks.scores[rows]
    done = finish(*of, tracks.fps, tracked=tracks.tracked, cuts=tracks.cuts, **steps)
    scored = score_sequences({"clip": (tracks.truth, mot_rows(done.frames, done.ids, done.boxes))}).combined
    return scored.idf1, scored.hota


def report(drawn: list[Tracks]) -> None:
    """Fits and scores with each clip left out, and prints the gains; then the model of all clips."""
    known = [labels_of(one) for one in drawn]
    scores: dict[tuple[str, str], list[np.ndarray]] = {}
    right = kept_real = real_count = count = 0
    for clip in sorted({one.clip for one in drawn}):
        others = [both for one, both in zip(drawn, known, strict=True) if one.clip != clip]
        model = fit(np.concatenate([x for x, _ in others]), np.concatenate([y for _, y in others]))
        for one, (_, real) in zip(drawn, known, strict=True):
            if one.clip != clip:
                continue
            _, first = np.unique(one.ids, return_index=True)
            kept = real_tracks(one.frames, one.ids, one.scores, one.fps, model)[first]
            right, count = right + int((kept == real).sum()), count + len(real)
            kept_real, real_count = kept_real + int((kept & real).sum()), real_count + int(real.sum())
            for steps in STEPS.values():
                chosen = {**OFF, **steps, "model": model if "model" in steps else None}
                scores.setdefault((clip.name, one.kind), []).append(np.array(scores_of(one, **chosen)))
    print(f"| clip | boxes | {' | '.join(STEPS)} |\n|---|---|{'---|' * len(STEPS)}")
    table = np.array([np.reshape(rows, (-1, len(STEPS), 2)).mean(0) for rows in scores.values()])  # (C, S, 2)
    for (name, kind), cells in zip(scores, table, strict=True):
        print(f"| {name} | {kind} | {_cells(cells)} |")
    print(f"| mean | | {_cells(table.mean(0))} |")
    gain = table - table[:, :1]
    print(f"| worst gain | | {' | '.join(f'{a:+.3f} / {b:+.3f}' for a, b in gain.min(0))} |")
    print(f"\naccuracy {right / count:.3f} of {count} tracks; {kept_real} of {real_count} real ones kept")
    model = fit(np.concatenate([x for x, _ in known]), np.concatenate([y for _, y in known]))
    print(f"REAL_TRACKS = RealTracks(({', '.join(f'{w:.2f}' for w in model.weights)}), {model.bias:.2f})")


def _cells(cells: np.ndarray) -> str:
    """IDF1 and HOTA (S, 2): those of raw tracks, then the gains."""
    first = f"{cells[0, 0]:.3f} / {cells[0, 1]:.3f}"
    return " | ".join([first, *(f"{a:+.3f} / {b:+.3f}" for a, b in cells[1:] - cells[0])])


def main() -> None:
    """Tracks, fits, scores and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, help="folder with mot15/ and mot15_gt_only/")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these clips alone")
    parser.add_argument("--draws", type=int, default=2, metavar="N", help="perturbed copies (default: %(default)s)")
    parser.add_argument("--model", default="nano", metavar="NAME", help="default: %(default)s; 'none': motion alone")
    args = parser.parse_args()
    model = None if args.model == "none" else masa_track.load(args.model)
    drawn = []
    for clip in sorted(
        p.parents[1] for name in ("mot15", "mot15_gt_only") for p in args.clips.glob(f"{name}/*/gt/gt.txt")
    ):
        if args.only and clip.name not in args.only:
            continue
        for kind in (kind for kind in KINDS if (clip / "det" / f"{kind}.txt").exists()):
            fps, size, frames = read_boxes(clip, kind, model)
            drawn += [track(clip, kind, fps, size, frames, draw, model) for draw in range(1, args.draws + 1)]
    if len({one.clip for one in drawn}) < 2:
        parser.error(f"two clips or more with det/det.txt are needed below {args.clips}, as each is left out once")
    report(drawn)


if __name__ == "__main__":
    main()
