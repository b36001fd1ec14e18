"""Association: from embedded boxes to identities. Needs numpy and scipy only.

Two engines give the detections of a frame their identities. :class:`Associator` goes by embeddings, as the authors'
trackers do: :mod:`boxes` (which detections hide others), :mod:`similarity`, :mod:`matching`, :mod:`memory`.
:class:`FusedAssociator`, the preset ``default``, joins motion and appearance: :mod:`kalman`, :mod:`gallery`,
:mod:`evidence`, :mod:`fused_memory`. :mod:`presets` and :mod:`fused_options` say what they can be told.
"""

from typing import Any

from masa_track.association.associator import Associator
from masa_track.association.evidence import AppearancePrior
from masa_track.association.fused import FusedAssociator
from masa_track.association.fused_options import FusedOptions
from masa_track.association.gallery_file import TrackGallery, match_galleries
from masa_track.association.presets import PRESETS, REFERENCE_PRESETS, AssociationOptions, any_options_of, options_of

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
    "match_galleries",
    "open_associator",
    "options_of",
]


def open_associator(preset: str, **overrides: Any) -> Associator | FusedAssociator:
    """The engine of a preset; both have ``update``, ``reset`` and ``options``."""
    if isinstance(any_options_of(preset, **overrides), FusedOptions):
        return FusedAssociator(preset, **overrides)
    return Associator(preset, **overrides)
