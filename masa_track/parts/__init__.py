"""Things, their parts, and stuff: named by text, merged into one map, parts assigned to things. numpy only so far.

Source: Wang et al., Hierarchical Open-vocabulary Universal Image Segmentation (HIPIE), NeurIPS 2023.
"""
