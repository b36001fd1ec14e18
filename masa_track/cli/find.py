"""`masa-track find`: ranks the things and parts of a run by how well a text describes them."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from masa_track.cli.arguments import add_device, path, path_text
from masa_track.cli.counts import check_counts
from masa_track.errors import InputError

MODEL = "openai/clip-vit-base-patch32"

_DESCRIPTION = """\
Ranks the identities of a run, parts included, by how well a text describes them. The measure is the cosine
similarity between the embedding of the text and those of crops of each identity, from CLIP or SigLIP of
transformers. At the first call, up to three crops of each identity are cut from the video. Their embeddings are
stored in RUN/crops.npz for later calls."""

_EPILOG = """\
examples:
  masa-track find runs/street "a red shoe"
  masa-track find runs/street "a man with a hat" --model google/siglip2-base-patch16-224 --top 5 --json found.json

A cosine similarity is not a probability: compare identities for one text, not texts.
Exit status: 0; 2 for bad input."""


def add_parser(commands: Any) -> None:
    """Adds ``find`` to the command's subparsers."""
    parser = commands.add_parser(
        "find",
        help="rank the objects of a run by a text",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("run_folder", type=path, metavar="RUN", help="a folder made by `masa-track track`")
    add("text", metavar="TEXT", help='what to look for, e.g. "a red shoe"')
    add("--model", default=MODEL, metavar="NAME", help="CLIP, SigLIP or SigLIP 2: a folder, or on the Hugging Face Hub "
        "(default: %(default)s)")  # fmt: skip
    add("--video", type=path_text, metavar="SOURCE", help="the video of the run, if it was moved")
    add("--top", type=int, default=10, metavar="N", help="number of identities to print (default: %(default)s)")
    add("--json", type=path_text, metavar="FILE", help="also write the ranking of all identities to FILE")
    add_device(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Ranks, prints and writes. Returns 0.

    Raises:
        InputError: the run, its video or the model cannot be used.
        OSError: FILE cannot be written.
    """
    from masa_track.evaluation.table import aligned
    from masa_track.files import check_file, check_overwriting, write_text
    from masa_track.formats.run import read_run
    from masa_track.parts.models import ClipNames
    from masa_track.parts.retrieval import rank

    check_counts(args, "top")
    if not args.text.strip():
        raise InputError('TEXT must describe something, e.g. "a red shoe", got none')
    if not args.run_folder.is_dir():
        raise InputError(f"RUN must be a folder made by `masa-track track`, got {args.run_folder}")
    tracks = read_run(args.run_folder)
    if args.json is not None:
        check_file(args.json, "--json")
        check_overwriting([("--json", args.json)], [("RUN", tracks.path)])
    model = ClipNames(args.model, args.device, "--model")
    places, embeddings = _crops(args, tracks, model)
    found = rank(tracks, places, embeddings, model.text([args.text.strip()])[0])
    parents = tracks.parent_ids
    rows = [["rank", "similarity", "id", "class", "part_of", "frame", "time", "box"]]
    entries = []
    for number, one in enumerate(found, 1):
        frame = int(tracks.frames[tracks.rows[one.place]])
        seconds, parent = float(tracks.times[tracks.rows[one.place]]), int(parents[one.place])
        name = tracks.class_name(int(tracks.classes[one.place]))
        box = [round(side, 1) for side in tracks.boxes[one.place].tolist()]
        entries.append(
            {"id": one.identity, "similarity": round(one.similarity, 4), "class": name, "frame": frame,
             "time": round(seconds, 3), "box": box, **({"parent_id": parent} if parent >= 0 else {})}
        )  # fmt: skip
        sides = ",".join(f"{side:.0f}" for side in box)
        of = str(parent) if parent >= 0 else "-"
        cells = [str(number), f"{one.similarity:.3f}", str(one.identity), "_".join(name.split()), of, str(frame)]
        rows.append([*cells, f"{seconds:.2f}", sides])
    print("\n".join(aligned(rows[: args.top + 1])))
    if len(found) < len(set(tracks.ids.tolist())):
        print("identities whose boxes are all smaller than 8 pixels are left out", file=sys.stderr)
    if args.json is not None:
        write_text(args.json, json.dumps({"text": args.text, "model": args.model, "found": entries}, indent=1) + "\n")
    return 0


def _crops(args: argparse.Namespace, tracks: Any, model: Any) -> tuple[Any, Any]:
    """Places and embeddings of crops: those that are kept, or of the video."""
    from masa_track.parts.retrieval import best_places, crop_embeddings, save_crops, stored_crops
    from masa_track.video.sources import open_source

    stored = stored_crops(args.run_folder, tracks, args.model)
    if stored is not None:
        return stored
    places = best_places(tracks)
    embeddings = crop_embeddings(tracks, open_source(_video_of(args)), places, model)
    try:
        save_crops(args.run_folder, tracks, args.model, places, embeddings)
    except OSError as error:
        print(f"the embeddings are not kept for the next text: {error.strerror or error}", file=sys.stderr)
    return places, embeddings


def _video_of(args: argparse.Namespace) -> str:
    """The video of the run: as given, or as its record says.

    Raises:
        InputError: it is not known, or not there.
    """
    from masa_track.runs.reading import records_of
    from masa_track.runs.store import open_store

    if args.video is not None:
        return str(args.video)
    records = records_of(args.run_folder)
    source = ""
    if records:
        with open_store(records[0]) as store:
            source = store.info.source
    if not source or "://" in source or not Path(source).exists():
        raise InputError(f"the run's video is not there ({source or 'it is not known'}): name it with --video")
    return source
