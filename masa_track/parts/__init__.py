"""Things, their parts, and stuff: named by text, found by networks, merged into one map, with identities over time.

Only ``models.py`` imports torch. Source: Wang et al., Hierarchical Open-vocabulary Universal Image Segmentation,
HIPIE, NeurIPS 2023.
"""
