"""The engine of the preset ``default``: for each pair of detection and track, log-odds that are added up.

:mod:`fused` is the engine, :mod:`options` its options, :mod:`state` all that it remembers, with the tracks in
:mod:`memory`. :mod:`pairs` adds up the terms: of position and size (:mod:`motion`, :mod:`kalman`), of cosine similarity
(:mod:`appearance`), and of how likely a track is detected at all (:mod:`detection_probability`). :mod:`cuts` decides
whether a frame shows another view. :mod:`decisions` records why each detection has its identity.
"""
