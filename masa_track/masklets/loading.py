"""Propagators by name, as `--masklets` takes them."""

from __future__ import annotations

from masa_track.contracts import MaskPropagator
from masa_track.errors import unknown_name

NAMES = ("flow",)


def check_propagator(name: str) -> None:
    """Finds a mistake in the name before anything is loaded.

    Raises:
        InputError: there is no such propagator.
    """
    if name not in NAMES:
        raise unknown_name("propagator in --masklets", name, NAMES)


def open_propagator(name: str, device: str | None = None) -> MaskPropagator:
    """The propagator of that name.

    Args:
        name: ``flow``: optical flow, colours and motion; no weights are needed.
        device: for a network.

    Raises:
        InputError: there is no such propagator.
    """
    check_propagator(name)
    from masa_track.masklets.flow import FlowPropagator

    return FlowPropagator()
