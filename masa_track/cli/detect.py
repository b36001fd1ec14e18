"""`masa-track detect`: what a detector finds in pictures, as json of COCO's form and drawn."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from masa_track.cli.arguments import Default, add_device, add_exemplars, path, path_text
from masa_track.cli.detect_refer import (
    add_options,
    answer_tables,
    as_reference,
    caption_boxes,
    checked_sentences,
    draw_answers,
    looks_for_sentences,
    open_asked,
    with_captions,
)
from masa_track.errors import InputError
from masa_track.pipeline.network import PRECISIONS, chosen_dtype

if TYPE_CHECKING:
    import numpy as np
    import supervision as sv

    from masa_track.contracts import Frame
    from masa_track.parts.hierarchy import Hierarchy
    from masa_track.pipeline.recipe import Boxes, TrackRecipe
    from masa_track.refer.answers import Answer
    from masa_track.refer.pictures import PictureReferrer
    from masa_track.video.sources import Source

_OWN_PICTURE = re.compile(r"\d{6,}\.(jpg|png)")
RESULT, PICTURES = "detections.json", "pictures"  # in the folder of the results

_DESCRIPTION = """\
Detects objects in pictures, without tracking them. SOURCE is a folder of pictures, a pattern, a picture or
a video. Each frame of a video is one picture."""

_EPILOG = f"""\
DIR gets
  {RESULT}   a data set in COCO's form: images (numbered from 1), categories, and annotations with score, bbox
             and, for detectors with masks, segmentation (RLE). With sam3 each image has the presence of phrases.
             With parts in --text, annotations have part, phrase and parent_id (the annotation of the parent).
             With --refer there is the list references of {{image_id, sentence, annotation_id or null, score, margin,
             used, also, note}}.
  {PICTURES}/         the pictures with boxes, masks, class names and scores: 000001.jpg is that of image 1.
             With --refer they show the answers with their sentences, and other boxes dashed.

Results of an earlier run in DIR are replaced. To track the detections:
masa-track track SOURCE --detections DIR/{RESULT}

examples:
  masa-track detect photos/ --out found
  masa-track detect photos/ --detector fasterrcnn_resnet50_fpn_v2 --min-score 0.5 --out found
  masa-track detect photos/ --detector transformers:IDEA-Research/grounding-dino-tiny --text "a dog" --out found
  masa-track detect photos/ --detector sam3 --text "a yellow minion. a dog" --out found
  masa-track detect photos/ --detector sam3 --exemplar 1:10,20,60,90 --out found
  masa-track detect photos/ --detector sam3 --text "person[head, hand]" --out found
  masa-track detect street.jpg --refer "the second person from the left" "the largest car" --out found
  masa-track detect street.jpg --refer "the man in the red coat" --referrer owlv2 --out found
  masa-track detect street.jpg --detector transformers:IDEA-Research/grounding-dino-tiny \\
      --refer "the man in the red coat" --out found

Sentences about motion and time ("moving right", "the first to leave") have no answer in one picture. Use
masa-track refer on the tracks of a video for them.

Exit status: 0; 1 for a full disk, too little memory, an internal error or no picture that could be read; 2 for bad
input; 130 if interrupted: {RESULT} then has the pictures that were finished."""


def add_parser(commands: Any) -> None:
    """Adds ``detect`` to the command's subparsers."""
    parser = commands.add_parser(
        "detect",
        help="find objects in pictures, without identities",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("source", metavar="SOURCE", help="folder of pictures, pattern, picture or video")
    add("--out", required=True, type=path, metavar="DIR", help="folder for the results")
    add("--detector", metavar="NAME", help="as of track: nanodet (the default), sam3, torchvision:NAME, ...")
    add("--text", metavar="PHRASES", help='as of track: objects to find, e.g. "a yellow minion. a dog"')
    add_exemplars(parser)
    add("--classes", metavar="NAMES", help="as of track: keep only these classes")
    add("--min-score", type=float, default=0.0, metavar="SCORE", help="remove boxes with a lower score, 0 to 1")
    add(
        "--nms",
        type=float,
        metavar="IOU",
        help="as of track: of two boxes with an IoU above this, remove the one with the lower score",
    )
    add(
        "--model",
        default=Default("nano"),
        metavar="NAME",
        help="model that --detector own or --text uses (default: %(default)s)",
    )
    add("--checkpoint", type=path_text, metavar="FILE", help="weights to load instead of the model's own")
    add_device(parser)
    add("--precision", choices=PRECISIONS, default=PRECISIONS[0], help="number format for detectors that use torch")
    add("--no-pictures", action="store_true", help="do not draw pictures")
    add_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs ``detect``. Returns the exit status."""
    from masa_track.files import check_overwriting, locked_folder, prepare_folder
    from masa_track.masklets.exemplars import check_frames
    from masa_track.video.sources import open_source

    texts = checked_sentences(args)
    recipe = _recipe(args)
    captions = bool(texts) and looks_for_sentences(recipe)
    if captions and args.referrer is not None:
        raise InputError(
            f"--referrer is for what the grammar does not understand, but --detector {args.detector} looks for the "
            "sentences itself: name classes in --text, or leave --referrer out"
        )
    if captions:
        recipe = with_captions(recipe, texts)
    recipe.check()
    chosen_dtype(recipe.precision, args.device)
    source = open_source(args.source)
    if source.live:
        raise InputError(f"SOURCE must be pictures or a video file, got {source.name}, which is live")
    if recipe.sam3 is not None:
        from masa_track.masklets.sam3_weights import check_sam3

        check_frames(recipe.concepts()[1], 1, None, 1, source.length)
        check_sam3(recipe.sam3, args.device)
    read = [("SOURCE", Path(args.source)), *(("SOURCE", file) for file in getattr(source, "paths", ()))]
    check_overwriting([("--out", args.out / RESULT)], read)
    if (args.out / PICTURES).resolve() in (Path(args.source).resolve(), Path(args.source).resolve().parent):
        raise InputError(f"--out {args.out} would replace the pictures of SOURCE: name another folder")
    old = _earlier(args.out)
    print(f"loading detector {args.detector or 'of --text'}", file=sys.stderr, flush=True)
    if captions:
        boxes = caption_boxes(recipe, texts, args.refer_threshold, args.device)
    else:
        boxes = _open_boxes(recipe, args.device)
    asked = open_asked(args, texts, boxes, captions)
    folder = prepare_folder(args.out)
    with locked_folder(folder):
        for picture in old:
            picture.unlink()
        return _detect(args, recipe, source, boxes, asked, folder)


def _earlier(folder: Path) -> list[Path]:
    """The pictures of an earlier run in the folder of the results.

    Raises:
        InputError: there are pictures, but no result of an earlier run beside them.
    """
    found = sorted((folder / PICTURES).iterdir()) if (folder / PICTURES).is_dir() else []
    own = [file for file in found if _OWN_PICTURE.fullmatch(file.name)]
    if found and (own != found or not (folder / RESULT).is_file()):
        raise InputError(
            f"--out {folder} holds {PICTURES}/ with files that are no results of detect: name another folder"
        )
    return own


def _recipe(args: argparse.Namespace) -> TrackRecipe:
    """The part of a track's recipe that finds boxes."""
    from masa_track.cli.track import check_boxes_from
    from masa_track.pipeline.recipe import TrackRecipe

    args.detections = None
    check_boxes_from(args)
    return TrackRecipe(
        model=str(args.model),
        checkpoint=args.checkpoint,
        precision=args.precision,
        detector=args.detector,
        text=args.text,
        exemplars=tuple(args.exemplar),
        negative_exemplars=tuple(args.negative_exemplar),
        truncate=args.truncate,
        classes=args.classes,
        min_score=args.min_score,
        nms=args.nms,
    )


def _model(recipe: TrackRecipe, device: str | None) -> Any:
    """The model on whose backbone the detector works; None for the others."""
    from masa_track.registry import OWN

    if recipe.detector not in (None, OWN):
        return None
    from masa_track.encoders.loading import load

    dtype = chosen_dtype(recipe.precision, device)
    return load(recipe.model, device=device, checkpoint=recipe.checkpoint, dtype=dtype)


def _open_boxes(recipe: TrackRecipe, device: str | None) -> Boxes:
    """The detector; of things and parts where the text names parts."""
    model, hierarchy = _model(recipe, device), recipe.hierarchy
    if hierarchy is None:
        return recipe.open_boxes(model, device)
    from masa_track.pipeline.scenes import open_scene

    found = open_scene(recipe, hierarchy, model, device, None)[1]
    assert found is not None  # no boxes of a file
    return found


def _detect(
    args: argparse.Namespace,
    recipe: TrackRecipe,
    source: Source,
    boxes: Boxes,
    asked: PictureReferrer | None,
    folder: Path,
) -> int:
    """The work in the locked folder."""
    from tqdm import tqdm

    from masa_track.files import prepare_folder, write_text
    from masa_track.pipeline.stages import detect
    from masa_track.stop import Stop
    from masa_track.video.frame_folder import FrameFolder

    select = _selection(recipe, boxes)
    pictures = None if args.no_pictures else FrameFolder(prepare_folder(folder / PICTURES, "--out"), may_hold=True)
    data = _DataSet(boxes.class_names, None if asked is None else [])
    hierarchy = recipe.hierarchy
    broken = 0

    def skipped(number: int, reason: str) -> None:
        nonlocal broken
        broken += 1
        tqdm.write(f"picture {number} skipped: {reason}", file=sys.stderr)

    with Stop() as stop, tqdm(total=source.length, unit="picture", dynamic_ncols=True, desc=source.name) as bar:
        for frame in source.frames(1, None, skipped):
            try:
                found = select(detect(boxes.detector, [frame], None)[0][0])
                first = len(data.annotations) + 1
                if hierarchy is not None:
                    found.data["parent_id"] = _parents(hierarchy, found, first)
                answers = None if asked is None else asked.answers(frame, found, first)
            except InputError as error:
                skipped(frame.number, str(error))
                continue
            data.add(frame, found, answers or ())
            if pictures is not None and answers is not None:
                pictures.write(frame, draw_answers(frame, found, answers, first))
            elif pictures is not None:
                pictures.write(frame, _drawn(frame, found, boxes.class_names, first))
            bar.update()
            if stop.asked:
                break
    write_text(folder / RESULT, data.text())
    if data.references is not None:
        print(answer_tables(data.references, {image["id"]: image["file_name"] for image in data.images}))
        if args.referrer is None and any("without a model" in one["note"] for one in data.references):
            print("note: add --referrer for what was not understood", file=sys.stderr)
    print(
        f"{len(data.annotations):,} objects in {len(data.images):,} pictures"
        + (f", {broken} pictures skipped" if broken else "")
    )
    print(f"results   {folder / RESULT}" + ("" if pictures is None else f", {pictures.path}"))
    return 130 if stop.asked else 0 if data.images else 1


def _selection(recipe: TrackRecipe, boxes: Boxes) -> Any:
    from masa_track.detectors.selection import Selection, chosen_classes

    classes = None
    if recipe.classes is not None and recipe.detector != "nanodet":
        classes = chosen_classes(list(recipe.classes), boxes.class_names)
    return Selection(classes, recipe.min_score, recipe.nms)


def _parents(hierarchy: Hierarchy, found: sv.Detections, first: int) -> np.ndarray:
    """(N,) number of what each part belongs to, the first box having the number ``first``; -1 for none."""
    import numpy as np

    from masa_track.formats.rows import class_ids
    from masa_track.parts.tree import assign_parents

    masks = None if found.mask is None else np.asarray(found.mask)
    rows = assign_parents(hierarchy, class_ids(found), np.asarray(found.xyxy), masks)
    return np.where(rows >= 0, rows + first, -1)


class _DataSet:
    """Images, categories and annotations in COCO's form, and the answers to sentences, None where none is asked."""

    def __init__(self, class_names: Mapping[int, str], references: list[dict[str, Any]] | None = None) -> None:
        self.references = references
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        self.categories = dict(class_names)

    def add(self, frame: Frame, found: sv.Detections, answers: Sequence[Answer] = ()) -> None:
        """Adds a picture, what was found in it, and which of it sentences mean."""
        import numpy as np

        from masa_track.formats.rows import class_ids, class_name, confidences, part_fields, plain_text
        from masa_track.masks import encode_mask

        width, height = frame.size
        image = {"id": frame.number, "file_name": frame.name, "width": width, "height": height}
        if presence := found.metadata.get("presence"):
            image["presence"] = {plain_text(name): round(float(value), 4) for name, value in presence.items()}
        self.images.append(image)
        corners = np.asarray(found.xyxy, np.float64)
        parts = part_fields(found) if "part" in found.data else [{} for _ in range(len(found))]
        for row, (kind, score) in enumerate(zip(class_ids(found), confidences(found), strict=True)):
            self.categories.setdefault(int(kind), class_name(int(kind), None))
            x1, y1, x2, y2 = (round(float(value), 3) for value in corners[row])
            one: dict[str, Any] = {
                "id": len(self.annotations) + 1,
                "image_id": frame.number,
                "category_id": int(kind),
                "bbox": [x1, y1, round(x2 - x1, 3), round(y2 - y1, 3)],
                "area": round((x2 - x1) * (y2 - y1), 3),
                "score": round(float(score), 4),
                "iscrowd": 0,
                **parts[row],
            }
            if found.mask is not None:
                mask: np.ndarray = np.asarray(found.mask[row])
                one["segmentation"], one["area"] = encode_mask(mask), int(np.count_nonzero(mask))
            self.annotations.append(one)
        if self.references is not None:
            self.references += [as_reference(frame.number, answer) for answer in answers]

    def text(self) -> str:
        """The whole as json."""
        from masa_track.formats.rows import plain_text

        categories = [{"id": kind, "name": plain_text(name)} for kind, name in sorted(self.categories.items())]
        content = {"images": self.images, "categories": categories, "annotations": self.annotations}
        if self.references is not None:
            content["references"] = self.references
        return json.dumps(content, allow_nan=False)


def _drawn(frame: Frame, found: sv.Detections, class_names: Mapping[int, str], first: int) -> np.ndarray:
    """The picture with what was found in it, a colour each; parents of parts are given as numbers from ``first`` on."""
    import numpy as np
    import supervision as sv

    from masa_track.drawing.tracks import TrackDrawer
    from masa_track.formats.rows import class_ids

    shown = sv.Detections(
        xyxy=np.asarray(found.xyxy),
        mask=found.mask,
        confidence=found.confidence,
        class_id=class_ids(found),
        tracker_id=np.arange(len(found)),
    )
    if "part" in found.data:
        parents = np.asarray(found.data["parent_id"])
        shown.data = {"part": found.data["part"], "parent_id": np.where(parents < 0, -1, parents - first)}
    return TrackDrawer(*frame.size, 1.0, class_names, scores=True).draw(frame.picture, shown)
