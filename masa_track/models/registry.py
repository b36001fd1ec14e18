"""The networks by name, and where the weights are that the package ships."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from masa_track.errors import InputError, unknown_name
from masa_track.models import nano
from masa_track.models.nano_untrained import UntrainedNano
from masa_track.models.official import OFFICIAL, build_official

BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "nano": nano.Nano,
    "nano-untrained": UntrainedNano,
    **{name: partial(build_official, name) for name in OFFICIAL},
}


def build_model(name: str, **options: Any) -> nn.Module:
    """The network of that name with random weights.

    Args:
        name: a key of :data:`BUILDERS`.
        **options: of its builder, e.g. ``fusion=False`` for ``nano``.

    Raises:
        InputError: for an unknown name, or options that it does not take.
    """
    if name not in BUILDERS:
        raise unknown_name("model", name, BUILDERS)
    try:
        return BUILDERS[name](**options)
    except TypeError as error:
        raise InputError(f"model {name!r} cannot be built with {sorted(options)}: {error}") from error
