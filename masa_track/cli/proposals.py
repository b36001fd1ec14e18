"""`masa-track proposals`: class-agnostic regions with masks of photographs, for training."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from masa_track.cli.arguments import path, path_text
from masa_track.cli.counts import check_counts
from masa_track.errors import InputError
from masa_track.registry import check_installed

_DESCRIPTION = """\
Finds class-agnostic regions in photographs and writes them with their masks as COCO json, for
training. The regions are SAM's automatic masks (--sam), or merged superpixels (--method superpixels),
which need no weights and are far less accurate."""

_EPILOG = """\
IMAGES is a folder (with its subfolders), a glob pattern, or a text file with one path a line.
FILE is COCO json of one category, "object"; each annotation has a segmentation (RLE), bbox and area,
and SAM's predicted_iou and stability_score, or the score of superpixels.

examples:
  masa-track proposals photos/ --sam sam_vit_h_4b8939.pth --out regions.json
  masa-track proposals photos/ --sam sam_vit_b_01ec64.pth --device cpu --workers 4 --out regions.json
  masa-track proposals "photos/**/*.jpg" --method superpixels --workers 2 --out regions.json

Finished images are kept in FILE.journal, one a line. After Ctrl-C or a kill, the same command continues
from there; if images were added, it processes only those. An image that cannot be read is reported, left
out, and tried again after it has changed. When FILE exists, the journal may be removed. Several workers
are faster on a CPU with many cores or a large GPU: each loads its own SAM."""


def add_parser(commands: Any) -> None:
    """Adds ``proposals`` to the command's parser.

    Args:
        commands: what ``ArgumentParser.add_subparsers`` gave.
    """
    parser = commands.add_parser(
        "proposals",
        help="find class-agnostic regions in photographs, for training",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("images", type=path_text, metavar="IMAGES", help="folder, glob pattern or text file of paths")
    add("--out", required=True, type=path, metavar="FILE", help="the COCO json to write")
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument(
        "--sam", type=path, metavar="CHECKPOINT", help="use SAM with this checkpoint of segment-anything, of any size"
    )
    how.add_argument("--method", choices=("superpixels",), help="use merged superpixels, without weights")
    add("--workers", type=int, default=1, metavar="N", help="number of processes (default: %(default)s)")
    add("--max-images", type=int, metavar="N", help="use only the first N images")
    add(
        "--max-regions",
        type=int,
        metavar="N",
        help="keep the best N regions of an image (default: all; 100 for superpixels)",
    )
    add("--points-per-side", type=int, metavar="N", help="prompt SAM at a grid of N x N points (default: 32)")
    add(
        "--least-iou",
        type=float,
        metavar="X",
        help="keep masks whose predicted IoU is at least X, 0..1 (default: 0.88)",
    )
    add(
        "--least-stability",
        type=float,
        metavar="X",
        help="keep masks whose stability score is at least X, 0..1 (default: 0.95)",
    )
    add("--device", metavar="NAME", help="for SAM: cpu, cuda, cuda:1, ... (default: a GPU if there is one)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs ``proposals``. Returns 0; 1 if no image could be read, 130 after Ctrl-C.

    Raises:
        InputError: see :func:`masa_track.training.proposals.make_proposals`.
    """
    if args.sam is not None:
        check_installed("sam", purpose="for --sam")
    from masa_track.files import check_overwriting
    from masa_track.training.image_list import list_images
    from masa_track.training.proposals import ProposalSettings, journal_path, make_proposals

    check_counts(args, "workers", "max_images", "max_regions", "points_per_side")
    names = ("points_per_side", "least_iou", "least_stability", "device")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if args.sam is None and given:
        raise InputError(
            f"--{next(iter(given)).replace('_', '-')} is for --sam; superpixels have no such option: leave it out"
        )
    settings = ProposalSettings(args.sam, max_regions=args.max_regions, **given)
    images = list_images(args.images, args.max_images)
    read = [("IMAGES", Path(args.images)), *(("IMAGES", images.root / name) for name in images.names)]
    if args.sam is not None:
        read.append(("--sam", args.sam))
    check_overwriting([("--out", args.out), ("--out", journal_path(args.out))], read)
    outcome = make_proposals(images, settings, args.out, args.workers)
    if outcome.faults:
        shown = ", ".join(list(outcome.faults)[:5]) + (", ..." if len(outcome.faults) > 5 else "")
        print(f"left out  {len(outcome.faults)} images that could not be read: {shown}")
    if outcome.left:
        done, total = len(images.names) - outcome.left, len(images.names)
        print(f"stopped   {done:,} of {total:,} images are in {journal_path(args.out)}: the same command goes on there")
        return 130
    if not outcome.images:
        print("no image could be read: nothing was written")
        return 1
    print(f"{outcome.images:,} images, {outcome.regions:,} regions, {outcome.regions / outcome.images:.1f} an image")
    print(f"results   {args.out}")
    return 0
