"""Training from still images: regions of photographs, and pairs of views of them with known correspondence.

An item's way, top to bottom: :mod:`regions` (what a file says; its formats are in :mod:`region_files`),
:mod:`dataset` (the door: :class:`~masa_track.training.dataset.TwoViews`), :mod:`views` (one item), :mod:`geometry`,
:mod:`mixing` and :mod:`photometry` (what is done to a view), :mod:`settings` (how strongly). The runner of
``tools/train.py`` needs mmengine: ``pip install ".[train]"`` in a checkout.
"""
