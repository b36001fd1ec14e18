#!/usr/bin/env python3
"""Turns the authors' public detections, pickles, into npz, once and without running what is in them.

The authors give a pickle a frame (``VIDEO/FRAME.pth``: a dict of ``det_bboxes`` (N, 4) or (N, 5) xyxy and score,
``det_labels`` (N,), perhaps ``det_masks``); this writes ``OUT/VIDEO.npz``, a file a video, in the layout of
`masa_track/formats/npz.py`, which `masa-track track --detections` and `tools/test_mot.py` read. Folders above the
videos are kept. A single pickle of a dict with such entries by ``VIDEO/FRAME`` does as well. ``det_masks`` (COCO RLEs
or arrays, H x W) are kept as RLEs.

    python tools/convert_public_detections.py results/public_dets/bdd_mot_yolox_dets runs/bdd_dets
    python tools/convert_public_detections.py tao_val_dets runs/tao_dets --class-names tao_val_lvis_v1_classes.json
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from masa_track.errors import InputError
from masa_track.formats.json_file import parse_json
from masa_track.formats.npz import write_npz
from masa_track.formats.safe_pickle import read_pickle
from masa_track.masks import Rle, compressed

SUFFIXES = (".pth", ".pkl", ".pickle")


def videos(source: Path) -> Iterator[tuple[str, list[tuple[str, Any]]]]:
    """The entries of each video, as pairs of frame and content in natural order; files are read a video at a time."""
    if source.is_file():
        content = read_pickle(source)
        if not isinstance(content, dict) or "det_bboxes" in content:
            raise InputError(f"{source} must be a folder, or a pickle of a dict by VIDEO/FRAME")
        grouped: dict[str, list[str]] = {}
        for key in content:
            grouped.setdefault(str(PurePosixPath(str(key)).parent), []).append(str(key))
        for video, keys in grouped.items():
            yield (source.stem if video == "." else video), [(key, content[key]) for key in sorted(keys, key=_natural)]
        return
    if not source.is_dir():
        raise InputError(f"IN must be a folder of pickles or a pickle, but there is no {source}")
    files = [path for path in source.rglob("*") if path.suffix in SUFFIXES and path.is_file()]
    if not files:
        raise InputError(f"IN must hold pickles ({', '.join(SUFFIXES)}), but there is none in {source}")
    for folder in sorted({path.parent for path in files}):
        ours = sorted((path for path in files if path.parent == folder), key=lambda path: _natural(path.name))
        name = folder.relative_to(source).as_posix()
        yield (source.name if name == "." else name), [(path.stem, read_pickle(path)) for path in ours]


def _natural(name: str) -> tuple[int, str]:
    return len(name), name


def arrays(name: str, entry: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[Rle]]:
    """Boxes (n, 4), scores (n,), labels (n,) and masks (n, or none) of one frame's entry.

    Raises:
        InputError: it is not what the authors wrote.
    """
    if not isinstance(entry, Mapping) or not {"det_bboxes", "det_labels"} <= set(entry):
        keys = ", ".join(map(str, entry)) if isinstance(entry, Mapping) else type(entry).__name__
        raise InputError(f"{name} must be a dict with det_bboxes and det_labels, got {keys}")
    try:
        boxes = np.asarray(entry["det_bboxes"], np.float64)
        labels = np.asarray(entry["det_labels"], np.int64).reshape(-1)
    except (ValueError, TypeError) as error:
        raise InputError(f"{name}: det_bboxes and det_labels must be numbers: {error}") from error
    boxes = boxes.reshape(0, 5) if boxes.size == 0 else boxes
    if boxes.ndim != 2 or boxes.shape[1] not in (4, 5) or len(boxes) != len(labels):
        found = f"{boxes.shape} and {labels.shape}"
        raise InputError(f"{name}: det_bboxes must be (N, 4) or (N, 5), det_labels (N,), got {found}")
    masks = list(entry.get("det_masks", ()))
    if len(masks) not in (0, len(boxes)):
        raise InputError(f"{name}: det_masks must be one a box, {len(boxes)}, got {len(masks)}")
    scores = boxes[:, 4] if boxes.shape[1] == 5 else np.ones(len(boxes))
    return boxes[:, :4], scores, labels, [compressed_mask(name, mask) for mask in masks]


def compressed_mask(name: str, mask: Any) -> Rle:
    """A mask of ``det_masks``, which tells its own size."""
    try:
        size = mask["size"] if isinstance(mask, Mapping) else np.shape(mask)
        return compressed(mask, (int(size[0]), int(size[1])))
    except (InputError, TypeError, KeyError, IndexError) as error:
        raise InputError(f"{name}: det_masks must be COCO RLEs or arrays (H, W): {error}") from error


def convert(source: Path, out: Path, class_names: list[str]) -> tuple[int, int, int]:
    """Writes a file a video. Returns how many videos, frames and boxes."""
    counts = [0, 0, 0]
    for video, entries in videos(source):
        parts = [arrays(f"{video}/{PurePosixPath(name).name}", entry) for name, entry in entries]
        boxes, scores, labels = (np.concatenate([part[i] for part in parts]) for i in range(3))
        masks = [mask for part in parts for mask in part[3]]
        if masks and (len(masks) != len(boxes) or any(mask["size"] != masks[0]["size"] for mask in masks)):
            raise InputError(f"{video}: all of a video's boxes must have masks of one size, or none")
        frames = np.repeat(np.arange(1, len(parts) + 1), [len(part[0]) for part in parts])
        path = out / f"{video}.npz"
        if not path.resolve().is_relative_to(out.resolve()):
            raise InputError(f"a video of IN is called {video!r}: that would be outside OUT")
        path.parent.mkdir(parents=True, exist_ok=True)
        names = [PurePosixPath(name).name for name, _ in entries]
        write_npz(path, frames, boxes, scores, labels, names, class_names, masks)
        for i, more in enumerate((1, len(parts), len(boxes))):
            counts[i] += more
    return counts[0], counts[1], counts[2]


def class_names(path: Path) -> list[str]:
    """The names by label, from text or from COCO json: labels count its categories in the order of their ids.

    Raises:
        InputError: the file cannot be read, or is json without categories.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() != ".json":
            return text.splitlines()
        categories = parse_json(text)["categories"]
        return [str(one["name"]) for one in sorted(categories, key=lambda one: one["id"])]
    except OSError as error:
        raise InputError(f"--class-names cannot be read: {error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"--class-names {path} must be text, or json with categories of id and name: {error}"
        ) from error


def main(argv: list[str] | None = None) -> int:
    """Runs the tool. Returns 0, or 2 for bad input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", metavar="IN", type=Path, help="folder of pickles, or one pickle")
    parser.add_argument("out", metavar="OUT", type=Path, help="folder for the npz files")
    parser.add_argument(
        "--class-names",
        type=Path,
        metavar="FILE",
        help="names of label 0, 1, ...: text, a name a line, or json with categories, in the order of their ids",
    )
    args = parser.parse_args(argv)
    try:
        names = class_names(args.class_names) if args.class_names else []
        count, frames, boxes = convert(args.source, args.out, names)
    except InputError as error:
        print(f"convert_public_detections: error: {error}", file=sys.stderr)
        return 2
    print(f"{count:,} videos, {frames:,} frames, {boxes:,} boxes\nresults   {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
