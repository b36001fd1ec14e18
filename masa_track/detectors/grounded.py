"""Text prompts: transformers' Grounding DINO on the backbone that ``gdino-swinb`` embeds with.

MASA's ``gdino-swinb`` was trained on the frozen Swin-B of Grounding DINO, so one pass of that backbone serves both:
the detector's encoder and decoder read its maps, and so does MASA's adapter.

Source: Liu et al., Grounding DINO, ECCV 2024; class scores as mmdet's (the mean over a phrase's tokens).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from masa_track.boxes import suppress
from masa_track.detectors.base import FeatureDetector
from masa_track.detectors.phrases import caption_groups, phrase_tokens, read_prompt
from masa_track.errors import InputError, first_line, missing_extra
from masa_track.registry import GROUNDING_DINO, models_with

if TYPE_CHECKING:
    import supervision as sv

    from masa_track.contracts import Features
    from masa_track.encoders.base import BaseEmbedder
    from masa_track.encoders.embedder import Embedder

WEIGHTS = "IDEA-Research/grounding-dino-base"  # on Hugging Face; the Swin-B that MASA was trained on
TOKENIZER = "google-bert/bert-base-uncased"
MAX_TOKENS = 256
GROUP_NMS = 0.5  # IoU, as of the authors' demo, above which boxes of several groups of phrases are the same object


class GivenMaps(nn.Module):
    """Stands in for the detector's backbone and hands out maps that were computed before."""

    def __init__(self) -> None:
        super().__init__()
        self.maps: Sequence[Tensor] = ()

    def forward(self, pixel_values: Tensor, pixel_mask: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Each map (B, C, H, W) with the mask (B, H, W) of where the picture is, as transformers wants them."""
        masks = [F.interpolate(pixel_mask[None].float(), size=m.shape[-2:]).to(torch.bool)[0] for m in self.maps]
        return list(zip(self.maps, masks, strict=True))


TRACK_ACTIVATION_THRESHOLD = 0.35  # Grounding DINO's own, for its pictures


class TextDetector(FeatureDetector):
    """Boxes of what a text names, one class a phrase.

    Args:
        embedder: ``gdino-swinb``; its backbone is used.
        network: a ``GroundingDinoForObjectDetection``; its own backbone is taken out.
        tokenizer: a fast tokenizer of the network's vocabulary.
        text: phrases, separated by full stops: ``"a yellow minion. a dog"``; or a list of names, see
            :func:`~masa_track.detectors.phrases.read_prompt`. Phrases of more than 256 tokens are looked for in groups.
        threshold: boxes whose best phrase scores less are left out.

    Raises:
        InputError: for a model without Grounding DINO's backbone, a text that is empty, or a phrase that is too long.
    """

    track_activation_threshold = TRACK_ACTIVATION_THRESHOLD

    def __init__(
        self, embedder: Embedder, network: nn.Module, tokenizer: Any, text: str, threshold: float = 0.3
    ) -> None:
        check_backbone(embedder)
        super().__init__(embedder)
        self.threshold = threshold
        prompt = read_prompt(text)
        self.class_names = dict(enumerate(prompt.names))
        self.tokenizer = tokenizer
        self.groups = text_groups(tokenizer, prompt.phrases, embedder.device)
        self.given = GivenMaps()
        detector: Any = network.eval().requires_grad_(False)
        detector.model.backbone.conv_encoder = self.given
        self.network = detector.to(embedder.device, embedder.dtype)

    @torch.inference_mode()
    def _find(self, features: Features) -> sv.Detections:
        """Best first; the class is the best phrase's."""
        import supervision as sv

        seen = cast("Embedder", self.embedder).encoded(features)
        height, width = seen.size
        mask = torch.zeros((1, *seen.image.shape[-2:]), dtype=torch.long, device=seen.image.device)
        mask[:, :height, :width] = 1
        self.given.maps = seen.maps
        parts = []
        for group in self.groups:
            output = self.network(pixel_values=seen.image, pixel_mask=mask, **group.encoding)
            parts.append(group.boxes(output, self.threshold))
        self.given.maps = ()
        boxes, scores, labels = merge_groups(parts)
        order = np.argsort(-scores, kind="stable")
        boxes = boxes[order].clip(0, 1) * np.array([width, height, width, height], np.float32)
        return sv.Detections(xyxy=boxes / seen.factors, confidence=scores[order], class_id=labels[order].astype(int))


def check_backbone(embedder: BaseEmbedder) -> None:
    """Raises InputError unless the model shares its backbone with Grounding DINO."""
    known = models_with(GROUNDING_DINO)
    if embedder.name not in known:
        raise InputError(
            f"--text needs a --model on the backbone of Grounding DINO, {' or '.join(known)}, got {embedder.name!r}"
        )
    if not hasattr(embedder, "encoded"):
        raise InputError(f"--text needs {embedder.name!r} in torch, got {embedder.checkpoint}: give its .pth instead")


def tokenize(tokenizer: Any, phrases: Sequence[str], device: torch.device) -> tuple[dict[str, Tensor], list[list[int]]]:
    """The prompt's tokens, and which of them belong to which phrase, by the tokenizer's offsets.

    Args:
        tokenizer: a fast tokenizer.
        phrases: lower case, without full stops.
        device: where the tokens go.

    Returns:
        The network's text input, (1, T) each, and for each phrase the positions of its tokens.

    Raises:
        InputError: if the prompt has more than 256 tokens.
    """
    caption = ". ".join(phrases) + "."
    encoding = tokenizer(caption, return_offsets_mapping=True, return_tensors="pt")
    offsets = encoding.pop("offset_mapping")[0].tolist()
    if len(offsets) > MAX_TOKENS:
        raise InputError(f"text must have at most {MAX_TOKENS} tokens, got {len(offsets)}: name fewer things")
    return {key: value.to(device) for key, value in encoding.items()}, phrase_tokens(phrases, offsets)


@dataclass(frozen=True)
class TextGroup:
    """Phrases that fit into one caption.

    Attributes:
        encoding: the network's text input, (1, T) each.
        tokens_of: for each phrase the positions of its tokens.
        first: the class of the first phrase; the others follow.
    """

    encoding: dict[str, Tensor]
    tokens_of: list[list[int]]
    first: int

    def boxes(self, output: Any, threshold: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What a network found of one picture for this caption.

        Args:
            output: ``logits`` (1, Q, T) and ``pred_boxes`` (1, Q, 4).
            threshold: queries whose best phrase scores less are left out.

        Returns:
            Boxes (N, 4) xyxy in 0..1 of the picture, scores (N,) and classes (N,) of the best phrase, in the order of
            the queries.
        """
        scores, labels = phrase_scores(output.logits[0].float(), self.tokens_of).max(dim=1)  # (Q,)
        kept = scores >= threshold
        centre, size = output.pred_boxes[0, kept].float().split(2, dim=1)
        boxes = torch.cat([centre - size / 2, centre + size / 2], dim=1)
        return boxes.cpu().numpy(), scores[kept].cpu().numpy(), labels[kept].cpu().numpy() + self.first


def text_groups(
    tokenizer: Any, phrases: Sequence[str], device: torch.device, max_tokens: int = MAX_TOKENS
) -> list[TextGroup]:
    """Phrases in as few captions as hold them in their order; one caption where all fit.

    Args:
        tokenizer: a fast tokenizer.
        phrases: lower case, without full stops; may repeat.
        device: where the tokens go.
        max_tokens: of a caption.

    Raises:
        InputError: a phrase is too long for a caption.
    """
    lengths = [len(ids) for ids in tokenizer(list(phrases), add_special_tokens=False)["input_ids"]]
    groups = caption_groups(phrases, lengths, max_tokens)
    return [TextGroup(*tokenize(tokenizer, phrases[start:end], device), start) for start, end in groups]


def merge_groups(
    parts: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The boxes of all groups. An object that several groups found keeps the box and the class of the best score.

    In one group each query has one class already. Between groups, boxes are suppressed whatever their classes.

    Args:
        parts: boxes (N, 4), scores (N,) and classes (N,) of each group.

    Returns:
        The same of all; those of one group as they are.
    """
    boxes, scores, labels = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    if len(parts) > 1:
        rows = suppress(boxes, scores, GROUP_NMS, len(boxes))
        boxes, scores, labels = boxes[rows], scores[rows], labels[rows]
    return boxes, scores, labels


def phrase_scores(logits: Tensor, tokens_of: Sequence[Sequence[int]]) -> Tensor:
    """Scores (Q, phrases) in 0..1 from token logits (Q, T): the mean over a phrase's tokens."""
    tokens = logits.sigmoid()
    return torch.stack([tokens[:, list(own)].mean(dim=1) for own in tokens_of], dim=1)


def open_text_detector(embedder: BaseEmbedder, text: str, threshold: float = 0.3) -> TextDetector:
    """The text detector of an embedder, with the detector's weights of the same official ``.pth``, or transformers'.

    Args:
        embedder: ``gdino-swinb``. If it was loaded from an official ``.pth``, that file's detector is used; if from
            a converted file, which has none, ``IDEA-Research/grounding-dino-base`` is fetched.
        text: see :class:`TextDetector`.
        threshold: boxes whose best phrase scores less are left out.

    Raises:
        InputError: without transformers, for another model, or if weights or vocabulary cannot be had.
    """
    check_backbone(embedder)
    read_prompt(text)
    try:
        from transformers import AutoModelForZeroShotObjectDetection, AutoTokenizer
    except ImportError as error:
        raise missing_extra("transformers", "gdino", "for text prompts") from error
    try:
        if embedder.checkpoint is not None and embedder.checkpoint.suffix != ".safetensors":
            from masa_track.models.checkpoints import read_checkpoint

            network = official_detector(read_checkpoint(embedder.checkpoint))
            tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
        else:
            network = AutoModelForZeroShotObjectDetection.from_pretrained(WEIGHTS)
            tokenizer = AutoTokenizer.from_pretrained(WEIGHTS)
    except InputError:
        raise
    except Exception as error:  # not there, or damaged
        raise InputError(
            f"Grounding DINO's weights or vocabulary could not be fetched or read ({first_line(error)}): with a "
            f"network, run `hf download {TOKENIZER}` and `hf download {WEIGHTS}` once; they are then used offline"
        ) from error
    return TextDetector(cast("Embedder", embedder), network, tokenizer, text, threshold)


def official_detector(state_dict: dict[str, Tensor]) -> nn.Module:
    """Transformers' Grounding DINO with the detector's weights of an official ``gdino_masa.pth``.

    Args:
        state_dict: tensors by official key.

    Raises:
        InputError: if the detector's part is not whole.
    """
    from transformers import BertConfig, GroundingDinoConfig, GroundingDinoForObjectDetection, SwinConfig

    from masa_track.models.grounding_keys import to_transformers

    # The backbone is thrown away, so a small one with the right channels does.
    backbone: Any = {"embed_dim": 128, "depths": [1, 1, 1, 1], "num_heads": [4, 8, 16, 32], "out_indices": [2, 3, 4]}
    swin = SwinConfig(**backbone)
    config = GroundingDinoConfig(backbone_config=swin, text_config=BertConfig(), decoder_bbox_embed_share=False)
    network = GroundingDinoForObjectDetection(config)
    tensors = to_transformers(state_dict)
    missing = [k for k in network.state_dict() if ".conv_encoder." not in k and k not in tensors]
    if missing:
        raise InputError(
            f"the checkpoint's detector is not whole: {len(missing)} tensors are missing, e.g. {missing[0]!r}"
        )
    network.load_state_dict(tensors, strict=False, assign=True)
    return network
