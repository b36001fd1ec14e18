"""Association: from embedded boxes to identities. Needs numpy only.

A frame passes through here top to bottom: :mod:`boxes` (which detections hide others), :mod:`similarity`,
:mod:`matching`, :mod:`memory`; :mod:`associator` is the door and :mod:`presets` what it can be told.
"""

from masa_track.association.associator import Associator
from masa_track.association.presets import PRESETS, REFERENCE_PRESETS, AssociationOptions, options_of

__all__ = ["PRESETS", "REFERENCE_PRESETS", "AssociationOptions", "Associator", "options_of"]
