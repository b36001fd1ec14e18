"""`masa-track export`: converts a finished run to the format of another tool."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from masa_track.cli.arguments import path, path_text
from masa_track.errors import InputError

if TYPE_CHECKING:
    from masa_track.formats.run import Run

FORMATS = ("cvat", "labelstudio", "tao", "tao-results", "mot", "csv", "panoptic")
SMOOTH_SECONDS = 0.1

_DESCRIPTION = """\
Converts the tracks of a finished run (its tracks.json) to the format of another tool. --finish improves the
tracks with information from all frames. The video is not needed."""

_EPILOG = """\
formats
  cvat          CVAT for video 1.1 (.xml): in a task with the same video and labels, Actions > Upload annotations
  labelstudio   Label Studio tasks with predictions (.json), to be imported; the command prints the labelling
                interface to paste
  tao           a data set in TAO's format (.json): images, videos, tracks, annotations, masks; track ids are unique
                over all videos
  tao-results   a submission to TAO's benchmark (.json), with the image and category ids of --truth, and masks
  mot, csv      as tracks.txt and tracks.csv in the run's folder
  panoptic      things and stuff of a run with --stuff, as panoptic.json and pictures in panoptic/; FILE is a folder

--finish starts each track at its first box, removes short tracks of low scores, smooths boxes and fills gaps of
up to 1 s, as `masa-track track --offline` does. Filled and smoothed boxes are marked:
  mot           tenth column: 1 filled, 2 smoothed, -1 as detected
  csv           columns filled and smoothed, 0 or 1
  tao           "filled": true, "smoothed": true
  cvat          filled boxes are no keyframes
  labelstudio   filled boxes are no keyframes; meta says how many of a track's boxes were filled and smoothed

examples:
  masa-track export runs/street --format cvat --out street.xml
  masa-track export runs/street --format labelstudio --video https://example.org/street.mp4 --out street.json
  masa-track export runs/street --format mot --finish --out street.txt
  masa-track export runs/street --format mot --fill-gaps 1 --smooth --out street.txt
  masa-track export runs/zoo --format panoptic --finish --out runs/zoo-finished
  masa-track export runs/* --format tao --out all.json
  masa-track export runs/* --format tao-results --truth tao_val.json --out results.json"""


def add_parser(commands: Any) -> None:
    """Adds ``export`` to the command's parser.

    Args:
        commands: what ``ArgumentParser.add_subparsers`` gave.
    """
    parser = commands.add_parser(
        "export",
        help="convert a run for CVAT, Label Studio, TAO, ...",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "runs", type=path, metavar="RUN", nargs="+", help="folder made by `masa-track track`, or its tracks.json"
    )
    parser.add_argument("--format", required=True, choices=FORMATS, help="format of FILE, see below")
    parser.add_argument(
        "--out", required=True, type=path, metavar="FILE", help="the file to write; for panoptic, a folder"
    )
    parser.add_argument("--truth", type=path_text, metavar="FILE", help="TAO's annotations, needed for tao-results")
    parser.add_argument("--video", metavar="ADDRESS", help="address of the video, for labelstudio (default: its name)")
    parser.add_argument(
        "--finish",
        action="store_true",
        help="improve the tracks with information from all frames, see below; excludes --fill-gaps and --smooth",
    )
    parser.add_argument(
        "--post",
        metavar="STEPS",
        help="post-process as in the demo of MASA's authors: demo, or some of its steps: giants (removes tracks of "
        "giant boxes), boxes (each a mean of 5 frames), scores (each the mean of its track), separated by "
        "commas; excludes --finish, --fill-gaps and --smooth",
    )
    parser.add_argument(
        "--online",
        action="store_true",
        help="start from the online tracks (online.json) of a run made with `masa-track track --offline`",
    )
    parser.add_argument(
        "--fill-gaps",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="interpolate the boxes of a track linearly over gaps of at most this many seconds",
    )
    parser.add_argument(
        "--smooth",
        type=float,
        nargs="?",
        default=0.0,
        const=SMOOTH_SECONDS,
        metavar="SECONDS",
        help="smooth the boxes by a weighted mean over about this many seconds before and after (default: off; "
        "without a number: %(const)s)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Reads, writes and prints what was written. Returns 0.

    Raises:
        InputError: a run is missing or broken, the options do not go together, or FILE would overwrite what is read.
        OSError: FILE cannot be written; an earlier one is as it was.
    """
    from masa_track.files import check_file, check_overwriting, write_text
    from masa_track.formats.run import read_run, run_file
    from masa_track.runs.demo_steps import demo_run, parse_steps
    from masa_track.runs.postprocess import finish_run, postprocess
    from masa_track.runs.reading import records_of, run_of_record

    for option, value in (("--fill-gaps", args.fill_gaps), ("--smooth", args.smooth)):
        if not 0 <= value < math.inf:
            raise InputError(f"{option} must be 0 or more seconds, got {value}")
    if args.finish and (args.fill_gaps or args.smooth):
        raise InputError("--finish fills gaps and smooths boxes itself: leave out --fill-gaps and --smooth")
    post = () if args.post is None else parse_steps(args.post)
    if post and (args.finish or args.fill_gaps or args.smooth):
        raise InputError("--post excludes --finish, --fill-gaps and --smooth: leave them out")
    if (args.format == "tao-results") != (args.truth is not None):
        raise InputError("--format tao-results and --truth need each other: give both, or neither")
    if args.video is not None and args.format != "labelstudio":
        raise InputError(f"--video is for --format labelstudio, got --format {args.format}: leave it out")
    several = args.format in ("labelstudio", "tao", "tao-results")
    if len(args.runs) > 1 and (not several or args.video is not None):
        alone = f"{args.format}{' with --video' if several else ''}"
        raise InputError(f"--format {alone} takes one RUN, got {len(args.runs)}: export them one by one")
    if args.format == "panoptic":
        return export_panoptic(args.runs[0], args, post)
    check_file(args.out, "--out")
    read = [("RUN", run_file(place, args.online)) for place in args.runs]
    check_overwriting([("--out", args.out)], [*read, *([("--truth", Path(args.truth))] if args.truth else [])])
    changed = args.finish or post or args.fill_gaps or args.smooth
    if args.format in ("mot", "csv") and not changed and streamed(args.runs[0], args.online):
        return export_stream(args.runs[0], args.format, args.out)
    runs = []
    for place in args.runs:
        file = run_file(place, args.online)
        if records_of(place) and (not file.is_file() or (args.online and file.name != "online.json")):
            runs.append(run_of_record(place, births=args.finish))
        else:
            runs.append(read_run(place, online=args.online, births=args.finish))
    if args.online and any(one.filled.any() or one.smoothed.any() for one in runs):
        raise InputError("--online needs the online.json that `masa-track track --offline` wrote: it is not there")
    if args.finish:
        runs = [finish_run(one) for one in runs]
    elif post:
        runs = [demo_run(one, post) for one in runs]
    elif args.fill_gaps or args.smooth:
        runs = [postprocess(one, args.fill_gaps, args.smooth) for one in runs]
    try:
        if args.format in ("mot", "csv"):
            _copy(runs[0], args.format, args.out)
        else:
            write_text(args.out, _text(runs, args))
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(args.out)) from error
    boxes, tracks = sum(len(one.ids) for one in runs), sum(sum(1 for _ in one.tracks()) for one in runs)
    added = sum(int(one.filled.sum()) for one in runs)
    filled = f" ({added:,} of them filled in)" if args.fill_gaps or args.finish else ""
    print(f"{len(runs)} run{'s' * (len(runs) > 1)}, {tracks:,} tracks, {boxes:,} boxes{filled}\nresults   {args.out}")
    if args.format not in ("tao", "tao-results") and any(one.masks for one in runs):
        print(f"masks are left out: {args.format} has none for tracks; --format tao and tao-results have")
    if args.format == "labelstudio":
        from masa_track.formats.label_studio import label_studio_config

        print("\nThe project's labelling interface must be (Settings > Labeling Interface > Code):\n")
        print(label_studio_config(runs), end="")
    return 0


def streamed(folder: Path, online: bool) -> bool:
    """Whether the tracks to export are those of the folder's record, which is read frame by frame."""
    from masa_track.runs.reading import records_of
    from masa_track.runs.store import open_store

    records = records_of(folder) if folder.is_dir() else []
    if not records:
        return False
    with open_store(records[0]) as store:
        return online or not store.info.offline


def export_stream(folder: Path, form: str, out: Path) -> int:
    """Writes a run of any length as MOT text or CSV, one frame in memory at a time. Returns 0.

    Raises:
        InputError: the record is damaged.
        OSError: the file cannot be written; an earlier one is as it was.
    """
    from tqdm import tqdm

    from masa_track.formats.csv import CsvWriter
    from masa_track.formats.mot import MotWriter
    from masa_track.formats.writer import TrackWriter
    from masa_track.report.records import SeenIds
    from masa_track.runs.reading import stream_run

    info, frames = stream_run(folder)
    identities, boxes = SeenIds(), 0
    try:
        writer: TrackWriter = MotWriter(out) if form == "mot" else CsvWriter(out, info.class_names, parts=info.parts)
        try:
            for result in tqdm(frames, unit="frame", dynamic_ncols=True, desc=info.name):
                writer.write(result.frame.number, result.frame.name, result.detections, result.frame.time)
                ids = result.detections.tracker_id
                for identity in [] if ids is None else ids[ids >= 0].tolist():
                    identities.add(identity)
                    boxes += 1
            writer.close()
        except BaseException:
            writer.abandon()
            raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(out)) from error
    print(f"1 run, {identities.count:,} tracks, {boxes:,} boxes\nresults   {out}")
    return 0


def export_panoptic(folder: Path, args: argparse.Namespace, post: tuple[str, ...]) -> int:
    """Writes the maps of things and stuff of a run, over all parts, into the folder ``--out``. Returns 0.

    Raises:
        InputError: the run has none, it is damaged, or the options do not go together.
        OSError: a file cannot be written; earlier ones are as they were.
    """
    from tqdm import tqdm

    from masa_track.files import prepare_folder
    from masa_track.formats.run import read_run
    from masa_track.pipeline.finishing import FinishedIdentities
    from masa_track.pipeline.scenes import PanopticSink
    from masa_track.runs.demo_steps import demo_run
    from masa_track.runs.postprocess import finish_run
    from masa_track.runs.reading import events_of, records_of, run_of_record, stream_run

    if args.fill_gaps or args.smooth:
        raise InputError("--fill-gaps and --smooth change boxes, not masks: leave them out with --format panoptic")
    info, frames = stream_run(folder, maps=True)
    if not info.stuff:
        raise InputError(f"--format panoptic needs maps of stuff in the record of RUN, {folder}: track with --stuff")
    if args.out.resolve() in {folder.resolve(), *(record.parent.resolve() for record in records_of(folder))}:
        raise InputError(f"--out must be another folder than that of the run, got {args.out}")
    is_finished = info.offline and not args.online
    run = None
    if is_finished or args.finish or post:
        run = read_run(folder) if is_finished else run_of_record(folder, births=args.finish)
        run = finish_run(run) if args.finish else demo_run(run, post) if post else run
        begin_early = args.finish or (is_finished and not info.post)
        frames = map(FinishedIdentities(run, events_of(folder) if begin_early else ()).give, frames)
    panoptic = PanopticSink(prepare_folder(args.out), info)
    count = 0
    try:
        for result in tqdm(frames, unit="frame", dynamic_ncols=True, desc=info.name):
            panoptic.write(result)
            count += 1
        panoptic.writer.close()
    except BaseException:
        panoptic.abandon()
        raise
    print(f"1 run, {count:,} frames\nresults   {args.out / 'panoptic.json'}")
    return 0


def _text(runs: list[Run], args: argparse.Namespace) -> str:
    content: object
    if args.format == "cvat":
        from masa_track.formats.cvat import cvat_xml

        return cvat_xml(runs[0])
    if args.format not in ("tao", "tao-results") and any(one.masks for one in runs):
        print(f"masks are left out: {args.format} has none for tracks; --format tao and tao-results have")
    if args.format == "labelstudio":
        from masa_track.formats.label_studio import label_studio_task

        content = [label_studio_task(one, args.video or one.name) for one in runs]
    elif args.format == "tao":
        from masa_track.formats.tao import tao_annotations

        content = tao_annotations(runs)
    else:
        from masa_track.formats.tao import tao_results

        content = tao_results(runs, args.truth)
    return json.dumps(content, separators=(",", ":"), allow_nan=False) + "\n"


def _copy(run: Run, form: str, out: Path) -> None:
    from masa_track.formats.csv import CsvWriter
    from masa_track.formats.mot import MotWriter
    from masa_track.formats.writer import TrackWriter

    changed = bool(run.filled.any() or run.smoothed.any())
    writer: TrackWriter = MotWriter(out) if form == "mot" else CsvWriter(out, run.class_names, changed, bool(run.tree))
    try:
        for i, (frame, name) in enumerate(zip(run.frames.tolist(), run.file_names, strict=True)):
            writer.write(frame, name, run.detections(i), float(run.times[i]))
        writer.close()
    except BaseException:
        writer.abandon()
        raise
