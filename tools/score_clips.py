#!/usr/bin/env python3
"""Tracks the MOT15 clips at several strides and prints the README's table.

Each cell is one `masa-track track` and one `masa-track eval`, with the same settings for all of them. `gt` takes the
true boxes as detections (identities alone are in question), `det` the public detections; `nanodet` and `own` are the
detectors of that name. Options that are not known here go to `masa-track track`.

    python tools/score_clips.py ../shared/clips/mot15 --out runs/clips
    python tools/score_clips.py ../shared/clips/mot15 --boxes det own nanodet --strides 1 --out runs/detectors
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from masa_track.cli.main import main as masa_track

COLUMNS = ("idf1", "hota", "ass_a", "mota", "switches")
DETECTORS = ("own", "nanodet")
HEADS = ("IDF1", "HOTA", "AssA", "MOTA", "IDSW")


def score(clip: Path, boxes: str, stride: int, out: Path, options: list[str]) -> dict[str, float]:
    """Scores of one run; a run that is already in ``out`` is not done again."""
    folder = out / f"{clip.name}-{boxes}-{stride}"
    scores = folder / "scores.json"
    if not scores.exists():
        video = next(iter([*clip.glob("*.avi"), *clip.glob("*.mp4")]), clip)
        every = ["--stride", str(stride)]
        given = ["--detector", boxes] if boxes in DETECTORS else ["--detections", str(clip / boxes / f"{boxes}.txt")]
        people = ["--classes", "people"] if boxes == "nanodet" else []  # the truth has no others
        arguments = [*given, *people, *every, "--out", str(folder), *options]
        status = masa_track(["track", str(video), *arguments])
        status = status or masa_track(["eval", str(clip), str(folder), *every, "--json", str(scores)])
        if status:
            sys.exit(status)
    return dict(json.loads(scores.read_text())["combined"])


def main() -> None:
    """Prints a Markdown table, a row a clip, stride and kind of boxes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, help="folder of sequences, each with gt/gt.txt, det/det.txt and frames")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these sequences (default: all)")
    parser.add_argument("--out", type=Path, default=Path("runs/clips"), help="default: %(default)s")
    parser.add_argument("--strides", type=int, nargs="+", default=[1, 10, 20], metavar="N")
    parser.add_argument("--boxes", nargs="+", default=["gt", "det"], choices=["gt", "det", *DETECTORS])
    args, options = parser.parse_known_args()  # what is not known here goes to `masa-track track`
    clips = sorted(p.parent.parent for p in args.clips.glob("*/gt/gt.txt"))
    clips = [clip for clip in clips if args.only is None or clip.name in args.only]
    if not clips:
        parser.error(f"no sequence (NAME/gt/gt.txt) in {args.clips}")
    rows = []
    for boxes in args.boxes:
        for clip in clips:
            for stride in args.strides:
                scores = score(clip, boxes, stride, args.out, ["--no-video", *options])
                cells = [f"{scores[c]:.3f}" if c != "switches" else f"{scores[c]:.0f}" for c in COLUMNS]
                rows.append(f"| {clip.name} | {boxes} | {stride} | {' | '.join(cells)} |")
    print(f"\n| clip | boxes | stride | {' | '.join(HEADS)} |\n|---|---|---|{'---|' * len(HEADS)}")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
