#!/usr/bin/env python3
"""Our preset `default` beside the trackers of the `trackers` package on the same boxes, in one process.

ByteTrack, OC-SORT and BoT-SORT (its camera-motion compensation on) run with the package's own settings. Every
tracker gets the same boxes, in an order drawn at random for each frame, since true boxes come sorted by identity.
Clips without frames are tracked by motion alone. Prints Markdown: the rows where we lose are marked.

    pip install ".[bench]"
    python tools/bench_peers.py ../shared/clips --out runs/peers.json
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import supervision as sv

import masa_track
from masa_track.association import AppearancePrior, FusedAssociator
from masa_track.evaluation import MotRows, read_mot, score_sequences

PEERS = {"ByteTrack": "ByteTrackTracker", "OC-SORT": "OCSORTTracker", "BoT-SORT": "BoTSORTTracker"}
Boxes = tuple[np.ndarray, np.ndarray]  # xyxy (N, 4) and scores (N,)
Update = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None, int], np.ndarray]


def boxes_of(clip: Path, kind: str) -> dict[int, Boxes]:
    """Each frame's boxes, 0-based xyxy, in random order; true ones have score 1."""
    rows = np.loadtxt(clip / kind / f"{kind}.txt", delimiter=",", ndmin=2)
    if kind == "gt":
        rows = rows[rows[:, 6] != 0]
    rng, found = np.random.default_rng(0), {}
    for frame in np.unique(rows[:, 0]).astype(int).tolist():
        of = rng.permutation(rows[rows[:, 0] == frame])
        corner = of[:, 2:4] - 1
        scores = np.ones(len(of)) if kind == "gt" else of[:, 6]
        found[frame] = np.concatenate((corner, corner + of[:, 4:6]), axis=1).astype(np.float32), scores
    return found


def frames_of(clip: Path) -> tuple[float, int, tuple[int, int], Iterator[tuple[int, np.ndarray | None]]]:
    """Frame rate, length, size and pictures (None where there are none) of a sequence."""
    from masa_track.video.sources import open_source

    video = next(iter([*clip.glob("*.avi"), *clip.glob("*.mp4")]), clip)
    if video is clip and not (clip / "img1").is_dir():
        lines = (line.partition("=") for line in (clip / "seqinfo.ini").read_text().splitlines())
        info = {name.strip().lower(): value.strip() for name, _, value in lines}
        size = int(info["imwidth"]), int(info["imheight"])
        length = int(info["seqlength"])
        return float(info["framerate"]), length, size, ((n, None) for n in range(1, length + 1))
    source = open_source(str(video))
    assert source.length is not None
    frames = ((frame.number, frame.image) for frame in source.frames(1, None, lambda number, reason: None))
    return source.fps, source.length, (source.width, source.height), frames


def ours(fps: float, size: tuple[int, int], prior: AppearancePrior | None, options: dict[str, Any]) -> Update:
    """A fresh engine of the preset `default`."""
    associator = FusedAssociator(prior=prior, **{"fps": fps, "first_id": 1, **options})

    def update(
        boxes: np.ndarray, scores: np.ndarray, embeddings: np.ndarray, image: np.ndarray | None, number: int
    ) -> np.ndarray:
        return associator.update(boxes, scores, np.zeros(len(boxes), np.int64), embeddings, number, size)

    return update


def peer(name: str, with_frames: bool) -> Update:
    """A fresh tracker of the `trackers` package."""
    import trackers

    options = {"enable_cmc": with_frames} if name == "BoTSORTTracker" else {}
    tracker = getattr(trackers, name)(**options)

    def update(
        boxes: np.ndarray, scores: np.ndarray, embeddings: np.ndarray, image: np.ndarray | None, number: int
    ) -> np.ndarray:
        detections = sv.Detections(boxes, confidence=scores.astype(np.float32), class_id=np.zeros(len(boxes), np.int64))
        detections.data["row"] = np.arange(len(boxes))
        tracked = tracker.update(detections, image)
        ids = np.full(len(boxes), -1)
        if len(tracked) and tracked.tracker_id is not None:
            ids[tracked.data["row"]] = tracked.tracker_id
        return ids

    return update


def clip_scores(
    clip: Path, kinds: list[str], strides: list[int], model: Any, options: dict[str, Any]
) -> list[dict[str, Any]]:
    """IDF1, HOTA and ms a frame of every tracker, for each kind of boxes and stride; pictures are read once."""
    fps, _, size, frames = frames_of(clip)
    given = {kind: boxes_of(clip, kind) for kind in kinds if (clip / kind / f"{kind}.txt").exists()}
    with_frames = (clip / "img1").is_dir() or any(clip.glob("*.avi"))
    runs: dict[tuple[str, int, str], tuple[Update, list[tuple[int, np.ndarray, np.ndarray]], list[float]]] = {}
    chosen = options if with_frames and model is not None else {**options, "use_appearance": False}
    for kind in given:
        for stride in strides:
            runs[kind, stride, "ours"] = ours(fps, size, getattr(model, "prior", None), chosen), [], []
            for name, tracker in PEERS.items():
                runs[kind, stride, name] = peer(tracker, with_frames), [], []
    nothing: Boxes = np.zeros((0, 4), np.float32), np.zeros(0)
    for number, image in frames:
        due = [stride for stride in strides if (number - 1) % stride == 0]
        if not due:
            continue
        for kind, by_frame in given.items():
            boxes, scores = by_frame.get(number, nothing)
            embed = model is not None and image is not None
            embeddings = model.embed(image, boxes) if embed else np.ones((len(boxes), 1), np.float32)
            for (of_kind, stride, _), (update, rows, times) in runs.items():
                if of_kind == kind and stride in due:
                    started = time.perf_counter()
                    ids = update(boxes, scores, embeddings, image, number)
                    times.append(time.perf_counter() - started)
                    rows.append((number, ids, boxes))
    truth = read_mot(clip / "gt" / "gt.txt", truth=True)
    table = []
    for (kind, stride, name), (_, rows, times) in runs.items():
        scored = score_sequences({clip.name: (truth.every(stride), tracks_of(rows))}, stride=stride).combined
        entry = {"clip": clip.name, "boxes": kind, "stride": stride, "tracker": name, "ms": 1e3 * float(np.mean(times))}
        table.append({**entry, "idf1": scored.idf1, "hota": scored.hota, "mota": scored.mota})
    return table


def tracks_of(rows: list[tuple[int, np.ndarray, np.ndarray]]) -> MotRows:
    """What was tracked as the evaluation takes it: 1-based left, top, width, height."""
    frames = np.concatenate([np.full(int((ids >= 0).sum()), number) for number, ids, _ in rows])
    ids = np.concatenate([ids[ids >= 0] for _, ids, _ in rows])
    boxes = np.concatenate([boxes[ids >= 0] for _, ids, boxes in rows]).astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    boxes[:, :2] += 1
    return MotRows(frames.astype(np.int64), ids.astype(np.int64), boxes)


def row(cells: dict[str, dict[str, Any]]) -> str:
    """A row of the table; bold is the best, and a cross marks that we are not."""
    first = cells["ours"]
    shown, lost = [], False
    for score in ("idf1", "hota"):
        values = [round(cells[name][score], 3) for name in ("ours", *PEERS)]
        lost |= values[0] < max(values)
        shown += [f"**{value:.3f}**" if value == max(values) else f"{value:.3f}" for value in values]
    head = f"| {first['clip']} | {first['boxes']} | {first['stride']} | {'✗' if lost else ''} | "
    return head + " | ".join(shown) + " |"


def main() -> None:
    """Prints a row a clip, kind of boxes and stride."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, help="folder with mot15/, mot15_gt_only/ and collage_dev/")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these clips alone")
    parser.add_argument("--strides", type=int, nargs="+", default=[1, 10, 20], metavar="N")
    parser.add_argument("--model", default="nano", metavar="NAME", help="default: %(default)s; 'none': motion alone")
    parser.add_argument("--checkpoint", metavar="FILE", help="other weights for the model")
    parser.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE", help="change an option of ours")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write all figures as JSON, too")
    args = parser.parse_args()
    from masa_track.cli.track import parse_options

    model = None if args.model == "none" else masa_track.load(args.model, checkpoint=args.checkpoint)
    places = sorted(
        p.parent.parent for name in ("mot15", "mot15_gt_only") for p in args.clips.glob(f"{name}/*/gt/gt.txt")
    )
    places += [args.clips / "collage_dev"]
    table: list[dict[str, Any]] = []
    heads = " | ".join(f"{score} {name}" for score in ("IDF1", "HOTA") for name in ("ours", *PEERS))
    print(f"| clip | boxes | stride | lost | {heads} |\n|---|---|---|---|{'---|' * 8}")
    for clip in places:
        if args.only and clip.name not in args.only:
            continue
        strides = [1] if clip.name == "collage_dev" else args.strides
        scores = clip_scores(clip, ["gt", "det"], strides, model, parse_options(args.set))
        table += scores
        for start in range(0, len(scores), 1 + len(PEERS)):
            print(row({entry["tracker"]: entry for entry in scores[start : start + 1 + len(PEERS)]}), flush=True)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(table, indent=2) + "\n")


if __name__ == "__main__":
    main()
