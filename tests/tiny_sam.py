"""A SAM of random numbers, in the form of segment-anything's own checkpoints, for tests of what is around it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from torch import nn


def tiny_sam(
    side: int = 128, dim: int = 32, depth: int = 2, heads: int = 4, prompt_dim: int = 32, speckled: bool = False
) -> Sam:
    """Built by hand with all of SAM's parts, so that what the loader tells from the shapes can be held to it.

    As it is, its masks are all alike and cover the picture; ``speckled`` ones are small and differ from point to point.
    """
    torch.manual_seed(0)
    grid = side // 16
    encoder = ImageEncoderViT(
        img_size=side,
        patch_size=16,
        embed_dim=dim,
        depth=depth,
        num_heads=heads,
        out_chans=prompt_dim,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        rel_pos_zero_init=False,
        window_size=3,
        global_attn_indexes=(depth - 1,),
    )
    prompts = PromptEncoder(prompt_dim, (grid, grid), (side, side), mask_in_chans=16)
    decoder = MaskDecoder(
        transformer_dim=prompt_dim,
        transformer=TwoWayTransformer(depth=2, embedding_dim=prompt_dim, mlp_dim=64, num_heads=8),
        iou_head_hidden_dim=24,
    )
    sam = Sam(encoder, prompts, decoder)
    for name, value in sam.named_parameters():  # what torch leaves at zero or alike would hide a swap
        if value.ndim == 1 or "pos_embed" in name:
            nn.init.normal_(value, std=0.1)
            value.data += 1.0 if name.endswith("weight") else 0.0
    if speckled:
        _speckle(sam)
    return sam.eval().requires_grad_(False)


def _speckle(sam: Sam) -> None:
    """Makes prompts count, and one channel of the masks a constant that all but the peaks are below."""
    for name, value in sam.mask_decoder.named_parameters():
        if name.startswith("transformer.") and value.ndim == 2:
            value.data *= 6
        elif "hypernetworks" in name and value.ndim == 2:
            value.data *= 3
    last = sam.mask_decoder.output_upscaling[3]
    last.weight.data *= 4
    last.weight.data[:, 0], last.bias.data[0] = 0, 3
    for network in sam.mask_decoder.output_hypernetworks_mlps:
        network.layers[2].weight.data[0] = 0
        network.layers[2].bias.data[:] = 0
        network.layers[2].bias.data[0] = -0.1


def write_sam(path: Path, **sizes: Any) -> Path:
    """A tiny SAM as a file of its state dict."""
    state = tiny_sam(**sizes).state_dict()
    if path.suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file(state, path)
    else:
        torch.save(state, path)
    return path
