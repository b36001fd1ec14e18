"""The proof of masklets: J&F of semi-supervised segmentation of a data set, by the given masks of first frames."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from tqdm import tqdm

from masa_track.errors import InputError
from masa_track.evaluation.davis import MaskEvaluation, evaluate_masks
from masa_track.evaluation.proofs import COMBINED, Loaded, Results
from masa_track.formats.davis import VosSequence, find_sequences
from masa_track.masklets.models import find_model
from masa_track.pipeline.vos import open_clip, segment_clip


def load(name: str, checkpoint: str | Path | None, device: str | None, settings: Mapping[str, Any]) -> Loaded:
    """A network of masklets with its published weights, or those of a file or folder.

    Args:
        name: of the model.
        checkpoint: None: downloaded, unless it is there.
        device: None takes a GPU if there is one.
        settings: ``side``, pixels of the network's input; as published if it is left out.

    Raises:
        InputError: the checkpoint is not of this model.
    """
    from masa_track.masklets.weights import load_network

    network = load_network(name, checkpoint, device, side=settings.get("side"))
    model = find_model(name)
    assert model is not None  # otherwise load_network has raised
    file = cast(Path, model.files[0].local()) if checkpoint is None else Path(checkpoint)
    if file.is_dir():
        file = file / "model.safetensors"
    return Loaded(network, network.device, file, f"https://huggingface.co/{model.files[0].repository}")


def check(data: Path, names: Sequence[str], settings: Mapping[str, Any]) -> None:
    """Raises InputError unless all sequences are there, with pictures and masks, as ``settings["layout"]`` says."""
    for sequence in _sequences(data, names, settings):
        open_clip(sequence, settings["layout"])


def run(network: Any, data: Path, names: Sequence[str], settings: Mapping[str, Any]) -> Results:
    """Segments sequences from the masks of their first frames, and scores the masks of the others.

    Args:
        network: SAM 2 or EdgeTAM.
        data: the data set.
        names: of the sequences; none: all, which must be ``settings["sequences"]``.
        settings: ``layout`` of the data, and ``overlap``: whether masks of objects may overlap.

    Returns:
        ``jf``, ``j`` and ``f``, 0..1, of each sequence, and of all as
        :data:`~masa_track.evaluation.proofs.COMBINED`: means over objects.

    Raises:
        InputError: a picture cannot be read.
    """
    from masa_track.masklets.session import MaskletSession, SessionOptions

    sequences = _sequences(data, names, settings)
    clips = [open_clip(sequence, settings["layout"]) for sequence in sequences]
    session = MaskletSession(network, SessionOptions(overlap=bool(settings.get("overlap", False))))
    with tempfile.TemporaryDirectory() as folder, tqdm(total=sum(len(c.names) for c in clips), unit="frame") as bar:
        for clip in clips:
            bar.set_description(clip.sequence.name)
            segment_clip(clip, session, Path(folder), lambda: False, bar.update)
        scores = evaluate_masks(sequences[0].masks.parent, folder, [one.name for one in sequences])
    every = {one.name: _measures(scores, one.name) for one in sequences}
    return {**every, COMBINED: _measures(scores, None)}


def _measures(scores: MaskEvaluation, name: str | None) -> dict[str, float]:
    return {"jf": scores.jf(name), **{m: float(scores.statistics(m, name)[0]) for m in ("j", "f")}}


def _sequences(data: Path, names: Sequence[str], settings: Mapping[str, Any]) -> list[VosSequence]:
    found = find_sequences(data, settings["layout"], list(names))
    if not names and len(found) != settings.get("sequences", len(found)):
        raise InputError(
            f"--data {data} must have {settings['sequences']} sequences, got {len(found)}: give the whole set"
        )
    return found
