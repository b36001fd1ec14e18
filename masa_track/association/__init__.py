"""Association: from embedded boxes to identities. Needs numpy and scipy only.

Two engines give the detections of a frame their identities. :class:`Associator` (:mod:`reference`) uses embeddings
only, as the authors' trackers do: :mod:`similarity`, :mod:`matching`, :mod:`memory`. :class:`FusedAssociator`
(:mod:`evidence`), the preset ``default``, adds up log-odds of motion and appearance. Both use :mod:`gallery`.
:mod:`presets` holds the named sets of options. :mod:`offline` improves tracks when the whole video has been tracked.
"""

from typing import Any

from masa_track.association.evidence.appearance import AppearancePrior
from masa_track.association.evidence.fused import FusedAssociator
from masa_track.association.evidence.options import FusedOptions
from masa_track.association.gallery_file import TrackGallery, match_galleries
from masa_track.association.offline import finish
from masa_track.association.presets import (
    PRESETS,
    REFERENCE_PRESETS,
    AssociationOptions,
    any_options_of,
    current_names,
    options_of,
)
from masa_track.association.reference import Associator

__all__ = [
    "PRESETS",
    "REFERENCE_PRESETS",
    "AppearancePrior",
    "AssociationOptions",
    "Associator",
    "FusedAssociator",
    "FusedOptions",
    "TrackGallery",
    "any_options_of",
    "current_names",
    "finish",
    "match_galleries",
    "open_associator",
    "options_of",
]


def open_associator(
    preset: str, prior: AppearancePrior | None = None, **overrides: Any
) -> Associator | FusedAssociator:
    """The engine of a preset; both are a :class:`masa_track.contracts.Associator` and have ``options``.

    Args:
        preset: a name in :data:`PRESETS`.
        prior: the cosines to expect, for the engine of ``default``; the other one does not calibrate cosines.
        **overrides: options of the preset.

    Raises:
        InputError: for an unknown preset or option, or a value that cannot be.
    """
    overrides = current_names(overrides)
    if isinstance(any_options_of(preset, **overrides), FusedOptions):
        return FusedAssociator(preset, prior, **overrides)
    return Associator(preset, **overrides)
