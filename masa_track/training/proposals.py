"""Class-agnostic regions of many photographs, into one COCO json: the run behind `masa-track proposals`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from masa_track.errors import InputError
from masa_track.files import PartFile, prepare_folder
from masa_track.stop import Stop
from masa_track.training.image_list import ImageList
from masa_track.training.journal import Journal
from masa_track.training.proposers import ProposalSettings
from masa_track.training.workers import records, stamp

CATEGORY = {"id": 1, "name": "object"}


@dataclass
class ProposalOutcome:
    """What came of a run.

    Attributes:
        images: with regions found or sought, those of earlier runs included.
        regions: of all of them; 0 where the file was not written.
        faults: by name, why an image was left out.
        left: images not done yet, after Ctrl-C.
    """

    images: int = 0
    regions: int = 0
    faults: dict[str, str] = field(default_factory=dict)
    left: int = 0


def journal_path(out: Path) -> Path:
    """Where a run keeps what is done: ``OUT.journal``."""
    return out.with_name(f"{out.name}.journal")


def make_proposals(images: ImageList, settings: ProposalSettings, out: Path, workers: int = 1) -> ProposalOutcome:
    """Finds the regions of all images that are not in the journal yet, then writes the file.

    A kill loses the images in work, no others. Ctrl-C ends the run after the images in work, without writing the file.
    An image that gives no picture is not tried again before it changes.

    Args:
        images: what to search.
        settings: how; the same as when the journal was begun.
        out: the COCO json.
        workers: processes.

    Raises:
        InputError: settings that differ from the journal's, an ``out`` that is not this run's or cannot be written, a
            checkpoint that is none.
    """
    if workers < 1:
        raise InputError(f"--workers must be 1 or more, got {workers}")
    if out.is_dir():
        raise InputError(f"--out must name a file, got {out}, a folder")
    path = journal_path(out)
    if out.exists() and not path.exists():
        raise InputError(f"{out} is there already, and not by a run that could go on: name another file, or remove it")
    if settings.sam is not None and not settings.sam.is_file():
        raise InputError(f"no such checkpoint: {settings.sam}")
    recorded = settings.recorded()
    prepare_folder(out.parent)
    began = not path.exists()
    try:
        with Journal(path, {"images": str(images.root), **recorded}) as journal:
            outcome = _run(images, settings, workers, journal)
            if not outcome.left and outcome.images:
                outcome.regions = _write_coco(out, images.names, journal, recorded)
    except InputError:
        if began:  # nothing was done: a mistake leaves nothing behind
            _remove_if_empty(path)
        raise
    return outcome


def _run(images: ImageList, settings: ProposalSettings, workers: int, journal: Journal) -> ProposalOutcome:
    """The work; the journal is whole at any moment."""
    changed = {name for name, fault in journal.faults.items() if fault.get("stamp") != stamp(images.root / name)}
    todo = [name for name in images.names if name not in journal or name in changed]
    total = len(images.names)
    with Stop() as stop, tqdm(total=total, initial=total - len(todo), unit="image", dynamic_ncols=True) as bar:
        for record in records(images.root, todo, settings, workers, lambda: stop.asked) if todo else ():
            journal.append(record)
            if "error" in record:
                tqdm.write(f"{record['image']} skipped: {record['error']}", file=sys.stderr)
            else:
                bar.set_postfix(regions=len(record["regions"]), refresh=False)
            bar.update()
    done = [name for name in images.names if name in journal]
    faults = {name: str(journal.faults[name]["error"]) for name in done if name in journal.faults}
    return ProposalOutcome(images=len(done) - len(faults), faults=faults, left=total - int(bar.n))


def _write_coco(out: Path, names: Sequence[str], journal: Journal, recorded: Mapping[str, Any]) -> int:
    """Writes the file from the journal, one record in memory at a time; gives the number of regions."""
    from masa_track import __version__

    info = {"description": "class-agnostic regions", "contributor": f"masa-track {__version__}", "settings": recorded}
    part, regions = PartFile(out), 0
    listed: list[dict[str, Any]] = []
    try:
        with open(part.create(), "w", encoding="ascii", newline="\n") as file:
            file.write(f'{{"info":{_json(info)},\n"categories":[{_json(CATEGORY)}],\n"annotations":[')
            for name in names:
                record = journal.record(name)
                if "error" in record:
                    continue
                image_id = len(listed) + 1
                size = {"width": record["width"], "height": record["height"]}
                listed.append({"id": image_id, "file_name": name, **size})
                for region in record["regions"]:
                    regions += 1
                    head = {"id": regions, "image_id": image_id, "category_id": CATEGORY["id"], "iscrowd": 0}
                    file.write((",\n" if regions > 1 else "\n") + _json({**head, **region}))
            file.write('],\n"images":[')
            file.write(",".join("\n" + _json(image) for image in listed))
            file.write("]}\n")
        part.commit()
    except OSError as error:
        raise InputError(
            f"{out} could not be written ({error.strerror or error}): run the same command again"
        ) from error
    finally:
        part.abandon()
    return regions


def _remove_if_empty(path: Path) -> None:
    """Removes a journal that holds its first line only."""
    if path.is_file() and path.read_bytes().count(b"\n") <= 1:
        path.unlink()


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
