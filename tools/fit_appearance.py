#!/usr/bin/env python3
"""Fits a prior of a model's cosines for the preset `default`, on clips with true identities.

Without a prior the tracker learns the distributions of cosines from each video. Pass the json file that this script
writes to `masa-track track --prior FILE` or `MasaTracker(prior=FILE)`. A file NAME.prior.json beside the weights
NAME.safetensors or NAME.pth is loaded with them.

    python tools/fit_appearance.py ../shared/clips/mot15/* ../shared/clips/collage_dev --model r50 --out r50.prior.json
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import masa_track
from masa_track.association import AppearancePrior, FusedOptions
from masa_track.association.evidence.appearance import GAPS, nearest_gap
from masa_track.association.evidence.state import COMMON_TRUST
from masa_track.association.gallery import Gallery, unit
from masa_track.boxes import coverage
from masa_track.errors import InputError
from masa_track.evaluation import MotRows
from masa_track.pipeline.tuning import EmbeddedSequence, embed_sequence

_MOST = 500  # pairs of a clip and stride, so that a long clip weighs no more


def cosines(sequence: EmbeddedSequence, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """Gaps (seconds) and cosines of objects with themselves (K, 2), and cosines (L,) of different objects of a frame.

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


def fitted_prior(
    sequences: list[EmbeddedSequence], strides: list[int], model: str | None, dimension: int
) -> AppearancePrior:
    """The prior of a model's cosines on sequences with true boxes; a gap that none shows is as the nearest shown one.

    Raises:
        InputError: no two objects are seen at once, or no object is seen twice.
    """
    same, different = [], []
    for sequence in sequences:
        for stride in strides:
            own, others = cosines(sequence, stride)
            same.append(own[:: max(1, len(own) // _MOST)])
            different.append(others[:: max(1, len(others) // _MOST)])
    pairs, others = np.concatenate(same), np.concatenate(different)
    if not len(others) or not len(pairs):
        raise InputError(
            f"clips must show several objects at once and each of them again, got {len(others)} cosines of different "
            f"objects and {len(pairs)} of the same: give longer clips"
        )
    mean = float(others.mean())
    at = nearest_gap(pairs[:, 0])
    shown = np.unique(at)
    stays = [pairs[at == shown[np.abs(shown - gap).argmin()], 1] for gap in range(len(GAPS))]
    return AppearancePrior(
        different=(round(mean, 3), round(max(float(others.std()), 0.01), 3)),
        same=tuple((round(float(v.mean()) - mean, 3), round(max(float(v.std()), 0.01), 3)) for v in stays),
        model=model,
        dimension=dimension,
    )


def main() -> None:
    """Writes the json file of an `AppearancePrior`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, nargs="+", help="MOTChallenge folders with frames and gt/gt.txt")
    parser.add_argument("--model", default="nano", metavar="NAME", help="default: %(default)s")
    parser.add_argument("--checkpoint", metavar="FILE", help="other weights for the model")
    parser.add_argument("--strides", type=int, nargs="+", default=[1, 4, 10, 20], metavar="N")
    parser.add_argument("--out", type=Path, default=Path("prior.json"), metavar="FILE", help="default: %(default)s")
    args = parser.parse_args()
    model = masa_track.load(args.model, checkpoint=args.checkpoint)
    sequences = [embed_sequence(clip, "gt", model) for clip in args.clips]
    prior = fitted_prior(sequences, args.strides, model.name, model.dimension)
    prior.save(args.out)
    print(f"{args.out}: {prior}")


if __name__ == "__main__":
    main()
