"""Encoders: from a frame and boxes to embeddings.

:mod:`preprocessing` needs numpy only; :mod:`embedder` (a network at work) and :mod:`loading` (a model by name
or file) need torch and are imported when they are first used.
"""
