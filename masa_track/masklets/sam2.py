"""The networks of SAM 2 and EdgeTAM, as transformers has them, called for all objects of a frame at once.

What transformers' own session does with them is not used: it departs from the official code (the guide "Masks and
masklets" says where). Memories and pointers of the objects are padded and masked, so that objects with memories of
different length go through one pass.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from masa_track.masklets.memory import Selection

ABSENT = -1024.0  # logits of the mask of an object that is not visible
CLAMP = 32.0  # earlier logits that are fed in again are limited to +-32
MASK_LOGIT = 10.0  # of a mask that was given as a prompt
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Maps:
    """What the image encoder makes of a picture.

    Attributes:
        fine: (1, C / 8, S / 4, S / 4) and (1, C / 4, S / 8, S / 8), for the mask decoder.
        coarse: (1, C, S / 16, S / 16).
    """

    fine: tuple[Tensor, Tensor]
    coarse: Tensor


@dataclass(frozen=True)
class Decoded:
    """Masks of N objects with K candidates each.

    Attributes:
        masks: (N, K, S / 4, S / 4) float32 logits, :data:`ABSENT` where the object is not visible.
        qualities: (N, K) float32 predicted IoUs.
        pointers: (N, K, C), of each candidate.
        scores: (N,) float32 object logits.
    """

    masks: Tensor
    qualities: Tensor
    pointers: Tensor
    scores: Tensor


class Sam2Network:
    """SAM 2 or 2.1.

    Args:
        model: transformers' ``Sam2VideoModel`` in ``eval()`` and float32, on its device. It is cast to ``dtype``.
        name: for messages and :attr:`key`.
        dtype: of the weights and of most that is computed. Positions, scores and masks are in float32: bfloat16 would
            move a click by pixels.
        compile_encoder: compile the image encoder by ``torch.compile``; its first picture takes a minute.

    Attributes:
        side: S, pixels of the square that pictures are scaled to.
        grid: cells of a side of the coarsest map, S / 16.
        mask_side: pixels of a side of a mask's logits, 4 a cell.
        name: of the model.
        dtype: of its weights.
        image_sines: (1, HW, C) sine positions of the coarsest map, for memory attention.
        memory_positions: (L, 64) the same of a memory's tokens.
        memory_dtype: of stored memories; bfloat16, as officially.
    """

    memory_dtype = torch.bfloat16

    def __init__(
        self, model: Any, name: str, dtype: torch.dtype = torch.float32, compile_encoder: bool = False
    ) -> None:
        self.model, self.name, self.side, self.dtype = model, name, int(model.config.image_size), dtype
        self.grid = int(model.prompt_encoder.image_embedding_size[0])
        self.mask_side = 4 * self.grid
        shape = (1, model.config.memory_attention_hidden_size, self.grid, self.grid)
        with torch.no_grad():
            self._image_positions = model.get_image_wide_positional_embeddings().to(dtype)  # of the mask decoder
            sines = self._neck().position_encoding(shape, self.device, torch.float32)
            self.image_sines = sines.flatten(2).transpose(1, 2).to(dtype)
            self.memory_positions = self._memory_positions().to(dtype)
        _cast(model, dtype)
        if compile_encoder:
            self.model.vision_encoder.compile()

    def _neck(self) -> Any:
        """What makes the maps, and knows their positions."""
        return self.model.vision_encoder.neck

    @property
    def device(self) -> torch.device:
        """Where the network runs."""
        return self.model.no_memory_embedding.device

    @property
    def most_pointers(self) -> int:
        """1 more than the largest distance of an object pointer."""
        return int(self.model.config.max_object_pointers_in_encoder)

    @property
    def many_for(self) -> range:
        """Numbers of points (a box is two) for which the decoder makes three candidates."""
        return range(self.model.config.multimask_min_pt_num, self.model.config.multimask_max_pt_num + 1)

    @cached_property
    def key(self) -> str:
        """Names the model, its weights and its dtype: ``sam2.1-hiera-tiny@3f2c9a01b7de/float32``."""
        return weights_key(self.name, self.side, self.model.state_dict(), self.dtype)

    def prepare(self, image: np.ndarray) -> Tensor:
        """A (H, W, 3) BGR uint8 picture as (1, 3, S, S): scaled (its shape is not kept), then normalised."""
        picture = torch.from_numpy(np.ascontiguousarray(image[..., ::-1])).to(self.device).permute(2, 0, 1)[None]
        scaled = F.interpolate(picture.float(), (self.side, self.side), mode="bicubic", antialias=True)
        scaled = scaled.round().clamp(0, 255) / 255
        mean, std = (torch.tensor(v, device=self.device)[:, None, None] for v in (_MEAN, _STD))
        return ((scaled - mean) / std).to(self.dtype)

    def encode(self, pixels: Tensor) -> Maps:
        """The image encoder on a (1, 3, S, S) normalised picture."""
        output = self.model.get_image_features(pixels.to(self.device, self.dtype), return_dict=True)
        sides = (self.side // 4, self.side // 8, self.side // 16)
        maps = [
            x.permute(1, 2, 0).reshape(1, -1, side, side).contiguous()
            for x, side in zip(output.fpn_hidden_states, sides, strict=True)
        ]
        return Maps((maps[0], maps[1]), maps[2])

    def unconditioned(self, maps: Maps) -> Tensor:
        """(1, C, S / 16, S / 16), for a frame that has no memory before it."""
        return maps.coarse + self.model.no_memory_embedding.reshape(1, -1, 1, 1)

    def condition(self, maps: Maps, selections: Sequence[Selection], pointers: int) -> Tensor:
        """Memory attention: (N, C, S / 16, S / 16), the frame as seen with the memory of each of N objects.

        Args:
            maps: of the frame.
            selections: of each object.
            pointers: 1 more than the largest distance of a pointer; 2.1 divides distances by one less.
        """
        model, dtype = self.model, self.dtype
        temporal = model.memory_temporal_positional_encoding.reshape(-1, self.memory_positions.shape[1])
        width = temporal.shape[1]
        empty = torch.zeros(0, width, device=self.device, dtype=dtype)
        parts = []
        for selection in selections:
            memory, positions = [empty], [empty]
            for row, entry in selection.memories:
                memory.append(entry.memory.to(dtype))
                positions.append(self.memory_positions + temporal[row])
            tokens, token_places = empty, empty
            if selection.pointers:
                stacked = torch.stack([entry.pointer for _, entry in selection.pointers]).to(dtype)  # (P, C)
                pieces = stacked.shape[1] // width
                tokens = stacked.reshape(-1, width)
                token_places = torch.zeros_like(tokens)
                if model.config.enable_temporal_pos_encoding_for_object_pointers:
                    distances = torch.tensor([float(d) for d, _ in selection.pointers], device=self.device)
                    angles = _sines(distances / max(pointers - 1, 1), stacked.shape[1]).to(dtype)
                    projected = model.temporal_positional_encoding_projection_layer(angles)  # (P, 64)
                    token_places = projected.repeat_interleave(pieces, 0)
            parts.append((torch.cat(memory), torch.cat(positions), tokens, token_places))
        values, mask, longest = _padded([(m, q) for m, _, q, _ in parts])
        places, _, _ = _padded([(p, r) for _, p, _, r in parts])
        return self._attend(maps, values, values + places, mask, longest)

    def _attend(self, maps: Maps, values: Tensor, keys: Tensor, mask: Tensor | None, spatial: int) -> Tensor:
        """The layers of memory attention.

        Args:
            maps: of the frame.
            values: (N, M, 64) memories, then pointers.
            keys: the same with their positions.
            mask: (N, 1, 1, M) bool, False for padding; None: no padding.
            spatial: the first tokens, which are those of memories.
        """
        net = self.model.memory_attention
        n, (c, h, w) = len(values), maps.coarse.shape[1:]
        x = (maps.coarse.flatten(2).transpose(1, 2) + 0.1 * self.image_sines).expand(n, -1, -1)
        rotation = _rotation(net.rotary_emb(x, net.position_ids))
        for layer in net.layers:
            attention, y = layer.self_attn, layer.layer_norm1(x)
            q, k = (_rotate(project(y), *rotation) for project in (attention.q_proj, attention.k_proj))
            x = x + attention.o_proj(_attention(q, k, attention.v_proj(y), None))
            attention = layer.cross_attn_image
            q = _rotate(attention.q_proj(layer.layer_norm2(x)), *rotation)
            k = self._rotate_memories(attention.k_proj(keys), rotation, spatial)
            x = x + attention.o_proj(_attention(q, k, attention.v_proj(values), mask))
            x = x + self._feed_forward(layer, layer.layer_norm3(x))
        return net.layer_norm(x).transpose(1, 2).reshape(n, c, h, w)

    def _rotate_memories(self, keys: Tensor, rotation: tuple[Tensor, Tensor], spatial: int) -> Tensor:
        """Gives the keys of each memory the rotary positions of the picture; pointers have none."""
        cos, sin = (a.repeat(spatial // len(a), 1) for a in rotation)
        return torch.cat([_rotate(keys[:, :spatial], cos, sin), keys[:, spatial:]], 1)

    @staticmethod
    def _feed_forward(layer: Any, x: Tensor) -> Tensor:
        return layer.linear2(layer.activation(layer.linear1(x)))

    def decode(
        self,
        maps: Maps,
        seen: Tensor,
        many: bool,
        points: tuple[Tensor, Tensor] | None = None,
        before: Tensor | None = None,
    ) -> Decoded:
        """Prompt encoder and mask decoder.

        Args:
            maps: of the frame.
            seen: (N, C, S / 16, S / 16) of :meth:`condition` or :meth:`unconditioned`.
            many: make three candidates, otherwise one.
            points: (N, P, 2) network pixels and (N, P) labels: 1, 0, 2 and 3 for the corners of a box. None: no prompt.
            before: (N, 1, S / 4, S / 4) logits of an earlier mask.
        """
        n, model = len(seen), self.model
        if points is None:
            points = torch.zeros(n, 1, 2, device=self.device), torch.full((n, 1), -1, device=self.device)
        sparse, dense = model.prompt_encoder(
            points[0][:, None].float(),
            points[1][:, None],
            None,
            None if before is None else before.to(self.dtype),
        )
        masks, qualities, tokens, scores = model.mask_decoder(
            image_embeddings=seen,
            image_positional_embeddings=self._image_positions.expand(n, -1, -1, -1),
            sparse_prompt_embeddings=sparse.to(self.dtype),
            dense_prompt_embeddings=dense,
            multimask_output=many,
            high_resolution_features=list(maps.fine),
        )
        masks, qualities, scores = masks[:, 0].float(), qualities[:, 0].float(), scores[:, 0, 0].float()
        there = scores > 0
        pointers = model.object_pointer_proj(tokens[:, 0]).expand(-1, masks.shape[1], -1)
        pointers = torch.where(there[:, None, None], pointers, model.no_object_pointer)
        return Decoded(torch.where(there[:, None, None, None], masks, ABSENT), qualities, pointers, scores)

    def decode_mask(self, maps: Maps, mask: Tensor) -> tuple[Tensor, Tensor, Decoded]:
        """A mask given as a prompt: its logits, its pointer and the decoder's output from which that is.

        Args:
            maps: of the frame.
            mask: (H, W) bool.

        Returns:
            (S / 4, S / 4) float32 logits of +-10; (C,) pointer; the output of the decoder for this mask.
        """
        full = mask[None, None].float()
        if full.shape[2:] != (self.side, self.side):
            full = (F.interpolate(full, (self.side, self.side), mode="bilinear", antialias=True) >= 0.5).float()
        low = (self.mask_side, self.mask_side)
        logits = F.interpolate(2 * MASK_LOGIT * full - MASK_LOGIT, low, mode="bilinear", antialias=True)
        dense = self.model.mask_downsample(full.to(self.dtype)).float()
        dense = F.interpolate(dense, low, mode="bilinear", antialias=True)
        decoded = self.decode(maps, maps.coarse, False, before=dense)
        pointer = decoded.pointers[0, 0] if bool(full.any()) else self.no_object_pointer
        return logits[0, 0], pointer, decoded

    @property
    def no_object_pointer(self) -> Tensor:
        """(C,) pointer of an object that is not visible."""
        return self.model.no_object_pointer[0].detach()

    def memorise(self, maps: Maps, masks: Tensor, hard: Tensor, scores: Tensor) -> Tensor:
        """Memory encoder: (N, L, 64) in :attr:`memory_dtype`.

        Args:
            maps: of the frame.
            masks: (N, S / 4, S / 4) float32 logits.
            hard: (N,) bool, masks that are made binary: those of prompts.
            scores: (N,) object logits.
        """
        side = 4 * self.mask_side
        full = F.interpolate(masks[:, None], (side, side), mode="bilinear")
        full = torch.where(hard[:, None, None, None], (full > 0).float(), full.sigmoid())
        config = self.model.config
        full = (full * config.sigmoid_scale_for_mem_enc + config.sigmoid_bias_for_mem_enc).to(self.dtype)
        memory, _ = self.model.memory_encoder(maps.coarse.expand(len(masks), -1, -1, -1), full)
        absent = self.model.occlusion_spatial_embedding_parameter
        if absent is not None:
            memory = memory + (scores <= 0).to(memory.dtype)[:, None, None, None] * absent[..., None, None]
        return self._tokens(memory).to(self.memory_dtype)

    def _tokens(self, memory: Tensor) -> Tensor:
        """(N, 64, h, w) memories as (N, L, 64) tokens."""
        return memory.flatten(2).transpose(1, 2)

    def _memory_positions(self) -> Tensor:
        """(L, 64) sine positions of the tokens of a memory."""
        shape = (1, 1, self.grid, self.grid)
        found = self.model.memory_encoder.position_encoding(shape, self.device, torch.float32)
        return found.flatten(2).transpose(1, 2)[0]


class EdgeTamNetwork(Sam2Network):
    """EdgeTAM: memories are resampled to 256 tokens without and 256 with rotary positions, ``EdgeTamVideoModel``."""

    def _tokens(self, memory: Tensor) -> Tensor:
        # The resampler takes one memory at a time.
        return torch.cat([self.model.spatial_perceiver(row[None], self._memory_sines)[0] for row in memory])

    def _memory_positions(self) -> Tensor:
        shape = (1, self.model.config.memory_encoder_output_channels, self.grid, self.grid)
        sines = self.model.memory_encoder.position_encoding(shape, self.device, torch.float32)
        self._memory_sines = sines.to(self.dtype)
        return self.model.spatial_perceiver(torch.zeros_like(sines), sines)[1][0]

    def _rotate_memories(self, keys: Tensor, rotation: tuple[Tensor, Tensor], spatial: int) -> Tensor:
        net, length = self.model.memory_attention, len(self.memory_positions)
        cos, sin = _rotation(net.rotary_emb(keys, net.position_ids_k))
        grouped = keys[:, :spatial].reshape(len(keys), spatial // length, length, -1)
        plain, placed = grouped[:, :, : length - len(cos)], grouped[:, :, length - len(cos) :]
        rotated = torch.cat([plain, _rotate(placed, cos, sin)], 2).reshape(len(keys), spatial, -1)
        return torch.cat([rotated, keys[:, spatial:]], 1)

    @staticmethod
    def _feed_forward(layer: Any, x: Tensor) -> Tensor:
        return layer.mlp(x)


def weights_key(name: str, side: int, state: Mapping[str, Tensor], dtype: torch.dtype) -> str:
    """Names a model, its weights, the side of its input and its dtype: ``sam2.1-hiera-tiny@3f2c9a01b7de/float32``."""
    digest = hashlib.sha256(json.dumps(side).encode())
    for key, tensor in sorted(state.items()):
        digest.update(key.encode())
        digest.update(tensor.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().data)
    return f"{name}@{digest.hexdigest()[:12]}/{str(dtype).removeprefix('torch.')}"


def _cast(model: Any, dtype: torch.dtype) -> None:
    """Casts a network, but for what positions are computed with."""
    exact = [
        (module, name, buffer.clone())
        for module in model.modules()
        for name, buffer in module.named_buffers(recurse=False)
        if name in ("inv_freq", "original_inv_freq", "positional_embedding")
    ]
    model.to(dtype)
    for module, name, buffer in exact:
        setattr(module, name, buffer)


def _padded(parts: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor | None, int]:
    """Pairs of (M, 64) and (Q, 64) tokens in one array (N, max M + max Q, 64).

    Returns:
        The array; a (N, 1, 1, M + Q) bool mask, False for padding, None where there is none; and the largest M.
    """
    longest = [max(len(part[i]) for part in parts) for i in (0, 1)]

    def padded(tokens: Tensor, length: int) -> Tensor:
        return tokens if len(tokens) == length else F.pad(tokens, (0, 0, 0, length - len(tokens)))

    values = torch.stack([torch.cat([padded(t, n) for t, n in zip(part, longest, strict=True)]) for part in parts])
    mask = None
    if any(len(t) != n for part in parts for t, n in zip(part, longest, strict=True)):
        rows = [
            torch.cat([torch.arange(n, device=t.device) < len(t) for t, n in zip(part, longest, strict=True)])
            for part in parts
        ]
        mask = torch.stack(rows)[:, None, None]
    return values, mask, longest[0]


def _attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """One head: (N, L, D) queries on (N, M, D) keys."""
    return F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None], attn_mask=mask)[:, 0]


def _rotation(found: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Cosines and sines (L, D) float32 of rotary positions."""
    cos, sin = (a[0] if a.ndim == 3 else a for a in found)
    return cos.float(), sin.float()


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions on (..., L, D), whose pairs are neighbours; in float32."""
    turned = torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2)
    return (x.float() * cos + turned.float() * sin).to(x.dtype)


def _sines(x: Tensor, width: int) -> Tensor:
    """Sines and cosines (P, width) of (P,) positions."""
    index = torch.arange(width // 2, dtype=torch.float32, device=x.device)
    angles = x[:, None] / 10_000 ** (2 * (index // 2) / (width // 2))
    return torch.cat([angles.sin(), angles.cos()], 1)
