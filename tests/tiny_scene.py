"""Networks of transformers for scenes: tiny, with random weights, saved in folders as real ones are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "person", "head", "left", "hand", "dog", "a", "photo", "of"]
LABELS = ["person", "dog", "road", "sky-other-merged", "grass"]
SIDE = 64


def save(folder: Path, *parts: Any) -> Path:
    for part in parts:
        part.save_pretrained(folder)
    return folder


def _swin(outputs: list[str]) -> Any:
    import transformers as T

    sizes: dict[str, Any] = {"embed_dim": 8, "depths": [1] * 4, "num_heads": [1, 1, 2, 2], "window_size": 4}
    return T.SwinConfig(image_size=SIDE, out_features=outputs, drop_path_rate=0.0, **sizes)


def grounding_dino(folder: Path) -> Path:
    import transformers as T

    torch.manual_seed(0)
    bert = T.BertConfig(
        vocab_size=len(WORDS), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    sizes = {"d_model": 32, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "encoder_layers": 1, "decoder_layers": 2}
    sizes |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "num_queries": 12}
    swin = T.SwinConfig(
        embed_dim=8, depths=[1] * 4, num_heads=[2] * 4, window_size=4, image_size=SIDE, out_indices=[2, 3, 4]
    )
    network = T.GroundingDinoForObjectDetection(T.GroundingDinoConfig(backbone_config=swin, text_config=bert, **sizes))
    for name, value in network.named_parameters():  # differences between queries and words that can be seen
        if "bbox_embed" in name or name.startswith("model.text_projection"):
            value.data = torch.randn_like(value) * 0.15
    reader = T.GroundingDinoImageProcessor(size={"shortest_edge": SIDE, "longest_edge": 2 * SIDE})
    tokenizer = T.BertTokenizerFast(vocab={word: i for i, word in enumerate(WORDS)})
    return save(folder, network, T.GroundingDinoProcessor(reader, tokenizer))


def sam(folder: Path) -> Path:
    import transformers as T

    torch.manual_seed(0)
    vision = T.SamVisionConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=SIDE, patch_size=16, window_size=2,
        global_attn_indexes=[0], output_channels=256, mlp_ratio=2.0,
    )  # fmt: skip
    prompts = T.SamPromptEncoderConfig(image_size=SIDE, patch_size=16)
    network = T.SamModel(T.SamConfig(vision_config=vision, prompt_encoder_config=prompts))
    reader = T.SamImageProcessor(size={"longest_edge": SIDE}, pad_size={"height": SIDE, "width": SIDE})
    return save(folder, network, T.SamProcessor(reader))


def sam2(folder: Path) -> Path:
    import transformers as T

    torch.manual_seed(0)
    hiera = T.Sam2HieraDetConfig(
        hidden_size=16, num_attention_heads=1, image_size=[128, 128], embed_dim_per_stage=[16, 32, 64, 128],
        num_attention_heads_per_stage=[1, 2, 4, 8], blocks_per_stage=[1, 2, 3, 2], window_size_per_stage=[8, 4, 14, 7],
        window_positional_embedding_background_size=[7, 7], global_attention_blocks=[4, 5],
    )  # fmt: skip
    vision = T.Sam2VisionConfig(
        backbone_config=hiera, backbone_channel_list=[128, 64, 32, 16],
        backbone_feature_sizes=[[32, 32], [16, 16], [8, 8]], fpn_hidden_size=256,
    )  # fmt: skip
    config = T.Sam2Config(
        vision_config=vision,
        prompt_encoder_config=T.Sam2PromptEncoderConfig(image_size=128),
        mask_decoder_config=T.Sam2MaskDecoderConfig(),
    )
    reader = T.Sam2ImageProcessor(size={"height": 128, "width": 128})
    return save(folder, T.Sam2Model(config), T.Sam2Processor(reader))


def _names() -> dict[str, Any]:
    return {"id2label": dict(enumerate(LABELS)), "label2id": {name: i for i, name in enumerate(LABELS)}}


def mask2former(folder: Path) -> Path:
    import transformers as T

    torch.manual_seed(0)
    sizes = {"hidden_dim": 32, "feature_size": 32, "mask_feature_size": 32, "encoder_feedforward_dim": 32}
    sizes |= {"dim_feedforward": 32, "encoder_layers": 1, "decoder_layers": 2, "num_attention_heads": 2}
    config = T.Mask2FormerConfig(
        backbone_config=_swin(["stage1", "stage2", "stage3", "stage4"]), num_queries=6, **sizes, **_names()
    )
    reader = T.Mask2FormerImageProcessor(size={"shortest_edge": SIDE, "longest_edge": 2 * SIDE}, size_divisor=32)
    return save(folder, T.Mask2FormerForUniversalSegmentation(config), reader)


def clip_tokenizer() -> Any:
    import transformers as T
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return T.CLIPTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=[]), len(tokens)


def oneformer(folder: Path) -> Path:
    import transformers as T

    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    classes = {str(i): {"isthing": int(i < 2), "name": name} for i, name in enumerate(LABELS)}
    (folder / "classes.json").write_text(json.dumps(classes))
    tokenizer, count = clip_tokenizer()
    size = {"height": SIDE, "width": SIDE}
    reader = T.OneFormerImageProcessor(
        size=size, repo_path=str(folder), class_info_file="classes.json", num_text=5, num_labels=len(LABELS)
    )
    sizes = {"hidden_dim": 32, "conv_dim": 32, "mask_dim": 32, "encoder_feedforward_dim": 32, "dim_feedforward": 32}
    sizes |= {"encoder_layers": 1, "decoder_layers": 2, "num_attention_heads": 2, "num_queries": 6}
    sizes |= {"query_dec_layers": 1, "text_encoder_vocab_size": count, "text_encoder_width": 32}
    sizes |= {"text_encoder_num_layers": 1, "text_encoder_proj_layers": 1, "task_seq_len": 77}
    backbone = _swin(["stage1", "stage2", "stage3", "stage4"])
    config = T.OneFormerConfig(backbone_config=backbone, is_training=False, **sizes, **_names())
    network = T.OneFormerForUniversalSegmentation(config)
    processor = T.OneFormerProcessor(image_processor=reader, tokenizer=tokenizer, max_seq_length=77, task_seq_length=77)
    return save(folder, network, processor)


def eomt(folder: Path) -> Path:
    import transformers as T

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_blocks": 1, "num_queries": 6}
    config = T.EomtConfig(image_size=SIDE, patch_size=16, num_upscale_blocks=2, **sizes, **_names())
    reader = T.EomtImageProcessor(size={"shortest_edge": SIDE, "longest_edge": SIDE}, do_pad=True)
    return save(folder, T.EomtForUniversalSegmentation(config), reader)


def clip(folder: Path) -> Path:
    import transformers as T

    torch.manual_seed(0)
    tokenizer, count = clip_tokenizer()
    text = {"vocab_size": count, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
    text |= {"num_attention_heads": 2, "max_position_embeddings": 40}
    text |= {"eos_token_id": count - 1, "bos_token_id": count - 2}
    vision = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision |= {"image_size": SIDE, "patch_size": 8}
    network = T.CLIPModel(T.CLIPConfig(text_config=text, vision_config=vision, projection_dim=16))
    reader = T.CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    return save(folder, network, T.CLIPProcessor(reader, tokenizer))


def siglip(folder: Path, second: bool = False) -> Path:
    import transformers as T

    torch.manual_seed(0)
    tokenizer = T.BertTokenizerFast(vocab={word: i for i, word in enumerate(WORDS)})
    text = {"vocab_size": len(WORDS), "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
    text |= {"num_attention_heads": 2, "max_position_embeddings": 16, "projection_size": 32}
    vision = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    if second:
        config = T.Siglip2Config(text_config=text, vision_config=vision | {"num_patches": 64, "patch_size": 16})
        reader = T.Siglip2ImageProcessor(patch_size=16, max_num_patches=64)
        return save(folder, T.Siglip2Model(config), T.Siglip2Processor(reader, tokenizer))
    config = T.SiglipConfig(text_config=text, vision_config=vision | {"image_size": SIDE, "patch_size": 8})
    reader = T.SiglipImageProcessor(size={"height": SIDE, "width": SIDE})
    return save(folder, T.SiglipModel(config), T.SiglipProcessor(reader, tokenizer))
