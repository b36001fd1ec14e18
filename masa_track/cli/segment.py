"""`masa-track segment`: masks of objects that are prompted by hand, in all frames of a video."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from masa_track.cli.arguments import add_device, add_frame_range, add_refine_masks, path
from masa_track.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from masa_track.contracts import MaskletFrame, MaskPropagator
    from masa_track.masklets.prompt_file import FrameRange, Prompts
    from masa_track.masklets.prompted import EarlierMasks
    from masa_track.runs.store import RunInfo
    from masa_track.video.sources import Source

SNAPSHOT_SECONDS = 2.0  # between states in the record, from which --resume continues
_CANDIDATES = "candidates"  # folder of candidate masks

_DESCRIPTION = """\
Segments prompted objects in all frames of a video. The prompts of an object are in one frame or in several:
a box, points, a scribble or a mask. You choose the number of each object."""

_EPILOG = """\
ID is the object's number, 0 or more; FRAME counts from 1; pixels are x, y from the upper left corner.
A box and points for one object and frame are one prompt; a mask cannot be combined with them. A prompt in
a later frame corrects the object from that frame on. A - at the end marks points that are not on the object.

FILE.png of --mask has the size of the video. Pixels that are not black are the object; in an index
picture with several object numbers, as those of DAVIS, the object is the pixels with the number ID.

FILE.json of --prompts:
  {"prompts": [
    {"id": 1, "frame": 1, "box": [10, 20, 60, 90]},
    {"id": 2, "frame": 14, "points": [[30, 40], [55, 60]], "positive": [true, false]},
    {"id": 2, "frame": 20, "scribble": [[30, 40], [35, 52]], "positive": true},
    {"id": 3, "frame": 1, "mask": "mask.png"},
    {"id": 3, "frame": 50, "remove": true}]}
A mask may be a COCO RLE, too. "clear": true deletes the mask that the propagation gave in this frame
before the points are applied. "remove" ends the object from this frame on.

--resume continues the run in DIR. Further prompts are added to those of the run; a prompt for the same
object and frame replaces the earlier one. The results of frames before the first changed prompt are kept.
The run continues from the last state that was stored before this frame.

DIR gets what `masa-track track` writes: report.html, video.mp4, tracks.json with a mask (RLE) for each
box, tracks.txt, tracks.csv and run.sqlite.

examples:
  masa-track segment zoo.mp4 --box 1:1:10,20,60,90 --out runs/zoo
  masa-track segment zoo.mp4 --point 1:14:30,40 --point 1:14:55,60,- --reverse --out runs/zoo
  masa-track segment zoo.mp4 --scribble "2:1:30,40;35,52;60,58" --mask 3:1:dog.png --out runs/zoo
  masa-track segment zoo.mp4 --resume --point 1:40:33,47 --out runs/zoo

Exit status: 0; 1 for a full disk, too little memory, an internal error, a run without a frame or a
prompted frame that cannot be read; 2 for bad input; 130 if interrupted."""


def add_parser(commands: Any) -> None:
    """Adds ``segment`` to the command's subparsers."""
    parser = commands.add_parser(
        "segment",
        help="segment objects that are prompted by a box, points or a mask, in all frames",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("source", metavar="SOURCE", help="video file, image folder or glob")
    add("--out", required=True, type=path, metavar="DIR", help="folder for the results")
    shown = parser.add_argument_group("prompts (at least one; each option may be given several times)")
    for name, form, what in (
        ("box", "ID:FRAME:x1,y1,x2,y2", "a box around the object"),
        ("point", "ID:FRAME:x,y[,-]", "a point on the object, or, with -, not on it"),
        ("scribble", "ID:FRAME:x,y;x,y;...[,-]", "a line on the object, or, with -, not on it"),
        ("mask", "ID:FRAME:FILE.png", "the object's mask"),
    ):
        shown.add_argument(f"--{name}", action="append", default=[], metavar=form, help=what)
    shown.add_argument("--prompts", type=path, metavar="FILE.json", help="a file of prompts, see below")
    add(
        "--masklets",
        default="flow",
        metavar="NAME",
        help="method that propagates the masks from frame to frame: flow (optical flow and colours, needs no weights)"
        " or another name that track --masklets takes (default: %(default)s)",
    )
    add_refine_masks(parser)
    add(
        "--reverse",
        action="store_true",
        help="also propagate each object backwards from its first prompt to the first frame",
    )
    add(
        "--candidates",
        action="store_true",
        help="also write all masks that the model proposes for a prompt, the best first: "
        f"DIR/{_CANDIDATES}/object-1_frame-000001_1.png",
    )
    add_frame_range(parser)
    add_device(parser)
    add("--no-video", action="store_true", help="do not write video.mp4")
    add("--resume", action="store_true", help="continue the run in DIR, with further prompts, see above")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs ``segment``. The prompts are checked before any work. Returns the exit status."""
    from masa_track.cli.summary import summary
    from masa_track.files import locked_folder, prepare_folder
    from masa_track.masklets.loading import check_propagator, open_propagator
    from masa_track.masklets.prompt_file import FrameRange
    from masa_track.masks import mask_api
    from masa_track.pipeline.sinks import RESULTS
    from masa_track.runs.resume import check_folder
    from masa_track.video.sources import open_source
    from masa_track.video.times import frame_of

    check_propagator(args.masklets)
    mask_api("masklets")
    before = check_folder(args.out, args.resume)
    source = open_source(args.source)
    if source.live:
        raise InputError(f"SOURCE must be a file or images, whose frames are known, got {source.name}, which is live")
    start = 1 if args.start is None else frame_of(args.start, source)
    stop = None if args.end is None else frame_of(args.end, source, end=True)
    if stop is not None and stop < start:
        raise InputError(f"--end must not be before --start: frame {stop} is before frame {start}")
    length = sum(1 for _ in source.frame_times())  # exact, where source.length is a hint
    frames = FrameRange(start, length if stop is None else min(stop, length), (source.width, source.height))
    prompts, changed_at = _prompts(args, frames, before if args.resume else None)
    _check_outputs(args, source, RESULTS)
    propagator = open_propagator(args.masklets, args.device, refine=args.refine_masks)
    folder = prepare_folder(args.out)
    with ExitStack() as opened:
        opened.enter_context(locked_folder(folder))
        return _segment(args, source, frames, prompts, changed_at, before, propagator, folder, summary)


def _segment(
    args: argparse.Namespace,
    source: Source,
    frames: FrameRange,
    prompts: Prompts,
    changed_at: int | None,
    before: RunInfo | None,
    propagator: MaskPropagator,
    folder: Path,
    summary: Any,
) -> int:
    """The work in the locked folder."""
    import supervision as sv

    from masa_track.masklets.prompt_file import prompts_to_json
    from masa_track.masklets.prompted import PromptedTracker
    from masa_track.pipeline.job import Job
    from masa_track.pipeline.loop import track_video
    from masa_track.pipeline.sinks import info_of
    from masa_track.video.addresses import masked

    write = _candidate_writer(folder / _CANDIDATES, keep=args.resume) if args.candidates else None
    tracker = PromptedTracker(propagator, prompts, on_candidates=write)
    job = Job(
        source,
        lambda frame: sv.Detections.empty(),
        {0: "object"},
        tracker,
        folder,
        with_video=not args.no_video,
        start=frames.first,
        stop=None if args.end is None else frames.last,
        snapshot_seconds=SNAPSHOT_SECONDS,
        facts={
            "objects": f"prompted by hand ({sum(map(len, prompts.values()))} prompts)",
            "masklets by": args.masklets,
            **({"backwards": "from each object's first prompt"} if args.reverse else {}),
        },
    )
    file = Path(args.source)
    status = file.stat() if file.is_file() else None
    job.info = replace(
        info_of(job),
        source=masked(args.source) if "://" in args.source else str(file.resolve()),
        recipe={
            "masklets": args.masklets,
            "reverse": args.reverse,
            **({"refine_masks": True} if args.refine_masks else {}),
            "prompts": prompts_to_json(prompts),
        },
        inputs={} if status is None else {"SOURCE": [float(status.st_size), status.st_mtime]},
    )
    if args.resume and before is not None:
        job.resumed = _going_on(folder, job.info, changed_at)
    with ExitStack() as opened:
        first = frames.first if job.resumed is None else max(frames.first, job.resumed.last + 1)
        if args.reverse:
            earlier = _backwards(source, propagator, prompts, first)
            if earlier is None:
                print("interrupted: nothing was written", file=sys.stderr)
                return 130
            opened.callback(earlier.close)
            tracker.earlier = earlier
        outcome = track_video(job)
    print(
        summary(
            outcome,
            folder,
            no_identities="no prompted object is visible in any frame: check the frames and pixels of the prompts",
        )
    )
    unused = {} if outcome.interrupted else tracker.unused(first, frames.last)
    for number, objects in unused.items():
        of = ", ".join(map(str, objects))
        print(f"warning   frame {number} could not be read: its prompts of object {of} had no effect", file=sys.stderr)
    if outcome.faults or not outcome.frames or unused:
        return 1
    return 130 if outcome.interrupted else 0


def _prompts(args: argparse.Namespace, frames: FrameRange, before: RunInfo | None) -> tuple[Prompts, int | None]:
    """All prompts, those of the run before among them, and the first frame in which they differ from those.

    Raises:
        InputError: a prompt cannot be used, there is none, or the run before is not one of ``segment``.
    """
    from masa_track.masklets.prompt_file import check_prompts, prompts_from_json, read_prompts, with_further

    prompts = read_prompts(frames, args.box, args.point, args.scribble, args.mask, args.prompts)
    changed_at = None
    if before is not None:
        if "prompts" not in before.recipe:
            raise InputError(f"--resume: {args.out} holds no run of `masa-track segment`: name another folder")
        if tuple(before.size) != frames.size:
            raise InputError(
                f"--resume: the frames had {before.size} pixels, have {frames.size}: give the source of that run"
            )
        had = prompts_from_json(before.recipe["prompts"], frames, f"{args.out}, the prompts of the run", args.out)
        prompts, changed_at = with_further(had, prompts)
        if args.reverse and changed_at is not None and _starts(had) != _starts(prompts):
            changed_at = frames.first  # objects are carried to the first frame
    check_prompts(prompts)
    return prompts, changed_at


def _starts(prompts: Prompts) -> list[dict[str, Any]]:
    """The first prompt of each object."""
    from masa_track.masklets.prompt_file import first_prompts, prompts_to_json

    first = first_prompts(prompts)
    return [prompts_to_json({frame: {i: prompts[frame][i]}})[0] for i, frame in sorted(first.items())]


def _going_on(folder: Path, info: RunInfo, changed_at: int | None) -> Any:
    """The run in the folder, which is to be continued; its prompts may differ.

    Raises:
        InputError: it was of another source, version or option.
    """
    from masa_track.runs.resume import check_same, resumed
    from masa_track.runs.store import open_store

    with open_store(folder) as store:
        prompts = json.loads(json.dumps(info.recipe["prompts"]))
        check_same(replace(store.info, recipe={**store.info.recipe, "prompts": prompts}), info)
        return resumed(store, changed_at)


def _backwards(source: Source, propagator: MaskPropagator, prompts: Prompts, first: int) -> EarlierMasks | None:
    """The masks before the objects' first prompts; None if the pass was interrupted."""
    from tqdm import tqdm

    from masa_track.masklets.prompt_file import first_prompts
    from masa_track.masklets.prompted import masks_before_prompts
    from masa_track.stop import Stop

    last = max(first_prompts(prompts).values())
    total = last - first + 1 if last > first else 0
    with Stop() as stop, tqdm(total=total, unit="frame", dynamic_ncols=True, desc=f"{source.name}, backwards") as bar:
        earlier = masks_before_prompts(source, propagator, prompts, first, lambda: stop.asked, bar.update)
        if not stop.asked:
            return earlier
    earlier.close()
    return None


def _candidate_writer(folder: Path, keep: bool) -> Any:
    """Writes the candidate masks of prompts into a folder; those of an earlier run are removed unless ``keep``."""
    import numpy as np

    from masa_track.files import prepare_folder
    from masa_track.formats.davis import write_index_picture

    prepare_folder(folder, "--candidates")
    if not keep:
        for old in folder.glob("object-*_frame-*_*.png"):
            old.unlink()

    def write(identity: int, number: int, candidates: MaskletFrame) -> None:
        for old in folder.glob(f"object-{identity}_frame-{number:06d}_*.png"):
            old.unlink()
        for place, mask in enumerate(candidates.masks, 1):
            numbers: np.ndarray = np.asarray(mask).astype(np.uint8)
            write_index_picture(folder / f"object-{identity}_frame-{number:06d}_{place}.png", numbers)

    return write


def _check_outputs(args: argparse.Namespace, source: Source, results: Any) -> None:
    """Checks that no result overwrites what is read.

    Raises:
        InputError: one does.
    """
    from masa_track.files import check_overwriting

    read = [("SOURCE", Path(args.source)), *(("SOURCE", file) for file in getattr(source, "paths", ()))]
    read += [("--mask", Path(text.split(":", 2)[-1])) for text in args.mask]
    if args.prompts is not None:
        read.append(("--prompts", args.prompts))
    check_overwriting([("--out", args.out / name) for name in results], read)
