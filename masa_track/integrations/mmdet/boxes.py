"""Where a frame's boxes come from: given with it, a file of public detections, a detector, or the model's own head.

Each is a function of a :class:`FrameInput` that gives ``bboxes`` (N, 4), xyxy pixels of the original picture,
``scores`` (N,) and ``labels`` (N,); where it has them and they are asked for, also ``masks`` (N, H, W) bool.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor

from masa_track.errors import InputError
from masa_track.formats.detections import DetectionFile, read_detections
from masa_track.integrations.mmdet.detectors import DetectorText
from masa_track.integrations.mmdet.masks import bool_masks
from masa_track.video.images import IMAGE_SUFFIXES, natural_order

PUBLIC_PLACES = ("{}.npz", "{}.json", "{}.txt", "{}/det/det.txt")  # below public_det_path, by the video's name


@dataclass
class FrameInput:
    """A frame on its way through the model.

    Attributes:
        image: (1, 3, H, W) normalised and padded.
        sample: what is known of it: ``ori_shape``, ``img_shape``, ``scale_factor``, ``img_path``, ...
        network: the network, see :class:`~masa_track.models.official.OfficialMasa`.
        maps: of the backbone, where a detector that shares it has computed them.
        with_masks: whether masks are asked for.
    """

    image: Tensor
    sample: DetDataSample
    network: Any
    maps: Sequence[Tensor] | None = None
    with_masks: bool = False
    _levels: list[Tensor] | None = field(default=None, repr=False)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the original."""
        height, width = self.sample.metainfo["ori_shape"][:2]
        return height, width

    @property
    def factors(self) -> Tensor:
        """(4,) from xyxy pixels of the original to the input's."""
        return self.image.new_tensor(self.sample.metainfo.get("scale_factor", (1.0, 1.0))).repeat(2)

    def levels(self) -> list[Tensor]:
        """The pyramid, computed once."""
        if self._levels is None:
            if self.maps is not None:
                self._levels = self.network.adapt(self.maps)
            else:
                self._levels = self.network.pyramid(self.image)
        return self._levels


Boxes = Callable[[FrameInput], InstanceData]


def instances(frame: FrameInput, boxes: Any, scores: Any, labels: Any, masks: Any = None, of: str = "") -> InstanceData:
    """Boxes (N, 4), scores (N,) and labels (N,) as tensors on the device of the frame, with masks if asked for.

    Raises:
        InputError: masks are asked for and there are none, or none of this picture; ``of`` says what should have them.
    """
    device = frame.image.device
    found = InstanceData(
        bboxes=torch.as_tensor(boxes, dtype=torch.float32, device=device).reshape(-1, 4),
        scores=torch.as_tensor(scores, dtype=torch.float32, device=device),
        labels=torch.as_tensor(labels, dtype=torch.long, device=device),
    )
    if frame.with_masks:
        if masks is None and len(found):
            raise InputError(f"with_segm=True needs a mask a box, but {of} has none: leave with_segm out")
        found.masks = bool_masks(() if masks is None else masks, len(found), frame.size, f"masks of {of}").to(device)
    return found


def given_boxes(frame: FrameInput) -> InstanceData:
    """The data sample's ``det_bboxes``, (N, 4) or with scores (N, 5), ``det_labels`` (N,) and perhaps ``det_masks``."""
    sample = frame.sample
    if "det_bboxes" not in sample or "det_labels" not in sample:
        raise InputError("given_dets=True: every data sample must have det_bboxes (N, 4) or (N, 5) and det_labels (N,)")
    boxes = torch.as_tensor(sample.det_bboxes)
    boxes = boxes.reshape(-1, boxes.shape[-1] if boxes.ndim == 2 else 5)
    if boxes.shape[1] not in (4, 5) or len(boxes) != len(sample.det_labels):
        raise InputError(
            f"det_bboxes must be (N, 4) or (N, 5) beside det_labels (N,), got {tuple(boxes.shape)} and "
            f"{len(sample.det_labels)} labels"
        )
    scores = boxes[:, 4] if boxes.shape[1] == 5 else torch.ones(len(boxes))
    masks = sample.get("det_masks")
    return instances(frame, boxes[:, :4], scores, sample.det_labels, masks, "the data sample (det_masks)")


def own_boxes(frame: FrameInput) -> InstanceData:
    """What the model's own class-agnostic head finds; all of label 0."""
    if getattr(frame.network, "roi_head", None) is None or frame.network.rpn_head is None:
        raise InputError(
            "there are no boxes to track: give MASA a detector, given_dets=True, public_det_path, or an rpn_head and "
            "a roi_head to find boxes with"
        )
    ((boxes, scores),) = frame.network.detect(frame.levels(), [frame.sample.metainfo["img_shape"][:2]])
    return instances(frame, boxes / frame.factors, scores, torch.zeros(len(boxes)), of="the model's own head")


@dataclass(frozen=True)
class _Folder:
    """A video as :func:`~masa_track.formats.detections.read_detections` needs to know it."""

    name: str
    width: int
    height: int
    file_names: Sequence[str]
    last_number: int | None = None

    @property
    def length(self) -> int:
        return len(self.file_names)


class PublicBoxes:
    """Detections from files, a video at a time; npz, json or MOT text, never a pickle.

    A frame's video is the folder that its picture lies in (above ``img1``), its number the picture's place in there.

    Args:
        path: one file; a file's path with ``{video}`` in it; or a folder of ``VIDEO.npz``, ``VIDEO.json``,
            ``VIDEO.txt`` or ``VIDEO/det/det.txt``. Where a video's name is not found, its folder's names above it are
            asked for, too (``val/YFCC100M/v_25``).
        class_names: of the labels to be given; classes that the file names are looked up in them.
    """

    def __init__(self, path: str, class_names: Sequence[str] | None = None) -> None:
        if "{video}" not in path and not Path(path).exists():
            raise InputError(f"public_det_path must be a file or a folder, but there is no {path}")
        self.path, self.class_names = path, list(class_names or ())
        self._folder: Path | None = None
        self._numbers: dict[str, int] = {}
        self._file: DetectionFile | None = None

    def __call__(self, frame: FrameInput) -> InstanceData:
        """The frame's boxes."""
        picture = Path(frame.sample.metainfo["img_path"])
        if self._file is None or picture.parent != self._folder:
            self._open(picture.parent, frame.size)
        assert self._file is not None
        number = self._numbers[picture.name]
        found, masks = self._file.at(number), self._file.masks_at(number)
        assert found.class_id is not None
        whole = masks if masks and all(masks) else None
        labels = self._labels(found.class_id)
        return instances(frame, found.xyxy, found.confidence, labels, whole, str(self._file.path))

    def _open(self, folder: Path, size: tuple[int, int]) -> None:
        names = sorted(
            (p.name for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")),
            key=lambda name: natural_order(Path(name)),
        )
        video = folder.parent if folder.name == "img1" else folder
        file = self._find(video)
        seen: Any = _Folder(video.name, size[1], size[0], names, _sequence_length(video))  # frozen; it is only read
        self._file = read_detections(file, seen)
        self._folder, self._numbers = folder, {name: number for number, name in enumerate(names, 1)}

    def _find(self, video: Path) -> Path:
        if "{video}" in self.path:
            return Path(self.path.format(video=video.name))
        root = Path(self.path)
        if root.is_file():
            return root
        parts = video.parts
        for start in range(len(parts) - 1, -1, -1):
            for place in PUBLIC_PLACES:
                file = root / place.format("/".join(parts[start:]))
                if parts[start] != video.anchor and file.is_file():
                    return file
        places = ", ".join(place.format(video.name) for place in PUBLIC_PLACES)
        pickles = next(root.rglob("*.pth"), None)
        more = f"; pickles such as {pickles} are turned by tools/convert_public_detections.py" if pickles else ""
        raise InputError(f"public_det_path {root} has no detections of {video.name} (searched for {places}){more}")

    def _labels(self, class_ids: np.ndarray) -> list[int]:
        assert self._file is not None
        names = self._file.class_names
        if not self.class_names or not names:
            return [int(i) for i in class_ids]
        labels = []
        for number in class_ids.tolist():
            name = names.get(number, str(number))
            if name not in self.class_names:
                raise InputError(
                    f"{self._file.path}: class {name!r} is not among the {len(self.class_names)} of the data set "
                    f"({', '.join(self.class_names[:8])}, ...)"
                )
            labels.append(self.class_names.index(name))
        return labels


def _sequence_length(video: Path) -> int | None:
    """A MOTChallenge sequence's whole length, where its folder holds only the first of its pictures."""
    info = video / "seqinfo.ini"
    if not info.is_file():
        return None
    for line in info.read_text(encoding="utf-8-sig").splitlines():
        key, _, value = line.partition("=")
        if key.strip().lower() == "seqlength" and value.strip().isdigit():
            return int(value)
    return None


class DetectorBoxes:
    """Any mmdet detector, fed the picture as it was trained to see it.

    Args:
        detector: in evaluation mode.
        shared: it shares its backbone with the model, whose maps are kept.
        same_input: it is fed the model's input, as it shares its backbone or has no preprocessing of its own.
        undo: from the model's input (1, 3, H, W) to a picture (H, W, 3) uint8 BGR, padding included.
        scale: (width, height) that the picture is fitted into for the detector; None leaves the model's size.
        text: for a detector that takes one, e.g. ``a dog. a cat``, or a list of names, e.g. ``lvis``.
        custom_entities: see :class:`~masa_track.integrations.mmdet.detectors.DetectorText`.
    """

    def __init__(
        self,
        detector: Any,
        shared: bool,
        same_input: bool,
        undo: Callable[[Tensor], np.ndarray],
        scale: tuple[int, int] | None = None,
        text: str | None = None,
        custom_entities: bool = True,
    ) -> None:
        self._text = DetectorText(detector, custom_entities)
        self.detector, self.shared, self.same_input = detector, shared, same_input
        self.undo, self.scale, self.text = undo, scale, text

    def __call__(self, frame: FrameInput) -> InstanceData:
        """What the detector finds, masks included; boxes that are not finite are left out."""
        known = frame.sample.metainfo
        keys = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor", "batch_input_shape", "pad_shape")
        sample = DetDataSample(metainfo={key: known[key] for key in keys if key in known})
        text = self.text if self.text is not None else known.get("text")
        if text is not None:
            sample.set_metainfo(self._text.prepare(text))
        if self.same_input:
            with kept_output(self.detector.backbone) as kept:
                image = frame.image.contiguous()  # mmcv's operators misread channels last
                (done,) = self.detector.predict(image, [sample], rescale=True)
            if self.shared:
                frame.maps = kept[0]
        else:
            data = self._input(frame, sample)
            (done,) = self.detector.predict(data["inputs"], data["data_samples"], rescale=True)
        found = done.pred_instances
        found = found[found.bboxes.isfinite().all(dim=1) & found.scores.isfinite()]  # YOLOX can overflow
        masks, of = found.get("masks"), f"the detector {type(self.detector).__name__}"
        return instances(frame, found.bboxes, found.scores, found.labels, masks, of)

    def _input(self, frame: FrameInput, sample: DetDataSample) -> dict[str, Any]:
        height, width = sample.img_shape[:2]
        picture = self.undo(frame.image)[:height, :width]
        if self.scale is not None:
            picture = mmcv.imrescale(picture, tuple(self.scale))
            old_height, old_width = sample.ori_shape[:2]
            new_height, new_width = picture.shape[:2]
            factors = (new_width / old_width, new_height / old_height)
            sample.set_metainfo({"img_shape": (new_height, new_width), "scale_factor": factors})
        image = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))
        return self.detector.data_preprocessor({"inputs": [image], "data_samples": [sample]}, False)


@contextmanager
def kept_output(module: torch.nn.Module) -> Iterator[list[Any]]:
    """Gives a list that holds what the module gave while in this context."""
    kept: list[Any] = []
    handle = module.register_forward_hook(lambda module, inputs, output: kept.append(output))
    try:
        yield kept
    finally:
        handle.remove()
