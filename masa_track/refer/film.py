"""A video, weights and sentences to a folder: answers.json, and a mask of each frame for each sentence."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from masa_track.encoders.loading import load
from masa_track.errors import InputError
from masa_track.files import locked_folder, prepare_folder, write_text
from masa_track.formats.davis import write_index_picture
from masa_track.masks import decode_mask, encode_mask, mask_api
from masa_track.refer.referrer import FilmReferrer, ObjectMask
from masa_track.refer.resizing import DEFAULT_SIDES, SIDES
from masa_track.refer.tokens import Encode, clean_sentence, load_tokenizer, synthetic_encode
from masa_track.refer.weights import MttrWeights, load_weights
from masa_track.refer.windows import WindowOptions, cosine_threshold
from masa_track.video.sources import open_source

ANSWERS = "answers.json"
DEFAULT_WINDOW = 12
MTTR = "mttr"


def open_encode(loaded: MttrWeights, tokenizer: Path | None) -> Encode:
    """The tokenizer of some weights.

    Args:
        loaded: the weights; those of synthetic data need no files.
        tokenizer: its file or folder; None: beside the weights.

    Raises:
        InputError: there is none.
    """
    if loaded.trained_on == "synthetic":
        return synthetic_encode
    return load_tokenizer(loaded.path.parent if tokenizer is None else tokenizer)


def refer_video(
    source: str,
    sentences: Sequence[str],
    model: Path,
    out: Path,
    tokenizer: Path | None = None,
    window: int | None = None,
    stride: int = 1,
    appearance: str = "nano",
    threshold: float = 0.3,
    device: str | None = None,
) -> list[dict[str, Any]]:
    """Writes the answers to sentences about a video, and the masks of the objects that are meant.

    ``DIR/N/000001.png`` is the mask of sentence N in a frame (index 1 on the object). Masks of all objects that may
    be meant are kept in a temporary file until the answer is known, so that the memory stays flat.

    Args:
        source: as of :func:`~masa_track.video.sources.open_source`.
        sentences: at least one.
        model, out, tokenizer, window, stride, appearance: see the options of ``masa-track refer``.
        threshold: mean score from which an object is an answer.
        device: e.g. ``cpu``; None takes a GPU if there is one.

    Returns:
        For each sentence ``sentence``, ``answer`` (identity of the object, or None), ``score``, ``margin``, ``used``.

    Raises:
        InputError: the video, the weights or a sentence cannot be used; before any work.
    """
    if stride < 1:
        raise InputError(f"--stride must be 1 or more, got {stride}")
    for sentence in sentences:
        clean_sentence(sentence)
    mask_api("refer")
    film = open_source(source)
    loaded = load_weights(model)
    frames = window or loaded.window or DEFAULT_WINDOW
    embedder = None if appearance == "none" else load(appearance, device=device)
    prior = getattr(embedder, "prior", None)
    options = WindowOptions(frames, frames // 2)
    if prior is not None:
        same = (prior.different[0] + prior.same[-1][0], prior.same[-1][1])
        options = WindowOptions(frames, frames // 2, appearance_threshold=cosine_threshold(prior.different, same))
    referrer = FilmReferrer(
        loaded.network,
        open_encode(loaded, tokenizer),
        sentences,
        options,
        embedder,
        SIDES.get(loaded.trained_on, DEFAULT_SIDES),
        threshold,
        device,
    )
    folder = prepare_folder(out)
    with locked_folder(folder), tempfile.TemporaryFile("w+", dir=folder) as spool:
        names: list[str] = []
        for frame in film.frames(stride=stride):
            names.append(f"{frame.number:06d}")
            for found in referrer.add(frame.picture):
                _keep(spool, found)
        for found in referrer.finish():
            _keep(spool, found)
        answers = referrer.answers()
        spool.seek(0)
        for line in spool:
            number, sentence, chain, rle = json.loads(line)
            if answers[sentence].chain == chain:
                place = folder / str(sentence + 1)
                place.mkdir(exist_ok=True)
                rle["counts"] = rle["counts"].encode("ascii")
                write_index_picture(place / f"{names[number]}.png", decode_mask(rle).astype(np.uint8))
        written = [
            {"sentence": a.sentence, "answer": a.chain, "score": a.score, "margin": a.margin, "used": MTTR}
            for a in answers
        ]
        write_text(folder / ANSWERS, json.dumps(written, indent=2) + "\n")
    return written


def _keep(spool: Any, found: ObjectMask) -> None:
    spool.write(json.dumps([found.frame, found.sentence, found.chain, encode_mask(found.mask)]) + "\n")
