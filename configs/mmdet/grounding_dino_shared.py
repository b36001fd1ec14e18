"""Grounding DINO (Swin-B) and MASA on its backbone, which runs once a frame; gdino_masa.pth has all of the weights."""

_base_ = ["_base_/masa_gdino.py", "_base_/mot.py"]

model = dict(text="a person")
