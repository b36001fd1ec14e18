"""The keys of the authors' checkpoints and ours."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

# Prefixes, official and ours; the first that fits counts.
_PREFIXES = (
    ("transformer.encoder.", "encoder."),
    ("transformer.decoder.", "decoder."),
    ("transformer.text_encoder.", "text."),
    ("transformer.txt_proj.", "text_projection."),
    ("is_referred_head.", "referred."),
    ("instance_kernels_head.", "kernels."),
    ("obj_queries.", "queries."),
    ("vid_embed_proj.", "video_projection."),
    ("spatial_decoder.", "pixels."),
    ("backbone.", "video."),
)
# Integer tables, which the networks make anew.
_TABLES = ("embeddings.position_ids", "embeddings.token_type_ids", "attn.relative_position_index")


def our_key(key: str) -> str | None:
    """Our name of an official key; None for a table of integers and for keys that are not of MTTR."""
    if key.endswith(_TABLES):
        return None
    if key.startswith("backbone."):
        key = re.sub(r"^backbone\.layers\.(\d+)\.blocks\.", lambda m: f"backbone.features.{2 * int(m[1])}.", key)
        key = re.sub(r"^backbone\.downsamples\.(\d+)\.", lambda m: f"backbone.features.{2 * int(m[1]) + 1}.", key)
        key = key.replace(".mlp.fc1.", ".mlp.0.").replace(".mlp.fc2.", ".mlp.3.")
    for official, ours in _PREFIXES:
        if key.startswith(official):
            return ours + key.removeprefix(official)
    return None


def our_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An official state dict under our keys, without its tables of integers."""
    return {name: value for key, value in state.items() if (name := our_key(key)) is not None}
