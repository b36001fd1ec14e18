"""The engine of the preset ``default``: for each pair of detection and track, log-odds that are added up.

:mod:`fused` is the engine, :mod:`options` its options, :mod:`state` all that it remembers, with the tracks in
:mod:`memory`. :mod:`pairs` adds up the terms: of position and size (:mod:`motion`, :mod:`kalman`), of cosine similarity
(:mod:`appearance`), and of how likely a track is detected at all (:mod:`detection_probability`). :mod:`cuts` decides
whether a frame shows another view. :mod:`decisions` records why each detection has its identity.

Comments such as ``off -.002/-.013 (belt -.830), half ...`` beside constants are evidence: mean differences of IDF1 if
the constant is off, halved or doubled, by motion alone / with appearance (one number: with appearance), then on scenes.
They are printed by ``tools/bench_ablate.py``; docs/benchmarks/ablation.md says how to read them.
"""
