#!/usr/bin/env python3
"""Scores tracks with and without masklets, with the detector in each frame and in every Nth.

The boxes are those of MOTChallenge folders (det/det.txt or gt/gt.txt); masks, embeddings and identities are real. The
truth of all frames counts, so that a track that is missing between two runs of the detector costs.

    python tools/bench_masklet_tracks.py ../shared/clips/mot15/TUD-Campus ../shared/clips/mot15/PETS09-S2L1 --frames 80
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from masa_track.encoders.base import BaseEmbedder
from masa_track.encoders.loading import load
from masa_track.evaluation import MotRows, read_mot, score_sequences
from masa_track.formats.detections import read_detections
from masa_track.masklets.loading import open_propagator
from masa_track.masklets.tracking import MaskletOptions, MaskletTracker
from masa_track.tracker import MasaTracker
from masa_track.video.sources import open_source


def track(
    folder: Path, model: BaseEmbedder, args: argparse.Namespace, every: int, masklets: str | None
) -> tuple[MotRows, MotRows, float]:
    """The truth of the tracked frames, the tracks, and milliseconds a frame."""
    source = open_source(folder)
    file = read_detections(str(folder / args.boxes / f"{args.boxes}.txt"), source)
    tracker = MasaTracker(model, fps=source.fps, track_activation_threshold=args.threshold)
    identities: MasaTracker | MaskletTracker = tracker
    if masklets is not None:
        options = MaskletOptions(alone_seconds=args.alone)
        identities = MaskletTracker(tracker, open_propagator(masklets), options)
    rows: list[tuple[float, ...]] = []
    numbers: list[int] = []
    begun = time.perf_counter()
    title = f"{folder.name}, {masklets or 'none'}, every {every}"
    for place, frame in enumerate(tqdm(source.frames(args.stride, args.frames), total=args.frames, desc=title)):
        (result,) = identities.step(frame, None if place % every else file.at(frame.number))
        numbers.append(frame.number)
        found = result.detections
        for identity, box in zip([] if found.tracker_id is None else found.tracker_id, found.xyxy, strict=True):
            if identity >= 0:
                rows.append((frame.number, identity, box[0] + 1, box[1] + 1, box[2] - box[0], box[3] - box[1]))
    seconds = time.perf_counter() - begun
    table = np.array(rows, np.float64).reshape(-1, 6)
    truth = read_mot(folder / "gt" / "gt.txt", truth=True)
    here = np.isin(truth.frames, numbers)
    wanted = MotRows(truth.frames[here], truth.ids[here], truth.boxes[here])
    given = MotRows(table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), table[:, 2:])
    return wanted, given, 1000 * seconds / max(len(numbers), 1)


def main() -> None:
    """Prints a row for each sequence and way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sequences", nargs="+", type=Path, help="MOTChallenge folders")
    parser.add_argument("--boxes", choices=("det", "gt"), default="det", help="whose boxes (default: %(default)s)")
    parser.add_argument("--masklets", default="flow", help="propagator (default: %(default)s)")
    parser.add_argument("--every", type=int, nargs="+", default=[1, 5], help="the detector runs (default: 1 5)")
    parser.add_argument("--stride", type=int, default=1, help="of the frames (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=80, help="of each sequence (default: %(default)s)")
    parser.add_argument("--threshold", type=float, default=0.5, help="score that starts a track (default: .5)")
    parser.add_argument("--alone", type=float, default=MaskletOptions().alone_seconds, help="alone_seconds, default 0")
    args = parser.parse_args()
    model = load("nano", device="cpu")
    print(
        f"{'sequence':18}{'every':>6}{'masklets':>10}{'IDF1':>8}{'HOTA':>8}{'MOTA':>8}{'switches':>10}{'ms/frame':>12}"
    )
    for folder in args.sequences:
        for every in args.every:
            for masklets in (None, args.masklets):
                truth, tracks, spent = track(folder, model, args, every, masklets)
                scored = score_sequences({folder.name: (truth, tracks)}).combined
                print(
                    f"{folder.name:18}{every:6}{masklets or 'none':>10}{scored.idf1:8.3f}{scored.hota:8.3f}"
                    f"{scored.mota:8.3f}{scored.switches:10}{spent:12.0f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
