"""A SAM network from a checkpoint file, whichever of its sizes it is: all of it is told from the tensors' shapes.

Source: Kirillov et al., Segment Anything, ICCV 2023; the network is segment-anything's own (Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from masa_track.errors import InputError, missing_extra
from masa_track.models.checkpoints import check_finite, misfit, read_checkpoint, read_safetensors
from masa_track.models.devices import choose_device
from masa_track.models.official_keys import looks_like

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

_ENCODER = "image_encoder."
_LAYERS = "mask_decoder.transformer.layers."
_PARTS = (_ENCODER, "prompt_encoder.", "mask_decoder.")
# Not told by any shape; the same in all that were published (segment_anything/build_sam.py).
_DECODER_HEADS, _IMAGE_MEAN, _IMAGE_STD = 8, [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


def load_sam(path: str | Path, device: str | torch.device | None = None) -> Sam:
    """SAM, ready to predict.

    Args:
        path: ``sam_vit_b_01ec64.pth``, ``sam_vit_l_0b3195.pth``, ``sam_vit_h_4b8939.pth``, one fine-tuned from them, or
            such a state dict as .safetensors. The file's name does not matter. The authors' ``sam_vitb_masa.pth`` and
            ``sam_vith_masa.pth`` hold a whole SAM as well, and will do.
        device: e.g. ``cpu`` or ``cuda:1``; None takes a GPU if there is one.

    Raises:
        InputError: for a missing or broken file, one of another network, an unusable device, or without
            segment-anything.
    """
    require_sam()
    chosen = choose_device(device)  # a mistake is named before two gigabytes are read
    path = Path(path)
    state = _sam_keys(_read(path))
    lacking = [part for part in _PARTS if not any(key.startswith(part) for key in state)]
    if lacking:
        raise InputError(
            f"{path} is no SAM checkpoint: nothing in it is called {lacking[0]}*; it looks like {_guess(state)}. "
            "Give sam_vit_b_01ec64.pth, sam_vit_l_0b3195.pth or sam_vit_h_4b8939.pth of segment-anything"
        )
    try:
        with torch.device("meta"):  # what is about to be overwritten need not be drawn at random first
            sam = _build(state)
    except (KeyError, IndexError, ZeroDivisionError) as error:
        raise InputError(f"{path} is not SAM as segment-anything has it: it lacks {error}") from error
    if found := misfit(sam.state_dict(), state):
        raise InputError(f"{path} is not SAM as segment-anything has it: {found}")
    check_finite(state, path)
    sam.load_state_dict({key: value.float() for key, value in state.items()}, assign=True)
    # Buffers that no checkpoint holds stay on the meta device above.
    sam.register_buffer("pixel_mean", torch.tensor(_IMAGE_MEAN).view(-1, 1, 1), persistent=False)
    sam.register_buffer("pixel_std", torch.tensor(_IMAGE_STD).view(-1, 1, 1), persistent=False)
    return sam.eval().requires_grad_(False).to(chosen)


def require_sam() -> None:
    """Raises InputError unless segment-anything and pycocotools, which writes its masks, are installed."""
    try:
        import pycocotools.mask  # noqa: F401
        import segment_anything  # noqa: F401
    except ImportError as error:
        raise missing_extra(f"{error.name}", "sam", "for masks") from error


def _read(path: Path) -> dict[str, Tensor]:
    return read_safetensors(path)[0] if path.suffix == ".safetensors" else read_checkpoint(path)


def _sam_keys(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """SAM's keys; MASA's own checkpoints keep all of SAM under ``detector.``, the encoder as ``backbone``."""
    if "detector.backbone.pos_embed" not in state:
        return state
    renamed = {}
    for key, value in state.items():
        if key.startswith("detector."):
            inner = key.removeprefix("detector.")
            renamed[_ENCODER + inner.removeprefix("backbone.") if inner.startswith("backbone.") else inner] = value
    return renamed


def _build(state: Mapping[str, Tensor]) -> Sam:
    """The network with the shapes of ``state``; raises KeyError for what it would have to hold.

    The width of a head, hence the number of heads, is that of the relative positions; a block whose relative
    positions reach over the whole map has global attention.
    """
    from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

    grid, dim = state[f"{_ENCODER}pos_embed"].shape[2:]
    patch = state[f"{_ENCODER}patch_embed.proj.weight"].shape[-1]
    prompt_dim = state[f"{_ENCODER}neck.0.weight"].shape[0]
    depth = _count(state, f"{_ENCODER}blocks.")
    reach = [state[f"{_ENCODER}blocks.{i}.attn.rel_pos_h"].shape for i in range(depth)]  # (2 * side - 1, head's width)
    sides = [(length + 1) // 2 for length, _ in reach]
    encoder = ImageEncoderViT(
        img_size=grid * patch,
        patch_size=patch,
        embed_dim=dim,
        depth=depth,
        num_heads=dim // reach[0][1],
        mlp_ratio=state[f"{_ENCODER}blocks.0.mlp.lin1.weight"].shape[0] / dim,
        out_chans=prompt_dim,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=min(sides),
        global_attn_indexes=tuple(i for i, side in enumerate(sides) if side == grid),
    )
    prompts = PromptEncoder(
        embed_dim=prompt_dim,
        image_embedding_size=(grid, grid),
        input_image_size=(grid * patch, grid * patch),
        mask_in_chans=state["prompt_encoder.mask_downscaling.3.weight"].shape[0],
    )
    transformer = TwoWayTransformer(
        depth=_count(state, _LAYERS),
        embedding_dim=prompt_dim,
        mlp_dim=state[f"{_LAYERS}0.mlp.lin1.weight"].shape[0],
        num_heads=_DECODER_HEADS,
    )
    decoder = MaskDecoder(
        num_multimask_outputs=state["mask_decoder.mask_tokens.weight"].shape[0] - 1,
        transformer=transformer,
        transformer_dim=prompt_dim,
        iou_head_depth=_count(state, "mask_decoder.iou_prediction_head.layers."),
        iou_head_hidden_dim=state["mask_decoder.iou_prediction_head.layers.0.weight"].shape[0],
    )
    return Sam(encoder, prompts, decoder, _IMAGE_MEAN, _IMAGE_STD)


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many numbered children ``state`` has below ``prefix``."""
    numbers = {key.removeprefix(prefix).split(".")[0] for key in state if key.startswith(prefix)}
    return len(numbers)


def _guess(state: Mapping[str, Tensor]) -> str:
    if any(key.startswith("vision_encoder.") for key in state):
        return "transformers' SAM, whose tensors have other names"
    if any(key.startswith(("sam_mask_decoder.", "memory_attention.")) for key in state):
        return "SAM 2, another network"
    return looks_like({key: tuple(value.shape) for key, value in state.items()})
