#!/usr/bin/env python3
"""Writes pairs of training views as pictures, to be checked before a long training.

The same instance has the same colour and number in both views; what is in one view only is grey. One jpg a pair, and
index.html with all of them.

    python tools/browse_views.py ../shared/photos/regions.json ../shared/photos/images --out views
"""

from __future__ import annotations

import argparse
import html
import sys
from pathlib import Path

import cv2
import numpy as np
import supervision as sv

from masa_track.drawing.colours import TRACK_COLORS
from masa_track.errors import InputError
from masa_track.files import prepare_folder, write_text
from masa_track.training.dataset import TwoViews
from masa_track.training.mixing import View
from masa_track.training.settings import PRESETS

GAP = 8  # pixels between the views


def drawn(view: View, shared: set[int]) -> np.ndarray:
    """The view, (H, W, 3) uint8 BGR, with masks, boxes and ids of its instances."""
    picture = view.image.copy()
    by_track = sv.ColorLookup.TRACK
    alone = [i for i in view.instances if i.id not in shared]
    both = [i for i in view.instances if i.id in shared]
    for instances, palette in (
        (alone, sv.ColorPalette.from_hex(["#909090"])),
        (both, sv.ColorPalette.from_hex(list(TRACK_COLORS))),
    ):
        if not instances:
            continue
        masks = np.zeros((len(instances), *picture.shape[:2]), bool)
        for mask, i in zip(masks, instances, strict=True):
            h, w = i.mask.shape
            mask[i.y : i.y + h, i.x : i.x + w] = i.mask > 0
        detections = sv.Detections(
            xyxy=sv.mask_to_xyxy(masks).astype(np.float32),
            mask=masks,
            tracker_id=np.array([i.id for i in instances]),
        )
        labels = [str(i.id) for i in instances]
        picture = sv.PolygonAnnotator(palette, thickness=2, color_lookup=by_track).annotate(picture, detections)
        picture = sv.BoxAnnotator(palette, thickness=1, color_lookup=by_track).annotate(picture, detections)
        picture = sv.LabelAnnotator(palette, text_scale=0.4, text_padding=2, color_lookup=by_track).annotate(
            picture, detections, labels
        )
    return picture


def pair(views: list[View]) -> tuple[np.ndarray, int]:
    """Both views side by side, and how many instances they share."""
    first, second = ({instance.id for instance in view.instances} for view in views)
    left, right = (drawn(view, first & second) for view in views)
    gap = np.full((left.shape[0], GAP, 3), 255, np.uint8)
    return np.hstack((left, gap, right)), len(first & second)


def browse(args: argparse.Namespace) -> None:
    """Writes the pictures and the page."""
    regions = None if args.regions == "none" else args.regions
    data = TwoViews(
        regions, args.images, (args.size, args.size), args.settings, args.seed, random_boxes=args.random_boxes
    )
    data.set_epoch(args.epoch)
    folder = prepare_folder(args.out)
    figures = []
    for index in np.linspace(0, len(data) - 1, min(args.count, len(data))).astype(int).tolist():
        picture, shared = pair(data.views(index))
        name = f"{index:06d}.jpg"
        cv2.imwrite(str(folder / name), picture, [cv2.IMWRITE_JPEG_QUALITY, 90])
        caption = html.escape(f"{data.images[index].file_name}: {shared} in both views")
        figures.append(f'<figure><img src="{name}" loading="lazy"><figcaption>{caption}</figcaption></figure>')
    style = "body{font:14px sans-serif} figure{display:inline-block;margin:8px;width:46%} img{width:100%}"
    title = html.escape(f"{len(figures)} of {len(data)} pairs, {args.settings}, seed {args.seed}, epoch {args.epoch}")
    write_text(
        folder / "index.html",
        f'<!doctype html><meta charset="utf-8"><title>{title}</title><style>{style}</style><h1>{title}</h1>\n'
        + "\n".join(figures)
        + "\n",
    )
    print(f"{folder / 'index.html'}: {title}")


def main() -> None:
    """Parses the command line; a mistake of the caller's ends with status 2, as in `masa-track`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("regions", metavar="REGIONS", help="file of regions, or 'none' (then with --random-boxes)")
    parser.add_argument("images", type=Path, metavar="IMAGES", help="folder of photographs")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=12, help="pairs, spread over all photographs (default: 12)")
    parser.add_argument("--settings", choices=sorted(PRESETS), default="mild")
    parser.add_argument("--size", type=int, default=640, help="side of a view in pixels (default: 640)")
    parser.add_argument("--random-boxes", type=int, default=0, help="so many a photograph (default: 0)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epoch", type=int, default=0)
    try:
        browse(parser.parse_args())
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
