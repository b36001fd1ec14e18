"""Options and work of `masa-track refer VIDEO "..." --model FILE --out DIR`, for cli/refer.py."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from masa_track.cli.arguments import path
from masa_track.errors import InputError


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of sentences about a video."""
    group = parser.add_argument_group("a video and MTTR, without tracks")
    add = group.add_argument
    add("--model", type=path, metavar="FILE", help="weights of MTTR: an official checkpoint or .safetensors")
    add("--out", type=path, metavar="DIR", help="folder for answers.json and a mask of each frame")
    add(
        "--tokenizer",
        type=path,
        metavar="FILE",
        help="tokenizer.json of roberta-base, or its folder (default: beside the weights)",
    )
    add("--window", type=int, metavar="N", help="frames of a window (default: as the weights say, else 12)")
    add("--stride", type=int, default=1, metavar="N", help="take every N-th frame (default: %(default)s)")
    add(
        "--appearance",
        metavar="NAME",
        default="nano",
        help="embeddings that tell an object that returns, or none (default: %(default)s)",
    )


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
) -> list[dict[str, object]]:
    """Writes the answers to sentences about a video, and the masks of the objects that are meant.

    Args:
        source: as of :func:`~masa_track.video.sources.open_source`.
        sentences: at least one.
        model, out, tokenizer, window, stride, appearance: see the options.
        threshold: mean score from which an object is an answer.
        device: e.g. ``cpu``; None takes a GPU if there is one.

    Returns:
        For each sentence ``sentence``, ``answer`` (identity of the object, or None), ``score``, ``margin``, ``used``.

    Raises:
        InputError: the video, the weights or a sentence cannot be used; before any work.
    """
    from masa_track.refer.film import run_film

    if stride < 1:
        raise InputError(f"--stride must be 1 or more, got {stride}")
    return run_film(source, sentences, model, out, tokenizer, window, stride, appearance, threshold, device)
