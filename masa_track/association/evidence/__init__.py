"""The engine of the preset ``default``: for each pair of detection and track, log-odds that are added up.

Terms: :mod:`motion` (position and size, from :mod:`kalman`), :mod:`appearance` (cosine similarity of
embeddings), :mod:`detection_probability` (how likely a track is detected at all). :mod:`cuts` detects camera
cuts, :mod:`memory` keeps the tracks, :mod:`options` are the engine's options, :mod:`fused` is the engine.
"""
