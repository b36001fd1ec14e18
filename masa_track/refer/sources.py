"""The tracks that a sentence is about: of a stored run, of a file of tracks, or of a sequence's truth."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import numpy as np

from masa_track.errors import InputError
from masa_track.evaluation.mot import read_labelled
from masa_track.formats.run import FPS, Run, read_run
from masa_track.refer.geometry import Scene, Track
from masa_track.refer.words import ANY_NOUNS, NOUNS, singular
from masa_track.runs.reading import records_of, run_of_record
from masa_track.runs.store import open_store

_UNNAMED = re.compile(r"(class|category|label) ?\d+|\d+|unknown|none")
_MOT17 = {1: "pedestrian", 2: "rider", 3: "car", 4: "bicycle", 5: "motorcycle", 7: "pedestrian"}


def read_scene(path: str | Path) -> Scene:
    """The tracks of a run.

    Args:
        path: a run's folder (``run.sqlite``, ``tracks.json`` or ``tracks.txt`` in it), a ``tracks.json``, MOT text, or
            a sequence's folder with ``gt/gt.txt``; classes of truth are read of ``gt/ids.txt`` and ``classes.txt``.

    Raises:
        InputError: there is none of them, it is damaged, or it holds no track.
    """
    path = Path(path)
    text = path
    if path.is_dir():
        if records_of(path):
            run = run_of_record(path)
            return _checked(_of_run(run, _cameras(path)), path)
        if (path / "tracks.json").is_file():
            return _checked(_of_run(read_run(path), {}), path)
        found = [path / name for name in ("tracks.txt", "gt/gt.txt", "gt.txt") if (path / name).is_file()]
        if not found:
            raise InputError(
                f"--run {path} holds no run.sqlite, tracks.json, tracks.txt or gt/gt.txt: name the folder of a run of "
                "`masa-track track`, or a sequence of MOTChallenge"
            )
        text = found[0]
    elif not path.exists():
        raise InputError(f"--run {path} does not exist: name the folder of a run of `masa-track track`")
    elif path.suffix.lower() == ".json":
        return _checked(_of_run(read_run(path), {}), path)
    elif path.suffix.lower() == ".sqlite":
        return read_scene(path.parent)
    elif path.suffix.lower() != ".txt":
        raise InputError(f"--run must be a folder, a .json or MOT text (.txt), got {path}")
    return _checked(_of_mot(text), path)


def _checked(scene: Scene, path: Path) -> Scene:
    if not scene.tracks:
        raise InputError(f"--run {path} has no track: nothing can be selected; track the video with another detector")
    return scene


def class_name(name: str) -> str:
    """A class name as the grammar uses it: lower case; empty where it says nothing."""
    plain = re.sub(r"[_\-]+", " ", name).lower().strip()
    return "" if _UNNAMED.fullmatch(plain) or plain in ANY_NOUNS else plain


def _cameras(folder: Path) -> dict[int, np.ndarray]:
    """By frame, (3, 3) from pixels of the first frame to its pixels, where the run estimated the camera's motion."""
    matrices: dict[int, np.ndarray] = {}
    total = np.eye(3)
    for record in records_of(folder):
        with open_store(record) as store:
            for observation in store.observations():
                if observation.camera is not None:
                    total = np.vstack((observation.camera, (0, 0, 1))) @ total
                matrices[observation.number] = total
    moves = any(not np.allclose(matrix, np.eye(3)) for matrix in matrices.values())
    return matrices if moves else {}


def _of_run(run: Run, cameras: dict[int, np.ndarray]) -> Scene:
    tracks = []
    for identity, number, places in run.tracks():
        frames = run.frames[run.rows[places]]
        camera = np.stack([cameras[frame] for frame in frames.tolist()]) if cameras else None
        tracks.append(Track(identity, class_name(run.class_name(number)), frames, run.boxes[places], camera))
    return Scene((run.width, run.height), run.fps, run.frames, tracks)


def _of_mot(file: Path) -> Scene:
    """Tracks of MOT text, with what lies beside it: ``seqinfo.ini``, ``ids.txt``, ``classes.txt``."""
    labelled = read_labelled(file)
    # Rows flagged 0 are not to be scored, but belong to the track; tracks of such rows alone are distractors.
    kept = np.isin(labelled.rows.ids, np.unique(labelled.rows.ids[labelled.flags != 0]))
    kept &= (labelled.rows.boxes[:, 2:] > 0).all(axis=1)
    rows, classes = labelled.rows.only(kept), labelled.classes[kept]
    if not len(rows):
        raise InputError(f"--run {file} has no track: nothing can be selected")
    folder = file.parent.parent if file.parent.name in ("gt", "det") else file.parent
    width, height, fps, length = _seqinfo(folder / "seqinfo.ini")
    boxes = np.hstack((rows.boxes[:, :2] - 1, rows.boxes[:, :2] - 1 + rows.boxes[:, 2:]))  # 0-based xyxy
    size = (width or int(boxes[:, 2].max()), height or int(boxes[:, 3].max()))
    names = _names(folder / "classes.txt")
    if not names and re.match(r"MOT(16|17|20)", folder.name):
        names = _MOT17
    if not names and file.parent.name == "gt" and (classes < 1).all():
        names = {-1: "pedestrian"}  # MOT15 annotates nothing else, and has no column for classes
    own = _names(file.parent / "ids.txt", of_ids=True)
    tracks = []
    for identity in np.unique(rows.ids).tolist():
        mine = rows.ids == identity
        values, counts = np.unique(classes[mine], return_counts=True)
        name = own.get(identity) or names.get(int(values[counts.argmax()]), "")
        tracks.append(Track(identity, name, rows.frames[mine], boxes[mine]))
    frames = np.arange(1, max(length, int(rows.frames.max())) + 1)
    return Scene(size, fps or FPS, frames, tracks)


def _seqinfo(file: Path) -> tuple[int, int, float, int]:
    """Width, height, frames a second and number of frames; 0 where they are not known."""
    parser = configparser.ConfigParser()
    try:
        parser.read(file, encoding="utf-8")
        part = parser["Sequence"] if parser.has_section("Sequence") else dict[str, str]()
        return (int(part.get("imWidth", 0)), int(part.get("imHeight", 0)), float(part.get("frameRate", 0)),
                int(part.get("seqLength", 0)))  # fmt: skip
    except (configparser.Error, ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{file} is not a MOTChallenge seqinfo.ini ({error}): fix or remove it") from error


def _names(file: Path, of_ids: bool = False) -> dict[int, str]:
    """Class names by number: ``1 pedestrian, 3 cyclist``; or, ``of_ids``, by track: ``4 class 4 black car``."""
    if not file.is_file():
        return {}
    names = {}
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        if of_ids:
            found = re.match(r"\s*(\d+) +(?:class +\d+ +)?(.*)", line)
            nouns = [singular(word)[0] for word in re.findall(r"[a-z]+", found[2].lower())] if found else []
            noun = next((word for word in nouns if word in NOUNS), "")
            if found and noun:
                names[int(found[1])] = noun
        else:
            names |= {
                int(number): class_name(name) for number, name in re.findall(r"(\d+)[ :=]+([A-Za-z][\w-]*)", line)
            }
            break
    return names


def video_of(path: Path) -> str | None:
    """The source that a run was tracked on, or the sequence's own images; None where it is not known."""
    if not path.is_dir():
        return None
    if records := records_of(path):
        with open_store(records[0]) as store:
            return store.info.source or None
    return str(path) if (path / "img1").is_dir() else None
