"""MASA as an mmdet model: detector and network by configuration, ``predict`` to track, ``loss`` to train."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmdet.models.mot import BaseMOTModel
from mmdet.registry import MODELS
from mmdet.structures import TrackDataSample
from mmengine.hub import get_config
from torch import Tensor, nn

from masa_track.errors import InputError
from masa_track.integrations.mmdet.boxes import (
    Boxes,
    DetectorBoxes,
    FrameInput,
    PublicBoxes,
    given_boxes,
    own_boxes,
)
from masa_track.integrations.mmdet.detectors import fix_ref_point_head, fix_text_encoder
from masa_track.integrations.mmdet.network import make_network
from masa_track.integrations.mmdet.trackers import MasaBaseTracker
from masa_track.integrations.mmdet.views import view_boxes
from masa_track.models.checkpoints import read_checkpoint
from masa_track.training.model import TrainingModel
from masa_track.video.images import read_image

OFFICIAL_NAMES = ("masa_adapter", "rpn_head", "roi_head", "track_head")  # the network's parts, as checkpoints call them


@MODELS.register_module()
class MASA(BaseMOTModel):
    """Gives any detector's boxes identities. Takes the keys of the authors' configurations and a few more.

    The boxes are, the first that is asked for: public detections, those given with each frame, a detector's, or those
    of the model's own head.

    Args:
        backbone, masa_adapter, rpn_head, roi_head, track_head, train_cfg, test_cfg: the network, as published. Parts
            that are the authors' become ours; another backbone or neck is mmdet's.
        network: a network of this library by its name instead, e.g. ``nano`` or ``r50``.
        checkpoint: its weights, a .safetensors or an official .pth; None: those that are shipped, if there are any.
        detector: an mmdet detector, or the name of one of mmdet's own configurations, e.g.
            ``mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py``.
        detector_checkpoint: its weights, a file of mmdet; nothing in it is run.
        detector_scale: (width, height) that a picture is fitted into for it; None: the size that the network sees.
        text: for a detector that takes one: ``a dog. a cat``; or a list of names: ``lvis``, ``coco`` or a file,
            see :func:`~masa_track.detectors.phrases.read_prompt`. What is too long for one caption is run in groups.
        custom_entities: False: the detector searches the text for noun phrases, by nltk.
        unified_backbone: the network's maps are those of the detector's backbone, computed once.
        use_masa_backbone: as published; follows from ``backbone``.
        load_public_dets, public_det_path: see :class:`~masa_track.integrations.mmdet.boxes.PublicBoxes`.
        given_dets: each data sample brings ``det_bboxes`` and ``det_labels``.
        class_names: what the labels of public detections are looked up in; `tools/test_mot.py` fills it in.
        tracker: e.g. ``MasaTaoTracker``; None tracks with its published settings for new videos.
        freeze_detector, freeze_masa_backbone: as published; detector and backbone never learn.
        freeze_masa_adapter: training leaves the adapter as it is, statistics of its norms included.
        freeze_object_prior_distillation: training leaves ``rpn_head`` and ``roi_head`` as they are. Their losses still
            reach the adapter.
        seed: of the sampling in training; see :class:`~masa_track.training.model.TrainingModel`.
        with_segm: boxes come with masks (of the detector, ``det_masks`` of each data sample, or a file), which the
            tracks keep.
        end_pkl_name, benchmark: as published; pickles are not taken.

    Raises:
        InputError: keys that do not go together, or ask for what is not there.
    """

    def __init__(
        self,
        backbone: Mapping[str, Any] | None = None,
        detector: Mapping[str, Any] | str | None = None,
        masa_adapter: Sequence[Mapping[str, Any]] | None = None,
        rpn_head: Mapping[str, Any] | None = None,
        roi_head: Mapping[str, Any] | None = None,
        track_head: Mapping[str, Any] | None = None,
        tracker: Mapping[str, Any] | None = None,
        freeze_detector: bool = False,
        freeze_masa_backbone: bool = False,
        freeze_masa_adapter: bool = False,
        freeze_object_prior_distillation: bool = False,
        data_preprocessor: Mapping[str, Any] | None = None,
        train_cfg: Mapping[str, Any] | None = None,
        test_cfg: Mapping[str, Any] | None = None,
        init_cfg: Any = None,
        load_public_dets: bool = False,
        public_det_path: str | None = None,
        given_dets: bool = False,
        with_segm: bool = False,
        end_pkl_name: str = ".pth",
        unified_backbone: bool = False,
        use_masa_backbone: bool = False,
        benchmark: str = "tao",
        network: str | None = None,
        checkpoint: str | None = None,
        detector_checkpoint: str | None = None,
        detector_scale: tuple[int, int] | None = None,
        text: str | None = None,
        custom_entities: bool = True,
        class_names: Sequence[str] | None = None,
        seed: int = 0,
    ) -> None:
        if load_public_dets and public_det_path is None:
            raise InputError("load_public_dets=True needs a public_det_path")
        if isinstance(detector, str):
            detector = detector_config(detector)
        built: Any = MODELS.build(detector) if detector is not None else None
        if built is not None:
            fix_text_encoder(built)
        filled = built is not None and detector_checkpoint is not None
        if filled:
            load_detector(built, str(detector_checkpoint))
        if unified_backbone and built is None:
            raise InputError("unified_backbone=True needs a detector, whose backbone is shared")
        net, prior = make_network(
            network=network,
            checkpoint=checkpoint,
            backbone=built.backbone if unified_backbone else backbone,
            masa_adapter=masa_adapter,
            rpn_head=rpn_head,
            roi_head=roi_head,
            track_head=track_head,
            test_cfg=test_cfg,
        )
        if data_preprocessor is None:
            values = {"mean": list(net.mean), "std": list(net.std), "pad_size_divisor": net.size_divisor}
            data_preprocessor = {"type": "TrackDataPreprocessor", "bgr_to_rgb": True, **values}
        elif network is None and data_preprocessor.get("mean") is not None:
            net.mean, net.std = tuple(data_preprocessor["mean"]), tuple(data_preprocessor["std"])
            net.size_divisor = data_preprocessor.get("pad_size_divisor", 1)
        super().__init__(data_preprocessor, init_cfg)
        if network is not None and list(data_preprocessor.get("mean") or ()) != list(net.mean):
            raise InputError(
                f"data_preprocessor.mean must be {list(net.mean)} for the network {network!r}, got "
                f"{data_preprocessor.get('mean')}: leave data_preprocessor out"
            )
        self._network = (net,)  # in a tuple, so that its parts are registered once, under the official names
        if hasattr(net, "masa_adapter"):
            if not unified_backbone:
                self.backbone = net.backbone
            for name in OFFICIAL_NAMES:
                if getattr(net, name) is not None:
                    setattr(self, name, getattr(net, name))
        else:
            self.network = net
        if built is not None:
            self.detector = built
        self.detector_is_filled = filled
        self.tracker = MODELS.build(tracker or {"type": "MasaTaoTracker", "preset": "demo"})
        if isinstance(self.tracker, MasaBaseTracker):
            if self.tracker.prior is not None:
                self.tracker.prior.check(network, net.dimension)
            self.tracker.set_model_prior(prior)
        self._video: Any = None
        public = load_public_dets or public_det_path is not None
        own_preprocessing = isinstance(detector, Mapping) and detector.get("data_preprocessor") is not None
        self._boxes: Boxes = own_boxes
        if public:
            self._boxes = PublicBoxes(str(public_det_path), class_names)
        elif given_dets:
            self._boxes = given_boxes
        elif built is not None and getattr(built, "finds_boxes", True):
            same_input = unified_backbone or not own_preprocessing
            self._boxes = DetectorBoxes(
                built, unified_backbone, same_input, self._undo, detector_scale, text, custom_entities
            )
        self.detector_is_used = isinstance(self._boxes, DetectorBoxes)
        missed: str | None = getattr(built, "missed", None)
        if self._boxes is own_boxes and missed:
            raise InputError(missed)
        self.with_segm = with_segm
        if with_segm and self._boxes is own_boxes:
            raise InputError(
                "with_segm=True needs masks: give MASA a detector that finds them, or boxes that have them"
            )
        self._trainer: tuple[TrainingModel, ...] = ()
        self._training = {"seed": seed, **getattr(net.track_head, "loss_weights", {})} if self._can_train else {}
        frozen = frozen_parts(freeze_masa_adapter, freeze_object_prior_distillation)
        for part, key in frozen.items():
            if not hasattr(self, part):
                raise InputError(f"{key}=True: this model has no {part} to freeze; leave {key} out")
        self._frozen = [*(["detector"] if built is not None else []), *frozen]
        for module in self._still():  # not only in train(): a wrapper for several processes looks before
            module.requires_grad_(False)
        shared = unified_backbone and self.detector_is_used
        self._layout = torch.contiguous_format if shared or uses_mmcv(net) else torch.channels_last
        net.to(memory_format=self._layout)  # channels last: a quarter faster on a CPU, and as masa_track.load does

    @property
    def net(self) -> Any:
        """The network, see :class:`~masa_track.models.official.OfficialMasa`."""
        return self._network[0]

    def network_keys(self) -> dict[str, str]:
        """The state dict's keys of the network's tensors, by the network's own keys for them."""
        names = {id(tensor): key for key, tensor in self.state_dict(keep_vars=True).items()}
        return {key: names[id(tensor)] for key, tensor in self.net.state_dict(keep_vars=True).items()}

    @property
    def _can_train(self) -> bool:
        return hasattr(self.net, "masa_adapter")

    def _undo(self, image: Tensor) -> np.ndarray:
        """The picture (H, W, 3) uint8 BGR that the model's input (1, 3, H, W) was made of, padding included."""
        before: Any = self.data_preprocessor
        picture = image * before.std + before.mean if before._enable_normalize else image
        if before._channel_conversion:
            picture = picture[:, [2, 1, 0]]
        return picture[0].round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()

    def predict(
        self, inputs: Tensor, data_samples: Sequence[TrackDataSample], rescale: bool = True, **_: Any
    ) -> list[TrackDataSample]:
        """Tracks the next frames of a video.

        Args:
            inputs: (1, T, 3, H, W) normalised and padded.
            data_samples: of them. A frame of another ``video_id``, or with ``frame_id`` 0, begins a new video.
            rescale: must be True; boxes are in pixels of the original pictures.

        Returns:
            The same, each frame with ``pred_instances`` and, of them, those with an identity as
            ``pred_track_instances``; with ``with_segm``, with ``masks`` (N, H, W) bool of the original pictures.
        """
        if inputs.dim() != 5 or len(inputs) != 1 or len(data_samples) != 1:
            raise InputError(f"inputs must be (1, T, 3, H, W), one video at a time, got {tuple(inputs.shape)}")
        if not rescale:
            raise InputError("rescale must be True: boxes are given in pixels of the original pictures")
        for index in range(len(data_samples[0])):
            sample = data_samples[0][index]
            video, number = sample.metainfo.get("video_id"), sample.metainfo.get("frame_id")
            if number == 0 or video != self._video:
                self.tracker.reset(sample.metainfo.get("fps"))
                self._video = video
            image = inputs[:, index].contiguous(memory_format=self._layout)
            frame = FrameInput(image, sample, self.net, with_masks=self.with_segm)
            found = self._boxes(frame)
            sample.pred_instances = found
            height, width = frame.size
            embeddings = self.embed(frame, found.bboxes)
            more = {}
            if isinstance(self.tracker, MasaBaseTracker):
                more["timestamp"] = sample.metainfo.get("timestamp")
                if self.tracker.uses_picture:
                    more["picture"] = self._picture(frame)
            sample.pred_track_instances = self.tracker.track(embeddings, found, number, (width, height), **more)
        return list(data_samples)

    def _picture(self, frame: FrameInput) -> np.ndarray:
        """The original picture (H, W, 3) uint8 BGR, from its file; without a file, from the model's input."""
        path = Path(frame.sample.metainfo.get("img_path") or "")
        if path.is_file():
            picture = read_image(path)
            if picture.shape[:2] == tuple(frame.size):
                return picture
        height, width = frame.sample.metainfo["img_shape"][:2]
        return cv2.resize(self._undo(frame.image)[:height, :width], (frame.size[1], frame.size[0]))

    def embed(self, frame: FrameInput, boxes: Tensor) -> Tensor:
        """Embeddings (N, D) of boxes (N, 4), xyxy pixels of the original; without boxes the network is not run."""
        if len(boxes) == 0:
            return frame.image.new_zeros((0, self.net.dimension))
        height, width = frame.size
        side = boxes.new_tensor([width, height, width, height])
        reach = torch.minimum(torch.maximum(boxes, -side), 2 * side)  # RoIAlign samples all that a box covers
        return self.net.embed(frame.levels(), [reach * frame.factors])

    def loss(self, inputs: Tensor, data_samples: Sequence[TrackDataSample], **_: Any) -> dict[str, Tensor]:
        """The losses of pairs of views.

        Args:
            inputs: (N, 2, 3, H, W) normalised and padded.
            data_samples: of them, as :class:`~masa_track.integrations.mmdet.views.MASADataset` gives them.

        Returns:
            As :class:`~masa_track.training.model.TrainingModel`.
        """
        if inputs.dim() != 5 or inputs.shape[1] != 2:
            raise InputError(f"inputs must be (N, 2, 3, H, W): a key and a reference view, got {tuple(inputs.shape)}")
        losses: Any = self.trainer.forward(*view_boxes(inputs, data_samples))
        return losses

    @property
    def trainer(self) -> TrainingModel:
        """What computes the losses; it shares the network's parameters."""
        if not self._trainer:
            if not self._can_train:
                raise InputError("only a network with an adapter can be trained: name its parts, or network='r50'")
            samples = getattr(self.net.track_head, "samples", 512)
            self._trainer = (TrainingModel(self.net, samples=samples, **self._training),)
            self.train(self.training)  # what is frozen
        return self._trainer[0]

    def train(self, mode: bool = True) -> MASA:
        """Training or evaluation mode; the backbone and what is frozen stay in evaluation mode."""
        super().train(mode)
        for module in self._still():
            module.eval()
            if mode:
                module.requires_grad_(False)
        return self

    def _still(self) -> list[nn.Module]:
        if not hasattr(self, "_network"):
            return []
        return [self.net.backbone, *(getattr(self, name) for name in self._frozen)]


def frozen_parts(freeze_masa_adapter: bool, freeze_object_prior_distillation: bool) -> dict[str, str]:
    """The network's parts that these keys of ``MASA`` keep out of training, each with its key."""
    parts = {"masa_adapter": "freeze_masa_adapter"} if freeze_masa_adapter else {}
    if freeze_object_prior_distillation:
        parts |= dict.fromkeys(("rpn_head", "roi_head"), "freeze_object_prior_distillation")
    return parts


def uses_mmcv(module: nn.Module) -> bool:
    """Whether operators of mmcv are in it, which take any tensor for a contiguous one, and so misread channels last."""
    return any(type(part).__module__.startswith("mmcv.ops") for part in module.modules())


def detector_config(name: str) -> Any:
    """The model of a configuration of mmdet's, by ``mmdet::FOLDER/FILE.py``, or of a file.

    Raises:
        InputError: there is none of that name.
    """
    from mmengine.config import Config

    try:
        config = get_config(name) if "::" in name else Config.fromfile(name)
    except ImportError as error:  # the authors' projects, CO-DETR for one
        raise InputError(
            f"detector: {name} imports what is not installed ({error}): save its boxes once where it runs and give "
            "the file by public_det_path, or take one of mmdet's own configurations, mmdet::FOLDER/FILE.py"
        ) from error
    except (FileNotFoundError, KeyError, ValueError) as error:
        raise InputError(f"detector: there is no configuration {name!r} ({error})") from error
    return config.model


def load_detector(detector: nn.Module, path: str) -> None:
    """Fills a detector from a file of mmdet's, without running anything in it.

    Raises:
        InputError: the file is missing, broken, or of another detector.
    """
    if "://" in path:
        raise InputError(f"detector_checkpoint must be a file, got {path}: download it first, nothing is fetched here")
    state = read_checkpoint(Path(path))
    fix_ref_point_head(detector, state)
    own = detector.state_dict()
    misfit = [key for key, value in state.items() if key in own and own[key].shape != value.shape]
    if misfit:
        raise InputError(
            f"detector_checkpoint {path} is not of this {type(detector).__name__}: {len(misfit)} of its tensors have "
            f"another shape, e.g. {misfit[0]!r}"
        )
    result = detector.load_state_dict(state, strict=False)
    missing = [key for key in result.missing_keys if not key.endswith("num_batches_tracked")]
    if missing:
        raise InputError(
            f"detector_checkpoint {path} is not of this {type(detector).__name__}: {len(missing)} of its tensors are "
            f"missing, e.g. {missing[0]!r}"
        )
