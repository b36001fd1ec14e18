"""Options of `masa-track refer VIDEO "..." --model FILE --out DIR`, for cli/refer.py."""

from __future__ import annotations

import argparse

from masa_track.cli.arguments import path


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
        help="tokenizer.json of roberta-base, or its folder (default: the folder of the weights)",
    )
    add("--window", type=int, metavar="N", help="frames of a window (default: that of the weights, otherwise 12)")
    add("--stride", type=int, default=1, metavar="N", help="take every N-th frame (default: %(default)s)")
    add(
        "--appearance",
        metavar="NAME",
        default="nano",
        help="model whose embeddings recognise an object that returns, or none (default: %(default)s)",
    )
