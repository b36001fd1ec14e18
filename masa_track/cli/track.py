"""`masa-track track`: gives the boxes of a video identities."""

from __future__ import annotations

import argparse
import ast
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from masa_track.cli.arguments import (
    Default,
    add_device,
    add_exemplars,
    add_frame_range,
    add_refine_masks,
    path,
    path_text,
)
from masa_track.cli.counts import check_counts
from masa_track.cli.masa_config import apply_masa_config
from masa_track.cli.summary import summary
from masa_track.detectors.phrases import is_list
from masa_track.drawing.colours import COLOR_BY
from masa_track.errors import InputError
from masa_track.parts.scene import PARTS_BY
from masa_track.pipeline.network import PRECISIONS, chosen_dtype
from masa_track.registry import IDENTITIES, POOLS, sam3_place

if TYPE_CHECKING:
    from masa_track.encoders.base import BaseEmbedder
    from masa_track.pipeline.job import Job
    from masa_track.pipeline.recipe import TrackRecipe
    from masa_track.runs.resume import Resumed
    from masa_track.runs.store import RunInfo
    from masa_track.video.source import Reading
    from masa_track.video.sources import Source

_DESCRIPTION = """\
Tracks the objects in a video: each object gets an identity. The boxes come from a file (--detections) or
from a detector (--detector). Without these options they come from the shipped detector nanodet, which
finds people, vehicles and animals and their classes. The model computes an embedding of each box. Boxes
of different frames are matched by motion and embeddings."""

_EPILOG = """\
DIR gets
  report.html   counts, the video, a thumbnail and the first and last time of each track, for a browser
  video.mp4     the video with boxes, identities and recent paths of the objects (H.264)
  tracks.txt    MOTChallenge: frame,id,left,top,width,height,confidence,-1,-1,-1 (counted from 1)
  tracks.json   COCO-VID; with --masks also a segmentation (RLE) for each box
  tracks.csv    one row for each box
  semantic/     with --semantic: a grey picture for each frame and phrase
  panoptic.json, panoptic/   with --stuff: things and stuff as COCO's panoptic pictures

examples:
  masa-track track zoo.mp4 --out runs/zoo
  masa-track track zoo.mp4 --classes animals,person --out runs/animals
  masa-track track zoo.mp4 --detector own --out runs/anything
  masa-track track street.mp4 --detector motion --out runs/street
  masa-track track frames/ --detections det.txt --out runs/frames
  masa-track track "shots/*.png" --detections boxes.json --preset demo --out runs/shots
  masa-track track zoo.mp4 --model r50 --out runs/everything
  masa-track track zoo.mp4 --model gdino-swinb --text "a yellow minion. a dog" --out runs/zoo
  masa-track track zoo.mp4 --model gdino-swinb --text "person[head, hand]. dog[head]" --out runs/zoo
  masa-track track zoo.mp4 --detections parts.json --text "person[head, hand]" --out runs/zoo
  masa-track track zoo.mp4 --masa-config masa_r50_plug_and_play.py --checkpoint masa_r50.pth --out runs/zoo
  masa-track track street.mp4 --detector motion --masks sam_vit_b_01ec64.pth --out runs/street
  masa-track track zoo.mp4 --detector transformers:google/owlv2-base-patch16-ensemble --text "a dog" --out runs/zoo
  masa-track track zoo.mp4 --detector sam3 --text "a yellow minion. a dog" --out runs/zoo
  masa-track track zoo.mp4 --detector sam3 --exemplar 12:10,20,60,90 --negative-exemplar 12:5,5,30,40 --out runs/zoo
  masa-track track street.mp4 --detector ultralytics:yolo11n.pt --out runs/street
  masa-track track street.mp4 --detector ultralytics:yolo11n.pt --offline --out runs/street
  masa-track track street.mp4 --detector ultralytics:yolo11n.pt --nms 0.5 --post demo --out runs/street
  masa-track track rtsp://camera.local/1 --detector fasterrcnn_mobilenet_v3_large_fpn --stride 5 --out runs/door
  masa-track track rtsp://camera.local/1 --detector motion --jsonl live.jsonl --reconnect inf --out runs/door
  masa-track track street.mp4 --detector motion --set memory_seconds=10 --set class_aware=True --out runs/street

With --offline the results have finished tracks: each starts at its first box, short tracks of low scores are
removed, boxes are smoothed, and gaps of up to 1 s are filled (dashed in the video). The source is read twice, so it
must not be live. Filled and smoothed boxes are marked: in tracks.txt by 1 and 2 in the tenth column, in tracks.csv
by columns, in tracks.json by "filled": true and "smoothed": true. The online tracks are in online.json, for
masa-track export DIR --online. --jsonl has the online tracks as well. To finish an earlier run:
masa-track export DIR --format mot --finish --out FILE.
All results of an earlier run in DIR are replaced: with --no-video its video.mp4 is removed.
Ctrl-C ends a run after the current frame; the files are complete up to that frame. A frame that cannot be
read, or at which the detector, the tracker or the segmenter fails, is reported and skipped. Detections in
MOT text count frames and pixels from 1.

Exit status: 0; 1 for a full disk, too little memory, an internal error or a run without a frame; 2 for bad
input; 130 if interrupted."""


def add_parser(commands: Any) -> None:
    """Adds ``track`` to the command's subparsers."""
    parser = commands.add_parser(
        "track",
        help="track the objects in a video",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("source", metavar="SOURCE", help="video file, image folder, glob, camera index (0, 1, ...), rtsp:// address")
    add("--out", required=True, type=path, metavar="DIR", help="folder for the results")
    boxes = parser.add_argument_group(
        "source of the boxes (one of --detections, --detector, --text; default: --detector nanodet)"
    )
    boxes.add_argument(
        "--detections",
        type=path_text,
        metavar="FILE",
        help="a file: MOT det.txt, COCO json, npz, npy, csv, KITTI, CVAT, Label Studio, or YOLO's folder of labels",
    )
    boxes.add_argument(
        "--first-frame",
        type=int,
        metavar="N",
        help="the number that the file of --detections gives to the first frame of SOURCE (default: estimated)",
    )
    boxes.add_argument(
        "--frame-base",
        type=int,
        metavar="0|1",
        help="the file of --detections numbers the frames of SOURCE consecutively from 0, or from 1 (default: "
        "estimated)",
    )
    boxes.add_argument(
        "--skip-bad-rows",
        action="store_true",
        help="skip invalid rows of --detections, and count them; otherwise a file with such rows is refused",
    )
    boxes.add_argument(
        "--detector",
        metavar="NAME",
        help="a detector: 'nanodet' (the default; COCO's classes), 'own' (the detection head of --model: any object, "
        "without a class), 'motion' (background subtraction, for a static camera), transformers:MODEL, "
        "ultralytics:FILE, torchvision:NAME (a COCO detector), mmdet:CONFIG:CHECKPOINT, or 'sam3' (objects that "
        "--text names or --exemplar shows, with masks; it needs a GPU and weights that Meta gives on request; "
        "sam3:FOLDER for weights in a folder)",
    )
    boxes.add_argument(
        "--classes",
        metavar="NAMES",
        help="track only these classes: names or numbers of classes of the detector or the file, separated by "
        "commas; people, vehicles and animals are groups of COCO's classes (default: all; nanodet: "
        "people,vehicles,animals)",
    )
    boxes.add_argument(
        "--min-score",
        type=float,
        default=0.0,
        metavar="SCORE",
        help="remove boxes with a lower score, 0 to 1 (default: %(default)g)",
    )
    boxes.add_argument(
        "--nms",
        type=float,
        metavar="IOU",
        help="of two boxes with an IoU above this, of any classes, remove the one with the lower score (default: off; "
        ".5 in the authors' demo)",
    )
    boxes.add_argument(
        "--text",
        metavar="PHRASES",
        help='find the objects that these phrases name, e.g. "a yellow minion. a dog", with --detector '
        "transformers:MODEL (Grounding DINO, OWL), --detector sam3 or --model gdino-swinb; the phrases become "
        "classes 0, 1, ... A list of names instead of phrases: lvis (1,203 names), tao (the same), coco, a .txt "
        "with a name on each line, or a .json of TAO, LVIS or COCO. Parts are in brackets, synonyms follow =, a "
        'score threshold follows a colon: "person:0.4[head, left hand]. car=automobile"; or a .yaml file of '
        "things, parts and stuff. With parts, --detections is allowed as well: the names of its classes must be "
        "the phrases, e.g. person head",
    )
    boxes.add_argument(
        "--stuff",
        metavar="NAMES",
        help='also find stuff (regions without instances): names separated by commas, e.g. "road, sky". Things and '
        "stuff are written as panoptic pictures; with --offline or --post these have the identities of finished "
        "tracks. Needs --stuff-model or --detector sam3",
    )
    boxes.add_argument(
        "--stuff-model",
        metavar="MODEL",
        help="the network that segments stuff: Mask2Former, OneFormer or EoMT, a folder or on the Hugging Face Hub; or "
        "sam3 or sam3:FOLDER (default with --detector sam3: the same SAM 3)",
    )
    boxes.add_argument(
        "--clip",
        metavar="MODEL",
        help="CLIP or SigLIP, for names of stuff that are not classes of --stuff-model: it compares these names with "
        "the masks of that network",
    )
    boxes.add_argument(
        "--parts-by",
        choices=PARTS_BY,
        default=PARTS_BY[0],
        help="with parts and --masks: the mask of a part is the mask for its box (boxes), masks at points of the thing "
        "that vote for the class of the part (votes), or the mask at points in its box (points) (default: %(default)s)",
    )
    add_exemplars(boxes)
    boxes.add_argument(
        "--identities",
        choices=IDENTITIES,
        help="with --detector sam3, what assigns identities: masa (MASA associates the detections of SAM 3), sam3 "
        "(SAM 3 propagates masks from frame to frame; an object that returns gets a new identity), or both (as "
        "sam3, but an object that returns is recognised by its appearance) (default: both; masa if --text names "
        "parts or synonyms, or with --stuff)",
    )
    boxes.add_argument(
        "--semantic",
        action="store_true",
        help="with --detector sam3 and --identities sam3 or both: also write a semantic map of each phrase, for all "
        "instances together, as grey pictures DIR/semantic/000012-0.png (frame 12, phrase 0): 255 x the "
        "probability of a pixel",
    )
    add(
        "--model",
        default=Default("nano"),
        metavar="NAME",
        help="model that embeds the boxes: one that `masa-track models` lists, or a file of weights (default: "
        "%(default)s)",
    )
    add(
        "--checkpoint",
        type=path_text,
        metavar="FILE",
        help="weights to load instead of the model's own (.safetensors, or an official .pth)",
    )
    add(
        "--masa-config",
        type=path_text,
        metavar="FILE.py",
        help="use the model, input size, tracker and thresholds of a MASA configuration for mmdet; options of this "
        "command override those of the file. The file is Python code and is executed",
    )
    add(
        "--preset",
        default=Default("default"),
        metavar="NAME",
        help="how boxes are associated: default (motion and appearance), appearance (embeddings alone), or the "
        "authors' trackers tao, bdd, demo (default: %(default)s)",
    )
    add(
        "--set",
        action="append",
        default=[],
        metavar="OPTION=VALUE",
        help="change one option of the preset, e.g. memory_seconds=10; may be given several times",
    )
    add(
        "--gallery",
        type=path,
        metavar="FILE.npz",
        help="also save the embeddings of the tracks in memory at the end of the run",
    )
    add(
        "--prior",
        metavar="FILE.json",
        help="calibration of the model's cosines, fitted with tools/fit_appearance.py (default: that of the model; "
        "without one, it is learned from the video)",
    )
    add(
        "--class-groups",
        metavar="GROUPS",
        help='groups of classes, by name or number, between which a track cannot change: with "car,truck;person" a car '
        "may become a truck, but not a person; a class in no group is a separate group (default: a track may change to "
        "any class; with nanodet, people, vehicles, animals and other things are four groups)",
    )
    add(
        "--camera-motion",
        action="store_true",
        help="estimate the camera motion and use it in the prediction of boxes",
    )
    add(
        "--stride",
        type=int,
        default=1,
        metavar="N",
        help="track frames 1, 1+N, ...; frame numbers stay those of the video (default: %(default)s)",
    )
    add("--max-frames", type=int, metavar="N", help="stop after N tracked frames")
    add(
        "--masks",
        type=path_text,
        metavar="CHECKPOINT",
        help="add SAM's mask of each tracked box, with a checkpoint of segment-anything (sam_vit_b_01ec64.pth or a "
        "larger one), or with SAM or SAM 2 of transformers (transformers:facebook/sam2.1-hiera-tiny); masks are drawn "
        "in video.mp4 and stored as RLE in tracks.json",
    )
    add(
        "--pool",
        choices=POOLS,
        help="pixels that embeddings are computed from: box (all pixels in the box), or mask (those under the mask, "
        "if a detection has one) (default: mask with nano, box with other models)",
    )
    add(
        "--masklets",
        metavar="NAME",
        help="propagate a mask of each track from frame to frame, as evidence for its identity: flow (optical flow and "
        "colours, needs no weights)",
    )
    add_refine_masks(parser, "with --masklets: ")
    add(
        "--detect-every",
        type=int,
        default=1,
        metavar="N",
        help="with --masklets: run the detector in every Nth tracked frame, and only masklets in the frames between "
        "(default: %(default)s)",
    )
    add_device(parser)
    precision = parser.add_mutually_exclusive_group()
    precision.add_argument(
        "--precision",
        choices=PRECISIONS,
        default=PRECISIONS[0],
        help="number format for the model and for detectors that use torch; fp16 on a GPU only (default: %(default)s)",
    )
    precision.add_argument(
        "--half", dest="precision", action="store_const", const="fp16", help="the same as --precision fp16"
    )
    add(
        "--reconnect",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="if a live address stops sending frames, try to reconnect for this long; 0: end the run at once, inf: try "
        "forever (default: %(default)g)",
    )
    add(
        "--jsonl",
        type=path_text,
        metavar="FILE",
        help="also write each frame immediately as a line of JSON, for other processes to read",
    )
    add(
        "--offline",
        action="store_true",
        help="at the end of the video, improve the tracks with information from all frames, see below",
    )
    add(
        "--post",
        metavar="STEPS",
        help="at the end of the video, post-process the tracks as in the demo of MASA's authors, instead of --offline: "
        "demo, or some of its steps separated by commas: giants (removes tracks of giant boxes), boxes "
        "(each a mean of 5 frames), scores (each the mean of its track)",
    )
    add(
        "--filter-boxes",
        action="store_true",
        help="write and draw boxes of a Kalman filter, which jitter less than those of the detector; identities do not "
        "change (with --offline, boxes are smoothed in another way)",
    )
    add(
        "--max-identities",
        type=int,
        metavar="N",
        help="there are N objects at most, e.g. 5 mice in a cage: after N identities were given, a further box gets "
        "the identity of a missing object",
    )
    add(
        "--show-lost",
        action="store_true",
        help="draw the expected boxes of tracks that were lost less than 2 s ago, dashed",
    )
    add(
        "--color-by",
        choices=COLOR_BY,
        default=COLOR_BY[0],
        help="colours in video.mp4: one for each identity, or one for each class (default: %(default)s)",
    )
    add("--line-width", type=int, metavar="PIXELS", help="width of drawn lines (default: by the size of the video)")
    add(
        "--show-fps",
        action="store_true",
        help="draw the speed of detector and tracker in frames per second, a mean over 10 frames, into the upper left"
        " corner",
    )
    add(
        "--save-frames",
        type=path,
        metavar="DIR",
        help="also save the drawn frames as 000001.jpg, ... in this folder, which must be new or empty",
    )
    add("--no-video", action="store_true", help="do not write video.mp4")
    add("--audio", action="store_true", help="copy the sound of SOURCE, which must be a file, to video.mp4")
    reading = parser.add_argument_group("reading SOURCE")
    reading.add_argument(
        "--stream",
        type=int,
        metavar="N",
        help="which of several video streams of a file to read, from 0 (default: the one marked as default, or the "
        "largest)",
    )
    reading.add_argument(
        "--range",
        metavar="LOW,HIGH",
        help="pixel values of black and white, for pictures with more than 8 bits, e.g. 0,4095 (default: estimated "
        "from the first pictures)",
    )
    reading.add_argument(
        "--deinterlace",
        action="store_true",
        help="for interlaced video: replace the lines of the second field by interpolation",
    )
    add(
        "--resume",
        action="store_true",
        help="continue the run in DIR that was killed or stopped, with the same identities; source and options must be "
        "the same; without a run in DIR, start a new one",
    )
    add_frame_range(parser)
    add(
        "--batch",
        type=int,
        default=1,
        metavar="N",
        help="run the detector on N frames at once, which is faster on a GPU; identities are the same, and boxes "
        "differ by rounding only (default: %(default)s)",
    )
    add(
        "--live-latency",
        type=float,
        default=1.0,
        metavar="SECONDS",
        help="longest delay of the tracks of a camera or an address: if tracking is slower than the source, frames are "
        "dropped, and their number is reported (default: %(default)g)",
    )
    live = parser.add_argument_group("watching and counting (see the guide: cameras and long runs)")
    live.add_argument("--show", action="store_true", help="show the drawn frames in a window; q or Esc ends the run")
    live.add_argument(
        "--http",
        metavar="[HOST:]PORT",
        help="show the drawn frames and the state of the run in browsers, only on this computer unless HOST is given; "
        "port 0 selects any free port",
    )
    live.add_argument(
        "--line",
        action="append",
        default=[],
        metavar="NAME:x1,y1,x2,y2",
        help="count the tracks that cross this line, in each direction; coordinates in pixels; may be given several "
        "times",
    )
    live.add_argument(
        "--zone",
        action="append",
        default=[],
        metavar="NAME:x1,y1,x2,y2,x3,y3,...",
        help="count the tracks in this polygon and measure how long they stay; may be given several times",
    )
    live.add_argument(
        "--blur",
        choices=("faces", "objects"),
        help="make faces, or all objects, unrecognisable in all pictures that are stored or shown",
    )
    live.add_argument(
        "--rotate",
        metavar="TIME",
        help="start a new section of the run after this time of the source, e.g. 1h or 30m: each of DIR/part-000001, "
        "... has all files of a run; identities continue across sections",
    )
    live.add_argument(
        "--keep", metavar="TIME", help="with --rotate: delete sections that ended longer ago than this, e.g. 7d"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs ``track``. The input is checked before the first frame is tracked. Returns the exit status."""
    from masa_track.detectors.selection import chosen_classes
    from masa_track.drawing.blur import Blur
    from masa_track.drawing.tracks import check_line_width
    from masa_track.files import check_file, locked_folder, prepare_folder
    from masa_track.formats.joining import Numbering
    from masa_track.masklets.exemplars import check_frames
    from masa_track.pipeline.counting import Counter, parse_line, parse_zone
    from masa_track.pipeline.http_view import HttpView, parse_http
    from masa_track.pipeline.rotation import last_part
    from masa_track.pipeline.semantic_maps import FOLDER as SEMANTIC
    from masa_track.pipeline.status import status_of
    from masa_track.pipeline.window import Window, check_display
    from masa_track.runs.demo_steps import parse_steps
    from masa_track.runs.resume import check_folder
    from masa_track.video.frame_folder import FrameFolder
    from masa_track.video.sources import open_source
    from masa_track.video.times import frame_of

    check_counts(args, "stride", "max_frames", "batch", "detect_every")
    recipe = recipe_of(args)
    recipe.check()
    if recipe.sam3 is not None:
        check_concepts(args, recipe)
    if sam3_place(recipe.stuff_model) not in (None, recipe.sam3):
        from masa_track.masklets.sam3_weights import check_sam3

        check_sam3(sam3_place(recipe.stuff_model) or "", args.device)
    chosen_dtype(recipe.precision, args.device)  # a mistake is named before the model is loaded
    post = () if args.post is None else parse_steps(args.post)
    if post and args.offline:
        raise InputError("--post and --offline exclude each other: leave one of them out")
    offline = args.offline or bool(post)
    for option, given in (
        ("--filter-boxes", args.filter_boxes),
        ("--show-lost", args.show_lost),
        ("--show-fps", args.show_fps),
    ):
        if given and offline:
            other = "--post" if post else "--offline"
            raise InputError(f"{option} is for tracking without {other}: leave one of them out")
    for option, seconds in (("--reconnect", args.reconnect), ("--live-latency", args.live_latency)):
        if not seconds >= 0:
            raise InputError(f"{option} must be 0 or more seconds, got {seconds}")
    check_line_width(args.line_width)
    rotate, keep = length_of(args.rotate, "--rotate"), length_of(args.keep, "--keep")
    if keep is not None and rotate is None:
        raise InputError(f"--keep {args.keep} deletes old parts of a run: give --rotate, too, e.g. --rotate 1h")
    for option, given in (("--rotate", args.rotate), ("--line", args.line), ("--zone", args.zone)):
        if given and offline:
            raise InputError(f"{option} is for tracking without --offline and --post: leave one of them out")
    lines, zones = [parse_line(text) for text in args.line], [parse_zone(text) for text in args.zone]
    address = None if args.http is None else parse_http(args.http)
    if args.blur is not None:
        Blur(args.blur)
    if args.show:
        check_display()
    frame_folder = None if args.save_frames is None else FrameFolder(args.save_frames, may_hold=args.resume)
    if offline:
        check_read_twice(args.source)
    numbering = Numbering(args.first_frame, args.frame_base)
    if args.detections is None and (numbering.given or args.skip_bad_rows):
        raise InputError("--first-frame, --frame-base and --skip-bad-rows are for --detections: leave them out")
    before = check_folder(last_part(args.out), args.resume or rotate is not None)
    source = open_source(args.source, reconnect=args.reconnect, reading=reading_of(args))
    for remark in source.remarks:
        print(remark, file=sys.stderr)
    if args.audio and (args.no_video or args.rotate is not None or not keeps_sound(source)):
        raise InputError(
            "--audio keeps the sound of a video file in video.mp4: give a file, no --no-video, no --rotate"
        )
    if offline and source.live:
        raise not_twice(args.source)
    start = 1 if args.start is None else frame_of(args.start, source)
    stop = None if args.end is None else frame_of(args.end, source, end=True)
    if stop is not None and stop < start:
        raise InputError(f"--end must not be before --start: frame {stop} is before frame {start}")
    check_outputs(args, source)
    if recipe.sam3 is not None:
        check_frames(recipe.concepts()[1], start, stop, args.stride, source.length)
    counter = Counter(lines, zones, (source.width, source.height)) if lines or zones else None
    boxes = None
    if recipe.detections is not None:
        from masa_track.pipeline.file_boxes import file_boxes

        boxes = file_boxes(recipe.detections, source, numbering, args.skip_bad_rows)
        if recipe.classes is not None:
            chosen_classes(list(recipe.classes), boxes.class_names)

    # Importing what runs the model can take seconds, and so does loading a large one.
    print(f"loading model {args.model}" + (f" on {args.device}" if args.device else ""), file=sys.stderr, flush=True)
    from masa_track.pipeline.loop import track_video
    from masa_track.tracker import MasaTracker

    pipeline = recipe.build(args.device)
    job = pipeline.job(
        source,
        args.out,
        boxes,
        with_video=not args.no_video,
        audio=args.audio,
        stride=args.stride,
        max_frames=args.max_frames,
        offline=offline,
        post=post,
        show_lost=args.show_lost,
        color_by=args.color_by,
        line_width=args.line_width,
        show_fps=args.show_fps,
        frame_folder=frame_folder,
        hint=nothing_found(args),
        batch=args.batch,
        live_latency=args.live_latency,
        start=start,
        stop=stop,
        counter=counter,
        rotate=rotate,
        keep=keep,
    )
    if args.blur is not None:
        job.blur = Blur(args.blur, job.class_names)
    if args.show:
        job.window = Window(f"masa-track: {source.name}")
    job.facts |= {
        "every": f"{args.stride} frames" if args.stride > 1 else "frame",
        **({"tracks": "finished offline"} if args.offline else {}),
        **({"post-processing": ", ".join(post)} if post else {}),
    }
    job.info = info_of_run(job, args.source, recipe, pipeline.model)
    folder = prepare_folder(args.out)
    if frame_folder is not None:
        prepare_folder(frame_folder.path, "--save-frames")
    if args.gallery is not None:
        check_file(args.gallery, "--gallery")
    with ExitStack() as open_files:
        open_files.enter_context(locked_folder(folder))
        if args.resume and before is not None:
            if (last_part(folder) == folder) == (rotate is not None):
                raise InputError(
                    f"--resume: the run in {folder} was made {'with' if rotate is None else 'without'} --rotate: go on "
                    "with it in the same way, or name another folder"
                )
            job.resumed = going_on(last_part(args.out), job.info)
        if args.jsonl is not None:
            from masa_track.formats.jsonl import JsonLinesWriter

            job.lines = open_files.enter_context(
                JsonLinesWriter(args.jsonl, job.class_names, append=job.resumed is not None)
            )
        if address is not None:
            host, port = address
            job.view = open_files.enter_context(HttpView(port, host, status=lambda: status_of(job)))
            print(f"watch at  {job.view.address}", file=sys.stderr, flush=True)
        outcome = track_video(job)
        failed = bool(outcome.faults)
        if args.gallery is not None and outcome.frames:
            try:
                cast(MasaTracker, job.tracker).gallery().save(args.gallery)
            except InputError as error:  # it was checked before: the disk got full
                failed = True
                print(f"masa-track track: error: {error}", file=sys.stderr)
    print(
        summary(outcome, folder if rotate is None else last_part(folder), job.track_activation_threshold, args.detector)
    )
    if recipe.semantic and outcome.frames:
        print(f"maps      {folder / SEMANTIC}")
    if frame_folder is not None and outcome.frames:
        print(f"frames    {frame_folder.path}")
    return 1 if failed or not outcome.frames else 130 if outcome.interrupted else 0


def keeps_sound(source: Source) -> bool:
    """Whether the source is a video file, the sound of which can be kept."""
    from masa_track.video.streams import VideoSource

    return isinstance(source, VideoSource) and bool(source.paths)


def reading_of(args: argparse.Namespace) -> Reading:
    """How the source is to be read."""
    from masa_track.video.depth import parse_range
    from masa_track.video.source import Reading

    value_range = None if args.range is None else parse_range(args.range)
    return Reading(args.stream, value_range, args.deinterlace)


def length_of(text: str | None, argument: str) -> float | None:
    """Seconds of a length of time; None where it is not given."""
    from masa_track.runs.durations import seconds_of

    return None if text is None else seconds_of(text, argument)


def recipe_of(args: argparse.Namespace) -> TrackRecipe:
    """The recipe that the options give.

    Raises:
        InputError: options exclude each other.
    """
    from masa_track.association import current_names
    from masa_track.pipeline.recipe import TrackRecipe

    config = apply_masa_config(args)
    check_boxes_from(args)
    options = current_names(parse_options(args.set))
    if args.filter_boxes:
        options["filter_boxes"] = True
    if args.max_identities is not None:
        options["max_identities"] = args.max_identities
    recipe = TrackRecipe(
        model=str(args.model),
        checkpoint=args.checkpoint,
        precision=args.precision,
        network={} if config is None else config.network,
        preset=str(args.preset),
        options=options,
        prior=args.prior,
        camera_motion=args.camera_motion,
        class_groups=args.class_groups,
        detector=args.detector,
        detections=args.detections,
        first_frame=args.first_frame,
        frame_base=args.frame_base,
        skip_bad_rows=args.skip_bad_rows,
        stream=args.stream,
        value_range=args.range,
        deinterlace=args.deinterlace,
        text=args.text,
        stuff=args.stuff,
        stuff_model=args.stuff_model,
        clip=args.clip,
        parts_by=args.parts_by,
        exemplars=tuple(args.exemplar),
        negative_exemplars=tuple(args.negative_exemplar),
        identities=args.identities or "masa",
        truncate=args.truncate,
        semantic=args.semantic,
        classes=args.classes,
        min_score=args.min_score,
        nms=args.nms,
        masks=args.masks,
        masklets=args.masklets,
        detect_every=args.detect_every,
        pool=args.pool,
        refine_masks=args.refine_masks,
    )
    # SAM 3 tracks what phrases name, and MASA what a hierarchy names.
    tracks = recipe.sam3 is not None and args.identities is None and recipe.hierarchy is None
    return replace(recipe, identities="both") if tracks else recipe


def check_concepts(args: argparse.Namespace, recipe: TrackRecipe) -> None:
    """Finds mistakes in a run with SAM 3 before anything is loaded.

    Raises:
        InputError: its files or a GPU are not there, or an option is given that it does not have.
    """
    from masa_track.masklets.sam3_weights import check_sam3

    if args.resume and recipe.identities == "masa" and (recipe.exemplars or recipe.negative_exemplars):
        raise InputError(
            "--resume with --identities masa needs a run without exemplars: what they showed is not stored; use "
            "--identities sam3 or both, or track SOURCE anew"
        )
    for option, given in (("--gallery", args.gallery), ("--show-lost", args.show_lost), ("--rotate", args.rotate)):
        if given and recipe.identities != "masa":
            raise InputError(f"{option} needs --identities masa, got {recipe.identities}: leave one of them out")
    check_sam3(recipe.sam3 or "", args.device)


def info_of_run(job: Job, source: str, recipe: TrackRecipe, model: BaseEmbedder) -> RunInfo:
    """What the record says of the run."""
    from masa_track.pipeline.sinks import info_of
    from masa_track.video.addresses import masked

    file = Path(source)
    read = {"SOURCE": file} | ({} if recipe.detections is None else {"--detections": Path(recipe.detections)})
    status = {name: path.stat() for name, path in read.items() if path.is_file()}
    return replace(
        info_of(job),
        source=masked(source) if "://" in source else source if source.isdecimal() else str(file.resolve()),
        recipe=recipe.as_dict(),
        model_key=model.key,
        inputs={name: [float(of.st_size), of.st_mtime] for name, of in status.items()},
    )


def going_on(folder: Path, info: RunInfo) -> Resumed:
    """The run in the folder, which is to be continued.

    Raises:
        InputError: it was of another source, version, model or option.
    """
    from masa_track.runs.resume import check_same, resumed
    from masa_track.runs.store import open_store

    with open_store(folder) as store:
        check_same(store.info, info)
        return resumed(store)


def check_read_twice(source: str) -> None:
    """Refuses, before it is opened, a camera, a stream or a pipe.

    Raises:
        InputError: it is one of these.
    """
    scheme, address, _ = source.partition("://")
    place = Path(source)
    special = place.exists() and not place.is_file() and not place.is_dir()
    if source.isdecimal() or (address and scheme.lower() not in ("http", "https")) or special:
        raise not_twice(source)


def not_twice(source: str) -> InputError:
    """The error for a source that gives its frames once."""
    from masa_track.video.addresses import masked

    return InputError(
        "--offline reads the source twice, and so does --post, so it must be a video file or images, got "
        f"{masked(source)}: leave it out, and finish the tracks afterwards: masa-track export DIR --finish (or --post)"
    )


def check_outputs(args: argparse.Namespace, source: Source) -> None:
    """Checks, before any work is done, that the results can be written to their places.

    Raises:
        InputError: a result would overwrite a file that is read or another result, or its place cannot be written.
    """
    from masa_track.files import check_file, check_overwriting
    from masa_track.pipeline.semantic_maps import FOLDER
    from masa_track.pipeline.sinks import RESULTS

    for name in RESULTS:
        if (args.out / name).exists() and not (args.out / name).is_file():
            raise InputError(
                f"--out {args.out} holds {name}, which is not a regular file: remove it, or name another folder"
            )
    if args.semantic and (args.out / FOLDER).exists() and not (args.out / FOLDER).is_dir():
        raise InputError(
            f"--semantic writes into the folder {args.out / FOLDER}, which is a file: remove it, or name another --out"
        )
    if args.gallery is not None:
        if args.preset != "default" or args.gallery.suffix != ".npz":
            raise InputError(
                f"--gallery needs --preset default and a file that ends in .npz, got {args.preset} and {args.gallery}"
            )
        if args.out.is_dir() or os.path.realpath(args.gallery.parent) != os.path.realpath(args.out):
            check_file(args.gallery, "--gallery")
    outputs = [("--out", args.out / name) for name in RESULTS]
    outputs += [(f"--{name}", Path(value)) for name in ("jsonl", "gallery") if (value := getattr(args, name))]
    check_overwriting(outputs, files_read(args, source))


def files_read(args: argparse.Namespace, source: Source) -> Iterator[tuple[str, Path]]:
    """The files that a run reads, each with its argument; some of them may not exist."""
    yield "SOURCE", Path(args.source)
    for file in getattr(source, "paths", ()):  # of images, or the video of a folder
        yield "SOURCE", file
    yield from (("SOURCE", folder / "seqinfo.ini") for folder in (Path(args.source), Path(args.source).parent))
    for name in ("detections", "model", "checkpoint", "prior", "masks", "masa_config"):
        if getattr(args, name) is not None:
            yield f"--{name.replace('_', '-')}", Path(getattr(args, name))
    for name in ("model", "checkpoint"):
        if getattr(args, name):
            yield f"--{name}", Path(getattr(args, name)).with_suffix(".prior.json")
    if args.text is not None and (is_list(args.text) or args.text.strip().endswith((".yaml", ".yml"))):
        yield "--text", Path(args.text)
    if args.detector is not None:
        _, _, model = args.detector.partition(":")
        for part in {model, *model.split(":")} - {""}:
            place = Path(part)
            yield "--detector", place
            if place.is_dir():
                yield from (("--detector", file) for file in place.iterdir())


def check_boxes_from(args: argparse.Namespace) -> None:
    """Sets where the boxes come from: a file, a detector (some take a text), a text, or else nanodet.

    Raises:
        InputError: several are given that exclude each other, or --classes names a class that nanodet does not have.
    """
    given = [f"--{name}" for name in ("detections", "detector", "text") if getattr(args, name) is not None]
    if not given:
        args.detector = "nanodet"
    if args.classes is not None:
        args.classes = tuple(name.strip() for name in args.classes.split(","))
    takes_text = (args.detector or "").startswith("transformers:") or sam3_place(args.detector) is not None
    may_name_parts = args.text is not None and args.detector is None  # of a file; the recipe's check asks for parts
    if len(given) > 1 and not (takes_text and args.detections is None) and not may_name_parts:
        raise InputError(
            f"{' and '.join(given)} exclude each other: give one, or --text with --detector transformers:MODEL or sam3"
        )


def nothing_found(args: argparse.Namespace) -> str:
    """The hint that is printed after the first frames if nothing was found in them; empty: no hint."""
    if args.detector != "nanodet":
        return ""
    wider = "" if args.classes == ("all",) else ", or --classes all"
    return f"no COCO class found in the first {{frames}} frames; try --detector own or motion{wider}"


_LONGEST_OPTION = 200


def parse_options(pairs: list[str]) -> dict[str, Any]:
    """``["memory_seconds=10", "class_aware=True"]`` as ``{"memory_seconds": 10, "class_aware": True}``."""
    options: dict[str, Any] = {}
    for pair in pairs:
        name, sign, text = pair.partition("=")
        if not sign or not name:
            raise InputError(f"--set takes OPTION=VALUE, got {pair!r}, e.g. --set memory_seconds=10")
        if len(pair) > _LONGEST_OPTION:  # Python's parser fails on thousands of signs or brackets
            raise InputError(f"--set takes OPTION=VALUE of at most {_LONGEST_OPTION} characters, got {pair[:40]}...")
        try:
            options[name.strip()] = ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            options[name.strip()] = text.strip()
    from masa_track.association import current_names

    return current_names(options)
