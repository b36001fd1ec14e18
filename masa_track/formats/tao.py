"""Tracks of one or several videos as TAO's json: its annotations, or the results that its benchmark takes.

Source: Dave et al., TAO, ECCV 2020; the fields are those of the TAO toolkit, ``tao/toolkit/tao/tao.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from masa_track.errors import InputError
from masa_track.formats.joining import Label, join_files
from masa_track.formats.json_file import MAX_FRAME, objects, parse_json, whole
from masa_track.formats.run import Run
from masa_track.masks import mask_api


def tao_annotations(runs: list[Run]) -> dict[str, Any]:
    """A whole dataset: images, videos, tracks, annotations and categories, with ids unique over the videos.

    Raises:
        InputError: a class id has another name in another run.
    """
    names: dict[int, str] = {}
    content: dict[str, Any] = {
        "info": {"description": "tracks by masa-track"},
        "licenses": [],
        "videos": [],
        "images": [],
        "tracks": [],
        "annotations": [],
    }
    for video_id, run in enumerate(runs, 1):
        for number in sorted({*run.class_names, *run.classes.tolist()}):
            name = run.class_name(number)
            if names.setdefault(number, name) != name:
                raise InputError(f"class {number} is {names[number]!r} in one run and {name!r} in {run.path}")
        size = {"width": run.width, "height": run.height}
        lists: dict[str, list[int]] = {"neg_category_ids": [], "not_exhaustive_category_ids": []}
        content["videos"].append({"id": video_id, "name": run.name, **size, **lists, "metadata": {"fps": run.fps}})
        first = len(content["images"]) + 1
        for i, (frame, file_name) in enumerate(zip(run.frames.tolist(), run.file_names, strict=True)):
            image = {"id": first + i, "video_id": video_id, "file_name": file_name, "license": 0, **size}
            content["images"].append({**image, "video": run.name, "frame_index": frame - 1})
        number_of = {own_id: len(content["tracks"]) + i for i, (own_id, _, _) in enumerate(run.tracks(), 1)}
        for own_id, category, places in run.tracks():
            track_id = number_of[own_id]
            track = {"id": track_id, "category_id": category, "video_id": video_id}
            content["tracks"].append({**track, "own_id": own_id})
            for place in places.tolist():
                box = _xywh(run, place)
                content["annotations"].append(
                    {
                        "id": len(content["annotations"]) + 1,
                        "image_id": first + int(run.rows[place]),
                        "track_id": track_id,
                        "video_id": video_id,
                        "category_id": category,
                        "bbox": box,
                        "area": round(box[2] * box[3], 3),
                        "score": round(float(run.scores[place]), 4),
                        "iscrowd": 0,
                        **({"filled": True} if run.filled[place] else {}),
                        **({"smoothed": True} if run.smoothed[place] else {}),
                        **_tree(run, place, number_of),
                        **_mask(run, place, with_area=True),
                    }
                )
    content["categories"] = [{"id": i, "name": name, "synset": "unknown"} for i, name in sorted(names.items())]
    return content


def tao_results(runs: list[Run], truth: str | Path) -> list[dict[str, Any]]:
    """What TAO's benchmark takes: a box a row, by the images, videos and categories of its own annotations.

    Only the frames that the annotations list are in it. Track ids are unique over the videos; a track has the class
    that it had most often, found by its name or, where the names are not the run's (a MOT file has none), by its id.

    Args:
        runs: called as the annotations' videos, or as the last part of these names.
        truth: TAO's annotations.

    Raises:
        InputError: the file cannot be read, or a run's video, frames or classes are not in it.
    """
    videos, classes, images = _read_truth(Path(truth))
    results: list[dict[str, Any]] = []
    next_id = 1
    for run in runs:
        video = _video_of(run, videos, truth)
        listed = images.get(video, [])
        ours = [Label(name, frame - 1) for name, frame in zip(run.file_names, run.frames.tolist(), strict=True)]
        joined = join_files([label for _, label in listed], ours, run.path)
        where = [None if place is None else listed[place][0] for place in joined]
        if not any(image is not None for image in where):
            raise InputError(f"--truth {truth} has none of the {len(where)} frames of {run.path}")
        for _, category, places in run.tracks():
            target = classes.get(run.class_name(category), category if category in classes.values() else None)
            if target is None:
                raise InputError(f"--truth {truth} has no class {run.class_name(category)!r} of {run.path}")
            rows = list(_rows(run, places.tolist(), where))
            for image_id, place in rows:
                row = {"image_id": image_id, "category_id": target, "bbox": _xywh(run, place)}
                row |= {"score": round(float(run.scores[place]), 4), **_mask(run, place)}
                results.append({**row, "track_id": next_id, "video_id": video})
            next_id += bool(rows)
    return results


def _read_truth(
    path: Path,
) -> tuple[dict[int, str], dict[str, int], dict[int, list[tuple[int, Label]]]]:
    """TAO's annotations: videos' names by id, class ids by name, and the images of each video with their ids."""
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"--truth {path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"--truth {path} is not TAO's json of annotations: {error}") from error
    if not isinstance(content, dict) or not {"videos", "images", "categories"} <= content.keys():
        raise InputError(f"--truth {path} is not TAO's json of annotations: it needs videos, images and categories")
    place = f"--truth {path}"
    videos = {whole(one, "id", f"{place}, videos"): str(one.get("name")) for one in _listed(content, place, "videos")}
    classes = {
        str(one.get("name")): whole(one, "id", f"{place}, categories") for one in _listed(content, place, "categories")
    }
    labels: dict[int, list[tuple[int, Label]]] = {}
    for i, image in enumerate(_listed(content, place, "images")):
        here = f"{place}, images[{i}]"
        video, number = whole(image, "video_id", here), whole(image, "id", here)
        label = Label(str(image.get("file_name", "")), whole(image, "frame_index", here, MAX_FRAME))
        labels.setdefault(video, []).append((number, label))
    return videos, classes, labels


def _listed(content: dict[str, Any], place: str, key: str) -> list[dict[str, Any]]:
    return objects(content[key], f"{place}: {key}")


def _rows(run: Run, places: list[int], where: list[int | None]) -> Iterator[tuple[int, int]]:
    for place in places:
        image_id = where[int(run.rows[place])]
        if image_id is not None:
            yield image_id, place


def _tree(run: Run, place: int, number_of: Mapping[int, int]) -> dict[str, Any]:
    """Of a part: ``parent_id``, the track of what it belongs to (where that has one), ``part`` and ``phrase``."""
    fields: dict[str, Any] = dict(run.tree[place]) if run.tree else {}
    parent = number_of.get(fields.pop("parent_id", -1))
    return fields if parent is None else {"parent_id": parent, **fields}


def _mask(run: Run, place: int, with_area: bool = False) -> dict[str, Any]:
    """The fields of a box's mask; none where it has none."""
    rle = run.masks[place] if run.masks else None
    if rle is None:
        return {}
    mask = {"segmentation": {"size": rle["size"], "counts": rle["counts"].decode("ascii")}}
    return {**mask, "area": int(mask_api().area(rle))} if with_area else mask


def _video_of(run: Run, videos: Mapping[Any, str], truth: str | Path) -> Any:
    found = [number for number, name in videos.items() if run.name in (name, name.replace("/", "-"))]
    found = found or [number for number, name in videos.items() if PurePosixPath(name).name == run.name]
    if len(found) != 1:
        count = "none" if not found else f"{len(found)} videos"
        raise InputError(f"--truth {truth} must have one video called {run.name!r}, as in {run.path}, but has {count}")
    return found[0]


def _xywh(run: Run, place: int) -> list[float]:
    x1, y1, x2, y2 = run.boxes[place].tolist()
    return [round(value, 3) for value in (x1, y1, x2 - x1, y2 - y1)]
