"""Networks of transformers for scenes: masks by SAM and SAM 2, stuff by Mask2Former, OneFormer and EoMT, names by CLIP.

Sources: Kirillov et al., Segment Anything, ICCV 2023; Ravi et al., SAM 2, 2024; Cheng et al., Mask2Former, CVPR 2022;
Jain et al., OneFormer, CVPR 2023; Kerssies et al., EoMT, CVPR 2025; Radford et al., CLIP, ICML 2021; Zhai et al.,
SigLIP, ICCV 2023; Tschannen et al., SigLIP 2, 2025. How they are put together: HIPIE, NeurIPS 2023.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from masa_track.boxes import check_boxes
from masa_track.encoders.preprocessing import check_frame
from masa_track.errors import InputError, first_line, missing_extra
from masa_track.models.devices import choose_device
from masa_track.parts.hierarchy import Hierarchy
from masa_track.parts.merge import clip_probabilities, combine_with_clip
from masa_track.segmenters.base import Segmenter

_MOST_PROMPTS = 64  # in a pass of a mask decoder
_ROOM = re.compile(r"[-_,;/]+")
_NO_NAMES = {"merged", "other", "stuff"}  # words that COCO's panoptic classes add to names
_CLIPS = ("clip", "siglip", "siglip2")
_SEGMENTERS = ("sam", "sam2")
TEMPLATE = "a photo of a {}."


def _load(kind: str, place: str, option: str, purpose: str) -> Any:
    """A configuration, network or processor of transformers: ``kind`` names its class.

    Raises:
        InputError: without transformers, or if it cannot be read.
    """
    try:
        import transformers
    except ImportError as error:
        raise missing_extra("transformers", "transformers", purpose) from error
    try:
        return getattr(transformers, kind).from_pretrained(place)
    except Exception as error:  # a damaged file: SafetensorError, which is no ValueError, and what else
        raise InputError(
            f"{option} {place} cannot be loaded ({first_line(error)}): give the name of a model on the Hugging Face "
            f"Hub (fetched once by `hf download {place}`) or a folder"
        ) from error


def _kind_of(place: str, option: str, known: Sequence[str], purpose: str) -> str:
    kind = str(_load("AutoConfig", place, option, purpose).model_type)
    kind = "sam2" if kind == "sam2_video" else kind
    if kind not in known:
        raise InputError(f"{option} {place} must be a model of the kinds {', '.join(known)}, got {kind}")
    return kind


class TransformersSegmenter(Segmenter):
    """Masks by SAM or SAM 2 of transformers; see :class:`masa_track.parts.scene.BoxSegmenter`.

    Args:
        place: on the Hugging Face Hub, or a folder of ``save_pretrained``.
        device: where it runs; None takes a GPU if there is one.

    Raises:
        InputError: it cannot be loaded, or is another kind of model.
    """

    def __init__(self, place: str, device: str | None = None) -> None:
        kind = _kind_of(place, "--masks transformers:", _SEGMENTERS, "for masks")
        name = "Sam2" if kind == "sam2" else "Sam"
        self.device = choose_device(device)
        network = _load(f"{name}Model", place, "--masks transformers:", "for masks")
        self.network: Any = network.eval().requires_grad_(False).to(self.device)
        self.processor: Any = _load(f"{name}Processor", place, "--masks transformers:", "for masks")

    def segment(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """(N, H, W) bool masks of (N, 4) xyxy boxes; empty for a box wholly outside of the picture.

        Raises:
            InputError: for a frame or boxes of another form.
        """
        check_frame(frame)
        boxes = check_boxes(boxes)
        height, width = frame.shape[:2]
        boxes = boxes.clip(0, np.array([width, height, width, height], np.float32))
        inside = np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(axis=1))
        masks = np.zeros((len(boxes), height, width), bool)
        prompts = [[[float(side) for side in boxes[row]] for row in inside]]
        if len(inside):
            masks[inside] = self._masks(frame, prompts, "input_boxes", several=False)
        return masks

    def segment_points(self, frame: np.ndarray, points: np.ndarray) -> np.ndarray:
        """(3 P, H, W) bool masks at (P, 2) points: three of each, of different extent."""
        check_frame(frame)
        if not len(points):
            return np.zeros((0, *frame.shape[:2]), bool)
        prompts = [[[[float(x), float(y)]] for x, y in points]]
        return self._masks(frame, prompts, "input_points", several=True)

    @torch.inference_mode()
    def _masks(self, frame: np.ndarray, prompts: list[Any], name: str, several: bool) -> np.ndarray:
        picture = np.ascontiguousarray(frame[..., ::-1])
        inputs = self.processor(images=picture, return_tensors="pt", **{name: prompts})
        embeddings = self.network.get_image_embeddings(inputs["pixel_values"].to(self.device))
        found = []
        given = inputs[name]
        for start in range(0, given.shape[1], _MOST_PROMPTS):
            own = given[:, start : start + _MOST_PROMPTS].to(self.device, torch.float32)
            output = self.network(image_embeddings=embeddings, multimask_output=several, **{name: own})
            sizes = [inputs["original_sizes"]]
            if "reshaped_input_sizes" in inputs:
                sizes.append(inputs["reshaped_input_sizes"])
            processor = getattr(self.processor, "image_processor", self.processor)
            (masks,) = processor.post_process_masks(output.pred_masks.cpu(), *sizes)
            found.append(masks.flatten(0, 1).bool().numpy())
        return np.concatenate(found)


class ClipNames:
    """How well names fit masks of a picture, and embeddings of texts and pictures, by CLIP, SigLIP or SigLIP 2.

    Args:
        place: on the Hugging Face Hub, or a folder of ``save_pretrained``.
        device: where it runs; None takes a GPU if there is one.
        option: the argument that named it, for messages.

    Raises:
        InputError: it cannot be loaded, or is another kind of model.
    """

    def __init__(self, place: str, device: str | None = None, option: str = "--clip") -> None:
        self.kind = _kind_of(place, option, _CLIPS, "to compare names with pictures")
        self.device = choose_device(device)
        network = _load("AutoModel", place, option, "to compare names with pictures")
        self.network: Any = network.eval().requires_grad_(False).to(self.device)
        self.processor: Any = _load("AutoProcessor", place, option, "to compare names with pictures")

    @torch.inference_mode()
    def text(self, texts: Sequence[str]) -> np.ndarray:
        """(T, D) float32 unit embeddings of texts."""
        padding = "max_length" if self.kind != "clip" else True  # SigLIP was trained with full length
        limit = self.network.config.text_config.max_position_embeddings
        tokenizer = getattr(self.processor, "tokenizer", self.processor)
        given = tokenizer(list(texts), padding=padding, truncation=True, max_length=limit, return_tensors="pt")
        names = [name for name in ("input_ids", "attention_mask") if name in given]
        inputs = {name: given[name].to(self.device) for name in names if self.kind == "clip" or name == "input_ids"}
        return _unit(_pooled(self.network.get_text_features(**inputs)))

    @torch.inference_mode()
    def pictures(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """(P, D) float32 unit embeddings of (H, W, 3) BGR uint8 pictures."""
        found = [_unit(_pooled(self.network.get_image_features(**self._pixels(image)))) for image in images]
        return np.concatenate(found) if found else np.zeros((0, 1), np.float32)

    @torch.inference_mode()
    def mask_logits(self, image: np.ndarray, masks: np.ndarray, names: Sequence[str]) -> np.ndarray:
        """(Q, T) cosine times scale of masks (Q, H, W) in 0..1 and names; for SigLIP with its bias.

        CLIP's patches are averaged under a mask; SigLIP's attention pooling runs over the patches under it.
        """
        words = self.text([TEMPLATE.format(name) for name in names])
        inputs = self._pixels(image)
        patches = self.network.vision_model(**inputs).last_hidden_state[0]  # (P, C), CLIP with a token before
        if self.kind == "clip":
            patches = patches[1:]
        grid = self._grid(inputs, len(patches))
        patches = patches[: grid[0] * grid[1]]
        weights = F.interpolate(torch.from_numpy(masks.astype(np.float32))[None], size=grid, mode="area")[0]
        weights = weights.flatten(1).to(patches)  # (Q, P)
        if self.kind == "clip":
            vision = self.network.vision_model
            dense = self.network.visual_projection(vision.post_layernorm(patches))
            pooled = weights @ dense / weights.sum(dim=1, keepdim=True).clamp(min=1e-6)
        else:
            head = self.network.vision_model.head
            used = [_under(own) for own in weights]
            pooled = torch.cat([head(patches[None, own]) for own in used])
        cosines = _unit(pooled) @ words.T
        scale = float(self.network.logit_scale.exp())
        return np.asarray(scale * cosines + float(getattr(self.network, "logit_bias", torch.zeros(1))), np.float32)

    def _pixels(self, image: np.ndarray) -> dict[str, Tensor]:
        processor = getattr(self.processor, "image_processor", self.processor)
        whole = {"do_center_crop": False, "size": self._whole()} if self.kind == "clip" else {}
        given = processor(images=np.ascontiguousarray(image[..., ::-1]), return_tensors="pt", **whole)
        return {name: value.to(self.device) for name, value in given.items()}

    def _whole(self) -> dict[str, int]:
        """CLIP's input size: the whole picture, without the crop of its middle."""
        side = self.network.config.vision_config.image_size
        return {"height": side, "width": side}

    def _grid(self, inputs: dict[str, Tensor], count: int) -> tuple[int, int]:
        """Rows and columns of patches."""
        if "spatial_shapes" in inputs:
            rows, columns = inputs["spatial_shapes"][0].tolist()
            return int(rows), int(columns)
        return int(count**0.5), int(count**0.5)


def _under(weights: Tensor) -> Tensor:
    """Patches of which a half lies under a mask, or the one with the largest share."""
    inside = weights > 0.5
    return inside.nonzero()[:, 0] if inside.any() else weights.argmax()[None]


def _pooled(output: Any) -> Tensor:
    found: Tensor = getattr(output, "pooler_output", output)
    return found


def _unit(vectors: Tensor) -> np.ndarray:
    return F.normalize(vectors.float(), dim=-1).cpu().numpy()


class TransformersStuff:
    """Masks of stuff by a network of fixed classes; see :class:`masa_track.parts.scene.StuffFinder`.

    A name is one of the network's classes if one of its names is a class name, without words such as "merged". The
    score of another name is what the network gives to its own classes that are not named; it needs CLIP, by which
    p^(1 - w) p_clip^w with w = .35 for names that the network knows and .7 for others.

    Args:
        place: Mask2Former, OneFormer, EoMT or another network for universal segmentation, on the Hugging Face Hub or a
            folder of ``save_pretrained``.
        hierarchy: has the names.
        device: where it runs; None takes a GPU if there is one.
        clip: compares names with masks; None: the network must know all names.

    Raises:
        InputError: it cannot be loaded, or does not know a name and there is no ``clip``.
    """

    def __init__(
        self, place: str, hierarchy: Hierarchy, device: str | None = None, clip: ClipNames | None = None
    ) -> None:
        self.device, self.clip = choose_device(device), clip
        network = _load("AutoModelForUniversalSegmentation", place, "--stuff-model", "for stuff")
        self.network: Any = network.eval().requires_grad_(False).to(self.device)
        self._oneformer = network.config.model_type == "oneformer"
        reader = "AutoProcessor" if self._oneformer else "AutoImageProcessor"
        self.processor: Any = _load(reader, place, "--stuff-model", "for stuff")
        known = {int(i): plain_names(name) for i, name in network.config.id2label.items()}
        self._own: list[list[int]] = []  # of each name the network's classes
        self.names: list[tuple[str, ...]] = []
        for label in hierarchy.labels("stuff"):
            node = hierarchy.nodes[label]
            self._own.append([i for i, names in known.items() if not names.isdisjoint(node.names)])
            self.names.append(node.names)
        self.known = np.array([bool(own) for own in self._own])
        if clip is None and not self.known.all():
            name = self.names[int(self.known.argmin())][0]
            some = sorted(name for names in known.values() for name in names)[:8]
            raise InputError(
                f"--stuff-model {place} has no class {name!r}, only {', '.join(some)}, ...: name one of its classes, "
                "or add --clip MODEL, which compares any name with the masks"
            )

    @torch.inference_mode()
    def find(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores (Q, S) of the names, and masks (Q, H, W) float32 in 0..1, of a (H, W, 3) BGR uint8 picture."""
        check_frame(image)
        picture = np.ascontiguousarray(image[..., ::-1])
        task = {"task_inputs": ["panoptic"]} if self._oneformer else {}
        given = self.processor(images=[picture], return_tensors="pt", **task)
        inputs = {name: value.to(self.device) for name, value in given.items() if isinstance(value, Tensor)}
        output = self.network(**inputs)
        p = output.class_queries_logits[0].float().softmax(dim=-1).cpu().numpy()[:, :-1]  # (Q, L)
        masks = self._upright(output.masks_queries_logits.float(), given, image.shape[:2]).sigmoid().cpu().numpy()
        others = np.setdiff1d(np.arange(p.shape[1]), [i for own in self._own for i in own])
        rest = p[:, others].sum(axis=1)
        scores = np.stack([p[:, own].max(axis=1) if own else rest for own in self._own], axis=1)
        if self.clip is not None:
            texts = [(name, i) for i, names in enumerate(self.names) for name in names]
            logits = self.clip.mask_logits(image, masks, [name for name, _ in texts])
            clip = clip_probabilities(logits, [i for _, i in texts])
            scores = np.exp(combine_with_clip(scores, clip, self.known))
        return scores.astype(np.float32), masks

    def _upright(self, masks: Tensor, given: Any, size: tuple[int, int]) -> Tensor:
        """(1, Q, h, w) mask logits as (Q, H, W) of the picture, without the padding of the network's input."""
        sides = tuple(given["pixel_values"].shape[-2:])
        masks = F.interpolate(masks, size=sides, mode="bilinear", align_corners=False)
        if hasattr(self.processor, "unpad_image"):
            found: Tensor = self.processor.unpad_image(masks, [size], dict(self.processor.size))[0]
            return found
        if "pixel_mask" in given:
            valid = given["pixel_mask"][0].bool()
            masks = masks[..., : int(valid.any(dim=1).sum()), : int(valid.any(dim=0).sum())]
        return F.interpolate(masks, size=size, mode="bilinear", align_corners=False)[0]


def plain_names(label: str) -> frozenset[str]:
    """The names that a network's class goes by: ``sky-other-merged`` is sky; synonyms stand between commas."""
    found = {" ".join(label.lower().split())}
    for name in re.split(r"[,;]", label.lower()):
        found.add(" ".join(word for word in _ROOM.sub(" ", name).split() if word not in _NO_NAMES))
    return frozenset(found - {""})


@torch.inference_mode()
def phrase_embeddings(network: Any, tokenizer: Any, phrases: Sequence[str]) -> np.ndarray:
    """(P, D) embeddings of phrases by Grounding DINO's text encoder: the mean over a phrase's tokens."""
    encoder = network.model.text_backbone
    given = tokenizer(list(phrases), padding=True, return_tensors="pt")
    device = next(encoder.parameters()).device
    found = encoder(**{name: value.to(device) for name, value in given.items()}).last_hidden_state
    special = {tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id}
    own = torch.tensor([[token not in special for token in row] for row in given["input_ids"].tolist()], device=device)
    weights = own.float()[..., None]
    return np.asarray(((found * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)).float().cpu().numpy())
