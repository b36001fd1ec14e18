"""The network of a MASA configuration: one of this library by its name, or the parts as published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from torch import nn

from masa_track.association import AppearancePrior
from masa_track.encoders.loading import load
from masa_track.errors import InputError
from masa_track.integrations.mmdet.parts import assemble, build_part
from masa_track.registry import build_model, spec_of


def make_network(
    network: str | None = None,
    checkpoint: str | None = None,
    backbone: nn.Module | Mapping[str, Any] | None = None,
    masa_adapter: Sequence[Mapping[str, Any]] | None = None,
    rpn_head: Mapping[str, Any] | None = None,
    roi_head: Mapping[str, Any] | None = None,
    track_head: Mapping[str, Any] | None = None,
    test_cfg: Mapping[str, Any] | None = None,
) -> tuple[Any, AppearancePrior | None]:
    """Builds it; see :class:`~masa_track.integrations.mmdet.masa.MASA`.

    Args:
        backbone: a configuration, or a module that is shared.

    Returns:
        The network, and the prior of its weights; None where that is not known.

    Raises:
        InputError: there is neither a name nor all of the parts, or there are both.
    """
    parts = {"masa_adapter": masa_adapter, "track_head": track_head}
    if network is not None:
        both = [name for name, part in {**parts, "backbone": backbone}.items() if part is not None]
        if both:
            raise InputError(f"network={network!r} is a whole network: leave {', '.join(both)} out")
        if checkpoint is None and not spec_of(network).is_shipped:
            return build_model(network), None
        model = cast(Any, load(network, "cpu", checkpoint, backend="torch"))
        return model.network.requires_grad_(True), model.prior
    missing = [name for name, part in {"backbone": backbone, **parts}.items() if part is None]
    if missing:
        raise InputError(f"MASA needs {', '.join(missing)}, or network='r50' or another name instead")
    if checkpoint is not None:
        raise InputError("checkpoint goes with network=NAME; a checkpoint of the parts is loaded by the runner")
    assert masa_adapter is not None
    assert track_head is not None
    body = backbone if isinstance(backbone, nn.Module) else build_part(backbone or {})
    return assemble(body, masa_adapter, track_head, rpn_head, roi_head, test_cfg), None
