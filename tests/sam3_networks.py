"""Small networks of SAM 3 with deterministic weights, for tests: there are no real ones here."""

from __future__ import annotations

import functools
import os
import re
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

FOLDER = Path(os.environ.get("MASA_GOLDENS", Path(__file__).parent / "goldens")) / "sam3"
WIDTH, GRID, PATCH = 64, 8, 14  # channels of the image model, tokens of a side, pixels of a token
VIDEO_WIDTH = 128
SIDE = GRID * PATCH
# The tokens of the goldens' prompts; a word is the number of its token.
PHRASES = {"phrase": "17 203 44", "visual": "visual", "long": " ".join(map(str, range(100, 130)))}


def fill(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """The numbers of a weight, by its name, shape and the seed alone: the recipe of the goldens."""
    x = np.random.default_rng([seed, zlib.crc32(name.encode())]).standard_normal(shape)
    if name.endswith("norm.weight") or re.search(r"(norms?\d?|norms\.\d|layer_norm\d?)\.weight$", name):
        x = 1 + 0.1 * x
    elif name.endswith("bias"):
        x = 0.1 * x
    elif "embed" in name and "box_rpb" not in name:
        x = 0.5 * x
    elif len(shape) > 1:
        x = x / np.sqrt(np.prod(shape[1:])) * 1.3
    return x.astype(np.float32)


def filled(model: Any, seed: int = 0) -> Any:
    """The model with weights of :func:`fill`."""
    import torch

    state = {
        key: torch.from_numpy(fill(key, tuple(value.shape), seed))
        if value.is_floating_point() and not any(part in key for part in ("rotary", "running_"))
        else value
        for key, value in model.state_dict().items()
    }
    model.load_state_dict(state)
    return model.eval().requires_grad_(False)


def vision_config(width: int) -> Any:
    from transformers import Sam3VisionConfig, Sam3ViTConfig

    backbone = Sam3ViTConfig(
        hidden_size=32,
        intermediate_size=80,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=SIDE,
        patch_size=PATCH,
        window_size=4,
        global_attn_indexes=[1, 2],
        pretrain_image_size=56,
    )
    sizes = [[GRID * scale] * 2 for scale in (4, 2, 1)]
    return Sam3VisionConfig(backbone_config=backbone, fpn_hidden_size=width, backbone_feature_sizes=sizes)


def text_config() -> Any:
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=600,
        hidden_size=32,
        intermediate_size=128,
        projection_dim=512,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=32,
        hidden_act="gelu",
        eos_token_id=599,
        bos_token_id=598,
    )


def detector_config(lite: bool = False, width: int = WIDTH) -> Any:
    """The configuration of the goldens' image model; ``lite``: with the small text encoder of Sam3LiteText."""
    import transformers

    kind = "Sam3LiteText" if lite else "Sam3"
    own = {"hidden_size": width, "num_attention_heads": 4, "intermediate_size": 96}
    text = text_config()
    if lite:
        text = transformers.Sam3LiteTextTextConfig(
            vocab_size=600, hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2
        )

    def part(name: str, **values: Any) -> Any:
        return getattr(transformers, f"{kind}{name}Config")(**values)

    return part(
        "",
        vision_config=vision_config(width),
        text_config=text,
        geometry_encoder_config=part("GeometryEncoder", num_layers=2, **own),
        detr_encoder_config=part("DETREncoder", num_layers=2, **own),
        detr_decoder_config=part("DETRDecoder", num_layers=3, num_queries=12, **own),
        mask_decoder_config=part("MaskDecoder", hidden_size=width, num_attention_heads=4),
    )


def video_config(lite: bool = False) -> Any:
    """The same detector with a small propagator."""
    from transformers import (
        Sam3TrackerVideoConfig,
        Sam3TrackerVideoMaskDecoderConfig,
        Sam3TrackerVideoPromptEncoderConfig,
        Sam3VideoConfig,
    )

    tracker = Sam3TrackerVideoConfig(
        image_size=SIDE,
        vision_config=vision_config(VIDEO_WIDTH),
        prompt_encoder_config=Sam3TrackerVideoPromptEncoderConfig(
            hidden_size=VIDEO_WIDTH, image_size=SIDE, patch_size=PATCH
        ),
        mask_decoder_config=Sam3TrackerVideoMaskDecoderConfig(
            hidden_size=VIDEO_WIDTH, mlp_dim=64, num_attention_heads=2, iou_head_hidden_dim=VIDEO_WIDTH
        ),
        memory_attention_hidden_size=VIDEO_WIDTH,
        memory_attention_num_layers=1,
        memory_attention_feed_forward_hidden_size=64,
        memory_attention_rope_feat_sizes=[GRID, GRID],
        memory_encoder_hidden_size=VIDEO_WIDTH,
        memory_encoder_output_channels=64,  # no other number works in transformers
        mask_downsampler_embed_dim=VIDEO_WIDTH,
        memory_fuser_embed_dim=VIDEO_WIDTH,
        memory_fuser_intermediate_dim=64,
    )
    return Sam3VideoConfig(
        detector_config=detector_config(lite, VIDEO_WIDTH), tracker_config=tracker, low_res_mask_size=4 * GRID
    )


def tokenizer() -> Any:
    """A word is the number of its token; a long text is as long as it is."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {"<pad>": 0, "<bos>": 598, "<eos>": 599, "visual": 310}
    taken = set(vocabulary.values())
    vocabulary |= {str(number): number for number in range(600) if number not in taken}
    words = [word for word in ("person", "dog", "car", "a", "red") if word not in vocabulary]
    for number, word in zip(range(400, 500), words, strict=False):
        vocabulary.pop(str(number))
        vocabulary[word] = number
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 598), ("<eos>", 599)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>")


@functools.cache
def image_model(seed: int = 0, lite: bool = False) -> Any:
    """The goldens' image model."""
    pytest.importorskip("transformers")
    from transformers import Sam3LiteTextModel, Sam3Model

    from masa_track.masklets.sam3 import Sam3Network

    detector = filled((Sam3LiteTextModel if lite else Sam3Model)(detector_config(lite)), seed)
    return Sam3Network(detector, tokenizer(), "sam3-tiny")


def video_model(score: float = 4.0) -> Any:
    """transformers' whole model with weights of :func:`fill`; ``score``: the bias of object logits.

    As transformers starts them, objects would be absent in all frames, and no test of memory could fail.
    """
    pytest.importorskip("transformers")
    from transformers import Sam3VideoModel

    model = filled(Sam3VideoModel(video_config()))
    presence = model.detector_model.detr_decoder.presence_head.layer3
    presence.bias.data.fill_(6.0)  # everything is there, so that local scores decide
    head = model.tracker_model.mask_decoder.pred_obj_score_head
    head.proj_out.weight.data.mul_(0.2)
    head.proj_out.bias.data.fill_(score)
    model.tracker_model.shared_image_embedding.positional_embedding.data.copy_(
        model.tracker_model.prompt_encoder.shared_embedding.positional_embedding.data
    )
    return model


@functools.cache
def network() -> Any:
    """Detector and propagator."""
    from masa_track.masklets.sam3 import Sam3Network

    model = video_model()
    return Sam3Network(model.detector_model, tokenizer(), "sam3-tiny", (model.tracker_model, model.tracker_neck))


def save_folder(folder: Path) -> Path:
    """Writes the whole model into a folder in Hugging Face's form."""
    video_model().save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def moving_squares(folder: Path, count: int) -> Path:
    """Writes ``count`` pictures of two squares that move on a textured background."""
    folder.mkdir()
    background = np.random.default_rng(0).integers(60, 120, (96, 128, 3), dtype=np.uint8)
    for number in range(count):
        picture = background.copy()
        cv2.rectangle(picture, (10 + 4 * number, 20), (40 + 4 * number, 50), (30, 30, 220), -1)
        cv2.rectangle(picture, (90 - 3 * number, 60), (110 - 3 * number, 80), (220, 200, 30), -1)
        cv2.imwrite(str(folder / f"{number + 1:06d}.png"), picture)
    return folder
