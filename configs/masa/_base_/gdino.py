"""MASA on Grounding DINO's Swin-B as in the authors' benchmarks: padded to multiples of 1024."""

_base_ = ["../../mmdet/_base_/masa_gdino.py"]

model = dict(data_preprocessor=dict(pad_size_divisor=1024))
