"""What `masa-track verify mttr-a2d` runs: the published scores on the test split of A2D-Sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from masa_track.errors import InputError
from masa_track.evaluation.proofs import COMBINED, Results
from masa_track.evaluation.refer import ReferEvaluation, mask_sample
from masa_track.refer.annotated import A2dSentences
from masa_track.refer.data import normalised
from masa_track.refer.film import open_encode
from masa_track.refer.resizing import all_objects
from masa_track.refer.tokens import token_rows
from masa_track.refer.weights import MttrWeights

MEASURES = ("precision@0.5", "precision@0.6", "precision@0.7", "precision@0.8", "precision@0.9")


def check(data: Path, items: Sequence[str], settings: Mapping[str, Any]) -> None:
    """Raises InputError unless the folder holds the test split of A2D-Sentences."""
    A2dSentences(data, "test", int(settings["window"]), flip=0.0)


@torch.inference_mode()
def run(loaded: MttrWeights, data: Path, items: Sequence[str], settings: Mapping[str, Any]) -> Results:
    """The scores of all sentences, each clip alone and unpadded.

    Args:
        loaded: weights trained on A2D-Sentences, on their device.
        data: the folder of A2D-Sentences.
        items: not used; all sentences are one item.
        settings: ``window``, the frames of a clip.

    Raises:
        InputError: the weights say that they were trained on something else, or the data are not complete.
    """
    if loaded.trained_on not in ("", "a2d"):
        raise InputError(f"{loaded.path} was trained on {loaded.trained_on!r}: give a checkpoint of A2D-Sentences")
    network, device = loaded.network, next(loaded.network.parameters()).device
    encode = open_encode(loaded, None)
    clips = A2dSentences(data, "test", int(settings["window"]), flip=0.0)
    samples = []
    for sample in clips.samples:
        item = clips.clip(sample)
        ids = token_rows(item.sentences, encode, network.settings.text.positions).to(device)
        output = network(normalised(item.video.to(device))[None], ids, frames=item.frames)
        truth = clips.truth(sample)
        size = (item.video.shape[2], item.video.shape[3])
        ((scores, masks),) = all_objects(output, size, [size], [(truth.shape[0], truth.shape[1])])
        samples.append(mask_sample(truth, list(masks.cpu().numpy()), scores.tolist(), sample.sentence))
    found = ReferEvaluation(samples).as_dict()
    return {COMBINED: {name: float(found[name]) for name in (*MEASURES, "overall_iou", "mean_iou", "map")}}
