#!/usr/bin/env python3
"""Compares models by the identities they give to true boxes, by appearance alone, and prints a table.

Each cell is IDF1 by `masa-track track --preset appearance --detections gt.txt` and `masa-track eval`. The mean is over
the three MOT15 clips at strides 10 and 20; collage_dev is tracked at every frame.

    python tools/score_models.py ../shared/clips nano centred=nano:runs/nano/centred.safetensors
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from masa_track.cli.main import main as masa_track

CELLS = [(f"mot15/{clip}", stride) for clip in ("TUD-Campus", "PETS09-S2L1", "PETS09-S3-MF1") for stride in (10, 20)]
COLLAGE = ("collage_dev", 1)


def idf1(clip: Path, stride: int, folder: Path, options: list[str]) -> float:
    """IDF1 of one run in percent of one; a run that is already in ``folder`` is not done again."""
    scores = folder / "scores.json"
    if not scores.exists():
        video = next(iter(clip.glob("*.avi")), clip)
        every = ["--stride", str(stride)]
        track = ["track", str(video), "--detections", str(clip / "gt" / "gt.txt"), "--preset", "appearance"]
        status = masa_track([*track, *every, "--no-video", "--out", str(folder), *options])
        status = status or masa_track(["eval", str(clip), str(folder), *every, "--json", str(scores)])
        if status:
            sys.exit(status)
    return float(json.loads(scores.read_text())["combined"]["idf1"])


def main() -> None:
    """Prints a Markdown table, a row a model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, help="folder with mot15/ and collage_dev/")
    parser.add_argument("models", nargs="+", help="MODEL, or LABEL=MODEL, or LABEL=MODEL:CHECKPOINT")
    parser.add_argument("--out", type=Path, default=Path("runs/models"), help="default: %(default)s")
    args, options = parser.parse_known_args()  # what is not known here goes to `masa-track track`
    rows = []
    for given in args.models:
        label, _, model = given.rpartition("=")
        name, _, checkpoint = model.partition(":")
        label = label or name
        chosen = ["--model", name, *(["--checkpoint", checkpoint] if checkpoint else []), *options]
        values = [
            idf1(args.clips / clip, stride, args.out / label / f"{Path(clip).name}-{stride}", chosen)
            for clip, stride in [*CELLS, COLLAGE]
        ]
        mean = sum(values[: len(CELLS)]) / len(CELLS)
        cells = " | ".join(f"{value:.2f}" for value in values[:-1])
        rows.append(f"| {label} | **{mean:.3f}** | **{values[-1]:.3f}** | {cells} |")
    heads = " | ".join(f"{Path(clip).name} {stride}" for clip, stride in CELLS)
    print(f"\n| model | mean | collage_dev | {heads} |\n|---|---|---|{'---|' * len(CELLS)}")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
