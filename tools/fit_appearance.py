#!/usr/bin/env python3
"""Fits what the preset `default` supposes of a model's cosines, from clips with true identities.

For another model, or other weights, run this and put what it prints into `AppearancePrior`
(masa_track/association/evidence/appearance.py), or give it to `FusedAssociator(prior=...)`.

    python tools/fit_appearance.py ../shared/clips/mot15/* ../shared/clips/collage_dev --model nano
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import masa_track
from masa_track.association import FusedOptions
from masa_track.association.evidence.appearance import GAPS
from masa_track.association.evidence.fused import COMMON_TRUST
from masa_track.association.gallery import Gallery, unit
from masa_track.boxes import coverage
from masa_track.evaluation import MotRows
from masa_track.pipeline.tuning import EmbeddedSequence, embed_sequence

_MOST = 500  # pairs of a clip and stride, so that a long clip weighs no more


def cosines(sequence: EmbeddedSequence, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """Gaps and cosines (K, 2) of things and themselves, and cosines (L,) of different things seen at once.

    Galleries are filled by the truth as the tracker would fill them.
    """
    options = FusedOptions()
    gallery = Gallery(options.views, sequence.frames[0][3].shape[1])
    row_of: dict[int, int] = {}
    seen, viewed, total = np.zeros(0), np.zeros(0), np.zeros(gallery.dimension)
    same, different = [np.zeros((0, 2))], [np.zeros(0)]
    for number, boxes, _, embeddings in sequence.frames:
        if (number - 1) % stride or not len(boxes):
            continue
        now, looks, clean = number / sequence.fps, unit(embeddings), coverage(boxes) < options.clean_overlap
        ids = true_ids(sequence.truth, number, boxes)
        rows = np.array([row_of.get(identity, -1) for identity in ids.tolist()])
        known = np.flatnonzero((rows >= 0) & clean)
        if known.size:
            common = (total / (len(row_of) + COMMON_TRUST)).astype(np.float32)
            values = gallery.similarities(looks[known], common)[:, rows[known]]
            same.append(np.stack((now - seen[rows[known]], values.diagonal()), axis=1))
            different.append(values[~np.eye(len(known), dtype=bool)])
            for at in known.tolist():
                row = rows[at : at + 1]
                add = gallery.renew if now - viewed[row[0]] >= options.view_seconds else gallery.replace_newest
                viewed[row] = now if now - viewed[row[0]] >= options.view_seconds else viewed[row]
                add(row, looks[at : at + 1])
        seen[rows[rows >= 0]] = now
        new = np.flatnonzero(rows < 0)
        row_of.update({int(ids[at]): len(row_of) + n for n, at in enumerate(new.tolist())})
        gallery.add(looks[new])
        total += looks[new].sum(axis=0)
        seen, viewed = (np.concatenate((times, np.full(len(new), now))) for times in (seen, viewed))
    return np.concatenate(same), np.concatenate(different)


def true_ids(truth: MotRows, number: int, boxes: np.ndarray) -> np.ndarray:
    """(N,) identities of a frame's true boxes (N, 4) xyxy."""
    here = truth.in_frame(number)
    corners = truth.boxes[here][:, :2] - 1
    distances = np.abs(boxes[:, None, :2] - corners).sum(axis=2)
    sizes = np.abs((boxes[:, None, 2:] - boxes[:, None, :2]) - truth.boxes[here][:, 2:]).sum(axis=2)
    return np.asarray(truth.ids[here][(distances + sizes).argmin(axis=1)])


def main() -> None:
    """Prints an `AppearancePrior`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, nargs="+", help="MOTChallenge folders with frames and gt/gt.txt")
    parser.add_argument("--model", default="nano", metavar="NAME", help="default: %(default)s")
    parser.add_argument("--checkpoint", metavar="FILE", help="other weights for the model")
    parser.add_argument("--strides", type=int, nargs="+", default=[1, 4, 10, 20], metavar="N")
    args = parser.parse_args()
    model = masa_track.load(args.model, checkpoint=args.checkpoint)
    same, different = [], []
    for clip in args.clips:
        sequence = embed_sequence(clip, "gt", model)
        for stride in args.strides:
            own, others = cosines(sequence, stride)
            same.append(own[:: max(1, len(own) // _MOST)])
            different.append(others[:: max(1, len(others) // _MOST)])
            averages = f"same {own[:, 1].mean():.2f}, different {others.mean():.2f}"
            print(f"# {clip.name}, stride {stride}: {averages}", flush=True)
    pairs, others = np.concatenate(same), np.concatenate(different)
    mean, std = others.mean(), others.std()
    at = np.abs(np.log1p(10 * pairs[:, :1]) - np.log1p(10 * GAPS)).argmin(axis=1)
    print(f"AppearancePrior(\n    different=({mean:.2f}, {std:.2f}),\n    same=(")
    for gap in range(len(GAPS)):
        values = pairs[at == gap, 1]
        shown = f"({values.mean() - mean:.2f}, {values.std():.2f})," if len(values) > 1 else "None,"
        print(f"        {shown}  # after {GAPS[gap]:g} s, {len(values)} pairs")
    print("    ),\n)")


if __name__ == "__main__":
    main()
