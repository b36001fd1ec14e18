"""Propagators by name, as `--masklets` takes them."""

from __future__ import annotations

from pathlib import Path

from masa_track.contracts import MaskPropagator
from masa_track.errors import unknown_name
from masa_track.masklets.models import MODELS, find_model
from masa_track.registry import check_installed

FLOW = "flow"
NAMES = (FLOW, *MODELS)


def check_propagator(name: str) -> None:
    """Finds a mistake in the name, or a missing library, before anything is loaded.

    Raises:
        InputError: there is no such propagator, or an extra is not installed.
    """
    if name == FLOW:
        return
    if find_model(name) is None and not Path(name).exists():
        raise unknown_name("propagator in --masklets", name, NAMES)
    check_installed("masklets", purpose=f"for --masklets {name}")


def open_propagator(
    name: str, device: str | None = None, overlap: bool = False, refine: bool = False
) -> MaskPropagator:
    """The propagator of that name.

    Args:
        name: ``flow``: optical flow, colours and motion; no weights are needed. Or a model of SAM 2 or EdgeTAM, or
            its file or folder, see :func:`~masa_track.masklets.weights.load_network`.
        device: for a network.
        overlap: masks of a network may overlap; those of ``flow`` never do.
        refine: borders of shown masks are moved to edges of the picture.

    Raises:
        InputError: there is no such propagator, or its weights cannot be had or read.
    """
    check_propagator(name)
    if refine:
        from masa_track.masklets.refined import RefinedMasks

        return RefinedMasks(open_propagator(name, device, overlap))
    if name == FLOW:
        from masa_track.masklets.flow import FlowPropagator

        return FlowPropagator()
    from masa_track.masklets.session import MaskletSession, SessionOptions
    from masa_track.masklets.weights import load_network

    # A masklet that is prompted anew by its track's detection shall remember that frame like its first.
    options = SessionOptions(corrections_are_prompts=True, overlap=overlap)
    return MaskletSession(load_network(name, device=device), options)
