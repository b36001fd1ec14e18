"""Files of regions in and out: COCO json, SA-1B's json, plain boxes."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from masa_track.errors import InputError
from masa_track.files import write_text
from masa_track.formats.json_file import is_finite, is_key, objects, parse_json, shown, whole
from masa_track.masks import Rle, compressed, mask_api
from masa_track.training.regions import ImageRegions, Regions

FORMATS = "COCO json, SA-1B's json (a file or a folder of them), or plain boxes (json or csv)"
# A box may reach this far out, in pixels: COCO's are rounded to hundredths, others by one.
SLACK = 1.0


def read_regions(path: str | Path) -> Regions:
    """Reads a file of regions and checks all of its structure, so that nothing is wrong with it later.

    - COCO json: ``images`` and ``annotations``, whose ``segmentation`` is an RLE (compressed or not), polygons, or
      absent, then ``bbox`` counts. Crowds are left out. Categories are ignored.
    - SA-1B's own json, one an image: ``image`` and ``annotations``; or a folder of such files.
    - Plain boxes, 0-based xyxy pixels: json ``{"a.jpg": [[x1, y1, x2, y2], ...]}``, or csv lines ``a.jpg,x1,y1,x2,y2``.

    Args:
        path: the file, or a folder of SA-1B's.

    Returns:
        The regions; photographs without any are among them. Boxes are those of the masks where there are masks, and
        otherwise clipped to the picture.

    Raises:
        InputError: the file cannot be read, is of no such format or holds no regions; ids or images repeat; a region
            is empty, lies outside its picture, or is on an image that the file does not list; a mask has another
            size than its image. The message names file and entry.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix.lower() == ".json" and not p.name.startswith("."))
        if not files:
            raise InputError(f"regions {str(path)!r}: the folder holds no json; give {FORMATS}")
        images = [_sa1b(file, _parse(file)) for file in files]
    elif path.suffix.lower() == ".csv":
        images = _csv_boxes(path)
    else:
        content = _parse(path)
        if not isinstance(content, dict):
            raise InputError(f"{path}: must hold a json object, got {type(content).__name__}; give {FORMATS}")
        if "images" in content:
            images = _coco(path, content)
        elif "image" in content:
            images = [_sa1b(path, content)]
        elif "annotations" in content:
            raise InputError(f"{path}: 'annotations' without 'images' say nothing of their pictures; give {FORMATS}")
        else:
            images = [_plain(path, name, boxes) for name, boxes in content.items()]
    seen: set[str] = set()
    for image in images:
        if image.file_name in seen:
            raise InputError(f"{path}: image {image.file_name} is there twice; join its entries")
        seen.add(image.file_name)
    regions = Regions(path, tuple(images))
    if not regions.count:
        raise InputError(f"{path} holds no regions ({len(images)} images): nothing could be learned; make it anew")
    return regions


def write_regions(path: str | Path, regions: Regions) -> None:
    """Writes COCO json, whole or not at all: RLE masks where there are masks, and boxes everywhere.

    Ids of regions are kept if they are different over the whole file, and else counted from 1.

    Raises:
        OSError: the file cannot be written; an earlier one is as it was.
    """
    every = [int(i) for image in regions.images for i in image.ids]
    ids = iter(every if len(set(every)) == len(every) else range(1, len(every) + 1))
    images, annotations = [], []
    for number, image in enumerate(regions.images, 1):
        images.append({"id": number, "file_name": image.file_name, "width": image.width, "height": image.height})
        for box, rle in zip(image.boxes.tolist(), image.masks, strict=True):
            x1, y1, x2, y2 = box
            annotation: dict[str, Any] = {"id": next(ids), "image_id": number, "category_id": 1, "iscrowd": 0}
            annotation["bbox"] = [x1, y1, x2 - x1, y2 - y1]
            annotation["area"] = (x2 - x1) * (y2 - y1)
            if rle is not None:
                annotation["area"] = int(mask_api("train").area(rle))
                annotation["segmentation"] = {"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")}
            annotations.append(annotation)
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "object"}]}
    write_text(path, json.dumps(content))


# ---------------------------------------------------------------------------------------------------------------------
# Formats


def _parse(path: Path) -> Any:
    try:
        return parse_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"regions {str(path)!r} cannot be read: {error.strerror}; check the path") from error
    except ValueError as error:
        raise InputError(f"{path} is not whole json ({error}): write it anew, or give {FORMATS}") from error


def _coco(path: Path, content: dict[str, Any]) -> list[ImageRegions]:
    images: dict[int | str, dict[str, Any]] = {}
    for i, image in enumerate(_dicts(path, content["images"], "images")):
        identity = image.get("id")
        if not is_key(identity):
            raise InputError(f"{path}, images[{i}]: id must be a number or a text, got {shown(identity)}")
        if identity in images:
            raise InputError(f"{path}, images[{i}]: id {identity!r} repeats; images must have ids of their own")
        images[identity] = image
    found: dict[int | str, list[tuple[str, dict[str, Any]]]] = {identity: [] for identity in images}
    seen: set[int] = set()
    for i, region in enumerate(_dicts(path, content.get("annotations"), "annotations")):
        place = f"annotations[{i}]"
        identity = region.get("image_id")
        if not is_key(identity) or identity not in found:
            raise InputError(
                f"{path}, {place}: image_id {shown(identity)} is not among its images; add it or remove this"
            )
        number = whole(region, "id", f"{path}, {place}")
        if number in seen:
            raise InputError(f"{path}, {place}: id {number} repeats; regions must have ids of their own")
        seen.add(number)
        if not region.get("iscrowd"):
            found[identity].append((place, region))
    return [_image(path, images[i], found[i], f"image {i!r}") for i in images]


def _sa1b(path: Path, content: Any) -> ImageRegions:
    if not isinstance(content, dict) or not isinstance(content.get("image"), dict):
        raise InputError(f"{path}: 'image' must be an object, as in SA-1B's json; give {FORMATS}")
    rows = [(f"annotations[{i}]", row) for i, row in enumerate(_dicts(path, content.get("annotations"), "annotations"))]
    return _image(path, content["image"], rows, "image")


def _csv_boxes(path: Path) -> list[ImageRegions]:
    try:
        lines = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"))))
    except OSError as error:
        raise InputError(f"regions {str(path)!r} cannot be read: {error.strerror}; check the path") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is not csv ({error}): lines must be file,x1,y1,x2,y2") from error
    boxes: dict[str, list[Any]] = {}
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            box = [float(value) for value in line[1:]]
        except ValueError:
            if number == 1:  # the names of the columns
                continue
            box = []
        if len(box) != 4:
            raise InputError(f"{path}, line {number}: must be file,x1,y1,x2,y2, got {','.join(line)[:60]!r}")
        boxes.setdefault(line[0].strip(), []).append(box)
    return [_plain(path, name, rows) for name, rows in boxes.items()]


def _plain(path: Path, name: str, boxes: Any) -> ImageRegions:
    _checked_name(path, shown(name), name)
    if not isinstance(boxes, list):
        raise InputError(f"{path}, {name!r}: must be a list of [x1, y1, x2, y2], got {boxes!r:.60}; give {FORMATS}")
    checked = [_box(path, f"{name!r}[{i}]", box, 0, 0, "x1, y1, x2, y2") for i, box in enumerate(boxes)]
    return ImageRegions(
        name,
        width=0,
        height=0,
        ids=np.arange(1, len(boxes) + 1),
        boxes=np.array(checked, np.float32).reshape(-1, 4),
        masks=(None,) * len(boxes),
    )


# ---------------------------------------------------------------------------------------------------------------------
# Entries


def _image(path: Path, image: dict[str, Any], rows: list[tuple[str, dict[str, Any]]], label: str) -> ImageRegions:
    name = _checked_name(path, label, image.get("file_name"))
    width, height = (image.get(key, 0) for key in ("width", "height"))
    if not all(isinstance(side, int) and 0 <= side < 2**31 for side in (width, height)):
        raise InputError(
            f"{path}, {label}: width and height must be whole numbers, got {shown(width)} and {shown(height)}"
        )
    ids, boxes, masks = [], [], []
    for place, row in rows:
        number = whole(row, "id", f"{path}, {place}")
        if number in ids:
            raise InputError(f"{path}, {place}: id {number} repeats; regions must have ids of their own")
        rle = _mask(path, place, row.get("segmentation"), width, height)
        if rle is None:
            x, y, w, h = _box(path, place, row.get("bbox"), 0, 0, "x, y, width, height", xywh=True)
            box = _box(path, place, [x, y, x + w, y + h], width, height, "x1, y1, x2, y2")
        else:
            x, y, w, h = mask_api("train").toBbox(rle).tolist()
            box = x, y, x + w, y + h
        ids.append(number)
        boxes.append(box)
        masks.append(rle)
    array = np.array(boxes, np.float32).reshape(-1, 4)
    return ImageRegions(name, width, height, np.array(ids, np.int64), array, tuple(masks))


def _mask(path: Path, place: str, segmentation: Any, width: int, height: int) -> Rle | None:
    """The compressed mask, or None if there is none."""
    if segmentation in (None, []):
        return None
    if not (width and height):
        raise InputError(f"{path}, {place}: a mask needs its image's width and height; add them")
    api = mask_api("train")
    try:
        rle = compressed(segmentation, (height, width))
    except InputError as error:
        raise InputError(f"{path}, {place}: {error}") from error
    if not api.area(rle):
        raise InputError(f"{path}, {place}: the mask is empty; remove this region")
    return rle


def _box(
    path: Path, place: str, box: Any, width: int, height: int, names: str, xywh: bool = False
) -> tuple[float, float, float, float]:
    """The box as four numbers; an xyxy box is clipped to the picture if its size is known, and cannot be empty."""
    four = isinstance(box, list) and len(box) == 4
    if not four or not all(is_finite(v) and abs(v) < 1e38 for v in box):  # they become float32
        raise InputError(f"{path}, {place}: without a mask, bbox must be four numbers {names}, got {shown(box)}")
    a, b, c, d = map(float, box)
    if xywh:
        return a, b, c, d
    if c <= a or d <= b:
        raise InputError(f"{path}, {place}: the box is empty: {_numbers(box)} (x1, y1, x2, y2); remove this region")
    right, bottom = width or math.inf, height or math.inf
    if a < -SLACK or b < -SLACK or c > right + SLACK or d > bottom + SLACK:
        size = f", {width}x{height}" if width and height else ""
        raise InputError(
            f"{path}, {place}: the box {_numbers(box)} (x1, y1, x2, y2) lies outside the picture{size}; "
            "clip or remove it, or was it made on another size?"
        )
    clipped = max(a, 0.0), max(b, 0.0), min(c, right), min(d, bottom)
    if clipped[2] <= clipped[0] or clipped[3] <= clipped[1]:
        raise InputError(f"{path}, {place}: the box {_numbers(box)} holds nothing of the picture; remove this region")
    return clipped


def _numbers(box: list[float]) -> str:
    return ", ".join(f"{value:g}" for value in box)


def _checked_name(path: Path, place: str, name: Any) -> str:
    """The name; raises InputError unless a file can be called so."""
    try:
        good = isinstance(name, str) and bool(name) and b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:  # half of a surrogate pair
        good = False
    if not good:
        raise InputError(f"{path}, {place}: file_name must be a text that names a file, got {shown(name)}")
    return str(name)


def _dicts(path: Path, value: Any, label: str) -> list[dict[str, Any]]:
    return objects(value, f"{path}: {label}")
